//! The front door and the way out, over real sockets: the house that the tests use, and its visitors.

mod files;
mod front_door;
mod way_out;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::body::Body;

use super::acceptor::{Acceptor, AcceptorLimits};
use super::admission::{AdmissionPolicy, BoxFuture, Refusal};
use super::certificate::PeerCertificate;
use super::credentials::Credentials;
use super::development::{DevelopmentAuthority, IssuedCertificate};
use super::dialler::{DialError, Dialler, Endpoint};
use super::server::{Drained, HttpLimits, Peer, serve};
use super::{HTTP2, HTTP2_PREFACE, crypto_provider};
use crate::clock::Clock;
use crate::domain::agency::CreditCode;

/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_secs(3600);

/// A running front door.
struct House {
    authority: DevelopmentAuthority,
    clock: Clock,
    acceptor: Acceptor,
    policy: Arc<Policy>,
    address: SocketAddr,
    serving: JoinHandle<Drained>,
    stop: Option<oneshot::Sender<()>>,
    slow_call_began: mpsc::UnboundedReceiver<()>,
    let_slow_calls_end: Arc<Notify>,
}

#[derive(Default)]
struct Setup {
    tls: AcceptorLimits,
    http: HttpLimits,
}

impl Setup {
    fn short() -> Self {
        let tls = AcceptorLimits {
            handshake_timeout: Duration::from_millis(200),
            first_byte_timeout: Duration::from_millis(200),
            ..AcceptorLimits::default()
        };
        Self { tls, ..Self::default() }
    }
}

impl House {
    async fn open(setup: Setup) -> Self {
        Self::open_with(setup, Policy::default()).await
    }

    async fn open_with_held_records() -> (Self, oneshot::Sender<()>) {
        let (release, held) = oneshot::channel();
        let policy = Policy { held: Mutex::new(Some(held)), ..Policy::default() };
        (Self::open_with(Setup::default(), policy).await, release)
    }

    async fn open_with(setup: Setup, policy: Policy) -> Self {
        let authority = DevelopmentAuthority::create("house", start()).expect("authority");
        let own = authority.issue(gateway(), "gateway", &[], start(), 24 * HOUR).expect("issued");
        let credentials = credentials(&authority, &own);
        let clock = Clock::moved_by_hand(start());
        let policy = Arc::new(policy);
        let acceptor = Acceptor::new(&credentials, policy.clone(), setup.tls, clock.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("address");
        let (stop, stopped) = oneshot::channel();
        let (began, slow_call_began) = mpsc::unbounded_channel();
        let let_slow_calls_end = Arc::new(Notify::new());
        let go_on = Arc::clone(&let_slow_calls_end);
        let service = tower::service_fn(move |request: Request<Body>| {
            let (began, go_on) = (began.clone(), Arc::clone(&go_on));
            async move {
                if request.uri().path() == "/slow" {
                    began.send(()).expect("awaited");
                    go_on.notified().await;
                }
                Ok::<_, Infallible>(describe(&request))
            }
        });
        let shutdown = async move { _ = stopped.await };
        let serving = tokio::spawn(serve(listener, acceptor.clone(), service, setup.http, shutdown));
        Self {
            authority,
            clock,
            acceptor,
            policy,
            address,
            serving,
            stop: Some(stop),
            slow_call_began,
            let_slow_calls_end,
        }
    }

    /// Valid for an hour from the start.
    fn certificate(&self, agency: CreditCode) -> IssuedCertificate {
        self.authority.issue(agency, "test", &[], start(), HOUR).expect("issued")
    }

    fn credentials(&self, certificate: &IssuedCertificate) -> Credentials {
        credentials(&self.authority, certificate)
    }

    fn dialler(&self, certificate: &IssuedCertificate) -> Dialler {
        Dialler::new(&self.credentials(certificate), self.clock.clone())
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint { address: self.address.to_string(), server_name: "localhost".to_owned(), agency: gateway() }
    }

    /// A client that does only TLS, and as it likes.
    async fn connect(&self, certificate: Option<&IssuedCertificate>, alpn: &[&[u8]]) -> TlsStream<TcpStream> {
        self.try_connect(certificate, alpn).await.expect("the client's side of the handshake")
    }

    async fn try_connect(
        &self,
        certificate: Option<&IssuedCertificate>,
        alpn: &[&[u8]],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.authority.certificate_pem().as_bytes()).expect("pem");
        roots.add(root).expect("root");
        let time = Arc::new(super::ClockTime(Clock::moved_by_hand(start())));
        let builder = ClientConfig::builder_with_details(crypto_provider(), time)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match certificate {
            None => builder.with_no_client_auth(),
            Some(certificate) => {
                let chain = CertificateDer::pem_slice_iter(certificate.certificate_pem.as_bytes())
                    .collect::<Result<Vec<_>, _>>()
                    .expect("pem");
                let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.as_bytes()).expect("pem");
                // Even a certificate of an authority that the server does not ask for is sent.
                let key = rustls::sign::CertifiedKey::from_der(chain, key, &crypto_provider()).expect("fits");
                builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)))
            }
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let tcp = TcpStream::connect(self.address).await.expect("connected");
        let name = ServerName::try_from("localhost").expect("name");
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    }

    fn count(&self, counter: impl Fn(&super::acceptor::FrontDoorCounters) -> &AtomicU64) -> u64 {
        counter(self.acceptor.counters()).load(Ordering::Relaxed)
    }

    /// The client may see its connection end a moment before the server has counted it.
    async fn until(&self, counter: impl Fn(&super::acceptor::FrontDoorCounters) -> &AtomicU64, wanted: u64) {
        let reached = async {
            while self.count(&counter) < wanted {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, reached).await.expect("counted");
        assert_eq!(self.count(&counter), wanted);
    }

    fn refusals(&self) -> Vec<(Refusal, SocketAddr)> {
        self.policy.refusals.lock().expect("lock").clone()
    }

    async fn served(self) -> Drained {
        timeout(PATIENCE, self.serving).await.expect("in time").expect("no panic")
    }
}

