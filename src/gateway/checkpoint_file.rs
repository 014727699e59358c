//! The newest checkpoint, kept beside the database, so that a restored backup is noticed.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use crate::fault;

/// The kept checkpoint; `None` when there is none yet.
pub(super) fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(note) => Ok(Some(note)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Keeps a checkpoint. A crash leaves the old file or the new one, never half of one.
pub(super) fn write(path: &Path, note: &str) -> io::Result<()> {
    fault::end_point("checkpoint.begin");
    let fresh = path.with_extension("new");
    let mut file = fs::File::create(&fresh)?;
    file.write_all(note.as_bytes())?;
    file.sync_data()?;
    fault::end_point("checkpoint.written");
    fs::rename(fresh, path)
}
