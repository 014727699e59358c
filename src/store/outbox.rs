//! The outbox as its operator sees and works on it: ids, states and times, no content.

use jiff::Timestamp;

use super::clocks::{Move, move_clocks};
use super::database::{Connection, Row, per_database, sql};
use super::effect::{Rejection, exactly_one};
use super::{Store, StoreError, events, unsigned};
use crate::domain::agency::CreditCode;
use crate::domain::clocks::Clocks;
use crate::domain::exchange::{Change, DeliveryId, DeliveryState, ExchangeId, Step};

/// A delivery as its operator sees it.
#[derive(Clone, Debug)]
pub struct OutboxRecord {
    /// Its id.
    pub delivery_id: DeliveryId,
    /// The exchange, or the verification that was completed later.
    pub exchange_id: ExchangeId,
    /// The message's place in the thread.
    pub sequence: u32,
    /// To whom.
    pub recipient: CreditCode,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts made, and times it was pulled.
    pub attempts: u32,
    /// When it was put in the outbox.
    pub created: Timestamp,
    /// Of one that waits, when it is tried again; of one on its way, when its lease ends.
    pub due: Timestamp,
    /// When it was delivered or given up.
    pub settled: Option<Timestamp>,
    /// Why the last attempt failed, in UPPER_SNAKE.
    pub reason: Option<String>,
}

/// Which deliveries to list.
#[derive(Clone, Debug)]
pub struct OutboxFilter {
    /// Only in this state; without it, all that are not delivered.
    pub state: Option<DeliveryState>,
    /// Only to this agency.
    pub recipient: Option<CreditCode>,
    /// Only those put in the outbox before.
    pub created_before: Timestamp,
    /// Only those behind this one in the order of the list.
    pub after: Option<(Timestamp, DeliveryId)>,
}

/// What an operator does to the outbox.
#[derive(Clone, Copy, Debug)]
pub enum OutboxChange {
    /// Has all deliveries of an exchange that were given up made again.
    Redeliver {
        /// The exchange.
        exchange_id: ExchangeId,
        /// When.
        at: Timestamp,
    },
    /// Has a delivery that waits tried now.
    RetryNow {
        /// The delivery.
        delivery_id: DeliveryId,
        /// When.
        at: Timestamp,
    },
}

/// Figures of the outbox.
#[derive(Clone, Debug, Default)]
pub struct OutboxFigures {
    /// Deliveries that are neither delivered nor given up.
    pub open: u64,
    /// When the oldest of them was put in the outbox.
    pub oldest: Option<Timestamp>,
    /// Deliveries on lease.
    pub leased: u64,
    /// When the lease that was taken first ends.
    pub first_lease_ends: Option<Timestamp>,
    /// Deliveries given up.
    pub dead: u64,
}

const SELECT: &str = "SELECT d.delivery_id, d.exchange_id, d.sequence, d.recipient, d.state, d.attempts, d.created_us, \
                      d.due_us, d.settled_us, d.reason FROM deliveries d";

