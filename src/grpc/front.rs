//! What stands before every method: is it gRPC, is the agency still active, is there room, is there time, and was
//! the answer witnessed.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use http::{Method as HttpMethod, Request, Response, header};
use jiff::Timestamp;
use tonic::Code;
use tonic::body::Body;
use tower::Service;

use super::buffers::{Account, Buffers};
use super::call::{Call, Places, Slot, Turn};
use super::capacity::Capacity;
use super::code_name;
use super::intake::Intake;
use super::intake::streams::WAITING_ITEMS;
use super::one_message::OneMessage;
use super::operation::Facts;
use super::rates::Rates;
use super::shed::Shedder;
use super::status::Refusal;
use super::whole_stream::WholeStream;
use super::wire::shanghai_day;
use crate::access::{Method, Shape};
use crate::domain::agency::{AgencyKind, CreditCode};
use crate::domain::person::may_hold_resident_id;
use crate::identity::server::Peer;
use crate::telemetry::{Calls, InProgress, Span, SpanKind, Trace, Traces};

/// Time that a call gets beyond its deadline to write its last entry and be answered.
const GRACE: Duration = Duration::from_secs(2);

/// Standard health checking: of no one's data, so neither agreed upon nor witnessed.
const HEALTH: &str = "/grpc.health.v1.Health/";

/// Bounds on calls.
#[derive(Clone, Copy, Debug)]
pub struct CallLimits {
    /// Calls at once.
    pub calls: usize,
    /// Calls at once of one agency.
    pub calls_per_agency: usize,
    /// Deadline of a call that brings none.
    pub default_deadline: Duration,
    /// Longest deadline; a longer one is cut to it.
    pub longest_deadline: Duration,
    /// How long a stream lives, unless the caller's deadline is earlier.
    pub longest_stream: Duration,
    /// How long a stream waits for the peer's next message, or for the peer to take one.
    pub stream_idle: Duration,
    /// How long a request may take to be whole that is no stream.
    pub request_body: Duration,
    /// Largest message, in bytes.
    pub message_bytes: usize,
    /// Bytes of messages that are being received, worked on or sent, in all.
    pub buffered_bytes: usize,
    /// The same of one agency.
    pub buffered_bytes_per_agency: usize,
}

impl CallLimits {
    /// How long a call may live that brings a deadline, or none.
    fn lifetime(&self, shape: Shape, given: Option<Duration>) -> Duration {
        let (otherwise, longest) = match shape {
            Shape::Unary => (self.default_deadline, self.longest_deadline),
            _ => (self.longest_stream, self.longest_stream),
        };
        given.unwrap_or(otherwise).min(longest)
    }
}

/// The layer.
#[derive(Clone)]
pub struct Front<S> {
    inner: S,
    intake: Arc<Intake>,
    limits: CallLimits,
    capacity: Capacity,
    buffers: Buffers,
    shedder: Shedder,
    rates: Arc<Rates>,
    calls: Arc<Calls>,
}

/// What a call that no method of the contract takes is counted as.
const UNKNOWN: &str = "unknown";

/// Counts calls by the words of the contract.
pub fn call_counts() -> Calls {
    let methods = Method::ALL.iter().map(|method| method.name()).chain([UNKNOWN]);
    let kinds = AgencyKind::ALL.iter().map(|kind| kind.as_str()).chain([UNKNOWN]);
    let codes = (0..17).map(|code| code_name(Code::from_i32(code)));
    Calls::new(methods.collect(), kinds.collect(), codes.collect())
}

/// An answer that keeps its place among the calls, and counts its bytes, until the peer has taken it.
struct Held {
    body: Body,
    /// What the frame takes that the peer is to take next.
    account: Account,
    /// Messages of the same kind that are in hand with a frame: itself, and those that wait behind it. None where the
    /// answer is one message: that counts with its call.
    in_hand: usize,
    cut_off: bool,
    _slot: Arc<Slot>,
}

impl Held {
    fn new(body: Body, slot: Arc<Slot>, shape: Shape) -> Self {
        let in_hand = if shape.gives_one_message() { 0 } else { 1 + WAITING_ITEMS };
        Self { body, account: slot.buffered.beside(), in_hand, cut_off: false, _slot: slot }
    }
}

