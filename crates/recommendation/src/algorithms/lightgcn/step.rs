//! One step: propagate, compare, propagate back, move.
//!
//! Only the batch's rows of the last layer are needed, so only they are computed. The gradient runs back by Horner's scheme:
//! with `g` the gradient by the factors and `c` that by layer l*, `r_L = g / layers`, `r_l = S r_{l+1} + [l in the mean] g /
//! layers + [l = l*] c`, and `r_0` is the gradient by `e⁰`, since `S` is symmetric. The last product moves the weights at once.

use std::ops::Range;

use ndarray::{Array2, s};

use super::contrast::{self, Contrast, info_nce};
use super::convolution::Convolution;
use super::parameters::Parameters;
use super::sample::Batch;
use crate::linear_fold_in::Factors;
use crate::training::Training;
use kernels::dot::dot;
use kernels::matrix::{flat, flat_mut, for_each_rows, split_rows};
use kernels::propagate::{Adjacency, PAD, Table};
use neural::adam::Step;
use runtime::draw::mix;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::parallel::for_each_chunk;

/// Slots of the last layer that one task computes.
const SLOTS: usize = 64;

pub struct Trainer<'a> {
    training: Training<'a>,
    graph: Convolution,
    /// [nodes, width]: e⁰, and Adam's moments of it.
    pub weights: Array2<f32>,
    moments: [Array2<f32>; 2],
    /// e⁰ in the form in which it is propagated.
    base: Table,
    layers: [Table; 2],
    /// Zeros but for a batch's rows.
    sparse: Table,
    slots: Slots,
    contrast: contrast::Scratch,
}

/// What a step knows of its batch's nodes, by slots: [nodes, width] each.
#[derive(Default)]
struct Slots {
    /// Factors: the mean of layers.
    mean: Array2<f32>,
    /// Embeddings at layer l*.
    layer: Array2<f32>,
    mean_gradient: Array2<f32>,
    layer_gradient: Array2<f32>,
    /// By `e⁰` itself.
    own_gradient: Array2<f32>,
    /// Embeddings at the last layer.
    last: Array2<f32>,
}

