//! Vectors of length one, searched exactly or by clusters.
//!
//! An inverted file (Jégou, Douze, Schmid, "Product quantization for nearest neighbor search", TPAMI 2011) over the compressed copy of
//! [`crate::quantized`]: its blocks lie by clusters, so that one copy serves both searches. The exact one reads all blocks, those of the clusters
//! whose centroids are nearest to the query first, where the scores to beat are. The approximate one reads the nearest `probes` clusters
//! alone. Both leave out by the same bounds and score the rest by [`kernels::dot::dot`]: an approximate list may miss a row, yet has no wrong
//! score.
//!
//! Rows without direction, zeros, are in the last cluster, whose centroid is zeros: its score is theirs.

mod clusters;
#[cfg(test)]
mod tests;

use std::ops::Range;

use ndarray::Array2;

use super::item_factors::{ItemFactors, SHARE};
use super::listed::Listed;
use super::quantized::{self, NOTHING, Quantized, Reading};
use super::scan::{best_items, best_of};
use clusters::Clustering;
use kernels::bytes::ROWS;
use onnx::stored::{DataWriter, Files};
use runtime::error::{Error, Result};
use runtime::mapped::Mapped;
use runtime::progress::Progress;

/// Fewer rows are searched exactly in a millisecond or two.
pub const MIN_CLUSTERED: usize = 20_000;

/// Where all are searched, so many of the nearest clusters are read first: what the others must beat is known soon.
const FIRST: usize = 8;

/// See the [module](self).
pub struct Neighbours {
    vectors: ItemFactors,
    clusters: Option<Clusters>,
}

struct Clusters {
    /// [clusters + 1]: the block where each begins, and the number of all blocks.
    starts: Mapped<u32>,
    /// [clusters, d]
    centroids: ItemFactors,
}

impl Clusters {
    fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    fn blocks(&self, cluster: u32) -> Range<usize> {
        let at = |i: usize| self.starts.get(i).map_or(0, |&block| block as usize);
        at(cluster as usize)..at(cluster as usize + 1)
    }

    /// The number of all blocks.
    fn end(&self) -> usize {
        self.starts.last().map_or(0, |&block| block as usize)
    }

    /// The clusters of the nearest centroids, nearest first; of some more the first are the same.
    fn nearest(&self, unit: &[f32], n: usize, progress: &dyn Progress) -> Result<Vec<(f32, u32)>> {
        self.centroids.best(unit, n, &Listed::default(), progress)
    }
}

