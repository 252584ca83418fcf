//! Minibatches of interactions and drawn items.

use ndarray::{Array2, s};

use super::parameters::Parameters;
use super::trained::Trained;
use interactions::Interactions;
use kernels::Csr;
use kernels::matrix::{flat, flat_mut, rows, rows_mut};
use neural::adam::Step;
use neural::dense::Dense;
use neural::network::{Gradients, Network, Variables};
use neural::table::{Table, Touch};
use runtime::draw::mix;
use runtime::draw::{below, shuffled};
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::team::Team;

/// Samples worked on at once by a thread: about a millisecond.
const CHUNK: usize = 256;
/// Standard deviation of the embeddings at first (He 2017, section 4.1).
const DEVIATION: f32 = 0.01;
/// Items drawn for a negative sample before it is given up: the user knows nearly all of them.
const DRAWS: u64 = 16;
/// Rows of a matrix worked on at once when states are written.
const ROWS: usize = 1024;

struct Model {
    /// [users, f + e]: p_u, and p'_u of width e.
    users: Table,
    /// [items, f + e]
    items: Table,
    /// [1, f]: h_G
    gmf: Table,
    /// From [p'_u ; q'_i] to the perceptron's part of the logit, with h_M and b as its last layer.
    perceptron: Network,
    factors: usize,
}

#[derive(Clone, Copy)]
struct Sample {
    user: u32,
    item: u32,
    label: f32,
    /// How much it counts.
    share: f32,
}

/// Of a chunk of samples.
struct Outcome {
    perceptron: Gradients,
    /// [samples, f + e]
    users: Array2<f32>,
    /// [samples, f + e]
    items: Array2<f32>,
    /// [f]
    gmf: Vec<f32>,
    loss: f64,
}

impl Model {
    fn new(interactions: &Interactions, parameters: &Parameters) -> Result<Self> {
        let (f, e) = (parameters.factors, parameters.embedding());
        let seed = |part: u64| mix(parameters.seed ^ mix(part));
        let scale = DEVIATION * 3f32.sqrt();
        let mut widths = vec![2 * e];
        widths.extend((0..parameters.layers).map(|layer| parameters.hidden(layer)));
        widths.push(1);
        let mut gmf = Table::new(1, f, 0.0, 0)?;
        gmf.values.fill((1.5 / f as f32).sqrt());
        Ok(Self {
            users: Table::new(interactions.users(), f + e, scale, seed(1))?,
            items: Table::new(interactions.items(), f + e, scale, seed(2))?,
            gmf,
            perceptron: Network::new(&widths, 1.0, seed(3))?,
            factors: f,
        })
    }

    /// Loss and gradients of a chunk; `share` is one sample's part of the batch.
    fn learn(&self, variables: &Variables, samples: &[Sample], share: f32) -> Result<Outcome> {
        let (f, width) = (self.factors, self.users.width());
        let e = width - f;
        let mut input = Vec::with_capacity(samples.len() * 2 * e);
        for sample in samples {
            input.extend_from_slice(&self.users.row(sample.user)[f..]);
            input.extend_from_slice(&self.items.row(sample.item)[f..]);
        }
        let pass = variables.forward(memory::shaped(samples.len(), 2 * e, input)?, None)?;
        let mut logits = pass.output()?;
        let h = self.gmf.row(0);
        let mut loss = 0.0;
        for (logit, sample) in logits.iter_mut().zip(samples) {
            let (p, q) = (&self.users.row(sample.user)[..f], &self.items.row(sample.item)[..f]);
            *logit += h.iter().zip(p).zip(q).map(|((h, p), q)| h * p * q).sum::<f32>();
            // ln(1 + exp(−|x|)) + max(x, 0) − x y is −ln of the probability of the label, without overflow.
            let own = (-logit.abs()).exp().ln_1p() + logit.max(0.0) - *logit * sample.label;
            loss += f64::from(sample.share * own);
            // From here on the loss's derivative.
            *logit = sample.share * share * (1.0 / (1.0 + (-*logit).exp()) - sample.label);
        }
        let perceptron = pass.backward(logits.clone())?;
        let mut users = Array2::zeros((samples.len(), width));
        let mut items = Array2::zeros((samples.len(), width));
        let mut gmf = vec![0f32; f];
        let pairs = rows_mut(users.view_mut()).zip(rows_mut(items.view_mut()));
        let inputs = rows(perceptron.input.view());
        for ((((du, di), input), sample), &d) in pairs.zip(inputs).zip(samples).zip(&logits) {
            let (p, q) = (&self.users.row(sample.user)[..f], &self.items.row(sample.item)[..f]);
            for k in 0..f {
                du[k] = d * h[k] * q[k];
                di[k] = d * h[k] * p[k];
                gmf[k] += d * p[k] * q[k];
            }
            du[f..].copy_from_slice(&input[..e]);
            di[f..].copy_from_slice(&input[e..]);
        }
        Ok(Outcome { perceptron, users, items, gmf, loss })
    }

