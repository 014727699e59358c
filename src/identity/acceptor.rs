//! The TLS side of the front door.
//!
//! tonic's own server TLS takes no revocation lists, no policy and no reload, and its handshakes have no limits; hence
//! an acceptor of our own.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{Acceptor as Hello, NoServerSessionStorage, ResolvesServerCert};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::admission::{AdmissionPolicy, AdmissionVerifier, HeldOnRefusal, TurnedAway, Verdict};
use super::credentials::Credentials;
use super::places::{Place, Places};
use super::standing::Standing;
use super::{ClockTime, HTTP1, HTTP2, HTTP2_PREFACE, crypto_provider};
use crate::clock::Clock;

/// Turns TCP connections into connections of known agencies. Cheap to clone; clones share limits and counters.
#[derive(Clone)]
pub struct Acceptor {
    shared: Arc<Shared>,
    /// Whether HTTP/1.1 is spoken beside HTTP/2.
    http1: bool,
}

struct Shared {
    material: ArcSwap<Material>,
    /// Tells open connections that they are to be judged again.
    changes: watch::Sender<()>,
    policy: Arc<dyn AdmissionPolicy>,
    limits: AcceptorLimits,
    clock: Clock,
    pending: Places<IpAddr>,
    counters: Arc<FrontDoorCounters>,
}

/// What changes when credentials are replaced.
pub(super) struct Material {
    pub(super) chain: Arc<dyn ClientCertVerifier>,
    resolver: Arc<dyn ResolvesServerCert>,
}

/// How long and how many peers may be unknown.
#[derive(Clone, Copy, Debug)]
pub struct AcceptorLimits {
    /// From TCP accept to the end of the TLS handshake. 10 s.
    pub handshake_timeout: Duration,
    /// From the end of the handshake until the whole HTTP/2 preface (24 bytes) is there. 10 s.
    pub first_byte_timeout: Duration,
    /// Connections in either of those phases, in all. 256.
    pub pending_handshakes: usize,
    /// The same for one IPv4 address or one IPv6 /64. 32.
    pub pending_per_address: usize,
}

impl Default for AcceptorLimits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(10),
            pending_handshakes: 256,
            pending_per_address: 32,
        }
    }
}

/// How many connections came to which end, since start-up.
#[derive(Debug, Default)]
pub struct FrontDoorCounters {
    /// Let in: known agency, HTTP agreed upon.
    pub admitted: AtomicU64,
    /// Turned away by the admission policy, and recorded by it.
    pub refused: AtomicU64,
    /// Failed TLS: no certificate, another authority, expired, revoked, TLS 1.2, not TLS at all.
    pub tls_failed: AtomicU64,
    /// Did not finish the handshake in time.
    pub handshake_timed_out: AtomicU64,
    /// Did not agree on HTTP/2 by ALPN, or did not speak it.
    pub not_http2: AtomicU64,
    /// Silent after the handshake.
    pub silent: AtomicU64,
    /// Closed at once, because too many connections were pending or open.
    pub over_limit: AtomicU64,
    /// Failed `accept` calls (for example no file handles left).
    pub accept_failed: AtomicU64,
    /// Ended because the client certificate's validity ended.
    pub certificate_expired: AtomicU64,
    /// Ended because its peer would not be let in any more: certificate revoked, agency suspended or not enrolled.
    pub no_longer_admitted: AtomicU64,
    /// Ended because its pings were not answered.
    pub dead: AtomicU64,
    /// Ended because a header block or another frame was begun and not finished.
    pub frame_late: AtomicU64,
    /// Ended because of too many frames that ask for nothing, or too many calls given up.
    pub flooded: AtomicU64,
    /// Asked to go because it was without a call for too long.
    pub idle: AtomicU64,
    /// Answers, not connections, that the peer did not read in time.
    pub answers_not_read: Arc<AtomicU64>,
}

