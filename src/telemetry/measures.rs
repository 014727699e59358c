//! What the gateway counts while it works. Labels are words of closed lists: no agency, no id, no person.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::metrics::{Family, Histogram, Kind, Sample};

/// Upper bounds of the time of a call, in seconds: from what a read takes to the longest deadline.
const CALL_BOUNDS: &[f64] = &[0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0, 60.0];

/// Upper bounds of the time to make a batch durable, in seconds.
const COMMIT_BOUNDS: &[f64] = &[0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0];

/// Upper bounds of the entries in a batch.
const BATCH_BOUNDS: &[f64] = &[1.0, 4.0, 16.0, 64.0, 256.0, 512.0];

/// Calls by method, kind of the calling agency, and outcome.
#[derive(Debug)]
pub struct Calls {
    methods: Vec<&'static str>,
    kinds: Vec<&'static str>,
    codes: Vec<&'static str>,
    counts: Box<[AtomicU64]>,
    durations: Vec<Histogram>,
    in_progress: AtomicU64,
}

impl Calls {
    /// Counts by the words of three closed lists.
    pub fn new(methods: Vec<&'static str>, kinds: Vec<&'static str>, codes: Vec<&'static str>) -> Self {
        let cells = methods.len() * kinds.len() * codes.len();
        let durations = methods.iter().map(|_| Histogram::new(CALL_BOUNDS)).collect();
        let counts = (0..cells).map(|_| AtomicU64::new(0)).collect();
        Self { methods, kinds, codes, counts, durations, in_progress: AtomicU64::new(0) }
    }

    /// Notes that a call has begun; it ends when what is returned is dropped.
    pub fn begin(self: &Arc<Self>) -> InProgress {
        self.in_progress.fetch_add(1, Ordering::Relaxed);
        InProgress(Arc::clone(self))
    }

    /// Counts an answer. The places are those in the lists; one outside them is not counted.
    pub fn answered(&self, method: usize, kind: usize, code: usize, after: Duration) {
        let (kinds, codes) = (self.kinds.len(), self.codes.len());
        if method < self.methods.len() && kind < kinds && code < codes {
            self.counts[(method * kinds + kind) * codes + code].fetch_add(1, Ordering::Relaxed);
            self.durations[method].observe_time(after);
        }
    }

    /// What was counted.
    pub fn families(&self) -> Vec<Family> {
        let (mut counted, mut times) = (Vec::new(), Vec::new());
        let mut cells = self.counts.iter().map(|cell| cell.load(Ordering::Relaxed));
        for (method, durations) in self.methods.iter().zip(&self.durations) {
            let mut any = false;
            for kind in &self.kinds {
                for code in &self.codes {
                    let count = cells.next().unwrap_or_default();
                    if count > 0 {
                        any = true;
                        let labels = [("method", *method), ("agency_kind", *kind), ("code", *code)];
                        let labels = labels.map(|(label, word)| (label, word.to_owned())).to_vec();
                        counted.push(Sample::of(labels, count as f64));
                    }
                }
            }
            if any {
                times.extend(durations.samples(&[("method", (*method).to_owned())]));
            }
        }
        let in_progress = self.in_progress.load(Ordering::Relaxed) as f64;
        vec![
            Family {
                name: "legal_aid_calls_total",
                help: "Calls answered, by method, kind of the calling agency, and gRPC code.",
                kind: Kind::Counter,
                samples: counted,
            },
            Family {
                name: "legal_aid_call_seconds",
                help: "Time until a call is answered, or a stream begins to be, by method.",
                kind: Kind::Histogram,
                samples: times,
            },
            Family::gauge("legal_aid_calls_in_progress", "Calls that wait for their answer.", in_progress),
        ]
    }
}

