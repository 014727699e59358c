//! Who may connect: enrolled, active agencies. Who is turned away by this policy is in the audit log.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use data_encoding::HEXLOWER;

use super::certificates::InForce;
use crate::access::Directory;
use crate::audit::entry::{Decision, Entry, Phase, Salt};
use crate::clock::Clock;
use crate::domain::agency::CreditCode;
use crate::entropy;
use crate::identity::admission::{AdmissionPolicy, BoxFuture, Refusal};
use crate::identity::certificate::PeerCertificate;
use crate::store::AuditLog;

/// The gateway's policy at the handshake.
pub(super) struct Admission {
    pub(super) directory: Arc<ArcSwap<Directory>>,
    pub(super) log: AuditLog,
    pub(super) in_force: Arc<InForce>,
    pub(super) clock: Clock,
    pub(super) node: String,
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
}
