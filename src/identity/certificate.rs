//! The agency that a certificate names.

use jiff::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::domain::agency::{CreditCode, CreditCodeError};

/// What comes before the credit code in the URI subject alternative name.
pub const AGENCY_URI_PREFIX: &str = "urn:legal-aid:agency:";

/// What the names of development authorities begin with.
pub const DEVELOPMENT_ONLY: &str = "DEVELOPMENT ONLY";

/// What a certificate says of its holder, before it is settled which agency that is.
///
/// Parsing says what the certificate claims. Only the TLS verifier says whether to believe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    /// The agency named in the certificate's URI subject alternative name, or why there is none.
    pub named: Result<CreditCode, CertificateError>,
    /// SHA-256 over the DER of the subject public key info (RFC 7469 section 2.4): the same for a renewed certificate
    /// with the same key.
    pub spki_sha256: [u8; 32],
    /// The last second in which the certificate is valid.
    pub not_after: Timestamp,
}

impl Presented {
    /// Reads the leaf certificate in `der`.
    ///
    /// # Errors
    /// When it is not a certificate.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let certificate = parse_certificate(der)?;
        Ok(Self {
            named: agency_named_by(&certificate),
            spki_sha256: sha256(certificate.public_key().raw),
            not_after: Timestamp::from_second(certificate.validity().not_after.timestamp())
                .map_err(|_| CertificateError::Unparsable)?,
        })
    }

    /// Whose certificate it is: of the agency that its key is pinned to, where it is pinned, otherwise of the agency that
    /// it names.
    ///
    /// # Errors
    /// When it names no agency and its key is pinned to none, or when the two differ.
    pub fn of(self, pinned_to: Option<CreditCode>) -> Result<PeerCertificate, CertificateError> {
        let agency = match (pinned_to, self.named) {
            (None, named) => named?,
            (Some(pinned_to), Err(CertificateError::NoAgencyName)) => pinned_to,
            (Some(pinned_to), Ok(named)) if named == pinned_to => named,
            (Some(_), Ok(_)) => return Err(CertificateError::NamesAnotherAgency),
            (Some(_), Err(error)) => return Err(error),
        };
        Ok(PeerCertificate { agency, spki_sha256: self.spki_sha256, not_after: self.not_after })
    }
}

/// What the gateway keeps of a peer's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Whose it is.
    pub agency: CreditCode,
    /// As in [`Presented`].
    pub spki_sha256: [u8; 32],
    /// The last second in which the certificate is valid.
    pub not_after: Timestamp,
}

impl PeerCertificate {
    /// Reads the leaf certificate in `der`, which must name its agency.
    ///
    /// # Errors
    /// When it is not a certificate, or does not name exactly one agency.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        Presented::parse(der)?.of(None)
    }
}

/// Why a certificate names no agency.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It is not a DER certificate, or one of its fields is not what X.509 says.
    #[error("the certificate cannot be parsed")]
    Unparsable,
    /// It has no URI subject alternative name that starts with [`AGENCY_URI_PREFIX`].
    #[error("the certificate has no URI subject alternative name that starts with {AGENCY_URI_PREFIX}")]
    NoAgencyName,
    /// It names more than one agency, and the gateway will not choose.
    #[error("the certificate names several agencies")]
    SeveralAgencyNames,
    /// Its key is pinned to another agency than it names.
    #[error("the certificate names another agency than the one its key is enrolled for")]
    NamesAnotherAgency,
    /// What follows the prefix is not a unified social credit code.
    #[error("the agency name in the certificate is not a unified social credit code")]
    BadAgencyCode(#[source] CreditCodeError),
}

impl CertificateError {
    /// The reason code under which such a certificate is refused and audited.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unparsable => "UNPARSABLE_CERTIFICATE",
            Self::NoAgencyName => "NO_AGENCY_NAME",
            Self::SeveralAgencyNames => "SEVERAL_AGENCY_NAMES",
            Self::NamesAnotherAgency => "NAMES_ANOTHER_AGENCY",
            Self::BadAgencyCode(_) => "BAD_AGENCY_CODE",
        }
    }
}

/// The key's hash, also of a certificate that names no agency; `None` when it cannot be parsed at all.
pub(super) fn spki_sha256(der: &[u8]) -> Option<[u8; 32]> {
    parse_certificate(der).ok().map(|certificate| sha256(certificate.public_key().raw))
}

