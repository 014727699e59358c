//! Deliveries under an operator's eyes: what waits, what was given up, what a recipient may ask for, and that none is
//! lost on the way.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod district;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use district::{
    DEADLINE, Refused, Scene, Stand, acknowledge, agreement, answer, example, fee_waiver, pull, respond,
    stand, submit,
};
use legal_aid_gateway::access::{AgencyEndpoint, AgencyStatus, Agreement};
use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::domain::agency::CreditCode;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::grpc::proto::inbox_service_server::{InboxService, InboxServiceServer};
use legal_aid_gateway::grpc::proto::response::Kind as Arm;
use legal_aid_gateway::grpc::proto::{DeliveryState, ExchangeState};
use legal_aid_gateway::setup::{codes, purposes};
use legal_aid_gateway::simulator::district::free_address;
use prost::Message as _;
use sqlx::Connection as _;
use tokio::sync::{Semaphore, mpsc};
use tonic::service::Routes;
use tonic::{Code, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

// ---- the operator -----------------------------------------------------------------------------------------------

#[tokio::test]
async fn what_was_given_up_is_the_operators_to_see_and_to_have_delivered_again() {
    let mut scene = Scene::start_configured(|text| with(&text, "give_up_after", "168h", "0s")).await;
    scene.district.stop_court().await;
    let operator = scene.district.client("operator").unwrap();
    let exchange = scene.submit(&scene.fee_waiver()).await.unwrap().exchange.unwrap();
    scene.await_state(&exchange.exchange_id, ExchangeState::Undeliverable).await;

    let dead = list(&operator, DeliveryState::Dead).await;
    let [delivery] = dead.as_slice() else { panic!("{} given up", dead.len()) };
    assert_eq!(delivery.exchange_id, exchange.exchange_id);
    assert_eq!((delivery.recipient.as_str(), delivery.attempts), (codes::COURT, 1));
    assert_eq!(delivery.last_failure, "INBOX_UNREACHABLE");
    assert!(delivery.settle_time.is_some() && delivery.due_time.is_none());
    assert!(list(&operator, DeliveryState::Pending).await.is_empty());
    assert_eq!(list(&operator, DeliveryState::Unspecified).await.len(), 1);

    // It does not wait, so there is nothing to hurry; and no party may see or move it.
    let refused = Refused::of(&retry(&operator, &delivery.delivery_id).await.err().unwrap());
    assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "DELIVERY_DOES_NOT_WAIT"));
    for party in [&scene.centre, &scene.court] {
        let refused = Refused::of(&redeliver(party, &exchange.exchange_id).await.err().unwrap());
        assert_eq!((refused.code, refused.reason.as_str()), (Code::PermissionDenied, "NO_AGREEMENT"));
        let refused = Refused::of(&show(party, &delivery.delivery_id).await.err().unwrap());
        assert_eq!(refused.reason, "NO_AGREEMENT");
    }

    let mut taken = scene.open_inbox(0).await;
    let again = redeliver(&operator, &exchange.exchange_id).await.unwrap();
    assert_eq!(again.deliveries.len(), 1);
    assert_eq!(again.deliveries[0].delivery_id, delivery.delivery_id);
    assert_eq!(again.deliveries[0].state, DeliveryState::Pending as i32);
    let entry = scene.entry(again.audit.unwrap().log_index).await;
    assert_eq!(entry.reason.as_deref(), Some("RECIPIENT_BACK"));
    assert_eq!(entry.exchange.unwrap().to_string(), exchange.exchange_id);

    let arrived = taken.recv().await.unwrap();
    assert_eq!((arrived.delivery.delivery_id, arrived.delivery.attempt), (delivery.delivery_id.clone(), 2));
    let delivered = scene.await_state(&exchange.exchange_id, ExchangeState::Delivered).await;
    assert_eq!(delivered.thread.len(), 1);
    let shown = show(&operator, &delivery.delivery_id).await.unwrap();
    assert_eq!(shown.state, DeliveryState::Delivered as i32);
    let refused = Refused::of(&redeliver(&operator, &exchange.exchange_id).await.err().unwrap());
    assert_eq!(refused.reason, "NOTHING_GIVEN_UP");

    // Who follows the exchange sees all of it.
    let context = Some(scene.centre.context(purposes::FEE_WAIVER));
    let request = proto::WatchExchangesRequest { context, cursor: String::new() };
    let mut changes = scene.centre.exchanges().watch_exchanges(request).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while seen.last() != Some(&proto::ExchangeChange::Delivered) {
        let item = changes.message().await.unwrap().unwrap();
        seen.extend(item.event.map(|event| event.change()));
    }
    use proto::ExchangeChange::{Delivered, Opened, Redelivered, Undeliverable};
    assert!(seen == [Opened, Undeliverable, Redelivered, Delivered]);
    scene.stop().await;
}

