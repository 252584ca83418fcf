//! Rows of a query and their values. Only this file reads datums.
//!
//! A value is read as the type in the row description of its own batch, never as a type that was looked up before: other SQL may run
//! between two batches. If a batch has another description than the one that the columns were looked up in, nothing is read.

use std::ffi::CStr;

use pgrx::varlena::varlena_to_byte_slice;
use pgrx::{AnyElement, AnyNumeric, Array, FromDatum, pg_sys};

use crate::pg::id_type::IdType;
use interactions::Id;
use runtime::error::{Error, Result};
use tabular::{ColumnKind, Value};

const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;

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
    Bytes,
    /// Any type, as its output function prints it.
    Printed,
}

pub const fn required(name: &'static str, kind: Kind) -> Wanted {
    Wanted { name, kind, optional: false }
}

pub const fn optional(name: &'static str, kind: Kind) -> Wanted {
    Wanted { name, kind, optional: true }
}

/// The position of a wanted column in a row.
#[derive(Clone, Copy)]
pub struct Column {
    wanted: Wanted,
    place: usize,
}

/// A column that is not looked up by name: a feature of an item, a user or a row.
pub struct Attribute {
    pub name: String,
    pub kind: ColumnKind,
    place: usize,
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

/// The types that attributes may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Types {
    /// Types that a model can be trained on.
    Learned,
    /// Types that rows can be compared by: also json and arrays.
    Compared,
}

/// A column of a row description.
#[derive(Clone)]
pub struct Described {
    pub name: String,
    /// For a domain, its base type.
    pub type_oid: pg_sys::Oid,
    pub modifier: i32,
}

impl Described {
    pub fn attribute(&self, place: usize, types: Types) -> Result<Attribute> {
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
        Ok(Attribute { name: self.name.clone(), kind, place })
    }

    /// The column as an attribute that is read as text, whatever its type.
    pub fn printed(&self, place: usize) -> Attribute {
        Attribute { name: self.name.clone(), kind: ColumnKind::Category, place }
    }
}

/// A row description at the time the columns were looked up in it: held by value, and compared with the description of each batch.
pub struct Shape {
    /// The declared types, domains included.
    declared: Vec<pg_sys::Oid>,
    pub columns: Vec<Described>,
}

impl Shape {
    /// The columns of a row description; none for a null pointer.
    ///
    /// # Safety
    /// The pointer is null or a row description that does not change during the call.
    pub unsafe fn of(description: pg_sys::TupleDesc) -> Self {
        let (mut declared, mut columns) = (Vec::new(), Vec::new());
        if description.is_null() {
            return Self { declared, columns };
        }
        // SAFETY: the caller gives a row description; its columns have names that are C strings and types that exist.
        unsafe {
            for column in pgrx::PgTupleDesc::from_pg_unchecked(description).iter() {
                let mut modifier = column.atttypmod;
                let type_oid = pg_sys::getBaseTypeAndTypmod(column.atttypid, &mut modifier);
                declared.push(column.atttypid);
                columns.push(Described { name: column.name().to_owned(), type_oid, modifier });
            }
        }
        Self { declared, columns }
    }

    /// Whether `description` has the same columns of the same types.
    ///
    /// # Safety
    /// The pointer is a row description that does not change during the call.
    unsafe fn is_that_of(&self, description: pg_sys::TupleDesc) -> bool {
        // SAFETY: as the caller says.
        unsafe {
            let columns = pgrx::PgTupleDesc::from_pg_unchecked(description);
            columns.len() == self.declared.len()
                && columns
                    .iter()
                    .zip(self.declared.iter().zip(&self.columns))
                    .all(|(found, (declared, column))| found.atttypid == *declared && found.name() == column.name)
        }
    }

