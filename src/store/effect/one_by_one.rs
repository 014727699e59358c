//! The effects of a batch, one after the other.

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    DeemedWithdrawal, DeliveryOutcome, Effect, NewDelivery, NewExchange, NewMessage, Rejection, is_row,
};
use crate::audit::log::Batch;
use crate::domain::clocks::{Clocks, Running};
use crate::domain::exchange::{Change, DeliveryId, ExchangeId, ExchangeState, Step};
use crate::store::clocks::{Move, is_due, move_clocks, raise_overdue, start_clocks};
use crate::store::database::{Connection, sql};
use crate::store::{
    StoreError, agreements, attachments, events, finding_marks, keys, outbox, quotas, removals, signed,
    verifications,
};

/// Makes the effects in order, and of each leaf none after one that is rejected. Returns the rejections, by place of the leaf.
pub(super) async fn apply(
    connection: &mut Connection<'_>,
    clocks: &Clocks,
    batch: &Batch<Effect>,
) -> Result<Vec<(usize, Rejection)>, StoreError> {
    let mut rejections = Vec::new();
    for (place, leaf) in batch.leaves.iter().enumerate() {
        for effect in leaf.effects.iter().filter(|effect| !is_row(effect)) {
            let index = batch.first_index + place as u64;
            if let Err(rejection) = apply_one(connection, clocks, effect, index).await? {
                rejections.push((place, rejection));
                break;
            }
        }
    }
    Ok(rejections)
}

/// Applies an effect of the entry `index`.
pub(super) async fn apply_one(
    connection: &mut Connection<'_>,
    clocks: &Clocks,
    effect: &Effect,
    index: u64,
) -> Result<Result<(), Rejection>, StoreError> {
    match effect {
        Effect::Claim { .. } | Effect::Outcome { .. } => Ok(Ok(())),
        Effect::Release { caller, request_id, request_index } => {
            // Never a claim that has an outcome: its call did have effect.
            sql(
                "DELETE FROM claims WHERE caller = $1 AND request_id = $2 AND request_index = $3 AND NOT EXISTS \
                 (SELECT 1 FROM outcomes WHERE outcomes.request_index = claims.request_index)",
            )
            .bind(caller.as_str())
            .bind(request_id.as_bytes().as_slice())
            .bind(signed(*request_index))
            .execute(connection)
            .await?;
            Ok(Ok(()))
        }
        Effect::OpenExchange(exchange) => open_exchange(connection, clocks, exchange).await.map(Ok),
        Effect::AddMessage(message) => add_message(connection, clocks, message).await,
        Effect::NameAttachments { exchange_id, named_by, digests } => {
            attachments::name(connection, exchange_id, named_by, digests).await.map(Ok)
        }
        Effect::CompleteAttachment { attachment_id, at } => {
            attachments::complete(connection, attachment_id, *at).await.map(exactly_one)
        }
        Effect::Lease { delivery_id, attempts, lease, node, until } => {
            let taken = sql(
                "UPDATE deliveries SET state = 'LEASED', attempts = attempts + 1, lease = $1, due_us = $2, lease_node = $5 \
                 WHERE delivery_id = $3 AND attempts = $4 AND state IN ('PENDING', 'LEASED')",
            )
            .bind(lease.as_bytes().as_slice())
            .bind(until.as_microsecond())
            .bind(delivery_id.as_bytes().as_slice())
            .bind(i64::from(*attempts))
            .bind(node.as_deref())
            .execute(connection)
            .await?;
            Ok(exactly_one(taken))
        }
        Effect::Settle { delivery_id, lease, outcome, at, .. } => {
            let settled = settle(connection, delivery_id, lease.as_ref(), outcome, *at).await?;
            match settled {
                Ok(Some((exchange_id, to))) => {
                    let moved = Move { entered: Some(to), by: None, at: *at, set: None };
                    move_clocks(connection, clocks, &exchange_id, &moved).await.map(Ok)
                }
                Ok(None) => Ok(Ok(())),
                Err(rejection) => Ok(Err(rejection)),
            }
        }
        Effect::PutOff(new) => verifications::put_off(connection, new).await.map(Ok),
        Effect::AskAgain { verification_id, attempts, until } => {
            verifications::begin_attempt(connection, verification_id, *attempts, *until).await
        }
        Effect::Step { verification_id, attempts, step, at } => {
            verifications::step(connection, verification_id, *attempts, step, *at).await
        }
        Effect::RaiseOverdue { exchange_id, clock, round, at } => {
            let raised = raise_overdue(connection, exchange_id, clock, *round, *at).await?;
            if let Err(rejection) = exactly_one(raised) {
                return Ok(Err(rejection));
            }
            events::record(connection, exchange_id, Change::Overdue, 0, *at).await.map(Ok)
        }
        Effect::BeginRemoval(new) => removals::begin(connection, new).await,
        Effect::Remove(step) => removals::step(connection, step, index).await,
        Effect::EndRemoval(end) => removals::end(connection, end).await.map(Ok),
        Effect::AdoptKey(adoption) => keys::adopt(connection, adoption).await,
        Effect::DeemWithdrawn(withdrawal) => deem_withdrawn(connection, clocks, withdrawal).await,
        Effect::MarkFinding(mark) => finding_marks::mark(connection, mark).await.map(Ok),
        Effect::Operate(change) => outbox::apply(connection, clocks, change).await,
        Effect::ChangeAgreement(change) => agreements::change(connection, change, index).await,
        Effect::CountUse(call) => quotas::count(connection, call).await,
        Effect::Adopt { node, epoch, open_from } => {
            let closed = sql("UPDATE audit_nodes SET open_from = $1 WHERE node = $2 AND epoch = $3")
                .bind(signed(*open_from))
                .bind(node)
                .bind(*epoch)
                .execute(connection)
                .await?;
            Ok(exactly_one(closed))
        }
    }
}

