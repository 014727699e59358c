//! One stream: its request to the service, and the answer to the peer, piece by piece as the peer takes it.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes};
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderValue, Request, Response, header};
use http_body::{Body as HttpBody, Frame};
use tokio::time::timeout;
use tonic::body::Body;
use tower::{Service, ServiceExt};

use super::outlet::Outlet;
use crate::identity::server::BoxError;

/// Most bytes that are handed over at once; what one stream has ready goes between those of others.
const PIECE: usize = 64 * 1024;

/// A stream to be answered.
pub(super) struct Stream {
    pub(super) respond: SendResponse<Bytes>,
    pub(super) outlet: Arc<Outlet>,
    /// How long the peer may take for a frame of the answer.
    pub(super) answer_timeout: Duration,
    /// Counts answers that were not read in time.
    pub(super) not_read: Arc<AtomicU64>,
    /// Held for as long as the stream lives.
    pub(super) alive: Arc<()>,
}

/// Why an answer does not come to its end.
enum Stop {
    /// The peer has gone, or wants it no more.
    Gone,
    /// The peer does not read it.
    NotRead,
    /// The answer itself failed.
    Failed,
}

impl Stream {
    /// Has the request answered. A peer that gives it up has the work dropped.
    pub(super) async fn serve<S, B>(mut self, service: S, request: Request<Body>)
    where
        S: Service<Request<Body>, Response = Response<B>>,
        S::Error: Into<BoxError>,
        B: HttpBody,
        B::Error: Into<BoxError>,
    {
        let answered = {
            let mut work = pin!(service.oneshot(request));
            poll_fn(|context| {
                if let Poll::Ready(answered) = work.as_mut().poll(context) {
                    return Poll::Ready(Some(answered.map_err(Into::<BoxError>::into)));
                }
                // The peer's reset, or the connection's end.
                self.respond.poll_reset(context).map(|_| None)
            })
            .await
        };
        let response = match answered {
            Some(Ok(response)) => response,
            Some(Err(error)) => {
                tracing::warn!(%error, "a request was not answered");
                return self.respond.send_reset(Reason::INTERNAL_ERROR);
            }
            None => return,
        };
        let (head, body) = response.into_parts();
        let mut head = Response::from_parts(head, ());
        let ended = body.is_end_stream();
        if !ended && let Some(length) = body.size_hint().exact() {
            head.headers_mut().entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
        }
        let Ok(mut out) = self.respond.send_response(head, ended) else {
            return self.respond.send_reset(Reason::INTERNAL_ERROR);
        };
        if ended {
            return;
        }
        // A reset also throws away what the connection still holds of the stream.
        match self.send(body, &mut out).await {
            Ok(()) | Err(Stop::Gone) => {}
            Err(Stop::NotRead) => {
                self.not_read.fetch_add(1, Ordering::Relaxed);
                tracing::debug!("an answer was not read in time");
                out.send_reset(Reason::CANCEL);
            }
            Err(Stop::Failed) => out.send_reset(Reason::INTERNAL_ERROR),
        }
        drop(self.alive);
    }

    async fn send<B>(&self, body: B, out: &mut SendStream<Bytes>) -> Result<(), Stop>
    where
        B: HttpBody,
        B::Error: Into<BoxError>,
    {
        let mut body = pin!(body);
        loop {
            let Some(frame) = next_frame(body.as_mut(), out).await? else {
                return out.send_data(Bytes::new(), true).map_err(|_| Stop::Gone);
            };
            let data = match frame.into_data() {
                Ok(mut data) => data.copy_to_bytes(data.remaining()),
                Err(frame) => match frame.into_trailers() {
                    Ok(trailers) => {
                        out.reserve_capacity(0);
                        return out.send_trailers(trailers).map_err(|_| Stop::Gone);
                    }
                    Err(_) => continue,
                },
            };
            let last = body.is_end_stream();
            let handed_over = self.hand_over(data, last, out);
            timeout(self.answer_timeout, handed_over).await.map_err(|_| Stop::NotRead)??;
            if last {
                return Ok(());
            }
        }
    }

    /// Hands a frame's bytes to the connection, as far as the peer lets them come.
    async fn hand_over(&self, mut data: Bytes, last: bool, out: &mut SendStream<Bytes>) -> Result<(), Stop> {
        if data.is_empty() {
            return out.send_data(data, last).map_err(|_| Stop::Gone);
        }
        while !data.is_empty() {
            self.until_room(out).await?;
            out.reserve_capacity(data.len().min(PIECE));
            let granted = out.capacity();
            if granted == 0 {
                // Afterwards the room is looked at again: others may have taken it.
                match poll_fn(|context| out.poll_capacity(context)).await {
                    Some(Ok(_)) => continue,
                    Some(Err(_)) | None => return Err(Stop::Gone),
                }
            }
            let piece = data.split_to(granted.min(data.len()).min(PIECE));
            self.outlet.handed_over(piece.len());
            out.send_data(piece, last && data.is_empty()).map_err(|_| Stop::Gone)?;
        }
        Ok(())
    }

    /// Waits until the connection has room for a piece, or the peer has given the answer up.
    async fn until_room(&self, out: &mut SendStream<Bytes>) -> Result<(), Stop> {
        if self.outlet.has_room() {
            return Ok(());
        }
        let mut room = pin!(self.outlet.room());
        poll_fn(|context| {
            if out.poll_reset(context).is_ready() {
                return Poll::Ready(Err(Stop::Gone));
            }
            room.as_mut().poll(context).map(Ok)
        })
        .await
    }
}

/// The next frame of an answer; an end when the peer has given it up.
async fn next_frame<B>(
    mut body: Pin<&mut B>,
    out: &mut SendStream<Bytes>,
) -> Result<Option<Frame<B::Data>>, Stop>
where
    B: HttpBody,
    B::Error: Into<BoxError>,
{
    poll_fn(|context| {
        if out.poll_reset(context).is_ready() {
            return Poll::Ready(Err(Stop::Gone));
        }
        body.as_mut().poll_frame(context).map(|frame| match frame {
            Some(Ok(frame)) => Ok(Some(frame)),
            None => Ok(None),
            Some(Err(error)) => {
                let error: BoxError = error.into();
                tracing::debug!(%error, "an answer broke off");
                Err(Stop::Failed)
            }
        })
    })
    .await
}
