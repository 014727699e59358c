//! Files that the service manager hands over: systemd's credentials (`LoadCredential`, `LoadCredentialEncrypted`).

use std::path::{Path, PathBuf};

/// Before the name of a credential, where a file is named otherwise.
const PREFIX: &str = "credential:";

/// The variable by which systemd tells a service where its credentials are (systemd.exec(5)).
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// Where files are.
pub(super) struct Folders {
    /// That of the configuration: other files are relative to it.
    pub(super) configuration: PathBuf,
    /// That of the credentials.
    pub(super) credentials: Option<PathBuf>,
}

impl Folders {
    /// `environment` says where the credentials are.
    pub(super) fn of(configuration: &Path, environment: &[(String, String)]) -> Self {
        let credentials = environment.iter().find(|(name, _)| name == CREDENTIALS_DIRECTORY);
        Self {
            configuration: configuration.parent().unwrap_or(Path::new(".")).to_owned(),
            credentials: credentials.map(|(_, folder)| PathBuf::from(folder)),
        }
    }

    /// Where a file is that the configuration names; its name again, when that is a credential and there is none.
    pub(super) fn find(&self, file: &Path) -> Result<PathBuf, String> {
        let name = file.to_str().and_then(|file| file.strip_prefix(PREFIX));
        let Some(name) = name else { return Ok(self.configuration.join(file)) };
        let is_name = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
        let folder = self.credentials.as_ref().filter(|_| is_name);
        folder.map(|folder| folder.join(name)).ok_or_else(|| name.to_owned())
    }
}
