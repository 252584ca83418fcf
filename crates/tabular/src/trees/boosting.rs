//! Gradient boosting (Friedman 2001) with the second-order steps of Chen, Guestrin (2016) on histograms.
//!
//! Each round fits a tree to the gradient of the loss: softmax log-loss for classes, with a tree per class and a single tree
//! for two classes; squared error for numbers, [`Ranks`](super::Ranks) for rankings. The initial scores are the class shares, or the mean.
//!
//! Time: O(rounds · classes · (rows · columns · log leaves + leaves · bins)) on one thread; run several learners in
//! parallel. Memory: 8 bytes per row and class, and leaves × bins × 16.

use super::binned::Binned;
use super::grow::Grower;
use super::ranks::Ranks;
use super::split::Scales;
use super::target::Target;
use super::tree::Tree;
use kernels::statistics::softmax;
use runtime::draw::mix;
use runtime::error::Result;
use runtime::jobs::Signal;
use runtime::memory;

/// Greatest sum of integers: half the range of 32 bits, the other half is left for rounding.
const MAX_SUM: f64 = (1u64 << 30) as f64;
/// Second derivatives are at least this.
const MIN_HESSIAN: f32 = 1e-6;
/// Rows between two checks for a cancel request.
const CHECK_EVERY: usize = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoostingOptions {
    pub rounds: usize,
    pub learning_rate: f32,
    /// Most leaves of a tree.
    pub leaves: usize,
    /// L2 regularisation λ of the leaf values.
    pub l2: f32,
    /// Fewest rows of a leaf.
    pub least_rows: usize,
    /// Share of the columns drawn for each tree. Below 1 the trees differ more and overfit less.
    pub columns: f32,
}

impl Default for BoostingOptions {
    fn default() -> Self {
        Self { rounds: 100, learning_rate: 0.1, leaves: 31, l2: 1.0, least_rows: 20, columns: 1.0 }
    }
}

/// Rows that are not trained on, by whose loss the rounds are counted.
#[derive(Clone, Copy, Debug)]
pub struct Watch<'a> {
    pub rows: &'a [u32],
    /// Rounds without a lower loss after which training ends.
    pub patience: usize,
}

/// What the trees are to predict.
enum Goal<'a> {
    Labels(Target<'a>),
    Ranks(Ranks<'a>),
}

impl Goal<'_> {
    fn outputs(&self) -> usize {
        match self {
            Self::Labels(target) => target.outputs(),
            Self::Ranks(_) => 1,
        }
    }
}

/// A boosted ensemble.
#[derive(Clone, Debug)]
pub struct Boosting {
    /// [rounds, scores]
    trees: Vec<Tree>,
    /// [scores]: the initial scores.
    base: Vec<f32>,
    /// Number of classes, or 1.
    outputs: usize,
    /// For numbers, the value of a score of 1.
    unit: f32,
}

impl Boosting {
    /// Trains on `rows` of the binned rows, ascending. `weights` [binned rows] are finite and at least 0; rows of weight 0
    /// are left out, and weights below 2⁻³⁰ of the sum have no effect. Without rows every class is equally likely and a
    /// number is 0.
    pub fn fit(
        binned: &Binned,
        target: &Target,
        rows: (&[u32], Option<&[f32]>),
        options: &BoostingOptions,
        seed: u64,
        signal: &Signal,
    ) -> Result<Self> {
        Ok(Self::fit_to(binned, &Goal::Labels(*target), rows, options, None, seed, signal)?.0)
    }

    /// [`fit`](Self::fit) until the loss of other rows falls no more. Also returns that loss before the first round and after each: log loss, or
    /// the squared error in units of the labels' deviation, by the weights.
    pub fn fit_watched(
        binned: &Binned,
        target: &Target,
        rows: (&[u32], Option<&[f32]>),
        watch: Watch,
        options: &BoostingOptions,
        seed: u64,
        signal: &Signal,
    ) -> Result<(Self, Vec<f64>)> {
        Self::fit_to(binned, &Goal::Labels(*target), rows, options, Some(watch), seed, signal)
    }

