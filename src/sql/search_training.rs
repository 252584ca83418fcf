//! Training a search index on a query, and taking in what has changed in it since.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use pgrx::notice;
use pgrx::prelude::*;
use serde_json::{Map, Value, json};

use super::embedding;
use super::given;
use crate::pg::errors;
use crate::pg::id_type::IdType;
use crate::pg::identity::{as_author, as_role, search_path};
use crate::pg::interrupts::Statement;
use crate::pg::json::JsonB;
use crate::pg::settings;
use crate::service::cache_folder::FileEntry;
use crate::service::catalog;
use crate::service::catalog::versions;
use crate::service::catalog::{NewVersion, Privilege, Stamp, Task};
use crate::service::loaded;
use crate::service::loaded::{Ready, SearchIndex};
use crate::service::search_source;
use crate::service::search_source::{Passages, Previous, Read};
use ::embedding::text::Role;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::Progress;
use search::events::{Event, Events};
use search::{
    Contents, Fusion, Judged, Judgements, Kept, Model, Options, PastQueries, QUERIES, SynonymsOf, folder_name, probing,
};

/// Rows that the search of vectors is tried with.
const SAMPLED_ROWS: usize = 64;

#[pg_extern(sql = false)]
fn train_search(
    name: Option<&str>,
    source: Option<&str>,
    options: Option<JsonB>,
    embedding_model: Option<&str>,
    recommender: Option<&str>,
    judgements: Option<&str>,
    events: Option<&str>,
    seed: Option<i64>,
    keep: Option<i32>,
) -> errors::Result<i32> {
    let began = Instant::now();
    catalog::require_writable();
    let (name, source) = (given(name, "name")?, given(source, "source")?);
    let statement = Statement::new("train_search", name);
    let options = given(options, "options")?.0;
    let asked = Options::read(&options)?;
    let seed = given(seed, "seed")? as u64;
    let keep = versions::kept(keep)?;
    catalog::require_author(name)?;
    // A wrong name should not cost a scan.
    if let Some(recommender) = recommender {
        super::recommendation::recommender(recommender, &statement)?;
    }
    let version = embedding_model.map(|model| catalog::stamp(model, Privilege::Serve)).transpose()?;
    let before = before(name, embedding_model.zip(version), &statement)?;
    let previous = before.as_deref().and_then(as_index).map(|index| Previous {
        model: &index.model,
        stays: false,
        has_same_vectors: true,
    });
    let embed = |texts: &[&str], progress: &dyn Progress| match embedding_model {
        Some(model) => embedding::embed_texts(model, texts, progress),
        None => Err(Error::Internal("there is no embedding model".into())),
    };
    let passages = if embedding_model.is_some() { Passages::Embedded(&embed) } else { Passages::Unused };
    let read = search_source::read(source, &asked, &passages, previous, &statement)?;
    // The source is SQL, which may have changed the model while it was read.
    if embedding_model.map(|model| catalog::stamp(model, Privilege::Serve)).transpose()? != version {
        let message =
            format!("model \"{}\" was changed while the source was read", embedding_model.unwrap_or_default());
        return Err(Error::invalid(message, "Try again.").into());
    }
    let new = Version {
        name,
        source,
        options,
        embedding_model,
        version,
        recommender,
        graded: Graded { judgements, events },
        search_path: search_path()?,
        began,
    };
    let mut made = Made::of(read, &statement)?;
    made.probe(name, embedding_model, None, &statement)?;
    let found = fitted(&new, &made, &asked, seed, &statement)?;
    let number = store(&new, &made, &found, None, true, &statement)?;
    versions::keep(name, keep)?;
    Ok(number)
}

