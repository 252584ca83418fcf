//! A ranking as an ONNX graph, and the file of a learned one.

use bytes::Bytes;

use super::fusion::{Fusion, RRF};
use onnx::graph::{
    Axis, GraphBuilder, floats_attribute as floats, int_attribute as int, ints_attribute as ints,
    strings_attribute as strings,
};
use onnx::proto::data_type;
use onnx::stored::{DataWriter, Files};
use runtime::error::{Error, Result};
use tabular::trees::{Ensemble, LEAF};

/// The operators of trees.
const TREES: (&str, i64) = ("ai.onnx.ml", 3);

/// `scores` [rows] of the rows that the legs have found: from their ranks among these in the order of both scores, from 1, 0 where no word
/// matches; from their `lexical` scores and `cosine`s; or, learned, from their `features`. Higher is better.
pub fn graph(fusion: Fusion, ranker: Option<&Ensemble>) -> Result<Vec<u8>> {
    let mut g = GraphBuilder::new("search");
    let rows = Axis::Named("rows");
    match (fusion, ranker) {
        (Fusion::Learned, Some(ranker)) => trees(&mut g, ranker),
        (Fusion::Weighted(share), _) => {
            g.input("lexical", data_type::FLOAT, &[rows]);
            g.input("cosine", data_type::FLOAT, &[rows]);
            let greatest = g.node("ReduceMax", &["lexical"]);
            // Where no word matches all are 0.
            let least = g.float("least", f32::MIN_POSITIVE);
            let greatest = g.node("Max", &[&greatest, &least]);
            let lexical = g.node("Div", &["lexical", &greatest]);
            let (share, rest) = (g.float("share", share), g.float("rest", 1.0 - share));
            let lexical = g.node("Mul", &[&lexical, &share]);
            let cosine = g.node("Mul", &["cosine", &rest]);
            g.node_to("Add", &[&lexical, &cosine], Vec::new(), &["scores"]);
        }
        (Fusion::ReciprocalRanks | Fusion::Learned, _) => {
            let (constant, none) = (g.float("constant", RRF), g.float("none", 0.0));
            let legs = ["lexical_rank", "cosine_rank"].map(|leg| {
                g.input(leg, data_type::FLOAT, &[rows]);
                let place = g.node("Add", &[leg, &constant]);
                let part = g.node("Reciprocal", &[&place]);
                let is_listed = g.node("Greater", &[leg, &none]);
                g.node("Where", &[&is_listed, &part, &none])
            });
            g.node_to("Add", &[&legs[0], &legs[1]], Vec::new(), &["scores"]);
        }
    }
    g.output("scores", data_type::FLOAT, &[rows]);
    g.encode()
}

