//! Derives the schema and the frame from the table of a source.

use ahash::AHashMap;

use super::precision::step;
use super::{Column, ColumnType, Description, Role, Schema, Wishes};
use crate::constraints;
use crate::constraints::Constraint;
use crate::frame::{Field, FieldKind, Frame, Values};
use crate::keys::Key;
use crate::text::check_lengths;
use runtime::draw::mix;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::Progress;
use runtime::sorting::sort_watched;
use tabular::{NONE, Table};

/// Minimum number of rows to detect identifiers and free text.
const TELLING_ROWS: usize = 20;
/// The usual name of a key.
const IDENTIFIER: &str = "id";
/// Arrays with more numbers are categories.
const MAX_ELEMENTS: usize = 16;
/// Texts with at least this many words on average, most of them different, are free text.
const FREE_WORDS: f64 = 3.0;

/// Numbers between two checks for a cancel request.
const PART: usize = 1 << 16;

/// A source's schema and frame.
pub struct Learned {
    pub schema: Schema,
    pub frame: Frame,
    /// A hash of each row, for each unique group of the schema.
    pub unique: Vec<Vec<u64>>,
    pub notices: Vec<String>,
}

/// A column with its description.
struct Source<'a> {
    description: &'a Description,
    column: &'a tabular::Column,
}

impl Learned {
    /// `descriptions` are those of the table's columns, in the same order. Columns whose type is a number were read as
    /// numbers, all others as categories.
    pub fn new(table: &Table, descriptions: &[Description], wishes: &Wishes, progress: &dyn Progress) -> Result<Self> {
        let mut learned = Self {
            schema: Schema::default(),
            frame: Frame { rows: table.rows(), columns: Vec::new() },
            unique: Vec::new(),
            notices: Vec::new(),
        };
        learned.read_constraints(descriptions, wishes)?;
        for (description, (_, _, column)) in descriptions.iter().zip(table.columns()) {
            progress.check()?;
            learned.add(&Source { description, column }, wishes, progress)?;
        }
        progress.check()?;
        learned.check_rows(table, descriptions)?;
        learned.apply_constraints()?;
        learned.order()?;
        for group in &wishes.unique {
            let columns = group.iter().map(|name| learned.schema.column(name)).collect::<Option<Vec<usize>>>();
            // A key among them makes any group unique.
            let Some(columns) = columns else { continue };
            let plain = columns.iter().all(|&column| learned.schema.field_of(column).is_some());
            if plain && !wishes.private {
                let fields: Vec<usize> = columns.iter().filter_map(|&column| learned.schema.field_of(column)).collect();
                let hashes = (0..table.rows()).map(|row| hash(&learned.frame, &fields, row)).collect();
                learned.unique.push(hashes);
                learned.schema.unique.push(columns);
            }
        }
        if learned.schema.fields.is_empty() {
            let hint = "Select at least one column with values besides the keys.";
            return Err(Error::invalid("the source has no columns to learn from", hint));
        }
        Ok(learned)
    }

    fn read_constraints(&mut self, descriptions: &[Description], wishes: &Wishes) -> Result<()> {
        let given = wishes.constraints.iter().map(|expression| (expression, true));
        for (expression, must) in given.chain(wishes.checks.iter().map(|expression| (expression, false))) {
            match constraints::understand(expression, descriptions) {
                Some(Ok(understood)) => self.schema.constraints.extend(understood),
                Some(Err(error)) if must => return Err(error),
                None if must => {
                    let hint = "Compare a column to a constant or to another column: \"price > 0\", \"start <= finish\", \"status IN ('a', 'b')\"; join several by AND.";
                    return Err(Error::invalid(format!("invalid constraint \"{expression}\""), hint));
                }
                _ => self.notices.push(format!("the check {expression} is not supported: rows may violate it")),
            }
        }
        self.schema.constraints.dedup();
        Ok(())
    }

