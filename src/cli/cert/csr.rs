//! `cert csr`: a request for a real authority.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use super::read_secret;
use crate::cli::output::{say, say_json};
use crate::domain::agency::CreditCode;
use crate::identity::certificate::AGENCY_URI_PREFIX;
use crate::identity::key_file;
use crate::identity::request::CertificateRequest;

/// Arguments of `cert csr`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Csr {
    /// The folder for NAME.key.pem and NAME.csr.pem; nothing in it is overwritten.
    dir: PathBuf,
    /// Name of the files.
    #[arg(long, default_value = "gateway")]
    name: String,
    /// Unified social credit code of the agency that the certificate is to name.
    #[arg(long, value_name = "CODE")]
    agency: String,
    /// The subject's organisation, where the authority wants one.
    #[arg(long, value_name = "TEXT")]
    organisation: Option<String>,
    /// Host names and addresses of the agency's server; none for an agency that only calls.
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// Ask for another certificate of this key, instead of making a new key.
    #[arg(long, value_name = "FILE")]
    private_key: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Csr {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let agency = CreditCode::parse(&self.agency)
            .context("--agency must be a unified social credit code (GB 32100)")?;
        let (request_path, new_key_path) = (
            self.dir.join(format!("{}.csr.pem", self.name)),
            self.dir.join(format!("{}.key.pem", self.name)),
        );
        if request_path.exists() {
            bail!("{} is there already, and is not overwritten", request_path.display());
        }
        let key = self.private_key.as_deref().map(read_secret).transpose()?;
        let key =
            key.as_deref().map(|pem| std::str::from_utf8(pem)).transpose().context("the key is not PEM")?;
        let wanted = CertificateRequest { agency, organisation: self.organisation, hosts: self.host };
        let signed = wanted.sign(key)?;
        std::fs::create_dir_all(&self.dir).with_context(|| format!("cannot make {}", self.dir.display()))?;
        if key.is_none() {
            key_file::create(&new_key_path, &*signed.key_pem).with_context(|| {
                format!("cannot write {}; what is there is not overwritten", new_key_path.display())
            })?;
        }
        let key_path = self.private_key.unwrap_or(new_key_path);
        std::fs::write(&request_path, &signed.request_pem)
            .with_context(|| format!("cannot write {}", request_path.display()))?;
        if self.json {
            say_json(&json!({ "request": request_path, "private_key": key_path }));
            return Ok(());
        }
        say(format_args!("made {}, signed with {}", request_path.display(), key_path.display()));
        say(format_args!(
            "have the authority sign it, and see to it that the certificate keeps the name {AGENCY_URI_PREFIX}{agency}: \
             `cert show` tells.\nif it cannot, the gateway's operator pins the key under `certificates` in directory.toml.\n\
             the key never leaves this machine"
        ));
        Ok(())
    }
}
