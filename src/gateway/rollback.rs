//! What is known of the log outside its tables, and what a gateway does whose database is behind it.

use std::io;
use std::path::{Path, PathBuf};

use super::{StartError, checkpoint_file};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::entry::{Entry, Phase, Salt};
use crate::audit::log::Storage as _;
use crate::audit::note::VerifyingKey;
use crate::clock::Clock;
use crate::config::AuditSection;
use crate::entropy;
use crate::store::{AuditLog, Store};

/// The newer of the checkpoint file and the newest cosigned checkpoint. One that does not verify counts as the newest:
/// opening the log then says what is wrong with it.
pub(super) fn newest_known(
    file: Option<String>,
    cosigned: Option<String>,
    log_key: &VerifyingKey,
) -> Option<String> {
    let size = |note: &String| Checkpoint::open(note, log_key).map_or(u64::MAX, |checkpoint| checkpoint.size);
    [file, cosigned].into_iter().flatten().max_by_key(size)
}

/// Whether the operator has accepted that this database is behind: then what is known of the lost log is put out of the
/// way, so that it does not stop the start. Gives the number of entries that there are.
pub(super) async fn accept(audit: &AuditSection, store: &Store) -> Result<Option<u64>, StartError> {
    let Some(accepted) = audit.accept_rollback else { return Ok(None) };
    let stored = store.head().await?.map_or(0, |head| head.size);
    if accepted != stored {
        tracing::warn!(
            accepted,
            stored,
            "audit.accept_rollback is for another number of entries than the database has, and is not followed"
        );
        return Ok(None);
    }
    if let Some(path) = &audit.checkpoint {
        let aside = set_aside(path, stored)
            .map_err(|source| StartError::Unreadable { path: path.clone(), source })?;
        if let Some(aside) = aside {
            tracing::warn!(path = %aside.display(), "the checkpoint of the lost log is kept as evidence");
        }
    }
    store.forget_cosignatures().await?;
    Ok(Some(stored))
}

/// Puts the checkpoint file of the lost log aside, where nothing replaces it: it is evidence. Returns its new place.
fn set_aside(path: &Path, stored: u64) -> io::Result<Option<PathBuf>> {
    let Some(note) = checkpoint_file::read(path)? else { return Ok(None) };
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".before-rollback-to-{stored}"));
    let aside = PathBuf::from(aside);
    checkpoint_file::write(&aside, &note)?;
    std::fs::remove_file(path)?;
    Ok(Some(aside))
}

/// Says in the log itself that it goes on from an older state.
pub(super) async fn confess(log: &AuditLog, clock: &Clock, node: &str, stored: u64) {
    let now = clock.now();
    let mut entry = Entry::new(entropy::uuid_v7(now), Phase::Event, now, "gateway", "accept_rollback", node);
    entry.code = Some("OK".into());
    entry.reason = Some("ROLLBACK_ACCEPTED".into());
    if log.append(entry, Salt(entropy::bytes()), Vec::new()).await.is_err() {
        tracing::error!("that the rollback was accepted could not be written to the audit log");
    }
    tracing::error!(
        entries = stored,
        "ROLLBACK ACCEPTED: the log goes on from an older state; whoever holds a later checkpoint can prove it"
    );
}
