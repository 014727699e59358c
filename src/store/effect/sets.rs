//! The effects of a batch, many at a time.
//!
//! One by one, thirty submissions are two hundred statements, each a way to PostgreSQL and back, or to SQLite's thread, while all
//! others wait for the log. So effects that touch different rows are gathered into a set: their order does not matter, and a
//! set is one statement for each thing that is done, however often. An effect that touches what the set touches already
//! begins the next set; so does one of the rare kinds, which is made by itself.
//!
//! When a row is not as an effect expects it, nothing is said about which: the batch is then made one by one, and names it.

mod additions;
mod changes;
mod given;

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use uuid::Uuid;

use self::additions::{AttachmentRow, DeliveryRow, EventRow, ExchangeRow, NewRows, StartRow, StopRow};
use self::changes::{LeaseRow, MessageMoveRow, MoveRow, Moved, SettleRow, Settled, UseRow};
use super::{DeliveryOutcome, Effect, NewExchange, NewMessage, is_row, one_by_one};
use crate::audit::log::Batch;
use crate::domain::clocks::{Clocks, Running, StartedClock};
use crate::domain::exchange::{Change, ExchangeId, ExchangeState, Step};
use crate::store::StoreError;
use crate::store::clocks::Move;
use crate::store::database::Connection;

/// Makes the effects of a batch. Returns whether all of them could be made; if not, some are made and some are not.
pub(super) async fn apply(
    connection: &mut Connection<'_>,
    clocks: &Clocks,
    batch: &Batch<Effect>,
) -> Result<bool, StoreError> {
    let mut set = Set::default();
    for (index, leaf) in (batch.first_index..).zip(&batch.leaves) {
        for effect in leaf.effects.iter().filter(|effect| !is_row(effect)) {
            if !set.has_room_for(effect) && !std::mem::take(&mut set).make(connection, clocks).await? {
                return Ok(false);
            }
            if !set.take(effect) && one_by_one::apply_one(connection, clocks, effect, index).await?.is_err() {
                return Ok(false);
            }
        }
    }
    set.make(connection, clocks).await
}

/// Effects that touch different rows.
#[derive(Default)]
struct Set<'b> {
    effects: Vec<&'b Effect>,
    touched: HashSet<Uuid>,
}

/// What an effect touches that another of its set may not touch, by id; `None` of one that no set takes.
fn touched_by(effect: &Effect) -> Option<Vec<Uuid>> {
    match effect {
        Effect::OpenExchange(new) => Some(vec![new.exchange_id.uuid(), new.delivery.delivery_id.uuid()]),
        Effect::AddMessage(new) => Some(vec![new.exchange_id.uuid(), new.delivery.delivery_id.uuid()]),
        Effect::Lease { delivery_id, .. } => Some(vec![delivery_id.uuid()]),
        // A court's receipt often comes before the attempt that brought it has ended.
        Effect::Settle { delivery_id, exchange_id, .. } => Some(vec![delivery_id.uuid(), exchange_id.uuid()]),
        // Names are only added; uses of one quota are added up.
        Effect::NameAttachments { .. } | Effect::CountUse(_) => Some(Vec::new()),
        _ => None,
    }
}

impl<'b> Set<'b> {
    fn has_room_for(&self, effect: &Effect) -> bool {
        match touched_by(effect) {
            Some(touched) => touched.iter().all(|id| !self.touched.contains(id)),
            None => self.effects.is_empty(),
        }
    }

    /// Whether it takes the effect, which has room.
    fn take(&mut self, effect: &'b Effect) -> bool {
        let Some(touched) = touched_by(effect) else { return false };
        self.touched.extend(touched);
        self.effects.push(effect);
        true
    }

