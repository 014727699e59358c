//! Checkpoints (C2SP `tlog-checkpoint`): the signed statement of how long the log is and what it holds.

use super::merkle::Hash;
use super::note::{NoteError, SigningKey, VerifyingKey, is_key_name};

/// What the log's key signs: at `size` entries, the tree's root is `root`.
///
/// Its text is three lines, `origin`, `size` in decimal and `root` in base64, and one more for each
/// extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log: the name of its key.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Merkle tree hash of the entries (RFC 6962, section 2.1).
    pub root: Hash,
    /// Further lines, none of them empty; `tlog-checkpoint` advises against having any.
    pub extensions: Vec<String>,
}

impl Checkpoint {
    /// The checkpoint as a signed note.
    ///
    /// # Errors
    /// [`NoteError`] for a checkpoint that [`Checkpoint::open`] would not give back: its origin is not the
    /// name of the key, or an extension is empty, has line breaks or control characters.
    pub fn sign(&self, key: &SigningKey) -> Result<String, NoteError> {
        let text = self.text();
        // An extension with a line break in it would sign lines that nobody meant to be there.
        if parse(&text, key.name())? != *self {
            return Err(NoteError::NotACheckpoint("extension"));
        }
        key.sign(&text)
    }

    /// Verifies a signed note and reads the checkpoint in it. Signatures by other keys, such as those of
    /// witnesses, are ignored.
    ///
    /// # Errors
    /// [`NoteError`] if the note is malformed or not signed by `key`, or what it signs is not a checkpoint of
    /// that key's log.
    pub fn open(note: &str, key: &VerifyingKey) -> Result<Self, NoteError> {
        parse(key.open(note)?, key.name())
    }

    /// The checkpoint in a note whose signatures are not looked at: it proves nothing, and says what to fetch.
    ///
    /// # Errors
    /// [`NoteError`] if the note is not a checkpoint.
    pub fn read_unverified(note: &str) -> Result<Self, NoteError> {
        let (before, _) = note.split_once("\n\n").ok_or(NoteError::Malformed)?;
        parse(&note[..=before.len()], before.split('\n').next().unwrap_or_default())
    }

    /// The origin that a note's first line names; nothing is verified yet.
    pub fn origin_of(note: &str) -> Option<&str> {
        note.split('\n').next().filter(|line| !line.is_empty())
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n{}\n{}\n", self.origin, self.size, self.root.to_base64());
        for extension in &self.extensions {
            text.push_str(extension);
            text.push('\n');
        }
        text
    }
}

fn parse(text: &str, key_name: &str) -> Result<Checkpoint, NoteError> {
    let mut lines = text.strip_suffix('\n').ok_or(NoteError::Malformed)?.split('\n');
    let origin = lines.next().unwrap_or_default();
    if origin != key_name {
        return Err(NoteError::OriginDiffers);
    }
    // The origin of a note whose signatures are not looked at may be anything; no key could have such a name.
    if !is_key_name(origin) {
        return Err(NoteError::NotACheckpoint("origin"));
    }
    let size = lines.next().and_then(parse_size).ok_or(NoteError::NotACheckpoint("size"))?;
    let root = lines.next().and_then(|line| Hash::from_base64(line).ok());
    let root = root.ok_or(NoteError::NotACheckpoint("root"))?;
    let extensions: Vec<String> = lines.map(str::to_owned).collect();
    if extensions.iter().any(String::is_empty) {
        return Err(NoteError::NotACheckpoint("extension"));
    }
    Ok(Checkpoint { origin: origin.to_owned(), size, root, extensions })
}

/// A decimal number in its only spelling: digits, no sign, no leading zeros.
fn parse_size(line: &str) -> Option<u64> {
    let size: u64 = line.parse().ok()?;
    (size.to_string() == line).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::merkle::empty_root;

    fn key() -> SigningKey {
        SigningKey::from_seed("legal-aid.example/audit", &[3; 32]).unwrap()
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            origin: "legal-aid.example/audit".to_owned(),
            size: 20_852_163,
            root: empty_root(),
            extensions: Vec::new(),
        }
    }

    #[test]
    fn a_checkpoint_comes_back_from_its_note() {
        let with_extensions =
            Checkpoint { extensions: vec!["one".to_owned(), "two words".to_owned()], ..checkpoint() };
        for checkpoint in [checkpoint(), with_extensions, Checkpoint { size: 0, ..checkpoint() }] {
            let note = checkpoint.sign(&key()).unwrap();
            assert_eq!(Checkpoint::open(&note, key().verifying_key()), Ok(checkpoint));
        }
    }

    #[test]
    fn a_checkpoint_reads_as_the_specification_shows_it() {
        let note = checkpoint().sign(&key()).unwrap();
        let expected = "legal-aid.example/audit\n20852163\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\
            \n\u{2014} legal-aid.example/audit ";
        assert!(note.starts_with(expected), "{note}");
    }

    #[test]
    fn a_checkpoint_that_would_not_open_is_not_signed() {
        let elsewhere = Checkpoint { origin: "other.example".to_owned(), ..checkpoint() };
        assert_eq!(elsewhere.sign(&key()), Err(NoteError::OriginDiffers));
        for extension in ["", "\n", "two\nlines", "\n\u{2014} forged AAAA", "bell\u{7}", "carriage\rreturn"] {
            let extended = Checkpoint { extensions: vec![extension.to_owned()], ..checkpoint() };
            assert!(extended.sign(&key()).is_err(), "{extension:?}");
        }
    }

    #[test]
    fn only_the_exact_spelling_of_a_checkpoint_is_read() {
        let root = empty_root().to_base64();
        let open = |text: String| Checkpoint::open(&key().sign(&text).unwrap(), key().verifying_key());
        let origin = "legal-aid.example/audit";
        assert!(open(format!("{origin}\n7\n{root}\n")).is_ok());
        for size in ["", "07", "00", "+7", "-7", " 7", "7 ", "0x7", "7.0", "18446744073709551616"] {
            let refused = open(format!("{origin}\n{size}\n{root}\n"));
            assert_eq!(refused, Err(NoteError::NotACheckpoint("size")), "{size:?}");
        }
        for root in ["", "AAAA", &root[..43], &format!("{root} "), &root.replace("FU=", "FV=")] {
            let refused = open(format!("{origin}\n7\n{root}\n"));
            assert_eq!(refused, Err(NoteError::NotACheckpoint("root")), "{root:?}");
        }
        assert_eq!(open(format!("{origin}\n7\n{root}\n\nx\n")), Err(NoteError::NotACheckpoint("extension")));
        assert_eq!(open(format!("other\n7\n{root}\n")), Err(NoteError::OriginDiffers));
        assert_eq!(open(format!("{origin}\n7\n")), Err(NoteError::NotACheckpoint("root")));
        assert_eq!(open(format!("{origin}\n")), Err(NoteError::NotACheckpoint("size")));
    }

    #[test]
    fn a_note_that_no_key_could_have_signed_is_no_checkpoint_even_unverified() {
        let unverified = |origin| {
            let text = format!("{origin}\n7\n{}\n\n\u{2014} a AAAA\n", empty_root().to_base64());
            Checkpoint::read_unverified(&text).map(|checkpoint| checkpoint.origin)
        };
        assert_eq!(unverified("log.example").as_deref(), Ok("log.example"));
        for origin in ["", "log.example\r", "log example", "log+example"] {
            assert_eq!(unverified(origin), Err(NoteError::NotACheckpoint("origin")), "{origin:?}");
        }
    }
}