    /// Looks up a wanted column; `None` for an optional one that is missing.
    pub fn find(&self, wanted: &Wanted) -> Result<Option<Column>> {
        let Some(place) = self.columns.iter().position(|column| column.name == wanted.name) else {
            if wanted.optional {
                return Ok(None);
            }
            return Err(Error::MissingColumn { column: wanted.name.into(), found: self.names() });
        };
        let type_oid = self.columns[place].type_oid;
        let (fits, expected) = match wanted.kind {
            Kind::Id => (IdType::of(type_oid).is_some(), "text, bigint, integer, smallint or uuid"),
            Kind::Number => (is_number(type_oid), "a number"),
            Kind::Time => (
                matches!(type_oid, pg_sys::TIMESTAMPOID | pg_sys::TIMESTAMPTZOID | pg_sys::DATEOID),
                "timestamptz, timestamp or date",
            ),
            Kind::Text => (is_text(type_oid), "text"),
            Kind::Bytes => (type_oid == pg_sys::BYTEAOID, "bytea"),
            Kind::Printed => (true, "anything"),
        };
        if !fits {
            let found = type_name(type_oid);
            return Err(Error::ColumnType { column: wanted.name.into(), found, expected });
        }
        Ok(Some(Column { wanted: *wanted, place }))
    }

    pub fn find_all(&self, wanted: &[Wanted]) -> Result<Vec<Option<Column>>> {
        wanted.iter().map(|wanted| self.find(wanted)).collect()
    }

    /// The type of a column.
    pub fn type_of(&self, column: Column) -> pg_sys::Oid {
        self.columns[column.place].type_oid
    }

    pub fn names(&self) -> String {
        self.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// The rows that SPI has fetched last.
pub struct Batch {
    table: *mut pg_sys::SPITupleTable,
    pub rows: usize,
}

impl Batch {
    /// # Safety
    /// SPI is connected, has just run a query that returns rows, and does nothing else until the batch is dropped.
    pub unsafe fn fetched() -> Result<Self> {
        // SAFETY: variables of this backend that SPI has just set.
        let (table, rows) = unsafe { (pg_sys::SPI_tuptable, pg_sys::SPI_processed as usize) };
        if table.is_null() {
            return Err(Error::Internal("query returned no tuple table".into()));
        }
        Ok(Self { table, rows })
    }

    /// The description of these rows.
    pub fn shape(&self) -> Shape {
        // SAFETY: SPI's table has the description of its rows, which stays as long as the table does.
        unsafe { Shape::of((*self.table).tupdesc) }
    }

    /// Calls `visit` with each row. `columns` were looked up in `shape`, which must match the description of these rows. The first row has the
    /// number `before` + 1.
    pub fn visit(
        &self,
        shape: &Shape,
        columns: &[Option<Column>],
        before: usize,
        visit: &mut dyn FnMut(&Row) -> Result<()>,
    ) -> Result<()> {
        // SAFETY: SPI's table has `rows` tuples and their description; both stay until SPI is left. heap_deform_tuple fills as many
        // values as the description has columns, which is as many as the shape has.
        unsafe {
            let description = (*self.table).tupdesc;
            if !shape.is_that_of(description) {
                return Err(Error::Changed("row type of the query".into()));
            }
            let width = shape.columns.len();
            let mut values = vec![pg_sys::Datum::from(0); width];
            let mut nulls = vec![false; width];
            for i in 0..self.rows {
                let tuple = *(*self.table).vals.add(i);
                pg_sys::heap_deform_tuple(tuple, description, values.as_mut_ptr(), nulls.as_mut_ptr());
                visit(&Row { shape, columns, values: &values, nulls: &nulls, number: before + i + 1 })?;
            }
        }
        Ok(())
    }
}

/// One row of a batch. Columns are numbered in the order of the wanted ones.
pub struct Row<'a> {
    shape: &'a Shape,
    columns: &'a [Option<Column>],
    values: &'a [pg_sys::Datum],
    nulls: &'a [bool],
    number: usize,
}

impl<'a> Row<'a> {
    /// Whether the optional wanted column number `column` exists.
    pub fn has(&self, column: usize) -> bool {
        self.columns[column].is_some()
    }

    /// The id in `column`; NULL is an error.
    pub fn id(&self, column: usize) -> Result<Id<'a>> {
        self.present(column)?.id()
    }

    /// The number in `column`; NULL is an error.
    pub fn number(&self, column: usize) -> Result<f64> {
        self.present(column)?.number()
    }

