//! Which rows are held out of training, to find how long to train and how good the predictor is.

use std::collections::HashMap;

use runtime::draw;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::sorting::sort_watched;
use tabular::trees::Target;

/// Returns an error to cancel.
type Check<'a> = &'a dyn Fn() -> Result<()>;

/// How rows are held out.
#[derive(Clone, Copy, Debug)]
pub enum Split<'a> {
    /// At random, each class alike.
    Rows,
    /// Rows of one group are held out together. [rows]
    Groups(&'a [u32]),
    /// The latest rows. [rows], NaN for unknown, which counts as early.
    Time(&'a [f64]),
}

/// The share of rows that are held out where it is done once.
const HELD: f64 = 0.2;

/// The fold of each row; rows of no fold, [`NEVER`], are never held out.
pub struct Folds {
    pub of: Vec<u16>,
    pub count: usize,
}

pub const NEVER: u16 = u16::MAX;

impl Folds {
    /// Deals the rows into `count` folds; 1 holds a fifth of them out, once.
    pub fn deal(split: Split, target: &Target, rows: usize, count: usize, seed: u64, check: Check) -> Result<Self> {
        match split {
            Split::Time(times) => Self::latest(times, check),
            Split::Groups(groups) => Self::of_groups(groups, count),
            Split::Rows => Self::of_rows(target, rows, count, seed, check),
        }
    }

    fn of_rows(target: &Target, rows: usize, count: usize, seed: u64, check: Check) -> Result<Self> {
        let parts = parts(count);
        let mut drawn = memory::filled(0u32, rows)?;
        draw::shuffled(&mut drawn, seed);
        // The rows of each class are dealt in turn, and the next class continues where the last one ended.
        let class = |row: u32| match target {
            Target::Classes { codes, .. } => codes[row as usize],
            Target::Numbers(_) => 0,
        };
        let mut order: Vec<(u32, u32, u32)> = Vec::new();
        memory::reserve(&mut order, rows)?;
        order.extend(drawn.iter().zip(0..).map(|(&row, place)| (class(row), place, row)));
        sort_watched(&mut order, check, |a, b| a.cmp(b))?;
        let mut of = memory::filled(NEVER, rows)?;
        for (place, &(.., row)) in order.iter().enumerate() {
            let part = place % parts;
            of[row as usize] = if part < count { part as u16 } else { NEVER };
        }
        Ok(Self { of, count })
    }

    fn of_groups(groups: &[u32], count: usize) -> Result<Self> {
        let mut sizes: HashMap<u32, usize> = HashMap::new();
        groups.iter().for_each(|&group| *sizes.entry(group).or_default() += 1);
        let parts = parts(count);
        if sizes.len() < parts {
            let message = format!("fold_by has {} groups, fewer than the {parts} parts of the rows", sizes.len());
            return Err(Error::invalid(message, "Name a column with more values, or lower the option \"folds\"."));
        }
        // The largest first, each to the part that has the fewest rows.
        let mut order: Vec<(u32, usize)> = sizes.into_iter().collect();
        order.sort_unstable_by_key(|&(group, size)| (std::cmp::Reverse(size), group));
        let mut filled = vec![0usize; parts];
        let mut part_of: HashMap<u32, usize> = HashMap::new();
        for (group, size) in order {
            let part = (0..parts).min_by_key(|&part| filled[part]).unwrap_or(0);
            filled[part] += size;
            part_of.insert(group, part);
        }
        let mut of = memory::filled(NEVER, groups.len())?;
        for (of, group) in of.iter_mut().zip(groups) {
            *of = part_of.get(group).map_or(NEVER, |&part| if part < count { part as u16 } else { NEVER });
        }
        Ok(Self { of, count })
    }

    fn latest(times: &[f64], check: Check) -> Result<Self> {
        let mut order: Vec<u32> = Vec::new();
        memory::reserve(&mut order, times.len())?;
        order.extend(0..times.len() as u32);
        let time = |row: u32| if times[row as usize].is_nan() { f64::NEG_INFINITY } else { times[row as usize] };
        sort_watched(&mut order, check, |&a, &b| time(a).total_cmp(&time(b)).then(a.cmp(&b)))?;
        let early = times.len() - (times.len() as f64 * HELD) as usize;
        let mut of = memory::filled(NEVER, times.len())?;
        order.iter().skip(early).for_each(|&row| of[row as usize] = 0);
        Ok(Self { of, count: 1 })
    }

    /// The rows that are trained on while a fold is held out, and that fold's, both ascending.
    pub fn split(&self, fold: usize) -> Result<(Vec<u32>, Vec<u32>)> {
        let of_fold = |held: bool| -> Result<Vec<u32>> {
            let mut rows = Vec::new();
            memory::reserve(&mut rows, self.of.len())?;
            rows.extend((0..).zip(&self.of).filter(|(_, of)| (usize::from(**of) == fold) == held).map(|(row, _)| row));
            Ok(rows)
        };
        Ok((of_fold(false)?, of_fold(true)?))
    }
}

fn parts(count: usize) -> usize {
    if count == 1 { (1.0 / HELD) as usize } else { count }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: Target = Target::Numbers(&[]);

    #[test]
    fn each_fold_has_its_share_of_each_class() {
        let codes: Vec<u32> = (0..100).map(|row| u32::from(row % 10 == 0)).collect();
        let folds =
            Folds::deal(Split::Rows, &Target::Classes { codes: &codes, classes: 2 }, 100, 5, 1, &|| Ok(())).unwrap();
        for fold in 0..5 {
            let (train, held) = folds.split(fold).unwrap();
            assert_eq!((train.len(), held.len()), (80, 20));
            assert_eq!(held.iter().filter(|&&row| codes[row as usize] == 1).count(), 2);
        }
    }

    #[test]
    fn a_single_fold_is_a_fifth() {
        let folds = Folds::deal(Split::Rows, &NUMBERS, 100, 1, 1, &|| Ok(())).unwrap();
        assert_eq!(folds.split(0).unwrap().1.len(), 20);
    }

    #[test]
    fn a_group_stays_together() {
        let groups: Vec<u32> = (0..90).map(|row| row / 3).collect();
        let folds = Folds::deal(Split::Groups(&groups), &NUMBERS, 90, 5, 1, &|| Ok(())).unwrap();
        assert!(folds.of.chunks(3).all(|of| of[0] == of[1] && of[1] == of[2]));
        assert!((0..5).all(|fold| folds.split(fold).unwrap().1.len() == 18));
        assert!(Folds::deal(Split::Groups(&[1, 1, 2, 2]), &NUMBERS, 4, 5, 1, &|| Ok(())).is_err());
    }

    #[test]
    fn of_times_the_latest_are_held_out() {
        let times: Vec<f64> = (0..10).map(|row| if row == 9 { f64::NAN } else { f64::from(9 - row) }).collect();
        let folds = Folds::deal(Split::Time(&times), &NUMBERS, 10, 5, 1, &|| Ok(())).unwrap();
        assert_eq!(folds.split(0).unwrap().1, [0, 1]);
    }
}
