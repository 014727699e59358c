//! Three times the peak load: what is still answered, how fast the rest is refused, and whether each answer, good or
//! bad, has its entry in the log.
//!
//! The gateway has a core to itself; the registry and the load have another, both at the peak and above it, so that a load
//! that grows takes nothing from the gateway. Peak and overload come from one generator (`lean.rs`): the peak in a closed loop,
//! the overload in an open one. How much of their core the generator and the registry took, and how late calls began, stand beside
//! the figures: where that core is full, or calls begin late, they are figures of the generator.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use legal_aid_gateway::audit::entry::{Entry, Phase};
use legal_aid_gateway::audit::log::Storage as _;
use legal_aid_gateway::store::Store;
use serde_json::{Value, json};

use super::{Extent, Stage};
use crate::gateway::{Neighbours, PROGRAM, start as start_gateway, write_files};
use crate::open_loop::Outcome;
use crate::parties::Party;
use crate::processes::{Server, on_core, part_cores, run};
use crate::report::median;

/// Calls at once among which the peak is looked for: up to what one agency has places for, by default.
const PEAK: [usize; 3] = [64, 256, 448];

/// Connections: enough that no call waits on the caller's side for a place on one.
const CONNECTIONS: usize = 16;

/// The overload, as a multiple of the peak.
const TIMES: f64 = 3.0;

/// Seconds before each measurement.
const WARM_UP: f64 = 1.0;

struct Round {
    peak: f64,
    once: Outcome,
    thrice: Outcome,
    idle_rss_kib: u64,
    peak_rss_kib: u64,
    cpu_us_per_call: [f64; 2],
    /// The part of their core that generator and registry took, at the peak and above.
    others_busy: [f64; 2],
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
             (p50 {} µs, p99 {} µs; {} µs from when due), {} failed ({:?}), generator late by {} µs at p99, {} calls not begun; the \
             others' core busy to {:.2} at the peak, to {:.2} at {TIMES}x; CPU {:.0} µs an answer at the peak, \
             {:.0} µs at {TIMES}x; RSS {} KiB idle, {} KiB at most",
            number + 1,
            round.peak,
            round.once.answered_per_second,
            round.thrice.answered_per_second,
            round.thrice.answered_p99_us / 1000,
            round.thrice.refused,
            round.thrice.refused_p50_us,
            round.thrice.refused_p99_us,
            round.thrice.refused_from_due_p99_us,
            round.thrice.failed,
            round.thrice.first_failure,
            round.thrice.late_p99_us,
            round.thrice.not_begun,
            round.others_busy[0],
            round.others_busy[1],
            round.cpu_us_per_call[0],
            round.cpu_us_per_call[1],
            round.idle_rss_kib,
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
        "refused_from_due_p99_ms": of(&|round| f64::from(round.thrice.refused_from_due_p99_us) / 1e3),
        "answered_p99_ms_at_thrice": of(&|round| f64::from(round.thrice.answered_p99_us) / 1e3),
        "generator_late_p99_ms": of(&|round| f64::from(round.thrice.late_p99_us) / 1e3),
        "others_core_busy_at_the_peak": of(&|round| round.others_busy[0]),
        "others_core_busy_at_thrice": of(&|round| round.others_busy[1]),
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
    let pair = Pair { stage, gateway: &gateway, registry: &registry };
    let mut closed = Vec::new();
    for at_once in PEAK {
        let measured = pair.load(["--at-once", &at_once.to_string()]).await?;
        let Outcome { refused, failed, first_failure, .. } = &measured.outcome;
        ensure!(
            refused + failed == 0,
            "at the peak {refused} were refused, {failed} failed: {first_failure:?}"
        );
        eprintln!("overload: {at_once} calls at once, {:.0}/s", measured.outcome.answered_per_second);
        closed.push(measured);
    }
    let by_rate = |one: &&Measured, other: &&Measured| {
        one.outcome.answered_per_second.total_cmp(&other.outcome.answered_per_second)
    };
    let peak = closed.iter().max_by(by_rate).context("nothing was measured")?;
    let rate = peak.outcome.answered_per_second;
    let once = pair.load(["--rate", &rate.to_string()]).await?;
    let thrice = pair.load(["--rate", &(TIMES * rate).to_string()]).await?;
    let peak_rss_kib = gateway.peak_rss_kib().context("no /proc here")?;
    gateway.stop().await?;
    let played = closed.iter().chain([&once, &thrice]);
    let entries = check_evidence(folder, played.map(|measured| &measured.outcome)).await?;
    verify(folder).await?;
    Ok(Round {
        peak: rate,
        once: once.outcome,
        thrice: thrice.outcome,
        idle_rss_kib,
        peak_rss_kib,
        cpu_us_per_call: [peak.cpu_us_per_call, thrice.cpu_us_per_call],
        others_busy: [peak.others_busy, thrice.others_busy],
        entries,
    })
}

/// Who is measured, and who stands behind.
struct Pair<'a> {
    stage: &'a Stage,
    gateway: &'a Server,
    registry: &'a Server,
}

struct Measured {
    outcome: Outcome,
    /// Of the gateway, for each answer.
    cpu_us_per_call: f64,
    others_busy: f64,
}

impl Pair<'_> {
    async fn load(&self, [how, much]: [&str; 2]) -> Result<Measured> {
        let Extent { overload_work, scene_seconds, .. } = self.stage.extent;
        let role = [
            "open-loop",
            "--target",
            &self.gateway.address.to_string(),
            "--work",
            overload_work.name(),
            how,
            much,
            "--seconds",
            &scene_seconds.to_string(),
            "--warm-up",
            &WARM_UP.to_string(),
            "--connections",
            &CONNECTIONS.to_string(),
        ];
        let used = || self.gateway.cpu_us().zip(self.registry.cpu_us()).context("no /proc here");
        let before = used()?;
        let outcome: Outcome = run(&role, &self.stage.certificates).await?;
        let after = used()?;
        let answers = outcome.answered_at.len() as f64;
        let registry_busy = (after.1 - before.1) as f64 / 1e6 / (scene_seconds + WARM_UP);
        Ok(Measured {
            cpu_us_per_call: (after.0 - before.0) as f64 / answers,
            others_busy: outcome.generator_busy + registry_busy,
            outcome,
        })
    }
}

/// Every answer has its entry: a RESPONSE with OK, or a REFUSED that counts at least as many calls as were answered
/// with it.
async fn check_evidence(folder: &Path, outcomes: impl Iterator<Item = &Outcome>) -> Result<u64> {
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
