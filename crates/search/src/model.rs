//! A search index: the words of some rows, their vectors, and how both make one ranking.
//!
//! Its files are the ONNX graph, which scores the vectors of all rows for that of a query and holds them; the data file with ids and the
//! compressed copy of the vectors; and those of the lexical index. All are read in place from a memory map.

use bytes::Bytes;
use ndarray::{Array2, ArrayView2};

use super::fusion::{Candidate, Fusion};
use inner_products::{ItemFactors, ItemSet, Listed, quantized};
use kernels::dot::dot;
use kernels::matrix::rows_mut;
use kernels::statistics::normalize;
use lexical::{Allowed, Language, Lexical, LexicalBuilder, Synonyms, TextField, has_operators};
use onnx::IdTable;
use onnx::graph::{Axis, GraphBuilder};
use onnx::proto::data_type;
use onnx::stored::{DataWriter, Files};
use runtime::error::{Error, Result};
use runtime::mapped::Mapped;
use runtime::memory;
use runtime::progress::Progress;
use tabular::trees::Ensemble;

/// Rows that each leg contributes to a ranking at least.
pub const POOL: usize = 200;

/// The names of the graph and of the data file.
pub const GRAPH: &str = "model.onnx";
pub const DATA: &str = "data.safetensors";
/// That of a learned ranking.
const RANKER: &str = "ranker.safetensors";

/// Whether an index may have a file of this name.
pub fn is_file(name: &str) -> bool {
    [GRAPH, DATA, RANKER].contains(&name) || lexical::is_file(name)
}

/// The files of an index by name, the graph first.
pub type Packed = Vec<(String, Vec<u8>)>;

/// Collects rows.
pub struct IndexBuilder {
    ids: Vec<String>,
    lexical: LexicalBuilder,
    /// [rows, dimensions], each of length 1 or 0.
    vectors: Vec<f32>,
    dimensions: Option<usize>,
}

impl IndexBuilder {
    pub fn new(fields: Vec<TextField>, language: Language) -> Result<Self> {
        let lexical = LexicalBuilder::new(fields, language)?;
        Ok(Self { ids: Vec::new(), lexical, vectors: Vec::new(), dimensions: None })
    }

    pub fn rows(&self) -> usize {
        self.ids.len()
    }

    /// Adds a row with a text, or none, for each field.
    pub fn add(&mut self, id: String, texts: &[Option<&str>], progress: &dyn Progress) -> Result<()> {
        let row = u32::try_from(self.ids.len()).map_err(|_| Error::TooLarge {
            what: "search index".into(),
            needed: format!("{} rows", self.ids.len()),
            limit: format!("{} rows", u32::MAX),
            hint: "Split the source.".into(),
        })?;
        memory::reserve(&mut self.ids, 1)?;
        self.lexical.add(row, texts, progress)?;
        self.ids.push(id);
        Ok(())
    }

    /// The vectors of the next rows [rows, dimensions], in the order in which they were added. A row of zeros has no vector.
    pub fn add_vectors(&mut self, mut vectors: Array2<f32>) -> Result<()> {
        let dimensions = *self.dimensions.get_or_insert(vectors.ncols());
        if vectors.ncols() != dimensions {
            return Err(Error::Dimensions { left: dimensions, right: vectors.ncols() });
        }
        if let Some(row) = vectors.rows().into_iter().position(|row| row.iter().any(|x| !x.is_finite())) {
            let id = self.ids.get(self.vectors.len() / dimensions.max(1) + row).cloned().unwrap_or_default();
            return Err(Error::invalid(
                format!("embedding of the row with id \"{id}\" is not finite"),
                "Every element must be a finite number.",
            ));
        }
        rows_mut(vectors.view_mut()).for_each(normalize);
        memory::extend(&mut self.vectors, kernels::matrix::flat(vectors.view()))
    }

    /// The files.
    pub fn finish(self, threads: usize, progress: &dyn Progress) -> Result<Packed> {
        let (rows, d) = (self.ids.len(), self.dimensions.unwrap_or(0));
        let vectors = memory::shaped(if d > 0 { rows } else { 0 }, d, self.vectors)?;
        let mut order: Vec<u32> = (0..rows as u32).collect();
        order.sort_unstable_by(|&a, &b| self.ids[a as usize].cmp(&self.ids[b as usize]));
        let twice = order.windows(2).find(|pair| self.ids[pair[0] as usize] == self.ids[pair[1] as usize]);
        if let Some(pair) = twice {
            let id = &self.ids[pair[0] as usize];
            return Err(Error::invalid(format!("duplicate id \"{id}\""), "Ids must be unique."));
        }
        progress.check()?;
        let sorted: Vec<&str> = order.iter().map(|&row| self.ids[row as usize].as_str()).collect();
        let mut place = memory::filled(0u32, rows)?;
        order.iter().zip(0..).for_each(|(&row, rank)| place[row as usize] = rank);

        let mut data = DataWriter::default();
        data.ids("ids", &IdTable::from_sorted(&sorted));
        // From an id's rank to its row, and back.
        data.tensor("rows", &[rows], &order);
        data.tensor("places", &[rows], &place);
        quantized::write(&mut data, "vectors", vectors.view(), quantized::MIN_ITEMS, threads, progress)?;
        let graph = graph(vectors.view())?;
        let mut files = vec![(GRAPH.to_owned(), graph), (DATA.to_owned(), data.finish()?)];
        files.extend(self.lexical.finish(progress)?);
        Ok(files)
    }
}

