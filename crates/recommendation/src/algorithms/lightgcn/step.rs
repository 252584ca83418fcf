//! One step: propagate, compare, propagate back, move.
//!
//! Only the batch's rows of the last layer are needed, so only they are computed. The gradient runs back by Horner's scheme:
//! with `g` the gradient by the factors and `c` that by layer l*, `r_L = g / layers`, `r_l = S r_{l+1} + [l in the mean] g /
//! layers + [l = l*] c`, and `r_0` is the gradient by `e⁰`, since `S` is symmetric. The last product moves the weights at once.

use std::ops::Range;

use super::contrast::{self, Contrast, info_nce};
use super::noise;
use super::parameters::Parameters;
use super::sample::Batch;
use crate::linear_fold_in::Factors;
use crate::training::Training;
use kernels::dot::dot;
use kernels::propagate::{Adjacency, BLOCK_ROWS, PAD, Table, split_rows};
use neural::adam::Step;
use runtime::draw::mix;
use runtime::error::Result;
use runtime::memory;
use runtime::parallel::for_each_chunk;

/// Slots of the last layer that one task computes.
const SLOTS: usize = 64;

pub struct Trainer<'a> {
    training: Training<'a>,
    graph: Convolution,
    /// [nodes, width]: e⁰, and Adam's moments of it.
    pub weights: Vec<f32>,
    moments: [Vec<f32>; 2],
    /// e⁰ in the form in which it is propagated.
    base: Table,
    layers: [Table; 2],
    /// Zeros but for a batch's rows.
    sparse: Table,
    slots: Slots,
    contrast: contrast::Scratch,
}

/// What all threads share.
struct Convolution {
    adjacency: Adjacency,
    parameters: Parameters,
    /// Floats of a row: `factors`, padded by zeros.
    width: usize,
    /// Those taken.
    steps: u64,
}

/// What a step knows of its batch's nodes, by slots: [nodes, width] each.
#[derive(Default)]
struct Slots {
    /// Factors: the mean of layers.
    mean: Vec<f32>,
    /// Embeddings at layer l*.
    layer: Vec<f32>,
    mean_gradient: Vec<f32>,
    layer_gradient: Vec<f32>,
    /// By `e⁰` itself.
    own_gradient: Vec<f32>,
    /// Embeddings at the last layer.
    last: Vec<f32>,
}

impl Slots {
    fn reset(&mut self, len: usize) -> Result<()> {
        let Self { mean, layer, mean_gradient, layer_gradient, own_gradient, last } = self;
        for buffer in [mean, layer, mean_gradient, layer_gradient, own_gradient, last] {
            buffer.clear();
            memory::reserve(buffer, len)?;
            buffer.resize(len, 0.0);
        }
        Ok(())
    }
}

impl Convolution {
    /// Noise of a node at a layer in this step.
    fn key(&self, layer: usize, node: usize) -> u32 {
        let place = self.steps * self.parameters.layers as u64 + layer as u64;
        mix(mix(self.parameters.seed ^ mix(place)) ^ node as u64) as u32
    }

    /// From sums over neighbours of nodes to their embeddings.
    fn embed(&self, layer: usize, nodes: impl Iterator<Item = usize>, sums: &mut [f32], keys: &mut Vec<u32>) {
        keys.clear();
        for (node, row) in nodes.zip(sums.chunks_exact_mut(self.width)) {
            let scale = self.adjacency.scale()[node];
            row.iter_mut().for_each(|x| *x *= scale);
            keys.push(self.key(layer, node));
        }
        if self.parameters.is_contrastive() && self.parameters.noise > 0.0 {
            noise::add(sums, self.width, self.parameters.factors, self.parameters.noise, keys);
        }
    }

