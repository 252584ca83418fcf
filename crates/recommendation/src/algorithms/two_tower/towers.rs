//! Both towers after training: what serving, and whoever embeds a new item or user, computes.

use ndarray::{ArrayView2, ArrayViewMut2, Axis, aview_mut1, aview1};

use super::parameters::Parameters;
use interactions::Features;
use kernels::matrix::{flat, rows_mut};
use kernels::statistics::normalize_at_least;
use neural::dense::Dense;
use neural::network::Layer;
use onnx::stored::{DataWriter, Files};
use runtime::error::Result;
use runtime::memory;

/// A vector shorter than this has no direction.
const NOTHING: f32 = 1e-6;

/// Two layers, the first of which also takes attributes.
struct Tower {
    /// [inputs, hidden], [hidden, outputs]
    layers: [Layer; 2],
    /// [attributes, hidden]
    attributes: Vec<f32>,
    first: Dense,
    second: Dense,
}

impl Tower {
    fn new(layers: [Layer; 2], attributes: Vec<f32>) -> Self {
        let first = Dense::new(layers[0].inputs(), layers[0].weight.view(), &layers[0].bias);
        let second = Dense::new(first.outputs(), layers[1].weight.view(), &layers[1].bias);
        Self { layers, attributes, first, second }
    }

    fn hidden(&self) -> usize {
        self.layers[0].outputs()
    }

    /// The output of one row into `out`, of which `add` may change the hidden layer before its ReLU.
    fn forward(&self, input: &[f32], add: impl FnOnce(&mut [f32]), out: &mut [f32]) {
        let mut hidden = vec![0f32; self.first.outputs()];
        self.first.forward(aview1(input).insert_axis(Axis(0)), false, aview_mut1(&mut hidden).insert_axis(Axis(0)));
        add(&mut hidden[..self.hidden()]);
        hidden.iter_mut().for_each(|x| *x = x.max(0.0));
        let mut wide = vec![0f32; self.second.outputs()];
        self.second.forward(aview1(&hidden).insert_axis(Axis(0)), false, aview_mut1(&mut wide).insert_axis(Axis(0)));
        out.copy_from_slice(&wide[..out.len()]);
    }

    fn write(&self, name: &str, data: &mut DataWriter) {
        for (part, layer) in ["first", "second"].into_iter().zip(&self.layers) {
            data.tensor(
                &format!("{name}.{part}.weight"),
                &[layer.inputs(), layer.outputs()],
                flat(layer.weight.view()),
            );
            data.tensor(&format!("{name}.{part}.bias"), &[layer.outputs()], &layer.bias);
        }
        let hidden = self.hidden();
        data.tensor(&format!("{name}.attributes"), &[self.attributes.len() / hidden, hidden], &self.attributes);
    }

    fn read(files: &Files, name: &str, hidden: usize, outputs: usize) -> Result<Self> {
        let layer = |part: &str, columns: usize| -> Result<Layer> {
            let ([inputs, width], weight) = files.tensor(&format!("{name}.{part}.weight"))?;
            let ([length], bias) = files.tensor(&format!("{name}.{part}.bias"))?;
            if width != columns || length != columns {
                return Err(files.damaged(format!("{name} contradicts itself")));
            }
            Ok(Layer { weight: memory::shaped(inputs, columns, weight.to_vec())?, bias: bias.to_vec() })
        };
        let (first, second) = (layer("first", hidden)?, layer("second", outputs)?);
        let ([_, width], attributes) = files.tensor(&format!("{name}.attributes"))?;
        if width != hidden || second.inputs() != hidden {
            return Err(files.damaged(format!("{name} contradicts itself")));
        }
        Ok(Self::new([first, second], attributes.to_vec()))
    }
}

/// Adds what a row's attributes give: `Σ value · attributes[column]`.
pub fn add_attributes(features: &Features, row: usize, attributes: &[f32], to: &mut [f32]) {
    let (columns, values) = features.attributes.row(row);
    for (&column, &value) in columns.iter().zip(values) {
        let from = &attributes[column as usize * to.len()..][..to.len()];
        to.iter_mut().zip(from).for_each(|(to, a)| *to += value * a);
    }
}

