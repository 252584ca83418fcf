//! `auto`: the mean of the ranks by [`mean_loss`](super::mean_loss) and by [`leave_self_out`](super::leave_self_out), from 0 to 1.
//!
//! The first summarises a user's taste in a few factors, the second counts every co-occurrence: interactions that score low by both are
//! most likely accidental. Ranks are used because the two have no common unit; ties share the mean of their ranks.

use super::{leave_self_out, mean_loss};
use crate::interactions::method::{InteractionMethod, Plan};
use crate::interactions::task::Task;
use crate::ranks::ascending;
use runtime::error::Result;
use runtime::memory;
use runtime::options::Options;
use runtime::progress::Progress;

pub struct Auto;

impl InteractionMethod for Auto {
    fn name(&self) -> &'static str {
        "auto"
    }

    fn plan(&self, options: &mut Options) -> Result<Box<dyn Plan>> {
        Ok(Box::new(Parameters::read(options)?))
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Parameters {
    walks: leave_self_out::Parameters,
    models: mean_loss::Parameters,
}

impl Parameters {
    pub fn read(options: &mut Options) -> Result<Self> {
        Ok(Self { walks: leave_self_out::Parameters::read(options)?, models: mean_loss::Parameters::read(options)? })
    }
}

impl Plan for Parameters {
    fn score(&self, task: &Task) -> Result<Vec<f64>> {
        score(task, self)
    }
}

fn score(task: &Task, parameters: &Parameters) -> Result<Vec<f64>> {
    let mut scores = memory::filled(0.0, task.by_user.entries())?;
    add_ranks(&parameters.walks.score(task)?, &mut scores, task.progress)?;
    add_ranks(&parameters.models.score(task)?, &mut scores, task.progress)?;
    scores.iter_mut().for_each(|score| *score /= 2.0);
    Ok(scores)
}

/// Adds each score's rank among all, from 0 for the lowest to 1 for the highest.
fn add_ranks(scores: &[f64], to: &mut [f64], progress: &dyn Progress) -> Result<()> {
    progress.check()?;
    let order = ascending(scores, progress)?;
    let last = scores.len().saturating_sub(1).max(1) as f64;
    let mut below = 0;
    for equal in order.chunk_by(|&a, &b| scores[a as usize] == scores[b as usize]) {
        let rank = (below as f64 + (equal.len() - 1) as f64 / 2.0) / last;
        equal.iter().for_each(|&entry| to[entry as usize] += rank);
        below += equal.len();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::progress::Unwatched;

    #[test]
    fn equal_scores_share_a_rank_and_the_highest_has_rank_one() {
        let mut ranks = vec![0.0; 4];
        add_ranks(&[5.0, -1.0, 5.0, 9.0], &mut ranks, &Unwatched).unwrap();
        assert_eq!(ranks, [0.5, 0.0, 0.5, 1.0]);
        let mut one = vec![0.0];
        add_ranks(&[3.0], &mut one, &Unwatched).unwrap();
        assert_eq!(one, [0.0]);
    }
}