    /// Runs `work` on a few nodes at a time: what their run writes to, the nodes, the first one's place in the run, the sums
    /// over their neighbours' rows of `from`, and room for keys.
    fn each_block<T: Send>(
        &self,
        from: &Table,
        to: Vec<T>,
        training: &Training,
        work: impl Fn(&mut T, Range<usize>, usize, &mut [f32], &mut Vec<u32>) + Sync,
    ) -> Result<()> {
        let Training { threads, progress, .. } = *training;
        let runs = self.adjacency.runs();
        let mut tasks: Vec<(T, &Range<usize>)> = to.into_iter().zip(runs).collect();
        let scratch = || (vec![0f32; BLOCK_ROWS * self.width], Vec::with_capacity(BLOCK_ROWS));
        for_each_chunk(&mut tasks, 1, threads, progress, scratch, |(sums, keys), _, tasks| {
            for (to, run) in tasks {
                for start in run.clone().step_by(BLOCK_ROWS) {
                    let nodes = start..run.end.min(start + BLOCK_ROWS);
                    let sums = &mut sums[..nodes.len() * self.width];
                    self.adjacency.sum(from, nodes.clone(), sums);
                    work(to, nodes, start - run.start, sums, keys);
                }
            }
            Ok(())
        })
    }

    /// From sums over neighbours to the gradient by a layer.
    fn gradient(
        &self,
        layer: usize,
        nodes: Range<usize>,
        sums: &mut [f32],
        batch: &Batch,
        enter: &impl Fn(usize, usize, &mut [f32]),
    ) {
        for (node, row) in nodes.zip(sums.chunks_exact_mut(self.width)) {
            let scale = self.adjacency.scale()[node];
            row.iter_mut().for_each(|x| *x *= scale);
            if let Some(slot) = batch.slot(node) {
                enter(layer, slot, row);
            }
        }
    }
}

impl<'a> Trainer<'a> {
    pub fn new(training: &Training<'a>, parameters: Parameters) -> Result<Self> {
        Self::with_tables(training, parameters, Table::half)
    }

    /// `table` makes those that are propagated.
    pub fn with_tables(
        training: &Training<'a>,
        parameters: Parameters,
        table: impl Fn(usize, usize) -> Result<Table>,
    ) -> Result<Self> {
        let adjacency = Adjacency::new(&training.interactions.by_user, training.progress)?;
        let (nodes, width) = (adjacency.nodes(), parameters.factors.next_multiple_of(PAD));
        let zeros = || memory::filled(0f32, nodes * width);
        let mut trainer = Self {
            training: *training,
            weights: zeros()?,
            moments: [zeros()?, zeros()?],
            base: table(nodes, width)?,
            layers: [table(nodes, width)?, table(nodes, width)?],
            sparse: table(nodes, width)?,
            slots: Slots::default(),
            contrast: contrast::Scratch::default(),
            graph: Convolution { adjacency, parameters, width, steps: 0 },
        };
        trainer.randomize()?;
        Ok(trainer)
    }

    /// Glorot and Bengio's uniform weights, for each of the two tables.
    fn randomize(&mut self) -> Result<()> {
        let d = self.graph.parameters.factors;
        let users = self.graph.adjacency.users;
        let items = self.graph.adjacency.nodes() - users;
        for (node, row) in self.weights.chunks_exact_mut(self.graph.width).enumerate() {
            if node % (1 << 14) == 0 {
                self.training.progress.check()?;
            }
            let rows = if node < users { users } else { items };
            let bound = (6.0 / (rows + d) as f32).sqrt();
            for (k, x) in row[..d].iter_mut().enumerate() {
                let bits = mix(self.graph.parameters.seed ^ mix((node * d + k) as u64)) >> 40;
                *x = bound * (bits as f32 / (1 << 23) as f32 - 1.0);
            }
        }
        self.load();
        Ok(())
    }

    /// Writes the weights to the table in which they are propagated.
    pub fn load(&mut self) {
        self.base.all().write(0, &self.weights, self.graph.adjacency.scale());
    }

    /// One batch: its ranking loss and its contrastive one.
    pub fn step(&mut self, batch: &mut Batch) -> Result<[f64; 2]> {
        if batch.triples.is_empty() {
            return Ok([0.0; 2]);
        }
        self.forward(batch)?;
        let losses = self.compare(batch)?;
        self.graph.steps += 1;
        self.backward(batch, Some(Step::new(self.graph.parameters.learning_rate, self.graph.steps)))?;
        Ok(losses)
    }

    #[cfg(test)]
    pub fn losses(&mut self, batch: &Batch) -> Result<[f64; 2]> {
        self.forward(batch)?;
        self.compare(batch)
    }

