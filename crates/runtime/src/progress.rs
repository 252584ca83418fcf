//! The handle through which long work reports its progress and learns about cancel requests.
//!
//! The engine never calls PostgreSQL: its caller passes a `Progress`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::error::Result;

/// Its methods are called on the thread that called the engine, once per block of work (about 10 ms).
pub trait Progress {
    /// `Err(Error::Canceled)` if the work should stop. Callers return it unchanged.
    fn check(&self) -> Result<()>;

    /// Reports that `done` of `total` units of `phase` are finished; a total of 0 means unknown.
    fn report(&self, _phase: &str, _done: usize, _total: usize) {}

    /// A model has run.
    fn ran(&self, _run: &Run) {}
}

/// The provider of recommenders, which run without ONNX Runtime.
pub const SCAN: &str = "scan";

/// One run of a model, or several that are told at once, for statistics.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    pub runs: usize,
    pub model: &'a str,
    /// What it ran on: `cpu` and `cuda` are ONNX Runtime's, [`SCAN`] is this project's own search of a recommender.
    pub provider: &'a str,
    /// The number of inputs with a result: texts, images, users.
    pub rows: usize,
    /// Input tokens without padding; `None` for models without tokens.
    pub tokens: Option<usize>,
    pub took: Duration,
}

/// No progress: for tests and benchmarks.
pub struct Unwatched;

impl Progress for Unwatched {
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// A part of longer work. Its reports are added to what was done before, with the phase and total of the whole.
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

/// Work of threads that count their finished units; the count is reported at each check of the waiting thread.
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

/// Work that can be cancelled but is not counted in the statistics, such as a trial run of a model.
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

    const RUN: Run = Run { runs: 1, model: "m", provider: "cpu", rows: 3, tokens: None, took: Duration::ZERO };

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
