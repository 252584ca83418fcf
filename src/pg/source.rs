//! A query as a source of rows: run through a cursor with the caller's own rights, columns found by name, values read
//! as the engine wants them.

use std::ffi::{CStr, CString};

use pgrx::varlena::varlena_to_byte_slice;
use pgrx::{AnyNumeric, Array, FromDatum, pg_sys};

use crate::error::{Error, Result};
use crate::interactions::Id;
use crate::pg::context::Context;
use crate::pg::ids::IdType;
use crate::tabular::{ColumnKind, Value};

/// A column that a function looks for.
#[derive(Clone, Copy)]
pub struct Wanted {
    pub name: &'static str,
    pub kind: Kind,
    pub optional: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// text, bigint, integer, smallint, uuid.
    Id,
    /// Any number.
    Number,
    /// timestamp with or without time zone, date.
    Time,
    Text,
}

pub const fn required(name: &'static str, kind: Kind) -> Wanted {
    Wanted { name, kind, optional: false }
}

pub const fn optional(name: &'static str, kind: Kind) -> Wanted {
    Wanted { name, kind, optional: true }
}

/// An open cursor on a query.
pub struct Source {
    portal: CString,
    /// For each wanted column its place in the row and its type; `None` where an optional one is missing.
    columns: Vec<Option<Column>>,
    rows_before: usize,
    /// The argument that gave the query, and the query, for the context of errors.
    what: &'static str,
    query: String,
}

#[derive(Clone, Copy)]
struct Column {
    wanted: Wanted,
    place: usize,
    type_oid: pg_sys::Oid,
}

/// A column that a function takes as it finds it: what describes an item or a user.
pub struct Attribute {
    pub name: String,
    pub kind: ColumnKind,
    place: usize,
    type_oid: pg_sys::Oid,
}

/// A column as a query gives it.
pub struct ResultColumn {
    pub name: String,
    /// Of a domain the type below it.
    pub type_oid: pg_sys::Oid,
    pub modifier: i32,
    /// The table and the number of its column that it is, unchanged.
    pub origin: Option<(pg_sys::Oid, i16)>,
}

/// An attribute's value in a row.
pub enum AttributeValue {
    Null,
    Category(String),
    Number(f64),
    Vector(Vec<f32>),
}

impl AttributeValue {
    pub fn as_value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Category(text) => Value::Category(text),
            Self::Number(number) => Value::Number(*number),
            Self::Vector(vector) => Value::Vector(vector),
        }
    }
}

/// The query as it can stand inside another: without a semicolon at its end.
pub fn as_subquery(query: &str) -> String {
    // On lines of its own, so that a comment at its end comments nothing else out.
    format!("(\n{}\n)", query.trim().trim_end_matches(';'))
}

/// What attributes can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Types {
    /// What something can be learned from.
    Learned,
    /// Whatever tells rows apart: json and arrays, too.
    Compared,
}

impl Source {
    /// Opens `query`, which must be one that only reads, and finds the wanted columns.
    pub fn open(query: &str, wanted: &[Wanted]) -> Result<Self> {
        Self::open_described("source", query, wanted).map(|(source, _)| source)
    }

    /// [`open`](Self::open) for one id, with every other column as an attribute.
    pub fn open_with_attributes(what: &'static str, query: &str, id: Wanted) -> Result<(Self, Vec<Attribute>)> {
        let (source, described) = Self::open_described(what, query, &[id])?;
        let others = described.into_iter().enumerate().filter(|(_, column)| column.name != id.name);
        let attributes = others.map(|(place, column)| column.attribute(place, Types::Learned));
        Ok((source, attributes.collect::<Result<_>>()?))
    }

    /// [`open`](Self::open) with every column as an attribute; the one that `id` names is read as text, whatever its type.
    pub fn open_table(
        what: &'static str,
        query: &str,
        id: Option<&str>,
        types: Types,
    ) -> Result<(Self, Vec<Attribute>)> {
        let (source, described) = Self::open_described(what, query, &[])?;
        let attributes = described.into_iter().enumerate().map(|(place, column)| {
            if id == Some(column.name.as_str()) {
                return Ok(Attribute {
                    name: column.name,
                    kind: ColumnKind::Category,
                    place,
                    type_oid: column.type_oid,
                });
            }
            column.attribute(place, types)
        });
        Ok((source, attributes.collect::<Result<_>>()?))
    }

