//! The critic: two layers with leaky ReLU and dropout over packs of rows, trained on the Wasserstein distance with a
//! gradient penalty (Gulrajani et al., "Improved training of Wasserstein GANs", NeurIPS 2017).
//!
//! With the masks m₁, m₂ (the slopes of leaky ReLU times dropout) the critic is piecewise linear: its gradient at a row
//! is `g = W₁ v₁`, `v₁ = m₁ ⊙ W₂ v₂`, `v₂ = m₂ ⊙ w₃`. The penalty `λ (‖g‖ − 1)²` therefore has a gradient in closed
//! form: with `c = 2 λ (‖g‖ − 1) / ‖g‖`, that of W₁ is `c g v₁ᵀ`, and with `u = m₁ ⊙ c W₁ᵀ g`, that of W₂ is `u v₂ᵀ`
//! and that of w₃ is `m₂ ⊙ W₂ᵀ u`. No second pass is needed. The penalty covers the rows, not their conditions, which
//! real and generated rows share. A row interpolated between a real and a generated one is interpolated in the first
//! layer too, which is not multiplied again.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, s};
use rayon::prelude::*;

use super::slot::{Sizes, Slot};
use crate::methods::modes::Encoded;
use kernels::dot::axpy;
use kernels::matrix::{flat, flat_mut, rows as rows_of, rows_mut};
use neural::adam::Step;
use neural::elementary::fill_uniform;
use neural::products::{gradient, product, product_add, transpose};
use runtime::draw::{mix, uniform};
use runtime::error::Result;
use runtime::memory;
use runtime::team::Team;

/// Slope of leaky ReLU below 0.
const LEAK: f32 = 0.2;
const PENALTY: f32 = 10.0;

/// Packs that pass the later layers together.
const CHUNK: usize = 48;
/// Parameters that a thread updates at a time.
const BLOCK: usize = 8192;

/// The first weights for the rows at one position of their packs, with their moments.
pub struct Place {
    /// [columns + numbers + conditions, critic]
    pub weight: Array2<f32>,
    first: Array2<f32>,
    second: Array2<f32>,
}

pub struct Critic {
    sizes: Sizes,
    /// Dropout probability.
    dropout: f32,
    pub places: Vec<Place>,
    /// Bias [k], second weight [k, k], its bias [k], last weight [k], last bias.
    pub parameters: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    pub gradient: Vec<f32>,
    transposed: Array2<f32>,
    /// [3 packs, k] for real, generated and interpolated rows: activations and masks of both layers, and gradients.
    hidden: [Array2<f32>; 2],
    masks: [Array2<f32>; 2],
    back: [Array2<f32>; 2],
    /// [packs, k]
    spare: [Array2<f32>; 2],
    /// [k, packs of a part], part by part.
    turned: Vec<Array2<f32>>,
}

impl Critic {
    /// Weights are uniform up to 1 / √inputs, as in the paper's code; inputs of the first layer are the non-zeros of a
    /// row.
    pub fn new(sizes: Sizes, heads: usize, dropout: f32, seed: u64) -> Result<Self> {
        let k = sizes.critic;
        let n = k + k * k + k + k + 1;
        let floats = |n: usize| memory::filled(0f32, n);
        let rows = |n: usize| memory::matrix(n * sizes.packs * sizes.parts, k, 0f32);
        let place = |_| {
            let zeros = || memory::matrix(sizes.entrance(), k, 0f32);
            Ok(Place { weight: zeros()?, first: zeros()?, second: zeros()? })
        };
        let mut critic = Self {
            sizes,
            dropout,
            places: (0..sizes.pac).map(place).collect::<Result<_>>()?,
            parameters: floats(n)?,
            first: floats(n)?,
            second: floats(n)?,
            gradient: floats(n)?,
            transposed: memory::matrix(k, k, 0f32)?,
            hidden: [rows(3)?, rows(3)?],
            masks: [rows(3)?, rows(3)?],
            back: [rows(3)?, rows(3)?],
            spare: [rows(1)?, rows(1)?],
            turned: (0..sizes.parts).map(|_| memory::matrix(k, sizes.packs, 0f32)).collect::<Result<_>>()?,
        };
        let bound = 1.0 / (k as f32).sqrt();
        critic.parameters.iter_mut().enumerate().for_each(|(i, x)| *x = bound * uniform(seed, i as u64));
        let bound = 1.0 / ((heads * sizes.pac) as f32).sqrt();
        for (number, place) in critic.places.iter_mut().enumerate() {
            let seed = mix(seed ^ mix(number as u64));
            place.weight.iter_mut().enumerate().for_each(|(i, x)| *x = bound * uniform(seed, i as u64));
        }
        Ok(critic)
    }

