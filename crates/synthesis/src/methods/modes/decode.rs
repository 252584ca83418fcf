//! The end of a graph, from the last hidden layer to rows, and from the graph's output to a frame.
//!
//! A class is drawn from the softmax of its head's outputs by inverting the cumulative distribution: the class for `u`
//! is the number of classes whose cumulative sum is at most `u` times the total. Heads are processed in groups of about
//! 64 columns; sums over heads are products with 0–1 matrices, one call for all of them. The maximum is not subtracted
//! first: outputs are clipped to ±60, where exponentials and their sums are far from the limits of f32.

use std::ops::Range;

use ndarray::{Array2, ArrayView2};

use super::{Class, Encoding};
use crate::{Draw, Field, FieldKind, Frame, RunGraph, Values};
use kernels::matrix::flat;
use neural::elementary::{fill_normal, fill_uniform};
use onnx::graph::{Axis, GraphBuilder, int_attribute};
use onnx::proto::{AttributeProto, data_type};
use onnx::stored::{DataWriter, Files};
use onnx::tensor::Tensor;
use runtime::draw::{below, mix};
use runtime::error::{Error, Result};
use runtime::memory;
use tabular::NONE;

/// Columns of a group of heads, whose outputs are computed together.
const GROUP: usize = 64;
const WIDE: usize = 512;
/// Outputs are clipped to this: `60 + ln 257 < 88`, the limit of exp in f32.
pub const MAX_OUTPUT: f32 = 60.0;
/// Output of the graph for [`Class::Others`](super::Class::Others), whose code is drawn afterwards. It is neither a
/// code nor NULL.
const OTHERS: f64 = -2.0;
/// Rows of one run of a graph: their intermediate values, some kilobytes each, stay in the cache.
const TILE: usize = 2048;

/// The random inputs of a graph.
pub struct Noise<'a> {
    /// The input [n, numbers] of standard normal numbers, and the deviation of each column; `None` if numbers within
    /// modes have no noise.
    pub within: Option<(&'a str, &'a [f32])>,
    /// The input [n, heads] of uniform numbers.
    pub uniform: &'a str,
}

fn axis(value: i64) -> Vec<AttributeProto> {
    vec![int_attribute("axis", value)]
}

/// Splits a value into parts with these numbers of columns.
fn split(g: &mut GraphBuilder, value: &str, columns: impl Iterator<Item = usize>) -> Vec<String> {
    let sizes: Vec<i64> = columns.map(|n| n as i64).collect();
    if sizes.len() == 1 {
        return vec![value.to_owned()];
    }
    let names: Vec<String> = (0..sizes.len()).map(|i| format!("{value}_{i}")).collect();
    let sizes = g.int64s(&format!("{value}_columns"), &[sizes.len()], &sizes);
    g.node_to("Split", &[value, &sizes], axis(1), &names.iter().map(String::as_str).collect::<Vec<_>>());
    names
}

