//! A predictor as an ONNX graph, from the columns of a row to the prediction.
//!
//! Each column of the source is an input of its name, [rows]: a number, or a time as days since 2000-01-01, is a `double`, NaN for NULL; a
//! category is a `string`, with a `bool` input `<column>.is_null` where the source had NULL; a vector is a `float` [rows, d], NaN for NULL; of a
//! text, which no operator hashes, the input is its features, `float` [rows, `text_dimensions`]. The outputs are `probabilities` [rows, classes], or
//! `prediction` [rows].

use std::f64::consts::TAU;

use crate::calibration::Calibration;
use crate::outcome::Outcome;
use onnx::graph::{
    Axis, GraphBuilder, floats_attribute as floats, int_attribute as int, ints_attribute as ints,
    strings_attribute as strings,
};
use onnx::proto::data_type;
use runtime::error::{Error, Result};
use tabular::trees::{Binning, Scorer, Step};
use tabular::{Encoder, MAX_DEVIATIONS, Rule};

/// The operators of trees and labels.
const ML: (&str, i64) = ("ai.onnx.ml", 3);

pub fn of(
    encoder: &Encoder,
    binning: &Binning,
    scorer: &Scorer,
    outcome: &Outcome,
    calibration: &Calibration,
) -> Result<GraphBuilder> {
    let mut g = GraphBuilder::new("predictor");
    let columns = encoder.rules().flat_map(|(name, _, rule, null)| features(&mut g, name, &rule, null.is_some()));
    let columns: Vec<String> = columns.collect();
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let features = g.node_with("Concat", &columns, vec![int("axis", 1)]);
    let scores = trees(&mut g, &features, scorer, binning)?;
    let rows = Axis::Named("rows");
    match outcome {
        Outcome::Number => {
            let unit = g.float("unit", scorer.unit());
            let scaled = g.node("Mul", &[&scores, &unit]);
            let flat = g.int64s("flat", &[1], &[-1]);
            g.node_to("Reshape", &[&scaled, &flat], Vec::new(), &["prediction"]);
            g.output("prediction", data_type::FLOAT, &[rows]);
        }
        Outcome::Classes { names } => {
            let (scale, offset) = (g.float("scale", calibration.scale), g.float("offset", calibration.offset));
            let scaled = g.node("Mul", &[&scores, &scale]);
            let scaled = g.node("Add", &[&scaled, &offset]);
            if scorer.scores() == 1 {
                let second = g.node("Sigmoid", &[&scaled]);
                let one = g.float("one", 1.0);
                let first = g.node("Sub", &[&one, &second]);
                g.node_to("Concat", &[&first, &second], vec![int("axis", 1)], &["probabilities"]);
            } else {
                g.node_to("Softmax", &[&scaled], vec![int("axis", 1)], &["probabilities"]);
            }
            g.output("probabilities", data_type::FLOAT, &[rows, Axis::Fixed(names.len())]);
        }
    }
    Ok(g)
}

