//! `mixup`: λ x + (1 − λ) y of two rows, λ from Beta(α, α) (Zhang et al. 2018).

use super::augmentation::{Augmentation, Partner, Settings};
use super::beta;
use super::columns::CodeColumn;
use super::pick::Pick;
use runtime::error::Result;
use runtime::options::Options;

pub struct Mixup;

impl Augmentation for Mixup {
    fn name(&self) -> &'static str {
        "mixup"
    }

    fn settings(&self, options: &mut Options) -> Result<Settings> {
        Ok(Settings { alpha: f64::from(options.float("alpha", 0.2, 0.001, 1000.0)?), ..Settings::default() })
    }

    fn partner(&self, settings: &Settings, seed: u64) -> Partner {
        let share = beta::symmetric(settings.alpha, seed);
        // The base, whose class was asked for, weighs more.
        Partner::Any(share.min(1.0 - share))
    }

    fn code(&self, _settings: &Settings, column: &mut CodeColumn, pick: &Pick) -> u32 {
        if column.uniform(pick) < pick.weight { column.other(pick) } else { column.base(pick) }
    }
}
