//! Metrics of one user's list at `k`, with binary relevance, and their averages.
//!
//! For a user with ranked list `r_1 … r_n` (cut at `k`), relevant items `T`, `C` candidates to choose from, and
//! `hits = |{r_1 … r_k} ∩ T|`:
//!
//! | metric | value |
//! |---|---|
//! | `precision` | `hits / k` |
//! | `recall` | `hits / \|T\|` |
//! | `f1` | `2 · precision · recall / (precision + recall)`, 0 without hits |
//! | `ndcg` | `Σ_{j ≤ k, r_j ∈ T} 1 / log₂(j + 1)` divided by that of an ideal list, `Σ_{j ≤ min(k, \|T\|)} 1 / log₂(j + 1)` (Järvelin, Kekäläinen 2002) |
//! | `map` | `Σ_{j ≤ k, r_j ∈ T} (hits among the first j) / j`, over `min(k, \|T\|)` |
//! | `hit_rate` | 1 with any hit, else 0 |
//! | `mrr` | `1 / j` of the first hit `r_j`, 0 without hits (Voorhees 1999) |
//! | `accuracy` | the share of candidates classified correctly when exactly the listed ones are called relevant: `(C − (n − hits) − (\|T\| − hits)) / C` |
//! | `auc` | the share of pairs of a relevant and another candidate in the right order, ties counting half: see [`super::order`] |
//! | `diversity`, `novelty` | see [`super::catalogue`] |
//! | `popularity_bias` | `ΔGAP = (GAP_r − GAP_p) / GAP_p`, where `GAP_r` is the mean over users of the mean popularity of their list and `GAP_p` that of their own items (Abdollahpouri, Mansoury, Burke, Mobasher, "The unfairness of popularity bias in recommendation", 2019, eq. 1 and 2); users without items are left out |
//! | `coverage` | over all lists: the share of the catalogue that is listed at all |
//! | `gini` | over all lists: the Gini index of how often each item is listed, `Σ_j (2j − n − 1) x_j / (n Σ x)` for ascending `x_1 … x_n` (Shani, Gunawardana 2011, §8.3.3): 0 where all items are listed equally often |
//!
//! All but the last three are averaged over the users with a value.

use runtime::error::{Error, Result};

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    Precision,
    Recall,
    F1,
    Ndcg,
    Map,
    HitRate,
    Mrr,
    Accuracy,
    Auc,
    Diversity,
    Novelty,
    PopularityBias,
    Coverage,
    Gini,
}

/// Number of metrics with a value for each user: the first of [`Metric::ALL`].
pub const OF_USERS: usize = 12;

impl Metric {
    pub const ALL: [Metric; 14] = [
        Self::Precision,
        Self::Recall,
        Self::F1,
        Self::Ndcg,
        Self::Map,
        Self::HitRate,
        Self::Mrr,
        Self::Accuracy,
        Self::Auc,
        Self::Diversity,
        Self::Novelty,
        Self::PopularityBias,
        Self::Coverage,
        Self::Gini,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Precision => "precision",
            Self::Recall => "recall",
            Self::F1 => "f1",
            Self::Ndcg => "ndcg",
            Self::Map => "map",
            Self::HitRate => "hit_rate",
            Self::Mrr => "mrr",
            Self::Accuracy => "accuracy",
            Self::Auc => "auc",
            Self::Diversity => "diversity",
            Self::Novelty => "novelty",
            Self::PopularityBias => "popularity_bias",
            Self::Coverage => "coverage",
            Self::Gini => "gini",
        }
    }

    pub fn from_name(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|m| m.name() == name).ok_or_else(|| Error::UnknownName {
            what: "metric",
            name: name.into(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }

    /// Whether it measures the lists regardless of relevance. Such metrics do not apply to lists chosen from a few candidates.
    pub fn is_of_lists(self) -> bool {
        matches!(self, Self::Diversity | Self::Novelty | Self::PopularityBias | Self::Coverage | Self::Gini)
    }
}

/// A set of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricSet([bool; Metric::ALL.len()]);

impl MetricSet {
    pub fn all() -> Self {
        Self([true; Metric::ALL.len()])
    }

    /// The metrics of relevance.
    pub fn of_relevance() -> Self {
        Metric::ALL.into_iter().filter(|m| !m.is_of_lists()).collect()
    }

    pub fn contains(self, metric: Metric) -> bool {
        self.0[metric as usize]
    }

    pub fn iter(self) -> impl Iterator<Item = Metric> {
        Metric::ALL.into_iter().filter(move |&metric| self.contains(metric))
    }
}

impl FromIterator<Metric> for MetricSet {
    fn from_iter<I: IntoIterator<Item = Metric>>(metrics: I) -> Self {
        let mut set = Self([false; Metric::ALL.len()]);
        metrics.into_iter().for_each(|metric| set.0[metric as usize] = true);
        set
    }
}

/// The values of one user, NaN where there is none. `popularity_bias` holds the popularity of the list until it is averaged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Values {
    of_metric: [f64; OF_USERS],
    /// The mean popularity of the user's own items.
    profile_popularity: f64,
}

