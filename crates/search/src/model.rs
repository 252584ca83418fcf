//! A search index: segments of rows with words and vectors, and how both make one ranking.
//!
//! Its own files are the ONNX graph of its ranking; the data file, which names the segments and what was deleted from each; and a learned
//! ranking, if there is one. Each segment has a folder of files. All are read in place from a memory map.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::digest::RowDigest;
use super::fusion::{Candidate, Fusion};
use super::queries::{PastQueries, QUERIES};
use super::ranking;
use super::segment::{self, DATA, Kept, Packed, Segment, SegmentId, folder_name, segment_id};
use inner_products::{ItemSet, Listed};
use kernels::dot::dot;
use kernels::statistics::normalize;
use lexical::{Allowed, Lexical, MAX_SEGMENTS, Synonyms, has_operators};
use onnx::stored::{DataWriter, Files};
use runtime::error::{Error, Result};
use runtime::progress::{Progress, Unwatched};
use tabular::trees::Ensemble;

/// Rows that each leg contributes to a ranking at least.
pub const POOL: usize = 200;

/// Longer lists are searched for exactly.
const MAX_PROBED: usize = 1000;

/// The name of the graph.
pub const GRAPH: &str = "model.onnx";
/// That of a learned ranking.
const RANKER: &str = "ranker.safetensors";

/// Whether an index may have a file of this name: its own, or one in the folder of a segment.
pub fn is_file(name: &str) -> bool {
    match name.split_once('/') {
        // Those of 0.6.0 lay beside the others.
        None => [GRAPH, DATA, RANKER, QUERIES].contains(&name) || lexical::is_file(name),
        Some((folder, file)) => segment_id(folder).is_some() && segment::is_file(file),
    }
}

/// A word or a phrase, and what is searched besides it.
pub type SynonymsOf = (String, Vec<String>);

/// What a version of an index consists of, besides the files of its segments.
pub struct Contents<'a> {
    pub segments: &'a [Kept],
    /// The names of the columns of numbers.
    pub numbers: &'a [String],
    pub synonyms: &'a [SynonymsOf],
    /// Clusters of vectors that a search reads; 0 for all.
    pub probes: u32,
    pub fusion: Fusion,
    pub ranker: Option<&'a Ensemble>,
}

impl Contents<'_> {
    /// Its own files, the graph first.
    pub fn pack(&self) -> Result<Packed> {
        let mut data = DataWriter::default();
        let ids: Vec<SegmentId> = self.segments.iter().map(|kept| kept.id).collect();
        data.tensor("segments", &[ids.len()], &*ids);
        for kept in self.segments.iter().filter(|kept| !kept.deleted.is_empty()) {
            data.tensor(&deleted(kept.id), &[kept.deleted.len()], &*kept.deleted);
        }
        data.tensor("probes", &[1], [self.probes]);
        let mut json = |name: &str, value: serde_json::Result<Vec<u8>>| {
            let bytes = value.map_err(|e| Error::Internal(e.to_string()))?;
            data.owned(name, &[bytes.len()], bytes);
            Ok::<_, Error>(())
        };
        json("numbers", serde_json::to_vec(self.numbers))?;
        json("synonyms", serde_json::to_vec(self.synonyms))?;
        let graph = ranking::graph(self.fusion, self.ranker)?;
        let mut files = vec![(GRAPH.to_owned(), graph), (DATA.to_owned(), data.finish()?)];
        if let Some(ranker) = self.ranker {
            files.push((RANKER.to_owned(), ranking::packed(ranker)?));
        }
        Ok(files)
    }
}

/// The name of the tensor with what was deleted from a segment.
fn deleted(id: SegmentId) -> String {
    format!("deleted.{}", folder_name(id))
}

/// What to search for.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    pub text: &'a str,
    /// That of the text; `None` for words alone.
    pub vector: Option<&'a [f32]>,
    pub allowed: Option<&'a ItemSet>,
}

