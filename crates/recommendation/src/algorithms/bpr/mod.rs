//! BPR-MF: matrix factorisation trained to rank what a user chose above what the user did not.
//!
//! Maximises `Σ ln σ(x_u·(y_i − y_j) + b_i − b_j) − λ (‖x_u‖² + ‖y_i‖² + ‖y_j‖² + b_i² + b_j²) / 2` over triples of a user, a
//! chosen item `i` and an item `j` not chosen, by stochastic gradients. Source: Rendle, Freudenthaler, Gantner,
//! Schmidt-Thieme, "BPR: Bayesian personalized ranking from implicit feedback" (UAI 2009), BPR-Opt, LearnBPR and §4.3.1, with an item bias.
//!
//! The paper draws triples uniformly, with replacement. Here an iteration takes every chosen pair once, in random order, with a
//! uniform `j` that is looked up not to be chosen. So that threads never write to the same row and any number of them
//! gives the same bytes, pairs are taken in strata as in Gemulla et al., "Large-scale matrix factorization with distributed
//! stochastic gradient descent" (KDD 2011): users and items are cut into equally many blocks, and a stratum is one block
//! of items for each block of users. Items go to blocks at random in every iteration, and `j` comes from the block of `i`:
//! over the iterations every item is as likely as any other.
//!
//! A history is folded in by the mean of `h_i = W y_i + w`, the ridge regression of the trained users' factors on the
//! mean of their items' ([`fold`]). All interactions weigh the same.
//!
//! An iteration costs O(nnz · d) time; memory is the factors twice for items, once for users, and 8 bytes an interaction.

mod fold;
mod parameters;
mod strata;

use serde_json::{Map, Value, json};

use self::parameters::Parameters;
use self::strata::Strata;
use crate::algorithm::Algorithm;
use crate::linear_fold_in::{Factors, LinearFoldIn};
use crate::ranker::Ranker;
use crate::training::{Parts, Training, diverged, user_counts};
use kernels::matrix::{flat, flat_mut};
use onnx::stored::Files;
use runtime::error::Result;
use runtime::memory;
use runtime::options::Options;

fn open(files: &Files, options: &Value, users: usize, items: usize) -> Result<LinearFoldIn> {
    let read = |options: &Value| {
        let mut reader = Options::new("bpr", options)?;
        let parameters = Parameters::read(&mut reader)?;
        reader.finish().map(|_| parameters)
    };
    let parameters = read(options).map_err(|e| files.damaged(e.to_string()))?;
    LinearFoldIn::open(files, parameters.fold_in(), users, items)
}

/// `bpr` in SQL.
pub struct Bpr;

impl Algorithm for Bpr {
    fn name(&self) -> &'static str {
        "bpr"
    }

    fn train(&self, training: &Training, options: Options) -> Result<Parts> {
        train(training, options)
    }

    fn open(&self, files: &Files, options: &Value, users: usize, items: usize) -> Result<Box<dyn Ranker>> {
        Ok(Box::new(open(files, options, users, items)?))
    }
}

