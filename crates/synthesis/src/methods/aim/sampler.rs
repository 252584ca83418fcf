//! Drawing rows: fields one after another along the junction tree, each conditional on those of its clique that came
//! before.
//!
//! For each field the graph holds `cumulative`, with a row for each joint value of its parents: the cumulative
//! probabilities of its cells except the last, padded with 2 to 2^m − 1 numbers, so that m steps of binary search find
//! how many are at most u. If cells have several outputs, the output is found in `keys` in the same way. An output is
//! `low` + u' `width`. u and u' are columns 2i and 2i + 1 of the input `uniform`; u is a multiple of 2⁻²⁴, so that it
//! is exact in float32.
//!
//! Within a block, the u of each field are stratified over the rows with equal parents, in random order: of m such rows
//! each cell gets its share of m, up to one row (the randomized rounding of Private-PGM's samplers). The distribution
//! of a single row is unchanged.

use super::steps::padded;
use crate::{Draw, Field, FieldKind, Frame, Generator, RunGraph, Values};
use onnx::stored::Files;
use runtime::draw::mix;
use runtime::error::{Error, Result};
use runtime::mapped::Mapped;
use runtime::memory;
use tabular::NONE;

/// Granularity of u and u': u is exact in float32, and u' plus the number of a cell, below 256, in float64.
const COARSE: f64 = 1.0 / (1u64 << 24) as f64;
const WITHIN: f64 = 1.0 / (1u64 << 40) as f64;
const FINE: f64 = 1.0 / (1u64 << 53) as f64;

/// How many of the 2^m − 1 ascending numbers of `table` are at most `u`, by the graph's search.
fn found<T: PartialOrd + Copy>(table: &[T], u: T) -> usize {
    let (mut at, mut step) = (0, table.len().div_ceil(2));
    while step > 0 {
        at += if u >= table[at + step - 1] { step } else { 0 };
        step /= 2;
    }
    at
}

/// A field, opened for drawing.
struct Opened {
    field: usize,
    parents: Vec<(usize, usize)>,
    cells: usize,
    cumulative: Mapped<f32>,
    keys: Option<Mapped<f64>>,
    low: Mapped<f64>,
    width: Mapped<f64>,
    starts: Mapped<u32>,
}

struct Sampler {
    fields: Vec<FieldKind>,
    steps: Vec<Opened>,
}

pub fn open(files: &Files, fields: &[Field]) -> Result<Box<dyn Generator>> {
    Ok(Box::new(opened(files, fields)?))
}

fn opened(files: &Files, fields: &[Field]) -> Result<Sampler> {
    let ([n], order) = files.tensor::<u32, 1>("aim.order")?;
    let mut seen = vec![0usize; fields.len()];
    if n != fields.len() {
        return Err(files.damaged(format!("it makes {n} fields, not {}", fields.len())));
    }
    let mut steps = Vec::new();
    for &field in order.iter() {
        let field = field as usize;
        if seen.get(field) != Some(&0) {
            return Err(files.damaged("its order of fields contradicts itself"));
        }
        let ([_], flat) = files.tensor::<u32, 1>(&format!("aim.parents.{field}"))?;
        let ([_], starts) = files.tensor::<u32, 1>(&format!("aim.starts.{field}"))?;
        let ([size], cumulative) = files.initializer::<f32, 1>(&format!("aim.cumulative.{field}"))?;
        let ([outputs], low) = files.initializer::<f64, 1>(&format!("aim.low.{field}"))?;
        let ([widths], width) = files.initializer::<f64, 1>(&format!("aim.width.{field}"))?;
        let parents: Vec<(usize, usize)> = flat.chunks_exact(2).map(|p| (p[0] as usize, p[1] as usize)).collect();
        let cells = starts.len().saturating_sub(1);
        let keys =
            if outputs > cells { Some(files.initializer::<f64, 1>(&format!("aim.keys.{field}"))?.1) } else { None };
        // The last row: all parents have their last cell.
        let mut last = 0usize;
        for &(parent, stride) in &parents {
            let cells = seen.get(parent).copied().unwrap_or(0);
            if cells == 0 {
                return Err(files.damaged("a field comes before its parents"));
            }
            last = last.saturating_add((cells - 1).saturating_mul(stride));
        }
        let length = padded(cells.saturating_sub(1));
        let ordered = starts.windows(2).all(|pair| pair[0] < pair[1]) && starts.first() == Some(&0);
        let fits = cells > 0 && ordered && starts.last() == Some(&(outputs as u32)) && widths == outputs;
        let keyed = keys.as_ref().is_none_or(|keys| keys.len() == padded(outputs - 1));
        if !fits || !keyed || last.saturating_add(1).saturating_mul(length) > size {
            return Err(files.damaged(format!("the tables of field {field} contradict each other")));
        }
        seen[field] = cells;
        steps.push(Opened { field, parents, cells, cumulative, keys, low, width, starts });
    }
    Ok(Sampler { fields: fields.iter().map(|field| field.kind).collect(), steps })
}

