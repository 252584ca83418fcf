//! Drawn rows: columns with values in the source's types.

use std::borrow::Cow;

use serde_json::Value;

use super::frame::{Frame, Values};
use super::schema::{ColumnType, Role, Schema};
use tabular::NONE;

/// A column of a block.
#[derive(Clone, Debug, PartialEq)]
pub enum Made {
    /// Indices of names in the schema; [`NONE`] for NULL.
    Codes(Vec<u32>),
    /// NaN for NULL.
    Numbers(Vec<f64>),
    Elements(Vec<Vec<f64>>),
    Texts(Vec<Option<String>>),
    /// Counted keys.
    Counts(Vec<i64>),
    Nulls,
}

/// A block of drawn rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Block {
    pub rows: usize,
    /// A column for each of the schema's.
    pub columns: Vec<Made>,
    /// The frame that the columns were decoded from.
    pub frame: Frame,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell<'a> {
    Null,
    Boolean(bool),
    /// Also days and microseconds.
    Number(f64),
    Integer(i64),
    Text(Cow<'a, str>),
    Elements(&'a [f64]),
}

/// A value as JSON. Common kinds avoid a [`Value`].
#[derive(Clone, Debug, PartialEq)]
pub enum Json<'a> {
    Integer(i64),
    Text(Cow<'a, str>),
    /// JSON text of the source. It may exceed a [`Value`], for instance with numbers of any length.
    Document(Cow<'a, str>),
    Other(Cow<'a, Value>),
}

impl From<Value> for Json<'_> {
    fn from(value: Value) -> Self {
        Self::Other(Cow::Owned(value))
    }
}

impl Block {
    /// Appends the rows of `other`.
    pub fn append(&mut self, other: Self) {
        if self.columns.is_empty() {
            *self = other;
            return;
        }
        self.rows += other.rows;
        for (column, more) in self.columns.iter_mut().zip(other.columns) {
            match (column, more) {
                (Made::Codes(column), Made::Codes(more)) => column.extend(more),
                (Made::Numbers(column), Made::Numbers(more)) => column.extend(more),
                (Made::Elements(column), Made::Elements(more)) => column.extend(more),
                (Made::Texts(column), Made::Texts(more)) => column.extend(more),
                (Made::Counts(column), Made::Counts(more)) => column.extend(more),
                _ => {}
            }
        }
        for (values, more) in self.frame.columns.iter_mut().zip(other.frame.columns) {
            match (values, more) {
                (Values::Codes(values), Values::Codes(more)) => values.extend(more),
                (Values::Numbers(values), Values::Numbers(more)) => values.extend(more),
                _ => {}
            }
        }
        self.frame.rows += other.frame.rows;
    }

    /// The index of a category's name, [`NONE`] for NULL; `None` if the column has no categories.
    pub fn code(&self, column: usize, row: usize) -> Option<u32> {
        match &self.columns[column] {
            Made::Codes(codes) => Some(codes[row]),
            _ => None,
        }
    }

    pub fn cell<'a>(&'a self, schema: &'a Schema, column: usize, row: usize) -> Cell<'a> {
        let described = &schema.columns[column];
        match &self.columns[column] {
            Made::Codes(codes) => match (codes[row], &described.role) {
                (NONE, _) => Cell::Null,
                (code, Role::Categories { names, .. }) => match (names.get(code as usize), described.column_type) {
                    (Some(name), ColumnType::Boolean) => Cell::Boolean(name == "true"),
                    (Some(name), kind) if kind.is_number() => name.parse().map_or(Cell::Null, Cell::Number),
                    (Some(name), _) => Cell::Text(Cow::Borrowed(name)),
                    (None, _) => Cell::Null,
                },
                _ => Cell::Null,
            },
            Made::Numbers(numbers) if numbers[row].is_nan() => Cell::Null,
            Made::Numbers(numbers) => Cell::Number(numbers[row]),
            Made::Elements(rows) if rows[row].iter().any(|x| x.is_nan()) => Cell::Null,
            Made::Elements(rows) => Cell::Elements(&rows[row]),
            Made::Texts(texts) => texts[row].as_deref().map_or(Cell::Null, |text| Cell::Text(Cow::Borrowed(text))),
            Made::Counts(counts) => Cell::Integer(counts[row]),
            Made::Nulls => Cell::Null,
        }
    }

    /// A value as `to_jsonb` writes it.
    pub fn json<'a>(&'a self, schema: &'a Schema, column: usize, row: usize) -> Json<'a> {
        let described = &schema.columns[column];
        match (self.cell(schema, column, row), &described.role, &self.columns[column]) {
            (Cell::Null, ..) => Value::Null.into(),
            (_, Role::Categories { json: Some(values), .. }, Made::Codes(codes)) => {
                values.get(codes[row] as usize).map_or(Value::Null.into(), |value| Json::Other(Cow::Borrowed(value)))
            }
            (cell, ..) => cell.json(described.column_type),
        }
    }

    /// A row as a JSON object.
    #[cfg(test)]
    pub fn json_row(&self, schema: &Schema, row: usize) -> Value {
        let shown = schema.columns.iter().enumerate().filter(|(_, described)| !described.hidden);
        let entry = |(column, described): (usize, &super::schema::Column)| {
            (
                described.name.clone(),
                match self.json(schema, column, row) {
                    Json::Integer(x) => x.into(),
                    Json::Text(text) => text.into(),
                    Json::Document(text) => serde_json::from_str(&text).unwrap(),
                    Json::Other(value) => value.into_owned(),
                },
            )
        };
        Value::Object(shown.map(entry).collect())
    }
}

impl<'a> Cell<'a> {
    fn json(self, kind: ColumnType) -> Json<'a> {
        match self {
            Self::Null => Value::Null.into(),
            Self::Boolean(truth) => Value::Bool(truth).into(),
            Self::Number(x) => number_json(x, kind),
            Self::Integer(count) => Json::Integer(count),
            Self::Text(text) if kind == ColumnType::Json => Json::Document(text),
            Self::Text(text) => Json::Text(text),
            Self::Elements(values) => Value::Array(values.iter().map(|&x| plain_number(x)).collect()).into(),
        }
    }

    /// A value as PostgreSQL's input functions read it; `None` for NULL.
    pub fn text(&self, kind: ColumnType) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Null => return None,
            Self::Boolean(truth) => truth.to_string().into(),
            Self::Number(x) => match number_json(*x, kind) {
                Json::Text(text) | Json::Document(text) => text,
                Json::Integer(x) => x.to_string().into(),
                Json::Other(value) => value.to_string().into(),
            },
            Self::Integer(count) => count.to_string().into(),
            Self::Text(text) => Cow::Borrowed(text.as_ref()),
            Self::Elements(values) => {
                let values: Vec<String> = values.iter().map(|&x| plain_number(x).to_string()).collect();
                format!("{{{}}}", values.join(",")).into()
            }
        })
    }
}

