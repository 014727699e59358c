//! The composition root: the only place that knows every part. Start, reload, drain.

mod admission;
mod adopter;
mod agreements;
mod certificates;
mod checkpoint_file;
mod files;
mod handles;
mod housekeeper;
mod indexer;
mod key_ledger;
mod metrics;
mod outbox;
mod readiness;
mod reload;
mod remover;
mod rollback;
mod routes;
mod secrets;
mod settings;
mod start_error;
mod tiles;
mod witnesses;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use self::admission::{Admission, ShownOut};
use self::adopter::Adopter;
pub use self::agreements::AgreementsError;
use self::agreements::Intaking;
use self::certificates::InForce;
pub use self::files::read_clocks;
use self::files::{read_credentials, read_directory, read_rules};
use self::key_ledger::KeyLedger;
pub use self::key_ledger::RotationError;
pub use self::reload::ReloadError;
use self::reload::{Refused, Reload, watched_files};
use self::remover::Remover;
use self::routes::routes;
pub use self::secrets::{SecretError, Secrets, read_pseudonym_keys, read_ring};
use self::settings::{acceptor_limits, call_limits, http_limits, patience, schedule, upstream_limits};
pub use self::start_error::StartError;
use self::tiles::Tiles;
use self::witnesses::Witnesses;
pub use self::witnesses::WitnessesError;
use crate::access::Agreements;
use crate::audit::log;
use crate::audit::note::VerifyingKey;
use crate::clock::Clock;
use crate::config::Config;
use crate::delivery::courier::{Courier, fair_dice};
use crate::delivery::enquirer::Enquirer;
use crate::delivery::peers::Peers;
use crate::delivery::timer::Timer;
use crate::fault;
use crate::grpc::{AgreementBook, AttachmentLimits, FindingRules, Front, Intake, Paces, Turns, call_counts};
use crate::identity::acceptor::Acceptor;
use crate::identity::dialler::Dialler;
use crate::identity::server::{Drained, serve};
use crate::store::{AuditLog, DatabaseLock, Room, Sealer, SearchIndex, Standby, Store};
use crate::telemetry::{Attempts, Traces};
use crate::witness::Witness;

/// A gateway that serves.
pub struct Gateway {
    address: SocketAddr,
    log: AuditLog,
    log_key: VerifyingKey,
    config: Config,
    reload: Arc<Reload>,
    watcher: JoinHandle<()>,
    stop: watch::Sender<bool>,
    server: JoinHandle<Drained>,
    courier: JoinHandle<()>,
    enquirer: JoinHandle<()>,
    timer: JoinHandle<()>,
    remover: JoinHandle<()>,
    indexer: JoinHandle<()>,
    metrics: Option<Metrics>,
    traces: Traces,
    tiles: Option<Tiles>,
    readiness: JoinHandle<()>,
    housekeeper: JoinHandle<()>,
    adopter: JoinHandle<()>,
    follower: JoinHandle<()>,
    agreement_follower: JoinHandle<()>,
    witnesses: JoinHandle<()>,
    /// Witness of others.
    witness: Option<Witness>,
    writer: JoinHandle<()>,
    store: Store,
    lock: DatabaseLock,
}

