//! The generator: two layers with batch normalization (Ioffe, Szegedy, ICML 2015) and ReLU, whose outputs are
//! concatenated with their inputs; then tanh for numbers within modes and the Gumbel softmax (Jang, Gu, Poole, ICLR
//! 2017) for classes.
//!
//! A condition is one-hot: it adds a row of weights to each layer. A number is multiplied by the total share of its
//! head's modes, since a number in a spike is 0 in real rows.

use ndarray::{Array2, ArrayViewMut2, s};

use super::layer::{Layer, Weights};
use super::slot::{Sizes, Slot};
use crate::methods::modes::{Class, Encoding};
use kernels::dot::axpy;
use kernels::matrix::{flat, flat_mut, rows as rows_of, rows_mut};
use neural::adam::Step;
use neural::elementary::{exp_all, fill_gumbel, fill_normal, tanh};
use neural::products::{gradient, product, product_add, transpose};
use runtime::draw::{mix, uniform};
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::Progress;
use runtime::team::Team;

/// Temperature of the Gumbel softmax.
const TEMPERATURE: f32 = 0.2;
const EPSILON: f32 = 1e-5;
/// Decay of the running means in a step.
const MOMENTUM: f32 = 0.9;
/// Rows of weights whose gradient a thread computes at a time.
const ROWS: usize = 32;

pub struct Generator {
    pub sizes: Sizes,
    pub layers: [Layer; 3],
    pub parameters: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    pub gradient: Vec<f32>,
    /// Transposed weights of the last two layers, for those inputs that are layers.
    transposed: [Array2<f32>; 2],
    /// 1 / deviation in the batch, running means and variances of each normalization.
    inverse: [Vec<f32>; 2],
    pub running: [(Vec<f32>, Vec<f32>); 2],
    /// Whether a column is a mode.
    modes: Vec<bool>,
    decay: f32,
}

impl Generator {
    pub fn new(sizes: Sizes, encoding: &Encoding, decay: f32, seed: u64) -> Result<Self> {
        let (h, c) = (sizes.hidden, sizes.conditions);
        let mut size = 0;
        let mut layer = |inputs: usize, outputs: usize, first: usize, more: usize| {
            let layer = Layer { inputs, outputs, at: size, first };
            size += (inputs + c + more) * outputs;
            layer
        };
        let layers = [
            layer(sizes.noise, h, 2 * h, 2),
            layer(h + sizes.noise, h, h, 2),
            layer(2 * h + sizes.noise, sizes.outputs, 0, 1),
        ];
        let mut parameters = memory::filled(0f32, size)?;
        for (number, layer) in layers.iter().enumerate() {
            let bound = 1.0 / ((layer.inputs + 1) as f32).sqrt();
            let seed = mix(seed ^ mix(number as u64));
            let n = (layer.inputs + c) * layer.outputs;
            parameters[layer.at..][..n].iter_mut().enumerate().for_each(|(i, x)| *x = bound * uniform(seed, i as u64));
            if number < 2 {
                // Added 0, multiplied with 1.
                parameters[layer.at + n + h..][..h].fill(1.0);
            }
        }
        let floats = |n: usize| memory::filled(0f32, n);
        let running = || Ok::<_, runtime::error::Error>((floats(h)?, memory::filled(1f32, h)?));
        let classes = encoding.heads.iter().flat_map(|head| &head.classes);
        Ok(Self {
            sizes,
            layers,
            first: floats(size)?,
            second: floats(size)?,
            gradient: floats(size)?,
            transposed: [memory::matrix(h, h, 0f32)?, memory::matrix(sizes.outputs, 2 * h, 0f32)?],
            inverse: [floats(h)?, floats(h)?],
            running: [running()?, running()?],
            modes: classes.map(|class| matches!(class, Class::Mode { .. })).collect(),
            parameters,
            decay,
        })
    }

