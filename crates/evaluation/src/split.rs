//! Splitting interactions into training and test.
//!
//! Random choices are hashes of seed, user, item and time, not a sequence: the side of an interaction does not depend on the order
//! of the rows or the number of threads.

use runtime::draw::mix;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::Progress;
use runtime::sorting::sort_watched;

/// Rows between two checks for a cancel request.
const CHECK_EVERY: usize = 1 << 18;

/// How to split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitMethod {
    /// Each user's last interaction is the test, or a random one without times. Users with one interaction keep it in training.
    LeaveOneOut,
    /// Interactions later than the `ratio` quantile of all times are the test.
    ByTime,
    /// Each interaction stays in training with probability `ratio`.
    Random,
}

impl SplitMethod {
    pub const ALL: [SplitMethod; 3] = [Self::LeaveOneOut, Self::ByTime, Self::Random];

    pub fn name(self) -> &'static str {
        match self {
            Self::LeaveOneOut => "leave_one_out",
            Self::ByTime => "by_time",
            Self::Random => "random",
        }
    }

    pub fn from_name(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|m| m.name() == name).ok_or_else(|| Error::UnknownName {
            what: "split method",
            name: name.into(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }
}

/// Tells for each interaction whether it is in the test. `users`, `items` and `times` (any unit) are parallel; `ratio` is the share
/// kept for training, between 0 and 1, and is ignored by `LeaveOneOut`.
pub fn split(
    method: SplitMethod,
    users: &[u32],
    items: &[u32],
    times: Option<&[i64]>,
    ratio: f64,
    seed: u64,
    progress: &dyn Progress,
) -> Result<Vec<bool>> {
    let n = users.len();
    if items.len() != n || times.is_some_and(|t| t.len() != n) {
        return Err(Error::Internal("the columns of a split differ in length".into()));
    }
    if !(ratio > 0.0 && ratio < 1.0) {
        return Err(Error::argument("ratio", ratio, "Give the share kept for training, between 0 and 1, such as 0.8."));
    }
    let chance = |i: usize| {
        let pair = u64::from(users[i]) << 32 | u64::from(items[i]);
        mix(mix(mix(seed) ^ pair) ^ times.map_or(0, |t| t[i] as u64))
    };
    let mut is_test = memory::filled(false, n)?;
    match (method, times) {
        (SplitMethod::Random, _) => {
            watched(&mut is_test, progress, |i| (chance(i) >> 11) as f64 / (1u64 << 53) as f64 >= ratio)?;
        }
        (SplitMethod::ByTime, None) => {
            return Err(Error::MissingColumn { column: "ts".into(), found: "user_id, item_id".into() });
        }
        (SplitMethod::ByTime, Some(times)) => {
            let mut sorted = Vec::new();
            memory::extend(&mut sorted, times)?;
            sort_watched(&mut sorted, &|| progress.check(), Ord::cmp)?;
            // The smallest time with at least `ratio` of the interactions at or before it.
            let place = ((ratio * n as f64).ceil() as usize).clamp(1, n.max(1)) - 1;
            if let Some(cut) = sorted.get(place) {
                watched(&mut is_test, progress, |i| times[i] > *cut)?;
            }
        }
        (SplitMethod::LeaveOneOut, _) => {
            let known = users.iter().max().map_or(0, |&u| u as usize + 1);
            let mut count: Vec<u32> = memory::zeroed(known)?;
            // Per user the row with the greatest key, from 1; the row decides only between equal rows.
            let mut last: Vec<usize> = memory::zeroed(known)?;
            let key = |row: usize| (times.map_or(0, |t| t[row]), chance(row), row);
            for (row, &user) in users.iter().enumerate() {
                if row % CHECK_EVERY == 0 {
                    progress.check()?;
                }
                count[user as usize] += 1;
                let last = &mut last[user as usize];
                if *last == 0 || key(row) > key(*last - 1) {
                    *last = row + 1;
                }
            }
            watched(&mut is_test, progress, |row| {
                let user = users[row] as usize;
                count[user] > 1 && last[user] == row + 1
            })?;
        }
    }
    Ok(is_test)
}

/// Whether each row is one of the test's.
fn watched(is_test: &mut [bool], progress: &dyn Progress, of_row: impl Fn(usize) -> bool) -> Result<()> {
    for (part, rows) in is_test.chunks_mut(CHECK_EVERY).enumerate() {
        progress.check()?;
        rows.iter_mut().zip(part * CHECK_EVERY..).for_each(|(is_test, row)| *is_test = of_row(row));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::progress::Unwatched;

    const USERS: [u32; 6] = [0, 0, 0, 1, 2, 2];
    const ITEMS: [u32; 6] = [5, 6, 7, 5, 6, 7];

    #[test]
    fn leave_one_out_takes_the_last_of_each_user_and_never_the_only_one() {
        let times = [3, 9, 1, 4, 2, 2];
        let test = split(SplitMethod::LeaveOneOut, &USERS, &ITEMS, Some(&times), 0.8, 1, &Unwatched).unwrap();
        assert_eq!(test[..4], [false, true, false, false]);
        assert_eq!(test[4..].iter().filter(|&&t| t).count(), 1);
        let by_chance = split(SplitMethod::LeaveOneOut, &USERS, &ITEMS, None, 0.8, 1, &Unwatched).unwrap();
        assert_eq!(by_chance.iter().filter(|&&t| t).count(), 2);
    }

    #[test]
    fn by_time_cuts_everyone_at_the_same_moment() {
        let times = [10, 20, 30, 40, 50, 50];
        let test = split(SplitMethod::ByTime, &USERS, &ITEMS, Some(&times), 0.5, 0, &Unwatched).unwrap();
        assert_eq!(test, [false, false, false, true, true, true]);
        assert!(split(SplitMethod::ByTime, &USERS, &ITEMS, None, 0.5, 0, &Unwatched).is_err());
        assert!(split(SplitMethod::ByTime, &[], &[], Some(&[]), 0.5, 0, &Unwatched).unwrap().is_empty());
    }

    #[test]
    fn chance_depends_on_the_seed_and_not_on_the_order_of_rows() {
        let (users, items): (Vec<u32>, Vec<u32>) = (0..5000u32).map(|i| (i / 50, i * 7 % 50)).unzip();
        for method in [SplitMethod::Random, SplitMethod::LeaveOneOut] {
            let forward = split(method, &users, &items, None, 0.8, 7, &Unwatched).unwrap();
            let reversed = |x: &[u32]| x.iter().rev().copied().collect::<Vec<_>>();
            let mut backward = split(method, &reversed(&users), &reversed(&items), None, 0.8, 7, &Unwatched).unwrap();
            backward.reverse();
            assert_eq!(forward, backward);
            assert_ne!(forward, split(method, &users, &items, None, 0.8, 8, &Unwatched).unwrap());
        }
        let test = split(SplitMethod::Random, &users, &items, None, 0.8, 7, &Unwatched).unwrap();
        let share = test.iter().filter(|&&t| t).count() as f64 / 5000.0;
        assert!((share - 0.2).abs() < 0.03, "{share}");
    }

    #[test]
    fn a_ratio_that_is_no_share_is_refused() {
        for ratio in [0.0, 1.0, -1.0, 80.0, f64::NAN] {
            assert!(split(SplitMethod::Random, &USERS, &ITEMS, None, ratio, 0, &Unwatched).is_err());
        }
    }
}
