//! What a gateway without file handles does while others knock.

use std::time::{Duration, Instant};

use tokio::process::Command;

use crate::attacks::Scene;
use crate::peer::Manners;
use crate::process::cpu;

/// Takes every free file handle from the gateway, knocks, and gives them back. Prints the processor time, and returns
/// what was missed.
pub(crate) async fn exhaust(scene: &Scene, pid: u32) -> Vec<String> {
    const WHILE: Duration = Duration::from_secs(5);
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    limit(pid, open).await;
    let mut knocking = Vec::new();
    for place in 0..50 {
        knocking.push(scene.attacker.tcp_from(2 + place).await.unwrap());
    }
    let before = cpu(pid);
    tokio::time::sleep(WHILE).await;
    let spent = cpu(pid).saturating_sub(before);
    drop(knocking);
    limit(pid, open + 1000).await;
    let began = Instant::now();
    let again = scene.attacker.peer(Manners::Polite, &[]).await;
    println!(
        "Without file handles, 50 connections knocking: {:.2} s of CPU in {} s; a new connection {} {:.1} s after there were some again.",
        spent.as_secs_f64(),
        WHILE.as_secs(),
        if again.is_ok() { "was let in" } else { "failed" },
        began.elapsed().as_secs_f64(),
    );
    let mut misses = Vec::new();
    if spent > WHILE / 20 {
        misses.push(format!(
            "without file handles: {:.2} s of CPU in {} s",
            spent.as_secs_f64(),
            WHILE.as_secs()
        ));
    }
    if let Err(error) = again {
        misses.push(format!("after the file handles came back: {error}"));
    }
    misses
}

async fn limit(pid: u32, handles: usize) {
    let done =
        Command::new("prlimit").args(["--pid", &pid.to_string(), &format!("--nofile={handles}:")]).status();
    assert!(done.await.unwrap().success());
}
