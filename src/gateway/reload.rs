//! Files that change while the gateway runs: certificates, revocation lists, keys of bodies and pseudonyms, the directory. They
//! are looked at all the time, and read when they have changed or when the process is told to (SIGHUP). One that cannot be
//! used leaves what was read before in force, and that is said.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::RotationError;
use super::StartError;
use super::agreements::{AgreementsError, Intaking};
use super::certificates::InForce;
use super::files::{read_credentials, read_directory, read_rules};
use super::key_ledger::KeyLedger;
use super::secrets::{read_pseudonym_keys, read_ring};
use crate::access::Directory;
use crate::audit::entry::PseudonymKey;
use crate::audit::key_ring::KeyRing;
use crate::clock::Clock;
use crate::config::Config;
use crate::delivery::peers::Peers;
use crate::domain::eligibility::RuleSets;
use crate::grpc::AgreementBook;
use crate::identity::acceptor::Acceptor;
use crate::identity::credentials::{End, Ends};
use crate::identity::dialler::Dialler;
use crate::identity::watched_files::WatchedFiles;
use crate::store::{KeyUse, Sealer};

/// How often files are looked at. A change is read once it has stood for one look.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How soon what the database or the log did not take is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// How often connections that go out are looked at though no file has changed.
const JUDGE_EVERY: Duration = Duration::from_secs(60);

/// Files that are read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The gateway's certificate and key, the authorities, their revocation lists.
    Credentials,
    /// The keys of bodies.
    Keys,
    /// The keys of pseudonyms.
    Pseudonyms,
    /// Agencies and agreements.
    Directory,
    /// Rule sets of eligibility; read when told to.
    Rules,
}

impl Part {
    pub(super) const ALL: [Self; 5] =
        [Self::Credentials, Self::Keys, Self::Pseudonyms, Self::Directory, Self::Rules];

    /// Its name in logs and figures.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::Keys => "keys",
            Self::Pseudonyms => "pseudonym_keys",
            Self::Directory => "directory",
            Self::Rules => "rules",
        }
    }
}

/// What could not be read again; what was read before stays in force.
#[derive(Debug)]
pub struct ReloadError(Vec<(Part, StartError)>);

impl fmt::Display for ReloadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (part, error)) in self.0.iter().enumerate() {
            let before = if place == 0 { "" } else { "; " };
            write!(formatter, "{before}{}: {error}", part.as_str())?;
        }
        Ok(())
    }
}

impl std::error::Error for ReloadError {}

/// Which files are refused now, for figures.
#[derive(Debug, Default)]
pub(super) struct Refused([AtomicBool; Part::ALL.len()]);

impl Refused {
    pub(super) fn is_refused(&self, part: Part) -> bool {
        self.0[part as usize].load(Ordering::Relaxed)
    }

    fn note(&self, part: Part, refused: bool) {
        self.0[part as usize].store(refused, Ordering::Relaxed);
    }
}

/// Reads files again, and tells who goes by them.
pub(super) struct Reload {
    pub(super) config: Config,
    pub(super) clock: Clock,
    pub(super) directory: Arc<ArcSwap<Directory>>,
    pub(super) intaking: Intaking,
    pub(super) agreements: AgreementBook,
    pub(super) rules: Arc<ArcSwap<RuleSets>>,
    /// The gateway's own, and its witness's where it is one.
    pub(super) acceptors: Vec<Acceptor>,
    pub(super) dialler: Dialler,
    pub(super) peers: Peers,
    pub(super) in_force: Arc<InForce>,
    pub(super) ledger: KeyLedger,
    /// Those that the sealer has.
    pub(super) body_keys: Mutex<KeyRing>,
    pub(super) sealer: Sealer,
    /// Those by which persons are found.
    pub(super) pseudonym_keys: Mutex<KeyRing>,
    pub(super) pseudonyms: PseudonymKey,
    pub(super) refused: Arc<Refused>,
    pub(super) turn: tokio::sync::Mutex<()>,
}

impl Reload {
    /// Reads all of it. What can be used is in force when this returns.
    pub(super) async fn all(&self) -> Result<(), ReloadError> {
        let mut failed = Vec::new();
        for part in Part::ALL {
            failed.extend(self.part(part).await.err().map(|error| (part, error)));
        }
        if failed.is_empty() { Ok(()) } else { Err(ReloadError(failed)) }
    }

    async fn part(&self, part: Part) -> Result<(), StartError> {
        // One at a time: what was read first must not come into force last.
        let _turn = self.turn.lock().await;
        let read = match part {
            Part::Credentials => self.credentials(),
            Part::Keys => self.body_keys().await,
            Part::Pseudonyms => self.pseudonym_keys().await,
            Part::Directory => self.read_directory().await,
            Part::Rules => read_rules(&self.config).map(|rules| self.rules.store(Arc::new(rules))),
        };
        self.refused.note(part, read.is_err());
        match &read {
            Ok(()) => tracing::info!(files = part.as_str(), "read again"),
            Err(error) => {
                tracing::error!(files = part.as_str(), %error, "cannot be used: what was read before stays in force");
            }
        }
        read
    }

