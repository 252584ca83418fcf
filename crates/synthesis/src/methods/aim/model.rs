//! Belief propagation over a junction tree (Lauritzen and Spiegelhalter 1988): the marginals of the normalized product
//! of tables on sets of variables. One pass up and one down; time O(size of the tree's tables × number of tables on
//! them).

use super::tree::{Links, Projection, Tree, common, is_subset, places, size_of_set, union};
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::Progress;

/// Runs between two checks for a cancel request.
const RUNS: usize = 1 << 14;

struct Clique {
    /// Number of values of its last variable.
    length: usize,
    /// The tables on subsets of it.
    factors: Vec<(usize, Projection)>,
    children: Vec<(usize, Projection)>,
    /// Projection to the variables shared with its parent.
    up: Projection,
    /// Size of the shared table.
    shared: usize,
}

/// A junction tree with its tables and messages.
pub struct Model {
    pub cells: Vec<usize>,
    pub tree: Tree,
    cliques: Vec<Clique>,
    /// Size of each factor.
    sizes: Vec<usize>,
    /// [cliques]: the probabilities, after a pass.
    pub beliefs: Vec<Vec<f64>>,
    /// [factors]: the marginals, after a pass.
    pub marginals: Vec<Vec<f64>>,
    /// [cliques]: message to the parent.
    messages: Vec<Vec<f64>>,
}

impl Model {
    /// Builds a model with tables on these `sets`.
    pub fn new(cells: &[usize], sets: &[Vec<usize>], root: Option<usize>) -> Result<Self> {
        let mut links = Links::new(cells.len());
        sets.iter().for_each(|set| links.join(set));
        let cliques = links.cliques(cells, usize::MAX).unwrap_or_default();
        let tree = Tree::new(cliques, root);
        let mut built = Vec::new();
        for (clique, separator) in tree.cliques.iter().zip(&tree.separators) {
            let length = clique.last().map_or(1, |&last| cells[last]);
            let up = Projection::new(cells, clique, separator)?;
            let shared = size_of_set(cells, separator);
            built.push(Clique { length, factors: Vec::new(), children: Vec::new(), up, shared });
        }
        for (child, (parent, separator)) in tree.parents.iter().zip(&tree.separators).enumerate() {
            if let Some(parent) = *parent {
                let down = Projection::new(cells, &tree.cliques[parent], separator)?;
                built[parent].children.push((child, down));
            }
        }
        for (factor, set) in sets.iter().enumerate() {
            let of = (0..tree.cliques.len()).filter(|&c| is_subset(set, &tree.cliques[c]));
            let home = of.min_by_key(|&c| size_of_set(cells, &tree.cliques[c]));
            let home = home.ok_or_else(|| Error::Internal("a set of variables is in no clique".into()))?;
            built[home].factors.push((factor, Projection::new(cells, &tree.cliques[home], set)?));
        }
        let mut beliefs = Vec::new();
        for clique in &tree.cliques {
            beliefs.push(memory::zeroed(size_of_set(cells, clique))?);
        }
        let sizes: Vec<usize> = sets.iter().map(|set| size_of_set(cells, set)).collect();
        let marginals = sizes.iter().map(|&size| memory::zeroed(size)).collect::<Result<_>>()?;
        let messages = built.iter().map(|clique| memory::zeroed(clique.shared)).collect::<Result<_>>()?;
        Ok(Self { cells: cells.to_vec(), tree, cliques: built, sizes, beliefs, marginals, messages })
    }

