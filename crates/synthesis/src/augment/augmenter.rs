//! Making rows in blocks.

use std::rc::Rc;

use super::augmentation::{Augmentation, Partner, Settings};
use super::class::{Class, Classes, MAX_ROWS, classes, label_classes};
use super::columns::{CodeColumn, Noise, NumberColumn};
use super::measure::{Measure, Spread};
use super::neighbours::{Index, Scratch};
use super::pick::{Pick, spread_evenly, unit};
use crate::{FieldKind, Frame, Task, Values};
use runtime::draw;
use runtime::error::{Error, Result};
use runtime::jobs::{Relay, Signal, jobs};
use runtime::memory;
use runtime::options::Options;
use runtime::parallel::{for_each_chunk, watched};
use runtime::progress::Progress;
use tabular::NONE;

/// Rows between two checks of the signal.
const CHECK_EVERY: usize = 1 << 14;
/// Rows whose neighbours a thread searches at a time.
const CHUNK_QUERIES: usize = 16;

/// A method with a source, ready to make rows.
pub struct Augmenter {
    frame: Rc<Frame>,
    label: Option<usize>,
    method: &'static dyn Augmentation,
    settings: Settings,
    threads: usize,
    measure: Measure,
    noise: Noise,
    classes: Vec<Class>,
    /// [classes]: cumulative number of rows.
    until: Vec<usize>,
}

impl Augmenter {
    /// `kept` are the rows of the task.
    pub fn new(task: &Task, kept: Rc<Frame>, method: &'static dyn Augmentation, options: &mut Options) -> Result<Self> {
        let frame = &*kept;
        if frame.rows == 0 {
            return Err(Error::EmptySource(String::new()));
        }
        let settings = method.settings(options)?;
        method.check(task)?;
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
        let noise = Noise::new(frame, &spreads, settings.noise, settings.keeps_spikes, task)?;
        Ok(Self {
            frame: kept,
            label: task.label,
            method,
            settings,
            threads: task.threads,
            measure,
            noise,
            classes: classes.into_iter().map(|(_, rows)| Class { rows, ..Class::default() }).collect(),
            until,
        })
    }

    /// Makes `rows` rows of the class with that code, or of all classes in the source's proportions. Best called for
    /// some thousands at a time. Numbers may lie between the steps of their field.
    pub fn block(&mut self, class: Option<u32>, rows: usize, seed: u64, progress: &dyn Progress) -> Result<Frame> {
        let progress = &Silent(progress);
        let class = match class {
            Some(code) if label_classes(&self.frame, self.label).is_none() => {
                return Err(Error::Internal(format!("class {code} without a label of classes")));
            }
            Some(NONE) => Some(self.classes.len() - 1),
            Some(code) => Some(code as usize),
            None => None,
        };
        if let Some(class) = class
            && self.classes.get(class).is_none_or(|class| class.rows.is_empty())
        {
            return Err(Error::Internal(format!("no row of the source is of class {class}")));
        }
        for class in 0..self.classes.len() {
            if self.method.prefers_borders() && self.classes[class].weights.is_none() {
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
        if self.settings.k > 0 {
            self.search(&picks, progress)?;
            let of = self.classes();
            for pick in &mut picks {
                let near = of.neighbours(pick);
                pick.other = if near.is_empty() { NONE } else { near[draw::below(pick.seed, 3, near.len())] };
            }
        }
        let filling = Filling {
            frame: &self.frame,
            label: self.label,
            method: self.method,
            settings: &self.settings,
            noise: &self.noise,
            classes: self.classes(),
        };
        let columns = jobs(self.frame.columns.len(), self.threads, progress, ("rows", 0), |signal, column| {
            filling.column(column, &picks, signal)
        })?;
        Ok(Frame { rows, columns })
    }

    fn classes(&self) -> Classes<'_> {
        Classes { classes: &self.classes, k: self.settings.k }
    }

    /// Draws the base row, and for methods without neighbours the other row.
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
        let (other, weight) = match self.method.partner(&self.settings, seed) {
            Partner::Any(weight) => {
                let other = &self.classes[drawn(2)].rows;
                (other[draw::below(seed, 3, other.len())], weight)
            }
            Partner::Neighbour(weight) => (NONE, weight),
            Partner::None => (NONE, 0.0),
        };
        Pick { base: of.rows[place], other, weight, class: class as u32, place: place as u32, seed }
    }

    /// Searches the neighbours of all bases that are not known yet.
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
            let k = self.settings.k.min(of.rows.len() - 1);
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
            let k = self.settings.k.min(of.rows.len() - 1);
            of.neighbours = memory::filled(0, of.rows.len() * k)?;
            of.known = memory::filled(false, of.rows.len())?;
            of.index = Some(index(measure, frame, &of.rows, progress)?);
        }
        Ok(())
    }

    /// Computes the share of other classes among the k nearest of all rows, for each row of a class. If all shares are
    /// 0, all rows are equally likely.
    fn weigh(&mut self, class: usize, progress: &dyn Progress) -> Result<()> {
        let Some(labels) = label_classes(&self.frame, self.label) else {
            return Err(Error::Internal("adasyn has no classes".into()));
        };
        let rows = spread_evenly(self.frame.rows, MAX_ROWS)?;
        let (measure, frame, k) =
            (&self.measure, &*self.frame, self.settings.k.min(rows.len().saturating_sub(1)).max(1));
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

/// Reports no progress within a block: the caller counts blocks.
struct Silent<'a>(&'a dyn Progress);

impl Progress for Silent<'_> {
    fn check(&self) -> Result<()> {
        self.0.check()
    }
}

/// What all threads need to fill the columns of a block.
struct Filling<'a> {
    frame: &'a Frame,
    label: Option<usize>,
    method: &'static dyn Augmentation,
    settings: &'a Settings,
    noise: &'a Noise,
    classes: Classes<'a>,
}

impl Filling<'_> {
    /// A column of the rows that `picks` describe.
    fn column(&self, column: usize, picks: &[Pick], signal: &Signal) -> Result<Values> {
        let is_label = self.label == Some(column);
        match &self.frame.columns[column] {
            Values::Numbers(numbers) => {
                let column = NumberColumn::new(numbers, column, is_label, self.noise);
                by_parts(picks, |pick| self.method.number(&column, pick), signal).map(Values::Numbers)
            }
            Values::Codes(codes) if is_label => {
                by_parts(picks, |pick| codes[pick.base as usize], signal).map(Values::Codes)
            }
            Values::Codes(codes) => {
                let mut column = CodeColumn::new(codes, column, self.classes);
                by_parts(picks, |pick| self.method.code(self.settings, &mut column, pick), signal).map(Values::Codes)
            }
        }
    }
}

fn by_parts<T>(picks: &[Pick], mut value: impl FnMut(&Pick) -> T, signal: &Signal) -> Result<Vec<T>> {
    let mut values = Vec::new();
    memory::reserve(&mut values, picks.len())?;
    for picks in picks.chunks(CHECK_EVERY) {
        signal.check()?;
        values.extend(picks.iter().map(&mut value));
    }
    Ok(values)
}