/// Takes in what is new in the source of an index, changed or deleted. Returns the version in use if nothing is.
pub fn refresh(index: &SearchIndex, in_use: bool, keep: i32, began: Instant, statement: &Statement) -> Result<i32> {
    let (entry, config) = (&index.entry, &index.entry.config);
    let name = entry.name.as_str();
    let text = |key: &str| config[key].as_str();
    let source = entry.source.as_deref().ok_or_else(|| {
        let hint = "Train a search index of this name with reco.train_search.";
        Error::invalid(format!("model \"{name}\" has no stored source"), hint)
    })?;
    let asked = Options::read(&config["options"])?;
    let search_path = text("search_path").unwrap_or_default().to_owned();
    let (embedding_model, owner) = (text("embedding_model"), entry.stamp.owner);
    let version = || as_role(owner, || embedding_model.map(|m| catalog::stamp(m, Privilege::Serve)).transpose());
    let before = version()?;
    let has_same_vectors = is_made_by(config, before);
    let previous = Some(Previous { model: &index.model, stays: has_same_vectors, has_same_vectors });
    let passages = if embedding_model.is_some() { Passages::Kept } else { Passages::Unused };
    let mut read =
        as_author(owner, &search_path, || search_source::read(source, &asked, &passages, previous, statement))?;
    if let Some(model) = embedding_model {
        let embed =
            |texts: &[&str], progress: &dyn Progress| as_role(owner, || embedding::embed_texts(model, texts, progress));
        read.embed(&embed, statement)?;
    }
    if version()? != before {
        return Err(Error::invalid(format!("a model of \"{name}\" was changed while it was refreshed"), "Try again."));
    }
    let new = Version {
        name,
        source,
        options: config["options"].clone(),
        embedding_model,
        version: before,
        recommender: text("recommender"),
        graded: Graded { judgements: text("judgements"), events: text("events") },
        search_path,
        began,
    };
    if has_same_vectors && read.is_same() && read.synonyms == index.model.synonyms() {
        return Ok(entry.stamp.version);
    }
    let mut made = Made::of(read, statement)?;
    made.has_vectors |= index.model.dimensions() > 0;
    as_role(owner, || made.probe(name, embedding_model, Some(&index.model), statement))?;
    let found = Fitted {
        fusion: index.fusion,
        own: made.pack(index.fusion, index.model.ranker())?,
        measured: config["judged"].clone(),
    };
    let number = store(&new, &made, &found, Some(index), in_use, statement)?;
    versions::keep(name, keep)?;
    Ok(number)
}

/// A version to make.
struct Version<'a> {
    name: &'a str,
    source: &'a str,
    options: Value,
    embedding_model: Option<&'a str>,
    /// That of the embedding model.
    version: Option<Stamp>,
    recommender: Option<&'a str>,
    graded: Graded<'a>,
    search_path: String,
    began: Instant,
}

/// The queries that a ranking is fitted on.
#[derive(Clone, Copy)]
struct Graded<'a> {
    judgements: Option<&'a str>,
    events: Option<&'a str>,
}

/// The segments of a version.
struct Made {
    segments: Vec<Kept>,
    /// The files of the new one.
    files: Vec<(String, Bytes)>,
    numbers: Vec<String>,
    synonyms: Vec<SynonymsOf>,
    /// Clusters of vectors that a search reads; 0 for all.
    probes: u32,
    /// Texts that may be searched for.
    sample: Vec<String>,
    id_type: IdType,
    has_own_vectors: bool,
    has_vectors: bool,
    /// For the metadata.
    metrics: Map<String, Value>,
}

impl Made {
    fn of(read: Read, progress: &dyn Progress) -> Result<Self> {
        let mut metrics = Map::new();
        let mut measure = |name: &str, value: usize| drop(metrics.insert(name.into(), value.into()));
        measure("rows", read.rows);
        measure("written", read.builder.rows());
        measure("embedded", read.embedded);
        measure("removed", read.update.as_ref().map_or(0, |update| update.gone()));
        let fields = read.builder.fields().iter().map(|field| (field.name.clone(), field.weight.into()));
        metrics.insert("fields".into(), Value::Object(fields.collect()));
        let sample = read.sampled();
        let mut segments = read.update.map(|update| update.kept()).unwrap_or_default();
        let (mut files, has_vectors) = (Vec::new(), read.builder.has_vectors());
        if read.builder.rows() > 0 {
            let new = read.builder.finish(settings::threads(), progress)?;
            segments.push(Kept { id: new.id, deleted: Vec::new() });
            files.extend(new.files.into_iter().map(|(name, bytes)| (name, bytes.into())));
        }
        metrics.insert("segments".into(), segments.len().into());
        let Read { numbers, synonyms, id_type, has_own_vectors, .. } = read;
        let probes = 0;
        Ok(Self { segments, files, numbers, synonyms, probes, sample, id_type, has_own_vectors, has_vectors, metrics })
    }

