//! A column as the trees see it: its distinct values, and a byte for each row.

use super::settings::Settings;
use crate::{Field, FieldKind, Values};
use runtime::error::Result;
use runtime::jobs::Signal;
use runtime::memory;
use runtime::sorting::sort_watched;
use tabular::NONE;

/// Rows between two checks of the signal.
pub(super) const CHECK_EVERY: usize = 1 << 16;
/// Number of codes of a column, each a byte.
pub(super) const CODES: usize = 256;
/// Categories with their own code if there are more categories than codes.
const OWN: usize = 191;
/// Prior weight, in rows, of the overall mean when the mean of a rare category is estimated.
const SHRINK: f64 = 10.0;
/// Columns with at most this many distinct numbers are not smoothed.
const FEW: usize = 50;
/// A spike has one in this many rows, in columns whose numbers are mostly distinct.
const SPIKE: usize = 100;

/// The values that occur, ascending.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Distinct {
    /// [`NONE`] is the last.
    Codes(Vec<u32>),
    /// NaN is the first.
    Numbers(Vec<f64>),
}

#[derive(Clone, Debug)]
pub(super) struct Column {
    pub distinct: Distinct,
    /// [distinct]: number of rows.
    pub counts: Vec<u32>,
    /// [rows]: index in `distinct`.
    pub places: Vec<u32>,
    /// How values become codes.
    pub coding: Coding,
    /// [rows]
    pub codes: Vec<u8>,
    /// [distinct]: whether a number is not smoothed; empty if none is.
    pub kept: Vec<bool>,
}

/// The mapping from values to bytes.
#[derive(Clone, Debug)]
pub(super) struct Coding {
    /// [distinct]
    pub of_place: Vec<u8>,
    /// Codes of all categories of the field and of NULL; empty for numbers.
    pub of_category: Vec<u8>,
    /// Upper bounds of the codes of numbers except the last, ascending. NULL has code 0, numbers codes from 1.
    pub edges: Vec<f64>,
}

impl Distinct {
    pub fn len(&self) -> usize {
        match self {
            Self::Codes(codes) => codes.len(),
            Self::Numbers(numbers) => numbers.len(),
        }
    }
}

impl Coding {
    pub fn category(&self, code: u32) -> u8 {
        let last = self.of_category.len() - 1;
        self.of_category[(code as usize).min(last)]
    }

    #[inline(always)]
    pub fn number(&self, x: f64) -> u8 {
        if x.is_nan() { 0 } else { 1 + self.edges.partition_point(|&edge| edge < x) as u8 }
    }
}

impl Column {
    /// Finds the distinct values; [`encode`](Self::encode) adds the codes.
    pub fn learn(field: &Field, values: &Values, settings: &Settings, signal: &Signal) -> Result<Self> {
        let mut column = Self {
            distinct: Distinct::Codes(Vec::new()),
            counts: Vec::new(),
            places: memory::filled(0, values.len())?,
            coding: Coding { of_place: Vec::new(), of_category: Vec::new(), edges: Vec::new() },
            codes: Vec::new(),
            kept: Vec::new(),
        };
        match values {
            Values::Codes(codes) => column.learn_codes(field, codes, signal)?,
            Values::Numbers(numbers) => column.learn_numbers(numbers, signal)?,
        }
        if let Distinct::Numbers(numbers) = &column.distinct
            && settings.smoothing
            && numbers.len() > FEW
        {
            // Where hardly any rows share a number, those that do agree by chance: there it takes more of them.
            let shared: u64 = column.counts.iter().filter(|&&n| n >= settings.shared).map(|&n| u64::from(n)).sum();
            let spike = if shared * 2 < values.len() as u64 { (values.len() / SPIKE) as u32 } else { 0 };
            let kept = |(x, &n): (&f64, &u32)| x.is_nan() || n >= settings.shared.max(spike);
            column.kept = numbers.iter().zip(&column.counts).map(kept).collect();
        }
        Ok(column)
    }

    fn learn_codes(&mut self, field: &Field, codes: &[u32], signal: &Signal) -> Result<()> {
        let count = match field.kind {
            FieldKind::Category { count } => count,
            FieldKind::Number { .. } => 0,
        };
        // NULL is the category after the last.
        let mut counts = memory::filled(0u32, count + 1)?;
        let place = |code: u32| (code as usize).min(count);
        for codes in codes.chunks(CHECK_EVERY) {
            signal.check()?;
            codes.iter().for_each(|&code| counts[place(code)] += 1);
        }
        let (mut distinct, mut places) = (Vec::new(), memory::filled(0u32, count + 1)?);
        for (code, &n) in counts.iter().enumerate().filter(|&(_, &n)| n > 0) {
            places[code] = distinct.len() as u32;
            memory::push(&mut distinct, if code == count { NONE } else { code as u32 })?;
            memory::push(&mut self.counts, n)?;
        }
        for (out, &code) in self.places.iter_mut().zip(codes) {
            *out = places[place(code)];
        }
        self.distinct = Distinct::Codes(distinct);
        Ok(())
    }

