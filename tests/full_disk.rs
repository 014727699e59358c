//! No room for evidence, no work: and once there is room, on it goes without a restart.
//!
//! A disk is made full for one process by its file-size limit (`prlimit`, of util-linux): writes fail, as they do
//! on a full disk. A database that cannot be written is one that somebody else has locked.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use legal_aid_gateway::audit::entry::Phase;
use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::identity::dialler::Dialler;
use legal_aid_gateway::setup::purposes;
use legal_aid_gateway::simulator::court::Script;
use sqlx::{Connection as _, Executor as _};
use support::{DEADLINE, Folder, Gateway, PATIENCE, log};
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

#[tokio::test]
async fn on_a_full_disk_all_work_is_refused_and_nothing_is_dispatched_until_there_is_room() {
    let folder = Folder::prepare(Script::Defer);
    let (registry, court) = (folder.registry().await, folder.court().await);
    let gateway = Gateway::start(&folder).await;
    let party = Parties::of(&folder);
    party.verify(&folder.question(&party.centre)).await.unwrap();
    let first = party.submit(&folder.fee_waiver(&party.centre)).await.unwrap().into_inner();
    party.wait_until_decided(&first.exchange.unwrap().exchange_id).await;
    let (asked, delivered) = (*registry.watch_calls().borrow(), *court.watch_calls().borrow());
    wait_until_closed(&folder, &gateway).await;

    fill_disk(&gateway, 1);
    let (question, fee_waiver) = (folder.question(&party.centre), folder.fee_waiver(&party.centre));
    for _ in 0..3 {
        expect_no_evidence(party.verify(&question).await);
        expect_no_evidence(party.submit(&fee_waiver).await);
        expect_no_evidence(party.checkpoint().await);
        expect_no_evidence(party.list().await);
        // Nor is a refusal given without its entry: this one would be PERMISSION_DENIED.
        let denied = party.court.request(folder.question(&party.court), DEADLINE);
        expect_no_evidence(party.court.verification().verify_low_income(denied).await);
    }
    assert!(party.is_serving().await, "the process is well");
    assert_eq!(*registry.watch_calls().borrow(), asked, "the registry was asked");
    assert_eq!(*court.watch_calls().borrow(), delivered, "something was delivered");

    make_room(&gateway);
    assert_eq!(party.list().await.unwrap().into_inner().exchanges.len(), 1, "an exchange was stored");
    party.verify(&question).await.unwrap();
    let submitted = party.submit(&fee_waiver).await.unwrap().into_inner().exchange.unwrap();
    assert_eq!(*registry.watch_calls().borrow(), asked + 1);
    party.wait_until_decided(&submitted.exchange_id).await;
    assert_eq!(party.list().await.unwrap().into_inner().exchanges.len(), 2);
    stop_and_verify(&folder, gateway).await;
}

#[tokio::test]
async fn what_was_in_progress_when_the_disk_filled_is_closed_without_a_restart_once_there_is_room() {
    let folder = Folder::prepare(Script::Defer);
    slow_down_registry(&folder, 2_000);
    let registry = folder.registry().await;
    // In the court's place somebody accepts connections and says nothing: the delivery hangs.
    let at_the_court = tokio::net::TcpListener::bind(court_address(&folder)).await.unwrap();
    let patient =
        [("LEGAL_AID_GATEWAY__DELIVERY__ATTEMPT", "2s"), ("LEGAL_AID_GATEWAY__DELIVERY__LEASE", "3s")];
    let gateway = Gateway::start_with(&folder, &patient).await;
    let party = Parties::of(&folder);
    let submitted = party.submit(&folder.fee_waiver(&party.centre)).await.unwrap().into_inner();
    let _silent = tokio::time::timeout(PATIENCE, at_the_court.accept()).await.unwrap().unwrap();
    let question = folder.question(&party.centre);
    let mut asked = registry.watch_calls();
    let (again, sent) = (party.clone(), question.clone());
    let verification = tokio::spawn(async move { again.verify(&sent).await });
    asked.wait_for(|calls| *calls == 1).await.unwrap();

    fill_disk(&gateway, 1);
    expect_no_evidence(verification.await.unwrap());
    // Past the delivery's lease: time has to pass, nothing can be written that would tell of it.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let found = log::read(&folder.database(), &gateway.log_key, &[]).await;
    assert_eq!(found.open().len(), 2, "the verification's REQUEST and the delivery's");

    make_room(&gateway);
    wait_until_closed(&folder, &gateway).await;
    let found = log::read(&folder.database(), &gateway.log_key, &[]).await;
    assert_eq!(found.count(Phase::Interrupted), 1, "the verification's answer was lost");
    party.verify(&question).await.expect("its request id is free again");
    drop(at_the_court);
    let _court = folder.court().await;
    party.wait_until_decided(&submitted.exchange.unwrap().exchange_id).await;
    stop_and_verify(&folder, gateway).await;
}