    /// The time in `column` in microseconds since 2000. NULL is −∞: a row without a time is the oldest.
    pub fn time(&self, column: usize) -> i64 {
        self.present(column).and_then(|field| field.microseconds()).unwrap_or(i64::MIN)
    }

    /// The text in `column`, `None` for NULL.
    pub fn text(&self, column: usize) -> Result<Option<&'a str>> {
        self.optional(column)?.map(|field| field.text()).transpose()
    }

    /// The bytes in `column`, `None` for NULL.
    pub fn bytes(&self, column: usize) -> Result<Option<&'a [u8]>> {
        self.optional(column)?.map(|field| field.bytes()).transpose()
    }

    /// The value in `column` as its type prints it, `None` for NULL.
    pub fn printed(&self, column: usize) -> Result<Option<String>> {
        self.optional(column)?.map(|field| field.printed()).transpose()
    }

    /// The value at a position of the row, `None` for NULL.
    pub fn field(&self, place: usize) -> Option<Field<'a>> {
        let column = &self.shape.columns[place];
        (!self.nulls[place]).then(|| Field { name: &column.name, type_oid: column.type_oid, datum: self.values[place] })
    }

    /// An attribute's value.
    pub fn attribute(&self, attribute: &Attribute) -> Result<AttributeValue> {
        let Some(field) = self.field(attribute.place) else { return Ok(AttributeValue::Null) };
        Ok(match attribute.kind {
            ColumnKind::Category if is_text(field.type_oid) && field.type_oid != pg_sys::BPCHAROID => {
                AttributeValue::Category(field.text()?.to_owned())
            }
            ColumnKind::Category => AttributeValue::Category(field.printed()?),
            ColumnKind::Time => AttributeValue::Number(field.days()?),
            ColumnKind::Number | ColumnKind::Integer => AttributeValue::Number(field.number()?),
            ColumnKind::Vector => AttributeValue::Vector(field.vector()?),
        })
    }

    fn optional(&self, column: usize) -> Result<Option<Field<'a>>> {
        let missing = || Error::Internal("optional column was not looked up".into());
        Ok(self.field(self.columns[column].ok_or_else(missing)?.place))
    }

    fn present(&self, column: usize) -> Result<Field<'a>> {
        let null = || Error::NullColumn {
            column: self.columns[column].map_or("", |column| column.wanted.name).into(),
            row: self.number,
        };
        self.optional(column)?.ok_or_else(null)
    }
}

/// A value that is not NULL, with its type from the row description. Reading it as another type is an error.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    name: &'a str,
    type_oid: pg_sys::Oid,
    datum: pg_sys::Datum,
}

impl<'a> Field<'a> {
    /// An argument of a polymorphic function, with its type from the call. Never NULL: pgrx passes `None` then.
    pub fn of_argument(value: &AnyElement) -> Self {
        Self { name: "argument", type_oid: value.oid(), datum: value.datum() }
    }

    /// An element of an array, or an argument of a call.
    ///
    /// # Safety
    /// It is of this type, as its array or its call says, not NULL, and lives as long as the field.
    pub unsafe fn element(type_oid: pg_sys::Oid, datum: pg_sys::Datum) -> Self {
        Self { name: "argument", type_oid, datum }
    }

    fn unreadable<T>(&self) -> Result<T> {
        Err(Error::Internal(format!("cannot read column \"{}\" of type {}", self.name, type_name(self.type_oid))))
    }

