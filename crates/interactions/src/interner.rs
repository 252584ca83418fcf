//! Maps ids of any type to dense numbers while rows are read, and to ranks in the end.

use std::hash::Hash;
use std::io::Write;

use ahash::AHashMap;

use kernels::CHECK_EVERY;
use onnx::IdTable;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::Progress;
use runtime::sorting::sort_watched;

/// An id in the type of its source. Its canonical text is the result of PostgreSQL's `::text`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Id<'a> {
    Int(i64),
    Text(&'a str),
    Uuid(u128),
}

/// Maximum length of the text of an integer or uuid, in bytes.
const MAX_ID_LENGTH: usize = 36;

impl Id<'_> {
    fn write(self, out: &mut Vec<u8>) {
        // Writing to a vector cannot fail.
        let _ = match self {
            Self::Int(value) => write!(out, "{value}"),
            Self::Text(text) => out.write_all(text.as_bytes()),
            Self::Uuid(v) => {
                let low = v & 0xffff_ffff_ffff;
                let (a, b, c, d) = (v >> 96, v >> 80 & 0xffff, v >> 64 & 0xffff, v >> 48 & 0xffff);
                write!(out, "{a:08x}-{b:04x}-{c:04x}-{d:04x}-{low:012x}")
            }
        };
    }

    pub fn to_text(self) -> String {
        let mut out = Vec::new();
        self.write(&mut out);
        // It is UTF-8: nothing is lost.
        String::from_utf8(out).unwrap_or_default()
    }
}

/// Assigns dense numbers to ids in order of appearance. Each type has its own hash table.
#[derive(Default)]
pub struct Interner {
    ints: AHashMap<i64, u32>,
    texts: AHashMap<Box<str>, u32>,
    uuids: AHashMap<u128, u32>,
    len: u32,
}

/// The position of an id's text.
#[derive(Clone, Copy)]
struct Place {
    /// The first eight bytes, which decide most comparisons.
    head: u64,
    start: u64,
    len: u32,
    number: u32,
}

impl Interner {
    /// The number of an id.
    pub fn intern(&mut self, id: Id) -> Result<u32> {
        fn entry<K: Hash + Eq>(map: &mut AHashMap<K, u32>, key: K, len: &mut u32) -> Result<u32> {
            let next = *len;
            let number = *map.entry(key).or_insert(next);
            if number == next {
                *len = next.checked_add(1).ok_or_else(too_many)?;
            }
            Ok(number)
        }
        match id {
            Id::Int(value) => entry(&mut self.ints, value, &mut self.len),
            Id::Uuid(value) => entry(&mut self.uuids, value, &mut self.len),
            Id::Text(text) => match self.texts.get(text) {
                Some(&number) => Ok(number),
                None => entry(&mut self.texts, text.into(), &mut self.len),
            },
        }
    }

    /// The sorted table, and the index in it of each number. The index does not depend on the order of the rows. The integer 1 and the text '1' are
    /// the same id.
    ///
    /// Time: O(n log n). Memory: 48 bytes for each id and two copies of its text.
    pub fn finish(self, progress: &dyn Progress) -> Result<(IdTable, Vec<u32>)> {
        let n = self.len as usize;
        let (mut texts, mut places): (Vec<u8>, Vec<Place>) = Default::default();
        memory::reserve(&mut places, n)?;
        let ints = self.ints.iter().map(|(&id, &number)| (Id::Int(id), number));
        let uuids = self.uuids.iter().map(|(&id, &number)| (Id::Uuid(id), number));
        let all = ints.chain(uuids).chain(self.texts.iter().map(|(id, &number)| (Id::Text(id), number)));
        for (i, (id, number)) in all.enumerate() {
            if (i as u64).is_multiple_of(CHECK_EVERY) {
                progress.check()?;
            }
            let start = texts.len();
            memory::reserve(&mut texts, if let Id::Text(text) = id { text.len() } else { MAX_ID_LENGTH })?;
            id.write(&mut texts);
            let text = &texts[start..];
            let mut head = [0; 8];
            head.iter_mut().zip(text).for_each(|(to, &byte)| *to = byte);
            places.push(Place { head: u64::from_be_bytes(head), start: start as u64, len: text.len() as u32, number });
        }
        let text = |place: &Place| &texts[place.start as usize..][..place.len as usize];
        sort_watched(&mut places, &|| progress.check(), |a, b| a.head.cmp(&b.head).then_with(|| text(a).cmp(text(b))))?;

        let mut rank = memory::filled(0, n)?;
        let (mut offsets, mut bytes): (Vec<i64>, Vec<u8>) = Default::default();
        memory::reserve(&mut offsets, n + 1)?;
        memory::reserve(&mut bytes, texts.len())?;
        offsets.push(0);
        let mut last = None;
        for (i, place) in places.iter().enumerate() {
            if (i as u64).is_multiple_of(CHECK_EVERY) {
                progress.check()?;
            }
            if last != Some(text(place)) {
                last = Some(text(place));
                bytes.extend_from_slice(text(place));
                offsets.push(bytes.len() as i64);
            }
            rank[place.number as usize] = offsets.len() as u32 - 2;
        }
        Ok((IdTable::from_parts(offsets, bytes), rank))
    }
}

fn too_many() -> Error {
    Error::TooLarge {
        what: "source".into(),
        needed: "more distinct ids".into(),
        limit: format!("{}", u32::MAX),
        hint: "Train on fewer users or items.".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::progress::Unwatched;

    #[test]
    fn a_number_becomes_the_rank_of_its_text_whatever_the_type() {
        let uuid = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;
        let long = "01234567-89ab-cdef-0123-456789abcdef";
        let ids = [
            Id::Int(10),
            Id::Text("9"),
            Id::Int(-3),
            Id::Text("10"),
            Id::Uuid(uuid),
            Id::Text("01234567-8"),
            Id::Text("水"),
            Id::Text(""),
            Id::Text(long),
            Id::Int(9),
        ];
        let mut interner = Interner::default();
        let numbers: Vec<u32> = ids.iter().map(|&id| interner.intern(id).unwrap()).collect();
        assert_eq!(ids.map(|id| interner.intern(id).unwrap()), *numbers);
        let (table, rank) = interner.finish(&Unwatched).unwrap();
        assert_eq!(table.iter().collect::<Vec<_>>(), ["", "-3", "01234567-8", long, "10", "9", "水"]);
        for (id, number) in ids.into_iter().zip(numbers) {
            assert_eq!(table.get(rank[number as usize]), Some(id.to_text().as_str()));
        }
        assert!(Interner::default().finish(&Unwatched).unwrap().0.is_empty());
    }
}
