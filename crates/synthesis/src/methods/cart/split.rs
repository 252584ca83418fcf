//! The best split of a node by one predictor, from the codes of its rows counted by target.
//!
//! Numbers keep their order. Categories are ordered by the mean of the target among the node's rows: the best of all
//! subsets is then a prefix (Breiman et al. 1984, theorem 4.5, for two classes and for one number; for more classes it
//! is a heuristic, with the node's most frequent class).

use super::tree::Mask;

/// A split and its score: the sum over its sides of (sum of the target)² / rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Split {
    pub score: f64,
    pub mask: Mask,
}

/// Target sums of a node by code.
pub(super) enum Sums<'a> {
    /// [codes, classes]: numbers of rows.
    Classes { counts: &'a [u32], classes: usize },
    /// [codes, outputs]: sums.
    Numbers { sums: &'a [f64], outputs: usize },
}

/// Buffers, reused between nodes.
#[derive(Default)]
pub(super) struct Scratch {
    order: Vec<u8>,
    keys: Vec<f64>,
    left: Vec<f64>,
    left_counts: Vec<u64>,
}

/// The best split. `rows` [codes] are the numbers of rows, `total` the sums over all of them.
pub(super) fn best(
    rows: &[u32],
    sums: &Sums,
    ordered: bool,
    least: u32,
    scratch: &mut Scratch,
    (all, classes_of_all): (&[f64], &[u64]),
) -> Option<Split> {
    let Scratch { order, keys, left, left_counts } = scratch;
    order.clear();
    order.extend((0..rows.len()).filter(|&code| rows[code] > 0).map(|code| code as u8));
    if order.len() < 2 {
        return None;
    }
    let total: u32 = order.iter().map(|&code| rows[code as usize]).sum();
    if !ordered && order.len() > 2 {
        keys.clear();
        keys.resize(rows.len(), 0.0);
        match sums {
            Sums::Classes { counts, classes } => {
                let top = (0..*classes).rev().max_by_key(|&class| classes_of_all[class]).unwrap_or(0);
                for &code in order.iter() {
                    let n = counts[code as usize * classes + top];
                    keys[code as usize] = f64::from(n) / f64::from(rows[code as usize]);
                }
            }
            Sums::Numbers { sums, outputs } => {
                for &code in order.iter() {
                    keys[code as usize] = sums[code as usize * outputs] / f64::from(rows[code as usize]);
                }
            }
        }
        order.sort_by(|&a, &b| keys[a as usize].total_cmp(&keys[b as usize]));
    }
    let mut best: Option<(f64, usize)> = None;
    let mut n = 0;
    let mut consider = |place: usize, n: u32, score: f64| {
        if n >= least && total - n >= least && best.is_none_or(|(most, _)| score > most) {
            best = Some((score, place));
        }
    };
    match sums {
        Sums::Classes { counts, classes } => {
            left_counts.clear();
            left_counts.resize(*classes, 0);
            // Squares of whole numbers: exact.
            let (mut squares, mut rest) = (0u64, classes_of_all.iter().map(|&x| x * x).sum::<u64>());
            for (place, &code) in order[..order.len() - 1].iter().enumerate() {
                n += rows[code as usize];
                let of_code = &counts[code as usize * classes..][..*classes];
                for ((&c, l), &all) in of_code.iter().zip(left_counts.iter_mut()).zip(classes_of_all) {
                    let c = u64::from(c);
                    squares += c * (2 * *l + c);
                    rest -= c * (2 * (all - *l) - c);
                    *l += c;
                }
                let score = squares as f64 / f64::from(n) + rest as f64 / f64::from(total - n);
                consider(place, n, score);
            }
        }
        Sums::Numbers { sums, outputs } => {
            left.clear();
            left.resize(*outputs, 0.0);
            for (place, &code) in order[..order.len() - 1].iter().enumerate() {
                n += rows[code as usize];
                let (mut squares, mut rest) = (0.0, 0.0);
                for ((&s, l), &all) in sums[code as usize * outputs..].iter().zip(left.iter_mut()).zip(all) {
                    *l += s;
                    squares += *l * *l;
                    rest += (all - *l) * (all - *l);
                }
                consider(place, n, squares / f64::from(n) + rest / f64::from(total - n));
            }
        }
    }
    let (score, place) = best?;
    Some(Split { score, mask: mask(rows, order, place, total, ordered) })
}

/// The codes that go right if those in `order` up to `place` go left. A code without rows goes with its neighbours for
/// numbers, and with the majority for categories.
fn mask(rows: &[u32], order: &[u8], place: usize, total: u32, ordered: bool) -> Mask {
    let mut mask = [0u64; 4];
    if ordered {
        // Half-way between the last on the left and the first on the right.
        let (low, high) = (usize::from(order[place]), usize::from(order[place + 1]));
        for code in (low + high) / 2 + 1..256 {
            mask[code >> 6] |= 1 << (code & 63);
        }
        return mask;
    }
    let left: u32 = order[..=place].iter().map(|&code| rows[code as usize]).sum();
    if left < total - left {
        mask = [u64::MAX; 4];
        order[..=place].iter().for_each(|&code| mask[usize::from(code >> 6)] &= !(1 << (code & 63)));
    } else {
        order[place + 1..].iter().for_each(|&code| mask[usize::from(code >> 6)] |= 1 << (code & 63));
    }
    mask
}