impl Slots {
    fn reset(&mut self, nodes: usize, width: usize) -> Result<()> {
        let Self { mean, layer, mean_gradient, layer_gradient, own_gradient, last } = self;
        let mut all = [mean, layer, mean_gradient, layer_gradient, own_gradient, last].into_iter();
        all.try_for_each(|matrix| memory::renew(matrix, nodes, width, 0.0))
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
        let zeros = || memory::matrix(nodes, width, 0f32);
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
        for (node, row) in flat_mut(self.weights.view_mut()).chunks_exact_mut(self.graph.width).enumerate() {
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
        self.base.all().write(0, self.weights.view(), self.graph.adjacency.scale());
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
    pub fn gradients(&mut self, batch: &Batch) -> Result<Array2<f32>> {
        self.backward(batch, None)
    }

    /// The batch's factors and its embeddings at layer l*.
    fn forward(&mut self, batch: &Batch) -> Result<()> {
        let Parameters { layers, contrastive_layer, .. } = self.graph.parameters;
        self.slots.reset(batch.nodes.len(), self.graph.width)?;
        if self.graph.parameters.first_layer() == 0 {
            for (mut mean, &node) in self.slots.mean.rows_mut().into_iter().zip(&batch.nodes) {
                mean.assign(&self.weights.row(node as usize));
            }
        }
        for layer in 1..layers {
            self.propagate(layer)?;
            let (table, width) = (&self.layers[layer % 2], self.graph.width);
            let (mean, of_layer) = (flat_mut(self.slots.mean.view_mut()), flat_mut(self.slots.layer.view_mut()));
            for (slot, &node) in batch.nodes.iter().enumerate() {
                let scale = self.graph.adjacency.scale()[node as usize];
                let factor = if scale > 0.0 { 1.0 / scale } else { 0.0 };
                let range = slot * width..(slot + 1) * width;
                table.add_row(node as usize, factor, &mut mean[range.clone()]);
                if layer == contrastive_layer {
                    table.add_row(node as usize, factor, &mut of_layer[range]);
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
            |rows, nodes, first, mut sums, keys| {
                graph.embed(layer, nodes.clone(), sums.view_mut(), keys);
                rows.write(first, sums.view(), &scale[nodes]);
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
        for_each_rows(last.view_mut(), SLOTS, threads, progress, Vec::new, |keys, number, mut rows| {
            let nodes = &batch.nodes[number * SLOTS..][..rows.nrows()];
            for (slot, &node) in nodes.iter().enumerate() {
                let row = rows.slice_mut(s![slot..=slot, ..]);
                graph.adjacency.sum(from, node as usize..node as usize + 1, row);
            }
            graph.embed(layers, nodes.iter().map(|&node| node as usize), rows, keys);
            Ok(())
        })?;
        self.slots.mean.iter_mut().zip(&last).for_each(|(mean, x)| *mean += x);
        if contrastive_layer == layers {
            self.slots.layer.assign(&last);
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
        let (mean, weights) = (flat(slots.mean.view()), flat(self.weights.view()));
        let mean_gradient = flat_mut(slots.mean_gradient.view_mut());
        let own_gradient = flat_mut(slots.own_gradient.view_mut());
        let (mut ranking, mut squares) = (0.0, 0.0);
        for (triple, &counts) in batch.triples.iter().zip(&batch.shares) {
            let at = triple.map(|slot| slot as usize * width..(slot as usize + 1) * width);
            let [user, chosen, other] = at.clone().map(|at| &mean[at]);
            let margin = dot(user, chosen) - dot(user, other);
            // ln(1 + e^−m) without overflow.
            ranking += f64::from(counts * ((-margin.abs()).exp().ln_1p() + (-margin).max(0.0)));
            let pull = counts * share / (1.0 + margin.exp());
            for k in 0..width {
                let [u, i, j] = at.clone().map(|at| at.start + k);
                let x = mean[u];
                mean_gradient[u] -= pull * (mean[i] - mean[j]);
                mean_gradient[i] -= pull * x;
                mean_gradient[j] += pull * x;
            }
            for (at, slot) in at.into_iter().zip(triple) {
                let weights = &weights[batch.nodes[*slot as usize] as usize * width..][..width];
                own_gradient[at].iter_mut().zip(weights).for_each(|(g, w)| *g += decay * w);
                squares += f64::from(dot(weights, weights));
            }
        }
        let ranking = f64::from(share) * ranking + 0.5 * f64::from(decay) * squares;
        let mut contrastive = 0.0;
        if parameters.is_contrastive() {
            for range in [0..batch.users, batch.users..batch.chosen] {
                let rows = s![range, ..];
                let contrast = Contrast {
                    views: [slots.mean.slice(rows), slots.layer.slice(rows)],
                    gradients: [slots.mean_gradient.slice_mut(rows), slots.layer_gradient.slice_mut(rows)],
                    temperature: parameters.temperature,
                    weight: parameters.contrastive_weight,
                };
                let Training { threads, progress, .. } = self.training;
                contrastive += info_nce(contrast, &mut self.contrast, threads, progress)?;
            }
        }
        Ok([ranking, f64::from(parameters.contrastive_weight) * contrastive])
    }

    /// Runs the gradients back to `e⁰`, and moves it or, where there is no `step`, returns them.
    fn backward(&mut self, batch: &Batch, step: Option<Step>) -> Result<Array2<f32>> {
        let (width, parameters) = (self.graph.width, self.graph.parameters);
        let weight = parameters.layer_weight();
        self.slots.mean_gradient.iter_mut().for_each(|g| *g *= weight);
        // What enters at a layer, for a slot.
        let slots = std::mem::take(&mut self.slots);
        let of = [&slots.mean_gradient, &slots.layer_gradient, &slots.own_gradient].map(|matrix| flat(matrix.view()));
        let enter = |layer: usize, slot: usize, to: &mut [f32]| {
            let mut add = |from: &[f32]| to.iter_mut().zip(&from[slot * width..]).for_each(|(to, g)| *to += g);
            let [mean_gradient, layer_gradient, own_gradient] = of;
            if layer >= parameters.first_layer() {
                add(mean_gradient);
            }
            if layer == parameters.contrastive_layer && parameters.is_contrastive() {
                add(layer_gradient);
            }
            if layer == 0 {
                add(own_gradient);
            }
        };
        let mut row = Array2::zeros((1, width));
        for (slot, &node) in batch.nodes.iter().enumerate() {
            row.fill(0.0);
            enter(parameters.layers, slot, flat_mut(row.view_mut()));
            let node = node as usize;
            self.sparse.all().write(node, row.view(), &self.graph.adjacency.scale()[node..node + 1]);
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
                |rows, nodes, first, mut sums, _| {
                    graph.gradient(layer, nodes.clone(), sums.view_mut(), batch, &enter);
                    rows.write(first, sums.view(), &scale[nodes]);
                },
            )?;
            self.layers[layer % 2] = to;
        }
        let gradients = self.last_product(batch, step, &enter)?;
        for &node in &batch.nodes {
            self.sparse.all().clear(node as usize);
        }
        self.slots = slots;
        Ok(gradients)
    }

    fn last_product(
        &mut self,
        batch: &Batch,
        step: Option<Step>,
        enter: &(impl Fn(usize, usize, &mut [f32]) + Sync),
    ) -> Result<Array2<f32>> {
        let mut base = std::mem::take(&mut self.base);
        let mut weights = std::mem::take(&mut self.weights);
        let [mut first, mut second] = std::mem::take(&mut self.moments);
        let mut gradients = match step {
            Some(_) => Array2::default((0, 0)),
            None => memory::matrix(weights.nrows(), weights.ncols(), 0f32)?,
        };
        let runs = self.graph.adjacency.runs();
        let from = if self.graph.parameters.layers == 1 { &self.sparse } else { &self.layers[1] };
        let graph = &self.graph;
        let scale = graph.adjacency.scale();
        let done = match step {
            Some(step) => {
                let moved = [&mut weights, &mut first, &mut second].map(|all| split_rows(all.view_mut(), runs));
                let [weights, first, second] = moved;
                let moved = weights.into_iter().zip(first).zip(second);
                let to = base.split(runs).into_iter().zip(moved).collect();
                graph.each_block(
                    from,
                    to,
                    &self.training,
                    |(rows, ((weights, first), second)), nodes, start, mut sums, _| {
                        graph.gradient(0, nodes.clone(), sums.view_mut(), batch, enter);
                        let own = s![start..start + nodes.len(), ..];
                        let mut weights = weights.slice_mut(own);
                        let moments = [first, second].map(|moment| flat_mut(moment.slice_mut(own)));
                        let [first, second] = moments;
                        step.update(flat_mut(weights.view_mut()), flat(sums.view()), first, second);
                        rows.write(start, weights.view(), &scale[nodes]);
                    },
                )
            }
            None => graph.each_block(
                from,
                split_rows(gradients.view_mut(), runs),
                &self.training,
                |to, nodes, start, mut sums, _| {
                    let own = s![start..start + nodes.len(), ..];
                    graph.gradient(0, nodes, sums.view_mut(), batch, enter);
                    to.slice_mut(own).assign(&sums);
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
        let mut mean = memory::matrix(nodes, width, 0f32)?;
        let mut history = memory::matrix(nodes, width, 0f32)?;
        for layer in 0..=layers {
            if layer > 0 {
                let parts = split_rows(embeddings.view_mut(), adjacency.runs());
                let mut tasks: Vec<_> = parts.into_iter().zip(adjacency.runs()).collect();
                for_each_chunk(
                    &mut tasks,
                    1,
                    threads,
                    progress,
                    || (),
                    |(), _, tasks| {
                        for (rows, run) in tasks {
                            adjacency.sum(&table, (*run).clone(), rows.view_mut());
                            for (row, node) in flat_mut(rows.view_mut()).chunks_exact_mut(width).zip((*run).clone()) {
                                row.iter_mut().for_each(|x| *x *= scale[node]);
                            }
                        }
                        Ok(())
                    },
                )?;
            }
            progress.check()?;
            for (node, row) in embeddings.rows().into_iter().enumerate().filter(|&(node, _)| scale[node] > 0.0) {
                let add = |to: &mut Array2<f32>, factor: f32| to.row_mut(node).scaled_add(factor, &row);
                if layer >= parameters.first_layer() {
                    add(&mut mean, parameters.layer_weight());
                }
                if layer < layers {
                    add(&mut history, parameters.layer_weight() * scale[node]);
                }
            }
            table.all().write(0, embeddings.view(), scale);
        }
        let unpadded = |all: &Array2<f32>, rows: Range<usize>| {
            let mut out = memory::matrix(rows.len(), d, 0f32)?;
            out.assign(&all.slice(s![rows, ..d]));
            Ok::<_, Error>(out)
        };
        Ok(Factors {
            users: unpadded(&mean, 0..users)?,
            items: unpadded(&mean, users..nodes)?,
            history: unpadded(&history, users..nodes)?,
        })
    }
}
