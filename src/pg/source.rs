//! A query as a source of rows. It runs with the current privileges; columns are looked up by name.
//!
//! Nothing is assumed to be as it was before: a portal is held by reference, and its end is noticed ([`cursors`](super::cursors)); PostgreSQL
//! revalidates plans; and the columns of every batch are compared with those that were looked up ([`row`](super::row)).

use std::ffi::{CStr, CString};

use pgrx::pg_sys;

use crate::pg::context::Context;
use crate::pg::cursors::Cursor;
use crate::pg::id_type::IdType;
use crate::pg::row::{Attribute, Batch, Column, Row, Shape, Types, Wanted};
use runtime::error::{Error, Result};
use runtime::progress::Progress;

/// Rows fetched at a time by [`Source::read`]. Their memory is freed in between.
const BATCH: usize = 10_000;

/// An open cursor on a query.
pub struct Source {
    cursor: Cursor,
    shape: Shape,
    /// The position of each wanted column; `None` for an optional one that is missing.
    columns: Vec<Option<Column>>,
    rows_before: usize,
    /// The argument whose value is the query, and the query, for the context of errors.
    what: &'static str,
    query: String,
}

/// A column of a query's result.
pub struct ResultColumn {
    pub name: String,
    /// For a domain, its base type.
    pub type_oid: pg_sys::Oid,
    pub modifier: i32,
    /// The table column that it is an unchanged copy of, by table and number.
    pub origin: Option<(pg_sys::Oid, i16)>,
}

impl Source {
    /// Opens `query`, which must be read-only, and looks up the wanted columns.
    pub fn open(query: &str, wanted: &[Wanted]) -> Result<Self> {
        Self::open_named("source", query, wanted)
    }

    /// [`open`](Self::open) for the argument `what`.
    pub fn open_named(what: &'static str, query: &str, wanted: &[Wanted]) -> Result<Self> {
        let text = c_text(what, query)?;
        let _context = Context::enter(what, query);
        connected(|| {
            let plan = Plan::of_source(what, &text)?;
            // SAFETY: SPI is connected and the plan is one query that only reads and has no parameters; SPI_cursor_open raises errors of
            // its own. A portal for a query has a row description.
            let (cursor, shape) = unsafe {
                let portal =
                    pg_sys::SPI_cursor_open(std::ptr::null(), plan.0, std::ptr::null_mut(), std::ptr::null(), true);
                (Cursor::hold(portal), Shape::of((*portal).tupDesc))
            };
            let columns = shape.find_all(wanted)?;
            Ok(Self { cursor, shape, columns, rows_before: 0, what, query: query.to_owned() })
        })
    }

    /// [`open`](Self::open) for an id column, with every other column as an attribute.
    pub fn open_with_attributes(what: &'static str, query: &str, id: Wanted) -> Result<(Self, Vec<Attribute>)> {
        let source = Self::open_named(what, query, &[id])?;
        let others = source.shape.columns.iter().enumerate().filter(|(_, column)| column.name != id.name);
        let attributes =
            others.map(|(place, column)| column.attribute(place, Types::Learned)).collect::<Result<_>>()?;
        Ok((source, attributes))
    }

    /// [`open`](Self::open) with every column as an attribute. The column `id` is read as text, whatever its type.
    pub fn open_table(
        what: &'static str,
        query: &str,
        id: Option<&str>,
        types: Types,
    ) -> Result<(Self, Vec<Attribute>)> {
        let source = Self::open_named(what, query, &[])?;
        let attributes = source.shape.columns.iter().enumerate().map(|(place, column)| {
            if id == Some(column.name.as_str()) { Ok(column.printed(place)) } else { column.attribute(place, types) }
        });
        let attributes = attributes.collect::<Result<_>>()?;
        Ok((source, attributes))
    }

