//! More rows without training: each new row is made of one or two rows of the source.
//!
//! | method | numbers | categories | source |
//! |---|---|---|---|
//! | `smote` | between a row and one of its k nearest of its class, at a place drawn evenly | none but the label | Chawla et al. 2002 |
//! | `smote_nc` | the same | what most of the k neighbours have, of several one drawn | Chawla et al. 2002, 6.1 |
//! | `adasyn` | as `smote_nc`, from rows drawn by the share of other classes among their k nearest of all rows | as `smote_nc` | He et al. 2008 |
//! | `mixup` | λ x + (1 − λ) y of two rows drawn, λ from Beta(α, α) | of one of the two, with these probabilities | Zhang et al. 2018 |
//! | `jitter` | normal noise of a share of the column's deviation; what a twentieth of all rows have stays | another row's of the class, at times | – |
//! | `bootstrap` | a row's | a row's | Efron 1979 |
//!
//! A class is what rows have in the label, a category; NULL is one too. A row has the label of the row that weighs most in it.
//! A label of numbers is mixed by `mixup` as any number is, kept by `jitter`, and refused by methods that need classes.
//! Without a label all rows are one class.
//!
//! Where one of two numbers is NULL, the new one is one of the two, with the weights as probabilities; what is far from NULL
//! says `measure`. The one row of a class has no neighbours: its numbers are jittered, its categories kept. Of a class of
//! more than a million (2²⁰) rows as many, drawn evenly, are used.
//!
//! [`Augmenter::block`] makes rows by blocks that depend on the seed alone, so that any number of them streams. Neighbours are exact, and
//! searched when a row is first drawn, and kept: 4 k bytes a row.

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
