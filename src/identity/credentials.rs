//! The gateway's own certificate and key, and the authority it trusts.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;
use zeroize::Zeroizing;

use super::certificate::{CertificateError, Presented, is_for_development, parse_certificate};
use super::crypto_provider;
use super::key_file;

/// A certificate with its key, the authorities whose certificates are believed, and their revocation lists.
///
/// Cheap to clone. The private key is in none of its output.
#[derive(Clone)]
pub struct Credentials {
    own: Arc<Presented>,
    ends: Vec<End>,
    development: Option<String>,
    certified_key: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
    revocation_lists: Vec<CertificateRevocationListDer<'static>>,
    client_verifier: Arc<dyn ClientCertVerifier>,
    server_verifier: Arc<WebPkiServerVerifier>,
}

/// What ends at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// What it is.
    pub of: Ends,
    /// Its subject; of a revocation list, its issuer.
    pub name: String,
    /// The last second in which it is valid; of a revocation list, when the next one is due.
    pub at: Timestamp,
}

impl End {
    /// Whether it is time to renew it: from so long before its end, but of a revocation list, which lives for days only,
    /// from a day before.
    pub fn is_soon(&self, now: Timestamp, warn_before: SignedDuration) -> bool {
        let before = match self.of {
            Ends::Own | Ends::Authority => warn_before,
            Ends::RevocationList => warn_before.min(SignedDuration::from_hours(24)),
        };
        self.at.duration_since(now) <= before
    }
}

/// A kind of thing that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// The own certificate, or one that is sent with it.
    Own,
    /// The certificate of an authority that is trusted.
    Authority,
    /// A revocation list.
    RevocationList,
}

impl Ends {
    /// In words, for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own certificate",
            Self::Authority => "authority's certificate",
            Self::RevocationList => "revocation list",
        }
    }
}

impl Credentials {
    /// Loads PEM files: the certificate chain (leaf first), its private key, and the trusted authorities.
    ///
    /// # Errors
    /// When a file cannot be read or does not hold what it should, when the key does not belong to the certificate, or
    /// when others than its owner can read the key file.
    pub fn load(certificate: &Path, key: &Path, authorities: &Path) -> Result<Self, CredentialsError> {
        let certificate_pem = read(certificate)?;
        refuse_key_open_to_others(key)?;
        let key_pem = Zeroizing::new(read(key)?);
        let authorities_pem = read(authorities)?;
        Self::build(
            Source { name: certificate, pem: &certificate_pem },
            Source { name: key, pem: &key_pem },
            Source { name: authorities, pem: &authorities_pem },
        )
    }

    /// The same from PEM text in memory. Errors name `certificate`, `key` and `authorities` in place of a path.
    ///
    /// # Errors
    /// As [`Credentials::load`], without those about files.
    pub fn from_pem(certificate: &[u8], key: &[u8], authorities: &[u8]) -> Result<Self, CredentialsError> {
        Self::build(
            Source { name: Path::new("certificate"), pem: certificate },
            Source { name: Path::new("key"), pem: key },
            Source { name: Path::new("authorities"), pem: authorities },
        )
    }

    /// Adds revocation lists (PEM or DER files), consulted for every peer from then on.
    ///
    /// Once there is any list, every authority in a peer's chain must have one, and none may be past its next update:
    /// a peer whose state is unknown is refused. Lists must therefore be renewed in time.
    ///
    /// # Errors
    /// When a file cannot be read or is not a revocation list.
    pub fn with_revocation_lists(mut self, paths: &[PathBuf]) -> Result<Self, CredentialsError> {
        for path in paths {
            let bytes = read(path)?;
            self.add_revocation_lists(Source { name: path, pem: &bytes })?;
        }
        Ok(self)
    }

    /// The same from memory.
    ///
    /// # Errors
    /// When `list` is not a revocation list in PEM or DER.
    pub fn with_revocation_list(mut self, list: &[u8]) -> Result<Self, CredentialsError> {
        self.add_revocation_lists(Source { name: Path::new("revocation list"), pem: list })?;
        Ok(self)
    }

    /// What the certificate says about its holder.
    pub fn own(&self) -> &Presented {
        &self.own
    }

