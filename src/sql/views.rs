//! Typed views and functions over a recommender, for BI tools and services.

use pgrx::Spi;
use pgrx::prelude::*;

use super::list_length;
use super::recommendation::{as_recommender, is_live, recommender_for};
use super::search::with_index;
use crate::pg::errors;
use crate::pg::errors::SpiResult;
use crate::pg::id_type::IdType;
use crate::pg::interrupts::Statement;
use crate::service::catalog;
use crate::service::catalog::{Entry, Privilege};
use crate::service::history;
use runtime::error::{Error, Result};

// The generated objects refer to their model by id, so that a later model of the same name, perhaps of another role, does not replace it.
// Every name in them is schema-qualified: the body of a SQL function is resolved under the caller's search_path.

#[pg_extern(sql = false)]
fn create_view(model: &str, view: &str, k: i32, history: &str) -> errors::Result<()> {
    catalog::require_writable();
    list_length(k)?;
    is_live(history)?;
    // The view shows the users of the model.
    let made_for = MadeFor::find(model, Privilege::Read, &Statement::new("create_view", model))?;
    let query = format!(
        "CREATE VIEW {} AS
         SELECT users.user_id::{} AS user_id, list.rank, list.item_id::{} AS item_id, list.score
           FROM reco.model_users({model}) AS users(user_id)
          CROSS JOIN LATERAL reco.recommend({model}, users.user_id, {k}, history => {}) AS list",
        object_name(view)?,
        made_for.user_id,
        made_for.item_id,
        pgrx::spi::quote_literal(history),
        model = made_for.model,
    );
    Ok(Spi::run(&query).spi()?)
}

#[pg_extern(sql = false)]
fn create_function(model: &str, function: &str, k: i32, history: &str) -> errors::Result<()> {
    catalog::require_writable();
    list_length(k)?;
    is_live(history)?;
    let made_for = MadeFor::find(model, Privilege::Serve, &Statement::new("create_function", model))?;
    let body = format!(
        "SELECT list.rank, list.item_id::{}, list.score
           FROM reco.recommend({}, user_id, k, history => {}) AS list",
        made_for.item_id,
        made_for.model,
        pgrx::spi::quote_literal(history),
    );
    let query = format!(
        "CREATE FUNCTION {}(user_id {}, k integer DEFAULT {k})
         RETURNS TABLE (rank integer, item_id {}, score real)
         LANGUAGE sql STABLE STRICT ROWS 10 AS {}",
        object_name(function)?,
        made_for.user_id,
        made_for.item_id,
        pgrx::spi::quote_literal(body),
    );
    Ok(Spi::run(&query).spi()?)
}

#[pg_extern(sql = false)]
fn create_search_function(model: &str, function: &str, k: i32) -> errors::Result<()> {
    catalog::require_writable();
    list_length(k)?;
    let statement = Statement::new("create_search_function", model);
    let (model, id) = with_index(model, Privilege::Serve, &statement, |index| {
        let id_type = index.entry.config["id_type"].as_str().and_then(IdType::from_name);
        Ok((by_id(&index.entry), id_type.unwrap_or(IdType::Text).qualified_name()))
    })?;
    let body = format!(
        "SELECT list.rank, list.id::{id}, list.score
           FROM reco.search({model}, query, k, user_id => user_id, rerank => rerank, \"offset\" => \"offset\") AS list"
    );
    let query = format!(
        "CREATE FUNCTION {}(query pg_catalog.text, k integer DEFAULT {k}, user_id pg_catalog.text DEFAULT NULL,
                            rerank pg_catalog.text DEFAULT NULL, \"offset\" integer DEFAULT 0)
         RETURNS TABLE (rank integer, id {id}, score real)
         LANGUAGE sql STABLE ROWS 10 AS {}",
        object_name(function)?,
        pgrx::spi::quote_literal(body),
    );
    Ok(Spi::run(&query).spi()?)
}

/// An expression for the name of a model, evaluated once in each query.
fn by_id(entry: &Entry) -> String {
    format!("(SELECT reco.model_name('{}'::pg_catalog.uuid))", entry.id)
}

/// How generated SQL refers to a model.
struct MadeFor {
    /// An expression for its name, evaluated once in each query.
    model: String,
    /// The SQL types of its users' and items' ids.
    user_id: &'static str,
    item_id: &'static str,
}

impl MadeFor {
    fn find(model: &str, privilege: Privilege, statement: &Statement) -> Result<Self> {
        let ready = recommender_for(model, privilege, statement)?;
        let recommender = as_recommender(&ready)?;
        let type_of = |t: Option<IdType>| t.unwrap_or(IdType::Text).qualified_name();
        Ok(Self {
            model: by_id(&recommender.entry),
            user_id: type_of(history::user_id_type(recommender)),
            item_id: type_of(history::item_id_type(recommender)),
        })
    }
}

/// A possibly qualified name, quoted where necessary.
fn object_name(name: &str) -> Result<String> {
    let quoted: Option<String> = Spi::get_one_with_args(
        "SELECT pg_catalog.string_agg(pg_catalog.quote_ident(part), '.') FROM pg_catalog.unnest(pg_catalog.parse_ident($1)) AS part",
        &[name.into()],
    ).spi()?;
    quoted.ok_or_else(|| {
        Error::argument("name", format!("\"{name}\""), "Pass a name, with or without a schema, as in sales.top_items.")
    })
}
