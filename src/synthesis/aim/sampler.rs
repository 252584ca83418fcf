//! Making rows from what was learned: fields one after another along the junction tree, each given those of its clique that
//! came before.
//!
//! Of a field the graph holds `cumulative`, a row for each joint value of its parents: the probabilities of its cells but the
//! last, summed up, padded by 2 to 2^m − 1 numbers, so that m steps of halving find how many are at most u. The cell's outputs
//! are found in `keys` in the same way where a cell has several, and an output is `low` + u' `width`. u and u' are columns 2i and
//! 2i + 1 of the input `uniform`, where u is a multiple of 2⁻²⁴, so that it is the same in float32.
//!
//! Within a block each field's u are spread evenly over the rows whose parents are equal, in an order drawn at random: of m such
//! rows each cell gets its share of m, up to one row (the randomized rounding of Private-PGM's samplers). A row alone is
//! distributed as without it.

use super::domain::Column;
use super::select::Learned;
use crate::draw::mix;
use crate::error::{Error, Result};
use crate::interactions::mapped::Mapped;
use crate::memory;
use crate::onnx::graph::{Axis, GraphBuilder, int_attribute};
use crate::onnx::proto::data_type;
use crate::stored::{DataWriter, Files};
use crate::synthesis::{Draw, Field, FieldKind, Frame, Generator, RunGraph, Values};
use crate::tabular::NONE;

/// What u and u' are multiples of: u is then a float32, and u' plus the number of a cell, below 256, a float64.
const COARSE: f64 = 1.0 / (1u64 << 24) as f64;
const WITHIN: f64 = 1.0 / (1u64 << 40) as f64;
const FINE: f64 = 1.0 / (1u64 << 53) as f64;

/// The padded length of a row of `n` numbers: 2^m − 1.
fn padded(n: usize) -> usize {
    (n + 1).next_power_of_two() - 1
}

/// A field and how it follows from others.
struct Step {
    field: usize,
    /// Fields, and what their cells count in the number of the row.
    parents: Vec<(usize, usize)>,
    cells: usize,
    cumulative: Vec<f32>,
}

/// The graph and the data file of what was learned. `label` is made first, if it is in the tree's first clique.
pub fn write(learned: &Learned, columns: &[Column], label: Option<usize>) -> Result<(GraphBuilder, DataWriter)> {
    let steps = steps(learned, label)?;
    let mut data = DataWriter::default();
    let order: Vec<u32> = steps.iter().map(|step| step.field as u32).collect();
    data.tensor::<u32>("aim.order", &[order.len()], &order);
    let mut graph = GraphBuilder::new("aim");
    graph.input("uniform", data_type::DOUBLE, &[Axis::Named("n"), Axis::Fixed(2 * steps.len())]);
    graph.output("rows", data_type::DOUBLE, &[Axis::Named("n"), Axis::Fixed(steps.len())]);
    let mut nodes = Nodes::new(steps.len());
    for (number, step) in steps.iter().enumerate() {
        let field = step.field;
        let column = &columns[field];
        let flat: Vec<u32> = step.parents.iter().flat_map(|&(field, stride)| [field as u32, stride as u32]).collect();
        data.tensor::<u32>(&format!("aim.parents.{field}"), &[flat.len()], &flat);
        let starts: Vec<u32> = column.starts.iter().map(|&start| start as u32).collect();
        data.tensor::<u32>(&format!("aim.starts.{field}"), &[starts.len()], &starts);
        nodes.add(&mut graph, number, step, column);
    }
    let made: Vec<&str> = nodes.made.iter().map(String::as_str).collect();
    graph.node_to("Concat", &made, vec![int_attribute("axis", 1)], &["rows"]);
    Ok((graph, data))
}

/// Values of the graph: of each field its cells, and its part of the rows.
struct Nodes {
    cells: Vec<String>,
    made: Vec<String>,
}

fn cast(graph: &mut GraphBuilder, value: &str, to: i32) -> String {
    graph.node_with("Cast", &[value], vec![int_attribute("to", to.into())])
}

impl Nodes {
    fn new(fields: usize) -> Self {
        Self { cells: vec![String::new(); fields], made: vec![String::new(); fields] }
    }

