//! Building item graphs: the strongest weights of each row of `W`.

use std::sync::atomic::{AtomicUsize, Ordering};

use ndarray::Array2;

use inner_products::TopK;
use kernels::Csr;
use kernels::matrix::flat_mut;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::parallel::for_each_chunk;
use runtime::progress::{Counted, Progress};

/// Items whose neighbours are found between two looks for more work.
const BLOCK: usize = 32;

/// Two matrices with a row for each item: the greatest weight first; a weight of 0 fills the rows of items that have fewer neighbours.
pub struct Neighbours {
    pub items: Array2<i32>,
    pub weights: Array2<f32>,
}

/// One item's (weight, neighbour) pairs, the greatest weight first, none 0.
pub type List = Vec<(f32, u32)>;

impl Neighbours {
    /// One list for each item.
    pub fn new(lists: Vec<List>) -> Result<Self> {
        let width = lists.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let rows = lists.len();
        let mut found = Self { items: memory::matrix(rows, width, 0)?, weights: memory::matrix(rows, width, 0.0)? };
        let items = flat_mut(found.items.view_mut()).chunks_exact_mut(width);
        let weights = flat_mut(found.weights.view_mut()).chunks_exact_mut(width);
        for (list, (items, weights)) in lists.into_iter().zip(items.zip(weights)) {
            for ((weight, other), (to_item, to_weight)) in list.into_iter().zip(items.iter_mut().zip(weights)) {
                (*to_item, *to_weight) = (other as i32, weight);
            }
        }
        Ok(found)
    }

    /// Refuses, before any work is done, what the ONNX file could not hold.
    pub fn check_size(algorithm: &'static str, items: usize, width: usize) -> Result<()> {
        let bytes = items.saturating_mul(width).saturating_mul(size_of::<i32>() + size_of::<f32>());
        if bytes < i32::MAX as usize - (64 << 20) {
            return Ok(());
        }
        Err(Error::TooLarge {
            what: format!("the item graph of {algorithm}"),
            needed: format!("{} MB for {width} neighbours of each of {items} items", bytes >> 20),
            limit: "2 GB, the most a protobuf file can hold".into(),
            hint: format!("Set the option neighbours to {} or less.", (1usize << 30) / (8 * items.max(1))),
        })
    }
}

/// For every item, the `most` others of greatest `weigh(item, other, p)`, where `p` is the product of their columns of `by_user`.
///
/// `weigh` must not turn a positive product negative; weights that are 0 or not finite are left out.
/// One row of `XᵀX` at a time is made with a dense accumulator a thread (Gustavson 1978) and cut to its best at once:
/// O(Σ_u n_u²) time, O(items · (threads + most)) memory, never the matrix of all pairs.
pub fn products(
    by_user: &Csr,
    most: usize,
    weigh: impl Fn(usize, usize, f32) -> f32 + Sync,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Neighbours> {
    let by_item = by_user.transpose(progress)?;
    let items = by_item.rows();
    let most = most.min(items.saturating_sub(1)).max(1);
    let mut lists: Vec<List> = memory::filled(Vec::new(), items)?;
    let done = AtomicUsize::new(0);
    for_each_chunk(
        &mut lists,
        BLOCK,
        threads,
        &Counted { whole: progress, phase: "items compared", done: &done, total: items },
        || Accumulator { sums: vec![0.0; items], touched: Vec::new() },
        |accumulator, block, lists| {
            for (i, list) in lists.iter_mut().enumerate() {
                let item = block * BLOCK + i;
                accumulator.add_products(&by_item, by_user, item);
                let mut top = TopK::new(most);
                for &other in &accumulator.touched {
                    let product = std::mem::take(&mut accumulator.sums[other as usize]);
                    if other as usize == item {
                        continue;
                    }
                    let weight = weigh(item, other as usize, product);
                    // A weight of 0 is none: products can underflow.
                    if weight > 0.0 && weight.is_finite() {
                        top.push(weight, other);
                    }
                }
                *list = top.into_sorted();
            }
            done.fetch_add(lists.len(), Ordering::Relaxed);
            Ok(())
        },
    )?;
    Neighbours::new(lists)
}

/// One row of `XᵀX`, dense, with the list of what is not 0.
struct Accumulator {
    sums: Vec<f32>,
    touched: Vec<u32>,
}

impl Accumulator {
    fn add_products(&mut self, by_item: &Csr, by_user: &Csr, item: usize) {
        self.touched.clear();
        let (users, weights) = by_item.row(item);
        for (&user, &weight) in users.iter().zip(weights) {
            let (others, other_weights) = by_user.row(user as usize);
            for (&other, &other_weight) in others.iter().zip(other_weights) {
                let sum = &mut self.sums[other as usize];
                if *sum == 0.0 {
                    self.touched.push(other);
                }
                *sum += weight * other_weight;
            }
        }
    }
}
