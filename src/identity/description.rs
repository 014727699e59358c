//! What a file with certificates, keys or lists is, for a person who has been sent one.

use rcgen::{KeyPair, PublicKeyData as _};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use serde::Serialize;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::revocation_list::{CertificateRevocationList, RevokedCertificate};
use x509_parser::time::ASN1Time;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

use super::certificate::{Presented, is_for_development, spki_sha256};

/// One thing in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Described {
    /// A certificate.
    Certificate(Certificate),
    /// A request for one.
    CertificateRequest(Request),
    /// A revocation list.
    RevocationList(List),
    /// A private key, of which only its public side is shown.
    PrivateKey(Key),
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// Whose it is, as a distinguished name.
    pub subject: String,
    /// Who issued it.
    pub issuer: String,
    /// Serial number, in hex.
    pub serial: String,
    /// Subject alternative names.
    pub names: Vec<String>,
    /// The agency that it names, by its unified social credit code.
    pub agency: Option<String>,
    /// First second of its validity, in seconds since 1970.
    pub not_before: i64,
    /// Last second of its validity, in seconds since 1970.
    pub not_after: i64,
    /// Whether it may issue others.
    pub authority: bool,
    /// What it may be used for, where it says so: `serverAuth`, `clientAuth`.
    pub uses: Vec<&'static str>,
    /// Whether it is a development authority's, or of one.
    pub development: bool,
    /// Its key.
    pub key: Key,
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Key {
    /// Kind and size.
    pub kind: String,
    /// SHA-256 of its subject public key info, in hex: what `certificates` in the directory file takes.
    pub spki_sha256: String,
}

/// A request for a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Request {
    /// Whose it is to be.
    pub subject: String,
    /// Subject alternative names asked for.
    pub names: Vec<String>,
    /// Its key.
    pub key: Key,
}

/// A revocation list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct List {
    /// Who issued it.
    pub issuer: String,
    /// When, in seconds since 1970.
    pub this_update: i64,
    /// When the next one is due, in seconds since 1970.
    pub next_update: Option<i64>,
    /// Serial numbers revoked, in hex.
    pub revoked: Vec<String>,
}

/// Describes what is in PEM text, or the one thing that DER bytes are. Empty when it is neither.
pub fn describe(bytes: &[u8]) -> Vec<Described> {
    // A DER sequence; no PEM text starts so.
    if bytes.first() == Some(&0x30) {
        return describe_der(bytes).into_iter().collect();
    }
    let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes).map_while(Result::ok);
    sections.filter_map(|(_, der)| describe_der(&Zeroizing::new(der))).collect()
}

/// The public side of a private key in PEM text; `None` when there is none that is understood.
pub fn key_of(pem: &[u8]) -> Option<Key> {
    describe(pem).into_iter().find_map(|described| match described {
        Described::PrivateKey(key) => Some(key),
        _ => None,
    })
}

fn describe_der(der: &[u8]) -> Option<Described> {
    certificate(der).or_else(|| request(der)).or_else(|| list(der)).or_else(|| private_key(der))
}

fn certificate(der: &[u8]) -> Option<Described> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let uses = certificate.extended_key_usage().ok().flatten();
    let uses =
        uses.map(|uses| [(uses.value.server_auth, "serverAuth"), (uses.value.client_auth, "clientAuth")]);
    Some(Described::Certificate(Certificate {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        serial: certificate.raw_serial_as_string(),
        names: names.map(|names| written(&names.value.general_names)).unwrap_or_default(),
        agency: Presented::parse(der).ok()?.named.ok().map(|code| code.to_string()),
        not_before: seconds(certificate.validity().not_before),
        not_after: seconds(certificate.validity().not_after),
        authority: certificate.is_ca(),
        uses: uses.into_iter().flatten().filter(|(given, _)| *given).map(|(_, name)| name).collect(),
        development: is_for_development(&certificate),
        key: Key { kind: kind_of(certificate.public_key()), spki_sha256: hex(&spki_sha256(der)?) },
    }))
}

fn request(der: &[u8]) -> Option<Described> {
    let (_, request) = X509CertificationRequest::from_der(der).ok()?;
    let info = &request.certification_request_info;
    let mut names = Vec::new();
    for extension in request.requested_extensions().into_iter().flatten() {
        if let ParsedExtension::SubjectAlternativeName(asked) = extension {
            names.extend(written(&asked.general_names));
        }
    }
    Some(Described::CertificateRequest(Request {
        subject: info.subject.to_string(),
        names,
        key: Key {
            kind: kind_of(&info.subject_pki),
            spki_sha256: hex(&super::certificate::sha256(info.subject_pki.raw)),
        },
    }))
}

fn list(der: &[u8]) -> Option<Described> {
    let (_, list) = CertificateRevocationList::from_der(der).ok()?;
    Some(Described::RevocationList(List {
        issuer: list.issuer().to_string(),
        this_update: seconds(list.last_update()),
        next_update: list.next_update().map(seconds),
        revoked: list.iter_revoked_certificates().map(RevokedCertificate::raw_serial_as_string).collect(),
    }))
}

fn private_key(der: &[u8]) -> Option<Described> {
    let key = PrivateKeyDer::try_from(der).ok()?.clone_key();
    let key = KeyPair::try_from(&key).ok()?;
    let spki = key.subject_public_key_info();
    let (_, parsed) = SubjectPublicKeyInfo::from_der(&spki).ok()?;
    Some(Described::PrivateKey(Key {
        kind: kind_of(&parsed),
        spki_sha256: hex(&super::certificate::sha256(&spki)),
    }))
}

fn kind_of(key: &SubjectPublicKeyInfo<'_>) -> String {
    match key.parsed() {
        Ok(PublicKey::EC(point)) => format!("ECDSA, {} bits", point.key_size()),
        Ok(PublicKey::RSA(key)) => format!("RSA, {} bits", key.key_size()),
        _ if key.algorithm.algorithm.to_id_string() == "1.3.101.112" => "Ed25519".to_owned(),
        _ => format!("of the algorithm {}", key.algorithm.algorithm.to_id_string()),
    }
}

fn written(names: &[GeneralName<'_>]) -> Vec<String> {
    let one = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => format!("DNS {name}"),
        GeneralName::URI(name) => format!("URI {name}"),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(bytes) => format!("IP {}", std::net::Ipv4Addr::from(bytes)),
            Err(_) => <[u8; 16]>::try_from(*bytes).map_or_else(
                |_| "IP ?".to_owned(),
                |bytes| format!("IP {}", std::net::Ipv6Addr::from(bytes)),
            ),
        },
        other => other.to_string(),
    };
    names.iter().map(one).collect()
}

fn seconds(time: ASN1Time) -> i64 {
    time.timestamp()
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}