    /// Finds how many clusters of vectors a search should read: as many as the segment that needs most, the new one or one of those `before`.
    fn probe(
        &mut self,
        name: &str,
        embedding_model: Option<&str>,
        before: Option<&Model>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let known = before.filter(|model| model.clusters() > 0).map(|model| model.probes() as u32);
        self.probes = known.unwrap_or(0);
        let Some(new) = self.segments.last().filter(|_| !self.files.is_empty()) else { return Ok(()) };
        let own = self.pack_of(std::slice::from_ref(new), Fusion::ReciprocalRanks, None)?;
        let model = Model::open(name, [own, self.files.clone()].concat())?;
        if model.clusters() == 0 {
            return Ok(());
        }
        let queries: Vec<Vec<f32>> = match embedding_model.filter(|_| !self.sample.is_empty()) {
            Some(embedding_model) => {
                let texts: Vec<&str> = self.sample.iter().map(String::as_str).collect();
                let vectors = embedding::embed_as(embedding_model, &texts, Role::Query, progress)?;
                vectors.rows().into_iter().map(|vector| vector.to_vec()).collect()
            }
            // Rows themselves, where there are no texts of them that the vectors were made of.
            None => {
                let rows = (0..model.count() as u32).step_by(model.count().div_ceil(SAMPLED_ROWS));
                let vectors = rows.map(|row| Ok(model.vector(row)?.map(<[f32]>::to_vec)));
                vectors.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect()
            }
        };
        let found = probing(&model, &queries, progress)?;
        self.probes = match (known, found.probes as u32) {
            (None, found) => found,
            // 0 stands for all.
            (Some(0), _) | (_, 0) => 0,
            (Some(known), found) => known.max(found),
        };
        let vectors = json!({ "clusters": model.clusters(), "probes": found.probes, "recall@10": found.recall });
        self.metrics.insert("vectors".into(), vectors);
        Ok(())
    }

    /// The files besides those of segments.
    fn pack(&self, fusion: Fusion, ranker: Option<&search::Ensemble>) -> Result<Vec<(String, Bytes)>> {
        self.pack_of(&self.segments, fusion, ranker)
    }

    /// Those of an index of some of the segments.
    fn pack_of(
        &self,
        segments: &[Kept],
        fusion: Fusion,
        ranker: Option<&search::Ensemble>,
    ) -> Result<Vec<(String, Bytes)>> {
        let contents = Contents {
            segments,
            numbers: &self.numbers,
            synonyms: &self.synonyms,
            probes: self.probes,
            fusion,
            ranker,
        };
        Ok(contents.pack()?.into_iter().map(|(name, bytes)| (name, bytes.into())).collect())
    }
}

/// An index that is not stored.
pub fn opened(read: Read, progress: &dyn Progress) -> Result<Model> {
    let made = Made::of(read, progress)?;
    Model::open("", [made.pack(Fusion::ReciprocalRanks, None)?, made.files].concat())
}

/// How the legs are fused.
struct Fitted {
    fusion: Fusion,
    /// The files besides those of segments.
    own: Vec<(String, Bytes)>,
    measured: Value,
}

