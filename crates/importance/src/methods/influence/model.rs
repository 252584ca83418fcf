//! A linear model of classes or numbers: loss, gradient, curvature, fit, and linear systems in the curvature.

use ndarray::{Array2, ArrayView2, Zip, s};

use super::outcomes::Outcomes;
use kernels::Csr;
use kernels::cholesky_f32::{cholesky_apply, cholesky_factor};
use kernels::dense::add_gram;
use kernels::matrix::{flat, flat_mut, rows as rows_of, rows_mut};
use kernels::vector::{Vector, dispatch};
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::parallel::for_each_chunk;
use runtime::progress::Progress;

/// The intercept's share of the penalty.
const INTERCEPT: f64 = 1e-4;
/// Most columns, intercept included, for which a Gram matrix is factored: 16 matrices of this squared, 4 bytes each.
const MAX_FACTORED_COLUMNS: usize = 1024;
/// Rows are summed in parts, the same for any number of threads: multiplications per part, parts, and numbers overall.
const PART: usize = 1 << 22;
const MAX_PARTS: usize = 1024;
const MAX_SUMS: usize = 1 << 23;
/// Parts of a Gram matrix, rows that are dense at a time, and multiplications between two checks for a cancel request.
const GRAM_PARTS: usize = 16;
const GRAM_ROWS: usize = 64;
const GRAM_WORK: usize = 1 << 27;
/// Half the square of a Newton step's length in the curvature's own measure: twice what the loss is above its minimum.
const DECREMENT: f64 = 1e-14;
const MAX_NEWTON_STEPS: usize = 100;
/// Relative residual of a solved system, and the steps after which it is given up.
const RESIDUAL: f64 = 1e-10;
const MAX_STEPS: usize = 2000;

/// Parameters are [columns + 1, outputs]: a row for each feature, and the intercepts.
pub struct Model<'a> {
    matrix: &'a Csr,
    outcomes: Outcomes<'a>,
    outputs: usize,
    regularization: f64,
    threads: usize,
    progress: &'a dyn Progress,
}

/// Input of a pass over the rows, shared by all threads.
struct Rows<'a> {
    matrix: &'a Csr,
    outcomes: Outcomes<'a>,
    parameters: ArrayView2<'a, f64>,
    direction: Option<ArrayView2<'a, f64>>,
}

/// `out ← parametersᵀ (x, 1)`.
#[inline(always)]
fn gather((columns, values): (&[u32], &[f32]), parameters: &[f64], out: &mut [f64]) {
    let k = out.len();
    let intercept = parameters.len() - k;
    if let [out] = out {
        let sum: f64 = columns.iter().zip(values).map(|(&c, &x)| f64::from(x) * parameters[c as usize]).sum();
        *out = parameters[intercept] + sum;
        return;
    }
    out.copy_from_slice(&parameters[intercept..]);
    for (&column, &x) in columns.iter().zip(values) {
        let row = &parameters[column as usize * k..][..k];
        out.iter_mut().zip(row).for_each(|(out, w)| *out += f64::from(x) * w);
    }
}

/// `sums ← sums + (x, 1) sᵀ`.
#[inline(always)]
fn scatter((columns, values): (&[u32], &[f32]), s: &[f64], sums: &mut [f64]) {
    let k = s.len();
    let intercept = sums.len() - k;
    if let [s] = s {
        columns.iter().zip(values).for_each(|(&column, &x)| sums[column as usize] += f64::from(x) * s);
        sums[intercept] += s;
        return;
    }
    for (&column, &x) in columns.iter().zip(values) {
        let row = &mut sums[column as usize * k..][..k];
        row.iter_mut().zip(s).for_each(|(sum, s)| *sum += f64::from(x) * s);
    }
    sums[intercept..].iter_mut().zip(s).for_each(|(sum, s)| *sum += s);
}

