//! The disk under the log: the real store, with faults and a gate before each batch. What became durable is noted.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use legal_aid_gateway::audit::entry::{Entry, Phase};
use legal_aid_gateway::audit::log::{Batch, Head, Orphan, Standing, Storage};
use legal_aid_gateway::audit::tile::{TileId, TileSet};
use legal_aid_gateway::audit::verifier::StoredEntry;
use legal_aid_gateway::store::{Effect, Rejection, Store};
use tokio::sync::{Notify, oneshot};

use super::flaw::Flaw;
use super::op::Fault;

/// The disk of one process. Clones are the same disk.
#[derive(Clone)]
pub(crate) struct Disk {
    store: Store,
    inner: Arc<Mutex<Inner>>,
    bell: Arc<Notify>,
    flaw: Flaw,
}

#[derive(Default)]
struct Inner {
    /// Batches so far.
    batches: u64,
    hold_at: Option<u64>,
    held: Option<oneshot::Sender<()>>,
    fault_at: Option<(u64, Fault)>,
    struck: Option<Fault>,
    /// What is durable of this process's entries, by index.
    written: Vec<(u64, Entry)>,
    open: BTreeSet<u64>,
}

impl Disk {
    pub(crate) fn under(store: Store, bell: Arc<Notify>, flaw: Flaw) -> Self {
        Self { store, inner: Arc::default(), bell, flaw }
    }

    /// Holds the next batch but `after` until it is let go.
    pub(crate) fn hold(&self, after: u64) {
        let mut inner = self.inner.lock().unwrap();
        inner.hold_at = Some(inner.batches + after);
    }

    pub(crate) fn holds(&self) -> bool {
        self.inner.lock().unwrap().held.is_some()
    }

    /// Lets go what is held, and holds nothing more.
    pub(crate) fn let_go(&self) {
        let mut inner = self.inner.lock().unwrap();
        inner.hold_at = None;
        inner.held = None;
    }

    /// Has something happen to the next batch but `after`.
    pub(crate) fn strike(&self, fault: Fault, after: u64) {
        let mut inner = self.inner.lock().unwrap();
        inner.fault_at = Some((inner.batches + after, fault));
    }

    pub(crate) fn spare(&self) {
        self.inner.lock().unwrap().fault_at = None;
    }

    /// What happened since this was last asked.
    pub(crate) fn struck(&self) -> Option<Fault> {
        self.inner.lock().unwrap().struck.take()
    }

    pub(crate) fn has_crashed(&self) -> bool {
        matches!(self.inner.lock().unwrap().struck, Some(Fault::CrashesBefore | Fault::CrashesAfter))
    }

    /// REQUESTs without an end.
    pub(crate) fn open(&self) -> usize {
        self.inner.lock().unwrap().open.len()
    }

    pub(crate) fn written(&self) -> Vec<(u64, Entry)> {
        self.inner.lock().unwrap().written.clone()
    }

    /// Notes that something happened; a crash is not survived.
    async fn befall(&self, fault: Fault) -> io::Error {
        self.inner.lock().unwrap().struck = Some(fault);
        self.bell.notify_one();
        if matches!(fault, Fault::CrashesBefore | Fault::CrashesAfter) {
            return std::future::pending().await;
        }
        failed(format!("{fault:?}"))
    }
}

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::other(error)
}

impl Storage for Disk {
    type Effect = Effect;
    type Rejection = Rejection;
    type Error = io::Error;
    type Turn = <Store as Storage>::Turn;

    async fn head(&self) -> io::Result<Option<Head>> {
        self.store.head().await.map_err(failed)
    }

    async fn tiles(&self, ids: &[TileId]) -> io::Result<TileSet> {
        self.store.tiles(ids).await.map_err(failed)
    }

    async fn entries(&self, from: u64, limit: u32) -> io::Result<Vec<StoredEntry>> {
        self.store.entries(from, limit).await.map_err(failed)
    }

    async fn turn(&self, known: Option<u64>) -> io::Result<(Self::Turn, Standing)> {
        self.store.turn(known).await.map_err(failed)
    }

    async fn commit(&self, turn: Self::Turn, batch: &Batch<Effect>) -> io::Result<Vec<(usize, Rejection)>> {
        let (number, gate, fault) = {
            let mut inner = self.inner.lock().unwrap();
            let number = inner.batches;
            inner.batches += 1;
            let fault = inner.fault_at.take_if(|(at, _)| *at <= number).map(|(_, fault)| fault);
            let gate = inner.hold_at.take_if(|at| *at <= number).map(|_| {
                let (open, opened) = oneshot::channel();
                inner.held = Some(open);
                opened
            });
            (number, gate, fault)
        };
        if let Some(gate) = gate {
            self.bell.notify_one();
            let _: Result<(), _> = gate.await;
        }
        if let Some(fault @ (Fault::FailsBefore | Fault::CrashesBefore)) = fault {
            return Err(self.befall(fault).await);
        }
        if self.flaw == Flaw::DiskLies && number == 11 {
            return Ok(Vec::new());
        }
        let rejections = self.store.commit(turn, batch).await.map_err(failed)?;
        if rejections.is_empty() {
            let mut inner = self.inner.lock().unwrap();
            for (index, leaf) in (batch.first_index..).zip(&batch.leaves) {
                let entry = Entry::from_json(&leaf.entry).unwrap();
                if entry.phase == Phase::Request {
                    inner.open.insert(index);
                } else if let Some(request) = entry.request_index {
                    inner.open.remove(&request);
                }
                inner.written.push((index, entry));
            }
        }
        self.bell.notify_one();
        match fault {
            Some(fault) if rejections.is_empty() => Err(self.befall(fault).await),
            _ => Ok(rejections),
        }
    }

    fn is_own(&self, entry: &Entry) -> bool {
        self.store.is_own(entry)
    }

    fn look_every(&self) -> Option<Duration> {
        self.store.look_every()
    }

    fn release(&self, orphan: &Orphan) -> Vec<Effect> {
        self.store.release(orphan)
    }
}