    pub fn id(&self) -> Result<Id<'a>> {
        let datum = self.datum;
        // SAFETY: each value is read as the type that it has, and is not NULL.
        let id = unsafe {
            match IdType::of(self.type_oid) {
                Some(IdType::Bigint) => i64::from_datum(datum, false).map(Id::Int),
                Some(IdType::Integer) => i32::from_datum(datum, false).map(|v| Id::Int(v.into())),
                Some(IdType::Smallint) => i16::from_datum(datum, false).map(|v| Id::Int(v.into())),
                Some(IdType::Uuid) => {
                    // A uuid is 16 bytes by reference.
                    let bytes = datum.cast_mut_ptr::<[u8; 16]>();
                    Some(Id::Uuid(u128::from_be_bytes(*bytes)))
                }
                Some(IdType::Text) => {
                    let text = self.text()?;
                    // character(n) is padded with blanks, which compare as if they were not there.
                    Some(Id::Text(if self.type_oid == pg_sys::BPCHAROID { text.trim_end_matches(' ') } else { text }))
                }
                None => None,
            }
        };
        id.map_or_else(|| self.unreadable(), Ok)
    }

    pub fn number(&self) -> Result<f64> {
        let datum = self.datum;
        // SAFETY: each value is read as the type that it has, and is not NULL.
        let number = unsafe {
            match self.type_oid {
                pg_sys::INT2OID => i16::from_datum(datum, false).map(f64::from),
                pg_sys::INT4OID => i32::from_datum(datum, false).map(f64::from),
                pg_sys::INT8OID => i64::from_datum(datum, false).map(|v| v as f64),
                pg_sys::FLOAT4OID => f32::from_datum(datum, false).map(f64::from),
                pg_sys::FLOAT8OID => f64::from_datum(datum, false),
                pg_sys::NUMERICOID => AnyNumeric::from_datum(datum, false).and_then(|v| v.to_string().parse().ok()),
                _ => None,
            }
        };
        number.map_or_else(|| self.unreadable(), Ok)
    }

    pub fn boolean(&self) -> Result<bool> {
        match self.type_oid {
            pg_sys::BOOLOID => Ok(self.datum.value() as u8 != 0),
            _ => self.unreadable(),
        }
    }

    /// Days since 2000; the smallest and the largest number for infinite dates.
    pub fn date(&self) -> Result<i32> {
        match self.type_oid {
            pg_sys::DATEOID => Ok(self.datum.value() as i32),
            _ => self.unreadable(),
        }
    }

    /// Microseconds since 2000, or since midnight; the smallest and the largest number for infinite times.
    pub fn microseconds(&self) -> Result<i64> {
        match self.type_oid {
            // The infinite dates become the infinite times.
            pg_sys::DATEOID => Ok(i64::from(self.date()?).saturating_mul(MICROSECONDS_PER_DAY)),
            pg_sys::TIMEOID | pg_sys::TIMESTAMPOID | pg_sys::TIMESTAMPTZOID => Ok(self.datum.value() as i64),
            _ => self.unreadable(),
        }
    }

    /// [`microseconds`](Self::microseconds) as days.
    fn days(&self) -> Result<f64> {
        match self.type_oid {
            pg_sys::DATEOID => self.date().map(f64::from),
            _ => Ok(self.microseconds()? as f64 / MICROSECONDS_PER_DAY as f64),
        }
    }

    /// A text, borrowed from the row, or detoasted in the memory of the SPI call.
    pub fn text(&self) -> Result<&'a str> {
        if !is_text(self.type_oid) {
            return self.unreadable();
        }
        // SAFETY: the text types are varlenas, and this one is not NULL. What is unpacked lasts as long as the batch.
        let bytes = unsafe { varlena_to_byte_slice(pg_sys::pg_detoast_datum_packed(self.datum.cast_mut_ptr())) };
        std::str::from_utf8(bytes).or_else(|_| self.not_utf8())
    }

    /// A bytea, borrowed as a [`text`](Self::text) is.
    pub fn bytes(&self) -> Result<&'a [u8]> {
        if self.type_oid != pg_sys::BYTEAOID {
            return self.unreadable();
        }
        // SAFETY: a bytea is a varlena, and this one is not NULL. What is unpacked lasts as long as the batch.
        Ok(unsafe { varlena_to_byte_slice(pg_sys::pg_detoast_datum_packed(self.datum.cast_mut_ptr())) })
    }

    /// [`output`](Self::output) without trailing blanks.
    pub fn printed(&self) -> Result<String> {
        Ok(self.output()?.trim_end_matches(' ').to_owned())
    }

    /// The result of the type's output function. Only a superuser can create a type with an output function of its own, so no code of a table's
    /// owner runs here. In a cast it could.
    pub fn output(&self) -> Result<String> {
        let (mut output, mut is_varlena) = (pg_sys::InvalidOid, false);
        // SAFETY: the value is of this type and not NULL; an output function gives a C string.
        let text = unsafe {
            pg_sys::getTypeOutputInfo(self.type_oid, &mut output, &mut is_varlena);
            CStr::from_ptr(pg_sys::OidOutputFunctionCall(output, self.datum))
        };
        text.to_str().map(str::to_owned).or_else(|_| self.not_utf8())
    }

    /// A `real[]`, or a `reco.numbers`, which is stored as one. Both name their element type in their header.
    pub fn reals(&self) -> Result<Array<'a, f32>> {
        // SAFETY: a type of varying length is a varlena, which is an array where it is that of one, or this extension's own type; its
        // head is looked at only where it is that long.
        let array = unsafe {
            let own = self.type_oid.to_u32() >= pg_sys::FirstNormalObjectId && pg_sys::get_typlen(self.type_oid) == -1;
            if !own && self.type_oid != pg_sys::FLOAT4ARRAYOID {
                return self.unreadable();
            }
            let array: *mut pg_sys::ArrayType = pg_sys::pg_detoast_datum(self.datum.cast_mut_ptr()).cast();
            let long_enough = varlena_to_byte_slice(array.cast()).len() + 4 >= size_of::<pg_sys::ArrayType>();
            if !long_enough || (*array).elemtype != pg_sys::FLOAT4OID {
                return self.unreadable();
            }
            Array::<f32>::from_datum(pg_sys::Datum::from(array), false)
        };
        array.map_or_else(|| self.unreadable(), Ok)
    }

    pub fn vector(&self) -> Result<Vec<f32>> {
        let null = || {
            Error::invalid(format!("vector in column \"{}\" must not contain nulls", self.name), "Exclude such rows.")
        };
        // SAFETY: each value is read as the type that it has, and is not NULL.
        let values: Option<Option<Vec<f32>>> = unsafe {
            match self.type_oid {
                // Without a NULL the elements lie side by side.
                pg_sys::FLOAT4ARRAYOID => {
                    Array::<f32>::from_datum(self.datum, false).map(|array| array.as_slice().ok().map(<[f32]>::to_vec))
                }
                pg_sys::FLOAT8ARRAYOID => Vec::<Option<f64>>::from_datum(self.datum, false)
                    .map(|wide| wide.into_iter().map(|v| v.map(|v| v as f32)).collect()),
                _ => None,
            }
        };
        match values {
            Some(values) => values.ok_or_else(null),
            None => self.unreadable(),
        }
    }

    fn not_utf8<T>(&self) -> Result<T> {
        let hint = "The encoding of the database must be UTF8.";
        Err(Error::invalid(format!("column \"{}\" is not valid UTF-8", self.name), hint))
    }
}