impl Opened {
    fn cell(&self, row: usize, u: f32) -> usize {
        let length = padded(self.cells - 1);
        found(&self.cumulative[row * length..(row + 1) * length], u).min(self.cells - 1)
    }

    fn value(&self, cell: usize, u: f64) -> f64 {
        let output = match &self.keys {
            Some(keys) => found(keys, cell as f64 + u).min(self.low.len() - 1),
            None => cell,
        };
        self.low[output] + u * self.width[output]
    }

    /// The cell of a given value: the nearest for a number outside all bins.
    fn cell_of(&self, value: f64) -> usize {
        let cell = |output: usize| self.starts.partition_point(|&start| start as usize <= output) - 1;
        let distance = |output: usize| {
            let (low, high) = (self.low[output], self.low[output] + self.width[output]);
            match (value.is_nan(), low.is_nan()) {
                (true, true) => 0.0,
                (true, _) | (_, true) => f64::INFINITY,
                _ => (low - value).max(value - high).max(0.0),
            }
        };
        (0..self.low.len()).min_by(|&a, &b| distance(a).total_cmp(&distance(b))).map_or(0, cell)
    }
}

/// Draws a number from [0, 1) for each row, stratified over the rows of each key in random order.
fn spread(keys: &[usize], seed: u64, unit: f64) -> Vec<f64> {
    let mut order: Vec<(u64, u32)> = (0u32..)
        .zip(keys)
        .map(|(row, &key)| ((key as u64) << 32 | mix(seed ^ mix(u64::from(row))) >> 32, row))
        .collect();
    order.sort_unstable();
    let mut numbers = vec![0.0; keys.len()];
    for group in order.chunk_by(|a, b| a.0 >> 32 == b.0 >> 32) {
        let start = (mix(seed ^ mix(!(group[0].0 >> 32))) >> 11) as f64 * FINE;
        for (rank, &(_, row)) in group.iter().enumerate() {
            let u = (rank as f64 + start) / group.len() as f64;
            numbers[row as usize] = (u / unit).floor().min(1.0 / unit - 1.0) * unit;
        }
    }
    numbers
}

/// Source of random numbers. Takes the index of the field in drawing order, whether they are for its cell (0) or within
/// it (1), and a key for each row.
type Uniform<'a> = dyn FnMut(usize, usize, &[usize]) -> Vec<f64> + 'a;

impl Sampler {
    fn make(&self, draw: &Draw, uniform: &mut Uniform) -> Result<Frame> {
        let n = draw.rows;
        let mut cells: Vec<Vec<u16>> = vec![Vec::new(); self.steps.len()];
        let mut columns = vec![Values::Codes(Vec::new()); self.steps.len()];
        for (number, step) in self.steps.iter().enumerate() {
            draw.progress.check()?;
            let mut own = memory::filled(0u16, n)?;
            if let Some((_, given)) = draw.given.iter().find(|(field, _)| *field == step.field) {
                if given.len() != n {
                    return Err(Error::Internal(format!("{} given values for {n} rows", given.len())));
                }
                match given {
                    Values::Codes(codes) => {
                        let null = |code: u32| if code == NONE { -1.0 } else { f64::from(code) };
                        own.iter_mut().zip(codes).for_each(|(to, &code)| *to = step.cell_of(null(code)) as u16);
                    }
                    Values::Numbers(x) => own.iter_mut().zip(x).for_each(|(to, &x)| *to = step.cell_of(x) as u16),
                }
                columns[step.field] = given.clone();
                cells[step.field] = own;
                continue;
            }
            let mut rows = memory::filled(0usize, n)?;
            for &(parent, stride) in &step.parents {
                rows.iter_mut().zip(&cells[parent]).for_each(|(row, &cell)| *row += usize::from(cell) * stride);
            }
            for ((to, &row), u) in own.iter_mut().zip(&rows).zip(uniform(number, 0, &rows)) {
                *to = step.cell(row, u as f32) as u16;
            }
            rows.iter_mut().zip(&own).for_each(|(row, &cell)| *row = usize::from(cell));
            let within = uniform(number, 1, &rows);
            let values = own.iter().zip(within).map(|(&cell, u)| step.value(usize::from(cell), u));
            columns[step.field] = match self.fields[step.field] {
                FieldKind::Category { .. } => {
                    Values::Codes(values.map(|value| if value < 0.0 { NONE } else { value as u32 }).collect())
                }
                FieldKind::Number { .. } => Values::Numbers(values.collect()),
            };
            cells[step.field] = own;
        }
        Ok(Frame { rows: n, columns })
    }
}

impl Generator for Sampler {
    fn sample(&self, draw: &Draw, _graph: &mut RunGraph) -> Result<Frame> {
        self.make(draw, &mut |number, which, keys| {
            let seed = mix(draw.seed ^ mix(2 * number as u64 + which as u64));
            spread(keys, seed, if which == 0 { COARSE } else { WITHIN })
        })
    }