impl Default for Values {
    fn default() -> Self {
        Self { of_metric: [f64::NAN; OF_USERS], profile_popularity: f64::NAN }
    }
}

impl Values {
    pub fn set(&mut self, metric: Metric, value: f64) {
        if let Some(slot) = self.of_metric.get_mut(metric as usize) {
            *slot = value;
        }
    }

    pub fn set_popularity(&mut self, list: f64, profile: f64) {
        self.set(Metric::PopularityBias, list);
        self.profile_popularity = profile;
    }

    /// `None` without a value, and for metrics that have none for a single user.
    pub fn get(&self, metric: Metric) -> Option<f64> {
        let of_one = metric != Metric::PopularityBias;
        self.of_metric.get(metric as usize).copied().filter(|value| of_one && !value.is_nan())
    }

    /// Numerator and denominator of a metric's average.
    #[inline]
    fn terms(&self, metric: usize) -> (f64, f64) {
        let value = self.of_metric[metric];
        if metric == Metric::PopularityBias as usize {
            return if self.profile_popularity > 0.0 && !value.is_nan() {
                (value, self.profile_popularity)
            } else {
                (0.0, 0.0)
            };
        }
        if value.is_nan() { (0.0, 0.0) } else { (value, 1.0) }
    }
}

/// Sums over users, for averages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    numerators: [f64; OF_USERS],
    denominators: [f64; OF_USERS],
}

impl Sums {
    pub fn of<'a>(users: impl IntoIterator<Item = &'a Values>) -> Self {
        let mut sums = Self::default();
        users.into_iter().for_each(|user| sums.add(user));
        sums
    }

    #[inline]
    pub fn add(&mut self, user: &Values) {
        for metric in 0..OF_USERS {
            let (numerator, denominator) = user.terms(metric);
            self.numerators[metric] += numerator;
            self.denominators[metric] += denominator;
        }
    }

    pub fn merge(&mut self, other: &Self) {
        for metric in 0..OF_USERS {
            self.numerators[metric] += other.numerators[metric];
            self.denominators[metric] += other.denominators[metric];
        }
    }

    /// The average; `None` if no user has a value.
    pub fn value(&self, metric: Metric) -> Option<f64> {
        let (numerator, denominator) = (self.numerators.get(metric as usize)?, self.denominators.get(metric as usize)?);
        let offset = if metric == Metric::PopularityBias { 1.0 } else { 0.0 };
        (*denominator > 0.0).then(|| numerator / denominator - offset)
    }
}

/// A user's list and relevant items.
pub struct Judged<'a> {
    /// Best first, at most `k`.
    pub ranked: &'a [u32],
    /// The items to find: ascending, distinct, not empty.
    pub relevant: &'a [u32],
    /// Ascending, including `relevant`. The others count neither as right nor as wrong.
    pub all_relevant: &'a [u32],
    pub k: usize,
    /// Number of candidates, including `all_relevant`.
    pub candidates: usize,
}