/// What serves metrics.
struct Metrics {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Gateway {
    /// Starts a gateway; when this returns, it serves.
    ///
    /// # Errors
    /// Whatever is wrong with its configuration, keys, database or log, before the first byte is served.
    pub async fn start(config: Config, clock: Clock) -> Result<Self, StartError> {
        let files = watched_files(&config);
        let (credentials, own) = read_credentials(&config)?;
        let (agency, in_force) = (own.agency, InForce::new(&credentials, own, config.tls.warn_before_days));
        let in_force = Arc::new(in_force);
        if config.gateway.development {
            tracing::warn!(
                "development mode: certificates of development authorities are believed; never with real data"
            );
        }
        let secrets = Secrets::load(&config.keys)?;
        let log_key = secrets.log.verifying_key().clone();
        let file = read_directory(&config)?;
        let directory = Arc::new(ArcSwap::from_pointee(file.with_agreements(Agreements::default())));
        let rules = Arc::new(ArcSwap::from_pointee(read_rules(&config)?));
        let clocks = Arc::new(read_clocks(&config)?);
        let traces = match &config.traces {
            Some(section) => Traces::to(&section.endpoint, &config.gateway.node)?,
            None => Traces::default(),
        };
        let lock = DatabaseLock::take(&config.store.database, &config.gateway.node).await?;
        // Before anything is written: a gateway that cannot listen leaves the log as it is.
        let address = config.gateway.listen;
        let (listener, address) = listen(address).await?;
        let metrics = match config.metrics.listen {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let tiles = match config.audit.tiles.listen {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let witness = match &config.witness {
            Some(section) => Some(Witness::start(section, &credentials, clock.clone()).await?),
            None => None,
        };

        let sealer = Sealer::of(&secrets.body);
        let store = Store::open(&config.store.database, sealer.clone()).await?;
        let store = store.with_clocks(Arc::clone(&clocks)).join(&config.gateway.node).await?;
        fault::end_point("start.joined");
        let dialler =
            Dialler::new(&credentials, clock.clone()).gathering().enrolled_in(Arc::clone(&directory));
        let accepted = rollback::accept(&config.audit, &store).await?;
        let settings = &config.audit.witnesses;
        let witnesses = Witnesses::prepare(settings, &log_key, &dialler, &store, &clock).await?;
        if accepted.is_none() {
            witnesses.ask_before_start(&secrets.log).await?;
        }
        let known = match &config.audit.checkpoint {
            Some(path) => checkpoint_file::read(path)
                .map_err(|source| StartError::Unreadable { path: path.clone(), source })?,
            None => None,
        };
        let known = rollback::newest_known(known, witnesses.newest_cosigned(), &log_key);
        let opened = log::open(
            Arc::new(store.clone()),
            secrets.log,
            clock.clone(),
            config.audit.queue,
            known.as_deref(),
        )
        .await?;
        if let Some(stored) = accepted {
            rollback::confess(&opened.log, &clock, &config.gateway.node, stored).await;
        }
        witnesses.take_stock(&opened.log).await;

        fault::end_point("start.checked");
        let ledger = KeyLedger {
            store: store.clone(),
            log: opened.log.clone(),
            clock: clock.clone(),
            node: config.gateway.node.clone(),
            own: agency,
        };
        ledger.begin_with_bodies(&secrets.body).await?;
        let pseudonyms = ledger.begin_with_pseudonyms(&secrets.pseudonym).await?;
        let intaking = Intaking {
            store: store.clone(),
            log: opened.log.clone(),
            clock: clock.clone(),
            node: config.gateway.node.clone(),
            own: agency,
            two_person: config.agreements.two_person,
        };
        intaking.take_in(intaking.compare(file.agreements()).await?).await?;
        let book = AgreementBook::new(store.clone(), Arc::clone(&directory), config.agreements.two_person);
        book.read_again().await?;
        outbox::release_leases(&store, &directory.load(), &config.gateway.node, clock.now()).await?;
        fault::end_point("start.released");
        let outbox = Arc::new(Notify::new());
        let (stop, stopped) = watch::channel(false);
        let peers = Peers::new(dialler.clone()).traced(traces.clone()).limited(upstream_limits(&config));
        let standby = config.store.standby().map(Standby::at).transpose()?;
        let index = SearchIndex::reading_from(config.store.search_index(), store.clone(), standby);
        let intake = Arc::new(Intake {
            store: store.clone(),
            index: index.clone(),
            log: opened.log.clone(),
            directory: Arc::clone(&directory),
            agreements: book.clone(),
            peers: peers.clone(),
            rules: Arc::clone(&rules),
            clocks: Arc::clone(&clocks),
            clock: clock.clone(),
            pseudonyms: pseudonyms.clone(),
            node: config.gateway.node.clone(),
            lease: config.delivery.lease,
            ask_again_after: config.verification.first_retry,
            turns: Turns::default(),
            paces: Paces::default(),
            outbox: Arc::clone(&outbox),
            stopping: stopped.clone(),
            heartbeat: config.limits.heartbeat,
            witnesses: witnesses.standing(),
            attachments: AttachmentLimits {
                most_bytes: config.attachments.most_bytes,
                room: Room {
                    attachments: config.attachments.most_per_agency,
                    bytes: config.attachments.most_bytes_per_agency,
                },
            },
            findings: FindingRules::new(config.findings.settings.clone()),
        });
        let enquirer = Enquirer {
            store: store.clone(),
            log: opened.log.clone(),
            directory: Arc::clone(&directory),
            peers: peers.clone(),
            clock: clock.clone(),
            pseudonyms: pseudonyms.clone(),
            node: config.gateway.node.clone(),
            outbox: Arc::clone(&outbox),
            patience: patience(&config),
        };
        let admission = Admission {
            directory: Arc::clone(&directory),
            log: opened.log.clone(),
            in_force: Arc::clone(&in_force),
            clock: clock.clone(),
            node: config.gateway.node.clone(),
            shown_out: ShownOut::default(),
            stopping: stopped.clone(),
        };
        let acceptor =
            Acceptor::new(&credentials, Arc::new(admission), acceptor_limits(&config), clock.clone());
        let (calls, attempts) = (Arc::new(call_counts()), Arc::<Attempts>::default());
        let (routes, health) = routes(&intake, &config);
        let (told, obstacle) = watch::channel(None);
        readiness::tell(&health, None).await;
        let readiness = readiness::keep(health, store.clone(), witnesses.standing(), told, stopped.clone());
        let service = Front::new(routes, Arc::clone(&intake), call_limits(&config), Arc::clone(&calls));
        let server =
            serve(listener, acceptor.clone(), service, http_limits(&config), until_stopped(stopped.clone()));
        let courier = Courier {
            store: store.clone(),
            log: opened.log.clone(),
            directory: Arc::clone(&directory),
            inboxes: peers.clone(),
            clock: clock.clone(),
            node: config.gateway.node.clone(),
            own: Arc::clone(&in_force.own),
            outbox: Arc::clone(&outbox),
            schedule: schedule(&config),
            dice: fair_dice,
            attempts: Arc::clone(&attempts),
            traces: traces.clone(),
        };
        let timer = Timer {
            store: store.clone(),
            log: opened.log.clone(),
            clocks,
            clock: clock.clone(),
            node: config.gateway.node.clone(),
            own: agency,
            outbox,
        };
        let remover = Remover {
            store: store.clone(),
            log: opened.log.clone(),
            clock: clock.clone(),
            node: config.gateway.node.clone(),
            retention: config.retention.clone(),
            standing: witnesses.standing(),
        };
        let refused_files = Arc::<Refused>::default();
        let metrics = metrics.map(|(listener, address)| {
            let sources = metrics::Sources {
                store: store.clone(),
                log: opened.log.clone(),
                clock: clock.clone(),
                calls,
                attempts,
                breakers: peers.breakers().clone(),
                lease: config.delivery.lease,
                in_force: Arc::clone(&in_force),
                refused_files: Arc::clone(&refused_files),
                agreements: book.clone(),
                obstacle,
                witnesses: witnesses.standing(),
                front_door: Arc::clone(acceptor.counters()),
            };
            Metrics { address, server: in_background(metrics::serve(listener, sources)) }
        });
        let tiles = tiles.map(|bound| {
            Tiles::start(bound, &acceptor, Arc::clone(&intake), &config, until_stopped(stopped.clone()))
        });
        let witnesses = witnesses.follow(opened.log.clone(), until_stopped(stopped.clone()));
        let adopter = Adopter {
            store: store.clone(),
            log: opened.log.clone(),
            clock: clock.clone(),
            database: config.store.database.clone(),
        };
        let follower =
            adopter::tell_followers(store.clone(), opened.log.clone(), until_stopped(stopped.clone()));
        let reload = Arc::new(Reload {
            config: config.clone(),
            clock: clock.clone(),
            directory,
            intaking,
            agreements: book.clone(),
            rules,
            acceptors: witness.iter().map(Witness::acceptor).chain([&acceptor]).cloned().collect(),
            dialler,
            peers,
            in_force,
            ledger,
            body_keys: Mutex::new(secrets.body),
            sealer,
            pseudonym_keys: Mutex::new(secrets.pseudonym),
            pseudonyms,
            refused: refused_files,
            turn: tokio::sync::Mutex::default(),
        });
        let watcher = Arc::clone(&reload).watch(files, until_stopped(stopped.clone()));
        let housekeeper = housekeeper::keep_house(
            opened.log.clone(),
            store.clone(),
            clock,
            config.audit.checkpoint.clone(),
            config.limits.keep_outcomes,
            config.attachments.keep_unfinished,
            until_stopped(stopped.clone()),
        );
        let indexer = indexer::spawn(index, &opened.log, until_stopped(stopped.clone()));
        Ok(Self {
            address,
            log: opened.log,
            log_key,
            agreement_follower: in_background(agreements::follow(book, until_stopped(stopped.clone()))),
            reload,
            watcher: in_background(watcher),
            stop,
            server: in_background(server),
            courier: in_background(courier.run(until_stopped(stopped.clone()))),
            enquirer: in_background(enquirer.run(until_stopped(stopped.clone()))),
            timer: in_background(timer.run(until_stopped(stopped.clone()))),
            remover: in_background(remover.run(until_stopped(stopped.clone()))),
            adopter: in_background(adopter.run(until_stopped(stopped))),
            follower: in_background(follower),
            indexer,
            metrics,
            traces,
            tiles,
            readiness: in_background(readiness),
            housekeeper: in_background(housekeeper),
            witnesses: in_background(witnesses),
            witness,
            writer: opened.writer,
            store,
            lock,
            config,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it answers `GET /metrics`, if it does.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|metrics| metrics.address)
    }

    /// Where it serves the published log, if it does.
    pub fn tiles_address(&self) -> Option<SocketAddr> {
        self.tiles.as_ref().map(|tiles| tiles.address)
    }

    /// Where it cosigns other parties' logs, if it does.
    pub fn witness_address(&self) -> Option<SocketAddr> {
        self.witness.as_ref().map(Witness::address)
    }

    /// The key that verifies its log.
    pub fn log_key(&self) -> &VerifyingKey {
        &self.log_key
    }

    /// The newest signed checkpoint.
    pub fn checkpoint(&self) -> String {
        self.log.head().checkpoint.to_string()
    }

    /// Reads certificates, revocation lists, agencies, agreements and rule sets again; the gateway does so by itself with
    /// all but the rules when their files change. Whose certificate or agency is not let in any more is shown out, new
    /// connections use the new certificates, and each call asks the directory and the rules anyway. Agreements that are new, or
    /// of a higher version, are taken into the database.
    ///
    /// # Errors
    /// When files cannot be read or contradict themselves, or the agreements cannot be taken in; those that were read before
    /// stay in force.
    pub async fn reload(&self) -> Result<(), ReloadError> {
        self.reload.all().await
    }

    /// Returns when a part of the gateway that must not end has ended: it is better to stop and be started again
    /// than to look alive.
    pub async fn failed(&mut self) -> &'static str {
        tokio::select! {
            _ = &mut self.server => "the server",
            _ = &mut self.courier => "the courier",
            _ = &mut self.enquirer => "the enquirer",
            _ = &mut self.timer => "the timer",
            () = Tiles::ended(&mut self.tiles) => "the published log's server",
            _ = &mut self.remover => "the remover",
            _ = &mut self.watcher => "the task that reads changed files",
            _ = &mut self.housekeeper => "the housekeeper",
            _ = &mut self.adopter => "the task that closes for others",
            _ = &mut self.follower => "the task that tells followers",
            _ = &mut self.agreement_follower => "the task that follows the agreements",
            _ = &mut self.witnesses => "the task that follows the witnesses",
            () = ended(&mut self.witness) => "the witness",
            _ = &mut self.writer => "the audit log's writer",
            error = self.lock.lost(&self.store) => {
                tracing::error!(%error, "this gateway has lost its place");
                "the node's place on the database"
            }
        }
    }

    /// Stops in order: no new calls; those in progress, and the courier's attempts, to their end within the drain
    /// limit; then the log and the database. What the limit cuts off is found and ended at the next start.
    pub async fn stop(self) -> Drained {
        self.stop.send_replace(true);
        fault::end_point("drain.begun");
        let drain = self.config.limits.drain;
        if let Some(tiles) = self.tiles {
            tiles.drained().await;
        }
        let within = |task| tokio::time::timeout(drain, task);
        let (drained, ..) = tokio::join!(
            self.server,
            within(self.courier),
            within(self.enquirer),
            within(self.timer),
            within(self.remover),
            within(self.indexer)
        );
        let drained = drained.unwrap_or(Drained { finished: 0, aborted: 0 });
        if let Some(metrics) = self.metrics {
            metrics.server.abort();
            let _ = metrics.server.await;
        }
        let _ = self.readiness.await;
        let _ = self.housekeeper.await;
        let _ = within(self.adopter).await;
        let _ = within(self.follower).await;
        let _ = self.agreement_follower.await;
        let _ = self.witnesses.await;
        if let Some(witness) = self.witness {
            witness.stop().await;
        }
        fault::end_point("drain.finished");
        // Its admission policy holds the log; the writer ends with the log's last holder.
        let _ = within(self.watcher).await;
        drop((self.reload, self.log));
        // Calls that were aborted may hold the log for a moment longer.
        let _ = tokio::time::timeout(drain, self.writer).await;
        self.store.close().await;
        fault::end_point("drain.closed");
        self.traces.stop().await;
        drop(self.lock);
        drained
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Returns when the witness has ended; never without one.
async fn ended(witness: &mut Option<Witness>) {
    match witness {
        Some(witness) => witness.failed().await,
        None => std::future::pending().await,
    }
}

/// Starts what runs beside the calls. (As one type, so that the runtime's part of a task is not compiled for each.)
fn in_background<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let work: Pin<Box<dyn Future<Output = T> + Send>> = Box::pin(work);
    tokio::spawn(work)
}

async fn until_stopped(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
