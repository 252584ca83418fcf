//! The sampler as an ONNX graph: the nodes that compute a field's cells and values from those before it.
//!
//! Searches are unrolled: m steps of Gather and a comparison for 2^m cells, whatever the number of rows in a table.

use super::domain::Column;
use super::select::Learned;
use super::steps::{Step, keys, padded, steps};
use onnx::graph::{Axis, GraphBuilder, int_attribute};
use onnx::proto::data_type;
use onnx::stored::DataWriter;
use runtime::error::Result;

/// Writes the graph and the data file. `label` is drawn first if it is in the tree's first clique.
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

/// Names of values in the graph: each field's cells, and its column of the rows.
struct Nodes {
    cells: Vec<String>,
    /// [fields]: the column.
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

/// Counts how many of the `length` = 2^m − 1 ascending numbers of `table` from `row` on are at most `u`.
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
