//! What the kernels' benchmarks share: a criterion group for each kernel and size, in which ours stands first, and a line
//! with what each other side takes in units of ours once the group has run.
//!
//! Times are CPU time of the process: all sides have one thread, and what other processes do at the same time does not count.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};

/// Samples of each side: the fewest that criterion allows, so that all benchmarks run within minutes.
const SAMPLES: usize = 10;

/// The sides of one kernel at one size.
pub struct Comparison<'a> {
    group: BenchmarkGroup<'a, WallTime>,
    title: String,
    /// What a side is called, and the seconds that one call of it takes.
    sides: Vec<(String, f64)>,
}

impl<'a> Comparison<'a> {
    pub fn new(criterion: &'a mut Criterion, kernel: &str, size: &str) -> Self {
        let title = format!("{kernel}, {size}");
        let mut group = criterion.benchmark_group(&title);
        group.sample_size(SAMPLES).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
        Self { group, title, sides: Vec::new() }
    }

    /// Measures a side; ours comes first. What `run` returns is dropped within the time, as its caller would.
    pub fn side<T>(mut self, name: &str, mut run: impl FnMut() -> T) -> Self {
        let mut samples = Vec::new();
        self.group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let start = cpu_time();
                (0..times).for_each(|_| _ = black_box(run()));
                let took = cpu_time() - start;
                samples.push(took.as_secs_f64() / times as f64);
                took
            });
        });
        // The warm-up came first.
        let mut last = samples.split_off(samples.len().saturating_sub(SAMPLES));
        last.sort_unstable_by(f64::total_cmp);
        if let Some(&median) = last.get(last.len() / 2) {
            self.sides.push((name.into(), median));
        }
        self
    }

    /// Prints the ratios. A side that the command line's filter left out is missing.
    pub fn finish(self) {
        self.group.finish();
        let Some(((name, ours), others)) = self.sides.split_first() else { return };
        let others =
            others.iter().map(|(name, seconds)| format!(", {name} {} ({:.2}×)", time(*seconds), seconds / ours));
        println!("{}: {name} {}{}\n", self.title, time(*ours), others.collect::<String>());
    }
}

/// What all threads of this process have taken so far.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock writes the one record it is given.
    let outcome = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    assert_eq!(outcome, 0, "the clock of this process cannot be read");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.4} ms", s * 1e3),
        s if s < 1.0 => format!("{:.3} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// Ends the benchmark where two sides do not agree: within `tolerance` times the greatest value.
#[allow(dead_code, reason = "what some benchmarks compare is no floats")]
pub fn assert_close(what: &str, ours: &[f32], other: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), other.len(), "{what}: another number of results");
    let most = ours.iter().fold(0f32, |most, x| most.max(x.abs()));
    for (at, (a, b)) in ours.iter().zip(other).enumerate() {
        assert!((a - b).abs() <= tolerance * most, "{what}: {a} and {b} at {at}, of values up to {most}");
    }
}