impl http_body::Body for Held {
    type Data = bytes::Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, tonic::Status>>> {
        if self.cut_off {
            return Poll::Ready(None);
        }
        // Whoever asks for the next frame is done with the last.
        self.account.settle();
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && !self.account.take(data.len().saturating_mul(self.in_hand))
        {
            // What was done has its entry; only the bytes of the answer cannot be kept for the peer.
            self.cut_off = true;
            let mut trailers = http::HeaderMap::new();
            let added = Refusal::NoRoom.into_status(None).add_header(&mut trailers);
            return Poll::Ready(Some(added.map(|()| http_body::Frame::trailers(trailers))));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.cut_off || self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

impl<S> Front<S> {
    /// Stands before `inner`.
    pub fn new(inner: S, intake: Arc<Intake>, limits: CallLimits, calls: Arc<Calls>) -> Self {
        Self {
            inner,
            limits,
            capacity: Capacity::new(limits.calls, limits.calls_per_agency),
            buffers: Buffers::new(limits.buffered_bytes, limits.buffered_bytes_per_agency),
            shedder: Shedder::new(Arc::clone(&intake)),
            intake,
            rates: Arc::default(),
            calls,
        }
    }

    fn kind_of(&self, agency: &CreditCode) -> Option<AgencyKind> {
        self.intake.directory.load().agency(agency).map(|agency| agency.kind)
    }

    /// Whether the call comes in its turn, and a place for it.
    fn take_in(&self, agency: CreditCode, method: Option<Method>, now: Instant) -> Result<Places, Refusal> {
        if let Some(method) = method {
            let directory = self.intake.directory.load();
            let today = shanghai_day(self.intake.clock.now());
            self.rates.take(&directory, &agency, method, today, now).map_err(Refusal::TooFast)?;
        }
        self.capacity.take(agency)
    }
}

impl<S> Service<Request<Body>> for Front<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        let Some(peer) = request.extensions().get::<Peer>().cloned() else {
            return Box::pin(async { Ok(Refusal::Internal.into_status(None).into_http()) });
        };
        let agency = peer.certificate.agency;
        let timeout = requested_timeout(&request);
        let given = timeout.as_ref().ok().copied().flatten();
        let path = request.uri().path();
        let is_health = path.starts_with(HEALTH);
        let method = Method::at_path(path);
        let shape = method.map_or(Shape::Unary, Method::shape);
        let started = Instant::now();
        let deadline = started + self.limits.lifetime(shape, given);
        // A request that is one message comes at once, however long its answer streams.
        let answered_by = match shape {
            Shape::ServerStream => started + self.limits.lifetime(Shape::Unary, given),
            _ => deadline,
        };
        let refusal = if let Err(refusal) = self.intake.still_serves(&peer) {
            Some(refusal)
        } else if !is_grpc(&request) {
            Some(Refusal::NotGrpc)
        } else {
            timeout.err()
        };
        let (limits, whole_by) = (self.limits, started + self.limits.request_body);
        let counted = Counted {
            calls: Arc::clone(&self.calls),
            method: method.map_or(Method::ALL.len(), |method| method as usize),
            kind: self.kind_of(&agency).map_or(AgencyKind::ALL.len(), |kind| kind as usize),
            started,
            traces: self.intake.peers.traces().clone(),
            _running: self.calls.begin(),
        };
        let (places, no_place) = match self.take_in(agency, method, started) {
            Ok(places) => (Some(places), None),
            Err(no_place) => (None, Some(no_place)),
        };
        let slot = Slot {
            places,
            peer,
            arrived: self.intake.clock.now(),
            started,
            deadline,
            idle: self.limits.stream_idle,
            trace: trace_of(&request, self.intake.peers.traces()),
            witnessed: AtomicBool::new(false),
            open_request: OnceLock::new(),
            buffered: self.buffers.account(agency),
            fault: OnceLock::new(),
            turn: Turn::default(),
        };
        if let Some(no_place) = no_place {
            // Its message is not read, nor kept while it waits.
            drop(request);
            let shedder = self.shedder.clone();
            return Box::pin(async move {
                let (trace, arrived) = (slot.trace.clone(), slot.arrived);
                let response = shedder.refuse(method, slot, refusal.unwrap_or(no_place)).await;
                counted.answered(&response, &trace, arrived);
                Ok(response)
            });
        }
        let slot = Arc::new(slot);
        let call = Call::at(method, Arc::clone(&slot));
        let of_call = call.clone();
        let intake = Arc::clone(&self.intake);
        let answering = async move {
            if let Some(refusal) = refusal {
                return intake.refuse(&call, &Facts::default(), refusal).await.into_http();
            }
            request.extensions_mut().insert(Arc::clone(&slot));
            let request = request.map(|body| {
                if shape.takes_one_message() {
                    Body::new(OneMessage::new(body, Arc::clone(&slot), limits.message_bytes, whole_by))
                } else {
                    Body::new(WholeStream::new(body, Arc::clone(&slot), limits.message_bytes))
                }
            });
            let answered = tokio::time::timeout_at((answered_by + GRACE).into(), inner.call(request)).await;
            let Ok(answered) = answered else {
                // A body that never came to its end, or work that did not; the latter closes its own entries.
                return intake.refuse(&call, &Facts::default(), Refusal::DeadlineExceeded).await.into_http();
            };
            let response = match answered {
                Ok(response) => response,
                Err(never) => match never {},
            };
            if call.is_witnessed() || is_health {
                return response.map(|body| Body::new(Held::new(body, slot, shape)));
            }
            // Refused by the transport before a method saw it.
            let refusal = call.body_refusal().unwrap_or_else(|| match code_of(&response) {
                // tonic calls a body INTERNAL that it cannot decode, UNKNOWN one that it cannot read. That is the caller's fault, not the gateway's,
                // and it is told apart by having none of the gateway's own details.
                Code::Internal if response.headers().contains_key("grpc-status-details-bin") => {
                    Refusal::Internal
                }
                Code::Internal | Code::Unknown => Refusal::Unreadable(Code::InvalidArgument),
                Code::Unimplemented if call.is_of_contract() => Refusal::Compressed,
                code => Refusal::Unreadable(code),
            });
            intake.refuse(&call, &Facts::default(), refusal).await.into_http()
        };
        Box::pin(async move {
            let response = answering.await;
            if !is_health {
                counted.answered(&response, of_call.trace(), of_call.arrived());
            }
            Ok(response)
        })
    }
}

/// A call in the figures and in its trace: in progress until this is gone.
struct Counted {
    calls: Arc<Calls>,
    method: usize,
    kind: usize,
    started: Instant,
    traces: Traces,
    _running: InProgress,
}

impl Counted {
    fn answered(&self, response: &Response<Body>, trace: &Trace, arrived: Timestamp) {
        let (outcome, took) = (outcome_of(response), self.started.elapsed());
        self.calls.answered(self.method, self.kind, outcome as usize, took);
        let method = Method::ALL.get(self.method);
        self.traces.tell(&Span {
            trace,
            name: method.map_or(UNKNOWN, |method| method.name()),
            service: method.map_or(UNKNOWN, |method| method.service()),
            kind: SpanKind::Server,
            began: arrived,
            took,
            code: outcome as i32,
            words: &[(
                "legalaid.agency_kind",
                AgencyKind::ALL.get(self.kind).map_or(UNKNOWN, |kind| kind.as_str()),
            )],
        });
    }
}

fn is_grpc(request: &Request<Body>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_grpc = matches!(content_type, Some("application/grpc" | "application/grpc+proto"));
    request.method() == HttpMethod::POST && is_grpc
}

/// The caller's `grpc-timeout`: 1 to 8 digits and a unit.
pub(super) fn requested_timeout(request: &Request<Body>) -> Result<Option<Duration>, Refusal> {
    let Some(value) = request.headers().get("grpc-timeout") else { return Ok(None) };
    let text = value.to_str().map_err(|_| Refusal::BadTimeout)?;
    let (digits, unit) = text.split_at_checked(text.len().wrapping_sub(1)).ok_or(Refusal::BadTimeout)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::BadTimeout);
    }
    let number: u64 = digits.parse().map_err(|_| Refusal::BadTimeout)?;
    Ok(Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return Err(Refusal::BadTimeout),
    }))
}