impl Judged<'_> {
    /// Sets the metrics that depend on the list only.
    pub fn measure(&self, values: &mut Values) {
        let (mut hits, mut gain, mut precisions, mut first) = (0usize, 0f64, 0f64, None);
        let mut neutral_listed = 0;
        for (place, item) in self.ranked.iter().enumerate() {
            if self.relevant.binary_search(item).is_ok() {
                hits += 1;
                gain += discount(place);
                precisions += hits as f64 / (place + 1) as f64;
                first = first.or(Some(place));
            } else if self.all_relevant.binary_search(item).is_ok() {
                neutral_listed += 1;
            }
        }
        let best = self.relevant.len().min(self.k);
        let (precision, recall) = (hits as f64 / self.k as f64, hits as f64 / self.relevant.len() as f64);
        values.set(Metric::Precision, precision);
        values.set(Metric::Recall, recall);
        values.set(Metric::F1, if hits > 0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 });
        values.set(Metric::Ndcg, gain / (0..best).map(discount).sum::<f64>());
        values.set(Metric::Map, precisions / best as f64);
        values.set(Metric::HitRate, if hits > 0 { 1.0 } else { 0.0 });
        values.set(Metric::Mrr, first.map_or(0.0, |place| 1.0 / (place + 1) as f64));

        let judged = (self.candidates + self.relevant.len()).saturating_sub(self.all_relevant.len());
        let wrong = (self.ranked.len() - hits - neutral_listed) + (self.relevant.len() - hits);
        values.set(Metric::Accuracy, (judged.saturating_sub(wrong)) as f64 / judged as f64);
    }
}

/// `1 / log₂(j + 1)` for the 1-based place `j`.
fn discount(place: usize) -> f64 {
    1.0 / ((place + 2) as f64).log2()
}

