//! What the gateway reads from files, at start and, but for clocks, again when they change.

use std::path::PathBuf;

use super::StartError;
use crate::access::Directory;
use crate::config::{Config, read_rule_sets};
use crate::domain::clocks::Clocks;
use crate::domain::eligibility::RuleSets;
use crate::identity::certificate::PeerCertificate;
use crate::identity::credentials::{Credentials, CredentialsError};

/// The credentials, and the gateway's own certificate, which must name the organ.
pub(super) fn read_credentials(config: &Config) -> Result<(Credentials, PeerCertificate), StartError> {
    let tls = &config.tls;
    let credentials = Credentials::load(&tls.certificate, &tls.private_key, &tls.authorities)?
        .with_revocation_lists(&tls.revocations)?;
    if let (Some(name), false) = (credentials.development(), config.gateway.development) {
        return Err(StartError::Development { name: name.to_owned() });
    }
    let own = credentials.own().clone().of(None);
    let own =
        own.map_err(|source| CredentialsError::OwnCertificate { path: tls.certificate.clone(), source })?;
    let (certificate, configured) = (own.agency, config.gateway.agency);
    if certificate != configured {
        return Err(StartError::WrongCertificate { certificate, configured });
    }
    Ok((credentials, own))
}

/// Reads the clocks of the law, with the operator's own.
///
/// # Errors
/// When a file cannot be read or contradicts itself.
pub fn read_clocks(config: &Config) -> Result<Clocks, StartError> {
    let read = |path: &Option<PathBuf>| {
        let text = |path: &PathBuf| {
            std::fs::read_to_string(path)
                .map_err(|source| StartError::Unreadable { path: path.clone(), source })
        };
        path.as_ref().map(text).transpose()
    };
    let (rules, holidays) = (read(&config.clocks.rules)?, read(&config.clocks.holidays)?);
    Ok(Clocks::load(rules.as_deref(), holidays.as_deref())?)
}

pub(super) fn read_directory(config: &Config) -> Result<Directory, StartError> {
    let path = &config.gateway.directory;
    let text = std::fs::read_to_string(path)
        .map_err(|source| StartError::Unreadable { path: path.clone(), source })?;
    Directory::parse(&text).map_err(|source| StartError::Directory { path: path.clone(), source })
}

pub(super) fn read_rules(config: &Config) -> Result<RuleSets, StartError> {
    Ok(read_rule_sets(config.eligibility.rules.as_deref())?)
}
