//! Scores from how small networks learn a row: several of them come out of one pass.
//!
//! `runs` networks of one hidden layer of rectified linear units, each from a seed of its own, are trained by stochastic gradient
//! descent with momentum 0.9 and weight decay 5e-4. After each epoch e = 1 … E they are asked about every row. With p its
//! predicted probabilities, y its label (1 for its class), z the logits, g the gradient of its loss by all weights of both layers:
//!
//! | method | score | mean over | paper |
//! |---|---|---|---|
//! | `loss` | −(−ln p_y) | epochs, runs | |
//! | `el2n` | −‖p − y‖ after epoch `el2n_epoch` | runs | Paul, Ganguli, Dziugaite 2021, def. 2.4 |
//! | `grad_norm` | −‖g‖ after epoch `grad_norm_epoch` | runs | the same, def. 2.1 (GraNd) |
//! | `aum` | z_y − max of the other z | epochs, runs | Pleiss et al. 2020, eq. 1 and 2 |
//! | `forgetting` | −times from right to wrong; −E where never right | runs | Toneva et al. 2019, def. 3.1 |
//! | `tracin` | −Σ_e η‖g‖² | runs | Pruthi et al. 2020, TracInCP, of the row on itself |
//! | `tracin` with validation rows | Σ_e η g·ḡ, ḡ the gradient of their mean loss | runs | the same |
//!
//! Low means: the network is told something that the other rows do not bear out: a wrong label, or a row like no other. Of
//! `tracin` with validation rows, below 0 means that the row's steps raise their loss. At initialisation GraNd tells nothing of
//! labels: the weights have not seen one, and what it ranks is chance; hence an epoch late in training.
//!
//! Labels of numbers: one linear output, half the squared error in standard deviations of the labels; `el2n` is the absolute
//! error. A residual pulls with at most 3 deviations. `aum` and `forgetting` have no meaning there and are errors.
//!
//! Rows are scaled down together where their mean squared length is above 64. A network that diverges starts again at a quarter of the
//! learning rate; the fourth time is an error.
//!
//! Cost: a run's epoch takes about 6 · `hidden` · (features of the rows) multiplications, twice that with `tracin` or, with many
//! classes, where those outnumber the features. Networks train in parallel, one a thread. Memory: for each network under way 4 bytes
//! a row and method, and 12 · `hidden` bytes a feature; 8 bytes a row and method in all.

mod observer;
mod runs;

pub use observer::{Epochs, Observer, Run, Seen, Tally};
pub use runs::score;

#[cfg(test)]
mod tests;
