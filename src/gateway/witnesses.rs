//! The gateway's side of its witnesses: it submits checkpoints, keeps what is cosigned, and knows how far they lag.
//!
//! All witnesses are shown the same checkpoint, the candidate, so that their cosignatures meet on one. It is replaced by
//! the log's newest once a quorum has signed it, or when that takes too long. Each witness has a task of its own: a dead
//! one slows nobody.

mod board;
mod submission;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use self::board::Board;
use self::submission::{Outcome, submit};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::cosignature::{Cosignature, CosignerKey};
use crate::audit::entry::Entry;
use crate::audit::log::{Head, SignedHead, Storage as _};
use crate::audit::merkle::empty_root;
use crate::audit::note::{KeyError, NoteError, SigningKey, VerifyingKey};
use crate::audit::witnessed::Standing;
use crate::clock::Clock;
use crate::config::WitnessesSection;
use crate::identity::dialler::{DialError, Dialler, Endpoint};
use crate::store::{AuditLog, CosignatureRecord, Store, StoreError};
use crate::witness::client::WitnessClient;

/// Time for all witnesses together before the gateway serves; those that have not answered by then are asked later.
const AT_START: Duration = Duration::from_secs(3);

/// How long a candidate waits for its quorum before a newer one takes its place.
const CANDIDATE_WAITS: Duration = Duration::from_secs(15);

/// First wait after a witness did not answer; doubled after each further time.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// What is wrong with the witnesses of the configuration, or what they know that this database does not.
#[derive(Debug, Error)]
pub enum WitnessesError {
    /// The key is none.
    #[error("[[audit.witnesses.witness]] key {key:?}: {source}; take what `witness init` printed there")]
    Key {
        /// As configured.
        key: String,
        /// What is wrong.
        source: KeyError,
    },
    /// One key twice, or the log's own.
    #[error("witness {name} has the same key as {other}: a quorum must be of different parties")]
    SameKey {
        /// Its name.
        name: String,
        /// Who has it too.
        other: String,
    },
    /// Its address.
    #[error("witness {name}: {source}")]
    Endpoint {
        /// Its name.
        name: String,
        /// What is wrong.
        source: DialError,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The checkpoint cannot be signed.
    #[error("the checkpoint for the witnesses: {0}")]
    Note(#[from] NoteError),
    /// A witness has cosigned a longer log.
    #[error(
        "witness {witness} has cosigned {known} entries of this log, the database has {stored}: entries are missing. \
         It looks like a restored backup, a replaced database, or a second gateway that signs with this key. Signing on \
         would fork the log. Stop any other gateway with this key and bring back the newest database; if it is lost for \
         good, follow \"After a rollback\" in docs/witnesses.md"
    )]
    Behind {
        /// Its name.
        witness: String,
        /// Entries that it has seen.
        known: u64,
        /// Entries in the database.
        stored: u64,
    },
    /// A witness holds another history.
    #[error(
        "witness {witness} holds another history of this log than the database: at {stored} entries or before, the two \
         differ. A second gateway has signed with this key, or the database was replaced. Do not sign on: stop any other \
         gateway with this key, ask the witness for its evidence, and follow \"After a rollback\" in docs/witnesses.md"
    )]
    Forked {
        /// Its name.
        witness: String,
        /// Entries in the database.
        stored: u64,
    },
}

/// The log's witnesses, and what is expected of them.
pub(super) struct Witnesses {
    parties: Vec<Party>,
    settings: WitnessesSection,
    store: Store,
    clock: Clock,
    board: Arc<Mutex<Board>>,
    standing: watch::Sender<Standing>,
    /// Told when a witness has signed.
    signed: Arc<Notify>,
}

#[derive(Clone)]
struct Party {
    /// Its place among the witnesses.
    place: usize,
    key: CosignerKey,
    client: WitnessClient,
}

impl Witnesses {
    /// Reads the configuration, and what the database holds of earlier cosignatures.
    pub(super) async fn prepare(
        settings: &WitnessesSection,
        log_key: &VerifyingKey,
        dialler: &Dialler,
        store: &Store,
        clock: &Clock,
    ) -> Result<Self, WitnessesError> {
        let mut parties: Vec<Party> = Vec::new();
        for (place, entry) in settings.witness.iter().enumerate() {
            let key: CosignerKey =
                entry.key.parse().map_err(|source| WitnessesError::Key { key: entry.key.clone(), source })?;
            let name = key.name().to_owned();
            let same = parties.iter().find(|party| party.key.public_key() == key.public_key());
            let same = same.map(|party| party.key.name());
            let same = same.or((key.public_key() == log_key.public_key()).then(|| log_key.name()));
            if let Some(other) = same {
                return Err(WitnessesError::SameKey { name, other: other.to_owned() });
            }
            let endpoint = Endpoint {
                address: entry.address.clone(),
                server_name: entry.server_name.clone(),
                agency: entry.agency,
            };
            let client = WitnessClient::new(dialler, &endpoint)
                .map_err(|source| WitnessesError::Endpoint { name, source })?;
            parties.push(Party { place, key, client });
        }
        let keys = parties.iter().map(|party| party.key.clone()).collect();
        let mut board = Board::new(keys, settings.quorum);
        for kept in store.cosignatures().await? {
            board.recall(&kept, log_key);
        }
        let (standing, _) = watch::channel(board.standing());
        Ok(Self {
            parties,
            settings: settings.clone(),
            store: store.clone(),
            clock: clock.clone(),
            board: Arc::new(Mutex::new(board)),
            standing,
            signed: Arc::default(),
        })
    }

