//! What every method of interaction importance provides.

use super::task::Task;
use runtime::error::Result;
use runtime::options::Options;

/// A way to score a recommender's interactions. Higher is more valuable.
pub trait InteractionMethod: Sync {
    fn name(&self) -> &'static str;

    /// Whether it has no score without held-out pairs.
    fn needs_validation(&self) -> bool {
        false
    }

    /// Reads the options, before any work is done.
    fn plan(&self, options: &mut Options) -> Result<Box<dyn Plan>>;
}

/// A method with its options.
pub trait Plan {
    /// A score for each entry of the task's `by_user`.
    fn score(&self, task: &Task) -> Result<Vec<f64>>;
}
