//! Adam (Kingma, Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1).

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f32 = 1e-8;

/// One step: `x ← x − η_t m / (√v + ε)`, `η_t = η √(1 − β₂ᵗ) / (1 − β₁ᵗ)`.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    rate: f32,
    beta1: f32,
    beta2: f32,
}

impl Step {
    /// `number` counts from 1.
    pub fn new(learning_rate: f32, number: u64) -> Self {
        Self::with(learning_rate, number, BETA1, BETA2)
    }

    /// With other shares of the moments that a step keeps.
    pub fn with(learning_rate: f32, number: u64, beta1: f64, beta2: f64) -> Self {
        let t = number as f64;
        let correction = (1.0 - beta2.powf(t)).sqrt() / (1.0 - beta1.powf(t));
        Self { rate: (f64::from(learning_rate) * correction) as f32, beta1: beta1 as f32, beta2: beta2 as f32 }
    }

    /// Moves `x` against its `gradient`; `first` and `second` are the running moments of both.
    pub fn update(self, x: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
        let (beta1, beta2) = (self.beta1, self.beta2);
        for (((x, &g), m), v) in x.iter_mut().zip(gradient).zip(first).zip(second) {
            *m += (1.0 - beta1) * (g - *m);
            *v += (1.0 - beta2) * (g * g - *v);
            *x -= self.rate * *m / (v.sqrt() + EPSILON);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
