//! Whether a peer that was let in may still be served: asked with each call, and while a stream lives.

use super::Intake;
use crate::access::Inadmissible;
use crate::grpc::status::Refusal;
use crate::identity::server::Peer;

impl Intake {
    /// Whether its certificate has not ended meanwhile, and its agency may still come with it.
    pub(in crate::grpc) fn still_serves(&self, peer: &Peer) -> Result<(), Refusal> {
        let (certificate, now) = (&peer.certificate, self.clock.now());
        if certificate.not_after < now {
            return Err(Refusal::CertificateExpired);
        }
        let directory = self.directory.load();
        let admitted = directory.admits(&certificate.agency, &certificate.spki_sha256, now);
        admitted.map_err(|why| match why {
            Inadmissible::NotEnrolled | Inadmissible::Suspended => Refusal::AgencyNotActive,
            Inadmissible::OtherKey | Inadmissible::KeyNotInForce => Refusal::KeyNotEnrolled,
        })
    }
}
