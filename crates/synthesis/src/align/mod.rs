//! `alignment_weights`: weights of synthetic rows that make them together resemble the real ones.
//!
//! The weight of a row is the ratio of the densities, p_real(x) / p_synthetic(x). A classifier of real and synthetic
//! rows estimates it (Bickel, Brückner, Scheffer 2009; Sugiyama, Suzuki, Kanamori 2012, 4.2): with p the probability
//! that x is real, the ratio is p / (1 − p) · n_synthetic / n_real. The classifier is [gradient boosting](Boosting) on
//! the encoded columns of both tables. It is cross-fitted: each row is scored by a model that was not trained on it,
//! since otherwise the ratios would reflect memorized noise. Ratios are clipped to [1 / `clip`, `clip`], so that no row
//! dominates, and divided by their mean.
//!
//! Rows drawn by the weights ([`resample`]) resemble the real ones without weights: systematic resampling (Kitagawa
//! 1996) takes every row ⌊n w⌋ or ⌈n w⌉ times.
//!
//! Time: `folds` fits, one fold a thread. Memory: the encoded tables, a byte a row and column, and 24 bytes a row for
//! each fold in progress.

use runtime::draw;
use runtime::error::{Error, Result};
use runtime::jobs::jobs;
use runtime::memory;
use runtime::options::Options;
use runtime::progress::Progress;
use tabular::trees::{Binned, Boosting, BoostingOptions, Target};
use tabular::{Column, ColumnKind, Encoder, EncoderOptions, Table, Value};

/// Rows between two checks of the progress.
const CHECK_EVERY: usize = 4096;
/// Maximum number of rows that one call draws. Each takes 4 bytes, and its id as it is returned.
const MAX_DRAWN: usize = 100_000_000;

/// The weight of each synthetic row; their mean is 1. Columns are matched by name.
pub fn weights(
    real: &Table,
    synthetic: &Table,
    seed: u64,
    threads: usize,
    progress: &dyn Progress,
    options: &mut Options,
) -> Result<Vec<f64>> {
    let folds = options.integer("folds", 5, 2, 100)? as usize;
    let rounds = options.integer("rounds", 100, 1, 10_000)? as usize;
    let clip = f64::from(options.float("clip", 20.0, 1.0, 1e6)?);
    check(real, synthetic)?;
    let (n_real, n_synthetic) = (real.rows(), synthetic.rows());
    let Some(binned) = binned(real, synthetic, threads, progress)? else {
        // Nothing differs between any two rows.
        return memory::filled(1.0, n_synthetic);
    };
    let n = n_real + n_synthetic;
    let mut codes = memory::filled(0u32, n)?;
    codes[..n_real].fill(1);
    let fold_of = deal(n_real, n_synthetic, folds, seed)?;
    let target = Target::Classes { codes: &codes, classes: 2 };
    let boosting = BoostingOptions { rounds, ..BoostingOptions::default() };
    let units = Boosting::trees(&target, &boosting);
    // Each fold's ratios of its synthetic rows.
    let ratios = jobs(folds, threads, progress, ("folds", folds * units), |signal, fold| {
        let mut train = Vec::new();
        memory::reserve(&mut train, n)?;
        train.extend((0u32..).zip(&fold_of).filter(|(_, of)| usize::from(**of) != fold).map(|(row, _)| row));
        let model = Boosting::fit(&binned, &target, (&train, None), &boosting, draw::mix(seed ^ fold as u64), signal)?;
        let train_real = train.partition_point(|&row| (row as usize) < n_real);
        let odds = (train.len() - train_real) as f64 / (train_real as f64).max(1.0);
        let mut ratios = Vec::new();
        let (mut out, mut looked) = ([0f32; 2], 0);
        for row in (n_real..n).filter(|&row| usize::from(fold_of[row]) == fold) {
            if looked % CHECK_EVERY == 0 {
                signal.check()?;
            }
            looked += 1;
            model.predict(binned.row(row), &mut out);
            let p = f64::from(out[1]);
            memory::push(&mut ratios, (p / (1.0 - p).max(f64::MIN_POSITIVE) * odds).clamp(1.0 / clip, clip))?;
        }
        Ok(ratios)
    })?;
    let mut next: Vec<_> = ratios.iter().map(|of_fold| of_fold.iter()).collect();
    let mut weights = memory::filled(1f64, n_synthetic)?;
    for (weight, &fold) in weights.iter_mut().zip(&fold_of[n_real..]) {
        *weight = next[usize::from(fold)].next().copied().unwrap_or(1.0);
    }
    let mean = weights.iter().sum::<f64>() / n_synthetic as f64;
    weights.iter_mut().for_each(|weight| *weight /= mean);
    Ok(weights)
}

