//! A request for a certificate (PKCS #10, RFC 2986), for a real authority to sign.

use std::net::IpAddr;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType,
};
use zeroize::Zeroizing;

use super::certificate::AGENCY_URI_PREFIX;
use crate::domain::agency::CreditCode;

/// What to ask for.
#[derive(Clone, Debug)]
pub struct CertificateRequest {
    /// Whose the certificate is to be: its name in the URI subject alternative name.
    pub agency: CreditCode,
    /// Subject's organisation, where the authority wants one.
    pub organisation: Option<String>,
    /// Host names and addresses of the agency's server; none for an agency that only calls.
    pub hosts: Vec<String>,
}

/// Why no request could be made.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// A host is neither a DNS name nor an address.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    Host(String),
    /// The key cannot be made, read or used.
    #[error("the key cannot be used: {0}")]
    Key(#[from] rcgen::Error),
}

/// A request and the key that it is signed with, both PEM.
pub struct SignedRequest {
    /// The request.
    pub request_pem: String,
    /// The private key (PKCS #8), ECDSA P-256 if it is new.
    pub key_pem: Zeroizing<String>,
}

impl CertificateRequest {
    /// Signs the request with a key (PEM), or with a new one.
    ///
    /// # Errors
    /// When a host is none, or the key cannot be used.
    pub fn sign(&self, key_pem: Option<&str>) -> Result<SignedRequest, RequestError> {
        let key = key_pem.map_or_else(KeyPair::generate, KeyPair::from_pem)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, self.agency.as_str());
        if let Some(organisation) = &self.organisation {
            params.distinguished_name.push(DnType::OrganizationName, organisation);
        }
        params
            .subject_alt_names
            .push(SanType::URI(format!("{AGENCY_URI_PREFIX}{}", self.agency).try_into()?));
        for host in &self.hosts {
            params.subject_alt_names.push(name_of(host)?);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if !self.hosts.is_empty() {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        let request_pem = params.serialize_request(&key)?.pem()?;
        Ok(SignedRequest { request_pem, key_pem: Zeroizing::new(key.serialize_pem()) })
    }
}

fn name_of(host: &str) -> Result<SanType, RequestError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let is_name = rustls::pki_types::DnsName::try_from(host).is_ok();
    let name = host.try_into().ok().filter(|_| is_name).map(SanType::DnsName);
    name.ok_or_else(|| RequestError::Host(host.to_owned()))
}
