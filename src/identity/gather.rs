//! Gathers what many calls write to one connection.
//!
//! An HTTP/2 connection is flushed as soon as one call has something to send. When a batch of the audit log becomes
//! durable, many calls are answered in the same instant, and each would cost a TLS record and a system call of its own.
//! So the first write after a flush waits for one turn of the runtime: what the others add meanwhile goes with it. On an
//! idle gateway that turn comes at once.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose writes wait one turn for company.
pub(super) struct Gathered<S> {
    stream: S,
    turn: Turn,
}

/// Where a stream stands between two flushes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Nothing was written since the last flush; the next write waits.
    Before,
    /// The turn has been given; writes go through until the next flush.
    Given,
    /// Writes never wait.
    Never,
}

impl<S> Gathered<S> {
    /// `stream`, with writes that wait.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, turn: Turn::Before }
    }

    /// `stream` as it is.
    pub(super) fn not(stream: S) -> Self {
        Self { stream, turn: Turn::Never }
    }

    fn give_turn(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.turn == Turn::Before {
            self.turn = Turn::Given;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.give_turn(context));
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.give_turn(context));
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if flushed.is_ready() && self.turn == Turn::Given {
            self.turn = Turn::Before;
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::AsyncReadExt;

    use super::*;

    fn write<S: AsyncWrite + Unpin>(stream: &mut Gathered<S>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(stream).poll_write(&mut Context::from_waker(Waker::noop()), bytes)
    }

    #[tokio::test]
    async fn the_first_write_after_a_flush_waits_one_turn_and_nothing_is_lost() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut stream = Gathered::new(near);
        for round in [b"ab", b"cd"] {
            assert!(write(&mut stream, round).is_pending());
            assert!(matches!(write(&mut stream, &round[..1]), Poll::Ready(Ok(1))));
            assert!(matches!(write(&mut stream, &round[1..]), Poll::Ready(Ok(1))));
            let flushed = Pin::new(&mut stream).poll_flush(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(flushed, Poll::Ready(Ok(()))));
        }
        drop(stream);
        let mut arrived = Vec::new();
        far.read_to_end(&mut arrived).await.unwrap();
        assert_eq!(arrived, b"abcd");
    }

    #[tokio::test]
    async fn a_stream_that_does_not_gather_writes_at_once() {
        let (near, _far) = tokio::io::duplex(64);
        assert!(matches!(write(&mut Gathered::not(near), b"ab"), Poll::Ready(Ok(2))));
    }
}
