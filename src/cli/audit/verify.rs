//! Offline verification of a database file, an export, a published folder or a receipt.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use serde_json::json;

use super::evidence::{Language, read_bundle, verify_bundle};
use super::export::{read_checkpoints, read_entries};
use super::read_key;
use super::receipt::{read_receipt, verify_receipt};
use super::tiles::verify_folder;
use super::witnesses::Trusted;
use crate::audit::log::Storage as _;
use crate::audit::note::VerifyingKey;
use crate::audit::verifier::{Report, Verifier, verify_log};
use crate::cli::output::{say, say_json};
use crate::config::Database;
use crate::store::Store;

/// Arguments of `audit verify`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Verify {
    /// A database (its file, or a postgres:// URL), an export, a folder of tiles, a receipt, or the evidence of an exchange.
    path: PathBuf,
    /// The log's public key, or a file with it: what `audit key` printed, kept apart from the gateway.
    #[arg(long)]
    key: String,
    /// An earlier checkpoint that you kept: the log must still contain it. May be given several times.
    #[arg(long = "checkpoint", value_name = "FILE")]
    checkpoints: Vec<PathBuf>,
    /// The network to a PostgreSQL server is protected by other means than TLS.
    #[arg(long)]
    trusted_network: bool,
    /// Language of what is said of evidence.
    #[arg(long, value_enum, default_value = "en")]
    lang: Language,
    #[command(flatten)]
    trusted: Trusted,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let key = read_key(&self.key)?;
        let server = server(&self.path).map(|server| server.over_trusted_network(self.trusted_network));
        if server.is_none()
            && let Some(bundle) = read_bundle(&self.path)?
        {
            let wanted = self.trusted.wanted(&key)?;
            return verify_bundle(&bundle, &key, &wanted, self.lang, self.json);
        }
        if server.is_none()
            && self.path.is_file()
            && let Some(receipt) = read_receipt(&self.path)?
        {
            if !self.checkpoints.is_empty() {
                bail!("--checkpoint is compared with a whole log; a receipt holds one entry of it");
            }
            return verify_receipt(&receipt, &key, self.json);
        }
        let mut earlier = self
            .checkpoints
            .iter()
            .map(|path| {
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let report = if let Some(server) = &server {
            earlier.extend(cosigned_in_database(server).await?);
            verify_database(server, &key, &earlier).await?
        } else {
            earlier.extend(cosigned_in(&self.path).await?);
            verify_path(&self.path, &key, &earlier).await?
        };
        let witnessed = self.trusted.examine(&earlier, &key)?;
        let removed: Vec<String> = report.removed.iter().map(ToString::to_string).collect();
        let mut findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
        findings.extend(witnessed.findings.iter().cloned());
        findings.extend(witnessed.shortfall());
        let is_sound = report.is_sound() && findings.is_empty();
        if self.json {
            say_json(&json!({
                "sound": is_sound,
                "size": report.size,
                "root": report.root.to_base64(),
                "verified_entries": report.verified_entries,
                "earlier_checkpoints": report.earlier_checked,
                "witnessed": witnessed.json(),
                "findings": findings,
                "removed": removed,
            }));
        } else {
            say(format_args!("checkpoint signed by {}", key.name()));
            say(format_args!("size {}, root {}", report.size, report.root.to_base64()));
            say(format_args!("{} entries hashed again and found as signed", report.verified_entries));
            if report.earlier_checked > 0 {
                say(format_args!("{} earlier checkpoint(s) are contained", report.earlier_checked));
            }
            for removed in &removed {
                say(removed);
            }
            witnessed.say();
            for finding in &findings {
                say(format_args!("WRONG: {finding}"));
            }
            if is_sound {
                say("the log is sound");
            }
        }
        if is_sound {
            Ok(())
        } else {
            let count = findings.len() as u64 + report.findings_left_out;
            Err(anyhow!("the log is not what was signed: {count} finding(s); keep this copy as evidence"))
        }
    }
}

const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

/// Entries read from a database at once.
const CHUNK: u32 = 1024;

fn is_database(path: &Path) -> anyhow::Result<bool> {
    let mut magic = Vec::new();
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let begin = file.take(SQLITE_MAGIC.len() as u64).read_to_end(&mut magic);
    begin.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(magic == SQLITE_MAGIC)
}

/// The PostgreSQL server that is named in the place of a path.
fn server(path: &Path) -> Option<Database> {
    path.to_str().map(Database::parse).filter(|database| database.file().is_none())
}

/// The cosigned checkpoints that come with a log.
async fn cosigned_in(path: &Path) -> anyhow::Result<Vec<String>> {
    if path.is_dir() {
        let file = path.join("checkpoint");
        let note =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        return Ok(Some(note).filter(|note| note.matches("\n\u{2014} ").count() > 1).into_iter().collect());
    }
    if !is_database(path)? {
        return Ok(read_checkpoints(path)?.1.into_iter().collect());
    }
    cosigned_in_database(&path.into()).await
}

async fn cosigned_in_database(database: &Database) -> anyhow::Result<Vec<String>> {
    let store = Store::open_audit_log(database).await?;
    let kept = store.cosignatures().await.context("the kept cosignatures cannot be read")?;
    store.close().await;
    Ok(kept.into_iter().map(|kept| kept.checkpoint + &kept.line).collect())
}

/// Verifies the log in a file or folder under the log's public key, and that it contains the earlier checkpoints.
pub(crate) async fn verify_path(
    path: &Path,
    key: &VerifyingKey,
    earlier: &[String],
) -> anyhow::Result<Report> {
    if path.is_dir() {
        return verify_folder(path, key, earlier);
    }
    if !is_database(path)? {
        let (checkpoint, _) = read_checkpoints(path)?;
        return Ok(verify_log(read_entries(path)?, &checkpoint, key, earlier)?);
    }
    verify_database(&path.into(), key, earlier).await
}

async fn verify_database(
    database: &Database,
    key: &VerifyingKey,
    earlier: &[String],
) -> anyhow::Result<Report> {
    let store = Store::open_audit_log(database).await?;
    let head = store.head().await.with_context(|| {
        format!(
            "{database} has no audit log that can be read: it is no gateway database, or not the whole of one"
        )
    })?;
    let head = head.ok_or_else(|| anyhow!("the database has no audit log yet"))?;
    let mut verifier = Verifier::start(&head.checkpoint, key, earlier)?;
    let mut next = 0;
    loop {
        let chunk = store.entries_with_hashes(next, CHUNK).await?;
        let Some(last) = chunk.last() else { break };
        let first = next;
        next = last.index + 1;
        chunk.iter().for_each(|stored| verifier.feed(stored));
        for index in store.entries_without_salts(first, next).await? {
            verifier.note_missing_salt(index);
        }
    }
    store.close().await;
    Ok(verifier.finish())
}