impl Neighbours {
    /// Adds vectors [rows, d] and their compressed copy to a data file under `name`; in clusters from [`MIN_CLUSTERED`] rows on.
    pub fn write(
        data: &mut DataWriter,
        name: &str,
        vectors: Array2<f32>,
        seed: u64,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<()> {
        Self::write_from(MIN_CLUSTERED, data, name, vectors, seed, threads, progress)
    }

    fn write_from(
        min_clustered: usize,
        data: &mut DataWriter,
        name: &str,
        vectors: Array2<f32>,
        seed: u64,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<()> {
        let all = vectors.view();
        let found = match all.nrows() >= min_clustered && quantized::fits(all) {
            true => Clustering::of(all, seed, threads, progress)?,
            false => None,
        };
        match found {
            None => quantized::write(data, name, all, quantized::MIN_ITEMS, threads, progress)?,
            Some(Clustering { order, starts, centroids }) => {
                if let Some(copy) = Quantized::in_order(all, order, threads, progress)? {
                    copy.write(data, name);
                    let centroids_name = format!("{name}.centroids");
                    quantized::write(data, &centroids_name, centroids.view(), quantized::MIN_ITEMS, threads, progress)?;
                    data.dense(&centroids_name, centroids);
                    data.owned(&format!("{name}.clusters"), &[starts.len()], starts);
                }
            }
        }
        data.dense(name, vectors);
        Ok(())
    }

    /// What [`write`](Self::write) added.
    pub fn open(files: &Files, name: &str, rows: usize, d: usize) -> Result<Self> {
        let starts_name = format!("{name}.clusters");
        if !files.has_tensor(&starts_name) {
            return Ok(Self { vectors: ItemFactors::open_tensor(files, name, rows, d)?, clusters: None });
        }
        let damaged = || files.damaged(format!("the clusters of {name} do not fit it"));
        let ([_], starts) = files.tensor::<u32, 1>(&starts_name)?;
        let blocks = match (starts.first(), starts.last()) {
            (Some(0), Some(&blocks)) if starts.len() > 1 && starts.is_sorted() => blocks as usize,
            _ => return Err(damaged()),
        };
        let centroids = ItemFactors::open_tensor(files, &format!("{name}.centroids"), starts.len() - 1, d)?;
        let vectors = ItemFactors::open_placed(files, name, rows, d, blocks * ROWS)?;
        let order = vectors.copy().ok_or_else(damaged)?.order();
        // Each place holds a row or nothing. That no row has two of them is left to whoever compares the file with what was written.
        let held = order.iter().filter(|&&row| row != NOTHING).count();
        let reach = order.iter().filter(|&&row| row != NOTHING).max().map_or(0, |&last| last as usize + 1);
        if held != rows || reach != rows {
            return Err(damaged());
        }
        Ok(Self { vectors, clusters: Some(Clusters { starts, centroids }) })
    }

    /// One row's vector [d].
    pub fn row(&self, row: u32) -> Result<&[f32]> {
        self.vectors.row(row)
    }

    /// 0 where rows are not in clusters.
    pub fn clusters(&self) -> usize {
        self.clusters.as_ref().map_or(0, Clusters::len)
    }

    /// The best `k` (score, row) by inner product with `unit` [d], best first, of equal ones the smaller row.
    pub fn exact(&self, unit: &[f32], k: usize, listed: &Listed, progress: &dyn Progress) -> Result<Vec<(f32, u32)>> {
        self.check(unit)?;
        match &self.clusters {
            Some(clusters) if self.vectors.few(listed).is_none() && self.vectors.quantized_for(listed, k).is_some() => {
                self.read_all(clusters, unit, k, listed, progress)
            }
            _ => self.vectors.best(unit, k, listed, progress),
        }
    }

    fn read_all(
        &self,
        clusters: &Clusters,
        unit: &[f32],
        k: usize,
        listed: &Listed,
        progress: &dyn Progress,
    ) -> Result<Vec<(f32, u32)>> {
        let Some(mut reading) = self.reading(unit, k, listed) else {
            return best_items(self.vectors.all(), unit, k, listed, progress);
        };
        let mut first = clusters.nearest(unit, FIRST, progress)?;
        for &(_, cluster) in &first {
            reading.read(clusters.blocks(cluster), progress)?;
        }
        // The others one after the other, as they lie in memory.
        first.sort_unstable_by_key(|&(_, cluster)| cluster);
        let mut start = 0;
        for (_, cluster) in first {
            let read = clusters.blocks(cluster);
            reading.read(start..read.start, progress)?;
            start = read.end;
        }
        reading.read(start..clusters.end(), progress)?;
        Ok(reading.into_sorted())
    }

    /// The best `k` of the rows in the nearest `probes` clusters. More clusters are read while fewer than `k` rows have been found, so that only
    /// what `listed` leaves limits their number.
    ///
    /// Where one in `s` rows is allowed, `√s` times as many clusters are read: the nearest allowed rows lie farther away, and with as many the
    /// recall is about that of a search without a filter. The same as [`exact`](Self::exact) where so all clusters are read, and where it is
    /// faster to look up all that is allowed.
    pub fn near(
        &self,
        unit: &[f32],
        k: usize,
        probes: usize,
        listed: &Listed,
        progress: &dyn Progress,
    ) -> Result<Vec<(f32, u32)>> {
        self.check(unit)?;
        let all = self.vectors.all();
        let share = listed.allowed.map_or(1.0, |allowed| all.nrows() as f64 / allowed.len().max(1) as f64);
        let probes = (probes as f64 * share.sqrt().max(1.0)) as usize;
        let Some(clusters) = self.clusters.as_ref().filter(|clusters| probes < clusters.len()) else {
            return self.exact(unit, k, listed, progress);
        };
        let few = k.max(probes * all.nrows() / clusters.len() / SHARE);
        match listed.allowed.filter(|allowed| allowed.len() <= few) {
            Some(allowed) => best_of(allowed, all, unit, k, listed, progress),
            None => self.read_nearest(clusters, unit, k, probes, listed, progress),
        }
    }

    fn read_nearest(
        &self,
        clusters: &Clusters,
        unit: &[f32],
        k: usize,
        probes: usize,
        listed: &Listed,
        progress: &dyn Progress,
    ) -> Result<Vec<(f32, u32)>> {
        let Some(mut reading) = self.reading(unit, k, listed) else {
            return best_items(self.vectors.all(), unit, k, listed, progress);
        };
        for &(_, cluster) in &clusters.nearest(unit, probes, progress)? {
            reading.read(clusters.blocks(cluster), progress)?;
        }
        if !reading.is_full() {
            // The first of them are those that were read.
            for &(_, cluster) in clusters.nearest(unit, clusters.len(), progress)?.iter().skip(probes) {
                reading.read(clusters.blocks(cluster), progress)?;
                if reading.is_full() {
                    break;
                }
            }
        }
        Ok(reading.into_sorted())
    }

    /// `None` for a query without direction.
    fn reading<'a>(&'a self, unit: &'a [f32], k: usize, listed: &Listed<'a>) -> Option<Reading<'a>> {
        self.vectors.copy()?.reading(self.vectors.all(), unit, *listed, k)
    }

    fn check(&self, unit: &[f32]) -> Result<()> {
        match self.vectors.all().ncols() {
            d if d == unit.len() => Ok(()),
            d => Err(Error::Dimensions { left: d, right: unit.len() }),
        }
    }
}
