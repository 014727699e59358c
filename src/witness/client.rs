//! Asking a witness.

use http::{Method, Request, StatusCode, Uri};
use tonic::body::Body;
use tonic::transport::Channel;
use tower::ServiceExt as _;

use super::body::{self, BodyError};
use super::service::{ADD_CHECKPOINT, SIZE_TYPE};
use crate::audit::witness::AddCheckpoint;
use crate::identity::dialler::{DialError, Dialler, Endpoint};

/// Bytes of an answer; a witness has a handful of signatures to give.
const MOST_BYTES: usize = 64 * 1024;

/// A witness's answer to `add-checkpoint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Signature lines; nothing in them is verified yet.
    Cosigned(String),
    /// The witness stands at another size than the old one, or, without a size, at another root.
    Conflict(Option<u64>),
    /// The proof does not lead from what the witness holds.
    NotConsistent,
    /// Refused for another reason, with the witness's words.
    Refused(StatusCode, String),
}

/// Why a witness gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It cannot be reached, or does not let us in.
    #[error("{}", with_causes(.0))]
    Unreachable(#[from] tonic::transport::Error),
    /// Its answer cannot be read.
    #[error("its answer cannot be read: {0}")]
    Unreadable(String),
}

impl From<BodyError> for AskError {
    fn from(error: BodyError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// A connection to a witness, opened when first needed and reopened by itself. Cheap to clone.
#[derive(Clone, Debug)]
pub struct WitnessClient(Channel);

impl WitnessClient {
    /// A client of the witness at an endpoint.
    ///
    /// # Errors
    /// When the endpoint is malformed.
    pub fn new(dialler: &Dialler, endpoint: &Endpoint) -> Result<Self, DialError> {
        dialler.channel(endpoint).map(Self)
    }

    /// Submits a checkpoint. How long that may take is for the caller to bound.
    ///
    /// # Errors
    /// When there is no answer that can be read.
    pub async fn add_checkpoint(&self, request: &AddCheckpoint) -> Result<Answer, AskError> {
        let mut asked = Request::new(Body::new(request.to_text()));
        *asked.method_mut() = Method::POST;
        *asked.uri_mut() = Uri::from_static(ADD_CHECKPOINT);
        let response = self.0.clone().oneshot(asked).await?;
        let (head, content) = response.into_parts();
        let text = body::read(content, MOST_BYTES).await?;
        Ok(match head.status {
            StatusCode::OK => Answer::Cosigned(text),
            StatusCode::CONFLICT => {
                let is_size =
                    head.headers.get(http::header::CONTENT_TYPE).is_some_and(|kind| kind == SIZE_TYPE);
                let size = is_size.then(|| text.strip_suffix('\n').and_then(|size| size.parse().ok()));
                Answer::Conflict(size.flatten())
            }
            StatusCode::UNPROCESSABLE_ENTITY => Answer::NotConsistent,
            // It goes into the log of this process, which has its own lines.
            status => {
                let words = text.trim().chars().filter(|character| !character.is_control()).take(200);
                Answer::Refused(status, words.collect())
            }
        })
    }
}

/// A transport error says little by itself; its causes say why.
fn with_causes(error: &tonic::transport::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
