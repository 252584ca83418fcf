//! Trees in a model's files: nodes in the data file, donors and values as initializers of the graph.

use super::column::{CODES, Coding, Column};
use super::tree::{LEAF, Mask, Node, Tree, walkable};
use crate::{Field, FieldKind};
use onnx::stored::{DataWriter, Files};
use runtime::error::Result;
use runtime::mapped::Mapped;

/// A column, opened for drawing.
pub(super) struct Opened {
    pub field: usize,
    pub category: bool,
    /// A leaf leads to itself.
    pub nodes: Vec<Node>,
    /// [nodes]: first donor and number of donors of a leaf.
    pub leaves: Vec<(u32, u32)>,
    /// Indices in `values`, checked when they are drawn.
    pub donors: Mapped<i32>,
    /// [distinct]: codes of categories, −1 for NULL, or numbers, NaN for NULL.
    pub values: Mapped<f64>,
    /// [distinct]: whether a number is not smoothed; empty if none is.
    pub kept: Mapped<u8>,
    pub coding: Coding,
}

pub(super) fn store(order: &[usize], columns: Vec<Column>, trees: Vec<Tree>) -> DataWriter {
    let mut data = DataWriter::default();
    let fields: Vec<u32> = order.iter().map(|&field| field as u32).collect();
    data.owned("order", &[fields.len()], fields);
    for (place, (column, tree)) in columns.into_iter().zip(trees).enumerate() {
        let nodes: Vec<u32> = tree.nodes.iter().flat_map(|node| [node.predictor, node.next]).collect();
        data.owned(&format!("{place}.nodes"), &[tree.nodes.len(), 2], nodes);
        let masks: Vec<u64> = tree.nodes.iter().flat_map(|node| node.mask).collect();
        data.owned(&format!("{place}.masks"), &[tree.nodes.len(), 4], masks);
        data.owned(&format!("{place}.starts"), &[tree.starts.len()], tree.starts);
        let kept: Vec<u8> = column.kept.iter().map(|&kept| kept.into()).collect();
        data.owned(&format!("{place}.kept"), &[kept.len()], kept);
        let Coding { of_place, of_category, edges } = column.coding;
        data.owned(&format!("{place}.codes"), &[of_place.len()], of_place);
        data.owned(&format!("{place}.categories"), &[of_category.len()], of_category);
        data.owned(&format!("{place}.edges"), &[edges.len()], edges);
    }
    data
}

/// Reads the columns in drawing order. All indices are checked except the donors.
pub(super) fn read(files: &Files, fields: &[Field]) -> Result<Vec<Opened>> {
    let ([length], order) = files.tensor::<u32, 1>("order")?;
    let mut seen = vec![false; fields.len()];
    for &field in order.iter() {
        match seen.get_mut(field as usize) {
            Some(seen) if !*seen => *seen = true,
            _ => return Err(files.damaged("its order names a field twice, or one that it has not")),
        }
    }
    if length != fields.len() {
        return Err(files.damaged(format!("it has {length} fields of {}", fields.len())));
    }
    order.iter().enumerate().map(|(place, &field)| column(files, &fields[field as usize], field, place)).collect()
}

fn column(files: &Files, field: &Field, number: u32, place: usize) -> Result<Opened> {
    let wrong = |what: &str| files.damaged(format!("the {what} of {} contradict themselves", field.name));
    let name = |part: &str| format!("{place}.{part}");
    let ([length, width], nodes) = files.tensor::<u32, 2>(&name("nodes"))?;
    let ([masks_length, masks_width], masks) = files.tensor::<u64, 2>(&name("masks"))?;
    let ([starts_length], starts) = files.tensor::<u32, 1>(&name("starts"))?;
    let ([donors_length], donors) = files.initializer::<i32, 1>(&name("donors"))?;
    let ([distinct], values) = files.initializer::<f64, 1>(&name("values"))?;
    let ([kept_length], kept) = files.tensor::<u8, 1>(&name("kept"))?;
    let ([codes_length], of_place) = files.tensor::<u8, 1>(&name("codes"))?;
    let ([categories], of_category) = files.tensor::<u8, 1>(&name("categories"))?;
    let ([_], edges) = files.tensor::<f64, 1>(&name("edges"))?;
    if length == 0 || width != 2 || (masks_length, masks_width) != (length, 4) {
        return Err(wrong("nodes"));
    }
    let leaves = starts_length.saturating_sub(1);
    let rises = starts.windows(2).all(|pair| pair[0] < pair[1]);
    if leaves == 0 || !rises || starts[0] != 0 || starts[leaves] as usize != donors_length {
        return Err(wrong("leaves"));
    }
    let nodes: Vec<Node> = nodes
        .chunks_exact(2)
        .zip(masks.chunks_exact(4))
        .map(|(node, mask)| Node {
            mask: mask.try_into().unwrap_or(Mask::default()),
            predictor: node[0],
            next: node[1],
        })
        .collect();
    // Children come after their parents: whoever walks arrives.
    let leads = |(at, node): (usize, &Node)| match node.predictor {
        LEAF => (node.next as usize) < leaves,
        predictor => (predictor as usize) < place && (node.next as usize) > at && (node.next as usize) < length - 1,
    };
    if !nodes.iter().enumerate().all(leads) {
        return Err(wrong("nodes"));
    }
    let fits = match field.kind {
        FieldKind::Category { count } => {
            let known = |x: f64| x.fract() == 0.0 && x >= -1.0 && x < count as f64;
            categories == count + 1 && values.iter().all(|&x| known(x))
        }
        FieldKind::Number { .. } => {
            let nulls = usize::from(values.first().is_some_and(|x| x.is_nan()));
            categories == 0 && values[nulls..].iter().all(|x| x.is_finite())
        }
    };
    if distinct == 0 || codes_length != distinct || (kept_length != 0 && kept_length != distinct) || !fits {
        return Err(wrong("values"));
    }
    if edges.len() > CODES - 2 || edges.iter().any(|x| x.is_nan()) || !edges.is_sorted() {
        return Err(wrong("codes"));
    }
    let (nodes, leaves) = walkable(&nodes, &starts);
    let coding = Coding { of_place: of_place.to_vec(), of_category: of_category.to_vec(), edges: edges.to_vec() };
    let category = matches!(field.kind, FieldKind::Category { .. });
    Ok(Opened { field: number as usize, category, nodes, leaves, donors, values, kept, coding })
}
