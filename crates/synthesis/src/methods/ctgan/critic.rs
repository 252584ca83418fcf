//! The critic: two layers with leaky ReLU and dropout over packs of rows, trained on the Wasserstein distance with a
//! gradient penalty (Gulrajani et al., "Improved training of Wasserstein GANs", NeurIPS 2017).
//!
//! With the masks m₁, m₂ (the slopes of leaky ReLU times dropout) the critic is piecewise linear: its gradient at a row
//! is `g = W₁ v₁`, `v₁ = m₁ ⊙ W₂ v₂`, `v₂ = m₂ ⊙ w₃`. The penalty `λ (‖g‖ − 1)²` therefore has a gradient in closed
//! form: with `c = 2 λ (‖g‖ − 1) / ‖g‖`, that of W₁ is `c g v₁ᵀ`, and with `u = m₁ ⊙ c W₁ᵀ g`, that of W₂ is `u v₂ᵀ`
//! and that of w₃ is `m₂ ⊙ W₂ᵀ u`. No second pass is needed. The penalty covers the rows, not their conditions, which
//! real and generated rows share. A row interpolated between a real and a generated one is interpolated in the first
//! layer too, which is not multiplied again.

use rayon::prelude::*;

use super::slot::{Sizes, Slot};
use crate::methods::modes::Encoded;
use kernels::dot::axpy;
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
    pub weight: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
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
    transposed: Vec<f32>,
    /// [3 packs, k] for real, generated and interpolated rows: activations and masks of both layers, and gradients.
    hidden: [Vec<f32>; 2],
    masks: [Vec<f32>; 2],
    back: [Vec<f32>; 2],
    /// [packs, k], and the transpose.
    spare: Vec<f32>,
    columns: Vec<f32>,
}

