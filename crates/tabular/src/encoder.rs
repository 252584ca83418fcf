//! Encoding of the columns of a table as a matrix of features, learned from one table and applied to others.
//!
//! | column | features |
//! |---|---|
//! | number | (x − mean) / deviation, clipped at 10 deviations |
//! | time | days, as a number; sine and cosine of the weekday; sine and cosine of the hour where times have one |
//! | category: boolean, enum, uuid, text with few values | one for each of the most frequent categories, one for all others |
//! | text: more values than `max_categories`, made of words | counts of hashed words and pairs of Chinese characters, scaled to length 1 |
//! | vector | each element as a number |
//!
//! NULL is 0 in every feature of its column and 1 in a feature of its own. A constant column has no features. Texts and uuids that differ
//! in every row, and integers that count the rows, are identifiers: they have no features, and [`Encoder::notices`] reports them.

use std::cmp::Reverse;
use std::f64::consts::TAU;
use std::sync::Arc;

use ahash::AHashMap;
use ndarray::{ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use super::samples::Features;
use super::table::{Column, ColumnKind, NONE, Table};
use kernels::Csr;
use kernels::matrix::rows;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::Progress;

/// Standardised numbers are clipped here, so that one misplaced decimal point does not dominate.
pub const MAX_DEVIATIONS: f64 = 10.0;
/// A standard deviation below this share of the greatest value is due to rounding.
const CONSTANT: f64 = 1e-12;
/// With fewer rows, distinct values may be coincidence.
const IDENTIFIER_ROWS: usize = 20;
/// Rows encoded between two checks for a cancel request.
const CHECK_EVERY: usize = 4096;
/// Most features of a table.
const MAX_FEATURES: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EncoderOptions {
    /// Most categories of a column with a feature each.
    pub max_categories: usize,
    /// Number of features of a text column.
    pub text_dimensions: usize,
}

impl Default for EncoderOptions {
    fn default() -> Self {
        Self { max_categories: 256, text_dimensions: 256 }
    }
}

/// How the columns of a table become features.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Encoder {
    columns: Vec<Encoding>,
    features: usize,
    #[serde(skip)]
    notices: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Encoding {
    name: String,
    /// The first feature.
    first: u32,
    how: How,
    /// The feature of NULL, if the column had any.
    null: Option<u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum How {
    Number(Scale),
    Time {
        days: Scale,
        hours: bool,
    },
    /// The feature of each category, from 0, and whether the others share one more.
    Categories {
        places: Places,
        others: bool,
    },
    Words {
        dimensions: usize,
    },
    Vector(Vec<Scale>),
}

/// The place of each category; stored as their names in order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
struct Places(AHashMap<String, u32>);

impl From<Vec<String>> for Places {
    fn from(names: Vec<String>) -> Self {
        Self(names.into_iter().zip(0..).collect())
    }
}

impl From<Places> for Vec<String> {
    fn from(places: Places) -> Self {
        let mut names: Vec<(String, u32)> = places.0.into_iter().collect();
        names.sort_unstable_by_key(|(_, place)| *place);
        names.into_iter().map(|(name, _)| name).collect()
    }
}

/// How a column becomes features, as a graph says it.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// value × inverse − shift, clipped at ± `MAX_DEVIATIONS`.
    Number {
        inverse: f64,
        shift: f64,
    },
    /// Days since 2000: as a number; sine and cosine of the weekday, and of the hour.
    Time {
        inverse: f64,
        shift: f64,
        hours: bool,
    },
    /// The names of the features, by place, and whether the others share one more.
    Categories {
        names: Vec<String>,
        others: bool,
    },
    Words {
        dimensions: usize,
    },
    /// Of each element as of a number.
    Vector {
        scales: Vec<(f64, f64)>,
    },
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Scale {
    /// 1 / deviation
    inverse: f64,
    /// mean / deviation, divided separately, since the difference of two large numbers may overflow.
    shift: f64,
}

impl Encoder {
    /// Learns from all columns except those named in `leave`.
    pub fn fit(table: &Table, leave: &[&str], options: &EncoderOptions, progress: &dyn Progress) -> Result<Self> {
        let mut encoder = Self::default();
        for (name, kind, column) in table.columns().filter(|(name, ..)| !leave.contains(name)) {
            progress.check()?;
            let how = match (kind, column) {
                (_, Column::Category { codes, names, .. }) => {
                    encoder.fit_category(name, codes, names.len(), column, options)?
                }
                (ColumnKind::Integer, Column::Number(values)) if counts_rows(values) => {
                    encoder
                        .notices
                        .push(format!("column \"{name}\" counts the rows, as an identifier does: it is left out"));
                    None
                }
                (ColumnKind::Time, Column::Number(values)) => Scale::of(values.iter().copied()).map(|days| How::Time {
                    days,
                    hours: values.iter().any(|day| !day.is_nan() && day.fract() != 0.0),
                }),
                (_, Column::Number(values)) => Scale::of(values.iter().copied()).map(How::Number),
                (_, Column::Vector { width, values, .. }) => {
                    fit_vector(ArrayView2::from_shape((values.len() / (*width).max(1), *width), values)?, progress)?
                }
            };
            let Some(how) = how else { continue };
            let first = encoder.features as u32;
            encoder.features += how.features();
            let null = has_null(column).then_some(encoder.features as u32);
            encoder.features += usize::from(null.is_some());
            if encoder.features > MAX_FEATURES {
                return Err(Error::TooLarge {
                    what: format!("column \"{name}\""),
                    needed: format!("{} features in all", encoder.features),
                    limit: MAX_FEATURES.to_string(),
                    hint: "Leave columns out, or lower max_categories or text_dimensions.".into(),
                });
            }
            encoder.columns.push(Encoding { name: name.into(), first, how, null });
        }
        if encoder.features == 0 {
            let hint = "Besides label and id, the source needs a column whose values differ between rows and which is not an identifier.";
            return Err(Error::invalid("the source has no features", hint));
        }
        Ok(encoder)
    }

    fn fit_category(
        &mut self,
        name: &str,
        codes: &[u32],
        names: usize,
        column: &Column,
        options: &EncoderOptions,
    ) -> Result<Option<How>> {
        let Column::Category { names: texts, .. } = column else { return Ok(None) };
        if is_text(texts, options) {
            return Ok(Some(How::Words { dimensions: options.text_dimensions }));
        }
        if names >= IDENTIFIER_ROWS && names == codes.len() {
            self.notices.push(format!(
                "column \"{name}\" has another value in every row, as an identifier does: it is left out"
            ));
            return Ok(None);
        }
        let mut counts = memory::filled(0usize, names)?;
        codes.iter().filter(|&&code| code != NONE).for_each(|&code| counts[code as usize] += 1);
        if names == 0 || (names == 1 && counts[0] == codes.len()) {
            return Ok(None);
        }
        let mut order: Vec<usize> = (0..names).collect();
        order.sort_unstable_by_key(|&code| (Reverse(counts[code]), &texts[code]));
        let others = names > options.max_categories;
        if others {
            order.truncate(options.max_categories);
            let rows: usize = codes.len() - order.iter().map(|&code| counts[code]).sum::<usize>();
            self.notices.push(format!(
                "column \"{name}\" has {names} categories: the {} most frequent count, the others, {rows} rows, are one",
                options.max_categories
            ));
        }
        let places = Places(order.iter().zip(0..).map(|(&code, place)| (texts[code].to_string(), place)).collect());
        Ok(Some(How::Categories { places, others }))
    }

    /// The columns of `table` that hold text rather than categories.
    pub fn texts(table: &Table, leave: &[&str], options: &EncoderOptions) -> Vec<String> {
        let texts = table.columns().filter(|(name, _, column)| {
            !leave.contains(name) && matches!(column, Column::Category { names, .. } if is_text(names, options))
        });
        texts.map(|(name, ..)| name.to_owned()).collect()
    }

    /// Notices about the columns, for the user.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Number of features.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Each column: its name, its first feature, its rule, and the feature of NULL.
    pub fn rules(&self) -> impl Iterator<Item = (&str, u32, Rule, Option<u32>)> {
        self.columns.iter().map(|e| (e.name.as_str(), e.first, e.how.rule(), e.null))
    }

    /// Whether features follow each other without gaps: an encoder from a file may say anything.
    pub fn is_sound(&self) -> bool {
        let mut next = 0;
        for encoding in &self.columns {
            if encoding.first as usize != next || encoding.how.features() > MAX_FEATURES {
                return false;
            }
            next += encoding.how.features();
            if let Some(null) = encoding.null {
                if null as usize != next {
                    return false;
                }
                next += 1;
            }
        }
        let are_places = |encoding: &Encoding| match &encoding.how {
            How::Categories { places, .. } => places.0.values().all(|&place| (place as usize) < places.0.len()),
            How::Words { dimensions } => *dimensions > 0,
            _ => true,
        };
        next == self.features && next <= MAX_FEATURES && self.columns.iter().all(are_places)
    }

    /// [`encode_as`](Self::encode_as) of the validation query.
    pub fn encode(&self, table: &Table, progress: &dyn Progress) -> Result<Features> {
        self.encode_as("the validation query", table, progress)
    }

    /// Encodes all rows. A missing column, or one of another kind, is an error that names the query as `what`.
    pub fn encode_as(&self, what: &str, table: &Table, progress: &dyn Progress) -> Result<Features> {
        let find = |encoding: &Encoding| encoding.find(what, table);
        let columns: Vec<&Column> = self.columns.iter().map(find).collect::<Result<_>>()?;
        let categories = self.columns.iter().filter_map(|encoding| match &encoding.how {
            How::Categories { .. } => {
                Some((encoding.first, encoding.how.features() as u32 + u32::from(encoding.null.is_some())))
            }
            _ => None,
        });
        let mut matrix = Csr { indptr: memory::filled(0, 1)?, columns: self.features, ..Csr::default() };
        memory::reserve(&mut matrix.indptr, table.rows())?;
        // Where a text's category stands is looked up once, not in every row.
        let places: Vec<Vec<u32>> = self.columns.iter().zip(&columns).map(|(e, c)| e.places(c)).collect();
        let mut row_entries = Vec::new();
        for row in 0..table.rows() {
            if row % CHECK_EVERY == 0 {
                progress.check()?;
            }
            row_entries.clear();
            for ((encoding, column), places) in self.columns.iter().zip(&columns).zip(&places) {
                encoding.encode(column, places, row, &mut row_entries);
            }
            memory::reserve(&mut matrix.indices, row_entries.len())?;
            memory::reserve(&mut matrix.values, row_entries.len())?;
            for &(feature, value) in row_entries.iter().filter(|(_, value)| *value != 0.0) {
                matrix.indices.push(feature);
                matrix.values.push(value);
            }
            matrix.indptr.push(matrix.indices.len() as u64);
        }
        Ok(Features { matrix, categories: categories.collect() })
    }
}

impl How {
    fn rule(&self) -> Rule {
        match self {
            Self::Number(scale) => Rule::Number { inverse: scale.inverse, shift: scale.shift },
            Self::Time { days, hours } => Rule::Time { inverse: days.inverse, shift: days.shift, hours: *hours },
            Self::Categories { places, others } => Rule::Categories { names: places.clone().into(), others: *others },
            Self::Words { dimensions } => Rule::Words { dimensions: *dimensions },
            Self::Vector(scales) => Rule::Vector { scales: scales.iter().map(|s| (s.inverse, s.shift)).collect() },
        }
    }

    fn features(&self) -> usize {
        match self {
            Self::Number(_) => 1,
            Self::Time { hours, .. } => 3 + 2 * usize::from(*hours),
            Self::Categories { places, others } => places.0.len() + usize::from(*others),
            Self::Words { dimensions } => *dimensions,
            Self::Vector(scales) => scales.len(),
        }
    }
}

impl Encoding {
    fn find<'a>(&self, what: &str, table: &'a Table) -> Result<&'a Column> {
        let name = &self.name;
        let expected = match &self.how {
            How::Number(_) => "a number".to_owned(),
            How::Time { .. } => "a date or a time".to_owned(),
            How::Categories { .. } | How::Words { .. } => "a text, a boolean or an enum".to_owned(),
            How::Vector(scales) => format!("a vector of {} dimensions", scales.len()),
        };
        let hint = format!("It was {expected} in training: give {what} the same columns, of the same types.");
        let Some((kind, column)) = table.column(name) else {
            return Err(Error::invalid(format!("{what} has no column \"{name}\""), hint));
        };
        let is_time = kind == ColumnKind::Time;
        match (&self.how, column) {
            (How::Number(_), Column::Number(_)) if !is_time => {}
            (How::Time { .. }, Column::Number(_)) if is_time => {}
            (How::Categories { .. } | How::Words { .. }, Column::Category { .. }) => {}
            (How::Vector(scales), Column::Vector { width, .. }) if *width == 0 || *width == scales.len() => {}
            (How::Vector(_), Column::Vector { width, .. }) => {
                let message = format!("column \"{name}\" of {what} has vectors of {width} dimensions");
                return Err(Error::invalid(message, hint));
            }
            _ => return Err(Error::invalid(format!("column \"{name}\" has another type in {what}"), hint)),
        }
        Ok(column)
    }

    /// The feature of each category of a column, [`NONE`] for none.
    fn places(&self, column: &Column) -> Vec<u32> {
        let (How::Categories { places, others }, Column::Category { names, .. }) = (&self.how, column) else {
            return Vec::new();
        };
        let other = if *others { self.first + places.0.len() as u32 } else { NONE };
        names.iter().map(|name| places.0.get(&**name).map_or(other, |place| self.first + place)).collect()
    }

    /// Appends (feature, value), features ascending.
    fn encode(&self, column: &Column, places: &[u32], row: usize, out: &mut Vec<(u32, f32)>) {
        let known = match (&self.how, column) {
            (How::Number(scale), Column::Number(values)) if !values[row].is_nan() => {
                out.push((self.first, scale.apply(values[row])));
                true
            }
            (How::Time { days, hours }, Column::Number(values)) if !values[row].is_nan() => {
                let day = values[row];
                out.push((self.first, days.apply(day)));
                // Infinity has no weekday.
                if day.is_finite() {
                    let week = (day.floor() / 7.0).fract() * TAU;
                    out.extend([(self.first + 1, week.sin() as f32), (self.first + 2, week.cos() as f32)]);
                    if *hours {
                        let hour = (day - day.floor()) * TAU;
                        out.extend([(self.first + 3, hour.sin() as f32), (self.first + 4, hour.cos() as f32)]);
                    }
                }
                true
            }
            (How::Categories { .. }, Column::Category { codes, .. }) if codes[row] != NONE => {
                let place = places[codes[row] as usize];
                if place != NONE {
                    out.push((place, 1.0));
                }
                true
            }
            (How::Words { dimensions }, Column::Category { codes, names, .. }) if codes[row] != NONE => {
                hash_words(&names[codes[row] as usize], self.first, *dimensions, out);
                true
            }
            (How::Vector(scales), Column::Vector { width, places, values }) if places[row] != NONE => {
                let vector = &values[places[row] as usize * width..][..*width];
                out.extend((self.first..).zip(scales).zip(vector).map(|((f, scale), &x)| (f, scale.apply(x.into()))));
                true
            }
            _ => false,
        };
        if let (false, Some(null)) = (known, self.null) {
            out.push((null, 1.0));
        }
    }
}