#[tokio::test]
async fn a_delivery_that_waits_is_tried_at_once_when_the_operator_asks() {
    let mut scene = Scene::start_configured(|text| patient(&text)).await;
    scene.district.stop_court().await;
    let operator = scene.district.client("operator").unwrap();
    let exchange = scene.submit(&scene.fee_waiver()).await.unwrap().exchange.unwrap();
    let waiting = await_failure(&operator).await;
    let mut taken = scene.open_inbox(0).await;

    let listed = command(&scene, &["deliveries", "list", "--json"]).await;
    assert_eq!(listed["deliveries"][0]["delivery_id"], waiting.delivery_id.as_str(), "{listed}");
    assert_eq!(listed["deliveries"][0]["state"], "DELIVERY_STATE_PENDING");
    assert!(!listed.to_string().contains("测试"), "an operator sees no person: {listed}");
    let later = command(&scene, &["deliveries", "list", "--older-than", "1h", "--json"]).await;
    assert_eq!(later["deliveries"].as_array().unwrap().len(), 0);
    command(&scene, &["deliveries", "retry", &waiting.delivery_id, "--json"]).await;
    assert_eq!(taken.recv().await.unwrap().delivery.attempt, 2);
    scene.await_state(&exchange.exchange_id, ExchangeState::Delivered).await;
    scene.stop().await;
}

#[tokio::test]
async fn a_retry_asked_for_again_gets_its_first_answer_although_the_delivery_waits_no_more() {
    let mut scene = Scene::start_configured(|text| patient(&text)).await;
    scene.district.stop_court().await;
    let operator = scene.district.client("operator").unwrap();
    let exchange = scene.submit(&scene.fee_waiver()).await.unwrap().exchange.unwrap();
    let delivery_id = await_failure(&operator).await.delivery_id;
    let _taken = scene.open_inbox(0).await;

    let request = proto::RetryDeliveryRequest { context: context(&operator), delivery_id };
    let retry = async || {
        let request = operator.request(request.clone(), DEADLINE);
        operator.exchanges().retry_delivery(request).await.unwrap().into_inner()
    };
    let first = retry().await;
    scene.await_state(&exchange.exchange_id, ExchangeState::Delivered).await;
    assert!(retry().await == first, "the first answer, and its entry");
    scene.stop().await;
}

#[tokio::test]
async fn a_redelivery_asked_for_again_gets_its_first_answer_although_nothing_is_given_up_any_more() {
    let mut scene = Scene::start_configured(|text| with(&text, "give_up_after", "168h", "0s")).await;
    scene.district.stop_court().await;
    let operator = scene.district.client("operator").unwrap();
    let exchange = scene.submit(&scene.fee_waiver()).await.unwrap().exchange.unwrap();
    scene.await_state(&exchange.exchange_id, ExchangeState::Undeliverable).await;
    let _taken = scene.open_inbox(0).await;

    let request = proto::RedeliverExchangeRequest {
        context: context(&operator),
        exchange_id: exchange.exchange_id.clone(),
        reason: proto::RedeliveryReason::RecipientBack.into(),
    };
    let redeliver = async || {
        let request = operator.request(request.clone(), DEADLINE);
        operator.exchanges().redeliver_exchange(request).await.unwrap().into_inner()
    };
    let first = redeliver().await;
    scene.await_state(&exchange.exchange_id, ExchangeState::Delivered).await;
    assert!(redeliver().await == first, "the first answer, and its entry");
    scene.stop().await;
}

#[tokio::test]
async fn a_list_of_deliveries_comes_in_pages_oldest_first() {
    let mut scene = Scene::start_configured(|text| patient(&text)).await;
    scene.district.stop_court().await;
    let operator = scene.district.client("operator").unwrap();
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(scene.submit(&scene.fee_waiver()).await.unwrap().exchange.unwrap().exchange_id);
    }
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = proto::ListDeliveriesRequest {
            context: context(&operator),
            recipient: codes::COURT.to_owned(),
            page_size: 2,
            page_token,
            ..Default::default()
        };
        let page = operator.exchanges().list_deliveries(request).await.unwrap().into_inner();
        assert!(page.deliveries.len() <= 2);
        seen.extend(page.deliveries.into_iter().map(|delivery| delivery.exchange_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, made);
    scene.stop().await;
}

