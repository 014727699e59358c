//! Changes of the keys of bodies and of pseudonyms: each is an entry of the log, which names the key by its fingerprint.

use thiserror::Error;

use crate::audit::entry::{Entry, Phase, PseudonymKey, Salt};
use crate::audit::key_ring::KeyRing;
use crate::audit::log::AppendError;
use crate::clock::Clock;
use crate::domain::agency::CreditCode;
use crate::entropy;
use crate::store::{AuditLog, Effect, KeyAdoption, KeyUse, Rejection, Store, StoreError};

/// Why keys cannot be used from now on.
#[derive(Debug, Error)]
pub enum RotationError {
    /// The key that makes pseudonyms is not at hand.
    #[error(
        "keys.pseudonym does not have the key by which persons are named now ({fingerprint}), and keys.pseudonym_earlier \
         does not either: they would not be found again; put it back, or name its file there"
    )]
    EarlierKeyMissing {
        /// Of the key.
        fingerprint: String,
    },
    /// The change is to be an entry, and the log takes none.
    #[error("the audit log cannot be written: is the disk full, or the database read-only?")]
    Unwritable,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RotationError {
    /// Whether it may go better the next time, with the same files.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Unwritable | Self::Store(_))
    }
}

/// Writes which keys are used.
pub(super) struct KeyLedger {
    pub(super) store: Store,
    pub(super) log: AuditLog,
    pub(super) clock: Clock,
    pub(super) node: String,
    /// The organ that runs the gateway.
    pub(super) own: CreditCode,
}

impl KeyLedger {
    /// Notes the key of bodies that this gateway begins with. One that has never sealed is a rotation.
    pub(super) async fn begin_with_bodies(&self, ring: &KeyRing) -> Result<(), RotationError> {
        let known = self.store.adopted_keys(KeyUse::Body).await?;
        let newest = ring.fingerprints().swap_remove(0);
        match known.contains(&newest) {
            true => Ok(()),
            // The first key of all is no rotation.
            false if known.is_empty() => Ok(self.adopt_first(KeyUse::Body, newest).await?),
            false => self.rotate(KeyUse::Body, newest).await,
        }
    }

    /// Notes that this gateway goes from one ring of body keys to another. When it returns, the new one may seal.
    pub(super) async fn change_bodies(&self, before: &KeyRing, after: &KeyRing) -> Result<(), RotationError> {
        let newest = after.fingerprints().swap_remove(0);
        if before.fingerprints()[0] != newest {
            self.rotate(KeyUse::Body, newest).await?;
        }
        self.note_others(KeyUse::Body, before, after).await
    }

    /// The keys of pseudonyms that this gateway begins with.
    pub(super) async fn begin_with_pseudonyms(&self, ring: &KeyRing) -> Result<PseudonymKey, RotationError> {
        let names = self.adopt_pseudonyms(ring).await?;
        let keys = PseudonymKey::of(ring.clone());
        match keys.replace(ring.clone(), &names) {
            true => Ok(keys),
            false => Err(RotationError::EarlierKeyMissing { fingerprint: names }),
        }
    }

    /// Which key of a ring makes pseudonyms: its newest, or the one that was adopted last where that has been adopted before.
    /// One database has one such key at a time, whichever gateway's file had it first; its adoption is an entry.
    pub(super) async fn adopt_pseudonyms(&self, ring: &KeyRing) -> Result<String, RotationError> {
        let newest = ring.fingerprints().swap_remove(0);
        loop {
            let known = self.store.adopted_keys(KeyUse::Pseudonym).await?;
            match known.first() {
                // The first key of all is no rotation.
                None => self.adopt_first(KeyUse::Pseudonym, newest.clone()).await?,
                Some(last) if ring.of_fingerprint(last).is_none() => {
                    return Err(RotationError::EarlierKeyMissing { fingerprint: last.clone() });
                }
                Some(last) if known.contains(&newest) => return Ok(last.clone()),
                Some(_) => self.rotate(KeyUse::Pseudonym, newest.clone()).await?,
            }
        }
    }

    /// Notes which keys came into a ring, and went out of it, without a say in what is sealed or named anew.
    pub(super) async fn note_others(
        &self,
        of: KeyUse,
        before: &KeyRing,
        after: &KeyRing,
    ) -> Result<(), RotationError> {
        let (added, retired) = match of {
            KeyUse::Body => ("AddBodyKey", "RetireBodyKey"),
            KeyUse::Pseudonym => ("AddPseudonymKey", "RetirePseudonymKey"),
        };
        let (before, after) = (before.fingerprints(), after.fingerprints());
        // The newest has come by a rotation.
        for fingerprint in after.iter().skip(1).filter(|key| !before.contains(key)) {
            self.tell(added, fingerprint, None).await?;
        }
        for fingerprint in before.iter().filter(|key| !after.contains(key)) {
            self.tell(retired, fingerprint, None).await?;
        }
        Ok(())
    }

    async fn adopt_first(&self, key: KeyUse, fingerprint: String) -> Result<(), StoreError> {
        self.store.adopt_first_key(&KeyAdoption { key, fingerprint, at: self.clock.now() }).await
    }

    async fn rotate(&self, key: KeyUse, fingerprint: String) -> Result<(), RotationError> {
        let method = match key {
            KeyUse::Body => "RotateBodyKey",
            KeyUse::Pseudonym => "RotatePseudonymKey",
        };
        let adoption = KeyAdoption { key, fingerprint: fingerprint.clone(), at: self.clock.now() };
        self.tell(method, &fingerprint, Some(adoption)).await
    }

    /// One entry, and with it what it says.
    async fn tell(
        &self,
        method: &'static str,
        fingerprint: &str,
        adoption: Option<KeyAdoption>,
    ) -> Result<(), RotationError> {
        let now = self.clock.now();
        let mut entry = Entry::new(entropy::uuid_v7(now), Phase::Event, now, "keys", method, &self.node);
        entry.caller = Some(self.own.to_string());
        entry.reason = Some(format!("KEY_{}", fingerprint.to_uppercase()).into());
        let effects = adoption.map(|adoption| Effect::AdoptKey(Box::new(adoption))).into_iter().collect();
        match self.log.append(entry, Salt(entropy::bytes()), effects).await {
            // Another gateway has adopted it at the same time, and its entry says so.
            Ok(_) | Err(AppendError::Rejected(Rejection::Conflict)) => Ok(()),
            Err(_) => Err(RotationError::Unwritable),
        }
    }
}
