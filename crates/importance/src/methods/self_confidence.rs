//! `self_confidence`: the probability of a row's label, p(yᵢ | xᵢ), by a model that was not trained on its fold.
//!
//! Northcutt, Jiang, Chuang, "Confident learning" (JAIR 2021). The model is gradient boosting, strongly regularised (few
//! rounds, small steps, small trees on half of the columns), so that it does not memorise wrong labels. For numbers the score
//! is −|yᵢ − ŷᵢ|, in the unit of the label.
//!
//! Low: the other rows contradict the label. Options: `folds` 5, `rounds` 100, `shrinkage` 0.05 (learning rate),
//! `leaves` 15 (per tree), `leaf_l2` 1, `leaf_rows` 20, `column_share` 0.5 (of the columns, drawn for each tree).
//!
//! Time: O(folds · rounds · classes · rows · columns). Memory: a byte per row and column, and 12 bytes per row
//! and class for each thread.

use crate::method::{Computation, ImportanceMethod};
use crate::out_of_sample::{BOOSTING, Plan, boosted};
use crate::task::Task;
use kernels::matrix::rows;
use runtime::error::Result;
use runtime::options::Options;
use tabular::trees::{Binned, BoostingOptions, Target};

pub struct SelfConfidence;

impl ImportanceMethod for SelfConfidence {
    fn name(&self) -> &'static str {
        "self_confidence"
    }

    fn computation(&self) -> Computation {
        Computation::Alone(score)
    }
}

fn score(task: &Task, options: &mut Options) -> Result<Vec<f64>> {
    let plan = Plan {
        folds: options.integer("folds", 5, 2, 100)? as usize,
        repeats: 1,
        seed: task.seed,
        boosting: BoostingOptions {
            rounds: options.integer("rounds", BOOSTING.rounds as u64, 1, 10_000)? as usize,
            learning_rate: options.float("shrinkage", 0.05, 1e-4, 1.0)?,
            leaves: options.integer("leaves", BOOSTING.leaves as u64, 2, 1024)? as usize,
            l2: options.float("leaf_l2", BOOSTING.l2.into(), 0.0, 1e6)?,
            least_rows: options.integer("leaf_rows", BOOSTING.least_rows as u64, 1, 1_000_000)? as usize,
            columns: options.float("column_share", BOOSTING.columns.into(), 1e-6, 1.0)?,
        },
    };
    let binned = Binned::of(&task.samples.features, task.threads, task.progress)?;
    let target = Target::from(&task.samples.labels);
    let predicted = boosted(&binned, &target, None, &plan, task.threads, task.progress)?;
    Ok(match target {
        Target::Classes { codes, .. } => {
            codes.iter().zip(rows(predicted.view())).map(|(&code, p)| p[code as usize].into()).collect()
        }
        Target::Numbers(values) => {
            values.iter().zip(&predicted).map(|(&y, &p)| -(f64::from(y) - f64::from(p)).abs()).collect()
        }
    })
}
