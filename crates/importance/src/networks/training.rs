//! Stochastic gradient descent with momentum on sparse features. A feature that is absent from a batch costs nothing: the effect of k steps
//! of momentum and weight decay on its weights is a linear map, applied when the feature is next seen.

use ndarray::Axis;

use super::network::{Batch, Inputs, Layers, Scratch, add_gradient};
use super::targets::Targets;
use kernels::matrix::{flat, flat_mut, rows_mut};
use kernels::vector::{Vector, dispatch};
use runtime::draw;
use runtime::error::Result;
use runtime::memory;

/// Features between two checks for a cancel request.
const CHECK_EVERY: usize = 4096;
/// Learning rates that are tried.
const ATTEMPTS: i32 = 4;

#[derive(Clone, Copy, Debug)]
pub struct Descent {
    pub hidden: usize,
    pub batch: usize,
    pub momentum: f32,
    pub weight_decay: f32,
}

/// The learning rates to try, from `rate` down: where a network diverges, training starts again at a quarter of it.
pub fn learning_rates(rate: f32) -> impl Iterator<Item = f32> {
    (0..ATTEMPTS).map(move |attempt| rate * 0.25f32.powi(attempt))
}

/// A network in training.
pub struct Training<'a> {
    inputs: &'a Inputs<'a>,
    targets: &'a Targets<'a>,
    descent: Descent,
    pub weights: Layers,
    momentum: Layers,
    /// Zero except for the features in `touched`.
    pub gradient: Layers,
    pub scratch: Scratch,
    /// The features of the current batch.
    touched: Vec<u32>,
    /// [columns]: the last batch that touched a feature, and the steps of this epoch already applied to its weights.
    seen: Vec<u32>,
    steps: Vec<u32>,
    batches: u32,
    /// The training rows; `None` for all.
    rows: Option<&'a [u32]>,
    /// [training rows]
    order: Vec<u32>,
}

impl<'a> Training<'a> {
    /// Weights drawn from the seed (He et al. 2015).
    pub fn new(
        inputs: &'a Inputs,
        targets: &'a Targets,
        descent: Descent,
        seed: u64,
        check: &impl Fn() -> Result<()>,
    ) -> Result<Self> {
        let (columns, outputs) = (inputs.columns(), targets.outputs());
        let layers = || Layers::zeros(columns, descent.hidden, outputs);
        let mut weights = layers()?;
        let width = weights.hidden();
        let deviation = |inputs: usize| (2.0 / inputs.max(1) as f32).sqrt();
        let draw = |row: &mut [f32], deviation: f32, place: u64| {
            row[..descent.hidden]
                .iter_mut()
                .zip(place..)
                .for_each(|(w, place)| *w = deviation * draw::normal(seed, place));
        };
        for (i, rows) in weights.first.axis_chunks_iter_mut(Axis(0), CHECK_EVERY).enumerate() {
            check()?;
            for (j, row) in rows_mut(rows).enumerate() {
                draw(row, deviation(columns), ((i * CHECK_EVERY + j) * width) as u64);
            }
        }
        for (i, row) in rows_mut(weights.second.view_mut()).enumerate() {
            draw(row, deviation(descent.hidden), ((columns + i) * width) as u64);
        }
        Ok(Self {
            inputs,
            targets,
            descent,
            scratch: Scratch::new(&weights),
            weights,
            momentum: layers()?,
            gradient: layers()?,
            touched: Vec::new(),
            seen: memory::filled(0, columns)?,
            steps: memory::filled(0, columns)?,
            batches: 0,
            rows: None,
            order: memory::filled(0, inputs.rows())?,
        })
    }

    /// Trains on `rows` only.
    pub fn only(mut self, rows: &'a [u32]) -> Self {
        self.order.truncate(rows.len());
        self.rows = Some(rows);
        self
    }

