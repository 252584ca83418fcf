//! One ranking from two: of the words, and of the meaning.
//!
//! Without judgements, reciprocal rank fusion (Cormack, Clarke, Büttcher, SIGIR 2009): Σ 1 / (60 + rank) over both orders of the rows that either
//! leg has found. A row that only one leg lists has its place in the other order too, behind the listed ones: as nothing there, it would lose to what
//! is mediocre in both. With judgements, a convex combination of the scores (Bruch, Gai, Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval", TOIS 2023), the
//! lexical one divided by the greatest of the query, with the weight that ranked the judged rows best.

use serde::{Deserialize, Serialize};

/// The constant of reciprocal rank fusion.
pub const RRF: f32 = 60.0;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fusion {
    ReciprocalRanks,
    /// The share of the lexical score, from 0 to 1.
    Weighted(f32),
    /// By the index's trees.
    Learned,
}

/// A row that a leg has found, with what both say of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    pub row: u32,
    /// BM25; 0 where no word matches.
    pub lexical: f32,
    /// Its place in the lexical list, from 1.
    pub lexical_rank: Option<u32>,
    /// The cosine with the query's vector; `None` without vectors.
    pub cosine: Option<f32>,
    pub cosine_rank: Option<u32>,
}

impl Candidate {
    /// Whether a leg lists it; of other rows only the grades are known.
    pub fn is_found(&self) -> bool {
        self.lexical_rank.is_some() || self.cosine_rank.is_some()
    }
}

impl Fusion {
    /// The candidates' scores, best first, ties by row. A learned fusion is the index's own; what it lacks, reciprocal ranks give.
    pub fn rank(self, candidates: &[Candidate]) -> Vec<(f32, Candidate)> {
        let scores = match self {
            Self::ReciprocalRanks | Self::Learned => {
                let of_words = reciprocal_ranks(candidates, |c| Some(c.lexical).filter(|&score| score > 0.0));
                let of_meaning = reciprocal_ranks(candidates, |c| c.cosine);
                of_words.into_iter().zip(of_meaning).map(|(a, b)| a + b).collect()
            }
            Self::Weighted(share) => weighted(candidates, share),
        };
        let mut ranked: Vec<(f32, Candidate)> = scores.into_iter().zip(candidates.iter().copied()).collect();
        ranked.sort_by(|(a, x), (b, y)| b.total_cmp(a).then(x.row.cmp(&y.row)));
        ranked
    }
}

/// 1 / (60 + rank) of each candidate in the order of a score, ties by row; 0 without one.
fn reciprocal_ranks(candidates: &[Candidate], score: impl Fn(&Candidate) -> Option<f32>) -> Vec<f32> {
    let mut order: Vec<(f32, u32, usize)> = candidates
        .iter()
        .enumerate()
        .filter_map(|(place, candidate)| Some((score(candidate)?, candidate.row, place)))
        .collect();
    order.sort_unstable_by(|(a, x, _), (b, y, _)| b.total_cmp(a).then(x.cmp(y)));
    let mut ranks = vec![0.0; candidates.len()];
    order.iter().zip(1..).for_each(|((.., place), rank)| ranks[*place] = 1.0 / (RRF + rank as f32));
    ranks
}

fn weighted(candidates: &[Candidate], share: f32) -> Vec<f32> {
    let greatest = candidates.iter().map(|c| c.lexical).fold(0f32, f32::max);
    let score = |candidate: &Candidate| {
        let lexical = if greatest > 0.0 { candidate.lexical / greatest } else { 0.0 };
        share * lexical + (1.0 - share) * candidate.cosine.unwrap_or(0.0)
    };
    candidates.iter().map(score).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(
        row: u32,
        lexical: f32,
        lexical_rank: Option<u32>,
        cosine: f32,
        cosine_rank: Option<u32>,
    ) -> Candidate {
        Candidate { row, lexical, lexical_rank, cosine: Some(cosine), cosine_rank }
    }

    fn rows(ranked: Vec<(f32, Candidate)>) -> Vec<u32> {
        ranked.into_iter().map(|(_, candidate)| candidate.row).collect()
    }

    #[test]
    fn a_row_counts_by_its_places_in_both_orders() {
        let found = [
            candidate(5, 3.0, Some(1), 0.1, None),
            candidate(7, 2.0, Some(2), 0.8, Some(2)),
            candidate(2, 0.0, None, 0.9, Some(1)),
        ];
        let ranked = Fusion::ReciprocalRanks.rank(&found);
        // Row 5 is the third by meaning, though that leg did not list it; row 2 has none of the words.
        let expected = [1.0 / 61.0 + 1.0 / 63.0, 2.0 / 62.0, 1.0 / 61.0];
        assert!(ranked.iter().zip(expected).all(|((score, _), expected)| (score - expected).abs() < 1e-7));
        assert_eq!(rows(ranked), [5, 7, 2]);
    }

    #[test]
    fn a_weight_moves_the_ranking_from_one_leg_to_the_other() {
        let found = [candidate(1, 4.0, Some(1), 0.2, Some(2)), candidate(2, 1.0, Some(2), 0.9, Some(1))];
        assert_eq!(rows(Fusion::Weighted(1.0).rank(&found)), [1, 2]);
        assert_eq!(rows(Fusion::Weighted(0.0).rank(&found)), [2, 1]);
        let alone = [Candidate { cosine: None, ..found[0] }, Candidate { cosine: None, ..found[1] }];
        assert_eq!(rows(Fusion::Weighted(0.5).rank(&alone)), [1, 2]);
    }
}
