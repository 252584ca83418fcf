//! Junction trees: the tables that a graphical model of measured marginals needs, and how tables project to each other.
//!
//! Variables are numbered by size, the largest last. A set of variables is a sorted list. Its table has a number for
//! each joint value, contiguous in the last variable. The largest variable of a clique is therefore innermost in its
//! table and in that of every subset that contains it: tables are multiplied and summed in runs of its length.

use runtime::error::Result;
use runtime::memory;

/// The number of joint values of a set.
pub fn size_of_set(cells: &[usize], vars: &[usize]) -> usize {
    vars.iter().fold(1, |size: usize, &var| size.saturating_mul(cells[var]))
}

pub fn is_subset(a: &[usize], b: &[usize]) -> bool {
    a.iter().all(|var| b.binary_search(var).is_ok())
}

pub fn common(a: &[usize], b: &[usize]) -> Vec<usize> {
    a.iter().copied().filter(|var| b.binary_search(var).is_ok()).collect()
}

pub fn union(a: &[usize], b: &[usize]) -> Vec<usize> {
    let mut all = [a, b].concat();
    all.sort_unstable();
    all.dedup();
    all
}

/// The projection of a table to that of a subset, by runs.
pub struct Projection {
    /// [runs]: offset in the subset's table.
    offsets: Vec<u32>,
    /// Whether a run maps to a run, or to one number.
    run: bool,
    length: usize,
}

impl Projection {
    pub fn new(cells: &[usize], from: &[usize], to: &[usize]) -> Result<Self> {
        let (outer, length) = match from.split_last() {
            Some((&last, outer)) => (outer, cells[last]),
            None => (from, 1),
        };
        let run = from.last().is_some_and(|last| to.binary_search(last).is_ok());
        Ok(Self { offsets: places(cells, outer, to)?, run, length })
    }

    /// Multiplies run number `at`.
    #[inline]
    pub fn multiply(&self, at: usize, run: &mut [f64], by: &[f64]) {
        let offset = self.offsets[at] as usize;
        if self.run {
            run.iter_mut().zip(&by[offset..offset + self.length]).for_each(|(x, y)| *x *= y);
        } else {
            let y = by[offset];
            run.iter_mut().for_each(|x| *x *= y);
        }
    }

    /// Adds run number `at` to the subset's table.
    #[inline]
    pub fn add(&self, at: usize, run: &[f64], to: &mut [f64]) {
        let offset = self.offsets[at] as usize;
        if self.run {
            to[offset..offset + self.length].iter_mut().zip(run).for_each(|(y, x)| *y += x);
        } else {
            // Four sums side by side.
            let mut sums = [0.0; 4];
            let quads = run.chunks_exact(4);
            let rest: f64 = quads.remainder().iter().sum();
            quads.for_each(|quad| sums.iter_mut().zip(quad).for_each(|(sum, x)| *sum += x));
            to[offset] += (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest;
        }
    }

    /// A whole table summed to the subset's.
    pub fn sum(&self, table: &[f64], size: usize) -> Result<Vec<f64>> {
        let mut to = memory::zeroed(size)?;
        table.chunks_exact(self.length).enumerate().for_each(|(at, run)| self.add(at, run, &mut to));
        Ok(to)
    }
}

/// Offset in the table of `to` of each joint value of `from`.
pub fn places(cells: &[usize], from: &[usize], to: &[usize]) -> Result<Vec<u32>> {
    let mut stride = vec![0usize; from.len()];
    let mut next = 1;
    for &var in to.iter().rev() {
        if let Ok(at) = from.binary_search(&var) {
            stride[at] = next;
        }
        next *= cells[var];
    }
    let mut places = Vec::new();
    memory::reserve(&mut places, size_of_set(cells, from))?;
    places.push(0);
    // Each variable in turn repeats what is there, from the first on.
    for (&var, &stride) in from.iter().zip(&stride) {
        let mut more = Vec::new();
        memory::reserve(&mut more, places.len() * cells[var])?;
        for &place in &places {
            more.extend((0..cells[var]).map(|value| place + (value * stride) as u32));
        }
        places = more;
    }
    Ok(places)
}

/// A tree of cliques, each after its parent.
pub struct Tree {
    pub cliques: Vec<Vec<usize>>,
    pub parents: Vec<Option<usize>>,
    /// The variables shared with the parent.
    pub separators: Vec<Vec<usize>>,
}

/// A graph on variables, as an adjacency bit matrix.
#[derive(Clone)]
pub struct Links {
    words: usize,
    bits: Vec<u64>,
}

impl Links {
    pub fn new(variables: usize) -> Self {
        let words = variables.div_ceil(64).max(1);
        Self { words, bits: vec![0; variables * words] }
    }

    fn of(&self, var: usize) -> &[u64] {
        &self.bits[var * self.words..][..self.words]
    }

    pub fn join(&mut self, vars: &[usize]) {
        for &a in vars {
            for &b in vars.iter().filter(|&&b| b != a) {
                self.bits[a * self.words + b / 64] |= 1 << (b % 64);
            }
        }
    }

    fn neighbours(&self, var: usize) -> Vec<usize> {
        let words = self.of(var).iter().enumerate();
        words.flat_map(|(w, &bits)| (0..64).filter(move |b| bits >> b & 1 == 1).map(move |b| w * 64 + b)).collect()
    }