/// A row that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    pub row: u32,
    pub score: f32,
    /// BM25; 0 where no word matches.
    pub lexical: f32,
    /// `None` without vectors.
    pub cosine: Option<f32>,
}

/// An opened index.
pub struct Model {
    name: String,
    segments: Vec<Segment>,
    /// The rows that were not deleted; `None` if none was.
    live: Option<ItemSet>,
    /// Numbers of rows are below.
    len: usize,
    /// Rows that were not deleted.
    count: usize,
    dimensions: usize,
    probes: usize,
    numbers: Vec<String>,
    lexical: Lexical,
    queries: Option<PastQueries>,
    /// As they were given, and as queries need them.
    entries: Vec<SynonymsOf>,
    synonyms: Synonyms,
    /// For [`Fusion::Learned`].
    ranker: Option<Ensemble>,
}

impl Model {
    /// `name` is for messages; `files` are those of [`Contents::pack`] and of the segments, by name.
    pub fn open(name: &str, files: Vec<(String, Bytes)>) -> Result<Self> {
        let damaged = |reason: &str| Error::DamagedModel { model: name.into(), reason: reason.into() };
        let (mut own, mut folders) = (BTreeMap::new(), BTreeMap::<String, Vec<(String, Bytes)>>::new());
        for (file, bytes) in files {
            match file.split_once('/') {
                Some((folder, file)) => folders.entry(folder.into()).or_default().push((file.into(), bytes)),
                None => drop(own.insert(file, bytes)),
            }
        }
        if own.keys().any(|name| lexical::is_file(name)) {
            return Err(damaged("it was made by version 0.6.0: run reco.train_search again"));
        }
        let (Some(_), Some(data)) = (own.get(GRAPH), own.get(DATA)) else {
            return Err(damaged("its graph or its data file is missing"));
        };
        let stored = Files::open(name, Bytes::new(), data)?;
        let ([_], ids) = stored.tensor::<SegmentId, 1>("segments")?;
        let ([_], probes) = stored.tensor::<u32, 1>("probes")?;
        let ([_], names) = stored.tensor::<u8, 1>("numbers")?;
        let numbers: Vec<String> =
            serde_json::from_slice(&names).map_err(|_| damaged("the names of its numbers are inconsistent"))?;
        let ([_], entries) = stored.tensor::<u8, 1>("synonyms")?;
        let entries: Vec<SynonymsOf> =
            serde_json::from_slice(&entries).map_err(|_| damaged("its synonyms are inconsistent"))?;
        let (mut segments, mut parts) = (Vec::<Segment>::new(), Vec::new());
        let (mut live, mut next, mut count) = (Vec::new(), 0usize, 0);
        for &id in ids.iter() {
            let files = folders.remove(&folder_name(id)).ok_or_else(|| damaged("a segment is missing"))?;
            let first = u32::try_from(next).map_err(|_| damaged("too many rows"))?;
            let (segment, lexical) = Segment::open(name, id, first, files)?;
            let mut rows = ItemSet::all(segment.len());
            if stored.has_tensor(&deleted(id)) {
                let ([_], gone) = stored.tensor::<u32, 1>(&deleted(id))?;
                gone.iter().for_each(|&row| rows.remove(row));
            }
            count += rows.len();
            next += segment.len().next_multiple_of(64);
            live.push(rows);
            segments.push(segment);
            parts.extend(lexical);
        }
        let dimensions = segments.iter().map(Segment::dimensions).max().unwrap_or(0);
        let is_alike =
            |segment: &Segment| segment.columns() == numbers.len() && [0, dimensions].contains(&segment.dimensions());
        if segments.is_empty() || parts.len() > MAX_SEGMENTS || !segments.iter().all(is_alike) {
            return Err(damaged("its segments do not fit each other"));
        }
        let is_whole = segments.iter().zip(&live).all(|(segment, live)| live.len() == segment.len());
        let live = (!is_whole).then(|| {
            let mut all = ItemSet::new(next);
            for (segment, live) in segments.iter().zip(&live) {
                live.iter().for_each(|row| all.insert(segment.first_row + row));
            }
            all
        });
        let ranker = own.get(RANKER).map(|bytes| ranking::read(name, bytes.clone())).transpose()?;
        // The cache has compared the files with what was written.
        let lexical = Lexical::open_intact(&parts).map_err(|e| damaged(&e.to_string()))?;
        let queries = own.get(QUERIES).map(|bytes| PastQueries::open(name, bytes)).transpose()?;
        let synonyms = lexical.synonyms(&entries, &Unwatched)?;
        Ok(Self {
            name: name.into(),
            segments,
            live,
            len: next,
            count,
            dimensions,
            probes: probes.first().map_or(0, |&probes| probes as usize),
            numbers,
            lexical,
            queries,
            entries,
            synonyms,
            ranker,
        })
    }

