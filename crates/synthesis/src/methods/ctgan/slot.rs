//! What training works on.
//!
//! The critic takes `pac` rows side by side (Lin, Khetan, Fanti, Oh, "PacGAN", NeurIPS 2018); a batch's packs are cut into
//! parts. A slot holds the rows of one part that stand at one place of their packs: all that is as large as the rows is
//! done slot by slot, on as many threads as there are, and what a slot needs stays in one core's cache.

use runtime::error::Result;
use runtime::memory;

use super::conditions::Condition;

/// The widths of a training.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Rows of a slot, which are packs of a part: a multiple of 16.
    pub packs: usize,
    pub parts: usize,
    /// Rows of a pack. Slot s is of part s / pac and of place s % pac.
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

    /// The critic's first weights for one place.
    pub fn entrance(&self) -> usize {
        (self.data() + self.conditions) * self.critic
    }

    /// A row of `state`: the second layer, the first, the noise.
    pub fn state(&self) -> usize {
        2 * self.hidden + self.noise
    }

    pub fn batch(&self) -> usize {
        self.packs * self.parts * self.pac
    }
}

pub struct Slot {
    /// Of the critic's weights for this place [columns + numbers + conditions, critic].
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
        let sums = || memory::filled(0f32, sizes.hidden);
        Ok(Self {
            gradient: memory::filled(0f32, sizes.entrance())?,
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
