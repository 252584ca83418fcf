//! Boosted trees as they serve: plain arrays that can be stored, and that score many rows at a time.
//!
//! Trees are read one after the other, with some rows side by side: while one row waits for a node, the others go on. Every row of such a group
//! takes as many steps as the tree is deep; a leaf leads to itself.

use std::mem::size_of;

use super::binned::{Binning, Sources};
use super::boosting::Boosting;
use kernels::statistics::softmax;
use runtime::error::Result;
use runtime::jobs::Signal;
use runtime::memory;

/// Rows that go down a tree side by side.
const LANES: usize = 8;
/// Rows whose codes stay in the L1 cache while all trees are read.
const BLOCK: usize = 512;
/// Added to a code that alone goes left.
const ALONE: u32 = 1 << 8;

/// A node. A row goes left where its code is at most `code`, or, above [`ALONE`], where it is the code; a leaf is its own left child, and all go there.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Node {
    column: u32,
    code: u32,
    left: u32,
    /// Of a leaf.
    value: f32,
}

/// Trees with their initial scores.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scorer {
    nodes: Vec<Node>,
    /// [rounds, scores]: the first node of each tree, and its depth.
    roots: Vec<(u32, u32)>,
    /// [scores]: the initial scores.
    base: Vec<f32>,
    /// Number of classes, or 1.
    outputs: usize,
    /// For numbers, the value of a score of 1.
    unit: f32,
    /// Columns of codes.
    width: usize,
}

/// A split as a graph says it: by a feature and a number, or by a leaf's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Left where the feature is at most the number.
    AtMost {
        feature: u32,
        number: f32,
        left: u32,
    },
    /// Left where the feature, one of a group of categories, is set.
    Is {
        feature: u32,
        left: u32,
    },
    Leaf(f32),
}

/// The arrays of a [`Scorer`], to be stored.
pub struct Parts {
    pub columns: Vec<u32>,
    pub codes: Vec<u32>,
    pub left: Vec<u32>,
    pub values: Vec<f32>,
    pub roots: Vec<u32>,
    pub base: Vec<f32>,
    pub unit: f32,
    pub outputs: usize,
    pub width: usize,
}

impl Scorer {
    /// `width` is the number of columns of the binned rows. `None` if a split is by a set of several codes, as those of forests are.
    pub fn of(boosting: &Boosting, width: usize) -> Option<Self> {
        let (base, outputs, unit) = boosting.start();
        let mut parts = Parts {
            columns: Vec::new(),
            codes: Vec::new(),
            left: Vec::new(),
            values: Vec::new(),
            roots: Vec::new(),
            base: base.to_vec(),
            unit,
            outputs,
            width,
        };
        for tree in boosting.grown() {
            let first = parts.columns.len() as u32;
            parts.roots.push(first);
            for node in 0..tree.nodes() {
                let (column, code, left, value) = match tree.split_at(node) {
                    Some((column, Some(code), left)) => (column as u32, u32::from(code), first + left, 0.0),
                    Some((column, None, left)) => {
                        (column as u32, ALONE + u32::from(tree.only_code(node)?), first + left, 0.0)
                    }
                    None => {
                        let value = tree.values(node).first().map_or(0.0, |(_, value)| *value);
                        (0, u32::from(u8::MAX), first + node as u32, value)
                    }
                };
                parts.columns.push(column);
                parts.codes.push(code);
                parts.left.push(left);
                parts.values.push(value);
            }
        }
        Self::from_parts(parts)
    }

    /// `None` if the arrays contradict each other: those from a file may say anything.
    pub fn from_parts(parts: Parts) -> Option<Self> {
        let Parts { columns, codes, left, values, roots, base, unit, outputs, width } = parts;
        let n = columns.len();
        let scores = if outputs == 2 { 1 } else { outputs };
        let are_long = codes.len() == n && left.len() == n && values.len() == n && base.len() == scores;
        if !are_long || outputs == 0 || roots.len() % scores != 0 || !roots.is_sorted() {
            return None;
        }
        let zipped = columns.iter().zip(&codes).zip(left.iter().zip(&values));
        let nodes: Vec<Node> =
            zipped.map(|((&column, &code), (&left, &value))| Node { column, code, left, value }).collect();
        // Children stand behind their parent, and before the next tree: so every tree ends.
        let mut depths = vec![0u32; n];
        for (tree, &root) in roots.iter().enumerate() {
            let end = roots.get(tree + 1).map_or(n, |&next| next as usize);
            if root as usize >= end {
                return None;
            }
            for place in (root as usize..end).rev() {
                let node = nodes[place];
                let left = node.left as usize;
                let is_leaf = left == place && node.code == u32::from(u8::MAX);
                let is_split = left > place && left + 1 < end && width > 0;
                let is_column = (node.column as usize) < width.max(1);
                if !(is_leaf || is_split) || !is_column || node.code >= 2 * ALONE || !node.value.is_finite() {
                    return None;
                }
                depths[place] = if is_leaf { 0 } else { 1 + depths[left].max(depths[left + 1]) };
            }
        }
        // A row without columns still reads code 0 of a leaf.
        let width = width.max(1);
        let roots = roots.iter().map(|&root| (root, depths[root as usize])).collect();
        Some(Self { nodes, roots, base, outputs, unit, width })
    }

