//! The clocks of the law in a running gateway. Time is moved; what is waited for is only the timer's next look.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod district;

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use district::{
    DEADLINE, Refused, Scene, Taken, acknowledge, answer, day_from_today, fee_waiver, get, pull, records,
    respond, submit, wire_date, wire_time,
};
use jiff::Timestamp;
use jiff::civil::{Date, date};
use legal_aid_gateway::audit::entry::{Entry, Phase};
use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::config::Config;
use legal_aid_gateway::domain::exchange::MOST_MESSAGES;
use legal_aid_gateway::gateway::Gateway;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::grpc::proto::response::Kind as Arm;
use legal_aid_gateway::grpc::proto::{ClockSource, ExchangeState};
use legal_aid_gateway::setup::{codes, purposes};
use legal_aid_gateway::simulator::court::Script;
use legal_aid_gateway::simulator::district::District;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc::UnboundedReceiver;

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3_600);

/// Monday, 2026-11-02, ten o'clock in Shanghai.
fn monday() -> Clock {
    Clock::moved_by_hand("2026-11-02T02:00:00Z".parse::<Timestamp>().unwrap())
}

/// A district whose court says only what the test has it say.
async fn quiet(clock: &Clock) -> (Scene, UnboundedReceiver<Taken>) {
    let mut scene = Scene::start_with(Script::TakeOnly, clock.clone()).await;
    scene.district.stop_court().await;
    let told = scene.open_inbox(0).await;
    (scene, told)
}

/// Submits a fee waiver and waits until the court has it. Returns it with the digest of what the court has.
async fn delivered(scene: &Scene, told: &mut UnboundedReceiver<Taken>) -> (proto::Exchange, Vec<u8>) {
    let id = scene.submit(&scene.fee_waiver()).await.unwrap().exchange.unwrap().exchange_id;
    let taken = told.recv().await.unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &taken.delivery.message);
    (scene.await_state(&id, ExchangeState::Delivered).await, digest.as_ref().to_vec())
}

fn receipt(clock: &Clock, message_sha256: Vec<u8>) -> Arm {
    let received_at = Some(wire_time(clock.now().as_second()));
    Arm::Receipt(proto::Receipt { message_sha256, received_at, receipt_number: String::new() })
}

fn decision(clock: &Clock) -> Arm {
    Arm::FeeWaiverDecision(proto::FeeWaiverDecision {
        outcome: proto::FeeWaiverOutcome::Deferred.into(),
        deferred_until: Some(wire_date(day_from_today(clock, 60))),
        notice_number: "N-1".to_owned(),
        hardship_rereviewed: Some(false),
        decided_on: Some(wire_date(day_from_today(clock, 0))),
        ..Default::default()
    })
}

fn ask_for_papers(due_on: Date) -> Arm {
    let description = "收入证明".to_owned();
    let missing = vec![proto::MissingPaper { description, ..Default::default() }];
    Arm::SupplementRequest(proto::SupplementRequest { missing, due_on: Some(wire_date(due_on)) })
}

fn supplement() -> Arm {
    Arm::Supplement(proto::Supplement { note: "补交".to_owned() })
}

async fn say(client: &AgencyClient, exchange: &proto::Exchange, arm: Arm) -> proto::Exchange {
    respond(client, &answer(client, exchange, arm)).await.unwrap().exchange.unwrap()
}

async fn read(client: &AgencyClient, exchange: &proto::Exchange) -> proto::Exchange {
    get(client, &exchange.exchange_id).await.unwrap().exchange.unwrap()
}

async fn overdue(client: &AgencyClient) -> Vec<proto::Exchange> {
    let context = Some(client.context(purposes::FEE_WAIVER));
    let request = proto::ListExchangesRequest { context, overdue: true, ..Default::default() };
    let list = client.exchanges().list_exchanges(client.request(request, DEADLINE)).await;
    list.unwrap().into_inner().exchanges
}