#[expect(clippy::extra_unused_type_parameters, reason = "the compiler vectorises for the registers it stands for")]
#[inline(always)]
unsafe fn add_rows_body<V: Vector, const TILE: usize>(rows: &Rows, first: usize, last: usize, sums: &mut [f64]) {
    let outputs = rows.parameters.ncols();
    let (mut z, mut u) = (vec![0.0; outputs], vec![0.0; outputs]);
    let (parameters, direction) = (flat(rows.parameters), rows.direction.map(flat));
    let (loss, sums) = match sums.split_first_mut() {
        Some(parts) => parts,
        None => return,
    };
    for row in first..last {
        let entries = rows.matrix.row(row);
        gather(entries, parameters, &mut z);
        match direction {
            None => {
                *loss += rows.outcomes.residual(row, &mut z);
                scatter(entries, &z, sums);
            }
            Some(direction) => {
                gather(entries, direction, &mut u);
                rows.outcomes.predict(&mut z);
                rows.outcomes.curve(&z, &mut u);
                scatter(entries, &u, sums);
            }
        }
    }
}
dispatch! {
    /// Adds over the rows `first..last`: the loss into the first number, and the gradient into the others; or, towards a direction, the
    /// curvature times the direction into the others.
    fn add_rows(rows: &Rows, first: usize, last: usize, sums: &mut [f64]) = add_rows_body
}

impl<'a> Model<'a> {
    pub fn new(
        matrix: &'a Csr,
        outcomes: Outcomes<'a>,
        regularization: f64,
        threads: usize,
        progress: &'a dyn Progress,
    ) -> Self {
        Self { matrix, outcomes, outputs: outcomes.outputs(), regularization, threads, progress }
    }

    /// Number of parameters.
    fn size(&self) -> usize {
        (self.matrix.columns + 1) * self.outputs
    }

    /// The penalty of each row of parameters.
    fn penalties(&self) -> impl Iterator<Item = f64> {
        let columns = self.matrix.columns;
        let [of_weights, of_intercept] = [self.regularization, self.regularization * INTERCEPT];
        (0..=columns).map(move |row| if row < columns { of_weights } else { of_intercept })
    }

    fn parts(&self, most_sums: usize) -> usize {
        let work = self.matrix.entries().saturating_mul(self.outputs).max(1);
        work.div_ceil(PART).clamp(1, MAX_PARTS.min(most_sums / (self.size() + 1)).max(1))
    }

    /// The mean of [`add_rows`] over all rows.
    fn sum(&self, parameters: ArrayView2<f64>, direction: Option<ArrayView2<f64>>) -> Result<(f64, Array2<f64>)> {
        let (n, width, parts) = (self.matrix.rows(), self.size() + 1, self.parts(MAX_SUMS));
        let rows = Rows { matrix: self.matrix, outcomes: self.outcomes, parameters, direction };
        let mut sums = memory::matrix(parts, width, 0f64)?;
        if parts == 1 {
            // Sooner done than a thread is started.
            self.progress.check()?;
            add_rows(&rows, 0, n, flat_mut(sums.view_mut()));
        } else {
            for_each_chunk(
                flat_mut(sums.view_mut()),
                width,
                self.threads,
                self.progress,
                || (),
                |_, part, sums| {
                    add_rows(&rows, n * part / parts, n * (part + 1) / parts, sums);
                    Ok(())
                },
            )?;
        }
        let mut total = memory::filled(0f64, width)?;
        for sums in rows_of(sums.view()) {
            total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
        }
        total.iter_mut().for_each(|x| *x /= n as f64);
        let loss = total.remove(0);
        Ok((loss, memory::shaped(self.matrix.columns + 1, self.outputs, total)?))
    }