impl FrontDoorCounters {
    /// Each end that a connection can come to, in a word, and how many came to it.
    pub fn of_connections(&self) -> [(&'static str, u64); 14] {
        [
            ("admitted", &self.admitted),
            ("refused", &self.refused),
            ("tls_failed", &self.tls_failed),
            ("handshake_timed_out", &self.handshake_timed_out),
            ("not_http2", &self.not_http2),
            ("silent", &self.silent),
            ("over_limit", &self.over_limit),
            ("accept_failed", &self.accept_failed),
            ("certificate_expired", &self.certificate_expired),
            ("no_longer_admitted", &self.no_longer_admitted),
            ("dead", &self.dead),
            ("frame_late", &self.frame_late),
            ("flooded", &self.flooded),
            ("idle", &self.idle),
        ]
        .map(|(end, count)| (end, count.load(Ordering::Relaxed)))
    }
}

impl Acceptor {
    /// An acceptor that shows `credentials`, believes their authorities, and lets in whom `policy` admits.
    /// `clock` decides on validity periods.
    pub fn new(
        credentials: &Credentials,
        policy: Arc<dyn AdmissionPolicy>,
        limits: AcceptorLimits,
        clock: Clock,
    ) -> Self {
        let material = ArcSwap::from_pointee(Material::of(credentials));
        let pending = Places::new(limits.pending_handshakes, limits.pending_per_address);
        let counters = Arc::default();
        let changes = watch::Sender::new(());
        let shared = Arc::new(Shared { material, changes, policy, limits, clock, pending, counters });
        Self { shared, http1: false }
    }

    /// The same acceptor, which speaks HTTP/1.1 too, for tools that fetch files. A client that does not say by ALPN
    /// what it speaks is taken to speak that.
    #[must_use]
    pub fn with_http1(&self) -> Self {
        Self { http1: true, ..self.clone() }
    }

    /// Uses `credentials` for every later handshake (a renewed certificate, a new revocation list). Open connections go
    /// on, unless their peers' certificates are not believed any more: those end.
    pub fn replace_credentials(&self, credentials: &Credentials) {
        self.shared.material.store(Arc::new(Material::of(credentials)));
        self.judge_again();
    }

    /// Has every open connection judged again: the policy has changed its mind about some agency.
    pub fn judge_again(&self) {
        self.shared.changes.send_replace(());
    }

    /// What has come of connections so far.
    pub fn counters(&self) -> &Arc<FrontDoorCounters> {
        &self.shared.counters
    }

    pub(super) fn policy(&self) -> &dyn AdmissionPolicy {
        &*self.shared.policy
    }

    pub(super) fn material(&self) -> Arc<Material> {
        self.shared.material.load_full()
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// A place among the pending handshakes; `None` when the peer must be turned away at once.
    pub(super) fn place(&self, address: SocketAddr) -> Option<Place<IpAddr>> {
        self.shared.pending.take(source_of(address))
    }

    /// Everything that has to happen before HTTP: the handshake, and for HTTP/2 the client's preface.
    pub(super) async fn admit(&self, tcp: TcpStream) -> Result<Admitted, NotAdmitted> {
        let (stream, standing) = self.handshake(tcp).await?;
        if stream.get_ref().1.alpn_protocol() != Some(HTTP2) {
            return Ok(Admitted { stream: Prefaced { unread: b"", stream }, standing, http1: true });
        }
        let stream = timeout(self.shared.limits.first_byte_timeout, read_preface(stream))
            .await
            .map_err(|_| NotAdmitted::Silent)??;
        Ok(Admitted { stream, standing, http1: false })
    }

    async fn handshake(&self, tcp: TcpStream) -> Result<(Encrypted, Standing), NotAdmitted> {
        let verdict = Verdict::default();
        // In this order: what changes after the handshake has begun is noticed.
        let changes = self.shared.changes.subscribe();
        let material = self.material();
        let config = self.config(&material, &verdict).map_err(|error| NotAdmitted::Tls(error.to_string()))?;
        let stream = HeldOnRefusal::new(tcp, Arc::clone(&verdict));
        let handshake = async {
            // rustls refuses a client that offers only other protocols, but lets one through that offers none.
            let hello = match LazyConfigAcceptor::new(Hello::default(), stream).await {
                Ok(hello) => hello,
                Err(error) => return Err(NotAdmitted::Tls(error.to_string())),
            };
            if hello.client_hello().alpn().is_none() && !self.http1 {
                return Err(refuse_without_alpn(hello.io).await);
            }
            Ok(hello.into_stream(Arc::new(config)).into_fallible().await)
        };
        let stream = match timeout(self.shared.limits.handshake_timeout, handshake).await {
            Ok(Ok(Ok(stream))) => stream,
            Ok(Err(reason)) => return Err(reason),
            Ok(Ok(Err((error, stream)))) => {
                return Err(match verdict.get() {
                    Some(Err(refusal)) => {
                        NotAdmitted::Refused(TurnedAway { refusal: refusal.clone(), stream })
                    }
                    _ => NotAdmitted::Tls(error.to_string()),
                });
            }
            Err(_) => return Err(NotAdmitted::HandshakeTimedOut),
        };
        let Some(Ok(certificate)) = verdict.get() else {
            return Err(NotAdmitted::Tls("no certificate was verified".to_owned()));
        };
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
        let standing = Standing { chain, certificate: Arc::clone(certificate), material, changes };
        Ok((stream, standing))
    }

    /// A configuration for one connection, because rustls tells a verifier nothing about which connection it is for.
    fn config(&self, material: &Material, verdict: &Verdict) -> Result<ServerConfig, rustls::Error> {
        let verifier = AdmissionVerifier {
            chain: Arc::clone(&material.chain),
            policy: Arc::clone(&self.shared.policy),
            verdict: Arc::clone(verdict),
        };
        let time = Arc::new(ClockTime(self.shared.clock.clone()));
        let mut config = ServerConfig::builder_with_details(crypto_provider(), time)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::clone(&material.resolver));
        config.alpn_protocols = vec![HTTP2.to_vec()];
        if self.http1 {
            config.alpn_protocols.push(HTTP1.to_vec());
        }
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(config)
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Acceptor")
            .field("limits", &self.shared.limits)
            .field("counters", &self.shared.counters)
            .finish_non_exhaustive()
    }
}

impl Material {
    fn of(credentials: &Credentials) -> Self {
        Self { chain: credentials.client_verifier(), resolver: credentials.resolver() }
    }
}

/// A connection of a known agency that has begun to speak HTTP/2, or is to speak HTTP/1.1.
pub(super) struct Admitted {
    pub(super) stream: Prefaced,
    pub(super) standing: Standing,
    pub(super) http1: bool,
}

/// Why a connection got no further.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAdmitted {
    #[error("refused by the admission policy")]
    Refused(TurnedAway),
    #[error("the TLS handshake failed: {0}")]
    Tls(String),
    #[error("the TLS handshake took too long")]
    HandshakeTimedOut,
    #[error("the client does not speak HTTP/2")]
    NotHttp2,
    #[error("silent after the TLS handshake")]
    Silent,
}