fn of_method(method: &str) -> proto::EntryFilter {
    proto::EntryFilter { method: method.to_owned(), ..Default::default() }
}

/// Waits until the timer has dealt with an exchange.
async fn await_event(scene: &Scene, method: &str, exchange: &proto::Exchange) -> Entry {
    let is_it = |entry: &Entry| entry.exchange.is_some_and(|id| id.to_string() == exchange.exchange_id);
    scene.await_entry(of_method(method), is_it).await.1
}

/// What `GET path` answers, head and body.
async fn http_get(address: SocketAddr, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Waits until so many fee waivers are counted as overdue.
async fn await_gauge(metrics: SocketAddr, expected: u32) {
    let sample = "legal_aid_exchanges_overdue{kind=\"FEE_WAIVER\",clock=\"FEE_WAIVER_DECISION\"}";
    let line = format!("{sample} {expected}\n");
    let polling = async {
        while !http_get(metrics, "/metrics").await.contains(&line) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, polling).await.expect("the gauge did not get there");
}

fn ids(exchanges: &[proto::Exchange]) -> Vec<&str> {
    exchanges.iter().map(|exchange| exchange.exchange_id.as_str()).collect()
}

#[tokio::test]
async fn an_undecided_fee_waiver_is_overdue_by_clock_and_article_until_it_is_decided() {
    let clock = monday();
    let (scene, mut told) = quiet(&clock).await;
    let (first, digest) = delivered(&scene, &mut told).await;
    let [running] = first.clocks.as_slice() else { panic!("{} clocks", first.clocks.len()) };
    assert_eq!(running.clock_id, "FEE_WAIVER_DECISION");
    assert_eq!(running.articles, ["诉讼费用交纳办法 49", "民事诉讼法 126"]);
    assert!(running.source() == ClockSource::PrimaryText);
    assert!(running.due_on == Some(wire_date(date(2026, 11, 9))) && !running.estimate);
    let due = "2026-11-09T16:00:00Z".parse::<Timestamp>().unwrap();
    assert_eq!(running.due_time, Some(wire_time(due.as_second())));
    assert!(running.overdue_from.is_none() && running.stop_time.is_none());
    assert!(overdue(&scene.centre).await.is_empty());

    // The second comes a day later: when the first is overdue, it is not.
    clock.advance(DAY);
    let (second, _) = delivered(&scene, &mut told).await;
    clock.advance(6 * DAY + 14 * HOUR);
    assert_eq!(clock.now(), due);
    let entry = await_event(&scene, "RaiseOverdue", &first).await;
    assert_eq!((entry.phase, entry.reason.as_deref()), (Phase::Event, Some("FEE_WAIVER_DECISION")));
    assert_eq!(entry.legal_basis, ["诉讼费用交纳办法 49", "民事诉讼法 126"]);
    assert_eq!(
        (entry.caller.as_deref(), entry.counterpart.as_deref()),
        (Some(codes::GATEWAY), Some(codes::COURT))
    );
    for client in [&scene.centre, &scene.court] {
        let found = overdue(client).await;
        assert_eq!(ids(&found), [first.exchange_id.as_str()]);
        assert_eq!(found[0].clocks[0].overdue_from, running.due_time);
        // A flag, not a state.
        assert!(found[0].state() == ExchangeState::Delivered);
    }
    assert!(read(&scene.centre, &second).await.clocks[0].overdue_from.is_none());

    say(&scene.court, &first, receipt(&clock, digest)).await;
    assert_eq!(overdue(&scene.centre).await.len(), 1, "a receipt is no decision");
    say(&scene.court, &first, decision(&clock)).await;
    assert!(overdue(&scene.centre).await.is_empty());
    let decided = read(&scene.centre, &first).await;
    assert_eq!(decided.clocks[0].stop_time, Some(wire_time(due.as_second())));
    assert!(decided.clocks[0].overdue_from.is_some(), "it came late, and that stays");
    assert_eq!(scene.entries(of_method("RaiseOverdue")).await.len(), 1);
    scene.stop().await;
}

#[tokio::test]
async fn while_papers_are_out_the_courts_clock_stands_and_starts_anew_when_they_came() {
    let clock = monday();
    let (scene, mut told) = quiet(&clock).await;
    let (exchange, digest) = delivered(&scene, &mut told).await;
    say(&scene.court, &exchange, receipt(&clock, digest)).await;
    say(&scene.court, &exchange, ask_for_papers(date(2026, 11, 6))).await;
    clock.advance(3 * DAY);
    say(&scene.centre, &exchange, supplement()).await;
    let shown = read(&scene.centre, &exchange).await.clocks;
    let told: Vec<_> = shown
        .iter()
        .map(|shown| (shown.clock_id.as_str(), shown.due_on.unwrap().day, shown.stop_time.is_some()))
        .collect();
    assert_eq!(
        told,
        [("FEE_WAIVER_DECISION", 9, true), ("SUPPLEMENT", 6, true), ("FEE_WAIVER_DECISION", 12, false)]
    );
    scene.stop().await;
}

#[tokio::test]
async fn a_thread_does_not_grow_without_end() {
    let clock = monday();
    let (scene, mut told) = quiet(&clock).await;
    let (exchange, digest) = delivered(&scene, &mut told).await;
    say(&scene.court, &exchange, receipt(&clock, digest)).await;
    let database = scene.database();
    let set = async |messages: u32| {
        records::execute(&database, &format!("UPDATE exchanges SET messages = {messages}")).await;
    };
    set(MOST_MESSAGES).await;
    let again = answer(&scene.court, &exchange, ask_for_papers(date(2026, 11, 6)));
    let refused = Refused::of(&respond(&scene.court, &again).await.err().unwrap());
    assert_eq!(refused.rules(), [("response", "THREAD_COMES_TO_AN_END")]);
    set(MOST_MESSAGES - 1).await;
    say(&scene.court, &exchange, ask_for_papers(date(2026, 11, 6))).await;
    // Papers that were asked for, and the decision, are taken all the same.
    say(&scene.centre, &exchange, supplement()).await;
    say(&scene.court, &exchange, decision(&clock)).await;
    scene.stop().await;
}

#[tokio::test]
async fn without_a_supplement_in_time_the_exchange_is_deemed_withdrawn_and_both_are_told() {
    let clock = monday();
    let (scene, mut told) = quiet(&clock).await;
    let (exchange, digest) = delivered(&scene, &mut told).await;
    say(&scene.court, &exchange, receipt(&clock, digest)).await;
    // A Saturday: the period lasts to Monday, the 9th.
    say(&scene.court, &exchange, ask_for_papers(date(2026, 11, 7))).await;
    clock.advance(7 * DAY + 14 * HOUR);
    let over = scene.await_state(&exchange.exchange_id, ExchangeState::DeemedWithdrawn).await;
    let entry = await_event(&scene, "DeemWithdrawn", &exchange).await;
    assert_eq!((entry.phase, entry.reason.as_deref()), (Phase::Event, Some("SUPPLEMENT")));
    assert_eq!(entry.legal_basis, ["法律援助法 43"]);
    assert_eq!(entry.counterpart.as_deref(), Some(codes::CENTRE));

    let notice = |message: &proto::ExchangeMessage| match &message.body {
        Some(proto::exchange_message::Body::Notice(notice)) => {
            assert_eq!(message.envelope.as_ref().unwrap().sender, codes::GATEWAY);
            let Some(proto::notice::Kind::DeemedWithdrawal(withdrawal)) = &notice.kind else {
                panic!("empty")
            };
            assert_eq!(withdrawal.articles, ["法律援助法 43"]);
            assert!(withdrawal.due_on == Some(wire_date(date(2026, 11, 9))));
            message.sequence
        }
        _ => panic!("no notice"),
    };
    assert_eq!(notice(over.thread.last().unwrap()), 4);
    let to_court = told.recv().await.unwrap();
    assert_eq!(notice(&proto::ExchangeMessage::decode(to_court.delivery.message.as_slice()).unwrap()), 4);
    // The centre pulls; of one exchange, the messages come in order: receipt, request for papers, notice.
    let mut to_centre = Vec::new();
    for _ in 0..3 {
        let delivery = pull(&scene.centre).await.unwrap().deliveries.pop().unwrap();
        acknowledge(&scene.centre, &delivery.delivery_id, &delivery.message_sha256).await.unwrap();
        to_centre.push(proto::ExchangeMessage::decode(delivery.message.as_slice()).unwrap());
    }
    assert_eq!(notice(to_centre.last().unwrap()), 4);

    let late = respond(&scene.centre, &answer(&scene.centre, &exchange, supplement())).await.err().unwrap();
    assert_eq!(Refused::of(&late).reason, "ILLEGAL_TRANSITION");
    assert!(
        late.message().contains("DEEMED_WITHDRAWN") && late.message().ends_with("allowed: nothing"),
        "{late}"
    );
    assert!(overdue(&scene.centre).await.is_empty());
    assert!(over.clocks.iter().all(|clock| clock.stop_time.is_some()));
    assert_eq!(scene.entries(of_method("RaiseOverdue")).await.len(), 0);
    scene.stop().await;
}

#[tokio::test]
async fn a_restart_finds_what_became_overdue_meanwhile_and_metrics_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("district");
    let clock = monday();
    let district = District::start(&folder, Script::TakeOnly, clock.clone()).await.unwrap();
    assert_eq!(district.gateway.metrics_address(), None, "metrics are off unless asked for");
    let centre = district.client("centre").unwrap();
    let mut exchanges = Vec::new();
    for _ in 0..3 {
        let exchange = submit(&centre, &fee_waiver(&folder, &centre)).await.unwrap().exchange.unwrap();
        while read(&centre, &exchange).await.state() != ExchangeState::Delivered {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        exchanges.push(exchange);
    }
    district.stop().await;

    clock.advance(30 * DAY);
    let mut config = Config::load(&folder.join("gateway.toml"), []).unwrap();
    config.metrics.listen = Some("127.0.0.1:0".parse().unwrap());
    let gateway = Gateway::start(config, clock.clone()).await.unwrap();
    let metrics = gateway.metrics_address().unwrap();
    await_gauge(metrics, 3).await;
    assert!(http_get(metrics, "/").await.starts_with("HTTP/1.1 404"));
    let centre = AgencyClient::load(&folder.join("centre.toml"), clock.clone()).unwrap();
    assert_eq!(overdue(&centre).await.len(), 3);
    gateway.stop().await;
}

#[tokio::test]
async fn more_than_one_look_takes_in_is_raised_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("district");
    let clock = monday();
    District::prepare(&folder, Script::TakeOnly, &clock).unwrap();
    let mut config = Config::load(&folder.join("gateway.toml"), []).unwrap();
    config.metrics.listen = Some("127.0.0.1:0".parse().unwrap());
    Gateway::start(config.clone(), clock.clone()).await.unwrap().stop().await;

    let url = format!("sqlite://{}", folder.join("gateway.db").display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    let numbers =
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 500)";
    let id = "unhex(printf('%032x', n))";
    let (centre, court) = (codes::CENTRE, codes::COURT);
    for insert in [
        format!(
            "{numbers} INSERT INTO exchanges (exchange_id, kind, state, sender, recipient, matter_id, region, messages, \
             created_us, updated_us) SELECT {id}, 'FEE_WAIVER', 'DELIVERED', '{centre}', '{court}', 'M-1', '331004', 1, \
             0, 0 FROM numbers"
        ),
        format!(
            "{numbers} INSERT INTO running_clocks SELECT {id}, 'FEE_WAIVER_DECISION', 1, '', 'C', 0, n, NULL, 0, \
             NULL, NULL FROM numbers"
        ),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(insert)).execute(&pool).await.unwrap();
    }
    pool.close().await;
    let gateway = Gateway::start(config, clock).await.unwrap();
    await_gauge(gateway.metrics_address().unwrap(), 500).await;
    gateway.stop().await;
}

