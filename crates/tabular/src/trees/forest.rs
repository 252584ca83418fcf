//! Bagged trees (Breiman 1996, 2001): each is grown on a bootstrap sample of the rows, split by Gini impurity or variance.
//!
//! A split by categories sends one left and all others right.
//!
//! Time: O(rows · columns · depth) per tree, one tree per thread. Memory: rows × columns bytes for a transposed copy, 56 bytes
//! per row and thread, and 12 bytes per node of the trees that are kept.

use std::sync::Mutex;

use super::binned::Binned;
use super::split::alone;
use super::target::Target;
use super::tree::{Left, Tree};
use runtime::draw;
use runtime::error::{Error, Result};
use runtime::jobs::{Signal, jobs};
use runtime::memory;
use runtime::progress::Progress;

/// Rows handled between two checks for a cancel request.
const CHECK_EVERY: usize = 1 << 20;
/// Up to this many rows are sorted by insertion.
const FEW: usize = 24;

/// Columns tried at each node, drawn at random; more are tried if none of them splits it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Columns {
    All,
    /// The square root of their number, rounded up.
    Root,
    /// This share of them, at least one.
    Share(f32),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ForestOptions {
    pub trees: usize,
    /// Most levels below the root.
    pub depth: usize,
    /// Fewest distinct rows of a leaf.
    pub least_rows: usize,
    pub columns: Columns,
    /// Whether a tree gets rows drawn with replacement instead of all rows.
    pub bootstrap: bool,
}

impl Default for ForestOptions {
    fn default() -> Self {
        Self { trees: 100, depth: usize::MAX, least_rows: 1, columns: Columns::Root, bootstrap: true }
    }
}

/// Trees whose mean is the prediction.
#[derive(Clone, Debug)]
pub struct Forest {
    pub trees: Vec<Tree>,
    outputs: usize,
}

/// How often each row [binned rows] was drawn for a tree.
pub type Drawn = [u32];

impl Forest {
    /// Like [`for_each_tree`], and keeps the trees.
    pub fn fit(
        binned: &Binned,
        target: &Target,
        (rows, weights): (&[u32], Option<&[f32]>),
        options: &ForestOptions,
        seed: u64,
        (threads, progress): (usize, &dyn Progress),
    ) -> Result<Self> {
        let keep = |_, tree: Tree, _: &Drawn, _: &Signal| Ok(tree);
        let trees = for_each_tree(binned, target, (rows, weights), options, seed, (threads, progress), keep)?;
        Ok(Self { trees, outputs: target.outputs() })
    }

    /// Writes the mean prediction for a row with these codes to `out` [outputs].
    pub fn predict(&self, codes: &[u8], out: &mut [f32]) {
        out[..self.outputs].fill(0.0);
        for tree in &self.trees {
            tree.values(tree.leaf(codes)).iter().for_each(|&(output, value)| out[output as usize] += value);
        }
        let n = self.trees.len().max(1) as f32;
        out[..self.outputs].iter_mut().for_each(|x| *x /= n);
    }
}

/// Grows the trees and calls `visit` with the number of each, the tree and the rows drawn for it. Returns the results in
/// order.
///
/// `rows` are those of the binned rows to train on; `weights` [binned rows] as in [`Boosting::fit`](super::Boosting::fit).
pub fn for_each_tree<T: Send>(
    binned: &Binned,
    target: &Target,
    (rows, weights): (&[u32], Option<&[f32]>),
    options: &ForestOptions,
    seed: u64,
    (threads, progress): (usize, &dyn Progress),
    visit: impl Fn(usize, Tree, &Drawn, &Signal) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let codes = binned.by_columns(threads, progress)?;
    // One for each thread at work, made when it is first needed.
    let idle: Mutex<Vec<Builder>> = Mutex::default();
    let lock = || idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    jobs(options.trees, threads, progress, ("trees", options.trees), |signal, number| {
        let taken = lock().pop();
        let mut builder = match taken {
            Some(builder) => builder,
            None => Builder::new(binned, &codes, target, options)?,
        };
        let seed = draw::mix(seed ^ draw::mix(number as u64));
        builder.draw(rows, weights, seed);
        let tree = builder.grow(seed, signal)?;
        let result = visit(number, tree, &builder.drawn, signal)?;
        signal.finished(1);
        lock().push(builder);
        Ok(result)
    })
}

/// A row of the current tree, or an aggregate of rows with the same code and class.
#[derive(Clone, Copy, Debug, Default)]
struct Item {
    row: u32,
    /// Rows.
    count: u32,
    weight: f32,
    /// A class or, as its bits, a number.
    target: u32,
}

