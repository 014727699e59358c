//! Who may connect: enrolled, active agencies. Who is turned away by this policy, or shown out later, is in the audit log.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use data_encoding::HEXLOWER;
use tokio::sync::watch;

use super::certificates::InForce;
use crate::access::Directory;
use crate::audit::entry::{Decision, Entry, Phase, Salt};
use crate::clock::Clock;
use crate::domain::agency::CreditCode;
use crate::entropy;
use crate::identity::admission::{AdmissionPolicy, BoxFuture, Refusal};
use crate::identity::certificate::PeerCertificate;
use crate::store::AuditLog;

/// How long connections of one certificate that end for one reason are gathered for one entry.
const GATHER: Duration = Duration::from_millis(500);

/// How soon an entry is tried again that the log did not take.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// Connections that were ended and have no entry yet: whose, by which key (SHA-256), and why.
pub(super) type ShownOut = Arc<Mutex<BTreeMap<(CreditCode, [u8; 32], &'static str), u64>>>;

/// The gateway's policy at the handshake.
pub(super) struct Admission {
    pub(super) directory: Arc<ArcSwap<Directory>>,
    pub(super) log: AuditLog,
    pub(super) in_force: Arc<InForce>,
    pub(super) clock: Clock,
    pub(super) node: String,
    pub(super) shown_out: ShownOut,
    /// Becomes true when the gateway is about to stop.
    pub(super) stopping: watch::Receiver<bool>,
}

impl AdmissionPolicy for Admission {
    fn pinned_to(&self, spki_sha256: &[u8; 32]) -> Option<CreditCode> {
        self.directory.load().pinned_to(spki_sha256)
    }

    fn admit(&self, peer: &PeerCertificate) -> Result<(), Refusal> {
        let admitted = self.directory.load().admits(&peer.agency, &peer.spki_sha256, self.clock.now());
        admitted.map_err(|why| Refusal {
            reason: why.reason(),
            agency: Some(peer.agency),
            spki: Some(peer.spki_sha256),
        })?;
        self.in_force.note(peer);
        Ok(())
    }

    fn refused(&self, refusal: Refusal, address: SocketAddr) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            tracing::warn!(reason = refusal.reason, agency = refusal.agency.map(tracing::field::display), %address, "connection refused");
            // A chain that was too long was never verified: a stranger could fill the log with such attempts.
            if refusal.spki.is_none() {
                return;
            }
            let now = self.clock.now();
            let id = entropy::uuid_v7(now);
            let mut entry = Entry::new(id, Phase::HandshakeRefused, now, "tls", "handshake", &self.node);
            entry.caller = refusal.agency.map(|agency| agency.to_string());
            entry.certificate = refusal.spki.map(|spki| HEXLOWER.encode(&spki));
            entry.decision = Some(Decision::Deny);
            entry.code = Some("PERMISSION_DENIED".into());
            entry.reason = Some(refusal.reason.into());
            if self.log.append(entry, Salt(entropy::bytes()), Vec::new()).await.is_err() {
                tracing::warn!("a refused connection could not be written to the audit log");
            }
        })
    }
    fn shown_out(&self, peer: &PeerCertificate, reason: &'static str) {
        let key = (peer.agency, peer.spki_sha256, reason);
        let mut gathered = self.shown_out.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = gathered.entry(key).or_default();
        *connections += 1;
        // Whoever comes first sees to the entry for all.
        if *connections > 1 {
            return;
        }
        drop(gathered);
        let (log, clock, node) = (self.log.clone(), self.clock.clone(), self.node.clone());
        let (gathered, mut stopping) = (Arc::clone(&self.shown_out), self.stopping.clone());
        tokio::spawn(async move {
            // A gateway that stops does not wait until there are more.
            let stopped = async {
                let _ = stopping.wait_for(|stopping| *stopping).await;
            };
            let _ = tokio::time::timeout(GATHER, stopped).await;
            let (agency, spki, reason) = key;
            let taken = gathered.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            loop {
                let now = clock.now();
                let id = entropy::uuid_v7(now);
                let mut entry = Entry::new(id, Phase::Event, now, "tls", "CloseConnections", &node);
                entry.caller = Some(agency.to_string());
                entry.certificate = Some(HEXLOWER.encode(&spki));
                entry.reason = Some(reason.into());
                entry.items = taken;
                if log.append(entry, Salt(entropy::bytes()), Vec::new()).await.is_ok() {
                    return;
                }
                if *stopping.borrow() {
                    tracing::warn!(%agency, reason, "ended connections could not be written to the audit log");
                    return;
                }
                tokio::time::sleep(TRY_AGAIN).await;
            }
        });
    }
}