/// Finds the fusion of a new index.
fn fitted(new: &Version, made: &Made, asked: &Options, seed: u64, statement: &Statement) -> Result<Fitted> {
    let fusion = asked.fusion().unwrap_or(Fusion::ReciprocalRanks);
    let own = made.pack(fusion, None)?;
    let model = Model::open(new.name, [own.clone(), made.files.clone()].concat())?;
    if let Some(name) = new.embedding_model.filter(|_| made.has_own_vectors && model.dimensions() > 0) {
        let vectors = embedding::embed_as(name, &[""], Role::Query, statement)?;
        if vectors.ncols() != model.dimensions() {
            let (own, other) = (model.dimensions(), vectors.ncols());
            return Err(Error::invalid(
                format!("embeddings of the source have {own} dimensions, those of model \"{name}\" {other}"),
                "Pass the model that the embeddings were made by.",
            ));
        }
    }
    let mut judged = match (asked.fusion(), new.graded) {
        (None, Graded { judgements: None, events: None }) | (Some(_), _) => {
            return Ok(Fitted { fusion, own, measured: Value::Null });
        }
        // What people say counts more than what they did.
        (None, Graded { judgements: Some(judgements), .. }) => judged(&model, judgements, statement)?,
        (None, Graded { events: Some(events), .. }) => clicked(&model, events, asked, statement)?,
    };
    let counts: Vec<(String, u64)> = judged.iter().map(|query| (query.text.clone(), query.occurrences)).collect();
    let frequent = PastQueries::most_frequent(&counts, statement)?;
    if let Some(name) = new.embedding_model.filter(|_| model.dimensions() > 0) {
        let texts: Vec<&str> = judged.iter().map(|query| query.text.as_str()).collect();
        let vectors = embedding::embed_as(name, &texts, Role::Query, statement)?;
        judged.iter_mut().zip(vectors.rows()).for_each(|(query, vector)| query.vector = Some(vector.to_vec()));
    }
    let found = search::fit(&model, &judged, seed, settings::threads(), statement)?;
    let mut own = made.pack(found.fusion, found.ranker.as_ref())?;
    let places: HashMap<&str, usize> =
        judged.iter().zip(0..).map(|(query, place)| (query.text.as_str(), place)).collect();
    let mut vectors = memory::matrix(frequent.len(), model.dimensions(), 0f32)?;
    for (mut row, (text, _)) in vectors.rows_mut().into_iter().zip(&frequent) {
        let vector = places.get(text.as_str()).and_then(|&place| judged[place].vector.as_ref());
        row.iter_mut().zip(vector.into_iter().flatten()).for_each(|(to, &value)| *to = value);
    }
    own.push((QUERIES.to_owned(), PastQueries::pack(&frequent, vectors)?.into()));
    Ok(Fitted { fusion: found.fusion, own, measured: found.measured })
}

/// Stores a version. `refreshes` is the index that it shares segments with.
fn store(
    new: &Version,
    made: &Made,
    found: &Fitted,
    refreshes: Option<&SearchIndex>,
    in_use: bool,
    statement: &Statement,
) -> Result<i32> {
    let by_model = new.version.zip(new.embedding_model).filter(|_| made.has_vectors);
    let config = json!({
        "options": new.options,
        "id_type": made.id_type.name(),
        "embedding_model": by_model.map(|(_, model)| model),
        "embedding_version": by_model.map(|(version, _)| version.version),
        "embedding_created": by_model.map(|(version, _)| version.created),
        "recommender": new.recommender,
        "judgements": new.graded.judgements,
        "events": new.graded.events,
        "judged": found.measured,
        "fusion": found.fusion,
        "search_path": new.search_path,
    });
    let mut metrics = made.metrics.clone();
    metrics.insert("fusion".into(), json!(found.fusion));
    metrics.insert("judgements".into(), found.measured.clone());
    metrics.insert("seconds".into(), new.began.elapsed().as_secs_f64().into());
    let kept: Vec<String> = made.segments.iter().map(|kept| folder_name(kept.id)).collect();
    let shared = refreshes.map(|index| index.entry.files.iter()).into_iter().flatten();
    let shared = shared.filter(|file| file.name == QUERIES || kept.iter().any(|folder| *folder == file.split().0));
    let shared: Vec<FileEntry> = shared.cloned().collect();
    let files = found.own.iter().chain(&made.files).map(|(name, bytes)| (name.as_str(), &bytes[..]));
    let version = NewVersion {
        name: new.name,
        refreshes: refreshes.map(|index| index.entry.id),
        task: Task::Search,
        algorithm: Some("hybrid"),
        config: &config,
        source: Some(new.source),
        metrics: Some(&Value::Object(metrics)),
        files: &files.collect::<Vec<_>>(),
        shared: &shared,
        in_use,
    };
    catalog::insert(&version, statement)
}

