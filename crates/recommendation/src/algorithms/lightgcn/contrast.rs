//! InfoNCE between two views of the same rows, and its gradient, without ever holding all pairs.
//!
//! `ℓ = mean_a [ −s_aa / τ + ln Σ_b exp(s_ab / τ) ]`, `s_ab` the cosine of row `a` of the first view and row `b` of the second
//! (Yu et al. 2022, eq. 8). With `P_ab = exp(s_ab / τ) / Σ_b exp(s_ab / τ)` and unit rows `â`, `b̂`,
//! `∂ℓ/∂â = (P b̂ − b̂) / (n τ)` and `∂ℓ/∂b̂ = (Pᵀ â − â) / (n τ)`: three products of n · n · d, of blocks of rows that stay in
//! the second-level cache, on all threads.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, s};

use kernels::dot::{dot, tile_product};
use kernels::matrix::{flat, flat_mut};
use kernels::vector::{Vector, dispatch};
use runtime::error::Result;
use runtime::memory;
use runtime::parallel::for_each_chunk;
use runtime::progress::Progress;

/// Rows of the first view whose gradients by the second are summed up together; fixed, so that sums do not depend on threads.
const PART: usize = 256;
/// Rows whose exponentials are held at once: 32 · 2048 floats are 256 KB.
const BLOCK: usize = 32;
/// Columns to which a block is padded: the widest tile.
const COLUMNS: usize = 64;

/// Memory of [`info_nce`] between its calls.
#[derive(Default)]
pub struct Scratch {
    a: Array2<f32>,
    b: Array2<f32>,
    /// [d, padded]: `b` by columns.
    packed: Array2<f32>,
    gradient_a: Array2<f32>,
    /// [parts · padded, d]
    gradient_b: Array2<f32>,
    lengths: [Vec<f32>; 2],
}

struct Part<'a> {
    first: usize,
    /// [rows, d]
    gradient_a: ArrayViewMut2<'a, f32>,
    /// [padded, d]
    gradient_b: ArrayViewMut2<'a, f32>,
    loss: f64,
}

