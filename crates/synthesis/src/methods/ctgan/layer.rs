//! A layer of the generator among its parameters.

use ndarray::ArrayView2;

use runtime::error::Result;

/// The position of a layer among the parameters: the weight [inputs + conditions, outputs], a row that is added, and
/// for the first two layers a row of factors.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    pub inputs: usize,
    pub outputs: usize,
    pub at: usize,
    /// Offset of its inputs in a row of [`Slot::state`](super::slot::Slot::state).
    pub first: usize,
}

/// The parameters of a layer.
pub struct Weights<'a> {
    /// [inputs, outputs]
    pub inputs: ArrayView2<'a, f32>,
    /// [conditions, outputs]
    pub conditions: ArrayView2<'a, f32>,
    /// A row that is added.
    pub added: &'a [f32],
    /// A row of factors; the last layer has none.
    pub times: &'a [f32],
}

impl Layer {
    /// Its part of all parameters.
    pub fn weights<'a>(&self, parameters: &'a [f32], conditions: usize, has_factors: bool) -> Result<Weights<'a>> {
        let Self { inputs, outputs, at, .. } = *self;
        let (weight, rest) = parameters[at..].split_at(inputs * outputs);
        let (of_conditions, rest) = rest.split_at(conditions * outputs);
        let (added, rest) = rest.split_at(outputs);
        Ok(Weights {
            inputs: ArrayView2::from_shape((inputs, outputs), weight)?,
            conditions: ArrayView2::from_shape((conditions, outputs), of_conditions)?,
            added,
            times: if has_factors { &rest[..outputs] } else { &[] },
        })
    }
}
