//! How long the real gateway takes from its start until it listens.

use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::generator::Kept;
use crate::report::{Line, median};

/// A start takes some milliseconds, of which others on the machine may take as many again.
const ROUNDS: usize = 61;

const PROGRAM: &str = env!("CARGO_BIN_EXE_legal-aid-gateway");

/// Starts on the small and on the large log in turn.
pub(crate) async fn measure(small: &Kept, large: &Kept, folder: &Path) -> Result<Vec<Line>> {
    let made = Command::new(PROGRAM).arg("init").arg(folder.join("gw")).output().await?;
    ensure!(made.status.success(), "init: {}", String::from_utf8_lossy(&made.stderr));
    let config = folder.join("gw/gateway.toml");
    let (mut at_small, mut at_large) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Each is the first of its pair every other time.
        if round % 2 == 0 {
            at_small.push(start(&config, small).await?);
        }
        at_large.push(start(&config, large).await?);
        if round % 2 == 1 {
            at_small.push(start(&config, small).await?);
        }
    }
    let ratios = at_large.iter().zip(&at_small).map(|(large, small)| large / small).collect();
    let figure = |kept: &Kept, times: Vec<f64>| {
        Line::figure(&format!("start to ready at {}", kept.entries), format!("{:.1} ms", median(times) * 1e3))
    };
    Ok(vec![
        figure(small, at_small),
        figure(large, at_large),
        Line::ratio("start_at_large_over_small", median(ratios), "at most 1.1"),
    ])
}

async fn start(config: &Path, kept: &Kept) -> Result<f64> {
    let keys = kept.keys();
    let started = Instant::now();
    let mut child = Command::new(PROGRAM)
        .args(["serve", "--config"])
        .arg(config)
        .env("LEGAL_AID_GATEWAY__GATEWAY__LISTEN", "127.0.0.1:0")
        .env("LEGAL_AID_GATEWAY__STORE__DATABASE", kept.database())
        .env("LEGAL_AID_GATEWAY__KEYS__LOG", keys.log)
        .env("LEGAL_AID_GATEWAY__KEYS__BODY", keys.body)
        .env("LEGAL_AID_GATEWAY__KEYS__PSEUDONYM", keys.pseudonym)
        .env("LEGAL_AID_GATEWAY__AUDIT__CHECKPOINT", kept.folder.join("checkpoint"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("its output is piped")?).read_line(&mut line).await?;
    let elapsed = started.elapsed().as_secs_f64();
    ensure!(line.starts_with("listening on"), "the gateway did not start at {} entries", kept.entries);
    child.kill().await?;
    Ok(elapsed)
}
