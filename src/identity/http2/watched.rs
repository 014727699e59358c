//! Looks at the frames of a connection as they pass, without touching them.
//!
//! `h2` reads frames for as long as there are any, whatever they ask for, and has no clock for one that is begun and not
//! finished. What it cannot say is seen here: a header block that drips, and frames that ask for nothing (pings, settings,
//! window updates, resets, empty data), of which each peer has an allowance.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::outlet::Outlet;
use crate::identity::HTTP2_PREFACE;
use crate::identity::server::HttpLimits;

/// What a call earns its peer in frames that ask for nothing: it has windows to open and pings to send.
const EARNED_BY_CALL: u32 = 16;

/// Bytes read by the peer that earn it one such frame.
const BYTES_THAT_EARN: usize = 1024;

/// A data frame below this carries hardly more than its own head.
const SMALL: usize = 64;

/// What was seen on one connection, for those who serve it.
pub(super) struct Watch {
    opened: Instant,
    frame_limit: Duration,
    flooded: AtomicBool,
    /// When the unfinished frame or header block was begun, in milliseconds since `opened` and one; 0 for none.
    begun: AtomicU64,
    idle_frames: Allowance,
    resets: Allowance,
}

impl Watch {
    pub(super) fn new(limits: &HttpLimits) -> Self {
        let now = Instant::now();
        Self {
            opened: now,
            frame_limit: limits.header_block_timeout,
            flooded: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            idle_frames: Allowance::new(limits.idle_frames, limits.idle_frames_per_second, now),
            resets: Allowance::new(limits.resets, limits.resets_per_second, now),
        }
    }

    /// Done when the peer has sent more than its allowance. Whoever waits is woken by the reading.
    pub(super) async fn flooded(&self) {
        poll_fn(|_| if self.flooded.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Whether something was begun too long ago.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        match self.begun.load(Ordering::Acquire) {
            0 => false,
            begun => {
                now.duration_since(self.opened).saturating_sub(Duration::from_millis(begun - 1))
                    >= self.frame_limit
            }
        }
    }

    fn note_begun(&self, now: Option<Instant>) {
        let begun = now.map_or(0, |now| {
            u64::try_from(now.duration_since(self.opened).as_millis()).unwrap_or(u64::MAX - 1) + 1
        });
        self.begun.store(begun, Ordering::Release);
    }
}

/// How many frames a peer may still send; it fills again with time.
#[derive(Clone)]
struct Allowance {
    left: u32,
    most: u32,
    per_second: u32,
    since: Instant,
}

impl Allowance {
    fn new(most: u32, per_second: u32, now: Instant) -> Self {
        Self { left: most, most, per_second, since: now }
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.duration_since(self.since).as_millis();
        let more = passed * u128::from(self.per_second) / 1000;
        if more > 0 {
            self.earn(u32::try_from(more).unwrap_or(u32::MAX));
            self.since = now;
        }
    }

    fn earn(&mut self, more: u32) {
        self.left = self.left.saturating_add(more).min(self.most);
    }