    /// Makes the effects. Returns whether all of them could be made.
    async fn make(self, connection: &mut Connection<'_>, clocks: &Clocks) -> Result<bool, StoreError> {
        if self.effects.is_empty() {
            return Ok(true);
        }
        if !self.count(connection).await? || !self.lease(connection).await? {
            return Ok(false);
        }
        let mut changed = Vec::new();
        if !self.move_with_messages(connection, &mut changed).await?
            || !self.settle(connection, &mut changed).await?
        {
            return Ok(false);
        }
        let mut rows = NewRows::default();
        for (place, effect) in (0..).zip(&self.effects) {
            match effect {
                Effect::OpenExchange(new) => open(&mut rows, clocks, place, new),
                Effect::AddMessage(new) => add(&mut rows, new),
                Effect::NameAttachments { exchange_id, named_by, digests } => {
                    let named =
                        digests.iter().map(|digest| AttachmentRow::new(exchange_id, named_by, digest));
                    rows.attachments.extend(named);
                }
                _ => {}
            }
        }
        let moved = changes::moved(connection, changed.iter().map(|change| change.exchange_id)).await?;
        for change in &changed {
            // What has no exchange is the answer to a verification.
            if let Some(exchange) = moved.get(&change.exchange_id) {
                follow(&mut rows, clocks, change, exchange)?;
            }
        }
        rows.write(connection).await?;
        Ok(true)
    }

    /// Counts calls against quotas, all calls of one window at once.
    async fn count(&self, connection: &mut Connection<'_>) -> Result<bool, StoreError> {
        let mut uses = BTreeMap::new();
        for effect in &self.effects {
            let Effect::CountUse(call) = effect else { continue };
            for window in &call.windows {
                let row = UseRow::new(call, window);
                uses.entry(row.key()).and_modify(|all: &mut UseRow<'_>| all.add(&row)).or_insert(row);
            }
        }
        let uses: Vec<_> = uses.into_values().collect();
        changes::count(connection, &uses).await
    }

    async fn lease(&self, connection: &mut Connection<'_>) -> Result<bool, StoreError> {
        let leases = self.effects.iter().filter_map(|effect| match effect {
            Effect::Lease { delivery_id, attempts, lease, node, until } => {
                Some(LeaseRow::new(delivery_id, *attempts, lease, node.as_deref(), *until))
            }
            _ => None,
        });
        changes::lease(connection, &leases.collect::<Vec<_>>()).await
    }

    /// Moves exchanges on with the messages that are added to them.
    async fn move_with_messages(
        &self,
        connection: &mut Connection<'_>,
        changed: &mut Vec<ExchangeChange>,
    ) -> Result<bool, StoreError> {
        let mut moves = Vec::new();
        for (place, effect) in (0..).zip(&self.effects) {
            let Effect::AddMessage(new) = effect else { continue };
            moves.push(MessageMoveRow::new(new));
            // An answer that leaves the exchange where it is starts nothing anew.
            let entered = (new.to != new.from).then_some(new.to);
            changed.push(ExchangeChange {
                place,
                exchange_id: new.exchange_id,
                moved: Some(Move { entered, by: Some(new.response), at: new.at, set: new.due_on }),
                change: Change::MessageAdded,
                message: new.sequence,
                at: new.at,
            });
        }
        changes::move_with_messages(connection, &moves).await
    }

    /// Ends attempts to deliver, and moves the exchanges whose opening message has arrived or is given up.
    async fn settle(
        &self,
        connection: &mut Connection<'_>,
        changed: &mut Vec<ExchangeChange>,
    ) -> Result<bool, StoreError> {
        let mut outcomes = HashMap::new();
        let mut ends = Vec::new();
        for (place, effect) in (0..).zip(&self.effects) {
            let Effect::Settle { delivery_id, lease, outcome, at, .. } = effect else { continue };
            outcomes.insert(*delivery_id, (place, outcome, *at));
            ends.push(SettleRow::new(delivery_id, lease.as_ref(), outcome, *at));
        }
        let settled = changes::settle(connection, &ends).await?;
        if settled.len() < ends.len() {
            return Ok(false);
        }
        // None is there twice, if each delivery is of the exchange that its effect names.
        let mut touched: HashSet<_> = changed.iter().map(|change| change.exchange_id).collect();
        let mut arrivals = Vec::new();
        let first = changed.len();
        for Settled { delivery_id, exchange_id, sequence } in settled {
            let Some((place, outcome, at)) = outcomes.get(&delivery_id) else { return Ok(false) };
            let (steps, change): (&[Step], _) = match outcome {
                DeliveryOutcome::Delivered => (&[Step::Arrival, Step::LateArrival], Change::Delivered),
                DeliveryOutcome::Dead { .. } => (&[Step::GivingUp], Change::Undeliverable),
                DeliveryOutcome::Retry { .. } => continue,
            };
            if !touched.insert(exchange_id) {
                return Ok(false);
            }
            // Only the opening message's delivery moves the exchange, and only where nothing else has moved it on.
            if sequence == 1 {
                arrivals.extend(steps.iter().map(|step| MoveRow::new(&exchange_id, *step, *at)));
            }
            let (place, at) = (*place, *at);
            changed.push(ExchangeChange { place, exchange_id, moved: None, change, message: sequence, at });
        }
        let entered = changes::arrive(connection, &arrivals).await?;
        for change in &mut changed[first..] {
            if let Some(state) = entered.get(&change.exchange_id) {
                change.moved = Some(Move { entered: Some(*state), by: None, at: change.at, set: None });
            }
        }
        Ok(true)
    }
}

/// What has happened to an exchange that was there before.
struct ExchangeChange {
    /// Of the effect in its set.
    place: u32,
    exchange_id: ExchangeId,
    moved: Option<Move>,
    change: Change,
    /// The message concerned.
    message: u32,
    at: Timestamp,
}

fn open<'b>(rows: &mut NewRows<'b>, clocks: &Clocks, place: u32, new: &'b NewExchange) {
    let state = ExchangeState::Submitted;
    rows.exchanges.push(ExchangeRow::new(new, state));
    rows.messages.push(&new.exchange_id, 1, &new.message);
    rows.deliveries.push(DeliveryRow::new(&new.delivery, &new.exchange_id, 1, new.at));
    let exchange = Running { kind: new.kind, track: new.track, region: new.region };
    start(rows, &new.exchange_id, new.at, clocks.started_by(&exchange, state, new.at, None));
    let parties = (new.sender.as_str(), new.recipient.as_str());
    rows.events.push((place, EventRow::new(&new.exchange_id, parties, Change::Opened, state, 1, new.at)));
}

