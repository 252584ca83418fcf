//! Trees as the textbooks have them: for each node and column the rows are sorted, and every place between two values is tried.

use runtime::draw::{below, mix};
use tabular::trees::BoostingOptions;

use crate::table::Table;

/// At most the threshold goes left.
struct Node {
    column: usize,
    threshold: f32,
    /// The left child and the right one; none of a leaf.
    children: Option<[usize; 2]>,
    value: f32,
}

impl Node {
    fn leaf(value: f32) -> Self {
        Self { column: 0, threshold: 0.0, children: None, value }
    }
}

fn value(tree: &[Node], row: &[f32]) -> f32 {
    let mut node = &tree[0];
    while let Some(children) = node.children {
        node = &tree[children[usize::from(row[node.column] > node.threshold)]];
    }
    node.value
}

/// Sums over rows: what a gain is computed from, and their number.
#[derive(Clone, Copy, Default)]
struct Sums([f64; 2], usize);

impl Sums {
    fn add(&mut self, pair: [f64; 2]) {
        self.0[0] += pair[0];
        self.0[1] += pair[1];
        self.1 += 1;
    }

    fn minus(self, other: Self) -> Self {
        Self([self.0[0] - other.0[0], self.0[1] - other.0[1]], self.1 - other.1)
    }
}

struct Split {
    gain: f64,
    column: usize,
    threshold: f32,
}

/// The split of `rows` by one of `columns` with the greatest gain: the score of both sides less that of the whole.
fn best(
    table: &Table,
    rows: &[u32],
    columns: &[usize],
    pairs: &[[f64; 2]],
    least_rows: usize,
    score: impl Fn(Sums) -> f64,
) -> Option<Split> {
    let mut whole = Sums::default();
    rows.iter().for_each(|&row| whole.add(pairs[row as usize]));
    let parent = score(whole);
    let mut best: Option<Split> = None;
    let mut sorted: Vec<(f32, u32)> = Vec::with_capacity(rows.len());
    for &column in columns {
        sorted.clear();
        sorted.extend(rows.iter().map(|&row| (table.row(row as usize)[column], row)));
        sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let mut left = Sums::default();
        for two in sorted.windows(2) {
            left.add(pairs[two[0].1 as usize]);
            let right = whole.minus(left);
            if two[0].0 == two[1].0 || left.1.min(right.1) < least_rows {
                continue;
            }
            let gain = score(left) + score(right) - parent;
            if gain > best.as_ref().map_or(1e-9, |best| best.gain) {
                best = Some(Split { gain, column, threshold: two[0].0 / 2.0 + two[1].0 / 2.0 });
            }
        }
    }
    best
}

fn divide(table: &Table, rows: &[u32], split: &Split) -> (Vec<u32>, Vec<u32>) {
    rows.iter().partition(|&&row| table.row(row as usize)[split.column] <= split.threshold)
}

/// Boosting of squared error, best leaf first.
pub struct Boosting {
    trees: Vec<Vec<Node>>,
    base: f32,
}

impl Boosting {
    pub fn fit(table: &Table, numbers: &[f32], options: &BoostingOptions) -> Self {
        let mut learner = Self { trees: Vec::new(), base: numbers.iter().sum::<f32>() / table.rows() as f32 };
        let mut scores = vec![learner.base; table.rows()];
        for _ in 0..options.rounds {
            // The loss's first derivative and its second.
            let pairs: Vec<[f64; 2]> = scores.iter().zip(numbers).map(|(s, y)| [f64::from(s - y), 1.0]).collect();
            let tree = grow(table, &pairs, options);
            scores.iter_mut().zip(table.each_row()).for_each(|(score, row)| *score += value(&tree, row));
            learner.trees.push(tree);
        }
        learner
    }

    pub fn score(&self, row: &[f32]) -> f32 {
        self.base + self.trees.iter().map(|tree| value(tree, row)).sum::<f32>()
    }
}

