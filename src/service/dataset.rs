//! The training data of a recommender: a source of interactions, and features of items and users.

use serde_json::{Value, json};

use crate::pg::foreign::InAnothersName;
use crate::pg::identity::ReadOnly;
use crate::pg::row::{AttributeValue, Kind, Wanted, optional, required};
use crate::pg::settings;
use crate::pg::source::Source;
use crate::service::history;
use interactions::{Encoder, FeatureTable, Features, Interactions, InteractionsBuilder, Signals};
use onnx::IdTable;
use recommendation::Training;
use runtime::error::{Error, Result};
use runtime::progress::Progress;

/// The columns of an interaction, for training and evaluation.
pub const INTERACTION: [Wanted; 5] = [
    required("user_id", Kind::Id),
    required("item_id", Kind::Id),
    optional("weight", Kind::Number),
    optional("ts", Kind::Time),
    optional("event", Kind::Text),
];

/// The queries to read, and the weights of their rows.
#[derive(Clone, Debug, Default)]
pub struct Queries {
    pub source: String,
    pub items: Option<String>,
    pub users: Option<String>,
    pub signals: Signals,
    /// Whether the source will later be queried for single users. If so, that is checked before it is read.
    pub served: bool,
}

/// The error for a query of the argument `what` that returns no rows.
pub fn empty_query(what: &str) -> Error {
    match what {
        "source" => Error::EmptySource(String::new()),
        what => Error::invalid(
            format!("query for argument \"{what}\" returned no rows"),
            "The query must return at least one row that the current role can see.",
        ),
    }
}

pub struct Dataset {
    pub interactions: Interactions,
    pub items: Option<Features>,
    pub users: Option<Features>,
    /// What later reads of the same queries need: types of ids, columns, signals.
    pub config: Value,
}

impl Dataset {
    /// Runs the queries with the caller's privileges.
    pub fn read(queries: &Queries, progress: &dyn Progress) -> Result<Self> {
        // The same restrictions as when serving, so that a source that would fail then fails now.
        let _as_when_served = queries.served.then(|| (ReadOnly::begin(), InAnothersName::begin()));
        let mut signals = queries.signals.clone();
        let rows = Source::open(&queries.source, &INTERACTION)?;
        let (has_weight, has_time) = (rows.has(2), rows.has(3));
        for (needed, column, number) in [(signals.needs_time(), "ts", 3), (signals.needs_event(), "event", 4)] {
            if needed && !rows.has(number) {
                return Err(Error::MissingColumn { column: column.into(), found: rows.names() });
            }
        }
        let mut config = json!({
            "user_id_type": rows.id_type(0).name(),
            "item_id_type": rows.id_type(1).name(),
            "has_weight": has_weight,
        });
        if queries.served {
            history::check(&queries.source, has_weight, &signals)?;
        }
        let mut builder = InteractionsBuilder::new();
        rows.read(progress, |row| {
            let weight = if has_weight { row.number(2)? } else { 1.0 };
            let event = if signals.needs_event() { row.text(4)? } else { None };
            let weight = signals.weight(weight, event) as f32;
            let time = if has_time { Some(signals.time(row.time(3), builder.rows() + 1)?) } else { None };
            builder.push(row.id(0)?, row.id(1)?, weight, time)
        })?;
        signals.apply(&mut builder);
        config["signals"] = serde_json::to_value(&signals).map_err(|e| Error::Internal(e.to_string()))?;

        let mut items = None;
        if let Some(query) = &queries.items {
            let table =
                read_features(query, required("item_id", Kind::Id), "items", progress, |id| builder.know_item(id))?;
            config["items"] = query.as_str().into();
            items = Some(table);
        }
        let mut users = None;
        if let Some(query) = &queries.users {
            let table =
                read_features(query, required("user_id", Kind::Id), "users", progress, |id| builder.know_user(id))?;
            config["users"] = query.as_str().into();
            users = Some(table);
        }
        let interactions = builder.finish_watched(progress)?;
        let encode = |table: Option<FeatureTable>, ids: &IdTable| {
            progress.check()?;
            table.map(|table| Encoder::fit(&table, &|| progress.check())?.encode(&table, ids)).transpose()
        };
        let items = encode(items, &interactions.item_ids)?;
        let users = encode(users, &interactions.user_ids)?;
        Ok(Self { interactions, items, users, config })
    }

    pub fn training<'a>(&'a self, progress: &'a dyn Progress) -> Training<'a> {
        Training {
            interactions: &self.interactions,
            item_features: self.items.as_ref(),
            user_features: self.users.as_ref(),
            previous: None,
            threads: settings::threads(),
            progress,
        }
    }
}

/// Reads a query of features, with one row for each id, and calls `know` with each id.
fn read_features(
    query: &str,
    id: Wanted,
    what: &'static str,
    progress: &dyn Progress,
    mut know: impl FnMut(interactions::Id) -> Result<()>,
) -> Result<FeatureTable> {
    let (rows, attributes) = Source::open_with_attributes(what, query, id)?;
    let mut table = FeatureTable::new(attributes.iter().map(|a| (a.name.clone(), a.kind)).collect());
    let mut values = Vec::with_capacity(attributes.len());
    rows.read(progress, |row| {
        values.clear();
        for attribute in &attributes {
            values.push(row.attribute(attribute)?);
        }
        let borrowed: Vec<_> = values.iter().map(AttributeValue::as_value).collect();
        let id = row.id(0)?;
        know(id)?;
        table.push(id, &borrowed)
    })?;
    Ok(table)
}