async fn open_exchange(
    connection: &mut Connection<'_>,
    clocks: &Clocks,
    new: &NewExchange,
) -> Result<(), StoreError> {
    sql("INSERT INTO exchanges (exchange_id, kind, state, sender, recipient, matter_id, region, messages, \
         created_us, updated_us, track) VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, $8, $9)")
    .bind(new.exchange_id.as_bytes().as_slice())
    .bind(new.kind.as_str())
    .bind(ExchangeState::Submitted.as_str())
    .bind(new.sender.as_str())
    .bind(new.recipient.as_str())
    .bind(&new.matter_id)
    .bind(new.region.to_string())
    .bind(new.at.as_microsecond())
    .bind(new.track)
    .execute(&mut *connection)
    .await?;
    insert_message(connection, &new.exchange_id, 1, &new.message).await?;
    insert_delivery(connection, &new.exchange_id, 1, &new.delivery, new.at).await?;
    let exchange = Running { kind: new.kind, track: new.track, region: new.region };
    let started = clocks.started_by(&exchange, ExchangeState::Submitted, new.at, None);
    start_clocks(connection, &new.exchange_id, new.at, &started).await?;
    events::record(connection, &new.exchange_id, Change::Opened, 1, new.at).await
}

async fn add_message(
    connection: &mut Connection<'_>,
    clocks: &Clocks,
    new: &NewMessage,
) -> Result<Result<(), Rejection>, StoreError> {
    // An answer that leaves the exchange where it is starts nothing anew.
    let entered = (new.to != new.from).then_some(new.to);
    let moved = Move { entered, by: Some(new.response), at: new.at, set: new.due_on };
    let from = [new.from, new.from.or_arrived(new.response, new.to)];
    if let Err(rejection) = move_on(connection, clocks, &new.exchange_id, new.sequence, from, &moved).await? {
        return Ok(Err(rejection));
    }
    insert_message(connection, &new.exchange_id, new.sequence, &new.message).await?;
    insert_delivery(connection, &new.exchange_id, new.sequence, &new.delivery, new.at).await?;
    events::record(connection, &new.exchange_id, Change::MessageAdded, new.sequence, new.at).await?;
    Ok(Ok(()))
}

async fn deem_withdrawn(
    connection: &mut Connection<'_>,
    clocks: &Clocks,
    new: &DeemedWithdrawal,
) -> Result<Result<(), Rejection>, StoreError> {
    if !is_due(connection, &new.exchange_id, &new.clock, new.round, new.at).await? {
        return Ok(Err(Rejection::Conflict));
    }
    let (from, to) = Step::Lapse.moves();
    let moved = Move { entered: Some(to), by: None, at: new.at, set: None };
    if let Err(rejection) =
        move_on(connection, clocks, &new.exchange_id, new.sequence, [from; 2], &moved).await?
    {
        return Ok(Err(rejection));
    }
    insert_message(connection, &new.exchange_id, new.sequence, &new.message).await?;
    for delivery in &new.deliveries {
        insert_delivery(connection, &new.exchange_id, new.sequence, delivery, new.at).await?;
    }
    events::record(connection, &new.exchange_id, Change::MessageAdded, new.sequence, new.at).await?;
    Ok(Ok(()))
}

/// Moves an exchange that stands in either of these states, and its clocks, with the message of this place in the thread.
async fn move_on(
    connection: &mut Connection<'_>,
    clocks: &Clocks,
    exchange_id: &ExchangeId,
    sequence: u32,
    from: [ExchangeState; 2],
    moved: &Move,
) -> Result<Result<(), Rejection>, StoreError> {
    let changed = sql("UPDATE exchanges SET state = $1, messages = $2, updated_us = $3 \
         WHERE exchange_id = $4 AND messages = $5 AND state IN ($6, $7) AND erased_us IS NULL")
    .bind(moved.entered.unwrap_or(from[0]).as_str())
    .bind(i64::from(sequence))
    .bind(moved.at.as_microsecond())
    .bind(exchange_id.as_bytes().as_slice())
    .bind(i64::from(sequence) - 1)
    .bind(from[0].as_str())
    .bind(from[1].as_str())
    .execute(&mut *connection)
    .await?;
    match exactly_one(changed) {
        Ok(()) => move_clocks(connection, clocks, exchange_id, moved).await.map(Ok),
        Err(rejection) => Ok(Err(rejection)),
    }
}

