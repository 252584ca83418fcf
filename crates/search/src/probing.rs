//! How many clusters of vectors a search reads: as few as find what an exact search does, by queries that are tried.

use super::model::Model;
use kernels::statistics::normalize;
use runtime::error::Result;
use runtime::progress::Progress;

/// The rows that must be found, and the share of them.
const MEASURED_AT: usize = 10;
const WANTED: f64 = 0.97;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probing {
    /// 0 for all clusters.
    pub probes: usize,
    /// Of the [`MEASURED_AT`] best rows of an exact search, by cosine: a row as near as the last of these is as good.
    pub recall: f64,
}

/// Tries the vectors of some queries with 1, 2, 4 … clusters, until enough is found.
pub fn probing(model: &Model, queries: &[Vec<f32>], progress: &dyn Progress) -> Result<Probing> {
    let all = Probing { probes: 0, recall: 1.0 };
    let clusters = model.clusters();
    if clusters == 0 || queries.is_empty() {
        return Ok(all);
    }
    let mut exact = Vec::new();
    for query in queries {
        let mut unit = query.clone();
        normalize(&mut unit);
        let found = model.near(&unit, MEASURED_AT, 0, None, progress)?;
        exact.push((unit, found.len(), found.last().map_or(f32::INFINITY, |(cosine, _)| *cosine)));
    }
    let mut probes = 1;
    while probes < clusters {
        let (mut hits, mut of) = (0, 0);
        for (unit, wanted, least) in &exact {
            let found = model.near(unit, MEASURED_AT, probes, None, progress)?;
            hits += found.iter().filter(|(cosine, _)| cosine >= least).count();
            of += wanted;
        }
        let recall = hits as f64 / of.max(1) as f64;
        if recall >= WANTED {
            return Ok(Probing { probes, recall });
        }
        probes *= 2;
    }
    Ok(all)
}
