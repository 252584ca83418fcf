//! The one handle through which long work reports how far it is and learns that it should stop.
//!
//! The engine never calls PostgreSQL: whoever calls the engine hands it a `Progress`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::error::Result;

/// Called on the thread that called the engine, once per block of work (about 10 ms).
pub trait Progress {
    /// `Err(Error::Canceled)` when the work should stop; it is passed up unchanged.
    fn check(&self) -> Result<()>;

    /// `done` of `total` units of `phase` are finished; a total of 0 is not known.
    fn report(&self, _phase: &str, _done: usize, _total: usize) {}

    /// A model has run.
    fn ran(&self, _run: &Run) {}
}

/// The provider of recommenders, which no runtime runs.
pub const SCAN: &str = "scan";

/// One run of a model, for those who count them.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    pub model: &'a str,
    /// What it ran on: `cpu` and `cuda` are ONNX Runtime's, [`SCAN`] is this project's own search of a recommender.
    pub provider: &'a str,
    /// Texts, images, users: whatever got an answer.
    pub rows: usize,
    /// Tokens that entered, padding left out; `None` where the model takes none.
    pub tokens: Option<usize>,
    pub took: Duration,
}

/// Work that nobody watches: tests, benchmarks.
pub struct Unwatched;

impl Progress for Unwatched {
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// A part of a longer work: what it reports counts on from what was done before, under the whole's phase and total.
pub struct Part<'a> {
    pub whole: &'a dyn Progress,
    pub phase: &'a str,
    pub before: usize,
    pub total: usize,
}

impl Progress for Part<'_> {
    fn check(&self) -> Result<()> {
        self.whole.check()
    }

    fn report(&self, _phase: &str, done: usize, _total: usize) {
        self.whole.report(self.phase, self.before + done, self.total);
    }

    fn ran(&self, run: &Run) {
        self.whole.ran(run);
    }
}

/// Work of threads that count what they have done: reported whenever the thread that waits for them looks up.
pub struct Counted<'a> {
    pub whole: &'a dyn Progress,
    pub phase: &'a str,
    pub done: &'a AtomicUsize,
    pub total: usize,
}

impl Progress for Counted<'_> {
    fn check(&self) -> Result<()> {
        self.whole.report(self.phase, self.done.load(Ordering::Relaxed), self.total);
        self.whole.check()
    }

    fn ran(&self, run: &Run) {
        self.whole.ran(run);
    }
}

/// Work that is watched but does not count as use: a model that is only tried out.
pub struct Trial<'a>(pub &'a dyn Progress);

impl Progress for Trial<'_> {
    fn check(&self) -> Result<()> {
        self.0.check()
    }

    fn report(&self, phase: &str, done: usize, total: usize) {
        self.0.report(phase, done, total);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[derive(Default)]
    struct Heard {
        reports: RefCell<Vec<(String, usize, usize)>>,
        runs: RefCell<usize>,
    }

    impl Progress for Heard {
        fn check(&self) -> Result<()> {
            Ok(())
        }

        fn report(&self, phase: &str, done: usize, total: usize) {
            self.reports.borrow_mut().push((phase.to_owned(), done, total));
        }

        fn ran(&self, run: &Run) {
            *self.runs.borrow_mut() += run.rows;
        }
    }

    const RUN: Run = Run { model: "m", provider: "cpu", rows: 3, tokens: None, took: Duration::ZERO };

    #[test]
    fn a_part_counts_on_from_what_was_done_before() {
        let heard = Heard::default();
        let part = Part { whole: &heard, phase: "texts", before: 40, total: 100 };
        part.report("anything", 2, 10);
        part.ran(&RUN);
        assert_eq!(*heard.reports.borrow(), [("texts".to_owned(), 42, 100)]);
        assert_eq!(*heard.runs.borrow(), 3);
    }

    #[test]
    fn what_threads_have_counted_is_reported_at_a_look() {
        let (heard, done) = (Heard::default(), AtomicUsize::new(0));
        let counted = Counted { whole: &heard, phase: "items", done: &done, total: 9 };
        counted.check().unwrap();
        done.store(7, Ordering::Relaxed);
        counted.check().unwrap();
        assert_eq!(*heard.reports.borrow(), [("items".to_owned(), 0, 9), ("items".to_owned(), 7, 9)]);
    }

    #[test]
    fn a_trial_reports_but_is_no_use_of_the_model() {
        let heard = Heard::default();
        let trial = Trial(&heard);
        trial.report("texts", 1, 2);
        trial.ran(&RUN);
        assert_eq!(heard.reports.borrow().len(), 1);
        assert_eq!(*heard.runs.borrow(), 0);
    }
}