    fn add(&mut self, source: &Source, wishes: &Wishes, progress: &dyn Progress) -> Result<()> {
        let Source { description, column } = source;
        let name = &description.name;
        let rows = self.frame.rows;
        let is_key = wishes.keys.contains(name) || description.key;
        let foreign = wishes.foreign_keys.contains(name) || description.foreign_key;
        let role = match column {
            tabular::Column::Number(values) if is_key => self.counter(values, description, wishes)?,
            tabular::Column::Category { names, .. } if is_key => {
                let key = match (description.uuid, wishes.private) {
                    (true, _) => Key::Uuid,
                    (false, true) => Key::Text { prefix: String::new(), digits: 13 },
                    (false, false) => Key::like(names),
                };
                Role::Key(key)
            }
            tabular::Column::Number(values) if values.iter().all(|x| x.is_nan()) && !wishes.private => Role::Null,
            tabular::Column::Category { names, .. } if names.is_empty() && !wishes.private => Role::Null,
            tabular::Column::Number(values) if foreign => {
                let (codes, names) = categories_of(values, progress)?;
                self.categories(description, codes, names, wishes)?
            }
            tabular::Column::Number(values) => {
                let identifies = counts_rows(values) || (name == IDENTIFIER && are_distinct(values, progress)?);
                // What the rows alone say is not told of private ones.
                let identifies = description.column_type == ColumnType::Integer && identifies && !wishes.private;
                if identifies && !wishes.bounds.contains_key(name) {
                    self.notices
                        .push(format!("column \"{name}\" identifies the rows: its values go on from the greatest"));
                    self.counter(values, description, wishes)?
                } else {
                    self.number(description, values, wishes)?
                }
            }
            tabular::Column::Category { codes, names, .. } => {
                let texts: Vec<String> = names.iter().map(|name| name.to_string()).collect();
                let plain_text = description.column_type == ColumnType::Text && description.labels.is_none();
                let free = wishes.free.get(name).copied();
                let telling = rows >= TELLING_ROWS && !wishes.private;
                let identifies = telling && names.len() == rows;
                let words = names.iter().map(|name| words(name)).sum::<usize>() as f64 / names.len().max(1) as f64;
                let seems_free = telling && 2 * names.len() > rows && words >= FREE_WORDS;
                if let Some(elements) = self.elements(description, codes, &texts, wishes)? {
                    elements
                } else if plain_text && free.unwrap_or(seems_free && !foreign) {
                    self.free_text(description, codes, texts, wishes)?
                } else if plain_text
                    && identifies
                    && !foreign
                    && free.is_none()
                    && !wishes.categories.contains_key(name)
                {
                    self.notices
                        .push(format!("column \"{name}\" has another value in every row: new ones are made like them"));
                    Role::Key(if description.uuid { Key::Uuid } else { Key::like(names) })
                } else {
                    self.categories(description, codes.clone(), texts, wishes)?
                }
            }
            tabular::Column::Vector { .. } => {
                return Err(Error::Internal(format!("column {name} was read as a vector")));
            }
        };
        let Description { name, column_type, type_name, .. } = (*description).clone();
        self.schema.columns.push(Column { name, column_type, type_name, role, hidden: false });
        Ok(())
    }

    fn field(
        &mut self,
        description: &Description,
        kind: FieldKind,
        values: Values,
        declared: bool,
        private: bool,
    ) -> usize {
        let nulls = if private { !description.not_null } else { (0..values.len()).any(|row| values.is_null(row)) };
        self.schema.fields.push(Field { name: description.name.clone(), kind, nulls, declared });
        self.frame.columns.push(values);
        self.frame.columns.len() - 1
    }

    fn counter(&self, values: &[f64], description: &Description, wishes: &Wishes) -> Result<Role> {
        if description.column_type != ColumnType::Integer {
            return Err(Error::ColumnType {
                column: description.name.clone(),
                found: description.type_name.clone(),
                expected: "a whole number, text or uuid to be a key",
            });
        }
        let greatest = values.iter().copied().filter(|x| !x.is_nan()).fold(0.0, f64::max);
        // The greatest would be told.
        let next = if wishes.private { 1 } else { (greatest as i64).saturating_add(1) };
        Ok(Role::Key(Key::Counter { next }))
    }

    fn number(&mut self, description: &Description, values: &[f64], wishes: &Wishes) -> Result<Role> {
        let step = step(description.column_type, description.scale, values, wishes.private);
        let declared = wishes.bounds.get(&description.name).copied();
        let known = || values.iter().copied().filter(|x| !x.is_nan());
        let (low, high) = declared
            .unwrap_or_else(|| (known().fold(f64::INFINITY, f64::min), known().fold(f64::NEG_INFINITY, f64::max)));
        if declared.is_some()
            && let Some(row) = values.iter().position(|&x| x < low || x > high)
        {
            return Err(outside(description, row));
        }
        // Of a private column without a value.
        let (low, high) = if low <= high { (low, high) } else { (0.0, 0.0) };
        let mut copy = Vec::new();
        memory::extend(&mut copy, values)?;
        let kind = FieldKind::Number { low, high, step };
        Ok(Role::Number {
            field: self.field(description, kind, Values::Numbers(copy), declared.is_some(), wishes.private),
        })
    }