fn add<'b>(rows: &mut NewRows<'b>, new: &'b NewMessage) {
    rows.messages.push(&new.exchange_id, new.sequence, &new.message);
    rows.deliveries.push(DeliveryRow::new(&new.delivery, &new.exchange_id, new.sequence, new.at));
}

/// Stops and starts the clocks of an exchange that was moved, and tells who follows it.
fn follow<'b>(
    rows: &mut NewRows<'b>,
    clocks: &Clocks,
    change: &ExchangeChange,
    exchange: &'b Moved,
) -> Result<(), StoreError> {
    let id = &change.exchange_id;
    if let Some(moved) = &change.moved {
        let is_stopped = |clock: &String| clocks.stops(clock, moved.entered, moved.by);
        let (stopped, still_running): (Vec<_>, Vec<_>) =
            exchange.running.iter().partition(|clock| is_stopped(clock));
        rows.stopped.extend(stopped.into_iter().map(|clock| StopRow::new(id, clock, moved)));
        if let Some(entered) = moved.entered {
            let mut started = clocks.started_by(&exchange.to_run()?, entered, moved.at, moved.set);
            started.retain(|clock| !still_running.contains(&&clock.id));
            start(rows, id, moved.at, started);
        }
    }
    let parties = (exchange.sender.as_str(), exchange.recipient.as_str());
    let event = EventRow::new(id, parties, change.change, exchange.state, change.message, change.at);
    rows.events.push((change.place, event));
    Ok(())
}

fn start(rows: &mut NewRows<'_>, exchange_id: &ExchangeId, at: Timestamp, started: Vec<StartedClock>) {
    rows.started.extend(started.into_iter().map(|clock| StartRow::new(exchange_id, at, clock)));
}

#[cfg(test)]
mod tests;
