//! Encodes columns of categories, numbers and vectors as [`Features`]. An encoder is fitted to a table, stored with the model, and applied to
//! later rows.

use std::cmp::Reverse;
use std::sync::Arc;

use ahash::AHashMap;
use serde::{Deserialize, Serialize};

use super::Features;
use super::table::FeatureTable;
use kernels::Csr;
use kernels::matrix::flat_mut;
use onnx::IdTable;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::sorting::sort_watched;
use tabular::{Column, ColumnKind, Value};

/// Maximum number of categories of a column; the most frequent are kept.
const MAX_CATEGORIES: usize = 4096;
/// In a column with more categories than this, categories of a single row are dropped, since they only identify that row.
const FEW_CATEGORIES: usize = 100;
/// Standardised numbers are clipped at this many standard deviations, to limit the effect of outliers.
const MAX_DEVIATIONS: f64 = 5.0;
/// A standard deviation below this share of the largest value is considered a rounding error.
const CONSTANT: f64 = 1e-12;

/// How columns are encoded. It does not depend on the order of the rows that it was fitted to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Encoder {
    columns: Vec<Encoding>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Encoding {
    name: String,
    #[serde(flatten)]
    how: How,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum How {
    /// One-hot: 1 in the attribute of the row's category; nothing for unknown categories.
    Category { categories: Vec<String> },
    /// (x − mean) / deviation
    Number { mean: f64, deviation: f64 },
    /// Divided by its length.
    Vector { width: usize },
}

impl How {
    fn kind(&self) -> ColumnKind {
        match self {
            Self::Category { .. } => ColumnKind::Category,
            Self::Number { .. } => ColumnKind::Number,
            Self::Vector { .. } => ColumnKind::Vector,
        }
    }

    /// The number of attributes.
    fn attributes(&self) -> usize {
        match self {
            Self::Category { categories } => categories.len(),
            Self::Number { .. } => 1,
            Self::Vector { .. } => 0,
        }
    }
}

impl Encoder {
    /// Fits an encoder. Columns without information, such as constant ones, are left out. Returns the error of `check`, if any.
    pub fn fit(table: &FeatureTable, check: &dyn Fn() -> Result<()>) -> Result<Self> {
        let mut columns = Vec::new();
        for (name, column) in table.columns() {
            let how = match column {
                Column::Category { codes, names, .. } => fit_category(codes, names, check)?,
                Column::Number(values) => fit_number(values, check)?,
                Column::Vector { width: 0, .. } => None,
                Column::Vector { width, .. } => Some(How::Vector { width: *width }),
            };
            columns.extend(how.map(|how| Encoding { name: name.into(), how }));
        }
        Ok(Self { columns })
    }

    /// The name of each attribute, such as `category=dairy`.
    pub fn columns(&self) -> Vec<String> {
        let names = self.columns.iter().flat_map(|Encoding { name, how }| match how {
            How::Category { categories } => categories.iter().map(|category| format!("{name}={category}")).collect(),
            How::Number { .. } => vec![name.clone()],
            How::Vector { .. } => Vec::new(),
        });
        names.collect()
    }

    /// Total length of the vectors of a row.
    pub fn width(&self) -> usize {
        let widths = self.columns.iter().map(|column| match column.how {
            How::Vector { width } => width,
            _ => 0,
        });
        widths.sum()
    }

    /// One row for each of `ids`, in their order; empty for ids that are not in the table. Columns that the encoder does not know are ignored, and
    /// missing columns have no features.
    pub fn encode(&self, table: &FeatureTable, ids: &IdTable) -> Result<Features> {
        let attributes = self.columns.iter().map(|column| column.how.attributes()).sum();
        let readers = self.readers(table)?;
        let width = self.width();
        let mut features = Features {
            attributes: Csr { indptr: memory::filled(0, 1)?, columns: attributes, ..Csr::default() },
            vectors: memory::matrix(ids.len(), width, 0.0)?,
            encoder: Some(Arc::new(self.clone())),
        };
        let Features { attributes, vectors, .. } = &mut features;
        memory::reserve(&mut attributes.indptr, ids.len())?;
        let vectors = flat_mut(vectors.view_mut());
        for (index, id) in ids.iter().enumerate() {
            if let Some(row) = table.row_of(id) {
                for reader in &readers {
                    reader.read(row, attributes, &mut vectors[index * width..][..width])?;
                }
            }
            attributes.indptr.push(attributes.indices.len() as u64);
        }
        // A damaged table of ids ends early.
        attributes.indptr.resize(ids.len() + 1, attributes.indices.len() as u64);
        Ok(features)
    }

    fn readers<'a>(&'a self, table: &'a FeatureTable) -> Result<Vec<Reader<'a>>> {
        let (mut readers, mut attribute, mut place) = (Vec::new(), 0, 0);
        for Encoding { name, how } in &self.columns {
            if let Some((_, column)) = table.columns().find(|(other, _)| other == name) {
                check_kind(name, how, column)?;
                let categories = match how {
                    How::Category { categories } => categories.iter().map(String::as_str).zip(attribute..).collect(),
                    _ => AHashMap::default(),
                };
                readers.push(Reader { column, how, categories, attribute, place });
            }
            attribute += how.attributes() as u32;
            if let How::Vector { width } = how {
                place += width;
            }
        }
        Ok(readers)
    }
}

/// A column with its fitted encoding.
struct Reader<'a> {
    column: &'a Column,
    how: &'a How,
    /// The attribute of each category.
    categories: AHashMap<&'a str, u32>,
    /// The first attribute.
    attribute: u32,
    /// Where the vector begins.
    place: usize,
}

