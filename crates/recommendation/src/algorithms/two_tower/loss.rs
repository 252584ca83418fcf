//! The softmax over the items of a batch, and its gradients in closed form.

use kernels::matrix::rows_mut;
use kernels::statistics::exponentials;
use ndarray::{Array2, ArrayView2, s};
use neural::products::matmul;
use runtime::error::Result;
use runtime::team::Team;

/// Users whose scores are worked on at once.
const CHUNK: usize = 128;

/// What a batch of (user, item) pairs is scored by.
pub struct Batch<'a, 'k> {
    /// [batch, d]: `[x_u, 1]`
    pub users: ArrayView2<'a, f32>,
    /// [batch, d]: `[v_i / τ, β_i]`
    pub items: ArrayView2<'a, f32>,
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
    pub users: Array2<f32>,
    /// [batch, d]
    pub items: Array2<f32>,
    pub loss: f64,
}

/// `−mean_b c_b ln softmax_j(x_b · v_j / τ + β_j − ln q_j)` at `j = b`, and its gradients.
pub fn softmax(batch: &Batch, team: &Team) -> Result<Gradients> {
    let (n, items) = (batch.item_ids.len(), batch.items);
    let parts = team.each(n.div_ceil(CHUNK), |c| {
        let first = c * CHUNK;
        let rows = (n - first).min(CHUNK);
        let users = batch.users.slice(s![first..first + rows, ..]);
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
    let mut sum = Gradients { users: Array2::zeros(batch.users.dim()), items: Array2::zeros(items.dim()), loss: 0.0 };
    for (c, (users, items, loss)) in parts.into_iter().enumerate() {
        sum.users.slice_mut(s![c * CHUNK..c * CHUNK + users.nrows(), ..]).assign(&users);
        sum.items += &items;
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
        let values = |seed| Array2::from_shape_fn((n, d), |(i, k)| uniform(seed, (i * d + k) as u64));
        let (users, items) = (values(1), values(2));
        let log_q: Vec<f32> = (0..n).map(|i| -1.0 - i as f32 / 3.0).collect();
        let item_ids = [5, 6, 7, 5, 9, 10, 11];
        let shares: Vec<f32> = (0..n).map(|i| 0.4 + i as f32 / 5.0).collect();
        let known = |b: usize| if b == 0 { &[5, 11][..] } else { &[] };
        let run = |users: &Array2<f32>, items: &Array2<f32>| {
            let (users, items) = (users.view(), items.view());
            let batch = Batch { users, items, log_q: &log_q, item_ids: &item_ids, shares: &shares, known: &known };
            team::run(2, &Unwatched, "test", 1, |team| softmax(&batch, team)).unwrap()
        };
        let exact = run(&users, &items);
        for at in (0..n * d).map(|at| [at / d, at % d]) {
            let moved = |values: &Array2<f32>, by: f32| {
                let mut values = values.clone();
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
        other.row_mut(3).fill(9.0);
        assert_eq!(run(&users, &items).users.row(0), run(&users, &other).users.row(0));
    }
}
