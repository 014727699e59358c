//! `kill -9` of the real gateway at random moments under load: what was answered stays true.
//!
//! `CRASH_KILLS` says how often (5; the long form is 50), `CRASH_SEED` repeats a run's moments, and `TEST_DATABASE=postgres` has it on
//! PostgreSQL.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use legal_aid_gateway::audit::entry::{Entry, Field, Phase, Salt};
use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::entropy;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::setup::purposes;
use legal_aid_gateway::simulator::court::Script;
use legal_aid_gateway::store::Store;
use prost::Message;
use support::{DEADLINE, Folder, Gateway, PATIENCE, log};
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;

/// Exchanges that may be opened in one life of the gateway, so that the court keeps up.
const EXCHANGES_A_LIFE: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn after_kills_at_random_moments_every_answer_stands_in_the_log_and_nothing_is_lost_or_doubled() {
    let started = Instant::now();
    let kills: u64 = from_environment("CRASH_KILLS").unwrap_or(5);
    let mut dice = Dice::new(from_environment("CRASH_SEED"));
    let folder = Arc::new(Folder::prepare(Script::Defer).on_chosen_database());
    let _registry = folder.registry().await;
    let _court = folder.court().await;

    let mut gateway = Gateway::start(&folder).await;
    let load = Load::begin(&folder);
    let mut checked = 0;
    for _ in 0..kills {
        dice.pause(Duration::from_millis(20), Duration::from_millis(400)).await;
        gateway.kill().await;
        if dice.one_in(4) {
            interrupt_a_start(&folder, &mut dice).await;
        }
        gateway = Gateway::start(&folder).await;
        load.world.lives.send_modify(|life| *life += 1);
        checked = load.world.check_new_answers(&folder, checked).await;
    }
    let world = load.end().await;

    let decided = world.wait_until_all_are_decided(&folder).await;
    world.check_that_retries_get_the_first_outcome(&folder).await;
    let log_key = gateway.log_key.clone();
    gateway.stop().await;

    let found = log::read(folder.store(), &log_key, &world.checkpoints()).await;
    assert!(found.report.is_sound(), "{:?}", found.report.findings);
    assert_eq!(found.report.earlier_checked, world.checkpoints().len() as u64);
    verify_with_the_binary(&folder, &log_key, &world.checkpoints()).await;

    let salts = log::salts(&folder.store()).await;
    let answers = world.answers();
    for answer in &answers {
        answer.check(&found.entries, &salts);
    }
    for (request, ends) in found.ends() {
        let entry = &found.entries[usize::try_from(request).unwrap()];
        assert_eq!(ends.len(), 1, "REQUEST {request} has the ends {ends:?}: {entry:?}");
    }
    assert!(world.submissions.lock().unwrap().len() > 1 && answers.len() > 20, "there was no load");
    eprintln!(
        "crash: {kills} kills (seed {}), {} answers in the ledger ({} replayed), {} exchanges, {decided} decided, \
         {} interrupted closed, {} entries, {} checkpoints verified, {:.1} s",
        dice.seed,
        answers.len(),
        world.replayed.load(Ordering::Relaxed),
        world.submissions.lock().unwrap().len(),
        found.count(Phase::Interrupted),
        found.entries.len(),
        found.report.earlier_checked,
        started.elapsed().as_secs_f64(),
    );
}

/// By then the exchange has moved on, and the same answer would not be allowed as a new one.
#[tokio::test]
async fn a_receipt_whose_answer_was_lost_with_the_gateway_is_sent_again_and_gets_the_first_answer() {
    let folder = Folder::prepare(Script::TakeOnly);
    let _court = folder.court().await;
    let gateway = Gateway::start(&folder).await;
    let world = World::new();
    let (centre, court) = (folder.client("centre"), folder.client("court"));
    let fee_waiver = folder.fee_waiver(&centre);
    let exchange = world.submit(&centre, &fee_waiver).await.exchange.unwrap();
    let opening = world.read(&centre, &exchange.exchange_id).await.thread.remove(0);
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
    let first = world.until_answered(&court, &request, &id, call).await;
    gateway.kill().await;
    let gateway = Gateway::start(&folder).await;
    let again = world.until_answered(&court, &request, &id, call).await;
    assert!(first == again, "the retry got another answer");
    assert_eq!(world.read(&centre, &exchange.exchange_id).await.thread.len(), 2);
    gateway.stop().await;
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec()
}

