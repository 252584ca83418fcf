//! The working memory of training.
//!
//! The critic takes `pac` rows side by side, a pack (Lin, Khetan, Fanti, Oh, "PacGAN", NeurIPS 2018). The packs of a
//! batch are cut into parts. A slot holds the rows of one part at one position of their packs. All work on rows is done
//! slot by slot on all threads, and the data of a slot stays in one core's cache.

use ndarray::Array2;

use runtime::error::Result;
use runtime::memory;

use super::conditions::Condition;

/// The sizes of a training.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Rows of a slot, or packs of a part: a multiple of 16.
    pub packs: usize,
    pub parts: usize,
    /// Rows of a pack. Slot s holds position s % pac of part s / pac.
    pub pac: usize,
    /// Numbers of classes of all heads and of numbers within modes.
    pub columns: usize,
    pub numbers: usize,
    pub conditions: usize,
    /// Width of the generator's noise.
    pub noise: usize,
    /// Widths of the generator's and the critic's layers.
    pub hidden: usize,
    pub critic: usize,
    /// Columns and numbers, rounded up.
    pub outputs: usize,
}

impl Sizes {
    /// Width of a row for the critic, without its condition.
    pub fn data(&self) -> usize {
        self.columns + self.numbers
    }

    /// Inputs of the critic for one position: rows of its first weights.
    pub fn entrance(&self) -> usize {
        self.data() + self.conditions
    }

    /// Width of `state`: the second layer, the first, the noise.
    pub fn state(&self) -> usize {
        2 * self.hidden + self.noise
    }

    pub fn batch(&self) -> usize {
        self.packs * self.parts * self.pac
    }
}

pub struct Slot {
    /// Gradient of the critic's weights for this position [columns + numbers + conditions, critic].
    pub gradient: Array2<f32>,
    /// Real rows and their conditions, which the generated rows share.
    pub rows: Vec<u32>,
    pub conditions: Vec<Option<Condition>>,
    /// [packs, state]
    pub state: Array2<f32>,
    /// [packs, hidden]: inputs of each layer's normalization, then its outputs, before scale and shift.
    pub normal: [Array2<f32>; 2],
    /// Sums over the rows of the slot of a normalization's inputs and their squares, or of its gradients and their
    /// products with the normalized values.
    pub sums: [Vec<f32>; 2],
    /// [packs, outputs], and the same after tanh and softmax.
    pub logits: Array2<f32>,
    pub made: Array2<f32>,
    /// [columns + numbers, packs], transposed: generated rows, and the critic's gradient at the interpolated rows.
    pub made_t: Array2<f32>,
    pub slope_t: Array2<f32>,
    /// [packs, critic]: contributions of the slot to the critic's first layer for generated and real rows, and to the
    /// penalty.
    pub into_made: Array2<f32>,
    pub into_real: Array2<f32>,
    pub penalty: Array2<f32>,
    /// [packs]: squared norms of the slope.
    pub squares: Vec<f32>,
    /// [packs, 2 hidden]: gradients of both layers' outputs.
    pub back: Array2<f32>,
    /// [packs, hidden]: gradients of each normalization's inputs.
    pub back_normal: [Array2<f32>; 2],
    pub loss: f64,
}

impl Slot {
    pub fn new(sizes: &Sizes) -> Result<Self> {
        let rows = |width: usize| memory::matrix(sizes.packs, width, 0f32);
        let turned = || memory::matrix(sizes.data(), sizes.packs, 0f32);
        let sums = || memory::filled(0f32, sizes.hidden);
        Ok(Self {
            gradient: memory::matrix(sizes.entrance(), sizes.critic, 0f32)?,
            rows: memory::filled(0, sizes.packs)?,
            conditions: memory::filled(None, sizes.packs)?,
            state: rows(sizes.state())?,
            normal: [rows(sizes.hidden)?, rows(sizes.hidden)?],
            sums: [sums()?, sums()?],
            logits: rows(sizes.outputs)?,
            made: rows(sizes.outputs)?,
            made_t: turned()?,
            slope_t: turned()?,
            into_made: rows(sizes.critic)?,
            into_real: rows(sizes.critic)?,
            penalty: rows(sizes.critic)?,
            squares: memory::filled(0f32, sizes.packs)?,
            back: rows(2 * sizes.hidden)?,
            back_normal: [rows(sizes.hidden)?, rows(sizes.hidden)?],
            loss: 0.0,
        })
    }
}