impl Critic {
    /// Weights are uniform up to 1 / √inputs, as in the paper's code; inputs of the first layer are the non-zeros of a
    /// row.
    pub fn new(sizes: Sizes, heads: usize, dropout: f32, seed: u64) -> Result<Self> {
        let k = sizes.critic;
        let n = k + k * k + k + k + 1;
        let floats = |n: usize| memory::filled(0f32, n);
        let rows = |n: usize| floats(n * sizes.packs * sizes.parts * k);
        let place = |_| {
            let n = sizes.entrance();
            Ok(Place { weight: floats(n)?, first: floats(n)?, second: floats(n)? })
        };
        let mut critic = Self {
            sizes,
            dropout,
            places: (0..sizes.pac).map(place).collect::<Result<_>>()?,
            parameters: memory::filled(0f32, n)?,
            first: memory::filled(0f32, n)?,
            second: memory::filled(0f32, n)?,
            gradient: memory::filled(0f32, n)?,
            transposed: memory::filled(0f32, k * k)?,
            hidden: [rows(3)?, rows(3)?],
            masks: [rows(3)?, rows(3)?],
            back: [rows(3)?, rows(3)?],
            spare: rows(1)?,
            columns: rows(1)?,
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
    fn enter(&self, team: &Team, slots: &mut [Slot], encoded: Option<(&Encoded, usize)>) -> Result<()> {
        let Sizes { critic: k, columns, numbers, .. } = self.sizes;
        let data = self.sizes.data();
        team.fill(slots, 1, |number, slot| {
            let slot = &mut slot[0];
            let weight = &self.places[number % self.sizes.pac].weight;
            slot.into_made.fill(0.0);
            gradient(&slot.made_t, self.sizes.packs, 0, &weight[..data * k], k, &mut slot.into_made);
            for (condition, out) in slot.conditions.iter().zip(slot.into_made.chunks_exact_mut(k)) {
                if let Some(condition) = condition {
                    axpy(1.0, &weight[(data + condition.number as usize) * k..][..k], out);
                }
            }
            let Some((encoded, heads)) = encoded else { return Ok(()) };
            slot.into_real.fill(0.0);
            let all = slot.rows.iter().zip(&slot.conditions).zip(slot.into_real.chunks_exact_mut(k));
            for ((&row, condition), out) in all {
                let (classes, within) = encoded.row(row as usize, heads, numbers);
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
        transpose(weight, k, k, &mut self.transposed);
        let transposed = &self.transposed;
        let dropout = self.dropout;
        let activate = |h: &mut [f32], m: &mut [f32], bias: &[f32], seed: u64| {
            if dropout > 0.0 {
                fill_uniform(seed, m);
            } else {
                m.fill(1.0);
            }
            for (h, m) in h.chunks_exact_mut(k).zip(m.chunks_exact_mut(k)) {
                for ((h, m), b) in h.iter_mut().zip(m).zip(bias) {
                    let x = *h + b;
                    let keep = if *m < dropout { 0.0 } else { 1.0 / (1.0 - dropout) };
                    *m = keep * if x > 0.0 { 1.0 } else { LEAK };
                    *h = x * *m;
                }
            }
        };
        struct Chunk<'a> {
            hidden: [&'a mut [f32]; 2],
            masks: [&'a mut [f32]; 2],
            back: [&'a mut [f32]; 2],
            outputs: &'a mut [f32],
        }
        let mut outputs = memory::filled(0f32, n)?;
        let mut chunks = Vec::new();
        let [mut h1, mut h2] = self.hidden.each_mut().map(|x| x[..n * k].chunks_mut(CHUNK * k));
        let [mut m1, mut m2] = self.masks.each_mut().map(|x| x[..n * k].chunks_mut(CHUNK * k));
        let [mut b1, mut b2] = self.back.each_mut().map(|x| x[..n * k].chunks_mut(CHUNK * k));
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
            product(h1, weight, k, k, h2);
            activate(h2, m2, bias2, mix(!seed));
            for (y, h) in outputs.iter_mut().zip(h2.chunks_exact(k)) {
                *y = h.iter().zip(last).map(|(h, w)| h * w).sum::<f32>() + bias3[0];
            }
            let weights = &weights[number * CHUNK..];
            for ((b, m), &w) in b2.chunks_exact_mut(k).zip(m2.chunks_exact(k)).zip(weights) {
                b.iter_mut().zip(m).zip(last).for_each(|((b, m), l)| *b = w * m * l);
            }
            product(b2, transposed, k, k, b1);
            b1.iter_mut().zip(&**m1).for_each(|(b, m)| *b *= *m);
            Ok(())
        })?;
        Ok(outputs)
    }

    /// A training step on the rows in the slots, or its gradients only. Returns the loss and the penalty.
    pub fn train(
        &mut self,
        team: &Team,
        slots: &mut [Slot],
        (encoded, heads): (&Encoded, usize),
        seed: u64,
        step: Option<Step>,
    ) -> Result<(f64, f64)> {
        let sizes = self.sizes;
        let (part, k, data) = (sizes.packs, sizes.critic, sizes.data());
        // All packs, and where a slot's stand among them.
        let p = part * sizes.parts;
        let at = |slot: usize| slot / sizes.pac * part;
        self.enter(team, slots, Some((encoded, heads)))?;
        let (real, rest) = self.hidden[0].split_at_mut(p * k);
        let (made, between) = rest.split_at_mut(p * k);
        real.fill(0.0);
        made.fill(0.0);
        for (s, slot) in slots.iter().enumerate() {
            axpy(1.0, &slot.into_real, &mut real[at(s) * k..][..part * k]);
            axpy(1.0, &slot.into_made, &mut made[at(s) * k..][..part * k]);
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
        let (columns, places) = (&self.columns, &self.places);
        team.fill(slots, 1, |number, slot| {
            let Slot { slope_t, penalty, squares, .. } = &mut slot[0];
            let weight = &places[number % sizes.pac].weight;
            product(&weight[..data * k], &columns[at(number) * k..][..part * k], k, part, slope_t);
            squares.fill(0.0);
            for row in slope_t.chunks_exact(part) {
                squares.iter_mut().zip(row).for_each(|(sum, g)| *sum += g * g);
            }
            penalty.fill(0.0);
            gradient(slope_t, part, 0, &weight[..data * k], k, penalty);
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
        let (b1, b2) = (&self.back[0], &self.back[1]);
        b1[..2 * p * k].chunks_exact(k).for_each(|row| axpy(1.0, row, g_bias));
        b2[..2 * p * k].chunks_exact(k).for_each(|row| axpy(1.0, row, g_bias2));
        gradient(&self.hidden[0][..2 * p * k], k, 0, &b2[..2 * p * k], k, g_weight);
        for (h, &w) in self.hidden[1].chunks_exact(k).zip(&weights[..2 * p]) {
            axpy(w, h, g_last);
        }
        g_bias3[0] = weights[..2 * p].iter().sum();
        // The penalty's part: u, then W₂ and w₃.
        let spare = &mut self.spare;
        spare.fill(0.0);
        for (s, slot) in slots.iter().enumerate() {
            axpy(1.0, &slot.penalty, &mut spare[at(s) * k..][..part * k]);
        }
        let masks = self.masks[0][2 * p * k..].chunks_exact(k);
        for ((u, m), &c) in spare.chunks_exact_mut(k).zip(masks).zip(&factors) {
            u.iter_mut().zip(m).for_each(|(u, m)| *u *= c * m);
        }
        gradient(spare, k, 0, &b2[2 * p * k..], k, g_weight);
        product(spare, &self.parameters[k..k + k * k], k, k, &mut self.columns);
        let masks = self.masks[1][2 * p * k..].chunks_exact(k);
        for (v, m) in self.columns.chunks_exact(k).zip(masks) {
            g_last.iter_mut().zip(v).zip(m).for_each(|((g, v), m)| *g += v * m);
        }
        // Of the first weights: c v₁ for the slopes.
        for (v, &c) in self.back[0][2 * p * k..].chunks_exact_mut(k).zip(&factors) {
            v.iter_mut().for_each(|v| *v *= c);
        }
        let (of_real, rest) = self.back[0].split_at(p * k);
        let (of_made, of_slope) = rest.split_at(p * k);
        team.fill(slots, 1, |number, slot| {
            let Slot { gradient: sum, rows, conditions, made_t, slope_t, .. } = &mut slot[0];
            let [of_real, of_made, of_slope] = [of_real, of_made, of_slope].map(|x| &x[at(number) * k..][..part * k]);
            sum[data * k..].fill(0.0);
            product(made_t, of_made, part, k, &mut sum[..data * k]);
            product_add(slope_t, part, 0, of_slope, k, &mut sum[..data * k]);
            for (pack, (&row, condition)) in rows.iter().zip(&*conditions).enumerate() {
                let (classes, within) = encoded.row(row as usize, heads, sizes.numbers);
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
                let all = place.weight.par_chunks_mut(BLOCK).zip(place.first.par_chunks_mut(BLOCK));
                all.zip(place.second.par_chunks_mut(BLOCK)).enumerate().for_each(|(block, ((x, m), v))| {
                    let mut sum = [0f32; BLOCK];
                    let sum = &mut sum[..x.len()];
                    for slot in slots.iter().skip(number).step_by(sizes.pac) {
                        axpy(1.0, &slot.gradient[block * BLOCK..][..sum.len()], sum);
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
        let (part, k) = (self.sizes.packs, self.sizes.critic);
        let all = self.back[0][first * k..].chunks_exact(part * k).zip(self.columns.chunks_exact_mut(part * k));
        all.for_each(|(from, to)| transpose(from, part, k, to));
    }

    /// Writes the gradient of the negative mean critic at the generated rows to `slope_t` of the slots. Returns that
    /// mean.
    pub fn judge(&mut self, team: &Team, slots: &mut [Slot], seed: u64) -> Result<f64> {
        let sizes = self.sizes;
        let (part, k, data) = (sizes.packs, sizes.critic, sizes.data());
        let p = part * sizes.parts;
        let at = |slot: usize| slot / sizes.pac * part;
        self.enter(team, slots, None)?;
        let made = &mut self.hidden[0][..p * k];
        made.fill(0.0);
        for (s, slot) in slots.iter().enumerate() {
            axpy(1.0, &slot.into_made, &mut made[at(s) * k..][..part * k]);
        }
        let weights = vec![-1.0 / p as f32; p];
        let outputs = self.through(team, seed, &weights)?;
        self.turn(0);
        let (columns, places) = (&self.columns, &self.places);
        team.fill(slots, 1, |number, slot| {
            let weight = &places[number % sizes.pac].weight;
            product(&weight[..data * k], &columns[at(number) * k..][..part * k], k, part, &mut slot[0].slope_t);
            Ok(())
        })?;
        Ok(outputs.iter().map(|&y| f64::from(y)).sum::<f64>() / p as f64)
    }
}