/// The index of this name, if its vectors can be taken over: those of texts that have not changed are not made again.
fn before(name: &str, embedding: Option<(&str, Stamp)>, progress: &dyn Progress) -> Result<Option<Rc<Ready>>> {
    let Some((model, version)) = embedding else { return Ok(None) };
    match loaded::model_for(name, Privilege::Serve, progress) {
        Ok(ready) => {
            let is_same = as_index(&ready).is_some_and(|index| {
                index.entry.config["embedding_model"] == json!(model) && is_made_by(&index.entry.config, Some(version))
            });
            Ok(is_same.then_some(ready))
        }
        Err(Error::Canceled) => Err(Error::Canceled),
        // There is none, or it is damaged: a new one helps.
        Err(_) => Ok(None),
    }
}

pub fn as_index(ready: &Ready) -> Option<&SearchIndex> {
    match ready {
        Ready::Search(index) => Some(index),
        _ => None,
    }
}

/// Whether this version of the embedding model made the vectors of an index.
pub fn is_made_by(config: &Value, version: Option<Stamp>) -> bool {
    config["embedding_version"] == json!(version.map(|version| version.version))
        && config["embedding_created"] == json!(version.map(|version| version.created))
}

/// The judged queries with the rows of the index that have grades. Ids that the index does not know are left out, with a notice.
pub fn judged(model: &search::Model, query: &str, progress: &dyn Progress) -> Result<Vec<Judged>> {
    let (mut all, mut unknown) = (0, 0);
    let mut by_query: BTreeMap<String, Vec<(u32, f32)>> = BTreeMap::new();
    search_source::judgements(query, progress, |text, id, grade| {
        all += 1;
        let grades = by_query.entry(text).or_default();
        match model.find(&id) {
            Some(row) => memory::push(grades, (row, grade)),
            None => {
                unknown += 1;
                Ok(())
            }
        }
    })?;
    let judged = by_query.into_iter();
    let judged: Vec<Judged> = judged
        .map(|(text, grades)| Judged { text, vector: None, judgements: Judgements::new(grades), occurrences: 1 })
        .collect();
    if unknown > 0 {
        notice!("{unknown} of {all} judgements are of ids that the index does not have");
    }
    Ok(judged)
}

/// The most frequent queries of events, with the grades that these give the rows of the index, in the order of their texts.
fn clicked(model: &Model, query: &str, asked: &Options, progress: &dyn Progress) -> Result<Vec<Judged>> {
    let (mut all, mut unknown, mut read) = (0, 0, Events::default());
    let (mut numbers, mut queries) = (HashMap::<String, u32>::new(), Vec::<(String, u64)>::new());
    search_source::events(query, progress, |text, id, event, position| {
        all += 1;
        let number = match numbers.get(&text) {
            Some(&number) => number,
            None => {
                memory::push(&mut queries, (text.clone(), 0))?;
                numbers.insert(text, queries.len() as u32 - 1);
                queries.len() as u32 - 1
            }
        };
        queries[number as usize].1 += 1;
        let weight = asked.event_weight(event)?;
        match model.find(&id) {
            Some(row) => read.add(Event { query: number, row, position, weight }),
            None => unknown += 1,
        }
        Ok(())
    })?;
    if unknown > 0 {
        notice!("{unknown} of {all} events are of ids that the index does not have");
    }
    let frequent = PastQueries::most_frequent(&queries, progress)?;
    drop(queries);
    let mut by_query: HashMap<u32, Vec<(u32, f32)>> =
        frequent.iter().filter_map(|(text, _)| Some((*numbers.get(text)?, Vec::new()))).collect();
    for (query, row, grade) in read.grades(progress)? {
        progress.check()?;
        if let Some(grades) = by_query.get_mut(&query) {
            memory::push(grades, (row, grade))?;
        }
    }
    let judged = frequent.into_iter().filter_map(|(text, occurrences)| {
        let grades = by_query.remove(numbers.get(&text)?)?;
        let is_liked = grades.iter().any(|(_, grade)| *grade > 0.0);
        is_liked.then(|| Judged { text, vector: None, judgements: Judgements::new(grades), occurrences })
    });
    let mut judged: Vec<Judged> = judged.collect();
    judged.sort_unstable_by(|a, b| a.text.cmp(&b.text));
    Ok(judged)
}
