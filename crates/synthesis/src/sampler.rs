//! Drawing rows: a generator's blocks are decoded, checked against constraints and conditions, and returned.
//!
//! Rows that do not fit are rejected and drawn again, so that the accepted rows follow the distribution conditional on
//! fitting. Memory: one block, whatever the number of rows, and 8 bytes a row if a unique constraint over several
//! columns is enforced.

use ahash::AHashSet;

use super::conditions::{Condition, Conditions, Wanted};
use super::constraints::Constraint;
use super::frame::{FieldKind, Frame, Values};
use super::keys::Key;
use super::made::{Block, Made};
use super::part::Part;
use super::schema::{Role, Schema};
use super::{BLOCK, Draw, RunGraph};
use runtime::draw::{below, mix};
use runtime::error::{Error, Result};
use runtime::progress::Progress;
use tabular::NONE;

/// Blocks after which drawing stops if almost no row fits.
const PATIENCE: u64 = 64;
/// Maximum number of rows drawn for each that fits.
const MAX_DRAWN: u64 = 100_000;

/// Draws the rows of one call.
pub struct Sampler {
    conditions: Conditions,
    /// Conditions that the generator meets by itself.
    given: Vec<(usize, Values)>,
    seed: u64,
    block: u64,
    /// Rows drawn so far, including those of earlier samplers, and the number of rows to draw in all.
    made: u64,
    wanted: u64,
    unique: Vec<AHashSet<u64>>,
}

impl Sampler {
    pub fn new(part: &Part, wanted: u64, conditions: Conditions, seed: u64) -> Self {
        let unique = part.unique.iter().map(|hashes| hashes.iter().copied().collect()).collect();
        let given = given(part, &conditions);
        Self { conditions, given, seed, block: 0, made: 0, wanted, unique }
    }

    /// Continues after `made` rows of other samplers, so that keys do not repeat.
    pub fn after(self, made: u64) -> Self {
        Self { made: self.made + made, wanted: self.wanted.saturating_add(made), ..self }
    }