    /// [`open`](Self::open) with the columns that are `wanted` as attributes; others may have any type. The column `id` comes first, if it is there,
    /// and is read as text.
    pub fn open_chosen(
        what: &'static str,
        query: &str,
        id: &str,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<(Self, Option<Attribute>, Vec<Attribute>)> {
        let source = Self::open_named(what, query, &[])?;
        let columns = || source.shape.columns.iter().enumerate();
        let found = columns().find(|(_, column)| column.name == id).map(|(place, column)| column.printed(place));
        let attributes = columns().filter(|(_, column)| wanted(&column.name));
        let attributes =
            attributes.map(|(place, column)| column.attribute(place, Types::Learned)).collect::<Result<_>>()?;
        Ok((source, found, attributes))
    }

    /// [`open`](Self::open) with every column, to be read by [`Row::field`].
    pub fn open_columns(what: &'static str, query: &str) -> Result<(Self, Vec<ResultColumn>)> {
        let source = Self::open_named(what, query, &[])?;
        let origins = origins(what, query)?;
        let columns = source.shape.columns.iter().enumerate().map(|(place, column)| ResultColumn {
            name: column.name.clone(),
            type_oid: column.type_oid,
            modifier: column.modifier,
            origin: origins.get(place).copied().flatten(),
        });
        let columns = columns.collect();
        Ok((source, columns))
    }

    /// Whether the optional wanted column number `column` exists.
    pub fn has(&self, column: usize) -> bool {
        self.columns[column].is_some()
    }

    /// The names of all columns, separated by commas.
    pub fn names(&self) -> String {
        self.shape.names()
    }

    /// The id type of the column number `column`, which must be of kind `Id`.
    pub fn id_type(&self, column: usize) -> IdType {
        self.columns[column].and_then(|column| IdType::of(self.shape.type_of(column))).unwrap_or(IdType::Text)
    }

    /// Reads the query to its end and calls `visit` with each row. Returns the number of rows.
    pub fn read(mut self, progress: &dyn Progress, mut visit: impl FnMut(&Row) -> Result<()>) -> Result<usize> {
        progress.report(&format!("reading {}", self.what), 0, 0);
        let phase = format!("rows read from {}", self.what);
        while self.fetch(BATCH, &mut visit)? > 0 {
            progress.check()?;
            progress.report(&phase, self.rows_before, 0);
        }
        Ok(self.rows_before)
    }

    /// Fetches up to `rows` rows and calls `visit` with each. Returns the number of rows: 0 at the end.
    pub fn fetch(&mut self, rows: usize, mut visit: impl FnMut(&Row) -> Result<()>) -> Result<usize> {
        let _context = Context::enter(self.what, &self.query);
        connected(|| {
            let portal = self.cursor.portal().ok_or(Error::CursorClosed(self.what))?;
            // SAFETY: SPI is connected, the portal is there, and nothing is asked of SPI before the batch has been read.
            let batch = unsafe {
                pg_sys::SPI_cursor_fetch(portal, true, rows as _);
                Batch::fetched()?
            };
            batch.visit(&self.shape, &self.columns, self.rows_before, &mut visit)?;
            self.rows_before += batch.rows;
            Ok(batch.rows)
        })
    }
}

/// A prepared read-only query with one parameter. PostgreSQL plans it again after DDL; the columns are looked up again in the result of each
/// run.
pub struct Lookup {
    plan: Plan,
    wanted: Vec<Wanted>,
}

impl Lookup {
    pub fn prepare(query: &CStr, parameter: pg_sys::Oid, wanted: &[Wanted]) -> Result<Self> {
        connected(|| {
            let plan = Plan::prepare("source", query, &mut [parameter])?;
            plan.shape().find_all(wanted)?;
            // SAFETY: the plan was just prepared; once kept, it outlives the connection.
            if unsafe { pg_sys::SPI_keepplan(plan.0) } != 0 {
                return Err(Error::Internal("could not save the plan of a lookup".into()));
            }
            Ok(Self { plan, wanted: wanted.to_vec() })
        })
    }

    /// Runs the query for `parameter` and calls `visit` with each row.
    pub fn run(&self, parameter: pg_sys::Datum, mut visit: impl FnMut(&Row) -> Result<()>) -> Result<()> {
        connected(|| {
            let mut parameters = [parameter];
            // SAFETY: SPI is connected and the plan has one parameter, of the type it was prepared with, not NULL. Nothing is asked of SPI
            // before the batch has been read.
            let batch = unsafe {
                let done = pg_sys::SPI_execute_plan(self.plan.0, parameters.as_mut_ptr(), std::ptr::null(), true, 0);
                if done != pg_sys::SPI_OK_SELECT as i32 {
                    return Err(Error::Internal("lookup did not run as a query".into()));
                }
                Batch::fetched()?
            };
            let shape = batch.shape();
            let columns = shape.find_all(&self.wanted)?;
            batch.visit(&shape, &columns, 0, &mut visit)
        })
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        // SAFETY: the plan was kept by `prepare` and is freed once.
        unsafe { pg_sys::SPI_freeplan(self.plan.0) };
    }
}

/// The current types of a query's columns, without running it; `None` for a column that it does not have.
pub fn column_types<const N: usize>(query: &str, columns: [&str; N]) -> Result<[Option<pg_sys::Oid>; N]> {
    let text = c_text("source", query)?;
    connected(|| {
        let shape = Plan::prepare("source", &text, &mut [])?.shape();
        Ok(columns.map(|name| shape.columns.iter().find(|column| column.name == name).map(|column| column.type_oid)))
    })
}

/// The query as a subquery: its one statement in parentheses, without semicolons and comments around it.
pub fn as_subquery(what: &'static str, query: &str) -> Result<String> {
    let text = c_text(what, query)?;
    let _context = Context::enter(what, query);
    // SAFETY: the parser takes a C string, raises errors of its own, and gives a list of raw statements that say where in the
    // text they stand; 0 for their length means up to its end.
    let statement = unsafe {
        let statements = pg_sys::pg_parse_query(text.as_ptr());
        if statements.is_null() || (*statements).length != 1 {
            return Err(not_read_only(what));
        }
        let statement = pg_sys::list_nth(statements, 0).cast::<pg_sys::RawStmt>();
        let begin = usize::try_from((*statement).stmt_location).unwrap_or(0);
        match usize::try_from((*statement).stmt_len) {
            Ok(length) if length > 0 => query.get(begin..begin + length),
            _ => query.get(begin..),
        }
    };
    let statement = statement.ok_or_else(|| Error::Internal("statement ends outside its text".into()))?;
    // On lines of its own, so that a comment at its end comments nothing else out.
    Ok(format!("(\n{}\n)", statement.trim()))
}

/// A plan of this SPI connection, or a saved one.
struct Plan(pg_sys::SPIPlanPtr);

impl Plan {
    /// SPI must be connected.
    fn prepare(what: &'static str, query: &CStr, parameters: &mut [pg_sys::Oid]) -> Result<Self> {
        // SAFETY: as many parameter types as are counted; errors in the query are raised.
        let plan = unsafe { pg_sys::SPI_prepare(query.as_ptr(), parameters.len() as i32, parameters.as_mut_ptr()) };
        if plan.is_null() {
            return Err(not_read_only(what));
        }
        let plan = Self(plan);
        if plan.source().is_none() {
            return Err(not_read_only(what));
        }
        Ok(plan)
    }