    pub fn weights(&self, layer: usize) -> Result<Weights<'_>> {
        self.layers[layer].weights(&self.parameters, self.sizes.conditions, layer < 2)
    }

    /// Outputs [n, outputs] of the last layer for rows with these conditions, as the graph computes them.
    pub fn outputs(&self, conditions: &[usize], seed: u64, progress: &dyn Progress) -> Result<Array2<f32>> {
        let n = conditions.len();
        let mut state = memory::matrix(n, self.sizes.noise, 0f32)?;
        fill_normal(seed, flat_mut(state.view_mut()));
        for (number, &Layer { inputs, outputs, .. }) in self.layers.iter().enumerate() {
            progress.check()?;
            let Weights { inputs: weight, conditions: of_conditions, added, times } = self.weights(number)?;
            let mut out = memory::matrix(n, outputs, 0f32)?;
            product(state.view(), weight, out.view_mut());
            if self.sizes.conditions > 0 {
                let of_conditions = flat(of_conditions);
                for (row, &condition) in rows_mut(out.view_mut()).zip(conditions) {
                    axpy(1.0, &of_conditions[condition * outputs..][..outputs], row);
                }
            }
            let Some((means, variances)) = self.running.get(number) else {
                rows_mut(out.view_mut()).for_each(|row| axpy(1.0, added, row));
                return Ok(out);
            };
            let mut wider = Vec::new();
            memory::reserve(&mut wider, n * (outputs + inputs))?;
            for (row, before) in rows_of(out.view()).zip(rows_of(state.view())) {
                let normal = row.iter().zip(means).zip(variances).map(|((x, m), v)| (x - m) / (v + EPSILON).sqrt());
                wider.extend(normal.zip(times).zip(added).map(|((x, t), a)| (x * t + a).max(0.0)));
                wider.extend_from_slice(before);
            }
            state = memory::shaped(n, outputs + inputs, wider)?;
        }
        Err(Error::Internal("a generator has no last layer".into()))
    }

    /// Adds corrections to the last layer's bias.
    pub fn shift(&mut self, shifts: &[f32]) {
        let Layer { inputs, outputs, at, .. } = self.layers[2];
        let bias = at + (inputs + self.sizes.conditions) * outputs;
        axpy(1.0, shifts, &mut self.parameters[bias..][..shifts.len()]);
    }

    /// The linear output of a layer for the rows of a slot.
    fn multiply(&self, layer: usize, slot: &Slot, mut out: ArrayViewMut2<f32>) -> Result<()> {
        let Layer { inputs, outputs, first, .. } = self.layers[layer];
        let weights = self.weights(layer)?;
        if layer < 2 {
            out.fill(0.0);
        } else {
            rows_mut(out.view_mut()).for_each(|row| row.copy_from_slice(weights.added));
        }
        product_add(slot.state.slice(s![.., first..first + inputs]), weights.inputs, out.view_mut());
        let conditions = flat(weights.conditions);
        for (row, condition) in rows_mut(out).zip(&slot.conditions) {
            if let Some(condition) = condition {
                axpy(1.0, &conditions[condition.number as usize * outputs..][..outputs], row);
            }
        }
        Ok(())
    }

    /// Computes the means and deviations of the batch from the slots' sums. Returns the means.
    fn normalise(&mut self, layer: usize, slots: &[Slot]) -> Vec<f32> {
        let h = self.sizes.hidden;
        let n = self.sizes.batch() as f64;
        let (running, inverse) = (&mut self.running[layer], &mut self.inverse[layer]);
        (0..h)
            .map(|j| {
                let sum = |which: usize| slots.iter().map(|slot| f64::from(slot.sums[which][j])).sum::<f64>() / n;
                let mean = sum(0);
                let variance = (sum(1) - mean * mean).max(0.0);
                inverse[j] = 1.0 / (variance as f32 + EPSILON).sqrt();
                running.0[j] += (1.0 - MOMENTUM) * (mean as f32 - running.0[j]);
                running.1[j] += (1.0 - MOMENTUM) * ((variance * n / (n - 1.0)) as f32 - running.1[j]);
                mean as f32
            })
            .collect()
    }

    /// Generates the rows of all slots for their conditions.
    pub fn make(&mut self, team: &Team, slots: &mut [Slot], encoding: &Encoding, seed: u64) -> Result<()> {
        let Sizes { packs: p, hidden: h, noise, .. } = self.sizes;
        for layer in 0..3 {
            let means = if layer > 0 { self.normalise(layer - 1, slots) } else { Vec::new() };
            let this = &*self;
            team.fill(slots, 1, |number, slot| {
                let slot = &mut slot[0];
                if layer == 0 {
                    let mut numbers = memory::filled(0f32, p * noise)?;
                    fill_normal(mix(seed ^ number as u64), &mut numbers);
                    for (to, from) in rows_mut(slot.state.view_mut()).zip(numbers.chunks_exact(noise)) {
                        to[2 * h..].copy_from_slice(from);
                    }
                } else {
                    let Weights { added, times, .. } = this.weights(layer - 1)?;
                    let inverse = &this.inverse[layer - 1];
                    let at = (2 - layer) * h;
                    let rows = rows_mut(slot.normal[layer - 1].view_mut()).zip(rows_mut(slot.state.view_mut()));
                    for (x, out) in rows {
                        for (j, (x, y)) in x.iter_mut().zip(&mut out[at..at + h]).enumerate() {
                            *x = (*x - means[j]) * inverse[j];
                            let z = *x * times[j] + added[j];
                            *y = if z > 0.0 { z } else { 0.0 };
                        }
                    }
                }
                if layer < 2 {
                    let mut out = std::mem::take(&mut slot.normal[layer]);
                    this.multiply(layer, slot, out.view_mut())?;
                    slot.sums.iter_mut().for_each(|sum| sum.fill(0.0));
                    let [first, second] = &mut slot.sums;
                    for row in rows_of(out.view()) {
                        for ((&x, a), b) in row.iter().zip(&mut *first).zip(&mut *second) {
                            *a += x;
                            *b += x * x;
                        }
                    }
                    slot.normal[layer] = out;
                } else {
                    let mut out = std::mem::take(&mut slot.logits);
                    this.multiply(layer, slot, out.view_mut())?;
                    slot.logits = out;
                    this.activate(slot, encoding, mix(!seed ^ number as u64));
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn activate(&self, slot: &mut Slot, encoding: &Encoding, seed: u64) {
        let columns = self.sizes.columns;
        fill_gumbel(seed, flat_mut(slot.made.view_mut()));
        for (made, logits) in rows_mut(slot.made.view_mut()).zip(rows_of(slot.logits.view())) {
            made.iter_mut().zip(logits).for_each(|(y, x)| *y = (*y + x) / TEMPERATURE);
            for head in &encoding.heads {
                let y = &mut made[head.first..][..head.classes.len()];
                let most = y.iter().copied().fold(f32::NEG_INFINITY, |a, b| if a > b { a } else { b });
                y.iter_mut().for_each(|y| *y -= most);
            }
            exp_all(&mut made[..columns]);
            for head in &encoding.heads {
                let (y, modes) = (&mut made[head.first..][..head.classes.len()], &self.modes[head.first..]);
                let inverse = 1.0 / y.iter().sum::<f32>();
                y.iter_mut().for_each(|y| *y *= inverse);
                if let Some(number) = head.number {
                    let share: f32 = y.iter().zip(modes).filter(|(_, mode)| **mode).map(|(y, _)| y).sum();
                    made[columns + number] = share * tanh(logits[columns + number]);
                }
            }
        }
        for (c, out) in rows_mut(slot.made_t.view_mut()).enumerate() {
            out.iter_mut().zip(rows_of(slot.made.view())).for_each(|(x, row)| *x = row[c]);
        }
    }

    /// Turns the gradient at the generated rows (`slope_t`) into that of the last layer's outputs, in place, and adds
    /// the loss of missed conditions.
    fn activate_back(&self, slot: &mut Slot, encoding: &Encoding) {
        let Sizes { columns, numbers, outputs: o, packs: p, .. } = self.sizes;
        let share = 1.0 / self.sizes.batch() as f32;
        slot.loss = 0.0;
        let mut back = vec![0f32; o];
        let rows = rows_of(slot.made.view()).zip(rows_mut(slot.logits.view_mut()));
        for (pack, (made, logits)) in rows.enumerate() {
            let slopes = flat(slot.slope_t.view()).iter().skip(pack).step_by(p);
            back.iter_mut().zip(slopes).for_each(|(b, &g)| *b = g);
            let condition = slot.conditions[pack];
            for head in &encoding.heads {
                let range = head.first..head.first + head.classes.len();
                let (y, g) = (&made[range.clone()], &mut back[..]);
                if let Some(number) = head.number {
                    let at = columns + number;
                    let t = tanh(logits[at]);
                    let mut held = 0.0;
                    for c in range.clone().filter(|&c| self.modes[c]) {
                        held += made[c];
                        g[c] += g[at] * t;
                    }
                    logits[at] = g[at] * held * (1.0 - t * t);
                }
                let g = &g[range.clone()];
                let mean: f32 = y.iter().zip(g).map(|(y, g)| y * g).sum();
                let out = &mut logits[range.clone()];
                match condition.filter(|condition| condition.first as usize == head.first) {
                    Some(condition) => {
                        let chosen = condition.column as usize - head.first;
                        let mut shares = out.to_vec();
                        let x = shares[chosen];
                        slot.loss += f64::from(neural::elementary::fast_softmax(&mut shares) - x);
                        shares[chosen] -= 1.0;
                        for (((out, y), g), s) in out.iter_mut().zip(y).zip(g).zip(&shares) {
                            *out = y * (g - mean) / TEMPERATURE + share * s;
                        }
                    }
                    None => out.iter_mut().zip(y).zip(g).for_each(|((x, y), g)| *x = y * (g - mean) / TEMPERATURE),
                }
            }
            logits[columns + numbers..].fill(0.0);
        }
    }

    /// A training step with the gradients in the slots, or its gradient only. Returns the loss of missed conditions.
    pub fn train(&mut self, team: &Team, slots: &mut [Slot], encoding: &Encoding, step: Option<Step>) -> Result<f64> {
        let h = self.sizes.hidden;
        let n = self.sizes.batch() as f32;
        let [mut second, mut third] = std::mem::take(&mut self.transposed);
        transpose(self.weights(1)?.inputs.slice(s![..h, ..]), second.view_mut());
        transpose(self.weights(2)?.inputs.slice(s![..2 * h, ..]), third.view_mut());
        self.transposed = [second, third];
        let this = &*self;
        // Layer 2 is the second one's normalisation, 1 the first one's; 0 has what is left of that.
        for layer in [2usize, 1, 0] {
            let sums: Vec<[f32; 2]> = (0..h)
                .map(|j| [0, 1].map(|which| slots.iter().map(|slot| slot.sums[which][j]).sum::<f32>() / n))
                .collect();
            team.fill(slots, 1, |_, slot| {
                let slot = &mut slot[0];
                if layer == 2 {
                    this.activate_back(slot, encoding);
                    product(slot.logits.view(), this.transposed[1].view(), slot.back.view_mut());
                } else {
                    // Through the normalisation above: (γ / σ) (g − mean g − x mean(g x)).
                    let times = this.weights(layer)?.times;
                    let inverse = &this.inverse[layer];
                    let rows = rows_mut(slot.back_normal[layer].view_mut()).zip(rows_of(slot.normal[layer].view()));
                    for (g, x) in rows {
                        for (j, (g, x)) in g.iter_mut().zip(x).enumerate() {
                            *g = times[j] * inverse[j] * (*g - sums[j][0] - x * sums[j][1]);
                        }
                    }
                    if layer == 0 {
                        return Ok(());
                    }
                    let mut more = memory::matrix(slot.back_normal[1].nrows(), h, 0f32)?;
                    product(slot.back_normal[1].view(), this.transposed[0].view(), more.view_mut());
                    for (to, from) in rows_mut(slot.back.view_mut()).zip(rows_of(more.view())) {
                        axpy(1.0, from, &mut to[h..]);
                    }
                }
                // The gradient of layer − 1's output, and its sums.
                let at = (2 - layer) * h;
                slot.sums.iter_mut().for_each(|sum| sum.fill(0.0));
                let [first, second] = &mut slot.sums;
                let rows = rows_mut(slot.back_normal[layer - 1].view_mut()).zip(rows_of(slot.back.view()));
                let rows = rows.zip(rows_of(slot.state.view())).zip(rows_of(slot.normal[layer - 1].view()));
                for (((to, back), y), x) in rows {
                    for j in 0..h {
                        let g = if y[at + j] > 0.0 { back[at + j] } else { 0.0 };
                        to[j] = g;
                        first[j] += g;
                        second[j] += g * x[j];
                    }
                }
                Ok(())
            })?;
        }
        self.collect(team, slots)?;
        if let Some(step) = step {
            let (decay, parameters) = (self.decay, &mut self.parameters);
            self.gradient.iter_mut().zip(&*parameters).for_each(|(g, x)| *g += decay * x);
            step.update(parameters, &self.gradient, &mut self.first, &mut self.second);
        }
        Ok(slots.iter().map(|slot| slot.loss).sum::<f64>() / f64::from(n))
    }

    /// Sums the gradients of all weights over the slots.
    fn collect(&mut self, team: &Team, slots: &[Slot]) -> Result<()> {
        let sizes = self.sizes;
        let h = sizes.hidden;
        /// Some rows of a layer's input weights, or all of its other parameters.
        struct Job<'a> {
            layer: usize,
            first: Option<usize>,
            out: &'a mut [f32],
        }
        let mut jobs = Vec::new();
        let mut rest = &mut self.gradient[..];
        for (number, layer) in self.layers.iter().enumerate() {
            let (weight, more) = rest.split_at_mut(layer.inputs * layer.outputs);
            for (block, out) in weight.chunks_mut(ROWS * layer.outputs).enumerate() {
                jobs.push(Job { layer: number, first: Some(layer.first + block * ROWS), out });
            }
            let after = (sizes.conditions + if number < 2 { 2 } else { 1 }) * layer.outputs;
            let (out, more) = more.split_at_mut(after);
            jobs.push(Job { layer: number, first: None, out });
            rest = more;
        }
        team.fill(&mut jobs, 1, |_, job| {
            let Job { layer, first, out } = &mut job[0];
            out.fill(0.0);
            let n = self.layers[*layer].outputs;
            for slot in slots {
                let back = if *layer < 2 { slot.back_normal[*layer].view() } else { slot.logits.view() };
                let Some(first) = *first else {
                    let (conditions, rows) = out.split_at_mut(sizes.conditions * n);
                    for (condition, back) in slot.conditions.iter().zip(rows_of(back)) {
                        if let Some(condition) = condition {
                            axpy(1.0, back, &mut conditions[condition.number as usize * n..][..n]);
                        }
                    }
                    if *layer == 2 {
                        rows_of(back).for_each(|back| axpy(1.0, back, rows));
                        continue;
                    }
                    // Scale and shift: of what came back before the normalisation.
                    let (added, times) = rows.split_at_mut(h);
                    let at = (1 - *layer) * h;
                    let all = rows_of(slot.back.view()).zip(rows_of(slot.state.view()));
                    for ((back, y), x) in all.zip(rows_of(slot.normal[*layer].view())) {
                        for j in 0..h {
                            let g = if y[at + j] > 0.0 { back[at + j] } else { 0.0 };
                            added[j] += g;
                            times[j] += g * x[j];
                        }
                    }
                    continue;
                };
                let rows = out.len() / n;
                let of_rows = ArrayViewMut2::from_shape((rows, n), out)?;
                gradient(slot.state.slice(s![.., first..first + rows]), back, of_rows);
            }
            Ok(())
        })
    }
}