    /// The subject of a certificate among its own and the authorities' that is for development only.
    pub fn development(&self) -> Option<&str> {
        self.development.as_deref()
    }

    /// What of it ends, and when.
    pub fn ends(&self) -> &[End] {
        &self.ends
    }

    pub(super) fn client_verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.client_verifier)
    }

    pub(super) fn server_verifier(&self) -> Arc<WebPkiServerVerifier> {
        Arc::clone(&self.server_verifier)
    }

    pub(super) fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from(Arc::clone(&self.certified_key)))
    }

    fn build(
        certificate: Source<'_>,
        key: Source<'_>,
        authorities: Source<'_>,
    ) -> Result<Self, CredentialsError> {
        let chain = certificate.certificates()?;
        let leaf = chain.first().ok_or_else(|| certificate.holds_no("certificate"))?;
        let unusable = |source| CredentialsError::OwnCertificate { path: certificate.path(), source };
        let own = Presented::parse(leaf).map_err(unusable)?;
        if let Err(error) = &own.named
            && *error != CertificateError::NoAgencyName
        {
            return Err(unusable(error.clone()));
        }
        let mut ends = Vec::new();
        for sent in &chain {
            ends.push(end_of(Ends::Own, sent).map_err(unusable)?);
        }
        let certified_key = CertifiedKey::from_der(chain.clone(), key.private_key()?, &crypto_provider())
            .map_err(|source| CredentialsError::Key { path: key.path(), source })?;

        let mut roots = RootCertStore::empty();
        let trusted = authorities.certificates()?;
        let development =
            chain.iter().chain(&trusted).find_map(|certificate| named_for_development(certificate));
        for root in trusted {
            // What cannot be read here is refused as an anchor.
            ends.extend(end_of(Ends::Authority, &root));
            roots
                .add(root)
                .map_err(|source| CredentialsError::Authority { path: authorities.path(), source })?;
        }
        let roots = Arc::new(roots);
        let (client_verifier, server_verifier) = verifiers(&roots, &[])
            .map_err(|source| CredentialsError::Verifier { path: authorities.path(), source })?;
        Ok(Self {
            own: Arc::new(own),
            ends,
            development,
            certified_key: Arc::new(certified_key),
            roots,
            revocation_lists: Vec::new(),
            client_verifier,
            server_verifier,
        })
    }

    fn add_revocation_lists(&mut self, source: Source<'_>) -> Result<(), CredentialsError> {
        let lists = source.revocation_lists()?;
        self.ends.extend(lists.iter().filter_map(next_list_due));
        self.revocation_lists.extend(lists);
        (self.client_verifier, self.server_verifier) = verifiers(&self.roots, &self.revocation_lists)
            .map_err(|error| CredentialsError::Verifier { path: source.path(), source: error })?;
        Ok(())
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Credentials")
            .field("own", &self.own)
            .field("authorities", &self.roots.len())
            .field("revocation_lists", &self.revocation_lists.len())
            .finish_non_exhaustive()
    }
}

/// Why credentials could not be loaded, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file is missing or unreadable.
    #[error("cannot read {path}: check that the file exists and that this user may read it", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The private key file is open to its group or to everybody.
    #[error("{path} can be read by others than its owner (mode {mode:03o}): run chmod 600 {path}", path = .path.display())]
    KeyOpenToOthers {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is not PEM.
    #[error("{path} is not valid PEM: export it again as PEM text", path = .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Where it went wrong.
        source: pem::Error,
    },
    /// The file has no section of the kind that was looked for.
    #[error("{path} holds no {what}: check that the configured files are not mixed up", path = .path.display())]
    Holds {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
    },
    /// The gateway's own certificate does not name its agency.
    #[error("the certificate in {path} cannot be used: ask the authority for one that names this agency", path = .path.display())]
    OwnCertificate {
        /// The certificate file.
        path: PathBuf,
        /// What is wrong with it.
        source: CertificateError,
    },
    /// The key is of an unknown kind, or not the certificate's.
    #[error("the key in {path} does not fit the certificate: configure the key that was made for it", path = .path.display())]
    Key {
        /// The key file.
        path: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
    /// A certificate among the authorities cannot be a trust anchor.
    #[error("{path} holds a certificate that cannot be trusted as an authority: remove it", path = .path.display())]
    Authority {
        /// The authorities' file.
        path: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
    /// The authorities or revocation lists were refused as a whole.
    #[error("{path} cannot be used to verify peers: check the authorities and revocation lists", path = .path.display())]
    Verifier {
        /// The file read last.
        path: PathBuf,
        /// What rustls said.
        source: VerifierBuilderError,
    },
}

/// PEM text, and what to call it in an error.
#[derive(Clone, Copy)]
struct Source<'a> {
    name: &'a Path,
    pem: &'a [u8],
}

