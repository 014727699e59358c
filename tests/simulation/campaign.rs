//! Many runs, and the shortest form of one that failed.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::flaw::Flaw;
use super::op::{Op, drawn};
use super::world::World;

/// Runs at once: a few of them wait for a refused batch to be tried again.
const THREADS: usize = 4;

/// What came of a run.
pub(crate) struct Run {
    pub(crate) trace: Vec<String>,
    pub(crate) broken: Option<String>,
    pub(crate) seen: Seen,
}

/// How often each thing stands in the log: the reason of an entry, or its method where it has none.
pub(crate) type Seen = BTreeMap<String, u64>;

/// A seed that failed.
pub(crate) struct Failure {
    pub(crate) seed: u64,
    pub(crate) broken: String,
}

/// What came of many.
pub(crate) struct Summary {
    seeds: u64,
    failed: u64,
    pub(crate) seen: Seen,
    took: Duration,
    pub(crate) first_failure: Option<Failure>,
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seeds, failed, seen, took, .. } = self;
        let (entries, took) = (seen.values().sum::<u64>(), took.as_secs_f64());
        writeln!(
            formatter,
            "{seeds} seeds, {failed} failed, {entries} ends and events in the log, {took:.1} s"
        )?;
        let seen: Vec<_> = seen.iter().map(|(what, times)| format!("{what} {times}")).collect();
        write!(formatter, "{}", seen.join(", "))
    }
}

/// Runs these operations.
pub(crate) fn run(operations: &[Op], seed: u64, flaw: Flaw) -> Run {
    let mut world = World::begin(seed, flaw);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run(operations)));
    let broken = match outcome {
        Ok(held) => held.err(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Some(format!("panicked: {}", text.unwrap_or_default()))
        }
    };
    Run { trace: std::mem::take(&mut world.trace), broken, seen: world.seen() }
}

/// Runs many seeds, some at once; each for itself is deterministic.
pub(crate) fn run_many(seeds: impl Iterator<Item = u64> + Send) -> Summary {
    let begun = Instant::now();
    let seeds = Mutex::new(seeds);
    let summary =
        Summary { seeds: 0, failed: 0, seen: Seen::new(), took: Duration::ZERO, first_failure: None };
    let summary = Mutex::new(summary);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(seed) = next(&seeds) {
                    let run = run(&drawn(seed), seed, Flaw::Nothing);
                    let mut summary = summary.lock().unwrap();
                    summary.seeds += 1;
                    for (what, times) in run.seen {
                        *summary.seen.entry(what).or_default() += times;
                    }
                    if let Some(broken) = run.broken {
                        eprintln!("seed {seed}: {broken}");
                        summary.failed += 1;
                        summary.first_failure.get_or_insert(Failure { seed, broken });
                    }
                    if summary.seeds.is_multiple_of(1000) {
                        eprintln!("{} seeds, {:.0} s", summary.seeds, begun.elapsed().as_secs_f64());
                    }
                }
            });
        }
    });
    Summary { took: begun.elapsed(), ..summary.into_inner().unwrap() }
}

fn next(seeds: &Mutex<impl Iterator<Item = u64>>) -> Option<u64> {
    seeds.lock().unwrap().next()
}

/// As few of a seed's operations as still fail, and how: ever smaller pieces are left out.
pub(crate) fn shrunk(seed: u64) -> (Vec<Op>, String) {
    let mut operations = drawn(seed);
    let mut broken = String::new();
    let mut piece = operations.len();
    while piece > 0 {
        let mut from = 0;
        while from < operations.len() {
            let mut fewer = operations.clone();
            fewer.drain(from..(from + piece).min(fewer.len()));
            match run(&fewer, seed, Flaw::Nothing).broken {
                Some(still) => (operations, broken) = (fewer, still),
                None => from += piece,
            }
        }
        piece /= 2;
    }
    (operations, broken)
}
