//! What each attack costs the gateway, and what a well-behaved neighbour notices of it: the attacks of
//! `tests/front_door.rs` against `serve` as it comes, with its default deadlines and limits.
//!
//! `cargo bench --bench front_door` prints the table of `docs/front-door.md`. It takes about five minutes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on ends")]

#[path = "../../tests/support/mod.rs"]
mod support;

#[path = "../../tests/front_door/attacks.rs"]
mod attacks;
#[path = "../../tests/front_door/neighbour.rs"]
mod neighbour;
#[path = "../../tests/front_door/peer.rs"]
mod peer;

mod handles;
mod handshakes;
mod process;

use std::time::{Duration, Instant};

use clap::Parser;
use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::grpc::json::from_json;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::setup::purposes;
use legal_aid_gateway::simulator::court::Script;

use crate::attacks::{Attack, Scene};
use crate::neighbour::{Neighbour, Noticed};
use crate::peer::Identity;
use crate::process::Watch;
use crate::support::{Folder, Gateway};

/// Attacks a gateway and measures what it notices.
#[derive(Parser)]
#[command(name = "cargo bench --bench front_door --")]
struct Arguments {
    /// Seconds of quiet before the first attack, and after each.
    #[arg(long, default_value_t = 3)]
    quiet: u64,
    /// Only attacks whose name in the table holds this.
    #[arg(long, default_value = "")]
    only: String,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Entries of the log before attacks by unread answers: a page of 500 has something to hold.
const CALLS_BEFORE: usize = 300;

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let folder = Folder::prepare(Script::TakeOnly);
    let registry = folder.registry().await;
    let gateway = Gateway::start(&folder).await;
    let pid = gateway.pid();
    let question = std::fs::read_to_string(folder.file("query.json")).unwrap();
    let neighbour = Neighbour::start(folder.path(), "centre", Duration::from_millis(5), move |centre| {
        neighbours_question(centre, from_json("LowIncomeQuery", &question).unwrap())
    })
    .await;
    neighbour.until_calls(CALLS_BEFORE).await;
    let attacker = Identity::load(folder.path(), "court");
    let scene =
        Scene { folder: folder.path().to_owned(), attacker, connections: 200, calls: 400, frames: 200_000 };

    println!("Default configuration; RSS in MiB, CPU in s, the neighbour's p99 in ms.\n");
    println!(
        "| attack | what the gateway did | after s | RSS before | growth | CPU | p99 before | during | after | errors |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    neighbour.take();
    tokio::time::sleep(Duration::from_secs(arguments.quiet)).await;
    let mut before = neighbour.take();
    let mut misses = Vec::new();
    for attack in Attack::ALL.into_iter().filter(|attack| attack.title().contains(&arguments.only)) {
        let watch = Watch::start(pid);
        let began = Instant::now();
        let seen = attack.make(&scene).await;
        let used = watch.stop().await;
        let took = began.elapsed();
        let during = neighbour.take();
        tokio::time::sleep(Duration::from_secs(arguments.quiet)).await;
        let after = neighbour.take();
        let how: Vec<String> = seen.how.iter().map(|(how, count)| format!("{count} x {how}")).collect();
        println!(
            "| {} | {} | {:.1} | {:.0} | {:.1} | {:.2} of {:.1} | {:.1} | {:.1} | {:.1} | {} of {} |",
            attack.title(),
            how.join(", "),
            seen.last.as_secs_f64(),
            used.before_mib,
            used.growth_mib(),
            used.cpu.as_secs_f64(),
            took.as_secs_f64(),
            before.p99_ms(),
            during.p99_ms(),
            after.p99_ms(),
            during.errors.len() + after.errors.len(),
            during.micros.len() + after.micros.len(),
        );
        misses.extend(targets_missed(attack, &seen, &used, [&before, &during, &after]));
        before = after;
    }
    drop(neighbour);
    if arguments.only.is_empty() {
        println!();
        misses.extend(handshakes::compare(folder.path(), pid).await);
        println!();
        misses.extend(handles::exhaust(&scene, pid).await);
    }
    println!();
    if misses.is_empty() {
        println!("Every target is met.");
    }
    for miss in &misses {
        println!("- missed: {miss}");
    }
    gateway.stop().await;
    registry.stop().await;
}

fn targets_missed(
    attack: Attack,
    seen: &attacks::Seen,
    used: &process::Used,
    [before, during, after]: [&Noticed; 3],
) -> Vec<String> {
    let title = attack.title();
    let mut misses = Vec::new();
    if !seen.all_gone() {
        misses.push(format!("{title}: {} of {} gone", seen.gone, seen.of));
    }
    if seen.last > Duration::from_secs(36) {
        misses.push(format!("{title}: gone only after {:.1} s", seen.last.as_secs_f64()));
    }
    if used.growth_mib() > 64.0 {
        misses.push(format!("{title}: {:.1} MiB more", used.growth_mib()));
    }
    let bound = (2.0 * before.p99_ms()).max(50.0);
    if during.p99_ms() > bound {
        misses.push(format!("{title}: the neighbour's p99 is {:.1} ms", during.p99_ms()));
    }
    for error in during.errors.iter().chain(&after.errors) {
        misses.push(format!("{title}: the neighbour was told {error}"));
    }
    misses
}

fn neighbours_question(centre: &AgencyClient, query: proto::LowIncomeQuery) -> proto::VerifyLowIncomeRequest {
    let envelope = centre.complete(proto::Envelope {
        matter_id: "LQ-2026-0001".to_owned(),
        kind: proto::Kind::LowIncomeQuery.into(),
        legal_basis: vec![proto::LegalBasis { law: "法律援助法".to_owned(), article: "41".to_owned() }],
        purpose: purposes::AID_ELIGIBILITY.to_owned(),
        classification: Some(proto::Classification { sensitive: Some(true), minor_under_14: Some(false) }),
        ..Default::default()
    });
    proto::VerifyLowIncomeRequest { envelope: Some(envelope), query: Some(query), complete_later: false }
}
