//! Several gateways on one PostgreSQL: one log, whoever of them is asked, killed or stopped.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use legal_aid_gateway::audit::entry::Phase;
use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::config::Database;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::setup::purposes;
use legal_aid_gateway::simulator::court::Script;
use legal_aid_gateway::simulator::district::free_address;
use support::{DEADLINE, Folder, Gateway, PATIENCE, log, postgres};
use tokio::process::Command;
use tokio::task::JoinSet;
use tonic_types::StatusExt as _;

/// A database, and folders from which gateways run on it: one organ's keys and directory, each its own address.
struct Province {
    url: String,
    folders: Vec<Folder>,
}

impl Province {
    /// `None` where there is no PostgreSQL; that is told.
    fn prepare(script: Script, gateways: usize) -> Option<Self> {
        let url = postgres::database()?;
        let first = Folder::prepare(script);
        let mut folders = Vec::new();
        for _ in 1..gateways {
            let folder = Folder::empty();
            copy(first.path(), folder.path());
            let (old, new) = (listens(&first), free_address().unwrap().to_string());
            for file in fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()) {
                if file.extension().is_some_and(|extension| extension == "toml") {
                    fs::write(&file, fs::read_to_string(&file).unwrap().replace(&old, &new)).unwrap();
                }
            }
            folders.push(folder);
        }
        folders.insert(0, first);
        Some(Self { url, folders })
    }

    async fn start(&self, number: usize) -> Gateway {
        self.try_start(number, &format!("node-{number}"))
            .await
            .unwrap_or_else(|refused| panic!("{refused:?}"))
    }

    async fn try_start(&self, number: usize, node: &str) -> Result<Gateway, support::Refused> {
        let environment = [
            ("LEGAL_AID_GATEWAY__GATEWAY__NODE", node),
            ("LEGAL_AID_GATEWAY__STORE__DATABASE", self.url.as_str()),
        ];
        Gateway::try_start(&self.folders[number], &environment).await
    }

    fn centre(&self, number: usize) -> AgencyClient {
        self.folders[number].client("centre")
    }

    async fn log(&self, key: &str) -> log::Log {
        let found = log::read(Database::parse(&self.url), key, &[]).await;
        assert!(found.report.is_sound(), "{:?}", found.report.findings);
        let order: Vec<_> = found.entries.iter().map(|entry| entry.recorded).collect();
        assert!(order.is_sorted(), "an entry is recorded before one that stands before it");
        found
    }

    /// Waits until every REQUEST has ended, and returns the log.
    async fn all_ended(&self, key: &str) -> log::Log {
        let begun = Instant::now();
        loop {
            let found = self.log(key).await;
            if found.open().is_empty() {
                assert!(found.ends().values().all(|ends| ends.len() == 1), "{:?}", found.ends());
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "these never end: {:?}", found.open());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn listens(folder: &Folder) -> String {
    let text = fs::read_to_string(folder.file("gateway.toml")).unwrap();
    let line = text.lines().find(|line| line.starts_with("listen = ")).unwrap();
    line.split('"').nth(1).unwrap().to_owned()
}

fn copy(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&file.path(), &target);
        } else {
            fs::copy(file.path(), target).unwrap();
        }
    }
}

/// Questions to the gateways in turn, by several clerks at once, until it is told to end.
struct Load {
    over: Arc<AtomicBool>,
    answered: Vec<Arc<AtomicU64>>,
    clerks: JoinSet<()>,
}

