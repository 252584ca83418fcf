//! Summaries: the averages of one model, or those of two models side by side.

use super::bootstrap::Bootstrap;
use super::evaluate::Measured;
use super::metrics::{Metric, MetricSet, Sums, Values, gini};
use super::segments::Group;
use super::significance::paired_t_test;
use runtime::error::{Error, Result};
use runtime::progress::Progress;

/// One metric of one segment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    pub segment: &'static str,
    pub metric: Metric,
    /// `None` if no user has a value.
    pub value: Option<f64>,
    /// The bootstrap interval; `None` also for metrics that are not averages over users.
    pub interval: Option<(f64, f64)>,
}

/// One metric of one segment, for two models.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    pub segment: &'static str,
    pub metric: Metric,
    pub values: [Option<f64>; 2],
    /// Interval of the difference, first minus second.
    pub interval: Option<(f64, f64)>,
    /// By the paired t-test; `None` for metrics without a value for each user.
    pub p_value: Option<f64>,
}

impl Comparison {
    pub fn difference(&self) -> Option<f64> {
        Some(self.values[0]? - self.values[1]?)
    }
}

/// The metrics of each segment, all users first.
pub fn summarise(
    measured: &Measured,
    metrics: MetricSet,
    bootstrap: &Bootstrap,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (number, group) in measured.groups.iter().enumerate() {
        progress.report("segments summed up", number, measured.groups.len());
        let sums = sums(&measured.rows, group);
        let resamples = bootstrap.resample([&measured.rows], &group.rows, threads, progress)?;
        for metric in of_group(metrics, group) {
            lines.push(Line {
                segment: group.segment,
                metric,
                value: value(&sums, group, metric),
                interval: bootstrap.interval(resamples.iter().map(|[sums]| sums.value(metric))),
            });
        }
    }
    Ok(lines)
}

/// Compares two models on the same cases.
pub fn compare(
    measured: [&Measured; 2],
    metrics: MetricSet,
    bootstrap: &Bootstrap,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<Comparison>> {
    let [a, b] = measured;
    if a.rows.len() != b.rows.len() || a.groups.len() != b.groups.len() {
        return Err(Error::Internal("two models were not asked the same".into()));
    }
    let mut lines = Vec::new();
    for (number, (group, other)) in a.groups.iter().zip(&b.groups).enumerate() {
        progress.report("segments compared", number, a.groups.len());
        let sums = [sums(&a.rows, group), sums(&b.rows, group)];
        let resamples = bootstrap.resample([&a.rows, &b.rows], &group.rows, threads, progress)?;
        for metric in of_group(metrics, group) {
            progress.check()?;
            let difference = |sums: &[Sums; 2]| Some(sums[0].value(metric)? - sums[1].value(metric)?);
            let of_users = group
                .rows
                .iter()
                .filter_map(|&row| Some(a.rows[row as usize].get(metric)? - b.rows[row as usize].get(metric)?));
            lines.push(Comparison {
                segment: group.segment,
                metric,
                values: [value(&sums[0], group, metric), value(&sums[1], other, metric)],
                interval: bootstrap.interval(resamples.iter().map(difference)),
                p_value: paired_t_test(&of_users.collect::<Vec<f64>>()),
            });
        }
    }
    Ok(lines)
}

fn sums(rows: &[Values], group: &Group) -> Sums {
    Sums::of(group.rows.iter().map(|&row| &rows[row as usize]))
}

fn of_group(metrics: MetricSet, group: &Group) -> impl Iterator<Item = Metric> {
    let of_items = group.of_items;
    metrics.iter().filter(move |metric| !(of_items && metric.is_of_lists()))
}

fn value(sums: &Sums, group: &Group, metric: Metric) -> Option<f64> {
    match (metric, &group.exposure) {
        (Metric::Coverage, Some(exposure)) => {
            let listed = exposure.iter().filter(|&&lists| lists > 0).count();
            (!group.rows.is_empty()).then(|| listed as f64 / exposure.len().max(1) as f64)
        }
        (Metric::Gini, Some(exposure)) => gini(exposure),
        _ => sums.value(metric),
    }
}
