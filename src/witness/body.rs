//! Bodies read whole, up to a limit.

use std::future::poll_fn;
use std::pin::Pin;

use http_body::Body as _;
use tonic::body::Body;

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the body broke off: {0}")]
    Broken(#[from] tonic::Status),
    #[error("the body is not UTF-8")]
    NotText,
}

pub(super) async fn read(mut body: Body, most: usize) -> Result<String, BodyError> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Ok(data) = frame?.into_data() {
            if bytes.len() + data.len() > most {
                return Err(BodyError::TooLarge(most));
            }
            bytes.extend_from_slice(&data);
        }
    }
    String::from_utf8(bytes).map_err(|_| BodyError::NotText)
}