impl Load {
    fn begin(province: &Province, clerks: usize) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let answered: Vec<Arc<AtomicU64>> = province.folders.iter().map(|_| Arc::default()).collect();
        let mut load = Self { over, answered, clerks: JoinSet::new() };
        for (number, answered) in load.answered.iter().enumerate() {
            for _ in 0..clerks {
                let (over, answered) = (Arc::clone(&load.over), Arc::clone(answered));
                let (centre, question) =
                    (province.centre(number), province.folders[number].question(&province.centre(number)));
                load.clerks.spawn(async move {
                    while !over.load(Ordering::SeqCst) {
                        let mut question = question.clone();
                        question.envelope.as_mut().unwrap().request_id =
                            centre.context(purposes::AID_ELIGIBILITY).request_id;
                        match centre
                            .verification()
                            .verify_low_income(centre.request(question, DEADLINE))
                            .await
                        {
                            Ok(_) => _ = answered.fetch_add(1, Ordering::SeqCst),
                            // Stopped, killed, or without the log for a moment.
                            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                        }
                    }
                });
            }
        }
        load
    }

    /// Waits until a gateway has answered so many more.
    async fn goes_on(&self, number: usize, more: u64) {
        let wanted = self.answered[number].load(Ordering::SeqCst) + more;
        let begun = Instant::now();
        while self.answered[number].load(Ordering::SeqCst) < wanted {
            assert!(begun.elapsed() < PATIENCE, "gateway {number} answers no more");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(mut self) {
        self.over.store(true, Ordering::SeqCst);
        while let Some(ended) = self.clerks.join_next().await {
            ended.unwrap();
        }
    }
}

async fn list(centre: &AgencyClient) -> Vec<proto::Exchange> {
    let context = Some(centre.context(purposes::FEE_WAIVER));
    let request = proto::ListExchangesRequest { context, page_size: 200, ..Default::default() };
    let listed = centre.exchanges().list_exchanges(centre.request(request, DEADLINE)).await;
    listed.unwrap().into_inner().exchanges
}

async fn signal(gateway: &Gateway, signal: &str) {
    let pid = gateway.pid().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_agreed_at_one_gateway_holds_at_the_other_shortly_after_and_a_quota_is_one_for_both() {
    let Some(province) = Province::prepare(Script::TakeOnly, 2) else { return };
    let _registry = province.folders[0].registry().await;
    let gateways = [province.start(0).await, province.start(1).await];
    let key = gateways[0].log_key.clone();
    let operator = province.folders[0].client("operator");
    let context = || Some(operator.context(purposes::GATEWAY_OPERATION));
    let ask = async |number: usize| {
        let centre = province.centre(number);
        let question = province.folders[number].question(&centre);
        centre.verification().verify_low_income(centre.request(question, DEADLINE)).await.map(drop)
    };
    let reason = |status: &tonic::Status| status.get_error_details().error_info().unwrap().reason.clone();
    // How long until the other gateway decides as it should.
    let other_comes_to = async |wanted: &str| {
        let begun = Instant::now();
        loop {
            let told = ask(1).await.err().map_or_else(|| "OK".to_owned(), |status| reason(&status));
            if told == wanted {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < PATIENCE, "the other gateway still says {told}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    other_comes_to("OK").await;

    let request = proto::GetAgreementRequest { context: context(), agreement_id: "DEV-VERIFY".to_owned() };
    let shown = operator.agreements().get_agreement(operator.request(request, DEADLINE)).await.unwrap();
    let first = shown.into_inner().versions.remove(0).agreement.unwrap();
    let put = async |agreement: proto::Agreement| {
        let request = proto::PutAgreementRequest { context: context(), agreement: Some(agreement) };
        operator.agreements().put_agreement(operator.request(request, DEADLINE)).await.unwrap();
    };
    let mut slowest = Duration::ZERO;
    for round in 0..4 {
        let (version, purposes, wanted) = match round % 2 {
            0 => (2 + round, vec!["STATISTICS".to_owned()], "PURPOSE_NOT_AGREED"),
            _ => (2 + round, first.purposes.clone(), "OK"),
        };
        put(proto::Agreement { version, purposes, ..first.clone() }).await;
        assert_eq!(ask(0).await.err().map_or_else(|| "OK".to_owned(), |status| reason(&status)), wanted);
        slowest = slowest.max(other_comes_to(wanted).await);
    }
    println!("the other gateway followed within {slowest:?}");

    // Twenty calls, at both at once, of which seven are allowed.
    let quota = Some(proto::AgreementQuota { per_day: 7, ..Default::default() });
    put(proto::Agreement { version: 6, quota, ..first.clone() }).await;
    let elsewhere = province.folders[1].client("operator");
    let explained = async || {
        let request = proto::ExplainAgreementRequest {
            context: context(),
            caller: first.caller.as_ref().unwrap().agency.clone(),
            method: "VerifyLowIncome".to_owned(),
            ..Default::default()
        };
        let answer = elsewhere.agreements().explain_agreement(elsewhere.request(request, DEADLINE)).await;
        answer.unwrap().into_inner().version
    };
    let begun = Instant::now();
    while explained().await != 6 {
        assert!(begun.elapsed() < PATIENCE, "the other gateway does not follow");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut asking = JoinSet::new();
    for place in 0..20 {
        let centre = province.centre(place % 2);
        let question = province.folders[place % 2].question(&centre);
        asking.spawn(async move {
            centre.verification().verify_low_income(centre.request(question, DEADLINE)).await.map(drop)
        });
    }
    let answers = asking.join_all().await;
    let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).map(reason).collect();
    assert_eq!((answers.len() - refused.len(), refused.len()), (7, 13), "{refused:?}");
    assert!(refused.iter().all(|reason| reason == "QUOTA_SPENT"), "{refused:?}");
    for gateway in gateways {
        gateway.stop().await;
    }
    province.all_ended(&key).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_write_one_log_and_a_request_id_has_one_outcome_on_both() {
    let Some(province) = Province::prepare(Script::Defer, 2) else { return };
    let _registry = province.folders[0].registry().await;
    let _court = province.folders[0].court().await;
    let gateways = [province.start(0).await, province.start(1).await];
    let key = gateways[0].log_key.clone();

    let taken = province.try_start(1, "node-0").await.err().expect("one name, one gateway");
    assert!(taken.said.contains("node-0") && taken.said.contains("gateway.node"), "{}", taken.said);

    let load = Load::begin(&province, 4);
    let centres = [province.centre(0), province.centre(1)];
    let watch = proto::WatchExchangesRequest {
        context: Some(centres[1].context(purposes::FEE_WAIVER)),
        cursor: String::new(),
    };
    let mut changes = centres[1].exchanges().watch_exchanges(watch).await.unwrap().into_inner();
    // The same submission to both at once: one exchange.
    for _ in 0..8 {
        let request = province.folders[0].fee_waiver(&centres[0]);
        let submit = async |centre: &AgencyClient| loop {
            match centre.exchanges().submit_exchange(centre.request(request.clone(), DEADLINE)).await {
                Ok(answer) => return answer.into_inner(),
                // The other gateway is at it, or has just moved the log.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let (left, right) = tokio::join!(submit(&centres[0]), submit(&centres[1]));
        assert_eq!(left.exchange.unwrap().exchange_id, right.exchange.unwrap().exchange_id);
        assert_eq!(left.audit.unwrap().log_index, right.audit.unwrap().log_index);
    }
    load.goes_on(0, 20).await;
    load.goes_on(1, 20).await;
    load.end().await;

    // What one gateway takes in comes to who watches the other, and to who searches there.
    let request = province.folders[0].fee_waiver(&centres[0]);
    let submitted = centres[0].exchanges().submit_exchange(centres[0].request(request, DEADLINE)).await;
    let submitted = submitted.unwrap().into_inner().exchange.unwrap().exchange_id;
    let seen = async {
        loop {
            let change = changes.message().await.unwrap().expect("a watch does not end by itself");
            if change.event.is_some_and(|event| event.exchange_id == submitted) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.expect("the change does not come");
    let auditor = province.folders[1].client("auditor");
    let begun = Instant::now();
    loop {
        let filter = proto::EntryFilter { exchange_id: submitted.clone(), ..Default::default() };
        let request = proto::ListEntriesRequest {
            context: Some(auditor.context(purposes::AUDIT_INSPECTION)),
            filter: Some(filter),
            page_size: 500,
            ..Default::default()
        };
        let listed = auditor.audit().list_entries(auditor.request(request, DEADLINE)).await.unwrap();
        if listed.into_inner().entries.len() >= 2 {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "the entries are not found");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // What one took in, the court has decided by way of either, and the other shows.
    let begun = Instant::now();
    loop {
        let exchanges = list(&centres[1]).await;
        assert_eq!(exchanges.len(), 9, "one for each request id");
        if exchanges.iter().all(|exchange| exchange.state() == proto::ExchangeState::Decided) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "the court has not decided");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for gateway in gateways {
        assert!(!gateway.said().contains("ERROR"), "{}", gateway.said());
        gateway.stop().await;
    }
    let found = province.all_ended(&key).await;
    let nodes: BTreeSet<_> = found.entries.iter().map(|entry| entry.node.as_str()).collect();
    assert_eq!(nodes, ["node-0", "node-1"].into());
    let changes = found.entries.windows(2).filter(|pair| pair[0].node != pair[1].node).count();
    assert!(changes > 10, "they did not take turns");
    assert_eq!(found.count(Phase::Interrupted), 0);
    let verified = province.folders[0].run(&["audit", "verify", &province.url, "--key", &key]).await;
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    let checked = province.folders[0].run(&["audit", "fsck", &province.url, "--key", &key]).await;
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_gateway_left_open_is_closed_by_another_and_it_comes_back() {
    let Some(province) = Province::prepare(Script::TakeOnly, 2) else { return };
    // A register that takes connections and says nothing: questions to it stay open.
    let text = fs::read_to_string(province.folders[0].file("simulate-registry.toml")).unwrap();
    let address = text.lines().find_map(|line| line.strip_prefix("listen = ")).unwrap().trim_matches('"');
    let _silent = tokio::net::TcpListener::bind(address).await.unwrap();
    let killed = province.start(0).await;
    let other = province.start(1).await;
    let key = other.log_key.clone();
    list(&province.centre(1)).await;
    let mut asked = JoinSet::new();
    for _ in 0..5 {
        let (centre, question) = (province.centre(0), province.folders[0].question(&province.centre(0)));
        asked.spawn(async move {
            centre.verification().verify_low_income(centre.request(question, DEADLINE)).await
        });
    }
    let begun = Instant::now();
    while province.log(&key).await.open().len() < 5 {
        assert!(begun.elapsed() < PATIENCE, "the questions do not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    killed.kill().await;
    asked.shutdown().await;
    let found = province.all_ended(&key).await;
    assert_eq!(found.count(Phase::Interrupted), 5);
    // Back under its name, it finds nothing left to close, and writes on.
    let back = province.start(0).await;
    list(&province.centre(0)).await;
    back.stop().await;
    other.stop().await;
    assert_eq!(province.all_ended(&key).await.count(Phase::Interrupted), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_stopped_under_load_holds_up_the_other_for_a_bounded_time_and_forks_nothing() {
    let Some(province) = Province::prepare(Script::TakeOnly, 2) else { return };
    let _registry = province.folders[0].registry().await;
    let stopped = province.start(0).await;
    let other = province.start(1).await;
    let key = other.log_key.clone();
    let load = Load::begin(&province, 8);
    for _ in 0..6 {
        load.goes_on(0, 10).await;
        signal(&stopped, "-STOP").await;
        // However it stands with the turn, the other goes on.
        load.goes_on(1, 50).await;
        signal(&stopped, "-CONT").await;
    }
    load.goes_on(0, 10).await;
    load.end().await;
    stopped.stop().await;
    other.stop().await;
    let found = province.all_ended(&key).await;
    let nodes: BTreeSet<_> = found.entries.iter().map(|entry| entry.node.as_str()).collect();
    assert_eq!(nodes, ["node-0", "node-1"].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_whose_connections_are_all_cut_under_load_go_on_by_themselves() {
    let Some(province) = Province::prepare(Script::TakeOnly, 2) else { return };
    let _registry = province.folders[0].registry().await;
    let gateways = [province.start(0).await, province.start(1).await];
    let key = gateways[0].log_key.clone();
    let load = Load::begin(&province, 4);
    for _ in 0..5 {
        load.goes_on(0, 10).await;
        load.goes_on(1, 10).await;
        postgres::psql(
            &province.url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
    }
    load.goes_on(0, 10).await;
    load.goes_on(1, 10).await;
    load.end().await;
    for gateway in gateways {
        gateway.stop().await;
    }
    province.all_ended(&key).await;
}