/// Draws `n` rows by their weights with systematic resampling: each ⌊n w⌋ or ⌈n w⌉ times for w = weight / Σ weights.
/// Ascending.
pub fn resample(weights: &[f64], n: usize, seed: u64, progress: &dyn Progress) -> Result<Vec<u32>> {
    if n > MAX_DRAWN {
        return Err(Error::TooLarge {
            what: "the number of rows to draw".into(),
            needed: n.to_string(),
            limit: MAX_DRAWN.to_string(),
            hint: "Draw fewer with another seed each time.".into(),
        });
    }
    if let Some(bad) = weights.iter().find(|w| !(w.is_finite() && **w >= 0.0)) {
        return Err(Error::invalid(format!("invalid weight: {bad}"), "Weights must be finite numbers of at least 0."));
    }
    let most = weights.iter().copied().fold(0.0, f64::max);
    if most == 0.0 {
        let message = if weights.is_empty() { "there are no weights" } else { "all weights are 0" };
        return Err(Error::invalid(message, "Give at least one row a weight above 0."));
    }
    // In parts of the greatest: no sum is too great.
    let total: f64 = weights.iter().map(|w| w / most).sum();
    let step = total / n.max(1) as f64;
    let mut at = (draw::mix(seed) >> 11) as f64 / (1u64 << 53) as f64 * step;
    let mut rows = Vec::new();
    memory::reserve(&mut rows, n)?;
    let (mut sum, mut last) = (0.0, 0);
    for (row, weight) in (0u32..).zip(weights).filter(|(_, weight)| **weight > 0.0) {
        sum += weight / most;
        last = row;
        while rows.len() < n && at < sum {
            if rows.len().is_multiple_of(CHECK_EVERY) {
                progress.check()?;
            }
            rows.push(row);
            at += step;
        }
    }
    // Rounding may leave the last ones over.
    rows.resize(n, last);
    Ok(rows)
}

fn check(real: &Table, synthetic: &Table) -> Result<()> {
    for (table, of) in [(real, "in the real source"), (synthetic, "in the synthetic source")] {
        if table.rows() == 0 {
            return Err(Error::EmptySource(of.into()));
        }
    }
    for (name, kind, column) in real.columns() {
        match synthetic.column(name) {
            None => return Err(mismatch(format!("the synthetic rows have no column \"{name}\""))),
            Some((other, _)) if general(other) != general(kind) => {
                let (other, kind) = (word(other), word(kind));
                return Err(mismatch(format!(
                    "column \"{name}\" has {other} in the synthetic rows and {kind} in the real rows"
                )));
            }
            Some((_, Column::Vector { width: other, .. })) => {
                if let Column::Vector { width, .. } = column
                    && *width != *other
                    && *width != 0
                    && *other != 0
                {
                    return Err(mismatch(format!(
                        "column \"{name}\" has {other} dimensions in the synthetic rows and {width} in the real rows"
                    )));
                }
            }
            Some(_) => {}
        }
    }
    match synthetic.columns().find(|(name, ..)| real.column(name).is_none()) {
        Some((name, ..)) => Err(mismatch(format!("the real rows have no column \"{name}\""))),
        None => Ok(()),
    }
}

fn mismatch(message: String) -> Error {
    Error::invalid(message, "Select the same columns, of the same types, in both queries.")
}

fn general(kind: ColumnKind) -> ColumnKind {
    if kind == ColumnKind::Integer { ColumnKind::Number } else { kind }
}

fn word(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Category => "categories",
        ColumnKind::Number | ColumnKind::Integer => "numbers",
        ColumnKind::Time => "times",
        ColumnKind::Vector => "vectors",
    }
}

