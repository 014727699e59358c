//! A court: takes deliveries, confirms them, asks for papers where its script says so, and decides.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prost::Message;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use super::{Serving, SimulatorError, start};
use crate::client::{AgencyClient, Profile};
use crate::clock::Clock;
use crate::config::load_table;
use crate::grpc::generated::google::r#type as google_type;
use crate::grpc::proto::exchange_message::Body;
use crate::grpc::proto::inbox_service_server::{InboxService, InboxServiceServer};
use crate::grpc::proto::response::Kind as Arm;
use crate::grpc::wire::{date, shanghai_day, timestamp};
use crate::grpc::{proto, sha256};

/// Longest wait before the court sends an answer again.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Configuration: a TOML file that `init` makes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CourtConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Profile of the court: its certificate, and its gateway.
    pub profile: std::path::PathBuf,
    /// What it does with a request.
    #[serde(default)]
    pub script: Script,
}

/// What a simulated court does with a fee-waiver request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Script {
    /// Confirms, asks for a paper, and defers the fee when the paper has come.
    #[default]
    SupplementThenDefer,
    /// Confirms and defers the fee.
    Defer,
    /// Takes the delivery and says nothing more.
    TakeOnly,
}

/// Starts a court by its configuration file.
///
/// # Errors
/// When the configuration, certificate or address cannot be used.
pub async fn serve_file(path: &Path, clock: Clock) -> Result<Serving, SimulatorError> {
    let mut config: CourtConfig = load_table(path, [])?;
    config.profile = path.parent().unwrap_or(Path::new(".")).join(&config.profile);
    serve_config(config, clock).await
}

/// Starts a court.
///
/// # Errors
/// When the certificate or address cannot be used.
pub async fn serve_config(config: CourtConfig, clock: Clock) -> Result<Serving, SimulatorError> {
    let profile = Profile::load(&config.profile)?;
    let client = AgencyClient::new(profile.clone(), clock.clone())?;
    let (desk, work) = mpsc::unbounded_channel();
    let inbox = Inbox { taken: Arc::default(), desk };
    let clerk = Clerk { client, script: config.script };
    tokio::spawn(clerk.work(work));
    let routes = tonic::service::Routes::new(InboxServiceServer::new(inbox));
    start(&profile, config.listen, routes, clock).await
}

/// Takes deliveries over, each once.
#[derive(Clone)]
struct Inbox {
    /// Digest by delivery id.
    taken: Arc<Mutex<HashMap<String, Vec<u8>>>>,
    desk: mpsc::UnboundedSender<Taken>,
}

struct Taken {
    message: proto::ExchangeMessage,
    sha256: Vec<u8>,
}

#[tonic::async_trait]
impl InboxService for Inbox {
    async fn deliver(
        &self,
        request: Request<proto::DeliverRequest>,
    ) -> Result<Response<proto::DeliverResponse>, Status> {
        let delivery =
            request.into_inner().delivery.ok_or_else(|| Status::invalid_argument("no delivery"))?;
        let sha256 = sha256(&delivery.message).to_vec();
        if sha256 != delivery.message_sha256 {
            return Err(Status::data_loss("the digest is not that of the message"));
        }
        let message = proto::ExchangeMessage::decode(delivery.message.as_slice())
            .map_err(|_| Status::invalid_argument("not an exchange message"))?;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let already_delivered = taken.insert(delivery.delivery_id, sha256.clone()).is_some();
        if !already_delivered {
            let _ = self.desk.send(Taken { message, sha256: sha256.clone() });
        }
        Ok(Response::new(proto::DeliverResponse { message_sha256: sha256, already_delivered }))
    }
}

/// Answers what the inbox has taken.
struct Clerk {
    client: AgencyClient,
    script: Script,
}

impl Clerk {
    async fn work(self, mut work: mpsc::UnboundedReceiver<Taken>) {
        while let Some(taken) = work.recv().await {
            for arm in self.answers(&taken) {
                if let Err(status) = self.respond(&taken.message, arm).await {
                    tracing::warn!(code = ?status.code(), "the gateway did not take the court's answer");
                    break;
                }
            }
        }
    }

    fn answers(&self, taken: &Taken) -> Vec<Arm> {
        let now = self.client.now();
        let today = shanghai_day(now);
        let receipt = Arm::Receipt(proto::Receipt {
            message_sha256: taken.sha256.clone(),
            received_at: Some(timestamp(now)),
            receipt_number: "R-1".to_owned(),
        });
        let later = today.saturating_add(jiff::Span::new().days(60));
        // Not today: at midnight, what is not yet supplemented is deemed withdrawn.
        let next_week = today.saturating_add(jiff::Span::new().days(7));
        let decision = Arm::FeeWaiverDecision(proto::FeeWaiverDecision {
            outcome: proto::FeeWaiverOutcome::Deferred.into(),
            deferred_until: Some(date(later)),
            notice_number: "N-1".to_owned(),
            hardship_rereviewed: Some(false),
            decided_on: Some(date(today)),
            ..Default::default()
        });
        let response_arm = match &taken.message.body {
            Some(Body::Response(response)) => response.kind.as_ref(),
            _ => None,
        };
        match (self.script, &taken.message.body, response_arm) {
            (Script::SupplementThenDefer, Some(Body::Content(_)), _) => {
                vec![receipt, ask_for_paper(date(next_week))]
            }
            (Script::Defer, Some(Body::Content(_)), _) => vec![receipt, decision],
            (Script::SupplementThenDefer, _, Some(Arm::Supplement(_))) => vec![decision],
            _ => Vec::new(),
        }
    }

    async fn respond(&self, to: &proto::ExchangeMessage, arm: Arm) -> Result<(), Status> {
        let asked = to.envelope.clone().unwrap_or_default();
        let envelope = self.client.complete(proto::Envelope {
            matter_id: asked.matter_id,
            kind: asked.kind,
            recipient: asked.sender,
            legal_basis: vec![basis("诉讼费用交纳办法", "48")],
            purpose: asked.purpose,
            classification: asked.classification,
            in_reply_to: to.exchange_id.clone(),
            ..Default::default()
        });
        let request = proto::RespondToExchangeRequest {
            envelope: Some(envelope),
            response: Some(proto::Response { kind: Some(arm) }),
        };
        // The same request id through every attempt, however long the gateway is away: the answer has effect once.
        let mut wait = Duration::from_millis(50);
        loop {
            let call = self.client.request(request.clone(), Duration::from_secs(5));
            match self.client.exchanges().respond_to_exchange(call).await {
                Ok(_) => return Ok(()),
                Err(status) if is_passing(&status) => {
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
                Err(status) => return Err(status),
            }
        }
    }
}

fn is_passing(status: &Status) -> bool {
    use tonic::Code;
    // The gateway gives every refusal a reason. What has none comes from a connection that broke.
    let broken = status.details().is_empty();
    broken
        || matches!(
            status.code(),
            Code::Unavailable | Code::DeadlineExceeded | Code::Aborted | Code::ResourceExhausted
        )
}

fn ask_for_paper(due_on: google_type::Date) -> Arm {
    Arm::SupplementRequest(proto::SupplementRequest {
        missing: vec![proto::MissingPaper {
            description: "委托代理手续".to_owned(),
            form_number: String::new(),
            required_by: Some(basis("诉讼费用交纳办法", "48")),
        }],
        due_on: Some(due_on),
    })
}

fn basis(law: &str, article: &str) -> proto::LegalBasis {
    proto::LegalBasis { law: law.to_owned(), article: article.to_owned() }
}
