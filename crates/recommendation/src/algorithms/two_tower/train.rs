//! Minibatches of (user, item) pairs through both towers.

use super::loss::{Batch, softmax};
use super::parameters::Parameters;
use super::towers::{ItemTower, UserTower, add_attributes, confidence, mean_of_history, normalize};
use interactions::{Features, Interactions};
use kernels::matrix::{flat, flat_mut, rows as rows_of, rows_mut};
use ndarray::{Array2, Axis, s};
use neural::adam::Step;
use neural::network::{Gradients, Layer, Network, Pass, Variables};
use neural::table::{Table, Touch};
use runtime::draw::mix;
use runtime::draw::{below, shuffled, uniform};
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::team::Team;

/// Pairs that go through the towers at once: about a millisecond.
const CHUNK: usize = 128;
/// Items of a history that are drawn for a pair when it is longer.
const HISTORY: usize = 64;
/// Share of the samples of a user with features whose history is left out, so that the features alone are enough.
const HISTORY_DROPOUT: f32 = 0.1;
/// Share of the samples whose user's features are left out: a history that is given later comes without them.
const FEATURE_DROPOUT: f32 = 0.3;
/// The items' vectors in histories are renewed after about as many pairs as there are items, times this.
const RENEW_AFTER: usize = 2;
/// Rows that are embedded at once.
const ROWS: usize = 128;
/// Greatest weight at first of whatever enters an item's or a user's hidden layer: an attribute, an embedding, a vector. Each of
/// them is about 1 long, so that none drowns the others.
const SCALE: f32 = 0.3;

/// What is learned from; features are of these users and items.
pub struct Given<'a> {
    pub interactions: &'a Interactions,
    pub items: &'a Features,
    pub users: Option<&'a Features>,
}

pub struct Trained {
    pub item_tower: ItemTower,
    pub user_tower: UserTower,
    /// [items, d]: `[v_i, τ β_i]`
    pub item_factors: Array2<f32>,
    /// [items, d − 1]: H_i
    pub history_factors: Array2<f32>,
    /// [users, d]: `[x_u, 1]`; zeros where nothing is known of a user.
    pub user_factors: Array2<f32>,
    pub loss: f64,
}

struct Model<'a> {
    given: &'a Given<'a>,
    parameters: &'a Parameters,
    /// Logarithm of each item's share of the interactions.
    log_q: Vec<f32>,
    items: Network,
    item_attributes: Table,
    /// [items, hidden]: e_i
    item_ids: Table,
    users: Network,
    user_attributes: Table,
    /// [items, d − 1]: h_i
    history_ids: Table,
    /// [items, d]: `[v_i, τ β_i]` of some steps before.
    item_factors: Array2<f32>,
}

#[derive(Clone, Copy)]
struct Pair {
    user: u32,
    item: u32,
    /// How much it counts.
    share: f32,
    /// For chance: the pair's place in all of the training.
    place: u64,
}

/// What the user tower is told of a pair's user.
#[derive(Clone, Copy, PartialEq)]
enum Hears {
    History,
    Features,
    Both,
}

/// A chunk of pairs on its way through the towers.
struct Forward<'v> {
    items: Pass<'v>,
    users: Pass<'v>,
    /// [pairs, d]: `[v / τ, β]`
    item_vectors: Vec<f32>,
    /// [pairs, d]: `[x, 1]`
    user_vectors: Vec<f32>,
    /// [pairs]: lengths before they were made 1.
    item_lengths: Vec<f32>,
    user_lengths: Vec<f32>,
    /// Whether each pair's item had its own embedding.
    with_id: Vec<bool>,
    /// Which history embeddings took part, `from` counting within the chunk.
    history: Vec<Touch>,
}

/// What the towers give back.
struct Backward {
    items: Gradients,
    users: Gradients,
    /// [pairs, d − 1]: of the mean of the history.
    mean: Vec<f32>,
}