    /// The gradients of the last [`losses`](Self::losses).
    #[cfg(test)]
    pub fn gradients(&mut self, batch: &Batch) -> Result<Vec<f32>> {
        self.backward(batch, None)
    }

    /// The batch's factors and its embeddings at layer l*.
    fn forward(&mut self, batch: &Batch) -> Result<()> {
        let Parameters { layers, contrastive_layer, .. } = self.graph.parameters;
        self.slots.reset(batch.nodes.len() * self.graph.width)?;
        if self.graph.parameters.first_layer() == 0 {
            let rows = self.slots.mean.chunks_exact_mut(self.graph.width).zip(&batch.nodes);
            for (mean, &node) in rows {
                mean.copy_from_slice(&self.weights[node as usize * self.graph.width..][..self.graph.width]);
            }
        }
        for layer in 1..layers {
            self.propagate(layer)?;
            let table = &self.layers[layer % 2];
            for (slot, &node) in batch.nodes.iter().enumerate() {
                let scale = self.graph.adjacency.scale()[node as usize];
                let factor = if scale > 0.0 { 1.0 / scale } else { 0.0 };
                let range = slot * self.graph.width..(slot + 1) * self.graph.width;
                table.add_row(node as usize, factor, &mut self.slots.mean[range.clone()]);
                if layer == contrastive_layer {
                    table.add_row(node as usize, factor, &mut self.slots.layer[range]);
                }
            }
        }
        self.last_layer(batch)?;
        let weight = self.graph.parameters.layer_weight();
        self.slots.mean.iter_mut().for_each(|x| *x *= weight);
        Ok(())
    }

    /// Layer `layer` of all nodes from the one before.
    fn propagate(&mut self, layer: usize) -> Result<()> {
        let [even, odd] = &mut self.layers;
        let mut to = std::mem::take(if layer.is_multiple_of(2) { even } else { odd });
        let from = if layer == 1 { &self.base } else { &self.layers[(layer + 1) % 2] };
        let graph = &self.graph;
        let scale = graph.adjacency.scale();
        let done = graph.each_block(
            from,
            to.split(self.graph.adjacency.runs()),
            &self.training,
            |rows, nodes, first, sums, keys| {
                graph.embed(layer, nodes.clone(), sums, keys);
                rows.write(first, sums, &scale[nodes]);
            },
        );
        self.layers[layer % 2] = to;
        done
    }

    /// The last layer of the batch's nodes alone, added to what is known of them.
    fn last_layer(&mut self, batch: &Batch) -> Result<()> {
        let Parameters { layers, contrastive_layer, .. } = self.graph.parameters;
        let mut last = std::mem::take(&mut self.slots.last);
        let from = if layers == 1 { &self.base } else { &self.layers[(layers + 1) % 2] };
        let Training { threads, progress, .. } = self.training;
        let graph = &self.graph;
        for_each_chunk(&mut last, SLOTS * graph.width, threads, progress, Vec::new, |keys, number, rows| {
            let nodes = &batch.nodes[number * SLOTS..][..rows.len() / graph.width];
            for (row, &node) in rows.chunks_exact_mut(graph.width).zip(nodes) {
                graph.adjacency.sum(from, node as usize..node as usize + 1, row);
            }
            graph.embed(layers, nodes.iter().map(|&node| node as usize), rows, keys);
            Ok(())
        })?;
        self.slots.mean.iter_mut().zip(&last).for_each(|(mean, x)| *mean += x);
        if contrastive_layer == layers {
            self.slots.layer.copy_from_slice(&last);
        }
        self.slots.last = last;
        Ok(())
    }

