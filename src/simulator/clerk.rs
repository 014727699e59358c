//! The clerk of an agency with an inbox: takes deliveries, pushed or pulled, and answers them by a script.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prost::Message;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status};

use super::decision::{self, Verdict};
use super::script::{self, Script, Step, Steps};
use super::{Serving, SimulatorError, start};
use crate::client::{AgencyClient, Paper, Profile, TransferError};
use crate::clock::Clock;
use crate::config::load_table;
use crate::domain::exchange::Kind;
use crate::grpc::proto::content::Kind as Asked;
use crate::grpc::proto::exchange_message::Body;
use crate::grpc::proto::inbox_service_server::{InboxService, InboxServiceServer};
use crate::grpc::proto::response::Kind as Arm;
use crate::grpc::wire::{date, shanghai_day, timestamp};
use crate::grpc::{proto, sha256};

/// Longest wait before an answer is sent again.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// How long one call may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// How long a clerk that pulls waits when nothing was there.
const PULL_EVERY: Duration = Duration::from_millis(500);

/// Media type of the papers that go with decisions.
const PDF: &str = "application/pdf";

/// Most answers on their way at once.
const AT_ONCE: usize = 16;

/// Configuration: a TOML file that `init` makes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClerkConfig {
    /// Where it takes deliveries; without an address it pulls them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Profile of the agency: its certificate, and its gateway.
    pub profile: PathBuf,
    /// Purpose code under which it pulls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// What it does with a kind for which `steps` says nothing.
    #[serde(default)]
    pub script: Script,
    /// What it does with each kind.
    #[serde(default, skip_serializing_if = "Steps::is_empty")]
    pub steps: Steps,
    /// A PDF that goes with its decisions on a kind.
    #[serde(default, skip_serializing_if = "Papers::is_empty")]
    pub papers: Papers,
}

/// Files by kind.
pub type Papers = BTreeMap<Kind, PathBuf>;

/// A clerk at work.
pub enum Working {
    /// Takes what is pushed.
    Serving(Serving),
    /// Pulls.
    Pulling(JoinHandle<()>),
}

impl Working {
    /// Where it takes deliveries, if it does not pull them.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Serving(serving) => Some(serving.address()),
            Self::Pulling(_) => None,
        }
    }

    /// Sends it home.
    pub async fn stop(self) {
        match self {
            Self::Serving(serving) => serving.stop().await,
            Self::Pulling(pulling) => pulling.abort(),
        }
    }
}

/// Reads a configuration; its paths become absolute to its folder.
///
/// # Errors
/// When the file is missing or malformed, or has a step that its kind does not know.
pub fn load(path: &Path) -> Result<ClerkConfig, SimulatorError> {
    let mut config: ClerkConfig = load_table(path, [])?;
    let folder = path.parent().unwrap_or(Path::new("."));
    config.profile = folder.join(&config.profile);
    for paper in config.papers.values_mut() {
        *paper = folder.join(&*paper);
    }
    script::check(&config.steps)?;
    Ok(config)
}

/// Starts a clerk that takes what is pushed, by its configuration file.
///
/// # Errors
/// When the configuration, certificate or address cannot be used.
pub async fn serve_file(path: &Path, clock: Clock) -> Result<Serving, SimulatorError> {
    serve_config(load(path)?, clock).await
}

/// Starts a clerk that takes what is pushed.
///
/// # Errors
/// When there is no address, or certificate or address cannot be used.
pub async fn serve_config(config: ClerkConfig, clock: Clock) -> Result<Serving, SimulatorError> {
    serve_with_book(config, Book::default(), clock).await
}

/// The same, with a book that is kept elsewhere.
///
/// # Errors
/// When there is no address, or certificate or address cannot be used.
pub async fn serve_with_book(
    config: ClerkConfig,
    book: Book,
    clock: Clock,
) -> Result<Serving, SimulatorError> {
    let listen = config.listen.ok_or(SimulatorError::NoAddress)?;
    let profile = Profile::load(&config.profile)?;
    let desk = Clerk::sit_down(&config, AgencyClient::new(profile.clone(), clock.clone())?);
    let inbox = Inbox { book, desk };
    let routes = tonic::service::Routes::new(InboxServiceServer::new(inbox));
    start(&profile, listen, routes, clock).await
}

