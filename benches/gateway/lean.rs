//! Calls by hand on HTTP/2: one request is composed beforehand, and only its id changes. A tonic client takes several times the
//! processor time for a call, and one that is to overload a server needs the processor before the server does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request};
use legal_aid_gateway::grpc::proto::{SubmitExchangeResponse, VerifyLowIncomeResponse};
use prost::Message;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::load::Work;
use crate::message::{Question, Submission, is_match};
use crate::parties::{Certificates, Party, SERVER_NAME};

/// Calls at once on one connection: the gateway takes 100.
const MOST_AT_ONCE: usize = 96;

/// What a gRPC message has before it: a flag and its length.
const MESSAGE_HEAD: usize = 5;

/// A request that is sent again and again, each time under a new id.
pub(crate) struct Prepared {
    head: Request<()>,
    body: Vec<u8>,
    /// Where in it the id stands.
    id_at: usize,
    first_id: u128,
    sent: u128,
    work: Work,
}

impl Prepared {
    pub(crate) fn compose(work: Work) -> Result<Self> {
        let question = Question::compose()?;
        let (path, envelope, message) = match work {
            Work::Submit | Work::SubmitToCourt => {
                let ask = Submission::compose(&question)?.ask();
                ("ExchangeService/SubmitExchange", ask.envelope.clone(), ask.encode_to_vec())
            }
            Work::Verify | Work::Batch => {
                let ask = question.ask();
                ("VerificationService/VerifyLowIncome", ask.envelope.clone(), ask.encode_to_vec())
            }
        };
        let id = envelope.context("a request without an envelope")?.request_id;
        let places: Vec<_> =
            message.windows(id.len()).enumerate().filter(|(_, window)| *window == id.as_bytes()).collect();
        let [(id_at, _)] = places[..] else {
            anyhow::bail!("the id stands {} times in the request", places.len())
        };
        let mut body = vec![0];
        body.extend(u32::try_from(message.len())?.to_be_bytes());
        body.extend(message);
        let head = Request::post(format!("https://{SERVER_NAME}/legalaid.exchange.v1.{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", "10S")
            .body(())?;
        // The time of an id is that of the first; what follows it is a number.
        let first_id = id.parse::<Uuid>()?.as_u128() & !u128::from(u32::MAX);
        Ok(Self { head, body, id_at: MESSAGE_HEAD + id_at, first_id, sent: 0, work })
    }

    fn next(&mut self) -> (Request<()>, Bytes) {
        let mut body = self.body.clone();
        let id = &mut body[self.id_at..self.id_at + uuid::fmt::Hyphenated::LENGTH];
        Uuid::from_u128(self.first_id + self.sent).hyphenated().encode_lower(id);
        self.sent += 1;
        (self.head.clone(), body.into())
    }
}

/// How a call ended.
pub(crate) enum End {
    /// With an answer, whose entry stands there.
    Answered(u64),
    /// With `RESOURCE_EXHAUSTED`, a wait, and an entry.
    Refused(u64),
    /// Neither.
    Failed(String),
}

/// Connections to the gateway.
pub(crate) struct Lines {
    lines: Vec<Line>,
    next: usize,
}

struct Line {
    requests: SendRequest<Bytes>,
    at_once: Arc<AtomicUsize>,
}

impl Lines {
    /// Opens them.
    pub(crate) async fn open(certificates: &Certificates, target: SocketAddr, number: usize) -> Result<Self> {
        let connector = TlsConnector::from(Arc::new(tls(certificates)?));
        let mut lines = Vec::with_capacity(number);
        for _ in 0..number {
            let tcp = TcpStream::connect(target).await?;
            tcp.set_nodelay(true)?;
            let tls = connector.connect(ServerName::try_from(SERVER_NAME)?, tcp).await?;
            let (requests, connection) = h2::client::Builder::new()
                .initial_window_size(256 * 1024)
                .initial_connection_window_size(1024 * 1024)
                .handshake(tls)
                .await?;
            tokio::spawn(connection);
            lines.push(Line { requests: requests.ready().await?, at_once: Arc::default() });
        }
        Ok(Self { lines, next: 0 })
    }