/// The caller's W3C traceparent goes on, or a trace begins. It is the caller's text and goes into the log and to others,
/// so one that a resident number was padded into is not taken over.
pub(super) fn trace_of(request: &Request<Body>, traces: &Traces) -> Trace {
    let given = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
    let mut parts = given.unwrap_or_default().split('-').skip(1);
    let mut hex = |digits: usize| {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let id = parts.next()?;
        let is_one = id.len() == digits && id.bytes().all(is_hex) && id.bytes().any(|byte| byte != b'0');
        Some(id).filter(|id| is_one && !may_hold_resident_id(id))
    };
    let (id, span) = (hex(32), hex(16));
    let is_sampled =
        parts.next().and_then(|flags| u8::from_str_radix(flags, 16).ok()).is_some_and(|f| f & 1 == 1);
    match id {
        None => traces.begin(),
        Some(id) => {
            let parent = span.and_then(|span| HEXLOWER.decode(span.as_bytes()).ok()?.try_into().ok());
            Trace::within(id.to_owned(), parent, is_sampled)
        }
    }
}

/// An answer that begins without a status goes on: it counts as right, whatever its stream comes to.
fn outcome_of(response: &Response<Body>) -> Code {
    if response.headers().contains_key("grpc-status") { code_of(response) } else { Code::Ok }
}

