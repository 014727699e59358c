//! `audit show`.

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde_json::json;

use super::{Caller, DEADLINE, entry_json, read_key};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::merkle::{Hash, leaf_hash};
use crate::audit::note::VerifyingKey;
use crate::audit::proof::verify_inclusion;
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
        let request =
            proto::GetEntryRequest { context: Some(client.context(&self.caller.purpose)), index: self.index };
        let response = client.audit().get_entry(client.request(request, DEADLINE)).await;
        let response = response.map_err(|status| explain(&status))?.into_inner();
        let stored = response.entry.ok_or_else(|| anyhow!("the gateway answered without an entry"))?;
        let proven = match &self.key {
            None => None,
            Some(key) => Some(prove(&client, &self.caller.purpose, &stored, &read_key(key)?).await?),
        };
        let mut value = entry_json(&stored)?;
        if let (Some(size), Some(object)) = (proven, value.as_object_mut()) {
            object.insert("proven_in_tree_of_size".to_owned(), json!(size));
        }
        say_json(&value);
        if let (Some(size), false) = (proven, self.json) {
            say(format_args!("proven: this entry is in the signed log of {size} entries"));
        }
        Ok(())
    }
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