impl Store {
    /// At most `limit` deliveries of any agency, the oldest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn outbox(&self, filter: &OutboxFilter, limit: u32) -> Result<Vec<OutboxRecord>, StoreError> {
        // Each in words by which the database finds the index that holds few rows.
        let states: &[&str] = match filter.state {
            None => &["d.state IN ('PENDING', 'LEASED')", "d.state = 'DEAD'"],
            Some(DeliveryState::Pending) => &["d.state IN ('PENDING', 'LEASED') AND d.state = 'PENDING'"],
            Some(DeliveryState::Leased) => &["d.state = 'LEASED'"],
            Some(DeliveryState::Delivered) => &["d.state = 'DELIVERED'"],
            Some(DeliveryState::Dead) => &["d.state = 'DEAD'"],
        };
        let (after, after_id) = filter.after.as_ref().map_or((i64::MIN, Vec::new()), |(created, id)| {
            (created.as_microsecond(), id.as_bytes().to_vec())
        });
        let mut found = Vec::new();
        for state in states {
            let text = format!(
                "{SELECT} WHERE {state} AND ($1 IS NULL OR d.recipient = $1) AND d.created_us < $2 \
                 AND (d.created_us, d.delivery_id) > ($3, $4) ORDER BY d.created_us, d.delivery_id LIMIT $5"
            );
            let rows = sql(text)
                .bind(filter.recipient.as_ref().map(CreditCode::as_str))
                .bind(filter.created_before.as_microsecond())
                .bind(after)
                .bind(after_id.as_slice())
                .bind(i64::from(limit))
                .fetch_all(&self.readers)
                .await?;
            for row in &rows {
                found.push(record(row)?);
            }
        }
        found.sort_by_key(|record| (record.created, *record.delivery_id.as_bytes()));
        found.truncate(limit as usize);
        Ok(found)
    }

    /// A delivery to whomever it goes.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn outbox_delivery(
        &self,
        delivery_id: &DeliveryId,
    ) -> Result<Option<OutboxRecord>, StoreError> {
        let text = format!("{SELECT} WHERE d.delivery_id = $1");
        let row = sql(text).bind(delivery_id.as_bytes().as_slice()).fetch_optional(&self.readers).await?;
        row.as_ref().map(record).transpose()
    }

    /// All deliveries of an exchange, in the order of its thread.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn deliveries_of(&self, exchange_id: &ExchangeId) -> Result<Vec<OutboxRecord>, StoreError> {
        let text = format!("{SELECT} WHERE d.exchange_id = $1 ORDER BY d.sequence, d.delivery_id");
        let rows = sql(text).bind(exchange_id.as_bytes().as_slice()).fetch_all(&self.readers).await?;
        rows.iter().map(record).collect()
    }

    /// Makes what was on its way by push due at once: all of it where there is only one gateway, and it starts; otherwise what
    /// a gateway of this name was delivering. What an agency pulled is its own until its lease ends.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn release_leases(
        &self,
        recipients: &[CreditCode],
        node: &str,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        if !self.is_alone() {
            return self.release_leases_of(node, now).await;
        }
        let recipients: Vec<_> = recipients.iter().map(CreditCode::as_str).collect();
        let released =
            sql("UPDATE deliveries SET state = 'PENDING', due_us = $1, lease = NULL WHERE state = 'LEASED' \
             AND recipient IN (SELECT value FROM json_each($2))");
        let recipients = serde_json::to_string(&recipients).unwrap_or_default();
        self.write(released.bind(now.as_microsecond()).bind(recipients)).await
    }

    /// Makes due at once what a gateway was delivering that has ended.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn release_leases_of(&self, node: &str, now: Timestamp) -> Result<u64, StoreError> {
        let released =
            sql("UPDATE deliveries SET state = 'PENDING', due_us = $1, lease = NULL, lease_node = NULL \
             WHERE state = 'LEASED' AND lease_node = $2");
        self.write(released.bind(now.as_microsecond()).bind(node)).await
    }

    /// How full the outbox is. Read from indexes that hold only what is not delivered.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn outbox_figures(&self) -> Result<OutboxFigures, StoreError> {
        // Ids rise with time: the smallest is the oldest.
        let row = sql(per_database! {
            sqlite: "SELECT o.open, (SELECT created_us FROM deliveries WHERE delivery_id = o.oldest), l.leased, l.ends, \
                     (SELECT COUNT(*) FROM deliveries WHERE state = 'DEAD') FROM \
                     (SELECT COUNT(*) AS open, MIN(delivery_id) AS oldest FROM deliveries \
                      WHERE state IN ('PENDING', 'LEASED')) o, \
                     (SELECT COUNT(*) AS leased, MIN(due_us) AS ends FROM deliveries WHERE state = 'LEASED') l",
            // There the index holds it.
            postgres: "SELECT o.open, o.oldest, l.leased, l.ends, \
                       (SELECT COUNT(*) FROM deliveries WHERE state = 'DEAD') FROM \
                       (SELECT COUNT(*) AS open, MIN(created_us) AS oldest FROM deliveries \
                        WHERE state IN ('PENDING', 'LEASED')) o, \
                       (SELECT COUNT(*) AS leased, MIN(due_us) AS ends FROM deliveries WHERE state = 'LEASED') l",
        })
        .fetch_one(&self.readers)
        .await?;
        Ok(OutboxFigures {
            open: unsigned(row.try_get(0)?, "deliveries", "state")?,
            oldest: optional_time(&row, 1, "created_us")?,
            leased: unsigned(row.try_get(2)?, "deliveries", "state")?,
            first_lease_ends: optional_time(&row, 3, "due_us")?,
            dead: unsigned(row.try_get(4)?, "deliveries", "state")?,
        })
    }
}

