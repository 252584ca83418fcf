//! Item factors as every model of inner products serves them: the best items for a user or a tile of users, similar items.

use ndarray::{ArrayView2, Axis};

use super::listed::{ItemSet, Listed, Scored};
use super::quantized::Quantized;
use super::scan::{TILE_USERS, best_items, best_items_of_tile, best_of, most_similar};
use kernels::cosine::cosine;
use kernels::dot::score_rows;
use onnx::stored::{Files, MappedMatrix};
use runtime::error::{Error, Result};
use runtime::progress::{Progress, Unwatched};

/// Items scored between two looks at progress.
const BLOCK: usize = 16_384;
/// Items scored for a whole tile of users before the next ones are read.
const TILE_BLOCK: usize = 512;
/// Where a list and what it leaves out take more than one in so many of the items, bounds leave too little out; where it may take less
/// than this of them, they are looked up one by one.
pub(crate) const SHARE: usize = 16;

/// Factors [items, d] in a model's graph, and the compressed copy of them in its data file where there is one.
pub struct ItemFactors {
    model: String,
    factors: MappedMatrix<f32>,
    quantized: Option<Quantized>,
}

impl ItemFactors {
    /// The initializer `name`, which must have `items` rows of `d`; its copy was written by [`super::quantized::write`].
    pub fn open(files: &Files, name: &str, items: usize, d: usize) -> Result<Self> {
        Self::check(files, name, files.initializer_matrix(name)?, items, d, items)
    }

    /// [`open`](Self::open) for factors in the data file.
    pub fn open_tensor(files: &Files, name: &str, items: usize, d: usize) -> Result<Self> {
        Self::open_placed(files, name, items, d, items)
    }

    /// The same where the copy has them in as many `places`.
    pub(crate) fn open_placed(files: &Files, name: &str, items: usize, d: usize, places: usize) -> Result<Self> {
        Self::check(files, name, files.tensor_matrix(name)?, items, d, places)
    }

    fn check(
        files: &Files,
        name: &str,
        factors: MappedMatrix<f32>,
        items: usize,
        d: usize,
        places: usize,
    ) -> Result<Self> {
        let (rows, columns) = factors.dim();
        if (rows, columns) != (items, d) || d == 0 {
            return Err(
                files.damaged(format!("{name} has shape [{rows}, {columns}] for {items} items and {d} factors"))
            );
        }
        let quantized = Quantized::open(files, name, places, d)?;
        Ok(Self { model: files.model.into(), factors, quantized })
    }

    /// [items, d]
    pub fn all(&self) -> ArrayView2<'_, f32> {
        self.factors.view()
    }

    /// The compressed copy, where there is one.
    pub(crate) fn copy(&self) -> Option<&Quantized> {
        self.quantized.as_ref()
    }

    fn items(&self) -> usize {
        self.factors.dim().0
    }

    /// One item's factors [d].
    pub fn row(&self, item: u32) -> Result<&[f32]> {
        self.factors
            .row(item as usize)
            .ok_or_else(|| Error::DamagedModel { model: self.model.clone(), reason: "an item has no factors".into() })
    }

    /// The best `k` (score, item) by inner product with `user` [d], best first, without what the query excludes.
    pub fn best(&self, user: &[f32], k: usize, listed: &Listed, progress: &dyn Progress) -> Result<Vec<(f32, u32)>> {
        if let Some(allowed) = self.few(listed) {
            return best_of(allowed, self.all(), user, k, listed, progress);
        }
        if let Some(copy) = self.quantized_for(listed, k)
            && let Some(Some(list)) = copy.best(self.all(), &[user], &[*listed], k, progress)?.pop()
        {
            return Ok(list);
        }
        best_items(self.all(), user, k, listed, progress)
    }

    /// [`best`](Self::best) for each of some users, with the same results. Runs on a helper thread.
    pub fn best_of_tile(&self, users: &[&[f32]], all: &[Listed], k: usize) -> Result<Vec<Vec<(f32, u32)>>> {
        let mut lists = vec![None; users.len()];
        let mut together = Vec::new();
        for (u, listed) in all.iter().enumerate() {
            match self.few(listed) {
                Some(allowed) => {
                    lists[u] = Some(best_of(allowed, self.all(), users[u], k, listed, &Unwatched)?);
                }
                None if self.quantized_for(listed, k).is_some() => together.push(u),
                None => {}
            }
        }
        if let Some(copy) = &self.quantized {
            let (users, listed): (Vec<&[f32]>, Vec<Listed>) = together.iter().map(|&u| (users[u], all[u])).unzip();
            let found = copy.best(self.all(), &users, &listed, k, &Unwatched)?;
            together.iter().zip(found).for_each(|(&u, list)| lists[u] = list);
        }
        let open: Vec<usize> = (0..users.len()).filter(|&u| lists[u].is_none()).collect();
        for part in open.chunks(TILE_USERS) {
            let (users, listed): (Vec<&[f32]>, Vec<Listed>) = part.iter().map(|&u| (users[u], all[u])).unzip();
            let found = best_items_of_tile(self.all(), &users, &listed, k);
            part.iter().zip(found).for_each(|(&u, list)| lists[u] = Some(list));
        }
        Ok(lists.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// The only items to be ranked, where they are so few that each is looked up.
    pub(crate) fn few<'a>(&self, listed: &Listed<'a>) -> Option<&'a ItemSet> {
        listed.allowed.filter(|allowed| allowed.len() < self.items() / SHARE)
    }

    /// The compressed copy where it is faster than the plain scan.
    pub(crate) fn quantized_for(&self, listed: &Listed, k: usize) -> Option<&Quantized> {
        self.quantized.as_ref().filter(|_| k.saturating_add(listed.excluded.len()) <= self.items() / SHARE)
    }

    /// The score of every item [items].
    pub fn score_all(&self, user: &[f32], scores: &mut [f32], progress: &dyn Progress) -> Result<()> {
        for (factors, scores) in self.all().axis_chunks_iter(Axis(0), BLOCK).zip(scores.chunks_mut(BLOCK)) {
            progress.check()?;
            score_rows(factors, user, scores);
        }
        Ok(())
    }

    /// The same for each of some users [d] and their scores [items]: a block of items for all of them while it is in the cache.
    pub fn score_tile(&self, rows: &mut [(&[f32], &mut [f32])]) {
        for (block, factors) in self.all().axis_chunks_iter(Axis(0), TILE_BLOCK).enumerate() {
            for (user, scores) in &mut *rows {
                score_rows(factors, user, &mut scores[block * TILE_BLOCK..][..factors.nrows()]);
            }
        }
    }

    /// The cosine of two items' factors.
    pub fn similarity(&self, one: u32, other: u32) -> Result<f32> {
        Ok(cosine(self.row(one)?, self.row(other)?))
    }

    /// The `k` items of the greatest cosine to `item`, best first, without itself.
    pub fn similar(&self, item: u32, k: usize, progress: &dyn Progress) -> Result<Vec<Scored>> {
        most_similar(self.all(), self.row(item)?, item, k, progress)
    }
}