    /// The plan of a query, which must be read-only.
    fn of_source(what: &'static str, query: &CStr) -> Result<Self> {
        let plan = Self::prepare(what, query, &mut [])?;
        if plan.only_reads() { Ok(plan) } else { Err(not_read_only(what)) }
    }

    /// The plan's one statement.
    fn source(&self) -> Option<*mut pg_sys::CachedPlanSource> {
        // SAFETY: the plan was made by SPI_prepare; its sources are a list.
        unsafe {
            let sources = pg_sys::SPI_plan_get_plan_sources(self.0);
            (!sources.is_null() && (*sources).length == 1).then(|| pg_sys::list_nth(sources, 0).cast())
        }
    }

    fn query(&self) -> Option<*mut pg_sys::Query> {
        // SAFETY: a plan's statement has a list of rewritten queries.
        unsafe {
            let queries = (*self.source()?).query_list;
            (!queries.is_null() && (*queries).length == 1).then(|| pg_sys::list_nth(queries, 0).cast())
        }
    }

    /// The row type of the result. Only valid right after the plan was prepared.
    fn shape(&self) -> Shape {
        let description = self.source().map_or(std::ptr::null_mut(), |source| {
            // SAFETY: the statement has just been analysed.
            unsafe { (*source).resultDesc }
        });
        // SAFETY: null, or the description of the plan's rows, which nothing changes meanwhile.
        unsafe { Shape::of(description) }
    }

    /// Whether it is a single query and no part of it writes.
    fn only_reads(&self) -> bool {
        self.query().is_some_and(|query| {
            // SAFETY: the query of a plan that was just prepared.
            unsafe { (*query).commandType == pg_sys::CmdType::CMD_SELECT && !(*query).hasModifyingCTE }
        })
    }
}

fn not_read_only(what: &'static str) -> Error {
    let hint = "Pass one SELECT, VALUES or TABLE statement that writes nothing.";
    Error::invalid(format!("argument \"{what}\" must be a read-only query"), hint)
}

fn c_text(what: &'static str, query: &str) -> Result<CString> {
    CString::new(query).map_err(|_| {
        Error::invalid(format!("argument \"{what}\" contains a zero byte"), "Pass a query, as in TABLE orders.")
    })
}

/// The table columns that the columns of a query are unchanged copies of.
fn origins(what: &'static str, query: &str) -> Result<Vec<Option<(pg_sys::Oid, i16)>>> {
    let text = c_text(what, query)?;
    connected(|| {
        let plan = Plan::of_source(what, &text)?;
        let Some(query) = plan.query() else { return Ok(Vec::new()) };
        // SAFETY: the query of a plan that was just prepared; its target list holds target entries.
        unsafe {
            let targets = (*query).targetList;
            let count = if targets.is_null() { 0 } else { (*targets).length };
            let entries = (0..count).map(|i| pg_sys::list_nth(targets, i).cast::<pg_sys::TargetEntry>());
            let origins = entries.filter(|&entry| !(*entry).resjunk).map(|entry| {
                let (table, column) = ((*entry).resorigtbl, (*entry).resorigcol);
                (table != pg_sys::InvalidOid && column > 0).then_some((table, column))
            });
            Ok(origins.collect())
        }
    })
}

/// Runs `body` connected to SPI. An error that PostgreSQL raises inside unwinds past this function; the end of the transaction then closes
/// the connection.
pub fn connected<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: SPI_connect and SPI_finish are called in pairs on every path that returns.
    unsafe {
        if pg_sys::SPI_connect() != pg_sys::SPI_OK_CONNECT as i32 {
            return Err(Error::Internal("SPI_connect failed".into()));
        }
        let result = body();
        pg_sys::SPI_finish();
        result
    }
}
