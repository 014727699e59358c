//! What the program says, and counts, while it runs. No personal value is ever given to it.

mod measures;
mod metrics;
#[cfg(feature = "otlp")]
mod otlp;
mod traces;

use std::io::IsTerminal as _;

use tracing::Level;
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, Targets, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{fmt, registry};

pub use self::measures::{Attempts, Calls, InProgress, LogWrites};
pub use self::metrics::{Family, Histogram, Kind, Sample, exposition};
pub use self::traces::{Span, SpanKind, Trace, Traces, TracesError};

/// Writes to standard error: for people on a terminal, JSON lines elsewhere. `RUST_LOG` overrides `default`, for this
/// crate's own words: a dependency is heard from WARN up and no lower, whatever `RUST_LOG` says, because HTTP/2
/// libraries trace paths, headers and frames, which are the peer's text and may name a person.
pub fn start(default: &str) {
    let asked = std::env::var("RUST_LOG").ok().and_then(|asked| asked.parse::<Targets>().ok());
    let asked = asked.unwrap_or_else(|| default.parse().unwrap_or_default());
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
