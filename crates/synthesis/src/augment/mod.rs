//! More rows without training: each new row is made of one or two rows of the source.
//!
//! | method | numbers | categories | source |
//! |---|---|---|---|
//! | `smote` | between a row and one of its k nearest of its class, at a place drawn evenly | none but the label | Chawla et al. 2002 |
//! | `smote_nc` | the same | what most of the k neighbours have, of several one drawn | Chawla et al. 2002, 6.1 |
//! | `adasyn` | as `smote_nc`, from rows drawn by the share of other classes among their k nearest of all rows | as `smote_nc` | He et al. 2008 |
//! | `mixup` | λ x + (1 − λ) y of two rows drawn, λ from Beta(α, α) | of one of the two, with these probabilities | Zhang et al. 2018 |
//! | `jitter` | normal noise of a share of the column's deviation; what a twentieth of all rows have stays | another row's of the class, at times | – |
//! | `bootstrap` | a row's | a row's | Efron 1979 |
//!
//! A class is what rows have in the label, a category; NULL is one too. A row has the label of the row that weighs most in it.
//! A label of numbers is mixed by `mixup` as any number is, kept by `jitter`, and refused by methods that need classes.
//! Without a label all rows are one class.
//!
//! Where one of two numbers is NULL, the new one is one of the two, with the weights as probabilities; what is far from NULL
//! says `measure`. The one row of a class has no neighbours: its numbers are jittered, its categories kept. Of a class of
//! more than a million (2²⁰) rows as many, drawn evenly, are used.
//!
//! [`Augmenter::block`] makes rows by blocks that depend on the seed alone, so that any number of them streams. Neighbours are exact, and
//! searched when a row is first drawn, and kept: 4 k bytes a row.

mod beta;
mod columns;
mod measure;
mod neighbours;

use std::rc::Rc;

use crate::{FieldKind, Frame, Task, Values};
use columns::Filling;
use measure::{Measure, Spread};
use neighbours::{Index, Scratch};
use runtime::draw;
use runtime::error::{Error, Result};
use runtime::jobs::{Relay, jobs};
use runtime::memory;
use runtime::options::Options;
use runtime::parallel::{for_each_chunk, watched};
use runtime::progress::Progress;
use tabular::NONE;

/// Rows of a class that are drawn from and searched.
const MOST_ROWS: usize = 1 << 20;
/// Rows whose neighbours a thread searches before it looks for more.
const CHUNK_QUERIES: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Smote,
    SmoteNc,
    Adasyn,
    Mixup,
    Jitter,
    Bootstrap,
}

const METHODS: [(&str, Method); 6] = [
    ("smote", Method::Smote),
    ("smote_nc", Method::SmoteNc),
    ("adasyn", Method::Adasyn),
    ("mixup", Method::Mixup),
    ("jitter", Method::Jitter),
    ("bootstrap", Method::Bootstrap),
];

impl Method {
    pub fn from_name(name: &str) -> Result<Self> {
        let known = || METHODS.map(|(name, _)| name).join(", ");
        let found = METHODS.iter().find(|(other, _)| *other == name);
        found.map(|(_, method)| *method).ok_or_else(|| Error::UnknownName {
            what: "method",
            name: name.into(),
            known: known(),
        })
    }

    pub fn name(self) -> &'static str {
        METHODS.iter().find(|(_, method)| *method == self).map_or("", |(name, _)| name)
    }

    fn has_neighbours(self) -> bool {
        matches!(self, Self::Smote | Self::SmoteNc | Self::Adasyn)
    }
}

