//! Which agencies are let in: asked inside the TLS handshake, and recorded before a refusal is sent.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::certificate::{CertificateError, PeerCertificate, Presented, spki_sha256};
use crate::domain::agency::CreditCode;

/// A boxed future that can move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Decides who comes in, and records who does not.
pub trait AdmissionPolicy: Send + Sync + 'static {
    /// The agency that a key (SHA-256 of its subject public key info) is pinned to; none where certificates name their
    /// agencies.
    fn pinned_to(&self, _spki_sha256: &[u8; 32]) -> Option<CreditCode> {
        None
    }

    /// Whether this agency may connect, or stay connected. Called inside the handshake, after the chain was verified, and
    /// of open connections when something has changed, so it must answer from memory.
    ///
    /// # Errors
    /// The refusal to record; the peer gets the TLS alert `access_denied`.
    fn admit(&self, peer: &PeerCertificate) -> Result<(), Refusal>;

    /// Records a refusal. The alert is held back until the future is done; meanwhile the connection keeps its place
    /// among the pending handshakes.
    fn refused(&self, refusal: Refusal, peer_address: SocketAddr) -> BoxFuture<'_, ()>;

    /// Takes note of an open connection that is ended because its peer would not be let in any more, and why, in
    /// UPPER_SNAKE. Must not wait: many may end at once.
    fn shown_out(&self, _peer: &PeerCertificate, _reason: &'static str) {}
}

/// A peer that was turned away, and why.
///
/// At this point of the handshake the peer has shown a certificate, but has not yet proved that it holds the key: the
/// agency is the one that was *claimed*.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why, in `UPPER_SNAKE_CASE`.
    pub reason: &'static str,
    /// The agency that the certificate names, if it names one.
    pub agency: Option<CreditCode>,
    /// SHA-256 of the certificate's subject public key info, if it was parsed.
    pub spki: Option<[u8; 32]>,
}

/// The longest chain a client may send, its own certificate included. A chain of 100 certificates of the same name
/// costs path building about 100 ms of processor time a try.
const LONGEST_CHAIN: usize = 4;

/// What the verifier decided about one connection; empty until a certificate was seen and, where needed, verified.
pub(super) type Verdict = Arc<OnceLock<Result<Arc<PeerCertificate>, Refusal>>>;

/// The client certificate verifier of one connection. It leaves its decision in `verdict`, which is how the reason gets
/// from inside rustls to the accept loop.
pub(super) struct AdmissionVerifier {
    pub(super) chain: Arc<dyn ClientCertVerifier>,
    pub(super) policy: Arc<dyn AdmissionPolicy>,
    pub(super) verdict: Verdict,
}

impl AdmissionVerifier {
    fn decide(&self, verdict: Result<Arc<PeerCertificate>, Refusal>) -> Result<(), rustls::Error> {
        let admitted = verdict.is_ok();
        // A second certificate on one connection would be a second opinion; the first one stands.
        if self.verdict.set(verdict).is_ok() && admitted {
            Ok(())
        } else {
            Err(rustls::CertificateError::ApplicationVerificationFailure.into())
        }
    }
}

/// Whose a certificate is that was believed, and whether that agency may come.
pub(super) fn judge(
    policy: &dyn AdmissionPolicy,
    leaf: &CertificateDer<'_>,
) -> Result<Arc<PeerCertificate>, Refusal> {
    let unknown =
        |error: CertificateError| Refusal { reason: error.reason(), agency: None, spki: spki_sha256(leaf) };
    let presented = Presented::parse(leaf).map_err(unknown)?;
    let pinned_to = policy.pinned_to(&presented.spki_sha256);
    let peer = presented.of(pinned_to).map_err(unknown)?;
    policy.admit(&peer)?;
    Ok(Arc::new(peer))
}

impl ClientCertVerifier for AdmissionVerifier {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if intermediates.len() >= LONGEST_CHAIN {
            self.decide(Err(Refusal { reason: "CHAIN_TOO_LONG", agency: None, spki: None }))?;
        }
        self.chain.verify_client_cert(end_entity, intermediates, now)
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        // Only now has the peer shown that it holds the key: a copy of somebody's certificate must not put that
        // somebody's name into the audit log.
        let valid = self.chain.verify_tls13_signature(message, certificate, signature)?;
        self.decide(judge(&*self.policy, certificate))?;
        Ok(valid)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

impl fmt::Debug for AdmissionVerifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AdmissionVerifier").field("verdict", &self.verdict).finish_non_exhaustive()
    }
}

/// The stream under TLS. Once the verdict is a refusal it keeps back what rustls writes, which is the alert, so that no
/// answer leaves before its audit entry.
///
/// Keeping back rather than being not ready: when a handshake fails, tokio-rustls tries once to write the alert and
/// does not come back.
pub(super) struct HeldOnRefusal<IO> {
    stream: IO,
    verdict: Verdict,
    held: Vec<u8>,
}

impl<IO> HeldOnRefusal<IO> {
    pub(super) fn new(stream: IO, verdict: Verdict) -> Self {
        Self { stream, verdict, held: Vec::new() }
    }

    fn is_refused(&self) -> bool {
        matches!(self.verdict.get(), Some(Err(_)))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> HeldOnRefusal<IO> {
    /// Lets go of what was kept back, and closes.
    async fn release(mut self) -> io::Result<()> {
        self.stream.write_all(&self.held).await?;
        self.stream.shutdown().await?;
        // The client has usually begun to speak. Closing with its bytes unread would reset the connection, and the
        // alert might be lost with it.
        let mut unread = self.stream.take(64 * 1024);
        tokio::io::copy(&mut unread, &mut tokio::io::sink()).await?;
        Ok(())
    }
}

/// A connection whose peer was refused and has not been told yet.
pub(super) struct TurnedAway {
    pub(super) refusal: Refusal,
    pub(super) stream: HeldOnRefusal<TcpStream>,
}

impl fmt::Debug for TurnedAway {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TurnedAway").field("refusal", &self.refusal).finish_non_exhaustive()
    }
}

impl TurnedAway {
    /// Records the refusal, then sends the alert.
    pub(super) async fn record_and_tell(self, policy: &dyn AdmissionPolicy, address: SocketAddr) {
        const TELLING: Duration = Duration::from_secs(1);
        policy.refused(self.refusal, address).await;
        if !matches!(timeout(TELLING, self.stream.release()).await, Ok(Ok(()))) {
            tracing::debug!("a refused peer did not take its alert");
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for HeldOnRefusal<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for HeldOnRefusal<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_refused() {
            self.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_refused() {
            let before = self.held.len();
            slices.iter().for_each(|slice| self.held.extend_from_slice(slice));
            return Poll::Ready(Ok(self.held.len() - before));
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_refused() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