impl<'a> Model<'a> {
    fn new(given: &'a Given<'a>, parameters: &'a Parameters) -> Result<Self> {
        let (d, width, hidden) = (parameters.factors, parameters.width(), parameters.hidden);
        let items = given.interactions.items();
        let seed = |part: u64| mix(parameters.seed ^ mix(part));
        let attributes = |features: Option<&Features>, part| {
            Table::new(features.map_or(0, |features| features.attributes.columns), hidden, SCALE, seed(part))
        };
        let user_inputs = width + given.users.map_or(0, |users| users.width());
        let mut counts = memory::filled(0u32, items)?;
        given.interactions.by_user.indices.iter().for_each(|&item| counts[item as usize] += 1);
        let mut item_ids = Table::new(items, hidden, SCALE, seed(3))?;
        for (id, _) in rows_mut(item_ids.values.view_mut()).zip(&counts).filter(|&(_, &n)| n == 0) {
            // Nothing will move it from where chance put it.
            id.fill(0.0);
        }
        let mut item_network = Network::new(&[given.items.width(), hidden, d], 1.0, seed(1))?;
        if let Some(first) = item_network.layers.first_mut() {
            let greatest = first.weight.iter().fold(f32::MIN_POSITIVE, |most, w| most.max(w.abs()));
            first.weight.iter_mut().for_each(|w| *w *= SCALE / greatest);
        }
        let total = given.interactions.by_user.entries() as f32;
        Ok(Self {
            given,
            parameters,
            log_q: counts.into_iter().map(|n| (n as f32 / total).ln()).collect(),
            items: item_network,
            item_attributes: attributes(Some(given.items), 2)?,
            item_ids,
            // At first a user is about the mean of the history.
            users: Network::new(&[user_inputs, hidden, width], 0.1, seed(4))?,
            user_attributes: attributes(given.users, 5)?,
            history_ids: Table::new(items, width, 0.0, 0)?,
            item_factors: memory::matrix(items, d, 0f32)?,
        })
    }

    fn layers(network: &Network) -> Result<[Layer; 2]> {
        network.layers.clone().try_into().map_err(|_| Error::Internal("a tower without two layers".into()))
    }

    fn item_tower(&self) -> Result<ItemTower> {
        let attributes = self.item_attributes.values.clone().into_raw_vec_and_offset().0;
        Ok(ItemTower::new(Self::layers(&self.items)?, attributes, self.parameters.temperature))
    }

    /// Works the vectors of all items out anew.
    fn renew(&mut self, team: &Team) -> Result<()> {
        let tower = self.item_tower()?;
        let (given, ids) = (self.given, self.item_ids.values.view());
        let mut blocks: Vec<_> = self.item_factors.axis_chunks_iter_mut(Axis(0), ROWS).collect();
        team.fill(&mut blocks, 1, |number, blocks| {
            blocks.iter_mut().for_each(|out| tower.embed(given.items, Some(ids), number * ROWS, out.view_mut()));
            Ok(())
        })
    }

    fn hears(&self, pair: Pair) -> Hears {
        if !self.given.users.is_some_and(|users| users.knows(pair.user as usize)) {
            return Hears::History;
        }
        let chance = uniform(mix(self.parameters.seed ^ 11), pair.place).abs();
        if chance < HISTORY_DROPOUT {
            Hears::Features
        } else if chance < HISTORY_DROPOUT + FEATURE_DROPOUT {
            Hears::History
        } else {
            Hears::Both
        }
    }

    /// The mean of up to [`HISTORY`] items of a pair's history, without the pair's own item, into `mean`.
    fn history(&self, pair: Pair, from: usize, mean: &mut [f32], touches: &mut Vec<Touch>) {
        let (d, width, seed) = (self.parameters.factors, self.parameters.width(), self.parameters.seed);
        let (items, weights) = self.given.interactions.by_user.row(pair.user as usize);
        let chance = |what: u64| uniform(mix(seed ^ what), pair.place).abs();
        if self.hears(pair) == Hears::Features {
            return;
        }
        let first = touches.len();
        let mut total = 0.0;
        for n in 0..items.len().min(HISTORY) {
            let at = if items.len() <= HISTORY {
                n
            } else {
                below(mix(seed ^ 12), pair.place * HISTORY as u64 + n as u64, items.len())
            };
            if items[at] != pair.item {
                let scale = confidence(weights[at]);
                total += scale;
                touches.push(Touch { row: items[at], from: from as u32, scale });
            }
        }
        let item_factors = flat(self.item_factors.view());
        // Without their own embeddings now and then, as items that are new later will be.
        let with_ids = chance(13) >= self.parameters.id_dropout;
        for touch in &mut touches[first..] {
            touch.scale /= total;
            let vector = &item_factors[touch.row as usize * d..][..width];
            mean.iter_mut().zip(vector).for_each(|(sum, v)| *sum += touch.scale * v);
            if with_ids {
                let id = self.history_ids.row(touch.row);
                mean.iter_mut().zip(id).for_each(|(sum, h)| *sum += touch.scale * h);
            }
        }
        if !with_ids {
            touches.truncate(first);
        }
    }

