//! A recipient's round: its deliveries, as many at once as it may have, until nothing is due.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::ahead::Ahead;
use super::away::Away;
use super::{Attempt, Courier, LOOK_EVERY};
use crate::access::Agency;
use crate::delivery::inboxes::Inboxes;
use crate::domain::agency::CreditCode;
use crate::domain::exchange::DeliveryId;
use crate::store::{Parcel, Share, StoreError};

/// Bytes of messages that are under way to one recipient; one message may be larger.
const BYTES_UNDER_WAY: u64 = 16 * 1024 * 1024;

/// What the rounds of a courier have in common.
#[derive(Debug)]
pub(super) struct Shared {
    /// Whether nothing is begun any more.
    pub(super) stopping: AtomicBool,
    /// Who cannot be reached now.
    pub(super) away: Away,
    /// What this gateway takes first.
    pub(super) share: ArcSwap<Share>,
}

impl Default for Shared {
    fn default() -> Self {
        let share = ArcSwap::from_pointee(Share::WHOLE);
        Self { stopping: AtomicBool::new(false), away: Away::default(), share }
    }
}

/// Delivers to one agency what is due now, and what becomes due meanwhile: `wake` says so. Others have rounds of their own, so
/// that a dead or slow agency slows nobody else; and a slow attempt holds only its own place.
pub(super) struct Round<I> {
    courier: Courier<I>,
    recipient: CreditCode,
    wake: Arc<Notify>,
    shared: Arc<Shared>,
    attempts: JoinSet<(DeliveryId, Instant, Attempt)>,
    /// What is under way, with the bytes of its message. It is due until its lease is durable.
    under_way: HashMap<DeliveryId, u64>,
    ahead: Ahead,
    is_stuck: bool,
    /// Whether nothing was found to begin.
    in_vain: bool,
}

/// A round that has come to its end.
pub(super) struct Ended {
    /// Whose it was.
    pub(super) recipient: CreditCode,
    /// Whether nothing was found to begin: what is due waits for an earlier message of its exchange, or was taken by another.
    pub(super) in_vain: bool,
}

impl<I: Inboxes> Round<I> {
    pub(super) fn new(
        courier: Courier<I>,
        recipient: CreditCode,
        wake: Arc<Notify>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            courier,
            recipient,
            wake,
            shared,
            attempts: JoinSet::new(),
            under_way: HashMap::new(),
            ahead: Ahead::new(Instant::now()),
            is_stuck: false,
            in_vain: true,
        }
    }

    /// Runs until nothing is due and nothing under way.
    pub(super) async fn run(mut self) -> Ended {
        loop {
            let look_at = self.fill().await;
            if self.attempts.is_empty() && look_at.is_none() {
                if self.is_stuck {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                return Ended { recipient: self.recipient, in_vain: self.in_vain };
            }
            tokio::select! {
                Some(ended) = self.attempts.join_next(), if !self.attempts.is_empty() => {
                    self.note(ended.ok());
                    // Those that one batch of the log has settled end together.
                    while let Some(ended) = self.attempts.try_join_next() {
                        self.note(ended.ok());
                    }
                }
                () = self.wake.notified() => {}
                () = at(look_at) => {}
            }
            self.ahead.expect_more(Instant::now());
        }
    }

    /// Begins as many attempts as there is room for. Returns when to go on even if nothing happens: when there is room, and more
    /// is expected.
    async fn fill(&mut self) -> Option<Instant> {
        // Asked each time: an agency may be suspended meanwhile, move, or pull from now on.
        while let Some((agency, room)) = self.room() {
            let now = Instant::now();
            if let Some(look_at) = self.ahead.look_at() {
                if look_at > now {
                    return Some(look_at);
                }
                if let Err(error) = self.look(room, now).await {
                    tracing::warn!(%error, "due deliveries cannot be read");
                    self.is_stuck = true;
                }
                continue;
            }
            let bytes = BYTES_UNDER_WAY.saturating_sub(self.under_way.values().sum());
            let chosen = self.ahead.take(room, bytes, self.under_way.is_empty());
            if chosen.is_empty() {
                return None;
            }
            let ids: Vec<_> = chosen.iter().map(|due| due.delivery_id).collect();
            let time = self.courier.clock.now();
            match self.courier.store.parcels(&self.recipient, time, &ids).await {
                Ok(parcels) => parcels.into_iter().for_each(|parcel| self.begin(&agency, parcel)),
                Err(error) => {
                    tracing::warn!(%error, "due deliveries cannot be read");
                    self.is_stuck = true;
                }
            }
        }
        None
    }

    /// The agency, and how many more deliveries it may be given at once; `None` if none.
    fn room(&self) -> Option<(Agency, usize)> {
        if self.is_stuck || self.shared.stopping.load(Ordering::Relaxed) {
            return None;
        }
        let agency = self.courier.reachable(&self.recipient)?;
        let most = self.courier.schedule.per_recipient;
        let most = self.shared.away.allows(&self.recipient, most, Instant::now());
        most.checked_sub(self.under_way.len()).filter(|room| *room > 0).map(|room| (agency, room))
    }

    /// Looks up what is due.
    async fn look(&mut self, room: usize, now: Instant) -> Result<(), StoreError> {
        let (share, time) = (**self.shared.share.load(), self.courier.clock.now());
        let mut beside: Vec<_> = self.under_way.keys().copied().collect();
        beside.extend(self.ahead.passed_over(now));
        let store = &self.courier.store;
        let found = store.due_ahead(&self.recipient, time, &beside, Ahead::page(share)).await?;
        self.ahead.keep(found, share, room, (now, time));
        Ok(())
    }

    fn begin(&mut self, agency: &Agency, parcel: Parcel) {
        self.in_vain = false;
        let Parcel { record, message } = parcel;
        let message = match message {
            Ok(message) => message,
            Err(error) => {
                tracing::error!(%error, delivery = %record.delivery_id, "message cannot be read");
                self.is_stuck |= self.ahead.set_aside(record.delivery_id, Instant::now());
                return;
            }
        };
        self.under_way.insert(record.delivery_id, message.message.len() as u64);
        let (courier, agency) = (self.courier.clone(), agency.clone());
        self.attempts.spawn(async move {
            let began = Instant::now();
            let ended = courier.attempt(&agency, &record, message).await;
            (record.delivery_id, began, ended)
        });
    }

    fn note(&mut self, ended: Option<(DeliveryId, Instant, Attempt)>) {
        // The lease of one that panicked runs out, and a later round has it.
        let Some((delivery, began, ended)) = ended else {
            self.is_stuck = true;
            return;
        };
        self.under_way.remove(&delivery);
        match ended {
            Attempt::Made { reached } => {
                self.shared.away.note(self.recipient, reached, (began, Instant::now()));
            }
            Attempt::Overtaken => {}
            Attempt::Stuck => self.is_stuck = true,
        }
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