    fn take(&mut self) -> bool {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

/// A stream whose frames are looked at.
pub(super) struct Watched<S> {
    stream: S,
    watch: Arc<Watch>,
    outlet: Arc<Outlet>,
    reader: Reader,
    idle_frames: Allowance,
    resets: Allowance,
    written: usize,
}

impl<S> Watched<S> {
    /// `stream`, of which nothing was read yet, the client's preface included.
    pub(super) fn new(stream: S, watch: Arc<Watch>, outlet: Arc<Outlet>) -> Self {
        let (idle_frames, resets) = (watch.idle_frames.clone(), watch.resets.clone());
        Self { stream, watch, outlet, reader: Reader::default(), idle_frames, resets, written: 0 }
    }

    /// Whether the peer kept within its allowance.
    fn look_at(&mut self, bytes: &[u8]) -> bool {
        let now = Instant::now();
        self.idle_frames.fill(now);
        self.resets.fill(now);
        let was_open = self.reader.is_open();
        let (idle_frames, resets) = (&mut self.idle_frames, &mut self.resets);
        let seen = self.reader.read(bytes, |frame| match frame {
            Seen::Call => {
                idle_frames.earn(EARNED_BY_CALL);
                true
            }
            Seen::Data => true,
            Seen::Reset => resets.take(),
            Seen::Idle => idle_frames.take(),
        });
        match (seen.finished, self.reader.is_open()) {
            (_, false) => {
                if was_open {
                    self.watch.note_begun(None);
                }
            }
            (false, true) if was_open => {}
            (_, true) => self.watch.note_begun(Some(now)),
        }
        seen.within
    }

    fn note_written(&mut self, written: usize) {
        self.outlet.wrote(written);
        self.written += written;
        if self.written >= BYTES_THAT_EARN {
            self.idle_frames.earn(u32::try_from(self.written / BYTES_THAT_EARN).unwrap_or(u32::MAX));
            self.written %= BYTES_THAT_EARN;
        }
    }
}

/// What a frame is to its peer's allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// Begins a call, or ends one in an orderly way.
    Call,
    /// Carries something.
    Data,
    /// Gives a call up.
    Reset,
    /// Asks for nothing.
    Idle,
}

/// What came of some bytes.
struct Looked {
    within: bool,
    /// Whether a frame or header block came to its end.
    finished: bool,
}

/// Where in the frames the reading is (RFC 9113 section 4.1).
struct Reader {
    preface_left: usize,
    head: [u8; 9],
    seen: usize,
    /// Payload bytes to come.
    left: usize,
    is_data: bool,
    in_header_block: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            preface_left: HTTP2_PREFACE.len(),
            head: [0; 9],
            seen: 0,
            left: 0,
            is_data: false,
            in_header_block: false,
        }
    }
}

impl Reader {
    /// Whether a frame or header block is begun. The payload of a data frame has deadlines of its own.
    fn is_open(&self) -> bool {
        self.in_header_block || self.seen > 0 || (self.left > 0 && !self.is_data)
    }

    fn read(&mut self, mut bytes: &[u8], mut takes: impl FnMut(Seen) -> bool) -> Looked {
        let mut looked = Looked { within: true, finished: false };
        let skip = self.preface_left.min(bytes.len());
        self.preface_left -= skip;
        bytes = &bytes[skip..];
        while !bytes.is_empty() {
            if self.left > 0 {
                let payload = self.left.min(bytes.len());
                bytes = &bytes[payload..];
                self.left -= payload;
                looked.finished |= self.left == 0 && !self.in_header_block;
                continue;
            }
            let piece = (self.head.len() - self.seen).min(bytes.len());
            self.head[self.seen..self.seen + piece].copy_from_slice(&bytes[..piece]);
            self.seen += piece;
            bytes = &bytes[piece..];
            if self.seen == self.head.len() {
                self.seen = 0;
                looked.within &= takes(self.begin_frame());
                looked.finished |= self.left == 0 && !self.in_header_block;
            }
        }
        looked
    }

