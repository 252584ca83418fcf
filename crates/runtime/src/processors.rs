//! Processors are shared by the processes of a server: a loop runs on as many threads as are free, and on one at least.
//!
//! The results of a loop do not depend on the number of its threads, so it can be another one each time.

use std::sync::OnceLock;

/// Counts the threads that work in all processes.
#[derive(Clone, Copy)]
pub struct Lender {
    /// Takes up to `wanted` processors, and returns how many: at least 1. `None` where they are not counted.
    pub take: fn(wanted: usize) -> Option<usize>,
    pub give_back: fn(taken: usize),
}

static LENDER: OnceLock<Lender> = OnceLock::new();

/// Sets the lender of this process. Only the first call has an effect. Without one a loop gets what it wants.
pub fn lend_by(lender: Lender) {
    LENDER.get_or_init(|| lender);
}

/// Processors taken for a loop, given back when it is dropped.
pub struct Share {
    processors: usize,
    lender: Option<Lender>,
}

impl Share {
    pub fn take(wanted: usize) -> Self {
        Self::of(LENDER.get().copied(), wanted)
    }

    fn of(lender: Option<Lender>, wanted: usize) -> Self {
        match lender.and_then(|lender| (lender.take)(wanted)) {
            Some(processors) => Self { processors, lender },
            None => Self { processors: wanted, lender: None },
        }
    }

    pub fn processors(&self) -> usize {
        self.processors
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Some(lender) = self.lender {
            (lender.give_back)(self.processors);
        }
    }
}

/// The processors that someone gets who wants `wanted`, of `all`, of which `taken` are taken: what is free, and one at least.
pub fn free(wanted: usize, all: usize, taken: usize) -> usize {
    wanted.min(all.saturating_sub(taken)).max(1)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    #[test]
    fn what_is_taken_is_given_back() {
        static TAKEN: AtomicUsize = AtomicUsize::new(0);
        let take = |wanted| {
            let got = free(wanted, 4, TAKEN.load(SeqCst));
            TAKEN.fetch_add(got, SeqCst);
            Some(got)
        };
        let lender = Lender { take, give_back: |taken| _ = TAKEN.fetch_sub(taken, SeqCst) };
        let first = Share::of(Some(lender), 3);
        let second = Share::of(Some(lender), 3);
        let third = Share::of(Some(lender), 3);
        assert_eq!([&first, &second, &third].map(Share::processors), [3, 1, 1], "nobody gets none");
        drop((first, third));
        assert_eq!(Share::of(Some(lender), 8).processors(), 3);
        drop(second);
        assert_eq!(TAKEN.load(SeqCst), 0);
    }

    #[test]
    fn without_others_one_gets_what_one_wants() {
        assert_eq!(Share::of(None, 7).processors(), 7);
        let uncounted = Lender { take: |_| None, give_back: |_| unreachable!("nothing was taken") };
        assert_eq!(Share::of(Some(uncounted), 7).processors(), 7);
    }
}
