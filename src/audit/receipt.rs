//! Receipts: the proof of one entry that its holder can keep and check years later, without asking anybody.
//!
//! The proof is a C2SP `tlog-proof`. A receipt is a file that holds the entry's exact bytes before it, since a proof
//! says nothing about what was proven:
//!
//! ```text
//! legal-aid-audit-receipt/1
//! {"caller":…}                      the entry, one line of RFC 8785 canonical JSON
//!                                   an empty line
//! c2sp.org/tlog-proof@v1            from here to the end, the tlog-proof as it is
//! …
//! ```

use super::checkpoint::Checkpoint;
use super::merkle::{Hash, leaf_hash};
use super::note::{NoteError, VerifyingKey};
use super::proof::{ProofError, verify_inclusion};
use super::published::decimal;

/// First line of a receipt.
pub const RECEIPT_HEAD: &str = "legal-aid-audit-receipt/1";

/// First line of a proof.
const PROOF_HEAD: &str = "c2sp.org/tlog-proof@v1";

/// Hashes in the longest proof: a tree has at most 2^64 leaves.
const MOST_HASHES: usize = 64;

/// The proof that an entry is in the log, as C2SP `tlog-proof` writes it. What it may carry as extra data is not
/// signed and is left aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    /// Zero-based index of the entry.
    pub index: u64,
    /// Audit path from the leaf's sibling up (RFC 6962, section 2.1.1).
    pub hashes: Vec<Hash>,
    /// The signed note, with all its signatures.
    pub checkpoint: String,
}

/// An entry and its proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The entry's exact bytes, one line of text.
    pub entry: String,
    /// The proof.
    pub proof: TlogProof,
}

