//! Files that change while a process runs.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Files that are read together, and how they stood.
#[derive(Debug)]
pub struct WatchedFiles {
    paths: Vec<PathBuf>,
    read: Vec<Option<Stamp>>,
    seen: Vec<Option<Stamp>>,
}

/// What changes with a file: device, inode, length, and the time of its last change of any kind.
type Stamp = (u64, u64, u64, i64, i64);

impl WatchedFiles {
    /// How they stand now: taken before they are first read.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        let read = stamps(&paths);
        Self { paths, seen: read.clone(), read }
    }

    /// Whether they have changed since they were read, and stand still since the last look: a file that is being written, or a
    /// certificate whose key has not come yet, is not read in the middle of it.
    pub fn have_changed(&mut self) -> bool {
        let now = stamps(&self.paths);
        let settled = now == self.seen;
        self.seen = now;
        let changed = settled && self.seen != self.read;
        if changed {
            self.read.clone_from(&self.seen);
        }
        changed
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Option<Stamp>> {
    paths.iter().map(|path| stamp(path)).collect()
}

/// Of what the path leads to at last, links followed; `None` when there is nothing.
fn stamp(path: &Path) -> Option<Stamp> {
    let of = std::fs::metadata(path).ok()?;
    Some((of.dev(), of.ino(), of.size(), of.ctime(), of.ctime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_changed_once_they_stand_still_and_then_not_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.pem");
        std::fs::write(&path, "one").unwrap();
        let mut watched = WatchedFiles::new(vec![path.clone()]);
        assert!(!watched.have_changed(), "nothing has");
        std::fs::write(&path, "other").unwrap();
        assert!(!watched.have_changed(), "it may still be written");
        std::fs::write(&path, "another").unwrap();
        assert!(!watched.have_changed(), "it was");
        assert!(watched.have_changed(), "it stands");
        assert!(!watched.have_changed(), "it has been read");
        std::fs::remove_file(&path).unwrap();
        assert!(!watched.have_changed());
        assert!(watched.have_changed(), "a file that is gone has changed too");
    }

    #[test]
    fn a_file_replaced_by_another_of_its_length_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, new) = (folder.path().join("list.pem"), folder.path().join("new"));
        std::fs::write(&path, "one").unwrap();
        std::fs::write(&new, "two").unwrap();
        let before = stamp(&path);
        std::fs::rename(&new, &path).unwrap();
        assert_ne!(stamp(&path), before);
    }
}
