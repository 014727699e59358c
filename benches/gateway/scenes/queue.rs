//! What waits on PostgreSQL, brought all the way, beside a raw queue there.
//!
//! Both sides drain what waits already: putting it in is not measured, on either. Both are on one server, in alternation, with
//! messages of the same size. A message of the raw queue is selected `FOR UPDATE SKIP LOCKED`, marked as done, and committed (see
//! [`crate::raw_queue`]), one a transaction or a hundred, by as many workers as do it fastest. A message of the gateway's is
//! leased, opened, handed to the court over mTLS and settled, and the court's receipt for it comes in over mTLS and is stored as a
//! message to the centre: four entries of the log. It counts when the receipt has been accepted.

use anyhow::{Context, Result, ensure};
use legal_aid_gateway::simulator::district::free_address;
use serde_json::{Value, json};

use super::Stage;
use super::delivery::court;
use crate::gateway::{Neighbours, start as start_gateway, write_files};
use crate::inbox::Taken;
use crate::message::{Question, Submission};
use crate::outbox::fill;
use crate::parties::Party;
use crate::raw_queue::{self, Drained};
use crate::report::median;
use crate::{postgres, processes};

/// Rows of a transaction that takes many.
const BATCH: i64 = 100;

/// Numbers of workers that are tried, and for how long.
const WORKERS: [usize; 5] = [2, 4, 8, 16, 32];
const TRIAL_SECONDS: f64 = 0.8;

/// What waits in a raw queue when it is drained; more than a trial takes.
const RAW_MESSAGES: usize = 100_000;

/// Messages a second of both, and their ratios.
pub(super) async fn play(stage: &Stage, rounds: usize) -> Result<Value> {
    let server = postgres::own_server().context("no PostgreSQL is installed")?;
    let raw = server.new_database();
    let bytes =
        prost::Message::encoded_len(&Submission::to(Party::Court.code(), &Question::compose()?)?.ask());
    let raw = Raw { database: &raw, bytes };
    let one = raw.by_as_many_as_is_best(stage, 1).await?;
    let many = raw.by_as_many_as_is_best(stage, BATCH).await?;
    let seconds = stage.extent.scene_seconds.min(5.0);
    let (mut ones, mut manies, mut delivered) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let mut rates = [0.0; 3];
        for step in 0..3 {
            let subject = (round + step) % 3;
            rates[subject] = match subject {
                0 => receipted(stage, &server.new_database()).await?,
                1 => raw.drained(stage, one, seconds).await?,
                _ => raw.drained(stage, many, seconds).await?,
            };
        }
        let [gateway, single, batched] = rates;
        eprintln!(
            "queue, round {}: receipted {gateway:.0}/s, raw {single:.0}/s, raw by {BATCH} {batched:.0}/s",
            round + 1
        );
        delivered.push(gateway);
        ones.push(single);
        manies.push(batched);
    }
    let ratios =
        |raw: &[f64]| delivered.iter().zip(raw).map(|(gateway, raw)| gateway / raw).collect::<Vec<_>>();
    let (over_one, over_many) = (ratios(&ones), ratios(&manies));
    Ok(json!({
        "message_bytes": bytes,
        "receipted_per_second": median(delivered.clone()),
        "skip_locked_per_second": median(ones.clone()),
        "skip_locked_workers": one.workers,
        "skip_locked_batched_per_second": median(manies.clone()),
        "skip_locked_batched_workers": many.workers,
        "skip_locked_batch": BATCH,
        "delivered_over_skip_locked": median(over_one.clone()),
        "delivered_over_skip_locked_batched": median(over_many.clone()),
        "ratios": over_one,
        "ratios_batched": over_many,
    }))
}

/// A raw queue.
struct Raw<'r> {
    database: &'r str,
    bytes: usize,
}

/// How it is drained.
#[derive(Clone, Copy)]
struct Drain {
    workers: usize,
    batch: i64,
}

impl Raw<'_> {
    /// The number of workers with which it is drained fastest.
    async fn by_as_many_as_is_best(&self, stage: &Stage, batch: i64) -> Result<Drain> {
        let (mut best, mut drain) = (0.0, Drain { workers: WORKERS[0], batch });
        for workers in WORKERS {
            let tried = Drain { workers, batch };
            let rate = self.drained(stage, tried, TRIAL_SECONDS).await?;
            eprintln!("raw queue, {batch} a transaction, {workers} workers: {rate:.0}/s");
            if rate > best {
                (best, drain) = (rate, tried);
            }
        }
        Ok(drain)
    }

    /// Fills it and drains it, for a while or until it is empty; messages a second.
    async fn drained(&self, stage: &Stage, drain: Drain, seconds: f64) -> Result<f64> {
        raw_queue::fill(self.database, RAW_MESSAGES, self.bytes).await?;
        let [workers, batch] = [drain.workers.to_string(), drain.batch.to_string()];
        let seconds = seconds.to_string();
        let role = [
            "raw-queue",
            "--database",
            self.database,
            "--workers",
            &workers,
            "--batch",
            &batch,
            "--seconds",
            &seconds,
        ];
        let drained: Drained = processes::run(&role, &stage.certificates).await?;
        Ok(drained.per_second())
    }
}

/// Fills the gateway's outbox, starts it, and sees how fast receipts come in for what it delivers.
async fn receipted(stage: &Stage, database: &str) -> Result<f64> {
    let folder = stage.folder("queue");
    let (queued, listen) = (stage.extent.to_receipt, free_address()?);
    let gateway_address = listen.to_string();
    let mut inbox =
        court(stage, &["--party", Party::Court.name(), "--receipts-to", &gateway_address]).await?;
    let neighbours = Neighbours {
        courts: vec![(Party::Court, inbox.address)],
        listen: Some(listen),
        database: Some(database.to_owned()),
        ..Neighbours::default()
    };
    write_files(&stage.certificates, &folder, &neighbours)?;
    fill(&folder, Some(database), &[Party::Court], queued).await?;
    let gateway = start_gateway(&folder, None).await?;
    let mut seen = Taken::default();
    while seen.receipted < queued as u64 {
        ensure!(seen.failed == 0, "{} receipts were not accepted", seen.failed);
        seen = serde_json::from_str(&inbox.line().await?)?;
    }
    gateway.stop().await?;
    stage.clear("queue")?;
    Ok(seen.receipted as f64 / ((seen.last_receipted_us - seen.first_us).max(1) as f64 / 1e6))
}
