//! Forward passes through trained layers, for serving: on the project's own kernels, without a thread or an allocation.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};

use kernels::dot::tile_product;
use kernels::matrix::{flat, flat_mut, rows_mut};
use kernels::vector::{Vector, dispatch};

/// Floats to which widths are padded: the widest register.
pub const PAD: usize = 16;

/// A layer whose width is padded with zeros, and whose inputs are as wide as the padded layer before.
pub struct Dense {
    /// [inputs, outputs]; the outputs are a multiple of [`PAD`].
    weight: Array2<f32>,
    /// [outputs]
    bias: Vec<f32>,
}

impl Dense {
    /// From `weight` [rows, columns] and `bias` [columns], for inputs that are `inputs` wide, the last of them zeros.
    pub fn new(inputs: usize, weight: ArrayView2<f32>, bias: &[f32]) -> Self {
        let (rows, columns) = weight.dim();
        let outputs = columns.next_multiple_of(PAD);
        let mut padded = Array2::zeros((inputs, outputs));
        padded.slice_mut(s![..rows, ..columns]).assign(&weight);
        let mut padded_bias = vec![0.0; outputs];
        padded_bias[..columns].copy_from_slice(&bias[..columns]);
        Self { weight: padded, bias: padded_bias }
    }

    pub fn inputs(&self) -> usize {
        self.weight.nrows()
    }

    pub fn outputs(&self) -> usize {
        self.weight.ncols()
    }

    /// `out ← x W + b` for x [rows, inputs] and out [rows, outputs], below 0 cut off where `relu`. A row's result depends on
    /// that row alone.
    pub fn forward(&self, x: ArrayView2<f32>, relu: bool, mut out: ArrayViewMut2<f32>) {
        assert_eq!((x.dim(), out.ncols()), ((out.nrows(), self.inputs()), self.outputs()));
        multiply(flat(x), flat(self.weight.view()), self.inputs(), self.outputs(), flat_mut(out.view_mut()));
        let least = if relu { 0.0 } else { f32::NEG_INFINITY };
        for row in rows_mut(out.view_mut()) {
            row.iter_mut().zip(&self.bias).for_each(|(y, b)| *y = (*y + b).max(least));
        }
    }
}

#[inline(always)]
unsafe fn multiply_body<V: Vector, const TILE: usize>(x: &[f32], weight: &[f32], k: usize, n: usize, out: &mut [f32]) {
    assert!(n.is_multiple_of(PAD) && n > 0);
    assert_eq!(weight.len(), k * n);
    let rows = out.len() / n;
    assert_eq!((x.len(), out.len()), (rows * k, rows * n));
    for first in (0..rows).step_by(4) {
        let count = (rows - first).min(4);
        // SAFETY: the rows lie within `x`, a short last group repeats its last one; the strips lie within `weight` and `out`.
        unsafe {
            let a: [*const f32; 4] = std::array::from_fn(|r| x.as_ptr().add((first + r.min(count - 1)) * k));
            let mut j = 0;
            while j + TILE * V::LANES <= n {
                let acc = tile_product::<V, 4, TILE>(a, weight.as_ptr().add(j), k, n);
                for (r, row) in acc.iter().enumerate().take(count) {
                    for (w, v) in row.iter().enumerate() {
                        v.store(out.as_mut_ptr().add((first + r) * n + j + w * V::LANES));
                    }
                }
                j += TILE * V::LANES;
            }
            while j < n {
                let acc = tile_product::<V, 4, 1>(a, weight.as_ptr().add(j), k, n);
                for (r, row) in acc.iter().enumerate().take(count) {
                    row[0].store(out.as_mut_ptr().add((first + r) * n + j));
                }
                j += V::LANES;
            }
        }
    }
}
dispatch! {
    /// `out ← x · weight` for x [rows, k] and weight [k, n]; `n` is a multiple of [`PAD`].
    fn multiply(x: &[f32], weight: &[f32], k: usize, n: usize, out: &mut [f32]) = multiply_body
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::draw::uniform;

    #[test]
    fn a_padded_layer_gives_what_the_layer_gives_and_zeros() {
        for (rows, inputs, columns) in [(1, 3, 5), (7, 16, 16), (9, 20, 70), (4, 0, 8)] {
            let drawn = |rows: usize, columns: usize, seed| {
                Array2::from_shape_fn((rows, columns), |(i, j)| uniform(seed, (i * columns + j) as u64))
            };
            let (x, w, b) = (drawn(rows, inputs, 1), drawn(inputs, columns, 2), drawn(1, columns, 3));
            let dense = Dense::new(inputs, w.view(), flat(b.view()));
            let mut out = Array2::from_elem((rows, dense.outputs()), f32::NAN);
            dense.forward(x.view(), true, out.view_mut());
            for ((r, c), &y) in out.indexed_iter() {
                let sum = |c: usize| b[[0, c]] + (0..inputs).map(|k| x[[r, k]] * w[[k, c]]).sum::<f32>();
                let expected = if c < columns { sum(c).max(0.0) } else { 0.0 };
                assert!((y - expected).abs() < 1e-5);
            }
        }
    }
}
