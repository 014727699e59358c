//! `audit`: reads, exports and verifies the log.

mod evidence;
mod export;
mod key;
mod list;
mod receipt;
mod show;
mod tiles;
mod verify;
mod verify_fork;
mod witnesses;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

pub(super) use self::export::{ExportWriter, fetch};
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
    List(list::List),
    /// Show one entry, and with --key prove that it is in the signed log.
    Show(show::Show),
    /// Write the whole log to a file, or as a folder that any web server can publish, or with --exchange the evidence of one
    /// exchange; `audit verify` reads them all.
    Export(export::Export),
    /// Get the proof of one entry, to keep and to check years later.
    ///
    /// An auditor gets the receipt of any entry, an agency those of its own calls and of calls that concerned it.
    Receipt(receipt::GetReceipt),
    /// Verify a database file, an export, a published folder, a receipt or the evidence of an exchange, offline, with nothing
    /// but the log's public key.
    Verify(verify::Verify),
    /// Prove from two signed checkpoints that a log has two histories.
    VerifyFork(verify_fork::VerifyFork),
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
            Self::VerifyFork(command) => command.run(),
            Self::Key(command) => command.run(),
        }
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
