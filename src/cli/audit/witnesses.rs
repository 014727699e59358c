//! What witnesses have signed, as `audit verify` reports it.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::audit::bundle::Wanted;
use crate::audit::checkpoint::Checkpoint;
use crate::audit::cosignature::CosignerKey;
use crate::audit::note::{NoteError, VerifyingKey};
use crate::cli::output::say;

/// Which witnesses are trusted, and how many are needed.
#[derive(Debug, Args)]
pub(super) struct Trusted {
    /// A witness's public key, or a file with it, as `witness init` printed it. May be given several times; the report
    /// says what each has signed, and when.
    #[arg(long = "witness", value_name = "KEY")]
    witnesses: Vec<String>,
    /// How many of them must have signed one and the same checkpoint that the log contains.
    #[arg(long, value_name = "N", requires = "witnesses")]
    quorum: Option<usize>,
}

/// The report on the witnesses.
pub(super) struct Witnessed {
    /// Each witness: its name, and size and time of the newest checkpoint that it signed.
    signed: Vec<(String, Option<(u64, Timestamp)>)>,
    /// Signatures said to be by a witness that do not verify.
    pub(super) findings: Vec<String>,
    /// The largest checkpoint that enough have signed.
    cosigned: Option<u64>,
    wanted: Option<usize>,
}

impl Trusted {
    /// The witnesses of a single checkpoint: unless a quorum says otherwise, all of them must have signed it.
    pub(super) fn wanted(&self, log: &VerifyingKey) -> anyhow::Result<Wanted> {
        let keys = self.keys(log)?;
        Ok(Wanted { quorum: self.quorum.unwrap_or(keys.len()), keys })
    }

    fn keys(&self, log: &VerifyingKey) -> anyhow::Result<Vec<CosignerKey>> {
        let mut keys: Vec<CosignerKey> = Vec::new();
        for given in &self.witnesses {
            let text = if std::path::Path::new(given).is_file() {
                std::fs::read_to_string(given).with_context(|| format!("cannot read {given}"))?
            } else {
                given.clone()
            };
            let key: CosignerKey = text.trim().parse().context(
                "--witness takes a witness's public key as `witness init` prints it, or a file with it",
            )?;
            if keys.iter().any(|known| known.public_key() == key.public_key())
                || key.public_key() == log.public_key()
            {
                bail!(
                    "witness {} has a key that counts already: a quorum must be of different parties",
                    key.name()
                );
            }
            keys.push(key);
        }
        if self.quorum.is_some_and(|quorum| quorum == 0 || quorum > keys.len()) {
            bail!("--quorum must be at least 1 and at most the number of witnesses given");
        }
        Ok(keys)
    }

    /// Looks through checkpoints of the log for the witnesses' signatures. That the log contains the checkpoints is for
    /// the caller to verify.
    pub(super) fn examine(&self, notes: &[String], log: &VerifyingKey) -> anyhow::Result<Witnessed> {
        let keys = self.keys(log)?;
        let mut witnessed = Witnessed {
            signed: keys.iter().map(|key| (key.name().to_owned(), None)).collect(),
            findings: Vec::new(),
            cosigned: None,
            wanted: self.quorum,
        };
        // Lines under one checkpoint may come in several notes: what counts is who signed the same text.
        let mut opened: Vec<(Checkpoint, BTreeSet<usize>)> = Vec::new();
        for note in notes {
            let checkpoint = Checkpoint::open(note, log).context("a checkpoint with cosignatures")?;
            let place = match opened.iter().position(|(known, _)| *known == checkpoint) {
                Some(place) => place,
                None => {
                    opened.push((checkpoint, BTreeSet::new()));
                    opened.len() - 1
                }
            };
            let (checkpoint, signers) = &mut opened[place];
            for (number, key) in keys.iter().enumerate() {
                match key.find(note) {
                    Ok(found) => {
                        signers.insert(number);
                        let newest = &mut witnessed.signed[number].1;
                        if newest.is_none_or(|newest| newest < (checkpoint.size, found.time)) {
                            *newest = Some((checkpoint.size, found.time));
                        }
                    }
                    Err(NoteError::NotSigned) => {}
                    Err(error) => witnessed.findings.push(format!(
                        "signature of witness {} at {} entries: {error}",
                        key.name(),
                        checkpoint.size
                    )),
                }
            }
        }
        let quorum = self.quorum.unwrap_or(1);
        witnessed.cosigned = opened
            .iter()
            .filter(|(_, signers)| signers.len() >= quorum)
            .map(|(checkpoint, _)| checkpoint.size)
            .max();
        Ok(witnessed)
    }
}

impl Witnessed {
    /// What is missing of the quorum that was asked for.
    pub(super) fn shortfall(&self) -> Option<String> {
        let wanted = self.wanted.filter(|_| self.cosigned.is_none())?;
        Some(format!("no checkpoint has the cosignatures of {wanted} of the given witnesses"))
    }

    pub(super) fn say(&self) {
        for (name, signed) in &self.signed {
            match signed {
                Some((size, time)) => say(format_args!("witness {name} signed {size} entries at {time}")),
                None => say(format_args!("witness {name} has signed no checkpoint that is here")),
            }
        }
        if let (Some(size), Some(wanted)) = (self.cosigned, self.wanted) {
            say(format_args!("{size} entries have {wanted} cosignature(s) or more"));
        }
    }

    pub(super) fn json(&self) -> Value {
        let witnesses: Vec<Value> = self
            .signed
            .iter()
            .map(|(name, signed)| {
                json!({
                    "name": name,
                    "size": signed.map(|(size, _)| size),
                    "time": signed.map(|(_, time)| time.to_string()),
                })
            })
            .collect();
        json!({"witnesses": witnesses, "cosigned_entries": self.cosigned, "quorum": self.wanted})
    }
}