    fn forward<'v>(&self, items: &'v Variables, users: &'v Variables, pairs: &[Pair]) -> Result<Forward<'v>> {
        let Parameters { factors: d, hidden, temperature, id_dropout, seed, .. } = *self.parameters;
        let width = self.parameters.width();
        let n = pairs.len();
        let mut input = Vec::with_capacity(n * self.given.items.width());
        let mut added = vec![0f32; n * hidden];
        let mut with_id = Vec::with_capacity(n);
        for (pair, added) in pairs.iter().zip(added.chunks_exact_mut(hidden)) {
            let item = pair.item as usize;
            input.extend_from_slice(self.given.items.vector(item));
            add_attributes(self.given.items, item, flat(self.item_attributes.values.view()), added);
            // An item without features has nothing else.
            let dropped = uniform(mix(seed ^ 14), pair.place).abs() < id_dropout && self.given.items.knows(item);
            if !dropped {
                added.iter_mut().zip(self.item_ids.row(pair.item)).for_each(|(to, id)| *to += id);
            }
            with_id.push(!dropped);
        }
        let items = items
            .forward(memory::shaped(n, self.given.items.width(), input)?, Some(memory::shaped(n, hidden, added)?))?;
        let mut item_vectors = items.output()?.into_raw_vec_and_offset().0;
        let item_lengths = item_vectors
            .chunks_exact_mut(d)
            .map(|z| {
                let length = normalize(&mut z[..width]);
                z[..width].iter_mut().for_each(|v| *v /= temperature);
                length
            })
            .collect();

        let inputs = width + self.given.users.map_or(0, |users| users.width());
        let mut input = vec![0f32; n * inputs];
        let mut added = self.given.users.map(|_| vec![0f32; n * hidden]);
        let mut history = Vec::new();
        for (p, (pair, input)) in pairs.iter().zip(input.chunks_exact_mut(inputs)).enumerate() {
            let (mean, vector) = input.split_at_mut(width);
            self.history(*pair, p, mean, &mut history);
            if let (Some(users), Some(added)) = (self.given.users, &mut added) {
                if self.hears(*pair) == Hears::History {
                    continue;
                }
                vector.copy_from_slice(users.vector(pair.user as usize));
                let added = &mut added[p * hidden..][..hidden];
                add_attributes(users, pair.user as usize, flat(self.user_attributes.values.view()), added);
            }
        }
        let means: Vec<f32> = input.chunks_exact(inputs).flat_map(|row| &row[..width]).copied().collect();
        let added = added.map(|added| memory::shaped(n, hidden, added)).transpose()?;
        let users = users.forward(memory::shaped(n, inputs, input)?, added)?;
        let output = users.output()?;
        let mut user_vectors = vec![1f32; n * d];
        let rows = user_vectors.chunks_exact_mut(d).zip(rows_of(output.view())).zip(means.chunks_exact(width));
        let user_lengths = rows
            .map(|((x, y), m)| {
                x.iter_mut().zip(y).zip(m).for_each(|((x, y), m)| *x = y + m);
                normalize(&mut x[..width])
            })
            .collect();
        Ok(Forward { items, users, item_vectors, user_vectors, item_lengths, user_lengths, with_id, history })
    }

    /// From the gradients of `item_vectors` and `user_vectors`.
    fn backward(&self, forward: &Forward, of_items: &[f32], of_users: &[f32]) -> Result<Backward> {
        let (d, width, temperature) = (self.parameters.factors, self.parameters.width(), self.parameters.temperature);
        let mut slopes = of_items.to_vec();
        let rows = slopes.chunks_exact_mut(d).zip(forward.item_vectors.chunks_exact(d)).zip(&forward.item_lengths);
        for ((slope, vector), &length) in rows {
            // v / τ of length 1 / τ: its unit vector is τ times it.
            turned(&mut slope[..width], &vector[..width], temperature, length * temperature);
        }
        let items = forward.items.backward(memory::shaped(forward.with_id.len(), d, slopes)?)?;
        let mut slopes = Vec::with_capacity(of_users.len());
        let rows = of_users.chunks_exact(d).zip(forward.user_vectors.chunks_exact(d)).zip(&forward.user_lengths);
        for ((slope, vector), &length) in rows {
            let first = slopes.len();
            slopes.extend_from_slice(&slope[..width]);
            turned(&mut slopes[first..], &vector[..width], 1.0, length);
        }
        let users = forward.users.backward(memory::shaped(forward.with_id.len(), width, slopes.clone())?)?;
        let mut mean = slopes;
        for (mean, input) in mean.chunks_exact_mut(width).zip(rows_of(users.input.view())) {
            mean.iter_mut().zip(input).for_each(|(mean, g)| *mean += g);
        }
        Ok(Backward { items, users, mean })
    }