/// Rows to add so that each class has as many as the largest, by ascending class; rows of no class count for none.
pub fn balanced_counts(labels: &[u32]) -> Vec<(u32, usize)> {
    let mut counts: Vec<usize> = Vec::new();
    for &label in labels.iter().filter(|&&label| label != NONE) {
        if counts.len() <= label as usize {
            counts.resize(label as usize + 1, 0);
        }
        counts[label as usize] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(0);
    (0..).zip(counts).filter(|&(_, rows)| rows > 0 && rows < most).map(|(label, rows)| (label, most - rows)).collect()
}

/// The rows of a class and what is known of them.
#[derive(Default)]
struct Class {
    rows: Vec<u32>,
    index: Option<Index>,
    /// [rows, neighbours]: where known.
    neighbours: Vec<u32>,
    known: Vec<bool>,
    /// `adasyn`: [rows], summed up so far.
    weights: Option<Vec<f64>>,
}

/// What a new row is made of.
#[derive(Clone, Copy, Debug, Default)]
struct Pick {
    base: u32,
    /// [`NONE`] where there is none.
    other: u32,
    /// Of the other row.
    weight: f64,
    class: u32,
    /// The base's place among the rows of its class.
    place: u32,
    seed: u64,
}

/// A method ready to make rows.
pub struct Augmenter {
    frame: Rc<Frame>,
    label: Option<usize>,
    method: Method,
    threads: usize,
    k: usize,
    alpha: f64,
    measure: Measure,
    filling: Filling,
    classes: Vec<Class>,
    /// [classes]: rows of each, summed up so far.
    until: Vec<usize>,
}

impl Augmenter {
    /// `kept` are the rows of the task, which are needed for as long as rows are made.
    pub fn new(task: &Task, kept: Rc<Frame>, method: Method, options: &mut Options) -> Result<Self> {
        let frame = &*kept;
        if frame.rows == 0 {
            return Err(Error::EmptySource(String::new()));
        }
        let k = if method.has_neighbours() { options.integer("k_neighbors", 5, 1, 1000)? as usize } else { 0 };
        let alpha = if method == Method::Mixup { f64::from(options.float("alpha", 0.2, 0.001, 1000.0)?) } else { 1.0 };
        let jitter = method == Method::Jitter;
        let noise = if jitter { f64::from(options.float("noise", 0.1, 0.0, 10.0)?) } else { 0.1 };
        let resampled = if jitter { f64::from(options.float("resample", 0.05, 0.0, 1.0)?) } else { 0.0 };
        check(task, method)?;
        let label_classes = label_classes(frame, task.label);
        let count = match task.label.map(|label| task.fields[label].kind) {
            Some(FieldKind::Category { count }) => count + 1,
            _ => 1,
        };
        let classes = classes(frame.rows, label_classes, count, task)?;
        let until = classes
            .iter()
            .scan(0, |sum, (rows, _)| {
                *sum += rows;
                Some(*sum)
            })
            .collect();
        let spreads = Spread::of_columns(frame, task.threads, task.progress)?;
        let measure = Measure::new(frame, &spreads, task.label);
        let filling = Filling::new(frame, &spreads, (noise, resampled), jitter, task)?;
        Ok(Self {
            frame: kept,
            label: task.label,
            method,
            threads: task.threads,
            k,
            alpha,
            measure,
            filling,
            classes: classes.into_iter().map(|(_, rows)| Class { rows, ..Class::default() }).collect(),
            until,
        })
    }

    /// `rows` new rows of the class of that code, or of all as often as the source has them: to be called for some thousands at a time. Numbers
    /// need not keep to their fields' grid.
    pub fn block(&mut self, class: Option<u32>, rows: usize, seed: u64, progress: &dyn Progress) -> Result<Frame> {
        let progress = &Silent(progress);
        let class = match class {
            Some(code) if label_classes(&self.frame, self.label).is_none() => {
                return Err(Error::argument("label", code, "There is no label of classes: leave it out."));
            }
            Some(NONE) => Some(self.classes.len() - 1),
            Some(code) => Some(code as usize),
            None => None,
        };
        if let Some(class) = class
            && self.classes.get(class).is_none_or(|class| class.rows.is_empty())
        {
            return Err(Error::argument(
                "label",
                class,
                "No row of the source has it: new ones need one to begin from.",
            ));
        }
        for class in 0..self.classes.len() {
            if self.method == Method::Adasyn && self.classes[class].weights.is_none() {
                self.weigh(class, progress)?;
            }
        }
        let mut picks = memory::filled(Pick::default(), rows)?;
        for (part, first) in picks.chunks_mut(4096).zip((0u64..).step_by(4096)) {
            progress.check()?;
            for (pick, row) in part.iter_mut().zip(first..) {
                *pick = self.pick(class, draw::mix(seed ^ draw::mix(row)));
            }
        }
        if self.method.has_neighbours() {
            self.search(&picks, progress)?;
            for pick in &mut picks {
                let near = self.neighbours(pick);
                pick.other = if near.is_empty() { NONE } else { near[draw::below(pick.seed, 3, near.len())] };
            }
        }
        let (frame, label, method, filling) = (&*self.frame, self.label, self.method, &self.filling);
        let (classes, k) = (&self.classes, self.k);
        let columns = jobs(frame.columns.len(), self.threads, progress, ("rows", 0), |signal, column| {
            let near = |pick: &Pick| near(classes, k, pick);
            let same_class = |pick: &Pick, place: u64| {
                let rows = &classes[pick.class as usize].rows;
                rows[draw::below(pick.seed, place, rows.len())]
            };
            filling.column(frame, column, label == Some(column), method, &picks, near, same_class, signal)
        })?;
        Ok(Frame { rows, columns })
    }

    /// The row to begin from, and for methods without neighbours the other one.
    fn pick(&self, class: Option<usize>, seed: u64) -> Pick {
        let all = self.until.last().copied().unwrap_or(0);
        let drawn = |n: u64| {
            let at = draw::below(seed, n, all);
            self.until.partition_point(|&until| until <= at)
        };
        let class = class.unwrap_or_else(|| drawn(0));
        let of = &self.classes[class];
        let place = match &of.weights {
            Some(weights) => {
                let at = unit(seed, 1) * weights.last().copied().unwrap_or(0.0);
                weights.partition_point(|&sum| sum <= at).min(of.rows.len() - 1)
            }
            None => draw::below(seed, 1, of.rows.len()),
        };
        let (other, weight) = match self.method {
            Method::Mixup => {
                let other = &self.classes[drawn(2)].rows;
                let share = beta::symmetric(self.alpha, seed);
                // The heavier row is the one of the class asked for.
                (other[draw::below(seed, 3, other.len())], share.min(1.0 - share))
            }
            Method::Smote | Method::SmoteNc | Method::Adasyn => (NONE, unit(seed, 2)),
            Method::Jitter | Method::Bootstrap => (NONE, 0.0),
        };
        Pick { base: of.rows[place], other, weight, class: class as u32, place: place as u32, seed }
    }

    fn neighbours(&self, pick: &Pick) -> &[u32] {
        near(&self.classes, self.k, pick)
    }

    /// Makes the neighbours of all bases known.
    fn search(&mut self, picks: &[Pick], progress: &dyn Progress) -> Result<()> {
        let mut wanted: Vec<(u32, u32)> = Vec::new();
        memory::reserve(&mut wanted, picks.len())?;
        wanted.extend(picks.iter().map(|pick| (pick.class, pick.place)));
        wanted.retain(|&(class, place)| {
            let of = &self.classes[class as usize];
            of.rows.len() > 1 && of.known.get(place as usize) != Some(&true)
        });
        wanted.sort_unstable();
        wanted.dedup();
        for of_class in wanted.chunk_by(|a, b| a.0 == b.0) {
            let class = of_class[0].0 as usize;
            self.prepare(class, progress)?;
            let (measure, frame, of) = (&self.measure, &*self.frame, &self.classes[class]);
            let k = self.k.min(of.rows.len() - 1);
            let Some(index) = &of.index else { return Err(Error::Internal("a class has no index".into())) };
            let mut found = memory::filled(0u32, of_class.len() * k)?;
            for_each_chunk(
                &mut found,
                CHUNK_QUERIES * k,
                self.threads,
                progress,
                || (Scratch::default(), vec![0f32; measure.shape().1]),
                |(scratch, query), chunk, out| {
                    for (&(_, place), out) in of_class[chunk * CHUNK_QUERIES..].iter().zip(out.chunks_exact_mut(k)) {
                        let row = of.rows[place as usize];
                        measure.row(frame, row, query);
                        let near = index.nearest(query, row, k, scratch);
                        out.iter_mut().zip(near).for_each(|(out, near)| *out = near.1);
                    }
                    Ok(())
                },
            )?;
            let of = &mut self.classes[class];
            for (&(_, place), found) in of_class.iter().zip(found.chunks_exact(k)) {
                of.neighbours[place as usize * k..][..k].copy_from_slice(found);
                of.known[place as usize] = true;
            }
        }
        Ok(())
    }

    fn prepare(&mut self, class: usize, progress: &dyn Progress) -> Result<()> {
        let (measure, frame) = (&self.measure, &*self.frame);
        let of = &mut self.classes[class];
        if of.index.is_none() {
            let k = self.k.min(of.rows.len() - 1);
            of.neighbours = memory::filled(0, of.rows.len() * k)?;
            of.known = memory::filled(false, of.rows.len())?;
            of.index = Some(index(measure, frame, &of.rows, progress)?);
        }
        Ok(())
    }

    /// `adasyn`: the share of other classes among the k nearest of all rows, for each row of a class; where no row has any, all are as likely.
    fn weigh(&mut self, class: usize, progress: &dyn Progress) -> Result<()> {
        let Some(labels) = label_classes(&self.frame, self.label) else {
            return Err(Error::Internal("adasyn has no classes".into()));
        };
        let rows = spread_evenly(self.frame.rows, MOST_ROWS)?;
        let (measure, frame, k) = (&self.measure, &*self.frame, self.k.min(rows.len().saturating_sub(1)).max(1));
        let whole = index(measure, frame, &rows, progress)?;
        for of in self.classes.iter_mut().skip(class) {
            let mut shares = memory::filled(0f64, of.rows.len())?;
            let own = &of.rows;
            for_each_chunk(
                &mut shares,
                CHUNK_QUERIES,
                self.threads,
                progress,
                || (Scratch::default(), vec![0f32; measure.shape().1]),
                |(scratch, query), chunk, out| {
                    for (&row, out) in own[chunk * CHUNK_QUERIES..].iter().zip(out) {
                        measure.row(frame, row, query);
                        let near = whole.nearest(query, row, k, scratch);
                        *out =
                            near.iter().filter(|near| labels[near.1 as usize] != labels[row as usize]).count() as f64;
                    }
                    Ok(())
                },
            )?;
            if shares.iter().all(|&share| share == 0.0) {
                shares.fill(1.0);
            }
            let mut sum = 0.0;
            shares.iter_mut().for_each(|share| {
                sum += *share;
                *share = sum;
            });
            of.weights = Some(shares);
        }
        Ok(())
    }
}

fn near<'c>(classes: &'c [Class], k: usize, pick: &Pick) -> &'c [u32] {
    let of = &classes[pick.class as usize];
    let k = k.min(of.rows.len() - 1);
    if k == 0 { &[] } else { &of.neighbours[pick.place as usize * k..][..k] }
}

