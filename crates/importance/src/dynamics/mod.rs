//! Training dynamics: scores from how small networks learn a row. Several methods observe one training.
//!
//! `runs` networks with one hidden layer of rectified linear units, each with its own seed, are trained by stochastic gradient
//! descent with momentum 0.9 and weight decay 5e-4. After each epoch e = 1 … E every row is assessed. Let p be its predicted
//! probabilities, y its one-hot label, z its logits and g the gradient of its loss with respect to all weights of both layers:
//!
//! | method | score | mean over | paper |
//! |---|---|---|---|
//! | `loss` | −(−ln p_y) | epochs, runs | |
//! | `el2n` | −‖p − y‖ after epoch `el2n_epoch` | runs | Paul, Ganguli, Dziugaite 2021, def. 2.4 |
//! | `grad_norm` | −‖g‖ after epoch `grad_norm_epoch` | runs | the same, def. 2.1 (GraNd) |
//! | `aum` | z_y − max of the other z | epochs, runs | Pleiss et al. 2020, eq. 1 and 2 |
//! | `forgetting` | −number of times it turned from right to wrong; −E if never right | runs | Toneva et al. 2019, def. 3.1 |
//! | `tracin` | −Σ_e η‖g‖² | runs | Pruthi et al. 2020, TracInCP, self-influence |
//! | `tracin` with validation rows | Σ_e η g·ḡ, ḡ the gradient of their mean loss | runs | the same |
//!
//! A low score means that the other rows do not support the row: its label is wrong, or it is unlike all others. With validation
//! rows, `tracin` below 0 means that the row's steps raise their loss. At initialisation GraNd does not depend on the labels, which
//! the weights have not seen yet; it is therefore measured late in training.
//!
//! For numeric labels the network has one linear output and minimises half the squared error, in standard deviations of the labels;
//! `el2n` is the absolute error. Residuals are clipped at 3 deviations in training. `aum` and `forgetting` need classes.
//!
//! Rows are scaled down together where their mean squared length exceeds 64. A network that diverges starts again at a quarter of the
//! learning rate; four failures are an error.
//!
//! Time: an epoch takes about 6 · `hidden` · (non-zero features) multiplications, twice that with `tracin` or where the classes
//! outnumber the features. Networks train in parallel, one per thread. Memory: 4 bytes per row and method and 12 · `hidden` bytes per
//! feature for each network in training; 8 bytes per row and method overall.

mod observer;
mod runs;

pub use observer::{Epochs, Observer, Run, Seen, Tally};
pub use runs::score;

#[cfg(test)]
mod tests;
