//! Small factor models; their loss and gradients during training score the interactions.
//!
//! `z_ui = p_u·q_i + b_i`, trained on `−ln σ(z)` of the interactions and `−ln σ(−z)` of pairs drawn at random, `negatives` for each
//! interaction, with weight decay. The models of He et al., "Neural collaborative filtering" (WWW 2017), §3.2, GMF with equal output weights.
//!
//! An epoch first updates the users with the items fixed, then the items with the users fixed: within each half no row depends on
//! another, so the result does not depend on the number of threads. A row processes its pairs in turn, with the rate of Adagrad (Duchi, Hazan,
//! Singer, JMLR 2011) and one sum of squared gradients per row. Negative items of a user are drawn uniformly; negative users of an item in
//! proportion to their interactions, which is the same distribution seen from the other side.
//!
//! O(runs · epochs · entries · (1 + negatives) · factors) time; memory is the transposed matrix, the factors, and 4 bytes per interaction.

use ndarray::{Array2, ArrayViewMut2, Axis};

use super::task::Task;
use kernels::Csr;
use kernels::dot::dot_of;
use kernels::matrix::{flat, rows_mut};
use kernels::vector::{Vector, dispatch};
use runtime::draw::{below, mix, normal};
use runtime::error::{Error, Result};
use runtime::jobs::{Relay, Signal};
use runtime::memory;
use runtime::options::Options;
use runtime::parallel::for_each_chunk;
use runtime::progress::Progress;

/// Floats to which factors are padded: the widest register.
const PAD: usize = 16;
/// Approximate interactions in a block of rows: a few milliseconds of work.
const BLOCK: usize = 1 << 12;
/// The cost of a row itself, in interactions.
const ROW: usize = 16;
/// Pairs between two checks for a cancel request.
const LOOK: usize = 1 << 14;
/// Pairs drawn ahead, so that their rows can be prefetched.
const AHEAD: usize = 4;
/// Floats in a cache line.
const LINE: usize = 16;
/// Initial standard deviation of the factors.
const START: f32 = 0.1;
/// Adagrad's initial sum of squares.
const SQUARES: f32 = 1e-8;

#[derive(Clone, Copy, Debug)]
pub struct Parameters {
    factors: usize,
    learning_rate: f32,
    regularization: f32,
    negatives: usize,
    epochs: usize,
    runs: usize,
    seed: u64,
}

impl Parameters {
    pub fn read(options: &mut Options) -> Result<Self> {
        Ok(Self {
            factors: options.integer("factors", 64, 1, 1024)? as usize,
            learning_rate: options.float("learning_rate", 0.1, 1e-7, 10.0)?,
            regularization: options.float("regularization", 0.025, 0.0, 1e3)?,
            negatives: options.integer("negatives", 4, 1, 1000)? as usize,
            epochs: options.integer("epochs", 20, 1, 10_000)? as usize,
            runs: options.integer("runs", 4, 1, 1000)? as usize,
            seed: options.integer("seed", 0, 0, u64::MAX)?,
        })
    }
}

/// What is measured of an interaction after an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    Loss,
    /// The norm of the loss's gradient.
    Norm,
}

/// Minus the mean of `what` over the epochs of all runs, for each entry of `by_user`.
pub fn train(task: &Task, parameters: &Parameters, what: Shown) -> Result<Vec<f64>> {
    let progress = Relay::new(task.progress);
    let by_item = task.by_user.transpose(&progress)?;
    let mut shown = memory::zeros(task.by_user.entries())?;
    let total = parameters.runs * parameters.epochs;
    for run in 0..parameters.runs {
        let seed = mix(parameters.seed ^ mix(run as u64));
        let mut model = Model::new(task.by_user, &by_item, *parameters, seed, &progress)?;
        for epoch in 0..parameters.epochs {
            progress.report("epochs of the factor models", run * parameters.epochs + epoch, total);
            model.epoch(epoch, task.threads, &progress)?;
            model.show(what, &mut shown, task.threads, &progress)?;
        }
    }
    let mut scores = Vec::new();
    memory::reserve(&mut scores, shown.len())?;
    for part in shown.chunks(1 << 18) {
        progress.check()?;
        if !part.iter().all(|sum| sum.is_finite()) {
            return Err(Error::invalid("the training loss is not finite", "Lower learning_rate."));
        }
        scores.extend(part.iter().map(|&sum| f64::from(-sum) / total as f64));
    }
    Ok(scores)
}

