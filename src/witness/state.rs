//! What a witness remembers, on the disk before it signs.
//!
//! In the state folder each log has one file, `<16 hex digits>.checkpoint`, with the newest checkpoint as the log signed
//! it; the digits are of a hash of the origin. `evidence/` holds pairs of what contradicts: `….held` is the checkpoint
//! that the witness had, `….presented` the whole request with the other one.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use data_encoding::HEXLOWER;

use super::WitnessError;
use crate::audit::checkpoint::Checkpoint;
use crate::audit::merkle::leaf_hash;
use crate::audit::note::{NoteError, VerifyingKey};
use crate::audit::witness::{AddCheckpoint, Judgement, judge};

/// Pairs of evidence of one sort kept of one log: the first say it all, and a log gone wrong must not fill the witness's
/// disk. Anybody who is let in can send false proofs, so these never take the place of a proven fork.
const MOST_EVIDENCE: usize = 100;

/// The witness's memory of all its logs.
pub(super) struct Notebook {
    folder: PathBuf,
    pages: BTreeMap<String, Page>,
    _lock: File,
}

/// One log.
struct Page {
    keys: Vec<VerifyingKey>,
    /// What the log's files are called.
    name: String,
    /// Held from the judgement until the file is durable: the two must be one step.
    newest: Mutex<Option<Newest>>,
}

struct Newest {
    checkpoint: Checkpoint,
    note: String,
}

/// What came of a request.
pub(super) enum Kept {
    /// Nobody follows that log here.
    UnknownOrigin,
    /// It is to be cosigned, and the disk did not take it: it must not be.
    NotWritten(io::Error),
    /// What the judgement is; if it is to be cosigned, the checkpoint is durable.
    Judged(Judgement),
}