impl Source<'_> {
    fn certificates(self) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
        let certificates = CertificateDer::pem_slice_iter(self.pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| CredentialsError::Pem { path: self.path(), source })?;
        if certificates.is_empty() { Err(self.holds_no("certificate")) } else { Ok(certificates) }
    }

    fn private_key(self) -> Result<PrivateKeyDer<'static>, CredentialsError> {
        PrivateKeyDer::from_pem_slice(self.pem).map_err(|source| match source {
            pem::Error::NoItemsFound => self.holds_no("private key"),
            source => CredentialsError::Pem { path: self.path(), source },
        })
    }

    fn revocation_lists(self) -> Result<Vec<CertificateRevocationListDer<'static>>, CredentialsError> {
        // Authorities publish lists in DER; 0x30 is how a DER sequence starts, and no PEM text does.
        if self.pem.first() == Some(&0x30) {
            return Ok(vec![CertificateRevocationListDer::from(self.pem.to_vec())]);
        }
        let lists = CertificateRevocationListDer::pem_slice_iter(self.pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| CredentialsError::Pem { path: self.path(), source })?;
        if lists.is_empty() { Err(self.holds_no("revocation list")) } else { Ok(lists) }
    }

    fn holds_no(self, what: &'static str) -> CredentialsError {
        CredentialsError::Holds { path: self.path(), what }
    }

    fn path(self) -> PathBuf {
        self.name.to_owned()
    }
}

fn named_for_development(certificate: &[u8]) -> Option<String> {
    let certificate = parse_certificate(certificate).ok()?;
    is_for_development(&certificate).then(|| certificate.subject().to_string())
}

fn end_of(of: Ends, certificate: &[u8]) -> Result<End, CertificateError> {
    let certificate = parse_certificate(certificate)?;
    let at = Timestamp::from_second(certificate.validity().not_after.timestamp())
        .map_err(|_| CertificateError::Unparsable)?;
    Ok(End { of, name: certificate.subject().to_string(), at })
}

/// A list that does not say when the next one is due does not end.
fn next_list_due(list: &CertificateRevocationListDer<'_>) -> Option<End> {
    let (_, list) = CertificateRevocationList::from_der(list).ok()?;
    let at = Timestamp::from_second(list.next_update()?.timestamp()).ok()?;
    Some(End { of: Ends::RevocationList, name: list.issuer().to_string(), at })
}

type Verifiers = (Arc<dyn ClientCertVerifier>, Arc<WebPkiServerVerifier>);

fn verifiers(
    roots: &Arc<RootCertStore>,
    lists: &[CertificateRevocationListDer<'static>],
) -> Result<Verifiers, VerifierBuilderError> {
    // An expired list is not an error for rustls unless it is asked to make it one.
    let client = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), crypto_provider())
        .with_crls(lists.iter().cloned())
        .enforce_revocation_expiration()
        .build()?;
    let server = WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), crypto_provider())
        .with_crls(lists.iter().cloned())
        .enforce_revocation_expiration()
        .build()?;
    Ok((client, server))
}

fn read(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    fs::read(path).map_err(|source| CredentialsError::Read { path: path.to_owned(), source })
}

fn refuse_key_open_to_others(path: &Path) -> Result<(), CredentialsError> {
    match key_file::open_to_others(path) {
        Ok(None) => Ok(()),
        Ok(Some(mode)) => Err(CredentialsError::KeyOpenToOthers { path: path.to_owned(), mode }),
        Err(source) => Err(CredentialsError::Read { path: path.to_owned(), source }),
    }
}