/// The users or the items of a model.
struct Side {
    factors: usize,
    /// [rows, factors padded]
    rows: Array2<f32>,
    states: Vec<State>,
}

#[derive(Clone, Copy)]
struct State {
    /// ‖row‖² / factors
    square: f32,
    /// 0 of a user.
    bias: f32,
    /// Sums of squared gradients: of the row, mean over its factors, and of the bias.
    row_gradients: f32,
    bias_gradients: f32,
}

impl Side {
    fn new(rows: usize, p: &Parameters, seed: u64, progress: &dyn Progress) -> Result<Self> {
        let stride = p.factors.next_multiple_of(PAD);
        let state = State { square: 0.0, bias: 0.0, row_gradients: SQUARES, bias_gradients: SQUARES };
        let mut side = Self {
            factors: p.factors,
            rows: memory::shaped(rows, stride, memory::zeros(rows * stride)?)?,
            states: memory::filled(state, rows)?,
        };
        for (number, (row, state)) in rows_mut(side.rows.view_mut()).zip(&mut side.states).enumerate() {
            if number % (1 << 11) == 0 {
                progress.check()?;
            }
            for (k, x) in row[..p.factors].iter_mut().enumerate() {
                *x = START * normal(seed, (number * p.factors + k) as u64);
            }
            state.square = mean_square(row, p.factors);
        }
        Ok(side)
    }

    fn stride(&self) -> usize {
        self.rows.ncols()
    }

    /// Blocks of rows with about equally many interactions.
    fn blocks(&mut self, of: &Csr) -> Result<Vec<Block<'_>>> {
        let mut blocks = Vec::new();
        let (mut rows, mut states) = (self.rows.view_mut(), &mut self.states[..]);
        for range in ranges(of) {
            let (own_rows, other_rows) = rows.split_at(Axis(0), range.len());
            let (own_states, other_states) = states.split_at_mut(range.len());
            let block = Block { first: range.start, rows: own_rows, states: own_states };
            memory::push(&mut blocks, block)?;
            (rows, states) = (other_rows, other_states);
        }
        Ok(blocks)
    }
}

/// Consecutive rows of a matrix in blocks of about equally many entries.
fn ranges(of: &Csr) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let start = first;
        let size = |last: usize| (of.indptr[last] - of.indptr[start]) as usize + ROW * (last - start);
        first = (start < of.rows()).then_some(start + 1)?;
        while first < of.rows() && size(first + 1) <= BLOCK {
            first += 1;
        }
        Some(start..first)
    })
}

fn mean_square(row: &[f32], factors: usize) -> f32 {
    row.iter().map(|x| x * x).sum::<f32>() / factors as f32
}

/// Consecutive rows of a side.
struct Block<'a> {
    first: usize,
    rows: ArrayViewMut2<'a, f32>,
    states: &'a mut [State],
}

/// How a row's negative pairs are drawn.
enum Negatives<'a> {
    /// Items, uniformly; this many per interaction.
    Items(f64),
    /// Users of these interactions; this many in total.
    Users(&'a [u32], f64),
}

/// The input for updating one side.
struct Half<'a> {
    chosen: &'a Csr,
    others: &'a Side,
    negatives: Negatives<'a>,
    parameters: Parameters,
    seed: u64,
    signal: &'a Signal,
}

impl Half<'_> {
    fn is_of_items(&self) -> bool {
        matches!(self.negatives, Negatives::Users(..))
    }
}

