//! Calibration of class frequencies. Training leaves them slightly off, since the latent vectors that rows are drawn
//! from differ from those of training. Adjusting the last layer's biases corrects this and keeps what depends on the
//! latent vector: `b_c ← b_c + ln (share of c in the rows / mean of softmax(o + b)_c)`, repeated, which is iterative
//! proportional fitting (Deming, Stephan 1940) of one margin at a time.

use ndarray::ArrayView2;

use super::Encoding;
use kernels::matrix::rows as rows_of;
use neural::elementary::fast_softmax;
use runtime::error::Result;
use runtime::progress::Progress;

const ROUNDS: usize = 20;
/// Maximum number of outputs that are used.
const OUTPUTS: usize = 1 << 21;
/// Maximum change of a bias in a round.
const MAX_SHIFT: f64 = 1.0;

/// Number of rows of outputs that are used.
pub fn rows(encoding: &Encoding) -> usize {
    (OUTPUTS / encoding.columns.max(1)).clamp(256, 8192)
}

/// Rows of one pass through a network with this many parameters: some milliseconds, between two checks for a cancel
/// request.
pub fn together(parameters: usize) -> usize {
    ((1 << 27) / parameters.max(1)).clamp(1, 512)
}

/// The corrections of the biases of all classes, from outputs [n, _] for latent vectors as rows are drawn from.
pub fn shifts(encoding: &Encoding, outputs: ArrayView2<f32>, progress: &dyn Progress) -> Result<Vec<f32>> {
    let mut shifts = vec![0f32; encoding.columns];
    for head in &encoding.heads {
        let rows: u64 = head.counts.iter().sum();
        let classes = head.first..head.first + head.classes.len();
        let (mut shares, mut sums) = (vec![0f32; classes.len()], vec![0f64; classes.len()]);
        for _ in 0..ROUNDS {
            progress.check()?;
            sums.fill(0.0);
            for row in rows_of(outputs) {
                let all = row[classes.clone()].iter().zip(&shifts[classes.clone()]);
                shares.iter_mut().zip(all).for_each(|(share, (o, b))| *share = o + b);
                fast_softmax(&mut shares);
                sums.iter_mut().zip(&shares).for_each(|(sum, &share)| *sum += f64::from(share));
            }
            let n = outputs.nrows() as f64;
            for ((shift, sum), &count) in shifts[classes.clone()].iter_mut().zip(&sums).zip(&head.counts) {
                let far = (count as f64 / rows as f64).ln() - (sum / n).max(1e-12).ln();
                *shift += far.clamp(-MAX_SHIFT, MAX_SHIFT) as f32;
            }
        }
    }
    Ok(shifts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::modes::{Class, Head};
    use ndarray::Array2;
    use runtime::draw::uniform;
    use runtime::progress::Unwatched;

    #[test]
    fn classes_come_up_as_often_as_they_should_and_their_order_stays() {
        let head = |first: usize, counts: Vec<u64>| Head {
            first,
            classes: (0..counts.len() as u32).map(Class::Code).collect(),
            counts,
            number: None,
            category: true,
        };
        let heads = vec![head(0, vec![700, 290, 10]), head(3, vec![500, 500])];
        let encoding = Encoding { heads, columns: 5, ..Encoding::default() };
        let (n, width) = (4000, 8);
        let output = |(row, c)| 3.0 * uniform(1, (row * width + c) as u64) + c as f32;
        let outputs = Array2::from_shape_fn((n, width), output);
        let shifts = shifts(&encoding, outputs.view(), &Unwatched).unwrap();
        for head in &encoding.heads {
            let k = head.classes.len();
            let mut means = vec![0f64; k];
            for row in outputs.rows() {
                let mut shares: Vec<f32> = (head.first..head.first + k).map(|c| row[c] + shifts[c]).collect();
                fast_softmax(&mut shares);
                means.iter_mut().zip(&shares).for_each(|(mean, &share)| *mean += f64::from(share) / n as f64);
            }
            let rows: u64 = head.counts.iter().sum();
            for (mean, &count) in means.iter().zip(&head.counts) {
                assert!((mean - count as f64 / rows as f64).abs() < 1e-3, "{means:?}");
            }
        }
    }
}
