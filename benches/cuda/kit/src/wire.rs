//! Protobuf messages as the fields that they consist of, so that a message can be written back with all that it had, known or not.

use crate::Result;

/// Wire types.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const BYTES: u64 = 2;
const FIXED_32: u64 = 5;

/// One field of a message.
pub struct Field<'a> {
    pub number: u64,
    /// The field as it stands in the message, number included.
    pub whole: &'a [u8],
    pub value: Value<'a>,
}

pub enum Value<'a> {
    Varint(u64),
    /// A string, bytes, a message or packed numbers.
    Bytes(&'a [u8]),
    /// A number of fixed size.
    Fixed,
}

impl<'a> Field<'a> {
    pub fn bytes(&self) -> Option<&'a [u8]> {
        match self.value {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// The fields of a message in their order.
pub fn fields(mut message: &[u8]) -> Result<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let start = message;
        let key = take_varint(&mut message)?;
        let value = match key & 7 {
            VARINT => Value::Varint(take_varint(&mut message)?),
            BYTES => {
                let length = usize::try_from(take_varint(&mut message)?)?;
                Value::Bytes(take(&mut message, length)?)
            }
            FIXED_64 => take(&mut message, 8).map(|_| Value::Fixed)?,
            FIXED_32 => take(&mut message, 4).map(|_| Value::Fixed)?,
            other => return Err(format!("not a protobuf message: wire type {other}").into()),
        };
        let whole = &start[..start.len() - message.len()];
        fields.push(Field { number: key >> 3, whole, value });
    }
    Ok(fields)
}

/// Appends a field of bytes.
pub fn put_bytes(message: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(message, number << 3 | BYTES);
    put_varint(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

fn put_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    let (taken, rest) = message.split_at_checked(length).ok_or("not a protobuf message: it ends within a field")?;
    *message = rest;
    Ok(taken)
}

fn take_varint(message: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(message, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("not a protobuf message: a number of more than ten bytes".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_put_together_give_the_message() {
        let message = [8, 150, 1, 13, 1, 2, 3, 4, 17, 1, 2, 3, 4, 5, 6, 7, 8, 194, 62, 2, 104, 105];
        let fields = fields(&message).unwrap();
        assert_eq!(fields.iter().map(|field| field.number).collect::<Vec<_>>(), [1, 1, 2, 1000]);
        assert!(matches!(fields[0].value, Value::Varint(150)));
        assert_eq!(fields[3].bytes(), Some(b"hi".as_slice()));
        assert_eq!(fields.iter().flat_map(|field| field.whole).copied().collect::<Vec<_>>(), message);
    }

    #[test]
    fn written_bytes_are_read_again() {
        let long = vec![7; 300];
        let mut message = Vec::new();
        put_bytes(&mut message, 1000, &long);
        let fields = fields(&message).unwrap();
        assert_eq!((fields.len(), fields[0].number, fields[0].bytes()), (1, 1000, Some(long.as_slice())));
    }

    #[test]
    fn a_message_that_is_cut_is_an_error() {
        for cut in [&[8][..], &[8, 150], &[13, 1], &[18, 5, 1], &[11]] {
            assert!(fields(cut).is_err(), "{cut:?}");
        }
    }
}
