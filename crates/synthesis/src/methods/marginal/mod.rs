//! The two baselines.
//!
//! | method | rows | keeps | loses |
//! |---|---|---|---|
//! | `bootstrap` | whole rows of the source, drawn with replacement (Efron 1979) | everything | privacy: every row is a copy |
//! | `independent` | the value of each field from a row of its own | the distribution of each field, with NULLs | relations between fields |
//!
//! The values drawn from are stored: of a source with more than `donors` rows, one row from each of that many equal
//! parts. Time to learn and memory: O(donors · fields), 8 bytes a value; O(fields) a row.
//!
//! The graph takes `uniform`, float64 [n, 1] or [n, fields], from [0, 1): row ⌊u · donors⌋ is drawn.

use ndarray::ArrayView2;
use serde_json::{Map, json};

use crate::{Draw, Field, FieldKind, Frame, Generator, Parts, RunGraph, Synthesizer, Task, Values};
use kernels::matrix::{flat, flat_mut};
use onnx::graph::{Axis, GraphBuilder, int_attribute};
use onnx::proto::data_type;
use onnx::stored::{DataWriter, Files};
use runtime::draw;
use runtime::error::{Error, Result};
use runtime::mapped::Mapped;
use runtime::memory;
use runtime::options::Options;
use runtime::parallel::for_each_chunk;
use tabular::NONE;

const DONORS: u64 = 1 << 18;
const CHUNK_ROWS: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marginal {
    Bootstrap,
    Independent,
}

impl Synthesizer for Marginal {
    fn name(&self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::Independent => "independent",
        }
    }

    fn train(&self, task: &Task, options: &mut Options) -> Result<Parts> {
        train(*self, task, options)
    }

    fn open(&self, files: &Files, fields: &[Field]) -> Result<Box<dyn Generator>> {
        open(*self, files, fields)
    }

    fn draws_donors(&self) -> bool {
        true
    }

    fn copies_rows(&self) -> bool {
        *self == Self::Bootstrap
    }
}

impl Marginal {
    /// Number of columns of `uniform`.
    fn draws(self, fields: usize) -> usize {
        match self {
            Self::Bootstrap => 1,
            Self::Independent => fields,
        }
    }
}

fn train(method: Marginal, task: &Task, options: &mut Options) -> Result<Parts> {
    let most = options.integer("donors", DONORS, 1, 10_000_000)? as usize;
    let (rows, d) = (task.rows.rows, task.fields.len());
    if rows == 0 {
        return Err(Error::EmptySource(String::new()));
    }
    let n = rows.min(most);
    let (seed, columns) = (task.seed, &task.rows.columns);
    let mut donors = memory::matrix(n, d, 0f64)?;
    for_each_chunk(
        flat_mut(donors.view_mut()),
        CHUNK_ROWS * d.max(1),
        task.threads,
        task.progress,
        || (),
        |(), chunk, part| {
            for (i, out) in (chunk * CHUNK_ROWS..).zip(part.chunks_exact_mut(d)) {
                let (from, to) = (i * rows / n, (i + 1) * rows / n);
                let row = from + draw::below(seed, i as u64, to - from);
                for (out, values) in out.iter_mut().zip(columns) {
                    *out = match values {
                        Values::Codes(codes) if codes[row] == NONE => -1.0,
                        Values::Codes(codes) => f64::from(codes[row]),
                        Values::Numbers(numbers) => numbers[row],
                    };
                }
            }
            Ok(())
        },
    )?;
    let figures = Map::from_iter([("donors".to_owned(), json!(n))]);
    Ok(Parts { graph: graph(method, donors.view()), data: DataWriter::default(), figures, released: None })
}

fn graph(method: Marginal, donors: ArrayView2<f64>) -> GraphBuilder {
    let (n, d) = donors.dim();
    let mut g = GraphBuilder::new(method.name());
    g.input("uniform", data_type::DOUBLE, &[Axis::Named("n"), Axis::Fixed(method.draws(d))]);
    g.output("rows", data_type::DOUBLE, &[Axis::Named("n"), Axis::Fixed(d)]);
    let donors = g.doubles("donors", &[n, d], flat(donors));
    let count = g.doubles("count", &[], &[n as f64]);
    let last = g.int64s("last", &[], &[n as i64 - 1]);
    let place = g.node("Mul", &["uniform", &count]);
    // Casting cuts the fraction off.
    let place = g.node_with("Cast", &[&place], vec![int_attribute("to", i64::from(data_type::INT64))]);
    let place = g.node("Min", &[&place, &last]);
    match method {
        Marginal::Bootstrap => {
            let axes = g.int64s("axes", &[1], &[1]);
            let place = g.node("Squeeze", &[&place, &axes]);
            g.node_to("Gather", &[&donors, &place], Vec::new(), &["rows"]);
        }
        // Element (i, j) of the result is donors[place(i, j), j].
        Marginal::Independent => g.node_to("GatherElements", &[&donors, &place], Vec::new(), &["rows"]),
    }
    g
}

