//! Where candidates come from: the interface of the methods.

use serde_json::Value;

use interactions::Interactions;
use recommendation::Model;
use runtime::error::Result;
use runtime::options::Options;
use runtime::progress::Progress;

/// A method: it says which pairs are likely.
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

/// What the options of all methods say; a method reads its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Number of nearest users, or items.
    pub neighbors: usize,
    /// Options of a Mult-VAE.
    pub training: Value,
}

/// What pairs are made for.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    pub interactions: &'a Interactions,
    /// For methods that need one.
    pub model: Option<&'a Model>,
    pub seed: u64,
    pub threads: usize,
    pub progress: &'a dyn Progress,
}

/// Candidates of some users, or of some items: `z` and the other side of the pair.
pub type Candidates = Vec<Vec<(f32, u32)>>;

/// Where `z` comes from. Each is asked for some users, or items, with the number of candidates wanted of each, and gives none that exists.
pub trait Source {
    fn of_users(&self, task: &Task, asked: &[(u32, usize)]) -> Result<Candidates>;
    fn of_items(&self, task: &Task, asked: &[(u32, usize)]) -> Result<Candidates>;
}