/// Adds the end of a graph and its output `rows`. `outputs` adds the last layer for some of its columns and returns the
/// name of the result; the columns are the classes of all heads, then the numbers within modes.
pub fn decode_graph(
    g: &mut GraphBuilder,
    encoding: &Encoding,
    noise: &Noise,
    mut outputs: impl FnMut(&mut GraphBuilder, Range<usize>) -> String,
) {
    let heads = &encoding.heads;
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (at, head) in heads.iter().enumerate() {
        match groups.last_mut() {
            Some(group) if head.first + head.classes.len() - heads[group.start].first <= GROUP => group.end = at + 1,
            _ => groups.push(at..at + 1),
        }
    }
    let (least, most) = (g.float("least_output", -MAX_OUTPUT), g.float("greatest_output", MAX_OUTPUT));
    let uniforms = split(g, noise.uniform, groups.iter().map(Range::len));
    // What the last layer gives, for several groups at once.
    let end = |group: &Range<usize>| heads[group.end - 1].first + heads[group.end - 1].classes.len();
    let mut logits: Vec<String> = Vec::new();
    while let [first, ..] = &groups[logits.len()..] {
        let start = heads[first.start].first;
        let rest = groups[logits.len()..].iter();
        let wide: Vec<&Range<usize>> = rest.take_while(|group| *group == first || end(group) - start <= WIDE).collect();
        let columns = start..wide.last().map_or(start, |group| end(group));
        let made = outputs(g, columns);
        logits.extend(split(g, &made, wide.iter().map(|group| end(group) - heads[group.start].first)));
    }
    let mut indices = Vec::new();
    for (number, ((group, uniform), logits)) in groups.iter().zip(&uniforms).zip(&logits).enumerate() {
        let start = heads[group.start].first;
        let columns = end(group) - start;
        let n = group.len();
        // Which columns come no later in the same head; which head a column is of; which columns are not the last of
        // theirs.
        let (mut until, mut of) = (Array2::zeros((columns, columns)), Array2::zeros((columns, n)));
        let (mut spread, mut counted) = (Array2::zeros((n, columns)), Array2::zeros((columns, n)));
        for (h, head) in heads[group.clone()].iter().enumerate() {
            let (first, k) = (head.first - start, head.classes.len());
            for c in 0..k {
                (c..k).for_each(|later| until[[first + c, first + later]] = 1.0);
                of[[first + c, h]] = 1.0;
                spread[[h, first + c]] = 1.0;
                counted[[first + c, h]] = f32::from(c + 1 < k);
            }
        }
        let mut matrix = |what: &str, matrix: Array2<f32>| {
            g.floats(&format!("{what}_{number}"), matrix.shape(), flat(matrix.view()))
        };
        let (until, of) = (matrix("until", until), matrix("of", of));
        let (spread, counted) = (matrix("spread", spread), matrix("counted", counted));
        let logits = g.node("Clip", &[logits, &least, &most]);
        let shares = g.node("Exp", &[&logits]);
        let cumulative = g.node("MatMul", &[&shares, &until]);
        let total = g.node("MatMul", &[&shares, &of]);
        let wanted = g.node("Mul", &[&total, uniform]);
        let wanted = g.node("MatMul", &[&wanted, &spread]);
        let passed = g.node("LessOrEqual", &[&cumulative, &wanted]);
        let passed = g.node_with("Cast", &[&passed], vec![int_attribute("to", data_type::FLOAT.into())]);
        indices.push(g.node("MatMul", &[&passed, &counted]));
    }
    let index = match &indices[..] {
        [one] => one.clone(),
        all => g.node_with("Concat", &all.iter().map(String::as_str).collect::<Vec<_>>(), axis(1)),
    };
    let firsts: Vec<f32> = heads.iter().map(|head| head.first as f32).collect();
    let firsts = g.floats("first_classes", &[heads.len()], &firsts);
    let class = g.node("Add", &[&index, &firsts]);
    let to_index = || vec![int_attribute("to", data_type::INT32.into())];
    let place = g.node_with("Cast", &[&class], to_index());
    let table = |value: &dyn Fn(&Class) -> f64| -> Vec<f64> {
        heads.iter().flat_map(|head| &head.classes).map(value).collect()
    };
    // Numbers are NaN for NULL, codes −1.
    let mut values = table(&|class| match *class {
        Class::Null => f64::NAN,
        Class::Code(code) => f64::from(code),
        Class::Others => OTHERS,
        Class::Value(x) => x,
        Class::Mode { mean, .. } => mean,
    });
    for head in heads.iter().filter(|head| head.category) {
        values[head.first..][..head.classes.len()].iter_mut().filter(|x| x.is_nan()).for_each(|x| *x = -1.0);
    }
    let values = g.doubles("class_values", &[values.len()], &values);
    let rows = [Axis::Named("n"), Axis::Fixed(heads.len())];
    if encoding.numbers == 0 {
        g.node_to("Gather", &[&values, &place], Vec::new(), &["rows"]);
        g.output("rows", data_type::DOUBLE, &rows);
        return;
    }
    let base = g.node("Gather", &[&values, &place]);
    let scales = table(&|class| match *class {
        Class::Mode { deviation, .. } => 4.0 * deviation,
        _ => 0.0,
    });
    let scales = g.doubles("class_scales", &[scales.len()], &scales);
    let scale = g.node("Gather", &[&scales, &place]);
    let within = outputs(g, encoding.columns..encoding.columns + encoding.numbers);
    let mut within = g.node("Tanh", &[&within]);
    // The heads with modes are columns of their own first. Products of doubles would take ten times as long.
    let (mut which, mut back) =
        (vec![0f32; heads.len() * encoding.numbers], vec![0f32; heads.len() * encoding.numbers]);
    for (h, number) in heads.iter().enumerate().filter_map(|(h, head)| Some((h, head.number?))) {
        which[h * encoding.numbers + number] = 1.0;
        back[number * heads.len() + h] = 1.0;
    }
    if let Some((normal, deviations)) = noise.within {
        let which = g.floats("heads_with_modes", &[heads.len(), encoding.numbers], &which);
        let class = g.node("MatMul", &[&class, &which]);
        let place = g.node_with("Cast", &[&class], to_index());
        let deviations = g.floats("class_deviations", &[deviations.len()], deviations);
        let deviation = g.node("Gather", &[&deviations, &place]);
        let stray = g.node("Mul", &[&deviation, normal]);
        within = g.node("Add", &[&within, &stray]);
        let (low, high) = (g.float("least_number", -1.0), g.float("greatest_number", 1.0));
        within = g.node("Clip", &[&within, &low, &high]);
    }
    let back = g.floats("modes_to_heads", &[encoding.numbers, heads.len()], &back);
    let within = g.node("MatMul", &[&within, &back]);
    let within = g.node_with("Cast", &[&within], vec![int_attribute("to", data_type::DOUBLE.into())]);
    let within = g.node("Mul", &[&within, &scale]);
    g.node_to("Add", &[&base, &within], Vec::new(), &["rows"]);
    g.output("rows", data_type::DOUBLE, &rows);
}

/// What drawing needs besides the graph.
pub struct Decoder {
    fields: Vec<FieldKind>,
    pub numbers: usize,
    /// As in [`Encoding`].
    others: Vec<(usize, Vec<u32>, Vec<u64>)>,
}