    /// [`open`](Self::open) with every column as it is, to be read by [`Row::datum`].
    pub fn open_columns(what: &'static str, query: &str) -> Result<(Self, Vec<ResultColumn>)> {
        let (source, described) = Self::open_described(what, query, &[])?;
        let origins = origins(query)?;
        let columns = described.into_iter().enumerate().map(|(place, column)| ResultColumn {
            name: column.name,
            type_oid: column.type_oid,
            modifier: column.modifier,
            origin: origins.get(place).copied().flatten(),
        });
        Ok((source, columns.collect()))
    }

    /// `what` is the argument's name, for messages.
    pub fn open_named(what: &'static str, query: &str, wanted: &[Wanted]) -> Result<Self> {
        Self::open_described(what, query, wanted).map(|(source, _)| source)
    }

    fn open_described(what: &'static str, query: &str, wanted: &[Wanted]) -> Result<(Self, Vec<Described>)> {
        let text = CString::new(query)
            .map_err(|_| Error::argument(what, "a text with a zero byte", "Give a query, as in TABLE orders."))?;
        let _context = Context::enter(what, query);
        connected(|| {
            // SAFETY: SPI is connected; SPI_prepare and SPI_cursor_open raise errors of their own.
            let portal = unsafe {
                let plan = pg_sys::SPI_prepare(text.as_ptr(), 0, std::ptr::null_mut());
                if plan.is_null() || !only_reads(plan) {
                    let hint = "Give one SELECT, VALUES or TABLE statement that writes nothing.";
                    return Err(Error::argument(what, "no query that only reads", hint));
                }
                pg_sys::SPI_cursor_open(std::ptr::null(), plan, std::ptr::null_mut(), std::ptr::null(), true)
            };
            // SAFETY: a portal that SPI_cursor_open gave has a name and, for a query, a row description.
            let (name, described) = unsafe { (CStr::from_ptr((*portal).name).to_owned(), describe((*portal).tupDesc)) };
            let columns = wanted.iter().map(|w| find(w, &described)).collect::<Result<_>>()?;
            Ok((Self { portal: name, columns, rows_before: 0, what, query: query.to_owned() }, described))
        })
    }

    /// Whether the optional column number `column` of those wanted is there.
    pub fn has(&self, column: usize) -> bool {
        self.columns[column].is_some()
    }

    /// The id type of the column number `column`, which must be one of kind `Id`.
    pub fn id_type(&self, column: usize) -> IdType {
        self.columns[column].and_then(|c| IdType::of(c.type_oid)).unwrap_or(IdType::Text)
    }

    /// Fetches up to `rows` rows and hands each to `visit`. Returns how many there were: 0 at the end.
    pub fn fetch(&mut self, rows: usize, mut visit: impl FnMut(&Row) -> Result<()>) -> Result<usize> {
        let _context = Context::enter(self.what, &self.query);
        connected(|| {
            // SAFETY: SPI is connected. The portal lives until the transaction ends or `close` closes it.
            let fetched = unsafe {
                let portal = pg_sys::SPI_cursor_find(self.portal.as_ptr());
                if portal.is_null() {
                    return Err(Error::Internal("the cursor on the source is gone".into()));
                }
                pg_sys::SPI_cursor_fetch(portal, true, rows as _);
                pg_sys::SPI_processed as usize
            };
            // SAFETY: SPI has just fetched that many rows.
            unsafe { visit_rows(fetched, &self.columns, self.rows_before, &mut visit)? };
            self.rows_before += fetched;
            Ok(fetched)
        })
    }

    /// Frees the cursor. Not done on drop: when an error unwinds, the ending transaction frees it.
    pub fn close(self) -> Result<()> {
        connected(|| {
            // SAFETY: SPI is connected; a portal that is gone is not closed again.
            unsafe {
                let portal = pg_sys::SPI_cursor_find(self.portal.as_ptr());
                if !portal.is_null() {
                    pg_sys::SPI_cursor_close(portal);
                }
            }
            Ok(())
        })
    }
}

/// A prepared query with one parameter that only reads, kept for as long as this lives.
pub struct Lookup {
    plan: pg_sys::SPIPlanPtr,
    columns: Vec<Option<Column>>,
}

