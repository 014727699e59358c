//! `cert show`: what files are.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::read;
use crate::cli::output::{say, say_json};
use crate::clock::Clock;
use crate::identity::description::{Certificate, Described, Key, List, Request, describe, key_of};
use crate::identity::key_file;

/// Arguments of `cert show`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Show {
    /// The files, PEM or DER.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// A private key (PEM): say of each certificate and request whether it is this key's.
    #[arg(long, value_name = "FILE")]
    private_key: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let key = match &self.private_key {
            Some(path) => {
                Some(key_of(&read(path)?).with_context(|| format!("{} holds no key", path.display()))?)
            }
            None => None,
        };
        let now = Clock::system().now();
        let mut shown = Vec::new();
        for path in &self.files {
            let described = describe(&read(path)?);
            if described.is_empty() {
                bail!(
                    "{} is neither PEM nor DER of a certificate, request, revocation list or key; `keytool -list \
                     -keystore` or `openssl pkcs12 -info` opens a PKCS #12 file",
                    path.display()
                );
            }
            for one in described {
                let fits = key.as_ref().and_then(|key| fits(&one, key));
                if self.json {
                    shown.push(as_json(path, &one, fits, now)?);
                } else {
                    say(in_words(path, &one, fits, now));
                }
            }
        }
        if self.json {
            say_json(&Value::Array(shown));
        }
        Ok(())
    }
}

/// Whether it is of this key; nothing of what has none.
fn fits(described: &Described, key: &Key) -> Option<bool> {
    let own = match described {
        Described::Certificate(certificate) => &certificate.key,
        Described::CertificateRequest(request) => &request.key,
        Described::PrivateKey(key) => key,
        Described::RevocationList(_) => return None,
    };
    Some(own.spki_sha256 == key.spki_sha256)
}

fn as_json(path: &Path, described: &Described, fits: Option<bool>, now: Timestamp) -> anyhow::Result<Value> {
    let mut value = serde_json::to_value(described)?;
    value["file"] = json!(path);
    if let Some(fits) = fits {
        value["key_fits"] = json!(fits);
    }
    if let Described::Certificate(certificate) = described {
        value["valid_now"] = json!(is_valid(certificate, now));
    }
    Ok(value)
}

fn is_valid(certificate: &Certificate, now: Timestamp) -> bool {
    (certificate.not_before..=certificate.not_after).contains(&now.as_second())
}

fn in_words(path: &Path, described: &Described, fits: Option<bool>, now: Timestamp) -> String {
    let mut lines = match described {
        Described::Certificate(certificate) => of_certificate(certificate, now),
        Described::CertificateRequest(request) => of_request(request),
        Described::RevocationList(list) => of_list(list, now),
        Described::PrivateKey(key) => of_private_key(path, key),
    };
    if let Some(fits) = fits {
        lines.push(if fits { "it is this key's".to_owned() } else { "NOT this key's".to_owned() });
    }
    let (first, rest) = lines.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let mut text = format!("{}: {first}", path.display());
    for line in rest {
        text.push_str("\n  ");
        text.push_str(line);
    }
    text
}

fn of_certificate(certificate: &Certificate, now: Timestamp) -> Vec<String> {
    let kind = if certificate.authority { "certificate of an authority" } else { "certificate" };
    let mut lines = vec![format!("{kind}, {}", certificate.subject)];
    match &certificate.agency {
        Some(agency) => lines.push(format!("agency {agency}")),
        None if certificate.authority => {}
        None => lines.push("names no agency: its key must be pinned in directory.toml".to_owned()),
    }
    lines.push(format!("issued by {}, serial {}", certificate.issuer, certificate.serial));
    if !certificate.names.is_empty() {
        lines.push(format!("valid for {}", certificate.names.join(", ")));
    }
    if !certificate.uses.is_empty() {
        lines.push(format!("to be used as {}", certificate.uses.join(", ")));
    }
    let left = (certificate.not_after - now.as_second()) / 86_400;
    let state = match (certificate.not_before > now.as_second(), certificate.not_after < now.as_second()) {
        (true, _) => "NOT YET VALID".to_owned(),
        (_, true) => "EXPIRED".to_owned(),
        _ => format!("{left} days left"),
    };
    lines.push(format!(
        "from {} until {}: {state}",
        time(certificate.not_before),
        time(certificate.not_after)
    ));
    lines.extend(of_key(&certificate.key));
    if certificate.development {
        lines.push("FOR DEVELOPMENT ONLY: never with real data".to_owned());
    }
    lines
}

fn of_request(request: &Request) -> Vec<String> {
    let mut lines = vec![format!("request for a certificate, {}", request.subject)];
    lines.push(format!("for {}", request.names.join(", ")));
    lines.extend(of_key(&request.key));
    lines
}

fn of_list(list: &List, now: Timestamp) -> Vec<String> {
    let mut lines = vec![format!("revocation list of {}", list.issuer)];
    let next = match list.next_update {
        Some(next) if next < now.as_second() => format!("the next was due {}: EXPIRED", time(next)),
        Some(next) => format!("the next is due {}", time(next)),
        None => "no next one is announced".to_owned(),
    };
    lines.push(format!("from {}; {next}", time(list.this_update)));
    lines.push(match list.revoked.as_slice() {
        [] => "nothing is revoked".to_owned(),
        revoked => format!("revoked: serial {}", revoked.join(", ")),
    });
    lines
}

fn of_private_key(path: &Path, key: &Key) -> Vec<String> {
    let mut lines = vec!["PRIVATE KEY: give it to nobody".to_owned()];
    lines.extend(of_key(key));
    if let Ok(Some(mode)) = key_file::open_to_others(path) {
        lines.push(format!("others can read it (mode {mode:03o}): run chmod 600, or better make a new key"));
    }
    lines
}

fn of_key(key: &Key) -> [String; 2] {
    [format!("key {}", key.kind), format!("SPKI SHA-256 {}", key.spki_sha256)]
}

fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| "?".to_owned(), |time| time.to_string())
}
