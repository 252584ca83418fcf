//! Adam (Kingma, Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1).

use kernels::vector::{Vector, dispatch};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// One step: `x ← x − η_t m / (√v + ε_t)`, `η_t = η √(1 − β₂ᵗ) / (1 − β₁ᵗ)`, `ε_t = ε √(1 − β₂ᵗ)`: algorithm 1 in the order of
/// the end of its section 2.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    rate: f32,
    epsilon: f32,
    beta1: f32,
    beta2: f32,
}

impl Step {
    /// `number` counts from 1.
    pub fn new(learning_rate: f32, number: u64) -> Self {
        Self::with(learning_rate, number, BETA1, BETA2)
    }

    /// With other decay rates of the moments.
    pub fn with(learning_rate: f32, number: u64, beta1: f64, beta2: f64) -> Self {
        let t = number as f64;
        let second = (1.0 - beta2.powf(t)).sqrt();
        Self {
            rate: (f64::from(learning_rate) * second / (1.0 - beta1.powf(t))) as f32,
            epsilon: (EPSILON * second) as f32,
            beta1: beta1 as f32,
            beta2: beta2 as f32,
        }
    }

    /// Moves `x` against its `gradient`; `first` and `second` are the running moments of both. All of the same length.
    pub fn update(self, x: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
        update(self, x, gradient, first, second);
    }
}

/// # Safety
/// The processor has the instructions of `V`: a plain loop is compiled to them, divisions and roots included.
#[expect(clippy::extra_unused_type_parameters, reason = "the compiler chooses the registers")]
#[inline(always)]
unsafe fn update_body<V: Vector, const TILE: usize>(
    step: Step,
    x: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    for (((x, &g), m), v) in x.iter_mut().zip(gradient).zip(first).zip(second) {
        *m += (1.0 - step.beta1) * (g - *m);
        *v += (1.0 - step.beta2) * (g * g - *v);
        *x -= step.rate * *m / (v.sqrt() + step.epsilon);
    }
}
dispatch! {
    fn update(step: Step, x: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) = update_body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_has_the_learning_rate_s_length_whatever_the_gradient_s() {
        let (mut x, mut m, mut v) = (vec![1.0; 19], vec![0.0; 19], vec![0.0; 19]);
        let gradient: Vec<f32> = (0..19).map(|i| if i % 2 == 0 { 1e-5 } else { -70.0 }).collect();
        Step::new(0.01, 1).update(&mut x, &gradient, &mut m, &mut v);
        for (x, g) in x.iter().zip(&gradient) {
            assert!((x - (1.0 - 0.01 * g.signum())).abs() < 2e-5, "{x}");
        }
    }

    #[test]
    fn a_parabola_is_descended() {
        let (mut x, mut m, mut v) = ([5.0, -3.0], [0.0; 2], [0.0; 2]);
        for t in 1..=3000 {
            let gradient = [2.0 * (x[0] - 1.0), 20.0 * x[1]];
            Step::new(0.01, t).update(&mut x, &gradient, &mut m, &mut v);
        }
        assert!((x[0] - 1.0).abs() < 1e-2 && x[1].abs() < 1e-2, "{x:?}");
    }
}