    fn takes(&self, fields: &[usize]) -> bool {
        // What comes first is drawn whatever comes later.
        let first: Vec<usize> = self.steps.iter().take(fields.len()).map(|step| step.field).collect();
        fields.iter().all(|field| first.contains(field))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use prost::Message;

    use super::*;
    use crate::methods::aim::tests::trained;
    use onnx::proto::{ModelProto, data_type};
    use runtime::draw;
    use runtime::progress::Unwatched;

    /// Runs a graph of the operators used here on vectors of n numbers.
    fn run(onnx: &[u8], uniform: &[f64], n: usize) -> Vec<Vec<f64>> {
        let graph = ModelProto::decode(onnx).unwrap().graph.unwrap();
        let mut values: HashMap<String, Vec<f64>> = HashMap::new();
        for t in &graph.initializer {
            let raw = &t.raw_data;
            let read = |width: usize, f: &dyn Fn(&[u8]) -> f64| raw.chunks_exact(width).map(f).collect::<Vec<f64>>();
            let numbers = match t.data_type {
                data_type::FLOAT => read(4, &|b| f32::from_le_bytes(b.try_into().unwrap()).into()),
                data_type::INT32 => read(4, &|b| i32::from_le_bytes(b.try_into().unwrap()).into()),
                data_type::DOUBLE => read(8, &|b| f64::from_le_bytes(b.try_into().unwrap())),
                _ => read(8, &|b| i64::from_le_bytes(b.try_into().unwrap()) as f64),
            };
            values.insert(t.name.clone(), numbers);
        }
        let width = uniform.len() / n;
        let mut made = Vec::new();
        for node in &graph.node {
            let get = |at: usize| values.get(&node.input[at]).cloned().unwrap_or_default();
            let (a, b) = (get(0), if node.input.len() > 1 { get(1) } else { Vec::new() });
            let both = |f: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
                let length = a.len().max(b.len());
                (0..length).map(|i| f(a[i % a.len()], b[i % b.len()])).collect()
            };
            let result = match node.op_type.as_str() {
                "Gather" if node.input[0] == "uniform" => {
                    (0..n).map(|row| uniform[row * width + b[0] as usize]).collect()
                }
                "Gather" => b.iter().map(|&i| a[i as usize]).collect(),
                "Add" => both(&|x, y| x + y),
                "Sub" => both(&|x, y| x - y),
                "Mul" => both(&|x, y| x * y),
                "GreaterOrEqual" => both(&|x, y| f64::from(x >= y)),
                "Cast" | "Unsqueeze" => a,
                "Concat" => {
                    made = node.input.iter().map(|name| values[name].clone()).collect();
                    continue;
                }
                other => panic!("{other}"),
            };
            values.insert(node.output[0].clone(), result);
        }
        made
    }

    #[test]
    fn the_graph_and_the_sampler_make_the_same_rows() {
        let (onnx, data, fields) = trained();
        let data = data.into();
        let onnx: bytes::Bytes = onnx.into();
        let files = Files::open("m", onnx.clone(), &data).unwrap();
        let ([n_fields], order) = files.tensor::<u32, 1>("aim.order").unwrap();
        let steps = opened(&files, &fields).unwrap();
        let n = 500;
        let numbers: Vec<f64> = (0..n * 2 * n_fields)
            .map(|i| {
                let unit = if i % 2 == 0 { COARSE } else { WITHIN };
                (f64::from(draw::uniform(9, i as u64) * 0.5 + 0.5) / unit).floor().min(1.0 / unit - 1.0) * unit
            })
            .collect();
        let draw = Draw { rows: n, seed: 0, given: &[], threads: 1, progress: &Unwatched };
        let column = |at: usize| (0..n).map(|row| numbers[row * 2 * n_fields + at]).collect::<Vec<f64>>();
        let frame = steps.make(&draw, &mut |number, which, _| column(2 * number + which)).unwrap();
        assert_eq!(order.len(), n_fields);
        for (made, by_graph) in frame.columns.iter().zip(run(&onnx, &numbers, n)) {
            for (row, x) in by_graph.iter().enumerate() {
                let same = match made {
                    Values::Codes(codes) => *x == if codes[row] == NONE { -1.0 } else { codes[row].into() },
                    Values::Numbers(made) => made[row] == *x || (made[row].is_nan() && x.is_nan()),
                };
                assert!(same, "row {row}: {x}");
            }
        }
    }

    #[test]
    fn numbers_are_spread_evenly_over_the_rows_of_a_key_in_any_order() {
        let keys: Vec<usize> = (0..1000).map(|row| usize::from(row % 10 == 0)).collect();
        let numbers = spread(&keys, 5, COARSE);
        for key in 0..2 {
            let mut own: Vec<f64> = numbers.iter().zip(&keys).filter(|(_, k)| **k == key).map(|(u, _)| *u).collect();
            let turns = own.windows(2).filter(|pair| pair[0] < pair[1]).count() as f64 / own.len() as f64;
            assert!((0.3..0.7).contains(&turns), "{turns}");
            own.sort_by(f64::total_cmp);
            let (n, start) = (own.len() as f64, own[0]);
            assert!(own.iter().zip(0..).all(|(u, i)| (u - start - f64::from(i) / n).abs() < 1e-6));
        }
    }
}
