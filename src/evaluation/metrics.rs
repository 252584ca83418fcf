//! Ranking metrics at `k` with binary relevance, averaged over the users that have at least one relevant item.
//!
//! For one user with the ranked list `r_1 … r_n` (cut at `k`), the set `T` of relevant items, and
//! `hits = |{r_1 … r_k} ∩ T|`:
//!
//! | metric | value |
//! |---|---|
//! | `precision` | `hits / k` |
//! | `recall` | `hits / \|T\|` |
//! | `f1` | `2 · precision · recall / (precision + recall)`, 0 without hits |
//! | `ndcg` | `Σ_{j ≤ k, r_j ∈ T} 1 / log₂(j + 1)` over the same of an ideal list, `Σ_{j ≤ min(k, \|T\|)} 1 / log₂(j + 1)` (Järvelin, Kekäläinen 2002) |
//! | `map` | `Σ_{j ≤ k, r_j ∈ T} (hits among the first j) / j`, over `min(k, \|T\|)` |
//! | `hit_rate` | 1 with any hit, else 0 |
//!
//! `coverage` is of all users together: the share of the catalogue that stands in any list.

use std::collections::HashSet;

/// A user's list and what was right.
pub struct RankedUser<'a> {
    /// Best first; anything past `k` is ignored.
    pub ranked: &'a [u32],
    /// In any order, each once.
    pub relevant: &'a [u32],
}

/// Sums over users; [`values`](Self::values) gives the averages.
#[derive(Clone, Debug)]
pub struct Metrics {
    k: usize,
    items: usize,
    users: usize,
    precision: f64,
    recall: f64,
    f1: f64,
    ndcg: f64,
    map: f64,
    hits: usize,
    recommended: HashSet<u32>,
}

impl Metrics {
    /// At `k`, in a catalogue of `items`.
    pub fn new(k: usize, items: usize) -> Self {
        Self {
            k,
            items,
            users: 0,
            precision: 0.0,
            recall: 0.0,
            f1: 0.0,
            ndcg: 0.0,
            map: 0.0,
            hits: 0,
            recommended: HashSet::new(),
        }
    }

    /// Takes one user in. A user without relevant items says nothing and is left out.
    pub fn add(&mut self, user: RankedUser) {
        let ranked = &user.ranked[..user.ranked.len().min(self.k)];
        let relevant: HashSet<u32> = user.relevant.iter().copied().collect();
        if relevant.is_empty() || self.k == 0 {
            return;
        }
        self.users += 1;
        self.recommended.extend(ranked);
        let (mut hits, mut gain, mut precisions) = (0usize, 0f64, 0f64);
        for (place, item) in ranked.iter().enumerate() {
            if relevant.contains(item) {
                hits += 1;
                gain += discount(place);
                precisions += hits as f64 / (place + 1) as f64;
            }
        }
        let best = relevant.len().min(self.k);
        let (precision, recall) = (hits as f64 / self.k as f64, hits as f64 / relevant.len() as f64);
        self.precision += precision;
        self.recall += recall;
        if hits > 0 {
            self.f1 += 2.0 * precision * recall / (precision + recall);
            self.hits += 1;
        }
        self.ndcg += gain / (0..best).map(discount).sum::<f64>();
        self.map += precisions / best as f64;
    }

    /// Users taken in.
    pub fn users(&self) -> usize {
        self.users
    }

    /// Each metric's name and average. All 0 without users.
    pub fn values(&self) -> Vec<(&'static str, f64)> {
        let users = self.users.max(1) as f64;
        vec![
            ("precision", self.precision / users),
            ("recall", self.recall / users),
            ("f1", self.f1 / users),
            ("ndcg", self.ndcg / users),
            ("map", self.map / users),
            ("hit_rate", self.hits as f64 / users),
            ("coverage", self.recommended.len() as f64 / self.items.max(1) as f64),
        ]
    }

    /// One of the [`values`](Self::values).
    pub fn value(&self, name: &str) -> Option<f64> {
        self.values().into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

/// `1 / log₂(j + 1)` for the 1-based place `j`.
fn discount(place: usize) -> f64 {
    1.0 / ((place + 2) as f64).log2()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(metrics: &Metrics, name: &str) -> f64 {
        metrics.value(name).unwrap()
    }

    #[test]
    fn values_are_those_worked_out_by_hand() {
        let mut m = Metrics::new(4, 10);
        m.add(RankedUser { ranked: &[3, 1, 7, 2, 9], relevant: &[1, 2, 5, 9, 0] });
        // Hits at places 2 and 4; 9 stands past k.
        assert!((value(&m, "precision") - 0.5).abs() < 1e-12);
        assert!((value(&m, "recall") - 0.4).abs() < 1e-12);
        assert!((value(&m, "f1") - 4.0 / 9.0).abs() < 1e-12);
        let ideal = 1.0 + 1.0 / 3f64.log2() + 0.5 + 1.0 / 5f64.log2();
        assert!((value(&m, "ndcg") - (1.0 / 3f64.log2() + 1.0 / 5f64.log2()) / ideal).abs() < 1e-12);
        assert!((value(&m, "map") - (0.5 + 0.5) / 4.0).abs() < 1e-12);
        assert_eq!(value(&m, "hit_rate"), 1.0);
        assert!((value(&m, "coverage") - 0.4).abs() < 1e-12);
        m.add(RankedUser { ranked: &[], relevant: &[1] });
        m.add(RankedUser { ranked: &[5], relevant: &[] });
        assert_eq!(m.users(), 2);
        assert!((value(&m, "hit_rate") - 0.5).abs() < 1e-12);
    }

    #[test]
    fn a_perfect_list_scores_one_and_no_users_score_zero() {
        let mut m = Metrics::new(3, 3);
        assert!(m.values().iter().all(|(_, v)| *v == 0.0));
        m.add(RankedUser { ranked: &[2, 0, 1], relevant: &[0, 1, 2] });
        assert!(m.values().iter().all(|(_, v)| (v - 1.0).abs() < 1e-12));
    }
}
