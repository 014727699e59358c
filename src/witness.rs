//! A witness: it keeps the newest checkpoint of each log that it follows and cosigns a newer one only if that continues
//! it (C2SP `tlog-witness`). Stands alone (`legal-aid-gateway witness`) or beside a gateway (`[witness]`).

mod body;
pub mod client;
mod service;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::state::Notebook;
use crate::audit::cosignature::{CosignerKey, CosigningKey};
use crate::audit::note::{KeyError, NoteError, VerifyingKey};
use crate::clock::Clock;
use crate::config::WitnessSection;
use crate::domain::agency::CreditCode;
use crate::identity::acceptor::{Acceptor, AcceptorLimits};
use crate::identity::admission::{AdmissionPolicy, BoxFuture, Refusal};
use crate::identity::certificate::PeerCertificate;
use crate::identity::credentials::Credentials;
use crate::identity::key_file;
use crate::identity::server::{Drained, HttpLimits, serve};

/// Why a witness does not start.
#[derive(Debug, Error)]
pub enum WitnessError {
    /// Its key file cannot be read.
    #[error("cannot read {path}: {source}; `legal-aid-gateway witness init DIR` makes one", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others can read its key file.
    #[error("{path} can be read by others (mode {mode:03o}): run chmod 600 {path}", path = .path.display())]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Its key file holds no witness's key.
    #[error("{path}: {source}", path = .path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: KeyError,
    },
    /// The key of a log cannot be used.
    #[error("[[witness.log]] key {key:?}: {source}; take what `audit key` prints at the log")]
    LogKey {
        /// As configured.
        key: String,
        /// What is wrong.
        source: KeyError,
    },
    /// The state folder cannot be used.
    #[error("cannot use the state folder {path}: {source}", path = .path.display())]
    State {
        /// The folder, or a file in it.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another witness uses the state folder.
    #[error("another witness works in {path}: stop it first, two would sign past each other", path = .path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The kept checkpoint of a log is not one that its key has signed.
    #[error(
        "{path} does not verify under the key of log {origin}: {source}; restore it, or add the log's earlier key \
         beside the new one; without it the witness would sign whatever it is shown",
        path = .path.display()
    )]
    Kept {
        /// The file.
        path: PathBuf,
        /// The log.
        origin: String,
        /// What is wrong.
        source: NoteError,
    },
    /// Its address is taken or not ours.
    #[error("cannot listen on {address}: {source}; is another witness running there?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// A witness that serves.
pub struct Witness {
    address: SocketAddr,
    key: CosignerKey,
    acceptor: Acceptor,
    stop: watch::Sender<bool>,
    server: JoinHandle<Drained>,
}

impl Witness {
    /// Starts a witness; when this returns, it serves.
    ///
    /// # Errors
    /// Whatever is wrong with its key, its logs or its state, before the first byte is served.
    pub async fn start(
        section: &WitnessSection,
        credentials: &Credentials,
        clock: Clock,
    ) -> Result<Self, WitnessError> {
        let key = read_key(&section.key)?;
        let public = key.cosigner_key().clone();
        let mut logs: BTreeMap<String, Vec<VerifyingKey>> = BTreeMap::new();
        for log in &section.logs {
            let parsed: VerifyingKey =
                log.key.parse().map_err(|source| WitnessError::LogKey { key: log.key.clone(), source })?;
            logs.entry(parsed.name().to_owned()).or_default().push(parsed);
        }
        let notebook = Notebook::open(&section.state, logs)?;
        let address = section.listen;
        let failed = |source| WitnessError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let policy = OnlyTheLogs(section.logs.iter().map(|log| log.agency).collect());
        let acceptor = Acceptor::new(credentials, Arc::new(policy), AcceptorLimits::default(), clock.clone());
        let (stop, mut stopped) = watch::channel(false);
        let until = async move {
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        let service = service::service(Arc::new(service::Cosigner { key, notebook, clock }));
        let server = tokio::spawn(serve(listener, acceptor.clone(), service, HttpLimits::default(), until));
        Ok(Self { address, key: public, acceptor, stop, server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The key that verifies what it signs.
    pub fn key(&self) -> &CosignerKey {
        &self.key
    }

    /// Lets in its connections; its credentials are replaced there.
    pub fn acceptor(&self) -> &Acceptor {
        &self.acceptor
    }

    /// Returns when it has ended by itself, which it must not.
    pub async fn failed(&mut self) {
        let _ = (&mut self.server).await;
    }

    /// Stops it; requests in progress are answered.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let _ = self.server.await;
    }
}

fn read_key(path: &std::path::Path) -> Result<CosigningKey, WitnessError> {
    let unreadable = |source| WitnessError::Unreadable { path: path.to_owned(), source };
    if let Some(mode) = key_file::open_to_others(path).map_err(unreadable)? {
        return Err(WitnessError::OpenToOthers { path: path.to_owned(), mode });
    }
    let text = std::fs::read_to_string(path).map(zeroize::Zeroizing::new).map_err(unreadable)?;
    CosigningKey::parse(text.trim()).map_err(|source| WitnessError::NotAKey { path: path.to_owned(), source })
}

/// Only those who run a log that is witnessed are let in.
struct OnlyTheLogs(BTreeSet<CreditCode>);

impl AdmissionPolicy for OnlyTheLogs {
    fn admit(&self, peer: &PeerCertificate) -> Result<(), Refusal> {
        if self.0.contains(&peer.agency) {
            return Ok(());
        }
        Err(Refusal {
            reason: "NOT_A_WITNESSED_LOG",
            agency: Some(peer.agency),
            spki: Some(peer.spki_sha256),
        })
    }

    fn refused(&self, refusal: Refusal, address: SocketAddr) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            tracing::warn!(reason = refusal.reason, agency = refusal.agency.map(tracing::field::display), %address, "connection to the witness refused");
        })
    }
}
