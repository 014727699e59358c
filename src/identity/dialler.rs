//! Outgoing connections: to the agency that is meant, and to no other.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{CertificateError as TlsCertificateError, ClientConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::certificate::{CertificateError, PeerCertificate};
use super::credentials::Credentials;
use super::gather::Gathered;
use super::outgoing::{Open, Outgoing, Severable};
use super::partner::{NotTheAgency, PartnerVerifier};
use super::{ClockTime, HTTP2, HTTP2_PREFACE, crypto_provider};
use crate::access::{Directory, Inadmissible};
use crate::clock::Clock;
use crate::domain::agency::CreditCode;

/// Where an agency can be reached, and who must answer there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `host:port` to connect to.
    pub address: String,
    /// The DNS name or IP address that the server's certificate must be for.
    pub server_name: String,
    /// The agency that the server's certificate must name.
    pub agency: CreditCode,
}

/// Connects to agencies with the gateway's own certificate. Cheap to clone; clones use the same credentials.
#[derive(Clone)]
pub struct Dialler {
    credentials: Arc<ArcSwap<Credentials>>,
    /// In which agencies are suspended, and have keys pinned to them.
    directory: Option<Arc<ArcSwap<Directory>>>,
    outgoing: Arc<Outgoing>,
    limits: DiallerLimits,
    clock: Clock,
    gathers: bool,
}

/// How long a connection may take to come about.
#[derive(Clone, Copy, Debug)]
pub struct DiallerLimits {
    /// Name resolution and TCP. 5 s.
    pub connect_timeout: Duration,
    /// The TLS handshake after it; and, in [`Dialler::probe`], the wait for the server's first frame. 10 s.
    pub handshake_timeout: Duration,
}

impl Default for DiallerLimits {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(5), handshake_timeout: Duration::from_secs(10) }
    }
}

impl Dialler {
    /// A dialler that shows `credentials` and believes their authorities; `clock` decides on validity periods.
    pub fn new(credentials: &Credentials, clock: Clock) -> Self {
        let credentials = Arc::new(ArcSwap::from_pointee(credentials.clone()));
        let outgoing = Arc::default();
        Self {
            credentials,
            directory: None,
            outgoing,
            limits: DiallerLimits::default(),
            clock,
            gathers: false,
        }
    }

    /// The same, which goes by the directory too: an agency whose keys are pinned there must show one of them.
    pub fn enrolled_in(self, directory: Arc<ArcSwap<Directory>>) -> Self {
        Self { directory: Some(directory), ..self }
    }

    /// The same, for channels that many calls share: what they write in one turn of the runtime goes out together.
    pub fn gathering(self) -> Self {
        Self { gathers: true, ..self }
    }

    /// The same with other limits.
    pub fn with_limits(self, limits: DiallerLimits) -> Self {
        Self { limits, ..self }
    }

    /// Uses `credentials` for every later connection, also of channels that exist already. Open connections go on, unless
    /// their servers' certificates are not believed any more: those end.
    pub fn replace_credentials(&self, credentials: &Credentials) {
        self.credentials.store(Arc::new(credentials.clone()));
        self.judge_again();
    }

    /// Ends the open connections of channels to whom would not be dialled any more: certificate revoked, agency suspended or
    /// taken out of the directory.
    pub fn judge_again(&self) {
        self.outgoing.sever_unless(|open| {
            let directory = self.directory.as_ref().map(|directory| directory.load());
            let may_come =
                directory.is_none_or(|directory| !open.was_enrolled || directory.is_active(&open.agency));
            may_come && open.is_still_verified_by(&self.verifier(open.agency), &self.clock)
        });
    }