    /// Both losses, and their gradients by the batch's factors, embeddings and weights.
    fn compare(&mut self, batch: &Batch) -> Result<[f64; 2]> {
        let (width, parameters) = (self.graph.width, self.graph.parameters);
        let share = 1.0 / batch.triples.len() as f32;
        let decay = share * parameters.regularization;
        let slots = &mut self.slots;
        let (mut ranking, mut squares) = (0.0, 0.0);
        for (triple, &counts) in batch.triples.iter().zip(&batch.shares) {
            let at = triple.map(|slot| slot as usize * width..(slot as usize + 1) * width);
            let [user, chosen, other] = at.clone().map(|at| &slots.mean[at]);
            let margin = dot(user, chosen) - dot(user, other);
            // ln(1 + e^−m) without overflow.
            ranking += f64::from(counts * ((-margin.abs()).exp().ln_1p() + (-margin).max(0.0)));
            let pull = counts * share / (1.0 + margin.exp());
            for k in 0..width {
                let [u, i, j] = at.clone().map(|at| at.start + k);
                let x = slots.mean[u];
                slots.mean_gradient[u] -= pull * (slots.mean[i] - slots.mean[j]);
                slots.mean_gradient[i] -= pull * x;
                slots.mean_gradient[j] += pull * x;
            }
            for (at, slot) in at.into_iter().zip(triple) {
                let weights = &self.weights[batch.nodes[*slot as usize] as usize * width..][..width];
                slots.own_gradient[at].iter_mut().zip(weights).for_each(|(g, w)| *g += decay * w);
                squares += f64::from(dot(weights, weights));
            }
        }
        let ranking = f64::from(share) * ranking + 0.5 * f64::from(decay) * squares;
        let mut contrastive = 0.0;
        if parameters.is_contrastive() {
            for range in [0..batch.users, batch.users..batch.chosen] {
                let range = range.start * width..range.end * width;
                let contrast = Contrast {
                    views: [&slots.mean[range.clone()], &slots.layer[range.clone()]],
                    gradients: [&mut slots.mean_gradient[range.clone()], &mut slots.layer_gradient[range]],
                    width,
                    temperature: parameters.temperature,
                    weight: parameters.contrastive_weight,
                };
                let Training { threads, progress, .. } = self.training;
                contrastive += info_nce(contrast, &mut self.contrast, threads, progress)?;
            }
        }
        Ok([ranking, f64::from(parameters.contrastive_weight) * contrastive])
    }

    /// Runs the gradients back to `e⁰`, and moves it or, where there is no `step`, returns them [nodes, width].
    fn backward(&mut self, batch: &Batch, step: Option<Step>) -> Result<Vec<f32>> {
        let (width, parameters) = (self.graph.width, self.graph.parameters);
        let weight = parameters.layer_weight();
        self.slots.mean_gradient.iter_mut().for_each(|g| *g *= weight);
        // What enters at a layer, for a slot.
        let slots = std::mem::take(&mut self.slots);
        let enter = |layer: usize, slot: usize, to: &mut [f32]| {
            let mut add = |from: &[f32]| to.iter_mut().zip(&from[slot * width..]).for_each(|(to, g)| *to += g);
            if layer >= parameters.first_layer() {
                add(&slots.mean_gradient);
            }
            if layer == parameters.contrastive_layer && parameters.is_contrastive() {
                add(&slots.layer_gradient);
            }
            if layer == 0 {
                add(&slots.own_gradient);
            }
        };
        let mut row = vec![0f32; width];
        for (slot, &node) in batch.nodes.iter().enumerate() {
            row.fill(0.0);
            enter(parameters.layers, slot, &mut row);
            let node = node as usize;
            self.sparse.all().write(node, &row, &self.graph.adjacency.scale()[node..node + 1]);
        }
        for layer in (1..parameters.layers).rev() {
            let mut to = std::mem::take(&mut self.layers[layer % 2]);
            let from = if layer + 1 == parameters.layers { &self.sparse } else { &self.layers[(layer + 1) % 2] };
            let graph = &self.graph;
            let scale = graph.adjacency.scale();
            graph.each_block(
                from,
                to.split(self.graph.adjacency.runs()),
                &self.training,
                |rows, nodes, first, sums, _| {
                    graph.gradient(layer, nodes.clone(), sums, batch, &enter);
                    rows.write(first, sums, &scale[nodes]);
                },
            )?;
            self.layers[layer % 2] = to;
        }
        let gradients = self.last_product(batch, step, &enter)?;
        for &node in &batch.nodes {
            self.sparse.all().clear(node as usize, width);
        }
        self.slots = slots;
        Ok(gradients)
    }