    /// Numbers of rows are below.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The number of rows.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The length of its vectors; 0 without.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Clusters of vectors that a search reads; 0 for all.
    pub fn probes(&self) -> usize {
        self.probes
    }

    /// The number of clusters of the segment that has the most; 0 if all are searched exactly.
    pub fn clusters(&self) -> usize {
        let clusters = self.segments.iter().filter_map(|segment| Some(segment.vectors()?.clusters()));
        clusters.max().unwrap_or(0)
    }

    /// The names of its columns of numbers.
    pub fn numbers(&self) -> &[String] {
        &self.numbers
    }

    /// What has been searched for before, if that is known.
    pub fn queries(&self) -> Option<&PastQueries> {
        self.queries.as_ref()
    }

    pub fn synonyms(&self) -> &[SynonymsOf] {
        &self.entries
    }

    pub fn lexical(&self) -> &Lexical {
        &self.lexical
    }

    pub fn ranker(&self) -> Option<&Ensemble> {
        self.ranker.as_ref()
    }

    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// (rows, rows that are left) of each segment.
    pub fn sizes(&self) -> Vec<(usize, usize)> {
        let left = |segment: &Segment| match &self.live {
            Some(live) => live.part(segment.first_row as usize, segment.len()).len(),
            None => segment.len(),
        };
        self.segments.iter().map(|segment| (segment.len(), left(segment))).collect()
    }

    /// The number of the segment that has a row, the segment, and its own number of that row.
    fn place(&self, row: u32) -> Result<(usize, &Segment, u32)> {
        let number = self.segments.partition_point(|segment| segment.first_row <= row).wrapping_sub(1);
        let found = self.segments.get(number).filter(|segment| ((row - segment.first_row) as usize) < segment.len());
        let segment = found.ok_or_else(|| Error::DamagedModel {
            model: self.name.clone(),
            reason: format!("row {row} does not exist"),
        })?;
        Ok((number, segment, row - segment.first_row))
    }

    /// The vector of a row; `None` without.
    pub fn vector(&self, row: u32) -> Result<Option<&[f32]>> {
        let (_, segment, row) = self.place(row)?;
        segment.vectors().map(|vectors| vectors.row(row)).transpose()
    }

    /// The numbers of a row, one for each of [`numbers`](Self::numbers); NaN where there is none.
    pub fn numbers_of(&self, row: u32) -> Result<&[f32]> {
        let (_, segment, row) = self.place(row)?;
        Ok(segment.numbers(row))
    }

    /// The number of the segment that has a row, and the row's digest.
    pub fn digest(&self, row: u32) -> Result<(usize, RowDigest)> {
        let (number, segment, row) = self.place(row)?;
        let digest = segment.digest(row).ok_or_else(|| Error::DamagedModel {
            model: self.name.clone(),
            reason: format!("row {row} has no digest"),
        })?;
        Ok((number, digest))
    }