    pub fn parts(&self) -> Parts {
        Parts {
            columns: self.nodes.iter().map(|node| node.column).collect(),
            codes: self.nodes.iter().map(|node| node.code).collect(),
            left: self.nodes.iter().map(|node| node.left).collect(),
            values: self.nodes.iter().map(|node| node.value).collect(),
            roots: self.roots.iter().map(|(root, _)| *root).collect(),
            base: self.base.clone(),
            unit: self.unit,
            outputs: self.outputs,
            width: self.width,
        }
    }

    /// Number of scores of a row: one for two classes or a number, else one for each class.
    pub fn scores(&self) -> usize {
        self.base.len()
    }

    /// Number of classes, or 1.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Codes that it reads of a row, one at least.
    pub fn width(&self) -> usize {
        self.width
    }

    pub fn trees(&self) -> usize {
        self.roots.len()
    }

    pub fn base(&self) -> &[f32] {
        &self.base
    }

    /// For numbers, the value of a score of 1.
    pub fn unit(&self) -> f32 {
        self.unit
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.nodes.len() * size_of::<Node>()
    }

    /// The steps of each tree, with children counted from the tree's first node.
    pub fn steps(&self, binning: &Binning) -> Option<Vec<Vec<Step>>> {
        let sources = binning.sources();
        let ends = self.roots.iter().skip(1).map(|(root, _)| *root as usize).chain([self.nodes.len()]);
        let of_tree = |(&(root, _), end): (&(u32, u32), usize)| {
            let root = root as usize;
            (root..end).map(|place| self.step(place, root, &sources)).collect::<Option<Vec<Step>>>()
        };
        self.roots.iter().zip(ends).map(of_tree).collect()
    }

    fn step(&self, place: usize, root: usize, sources: &Sources) -> Option<Step> {
        let node = self.nodes[place];
        if node.left as usize == place {
            return Some(Step::Leaf(node.value));
        }
        let left = node.left - root as u32;
        if node.code >= ALONE {
            let feature = sources.category(node.column as usize, (node.code - ALONE) as u8)?;
            return Some(Step::Is { feature, left });
        }
        let (feature, number) = sources.threshold(node.column as usize, node.code as u8)?;
        Some(Step::AtMost { feature, number, left })
    }

    /// Adds the trees' scores of rows of codes [rows, width] to `out` [rows, scores], which begins as [`base`](Self::base).
    fn add(&self, codes: &[u8], out: &mut [f32], signal: &Signal) -> Result<()> {
        let (width, scores) = (self.width, self.base.len());
        let rows = codes.len() / width;
        for (tree, &(root, depth)) in self.roots.iter().enumerate() {
            // There may be many trees, and deep ones.
            signal.check()?;
            let output = tree % scores;
            let mut first = 0;
            while first < rows {
                let lanes = LANES.min(rows - first);
                let mut at = [root; LANES];
                for _ in 0..depth {
                    for (lane, at) in at.iter_mut().enumerate().take(lanes) {
                        let node = self.nodes[*at as usize];
                        let code = u32::from(codes[(first + lane) * width + node.column as usize]);
                        let goes_left = if node.code < ALONE { code <= node.code } else { code + ALONE == node.code };
                        *at = node.left + u32::from(!goes_left);
                    }
                }
                for (lane, at) in at.iter().enumerate().take(lanes) {
                    out[(first + lane) * scores + output] += self.nodes[*at as usize].value;
                }
                first += lanes;
            }
        }
        Ok(())
    }

    /// Writes the scores of rows of codes [rows, width] to `out` [rows, scores].
    pub fn score(&self, codes: &[u8], out: &mut [f32], signal: &Signal) -> Result<()> {
        let scores = self.base.len();
        for (codes, out) in codes.chunks(BLOCK * self.width).zip(out.chunks_mut(BLOCK * scores)) {
            out.chunks_exact_mut(scores).for_each(|row| row.copy_from_slice(&self.base));
            self.add(codes, out, signal)?;
        }
        Ok(())
    }

    /// The prediction of a row from its scores, in `out` [outputs]: probabilities of the classes, or a number.
    pub fn predict(&self, scores: &[f32], out: &mut [f32]) {
        match self.outputs {
            2 => {
                let p = 1.0 / (1.0 + (-scores[0]).exp());
                out.copy_from_slice(&[1.0 - p, p]);
            }
            1 => out[0] = scores[0] * self.unit,
            _ => {
                out.copy_from_slice(scores);
                softmax(out);
            }
        }
    }

    /// Codes of rows without columns, in as many bytes as the trees ask for.
    pub fn padded(&self, rows: usize) -> Result<Vec<u8>> {
        memory::filled(0, rows * self.width)
    }
}
