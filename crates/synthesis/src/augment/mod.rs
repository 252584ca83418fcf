//! New rows without training: each is made of one or two rows of the source.
//!
//! | method | numbers | categories | source |
//! |---|---|---|---|
//! | `smote` | between a row and one of its k nearest of the same class, uniformly | none but the label | Chawla et al. 2002 |
//! | `smote_nc` | as `smote` | the most frequent of the k neighbours, ties drawn | Chawla et al. 2002, 6.1 |
//! | `adasyn` | as `smote_nc`, from rows drawn by the share of other classes among their k nearest of all rows | as `smote_nc` | He et al. 2008 |
//! | `mixup` | λ x + (1 − λ) y of two drawn rows, λ from Beta(α, α) | one of the two, with these probabilities | Zhang et al. 2018 |
//! | `jitter` | normal noise, a share of the column's deviation; values of 5 % of all rows and more stay | sometimes another row's of the class | – |
//! | `bootstrap` | a row's | a row's | Efron 1979 |
//!
//! A class is a value of the label, which is a category; NULL is a class too. A new row has the label of the row with
//! the greater weight. `mixup` mixes a label of numbers as any number, `jitter` keeps it, and methods that need classes
//! refuse it. Without a label all rows are one class.
//!
//! If one of two numbers is NULL, the new one is either, with the weights as probabilities; `measure` defines the
//! distance from NULL. The only row of a class has no neighbours: its numbers are jittered and its categories kept. Of
//! a class with more than 2²⁰ rows, 2²⁰ evenly drawn ones are used.
//!
//! [`Augmenter::block`] makes blocks of rows that depend only on the seed, so any number of rows can be streamed.
//! Neighbours are exact. They are searched when a row is first drawn, and kept: 4 k bytes a row.

mod augmentation;
mod augmenter;
mod beta;
mod bootstrap;
mod class;
mod columns;
mod jitter;
mod measure;
mod mixup;
mod neighbours;
mod pick;
mod registry;
mod smote;

pub use augmentation::Augmentation;
pub use augmenter::Augmenter;
pub use class::balanced_counts;
pub use registry::by_name;

#[cfg(test)]
mod tests;