/// The real rows followed by the synthetic ones, binned for the classifier; `None` if no column is informative.
fn binned(real: &Table, synthetic: &Table, threads: usize, progress: &dyn Progress) -> Result<Option<Binned>> {
    let mut both = Table::new(real.columns().map(|(name, kind, _)| (name.to_owned(), general(kind))).collect());
    for (table, of) in [(real, "real"), (synthetic, "synthetic")] {
        // In the order of the real table.
        let columns: Vec<&Column> =
            real.columns().filter_map(|(name, ..)| table.column(name).map(|(_, column)| column)).collect();
        let mut values: Vec<Value> = Vec::new();
        for row in 0..table.rows() {
            if row % CHECK_EVERY == 0 {
                progress.check()?;
            }
            values.clear();
            values.extend(columns.iter().map(|column| column.get(row)));
            both.push(&values, || format!("{of} row {}", row + 1))?;
        }
    }
    let encoder = match Encoder::fit(&both, &[], &EncoderOptions::default(), progress) {
        Ok(encoder) => encoder,
        // No column has two values, or all are identifiers.
        Err(Error::Invalid { .. }) => return Ok(None),
        Err(e) => return Err(e),
    };
    let features = encoder.encode(&both, progress)?;
    drop(both);
    Binned::of(&features, threads, progress).map(Some)
}

