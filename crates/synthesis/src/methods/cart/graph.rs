//! The trees as an ONNX graph of standard operators: from `uniforms` float64 [rows, fields], in drawing order, to
//! `rows` float64 [rows, fields]. For the same uniform numbers it gives the same bits as `sample`.
//!
//! Each tree is a loop over its depth. In each step all rows go to their next node: `next` + whether the node's set
//! contains the code of its predictor. A leaf leads to itself.

use std::collections::HashMap;

use super::column::{CHECK_EVERY, CODES, Column, Distinct};
use super::tree::{LEAF, Mask, Tree, holds, neighbour, walkable};
use onnx::graph::{Axis, GraphBuilder, int_attribute};
use onnx::proto::data_type::{BOOL, DOUBLE, INT64};
use runtime::error::Result;
use runtime::memory;
use runtime::progress::Progress;
use tabular::NONE;

pub(super) fn build(
    order: &[usize],
    columns: &[Column],
    trees: &[Tree],
    progress: &dyn Progress,
) -> Result<GraphBuilder> {
    let mut g = GraphBuilder::new("cart");
    let shape = [Axis::Named("n"), Axis::Fixed(columns.len())];
    g.input("uniforms", DOUBLE, &shape);
    g.output("rows", DOUBLE, &shape);
    g.int64s("one", &[1], &[1]);
    g.int64s("codes", &[], &[CODES as i64]);
    g.doubles("half", &[], &[0.5]);
    g.doubles("two", &[], &[2.0]);
    let mut codes: Vec<String> = Vec::new();
    let mut values = vec![String::new(); columns.len()];
    for (place, (column, tree)) in columns.iter().zip(trees).enumerate() {
        progress.check()?;
        let name = |part: &str| format!("{place}.{part}");
        let (at, donors) = leaf(&mut g, place, tree, &codes);
        let donor = g.node("Gather", &[&donors, &at.index]);
        let all = match &column.distinct {
            Distinct::Numbers(numbers) => numbers.clone(),
            Distinct::Codes(codes) => codes.iter().map(|&c| if c == NONE { -1.0 } else { f64::from(c) }).collect(),
        };
        let all = g.doubles(&name("values"), &[all.len()], &all);
        let mut value = g.node("Gather", &[&all, &donor]);
        if !column.kept.is_empty() {
            value = smoothed(&mut g, place, (column, tree), &at, (&all, &value), progress)?;
        }
        if place + 1 < columns.len() {
            let code = if column.kept.is_empty() {
                let of_place: Vec<i64> = column.coding.of_place.iter().map(|&code| code.into()).collect();
                let of_place = g.int64s(&name("codes"), &[of_place.len()], &of_place);
                g.node("Gather", &[&of_place, &donor])
            } else {
                code_of_number(&mut g, &name("edges"), &column.coding.edges, &value)
            };
            codes.push(g.node("Unsqueeze", &[&code, "one"]));
        }
        values[order[place]] = g.node("Unsqueeze", &[&value, "one"]);
    }
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    g.node_to("Concat", &values, vec![int_attribute("axis", 1)], &["rows"]);
    Ok(g)
}

/// The drawn donors: their indices in `donors`, u·c, and its floor.
struct At {
    index: String,
    exact: String,
    floor: String,
}

/// Walks the tree and draws a donor of the leaf. Also returns the name of the donors.
fn leaf(g: &mut GraphBuilder, place: usize, tree: &Tree, codes: &[String]) -> (At, String) {
    let name = |part: &str| format!("{place}.{part}");
    let donors = g.int32s(&name("donors"), &[tree.donors.len()], bytemuck::cast_slice(&tree.donors));
    let column = g.int64s(&name("column"), &[], &[place as i64]);
    let uniform = g.node_with("Gather", &["uniforms", &column], vec![int_attribute("axis", 1)]);
    let (nodes, leaves) = walkable(&tree.nodes, &tree.starts);
    let (first, count): (Vec<i64>, Vec<f64>) =
        leaves.iter().map(|&(first, count)| (i64::from(first), f64::from(count))).unzip();
    let first = g.int64s(&name("first"), &[first.len()], &first);
    let count = g.doubles(&name("count"), &[count.len()], &count);
    // The root for every row: a uniform number is below 1.
    let below = g.node("Floor", &[&uniform]);
    let mut node = g.node_with("Cast", &[&below], vec![int_attribute("to", INT64.into())]);
    if nodes.len() > 1 {
        let mut masks: Vec<Mask> = Vec::new();
        let mut known: HashMap<Mask, i64> = HashMap::new();
        let mut of_node = |mask: &Mask| {
            *known.entry(*mask).or_insert_with(|| {
                masks.push(*mask);
                masks.len() as i64 - 1
            })
        };
        let mask: Vec<i64> = nodes.iter().map(|node| of_node(&node.mask)).collect();
        let bits: Vec<u8> =
            masks.iter().flat_map(|mask| (0..=u8::MAX).map(move |code| holds(mask, code).into())).collect();
        let predictor: Vec<i64> = nodes.iter().map(|node| node.predictor.into()).collect();
        let next: Vec<i64> = nodes.iter().map(|node| node.next.into()).collect();
        let mask = g.int64s(&name("mask"), &[mask.len()], &mask);
        let bits = g.bytes(&name("bits"), &[bits.len()], &bits);
        let predictor = g.int64s(&name("predictor"), &[predictor.len()], &predictor);
        let next = g.int64s(&name("next"), &[next.len()], &next);
        let steps = g.int64s(&name("steps"), &[], &[depth(tree)]);
        let codes: Vec<&str> = codes.iter().map(String::as_str).collect();
        let codes = g.node_with("Concat", &codes, vec![int_attribute("axis", 1)]);
        let mut step = g.subgraph(&name("step"));
        let (number, goes_on, here) = (name("number"), name("goes_on"), name("here"));
        step.input(&number, INT64, &[]);
        step.input(&goes_on, BOOL, &[]);
        step.input(&here, INT64, &[Axis::Named("n")]);
        let of = step.node("Gather", &[&predictor, &here]);
        let of = step.node("Unsqueeze", &[&of, "one"]);
        let code = step.node_with("GatherElements", &[&codes, &of], vec![int_attribute("axis", 1)]);
        let code = step.node("Squeeze", &[&code, "one"]);
        let set = step.node("Gather", &[&mask, &here]);
        let set = step.node("Mul", &[&set, "codes"]);
        let bit = step.node("Add", &[&set, &code]);
        let bit = step.node("Gather", &[&bits, &bit]);
        let bit = step.node_with("Cast", &[&bit], vec![int_attribute("to", INT64.into())]);
        let left = step.node("Gather", &[&next, &here]);
        let arrived = step.node("Add", &[&left, &bit]);
        let goes_on = step.node("Identity", &[&goes_on]);
        step.output(&goes_on, BOOL, &[]);
        step.output(&arrived, INT64, &[Axis::Named("n")]);
        node = g.node_with("Loop", &[&steps, "", &node], vec![step.into_attribute("body")]);
    }
    let (first, count) = (g.node("Gather", &[&first, &node]), g.node("Gather", &[&count, &node]));
    let exact = g.node("Mul", &[&uniform, &count]);
    let floor = g.node("Floor", &[&exact]);
    let j = g.node_with("Cast", &[&floor], vec![int_attribute("to", INT64.into())]);
    let index = g.node("Add", &[&first, &j]);
    (At { index, exact, floor }, donors)
}