fn code_of(response: &Response<Body>) -> Code {
    let status = response.headers().get("grpc-status");
    status.map_or(Code::Internal, |value| Code::from_bytes(value.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeout_of(value: &str) -> Result<Option<Duration>, &'static str> {
        let request = Request::builder().header("grpc-timeout", value).body(Body::empty()).unwrap();
        requested_timeout(&request).map_err(|refusal| refusal.reason())
    }

    #[test]
    fn a_timeout_is_read_or_refused() {
        assert_eq!(timeout_of("10S"), Ok(Some(Duration::from_secs(10))));
        assert_eq!(timeout_of("0n"), Ok(Some(Duration::ZERO)));
        assert_eq!(timeout_of("99999999H"), Ok(Some(Duration::from_secs(99_999_999 * 3600))));
        for bad in ["", "S", "10", "10s", "-1S", "123456789S", "1 S"] {
            assert_eq!(timeout_of(bad), Err("BAD_TIMEOUT"), "{bad:?}");
        }
    }

    #[test]
    fn a_stream_may_live_longer_than_a_call_but_not_longer_than_its_caller_waits() {
        let seconds = Duration::from_secs;
        let limits = CallLimits {
            calls: 1,
            calls_per_agency: 1,
            default_deadline: seconds(10),
            longest_deadline: seconds(60),
            longest_stream: seconds(3600),
            stream_idle: seconds(60),
            request_body: seconds(20),
            message_bytes: 1,
            buffered_bytes: 1,
            buffered_bytes_per_agency: 1,
        };
        assert_eq!(limits.lifetime(Shape::Unary, None), seconds(10));
        assert_eq!(limits.lifetime(Shape::Unary, Some(seconds(99))), seconds(60));
        for shape in [Shape::ClientStream, Shape::ServerStream, Shape::BothWays] {
            assert_eq!(limits.lifetime(shape, None), seconds(3600));
            assert_eq!(limits.lifetime(shape, Some(seconds(99))), seconds(99));
            assert_eq!(limits.lifetime(shape, Some(seconds(9999))), seconds(3600));
        }
    }

    #[test]
    fn only_a_well_formed_trace_id_is_taken_over() {
        let traced = |value: &str| {
            let request = Request::builder().header("traceparent", value).body(Body::empty()).unwrap();
            trace_of(&request, &Traces::default()).id().to_owned()
        };
        let id = "0af7651916cd43dd8448eb211c80319c";
        assert_eq!(traced(&format!("00-{id}-b7ad6b7169203331-01")), id);
        // A name or number in its place is not taken over into the log.
        for bad in [
            "11010519491231002X00000000000000",
            "33100419800101001600000000000000",
            "abcdef33100419800101001600000000",
            "0000000000000033100419800101001a",
        ] {
            assert_ne!(traced(&format!("00-{bad}-b7ad6b7169203331-01")), bad);
        }
    }
}
