//! Changes of exchanges, for who follows them.
//!
//! A change is written in the transaction that makes it, under the next number of one sequence. SQLite has one writer, and on
//! PostgreSQL such a transaction holds the lock of the log, so that the order of the numbers is the order in which they become
//! visible: who has read up to one number misses none below it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use super::database::{Connection, Pool, Row, sql};
use super::{Store, StoreError, signed, unsigned};
use crate::domain::agency::CreditCode;
use crate::domain::exchange::{Change, DeliveryId, ExchangeId, ExchangeState};

/// Changes that are read at once to wake who follows them.
const WOKEN_AT_ONCE: u32 = 1_000;

/// One change of an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    /// Its place in the gateway's sequence. Numbers only rise; there may be gaps.
    pub sequence: u64,
    /// The exchange.
    pub exchange_id: ExchangeId,
    /// What changed.
    pub change: Change,
    /// Where the exchange stands after it.
    pub state: ExchangeState,
    /// The message concerned, by its place in the thread; 0 for none.
    pub message: u32,
    /// When.
    pub changed: Timestamp,
}

/// Wakes who follows an agency's exchanges, and nobody else.
#[derive(Default)]
pub(super) struct Followers {
    newest: AtomicU64,
    stirred: Notify,
    agencies: Mutex<HashMap<String, watch::Sender<()>>>,
}

impl Followers {
    /// Followers of what comes after all that is stored.
    pub(super) async fn load(readers: &Pool) -> Result<Self, StoreError> {
        let newest = sql("SELECT COALESCE(MAX(seq), 0) FROM exchange_events").fetch_one(readers).await?;
        let newest = unsigned(newest.try_get(0)?, "exchange_events", "seq")?;
        Ok(Self { newest: AtomicU64::new(newest), ..Self::default() })
    }

    /// Says that something was committed here.
    pub(super) fn stir(&self) {
        self.stirred.notify_one();
    }

    /// Wakes the parties of what was committed since the last time.
    pub(super) async fn wake(&self, connection: &mut Connection<'_>) -> Result<(), StoreError> {
        loop {
            // Cut off, so that a planner with old figures does not gather all events to sort them.
            let rows = sql(
                "SELECT seq, sender, recipient FROM exchange_events WHERE seq > $1 ORDER BY seq LIMIT $2",
            )
            .bind(signed(self.newest.load(Ordering::Acquire)))
            .bind(i64::from(WOKEN_AT_ONCE))
            .fetch_all(&mut *connection)
            .await?;
            let agencies = self.agencies.lock().unwrap_or_else(PoisonError::into_inner);
            for row in &rows {
                for column in [1, 2] {
                    if let Some(followers) = agencies.get(row.try_get::<&str>(column)?) {
                        followers.send_replace(());
                    }
                }
                let sequence = unsigned(row.try_get(0)?, "exchange_events", "seq")?;
                self.newest.fetch_max(sequence, Ordering::AcqRel);
            }
            if rows.len() < WOKEN_AT_ONCE as usize {
                return Ok(());
            }
        }
    }
}

impl Store {
    /// Changes after something that `party` is party to has changed. It is to be taken before [`Self::events_after`] is
    /// asked, so that nothing falls between the two.
    pub fn follow(&self, party: &CreditCode) -> watch::Receiver<()> {
        // Bounded by the enrolled agencies: others do not get here.
        let mut agencies = self.followers.agencies.lock().unwrap_or_else(PoisonError::into_inner);
        agencies.entry(party.to_string()).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    /// Waits until this gateway has changed an exchange, where others write too. The head of the log changes right after it.
    pub async fn stirred(&self) {
        self.followers.stirred.notified().await;
    }

    /// At most `limit` changes of exchanges that `party` is party to, after a place in the sequence, in order.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn events_after(
        &self,
        party: &CreditCode,
        after: u64,
        limit: u32,
    ) -> Result<Vec<EventRecord>, StoreError> {
        // Each branch is cut off by itself: a page costs what it returns, however long the history is.
        let rows = sql(
            "SELECT seq, exchange_id, change, state, message, changed_us FROM \
             (SELECT * FROM exchange_events WHERE sender = $1 AND seq > $2 ORDER BY seq LIMIT $3) sent \
             UNION ALL SELECT seq, exchange_id, change, state, message, changed_us FROM \
             (SELECT * FROM exchange_events WHERE recipient = $1 AND sender <> $1 AND seq > $2 ORDER BY seq LIMIT $3) received \
             ORDER BY 1 LIMIT $3",
        )
        .bind(party.as_str())
        .bind(signed(after))
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(event).collect()
    }
}

/// Writes a change of an exchange, as the exchange stands now.
pub(super) async fn record(
    connection: &mut Connection<'_>,
    exchange_id: &ExchangeId,
    change: Change,
    message: u32,
    at: Timestamp,
) -> Result<(), StoreError> {
    sql("INSERT INTO exchange_events (exchange_id, sender, recipient, change, state, message, changed_us) \
         SELECT exchange_id, sender, recipient, $2, state, $3, $4 FROM exchanges WHERE exchange_id = $1")
    .bind(exchange_id.as_bytes().as_slice())
    .bind(change.as_str())
    .bind(i64::from(message))
    .bind(at.as_microsecond())
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes that a delivery was settled.
pub(super) async fn record_settled(
    connection: &mut Connection<'_>,
    delivery_id: &DeliveryId,
    change: Change,
    at: Timestamp,
) -> Result<(), StoreError> {
    sql("INSERT INTO exchange_events (exchange_id, sender, recipient, change, state, message, changed_us) \
         SELECT x.exchange_id, x.sender, x.recipient, $2, x.state, d.sequence, $3 FROM deliveries d \
         JOIN exchanges x ON x.exchange_id = d.exchange_id WHERE d.delivery_id = $1")
    .bind(delivery_id.as_bytes().as_slice())
    .bind(change.as_str())
    .bind(at.as_microsecond())
    .execute(connection)
    .await?;
    Ok(())
}

fn event(row: &Row) -> Result<EventRecord, StoreError> {
    let inconsistent = |column| StoreError::Inconsistent { table: "exchange_events", column };
    Ok(EventRecord {
        sequence: unsigned(row.try_get(0)?, "exchange_events", "seq")?,
        exchange_id: ExchangeId::from_slice(row.try_get(1)?).ok_or_else(|| inconsistent("exchange_id"))?,
        change: Change::from_name(row.try_get(2)?).ok_or_else(|| inconsistent("change"))?,
        state: ExchangeState::from_name(row.try_get(3)?).ok_or_else(|| inconsistent("state"))?,
        message: u32::try_from(row.try_get::<i64>(4)?).map_err(|_| inconsistent("message"))?,
        changed: Timestamp::from_microsecond(row.try_get(5)?).map_err(|_| inconsistent("changed_us"))?,
    })
}
