//! Simulated agencies: real gRPC servers behind real mutual TLS, with synthetic people, that behave, and
//! misbehave, on request.

pub mod clerk;
pub mod court;
mod decision;
pub mod district;
pub mod registry;
pub mod script;

use std::convert::Infallible;
use std::net::SocketAddr;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

use crate::client::{ClientError, Profile};
use crate::clock::Clock;
use crate::config::ConfigError;
use crate::domain::agency::CreditCode;
use crate::domain::exchange::Kind;
use crate::identity::acceptor::{Acceptor, AcceptorLimits};
use crate::identity::admission::{AdmissionPolicy, BoxFuture, Refusal};
use crate::identity::certificate::PeerCertificate;
use crate::identity::server::{Drained, HttpLimits, serve};

/// Why a simulated agency does not start.
#[derive(Debug, Error)]
pub enum SimulatorError {
    /// Its configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its certificate.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A step of its script that the kind does not know.
    #[error("{kind} has no step {step}")]
    Step {
        /// The kind.
        kind: Kind,
        /// The step.
        step: String,
    },
    /// It has no address.
    #[error("the configuration has no address to listen on")]
    NoAddress,
    /// It has no address, and no purpose to pull under.
    #[error("the configuration has neither an address to listen on nor a purpose to pull under")]
    NoPurpose,
    /// Its address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// A simulated agency that serves.
pub struct Serving {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    server: JoinHandle<Drained>,
    calls: watch::Receiver<u64>,
}

impl Serving {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Follows how many calls have reached it.
    pub fn watch_calls(&self) -> watch::Receiver<u64> {
        self.calls.clone()
    }

    /// Stops it: from then on nobody answers there.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let _ = self.server.await;
    }
}

/// Serves with the agency's certificate; only its gateway is let in.
async fn start(
    profile: &Profile,
    listen: SocketAddr,
    routes: tonic::service::Routes,
    clock: Clock,
) -> Result<Serving, SimulatorError> {
    let credentials = profile.credentials().map_err(ClientError::from)?;
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|source| SimulatorError::Listen { address: listen, source })?;
    let address =
        listener.local_addr().map_err(|source| SimulatorError::Listen { address: listen, source })?;
    let policy = std::sync::Arc::new(OnlyTheGateway(profile.gateway.agency));
    let acceptor = Acceptor::new(&credentials, policy, AcceptorLimits::default(), clock);
    let (stop, mut stopped) = watch::channel(false);
    let until = async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    let limits = HttpLimits {
        max_concurrent_streams: 1024,
        drain_timeout: std::time::Duration::from_millis(200),
        ..HttpLimits::default()
    };
    let (count, calls) = watch::channel(0);
    let counted = infallible(routes).map_request(move |request| {
        count.send_modify(|calls| *calls += 1);
        request
    });
    let server = tokio::spawn(serve(listener, acceptor, counted, limits, until));
    Ok(Serving { address, stop, server, calls })
}

/// `Routes` answers errors itself; this says so in its type.
fn infallible(
    routes: tonic::service::Routes,
) -> impl tower::Service<
    http::Request<tonic::body::Body>,
    Response = http::Response<tonic::body::Body>,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send
+ 'static {
    routes
}

struct OnlyTheGateway(CreditCode);

impl AdmissionPolicy for OnlyTheGateway {
    fn admit(&self, peer: &PeerCertificate) -> Result<(), Refusal> {
        if peer.agency == self.0 {
            return Ok(());
        }
        Err(Refusal { reason: "NOT_THE_GATEWAY", agency: Some(peer.agency), spki: Some(peer.spki_sha256) })
    }

    fn refused(&self, refusal: Refusal, _: SocketAddr) -> BoxFuture<'_, ()> {
        Box::pin(async move { tracing::warn!(reason = refusal.reason, "connection refused") })
    }
}
