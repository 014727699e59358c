//! Whether whoever was let in would be let in still.
//!
//! A connection outlives what was known when it began: a certificate is revoked, an authority is no longer trusted, an
//! agency is suspended. So every open connection is judged again when one of these has changed, with what it showed.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;
use tokio::time::sleep;

use super::acceptor::{Acceptor, Material};
use super::admission::{Refusal, judge};
use super::certificate::PeerCertificate;

/// How often a connection is judged again when nothing is said to have changed: what was agreed for some days ends.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What a connection was let in with.
pub(super) struct Standing {
    /// As the peer sent it, its own certificate first.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Whose it was then.
    pub(super) certificate: Arc<PeerCertificate>,
    /// What it was verified with.
    pub(super) material: Arc<Material>,
    /// Says that something has changed since.
    pub(super) changes: watch::Receiver<()>,
}

/// Why a connection's peer would not be let in any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    /// Its certificate is not believed any more: revoked, or of an authority that is no longer trusted.
    #[error("the certificate is not believed any more: {0}")]
    Belief(rustls::Error),
    /// It is not this agency's any more.
    #[error("the certificate is not the agency's any more")]
    Owner,
    /// The agency may not come any more.
    #[error("{}", .0.reason)]
    Admission(Refusal),
}

impl Lost {
    /// The same in UPPER_SNAKE.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Belief(rustls::Error::InvalidCertificate(rustls::CertificateError::Revoked)) => {
                "CERTIFICATE_REVOKED"
            }
            Self::Belief(_) => "CERTIFICATE_NOT_BELIEVED",
            Self::Owner => "NOT_THE_AGENCYS_CERTIFICATE",
            Self::Admission(refusal) => refusal.reason,
        }
    }
}

impl Standing {
    /// Returns when the peer would not be let in any more, and why.
    pub(super) async fn lost(mut self, acceptor: &Acceptor) -> Lost {
        loop {
            tokio::select! {
                // The acceptor, which is held here, tells: it does not end.
                _ = self.changes.changed() => {}
                () = sleep(LOOK_AGAIN) => {}
            }
            if let Err(lost) = self.judge_again(acceptor) {
                return lost;
            }
        }
    }

    fn judge_again(&mut self, acceptor: &Acceptor) -> Result<(), Lost> {
        let Some((leaf, intermediates)) = self.chain.split_first() else { return Err(Lost::Owner) };
        let material = acceptor.material();
        // Signatures cost; they are looked at again only when there is something new to hold them against.
        if !Arc::ptr_eq(&material, &self.material) {
            let seconds = u64::try_from(acceptor.clock().now().as_second()).unwrap_or_default();
            let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            material.chain.verify_client_cert(leaf, intermediates, now).map_err(Lost::Belief)?;
            self.material = material;
        }
        match judge(acceptor.policy(), leaf) {
            Ok(peer) if peer.agency == self.certificate.agency => Ok(()),
            Err(refusal) if refusal.agency.is_some() => Err(Lost::Admission(refusal)),
            Ok(_) | Err(_) => Err(Lost::Owner),
        }
    }
}
