//! Rows as jsonb, built from values without parsing text.

use std::borrow::Cow;
use std::ffi::CString;
use std::marker::PhantomData;

use pgrx::fcinfo::direct_function_call_as_datum;
use pgrx::pg_sys::{self, JsonbIteratorToken as Token, JsonbParseState, JsonbValue, jbvType};
use pgrx::{AnyElement, FromDatum, IntoDatum};
use serde_json::Value;

use runtime::error::{Error, Result};
use synthesis::made::{Block, Json};
use synthesis::schema::Schema;

/// The columns of a schema as keys of an object.
pub struct JsonRows(
    /// In the key order of jsonb, shorter names first, so that it has nothing to sort.
    Vec<usize>,
);

impl JsonRows {
    pub fn new(schema: &Schema) -> Self {
        let mut columns: Vec<usize> = (0..schema.columns.len()).filter(|&i| !schema.columns[i].hidden).collect();
        columns.sort_unstable_by_key(|&i| (schema.columns[i].name.len(), &schema.columns[i].name));
        Self(columns)
    }

    /// A row of a block, as `to_jsonb` would return it, in the current memory context.
    pub fn row(&self, block: &Block, schema: &Schema, row: usize) -> Result<AnyElement> {
        let mut to = Builder { state: std::ptr::null_mut(), texts: PhantomData };
        to.bracket(Token::WJB_BEGIN_OBJECT);
        for &column in &self.0 {
            to.text(Token::WJB_KEY, &schema.columns[column].name);
            match block.json(schema, column, row) {
                Json::Integer(x) => to.push(Token::WJB_VALUE, of_integer(x)?),
                Json::Text(Cow::Borrowed(text)) => to.text(Token::WJB_VALUE, text),
                Json::Text(Cow::Owned(text)) => to.copy(Token::WJB_VALUE, &text),
                Json::Document(text) => to.document(&text)?,
                Json::Other(value) => to.value(Token::WJB_VALUE, &value)?,
            };
        }
        let object = to.bracket(Token::WJB_END_OBJECT);
        // SAFETY: the end of the outermost object gives it; the datum is a jsonb in the current memory context.
        unsafe {
            let datum = pg_sys::Datum::from(pg_sys::JsonbValueToJsonb(object));
            AnyElement::from_polymorphic_datum(datum, false, pg_sys::JSONBOID)
                .ok_or_else(|| Error::Internal("row is null".into()))
        }
    }
}

/// A jsonb that is being built. It holds texts by pointer: they must outlive it, or are copied.
struct Builder<'a> {
    state: *mut JsonbParseState,
    texts: PhantomData<&'a str>,
}

impl<'a> Builder<'a> {
    /// Begins or ends an array or object.
    fn bracket(&mut self, token: Token::Type) -> *mut JsonbValue {
        // SAFETY: these tokens need no value.
        unsafe { pg_sys::pushJsonbValue(&mut self.state, token, std::ptr::null_mut()) }
    }

    /// Adds a scalar; a text must outlive the builder.
    fn push(&mut self, token: Token::Type, mut value: JsonbValue) {
        // SAFETY: the value is a scalar, copied into the state.
        unsafe { pg_sys::pushJsonbValue(&mut self.state, token, &mut value) };
    }

    fn text(&mut self, token: Token::Type, text: &'a str) {
        let mut value = scalar(jbvType::jbvString);
        value.val.string.len = text.len() as i32;
        value.val.string.val = text.as_ptr().cast_mut().cast();
        self.push(token, value);
    }

    fn copy(&mut self, token: Token::Type, text: &str) {
        // SAFETY: as many bytes as are copied, which last as long as the current memory context; they are UTF-8 as before.
        let copied = unsafe {
            let to = pg_sys::palloc(text.len().max(1)).cast::<u8>();
            to.copy_from_nonoverlapping(text.as_ptr(), text.len());
            std::str::from_utf8_unchecked(std::slice::from_raw_parts(to, text.len()))
        };
        self.text(token, copied);
    }

