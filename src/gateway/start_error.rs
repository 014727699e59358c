//! Why a gateway cannot start.

use std::net::SocketAddr;
use std::path::PathBuf;

use jiff::Timestamp;
use thiserror::Error;

use super::agreements::AgreementsError;
use super::key_ledger::RotationError;
use super::secrets::SecretError;
use super::witnesses::WitnessesError;
use crate::access::DirectoryError;
use crate::audit::log::OpenError;
use crate::config::RulesError;
use crate::domain::agency::CreditCode;
use crate::domain::clocks::ClocksError;
use crate::identity::credentials::CredentialsError;
use crate::store::StoreError;
use crate::telemetry::TracesError;
use crate::witness::WitnessError;

/// Why a gateway does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Certificate, key or authorities.
    #[error("tls: {0}")]
    Credentials(#[from] CredentialsError),
    /// The certificate names another agency than the configuration.
    #[error(
        "the certificate names agency {certificate}, the configuration says {configured}; use the right one"
    )]
    WrongCertificate {
        /// Named by the certificate.
        certificate: CreditCode,
        /// Named by `gateway.agency`.
        configured: CreditCode,
    },
    /// Anyone can have certificates of a development authority: its key lies around.
    #[error(
        "the certificate {name} is for development only: use certificates of a real authority; or, where no real data is, \
         set development = true under [gateway]"
    )]
    Development {
        /// The certificate's subject.
        name: String,
    },
    /// Something among the files to be read has ended already.
    #[error("the {what} {name} has ended at {ended}; what has ended is not taken")]
    Ended {
        /// What it is.
        what: &'static str,
        /// Its subject or issuer.
        name: String,
        /// When.
        ended: Timestamp,
    },
    /// A key file.
    #[error("keys: {0}")]
    Secrets(#[from] SecretError),
    /// The key that seals bodies now has gone from its file.
    #[error("{path} has lost the key that bodies are sealed with now ({fingerprint}): they would not open again; put it back", path = .path.display())]
    BodyKeyMissing {
        /// The file.
        path: PathBuf,
        /// Of the key.
        fingerprint: String,
    },
    /// The directory file.
    #[error("directory {path}: {source}")]
    Directory {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: DirectoryError,
    },
    /// The rule sets.
    #[error("eligibility: {0}")]
    Rules(#[from] RulesError),
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The clocks of the law, or the holidays.
    #[error("clocks: {0}")]
    Clocks(#[from] ClocksError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit log.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The agreements of the directory file.
    #[error(transparent)]
    Agreements(#[from] AgreementsError),
    /// The keys of bodies or pseudonyms.
    #[error(transparent)]
    Rotation(#[from] RotationError),
    /// Who witnesses the log.
    #[error("{0}")]
    Witnesses(#[from] WitnessesError),
    /// Sending traces.
    #[error("{0}")]
    Traces(#[from] TracesError),
    /// Being a witness.
    #[error("witness: {0}")]
    Witness(#[from] WitnessError),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {source}; is another gateway running there?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

impl StartError {
    /// Whether the same files may be taken the next time: it was the database, or the log, that did not take them.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Agreements(error) => error.may_pass(),
            Self::Rotation(error) => error.may_pass(),
            _ => false,
        }
    }
}
