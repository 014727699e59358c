//! The clients' own ledger: what they asked, and what they were promised.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::setup::purposes;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::answer::{Answer, Evidence, Refused, may_pass, says_unwritten};
use super::support::DEADLINE;

/// What the clients know, each from its own answers.
pub(crate) struct Ledger {
    /// How often the gateway has come back.
    pub(crate) lives: watch::Sender<u64>,
    over: AtomicBool,
    pub(crate) opened: AtomicUsize,
    pub(crate) replayed: AtomicU64,
    answers: Mutex<Vec<Answer>>,
    refusals: Mutex<Vec<Refused>>,
    /// How often a client was told that the log cannot be written.
    pub(crate) unwritten: AtomicU64,
    pub(crate) checkpoints: Mutex<BTreeSet<String>>,
    /// By request id: what was sent, and the exchange that was acknowledged.
    pub(crate) submissions: Mutex<BTreeMap<String, (proto::SubmitExchangeRequest, Option<String>)>>,
    /// By delivery id: the digest of what the centre pulled and acknowledged.
    pub(crate) acknowledged: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            lives: watch::Sender::new(0),
            over: AtomicBool::new(false),
            opened: AtomicUsize::new(0),
            replayed: AtomicU64::new(0),
            answers: Mutex::default(),
            refusals: Mutex::default(),
            unwritten: AtomicU64::new(0),
            checkpoints: Mutex::default(),
            submissions: Mutex::default(),
            acknowledged: Mutex::default(),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Has every client end once it has the answer it waits for.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    pub(crate) fn refusals(&self) -> Vec<Refused> {
        self.refusals.lock().unwrap().clone()
    }

    pub(crate) fn answers(&self) -> Vec<Answer> {
        self.answers.lock().unwrap().clone()
    }

    pub(crate) fn checkpoints(&self) -> Vec<String> {
        self.checkpoints.lock().unwrap().iter().cloned().collect()
    }

    /// Sends the same request until it is answered, and notes the answer.
    pub(crate) async fn until_answered<M: Clone, R: Evidence, F>(
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
                    self.unwritten.fetch_add(u64::from(says_unwritten(&status)), Ordering::SeqCst);
                    self.refusals.lock().unwrap().extend(Refused::note(R::METHOD, request_id, &status));
                    let _ = tokio::time::timeout(Duration::from_millis(50), lives.changed()).await;
                }
            }
        }
    }

    pub(crate) async fn submit(
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

    pub(crate) async fn read(&self, centre: &AgencyClient, exchange_id: &str) -> proto::Exchange {
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

    pub(crate) async fn list(&self, centre: &AgencyClient) -> Vec<proto::Exchange> {
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

    /// Pulls what waits for the centre and acknowledges it. Returns how much that was.
    pub(crate) async fn take_deliveries(&self, centre: &AgencyClient) -> usize {
        let context = centre.context(purposes::FEE_WAIVER);
        let id = context.request_id.clone();
        let request = proto::PullDeliveriesRequest { context: Some(context), max_deliveries: 5 };
        let call = |request| {
            let centre = centre.clone();
            async move { centre.exchanges().pull_deliveries(request).await }
        };
        let pulled = self.until_answered(centre, &request, &id, call).await.deliveries;
        for delivery in &pulled {
            let context = centre.context(purposes::FEE_WAIVER);
            let id = context.request_id.clone();
            let request = proto::AcknowledgeDeliveryRequest {
                context: Some(context),
                delivery_id: delivery.delivery_id.clone(),
                message_sha256: delivery.message_sha256.clone(),
            };
            let call = |request| {
                let centre = centre.clone();
                async move { centre.exchanges().acknowledge_delivery(request).await }
            };
            self.until_answered(centre, &request, &id, call).await;
            let (id, sha256) = (delivery.delivery_id.clone(), delivery.message_sha256.clone());
            let before = self.acknowledged.lock().unwrap().insert(id, sha256.clone());
            assert!(before.is_none_or(|before| before == sha256), "one delivery, two messages");
        }
        pulled.len()
    }

    /// What the outbox holds that is not delivered, as its operator sees it.
    pub(crate) async fn waiting(&self, operator: &AgencyClient) -> Vec<proto::OutboxDelivery> {
        let context = operator.context(purposes::GATEWAY_OPERATION);
        let id = context.request_id.clone();
        let request =
            proto::ListDeliveriesRequest { context: Some(context), page_size: 500, ..Default::default() };
        let call = |request| {
            let operator = operator.clone();
            async move { operator.exchanges().list_deliveries(request).await }
        };
        self.until_answered(operator, &request, &id, call).await.deliveries
    }
}
