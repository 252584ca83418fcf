//! Batches of users through encoder and decoder.

use super::fold_in::{FoldIn, LEAST_LENGTH};
use super::output::Output;
use super::parameters::Parameters;
use interactions::Interactions;
use kernels::dot::axpy;
use kernels::matrix::{flat, flat_mut, rows as rows_of, rows_mut};
use ndarray::{Array2, s};
use neural::adam::Step;
use neural::network::{Gradients, Layer, Network, Pass, Variables};
use neural::table::{Table, Touch};
use runtime::draw::{mix, normal, shuffled, uniform};
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::team::Team;

/// Users that go through the small layers at once: below a millisecond.
const CHUNK: usize = 16;
/// Scores of a batch: a quarter of a gigabyte.
const SCORES: usize = 1 << 26;
/// Items of a history between two looks whether to stop.
const ITEMS_PER_CHECK: usize = 4096;
/// ln σ² beyond which it is cut off: e¹⁰ and e⁻¹⁰.
const LOG_VARIANCE: f32 = 10.0;
/// Share of the steps in which β grows.
const ANNEALED: f64 = 0.5;
/// Rows of users encoded at once at the end.
const ROWS: usize = 64;

pub struct Trained {
    /// [items, hidden]: H
    pub history_factors: Array2<f32>,
    /// [hidden]: a
    pub history_bias: Vec<f32>,
    /// [hidden, factors]: what gives the means.
    pub encoder: Layer,
    /// [factors, hidden − 1]
    pub decoder: Layer,
    /// [items, hidden]: Y
    pub item_factors: Array2<f32>,
    /// [users, factors]: μ; zeros where there is no history.
    pub user_factors: Array2<f32>,
    pub loss: f64,
}

struct Model<'a> {
    interactions: &'a Interactions,
    parameters: &'a Parameters,
    /// [entries]: how much each counts.
    shares: Vec<f32>,
    /// [items, hidden]
    history: Table,
    /// [1, hidden]
    bias: Table,
    encoder: Network,
    decoder: Network,
    output: Output,
}

/// A chunk of users on its way.
struct Forward<'v> {
    /// What enters: `from` counts within the batch.
    touches: Vec<Touch>,
    /// [users, hidden], after tanh.
    encoded: Vec<f32>,
    encoder: Pass<'v>,
    /// [users, 2 factors]: μ, ln σ²
    moments: Vec<f32>,
    /// [users, factors]: (z − μ) / σ
    noise: Vec<f32>,
    decoder: Pass<'v>,
    /// [users, hidden]: after tanh, and 1.
    decoded: Vec<f32>,
    /// `Σ_u KL`
    divergence: f64,
}

/// What a batch draws from chance by.
#[derive(Clone, Copy)]
struct Epoch {
    dropout: u64,
    noise: u64,
}

impl<'a> Model<'a> {
    fn new(interactions: &'a Interactions, parameters: &'a Parameters, batch: usize) -> Result<Self> {
        let (items, hidden, factors) = (interactions.items(), parameters.hidden, parameters.factors);
        let seed = |part: u64| mix(parameters.seed ^ mix(part));
        // Glorot and Bengio (AISTATS 2010), eq. 16.
        let scale = |inputs: usize, outputs: usize| (6.0 / (inputs + outputs) as f32).sqrt();
        let mut history = Table::new(items, hidden, scale(items, hidden), seed(1))?;
        let mut known = memory::filled(false, items)?;
        interactions.by_user.indices.iter().for_each(|&item| known[item as usize] = true);
        for (row, _) in rows_mut(history.values.view_mut()).zip(&known).filter(|&(_, &known)| !known) {
            // Nothing will move it from where chance put it.
            row.fill(0.0);
        }
        let of_output = scale(hidden, items);
        let start = |at: usize| if at % hidden == hidden - 1 { 0.0 } else { of_output * uniform(seed(2), at as u64) };
        let network = |inputs: usize, outputs: usize, part| {
            let he = (6.0 / inputs as f32).sqrt();
            Network::new(&[inputs, outputs], scale(inputs, outputs) / he, seed(part))
        };
        Ok(Self {
            interactions,
            parameters,
            shares: parameters.weighting.shares(&interactions.by_user.values)?,
            history,
            bias: Table::new(1, hidden, 0.0, 0)?,
            encoder: network(hidden, 2 * factors, 3)?,
            decoder: network(factors, hidden - 1, 4)?,
            output: Output::new(items, hidden, batch, start)?,
        })
    }

