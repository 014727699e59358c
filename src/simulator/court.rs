//! A court: a clerk with an address, to which the gateway pushes.

pub use super::clerk::{ClerkConfig as CourtConfig, serve_config, serve_file};
pub use super::script::Script;
