use super::*;

fn message(fields: &[(u64, &[u8])]) -> Vec<u8> {
    let mut message = Vec::new();
    for (number, bytes) in fields {
        wire::put_bytes(&mut message, *number, bytes);
    }
    message
}

/// A tensor: its data type is a varint, and its name comes after its data.
fn tensor(data_type: u8, data: &[u8]) -> Vec<u8> {
    [vec![16, data_type], message(&[(TENSOR_RAW_DATA, data), (8, b"weight")])].concat()
}

fn model(tensors: &[Vec<u8>]) -> Vec<u8> {
    let mut graph = message(&[(1, b"a node")]);
    for tensor in tensors {
        wire::put_bytes(&mut graph, GRAPH_INITIALIZER, tensor);
    }
    wire::put_bytes(&mut graph, 11, b"an input");
    message(&[(2, b"producer"), (MODEL_GRAPH, &graph), (8, b"opset")])
}

fn floats(values: impl Iterator<Item = f32>) -> Vec<u8> {
    values.flat_map(f32::to_le_bytes).collect()
}

fn large() -> Vec<u8> {
    floats((0..10_000u16).map(|i| 2.0 + f32::from(i % 11) / 10.0))
}

#[test]
fn only_large_float_tensors_change() {
    let small = tensor(1, &floats((0..MIN_FLOATS as u16 - 1).map(f32::from)));
    let integers = tensor(7, &large());
    let before = model(&[small.clone(), integers.clone(), tensor(1, &large())]);
    let skeleton = strip(&before).unwrap();
    assert!(skeleton.len() < before.len() - large().len() + 100);
    let drawn = draw(&skeleton, 1).unwrap();
    assert_eq!(drawn.len(), before.len());
    let same = before.iter().zip(&drawn).filter(|(a, b)| a == b).count();
    assert!(same < before.len());
    // What was drawn is the data of the last tensor, at its old place.
    let start = before.windows(large().len()).rposition(|part| part == large()).unwrap();
    assert_eq!(before[..start], drawn[..start]);
    assert_eq!(before[start + large().len()..], drawn[start + large().len()..]);
}

#[test]
fn drawn_weights_have_the_mean_the_deviation_and_the_bounds() {
    let wanted = Distribution::of(&large());
    assert_eq!((wanted.count, wanted.least), (10_000, 2.0));
    let drawn = Distribution::of(&wanted.draw(&mut StdRng::seed_from_u64(3)));
    assert_eq!(drawn.count, wanted.count);
    assert!((drawn.mean - wanted.mean).abs() < 0.02, "{drawn:?} for {wanted:?}");
    // The bounds are 1.6 deviations away, and cut the tails.
    assert!((drawn.deviation / wanted.deviation - 0.9).abs() < 0.1, "{drawn:?} for {wanted:?}");
    assert!(drawn.least >= wanted.least && drawn.greatest <= wanted.greatest);
}

#[test]
fn a_seed_gives_the_same_weights_and_another_seed_others() {
    let skeleton = strip(&model(&[tensor(1, &large())])).unwrap();
    assert_eq!(draw(&skeleton, 5).unwrap(), draw(&skeleton, 5).unwrap());
    assert_ne!(draw(&skeleton, 5).unwrap(), draw(&skeleton, 6).unwrap());
}

#[test]
fn a_skeleton_that_strip_has_not_written_is_an_error() {
    let odd = message(&[(TENSOR_SHAPE_OF_DATA, b"odd")]);
    assert!(draw(&model(&[odd]), 1).is_err());
    assert!(draw(b"\x0b", 1).is_err());
}