struct Donors {
    method: Marginal,
    kinds: Vec<FieldKind>,
    /// [n, d]
    values: Mapped<f64>,
    n: usize,
}

fn open(method: Marginal, files: &Files, fields: &[Field]) -> Result<Box<dyn Generator>> {
    let ([n, d], values) = files.initializer::<f64, 2>("donors")?;
    if d != fields.len() || n == 0 {
        return Err(files.damaged(format!("it has {n} rows of {d} values for {} fields", fields.len())));
    }
    Ok(Box::new(Donors { method, kinds: fields.iter().map(|field| field.kind).collect(), values, n }))
}

impl Generator for Donors {
    fn sample(&self, draw: &Draw, _graph: &mut RunGraph) -> Result<Frame> {
        let (d, seed) = (self.kinds.len(), draw.seed);
        let mut rows = memory::matrix(draw.rows, d, 0f64)?;
        let (values, n, method): (&[f64], _, _) = (&self.values, self.n, self.method);
        for_each_chunk(
            flat_mut(rows.view_mut()),
            CHUNK_ROWS * d.max(1),
            draw.threads,
            draw.progress,
            || (),
            |(), chunk, part| {
                for (row, out) in (chunk * CHUNK_ROWS..).zip(part.chunks_exact_mut(d)) {
                    match method {
                        Marginal::Bootstrap => {
                            let place = draw::below(seed, row as u64, n);
                            out.copy_from_slice(&values[place * d..][..d]);
                        }
                        Marginal::Independent => out.iter_mut().enumerate().for_each(|(j, out)| {
                            *out = values[draw::below(seed, (row * d + j) as u64, n) * d + j];
                        }),
                    }
                }
                Ok(())
            },
        )?;
        Frame::of_rows(rows.view(), &self.kinds)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::Value;

    use super::*;
    use runtime::progress::Unwatched;

    const NUMBER: FieldKind = FieldKind::Number { low: 0.0, high: 100.0, step: 1.0 };

    fn made(method: Marginal, columns: Vec<Values>, options: &Value, n: usize) -> Frame {
        let field = |name: &str, kind| Field { name: name.into(), kind, nulls: true, declared: false };
        let fields = [field("a", NUMBER), field("b", FieldKind::Category { count: 9 })];
        let rows = Frame { rows: columns[0].len(), columns };
        let task =
            Task { fields: &fields, rows: &rows, label: None, seed: 3, secret: None, threads: 2, progress: &Unwatched };
        let parts = train(method, &task, &mut Options::new("bootstrap", options).unwrap()).unwrap();
        let (onnx, data) = (Bytes::from(parts.graph.encode().unwrap()), Bytes::from(parts.data.finish().unwrap()));
        let generator = open(method, &Files::open("m", onnx, &data).unwrap(), &fields).unwrap();
        let sample = |threads| {
            let draw = Draw { rows: n, seed: 9, given: &[], threads, progress: &Unwatched };
            generator.sample(&draw, &mut |_, _| Err(Error::Internal("no graph here".into()))).unwrap()
        };
        assert_eq!(format!("{:?}", sample(1)), format!("{:?}", sample(3)));
        sample(1)
    }

    /// The number is ten times the code, NULL goes with NULL.
    fn pairs() -> Vec<Values> {
        let code = |i: u32| if i % 10 == 9 { NONE } else { i % 10 };
        let number = |i: u32| if i % 10 == 9 { f64::NAN } else { f64::from(i % 10) * 10.0 };
        vec![Values::Numbers((0..500).map(number).collect()), Values::Codes((0..500).map(code).collect())]
    }

    fn matching(frame: &Frame) -> usize {
        let (Values::Numbers(numbers), Values::Codes(codes)) = (&frame.columns[0], &frame.columns[1]) else { panic!() };
        let same = |(x, &code): (&f64, &u32)| if code == NONE { x.is_nan() } else { *x == f64::from(code) * 10.0 };
        numbers.iter().zip(codes).filter(|&pair| same(pair)).count()
    }

    #[test]
    fn whole_rows_are_drawn_or_each_value_by_itself() {
        let rows = made(Marginal::Bootstrap, pairs(), &Value::Null, 3000);
        assert_eq!(matching(&rows), 3000);
        let rows = made(Marginal::Independent, pairs(), &Value::Null, 3000);
        assert!((200..400).contains(&matching(&rows)), "{}", matching(&rows));
        for frame in [&rows, &made(Marginal::Bootstrap, pairs(), &Value::Null, 3000)] {
            let nulls = (0..3000).filter(|&row| frame.columns[0].is_null(row)).count();
            assert!((230..370).contains(&nulls), "{nulls}");
        }
    }

    #[test]
    fn of_many_rows_as_many_are_kept_as_the_option_says() {
        let rows = made(Marginal::Bootstrap, pairs(), &json!({"donors": 2}), 100);
        let Values::Codes(codes) = &rows.columns[1] else { panic!() };
        let mut different = codes.clone();
        different.sort_unstable();
        different.dedup();
        assert!(different.len() <= 2 && matching(&rows) == 100);
    }
}