/// Why a receipt proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// It does not have the lines of a receipt.
    #[error("not a receipt: it has a line {RECEIPT_HEAD}, the entry, an empty line, and the proof")]
    NotAReceipt,
    /// It does not have the lines of a proof.
    #[error("not a proof of the form {PROOF_HEAD}: its {0} cannot be read")]
    NotAProof(&'static str),
    /// The checkpoint does not verify.
    #[error("the checkpoint in it cannot be used: {0}")]
    Checkpoint(#[from] NoteError),
    /// The proof does not lead from the entry to the checkpoint.
    #[error("the entry is not what the checkpoint signs: {0}")]
    Proof(#[from] ProofError),
}

impl TlogProof {
    /// The proof as text.
    pub fn to_text(&self) -> String {
        let mut text = format!("{PROOF_HEAD}\nindex {}\n", self.index);
        for hash in &self.hashes {
            text.push_str(&hash.to_base64());
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.checkpoint);
        text
    }

    /// Reads a proof.
    ///
    /// # Errors
    /// [`ReceiptError::NotAProof`]. Whether it proves anything is for [`TlogProof::verify`] to say.
    pub fn parse(text: &str) -> Result<Self, ReceiptError> {
        let (head, checkpoint) = text.split_once("\n\n").ok_or(ReceiptError::NotAProof("checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(PROOF_HEAD) {
            return Err(ReceiptError::NotAProof("first line"));
        }
        lines.next_if(|line| line.starts_with("extra "));
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(decimal);
        let index = index.ok_or(ReceiptError::NotAProof("index"))?;
        let hashes = lines.map(Hash::from_base64).collect::<Result<Vec<_>, _>>();
        let hashes = hashes.map_err(|_| ReceiptError::NotAProof("hashes"))?;
        if hashes.len() > MOST_HASHES {
            return Err(ReceiptError::NotAProof("hashes"));
        }
        Ok(Self { index, hashes, checkpoint: checkpoint.to_owned() })
    }

    /// Checks that `entry` is at the proof's index in the log that `key` signs. Returns the checkpoint that it is
    /// proven against.
    ///
    /// # Errors
    /// [`ReceiptError::Checkpoint`] or [`ReceiptError::Proof`].
    pub fn verify(&self, entry: &[u8], key: &VerifyingKey) -> Result<Checkpoint, ReceiptError> {
        let checkpoint = Checkpoint::open(&self.checkpoint, key)?;
        verify_inclusion(&leaf_hash(entry), self.index, checkpoint.size, &self.hashes, &checkpoint.root)?;
        Ok(checkpoint)
    }
}

impl Receipt {
    /// The receipt of an entry, if that is one line of text, as every canonical entry is.
    pub fn new(entry: Vec<u8>, proof: TlogProof) -> Option<Self> {
        let entry = String::from_utf8(entry).ok().filter(|entry| !entry.contains('\n'))?;
        Some(Self { entry, proof })
    }

    /// The receipt as a file.
    pub fn to_text(&self) -> String {
        format!("{RECEIPT_HEAD}\n{}\n\n{}", self.entry, self.proof.to_text())
    }

    /// Reads a receipt.
    ///
    /// # Errors
    /// [`ReceiptError::NotAReceipt`] or [`ReceiptError::NotAProof`].
    pub fn parse(text: &str) -> Result<Self, ReceiptError> {
        let rest = text.strip_prefix(RECEIPT_HEAD).and_then(|rest| rest.strip_prefix('\n'));
        let (entry, proof) =
            rest.and_then(|rest| rest.split_once("\n\n")).ok_or(ReceiptError::NotAReceipt)?;
        if entry.contains('\n') {
            return Err(ReceiptError::NotAReceipt);
        }
        Ok(Self { entry: entry.to_owned(), proof: TlogProof::parse(proof)? })
    }

    /// Checks it. Returns the checkpoint that the entry is proven against.
    ///
    /// # Errors
    /// As [`TlogProof::verify`].
    pub fn verify(&self, key: &VerifyingKey) -> Result<Checkpoint, ReceiptError> {
        self.proof.verify(self.entry.as_bytes(), key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::note::SigningKey;
    use crate::audit::tile::{TileSet, TileWriter};

    fn key() -> SigningKey {
        SigningKey::from_seed("legal-aid.example/audit", &[9; 32]).unwrap()
    }

    /// The receipt of entry 5 in a log of 11.
    fn receipt() -> Receipt {
        let entry = |index: u64| format!("{{\"n\":\"{index}\"}}");
        let mut writer = TileWriter::new();
        (0..11).for_each(|index| writer.append(leaf_hash(entry(index).as_bytes())));
        let mut tiles = TileSet::new();
        writer.take_dirty().into_iter().for_each(|(tile, hashes)| tiles.insert(tile, hashes));
        let key = key();
        let checkpoint =
            Checkpoint { origin: key.name().to_owned(), size: 11, root: writer.root(), extensions: vec![] };
        let proof = TlogProof {
            index: 5,
            hashes: tiles.inclusion_proof(5, 11).unwrap(),
            checkpoint: checkpoint.sign(&key).unwrap(),
        };
        Receipt::new(entry(5).into_bytes(), proof).unwrap()
    }

    #[test]
    fn a_receipt_comes_back_from_its_file_and_proves_its_entry() {
        let text = receipt().to_text();
        let again = Receipt::parse(&text).unwrap();
        assert_eq!(again, receipt());
        assert_eq!(again.verify(key().verifying_key()).unwrap().size, 11);
        // The proof stands in it as another tool would write it, from the fourth line on.
        let proof: Vec<&str> = text.split_inclusive('\n').skip(3).collect();
        assert_eq!(proof.concat(), again.proof.to_text());
        assert_eq!(proof[..2], ["c2sp.org/tlog-proof@v1\n", "index 5\n"]);
    }

    #[test]
    fn extra_data_is_read_over_and_not_believed() {
        let text = receipt().proof.to_text().replacen("\nindex", "\nextra aGVsbG8=\nindex", 1);
        assert_eq!(TlogProof::parse(&text).unwrap(), receipt().proof);
    }

    #[test]
    fn a_receipt_with_any_byte_changed_proves_nothing() {
        let (text, key) = (receipt().to_text(), key());
        for position in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[position] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            let proven = Receipt::parse(&changed).and_then(|receipt| receipt.verify(key.verifying_key()));
            assert!(proven.is_err(), "byte {position}");
        }
    }

    #[test]
    fn another_log_s_key_and_half_a_file_are_refused() {
        let other = SigningKey::from_seed("other.example/audit", &[9; 32]).unwrap();
        let refused = receipt().verify(other.verifying_key());
        assert_eq!(refused, Err(ReceiptError::Checkpoint(NoteError::NotSigned)));
        let text = receipt().to_text();
        for length in 0..text.len() {
            let Some(half) = text.get(..length) else { continue };
            let proven = Receipt::parse(half).and_then(|receipt| receipt.verify(key().verifying_key()));
            assert!(proven.is_err(), "{length} bytes");
        }
        assert!(Receipt::new(b"{\n}".to_vec(), receipt().proof).is_none());
    }
}