impl Encoding {
    /// Writes what [`Decoder::open`] reads.
    pub fn write(&self, data: &mut DataWriter) {
        data.tensor("modes.sizes", &[2], [self.heads.len() as u64, self.numbers as u64]);
        let fields: Vec<u32> = self.others.iter().map(|(field, ..)| *field as u32).collect();
        data.tensor("modes.others", &[fields.len()], &fields);
        for (field, codes, cumulative) in &self.others {
            data.tensor(&format!("modes.others.{field}.codes"), &[codes.len()], codes);
            data.tensor(&format!("modes.others.{field}.rows"), &[cumulative.len()], cumulative);
        }
    }
}

impl Decoder {
    pub fn open(files: &Files, fields: &[Field]) -> Result<Self> {
        let ([_], sizes) = files.tensor::<u64, 1>("modes.sizes")?;
        let [heads, numbers] = sizes[..] else { return Err(files.damaged("modes.sizes are not two")) };
        if heads != fields.len() as u64 || numbers > heads {
            return Err(files.damaged("modes.sizes contradict the fields"));
        }
        let ([_], with) = files.tensor::<u32, 1>("modes.others")?;
        let mut others = Vec::new();
        for &field in with.iter() {
            let ([a], codes) = files.tensor::<u32, 1>(&format!("modes.others.{field}.codes"))?;
            let ([b], cumulative) = files.tensor::<u64, 1>(&format!("modes.others.{field}.rows"))?;
            let count = match fields.get(field as usize).map(|field| field.kind) {
                Some(FieldKind::Category { count }) => count,
                _ => 0,
            };
            let rising = cumulative.windows(2).all(|pair| pair[0] < pair[1]);
            if a != b || a == 0 || !rising || cumulative[0] == 0 || codes.iter().any(|&code| code as usize >= count) {
                return Err(files.damaged(format!("the other codes of field {field} contradict themselves")));
            }
            others.push((field as usize, codes.to_vec(), cumulative.to_vec()));
        }
        Ok(Self { fields: fields.iter().map(|field| field.kind).collect(), numbers: numbers as usize, others })
    }

    /// Draws rows from a graph with the inputs `noise` [n, `width`], standard normal, and `uniform` [n, heads]. `more`
    /// gives further inputs for a range of rows.
    pub fn sample(
        &self,
        draw: &Draw,
        graph: &mut RunGraph,
        width: usize,
        more: impl Fn(Range<usize>) -> Result<Vec<(&'static str, Tensor)>>,
    ) -> Result<Frame> {
        let heads = self.fields.len();
        let mut values = Vec::new();
        memory::reserve(&mut values, draw.rows * heads)?;
        for start in (0..draw.rows).step_by(TILE) {
            let rows = start..draw.rows.min(start + TILE);
            let filled = |width: usize, stream: u64, fill: fn(u64, &mut [f32])| {
                let mut numbers = memory::zeros(rows.len() * width)?;
                fill(mix(mix(draw.seed ^ mix(stream)) ^ start as u64), &mut numbers);
                Ok::<_, Error>(memory::shaped(rows.len(), width, numbers)?.into())
            };
            let mut inputs =
                vec![("noise", filled(width, 1, fill_normal)?), ("uniform", filled(heads, 2, fill_uniform)?)];
            inputs.extend(more(rows.clone())?);
            match graph(inputs, &["rows"])?.into_iter().next() {
                Some(Tensor::F64(made)) if made.shape() == [rows.len(), heads] => values.extend(made),
                _ => return Err(Error::Internal("the graph of a synthesizer gave no rows".into())),
            }
        }
        self.frame(draw, memory::shaped(draw.rows, heads, values)?.view())
    }

    /// The frame of the output `rows` [n, heads] of a graph.
    fn frame(&self, draw: &Draw, values: ArrayView2<f64>) -> Result<Frame> {
        draw.progress.check()?;
        let mut columns = Vec::new();
        for (field, kind) in self.fields.iter().enumerate() {
            let all = values.column(field);
            let FieldKind::Category { count } = *kind else {
                let mut numbers = Vec::new();
                memory::reserve(&mut numbers, draw.rows)?;
                numbers.extend(&all);
                columns.push(Values::Numbers(numbers));
                continue;
            };
            let others = self.others.iter().find(|(of, ..)| *of == field);
            let seed = mix(draw.seed ^ mix(3 + field as u64));
            let code = |(row, &x): (usize, &f64)| match (x, others) {
                (OTHERS, Some((_, codes, cumulative))) => {
                    let total = cumulative.last().copied().unwrap_or(1);
                    let at = below(seed, row as u64, total as usize) as u64;
                    codes[cumulative.partition_point(|&sum| sum <= at)]
                }
                (x, _) if x >= 0.0 && x < count as f64 => x as u32,
                _ => NONE,
            };
            let mut codes = Vec::new();
            memory::reserve(&mut codes, draw.rows)?;
            codes.extend(all.iter().enumerate().map(code));
            columns.push(Values::Codes(codes));
        }
        Ok(Frame { rows: draw.rows, columns })
    }
}
