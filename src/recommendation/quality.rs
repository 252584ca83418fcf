//! How well one list serves held-out items: what weights and options are searched for with.

use crate::error::{Error, Result};

/// A metric of a list's first `k` places, from 0 to 1; as in [`crate::evaluation::Metrics`].
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
    fn values_are_those_of_the_evaluation() {
        use crate::evaluation::{Metrics, RankedUser};
        let (ranked, relevant) = ([3, 1, 7, 2, 9], [1, 2, 5, 9, 0]);
        for k in [1, 2, 4, 5, 9] {
            let mut metrics = Metrics::new(k, 10);
            metrics.add(RankedUser { ranked: &ranked, relevant: &relevant });
            for metric in Metric::ALL {
                let places = relevant.iter().filter_map(|item| ranked.iter().position(|other| other == item));
                let value = metric.of(places, relevant.len(), k);
                assert!((value - metrics.value(metric.name()).unwrap()).abs() < 1e-12, "{metric:?} {k}");
            }
        }
        assert_eq!(Metric::Ndcg.of([].into_iter(), 0, 5), 0.0);
        assert!(Metric::from_name("auc").unwrap_err().hint().unwrap().contains("ndcg, recall"));
    }
}