    /// One step of Adam on a batch; its loss.
    fn step(&mut self, pairs: &[Pair], step: Step, team: &Team) -> Result<f64> {
        let (item_variables, user_variables) = (self.items.variables()?, self.users.variables()?);
        let chunks: Vec<&[Pair]> = pairs.chunks(CHUNK).collect();
        let forwards = team.each(chunks.len(), |c| self.forward(&item_variables, &user_variables, chunks[c]))?;
        let users: Vec<f32> = forwards.iter().flat_map(|forward| &forward.user_vectors).copied().collect();
        let items: Vec<f32> = forwards.iter().flat_map(|forward| &forward.item_vectors).copied().collect();
        let d = self.parameters.factors;
        let (users, items) = (memory::shaped(pairs.len(), d, users)?, memory::shaped(pairs.len(), d, items)?);
        let item_ids: Vec<u32> = pairs.iter().map(|pair| pair.item).collect();
        let log_q: Vec<f32> = item_ids.iter().map(|&item| self.log_q[item as usize]).collect();
        let known = |b: usize| self.given.interactions.by_user.row(pairs[b].user as usize).0;
        let shares: Vec<f32> = pairs.iter().map(|pair| pair.share).collect();
        let batch = Batch {
            users: users.view(),
            items: items.view(),
            log_q: &log_q,
            item_ids: &item_ids,
            shares: &shares,
            known: &known,
        };
        let gradients = softmax(&batch, team)?;
        let backwards = team.each(chunks.len(), |c| {
            let rows = s![c * CHUNK..c * CHUNK + chunks[c].len(), ..];
            let (of_items, of_users) = (gradients.items.slice(rows), gradients.users.slice(rows));
            self.backward(&forwards[c], flat(of_items), flat(of_users))
        })?;

        let (mut of_items, mut of_users, mut means) = (Vec::new(), Vec::new(), Vec::new());
        let (mut item_added, mut user_added) = (Vec::new(), Vec::new());
        for backward in backwards {
            means.extend_from_slice(&backward.mean);
            item_added.extend_from_slice(flat(backward.items.added.view()));
            user_added.extend_from_slice(flat(backward.users.added.view()));
            of_items.push(backward.items);
            of_users.push(backward.users);
        }
        let hidden = self.parameters.hidden;
        let (item_added, means) =
            (memory::shaped(pairs.len(), hidden, item_added)?, memory::shaped(pairs.len(), d - 1, means)?);
        let with_id = forwards.iter().flat_map(|forward| &forward.with_id);
        let ids = pairs.iter().zip(with_id).zip(0u32..).filter(|((_, with), _)| **with);
        let ids: Vec<Touch> = ids.map(|((pair, _), from)| Touch { row: pair.item, from, scale: 1.0 }).collect();
        let history = forwards.iter().enumerate().flat_map(|(c, forward)| {
            let first = (c * CHUNK) as u32;
            forward.history.iter().map(move |touch| Touch { from: first + touch.from, ..*touch })
        });
        let history: Vec<Touch> = history.collect();
        let item_touches = attribute_touches(self.given.items, pairs.iter().map(|pair| pair.item).zip(0u32..));
        self.item_ids.update(team, &ids, item_added.view(), step, 0.0)?;
        self.item_attributes.update(team, &item_touches, item_added.view(), step, 0.0)?;
        self.history_ids.update(team, &history, means.view(), step, 0.0)?;
        if let Some(users) = self.given.users {
            let heard = pairs.iter().zip(0u32..).filter(|(pair, _)| self.hears(**pair) != Hears::History);
            let touches = attribute_touches(users, heard.map(|(pair, from)| (pair.user, from)));
            let user_added = memory::shaped(pairs.len(), hidden, user_added)?;
            self.user_attributes.update(team, &touches, user_added.view(), step, 0.0)?;
        }
        self.items.update(&of_items, step, 0.0);
        self.users.update(&of_users, step, 0.0);
        Ok(gradients.loss)
    }