    fn categories(
        &mut self,
        description: &Description,
        mut codes: Vec<u32>,
        mut names: Vec<String>,
        wishes: &Wishes,
    ) -> Result<Role> {
        let declared = wishes.categories.get(&description.name).or(description.labels.as_ref());
        if let Some(declared) = declared {
            let numbers: AHashMap<&str, u32> = declared.iter().map(String::as_str).zip(0..).collect();
            let map: Vec<Option<u32>> = names.iter().map(|name| numbers.get(name.as_str()).copied()).collect();
            for (row, code) in codes.iter_mut().enumerate().filter(|(_, code)| **code != NONE) {
                *code = map[*code as usize].ok_or_else(|| outside(description, row))?;
            }
            names = declared.clone();
        }
        let kind = FieldKind::Category { count: names.len() };
        let field = self.field(description, kind, Values::Codes(codes), declared.is_some(), wishes.private);
        Ok(Role::Categories { field, names, json: None })
    }

    fn elements(
        &mut self,
        description: &Description,
        codes: &[u32],
        names: &[String],
        wishes: &Wishes,
    ) -> Result<Option<Role>> {
        if description.column_type != ColumnType::Array || wishes.private {
            return Ok(None);
        }
        let numbers: Option<Vec<Vec<f64>>> = names.iter().map(|name| numbers_of(name)).collect();
        let Some(numbers) = numbers else { return Ok(None) };
        let count = numbers.first().map_or(0, Vec::len);
        if count == 0 || count > MAX_ELEMENTS || numbers.iter().any(|row| row.len() != count) {
            return Ok(None);
        }
        let whole = numbers.iter().flatten().all(|x| x.fract() == 0.0);
        let element_type = if whole { ColumnType::Integer } else { ColumnType::Float };
        let first = self.frame.columns.len();
        for element in 0..count {
            let values: Vec<f64> =
                codes.iter().map(|&code| numbers.get(code as usize).map_or(f64::NAN, |row| row[element])).collect();
            let known = || values.iter().copied().filter(|x| !x.is_nan());
            let (low, high) = (known().fold(f64::INFINITY, f64::min), known().fold(f64::NEG_INFINITY, f64::max));
            let kind = FieldKind::Number { low, high, step: step(element_type, None, &values, false) };
            self.field(description, kind, Values::Numbers(values), false, false);
        }
        Ok(Some(Role::Elements { first, count }))
    }

    fn free_text(
        &mut self,
        description: &Description,
        codes: &[u32],
        names: Vec<String>,
        wishes: &Wishes,
    ) -> Result<Role> {
        check_lengths(&description.name, &names)?;
        if wishes.private {
            let hint = format!(
                "Leave it out with {{\"drop\": [\"{0}\"]}}, or declare its values with {{\"domain\": {{\"{0}\": […]}}}}: its texts would reveal the rows.",
                description.name
            );
            return Err(Error::invalid(format!("column \"{}\" is free text", description.name), hint));
        }
        let kind = FieldKind::Category { count: names.len() };
        let field = self.field(description, kind, Values::Codes(codes.to_vec()), false, false);
        Ok(Role::FreeText { field: Some(field), names })
    }

