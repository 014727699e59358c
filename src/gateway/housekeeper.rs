//! What is done beside the calls, all the time: the newest checkpoint outside the database, and what is forgotten.

use std::path::PathBuf;
use std::time::Duration;

use super::checkpoint_file;
use crate::clock::Clock;
use crate::store::{AuditLog, Store};

/// How often the newest checkpoint is written outside the database, and old outcomes are looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Housekeeping rounds between two searches for outcomes to forget.
const ROUNDS_BETWEEN_FORGETTING: u64 = 600;

/// Housekeeping rounds between two looks whether the database has room made for what will be written.
const ROUNDS_BETWEEN_LOOKS_AHEAD: u64 = 30;

/// Outcomes forgotten in one transaction.
const FORGOTTEN_AT_ONCE: u32 = 500;

/// Keeps the newest checkpoint outside the database, and forgets outcomes and unfinished uploads past their time.
pub(super) async fn keep_house(
    log: AuditLog,
    store: Store,
    clock: Clock,
    checkpoint: Option<PathBuf>,
    keep_outcomes: Duration,
    keep_unfinished: Duration,
    stop: impl Future<Output = ()>,
) {
    let mut stop = std::pin::pin!(stop);
    let (mut written, mut more_to_forget) = (0, false);
    for round in 0u64.. {
        let stopping = tokio::select! {
            () = &mut stop => true,
            () = tokio::time::sleep(HOUSEKEEPING) => false,
        };
        let head = log.head();
        if let Some(path) = &checkpoint
            && head.size > written
        {
            match checkpoint_file::write(path, &head.checkpoint) {
                Ok(()) => written = head.size,
                Err(error) => {
                    tracing::warn!(%error, path = %path.display(), "checkpoint file cannot be written");
                }
            }
        }
        if stopping {
            return;
        }
        // Every round only while there is more: the writer is not kept from the log for long.
        if (more_to_forget || round % ROUNDS_BETWEEN_FORGETTING == 0)
            && let Ok(before) = clock.now().checked_sub(keep_outcomes)
        {
            let forgotten = store.forget_outcomes(before, FORGOTTEN_AT_ONCE).await;
            more_to_forget = matches!(forgotten, Ok(count) if count >= u64::from(FORGOTTEN_AT_ONCE));
            if let Err(error) = forgotten {
                tracing::warn!(%error, "old outcomes cannot be forgotten");
            }
        }
        if round % ROUNDS_BETWEEN_LOOKS_AHEAD == 0
            && let Err(error) = store.make_room_ahead().await
        {
            tracing::warn!(%error, "partitions cannot be made ahead; the log stops when the last one is full");
        }
        if let Ok(before) = clock.now().checked_sub(keep_unfinished) {
            match store.forget_uploads(before).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "unfinished uploads removed"),
                Err(error) => tracing::warn!(%error, "unfinished uploads cannot be removed"),
            }
        }
    }
}