/// Starts a clerk: it takes what is pushed where it has an address, and pulls where it has none.
///
/// # Errors
/// When there is neither address nor purpose, or the certificate or address cannot be used.
pub async fn work(config: ClerkConfig, clock: Clock) -> Result<Working, SimulatorError> {
    if config.listen.is_some() {
        return serve_config(config, clock).await.map(Working::Serving);
    }
    let client = AgencyClient::load(&config.profile, clock)?;
    let purpose = config.purpose.clone().ok_or(SimulatorError::NoPurpose)?;
    let desk = Clerk::sit_down(&config, client.clone());
    Ok(Working::Pulling(tokio::spawn(pull_on(client, purpose, desk))))
}

/// Pulls until nobody works at the desk any more.
async fn pull_on(client: AgencyClient, purpose: String, desk: mpsc::UnboundedSender<Taken>) {
    while !desk.is_closed() {
        match pull(&client, &purpose, &desk).await {
            Ok(0) => {}
            Ok(_) => continue,
            Err(status) => tracing::warn!(code = ?status.code(), "the gateway gives no deliveries"),
        }
        tokio::time::sleep(PULL_EVERY).await;
    }
}

/// Takes over what waits, and says how much it was. Only what was acknowledged gets to the desk, so that it is answered
/// once.
async fn pull(
    client: &AgencyClient,
    purpose: &str,
    desk: &mpsc::UnboundedSender<Taken>,
) -> Result<usize, Status> {
    let request = proto::PullDeliveriesRequest { context: Some(client.context(purpose)), max_deliveries: 10 };
    let pulled = client.exchanges().pull_deliveries(client.request(request, DEADLINE)).await?.into_inner();
    let count = pulled.deliveries.len();
    for delivery in pulled.deliveries {
        let acknowledged = proto::AcknowledgeDeliveryRequest {
            context: Some(client.context(purpose)),
            delivery_id: delivery.delivery_id.clone(),
            message_sha256: delivery.message_sha256.clone(),
        };
        let taken = Taken::read(&delivery)?;
        client.exchanges().acknowledge_delivery(client.request(acknowledged, DEADLINE)).await?;
        let _ = desk.send(taken);
    }
    Ok(count)
}

/// What an agency has taken over, by delivery id. Cheap to clone; clones are one book.
#[derive(Clone, Debug, Default)]
pub struct Book(Arc<Mutex<HashMap<String, BookEntry>>>);

/// A delivery that was taken over.
#[derive(Clone, Debug)]
pub struct BookEntry {
    /// The exchange.
    pub exchange_id: String,
    /// Digest of the message.
    pub sha256: Vec<u8>,
    /// How often it was handed over. It had effect the first time.
    pub handed_over: u64,
}

impl Book {
    /// All that was taken over.
    pub fn entries(&self) -> HashMap<String, BookEntry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Takes deliveries over, each once.
#[derive(Clone)]
struct Inbox {
    book: Book,
    desk: mpsc::UnboundedSender<Taken>,
}

struct Taken {
    message: proto::ExchangeMessage,
    sha256: Vec<u8>,
}

impl Taken {
    fn read(delivery: &proto::Delivery) -> Result<Self, Status> {
        let sha256 = sha256(&delivery.message).to_vec();
        if sha256 != delivery.message_sha256 {
            return Err(Status::data_loss("the digest is not that of the message"));
        }
        let message = proto::ExchangeMessage::decode(delivery.message.as_slice())
            .map_err(|_| Status::invalid_argument("not an exchange message"))?;
        Ok(Self { message, sha256 })
    }
}

#[tonic::async_trait]
impl InboxService for Inbox {
    async fn deliver(
        &self,
        request: Request<proto::DeliverRequest>,
    ) -> Result<Response<proto::DeliverResponse>, Status> {
        let delivery =
            request.into_inner().delivery.ok_or_else(|| Status::invalid_argument("no delivery"))?;
        let taken = Taken::read(&delivery)?;
        let sha256 = taken.sha256.clone();
        let mut book = self.book.0.lock().unwrap_or_else(PoisonError::into_inner);
        let already_delivered = match book.get_mut(&delivery.delivery_id) {
            Some(known) if known.sha256 != sha256 => {
                return Err(Status::failed_precondition("this delivery had another digest before"));
            }
            Some(known) => {
                known.handed_over += 1;
                true
            }
            None => false,
        };
        if !already_delivered {
            let exchange_id = taken.message.exchange_id.clone();
            // Noted only once it lies on the desk: an attempt that failed is not done.
            self.desk.send(taken).map_err(|_| Status::unavailable("nobody works here now"))?;
            let entry = BookEntry { exchange_id, sha256: sha256.clone(), handed_over: 1 };
            book.insert(delivery.delivery_id, entry);
        }
        Ok(Response::new(proto::DeliverResponse { message_sha256: sha256, already_delivered }))
    }
}

/// Answers what was taken.
#[derive(Clone)]
struct Clerk {
    client: AgencyClient,
    script: Script,
    steps: Arc<Steps>,
    papers: Arc<Papers>,
    hands: Arc<Semaphore>,
}

impl Clerk {
    /// Starts to answer what is put on the desk. Exchanges do not wait for one another.
    fn sit_down(config: &ClerkConfig, client: AgencyClient) -> mpsc::UnboundedSender<Taken> {
        let (desk, mut work) = mpsc::unbounded_channel::<Taken>();
        let hands = Arc::new(Semaphore::new(AT_ONCE));
        let (steps, papers) = (Arc::new(config.steps.clone()), Arc::new(config.papers.clone()));
        let clerk = Self { client, script: config.script, steps, papers, hands };
        tokio::spawn(async move {
            while let Some(taken) = work.recv().await {
                let clerk = clerk.clone();
                tokio::spawn(async move {
                    if let Err(status) = clerk.handle(&taken).await {
                        tracing::warn!(code = ?status.code(), "the gateway did not take the agency's answer");
                    }
                });
            }
        });
        desk
    }

