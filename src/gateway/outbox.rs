//! The outbox at start.

use jiff::Timestamp;

use crate::access::Directory;
use crate::store::{Store, StoreError};

/// Makes due at once what was on its way by push when the last gateway of this name on this database ended: the lock says that
/// there is no other.
pub(super) async fn release_leases(
    store: &Store,
    directory: &Directory,
    node: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let with_endpoint = directory.agencies().filter(|agency| agency.endpoint.is_some());
    let inboxes: Vec<_> = with_endpoint.map(|agency| agency.code).collect();
    let released = store.release_leases(&inboxes, node, now).await?;
    if released > 0 {
        tracing::info!(released, "deliveries that were on their way when the gateway ended are due again");
    }
    Ok(())
}
