//! The options of `tvae`.

use runtime::error::Result;
use runtime::options::Options;

/// The options.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub epochs: usize,
    pub batch: usize,
    pub learning_rate: f32,
    pub loss_factor: f32,
    pub decay: f32,
    pub latent: usize,
    pub hidden: usize,
}

impl Settings {
    /// Reads and checks the options of `tvae`.
    pub fn read(options: &mut Options) -> Result<Settings> {
        Ok(Self {
            epochs: options.integer("epochs", 60, 1, 100_000)? as usize,
            batch: options.integer("batch_size", 500, 1, 65_536)? as usize,
            learning_rate: options.float("learning_rate", 3e-3, 1e-7, 1.0)?,
            loss_factor: options.float("loss_factor", 2.0, 1e-3, 1e3)?,
            decay: options.float("weight_decay", 1e-5, 0.0, 1.0)?,
            latent: options.integer("latent", 32, 1, 1024)? as usize,
            hidden: options.integer("hidden", 128, 1, 4096)? as usize,
        })
    }
}
