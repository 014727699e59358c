//! Serves metrics, and whether the gateway is ready, over plain HTTP: for a collector or a balancer on the same machine
//! or an inner network.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use super::certificates::InForce;
use super::readiness::Obstacle;
use super::reload::{Part, Refused};
use crate::audit::entry::Entry;
use crate::audit::log::Storage as _;
use crate::audit::witnessed::{Standing, WitnessStanding};
use crate::clock::Clock;
use crate::delivery::breaker::Breakers;
use crate::grpc::AgreementBook;
use crate::identity::acceptor::FrontDoorCounters;
use crate::identity::credentials::Ends;
use crate::store::{AuditLog, Store, StoreError};
use crate::telemetry::{Attempts, Calls, Family, Kind, Sample, exposition};

/// Connections at once; a collector needs one.
const CONNECTIONS: usize = 8;

/// Time for a request's head, and for a whole connection.
const HEAD: Duration = Duration::from_secs(5);
const CONNECTION: Duration = Duration::from_secs(15);

/// Wait after an error of `accept`, such as no file handles left.
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(200);

/// Where the figures come from.
#[derive(Clone)]
pub(super) struct Sources {
    pub(super) store: Store,
    pub(super) log: AuditLog,
    pub(super) clock: Clock,
    pub(super) calls: Arc<Calls>,
    pub(super) attempts: Arc<Attempts>,
    pub(super) breakers: Breakers,
    /// How long a lease lasts: with its end it tells its age.
    pub(super) lease: Duration,
    pub(super) in_force: Arc<InForce>,
    pub(super) refused_files: Arc<Refused>,
    pub(super) agreements: AgreementBook,
    pub(super) obstacle: watch::Receiver<Obstacle>,
    pub(super) witnesses: watch::Receiver<Standing>,
    pub(super) front_door: Arc<FrontDoorCounters>,
}

/// Answers `GET /metrics` and `GET /ready` until it is aborted: while the gateway drains, too.
pub(super) async fn serve(listener: TcpListener, sources: Sources) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(AFTER_ACCEPT_ERROR).await;
            continue;
        };
        // Who comes when all places are taken is let go: a collector comes again.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let sources = sources.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request| answer(sources.clone(), request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), answer);
            let _ = tokio::time::timeout(CONNECTION, connection).await;
            drop(place);
        });
    }
}