    /// Runs both passes. `factors` must be above 0. Returns the log of the sum over all joint values.
    pub fn infer(&mut self, factors: &[Vec<f64>], progress: &dyn Progress) -> Result<f64> {
        let mut log = 0.0;
        for c in (0..self.cliques.len()).rev() {
            let clique = &self.cliques[c];
            let (before, after) = self.messages.split_at_mut(c + 1);
            let message = &mut before[c];
            message.fill(0.0);
            for (at, run) in self.beliefs[c].chunks_exact_mut(clique.length).enumerate() {
                if at % RUNS == 0 {
                    progress.check()?;
                }
                run.fill(1.0);
                for (factor, projection) in &clique.factors {
                    projection.multiply(at, run, &factors[*factor]);
                }
                for (child, projection) in &clique.children {
                    projection.multiply(at, run, &after[child - c - 1]);
                }
                clique.up.add(at, run, message);
            }
            let largest = message.iter().copied().fold(0.0, f64::max);
            if !(largest > 0.0 && largest.is_finite()) {
                return Ok(f64::INFINITY);
            }
            message.iter_mut().for_each(|x| *x /= largest);
            self.beliefs[c].iter_mut().for_each(|x| *x /= largest);
            log += largest.ln();
        }
        self.marginals.iter_mut().for_each(|marginal| marginal.fill(0.0));
        // What is shared with the parent, from above; of a child of the tree's root on, divided by what it told.
        let mut from_above: Vec<Vec<f64>> = vec![Vec::new(); self.cliques.len()];
        for c in 0..self.cliques.len() {
            let clique = &self.cliques[c];
            let mut ratio = std::mem::take(&mut from_above[c]);
            if self.tree.parents[c].is_none() {
                ratio = vec![1.0];
            }
            for (x, told) in ratio.iter_mut().zip(&self.messages[c]) {
                *x = if *told > 0.0 { *x / told } else { 0.0 };
            }
            let mut told: Vec<Vec<f64>> = Vec::new();
            for (child, _) in &clique.children {
                told.push(memory::zeroed(self.cliques[*child].shared)?);
            }
            for (at, run) in self.beliefs[c].chunks_exact_mut(clique.length).enumerate() {
                if at % RUNS == 0 {
                    progress.check()?;
                }
                clique.up.multiply(at, run, &ratio);
                for (factor, projection) in &clique.factors {
                    projection.add(at, run, &mut self.marginals[*factor]);
                }
                for ((_, projection), to) in clique.children.iter().zip(&mut told) {
                    projection.add(at, run, to);
                }
            }
            for ((child, _), table) in clique.children.iter().zip(told) {
                from_above[*child] = table;
            }
        }
        Ok(log)
    }

    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// The marginal of some of a clique's variables.
    pub fn project(&self, clique: usize, to: &[usize]) -> Result<Vec<f64>> {
        let projection = Projection::new(&self.cells, &self.tree.cliques[clique], to)?;
        projection.sum(&self.beliefs[clique], size_of_set(&self.cells, to))
    }

    /// Passes the joint distribution of `source` with every later variable to `take`, as [source, other].
    ///
    /// Within a clique it is a sum of the clique's table. Beyond it, P(source | shared) is propagated from clique to
    /// clique.
    pub fn pairs_of(
        &self,
        source: usize,
        check: &dyn Fn() -> Result<()>,
        mut take: impl FnMut(usize, &[f64]),
    ) -> Result<()> {
        let cliques = &self.tree.cliques;
        let k = self.cells[source];
        let mut neighbours: Vec<Vec<usize>> = vec![Vec::new(); cliques.len()];
        for (child, parent) in self.tree.parents.iter().enumerate() {
            if let Some(parent) = *parent {
                neighbours[parent].push(child);
                neighbours[child].push(parent);
            }
        }
        let Some(home) = cliques.iter().position(|clique| clique.contains(&source)) else { return Ok(()) };
        let mut done = vec![false; self.cells.len()];
        // A clique, where it was come from, and P(source | shared) as [shared, source] where the source is not in it.
        let mut open = vec![(home, usize::MAX, Vec::new(), Vec::new())];
        while let Some((c, from, shared, given)) = open.pop() {
            check()?;
            let clique = &cliques[c];
            let at_home = clique.contains(&source);
            for &other in clique.iter().filter(|&&other| other > source) {
                if std::mem::replace(&mut done[other], true) {
                    continue;
                }
                let pair = if at_home {
                    self.project(c, &[source, other])?
                } else {
                    let set = union(&shared, &[other]);
                    let joint = self.project(c, &set)?;
                    let (s, o) = (places(&self.cells, &set, &shared)?, places(&self.cells, &set, &[other])?);
                    // [other, source] first: runs of the source's length.
                    let mut turned = vec![0.0; k * self.cells[other]];
                    for ((p, s), o) in joint.iter().zip(s).zip(o) {
                        add_times(&mut turned[o as usize * k..][..k], &given[s as usize * k..][..k], *p);
                    }
                    let n = self.cells[other];
                    let mut pair = vec![0.0; k * n];
                    for (o, row) in turned.chunks_exact(k).enumerate() {
                        row.iter().enumerate().for_each(|(s, &p)| pair[s * n + o] = p);
                    }
                    pair
                };
                take(other, &pair);
            }
            for &next in neighbours[c].iter().filter(|&&next| next != from) {
                let onward = common(clique, &cliques[next]);
                if onward.contains(&source) {
                    open.push((next, c, Vec::new(), Vec::new()));
                    continue;
                }
                // [onward, source], first jointly.
                let size = size_of_set(&self.cells, &onward);
                let mut table = memory::filled(0.0, size * k)?;
                let mut sums = memory::filled(0.0, size)?;
                if at_home {
                    let set = union(&onward, &[source]);
                    let joint = self.project(c, &set)?;
                    let (n, s) = (places(&self.cells, &set, &onward)?, places(&self.cells, &set, &[source])?);
                    for ((p, n), s) in joint.iter().zip(n).zip(s) {
                        table[n as usize * k + s as usize] += p;
                        sums[n as usize] += p;
                    }
                } else {
                    let set = union(&onward, &shared);
                    let joint = self.project(c, &set)?;
                    let (n, s) = (places(&self.cells, &set, &onward)?, places(&self.cells, &set, &shared)?);
                    for ((p, n), s) in joint.iter().zip(n).zip(s) {
                        add_times(&mut table[n as usize * k..][..k], &given[s as usize * k..][..k], *p);
                        sums[n as usize] += p;
                    }
                }
                for (row, sum) in table.chunks_exact_mut(k).zip(sums) {
                    let by = if sum > 0.0 { 1.0 / sum } else { 0.0 };
                    row.iter_mut().for_each(|x| *x *= by);
                }
                open.push((next, c, onward, table));
            }
        }
        Ok(())
    }
}

