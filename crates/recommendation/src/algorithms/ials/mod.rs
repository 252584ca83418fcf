//! iALS: implicit alternating least squares.
//!
//! Minimises over user factors `x_u` and item factors `y_i`, `d` long,
//! `Σ_{(u,i) observed} c_ui (p_ui − x_u·y_i)² + α₀ Σ_u Σ_i (x_u·y_i)² + Σ_u λ_u ‖x_u‖² + Σ_i λ_i ‖y_i − Aᵀf_i‖²`,
//! `λ_u = λ (n_u + α₀ |I|)^ν` and `λ_i = λ (n_i + α₀ |U|)^ν`, where `n` counts a row's interactions. `p` is 1 for what was chosen
//! and 0, with the confidence of its weight, for what was turned down. `Aᵀf_i` is 0 without features ([`features`]).
//!
//! Sources: Hu, Koren, Volinsky, "Collaborative filtering for implicit feedback datasets" (ICDM 2008), eq. 3 to 5, for the
//! model, the confidences and the Gram trick; Rendle, Krichene, Zhang, Koren, "Revisiting the performance of iALS on item
//! recommendation benchmarks" (RecSys 2022), eq. 1, 4 and 5, for this parametrisation: `unobserved_weight` is α₀,
//! `frequency_exponent` is ν, `regularization` is λ; Takács and others (RecSys 2011) for the conjugate gradients
//! ([`conjugate`]); Rendle and others (2021), iALS++, for the subspaces ([`block`]).
//!
//! A sweep costs O(nnz · d · steps + (|U| + |I|) d²) time with the solver `cg`, O(nnz · d · b) with `block`, O(nnz · d² + (|U| + |I|)
//! d³) with `cholesky`. Memory is 12 bytes an interaction besides those given, and the factors once.

mod block;
mod conjugate;
mod features;
mod graph;
mod parameters;
mod problem;
mod ranker;
mod solve;
mod sweep;
mod training;

use ndarray::Array2;
use serde_json::{Map, Value, json};

use self::parameters::Parameters;
use self::training::Trained;
use crate::algorithm::Algorithm;
use crate::ranker::Ranker;
use crate::training::{Parts, Training, user_counts};
use onnx::stored::{DataWriter, Files};
use runtime::error::Result;
use runtime::options::Options;

use ranker::IalsRanker;

/// `ials` in SQL.
pub struct Ials;

impl Algorithm for Ials {
    fn name(&self) -> &'static str {
        "ials"
    }

    fn train(&self, training: &Training, options: Options) -> Result<Parts> {
        train(training, options)
    }

    fn open(&self, files: &Files, options: &Value, users: usize, items: usize) -> Result<Box<dyn Ranker>> {
        Ok(Box::new(IalsRanker::open(files, options, users, items)?))
    }
}

fn train(training: &Training, mut options: Options) -> Result<Parts> {
    let parameters = Parameters::read(&mut options, Some(&training.interactions.by_user))?;
    let options = options.finish()?;
    let Trained { users, items, features, basis, loss } = Trained::train(training, &parameters)?;

    let d = parameters.factors;
    let mut data = DataWriter::default();
    let user_factors = users.unpadded()?;
    drop(users);
    data.dense("user_factors", user_factors);
    let map = features.map_or_else(|| Ok(Array2::default((0, d))), |map| map.unpadded(d))?;
    data.dense("feature_map", map);
    let item_factors = items.unpadded()?;
    drop(items);
    training.write_quantized(&mut data, "item_factors", item_factors.view())?;
    let graph = graph::write(&parameters, item_factors.view(), &basis.eigenvalues[..d]);
    let mut figures = Map::new();
    figures.insert("loss".into(), json!(loss));
    Ok(Parts { options, graph, data, figures, popularity: user_counts(training.interactions) })
}

#[cfg(test)]
mod tests;