/// The Gini index of how often each item is listed; `None` if none is.
pub fn gini(exposure: &[u32]) -> Option<f64> {
    let mut ascending = exposure.to_vec();
    ascending.sort_unstable();
    let n = ascending.len() as f64;
    let total: f64 = ascending.iter().map(|&x| f64::from(x)).sum();
    let weighted: f64 = (1..).zip(&ascending).map(|(j, &x)| (2.0 * f64::from(j) - n - 1.0) * f64::from(x)).sum();
    (total > 0.0).then(|| weighted / (n * total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged<'a>(ranked: &'a [u32], relevant: &'a [u32], k: usize, candidates: usize) -> Judged<'a> {
        Judged { ranked: &ranked[..ranked.len().min(k)], relevant, all_relevant: relevant, k, candidates }
    }

    fn values(judged: &Judged) -> Values {
        let mut values = Values::default();
        judged.measure(&mut values);
        values
    }

    fn close(values: &Values, metric: Metric, expected: f64) {
        let value = values.get(metric).unwrap();
        assert!((value - expected).abs() < 1e-12, "{metric:?}: {value} {expected}");
    }

    #[test]
    fn values_are_those_worked_out_by_hand() {
        let v = values(&judged(&[3, 1, 7, 2, 9], &[0, 1, 2, 5, 9], 4, 10));
        // Hits at places 2 and 4; 9 stands past k.
        close(&v, Metric::Precision, 0.5);
        close(&v, Metric::Recall, 0.4);
        close(&v, Metric::F1, 4.0 / 9.0);
        let ideal = 1.0 + 1.0 / 3f64.log2() + 0.5 + 1.0 / 5f64.log2();
        close(&v, Metric::Ndcg, (1.0 / 3f64.log2() + 1.0 / 5f64.log2()) / ideal);
        close(&v, Metric::Map, (0.5 + 0.5) / 4.0);
        close(&v, Metric::HitRate, 1.0);
        close(&v, Metric::Mrr, 0.5);
        // 1 and 2 rightly listed, 4, 6 and 8 rightly not.
        close(&v, Metric::Accuracy, 0.5);
        assert_eq!(v.get(Metric::Auc), None);
    }

    #[test]
    fn values_are_those_of_ranx_and_scikit_learn() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/evaluation_golden.json")).unwrap();
        let numbers = |value: &serde_json::Value| -> Vec<u32> {
            value.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as u32).collect()
        };
        let mut compared = 0;
        for (k, expected) in golden["values"].as_object().unwrap() {
            for (n, user) in golden["users"].as_array().unwrap().iter().enumerate() {
                let (ranked, relevant) = (numbers(&user["ranked"]), numbers(&user["relevant"]));
                let scores: Vec<f32> = numbers(&user["scores"]).into_iter().map(|s| s as f32).collect();
                let mut v = values(&judged(&ranked, &relevant, k.parse().unwrap(), ranked.len()));
                let place = |score| crate::order::Place { score, popularity: 0.0 };
                let places: Vec<_> = relevant.iter().map(|&i| place(scores[i as usize])).collect();
                let mut others = scores.clone();
                relevant.iter().for_each(|&i| others[i as usize] = f32::NAN);
                let popularity = vec![0.0; scores.len()];
                v.set(Metric::Auc, crate::order::auc(&places, &others, &popularity));
                for (name, of_users) in expected.as_object().unwrap() {
                    close(&v, Metric::from_name(name).unwrap(), of_users[n].as_f64().unwrap());
                    compared += 1;
                }
            }
        }
        assert_eq!(compared, 3 * 24 * 9);
    }

    #[test]
    fn a_perfect_list_scores_one_and_an_empty_one_zero() {
        let perfect = values(&judged(&[2, 0, 1], &[0, 1, 2], 3, 9));
        let empty = values(&judged(&[], &[0, 1, 2], 3, 3));
        for metric in Metric::ALL.into_iter().filter(|m| !m.is_of_lists() && *m != Metric::Auc) {
            close(&perfect, metric, 1.0);
            close(&empty, metric, 0.0);
        }
    }

    #[test]
    fn what_is_relevant_elsewhere_is_neither_right_nor_wrong() {
        let part = Judged { ranked: &[4, 1, 6], relevant: &[1], all_relevant: &[1, 4, 5], k: 3, candidates: 10 };
        let v = values(&part);
        close(&v, Metric::Recall, 1.0);
        close(&v, Metric::Mrr, 0.5);
        // Without 4 and 5 there are 8 candidates, of which 6 is wrongly listed.
        close(&v, Metric::Accuracy, 7.0 / 8.0);
    }

    #[test]
    fn averages_are_over_the_users_that_have_a_value() {
        let mut one = values(&judged(&[1], &[1], 1, 4));
        one.set(Metric::Auc, 0.5);
        one.set_popularity(6.0, 2.0);
        let mut other = values(&judged(&[2], &[1], 1, 4));
        other.set_popularity(9.0, f64::NAN);
        let sums = Sums::of([&one, &other]);
        assert_eq!(sums.value(Metric::Recall), Some(0.5));
        assert_eq!(sums.value(Metric::Auc), Some(0.5));
        assert_eq!(sums.value(Metric::PopularityBias), Some(2.0));
        assert_eq!((sums.value(Metric::Diversity), sums.value(Metric::Gini)), (None, None));
        assert_eq!(Sums::default().value(Metric::Recall), None);
    }

    #[test]
    fn gini_is_nought_for_equal_shares_and_greatest_for_one_item() {
        assert_eq!(gini(&[3, 3, 3]), Some(0.0));
        assert_eq!(gini(&[0, 0, 0, 8]), Some(0.75));
        assert_eq!(gini(&[0, 0]), None);
        assert_eq!(gini(&[]), None);
    }

    #[test]
    fn names_are_found_and_others_are_errors() {
        for (n, metric) in Metric::ALL.into_iter().enumerate() {
            assert_eq!((Metric::from_name(metric.name()).unwrap(), metric as usize), (metric, n));
        }
        assert!(Metric::from_name("NDCG").unwrap_err().hint().unwrap().contains("ndcg"));
        assert_eq!(MetricSet::all().iter().count(), 14);
        assert_eq!(MetricSet::of_relevance().iter().count(), 9);
    }
}