    fn is_live(&self, row: u32) -> bool {
        self.live.as_ref().is_none_or(|live| live.contains(row))
    }

    /// All rows that have words of a text, in ascending order.
    pub fn matches(&self, text: &str, allowed: Option<&ItemSet>, progress: &dyn Progress) -> Result<Vec<u32>> {
        let allowed = allowed.or(self.live.as_ref());
        let is_allowed = |row: u32| allowed.is_none_or(|allowed| allowed.contains(row));
        self.lexical.matches(text, &self.synonyms, allowed.map(|_| &is_allowed as _), progress)
    }

    fn matching(&self, query: &Query, progress: &dyn Progress) -> Result<ItemSet> {
        let mut set = ItemSet::new(self.len());
        self.matches(query.text, query.allowed, progress)?.into_iter().for_each(|row| set.insert(row));
        Ok(set)
    }

    /// The row of an id.
    pub fn find(&self, id: &str) -> Option<u32> {
        // The newest segment first: of a row that was written again, the older ones are deleted.
        let rows = self.segments.iter().rev().filter_map(|segment| Some(segment.first_row + segment.find(id)?));
        rows.into_iter().find(|&row| self.is_live(row))
    }

    pub fn id(&self, row: u32) -> Result<&str> {
        let (_, segment, row) = self.place(row)?;
        segment.id(row)
    }

