//! Item neighbours: items that the same users chose.
//!
//! With the weighted interactions `W` [users, items] and its columns `w_i`,
//! `sim(i, j) = w_i·w_j / (‖w_i‖ ‖w_j‖ + shrinkage)` for `cosine` and `tfidf`, `w_i·w_j` for `bm25`; of each item the
//! `neighbours` most similar ones are kept. A history `H` with confidences `c` scores
//! `score(j) = Σ_{i ∈ H} c_i sim(i, j)`, over the items `i` that count `j` among their neighbours.
//!
//! - `cosine`: `W_ui = c_ui`. Deshpande, Karypis, "Item-based top-N recommendation algorithms" (ACM TOIS 2004), §4.
//! - `tfidf`: `W_ui = √c_ui · (ln |I| − ln(1 + n_u))`: who chooses everything says little about any of it.
//! - `bm25`: `W_ui = c_ui (k₁ + 1) / (k₁ (1 − b + b |u| / avg) + c_ui) · (ln |U| − ln(1 + n_i))`, Robertson, Zaragoza (2009), eq. 3.15, with
//!   users as documents and items as terms, so that both long histories and popular items count less.
//!
//! The shrinkage is Bell and Koren's (2007).
//!
//! What is kept is an [item graph](crate::item_graph): O(Σ_u n_u²) time, O(items · (threads + neighbours)) memory.

use serde_json::{Map, Value};

use crate::algorithm::Algorithm;
use crate::item_graph::{ItemGraph, ItemGraphRanker, Neighbours, confidences, products, scatter_scores};
use crate::ranker::Ranker;
use crate::training::{Parts, Training, history_graph, user_counts};
use crate::weighting::Weighting;
use kernels::Csr;
use onnx::stored::{DataWriter, Files};
use runtime::error::Result;
use runtime::options::Options;
use runtime::progress::Progress;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Similarity {
    Cosine,
    TfIdf,
    Bm25,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameters {
    neighbours: usize,
    shrinkage: f32,
    similarity: Similarity,
    weighting: Weighting,
    /// `k₁` and `b` of BM25.
    k1: f32,
    b: f32,
}

impl Parameters {
    fn read(options: &mut Options) -> Result<Self> {
        let similarities = [("bm25", Similarity::Bm25), ("cosine", Similarity::Cosine), ("tfidf", Similarity::TfIdf)];
        Ok(Self {
            neighbours: options.integer("neighbours", 100, 1, 10_000)? as usize,
            shrinkage: options.float("shrinkage", 0.0, 0.0, 1e9)?,
            similarity: options.choice("similarity", &similarities)?,
            weighting: Weighting::read(options)?,
            k1: options.float("k1", 1.2, 0.0, 1e6)?,
            b: options.float("b", 0.75, 0.0, 1.0)?,
        })
    }

    /// Values of `W`, from confidences.
    fn weigh(&self, matrix: &mut Csr) {
        // How little a row or column with `n` of `all` entries says. Never 0: an item that everyone has still has neighbours.
        let rarity = |n: usize, all: usize| ((all as f32).ln() - (n as f32).ln_1p()).max(1e-3);
        let (users, items) = (matrix.rows(), matrix.columns);
        let mut users_of = vec![0usize; items];
        matrix.indices.iter().for_each(|&item| users_of[item as usize] += 1);
        let total: f64 = matrix.values.iter().map(|&c| f64::from(c)).sum();
        let average = (total / users.max(1) as f64) as f32;
        for user in matrix.indptr.windows(2) {
            let range = user[0] as usize..user[1] as usize;
            let (values, columns) = (&mut matrix.values[range.clone()], &matrix.indices[range]);
            let length: f32 = values.iter().sum();
            let norm = self.k1 * (1.0 - self.b + self.b * length / average);
            let user_rarity = rarity(columns.len(), items);
            for (value, &item) in values.iter_mut().zip(columns) {
                *value = match self.similarity {
                    Similarity::Cosine => *value,
                    Similarity::TfIdf => value.sqrt() * user_rarity,
                    Similarity::Bm25 => {
                        *value * (self.k1 + 1.0) / (norm + *value) * rarity(users_of[item as usize], users)
                    }
                };
            }
        }
    }
}

/// `item_knn` in SQL.
pub struct ItemKnn;

impl Algorithm for ItemKnn {
    fn name(&self) -> &'static str {
        "item_knn"
    }

    fn is_stochastic(&self) -> bool {
        false
    }

    fn train(&self, training: &Training, options: Options) -> Result<Parts> {
        train(training, options)
    }

    fn open(&self, files: &Files, options: &Value, _users: usize, items: usize) -> Result<Box<dyn Ranker>> {
        Ok(Box::new(open(files, options, items)?))
    }
}

fn train(training: &Training, mut options: Options) -> Result<Parts> {
    let parameters = Parameters::read(&mut options)?;
    let options = options.finish()?;
    let mut by_user = training.interactions.by_user.clone();
    by_user.values.iter_mut().for_each(|w| *w = parameters.weighting.confidence(*w));
    parameters.weigh(&mut by_user);
    training.progress.check()?;
    let found = neighbours(&by_user, &parameters, training.threads, training.progress)?;
    let mut graph = history_graph("item_knn", by_user.columns);
    let history = confidences(&mut graph, parameters.weighting);
    scatter_scores(&mut graph, &history, &found, None);
    let popularity = user_counts(training.interactions);
    Ok(Parts { options, graph, data: DataWriter::default(), figures: Map::new(), popularity })
}

/// The most similar items of every column of `W`.
fn neighbours(w: &Csr, parameters: &Parameters, threads: usize, progress: &dyn Progress) -> Result<Neighbours> {
    let mut squares = vec![0f64; w.columns];
    w.indices.iter().zip(&w.values).for_each(|(&i, &w)| squares[i as usize] += f64::from(w) * f64::from(w));
    let norms: Vec<f32> = squares.into_iter().map(|sum| sum.sqrt() as f32).collect();
    let similarity = |i: usize, j: usize, product: f32| match parameters.similarity {
        Similarity::Bm25 => product,
        _ => product / (norms[i] * norms[j] + parameters.shrinkage),
    };
    products(w, parameters.neighbours, similarity, threads, progress)
}

fn open(files: &Files, options: &Value, items: usize) -> Result<ItemGraphRanker> {
    let weighting = stored_parameters(options).map_err(|e| files.damaged(e.to_string()))?.weighting;
    Ok(ItemGraphRanker(ItemGraph::open(files, weighting, items)?))
}

/// The parameters of a stored model.
fn stored_parameters(options: &Value) -> Result<Parameters> {
    let mut reader = Options::new("item_knn", options)?;
    let parameters = Parameters::read(&mut reader)?;
    reader.finish()?;
    Ok(parameters)
}