    /// Computes the contributions of generated rows, and on request of real ones, to the first layer.
    fn enter(&self, team: &Team, slots: &mut [Slot], encoded: Option<&Encoded>) -> Result<()> {
        let Sizes { critic: k, columns, .. } = self.sizes;
        let data = self.sizes.data();
        team.fill(slots, 1, |number, slot| {
            let slot = &mut slot[0];
            let weight = self.places[number % self.sizes.pac].weight.view();
            slot.into_made.fill(0.0);
            gradient(slot.made_t.view(), weight.slice(s![..data, ..]), slot.into_made.view_mut());
            let weight = flat(weight);
            for (condition, out) in slot.conditions.iter().zip(rows_mut(slot.into_made.view_mut())) {
                if let Some(condition) = condition {
                    axpy(1.0, &weight[(data + condition.number as usize) * k..][..k], out);
                }
            }
            let Some(encoded) = encoded else { return Ok(()) };
            slot.into_real.fill(0.0);
            let all = slot.rows.iter().zip(&slot.conditions).zip(rows_mut(slot.into_real.view_mut()));
            for ((&row, condition), out) in all {
                let (classes, within) = encoded.row(row as usize);
                classes.iter().for_each(|&class| axpy(1.0, &weight[class as usize * k..][..k], out));
                for (n, &x) in within.iter().enumerate() {
                    axpy(x, &weight[(columns + n) * k..][..k], out);
                }
                if let Some(condition) = condition {
                    axpy(1.0, &weight[(data + condition.number as usize) * k..][..k], out);
                }
            }
            Ok(())
        })
    }

