//! The scores of several methods at once.

use crate::dynamics::{self, Observer};
use crate::method::Computation;
use crate::registry::Method;
use crate::task::Task;
use runtime::error::{Error, Result};
use runtime::options::Options;
use runtime::pool::with_pool;

/// Scores [methods, rows]. Methods that observe the training of small networks share one training.
///
/// # Errors
///
/// A method that needs validation rows or classes is refused before any work is done where the task lacks them.
pub fn score(methods: &[Method], task: &Task, options: &mut Options) -> Result<Vec<Vec<f64>>> {
    methods.iter().try_for_each(|method| check_needs(*method, task))?;
    let observers: Vec<&dyn Observer> = methods
        .iter()
        .filter_map(|method| match method.computation() {
            Computation::Training(observer) => Some(observer),
            Computation::Alone(_) => None,
        })
        .collect();
    with_pool(task.threads, |_| computed(methods, &observers, task, options))
}

fn computed(
    methods: &[Method],
    observers: &[&dyn Observer],
    task: &Task,
    options: &mut Options,
) -> Result<Vec<Vec<f64>>> {
    let observed = if observers.is_empty() { Vec::new() } else { dynamics::score(observers, task, options)? };
    let mut observed = observed.into_iter();
    let mut scores = Vec::with_capacity(methods.len());
    for method in methods {
        task.progress.check()?;
        scores.push(match method.computation() {
            Computation::Alone(score) => score(task, options)?,
            Computation::Training(_) => {
                observed.next().ok_or_else(|| Error::Internal("a method has no scores".into()))?
            }
        });
    }
    Ok(scores)
}

fn check_needs(method: Method, task: &Task) -> Result<()> {
    if method.needs_validation() {
        task.validation_for(method.name())?;
    }
    if method.needs_classes() && task.samples.labels.classes().is_none() {
        let others = Method::names(|other| !other.needs_classes());
        return Err(Error::Unsupported {
            algorithm: method.name(),
            what: "numeric labels",
            hint: format!("It compares classes. For a label of numbers use one of: {others}."),
        });
    }
    Ok(())
}
