//! How fast the full check is, beside plain SHA-256 over the same bytes.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use aws_lc_rs::digest;
use legal_aid_gateway::store::Store;
use serde_json::Value;
use tokio::process::Command;

use crate::generator::Kept;
use crate::report::{Line, median};

const ROUNDS: usize = 3;

/// Checks with the real program; hashes the same entries from memory, one after the other, without any reading.
pub(crate) async fn measure(kept: &Kept) -> Result<Vec<Line>> {
    let mut checked = Vec::new();
    let mut hashed = Vec::new();
    for _ in 0..ROUNDS {
        hashed.push(hash_plainly(kept).await?);
        checked.push(check(kept).await?);
    }
    let ratios = checked.iter().zip(&hashed).map(|(checked, hashed)| checked / hashed).collect();
    let rate = |rates: Vec<f64>| format!("{:.0} MB/s", median(rates) / 1e6);
    Ok(vec![
        Line::figure("plain SHA-256 of the entries, in memory", rate(hashed)),
        Line::figure(&format!("fsck at {}", kept.entries), rate(checked)),
        Line::ratio("fsck_over_plain_sha256", median(ratios), "at least 0.5"),
    ])
}

/// Bytes a second.
async fn check(kept: &Kept) -> Result<f64> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_legal-aid-gateway"));
    let output = command.args(["audit", "fsck", "--json"]).arg(kept.database()).output().await?;
    ensure!(output.status.success(), "fsck: {}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout)?;
    let bytes: f64 = said["bytes"].as_str().context("bytes")?.parse()?;
    Ok(bytes / said["seconds"].as_f64().context("seconds")?)
}

/// Bytes a second.
async fn hash_plainly(kept: &Kept) -> Result<f64> {
    const ENTRIES: u64 = 100_000;
    let store = Store::open_audit_log(&kept.database()).await?;
    let until = kept.entries.min(ENTRIES);
    let entries =
        store.packed_entries(0, until, |packed| packed.bytes.to_vec()).await?.context("all entries")?;
    store.close().await;
    let started = Instant::now();
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(std::hint::black_box(&entries));
    std::hint::black_box(context.finish());
    Ok(entries.len() as f64 / started.elapsed().as_secs_f64())
}
