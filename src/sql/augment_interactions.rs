//! `reco.augment_interactions`: likely pairs for users and items that have few interactions.

use pgrx::prelude::*;
use serde_json::Value;

use super::given;
use super::recommendation::{as_recommender, recommender};
use crate::pg::errors;
use crate::pg::interrupts::Statement;
use crate::pg::json::JsonB;
use crate::pg::settings;
use crate::service::dataset::{Dataset, Queries};
use interactions::Interactions;
use runtime::error::{Error, Result};
use runtime::options::Options;
use synthesis::interactions::{Augmentation, Pair, Plan, Task, augment, by_name};

#[pg_extern(sql = false)]
fn augment_interactions(
    source: Option<&str>,
    n: Option<i64>,
    method: Option<&str>,
    model: Option<&str>,
    options: Option<JsonB>,
    seed: Option<i64>,
) -> errors::Result<TableIterator<'static, (String, String, f32)>> {
    let source = given(source, "source")?;
    let n = given(n, "n")?;
    let n = usize::try_from(n).map_err(|_| Error::argument("n", n, "The number of pairs must be 0 or more."))?;
    let method = by_name(given(method, "method")?)?;
    let seed = given(seed, "seed")? as u64;
    let options = options.map_or(Value::Null, |options| options.0);
    let mut options = Options::new(method.name(), &options)?;
    let plan = Plan::read(method, &mut options)?;
    options.finish()?;
    check_model(method, model)?;
    let statement = Statement::new("augment_interactions", model.unwrap_or_default());
    // Privileges on the model are checked before any row is read.
    let ready = model.map(|model| recommender(model, &statement)).transpose()?;
    let queries = Queries { source: source.into(), ..Queries::default() };
    let interactions = Dataset::read(&queries, &statement)?.interactions;
    let recommender = ready.as_ref().map(as_recommender).transpose()?;
    let task = Task {
        interactions: &interactions,
        model: recommender.map(|recommender| &recommender.model),
        seed,
        threads: settings::threads(),
        progress: &statement,
    };
    let pairs = augment(&plan, &task, n)?;
    let Interactions { user_ids, item_ids, .. } = interactions;
    Ok(TableIterator::new(pairs.into_iter().map(move |Pair { user, item, weight }| {
        let id = |id: Option<&str>| id.unwrap_or_default().to_owned();
        (id(user_ids.get(user)), id(item_ids.get(item)), weight)
    })))
}

fn check_model(method: &dyn Augmentation, model: Option<&str>) -> Result<()> {
    match (method.needs_model(), model) {
        (true, None) => {
            let hint = "Name a trained recommender, as in model => 'shop', or use the method mult_vae or neighbors.";
            let message = format!("method \"{}\" requires the argument \"model\"", method.name());
            Err(Error::invalid(message, hint))
        }
        (false, Some(model)) => {
            let message = format!("cannot use model \"{model}\" with method \"{}\"", method.name());
            Err(Error::invalid(message, "Omit model, or set method => 'model'."))
        }
        _ => Ok(()),
    }
}
