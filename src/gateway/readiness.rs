//! Whether the gateway takes work, as balancers and operators are told: gRPC health checking, and `GET /ready`.

use std::time::Duration;

use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::access::Method;
use crate::audit::witnessed::Standing;
use crate::store::Store;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Why no work is taken; `None` when it is.
pub(super) type Obstacle = Option<&'static str>;

const DRAINING: &str = "draining: the gateway is about to stop";
const WITNESSES_LAG: &str = "the witnesses of the audit log lag too far behind: see docs/witnesses.md";
const LOG_FAILS: &str =
    "the audit log cannot be written: is the disk full, the database locked, or its server away?";

/// Tells how the gateway stands until it has stopped. A log that failed is tried again here: who is sent no calls any
/// more would never find out that it can be written.
pub(super) async fn keep(
    reporter: HealthReporter,
    store: Store,
    mut witnesses: watch::Receiver<Standing>,
    told: watch::Sender<Obstacle>,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        let obstacle = if *stopped.borrow() {
            Some(DRAINING)
        } else if (store.log_writes().is_failing() || store.log_writes().is_away())
            && store.try_write().await.is_err()
        {
            Some(LOG_FAILS)
        } else if witnesses.borrow_and_update().stopped {
            Some(WITNESSES_LAG)
        } else {
            None
        };
        if *told.borrow() != obstacle {
            match obstacle {
                Some(DRAINING) => tracing::info!("draining"),
                Some(reason) => tracing::warn!(reason, "not serving"),
                None => tracing::info!("serving again"),
            }
            tell(&reporter, obstacle).await;
            told.send_replace(obstacle);
        }
        if obstacle == Some(DRAINING) {
            return;
        }
        tokio::select! {
            _ = stopped.changed() => {}
            Ok(()) = witnesses.changed() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Tells health checking, of the whole and of each service. The log can be read while its witnesses lag.
pub(super) async fn tell(reporter: &HealthReporter, obstacle: Obstacle) {
    let status = match obstacle {
        None => ServingStatus::Serving,
        Some(_) => ServingStatus::NotServing,
    };
    let mut services: Vec<_> = Method::ALL.iter().map(|method| method.service()).collect();
    services.dedup();
    for service in services.into_iter().chain([""]) {
        let is_readable = obstacle == Some(WITNESSES_LAG) && service == Method::GetEntry.service();
        let status = if is_readable { ServingStatus::Serving } else { status };
        reporter.set_service_status(service, status).await;
    }
}