impl Lookup {
    pub fn prepare(query: &CStr, parameter: pg_sys::Oid, wanted: &[Wanted]) -> Result<Self> {
        connected(|| {
            let mut parameters = [parameter];
            // SAFETY: SPI is connected; SPI_prepare raises errors of its own; a kept plan outlives the connection. The
            // columns are those of the plan's one statement.
            unsafe {
                let plan = pg_sys::SPI_prepare(query.as_ptr(), 1, parameters.as_mut_ptr());
                if plan.is_null() || pg_sys::SPI_keepplan(plan) != 0 {
                    return Err(Error::Internal("a look-up cannot be prepared".into()));
                }
                let sources = pg_sys::SPI_plan_get_plan_sources(plan);
                if sources.is_null() || (*sources).length != 1 {
                    return Err(Error::Internal("a look-up is not one query".into()));
                }
                let source = pg_sys::list_nth(sources, 0).cast::<pg_sys::CachedPlanSource>();
                let described = describe((*source).resultDesc);
                let columns = wanted.iter().map(|w| find(w, &described)).collect::<Result<_>>()?;
                Ok(Self { plan, columns })
            }
        })
    }

    /// Whether the optional column number `column` of those wanted is there.
    pub fn has(&self, column: usize) -> bool {
        self.columns[column].is_some()
    }

    /// Hands each row for `parameter` to `visit`.
    pub fn run(&self, parameter: pg_sys::Datum, mut visit: impl FnMut(&Row) -> Result<()>) -> Result<()> {
        connected(|| {
            let mut parameters = [parameter];
            // SAFETY: SPI is connected and the plan has one parameter, of the type it was prepared with, not NULL.
            unsafe {
                let done = pg_sys::SPI_execute_plan(self.plan, parameters.as_mut_ptr(), std::ptr::null(), true, 0);
                if done != pg_sys::SPI_OK_SELECT as i32 {
                    return Err(Error::Internal("a look-up gave no rows".into()));
                }
                visit_rows(pg_sys::SPI_processed as usize, &self.columns, 0, &mut visit)
            }
        })
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        // SAFETY: the plan was kept by `prepare` and is freed once.
        unsafe { pg_sys::SPI_freeplan(self.plan) };
    }
}

/// Hands the `count` rows that SPI holds to `visit`.
unsafe fn visit_rows(
    count: usize,
    columns: &[Option<Column>],
    before: usize,
    visit: &mut dyn FnMut(&Row) -> Result<()>,
) -> Result<()> {
    // SAFETY: after a fetch SPI_tuptable holds `count` tuples and their description; both stay until SPI is left. A
    // description has `natts` attributes, and heap_deform_tuple fills that many values.
    unsafe {
        let table = pg_sys::SPI_tuptable;
        let width = (*(*table).tupdesc).natts as usize;
        let mut values = vec![pg_sys::Datum::from(0); width];
        let mut nulls = vec![false; width];
        for i in 0..count {
            let tuple = *(*table).vals.add(i);
            pg_sys::heap_deform_tuple(tuple, (*table).tupdesc, values.as_mut_ptr(), nulls.as_mut_ptr());
            visit(&Row { columns, values: &values, nulls: &nulls, number: before + i + 1 })?;
        }
    }
    Ok(())
}

/// One row of a source. Columns are numbered as they were wanted.
pub struct Row<'a> {
    columns: &'a [Option<Column>],
    values: &'a [pg_sys::Datum],
    nulls: &'a [bool],
    number: usize,
}

