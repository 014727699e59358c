//! How many bytes of answers wait in a connection for its peer to read them.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// What a frame adds to its payload.
const FRAME_HEAD: usize = 9;

/// Counts what was handed to a connection and not yet written. Streams wait for room with their answers in hand, where
/// they are counted: a peer that opens its window wide and then reads nothing finds only so much in the connection.
pub(super) struct Outlet {
    most: usize,
    waiting: AtomicUsize,
    written: Notify,
}

impl Outlet {
    pub(super) fn new(most: usize) -> Self {
        Self { most, waiting: AtomicUsize::new(0), written: Notify::new() }
    }

    /// Waits until there is room for a piece.
    pub(super) async fn room(&self) {
        while !self.has_room() {
            let written = self.written.notified();
            tokio::pin!(written);
            // Enabled before looking again, so that no writing in between is missed.
            written.as_mut().enable();
            if self.has_room() {
                return;
            }
            written.await;
        }
    }

    /// Notes a piece that was handed over.
    pub(super) fn handed_over(&self, bytes: usize) {
        self.waiting.fetch_add(bytes + FRAME_HEAD, Ordering::Relaxed);
    }

    /// Notes what was written.
    pub(super) fn wrote(&self, bytes: usize) {
        let before = self
            .waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |waiting| Some(waiting.saturating_sub(bytes)))
            .unwrap_or(0);
        if before >= self.most && before.saturating_sub(bytes) < self.most {
            self.written.notify_waiters();
        }
    }

    /// Notes that all is written: what was counted too much is forgotten.
    pub(super) fn wrote_all(&self) {
        if self.waiting.swap(0, Ordering::AcqRel) >= self.most {
            self.written.notify_waiters();
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Acquire) < self.most
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn who_waits_for_room_goes_on_when_something_was_written() {
        let outlet = Arc::new(Outlet::new(100));
        outlet.room().await;
        outlet.handed_over(150);
        let waiting = tokio::spawn({
            let outlet = Arc::clone(&outlet);
            async move { outlet.room().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        outlet.wrote(80);
        waiting.await.unwrap();
        outlet.handed_over(100);
        assert!(!outlet.has_room());
        outlet.wrote_all();
        assert!(outlet.has_room());
    }
}