    /// An error where a row of the source violates a constraint.
    fn check_rows(&self, table: &Table, descriptions: &[Description]) -> Result<()> {
        let broken = |what: String, row: usize| {
            let hint = "Leave out such rows, or the constraint.";
            Error::invalid(format!("row {} of the source violates the constraint {what}", row + 1), hint)
        };
        let columns: Vec<&tabular::Column> = table.columns().map(|(_, _, column)| column).collect();
        let name = |column: usize| &descriptions[column].name;
        for constraint in &self.schema.constraints {
            let row = match constraint {
                Constraint::Order { less, greater, strict } => match (columns[*less], columns[*greater]) {
                    (tabular::Column::Number(a), tabular::Column::Number(b)) => {
                        a.iter().zip(b).position(|(a, b)| if *strict { a >= b } else { a > b })
                    }
                    _ => None,
                },
                Constraint::Low { column, low, strict } => match columns[*column] {
                    tabular::Column::Number(values) => {
                        values.iter().position(|x| if *strict { x <= low } else { x < low })
                    }
                    _ => None,
                },
                Constraint::High { column, high, strict } => match columns[*column] {
                    tabular::Column::Number(values) => {
                        values.iter().position(|x| if *strict { x >= high } else { x > high })
                    }
                    _ => None,
                },
                Constraint::OneOf { column, names } => match columns[*column] {
                    tabular::Column::Category { codes, names: found, .. } => {
                        let fits: Vec<bool> =
                            found.iter().map(|name| names.iter().any(|known| **known == **name)).collect();
                        codes.iter().position(|&code| code != NONE && !fits[code as usize])
                    }
                    tabular::Column::Number(values) => {
                        values.iter().position(|x| !x.is_nan() && !names.iter().any(|name| name.parse() == Ok(*x)))
                    }
                    tabular::Column::Vector { .. } => None,
                },
                Constraint::NotNull { column } => {
                    let column = columns[*column];
                    (0..table.rows()).position(|row| column.get(row) == tabular::Value::Null)
                }
            };
            if let Some(row) = row {
                return Err(broken(constraint.describe(&name), row));
            }
        }
        Ok(())
    }

    /// Narrows the bounds of fields to those of the constraints.
    fn apply_constraints(&mut self) -> Result<()> {
        for constraint in &self.schema.constraints {
            let (column, bound, strict, is_low) = match *constraint {
                Constraint::Low { column, low, strict } => (column, low, strict, true),
                Constraint::High { column, high, strict } => (column, high, strict, false),
                _ => continue,
            };
            let Some(field) = self.schema.field_of(column) else { continue };
            let field = &mut self.schema.fields[field];
            let FieldKind::Number { low, high, step } = &mut field.kind else { continue };
            let beyond = |x: f64, up: bool| match (*step > 0.0, up) {
                (true, true) => ((x / *step).floor() + 1.0) * *step,
                (true, false) => ((x / *step).ceil() - 1.0) * *step,
                (false, true) => x.next_up(),
                (false, false) => x.next_down(),
            };
            let bound = if strict { beyond(bound, is_low) } else { bound };
            if is_low {
                *low = low.max(bound);
            } else {
                *high = high.min(bound);
            }
            if low > high {
                let message = format!("the constraints on column \"{}\" contradict each other", field.name);
                return Err(Error::invalid(message, "Remove one of them: no value satisfies all."));
            }
        }
        Ok(())
    }

    /// Replaces the greater of two ordered columns by its difference from the lesser one.
    fn order(&mut self) -> Result<()> {
        let orders: Vec<(usize, usize)> = self.schema.constraints.iter().filter_map(Constraint::order).collect();
        if let Some(&(less, greater)) = orders.iter().find(|(less, greater)| reaches(&orders, *greater, *less)) {
            let name = |column: usize| &self.schema.columns[column].name;
            let (less, greater) = (name(less), name(greater));
            let message = format!("the constraints on columns \"{less}\" and \"{greater}\" contradict each other");
            return Err(Error::invalid(
                message,
                "Remove one of them: each column would have to be less than the other.",
            ));
        }
        for (less, greater) in orders {
            // By the fields' values before any of them became a difference: those of `less` may be one already.
            let Role::Number { field } = self.schema.columns[greater].role else { continue };
            let Some(base) = self.values(less) else { continue };
            let Values::Numbers(values) = &self.frame.columns[field] else { continue };
            if base.iter().zip(values).any(|(a, b)| a.is_nan() && !b.is_nan()) {
                continue;
            }
            let differences: Vec<f64> = values.iter().zip(&base).map(|(b, a)| b - a).collect();
            let known = || differences.iter().copied().filter(|x| !x.is_nan());
            let (least, most) = (known().fold(f64::INFINITY, f64::min), known().fold(0.0, f64::max));
            let FieldKind::Number { low, high, step } = self.schema.fields[field].kind else { continue };
            if least > most {
                continue;
            }
            // Differences of decimals are rounded back to the column's step when they are added again.
            self.schema.fields[field].kind =
                FieldKind::Number { low: least, high: most, step: if step >= 1.0 { 1.0 } else { step } };
            self.schema.fields[field].nulls = differences.iter().any(|x| x.is_nan());
            self.frame.columns[field] = Values::Numbers(differences);
            self.schema.columns[greater].role = Role::Difference { field, from: less, low, high };
        }
        Ok(())
    }

