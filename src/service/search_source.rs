//! The rows of a search index: an id, texts, and perhaps numbers and a vector.

use std::collections::{BTreeMap, HashMap};

use ndarray::Array2;
use pgrx::notice;

use crate::pg::foreign::InAnothersName;
use crate::pg::id_type::IdType;
use crate::pg::identity::{ReadOnly, as_author};
use crate::pg::row::{Kind, is_number, is_text, optional, required};
use crate::pg::source::{ResultColumn, Source, as_subquery};
use crate::service::catalog::Entry;
use interactions::Id;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::Progress;
use search::{Met, Model, Options, RowDigest, SegmentBuilder, SynonymsOf, TextField, Update, weight_of};

/// Rows whose texts are embedded together.
const WINDOW: usize = 4096;
/// Bytes of a row that a model gets: more than it reads.
const MAX_PASSAGE: usize = 32 << 10;

/// Texts that the search of vectors is tried with, and the first words of a text that they come from.
const SAMPLE: usize = 128;
const EXCERPTED: usize = 20;
/// Rows of synonyms.
const MAX_SYNONYMS: usize = 10_000;
/// Rows of events.
const MAX_EVENTS: usize = 10_000_000;
/// Columns of numbers.
const MAX_NUMBERS: usize = 32;
/// Rows of judgements, and of segments.
const MAX_JUDGEMENTS: usize = 1_000_000;

const ID: &str = "id";
const EMBEDDING: &str = "embedding";
/// What an event is where there is no column that says it.
const CLICK: &str = "click";

/// Makes a vector of each of some texts.
pub type Embed<'a> = &'a dyn Fn(&[&str], &dyn Progress) -> Result<Array2<f32>>;

/// What becomes of passages, unless the source has vectors of its own.
pub enum Passages<'a> {
    /// They have no vectors.
    Unused,
    /// Their vectors are made as they are read.
    Embedded(Embed<'a>),
    /// They wait for [`Read::embed`]: models are not run in the middle of a query that runs in another's name.
    Kept,
}

/// The index that a source was read into before.
#[derive(Clone, Copy)]
pub struct Previous<'a> {
    pub model: &'a Model,
    /// Whether rows that have not changed stay where they are.
    pub stays: bool,
    /// Whether the same passage has the same vector as before.
    pub has_same_vectors: bool,
}

/// A source that has been read.
pub struct Read<'a> {
    pub builder: SegmentBuilder,
    /// The names of the columns of numbers.
    pub numbers: Vec<String>,
    /// The type of its ids.
    pub id_type: IdType,
    /// Rows of the source.
    pub rows: usize,
    /// Passages whose vectors were made.
    pub embedded: usize,
    /// Whether it has vectors of its own.
    pub has_own_vectors: bool,
    pub update: Option<Update<'a>>,
    pub synonyms: Vec<SynonymsOf>,
    /// Words of texts, such as people search for, by the digests of their rows: the least of these are a sample of all.
    sample: BTreeMap<u64, String>,
    /// Rows whose passages wait.
    waiting: Vec<(usize, String)>,
}

/// Where the columns of a source are.
struct Places {
    id: usize,
    /// [fields]
    texts: Vec<usize>,
    numbers: Vec<usize>,
    vector: Option<usize>,
    /// Fields by weight: a model reads the beginning of a long text.
    by_weight: Vec<usize>,
}

