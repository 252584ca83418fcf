//! A network with one hidden layer, evaluated row by row on sparse features, without a matrix of activations.
//!
//! The first layer sums one row of weights for each non-zero feature, and the gradient updates only those rows.

use ndarray::Array2;

use super::finding::Finding;
use super::targets::Targets;
use kernels::Csr;
use kernels::dot::{axpy_of, dot_of};
use kernels::matrix::{flat, flat_mut};
use kernels::vector::{Vector, dispatch};
use runtime::error::{Error, Result};
use runtime::memory;

/// Floats to which the hidden layer is padded: the widest register.
pub const PAD: usize = 16;
/// Rows to [`assess`] between two checks of the stop flag.
pub const BLOCK: usize = 256;
/// Mean squared length above which all rows are scaled down: the learning rate suits rows of a few dozen features.
const MAX_SQUARED_LENGTH: f64 = 64.0;

/// Features as the first layer reads them.
pub struct Inputs<'a> {
    matrix: &'a Csr,
    /// Factor of every feature.
    scale: f32,
    /// [rows]: squared lengths, scaled.
    squares: Vec<f32>,
}

impl<'a> Inputs<'a> {
    /// Scaled so that the mean squared length is at most 64.
    pub fn new(matrix: &'a Csr) -> Result<Self> {
        Self::with(matrix, |mean| (MAX_SQUARED_LENGTH / mean.max(MAX_SQUARED_LENGTH)).sqrt() as f32)
    }

    /// Other rows, scaled like these.
    pub fn like<'b>(&self, matrix: &'b Csr) -> Result<Inputs<'b>> {
        if matrix.columns != self.matrix.columns {
            return Err(Error::Dimensions { left: self.matrix.columns, right: matrix.columns });
        }
        Inputs::with(matrix, |_| self.scale)
    }

    fn with(matrix: &'a Csr, scale: impl FnOnce(f64) -> f32) -> Result<Self> {
        // The kernels rely on it.
        if matrix.indices.iter().any(|&column| column as usize >= matrix.columns) {
            return Err(Error::Internal("a feature beyond the columns of its matrix".into()));
        }
        let mut squares = Vec::new();
        memory::reserve(&mut squares, matrix.rows())?;
        squares.extend((0..matrix.rows()).map(|row| matrix.row(row).1.iter().map(|x| x * x).sum::<f32>()));
        let mean = squares.iter().map(|&x| f64::from(x)).sum::<f64>() / squares.len().max(1) as f64;
        let scale = scale(mean);
        squares.iter_mut().for_each(|x| *x *= scale * scale);
        Ok(Self { matrix, scale, squares })
    }

    pub fn rows(&self) -> usize {
        self.matrix.rows()
    }

    pub fn columns(&self) -> usize {
        self.matrix.columns
    }

    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        self.matrix.row(row)
    }
}

/// Weights, gradient or momentum.
pub struct Layers {
    /// [columns, hidden]
    pub first: Array2<f32>,
    /// [hidden]
    pub first_bias: Vec<f32>,
    /// [outputs, hidden]
    pub second: Array2<f32>,
    /// [outputs]
    pub second_bias: Vec<f32>,
}

impl Layers {
    pub fn zeros(columns: usize, hidden: usize, outputs: usize) -> Result<Self> {
        let hidden = hidden.next_multiple_of(PAD);
        Ok(Self {
            first: memory::shaped(columns, hidden, memory::zeros(columns * hidden)?)?,
            first_bias: memory::zeros(hidden)?,
            second: memory::shaped(outputs, hidden, memory::zeros(outputs * hidden)?)?,
            second_bias: memory::zeros(outputs)?,
        })
    }

    /// Width of the hidden layer.
    pub fn hidden(&self) -> usize {
        self.first_bias.len()
    }

    fn raw(&self) -> Raw<'_> {
        let Self { first, first_bias, second, second_bias } = self;
        Raw { first: flat(first.view()), first_bias, second: flat(second.view()), second_bias }
    }
}

/// The same as the kernels read it, taken once for many rows.
#[derive(Clone, Copy)]
struct Raw<'a> {
    first: &'a [f32],
    first_bias: &'a [f32],
    second: &'a [f32],
    second_bias: &'a [f32],
}

