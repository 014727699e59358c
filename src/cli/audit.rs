//! `audit`: reads, exports and verifies the log.

mod export;
mod verify;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

pub(super) use self::export::{ExportWriter, fetch};
pub(super) use self::verify::verify_path;
use super::output::{explain, list, say, say_json};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::entry::Entry;
use crate::audit::merkle::{Hash, leaf_hash};
use crate::audit::note::{SigningKey, VerifyingKey};
use crate::audit::proof::verify_inclusion;
use crate::client::AgencyClient;
use crate::clock::Clock;
use crate::config::Config;
use crate::grpc::proto;
use crate::setup::purposes;

const DEADLINE: Duration = Duration::from_secs(30);

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// List entries, as an auditor.
    List(List),
    /// Show one entry, and with --key prove that it is in the signed log.
    Show(Show),
    /// Write the whole log to a file that `audit verify` reads.
    Export(Export),
    /// Verify a database file or an export, offline, with nothing but the log's public key.
    Verify(Verify),
    /// Print the log's public key in signed-note form.
    Key(Key),
}

/// Arguments of commands that call the gateway.
#[derive(Debug, Args)]
struct Caller {
    /// The auditor's profile, as `init` makes it.
    #[arg(long = "as", value_name = "FILE")]
    profile: PathBuf,
    /// Purpose code of the agreement.
    #[arg(long, default_value = purposes::AUDIT_INSPECTION)]
    purpose: String,
}

/// Arguments of `audit list`.
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    caller: Caller,
    /// Recorded at or after, such as 2026-11-22T08:00:00Z.
    #[arg(long)]
    from: Option<jiff::Timestamp>,
    /// Recorded before.
    #[arg(long)]
    before: Option<jiff::Timestamp>,
    /// Calling agency.
    #[arg(long, default_value = "")]
    agency: String,
    /// Counterpart agency.
    #[arg(long, default_value = "")]
    counterpart: String,
    /// Method, such as SubmitExchange.
    #[arg(long, default_value = "")]
    method: String,
    /// Exchange.
    #[arg(long, default_value = "")]
    exchange: String,
    /// Matter.
    #[arg(long, default_value = "")]
    matter: String,
    /// Phase: REQUEST, RESPONSE, READ, REFUSED, HANDSHAKE_REFUSED, INTERRUPTED or EVENT.
    #[arg(long, default_value = "")]
    phase: String,
    /// gRPC code, such as PERMISSION_DENIED.
    #[arg(long, default_value = "")]
    code: String,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `audit show`.
#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    caller: Caller,
    /// The entry's index.
    index: u64,
    /// The log's public key (or a file with it): proves the entry.
    #[arg(long)]
    key: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `audit export`.
#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    caller: Caller,
    /// The file to write; it must not be there yet.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `audit verify`.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// A database file or an export.
    path: PathBuf,
    /// The log's public key, or a file with it: what `audit key` printed, kept apart from the gateway.
    #[arg(long)]
    key: String,
    /// An earlier checkpoint that you kept: the log must still contain it. May be given several times.
    #[arg(long = "checkpoint", value_name = "FILE")]
    checkpoints: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `audit key`.
#[derive(Debug, Args)]
pub(super) struct Key {
    /// The gateway's configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Audit {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(command) => command.run().await,
            Self::Show(command) => command.run().await,
            Self::Export(command) => command.run().await,
            Self::Verify(command) => command.run().await,
            Self::Key(command) => command.run(),
        }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let client = AgencyClient::load(&self.caller.profile, Clock::system())?;
        let filter = proto::EntryFilter {
            recorded_from: self.from.map(crate::grpc::wire::timestamp),
            recorded_before: self.before.map(crate::grpc::wire::timestamp),
            caller: self.agency,
            counterpart: self.counterpart,
            method: self.method,
            exchange_id: self.exchange,
            matter_id: self.matter,
            phase: self.phase,
            code: self.code,
        };
        let mut entries = Vec::new();
        let mut page_token = String::new();
        loop {
            let left = self.limit.saturating_sub(entries.len());
            let request = proto::ListEntriesRequest {
                context: Some(client.context(&self.caller.purpose)),
                filter: Some(filter.clone()),
                page_size: i32::try_from(left.clamp(1, 500)).unwrap_or(500),
                page_token,
            };
            let page = client.audit().list_entries(client.request(request, DEADLINE)).await;
            let page = page.map_err(|status| explain(&status))?.into_inner();
            entries.extend(page.entries);
            page_token = page.next_page_token;
            if page_token.is_empty() || entries.len() >= self.limit {
                break;
            }
        }
        entries.truncate(self.limit);
        if self.json {
            let entries: Vec<Value> = entries.iter().map(entry_json).collect::<Result<_, _>>()?;
            say_json(&json!({"entries": entries, "more": !page_token.is_empty()}));
            return Ok(());
        }
        let mut rows =
            list(&["index", "recorded", "phase", "method", "caller", "counterpart", "code", "reason"]);
        for stored in &entries {
            let entry =
                Entry::from_json(&stored.entry).context("the gateway sent an entry of another schema")?;
            rows.add_row([
                stored.index.to_string(),
                format!("{:.3}", entry.recorded),
                entry.phase.as_str().to_owned(),
                entry.method.into_owned(),
                entry.caller.unwrap_or_default(),
                entry.counterpart.unwrap_or_default(),
                entry.code.unwrap_or_default().into_owned(),
                entry.reason.unwrap_or_default().into_owned(),
            ]);
        }
        say(rows);
        if !page_token.is_empty() {
            say("there are more; raise --limit or narrow the filter");
        }
        Ok(())
    }
}