#[inline(always)]
unsafe fn learn_body<V: Vector, const TILE: usize>(half: &Half, block: &mut Block) {
    let Parameters { learning_rate, regularization, factors, .. } = half.parameters;
    let (stride, others) = (block.rows.ncols(), half.others.states.len());
    assert!(half.others.stride() == stride && stride.is_multiple_of(V::LANES));
    // Taken once: a view for each pair would cost as much as its product.
    let other_rows = flat(half.others.rows.view());
    let row_of = |other: usize| &other_rows[other * stride..][..stride];
    for (at, (state, own)) in block.states.iter_mut().zip(rows_mut(block.rows.view_mut())).enumerate() {
        let row = block.first + at;
        let chosen = half.chosen.row(row).0;
        let key = mix(half.seed ^ mix(row as u64));
        let wanted = match half.negatives {
            Negatives::Items(each) => each * chosen.len() as f64,
            Negatives::Users(_, all) => all,
        };
        // Rounded up or down by chance, so that the mean is right.
        let pairs = chosen.len() + (wanted + (key >> 11) as f64 / (1u64 << 53) as f64) as usize;
        // Interactions, from a random one on, spread evenly among the negative pairs.
        let start = below(key, u64::MAX, chosen.len().max(1));
        let mut taken = 0;
        let mut draw = |pair: usize| {
            if pair >= pairs {
                return (0, false);
            }
            let positive = (pair + 1) * chosen.len() / pairs > taken;
            let other = if positive {
                taken += 1;
                chosen[(start + taken - 1) % chosen.len()] as usize
            } else {
                match half.negatives {
                    Negatives::Items(_) => below(key, pair as u64, others),
                    Negatives::Users(of, _) => of[below(key, pair as u64, of.len())] as usize,
                }
            };
            row_of(other).iter().step_by(LINE).for_each(|x| V::prefetch(x));
            (other, positive)
        };
        let mut drawn: [(usize, bool); AHEAD] = std::array::from_fn(&mut draw);
        let x = own.as_mut_ptr();
        for pair in 0..pairs {
            if pair % LOOK == LOOK - 1 && half.signal.is_stopped() {
                return;
            }
            let (other, positive) = std::mem::replace(&mut drawn[pair % AHEAD], draw(pair + AHEAD));
            let y = row_of(other).as_ptr();
            // SAFETY: both rows are `stride` floats, a multiple of LANES.
            unsafe {
                let z = dot_of::<V>(x, y, stride) + state.bias + half.others.states[other].bias;
                let slope = 1.0 / (1.0 + (-z).exp()) - if positive { 1.0 } else { 0.0 };
                state.row_gradients += slope * slope * half.others.states[other].square;
                let rate = learning_rate / state.row_gradients.sqrt();
                let (keep, step) = (V::splat(1.0 - rate * regularization), V::splat(-rate * slope));
                let zero = V::splat(0.0);
                let mut k = 0;
                while k < stride {
                    V::load(y.add(k)).mul_add(step, V::load(x.add(k)).mul_add(keep, zero)).store(x.add(k));
                    k += V::LANES;
                }
                if half.is_of_items() {
                    state.bias_gradients += slope * slope;
                    state.bias -= learning_rate * slope / state.bias_gradients.sqrt();
                }
            }
        }
        state.square = mean_square(own, factors);
    }
}
dispatch! {
    /// A step for each pair of each row of the block. Ends early on a cancel request.
    fn learn(half: &Half, block: &mut Block) = learn_body
}

/// Read access to a model.
struct View<'a> {
    what: Shown,
    by_user: &'a Csr,
    users: &'a Side,
    items: &'a Side,
}

