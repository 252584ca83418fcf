//! The most similar items of each item.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Parameters, Similarity};
use crate::error::Result;
use crate::interactions::Csr;
use crate::memory;
use crate::parallel::for_each_chunk;
use crate::progress::{Counted, Progress};
use crate::recommendation::top_k::TopK;

/// Items whose neighbours are found between two looks for more work.
const BLOCK: usize = 32;

/// Two matrices [items, width]: most similar first; a similarity of 0 fills the rows of items that have fewer neighbours.
pub struct Neighbours {
    pub width: usize,
    pub items: Vec<i32>,
    pub similarities: Vec<f32>,
}

/// One item's neighbours, best first.
type List = Vec<(f32, u32)>;

/// Finds the neighbours of every column of `by_user`.
pub fn find(by_user: &Csr, parameters: &Parameters, threads: usize, progress: &dyn Progress) -> Result<Neighbours> {
    let by_item = by_user.transpose(progress)?;
    let items = by_item.rows();
    let norms: Vec<f32> = (0..items)
        .map(|item| by_item.row(item).1.iter().map(|&w| f64::from(w) * f64::from(w)).sum::<f64>().sqrt() as f32)
        .collect();
    let most = parameters.neighbours.min(items.saturating_sub(1)).max(1);
    let mut lists: Vec<List> = vec![Vec::new(); items];
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
                    let similarity = match parameters.similarity {
                        Similarity::Bm25 => product,
                        _ => product / (norms[item] * norms[other as usize] + parameters.shrinkage),
                    };
                    // A similarity of 0 is none: weights can underflow.
                    if similarity > 0.0 && similarity.is_finite() {
                        top.push(similarity, other);
                    }
                }
                *list = top.into_sorted();
            }
            done.fetch_add(lists.len(), Ordering::Relaxed);
            Ok(())
        },
    )?;

    let width = lists.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let mut found = Neighbours {
        width,
        items: memory::filled(0, items * width)?,
        similarities: memory::filled(0.0, items * width)?,
    };
    for (i, list) in lists.into_iter().enumerate() {
        for (j, (similarity, other)) in list.into_iter().enumerate() {
            found.items[i * width + j] = other as i32;
            found.similarities[i * width + j] = similarity;
        }
    }
    Ok(found)
}

/// One row of `WᵀW`, dense, with the list of what is not 0.
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