/// Divides by the length, which is returned.
pub fn normalize(vector: &mut [f32]) -> f32 {
    normalize_at_least(vector, NOTHING)
}

pub struct ItemTower {
    tower: Tower,
    /// τ
    temperature: f32,
}

impl ItemTower {
    pub fn new(layers: [Layer; 2], attributes: Vec<f32>, temperature: f32) -> Self {
        Self { tower: Tower::new(layers, attributes), temperature }
    }

    pub fn vectors(&self) -> usize {
        self.tower.layers[0].inputs()
    }

    pub fn attributes(&self) -> usize {
        self.tower.attributes.len() / self.tower.hidden()
    }

    /// `[v_i, τ β_i]` of the items from `first` on into `factors` [rows, factors]; `ids` [items, hidden] are `e_i`.
    pub fn embed(&self, features: &Features, ids: Option<ArrayView2<f32>>, first: usize, factors: ArrayViewMut2<f32>) {
        let (hidden, d, ids) = (self.tower.hidden(), self.tower.layers[1].outputs(), ids.map(flat));
        for (item, z) in (first..).zip(rows_mut(factors)) {
            let add = |to: &mut [f32]| {
                add_attributes(features, item, &self.tower.attributes, to);
                if let Some(ids) = ids {
                    to.iter_mut().zip(&ids[item * hidden..]).for_each(|(to, id)| *to += id);
                }
            };
            self.tower.forward(features.vector(item), add, z);
            normalize(&mut z[..d - 1]);
            z[d - 1] *= self.temperature;
        }
    }

    pub fn write(&self, data: &mut DataWriter) {
        self.tower.write("item_tower", data);
    }

    pub fn read(files: &Files, parameters: &Parameters) -> Result<Self> {
        let tower = Tower::read(files, "item_tower", parameters.hidden, parameters.factors)?;
        Ok(Self { tower, temperature: parameters.temperature })
    }
}

pub struct UserTower(Tower);

impl UserTower {
    pub fn new(layers: [Layer; 2], attributes: Vec<f32>) -> Self {
        Self(Tower::new(layers, attributes))
    }

    /// `[x_u, 1]` into `user` [factors] for the mean of a history, and the user's features where there are any.
    pub fn embed(&self, mean: &[f32], features: Option<(&Features, usize)>, user: &mut [f32]) {
        let mut input = vec![0f32; self.0.layers[0].inputs()];
        input[..mean.len()].copy_from_slice(mean);
        if let Some((features, row)) = features {
            input[mean.len()..].copy_from_slice(features.vector(row));
        }
        let add = |to: &mut [f32]| {
            if let Some((features, row)) = features {
                add_attributes(features, row, &self.0.attributes, to);
            }
        };
        let (x, one) = user.split_at_mut(mean.len());
        self.0.forward(&input, add, x);
        x.iter_mut().zip(mean).for_each(|(x, m)| *x += m);
        normalize(x);
        one.fill(1.0);
    }

    /// The layers, of which the first's rows after the `mean` are for the user's vectors.
    pub fn layers(&self) -> &[Layer; 2] {
        &self.0.layers
    }

    pub fn write(&self, data: &mut DataWriter) {
        self.0.write("user_tower", data);
    }
}

/// `c = log₂(1 + weight)`; 0 for what is no interaction. A constant factor would not change the mean.
pub fn confidence(weight: f32) -> f32 {
    weight.max(0.0).ln_1p() * std::f32::consts::LOG2_E
}

/// `Σ c_j H_j / Σ c_j` into `mean` [width]; false where nothing counts.
pub fn mean_of_history(factors: ArrayView2<f32>, items: &[u32], weights: &[f32], mean: &mut [f32]) -> bool {
    let (width, factors) = (mean.len(), flat(factors));
    mean.fill(0.0);
    let mut total = 0f32;
    for (&item, &weight) in items.iter().zip(weights) {
        let c = confidence(weight);
        let Some(row) = factors.get(item as usize * width..(item as usize + 1) * width).filter(|_| c > 0.0) else {
            continue;
        };
        mean.iter_mut().zip(row).for_each(|(sum, h)| *sum += c * h);
        total += c;
    }
    if total > 0.0 {
        mean.iter_mut().for_each(|sum| *sum /= total);
    }
    total > 0.0
}
