//! `[audit]`: how the log is kept.

use std::path::PathBuf;

use serde::Deserialize;

/// `[audit]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditSection {
    /// Entries that may wait for the writer; more are refused.
    pub queue: usize,
    /// Where the newest checkpoint is kept outside the database, so that a restored backup is noticed.
    pub checkpoint: Option<PathBuf>,
}

impl Default for AuditSection {
    fn default() -> Self {
        Self { queue: 4096, checkpoint: None }
    }
}