/// Buffers for one row.
pub struct Scratch {
    hidden: Vec<f32>,
    back: Vec<f32>,
    outputs: Vec<f32>,
}

impl Scratch {
    /// Prediction − label of the last row.
    pub fn residual(&self) -> &[f32] {
        &self.outputs
    }

    pub fn new(layers: &Layers) -> Self {
        let (hidden, outputs) = (layers.hidden(), layers.second_bias.len());
        Self { hidden: vec![0.0; hidden], back: vec![0.0; hidden], outputs: vec![0.0; outputs] }
    }
}

/// `out ← start + factor Σ_i values[i] rows[indices[i]]` for a strip of `W` registers from `j`.
///
/// # Safety
/// The processor has `V`'s instructions; the strip lies within `width`, each index within `rows` [_, width].
#[inline(always)]
unsafe fn gather_strip<V: Vector, const W: usize>(
    (indices, values): (&[u32], &[f32]),
    rows: *const f32,
    width: usize,
    j: usize,
    (factor, start, out): (f32, *const f32, *mut f32),
) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut acc = [V::splat(0.0); W];
        for (&index, &value) in indices.iter().zip(values) {
            let row = rows.add(index as usize * width + j);
            let value = V::splat(value);
            for (w, acc) in acc.iter_mut().enumerate() {
                *acc = value.mul_add(V::load(row.add(w * V::LANES)), *acc);
            }
        }
        for (w, acc) in acc.into_iter().enumerate() {
            let at = j + w * V::LANES;
            acc.mul_add(V::splat(factor), V::load(start.add(at))).store(out.add(at));
        }
    }
}

/// `out ← start + factor Σ_i values[i] rows[indices[i]]`.
///
/// # Safety
/// The processor has `V`'s instructions; each index is one of a row of `rows` [_, out.len()], a multiple of [`PAD`].
#[inline(always)]
unsafe fn gather<V: Vector>(entries: (&[u32], &[f32]), rows: &[f32], factor: f32, start: &[f32], out: &mut [f32]) {
    let width = out.len();
    assert!(start.len() == width && width.is_multiple_of(PAD));
    let ends = (factor, start.as_ptr(), out.as_mut_ptr());
    let mut j = 0;
    // SAFETY: strips end within `width`, a multiple of LANES; the indices are as the caller promises.
    unsafe {
        while j + 4 * V::LANES <= width {
            gather_strip::<V, 4>(entries, rows.as_ptr(), width, j, ends);
            j += 4 * V::LANES;
        }
        while j < width {
            gather_strip::<V, 1>(entries, rows.as_ptr(), width, j, ends);
            j += V::LANES;
        }
    }
}

/// `rows[indices[i]] ← rows[indices[i]] + values[i] x` for a strip of `W` registers from `j`.
///
/// # Safety
/// As of [`gather_strip`].
#[inline(always)]
unsafe fn scatter_strip<V: Vector, const W: usize>(
    (indices, values): (&[u32], &[f32]),
    x: *const f32,
    rows: *mut f32,
    width: usize,
    j: usize,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let x: [V; W] = std::array::from_fn(|w| V::load(x.add(j + w * V::LANES)));
        for (&index, &value) in indices.iter().zip(values) {
            let row = rows.add(index as usize * width + j);
            let value = V::splat(value);
            for (w, x) in x.iter().enumerate() {
                let to = row.add(w * V::LANES);
                value.mul_add(*x, V::load(to)).store(to);
            }
        }
    }
}

/// `rows[indices[i]] ← rows[indices[i]] + values[i] x`.
///
/// # Safety
/// As of [`gather`].
#[inline(always)]
unsafe fn scatter<V: Vector>(entries: (&[u32], &[f32]), x: &[f32], rows: &mut [f32]) {
    let width = x.len();
    assert!(width.is_multiple_of(PAD));
    let mut j = 0;
    // SAFETY: strips end within `width`, a multiple of LANES; the indices are as the caller promises.
    unsafe {
        while j + 4 * V::LANES <= width {
            scatter_strip::<V, 4>(entries, x.as_ptr(), rows.as_mut_ptr(), width, j);
            j += 4 * V::LANES;
        }
        while j < width {
            scatter_strip::<V, 1>(entries, x.as_ptr(), rows.as_mut_ptr(), width, j);
            j += V::LANES;
        }
    }
}

