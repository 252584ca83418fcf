//! Which rows lie together: spherical k-means (Dhillon, Modha, "Concept decompositions for large sparse text data using clustering",
//! Machine Learning 2001) on a sample, then each row with its nearest centroid.

use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicUsize, Ordering};

use ndarray::{Array2, ArrayView2};

use crate::listed::Listed;
use crate::quantized::{NOTHING, Quantized};
use crate::scan::{TILE_USERS, best_items};
use kernels::bytes::ROWS;
use kernels::dot::{axpy, dot};
use kernels::matrix::{flat, for_each_rows, rows_mut};
use kernels::statistics::normalize;
use runtime::draw::below;
use runtime::error::Result;
use runtime::memory;
use runtime::parallel::for_each_chunk;
use runtime::progress::{Counted, Progress, Unwatched};

/// Clusters for each root of the number of rows. With more of them fewer rows are read for the same recall, and making them takes longer, by the
/// square of their number.
const PER_ROOT: f64 = 4.0;
/// Rows of the sample for each cluster. Twice as many, and twice as many rounds, raise recall by less than a hundredth.
const SAMPLE: usize = 32;
/// Rounds of assigning the sample and moving the centroids.
const ROUNDS: usize = 5;
/// Rows measured, and clusters summed up, by a thread at a time.
const ROWS_PER_TASK: usize = 4096;
const CLUSTERS_PER_TASK: usize = 16;

/// Rows in clusters.
pub(super) struct Clustering {
    /// The row at each place, or [`NOTHING`]: a cluster begins at a place that is a multiple of [`ROWS`].
    pub order: Vec<u32>,
    /// [clusters + 1]: where each cluster begins, in blocks of [`ROWS`] places, and where the last one ends.
    pub starts: Vec<u32>,
    /// [clusters, d]
    pub centroids: Array2<f32>,
}

impl Clustering {
    /// `None` where no row has a direction, or one is too long to tell.
    pub fn of(vectors: ArrayView2<f32>, seed: u64, threads: usize, progress: &dyn Progress) -> Result<Option<Self>> {
        let Some([directed, others]) = by_direction(vectors, threads, progress)? else { return Ok(None) };
        if directed.is_empty() {
            return Ok(None);
        }
        let clusters = ((PER_ROOT * (directed.len() as f64).sqrt()) as usize).clamp(1, directed.len());
        let sample = drawn(&directed, clusters * SAMPLE, seed)?;
        let done = AtomicUsize::new(0);
        let total = ROUNDS * sample.len() + directed.len();
        let counted = Counted { whole: progress, phase: "vectors clustered", done: &done, total };
        let (work, progress) = (Work { vectors, threads, done: &done }, &counted);

        let mut centroids = memory::matrix(clusters, vectors.ncols(), 0f32)?;
        let first = drawn(&sample, clusters, seed ^ 1)?;
        rows_mut(centroids.view_mut()).zip(&first).for_each(|(centroid, &row)| centroid.copy_from_slice(work.row(row)));
        for round in 0..ROUNDS {
            let mut members = work.members(&sample, centroids.view(), progress)?;
            members.split_largest(seed ^ round as u64);
            work.center(&members, &mut centroids, progress)?;
        }
        let members = work.members(&directed, centroids.view(), progress)?;
        // What was learned from a sample moves to the middle of all rows.
        work.center(&members, &mut centroids, progress)?;
        Self::placed(&members, &others, centroids).map(Some)
    }

    fn placed(members: &Members, others: &[u32], centroids: Array2<f32>) -> Result<Self> {
        let d = centroids.ncols();
        let (mut order, mut starts, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        memory::reserve(&mut order, members.rows.len() + others.len() + (members.len() + 1) * ROWS)?;
        memory::reserve(&mut kept, (members.len() + 1) * d)?;
        let none = vec![0f32; d];
        let all = (0..members.len()).map(|cluster| members.of(cluster)).zip(flat(centroids.view()).chunks_exact(d));
        for (rows, centroid) in all.chain([(others, &*none)]).filter(|(rows, _)| !rows.is_empty()) {
            memory::push(&mut starts, (order.len() / ROWS) as u32)?;
            order.extend_from_slice(rows);
            order.resize(order.len().next_multiple_of(ROWS), NOTHING);
            kept.extend_from_slice(centroid);
        }
        let clusters = starts.len();
        memory::push(&mut starts, (order.len() / ROWS) as u32)?;
        Ok(Self { order, starts, centroids: memory::shaped(clusters, d, kept)? })
    }
}

/// The rows with a direction, and those of zeros; `None` where one is not finite.
fn by_direction(vectors: ArrayView2<f32>, threads: usize, progress: &dyn Progress) -> Result<Option<[Vec<u32>; 2]>> {
    let (all, d) = (flat(vectors), vectors.ncols());
    let mut squares = memory::filled(0f32, vectors.nrows())?;
    for_each_chunk(
        &mut squares,
        ROWS_PER_TASK,
        threads,
        progress,
        || (),
        |(), number, squares| {
            let rows = all[number * ROWS_PER_TASK * d..].chunks_exact(d);
            squares.iter_mut().zip(rows).for_each(|(square, row)| *square = dot(row, row));
            Ok(())
        },
    )?;
    if squares.iter().any(|square| !square.is_finite()) {
        return Ok(None);
    }
    let mut parts = [Vec::new(), Vec::new()];
    for (row, &square) in (0..).zip(&squares) {
        memory::push(&mut parts[usize::from(square == 0.0)], row)?;
    }
    Ok(Some(parts))
}

/// `n` of `rows`, one from each of `n` runs of them; all where there are no more.
fn drawn(rows: &[u32], n: usize, seed: u64) -> Result<Vec<u32>> {
    let n = n.min(rows.len());
    let mut drawn = Vec::new();
    memory::reserve(&mut drawn, n)?;
    let start = |i: usize| (i as u128 * rows.len() as u128 / n.max(1) as u128) as usize;
    drawn.extend((0..n).map(|i| rows[start(i) + below(seed, i as u64, start(i + 1) - start(i))]));
    Ok(drawn)
}

/// Rows by clusters.
struct Members {
    /// [clusters + 1]: where each cluster's rows begin.
    starts: Vec<usize>,
    /// In each cluster ascending where they came so.
    rows: Vec<u32>,
    /// Clusters without rows, and the row that is to be their centroid.
    replaced: Vec<(u32, u32)>,
}

impl Members {
    /// `labels` are the clusters of `rows`.
    fn new(rows: &[u32], labels: &[u32], clusters: usize) -> Result<Self> {
        let mut starts = memory::filled(0usize, clusters + 2)?;
        labels.iter().for_each(|&cluster| starts[cluster as usize + 2] += 1);
        (1..starts.len()).for_each(|i| starts[i] += starts[i - 1]);
        let mut sorted = memory::filled(0u32, rows.len())?;
        for (&row, &cluster) in rows.iter().zip(labels) {
            let next = &mut starts[cluster as usize + 1];
            sorted[*next] = row;
            *next += 1;
        }
        starts.pop();
        Ok(Self { starts, rows: sorted, replaced: Vec::new() })
    }