fn grow(table: &Table, pairs: &[[f64; 2]], options: &BoostingOptions) -> Vec<Node> {
    let l2 = f64::from(options.l2);
    let columns: Vec<usize> = (0..table.columns).collect();
    let find = |rows: &[u32]| {
        best(table, rows, &columns, pairs, options.least_rows, |sums| sums.0[0] * sums.0[0] / (sums.0[1] + l2))
    };
    let step = |rows: &[u32]| {
        let mut sums = Sums::default();
        rows.iter().for_each(|&row| sums.add(pairs[row as usize]));
        (-sums.0[0] / (sums.0[1] + l2)) as f32 * options.learning_rate
    };
    let rows = table.all();
    let mut tree = vec![Node::leaf(step(&rows))];
    let mut open = vec![(0, find(&rows), rows)];
    for _ in 1..options.leaves {
        let gain = |split: &Option<Split>| split.as_ref().map_or(0.0, |split| split.gain);
        let Some(at) = (0..open.len()).max_by(|&a, &b| gain(&open[a].1).total_cmp(&gain(&open[b].1))) else { break };
        let (node, Some(split), rows) = open.swap_remove(at) else { break };
        let (left, right) = divide(table, &rows, &split);
        let first = tree.len();
        tree.extend([Node::leaf(step(&left)), Node::leaf(step(&right))]);
        tree[node] =
            Node { column: split.column, threshold: split.threshold, children: Some([first, first + 1]), value: 0.0 };
        open.push((first, find(&left), left));
        open.push((first + 1, find(&right), right));
    }
    tree
}

/// Fully grown trees by Gini impurity, each on rows drawn with replacement.
pub struct Forest(Vec<Vec<Node>>);

impl Forest {
    pub fn fit(table: &Table, trees: usize, seed: u64) -> Self {
        let pairs: Vec<[f64; 2]> = table.labels.iter().map(|&label| [1.0 - f64::from(label), label.into()]).collect();
        Self((0..trees as u64).map(|tree| Self::grow(table, &pairs, mix(seed ^ mix(tree)))).collect())
    }

    fn grow(table: &Table, pairs: &[[f64; 2]], seed: u64) -> Vec<Node> {
        let rows: Vec<u32> = (0..table.rows()).map(|i| below(seed, i as u64, table.rows()) as u32).collect();
        let tried = (table.columns as f64).sqrt().ceil() as usize;
        let mut columns: Vec<usize> = (0..table.columns).collect();
        let mut drawn = 0;
        let mut tree = vec![Node::leaf(0.0)];
        let mut open = vec![(0, rows)];
        while let Some((node, rows)) = open.pop() {
            let share = rows.iter().map(|&row| pairs[row as usize][1]).sum::<f64>() / rows.len() as f64;
            tree[node] = Node::leaf(share as f32);
            if share == 0.0 || share == 1.0 {
                continue;
            }
            for place in 0..tried {
                drawn += 1;
                columns.swap(place, place + below(mix(seed), drawn, table.columns - place));
            }
            let gini = |sums: Sums| (sums.0[0] * sums.0[0] + sums.0[1] * sums.0[1]) / sums.1 as f64;
            // Where none of those drawn splits, the others are tried, as ours does.
            let split = best(table, &rows, &columns[..tried], pairs, 1, gini);
            let Some(split) = split.or_else(|| best(table, &rows, &columns[tried..], pairs, 1, gini)) else { continue };
            let (left, right) = divide(table, &rows, &split);
            let first = tree.len();
            tree.extend([Node::leaf(0.0), Node::leaf(0.0)]);
            tree[node] = Node {
                column: split.column,
                threshold: split.threshold,
                children: Some([first, first + 1]),
                value: 0.0,
            };
            open.extend([(first, left), (first + 1, right)]);
        }
        tree
    }

    pub fn class(&self, row: &[f32]) -> u32 {
        let mean = self.0.iter().map(|tree| value(tree, row)).sum::<f32>() / self.0.len() as f32;
        u32::from(mean > 0.5)
    }
}