#[tokio::test]
async fn the_operators_files_count_and_a_wrong_one_stops_the_start_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("district");
    let clock = monday();
    District::prepare(&folder, Script::TakeOnly, &clock).unwrap();
    let start = async |rules: &str, holidays: &str| {
        let mut config = Config::load(&folder.join("gateway.toml"), []).unwrap();
        for (name, text) in [("clocks.toml", rules), ("holidays.toml", holidays)] {
            std::fs::write(folder.join(name), text).unwrap();
        }
        config.clocks.rules = Some(folder.join("clocks.toml"));
        config.clocks.holidays = Some(folder.join("holidays.toml"));
        Gateway::start(config, clock.clone()).await
    };
    // The court has no inbox: the clock is one that runs from submission.
    let rules = "[[clock]]\nid = \"OWN\"\non = \"FEE_WAIVER\"\nregion = \"331000\"\nstarts = [\"SUBMITTED\"]\n\
                 length = 2\nunit = \"working-days\"\narticles = []\nsource = \"M\"\nfrom = \"2026-01-01\"\n\
                 note = \"a test\"\n";
    let holidays = "[[year]]\nyear = 2026\nsource = \"a test\"\n\
                    holiday = [{ name = \"x\", from = \"2026-11-03\", to = \"2026-11-03\" }]\n";
    let gateway = start(rules, holidays).await.unwrap();
    let centre = AgencyClient::load(&folder.join("centre.toml"), clock.clone()).unwrap();
    let exchange = submit(&centre, &fee_waiver(&folder, &centre)).await.unwrap().exchange.unwrap();
    let shown = read(&centre, &exchange).await.clocks;
    let [own] = shown.as_slice() else { panic!("{} clocks", shown.len()) };
    assert!(own.clock_id == "OWN" && own.source() == ClockSource::Unverified);
    assert!(own.due_on == Some(wire_date(date(2026, 11, 5))), "the 3rd is a holiday");
    gateway.stop().await;

    let refused = start(&rules.replace("331000", "991000"), holidays).await.err().unwrap().to_string();
    assert!(refused.contains("clocks: ") && refused.contains("region"), "{refused}");
    let refused = start(rules, &holidays.replace("a test", "")).await.err().unwrap().to_string();
    assert!(refused.contains("holidays: 2026: name the source"), "{refused}");
}

