//! Keeps the search index behind the log. What fails there never fails the gateway: searches say that they wait.

use tokio::task::JoinHandle;

use crate::store::{AuditLog, SearchIndex};

/// Keeps `index` until `stop` ends.
pub(super) fn spawn(
    index: SearchIndex,
    log: &AuditLog,
    stop: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    let head = log.watch_head();
    tokio::spawn(async move {
        tokio::select! {
            () = stop => {}
            () = index.keep(head) => {}
        }
        index.close().await;
    })
}