/// Two views of the same rows, and what their gradients are added to. There are a multiple of 32 columns.
pub struct Contrast<'a> {
    pub views: [ArrayView2<'a, f32>; 2],
    pub gradients: [ArrayViewMut2<'a, f32>; 2],
    pub temperature: f32,
    /// What the loss counts in the gradients.
    pub weight: f32,
}

/// Adds the weighted gradients, and returns the loss (not weighted).
pub fn info_nce(contrast: Contrast, scratch: &mut Scratch, threads: usize, progress: &dyn Progress) -> Result<f64> {
    let Contrast { views, gradients, temperature, weight } = contrast;
    let (n, d) = views[0].dim();
    if n == 0 {
        return Ok(0.0);
    }
    let padded = n.next_multiple_of(COLUMNS);
    let parts = n.div_ceil(PART);
    for (matrix, rows, columns) in [
        (&mut scratch.a, n, d),
        (&mut scratch.b, n, d),
        (&mut scratch.packed, d, padded),
        (&mut scratch.gradient_a, n, d),
        (&mut scratch.gradient_b, parts * padded, d),
    ] {
        memory::renew(matrix, rows, columns, 0.0)?;
    }
    let [length_a, length_b] = &mut scratch.lengths;
    normalize(views[0], scratch.a.view_mut(), length_a);
    normalize(views[1], scratch.b.view_mut(), length_b);
    let packed = flat_mut(scratch.packed.view_mut());
    for (row, b) in flat(scratch.b.view()).chunks_exact(d).enumerate() {
        b.iter().enumerate().for_each(|(k, &x)| packed[k * padded + row] = x);
    }
    let packed = &*packed;

    let (a, b) = (scratch.a.view(), scratch.b.view());
    let parts_a = scratch.gradient_a.axis_chunks_iter_mut(Axis(0), PART);
    let parts_b = scratch.gradient_b.axis_chunks_iter_mut(Axis(0), padded);
    let mut tasks: Vec<Part> = parts_a
        .zip(parts_b)
        .enumerate()
        .map(|(p, (gradient_a, gradient_b))| Part { first: p * PART, gradient_a, gradient_b, loss: 0.0 })
        .collect();
    let work = |exponentials: &mut Array2<f32>, _: usize, tasks: &mut [Part]| {
        for task in tasks {
            let rows = flat(a.slice(s![task.first..task.first + task.gradient_a.nrows(), ..]));
            let exponentials = flat_mut(exponentials.view_mut());
            task.loss = part_of_views(rows, flat(b), packed, task, exponentials, d, 1.0 / temperature);
        }
        Ok(())
    };
    for_each_chunk(&mut tasks, 1, threads, progress, || Array2::zeros((BLOCK, padded)), work)?;
    let loss: f64 = tasks.iter().map(|task| task.loss).sum();

    let scale = weight / (temperature * n as f32);
    let [to_a, to_b] = gradients;
    back_through_norm(scratch.gradient_a.view(), a, length_a, scale, to_a);
    let (sum, rest) = scratch.gradient_b.view_mut().split_at(Axis(0), padded);
    let sum = flat_mut(sum);
    for part in flat(rest.view()).chunks_exact(padded * d) {
        sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
    }
    back_through_norm(scratch.gradient_b.slice(s![..n, ..]), b, length_b, scale, to_b);
    Ok(loss / n as f64)
}

/// Rows of unit length, and their lengths; rows of zeros stay zeros.
fn normalize(view: ArrayView2<f32>, unit: ArrayViewMut2<f32>, lengths: &mut Vec<f32>) {
    lengths.clear();
    let d = view.ncols();
    for (row, unit) in flat(view).chunks_exact(d).zip(flat_mut(unit).chunks_exact_mut(d)) {
        let length = dot(row, row).sqrt();
        lengths.push(length);
        if length > 0.0 {
            unit.iter_mut().zip(row).for_each(|(u, x)| *u = x / length);
        }
    }
}

/// `to += scale · (g − (g · û) û) / length`
fn back_through_norm(
    gradient: ArrayView2<f32>,
    unit: ArrayView2<f32>,
    lengths: &[f32],
    scale: f32,
    to: ArrayViewMut2<f32>,
) {
    let d = gradient.ncols();
    let rows = flat(gradient).chunks_exact(d).zip(flat(unit).chunks_exact(d)).zip(flat_mut(to).chunks_exact_mut(d));
    for (((g, u), to), &length) in rows.zip(lengths) {
        if length > 0.0 {
            let (along, scale) = (dot(g, u), scale / length);
            to.iter_mut().zip(g).zip(u).for_each(|((to, g), u)| *to += scale * (g - along * u));
        }
    }
}

/// `e^x` for x from −87 to 0 within 2 units in the last place of an `f32`: 2^n times a polynomial (Cephes' expf).
#[inline(always)]
fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: adding it leaves no fraction
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let p = 1.987_569_1e-4 * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 0.166_666_65;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    p * f32::from_bits(((n as i32 + 127) << 23) as u32)
}

