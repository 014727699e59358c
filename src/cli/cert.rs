//! `cert`: certificates, from a development authority or for a real one.

mod csr;
mod dev;
mod pkcs12;
mod show;

use std::path::Path;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use zeroize::Zeroizing;

use crate::identity::key_file;

#[derive(Debug, Subcommand)]
pub(super) enum Cert {
    /// Make a development authority, certificates of it, and its revocation list. Only gateways in development mode
    /// believe them.
    Dev(dev::Dev),
    /// Make a key and a request for a certificate (PKCS #10), to be signed by a real authority.
    Csr(csr::Csr),
    /// Pack a key and its certificates into a PKCS #12 file, as Java takes it.
    Pkcs12(pkcs12::Pkcs12),
    /// Say what files are: certificates, requests, revocation lists, keys.
    Show(show::Show),
}

impl Cert {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Dev(command) => command.run(),
            Self::Csr(command) => command.run(),
            Self::Pkcs12(command) => command.run(),
            Self::Show(command) => command.run(),
        }
    }
}

fn read(path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    std::fs::read(path).map(Zeroizing::new).with_context(|| format!("cannot read {}", path.display()))
}

/// A file whose content is secret: others must not be able to read it.
fn read_secret(path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mode = key_file::open_to_others(path).with_context(|| format!("cannot read {}", path.display()))?;
    if let Some(mode) = mode {
        bail!("{0} can be read by others (mode {mode:03o}): run chmod 600 {0}", path.display());
    }
    read(path)
}
