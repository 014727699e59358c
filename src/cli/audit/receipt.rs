//! `audit receipt`, and what `audit verify` says of one.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde_json::{Value, json};

use super::{DEADLINE, create_new, read_key};
use crate::audit::entry::Entry;
use crate::audit::note::VerifyingKey;
use crate::audit::receipt::{RECEIPT_HEAD, Receipt, TlogProof};
use crate::cli::output::{explain, say, say_json};
use crate::client::AgencyClient;
use crate::clock::Clock;
use crate::grpc::proto;
use crate::setup::purposes;

/// Arguments of `audit receipt`.
#[derive(Debug, Args)]
pub(in crate::cli) struct GetReceipt {
    /// The agency's profile, as `init` makes it.
    #[arg(long = "as", value_name = "FILE")]
    profile: PathBuf,
    /// Purpose code of an agreement that allows GetReceipt, such as FEE_WAIVER for a centre.
    #[arg(long, default_value = purposes::AUDIT_INSPECTION)]
    purpose: String,
    /// The entry's index, as the answer to the call named it.
    index: u64,
    /// The file to write; it must not be there yet.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The log's public key (or a file with it): the receipt is checked before it is written.
    #[arg(long)]
    key: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl GetReceipt {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let client = AgencyClient::load(&self.profile, Clock::system())?;
        let receipt = fetch_receipt(&client, &self.purpose, self.index).await?;
        if let Some(key) = &self.key {
            receipt.verify(&read_key(key)?).context("the gateway's receipt proves nothing; keep no copy")?;
        }
        let path = self.out.display();
        let mut file = create_new(&self.out)?;
        file.write_all(receipt.to_text().as_bytes())?;
        file.sync_all()?;
        if self.json {
            say_json(&json!({"file": self.out, "index": self.index, "checked": self.key.is_some()}));
        } else {
            say(format_args!("receipt of entry {} in {path}", self.index));
            say("keep it with the log's public key; who has both needs nobody else to check it:");
            say(format_args!("verify: legal-aid-gateway audit verify {path} --key KEY"));
        }
        Ok(())
    }
}

/// Gets the receipt of an entry. Whether it proves anything is not looked at yet.
pub(in crate::cli) async fn fetch_receipt(
    client: &AgencyClient,
    purpose: &str,
    index: u64,
) -> anyhow::Result<Receipt> {
    let request = proto::GetReceiptRequest { context: Some(client.context(purpose)), index };
    let answer = client.audit().get_receipt(client.request(request, DEADLINE)).await;
    let answer = answer.map_err(|status| explain(&status))?.into_inner();
    let proof = TlogProof::parse(&answer.proof).context("the gateway's proof cannot be read")?;
    let receipt = Receipt::new(answer.entry, proof).filter(|receipt| receipt.proof.index == index);
    receipt.ok_or_else(|| anyhow!("the gateway gave another entry than was asked for"))
}

/// Bytes of a receipt that are read: an entry of 16 KiB, and a checkpoint with many signatures.
const MOST: u64 = 1024 * 1024;

/// The receipt in a file, or `None` if the file is something else.
pub(super) fn read_receipt(path: &Path) -> anyhow::Result<Option<Receipt>> {
    let cannot_read = || format!("cannot read {}", path.display());
    let mut file = std::fs::File::open(path).with_context(cannot_read)?.take(MOST);
    let mut bytes = vec![0; RECEIPT_HEAD.len()];
    if file.read_exact(&mut bytes).is_err() || bytes != RECEIPT_HEAD.as_bytes() {
        return Ok(None);
    }
    file.read_to_end(&mut bytes).with_context(cannot_read)?;
    let text = String::from_utf8(bytes).context("the receipt is not text")?;
    Ok(Some(Receipt::parse(&text)?))
}

/// What a receipt does not prove, whatever it holds.
const NOT_PROVEN: [&str; 4] = [
    "that what the entry says is true: the gateway wrote it, and its times are those of the gateway's clock",
    "what was asked and answered: the entry holds only commitments, which their salts open",
    "that nothing is missing from the log before or after this entry: `audit verify` of the whole log shows that",
    "that others are shown the same log: compare the checkpoint with one that an auditor kept",
];

/// Checks a receipt and says in plain words what it proves.
pub(super) fn verify_receipt(receipt: &Receipt, key: &VerifyingKey, as_json: bool) -> anyhow::Result<()> {
    let checkpoint = receipt.verify(key).context("the receipt proves nothing")?;
    let index = receipt.proof.index;
    if as_json {
        let entry: Value = serde_json::from_str(&receipt.entry).context("the entry is not JSON")?;
        say_json(&json!({
            "proven": true,
            "index": index,
            "log": checkpoint.origin,
            "checkpoint_size": checkpoint.size,
            "root": checkpoint.root.to_base64(),
            "entry": entry,
            "not_proven": NOT_PROVEN,
        }));
        return Ok(());
    }
    say(format_args!("entry {index} of the log {}", checkpoint.origin));
    match Entry::from_json(receipt.entry.as_bytes()) {
        Ok(entry) => describe(&entry),
        Err(_) => say(format_args!("  of a schema that this version does not know: {}", receipt.entry)),
    }
    say(format_args!(
        "PROVEN: this entry, byte for byte, is number {index} (from zero) of the log, as its key signed it in a \
         checkpoint of {} entries. Nobody can change or remove it without contradicting that signature.",
        checkpoint.size
    ));
    for what in NOT_PROVEN {
        say(format_args!("NOT PROVEN: {what}."));
    }
    Ok(())
}

fn describe(entry: &Entry) {
    let or_none = |value: Option<&str>| value.unwrap_or("-").to_owned();
    say(format_args!("  recorded     {}", entry.recorded));
    say(format_args!("  what         {} of {}", entry.phase.as_str(), entry.method));
    say(format_args!("  caller       {}", or_none(entry.caller.as_deref())));
    say(format_args!("  counterpart  {}", or_none(entry.counterpart.as_deref())));
    say(format_args!("  code         {}", or_none(entry.code.as_deref())));
    if let Some(exchange) = entry.exchange {
        say(format_args!("  exchange     {exchange}"));
    }
}
