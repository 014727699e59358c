//! One run: a gateway, its agencies and the network between them, stepped by operations, one at a time, and compared with
//! the model after each. Nothing here depends on when a task or the database's thread gets its turn.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use legal_aid_gateway::access::Directory;
use legal_aid_gateway::audit::entry::{Entry, Phase};
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::delivery::courier;
use legal_aid_gateway::store::{ExchangeFilter, OutboxFilter, Store};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use uuid::Uuid;

use super::calls::Call;
use super::campaign::Seen;
use super::flaw::Flaw;
use super::gateway::{FILES, Gateway};
use super::model::Model;
use super::network::Network;
use super::op::Op;
use super::parties::{Party, directory};

/// What was found, in words.
pub(crate) type Held<T = ()> = Result<T, String>;

/// Beyond any that a run needs: then something waits for what never comes.
const STUCK: Duration = Duration::from_secs(30);

/// A run.
pub(crate) struct World {
    seed: u64,
    pub(super) flaw: Flaw,
    /// Goes with the run.
    pub(super) folder: tempfile::TempDir,
    processes: u32,
    runtime: Option<Arc<Runtime>>,
    gateway: Option<Gateway>,
    pub(super) clock: Clock,
    pub(super) push: Vec<Party>,
    pub(super) directory: Arc<ArcSwap<Directory>>,
    pub(super) network: Network,
    /// What may be the case: more than one where a caller was not answered and nothing shows which.
    pub(super) models: Vec<Model>,
    pub(super) calls: Vec<Call>,
    pub(super) attempts: Vec<Attempt>,
    pub(super) answers: Vec<Answered>,
    /// Entries of the processes that have ended, by index.
    entries: BTreeMap<u64, Entry>,
    pub(super) checkpoints: Vec<String>,
    requests: u64,
    /// What was done and came of it, without what differs from run to run.
    pub(crate) trace: Vec<String>,
}

/// An attempt whose delivery the network keeps.
pub(super) struct Attempt {
    pub(super) parcel: usize,
    pub(super) number: u32,
    pub(super) delivery: String,
    pub(super) doing: Doing<courier::Attempt>,
}

/// What somebody was told.
pub(crate) struct Answered {
    pub(crate) entry: u64,
    pub(crate) request_id: Uuid,
    /// Of a refusal.
    pub(crate) reason: Option<String>,
}

/// What runs beside the run's own task.
#[derive(Clone)]
pub(super) struct Doing<T>(Arc<Mutex<Option<T>>>);

impl<T: Send + 'static> Doing<T> {
    fn begin(
        bell: &Arc<Notify>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> (Self, tokio::task::AbortHandle) {
        let (done, bell) = (Self(Arc::default()), Arc::clone(bell));
        let told = Self(Arc::clone(&done.0));
        let task = tokio::spawn(async move {
            let value = work.await;
            *told.0.lock().unwrap() = Some(value);
            bell.notify_one();
        });
        (done, task.abort_handle())
    }

    pub(super) fn is_done(&self) -> bool {
        self.0.lock().unwrap().is_some()
    }

    pub(super) fn take(&self) -> Option<T> {
        self.0.lock().unwrap().take()
    }
}

/// Whether the process has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Process {
    Runs,
    Crashed { skew: i8, kept: u8 },
}

impl World {
    /// Begins at ten o'clock on a Monday in Shanghai.
    pub(crate) fn begin(seed: u64, flaw: Flaw) -> Self {
        let shared_memory = PathBuf::from("/dev/shm");
        let place = if shared_memory.is_dir() { shared_memory } else { std::env::temp_dir() };
        let push = vec![Party::Court, Party::SecondCourt];
        Self {
            seed,
            flaw,
            folder: tempfile::Builder::new().prefix("simulation-").tempdir_in(place).unwrap(),
            processes: 0,
            runtime: None,
            gateway: None,
            clock: Clock::moved_by_hand("2026-11-02T02:00:00Z".parse().unwrap()),
            directory: Arc::new(ArcSwap::from_pointee(directory(&push))),
            push,
            network: Network::new(flaw),
            models: vec![Model::default()],
            calls: Vec::new(),
            attempts: Vec::new(),
            answers: Vec::new(),
            entries: BTreeMap::new(),
            checkpoints: Vec::new(),
            requests: 0,
            trace: Vec::new(),
        }
    }

    /// Does everything in its order, then heals the network and looks at what is left.
    pub(crate) fn run(&mut self, operations: &[Op]) -> Held {
        self.start()?;
        for (place, op) in operations.iter().enumerate() {
            let said = |broken| format!("after operation {place}, {op:?}: {broken}");
            let runtime = self.runtime();
            if let Process::Crashed { skew, kept } = runtime.block_on(self.step(*op)).map_err(said)? {
                drop(runtime);
                self.crash(skew, kept).map_err(said)?;
            }
            self.runtime().block_on(self.compare()).map_err(said)?;
            self.trace.push(format!("{op:?}: {}", self.models[0].outline()));
            // Ids of one moment have no order; those of two have.
            self.clock.advance(Duration::from_millis(2));
        }
        self.end()
    }