/// The codes of a label of classes.
fn label_classes(frame: &Frame, label: Option<usize>) -> Option<&[u32]> {
    match &frame.columns[label?] {
        Values::Codes(codes) => Some(codes),
        Values::Numbers(_) => None,
    }
}

fn index(measure: &Measure, frame: &Frame, rows: &[u32], progress: &dyn Progress) -> Result<Index> {
    let relay = Relay::new(progress);
    let signal = &relay.signal;
    watched(
        &relay,
        || signal.stop(),
        || {
            let unequal = measure.unequal(frame, rows, signal)?;
            let mut own = Vec::new();
            memory::extend(&mut own, rows)?;
            Index::new(own, measure.shape(), unequal, |dimension, row| measure.value(frame, dimension, row), signal)
        },
    )
}

/// How far a block is, is no news to whoever counts blocks.
struct Silent<'a>(&'a dyn Progress);

impl Progress for Silent<'_> {
    fn check(&self) -> Result<()> {
        self.0.check()
    }
}

/// A number from 0 to below 1.
fn unit(seed: u64, place: u64) -> f64 {
    (draw::mix(seed ^ draw::mix(place)) >> 11) as f64 / (1u64 << 53) as f64
}

fn check(task: &Task, method: Method) -> Result<()> {
    if !method.has_neighbours() {
        return Ok(());
    }
    let label = task.label.map(|label| &task.fields[label]);
    if let Some(label) = label.filter(|label| matches!(label.kind, FieldKind::Number { .. })) {
        let hint =
            format!("{} needs classes: use mixup, jitter or bootstrap, or cast the label to text.", method.name());
        return Err(Error::argument(format!("label \"{}\"", label.name), "a column of numbers", hint));
    }
    if method == Method::Adasyn && label.is_none() {
        return Err(Error::argument("label", "null", "adasyn looks for rows near other classes: name the label."));
    }
    let categories = |(place, field): &(usize, &crate::Field)| {
        Some(*place) != task.label && matches!(field.kind, FieldKind::Category { .. })
    };
    if method == Method::Smote
        && let Some((_, field)) = task.fields.iter().enumerate().find(categories)
    {
        let hint = "smote is for numbers alone: use smote_nc, or leave the column out.";
        return Err(Error::argument(format!("column \"{}\"", field.name), "a column of categories", hint));
    }
    Ok(())
}

