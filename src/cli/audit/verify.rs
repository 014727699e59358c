//! Offline verification of a database file or an export.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, anyhow};

use super::export::{read_checkpoint, read_entries};
use crate::audit::log::Storage as _;
use crate::audit::note::VerifyingKey;
use crate::audit::verifier::{Report, Verifier, verify_log};
use crate::store::Store;

const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

/// Entries read from a database at once.
const CHUNK: u32 = 1024;

/// Verifies the log in a file under the log's public key, and that it contains the earlier checkpoints.
pub(crate) async fn verify_path(
    path: &Path,
    key: &VerifyingKey,
    earlier: &[String],
) -> anyhow::Result<Report> {
    let mut magic = Vec::new();
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let begin = file.take(SQLITE_MAGIC.len() as u64).read_to_end(&mut magic);
    begin.with_context(|| format!("cannot read {}", path.display()))?;
    if magic != SQLITE_MAGIC {
        let checkpoint = read_checkpoint(path)?;
        return Ok(verify_log(read_entries(path)?, &checkpoint, key, earlier)?);
    }
    let store = Store::open_audit_log(path).await?;
    let head = store.head().await.context("the database has no audit log that can be read")?;
    let head = head.ok_or_else(|| anyhow!("the database has no audit log yet"))?;
    let mut verifier = Verifier::start(&head.checkpoint, key, earlier)?;
    let mut next = 0;
    loop {
        let chunk = store.entries_with_hashes(next, CHUNK).await?;
        let Some(last) = chunk.last() else { break };
        next = last.index + 1;
        chunk.iter().for_each(|stored| verifier.feed(stored));
    }
    store.close().await;
    Ok(verifier.finish())
}
