//! Three times the peak load: what is still answered, how fast the rest is refused, and whether each answer, good or
//! bad, has its entry in the log.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use legal_aid_gateway::audit::entry::{Entry, Phase};
use legal_aid_gateway::audit::log::Storage as _;
use legal_aid_gateway::store::Store;
use serde_json::{Value, json};

use super::Stage;
use crate::gateway::{Neighbours, PROGRAM, start as start_gateway, write_files};
use crate::load::Load;
use crate::open_loop::Outcome;
use crate::parties::Party;
use crate::processes::{Server, load, on_core, part_cores, run};
use crate::report::median;

/// Connections of the peak. More calls at once than this gain nothing.
const PEAK: [(usize, usize); 2] = [(4, 16), (16, 16)];

/// Connections of the open loop: enough that no call waits on the caller's side for a place on its connection.
const CONNECTIONS: usize = 48;

/// The overload, as a multiple of the peak.
const TIMES: f64 = 3.0;

struct Round {
    peak: f64,
    once: Outcome,
    thrice: Outcome,
    idle_rss_kib: u64,
    peak_rss_kib: u64,
    cpu_us_per_call: [f64; 2],
    entries: u64,
}

/// Rounds of it, each with a gateway of its own.
pub(super) async fn play(stage: &Stage, rounds: usize) -> Result<Value> {
    let core = if stage.extent.share_cores { None } else { part_cores() };
    match core {
        Some(core) => eprintln!("overload: the gateway has core {core}, all others have another"),
        None => eprintln!("overload: the gateway and the load share all cores"),
    }
    let mut played = Vec::with_capacity(rounds);
    for number in 0..rounds {
        let name = format!("overload-{number}");
        let round = round(stage, &stage.folder(&name), core).await?;
        eprintln!(
            "overload, round {}: peak {:.0}/s; at 1x {:.0}/s; at {TIMES}x {:.0}/s answered (p99 {} ms), {} refused \
             (p50 {} µs, p99 {} µs), {} failed ({:?}), generator late by {} µs at p99; CPU {:.0} µs an answer at the peak, \
             {:.0} µs at {TIMES}x; RSS {} KiB",
            number + 1,
            round.peak,
            round.once.answered_per_second,
            round.thrice.answered_per_second,
            round.thrice.answered_p99_us / 1000,
            round.thrice.refused,
            round.thrice.refused_p50_us,
            round.thrice.refused_p99_us,
            round.thrice.failed,
            round.thrice.first_failure,
            round.thrice.late_p99_us,
            round.cpu_us_per_call[0],
            round.cpu_us_per_call[1],
            round.peak_rss_kib,
        );
        played.push(round);
        stage.clear(&name)?;
    }
    let of = |value: &dyn Fn(&Round) -> f64| median(played.iter().map(value));
    Ok(json!({
        "work": stage.extent.overload_work.name(),
        "gateway_has_its_own_core": core.is_some(),
        "peak_per_second": of(&|round| round.peak),
        "goodput_at_once_per_second": of(&|round| round.once.answered_per_second),
        "goodput_at_thrice_per_second": of(&|round| round.thrice.answered_per_second),
        "goodput_ratio": of(&|round| round.thrice.answered_per_second / round.peak),
        "refused_p50_ms": of(&|round| f64::from(round.thrice.refused_p50_us) / 1e3),
        "refused_p99_ms": of(&|round| f64::from(round.thrice.refused_p99_us) / 1e3),
        "answered_p99_ms_at_thrice": of(&|round| f64::from(round.thrice.answered_p99_us) / 1e3),
        "generator_late_p99_ms": of(&|round| f64::from(round.thrice.late_p99_us) / 1e3),
        "failed": played.iter().map(|round| round.thrice.failed).sum::<u64>(),
        "idle_rss_kib": of(&|round| round.idle_rss_kib as f64),
        "peak_rss_kib": of(&|round| round.peak_rss_kib as f64),
        "cpu_us_an_answer_at_the_peak": of(&|round| round.cpu_us_per_call[0]),
        "cpu_us_an_answer_at_thrice": of(&|round| round.cpu_us_per_call[1]),
        "entries_checked": played.iter().map(|round| round.entries).sum::<u64>(),
    }))
}