    /// One step of Adam on a batch; the sum of its losses.
    fn step(&mut self, samples: &[Sample], step: Step, decay: f32, team: &Team) -> Result<f64> {
        let variables = self.perceptron.variables()?;
        let share = 1.0 / samples.len().max(1) as f32;
        let chunks: Vec<&[Sample]> = samples.chunks(CHUNK).collect();
        let outcomes = team.each(chunks.len(), |c| self.learn(&variables, chunks[c], share))?;
        let (mut users, mut items, mut gmf) = (Vec::new(), Vec::new(), Vec::new());
        let mut perceptron = Vec::with_capacity(outcomes.len());
        let mut loss = 0.0;
        for outcome in outcomes {
            users.extend_from_slice(flat(outcome.users.view()));
            items.extend_from_slice(flat(outcome.items.view()));
            gmf.extend_from_slice(&outcome.gmf);
            perceptron.push(outcome.perceptron);
            loss += outcome.loss;
        }
        let (width, f) = (self.users.width(), self.factors);
        let (users, items) =
            (memory::shaped(samples.len(), width, users)?, memory::shaped(samples.len(), width, items)?);
        let gmf = memory::shaped(chunks.len(), f, gmf)?;
        let touch = |row, from: usize| Touch { row, from: from as u32, scale: 1.0 };
        let of_users: Vec<Touch> = samples.iter().enumerate().map(|(s, sample)| touch(sample.user, s)).collect();
        let of_items: Vec<Touch> = samples.iter().enumerate().map(|(s, sample)| touch(sample.item, s)).collect();
        let of_gmf: Vec<Touch> = (0..chunks.len()).map(|c| touch(0, c)).collect();
        let Self { users: user_table, items: item_table, gmf: gmf_table, perceptron: network, .. } = self;
        let decay = decay * share;
        let (a, b) = rayon::join(
            || user_table.update(team, &of_users, users.view(), step, decay),
            || item_table.update(team, &of_items, items.view(), step, decay),
        );
        a.and(b)?;
        gmf_table.update(team, &of_gmf, gmf.view(), step, 0.0)?;
        network.update(&perceptron, step, 0.0);
        Ok(loss)
    }

    /// `rows · W` for the perceptron's embeddings of a table and their rows of the first layer, from row `first` on.
    fn first_layer(&self, table: &Table, first: usize, bias: bool, team: &Team) -> Result<Array2<f32>> {
        let f = self.factors;
        let e = table.width() - f;
        let Some(layer) = self.perceptron.layers.first() else {
            return Err(Error::Internal("a perceptron without layers".into()));
        };
        let h = layer.outputs();
        let none = vec![0f32; h];
        let dense = Dense::new(e, layer.weight.slice(s![first..first + e, ..]), if bias { &layer.bias } else { &none });
        let mut result = memory::matrix(table.rows(), h, 0f32)?;
        team.fill(flat_mut(result.view_mut()), ROWS * h, |number, out| {
            let n = out.len() / h;
            let x = table.values.slice(s![number * ROWS..number * ROWS + n, f..]).as_standard_layout().into_owned();
            let mut y = Array2::zeros((n, dense.outputs()));
            dense.forward(x.view(), false, y.view_mut());
            out.chunks_exact_mut(h).zip(rows(y.view())).for_each(|(to, y)| to.copy_from_slice(&y[..h]));
            Ok(())
        })?;
        Ok(result)
    }

