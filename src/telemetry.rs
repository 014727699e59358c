//! What the program says while it runs. No personal value is ever given to it.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Writes to standard error: for people on a terminal, JSON lines elsewhere. `RUST_LOG` overrides `default`.
pub fn start(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start, as in tests, changes nothing.
    let _ = if std::io::stderr().is_terminal() { lines.try_init() } else { lines.json().try_init() };
}