    /// Does the steps of an opening message; those after a supplement when the papers have come.
    async fn handle(&self, taken: &Taken) -> Result<(), Status> {
        let kind = taken.message.envelope.as_ref().map(proto::Envelope::kind).unwrap_or_default();
        let steps = self.steps_of(kind);
        match &taken.message.body {
            Some(Body::Content(content)) => self.walk(taken, content.kind.as_ref(), &steps, 0).await,
            Some(Body::Response(proto::Response { kind: Some(Arm::Supplement(_)) })) if !steps.is_empty() => {
                let thread = self.thread(&taken.message).await?;
                let asked = thread.iter().find_map(|message| match &message.body {
                    Some(Body::Content(content)) => content.kind.as_ref(),
                    _ => None,
                });
                let requests = thread.iter().filter(|message| is_supplement_request(message)).count();
                self.walk(taken, asked, &steps, after_request(&steps, requests)).await
            }
            _ => Ok(()),
        }
    }

    fn steps_of(&self, kind: proto::Kind) -> Vec<Step> {
        let Some(kind) = kind_named(kind) else { return Vec::new() };
        self.steps.get(&kind).cloned().unwrap_or_else(|| self.script.steps(kind))
    }

    /// Does the steps from one on, until papers are asked for or nothing more is to be said.
    async fn walk(
        &self,
        taken: &Taken,
        asked: Option<&Asked>,
        steps: &[Step],
        from: usize,
    ) -> Result<(), Status> {
        let before = |step: &Step| steps[..from].contains(step);
        let mut verdict = Verdict {
            rereviewed: before(&Step::Rereview),
            accepted: before(&Step::Accept),
            ..Verdict::default()
        };
        for step in &steps[from..] {
            let now = self.client.now();
            let today = shanghai_day(now);
            let arm = match step {
                Step::Receipt => Some(Arm::Receipt(proto::Receipt {
                    message_sha256: taken.sha256.clone(),
                    received_at: Some(timestamp(now)),
                    receipt_number: "R-1".to_owned(),
                })),
                Step::AskSupplement { papers, days } => {
                    let due = today.saturating_add(jiff::Span::new().days(i64::from(*days)));
                    let kind = taken.message.envelope.as_ref().map(proto::Envelope::kind).unwrap_or_default();
                    self.respond(&taken.message, ask_for(papers, kind, due), Vec::new()).await?;
                    return Ok(());
                }
                Step::Accept => {
                    verdict.accepted = true;
                    decision::accept(asked, today)
                }
                Step::Rereview => {
                    verdict.rereviewed = true;
                    None
                }
                Step::Decide { outcome } => {
                    decision::decide(asked, Verdict { outcome: outcome.as_deref(), ..verdict }, today)
                }
                Step::Refuse { reasons } => {
                    decision::decide(asked, Verdict { refused: Some(reasons), ..verdict }, today)
                }
                Step::Wait { ms } => {
                    tokio::time::sleep(Duration::from_millis(*ms)).await;
                    None
                }
                Step::Silent => return Ok(()),
            };
            if let Some(arm) = arm {
                let decides = matches!(step, Step::Decide { .. } | Step::Refuse { .. });
                let papers = if decides { self.upload_paper(&taken.message).await? } else { Vec::new() };
                self.respond(&taken.message, arm, papers).await?;
            }
        }
        Ok(())
    }

