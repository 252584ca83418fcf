//! How well one list serves held-out items: what weights and options are searched for with.

use runtime::error::{Error, Result};

/// A metric of a list's first `k` places, from 0 to 1, averaged over users; defined as in [`evaluation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    Ndcg,
    Recall,
}

impl Metric {
    pub const ALL: [Metric; 2] = [Self::Ndcg, Self::Recall];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ndcg => "ndcg",
            Self::Recall => "recall",
        }
    }

    pub fn from_name(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name).ok_or_else(|| Error::UnknownName {
            what: "metric",
            name: name.into(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }

    /// `places`, from 0, of those of the `relevant` items that are ranked at all.
    pub fn of(self, places: impl Iterator<Item = usize>, relevant: usize, k: usize) -> f64 {
        let discount = |place: usize| 1.0 / ((place + 2) as f64).log2();
        let hits = places.filter(|&place| place < k);
        if relevant == 0 || k == 0 {
            return 0.0;
        }
        match self {
            Self::Recall => hits.count() as f64 / relevant as f64,
            Self::Ndcg => hits.map(discount).sum::<f64>() / (0..relevant.min(k)).map(discount).sum::<f64>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_worked_out_by_hand() {
        // Hits at the places 2 and 4; the third relevant item stands past k, the others nowhere.
        let places = || [1, 3, 4].into_iter();
        let ideal = 1.0 + 1.0 / 3f64.log2() + 0.5 + 1.0 / 5f64.log2();
        assert!((Metric::Ndcg.of(places(), 5, 4) - (1.0 / 3f64.log2() + 1.0 / 5f64.log2()) / ideal).abs() < 1e-12);
        assert!((Metric::Recall.of(places(), 5, 4) - 0.4).abs() < 1e-12);
        assert_eq!(Metric::Ndcg.of([].into_iter(), 0, 5), 0.0);
        assert!(Metric::from_name("auc").unwrap_err().hint().unwrap().contains("ndcg, recall"));
    }
}