// ---- the recipient ----------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_recipient_says_when_to_come_again_and_that_it_has_a_delivery_already() {
    let mut scene = Scene::start_configured(|text| patient(&text)).await;
    scene.district.stop_court().await;
    let operator = scene.district.client("operator").unwrap();
    let busy = |wait: Duration| {
        Status::with_error_details(Code::ResourceExhausted, "busy", ErrorDetails::with_retry_info(Some(wait)))
    };
    let (minutes, days) = (Duration::from_secs(1800), Duration::from_secs(3 * 86_400));
    let already = Status::already_exists("it is here");
    let inbox = open(&scene, "court", scene.court_address(), [busy(minutes), busy(days), already]).await;

    let exchange = scene.submit(&scene.fee_waiver()).await.unwrap().exchange.unwrap();
    let waiting = await_failure(&operator).await;
    assert_eq!(waiting.last_failure, "INBOX_OVERLOADED");
    assert_wait(&scene, &waiting, 1800);
    // No longer than the longest wait, whatever is asked for.
    retry(&operator, &waiting.delivery_id).await.unwrap();
    let waiting = await_attempts(&operator, &waiting.delivery_id, 2).await;
    assert_wait(&scene, &waiting, 3600);

    retry(&operator, &waiting.delivery_id).await.unwrap();
    scene.await_state(&exchange.exchange_id, ExchangeState::Delivered).await;
    assert_eq!(inbox.messages().len(), 3);
    scene.stop().await;
}

#[tokio::test]
async fn messages_of_one_exchange_arrive_in_their_order_although_the_first_fails() {
    let mut scene = Scene::start_configured(|text| with(&text, "first_retry", "1s", "10ms")).await;
    scene.district.stop_court().await;
    let refusals = std::iter::repeat_with(|| Status::unavailable("not now")).take(3);
    let exchange = scene.submit(&scene.fee_waiver()).await.unwrap().exchange.unwrap();
    let withdrawal = Arm::Withdrawal(proto::Withdrawal { reason: "和解".to_owned() });
    respond(&scene.centre, &answer(&scene.centre, &exchange, withdrawal)).await.unwrap();
    let mut inbox = open(&scene, "court", scene.court_address(), refusals).await;
    let mut arrived = Vec::new();
    while arrived.len() < 2 {
        arrived.push(inbox.taken.recv().await.unwrap().sequence);
    }
    assert_eq!(arrived, [1, 2]);
    assert_eq!(inbox.messages(), [1, 1, 1, 1, 2], "the second was not tried before the first was taken");
    scene.stop().await;
}

#[tokio::test]
async fn of_many_exchanges_each_arrives_in_its_order_although_more_waits_than_is_under_way() {
    let mut scene =
        Scene::start_configured(|text| at_once(&with(&text, "first_retry", "1s", "10ms"), 4)).await;
    scene.district.stop_court().await;
    let mut sent = BTreeSet::new();
    for _ in 0..12 {
        let exchange = scene.submit(&scene.fee_waiver()).await.unwrap().exchange.unwrap();
        let withdrawal = Arm::Withdrawal(proto::Withdrawal { reason: "和解".to_owned() });
        respond(&scene.centre, &answer(&scene.centre, &exchange, withdrawal)).await.unwrap();
        sent.insert(exchange.exchange_id);
    }
    // Every message is refused once: an exchange's second must not pass its first that waits to be tried again.
    let refusals = std::iter::repeat_with(|| Status::internal("not now")).take(12);
    let mut inbox = open(&scene, "court", scene.court_address(), refusals).await;
    let mut arrived: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for _ in 0..24 {
        let message = inbox.taken.recv().await.unwrap();
        arrived.entry(message.exchange_id).or_default().push(message.sequence);
    }
    assert!(arrived.keys().eq(&sent));
    assert!(arrived.values().all(|sequences| *sequences == [1, 2]), "{arrived:?}");
    scene.stop().await;
}