/// The fold of each row: the real rows are dealt to the folds in random order, and then the synthetic ones.
fn deal(n_real: usize, n_synthetic: usize, folds: usize, seed: u64) -> Result<Vec<u8>> {
    let mut fold_of = memory::filled(0u8, n_real + n_synthetic)?;
    for (first, n) in [(0, n_real), (n_real, n_synthetic)] {
        let mut order = memory::filled(0u32, n)?;
        draw::shuffled(&mut order, draw::mix(seed ^ first as u64));
        order.iter().enumerate().for_each(|(i, &row)| fold_of[first + row as usize] = (i % folds) as u8);
    }
    Ok(fold_of)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use runtime::progress::Unwatched;

    /// A number with this mean and deviation 1, and a kind that is "a" with this probability.
    fn rows(n: u64, mean: f64, share: f64, seed: u64) -> Table {
        let mut table = Table::new(vec![("x".into(), ColumnKind::Number), ("kind".into(), ColumnKind::Category)]);
        for i in 0..n {
            let x = mean + f64::from(draw::normal(seed, i));
            let kind = if f64::from(draw::uniform(!seed, i)) * 0.5 + 0.5 < share { "a" } else { "b" };
            table.push(&[Value::Number(x), Value::Category(kind)], || "a row".into()).unwrap();
        }
        table
    }

    fn weigh(real: &Table, synthetic: &Table, options: &Json) -> Result<Vec<f64>> {
        weights(real, synthetic, 1, 2, &Unwatched, &mut Options::new("alignment_weights", options).unwrap())
    }

    /// Means of the number and of being "a".
    fn means(table: &Table, rows: impl Iterator<Item = (usize, f64)>) -> (f64, f64) {
        let (mut x, mut a, mut sum) = (0.0, 0.0, 0.0);
        for (row, weight) in rows {
            let Some(Value::Number(number)) = table.column("x").map(|(_, column)| column.get(row)) else { panic!() };
            let kind = table.column("kind").map(|(_, column)| column.get(row));
            x += weight * number;
            a += weight * f64::from(u8::from(kind == Some(Value::Category("a"))));
            sum += weight;
        }
        (x / sum, a / sum)
    }

    #[test]
    fn weights_bring_the_means_of_shifted_rows_to_the_real_ones() {
        let (real, synthetic) = (rows(4000, 0.0, 0.5, 1), rows(3000, 0.8, 0.8, 2));
        let weights = weigh(&real, &synthetic, &json!({"rounds": 60})).unwrap();
        assert!((weights.iter().sum::<f64>() / 3000.0 - 1.0).abs() < 1e-9);
        let (x, a) = means(&synthetic, weights.iter().copied().enumerate());
        assert!(x.abs() < 0.12 && (a - 0.5).abs() < 0.05, "{x} {a}");
        let drawn = resample(&weights, 2500, 4, &Unwatched).unwrap();
        let (x, a) = means(&synthetic, drawn.iter().map(|&row| (row as usize, 1.0)));
        assert!(drawn.len() == 2500 && x.abs() < 0.15 && (a - 0.5).abs() < 0.06, "{x} {a}");
        let one = Options::new("alignment_weights", &Json::Null);
        let again = super::weights(&real, &synthetic, 1, 1, &Unwatched, &mut one.unwrap()).unwrap();
        let two = weigh(&real, &synthetic, &Json::Null).unwrap();
        assert!(again == two);
    }

    #[test]
    fn rows_like_the_real_ones_keep_weights_near_one_and_far_ones_are_clipped() {
        let weights = weigh(&rows(2000, 0.0, 0.5, 1), &rows(2000, 0.0, 0.5, 3), &json!({"rounds": 20})).unwrap();
        assert!(weights.iter().all(|w| (0.3..3.0).contains(w)));
        let weights = weigh(&rows(500, 0.0, 0.5, 1), &rows(500, 6.0, 0.5, 3), &json!({"clip": 2})).unwrap();
        let (least, most) = weights.iter().fold((f64::MAX, 0f64), |(a, b), &w| (a.min(w), b.max(w)));
        assert!(most / least < 4.0 + 1e-9 && most / least > 1.0, "{least} {most}");
    }

    #[test]
    fn rows_are_drawn_as_often_as_their_weights_say() {
        let weights = [1.0, 0.0, 2.5, 0.5, 4.0];
        for seed in 0..50 {
            let drawn = resample(&weights, 16, seed, &Unwatched).unwrap();
            for (row, weight) in (0u32..).zip(weights) {
                let times = drawn.iter().filter(|&&other| other == row).count() as f64;
                assert!((times - weight * 2.0).abs() < 1.0, "{row} {times}");
            }
        }
        assert_eq!(resample(&[f64::MAX; 2], 4, 1, &Unwatched).unwrap(), [0, 0, 1, 1]);
        assert!(resample(&[1.0], 0, 1, &Unwatched).unwrap().is_empty());
        let drawn = resample(&[1.0], MAX_DRAWN + 1, 1, &Unwatched);
        assert!(matches!(drawn, Err(Error::TooLarge { .. })));
        for bad in [&[][..], &[0.0], &[-1.0, 2.0], &[f64::NAN]] {
            assert!(resample(bad, 3, 1, &Unwatched).is_err());
        }
    }

    #[test]
    fn the_first_column_that_does_not_agree_is_named() {
        let real = rows(10, 0.0, 0.5, 1);
        let table = |columns: &[(&str, ColumnKind, Value)]| {
            let mut table = Table::new(columns.iter().map(|&(name, kind, _)| (name.into(), kind)).collect());
            table.push(&columns.iter().map(|&(.., value)| value).collect::<Vec<_>>(), || "a row".into()).unwrap();
            table
        };
        let (x, kind) =
            (("x", ColumnKind::Integer, Value::Number(1.0)), ("kind", ColumnKind::Category, Value::Category("a")));
        let message = |synthetic: &Table| weigh(&real, synthetic, &Json::Null).unwrap_err().to_string();
        assert_eq!(message(&table(&[x])), "the synthetic rows have no column \"kind\"");
        assert_eq!(message(&table(&[kind, x, ("y", x.1, x.2)])), "the real rows have no column \"y\"");
        let text = ("x", ColumnKind::Category, Value::Category("1"));
        let expected = "column \"x\" has categories in the synthetic rows and numbers in the real rows";
        assert_eq!(message(&table(&[text, kind])), expected);
        assert_eq!(message(&rows(0, 0.0, 0.5, 1)), "the source has no rows in the synthetic source");
        // One row, in another order of columns, and a table that tells nothing.
        assert_eq!(weigh(&real, &table(&[kind, x]), &Json::Null).unwrap(), [1.0]);
        let constant = table(&[kind, x]);
        assert_eq!(weigh(&constant, &constant, &Json::Null).unwrap(), [1.0]);
    }
}