/// Reads `query` with the current privileges into a segment of an index.
pub fn read<'a>(
    query: &str,
    options: &Options,
    passages: &Passages,
    previous: Option<Previous<'a>>,
    progress: &dyn Progress,
) -> Result<Read<'a>> {
    // The same restrictions as for a filter, which reads it again.
    let as_when_filtered = || (ReadOnly::begin(), InAnothersName::begin());
    let (mut source, columns) = {
        let _guards = as_when_filtered();
        Source::open_columns("source", query)?
    };
    let (fields, places) = look_up(&columns, &source.names(), options)?;
    let numbers: Vec<String> = places.numbers.iter().map(|&place| columns[place].name.clone()).collect();
    let update = previous.map(|previous| {
        let model = previous.model;
        let stays = previous.stays && model.lexical().fields() == fields && model.numbers() == numbers;
        (Update::new(model, stays, previous.has_same_vectors), stays.then_some(model.dimensions()))
    });
    let dimensions = update.as_ref().and_then(|(_, kept)| *kept).filter(|&d| d > 0);
    let is_sampled = !matches!(passages, Passages::Unused);
    let has_passages = places.vector.is_none() && is_sampled;
    let mut read = Read {
        builder: SegmentBuilder::new(fields, options.language()?, numbers.len(), dimensions)?,
        numbers,
        id_type: IdType::of(columns[places.id].type_oid).unwrap_or(IdType::Text),
        rows: 0,
        embedded: 0,
        has_own_vectors: places.vector.is_some(),
        update: update.map(|(update, _)| update),
        synonyms: Vec::new(),
        sample: BTreeMap::new(),
        waiting: Vec::new(),
    };
    loop {
        let guards = as_when_filtered();
        let fetched = source.fetch(WINDOW, |row| {
            progress.check()?;
            read.rows += 1;
            let null = || Error::NullColumn { column: ID.into(), row: read.rows };
            let id = Id::to_text(row.field(places.id).ok_or_else(null)?.id()?);
            let texts = places.texts.iter().map(|&place| row.field(place).map(|field| field.text()).transpose());
            let texts: Vec<Option<&str>> = texts.collect::<Result<_>>()?;
            let number = |&place: &usize| row.field(place).map_or(Ok(f32::NAN), |field| Ok(field.number()? as f32));
            let numbers: Vec<f32> = places.numbers.iter().map(number).collect::<Result<_>>()?;
            let vector = places.vector.and_then(|place| row.field(place)).map(|field| field.vector()).transpose()?;
            let passage = has_passages.then(|| passage(places.by_weight.iter().filter_map(|&field| texts[field])));
            let digest = RowDigest::new(&texts, &numbers, passage.as_deref(), vector.as_deref());
            if is_sampled {
                read.sample(digest, places.by_weight.iter().find_map(|&field| texts[field]).unwrap_or_default());
            }
            read.take(id, &texts, &numbers, vector, passage, digest, progress)
        })?;
        drop(guards);
        if fetched == 0 {
            break;
        }
        if let Passages::Embedded(embed) = passages {
            read.embed(embed, progress)?;
        }
        progress.report("rows read from source", read.rows, 0);
    }
    if read.rows == 0 {
        return Err(super::dataset::empty_query("source"));
    }
    if let Some(query) = options.synonyms() {
        read.synonyms = synonyms(query, progress)?;
    }
    Ok(read)
}

impl Read<'_> {
    /// Whether the source is as it was.
    pub fn is_same(&self) -> bool {
        self.builder.rows() == 0 && self.update.as_ref().is_some_and(|update| update.gone() == 0)
    }

    /// Adds a row, unless it stays where it is.
    fn take(
        &mut self,
        id: String,
        texts: &[Option<&str>],
        numbers: &[f32],
        vector: Option<Vec<f32>>,
        passage: Option<String>,
        digest: RowDigest,
        progress: &dyn Progress,
    ) -> Result<()> {
        let met = self.update.as_mut().map(|update| update.meet(&id, digest)).transpose()?;
        if met == Some(Met::Same) {
            return Ok(());
        }
        let row = self.builder.rows();
        self.builder.add(id, texts, numbers, digest, progress)?;
        let before = match (met, &self.update) {
            (Some(Met::Write { vector_of: Some(before) }), Some(update)) => update.vector(before)?,
            _ => None,
        };
        match (before, vector, passage) {
            (Some(before), ..) => self.builder.copy_vector(row, before),
            (None, Some(vector), _) => self.builder.set_vector(row, &vector),
            (None, None, Some(passage)) => memory::push(&mut self.waiting, (row, passage)),
            (None, None, None) => Ok(()),
        }
    }

    /// Takes words of a row's text into the sample.
    fn sample(&mut self, digest: RowDigest, text: &str) {
        let is_taken = |last: u64| digest.row < last || self.sample.len() < SAMPLE;
        if !text.is_empty() && self.sample.last_key_value().is_none_or(|(last, _)| is_taken(*last)) {
            self.sample.insert(digest.row, excerpt(text, digest.row.rotate_right(32)));
            if self.sample.len() > SAMPLE {
                self.sample.pop_last();
            }
        }
    }

    /// Some texts that may be searched for; none without an embedding model.
    pub fn sampled(&self) -> Vec<String> {
        self.sample.values().cloned().collect()
    }

    /// Makes the vectors of the passages that wait.
    pub fn embed(&mut self, embed: Embed, progress: &dyn Progress) -> Result<()> {
        for window in std::mem::take(&mut self.waiting).chunks(WINDOW) {
            let texts: Vec<&str> = window.iter().map(|(_, passage)| passage.as_str()).collect();
            let vectors = embed(&texts, progress)?;
            for ((row, _), vector) in window.iter().zip(vectors.rows()) {
                self.builder.set_vector(*row, &vector.to_vec())?;
            }
            self.embedded += texts.len();
        }
        Ok(())
    }
}