pub fn is_number(type_oid: pg_sys::Oid) -> bool {
    matches!(
        type_oid,
        pg_sys::INT2OID
            | pg_sys::INT4OID
            | pg_sys::INT8OID
            | pg_sys::FLOAT4OID
            | pg_sys::FLOAT8OID
            | pg_sys::NUMERICOID
    )
}

/// Whether a type is one of texts.
pub fn is_text(type_oid: pg_sys::Oid) -> bool {
    matches!(type_oid, pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID)
}

/// The kind of feature that a column of this type is; `None` for types that a model cannot use.
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

/// Whether values of this type are compared by their text: json, and arrays of readable types.
fn is_printed(type_oid: pg_sys::Oid) -> bool {
    if matches!(type_oid, pg_sys::JSONOID | pg_sys::JSONBOID) {
        return true;
    }
    // SAFETY: get_element_type takes any oid, getBaseType that of a type.
    let element = unsafe {
        match pg_sys::get_element_type(type_oid) {
            pg_sys::InvalidOid => return false,
            element => pg_sys::getBaseType(element),
        }
    };
    attribute_kind(element).is_some() || is_printed(element)
}

pub fn type_name(type_oid: pg_sys::Oid) -> String {
    // SAFETY: format_type_be takes any oid and gives a C string.
    unsafe { CStr::from_ptr(pg_sys::format_type_be(type_oid)) }.to_string_lossy().into_owned()
}
