//! The rows of a search index: an id, texts, and perhaps a vector.

use ndarray::Array2;

use crate::pg::foreign::InAnothersName;
use crate::pg::identity::ReadOnly;
use crate::pg::row::{Kind, is_text, optional, required};
use crate::pg::source::Source;
use interactions::Id;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::Progress;
use search::{IndexBuilder, Options, TextField, weight_of};

/// Rows whose texts are embedded together.
const WINDOW: usize = 4096;
/// Bytes of a row that a model gets: more than it reads.
const MAX_PASSAGE: usize = 32 << 10;

/// Rows of judgements.
const MAX_JUDGEMENTS: usize = 1_000_000;

const ID: &str = "id";
const EMBEDDING: &str = "embedding";

/// A source that has been read.
pub struct Read {
    pub builder: IndexBuilder,
    pub has_vectors: bool,
}

/// Reads `query` with the caller's privileges into an index. `embed` gives a vector for each of some texts, unless the source has a column
/// `embedding`.
pub fn read(
    query: &str,
    options: &Options,
    embed: Option<&dyn Fn(&[&str], &dyn Progress) -> Result<Array2<f32>>>,
    progress: &dyn Progress,
) -> Result<Read> {
    // The same restrictions as for a filter, which reads it again.
    let as_when_filtered = || (ReadOnly::begin(), InAnothersName::begin());
    let (mut source, columns) = {
        let _guards = as_when_filtered();
        Source::open_columns("source", query)?
    };
    let names = source.names();
    let place = |name: &str| columns.iter().position(|column| column.name == name);
    let missing = |name: &str| Error::MissingColumn { column: name.into(), found: names.clone() };
    let id = place(ID).ok_or_else(|| missing(ID))?;
    let vector = place(EMBEDDING);
    let fields: Vec<TextField> = match options.fields()? {
        Some(fields) => fields,
        None => {
            let texts = columns.iter().filter(|column| column.name != ID && is_text(column.type_oid));
            texts.map(|column| TextField::new(column.name.clone(), weight_of(&column.name))).collect()
        }
    };
    let mut places = Vec::new();
    for field in &fields {
        let place = place(&field.name).ok_or_else(|| missing(&field.name))?;
        if !is_text(columns[place].type_oid) {
            let found = crate::pg::row::type_name(columns[place].type_oid);
            return Err(Error::ColumnType { column: field.name.clone(), found, expected: "text" });
        }
        places.push(place);
    }
    if fields.is_empty() {
        let hint = "The source must return at least one column of type text besides id.";
        return Err(Error::invalid(format!("source has no text column; found: {names}"), hint));
    }
    let weights: Vec<f32> = fields.iter().map(|field| field.weight).collect();
    let mut builder = IndexBuilder::new(fields, options.language()?)?;
    let embed = if vector.is_some() { None } else { embed };
    // By weight: a model reads the beginning of a long text.
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]).then(a.cmp(&b)));

    let (mut done, mut width, mut without) = (0, None, 0);
    loop {
        let mut passages: Vec<String> = Vec::new();
        let mut given = Vec::new();
        let guards = as_when_filtered();
        let fetched = source.fetch(WINDOW, |row| {
            progress.check()?;
            let null = || Error::NullColumn { column: ID.into(), row: builder.rows() + 1 };
            let key = row.field(id).ok_or_else(null)?.id()?;
            let texts = places.iter().map(|&place| row.field(place).map(|field| field.text()).transpose());
            let texts: Vec<Option<&str>> = texts.collect::<Result<_>>()?;
            builder.add(Id::to_text(key), &texts, progress)?;
            if let Some(vector) = vector {
                let values = row.field(vector).map(|field| field.vector()).transpose()?;
                given.push(values.unwrap_or_default());
                width = width.or(given.last().map(Vec::len).filter(|&length| length > 0));
            }
            if embed.is_some() {
                passages.push(passage(order.iter().filter_map(|&field| texts[field])));
            }
            Ok(())
        })?;
        drop(guards);
        if fetched == 0 {
            break;
        }
        if let Some(embed) = embed {
            let texts: Vec<&str> = passages.iter().map(String::as_str).collect();
            builder.add_vectors(embed(&texts, progress)?)?;
        }
        match width {
            // Rows before the first vector wait until its length is known.
            None => without += given.len(),
            Some(width) => {
                if without > 0 {
                    builder.add_vectors(memory::matrix(without, width, 0f32)?)?;
                    without = 0;
                }
                builder.add_vectors(matrix(given, width, done)?)?;
            }
        }
        done += fetched;
        progress.report("rows read from source", done, 0);
    }
    if done == 0 {
        return Err(super::dataset::empty_query("source"));
    }
    Ok(Read { builder, has_vectors: width.is_some() || embed.is_some() })
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

/// Vectors of one length; a row without one is zeros.
fn matrix(rows: Vec<Vec<f32>>, width: usize, before: usize) -> Result<Array2<f32>> {
    let mut matrix = memory::matrix(rows.len(), width, 0f32)?;
    for (number, (mut to, row)) in matrix.rows_mut().into_iter().zip(&rows).enumerate() {
        if row.is_empty() {
            continue;
        }
        if row.len() != width {
            let row = before + number + 1;
            return Err(Error::invalid(
                format!(
                    "embeddings of different lengths in column \"{EMBEDDING}\": {} in row {row}, {width} in another",
                    rows[number].len()
                ),
                "All embeddings must have the same number of dimensions.",
            ));
        }
        to.iter_mut().zip(row).for_each(|(to, &value)| *to = value);
    }
    Ok(matrix)
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
            return Err(Error::TooLarge {
                what: "query of judgements".into(),
                needed: format!("more than {MAX_JUDGEMENTS} rows"),
                limit: format!("{MAX_JUDGEMENTS} rows"),
                hint: "Use the judgements of fewer queries.".into(),
            });
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
