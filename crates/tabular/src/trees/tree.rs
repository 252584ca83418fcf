//! A grown tree.

/// The column of a leaf.
const LEAF: u32 = u32::MAX;
/// Marks [`Node::at`] as the place of a set of codes rather than the last code that goes left.
const SET: u32 = 1 << 31;

/// The codes of a column that go left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Left {
    /// Codes up to this one.
    UpTo(u8),
    /// Codes whose bit is set.
    Set([u64; 4]),
}

impl Left {
    #[inline(always)]
    pub fn has(&self, code: u8) -> bool {
        match self {
            Self::UpTo(last) => code <= *last,
            Self::Set(set) => holds(set, code),
        }
    }
}

#[inline(always)]
fn holds(set: &[u64; 4], code: u8) -> bool {
    set[usize::from(code >> 6)] >> (code & 63) & 1 != 0
}

#[derive(Clone, Copy, Debug)]
struct Node {
    column: u32,
    /// The last code that goes left, or [`SET`] and the place of the set; for a leaf the number of values.
    at: u32,
    /// The left child, directly before the right one; for a leaf its first value.
    left: u32,
}

/// Splits from node 0 down to leaves, each with a few (output, value) pairs.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    nodes: Vec<Node>,
    sets: Vec<[u64; 4]>,
    values: Vec<(u32, f32)>,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node { column: LEAF, at: 0, left: 0 }], ..Self::default() }
    }

    /// Splits a leaf in two. Returns the left child; the right one follows it.
    pub(super) fn split(&mut self, leaf: usize, column: usize, how: Left) -> usize {
        let left = self.nodes.len();
        let at = match how {
            Left::UpTo(last) => u32::from(last),
            Left::Set(set) => {
                self.sets.push(set);
                SET | (self.sets.len() - 1) as u32
            }
        };
        self.nodes[leaf] = Node { column: column as u32, at, left: left as u32 };
        self.nodes.extend([Node { column: LEAF, at: 0, left: 0 }; 2]);
        left
    }

    pub(super) fn set_values(&mut self, leaf: usize, values: impl IntoIterator<Item = (u32, f32)>) {
        let first = self.values.len();
        self.values.extend(values);
        self.nodes[leaf] = Node { column: LEAF, at: (self.values.len() - first) as u32, left: first as u32 };
    }

    /// The leaf of a row with these codes.
    #[inline(always)]
    pub fn leaf(&self, codes: &[u8]) -> usize {
        let mut at = 0;
        loop {
            let node = self.nodes[at];
            if node.column == LEAF {
                return at;
            }
            let code = codes[node.column as usize];
            let left = if node.at & SET == 0 {
                u32::from(code) <= node.at
            } else {
                holds(&self.sets[(node.at & !SET) as usize], code)
            };
            at = node.left as usize + usize::from(!left);
        }
    }

    /// The prediction of a leaf: its classes and their shares, or a number as output 0.
    #[inline(always)]
    pub fn values(&self, leaf: usize) -> &[(u32, f32)] {
        let node = self.nodes[leaf];
        if node.column == LEAF { &self.values[node.left as usize..][..node.at as usize] } else { &[] }
    }

    /// The column, the last code that goes left, where it is no set, and the left child of a node; `None` for a leaf.
    pub(super) fn split_at(&self, node: usize) -> Option<(usize, Option<u8>, u32)> {
        let Node { column, at, left } = self.nodes[node];
        (column != LEAF).then_some((column as usize, if at & SET == 0 { Some(at as u8) } else { None }, left))
    }

    /// The only code that goes left at a node, where it is one.
    pub(super) fn only_code(&self, node: usize) -> Option<u8> {
        let Node { at, .. } = self.nodes[node];
        let set = self.sets.get((at & !SET) as usize).filter(|_| at & SET != 0)?;
        let mut codes = (0..=u8::MAX).filter(|&code| holds(set, code));
        codes.next().filter(|_| codes.next().is_none())
    }

    /// Number of nodes, including leaves.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    pub fn leaves(&self) -> usize {
        self.nodes.len().div_ceil(2)
    }
}
