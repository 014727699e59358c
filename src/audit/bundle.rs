//! The evidence of one exchange: its entries, a proof for each, the signed checkpoint that all proofs lead to, what was
//! opened of the entries' commitments, and the same in words.
//!
//! A bundle is a ZIP file that proves itself to whoever has the log's public key. Its parts are in public forms, so that
//! each can be checked alone with other people's tools:
//!
//! ```text
//! README.txt               what this is and how to check it, in Chinese and English
//! checkpoint.txt           signed note (C2SP tlog-checkpoint, tlog-cosignature)
//! disclosures/<I>.json     fields of entry I opened, each with its salt
//! entries/<I>.json         the exact bytes of entry I (RFC 8785)
//! manifest.json            what is in it, with SHA-256 digests
//! proofs/<I>.tlog-proof    C2SP tlog-proof of entry I
//! summary.en.txt           what happened, made from the entries alone
//! summary.zh-CN.txt
//! ```
//!
//! README and summaries are functions of the other parts, so that a verifier makes them again and compares: a person who
//! reads only these is told what the entries say, or warned. Their texts belong to the format's version.

pub mod container;
mod summary;
mod verify;

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use self::container::{ContainerError, Files};
pub use self::verify::{Report, Sentence, Wanted, Witnessing, verify};
use super::entry::{Commitment, Entry};
use super::merkle::Hash;
use super::receipt::TlogProof;

/// The version of the format: of layout, manifest and texts.
pub const FORMAT: &str = "legal-aid-evidence/1";

const README: &str = "README.txt";
const MANIFEST: &str = "manifest.json";
const CHECKPOINT: &str = "checkpoint.txt";
const SUMMARY_EN: &str = "summary.en.txt";
const SUMMARY_ZH: &str = "summary.zh-CN.txt";

/// All that a bundle is made of.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The exchange.
    pub exchange: Uuid,
    /// The signed note that every proof leads to, with all its signatures.
    pub checkpoint: String,
    /// When the bundle was made, by the clock of who asked for it.
    pub made_at: Timestamp,
    /// The agency that asked for it (credit code).
    pub asked_by: String,
    /// Entries of the exchange that are not the asker's to see.
    pub withheld: u64,
    /// Names of agencies by credit code, as the gateway's directory had them.
    pub agencies: BTreeMap<String, String>,
    /// The entries, in the order of the log.
    pub entries: Vec<ProvenEntry>,
    /// What was opened of them, in the order of the log.
    pub disclosures: Vec<Disclosure>,
}

/// An entry with the way from it to the root.
#[derive(Clone, Debug)]
pub struct ProvenEntry {
    /// Zero-based index.
    pub index: u64,
    /// Its exact bytes, canonical JSON.
    pub entry: String,
    /// Audit path from the leaf's sibling up (RFC 6962, section 2.1.1).
    pub hashes: Vec<Hash>,
}

/// What was opened of one entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disclosure {
    /// The fields that were asked for.
    pub fields: Vec<OpenedField>,
    /// Index of the entry, in decimal.
    pub index: String,
    /// What took salts of the entry away, as the gateway says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<Removed>,
}

/// One field of an entry, opened as far as it can be.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenedField {
    /// Why there is no salt or no value, in UPPER_SNAKE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<String>,
    /// Which: `operator_name`, `subject`, `request` or `response`.
    pub field: String,
    /// The salt, in lower hex: the key of the commitment's HMAC-SHA256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// The value, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// The value may be a person's.
impl std::fmt::Debug for OpenedField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenedField").field("field", &self.field).finish_non_exhaustive()
    }
}

/// What took something of an entry away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removed {
    /// When.
    pub at: Timestamp,
    /// The agency that asked for it (credit code).
    pub by: String,
}

/// What is in a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: String,
    exchange: Uuid,
    /// The log's origin, as the checkpoint names it.
    origin: String,
    /// Entries under the checkpoint, in decimal.
    tree_size: String,
    made_at: Timestamp,
    asked_by: String,
    /// In decimal.
    withheld: String,
    agencies: BTreeMap<String, String>,
    /// Every other file.
    files: Vec<FileDigest>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileDigest {
    name: String,
    /// Lower hex.
    sha256: String,
}

