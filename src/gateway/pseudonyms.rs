//! Rotation of the key that makes pseudonyms: the first start with a new key is an entry of the log.

use thiserror::Error;

use crate::audit::entry::{Entry, Phase, PseudonymKey, Salt};
use crate::clock::Clock;
use crate::domain::agency::CreditCode;
use crate::entropy;
use crate::store::{AuditLog, Effect, Store, StoreError};

/// Why a key cannot make pseudonyms from now on.
#[derive(Debug, Error)]
pub enum RotationError {
    /// The key of before is not at hand.
    #[error(
        "keys.pseudonym is not the key of before ({fingerprint}), and keys.pseudonym_earlier does not have that one: \
         persons would not be found again; name its file there, or put it back"
    )]
    EarlierKeyMissing {
        /// Of the key of before.
        fingerprint: String,
    },
    /// The rotation is to be an entry, and the log takes none.
    #[error("the audit log cannot be written: is the disk full, or the database read-only?")]
    Unwritable,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Notes which key makes pseudonyms. A key that is not the one of before is adopted by an entry that names it.
pub(super) async fn adopt(
    keys: &PseudonymKey,
    (store, log): (&Store, &AuditLog),
    clock: &Clock,
    node: &str,
    own: CreditCode,
) -> Result<(), RotationError> {
    let fingerprints = keys.fingerprints();
    let Some(current) = fingerprints.first() else { return Ok(()) };
    let before = store.pseudonym_keys().await?;
    match before.first() {
        Some(newest) if newest == current => return Ok(()),
        Some(newest) if !fingerprints.contains(newest) => {
            return Err(RotationError::EarlierKeyMissing { fingerprint: newest.clone() });
        }
        // The first key of all is no rotation.
        None => return Ok(store.adopt_first_pseudonym_key(current, clock.now()).await?),
        Some(_) => {}
    }
    let now = clock.now();
    let mut entry = Entry::new(entropy::uuid_v7(now), Phase::Event, now, "keys", "RotatePseudonymKey", node);
    entry.caller = Some(own.to_string());
    entry.reason = Some(format!("KEY_{}", current.to_uppercase()).into());
    let effect = Effect::AdoptPseudonymKey { fingerprint: current.clone(), at: now };
    let appended = log.append(entry, Salt(entropy::bytes()), vec![effect]).await;
    appended.map(|_| ()).map_err(|_| RotationError::Unwritable)
}
