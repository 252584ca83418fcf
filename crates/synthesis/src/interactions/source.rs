//! The interface of the methods that propose candidates.

use serde_json::Value;

use interactions::Interactions;
use recommendation::Model;
use runtime::error::Result;
use runtime::options::Options;
use runtime::progress::Progress;

/// A method: it scores pairs.
pub trait Augmentation: Sync {
    fn name(&self) -> &'static str;

    /// Whether it draws from a trained recommender, [`Task::model`].
    fn needs_model(&self) -> bool {
        false
    }

    fn settings(&self, _options: &mut Options) -> Result<Settings> {
        Ok(Settings::default())
    }

    fn open<'a>(&self, settings: &Settings, task: &Task<'a>) -> Result<Box<dyn Source + 'a>>;
}

/// The options of all methods. Each method reads its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Number of nearest users, or items.
    pub neighbors: usize,
    /// Options of a Mult-VAE.
    pub training: Value,
}

/// What pairs are made from.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    pub interactions: &'a Interactions,
    /// For methods that need one.
    pub model: Option<&'a Model>,
    pub seed: u64,
    pub threads: usize,
    pub progress: &'a dyn Progress,
}

/// Candidates of some users or items: `z`, and the item or user of the pair.
pub type Candidates = Vec<Vec<(f32, u32)>>;

/// Proposes candidates for users or items. `asked` holds each with the number of candidates requested. No candidate is
/// an existing pair.
pub trait Source {
    fn of_users(&self, task: &Task, asked: &[(u32, usize)]) -> Result<Candidates>;
    fn of_items(&self, task: &Task, asked: &[(u32, usize)]) -> Result<Candidates>;
}
