//! One HTTP/2 connection, served stream by stream on `h2`.
//!
//! hyper's own loop over `h2` gives an answer to the connection whole and is done with it: what the peer then does not
//! read is held for as long as the connection lives, and belongs to no call any more. It also has no clock for a header
//! block, an answer or an idle connection, and closes one whose pings stay unanswered only once all has been written to
//! it. Here each of these has its end.

mod answer;
mod outlet;
mod request_body;
mod watched;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Ping, PingPong, Reason};
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::Service;

use self::answer::Stream;
use self::outlet::Outlet;
use self::request_body::RequestBody;
#[cfg(fuzzing)]
pub use self::watched::read_frames;
use self::watched::{Watch, Watched};
use super::acceptor::FrontDoorCounters;
use super::server::{BoxError, HttpLimits};

/// How long a peer may take for the last words to it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The peer ended it, or it broke.
    Closed,
    /// Its pings were not answered.
    Dead,
    /// A header block or another frame was begun and not finished.
    FrameLate,
    /// Too many frames that ask for nothing.
    Flooded,
    /// No call for too long.
    Idle,
    /// It is old.
    Old,
    /// The server stops.
    Stopping,
}

/// Serves a connection to its end. `service` gets every request with what `prepare` adds to it.
pub(super) async fn serve_connection<IO, S, B>(
    stream: IO,
    service: S,
    limits: &HttpLimits,
    stopping: &CancellationToken,
    counters: &FrontDoorCounters,
) where
    IO: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let outlet = Arc::new(Outlet::new(limits.max_send_buffer_size));
    let watch = Arc::new(Watch::new(limits));
    let stream = Watched::new(stream, Arc::clone(&watch), Arc::clone(&outlet));
    let handshake = builder(limits).handshake::<_, Bytes>(stream);
    let Ok(Ok(mut connection)) = timeout(limits.header_block_timeout, handshake).await else {
        tracing::debug!("no HTTP/2 connection came about");
        return;
    };
    let (answer_timeout, not_read) = (limits.answer_timeout, Arc::clone(&counters.answers_not_read));
    let mut accept = move |request: Request<h2::RecvStream>, respond, alive: Arc<()>| {
        let stream = Stream {
            respond,
            outlet: Arc::clone(&outlet),
            answer_timeout,
            not_read: Arc::clone(&not_read),
            alive,
        };
        let request = request.map(|body| Body::new(RequestBody::new(body)));
        tokio::spawn(stream.serve(service.clone(), request));
    };
    let end = converse(&mut connection, &watch, &mut accept, limits, stopping).await;
    if let Some(counter) = end.counter(counters) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
    tracing::debug!(?end, "connection ends");
    take_leave(connection, end, &mut accept, limits).await;
}

impl End {
    fn counter(self, counters: &FrontDoorCounters) -> Option<&AtomicU64> {
        match self {
            Self::Dead => Some(&counters.dead),
            Self::FrameLate => Some(&counters.frame_late),
            Self::Flooded => Some(&counters.flooded),
            Self::Idle => Some(&counters.idle),
            Self::Closed | Self::Old | Self::Stopping => None,
        }
    }
}

