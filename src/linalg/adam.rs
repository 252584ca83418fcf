//! Adam (Kingma, Ba 2015, algorithm 1) on dense rows.

use super::vector::{Vector, dispatch};

const BETA: [f32; 2] = [0.9, 0.999];
const EPSILON: f32 = 1e-8;

/// One step's two numbers: the step length with both bias corrections in it, and ε in the same unit.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    length: f32,
    epsilon: f32,
}

impl Step {
    /// The step number `number`, from 1 on. `α √(1 − β₂ᵗ) / (1 − β₁ᵗ)`, the form at the end of the paper's section 2.
    pub fn new(learning_rate: f32, number: u64) -> Self {
        let left = |beta: f32| 1.0 - f64::from(beta).powf(number as f64);
        let second = left(BETA[1]).sqrt();
        Self {
            length: (f64::from(learning_rate) * second / left(BETA[0])) as f32,
            epsilon: (f64::from(EPSILON) * second) as f32,
        }
    }
}

#[expect(clippy::extra_unused_type_parameters, reason = "the compiler chooses the registers")]
#[inline(always)]
unsafe fn update_body<V: Vector, const TILE: usize>(
    step: Step,
    gradient: &[f32],
    weights: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    let n = gradient.len();
    assert!(weights.len() == n && first.len() == n && second.len() == n);
    // Plain loops, which the compiler turns into this level's instructions, divisions and roots included.
    for i in 0..n {
        let g = gradient[i];
        let m = BETA[0] * first[i] + (1.0 - BETA[0]) * g;
        let v = BETA[1] * second[i] + (1.0 - BETA[1]) * g * g;
        first[i] = m;
        second[i] = v;
        weights[i] -= step.length * m / (v.sqrt() + step.epsilon);
    }
}
dispatch! {
    /// Moves `weights` against `gradient`; `first` and `second` are the running moments. All of the same length.
    pub fn update(step: Step, gradient: &[f32], weights: &mut [f32], first: &mut [f32], second: &mut [f32]) = update_body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_has_the_learning_rate_s_length_whatever_the_gradient_s() {
        let (mut w, mut m, mut v) = (vec![1.0; 19], vec![0.0; 19], vec![0.0; 19]);
        let gradient: Vec<f32> = (0..19).map(|i| if i % 2 == 0 { 1e-3 } else { -70.0 }).collect();
        update(Step::new(0.01, 1), &gradient, &mut w, &mut m, &mut v);
        for (w, g) in w.iter().zip(&gradient) {
            assert!((w - (1.0 - 0.01 * g.signum())).abs() < 1e-5, "{w}");
        }
    }

    #[test]
    fn a_bowl_s_bottom_is_found() {
        let (mut w, mut m, mut v) = (vec![3.0f32, -2.0], vec![0.0; 2], vec![0.0; 2]);
        for t in 1..3000 {
            let gradient = [2.0 * (w[0] - 1.0), 20.0 * w[1]];
            update(Step::new(0.01, t), &gradient, &mut w, &mut m, &mut v);
        }
        assert!((w[0] - 1.0).abs() < 1e-3 && w[1].abs() < 1e-3, "{w:?}");
    }
}