fn trees(g: &mut GraphBuilder, ranker: &Ensemble) {
    let width = ranker.columns.iter().filter(|&&column| column != LEAF).max().map_or(1, |&column| column as usize + 1);
    let width = width.max(ranker.linear.len());
    g.input("features", data_type::FLOAT, &[Axis::Named("rows"), Axis::Fixed(width)]);
    // What the trees add to.
    let mut weights = ranker.linear.clone();
    weights.resize(width, 0.0);
    let weights = g.floats("linear", &[width], &weights);
    if ranker.roots.is_empty() {
        return g.node_to("MatMul", &["features", &weights], Vec::new(), &["scores"]);
    }
    let linear = g.node("MatMul", &["features", &weights]);
    let nodes = ranker.columns.len();
    // A tree ends where the next one begins.
    let tree_of = |node: usize| ranker.roots.partition_point(|&root| root as usize <= node) as i64 - 1;
    let number_of = |node: usize| node as i64 - i64::from(ranker.roots[tree_of(node).max(0) as usize]);
    let leaves: Vec<usize> = (0..nodes).filter(|&node| ranker.columns[node] == LEAF).collect();
    let is_leaf = |node: usize| ranker.columns[node] == LEAF;
    let of_nodes = |value: &dyn Fn(usize) -> i64| (0..nodes).map(value).collect::<Vec<i64>>();
    let child = |node: usize, more: usize| if is_leaf(node) { 0 } else { number_of(ranker.left[node] as usize + more) };
    let modes: Vec<&str> = (0..nodes).map(|node| if is_leaf(node) { "LEAF" } else { "BRANCH_LEQ" }).collect();
    let values: Vec<f32> = (0..nodes).map(|node| if is_leaf(node) { 0.0 } else { ranker.numbers[node] }).collect();
    let features = of_nodes(&|node| if is_leaf(node) { 0 } else { i64::from(ranker.columns[node]) });
    let weights: Vec<f32> = leaves.iter().map(|&node| ranker.numbers[node]).collect();
    let attributes = vec![
        int("n_targets", 1),
        floats("base_values", &[ranker.base]),
        ints("nodes_treeids", &of_nodes(&tree_of)),
        ints("nodes_nodeids", &of_nodes(&number_of)),
        ints("nodes_featureids", &features),
        strings("nodes_modes", &modes),
        floats("nodes_values", &values),
        ints("nodes_truenodeids", &of_nodes(&|node| child(node, 0))),
        ints("nodes_falsenodeids", &of_nodes(&|node| child(node, 1))),
        ints("target_treeids", &leaves.iter().map(|&node| tree_of(node)).collect::<Vec<_>>()),
        ints("target_nodeids", &leaves.iter().map(|&node| number_of(node)).collect::<Vec<_>>()),
        ints("target_ids", &vec![0; leaves.len()]),
        floats("target_weights", &weights),
    ];
    g.node_in(TREES, "TreeEnsembleRegressor", &["features"], attributes, &["column"]);
    let flat = g.int64s("flat", &[1], &[-1]);
    let of_trees = g.node("Reshape", &["column", &flat]);
    g.node_to("Add", &[&linear, &of_trees], Vec::new(), &["scores"]);
}

/// The file of a learned ranking.
pub fn packed(ranker: &Ensemble) -> Result<Vec<u8>> {
    let mut data = DataWriter::default();
    data.tensor("roots", &[ranker.roots.len()], &ranker.roots);
    data.tensor("columns", &[ranker.columns.len()], &ranker.columns);
    data.tensor("left", &[ranker.left.len()], &ranker.left);
    data.tensor("numbers", &[ranker.numbers.len()], &ranker.numbers);
    data.tensor("base", &[1], [ranker.base]);
    data.tensor("linear", &[ranker.linear.len()], &ranker.linear);
    data.finish()
}

/// Reads what [`packed`] wrote. `name` is for messages.
pub fn read(name: &str, bytes: Bytes) -> Result<Ensemble> {
    let files = Files::open(name, Bytes::new(), &bytes)?;
    let ([_], roots) = files.tensor::<u32, 1>("roots")?;
    let ([_], columns) = files.tensor::<u32, 1>("columns")?;
    let ([_], left) = files.tensor::<u32, 1>("left")?;
    let ([_], numbers) = files.tensor::<f32, 1>("numbers")?;
    let ([_], base) = files.tensor::<f32, 1>("base")?;
    let ([_], linear) = files.tensor::<f32, 1>("linear")?;
    let ensemble = Ensemble {
        roots: roots.to_vec(),
        columns: columns.to_vec(),
        left: left.to_vec(),
        numbers: numbers.to_vec(),
        base: base.first().copied().unwrap_or(0.0),
        linear: linear.to_vec(),
    };
    // Every node belongs to a tree.
    let is_rooted = ensemble.roots.first() == ensemble.columns.first().map(|_| &0);
    if !ensemble.is_sound() || !ensemble.roots.is_sorted() || !is_rooted {
        return Err(Error::DamagedModel {
            model: name.into(),
            reason: "the trees of its ranking are inconsistent".into(),
        });
    }
    Ok(ensemble)
}