    fn credentials(&self) -> Result<(), StartError> {
        let (credentials, own) = read_credentials(&self.config)?;
        // Read all the same at start, where there is nothing better in force.
        let now = self.clock.now();
        // What had ended before stands in nobody's way: a list of one authority must not hold up that of another.
        let is_worse =
            |end: &&End| end.at < now && end.of != Ends::Authority && !self.in_force.has_ended(end, now);
        if let Some(ended) = credentials.ends().iter().find(is_worse) {
            return Err(StartError::Ended {
                what: ended.of.as_str(),
                name: ended.name.clone(),
                ended: ended.at,
            });
        }
        self.in_force.replace(&credentials, own);
        for acceptor in &self.acceptors {
            acceptor.replace_credentials(&credentials);
        }
        self.dialler.replace_credentials(&credentials);
        // Calls under way come to their end; the next ones go out on connections with the new certificate.
        self.peers.retain(|_, _| false);
        Ok(())
    }

    async fn body_keys(&self) -> Result<(), StartError> {
        let path = &self.config.keys.body;
        let keys = read_ring(path)?;
        let before = kept(&self.body_keys);
        if !before.is_opened_by(&keys) {
            let fingerprint = before.fingerprints().swap_remove(0);
            return Err(StartError::BodyKeyMissing { path: path.clone(), fingerprint });
        }
        self.ledger.change_bodies(&before, &keys).await?;
        self.sealer.replace_keys(&keys);
        keep(&self.body_keys, keys);
        Ok(())
    }

    async fn pseudonym_keys(&self) -> Result<(), StartError> {
        let keys = read_pseudonym_keys(&self.config.keys)?;
        // Its entry comes first: no person is named by a key of which the log has not told.
        let names = self.ledger.adopt_pseudonyms(&keys).await?;
        self.ledger.note_others(KeyUse::Pseudonym, &kept(&self.pseudonym_keys), &keys).await?;
        if !self.pseudonyms.replace(keys.clone(), &names) {
            return Err(RotationError::EarlierKeyMissing { fingerprint: names }.into());
        }
        keep(&self.pseudonym_keys, keys);
        Ok(())
    }

    /// Agreements that are new, or of a higher version, are taken into the database.
    async fn read_directory(&self) -> Result<(), StartError> {
        let read = read_directory(&self.config)?;
        let compared = self.intaking.compare(read.agreements()).await;
        // Whoever is suspended is out also while the database does not answer.
        if compared.as_ref().err().is_none_or(AgreementsError::may_pass) {
            self.directory.rcu(|current| current.with_agencies_of(&read));
            self.judge_again();
        }
        self.intaking.take_in(compared?).await?;
        self.agreements.read_again().await?;
        Ok(())
    }

    /// Shows out whose agency is not let in any more.
    fn judge_again(&self) {
        for acceptor in &self.acceptors {
            acceptor.judge_again();
        }
        self.dialler.judge_again();
        let directory = self.directory.load();
        self.peers.retain(|agency, endpoint| {
            let enrolled = directory.agency(agency).filter(|_| directory.is_active(agency));
            enrolled.is_some_and(|enrolled| enrolled.endpoint.as_ref() == Some(endpoint))
        });
    }

    /// Reads what changes until `stop` ends, and says what ends soon.
    pub(super) async fn watch(
        self: Arc<Self>,
        mut files: Vec<(Part, WatchedFiles)>,
        stop: impl Future<Output = ()>,
    ) {
        let mut stop = std::pin::pin!(stop);
        let mut beat = interval(LOOK_EVERY);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut judged, mut again) = (Instant::now(), Vec::<(Part, Instant)>::new());
        loop {
            tokio::select! {
                () = &mut stop => return,
                _ = beat.tick() => {}
            }
            let looked = tokio::task::spawn_blocking(move || {
                let changed =
                    files.iter_mut().filter_map(|(part, files)| files.have_changed().then_some(*part));
                let changed: Vec<Part> = changed.collect();
                (files, changed)
            });
            // The files that it looks at are lost with a look that panicked; the gateway ends then.
            let Ok((looked, changed)) = looked.await else { return };
            files = looked;
            let now = Instant::now();
            let due =
                again.extract_if(.., |(part, at)| *at <= now || changed.contains(part)).map(|(part, _)| part);
            let due: Vec<Part> = due.filter(|part| !changed.contains(part)).collect();
            for part in changed.into_iter().chain(due) {
                // Said, and noted, where it is read. What the database did not take is not in the file's way.
                if self.part(part).await.is_err_and(|error| error.may_pass()) {
                    again.push((part, Instant::now() + TRY_AGAIN));
                }
            }
            // Days end on which keys are in force, and certificates do.
            if judged.elapsed() >= JUDGE_EVERY {
                judged = Instant::now();
                self.dialler.judge_again();
            }
            self.in_force.warn(self.clock.now());
        }
    }
}

/// The files of each part that is read when they change, as they stand now: taken before they are first read.
pub(super) fn watched_files(config: &Config) -> Vec<(Part, WatchedFiles)> {
    let pseudonyms = [&config.keys.pseudonym].into_iter().chain(&config.keys.pseudonym_earlier);
    let parts: [(Part, Vec<PathBuf>); 4] = [
        (Part::Credentials, config.tls.files()),
        (Part::Keys, vec![config.keys.body.clone()]),
        (Part::Pseudonyms, pseudonyms.cloned().collect()),
        (Part::Directory, vec![config.gateway.directory.clone()]),
    ];
    parts.map(|(part, paths)| (part, WatchedFiles::new(paths))).into()
}

fn kept(keys: &Mutex<KeyRing>) -> KeyRing {
    keys.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn keep(keys: &Mutex<KeyRing>, new: KeyRing) {
    *keys.lock().unwrap_or_else(PoisonError::into_inner) = new;
}
