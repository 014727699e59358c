//! The published log's own listener: `[audit.tiles]`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::settings::http_limits;
use crate::config::{Config, TilesSection};
use crate::grpc::{FetchLimits, Intake, PublishedLog};
use crate::identity::acceptor::Acceptor;
use crate::identity::server::{Drained, HttpLimits, serve};

/// Open connections in all: auditors are few.
const CONNECTIONS: usize = 256;

/// Open connections of one agency. An answer that is not read keeps its bytes until its connection goes.
const CONNECTIONS_PER_AGENCY: usize = 32;

/// Age at which a connection is asked to go.
const CONNECTION_AGE: Duration = Duration::from_secs(600);

/// What serves the published log.
pub(super) struct Tiles {
    /// Where it listens.
    pub(super) address: SocketAddr,
    server: JoinHandle<Drained>,
}

impl Tiles {
    /// Serves until `stop` ends, to whom the gateway itself would let in.
    pub(super) fn start(
        (listener, address): (TcpListener, SocketAddr),
        acceptor: &Acceptor,
        intake: Arc<Intake>,
        config: &Config,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let TilesSection { requests, requests_per_agency, .. } = config.audit.tiles;
        let deadline = config.limits.default_deadline;
        let limits = FetchLimits {
            requests,
            requests_per_agency,
            deadline,
            buffered_bytes: config.front_door.buffered_bytes,
            buffered_bytes_per_agency: config.front_door.buffered_bytes_per_agency,
        };
        let service = PublishedLog::new(intake, limits);
        let limits = HttpLimits {
            max_connection_age: CONNECTION_AGE.min(config.limits.connection_age),
            max_connections: CONNECTIONS,
            max_connections_per_agency: CONNECTIONS_PER_AGENCY,
            ..http_limits(config)
        };
        let server = tokio::spawn(serve(listener, acceptor.with_http1(), service, limits, stop));
        Self { address, server }
    }

    /// Returns when it has ended, as it must not; never where nothing is served.
    pub(super) async fn ended(tiles: &mut Option<Self>) {
        match tiles {
            Some(tiles) => drop((&mut tiles.server).await),
            None => std::future::pending().await,
        }
    }

    /// Waits for the requests in progress, within the drain limit.
    pub(super) async fn drained(self) {
        let _ = self.server.await;
    }
}
