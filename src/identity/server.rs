//! The HTTP side of the front door: accept, serve, drain.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::{Service, ServiceExt};

use super::acceptor::{Acceptor, Admitted, NotAdmitted};
use super::certificate::PeerCertificate;
use super::gather::Gathered;
use super::http2;
use super::places::Places;
use super::standing::Lost;
use crate::clock::Clock;
use crate::domain::agency::CreditCode;

/// How long an agency that may not come any more is still told so on a connection that is open. With the time until a
/// changed file is noticed that is less than 5 s.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Who sent a request; in the extensions of every request that [`serve`] passes on.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The agency's certificate, verified and admitted.
    pub certificate: Arc<PeerCertificate>,
    /// Where the connection comes from.
    pub address: SocketAddr,
}

/// What one connection may use, and how long it may last.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Calls at a time on one connection. 100.
    pub max_concurrent_streams: u32,
    /// How often a ping is sent. 20 s.
    pub keep_alive_interval: Duration,
    /// How long its answer may take before the connection is closed. 10 s.
    pub keep_alive_timeout: Duration,
    /// Bytes of one decoded header block. 16 KiB.
    pub max_header_list_size: u32,
    /// Streams reset by the peer that still wait to be accepted, before the connection is closed. 20.
    pub max_pending_accept_reset_streams: usize,
    /// Streams the server had to reset because of the peer's errors, before the connection is closed. 100.
    pub max_local_error_reset_streams: usize,
    /// Bytes a peer may send ahead on one call. 256 KiB.
    pub stream_window: u32,
    /// Bytes a peer may send ahead on one connection. 1 MiB.
    pub connection_window: u32,
    /// Bytes of answers that wait in one connection for a peer that does not read them. 128 KiB.
    pub max_send_buffer_size: usize,
    /// From the first byte of a header block, or of any frame but data, to its last. 10 s.
    pub header_block_timeout: Duration,
    /// How long the peer may take to read an answer, or one message of an answer that is a stream. 30 s.
    pub answer_timeout: Duration,
    /// How long a connection may be without a call before it is asked to go. 10 min.
    pub idle_timeout: Duration,
    /// Frames on one connection that ask for nothing (pings, settings, window updates, empty data), at once. 1000. A call
    /// allows for 16 more, a KiB of answers read for one.
    pub idle_frames: u32,
    /// The same, a second. 100.
    pub idle_frames_per_second: u32,
    /// Calls given up by the peer on one connection, at once. 200.
    pub resets: u32,
    /// The same, a second. 20.
    pub resets_per_second: u32,
    /// HTTP/1.1 only: until a request's head is complete, and how long a connection may be idle before it. 10 s.
    pub head_timeout: Duration,
    /// Age at which a connection is asked to go, so that load spreads and changed policy takes hold. 1 h.
    pub max_connection_age: Duration,
    /// How long calls in flight may still take once a connection was asked to go. 20 s.
    pub drain_timeout: Duration,
    /// Open connections in all. 4096.
    pub max_connections: usize,
    /// Open connections of one agency. 256.
    pub max_connections_per_agency: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 100,
            keep_alive_interval: Duration::from_secs(20),
            keep_alive_timeout: Duration::from_secs(10),
            max_header_list_size: 16 * 1024,
            max_pending_accept_reset_streams: 20,
            max_local_error_reset_streams: 100,
            stream_window: 256 * 1024,
            connection_window: 1024 * 1024,
            max_send_buffer_size: 128 * 1024,
            header_block_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(600),
            idle_frames: 1000,
            idle_frames_per_second: 100,
            resets: 200,
            resets_per_second: 20,
            head_timeout: Duration::from_secs(10),
            max_connection_age: Duration::from_secs(3600),
            drain_timeout: Duration::from_secs(20),
            max_connections: 4096,
            max_connections_per_agency: 256,
        }
    }
}

impl HttpLimits {
    /// How often a connection is looked at: often enough for the shortest of its deadlines.
    pub(super) fn beat(&self) -> Duration {
        let shortest = self
            .keep_alive_interval
            .min(self.keep_alive_timeout)
            .min(self.header_block_timeout)
            .min(self.idle_timeout)
            .min(self.max_connection_age);
        (shortest / 4).clamp(Duration::from_millis(10), Duration::from_secs(2))
    }
}

