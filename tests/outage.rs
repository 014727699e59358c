//! PostgreSQL goes away under load: nothing is lost, callers are told at once, and everything goes on by itself.
//!
//! `OUTAGE_SECONDS` says for how long (8; the long form is 60).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::setup::purposes;
use legal_aid_gateway::simulator::court::Script;
use support::province::Province;
use support::{Folder, PATIENCE, postgres};
use tokio::task::JoinSet;
use tonic::Code;
use tonic_types::StatusExt as _;

/// How long a caller would wait.
const CALLERS_DEADLINE: Duration = Duration::from_secs(60);

/// By when a caller is refused even while nobody knows yet that the server is away.
const FIRST_REFUSALS: Duration = Duration::from_secs(15);

/// From when on everybody knows.
const KNOWN_AFTER: Duration = Duration::from_secs(5);

/// By when most callers are refused then: at once, on a busy machine too.
const AT_ONCE: Duration = Duration::from_secs(1);

/// By when work is done again after the server's return.
const RECOVERY: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_is_away_callers_are_refused_at_once_and_all_goes_on_by_itself_when_it_is_back() {
    let Some(server) = postgres::own_server() else { return };
    let seconds = std::env::var("OUTAGE_SECONDS").ok().map_or(8, |text| text.parse().expect("a number"));
    let province = Province::prepare_on(server.new_database(), Script::Defer, 2);
    let (_registry, _court) = (province.folders[0].registry().await, province.folders[0].court().await);
    let gateways = province.start_all().await;
    let key = gateways[0].log_key.clone();
    let load = Load::begin(&province);
    load.is_answered(40, Instant::now()).await;

    server.kill();
    let away = Instant::now();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    server.start();
    let back = Instant::now();
    let first_answer = load.is_answered(1, back).await;
    let all_answer = load.is_answered(40, back).await;
    // A delivery after the return: taken, and decided by the court.
    let centre = province.centre(0);
    let exchange_id = submit(&centre, &province.folders[0], &load.ledger).await;
    while state(&centre, &exchange_id).await != proto::ExchangeState::Decided {
        assert!(back.elapsed() < PATIENCE, "the courier does not go on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let delivered = back.elapsed();
    let ledger = load.end().await;

    let refusals = ledger.refusals.lock().unwrap().clone();
    let outage = away + KNOWN_AFTER..back;
    let slowest = refusals.iter().map(|(_, took)| *took).max().expect("refusals");
    assert!(slowest < FIRST_REFUSALS, "a caller waited {slowest:?} to be refused");
    let mut known: Vec<_> =
        refusals.iter().filter(|(asked, _)| outage.contains(asked)).map(|(_, took)| *took).collect();
    known.sort_unstable();
    let [median, slowest_known] = [known.len() / 2, known.len().saturating_sub(1)]
        .map(|place| *known.get(place).expect("somebody asked meanwhile"));
    assert!(median < AT_ONCE, "callers waited {median:?} although the server was known to be away");
    let within = |time: Duration| assert!(time < RECOVERY || seconds < 60, "recovery took {time:?}");
    [first_answer, delivered].into_iter().for_each(within);

    everything_arrives(&province, &ledger).await;
    for gateway in gateways {
        gateway.stop().await;
    }
    let found = province.all_ended(&key).await;
    let answers = ledger.answers.lock().unwrap();
    for (index, request_id) in &*answers {
        let entry = &found.entries[usize::try_from(*index).unwrap()];
        assert_eq!(&entry.request.unwrap().to_string(), request_id, "{index}");
    }
    eprintln!(
        "outage of {seconds} s: {} answers, {} refusals, the slowest after {slowest:.1?}, {} of them once it was known: \
         half after {median:.1?}, the slowest after {slowest_known:.1?}; first answer {first_answer:.1?} after the return, 40 after {all_answer:.1?}, a \
         delivery and its decision after {delivered:.1?}; {} exchanges",
        answers.len(),
        refusals.len(),
        known.len(),
        ledger.exchanges.lock().unwrap().len(),
    );
}

/// What the clerks know.
#[derive(Default)]
struct Ledger {
    over: AtomicBool,
    /// Request id by the index of the answer's entry.
    answers: Mutex<BTreeMap<u64, String>>,
    exchanges: Mutex<BTreeSet<String>>,
    /// When it was asked, and how long the refusal took.
    refusals: Mutex<Vec<(Instant, Duration)>>,
}

/// Clerks who ask, and clerks who submit, at each gateway.
struct Load {
    ledger: Arc<Ledger>,
    clerks: JoinSet<()>,
}

impl Load {
    fn begin(province: &Province) -> Self {
        let mut load = Self { ledger: Arc::default(), clerks: JoinSet::new() };
        for folder in &province.folders {
            for _ in 0..4 {
                let (ledger, folder) = (Arc::clone(&load.ledger), Arc::clone(folder));
                load.clerks.spawn(async move {
                    let centre = folder.client("centre");
                    while !ledger.over.load(Ordering::SeqCst) {
                        verify(&centre, &folder, &ledger).await;
                    }
                });
            }
            let (ledger, folder) = (Arc::clone(&load.ledger), Arc::clone(folder));
            load.clerks.spawn(async move {
                let centre = folder.client("centre");
                while !ledger.over.load(Ordering::SeqCst) {
                    submit(&centre, &folder, &ledger).await;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
        }
        load
    }

    /// Waits for so many more answers. Returns how long after `since` they were there.
    async fn is_answered(&self, more: usize, since: Instant) -> Duration {
        let answered = || self.ledger.answers.lock().unwrap().len();
        let (wanted, begun) = (answered() + more, Instant::now());
        while answered() < wanted {
            assert!(begun.elapsed() < PATIENCE, "no answers any more");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        since.elapsed()
    }

    async fn end(mut self) -> Arc<Ledger> {
        self.ledger.over.store(true, Ordering::SeqCst);
        while let Some(ended) = self.clerks.join_next().await {
            ended.unwrap();
        }
        self.ledger
    }
}

impl Ledger {
    /// Sends the same again until it is answered; each refusal says that the gateway cannot do it now.
    async fn until_answered<R, F>(&self, call: impl Fn() -> F) -> R
    where
        F: Future<Output = Result<tonic::Response<R>, tonic::Status>>,
    {
        loop {
            let asked = Instant::now();
            match call().await {
                Ok(answer) => return answer.into_inner(),
                Err(status) => {
                    let took = asked.elapsed();
                    let details = status.get_error_details();
                    let reason = details.error_info().map(|info| info.reason.as_str()).unwrap_or_default();
                    match reason {
                        "AUDIT_LOG_UNAVAILABLE" | "STORE_UNAVAILABLE" => {
                            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                            assert!(details.retry_info().is_some(), "{status:?}");
                            self.refusals.lock().unwrap().push((asked, took));
                        }
                        "REQUEST_STILL_RUNNING" | "CHANGED_MEANWHILE" => {}
                        _ => panic!("{status:?}"),
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn note(&self, request_id: String, audit: Option<proto::AuditReceipt>) {
        self.answers.lock().unwrap().insert(audit.unwrap().log_index, request_id);
    }
}

async fn verify(centre: &AgencyClient, folder: &Folder, ledger: &Ledger) {
    let question = folder.question(centre);
    let request_id = question.envelope.clone().unwrap().request_id;
    let ask = || {
        let (mut service, request) =
            (centre.verification(), centre.request(question.clone(), CALLERS_DEADLINE));
        async move { service.verify_low_income(request).await }
    };
    let answer = ledger.until_answered(ask).await;
    ledger.note(request_id, answer.audit);
}

async fn submit(centre: &AgencyClient, folder: &Folder, ledger: &Ledger) -> String {
    let fee_waiver = folder.fee_waiver(centre);
    let request_id = fee_waiver.envelope.clone().unwrap().request_id;
    let ask = || {
        let (mut service, request) =
            (centre.exchanges(), centre.request(fee_waiver.clone(), CALLERS_DEADLINE));
        async move { service.submit_exchange(request).await }
    };
    let answer = ledger.until_answered(ask).await;
    ledger.note(request_id, answer.audit);
    let exchange_id = answer.exchange.unwrap().exchange_id;
    ledger.exchanges.lock().unwrap().insert(exchange_id.clone());
    exchange_id
}

async fn state(centre: &AgencyClient, exchange_id: &str) -> proto::ExchangeState {
    let context = Some(centre.context(purposes::FEE_WAIVER));
    let request = proto::GetExchangeRequest { context, exchange_id: exchange_id.to_owned() };
    let read = centre.exchanges().get_exchange(centre.request(request, CALLERS_DEADLINE)).await;
    read.map_or(proto::ExchangeState::Unspecified, |read| read.into_inner().exchange.unwrap().state())
}

/// The court decides all that was submitted, and nothing else is there.
async fn everything_arrives(province: &Province, ledger: &Ledger) {
    let (centre, begun) = (province.centre(1), Instant::now());
    let exchanges = ledger.exchanges.lock().unwrap().clone();
    for exchange_id in &exchanges {
        while state(&centre, exchange_id).await != proto::ExchangeState::Decided {
            assert!(begun.elapsed() < PATIENCE, "{exchange_id} is not decided");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let count = postgres::psql(&province.url, "SELECT COUNT(*) FROM exchanges");
    assert_eq!(count.trim(), exchanges.len().to_string(), "one for each request id");
}
