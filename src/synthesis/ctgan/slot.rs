//! What training works on: a batch is as many slots as the critic sees rows at a time.
//!
//! The critic takes `pac` rows side by side (Lin, Khetan, Fanti, Oh, "PacGAN", NeurIPS 2018). Slot s holds the rows
//! that stand at place s, one of each pack, and the critic's weights for that place: so all that is as large as the
//! rows is done slot by slot, on as many threads as there are, and what a slot needs stays in one core's cache.

use crate::error::Result;
use crate::memory;

use super::conditions::Condition;

/// The widths of a training.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Rows of a slot: packs of a batch; a multiple of 16.
    pub packs: usize,
    pub pac: usize,
    /// Classes of all heads, and numbers within modes.
    pub columns: usize,
    pub numbers: usize,
    pub conditions: usize,
    /// Of the generator's input.
    pub noise: usize,
    /// Of the generator's layers, and of the critic's.
    pub hidden: usize,
    pub critic: usize,
    /// Columns and numbers, rounded up.
    pub outputs: usize,
}

impl Sizes {
    /// What a row is to the critic, without its condition.
    pub fn data(&self) -> usize {
        self.columns + self.numbers
    }

    /// Rows of `state`: the second layer, the first, the noise.
    pub fn state(&self) -> usize {
        2 * self.hidden + self.noise
    }

    pub fn batch(&self) -> usize {
        self.packs * self.pac
    }
}

pub struct Slot {
    /// The critic's weights for this place [columns + numbers + conditions, critic], and their moments.
    pub weight: Vec<f32>,
    pub first: Vec<f32>,
    pub second: Vec<f32>,
    pub gradient: Vec<f32>,
    /// Real rows and their conditions; made rows have the same.
    pub rows: Vec<u32>,
    pub conditions: Vec<Option<Condition>>,
    /// [packs, state]
    pub state: Vec<f32>,
    /// [packs, hidden]: what goes into each layer's normalisation, then what comes out, before scale and shift.
    pub normal: [Vec<f32>; 2],
    /// Sums over the rows of the slot of what goes into a normalisation or comes back from it, and of its squares or
    /// its product with the normal ones.
    pub sums: [Vec<f32>; 2],
    /// [packs, outputs], and the same after tanh and softmax.
    pub logits: Vec<f32>,
    pub made: Vec<f32>,
    /// [columns + numbers, packs]: made rows and the gradient of the critic at the rows between, rows as columns.
    pub made_t: Vec<f32>,
    pub slope_t: Vec<f32>,
    /// [packs, critic]: what the slot adds to the critic's first layer for made rows and real ones, and to the penalty.
    pub into_made: Vec<f32>,
    pub into_real: Vec<f32>,
    pub penalty: Vec<f32>,
    /// [packs]: squares of the slope.
    pub squares: Vec<f32>,
    /// [packs, 2 hidden]: gradients of both layers' outputs.
    pub back: Vec<f32>,
    /// [packs, hidden]: gradients of what goes into each normalisation.
    pub back_normal: [Vec<f32>; 2],
    pub loss: f64,
}

impl Slot {
    pub fn new(sizes: &Sizes) -> Result<Self> {
        let rows = |width: usize| memory::filled(0f32, sizes.packs * width);
        let weights = || memory::filled(0f32, (sizes.data() + sizes.conditions) * sizes.critic);
        let sums = || memory::filled(0f32, sizes.hidden);
        Ok(Self {
            weight: weights()?,
            first: weights()?,
            second: weights()?,
            gradient: weights()?,
            rows: memory::filled(0, sizes.packs)?,
            conditions: memory::filled(None, sizes.packs)?,
            state: rows(sizes.state())?,
            normal: [rows(sizes.hidden)?, rows(sizes.hidden)?],
            sums: [sums()?, sums()?],
            logits: rows(sizes.outputs)?,
            made: rows(sizes.outputs)?,
            made_t: rows(sizes.data())?,
            slope_t: rows(sizes.data())?,
            into_made: rows(sizes.critic)?,
            into_real: rows(sizes.critic)?,
            penalty: rows(sizes.critic)?,
            squares: rows(1)?,
            back: rows(2 * sizes.hidden)?,
            back_normal: [rows(sizes.hidden)?, rows(sizes.hidden)?],
            loss: 0.0,
        })
    }
}