/// The fields of an index, and the places of the columns in its source.
fn look_up(columns: &[ResultColumn], names: &str, options: &Options) -> Result<(Vec<TextField>, Places)> {
    let place = |name: &str| columns.iter().position(|column| column.name == name);
    let missing = |name: &str| Error::MissingColumn { column: name.into(), found: names.into() };
    let id = place(ID).ok_or_else(|| missing(ID))?;
    let fields: Vec<TextField> = match options.fields()? {
        Some(fields) => fields,
        None => {
            let texts = columns.iter().filter(|column| column.name != ID && is_text(column.type_oid));
            texts.map(|column| TextField::new(column.name.clone(), weight_of(&column.name))).collect()
        }
    };
    let mut texts = Vec::new();
    for field in &fields {
        let place = place(&field.name).ok_or_else(|| missing(&field.name))?;
        if !is_text(columns[place].type_oid) {
            let found = crate::pg::row::type_name(columns[place].type_oid);
            return Err(Error::ColumnType { column: field.name.clone(), found, expected: "text" });
        }
        texts.push(place);
    }
    if fields.is_empty() {
        let hint = "The source must return at least one column of type text besides id.";
        return Err(Error::invalid(format!("source has no text column; found: {names}"), hint));
    }
    let numbers = (0..columns.len()).filter(|&place| place != id && is_number(columns[place].type_oid));
    let mut by_weight: Vec<usize> = (0..fields.len()).collect();
    by_weight.sort_by(|&a, &b| fields[b].weight.total_cmp(&fields[a].weight).then(a.cmp(&b)));
    let places = Places { id, texts, numbers: numbers.collect(), vector: place(EMBEDDING), by_weight };
    if places.numbers.len() > MAX_NUMBERS {
        return Err(Error::TooLarge {
            what: "source of a search index".into(),
            needed: format!("{} columns of numbers", places.numbers.len()),
            limit: format!("{MAX_NUMBERS} columns of numbers"),
            hint: "Select only the numbers that results may be ranked by.".into(),
        });
    }
    Ok((fields, places))
}

/// One to three words of a text, or some characters where words are not parted: such as people search for. `chance` says which.
fn excerpt(text: &str, chance: u64) -> String {
    let words: Vec<&str> = text.split_whitespace().take(EXCERPTED).collect();
    let count = 1 + (chance % 3) as usize;
    let start = (chance / 3) as usize % (words.len().saturating_sub(count) + 1);
    words.into_iter().skip(start).take(count).collect::<Vec<_>>().join(" ").chars().take(40).collect()
}

/// The beginning of some texts, one after the other.
fn passage<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut passage = String::new();
    for text in texts {
        let room = MAX_PASSAGE - passage.len().min(MAX_PASSAGE);
        passage.push_str(&text[..text.floor_char_boundary(room)]);
        passage.push('\n');
    }
    passage.pop();
    passage
}

/// The texts of some rows, as the source of an index has them now, by id. Runs in the name of the index's owner.
pub fn passages(entry: &Entry, ids: &[&str], progress: &dyn Progress) -> Result<HashMap<String, String>> {
    let mut passages = HashMap::new();
    let Some(source) = entry.source.as_deref().filter(|_| !ids.is_empty()) else { return Ok(passages) };
    let options = Options::read(&entry.config["options"])?;
    // Literals take the type of the column, so that an index on it can be used.
    let listed: Vec<String> = ids.iter().map(pgrx::spi::quote_literal).collect();
    let listed = listed.join(", ");
    let search_path = entry.config["search_path"].as_str().unwrap_or_default();
    as_author(entry.stamp.owner, search_path, || {
        let query = format!("SELECT * FROM {} AS source WHERE id IN ({listed})", as_subquery("source", source)?);
        let (mut source, columns) = Source::open_columns("source", &query)?;
        let (_, places) = look_up(&columns, &source.names(), &options)?;
        while source.fetch(WINDOW, |row| {
            progress.check()?;
            let Some(id) = row.field(places.id) else { return Ok(()) };
            let texts = places.by_weight.iter().filter_map(|&field| row.field(places.texts[field]));
            let texts: Vec<&str> = texts.map(|field| field.text()).collect::<Result<_>>()?;
            passages.insert(Id::to_text(id.id()?), passage(texts.into_iter()));
            Ok(())
        })? > 0
        {}
        Ok(())
    })?;
    Ok(passages)
}

/// Calls `visit` with query, id and grade, from 0, of each row of a query of judgements.
pub fn judgements(
    query: &str,
    progress: &dyn Progress,
    mut visit: impl FnMut(String, String, f32) -> Result<()>,
) -> Result<()> {
    let _read_only = ReadOnly::begin();
    let wanted = [required("query", Kind::Text), required("id", Kind::Id), optional("grade", Kind::Number)];
    let source = Source::open_named("judgements", query, &wanted)?;
    let has_grade = source.has(2);
    let mut number = 0;
    source.read(progress, |row| {
        number += 1;
        if number > MAX_JUDGEMENTS {
            return Err(too_many("judgements", "Use the judgements of fewer queries."));
        }
        let null = || Error::NullColumn { column: "query".into(), row: number };
        let text = row.text(0)?.ok_or_else(null)?.to_owned();
        let grade = if has_grade { row.number(2)? } else { 1.0 };
        if !(0.0..=100.0).contains(&grade) {
            let hint = "A grade must be a number from 0 (irrelevant) to 100.";
            return Err(Error::invalid(format!("invalid grade {grade} in row {number} of the judgements"), hint));
        }
        visit(text, row.id(1)?.to_text(), grade as f32)
    })?;
    if number == 0 {
        return Err(super::dataset::empty_query("judgements"));
    }
    Ok(())
}