async fn answer(sources: Sources, request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => match sources.families().await {
            Ok(families) => (StatusCode::OK, exposition(&families)),
            Err(error) => {
                tracing::warn!(%error, "metrics cannot be read");
                (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n".to_owned())
            }
        },
        (&Method::GET, "/ready") => match *sources.obstacle.borrow() {
            None => (StatusCode::OK, "ready\n".to_owned()),
            Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        },
        _ => (StatusCode::NOT_FOUND, "only GET /metrics and GET /ready are answered here\n".to_owned()),
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

impl Sources {
    /// What is measured, as it is now.
    async fn families(&self) -> Result<Vec<Family>, StoreError> {
        let now = self.clock.now();
        let since = |at: Timestamp| now.duration_since(at).as_secs_f64().max(0.0);
        let overdue = self.store.overdue_counts().await?.into_iter().map(|count| {
            Sample::of(vec![("kind", count.kind), ("clock", count.clock)], count.exchanges as f64)
        });
        let outbox = self.store.outbox_figures().await?;
        let lease = self.lease.as_secs_f64();
        let lease_age = outbox.first_lease_ends.map(|ends| {
            let left = ends.duration_since(now).as_secs_f64();
            (lease - left).max(0.0)
        });
        let mut families = vec![
            Family {
                name: "legal_aid_exchanges_overdue",
                help: "Exchanges in which a clock of the law has come to its end, by kind and clock.",
                kind: Kind::Gauge,
                samples: overdue.collect(),
            },
            Family::gauge(
                "legal_aid_deliveries_open",
                "Deliveries that are neither delivered nor given up, pushed or pulled.",
                outbox.open as f64,
            ),
            Family::gauge(
                "legal_aid_delivery_oldest_seconds",
                "Age of the oldest of them; no value when there is none.",
                outbox.oldest.map(since),
            ),
            Family::gauge(
                "legal_aid_deliveries_dead",
                "Deliveries that were given up and that nobody has had made again.",
                outbox.dead as f64,
            ),
            Family::gauge(
                "legal_aid_delivery_leases",
                "Deliveries on their way: in an attempt, or pulled and not acknowledged.",
                outbox.leased as f64,
            ),
            Family::gauge(
                "legal_aid_delivery_lease_oldest_seconds",
                "Age of the oldest lease; longer than delivery.lease means that nobody takes it over.",
                lease_age,
            ),
            Family::gauge(
                "legal_aid_log_queue_entries",
                "Audit entries that wait for the log's writer.",
                self.log.waiting() as f64,
            ),
            Family::gauge(
                "legal_aid_log_entries",
                "Audit entries under the newest signed checkpoint.",
                self.log.head().size as f64,
            ),
            Family::gauge(
                "legal_aid_checkpoint_age_seconds",
                "Time since the newest checkpoint was signed; it grows while nothing is written.",
                self.newest_entry().await?.map(since),
            ),
            Family::gauge(
                "legal_aid_ready",
                "1 when the gateway takes work; GET /ready says why not.",
                if self.obstacle.borrow().is_none() { 1.0 } else { 0.0 },
            ),
        ];
        families.push(Family::gauge(
            "legal_aid_agreements_unread",
            "Effective agreements that this version of the gateway cannot read, and that allow nothing at it.",
            self.agreements.unread() as f64,
        ));
        families.extend(of_certificates(&self.in_force, now));
        families.push(of_files(&self.refused_files));
        families.extend(self.calls.families());
        families.extend(self.attempts.families());
        families.extend(self.breakers.families());
        families.extend(self.store.log_writes().families());
        families.extend(of_front_door(&self.front_door));
        families.extend(of_witnesses(&self.witnesses.borrow()));
        Ok(families)
    }

    /// When the newest entry was recorded, and with it the newest checkpoint signed.
    async fn newest_entry(&self) -> Result<Option<Timestamp>, StoreError> {
        let Some(newest) = self.log.head().size.checked_sub(1) else { return Ok(None) };
        let stored = self.store.entries(newest, 1).await?;
        let entry = stored.first().and_then(|stored| Entry::from_json(&stored.entry).ok());
        Ok(entry.map(|entry| entry.recorded))
    }
}

/// When certificates and revocation lists end.
fn of_certificates(in_force: &InForce, now: Timestamp) -> [Family; 4] {
    let at = |of| in_force.first_end(of).map(|at| at.as_second() as f64);
    [
        Family::gauge(
            "legal_aid_certificate_expiry_timestamp_seconds",
            "When the gateway's own certificate ends, or the first of those sent with it, in seconds since 1970.",
            at(Ends::Own),
        ),
        Family::gauge(
            "legal_aid_authority_expiry_timestamp_seconds",
            "When the first certificate of an authority that is trusted ends, in seconds since 1970.",
            at(Ends::Authority),
        ),
        Family::gauge(
            "legal_aid_revocation_list_expiry_timestamp_seconds",
            "When the first revocation list must have been replaced, in seconds since 1970; after it nobody is let in.",
            at(Ends::RevocationList),
        ),
        Family::gauge(
            "legal_aid_agencies_with_expiring_certificates",
            "Agencies that have only come with certificates that end within tls.warn_before_days; the log names them.",
            in_force.agencies_ending(now) as f64,
        ),
    ]
}

/// Which files are refused, while what was read before stays in force.
fn of_files(refused: &Refused) -> Family {
    let sample = |part: Part| {
        let value = if refused.is_refused(part) { 1.0 } else { 0.0 };
        Sample::of(vec![("files", part.as_str().to_owned())], value)
    };
    Family {
        name: "legal_aid_files_refused",
        help: "1 while files that have changed cannot be used, and what was read before stays in force.",
        kind: Kind::Gauge,
        samples: Part::ALL.map(sample).into(),
    }
}

/// What became of connections.
fn of_front_door(counters: &FrontDoorCounters) -> [Family; 2] {
    let ends = counters.of_connections().into_iter();
    let samples = ends.map(|(end, count)| Sample::of(vec![("end", end.to_owned())], count as f64));
    [
        Family {
            name: "legal_aid_connections_total",
            help: "Connections let in, and those turned away or ended by the gateway, by end.",
            kind: Kind::Counter,
            samples: samples.collect(),
        },
        Family::counter(
            "legal_aid_answers_not_read_total",
            "Answers taken back because the peer did not read them in time.",
            counters.answers_not_read.load(Ordering::Relaxed),
        ),
    ]
}

/// How far the witnesses are; nothing without witnesses.
fn of_witnesses(standing: &Standing) -> Vec<Family> {
    if standing.witnesses.is_empty() {
        return Vec::new();
    }
    let each = |name, help, value: fn(&WitnessStanding) -> f64| {
        let sample =
            |witness: &WitnessStanding| Sample::of(vec![("witness", witness.name.clone())], value(witness));
        Family { name, help, kind: Kind::Gauge, samples: standing.witnesses.iter().map(sample).collect() }
    };
    vec![
        Family::gauge(
            "legal_aid_witness_lag_seconds",
            "How long the oldest entry that no quorum of witnesses has cosigned has waited.",
            standing.lag.as_secs_f64(),
        ),
        Family::gauge(
            "legal_aid_witness_stopped",
            "1 while no new work is taken because the witnesses lag too far behind.",
            if standing.stopped { 1.0 } else { 0.0 },
        ),
        Family::gauge(
            "legal_aid_cosigned_entries",
            "Entries of the newest checkpoint that a quorum of witnesses has cosigned.",
            standing.cosigned.as_ref().map_or(0.0, |cosigned| cosigned.size as f64),
        ),
        each(
            "legal_aid_witness_entries",
            "Entries of the newest checkpoint that a witness has cosigned.",
            |witness| witness.size as f64,
        ),
        each(
            "legal_aid_witness_disagrees",
            "1 while a witness holds another history of the log than the gateway.",
            |witness| if witness.disagrees { 1.0 } else { 0.0 },
        ),
    ]
}
