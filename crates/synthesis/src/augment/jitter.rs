//! `jitter`: normal noise on numbers, and categories that are sometimes another row's of the same class.

use super::augmentation::{Augmentation, Settings};
use super::columns::{CodeColumn, NumberColumn};
use super::pick::Pick;
use runtime::error::Result;
use runtime::options::Options;

pub struct Jitter;

impl Augmentation for Jitter {
    fn name(&self) -> &'static str {
        "jitter"
    }

    fn settings(&self, options: &mut Options) -> Result<Settings> {
        Ok(Settings {
            noise: f64::from(options.float("noise", 0.1, 0.0, 10.0)?),
            resample: f64::from(options.float("resample", 0.05, 0.0, 1.0)?),
            keeps_spikes: true,
            ..Settings::default()
        })
    }

    fn number(&self, column: &NumberColumn, pick: &Pick) -> f64 {
        if column.is_label { column.base(pick) } else { column.jittered(pick) }
    }

    fn code(&self, settings: &Settings, column: &mut CodeColumn, pick: &Pick) -> u32 {
        if column.uniform(pick) < settings.resample { column.resampled(pick) } else { column.base(pick) }
    }
}
