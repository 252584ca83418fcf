//! iALS: implicit alternating least squares.
//!
//! Minimises over user factors `x_u` and item factors `y_i`, `d` long,
//! `Σ_{(u,i) observed} c_ui (1 − x_u·y_i)² + α₀ Σ_u Σ_i (x_u·y_i)² + Σ_u λ_u ‖x_u‖² + Σ_i λ_i ‖y_i‖²`,
//! `λ_u = λ (n_u + α₀ |I|)^ν` and `λ_i = λ (n_i + α₀ |U|)^ν`, where `n` counts a row's interactions.
//!
//! Sources: Hu, Koren, Volinsky, "Collaborative filtering for implicit feedback datasets" (ICDM 2008), eq. 3 to 5, for the
//! model, the confidences and the Gram trick; Rendle, Krichene, Zhang, Koren, "Revisiting the performance of iALS on item
//! recommendation benchmarks" (RecSys 2022), eq. 1, 4 and 5, for this parametrisation: `unobserved_weight` is α₀,
//! `frequency_exponent` is ν, `regularization` is λ; Takács and others (RecSys 2011) for the conjugate gradients ([`solve`]).
//!
//! A sweep costs O(nnz · d · steps + (|U| + |I|) d²) time; memory is the interactions twice and the factors once.

mod graph;
mod ranker;
mod solve;
mod sweep;

use serde_json::{Map, Value, json};

use self::solve::Problem;
use self::sweep::{Basis, Side};
use super::options::Options;
use super::quantized;
use super::store::DataWriter;
use super::trainer::{Parts, Training, user_counts};
use super::weighting::Weighting;
use crate::error::{Error, Result};
use crate::interactions::Csr;
use crate::progress::Progress;

pub use ranker::IalsRanker;

/// Steps of conjugate gradients in a half-sweep: each starts from the last sweep's solution, well preconditioned. A third step
/// changed the loss by less than 1e-4 of it on MovieLens 1M, Gowalla and Complete Journey.
const STEPS: usize = 2;
/// The last half-sweep, over the users, runs until the residual's energy is this share of the solution's, so that a stored
/// user's factors are those of the same history folded in.
const TOLERANCE: f32 = 1e-11;

/// See [`default_unobserved_weight`].
const UNOBSERVED_SHARE: f64 = 30.0;
const UNOBSERVED_MOST: f64 = 0.5;

/// The model's parameters, of which folding in needs all but the first three.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameters {
    factors: usize,
    iterations: usize,
    seed: u64,
    weighting: Weighting,
    /// λ
    regularization: f32,
    /// α₀
    unobserved_weight: f32,
    /// ν
    frequency_exponent: f32,
}

impl Parameters {
    /// `interactions` are for the default of `unobserved_weight`; a stored model's options have it.
    fn read(options: &mut Options, interactions: Option<&Csr>) -> Result<Self> {
        let weighting = Weighting::read(options)?;
        let unobserved = || interactions.map_or(1.0, |matrix| default_unobserved_weight(matrix, weighting));
        Ok(Self {
            factors: options.integer("factors", 64, 1, 1024)? as usize,
            iterations: options.integer("iterations", 15, 1, 1000)? as usize,
            seed: options.integer("seed", 0, 0, u64::MAX)?,
            weighting,
            regularization: options.float("regularization", 0.006, 1e-9, 1e6)?,
            unobserved_weight: options.float_or("unobserved_weight", unobserved, 1e-9, 1e6)?,
            frequency_exponent: options.float("frequency_exponent", 1.0, 0.0, 2.0)?,
        })
    }

    /// λ of a row with `interactions` of the `columns` there are.
    fn lambda(&self, interactions: usize, columns: usize) -> f32 {
        let (n, all) = (interactions as f32, columns as f32);
        self.regularization * (n + self.unobserved_weight * all).powf(self.frequency_exponent)
    }

    fn lambdas(&self, matrix: &Csr) -> Vec<f32> {
        let counts = matrix.indptr.windows(2).map(|w| (w[1] - w[0]) as usize);
        counts.map(|n| self.lambda(n, matrix.columns)).collect()
    }
}

/// All pairs together weigh [`UNOBSERVED_SHARE`] times the observed ones, but a pair at most [`UNOBSERVED_MOST`] times the mean
/// confidence: from 0.02 to 0.5 on data of densities from 0.0007 to 0.04, near the best of a grid on each of them.
fn default_unobserved_weight(matrix: &Csr, weighting: Weighting) -> f64 {
    let total: f64 = matrix.values.iter().map(|&w| f64::from(weighting.confidence(w))).sum();
    let (observed, pairs) = (matrix.entries() as f64, matrix.rows() as f64 * matrix.columns as f64);
    (UNOBSERVED_SHARE * total / pairs).min(UNOBSERVED_MOST * total / observed)
}

