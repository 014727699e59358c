//! Ends for the REQUESTs of gateways that are gone for good.
//!
//! A gateway that ends suddenly closes what it left open when it starts again. One that does not start again is found by the
//! others on its database: its lock is free, and stays so for a while.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::audit::log::{self, AppendError, Storage as _};
use crate::clock::Clock;
use crate::config::Database;
use crate::store::{AuditLog, Effect, NodeLock, Orphanage, Store, StoreError};

/// How often the others are looked after.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long a node must be gone: one that is started again at once, or whose server was away, closes its own.
const GONE_FOR: Duration = Duration::from_secs(10);

/// How long until a closing is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// What the adopter works with.
pub(super) struct Adopter {
    pub(super) store: Store,
    pub(super) log: AuditLog,
    pub(super) clock: Clock,
    pub(super) database: Database,
}

impl Adopter {
    /// Works until `stop` ends.
    pub(super) async fn run(self, stop: impl Future<Output = ()>) {
        tokio::select! {
            () = stop => {}
            () = self.work() => {}
        }
    }

    async fn work(&self) {
        if self.store.is_alone() {
            return std::future::pending().await;
        }
        let mut gone_since: HashMap<String, Instant> = HashMap::new();
        loop {
            sleep(LOOK_EVERY).await;
            // Errors are those of the server, and told by who waits for it.
            let Ok(left) = self.store.orphanages().await else { continue };
            gone_since.retain(|node, _| left.iter().any(|left| left.node == *node));
            for left in left {
                let since = *gone_since.entry(left.node.clone()).or_insert_with(Instant::now);
                if since.elapsed() < GONE_FOR {
                    continue;
                }
                if let Err(error) = self.adopt(&left).await {
                    tracing::warn!(%error, node = left.node, "requests of a gateway that is gone cannot be closed yet");
                }
            }
        }
    }

    /// Takes the place of a node that is gone, and closes what it left open.
    async fn adopt(&self, left: &Orphanage) -> Result<(), StoreError> {
        let Some(_held) = NodeLock::try_take(&self.database, &left.node).await? else { return Ok(()) };
        let Some(taken) = self.store.take_over(left).await? else { return Ok(()) };
        let released = self.store.release_leases_of(&taken.node, self.clock.now()).await?;
        let orphans = log::orphans(&self.store, taken.open.clone(), |entry| entry.node == taken.node).await;
        let orphans = match orphans {
            Ok(orphans) => orphans,
            Err(error) => {
                tracing::error!(%error, node = taken.node, "what a gateway left open cannot be read");
                return Ok(());
            }
        };
        tracing::warn!(
            node = taken.node,
            requests = orphans.len(),
            released,
            "a gateway is gone; what it left open is closed"
        );
        // Closing one says in the same transaction that those before it are closed.
        let until = |place: usize| orphans.get(place + 1).map_or(taken.open.end, |next| next.index);
        for (place, orphan) in orphans.iter().enumerate() {
            loop {
                let mut effects = self.store.release(orphan);
                effects.push(Effect::Adopt {
                    node: taken.node.clone(),
                    epoch: taken.epoch,
                    open_from: until(place),
                });
                match self.log.interrupt(orphan, self.clock.now(), effects).await {
                    Ok(_) => break,
                    Err(AppendError::Overloaded | AppendError::Unavailable) => sleep(TRY_AGAIN).await,
                    // Its gateway is back.
                    Err(AppendError::Rejected(_) | AppendError::AlreadyEnded) => return Ok(()),
                }
            }
        }
        if orphans.is_empty() {
            self.store.nothing_open(&taken).await?;
        }
        Ok(())
    }
}

/// Tells who follows exchanges here of what this gateway and others have changed, where others write too.
pub(super) async fn tell_followers(store: Store, log: AuditLog, stop: impl Future<Output = ()>) {
    /// Not for each batch of the others.
    const PAUSE: Duration = Duration::from_millis(100);
    if store.is_alone() {
        return stop.await;
    }
    let mut head = log.watch_head();
    // The log's writer ends when nobody holds the log any more.
    drop(log);
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return,
            changed = head.changed() => if changed.is_err() { return },
        }
        if let Err(error) = store.wake_followers().await {
            tracing::warn!(%error, "watches cannot be woken");
        }
        tokio::select! {
            () = &mut stop => return,
            // The head has changed too, or is about to.
            () = store.stirred() => {}
            () = sleep(PAUSE) => {}
        }
    }
}