    fn add(&mut self, graph: &mut GraphBuilder, number: usize, step: &Step, column: &Column) {
        let field = step.field;
        let length = padded(step.cells - 1);
        let lows: Vec<f64> = column.outputs.iter().map(|output| output.low).collect();
        let widths: Vec<f64> = column.outputs.iter().map(|output| output.width).collect();
        let low = graph.doubles(&format!("aim.low.{field}"), &[lows.len()], &lows);
        let width = graph.doubles(&format!("aim.width.{field}"), &[lows.len()], &widths);
        let draw = |graph: &mut GraphBuilder, at: usize| {
            let index = graph.int64s(&format!("at.{at}"), &[], &[at as i64]);
            graph.node_with("Gather", &["uniform", &index], vec![int_attribute("axis", 1)])
        };
        let (u, within) = (draw(graph, 2 * number), draw(graph, 2 * number + 1));
        // Flat, row by row: places in it are those of the row's first number and on.
        let table = graph.floats(&format!("aim.cumulative.{field}"), &[step.cumulative.len()], &step.cumulative);
        let cell = if length == 0 {
            let zero = graph.doubles(&format!("zero.{field}"), &[], &[0.0]);
            let none = graph.node("Mul", &[&u, &zero]);
            cast(graph, &none, data_type::INT32)
        } else {
            let u = cast(graph, &u, data_type::FLOAT);
            let mut row: Option<String> = None;
            for &(parent, stride) in &step.parents {
                let by = graph.int32s(&format!("stride.{field}.{parent}"), &[], &[(stride * length) as i32]);
                let part = graph.node("Mul", &[&self.cells[parent], &by]);
                row = Some(match row {
                    Some(row) => graph.node("Add", &[&row, &part]),
                    None => part,
                });
            }
            search(graph, &format!("cell.{field}"), &table, length, row, &u)
        };
        let mut output = cell.clone();
        if lows.len() > step.cells {
            let keys = keys(column);
            let table = graph.doubles(&format!("aim.keys.{field}"), &[keys.len()], &keys);
            let start = cast(graph, &cell, data_type::DOUBLE);
            let key = graph.node("Add", &[&start, &within]);
            output = search(graph, &format!("output.{field}"), &table, keys.len(), None, &key);
        }
        let low = graph.node("Gather", &[&low, &output]);
        let width = graph.node("Gather", &[&width, &output]);
        let inner = graph.node("Mul", &[&within, &width]);
        let value = graph.node("Add", &[&low, &inner]);
        let axis = graph.int64s(&format!("axis.{field}"), &[1], &[1]);
        self.made[field] = graph.node("Unsqueeze", &[&value, &axis]);
        self.cells[field] = cell;
    }
}

/// How many of the `length` = 2^m − 1 ascending numbers of `table` from `row` on are at most `u`.
fn search(graph: &mut GraphBuilder, name: &str, table: &str, length: usize, row: Option<String>, u: &str) -> String {
    let mut at = row.clone();
    let mut step = length.div_ceil(2);
    while step > 0 {
        let ahead = graph.int32s(&format!("{name}.ahead.{step}"), &[], &[step as i32 - 1]);
        let place = match &at {
            Some(at) => graph.node("Add", &[at, &ahead]),
            None => ahead,
        };
        let number = graph.node("Gather", &[table, &place]);
        let reached = graph.node("GreaterOrEqual", &[u, &number]);
        let reached = cast(graph, &reached, data_type::INT32);
        let by = graph.int32s(&format!("{name}.step.{step}"), &[], &[step as i32]);
        let moved = graph.node("Mul", &[&reached, &by]);
        at = Some(match at {
            Some(at) => graph.node("Add", &[&at, &moved]),
            None => moved,
        });
        step /= 2;
    }
    match (at, row) {
        (Some(at), Some(row)) => graph.node("Sub", &[&at, &row]),
        (Some(at), None) => at,
        (None, _) => String::new(),
    }
}

/// The same search.
fn found<T: PartialOrd + Copy>(table: &[T], u: T) -> usize {
    let (mut at, mut step) = (0, table.len().div_ceil(2));
    while step > 0 {
        at += if u >= table[at + step - 1] { step } else { 0 };
        step /= 2;
    }
    at
}