impl Reader<'_> {
    /// Appends to the last row of `attributes`, and writes into the row's `vectors`.
    fn read(&self, row: usize, attributes: &mut Csr, vectors: &mut [f32]) -> Result<()> {
        let (attribute, value) = match (self.column.get(row), self.how) {
            (Value::Category(name), _) => match self.categories.get(name) {
                Some(&attribute) => (attribute, 1.0),
                None => return Ok(()),
            },
            (Value::Number(number), &How::Number { mean, deviation }) => {
                // Each divided alone: the difference of two great numbers is beyond f64.
                let standardised = number / deviation - mean / deviation;
                (self.attribute, standardised.clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS) as f32)
            }
            (Value::Vector(vector), _) => {
                let greatest = vector.iter().fold(0f32, |most, x| most.max(x.abs()));
                if greatest > 0.0 {
                    // In f64: squares of f32 stay within it.
                    let length = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
                    let to = &mut vectors[self.place..][..vector.len()];
                    to.iter_mut().zip(vector).for_each(|(to, &x)| *to = (f64::from(x) / length) as f32);
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        if value != 0.0 && !value.is_nan() {
            memory::push(&mut attributes.indices, attribute)?;
            memory::push(&mut attributes.values, value)?;
        }
        Ok(())
    }
}

fn check_kind(name: &str, how: &How, column: &Column) -> Result<()> {
    if how.kind() != column.kind() {
        let word = |kind| match kind {
            ColumnKind::Category => "categories",
            ColumnKind::Number | ColumnKind::Integer | ColumnKind::Time => "numbers",
            ColumnKind::Vector => "vectors",
        };
        let hint = "Cast the column to the type that it had in training.";
        let (found, expected) = (word(column.kind()), word(how.kind()));
        return Err(Error::invalid(format!("column \"{name}\" contains {found}, expected {expected}"), hint));
    }
    match (how, column) {
        (How::Vector { width }, Column::Vector { width: other, .. }) if *other != 0 && other != width => {
            let hint = "Use the embedding model of the training.";
            Err(Error::invalid(format!("column \"{name}\" has vectors of {other} dimensions, expected {width}"), hint))
        }
        _ => Ok(()),
    }
}

/// The categories, most frequent first, ties in the order of their bytes; `None` if all rows have the same.
fn fit_category(codes: &[u32], names: &[Arc<str>], check: &dyn Fn() -> Result<()>) -> Result<Option<How>> {
    let mut counts = memory::filled(0usize, names.len())?;
    codes.iter().filter_map(|&code| names.get(code as usize).map(|_| code)).for_each(|code| counts[code as usize] += 1);
    let least = if names.len() > FEW_CATEGORIES { 2 } else { 1 };
    // A category that every row has says nothing; one of which some rows have none does.
    let known = |count: usize| count >= least && (count < codes.len() || codes.len() == 1);
    let mut order: Vec<usize> = (0..names.len()).filter(|&code| known(counts[code])).collect();
    let by_count = |&code: &usize| (Reverse(counts[code]), &names[code]);
    sort_watched(&mut order, check, |a, b| by_count(a).cmp(&by_count(b)))?;
    order.truncate(MAX_CATEGORIES);
    let categories: Vec<String> = order.iter().map(|&code| names[code].as_ref().to_owned()).collect();
    Ok((!categories.is_empty()).then_some(How::Category { categories }))
}

/// The mean and the standard deviation of the numbers; `None` if they are all equal.
fn fit_number(values: &[f64], check: &dyn Fn() -> Result<()>) -> Result<Option<How>> {
    let mut known = Vec::new();
    memory::reserve(&mut known, values.len())?;
    known.extend(values.iter().copied().filter(|x| !x.is_nan()));
    // Sums in ascending order do not depend on the order of the rows; shares of the greatest cannot overflow.
    sort_watched(&mut known, check, f64::total_cmp)?;
    let greatest = known.iter().fold(0f64, |most, x| most.max(x.abs()));
    let n = known.len() as f64;
    let mean = known.iter().map(|x| x / greatest).sum::<f64>() / n;
    let variance = known.iter().map(|x| (x / greatest - mean).powi(2)).sum::<f64>() / n;
    let deviation = variance.sqrt();
    let how = How::Number { mean: mean * greatest, deviation: deviation * greatest };
    // False for NaN too: no numbers, or nothing but zeros.
    Ok((deviation > CONSTANT && deviation * greatest >= f64::MIN_POSITIVE).then_some(how))
}