    /// Only the first rounds.
    pub fn truncate(&mut self, rounds: usize) {
        self.trees.truncate(rounds * self.base.len());
    }

    /// Trains a score that ranks the rows of each query by their grades; it is what is to be added to [`Ranks::base`].
    pub fn fit_ranks(
        binned: &Binned,
        ranks: Ranks,
        options: &BoostingOptions,
        seed: u64,
        signal: &Signal,
    ) -> Result<Self> {
        let mut rows = Vec::new();
        memory::reserve(&mut rows, binned.rows())?;
        rows.extend(0..binned.rows() as u32);
        Ok(Self::fit_to(binned, &Goal::Ranks(ranks), (&rows, None), options, None, seed, signal)?.0)
    }

    fn fit_to(
        binned: &Binned,
        goal: &Goal,
        (rows, weights): (&[u32], Option<&[f32]>),
        options: &BoostingOptions,
        watch: Option<Watch>,
        seed: u64,
        signal: &Signal,
    ) -> Result<(Self, Vec<f64>)> {
        let weight = |row: u32| weights.map_or(1.0, |weights| weights[row as usize]);
        let mut kept = Vec::new();
        memory::reserve(&mut kept, rows.len())?;
        kept.extend(rows.iter().copied().filter(|&row| weight(row) > 0.0));
        let (rows, outputs) = (&kept[..], goal.outputs());
        // Weights and λ in units of the mean weight: the same steps, and no sum leaves what single precision holds.
        let mean = rows.iter().map(|&row| f64::from(weight(row))).sum::<f64>() / rows.len().max(1) as f64;
        let mean = if weights.is_some() && mean > 0.0 { mean } else { 1.0 };
        let weight = |row: u32| (f64::from(weight(row)) / mean) as f32;
        let l2 = (f64::from(options.l2) / mean) as f32;
        let (base, unit) = match goal {
            Goal::Labels(target) => start(target, rows, weight),
            Goal::Ranks(_) => (vec![0.0], 1.0),
        };
        let scores_of_row = base.len();
        let mut scores = memory::filled(0f32, binned.rows() * scores_of_row)?;
        scores.chunks_exact_mut(scores_of_row).for_each(|scores| scores.copy_from_slice(&base));
        if let Goal::Ranks(Ranks { base: Some(base), .. }) = goal {
            scores.iter_mut().zip(*base).for_each(|(score, base)| *score = *base);
        }
        let mut learner = Self { trees: Vec::new(), base, outputs, unit };
        if outputs < 2 && matches!(goal, Goal::Labels(Target::Classes { .. })) {
            return Ok((learner, Vec::new()));
        }
        let mut losses = Vec::new();
        let mut best = (f64::INFINITY, 0);
        if let Some(watch) = &watch {
            best.0 = learner.loss(goal, watch.rows, weight, &scores, signal)?;
            losses.push(best.0);
        }
        let mut probabilities =
            memory::filled(0f32, if scores_of_row > 1 { binned.rows() * scores_of_row } else { 0 })?;
        let mut exact = memory::filled([0f32; 2], binned.rows())?;
        let mut gradients = memory::filled([0i32; 2], binned.rows())?;
        let mut grower = Grower::new(binned, rows)?;
        let mut lambdas = match goal {
            Goal::Labels(_) => Vec::new(),
            Goal::Ranks(_) => memory::filled([0f32; 2], binned.rows())?,
        };
        for _ in 0..options.rounds {
            if let Goal::Ranks(ranks) = goal {
                ranks.lambdas(&scores, &mut lambdas, signal)?;
            }
            if scores_of_row > 1 {
                for rows in rows.chunks((CHECK_EVERY / scores_of_row).max(1)) {
                    signal.check()?;
                    for &row in rows {
                        let range = row as usize * scores_of_row..(row as usize + 1) * scores_of_row;
                        let probabilities = &mut probabilities[range.clone()];
                        probabilities.copy_from_slice(&scores[range]);
                        softmax(probabilities);
                    }
                }
            }
            for output in 0..scores_of_row {
                let (mut sum_g, mut sum_h) = (0f64, 0f64);
                for rows in rows.chunks(CHECK_EVERY) {
                    signal.check()?;
                    for &row in rows {
                        let (place, w) = (row as usize, weight(row));
                        let (g, h) = match goal {
                            Goal::Labels(Target::Numbers(values)) => (scores[place] - (values[place] / unit), 1.0),
                            Goal::Ranks(_) => (lambdas[place][0], lambdas[place][1].max(MIN_HESSIAN)),
                            Goal::Labels(Target::Classes { codes, .. }) => {
                                let (p, is) = if scores_of_row == 1 {
                                    (sigmoid(scores[place]), codes[place] == 1)
                                } else {
                                    (probabilities[place * scores_of_row + output], codes[place] as usize == output)
                                };
                                (p - f32::from(u8::from(is)), (p * (1.0 - p)).max(MIN_HESSIAN))
                            }
                        };
                        exact[place] = [g * w, h * w];
                        sum_g += f64::from((g * w).abs());
                        sum_h += f64::from(h * w);
                    }
                }
                let unit_of = |sum: f64| if sum > 0.0 { sum / MAX_SUM } else { 1.0 };
                let (unit_g, unit_h) = (unit_of(sum_g), unit_of(sum_h));
                for &row in rows {
                    let [g, h] = exact[row as usize];
                    let whole = |x: f32, unit: f64| (f64::from(x) / unit).round_ties_even() as i32;
                    gradients[row as usize] = [whole(g, unit_g), whole(h, unit_h)];
                }
                let scales = Scales {
                    gradient: unit_g as f32,
                    hessian: unit_h as f32,
                    l2,
                    least_rows: options.least_rows.max(1),
                };
                grower.draw_columns(options.columns, mix(seed ^ mix(learner.trees.len() as u64)));
                let tree = grower.grow(&gradients, &scales, options.leaves, signal, |rows, step| {
                    let value = step * options.learning_rate;
                    rows.iter().for_each(|&row| scores[row as usize * scores_of_row + output] += value);
                    value
                })?;
                learner.trees.push(tree);
                signal.finished(1);
            }
            let Some(watch) = &watch else { continue };
            let new = &learner.trees[learner.trees.len() - scores_of_row..];
            for rows in watch.rows.chunks(CHECK_EVERY) {
                signal.check()?;
                for &row in rows {
                    let codes = binned.row(row as usize);
                    for (score, tree) in scores[row as usize * scores_of_row..].iter_mut().zip(new) {
                        *score += tree.values(tree.leaf(codes)).first().map_or(0.0, |(_, value)| *value);
                    }
                }
            }
            let loss = learner.loss(goal, watch.rows, weight, &scores, signal)?;
            losses.push(loss);
            if loss < best.0 {
                best = (loss, losses.len());
            } else if losses.len() - best.1 > watch.patience {
                break;
            }
        }
        Ok((learner, losses))
    }

