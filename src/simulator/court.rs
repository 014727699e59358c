//! A court: a clerk with an address, to which the gateway pushes.

pub use super::clerk::{Book, ClerkConfig as CourtConfig, load, serve_config, serve_file, serve_with_book};
pub use super::script::Script;