impl Notebook {
    pub(super) fn open(
        folder: &Path,
        logs: BTreeMap<String, Vec<VerifyingKey>>,
    ) -> Result<Self, WitnessError> {
        let unusable = |path: &Path, source| WitnessError::State { path: path.to_owned(), source };
        fs::create_dir_all(folder.join("evidence")).map_err(|source| unusable(folder, source))?;
        let path = folder.join("lock");
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|source| unusable(&path, source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(WitnessError::InUse { path: folder.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(unusable(&path, source)),
        }
        let mut pages = BTreeMap::new();
        for (origin, keys) in logs {
            let name = name_of(&origin);
            let path = folder.join(format!("{name}.checkpoint"));
            let newest = match fs::read_to_string(&path) {
                Ok(note) => {
                    let checkpoint = open_by_any(&note, &keys).map_err(|source| WitnessError::Kept {
                        path,
                        origin: origin.clone(),
                        source,
                    })?;
                    Some(Newest { checkpoint, note })
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(source) => return Err(unusable(&path, source)),
            };
            pages.insert(origin, Page { keys, name, newest: Mutex::new(newest) });
        }
        Ok(Self { folder: folder.to_owned(), pages, _lock: lock })
    }

    /// Judges a request and, before it may be cosigned, makes its checkpoint the newest, durably.
    pub(super) fn consider(&self, origin: &str, request: &AddCheckpoint) -> Kept {
        let Some(page) = self.pages.get(origin) else { return Kept::UnknownOrigin };
        let mut newest = page.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let judgement = judge(request, &page.keys, newest.as_ref().map(|newest| &newest.checkpoint));
        match &judgement {
            Judgement::Cosign(checkpoint) => {
                let is_new = newest.as_ref().is_none_or(|newest| newest.checkpoint != *checkpoint);
                if is_new {
                    let path = self.folder.join(format!("{}.checkpoint", page.name));
                    if let Err(error) = replace(&path, &request.checkpoint) {
                        return Kept::NotWritten(error);
                    }
                    let checkpoint = checkpoint.clone();
                    *newest = Some(Newest { checkpoint, note: request.checkpoint.clone() });
                }
            }
            Judgement::Forked { .. } | Judgement::NotConsistent => {
                let sort = if judgement == Judgement::NotConsistent { "doubt" } else { "fork" };
                let held = newest.as_ref().map(|newest| newest.note.as_str()).unwrap_or_default();
                if let Err(error) =
                    self.keep_evidence(&format!("{}-{sort}", page.name), held, &request.to_text())
                {
                    tracing::error!(%error, "evidence of a fork cannot be kept; it follows");
                    tracing::error!(held, presented = request.checkpoint, "evidence");
                }
            }
            _ => {}
        }
        Kept::Judged(judgement)
    }

    /// Keeps a pair among those whose names begin with `sort`.
    fn keep_evidence(&self, sort: &str, held: &str, presented: &str) -> io::Result<()> {
        let folder = self.folder.join("evidence");
        let name = format!("{sort}-{}", name_of(&format!("{held}{presented}")));
        let path = folder.join(format!("{name}.presented"));
        if path.exists() {
            return Ok(());
        }
        let kept = fs::read_dir(&folder)?
            .filter_map(Result::ok)
            .filter(|file| file.file_name().to_string_lossy().starts_with(sort))
            .count();
        if kept >= 2 * MOST_EVIDENCE {
            return Ok(());
        }
        replace(&folder.join(format!("{name}.held")), held)?;
        replace(&path, presented)?;
        tracing::error!(path = %path.display(), "evidence kept, with the checkpoint held beside it");
        Ok(())
    }
}

fn open_by_any(note: &str, keys: &[VerifyingKey]) -> Result<Checkpoint, NoteError> {
    let mut reason = NoteError::NotSigned;
    for key in keys {
        match Checkpoint::open(note, key) {
            Ok(checkpoint) => return Ok(checkpoint),
            Err(error) => reason = error,
        }
    }
    Err(reason)
}

/// An origin may hold what a file's name may not.
fn name_of(text: &str) -> String {
    HEXLOWER.encode(&leaf_hash(text.as_bytes()).as_bytes()[..8])
}

/// Puts a text in the place of a file. A crash leaves the old one or the new one; when this returns, the new one stays.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let mut file = File::create(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    // The name is durable with the folder.
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::note::SigningKey;
    use crate::audit::tile::{TileSet, TileWriter};

    fn log() -> SigningKey {
        SigningKey::from_seed("log.example/with spaces?".replace(' ', "-").as_str(), &[3; 32]).unwrap()
    }

    fn logs() -> BTreeMap<String, Vec<VerifyingKey>> {
        BTreeMap::from([(log().name().to_owned(), vec![log().verifying_key().clone()])])
    }

    fn step(old: u64, new: u64) -> AddCheckpoint {
        let (mut tree, mut tiles) = (TileWriter::new(), TileSet::new());
        (0..new).for_each(|leaf| tree.append(leaf_hash(&leaf.to_be_bytes())));
        tree.take_dirty().into_iter().for_each(|(tile, hashes)| tiles.insert(tile, hashes));
        let (origin, root) = (log().name().to_owned(), tree.root());
        let checkpoint = Checkpoint { origin, size: new, root, extensions: Vec::new() }.sign(&log()).unwrap();
        AddCheckpoint { old_size: old, proof: tiles.consistency_proof(old, new).unwrap(), checkpoint }
    }

    fn is_cosigned(kept: &Kept) -> bool {
        matches!(kept, Kept::Judged(Judgement::Cosign(_)))
    }

    #[test]
    fn what_was_cosigned_is_remembered_by_the_next_witness_in_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let notebook = Notebook::open(folder.path(), logs()).unwrap();
        assert!(is_cosigned(&notebook.consider(log().name(), &step(0, 5))));
        assert!(is_cosigned(&notebook.consider(log().name(), &step(5, 9))));
        assert!(matches!(Notebook::open(folder.path(), logs()).err(), Some(WitnessError::InUse { .. })));
        drop(notebook);
        let again = Notebook::open(folder.path(), logs()).unwrap();
        let kept = again.consider(log().name(), &step(5, 12));
        assert!(matches!(kept, Kept::Judged(Judgement::OtherSize(9))));
        assert!(is_cosigned(&again.consider(log().name(), &step(9, 12))));
        assert!(matches!(again.consider("other.example", &step(0, 1)), Kept::UnknownOrigin));
    }

    #[test]
    fn a_witness_that_cannot_write_signs_nothing_and_remembers_what_it_had() {
        let folder = tempfile::tempdir().unwrap();
        let notebook = Notebook::open(folder.path(), logs()).unwrap();
        assert!(is_cosigned(&notebook.consider(log().name(), &step(0, 5))));
        // A folder where the new file would go: the disk refuses it, also to root.
        let name = format!("{}.checkpoint.new", name_of(log().name()));
        fs::create_dir(folder.path().join(&name)).unwrap();
        assert!(matches!(notebook.consider(log().name(), &step(5, 9)), Kept::NotWritten(_)));
        fs::remove_dir(folder.path().join(&name)).unwrap();
        assert!(is_cosigned(&notebook.consider(log().name(), &step(5, 9))));
    }

    #[test]
    fn a_kept_checkpoint_that_was_changed_or_is_of_another_key_is_not_taken_for_a_new_log() {
        let folder = tempfile::tempdir().unwrap();
        drop({
            let notebook = Notebook::open(folder.path(), logs()).unwrap();
            assert!(is_cosigned(&notebook.consider(log().name(), &step(0, 5))));
            notebook
        });
        let path = folder.path().join(format!("{}.checkpoint", name_of(log().name())));
        let note = fs::read_to_string(&path).unwrap();
        for spoilt in [String::new(), note.replace("\n5\n", "\n4\n"), note[..note.len() - 9].to_owned()] {
            fs::write(&path, spoilt).unwrap();
            let refused = Notebook::open(folder.path(), logs()).err();
            assert!(matches!(refused, Some(WitnessError::Kept { .. })));
        }
    }

    #[test]
    fn evidence_is_kept_once_and_not_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let notebook = Notebook::open(folder.path(), logs()).unwrap();
        assert!(is_cosigned(&notebook.consider(log().name(), &step(0, 5))));
        let count = || fs::read_dir(folder.path().join("evidence")).unwrap().count();
        let false_proof = AddCheckpoint { proof: Vec::new(), ..step(5, 9) };
        for _ in 0..3 {
            let kept = notebook.consider(log().name(), &false_proof);
            assert!(matches!(kept, Kept::Judged(Judgement::NotConsistent)));
        }
        assert_eq!(count(), 2);
        for size in 10..(20 + MOST_EVIDENCE as u64) {
            let kept = notebook.consider(log().name(), &AddCheckpoint { proof: Vec::new(), ..step(5, size) });
            assert!(matches!(kept, Kept::Judged(Judgement::NotConsistent)));
        }
        assert_eq!(count(), 2 * MOST_EVIDENCE);
        // However many false proofs were sent, a proven fork is kept.
        let other = Checkpoint {
            origin: log().name().to_owned(),
            size: 5,
            root: leaf_hash(b"other"),
            extensions: Vec::new(),
        };
        let fork = AddCheckpoint { old_size: 5, proof: Vec::new(), checkpoint: other.sign(&log()).unwrap() };
        let kept = notebook.consider(log().name(), &fork);
        assert!(matches!(kept, Kept::Judged(Judgement::Forked { .. })));
        assert_eq!(count(), 2 * MOST_EVIDENCE + 2);
    }
}
