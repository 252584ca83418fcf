//! Lists made by a device: the same as without one, however rough its scores are.

use std::time::Duration;

use ndarray::{Array, Array2, ArrayD, ArrayView2, Ix2};
use prost::Message;

use super::*;
use onnx::proto::ModelProto;
use onnx::runner::{Inputs, Ran, Runner};
use onnx::session::{Provider, RunMemory};
use onnx::tensor::Tensor;
use runtime::progress::Progress;

const GROUP: usize = 2048;

/// What the graph of a product computes, with scores rounded to `bits` of their mantissa.
struct Device {
    factors: Array2<f32>,
    inverse_lengths: Vec<f32>,
    padding: Vec<f32>,
    bits: u32,
    runs: usize,
}

impl Device {
    fn new(model: &Model, bits: u32) -> Self {
        let graph = ModelProto::decode(&*model.product_graph(&Unwatched).unwrap().unwrap()).unwrap().graph.unwrap();
        let tensor = |name: &str| {
            let tensor = graph.initializer.iter().find(|tensor| tensor.name == name).unwrap();
            let shape: Vec<usize> = tensor.dims.iter().map(|&n| n as usize).collect();
            let values = tensor.raw_data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
            ArrayD::from_shape_vec(shape, values).unwrap()
        };
        Self {
            factors: tensor("item_factors").into_dimensionality().unwrap(),
            inverse_lengths: tensor("inverse_lengths").into_raw_vec_and_offset().0,
            padding: tensor("padding").into_raw_vec_and_offset().0,
            bits,
            runs: 0,
        }
    }

    fn best(&self, user: &[f32], by_cosine: bool, allowed: &[f32], kept: usize) -> Vec<(f32, i64)> {
        let mut scores: Vec<(f32, i64)> = (0..self.factors.nrows())
            .map(|item| {
                let product: f32 = self.factors.row(item).iter().zip(user).map(|(y, x)| y * x).sum();
                let scaled = if by_cosine { product * self.inverse_lengths[item] } else { product };
                let rough = f32::from_bits(scaled.to_bits() & (u32::MAX << (23 - self.bits)));
                (rough + self.padding[item] + allowed[item % allowed.len()], item as i64)
            })
            .collect();
        // Unlike on the CPU, nothing is promised about the order of equal scores.
        scores.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
        scores.truncate(kept);
        scores
    }
}

impl Runner for Device {
    fn model(&self) -> &str {
        "m"
    }

    fn provider(&self) -> Provider {
        Provider::Cuda
    }

    fn bytes(&self) -> u64 {
        0
    }

    fn run(&mut self, inputs: Inputs, wanted: &[&str], _: RunMemory, _: &dyn Progress) -> Result<Ran> {
        assert_eq!(wanted, ["scores", "items"]);
        self.runs += 1;
        let tensors: Vec<Tensor> = inputs.into_iter().map(|(_, tensor)| tensor).collect();
        let [
            Tensor::F32(users),
            Tensor::Bool(by_cosine),
            Tensor::F32(allowed),
            Tensor::I64(of_group),
            Tensor::I64(kept),
        ] = tensors.as_slice()
        else {
            panic!("other inputs: {tensors:?}")
        };
        let kept = kept[[0]] as usize;
        assert_eq!(of_group[[0]] as usize, kept.min(GROUP));
        assert!([1, self.factors.nrows()].contains(&allowed.len()) && kept <= self.factors.nrows());
        let users: ArrayView2<f32> = users.view().into_dimensionality::<Ix2>().unwrap();
        let found: Vec<Vec<(f32, i64)>> = users
            .rows()
            .into_iter()
            .map(|user| self.best(user.to_slice().unwrap(), by_cosine[[]], allowed.as_slice().unwrap(), kept))
            .collect();
        let shape = (users.nrows(), kept);
        let scores: Array2<f32> = Array::from_shape_fn(shape, |(u, n)| found[u][n].0);
        let items: Array2<i64> = Array::from_shape_fn(shape, |(u, n)| found[u][n].1);
        Ok((vec![scores.into(), items.into()], Duration::ZERO))
    }

    fn run_each(&mut self, runs: Vec<Inputs>, wanted: &[&str], _: usize, progress: &dyn Progress) -> Result<Vec<Ran>> {
        runs.into_iter().map(|run| self.run(run, wanted, RunMemory::Keep, progress)).collect()
    }
}

const OF_PRODUCTS: [&str; 5] = ["ials", "bpr", "lightgcn", "two_tower", "mult_vae"];