#[tokio::test]
async fn a_recipient_that_is_suspended_gets_nothing_more_of_what_was_read_ahead_until_it_is_active_again() {
    let mut scene = Scene::start_configured(|text| at_once(&text, 2)).await;
    scene.district.stop_court().await;
    let operator = scene.district.client("operator").unwrap();
    set_status(&scene, AgencyStatus::Suspended).await;
    let mut sent = Vec::new();
    for _ in 0..8 {
        sent.push(scene.submit(&scene.fee_waiver()).await.unwrap().exchange.unwrap().exchange_id);
    }
    let (hold, inbox) = open_held(&scene, "court", scene.court_address()).await;
    set_status(&scene, AgencyStatus::Active).await;
    // Two are in the court's hands; the others have been read with them.
    while inbox.messages().len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    set_status(&scene, AgencyStatus::Suspended).await;
    hold.add_permits(100);
    // Both attempts come to their end, with the court's answer or without it.
    let polling = async {
        while !list(&operator, DeliveryState::Leased).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, polling).await.unwrap();
    // By when another has its delivery, the court would have had the next.
    let listen = free_address().unwrap();
    let mut neighbour = open(&scene, "neighbour", listen, []).await;
    push_to(&scene, codes::NEIGHBOUR, Some(listen)).await;
    submit(&scene.centre, &example("cooperation-request", &scene.centre)).await.unwrap();
    neighbour.taken.recv().await.unwrap();
    assert_eq!(inbox.messages().len(), 2);
    let mut waiting = list(&operator, DeliveryState::Pending).await;
    waiting.retain(|delivery| delivery.recipient == codes::COURT && delivery.attempts == 0);
    assert_eq!(waiting.len(), 6);

    set_status(&scene, AgencyStatus::Active).await;
    for exchange in &sent {
        scene.await_state(exchange, ExchangeState::Delivered).await;
    }
    scene.stop().await;
}

#[tokio::test]
async fn one_centres_flood_does_not_keep_anothers_message_to_the_same_court_waiting() {
    let mut scene = Scene::start_configured(|text| at_once(&text, 1)).await;
    scene.district.stop_court().await;
    let neighbour = scene.district.client("neighbour").unwrap();
    scene
        .edit_directory(|file| {
            let like = agreement(file, "DEV-CENTRE-COURT").clone();
            let caller = codes::NEIGHBOUR.parse::<CreditCode>().unwrap().into();
            file.agreements.push(Agreement { id: "DEV-NEIGHBOUR-COURT".to_owned(), caller, ..like });
        })
        .await;
    set_status(&scene, AgencyStatus::Suspended).await;
    for _ in 0..12 {
        scene.submit(&scene.fee_waiver()).await.unwrap();
    }
    submit(&neighbour, &fee_waiver(&scene.folder, &neighbour)).await.unwrap();
    set_status(&scene, AgencyStatus::Active).await;
    let mut inbox = open(&scene, "court", scene.court_address(), []).await;
    let mut senders = Vec::new();
    for _ in 0..13 {
        senders.push(inbox.taken.recv().await.unwrap().envelope.unwrap().sender);
    }
    let place = senders.iter().position(|sender| sender == codes::NEIGHBOUR).unwrap();
    assert!(place <= 2, "it came behind {place} of the flood");
    scene.stop().await;
}

#[tokio::test]
async fn a_message_that_cannot_be_read_keeps_no_other_back() {
    let mut scene = Scene::start_configured(|text| at_once(&text, 1)).await;
    scene.district.stop_court().await;
    let broken = scene.submit(&scene.fee_waiver()).await.unwrap().exchange.unwrap().exchange_id;
    let mut scene = scene.restart_after(async |folder| destroy_message(folder, &broken).await).await;
    scene.district.stop_court().await;
    let mut sent = BTreeSet::new();
    for _ in 0..4 {
        sent.insert(scene.submit(&scene.fee_waiver()).await.unwrap().exchange.unwrap().exchange_id);
    }
    let mut inbox = open(&scene, "court", scene.court_address(), []).await;
    let mut arrived = BTreeSet::new();
    while arrived.len() < sent.len() {
        arrived.insert(inbox.taken.recv().await.unwrap().exchange_id);
    }
    assert_eq!(arrived, sent);
    scene.stop().await;
}