/// `scores = vectors · query`
fn graph(vectors: ArrayView2<f32>) -> Result<Vec<u8>> {
    let (rows, d) = vectors.dim();
    let mut g = GraphBuilder::new("search");
    g.input("query", data_type::FLOAT, &[Axis::Fixed(d)]);
    let all = g.matrix("vectors", vectors);
    g.node_to("MatMul", &[&all, "query"], Vec::new(), &["scores"]);
    g.output("scores", data_type::FLOAT, &[Axis::Fixed(rows)]);
    g.encode()
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
    ids: IdTable,
    rows: Mapped<u32>,
    places: Mapped<u32>,
    vectors: Option<ItemFactors>,
    dimensions: usize,
    lexical: Lexical,
    synonyms: Synonyms,
    /// For [`Fusion::Learned`].
    ranker: Option<Ensemble>,
}

impl Model {
    /// `name` is for messages; `files` are those of [`Packed`], by name.
    pub fn open(name: &str, files: Vec<(String, Bytes)>) -> Result<Self> {
        let damaged = |reason: &str| Error::DamagedModel { model: name.into(), reason: reason.into() };
        let file = |wanted: &str| {
            let found = files.iter().find(|(name, _)| name == wanted).map(|(_, bytes)| bytes.clone());
            found.ok_or_else(|| damaged(&format!("{wanted} is missing")))
        };
        let data = file(DATA)?;
        let stored = Files::open(name, file(GRAPH)?, &data)?;
        let ids = stored.ids("ids")?;
        let ([rows], to_rows) = stored.tensor("rows")?;
        let ([places], to_places) = stored.tensor("places")?;
        if rows != ids.len() || places != ids.len() {
            return Err(damaged("its ids do not fit its rows"));
        }
        let (with_vectors, dimensions) = stored.initializer_matrix::<f32>("vectors")?.dim();
        let vectors = match dimensions {
            0 => None,
            _ if with_vectors != rows => return Err(damaged("its vectors do not fit its rows")),
            _ => Some(ItemFactors::open(&stored, "vectors", rows, dimensions)?),
        };
        let ranker = match files.iter().find(|(name, _)| name == RANKER) {
            Some((_, bytes)) => Some(ranker(name, bytes.clone())?),
            None => None,
        };
        // The cache has compared the files with what was written.
        let lexical = Lexical::open_intact(&[files]).map_err(|e| damaged(&e.to_string()))?;
        Ok(Self {
            name: name.into(),
            ids,
            rows: to_rows,
            places: to_places,
            vectors,
            dimensions,
            lexical,
            synonyms: Synonyms::default(),
            ranker,
        })
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The length of its vectors; 0 without.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    pub fn lexical(&self) -> &Lexical {
        &self.lexical
    }

    /// All rows that have words of a text, in ascending order.
    pub fn matches(&self, text: &str, allowed: Option<&ItemSet>, progress: &dyn Progress) -> Result<Vec<u32>> {
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
        self.rows.get(self.ids.find(id)? as usize).copied().filter(|&row| (row as usize) < self.len())
    }

    pub fn id(&self, row: u32) -> Result<&str> {
        let id = self.places.get(row as usize).and_then(|&place| self.ids.get(place));
        id.ok_or_else(|| Error::DamagedModel { model: self.name.clone(), reason: format!("row {row} has no id") })
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
        let is_allowed = |row: u32| query.allowed.is_none_or(|allowed| allowed.contains(row));
        let allowed: Allowed = query.allowed.map(|_| &is_allowed as _);
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
        let (Some(vectors), Some(vector)) = (&self.vectors, query.vector) else { return Ok(found) };
        if vector.len() != self.dimensions {
            return Err(Error::Dimensions { left: self.dimensions, right: vector.len() });
        }
        let unit = unit(vector);
        // What must or must not be in a row is for its words to say.
        let required = match has_operators(query.text)? {
            true => Some(self.matching(query, progress)?),
            false => None,
        };
        let listed = Listed { excluded: &[], allowed: required.as_ref().or(query.allowed) };
        let near = vectors.best(&unit, pool, &listed, progress)?;
        found.sort_unstable_by_key(|candidate| candidate.row);
        let mut missing = Vec::new();
        for (&(cosine, row), rank) in near.iter().zip(1..) {
            match found.binary_search_by_key(&row, |candidate| candidate.row) {
                Ok(place) => (found[place].cosine, found[place].cosine_rank) = (Some(cosine), Some(rank)),
                Err(_) => missing.push((row, rank)),
            }
        }
        for candidate in found.iter_mut().filter(|candidate| candidate.cosine.is_none()) {
            candidate.cosine = Some(dot(vectors.row(candidate.row)?, &unit));
        }
        // A row near in meaning may have some of the words too, below the lexical list.
        let rows: Vec<u32> = missing.iter().map(|(row, _)| *row).collect();
        let described = self.describe(query, &rows, progress)?;
        let ranked = described.into_iter().zip(missing);
        found.extend(ranked.map(|(candidate, (_, rank))| Candidate { cosine_rank: Some(rank), ..candidate }));
        Ok(found)
    }

    /// What both legs say of some rows, whether they find them or not.
    pub fn describe(&self, query: &Query, rows: &[u32], progress: &dyn Progress) -> Result<Vec<Candidate>> {
        let unit = query.vector.map(unit);
        let scores = self.lexical.scores_of(query.text, &self.synonyms, rows, progress)?;
        let described = scores.into_iter().map(|scores| {
            let cosine = match (&self.vectors, &unit) {
                (Some(vectors), Some(unit)) => Some(dot(vectors.row(scores.row)?, unit)),
                _ => None,
            };
            Ok(Candidate { row: scores.row, lexical: scores.score, lexical_rank: None, cosine, cosine_rank: None })
        });
        described.collect()
    }

    /// What a ranking is learned from, for each candidate: the lexical score, also as a part of the query's greatest; the cosine; the reciprocals
    /// of both ranks; the part of the query's words; the length of the query; and the score of each field.
    pub fn features(&self, query: &Query, candidates: &[Candidate], progress: &dyn Progress) -> Result<Vec<Vec<f32>>> {
        let rows: Vec<u32> = candidates.iter().map(|candidate| candidate.row).collect();
        let scores = self.lexical.scores_of(query.text, &self.synonyms, &rows, progress)?;
        let greatest = candidates.iter().map(|c| c.lexical).fold(f32::MIN_POSITIVE, f32::max);
        let words = query.text.split_whitespace().count() as f32;
        let reciprocal = |rank: Option<u32>| rank.map_or(0.0, |rank| 1.0 / (1.0 + rank as f32));
        let features = candidates.iter().zip(scores).map(|(c, scores)| {
            let mut features = vec![
                c.lexical,
                c.lexical / greatest,
                c.cosine.unwrap_or(0.0),
                reciprocal(c.lexical_rank),
                reciprocal(c.cosine_rank),
                scores.share,
                words,
            ];
            features.extend(scores.fields);
            features
        });
        Ok(features.collect())
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

/// The file of a learned ranking.
pub fn packed_ranker(ranker: &Ensemble) -> Result<(String, Vec<u8>)> {
    let mut data = DataWriter::default();
    data.tensor("roots", &[ranker.roots.len()], &ranker.roots);
    data.tensor("columns", &[ranker.columns.len()], &ranker.columns);
    data.tensor("left", &[ranker.left.len()], &ranker.left);
    data.tensor("numbers", &[ranker.numbers.len()], &ranker.numbers);
    data.tensor("base", &[1], [ranker.base]);
    Ok((RANKER.to_owned(), data.finish()?))
}

fn ranker(name: &str, bytes: Bytes) -> Result<Ensemble> {
    let files = Files::open(name, Bytes::new(), &bytes)?;
    let ([_], roots) = files.tensor::<u32, 1>("roots")?;
    let ([_], columns) = files.tensor::<u32, 1>("columns")?;
    let ([_], left) = files.tensor::<u32, 1>("left")?;
    let ([_], numbers) = files.tensor::<f32, 1>("numbers")?;
    let ([_], base) = files.tensor::<f32, 1>("base")?;
    let ensemble = Ensemble {
        roots: roots.to_vec(),
        columns: columns.to_vec(),
        left: left.to_vec(),
        numbers: numbers.to_vec(),
        base: base.first().copied().unwrap_or(0.0),
    };
    if !ensemble.is_sound() {
        return Err(files.damaged("the trees of its ranking are inconsistent"));
    }
    Ok(ensemble)
}