pub fn train(training: &Training, mut options: Options) -> Result<Parts> {
    let parameters = Parameters::read(&mut options, Some(&training.interactions.by_user))?;
    let options = options.finish()?;
    let Trainer { users, items, basis, loss } = Trainer::run(training, &parameters)?;

    let d = parameters.factors;
    let item_factors = unpadded(&items);
    let popularity = user_counts(training.interactions);
    let graph = graph::write(&parameters, &item_factors, &basis.eigenvalues[..d]);
    let mut data = DataWriter::default();
    data.tensor("user_factors", &[users.matrix.rows(), d], unpadded(&users));
    quantized::write(&mut data, "item_factors", &item_factors, d, training)?;
    let mut figures = Map::new();
    figures.insert("loss".into(), json!(loss));
    Ok(Parts { options, graph, data, figures, popularity })
}

fn unpadded(side: &Side) -> Vec<f32> {
    side.factors.chunks_exact(side.stride).flat_map(|row| &row[..side.width]).copied().collect()
}

/// Both sides after training; the items, and with them the users, are in the eigenbasis of the items' Gram matrix.
struct Trainer {
    users: Side,
    items: Side,
    basis: Basis,
    loss: f64,
}

impl Trainer {
    fn run(training: &Training, parameters: &Parameters) -> Result<Self> {
        let Training { interactions, threads, progress, .. } = *training;
        let mut confidences = interactions.by_user.clone();
        confidences.values.iter_mut().for_each(|w| *w = parameters.weighting.confidence(*w));
        let transposed = confidences.transpose(progress)?;
        progress.check()?;
        let lambda = (parameters.lambdas(&confidences), parameters.lambdas(&transposed));
        let mut users = Side::new(confidences, lambda.0, parameters.factors)?;
        let mut items = Side::new(transposed, lambda.1, parameters.factors)?;

        // Uniform with the standard deviation 0.1 / √d of Rendle 2022, §4.1.
        let scale = 0.1 * (3.0 / parameters.factors as f32).sqrt();
        users.randomize(scale, parameters.seed, threads, progress)?;
        let mut basis = users.diagonalize(threads, progress)?;
        for iteration in 0..parameters.iterations {
            let last = iteration + 1 == parameters.iterations;
            progress.report("ials sweeps", iteration, parameters.iterations);
            half_sweep(&mut items, &users, &basis, parameters, false, training)?;
            basis = items.diagonalize(threads, progress)?;
            half_sweep(&mut users, &items, &basis, parameters, last, training)?;
            if !last {
                basis = users.diagonalize(threads, progress)?;
            }
        }
        progress.report("ials sweeps", parameters.iterations, parameters.iterations);
        let loss = loss(&users, &items, &basis, parameters, progress)?;
        if !loss.is_finite() {
            let hint = "Raise regularization or unobserved_weight, or use smaller weights.";
            return Err(Error::argument("the training loss", loss, hint));
        }
        Ok(Self { users, items, basis, loss })
    }
}

/// Improves `side` given `other`, which is in `basis`; to convergence when it is the `last`.
fn half_sweep(
    side: &mut Side,
    other: &Side,
    basis: &Basis,
    parameters: &Parameters,
    last: bool,
    training: &Training,
) -> Result<()> {
    let dense: Vec<f32> = basis.eigenvalues.iter().map(|&e| parameters.unobserved_weight * e).collect();
    let (steps, tolerance) = if last { (4 * side.width.max(8), TOLERANCE) } else { (STEPS, 0.0) };
    let problem = Problem { factors: &other.factors, dense: &dense, steps, tolerance };
    side.solve(&problem, basis, training.threads, training.progress)
}

/// The objective at the top of this file. The users' dense term needs only the diagonal of the items' Gram matrix.
fn loss(users: &Side, items: &Side, basis: &Basis, parameters: &Parameters, progress: &dyn Progress) -> Result<f64> {
    let d = users.stride;
    let mut total = 0.0;
    for (u, x) in users.factors.chunks_exact(d).enumerate() {
        if u % 1024 == 0 {
            progress.check()?;
        }
        let (columns, confidences) = users.matrix.row(u);
        for (&i, &c) in columns.iter().zip(confidences) {
            let miss = 1.0 - crate::linalg::kernels::dot(x, &items.factors[i as usize * d..][..d]);
            total += f64::from(c * miss * miss);
        }
        let dense = x.iter().zip(&basis.eigenvalues);
        total +=
            dense.map(|(&x, &e)| f64::from(x * x * (parameters.unobserved_weight * e + users.lambda[u]))).sum::<f64>();
    }
    for (y, &lambda) in items.factors.chunks_exact(d).zip(&items.lambda) {
        total += y.iter().map(|&y| f64::from(lambda * y * y)).sum::<f64>();
    }
    Ok(total)
}

/// The parameters of a stored model.
fn stored_parameters(options: &Value) -> Result<Parameters> {
    let mut reader = Options::new("ials", options)?;
    let parameters = Parameters::read(&mut reader, None)?;
    reader.finish()?;
    Ok(parameters)
}
