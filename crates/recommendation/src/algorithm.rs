//! What a recommender is: something that trains on interactions, and serves what it has trained.

use serde_json::Value;

use super::ranker::Ranker;
use super::training::{Parts, Training};
use onnx::stored::Files;
use runtime::error::{Error, Result};
use runtime::options::Options;
use runtime::progress::Progress;

/// A recommender, as [`registry`](super::registry) lists it.
pub trait Algorithm: Sync {
    /// The name in SQL, and in the files of its models.
    fn name(&self) -> &'static str;

    /// Whether training draws at random, so that there is an option `seed`.
    fn is_stochastic(&self) -> bool {
        true
    }

    /// Whether `hybrid` takes it as a component: it scores the items for a history by itself.
    fn is_component(&self) -> bool {
        true
    }

    /// Trains on `training`. The same interactions, features and options give the same bytes on any number of threads.
    fn train(&self, training: &Training, options: Options) -> Result<Parts>;

    /// Opens what serves from the tensors in `files`, of a model of `users` and `items` trained with `options`.
    fn open(&self, files: &Files, options: &Value, users: usize, items: usize) -> Result<Box<dyn Ranker>>;
}

impl dyn Algorithm + '_ {
    /// Trains with `options`: a JSON object, or null for the defaults.
    pub fn train_with(&self, training: &Training, options: &Value) -> Result<Parts> {
        self.train(training, Options::new(self.name(), options)?)
    }

    /// An error where training with these options would begin with one. Trains nothing: the work is canceled at its first check.
    pub fn check_options(&self, training: &Training, options: &Value) -> Result<()> {
        struct Stop;
        impl Progress for Stop {
            fn check(&self) -> Result<()> {
                Err(Error::Canceled)
            }
        }
        match self.train_with(&Training { progress: &Stop, ..*training }, options) {
            Ok(_) | Err(Error::Canceled) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// An algorithm is its name.
impl PartialEq for dyn Algorithm + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl std::fmt::Debug for dyn Algorithm + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