#[tokio::test]
async fn a_disk_that_fills_under_load_loses_no_answer_that_was_given() {
    let folder = Folder::prepare(Script::TakeOnly);
    let _registry = folder.registry().await;
    let gateway = Gateway::start(&folder).await;
    let party = Parties::of(&folder);
    let mut answers = Vec::new();
    // At other places of a page and of a batch each time.
    for room in [300_000, 500_001, 700_003] {
        party.verify(&folder.question(&party.centre)).await.unwrap();
        let used = std::fs::metadata(folder.file("gateway.db-wal")).unwrap().len();
        fill_disk(&gateway, used + room);
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (party, centre) = (party.clone(), party.centre.clone());
            let questions: Vec<_> = (0..200).map(|_| folder.question(&centre)).collect();
            clients.spawn(async move {
                let mut answered = Vec::new();
                for question in questions {
                    let request_id = question.envelope.clone().unwrap().request_id;
                    match party.verify(&question).await {
                        Ok(answer) => {
                            answered.push((request_id, answer.into_inner().audit.unwrap().log_index));
                        }
                        Err(status) => {
                            expect_no_evidence::<()>(Err(status));
                            return answered;
                        }
                    }
                }
                panic!("the disk did not get full")
            });
        }
        for answered in clients.join_all().await {
            answers.extend(answered);
        }
        make_room(&gateway);
        wait_until_closed(&folder, &gateway).await;
    }
    let found = stop_and_verify(&folder, gateway).await;
    assert!(answers.len() > 50, "{} answers before the disk was full", answers.len());
    for (request_id, index) in answers {
        let entry = &found.entries[usize::try_from(index).unwrap()];
        assert_eq!(entry.phase, Phase::Response);
        assert_eq!(entry.request.unwrap().to_string(), request_id);
    }
}

#[tokio::test]
async fn while_the_database_cannot_be_written_work_is_refused_and_then_goes_on_without_a_restart() {
    let folder = Folder::prepare(Script::TakeOnly);
    let registry = folder.registry().await;
    let gateway = Gateway::start(&folder).await;
    let party = Parties::of(&folder);
    party.verify(&folder.question(&party.centre)).await.unwrap();
    let asked = *registry.watch_calls().borrow();

    let mut other = log::connect(&folder.database()).await;
    other.execute("BEGIN EXCLUSIVE").await.unwrap();
    let (question, fee_waiver) = (folder.question(&party.centre), folder.fee_waiver(&party.centre));
    let (verified, submitted) = tokio::join!(party.verify(&question), party.submit(&fee_waiver));
    expect_no_evidence(verified);
    expect_no_evidence(submitted);
    assert!(party.is_serving().await, "the process is well");
    assert_eq!(*registry.watch_calls().borrow(), asked, "the registry was asked");

    other.execute("ROLLBACK").await.unwrap();
    other.close().await.unwrap();
    assert!(party.list().await.unwrap().into_inner().exchanges.is_empty(), "an exchange was stored");
    party.verify(&question).await.unwrap();
    party.submit(&fee_waiver).await.unwrap();
    stop_and_verify(&folder, gateway).await;
}

/// Who calls.
#[derive(Clone)]
struct Parties {
    centre: AgencyClient,
    court: AgencyClient,
    auditor: AgencyClient,
}

impl Parties {
    fn of(folder: &Folder) -> Self {
        let [centre, court, auditor] = ["centre", "court", "auditor"].map(|name| folder.client(name));
        Self { centre, court, auditor }
    }

    async fn verify(
        &self,
        question: &proto::VerifyLowIncomeRequest,
    ) -> Result<Response<proto::VerifyLowIncomeResponse>, Status> {
        let request = self.centre.request(question.clone(), DEADLINE);
        self.centre.verification().verify_low_income(request).await
    }

