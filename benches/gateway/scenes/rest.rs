//! The gateway at rest, and from nothing to ready.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Stage;
use crate::gateway::{Neighbours, start as start_gateway, write_files};
use crate::parties::Party;
use crate::processes::Server;
use crate::report::median;

/// Until what a start or a thousand handshakes needed for a moment has been given back.
const SETTLING: Duration = Duration::from_secs(3);

/// Starts of the program.
const STARTS: usize = 15;

/// Memory of a gateway that has just started, and that holds idle connections.
pub(super) async fn memory(stage: &Stage) -> Result<Value> {
    let folder = stage.folder("memory");
    write_files(&stage.certificates, &folder, &Neighbours::default())?;
    let gateway = start_gateway(&folder, None).await?;
    tokio::time::sleep(SETTLING).await;
    let idle = gateway.rss_kib().context("no /proc here")?;
    let (target, connections) = (gateway.address.to_string(), stage.extent.idle.to_string());
    let role = ["hold", "--target", &target, "--connections", &connections];
    let holder = Server::start(&role, &stage.certificates, Party::Centre).await?;
    tokio::time::sleep(SETTLING).await;
    let holding = gateway.rss_kib().context("no /proc here")?;
    let peak = gateway.peak_rss_kib().context("no /proc here")?;
    drop(holder);
    gateway.stop().await?;
    Ok(json!({
        "idle_rss_kib": idle,
        "connections": stage.extent.idle,
        "rss_with_connections_kib": holding,
        "peak_rss_kib": peak,
        "kib_per_connection": holding.saturating_sub(idle) as f64 / stage.extent.idle as f64,
    }))
}

/// Time from the start of the process, on an empty store, until it says that it serves.
pub(super) async fn start(stage: &Stage) -> Result<Value> {
    let mut times = Vec::with_capacity(STARTS);
    for number in 0..STARTS {
        let name = format!("start-{number}");
        let folder = stage.folder(&name);
        write_files(&stage.certificates, &folder, &Neighbours::default())?;
        let begun = Instant::now();
        let gateway = start_gateway(&folder, None).await?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        gateway.stop().await?;
        stage.clear(&name)?;
    }
    let longest = times.iter().copied().fold(0.0, f64::max);
    Ok(json!({ "starts": STARTS, "median_ms": median(times), "longest_ms": longest }))
}