    /// The best `k` rows, best first, after the first `offset`.
    pub fn search(
        &self,
        fusion: Fusion,
        query: &Query,
        k: usize,
        offset: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<Found>> {
        let end = k.saturating_add(offset);
        let candidates = self.candidates(query, end.max(POOL).min(self.len()), progress)?;
        let ranked = match (fusion, &self.ranker) {
            (Fusion::Learned, Some(ranker)) => {
                let features = self.features(query, &candidates, progress)?;
                let scores = features.iter().map(|features| ranker.score(features));
                by_score(scores.zip(candidates).collect())
            }
            _ => fusion.rank(&candidates),
        };
        let ranked = ranked.into_iter().skip(offset).take(k);
        let found = ranked.map(|(score, c)| Found { row: c.row, score, lexical: c.lexical, cosine: c.cosine });
        Ok(found.collect())
    }

    /// The best `pool` rows of each leg, with what both say of them.
    pub fn candidates(&self, query: &Query, pool: usize, progress: &dyn Progress) -> Result<Vec<Candidate>> {
        let rows = query.allowed.or(self.live.as_ref());
        let is_allowed = |row: u32| rows.is_none_or(|allowed| allowed.contains(row));
        let allowed: Allowed = rows.map(|_| &is_allowed as _);
        let lexical = self.lexical.search(query.text, &self.synonyms, pool, allowed, progress)?;
        let mut found: Vec<Candidate> = lexical
            .iter()
            .zip(1..)
            .map(|(&(lexical, row), rank)| Candidate {
                row,
                lexical,
                lexical_rank: Some(rank),
                cosine: None,
                cosine_rank: None,
            })
            .collect();
        let Some(vector) = query.vector.filter(|_| self.dimensions > 0) else { return Ok(found) };
        if vector.len() != self.dimensions {
            return Err(Error::Dimensions { left: self.dimensions, right: vector.len() });
        }
        let unit = unit(vector);
        // What must or must not be in a row is for its words to say.
        let required = match has_operators(query.text)? {
            true => Some(self.matching(query, progress)?),
            false => None,
        };
        // What a filter or an operator leaves is searched exactly.
        let probes = if required.is_some() || query.allowed.is_some() || pool > MAX_PROBED { 0 } else { self.probes };
        let near = self.near(&unit, pool, probes, required.as_ref().or(rows), progress)?;
        found.sort_unstable_by_key(|candidate| candidate.row);
        let mut missing = Vec::new();
        for (&(cosine, row), rank) in near.iter().zip(1..) {
            match found.binary_search_by_key(&row, |candidate| candidate.row) {
                Ok(place) => (found[place].cosine, found[place].cosine_rank) = (Some(cosine), Some(rank)),
                Err(_) => missing.push((row, rank)),
            }
        }
        for candidate in found.iter_mut().filter(|candidate| candidate.cosine.is_none()) {
            candidate.cosine = Some(self.cosine(candidate.row, &unit)?);
        }
        // A row near in meaning may have some of the words too, below the lexical list.
        let rows: Vec<u32> = missing.iter().map(|(row, _)| *row).collect();
        let described = self.describe(query, &rows, progress)?;
        let ranked = described.into_iter().zip(missing);
        found.extend(ranked.map(|(candidate, (_, rank))| Candidate { cosine_rank: Some(rank), ..candidate }));
        Ok(found)
    }

    /// The best `k` (cosine, row) of all segments, best first: of the rows in the nearest `probes` clusters of each, or of all for 0.
    pub(crate) fn near(
        &self,
        unit: &[f32],
        k: usize,
        probes: usize,
        allowed: Option<&ItemSet>,
        progress: &dyn Progress,
    ) -> Result<Vec<(f32, u32)>> {
        let mut all = Vec::new();
        for segment in &self.segments {
            let Some(vectors) = segment.vectors() else { continue };
            let allowed = allowed.map(|allowed| allowed.part(segment.first_row as usize, segment.len()));
            let listed = Listed { excluded: &[], allowed: allowed.as_ref() };
            let k = k.min(segment.len());
            let found = match probes {
                0 => vectors.exact(unit, k, &listed, progress)?,
                _ => vectors.near(unit, k, probes, &listed, progress)?,
            };
            all.extend(found.into_iter().map(|(cosine, row)| (cosine, segment.first_row + row)));
        }
        all.sort_unstable_by(|(a, x), (b, y)| b.total_cmp(a).then(x.cmp(y)));
        all.truncate(k);
        Ok(all)
    }

    /// The cosine of a row and a vector of length 1; 0 if the row has no vector.
    fn cosine(&self, row: u32, unit: &[f32]) -> Result<f32> {
        Ok(self.vector(row)?.map_or(0.0, |vector| dot(vector, unit)))
    }

    /// What both legs say of some rows, whether they find them or not.
    pub fn describe(&self, query: &Query, rows: &[u32], progress: &dyn Progress) -> Result<Vec<Candidate>> {
        let unit = query.vector.map(unit);
        let scores = self.lexical.scores_of(query.text, &self.synonyms, rows, progress)?;
        let described = scores.into_iter().map(|scores| {
            let unit = unit.as_ref().filter(|_| self.dimensions > 0);
            let cosine = unit.map(|unit| self.cosine(scores.row, unit)).transpose()?;
            Ok(Candidate { row: scores.row, lexical: scores.score, lexical_rank: None, cosine, cosine_rank: None })
        });
        described.collect()
    }

    /// What a ranking is learned from, for each candidate: [`features`](super::features::features).
    pub fn features(&self, query: &Query, candidates: &[Candidate], progress: &dyn Progress) -> Result<Vec<Vec<f32>>> {
        let rows: Vec<u32> = candidates.iter().map(|candidate| candidate.row).collect();
        let scores = self.lexical.scores_of(query.text, &self.synonyms, &rows, progress)?;
        let numbers = rows.iter().map(|&row| self.numbers_of(row)).collect::<Result<Vec<_>>>()?;
        Ok(super::features::features(candidates, &scores, &numbers))
    }
}

/// Best first, ties by row.
fn by_score(mut ranked: Vec<(f32, Candidate)>) -> Vec<(f32, Candidate)> {
    ranked.sort_by(|(a, x), (b, y)| b.total_cmp(a).then(x.row.cmp(&y.row)));
    ranked
}

fn unit(vector: &[f32]) -> Vec<f32> {
    let mut unit = vector.to_vec();
    normalize(&mut unit);
    unit
}
