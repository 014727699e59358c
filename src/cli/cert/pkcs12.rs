//! `cert pkcs12`: a key store for Java.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use super::{read, read_secret};
use crate::cli::output::{say, say_json};
use crate::identity::credentials::Credentials;
use crate::identity::key_file;
use crate::identity::pkcs12::KeyStore;

/// Arguments of `cert pkcs12`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Pkcs12 {
    /// The file to make (mode 0600); nothing is overwritten.
    out: PathBuf,
    /// The certificate chain (PEM), own certificate first.
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
    /// Its private key (PEM, PKCS #8).
    #[arg(long, value_name = "FILE")]
    private_key: PathBuf,
    /// Authorities (PEM), to be trusted by whoever opens the file.
    #[arg(long, value_name = "FILE")]
    authorities: PathBuf,
    /// A file of mode 0600 whose first line is the password.
    #[arg(long, value_name = "FILE")]
    password_file: PathBuf,
    /// What the key is called in it.
    #[arg(long, default_value = "legal-aid")]
    alias: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Pkcs12 {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (chain, key) = (read(&self.certificate)?, read_secret(&self.private_key)?);
        let authorities = read(&self.authorities)?;
        let password = read_secret(&self.password_file)?;
        let password = std::str::from_utf8(&password).ok().and_then(|text| text.lines().next());
        let Some(password) = password else { bail!("{} is empty", self.password_file.display()) };
        Credentials::from_pem(&chain, &key, &authorities).context("these do not go together")?;
        let store = KeyStore::from_pem(&self.alias, &chain, &key, &authorities)?;
        key_file::create(&self.out, &store.seal(password)?).with_context(|| {
            format!("cannot write {}; what is there is not overwritten", self.out.display())
        })?;
        if self.json {
            say_json(&json!({ "key_store": self.out, "alias": self.alias }));
            return Ok(());
        }
        say(format_args!(
            "made {0}: key and certificates as {1:?}, and the authorities as trusted\n\
             Java: -Djavax.net.ssl.keyStore={0} -Djavax.net.ssl.keyStoreType=PKCS12, and the same as trustStore",
            self.out.display(),
            self.alias
        ));
        Ok(())
    }
}
