//! A table of embeddings, of which a training step reads and updates few rows.

use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

use super::adam::Step;
use kernels::matrix::{flat, flat_mut};
use runtime::draw::uniform;
use runtime::error::Result;
use runtime::memory;
use runtime::team::Team;

/// Number of parts that are updated in parallel; each row belongs to one of them.
const PARTS: usize = 16;
const NONE: u32 = u32::MAX;

/// Adds `scale` times row `from` of a matrix of gradients to the gradient of row `row` of the table.
#[derive(Clone, Copy, Debug)]
pub struct Touch {
    pub row: u32,
    pub from: u32,
    pub scale: f32,
}

pub struct Table {
    /// [rows, width]
    pub values: Array2<f32>,
    first: Array2<f32>,
    second: Array2<f32>,
    /// [rows]: during a step, the position of each row's gradient sum.
    slots: Vec<u32>,
}

impl Table {
    /// Uniform values up to `scale`.
    pub fn new(rows: usize, width: usize, scale: f32, seed: u64) -> Result<Self> {
        let zeros = || memory::matrix(rows, width, 0f32);
        let mut values = zeros()?;
        if scale > 0.0 {
            values.iter_mut().enumerate().for_each(|(i, x)| *x = scale * uniform(seed, i as u64));
        }
        Ok(Self { values, first: zeros()?, second: zeros()?, slots: memory::filled(NONE, rows)? })
    }

    pub fn rows(&self) -> usize {
        self.slots.len()
    }

    pub fn width(&self) -> usize {
        self.values.ncols()
    }

    pub fn row(&self, row: u32) -> &[f32] {
        &flat(self.values.view())[row as usize * self.width()..][..self.width()]
    }

    /// Moves the rows that `touches` name against the sums of what each of them is given by `gradients` [_, width], with
    /// `decay` times their values added. Rows that are not named keep their moments ("lazy" Adam).
    pub fn update(
        &mut self,
        team: &Team,
        touches: &[Touch],
        gradients: ArrayView2<f32>,
        step: Step,
        decay: f32,
    ) -> Result<()> {
        team.check()?;
        let width = self.width();
        if width == 0 || touches.is_empty() {
            return Ok(());
        }
        let rows = self.rows().div_ceil(PARTS).max(1);
        let gradients = flat(gradients);
        let [x, m, v] = [&mut self.values, &mut self.first, &mut self.second]
            .map(|matrix| flat_mut(matrix.view_mut()).par_chunks_mut(rows * width));
        let parts = x.zip(m).zip(v).zip(self.slots.par_chunks_mut(rows));
        parts.enumerate().for_each(|(part, (((values, first), second), slots))| {
            let start = part * rows;
            let (mut touched, mut sums) = (Vec::new(), Vec::<f32>::new());
            for touch in touches {
                let Some(local) = (touch.row as usize).checked_sub(start).filter(|&local| local < slots.len()) else {
                    continue;
                };
                let gradient = &gradients[touch.from as usize * width..][..width];
                if slots[local] == NONE {
                    slots[local] = touched.len() as u32;
                    touched.push(local);
                    sums.extend(gradient.iter().map(|g| touch.scale * g));
                } else {
                    let sum = &mut sums[slots[local] as usize * width..][..width];
                    sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += touch.scale * g);
                }
            }
            for (&local, sum) in touched.iter().zip(sums.chunks_exact_mut(width)) {
                slots[local] = NONE;
                let at = local * width..(local + 1) * width;
                sum.iter_mut().zip(&values[at.clone()]).for_each(|(sum, x)| *sum += decay * x);
                step.update(&mut values[at.clone()], sum, &mut first[at.clone()], &mut second[at]);
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;
    use runtime::progress::Unwatched;
    use runtime::team;

    #[test]
    fn rows_move_by_the_sums_of_their_gradients_and_others_stay() {
        let mut table = Table::new(40, 3, 0.5, 1).unwrap();
        let before = table.values.clone();
        let gradients = array![[1.0, -1.0, 0.0], [2.0, 0.0, -3.0]];
        let touch = |row, from, scale| Touch { row, from, scale };
        let touches = [touch(7, 0, 1.0), touch(39, 1, 0.5), touch(7, 1, -0.5)];
        team::run(2, &Unwatched, "test", 1, |team| {
            table.update(team, &touches, gradients.view(), Step::new(0.01, 1), 0.0)
        })
        .unwrap();
        // The first step of Adam moves by the rate, against the sign: row 7 has gradients 0, −1, 1.5.
        let moved: Vec<f32> = table.values.iter().zip(&before).map(|(a, b)| a - b).collect();
        assert!(moved.iter().enumerate().all(|(i, &by)| (i / 3 == 7 || i / 3 == 39) || by == 0.0));
        let close = |row: usize, expected: [f32; 3]| {
            assert!(moved[row * 3..][..3].iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4), "{row}");
        };
        close(7, [0.0, 0.01, -0.01]);
        close(39, [-0.01, 0.0, 0.01]);
    }
}