    fn finish(mut self, loss: f64, team: &Team) -> Result<Trained> {
        let f = self.factors;
        let e = self.users.width() - f;
        let item_mlp = self.first_layer(&self.items, e, false, team)?;
        let user_mlp = self.first_layer(&self.users, 0, true, team)?;
        let h = user_mlp.ncols();
        let mut item_gmf = memory::matrix(self.items.rows(), f, 0f32)?;
        for (to, row) in rows_mut(item_gmf.view_mut()).zip(rows(self.items.values.view())) {
            to.copy_from_slice(&row[..f]);
        }
        let mut users = memory::matrix(self.users.rows(), f + h, 0f32)?;
        let parts = rows(self.users.values.view()).zip(rows(user_mlp.view()));
        for (to, (row, mlp)) in rows_mut(users.view_mut()).zip(parts) {
            to.iter_mut().zip(row).zip(self.gmf.row(0)).for_each(|((to, p), h)| *to = p * h);
            to[f..].copy_from_slice(mlp);
        }
        let layers = self.perceptron.layers.split_off(1);
        Ok(Trained { item_gmf, item_mlp, users, layers, loss })
    }
}

/// Draws the samples of a batch.
struct Sampler<'a> {
    matrix: &'a Csr,
    /// [entries]: interactions in the order of an epoch.
    order: Vec<u32>,
    /// [entries]: how much an interaction, and what is drawn against it, counts.
    shares: Vec<f32>,
    negatives: usize,
    seed: u64,
}

impl Sampler<'_> {
    /// The sample of a place in an epoch: an interaction, then the items drawn against it. `None` where none was found.
    fn sample(&self, place: usize) -> Option<Sample> {
        let entry = self.order[place / (self.negatives + 1)] as usize;
        let share = self.shares[entry];
        let user = self.matrix.indptr.partition_point(|&start| start <= entry as u64) - 1;
        if place.is_multiple_of(self.negatives + 1) {
            return Some(Sample { user: user as u32, item: self.matrix.indices[entry], label: 1.0, share });
        }
        let (known, _) = self.matrix.row(user);
        let drawn = (0..DRAWS).map(|n| below(self.seed, place as u64 * DRAWS + n, self.matrix.columns) as u32);
        let item = drawn.into_iter().find(|item| known.binary_search(item).is_err())?;
        Some(Sample { user: user as u32, item, label: 0.0, share })
    }
}

pub fn run(interactions: &Interactions, parameters: &Parameters, team: &Team) -> Result<Trained> {
    let matrix = &interactions.by_user;
    let entries = u32::try_from(matrix.entries()).map_err(|_| Error::TooLarge {
        what: "neumf".into(),
        needed: format!("{} interactions", matrix.entries()),
        limit: format!("{}", u32::MAX),
        hint: "Train on a part of the interactions.".into(),
    })?;
    let mut model = Model::new(interactions, parameters)?;
    let order = memory::filled(0u32, entries as usize)?;
    let shares = parameters.weighting.shares(&matrix.values)?;
    let mut sampler = Sampler { matrix, order, shares, negatives: parameters.negatives, seed: 0 };
    let places = entries as usize * (parameters.negatives + 1);
    let (mut steps, mut mean) = (0, 0.0);
    for epoch in 0..parameters.epochs {
        sampler.seed = mix(parameters.seed ^ mix(1000 + epoch as u64));
        shuffled(&mut sampler.order, sampler.seed);
        let (mut total, mut drawn) = (0.0, 0);
        for start in (0..places).step_by(parameters.batch_size) {
            let end = (start + parameters.batch_size).min(places);
            let chunks = (end - start).div_ceil(CHUNK);
            let samples = team.each(chunks, |c| {
                let from = start + c * CHUNK;
                Ok((from..(from + CHUNK).min(end)).filter_map(|place| sampler.sample(place)).collect::<Vec<_>>())
            })?;
            let samples = samples.concat();
            if samples.is_empty() {
                continue;
            }
            steps += 1;
            let step = Step::new(parameters.learning_rate, steps);
            total += model.step(&samples, step, parameters.regularization, team)?;
            drawn += samples.len();
        }
        mean = total / drawn.max(1) as f64;
        team.finished(1);
    }
    model.finish(mean, team)
}