    /// The loss and its gradient.
    pub fn gradient(&self, parameters: ArrayView2<f64>) -> Result<(f64, Array2<f64>)> {
        let (mut loss, mut gradient) = self.sum(parameters, None)?;
        let (w, g) = (rows_of(parameters), rows_mut(gradient.view_mut()));
        for ((w, g), penalty) in w.zip(g).zip(self.penalties()) {
            for (w, g) in w.iter().zip(g) {
                loss += 0.5 * penalty * w * w;
                *g += penalty * w;
            }
        }
        Ok((loss, gradient))
    }

    /// The curvature times `direction`.
    fn product(&self, parameters: ArrayView2<f64>, direction: ArrayView2<f64>) -> Result<Array2<f64>> {
        let mut product = self.sum(parameters, Some(direction))?.1;
        let (d, p) = (rows_of(direction), rows_mut(product.view_mut()));
        for ((d, p), penalty) in d.zip(p).zip(self.penalties()) {
            d.iter().zip(p).for_each(|(d, p)| *p += penalty * d);
        }
        Ok(product)
    }

    /// The parameters that minimise the loss: Newton steps by conjugate gradients, halved until the loss falls.
    pub fn fit(&self) -> Result<Array2<f64>> {
        let mut parameters = memory::matrix(self.matrix.columns + 1, self.outputs, 0f64)?;
        let nearby = Nearby::new(self, parameters.view())?;
        let (mut loss, mut gradient) = self.gradient(parameters.view())?;
        for step in 0..MAX_NEWTON_STEPS {
            self.progress.report("newton steps", step, 0);
            // The closer, the more exact: quadratic convergence (Nocedal, Wright 2006, theorem 7.2).
            let within = inner(&gradient, &gradient).sqrt().clamp(1e-6, 0.1);
            let direction = self.conjugate_gradients(parameters.view(), gradient.view(), &nearby, within)?;
            let decrement = inner(&gradient, &direction);
            if decrement < 2.0 * DECREMENT {
                parameters -= &direction;
                return Ok(parameters);
            }
            let mut length = 1.0;
            loop {
                let tried = Zip::from(&parameters).and(&direction).map_collect(|w, d| w - length * d);
                let (new_loss, new_gradient) = self.gradient(tried.view())?;
                // Close to the minimum the loss no longer shows a fall.
                if new_loss <= loss - 1e-4 * length * decrement || (decrement < 1e-9 && length == 1.0) {
                    (parameters, loss, gradient) = (tried, new_loss, new_gradient);
                    break;
                }
                length *= 0.5;
                if length < 1e-10 {
                    return Err(Error::Internal("the linear model of influence does not converge".into()));
                }
            }
        }
        Err(Error::Internal("the linear model of influence does not converge".into()))
    }

    /// `H⁻¹ b` for the curvature `H` at `parameters`.
    pub fn solve(&self, parameters: ArrayView2<f64>, b: ArrayView2<f64>) -> Result<Array2<f64>> {
        let nearby = Nearby::new(self, parameters)?;
        self.conjugate_gradients(parameters, b, &nearby, RESIDUAL)
    }

    /// Preconditioned conjugate gradients, in the flexible form that tolerates rounding of the preconditioner (Notay 2000).
    fn conjugate_gradients(
        &self,
        at: ArrayView2<f64>,
        b: ArrayView2<f64>,
        nearby: &Nearby,
        within: f64,
    ) -> Result<Array2<f64>> {
        let mut x = memory::matrix(b.nrows(), b.ncols(), 0f64)?;
        let mut residual = b.to_owned();
        let mut z = nearby.solve(residual.view())?;
        let mut direction = z.clone();
        let mut along = inner(&residual, &z);
        let end = dot(flat(b), flat(b)).sqrt() * within;
        for _ in 0..MAX_STEPS {
            if inner(&residual, &residual).sqrt() <= end || along <= 0.0 {
                break;
            }
            let product = self.product(at, direction.view())?;
            let length = along / inner(&direction, &product);
            if !length.is_finite() {
                break;
            }
            x.scaled_add(length, &direction);
            residual.zip_mut_with(&product, |r, p| *r -= length * p);
            let new = nearby.solve(residual.view())?;
            let steps = flat(new.view()).iter().zip(flat(z.view()));
            let change: f64 = flat(residual.view()).iter().zip(steps).map(|(r, (new, old))| r * (new - old)).sum();
            let keep = (change / along).max(0.0);
            direction.zip_mut_with(&new, |d, z| *d = z + keep * *d);
            along = inner(&residual, &new);
            z = new;
        }
        Ok(x)
    }

