//! Distances of synthetic rows to the real ones, compared with those of fresh real rows.
//!
//! - Distance to the closest record: from a sample of synthetic rows to the nearest real row, compared with that of the
//!   holdout's rows or, without a holdout, of real rows to the nearest other one. The nearest-neighbour ratio is the
//!   first distance over the second.
//! - The share of synthetic rows that are nearer to the real rows than to as many rows of the holdout: 0.5 if the
//!   holdout might as well have been the training data. Ties count half.
//! - Membership attack: an attacker with the synthetic rows guesses that a row was in the training data if its nearest
//!   synthetic row is near. The AUC of that guess, training rows against the holdout: 0.5 is chance.
//!
//! None of them proves privacy: a row may be far from all others and still reveal a person.

use serde_json::{Value, json};

use super::columns::{HOLDOUT, REAL, SYNTHETIC, Tables};
use super::distance::{Nearest, Space};
use super::sample::sample;
use kernels::statistics::quantile;
use runtime::draw::mix;
use runtime::error::Result;
use runtime::progress::Progress;
use tabular::auc;

/// Maximum number of rows of a reference; larger ones are sampled.
const MAX_REFERENCE: usize = 1 << 20;

pub struct Privacy {
    pub distance: Value,
    pub membership: Value,
    pub warnings: Vec<String>,
}

pub fn privacy(
    tables: &Tables,
    max_rows: usize,
    seed: u64,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Privacy> {
    let space = Space::new(tables, progress)?;
    let has_holdout = tables.rows[HOLDOUT] > 0;
    let draw = |table: usize, most: usize, place: u64| sample(tables.rows[table], most, mix(seed ^ mix(place)));
    let reference = draw(REAL, MAX_REFERENCE, 1)?;
    let real = space.points(REAL, &reference, progress)?;
    let queries = draw(SYNTHETIC, max_rows, 2)?;
    let none = |_: u32| None;
    let to_real = space.nearest((SYNTHETIC, &queries), &real, none, threads, progress)?;
    let mut warnings = Vec::new();
    let fresh = if has_holdout {
        space.nearest((HOLDOUT, &draw(HOLDOUT, max_rows, 3)?), &real, none, threads, progress)?
    } else {
        let own = |row: u32| reference.binary_search(&row).ok();
        space.nearest((REAL, &draw(REAL, max_rows, 3)?), &real, own, threads, progress)?
    };
    let (synthetic, baseline) = (Summary::of(&to_real), Summary::of(&fresh));
    let mut distance = json!({
        "synthetic_to_real": synthetic.json(),
        "baseline": if has_holdout { "holdout_to_real" } else { "real_to_other_real" },
        "baseline_to_real": baseline.json(),
        "share_closer_to_train_than_holdout": null,
        "rows": queries.len(),
        "reference_rows": reference.len(),
    });
    if synthetic.low < 0.5 * baseline.low {
        warnings.push(format!(
            "the nearest synthetic rows are nearer to real rows than fresh rows are: of one in twenty the distance is at most {:.4}, of fresh ones {:.4}",
            synthetic.low, baseline.low
        ));
    }
    if !has_holdout {
        let reason = "A membership attack needs real rows that were not learned from: give them as holdout.";
        return Ok(Privacy { distance, membership: json!({"auc": null, "reason": reason}), warnings });
    }
    // As many of each, or the larger would be nearer.
    let half = tables.rows[REAL].min(tables.rows[HOLDOUT]).min(MAX_REFERENCE);
    let train = space.points(REAL, &draw(REAL, half, 4)?, progress)?;
    let holdout = space.points(HOLDOUT, &draw(HOLDOUT, half, 5)?, progress)?;
    let a = space.nearest((SYNTHETIC, &queries), &train, none, threads, progress)?;
    let b = space.nearest((SYNTHETIC, &queries), &holdout, none, threads, progress)?;
    let nearer = |(a, b): (&Nearest, &Nearest)| match a.first.total_cmp(&b.first) {
        std::cmp::Ordering::Less => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Greater => 0.0,
    };
    let share = a.iter().zip(&b).map(nearer).sum::<f64>() / a.len().max(1) as f64;
    distance["share_closer_to_train_than_holdout"] = share.into();

    let synthetic = space.points(SYNTHETIC, &draw(SYNTHETIC, MAX_REFERENCE, 6)?, progress)?;
    let members = draw(REAL, max_rows.min(tables.rows[HOLDOUT]), 7)?;
    let others = draw(HOLDOUT, max_rows, 8)?;
    let mut scores = Vec::with_capacity(members.len() + others.len());
    for (table, rows) in [(REAL, &members), (HOLDOUT, &others)] {
        let found = space.nearest((table, rows), &synthetic, none, threads, progress)?;
        scores.extend(found.iter().map(|nearest| -nearest.first));
    }
    let is: Vec<bool> = (0..scores.len()).map(|place| place < members.len()).collect();
    let (m, n) = (members.len() as f64, others.len() as f64);
    // Of the AUC of a guess by chance (Mann, Whitney 1947).
    let error = ((m + n + 1.0) / (12.0 * m * n)).sqrt();
    let found = auc(&scores, &is, &|| progress.check())?;
    if found.is_some_and(|auc| auc > 0.5 + 3.0 * error) {
        warnings.push(format!(
            "a membership attack tells rows that were learned from better than by chance: AUC {:.3}",
            found.unwrap_or(0.5)
        ));
    }
    let membership = json!({"auc": found, "standard_error": error, "rows": [members.len(), others.len()]});
    Ok(Privacy { distance, membership, warnings })
}

struct Summary {
    median: f64,
    low: f64,
    /// Median of the first distance over the second.
    ratio: Option<f64>,
}

impl Summary {
    fn of(nearest: &[Nearest]) -> Self {
        let ascending = |mut values: Vec<f64>| {
            values.sort_unstable_by(f64::total_cmp);
            values
        };
        let first = ascending(nearest.iter().map(|n| f64::from(n.first)).collect());
        let of_first = |share| quantile(&first, share).unwrap_or(f64::INFINITY);
        // Two at no distance are equally near.
        let ratio = |n: &Nearest| if n.second > 0.0 { f64::from(n.first) / f64::from(n.second) } else { 1.0 };
        let ratios = ascending(nearest.iter().filter(|n| n.second.is_finite()).map(ratio).collect());
        Self { median: of_first(0.5), low: of_first(0.05), ratio: quantile(&ratios, 0.5) }
    }

    fn json(&self) -> Value {
        // Infinite where there is no other row: null.
        json!({"median": self.median, "p05": self.low, "nearest_neighbor_ratio_median": self.ratio})
    }
}