/// Moves numbers towards a neighbour, whose index is stored for each donor: its own if the number stays.
fn smoothed(
    g: &mut GraphBuilder,
    place: usize,
    (column, tree): (&Column, &Tree),
    at: &At,
    (all, value): (&str, &str),
    progress: &dyn Progress,
) -> Result<String> {
    let name = |part: &str| format!("{place}.{part}");
    let mut others = [Vec::new(), Vec::new()];
    for others in &mut others {
        memory::reserve(others, tree.donors.len())?;
    }
    for leaf in tree.starts.windows(2) {
        let donors = &tree.donors[leaf[0] as usize..leaf[1] as usize];
        for (j, &donor) in donors.iter().enumerate() {
            if others[0].len() % CHECK_EVERY == 0 {
                progress.check()?;
            }
            for (others, back) in others.iter_mut().zip([true, false]) {
                let other = if column.kept[donor as usize] { None } else { neighbour(donors, j, back) };
                others.push(other.filter(|&other| !column.kept[other as usize]).unwrap_or(donor) as i32);
            }
        }
    }
    let below = g.int32s(&name("below"), &[others[0].len()], &others[0]);
    let above = g.int32s(&name("above"), &[others[1].len()], &others[1]);
    let (below, above) = (g.node("Gather", &[&below, &at.index]), g.node("Gather", &[&above, &at.index]));
    let fraction = g.node("Sub", &[&at.exact, &at.floor]);
    let toward = g.node("Sub", &[&fraction, "half"]);
    let back = g.node("Less", &[&fraction, "half"]);
    let other = g.node("Where", &[&back, &below, &above]);
    let other = g.node("Gather", &[all, &other]);
    let share = g.node("Abs", &[&toward]);
    let (from, to) = (g.node("Mul", &[value, "half"]), g.node("Mul", &[&other, "half"]));
    let way = g.node("Sub", &[&to, &from]);
    let way = g.node("Mul", &[&way, &share]);
    let moved = g.node("Add", &[&from, &way]);
    Ok(g.node("Mul", &[&moved, "two"]))
}

/// The code of a number: 0 for NULL, else 1 + the number of edges below.
fn code_of_number(g: &mut GraphBuilder, name: &str, edges: &[f64], value: &str) -> String {
    let to = || vec![int_attribute("to", INT64.into())];
    let is = g.node("Equal", &[value, value]);
    let is = g.node_with("Cast", &[&is], to());
    let edges = g.doubles(name, &[1, edges.len()], edges);
    let value = g.node("Unsqueeze", &[value, "one"]);
    let below = g.node("Less", &[&edges, &value]);
    let below = g.node_with("Cast", &[&below], to());
    let below = g.node_with("ReduceSum", &[&below, "one"], vec![int_attribute("keepdims", 0)]);
    g.node("Add", &[&is, &below])
}

/// Depth of the deepest leaf.
fn depth(tree: &Tree) -> i64 {
    let mut depths = vec![0; tree.nodes.len()];
    for (at, node) in tree.nodes.iter().enumerate().filter(|(_, node)| node.predictor != LEAF) {
        depths[node.next as usize] = depths[at] + 1;
        depths[node.next as usize + 1] = depths[at] + 1;
    }
    depths.into_iter().max().unwrap_or(0)
}