/// For each output but the last: its cell's number plus the shares in the cell up to it.
fn keys(column: &Column) -> Vec<f64> {
    let mut keys = Vec::new();
    for (cell, bounds) in column.starts.windows(2).enumerate() {
        let mut sum = 0.0;
        for (at, output) in (bounds[0]..).zip(&column.outputs[bounds[0]..bounds[1]]) {
            sum += output.share;
            keys.push(cell as f64 + if at + 1 == bounds[1] { 1.0 } else { sum.min(1.0) });
        }
    }
    keys.pop();
    keys.resize(padded(keys.len()), f64::MAX);
    keys
}

/// Each field given those of its clique that come before it.
fn steps(learned: &Learned, label: Option<usize>) -> Result<Vec<Step>> {
    let (model, fields) = (&learned.model, &learned.fields);
    let mut steps = Vec::new();
    for (number, (clique, separator)) in model.tree.cliques.iter().zip(&model.tree.separators).enumerate() {
        let mut before = separator.clone();
        let mut new: Vec<usize> = clique.iter().copied().filter(|var| separator.binary_search(var).is_err()).collect();
        // The label first; else from few cells to many, so that the large table is one only.
        new.sort_by_key(|&var| (Some(fields[var]) != label, var));
        for var in new {
            let set = super::tree::union(&before, &[var]);
            let joint = model.project(number, &set)?;
            let cells = model.cells[var];
            let rows = super::tree::size_of_set(&model.cells, &before);
            let mut table = memory::filled(0.0, rows * cells)?;
            let row = super::tree::places(&model.cells, &set, &before)?;
            let value = super::tree::places(&model.cells, &set, &[var])?;
            let mut whole = vec![0.0; cells];
            for ((p, row), value) in joint.iter().zip(row).zip(value) {
                table[row as usize * cells + value as usize] += p;
                whole[value as usize] += p;
            }
            let length = padded(cells - 1);
            let mut cumulative = memory::filled(2.0, rows * length)?;
            for (row, to) in table.chunks_exact(cells).zip(cumulative.chunks_exact_mut(length.max(1))) {
                // What has no probability may still come up by rounding, and is then drawn as if nothing were known.
                let row = if row.iter().sum::<f64>() > 0.0 { row } else { &whole };
                let sum: f64 = row.iter().sum();
                let mut up_to = 0.0;
                for (to, p) in to.iter_mut().zip(&row[..cells - 1]) {
                    up_to += p / sum;
                    *to = up_to.min(1.0) as f32;
                }
            }
            let mut stride = rows;
            let parents = before.iter().map(|&parent| {
                stride /= model.cells[parent];
                (fields[parent], stride)
            });
            steps.push(Step { field: fields[var], parents: parents.collect(), cells, cumulative });
            before = set;
        }
    }
    Ok(steps)
}

/// A field as it is drawn.
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
    Ok(Box::new(Sampler { fields: fields.iter().map(|field| field.kind).collect(), steps }))
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

    /// The cell of a given value: NULL's where there is none, of a number out of all bins that of the nearest.
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

/// For each row a number from 0 to 1: those of rows of one key are spread evenly, in an order drawn at random.
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

impl Generator for Sampler {
    fn sample(&self, draw: &Draw, _graph: &mut RunGraph) -> Result<Frame> {
        let n = draw.rows;
        let mut cells: Vec<Vec<u16>> = vec![Vec::new(); self.steps.len()];
        let mut columns = vec![Values::Codes(Vec::new()); self.steps.len()];
        for (number, step) in self.steps.iter().enumerate() {
            draw.progress.check()?;
            let seed = mix(draw.seed ^ mix(number as u64));
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
            let u = spread(&rows, seed, COARSE);
            for ((to, &row), &u) in own.iter_mut().zip(&rows).zip(&u) {
                *to = step.cell(row, u as f32) as u16;
            }
            rows.iter_mut().zip(&own).for_each(|(row, &cell)| *row = usize::from(cell));
            let within = spread(&rows, mix(seed), WITHIN);
            let values = own.iter().zip(&within).map(|(&cell, &u)| step.value(usize::from(cell), u));
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

    fn takes(&self, fields: &[usize]) -> bool {
        // What comes first is drawn whatever comes later.
        let first: Vec<usize> = self.steps.iter().take(fields.len()).map(|step| step.field).collect();
        fields.iter().all(|field| first.contains(field))
    }
}