    fn forward<'v>(
        &self,
        users: &[u32],
        first: usize,
        layers: [&'v Variables; 2],
        epoch: Epoch,
        team: &Team,
    ) -> Result<Forward<'v>> {
        let Parameters { hidden, factors, dropout, weighting, .. } = *self.parameters;
        let (n, matrix) = (users.len(), &self.interactions.by_user);
        let mut touches = Vec::new();
        let mut encoded = self.bias.row(0).repeat(n);
        for ((&user, row), from) in users.iter().zip(encoded.chunks_exact_mut(hidden)).zip(first as u32..) {
            let (items, weights) = matrix.row(user as usize);
            let squares = weights.iter().map(|&w| weighting.confidence(w)).map(|c| c * c);
            // What is left in counts for what is left out.
            let scale = 1.0 / (squares.sum::<f32>().sqrt().max(LEAST_LENGTH) * (1.0 - dropout));
            for (at, (&item, &weight)) in (matrix.indptr[user as usize]..).zip(items.iter().zip(weights)) {
                if (at as usize).is_multiple_of(ITEMS_PER_CHECK) {
                    team.check()?;
                }
                if uniform(epoch.dropout, at).abs() >= dropout {
                    let scale = scale * weighting.confidence(weight);
                    axpy(scale, self.history.row(item), row);
                    touches.push(Touch { row: item, from, scale });
                }
            }
            row.iter_mut().for_each(|x| *x = x.tanh());
        }
        let encoder = layers[0].forward(memory::shaped(n, hidden, encoded.clone())?, None)?;
        let mut moments = encoder.output()?.into_raw_vec_and_offset().0;
        let (mut noise, mut z) = (Vec::with_capacity(n * factors), Vec::with_capacity(n * factors));
        let mut divergence = 0.0;
        for (&user, row) in users.iter().zip(moments.chunks_exact_mut(2 * factors)) {
            let (means, logs) = row.split_at_mut(factors);
            for (k, (&mean, log)) in means.iter().zip(logs).enumerate() {
                *log = log.clamp(-LOG_VARIANCE, LOG_VARIANCE);
                let drawn = normal(epoch.noise, u64::from(user) * factors as u64 + k as u64);
                noise.push(drawn);
                z.push(mean + drawn * (*log / 2.0).exp());
                divergence += f64::from(mean * mean + log.exp() - 1.0 - *log) / 2.0;
            }
        }
        let decoder = layers[1].forward(memory::shaped(n, factors, z)?, None)?;
        let inner = decoder.output()?;
        let mut decoded = vec![1f32; n * hidden];
        for (to, from) in decoded.chunks_exact_mut(hidden).zip(rows_of(inner.view())) {
            to.iter_mut().zip(from).for_each(|(to, x)| *to = x.tanh());
        }
        Ok(Forward { touches, encoded, encoder, moments, noise, decoder, decoded, divergence })
    }

    /// Gradients of both layers, and of what entered the first tanh [users, hidden]; `pull` is the divergence's part of a user's loss.
    fn backward(&self, forward: &Forward, of_decoded: &[f32], pull: f32) -> Result<(Gradients, Gradients, Vec<f32>)> {
        let Parameters { hidden, factors, .. } = *self.parameters;
        let rows = of_decoded.chunks_exact(hidden).zip(forward.decoded.chunks_exact(hidden));
        let slopes = rows.flat_map(|(slopes, y)| slopes.iter().zip(y).take(hidden - 1).map(|(d, y)| d * (1.0 - y * y)));
        let n = of_decoded.len() / hidden;
        let decoder = forward.decoder.backward(memory::shaped(n, hidden - 1, slopes.collect())?)?;
        let mut slopes = vec![0f32; forward.moments.len()];
        let rows = slopes.chunks_exact_mut(2 * factors).zip(forward.moments.chunks_exact(2 * factors));
        let rows = rows.zip(rows_of(decoder.input.view())).zip(forward.noise.chunks_exact(factors));
        for (((slopes, moments), of_z), noise) in rows {
            for k in 0..factors {
                let (mean, log) = (moments[k], moments[factors + k]);
                slopes[k] = of_z[k] + pull * mean;
                slopes[factors + k] = 0.5 * (of_z[k] * noise[k] * (log / 2.0).exp() + pull * (log.exp() - 1.0));
            }
        }
        let encoder = forward.encoder.backward(memory::shaped(n, 2 * factors, slopes)?)?;
        let slopes = flat(encoder.input.view()).iter().zip(&forward.encoded).map(|(d, x)| d * (1.0 - x * x)).collect();
        Ok((encoder, decoder, slopes))
    }

    /// A step of Adam on a batch; the sum of its losses.
    fn step(&mut self, users: &[u32], number: u64, beta: f32, epoch: Epoch, team: &Team) -> Result<f64> {
        let Parameters { hidden, learning_rate, .. } = *self.parameters;
        let (encoder, decoder) = (self.encoder.variables()?, self.decoder.variables()?);
        let chunks: Vec<&[u32]> = users.chunks(CHUNK).collect();
        let forwards =
            team.each(chunks.len(), |c| self.forward(chunks[c], c * CHUNK, [&encoder, &decoder], epoch, team))?;
        let decoded: Vec<f32> = forwards.iter().flat_map(|forward| &forward.decoded).copied().collect();
        let (matrix, shares) = (&self.interactions.by_user, &self.shares);
        let targets = |u: usize| {
            let user = users[u] as usize;
            let range = matrix.indptr[user] as usize..matrix.indptr[user + 1] as usize;
            (&matrix.indices[range.clone()], &shares[range])
        };
        let decoded = memory::shaped(users.len(), hidden, decoded)?;
        let learned = self.output.step(decoded.view(), &targets, Step::new(learning_rate, number), team)?;
        drop(decoded);
        let pull = beta / users.len() as f32;
        let backwards = team.each(chunks.len(), |c| {
            let rows = c * CHUNK..c * CHUNK + chunks[c].len();
            self.backward(&forwards[c], flat(learned.users.slice(s![rows, ..])), pull)
        })?;
        let loss = learned.loss + f64::from(beta) * forwards.iter().map(|forward| forward.divergence).sum::<f64>();
        let touches: Vec<Touch> = forwards.iter().flat_map(|forward| &forward.touches).copied().collect();
        drop(forwards);
        let (mut encoders, mut decoders, mut slopes) = (Vec::new(), Vec::new(), Vec::new());
        for (encoder, decoder, of_input) in backwards {
            encoders.push(encoder);
            decoders.push(decoder);
            slopes.extend_from_slice(&of_input);
        }
        let of_bias: Vec<Touch> = (0..users.len() as u32).map(|from| Touch { row: 0, from, scale: 1.0 }).collect();
        let step = Step::new(learning_rate, number);
        let slopes = memory::shaped(users.len(), hidden, slopes)?;
        self.history.update(team, &touches, slopes.view(), step, 0.0)?;
        self.bias.update(team, &of_bias, slopes.view(), step, 0.0)?;
        self.encoder.update(&encoders, step, 0.0);
        self.decoder.update(&decoders, step, 0.0);
        Ok(loss)
    }

    fn finish(self, loss: f64, team: &Team) -> Result<Trained> {
        let Parameters { hidden, factors, weighting, .. } = *self.parameters;
        let only = |network: &Network, outputs: usize| {
            let layer = network.layers.first().ok_or_else(|| Error::Internal("a network without layers".into()))?;
            let weight = layer.weight.slice(s![.., ..outputs]).as_standard_layout().into_owned();
            Ok::<_, Error>(Layer { weight, bias: layer.bias[..outputs].to_vec() })
        };
        let (encoder, decoder) = (only(&self.encoder, factors)?, only(&self.decoder, hidden - 1)?);
        let fold_in = FoldIn::new(weighting, self.bias.row(0), &encoder, &decoder);
        let matrix = &self.interactions.by_user;
        let history_factors = self.history.values;
        let history = history_factors.view();
        let mut user_factors = memory::matrix(matrix.rows(), factors, 0f32)?;
        team.fill(flat_mut(user_factors.view_mut()), ROWS * factors, |number, out| {
            for (user, out) in (number * ROWS..).zip(out.chunks_exact_mut(factors)) {
                let (items, weights) = matrix.row(user);
                if !items.is_empty() {
                    team.check()?;
                    out.copy_from_slice(&fold_in.means(history, items, weights));
                }
            }
            Ok(())
        })?;
        Ok(Trained {
            history_factors,
            history_bias: self.bias.values.into_raw_vec_and_offset().0,
            encoder,
            decoder,
            item_factors: self.output.into_weights()?,
            user_factors,
            loss,
        })
    }
}

