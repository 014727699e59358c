//! Figures, and how Prometheus reads them (text format, version 0.0.4).

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Values of one name.
#[derive(Clone, Debug)]
pub struct Family {
    /// Its name, in snake_case.
    pub name: &'static str,
    /// What it measures, in one line.
    pub help: &'static str,
    /// How it is to be read.
    pub kind: Kind,
    /// Its values.
    pub samples: Vec<Sample>,
}

/// How a family is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, from 0 at start.
    Counter,
    /// As it is now.
    Gauge,
    /// Counts by size.
    Histogram,
}

/// One value.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Follows the family's name: `_bucket`, `_sum` or `_count` in a histogram, else nothing.
    pub suffix: &'static str,
    /// What tells it from the others: names and values. Never a person's.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

impl Family {
    /// A counter without labels.
    pub fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        let samples = vec![Sample::of(Vec::new(), value as f64)];
        Self { name, help, kind: Kind::Counter, samples }
    }

    /// A gauge without labels; without a value where there is nothing to measure.
    pub fn gauge(name: &'static str, help: &'static str, value: impl Into<Option<f64>>) -> Self {
        let samples = value.into().map(|value| Sample::of(Vec::new(), value)).into_iter().collect();
        Self { name, help, kind: Kind::Gauge, samples }
    }
}

impl Sample {
    /// A plain value.
    pub fn of(labels: Vec<(&'static str, String)>, value: f64) -> Self {
        Self { suffix: "", labels, value }
    }
}

/// Counts values by size, without a lock.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One more than bounds: what is larger than all.
    counts: Box<[AtomicU64]>,
    millionths: AtomicU64,
}

impl Histogram {
    /// Counts by these upper bounds, which rise.
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, millionths: AtomicU64::new(0) }
    }

    /// Counts a value that is not negative.
    pub fn observe(&self, value: f64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        self.millionths.fetch_add((value * 1e6) as u64, Ordering::Relaxed);
    }

    /// Counts a time in seconds.
    pub fn observe_time(&self, time: Duration) {
        self.observe(time.as_secs_f64());
    }

    /// Its values, each with these labels.
    pub fn samples(&self, labels: &[(&'static str, String)]) -> Vec<Sample> {
        let mut below = 0;
        let mut samples = Vec::with_capacity(self.counts.len() + 2);
        let bounds = self.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (count, bound) in self.counts.iter().zip(bounds) {
            below += count.load(Ordering::Relaxed);
            let labels = [labels, &[("le", bound)]].concat();
            samples.push(Sample { suffix: "_bucket", labels, value: below as f64 });
        }
        let sum = self.millionths.load(Ordering::Relaxed) as f64 / 1e6;
        samples.push(Sample { suffix: "_sum", labels: labels.to_vec(), value: sum });
        samples.push(Sample { suffix: "_count", labels: labels.to_vec(), value: below as f64 });
        samples
    }
}

/// Writes families as Prometheus reads them.
pub fn exposition(families: &[Family]) -> String {
    let mut text = String::new();
    for Family { name, help, kind, samples } in families {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for Sample { suffix, labels, value } in samples {
            let _ = write!(text, "{name}{suffix}");
            if !labels.is_empty() {
                let written: Vec<_> =
                    labels.iter().map(|(label, of)| format!("{label}=\"{}\"", escaped(of))).collect();
                let _ = write!(text, "{{{}}}", written.join(","));
            }
            let _ = writeln!(text, " {value}");
        }
    }
    text
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_written_as_prometheus_reads_it() {
        let sample = |clock: &str, value| Sample::of(vec![("clock", clock.to_owned())], value);
        let samples = vec![sample("SUPPLEMENT", 3.0), sample("a\"b\\c\nd", 0.5)];
        let family = Family { name: "overdue", help: "Overdue.", kind: Kind::Gauge, samples };
        let expected = "# HELP overdue Overdue.\n# TYPE overdue gauge\noverdue{clock=\"SUPPLEMENT\"} 3\n\
                        overdue{clock=\"a\\\"b\\\\c\\nd\"} 0.5\n";
        assert_eq!(exposition(&[family]), expected);
        assert_eq!(
            exposition(&[Family::counter("given_up", "Given up.", 7)]),
            "# HELP given_up Given up.\n# TYPE given_up counter\ngiven_up 7\n"
        );
    }

    #[test]
    fn a_histogram_counts_up_to_each_bound_and_the_bound_counts_in() {
        let histogram = Histogram::new(&[0.1, 1.0]);
        for value in [0.05, 0.1, 0.5, 7.0] {
            histogram.observe(value);
        }
        let samples = histogram.samples(&[("method", "A".to_owned())]);
        let values: Vec<_> = samples.iter().map(|sample| (sample.suffix, sample.value)).collect();
        let expected =
            [("_bucket", 2.0), ("_bucket", 3.0), ("_bucket", 4.0), ("_sum", 7.65), ("_count", 4.0)];
        assert_eq!(values, expected);
        assert_eq!(samples[2].labels[1].1, "+Inf");
    }
}
