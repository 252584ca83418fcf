//! Scores made into probabilities that mean what they say (Platt 1999): of two classes σ(a s + b), of more softmax(a s), with the `a` and `b` that
//! lower the log loss of rows that were not trained on.

use ndarray::ArrayView2;

use kernels::matrix::rows;
use runtime::error::Result;
use serde::{Deserialize, Serialize};

/// Steps of Newton's method.
const STEPS: usize = 50;
/// What must be gained in log likelihood, over all rows: two numbers gain as much by chance in 1 of 400 cases.
const MIN_GAIN: f64 = 6.0;
/// Rows below which nothing is fitted.
const MIN_ROWS: usize = 100;
/// Numbers that are read between two checks for a cancel request.
const CHECK_EVERY: usize = 1 << 16;
/// Pulls `a` to 1 and `b` to 0, as much as this many rows.
const PRIOR: f64 = 10.0;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    pub scale: f32,
    pub offset: f32,
}

impl Default for Calibration {
    fn default() -> Self {
        Self { scale: 1.0, offset: 0.0 }
    }
}

impl Calibration {
    /// Fits to the scores [rows, scores] of rows with these classes: one score for two classes, else one for each. `check` returns an error to
    /// cancel.
    pub fn fit(scores: ArrayView2<f32>, codes: &[u32], check: &dyn Fn() -> Result<()>) -> Result<Self> {
        let is_binary = scores.ncols() == 1;
        let plain = [1.0, 0.0];
        if codes.len() < MIN_ROWS {
            return Ok(Self::default());
        }
        let block = (CHECK_EVERY / scores.ncols().max(1)).max(1);
        let mut at = plain;
        for _ in 0..STEPS {
            let (mut g, mut h) = ([PRIOR * (at[0] - 1.0), PRIOR * at[1]], [[PRIOR, 0.0], [0.0, PRIOR]]);
            for (place, (row, &code)) in rows(scores).zip(codes).enumerate() {
                if place % block == 0 {
                    check()?;
                }
                if is_binary {
                    let s = f64::from(row[0]);
                    let p = 1.0 / (1.0 + (-(at[0] * s + at[1])).exp());
                    let (e, w) = (p - f64::from(code), p * (1.0 - p));
                    g = [g[0] + e * s, g[1] + e];
                    h = [[h[0][0] + w * s * s, h[0][1] + w * s], [0.0, h[1][1] + w]];
                } else {
                    let p = softmax(row, at[0]);
                    let mean: f64 = p.iter().zip(row).map(|(p, &s)| p * f64::from(s)).sum();
                    let square: f64 = p.iter().zip(row).map(|(p, &s)| p * f64::from(s).powi(2)).sum();
                    g[0] += mean - f64::from(row[code as usize]);
                    h[0][0] += square - mean * mean;
                }
            }
            let determinant = h[0][0] * h[1][1] - h[0][1] * h[0][1];
            let step =
                [(g[0] * h[1][1] - g[1] * h[0][1]) / determinant, (g[1] * h[0][0] - g[0] * h[0][1]) / determinant];
            // Few rows, or scores that part the classes, must not throw it far.
            at = [(at[0] - step[0].clamp(-0.5, 0.5)).max(0.05), at[1] - step[1].clamp(-0.5, 0.5)];
            if step.iter().all(|step| step.abs() < 1e-9) {
                break;
            }
        }
        let gain = loss(scores, codes, plain, check)? - loss(scores, codes, at, check)?;
        let pays = gain * codes.len() as f64 > MIN_GAIN;
        Ok(if pays { Self { scale: at[0] as f32, offset: at[1] as f32 } } else { Self::default() })
    }

    pub fn apply(&self, scores: &mut [f32]) {
        scores.iter_mut().for_each(|score| *score = self.scale * *score + self.offset);
    }
}

fn softmax(scores: &[f32], scale: f64) -> Vec<f64> {
    let mut p: Vec<f64> = scores.iter().map(|&s| scale * f64::from(s)).collect();
    kernels::statistics::softmax_f64(&mut p);
    p
}

/// Mean log loss.
fn loss(scores: ArrayView2<f32>, codes: &[u32], [a, b]: [f64; 2], check: &dyn Fn() -> Result<()>) -> Result<f64> {
    let block = (CHECK_EVERY / scores.ncols().max(1)).max(1);
    let of_row = |(row, &code): (&[f32], &u32)| {
        if row.len() == 1 {
            let margin = (a * f64::from(row[0]) + b) * if code == 1 { -1.0 } else { 1.0 };
            margin.max(0.0) + (-margin.abs()).exp().ln_1p()
        } else {
            -softmax(row, a)[code as usize].max(1e-300).ln()
        }
    };
    let mut sum = 0.0;
    for (place, row) in rows(scores).zip(codes).enumerate() {
        if place % block == 0 {
            check()?;
        }
        sum += of_row(row);
    }
    Ok(sum / codes.len().max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;
    use runtime::draw;

    fn uniform(row: u64) -> f64 {
        draw::below(5, row, 1 << 20) as f64 / (1 << 20) as f64
    }

    #[test]
    fn scores_that_are_twice_too_sure_are_halved() {
        let scores = Array2::from_shape_fn((5000, 1), |(row, _)| 8.0 * (uniform(row as u64) as f32 - 0.5));
        let truth = |row: usize| 1.0 / (1.0 + (-f64::from(scores[[row, 0]]) / 2.0 - 0.5).exp());
        let codes: Vec<u32> = (0..5000).map(|row| u32::from(uniform(1_000_000 + row as u64) < truth(row))).collect();
        let found = Calibration::fit(scores.view(), &codes, &|| Ok(())).unwrap();
        assert!((found.scale - 0.5).abs() < 0.05 && (found.offset - 0.5).abs() < 0.1, "{found:?}");
    }

    #[test]
    fn of_more_classes_one_scale_is_found() {
        let scores = Array2::from_shape_fn((3000, 3), |(row, class)| 6.0 * uniform((3 * row + class) as u64) as f32);
        let codes: Vec<u32> = (0..3000)
            .map(|row| {
                let p = softmax(&scores.row(row).to_vec(), 0.4);
                let u = uniform(2_000_000 + row as u64);
                u32::from(u > p[0]) + u32::from(u > p[0] + p[1])
            })
            .collect();
        let found = Calibration::fit(scores.view(), &codes, &|| Ok(())).unwrap();
        assert!((found.scale - 0.4).abs() < 0.06 && found.offset == 0.0, "{found:?}");
    }

    #[test]
    fn what_is_right_or_too_few_stays() {
        let scores = Array2::from_shape_fn((2000, 1), |(row, _)| 4.0 * (uniform(row as u64) as f32 - 0.5));
        let truth = |row: usize| 1.0 / (1.0 + (-f64::from(scores[[row, 0]])).exp());
        let codes: Vec<u32> = (0..2000).map(|row| u32::from(uniform(3_000_000 + row as u64) < truth(row))).collect();
        let fit =
            |rows: usize| Calibration::fit(scores.slice(ndarray::s![..rows, ..]), &codes[..rows], &|| Ok(())).unwrap();
        assert_eq!(fit(2000), Calibration::default());
        assert_eq!(fit(50), Calibration::default());
    }
}