    /// The next rows of `part`, which must be the one passed to [`new`](Self::new); `None` at the end. The same seed
    /// gives the same rows, and a longer run begins with the rows of a shorter one.
    pub fn next(
        &mut self,
        part: &Part,
        graph: &mut RunGraph,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Option<Block>> {
        while self.made < self.wanted {
            progress.check()?;
            let draw =
                Draw { rows: BLOCK, seed: mix(self.seed ^ mix(self.block)), given: &self.given, threads, progress };
            self.block += 1;
            let frame = part.generator.sample(&draw, graph)?;
            let (block, _) = self.fitting(part, frame, draw.seed)?;
            let drawn = self.block * BLOCK as u64;
            self.made += block.rows as u64;
            if self.block >= PATIENCE && self.made * MAX_DRAWN < drawn {
                let (what, hint) = match self.conditions.columns.is_empty() {
                    true => ("satisfy the constraints", "Leave out constraints that few rows satisfy."),
                    false => (
                        "meet the conditions",
                        "Widen them, or give fewer at once; SELECT the combination from the source to see whether it has such rows.",
                    ),
                };
                return Err(Error::invalid(format!("only {} of {drawn} rows drawn {what}", self.made), hint));
            }
            progress.report("rows made", self.made as usize, self.wanted as usize);
            if block.rows > 0 {
                return Ok(Some(block));
            }
        }
        Ok(None)
    }

    /// Draws a child's row for each of `owners`, which are rows of the block `parents`. The first fields of `part` are
    /// those of the parent.
    pub fn for_parents(
        &mut self,
        part: &Part,
        parents: &Block,
        parent_fields: usize,
        owners: &[usize],
        graph: &mut RunGraph,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Block> {
        let mut pending = owners.to_vec();
        let (mut made, mut owned) = (Block::default(), Vec::new());
        for _ in 0..PATIENCE {
            progress.check()?;
            let given: Vec<(usize, Values)> =
                (0..parent_fields).map(|field| (field, parents.frame.columns[field].take(&pending))).collect();
            let seed = mix(self.seed ^ mix(self.block));
            self.block += 1;
            let draw = Draw { rows: pending.len(), seed, given: &given, threads, progress };
            let frame = part.generator.sample(&draw, graph)?;
            let (block, rows) = self.fitting(part, frame, seed)?;
            self.made += block.rows as u64;
            owned.extend(rows.iter().map(|&row| pending[row]));
            let mut fits = vec![false; pending.len()];
            rows.iter().for_each(|&row| fits[row] = true);
            let mut fits = fits.into_iter();
            pending.retain(|_| !fits.next().unwrap_or(false));
            made.append(block);
            if pending.is_empty() {
                break;
            }
        }
        if !pending.is_empty() {
            let message = format!("no rows drawn for {} parents satisfy the constraints", pending.len());
            return Err(Error::invalid(message, "Give conditions on the parents, or leave out constraints."));
        }
        for (column, described) in made.columns.iter_mut().zip(&part.schema.columns) {
            if let Role::Parent { column: of } = described.role {
                *column = parents.columns[of].clone();
                column.keep(&owned);
            }
        }
        Ok(made)
    }

    /// The rows that fit, decoded, at most as many as are still wanted, and their indices in the frame.
    fn fitting(&mut self, part: &Part, mut frame: Frame, seed: u64) -> Result<(Block, Vec<usize>)> {
        let schema = &part.schema;
        if frame.columns.len() != schema.fields.len() || frame.columns.iter().any(|values| values.len() != frame.rows) {
            return Err(Error::Internal("a generator gave other columns than its fields".into()));
        }
        snap(&mut frame, schema);
        let mut columns = decode(&frame, schema);
        let mut rows: Vec<usize> = (0..frame.rows).filter(|&row| self.fits(schema, &frame, &columns, row)).collect();
        if !schema.unique.is_empty() {
            rows.retain(|&row| self.is_new(schema, &frame, row));
        }
        rows.truncate(usize::try_from(self.wanted - self.made).unwrap_or(usize::MAX));
        for (number, column) in columns.iter_mut().enumerate() {
            match &schema.columns[number].role {
                Role::Key(key) => *column = self.keys(key, number, &schema.columns[number].name, rows.len())?,
                Role::FreeText { field, names } => {
                    let codes = field.and_then(|field| match &frame.columns[field] {
                        Values::Codes(codes) => Some(codes),
                        Values::Numbers(_) => None,
                    });
                    let text = |&row: &usize| {
                        let own = mix(seed ^ mix(row as u64));
                        let donor =
                            codes.map_or_else(|| below(own, number as u64, names.len()) as u32, |codes| codes[row]);
                        (donor != NONE).then(|| part.text(number, donor, mix(own ^ number as u64)))
                    };
                    *column = Made::Texts(rows.iter().map(text).collect());
                }
                _ => column.keep(&rows),
            }
        }
        for Condition { column, wanted } in &self.conditions.columns {
            if let (Wanted::Number { value, .. }, Made::Numbers(numbers)) = (wanted, &mut columns[*column]) {
                numbers.fill(*value);
            }
        }
        frame = Frame { rows: rows.len(), columns: frame.columns.iter().map(|values| values.take(&rows)).collect() };
        Ok((Block { rows: rows.len(), columns, frame }, rows))
    }

    fn keys(&self, key: &Key, column: usize, name: &str, rows: usize) -> Result<Made> {
        let start = self.conditions.start(column);
        let seed = mix(self.seed ^ mix(column as u64));
        let numbers = (self.made..).take(rows);
        Ok(match key {
            Key::Counter { .. } => {
                Made::Counts(numbers.map(|number| key.number(number, start, name)).collect::<Result<_>>()?)
            }
            _ => Made::Texts(numbers.map(|number| key.text(seed, number, name).map(Some)).collect::<Result<_>>()?),
        })
    }

    fn fits(&self, schema: &Schema, frame: &Frame, columns: &[Made], row: usize) -> bool {
        let number = |column: usize| match &columns[column] {
            Made::Numbers(numbers) => numbers[row],
            _ => f64::NAN,
        };
        // NULL where there was none.
        let whole = schema.fields.iter().zip(&frame.columns).all(|(field, values)| field.nulls || !values.is_null(row));
        whole
            && schema.columns.iter().zip(columns).all(|(column, made)| match (&column.role, made) {
                (Role::Difference { low, high, .. }, Made::Numbers(numbers)) => {
                    numbers[row].is_nan() || (*low <= numbers[row] && numbers[row] <= *high)
                }
                _ => true,
            })
            && schema.constraints.iter().all(|constraint| match constraint {
                // NULL breaks no check.
                Constraint::Order { less, greater, strict } => {
                    let (a, b) = (number(*less), number(*greater));
                    !breaks(a, b, *strict)
                }
                Constraint::Low { column, low, strict } => {
                    let x = number(*column);
                    !breaks(*low, x, *strict)
                }
                Constraint::High { column, high, strict } => {
                    let x = number(*column);
                    !breaks(x, *high, *strict)
                }
                Constraint::OneOf { .. } | Constraint::NotNull { .. } => true,
            })
            && self.conditions.columns.iter().all(|condition| match &columns[condition.column] {
                Made::Codes(codes) => condition.wanted.has_code(codes[row]),
                Made::Numbers(numbers) => condition.wanted.has_number(numbers[row]),
                _ => false,
            })
    }

    /// Whether no earlier row equals this one in the columns of a unique constraint; if so, remembers it.
    fn is_new(&mut self, schema: &Schema, frame: &Frame, row: usize) -> bool {
        let hashes: Vec<u64> = schema
            .unique
            .iter()
            .map(|columns| {
                let fields: Vec<usize> = columns.iter().filter_map(|&column| schema.field_of(column)).collect();
                super::schema::hash(frame, &fields, row)
            })
            .collect();
        if hashes.iter().zip(&self.unique).any(|(hash, known)| known.contains(hash)) {
            return false;
        }
        hashes.into_iter().zip(&mut self.unique).for_each(|(hash, known)| _ = known.insert(hash));
        true
    }
}

/// Whether the order is violated. NULL, which is NaN, violates nothing.
fn breaks(less: f64, greater: f64, strict: bool) -> bool {
    if strict { less >= greater } else { less > greater }
}

/// Conditions on single values that the generator can condition on.
fn given(part: &Part, conditions: &Conditions) -> Vec<(usize, Values)> {
    let single = conditions.columns.iter().filter_map(|condition| {
        let field = part.schema.field_of(condition.column)?;
        match &condition.wanted {
            Wanted::Codes(codes) if codes.len() == 1 => Some((field, Values::Codes(vec![codes[0]; BLOCK]))),
            Wanted::Number { value, .. } => Some((field, Values::Numbers(vec![*value; BLOCK]))),
            _ => None,
        }
    });
    let given: Vec<(usize, Values)> = single.collect();
    let fields: Vec<usize> = given.iter().map(|(field, _)| *field).collect();
    if fields.is_empty() || !part.generator.takes(&fields) { Vec::new() } else { given }
}

/// Rounds numbers to their field's precision and clamps them to its bounds.
fn snap(frame: &mut Frame, schema: &Schema) {
    for (values, field) in frame.columns.iter_mut().zip(&schema.fields) {
        match (values, field.kind) {
            (Values::Numbers(numbers), kind) => numbers.iter_mut().for_each(|x| *x = kind.snap(*x)),
            (Values::Codes(codes), FieldKind::Category { count }) => {
                codes.iter_mut().for_each(|code| *code = if (*code as usize) < count { *code } else { NONE });
            }
            _ => {}
        }
    }
}

/// Decodes fields into columns. Columns whose values are generated separately are empty.
fn decode(frame: &Frame, schema: &Schema) -> Vec<Made> {
    (0..schema.columns.len()).map(|column| decode_column(frame, schema, column)).collect()
}

fn decode_column(frame: &Frame, schema: &Schema, column: usize) -> Made {
    let numbers = |field: usize| match &frame.columns[field] {
        Values::Numbers(numbers) => numbers.clone(),
        Values::Codes(codes) => vec![f64::NAN; codes.len()],
    };
    match &schema.columns[column].role {
        Role::Categories { field, .. } => match &frame.columns[*field] {
            Values::Codes(codes) => Made::Codes(codes.clone()),
            Values::Numbers(numbers) => Made::Codes(vec![NONE; numbers.len()]),
        },
        Role::Number { field } => Made::Numbers(numbers(*field)),
        Role::Difference { field, from, .. } => {
            // Two decimals added are as precise as they were.
            let step = match schema.fields[*field].kind {
                FieldKind::Number { step, .. } => FieldKind::Number { low: f64::MIN, high: f64::MAX, step },
                kind => kind,
            };
            match decode_column(frame, schema, *from) {
                Made::Numbers(base) => {
                    Made::Numbers(base.iter().zip(numbers(*field)).map(|(a, d)| step.snap(a + d)).collect())
                }
                other => other,
            }
        }
        Role::Elements { first, count } => {
            let fields: Vec<Vec<f64>> = (*first..first + count).map(numbers).collect();
            Made::Elements((0..frame.rows).map(|row| fields.iter().map(|field| field[row]).collect()).collect())
        }
        Role::Key(_) | Role::Parent { .. } | Role::FreeText { .. } | Role::Null => Made::Nulls,
    }
}

impl Made {
    /// Keeps `rows`, in that order; a row may occur more than once.
    fn keep(&mut self, rows: &[usize]) {
        match self {
            Self::Codes(codes) => *codes = rows.iter().map(|&row| codes[row]).collect(),
            Self::Numbers(numbers) => *numbers = rows.iter().map(|&row| numbers[row]).collect(),
            // A parent's value goes to each of its children.
            Self::Elements(elements) => *elements = rows.iter().map(|&row| elements[row].clone()).collect(),
            Self::Texts(texts) => *texts = rows.iter().map(|&row| texts[row].clone()).collect(),
            Self::Counts(counts) => *counts = rows.iter().map(|&row| counts[row]).collect(),
            Self::Nulls => {}
        }
    }
}