#[inline(always)]
unsafe fn part_body<V: Vector, const TILE: usize>(
    rows: &[f32],
    b: &[f32],
    packed: &[f32],
    part: &mut Part,
    exponentials: &mut [f32],
    d: usize,
    sharpness: f32,
) -> f64 {
    let n = b.len() / d;
    let padded = packed.len() / d;
    assert!(padded.is_multiple_of(COLUMNS) && padded >= n && exponentials.len() == BLOCK * padded);
    let (gradient_a, gradient_b) = (flat_mut(part.gradient_a.view_mut()), flat_mut(part.gradient_b.view_mut()));
    assert!(d.is_multiple_of(32) && gradient_a.len() == rows.len() && gradient_b.len() == padded * d);
    let strip = TILE * V::LANES;
    let mut loss = 0.0;
    for (block, rows) in rows.chunks(BLOCK * d).enumerate() {
        let count = rows.len() / d;
        // A short last group of four repeats its last row; the copies go to lines of the block that nobody reads.
        for group in (0..count).step_by(4) {
            // SAFETY: rows lie within `rows`, strips within `packed` and the block, whose height is a multiple of four.
            unsafe {
                let from: [*const f32; 4] = std::array::from_fn(|r| rows.as_ptr().add((group + r).min(count - 1) * d));
                for j in (0..padded).step_by(strip) {
                    let acc = tile_product::<V, 4, TILE>(from, packed.as_ptr().add(j), d, padded);
                    for (r, acc) in acc.iter().enumerate() {
                        for (w, v) in acc.iter().enumerate() {
                            v.store(exponentials.as_mut_ptr().add((group + r) * padded + j + w * V::LANES));
                        }
                    }
                }
            }
        }
        for (r, line) in exponentials.chunks_exact_mut(padded).take(count).enumerate() {
            let own = block * BLOCK + r + part.first;
            let cosine = line[own];
            // Cosines are at most 1, so that no greatest one need be looked for.
            let mut sums = [0f32; 16];
            for lanes in line.chunks_exact_mut(16) {
                for (x, sum) in lanes.iter_mut().zip(&mut sums) {
                    *x = exp(((*x - 1.0) * sharpness).clamp(-87.0, 0.0));
                    *sum += *x;
                }
            }
            line[n..].iter().zip(n..).for_each(|(x, column)| sums[column % 16] -= x);
            line[n..].fill(0.0);
            let total: f32 = sums.iter().sum();
            loss += f64::from((1.0 - cosine) * sharpness + total.ln());
            let inverse = 1.0 / total;
            line.iter_mut().for_each(|x| *x *= inverse);
            line[own] -= 1.0;
        }
        let gradient_a = &mut gradient_a[block * BLOCK * d..][..rows.len()];
        for group in (0..count).step_by(4) {
            // SAFETY: lines and strips lie within the block and `b`; only rows that exist are written.
            unsafe {
                let from: [*const f32; 4] =
                    std::array::from_fn(|r| exponentials.as_ptr().add((group + r).min(count - 1) * padded));
                let mut j = 0;
                while j < d {
                    let wide = j + strip <= d;
                    if wide {
                        let acc = tile_product::<V, 4, TILE>(from, b.as_ptr().add(j), n, d);
                        put(&acc, gradient_a, group, count, d, j);
                        j += strip;
                    } else {
                        let acc = tile_product::<V, 4, 1>(from, b.as_ptr().add(j), n, d);
                        put(&acc, gradient_a, group, count, d, j);
                        j += V::LANES;
                    }
                }
            }
        }
        for column in (0..padded).step_by(4) {
            // SAFETY: `padded` is a multiple of four; strips lie within the rows and the gradient.
            unsafe {
                let from = exponentials.as_ptr().add(column);
                let to = gradient_b.as_mut_ptr().add(column * d);
                let mut j = 0;
                while j < d {
                    if j + strip <= d {
                        add_transposed::<V, TILE>(from, padded, rows.as_ptr().add(j), to.add(j), count, d);
                        j += strip;
                    } else {
                        add_transposed::<V, 1>(from, padded, rows.as_ptr().add(j), to.add(j), count, d);
                        j += V::LANES;
                    }
                }
            }
        }
    }
    loss
}
dispatch! {
    fn part_of_views(
        rows: &[f32],
        b: &[f32],
        packed: &[f32],
        part: &mut Part,
        exponentials: &mut [f32],
        d: usize,
        sharpness: f32,
    ) -> f64 = part_body
}

/// # Safety
/// The processor must have `V`'s instructions; the strip must lie within `d`.
#[inline(always)]
unsafe fn put<V: Vector, const W: usize>(
    acc: &[[V; W]; 4],
    to: &mut [f32],
    first: usize,
    rows: usize,
    d: usize,
    j: usize,
) {
    for (r, acc) in acc.iter().enumerate().take(rows - first) {
        for (w, v) in acc.iter().enumerate() {
            let to = &mut to[(first + r) * d + j + w * V::LANES..][..V::LANES];
            // SAFETY: the slice has LANES floats.
            unsafe { v.store(to.as_mut_ptr()) };
        }
    }
}

