//! The export: one JSON object a line, a head, the entries in order, and the signed checkpoint at the end. With
//! `--format`, entries in forms that other systems read: see [`records`].

mod csv;
mod fhir;
mod ocsf;
mod records;

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::records::{RecordOptions, bar};
use super::tiles::{Published, publish};
use super::{Caller, DEADLINE, create_new, evidence};
use crate::audit::merkle::Hash;
use crate::audit::verifier::StoredEntry;
use crate::cli::output::{explain, say, say_json};
use crate::client::AgencyClient;
use crate::clock::Clock;
use crate::grpc::proto;

/// Arguments of `audit export`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Export {
    #[command(flatten)]
    caller: Caller,
    /// The file to write; it must not be there yet.
    #[arg(long, value_name = "FILE", required_unless_present = "tiles")]
    out: Option<PathBuf>,
    /// With --exchange alone: open these fields of its entries, as far as you may. Each opening is an entry of the log, and the
    /// file then holds personal values. Give several with commas.
    #[arg(long, value_name = "FIELD", value_enum, value_delimiter = ',', requires = "exchange")]
    disclose: Vec<evidence::Committed>,
    /// Write a folder of C2SP tiles instead, which any web server can publish; a folder of an earlier run is brought up
    /// to date.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["out", "format", "resume"])]
    tiles: Option<PathBuf>,
    #[command(flatten)]
    records: RecordOptions,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Export {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        if let (Some(exchange), Some(file)) = (self.records.evidence_of()?, &self.out) {
            return evidence::export(&self.caller, &exchange, &self.disclose, file, self.json).await;
        }
        let client = AgencyClient::load(&self.caller.profile, Clock::system())?;
        if let Some(folder) = &self.tiles {
            self.records.expect_whole("a folder of tiles")?;
            let Published { size, new, fetched, pruned } =
                publish(&client, &self.caller.purpose, folder).await?;
            let told =
                json!({"folder": folder, "size": size, "new": new, "fetched": fetched, "pruned": pruned});
            let mut words = format!("{size} entries, {new} of them new, and the signed checkpoint");
            if pruned > 0 {
                words =
                    format!("{size} entries, {new} of them new, {pruned} pruned, and the signed checkpoint");
            }
            self.report(folder, &told, &words);
        }
        if let Some(file) = &self.out {
            if let Some(export) = self.records.export(file)? {
                return export.run(&client, &self.caller.purpose, self.json).await;
            }
            let size = export_whole(&client, &self.caller.purpose, file).await?;
            let told = json!({"file": file, "size": size});
            self.report(file, &told, &format!("{size} entries and the signed checkpoint"));
        }
        Ok(())
    }

    fn report(&self, path: &Path, told: &Value, words: &str) {
        if self.json {
            say_json(told);
        } else {
            let path = path.display();
            say(format_args!("{words} in {path}"));
            say(format_args!("verify: legal-aid-gateway audit verify {path} --key KEY"));
        }
    }
}

/// Writes the whole log to a new file. When that fails, the file is removed: the next try finds its name free.
async fn export_whole(client: &AgencyClient, purpose: &str, file: &Path) -> anyhow::Result<u64> {
    let mut writer = ExportWriter::create(file)?;
    let written = fetch(client, purpose, &mut writer).await;
    let written = written.and_then(|size| writer.finish().map(|()| size));
    if written.is_err() {
        // The failure itself is what there is to say.
        let _ = std::fs::remove_file(file);
    }
    written
}

/// Names the format in the first line.
const FORMAT: &str = "legal-aid-audit-export/1";

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Head {
        format: String,
    },
    Entry {
        index: String,
        leaf_hash: String,
        entry: String,
    },
    Checkpoint {
        checkpoint: String,
        /// The newest checkpoint with a quorum of cosignatures, where there is one.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        cosigned: String,
    },
}

/// Writes an export.
pub(crate) struct ExportWriter(BufWriter<File>);