    /// Adds a value from its JSON text. `jsonb_in` parses it and raises its own errors.
    fn document(&mut self, text: &str) -> Result<()> {
        let text = CString::new(text).map_err(|_| Error::Internal("json contains a zero byte".into()))?;
        // SAFETY: the input function takes a text and gives a jsonb in the current memory context, which its
        // iterator walks through; a scalar is the only element of an array.
        unsafe {
            let datum = direct_function_call_as_datum(pg_sys::jsonb_in, &[Some(pg_sys::Datum::from(text.as_ptr()))]);
            let jsonb: *mut pg_sys::Jsonb = datum.ok_or_else(|| Error::Internal("json is null".into()))?.cast_mut_ptr();
            let mut iterator = pg_sys::JsonbIteratorInit(&raw mut (*jsonb).root);
            let mut value = scalar(jbvType::jbvNull);
            let mut next = |value: &mut JsonbValue| pg_sys::JsonbIteratorNext(&mut iterator, value, false);
            if (*jsonb).root.header & pg_sys::JB_FSCALAR != 0 {
                next(&mut value);
                next(&mut value);
                self.push(Token::WJB_VALUE, value);
                return Ok(());
            }
            loop {
                match next(&mut value) {
                    Token::WJB_DONE => return Ok(()),
                    token @ (Token::WJB_KEY | Token::WJB_VALUE | Token::WJB_ELEM) => self.push(token, value),
                    token => _ = self.bracket(token),
                }
            }
        }
    }

    fn value(&mut self, token: Token::Type, value: &Value) -> Result<()> {
        match value {
            Value::Null => self.push(token, scalar(jbvType::jbvNull)),
            Value::Bool(truth) => {
                let mut value = scalar(jbvType::jbvBool);
                value.val.boolean = *truth;
                self.push(token, value);
            }
            Value::Number(number) => self.push(token, of_number(&number.to_string())?),
            Value::String(text) => self.copy(token, text),
            Value::Array(values) => {
                self.bracket(Token::WJB_BEGIN_ARRAY);
                values.iter().try_for_each(|value| self.value(Token::WJB_ELEM, value))?;
                self.bracket(Token::WJB_END_ARRAY);
            }
            Value::Object(entries) => {
                self.bracket(Token::WJB_BEGIN_OBJECT);
                for (key, value) in entries {
                    self.copy(Token::WJB_KEY, key);
                    self.value(Token::WJB_VALUE, value)?;
                }
                self.bracket(Token::WJB_END_OBJECT);
            }
        }
        Ok(())
    }
}

fn scalar(kind: jbvType::Type) -> JsonbValue {
    // SAFETY: numbers and pointers, which may all be zero.
    let mut value: JsonbValue = unsafe { std::mem::zeroed() };
    value.type_ = kind;
    value
}

fn of_integer(x: i64) -> Result<JsonbValue> {
    // SAFETY: the function takes a bigint.
    of_numeric(unsafe { direct_function_call_as_datum(pg_sys::int8_numeric, &[x.into_datum()]) })
}

fn of_number(text: &str) -> Result<JsonbValue> {
    let text = CString::new(text).map_err(|_| Error::Internal("number contains a zero byte".into()))?;
    let text = pg_sys::Datum::from(text.as_ptr());
    // SAFETY: the input function takes a text, an oid it ignores and the modifier -1 for none.
    of_numeric(unsafe {
        direct_function_call_as_datum(
            pg_sys::numeric_in,
            &[Some(text), pg_sys::InvalidOid.into_datum(), (-1i32).into_datum()],
        )
    })
}

fn of_numeric(numeric: Option<pg_sys::Datum>) -> Result<JsonbValue> {
    let mut value = scalar(jbvType::jbvNumeric);
    value.val.numeric = numeric.ok_or_else(|| Error::Internal("number is null".into()))?.cast_mut_ptr();
    Ok(value)
}
