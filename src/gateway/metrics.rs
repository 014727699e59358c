//! Serves metrics over plain HTTP, for a collector on the same machine or an inner network.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::audit::witnessed::{Standing, WitnessStanding};
use crate::store::{Store, StoreError};
use crate::telemetry::{Gauge, Sample, exposition};

/// Connections at once; a collector needs one.
const CONNECTIONS: usize = 8;

/// Time for a request's head, and for a whole connection.
const HEAD: Duration = Duration::from_secs(5);
const CONNECTION: Duration = Duration::from_secs(15);

/// Wait after an error of `accept`, such as no file handles left.
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(200);

/// Answers `GET /metrics` until `stop` ends.
pub(super) async fn serve(
    listener: TcpListener,
    store: Store,
    witnesses: watch::Receiver<Standing>,
    stop: impl Future<Output = ()>,
) {
    let mut stop = std::pin::pin!(stop);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = &mut stop => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(AFTER_ACCEPT_ERROR).await;
            continue;
        };
        // Who comes when all places are taken is let go: a collector comes again.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (store, witnesses) = (store.clone(), witnesses.clone());
        tokio::spawn(async move {
            let answer = service_fn(move |request| answer(store.clone(), witnesses.clone(), request));
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

async fn answer(
    store: Store,
    witnesses: watch::Receiver<Standing>,
    request: Request<Incoming>,
) -> Result<Response<String>, Infallible> {
    let (status, text) = if request.method() != Method::GET || request.uri().path() != "/metrics" {
        (StatusCode::NOT_FOUND, "only GET /metrics is answered here\n".to_owned())
    } else {
        let standing = witnesses.borrow().clone();
        match gauges(&store, &standing).await {
            Ok(gauges) => (StatusCode::OK, exposition(&gauges)),
            Err(error) => {
                tracing::warn!(%error, "metrics cannot be read");
                (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n".to_owned())
            }
        }
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// What is measured, as it is now.
async fn gauges(store: &Store, witnesses: &Standing) -> Result<Vec<Gauge>, StoreError> {
    let samples = store.overdue_counts().await?.into_iter().map(|count| Sample {
        labels: vec![("kind", count.kind), ("clock", count.clock)],
        value: count.exchanges,
    });
    let mut gauges = vec![Gauge {
        name: "legal_aid_exchanges_overdue",
        help: "Exchanges in which a clock of the law has come to its end, by kind and clock.",
        samples: samples.collect(),
    }];
    gauges.extend(of_witnesses(witnesses));
    Ok(gauges)
}

/// How far the witnesses are; nothing without witnesses.
fn of_witnesses(standing: &Standing) -> Vec<Gauge> {
    if standing.witnesses.is_empty() {
        return Vec::new();
    }
    let gauge = |name, help, value| Gauge { name, help, samples: vec![Sample { labels: Vec::new(), value }] };
    let each = |name, help, value: fn(&WitnessStanding) -> u64| Gauge {
        name,
        help,
        samples: standing
            .witnesses
            .iter()
            .map(|witness| Sample { labels: vec![("witness", witness.name.clone())], value: value(witness) })
            .collect(),
    };
    vec![
        gauge(
            "legal_aid_witness_lag_seconds",
            "How long the oldest entry that no quorum of witnesses has cosigned has waited.",
            standing.lag.as_secs(),
        ),
        gauge(
            "legal_aid_witness_stopped",
            "1 while no new work is taken because the witnesses lag too far behind.",
            u64::from(standing.stopped),
        ),
        gauge(
            "legal_aid_cosigned_entries",
            "Entries of the newest checkpoint that a quorum of witnesses has cosigned.",
            standing.cosigned.as_ref().map_or(0, |cosigned| cosigned.size),
        ),
        each(
            "legal_aid_witness_entries",
            "Entries of the newest checkpoint that a witness has cosigned.",
            |witness| witness.size,
        ),
        each(
            "legal_aid_witness_disagrees",
            "1 while a witness holds another history of the log than the gateway.",
            |witness| u64::from(witness.disagrees),
        ),
    ]
}