fn train(training: &Training, mut options: Options) -> Result<Parts> {
    let parameters = Parameters::read(&mut options)?;
    let options = options.finish()?;
    let Training { interactions, threads, progress, .. } = *training;
    let mut strata = Strata::new(&interactions.by_user, parameters)?;
    let mut loss = 0.0;
    for iteration in 0..parameters.iterations {
        progress.report("bpr iterations", iteration, parameters.iterations);
        loss = strata.iterate(iteration, threads, progress)?;
        if !loss.is_finite() {
            return Err(diverged("Lower learning_rate."));
        }
    }
    progress.report("bpr iterations", parameters.iterations, parameters.iterations);
    let learned = strata.finish()?;
    let map = fold::fit(&interactions.by_user, parameters.weighting, &learned, threads, progress)?;

    let d = parameters.factors;
    let mut items = memory::matrix(interactions.items(), d + 1, 0f32)?;
    let mut history = memory::matrix(interactions.items(), d + 1, 1f32)?;
    let mut users = memory::matrix(interactions.users(), d + 1, 0f32)?;
    let rows =
        flat_mut(items.view_mut()).chunks_exact_mut(d + 1).zip(flat_mut(history.view_mut()).chunks_exact_mut(d + 1));
    let from = flat(learned.items.view()).chunks_exact(learned.items.ncols()).zip(&learned.biases);
    for (item, ((of_item, of_history), (row, bias))) in rows.zip(from).enumerate() {
        if item % 1024 == 0 {
            progress.check()?;
        }
        of_item[..d].copy_from_slice(&row[..d]);
        of_item[d] = *bias;
        map.apply(&row[..d], &mut of_history[..d]);
    }
    // A stored user is served as the history folded in: on MovieLens 1M that ranks better than the user's own factors, which have
    // learned by heart.
    let mut sum = vec![0f64; d + 1];
    let of_history = flat(history.view());
    for (user, to) in flat_mut(users.view_mut()).chunks_exact_mut(d + 1).enumerate() {
        if user % 1024 == 0 {
            progress.check()?;
        }
        let (chosen, weights) = interactions.by_user.row(user);
        sum.fill(0.0);
        let mut total = 0.0;
        for (&item, &weight) in chosen.iter().zip(weights) {
            let row = &of_history[item as usize * (d + 1)..][..d + 1];
            let c = f64::from(parameters.weighting.confidence(weight));
            sum.iter_mut().zip(row).for_each(|(sum, &h)| *sum += c * f64::from(h));
            total += c;
        }
        let total = if total > 0.0 { total } else { 1.0 };
        to.iter_mut().zip(&sum).for_each(|(to, sum)| *to = (sum / total) as f32);
    }
    let (graph, data) = parameters.fold_in().write("bpr", Factors { users, items, history });
    let mut figures = Map::new();
    figures.insert("loss".into(), json!(loss));
    Ok(Parts { options, graph, data, figures, popularity: user_counts(interactions) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use interactions::{Id, InteractionsBuilder};
    use runtime::progress::Unwatched;

    #[test]
    fn a_checkerboard_s_missing_fields_rank_above_those_of_the_other_colour() {
        let n = 60;
        let mut builder = InteractionsBuilder::new();
        for (u, i) in (0..n).flat_map(|u| (0..n).map(move |i| (u, i))).filter(|(u, i)| u % 2 == i % 2) {
            if !runtime::draw::mix((u * n + i) as u64).is_multiple_of(5) {
                builder.push(Id::Int(u), Id::Int(i), 1.0, None).unwrap();
            }
        }
        let data = builder.finish().unwrap();
        let training = Training::new(&data, 2, &Unwatched);
        let given = json!({"factors": 8, "iterations": 60});
        let parameters = Parameters::read(&mut Options::new("bpr", &given).unwrap()).unwrap();
        let mut strata = Strata::new(&data.by_user, parameters).unwrap();
        for iteration in 0..parameters.iterations {
            strata.iterate(iteration, training.threads, &Unwatched).unwrap();
        }
        let learned = strata.finish().unwrap();
        let score = |u: usize, i: usize| {
            let (x, y) = (learned.users.row(u), learned.items.row(i));
            (0..8).map(|k| x[k] * y[k]).sum::<f32>() + learned.biases[i]
        };
        let id = |ids: &onnx::IdTable, at: usize| ids.get(at as u32).unwrap().parse::<usize>().unwrap();
        let (mut above, mut pairs) = (0, 0);
        for u in 0..data.users() {
            let (chosen, _) = data.by_user.row(u);
            let rest: Vec<usize> = (0..data.items()).filter(|i| !chosen.contains(&(*i as u32))).collect();
            let own = |i: usize| id(&data.item_ids, i) % 2 == id(&data.user_ids, u) % 2;
            for &i in rest.iter().filter(|&&i| own(i)) {
                for &j in rest.iter().filter(|&&j| !own(j)) {
                    pairs += 1;
                    above += usize::from(score(u, i) > score(u, j));
                }
            }
        }
        assert!(above as f64 > 0.99 * f64::from(pairs), "AUC {}", above as f64 / f64::from(pairs));
    }
}
