//! `audit`: reads, exports and verifies the log.

mod evidence;
mod export;
mod filter;
mod findings;
mod fsck;
mod key;
mod list;
mod mark;
mod open;
mod receipt;
mod removal;
mod show;
mod tiles;
mod verify;
mod verify_fork;
mod witnesses;

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

pub(super) use self::export::{ExportWriter, fetch};
pub(super) use self::receipt::fetch_receipt;
pub(super) use self::show::prove;
pub(super) use self::verify::verify_path;
use crate::audit::note::VerifyingKey;
use crate::grpc::proto;
use crate::setup::purposes;

const DEADLINE: Duration = Duration::from_secs(30);

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// List entries, as an auditor.
    List(Box<list::List>),
    /// Show one entry, and with --key prove that it is in the signed log.
    Show(show::Show),
    /// Write the whole log to a file or as a folder that any web server can publish, with --exchange the evidence of one
    /// exchange, or with --format entries for other systems; `audit verify` reads all but the last.
    Export(Box<export::Export>),
    /// Get the proof of one entry, to keep and to check years later.
    ///
    /// An auditor gets the receipt of any entry, an agency those of its own calls and of calls that concerned it.
    Receipt(receipt::GetReceipt),
    /// Verify a database file, an export, a published folder, a receipt or the evidence of an exchange, offline, with nothing
    /// but the log's public key.
    Verify(verify::Verify),
    /// Open what an entry only commits to, and check it against the entry; --check does so offline.
    Open(open::Open),
    /// Erase a person, or a period, as the operator: messages, papers and salts go, the log still verifies.
    Erase(removal::Erase),
    /// Remove what is past its retention, as the operator: hashes stay, the log still verifies.
    Prune(removal::Prune),
    /// Prove from two signed checkpoints that a log has two histories.
    VerifyFork(verify_fork::VerifyFork),
    /// Recompute the whole tree from the stored entries: every entry, every tile, head and checkpoint. Fast, in constant
    /// memory, and also while the gateway runs.
    Fsck(fsck::Fsck),
    /// Look through the log for what is odd: bulk look-ups, closed matters, denials and more (docs/findings.md).
    Findings(findings::Findings),
    /// Mark a finding normal or an incident, with a comment.
    Mark(mark::MarkCommand),
    /// Print the log's public key in signed-note form.
    Key(key::Key),
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

impl Audit {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(command) => command.run().await,
            Self::Show(command) => command.run().await,
            Self::Export(command) => command.run().await,
            Self::Receipt(command) => command.run().await,
            Self::Verify(command) => command.run().await,
            Self::Open(command) => command.run().await,
            Self::Erase(command) => command.run().await,
            Self::Prune(command) => command.run().await,
            Self::VerifyFork(command) => command.run(),
            Self::Fsck(command) => command.run().await,
            Self::Findings(command) => command.run().await,
            Self::Mark(command) => command.run().await,
            Self::Key(command) => command.run(),
        }
    }
}

/// A key given as itself or as a file.
fn read_key(given: &str) -> anyhow::Result<VerifyingKey> {
    // A key has plus signs; what has none is meant as a file.
    let text = if Path::new(given).is_file() || !given.contains('+') {
        std::fs::read_to_string(given).with_context(|| format!("--key: cannot read {given}"))?
    } else {
        given.to_owned()
    };
    text.trim()
        .parse()
        .context("--key takes the log's public key as `audit key` prints it, or a file with it")
}

/// Makes a file that is not there yet.
fn create_new(path: &Path) -> anyhow::Result<File> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{} is there already; nothing is overwritten, give another name", path.display())
        }
        made => made.with_context(|| format!("cannot make {}", path.display())),
    }
}

fn entry_json(stored: &proto::AuditEntry) -> anyhow::Result<Value> {
    let leaf_hash = data_encoding::HEXLOWER.encode(&stored.leaf_hash);
    let mut value = json!({"index": stored.index, "leaf_hash": leaf_hash});
    if !stored.entry.is_empty() {
        value["entry"] = serde_json::from_slice(&stored.entry).context("an entry is not JSON")?;
    }
    if let Some(removed) = &stored.removed {
        value["removed"] = removed_text(removed).into();
    }
    Ok(value)
}

/// What took something of an entry away, in words, and the entry that tells of it.
fn removed_text(removed: &proto::Removed) -> String {
    let at = removed.remove_time.as_ref().and_then(|at| jiff::Timestamp::new(at.seconds, at.nanos).ok());
    let on = at.map(|at| format!(" on {at:.0}")).unwrap_or_default();
    let (done, why) = match removed.kind() {
        proto::RemovalKind::Retention => ("pruned", ", past retention"),
        _ => ("erased", ""),
    };
    format!("{done}{on} by {}{why} (entry {})", removed.agency, removed.log_index)
}