    /// One pass over the training rows, in an order drawn from the seed.
    pub fn epoch(&mut self, rate: f32, seed: u64, check: &impl Fn() -> Result<()>) -> Result<()> {
        draw::shuffled(&mut self.order, seed);
        if let Some(rows) = self.rows {
            self.order.iter_mut().for_each(|place| *place = rows[*place as usize]);
        }
        let order = std::mem::take(&mut self.order);
        // Batches of one size, so that no short last one makes a step as large as the others on few rows.
        let batches = order.len().div_ceil(self.descent.batch).max(1);
        let powers = Powers::new(rate, self.descent, batches)?;
        let mut done = 0;
        for batch in order.chunks(order.len().div_ceil(batches).max(1)) {
            check()?;
            self.touch(self.inputs, batch, |weights, momentum, steps| {
                powers.apply(done - *steps, weights, momentum);
                *steps = done;
            });
            let rows = Batch { rows: batch, factor: 1.0 / batch.len() as f32, bounded: true };
            add_gradient(&self.weights, self.inputs, self.targets, rows, &mut self.gradient, &mut self.scratch);
            self.step(rate);
            done += 1;
        }
        self.order = order;
        let width = self.weights.hidden();
        let (all, velocity) = (flat_mut(self.weights.first.view_mut()), flat_mut(self.momentum.first.view_mut()));
        for first in (0..self.steps.len()).step_by(CHECK_EVERY) {
            check()?;
            for column in first..(first + CHECK_EVERY).min(self.steps.len()) {
                let at = column * width..(column + 1) * width;
                powers.apply(done - self.steps[column], &mut all[at.clone()], &mut velocity[at]);
                self.steps[column] = 0;
            }
        }
        Ok(())
    }

    /// Records the features of `rows` and calls `first` with the weights, the momentum and the applied steps of each.
    fn touch(&mut self, inputs: &Inputs, rows: &[u32], mut first: impl FnMut(&mut [f32], &mut [f32], &mut u32)) {
        let width = self.weights.hidden();
        let (weights, momentum) = (flat_mut(self.weights.first.view_mut()), flat_mut(self.momentum.first.view_mut()));
        self.batches += 1;
        for &row in rows {
            for &column in inputs.row(row as usize).0 {
                let place = column as usize;
                if self.seen[place] != self.batches {
                    self.seen[place] = self.batches;
                    self.touched.push(column);
                    let at = place * width..(place + 1) * width;
                    first(&mut weights[at.clone()], &mut momentum[at], &mut self.steps[place]);
                }
            }
        }
    }

    /// One descent step. Clears the gradient.
    fn step(&mut self, rate: f32) {
        let (width, Descent { momentum: m, weight_decay, .. }) = (self.weights.hidden(), self.descent);
        let Layers { first, first_bias, second, second_bias, .. } = &mut self.weights;
        let (velocity, gradient) = (&mut self.momentum, &mut self.gradient);
        let mut all = [first, &mut velocity.first, &mut gradient.first].map(|x| flat_mut(x.view_mut()));
        for column in self.touched.drain(..) {
            let at = column as usize * width..(column as usize + 1) * width;
            let [weights, velocity, gradient] = all.each_mut().map(|x| &mut x[at.clone()]);
            descend(weights, velocity, gradient, rate, m, weight_decay);
            self.steps[column as usize] += 1;
        }
        let [weights, velocity_of, gradient_of] =
            [second, &mut velocity.second, &mut gradient.second].map(|x| flat_mut(x.view_mut()));
        descend(weights, velocity_of, gradient_of, rate, m, weight_decay);
        descend(first_bias, &mut velocity.first_bias, &mut gradient.first_bias, rate, m, 0.0);
        descend(second_bias, &mut velocity.second_bias, &mut gradient.second_bias, rate, m, 0.0);
    }

    /// Sets `gradient` to that of the mean loss of other rows, until [`clear`](Self::clear).
    pub fn gradient_of(&mut self, inputs: &Inputs, targets: &Targets, check: &impl Fn() -> Result<()>) -> Result<()> {
        let factor = 1.0 / inputs.rows() as f32;
        let mut rows = Vec::with_capacity(self.descent.batch);
        for first in (0..inputs.rows()).step_by(self.descent.batch) {
            check()?;
            rows.clear();
            rows.extend((first..(first + self.descent.batch).min(inputs.rows())).map(|row| row as u32));
            self.touch(inputs, &rows, |_, _, _| {});
            let batch = Batch { rows: &rows, factor, bounded: false };
            add_gradient(&self.weights, inputs, targets, batch, &mut self.gradient, &mut self.scratch);
        }
        Ok(())
    }