    /// The mean loss of rows with these scores [binned rows, scores].
    fn loss(
        &self,
        goal: &Goal,
        rows: &[u32],
        weight: impl Fn(u32) -> f32,
        scores: &[f32],
        signal: &Signal,
    ) -> Result<f64> {
        let n = self.base.len();
        let (mut sum, mut all) = (0.0, 0.0);
        for (number, &row) in rows.iter().enumerate() {
            if number % (CHECK_EVERY / n.max(1)).max(1) == 0 {
                signal.check()?;
            }
            let (place, w) = (row as usize, f64::from(weight(row)));
            let of_row = &scores[place * n..][..n];
            let loss = match goal {
                Goal::Labels(Target::Numbers(values)) => f64::from(of_row[0] - values[place] / self.unit).powi(2),
                Goal::Labels(Target::Classes { codes, .. }) if n == 1 => {
                    let margin = if codes[place] == 1 { -of_row[0] } else { of_row[0] };
                    // ln(1 + eˣ) without overflow.
                    f64::from(margin.max(0.0)) + f64::from(-margin.abs()).exp().ln_1p()
                }
                Goal::Labels(Target::Classes { codes, .. }) => {
                    let most = of_row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let sum: f64 = of_row.iter().map(|score| f64::from(score - most).exp()).sum();
                    sum.ln() - f64::from(of_row[codes[place] as usize] - most)
                }
                Goal::Ranks(_) => 0.0,
            };
            sum += w * loss;
            all += w;
        }
        Ok(if all > 0.0 { sum / all } else { 0.0 })
    }

