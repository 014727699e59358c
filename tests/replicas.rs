//! Several gateways on one PostgreSQL: one log, whoever of them is asked, killed or stopped.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use legal_aid_gateway::audit::entry::{Entry, Phase};
use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::setup::purposes;
use legal_aid_gateway::simulator::court::Script;
use support::province::Province;
use support::{DEADLINE, PATIENCE, postgres};
use tokio::task::JoinSet;
use tonic_types::StatusExt as _;
use uuid::Uuid;

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

#[tokio::test(flavor = "multi_thread")]
async fn searches_read_from_the_standby_and_from_the_primary_where_that_is_behind_or_away() {
    let Some(primary) = postgres::own_server() else { return };
    let province = Province::prepare_on(primary.new_database(), Script::TakeOnly, 1);
    let standby = primary.standby();
    let url = standby.url_like(&province.url);
    let _registry = province.folders[0].registry().await;
    let setting = [("LEGAL_AID_GATEWAY__STORE__STANDBY", url.as_str())];
    let gateway = province.try_start_with(0, "node-0", &setting).await.unwrap_or_else(|no| panic!("{no:?}"));
    let (centre, auditor) = (province.centre(0), province.folders[0].client("auditor"));
    let ask = async || {
        let question = province.folders[0].question(&centre);
        centre.verification().verify_low_income(centre.request(question, DEADLINE)).await.unwrap();
    };
    let found = async || {
        let request = proto::ListEntriesRequest {
            context: Some(auditor.context(purposes::AUDIT_INSPECTION)),
            filter: Some(proto::EntryFilter { method: "VerifyLowIncome".to_owned(), ..Default::default() }),
            page_size: 100,
            ..Default::default()
        };
        let listed = auditor.audit().list_entries(auditor.request(request, DEADLINE)).await.unwrap();
        listed.into_inner().entries.len()
    };
    // What a server has read of the entries since it began to count.
    let read = |server: &str| {
        let text = "SELECT COALESCE(sum(seq_tup_read + idx_tup_fetch), 0)::bigint FROM pg_stat_user_tables \
                    WHERE relname LIKE 'audit_entries%'";
        postgres::psql(server, text).trim().parse::<u64>().unwrap()
    };
    ask().await;
    let begun = Instant::now();
    while read(&url) == 0 {
        assert_eq!(found().await, 2);
        assert!(begun.elapsed() < PATIENCE, "the standby is not read: {}", gateway.said());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    // Behind, it is not waited for longer than a moment, and nothing is missing.
    postgres::psql(&url, "SELECT pg_wal_replay_pause()");
    ask().await;
    assert_eq!(found().await, 4);
    let told = gateway.said();
    assert!(told.contains("searches read from the primary"), "{told}");
    postgres::psql(&url, "SELECT pg_wal_replay_resume()");
    let (before, begun) = (read(&url), Instant::now());
    while read(&url) == before {
        assert_eq!(found().await, 4);
        assert!(begun.elapsed() < PATIENCE, "the standby is not read again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    standby.kill();
    ask().await;
    assert_eq!(found().await, 6);
    gateway.stop().await;
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

/// One log, and one outcome of a request id, on so many gateways.
async fn write_one_log(count: usize) {
    let Some(province) = Province::prepare(Script::Defer, count) else { return };
    let _registry = province.folders[0].registry().await;
    let _court = province.folders[0].court().await;
    let gateways = province.start_all().await;
    let (key, last) = (gateways[0].log_key.clone(), count - 1);

    let taken = province.try_start(1, "node-0").await.err().expect("one name, one gateway");
    assert!(taken.said.contains("node-0") && taken.said.contains("gateway.node"), "{}", taken.said);

    let load = Load::begin(&province, 8 / count);
    let centres: Vec<_> = (0..count).map(|number| province.centre(number)).collect();
    let watch = proto::WatchExchangesRequest {
        context: Some(centres[last].context(purposes::FEE_WAIVER)),
        cursor: String::new(),
    };
    let mut changes = centres[last].exchanges().watch_exchanges(watch).await.unwrap().into_inner();
    // The same submission to all at once: one exchange.
    for _ in 0..8 {
        let request = province.folders[0].fee_waiver(&centres[0]);
        let mut submitted = JoinSet::new();
        for centre in &centres {
            submitted.spawn(submit(centre.clone(), request.clone()));
        }
        let mut outcomes = BTreeSet::new();
        for answer in submitted.join_all().await {
            outcomes.insert((answer.exchange.unwrap().exchange_id, answer.audit.unwrap().log_index));
        }
        assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    }
    for number in 0..count {
        load.goes_on(number, 20).await;
    }
    load.end().await;

    // What one gateway takes in comes to who watches another, and to who searches there.
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
    for number in 1..count {
        is_found(&province.folders[number].client("auditor"), &submitted).await;
    }

    // What one took in, the court has decided by way of any, and each shows it.
    for centre in &centres {
        let begun = Instant::now();
        loop {
            let exchanges = list(centre).await;
            assert_eq!(exchanges.len(), 9, "one for each request id");
            if exchanges.iter().all(|exchange| exchange.state() == proto::ExchangeState::Decided) {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "the court has not decided");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    for gateway in gateways {
        assert!(!gateway.said().contains("ERROR"), "{}", gateway.said());
        gateway.stop().await;
    }
    let found = province.all_ended(&key).await;
    assert_eq!(found.nodes(), province.nodes());
    let changes = found.entries.windows(2).filter(|pair| pair[0].node != pair[1].node).count();
    assert!(changes > 10, "they did not take turns");
    assert_eq!(found.count(Phase::Interrupted), 0);
    let verified = province.folders[0].run(&["audit", "verify", &province.url, "--key", &key]).await;
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    let checked = province.folders[0].run(&["audit", "fsck", &province.url, "--key", &key]).await;
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

async fn submit(
    centre: AgencyClient,
    request: proto::SubmitExchangeRequest,
) -> proto::SubmitExchangeResponse {
    loop {
        match centre.exchanges().submit_exchange(centre.request(request.clone(), DEADLINE)).await {
            Ok(answer) => return answer.into_inner(),
            // Another gateway is at it, or has just moved the log.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn is_found(auditor: &AgencyClient, exchange_id: &str) {
    let begun = Instant::now();
    loop {
        let filter = proto::EntryFilter { exchange_id: exchange_id.to_owned(), ..Default::default() };
        let request = proto::ListEntriesRequest {
            context: Some(auditor.context(purposes::AUDIT_INSPECTION)),
            filter: Some(filter),
            page_size: 500,
            ..Default::default()
        };
        let listed = auditor.audit().list_entries(auditor.request(request, DEADLINE)).await.unwrap();
        if listed.into_inner().entries.len() >= 2 {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "the entries are not found");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whether one of the centre's exchanges has not arrived.
async fn waits(centre: &AgencyClient) -> bool {
    let context = Some(centre.context(purposes::FEE_WAIVER));
    let state = proto::ExchangeState::Submitted.into();
    let request = proto::ListExchangesRequest { context, state, ..Default::default() };
    let listed = centre.exchanges().list_exchanges(centre.request(request, DEADLINE)).await;
    !listed.unwrap().into_inner().exchanges.is_empty()
}

/// The deliveries that each of the gateways has made.
fn delivered_by(entries: &[Entry]) -> BTreeMap<&str, Vec<Option<Uuid>>> {
    let mut by_node: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for entry in entries {
        if entry.method == "Deliver" && entry.phase == Phase::Response && entry.code.as_deref() == Some("OK")
        {
            by_node.entry(entry.node.as_str()).or_default().push(entry.delivery);
        }
    }
    by_node
}

/// What waits for one court is taken to it by all of so many gateways, each message by one attempt of one of them.
async fn share_what_waits(count: usize) {
    let Some(province) = Province::prepare(Script::TakeOnly, count) else { return };
    let court = province.folders[0].court().await;
    let gateways = province.start_all().await;
    let key = gateways[0].log_key.clone();
    let centre = province.centre(0);
    let begun = Instant::now();
    let mut sent = BTreeSet::new();
    // Until they have counted one another, which they do by and by, one may take everything.
    while sent.is_empty() || delivered_by(&province.log(&key).await.entries).len() < 2 {
        assert!(begun.elapsed() < PATIENCE, "what waits is not delivered by more than one of them");
        let mut submitting = JoinSet::new();
        for number in 0..count {
            for _ in 0..120 / count {
                let centre = province.centre(number);
                submitting.spawn(submit(centre.clone(), province.folders[number].fee_waiver(&centre)));
            }
        }
        let submitted = submitting.join_all().await;
        sent.extend(submitted.into_iter().map(|answer| answer.exchange.unwrap().exchange_id));
        while waits(&centre).await {
            assert!(begun.elapsed() < PATIENCE, "what waits is not delivered");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    for gateway in gateways {
        gateway.stop().await;
    }
    let found = province.all_ended(&key).await;
    let by_node = delivered_by(&found.entries);
    let mut arrived: BTreeMap<_, usize> = BTreeMap::new();
    for delivery in by_node.values().flatten() {
        *arrived.entry(*delivery).or_default() += 1;
    }
    assert_eq!(arrived.len(), sent.len());
    assert!(arrived.values().all(|times| *times == 1), "one was handed over by two: {arrived:?}");
    assert_eq!(*court.watch_calls().borrow(), sent.len() as u64);
    for (node, delivered) in by_node {
        println!("{node} delivered {}", delivered.len());
    }
    court.stop().await;
}

/// All of so many gateways but the last are killed with questions open.
async fn close_what_killed_ones_left(count: usize) {
    let Some(province) = Province::prepare(Script::TakeOnly, count) else { return };
    // A register that takes connections and says nothing: questions to it stay open.
    let register = province.folders[0].address_in("simulate-registry.toml");
    let _silent = tokio::net::TcpListener::bind(register).await.unwrap();
    let mut killed = province.start_all().await;
    let other = killed.pop().unwrap();
    let (key, last) = (other.log_key.clone(), count - 1);
    list(&province.centre(last)).await;
    let mut asked = JoinSet::new();
    for number in 0..last {
        for _ in 0..5 {
            let centre = province.centre(number);
            let question = province.folders[number].question(&centre);
            asked.spawn(async move {
                centre.verification().verify_low_income(centre.request(question, DEADLINE)).await
            });
        }
    }
    let begun = Instant::now();
    while province.log(&key).await.open().len() < 5 * last {
        assert!(begun.elapsed() < PATIENCE, "the questions do not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for gateway in killed {
        gateway.kill().await;
    }
    asked.shutdown().await;
    let found = province.all_ended(&key).await;
    assert_eq!(found.count(Phase::Interrupted), 5 * last);
    // Back under its name, each finds nothing left to close, and writes on.
    for number in 0..last {
        let back = province.start(number).await;
        list(&province.centre(number)).await;
        back.stop().await;
    }
    other.stop().await;
    assert_eq!(province.all_ended(&key).await.count(Phase::Interrupted), 5 * last);
}

/// One of so many gateways stands still under load, again and again.
async fn go_on_beside_one_that_stands_still(count: usize) {
    let Some(province) = Province::prepare(Script::TakeOnly, count) else { return };
    let _registry = province.folders[0].registry().await;
    let gateways = province.start_all().await;
    let key = gateways[0].log_key.clone();
    let load = Load::begin(&province, 16 / count);
    for _ in 0..6 {
        load.goes_on(0, 10).await;
        gateways[0].signal("-STOP").await;
        // However it stands with the turn, the others go on.
        for number in 1..count {
            load.goes_on(number, 50 / u64::try_from(count - 1).unwrap()).await;
        }
        gateways[0].signal("-CONT").await;
    }
    load.goes_on(0, 10).await;
    load.end().await;
    for gateway in gateways {
        gateway.stop().await;
    }
    assert_eq!(province.all_ended(&key).await.nodes(), province.nodes());
}

/// All connections of so many gateways to the database are cut under load, again and again.
async fn go_on_after_cuts(count: usize) {
    let Some(province) = Province::prepare(Script::TakeOnly, count) else { return };
    let _registry = province.folders[0].registry().await;
    let gateways = province.start_all().await;
    let key = gateways[0].log_key.clone();
    let load = Load::begin(&province, 8 / count);
    for _ in 0..5 {
        for number in 0..count {
            load.goes_on(number, 10).await;
        }
        postgres::psql(
            &province.url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
    }
    for number in 0..count {
        load.goes_on(number, 10).await;
    }
    load.end().await;
    for gateway in gateways {
        gateway.stop().await;
    }
    province.all_ended(&key).await;
}

/// Each rule on two gateways and on four.
macro_rules! on_two_and_four {
    ($($check:ident: $two:ident, $four:ident;)+) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $two() {
            $check(2).await;
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn $four() {
            $check(4).await;
        }
    )+};
}

on_two_and_four! {
    write_one_log:
        two_gateways_write_one_log_and_a_request_id_has_one_outcome_on_both,
        four_gateways_write_one_log_and_a_request_id_has_one_outcome_on_all;
    share_what_waits:
        what_waits_is_delivered_by_two_gateways_and_each_message_by_one,
        what_waits_is_delivered_by_four_gateways_and_each_message_by_one;
    close_what_killed_ones_left:
        what_a_killed_gateway_left_open_is_closed_by_another_and_it_comes_back,
        what_three_killed_gateways_left_open_is_closed_by_a_fourth_and_they_come_back;
    go_on_beside_one_that_stands_still:
        a_gateway_that_is_stopped_under_load_holds_up_the_other_for_a_bounded_time_and_forks_nothing,
        a_gateway_that_is_stopped_under_load_holds_up_three_others_for_a_bounded_time_and_forks_nothing;
    go_on_after_cuts:
        gateways_whose_connections_are_all_cut_under_load_go_on_by_themselves,
        four_gateways_whose_connections_are_all_cut_under_load_go_on_by_themselves;
}
