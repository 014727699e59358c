//! `doctor` on the log's witnesses.

use std::time::Duration;

use super::Findings;
use crate::audit::checkpoint::Checkpoint;
use crate::audit::cosignature::CosignerKey;
use crate::audit::entry::Entry;
use crate::audit::log::Storage as _;
use crate::clock::Clock;
use crate::config::Config;
use crate::gateway::Secrets;
use crate::identity::credentials::Credentials;
use crate::identity::dialler::{Dialler, Endpoint};
use crate::store::{CosignatureRecord, Store};

/// The newest checkpoint that so many witnesses have signed.
fn newest(kept: &[CosignatureRecord], quorum: usize) -> Option<&CosignatureRecord> {
    let by = |size: u64| kept.iter().filter(|kept| kept.size == size).count();
    kept.iter().rev().find(|kept| by(kept.size) >= quorum)
}

/// Checks that each witness can be reached, and how far it is.
pub(super) async fn check(
    findings: &mut Findings,
    config: &Config,
    credentials: &Credentials,
    clock: &Clock,
) {
    let policy = &config.audit.witnesses;
    if policy.witness.is_empty() {
        findings.fine("witnesses", "none; see docs/witnesses.md");
        return;
    }
    let dialler = Dialler::new(credentials, clock.clone()).with_limits(super::PROBE);
    let mut waiting_since = None;
    let (size, kept) = match Store::open_audit_log(&config.store.database).await {
        Ok(store) => {
            let size = store.head().await.ok().flatten().map_or(0, |head| head.size);
            let kept = store.cosignatures().await.unwrap_or_default();
            let covered = newest(&kept, policy.quorum).map_or(0, |newest| newest.size);
            if let Ok(Some(oldest)) = store.entry(covered).await {
                waiting_since = Entry::from_json(&oldest.entry).ok().map(|entry| entry.recorded);
            }
            store.close().await;
            (size, kept)
        }
        // What is wrong with the database is a finding of its own.
        Err(_) => (0, Vec::new()),
    };
    for entry in &policy.witness {
        let key: CosignerKey = match entry.key.parse() {
            Ok(key) => key,
            Err(error) => {
                let remedy = "take the key that `witness init` printed there";
                findings.bad(format!("witness {}", entry.agency), format!("{}: {error}", entry.key), remedy);
                continue;
            }
        };
        let signed = kept.iter().filter(|kept| kept.witness == key.to_string()).max_by_key(|kept| kept.size);
        let signed = signed.map_or("has signed nothing lately".to_owned(), |kept| {
            let time = key.find(&format!("{}{}", kept.checkpoint, kept.line)).map(|found| found.time);
            let time = time.map_or_else(|error| error.to_string(), |time| time.to_string());
            format!("has signed {} of {size} entries, {time}", kept.size)
        });
        let endpoint = Endpoint {
            address: entry.address.clone(),
            server_name: entry.server_name.clone(),
            agency: entry.agency,
        };
        let check = format!("witness {}", key.name());
        match dialler.probe(&endpoint).await {
            Ok(_) => findings.fine(check, format!("answers at {}, {signed}", entry.address)),
            Err(error) => findings.bad(
                check,
                format!("{error}; {signed}"),
                "have it started, correct its endpoint, or have it follow this log ([[witness.log]] there)",
            ),
        }
    }
    let Ok(secrets) = Secrets::load(&config.keys) else { return };
    let lag = waiting_since.and_then(|since| Duration::try_from(clock.now().duration_since(since)).ok());
    match newest(&kept, policy.quorum) {
        Some(kept) if lag.is_some_and(|lag| lag > policy.warn_after) => findings.bad(
            "quorum of witnesses",
            format!(
                "{} of {size} entries have {} cosignature(s) or more; the oldest of the others has waited {} s",
                kept.size,
                policy.quorum,
                lag.unwrap_or_default().as_secs()
            ),
            match policy.stop_after {
                Some(limit) if lag > Some(limit) => "no new work is taken until witnesses sign again; see above",
                _ => "see above which witness does not answer, and docs/witnesses.md",
            },
        ),
        Some(kept) if Checkpoint::open(&kept.checkpoint, secrets.log.verifying_key()).is_ok() => findings
            .fine(
                "quorum of witnesses",
                format!("{} of {size} entries have {} cosignature(s) or more", kept.size, policy.quorum),
            ),
        _ if size == 0 => findings.fine("quorum of witnesses", "the log is empty"),
        _ => findings.bad(
            "quorum of witnesses",
            format!("no checkpoint with {} cosignature(s) is kept", policy.quorum),
            "start the gateway and its witnesses; the lag is shown in the metrics",
        ),
    }
}