    /// The inner product of each row's gradient and `u`.
    pub fn along(&self, parameters: ArrayView2<f64>, u: ArrayView2<f64>, out: &mut [f64]) -> Result<()> {
        let entries = self.matrix.entries() / self.matrix.rows().max(1) + 1;
        let chunk = (PART / (entries * self.outputs)).clamp(1, 65_536);
        let (matrix, outcomes, outputs) = (self.matrix, self.outcomes, self.outputs);
        let room = || (vec![0.0; outputs], vec![0.0; outputs]);
        let (parameters, u) = (flat(parameters), flat(u));
        for_each_chunk(out, chunk, self.threads, self.progress, room, |(z, s), number, part| {
            for (row, out) in (number * chunk..).zip(part) {
                gather(matrix.row(row), parameters, z);
                outcomes.residual(row, z);
                gather(matrix.row(row), u, s);
                *out = dot(z, s);
            }
            Ok(())
        })
    }
}

/// The preconditioner, an approximation of the curvature: one block for all classes, `Σ a_i x xᵀ / n + penalties`, for the differences
/// between them, and the penalties alone for their mean, in which the softmax has no curvature.
struct Nearby {
    penalties: Vec<f64>,
    block: Block,
}

enum Block {
    /// As many columns as the model, rounded up to whole registers.
    Factor(Array2<f32>),
    /// [columns + 1]
    Diagonal(Vec<f64>),
}

impl Nearby {
    fn new(model: &Model, parameters: ArrayView2<f64>) -> Result<Self> {
        let columns = model.matrix.columns;
        let width = (columns + 1).next_multiple_of(16);
        let penalties: Vec<f64> = model.penalties().collect();
        let block = match width <= MAX_FACTORED_COLUMNS {
            true => Block::factor(model, parameters, &penalties, width)?,
            false => None,
        };
        let block = match block {
            Some(block) => block,
            None => Block::diagonal(model, parameters, &penalties)?,
        };
        Ok(Self { penalties, block })
    }

    fn solve(&self, b: ArrayView2<f64>) -> Result<Array2<f64>> {
        let (rows, k) = b.dim();
        let mut solution = memory::matrix(rows, k, 0f64)?;
        let (x, b) = (flat_mut(solution.view_mut()), flat(b));
        // Of one output nothing is shared.
        if k > 1 {
            for ((x, b), penalty) in x.chunks_exact_mut(k).zip(b.chunks_exact(k)).zip(&self.penalties) {
                x.fill(b.iter().sum::<f64>() / k as f64 / penalty);
            }
        }
        let own = |row: usize, class: usize| {
            let b = &b[row * k..(row + 1) * k];
            b[class] - if k > 1 { b.iter().sum::<f64>() / k as f64 } else { 0.0 }
        };
        match &self.block {
            Block::Diagonal(diagonal) => {
                for (row, d) in diagonal.iter().enumerate() {
                    (0..k).for_each(|class| x[row * k + class] += own(row, class) / d);
                }
            }
            Block::Factor(factor) => {
                let mut column = vec![0f32; factor.ncols()];
                for class in 0..k {
                    // In single precision, whatever the size of b.
                    let most = (0..rows).fold(0f64, |most, row| most.max(own(row, class).abs()));
                    if most == 0.0 {
                        continue;
                    }
                    column.fill(0.0);
                    (0..rows).for_each(|row| column[row] = (own(row, class) / most) as f32);
                    cholesky_apply(factor.view(), &mut column);
                    (0..rows).for_each(|row| x[row * k + class] += f64::from(column[row]) * most);
                }
            }
        }
        Ok(solution)
    }
}

