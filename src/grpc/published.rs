//! The published log over plain HTTPS (C2SP `tlog-tiles`): what stands before it, and how its answers look. Access,
//! evidence and the bytes themselves are the intake's, as for every call.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method as HttpMethod, Request, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::Semaphore;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::Service;

use super::audit::{Fetch, FetchResource};
use super::buffers::Buffers;
use super::call::{Call, Slot, Turn};
use super::capacity::Capacity;
use super::front::trace_of;
use super::intake::Intake;
use super::operation::Facts;
use super::status::{LOG_INDEX_HEADER, Refusal};
use super::wire::shanghai_day;
use crate::access::Method;
use crate::audit::published::Resource;
use crate::identity::server::Peer;

/// What never changes may be kept for a year, by who asked: it is not for everybody.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("private, max-age=31536000, immutable");

/// What changes with every entry is asked for each time.
const MUTABLE: HeaderValue = HeaderValue::from_static("no-cache");

/// A refusal is nobody's to keep.
const NOT_KEPT: HeaderValue = HeaderValue::from_static("no-store");

/// Refusals for overload that are written at once.
const OVERLOAD_REFUSALS: usize = 32;

/// Bounds on requests.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// Requests at once.
    pub requests: usize,
    /// Requests at once of one agency.
    pub requests_per_agency: usize,
    /// How long one may take.
    pub deadline: Duration,
    /// Bytes of answers that are not read yet, in all.
    pub buffered_bytes: usize,
    /// The same of one agency.
    pub buffered_bytes_per_agency: usize,
}

/// Answers `GET /checkpoint`, `/tile/<L>/<N>[.p/<W>]` and `/tile/entries/<N>[.p/<W>]`.
#[derive(Clone)]
pub struct PublishedLog {
    intake: Arc<Intake>,
    capacity: Capacity,
    buffers: Buffers,
    deadline: Duration,
    overloaded: Arc<Semaphore>,
}

/// An answer's bytes; as long as they are not sent, its place among the requests is taken.
struct Answer {
    bytes: Option<Bytes>,
    _slot: Arc<Slot>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

impl PublishedLog {
    /// Publishes the log of `intake`.
    pub fn new(intake: Arc<Intake>, limits: FetchLimits) -> Self {
        Self {
            intake,
            capacity: Capacity::new(limits.requests, limits.requests_per_agency),
            buffers: Buffers::new(limits.buffered_bytes, limits.buffered_bytes_per_agency),
            deadline: limits.deadline,
            overloaded: Arc::new(Semaphore::new(OVERLOAD_REFUSALS)),
        }
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let Some(peer) = request.extensions().get::<Peer>().cloned() else {
            return StatusOnly(StatusCode::INTERNAL_SERVER_ERROR).into();
        };
        let agency = peer.certificate.agency;
        let served_still = self.intake.still_serves(&peer);
        let (places, no_place) = match self.capacity.take(agency) {
            Ok(places) => (Some(places), None),
            Err(refusal) => (None, Some(refusal)),
        };
        let started = Instant::now();
        let arrived = self.intake.clock.now();
        let slot = Arc::new(Slot {
            places,
            peer,
            arrived,
            started,
            deadline: started + self.deadline,
            idle: self.deadline,
            trace: trace_of(&request, self.intake.peers.traces()),
            witnessed: AtomicBool::new(false),
            open_request: OnceLock::new(),
            buffered: self.buffers.account(agency),
            fault: OnceLock::new(),
            turn: Turn::default(),
        });
        let call = Call::of_method(Method::GetTile, Arc::clone(&slot));
        let directory = self.intake.directory.load_full();
        let purpose = directory.purpose_of(&agency, Method::GetTile, shanghai_day(arrived));
        // A flood of refusals waits its turn, whatever they are for: the log's queue is for those who have a place.
        let _turn = if no_place.is_some() { self.overloaded.acquire().await.ok() } else { None };
        let answered = match (no_place, purpose) {
            _ if served_still.is_err() => served_still.map(|()| String::new()),
            _ if !is_fetch(&request) => Err(Refusal::NotAFetch),
            (Some(refusal), _) => Err(refusal),
            (None, Err(denial)) => Err(Refusal::Denied(Box::new(denial))),
            (None, Ok(purpose)) => Ok(purpose.as_str().to_owned()),
        };
        let path = request.uri().path().strip_prefix('/').unwrap_or_default();
        let answered = match answered {
            Err(refusal) => Err(self.intake.refuse(&call, &Facts::default(), refusal).await),
            Ok(purpose) => {
                let mut fetch = tonic::Request::new(Fetch { path: path.to_owned(), purpose });
                fetch.extensions_mut().insert(Arc::clone(&slot));
                self.intake.look_up::<FetchResource>(fetch).await
            }
        };
        let mut response = match answered {
            Ok(found) => served(Resource::parse(path).ok(), found),
            Err(status) => refused(&status),
        };
        let length = response.body().len();
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        let is_head = request.method() == HttpMethod::HEAD;
        response.map(|bytes| {
            let bytes = Some(bytes).filter(|bytes| !is_head && !bytes.is_empty());
            Body::new(Answer { bytes, _slot: slot })
        })
    }
}

impl Service<Request<Body>> for PublishedLog {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let log = self.clone();
        Box::pin(async move { Ok(log.answer(request).await) })
    }
}