/// `out[r] ← start[r] + rows[r] · x`.
///
/// # Safety
/// The processor has `V`'s instructions.
#[inline(always)]
unsafe fn products<V: Vector>(rows: &[f32], x: &[f32], start: &[f32], out: &mut [f32]) {
    let (width, n) = (x.len(), out.len());
    assert!(rows.len() == n * width && start.len() == n && width.is_multiple_of(PAD));
    for first in (0..n).step_by(4) {
        // SAFETY: the rows lie within `rows`; a short last group repeats its last one.
        unsafe {
            let row: [*const f32; 4] = std::array::from_fn(|r| rows.as_ptr().add((first + r).min(n - 1) * width));
            let mut acc = [V::splat(0.0); 4];
            for j in (0..width).step_by(V::LANES) {
                let v = V::load(x.as_ptr().add(j));
                for r in 0..4 {
                    acc[r] = V::load(row[r].add(j)).mul_add(v, acc[r]);
                }
            }
            let sums = V::sums(acc);
            for ((out, start), sum) in out[first..].iter_mut().zip(&start[first..]).zip(sums) {
                *out = start + sum;
            }
        }
    }
}

/// One row through both layers: `scratch.hidden`, and `scratch.outputs` as its targets leave them: prediction − label.
///
/// # Safety
/// The processor has `V`'s instructions; [`check`] found that all fit each other.
#[inline(always)]
unsafe fn forward<V: Vector>(
    weights: Raw,
    inputs: &Inputs,
    targets: &Targets,
    row: usize,
    scratch: &mut Scratch,
) -> Finding {
    // SAFETY: the inputs' columns are as many as rows of weights, of the scratch's width, as the caller has checked.
    unsafe {
        gather::<V>(inputs.row(row), weights.first, inputs.scale, weights.first_bias, &mut scratch.hidden);
        scratch.hidden.iter_mut().for_each(|x| *x = x.max(0.0));
        products::<V>(weights.second, &scratch.hidden, weights.second_bias, &mut scratch.outputs);
    }
    targets.compare(row, &mut scratch.outputs)
}

/// The gradient at the hidden layer, in `scratch.back`.
///
/// # Safety
/// The processor has `V`'s instructions; [`check`] found that all fit each other.
#[inline(always)]
unsafe fn backward<V: Vector>(weights: Raw, scratch: &mut Scratch) {
    let width = weights.first_bias.len();
    scratch.back.fill(0.0);
    for (&output, row) in scratch.outputs.iter().zip(weights.second.chunks_exact(width)) {
        // SAFETY: both are `width` long, as the caller has checked.
        unsafe { axpy_of::<V>(output, row.as_ptr(), scratch.back.as_mut_ptr(), width) };
    }
    for (back, &hidden) in scratch.back.iter_mut().zip(&scratch.hidden) {
        *back = if hidden > 0.0 { *back } else { 0.0 };
    }
}

/// Checks what the kernels rely on: a row of weights for each column of the inputs, and one width for layers and buffers.
fn check(weights: &Layers, inputs: &Inputs, scratch: &Scratch) {
    let width = weights.hidden();
    assert!(width.is_multiple_of(PAD) && weights.first.dim() == (inputs.columns(), width));
    assert!(scratch.hidden.len() == width && scratch.back.len() == width);
}

/// Rows whose gradients are added up.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    pub rows: &'a [u32],
    pub factor: f32,
    /// Whether residuals are clipped, as in training.
    pub bounded: bool,
}

