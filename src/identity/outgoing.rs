//! Outgoing connections that are open, so that those can be ended whose server would not be dialled any more.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::partner::PartnerVerifier;
use crate::clock::Clock;
use crate::domain::agency::CreditCode;

/// The connections of one dialler and its clones.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    open: Mutex<Vec<Weak<Open>>>,
    /// How often they were judged.
    judged: AtomicU64,
}

/// What a connection was made with.
#[derive(Debug)]
pub(super) struct Open {
    /// As the server sent it, its own certificate first.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) server_name: ServerName<'static>,
    /// Who answered.
    pub(super) agency: CreditCode,
    /// Whether the agency stood in the directory then.
    pub(super) was_enrolled: bool,
    pub(super) severed: CancellationToken,
}

impl Open {
    /// Whether its server would be believed now.
    pub(super) fn is_still_verified_by(&self, verifier: &PartnerVerifier, clock: &Clock) -> bool {
        let Some((leaf, intermediates)) = self.chain.split_first() else { return false };
        let seconds = u64::try_from(clock.now().as_second()).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        verifier.verify_server_cert(leaf, intermediates, &self.server_name, &[], now).is_ok()
    }
}

impl Outgoing {
    /// How often connections were judged: taken before one is made, it says whether that one was missed.
    pub(super) fn judged(&self) -> u64 {
        self.judged.load(Ordering::Acquire)
    }

    /// Notes a connection as open until its stream goes.
    pub(super) fn note<S>(&self, open: Open, stream: S) -> Severable<S> {
        let open = Arc::new(open);
        let mut all = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|open| open.strong_count() > 0);
        all.push(Arc::downgrade(&open));
        let severed = Box::pin(open.severed.clone().cancelled_owned());
        Severable { stream, severed, _open: open }
    }

    /// Ends the connections for which `keep` is false.
    pub(super) fn sever_unless(&self, keep: impl Fn(&Open) -> bool) {
        self.judged.fetch_add(1, Ordering::AcqRel);
        let all = self.open.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for open in all.iter().filter_map(Weak::upgrade).filter(|open| !keep(open)) {
            tracing::warn!(agency = %open.agency, "a connection to an agency is ended: it would not be dialled any more");
            open.severed.cancel();
        }
    }
}

/// A stream that can be ended from outside.
pub(super) struct Severable<S> {
    stream: S,
    severed: Pin<Box<WaitForCancellationFutureOwned>>,
    _open: Arc<Open>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Severable<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Whoever holds an HTTP/2 connection always waits to read: that is where it hears of its end.
        if self.severed.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Severable<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