#[test]
fn a_device_makes_the_same_lists() {
    for algorithm in OF_PRODUCTS {
        let m = model(uneven(), algorithm);
        let (users, items) = (m.user_ids().len() as u32, m.item_ids().len());
        let mut even = ItemSet::new(items);
        (0..items as u32).step_by(2).for_each(|item| even.insert(item));
        for bits in [23, 10, 4] {
            let mut device = Device::new(&m, bits);
            for request in [
                Request::new(10),
                Request { exclude_seen: true, ..Request::new(10) },
                Request { exclude_seen: true, allowed: Some(&even), denied: &[2, 4, 6], ..Request::new(25) },
                Request { diversity: 0.3, ..Request::new(5) },
                Request::new(items + 5),
                Request::new(0),
            ] {
                let expected = m.recommend_block(0..users, &request, 2, &Unwatched).unwrap();
                let found = m.recommend_block_on(&mut device, 0..users, &request, 2, &Unwatched).unwrap();
                assert_eq!(found, expected, "{algorithm}, {bits} bits");
                let history = Who::History { items: &[1, 5, 9], weights: &[1.0, 2.0, -1.0] };
                for who in [Who::User(3), history, Who::History { items: &[], weights: &[] }] {
                    let expected = m.recommend(who, &request, &Unwatched).unwrap();
                    assert_eq!(
                        m.recommend_on(&mut device, who, &request, &Unwatched).unwrap(),
                        expected,
                        "{algorithm}"
                    );
                }
            }
            for item in 0..20 {
                let expected = m.similar_items(item, 7, &Unwatched).unwrap();
                assert_eq!(m.similar_items_on(&mut device, item, 7, &Unwatched).unwrap(), expected, "{algorithm}");
            }
            assert!(device.runs >= 15, "{algorithm}: {}", device.runs);
        }
    }
}

#[test]
fn equal_scores_are_in_the_order_of_items_on_a_device_too() {
    let m = model(checkerboard(60), "ials");
    let mut device = Device::new(&m, 23);
    let expected = m.recommend_block(0..60, &Request::new(20), 1, &Unwatched).unwrap();
    assert_eq!(m.recommend_block_on(&mut device, 0..60, &Request::new(20), 1, &Unwatched).unwrap(), expected);
}

#[test]
fn other_models_have_no_product_and_are_served_without_a_device() {
    for algorithm in names().into_iter().filter(|name| !OF_PRODUCTS.contains(name)) {
        let m = model(uneven(), algorithm);
        assert_eq!((m.has_product(), m.product_graph(&Unwatched).unwrap()), (false, None), "{algorithm}");
        let ials = model(uneven(), "ials");
        let mut device = Device::new(&ials, 23);
        let expected = m.recommend(Who::User(1), &Request::new(5), &Unwatched).unwrap();
        assert_eq!(m.recommend_on(&mut device, Who::User(1), &Request::new(5), &Unwatched).unwrap(), expected);
        assert_eq!(device.runs, 0, "{algorithm}");
    }
}

/// A device that answers nonsense.
struct Broken(fn() -> Vec<Tensor>);

impl Runner for Broken {
    fn model(&self) -> &str {
        "m"
    }

    fn provider(&self) -> Provider {
        Provider::Cuda
    }

    fn bytes(&self) -> u64 {
        0
    }

    fn run(&mut self, _: Inputs, _: &[&str], _: RunMemory, _: &dyn Progress) -> Result<Ran> {
        Ok(((self.0)(), Duration::ZERO))
    }

    fn run_each(&mut self, runs: Vec<Inputs>, wanted: &[&str], _: usize, progress: &dyn Progress) -> Result<Vec<Ran>> {
        runs.into_iter().map(|run| self.run(run, wanted, RunMemory::Keep, progress)).collect()
    }
}

#[test]
fn what_no_graph_of_ours_returns_is_an_error() {
    let m = model(uneven(), "ials");
    let answers: [fn() -> Vec<Tensor>; 4] = [
        Vec::new,
        || vec![Array2::<f32>::zeros((2, 3)).into(), Array2::<i64>::zeros((2, 3)).into()],
        || vec![Array2::<f32>::zeros((1, 3)).into(), Array2::<i64>::from_elem((1, 3), 1 << 40).into()],
        || vec![Array2::<f32>::zeros((1, 3)).into(), Array2::<i64>::from_elem((1, 3), -1).into()],
    ];
    for answer in answers {
        assert!(m.recommend_on(&mut Broken(answer), Who::User(0), &Request::new(3), &Unwatched).is_err());
        assert!(m.similar_items_on(&mut Broken(answer), 0, 3, &Unwatched).is_err());
    }
}
