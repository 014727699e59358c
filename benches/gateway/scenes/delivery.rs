//! Deliveries: beside a dead court and one that stalls, out of a full outbox, and all the way to the receipt.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use legal_aid_gateway::simulator::district::free_address;
use serde_json::{Value, json};

use super::Stage;
use crate::gateway::{Neighbours, start as start_gateway, write_files};
use crate::inbox::{Taken, micros};
use crate::load::{Load, Work};
use crate::outbox::fill;
use crate::parties::Party;
use crate::processes::{Server, load};
use crate::report::median;

/// Deliveries of one run of the isolation.
const ISOLATED: usize = 4_000;

/// The short queue, and how much of the long one is measured.
const SHORT: usize = 1_000;
const OF_LONG: u64 = 10_000;

/// Deliveries at once to a court that can take them.
const MANY_AT_ONCE: usize = 32;

/// Times the short queue is drained.
const SHORT_RUNS: usize = 5;

/// Deliveries a second to a court that takes, alone, and while as much waits for a dead court and one that stalls.
pub(super) async fn isolation(stage: &Stage, rounds: usize) -> Result<Value> {
    let each = ISOLATED.min(stage.extent.queued);
    let (mut alone, mut beside, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        // In alternation, so that neither always comes first.
        let mut rates = [0.0; 2];
        for step in 0..2 {
            let with_others = (round + step) % 2 == 1;
            let courts = if with_others { &Party::COURTS[..] } else { &Party::COURTS[..1] };
            let found = drained(stage, courts, each, each as u64).await?;
            rates[usize::from(with_others)] = found.per_second();
        }
        eprintln!("isolation, round {}: alone {:.0}/s, beside {:.0}/s", round + 1, rates[0], rates[1]);
        alone.push(rates[0]);
        beside.push(rates[1]);
        ratios.push(rates[1] / rates[0]);
    }
    Ok(json!({
        "alone_per_second": median(alone),
        "beside_dead_and_stalling_per_second": median(beside),
        "ratio": median(ratios.clone()),
        "ratios": ratios,
    }))
}

/// Deliveries a second out of a short and out of a long queue.
pub(super) async fn drain(stage: &Stage) -> Result<Value> {
    let court = &Party::COURTS[..1];
    let mut short = Vec::new();
    for _ in 0..SHORT_RUNS.div_ceil(2) {
        short.push(drained(stage, court, SHORT, SHORT as u64).await?.per_second());
    }
    let long = drained(stage, court, stage.extent.queued, OF_LONG.min(stage.extent.queued as u64)).await?;
    for _ in SHORT_RUNS.div_ceil(2)..SHORT_RUNS {
        short.push(drained(stage, court, SHORT, SHORT as u64).await?.per_second());
    }
    let short_rate = median(short.clone()).unwrap_or_default();
    Ok(json!({
        "short_queue": SHORT,
        "short_per_second": short_rate,
        "short_runs": short,
        "long_queue": stage.extent.queued,
        "long_measured": long.taken,
        "long_per_second": long.per_second(),
        "ratio": long.per_second() / short_rate,
    }))
}

/// Fills the outbox of courts, starts a gateway on it, and sees how fast the first court gets its deliveries.
async fn drained(stage: &Stage, courts: &[Party], each: usize, until: u64) -> Result<Taken> {
    let folder = stage.folder("drained");
    let mut inbox = court(stage, &["--party", Party::Court.name()]).await?;
    let stalling = court(stage, &["--party", Party::StallingCourt.name(), "--stalls"]).await?;
    let neighbours = Neighbours {
        courts: vec![
            (Party::Court, inbox.address),
            (Party::StallingCourt, stalling.address),
            (Party::DeadCourt, free_address()?),
        ],
        database: stage.extent.outbox.new_database()?,
        ..Neighbours::default()
    };
    write_files(&stage.certificates, &folder, &neighbours)?;
    fill(&folder, neighbours.database.as_deref(), courts, each).await?;
    let gateway = start_gateway(&folder, None).await?;
    let mut taken = Taken::default();
    while taken.taken < until {
        taken = serde_json::from_str(&inbox.line().await?)?;
    }
    // What is in the outbox of those who do not answer is not drained, so that this is no end in order.
    drop(gateway);
    stage.clear("drained")?;
    Ok(taken)
}

pub(super) async fn court(stage: &Stage, arguments: &[&str]) -> Result<Server> {
    let role: Vec<_> = ["inbox"].into_iter().chain(arguments.iter().copied()).collect();
    Server::start(&role, &stage.certificates, Party::Court).await
}

/// Exchanges a second that were submitted, pushed to the court, receipted by it, with the entries of all that: as the
/// gateway comes, and with more deliveries at once to the one court.
pub(super) async fn delivered(stage: &Stage, rounds: usize) -> Result<Value> {
    let mut found = Vec::new();
    for at_once in [None, Some(MANY_AT_ONCE)] {
        let (mut rates, mut submitted) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let name = format!("delivered-{round}");
            let (rate, count) = delivered_once(stage, &stage.folder(&name), at_once).await?;
            eprintln!("delivered, {at_once:?} at once, round {}: {count} exchanges, {rate:.0}/s", round + 1);
            rates.push(rate);
            submitted.push(count);
            stage.clear(&name)?;
        }
        found.push(json!({
            "per_recipient": at_once,
            "exchanges": submitted,
            "per_second": median(rates.clone()),
            "each": rates,
        }));
    }
    Ok(json!(found))
}

async fn delivered_once(stage: &Stage, folder: &Path, at_once: Option<usize>) -> Result<(f64, u64)> {
    let listen = free_address()?;
    let gateway_address = listen.to_string();
    let mut inbox =
        court(stage, &["--party", Party::Court.name(), "--receipts-to", &gateway_address]).await?;
    let courts = vec![(Party::Court, inbox.address)];
    let neighbours = Neighbours {
        courts,
        listen: Some(listen),
        per_recipient: at_once,
        database: stage.extent.outbox.new_database()?,
        ..Neighbours::default()
    };
    write_files(&stage.certificates, folder, &neighbours)?;
    let gateway = start_gateway(folder, None).await?;
    let begun = micros();
    let shape = Load { connections: 4, calls: 16, seconds: stage.extent.scene_seconds, warm_up: 0.0 };
    let outcome = load(&gateway, &stage.certificates, Work::SubmitToCourt, shape).await?;
    ensure!(outcome.errors == 0, "{} submissions failed: {:?}", outcome.errors, outcome.first_error);
    let mut seen = Taken::default();
    while seen.receipted < outcome.answered {
        ensure!(seen.failed == 0, "{} receipts were not accepted", seen.failed);
        seen = serde_json::from_str(&inbox.line().await?)?;
    }
    gateway.stop().await?;
    let seconds = Duration::from_micros(u64::try_from(seen.last_receipted_us - begun)?).as_secs_f64();
    Ok((outcome.answered as f64 / seconds, outcome.answered))
}
