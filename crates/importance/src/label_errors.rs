//! Rows whose label is most likely wrong, with a suggested label.
//!
//! Confident learning (Northcutt, Jiang, Chuang, JAIR 2021): a row of label i counts for class j if p_j is at least
//! t_j, the mean of p_j over the rows of label j, and the greatest among the classes that reach theirs (eq. 1 and 2). The
//! counts, scaled so that those of a label add up to its rows (eq. 3), estimate how many rows of label i belong to class j;
//! that many are reported, those with the greatest p_j − p_i ("prune by noise rate", section 3.3). A row whose own label is
//! the most likely one is not reported. The probabilities are those of [`out_of_sample`](crate::out_of_sample), out of
//! sample.
//!
//! Time and memory: those of the ensemble, and O(classes²) counts.

use ndarray::ArrayView2;

use crate::out_of_sample::{label_over_other, predict};
use crate::task::Task;
use kernels::matrix::flat;
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::options::Options;
use runtime::pool::with_pool;
use runtime::progress::Progress;
use runtime::sorting::sort_watched;
use tabular::Labels;

/// Rows counted between two checks for a cancel request.
const CHECK_EVERY: usize = 4096;

/// A row whose label is judged wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LabelError {
    /// Place in the source, from 0.
    pub row: usize,
    /// Classes, as places in the names of the labels.
    pub given: u32,
    pub suggested: u32,
    /// Probability of the suggested class relative to the given one, from 0.5 to 1.
    pub confidence: f64,
}

/// The rows judged wrong, the most certain first. Option: `folds`. Numeric labels are an error.
pub fn find(task: &Task, options: &mut Options) -> Result<Vec<LabelError>> {
    let Labels::Classes { codes, .. } = &task.samples.labels else {
        return Err(Error::Unsupported {
            algorithm: "find_label_errors",
            what: "numeric labels",
            hint: "It compares classes. For numbers order the rows by the score of the method auto.".into(),
        });
    };
    let probabilities = with_pool(task.threads, |_| predict(task, options))?;
    judge(codes, probabilities.view(), task.progress)
}

/// The same from probabilities [rows, classes].
pub fn judge(codes: &[u32], probabilities: ArrayView2<f32>, progress: &dyn Progress) -> Result<Vec<LabelError>> {
    let classes = probabilities.ncols();
    let probabilities = flat(probabilities);
    let of = |row: u32| &probabilities[row as usize * classes..][..classes];
    let mut rows_of: Vec<Vec<u32>> = vec![Vec::new(); classes];
    for (row, &code) in (0u32..).zip(codes) {
        memory::push(&mut rows_of[code as usize], row)?;
    }
    let threshold = |class: usize| {
        let rows = &rows_of[class];
        rows.iter().map(|&row| f64::from(of(row)[class])).sum::<f64>() / rows.len().max(1) as f64
    };
    let thresholds: Vec<f32> = (0..classes).map(|class| threshold(class) as f32).collect();
    let mut found = Vec::new();
    let mut judged = memory::filled(false, codes.len())?;
    let mut counts = vec![0usize; classes];
    for (given, rows) in rows_of.iter().enumerate() {
        counts.fill(0);
        for (i, &row) in rows.iter().enumerate() {
            if i % CHECK_EVERY == 0 {
                progress.check()?;
            }
            let sure = of(row).iter().zip(&thresholds).enumerate().filter(|(_, (p, threshold))| p >= threshold);
            let best = sure.reduce(|best, other| if other.1.0 > best.1.0 { other } else { best });
            if let Some((class, _)) = best {
                counts[class] += 1;
            }
        }
        let counted: usize = counts.iter().sum();
        for (class, &count) in counts.iter().enumerate().filter(|&(class, &count)| class != given && count > 0) {
            progress.check()?;
            let wrong = ((count * rows.len()) as f64 / counted as f64).round() as usize;
            let margin = |row: u32| of(row)[class] - of(row)[given];
            let mut order = rows.clone();
            if wrong < order.len() {
                order.select_nth_unstable_by(wrong, |&a, &b| margin(b).total_cmp(&margin(a)).then(a.cmp(&b)));
                order.truncate(wrong);
            }
            for row in order {
                if std::mem::replace(&mut judged[row as usize], true) {
                    continue;
                }
                let (score, suggested) = label_over_other(of(row), given);
                if score < 0.5 {
                    let row = row as usize;
                    let error =
                        LabelError { row, given: given as u32, suggested: suggested as u32, confidence: 1.0 - score };
                    memory::push(&mut found, error)?;
                }
            }
        }
    }
    let order = |a: &LabelError, b: &LabelError| b.confidence.total_cmp(&a.confidence).then(a.row.cmp(&b.row));
    sort_watched(&mut found, &|| progress.check(), order)?;
    Ok(found)
}
