//! How long a proof takes.

use std::time::Instant;

use anyhow::{Context, Result};
use legal_aid_gateway::audit::log::Storage as _;
use legal_aid_gateway::audit::tile::{tiles_for_consistency, tiles_for_inclusion};
use legal_aid_gateway::store::Store;

use crate::generator::Kept;
use crate::report::Line;
use crate::world::Dice;

const PROOFS: usize = 2_000;

/// Times proofs of random entries and of random earlier sizes, tiles read from the database each time.
pub(crate) async fn measure(kept: &Kept) -> Result<Vec<Line>> {
    let store = Store::open_audit_log(&kept.database()).await?;
    let size = store.head().await?.context("a log")?.size;
    let mut dice = Dice::new(1);
    let (mut inclusion, mut consistency) = (Vec::new(), Vec::new());
    for _ in 0..PROOFS {
        let (index, old) = (dice.below(size), 1 + dice.below(size));
        let started = Instant::now();
        store.tiles(&tiles_for_inclusion(index, size)).await?.inclusion_proof(index, size)?;
        inclusion.push(started.elapsed().as_secs_f64() * 1e3);
        let started = Instant::now();
        store.tiles(&tiles_for_consistency(old, size)).await?.consistency_proof(old, size)?;
        consistency.push(started.elapsed().as_secs_f64() * 1e3);
    }
    store.close().await;
    Ok(vec![line("inclusion proof", size, inclusion), line("consistency proof", size, consistency)])
}

fn line(name: &str, size: u64, mut times: Vec<f64>) -> Line {
    times.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Line::figure(
        &format!("{name} at {size}"),
        format!("p50 {:.2} ms, p95 {:.2} ms, p99 {:.2} ms (aim: 2 ms)", at(0.5), at(0.95), at(0.99)),
    )
}