    /// How far the witnesses are.
    pub(super) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// The newest checkpoint that has a quorum of cosignatures, as the database keeps it.
    pub(super) fn newest_cosigned(&self) -> Option<String> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner).newest_cosigned()
    }

    /// Shows the stored checkpoint to the witnesses before anything is written.
    ///
    /// # Errors
    /// When one that can be reached knows a longer log, or another. One that cannot be reached is no error.
    pub(super) async fn ask_before_start(&self, key: &SigningKey) -> Result<(), WitnessesError> {
        let head = match self.store.head().await? {
            Some(Head { size, root, checkpoint, .. }) => {
                SignedHead { size, root, checkpoint: checkpoint.into() }
            }
            None => {
                let (origin, root) = (key.name().to_owned(), empty_root());
                let empty = Checkpoint { origin, size: 0, root, extensions: Vec::new() };
                SignedHead { size: 0, root, checkpoint: empty.sign(key)?.into() }
            }
        };
        let head = Arc::new(head);
        let mut asked = JoinSet::new();
        for party in self.parties.clone() {
            let (store, head) = (self.store.clone(), Arc::clone(&head));
            let known = self.known(&party);
            asked.spawn(async move {
                let outcome = timeout(AT_START, submit(&party, &store, known, &head)).await;
                (party, outcome)
            });
        }
        let stored = head.size;
        while let Some(answer) = asked.join_next().await {
            let Ok((party, outcome)) = answer else { continue };
            let witness = party.key.name().to_owned();
            match outcome {
                Ok(Ok(Outcome::Cosigned(cosignature))) => {
                    keep(&self.board, &self.store, &party, &head, &cosignature).await;
                }
                Ok(Ok(Outcome::Behind(known))) => {
                    return Err(WitnessesError::Behind { witness, known, stored });
                }
                Ok(Ok(Outcome::Forked)) => return Err(WitnessesError::Forked { witness, stored }),
                Ok(Err(error)) => tracing::warn!(witness, %error, "a witness does not answer at start"),
                Err(_) => tracing::warn!(witness, "a witness does not answer at start"),
            }
        }
        Ok(())
    }

    fn known(&self, party: &Party) -> u64 {
        self.board.lock().unwrap_or_else(PoisonError::into_inner).size_of(party.place)
    }

    /// Brings the standing up to date once, so that the first call finds it right.
    pub(super) async fn take_stock(&self, log: &AuditLog) {
        let mut since = None;
        self.update(log, &mut since, &mut Warned::default()).await;
    }

    /// Submits checkpoints until `stop` ends.
    pub(super) async fn follow(self, log: AuditLog, stop: impl Future<Output = ()>) {
        if self.parties.is_empty() {
            return stop.await;
        }
        let mut stop = std::pin::pin!(stop);
        let (candidate, shown) = watch::channel(Arc::new(log.head()));
        let mut workers = JoinSet::new();
        for party in self.parties.clone() {
            workers.spawn(work(
                party,
                Arc::clone(&self.board),
                Arc::clone(&self.signed),
                self.store.clone(),
                shown.clone(),
                self.settings.clone(),
            ));
        }
        let mut tick = interval(self.settings.submit_every.min(Duration::from_secs(1)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut since, mut warned) = (None, Warned::default());
        let mut shown_at = Instant::now();
        loop {
            tokio::select! {
                () = &mut stop => return,
                _ = tick.tick() => {}
                () = self.signed.notified() => {}
            }
            let head = log.head();
            let size = candidate.borrow().size;
            let signed = self.board.lock().unwrap_or_else(PoisonError::into_inner).cosigned_size() >= size;
            let waited = shown_at.elapsed();
            if head.size > size
                && waited >= self.settings.submit_every
                && (signed || waited >= CANDIDATE_WAITS)
            {
                candidate.send_replace(Arc::new(head));
                shown_at = Instant::now();
            }
            self.update(&log, &mut since, &mut warned).await;
        }
    }

    /// Computes the lag and tells everybody. `since` remembers when the first entry that is not cosigned was written,
    /// with its index.
    async fn update(&self, log: &AuditLog, since: &mut Option<(u64, Timestamp)>, warned: &mut Warned) {
        if self.parties.is_empty() {
            return;
        }
        let mut standing = self.board.lock().unwrap_or_else(PoisonError::into_inner).standing();
        let cosigned = standing.cosigned.as_ref().map_or(0, |cosigned| cosigned.size);
        if log.head().size > cosigned {
            if since.is_none_or(|(index, _)| index != cosigned) {
                // The first that is readable: what was pruned says no more when it was written.
                let waiting = self.store.removable_entries(cosigned, 1).await.unwrap_or_default();
                let recorded = waiting.first().and_then(|stored| Entry::from_json(&stored.entry).ok());
                *since = recorded.map(|entry| (cosigned, entry.recorded));
            }
            if let Some((_, written)) = since {
                standing.lag =
                    Duration::try_from(self.clock.now().duration_since(*written)).unwrap_or_default();
            }
        }
        standing.stopped = self.settings.stop_after.is_some_and(|stop_after| standing.lag > stop_after);
        warned.of(&standing, self.settings.warn_after);
        self.standing.send_replace(standing);
    }
}

