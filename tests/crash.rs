//! Sudden ends of the real gateway and of its database, at random moments and at named points, under load and beside other
//! misfortune: what was answered stays true. docs/crash-campaign.md says what happens, what is checked and what came of it.
//!
//! `CRASH_KILLS` says how many sudden ends there are (by default as many as take some twenty seconds), `CRASH_SEED` repeats a run's chance,
//! `TEST_DATABASE=postgres` has it on PostgreSQL alone, with two gateways, and `TEST_DATABASE=sqlite` on SQLite alone.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "crash/answer.rs"]
mod answer;
#[path = "crash/chance.rs"]
mod chance;
#[path = "crash/checks.rs"]
mod checks;
#[path = "crash/clients.rs"]
mod clients;
#[path = "crash/ledger.rs"]
mod ledger;
#[path = "crash/misfortune.rs"]
mod misfortune;
#[path = "crash/scene.rs"]
mod scene;
mod support;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::simulator::court::Script;
use prost::Message as _;

use self::chance::Dice;
use self::clients::Load;
use self::ledger::Ledger;
use self::misfortune::Tally;
use self::scene::Scene;
use self::support::{Folder, Gateway};

/// Sudden ends of the short form, on SQLite and on PostgreSQL.
const KILLS: (u64, u64) = (10, 8);

#[tokio::test(flavor = "multi_thread")]
async fn whatever_ends_suddenly_on_sqlite_every_answer_stands_and_nothing_is_lost_or_doubled() {
    if is_wanted("sqlite") {
        campaign("SQLite", Scene::on_sqlite().await, KILLS.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_ends_suddenly_on_postgresql_every_answer_stands_and_nothing_is_lost_or_doubled() {
    if is_wanted("postgres")
        && let Some(scene) = Scene::on_postgres().await
    {
        campaign("PostgreSQL", scene, KILLS.1).await;
    }
}

async fn campaign(database: &str, mut scene: Scene, kills: u64) {
    let begun = Instant::now();
    let kills = number("CRASH_KILLS").unwrap_or(kills);
    let mut dice = Dice::new(number("CRASH_SEED"));
    let mut tally = Tally::default();
    let load = Load::begin(scene.folder());
    let mut checked = 0;
    while tally.kills < kills {
        dice.pause(Duration::from_millis(20), Duration::from_millis(400)).await;
        if dice.one_in(2) {
            scene.mishap(&load.ledger, &mut dice, &mut tally).await;
        }
        scene.kill(&mut dice, &mut tally).await;
        load.ledger.lives.send_modify(|lives| *lives += 1);
        checked = checks::new_answers(&scene, &load.ledger, checked).await;
    }
    scene.heal(&mut tally).await;
    let ledger = load.end().await;
    let found = checks::everything(scene, &ledger).await;
    assert!(found.exchanges > 1 && found.answers > 20, "there was no load");
    eprintln!(
        "crash on {database}: {} kills (seed {}), {:.0} s\n{tally}  held: {} exchanges, {} handed over again, {} answers \
         ({} replayed) and {} refusals with their entries, {} refused while the log could not be written, {} entries, {} closed as interrupted, {} checkpoints",
        tally.kills,
        dice.seed,
        begun.elapsed().as_secs_f64(),
        found.exchanges,
        found.handed_over_again,
        found.answers,
        ledger.replayed.load(Ordering::Relaxed),
        found.refusals,
        ledger.unwritten.load(Ordering::Relaxed),
        found.entries,
        found.interrupted,
        found.checkpoints,
    );
}

fn is_wanted(database: &str) -> bool {
    std::env::var("TEST_DATABASE").map_or(true, |wanted| wanted == database)
}

/// By then the exchange has moved on, and the same answer would not be allowed as a new one.
#[tokio::test]
async fn a_receipt_whose_answer_was_lost_with_the_gateway_is_sent_again_and_gets_the_first_answer() {
    let folder = Folder::prepare(Script::TakeOnly);
    let _court = folder.court().await;
    let gateway = Gateway::start(&folder).await;
    let ledger = Ledger::new();
    let (centre, court) = (folder.client("centre"), folder.client("court"));
    let fee_waiver = folder.fee_waiver(&centre);
    let exchange = ledger.submit(&centre, &fee_waiver).await.exchange.unwrap();
    let opening = ledger.read(&centre, &exchange.exchange_id).await.thread.remove(0);
    let receipt = proto::Receipt {
        message_sha256: sha256(&opening.encode_to_vec()),
        received_at: opening.accept_time,
        receipt_number: "R-1".to_owned(),
    };
    let envelope = court.complete(proto::Envelope {
        recipient: exchange.sender,
        in_reply_to: exchange.exchange_id.clone(),
        request_id: String::new(),
        sender: String::new(),
        operator: None,
        ..fee_waiver.envelope.unwrap()
    });
    let id = envelope.request_id.clone();
    let request = proto::RespondToExchangeRequest {
        envelope: Some(envelope),
        response: Some(proto::Response { kind: Some(proto::response::Kind::Receipt(receipt)) }),
    };
    let call = |request| {
        let court = court.clone();
        async move { court.exchanges().respond_to_exchange(request).await }
    };
    let first = ledger.until_answered(&court, &request, &id, call).await;
    gateway.kill().await;
    let gateway = Gateway::start(&folder).await;
    let again = ledger.until_answered(&court, &request, &id, call).await;
    assert!(first == again, "the retry got another answer");
    assert_eq!(ledger.read(&centre, &exchange.exchange_id).await.thread.len(), 2);
    gateway.stop().await;
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}