    fn end(&mut self) -> Held {
        let runtime = self.runtime();
        runtime.block_on(self.heal()).map_err(|broken| format!("after the network healed: {broken}"))?;
        let gateway = self.gateway.take().unwrap();
        runtime.block_on(gateway.stop());
        runtime.block_on(self.check_log())
    }

    fn runtime(&self) -> Arc<Runtime> {
        Arc::clone(self.runtime.as_ref().unwrap())
    }

    /// Where this process keeps its files.
    pub(super) fn place(&self) -> PathBuf {
        self.folder.path().join(self.processes.to_string())
    }

    fn start(&mut self) -> Held {
        std::fs::create_dir_all(self.place()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let place = self.place();
        let gateway = Gateway::start(&place, &self.clock, &self.directory, &self.network, self.flaw);
        self.gateway = Some(runtime.block_on(gateway)?);
        self.runtime = Some(Arc::new(runtime));
        Ok(())
    }

    /// The process ends where it stands; the next begins on a copy of its files as they are now, at a time that may be a
    /// little off.
    fn crash(&mut self, skew: i8, kept: u8) -> Held {
        self.keep_entries();
        let before = self.place();
        self.processes += 1;
        std::fs::create_dir_all(self.place()).unwrap();
        for file in FILES {
            if before.join(file).exists() {
                std::fs::copy(before.join(file), self.place().join(file)).unwrap();
            }
        }
        self.gateway = None;
        self.attempts.clear();
        self.runtime = None;
        std::fs::remove_dir_all(before).unwrap();
        self.network.orphaned(kept)?;
        let now = self.clock.now().checked_add(jiff::SignedDuration::from_secs(skew.into())).unwrap();
        self.clock = Clock::moved_by_hand(now);
        self.start()?;
        for model in &mut self.models {
            model.restart(&self.push, now);
        }
        Ok(())
    }

    pub(super) fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().unwrap()
    }

    pub(super) fn store(&self) -> &Store {
        &self.gateway().store
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn request_id(&mut self) -> Uuid {
        self.requests += 1;
        Uuid::from_u64_pair(self.seed | 1 << 63, self.requests)
    }

    /// Waits until something is so, or the process has ended.
    pub(super) async fn until(&self, mut is_so: impl FnMut() -> bool) -> Held {
        let disk = &self.gateway().disk;
        let waiting = async {
            while !is_so() && !disk.has_crashed() {
                self.network.bell.notified().await;
            }
        };
        tokio::time::timeout(STUCK, waiting).await.map_err(|_| "nothing moves any more".to_owned())
    }

    pub(super) fn begin_work<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> (Doing<T>, tokio::task::AbortHandle) {
        Doing::begin(&self.network.bell, work)
    }

    /// Everything that is stored is what the model says, and the agencies' books agree.
    pub(super) async fn compare(&mut self) -> Held {
        let store = self.store();
        let centre = Party::Centre.code();
        let threads = store.exchanges(&centre, &ExchangeFilter::default(), 1000).await.unwrap();
        let mut parcels = Vec::new();
        for state in [None, Some(legal_aid_gateway::domain::exchange::DeliveryState::Delivered)] {
            let filter = OutboxFilter { state, recipient: None, created_before: Timestamp::MAX, after: None };
            parcels.extend(store.outbox(&filter, 1000).await.unwrap());
        }
        let mut fit = Vec::new();
        let mut broken = String::new();
        for mut model in std::mem::take(&mut self.models) {
            match model.meet(&threads, &parcels) {
                Ok(()) => fit.push(model),
                Err(differs) => broken = differs,
            }
        }
        self.replace_models(fit, || broken)?;
        self.checkpoints.push(self.gateway().log.head().checkpoint.to_string());
        if let Some(broken) = self.network.broken() {
            return Err(broken);
        }
        self.check_books()
    }

    /// Keeps what the process that ends has written.
    pub(super) fn keep_entries(&mut self) {
        self.entries.extend(self.gateway().disk.written());
    }

    /// What stands in the log, and how often.
    pub(crate) fn seen(&self) -> Seen {
        let mut seen = Seen::new();
        for entry in self.entries.values() {
            let what = match (&entry.reason, entry.phase) {
                (Some(reason), _) => reason.clone(),
                (None, Phase::Request) => continue,
                (None, _) => entry.method.clone(),
            };
            *seen.entry(what.into_owned()).or_default() += 1;
        }
        seen
    }

    pub(super) fn entries(&self) -> &BTreeMap<u64, Entry> {
        &self.entries
    }
}
