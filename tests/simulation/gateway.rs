//! The gateway's real parts in this process, without sockets: store, log, front door behind TLS, couriers, timer.

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use legal_aid_gateway::access::Directory;
use legal_aid_gateway::audit::entry::PseudonymKey;
use legal_aid_gateway::audit::log as audit_log;
use legal_aid_gateway::audit::note::SigningKey;
use legal_aid_gateway::audit::witnessed::Standing;
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::delivery::courier::{Courier, Schedule};
use legal_aid_gateway::delivery::peers::Peers;
use legal_aid_gateway::delivery::timer::Timer;
use legal_aid_gateway::domain::agency::CreditCode;
use legal_aid_gateway::domain::clocks::Clocks;
use legal_aid_gateway::domain::eligibility::RuleSets;
use legal_aid_gateway::domain::findings::Settings;
use legal_aid_gateway::grpc::proto::exchange_service_client::ExchangeServiceClient;
use legal_aid_gateway::grpc::proto::exchange_service_server::ExchangeServiceServer;
use legal_aid_gateway::grpc::{
    AgreementBook, AttachmentLimits, CallLimits, Exchanges, FindingRules, Front, Intake, Paces, Turns,
    call_counts,
};
use legal_aid_gateway::identity::certificate::PeerCertificate;
use legal_aid_gateway::identity::credentials::Credentials;
use legal_aid_gateway::identity::development::DevelopmentAuthority;
use legal_aid_gateway::identity::dialler::Dialler;
use legal_aid_gateway::identity::server::Peer;
use legal_aid_gateway::setup::codes;
use legal_aid_gateway::store::{AuditLog, Room, Sealer, SearchIndex, Store};
use legal_aid_gateway::telemetry::Traces;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tonic::body::Body;
use tower::Service;

use super::disk::Disk;
use super::flaw::Flaw;
use super::network::Network;

/// The couriers' terms. The attempt's own time is the network's to keep.
pub(crate) const SCHEDULE: Schedule = Schedule {
    attempt: Duration::from_secs(10),
    lease: Duration::from_secs(30),
    first_retry: Duration::from_secs(5),
    longest_retry: Duration::from_secs(900),
    give_up_after: Duration::from_secs(48 * 3_600),
    per_recipient: 4,
};

/// What the couriers throw.
pub(crate) const DICE: u8 = 200;

/// A caller's time; no run takes so long, so that no call ends for want of it.
const DEADLINE: Duration = Duration::from_secs(3_600);

/// The database of a run, in a folder; the one place that says what kind of store it is.
pub(crate) async fn store(folder: &Path) -> Store {
    Store::open(&folder.join("gateway.db"), Sealer::new(&[5; 32])).await.unwrap()
}

/// The files of [`store`] as a sudden end of the process leaves them.
pub(crate) const FILES: [&str; 2] = ["gateway.db", "gateway.db-wal"];

/// The log's key.
pub(crate) fn log_key() -> SigningKey {
    SigningKey::from_seed("log.example/simulation", &[3; 32]).unwrap()
}

/// A process of the gateway.
pub(crate) struct Gateway {
    pub(crate) store: Store,
    pub(crate) log: AuditLog,
    pub(crate) disk: Disk,
    pub(crate) couriers: [Courier<Network>; 2],
    pub(crate) timer: Timer,
    front: Front<ExchangeServiceServer<Exchanges>>,
    writer: JoinHandle<()>,
    _stop: watch::Sender<bool>,
    _standing: watch::Sender<Standing>,
}