    fn finish(mut self, loss: f64, team: &Team) -> Result<Trained> {
        self.renew(team)?;
        let (d, width) = (self.parameters.factors, self.parameters.width());
        let mut history_factors = memory::matrix(self.item_factors.nrows(), width, 0f32)?;
        let rows = rows_mut(history_factors.view_mut()).zip(rows_of(self.item_factors.view()));
        for ((to, vector), id) in rows.zip(rows_of(self.history_ids.values.view())) {
            to.iter_mut().zip(vector).zip(id).for_each(|((to, v), h)| *to = v + h);
        }
        let user_tower =
            UserTower::new(Self::layers(&self.users)?, self.user_attributes.values.clone().into_raw_vec_and_offset().0);
        let mut user_factors = memory::matrix(self.given.interactions.users(), d, 0f32)?;
        let Given { interactions, users, .. } = *self.given;
        team.fill(flat_mut(user_factors.view_mut()), ROWS * d, |number, out| {
            let mut mean = vec![0f32; width];
            for (user, out) in (number * ROWS..).zip(out.chunks_exact_mut(d)) {
                let (items, weights) = interactions.by_user.row(user);
                let features = users.filter(|users| users.knows(user)).map(|users| (users, user));
                if mean_of_history(history_factors.view(), items, weights, &mut mean) || features.is_some() {
                    user_tower.embed(&mean, features, out);
                }
            }
            Ok(())
        })?;
        let item_tower = self.item_tower()?;
        Ok(Trained { item_tower, user_tower, item_factors: self.item_factors, history_factors, user_factors, loss })
    }
}

/// The gradient before a vector was divided by its length, from the one after it: `(g − (g · u) u) / length`, with the unit
/// vector `u` = `scale` times `vector`.
fn turned(slope: &mut [f32], vector: &[f32], scale: f32, length: f32) {
    let along = slope.iter().zip(vector).map(|(g, v)| g * v * scale).sum::<f32>();
    slope.iter_mut().zip(vector).for_each(|(g, v)| *g = (*g - along * v * scale) / length);
}

/// For rows of features, each with its row among the gradients.
fn attribute_touches(features: &Features, rows: impl Iterator<Item = (u32, u32)>) -> Vec<Touch> {
    let mut touches = Vec::new();
    for (row, from) in rows {
        let (columns, values) = features.attributes.row(row as usize);
        touches.extend(columns.iter().zip(values).map(|(&row, &scale)| Touch { row, from, scale }));
    }
    touches
}

pub fn run(given: &Given, parameters: &Parameters, team: &Team) -> Result<Trained> {
    let matrix = &given.interactions.by_user;
    let entries = u32::try_from(matrix.entries()).map_err(|_| Error::TooLarge {
        what: "two_tower".into(),
        needed: format!("{} interactions", matrix.entries()),
        limit: format!("{}", u32::MAX),
        hint: "Train on a part of the interactions.".into(),
    })?;
    let shares = parameters.weighting.shares(&matrix.values)?;
    let mut model = Model::new(given, parameters)?;
    let mut order = memory::filled(0u32, entries as usize)?;
    let renew_after = (RENEW_AFTER * given.interactions.items()).div_ceil(parameters.batch_size).max(1) as u64;
    let (mut steps, mut mean) = (0u64, 0.0);
    for epoch in 0..parameters.epochs {
        team.check()?;
        shuffled(&mut order, mix(parameters.seed ^ mix(1000 + epoch as u64)));
        let mut total = 0.0;
        for (b, batch) in order.chunks(parameters.batch_size).enumerate() {
            if steps.is_multiple_of(renew_after) {
                model.renew(team)?;
            }
            steps += 1;
            let first = epoch as u64 * u64::from(entries) + (b * parameters.batch_size) as u64;
            let pairs = batch.iter().zip(first..).map(|(&entry, place)| {
                let user = matrix.indptr.partition_point(|&start| start <= u64::from(entry)) - 1;
                let (item, share) = (matrix.indices[entry as usize], shares[entry as usize]);
                Pair { user: user as u32, item, share, place }
            });
            let pairs: Vec<Pair> = pairs.collect();
            let loss = model.step(&pairs, Step::new(parameters.learning_rate, steps), team)?;
            total += loss * pairs.len() as f64;
        }
        mean = total / f64::from(entries.max(1));
        team.finished(1);
    }
    model.finish(mean, team)
}
