//! More interactions for users and items that have few: pairs that did not happen but are likely, with weights below the real ones.
//!
//! Who gets them: users with fewer than `max_history` interactions and items with fewer than `max_users` users (by default the
//! medians), each in proportion to what is missing, and never more than that. Which: of each, `candidates` pairs with the highest
//! `z_ui` that do not exist, of which as many as are wanted are drawn without replacement by `P ∝ exp(z_ui / temperature)`
//! (the greatest of `z_ui / temperature` and Gumbel noise: Efraimidis and Spirakis 2006; Vieira 2014). `z` is
//!
//! - `mult_vae`: `ln π_i(u)`, the multinomial of a Mult-VAE trained on the same interactions (Liang and others, WWW 2018); for an item
//!   standardised over its users;
//! - `model`: a trained recommender's score of the item for the user's history folded in, standardised over the user's scores of all
//!   items, or, for an item, over all users' scores of it;
//! - `neighbors`: for a user `ln Σ_v cos(u, v)` over the nearest users who have the item; for an item `ln Σ_j cos(i, j)`
//!   over the nearest items that the user has.
//!
//! A pair's weight is `weight · exp((z − z_best) / temperature)` times the least weight that the user gave: below all real ones.
//! `z_best` is that of the best candidate of the user, or of the item.
//!
//! The same seed and interactions give the same pairs on any number of threads. With a model a user costs one scan of the items,
//! and where items are to have pairs, every user does; memory is `candidates` times 8 bytes for each of those items.

mod choose;
mod neighbors;
mod registry;
mod scored;
mod shares;
mod source;

use serde_json::Value;

use kernels::Csr;
use runtime::error::Result;
use runtime::memory;
use runtime::options::Options;
use runtime::sorting::sort_watched;
use source::{Settings, Source};

pub use registry::by_name;
pub use source::{Augmentation, Task};

/// Users whose candidates are in memory at a time.
const USERS: usize = 1 << 13;
/// The same of items, for each batch of which every user is scored.
const ITEMS: usize = 1 << 17;

/// A method with its options.
#[derive(Clone)]
pub struct Plan {
    method: &'static dyn Augmentation,
    /// Users with fewer interactions get some; the median where there is none.
    max_history: Option<usize>,
    max_users: Option<usize>,
    /// Share of the pairs that are for items.
    items: f64,
    /// Greatest weight of a pair, as a share of the least that its user gave.
    weight: f64,
    temperature: f64,
    candidates: usize,
    settings: Settings,
}

impl Plan {
    pub fn read(method: &'static dyn Augmentation, options: &mut Options) -> Result<Self> {
        let optional = |options: &mut Options, name: &str| -> Result<Option<usize>> {
            if options.given(name).is_none() {
                options.record(name, Value::Null);
                return Ok(None);
            }
            options.integer(name, 1, 1, 1 << 40).map(|n| Some(n as usize))
        };
        let max_history = optional(options, "max_history")?;
        let max_users = optional(options, "max_users")?;
        Ok(Self {
            method,
            max_history,
            max_users,
            items: options.float("items", 0.3, 0.0, 1.0)?.into(),
            weight: options.float("weight", 0.3, 1e-3, 0.99)?.into(),
            temperature: options.float("temperature", 0.5, 1e-3, 1e3)?.into(),
            candidates: options.integer("candidates", 100, 1, 1 << 20)? as usize,
            settings: method.settings(options)?,
        })
    }
}

/// A user and an item of the interactions, and how much the pair should count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    pub user: u32,
    pub item: u32,
    pub weight: f32,
}

/// Up to `n` new pairs, in order of their users and items: fewer where no more fit, or where nothing is known to draw from.
pub fn augment(plan: &Plan, task: &Task, n: usize) -> Result<Vec<Pair>> {
    from_source(plan, task, n, &*plan.method.open(&plan.settings, task)?)
}

fn from_source(plan: &Plan, task: &Task, n: usize, source: &dyn Source) -> Result<Vec<Pair>> {
    let by_user = &task.interactions.by_user;
    let by_item = by_user.transpose(task.progress)?;
    let room_of_users = shares::room(by_user, plan.max_history)?;
    let room_of_items = shares::room(&by_item, plan.max_users)?;
    let (of_users, of_items) = shares::split(n, plan.items, &room_of_users, &room_of_items);
    let users = shares::proportional(&room_of_users, of_users)?;
    let items = shares::proportional(&room_of_items, of_items)?;
    let total = of_users + of_items;
    let least = least_weights(by_user)?;

    let mut pairs: Vec<Pair> = Vec::new();
    for asked in users.chunks(USERS) {
        task.progress.report("pairs made", pairs.len(), total);
        let lists = source.of_users(task, &wanted(asked, plan.candidates))?;
        for (&(user, count), list) in asked.iter().zip(lists) {
            let chosen = choose::drawn(&list, count, plan.temperature, task.seed, |item| (user, item));
            for (share, item) in chosen {
                let weight = weight(plan.weight, share, least[user as usize]);
                memory::push(&mut pairs, Pair { user, item, weight })?;
            }
        }
    }
    let order = |a: &Pair, b: &Pair| (a.user, a.item).cmp(&(b.user, b.item));
    sort_watched(&mut pairs, &|| task.progress.check(), order)?;
    let made = pairs.len();
    for asked in items.chunks(ITEMS) {
        task.progress.report("pairs made", pairs.len(), total);
        let lists = source.of_items(task, &wanted(asked, plan.candidates))?;
        for (&(item, count), mut list) in asked.iter().zip(lists) {
            list.retain(|&(_, user)| {
                pairs[..made].binary_search_by_key(&(user, item), |pair| (pair.user, pair.item)).is_err()
            });
            let chosen = choose::drawn(&list, count, plan.temperature, task.seed, |user| (user, item));
            for (share, user) in chosen {
                let weight = weight(plan.weight, share, least[user as usize]);
                memory::push(&mut pairs, Pair { user, item, weight })?;
            }
        }
    }
    sort_watched(&mut pairs, &|| task.progress.check(), order)?;
    Ok(pairs)
}

/// As many candidates as are to be drawn from.
fn wanted(asked: &[(u32, usize)], candidates: usize) -> Vec<(u32, usize)> {
    asked.iter().map(|&(row, count)| (row, count.max(candidates))).collect()
}

/// Above 0 and below `least`, however small they are.
fn weight(most: f64, share: f64, least: f32) -> f32 {
    ((most * share * f64::from(least)) as f32).max(least * 1e-6).max(f32::from_bits(1))
}

/// [rows]: the least weight in each.
fn least_weights(matrix: &Csr) -> Result<Vec<f32>> {
    let mut least = memory::filled(f32::INFINITY, matrix.rows())?;
    for (row, least) in least.iter_mut().enumerate() {
        *least = matrix.row(row).1.iter().copied().fold(f32::INFINITY, f32::min);
    }
    Ok(least)
}

#[cfg(test)]
mod tests;