    /// The initial score, where there is one score that is not scaled.
    pub(super) fn single_base(&self) -> Option<f32> {
        match self.base.as_slice() {
            [base] if self.unit == 1.0 => Some(*base),
            _ => None,
        }
    }

    /// The initial scores, the number of outputs, and the value of a score of 1.
    pub(super) fn start(&self) -> (&[f32], usize, f32) {
        (&self.base, self.outputs, self.unit)
    }

    pub(super) fn grown(&self) -> &[Tree] {
        &self.trees
    }

    /// Number of trees that [`fit`](Self::fit) grows and reports as progress.
    pub fn trees(target: &Target, options: &BoostingOptions) -> usize {
        options.rounds * if target.outputs() == 2 { 1 } else { target.outputs() }
    }

    /// Writes the prediction for a row with these codes to `out` [outputs]: probabilities of the classes, or a number.
    pub fn predict(&self, codes: &[u8], out: &mut [f32]) {
        let scores = self.base.len();
        out[..scores].copy_from_slice(&self.base);
        for trees in self.trees.chunks_exact(scores) {
            for (score, tree) in out.iter_mut().zip(trees) {
                *score += tree.values(tree.leaf(codes)).first().map_or(0.0, |(_, value)| *value);
            }
        }
        match (self.outputs, scores) {
            (2, 1) => {
                let p = sigmoid(out[0]);
                out.copy_from_slice(&[1.0 - p, p]);
            }
            (1, 1) => out[0] *= self.unit,
            _ => softmax(out),
        }
    }
}

/// The initial scores, and the value of a score of 1.
fn start(target: &Target, rows: &[u32], weight: impl Fn(u32) -> f32) -> (Vec<f32>, f32) {
    let total: f64 = rows.iter().map(|&row| f64::from(weight(row))).sum();
    match target {
        Target::Numbers(values) => {
            let mean_of = |f: &dyn Fn(f64) -> f64| {
                let sum: f64 = rows.iter().map(|&r| f64::from(weight(r)) * f(f64::from(values[r as usize]))).sum();
                if total > 0.0 { sum / total } else { 0.0 }
            };
            let mean = mean_of(&|x| x);
            let deviation = mean_of(&|x| (x - mean).powi(2)).sqrt();
            let unit = if deviation > 0.0 { deviation as f32 } else { 1.0 };
            (vec![mean as f32 / unit], unit)
        }
        Target::Classes { codes, classes } => {
            let mut shares = vec![0f64; *classes];
            rows.iter().for_each(|&row| shares[codes[row as usize] as usize] += f64::from(weight(row)));
            // A class without rows is as rare as half a row.
            let least = if total > 0.0 { 0.5 * total / rows.len() as f64 } else { 1.0 };
            let logs: Vec<f64> = shares.iter().map(|share| share.max(least).ln()).collect();
            if *classes == 2 {
                return (vec![(logs[1] - logs[0]) as f32], 1.0);
            }
            let mean = logs.iter().sum::<f64>() / (*classes).max(1) as f64;
            (logs.iter().map(|log| (log - mean) as f32).collect(), 1.0)
        }
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
