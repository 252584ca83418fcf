//! Synthetic rows that equal a real row in every column.
//!
//! Rows are compared by 128-bit hashes of their values: two different rows are taken for equal with a probability of
//! about 10⁻³⁸. Time: O(rows · columns). Memory: 32 bytes a real row.

use super::columns::{HOLDOUT, REAL, SYNTHETIC, Tables};
use runtime::draw::mix;
use runtime::error::Result;
use runtime::memory;
use runtime::parallel::for_each_chunk;
use runtime::progress::Progress;

const CHUNK_ROWS: usize = 4096;
/// Rows between two checks of the progress.
const CHECK_EVERY: usize = 1 << 14;
/// Key of an empty slot; no row has it.
const EMPTY: u128 = 0;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Copies {
    /// Synthetic rows that equal a real one.
    pub synthetic: usize,
    /// Rows of the holdout that equal a real one.
    pub holdout: Option<usize>,
    /// Real rows that equal another real one.
    pub real: usize,
}

pub fn copies(tables: &Tables, threads: usize, progress: &dyn Progress) -> Result<Copies> {
    let known = Known::new(&keys(tables, REAL, threads, progress)?, progress)?;
    let found = |table: usize| -> Result<usize> {
        let keys = keys(tables, table, threads, progress)?;
        let mut found = 0;
        for keys in keys.chunks(CHECK_EVERY) {
            progress.check()?;
            found += keys.iter().filter(|&&key| known.has(key)).count();
        }
        Ok(found)
    };
    let holdout = if tables.rows[HOLDOUT] > 0 { Some(found(HOLDOUT)?) } else { None };
    Ok(Copies { synthetic: found(SYNTHETIC)?, holdout, real: known.repeated })
}

fn keys(tables: &Tables, table: usize, threads: usize, progress: &dyn Progress) -> Result<Vec<u128>> {
    let mut keys = memory::filled(EMPTY, tables.rows[table])?;
    for_each_chunk(
        &mut keys,
        CHUNK_ROWS,
        threads,
        progress,
        || (),
        |(), number, part| {
            for (row, key) in (number * CHUNK_ROWS..).zip(part) {
                let (mut a, mut b) = (1u64, 2u64);
                for column in &tables.columns {
                    let bits = column.bits(table, row);
                    (a, b) = (mix(a ^ bits), mix(b.rotate_left(17) ^ mix(bits)));
                }
                *key = (u128::from(a) << 64 | u128::from(b)).max(EMPTY + 1);
            }
            Ok(())
        },
    )?;
    Ok(keys)
}

/// Hash set with open addressing, at most half full.
struct Known {
    places: Vec<u128>,
    /// Number of inserted keys that were present already.
    repeated: usize,
}

impl Known {
    fn new(keys: &[u128], progress: &dyn Progress) -> Result<Self> {
        let mut known = Self { places: memory::filled(EMPTY, (2 * keys.len()).next_power_of_two())?, repeated: 0 };
        let mut again = memory::filled(false, known.places.len())?;
        for keys in keys.chunks(CHECK_EVERY) {
            progress.check()?;
            for &key in keys {
                let place = known.place(key);
                if known.places[place] == key {
                    known.repeated += 1 + usize::from(!std::mem::replace(&mut again[place], true));
                }
                known.places[place] = key;
            }
        }
        Ok(known)
    }

    /// The slot of the key, or the first empty slot of its probe sequence.
    fn place(&self, key: u128) -> usize {
        let mask = self.places.len() - 1;
        let mut place = key as usize & mask;
        while self.places[place] != EMPTY && self.places[place] != key {
            place = (place + 1) & mask;
        }
        place
    }

    fn has(&self, key: u128) -> bool {
        self.places[self.place(key)] == key
    }
}