/// Calls `visit` with query, id, event and position of each row of a query of events. Without a column `event` all are clicks.
pub fn events(
    query: &str,
    progress: &dyn Progress,
    mut visit: impl FnMut(String, String, &str, Option<u32>) -> Result<()>,
) -> Result<()> {
    let _read_only = ReadOnly::begin();
    let wanted = [
        required("query", Kind::Text),
        required("id", Kind::Id),
        optional("event", Kind::Text),
        optional("position", Kind::Number),
    ];
    let source = Source::open_named("events", query, &wanted)?;
    let (has_event, has_position) = (source.has(2), source.has(3));
    if !has_position {
        notice!("events have no column \"position\": they are not corrected for the position of results");
    }
    let mut number = 0;
    source.read(progress, |row| {
        number += 1;
        if number > MAX_EVENTS {
            return Err(Error::TooLarge {
                what: "query of events".into(),
                needed: format!("more than {MAX_EVENTS} rows"),
                limit: format!("{MAX_EVENTS} rows"),
                hint: "Use the events of a shorter time.".into(),
            });
        }
        let null = |column: &str| Error::NullColumn { column: column.into(), row: number };
        let text = row.text(0)?.ok_or_else(|| null("query"))?.to_owned();
        let event = if has_event { row.text(2)?.ok_or_else(|| null("event"))? } else { CLICK };
        let position = if has_position { Some(row.number(3)?) } else { None };
        if position.is_some_and(|position| !(1.0..=1e9).contains(&position)) {
            let message = format!("invalid position {} in row {number} of the events", position.unwrap_or_default());
            return Err(Error::invalid(message, "Positions start at 1."));
        }
        visit(text, row.id(1)?.to_text(), event, position.map(|position| position as u32))
    })?;
    if number == 0 {
        return Err(super::dataset::empty_query("events"));
    }
    Ok(())
}

/// The synonyms of each word, in the order of words.
fn synonyms(query: &str, progress: &dyn Progress) -> Result<Vec<SynonymsOf>> {
    let _read_only = ReadOnly::begin();
    let wanted = [required("word", Kind::Text), required("synonym", Kind::Text)];
    let (mut by_word, mut number) = (BTreeMap::<String, Vec<String>>::new(), 0);
    Source::open_named("synonyms", query, &wanted)?.read(progress, |row| {
        number += 1;
        if number > MAX_SYNONYMS {
            return Err(Error::TooLarge {
                what: "query of synonyms".into(),
                needed: format!("more than {MAX_SYNONYMS} rows"),
                limit: format!("{MAX_SYNONYMS} rows"),
                hint: "Leave out synonyms that nobody searches for.".into(),
            });
        }
        let null = |column: &str| Error::NullColumn { column: column.into(), row: number };
        let word = row.text(0)?.ok_or_else(|| null("word"))?;
        let synonym = row.text(1)?.ok_or_else(|| null("synonym"))?;
        by_word.entry(word.to_owned()).or_default().push(synonym.to_owned());
        Ok(())
    })?;
    by_word.values_mut().for_each(|synonyms| synonyms.sort_unstable());
    Ok(by_word.into_iter().collect())
}

/// Calls `visit` with query and segment of each row of a query of segments.
pub fn segments(query: &str, progress: &dyn Progress, mut visit: impl FnMut(&str, String)) -> Result<()> {
    let _read_only = ReadOnly::begin();
    let wanted = [required("query", Kind::Text), required("segment", Kind::Printed)];
    let mut number = 0;
    Source::open_named("segments", query, &wanted)?.read(progress, |row| {
        number += 1;
        if number > MAX_JUDGEMENTS {
            return Err(too_many("segments", "Use the segments of fewer queries."));
        }
        if let (Some(text), Some(segment)) = (row.text(0)?, row.printed(1)?) {
            visit(text, segment);
        }
        Ok(())
    })?;
    Ok(())
}

fn too_many(what: &str, hint: &str) -> Error {
    Error::TooLarge {
        what: format!("query of {what}"),
        needed: format!("more than {MAX_JUDGEMENTS} rows"),
        limit: format!("{MAX_JUDGEMENTS} rows"),
        hint: hint.into(),
    }
}
