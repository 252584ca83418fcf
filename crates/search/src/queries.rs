//! What has been searched for before: to complete what somebody types, and to offer what others looked for.

use bytes::Bytes;
use ndarray::Array2;

use kernels::dot::dot;
use kernels::statistics::normalize;
use onnx::stored::{DataWriter, Files, MappedMatrix};
use runtime::error::{Error, Result};
use runtime::progress::Progress;
use runtime::sorting::sort_watched;

/// The name of the file.
pub const QUERIES: &str = "queries.safetensors";

/// Queries that are kept: the most frequent.
pub const MAX_QUERIES: usize = 10_000;

/// Queries with their number of occurrences, and vectors if the index has them.
pub struct PastQueries {
    /// Most frequent first.
    queries: Vec<(String, u64)>,
    /// [queries, dimensions]
    vectors: MappedMatrix<f32>,
}

impl PastQueries {
    /// The most frequent of some queries, each once, most frequent first, ties by text.
    pub fn most_frequent(queries: &[(String, u64)], progress: &dyn Progress) -> Result<Vec<(String, u64)>> {
        let mut order: Vec<usize> = (0..queries.len()).collect();
        let by_count = |&a: &usize, &b: &usize| {
            let ((a, x), (b, y)) = (&queries[a], &queries[b]);
            y.cmp(x).then_with(|| a.cmp(b))
        };
        sort_watched(&mut order, &|| progress.check(), by_count)?;
        let frequent = order.into_iter().map(|place| &queries[place]).filter(|(text, _)| !text.trim().is_empty());
        Ok(frequent.take(MAX_QUERIES).cloned().collect())
    }

    /// The bytes of the file. `vectors` [queries, dimensions]; dimensions may be 0.
    pub fn pack(queries: &[(String, u64)], mut vectors: Array2<f32>) -> Result<Vec<u8>> {
        let json = serde_json::to_vec(queries).map_err(|e| Error::Internal(e.to_string()))?;
        let mut data = DataWriter::default();
        data.owned("queries", &[json.len()], json);
        kernels::matrix::rows_mut(vectors.view_mut()).for_each(normalize);
        data.dense("vectors", vectors);
        data.finish()
    }

    /// Reads what [`pack`](Self::pack) wrote. `name` is for messages.
    pub fn open(name: &str, bytes: &Bytes) -> Result<Self> {
        let files = Files::open(name, Bytes::new(), bytes)?;
        let ([_], json) = files.tensor::<u8, 1>("queries")?;
        let queries: Vec<(String, u64)> =
            serde_json::from_slice(&json).map_err(|_| files.damaged("its past queries are inconsistent"))?;
        let vectors = files.tensor_matrix::<f32>("vectors")?;
        if ![0, queries.len()].contains(&vectors.dim().0) {
            return Err(files.damaged("its past queries do not fit their vectors"));
        }
        Ok(Self { queries, vectors })
    }

    /// The `k` most frequent queries that begin with a text, in any case.
    pub fn complete(&self, prefix: &str, k: usize) -> Vec<(&str, u64)> {
        let prefix = prefix.trim_start().to_lowercase();
        let begins = self.queries.iter().filter(|(text, _)| text.to_lowercase().starts_with(&prefix));
        begins.take(k).map(|(text, count)| (text.as_str(), *count)).collect()
    }

    /// The `k` queries that are most like a text, as (query, occurrences, similarity): by the cosine of vectors, or by the part of the words that both
    /// have (Jaccard) without. The text itself is left out, and what has nothing in common with it.
    pub fn related(
        &self,
        text: &str,
        vector: Option<&[f32]>,
        k: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<(&str, u64, f32)>> {
        let unit = vector.filter(|vector| vector.len() == self.vectors.dim().1).map(|vector| {
            let mut unit = vector.to_vec();
            normalize(&mut unit);
            unit
        });
        let own = words(text);
        let mut related = Vec::new();
        for (place, (query, count)) in self.queries.iter().enumerate() {
            if place % 256 == 0 {
                progress.check()?;
            }
            let other = words(query);
            if other == own {
                continue;
            }
            let similarity = match (&unit, self.vectors.row(place)) {
                (Some(unit), Some(row)) => dot(row, unit),
                _ => {
                    let both = own.iter().filter(|word| other.contains(word)).count();
                    both as f32 / (own.len() + other.len() - both).max(1) as f32
                }
            };
            if similarity > 0.0 {
                related.push((query.as_str(), *count, similarity));
            }
        }
        related.sort_by(|(_, m, a), (_, n, b)| b.total_cmp(a).then(n.cmp(m)));
        related.truncate(k);
        Ok(related)
    }
}

/// The distinct words of a text in ascending order.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    words.sort_unstable();
    words.dedup();
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::progress::Unwatched;

    fn past(vectors: Array2<f32>) -> PastQueries {
        let queries = ["red shoes", "shoes", "tea", " ", "Red wine"].map(|text| (text.to_owned(), text.len() as u64));
        let queries = PastQueries::most_frequent(&queries, &Unwatched).unwrap();
        assert_eq!(
            queries.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>(),
            ["red shoes", "Red wine", "shoes", "tea"]
        );
        PastQueries::open("m", &PastQueries::pack(&queries, vectors).unwrap().into()).unwrap()
    }

    #[test]
    fn queries_are_completed_in_any_case_most_frequent_first() {
        let past = past(Array2::default((0, 0)));
        assert_eq!(past.complete("RE", 5), [("red shoes", 9), ("Red wine", 8)]);
        assert_eq!(past.complete("", 1).len(), 1);
        assert!(past.complete("x", 5).is_empty());
    }

    #[test]
    fn related_queries_share_words_or_are_near_in_meaning() {
        let by_words = past(Array2::default((0, 0)));
        let found = by_words.related("shoes red cheap", None, 5, &Unwatched).unwrap();
        assert_eq!(found.iter().map(|(text, ..)| *text).collect::<Vec<_>>(), ["red shoes", "shoes", "Red wine"]);
        assert_eq!(by_words.related("tea", None, 5, &Unwatched).unwrap(), []);
        let vectors = ndarray::array![[3f32, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.0]];
        let found = past(vectors);
        let found = found.related("boots", Some(&[2.0, 0.0]), 5, &Unwatched).unwrap();
        assert_eq!(found.iter().map(|(text, ..)| *text).collect::<Vec<_>>(), ["red shoes", "shoes"]);
        assert!((found[0].2 - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let bytes = PastQueries::pack(&[("a".into(), 1)], Array2::zeros((1, 2))).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x11;
            drop(PastQueries::open("m", &damaged.into()));
        }
        assert!(PastQueries::open("m", &Bytes::from(bytes[..bytes.len() - 5].to_vec())).is_err());
    }
}