    /// The clock that decides on validity periods.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    fn verifier(&self, expected: CreditCode) -> PartnerVerifier {
        PartnerVerifier {
            chain: self.credentials.load().server_verifier(),
            expected,
            directory: self.directory.as_ref().map(|directory| directory.load_full()),
            clock: self.clock.clone(),
        }
    }

    /// A channel that connects on first use and again whenever its connection is lost.
    ///
    /// A failed connection surfaces in the first call as `UNAVAILABLE`, with a [`DialError`] among its sources. A server
    /// that refuses the gateway's certificate does so after the handshake (TLS 1.3), so then the source is the alert.
    ///
    /// # Errors
    /// When `endpoint` is not an address and a name.
    pub fn channel(&self, endpoint: &Endpoint) -> Result<Channel, DialError> {
        let target = Target::parse(endpoint)?;
        // The scheme of the URI is http because tonic must not add TLS of its own; the origin, which is what the server
        // sees in `:scheme` and `:authority`, is https.
        let connect_to = uri("http", &endpoint.address, &endpoint.address)?;
        let origin = uri("https", &target.authority, &endpoint.address)?;
        let dialler = self.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let (dialler, target) = (dialler.clone(), target.clone());
            async move {
                let judged = dialler.outgoing.judged();
                let stream = dialler.connect(&target, Presents::OwnCertificate).await?;
                let stream = dialler.noted(&target, stream);
                // What changed meanwhile was held only against those that were open.
                if judged != dialler.outgoing.judged() {
                    dialler.judge_again();
                }
                let stream = if dialler.gathers { Gathered::new(stream) } else { Gathered::not(stream) };
                Ok::<_, DialError>(TokioIo::new(stream))
            }
        });
        let channel = tonic::transport::Endpoint::from(connect_to)
            .origin(origin)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true)
            .initial_stream_window_size(256 * 1024)
            .initial_connection_window_size(1024 * 1024)
            .http2_max_header_list_size(16 * 1024)
            .http2_max_local_error_reset_streams(100)
            .buffer_size(256)
            .connect_with_connector_lazy(connector);
        Ok(channel)
    }

    /// Connects, and learns whether both sides accept each other.
    ///
    /// With TLS 1.3 a client's handshake ends before the server has judged its certificate. So the probe begins HTTP/2
    /// and waits for the server's first bytes: they are frames, or an alert.
    ///
    /// # Errors
    /// What went wrong, down to the alert with which the server refused.
    pub async fn probe(&self, endpoint: &Endpoint) -> Result<PeerCertificate, DialError> {
        self.probe_as(endpoint, Presents::OwnCertificate).await
    }

    /// The same without presenting a certificate: a front door that holds refuses it.
    ///
    /// # Errors
    /// As [`Dialler::probe`]; from a front door that holds always [`DialError::Refused`].
    pub async fn probe_without_certificate(&self, endpoint: &Endpoint) -> Result<PeerCertificate, DialError> {
        self.probe_as(endpoint, Presents::Nothing).await
    }

    async fn probe_as(&self, endpoint: &Endpoint, presents: Presents) -> Result<PeerCertificate, DialError> {
        let target = Target::parse(endpoint)?;
        let mut stream = self.connect(&target, presents).await?;
        let certificate = self.peer_of(target.agency, &stream).ok_or(DialError::NoHttp2)?;
        timeout(self.limits.handshake_timeout, begin_http2(&mut stream))
            .await
            .map_err(|_| DialError::Silent)?
            .map_err(|error| DialError::from_tls(error, DialError::Closed))?;
        Ok(certificate)
    }

    fn peer_of(&self, agency: CreditCode, stream: &TlsStream<TcpStream>) -> Option<PeerCertificate> {
        let leaf = stream.get_ref().1.peer_certificates()?.first()?;
        self.verifier(agency).owner(leaf).ok()
    }

    async fn connect(&self, target: &Target, presents: Presents) -> Result<TlsStream<TcpStream>, DialError> {
        let tcp = timeout(self.limits.connect_timeout, TcpStream::connect(&target.address))
            .await
            .map_err(|_| DialError::ConnectTimedOut { address: target.address.clone() })?
            .map_err(|source| DialError::Connect { address: target.address.clone(), source })?;
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let connector = TlsConnector::from(Arc::new(self.config(target.agency, presents)?));
        let stream =
            timeout(self.limits.handshake_timeout, connector.connect(target.server_name.clone(), tcp))
                .await
                .map_err(|_| DialError::HandshakeTimedOut)?
                .map_err(|error| DialError::from_tls(error, DialError::Handshake))?;
        if stream.get_ref().1.alpn_protocol() == Some(HTTP2) { Ok(stream) } else { Err(DialError::NoHttp2) }
    }

    /// Notes a connection, so that it can be ended.
    fn noted(&self, target: &Target, stream: TlsStream<TcpStream>) -> Severable<TlsStream<TcpStream>> {
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
        let was_enrolled = self
            .directory
            .as_ref()
            .is_some_and(|directory| directory.load().agency(&target.agency).is_some());
        let server_name = target.server_name.clone();
        let (agency, severed) = (target.agency, CancellationToken::new());
        self.outgoing.note(Open { chain, server_name, agency, was_enrolled, severed }, stream)
    }

    /// Built anew for each connection, so that replaced credentials take hold at once.
    fn config(&self, agency: CreditCode, presents: Presents) -> Result<ClientConfig, DialError> {
        let credentials = self.credentials.load();
        let verifier = self.verifier(agency);
        let time = Arc::new(ClockTime(self.clock.clone()));
        let builder = ClientConfig::builder_with_details(crypto_provider(), time)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(DialError::Tls)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match presents {
            Presents::OwnCertificate => builder.with_client_cert_resolver(credentials.resolver()),
            Presents::Nothing => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![HTTP2.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

/// What a connection shows of itself.
#[derive(Clone, Copy)]
enum Presents {
    OwnCertificate,
    Nothing,
}

impl fmt::Debug for Dialler {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Dialler").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Why a connection to an agency did not come about.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The endpoint's address is not `host:port`, or its server name neither a DNS name nor an IP address.
    #[error("{0:?} is not a usable address or server name")]
    BadEndpoint(String),
    /// The name does not resolve, or nothing listens there.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where to.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing answered in [`DiallerLimits::connect_timeout`].
    #[error("no connection to {address} in time")]
    ConnectTimedOut {
        /// Where to.
        address: String,
    },
    /// TCP works, but the TLS handshake did not end in [`DiallerLimits::handshake_timeout`].
    #[error("the TLS handshake did not finish in time")]
    HandshakeTimedOut,
    /// The handshake was cut off.
    #[error("the connection was lost during the TLS handshake")]
    Handshake(#[source] io::Error),
    /// The handshake failed: the server's certificate is not believed, or the two sides have nothing in common.
    #[error("the TLS handshake failed")]
    Tls(#[source] rustls::Error),
    /// The server's certificate is good, but another agency's.
    #[error("the server is agency {presented}, not {expected}")]
    WrongAgency {
        /// Who should answer.
        expected: CreditCode,
        /// Who did.
        presented: CreditCode,
    },
    /// The server's certificate is good, but names no agency.
    #[error("the server's certificate names no agency")]
    NoAgency(#[source] CertificateError),
    /// The server's certificate is good and the agency's, but its key is not among those that the agency is enrolled with.
    #[error("the server's key is not the one enrolled: {0}")]
    WrongKey(Inadmissible),
    /// The server sent a TLS alert: mostly, that it does not accept the gateway's certificate (`access_denied`: the
    /// gateway is not enrolled there, or suspended).
    #[error("the server refused the connection with the TLS alert {0:?}")]
    Refused(rustls::AlertDescription),
    /// The server did not agree on HTTP/2.
    #[error("the server does not speak HTTP/2")]
    NoHttp2,
    /// The server closed the connection instead of beginning HTTP/2.
    #[error("the server closed the connection")]
    Closed(#[source] io::Error),
    /// The server said nothing after the handshake.
    #[error("the server is silent after the TLS handshake")]
    Silent,
}

impl DialError {
    /// tokio-rustls wraps TLS errors in I/O errors; anything else becomes what `otherwise` makes of it.
    fn from_tls(error: io::Error, otherwise: fn(io::Error) -> Self) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).cloned();
        match tls {
            Some(rustls::Error::AlertReceived(alert)) => Self::Refused(alert),
            Some(rustls::Error::InvalidCertificate(TlsCertificateError::Other(other))) => {
                match other.0.downcast_ref::<NotTheAgency>() {
                    Some(NotTheAgency::Another { expected, presented }) => {
                        Self::WrongAgency { expected: *expected, presented: *presented }
                    }
                    Some(NotTheAgency::Unnamed(reason)) => Self::NoAgency(reason.clone()),
                    Some(NotTheAgency::Key(reason)) => Self::WrongKey(*reason),
                    None => Self::Tls(TlsCertificateError::Other(other).into()),
                }
            }
            Some(tls) => Self::Tls(tls),
            None => otherwise(error),
        }
    }
}

/// An endpoint, parsed.
#[derive(Clone)]
struct Target {
    address: String,
    server_name: ServerName<'static>,
    /// What the server is called in `:authority`.
    authority: String,
    agency: CreditCode,
}

impl Target {
    fn parse(endpoint: &Endpoint) -> Result<Self, DialError> {
        let bad = |text: &str| DialError::BadEndpoint(text.to_owned());
        let port = endpoint
            .address
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse::<u16>().ok())
            .ok_or_else(|| bad(&endpoint.address))?;
        let server_name =
            ServerName::try_from(endpoint.server_name.clone()).map_err(|_| bad(&endpoint.server_name))?;
        let authority = match &server_name {
            ServerName::IpAddress(rustls::pki_types::IpAddr::V6(_)) => {
                format!("[{}]:{port}", endpoint.server_name)
            }
            _ => format!("{}:{port}", endpoint.server_name),
        };
        Ok(Self { address: endpoint.address.clone(), server_name, authority, agency: endpoint.agency })
    }
}

fn uri(scheme: &str, authority: &str, named_in_error: &str) -> Result<Uri, DialError> {
    Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query("/")
        .build()
        .map_err(|_| DialError::BadEndpoint(named_in_error.to_owned()))
}

async fn begin_http2(stream: &mut TlsStream<TcpStream>) -> io::Result<()> {
    /// Length 0, type SETTINGS, no flags, stream 0 (RFC 9113 section 6.5).
    const EMPTY_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // The server may have refused already: its alert is then still there to be read.
    let written = async {
        stream.write_all(HTTP2_PREFACE).await?;
        stream.write_all(&EMPTY_SETTINGS).await?;
        stream.flush().await
    }
    .await;
    stream.read_u8().await?;
    written
}
