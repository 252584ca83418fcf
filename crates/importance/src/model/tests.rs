use ndarray::{Array2, array};
use serde_json::{Value as Json, json};

use super::*;
use crate::Method;
use onnx::inspect::{Dimension, Port, Signature};
use onnx::proto::data_type;
use onnx::tensor::Tensor;
use runtime::error::{Error, Result};
use runtime::options::Options;
use tabular::{ColumnKind, Labels, Table, Value};

fn port(name: &str, element_type: i32, width: i64) -> Port {
    Port { name: name.into(), element_type, shape: vec![Dimension::Named("n".into()), Dimension::Fixed(width)] }
}

fn signature(inputs: Vec<Port>, outputs: Vec<Port>) -> Signature {
    Signature { inputs, outputs, parameters: 1, opset: 17, ..Signature::default() }
}

fn classes(codes: &[u32], names: &[&str]) -> Labels {
    Labels::Classes { codes: codes.to_vec(), names: names.iter().map(|name| (*name).to_owned()).collect() }
}

fn methods() -> [Method; 3] {
    ["loss", "el2n", "grad_norm"].map(|name| Method::from_name(name).unwrap())
}

fn scored(options: Json, labels: &Labels, tensors: &[Tensor]) -> Result<Vec<Vec<f64>>> {
    let outputs = tensors.iter().enumerate().map(|(i, t)| port(["p", "h"][i], data_type::FLOAT, t.shape()[1] as i64));
    let signature = signature(vec![], outputs.collect());
    let mut options = Options::new("importance", &options)?;
    let mut outputs = Outputs::new("m", &signature, &mut options)?;
    options.finish()?;
    let mut scores = vec![Vec::new(); 3];
    outputs.score(&methods(), tensors, labels, 0, &mut scores)?;
    Ok(scores)
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6
}

#[test]
fn probabilities_logits_and_a_single_column_give_the_same_scores() {
    let labels = classes(&[0, 1], &["no", "yes"]);
    let (p, z) = ([0.25f32, 0.75], (3f32).ln());
    let two = Tensor::from(array![[0.75f32, 0.25], [0.25, 0.75]]);
    let logits = Tensor::from(array![[1.0 + z, 1.0], [5.0, 5.0 + z]]);
    let one = Tensor::from(array![[p[0]], [p[1]]]);
    for tensor in [two, logits, one] {
        let scores = scored(json!({}), &labels, std::slice::from_ref(&tensor)).unwrap();
        for row in 0..2 {
            assert!(close(scores[0][row], 0.75f64.ln()), "{tensor:?} {scores:?}");
            assert!(close(scores[1][row], -(0.125f64).sqrt()));
            assert_eq!(scores[1], scores[2]);
        }
    }
}

#[test]
fn what_enters_the_last_layer_makes_the_gradient_by_its_weights() {
    let labels = classes(&[0, 1], &["a", "b"]);
    let p = Tensor::from(array![[0.75f32, 0.25], [0.25, 0.75]]);
    let hidden = Tensor::from(array![[1f32, 1.0, 1.0], [0.0, 0.0, 0.0]]);
    let scores = scored(json!({"hidden_output": "h"}), &labels, &[p, hidden]).unwrap();
    assert!(close(scores[2][0], 2.0 * scores[1][0]) && close(scores[2][1], scores[1][1]));
}

#[test]
fn numbers_are_compared_as_they_are() {
    let scores = scored(json!({}), &Labels::Numbers(vec![1.0, 5.0]), &[array![[3f32], [5.0]].into()]).unwrap();
    assert_eq!((scores[0].as_slice(), scores[1].as_slice()), ([-4.0, 0.0].as_slice(), [-2.0, 0.0].as_slice()));
}

#[test]
fn classes_are_found_by_name_by_number_or_in_order() {
    let p = || [Tensor::from(array![[0.7f32, 0.2, 0.1]])];
    let loss = |options, labels| scored(options, &labels, &p()).map(|scores| scores[0][0].exp());
    assert!(close(loss(json!({}), classes(&[1], &["0", "2"])).unwrap(), 0.1));
    assert!(close(loss(json!({"classes": ["c", "a", "b"]}), classes(&[0], &["a", "c"])).unwrap(), 0.2));
    assert!(close(loss(json!({}), classes(&[0], &["a", "b", "c"])).unwrap(), 0.7));
    let error = |options, labels| loss(options, labels).unwrap_err().to_string();
    assert!(error(json!({}), classes(&[0], &["a", "b"])).contains("has 3 classes, but the labels are a, b"));
    assert!(error(json!({"classes": ["x"]}), classes(&[0], &["a", "b"])).contains("model \"m\" has 3 classes"));
    assert!(error(json!({"output": "q"}), classes(&[0], &["a", "b"])).contains("option \"output\": \"q\""));
}

#[test]
fn outputs_that_cannot_be_scored_are_errors() {
    let labels = classes(&[0, 1], &["a", "b"]);
    let error = |tensor: Tensor| scored(json!({}), &labels, &[tensor]).unwrap_err();
    assert!(error(array![[0.5, f32::NAN], [0.0, 1.0]].into()).to_string().contains("row 1 is NaN"));
    assert!(error(Array2::from_elem((3, 2), 0.5f32).into()).to_string().contains("3 rows"));
    let numbers = scored(json!({}), &Labels::Numbers(vec![1.0]), &[array![[0.5f32, 0.5]].into()]);
    assert!(matches!(numbers, Err(Error::ModelRun { .. })));
}

#[test]
fn columns_go_side_by_side_into_one_input_or_each_into_its_own() {
    let mut table = Table::new(vec![
        ("x".into(), ColumnKind::Number),
        ("ok".into(), ColumnKind::Category),
        ("v".into(), ColumnKind::Vector),
        ("label".into(), ColumnKind::Category),
    ]);
    let row = |x: Value<'static>| [x, Value::Category("t"), Value::Vector(&[7.0, 8.0]), Value::Category("a")];
    table.push(&row(Value::Number(2.0)), || "row 1".into()).unwrap();
    table.push(&row(Value::Null), || "row 2".into()).unwrap();
    let one = signature(vec![port("input", data_type::FLOAT, 4)], vec![]);
    let inputs = Inputs::new("m", &one, &table, &["label"]).unwrap();
    assert_eq!(inputs.tensors(0..1).unwrap(), [("input", array![[2f32, 1.0, 7.0, 8.0]].into())]);
    assert!(matches!(inputs.tensors(1..2), Err(Error::NullColumn { row: 2, .. })));

    let named = ["x", "ok", "v"].map(|name| port(name, data_type::DOUBLE, if name == "v" { 2 } else { 1 }));
    let many = signature(named.to_vec(), vec![]);
    let inputs = Inputs::new("m", &many, &table, &["label"]).unwrap();
    assert_eq!(inputs.tensors(0..1).unwrap()[2].1, array![[7f64, 8.0]].into());

    let refused = |ports: Vec<Port>, leave: &[&str]| {
        let signature = signature(ports, vec![]);
        Inputs::new("m", &signature, &table, leave).map(|_| ()).unwrap_err().to_string()
    };
    assert!(refused(vec![port("input", data_type::FLOAT, 3)], &["label"]).contains("rows of 4 numbers"));
    assert!(refused(vec![port("input", data_type::FLOAT, 5)], &[]).contains("cannot take column \"label\""));
    assert!(refused(named[..2].to_vec(), &["label"]).contains("no input for column \"v\""));
    assert!(refused(vec![named[0].clone(), port("y", data_type::FLOAT, 1)], &["label"]).contains("\"y\""));
}