pub fn run(interactions: &Interactions, parameters: &Parameters, team: &Team) -> Result<Trained> {
    let matrix = &interactions.by_user;
    let batch_size = parameters.batch_size.min(SCORES / interactions.items().max(1)).max(1);
    let mut model = Model::new(interactions, parameters, batch_size)?;
    let known: Vec<u32> = (0..matrix.rows() as u32).filter(|&user| !matrix.row(user as usize).0.is_empty()).collect();
    let mut order = memory::filled(0u32, known.len())?;
    let steps = parameters.epochs as f64 * known.len().div_ceil(batch_size) as f64;
    let (mut number, mut mean) = (0u64, 0.0);
    for epoch in 0..parameters.epochs as u64 {
        team.check()?;
        let seed = |part: u64| mix(mix(parameters.seed ^ mix(part)) ^ mix(epoch));
        shuffled(&mut order, seed(1000));
        let chance = Epoch { dropout: seed(1001), noise: seed(1002) };
        let mut total = 0.0;
        for batch in order.chunks(batch_size) {
            let users: Vec<u32> = batch.iter().map(|&at| known[at as usize]).collect();
            let grown = (number as f64 / (ANNEALED * steps).max(1.0)).min(1.0) as f32;
            number += 1;
            total += model.step(&users, number, parameters.beta * grown, chance, team)?;
        }
        mean = total / known.len().max(1) as f64;
        team.finished(1);
    }
    model.finish(mean, team)
}
