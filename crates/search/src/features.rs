//! What a ranking is learned from, for each row that a leg has found.
//!
//! Scores are taken relative to those of the other rows of the query: a BM25 of 12 is much for one query and little for another, and some
//! hundred queries are too few to find that out. What the fields have of the query comes from postings and positions alone.
//!
//! Time: O(rows · fields), beside the lexical scores.

use super::fusion::Candidate;
use lexical::{FieldScores, RowScores};

/// Standard scores beyond this say nothing more.
const MOST: f32 = 4.0;
/// Columns of a row that no field has, and of a field, which a linear score is fitted to.
const OF_ROW: usize = 3;
const OF_FIELD: usize = 4;

/// The first columns, which a linear score is fitted to: each says better where it is greater.
pub fn linear(fields: usize) -> usize {
    OF_ROW + OF_FIELD * fields
}

/// [candidates][columns]. `scores` and `numbers`, the source's own, are those of the candidates, in their order.
pub fn features(candidates: &[Candidate], scores: &[RowScores], numbers: &[&[f32]]) -> Vec<Vec<f32>> {
    // Rows that only have grades are not part of what others are compared with: a search would not see them.
    let is_found: Vec<bool> = candidates.iter().map(Candidate::is_found).collect();
    let standard = |value: &dyn Fn(usize) -> f32| standard_scores(value, &is_found);
    let cosine = |row: usize| candidates[row].cosine.unwrap_or(0.0);
    let (by_words, by_meaning) = (standard(&|row| candidates[row].lexical), standard(&cosine));
    let fields = scores.first().map_or(0, |scores| scores.fields.len());
    let by_field: Vec<Vec<f32>> = (0..fields).map(|field| standard(&|row| scores[row].fields[field].score)).collect();
    let columns = numbers.first().map_or(0, |numbers| numbers.len());
    let of_numbers: Vec<Vec<f32>> = (0..columns).map(|column| standard(&|row| numbers[row][column])).collect();
    let greatest = |value: &dyn Fn(usize) -> f32| {
        (0..candidates.len()).filter(|&row| is_found[row]).map(value).fold(f32::MIN_POSITIVE, f32::max)
    };
    let (most, nearest) = (greatest(&|row| candidates[row].lexical), greatest(&cosine));
    let reciprocal = |rank: Option<u32>| rank.map_or(0.0, |rank| 1.0 / (1.0 + rank as f32));
    let of_row = |(row, (candidate, scores)): (usize, (&Candidate, &RowScores))| {
        let mut features = vec![by_words[row], by_meaning[row], scores.share];
        let of_field = |field: &FieldScores| {
            let has_all = f32::from(u8::from(field.share >= 1.0));
            [field.idf_share, field.neighbours, field.ordered, has_all]
        };
        features.extend(scores.fields.iter().flat_map(of_field));
        features.extend([
            candidate.lexical / most,
            candidate.cosine.unwrap_or(0.0),
            candidate.cosine.unwrap_or(0.0) - nearest,
            reciprocal(candidate.lexical_rank),
            reciprocal(candidate.cosine_rank),
        ]);
        for (field, standard) in scores.fields.iter().zip(&by_field) {
            features.extend([standard[row], field.share]);
        }
        for (column, standard) in of_numbers.iter().enumerate() {
            let number = numbers[row][column];
            features.extend([standard[row], if number.is_finite() { number } else { 0.0 }]);
        }
        features
    };
    candidates.iter().zip(scores).enumerate().map(of_row).collect()
}

/// (value − mean) / standard deviation, both of the rows that were found, within ±[`MOST`]; 0 where all values are equal, and of what is no number.
fn standard_scores(value: &dyn Fn(usize) -> f32, is_found: &[bool]) -> Vec<f32> {
    let found = (0..is_found.len()).filter(|&row| is_found[row]).map(|row| f64::from(value(row)));
    let found: Vec<f64> = found.filter(|value| value.is_finite()).collect();
    let count = found.len().max(1) as f64;
    let mean = found.iter().sum::<f64>() / count;
    let deviation = (found.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
    let standard = |row: usize| match deviation > 1e-6 * mean.abs() {
        true if value(row).is_finite() => (((f64::from(value(row)) - mean) / deviation) as f32).clamp(-MOST, MOST),
        _ => 0.0,
    };
    (0..is_found.len()).map(standard).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(row: u32, lexical: f32, cosine: Option<f32>, rank: Option<u32>) -> Candidate {
        Candidate { row, lexical, lexical_rank: rank, cosine, cosine_rank: None }
    }

    fn scores(row: u32, idf_share: f32) -> RowScores {
        let field = FieldScores { idf_share, neighbours: 1.0, ..FieldScores::default() };
        RowScores { row, score: 0.0, fields: vec![field; 2], share: 0.5 }
    }

    #[test]
    fn scores_are_relative_to_the_rows_that_were_found() {
        let found = [candidate(1, 4.0, Some(0.5), Some(1)), candidate(2, 2.0, Some(0.5), Some(2))];
        let graded = candidate(3, 100.0, Some(0.9), None);
        let numbers: [&[f32]; 3] = [&[10.0], &[30.0], &[f32::NAN]];
        let all = [scores(1, 0.1), scores(2, 0.2), scores(3, 0.3)];
        let columns = features(&[found[0], found[1], graded], &all, &numbers);
        assert_eq!(columns.iter().map(|row| row[0]).collect::<Vec<_>>(), [1.0, -1.0, MOST]);
        // All that were found are equally near.
        assert_eq!(columns.iter().map(|row| row[1]).collect::<Vec<_>>(), [0.0; 3]);
        assert_eq!(columns[2][..linear(2)], [MOST, 0.0, 0.5, 0.3, 1.0, 0.0, 0.0, 0.3, 1.0, 0.0, 0.0]);
        assert!(columns.iter().all(|row| row.len() == columns[0].len()));
        let numbers: Vec<&[f32]> = columns.iter().map(|row| &row[row.len() - 2..]).collect();
        assert_eq!(numbers, [[-1.0, 10.0], [1.0, 30.0], [0.0, 0.0]]);
    }

    #[test]
    fn without_vectors_and_without_rows_there_are_no_numbers_that_are_none() {
        assert!(features(&[], &[], &[]).is_empty());
        let alone = features(&[candidate(1, 0.0, None, None)], &[scores(1, 0.0)], &[&[]]);
        assert!(alone[0].iter().all(|x| x.is_finite()));
    }
}