impl Scale {
    /// Scale of the values that are finite; `None` if all are equal.
    fn of(values: impl Iterator<Item = f64> + Clone) -> Option<Self> {
        let known = || values.clone().filter(|x| x.is_finite());
        let greatest = known().fold(0f64, |most, x| most.max(x.abs()));
        let n = known().count() as f64;
        // Shares of the greatest cannot overflow.
        let mean = known().map(|x| x / greatest).sum::<f64>() / n;
        let deviation = (known().map(|x| (x / greatest - mean).powi(2)).sum::<f64>() / n).sqrt();
        // False for NaN too: no numbers, or nothing but zeros.
        (deviation > CONSTANT && deviation * greatest >= f64::MIN_POSITIVE)
            .then(|| Self::new(mean * greatest, deviation * greatest))
    }

    fn new(mean: f64, deviation: f64) -> Self {
        Self { inverse: 1.0 / deviation, shift: mean / deviation }
    }

    fn apply(self, x: f64) -> f32 {
        (x * self.inverse - self.shift).clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS) as f32
    }
}

/// From `vectors` [rows, width]; `None` if all are alike, or there are none.
fn fit_vector(vectors: ArrayView2<f32>, progress: &dyn Progress) -> Result<Option<How>> {
    let width = vectors.ncols();
    // All elements of some vectors at a time; sums of squares of f32 stay within f64.
    let each = |visit: &mut dyn FnMut(usize, f64)| -> Result<()> {
        for block in vectors.axis_chunks_iter(Axis(0), CHECK_EVERY) {
            progress.check()?;
            rows(block).for_each(|vector| vector.iter().enumerate().for_each(|(e, &x)| visit(e, f64::from(x))));
        }
        Ok(())
    };
    let n = vectors.nrows() as f64;
    let (mut means, mut greatest, mut variances) = (vec![0f64; width], vec![0f64; width], vec![0f64; width]);
    each(&mut |e, x| {
        means[e] += x / n;
        greatest[e] = greatest[e].max(x.abs());
    })?;
    each(&mut |e, x| variances[e] += (x - means[e]).powi(2) / n)?;
    let scales = means.iter().zip(&variances).zip(&greatest).map(|((&mean, &variance), &greatest)| {
        let deviation = variance.sqrt();
        // An element that is always the same becomes 0.
        if deviation > CONSTANT * greatest { Scale::new(mean, deviation) } else { Scale { inverse: 0.0, shift: 0.0 } }
    });
    let scales: Vec<Scale> = scales.collect();
    Ok(scales.iter().any(|scale| scale.inverse > 0.0).then_some(How::Vector(scales)))
}

