//! Rows of a composite type, built from generated values.

use std::ffi::CString;

use pgrx::{AnyElement, IntoDatum, PgMemoryContexts, PgTupleDesc, pg_sys};

use crate::pg::row::type_name;
use runtime::error::{Error, Result};
use synthesis::made::{Block, Cell};
use synthesis::schema::Schema;

/// The composite type of generated rows.
pub struct RowType {
    type_oid: pg_sys::Oid,
    description: PgTupleDesc<'static>,
    /// PostgreSQL's identifier of the type's current definition.
    identity: u64,
    columns: Vec<Target>,
    /// The memory context of the set-returning call.
    memory: PgMemoryContexts,
    /// Values of the current row.
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
}

struct Target {
    /// The column of the schema; `None` for a dropped column of the table.
    source: Option<usize>,
    type_oid: pg_sys::Oid,
    modifier: i32,
    input: pg_sys::FmgrInfo,
    parameter: pg_sys::Oid,
    /// Datums of category names that have been used, by their codes.
    of_codes: Vec<Option<pg_sys::Datum>>,
}

impl RowType {
    /// The type of the first argument of `call`, a polymorphic set-returning function. Its columns must match those of `schema`.
    pub fn of_target(call: pg_sys::FunctionCallInfo, schema: &Schema, model: &str) -> Result<Self> {
        // SAFETY: the call under way has a function with an expression that it was called by; a function of sets has the
        // context of its calls, with memory that lasts to the last of them.
        let (target_type, memory) = unsafe {
            let function = (*call).flinfo;
            let calls = (*function).fn_extra.cast::<pg_sys::FuncCallContext>();
            (pg_sys::get_fn_expr_argtype(function, 0), (*calls).multi_call_memory_ctx)
        };
        // SAFETY: look-ups that take any oid.
        let composite = unsafe { pg_sys::get_typtype(target_type) as u8 == pg_sys::TYPTYPE_COMPOSITE };
        if !composite {
            let hint = "Pass a NULL of the table's row type, as in NULL::orders.";
            return Err(Error::invalid(format!("target must have a row type, not {}", type_name(target_type)), hint));
        }
        // SAFETY: a composite type has a description; it is copied, and so outlives the type's cache entry.
        let description = unsafe {
            let shared = pg_sys::lookup_rowtype_tupdesc_copy(target_type, -1);
            PgTupleDesc::from_pg_copy(shared)
        };
        let mut columns = Vec::new();
        for attribute in description.iter() {
            if attribute.attisdropped {
                columns.push(None);
                continue;
            }
            let source = schema.column(attribute.name()).ok_or_else(|| {
                let hint = format!(
                    "The columns of {} must match those of the model. The model has: {}.",
                    type_name(target_type),
                    schema.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
                );
                Error::invalid(format!("column \"{}\" is unknown to model \"{model}\"", attribute.name()), hint)
            })?;
            columns.push(Some((source, attribute.atttypid, attribute.atttypmod)));
        }
        let has = |column: usize| columns.iter().flatten().any(|(source, ..)| *source == column);
        if let Some((_, column)) = schema.columns.iter().enumerate().find(|(i, column)| !column.hidden && !has(*i)) {
            let hint = format!("Add the column to {}, or train the model without it.", type_name(target_type));
            let target = type_name(target_type);
            let message = format!("column \"{}\" of model \"{model}\" is missing from type {target}", column.name);
            return Err(Error::invalid(message, hint));
        }
        let columns = columns.into_iter().map(|column| {
            let (source, type_oid, modifier) = match column {
                Some((source, type_oid, modifier)) => (Some(source), type_oid, modifier),
                None => (None, pg_sys::TEXTOID, -1),
            };
            let (mut function, mut parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
            let mut input = pg_sys::FmgrInfo::default();
            // SAFETY: every column's type has an input function, which is looked up in memory that lives as long as this.
            unsafe {
                pg_sys::getTypeInputInfo(type_oid, &mut function, &mut parameter);
                pg_sys::fmgr_info_cxt(function, &mut input, memory);
            }
            Target { source, type_oid, modifier, input, parameter, of_codes: Vec::new() }
        });
        let columns: Vec<Target> = columns.collect();
        let memory = PgMemoryContexts::For(memory);
        let (values, nulls) = (Vec::with_capacity(columns.len()), Vec::with_capacity(columns.len()));
        Ok(Self { type_oid: target_type, description, identity: identity(target_type), columns, memory, values, nulls })
    }

    /// The table may be altered between two fetches of a cursor: rows of the old type must not be read as rows of the new one.
    fn check(&mut self) -> Result<()> {
        let identity = identity(self.type_oid);
        if identity == self.identity {
            return Ok(());
        }
        // SAFETY: the type is there, as it just was; the copy is freed when dropped.
        let now = unsafe { PgTupleDesc::from_pg_copy(pg_sys::lookup_rowtype_tupdesc_copy(self.type_oid, -1)) };
        let form = |a: &pg_sys::FormData_pg_attribute| (a.atttypid, a.atttypmod, a.attlen, a.attisdropped);
        if !now.iter().map(form).eq(self.description.iter().map(form)) {
            return Err(Error::Changed(format!("type {}", type_name(self.type_oid))));
        }
        self.identity = identity;
        Ok(())
    }

    /// A row of a block, in the current memory context.
    pub fn row(&mut self, block: &Block, schema: &Schema, row: usize) -> Result<AnyElement> {
        self.check()?;
        let Self { columns, memory, values, nulls, .. } = self;
        values.clear();
        nulls.clear();
        for target in columns {
            let datum = match target.source {
                None => None,
                Some(column) => match block.code(column, row) {
                    Some(code) => target.of_code(code, memory, || block.cell(schema, column, row), schema, column)?,
                    None => target.datum(&block.cell(schema, column, row), schema, column)?,
                },
            };
            nulls.push(datum.is_none());
            values.push(datum.unwrap_or(pg_sys::Datum::from(0)));
        }
        // SAFETY: as many values and flags as the description has attributes, each of its attribute's type.
        unsafe {
            let tuple = pg_sys::heap_form_tuple(self.description.as_ptr(), values.as_mut_ptr(), nulls.as_mut_ptr());
            let datum = pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data);
            AnyElement::from_polymorphic_datum_of(datum, self.type_oid)
        }
    }
}