pub(in crate::store) async fn insert_message(
    connection: &mut Connection<'_>,
    exchange_id: &ExchangeId,
    sequence: u32,
    message: &[u8],
) -> Result<(), StoreError> {
    sql("INSERT INTO messages (exchange_id, sequence, message) VALUES ($1, $2, $3)")
        .bind(exchange_id.as_bytes().as_slice())
        .bind(i64::from(sequence))
        .bind(message)
        .execute(connection)
        .await?;
    Ok(())
}

pub(in crate::store) async fn insert_delivery(
    connection: &mut Connection<'_>,
    exchange_id: &ExchangeId,
    sequence: u32,
    new: &NewDelivery,
    at: Timestamp,
) -> Result<(), StoreError> {
    sql(
        "INSERT INTO deliveries (delivery_id, exchange_id, sequence, recipient, state, attempts, due_us, created_us, sender) \
         VALUES ($1, $2, $3, $4, 'PENDING', 0, $5, $5, $6)",
    )
    .bind(new.delivery_id.as_bytes().as_slice())
    .bind(exchange_id.as_bytes().as_slice())
    .bind(i64::from(sequence))
    .bind(new.recipient.as_str())
    .bind(at.as_microsecond())
    .bind(new.sender.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// Returns the exchange and its new state, where the delivery moved it.
async fn settle(
    connection: &mut Connection<'_>,
    delivery_id: &DeliveryId,
    lease: Option<&Uuid>,
    outcome: &DeliveryOutcome,
    at: Timestamp,
) -> Result<Result<Option<(ExchangeId, ExchangeState)>, Rejection>, StoreError> {
    let (state, due, reason, settled) = match outcome {
        DeliveryOutcome::Delivered => ("DELIVERED", at, None, Some(at)),
        DeliveryOutcome::Retry { due, reason } => ("PENDING", *due, Some(*reason), None),
        DeliveryOutcome::Dead { reason } => ("DEAD", at, Some(*reason), Some(at)),
    };
    // A taker that lost its lease must not settle what another took over. The recipient itself may acknowledge
    // even what was given up.
    let changed = sql(
        "UPDATE deliveries SET state = $1, due_us = $2, reason = $3, settled_us = $4, lease = NULL \
         WHERE delivery_id = $5 AND (($6 IS NULL AND state <> 'DELIVERED') OR (state = 'LEASED' AND lease = $6))",
    )
    .bind(state)
    .bind(due.as_microsecond())
    .bind(reason)
    .bind(settled.map(Timestamp::as_microsecond))
    .bind(delivery_id.as_bytes().as_slice())
    .bind(lease.map(|lease| lease.as_bytes().to_vec()))
    .execute(&mut *connection)
    .await?;
    if let Err(rejection) = exactly_one(changed) {
        return Ok(Err(rejection));
    }
    let (steps, change): (&[Step], _) = match outcome {
        DeliveryOutcome::Delivered => (&[Step::Arrival, Step::LateArrival], Change::Delivered),
        DeliveryOutcome::Dead { .. } => (&[Step::GivingUp], Change::Undeliverable),
        DeliveryOutcome::Retry { .. } => return Ok(Ok(None)),
    };
    // Only the opening message's delivery moves the exchange, and only where nothing else has moved it on.
    let mut moved = None;
    for (from, to) in steps.iter().map(|step| step.moves()) {
        let found = sql(
            "UPDATE exchanges SET state = $1, updated_us = $2 WHERE state = $3 AND exchange_id = \
             (SELECT exchange_id FROM deliveries WHERE delivery_id = $4 AND sequence = 1) RETURNING exchange_id",
        )
        .bind(to.as_str())
        .bind(at.as_microsecond())
        .bind(from.as_str())
        .bind(delivery_id.as_bytes().as_slice())
        .fetch_optional(&mut *connection)
        .await?;
        if let Some(row) = found {
            moved = Some((row.try_get::<Vec<u8>>(0)?, to));
            break;
        }
    }
    events::record_settled(connection, delivery_id, change, at).await?;
    let inconsistent = StoreError::Inconsistent { table: "exchanges", column: "exchange_id" };
    match moved {
        None => Ok(Ok(None)),
        Some((bytes, to)) => {
            let exchange_id = ExchangeId::from_slice(&bytes).ok_or(inconsistent)?;
            Ok(Ok(Some((exchange_id, to))))
        }
    }
}

pub(in crate::store) fn exactly_one(rows: u64) -> Result<(), Rejection> {
    if rows == 1 { Ok(()) } else { Err(Rejection::Conflict) }
}
