//! `audit verify-fork`: two checkpoints that cannot both be honest.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde_json::json;

use super::read_key;
use crate::audit::checkpoint::Checkpoint;
use crate::audit::fork::{is_one_history, prove};
use crate::audit::merkle::Hash;
use crate::audit::note::VerifyingKey;
use crate::audit::witness::AddCheckpoint;
use crate::cli::output::{say, say_json};

/// Arguments of `audit verify-fork`.
#[derive(Debug, Args)]
#[command(after_help = "\
Two roots signed at one size prove a fork by themselves. At two sizes the consistency proof that the longer log gave is \
needed: a witness keeps it in the file *.presented of its folder state/evidence, with the checkpoint beside it in *.held. \
From a size that is a power of two no such proof convicts; ask for the log itself, and run `audit verify` on it with the \
other checkpoint as --checkpoint.

Exit code 0: the fork is proven. 1: it is not.")]
pub(in crate::cli) struct VerifyFork {
    /// A signed checkpoint, or a request as a witness keeps it.
    one: PathBuf,
    /// The other.
    other: PathBuf,
    /// The log's public key, or a file with it.
    #[arg(long)]
    key: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl VerifyFork {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let key = read_key(&self.key)?;
        let (one, of_one) = read(&self.one, &key)?;
        let (other, of_other) = read(&self.other, &key)?;
        let proofs = [of_one, of_other];
        let fork = proofs.iter().find_map(|proof| prove(&one, &other, proof));
        if let Some(fork) = fork {
            if self.json {
                say_json(&json!({"forked": true, "origin": key.name(), "why": fork.to_string()}));
            } else {
                say(format_args!("FORK PROVEN: the key of {} has signed two histories", key.name()));
                say(&fork);
                say("keep both files and the key: anybody can check this with them");
            }
            return Ok(());
        }
        let same = proofs.iter().any(|proof| is_one_history(&one, &other, proof));
        let why = if same {
            "the two checkpoints are of one history"
        } else {
            "these files do not prove it: at two sizes the longer log's consistency proof is needed (see --help)"
        };
        if self.json {
            say_json(&json!({"forked": false, "one_history": same, "origin": key.name(), "why": why}));
        }
        Err(anyhow!("no fork is proven: {why}"))
    }
}

/// A checkpoint, and the proof that came with it.
fn read(path: &Path, key: &VerifyingKey) -> anyhow::Result<(Checkpoint, Vec<Hash>)> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (note, proof) = match AddCheckpoint::parse(&text) {
        Ok(request) => (request.checkpoint, request.proof),
        Err(_) => (text, Vec::new()),
    };
    let checkpoint = Checkpoint::open(&note, key);
    let checkpoint =
        checkpoint.with_context(|| format!("{} proves nothing against that key", path.display()))?;
    Ok((checkpoint, proof))
}