    fn begin_frame(&mut self) -> Seen {
        const DATA: u8 = 0;
        const HEADERS: u8 = 1;
        const RST_STREAM: u8 = 3;
        const CONTINUATION: u8 = 9;
        const END_STREAM: u8 = 1;
        const END_HEADERS: u8 = 4;
        let [high, middle, low, kind, flags, ..] = self.head;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.left = length;
        self.is_data = kind == DATA;
        match kind {
            HEADERS => {
                self.in_header_block = flags & END_HEADERS == 0;
                Seen::Call
            }
            CONTINUATION => {
                self.in_header_block = flags & END_HEADERS == 0;
                Seen::Idle
            }
            DATA if length >= SMALL || flags & END_STREAM != 0 => Seen::Data,
            RST_STREAM => Seen::Reset,
            _ => Seen::Idle,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.watch.flooded.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let this = &mut *self;
        if !this.look_at(&buffer.filled()[before..]) {
            // Nothing more is read of such a peer; who serves it looks up, and tells it so.
            this.watch.flooded.store(true, Ordering::Release);
            buffer.set_filled(before);
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.note_written(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))?;
        self.note_written(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.outlet.wrote_all();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Reads a connection's bytes whole and in pieces; both must come to the same frames.
#[cfg(fuzzing)]
pub fn read_frames(bytes: &[u8], piece: usize) -> usize {
    let (mut whole, mut cut) = (Reader::default(), Reader::default());
    let (mut expected, mut seen) = (Vec::new(), Vec::new());
    whole.read(bytes, |frame| {
        expected.push(frame);
        true
    });
    for piece in bytes.chunks(piece.max(1)) {
        cut.read(piece, |frame| {
            seen.push(frame);
            true
        });
    }
    assert_eq!(seen, expected);
    assert_eq!(cut.is_open(), whole.is_open());
    seen.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let [.., high, middle, low] = u32::try_from(length).unwrap().to_be_bytes();
        let mut bytes = vec![high, middle, low, kind, flags, 0, 0, 0, 1];
        bytes.resize(bytes.len() + length, 7);
        bytes
    }

    fn read(reader: &mut Reader, bytes: &[u8]) -> Vec<Seen> {
        let mut seen = Vec::new();
        reader.read(bytes, |frame| {
            seen.push(frame);
            true
        });
        seen
    }

    fn after_preface() -> Reader {
        let mut reader = Reader::default();
        assert!(read(&mut reader, HTTP2_PREFACE).is_empty());
        reader
    }

    #[test]
    fn a_header_block_is_open_until_its_last_continuation() {
        let mut reader = after_preface();
        assert_eq!(read(&mut reader, &frame(1, 0, 20)), [Seen::Call]);
        assert!(reader.is_open());
        assert_eq!(read(&mut reader, &frame(9, 0, 0)), [Seen::Idle]);
        assert!(reader.is_open());
        read(&mut reader, &frame(9, 4, 3));
        assert!(!reader.is_open());
    }

    #[test]
    fn half_a_frame_is_open_and_half_a_message_is_not() {
        let mut reader = after_preface();
        read(&mut reader, &frame(6, 0, 8)[..12]);
        assert!(reader.is_open());
        read(&mut reader, &[0; 5]);
        assert!(!reader.is_open());
        read(&mut reader, &frame(0, 0, 800)[..100]);
        assert!(!reader.is_open());
    }

    #[test]
    fn frames_that_ask_for_nothing_are_told_from_those_that_carry_something() {
        let mut reader = after_preface();
        for (bytes, seen) in [
            (frame(0, 0, 64), Seen::Data),
            (frame(0, 1, 0), Seen::Data),
            (frame(0, 0, 0), Seen::Idle),
            (frame(2, 0, 5), Seen::Idle),
            (frame(3, 0, 4), Seen::Reset),
            (frame(4, 0, 6), Seen::Idle),
            (frame(6, 0, 8), Seen::Idle),
            (frame(8, 0, 4), Seen::Idle),
            (frame(0xb, 0, 4), Seen::Idle),
        ] {
            assert_eq!(read(&mut reader, &bytes), [seen]);
        }
    }

    #[test]
    fn an_allowance_is_used_up_and_fills_with_time() {
        let start = Instant::now();
        let mut allowance = Allowance::new(2, 10, start);
        assert!(allowance.take() && allowance.take() && !allowance.take());
        allowance.fill(start + Duration::from_millis(150));
        assert!(allowance.take() && !allowance.take());
        allowance.fill(start + Duration::from_secs(60));
        assert_eq!(allowance.left, 2);
    }

    proptest! {
        #[test]
        fn frames_are_the_same_however_they_are_cut(
            frames in prop::collection::vec((0..12_u8, any::<u8>(), 0..40_usize), 1..20),
            cuts in prop::collection::vec(1..15_usize, 1..20),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(kind, flags, length)| frame(*kind, *flags, *length)).collect();
            let mut whole = after_preface();
            let expected = read(&mut whole, &bytes);
            let (mut reader, mut seen, mut rest) = (after_preface(), Vec::new(), bytes.as_slice());
            let mut cuts = cuts.into_iter().cycle();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                seen.extend(read(&mut reader, piece));
                rest = after;
            }
            prop_assert_eq!(&seen, &expected);
            prop_assert_eq!(seen.len(), frames.len());
            prop_assert_eq!(reader.is_open(), whole.is_open());
        }
    }
}