impl Row<'_> {
    /// The id in `column`; NULL is an error.
    pub fn id(&self, column: usize) -> Result<Id<'_>> {
        let (column, datum) = self.present(column)?;
        // SAFETY: each value is read as the type that the row description gives it.
        let id = unsafe {
            match IdType::of(column.type_oid) {
                Some(IdType::Bigint) => i64::from_datum(datum, false).map(Id::Int),
                Some(IdType::Integer) => i32::from_datum(datum, false).map(|v| Id::Int(v.into())),
                Some(IdType::Smallint) => i16::from_datum(datum, false).map(|v| Id::Int(v.into())),
                Some(IdType::Uuid) => {
                    // A uuid is 16 bytes by reference.
                    let bytes = datum.cast_mut_ptr::<[u8; 16]>();
                    Some(Id::Uuid(u128::from_be_bytes(*bytes)))
                }
                Some(IdType::Text) => {
                    let text = text(datum, column.wanted.name)?;
                    // character(n) is padded with blanks, which compare as if they were not there.
                    Some(Id::Text(if column.type_oid == pg_sys::BPCHAROID { text.trim_end_matches(' ') } else { text }))
                }
                None => None,
            }
        };
        id.ok_or_else(|| Error::Internal(format!("column {} has no id type", column.wanted.name)))
    }

    /// The number in `column`; NULL is an error.
    pub fn number(&self, column: usize) -> Result<f64> {
        let (column, datum) = self.present(column)?;
        // SAFETY: each value is read as the type that the row description gives it.
        let number = unsafe { number(column.type_oid, datum) };
        number.ok_or_else(|| Error::Internal(format!("column {} has no number type", column.wanted.name)))
    }

    /// The time in `column` in microseconds since 2000, NULL for −∞: what has no time is oldest.
    pub fn time(&self, column: usize) -> i64 {
        const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;
        let Ok((column, datum)) = self.present(column) else { return i64::MIN };
        match column.type_oid {
            // Both kinds of timestamp are counts of microseconds.
            pg_sys::DATEOID => (datum.value() as i32 as i64).saturating_mul(MICROSECONDS_PER_DAY),
            _ => datum.value() as i64,
        }
    }

    /// The text in `column`, `None` for NULL.
    pub fn text(&self, column: usize) -> Result<Option<&str>> {
        match self.present(column) {
            // SAFETY: the value is of a text type and not NULL.
            Ok((column, datum)) => unsafe { text(datum, column.wanted.name) }.map(Some),
            Err(Error::NullColumn { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// The value in a place of the row, `None` for NULL.
    pub fn datum(&self, place: usize) -> Option<pg_sys::Datum> {
        (!self.nulls[place]).then(|| self.values[place])
    }

    /// An attribute's value.
    pub fn attribute(&self, attribute: &Attribute) -> Result<AttributeValue> {
        if self.nulls[attribute.place] {
            return Ok(AttributeValue::Null);
        }
        let datum = self.values[attribute.place];
        let unreadable = || Error::Internal(format!("column {} cannot be read", attribute.name));
        // SAFETY: each value is read as the type that the row description gives it, and is not NULL.
        unsafe {
            Ok(match attribute.kind {
                ColumnKind::Category => AttributeValue::Category(match attribute.type_oid {
                    pg_sys::TEXTOID | pg_sys::VARCHAROID => text(datum, &attribute.name)?.to_owned(),
                    other => {
                        let (mut output, mut is_varlena) = (pg_sys::InvalidOid, false);
                        pg_sys::getTypeOutputInfo(other, &mut output, &mut is_varlena);
                        let text = CStr::from_ptr(pg_sys::OidOutputFunctionCall(output, datum));
                        text.to_str().map_err(|_| unreadable())?.trim_end_matches(' ').to_owned()
                    }
                }),
                ColumnKind::Number | ColumnKind::Integer | ColumnKind::Time => {
                    AttributeValue::Number(match attribute.type_oid {
                        // Days.
                        pg_sys::DATEOID => f64::from(datum.value() as i32),
                        pg_sys::TIMEOID | pg_sys::TIMESTAMPOID | pg_sys::TIMESTAMPTZOID => {
                            datum.value() as i64 as f64 / 86_400e6
                        }
                        other => number(other, datum).ok_or_else(unreadable)?,
                    })
                }
                ColumnKind::Vector => {
                    let null = || Error::argument(&attribute.name, "a vector with NULL elements", "Leave NULL out.");
                    let values: Option<Vec<f32>> = if attribute.type_oid == pg_sys::FLOAT4ARRAYOID {
                        let array = Array::<f32>::from_datum(datum, false).ok_or_else(unreadable)?;
                        // Without a NULL the elements lie side by side.
                        array.as_slice().ok().map(<[f32]>::to_vec)
                    } else {
                        let wide = Vec::<Option<f64>>::from_datum(datum, false).ok_or_else(unreadable)?;
                        wide.into_iter().map(|v| v.map(|v| v as f32)).collect()
                    };
                    AttributeValue::Vector(values.ok_or_else(null)?)
                }
            })
        }
    }

    fn present(&self, column: usize) -> Result<(Column, pg_sys::Datum)> {
        let column =
            self.columns[column].ok_or_else(|| Error::Internal("an optional column was not looked for".into()))?;
        if self.nulls[column.place] {
            return Err(Error::NullColumn { column: column.wanted.name.into(), row: self.number });
        }
        Ok((column, self.values[column.place]))
    }
}

/// The table columns that a query's columns are, unchanged.
fn origins(query: &str) -> Result<Vec<Option<(pg_sys::Oid, i16)>>> {
    let text = CString::new(query).map_err(|_| Error::Internal("a zero byte in a query".into()))?;
    connected(|| {
        // SAFETY: SPI is connected; the query was prepared before. A plan's sources are a list, each with a list of queries, whose
        // target lists hold target entries.
        unsafe {
            let plan = pg_sys::SPI_prepare(text.as_ptr(), 0, std::ptr::null_mut());
            if plan.is_null() {
                return Ok(Vec::new());
            }
            let sources = pg_sys::SPI_plan_get_plan_sources(plan);
            let queries = (*pg_sys::list_nth(sources, 0).cast::<pg_sys::CachedPlanSource>()).query_list;
            let targets = (*pg_sys::list_nth(queries, 0).cast::<pg_sys::Query>()).targetList;
            let count = if targets.is_null() { 0 } else { (*targets).length };
            let entries = (0..count).map(|i| pg_sys::list_nth(targets, i).cast::<pg_sys::TargetEntry>());
            let origins = entries.filter(|&entry| !(*entry).resjunk).map(|entry| {
                let (table, column) = ((*entry).resorigtbl, (*entry).resorigcol);
                (table != pg_sys::InvalidOid && column > 0).then_some((table, column))
            });
            let origins = origins.collect();
            pg_sys::SPI_freeplan(plan);
            Ok(origins)
        }
    })
}

/// A value of one of the number types.
pub unsafe fn number(type_oid: pg_sys::Oid, datum: pg_sys::Datum) -> Option<f64> {
    // SAFETY: the caller says that the datum has this type and is not NULL.
    unsafe {
        match type_oid {
            pg_sys::INT2OID => i16::from_datum(datum, false).map(f64::from),
            pg_sys::INT4OID => i32::from_datum(datum, false).map(f64::from),
            pg_sys::INT8OID => i64::from_datum(datum, false).map(|v| v as f64),
            pg_sys::FLOAT4OID => f32::from_datum(datum, false).map(f64::from),
            pg_sys::FLOAT8OID => f64::from_datum(datum, false),
            pg_sys::NUMERICOID => AnyNumeric::from_datum(datum, false).and_then(|v| v.to_string().parse().ok()),
            _ => None,
        }
    }
}

/// What a column of this type says of a row; `None` for types that say nothing a model can use.
fn attribute_kind(type_oid: pg_sys::Oid) -> Option<ColumnKind> {
    match type_oid {
        pg_sys::INT2OID | pg_sys::INT4OID | pg_sys::INT8OID => Some(ColumnKind::Integer),
        pg_sys::FLOAT4OID | pg_sys::FLOAT8OID | pg_sys::NUMERICOID => Some(ColumnKind::Number),
        pg_sys::DATEOID | pg_sys::TIMEOID | pg_sys::TIMESTAMPOID | pg_sys::TIMESTAMPTZOID => Some(ColumnKind::Time),
        pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID | pg_sys::NAMEOID => Some(ColumnKind::Category),
        pg_sys::BOOLOID | pg_sys::UUIDOID => Some(ColumnKind::Category),
        pg_sys::FLOAT4ARRAYOID | pg_sys::FLOAT8ARRAYOID => Some(ColumnKind::Vector),
        // SAFETY: get_typtype takes any oid.
        other => (unsafe { pg_sys::get_typtype(other) } as u8 == pg_sys::TYPTYPE_ENUM).then_some(ColumnKind::Category),
    }
}

/// Whether values are told apart by how they are printed: json, and arrays of what can be read.
fn is_printed(type_oid: pg_sys::Oid) -> bool {
    if matches!(type_oid, pg_sys::JSONOID | pg_sys::JSONBOID) {
        return true;
    }
    // SAFETY: get_element_type takes any oid, getBaseType that of a type.
    let element = match unsafe { pg_sys::get_element_type(type_oid) } {
        pg_sys::InvalidOid => return false,
        element => unsafe { pg_sys::getBaseType(element) },
    };
    attribute_kind(element).is_some() || is_printed(element)
}

pub fn type_name(type_oid: pg_sys::Oid) -> String {
    // SAFETY: format_type_be takes any oid and gives a C string.
    unsafe { CStr::from_ptr(pg_sys::format_type_be(type_oid)) }.to_string_lossy().into_owned()
}

/// A text value where it lies, or unpacked in the memory of the SPI call.
pub unsafe fn text<'a>(datum: pg_sys::Datum, column: &str) -> Result<&'a str> {
    // SAFETY: the caller says that the datum is a varlena.
    let bytes = unsafe { varlena_to_byte_slice(pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr())) };
    std::str::from_utf8(bytes).map_err(|_| {
        let hint = "The database's encoding must be UTF8.";
        Error::argument(format!("column \"{column}\""), "not valid UTF-8", hint)
    })
}

/// Whether a plan is one query, and no part of it writes.
unsafe fn only_reads(plan: pg_sys::SPIPlanPtr) -> bool {
    // SAFETY: the caller gives a plan that SPI_prepare made. Its sources are a list, and each has a list of queries.
    unsafe {
        let sources = pg_sys::SPI_plan_get_plan_sources(plan);
        if sources.is_null() || (*sources).length != 1 {
            return false;
        }
        let queries = (*pg_sys::list_nth(sources, 0).cast::<pg_sys::CachedPlanSource>()).query_list;
        if queries.is_null() || (*queries).length != 1 {
            return false;
        }
        let query = pg_sys::list_nth(queries, 0).cast::<pg_sys::Query>();
        (*query).commandType == pg_sys::CmdType::CMD_SELECT && !(*query).hasModifyingCTE
    }
}

struct Described {
    name: String,
    type_oid: pg_sys::Oid,
    modifier: i32,
}

impl Described {
    fn attribute(self, place: usize, types: Types) -> Result<Attribute> {
        let printed = || (types == Types::Compared && is_printed(self.type_oid)).then_some(ColumnKind::Category);
        let kind = attribute_kind(self.type_oid).or_else(printed).ok_or_else(|| Error::ColumnType {
            column: self.name.clone(),
            found: type_name(self.type_oid),
            expected: match types {
                Types::Learned => "text, boolean, an enum, a number, a date or a time, or real[]",
                Types::Compared => {
                    "text, boolean, an enum, a number, a date or a time, uuid, json, or an array of those"
                }
            },
        })?;
        Ok(Attribute { name: self.name, kind, place, type_oid: self.type_oid })
    }
}

unsafe fn describe(tuple_description: pg_sys::TupleDesc) -> Vec<Described> {
    if tuple_description.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller gives a row description; it has `natts` attributes with names that are C strings.
    unsafe {
        let columns = pgrx::PgTupleDesc::from_pg_unchecked(tuple_description);
        columns
            .iter()
            .map(|a| {
                let mut modifier = a.atttypmod;
                let type_oid = pg_sys::getBaseTypeAndTypmod(a.atttypid, &mut modifier);
                Described { name: a.name().to_owned(), type_oid, modifier }
            })
            .collect()
    }
}

fn find(wanted: &Wanted, described: &[Described]) -> Result<Option<Column>> {
    let Some(place) = described.iter().position(|d| d.name == wanted.name) else {
        if wanted.optional {
            return Ok(None);
        }
        let found: Vec<&str> = described.iter().map(|d| d.name.as_str()).collect();
        return Err(Error::MissingColumn { column: wanted.name.into(), found: found.join(", ") });
    };
    let type_oid = described[place].type_oid;
    let (fits, expected) = match wanted.kind {
        Kind::Id => (IdType::of(type_oid).is_some(), "text, bigint, integer, smallint or uuid"),
        Kind::Number => (
            matches!(
                type_oid,
                pg_sys::INT2OID
                    | pg_sys::INT4OID
                    | pg_sys::INT8OID
                    | pg_sys::FLOAT4OID
                    | pg_sys::FLOAT8OID
                    | pg_sys::NUMERICOID
            ),
            "a number",
        ),
        Kind::Time => (
            matches!(type_oid, pg_sys::TIMESTAMPOID | pg_sys::TIMESTAMPTZOID | pg_sys::DATEOID),
            "timestamptz, timestamp or date",
        ),
        Kind::Text => (matches!(type_oid, pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID), "text"),
    };
    if !fits {
        let found = type_name(type_oid);
        return Err(Error::ColumnType { column: wanted.name.into(), found, expected });
    }
    Ok(Some(Column { wanted: *wanted, place, type_oid }))
}

/// Runs `body` connected to SPI. An error that PostgreSQL raises inside unwinds past this; the transaction then ends
/// the connection.
pub fn connected<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: SPI_connect and SPI_finish are called in pairs on every path that returns.
    unsafe {
        if pg_sys::SPI_connect() != pg_sys::SPI_OK_CONNECT as i32 {
            return Err(Error::Internal("SPI cannot be used here".into()));
        }
        let result = body();
        pg_sys::SPI_finish();
        result
    }
}