    fn learn_numbers(&mut self, numbers: &[f64], signal: &Signal) -> Result<()> {
        let mut keys = Vec::new();
        memory::reserve(&mut keys, numbers.len())?;
        keys.extend(numbers.iter().zip(0u32..).map(|(&x, row)| (key(x), row)));
        sort_watched(&mut keys, &|| signal.check(), Ord::cmp)?;
        let mut distinct: Vec<f64> = Vec::new();
        let mut last = None;
        for (i, &(key, row)) in keys.iter().enumerate() {
            if i % CHECK_EVERY == 0 {
                signal.check()?;
            }
            if last != Some(key) {
                last = Some(key);
                // Without the sign of zero.
                memory::push(&mut distinct, numbers[row as usize] + 0.0)?;
                memory::push(&mut self.counts, 0)?;
            }
            let place = distinct.len() - 1;
            self.counts[place] += 1;
            self.places[row as usize] = place as u32;
        }
        self.distinct = Distinct::Numbers(distinct);
        Ok(())
    }

    /// Assigns codes. `lead` [rows] orders categories if there are too many for their own codes.
    pub fn encode(&mut self, field: &Field, lead: &[f32], signal: &Signal) -> Result<()> {
        let rows = self.places.len();
        match &self.distinct {
            Distinct::Numbers(numbers) => {
                let nulls = numbers.first().is_some_and(|x| x.is_nan()).into();
                let edges = edges(&numbers[nulls..], &self.counts[nulls..]);
                let coding = Coding { of_place: Vec::new(), of_category: Vec::new(), edges };
                let of_place = numbers.iter().map(|&x| coding.number(x)).collect();
                self.coding = Coding { of_place, ..coding };
            }
            Distinct::Codes(codes) => {
                let of_place = if codes.len() < CODES {
                    (0..codes.len()).map(|place| place as u8).collect()
                } else {
                    self.groups(lead, signal)?
                };
                let count = match field.kind {
                    FieldKind::Category { count } => count,
                    FieldKind::Number { .. } => 0,
                };
                // One that never occurred has a code that no row has: at every split it goes with the more rows.
                let mut of_category = memory::filled((CODES - 1) as u8, count + 1)?;
                for (&code, &byte) in codes.iter().zip(&of_place) {
                    of_category[(code as usize).min(count)] = byte;
                }
                self.coding = Coding { of_place, of_category, edges: Vec::new() };
            }
        }
        memory::reserve(&mut self.codes, rows)?;
        for places in self.places.chunks(CHECK_EVERY) {
            signal.check()?;
            self.codes.extend(places.iter().map(|&place| self.coding.of_place[place as usize]));
        }
        Ok(())
    }

    /// Codes of more categories than codes: the most frequent have their own, the others share the rest, grouped by
    /// their mean of `lead` into groups of about equal numbers of rows.
    fn groups(&self, lead: &[f32], signal: &Signal) -> Result<Vec<u8>> {
        let mut sums = memory::filled(0f64, self.counts.len())?;
        for (places, lead) in self.places.chunks(CHECK_EVERY).zip(lead.chunks(CHECK_EVERY)) {
            signal.check()?;
            places.iter().zip(lead).for_each(|(&place, &x)| sums[place as usize] += f64::from(x));
        }
        let mean = sums.iter().sum::<f64>() / lead.len().max(1) as f64;
        let mut order: Vec<u32> = (0..self.counts.len() as u32).collect();
        order.sort_by_key(|&place| std::cmp::Reverse(self.counts[place as usize]));
        let mut of_place = memory::filled(0u8, order.len())?;
        order[..OWN].iter().zip(0..).for_each(|(&place, code)| of_place[place as usize] = code);
        let shrunk =
            |place: u32| (sums[place as usize] + SHRINK * mean) / (f64::from(self.counts[place as usize]) + SHRINK);
        let rest = &mut order[OWN..];
        rest.sort_by(|&a, &b| shrunk(a).total_cmp(&shrunk(b)));
        let total: u64 = rest.iter().map(|&place| u64::from(self.counts[place as usize])).sum();
        // The last code is of those that never occurred.
        let shared = (CODES - 1 - OWN) as u64;
        let mut before = 0;
        for &place in rest.iter() {
            of_place[place as usize] = (OWN as u64 + before * shared / total.max(1)) as u8;
            before += u64::from(self.counts[place as usize]);
        }
        Ok(of_place)
    }
}

/// Sorts like the numbers, NaN first.
fn key(x: f64) -> u64 {
    if x.is_nan() {
        return 0;
    }
    let bits = (x + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// Edges of at most 255 codes with about equal numbers of rows, half-way between neighbouring values.
fn edges(distinct: &[f64], counts: &[u32]) -> Vec<f64> {
    const MAX: u64 = (CODES - 1) as u64;
    let few = distinct.len() <= MAX as usize;
    let total: u64 = counts.iter().map(|&n| u64::from(n)).sum();
    let (mut edges, mut before, mut codes) = (Vec::new(), 0, 1);
    for (pair, &n) in distinct.windows(2).zip(counts) {
        before += u64::from(n);
        if few || before * MAX >= codes * total {
            let half = pair[0] / 2.0 + pair[1] / 2.0;
            edges.push(if half < pair[1] { half.max(pair[0]) } else { pair[0] });
            codes = before * MAX / total + 1;
        }
    }
    edges
}
