//! Small networks of one hidden layer on sparse rows: their layers, their training, and what they predict.

mod finding;
mod held_out;
mod network;
mod targets;
mod training;

pub use finding::Finding;
pub use held_out::Networks;
pub use network::{BLOCK, Inputs, Wanted, assess};
pub use targets::Targets;
pub use training::{Descent, Training, learning_rates};

#[cfg(test)]
mod tests;