/// What became of the connections that were open when the server was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Ended by themselves in time.
    pub finished: usize,
    /// Cut off at [`HttpLimits::drain_timeout`].
    pub aborted: usize,
}

/// Serves `service` on `listener` until `shutdown` is done, then drains: no new connections, `GOAWAY` on the open ones,
/// and at most [`HttpLimits::drain_timeout`] for their calls to finish.
///
/// `service` is anything that tonic's `Server` would take: `tonic::service::Routes`, or tower layers around it. Every
/// request carries a [`Peer`] in its extensions.
pub async fn serve<S, B>(
    listener: TcpListener,
    acceptor: Acceptor,
    service: S,
    limits: HttpLimits,
    shutdown: impl Future<Output = ()>,
) -> Drained
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let stopping = CancellationToken::new();
    let hall = Hall {
        open: Places::new(limits.max_connections, limits.max_connections_per_agency),
        acceptor,
        service,
        limits,
        stopping: stopping.clone(),
    };
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let mut backoff = AcceptBackoff::default();

    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => report(ended),
            accepted = listener.accept() => match accepted {
                Ok((tcp, address)) => {
                    backoff = AcceptBackoff::default();
                    hall.receive(tcp, address, &mut connections);
                }
                Err(error) => {
                    hall.acceptor.counters().accept_failed.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::select! {
                        () = &mut shutdown => break,
                        () = backoff.wait(&error) => {}
                    }
                }
            },
        }
    }

    // The port is free again before the draining, so that a successor can bind it.
    drop(listener);
    stopping.cancel();
    drain(connections, limits.drain_timeout).await
}

/// What every connection shares.
#[derive(Clone)]
struct Hall<S> {
    acceptor: Acceptor,
    service: S,
    limits: HttpLimits,
    open: Places<CreditCode>,
    stopping: CancellationToken,
}

impl<S, B> Hall<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    fn receive(&self, tcp: TcpStream, address: SocketAddr, connections: &mut JoinSet<()>) {
        let Some(pending) = self.acceptor.place(address) else {
            self.over_limit("too many pending handshakes");
            return;
        };
        let hall = self.clone();
        connections.spawn(async move {
            // Small answers must not wait for the acknowledgement of earlier ones.
            if let Err(error) = tcp.set_nodelay(true) {
                tracing::debug!(%error, "cannot set TCP_NODELAY");
            }
            let admitted = tokio::select! {
                admitted = hall.acceptor.admit(tcp) => admitted,
                () = hall.stopping.cancelled() => return,
            };
            let reason = match admitted {
                Ok(admitted) => {
                    drop(pending);
                    return hall.serve_agency(admitted, address).await;
                }
                Err(reason) => reason,
            };
            reason.count(hall.acceptor.counters());
            tracing::debug!(%reason, "connection not admitted");
            if let NotAdmitted::Refused(turned_away) = reason {
                turned_away.record_and_tell(hall.acceptor.policy(), address).await;
            }
            drop(pending);
        });
    }

    async fn serve_agency(self, admitted: Admitted, address: SocketAddr) {
        let Admitted { stream, standing, http1 } = admitted;
        let certificate = Arc::clone(&standing.certificate);
        let Some(_place) = self.open.take(certificate.agency) else {
            self.over_limit("too many open connections");
            return;
        };
        // Taken apart because a service need not be `Sync`, so a reference to the whole cannot cross an await.
        let Self { acceptor, service, limits, open: _, stopping } = self;
        let counters = acceptor.counters();
        counters.admitted.fetch_add(1, Ordering::Relaxed);

        let expiry = expiry_of(acceptor.clock(), certificate.not_after);
        let agency = certificate.agency;
        let peer = Peer { certificate: Arc::clone(&certificate), address };
        let shown_out = async {
            let lost = standing.lost(&acceptor).await;
            counters.no_longer_admitted.fetch_add(1, Ordering::Relaxed);
            acceptor.policy().shown_out(&certificate, lost.reason());
            tracing::warn!(%agency, reason = %lost, "a connection is ended: its peer would not be let in any more");
            // Each call is refused meanwhile with its reason. Whose certificate is not believed is told nothing.
            if matches!(lost, Lost::Admission(_)) {
                sleep(LAST_ANSWERS).await;
            }
        };
        let lifetime = async {
            if http1 {
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let mut request = request.map(Body::new);
                    request.extensions_mut().insert(peer.clone());
                    service.clone().oneshot(request)
                });
                let stream = TokioIo::new(Gathered::new(stream));
                let connection = pin!(http1_with(&limits).serve_connection(stream, service));
                live_out(connection, &limits, &stopping).await;
            } else {
                let service = service.map_request(move |mut request: Request<Body>| {
                    request.extensions_mut().insert(peer.clone());
                    request
                });
                http2::serve_connection(Gathered::new(stream), service, &limits, &stopping, counters).await;
            }
        };
        tokio::select! {
            () = lifetime => {}
            () = expiry => {
                counters.certificate_expired.fetch_add(1, Ordering::Relaxed);
                tracing::debug!("connection ended with its certificate");
            }
            () = shown_out => {}
        }
    }

    fn over_limit(&self, what: &'static str) {
        self.acceptor.counters().over_limit.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(what, "connection closed at once");
    }
}

