//! Entries in forms that other systems read: plain JSON Lines, OCSF, FHIR and CSV, one record a line.
//!
//! An export is written to `FILE.part`, and `FILE.plan` says after each page how far it has come; both become `FILE` at
//! the end. With `--resume` an export that was interrupted goes on after its last page, once the last line that it wrote
//! was found to be what the gateway has. Only a page is held in memory.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{csv, fhir, ocsf};
use crate::audit::entry::Entry;
use crate::cli::audit::filter::FilterOptions;
use crate::cli::audit::{DEADLINE, entry_json};
use crate::cli::output::{explain, say, say_json};
use crate::client::AgencyClient;
use crate::grpc::proto;

/// Entries in one page.
const PAGE: i32 = 500;

/// What an export is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// The whole log with its checkpoint; with --exchange the evidence of that exchange: a ZIP file with its entries, a
    /// proof for each, the signed checkpoint, and what happened in words. A party to the exchange gives the purpose of its
    /// agreement by --purpose. `audit verify` reads both
    Log,
    /// JSON Lines: index, leaf hash and the entry itself
    Jsonl,
    /// JSON Lines of OCSF API Activity (class 6003), for a SIEM
    Ocsf,
    /// Newline-delimited FHIR R4 AuditEvent
    Fhir,
    /// CSV that opens in Excel: UTF-8 with BOM, times of Asia/Shanghai
    Csv,
}

/// Arguments of `audit export` beyond the whole log.
#[derive(Debug, Args)]
pub(super) struct RecordOptions {
    /// What to write. The options that narrow go with every format but log; docs/exports.md has the fields.
    #[arg(long, value_enum, default_value = "log")]
    format: Format,
    /// Go on with an export that was interrupted; begins one where there is none.
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    filter: FilterOptions,
}

impl RecordOptions {
    /// The exchange whose evidence is asked for; `None` for anything else.
    ///
    /// # Errors
    /// When the file with a person's number cannot be read.
    pub(super) fn evidence_of(&self) -> anyhow::Result<Option<String>> {
        if self.format != Format::Log || self.resume {
            return Ok(None);
        }
        let filter = self.filter.on_wire()?;
        let of_exchange =
            proto::EntryFilter { exchange_id: filter.exchange_id.clone(), ..Default::default() };
        Ok(Some(filter.exchange_id.clone()).filter(|exchange| !exchange.is_empty() && filter == of_exchange))
    }

    /// The export that is asked for; `None` for the whole log.
    ///
    /// # Errors
    /// When options contradict each other, or files are in the way.
    pub(super) fn export(&self, out: &Path) -> anyhow::Result<Option<Export>> {
        if self.format == Format::Log {
            self.expect_whole("the log")?;
            return Ok(None);
        }
        let export = Export {
            format: self.format,
            resume: self.resume,
            filter: self.filter.on_wire()?,
            out: out.to_owned(),
            part: beside(out, ".part"),
            plan: beside(out, ".plan"),
        };
        if export.out.exists() {
            bail!("{} is there already; nothing is overwritten, give another name", out.display());
        }
        if !export.resume && export.part.exists() {
            let part = export.part.display();
            bail!("{part} is an export that was interrupted: go on with --resume, or remove it");
        }
        Ok(Some(export))
    }

    /// Refuses options that would leave something out.
    pub(super) fn expect_whole(&self, what: &str) -> anyhow::Result<()> {
        if self.resume || self.filter.on_wire()? != proto::EntryFilter::default() {
            bail!(
                "{what} is exported whole; --format jsonl, ocsf, fhir or csv take --resume and filters, and --exchange \
                 alone gives the evidence of one exchange"
            );
        }
        Ok(())
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// An entry with what its record says of where it stands.
pub(super) struct Record<'r> {
    /// Index in the log.
    pub(super) index: u64,
    /// Leaf hash, lower-case hex.
    pub(super) leaf_hash: String,
    /// The entry.
    pub(super) entry: Entry,
    /// Name of the log: the first line of its checkpoints.
    pub(super) origin: &'r str,
}

/// How far an export has come.
#[derive(Serialize, Deserialize)]
struct Plan {
    format: Format,
    /// The filter, in the contract's bytes, hex; without the person's document, which is to stand in no file. The page
    /// token holds for the same person only.
    filter: String,
    /// Whether a person is searched for.
    by_person: bool,
    /// The checkpoint under which the entries stand.
    checkpoint: String,
    page_token: String,
    /// Bytes that are written.
    length: u64,
    /// Lines of them that are entries.
    entries: u64,
    /// Pruned entries left out so far.
    #[serde(default)]
    pruned: u64,
    /// The last entry that is written.
    last_index: Option<u64>,
    /// Length of its line, in bytes.
    last_length: u64,
}

impl Plan {
    fn origin(&self) -> &str {
        self.checkpoint.lines().next().unwrap_or_default()
    }