    /// The messages of the exchange so far.
    async fn thread(&self, of: &proto::ExchangeMessage) -> Result<Vec<proto::ExchangeMessage>, Status> {
        let purpose = of.envelope.as_ref().map(|envelope| envelope.purpose.clone()).unwrap_or_default();
        let request = proto::GetExchangeRequest {
            context: Some(self.client.context(&purpose)),
            exchange_id: of.exchange_id.clone(),
        };
        let send = || {
            let (mut client, call) =
                (self.client.exchanges(), self.client.request(request.clone(), DEADLINE));
            async move { client.get_exchange(call).await }
        };
        let exchange = self.patiently(send).await?.into_inner().exchange;
        Ok(exchange.unwrap_or_default().thread)
    }

    /// Uploads the paper that goes with decisions on the kind, where there is one, and says how a message names it.
    async fn upload_paper(&self, to: &proto::ExchangeMessage) -> Result<Vec<proto::Attachment>, Status> {
        let asked = to.envelope.clone().unwrap_or_default();
        let Some(path) = kind_named(asked.kind()).and_then(|kind| self.papers.get(&kind)) else {
            return Ok(Vec::new());
        };
        let paper = Paper::read(path).await.map_err(of_transfer)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let send = || async {
            let uploaded = self.client.upload(&paper, PDF, &name, &asked.purpose, |_| ()).await;
            uploaded.map_err(of_transfer)
        };
        self.patiently(send).await?;
        Ok(vec![proto::Attachment {
            sha256: paper.sha256.to_vec(),
            name: name.to_string(),
            media_type: PDF.to_owned(),
            size_bytes: i64::try_from(paper.size).unwrap_or(i64::MAX),
            form_number: String::new(),
        }])
    }

    async fn respond(
        &self,
        to: &proto::ExchangeMessage,
        arm: Arm,
        attachments: Vec<proto::Attachment>,
    ) -> Result<(), Status> {
        let asked = to.envelope.clone().unwrap_or_default();
        let envelope = self.client.complete(proto::Envelope {
            matter_id: asked.matter_id.clone(),
            kind: asked.kind,
            recipient: asked.sender.clone(),
            legal_basis: vec![decision::basis(asked.kind())],
            purpose: asked.purpose,
            classification: asked.classification,
            in_reply_to: to.exchange_id.clone(),
            attachments,
            ..Default::default()
        });
        let request = proto::RespondToExchangeRequest {
            envelope: Some(envelope),
            response: Some(proto::Response { kind: Some(arm) }),
        };
        let send = || {
            let (mut client, call) =
                (self.client.exchanges(), self.client.request(request.clone(), DEADLINE));
            async move { client.respond_to_exchange(call).await }
        };
        self.patiently(send).await.map(|_| ())
    }

    /// Sends the same request, with the same id, however long the gateway is away: the answer has effect once.
    async fn patiently<T, F>(&self, send: impl Fn() -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut wait = Duration::from_millis(50);
        loop {
            let answer = {
                let _hand = self.hands.acquire().await;
                send().await
            };
            match answer {
                Err(status) if is_passing(&status) => {
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
                answer => return answer,
            }
        }
    }
}

fn kind_named(kind: proto::Kind) -> Option<Kind> {
    Kind::from_name(kind.as_str_name().trim_start_matches("KIND_"))
}

/// A file that cannot be read may be put right: it is tried again like a gateway that is away.
fn of_transfer(error: TransferError) -> Status {
    match error {
        TransferError::Refused(status) => *status,
        error @ (TransferError::File { .. } | TransferError::Digest) => {
            Status::unavailable(error.to_string())
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

fn is_supplement_request(message: &proto::ExchangeMessage) -> bool {
    let Some(Body::Response(response)) = &message.body else { return false };
    matches!(response.kind, Some(Arm::SupplementRequest(_)))
}

/// The step after the so-many-th request for papers; the end where there are fewer.
fn after_request(steps: &[Step], requests: usize) -> usize {
    let places = steps.iter().enumerate().filter(|(_, step)| matches!(step, Step::AskSupplement { .. }));
    let place = places.map(|(place, _)| place + 1).nth(requests.saturating_sub(1));
    place.unwrap_or(steps.len())
}

fn ask_for(papers: &[String], kind: proto::Kind, due: jiff::civil::Date) -> Arm {
    let missing = |paper: &String| proto::MissingPaper {
        description: paper.clone(),
        form_number: String::new(),
        required_by: Some(decision::basis(kind)),
    };
    Arm::SupplementRequest(proto::SupplementRequest {
        missing: papers.iter().map(missing).collect(),
        due_on: Some(date(due)),
    })
}