#[tokio::test]
async fn a_message_that_cannot_be_read_keeps_no_other_back_from_who_pulls_one_by_one() {
    let mut scene = Scene::start().await;
    scene.district.stop_court().await;
    let broken = scene.submit(&scene.fee_waiver()).await.unwrap().exchange.unwrap().exchange_id;
    let mut scene = scene.restart_after(async |folder| destroy_message(folder, &broken).await).await;
    scene.district.stop_court().await;
    push_to(&scene, codes::COURT, None).await;
    let mut sent = Vec::new();
    for _ in 0..3 {
        sent.push(scene.submit(&scene.fee_waiver()).await.unwrap().exchange.unwrap().exchange_id);
    }
    let mut pulled = Vec::new();
    for _ in 0..4 {
        let context = Some(scene.court.context(purposes::FEE_WAIVER));
        let request = proto::PullDeliveriesRequest { context, max_deliveries: 1 };
        let answer = scene.court.exchanges().pull_deliveries(scene.court.request(request, DEADLINE)).await;
        for delivery in answer.unwrap().into_inner().deliveries {
            pulled.push(proto::ExchangeMessage::decode(delivery.message.as_slice()).unwrap().exchange_id);
        }
    }
    assert_eq!(pulled, sent);
    scene.stop().await;
}

#[tokio::test]
async fn an_agency_that_never_answers_keeps_nobody_else_waiting() {
    let mut scene = Scene::start_configured(|text| at_once(&with(&text, "attempt", "10s", "30s"), 4)).await;
    scene.district.stop_court().await;
    // It accepts connections and says nothing on them.
    let silent = tokio::net::TcpListener::bind(scene.court_address()).await.unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            held.push(stream);
        }
    });
    let listen = free_address().unwrap();
    let mut neighbour = open(&scene, "neighbour", listen, []).await;
    push_to(&scene, codes::NEIGHBOUR, Some(listen)).await;
    for _ in 0..8 {
        scene.submit(&scene.fee_waiver()).await.unwrap();
    }
    let mut sent = BTreeSet::new();
    for _ in 0..8 {
        let request = example("cooperation-request", &scene.centre);
        sent.insert(submit(&scene.centre, &request).await.unwrap().exchange.unwrap().exchange_id);
    }
    let arriving = async {
        let mut arrived = BTreeSet::new();
        while arrived.len() < sent.len() {
            arrived.insert(neighbour.taken.recv().await.unwrap().exchange_id);
        }
        arrived
    };
    // Before a single attempt at the silent one has ended.
    let arrived = tokio::time::timeout(Duration::from_secs(15), arriving).await.unwrap();
    assert_eq!(arrived, sent);
    let operator = scene.district.client("operator").unwrap();
    let mut leased = list(&operator, DeliveryState::Leased).await;
    leased.retain(|delivery| delivery.recipient == codes::COURT);
    assert_eq!(leased.len(), 4, "as many at once as the configuration says");
    // Not in order: that would wait for the attempts.
    drop(scene);
}