    /// The outputs [n] for the first layer `hidden[0]` [n, k], and in `back` the gradient of each output, times
    /// `weights` [n], at the inputs of the first and the second activation.
    fn through(&mut self, team: &Team, seed: u64, weights: &[f32]) -> Result<Vec<f32>> {
        let (n, k) = (weights.len(), self.sizes.critic);
        let (bias, rest) = self.parameters.split_at(k);
        let (weight, rest) = rest.split_at(k * k);
        let (bias2, rest) = rest.split_at(k);
        let (last, bias3) = rest.split_at(k);
        let weight = ArrayView2::from_shape((k, k), weight)?;
        transpose(weight, self.transposed.view_mut());
        let transposed = self.transposed.view();
        let dropout = self.dropout;
        let activate = |h: &mut ArrayViewMut2<f32>, m: &mut ArrayViewMut2<f32>, bias: &[f32], seed: u64| {
            if dropout > 0.0 {
                fill_uniform(seed, flat_mut(m.view_mut()));
            } else {
                m.fill(1.0);
            }
            for (h, m) in rows_mut(h.view_mut()).zip(rows_mut(m.view_mut())) {
                for ((h, m), b) in h.iter_mut().zip(m).zip(bias) {
                    let x = *h + b;
                    let keep = if *m < dropout { 0.0 } else { 1.0 / (1.0 - dropout) };
                    *m = keep * if x > 0.0 { 1.0 } else { LEAK };
                    *h = x * *m;
                }
            }
        };
        struct Chunk<'a> {
            hidden: [ArrayViewMut2<'a, f32>; 2],
            masks: [ArrayViewMut2<'a, f32>; 2],
            back: [ArrayViewMut2<'a, f32>; 2],
            outputs: &'a mut [f32],
        }
        let mut outputs = memory::filled(0f32, n)?;
        let mut chunks = Vec::new();
        let mut all = [&mut self.hidden, &mut self.masks, &mut self.back]
            .map(|pair| pair.each_mut().map(|x| x.slice_mut(s![..n, ..])));
        let [[mut h1, mut h2], [mut m1, mut m2], [mut b1, mut b2]] =
            all.each_mut().map(|pair| pair.each_mut().map(|x| x.axis_chunks_iter_mut(Axis(0), CHUNK)));
        for outputs in outputs.chunks_mut(CHUNK) {
            let [Some(h1), Some(h2), Some(m1), Some(m2), Some(b1), Some(b2)] =
                [&mut h1, &mut h2, &mut m1, &mut m2, &mut b1, &mut b2].map(Iterator::next)
            else {
                break;
            };
            chunks.push(Chunk { hidden: [h1, h2], masks: [m1, m2], back: [b1, b2], outputs });
        }
        team.fill(&mut chunks, 1, |number, chunk| {
            let Chunk { hidden: [h1, h2], masks: [m1, m2], back: [b1, b2], outputs } = &mut chunk[0];
            let seed = mix(seed ^ number as u64);
            activate(h1, m1, bias, mix(seed));
            product(h1.view(), weight, h2.view_mut());
            activate(h2, m2, bias2, mix(!seed));
            for (y, h) in outputs.iter_mut().zip(rows_of(h2.view())) {
                *y = h.iter().zip(last).map(|(h, w)| h * w).sum::<f32>() + bias3[0];
            }
            let weights = &weights[number * CHUNK..];
            for ((b, m), &w) in rows_mut(b2.view_mut()).zip(rows_of(m2.view())).zip(weights) {
                b.iter_mut().zip(m).zip(last).for_each(|((b, m), l)| *b = w * m * l);
            }
            product(b2.view(), transposed, b1.view_mut());
            flat_mut(b1.view_mut()).iter_mut().zip(flat(m1.view())).for_each(|(b, m)| *b *= *m);
            Ok(())
        })?;
        Ok(outputs)
    }

    /// A training step on the rows in the slots, or its gradients only. Returns the loss and the penalty.
    pub fn train(
        &mut self,
        team: &Team,
        slots: &mut [Slot],
        encoded: &Encoded,
        seed: u64,
        step: Option<Step>,
    ) -> Result<(f64, f64)> {
        let sizes = self.sizes;
        let (part, k, data) = (sizes.packs, sizes.critic, sizes.data());
        // All packs, and where a slot's stand among them.
        let p = part * sizes.parts;
        let at = |slot: usize| slot / sizes.pac * part;
        self.enter(team, slots, Some(encoded))?;
        let (real, rest) = flat_mut(self.hidden[0].view_mut()).split_at_mut(p * k);
        let (made, between) = rest.split_at_mut(p * k);
        real.fill(0.0);
        made.fill(0.0);
        for (s, slot) in slots.iter().enumerate() {
            axpy(1.0, flat(slot.into_real.view()), &mut real[at(s) * k..][..part * k]);
            axpy(1.0, flat(slot.into_made.view()), &mut made[at(s) * k..][..part * k]);
        }
        for (pack, out) in between.chunks_exact_mut(k).enumerate() {
            let share = uniform(mix(seed ^ 1), pack as u64) / 2.0 + 0.5;
            let both = real[pack * k..].iter().zip(&made[pack * k..]);
            out.iter_mut().zip(both).for_each(|(x, (a, b))| *x = share * a + (1.0 - share) * b);
        }
        let share = 1.0 / p as f32;
        let weights: Vec<f32> = (0..3 * p).map(|i| [-share, share, 1.0][i / p]).collect();
        let outputs = self.through(team, seed, &weights)?;
        let mean = |part: &[f32]| part.iter().map(|&y| f64::from(y)).sum::<f64>() / p as f64;
        let loss = mean(&outputs[p..2 * p]) - mean(&outputs[..p]);

        // The slope at the rows between, slot by slot, and what it gives back through the first weights.
        self.turn(2 * p);
        let (turned, places) = (&self.turned, &self.places);
        team.fill(slots, 1, |number, slot| {
            let Slot { slope_t, penalty, squares, .. } = &mut slot[0];
            let weight = places[number % sizes.pac].weight.slice(s![..data, ..]);
            product(weight, turned[number / sizes.pac].view(), slope_t.view_mut());
            squares.fill(0.0);
            for row in rows_of(slope_t.view()) {
                squares.iter_mut().zip(row).for_each(|(sum, g)| *sum += g * g);
            }
            penalty.fill(0.0);
            gradient(slope_t.view(), weight, penalty.view_mut());
            Ok(())
        })?;
        let norm = |pack: usize| {
            let slots = &slots[pack / part * sizes.pac..][..sizes.pac];
            slots.iter().map(|slot| slot.squares[pack % part]).sum::<f32>().sqrt().max(1e-12)
        };
        let norms: Vec<f32> = (0..p).map(norm).collect();
        let factors: Vec<f32> = norms.iter().map(|norm| 2.0 * PENALTY * (norm - 1.0) / norm * share).collect();
        let penalty = norms.iter().map(|&norm| f64::from(PENALTY * share) * (f64::from(norm) - 1.0).powi(2)).sum();
        self.gradient.fill(0.0);
        let (g_bias, rest) = self.gradient.split_at_mut(k);
        let (g_weight, rest) = rest.split_at_mut(k * k);
        let (g_bias2, rest) = rest.split_at_mut(k);
        let (g_last, g_bias3) = rest.split_at_mut(k);
        let mut g_weight = ArrayViewMut2::from_shape((k, k), g_weight)?;
        let (both, b2) = (s![..2 * p, ..], &self.back[1]);
        rows_of(self.back[0].slice(both)).for_each(|row| axpy(1.0, row, g_bias));
        rows_of(b2.slice(both)).for_each(|row| axpy(1.0, row, g_bias2));
        gradient(self.hidden[0].slice(both), b2.slice(both), g_weight.view_mut());
        for (h, &w) in rows_of(self.hidden[1].view()).zip(&weights[..2 * p]) {
            axpy(w, h, g_last);
        }
        g_bias3[0] = weights[..2 * p].iter().sum();
        // The penalty's part: u, then W₂ and w₃.
        let ([u, v], third) = (&mut self.spare, s![2 * p.., ..]);
        u.fill(0.0);
        let all = flat_mut(u.view_mut());
        for (s, slot) in slots.iter().enumerate() {
            axpy(1.0, flat(slot.penalty.view()), &mut all[at(s) * k..][..part * k]);
        }
        let masks = rows_of(self.masks[0].slice(third));
        for ((u, m), &c) in rows_mut(u.view_mut()).zip(masks).zip(&factors) {
            u.iter_mut().zip(m).for_each(|(u, m)| *u *= c * m);
        }
        gradient(u.view(), b2.slice(third), g_weight);
        product(u.view(), ArrayView2::from_shape((k, k), &self.parameters[k..k + k * k])?, v.view_mut());
        let masks = rows_of(self.masks[1].slice(third));
        for (v, m) in rows_of(v.view()).zip(masks) {
            g_last.iter_mut().zip(v).zip(m).for_each(|((g, v), m)| *g += v * m);
        }
        // Of the first weights: c v₁ for the slopes.
        for (v, &c) in rows_mut(self.back[0].slice_mut(third)).zip(&factors) {
            v.iter_mut().for_each(|v| *v *= c);
        }
        let back = self.back[0].view();
        team.fill(slots, 1, |number, slot| {
            let Slot { gradient: sum, rows, conditions, made_t, slope_t, .. } = &mut slot[0];
            let [of_real, of_made, of_slope] = [0, 1, 2].map(|which| {
                let first = which * p + at(number);
                back.slice(s![first..first + part, ..])
            });
            let (mut of_data, mut others) = sum.view_mut().split_at(Axis(0), data);
            others.fill(0.0);
            product(made_t.view(), of_made, of_data.view_mut());
            product_add(slope_t.view(), of_slope, of_data.view_mut());
            let (sum, of_real, of_made) = (flat_mut(sum.view_mut()), flat(of_real), flat(of_made));
            for (pack, (&row, condition)) in rows.iter().zip(&*conditions).enumerate() {
                let (classes, within) = encoded.row(row as usize);
                let back = &of_real[pack * k..][..k];
                classes.iter().for_each(|&class| axpy(1.0, back, &mut sum[class as usize * k..][..k]));
                for (n, &x) in within.iter().enumerate() {
                    axpy(x, back, &mut sum[(sizes.columns + n) * k..][..k]);
                }
                if let Some(condition) = condition {
                    let to = &mut sum[(data + condition.number as usize) * k..][..k];
                    axpy(1.0, back, to);
                    axpy(1.0, &of_made[pack * k..][..k], to);
                }
            }
            Ok(())
        })?;
        if let Some(step) = step {
            for (number, place) in self.places.iter_mut().enumerate() {
                let Place { weight, first, second } = place;
                let [x, m, v] = [weight, first, second].map(|x| flat_mut(x.view_mut()).par_chunks_mut(BLOCK));
                x.zip(m).zip(v).enumerate().for_each(|(block, ((x, m), v))| {
                    let mut sum = [0f32; BLOCK];
                    let sum = &mut sum[..x.len()];
                    for slot in slots.iter().skip(number).step_by(sizes.pac) {
                        axpy(1.0, &flat(slot.gradient.view())[block * BLOCK..][..sum.len()], sum);
                    }
                    step.update(x, sum, m, v);
                });
            }
            step.update(&mut self.parameters, &self.gradient, &mut self.first, &mut self.second);
        }
        Ok((loss, penalty))
    }

    /// The transposed gradients at the first activation of all packs from row `first` on, part by part.
    fn turn(&mut self, first: usize) {
        let packs = self.back[0].slice(s![first.., ..]);
        let parts = packs.axis_chunks_iter(Axis(0), self.sizes.packs);
        parts.zip(&mut self.turned).for_each(|(from, to)| transpose(from, to.view_mut()));
    }

    /// Writes the gradient of the negative mean critic at the generated rows to `slope_t` of the slots. Returns that
    /// mean.
    pub fn judge(&mut self, team: &Team, slots: &mut [Slot], seed: u64) -> Result<f64> {
        let sizes = self.sizes;
        let (part, k, data) = (sizes.packs, sizes.critic, sizes.data());
        let p = part * sizes.parts;
        let at = |slot: usize| slot / sizes.pac * part;
        self.enter(team, slots, None)?;
        let made = &mut flat_mut(self.hidden[0].view_mut())[..p * k];
        made.fill(0.0);
        for (s, slot) in slots.iter().enumerate() {
            axpy(1.0, flat(slot.into_made.view()), &mut made[at(s) * k..][..part * k]);
        }
        let weights = vec![-1.0 / p as f32; p];
        let outputs = self.through(team, seed, &weights)?;
        self.turn(0);
        let (turned, places) = (&self.turned, &self.places);
        team.fill(slots, 1, |number, slot| {
            let weight = places[number % sizes.pac].weight.slice(s![..data, ..]);
            product(weight, turned[number / sizes.pac].view(), slot[0].slope_t.view_mut());
            Ok(())
        })?;
        Ok(outputs.iter().map(|&y| f64::from(y)).sum::<f64>() / p as f64)
    }
}