    /// The maximal cliques of a triangulation that eliminates the variable with the smallest clique first. `None` if
    /// the tables would hold more than `most` numbers in all.
    pub fn cliques(&self, cells: &[usize], most: usize) -> Option<Vec<Vec<usize>>> {
        let mut graph = self.clone();
        let variables = cells.len();
        let cost = |graph: &Self, var: usize| -> f64 {
            (cells[var] as f64).ln() + graph.neighbours(var).iter().map(|&n| (cells[n] as f64).ln()).sum::<f64>()
        };
        let mut costs: Vec<f64> = (0..variables).map(|var| cost(&graph, var)).collect();
        let mut left: Vec<usize> = (0..variables).collect();
        let (mut cliques, mut total) = (Vec::<Vec<usize>>::new(), 0usize);
        while let Some(at) = (0..left.len()).min_by(|&a, &b| costs[left[a]].total_cmp(&costs[left[b]])) {
            let var = left.remove(at);
            let neighbours = graph.neighbours(var);
            graph.join(&neighbours);
            for &n in &neighbours {
                graph.bits[n * graph.words + var / 64] &= !(1 << (var % 64));
            }
            neighbours.iter().for_each(|&n| costs[n] = cost(&graph, n));
            let clique = union(&neighbours, &[var]);
            if !cliques.iter().any(|other| is_subset(&clique, other)) {
                total = total.saturating_add(size_of_set(cells, &clique));
                if total > most {
                    return None;
                }
                cliques.push(clique);
            }
        }
        Some(cliques)
    }
}

impl Tree {
    /// Connects cliques by maximum shared variables (Prim), which gives a junction tree. The first clique contains
    /// `root`.
    pub fn new(mut cliques: Vec<Vec<usize>>, root: Option<usize>) -> Self {
        let first = root.and_then(|root| cliques.iter().position(|clique| clique.contains(&root))).unwrap_or(0);
        let mut tree = Self { cliques: Vec::new(), parents: Vec::new(), separators: Vec::new() };
        if cliques.is_empty() {
            return tree;
        }
        tree.cliques.push(cliques.remove(first));
        tree.parents.push(None);
        tree.separators.push(Vec::new());
        // Of each clique not in the tree: the one in it that it shares most with.
        let share = |a: &[usize], b: &[usize]| common(a, b).len();
        let mut best: Vec<(usize, usize)> = cliques.iter().map(|clique| (share(clique, &tree.cliques[0]), 0)).collect();
        while let Some(at) = (0..cliques.len()).rev().max_by_key(|&at| best[at].0) {
            let clique = cliques.remove(at);
            let (_, parent) = best.remove(at);
            tree.separators.push(common(&clique, &tree.cliques[parent]));
            tree.parents.push(Some(parent));
            for (other, best) in cliques.iter().zip(&mut best) {
                let shared = share(other, &clique);
                if shared > best.0 {
                    *best = (shared, tree.cliques.len());
                }
            }
            tree.cliques.push(clique);
        }
        tree
    }

    /// Total size of its tables.
    pub fn size(&self, cells: &[usize]) -> usize {
        self.cliques.iter().fold(0, |sum: usize, clique| sum.saturating_add(size_of_set(cells, clique)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_a_table_are_those_of_a_loop() {
        let cells = [2, 3, 4];
        let table: Vec<f64> = (0..24).map(f64::from).collect();
        for to in [vec![], vec![0], vec![1], vec![2], vec![0, 2], vec![1, 2], vec![0, 1]] {
            let sum = Projection::new(&cells, &[0, 1, 2], &to).unwrap().sum(&table, size_of_set(&cells, &to)).unwrap();
            let mut by_hand = vec![0.0; sum.len()];
            for (i, x) in table.iter().enumerate() {
                let digits = [i / 12, i / 4 % 3, i % 4];
                by_hand[to.iter().fold(0, |place, &var| place * cells[var] + digits[var])] += x;
            }
            assert_eq!(sum, by_hand, "{to:?}");
        }
    }

    #[test]
    fn a_ring_is_cut_by_a_chord_and_the_tree_runs_through_every_variable() {
        let cells = [2, 3, 4, 5, 6, 7];
        let mut links = Links::new(6);
        [[0, 1], [1, 2], [2, 3], [0, 3]].iter().for_each(|pair| links.join(pair));
        links.join(&[4, 5]);
        let tree = Tree::new(links.cliques(&cells, usize::MAX).unwrap(), Some(4));
        assert_eq!(tree.cliques.len(), 3);
        // {0, 1, 2} and {0, 2, 3}, cut where the tables are smallest, beside {4, 5}.
        assert!(tree.cliques[0] == [4, 5] && tree.size(&cells) == 24 + 40 + 42, "{:?}", tree.cliques);
        for pair in [[0, 1], [1, 2], [2, 3], [0, 3], [4, 5]] {
            assert!(tree.cliques.iter().any(|clique| is_subset(&pair, clique)), "{pair:?}");
        }
        // The cliques of a variable hang together: all but one have it in common with their parent.
        for var in 0..6 {
            let with = tree.cliques.iter().filter(|clique| clique.contains(&var)).count();
            assert_eq!(tree.separators.iter().filter(|separator| separator.contains(&var)).count(), with - 1);
        }
        assert!(links.cliques(&cells, 50).is_none());
    }
}