    fn size(&self) -> anyhow::Result<u64> {
        let size = self.checkpoint.lines().nth(1).and_then(|line| line.parse().ok());
        size.ok_or_else(|| anyhow!("the gateway's checkpoint has no size"))
    }
}

/// An export into a form that other systems read.
pub(super) struct Export {
    format: Format,
    resume: bool,
    filter: proto::EntryFilter,
    out: PathBuf,
    part: PathBuf,
    plan: PathBuf,
}

impl Export {
    pub(super) async fn run(self, client: &AgencyClient, purpose: &str, as_json: bool) -> anyhow::Result<()> {
        let (mut file, mut plan) = match self.resume && self.part.exists() {
            true => self.go_on(client, purpose).await?,
            false => self.begin(client, purpose).await?,
        };
        let earlier = plan.entries;
        let size = plan.size()?;
        let bar = bar(size, plan.last_index);
        let mut is_first = plan.page_token.is_empty();
        // Without a filter an empty log has no first page either.
        while is_first || !plan.page_token.is_empty() {
            is_first = false;
            let request = proto::ListEntriesRequest {
                context: Some(client.context(purpose)),
                filter: Some(self.filter.clone()),
                page_size: PAGE,
                page_token: plan.page_token.clone(),
                newest_first: false,
            };
            let page = client.audit().list_entries(client.request(request, DEADLINE)).await;
            let page = page.map_err(|status| self.interrupted(&explain(&status)))?.into_inner();
            let mut is_over = false;
            for stored in &page.entries {
                is_over = stored.index >= size;
                if is_over {
                    break;
                }
                // Of a pruned entry only JSON Lines has something to say: its hash, and when it was pruned.
                if stored.entry.is_empty() && self.format != Format::Jsonl {
                    plan.pruned += 1;
                    continue;
                }
                let line = self.line(stored, plan.origin())?;
                file.write_all(&line).map_err(|error| self.interrupted(&error.into()))?;
                plan.length += line.len() as u64;
                plan.last_length = line.len() as u64;
                plan.last_index = Some(stored.index);
                plan.entries += 1;
                bar.set_position(stored.index + 1);
            }
            plan.page_token = if is_over { String::new() } else { page.next_page_token };
            file.flush().map_err(|error| self.interrupted(&error.into()))?;
            if !plan.page_token.is_empty() {
                self.keep(&plan)?;
            }
        }
        bar.finish_and_clear();
        file.get_ref().sync_all()?;
        std::fs::rename(&self.part, &self.out)
            .with_context(|| format!("cannot rename {}", self.part.display()))?;
        let _ = std::fs::remove_file(&self.plan);
        let (out, entries, pruned) = (self.out.display(), plan.entries, plan.pruned);
        if as_json {
            say_json(
                &json!({"file": self.out, "entries": entries, "earlier": earlier, "size": size, "pruned": pruned}),
            );
        } else {
            say(format_args!("{entries} entries in {out}, of the log's first {size}"));
            if pruned > 0 {
                say(format_args!(
                    "{pruned} more were pruned past retention and left out; jsonl has their hashes"
                ));
            }
            say(
                "each line names its index; prove one: legal-aid-gateway audit show INDEX --key KEY --as FILE",
            );
        }
        Ok(())
    }

    /// Begins a new export.
    async fn begin(&self, client: &AgencyClient, purpose: &str) -> anyhow::Result<(BufWriter<File>, Plan)> {
        let request = proto::GetCheckpointRequest { context: Some(client.context(purpose)) };
        let checkpoint = client.audit().get_checkpoint(client.request(request, DEADLINE)).await;
        let checkpoint = checkpoint.map_err(|status| explain(&status))?.into_inner().checkpoint;
        let file = OpenOptions::new().write(true).create_new(true).open(&self.part);
        let file = file.with_context(|| format!("cannot make {}", self.part.display()))?;
        let mut file = BufWriter::new(file);
        let head = if self.format == Format::Csv { csv::head()? } else { Vec::new() };
        file.write_all(&head)?;
        file.flush()?;
        let plan = Plan {
            format: self.format,
            filter: self.filter_hex(),
            by_person: self.filter.person.is_some(),
            checkpoint,
            page_token: String::new(),
            length: head.len() as u64,
            entries: 0,
            pruned: 0,
            last_index: None,
            last_length: 0,
        };
        self.keep(&plan)?;
        Ok((file, plan))
    }