/// Whether the certificate is a development authority's, or was issued by one.
pub(super) fn is_for_development(certificate: &X509Certificate<'_>) -> bool {
    let mut names = certificate.subject().iter_common_name().chain(certificate.issuer().iter_common_name());
    names.any(|name| name.as_str().is_ok_and(|name| name.starts_with(DEVELOPMENT_ONLY)))
}

/// Trailing bytes are refused: two readers must not see two certificates.
pub(super) fn parse_certificate(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(CertificateError::Unparsable),
    }
}

fn agency_named_by(certificate: &X509Certificate<'_>) -> Result<CreditCode, CertificateError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| CertificateError::Unparsable)?
        .ok_or(CertificateError::NoAgencyName)?;
    let mut codes = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix(AGENCY_URI_PREFIX),
        _ => None,
    });
    let code = codes.next().ok_or(CertificateError::NoAgencyName)?;
    if codes.next().is_some() {
        return Err(CertificateError::SeveralAgencyNames);
    }
    CreditCode::parse(code).map_err(CertificateError::BadAgencyCode)
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    const CENTRE: &str = "11110000MB0000001Y";

    #[test]
    fn a_certificate_with_one_agency_uri_names_that_agency() {
        let code = test_code(CENTRE);
        let der = certificate_with(&[&format!("{AGENCY_URI_PREFIX}{code}"), "https://example.invalid/other"]);
        let parsed = PeerCertificate::parse(&der).expect("parses");
        assert_eq!(parsed.agency, code);
        assert_eq!(Some(parsed.spki_sha256), spki_sha256(&der));
        assert_eq!(parsed.not_after.to_string(), "4096-01-01T00:00:00Z");
    }

    #[test]
    fn a_certificate_without_an_agency_uri_is_refused() {
        let der = certificate_with(&["urn:something:else"]);
        assert_eq!(PeerCertificate::parse(&der), Err(CertificateError::NoAgencyName));
        assert!(spki_sha256(&der).is_some());
        assert_eq!(PeerCertificate::parse(&certificate_with(&[])), Err(CertificateError::NoAgencyName));
    }

    #[test]
    fn a_certificate_that_names_two_agencies_is_refused() {
        let uri = format!("{AGENCY_URI_PREFIX}{}", test_code(CENTRE));
        let der = certificate_with(&[&uri, &uri]);
        assert_eq!(PeerCertificate::parse(&der), Err(CertificateError::SeveralAgencyNames));
    }

    #[test]
    fn a_pinned_key_says_whose_a_certificate_without_a_name_is_and_may_not_contradict_a_name() {
        let (centre, other) = (test_code(CENTRE), test_code("11110000MB0000003Z"));
        let unnamed = Presented::parse(&certificate_with(&["urn:something:else"])).expect("parses");
        assert_eq!(unnamed.clone().of(Some(centre)).map(|peer| peer.agency), Ok(centre));
        assert_eq!(unnamed.of(None), Err(CertificateError::NoAgencyName));
        let named = Presented::parse(&certificate_with(&[&format!("{AGENCY_URI_PREFIX}{centre}")]));
        let named = named.expect("parses");
        assert_eq!(named.clone().of(Some(centre)).map(|peer| peer.agency), Ok(centre));
        assert_eq!(named.of(Some(other)), Err(CertificateError::NamesAnotherAgency));
        let wrong = Presented::parse(&certificate_with(&[&format!("{AGENCY_URI_PREFIX}111100000000000000")]));
        assert!(wrong.expect("parses").of(Some(centre)).is_err(), "a name that is none is not overlooked");
    }

    #[test]
    fn a_code_with_a_wrong_check_character_is_refused() {
        let der = certificate_with(&[&format!("{AGENCY_URI_PREFIX}111100000000000000")]);
        assert!(matches!(PeerCertificate::parse(&der), Err(CertificateError::BadAgencyCode(_))));
    }

    #[test]
    fn bytes_after_the_certificate_are_refused() {
        let mut der = certificate_with(&[&format!("{AGENCY_URI_PREFIX}{}", test_code(CENTRE))]);
        der.push(0);
        assert_eq!(PeerCertificate::parse(&der), Err(CertificateError::Unparsable));
        assert_eq!(PeerCertificate::parse(b"not a certificate"), Err(CertificateError::Unparsable));
    }

    fn test_code(stem: &str) -> CreditCode {
        crate::identity::tests::code(&stem[..17])
    }

    fn certificate_with(uris: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            uris.iter().map(|uri| SanType::URI((*uri).try_into().expect("ascii"))).collect();
        let key = KeyPair::generate().expect("key");
        params.self_signed(&key).expect("signs").der().to_vec()
    }
}