/// The features [rows, …] of a column, in order.
fn features(g: &mut GraphBuilder, name: &str, rule: &Rule, has_null: bool) -> Vec<String> {
    let rows = Axis::Named("rows");
    let column = g.int64s(&format!("{name}.column"), &[2], &[-1, 1]);
    match rule {
        Rule::Number { inverse, shift } => {
            g.input(name, data_type::DOUBLE, &[rows]);
            let value = g.node("Reshape", &[name, &column]);
            number(g, name, &value, *inverse, *shift, has_null)
        }
        Rule::Time { inverse, shift, hours } => {
            g.input(name, data_type::DOUBLE, &[rows]);
            let value = g.node("Reshape", &[name, &column]);
            let mut all = number(g, name, &value, *inverse, *shift, has_null);
            let null = all.split_off(1);
            let seven = g.doubles(&format!("{name}.seven"), &[], &[7.0]);
            let day = g.node("Floor", &[&value]);
            let week = g.node("Div", &[&day, &seven]);
            let start = g.node("Floor", &[&week]);
            all.extend(angle(g, name, &week, &start));
            if *hours {
                all.extend(angle(g, &format!("{name}.hour"), &value, &day));
            }
            all.extend(null);
            all
        }
        Rule::Categories { names, others } => {
            g.input(name, data_type::STRING, &[rows]);
            let texts: Vec<&str> = names.iter().map(String::as_str).collect();
            let places: Vec<i64> = (0..names.len() as i64).collect();
            let other = if *others { names.len() as i64 } else { -1 };
            let attributes =
                vec![strings("keys_strings", &texts), ints("values_int64s", &places), int("default_int64", other)];
            let place = format!("{name}.place");
            g.node_in(ML, "LabelEncoder", &[name], attributes, &[&place]);
            let mut place = g.node("Reshape", &[&place, &column]);
            let mut null = None;
            if has_null {
                let is_null = format!("{name}.is_null");
                g.input(&is_null, data_type::BOOL, &[rows]);
                let is_null = g.node("Reshape", &[&is_null, &column]);
                let none = g.int64s(&format!("{name}.none"), &[], &[-1]);
                place = g.node("Where", &[&is_null, &none, &place]);
                null = Some(cast(g, &is_null, data_type::FLOAT));
            }
            let width = names.len() + usize::from(*others);
            let all: Vec<i64> = (0..width as i64).collect();
            let all = g.int64s(&format!("{name}.places"), &[1, width], &all);
            let is = g.node("Equal", &[&place, &all]);
            [Some(cast(g, &is, data_type::FLOAT)), null].into_iter().flatten().collect()
        }
        Rule::Words { dimensions } => {
            g.input(name, data_type::FLOAT, &[rows, Axis::Fixed(*dimensions)]);
            let mut all = vec![name.to_owned()];
            if has_null {
                let is_null = format!("{name}.is_null");
                g.input(&is_null, data_type::BOOL, &[rows]);
                let is_null = g.node("Reshape", &[&is_null, &column]);
                all.push(cast(g, &is_null, data_type::FLOAT));
            }
            all
        }
        Rule::Vector { scales } => {
            g.input(name, data_type::FLOAT, &[rows, Axis::Fixed(scales.len())]);
            let value = cast(g, name, data_type::DOUBLE);
            let inverse: Vec<f64> = scales.iter().map(|(inverse, _)| *inverse).collect();
            let shift: Vec<f64> = scales.iter().map(|(_, shift)| *shift).collect();
            let inverse = g.doubles(&format!("{name}.inverse"), &[1, scales.len()], &inverse);
            let shift = g.doubles(&format!("{name}.shift"), &[1, scales.len()], &shift);
            let scaled = scaled(g, name, &value, &inverse, &shift);
            let mut all = vec![known(g, name, &scaled)];
            if has_null {
                let is_nan = g.node("IsNaN", &[name]);
                let is_nan = cast(g, &is_nan, data_type::FLOAT);
                all.push(g.node_with("ReduceMax", &[&is_nan], vec![ints("axes", &[1])]));
            }
            all
        }
    }
}

fn cast(g: &mut GraphBuilder, value: &str, to: i32) -> String {
    g.node_with("Cast", &[value], vec![int("to", i64::from(to))])
}

/// A number and, if there were NULL, whether it is.
fn number(g: &mut GraphBuilder, name: &str, value: &str, inverse: f64, shift: f64, has_null: bool) -> Vec<String> {
    let inverse = g.doubles(&format!("{name}.inverse"), &[], &[inverse]);
    let shift = g.doubles(&format!("{name}.shift"), &[], &[shift]);
    let scaled = scaled(g, name, value, &inverse, &shift);
    let mut all = vec![known(g, name, &scaled)];
    if has_null {
        let is_nan = g.node("IsNaN", &[value]);
        all.push(cast(g, &is_nan, data_type::FLOAT));
    }
    all
}

