//! Training rows: the columns of a query as features, a label and an id.

use ahash::AHashSet;
use ndarray::Array2;
use pgrx::warning;

use crate::pg::row::{AttributeValue, Types};
use crate::pg::source::Source;
use crate::service::dataset::empty_query;
use runtime::error::{Error, Result};
use runtime::progress::Progress;
use tabular::{Column, ColumnKind, Encoder, EncoderOptions, LabelKind, Labels, Samples, Table};

/// The default id column. Without it, rows are numbered.
const ID: &str = "id";

/// The rows of a query.
pub struct Rows {
    pub table: Table,
    /// The id of each row, without duplicates.
    pub ids: Vec<String>,
}

impl Rows {
    /// Runs the query of the argument `what` with the caller's privileges, and numbers its rows. A column `id` is left out.
    pub fn read_anonymous(what: &'static str, query: &str, progress: &dyn Progress) -> Result<Self> {
        Self::read_rows(what, query, None, &[], false, Types::Compared, false, progress)
    }

    /// [`read`](Self::read) for rows that are compared with others.
    pub fn read_compared(what: &'static str, query: &str, id: Option<&str>, progress: &dyn Progress) -> Result<Self> {
        Self::read_rows(what, query, id, &[], true, Types::Compared, false, progress)
    }

    /// Runs the query of the argument `what` with the caller's privileges. `id` names the column of ids, by default `id`; without such a column,
    /// rows are numbered from 1. The columns `needed` must exist.
    pub fn read(
        what: &'static str,
        query: &str,
        id: Option<&str>,
        needed: &[&str],
        progress: &dyn Progress,
    ) -> Result<Self> {
        Self::read_rows(what, query, id, needed, true, Types::Learned, false, progress)
    }

    /// The rows without their ids. Numbers may be infinite; NaN is NULL.
    pub fn read_unbounded(
        what: &'static str,
        query: &str,
        id: Option<&str>,
        needed: &[&str],
        progress: &dyn Progress,
    ) -> Result<Table> {
        Ok(Self::read_rows(what, query, id, needed, false, Types::Learned, true, progress)?.table)
    }

    fn read_rows(
        what: &'static str,
        query: &str,
        id: Option<&str>,
        needed: &[&str],
        identified: bool,
        types: Types,
        unbounded: bool,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let (rows, mut attributes) = Source::open_table(what, query, Some(id.unwrap_or(ID)), types)?;
        for &column in needed.iter().chain(&id) {
            if !attributes.iter().any(|attribute| attribute.name == column) {
                let found: Vec<&str> = attributes.iter().map(|attribute| attribute.name.as_str()).collect();
                return Err(Error::MissingColumn { column: column.into(), found: found.join(", ") });
            }
        }
        let place = attributes.iter().position(|attribute| attribute.name == id.unwrap_or(ID));
        // If the id column is needed for something else, it stays a column and rows are numbered.
        let place = place.filter(|&place| !needed.contains(&attributes[place].name.as_str()));
        let id_attribute = place.map(|place| attributes.remove(place)).filter(|_| identified);
        let mut table = Table::new(attributes.iter().map(|a| (a.name.clone(), a.kind)).collect());
        if unbounded {
            table = table.unbounded();
        }
        let (mut ids, mut seen) = (Vec::new(), AHashSet::new());
        let mut values = Vec::with_capacity(attributes.len());
        rows.read(progress, |row| {
            let number = ids.len() + 1;
            let id = match &id_attribute {
                None => number.to_string(),
                Some(attribute) => match row.attribute(attribute)? {
                    AttributeValue::Category(id) => id,
                    _ => return Err(Error::NullColumn { column: attribute.name.clone(), row: number }),
                },
            };
            if id_attribute.is_some() && !seen.insert(id.clone()) {
                let hint = "Ids must be unique. Name another column with id => '…', or leave the id out of the query.";
                return Err(Error::invalid(format!("duplicate id \"{id}\""), hint));
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
        if ids.is_empty() {
            return Err(empty_query(what));
        }
        Ok(Self { table, ids })
    }

    /// Replaces texts with vectors: `embed` returns one for each text.
    pub fn embed_texts(&mut self, columns: &[String], embed: Embed) -> Result<()> {
        embed_texts(&mut self.table, columns, embed)
    }
}

/// A vector for each text.
pub type Embed<'a> = &'a mut dyn FnMut(&[&str]) -> Result<Array2<f32>>;

/// Replaces the texts of some columns with vectors.
pub fn embed_texts(table: &mut Table, columns: &[String], embed: Embed) -> Result<()> {
    for name in columns {
        let Some((_, Column::Category { codes, names, .. })) = table.column(name) else { continue };
        let texts: Vec<&str> = names.iter().map(|text| &**text).collect();
        let vectors = embed(&texts)?;
        let (width, places) = (vectors.ncols(), codes.clone());
        let column = Column::Vector { width, places, values: vectors.into_raw_vec_and_offset().0 };
        table.replace(name, ColumnKind::Vector, column);
    }
    Ok(())
}

/// An encoded source and, if there is one, an encoded validation query.
pub struct Encoded {
    pub samples: Samples,
    pub validation: Option<Samples>,
}

/// Fits an encoder to the source and encodes both. Warns about columns that get special treatment.
pub fn encode(
    source: &Rows,
    validation: Option<&Rows>,
    label: &str,
    kind: Option<LabelKind>,
    options: &EncoderOptions,
    progress: &dyn Progress,
) -> Result<Encoded> {
    let column = |rows: &Rows| rows.table.column(label).map(|(_, column)| column.clone());
    let missing = || Error::MissingColumn { column: label.into(), found: String::new() };
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
