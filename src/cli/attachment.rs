//! `attachment`: papers up and down.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use data_encoding::{BASE64, HEXLOWER};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::output::{explain, is_open, say, say_json};
use crate::client::{AgencyClient, Paper, TransferError};
use crate::clock::Clock;
use crate::domain::attachment::MediaType;
use crate::setup::purposes;

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Attachment {
    /// Upload a paper; the same again goes on where an interrupted upload ended.
    Upload(Upload),
    /// Download a paper by its digest; the same again goes on where an interrupted download ended.
    Download(Download),
}

/// Arguments of every `attachment` command.
#[derive(Debug, Args)]
struct Caller {
    /// The agency's profile, as `init` makes it.
    #[arg(long = "as", value_name = "FILE")]
    profile: PathBuf,
    /// Purpose code of the agreement.
    #[arg(long, default_value = purposes::FEE_WAIVER)]
    purpose: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `attachment upload`.
#[derive(Debug, Args)]
pub(super) struct Upload {
    #[command(flatten)]
    caller: Caller,
    /// The paper.
    file: PathBuf,
    /// Media type; else told by the file's ending.
    #[arg(long, value_name = "TYPE")]
    media_type: Option<String>,
}

/// Arguments of `attachment download`.
#[derive(Debug, Args)]
pub(super) struct Download {
    #[command(flatten)]
    caller: Caller,
    /// SHA-256 of the paper, in hex.
    sha256: String,
    /// Where to put it; it must not be there yet.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Caller {
    fn client(&self) -> anyhow::Result<AgencyClient> {
        Ok(AgencyClient::load(&self.profile, Clock::system())?)
    }
}

impl Attachment {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Upload(command) => command.run().await,
            Self::Download(command) => command.run().await,
        }
    }
}

impl Upload {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.caller.client()?;
        let media_type = match &self.media_type {
            Some(media_type) => media_type.as_str(),
            None => media_type_of(&self.file)?,
        };
        let name = self.file.file_name().and_then(|name| name.to_str()).context("the file has no name")?;
        let paper = Paper::read(&self.file).await.map_err(explain_transfer)?;
        let bar = bar(paper.size);
        let told = bar.clone();
        let uploaded = client
            .upload(&paper, media_type, name, &self.caller.purpose, move |bytes| told.set_position(bytes));
        let answer = uploaded.await.map_err(explain_transfer)?;
        bar.finish_and_clear();
        let log_index = answer.audit.map_or(0, |audit| audit.log_index);
        if self.caller.json {
            // As an envelope names it.
            say_json(&json!({
                "attachment": {
                    "sha256": BASE64.encode(&paper.sha256),
                    "name": name,
                    "mediaType": media_type,
                    "sizeBytes": paper.size.to_string(),
                },
                "logIndex": log_index.to_string(),
            }));
            return Ok(());
        }
        say(format_args!("sha256 {}\n{} bytes", HEXLOWER.encode(&paper.sha256), paper.size));
        say(format_args!("audit log index {log_index}"));
        Ok(())
    }
}

impl Download {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.caller.client()?;
        let sha256 = HEXLOWER.decode(self.sha256.to_lowercase().as_bytes()).ok();
        let sha256: [u8; 32] = sha256
            .and_then(|bytes| bytes.try_into().ok())
            .context("the digest is written as 64 hex digits")?;
        if self.out.exists() {
            return Err(anyhow!("{} is there already; nothing is overwritten", self.out.display()));
        }
        let bar = bar(0);
        let told = bar.clone();
        let downloaded = client.download(&sha256, &self.out, &self.caller.purpose, move |bytes, size| {
            told.set_length(size);
            told.set_position(bytes);
        });
        let bytes = downloaded.await.map_err(explain_transfer)?;
        bar.finish_and_clear();
        if self.caller.json {
            say_json(&json!({"file": self.out.display().to_string(), "sizeBytes": bytes.to_string()}));
        } else {
            say(format_args!("{}: {bytes} bytes, digest checked", self.out.display()));
        }
        Ok(())
    }
}

/// A bar on standard error; hidden where that is no terminal.
fn bar(bytes: u64) -> ProgressBar {
    let bar = ProgressBar::new(bytes);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}") {
        bar.set_style(style);
    }
    bar
}

fn media_type_of(file: &Path) -> anyhow::Result<&'static str> {
    let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_lowercase();
    let known = match ending.as_str() {
        "pdf" => MediaType::Pdf,
        "png" => MediaType::Png,
        "jpg" | "jpeg" => MediaType::Jpeg,
        "zip" => MediaType::Zip,
        "docx" => MediaType::Docx,
        "txt" => MediaType::PlainText,
        _ => return Err(anyhow!("cannot tell the media type by the file's ending; give --media-type")),
    };
    Ok(known.as_str())
}

fn explain_transfer(error: TransferError) -> anyhow::Error {
    match error {
        TransferError::Refused(status) if !is_open(&status) => explain(&status),
        TransferError::Refused(status) => {
            anyhow!("{}\n  the same command goes on where this try ended", explain(&status))
        }
        other => other.into(),
    }
}