#[inline(always)]
unsafe fn add_gradient_body<V: Vector, const TILE: usize>(
    weights: &Layers,
    inputs: &Inputs,
    targets: &Targets,
    batch: Batch,
    gradient: &mut Layers,
    scratch: &mut Scratch,
) {
    check(weights, inputs, scratch);
    assert!(gradient.first.dim() == weights.first.dim() && gradient.second.dim() == weights.second.dim());
    let (weights, width) = (weights.raw(), weights.hidden());
    let Layers { first, first_bias, second, second_bias } = gradient;
    let (first, second) = (flat_mut(first.view_mut()), flat_mut(second.view_mut()));
    for &row in batch.rows {
        // SAFETY: the processor has the instructions, as the caller promises; all fit each other, as was checked.
        unsafe {
            forward::<V>(weights, inputs, targets, row as usize, scratch);
            if batch.bounded {
                targets.bound(&mut scratch.outputs);
            }
            scratch.outputs.iter_mut().for_each(|x| *x *= batch.factor);
            backward::<V>(weights, scratch);
            for (&output, to) in scratch.outputs.iter().zip(second.chunks_exact_mut(width)) {
                axpy_of::<V>(output, scratch.hidden.as_ptr(), to.as_mut_ptr(), width);
            }
            second_bias.iter_mut().zip(&scratch.outputs).for_each(|(to, x)| *to += x);
            first_bias.iter_mut().zip(&scratch.back).for_each(|(to, x)| *to += x);
            scratch.back.iter_mut().for_each(|x| *x *= inputs.scale);
            scatter::<V>(inputs.row(row as usize), &scratch.back, first);
        }
    }
}
dispatch! {
    /// `gradient ← gradient + factor Σ ∂loss/∂weights` over the batch.
    pub fn add_gradient(
        weights: &Layers,
        inputs: &Inputs,
        targets: &Targets,
        batch: Batch,
        gradient: &mut Layers,
        scratch: &mut Scratch,
    ) = add_gradient_body
}

/// What [`assess`] computes besides loss, error and margin.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    pub gradient_square: bool,
    /// The gradient that [`Finding::along`] is an inner product with.
    pub along: Option<&'a Layers>,
}

#[inline(always)]
unsafe fn assess_body<V: Vector, const TILE: usize>(
    weights: &Layers,
    inputs: &Inputs,
    targets: &Targets,
    first: usize,
    wanted: Wanted,
    out: &mut [Finding],
    scratch: &mut Scratch,
) {
    check(weights, inputs, scratch);
    let (raw, width) = (weights.raw(), weights.hidden());
    let along = wanted.along.map(|other| {
        assert!(other.first.dim() == weights.first.dim() && other.second.dim() == weights.second.dim());
        other.raw()
    });
    // SAFETY: as long as is said.
    let square = |x: &[f32]| unsafe { dot_of::<V>(x.as_ptr(), x.as_ptr(), x.len()) };
    for (row, found) in (first..).zip(out) {
        // SAFETY: as in `add_gradient_body`.
        unsafe {
            *found = forward::<V>(raw, inputs, targets, row, scratch);
            if wanted.gradient_square || along.is_some() {
                backward::<V>(raw, scratch);
            }
            if wanted.gradient_square {
                let second = found.error * found.error * (square(&scratch.hidden) + 1.0);
                found.gradient_square = second + square(&scratch.back) * (inputs.squares[row] + 1.0);
            }
            if let Some(other) = along {
                let mut along = 0.0;
                for ((&output, to), bias) in
                    scratch.outputs.iter().zip(other.second.chunks_exact(width)).zip(other.second_bias)
                {
                    along += output * (dot_of::<V>(to.as_ptr(), scratch.hidden.as_ptr(), width) + bias);
                }
                // The hidden layer has done its part: its room takes the other gradient's.
                gather::<V>(inputs.row(row), other.first, inputs.scale, other.first_bias, &mut scratch.hidden);
                found.along = along + dot_of::<V>(scratch.hidden.as_ptr(), scratch.back.as_ptr(), width);
            }
        }
    }
}
dispatch! {
    /// Assesses the rows from `first` on, as many as `out` holds.
    pub fn assess(
        weights: &Layers,
        inputs: &Inputs,
        targets: &Targets,
        first: usize,
        wanted: Wanted,
        out: &mut [Finding],
        scratch: &mut Scratch,
    ) = assess_body
}
