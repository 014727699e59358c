//! A court's own side: takes what is pushed, or holds it for ever, and tells how much it has taken.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::grpc::proto::exchange_service_client::ExchangeServiceClient;
use legal_aid_gateway::grpc::proto::inbox_service_server::{InboxService, InboxServiceServer};
use prost::Message as _;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::bare;
use crate::message::SUBMISSION_PURPOSE;
use crate::parties::{Certificates, Party, endpoint};

/// How often it tells what has changed.
const TELL_EVERY: Duration = Duration::from_millis(50);

/// Receipts on their way at once.
const RECEIPTS_AT_ONCE: usize = 64;

/// What a court is like.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct InboxRole {
    /// Whose court it is.
    #[arg(long, value_enum)]
    party: Party,
    /// Never answers.
    #[arg(long)]
    stalls: bool,
    /// Sends a receipt for each message to the gateway there.
    #[arg(long)]
    receipts_to: Option<SocketAddr>,
}

/// What a court has seen, in microseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// Deliveries, each counted once an attempt.
    pub(crate) taken: u64,
    pub(crate) first_us: i64,
    pub(crate) last_us: i64,
    /// Receipts that the gateway has accepted.
    pub(crate) receipted: u64,
    pub(crate) last_receipted_us: i64,
    /// Receipts that it has not.
    pub(crate) failed: u64,
}

impl Taken {
    /// Deliveries a second, from the first to the last.
    pub(crate) fn per_second(&self) -> f64 {
        (self.taken.saturating_sub(1)) as f64 / ((self.last_us - self.first_us).max(1) as f64 / 1e6)
    }
}

/// Serves the inbox, and tells on standard output what it has taken whenever that has changed.
pub(crate) async fn serve(certificates: &Certificates, role: InboxRole) -> Result<()> {
    let gateway = match role.receipts_to {
        None => None,
        Some(address) => {
            let channel = certificates.dialler(role.party)?.channel(&endpoint(address, Party::Gateway)?)?;
            Some(ExchangeServiceClient::new(channel))
        }
    };
    let inbox = Inbox {
        party: role.party,
        stalls: role.stalls,
        gateway,
        at_once: Arc::new(Semaphore::new(RECEIPTS_AT_ONCE)),
        seen: Arc::default(),
    };
    let seen = Arc::clone(&inbox.seen);
    tokio::spawn(async move {
        let mut told = Taken::default();
        loop {
            tokio::time::sleep(TELL_EVERY).await;
            let now = seen.now();
            if now != told
                && let Ok(line) = serde_json::to_string(&now)
            {
                told = now;
                println!("{line}");
            }
        }
    });
    bare::serve(certificates, role.party, Routes::new(InboxServiceServer::new(inbox))).await
}

#[derive(Default)]
struct Seen {
    taken: AtomicU64,
    times: Mutex<(i64, i64)>,
    receipted: AtomicU64,
    last_receipted: AtomicI64,
    failed: AtomicU64,
}

impl Seen {
    fn take(&self) {
        let now = micros();
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        if times.0 == 0 {
            times.0 = now;
        }
        times.1 = now;
        // Under the lock, so that count and time belong together.
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    fn now(&self) -> Taken {
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        Taken {
            taken: self.taken.load(Ordering::Relaxed),
            first_us: times.0,
            last_us: times.1,
            receipted: self.receipted.load(Ordering::Relaxed),
            last_receipted_us: self.last_receipted.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }
}

#[derive(Clone)]
struct Inbox {
    party: Party,
    stalls: bool,
    gateway: Option<ExchangeServiceClient<Channel>>,
    at_once: Arc<Semaphore>,
    seen: Arc<Seen>,
}

#[tonic::async_trait]
impl InboxService for Inbox {
    async fn deliver(
        &self,
        request: Request<proto::DeliverRequest>,
    ) -> Result<Response<proto::DeliverResponse>, Status> {
        if self.stalls {
            std::future::pending::<()>().await;
        }
        let delivery = request.into_inner().delivery.ok_or_else(|| Status::invalid_argument("nothing"))?;
        self.seen.take();
        let message_sha256 = delivery.message_sha256;
        if let Some(gateway) = &self.gateway {
            let message = proto::ExchangeMessage::decode(delivery.message.as_slice())
                .map_err(|_| Status::invalid_argument("not a message"))?;
            let receipt = receipt(self.party, &message, message_sha256.clone());
            let (gateway, seen, at_once) =
                (gateway.clone(), Arc::clone(&self.seen), Arc::clone(&self.at_once));
            tokio::spawn(async move {
                let _place = at_once.acquire_owned().await;
                send(gateway, receipt, &seen).await;
            });
        }
        Ok(Response::new(proto::DeliverResponse { message_sha256, already_delivered: false }))
    }
}

/// Sends a receipt until it is accepted, under one request id.
async fn send(
    mut gateway: ExchangeServiceClient<Channel>,
    receipt: proto::RespondToExchangeRequest,
    seen: &Seen,
) {
    for _ in 0..5 {
        let mut request = Request::new(receipt.clone());
        request.set_timeout(Duration::from_secs(10));
        match gateway.respond_to_exchange(request).await {
            Ok(_) => {
                seen.last_receipted.fetch_max(micros(), Ordering::Relaxed);
                seen.receipted.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Err(status) => {
                eprintln!("a receipt was not accepted: {:?} {}", status.code(), status.message());
                tokio::time::sleep(TELL_EVERY).await;
            }
        }
    }
    seen.failed.fetch_add(1, Ordering::Relaxed);
}

fn receipt(
    party: Party,
    message: &proto::ExchangeMessage,
    message_sha256: Vec<u8>,
) -> proto::RespondToExchangeRequest {
    let asked = message.envelope.clone().unwrap_or_default();
    let now = Clock::system().now();
    proto::RespondToExchangeRequest {
        envelope: Some(proto::Envelope {
            request_id: Uuid::now_v7().to_string(),
            sender: party.code().to_owned(),
            recipient: asked.sender,
            in_reply_to: message.exchange_id.clone(),
            purpose: SUBMISSION_PURPOSE.to_owned(),
            operator: Some(proto::Operator {
                staff_number: "LQFY-0001".to_owned(),
                name: String::new(),
                unit: "LA-1".to_owned(),
            }),
            attachments: Vec::new(),
            ..asked
        }),
        response: Some(proto::Response {
            kind: Some(proto::response::Kind::Receipt(proto::Receipt {
                message_sha256,
                received_at: Some(prost_types::Timestamp { seconds: now.as_second(), nanos: 0 }),
                receipt_number: "R-1".to_owned(),
            })),
        }),
    }
}

/// Microseconds since 1970.
pub(crate) fn micros() -> i64 {
    Clock::system().now().as_microsecond()
}
