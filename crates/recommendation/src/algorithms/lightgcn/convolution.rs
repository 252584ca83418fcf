//! The graph as it is convolved: sums over neighbours, made embeddings or gradients.

use std::ops::Range;

use ndarray::{Array2, ArrayViewMut2, s};

use super::noise;
use super::parameters::Parameters;
use super::sample::Batch;
use crate::training::Training;
use kernels::matrix::flat_mut;
use kernels::propagate::{Adjacency, BLOCK_ROWS, Table};
use runtime::draw::mix;
use runtime::error::Result;
use runtime::parallel::for_each_chunk;

/// What all threads share.
pub struct Convolution {
    pub adjacency: Adjacency,
    pub parameters: Parameters,
    /// Floats of a row: `factors`, padded by zeros.
    pub width: usize,
    /// Steps taken.
    pub steps: u64,
}

impl Convolution {
    /// Noise of a node at a layer in this step.
    fn key(&self, layer: usize, node: usize) -> u32 {
        let place = self.steps * self.parameters.layers as u64 + layer as u64;
        mix(mix(self.parameters.seed ^ mix(place)) ^ node as u64) as u32
    }

    /// From sums over neighbours of nodes to their embeddings.
    pub fn embed(
        &self,
        layer: usize,
        nodes: impl Iterator<Item = usize>,
        mut sums: ArrayViewMut2<f32>,
        keys: &mut Vec<u32>,
    ) {
        keys.clear();
        for (node, row) in nodes.zip(flat_mut(sums.view_mut()).chunks_exact_mut(self.width)) {
            let scale = self.adjacency.scale()[node];
            row.iter_mut().for_each(|x| *x *= scale);
            keys.push(self.key(layer, node));
        }
        if self.parameters.is_contrastive() && self.parameters.noise > 0.0 {
            noise::add(sums, self.parameters.factors, self.parameters.noise, keys);
        }
    }

    /// Runs `work` on a few nodes at a time: what their run writes to, the nodes, the first one's place in the run, the sums
    /// over their neighbours' rows of `from`, and room for keys.
    pub fn each_block<T: Send>(
        &self,
        from: &Table,
        to: Vec<T>,
        training: &Training,
        work: impl Fn(&mut T, Range<usize>, usize, ArrayViewMut2<f32>, &mut Vec<u32>) + Sync,
    ) -> Result<()> {
        let Training { threads, progress, .. } = *training;
        let runs = self.adjacency.runs();
        let mut tasks: Vec<(T, &Range<usize>)> = to.into_iter().zip(runs).collect();
        let scratch = || (Array2::<f32>::zeros((BLOCK_ROWS, self.width)), Vec::with_capacity(BLOCK_ROWS));
        for_each_chunk(&mut tasks, 1, threads, progress, scratch, |(sums, keys), _, tasks| {
            for (to, run) in tasks {
                for start in run.clone().step_by(BLOCK_ROWS) {
                    let nodes = start..run.end.min(start + BLOCK_ROWS);
                    let mut sums = sums.slice_mut(s![..nodes.len(), ..]);
                    self.adjacency.sum(from, nodes.clone(), sums.view_mut());
                    work(to, nodes, start - run.start, sums, keys);
                }
            }
            Ok(())
        })
    }

    /// From sums over neighbours to the gradient by a layer.
    pub fn gradient(
        &self,
        layer: usize,
        nodes: Range<usize>,
        sums: ArrayViewMut2<f32>,
        batch: &Batch,
        enter: &impl Fn(usize, usize, &mut [f32]),
    ) {
        for (node, row) in nodes.zip(flat_mut(sums).chunks_exact_mut(self.width)) {
            let scale = self.adjacency.scale()[node];
            row.iter_mut().for_each(|x| *x *= scale);
            if let Some(slot) = batch.slot(node) {
                enter(layer, slot, row);
            }
        }
    }
}
