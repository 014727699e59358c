//! `[audit]`: how the log is kept, and who witnesses it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::duration;
use crate::domain::agency::CreditCode;

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
    /// Number of entries in a database that is known to be behind what its key has signed, and is to be used
    /// nevertheless. It is good for one start: when entries follow, it does not fit any more.
    pub accept_rollback: Option<u64>,
    /// Who witnesses the log.
    pub witnesses: WitnessesSection,
}

impl Default for AuditSection {
    fn default() -> Self {
        Self {
            queue: 4096,
            checkpoint: None,
            tiles: TilesSection::default(),
            accept_rollback: None,
            witnesses: WitnessesSection::default(),
        }
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

/// `[audit.witnesses]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WitnessesSection {
    /// How many must have cosigned a checkpoint.
    pub quorum: usize,
    /// How long an entry may wait for a quorum before the gateway warns.
    #[serde(deserialize_with = "duration")]
    pub warn_after: Duration,
    /// How long an entry may wait before no new work is taken; without it work goes on.
    #[serde(deserialize_with = "some_duration")]
    pub stop_after: Option<Duration>,
    /// How often a checkpoint is submitted at most.
    #[serde(deserialize_with = "duration")]
    pub submit_every: Duration,
    /// Time for one submission.
    #[serde(deserialize_with = "duration")]
    pub attempt: Duration,
    /// Longest wait before a witness that did not answer is asked again.
    #[serde(deserialize_with = "duration")]
    pub longest_retry: Duration,
    /// The witnesses.
    pub witness: Vec<WitnessEntry>,
}

/// `[[audit.witnesses.witness]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessEntry {
    /// Its public key, as `witness init` prints it; the key names it.
    pub key: String,
    /// The organ that runs it; its certificate names it.
    pub agency: CreditCode,
    /// `host:port`.
    pub address: String,
    /// Name in its certificate.
    pub server_name: String,
}

impl Default for WitnessesSection {
    fn default() -> Self {
        Self {
            quorum: 1,
            warn_after: Duration::from_secs(600),
            stop_after: None,
            submit_every: Duration::from_secs(1),
            attempt: Duration::from_secs(10),
            longest_retry: Duration::from_secs(60),
            witness: Vec::new(),
        }
    }
}

impl WitnessesSection {
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.witness.is_empty() {
            return Ok(());
        }
        if self.quorum == 0 || self.quorum > self.witness.len() {
            return Err("audit.witnesses.quorum must be at least 1 and at most the number of witnesses");
        }
        if self.submit_every.is_zero() || self.attempt.is_zero() || self.longest_retry.is_zero() {
            return Err(
                "audit.witnesses.submit_every, .attempt and .longest_retry must be longer than nothing",
            );
        }
        if self.warn_after <= self.submit_every {
            return Err("audit.witnesses.warn_after must be longer than audit.witnesses.submit_every");
        }
        if self.stop_after.is_some_and(|stop_after| stop_after <= self.warn_after) {
            return Err("audit.witnesses.stop_after must be longer than audit.witnesses.warn_after");
        }
        Ok(())
    }
}

pub(super) fn some_duration<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}
