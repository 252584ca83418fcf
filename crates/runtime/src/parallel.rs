//! Threads for blocks of work, watched and cancellable.
//!
//! The calling thread does not work: it waits and calls [`Progress::check`] every few milliseconds, so that it notices a cancel request at
//! once, however long a block takes. The threads live as long as the call, or as long as the call of [`with_pool`](crate::pool::with_pool)
//! around it. All signals are blocked in them, so that PostgreSQL's signal handlers run on the main thread only.
//!
//! A process must not end while such a thread is running. Code that may end the process calls [`has_helpers`] first, then stops and joins
//! the helpers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use crate::error::Result;
pub use crate::helpers::{has_helpers, locked, spawn, watched, with_helpers, with_signals_blocked};
use crate::pool::{self, with_pool};
use crate::progress::Progress;

/// The default number of threads: one for each processor that the process may use, as found at the first call, since finding out reads files.
pub fn available_threads() -> usize {
    static FOUND: OnceLock<usize> = OnceLock::new();
    *FOUND.get_or_init(|| std::thread::available_parallelism().map_or(1, |n| n.get()))
}

/// Splits `output` into chunks of `chunk` elements and fills them on `threads` threads.
///
/// `work` gets the thread's own scratch state (from `init`), the number of the chunk, and the chunk. The result of a chunk must depend on its
/// number only, so that any number of threads gives the same output. Stops between chunks if `progress` returns an error; the output must
/// then be discarded.
pub fn for_each_chunk<T: Send, S>(
    output: &mut [T],
    chunk: usize,
    threads: usize,
    progress: &dyn Progress,
    init: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize, &mut [T]) -> Result<()> + Sync,
) -> Result<()> {
    progress.check()?;
    if output.is_empty() {
        return Ok(());
    }
    let chunk = chunk.max(1);
    let threads = threads.clamp(1, output.len().div_ceil(chunk));
    let stop = AtomicBool::new(false);
    let queue = Mutex::new(output.chunks_mut(chunk).enumerate());
    let body = || {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut state = init();
        while !stop.load(Ordering::Relaxed) {
            let next = locked(&queue).next();
            let Some((number, part)) = next else { break };
            work(&mut state, number, part).inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
        }
        Ok(())
    };
    with_pool(threads, |pool| pool.run(threads, progress, &|| stop.store(true, Ordering::Relaxed), &body))
}

/// Stops all helper threads of the current thread, and waits until none is working, for at most `patience`. For ending a process that cannot
/// return to where it would join them. Does not allocate.
pub fn stop_helpers(patience: Duration) {
    pool::dismiss();
    crate::helpers::stop(patience);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::helpers::with_helpers;
    use crate::progress::Unwatched;
    use std::cell::Cell;

    struct CancelAfter(Cell<usize>);
    impl Progress for CancelAfter {
        fn check(&self) -> Result<()> {
            let left = self.0.get();
            self.0.set(left.saturating_sub(1));
            if left == 0 { Err(Error::Canceled) } else { Ok(()) }
        }
    }

    #[test]
    fn every_chunk_is_filled_once_on_any_number_of_threads() {
        for threads in [1, 2, 7, 100] {
            let mut out = vec![0usize; 1003];
            for_each_chunk(
                &mut out,
                10,
                threads,
                &Unwatched,
                || (),
                |_, number, part| {
                    part.iter_mut().enumerate().for_each(|(i, x)| *x += number * 10 + i);
                    Ok(())
                },
            )
            .unwrap();
            assert!(out.iter().enumerate().all(|(i, &x)| i == x));
        }
    }

    #[test]
    fn a_cancel_request_stops_work_that_takes_long() {
        let mut out = vec![0u8; 1000];
        let start = std::time::Instant::now();
        let result = for_each_chunk(
            &mut out,
            1,
            2,
            &CancelAfter(Cell::new(3)),
            || (),
            |_, _, _| {
                std::thread::sleep(Duration::from_millis(10));
                Ok(())
            },
        );
        assert!(matches!(result, Err(Error::Canceled)));
        assert!(start.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn an_error_in_one_chunk_is_the_answer_of_all() {
        let mut out = vec![0u8; 100];
        let result = for_each_chunk(
            &mut out,
            1,
            2,
            &Unwatched,
            || (),
            |_, number, _| {
                if number == 42 { Err(Error::Internal("chunk 42".into())) } else { Ok(()) }
            },
        );
        assert!(matches!(result, Err(Error::Internal(m)) if m == "chunk 42"));
    }

    #[test]
    fn a_panic_in_a_thread_becomes_an_error() {
        let result: Result<()> = watched(&Unwatched, || (), || panic!("boom"));
        assert!(matches!(result, Err(Error::Internal(m)) if m.contains("boom")));
    }

    /// Looks whether helper threads live, wherever it is asked.
    #[derive(Default)]
    struct Living(Cell<usize>);
    impl Progress for Living {
        fn check(&self) -> Result<()> {
            self.0.set(self.0.get() + usize::from(has_helpers()));
            Ok(())
        }
    }

    #[test]
    fn who_watches_knows_that_helpers_live_and_nobody_does_afterwards() {
        let living = Living::default();
        let nap = || {
            std::thread::sleep(Duration::from_millis(20));
            Ok(())
        };
        assert!(!has_helpers());
        watched(&living, || (), nap).unwrap();
        for_each_chunk(&mut [0u8; 4], 1, 2, &living, || (), |(), _, _| nap()).unwrap();
        assert!(living.0.get() > 2 && !has_helpers());
        let failed = watched(&CancelAfter(Cell::new(0)), || (), nap);
        assert!(failed.is_err() && !has_helpers());
        let unwound = std::panic::catch_unwind(|| {
            struct Unwinds;
            impl Progress for Unwinds {
                fn check(&self) -> Result<()> {
                    panic!("an error of PostgreSQL's")
                }
            }
            watched(&Unwinds, || (), nap)
        });
        assert!(unwound.is_err() && !has_helpers());
    }

    #[test]
    fn helpers_are_stopped_from_within_the_look_of_who_watches() {
        struct Ends;
        impl Progress for Ends {
            fn check(&self) -> Result<()> {
                stop_helpers(Duration::ZERO);
                Ok(())
            }
        }
        let (outer, inner) = (AtomicBool::new(false), AtomicBool::new(false));
        let until = |stop: &AtomicBool| {
            while !stop.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            Ok(())
        };
        // Its own watcher would wait for ever.
        watched(&Ends, || outer.store(true, Ordering::Relaxed), || until(&outer)).unwrap();
        with_helpers(&|| outer.store(false, Ordering::Relaxed), || {
            watched(&Ends, || inner.store(true, Ordering::Relaxed), || until(&inner))
        })
        .unwrap();
        assert!(!outer.load(Ordering::Relaxed), "those of an outer call are stopped as well");
    }

    #[test]
    fn watched_work_is_asked_to_stop() {
        let stop = AtomicBool::new(false);
        let result = watched(
            &CancelAfter(Cell::new(2)),
            || stop.store(true, Ordering::Relaxed),
            || {
                while !stop.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
                Ok(())
            },
        );
        assert!(matches!(result, Err(Error::Canceled)));
    }
}
