//! A grown tree, which maps rows of codes to leaves.

use ndarray::ArrayView2;

use kernels::matrix::flat;
use runtime::error::Result;
use runtime::memory;

/// Predictor of a node without a split.
pub(super) const LEAF: u32 = u32::MAX;

/// Rows that walk the tree side by side, so that their memory latencies overlap.
const TOGETHER: usize = 8;

/// A set of codes.
pub(super) type Mask = [u64; 4];

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Node {
    /// Codes that go right.
    pub mask: Mask,
    /// Index of the predictor among the earlier columns, or [`LEAF`].
    pub predictor: u32,
    /// The left child, followed by the right one; for a leaf its number.
    pub next: u32,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    pub nodes: Vec<Node>,
    /// [leaves + 1]: start of each leaf's donors.
    pub starts: Vec<u32>,
    /// [rows]: indices of distinct values, by leaf and ascending.
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

/// Nodes whose leaves lead to themselves, so that rows walk side by side without testing for arrival; and for each node
/// the start and number of its donors.
pub(super) fn walkable(nodes: &[Node], starts: &[u32]) -> (Vec<Node>, Vec<(u32, u32)>) {
    let walk = |(at, node): (usize, &Node)| match node.predictor {
        LEAF => {
            let leaf = node.next as usize;
            let donors = (starts[leaf], starts[leaf + 1] - starts[leaf]);
            (Node { mask: [0; 4], predictor: 0, next: at as u32 }, donors)
        }
        _ => (*node, (0, 0)),
    };
    nodes.iter().enumerate().map(walk).unzip()
}

/// Finds the leaf node of each row of `codes` [rows, columns].
pub(super) fn arrive(nodes: &[Node], codes: ArrayView2<u8>, out: &mut [u32]) {
    let (width, codes) = (codes.ncols(), flat(codes));
    out.fill(0);
    if nodes.len() < 2 {
        return;
    }
    for (codes, out) in codes.chunks(TOGETHER * width).zip(out.chunks_mut(TOGETHER)) {
        match out.try_into() {
            Ok(at) => arrive_together(nodes, codes, width, at),
            Err(_) => {
                let mut at = [0; TOGETHER];
                let mut padded = vec![0; TOGETHER * width];
                let taken = out.len() * width;
                padded[..taken].copy_from_slice(&codes[..taken]);
                arrive_together(nodes, &padded, width, &mut at);
                out.copy_from_slice(&at[..out.len()]);
            }
        }
    }
}

fn arrive_together(nodes: &[Node], codes: &[u8], width: usize, at: &mut [u32; TOGETHER]) {
    loop {
        let mut moved = 0;
        for (row, at) in at.iter_mut().enumerate() {
            let node = &nodes[*at as usize];
            let right = holds(&node.mask, codes[row * width + node.predictor as usize]);
            let next = node.next + u32::from(right);
            moved |= next ^ *at;
            *at = next;
        }
        if moved == 0 {
            return;
        }
    }
}

/// The next value below or above the one at `j` among a leaf's donors; on the other side if there is none.
#[inline]
pub(super) fn neighbour<T: Copy + Ord>(donors: &[T], j: usize, back: bool) -> Option<T> {
    let of = donors[j];
    let below = || match j.checked_sub(1).map(|i| donors[i]) {
        // A run of the same: to its beginning.
        Some(x) if x == of => donors[..donors[..j].partition_point(|&x| x < of)].last().copied(),
        x => x,
    };
    let above = || match donors.get(j + 1).copied() {
        Some(x) if x == of => donors.get(j + donors[j..].partition_point(|&x| x <= of)).copied(),
        x => x,
    };
    if back { below().or_else(above) } else { above().or_else(below) }
}

impl Tree {
    /// A tree of one leaf.
    pub fn trunk(mut places: Vec<u32>) -> Result<Self> {
        places.sort_unstable();
        let mut nodes = Vec::new();
        memory::push(&mut nodes, Node::leaf(0))?;
        Ok(Self { nodes, starts: vec![0, places.len() as u32], donors: places })
    }
}