/// Starts the gateway and kills it before it may be ready: closing what is open is itself interrupted.
async fn interrupt_a_start(folder: &Folder, dice: &mut Dice) {
    let mut child = support::serve_command(folder, &[]).spawn().unwrap();
    dice.pause(Duration::ZERO, Duration::from_millis(80)).await;
    child.kill().await.unwrap();
}

async fn verify_with_the_binary(folder: &Folder, key: &str, checkpoints: &[String]) {
    let database = folder.database_name();
    let mut arguments = vec!["audit", "verify", &database, "--key", key];
    let names: Vec<String> = (0..checkpoints.len()).map(|number| format!("kept-{number}")).collect();
    for (name, note) in names.iter().zip(checkpoints) {
        std::fs::write(folder.file(name), note).unwrap();
        arguments.extend(["--checkpoint", name]);
    }
    let output = folder.run(&arguments).await;
    assert!(output.status.success(), "{output:?}");
}

/// The clients, while they call.
struct Load {
    world: Arc<World>,
    clients: tokio::task::JoinSet<()>,
}

impl Load {
    fn begin(folder: &Arc<Folder>) -> Self {
        let world = Arc::new(World::new());
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..3 {
            clients.spawn(verify(Arc::clone(&world), Arc::clone(folder)));
            clients.spawn(submit(Arc::clone(&world), Arc::clone(folder)));
        }
        clients.spawn(take_deliveries(Arc::clone(&world), Arc::clone(folder)));
        clients.spawn(keep_checkpoints(Arc::clone(&world), Arc::clone(folder)));
        Self { world, clients }
    }

