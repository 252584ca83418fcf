//! Typed views and functions over a recommender, for BI tools and services.

use pgrx::Spi;
use pgrx::prelude::*;

use super::list_length;
use super::recommendation::{is_live, with_recommender};
use crate::error::{Error, Result};
use crate::pg::catalog;
use crate::pg::errors;
use crate::pg::history;
use crate::pg::ids::IdType;
use crate::pg::interrupts::Statement;

#[pg_extern(sql = false)]
fn create_view(model: &str, view: &str, k: i32, history: &str) -> errors::Result<()> {
    catalog::require_writable();
    list_length(k)?;
    is_live(history)?;
    let types = id_types(model)?;
    let query = format!(
        "CREATE VIEW {} AS
         SELECT users.user_id::{} AS user_id, list.rank, list.item_id::{} AS item_id, list.score
           FROM reco.model_users({model}) AS users(user_id)
          CROSS JOIN LATERAL reco.recommend({model}, users.user_id, {k}, history => {}) AS list",
        object_name(view)?,
        types.0,
        types.1,
        pgrx::spi::quote_literal(history),
        model = pgrx::spi::quote_literal(model),
    );
    Ok(Spi::run(&query).map_err(Error::from)?)
}

#[pg_extern(sql = false)]
fn create_function(model: &str, function: &str, k: i32, history: &str) -> errors::Result<()> {
    catalog::require_writable();
    list_length(k)?;
    is_live(history)?;
    let types = id_types(model)?;
    let body = format!(
        "SELECT list.rank, list.item_id::{}, list.score
           FROM reco.recommend({}, user_id, k, history => {}) AS list",
        types.1,
        pgrx::spi::quote_literal(model),
        pgrx::spi::quote_literal(history),
    );
    let query = format!(
        "CREATE FUNCTION {}(user_id {}, k integer DEFAULT {k})
         RETURNS TABLE (rank integer, item_id {}, score real)
         LANGUAGE sql STABLE STRICT ROWS 10 AS {}",
        object_name(function)?,
        types.0,
        types.1,
        pgrx::spi::quote_literal(body),
    );
    Ok(Spi::run(&query).map_err(Error::from)?)
}

/// The SQL types of the model's user and item ids.
fn id_types(model: &str) -> Result<(&'static str, &'static str)> {
    with_recommender(model, &Statement::new("create_view", model), |recommender| {
        let type_of = |t: Option<IdType>| t.map_or("text", |t| t.name());
        Ok((type_of(history::user_id_type(recommender)), type_of(history::item_id_type(recommender))))
    })
}

/// A name as the user writes it, perhaps with a schema, quoted where it must be.
fn object_name(name: &str) -> Result<String> {
    let quoted: Option<String> = Spi::get_one_with_args(
        "SELECT pg_catalog.string_agg(pg_catalog.quote_ident(part), '.') FROM pg_catalog.unnest(pg_catalog.parse_ident($1)) AS part",
        &[name.into()],
    )?;
    quoted.ok_or_else(|| Error::argument("name", format!("\"{name}\""), "Give a name, as in sales.top_items."))
}