/// Accepts calls until there is a reason to end.
async fn converse<IO>(
    connection: &mut Connection<Watched<IO>, Bytes>,
    watch: &Watch,
    accept: &mut impl FnMut(Request<h2::RecvStream>, SendResponse<Bytes>, Arc<()>),
    limits: &HttpLimits,
    stopping: &CancellationToken,
) -> End
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut keep_alive = KeepAlive::new(connection.ping_pong());
    let mut beat = interval(limits.beat());
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Held by every stream: more than one holder means that there are streams.
    let alive = Arc::new(());
    let opened = Instant::now();
    let mut last_busy = opened;
    let stopped = stopping.cancelled();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            biased;
            () = watch.flooded() => return End::Flooded,
            () = &mut stopped => return End::Stopping,
            // Before the calls: there may always be another one.
            _ = beat.tick() => {
                let now = Instant::now();
                if keep_alive.is_dead(now, limits) {
                    return End::Dead;
                }
                if watch.is_late(now) {
                    return End::FrameLate;
                }
                if now.duration_since(opened) >= limits.max_connection_age {
                    return End::Old;
                }
                if Arc::strong_count(&alive) > 1 {
                    last_busy = now;
                } else if now.duration_since(last_busy) >= limits.idle_timeout {
                    return End::Idle;
                }
            }
            accepted = poll_fn(|context| connection.poll_accept(context)) => match accepted {
                Some(Ok((request, respond))) => {
                    last_busy = Instant::now();
                    accept(request, respond, Arc::clone(&alive));
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "HTTP/2 connection broke");
                    return End::Closed;
                }
                None => return End::Closed,
            },
            () = keep_alive.answered() => {}
        }
    }
}

/// Lets calls in progress come to their end where the peer did nothing wrong, within the drain limit; those too that
/// were on their way when it was asked to go.
async fn take_leave<IO>(
    mut connection: Connection<Watched<IO>, Bytes>,
    end: End,
    accept: &mut impl FnMut(Request<h2::RecvStream>, SendResponse<Bytes>, Arc<()>),
    limits: &HttpLimits,
) where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let (reason, limit) = match end {
        End::Closed => return,
        End::Dead | End::FrameLate => (Some(Reason::NO_ERROR), LAST_WORDS),
        End::Flooded => (Some(Reason::ENHANCE_YOUR_CALM), LAST_WORDS),
        // `drain` keeps the time for all connections together when the server stops.
        End::Idle | End::Old | End::Stopping => (None, limits.drain_timeout),
    };
    match reason {
        Some(reason) => connection.abrupt_shutdown(reason),
        None => connection.graceful_shutdown(),
    }
    let ended = poll_fn(|context| {
        while let Poll::Ready(accepted) = connection.poll_accept(context) {
            match accepted {
                Some(Ok((request, respond))) => accept(request, respond, Arc::default()),
                Some(Err(_)) | None => return Poll::Ready(()),
            }
        }
        Poll::Pending
    });
    if timeout(limit, ended).await.is_err() {
        tracing::debug!(?end, "a connection did not end in time");
    }
}

fn builder(limits: &HttpLimits) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.max_concurrent_streams)
        .max_header_list_size(limits.max_header_list_size)
        .max_pending_accept_reset_streams(limits.max_pending_accept_reset_streams)
        .max_local_error_reset_streams(Some(limits.max_local_error_reset_streams))
        .initial_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_send_buffer_size(limits.max_send_buffer_size);
    builder
}

/// Asks now and then whether the peer is still there.
struct KeepAlive {
    pings: Option<PingPong>,
    last_asked: Instant,
    waiting: bool,
}

impl KeepAlive {
    fn new(pings: Option<PingPong>) -> Self {
        Self { pings, last_asked: Instant::now(), waiting: false }
    }

    /// Done when the peer has answered; never while it is not asked.
    async fn answered(&mut self) {
        match &mut self.pings {
            Some(pings) if self.waiting => {
                // An error is the connection's end, of which its reader hears too.
                let _ = poll_fn(|context| pings.poll_pong(context)).await;
                self.waiting = false;
            }
            _ => std::future::pending().await,
        }
    }

    /// Asks when it is time to; says whether an answer is overdue.
    fn is_dead(&mut self, now: Instant, limits: &HttpLimits) -> bool {
        let since = now.duration_since(self.last_asked);
        if self.waiting {
            return since >= limits.keep_alive_timeout;
        }
        if since >= limits.keep_alive_interval
            && let Some(pings) = &mut self.pings
            && pings.send_ping(Ping::opaque()).is_ok()
        {
            self.last_asked = now;
            self.waiting = true;
        }
        false
    }
}
