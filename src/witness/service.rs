//! The witness's HTTP side: `POST /add-checkpoint`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use tokio::time::timeout;
use tonic::body::Body;
use tower::Service;

use super::body;
use super::state::{Kept, Notebook};
use crate::audit::checkpoint::Checkpoint;
use crate::audit::cosignature::CosigningKey;
use crate::audit::fork::Fork;
use crate::audit::witness::{AddCheckpoint, Judgement};
use crate::clock::Clock;

/// Where checkpoints are submitted.
pub(super) const ADD_CHECKPOINT: &str = "/add-checkpoint";

/// Content type of the size in a 409.
pub(super) const SIZE_TYPE: &str = "text/x.tlog.size";

const TEXT: &str = "text/plain; charset=utf-8";

/// Bytes of a request: 63 hashes and a checkpoint with a hundred signatures.
const MOST_BYTES: usize = 64 * 1024;

/// Time for a request's body.
const READING: Duration = Duration::from_secs(10);

/// What cosigns.
pub(super) struct Cosigner {
    pub(super) key: CosigningKey,
    pub(super) notebook: Notebook,
    pub(super) clock: Clock,
}

/// An answer: status, content type, text.
struct Answer(StatusCode, &'static str, String);

impl Answer {
    fn refusal(status: StatusCode, why: impl std::fmt::Display) -> Self {
        Self(status, TEXT, format!("{why}\n"))
    }

    fn size(size: u64) -> Self {
        Self(StatusCode::CONFLICT, SIZE_TYPE, format!("{size}\n"))
    }
}

/// The witness as a service.
pub(super) fn service(
    cosigner: Arc<Cosigner>,
) -> impl Service<
    Request<Body>,
    Response = Response<String>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<String>, Infallible>> + Send + 'static,
> + Clone
+ Send
+ 'static {
    tower::service_fn(move |request| {
        let cosigner = Arc::clone(&cosigner);
        async move {
            let Answer(status, kind, text) = answer(cosigner, request).await;
            let mut response = Response::new(text);
            *response.status_mut() = status;
            response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
            Ok(response)
        }
    })
}

async fn answer(cosigner: Arc<Cosigner>, request: Request<Body>) -> Answer {
    if request.uri().path() != ADD_CHECKPOINT {
        return Answer::refusal(StatusCode::NOT_FOUND, "a witness answers POST /add-checkpoint");
    }
    if request.method() != Method::POST {
        return Answer::refusal(StatusCode::METHOD_NOT_ALLOWED, "a witness answers POST /add-checkpoint");
    }
    let text = match timeout(READING, body::read(request.into_body(), MOST_BYTES)).await {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => return Answer::refusal(StatusCode::BAD_REQUEST, error),
        Err(_) => return Answer::refusal(StatusCode::REQUEST_TIMEOUT, "the request did not end in time"),
    };
    // It waits for the disk.
    match tokio::task::spawn_blocking(move || cosigner.add_checkpoint(&text)).await {
        Ok(answer) => answer,
        Err(_) => Answer::refusal(StatusCode::INTERNAL_SERVER_ERROR, "a fault of the witness"),
    }
}

impl Cosigner {
    fn add_checkpoint(&self, text: &str) -> Answer {
        let request = match AddCheckpoint::parse(text) {
            Ok(request) => request,
            Err(why) => return Answer::refusal(StatusCode::BAD_REQUEST, why),
        };
        let Some(origin) = Checkpoint::origin_of(&request.checkpoint) else {
            return Answer::refusal(StatusCode::BAD_REQUEST, "the checkpoint has no origin");
        };
        let judgement = match self.notebook.consider(origin, &request) {
            Kept::UnknownOrigin => {
                return Answer::refusal(StatusCode::NOT_FOUND, "this witness does not follow that log");
            }
            Kept::NotWritten(error) => {
                tracing::error!(%error, origin, "the witness cannot keep a checkpoint, and signs nothing");
                return Answer::refusal(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the checkpoint could not be kept, so it is not signed; try again later",
                );
            }
            Kept::Judged(judgement) => judgement,
        };
        match judgement {
            Judgement::Cosign(checkpoint) => match self.key.cosign(&request.checkpoint, self.clock.now()) {
                Ok(line) => {
                    tracing::debug!(origin, size = checkpoint.size, "cosigned");
                    Answer(StatusCode::OK, TEXT, line)
                }
                Err(error) => Answer::refusal(StatusCode::INTERNAL_SERVER_ERROR, error),
            },
            Judgement::Malformed(why) => Answer::refusal(StatusCode::BAD_REQUEST, why),
            Judgement::NotSigned => {
                Answer::refusal(StatusCode::FORBIDDEN, "the checkpoint is not signed by a key of that log")
            }
            Judgement::OtherSize(size) => Answer::size(size),
            Judgement::Forked { size, fork } => {
                tracing::error!(
                    origin,
                    %fork,
                    "FORK: the log's key has signed two histories; both checkpoints are kept as evidence"
                );
                match fork {
                    Fork::SameSize { .. } => Answer::size(size),
                    Fork::Prefix { .. } => Answer::refusal(StatusCode::UNPROCESSABLE_ENTITY, fork),
                }
            }
            Judgement::NotConsistent => {
                tracing::error!(
                    origin,
                    "a proof does not lead from the newest checkpoint to a signed one: a faulty log, or a fork; \
                     both checkpoints are kept as evidence"
                );
                Answer::refusal(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "the proof does not lead from the newest checkpoint to this one",
                )
            }
        }
    }
}
