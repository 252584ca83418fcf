//! The sampler as an ONNX graph.
//!
//! z = ε Lᵀ; the cell of each z is found by binary search over all fields at once: a step of 2ᵏ cells is taken if the
//! cell it leads to begins at or below z. Each cell holds its start, the inverse of its length (0 if it has one value),
//! and halves of its lowest value and of its range; halves avoid overflow.

use ndarray::ArrayView2;

use super::margin::Margin;
use onnx::graph::{Axis, GraphBuilder, int_attribute};
use onnx::proto::data_type;

/// `factor` is L.
pub fn graph(margins: &[Margin], factor: ArrayView2<f64>) -> GraphBuilder {
    let d = factor.nrows();
    let (mut starts, mut slopes, mut bases, mut spans) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for margin in margins {
        first.push(starts.len() as i64);
        for (i, cell) in margin.cells.iter().enumerate() {
            let (start, end) = margin.span(i);
            let wide = cell.high > cell.low && end > start;
            starts.push(start);
            slopes.push(if wide { 1.0 / (end - start) } else { 0.0 });
            bases.push(0.5 * cell.low);
            spans.push(if wide { 0.5 * cell.high - 0.5 * cell.low } else { 0.0 });
        }
        last.push(starts.len() as i64 - 1);
    }
    let most = margins.iter().map(|margin| margin.cells.len()).max().unwrap_or(1);
    let transposed: Vec<f64> = factor.t().iter().copied().collect();

    let mut g = GraphBuilder::new("gaussian_copula");
    let shape = [Axis::Named("n"), Axis::Fixed(d)];
    g.input("normal", data_type::DOUBLE, &shape);
    g.output("rows", data_type::DOUBLE, &shape);
    let factor = g.doubles("factor", &[d, d], &transposed);
    let first = g.int64s("first", &[d], &first);
    let last = g.int64s("last", &[d], &last);
    let mut table = |name: &str, values: &[f64]| g.doubles(name, &[values.len()], values);
    let (starts, slopes) = (table("starts", &starts), table("slopes", &slopes));
    let (bases, spans) = (table("bases", &bases), table("spans", &spans));
    let (zero, one, two) =
        (g.doubles("zero", &[], &[0.0]), g.doubles("one", &[], &[1.0]), g.doubles("two", &[], &[2.0]));

    let z = g.node("MatMul", &["normal", &factor]);
    let never = g.node("Less", &[&z, &z]);
    let nothing = g.node_with("Cast", &[&never], vec![int_attribute("to", i64::from(data_type::INT64))]);
    let mut cell = g.node("Add", &[&nothing, &first]);
    let mut step = most.next_power_of_two();
    while step > 1 {
        step /= 2;
        let size = g.int64s(&format!("step{step}"), &[], &[step as i64]);
        let next = g.node("Add", &[&cell, &size]);
        let next = g.node("Min", &[&next, &last]);
        let start = g.node("Gather", &[&starts, &next]);
        let reached = g.node("GreaterOrEqual", &[&z, &start]);
        // The first cell begins at −∞, whatever its entry says.
        cell = g.node("Where", &[&reached, &next, &cell]);
    }
    let start = g.node("Gather", &[&starts, &cell]);
    let slope = g.node("Gather", &[&slopes, &cell]);
    let beyond = g.node("Sub", &[&z, &start]);
    let t = g.node("Mul", &[&beyond, &slope]);
    let t = g.node("Max", &[&t, &zero]);
    let t = g.node("Min", &[&t, &one]);
    let base = g.node("Gather", &[&bases, &cell]);
    let span = g.node("Gather", &[&spans, &cell]);
    let along = g.node("Mul", &[&t, &span]);
    let half = g.node("Add", &[&base, &along]);
    g.node_to("Mul", &[&half, &two], Vec::new(), &["rows"]);
    g
}
