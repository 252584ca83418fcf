//! How good a ranking is, by the grades that people gave to some of its rows. A row without a grade counts as 0.
//!
//! NDCG after Järvelin and Kekäläinen, 2002, with the gains 2^grade − 1 of Burges and others, 2005: the sum of gain / log₂(rank + 1) up to rank k,
//! divided by that of the best possible order of all graded rows of the query.

/// The graded rows of a query.
#[derive(Clone, Debug, Default)]
pub struct Judgements {
    /// (row, grade), ascending by row, each row once; grades from 0.
    grades: Vec<(u32, f32)>,
}

/// Metrics of one query at a rank k.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    pub ndcg: f64,
    /// 1 / the rank of the first relevant row, 0 if there is none up to k.
    pub mrr: f64,
    /// Average precision.
    pub map: f64,
    pub recall: f64,
    pub precision: f64,
    /// 1 if nothing was found.
    pub zero_results: f64,
}

impl Judgements {
    /// Of a row that is graded several times the highest grade counts.
    pub fn new(mut grades: Vec<(u32, f32)>) -> Self {
        grades.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
        grades.dedup_by_key(|(row, _)| *row);
        Self { grades }
    }

    pub fn rows(&self) -> impl Iterator<Item = u32> {
        self.grades.iter().map(|(row, _)| *row)
    }

    /// The grade of a row, if it has one.
    pub fn given(&self, row: u32) -> Option<f32> {
        self.grades.binary_search_by_key(&row, |(row, _)| *row).ok().map(|place| self.grades[place].1)
    }

    pub fn grade(&self, row: u32) -> f32 {
        self.given(row).unwrap_or(0.0)
    }

    /// The metrics of a ranking, best first. A row is relevant if its grade is at least `relevant`.
    pub fn measure(&self, ranking: &[u32], k: usize, relevant: f32) -> Measured {
        let top: Vec<f32> = ranking.iter().take(k).map(|&row| self.grade(row)).collect();
        let mut ideal: Vec<f32> = self.grades.iter().map(|(_, grade)| *grade).collect();
        ideal.sort_by(|a, b| b.total_cmp(a));
        ideal.truncate(k);
        let best = discounted(&ideal);
        let all = self.grades.iter().filter(|(_, grade)| *grade >= relevant).count();
        let (mut hits, mut precisions, mut first) = (0usize, 0.0, 0.0);
        for (rank, _) in top.iter().enumerate().filter(|(_, grade)| **grade >= relevant) {
            hits += 1;
            precisions += hits as f64 / (rank + 1) as f64;
            if hits == 1 {
                first = 1.0 / (rank + 1) as f64;
            }
        }
        let share = |of: usize| if of > 0 { hits as f64 / of as f64 } else { 0.0 };
        Measured {
            ndcg: if best > 0.0 { discounted(&top) / best } else { 0.0 },
            mrr: first,
            map: if all > 0 { precisions / all.min(k) as f64 } else { 0.0 },
            recall: share(all),
            precision: share(k),
            zero_results: if ranking.is_empty() { 1.0 } else { 0.0 },
        }
    }
}

/// Σ (2^grade − 1) / log₂(rank + 1)
fn discounted(grades: &[f32]) -> f64 {
    let gains = grades.iter().map(|&grade| f64::from(grade).exp2() - 1.0);
    gains.zip(2u32..).map(|(gain, place)| gain / f64::from(place).log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judgements() -> Judgements {
        Judgements::new(vec![(4, 1.0), (2, 2.0), (1, 3.0), (3, 0.0), (2, 1.0)])
    }

    #[test]
    fn the_best_order_has_an_ndcg_of_one() {
        let measured = judgements().measure(&[1, 2, 4, 3], 10, 1.0);
        assert_eq!((measured.ndcg, measured.mrr, measured.map, measured.recall), (1.0, 1.0, 1.0, 1.0));
        assert_eq!(measured.precision, 0.3);
    }

    #[test]
    fn metrics_are_those_computed_by_hand() {
        // Gains 0, 7, 0, 3 at ranks 1 to 4; the best order has 7, 3, 1.
        let measured = judgements().measure(&[9, 1, 3, 2], 4, 1.0);
        let found = 7.0 / 3f64.log2() + 3.0 / 5f64.log2();
        let best = 7.0 + 3.0 / 3f64.log2() + 1.0 / 4f64.log2();
        assert!((measured.ndcg - found / best).abs() < 1e-12);
        assert_eq!((measured.mrr, measured.precision), (0.5, 0.5));
        assert!((measured.map - (0.5 + 0.5) / 3.0).abs() < 1e-12);
        assert!((measured.recall - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn nothing_found_and_nothing_relevant_are_no_division_by_zero() {
        let nothing = judgements().measure(&[], 10, 1.0);
        assert_eq!((nothing.ndcg, nothing.mrr, nothing.zero_results), (0.0, 0.0, 1.0));
        let irrelevant = Judgements::default().measure(&[1, 2], 10, 1.0);
        assert_eq!(irrelevant, Measured::default());
        assert_eq!(judgements().measure(&[1], 0, 1.0).precision, 0.0);
    }
}
