//! `audit show`.

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::{Caller, DEADLINE, entry_json, read_key};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::merkle::{Hash, leaf_hash};
use crate::audit::note::VerifyingKey;
use crate::audit::proof::verify_inclusion;
use crate::audit::removal::RemovalKind;
use crate::audit::verifier::RemovedRange;
use crate::cli::output::{explain, say, say_json};
use crate::client::AgencyClient;
use crate::clock::Clock;
use crate::grpc::proto;

/// Arguments of `audit show`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Show {
    #[command(flatten)]
    caller: Caller,
    /// The entry's index.
    index: u64,
    /// The log's public key (or a file with it): proves the entry.
    #[arg(long)]
    key: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = AgencyClient::load(&self.caller.profile, Clock::system())?;
        let purpose = &self.caller.purpose;
        let stored = fetch(&client, purpose, self.index).await?;
        let proven = match &self.key {
            None => None,
            Some(key) => {
                let key = read_key(key)?;
                let size = prove(&client, purpose, &stored, &key).await?;
                prove_removal(&client, purpose, &stored, &key).await?;
                Some(size)
            }
        };
        let mut value = entry_json(&stored)?;
        if let (Some(size), Some(object)) = (proven, value.as_object_mut()) {
            object.insert("proven_in_tree_of_size".to_owned(), json!(size));
        }
        say_json(&value);
        if let (Some(size), false) = (proven, self.json) {
            say(format_args!("proven: this entry is in the signed log of {size} entries"));
            if let Some(removed) = &stored.removed {
                say(format_args!("proven: entry {} tells of its removal", removed.log_index));
            }
        }
        Ok(())
    }
}

async fn fetch(client: &AgencyClient, purpose: &str, index: u64) -> anyhow::Result<proto::AuditEntry> {
    let request = proto::GetEntryRequest { context: Some(client.context(purpose)), index };
    let response = client.audit().get_entry(client.request(request, DEADLINE)).await;
    let response = response.map_err(|status| explain(&status))?.into_inner();
    response.entry.ok_or_else(|| anyhow!("the gateway answered without an entry"))
}

/// Proves what the gateway says took something of an entry away: another entry of the signed log tells of it.
async fn prove_removal(
    client: &AgencyClient,
    purpose: &str,
    stored: &proto::AuditEntry,
    key: &VerifyingKey,
) -> anyhow::Result<()> {
    let Some(removed) = &stored.removed else { return Ok(()) };
    let index = removed.log_index;
    let telling = fetch(client, purpose, index).await?;
    if telling.index != index {
        bail!("the gateway answered with entry {} for entry {index}", telling.index);
    }
    prove(client, purpose, &telling, key).await?;
    let told = RemovedRange::told_by(index, &telling.entry);
    let is_so = told.filter(|told| told.entries.contains(stored.index)).is_some_and(|told| {
        let at = removed.remove_time.as_ref().and_then(|at| Timestamp::new(at.seconds, at.nanos).ok());
        let is_kind =
            (told.kind == RemovalKind::Retention) == (removed.kind() == proto::RemovalKind::Retention);
        is_kind && at == Some(told.at) && told.by == removed.agency
    });
    if !is_so {
        bail!("entry {index} does not tell what the gateway says of the removal of entry {}", stored.index);
    }
    Ok(())
}

/// Proves that an entry is in the signed log; returns the size of that log.
pub(in crate::cli) async fn prove(
    client: &AgencyClient,
    purpose: &str,
    stored: &proto::AuditEntry,
    key: &VerifyingKey,
) -> anyhow::Result<u64> {
    let request = proto::GetInclusionProofRequest {
        context: Some(client.context(purpose)),
        index: stored.index,
        tree_size: 0,
    };
    let proof = client.audit().get_inclusion_proof(client.request(request, DEADLINE)).await;
    let proof = proof.map_err(|status| explain(&status))?.into_inner();
    let checkpoint = Checkpoint::open(&proof.checkpoint, key).context("the checkpoint does not verify")?;
    let hashes = proof.hashes.iter().map(|hash| Hash::from_slice(hash)).collect::<Result<Vec<_>, _>>()?;
    // The leaf is hashed here, from the entry's own bytes; nothing the gateway says about it is believed. Of a pruned
    // entry there is only the hash, which the proof still shows to be in the log.
    let leaf =
        if stored.entry.is_empty() { Hash::from_slice(&stored.leaf_hash)? } else { leaf_hash(&stored.entry) };
    verify_inclusion(&leaf, stored.index, checkpoint.size, &hashes, &checkpoint.root)
        .context("the entry is not in the signed log")?;
    Ok(checkpoint.size)
}
