//! The results of a batch, as a CSV file that a run which was broken off goes on with.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
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
        let mut options = for_the_owner();
        options.read(true).create(true).truncate(false);
        let mut file = options.open(path).with_context(cannot)?;
        if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            bail!("{} is in use by another run of this command", path.display());
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text).with_context(cannot)?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        if whole == 0 && !COLUMNS.join(",").as_bytes().starts_with(text.strip_suffix(b"\r").unwrap_or(&text))
        {
            return Err(foreign()).with_context(cannot);
        }
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
        // A row is one line, so that one which is cut off can be told from a whole one.
        let detail = row.detail.replace(char::is_control, " ");
        self.writer.write_record([
            line.as_str(),
            &row.request_id,
            &row.result,
            &row.reason,
            &row.registry,
            &detail,
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
        return Err(foreign());
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

fn foreign() -> anyhow::Error {
    anyhow!("it holds something other than results of this command; choose another --out")
}

/// Opens for writing; what it creates, others cannot read: a result is about somebody.
fn for_the_owner() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
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
    // An empty one was broken off before anything was asked.
    let begun = std::fs::metadata(path).is_ok_and(|file| file.len() > 0);
    if begun || must_be_there {
        let text = std::fs::read_to_string(path).with_context(cannot)?;
        let bytes = HEXLOWER.decode(text.trim().as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        return bytes.with_context(cannot);
    }
    let key: [u8; 32] = entropy::bytes();
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file = for_the_owner().create(true).truncate(true).open(&new).with_context(cannot)?;
    writeln!(file, "{}", HEXLOWER.encode(&key)).with_context(cannot)?;
    // Before the first question: without the key, a question would be asked twice under two ids.
    file.sync_all().with_context(cannot)?;
    std::fs::rename(&new, path).with_context(cannot)?;
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        File::open(folder).and_then(|folder| folder.sync_all()).with_context(cannot)?;
    }
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

    fn row(line: u64, request_id: &str, detail: &str) -> Row {
        let none = String::new;
        Row {
            line,
            request_id: request_id.to_owned(),
            result: "MATCH".to_owned(),
            reason: none(),
            registry: none(),
            detail: detail.to_owned(),
            valid_until: none(),
            next: none(),
            log_index: none(),
        }
    }

    #[test]
    fn a_file_of_something_else_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other");
        for text in ["one line without an end", "linear", "a,b\nc,d\n"] {
            std::fs::write(&path, text).unwrap();
            assert!(Results::open(&path).is_err(), "{text}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        // A head that was cut off is this command's own.
        std::fs::write(&path, "line,request_id,res").unwrap();
        assert!(Results::open(&path).unwrap().there.is_empty());
        assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), COLUMNS.join(","));
    }

    #[test]
    fn a_key_that_was_not_written_to_its_end_is_made_anew_before_any_result() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.csv");
        std::fs::write(beside(&path), "").unwrap();
        let mut results = Results::open(&path).unwrap();
        let id = results.request_id(b"one");
        results.add(&row(2, &id, "")).unwrap();
        drop(results);
        assert_eq!(Results::open(&path).unwrap().request_id(b"one"), id);
        std::fs::write(beside(&path), "").unwrap();
        assert!(Results::open(&path).is_err(), "its results would be asked again under other ids");
    }

    #[test]
    fn two_runs_at_once_do_not_write_into_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.csv");
        let first = Results::open(&path).unwrap();
        assert!(Results::open(&path).is_err());
        drop(first);
        assert!(Results::open(&path).is_ok());
    }

    #[test]
    fn a_value_of_several_lines_is_one_row_wherever_it_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.csv");
        let mut results = Results::open(&path).unwrap();
        results.add(&row(2, "one", "A 1\nB \"2\"\r\nC")).unwrap();
        results.add(&row(3, "two", "A 1\nB 2")).unwrap();
        drop(results);
        let text = std::fs::read(&path).unwrap();
        let first = std::str::from_utf8(&text).unwrap().find("3,two").unwrap();
        for cut in first..text.len() {
            std::fs::write(&path, &text[..cut]).unwrap();
            let lines: Vec<_> = Results::open(&path).unwrap().there.iter().map(|there| there.0).collect();
            assert_eq!(lines, [2], "cut at {cut}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn results_and_key_are_for_their_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.csv");
        drop(Results::open(&path).unwrap());
        for file in [&path, &beside(&path)] {
            assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