    async fn submit(
        &self,
        fee_waiver: &proto::SubmitExchangeRequest,
    ) -> Result<Response<proto::SubmitExchangeResponse>, Status> {
        let request = self.centre.request(fee_waiver.clone(), DEADLINE);
        self.centre.exchanges().submit_exchange(request).await
    }

    async fn list(&self) -> Result<Response<proto::ListExchangesResponse>, Status> {
        let context = Some(self.centre.context(purposes::FEE_WAIVER));
        let request = proto::ListExchangesRequest { context, ..Default::default() };
        self.centre.exchanges().list_exchanges(self.centre.request(request, DEADLINE)).await
    }

    async fn checkpoint(&self) -> Result<Response<proto::GetCheckpointResponse>, Status> {
        let context = Some(self.auditor.context(purposes::AUDIT_INSPECTION));
        let request = self.auditor.request(proto::GetCheckpointRequest { context }, DEADLINE);
        self.auditor.audit().get_checkpoint(request).await
    }

    async fn wait_until_decided(&self, exchange_id: &str) {
        let started = Instant::now();
        loop {
            let exchanges = self.list().await.unwrap().into_inner().exchanges;
            let exchange = exchanges.iter().find(|exchange| exchange.exchange_id == exchange_id).unwrap();
            if exchange.state() == proto::ExchangeState::Decided {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "still {}", exchange.state().as_str_name());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn is_serving(&self) -> bool {
        let profile = self.centre.profile();
        let dialler = Dialler::new(&profile.credentials().unwrap(), Clock::system());
        let channel = dialler.channel(&profile.endpoint()).unwrap();
        let request = tonic_health::pb::HealthCheckRequest { service: String::new() };
        let answer =
            tonic_health::pb::health_client::HealthClient::new(channel).check(request).await.unwrap();
        answer.into_inner().status == tonic_health::pb::health_check_response::ServingStatus::Serving as i32
    }
}

fn expect_no_evidence<R>(answer: Result<R, Status>) {
    let Err(status) = answer else { panic!("answered without evidence") };
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "AUDIT_LOG_UNAVAILABLE");
    assert!(details.retry_info().unwrap().retry_delay.is_some(), "it says when to try again");
}

/// From now on no file of the process grows, or is written, beyond `bytes`.
fn fill_disk(gateway: &Gateway, bytes: u64) {
    limit_file_size(gateway, &format!("--fsize={bytes}:unlimited"));
}

fn make_room(gateway: &Gateway) {
    limit_file_size(gateway, "--fsize=unlimited:unlimited");
}

fn limit_file_size(gateway: &Gateway, limit: &str) {
    let status = Command::new("prlimit").args(["--pid", &gateway.pid().to_string(), limit]).status();
    let status = status.expect("this test needs `prlimit`; install util-linux");
    assert!(status.success(), "prlimit: {status}");
}

/// Waits until every REQUEST has its end, and checks that it has one only.
async fn wait_until_closed(folder: &Folder, gateway: &Gateway) {
    let started = Instant::now();
    loop {
        let found = log::read(&folder.database(), &gateway.log_key, &[]).await;
        let open = found.open();
        if open.is_empty() {
            assert!(found.ends().values().all(|ends| ends.len() == 1), "{:?}", found.ends());
            return;
        }
        assert!(started.elapsed() < PATIENCE, "REQUESTs stay open: {open:?}; {}", gateway.said());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn stop_and_verify(folder: &Folder, gateway: Gateway) -> log::Log {
    let log_key = gateway.log_key.clone();
    gateway.stop().await;
    let found = log::read(&folder.database(), &log_key, &[]).await;
    assert!(found.report.is_sound(), "{:?}", found.report.findings);
    assert!(found.ends().values().all(|ends| ends.len() == 1), "{:?}", found.ends());
    found
}

fn slow_down_registry(folder: &Folder, milliseconds: u64) {
    let path = folder.file("simulate-registry.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("answer_after_ms = 0"), "{text}");
    std::fs::write(path, text.replace("answer_after_ms = 0", &format!("answer_after_ms = {milliseconds}")))
        .unwrap();
}

fn court_address(folder: &Folder) -> std::net::SocketAddr {
    let text = std::fs::read_to_string(folder.file("simulate-court.toml")).unwrap();
    text.parse::<toml::Table>().unwrap()["listen"].as_str().unwrap().parse().unwrap()
}