/// GET or HEAD, and nothing behind the head.
fn is_fetch(request: &Request<Body>) -> bool {
    matches!(*request.method(), HttpMethod::GET | HttpMethod::HEAD) && request.body().is_end_stream()
}

fn served(resource: Option<Resource>, found: tonic::Response<Vec<u8>>) -> Response<Bytes> {
    let (metadata, bytes, _) = found.into_parts();
    let mut response = Response::new(Bytes::from(bytes));
    let headers = response.headers_mut();
    if let Some(resource) = resource {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(resource.content_type()));
        headers.insert(header::CACHE_CONTROL, if resource.is_immutable() { IMMUTABLE } else { MUTABLE });
    }
    copy_log_index(&metadata, headers);
    response
}

/// A refusal as a short text: what is wrong, and the index of its entry.
fn refused(status: &Status) -> Response<Bytes> {
    let mut text = format!("{}\n", status.message());
    for violation in status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default() {
        text.push_str(&format!("{}: {}\n", violation.field, violation.description));
    }
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = http_status(status.code());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, NOT_KEPT);
    if let Some(retry) = status.get_details_retry_info() {
        headers.insert(header::RETRY_AFTER, whole_seconds(retry.retry_delay).into());
    }
    copy_log_index(status.metadata(), headers);
    response
}

/// As `Retry-After` takes it, rounded up: whoever comes back by it does not come too early.
fn whole_seconds(delay: Option<Duration>) -> u64 {
    delay.map_or(1, |delay| delay.as_secs() + u64::from(delay.subsec_nanos() > 0)).max(1)
}

fn copy_log_index(metadata: &tonic::metadata::MetadataMap, headers: &mut http::HeaderMap) {
    let index =
        metadata.get(LOG_INDEX_HEADER).and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok());
    if let Some(index) = index {
        headers.insert(LOG_INDEX_HEADER, index);
    }
}

/// What HTTP calls a refusal.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// An answer of which nothing but the status can be said.
struct StatusOnly(StatusCode);

impl From<StatusOnly> for Response<Body> {
    fn from(StatusOnly(status): StatusOnly) -> Self {
        let mut response = Self::new(Body::empty());
        *response.status_mut() = status;
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_in_whole_seconds_and_never_too_short() {
        let told = |millis| whole_seconds(Some(Duration::from_millis(millis)));
        assert_eq!([told(0), told(1), told(1000), told(1001)], [1, 1, 1, 2]);
        // Until the end of the day, of a quota that is spent.
        assert_eq!(told(12 * 3_600_000), 43_200);
        assert_eq!(whole_seconds(None), 1);
    }
}