    /// Lets each client get the answer it waits for.
    async fn end(mut self) -> Arc<World> {
        self.world.over.store(true, Ordering::SeqCst);
        let all = async {
            while let Some(client) = self.clients.join_next().await {
                client.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("every client gets its answer");
        self.world
    }
}

async fn verify(world: Arc<World>, folder: Arc<Folder>) {
    let centre = folder.client("centre");
    for round in 0.. {
        if world.is_over() {
            return;
        }
        let request = folder.question(&centre);
        let id = request.envelope.clone().unwrap().request_id;
        let call = |request| {
            let centre = centre.clone();
            async move { centre.verification().verify_low_income(request).await }
        };
        let first = world.until_answered(&centre, &request, &id, call).await;
        if round % 4 == 0 {
            let again = world.until_answered(&centre, &request, &id, call).await;
            assert!(first == again, "a retry of {id} got another answer");
            world.replayed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn submit(world: Arc<World>, folder: Arc<Folder>) {
    let centre = folder.client("centre");
    while !world.is_over() {
        let mut lives = world.lives.subscribe();
        let most = EXCHANGES_A_LIFE * (usize::try_from(*lives.borrow_and_update()).unwrap() + 1);
        if world.opened.fetch_add(1, Ordering::Relaxed) >= most {
            world.opened.fetch_sub(1, Ordering::Relaxed);
            read_one(&world, &centre).await;
            continue;
        }
        let request = folder.fee_waiver(&centre);
        let id = request.envelope.clone().unwrap().request_id;
        world.submissions.lock().unwrap().insert(id.clone(), (request.clone(), None));
        let first = world.submit(&centre, &request).await;
        let exchange_id = first.exchange.unwrap().exchange_id;
        world.submissions.lock().unwrap().get_mut(&id).unwrap().1 = Some(exchange_id);
        read_one(&world, &centre).await;
    }
}

/// Reads an exchange that was acknowledged.
async fn read_one(world: &World, centre: &AgencyClient) {
    let acknowledged = |world: &World| {
        world.submissions.lock().unwrap().values().rev().find_map(|(_, exchange_id)| exchange_id.clone())
    };
    if let Some(exchange_id) = acknowledged(world) {
        world.read(centre, &exchange_id).await;
    }
}

async fn take_deliveries(world: Arc<World>, folder: Arc<Folder>) {
    let centre = folder.client("centre");
    while !world.is_over() {
        let context = centre.context(purposes::FEE_WAIVER);
        let id = context.request_id.clone();
        let request = proto::PullDeliveriesRequest { context: Some(context), max_deliveries: 5 };
        let call = |request| {
            let centre = centre.clone();
            async move { centre.exchanges().pull_deliveries(request).await }
        };
        for delivery in world.until_answered(&centre, &request, &id, call).await.deliveries {
            let context = centre.context(purposes::FEE_WAIVER);
            let id = context.request_id.clone();
            let request = proto::AcknowledgeDeliveryRequest {
                context: Some(context),
                delivery_id: delivery.delivery_id,
                message_sha256: delivery.message_sha256,
            };
            let call = |request| {
                let centre = centre.clone();
                async move { centre.exchanges().acknowledge_delivery(request).await }
            };
            world.until_answered(&centre, &request, &id, call).await;
        }
    }
}

async fn keep_checkpoints(world: Arc<World>, folder: Arc<Folder>) {
    let auditor = folder.client("auditor");
    while !world.is_over() {
        let context = auditor.context(purposes::AUDIT_INSPECTION);
        let id = context.request_id.clone();
        let request = proto::GetCheckpointRequest { context: Some(context) };
        let call = |request| {
            let auditor = auditor.clone();
            async move { auditor.audit().get_checkpoint(request).await }
        };
        let answer = world.until_answered(&auditor, &request, &id, call).await;
        world.checkpoints.lock().unwrap().insert(answer.checkpoint);
        // Each call is a batch of its own; between them others shall have their turn.
        let _ = tokio::time::timeout(Duration::from_millis(20), world.lives.subscribe().changed()).await;
    }
}

/// What the clients know, each from its own answers.
struct World {
    /// How often the gateway has come back.
    lives: watch::Sender<u64>,
    over: AtomicBool,
    opened: AtomicUsize,
    replayed: AtomicU64,
    answers: Mutex<Vec<Answer>>,
    checkpoints: Mutex<BTreeSet<String>>,
    /// By request id: what was sent, and the exchange that was acknowledged.
    submissions: Mutex<BTreeMap<String, (proto::SubmitExchangeRequest, Option<String>)>>,
}

impl World {
    fn new() -> Self {
        Self {
            lives: watch::Sender::new(0),
            over: AtomicBool::new(false),
            opened: AtomicUsize::new(0),
            replayed: AtomicU64::new(0),
            answers: Mutex::default(),
            checkpoints: Mutex::default(),
            submissions: Mutex::default(),
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn answers(&self) -> Vec<Answer> {
        self.answers.lock().unwrap().clone()
    }

    fn checkpoints(&self) -> Vec<String> {
        self.checkpoints.lock().unwrap().iter().cloned().collect()
    }

    /// Sends the same request until it is answered, and notes the answer.
    async fn until_answered<M: Clone, R: Evidence, F>(
        &self,
        client: &AgencyClient,
        message: &M,
        request_id: &str,
        call: impl Fn(Request<M>) -> F,
    ) -> R
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let mut lives = self.lives.subscribe();
        loop {
            lives.mark_unchanged();
            match call(client.request(message.clone(), DEADLINE)).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    self.answers.lock().unwrap().push(Answer::note(request_id, answer.clone()));
                    return answer;
                }
                Err(status) => {
                    assert!(may_pass(&status), "{} was refused: {status:?}", R::METHOD);
                    let _ = tokio::time::timeout(Duration::from_millis(50), lives.changed()).await;
                }
            }
        }
    }

    async fn submit(
        &self,
        centre: &AgencyClient,
        request: &proto::SubmitExchangeRequest,
    ) -> proto::SubmitExchangeResponse {
        let id = request.envelope.clone().unwrap().request_id;
        let call = |request| {
            let centre = centre.clone();
            async move { centre.exchanges().submit_exchange(request).await }
        };
        self.until_answered(centre, request, &id, call).await
    }

    async fn read(&self, centre: &AgencyClient, exchange_id: &str) -> proto::Exchange {
        let context = centre.context(purposes::FEE_WAIVER);
        let id = context.request_id.clone();
        let request =
            proto::GetExchangeRequest { context: Some(context), exchange_id: exchange_id.to_owned() };
        let call = |request| {
            let centre = centre.clone();
            async move { centre.exchanges().get_exchange(request).await }
        };
        self.until_answered(centre, &request, &id, call).await.exchange.unwrap()
    }

    async fn list(&self, centre: &AgencyClient) -> Vec<proto::Exchange> {
        let mut exchanges = Vec::new();
        let mut page_token = String::new();
        loop {
            let context = centre.context(purposes::FEE_WAIVER);
            let id = context.request_id.clone();
            let request = proto::ListExchangesRequest {
                context: Some(context),
                page_size: 200,
                page_token,
                ..Default::default()
            };
            let call = |request| {
                let centre = centre.clone();
                async move { centre.exchanges().list_exchanges(request).await }
            };
            let page = self.until_answered(centre, &request, &id, call).await;
            exchanges.extend(page.exchanges);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return exchanges;
            }
        }
    }

    /// Looks up the answers noted since `from`, in the database of the gateway that came back.
    async fn check_new_answers(&self, folder: &Folder, from: usize) -> usize {
        let new = self.answers()[from..].to_vec();
        let store = Store::open_audit_log(folder.store()).await.unwrap();
        for answer in &new {
            let stored = store.entry(answer.index).await.unwrap();
            let entry = stored.unwrap_or_else(|| panic!("no entry of {answer:?}")).entry;
            answer.check_entry(&Entry::from_json(&entry).unwrap());
        }
        store.close().await;
        from + new.len()
    }

    /// Waits until the court has decided every exchange; returns how many there are.
    async fn wait_until_all_are_decided(&self, folder: &Folder) -> usize {
        let centre = folder.client("centre");
        let started = Instant::now();
        loop {
            let exchanges = self.list(&centre).await;
            let decided = proto::ExchangeState::Decided as i32;
            let open: Vec<_> = exchanges.iter().filter(|exchange| exchange.state != decided).collect();
            if open.is_empty() {
                assert_eq!(
                    exchanges.len(),
                    self.submissions.lock().unwrap().len(),
                    "one for each request id"
                );
                return exchanges.len();
            }
            let example = (&open[0].exchange_id, open[0].state().as_str_name());
            assert!(started.elapsed() < PATIENCE, "{} are not decided, such as {example:?}", open.len());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn check_that_retries_get_the_first_outcome(&self, folder: &Folder) {
        let centre = folder.client("centre");
        let submissions = self.submissions.lock().unwrap().clone();
        let mut seen = HashMap::new();
        for (request_id, (request, exchange_id)) in &submissions {
            let exchange_id = exchange_id.clone().expect("every submission was answered in the end");
            let again = self.submit(&centre, request).await;
            assert_eq!(again.exchange.unwrap().exchange_id, exchange_id, "request {request_id}");
            assert_eq!(seen.insert(exchange_id.clone(), request_id), None, "two requests, one exchange");
            let thread = self.read(&centre, &exchange_id).await.thread;
            assert_eq!(thread[0].envelope.clone().unwrap().request_id, *request_id);
            assert_eq!(thread.len(), 3, "request, receipt and decision, each once");
        }
    }
}

/// Whether asking again may help: the gateway is away, or said so itself.
fn may_pass(status: &Status) -> bool {
    let details = status.get_error_details();
    match details.error_info() {
        Some(info) => ["REQUEST_STILL_RUNNING", "CHANGED_MEANWHILE"].contains(&info.reason.as_str()),
        // Without a reason it does not come from the gateway, but from a connection that broke.
        None => matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled),
    }
}

/// An answer that a client got.
#[derive(Clone, Debug)]
struct Answer {
    method: &'static str,
    phase: Phase,
    request_id: String,
    index: u64,
    /// The answer without its own evidence: what the log commits to.
    bytes: Vec<u8>,
}

impl Answer {
    fn note<R: Evidence>(request_id: &str, mut answer: R) -> Self {
        let index = answer.take_receipt().expect("an answer says where its evidence stands").log_index;
        let bytes = answer.encode_to_vec();
        Self { method: R::METHOD, phase: R::PHASE, request_id: request_id.to_owned(), index, bytes }
    }

    fn check_entry(&self, entry: &Entry) {
        assert_eq!(entry.method, self.method, "{entry:?}");
        assert_eq!(entry.phase, self.phase, "{entry:?}");
        assert_eq!(entry.code.as_deref(), Some("OK"), "{entry:?}");
        assert_eq!(entry.request.map(|id| id.to_string()).as_ref(), Some(&self.request_id), "{entry:?}");
    }

    fn check(&self, entries: &[Entry], salts: &[Salt]) {
        let at = usize::try_from(self.index).unwrap();
        let entry = entries.get(at).unwrap_or_else(|| panic!("no entry of {self:?}"));
        self.check_entry(entry);
        let opens = log::opens(entry.response_commitment.as_ref(), &salts[at], Field::Response, &self.bytes);
        assert!(opens, "entry {at} commits to another answer: {entry:?}");
    }
}

/// An answer that says where its evidence stands.
trait Evidence: Message + Default + Clone + PartialEq {
    const METHOD: &'static str;
    const PHASE: Phase;
    fn take_receipt(&mut self) -> Option<proto::AuditReceipt>;
}

macro_rules! evidence {
    ($($response:ident: $method:literal $phase:ident),+ $(,)?) => {
        $(impl Evidence for proto::$response {
            const METHOD: &'static str = $method;
            const PHASE: Phase = Phase::$phase;
            fn take_receipt(&mut self) -> Option<proto::AuditReceipt> {
                self.audit.take()
            }
        })+
    };
}

evidence!(
    VerifyLowIncomeResponse: "VerifyLowIncome" Response,
    SubmitExchangeResponse: "SubmitExchange" Response,
    RespondToExchangeResponse: "RespondToExchange" Response,
    PullDeliveriesResponse: "PullDeliveries" Response,
    AcknowledgeDeliveryResponse: "AcknowledgeDelivery" Response,
    GetExchangeResponse: "GetExchange" Read,
    ListExchangesResponse: "ListExchanges" Read,
    GetCheckpointResponse: "GetCheckpoint" Read,
);

/// Chance that can be repeated: SplitMix64. A failure prints its seed.
struct Dice {
    seed: u64,
    state: u64,
}

impl Dice {
    fn new(seed: Option<u64>) -> Self {
        let seed = seed.unwrap_or_else(|| u64::from_le_bytes(entropy::bytes()));
        Self { seed, state: seed }
    }

    fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.roll().is_multiple_of(times)
    }

    /// Time passes: the moment of a kill is not an event to wait for.
    async fn pause(&mut self, least: Duration, most: Duration) {
        let span = u64::try_from((most - least).as_micros()).unwrap();
        tokio::time::sleep(least + Duration::from_micros(self.roll() % span)).await;
    }
}

impl Drop for Dice {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("repeat with CRASH_SEED={}", self.seed);
        }
    }
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}