#[tokio::test]
async fn an_agency_goes_from_push_to_pull_and_back_and_misses_nothing() {
    let mut scene = Scene::start_configured(|text| {
        let text = with(&text, "first_retry", "1s", "20ms");
        let text = with(&text, "longest_retry", "15m", "50ms");
        with(&with(&text, "attempt", "10s", "1s"), "lease", "60s", "2s")
    })
    .await;
    scene.district.stop_court().await;
    let address = scene.court_address();
    let mut sent = BTreeSet::new();
    for _ in 0..3 {
        sent.insert(scene.submit(&scene.fee_waiver()).await.unwrap().exchange.unwrap().exchange_id);
    }
    push_to(&scene, codes::COURT, None).await;
    let mut pulled = BTreeSet::new();
    let pulling = async {
        while pulled.len() < 3 {
            for delivery in pull(&scene.court).await.unwrap().deliveries {
                let message = proto::ExchangeMessage::decode(delivery.message.as_slice()).unwrap();
                // One is taken over; two are taken, and then the agency changes its mind.
                if pulled.is_empty() {
                    let digest = &delivery.message_sha256;
                    acknowledge(&scene.court, &delivery.delivery_id, digest).await.unwrap();
                }
                pulled.insert(message.exchange_id);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, pulling).await.unwrap();
    assert_eq!(pulled, sent);
    let mut inbox = open(&scene, "court", address, []).await;
    push_to(&scene, codes::COURT, Some(address)).await;
    let mut pushed = BTreeSet::new();
    while pushed.len() < 2 {
        assert!(pushed.insert(inbox.taken.recv().await.unwrap().exchange_id));
    }
    for exchange in &sent {
        scene.await_state(exchange, ExchangeState::Delivered).await;
    }
    assert_eq!(inbox.messages().len(), 2, "what was acknowledged is not pushed");
    scene.stop().await;
}

// ---- help -------------------------------------------------------------------------------------------------------

/// An inbox that refuses by a script, then takes, if it holds nothing.
struct Scripted {
    hold: Arc<Semaphore>,
    refusals: Mutex<VecDeque<Status>>,
    seen: Arc<Mutex<Vec<u32>>>,
    tell: mpsc::UnboundedSender<proto::ExchangeMessage>,
}

#[tonic::async_trait]
impl InboxService for Scripted {
    async fn deliver(
        &self,
        request: tonic::Request<proto::DeliverRequest>,
    ) -> Result<Response<proto::DeliverResponse>, Status> {
        let delivery = request.into_inner().delivery.unwrap();
        let message = proto::ExchangeMessage::decode(delivery.message.as_slice()).unwrap();
        self.seen.lock().unwrap().push(message.sequence);
        if let Some(refusal) = self.refusals.lock().unwrap().pop_front() {
            return Err(refusal);
        }
        self.hold.acquire().await.unwrap().forget();
        let _ = self.tell.send(message);
        let message_sha256 = delivery.message_sha256;
        Ok(Response::new(proto::DeliverResponse { message_sha256, already_delivered: false }))
    }
}

/// A scripted inbox as a test sees it.
struct Open {
    taken: mpsc::UnboundedReceiver<proto::ExchangeMessage>,
    seen: Arc<Mutex<Vec<u32>>>,
    _stand: Stand,
}

impl Open {
    /// The place in its thread of each message that came, taken or not.
    fn messages(&self) -> Vec<u32> {
        self.seen.lock().unwrap().clone()
    }
}

async fn open(
    scene: &Scene,
    name: &str,
    listen: SocketAddr,
    refusals: impl IntoIterator<Item = Status>,
) -> Open {
    let hold = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
    open_with(scene, name, listen, refusals.into_iter().collect(), hold).await
}

/// An inbox that holds what comes as long as there is no permit for it.
async fn open_held(scene: &Scene, name: &str, listen: SocketAddr) -> (Arc<Semaphore>, Open) {
    let hold = Arc::new(Semaphore::new(0));
    (Arc::clone(&hold), open_with(scene, name, listen, VecDeque::new(), hold).await)
}

async fn open_with(
    scene: &Scene,
    name: &str,
    listen: SocketAddr,
    refusals: VecDeque<Status>,
    hold: Arc<Semaphore>,
) -> Open {
    let (tell, taken) = mpsc::unbounded_channel();
    let seen = Arc::<Mutex<Vec<u32>>>::default();
    let inbox = Scripted { hold, refusals: Mutex::new(refusals), seen: Arc::clone(&seen), tell };
    let routes = Routes::new(InboxServiceServer::new(inbox));
    let _stand = stand(&scene.profile(name), listen, routes, scene.clock.clone()).await;
    Open { taken, seen, _stand }
}

/// Sets a commented key of `[delivery]`.
fn with(text: &str, key: &str, default: &str, value: &str) -> String {
    let commented = format!("# {key} = \"{default}\"");
    assert!(text.contains(&commented), "{commented}");
    text.replacen(&commented, &format!("{key} = \"{value}\""), 1)
}

/// Deliveries at once to one recipient.
fn at_once(text: &str, deliveries: usize) -> String {
    let commented = "# per_recipient = 32";
    assert!(text.contains(commented), "{commented}");
    text.replacen(commented, &format!("per_recipient = {deliveries}"), 1)
}

async fn set_status(scene: &Scene, status: AgencyStatus) {
    scene
        .edit_directory(|file| {
            let court = file.agencies.iter_mut().find(|agency| agency.code.as_str() == codes::COURT);
            court.unwrap().status = status;
        })
        .await;
}

/// Overwrites the first message of an exchange in the database of a gateway that does not run.
async fn destroy_message(folder: &Path, exchange_id: &str) {
    let text = std::fs::read_to_string(folder.join("gateway.toml")).unwrap();
    let exchange = exchange_id.replace('-', "");
    if let Some((_, rest)) = text.split_once("database = \"postgres") {
        let url = format!("postgres{}", rest.split('"').next().unwrap());
        let destroy = format!("UPDATE messages SET message = '\\x01' WHERE exchange_id = '\\x{exchange}'");
        district::postgres::psql(&url, &destroy);
        return;
    }
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.join("gateway.db"));
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    let destroy = "UPDATE messages SET message = x'01' WHERE exchange_id = unhex($1)";
    let changed = sqlx::query(destroy).bind(exchange).execute(&mut connection).await.unwrap();
    assert_eq!(changed.rows_affected(), 1);
    connection.close().await.unwrap();
}

/// Waits of an hour: what is tried again within a test was asked for.
fn patient(text: &str) -> String {
    with(&with(text, "first_retry", "1s", "20m"), "longest_retry", "15m", "1h")
}

async fn push_to(scene: &Scene, code: &str, listen: Option<SocketAddr>) {
    scene
        .edit_directory(|file| {
            let agency = file.agencies.iter_mut().find(|agency| agency.code.as_str() == code).unwrap();
            agency.endpoint = listen.map(|address| AgencyEndpoint {
                address: address.to_string(),
                server_name: "localhost".to_owned(),
            });
        })
        .await;
}

fn context(client: &AgencyClient) -> Option<proto::CallContext> {
    Some(client.context(purposes::GATEWAY_OPERATION))
}

async fn list(operator: &AgencyClient, state: DeliveryState) -> Vec<proto::OutboxDelivery> {
    let request = proto::ListDeliveriesRequest {
        context: context(operator),
        state: state.into(),
        ..Default::default()
    };
    let page = operator.exchanges().list_deliveries(operator.request(request, DEADLINE)).await;
    page.unwrap().into_inner().deliveries
}

async fn show(client: &AgencyClient, delivery_id: &str) -> Result<proto::OutboxDelivery, Status> {
    let delivery_id = delivery_id.to_owned();
    let request = proto::GetDeliveryRequest { context: context(client), delivery_id };
    let shown = client.exchanges().get_delivery(client.request(request, DEADLINE)).await?;
    Ok(shown.into_inner().delivery.unwrap())
}

async fn retry(client: &AgencyClient, delivery_id: &str) -> Result<(), Status> {
    let delivery_id = delivery_id.to_owned();
    let request = proto::RetryDeliveryRequest { context: context(client), delivery_id };
    client.exchanges().retry_delivery(client.request(request, DEADLINE)).await.map(|_| ())
}

async fn redeliver(
    client: &AgencyClient,
    exchange_id: &str,
) -> Result<proto::RedeliverExchangeResponse, Status> {
    let request = proto::RedeliverExchangeRequest {
        context: context(client),
        exchange_id: exchange_id.to_owned(),
        reason: proto::RedeliveryReason::RecipientBack.into(),
    };
    let answer = client.exchanges().redeliver_exchange(client.request(request, DEADLINE)).await;
    answer.map(Response::into_inner)
}

/// Polls until the only delivery has failed once.
async fn await_failure(operator: &AgencyClient) -> proto::OutboxDelivery {
    let polling = async {
        loop {
            if let [waiting] = list(operator, DeliveryState::Pending).await.as_slice()
                && !waiting.last_failure.is_empty()
            {
                return waiting.clone();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, polling).await.unwrap()
}

/// Polls until so many attempts have ended.
async fn await_attempts(operator: &AgencyClient, delivery_id: &str, attempts: u32) -> proto::OutboxDelivery {
    let polling = async {
        loop {
            let shown = show(operator, delivery_id).await.unwrap();
            if shown.attempts == attempts && shown.state() == DeliveryState::Pending {
                return shown;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, polling).await.unwrap()
}

/// Between the attempt and the look at it only a moment has passed.
fn assert_wait(scene: &Scene, delivery: &proto::OutboxDelivery, seconds: i64) {
    let left = delivery.due_time.as_ref().unwrap().seconds - scene.clock.now().as_second();
    assert!((seconds - 30..=seconds).contains(&left), "{left} s left of {seconds}");
}

/// Runs a command as the operator; its JSON.
async fn command(scene: &Scene, arguments: &[&str]) -> serde_json::Value {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_legal-aid-gateway"))
        .args(arguments)
        .arg("--as")
        .arg(scene.folder.join("operator.toml"))
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
