//! Whether weights help: the same learner trained with and without them, evaluated on the same held-out rows, with several seeds.
//!
//! For each seed a random share of the rows is held out. One model is trained on the rest without weights, another with them; rows of
//! weight 0 are left out. Both are evaluated on the held-out rows, or on the rows of a test query where one is given. The interval of
//! the mean difference over the seeds is Student's.

mod comparison;
mod interactions;
mod rows;

pub use comparison::{Comparison, Repeats};
pub use interactions::compare_recommenders;
pub use rows::compare_rows;

#[cfg(test)]
mod tests;