/// The identifier of a composite type's current definition. A dropped type raises PostgreSQL's own error.
fn identity(type_oid: pg_sys::Oid) -> u64 {
    // SAFETY: a look-up in the type cache.
    unsafe { pg_sys::assign_record_type_identifier(type_oid, -1) }
}

/// A datum with its type.
trait OfType: Sized {
    unsafe fn from_polymorphic_datum_of(datum: pg_sys::Datum, type_oid: pg_sys::Oid) -> Result<Self>;
}

impl OfType for AnyElement {
    unsafe fn from_polymorphic_datum_of(datum: pg_sys::Datum, type_oid: pg_sys::Oid) -> Result<Self> {
        // SAFETY: the caller gives a datum of that type.
        let element = unsafe { pgrx::FromDatum::from_polymorphic_datum(datum, false, type_oid) };
        element.ok_or_else(|| Error::Internal("a row is null".into()))
    }
}

impl Target {
    /// The datum of a category name, created once and shared by all rows.
    fn of_code<'a>(
        &mut self,
        code: u32,
        memory: &mut PgMemoryContexts,
        cell: impl FnOnce() -> Cell<'a>,
        schema: &Schema,
        column: usize,
    ) -> Result<Option<pg_sys::Datum>> {
        if let Some(&Some(known)) = self.of_codes.get(code as usize) {
            return Ok(Some(known));
        }
        // SAFETY: the context lives as long as what holds it.
        let made = unsafe { memory.switch_to(|_| self.datum(&cell(), schema, column)) }?;
        if made.is_some() {
            let length = self.of_codes.len().max(code as usize + 1);
            self.of_codes.resize(length, None);
            self.of_codes[code as usize] = made;
        }
        Ok(made)
    }

    fn datum(&mut self, cell: &Cell, schema: &Schema, column: usize) -> Result<Option<pg_sys::Datum>> {
        let described = &schema.columns[column];
        let number = match cell {
            Cell::Number(x) => Some(*x),
            Cell::Integer(count) if count.unsigned_abs() < 1 << 53 => Some(*count as f64),
            _ => None,
        };
        // The common types without a detour over text.
        let direct = match (self.type_oid, cell, number) {
            (_, Cell::Null, _) => return self.null(),
            (pg_sys::INT2OID, _, Some(x)) => {
                fits(x, i16::MIN.into(), i16::MAX.into()).and_then(|x| (x as i16).into_datum())
            }
            (pg_sys::INT4OID, _, Some(x)) => {
                fits(x, i32::MIN.into(), i32::MAX.into()).and_then(|x| (x as i32).into_datum())
            }
            (pg_sys::INT8OID, Cell::Integer(count), _) => count.into_datum(),
            (pg_sys::INT8OID, _, Some(x)) => fits(x, -9e15, 9e15).and_then(|x| (x as i64).into_datum()),
            (pg_sys::FLOAT4OID, _, Some(x)) => (x as f32).into_datum(),
            (pg_sys::FLOAT8OID, _, Some(x)) => x.into_datum(),
            (pg_sys::BOOLOID, Cell::Boolean(truth), _) => truth.into_datum(),
            (pg_sys::TEXTOID, Cell::Text(text), _) => text.as_ref().into_datum(),
            _ => None,
        };
        if direct.is_some() {
            return Ok(direct);
        }
        let text = cell.text(described.column_type).unwrap_or_default();
        let text = CString::new(text.as_ref()).map_err(|_| {
            Error::invalid(format!("column \"{}\" contains a zero byte", described.name), "Train the model again.")
        })?;
        // SAFETY: the input function of the type, with its own parameter and modifier; it raises errors of its own.
        Ok(Some(unsafe {
            pg_sys::InputFunctionCall(&mut self.input, text.as_ptr().cast_mut(), self.parameter, self.modifier)
        }))
    }

    /// A NULL. The input function of a domain raises an error if the domain does not allow it.
    fn null(&mut self) -> Result<Option<pg_sys::Datum>> {
        // SAFETY: takes any oid; an input function is given NULL as it is for NULL in a COPY.
        unsafe {
            if pg_sys::get_typtype(self.type_oid) as u8 == pg_sys::TYPTYPE_DOMAIN {
                pg_sys::InputFunctionCall(&mut self.input, std::ptr::null_mut(), self.parameter, self.modifier);
            }
        }
        Ok(None)
    }
}

fn fits(x: f64, low: f64, high: f64) -> Option<f64> {
    // Whole numbers within the bounds, which all fit 64 bits.
    ((low..=high).contains(&x) && (x as i64) as f64 == x).then_some(x)
}
