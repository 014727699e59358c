//! One, two and four gateways on one PostgreSQL database, on the same cores and under the same load.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde_json::{Map, Value, json};

use super::Stage;
use crate::database::OnPostgres;
use crate::gateway::{Neighbours, keys, start as start_gateway, write_files};
use crate::load::{Load, Work};
use crate::parties::Party;
use crate::processes::{Server, load};
use crate::report::median;

/// How many gateways share the load.
const COUNTS: [usize; 3] = [1, 2, 4];

/// What they are asked.
const WORKS: [Work; 2] = [Work::Verify, Work::Submit];

/// Load generators, each of one connection: as many for one gateway as for four, so that only the gateways differ. Together they ask
/// for more than the cores give, also when they are spread over four queues.
const LOADS: usize = 4;
const CALLS: usize = 48;

/// Answers a second of all gateways together, and the processor time for one answer.
struct Found {
    per_second: f64,
    gateways_cpu_us: Option<f64>,
    database_cpu_us: Option<f64>,
}

/// Throughput of two and of four gateways over that of one, for each work.
pub(super) async fn play(stage: &Stage, rounds: usize) -> Result<Value> {
    let registry = Server::start(&["registry"], &stage.certificates, Party::Registry).await?;
    let database = OnPostgres::create()?;
    let folders = folders(stage, &registry, &database)?;
    let mut found: [[Vec<Found>; COUNTS.len()]; WORKS.len()] = Default::default();
    for round in 0..rounds {
        for step in 0..COUNTS.len() {
            // In alternation, so that none always comes first.
            let turn = (round + step) % COUNTS.len();
            let mut gateways = Vec::new();
            for folder in &folders[..COUNTS[turn]] {
                gateways.push(start_gateway(folder, None).await?);
            }
            for (work, found) in WORKS.into_iter().zip(&mut found) {
                rest(&gateways).await?;
                let measured = measure(stage, &gateways, &database, work).await?;
                eprintln!(
                    "round {}/{rounds} {:7} {} gateways {:6.0}/s  CPU µs/request: gateways {:5.0}, PostgreSQL {:5.0}",
                    round + 1,
                    work.name(),
                    gateways.len(),
                    measured.per_second,
                    measured.gateways_cpu_us.unwrap_or(f64::NAN),
                    measured.database_cpu_us.unwrap_or(f64::NAN),
                );
                found[turn].push(measured);
            }
            for gateway in gateways {
                gateway.stop().await?;
            }
        }
    }
    let figures = WORKS.into_iter().zip(&found).map(|(work, found)| (work.name().to_owned(), sum_up(found)));
    Ok(Value::Object(figures.collect::<Map<_, _>>()))
}

/// A folder for each gateway. They are nodes of one log, under one set of keys.
fn folders(stage: &Stage, registry: &Server, database: &OnPostgres) -> Result<Vec<PathBuf>> {
    let mut folders: Vec<PathBuf> = Vec::new();
    for number in 1..=COUNTS[COUNTS.len() - 1] {
        let folder = stage.folder(&format!("replica-{number}"));
        let neighbours = Neighbours {
            registry: Some(registry.address),
            database: Some(database.url.clone()),
            node: Some(format!("replica-{number}")),
            ..Neighbours::default()
        };
        write_files(&stage.certificates, &folder, &neighbours)?;
        if let Some(first) = folders.first() {
            let (from, to) = (keys(first), keys(&folder));
            for (from, to) in [(from.log, to.log), (from.body, to.body), (from.pseudonym, to.pseudonym)] {
                std::fs::copy(from, to)?;
            }
        }
        folders.push(folder);
    }
    Ok(folders)
}

async fn measure(stage: &Stage, gateways: &[Server], database: &OnPostgres, work: Work) -> Result<Found> {
    let each = Load { connections: 1, calls: CALLS, seconds: stage.extent.scene_seconds, warm_up: 1.0 };
    let of_gateways = || gateways.iter().map(Server::cpu_us).sum::<Option<u64>>();
    let before = (of_gateways(), database.cpu_us());
    let run = |number: usize| load(&gateways[number % gateways.len()], &stage.certificates, work, each);
    let (first, second, third, fourth) = tokio::try_join!(run(0), run(1), run(2), run(3))?;
    let outcomes: [_; LOADS] = [first, second, third, fourth];
    for outcome in &outcomes {
        let first_error = outcome.first_error.as_deref().unwrap_or_default();
        ensure!(outcome.errors == 0, "{}: {} errors, first: {first_error}", work.name(), outcome.errors);
    }
    let answered: u64 = outcomes.iter().map(|outcome| outcome.answered).sum();
    let used = |before: Option<u64>, after: Option<u64>| Some((after? - before?) as f64 / answered as f64);
    Ok(Found {
        per_second: outcomes.iter().map(|outcome| outcome.requests_per_second).sum(),
        gateways_cpu_us: used(before.0, of_gateways()),
        database_cpu_us: used(before.1, database.cpu_us()),
    })
}

/// Waits until the gateways have nothing left to do: who comes to a log reads it once, into a search index of its own.
async fn rest(gateways: &[Server]) -> Result<()> {
    const LOOK: Duration = Duration::from_millis(500);
    const IDLE_US: u64 = 25_000;
    let used = || gateways.iter().filter_map(Server::cpu_us).sum::<u64>();
    for _ in 0..240 {
        let before = used();
        tokio::time::sleep(LOOK).await;
        if used() - before <= IDLE_US * gateways.len() as u64 {
            return Ok(());
        }
    }
    bail!("the gateways do not come to rest")
}

fn sum_up(found: &[Vec<Found>; COUNTS.len()]) -> Value {
    let mut figures = Map::new();
    for (count, rounds) in COUNTS.into_iter().zip(found) {
        let over_one = rounds.iter().zip(&found[0]).map(|(many, one)| many.per_second / one.per_second);
        let over_one: Vec<_> = over_one.collect();
        figures.insert(
            count.to_string(),
            json!({
                "per_second": median(rounds.iter().map(|found| found.per_second)),
                "over_one": median(over_one.clone()),
                "over_one_each": over_one,
                "gateways_cpu_us_per_request": median(rounds.iter().filter_map(|found| found.gateways_cpu_us)),
                "postgres_cpu_us_per_request": median(rounds.iter().filter_map(|found| found.database_cpu_us)),
            }),
        );
    }
    Value::Object(figures)
}
