//! The party that is dialled: believed only when its chain, its name, its agency and, where it is pinned, its key are
//! right.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError as TlsCertificateError, DigitallySignedStruct, SignatureScheme};

use super::certificate::{CertificateError, PeerCertificate, Presented};
use crate::access::{Directory, Inadmissible};
use crate::clock::Clock;
use crate::domain::agency::CreditCode;

/// The verifier of one outgoing connection.
pub(super) struct PartnerVerifier {
    pub(super) chain: Arc<WebPkiServerVerifier>,
    /// Who must answer.
    pub(super) expected: CreditCode,
    /// In which keys are pinned.
    pub(super) directory: Option<Arc<Directory>>,
    pub(super) clock: Clock,
}

impl PartnerVerifier {
    /// Whose a certificate is.
    pub(super) fn owner(&self, leaf: &CertificateDer<'_>) -> Result<PeerCertificate, CertificateError> {
        let presented = Presented::parse(leaf)?;
        let pinned_to =
            self.directory.as_ref().and_then(|directory| directory.pinned_to(&presented.spki_sha256));
        presented.of(pinned_to)
    }

    fn is_the_expected(&self, leaf: &CertificateDer<'_>) -> Result<(), NotTheAgency> {
        let owner = self.owner(leaf).map_err(NotTheAgency::Unnamed)?;
        if owner.agency != self.expected {
            return Err(NotTheAgency::Another { expected: self.expected, presented: owner.agency });
        }
        let Some(directory) = &self.directory else { return Ok(()) };
        directory.knows_key(&owner.agency, &owner.spki_sha256, self.clock.now()).map_err(NotTheAgency::Key)
    }
}

impl ServerCertVerifier for PartnerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        self.is_the_expected(end_entity).map_err(|reason| {
            let reason: Arc<dyn StdError + Send + Sync> = Arc::new(reason);
            TlsCertificateError::Other(rustls::OtherError(reason))
        })?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

impl fmt::Debug for PartnerVerifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PartnerVerifier").field("expected", &self.expected).finish_non_exhaustive()
    }
}

/// Carried through rustls from the verifier to whoever dialled.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotTheAgency {
    #[error("the certificate is of agency {presented}, not {expected}")]
    Another { expected: CreditCode, presented: CreditCode },
    #[error("the certificate names no agency")]
    Unnamed(#[source] CertificateError),
    #[error("{0}")]
    Key(Inadmissible),
}
