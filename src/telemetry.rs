//! What the program says while it runs. No personal value is ever given to it.

use std::io::IsTerminal as _;

use tracing::Level;
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt, registry};

/// Writes to standard error: for people on a terminal, JSON lines elsewhere. `RUST_LOG` overrides `default`, for this
/// crate's own words: a dependency is heard from WARN up and no lower, whatever `RUST_LOG` says, because HTTP/2
/// libraries trace paths, headers and frames, which are the peer's text and may name a person.
pub fn start(default: &str) {
    let asked = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let ours = filter_fn(|about| {
        let is_ours = about.target().split("::").next() == Some(env!("CARGO_CRATE_NAME"));
        is_ours || *about.level() <= Level::WARN
    })
    .with_max_level_hint(LevelFilter::TRACE);
    let filter = asked.and(ours);
    let lines = fmt::layer().with_writer(std::io::stderr);
    // A second start, as in tests, changes nothing.
    let _ = if std::io::stderr().is_terminal() {
        registry().with(lines.with_filter(filter)).try_init()
    } else {
        registry().with(lines.json().with_filter(filter)).try_init()
    };
}

/// Something measured, as Prometheus takes it.
#[derive(Clone, Debug)]
pub struct Gauge {
    /// Its name, in snake_case.
    pub name: &'static str,
    /// What it measures, in one line.
    pub help: &'static str,
    /// Its values.
    pub samples: Vec<Sample>,
}

/// One value of a gauge.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What tells it from the others: names and values. Never a person's.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: u64,
}

/// Writes gauges in Prometheus's text format, version 0.0.4.
pub fn exposition(gauges: &[Gauge]) -> String {
    let mut text = String::new();
    for Gauge { name, help, samples } in gauges {
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} gauge\n"));
        for Sample { labels, value } in samples {
            let written: Vec<_> =
                labels.iter().map(|(label, of)| format!("{label}=\"{}\"", escaped(of))).collect();
            text.push_str(&format!("{name}{{{}}} {value}\n", written.join(",")));
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
        let sample = |clock: &str, value| Sample { labels: vec![("clock", clock.to_owned())], value };
        let samples = vec![sample("SUPPLEMENT", 3), sample("a\"b\\c\nd", 0)];
        let text = exposition(&[Gauge { name: "overdue", help: "Overdue.", samples }]);
        let expected = "# HELP overdue Overdue.\n# TYPE overdue gauge\noverdue{clock=\"SUPPLEMENT\"} 3\n\
                        overdue{clock=\"a\\\"b\\\\c\\nd\"} 0\n";
        assert_eq!(text, expected);
    }
}
