//! Faults at every step of a batch: the process ends there, or the disk gives an error. Whatever was answered stands
//! in the log, nothing is signed that is not stored, and at most an entry lacks its answer.
//!
//! The points are named in `src/fault.rs`. `LOG_FAULT_CASES` says how many random sequences are tried (48).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use legal_aid_gateway::audit::entry::{Entry, Phase, Salt};
use legal_aid_gateway::audit::log::{self as audit_log, Batch, Head, Opened, Orphan, Standing, Storage};
use legal_aid_gateway::audit::note::SigningKey;
use legal_aid_gateway::audit::tile::{TileId, TileSet};
use legal_aid_gateway::audit::verifier::StoredEntry;
use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::config::Database;
use legal_aid_gateway::entropy;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::setup::purposes;
use legal_aid_gateway::simulator::court::Script;
use legal_aid_gateway::store::{Effect, Rejection, Sealer, Store};
use proptest::prelude::*;
use support::{DEADLINE, Folder, Gateway, PATIENCE, log, postgres};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Every point that a batch passes, in order.
const POINTS: [&str; 8] = [
    "batch.prepared",
    "batch.signed",
    "commit.begin",
    "commit.effects",
    "commit.rows",
    "commit.done",
    "batch.committed",
    "batch.published",
];

/// Calls of each client, if nothing ends it before.
const CALLS: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_point_of_a_batch_the_gateway_comes_back_with_all_that_it_answered() {
    let folder = Arc::new(Folder::prepare(Script::TakeOnly));
    let _registry = folder.registry().await;
    let ledger = Arc::new(Ledger::default());
    for (number, point) in POINTS.iter().enumerate() {
        let fault = format!("{point}=kill@{}", 3 + number);
        let gateway = Gateway::start_with(&folder, &[("LEGAL_AID_GATEWAY_FAULT", &fault)]).await;
        let ended = load(&folder, &ledger, Refused::EndsTheClient).await;
        assert!(ended > 0, "{point} was not passed so often");
        gateway.kill().await;
    }
    let gateway = Gateway::start(&folder).await;
    wait_until_closed(&folder, &gateway).await;
    let checked = ledger.check(&folder, gateway).await;
    eprintln!("killed at {} points, {checked} answers stand in the log", POINTS.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_at_any_point_of_a_batch_is_a_refusal_and_work_goes_on_without_a_restart() {
    let mut refused = 0;
    for point in &POINTS[..7] {
        let folder = Arc::new(Folder::prepare(Script::TakeOnly));
        let _registry = folder.registry().await;
        let ledger = Arc::new(Ledger::default());
        // Past what a gateway writes while it starts, in more batches or fewer: that would be a refusal to start.
        let fault = format!("{point}=error@8");
        let gateway = Gateway::start_with(&folder, &[("LEGAL_AID_GATEWAY_FAULT", &fault)]).await;
        load(&folder, &ledger, Refused::IsTriedAgain).await;
        // The batch may have been the gateway's own; then no client is refused.
        assert!(gateway.said().contains("audit batch failed"), "{point}: {}", gateway.said());
        refused += *ledger.refused.lock().unwrap();
        wait_until_closed(&folder, &gateway).await;
        ledger.check(&folder, gateway).await;
    }
    assert!(refused > 0, "no client was ever refused");
}

/// What a client does when its call is not answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refused {
    EndsTheClient,
    IsTriedAgain,
}

/// What the clients were told.
#[derive(Default)]
struct Ledger {
    /// Request id by the index of the answer's entry.
    answers: Mutex<BTreeMap<u64, String>>,
    checkpoints: Mutex<Vec<String>>,
    refused: Mutex<u64>,
}

impl Ledger {
    fn note(&self, request_id: String, audit: Option<proto::AuditReceipt>) {
        let index = audit.expect("an answer says where its evidence stands").log_index;
        let before = self.answers.lock().unwrap().insert(index, request_id);
        assert_eq!(before, None, "two answers at {index}");
    }

    /// Stops the gateway and checks its log against what was told.
    async fn check(&self, folder: &Folder, gateway: Gateway) -> usize {
        let log_key = gateway.log_key.clone();
        gateway.stop().await;
        let mut checkpoints = self.checkpoints.lock().unwrap().clone();
        checkpoints.push(std::fs::read_to_string(folder.file("checkpoint")).unwrap());
        let found = log::read(&folder.database(), &log_key, &checkpoints).await;
        assert!(found.report.is_sound(), "{:?}", found.report.findings);
        assert_eq!(found.report.earlier_checked, checkpoints.len() as u64, "signed what is not stored");
        assert!(found.ends().values().all(|ends| ends.len() == 1), "{:?}", found.ends());
        let answers = self.answers.lock().unwrap().clone();
        for (index, request_id) in &answers {
            let entry = &found.entries[usize::try_from(*index).unwrap()];
            assert!(matches!(entry.phase, Phase::Response | Phase::Read), "{index}: {entry:?}");
            assert_eq!(&entry.request.unwrap().to_string(), request_id, "{index}");
        }
        let output = folder.run(&["audit", "fsck", "--config", "gateway.toml"]).await;
        assert!(output.status.success(), "{output:?}");
        answers.len()
    }
}

/// Some clients that verify, submit and fetch checkpoints. Returns how many ended before their time.
async fn load(folder: &Arc<Folder>, ledger: &Arc<Ledger>, refused: Refused) -> usize {
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..4 {
        let (folder, ledger) = (Arc::clone(folder), Arc::clone(ledger));
        clients.spawn(async move {
            for call in 0..CALLS {
                let ended = match (number + call) % 3 {
                    0 => verify(&folder, &ledger, refused).await,
                    1 => submit(&folder, &ledger, refused).await,
                    _ => checkpoint(&folder, &ledger, refused).await,
                };
                if ended.is_err() {
                    return 1;
                }
            }
            0
        });
    }
    clients.join_all().await.into_iter().sum()
}

/// A client has to stop.
struct Ended;

impl Refused {
    /// Whether the call is to be made again.
    async fn again(self, ledger: &Ledger, status: &Status) -> Result<(), Ended> {
        let details = status.get_error_details();
        let reason = details.error_info().map(|info| info.reason.clone());
        if reason.is_none() && self == Self::EndsTheClient {
            return Err(Ended);
        }
        let reason = reason.unwrap_or_else(|| panic!("the gateway broke off: {status:?}"));
        match reason.as_str() {
            "AUDIT_LOG_UNAVAILABLE" => {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                *ledger.refused.lock().unwrap() += 1;
            }
            // The first try's REQUEST is not closed yet.
            "REQUEST_STILL_RUNNING" | "CHANGED_MEANWHILE" => {}
            _ => panic!("refused: {status:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(())
    }
}

async fn verify(folder: &Folder, ledger: &Ledger, refused: Refused) -> Result<(), Ended> {
    let centre = folder.client("centre");
    let question = folder.question(&centre);
    let id = question.envelope.clone().unwrap().request_id;
    loop {
        let request = centre.request(question.clone(), DEADLINE);
        match centre.verification().verify_low_income(request).await {
            Ok(answer) => {
                ledger.note(id, answer.into_inner().audit);
                return Ok(());
            }
            Err(status) => refused.again(ledger, &status).await?,
        }
    }
}

async fn submit(folder: &Folder, ledger: &Ledger, refused: Refused) -> Result<(), Ended> {
    let centre = folder.client("centre");
    let fee_waiver = folder.fee_waiver(&centre);
    let id = fee_waiver.envelope.clone().unwrap().request_id;
    loop {
        let request = centre.request(fee_waiver.clone(), DEADLINE);
        match centre.exchanges().submit_exchange(request).await {
            Ok(answer) => {
                ledger.note(id, answer.into_inner().audit);
                return Ok(());
            }
            Err(status) => refused.again(ledger, &status).await?,
        }
    }
}

async fn checkpoint(folder: &Folder, ledger: &Ledger, refused: Refused) -> Result<(), Ended> {
    let auditor: AgencyClient = folder.client("auditor");
    let context = auditor.context(purposes::AUDIT_INSPECTION);
    let id = context.request_id.clone();
    let message = proto::GetCheckpointRequest { context: Some(context) };
    loop {
        let request = auditor.request(message.clone(), DEADLINE);
        match auditor.audit().get_checkpoint(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                ledger.checkpoints.lock().unwrap().push(answer.checkpoint);
                ledger.note(id, answer.audit);
                return Ok(());
            }
            Err(status) => refused.again(ledger, &status).await?,
        }
    }
}

async fn wait_until_closed(folder: &Folder, gateway: &Gateway) {
    let started = Instant::now();
    while !log::read(&folder.database(), &gateway.log_key, &[]).await.open().is_empty() {
        assert!(started.elapsed() < PATIENCE, "REQUESTs stay open; {}", gateway.said());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What goes wrong with one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Nothing,
    /// Nothing was written.
    BeforeCommit,
    /// All was written, and nobody knows.
    AfterCommit,
    /// Nothing was written, and then the log cannot be read back the first time.
    AndUnreadable,
    /// All was written, and then the log cannot be read back the first time.
    AfterCommitAndUnreadable,
}

/// The store, with faults in an order that was chosen.
struct Faulty {
    store: Store,
    faults: Mutex<VecDeque<Fault>>,
    unreadable: Mutex<bool>,
}

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::other(error)
}

impl Storage for Faulty {
    type Effect = Effect;
    type Rejection = Rejection;
    type Error = io::Error;
    type Turn = <Store as Storage>::Turn;

    async fn head(&self) -> io::Result<Option<Head>> {
        if std::mem::take(&mut *self.unreadable.lock().unwrap()) {
            return Err(failed("unreadable"));
        }
        self.store.head().await.map_err(failed)
    }

    async fn tiles(&self, ids: &[TileId]) -> io::Result<TileSet> {
        self.store.tiles(ids).await.map_err(failed)
    }

    async fn entries(&self, from: u64, limit: u32) -> io::Result<Vec<StoredEntry>> {
        self.store.entries(from, limit).await.map_err(failed)
    }

    async fn turn(&self, known: Option<u64>) -> io::Result<(Self::Turn, Standing)> {
        self.store.turn(known).await.map_err(failed)
    }

    async fn commit(&self, turn: Self::Turn, batch: &Batch<Effect>) -> io::Result<Vec<(usize, Rejection)>> {
        let fault = self.faults.lock().unwrap().pop_front().unwrap_or(Fault::Nothing);
        let is_unreadable = matches!(fault, Fault::AndUnreadable | Fault::AfterCommitAndUnreadable);
        *self.unreadable.lock().unwrap() = is_unreadable;
        if matches!(fault, Fault::BeforeCommit | Fault::AndUnreadable) {
            return Err(failed("before the commit"));
        }
        let outcome = self.store.commit(turn, batch).await.map_err(failed)?;
        if fault == Fault::Nothing { Ok(outcome) } else { Err(failed("after the commit")) }
    }

    fn look_every(&self) -> Option<Duration> {
        self.store.look_every()
    }

    fn is_own(&self, entry: &Entry) -> bool {
        self.store.is_own(entry)
    }

    fn release(&self, orphan: &Orphan) -> Vec<Effect> {
        self.store.release(orphan)
    }
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let fault = prop_oneof![
        3 => Just(Fault::Nothing),
        1 => Just(Fault::BeforeCommit),
        1 => Just(Fault::AfterCommit),
        1 => Just(Fault::AndUnreadable),
        1 => Just(Fault::AfterCommitAndUnreadable),
    ];
    proptest::collection::vec(fault, 1..24)
}

fn cases() -> u32 {
    std::env::var("LOG_FAULT_CASES").ok().map_or(48, |cases| cases.parse().expect("a number"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_storage_does_the_log_verifies_and_every_acknowledged_entry_is_in_it(
        faults in faults(),
        at_once in 1usize..40,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("gateway.db").into();
        runtime.block_on(appends_under(faults, at_once, &database));
    }
}

proptest! {
    // A database for each takes its time.
    #![proptest_config(ProptestConfig { cases: cases() / 6, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_postgresql_does_the_log_verifies_and_every_acknowledged_entry_is_in_it(
        faults in faults(),
        at_once in 1usize..40,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        if let Some(url) = postgres::database() {
            runtime.block_on(appends_under(faults, at_once, &Database::parse(&url)));
        }
    }
}

async fn appends_under(faults: Vec<Fault>, at_once: usize, database: &Database) {
    let key = || SigningKey::from_seed("log.example/audit", &[3; 32]).unwrap();
    let rounds = faults.len();
    let store = open_store(database).await;
    let faulty =
        Faulty { store: store.clone(), faults: Mutex::new(faults.into()), unreadable: Mutex::new(false) };
    let Opened { log, writer, .. } =
        audit_log::open(Arc::new(faulty), key(), Clock::system(), 1024, None).await.unwrap();
    // By index: the id of the entry that was acknowledged there.
    let acknowledged = Arc::new(Mutex::new(BTreeMap::new()));
    let mut checkpoints = Vec::new();
    for _ in 0..rounds {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..at_once {
            let (log, acknowledged) = (log.clone(), Arc::clone(&acknowledged));
            calls.spawn(async move {
                let request = entry(Phase::Request, None);
                let id = request.id;
                let Ok(index) = log.append(request, Salt(entropy::bytes()), Vec::new()).await else { return };
                assert_eq!(acknowledged.lock().unwrap().insert(index, id), None);
                let response = entry(Phase::Response, Some(index));
                let id = response.id;
                if let Ok(index) = log.conclude(response, Salt(entropy::bytes()), Vec::new()).await {
                    assert_eq!(acknowledged.lock().unwrap().insert(index, id), None);
                }
            });
        }
        calls.join_all().await;
        checkpoints.push(log.head().checkpoint.to_string());
    }
    drop(log);
    writer.await.unwrap();
    store.close().await;

    // A gateway that starts closes what was left open, and goes on.
    let store = open_store(database).await;
    let opened = audit_log::open(Arc::new(store.clone()), key(), Clock::system(), 1024, None).await.unwrap();
    opened.log.append(entry(Phase::Read, None), Salt(entropy::bytes()), Vec::new()).await.unwrap();
    drop(opened.log);
    opened.writer.await.unwrap();
    store.close().await;
    let found = log::read(database, &key().verifying_key().to_string(), &checkpoints).await;
    assert!(found.report.is_sound(), "{:?}", found.report.findings);
    assert_eq!(found.report.earlier_checked, checkpoints.len() as u64, "signed what is not stored");
    assert!(found.ends().values().all(|ends| ends.len() == 1), "{:?}", found.ends());
    for (index, id) in &*acknowledged.lock().unwrap() {
        assert_eq!(found.entries[usize::try_from(*index).unwrap()].id, *id, "entry {index}");
    }
}

async fn open_store(database: &Database) -> Store {
    // As who writes the entries: by their node they are known again.
    Store::open(database, Sealer::new(&[7; 32])).await.unwrap().join("test").await.unwrap()
}

fn entry(phase: Phase, request_index: Option<u64>) -> Entry {
    let now = Clock::system().now();
    let mut entry =
        Entry::new(entropy::uuid_v7(now), phase, now, "legalaid.exchange.v1.ExchangeService", "Test", "test");
    entry.request_index = request_index;
    entry
}
