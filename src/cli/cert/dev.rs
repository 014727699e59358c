//! `cert dev`: a development authority and what it issues.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use super::read;
use crate::cli::output::{say, say_json};
use crate::clock::Clock;
use crate::domain::agency::CreditCode;
use crate::identity::development::{AUTHORITY_KEY_FILE, DevelopmentAuthority, IssuedCertificate};

/// The list that the development authority writes.
const LIST: &str = "revoked.crl.pem";

const DAY: Duration = Duration::from_secs(86_400);

/// Arguments of `cert dev`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Dev {
    /// The folder of the development authority; it is made if need be.
    dir: PathBuf,
    /// Certificates to issue, each as the name of its files and the agency's unified social credit code.
    #[arg(value_name = "NAME=CODE", value_parser = certificate)]
    certificates: Vec<(String, CreditCode)>,
    /// Host names for which they are valid, beside localhost and the loopback addresses.
    #[arg(long, value_name = "NAME")]
    dns: Vec<String>,
    /// For how many days.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// Write a revocation list of exactly these certificates.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    revoke: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn certificate(text: &str) -> Result<(String, CreditCode), String> {
    let (name, code) = text.split_once('=').ok_or("write it as centre=12331004MB0000002T")?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(is_plain) {
        return Err("a name has letters, digits, - and _ only".to_owned());
    }
    Ok((name.to_owned(), CreditCode::parse(code).map_err(|error| error.to_string())?))
}

impl Dev {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let now = Clock::system().now();
        let authority = self.authority(now)?;
        let dns: Vec<&str> = self.dns.iter().map(String::as_str).collect();
        let mut written = Vec::new();
        for (name, code) in &self.certificates {
            let issued = authority.issue(*code, name, &dns, now, DAY * self.days)?;
            issued.write_to(&self.dir, name).with_context(|| {
                format!("{name}: its files may be there already, and are not overwritten")
            })?;
            written.push(self.dir.join(format!("{name}.crt.pem")));
        }
        if !self.revoke.is_empty() {
            let path = self.dir.join(LIST);
            replace(&path, &self.list(&authority, now)?)?;
            written.push(path);
        }
        if self.json {
            say_json(&json!({ "folder": self.dir, "written": written }));
            return Ok(());
        }
        for path in written {
            say(format_args!("made {}", path.display()));
        }
        say("for development only: a gateway believes them with development = true under [gateway]");
        Ok(())
    }

    fn authority(&self, now: jiff::Timestamp) -> anyhow::Result<DevelopmentAuthority> {
        if self.dir.join(AUTHORITY_KEY_FILE).exists() {
            return DevelopmentAuthority::load(&self.dir)
                .with_context(|| format!("the authority in {} cannot be used", self.dir.display()));
        }
        let authority = DevelopmentAuthority::create("legal-aid exchange", now)?;
        authority.save(&self.dir).with_context(|| format!("cannot write to {}", self.dir.display()))?;
        Ok(authority)
    }

    fn list(&self, authority: &DevelopmentAuthority, now: jiff::Timestamp) -> anyhow::Result<String> {
        let mut revoked = Vec::new();
        for path in &self.revoke {
            let pem = String::from_utf8(read(path)?.to_vec());
            let certificate_pem = pem.with_context(|| format!("{} is not PEM", path.display()))?;
            revoked.push(IssuedCertificate { certificate_pem, key_pem: String::new().into() });
        }
        let revoked: Vec<&IssuedCertificate> = revoked.iter().collect();
        authority.revocation_list(&revoked, now, DAY * 30).context("a file to revoke is not a certificate")
    }
}

/// Whole at once: a gateway may be reading it.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    let written = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, path));
    if let Err(error) = written {
        bail!("cannot write {}: {error}", path.display());
    }
    Ok(())
}
