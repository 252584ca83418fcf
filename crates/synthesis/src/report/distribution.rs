//! The data of a column's chart: shares of real and synthetic rows in at most 24 bins, or of at most 20 categories.

use std::cmp::Reverse;

use serde_json::{Value, json};

use super::columns::{Compared, REAL, SYNTHETIC, Values};
use runtime::error::Result;
use runtime::jobs::Signal;
use runtime::memory;
use tabular::{ColumnKind, NONE};

const BINS: usize = 24;
const CATEGORIES: usize = 20;
/// Rows between two checks of the signal.
const CHECK_EVERY: usize = 1 << 16;

/// `{"edges": […], "real": […], "synthetic": […]}` for numbers and times (days since 2000), with a bin between
/// consecutive edges, the last including both; `{"categories": […], "real": […], "synthetic": […]}` for categories, the
/// most frequent first, and `"others"` apart. Shares are of all rows: the rest to 1 is NULL.
pub fn distribution(column: &Compared, signal: &Signal) -> Result<Value> {
    match &column.values {
        Values::Numbers(of) => of_numbers([of[REAL], of[SYNTHETIC]], column.kind, signal),
        Values::Codes { of, names } => {
            let mut counts = [memory::filled(0u64, names.len())?, memory::filled(0u64, names.len())?];
            for table in [REAL, SYNTHETIC] {
                for block in of[table].chunks(CHECK_EVERY) {
                    signal.check()?;
                    block.iter().filter(|&&code| code != NONE).for_each(|&code| counts[table][code as usize] += 1);
                }
            }
            let mut order: Vec<usize> = (0..names.len()).collect();
            order.sort_unstable_by_key(|&c| (Reverse((counts[0][c], counts[1][c])), &names[c]));
            let kept = &order[..order.len().min(CATEGORIES)];
            let share = |table: usize, count: u64| count as f64 / of[table].len().max(1) as f64;
            let shares = |table: usize| kept.iter().map(|&c| share(table, counts[table][c])).collect::<Vec<_>>();
            let others = |table: usize| share(table, order[kept.len()..].iter().map(|&c| counts[table][c]).sum());
            let mut out = json!({
                "categories": kept.iter().map(|&c| &*names[c]).collect::<Vec<_>>(),
                "real": shares(REAL),
                "synthetic": shares(SYNTHETIC),
            });
            if kept.len() < order.len() {
                out["others"] = json!({"categories": order.len() - kept.len(), "real": others(REAL), "synthetic": others(SYNTHETIC)});
            }
            Ok(out)
        }
    }
}

fn of_numbers(values: [&[f64]; 2], kind: ColumnKind, signal: &Signal) -> Result<Value> {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for block in values.iter().flat_map(|values| values.chunks(CHECK_EVERY)) {
        signal.check()?;
        (low, high) = block.iter().fold((low, high), |(low, high), &x| (low.min(x), high.max(x)));
    }
    if low > high {
        return Ok(json!({"edges": [], "real": [], "synthetic": []}));
    }
    // Of whole numbers each bin holds as many: else bins would be full and empty by turns.
    let (low, width, bins) = if kind == ColumnKind::Integer && high - low < 1e15 {
        let width = ((high - low + 1.0) / BINS as f64).ceil();
        (low - 0.5, width, ((high - low + 1.0) / width).ceil() as usize)
    } else if low == high {
        (low - 0.5, 1.0, 1)
    } else {
        (low, high / BINS as f64 - low / BINS as f64, BINS)
    };
    let mut shares = [vec![0f64; bins], vec![0f64; bins]];
    for (values, shares) in values.iter().zip(&mut shares) {
        let one = 1.0 / values.len().max(1) as f64;
        let mut counts = vec![0u64; bins];
        for block in values.chunks(CHECK_EVERY) {
            signal.check()?;
            block
                .iter()
                .filter(|x| !x.is_nan())
                .for_each(|&x| counts[((x / width - low / width) as usize).min(bins - 1)] += 1);
        }
        shares.iter_mut().zip(counts).for_each(|(share, count)| *share = count as f64 * one);
    }
    let edges: Vec<f64> = (0..=bins).map(|i| low + width * i as f64).collect();
    Ok(json!({"edges": edges, "real": shares[0], "synthetic": shares[1]}))
}