/// `to[c] += Σ_r from[r, c] · rows[r]` for four columns `c` and a strip of `W` registers.
///
/// # Safety
/// `from` is valid for `count` lines of `stride` and four columns, `rows` and `to` for strips of rows of `d`.
#[inline(always)]
unsafe fn add_transposed<V: Vector, const W: usize>(
    from: *const f32,
    stride: usize,
    rows: *const f32,
    to: *mut f32,
    count: usize,
    d: usize,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut acc = [[V::splat(0.0); W]; 4];
        for (c, acc) in acc.iter_mut().enumerate() {
            for (w, v) in acc.iter_mut().enumerate() {
                *v = V::load(to.add(c * d + w * V::LANES));
            }
        }
        for r in 0..count {
            let mut row = [V::splat(0.0); W];
            for (w, v) in row.iter_mut().enumerate() {
                *v = V::load(rows.add(r * d + w * V::LANES));
            }
            for (c, acc) in acc.iter_mut().enumerate() {
                let x = V::splat(*from.add(r * stride + c));
                for (acc, &row) in acc.iter_mut().zip(&row) {
                    *acc = x.mul_add(row, *acc);
                }
            }
        }
        for (c, acc) in acc.iter().enumerate() {
            for (w, v) in acc.iter().enumerate() {
                v.store(to.add(c * d + w * V::LANES));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::progress::Unwatched;

    fn view(n: usize, d: usize, seed: u64) -> Array2<f32> {
        let value = |i| (runtime::draw::mix(seed << 32 | i as u64) >> 40) as f32 / (1 << 23) as f32 - 1.0;
        Array2::from_shape_fn((n, d), |(row, k)| value(row * d + k))
    }

    fn exact(a: &Array2<f32>, b: &Array2<f32>, temperature: f64) -> f64 {
        let (n, d) = a.dim();
        let (a, b) = (flat(a.view()), flat(b.view()));
        let cosine = |x: &[f32], y: &[f32]| {
            let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
            dot(x, y) / (dot(x, x) * dot(y, y)).sqrt()
        };
        let loss = a.chunks(d).zip(b.chunks(d)).map(|(x, own)| {
            let sum: f64 = b.chunks(d).map(|y| (cosine(x, y) / temperature).exp()).sum();
            sum.ln() - cosine(x, own) / temperature
        });
        loss.sum::<f64>() / n as f64
    }

    #[test]
    fn the_exponential_is_that_of_the_library() {
        for i in 0..=8700 {
            let x = -(i as f32) / 100.0;
            assert!((exp(x) - x.exp()).abs() <= 4e-7 * x.exp(), "{x}: {} {}", exp(x), x.exp());
        }
    }

    #[test]
    fn loss_and_gradient_are_those_of_the_formula_on_any_number_of_threads() {
        for (n, d) in [(1, 32), (5, 64), (70, 32), (301, 96)] {
            let (a, b) = (view(n, d, 1), view(n, d, 2));
            let run = |threads| {
                let (mut da, mut db) = (Array2::zeros((n, d)), Array2::zeros((n, d)));
                let mut scratch = Scratch::default();
                let (views, gradients) = ([a.view(), b.view()], [da.view_mut(), db.view_mut()]);
                let contrast = Contrast { views, gradients, temperature: 0.2, weight: 1.0 };
                let loss = info_nce(contrast, &mut scratch, threads, &Unwatched).unwrap();
                (loss, da, db)
            };
            let (loss, da, db) = run(1);
            assert!(run(3) == (loss, da.clone(), db.clone()));
            assert!((loss - exact(&a, &b, 0.2)).abs() < 1e-4, "{loss}");
            for at in [0, n * d / 3, n * d - 1] {
                let h = 1e-3;
                let place = [at / d, at % d];
                let shifted = |x: &Array2<f32>, by: f32| {
                    let mut x = x.clone();
                    x[place] += by;
                    x
                };
                let slope = |f: &dyn Fn(f32) -> f64| (f(h) - f(-h)) / f64::from(2.0 * h);
                let slope_a = slope(&|by| exact(&shifted(&a, by), &b, 0.2));
                let slope_b = slope(&|by| exact(&a, &shifted(&b, by), 0.2));
                assert!((f64::from(da[place]) - slope_a).abs() < 1e-4, "{n} {at}: {} {slope_a}", da[place]);
                assert!((f64::from(db[place]) - slope_b).abs() < 1e-4, "{n} {at}: {} {slope_b}", db[place]);
            }
        }
    }
}