struct Builder<'a> {
    columns: &'a [super::binned::Column],
    /// [columns, rows]
    codes: &'a [u8],
    rows: usize,
    target: Target<'a>,
    options: ForestOptions,
    drawn: Vec<u32>,
    /// Those of a node together.
    items: Vec<Item>,
    scratch: Vec<Item>,
    /// The items of a node in the order of a column's codes.
    sorted: Vec<Item>,
    /// [codes, classes]: rows and weight of each.
    table: Vec<(u32, f32)>,
    ends: [usize; 256],
    few: [u8; FEW],
    groups: Vec<Group>,
    column_order: Vec<usize>,
    left: Side,
    right: Side,
}

/// Statistics of one side of a split.
#[derive(Default)]
struct Side {
    /// Weight of each class; for numbers the sum.
    sums: Vec<f64>,
    weight: f64,
    rows: usize,
    /// Sum of the squares of `sums`, for classes.
    squares: f64,
}

impl Side {
    /// Gini's impurity, or the variance, falls as the sum of this over both sides rises.
    #[inline(always)]
    fn score(&self, numbers: bool) -> f64 {
        if numbers { self.sums[0] * self.sums[0] / self.weight } else { self.squares / self.weight }
    }
}

impl Item {
    #[inline(always)]
    fn pass(&self, from: &mut Side, to: &mut Side, numbers: bool) {
        let (w, rows) = (f64::from(self.weight), self.count as usize);
        (from.rows, to.rows) = (from.rows - rows, to.rows + rows);
        (from.weight, to.weight) = (from.weight - w, to.weight + w);
        if numbers {
            let sum = w * f64::from(f32::from_bits(self.target));
            (from.sums[0], to.sums[0]) = (from.sums[0] - sum, to.sums[0] + sum);
        } else {
            let (f, t) = (&mut from.sums[self.target as usize], &mut to.sums[self.target as usize]);
            from.squares -= w * (2.0 * *f - w);
            to.squares += w * (2.0 * *t + w);
            (*f, *t) = (*f - w, *t + w);
        }
    }
}

/// The items of one code, by their places in `sorted`.
#[derive(Clone, Copy, Debug)]
struct Group {
    code: u8,
    from: usize,
    to: usize,
}

struct Candidate {
    score: f64,
    column: usize,
    how: Left,
}

impl<'a> Builder<'a> {
    fn new(binned: &'a Binned, codes: &'a [u8], target: &Target<'a>, options: &ForestOptions) -> Result<Self> {
        let outputs = target.outputs();
        let side = || Ok::<_, Error>(Side { sums: memory::filled(0.0, outputs)?, ..Side::default() });
        Ok(Self {
            columns: &binned.columns,
            codes,
            rows: binned.rows(),
            target: *target,
            options: *options,
            drawn: memory::filled(0, binned.rows())?,
            items: Vec::new(),
            scratch: Vec::new(),
            sorted: Vec::new(),
            table: memory::filled((0, 0.0), 256 * outputs)?,
            ends: [0; 256],
            few: [0; FEW],
            groups: Vec::new(),
            column_order: (0..binned.columns()).collect(),
            left: side()?,
            right: side()?,
        })
    }

    fn draw(&mut self, rows: &[u32], weights: Option<&[f32]>, seed: u64) {
        self.drawn.fill(0);
        for (i, &row) in rows.iter().enumerate() {
            let row = if self.options.bootstrap { rows[draw::below(seed, i as u64, rows.len())] } else { row };
            self.drawn[row as usize] += 1;
        }
        self.items.clear();
        for &row in rows {
            let times = self.drawn[row as usize];
            let weight = times as f32 * weights.map_or(1.0, |weights| weights[row as usize]);
            if weight > 0.0 {
                let target = match self.target {
                    Target::Classes { codes, .. } => codes[row as usize],
                    Target::Numbers(values) => values[row as usize].to_bits(),
                };
                self.items.push(Item { row, count: 1, weight, target });
            }
        }
        self.scratch.resize(self.items.len(), Item::default());
        self.sorted.resize(self.items.len(), Item::default());
    }

    fn grow(&mut self, seed: u64, signal: &Signal) -> Result<Tree> {
        let mut tree = Tree::new();
        let mut open = vec![(0, 0, self.items.len(), 0)];
        let seed = draw::mix(seed);
        while let Some((node, from, to, depth)) = open.pop() {
            signal.check()?;
            let mean = self.enter(from, to);
            let enough = to - from >= 2 * self.options.least_rows.max(1) && depth < self.options.depth;
            let best = if enough && !self.is_pure(from, to) {
                self.best(from, to, mean, draw::mix(seed ^ node as u64), signal)?
            } else {
                None
            };
            let Some(best) = best else {
                self.close(&mut tree, node, from, to, mean);
                continue;
            };
            self.leave(from, to);
            let middle = self.partition(from, to, &best);
            let left = tree.split(node, best.column, best.how);
            open.extend([(left + 1, middle, to, depth + 1), (left, from, middle, depth + 1)]);
        }
        Ok(tree)
    }

