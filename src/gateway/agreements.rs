//! Agreements: taken in from the directory file, and followed in the database.

use std::time::Duration;

use data_encoding::HEXLOWER;
use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::access::{Agreement, Agreements};
use crate::audit::entry::{AgreementChange as Told, Entry, Phase, Salt};
use crate::audit::log::AppendError;
use crate::clock::Clock;
use crate::domain::agency::CreditCode;
use crate::entropy;
use crate::grpc::{AgreementBook, sha256};
use crate::store::{
    ActedBy, AgreementAct, AgreementChange, AgreementState, AuditLog, Duty, Effect, NewAgreementState, Store,
    StoreError,
};

/// How often the database is asked whether the agreements have changed.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long another gateway is waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// How soon it is looked again whether another gateway is done with its own file.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// Agreements that are taken in at once: the log's queue is for others too.
const AT_ONCE: usize = 256;

/// Why the agreements of the directory file cannot be taken in.
#[derive(Debug, Error)]
pub enum AgreementsError {
    /// One version has two texts.
    #[error(
        "agreement {id} of the directory file differs from version {version} of it that was put in before: raise its version, \
         or give it the terms that `agreement show {id}` prints"
    )]
    Differs {
        /// The agreement.
        id: String,
        /// The version.
        version: u32,
    },
    /// Another gateway compares its own file, and does not come to an end.
    #[error(
        "another gateway is taking in agreements, and does not come to an end: is it stalled, or its host gone?"
    )]
    Busy,
    /// What is taken in is to be an entry, and the log takes none.
    #[error("the audit log cannot be written: is the disk full, or the database read-only?")]
    Unwritable,
    /// An agreement has no form as JSON, which is a fault of the gateway.
    #[error("agreement {id} cannot be written as JSON: {source}")]
    Unwritten {
        /// The agreement.
        id: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AgreementsError {
    /// Whether it may go better the next time, with the same file.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Busy | Self::Unwritable | Self::Store(_))
    }
}

/// What takes in.
pub(super) struct Intaking {
    pub(super) store: Store,
    pub(super) log: AuditLog,
    pub(super) clock: Clock,
    pub(super) node: String,
    /// The organ that runs the gateway.
    pub(super) own: CreditCode,
    /// Whether what comes later than the first agreements waits for an operator's approval.
    pub(super) two_person: bool,
}

/// What of the file the database does not have.
pub(super) struct Unknown {
    agreements: Vec<(Agreement, String)>,
    state: AgreementState,
    /// Until it is taken in, no other gateway compares.
    _duty: Duty,
}

impl Intaking {
    /// What of the file's agreements is new to the database, or of a higher version. What has ended stays ended.
    pub(super) async fn compare(&self, file: &Agreements) -> Result<Unknown, AgreementsError> {
        let begun = Instant::now();
        let duty = loop {
            match self.store.take_duty("agreements").await? {
                Some(duty) => break duty,
                None if begun.elapsed() > PATIENCE => return Err(AgreementsError::Busy),
                None => tokio::time::sleep(TRY_AGAIN).await,
            }
        };
        let known = self.store.newest_agreement_versions().await?;
        let mut agreements = Vec::new();
        for agreement in file.iter() {
            let unwritten = |source| AgreementsError::Unwritten { id: agreement.id.clone(), source };
            let terms = agreement.to_canonical_json().map_err(unwritten)?;
            match known.get(&agreement.id) {
                Some((version, known)) if *version == agreement.version => {
                    // As it is read, not as it is written: another version of this program may have written it.
                    if serde_json::from_str::<Agreement>(known).ok().as_ref() != Some(agreement.as_ref()) {
                        return Err(AgreementsError::Differs { id: agreement.id.clone(), version: *version });
                    }
                }
                Some((version, _)) if *version > agreement.version => {}
                _ => agreements.push((Agreement::clone(agreement), terms)),
            }
        }
        self.warn_of_what_the_file_lost(file).await?;
        // The first agreements of all are what the gateway begins with: there is no operator yet who could approve.
        let waits = self.two_person && !known.is_empty();
        let state = if waits { AgreementState::Pending } else { AgreementState::Effective };
        Ok(Unknown { agreements, state, _duty: duty })
    }

    /// Takes it in, each agreement by an entry of its own.
    pub(super) async fn take_in(&self, unknown: Unknown) -> Result<(), AgreementsError> {
        let mut agreements = unknown.agreements.into_iter().peekable();
        while agreements.peek().is_some() {
            let mut appending = JoinSet::new();
            for (agreement, terms) in agreements.by_ref().take(AT_ONCE) {
                let (entry, effect) = self.entry(&agreement, terms, unknown.state);
                let log = self.log.clone();
                appending.spawn(async move { log.append(entry, Salt(entropy::bytes()), vec![effect]).await });
            }
            while let Some(appended) = appending.join_next().await {
                match appended {
                    // An operator put it in at the same time.
                    Ok(Ok(_) | Err(AppendError::Rejected(_))) => {}
                    Ok(Err(_)) | Err(_) => return Err(AgreementsError::Unwritable),
                }
            }
        }
        Ok(())
    }

    fn entry(&self, agreement: &Agreement, terms: String, state: AgreementState) -> (Entry, Effect) {
        let now = self.clock.now();
        let digest = sha256(terms.as_bytes());
        let id = entropy::uuid_v7(now);
        let mut entry = Entry::new(id, Phase::Event, now, "directory", "TakeInAgreement", &self.node);
        entry.caller = Some(self.own.to_string());
        entry.reason = Some("FROM_DIRECTORY_FILE".into());
        entry.agreement_change = Some(Box::new(Told {
            act: AgreementAct::Put.as_str().into(),
            id: agreement.id.clone(),
            put_by: None,
            sha256: HEXLOWER.encode(&digest),
            state: state.as_str().into(),
            version: agreement.version.to_string(),
        }));
        let pending = state == AgreementState::Pending;
        let change = AgreementChange {
            agreement_id: agreement.id.clone(),
            version: agreement.version,
            change: NewAgreementState::Put { terms, digest, pending },
            by: ActedBy { agency: self.own, operator: None },
            at: now,
        };
        (entry, Effect::ChangeAgreement(Box::new(change)))
    }

    /// Taking an agreement out of the file does not end it: another gateway's file may still have it.
    async fn warn_of_what_the_file_lost(&self, file: &Agreements) -> Result<(), StoreError> {
        for id in self.store.effective_agreements_of_files().await? {
            if file.of_id(&id).is_none() {
                tracing::warn!(
                    agreement = id,
                    "is effective, but no longer in the directory file; `agreement end` ends it"
                );
            }
        }
        Ok(())
    }
}

/// Follows what other gateways, and operators at them, change. Works until `stop` ends.
pub(super) async fn follow(book: AgreementBook, stop: impl Future<Output = ()>) {
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return,
            () = tokio::time::sleep(LOOK_EVERY) => book.follow().await,
        }
    }
}
