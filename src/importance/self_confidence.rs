//! How likely a model that has not seen a row holds its label to be: p(yᵢ | xᵢ), out of fold.
//!
//! Northcutt, Jiang, Chuang, "Confident learning" (JAIR 2021). The model is gradient boosting, held back (few rounds, small steps, small
//! trees), for what it would learn by heart are the wrong labels. Of numbers the score is −|yᵢ − ŷᵢ|, in the label's unit.
//!
//! Low: the other rows contradict the label. Options: `folds` 5, `rounds` 60, `learning_rate` 0.05, `leaves` 15, `l2` 1, `least_rows` 20.
//!
//! Time: O(folds · rounds · classes · rows · columns). Memory: a byte a row and column, and 12 bytes a row and class for each thread.

use super::Task;
use super::out_of_fold::{Plan, boosted};
use crate::error::Result;
use crate::options::Options;
use crate::tabular::trees::{Binned, BoostingOptions, Target};

pub fn score(task: &Task, options: &mut Options) -> Result<Vec<f64>> {
    let plan = Plan {
        folds: options.integer("folds", 5, 2, 100)? as usize,
        repeats: 1,
        seed: task.seed,
        boosting: BoostingOptions {
            rounds: options.integer("rounds", 60, 1, 10_000)? as usize,
            learning_rate: options.float("learning_rate", 0.05, 1e-4, 1.0)?,
            leaves: options.integer("leaves", 15, 2, 1024)? as usize,
            l2: options.float("l2", 1.0, 0.0, 1e6)?,
            least_rows: options.integer("least_rows", 20, 1, 1_000_000)? as usize,
        },
    };
    let binned = Binned::of(&task.samples.features, task.threads, task.progress)?;
    let target = Target::from(&task.samples.labels);
    let predicted = boosted(&binned, &target, None, &plan, task.threads, task.progress)?;
    Ok(match target {
        Target::Classes { codes, classes } => {
            codes.iter().zip(predicted.chunks_exact(classes)).map(|(&code, p)| p[code as usize].into()).collect()
        }
        Target::Numbers(values) => {
            values.iter().zip(&predicted).map(|(&y, &p)| -(f64::from(y) - f64::from(p)).abs()).collect()
        }
    })
}
