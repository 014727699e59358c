//! A certificate authority for development, demonstrations and tests. Never for real agencies: its name begins with
//! [`DEVELOPMENT_ONLY`], and only a gateway in development mode believes such an authority.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::certificate::{AGENCY_URI_PREFIX, CertificateError, DEVELOPMENT_ONLY, parse_certificate};
use super::key_file;
use crate::domain::agency::CreditCode;

/// The authority's certificate in the directory it was saved to.
pub const AUTHORITY_CERTIFICATE_FILE: &str = "authority.crt.pem";
/// The authority's private key in the directory it was saved to.
pub const AUTHORITY_KEY_FILE: &str = "authority.key.pem";

/// How long the authority's own certificate is valid: ten years of 365 days.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Certificates are valid from a little before they are made, because clocks differ.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// Issues certificates of agencies, signed with a key that lies around in a file.
pub struct DevelopmentAuthority {
    certificate_pem: String,
    key_pem: Zeroizing<String>,
    issuer: Issuer<'static, KeyPair>,
    not_after: Timestamp,
}

/// A certificate and its private key, both PEM.
#[derive(Clone)]
pub struct IssuedCertificate {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key, PKCS #8.
    pub key_pem: Zeroizing<String>,
}

impl DevelopmentAuthority {
    /// A new authority with a new key. Its certificate is called `name` with "DEVELOPMENT ONLY" before it, and is valid
    /// for ten years from `now`.
    ///
    /// # Errors
    /// When no key can be made, or `now` is too late for a certificate.
    pub fn create(name: &str, now: Timestamp) -> Result<Self, DevelopmentError> {
        let key = KeyPair::generate()?;
        let not_after = later(now, AUTHORITY_LIFETIME)?;
        let mut params = CertificateParams::default();
        params.not_before = certificate_time(earlier(now, CLOCK_SKEW)?)?;
        params.not_after = certificate_time(not_after)?;
        params.distinguished_name = called(&format!("{DEVELOPMENT_ONLY} {name}"));
        // No authority below this one.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate_pem = params.self_signed(&key)?.pem();
        let key_pem = Zeroizing::new(key.serialize_pem());
        Ok(Self { certificate_pem, key_pem, issuer: Issuer::new(params, key), not_after })
    }