impl ExportWriter {
    /// Begins a new file; never overwrites.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let mut writer = Self(BufWriter::new(create_new(path)?));
        writer.line(&Line::Head { format: FORMAT.to_owned() })?;
        Ok(writer)
    }

    fn entry(&mut self, stored: &proto::AuditEntry) -> anyhow::Result<()> {
        let entry = std::str::from_utf8(&stored.entry).context("an entry is not UTF-8")?;
        self.line(&Line::Entry {
            index: stored.index.to_string(),
            leaf_hash: HEXLOWER.encode(&stored.leaf_hash),
            entry: entry.to_owned(),
        })
    }

    fn line(&mut self, line: &Line) -> anyhow::Result<()> {
        serde_json::to_writer(&mut self.0, line)?;
        self.0.write_all(b"\n")?;
        Ok(())
    }

    /// Makes sure that it is on the disk.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        self.0.flush()?;
        self.0.get_ref().sync_all()?;
        Ok(())
    }
}

/// Fetches a checkpoint and the entries under it. Returns their number.
pub(crate) async fn fetch(
    client: &AgencyClient,
    purpose: &str,
    writer: &mut ExportWriter,
) -> anyhow::Result<u64> {
    let request = proto::GetCheckpointRequest { context: Some(client.context(purpose)) };
    let checkpoint = client.audit().get_checkpoint(client.request(request, DEADLINE)).await;
    let answer = checkpoint.map_err(|status| explain(&status))?.into_inner();
    let (checkpoint, cosigned) = (answer.checkpoint, answer.cosigned_checkpoint);
    let size: u64 = checkpoint
        .lines()
        .nth(1)
        .and_then(|line| line.parse().ok())
        .ok_or_else(|| anyhow!("the gateway's checkpoint has no size"))?;
    let mut next = 0;
    let mut page_token = String::new();
    let bar = bar(size, None);
    while next < size {
        let request = proto::ListEntriesRequest {
            context: Some(client.context(purpose)),
            filter: None,
            page_size: 500,
            page_token,
            newest_first: false,
        };
        let page = client.audit().list_entries(client.request(request, DEADLINE)).await;
        let page = page.map_err(|status| explain(&status))?.into_inner();
        for stored in page.entries.iter().filter(|stored| stored.index < size) {
            writer.entry(stored)?;
            next = stored.index + 1;
        }
        bar.set_position(next);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    bar.finish_and_clear();
    writer.line(&Line::Checkpoint { checkpoint, cosigned })?;
    Ok(size)
}

/// Reads the checkpoints of an export, its last line: the one that covers all of it, and the cosigned one if there is one.
pub(super) fn read_checkpoints(path: &Path) -> anyhow::Result<(String, Option<String>)> {
    let mut found = None;
    for line in lines(path)? {
        if let Line::Checkpoint { checkpoint, cosigned } = line? {
            found = Some((checkpoint, Some(cosigned).filter(|note| !note.is_empty())));
        }
    }
    found
        .ok_or_else(|| anyhow!("{} has no checkpoint; the export was cut off, make it again", path.display()))
}

/// Reads the entries of an export, in its order.
pub(super) fn read_entries(
    path: &Path,
) -> anyhow::Result<impl Iterator<Item = anyhow::Result<StoredEntry>> + use<>> {
    Ok(lines(path)?.filter_map(|line| match line {
        Ok(Line::Entry { index, leaf_hash, entry }) => Some(stored(&index, &leaf_hash, entry)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    }))
}

fn stored(index: &str, leaf_hash: &str, entry: String) -> anyhow::Result<StoredEntry> {
    let index = index.parse().context("an index is not a number")?;
    // A recorded hash that is not even a hash is as good as none: the entry itself is hashed anyway.
    let leaf_hash = Hash::from_hex(leaf_hash).ok();
    Ok(StoredEntry { index, entry: entry.into_bytes(), leaf_hash })
}

fn lines(path: &Path) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Line>> + use<>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut lines = BufReader::new(file).lines();
    let head = lines.next().transpose().ok().flatten().unwrap_or_default();
    match serde_json::from_str(&head) {
        Ok(Line::Head { format }) if format == FORMAT => {}
        _ => bail!(
            "{} is neither a gateway database nor an audit export, a published folder or a receipt",
            path.display()
        ),
    }
    let numbered = lines.zip(2u64..);
    Ok(numbered.map(|(line, number)| {
        let line = line.with_context(|| format!("line {number} cannot be read"))?;
        serde_json::from_str(&line).map_err(|error| match error.is_eof() {
            true => anyhow!("line {number} breaks off: the file was cut; copy or export it again"),
            false => anyhow!("line {number} is not a line of an export: {error}"),
        })
    }))
}
