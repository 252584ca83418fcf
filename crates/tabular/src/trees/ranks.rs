//! LambdaMART's gradients (Burges, "From RankNet to LambdaRank to LambdaMART", 2010): for each pair of rows of a query with different grades,
//! RankNet's gradient times what swapping the two would change of NDCG.

use runtime::error::Result;
use runtime::jobs::Signal;

/// Rows below this place of a ranking are compared with those above it only.
const TRUNCATED_AT: usize = 30;

/// Rows of queries.
#[derive(Clone, Copy, Debug)]
pub struct Ranks<'a> {
    /// The grade of each row, from 0. The gain of a grade is 2^grade − 1.
    pub grades: &'a [f32],
    /// The rows of query `q` are `starts[q]..starts[q + 1]`.
    pub starts: &'a [usize],
    /// The score of each row that boosting starts from, by another model; none for 0.
    pub base: Option<&'a [f32]>,
}

impl Ranks<'_> {
    /// Gradient and second derivative of the loss by the score of each row.
    pub(super) fn lambdas(&self, scores: &[f32], out: &mut [[f32; 2]], signal: &Signal) -> Result<()> {
        out.fill([0.0; 2]);
        let mut order = Vec::new();
        for query in self.starts.windows(2) {
            signal.check()?;
            order.clear();
            order.extend(query[0]..query[1].min(scores.len()));
            let ideal = ideal_gain(order.iter().map(|&row| self.grades[row]));
            if ideal <= 0.0 {
                continue;
            }
            order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
            for (place, &one) in order.iter().enumerate().take(TRUNCATED_AT) {
                for (below, &other) in order.iter().enumerate().skip(place + 1) {
                    let (better, worse) =
                        if self.grades[one] > self.grades[other] { (one, other) } else { (other, one) };
                    if self.grades[better] == self.grades[worse] {
                        continue;
                    }
                    let gains = gain(self.grades[better]) - gain(self.grades[worse]);
                    let change = gains * (discount(place) - discount(below)) / ideal;
                    let wrong = 1.0 / (1.0 + (scores[better] - scores[worse]).exp());
                    let (gradient, curvature) = (wrong * change, wrong * (1.0 - wrong) * change);
                    out[better] = [out[better][0] - gradient, out[better][1] + curvature];
                    out[worse] = [out[worse][0] + gradient, out[worse][1] + curvature];
                }
            }
        }
        Ok(())
    }
}

fn gain(grade: f32) -> f32 {
    grade.exp2() - 1.0
}

/// Of the place from 0 on.
fn discount(place: usize) -> f32 {
    1.0 / (place as f32 + 2.0).log2()
}

fn ideal_gain(grades: impl Iterator<Item = f32>) -> f32 {
    let mut grades: Vec<f32> = grades.collect();
    grades.sort_by(|a, b| b.total_cmp(a));
    grades.iter().enumerate().map(|(place, &grade)| gain(grade) * discount(place)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_pulls_its_rows_apart_by_what_a_swap_would_change() {
        let ranks = Ranks { grades: &[0.0, 2.0], starts: &[0, 2], base: None };
        let mut out = [[0.0; 2]; 2];
        ranks.lambdas(&[0.5, 0.5], &mut out, &Signal::default()).unwrap();
        // Gains 3 and 0; the best order has 3 / log₂ 2.
        let change = 3.0 * (1.0 - 1.0 / 3f32.log2()) / 3.0;
        assert!((out[0][0] - 0.5 * change).abs() < 1e-6 && (out[1][0] + 0.5 * change).abs() < 1e-6);
        assert!((out[0][1] - 0.25 * change).abs() < 1e-6);
    }

    #[test]
    fn rows_of_different_queries_are_not_compared() {
        let ranks = Ranks { grades: &[0.0, 1.0, 0.0, 1.0, 1.0], starts: &[0, 1, 2, 5], base: None };
        let mut out = [[9.0; 2]; 5];
        ranks.lambdas(&[0.0; 5], &mut out, &Signal::default()).unwrap();
        assert!(out[2][0] > 0.0 && out[3][0] < 0.0 && out[4][0] < 0.0 && out[0] == [0.0; 2]);
    }
}