impl NotAdmitted {
    pub(super) fn count(&self, counters: &FrontDoorCounters) {
        let counter = match self {
            Self::Refused(_) => &counters.refused,
            Self::Tls(_) => &counters.tls_failed,
            Self::HandshakeTimedOut => &counters.handshake_timed_out,
            Self::NotHttp2 => &counters.not_http2,
            Self::Silent => &counters.silent,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Tells a client that offers no protocol at all what a client is told that offers others (RFC 7301 section 3.2). It
/// has shown nothing yet but its greeting, so the alert goes unencrypted.
async fn refuse_without_alpn(mut stream: HeldOnRefusal<TcpStream>) -> NotAdmitted {
    /// Record of type alert, legacy version, two bytes: fatal, `no_application_protocol`.
    const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 120];
    // A peer that is gone needs no alert.
    if stream.write_all(&ALERT).await.is_ok() {
        let _ = stream.shutdown().await;
    }
    NotAdmitted::NotHttp2
}

type Encrypted = TlsStream<HeldOnRefusal<TcpStream>>;

/// Waits for the whole preface rather than for one byte: hyper's keepalive starts only after it, so a client that stops
/// in the middle would stay for ever.
async fn read_preface(mut stream: Encrypted) -> Result<Prefaced, NotAdmitted> {
    let mut preface = [0; HTTP2_PREFACE.len()];
    stream.read_exact(&mut preface).await.map_err(|_| NotAdmitted::Silent)?;
    if &preface == HTTP2_PREFACE {
        Ok(Prefaced { unread: HTTP2_PREFACE, stream })
    } else {
        Err(NotAdmitted::NotHttp2)
    }
}

/// A stream that gives the preface, already read, to its reader again.
pub(super) struct Prefaced {
    unread: &'static [u8],
    stream: Encrypted,
}

impl AsyncRead for Prefaced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let (now, later) = self.unread.split_at(self.unread.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.unread = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefaced {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// One IPv6 subscriber has a whole /64 to choose addresses from.
fn source_of(address: SocketAddr) -> IpAddr {
    match address.ip().to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one_and_mapped_ones_as_ipv4() {
        let source = |text: &str| source_of(text.parse().expect("address"));
        assert_eq!(source("[2001:db8:1:2::3]:1"), source("[2001:db8:1:2:ffff::4]:9"));
        assert_ne!(source("[2001:db8:1:2::3]:1"), source("[2001:db8:1:3::3]:1"));
        assert_eq!(source("[::ffff:192.0.2.7]:1"), source("192.0.2.7:5"));
    }
}
