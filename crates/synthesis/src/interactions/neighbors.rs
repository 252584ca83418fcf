//! Candidates from the nearest users, for users, and from the nearest items, for items: the same computation on the
//! matrix and its transpose.

use super::source::{Augmentation, Candidates, Settings, Source, Task};
use interactions::Interactions;
use kernels::Csr;
use recommendation::TopK;
use runtime::error::Result;
use runtime::memory;
use runtime::options::Options;
use runtime::parallel::for_each_chunk;

/// The method `neighbors`.
pub struct NearestRows;

impl Augmentation for NearestRows {
    fn name(&self) -> &'static str {
        "neighbors"
    }

    fn settings(&self, options: &mut Options) -> Result<Settings> {
        Ok(Settings { neighbors: options.integer("neighbors", 50, 1, 1 << 20)? as usize, ..Settings::default() })
    }

    fn open<'a>(&self, settings: &Settings, task: &Task<'a>) -> Result<Box<dyn Source + 'a>> {
        Ok(Box::new(Neighbors::new(task, settings.neighbors)?))
    }
}

struct Neighbors<'a> {
    interactions: &'a Interactions,
    k: usize,
    by_item: Csr,
    rejected_by_item: Csr,
}

/// Counters of a thread.
struct Scratch {
    /// [rows]: number of entries in common.
    common: Vec<f32>,
    /// [columns]: sums of cosines.
    sums: Vec<f32>,
    rows: Vec<u32>,
    columns: Vec<u32>,
}

impl<'a> Neighbors<'a> {
    fn new(task: &Task<'a>, k: usize) -> Result<Self> {
        let by_item = task.interactions.by_user.transpose(task.progress)?;
        let rejected_by_item = task.interactions.rejected.transpose(task.progress)?;
        Ok(Self { interactions: task.interactions, k, by_item, rejected_by_item })
    }

    /// Candidates of rows of `matrix`, whose transpose is `columns`.
    fn candidates(
        &self,
        task: &Task,
        [matrix, columns, rejected]: [&Csr; 3],
        asked: &[(u32, usize)],
    ) -> Result<Candidates> {
        let k = self.k;
        let mut lists = memory::filled(Vec::new(), asked.len())?;
        // What cannot be had is an error here, not on a thread.
        memory::require((matrix.rows() + matrix.columns) * 4 * task.threads)?;
        let scratch = || Scratch {
            common: vec![0.0; matrix.rows()],
            sums: vec![0.0; matrix.columns],
            rows: Vec::new(),
            columns: Vec::new(),
        };
        for_each_chunk(&mut lists, 1, task.threads, task.progress, scratch, |scratch, number, list| {
            let (row, count) = asked[number];
            let Scratch { common, sums, rows: others, columns: found } = scratch;
            let (own, _) = matrix.row(row as usize);
            for &column in own {
                for &other in columns.row(column as usize).0 {
                    if common[other as usize] == 0.0 {
                        others.push(other);
                    }
                    common[other as usize] += 1.0;
                }
            }
            let length = |row: u32| matrix.row(row as usize).0.len() as f32;
            let mut nearest = TopK::new(k);
            // The same rows are kept in any order of pushing.
            for &other in others.iter() {
                if other != row {
                    nearest.push(common[other as usize] / (length(row) * length(other)).sqrt(), other);
                }
                common[other as usize] = 0.0;
            }
            others.clear();
            for (cosine, other) in nearest.into_sorted() {
                for &column in matrix.row(other as usize).0 {
                    if sums[column as usize] == 0.0 {
                        found.push(column);
                    }
                    sums[column as usize] += cosine;
                }
            }
            let (turned_down, _) = rejected.row(row as usize);
            let mut best = TopK::new(count);
            for &column in found.iter() {
                if own.binary_search(&column).is_err() && turned_down.binary_search(&column).is_err() {
                    best.push(sums[column as usize].ln(), column);
                }
                sums[column as usize] = 0.0;
            }
            found.clear();
            list[0] = best.into_sorted();
            Ok(())
        })?;
        Ok(lists)
    }
}

impl Source for Neighbors<'_> {
    fn of_users(&self, task: &Task, asked: &[(u32, usize)]) -> Result<Candidates> {
        let interactions = self.interactions;
        self.candidates(task, [&interactions.by_user, &self.by_item, &interactions.rejected], asked)
    }

    fn of_items(&self, task: &Task, asked: &[(u32, usize)]) -> Result<Candidates> {
        self.candidates(task, [&self.by_item, &self.interactions.by_user, &self.rejected_by_item], asked)
    }
}