impl Show {
    async fn run(self) -> anyhow::Result<()> {
        let client = AgencyClient::load(&self.caller.profile, Clock::system())?;
        let request =
            proto::GetEntryRequest { context: Some(client.context(&self.caller.purpose)), index: self.index };
        let response = client.audit().get_entry(client.request(request, DEADLINE)).await;
        let response = response.map_err(|status| explain(&status))?.into_inner();
        let stored = response.entry.ok_or_else(|| anyhow!("the gateway answered without an entry"))?;
        let proven = match &self.key {
            None => None,
            Some(key) => Some(prove(&client, &self.caller.purpose, &stored, &read_key(key)?).await?),
        };
        let mut value = entry_json(&stored)?;
        if let (Some(size), Some(object)) = (proven, value.as_object_mut()) {
            object.insert("proven_in_tree_of_size".to_owned(), json!(size));
        }
        say_json(&value);
        if let (Some(size), false) = (proven, self.json) {
            say(format_args!("proven: this entry is in the signed log of {size} entries"));
        }
        Ok(())
    }
}

impl Export {
    async fn run(self) -> anyhow::Result<()> {
        let client = AgencyClient::load(&self.caller.profile, Clock::system())?;
        let mut writer = ExportWriter::create(&self.out)?;
        let size = fetch(&client, &self.caller.purpose, &mut writer).await?;
        writer.finish()?;
        if self.json {
            say_json(&json!({"file": self.out, "size": size}));
        } else {
            let file = self.out.display();
            say(format_args!("{size} entries and the signed checkpoint in {file}"));
            say(format_args!("verify: legal-aid-gateway audit verify {file} --key KEY"));
        }
        Ok(())
    }
}

impl Verify {
    async fn run(self) -> anyhow::Result<()> {
        let key = read_key(&self.key)?;
        let earlier = self
            .checkpoints
            .iter()
            .map(|path| {
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let report = verify_path(&self.path, &key, &earlier).await?;
        let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
        if self.json {
            say_json(&json!({
                "sound": report.is_sound(),
                "size": report.size,
                "root": report.root.to_base64(),
                "verified_entries": report.verified_entries,
                "earlier_checkpoints": report.earlier_checked,
                "findings": findings,
            }));
        } else {
            say(format_args!("checkpoint signed by {}", key.name()));
            say(format_args!("size {}, root {}", report.size, report.root.to_base64()));
            say(format_args!("{} entries hashed again and found as signed", report.verified_entries));
            if report.earlier_checked > 0 {
                say(format_args!("{} earlier checkpoint(s) are contained", report.earlier_checked));
            }
            for finding in &findings {
                say(format_args!("WRONG: {finding}"));
            }
            if report.is_sound() {
                say("the log is sound");
            }
        }
        if report.is_sound() {
            Ok(())
        } else {
            let count = report.findings.len() as u64 + report.findings_left_out;
            Err(anyhow!("the log is not what was signed: {count} finding(s); keep this copy as evidence"))
        }
    }
}

impl Key {
    fn run(self) -> anyhow::Result<()> {
        let config = Config::load(&self.config, std::env::vars())?;
        let path = &config.keys.log;
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let key =
            SigningKey::parse(text.trim()).with_context(|| format!("{} is not a log key", path.display()))?;
        if self.json {
            say_json(&json!({"key": key.verifying_key().to_string()}));
        } else {
            say(key.verifying_key());
        }
        Ok(())
    }
}

/// A key given as itself or as a file.
fn read_key(given: &str) -> anyhow::Result<VerifyingKey> {
    let text = if Path::new(given).is_file() {
        std::fs::read_to_string(given).with_context(|| format!("cannot read {given}"))?
    } else {
        given.to_owned()
    };
    text.trim()
        .parse()
        .context("--key takes the log's public key as `audit key` prints it, or a file with it")
}

fn entry_json(stored: &proto::AuditEntry) -> anyhow::Result<Value> {
    let entry: Value = serde_json::from_slice(&stored.entry).context("an entry is not JSON")?;
    Ok(
        json!({"index": stored.index, "leaf_hash": data_encoding::HEXLOWER.encode(&stored.leaf_hash), "entry": entry}),
    )
}

/// Proves that an entry is in the signed log; returns the size of that log.
pub(super) async fn prove(
    client: &AgencyClient,
    purpose: &str,
    stored: &proto::AuditEntry,
    key: &VerifyingKey,
) -> anyhow::Result<u64> {
    let request = proto::GetInclusionProofRequest {
        context: Some(client.context(purpose)),
        index: stored.index,
        tree_size: 0,
    };
    let proof = client.audit().get_inclusion_proof(client.request(request, DEADLINE)).await;
    let proof = proof.map_err(|status| explain(&status))?.into_inner();
    let checkpoint = Checkpoint::open(&proof.checkpoint, key).context("the checkpoint does not verify")?;
    let hashes = proof.hashes.iter().map(|hash| Hash::from_slice(hash)).collect::<Result<Vec<_>, _>>()?;
    // The leaf is hashed here, from the entry's own bytes; nothing the gateway says about it is believed.
    let leaf = leaf_hash(&stored.entry);
    verify_inclusion(&leaf, stored.index, checkpoint.size, &hashes, &checkpoint.root)
        .context("the entry is not in the signed log")?;
    Ok(checkpoint.size)
}
