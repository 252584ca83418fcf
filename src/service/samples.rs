//! Rows to learn from: a query's columns as features, one of them the label, one the id.

use ahash::AHashSet;
use pgrx::warning;

use crate::pg::row::{AttributeValue, Types};
use crate::pg::source::Source;
use crate::service::dataset::FETCH;
use runtime::error::{Error, Result};
use runtime::progress::Progress;
use tabular::{Column, ColumnKind, Encoder, EncoderOptions, LabelKind, Labels, NONE, Samples, Table};

/// What a query's rows are known by where no id is named: this column, or their number.
const ID: &str = "id";

/// The rows of a query.
pub struct Rows {
    pub table: Table,
    /// Of each row, all different.
    pub ids: Vec<String>,
}

impl Rows {
    /// Runs `query`, the argument `what`, with the caller's rights, and numbers its rows: a column of the name `id` is left out.
    pub fn read_anonymous(what: &'static str, query: &str, progress: &dyn Progress) -> Result<Self> {
        Self::read_rows(what, query, None, &[], false, Types::Compared, progress)
    }

    /// [`read`](Self::read) of rows to be compared with others.
    pub fn read_compared(what: &'static str, query: &str, id: Option<&str>, progress: &dyn Progress) -> Result<Self> {
        Self::read_rows(what, query, id, &[], true, Types::Compared, progress)
    }

    /// Runs `query`, the argument `what`, with the caller's rights. `id` names the column of ids; without it a column of the name `id` counts, or the
    /// rows are numbered from 1. `needed` are columns that must be there.
    pub fn read(
        what: &'static str,
        query: &str,
        id: Option<&str>,
        needed: &[&str],
        progress: &dyn Progress,
    ) -> Result<Self> {
        Self::read_rows(what, query, id, needed, true, Types::Learned, progress)
    }

    fn read_rows(
        what: &'static str,
        query: &str,
        id: Option<&str>,
        needed: &[&str],
        identified: bool,
        types: Types,
        progress: &dyn Progress,
    ) -> Result<Self> {
        progress.report(&format!("reading {what}"), 0, 0);
        let (mut rows, mut attributes) = Source::open_table(what, query, Some(id.unwrap_or(ID)), types)?;
        for &column in needed.iter().chain(&id) {
            if !attributes.iter().any(|attribute| attribute.name == column) {
                let found: Vec<&str> = attributes.iter().map(|attribute| attribute.name.as_str()).collect();
                return Err(Error::MissingColumn { column: column.into(), found: found.join(", ") });
            }
        }
        let place = attributes.iter().position(|attribute| attribute.name == id.unwrap_or(ID));
        // An id that is needed for something else stays a column too: then rows are numbered.
        let place = place.filter(|&place| !needed.contains(&attributes[place].name.as_str()));
        let id_attribute = place.map(|place| attributes.remove(place)).filter(|_| identified);
        let mut table = Table::new(attributes.iter().map(|a| (a.name.clone(), a.kind)).collect());
        let (mut ids, mut seen) = (Vec::new(), AHashSet::new());
        let mut values = Vec::with_capacity(attributes.len());
        loop {
            let fetched = rows.fetch(FETCH, |row| {
                let number = ids.len() + 1;
                let id = match &id_attribute {
                    None => number.to_string(),
                    Some(attribute) => match row.attribute(attribute)? {
                        AttributeValue::Category(id) => id,
                        _ => return Err(Error::NullColumn { column: attribute.name.clone(), row: number }),
                    },
                };
                if id_attribute.is_some() && !seen.insert(id.clone()) {
                    let hint =
                        "Each row needs an id of its own: name another column with id => '…', or give the query none.";
                    return Err(Error::argument(format!("the number of rows of id \"{id}\""), "more than one", hint));
                }
                values.clear();
                for attribute in &attributes {
                    values.push(row.attribute(attribute)?);
                }
                let borrowed: Vec<_> = values.iter().map(AttributeValue::as_value).collect();
                table.push(&borrowed, || format!("row {number}"))?;
                ids.push(id);
                Ok(())
            })?;
            if fetched == 0 {
                break;
            }
            progress.check()?;
            progress.report(&format!("rows read from {what}"), table.rows(), 0);
        }
        drop(rows);
        if ids.is_empty() {
            return Err(Error::EmptySource(if what == "source" { String::new() } else { format!("for {what}") }));
        }
        Ok(Self { table, ids })
    }

    /// Puts vectors in the place of texts: `embed` gives one for each.
    pub fn embed_texts(
        &mut self,
        columns: &[String],
        embed: &mut dyn FnMut(&[&str]) -> Result<Vec<Vec<f32>>>,
    ) -> Result<()> {
        for name in columns {
            let Some((_, Column::Category { codes, names, .. })) = self.table.column(name) else { continue };
            let texts: Vec<&str> = names.iter().map(|text| &**text).collect();
            let vectors = embed(&texts)?;
            let width = vectors.first().map_or(0, Vec::len);
            let places = codes.iter().map(|&code| if code == NONE { NONE } else { code }).collect();
            let column = Column::Vector { width, places, values: vectors.concat() };
            self.table.replace(name, ColumnKind::Vector, column);
        }
        Ok(())
    }
}

/// A source and, where one is given, a validation query, encoded alike.
pub struct Encoded {
    pub samples: Samples,
    pub validation: Option<Samples>,
}

/// Encodes rows by what the source's columns hold, and tells the user what became of odd ones.
pub fn encode(
    source: &Rows,
    validation: Option<&Rows>,
    label: &str,
    kind: Option<LabelKind>,
    options: &EncoderOptions,
    progress: &dyn Progress,
) -> Result<Encoded> {
    let column = |rows: &Rows| rows.table.column(label).map(|(_, column)| column.clone());
    let missing = || Error::MissingColumn { column: label.into(), found: "no such column".into() };
    let labels = Labels::fit(label, &column(source).ok_or_else(missing)?, kind)?;
    let encoder = Encoder::fit(&source.table, &[label], options, progress)?;
    encoder.notices().iter().for_each(|text| warning!("{text}"));
    let validation = match validation {
        None => None,
        Some(rows) => Some(Samples {
            features: encoder.encode(&rows.table, progress)?,
            labels: labels.like(label, &column(rows).ok_or_else(missing)?)?,
        }),
    };
    let samples = Samples { features: encoder.encode(&source.table, progress)?, labels };
    Ok(Encoded { samples, validation })
}