/// Serves an HTTP/1.1 connection to its end: its own, or that of its drain once it is old or the server stops.
async fn live_out<I, S, B>(
    mut connection: Pin<&mut http1::Connection<I, S>>,
    limits: &HttpLimits,
    stopping: &CancellationToken,
) where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: http_body::Body + 'static,
    B::Error: Into<BoxError>,
{
    let limit = tokio::select! {
        _ended = connection.as_mut() => return,
        () = sleep(limits.max_connection_age) => Some(limits.drain_timeout),
        // `drain` keeps the time for all connections together.
        () = stopping.cancelled() => None,
    };
    connection.as_mut().graceful_shutdown();
    let Some(limit) = limit else {
        let _ended = connection.await;
        return;
    };
    if timeout(limit, connection).await.is_err() {
        tracing::debug!("an old connection did not drain in time");
    }
}

fn http1_with(limits: &HttpLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(usize::try_from(limits.max_header_list_size).unwrap_or(usize::MAX).max(8 * 1024));
    builder
}

/// Done when `clock` has passed `not_after`. Looks again every minute, because the machine's clock may be set, or the
/// machine suspended, while the timer runs on.
async fn expiry_of(clock: &Clock, not_after: Timestamp) {
    const LOOK_AGAIN: Duration = Duration::from_secs(60);
    while let Ok(left) = Duration::try_from(not_after.duration_since(clock.now())) {
        if left.is_zero() {
            break;
        }
        sleep(left.min(LOOK_AGAIN)).await;
    }
}

/// Waits longer after each failure in a row: without file handles, `accept` fails at once, again and again.
#[derive(Default)]
struct AcceptBackoff {
    failures: u32,
}

impl AcceptBackoff {
    const FIRST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_secs(1);

    async fn wait(&mut self, error: &io::Error) {
        // These are about the one connection, which is gone from the queue: the next may be tried at once.
        let about_one_connection = matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
        );
        if !about_one_connection {
            sleep(self.next_delay()).await;
        }
    }

    fn next_delay(&mut self) -> Duration {
        let delay = Self::FIRST.saturating_mul(1 << self.failures.min(10)).min(Self::LONGEST);
        self.failures = self.failures.saturating_add(1);
        delay
    }
}

async fn drain(mut connections: JoinSet<()>, limit: Duration) -> Drained {
    let open = connections.len();
    let all_ended = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    let in_time = timeout(limit, all_ended).await.is_ok();
    let aborted = if in_time { 0 } else { connections.len() };
    connections.shutdown().await;
    Drained { finished: open - aborted, aborted }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("serving a connection panicked");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepting_backs_off_to_a_second_and_no_further() {
        let mut backoff = AcceptBackoff::default();
        assert_eq!(backoff.next_delay(), Duration::from_millis(10));
        assert_eq!(backoff.next_delay(), Duration::from_millis(20));
        for _ in 0..100 {
            backoff.next_delay();
        }
        assert_eq!(backoff.next_delay(), Duration::from_secs(1));
    }
}