    /// The authority that [`DevelopmentAuthority::save`] left in `directory`.
    ///
    /// # Errors
    /// When its files are missing or are not what was saved.
    pub fn load(directory: &Path) -> Result<Self, DevelopmentError> {
        let certificate_pem = fs::read_to_string(directory.join(AUTHORITY_CERTIFICATE_FILE))?;
        let key_pem = Zeroizing::new(fs::read_to_string(directory.join(AUTHORITY_KEY_FILE))?);
        let key = KeyPair::from_pem(&key_pem)?;
        let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|_| DevelopmentError::Certificate(CertificateError::Unparsable))?;
        let seconds = parse_certificate(&der)?.validity().not_after.timestamp();
        let not_after = Timestamp::from_second(seconds).map_err(|_| DevelopmentError::Time)?;
        let issuer = Issuer::from_ca_cert_der(&der, key)?;
        Ok(Self { certificate_pem, key_pem, issuer, not_after })
    }

    /// Writes certificate and key to `directory`, which is made if need be. Existing files are left alone.
    ///
    /// # Errors
    /// When a file exists or cannot be written.
    pub fn save(&self, directory: &Path) -> Result<(), DevelopmentError> {
        fs::create_dir_all(directory)?;
        key_file::create(&directory.join(AUTHORITY_KEY_FILE), &self.key_pem)?;
        write_new(&directory.join(AUTHORITY_CERTIFICATE_FILE), &self.certificate_pem)?;
        Ok(())
    }

    /// The authority's certificate, PEM: what peers are told to trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// A certificate for `agency`, for servers and clients, valid for `localhost`, the loopback addresses and the names
    /// in `dns`, from an hour before `now` until `lifetime` after it, but not longer than the authority itself.
    ///
    /// # Errors
    /// When a name in `dns` is not a DNS name, or the time is out of range.
    pub fn issue(
        &self,
        agency: CreditCode,
        common_name: &str,
        dns: &[&str],
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<IssuedCertificate, DevelopmentError> {
        let not_after = later(now, lifetime)?.min(self.not_after);
        let mut params = CertificateParams::default();
        params.not_before = certificate_time(earlier(now, CLOCK_SKEW)?)?;
        params.not_after = certificate_time(not_after)?;
        params.distinguished_name = called(common_name);
        params.subject_alt_names = subject_names(agency, dns)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        self.sign(&params)
    }

    /// A revocation list of this authority (PEM) that names the certificates in `revoked` and must be replaced
    /// `lifetime` after `now`.
    ///
    /// # Errors
    /// When something in `revoked` is not a certificate, or the time is out of range.
    pub fn revocation_list(
        &self,
        revoked: &[&IssuedCertificate],
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<String, DevelopmentError> {
        let revocation_time = certificate_time(now)?;
        let revoked_certs = revoked
            .iter()
            .map(|certificate| {
                let serial_number = certificate.serial_number()?;
                Ok(RevokedCertParams {
                    serial_number,
                    revocation_time,
                    reason_code: None,
                    invalidity_date: None,
                })
            })
            .collect::<Result<Vec<_>, DevelopmentError>>()?;
        let list = CertificateRevocationListParams {
            this_update: certificate_time(earlier(now, CLOCK_SKEW)?)?,
            next_update: certificate_time(later(now, lifetime)?)?,
            crl_number: SerialNumber::from(
                u64::try_from(now.as_second()).map_err(|_| DevelopmentError::Time)?,
            ),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.pem()?)
    }

    pub(super) fn sign(&self, params: &CertificateParams) -> Result<IssuedCertificate, DevelopmentError> {
        let key = KeyPair::generate()?;
        let certificate_pem = params.signed_by(&key, &self.issuer)?.pem();
        Ok(IssuedCertificate { certificate_pem, key_pem: Zeroizing::new(key.serialize_pem()) })
    }
}

impl fmt::Debug for DevelopmentAuthority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DevelopmentAuthority")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl IssuedCertificate {
    /// Writes `<name>.crt.pem` and `<name>.key.pem` to `directory`, which is made if need be; the key file is only for
    /// its owner. Existing files are left alone.
    ///
    /// # Errors
    /// When a file exists or cannot be written.
    pub fn write_to(&self, directory: &Path, name: &str) -> Result<(), DevelopmentError> {
        fs::create_dir_all(directory)?;
        key_file::create(&directory.join(format!("{name}.key.pem")), &self.key_pem)?;
        write_new(&directory.join(format!("{name}.crt.pem")), &self.certificate_pem)?;
        Ok(())
    }

    fn serial_number(&self) -> Result<SerialNumber, DevelopmentError> {
        let der = CertificateDer::from_pem_slice(self.certificate_pem.as_bytes())
            .map_err(|_| DevelopmentError::Certificate(CertificateError::Unparsable))?;
        let certificate = parse_certificate(&der)?;
        Ok(SerialNumber::from_slice(certificate.raw_serial()))
    }
}

impl fmt::Debug for IssuedCertificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("IssuedCertificate").finish_non_exhaustive()
    }
}

/// Why the development authority could not do something.
#[derive(Debug, thiserror::Error)]
pub enum DevelopmentError {
    /// A key or certificate could not be made or read.
    #[error("cannot make or read a development certificate")]
    Generate(#[from] rcgen::Error),
    /// A certificate is not one.
    #[error("not a certificate of this authority")]
    Certificate(#[from] CertificateError),
    /// A time lies outside what a certificate can say.
    #[error("the validity period is out of range")]
    Time,
    /// A file could not be read or written.
    #[error("cannot read or write a development certificate's file")]
    File(#[from] io::Error),
}

fn called(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn subject_names(agency: CreditCode, dns: &[&str]) -> Result<Vec<SanType>, DevelopmentError> {
    let mut names = vec![
        SanType::URI(format!("{AGENCY_URI_PREFIX}{agency}").try_into()?),
        SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        SanType::DnsName("localhost".try_into()?),
    ];
    for name in dns.iter().filter(|name| **name != "localhost") {
        names.push(SanType::DnsName((*name).try_into()?));
    }
    Ok(names)
}

fn later(time: Timestamp, by: Duration) -> Result<Timestamp, DevelopmentError> {
    time.checked_add(by).map_err(|_| DevelopmentError::Time)
}

fn earlier(time: Timestamp, by: Duration) -> Result<Timestamp, DevelopmentError> {
    time.checked_sub(by).map_err(|_| DevelopmentError::Time)
}

fn certificate_time(time: Timestamp) -> Result<OffsetDateTime, DevelopmentError> {
    OffsetDateTime::from_unix_timestamp(time.as_second()).map_err(|_| DevelopmentError::Time)
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}