fn has_null(column: &Column) -> bool {
    match column {
        Column::Category { codes, .. } => codes.contains(&NONE),
        Column::Number(values) => values.iter().any(|x| x.is_nan()),
        Column::Vector { places, .. } => places.contains(&NONE),
    }
}

/// Whether integers are distinct and nearly without gaps.
fn counts_rows(values: &[f64]) -> bool {
    if values.len() < IDENTIFIER_ROWS || values.iter().any(|x| x.is_nan()) {
        return false;
    }
    let (least, most) = values.iter().fold((f64::MAX, f64::MIN), |(least, most), &x| (least.min(x), most.max(x)));
    if most - least >= 2.0 * values.len() as f64 {
        return false;
    }
    let mut seen = vec![false; (most - least) as usize + 1];
    values.iter().all(|x| !std::mem::replace(&mut seen[(x - least) as usize], true))
}

/// Whether there are more values than `max_categories`, most of them with several words.
fn is_text(names: &[Arc<str>], options: &EncoderOptions) -> bool {
    let has_words =
        |text: &str| text.split_whitespace().nth(1).is_some() || text.chars().filter(|&c| is_han(c)).nth(3).is_some();
    names.len() > options.max_categories && names.iter().filter(|text| has_words(text)).count() * 2 > names.len()
}

