//! Classifying real against synthetic rows.

use serde_json::{Value, json};

use super::{ModelOptions, append, like};
use crate::report::sample::sample;
use runtime::draw::{below, mix};
use runtime::error::{Error, Result};
use runtime::jobs::jobs;
use runtime::progress::Progress;
use tabular::trees::{Binned, Boosting, BoostingOptions, Target};
use tabular::{Encoder, EncoderOptions, Table, auc};

const FOLDS: usize = 3;
/// Minimum number of rows of each: fewer fill no leaf of the trees.
const MIN_ROWS: usize = 30;

pub fn two_sample(
    (real, synthetic): (&Table, &Table),
    leave_out: &[&str],
    options: &ModelOptions,
    seed: u64,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Value> {
    let n = real.rows().min(synthetic.rows()).min(options.rows);
    if n < MIN_ROWS {
        return Ok(json!({"auc": null, "reason": format!("It needs {MIN_ROWS} rows of each kind.")}));
    }
    let mut both = like(real, |name| !leave_out.contains(&name));
    append(&mut both, real, &sample(real.rows(), n, mix(seed ^ 11))?, progress)?;
    append(&mut both, synthetic, &sample(synthetic.rows(), n, mix(seed ^ 12))?, progress)?;
    let encoder = match Encoder::fit(&both, &[], &EncoderOptions::default(), progress) {
        // Nothing differs between rows: nothing tells them apart.
        Err(Error::Invalid { .. }) => {
            return Ok(json!({"auc": 0.5, "rows": n, "folds": FOLDS}));
        }
        other => other?,
    };
    let binned = Binned::of(&encoder.encode(&both, progress)?, threads, progress)?;
    let codes: Vec<u32> = (0..2 * n).map(|row| u32::from(row >= n)).collect();
    let target = Target::Classes { codes: &codes, classes: 2 };
    let fold = |row: u32| below(mix(seed ^ 13), row.into(), FOLDS);
    let boosting = BoostingOptions { rounds: options.rounds.unwrap_or(100), ..BoostingOptions::default() };
    let trees = FOLDS * boosting.rounds;
    let found = jobs(FOLDS, threads, progress, ("trees", trees), |signal, job| {
        let (held, kept): (Vec<u32>, Vec<u32>) = (0..2 * n as u32).partition(|&row| fold(row) == job);
        let model = Boosting::fit(&binned, &target, (&kept, None), &boosting, seed, signal)?;
        let mut out = [0f32; 2];
        let mut scores = Vec::with_capacity(held.len());
        for (place, &row) in held.iter().enumerate() {
            if place % 1024 == 0 {
                signal.check()?;
            }
            model.predict(binned.row(row as usize), &mut out);
            scores.push((row, out[1]));
        }
        Ok(scores)
    })?;
    // Over all folds together: a model whose scores lie higher than another's counts, as it would in use.
    let (rows, scores): (Vec<u32>, Vec<f32>) = found.concat().into_iter().unzip();
    let is: Vec<bool> = rows.iter().map(|&row| row as usize >= n).collect();
    Ok(json!({"auc": auc(&scores, &is, &|| progress.check())?, "rows": n, "folds": FOLDS}))
}
