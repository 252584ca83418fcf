//! New interactions for users and items that have few: likely pairs that did not happen, with weights below the real
//! ones.
//!
//! Recipients are users with fewer than `max_history` interactions and items with fewer than `max_users` users (the
//! medians by default), each in proportion to what is missing, and never more than that. For each, the `candidates`
//! pairs with the highest `z_ui` that do not exist are considered, of which the requested number is drawn without
//! replacement by `P ∝ exp(z_ui / temperature)` (the largest of `z_ui / temperature` plus Gumbel noise: Efraimidis and
//! Spirakis 2006; Vieira 2014). `z` is
//!
//! - `mult_vae`: `ln π_i(u)`, the multinomial of a Mult-VAE trained on the same interactions (Liang et al., WWW 2018);
//!   for an item standardized over its users;
//! - `model`: a trained recommender's score of the item for the user's history folded in, standardized over the user's
//!   scores of all items, or, for an item, over all users' scores of it;
//! - `neighbors`: for a user `ln Σ_v cos(u, v)` over the nearest users who have the item; for an item `ln Σ_j cos(i,
//!   j)` over the nearest items that the user has.
//!
//! The weight of a pair is `weight · exp((z − z_best) / temperature)` times the user's lowest weight, and so below all
//! real ones. `z_best` is that of the best candidate of the user, or of the item.
//!
//! The same seed and interactions give the same pairs on any number of threads. With a model each user costs one scan
//! of the items; if items receive pairs, every user is scored. Memory is `candidates` times 8 bytes for each of those
//! items.

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
use runtime::pool::with_pool;
use runtime::sorting::sort_watched;
use source::{Settings, Source};

pub use registry::by_name;
pub use source::{Augmentation, Task};

/// Users whose candidates are in memory at a time.
const USERS: usize = 1 << 13;
/// Items whose candidates are in memory at a time. Every user is scored for each such batch.
const ITEMS: usize = 1 << 17;

/// A method with its options.
#[derive(Clone)]
pub struct Plan {
    method: &'static dyn Augmentation,
    /// Users with fewer interactions get pairs; `None` for the median.
    max_history: Option<usize>,
    max_users: Option<usize>,
    /// Share of the pairs that are made for items.
    items: f64,
    /// Maximum weight of a pair, as a share of its user's lowest weight.
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

/// A new pair: user and item of the interactions, and its weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    pub user: u32,
    pub item: u32,
    pub weight: f32,
}

/// Makes up to `n` new pairs, ordered by user and item: fewer if there is no room for more, or no candidates.
pub fn augment(plan: &Plan, task: &Task, n: usize) -> Result<Vec<Pair>> {
    with_pool(task.threads, |_| from_source(plan, task, n, &*plan.method.open(&plan.settings, task)?))
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

/// The number of candidates to ask for.
fn wanted(asked: &[(u32, usize)], candidates: usize) -> Vec<(u32, usize)> {
    asked.iter().map(|&(row, count)| (row, count.max(candidates))).collect()
}

/// The weight of a pair, above 0 and below `least` even if that is tiny.
fn weight(most: f64, share: f64, least: f32) -> f32 {
    ((most * share * f64::from(least)) as f32).max(least * 1e-6).max(f32::from_bits(1))
}

/// [rows]: the lowest weight.
fn least_weights(matrix: &Csr) -> Result<Vec<f32>> {
    let mut least = memory::filled(f32::INFINITY, matrix.rows())?;
    for (row, least) in least.iter_mut().enumerate() {
        *least = matrix.row(row).1.iter().copied().fold(f32::INFINITY, f32::min);
    }
    Ok(least)
}

#[cfg(test)]
mod tests;