    fn last_product(
        &mut self,
        batch: &Batch,
        step: Option<Step>,
        enter: &(impl Fn(usize, usize, &mut [f32]) + Sync),
    ) -> Result<Vec<f32>> {
        let width = self.graph.width;
        let mut base = std::mem::take(&mut self.base);
        let mut weights = std::mem::take(&mut self.weights);
        let [mut first, mut second] = std::mem::take(&mut self.moments);
        let mut gradients = match step {
            Some(_) => Vec::new(),
            None => memory::filled(0f32, weights.len())?,
        };
        let runs = self.graph.adjacency.runs();
        let from = if self.graph.parameters.layers == 1 { &self.sparse } else { &self.layers[1] };
        let graph = &self.graph;
        let scale = graph.adjacency.scale();
        let done = match step {
            Some(step) => {
                let moved = [&mut weights, &mut first, &mut second].map(|all| split_rows(all, runs, width));
                let [weights, first, second] = moved;
                let moved = weights.into_iter().zip(first).zip(second);
                let to = base.split(runs).into_iter().zip(moved).collect();
                graph.each_block(
                    from,
                    to,
                    &self.training,
                    |(rows, ((weights, first), second)), nodes, start, sums, _| {
                        graph.gradient(0, nodes.clone(), sums, batch, enter);
                        let range = start * width..start * width + sums.len();
                        let weights = &mut weights[range.clone()];
                        step.update(weights, sums, &mut first[range.clone()], &mut second[range]);
                        rows.write(start, weights, &scale[nodes]);
                    },
                )
            }
            None => graph.each_block(
                from,
                split_rows(&mut gradients, runs, width),
                &self.training,
                |to, nodes, start, sums, _| {
                    graph.gradient(0, nodes, sums, batch, enter);
                    to[start * width..][..sums.len()].copy_from_slice(sums);
                },
            ),
        };
        (self.base, self.weights, self.moments) = (base, weights, [first, second]);
        done.map(|()| gradients)
    }

    /// Propagates once more, without noise and in `f32`.
    pub fn finish(self) -> Result<Factors> {
        let Parameters { factors: d, layers, .. } = self.graph.parameters;
        let Self { training, graph: Convolution { adjacency, parameters, width, .. }, weights, .. } = self;
        let Training { threads, progress, .. } = training;
        let (nodes, users, scale) = (adjacency.nodes(), adjacency.users, adjacency.scale());
        let mut table = Table::full(nodes, width)?;
        let mut embeddings = weights;
        let mut mean = memory::filled(0f32, nodes * width)?;
        let mut history = memory::filled(0f32, nodes * width)?;
        for layer in 0..=layers {
            if layer > 0 {
                let mut tasks: Vec<_> = split_rows(&mut embeddings, adjacency.runs(), width);
                let mut tasks: Vec<_> = tasks.drain(..).zip(adjacency.runs()).collect();
                for_each_chunk(
                    &mut tasks,
                    1,
                    threads,
                    progress,
                    || (),
                    |(), _, tasks| {
                        for (rows, run) in tasks {
                            adjacency.sum(&table, (*run).clone(), rows);
                            for (row, node) in rows.chunks_exact_mut(width).zip((*run).clone()) {
                                row.iter_mut().for_each(|x| *x *= scale[node]);
                            }
                        }
                        Ok(())
                    },
                )?;
            }
            progress.check()?;
            for (node, row) in embeddings.chunks_exact(width).enumerate().filter(|&(node, _)| scale[node] > 0.0) {
                let add = |to: &mut [f32], factor: f32| {
                    to[node * width..][..width].iter_mut().zip(row).for_each(|(to, x)| *to += factor * x);
                };
                if layer >= parameters.first_layer() {
                    add(&mut mean, parameters.layer_weight());
                }
                if layer < layers {
                    add(&mut history, parameters.layer_weight() * scale[node]);
                }
            }
            table.all().write(0, &embeddings, scale);
        }
        let unpadded = |rows: &[f32]| rows.chunks_exact(width).flat_map(|row| &row[..d]).copied().collect();
        let (user_rows, item_rows) = mean.split_at(users * width);
        let history = &history[users * width..];
        Ok(Factors { d, users: unpadded(user_rows), items: unpadded(item_rows), history: unpadded(history) })
    }
}
