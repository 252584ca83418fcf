//! The order of items in lists, for ranking given candidates: first the items that the algorithm scores, best first, then those
//! without a score (0), most popular first.
//!
//! `auc` is the probability that a relevant item ranks before another candidate, ties counting half (Hanley, McNeil 1982): the
//! Mann-Whitney statistic of that order, and scikit-learn's `roc_auc_score`.

/// Most relevant items for which all others are counted one by one, vectorised; with more, each of the others is looked up
/// among them.
const COUNTED: usize = 128;
/// Items counted into one 32-bit sum.
const BLOCK: usize = 1 << 16;

/// The sort key of an item: greater is better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    pub score: f32,
    pub popularity: f32,
}

impl Place {
    /// An integer with the same order.
    fn key(self) -> u64 {
        let scored = self.score != 0.0;
        let value = if scored { self.score } else { self.popularity };
        // Adding 0 makes −0 a 0. IEEE 754 numbers order as their bits do, those below 0 in reverse.
        let bits = (value + 0.0).to_bits();
        let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
        u64::from(scored) << 32 | u64::from(ordered)
    }
}

/// Sorts (place, item) like a list; ties by item.
pub fn sort(candidates: &mut [(Place, u32)]) {
    candidates.sort_unstable_by(|a, b| b.0.key().cmp(&a.0.key()).then(a.1.cmp(&b.1)));
}

/// The AUC of `relevant` against others; NaN if either is empty. The others have `scores` [n] and `popularity` [n]; entries with
/// a NaN score are skipped.
pub fn auc(relevant: &[Place], scores: &[f32], popularity: &[f32]) -> f64 {
    let others = scores.iter().filter(|score| !score.is_nan()).count();
    let twice: u64 = if relevant.len() <= COUNTED {
        relevant.iter().map(|&place| counted(place, scores, popularity)).sum()
    } else {
        looked_up(relevant, scores, popularity)
    };
    twice as f64 / 2.0 / (relevant.len() as f64 * others as f64)
}

/// Twice the number of others that rank after `place`, plus the number of ties.
fn counted(place: Place, scores: &[f32], popularity: &[f32]) -> u64 {
    let Place { score: own, popularity: known } = place;
    let blocks = scores.chunks(BLOCK).zip(popularity.chunks(BLOCK));
    blocks
        .map(|(scores, popularity)| {
            // Comparisons with NaN are false.
            let count: u32 = if own > 0.0 {
                scores.iter().map(|&s| 2 * u32::from(s < own) + u32::from(s == own)).sum()
            } else if own < 0.0 {
                scores.iter().map(|&s| 2 * u32::from((s < own) | (s == 0.0)) + u32::from(s == own)).sum()
            } else {
                let pairs = scores.iter().zip(popularity);
                pairs.map(|(&s, &p)| u32::from(s == 0.0) * (2 * u32::from(p < known) + u32::from(p == known))).sum()
            };
            u64::from(count)
        })
        .sum()
}

/// The sum of [`counted`] over `relevant`.
fn looked_up(relevant: &[Place], scores: &[f32], popularity: &[f32]) -> u64 {
    let mut keys: Vec<u64> = relevant.iter().map(|place| place.key()).collect();
    keys.sort_unstable();
    let others = scores.iter().zip(popularity).filter(|(score, _)| !score.is_nan());
    others
        .map(|(&score, &popularity)| {
            let key = Place { score, popularity }.key();
            let (below, not_above) = (keys.partition_point(|&k| k < key), keys.partition_point(|&k| k <= key));
            2 * (keys.len() - not_above) as u64 + (not_above - below) as u64
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(score: f32, popularity: f32) -> Place {
        Place { score, popularity }
    }

    #[test]
    fn scored_items_come_first_and_the_rest_by_popularity() {
        let mut items = [
            (place(0.0, 1.0), 0),
            (place(-2.0, 9.0), 1),
            (place(0.5, 0.0), 2),
            (place(0.0, 7.0), 3),
            (place(0.5, 3.0), 4),
            (place(-0.0, 1.0), 5),
        ];
        sort(&mut items);
        assert_eq!(items.map(|(_, item)| item), [2, 4, 1, 3, 0, 5]);
    }

    #[test]
    fn auc_counts_pairs_and_ties_half() {
        let one = [place(0.8, 0.0)];
        assert_eq!(auc(&one, &[0.9, 0.1, 0.8, 0.0, f32::NAN], &[0.0; 5]), (1.0 + 0.5 + 1.0) / 4.0);
        assert_eq!(auc(&[place(0.0, 2.0)], &[0.0, 0.0, -1.0, 0.0], &[1.0, 2.0, 0.0, 5.0]), 1.5 / 4.0);
        assert!(auc(&one, &[f32::NAN], &[0.0]).is_nan());
        assert!(auc(&[], &[0.5], &[0.0]).is_nan());
    }

    #[test]
    fn counting_and_looking_up_agree() {
        let draw = |n: u64| {
            let x = runtime::draw::mix(n);
            place(((x % 9) as f32 - 4.0) / 2.0, (x >> 32 & 7) as f32)
        };
        let relevant: Vec<Place> = (0..300).map(draw).collect();
        let (scores, popularity): (Vec<f32>, Vec<f32>) =
            (1000..3000).map(draw).map(|p| (p.score, p.popularity)).unzip();
        let total: u64 = relevant.iter().map(|&p| counted(p, &scores, &popularity)).sum();
        assert_eq!(looked_up(&relevant, &scores, &popularity), total);
        let keys = |a: Place, b: Place| if a.key() > b.key() { 2 } else { u64::from(a.key() == b.key()) };
        let pairs = relevant.iter().flat_map(|&a| (1000..3000).map(move |n| keys(a, draw(n))));
        assert_eq!(total, pairs.sum::<u64>());
    }
}