/// A call that is being answered.
#[derive(Debug)]
pub struct InProgress(Arc<Calls>);

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.in_progress.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Attempts to deliver, by how they ended.
#[derive(Debug, Default)]
pub struct Attempts {
    /// The recipient has it.
    pub delivered: AtomicU64,
    /// To be tried again.
    pub retried: AtomicU64,
    /// Given up for age.
    pub given_up: AtomicU64,
    /// Another had taken the delivery over meanwhile.
    pub lease_lost: AtomicU64,
}

impl Attempts {
    /// What was counted.
    pub fn families(&self) -> Vec<Family> {
        let outcomes = [
            ("delivered", &self.delivered),
            ("retried", &self.retried),
            ("given_up", &self.given_up),
            ("lease_lost", &self.lease_lost),
        ];
        let sample = |(outcome, count): (&str, &AtomicU64)| {
            Sample::of(vec![("outcome", outcome.to_owned())], count.load(Ordering::Relaxed) as f64)
        };
        vec![
            Family {
                name: "legal_aid_delivery_attempts_total",
                help: "Attempts to push a delivery, by how they ended.",
                kind: Kind::Counter,
                samples: outcomes.map(sample).to_vec(),
            },
            Family::counter(
                "legal_aid_deliveries_given_up_total",
                "Deliveries given up for their age; an operator can have them made again.",
                self.given_up.load(Ordering::Relaxed),
            ),
        ]
    }
}

/// How the audit log is written.
#[derive(Debug)]
pub struct LogWrites {
    entries: Histogram,
    times: Histogram,
    failed: AtomicU64,
    failing: AtomicBool,
    away: AtomicBool,
}

impl Default for LogWrites {
    fn default() -> Self {
        Self {
            entries: Histogram::new(BATCH_BOUNDS),
            times: Histogram::new(COMMIT_BOUNDS),
            failed: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            away: AtomicBool::new(false),
        }
    }
}

impl LogWrites {
    /// Counts a batch that became durable.
    pub fn written(&self, entries: usize, after: Duration) {
        self.entries.observe(entries as f64);
        self.times.observe_time(after);
        self.set_failing(false);
        self.set_away(false);
    }

    /// Counts a batch that could not be written.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.set_failing(true);
    }

    /// Notes whether writing fails now.
    pub fn set_failing(&self, failing: bool) {
        self.failing.store(failing, Ordering::Relaxed);
    }

    /// Notes whether the database's server is away.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// Whether the database's server was away when it was last looked for: nothing can be written until it is found.
    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Whether the last write failed.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// What was counted.
    pub fn families(&self) -> Vec<Family> {
        vec![
            Family {
                name: "legal_aid_log_batch_entries",
                help: "Audit entries made durable in one transaction.",
                kind: Kind::Histogram,
                samples: self.entries.samples(&[]),
            },
            Family {
                name: "legal_aid_log_commit_seconds",
                help: "Time to make a batch of audit entries durable.",
                kind: Kind::Histogram,
                samples: self.times.samples(&[]),
            },
            Family::counter(
                "legal_aid_log_failures_total",
                "Batches of audit entries that could not be written; work was refused meanwhile.",
                self.failed.load(Ordering::Relaxed),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_words_of_closed_lists_and_nothing_else() {
        let calls = Arc::new(Calls::new(vec!["Get", "unknown"], vec!["court"], vec!["OK", "CANCELLED"]));
        let running = calls.begin();
        calls.answered(0, 0, 1, Duration::from_millis(7));
        calls.answered(5, 0, 0, Duration::ZERO);
        calls.answered(0, 5, 0, Duration::ZERO);
        let families = calls.families();
        let [counted] = families[0].samples.as_slice() else { panic!("{families:?}") };
        let words: Vec<_> = counted.labels.iter().map(|(_, word)| word.as_str()).collect();
        assert_eq!((words, counted.value), (vec!["Get", "court", "CANCELLED"], 1.0));
        assert_eq!(families[2].samples[0].value, 1.0);
        drop(running);
        assert_eq!(calls.families()[2].samples[0].value, 0.0);
    }
}