fn number_json(x: f64, kind: ColumnType) -> Json<'static> {
    match kind {
        ColumnType::Date | ColumnType::Time | ColumnType::Timestamp | ColumnType::Timestamptz => {
            Json::Text(show_time(x, kind).into())
        }
        _ => whole(x).map_or_else(|| Value::from(x).into(), Json::Integer),
    }
}

fn whole(x: f64) -> Option<i64> {
    (x.fract() == 0.0 && x.abs() < 9e15).then_some(x as i64)
}

/// A JSON number; whole numbers have no decimal point.
fn plain_number(x: f64) -> Value {
    whole(x).map_or_else(|| Value::from(x), Value::from)
}

/// A date, a time of day or a timestamp in ISO 8601.
pub fn show_time(x: f64, kind: ColumnType) -> String {
    const DAY: i64 = 86_400_000_000;
    let count = x as i64;
    let (days, clock) = match kind {
        ColumnType::Date => (count, 0),
        ColumnType::Time => (0, count),
        _ => (count.div_euclid(DAY), count.rem_euclid(DAY)),
    };
    let date = || {
        let (year, month, day) = calendar(days);
        // PostgreSQL writes the years before the first with BC behind.
        format!("{year:04}-{month:02}-{day:02}")
    };
    let clock = || {
        let seconds = clock / 1_000_000;
        let mut text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        if clock % 1_000_000 != 0 {
            text += format!(".{:06}", clock % 1_000_000).trim_end_matches('0');
        }
        text
    };
    match kind {
        ColumnType::Date => date(),
        ColumnType::Time => clock(),
        ColumnType::Timestamptz => format!("{}T{}+00:00", date(), clock()),
        _ => format!("{}T{}", date(), clock()),
    }
}

/// Year, month and day of the days since 2000-01-01 (Hinnant, "chrono-compatible low-level date algorithms").
fn calendar(days: i64) -> (i64, i64, i64) {
    let days = days + 730_425;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::constraints::time;

    #[test]
    fn times_are_written_as_they_are_read() {
        for text in ["2000-01-01", "1999-12-31", "2024-02-29", "1900-03-01", "2400-02-29", "0001-01-01"] {
            assert_eq!(show_time(time(text, ColumnType::Date).unwrap(), ColumnType::Date), text);
        }
        let at = time("2021-05-06 07:08:09.25", ColumnType::Timestamp).unwrap();
        assert_eq!(show_time(at, ColumnType::Timestamp), "2021-05-06T07:08:09.25");
        assert_eq!(show_time(at, ColumnType::Timestamptz), "2021-05-06T07:08:09.25+00:00");
        assert_eq!(show_time(3_723e6, ColumnType::Time), "01:02:03");
        assert_eq!(show_time(-1.0, ColumnType::Timestamp), "1999-12-31T23:59:59.999999");
    }

    #[test]
    fn numbers_are_plain() {
        assert_eq!(plain_number(3.0).to_string(), "3");
        assert_eq!(plain_number(0.07).to_string(), "0.07");
        assert_eq!(plain_number(-0.0).to_string(), "0");
        assert_eq!(Cell::Elements(&[1.0, 2.5]).text(ColumnType::Array).unwrap(), "{1,2.5}");
    }
}