/// Admits everybody but the suspended agency, and whom it has turned against.
#[derive(Default)]
struct Policy {
    turned_against: Mutex<Option<CreditCode>>,
    refusals: Mutex<Vec<(Refusal, SocketAddr)>>,
    recording: Notify,
    held: Mutex<Option<oneshot::Receiver<()>>>,
}

impl AdmissionPolicy for Policy {
    fn admit(&self, peer: &PeerCertificate) -> Result<(), Refusal> {
        if peer.agency != suspended() && *self.turned_against.lock().expect("lock") != Some(peer.agency) {
            return Ok(());
        }
        Err(Refusal { reason: "AGENCY_SUSPENDED", agency: Some(peer.agency), spki: Some(peer.spki_sha256) })
    }

    fn refused(&self, refusal: Refusal, peer_address: SocketAddr) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.recording.notify_one();
            let held = self.held.lock().expect("lock").take();
            if let Some(held) = held {
                held.await.expect("released");
            }
            self.refusals.lock().expect("lock").push((refusal, peer_address));
        })
    }
}

fn describe(request: &Request<Body>) -> Response<Body> {
    let peer = request.extensions().get::<Peer>().expect("every request has its peer");
    Response::builder()
        .header("x-agency", peer.certificate.agency.as_str())
        .header("x-address", peer.address.to_string())
        .body(Body::empty())
        .expect("response")
}

fn request() -> Request<Body> {
    request_to("/")
}

fn request_to(path: &str) -> Request<Body> {
    Request::post(path).body(Body::empty()).expect("request")
}

async fn begin_http2(stream: &mut TlsStream<TcpStream>) {
    stream.write_all(HTTP2_PREFACE).await.expect("written");
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("written");
    let mut header = [0; 9];
    timeout(PATIENCE, stream.read_exact(&mut header)).await.expect("in time").expect("a frame");
    assert_eq!(header[3], 4, "SETTINGS come first");
    let mut settings = vec![0; usize::from(header[2])];
    stream.read_exact(&mut settings).await.expect("the frame's body");
}

async fn assert_goaway(stream: &mut TlsStream<TcpStream>) {
    let seen = async {
        loop {
            let mut header = [0; 9];
            stream.read_exact(&mut header).await.expect("a frame before the end");
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
            let mut body = vec![0; length as usize];
            stream.read_exact(&mut body).await.expect("the frame's body");
            if header[3] == 7 {
                return;
            }
        }
    };
    timeout(PATIENCE, seen).await.expect("in time");
}

async fn alert_on(stream: &mut TlsStream<TcpStream>) -> Option<AlertDescription> {
    let error = timeout(PATIENCE, stream.read_u8()).await.expect("in time").expect_err("refused");
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

async fn assert_closed(stream: &mut (impl AsyncReadExt + Unpin)) {
    let mut rest = Vec::new();
    // An end and a reset are both an end.
    let _ended = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("closed in time");
}

async fn until_refused(address: SocketAddr) {
    let refused = async { while TcpStream::connect(address).await.is_ok() {} };
    timeout(PATIENCE, refused).await.expect("closed in time");
}

fn credentials(authority: &DevelopmentAuthority, certificate: &IssuedCertificate) -> Credentials {
    Credentials::from_pem(
        certificate.certificate_pem.as_bytes(),
        certificate.key_pem.as_bytes(),
        authority.certificate_pem().as_bytes(),
    )
    .expect("credentials")
}

fn start() -> Timestamp {
    "2026-03-02T01:00:00Z".parse().expect("time")
}

fn gateway() -> CreditCode {
    code("11110000MB0000001")
}

fn centre() -> CreditCode {
    code("12110000MB0000002")
}

fn court() -> CreditCode {
    code("11110000MB0000003")
}

fn suspended() -> CreditCode {
    code("12110000MB0000004")
}

/// The credit code that begins with these 17 characters.
pub(super) fn code(stem: &str) -> CreditCode {
    "0123456789ABCDEFGHJKLMNPQRTUWXY"
        .chars()
        .find_map(|check| CreditCode::parse(&format!("{stem}{check}")).ok())
        .expect("one check character fits")
}