impl Block {
    /// `None` where the matrix is not positive definite in single precision.
    fn factor(model: &Model, parameters: ArrayView2<f64>, penalties: &[f64], width: usize) -> Result<Option<Self>> {
        let parameters = flat(parameters);
        let (n, columns, outcomes) = (model.matrix.rows(), model.matrix.columns, model.outcomes);
        let matrix = model.matrix;
        let k = model.outputs;
        let mut grams: Vec<Array2<f32>> =
            (0..GRAM_PARTS).map(|_| memory::matrix(width, width, 0f32)).collect::<Result<_>>()?;
        let segment = (GRAM_WORK / (width * width)).max(GRAM_ROWS) * GRAM_PARTS;
        for first in (0..n).step_by(segment) {
            let rows = segment.min(n - first);
            let room = || Ok::<_, Error>((memory::matrix(GRAM_ROWS, width, 0f32)?, memory::filled(0f64, k)?));
            for_each_chunk(&mut grams, 1, model.threads, model.progress, room, |room, part, grams| {
                let (dense, z) = room.as_mut().map_err(|_| Error::Resources("no memory for a block of rows".into()))?;
                let end = first + rows * (part + 1) / GRAM_PARTS;
                for start in (first + rows * part / GRAM_PARTS..end).step_by(GRAM_ROWS) {
                    let count = GRAM_ROWS.min(end - start);
                    let mut dense = dense.slice_mut(s![..count, ..]);
                    dense.fill(0.0);
                    for (row, out) in (start..).zip(rows_mut(dense.view_mut())) {
                        gather(matrix.row(row), parameters, z);
                        outcomes.predict(z);
                        let factor = (outcomes.mean_curve(z) / n as f64).sqrt() as f32;
                        let (columns_of_row, values) = matrix.row(row);
                        columns_of_row.iter().zip(values).for_each(|(&c, &x)| out[c as usize] = factor * x);
                        out[columns] = factor;
                    }
                    grams.iter_mut().for_each(|gram| add_gram(dense.view(), gram.view_mut()));
                }
                Ok(())
            })?;
        }
        let mut parts = grams.into_iter();
        let Some(mut gram) = parts.next() else { return Ok(None) };
        parts.for_each(|part| gram += &part);
        let most = gram.diag().fold(0f32, |most, &x| most.max(x));
        for i in 0..width {
            // The last columns are no features; and a little for what rounding takes.
            gram[[i, i]] += penalties.get(i).map_or(1.0, |&p| p as f32 + 1e-6 * most);
        }
        Ok(cholesky_factor(gram.view_mut()).then_some(Self::Factor(gram)))
    }

    fn diagonal(model: &Model, parameters: ArrayView2<f64>, penalties: &[f64]) -> Result<Self> {
        let mut diagonal = memory::filled(0f64, penalties.len())?;
        let mut z = memory::filled(0f64, model.outputs)?;
        let n = model.matrix.rows();
        for row in 0..n {
            if row % 1024 == 0 {
                model.progress.check()?;
            }
            gather(model.matrix.row(row), flat(parameters), &mut z);
            model.outcomes.predict(&mut z);
            let a = model.outcomes.mean_curve(&z) / n as f64;
            let (columns, values) = model.matrix.row(row);
            columns.iter().zip(values).for_each(|(&c, &x)| diagonal[c as usize] += a * f64::from(x) * f64::from(x));
            diagonal[model.matrix.columns] += a;
        }
        diagonal.iter_mut().zip(penalties).for_each(|(d, p)| *d += p);
        Ok(Self::Diagonal(diagonal))
    }
}

fn inner(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    dot(flat(a.view()), flat(b.view()))
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
