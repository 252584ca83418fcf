//! A grown tree: rows of codes find the leaf whose rows they are like.

use crate::error::Result;
use crate::memory;

/// In place of a predictor, where there is no split.
pub(super) const LEAF: u32 = u32::MAX;

/// A set of codes.
pub(super) type Mask = [u64; 4];

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Node {
    /// Codes that go to the right.
    pub mask: Mask,
    /// Place among the columns before, or [`LEAF`].
    pub predictor: u32,
    /// The left child, before the right one; of a leaf, its number.
    pub next: u32,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    pub nodes: Vec<Node>,
    /// [leaves + 1]: where each leaf's donors begin.
    pub starts: Vec<u32>,
    /// [rows]: places among the distinct values, those of a leaf together and ascending.
    pub donors: Vec<u32>,
}

impl Node {
    pub fn leaf(number: u32) -> Self {
        Self { mask: [0; 4], predictor: LEAF, next: number }
    }
}

#[inline(always)]
pub(super) fn holds(mask: &Mask, code: u8) -> bool {
    mask[usize::from(code >> 6)] >> (code & 63) & 1 == 1
}

/// The leaf of a row with these codes, one for each column before.
#[inline(always)]
pub(super) fn leaf(nodes: &[Node], codes: &[u8]) -> u32 {
    let mut node = &nodes[0];
    while node.predictor != LEAF {
        let right = holds(&node.mask, codes[node.predictor as usize]);
        node = &nodes[node.next as usize + usize::from(right)];
    }
    node.next
}

impl Tree {
    /// Of one leaf.
    pub fn trunk(mut places: Vec<u32>) -> Result<Self> {
        places.sort_unstable();
        let mut nodes = Vec::new();
        memory::push(&mut nodes, Node::leaf(0))?;
        Ok(Self { nodes, starts: vec![0, places.len() as u32], donors: places })
    }
}