    /// Initialises the right side with the whole node and the left side as empty. Numbers are centred by their mean, which
    /// is returned.
    fn enter(&mut self, from: usize, to: usize) -> f32 {
        let items = &self.items[from..to];
        let side = &mut self.right;
        (side.weight, side.rows, side.squares) = (0.0, to - from, 0.0);
        (self.left.weight, self.left.rows, self.left.squares) = (0.0, 0, 0.0);
        match self.target {
            Target::Classes { .. } => {
                for item in items {
                    let (sum, w) = (&mut side.sums[item.target as usize], f64::from(item.weight));
                    side.squares += w * (2.0 * *sum + w);
                    *sum += w;
                    side.weight += w;
                }
                0.0
            }
            Target::Numbers(_) => {
                let sum: f64 = items.iter().map(|i| f64::from(i.weight) * f64::from(f32::from_bits(i.target))).sum();
                side.weight = items.iter().map(|item| f64::from(item.weight)).sum();
                // Of numbers less their mean the sum is 0; its square says nothing yet.
                (side.sums[0], self.left.sums[0]) = (0.0, 0.0);
                (sum / side.weight) as f32
            }
        }
    }

    /// Clears the class sums of a node.
    fn leave(&mut self, from: usize, to: usize) {
        if let Target::Classes { .. } = self.target {
            for item in &self.items[from..to] {
                (self.left.sums[item.target as usize], self.right.sums[item.target as usize]) = (0.0, 0.0);
            }
        }
    }

    fn is_pure(&self, from: usize, to: usize) -> bool {
        self.items[from..to].iter().all(|item| item.target == self.items[from].target)
    }

    fn close(&mut self, tree: &mut Tree, node: usize, from: usize, to: usize, mean: f32) {
        match self.target {
            Target::Numbers(_) => tree.set_values(node, (from < to).then_some((0, mean))),
            Target::Classes { .. } => {
                let mut shares = Vec::new();
                for item in &self.items[from..to] {
                    let sum = std::mem::take(&mut self.right.sums[item.target as usize]);
                    self.left.sums[item.target as usize] = 0.0;
                    if sum > 0.0 {
                        shares.push((item.target, (sum / self.right.weight) as f32));
                    }
                }
                shares.sort_unstable_by_key(|(class, _)| *class);
                tree.set_values(node, shares);
            }
        }
    }

    fn best(&mut self, from: usize, to: usize, mean: f32, seed: u64, signal: &Signal) -> Result<Option<Candidate>> {
        let columns = self.columns.len();
        let wanted = match self.options.columns {
            Columns::All => columns,
            Columns::Root => (columns as f64).sqrt().ceil() as usize,
            Columns::Share(share) => ((columns as f32 * share).round() as usize).max(1),
        };
        let mut best = None;
        // The drawn order does not depend on what was drawn for the node before.
        self.column_order.iter_mut().enumerate().for_each(|(i, column)| *column = i);
        for i in 0..columns {
            if i >= wanted && best.is_some() {
                break;
            }
            if self.options.columns != Columns::All {
                let other = i + draw::below(seed, i as u64, columns - i);
                self.column_order.swap(i, other);
            }
            if i == 0 || (to - from) >= CHECK_EVERY / 16 {
                signal.check()?;
            }
            self.sort(from, to, self.column_order[i], mean);
            self.scan(self.column_order[i], &mut best);
        }
        Ok(best)
    }