/// Why a bundle cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// An entry is not one.
    #[error("entry {0} cannot be read")]
    Entry(u64),
    /// The checkpoint has no origin or size.
    #[error("the checkpoint cannot be read")]
    Checkpoint,
    /// Something is not JSON.
    #[error("a part cannot be written as json")]
    Json(#[from] serde_json::Error),
    /// The container.
    #[error(transparent)]
    Container(#[from] ContainerError),
}

impl Evidence {
    /// The bundle as a file: the same bytes for the same evidence.
    ///
    /// # Errors
    /// [`BundleError`] when an entry or the checkpoint cannot be read, or there is too much.
    pub fn to_zip(&self) -> Result<Vec<u8>, BundleError> {
        Ok(container::write(&self.files()?)?)
    }

    fn files(&self) -> Result<Files, BundleError> {
        let mut files = Files::new();
        let mut entries = Vec::with_capacity(self.entries.len());
        for ProvenEntry { index, entry, hashes } in &self.entries {
            let read = Entry::from_json(entry.as_bytes()).map_err(|_| BundleError::Entry(*index))?;
            entries.push((*index, read));
            let (index, hashes, checkpoint) = (*index, hashes.clone(), self.checkpoint.clone());
            let proof = TlogProof { index, hashes, checkpoint };
            files.insert(entry_file(index), entry.clone().into_bytes());
            files.insert(proof_file(index), proof.to_text().into_bytes());
        }
        for disclosure in &self.disclosures {
            files.insert(disclosure_file(&disclosure.index), json(disclosure)?);
        }
        files.insert(CHECKPOINT.to_owned(), self.checkpoint.clone().into_bytes());
        let (origin, tree_size) = head_of(&self.checkpoint).ok_or(BundleError::Checkpoint)?;
        files.insert(README.to_owned(), summary::readme(origin).into_bytes());
        for (name, text) in
            [(SUMMARY_EN, summary::english(self, &entries)), (SUMMARY_ZH, summary::chinese(self, &entries))]
        {
            files.insert(name.to_owned(), text.into_bytes());
        }
        let manifest = Manifest {
            format: FORMAT.to_owned(),
            exchange: self.exchange,
            origin: origin.to_owned(),
            tree_size: tree_size.to_string(),
            made_at: self.made_at,
            asked_by: self.asked_by.clone(),
            withheld: self.withheld.to_string(),
            agencies: self.agencies.clone(),
            files: files
                .iter()
                .map(|(name, content)| FileDigest { name: name.clone(), sha256: digest(content) })
                .collect(),
        };
        files.insert(MANIFEST.to_owned(), json(&manifest)?);
        Ok(files)
    }
}

/// The entries that end a call which is about an exchange do not all name it in their beginning: the call that opens an
/// exchange cannot know its id. Gives, for each entry, whether it is of the exchange by itself or by its end.
fn of_exchange(entries: &[(u64, Entry)], exchange: Uuid) -> Vec<bool> {
    let ended: std::collections::BTreeSet<u64> = entries
        .iter()
        .filter(|(_, entry)| entry.exchange == Some(exchange))
        .filter_map(|(_, entry)| entry.request_index)
        .collect();
    entries
        .iter()
        .map(|(index, entry)| {
            entry.exchange == Some(exchange) || (entry.exchange.is_none() && ended.contains(index))
        })
        .collect()
}

/// What an entry commits to under a field's name.
fn committed<'e>(entry: &'e Entry, field: &str) -> Option<&'e Commitment> {
    match field {
        "operator_name" => entry.operator_name.as_ref(),
        "subject" => entry.subject_commitment.as_ref(),
        "request" => entry.request_commitment.as_ref(),
        "response" => entry.response_commitment.as_ref(),
        _ => None,
    }
}

/// Origin and size of a note that nobody has verified yet.
fn head_of(note: &str) -> Option<(&str, u64)> {
    let mut lines = note.lines();
    let origin = lines.next().filter(|line| !line.is_empty())?;
    Some((origin, lines.next()?.parse().ok()?))
}

fn entry_file(index: u64) -> String {
    format!("entries/{index}.json")
}

fn proof_file(index: u64) -> String {
    format!("proofs/{index}.tlog-proof")
}

fn disclosure_file(index: &str) -> String {
    format!("disclosures/{index}.json")
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    Ok(text)
}

fn digest(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests;