    /// Sends a request on the next connection that has room for a call; nothing where none has.
    pub(crate) fn send(&mut self, prepared: &mut Prepared) -> Option<Sent> {
        let number = self.lines.len();
        let mut lines = (0..number).map(|offset| (self.next + offset) % number);
        let has_room = |line: &usize| self.lines[*line].at_once.load(Ordering::Relaxed) < MOST_AT_ONCE;
        let free = lines.find(has_room)?;
        self.next = free + 1;
        let line = &self.lines[free];
        let (head, body) = prepared.next();
        let begun = Instant::now();
        let response = line.requests.clone().send_request(head, false).and_then(|(response, mut out)| {
            out.send_data(body, true)?;
            Ok(response)
        });
        line.at_once.fetch_add(1, Ordering::Relaxed);
        Some(Sent { response, begun, work: prepared.work, at_once: Arc::clone(&line.at_once) })
    }
}

/// A request on its way.
pub(crate) struct Sent {
    response: Result<ResponseFuture, h2::Error>,
    /// When it was handed to the connection: not after it was on the wire.
    pub(crate) begun: Instant,
    work: Work,
    at_once: Arc<AtomicUsize>,
}

impl Sent {
    /// How it ends, and when.
    pub(crate) async fn end(self) -> (End, Instant) {
        let ended = match self.response {
            Ok(response) => received(response).await,
            Err(error) => Err(error),
        };
        let now = Instant::now();
        self.at_once.fetch_sub(1, Ordering::Relaxed);
        let end = match ended {
            Ok((status, message)) => judge(&status, &message, self.work).unwrap_or_else(End::Failed),
            Err(error) => End::Failed(error.to_string()),
        };
        (end, now)
    }
}

/// Where the status stands, and the message.
async fn received(response: ResponseFuture) -> Result<(HeaderMap, BytesMut), h2::Error> {
    let (head, mut body) = response.await?.into_parts();
    let mut message = BytesMut::new();
    if head.headers.contains_key("grpc-status") {
        return Ok((head.headers, message));
    }
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        message.extend_from_slice(&data);
    }
    Ok((body.trailers().await?.unwrap_or_default(), message))
}

fn judge(status: &HeaderMap, message: &[u8], work: Work) -> Result<End, String> {
    let status = Status::from_header_map(status).ok_or("no status")?;
    if status.code() != Code::Ok {
        return refusal(&status);
    }
    let message = message.get(MESSAGE_HEAD..).ok_or("no message")?;
    let audit = match work {
        Work::Submit | Work::SubmitToCourt => {
            SubmitExchangeResponse::decode(message).map_err(|error| error.to_string())?.audit
        }
        Work::Verify | Work::Batch => {
            let answer = VerifyLowIncomeResponse::decode(message).map_err(|error| error.to_string())?;
            if !is_match(&answer) {
                return Err(format!("no match: {}", answer.answer.unwrap_or_default().reason));
            }
            answer.audit
        }
    };
    audit.map(|audit| End::Answered(audit.log_index)).ok_or_else(|| "no evidence".to_owned())
}

/// A refusal counts as one only with a wait and with evidence.
fn refusal(status: &Status) -> Result<End, String> {
    let index = status.metadata().get("audit-log-index").and_then(|value| value.to_str().ok()?.parse().ok());
    let wait = status.get_details_retry_info().and_then(|info| info.retry_delay);
    match (status.code(), wait, index) {
        (Code::ResourceExhausted, Some(_), Some(index)) => Ok(End::Refused(index)),
        _ => Err(format!("{:?}: {}", status.code(), status.message())),
    }
}

fn tls(certificates: &Certificates) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_file_iter(certificates.authority())? {
        roots.add(authority?)?;
    }
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(certificates.certificate(Party::Centre))?.collect::<Result<_, _>>()?;
    ensure!(!chain.is_empty(), "no certificate of the centre");
    let key = PrivateKeyDer::from_pem_file(certificates.key(Party::Centre))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