    /// Goes on with one that was interrupted, if what it wrote last is what the gateway has.
    async fn go_on(&self, client: &AgencyClient, purpose: &str) -> anyhow::Result<(BufWriter<File>, Plan)> {
        let (part, plan_path) = (self.part.display(), self.plan.display());
        let anew = format!("remove {part} and {plan_path} and begin anew");
        let text = std::fs::read(&self.plan)
            .with_context(|| format!("{part} is there, but its plan {plan_path} cannot be read; {anew}"))?;
        let plan: Plan = serde_json::from_slice(&text)
            .with_context(|| format!("{plan_path} is not the plan of an export; {anew}"))?;
        let begun_with = (plan.format, plan.filter.as_str(), plan.by_person);
        if begun_with != (self.format, &*self.filter_hex(), self.filter.person.is_some()) {
            bail!("{part} was begun with another format or filter: give the same, or {anew}");
        }
        let mut file = OpenOptions::new().read(true).write(true).open(&self.part)?;
        if file.metadata()?.len() < plan.length {
            bail!("{part} is shorter than it was when it was interrupted; {anew}");
        }
        if let Some(index) = plan.last_index {
            let request = proto::GetEntryRequest { context: Some(client.context(purpose)), index };
            let stored = client.audit().get_entry(client.request(request, DEADLINE)).await;
            let stored = stored.map_err(|status| explain(&status))?.into_inner().entry.unwrap_or_default();
            let expected = self.line(&stored, plan.origin())?;
            let mut written = Vec::new();
            file.seek(SeekFrom::Start(plan.length.saturating_sub(plan.last_length)))?;
            BufReader::new(&file).take(plan.last_length).read_to_end(&mut written)?;
            if written != expected {
                bail!("the last line of {part} is not what the gateway has at index {index}; {anew}");
            }
        }
        // What came after the last page is written again.
        file.set_len(plan.length)?;
        file.seek(SeekFrom::Start(plan.length))?;
        Ok((BufWriter::new(file), plan))
    }

    /// Says how far it has come, all at once or not at all.
    fn keep(&self, plan: &Plan) -> anyhow::Result<()> {
        let new = beside(&self.plan, ".new");
        std::fs::write(&new, serde_json::to_vec(plan)?)
            .and_then(|()| std::fs::rename(&new, &self.plan))
            .map_err(|error| self.interrupted(&error.into()))
    }

    fn interrupted(&self, error: &anyhow::Error) -> anyhow::Error {
        anyhow!(
            "{error}\n  the export was interrupted: the same command with --resume goes on where it stopped"
        )
    }

    fn filter_hex(&self) -> String {
        let filter = proto::EntryFilter { person: None, ..self.filter.clone() };
        data_encoding::HEXLOWER.encode(&prost::Message::encode_to_vec(&filter))
    }

    /// The line of an entry, with its end.
    fn line(&self, stored: &proto::AuditEntry, origin: &str) -> anyhow::Result<Vec<u8>> {
        let value = match self.format {
            Format::Log | Format::Jsonl => entry_json(stored)?,
            Format::Ocsf => ocsf::event(&record(stored, origin)?),
            Format::Fhir => fhir::audit_event(&record(stored, origin)?),
            Format::Csv => return csv::row(&record(stored, origin)?),
        };
        let mut line = serde_json::to_vec(&value)?;
        line.push(b'\n');
        Ok(line)
    }
}

fn record<'r>(stored: &proto::AuditEntry, origin: &'r str) -> anyhow::Result<Record<'r>> {
    let index = stored.index;
    let entry = Entry::from_json(&stored.entry);
    let entry =
        entry.with_context(|| format!("entry {index} is of a schema that this version does not know"))?;
    Ok(Record { index, leaf_hash: data_encoding::HEXLOWER.encode(&stored.leaf_hash), entry, origin })
}

/// A bar on standard error.
pub(super) fn bar(size: u64, last: Option<u64>) -> ProgressBar {
    // Hidden where standard error is no terminal.
    let bar = ProgressBar::new(size);
    let style = "{bar:40} {pos}/{len} entries  {per_sec}  {eta} left";
    bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_position(last.map_or(0, |index| index + 1));
    bar.reset_eta();
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_of_an_export_does_not_hold_the_person_searched_for() {
        let person = proto::PersonFilter { id_kind: 1, id_number: "11010119900101123X".to_owned() };
        let filter = proto::EntryFilter { person: Some(person), unit: "01".to_owned(), ..Default::default() };
        let path = PathBuf::from("unused");
        let (out, part, plan) = (path.clone(), path.clone(), path);
        let export = Export { format: Format::Csv, resume: false, filter, out, part, plan };
        let number = data_encoding::HEXLOWER.encode(b"11010119900101123X");
        assert!(!export.filter_hex().contains(&number) && !export.filter_hex().is_empty());
    }
}