/// How many rows each class has, and those that are used: the last is of no class.
fn classes(rows: usize, labels: Option<&[u32]>, count: usize, task: &Task) -> Result<Vec<(usize, Vec<u32>)>> {
    let Some(labels) = labels else { return Ok(vec![(rows, spread_evenly(rows, MOST_ROWS)?)]) };
    let mut classes: Vec<(usize, Vec<u32>)> = vec![(0, Vec::new()); count];
    let class = |label: u32| if label == NONE { count - 1 } else { label as usize };
    for (row, &label) in (0u32..).zip(labels) {
        if row.is_multiple_of(1 << 20) {
            task.progress.check()?;
        }
        let of = &mut classes[class(label)];
        of.0 += 1;
        memory::push(&mut of.1, row)?;
    }
    for (n, rows) in &mut classes {
        if *n > MOST_ROWS {
            *rows = spread_evenly(*n, MOST_ROWS)?.into_iter().map(|place| rows[place as usize]).collect();
        }
    }
    Ok(classes)
}

/// 0 to n − 1, or one of each of `most` equal parts.
fn spread_evenly(n: usize, most: usize) -> Result<Vec<u32>> {
    let taken = n.min(most);
    let mut places = Vec::new();
    memory::reserve(&mut places, taken)?;
    places.extend((0..taken).map(|i| {
        let (from, to) = (i * n / taken, (i + 1) * n / taken);
        (from + draw::below(0, i as u64, to - from)) as u32
    }));
    Ok(places)
}

#[cfg(test)]
mod tests;
