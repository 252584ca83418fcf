//! k-fold cross-validation: every interaction is held out once, from a model trained on the other folds.
//!
//! Each user's interactions are dealt to the folds in random order, so that fold sizes differ by at most one interaction, and so
//! does each user's share in them. The order comes from a hash of seed, user and item.
//!
//! Users and items without an interaction in a fold's training data are left out, as in [`super::CasesBuilder`].

use bytes::Bytes;
use serde_json::Value;

use super::bootstrap::Bootstrap;
use super::cases::Cases;
use super::catalogue::Catalogue;
use super::evaluate::{Protocol, evaluate};
use super::segments::Segments;
use super::summary::{Line, summarise};
use interactions::Interactions;
use recommendation::{Algorithm, Model, Training, train};
use runtime::draw::mix;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::Progress;

/// Most models trained.
const MAX_FOLDS: usize = 1000;

/// The metrics of each fold. Nothing is stored.
pub fn cross_validate(
    training: &Training,
    algorithm: &dyn Algorithm,
    options: &Value,
    folds: usize,
    protocol: &Protocol,
    seed: u64,
) -> Result<Vec<Vec<Line>>> {
    let Training { interactions, progress, .. } = *training;
    let entries = interactions.by_user.entries();
    if !(2..=MAX_FOLDS).contains(&folds) || folds > entries {
        let hint =
            format!("Give 2 or more, at most one for each of the {entries} interactions and at most {MAX_FOLDS}.");
        return Err(Error::argument("folds", folds, hint));
    }
    let fold_of = deal(interactions, folds, seed)?;
    let mut results = Vec::new();
    for fold in 0..folds {
        progress.report("folds", fold, folds);
        let name = format!("fold {}", fold + 1);
        let part = interactions.keep(|_, entry| fold_of[entry] as usize != fold, progress)?;
        let trained = train(&Training { interactions: &part, ..*training }, algorithm, options)?;
        drop(part);
        let model = Model::open(&name, Bytes::from(trained.onnx), Bytes::from(trained.data))?;
        let catalogue = Catalogue::of(&model, protocol.wants_audiences(), progress)?;
        let cases = held_out(interactions, &fold_of, fold, &model, &catalogue, progress)?;
        if cases.is_empty() {
            let hint =
                "None of its users has another interaction with a known item. Give more interactions, or fewer folds.";
            return Err(Error::invalid(format!("{name} has no pair to find"), hint));
        }
        let measured = evaluate(&model, &cases, &Segments::default(), &catalogue, protocol, progress)?;
        let no_intervals = Bootstrap::new(0, 0.95, 0)?;
        results.push(summarise(&measured, protocol.measured(), &no_intervals, protocol.threads, progress)?);
    }
    progress.report("folds", folds, folds);
    Ok(results)
}

/// The fold of each interaction.
fn deal(interactions: &Interactions, folds: usize, seed: u64) -> Result<Vec<u16>> {
    let matrix = &interactions.by_user;
    let mut fold_of = memory::filled(0u16, matrix.entries())?;
    let mut dealt = 0;
    for user in 0..matrix.rows() {
        let start = matrix.indptr[user] as usize;
        let chance = |item: u32| mix(mix(seed) ^ ((user as u64) << 32 | u64::from(item)));
        let mut hand: Vec<(u64, usize)> =
            matrix.row(user).0.iter().enumerate().map(|(n, &item)| (chance(item), start + n)).collect();
        hand.sort_unstable();
        for (_, entry) in hand {
            fold_of[entry] = (dealt % folds) as u16;
            dealt += 1;
        }
    }
    Ok(fold_of)
}

/// The interactions of a fold as test cases.
fn held_out(
    interactions: &Interactions,
    fold_of: &[u16],
    fold: usize,
    model: &Model,
    catalogue: &Catalogue,
    progress: &dyn Progress,
) -> Result<Cases> {
    let matrix = &interactions.by_user;
    progress.check()?;
    let mut users = Vec::new();
    for user in 0..matrix.rows() {
        let start = matrix.indptr[user] as usize;
        let asked = |(n, &item): (usize, &u32)| {
            (fold_of[start + n] as usize == fold && catalogue.count(item) > 0).then_some(item)
        };
        let items: Vec<u32> = matrix.row(user).0.iter().enumerate().filter_map(asked).collect();
        if !items.is_empty() && model.history(user as u32)?.1.iter().any(|&w| w > 0.0) {
            memory::push(&mut users, (user as u32, items))?;
        }
    }
    Cases::stored(model, users)
}

#[cfg(test)]
mod tests {
    use super::*;
    use interactions::{Id, InteractionsBuilder};

    #[test]
    fn folds_are_even_for_each_user_and_in_all() {
        let mut builder = InteractionsBuilder::new();
        for user in 0..40i64 {
            for item in 0..(user % 9 + 1) {
                builder.push(Id::Int(user), Id::Int(item * 3), 1.0, None).unwrap();
            }
        }
        let data = builder.finish().unwrap();
        let fold_of = deal(&data, 4, 1).unwrap();
        let mut all = [0; 4];
        for user in 0..data.users() {
            let range = data.by_user.indptr[user] as usize..data.by_user.indptr[user + 1] as usize;
            let mut own = [0; 4];
            fold_of[range].iter().for_each(|&f| own[f as usize] += 1);
            own.iter().zip(&mut all).for_each(|(own, all)| *all += own);
            assert!(own.iter().max().unwrap() - own.iter().min().unwrap() <= 1);
        }
        assert!(all.iter().max().unwrap() - all.iter().min().unwrap() <= 1);
        assert_eq!(fold_of, deal(&data, 4, 1).unwrap());
        assert_ne!(fold_of, deal(&data, 4, 2).unwrap());
    }
}
