//! `[audit]`: how the log is kept.

use std::net::SocketAddr;
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
    /// The log as auditors' tools fetch it.
    pub tiles: TilesSection,
}

impl Default for AuditSection {
    fn default() -> Self {
        Self { queue: 4096, checkpoint: None, tiles: TilesSection::default() }
    }
}

/// `[audit.tiles]`: the log as C2SP `tlog-tiles`, over HTTPS with client certificates.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TilesSection {
    /// Where it is served, to agencies with an agreement for `GetTile`; nowhere unless set.
    pub listen: Option<SocketAddr>,
    /// Requests at once.
    pub requests: usize,
    /// Requests at once of one agency.
    pub requests_per_agency: usize,
}

impl Default for TilesSection {
    fn default() -> Self {
        Self { listen: None, requests: 64, requests_per_agency: 16 }
    }
}