/// Makes an operator's change.
pub(super) async fn apply(
    connection: &mut Connection<'_>,
    clocks: &Clocks,
    change: &OutboxChange,
) -> Result<Result<(), Rejection>, StoreError> {
    match change {
        OutboxChange::Redeliver { exchange_id, at } => redeliver(connection, clocks, exchange_id, *at).await,
        OutboxChange::RetryNow { delivery_id, at } => {
            let changed =
                sql("UPDATE deliveries SET due_us = $1 WHERE delivery_id = $2 AND state = 'PENDING'")
                    .bind(at.as_microsecond())
                    .bind(delivery_id.as_bytes().as_slice())
                    .execute(connection)
                    .await?;
            Ok(exactly_one(changed))
        }
    }
}

/// Attempts go on being counted: a lease guards itself by their number. What was erased has nothing left to deliver.
async fn redeliver(
    connection: &mut Connection<'_>,
    clocks: &Clocks,
    exchange_id: &ExchangeId,
    at: Timestamp,
) -> Result<Result<(), Rejection>, StoreError> {
    let id = exchange_id.as_bytes().as_slice();
    let rows = sql(
        "UPDATE deliveries SET state = 'PENDING', due_us = $1, redelivered_us = $1, attempts_before = attempts, \
         settled_us = NULL WHERE exchange_id = $2 AND state = 'DEAD' AND NOT EXISTS \
         (SELECT 1 FROM exchanges WHERE exchanges.exchange_id = $2 AND erased_us IS NOT NULL) RETURNING sequence",
    )
    .bind(at.as_microsecond())
    .bind(id)
    .fetch_all(&mut *connection)
    .await?;
    if rows.is_empty() {
        return Ok(Err(Rejection::Conflict));
    }
    let (from, to) = Step::Redelivery.moves();
    let moved = sql("UPDATE exchanges SET state = $1, updated_us = $2 WHERE exchange_id = $3 AND state = $4")
        .bind(to.as_str())
        .bind(at.as_microsecond())
        .bind(id)
        .bind(from.as_str())
        .execute(&mut *connection)
        .await?;
    if moved == 1 {
        let moved = Move { entered: Some(to), by: None, at, set: None };
        move_clocks(connection, clocks, exchange_id, &moved).await?;
    }
    let mut sequences: Vec<u32> = Vec::with_capacity(rows.len());
    for row in &rows {
        sequences.push(number(row, 0, "sequence")?);
    }
    sequences.sort_unstable();
    sequences.dedup();
    for sequence in sequences {
        events::record(connection, exchange_id, Change::Redelivered, sequence, at).await?;
    }
    Ok(Ok(()))
}

fn record(row: &Row) -> Result<OutboxRecord, StoreError> {
    let time = |micros: i64, column| Timestamp::from_microsecond(micros).map_err(|_| inconsistent(column));
    Ok(OutboxRecord {
        delivery_id: DeliveryId::from_slice(row.try_get(0)?).ok_or_else(|| inconsistent("delivery_id"))?,
        exchange_id: ExchangeId::from_slice(row.try_get(1)?).ok_or_else(|| inconsistent("exchange_id"))?,
        sequence: number(row, 2, "sequence")?,
        recipient: CreditCode::parse(row.try_get(3)?).map_err(|_| inconsistent("recipient"))?,
        state: DeliveryState::from_name(row.try_get(4)?).ok_or_else(|| inconsistent("state"))?,
        attempts: number(row, 5, "attempts")?,
        created: time(row.try_get(6)?, "created_us")?,
        due: time(row.try_get(7)?, "due_us")?,
        settled: optional_time(row, 8, "settled_us")?,
        reason: row.try_get(9)?,
    })
}

fn number(row: &Row, place: usize, column: &'static str) -> Result<u32, StoreError> {
    u32::try_from(row.try_get::<i64>(place)?).map_err(|_| inconsistent(column))
}

fn optional_time(row: &Row, place: usize, column: &'static str) -> Result<Option<Timestamp>, StoreError> {
    let micros: Option<i64> = row.try_get(place)?;
    micros.map(|at| Timestamp::from_microsecond(at).map_err(|_| inconsistent(column))).transpose()
}

fn inconsistent(column: &'static str) -> StoreError {
    StoreError::Inconsistent { table: "deliveries", column }
}