#[tokio::test]
async fn the_command_line_shows_what_is_overdue() {
    // From today: the command reads the machine's clock for its certificates.
    let clock = Clock::moved_by_hand(Clock::system().now());
    let (scene, mut told) = quiet(&clock).await;
    let (exchange, _) = delivered(&scene, &mut told).await;
    let exchange_command = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_legal-aid-gateway"));
        command.arg("exchange").args(arguments).arg("--as").arg(scene.folder.join("centre.toml"));
        command
    };
    let said = async |mut command: Command| {
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let id = exchange.exchange_id.as_str();
    assert!(!said(exchange_command(&["list", "--overdue"])).await.contains(id));
    assert!(said(exchange_command(&["show", id])).await.contains("running"));
    clock.advance(30 * DAY);
    await_event(&scene, "RaiseOverdue", &exchange).await;
    assert!(said(exchange_command(&["list", "--overdue"])).await.contains("DELIVERED OVERDUE"));
    let shown = said(exchange_command(&["show", id])).await;
    let due = exchange.clocks[0].due_on.unwrap();
    let due = format!("{:04}-{:02}-{:02}", due.year, due.month, due.day);
    for word in ["FEE_WAIVER_DECISION", "诉讼费用交纳办法 49", due.as_str(), "OVERDUE"] {
        assert!(shown.contains(word), "{word} is not in\n{shown}");
    }
    scene.stop().await;
}