    /// Clears the gradient.
    pub fn clear(&mut self) {
        let Layers { first, first_bias, second, second_bias } = &mut self.gradient;
        self.touched.drain(..).for_each(|column| first.row_mut(column as usize).fill(0.0));
        second.fill(0.0);
        [first_bias, second_bias].into_iter().for_each(|part| part.fill(0.0));
    }

    /// Whether all dense weights are finite.
    pub fn is_finite(&self) -> bool {
        let Layers { first_bias, second, second_bias, .. } = &self.weights;
        [&first_bias[..], flat(second.view()), second_bias].into_iter().all(|part| part.iter().all(|x| x.is_finite()))
    }
}

/// The effect of k steps without gradient on a weight and its momentum: Mᵏ (w, v), with v ← m v + d w and then w ← w − r v.
struct Powers(Vec<[f32; 4]>);

impl Powers {
    fn new(rate: f32, descent: Descent, most: usize) -> Result<Self> {
        let [r, m, d] = [rate, descent.momentum, descent.weight_decay].map(f64::from);
        let mut powers = Vec::new();
        memory::reserve(&mut powers, most + 1)?;
        let [mut a, mut b, mut c, mut e] = [1.0, 0.0, 0.0, 1.0];
        for _ in 0..=most {
            powers.push([a, b, c, e].map(|x| x as f32));
            [c, e] = [d * a + m * c, d * b + m * e];
            [a, b] = [a - r * c, b - r * e];
        }
        Ok(Self(powers))
    }

    fn apply(&self, steps: u32, weights: &mut [f32], momentum: &mut [f32]) {
        if steps > 0 {
            let [a, b, c, d] = self.0[steps as usize];
            for (w, v) in weights.iter_mut().zip(momentum) {
                (*w, *v) = (a * *w + b * *v, c * *w + d * *v);
            }
        }
    }
}

#[expect(clippy::extra_unused_type_parameters, reason = "the compiler vectorises for the registers it stands for")]
#[inline(always)]
unsafe fn descend_body<V: Vector, const TILE: usize>(
    weights: &mut [f32],
    momentum: &mut [f32],
    gradient: &mut [f32],
    rate: f32,
    m: f32,
    weight_decay: f32,
) {
    for ((w, v), g) in weights.iter_mut().zip(momentum).zip(gradient) {
        *v = m * *v + (*g + weight_decay * *w);
        *w -= rate * *v;
        *g = 0.0;
    }
}
dispatch! {
    /// One step along momentum and gradient. Clears the gradient.
    fn descend(
        weights: &mut [f32],
        momentum: &mut [f32],
        gradient: &mut [f32],
        rate: f32,
        m: f32,
        weight_decay: f32,
    ) = descend_body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_that_are_caught_up_are_the_steps() {
        let descent = Descent { hidden: 1, batch: 1, momentum: 0.9, weight_decay: 0.01 };
        let powers = Powers::new(0.05, descent, 40).unwrap();
        let (mut w, mut v) = ([1.0, -2.0], [0.3, 0.4]);
        let (mut caught, mut up) = (w, v);
        for k in 0..=40 {
            let (mut caught, mut up) = (caught, up);
            powers.apply(k, &mut caught, &mut up);
            assert!(caught.iter().zip(&w).chain(up.iter().zip(&v)).all(|(a, b)| (a - b).abs() < 1e-5), "{k}");
            descend(&mut w, &mut v, &mut [0.0; 2], 0.05, 0.9, 0.01);
        }
        powers.apply(0, &mut caught, &mut up);
        assert_eq!((caught, up), ([1.0, -2.0], [0.3, 0.4]));
    }
}
