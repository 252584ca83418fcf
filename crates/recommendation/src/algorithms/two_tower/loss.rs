//! The softmax over the items of a batch, and its gradients in closed form.

use kernels::matrix::rows_mut;
use kernels::statistics::exponentials;
use ndarray::{ArrayView2, s};
use neural::products::matmul;
use runtime::error::{Error, Result};
use runtime::team::Team;

/// Users whose scores are worked on at once.
const CHUNK: usize = 128;

/// What a batch of (user, item) pairs is scored by.
pub struct Batch<'a, 'k> {
    /// [batch, d]: `[x_u, 1]`
    pub users: &'a [f32],
    /// [batch, d]: `[v_i / τ, β_i]`
    pub items: &'a [f32],
    /// [batch]: the logarithm of how probable it is that a place of a batch holds this item.
    pub log_q: &'a [f32],
    /// [batch]
    pub item_ids: &'a [u32],
    /// [batch]: how much each pair counts.
    pub shares: &'a [f32],
    /// Of a pair: the items its user knows, ascending.
    pub known: &'a (dyn Fn(usize) -> &'k [u32] + Sync),
}

pub struct Gradients {
    /// [batch, d]
    pub users: Vec<f32>,
    /// [batch, d]
    pub items: Vec<f32>,
    pub loss: f64,
}

/// `−mean_b c_b ln softmax_j(x_b · v_j / τ + β_j − ln q_j)` at `j = b`, and its gradients.
pub fn softmax(batch: &Batch, team: &Team) -> Result<Gradients> {
    let n = batch.item_ids.len();
    let d = batch.items.len() / n.max(1);
    let of =
        |values, shape| ArrayView2::from_shape(shape, values).map_err(|e| Error::Internal(format!("a batch: {e}")));
    let (items, all_users) = (of(batch.items, (n, d))?, of(batch.users, (n, d))?);
    let parts = team.each(n.div_ceil(CHUNK), |c| {
        let first = c * CHUNK;
        let rows = (n - first).min(CHUNK);
        let users = all_users.slice(s![first..first + rows, ..]);
        let mut scores = matmul(users, items.t())?;
        let mut loss = 0.0;
        for (b, row) in (first..).zip(rows_mut(scores.view_mut())) {
            let known = (batch.known)(b);
            for (j, score) in row.iter_mut().enumerate() {
                *score -= batch.log_q[j];
                // What the user knows is no negative; the pair's own item counts once.
                if j != b && known.binary_search(&batch.item_ids[j]).is_ok() {
                    *score = f32::NEG_INFINITY;
                }
            }
            let (_, total) = exponentials(row);
            let share = batch.shares[b];
            loss -= f64::from(share * (row[b] / total).max(f32::MIN_POSITIVE).ln());
            let scale = share / (total * n as f32);
            row.iter_mut().for_each(|p| *p *= scale);
            row[b] -= share / n as f32;
        }
        Ok((matmul(scores.view(), items)?, matmul(scores.t(), users)?, loss))
    })?;
    let mut sum = Gradients { users: Vec::with_capacity(n * d), items: vec![0f32; n * d], loss: 0.0 };
    for (users, items, loss) in parts {
        sum.users.extend(users);
        sum.items.iter_mut().zip(&items).for_each(|(sum, g)| *sum += g);
        sum.loss += loss / n as f64;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::draw::uniform;
    use runtime::progress::Unwatched;
    use runtime::team;

    #[test]
    fn gradients_are_those_of_small_differences_and_known_items_are_no_negatives() {
        let (n, d) = (7, 3);
        let values = |seed| (0..n * d).map(|i| uniform(seed, i as u64)).collect::<Vec<f32>>();
        let (users, items) = (values(1), values(2));
        let log_q: Vec<f32> = (0..n).map(|i| -1.0 - i as f32 / 3.0).collect();
        let item_ids = [5, 6, 7, 5, 9, 10, 11];
        let shares: Vec<f32> = (0..n).map(|i| 0.4 + i as f32 / 5.0).collect();
        let known = |b: usize| if b == 0 { &[5, 11][..] } else { &[] };
        let run = |users: &[f32], items: &[f32]| {
            let batch = Batch { users, items, log_q: &log_q, item_ids: &item_ids, shares: &shares, known: &known };
            team::run(2, &Unwatched, "test", 1, |team| softmax(&batch, team)).unwrap()
        };
        let exact = run(&users, &items);
        for at in 0..n * d {
            let moved = |values: &[f32], by: f32| {
                let mut values = values.to_vec();
                values[at] += by;
                values
            };
            let of_users = (run(&moved(&users, 0.01), &items).loss - run(&moved(&users, -0.01), &items).loss) / 0.02;
            let of_items = (run(&users, &moved(&items, 0.01)).loss - run(&users, &moved(&items, -0.01)).loss) / 0.02;
            assert!((f64::from(exact.users[at]) - of_users).abs() < 1e-4);
            assert!((f64::from(exact.items[at]) - of_items).abs() < 1e-4);
        }
        // The first user knows the items of pairs 0, 3 and 6: these two say nothing to it.
        let mut other = items.clone();
        other[3 * d..4 * d].fill(9.0);
        assert_eq!(run(&users, &items).users[..d], run(&users, &other).users[..d]);
    }
}