fn is_han(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}

/// Weinberger et al., "Feature hashing for large scale multitask learning" (ICML 2009), eq. 2: each word adds ±1 to a hashed feature.
fn hash_words(text: &str, first: u32, dimensions: usize, out: &mut Vec<(u32, f32)>) {
    let mut counts = vec![0f32; dimensions];
    let mut add = |word: &str| {
        let hash = hash_of(word);
        counts[(hash >> 1) as usize % dimensions] += if hash & 1 == 0 { 1.0 } else { -1.0 };
    };
    let lower = text.to_lowercase();
    for word in lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        if !word.chars().any(is_han) {
            add(word);
            continue;
        }
        let ends: Vec<usize> = word.char_indices().map(|(i, c)| i + c.len_utf8()).collect();
        let start = |i: usize| if i == 0 { 0 } else { ends[i - 1] };
        if ends.len() == 1 {
            add(word);
        }
        (1..ends.len()).for_each(|i| add(&word[start(i - 1)..ends[i]]));
    }
    let length = counts.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        out.extend((first..).zip(counts).filter(|(_, x)| *x != 0.0).map(|(feature, x)| (feature, x / length)));
    }
}

/// Stable across machines and versions.
fn hash_of(word: &str) -> u64 {
    word.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| runtime::draw::mix(hash ^ u64::from(byte)))
}
