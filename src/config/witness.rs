//! `[witness]`: being a witness of other parties' logs; and the file of a witness that stands alone.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::credential::Folders;
use super::{ConfigError, TlsSection, load_table};
use crate::domain::agency::CreditCode;

/// All settings of `legal-aid-gateway witness`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessConfig {
    /// The witness itself.
    pub witness: WitnessSection,
    /// Its certificate and whom it trusts.
    pub tls: TlsSection,
}

/// `[witness]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessSection {
    /// Where it listens; a listener of its own.
    pub listen: SocketAddr,
    /// The file with its secret key, as `witness init` makes it.
    pub key: PathBuf,
    /// The folder in which it keeps the newest checkpoint of each log, and evidence. Whoever puts an older one in its
    /// place makes it sign what it must not.
    pub state: PathBuf,
    /// The logs that it cosigns.
    #[serde(default, rename = "log")]
    pub logs: Vec<WitnessedLog>,
}

/// `[[witness.log]]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessedLog {
    /// The log's public key, as `audit key` prints it; its name is the log's origin.
    pub key: String,
    /// The organ that runs the log: whose certificate may submit.
    pub agency: CreditCode,
}

impl WitnessConfig {
    /// Reads the file of a witness that stands alone and overlays `environment`.
    ///
    /// # Errors
    /// When the file is missing or malformed.
    pub fn load(
        path: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let environment: Vec<_> = environment.into_iter().collect();
        let folders = Folders::of(path, &environment);
        let mut config: Self = load_table(path, environment)?;
        let tls = &mut config.tls;
        for file in [&mut tls.certificate, &mut tls.private_key, &mut tls.authorities]
            .into_iter()
            .chain(&mut tls.revocations)
            .chain(config.witness.files())
        {
            *file = folders
                .find(file)
                .map_err(|name| ConfigError::NoCredential { path: path.to_owned(), name })?;
        }
        Ok(config)
    }
}

impl WitnessSection {
    pub(super) fn files(&mut self) -> [&mut PathBuf; 2] {
        [&mut self.key, &mut self.state]
    }
}