fn scaled(g: &mut GraphBuilder, name: &str, value: &str, inverse: &str, shift: &str) -> String {
    let value = g.node("Mul", &[value, inverse]);
    let value = g.node("Sub", &[&value, shift]);
    let low = g.doubles(&format!("{name}.low"), &[], &[-MAX_DEVIATIONS]);
    let high = g.doubles(&format!("{name}.high"), &[], &[MAX_DEVIATIONS]);
    let value = g.node("Clip", &[&value, &low, &high]);
    cast(g, &value, data_type::FLOAT)
}

/// 0 for NaN.
fn known(g: &mut GraphBuilder, name: &str, value: &str) -> String {
    let nothing = g.float(&format!("{name}.nothing"), 0.0);
    let is_nan = g.node("IsNaN", &[value]);
    g.node("Where", &[&is_nan, &nothing, value])
}

/// Sine and cosine of the part of a turn that `value` is past `start`.
fn angle(g: &mut GraphBuilder, name: &str, value: &str, start: &str) -> Vec<String> {
    let turn = g.doubles(&format!("{name}.turn"), &[], &[TAU]);
    let part = g.node("Sub", &[value, start]);
    let part = g.node("Mul", &[&part, &turn]);
    ["Sin", "Cos"]
        .map(|of| {
            let value = g.node(of, &[&part]);
            let value = cast(g, &value, data_type::FLOAT);
            known(g, &format!("{name}.{of}"), &value)
        })
        .to_vec()
}

/// The scores [rows, scores] of the trees.
fn trees(g: &mut GraphBuilder, features: &str, scorer: &Scorer, binning: &Binning) -> Result<String> {
    let n = scorer.scores();
    let all = scorer.steps(binning).ok_or_else(|| Error::Internal("a tree splits by what is no feature".into()))?;
    let base = g.floats("base", &[1, n], scorer.base());
    if all.is_empty() {
        // As many rows as there are features of.
        let (start, end, axes) =
            (g.int64s("first", &[1], &[0]), g.int64s("second", &[1], &[1]), g.int64s("axis", &[1], &[1]));
        let one = g.node("Slice", &[features, &start, &end, &axes]);
        let nothing = g.float("nothing", 0.0);
        let nothing = g.node("Mul", &[&one, &nothing]);
        return Ok(g.node("Add", &[&nothing, &base]));
    }
    let (mut ids, mut places, mut of_feature, mut modes, mut values) = (vec![], vec![], vec![], vec![], vec![]);
    let (mut yes, mut no) = (vec![], vec![]);
    let (mut leaf_trees, mut leaf_places, mut targets, mut weights) = (vec![], vec![], vec![], vec![]);
    for (tree, steps) in all.iter().enumerate() {
        for (place, step) in steps.iter().enumerate() {
            ids.push(tree as i64);
            places.push(place as i64);
            let (mode, feature, number, left) = match *step {
                Step::AtMost { feature, number, left } => ("BRANCH_LEQ", feature, number, i64::from(left)),
                Step::Is { feature, left } => ("BRANCH_GT", feature, 0.5, i64::from(left)),
                Step::Leaf(value) => {
                    leaf_trees.push(tree as i64);
                    leaf_places.push(place as i64);
                    targets.push((tree % n) as i64);
                    weights.push(value);
                    ("LEAF", 0, 0.0, 0)
                }
            };
            modes.push(mode);
            of_feature.push(i64::from(feature));
            values.push(number);
            yes.push(left);
            no.push(if mode == "LEAF" { 0 } else { left + 1 });
        }
    }
    let attributes = vec![
        int("n_targets", n as i64),
        ints("nodes_treeids", &ids),
        ints("nodes_nodeids", &places),
        ints("nodes_featureids", &of_feature),
        strings("nodes_modes", &modes),
        floats("nodes_values", &values),
        ints("nodes_truenodeids", &yes),
        ints("nodes_falsenodeids", &no),
        ints("target_treeids", &leaf_trees),
        ints("target_nodeids", &leaf_places),
        ints("target_ids", &targets),
        floats("target_weights", &weights),
    ];
    g.node_in(ML, "TreeEnsembleRegressor", &[features], attributes, &["trees"]);
    Ok(g.node("Add", &["trees", &base]))
}
