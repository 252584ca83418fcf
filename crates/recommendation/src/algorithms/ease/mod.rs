//! EASE: the item-item weights that best rebuild every history from its other items, in closed form.
//!
//! With the confidences `X` [users, items], `min_B ‖X − X B‖² + λ ‖B‖²` subject to `diag(B) = 0` has the solution
//! `B_ij = −P_ij / P_jj`, `P = (XᵀX + λ I)⁻¹`; weights may be negative. A history `H` scores `score(j) = Σ_{i ∈ H} c_i B_ij`.
//! Steck, "Embarrassingly shallow autoencoders for sparse data" (WWW 2019), eq. 8; `regularization` is λ.
//!
//! Of each row the `neighbours` greatest weights by magnitude are kept, as an [item graph](crate::item_graph).
//!
//! `items³` multiplications and additions and `4 · items²` bytes: half a minute for 10,000 items on four cores, and a limit
//! of [`MOST_ITEMS`].

use ndarray::{Array2, s};
use serde_json::{Map, Value};

use crate::algorithm::Algorithm;
use crate::item_graph::{ItemGraph, ItemGraphRanker, List, Neighbours, confidences, scatter_scores};
use crate::ranker::Ranker;
use crate::training::{Parts, Training, history_graph, user_counts};
use crate::weighting::Weighting;
use inner_products::TopK;
use kernels::Csr;
use kernels::inverse::LowerTriangle;
use kernels::matrix::flat_mut;
use onnx::stored::{DataWriter, Files};
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::options::Options;
use runtime::parallel::for_each_chunk;

/// Beyond, the matrix of all pairs takes more than 3.6 GB, and its inverse most of an hour on one core.
pub const MOST_ITEMS: usize = 30_000;
/// Rows of the inverse read together: a cache line of each column.
const ROWS: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Parameters {
    /// λ
    regularization: f32,
    /// Kept of each row; 0 for all.
    neighbours: usize,
    weighting: Weighting,
}

impl Parameters {
    fn read(options: &mut Options) -> Result<Self> {
        Ok(Self {
            regularization: options.float("regularization", 500.0, 1e-3, 1e9)?,
            neighbours: options.integer("neighbours", 1000, 0, MOST_ITEMS as u64)? as usize,
            weighting: Weighting::read(options)?,
        })
    }

    /// Neighbours kept of each of `items`.
    fn width(&self, items: usize) -> usize {
        let all = items.saturating_sub(1).max(1);
        if self.neighbours == 0 { all } else { self.neighbours.min(all) }
    }
}

/// `ease` in SQL.
pub struct Ease;

impl Algorithm for Ease {
    fn name(&self) -> &'static str {
        "ease"
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
    let Training { interactions, threads, progress, .. } = *training;
    let parameters = Parameters::read(&mut options)?;
    let options = options.finish()?;
    let items = interactions.items();
    check_items(items)?;
    Neighbours::check_size("ease", items, parameters.width(items))?;
    let mut by_user = interactions.by_user.clone();
    by_user.values.iter_mut().for_each(|w| *w = parameters.weighting.confidence(*w));
    progress.check()?;

    let mut gram = regularized_gram(&by_user, parameters.regularization, training)?;
    if !gram.negative_inverse(threads, progress)? {
        let hint = "Raise it or use smaller weights: the matrix of all pairs cannot be inverted.";
        return Err(Error::argument("option \"regularization\"", parameters.regularization, hint));
    }
    let found = strongest(&gram, parameters.width(items), training)?;
    drop(gram);
    let mut graph = history_graph("ease", items);
    let history = confidences(&mut graph, parameters.weighting);
    scatter_scores(&mut graph, &history, &found, None);
    let popularity = user_counts(interactions);
    Ok(Parts { options, graph, data: DataWriter::default(), figures: Map::new(), popularity })
}

fn check_items(items: usize) -> Result<()> {
    if items <= MOST_ITEMS {
        return Ok(());
    }
    Err(Error::TooLarge {
        what: "ease, which inverts a matrix of all pairs of items,".into(),
        needed: format!("{items} items"),
        limit: format!("{MOST_ITEMS}"),
        hint: "Train gf_cf, item_knn or ials, or leave the rarest items out of the source.".into(),
    })
}

/// `XᵀX + λ I`
fn regularized_gram(x: &Csr, regularization: f32, training: &Training) -> Result<LowerTriangle> {
    let by_item = x.transpose(training.progress)?;
    LowerTriangle::build(
        x.columns,
        training.threads,
        training.progress,
        || (),
        |(), item, row| {
            let (users, weights) = by_item.row(item);
            for (&user, &weight) in users.iter().zip(weights) {
                let (others, other_weights) = x.row(user as usize);
                // Ascending: only the lower triangle is wanted.
                for (&other, &other_weight) in
                    others.iter().zip(other_weights).take_while(|&(&j, _)| j as usize <= item)
                {
                    row[other as usize] += weight * other_weight;
                }
            }
            row[item] += regularization;
            Ok(())
        },
    )
}

/// The `width` greatest of each row of `B` by magnitude, given `−P`.
fn strongest(negative_inverse: &LowerTriangle, width: usize, training: &Training) -> Result<Neighbours> {
    let items = negative_inverse.rows();
    let diagonal = negative_inverse.diagonal();
    let mut lists: Vec<List> = memory::filled(Vec::new(), items)?;
    let scratch = || Array2::zeros((ROWS, items));
    for_each_chunk(&mut lists, ROWS, training.threads, training.progress, scratch, |scratch, chunk, lists| {
        let mut rows = scratch.slice_mut(s![..lists.len(), ..]);
        negative_inverse.copy_rows(chunk * ROWS, rows.view_mut());
        for (r, (list, row)) in lists.iter_mut().zip(flat_mut(rows).chunks_exact_mut(items)).enumerate() {
            row.iter_mut().zip(&diagonal).for_each(|(x, &d)| *x /= -d);
            row[chunk * ROWS + r] = 0.0;
            *list = greatest(row, width);
        }
        Ok(())
    })?;
    Neighbours::new(lists)
}

/// The `width` greatest of `row` by magnitude, none 0, in descending order.
fn greatest(row: &[f32], width: usize) -> List {
    let mut top = TopK::new(width);
    let mut threshold = top.threshold();
    for (item, &weight) in (0..).zip(row) {
        if weight.abs() > threshold && weight != 0.0 {
            top.push(weight.abs(), item);
            threshold = top.threshold();
        }
    }
    let mut list: List = top.into_sorted().into_iter().map(|(_, item)| (row[item as usize], item)).collect();
    list.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    list
}

fn open(files: &Files, options: &Value, items: usize) -> Result<ItemGraphRanker> {
    let read = |options: &Value| {
        let mut reader = Options::new("ease", options)?;
        let parameters = Parameters::read(&mut reader)?;
        reader.finish().map(|_| parameters)
    };
    let weighting = read(options).map_err(|e| files.damaged(e.to_string()))?.weighting;
    Ok(ItemGraphRanker(ItemGraph::open(files, weighting, items)?))
}

#[cfg(test)]
mod tests;