/// What has been said of the lag already.
#[derive(Default)]
struct Warned {
    at: Option<Instant>,
    stopped: bool,
}

impl Warned {
    fn of(&mut self, standing: &Standing, warn_after: Duration) {
        let lag_seconds = standing.lag.as_secs();
        if standing.stopped && !self.stopped {
            tracing::error!(
                lag_seconds,
                "the witnesses lag too far behind: no new work is taken until they are back"
            );
        }
        if self.stopped && !standing.stopped {
            // As loud as the stop: whoever heard that one waits for this one.
            tracing::warn!("the witnesses are back: work is taken again");
        }
        self.stopped = standing.stopped;
        if standing.lag <= warn_after {
            if self.at.take().is_some() {
                tracing::info!("the witnesses have caught up");
            }
        } else if self.at.is_none_or(|at| at.elapsed() >= warn_after) {
            self.at = Some(Instant::now());
            let behind: Vec<String> = standing
                .witnesses
                .iter()
                .map(|witness| format!("{} at {}", witness.name, witness.size))
                .collect();
            tracing::warn!(
                lag_seconds,
                witnesses = behind.join(", "),
                "the witnesses lag behind; see docs/witnesses.md"
            );
        }
    }
}

/// Shows one witness each candidate, and tries again when it does not answer.
async fn work(
    party: Party,
    board: Arc<Mutex<Board>>,
    signed: Arc<Notify>,
    store: Store,
    mut candidate: watch::Receiver<Arc<SignedHead>>,
    settings: WitnessesSection,
) {
    let mut retry = FIRST_RETRY.min(settings.longest_retry);
    let mut said: Option<String> = None;
    let witness = party.key.name().to_owned();
    loop {
        let head = Arc::clone(&candidate.borrow_and_update());
        let known = board.lock().unwrap_or_else(PoisonError::into_inner).size_of(party.place);
        let problem = if known >= head.size {
            None
        } else {
            match timeout(settings.attempt, submit(&party, &store, known, &head)).await {
                Ok(Ok(Outcome::Cosigned(cosignature))) => {
                    keep(&board, &store, &party, &head, &cosignature).await;
                    signed.notify_one();
                    if said.is_some() {
                        tracing::info!(witness, "a witness is back");
                    }
                    None
                }
                Ok(Ok(Outcome::Behind(known))) => {
                    board.lock().unwrap_or_else(PoisonError::into_inner).disagrees(party.place);
                    Some(format!(
                        "it has cosigned {known} entries of this log, more than the gateway has: a second gateway signs \
                         with this key, or entries are lost"
                    ))
                }
                Ok(Ok(Outcome::Forked)) => {
                    board.lock().unwrap_or_else(PoisonError::into_inner).disagrees(party.place);
                    Some(
                        "it holds another history of this log: a second gateway signs with this key"
                            .to_owned(),
                    )
                }
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("it does not answer in time".to_owned()),
            }
        };
        match problem {
            None => {
                (retry, said) = (FIRST_RETRY.min(settings.longest_retry), None);
                if candidate.changed().await.is_err() {
                    return;
                }
            }
            Some(problem) => {
                // Once for each problem, not for each try.
                if said.as_ref() != Some(&problem) {
                    tracing::warn!(witness, problem, "a witness does not cosign; it is asked again");
                }
                said = Some(problem);
                sleep(retry).await;
                retry = (retry * 2).min(settings.longest_retry);
            }
        }
    }
}

/// Writes a cosignature down. That it is kept in the database is for the next start; the board has it either way.
async fn keep(
    board: &Mutex<Board>,
    store: &Store,
    party: &Party,
    head: &SignedHead,
    cosignature: &Cosignature,
) {
    let kept = CosignatureRecord {
        size: head.size,
        witness: party.key.to_string(),
        checkpoint: head.checkpoint.to_string(),
        line: cosignature.line.clone(),
    };
    let (cosigned, oldest_waiting) = {
        let board = board.lock().unwrap_or_else(PoisonError::into_inner);
        (board.cosigned_size(), board.oldest_waiting())
    };
    if let Err(error) = store.keep_cosignature(&kept, cosigned, oldest_waiting).await {
        tracing::warn!(%error, "a cosignature cannot be kept in the database");
    }
    let mut board = board.lock().unwrap_or_else(PoisonError::into_inner);
    board.signed(party.place, head.size, &head.checkpoint, cosignature);
}