    /// Writes the items, or aggregates of them, to `sorted` in the order of a column's codes, and the range of each code to
    /// `groups`.
    fn sort(&mut self, from: usize, to: usize, column: usize, mean: f32) {
        let codes = &self.codes[column * self.rows..][..self.rows];
        let bins = self.columns[column].bins;
        let items = &self.items[from..to];
        let outputs = self.left.sums.len();
        let numbers = matches!(self.target, Target::Numbers(_));
        let centred = |item: &Item| match numbers {
            true => Item { target: (f32::from_bits(item.target) - mean).to_bits(), ..*item },
            false => *item,
        };
        self.groups.clear();
        let mut at = 0;
        if items.len() <= FEW {
            for (i, item) in items.iter().enumerate() {
                let code = codes[item.row as usize];
                let mut place = i;
                while place > 0 && self.few[place - 1] > code {
                    (self.few[place], self.sorted[place]) = (self.few[place - 1], self.sorted[place - 1]);
                    place -= 1;
                }
                (self.few[place], self.sorted[place]) = (code, centred(item));
            }
            for same in self.few[..items.len()].chunk_by(|a, b| a == b) {
                self.groups.push(Group { code: same[0], from: at, to: at + same.len() });
                at += same.len();
            }
        } else if !numbers && items.len() >= 2 * bins * outputs {
            let table = &mut self.table[..bins * outputs];
            table.fill((0, 0.0));
            for item in items {
                let cell = &mut table[usize::from(codes[item.row as usize]) * outputs + item.target as usize];
                *cell = (cell.0 + 1, cell.1 + item.weight);
            }
            for (code, cells) in table.chunks_exact(outputs).enumerate() {
                let from = at;
                for (class, &(count, weight)) in cells.iter().enumerate().filter(|(_, cell)| cell.0 > 0) {
                    self.sorted[at] = Item { row: 0, count, weight, target: class as u32 };
                    at += 1;
                }
                if from < at {
                    self.groups.push(Group { code: code as u8, from, to: at });
                }
            }
        } else if numbers && items.len() >= 2 * bins {
            let mut sums = [(0u32, 0f64, 0f64); 256];
            for item in items {
                let (sum, w) = (&mut sums[usize::from(codes[item.row as usize])], f64::from(item.weight));
                *sum = (sum.0 + 1, sum.1 + w, sum.2 + w * f64::from(f32::from_bits(item.target) - mean));
            }
            for (code, &(count, weight, sum)) in sums[..bins].iter().enumerate().filter(|(_, sum)| sum.0 > 0) {
                let target = ((sum / weight) as f32).to_bits();
                self.sorted[at] = Item { row: 0, count, weight: weight as f32, target };
                self.groups.push(Group { code: code as u8, from: at, to: at + 1 });
                at += 1;
            }
        } else {
            let ends = &mut self.ends[..bins];
            ends.fill(0);
            items.iter().for_each(|item| ends[usize::from(codes[item.row as usize])] += 1);
            for (code, end) in ends.iter_mut().enumerate().filter(|(_, end)| **end > 0) {
                self.groups.push(Group { code: code as u8, from: at, to: at + *end });
                at += *end;
                *end = at;
            }
            for item in items.iter().rev() {
                let end = &mut ends[usize::from(codes[item.row as usize])];
                *end -= 1;
                self.sorted[*end] = centred(item);
            }
        }
    }

    /// Moves one code after another from right to left to evaluate each split of a numeric column; a category is moved
    /// alone, and then back. At the end the sides are swapped if the whole node is on the left.
    fn scan(&mut self, column: usize, best: &mut Option<Candidate>) {
        let least = self.options.least_rows.max(1);
        let (left, right) = (&mut self.left, &mut self.right);
        let numbers = matches!(self.target, Target::Numbers(_));
        let categories = self.columns[column].categories;
        let mut found: Option<usize> = None;
        let mut found_score = best.as_ref().map_or(f64::MIN, |best| best.score);
        for (i, group) in self.groups.iter().enumerate() {
            let items = &self.sorted[group.from..group.to];
            items.iter().for_each(|item| item.pass(right, left, numbers));
            if left.rows >= least && right.rows >= least {
                let score = left.score(numbers) + right.score(numbers);
                if score > found_score {
                    (found, found_score) = (Some(i), score);
                }
            }
            if categories {
                items.iter().for_each(|item| item.pass(left, right, numbers));
            }
        }
        if let Some(i) = found {
            let code = self.groups[i].code;
            // Of numbers half-way between the codes on both sides.
            let how =
                if categories { alone(code) } else { Left::UpTo(code + (self.groups[i + 1].code - code - 1) / 2) };
            *best = Some(Candidate { score: found_score, column, how });
        }
        if !categories {
            std::mem::swap(left, right);
        }
        (left.rows, left.weight, left.squares) = (0, 0.0, 0.0);
        if numbers {
            (left.sums[0], right.sums[0]) = (0.0, 0.0);
        }
    }

    fn partition(&mut self, from: usize, to: usize, split: &Candidate) -> usize {
        let codes = &self.codes[split.column * self.rows..][..self.rows];
        let items = &mut self.items[from..to];
        let (mut left, mut right) = (0, 0);
        for i in 0..items.len() {
            let item = items[i];
            let goes_left = split.how.has(codes[item.row as usize]);
            items[left] = item;
            self.scratch[right] = item;
            left += usize::from(goes_left);
            right += usize::from(!goes_left);
        }
        items[left..].copy_from_slice(&self.scratch[..right]);
        from + left
    }
}