    fn len(&self) -> usize {
        self.starts.len() - 1
    }

    fn of(&self, cluster: usize) -> &[u32] {
        &self.rows[self.starts[cluster]..self.starts[cluster + 1]]
    }

    /// Gives each cluster without rows one of the largest cluster, which counts as half as large from then on.
    fn split_largest(&mut self, seed: u64) {
        let mut sizes: BinaryHeap<(usize, usize)> = (0..self.len()).map(|i| (self.of(i).len(), i)).collect();
        for cluster in (0..self.len()).filter(|&cluster| self.of(cluster).is_empty()).collect::<Vec<_>>() {
            let Some((size, largest)) = sizes.pop().filter(|&(size, _)| size > 1) else { break };
            sizes.push((size / 2, largest));
            let rows = self.of(largest);
            let row = rows[below(seed, cluster as u64, rows.len())];
            self.replaced.push((cluster as u32, row));
        }
    }
}

/// What the steps have in common.
struct Work<'a> {
    vectors: ArrayView2<'a, f32>,
    threads: usize,
    /// Rows assigned.
    done: &'a AtomicUsize,
}

impl Work<'_> {
    fn row(&self, row: u32) -> &[f32] {
        let d = self.vectors.ncols();
        &flat(self.vectors)[row as usize * d..][..d]
    }

    /// Each of `rows` in the cluster of its nearest centroid, of equally near ones the first.
    fn members(&self, rows: &[u32], centroids: ArrayView2<f32>, progress: &dyn Progress) -> Result<Members> {
        let copy = Quantized::of(centroids, self.threads, progress)?;
        let mut labels = memory::filled(0u32, rows.len())?;
        for_each_chunk(
            &mut labels,
            TILE_USERS,
            self.threads,
            progress,
            || (),
            |(), number, labels| {
                let rows = &rows[number * TILE_USERS..][..labels.len()];
                let users: Vec<&[f32]> = rows.iter().map(|&row| self.row(row)).collect();
                let everything = [Listed::default(); TILE_USERS];
                let found = match &copy {
                    Some(copy) => copy.best(centroids, &users, &everything[..users.len()], 1, &Unwatched)?,
                    None => vec![None; users.len()],
                };
                for ((label, user), found) in labels.iter_mut().zip(users).zip(found) {
                    let found = match found {
                        Some(found) => found,
                        None => best_items(centroids, user, 1, &Listed::default(), &Unwatched)?,
                    };
                    *label = found.first().map_or(0, |&(_, cluster)| cluster);
                }
                self.done.fetch_add(rows.len(), Ordering::Relaxed);
                Ok(())
            },
        )?;
        Members::new(rows, &labels, centroids.nrows())
    }

    /// Moves the centroids to the direction of the sum of their members.
    fn center(&self, members: &Members, centroids: &mut Array2<f32>, progress: &dyn Progress) -> Result<()> {
        for_each_rows(
            centroids.view_mut(),
            CLUSTERS_PER_TASK,
            self.threads,
            progress,
            || (),
            |(), number, block| {
                for (cluster, centroid) in (number * CLUSTERS_PER_TASK..).zip(rows_mut(block)) {
                    let rows = members.of(cluster);
                    if !rows.is_empty() {
                        centroid.fill(0.0);
                        rows.iter().for_each(|&row| axpy(1.0, self.row(row), centroid));
                        normalize(centroid);
                    }
                }
                Ok(())
            },
        )?;
        let d = centroids.ncols();
        let all = kernels::matrix::flat_mut(centroids.view_mut());
        for &(cluster, row) in &members.replaced {
            all[cluster as usize * d..][..d].copy_from_slice(self.row(row));
        }
        Ok(())
    }
}
