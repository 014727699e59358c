//! The results of a batch, as a CSV file that a run which was broken off goes on with.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use data_encoding::HEXLOWER;

use crate::audit::entry::keyed_digest;
use crate::entropy;

/// The columns.
pub(super) const COLUMNS: [&str; 9] =
    ["line", "request_id", "result", "reason", "registry", "detail", "valid_until", "next", "log_index"];

/// One result; the fields are the columns'.
pub(super) struct Row {
    pub(super) line: u64,
    pub(super) request_id: String,
    pub(super) result: String,
    pub(super) reason: String,
    pub(super) registry: String,
    pub(super) detail: String,
    pub(super) valid_until: String,
    pub(super) next: String,
    pub(super) log_index: String,
}

/// The file, and what earlier runs left in it.
pub(super) struct Results {
    writer: csv::Writer<File>,
    key: [u8; 32],
    /// Line and request id of each result that is there, and the result.
    pub(super) there: Vec<(u64, String, String)>,
}

impl Results {
    /// Opens the file, or begins it. A last line that was not written to its end is taken off.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot use {}", path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(cannot)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).with_context(cannot)?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let there = earlier(&text[..whole]).with_context(cannot)?;
        let key = key(&beside(path), !there.is_empty())?;
        file.set_len(whole as u64).with_context(cannot)?;
        file.seek(SeekFrom::End(0)).with_context(cannot)?;
        let mut writer = csv::Writer::from_writer(file);
        if whole == 0 {
            writer.write_record(COLUMNS)?;
            writer.flush().with_context(cannot)?;
        }
        Ok(Self { writer, key, there })
    }

    /// The request id of a question: the same for the same question in every run of this file, so that what was on its
    /// way when a run was broken off has effect once. Keyed: it stands in the audit log, where it must not confirm a
    /// guess at the person.
    pub(super) fn request_id(&self, question: &[u8]) -> String {
        let digest = keyed_digest(&self.key, question);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
    }

    /// Adds a result; it is in the file when this returns.
    pub(super) fn add(&mut self, row: &Row) -> anyhow::Result<()> {
        let line = row.line.to_string();
        self.writer.write_record([
            line.as_str(),
            &row.request_id,
            &row.result,
            &row.reason,
            &row.registry,
            &row.detail,
            &row.valid_until,
            &row.next,
            &row.log_index,
        ])?;
        self.writer.flush().context("cannot write a result")
    }
}

fn earlier(text: &[u8]) -> anyhow::Result<Vec<(u64, String, String)>> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let mut reader = csv::Reader::from_reader(text);
    if reader.headers()?.iter().ne(COLUMNS) {
        bail!("it holds something other than results of this command; choose another --out");
    }
    reader
        .records()
        .map(|record| {
            let record = record?;
            let field = |place| record.get(place).unwrap_or_default().to_owned();
            Ok((field(0).parse().context("its lines have no numbers")?, field(1), field(2)))
        })
        .collect()
}

/// The key's file, beside the results.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".key");
    name.into()
}

/// The key of this file's request ids: made by the first run, read by the others.
fn key(path: &Path, must_be_there: bool) -> anyhow::Result<[u8; 32]> {
    let cannot = || format!("cannot use {}, the key of the results' request ids", path.display());
    if path.exists() || must_be_there {
        let text = std::fs::read_to_string(path).with_context(cannot)?;
        let bytes = HEXLOWER.decode(text.trim().as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        return bytes.with_context(cannot);
    }
    let key: [u8; 32] = entropy::bytes();
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).with_context(cannot)?;
    writeln!(file, "{}", HEXLOWER.encode(&key)).with_context(cannot)?;
    // Before the first question: without the key, a question would be asked twice under two ids.
    file.sync_all().with_context(cannot)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_off_is_asked_again_under_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.csv");
        let mut results = Results::open(&path).unwrap();
        let ids = [b"one", b"two"].map(|question| results.request_id(question));
        for (line, request_id) in (2..).zip(&ids) {
            let none = String::new;
            let row = Row {
                line,
                request_id: request_id.clone(),
                result: "MATCH".to_owned(),
                reason: none(),
                registry: none(),
                detail: "A, \"b\"".to_owned(),
                valid_until: none(),
                next: none(),
                log_index: none(),
            };
            results.add(&row).unwrap();
        }
        drop(results);
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 3]).unwrap();
        let results = Results::open(&path).unwrap();
        assert_eq!(results.there, [(2, ids[0].clone(), "MATCH".to_owned())]);
        assert_eq!(results.request_id(b"two"), ids[1]);
        assert!(crate::domain::exchange::RequestId::parse(&ids[1]).is_some());
        std::fs::remove_file(beside(&path)).unwrap();
        assert!(Results::open(&path).is_err());
    }
}