    /// The numbers of a column, with differences resolved.
    fn values(&self, column: usize) -> Option<Vec<f64>> {
        match self.schema.columns[column].role {
            Role::Number { field } => match &self.frame.columns[field] {
                Values::Numbers(values) => Some(values.clone()),
                Values::Codes(_) => None,
            },
            Role::Difference { field, from, .. } => match &self.frame.columns[field] {
                Values::Numbers(values) => Some(self.values(from)?.iter().zip(values).map(|(a, d)| a + d).collect()),
                Values::Codes(_) => None,
            },
            _ => None,
        }
    }
}

/// Whether the orders imply that `from` is less than `to`.
fn reaches(orders: &[(usize, usize)], from: usize, to: usize) -> bool {
    let mut seen = vec![from];
    let mut at = 0;
    while let Some(&column) = seen.get(at) {
        if column == to {
            return true;
        }
        for &(less, greater) in orders {
            if less == column && !seen.contains(&greater) {
                seen.push(greater);
            }
        }
        at += 1;
    }
    false
}

/// Hash of some fields of a row.
pub fn hash(frame: &Frame, fields: &[usize], row: usize) -> u64 {
    fields.iter().fold(0, |hash, &field| {
        let bits = match &frame.columns[field] {
            Values::Codes(codes) => u64::from(codes[row]),
            Values::Numbers(numbers) => (numbers[row] + 0.0).to_bits(),
        };
        mix(hash ^ mix(bits))
    })
}

fn outside(description: &Description, row: usize) -> Error {
    let message = format!("column \"{}\" is outside its declared domain in row {}", description.name, row + 1);
    Error::invalid(message, "Declare all its values under \"domain\", or leave out such rows.")
}

/// Whether n rows hold n consecutive whole numbers.
fn counts_rows(values: &[f64]) -> bool {
    let n = values.len();
    if n < TELLING_ROWS || values.iter().any(|x| x.is_nan()) {
        return false;
    }
    let (low, high) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &x| (a.min(x), b.max(x)));
    if high - low != (n - 1) as f64 {
        return false;
    }
    let mut seen = vec![false; n];
    values.iter().all(|x| !std::mem::replace(&mut seen[(x - low) as usize], true))
}

fn are_distinct(values: &[f64], progress: &dyn Progress) -> Result<bool> {
    // NaN, for NULL, is no less than anything.
    let sorted = sorted(values, progress)?;
    Ok(values.len() >= TELLING_ROWS && sorted.windows(2).all(|pair| pair[0] < pair[1]))
}

/// Turns numbers into categories, in ascending order.
fn categories_of(values: &[f64], progress: &dyn Progress) -> Result<(Vec<u32>, Vec<String>)> {
    let mut known = sorted(values, progress)?;
    known.retain(|x| !x.is_nan());
    known.dedup();
    let (mut codes, mut names) = (memory::filled(NONE, values.len())?, Vec::new());
    for (values, codes) in values.chunks(PART).zip(codes.chunks_mut(PART)) {
        progress.check()?;
        for (&x, code) in values.iter().zip(codes).filter(|(x, _)| !x.is_nan()) {
            *code = known.partition_point(|&known| known < x) as u32;
        }
    }
    for known in known.chunks(PART) {
        progress.check()?;
        names.extend(known.iter().map(f64::to_string));
    }
    Ok((codes, names))
}

fn sorted(values: &[f64], progress: &dyn Progress) -> Result<Vec<f64>> {
    let mut sorted = Vec::new();
    memory::extend(&mut sorted, values)?;
    sort_watched(&mut sorted, &|| progress.check(), f64::total_cmp)?;
    Ok(sorted)
}

/// The numbers of an array as PostgreSQL prints it: `{1,2.5,-3}`.
fn numbers_of(text: &str) -> Option<Vec<f64>> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    inner.split(',').map(|number| number.parse().ok().filter(|x: &f64| x.is_finite())).collect()
}

/// Number of words; for scripts without blanks, a third of the letters.
fn words(text: &str) -> usize {
    let unspaced = text.chars().filter(|&c| ('\u{3040}'..='\u{9fff}').contains(&c)).count();
    text.split_whitespace().count().max(unspaced / 3)
}
