//! `reco.top_k`: the k best rows of a group, as a parallel aggregate.
//!
//! The state is a heap of at most k entries, the worst on top: a row that is not among the best so far costs one
//! comparison. Ties go to the item whose text sorts first, so that any plan gives the same list.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use pgrx::prelude::*;
use pgrx::{AnyElement, Internal, pg_sys};

use super::list_length;
use crate::pg::aggregate;
use crate::pg::errors;
use crate::pg::ids::any_text;
use runtime::error::{Error, Result};

/// Ordered from worse to better.
#[derive(Clone, Debug, PartialEq)]
struct Scored {
    score: f32,
    item: Reverse<String>,
}

impl Eq for Scored {}

impl Ord for Scored {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.score.total_cmp(&other.score).then_with(|| self.item.cmp(&other.item))
    }
}

impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Clone, Debug, Default)]
struct TopK {
    /// 0 before the first row.
    k: usize,
    best: BinaryHeap<Reverse<Scored>>,
}

impl TopK {
    /// Whether a row of this score can be among the best.
    fn admits(&self, score: f32) -> bool {
        self.best.len() < self.k || self.best.peek().is_some_and(|worst| score >= worst.0.score)
    }

    fn push(&mut self, row: Scored) {
        self.best.push(Reverse(row));
        if self.best.len() > self.k {
            self.best.pop();
        }
    }

    fn set_k(&mut self, k: usize) -> Result<()> {
        if self.k != 0 && self.k != k {
            let message = format!("k must be the same in every row, but is {} and {k}", self.k);
            return Err(Error::invalid(message, "Pass a constant for k."));
        }
        self.k = k;
        Ok(())
    }

    fn merge(&mut self, other: &Self) -> Result<()> {
        if other.k != 0 {
            self.set_k(other.k)?;
        }
        other.best.iter().for_each(|row| self.push(row.0.clone()));
        Ok(())
    }

    /// Best first.
    fn ranked(&self) -> Vec<Scored> {
        // Reverse of ascending `Reverse`: the best has the greatest order.
        self.best.clone().into_sorted_vec().into_iter().map(|row| row.0).collect()
    }

    /// k, then for each row the score, the length of the item's text and the text.
    fn serialize(&self) -> Vec<u8> {
        let mut bytes = (self.k as u64).to_le_bytes().to_vec();
        for Reverse(row) in &self.best {
            bytes.extend(row.score.to_le_bytes());
            bytes.extend((row.item.0.len() as u32).to_le_bytes());
            bytes.extend(row.item.0.as_bytes());
        }
        bytes
    }

    fn deserialize(bytes: &[u8]) -> Result<Self> {
        let cut = || Error::Internal("invalid state of top_k".into());
        let (k, mut rest) = bytes.split_first_chunk::<8>().ok_or_else(cut)?;
        let mut state = Self { k: u64::from_le_bytes(*k) as usize, best: BinaryHeap::new() };
        while !rest.is_empty() {
            let (score, tail) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
            let (length, tail) = tail.split_first_chunk::<4>().ok_or_else(cut)?;
            let (item, tail) = tail.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(cut)?;
            let item = std::str::from_utf8(item).map_err(|_| cut())?;
            state.push(Scored { score: f32::from_le_bytes(*score), item: Reverse(item.to_owned()) });
            rest = tail;
        }
        Ok(state)
    }
}

#[pg_extern(sql = false)]
fn top_k_accum(
    state: Internal,
    item: Option<AnyElement>,
    score: Option<f32>,
    k: Option<i32>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> errors::Result<Internal> {
    Ok(aggregate::update(state, fcinfo, TopK::default, |top| {
        let k = super::given(k, "k")?;
        top.set_k(list_length(k)?)?;
        // As with max: rows with a NULL count for nothing.
        let (Some(item), Some(score)) = (item, score) else { return Ok(()) };
        if score.is_nan() {
            return Err(Error::argument("score", "NaN", "Exclude such rows: FILTER (WHERE score <> 'NaN')."));
        }
        if top.admits(score) {
            top.push(Scored { score, item: Reverse(any_text(&item)?) });
        }
        Ok(())
    })?)
}

#[pg_extern(sql = false)]
fn top_k_combine(state: Internal, other: Internal, fcinfo: pg_sys::FunctionCallInfo) -> errors::Result<Internal> {
    Ok(aggregate::update(state, fcinfo, TopK::default, |top| {
        aggregate::read(&other).map_or(Ok(()), |other: &TopK| top.merge(other))
    })?)
}

#[pg_extern(sql = false)]
fn top_k_serialize(state: Internal) -> Vec<u8> {
    aggregate::read(&state).map(TopK::serialize).unwrap_or_else(|| TopK::default().serialize())
}

#[pg_extern(sql = false)]
fn top_k_deserialize(bytes: &[u8], _internal: Internal, fcinfo: pg_sys::FunctionCallInfo) -> errors::Result<Internal> {
    Ok(aggregate::adopt(fcinfo, TopK::deserialize(bytes)?)?)
}

#[pg_extern(sql = false)]
/// Returns a `reco.scored_item[]`. It has no Rust type: the datum is passed as is.
fn top_k_final(state: Internal) -> errors::Result<Option<Internal>> {
    let Some(top) = aggregate::read::<TopK>(&state).filter(|t| !t.best.is_empty()) else { return Ok(None) };
    let rows = top.ranked().into_iter().map(|row| (row.item.0, row.score));
    Ok(Some(crate::pg::arrays::scored_items(rows)?))
}