#[inline(always)]
unsafe fn look_body<V: Vector, const TILE: usize>(view: &View, first: usize, shown: &mut [f32]) {
    let d = view.users.factors as f32;
    assert_eq!(view.users.stride(), view.items.stride());
    let stride = view.users.stride();
    let (users, items) = (flat(view.users.rows.view()), flat(view.items.rows.view()));
    let (mut user, mut rest) = (first, shown);
    while !rest.is_empty() {
        let chosen = view.by_user.row(user).0;
        let (own, others) = rest.split_at_mut(chosen.len());
        let x = users[user * stride..][..stride].as_ptr();
        for (&item, shown) in chosen.iter().zip(own) {
            let (item, state) = (item as usize * stride, &view.items.states[item as usize]);
            let y = items[item..][..stride].as_ptr();
            // SAFETY: both rows are `stride` floats, a multiple of LANES.
            let z = unsafe { dot_of::<V>(x, y, stride) } + state.bias;
            *shown += match view.what {
                // ln(1 + e^−z) without overflow.
                Shown::Loss => (-z.abs()).exp().ln_1p() + (-z).max(0.0),
                Shown::Norm => (d * (view.users.states[user].square + state.square) + 1.0).sqrt() / (1.0 + z.exp()),
            };
        }
        (user, rest) = (user + 1, others);
    }
}
dispatch! {
    /// Adds what is measured of each interaction of the users from `first` on.
    fn look(view: &View, first: usize, shown: &mut [f32]) = look_body
}

struct Model<'a> {
    by_user: &'a Csr,
    by_item: &'a Csr,
    users: Side,
    items: Side,
    parameters: Parameters,
    seed: u64,
}

impl<'a> Model<'a> {
    fn new(
        by_user: &'a Csr,
        by_item: &'a Csr,
        parameters: Parameters,
        seed: u64,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let users = Side::new(by_user.rows(), &parameters, mix(seed ^ 1), progress)?;
        let items = Side::new(by_item.rows(), &parameters, mix(seed ^ 2), progress)?;
        Ok(Self { by_user, by_item, users, items, parameters, seed })
    }

    fn epoch(&mut self, epoch: usize, threads: usize, progress: &Relay) -> Result<()> {
        let p = self.parameters;
        let seed = |half: usize| mix(self.seed ^ mix((3 + 2 * epoch + half) as u64));
        let all = (p.negatives * self.by_user.entries()) as f64 / self.by_item.rows().max(1) as f64;
        let of_users = Half {
            chosen: self.by_user,
            others: &self.items,
            negatives: Negatives::Items(p.negatives as f64),
            parameters: p,
            seed: seed(0),
            signal: &progress.signal,
        };
        half(&mut self.users, &of_users, threads, progress)?;
        let of_items = Half {
            chosen: self.by_item,
            others: &self.users,
            negatives: Negatives::Users(&self.by_item.indices, all),
            parameters: p,
            seed: seed(1),
            signal: &progress.signal,
        };
        half(&mut self.items, &of_items, threads, progress)
    }

    fn show(&self, what: Shown, shown: &mut [f32], threads: usize, progress: &Relay) -> Result<()> {
        let view = View { what, by_user: self.by_user, users: &self.users, items: &self.items };
        let mut blocks = Vec::new();
        let mut rest = shown;
        for range in ranges(self.by_user) {
            let entries = (self.by_user.indptr[range.end] - self.by_user.indptr[range.start]) as usize;
            let (own, others) = rest.split_at_mut(entries);
            memory::push(&mut blocks, (range.start, own))?;
            rest = others;
        }
        let init = || ();
        for_each_chunk(&mut blocks, 4, threads, progress, init, |(), _, blocks| {
            blocks.iter_mut().for_each(|(first, shown)| look(&view, *first, shown));
            Ok(())
        })
    }
}

fn half(side: &mut Side, half: &Half, threads: usize, progress: &Relay) -> Result<()> {
    let mut blocks = side.blocks(half.chosen)?;
    let init = || ();
    for_each_chunk(&mut blocks, 1, threads, progress, init, |(), _, blocks| {
        blocks.iter_mut().for_each(|block| learn(half, block));
        half.signal.check()
    })
}