async fn round(stage: &Stage, folder: &Path, core: Option<usize>) -> Result<Round> {
    let certificates = &stage.certificates;
    let registry = Server::start(&["registry"], certificates, Party::Registry).await?;
    let neighbours = Neighbours { registry: Some(registry.address), ..Neighbours::default() };
    write_files(certificates, folder, &neighbours)?;
    let gateway = start_gateway(folder, core).await?;
    let idle_rss_kib = gateway.rss_kib().context("no /proc here")?;
    let (work, seconds) = (stage.extent.overload_work, stage.extent.scene_seconds);
    let mut peak = 0.0;
    let mut at_peak = 0.0;
    for (connections, calls) in PEAK {
        let before = gateway.cpu_us().context("no /proc here")?;
        let shape = Load { connections, calls, seconds, warm_up: 1.0 };
        let outcome = load(&gateway, certificates, work, shape).await?;
        ensure!(outcome.errors == 0, "{} calls failed: {:?}", outcome.errors, outcome.first_error);
        let used = gateway.cpu_us().context("no /proc here")? - before;
        if outcome.requests_per_second > peak {
            peak = outcome.requests_per_second;
            at_peak = used as f64 / outcome.answered as f64;
        }
    }
    let once = open(stage, &gateway, peak).await?;
    let before = gateway.cpu_us().context("no /proc here")?;
    let thrice = open(stage, &gateway, TIMES * peak).await?;
    let used = gateway.cpu_us().context("no /proc here")? - before;
    let at_thrice = used as f64 / thrice.answered_at.len() as f64;
    let peak_rss_kib = gateway.peak_rss_kib().context("no /proc here")?;
    gateway.stop().await?;
    let entries = check_evidence(folder, &[&once, &thrice]).await?;
    verify(folder).await?;
    Ok(Round {
        peak,
        once,
        thrice,
        idle_rss_kib,
        peak_rss_kib,
        cpu_us_per_call: [at_peak, at_thrice],
        entries,
    })
}

async fn open(stage: &Stage, gateway: &Server, rate: f64) -> Result<Outcome> {
    let role = [
        "open-loop",
        "--target",
        &gateway.address.to_string(),
        "--work",
        stage.extent.overload_work.name(),
        "--rate",
        &rate.to_string(),
        "--seconds",
        &stage.extent.scene_seconds.to_string(),
        "--warm-up",
        "1",
        "--connections",
        &CONNECTIONS.to_string(),
    ];
    run(&role, &stage.certificates).await
}

/// Every answer has its entry: a RESPONSE with OK, or a REFUSED that counts at least as many calls as were answered
/// with it.
async fn check_evidence(folder: &Path, outcomes: &[&Outcome]) -> Result<u64> {
    const PAGE: u32 = 4_096;
    let mut answered: HashMap<u64, u64> = HashMap::new();
    let mut refused: HashMap<u64, u64> = HashMap::new();
    for outcome in outcomes {
        outcome.answered_at.iter().for_each(|index| *answered.entry(*index).or_default() += 1);
        outcome.refused_at.iter().for_each(|index| *refused.entry(*index).or_default() += 1);
    }
    let store = Store::open_audit_log(&folder.join("gateway.db")).await?;
    let size = store.head().await?.context("an empty log")?.size;
    let mut next = 0;
    while next < size {
        for stored in store.entries(next, PAGE).await? {
            next = stored.index + 1;
            let entry = Entry::from_json(&stored.entry)?;
            if let Some(answers) = answered.remove(&stored.index) {
                let fits = entry.phase == Phase::Response && entry.code.as_deref() == Some("OK");
                ensure!(fits && answers == 1, "entry {} is not that of {answers} answers", stored.index);
            }
            if let Some(answers) = refused.remove(&stored.index) {
                let fits =
                    entry.phase == Phase::Refused && entry.code.as_deref() == Some("RESOURCE_EXHAUSTED");
                let counted = entry.items.unwrap_or(1);
                ensure!(
                    fits && answers <= counted,
                    "entry {} is not that of {answers} refusals",
                    stored.index
                );
            }
        }
    }
    ensure!(answered.is_empty() && refused.is_empty(), "answers name entries that are not in the log");
    store.close().await;
    Ok(size)
}

/// The log is what its checkpoint says.
async fn verify(folder: &Path) -> Result<()> {
    let key = on_core(PROGRAM, None)
        .args(["audit", "key", "--config"])
        .arg(folder.join("gateway.toml"))
        .output()
        .await?;
    let path = folder.join("log.pub");
    std::fs::write(&path, key.stdout)?;
    let verified = on_core(PROGRAM, None)
        .args(["audit", "verify"])
        .arg(folder.join("gateway.db"))
        .arg("--key")
        .arg(path)
        .output()
        .await?;
    ensure!(
        verified.status.success(),
        "the log does not verify: {}",
        String::from_utf8_lossy(&verified.stderr)
    );
    Ok(())
}