impl Gateway {
    /// Starts as the real one does.
    pub(crate) async fn start(
        folder: &Path,
        clock: &Clock,
        directory: &Arc<ArcSwap<Directory>>,
        network: &Network,
        flaw: Flaw,
    ) -> Result<Self, String> {
        let clocks = Arc::new(Clocks::built_in().unwrap());
        let store = store(folder).await.with_clocks(Arc::clone(&clocks));
        let disk = Disk::under(store.clone(), Arc::clone(&network.bell), flaw);
        let opened = audit_log::open(Arc::new(disk.clone()), log_key(), clock.clone(), 1024, None).await;
        let opened = opened.map_err(|error| format!("the log does not open: {error}"))?;
        let with_inbox = directory.load();
        let with_inbox = with_inbox.agencies().filter(|agency| agency.endpoint.is_some());
        let inboxes: Vec<_> = with_inbox.map(|agency| agency.code).collect();
        let node = "simulated".to_owned();
        store.release_leases(&inboxes, &node, clock.now()).await.unwrap();

        let (stop, stopping) = watch::channel(false);
        let (standing, witnesses) = watch::channel(Standing::default());
        let courier = || Courier {
            store: store.clone(),
            log: opened.log.clone(),
            directory: Arc::clone(directory),
            inboxes: network.clone(),
            clock: clock.clone(),
            node: node.clone(),
            own: Arc::new(ArcSwap::from_pointee(certificate(organ()))),
            outbox: Arc::new(Notify::new()),
            schedule: SCHEDULE,
            dice: || DICE,
            attempts: Arc::default(),
            traces: Traces::default(),
        };
        let couriers = [courier(), courier()];
        let timer = Timer {
            store: store.clone(),
            log: opened.log.clone(),
            clocks: Arc::clone(&clocks),
            clock: clock.clone(),
            node: node.clone(),
            own: organ(),
            outbox: Arc::clone(&couriers[0].outbox),
        };
        let intake = Intake {
            store: store.clone(),
            index: SearchIndex::at(folder.join("gateway.db.index"), store.clone()),
            log: opened.log.clone(),
            directory: Arc::clone(directory),
            agreements: AgreementBook::new(store.clone(), Arc::clone(directory), false),
            peers: nobody(),
            rules: Arc::new(ArcSwap::from_pointee(RuleSets::load([]).unwrap())),
            clocks,
            clock: clock.clone(),
            pseudonyms: PseudonymKey::new([9; 32]),
            node,
            lease: SCHEDULE.lease,
            ask_again_after: Duration::from_secs(60),
            paces: Paces::default(),
            turns: Turns::default(),
            outbox: Arc::clone(&couriers[0].outbox),
            stopping,
            heartbeat: Duration::from_secs(30),
            witnesses,
            attachments: AttachmentLimits {
                most_bytes: 1 << 20,
                room: Room { attachments: 1, bytes: 1 << 20 },
            },
            findings: FindingRules::new(Settings::standard()),
        };
        let intake = Arc::new(intake);
        let limits = CallLimits {
            calls: 64,
            calls_per_agency: 64,
            default_deadline: DEADLINE,
            longest_deadline: DEADLINE,
            longest_stream: DEADLINE,
            stream_idle: DEADLINE,
            request_body: DEADLINE,
            message_bytes: 1 << 20,
            buffered_bytes: 1 << 26,
            buffered_bytes_per_agency: 1 << 25,
        };
        let methods = ExchangeServiceServer::new(Exchanges(Arc::clone(&intake)));
        let front = Front::new(methods, intake, limits, Arc::new(call_counts()));
        Ok(Self {
            store,
            log: opened.log,
            disk,
            couriers,
            timer,
            front,
            writer: opened.writer,
            _stop: stop,
            _standing: standing,
        })
    }

    /// The methods, as a verified certificate of this agency reaches them.
    pub(crate) fn client(&self, agency: CreditCode) -> ExchangeServiceClient<Line> {
        let peer = Peer {
            certificate: Arc::new(certificate(agency)),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        };
        ExchangeServiceClient::new(Line { front: self.front.clone(), peer })
    }

    /// Ends in order.
    pub(crate) async fn stop(self) {
        let Self { store, log, couriers, timer, front, writer, .. } = self;
        drop((log, couriers, timer, front));
        writer.await.unwrap();
        store.close().await;
    }
}

/// The line of one agency to the front door.
#[derive(Clone)]
pub(crate) struct Line {
    front: Front<ExchangeServiceServer<Exchanges>>,
    peer: Peer,
}

impl Service<http::Request<Body>> for Line {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.front.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        request.extensions_mut().insert(self.peer.clone());
        self.front.call(request)
    }
}

fn organ() -> CreditCode {
    CreditCode::parse(codes::GATEWAY).unwrap()
}

fn certificate(agency: CreditCode) -> PeerCertificate {
    PeerCertificate { agency, spki_sha256: [1; 32], not_after: Timestamp::MAX }
}

/// Peers that no method here dials.
fn nobody() -> Peers {
    static CREDENTIALS: OnceLock<Credentials> = OnceLock::new();
    let now = "2026-11-02T02:00:00Z".parse().unwrap();
    let credentials = CREDENTIALS.get_or_init(|| {
        let authority = DevelopmentAuthority::create("simulation", now).unwrap();
        let issued = authority.issue(organ(), "gateway", &[], now, Duration::from_secs(3_600)).unwrap();
        let [own, key, trusted] =
            [&issued.certificate_pem, &*issued.key_pem, authority.certificate_pem()].map(str::as_bytes);
        Credentials::from_pem(own, key, trusted).unwrap()
    });
    Peers::new(Dialler::new(credentials, Clock::moved_by_hand(now)))
}