fn add_times(to: &mut [f64], from: &[f64], by: f64) {
    to.iter_mut().zip(from).for_each(|(y, x)| *y += x * by);
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::draw;
    use runtime::progress::Unwatched;

    /// A model of four variables with a ring of tables, and its joint distribution by enumeration.
    fn ring() -> (Model, Vec<Vec<usize>>, Vec<f64>, f64) {
        let cells = [2, 3, 3, 4];
        let sets = vec![vec![0], vec![0, 1], vec![1, 3], vec![0, 2], vec![3]];
        let mut model = Model::new(&cells, &sets, Some(3)).unwrap();
        let mut place = 0;
        let factors: Vec<Vec<f64>> = sets
            .iter()
            .map(|set| {
                let mut next = || {
                    place += 1;
                    f64::from(2.0 * draw::uniform(1, place)).exp()
                };
                (0..size_of_set(&cells, set)).map(|_| next()).collect()
            })
            .collect();
        let log = model.infer(&factors, &Unwatched).unwrap();
        let all = [0, 1, 2, 3];
        let mut joint = vec![1.0; 72];
        for (set, factor) in sets.iter().zip(&factors) {
            let places = places(&cells, &all, set).unwrap();
            joint.iter_mut().zip(places).for_each(|(p, place)| *p *= factor[place as usize]);
        }
        let sum: f64 = joint.iter().sum();
        joint.iter_mut().for_each(|p| *p /= sum);
        assert!((log - sum.ln()).abs() < 1e-12);
        (model, sets, joint, sum)
    }

    fn close(a: &[f64], b: &[f64]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12)
    }

    #[test]
    fn beliefs_are_the_marginals_of_the_joint_distribution() {
        let (model, sets, joint, _) = ring();
        let marginal = |to: &[usize]| {
            let projection = Projection::new(&model.cells, &[0, 1, 2, 3], to).unwrap();
            projection.sum(&joint, size_of_set(&model.cells, to)).unwrap()
        };
        for (clique, belief) in model.tree.cliques.iter().zip(&model.beliefs) {
            assert!(close(belief, &marginal(clique)));
        }
        for (set, found) in sets.iter().zip(&model.marginals) {
            assert!(close(found, &marginal(set)));
        }
        let mut seen = 0;
        for source in 0..4 {
            let take = |other: usize, pair: &[f64]| {
                seen += 1;
                assert!(close(pair, &marginal(&[source, other])), "{source} {other}");
            };
            model.pairs_of(source, &|| Ok(()), take).unwrap();
        }
        assert_eq!(seen, 6);
    }
}
