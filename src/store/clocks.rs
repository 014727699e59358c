//! The clocks that run in exchanges: started and stopped with what moves the exchange, raised as overdue by the timer.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;

use super::database::{Connection, Row, per_database, sql};
use super::{Store, StoreError};
use crate::domain::clocks::{Clocks, Running, SourceMark, StartedClock};
use crate::domain::exchange::{ExchangeId, ExchangeState, Kind, ResponseKind};
use crate::domain::region::RegionCode;

/// Between the articles of one clock in their column; no article holds it.
pub(super) const BETWEEN_ARTICLES: &str = "; ";

/// A clock of an exchange.
#[derive(Clone, Debug)]
pub struct ClockRecord {
    /// Names the clock.
    pub clock: String,
    /// The articles of law.
    pub articles: Vec<String>,
    /// How far the figure was verified.
    pub source: SourceMark,
    /// When it started.
    pub started: Timestamp,
    /// The first instant at which it is overdue.
    pub due: Timestamp,
    /// Its last day; nothing for hours.
    pub due_on: Option<Date>,
    /// Whether it touches a year whose holidays were not known.
    pub is_estimate: bool,
    /// When it stopped.
    pub stopped: Option<Timestamp>,
    /// Since when it is overdue, once the timer has found it so.
    pub overdue_since: Option<Timestamp>,
}

/// A running clock that has come to its end, and the exchange that it runs in.
#[derive(Clone, Debug)]
pub struct DueClock {
    /// The exchange.
    pub exchange_id: ExchangeId,
    /// Names the clock.
    pub clock: String,
    /// Which of its rounds in this exchange; the first is 1.
    pub round: u32,
    /// The articles of law.
    pub articles: Vec<String>,
    /// Its last day; nothing for hours.
    pub due_on: Option<Date>,
}

/// How many exchanges are overdue by one clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverdueCount {
    /// Kind of exchange.
    pub kind: String,
    /// Names the clock.
    pub clock: String,
    /// Exchanges.
    pub exchanges: u64,
}

impl Store {
    /// At most `limit` clocks that have come to their end and are not yet raised, longest due first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn due_clocks(&self, now: Timestamp, limit: u32) -> Result<Vec<DueClock>, StoreError> {
        let rows = sql("SELECT exchange_id, clock, round, articles, due_on FROM running_clocks \
             WHERE stopped_us IS NULL AND overdue_us IS NULL AND due_us <= $1 ORDER BY due_us LIMIT $2")
        .bind(now.as_microsecond())
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await?;
        let due = |row: &Row| {
            Ok(DueClock {
                exchange_id: exchange_id(row.try_get(0)?)?,
                clock: row.try_get(1)?,
                round: u32::try_from(row.try_get::<i64>(2)?).map_err(|_| inconsistent("round"))?,
                articles: articles(row.try_get(3)?),
                due_on: date(row.try_get(4)?)?,
            })
        };
        rows.iter().map(due).collect()
    }

    /// The clocks of exchanges, in the order in which they started.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn clocks_of(
        &self,
        exchanges: &[ExchangeId],
    ) -> Result<BTreeMap<ExchangeId, Vec<ClockRecord>>, StoreError> {
        let ids: Vec<String> = exchanges.iter().map(|id| format!("\"{}\"", id.uuid().simple())).collect();
        macro_rules! among {
            ($ids:literal) => {
                concat!(
                    "SELECT exchange_id, clock, articles, source, started_us, due_us, due_on, estimate, stopped_us, \
                     overdue_us FROM running_clocks WHERE exchange_id IN (",
                    $ids,
                    ") ORDER BY exchange_id, started_us, clock, round"
                )
            };
        }
        let rows = sql(per_database! {
            sqlite: among!("SELECT unhex(value) FROM json_each($1)"),
            postgres: among!("SELECT decode(value, 'hex') FROM json_array_elements_text($1::json) value"),
        })
        .bind(format!("[{}]", ids.join(",")))
        .fetch_all(&self.readers)
        .await?;
        let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for row in &rows {
            found.entry(exchange_id(row.try_get(0)?)?).or_default().push(record(row)?);
        }
        Ok(found)
    }

    /// How many exchanges are overdue, by kind and clock.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn overdue_counts(&self) -> Result<Vec<OverdueCount>, StoreError> {
        let rows = sql("SELECT e.kind, c.clock, COUNT(DISTINCT c.exchange_id) FROM running_clocks c \
             JOIN exchanges e ON e.exchange_id = c.exchange_id \
             WHERE c.stopped_us IS NULL AND c.overdue_us IS NOT NULL GROUP BY e.kind, c.clock")
        .fetch_all(&self.readers)
        .await?;
        let count = |row: &Row| {
            let exchanges = super::unsigned(row.try_get(2)?, "running_clocks", "exchange_id")?;
            Ok(OverdueCount { kind: row.try_get(0)?, clock: row.try_get(1)?, exchanges })
        };
        rows.iter().map(count).collect()
    }
}

/// What a move of an exchange does to its clocks.
pub(super) struct Move {
    /// The state that the exchange enters, unless it stays where it is.
    pub(super) entered: Option<ExchangeState>,
    /// The answer that moves it, if one does.
    pub(super) by: Option<ResponseKind>,
    /// When.
    pub(super) at: Timestamp,
    /// The last day that the message sets.
    pub(super) set: Option<Date>,
}

/// Stops and starts the clocks of an exchange that was moved.
pub(super) async fn move_clocks(
    connection: &mut Connection<'_>,
    clocks: &Clocks,
    exchange_id: &ExchangeId,
    moved: &Move,
) -> Result<(), StoreError> {
    let id = exchange_id.as_bytes().as_slice();
    let running = sql("SELECT clock FROM running_clocks WHERE exchange_id = $1 AND stopped_us IS NULL")
        .bind(id)
        .fetch_all(&mut *connection)
        .await?;
    let mut still_running = Vec::new();
    for row in &running {
        let clock: &str = row.try_get(0)?;
        if !clocks.stops(clock, moved.entered, moved.by) {
            still_running.push(clock);
            continue;
        }
        // An answer may come late and yet before the timer's look: late it is all the same.
        sql("UPDATE running_clocks SET stopped_us = $1, overdue_us = COALESCE(overdue_us, \
             CASE WHEN $4 <> 0 AND due_us <= $1 THEN due_us END) \
             WHERE exchange_id = $2 AND clock = $3 AND stopped_us IS NULL")
        .bind(moved.at.as_microsecond())
        .bind(id)
        .bind(clock)
        .bind(i64::from(moved.by.is_some()))
        .execute(&mut *connection)
        .await?;
    }
    let Some(entered) = moved.entered else { return Ok(()) };
    let row = sql("SELECT kind, track, region FROM exchanges WHERE exchange_id = $1")
        .bind(id)
        .fetch_one(&mut *connection)
        .await?;
    let of_exchange = |column| StoreError::Inconsistent { table: "exchanges", column };
    let exchange = Running {
        kind: Kind::from_name(row.try_get(0)?).ok_or_else(|| of_exchange("kind"))?,
        track: row.try_get(1)?,
        region: RegionCode::parse(row.try_get(2)?).map_err(|_| of_exchange("region"))?,
    };
    let mut started = clocks.started_by(&exchange, entered, moved.at, moved.set);
    started.retain(|clock| !still_running.contains(&clock.id.as_str()));
    start_clocks(connection, exchange_id, moved.at, &started).await
}

/// Starts clocks of an exchange.
pub(super) async fn start_clocks(
    connection: &mut Connection<'_>,
    exchange_id: &ExchangeId,
    at: Timestamp,
    started: &[StartedClock],
) -> Result<(), StoreError> {
    for clock in started {
        insert(connection, exchange_id, at, clock).await?;
    }
    Ok(())
}

async fn insert(
    connection: &mut Connection<'_>,
    exchange_id: &ExchangeId,
    at: Timestamp,
    clock: &StartedClock,
) -> Result<(), StoreError> {
    sql(
        "INSERT INTO running_clocks (exchange_id, clock, round, articles, source, started_us, due_us, due_on, estimate) \
         SELECT $1, $2, 1 + COUNT(*), $3, $4, $5, $6, $7, $8 FROM running_clocks \
         WHERE exchange_id = $1 AND clock = $2",
    )
    .bind(exchange_id.as_bytes().as_slice())
    .bind(&clock.id)
    .bind(clock.articles.join(BETWEEN_ARTICLES))
    .bind(clock.source.as_str())
    .bind(at.as_microsecond())
    .bind(clock.due.at.as_microsecond())
    .bind(clock.due.on.map(|day| day.to_string()))
    .bind(i64::from(clock.due.is_estimate))
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether a clock still runs and has come to its end.
pub(super) async fn is_due(
    connection: &mut Connection<'_>,
    exchange_id: &ExchangeId,
    clock: &str,
    round: u32,
    at: Timestamp,
) -> Result<bool, StoreError> {
    let found = sql("SELECT 1 FROM running_clocks WHERE exchange_id = $1 AND clock = $2 AND round = $3 \
         AND due_us <= $4 AND stopped_us IS NULL")
    .bind(exchange_id.as_bytes().as_slice())
    .bind(clock)
    .bind(i64::from(round))
    .bind(at.as_microsecond())
    .fetch_optional(connection)
    .await?;
    Ok(found.is_some())
}

/// Raises OVERDUE for a clock that still runs and has come to its end. Returns how many were raised: one or none.
pub(super) async fn raise_overdue(
    connection: &mut Connection<'_>,
    exchange_id: &ExchangeId,
    clock: &str,
    round: u32,
    at: Timestamp,
) -> Result<u64, StoreError> {
    let raised = sql(
        "UPDATE running_clocks SET overdue_us = due_us WHERE exchange_id = $1 AND clock = $2 AND round = $3 \
         AND due_us <= $4 AND stopped_us IS NULL AND overdue_us IS NULL",
    )
    .bind(exchange_id.as_bytes().as_slice())
    .bind(clock)
    .bind(i64::from(round))
    .bind(at.as_microsecond())
    .execute(connection)
    .await?;
    Ok(raised)
}

fn record(row: &Row) -> Result<ClockRecord, StoreError> {
    let time = |at: i64, column| Timestamp::from_microsecond(at).map_err(|_| inconsistent(column));
    let optional = |at: Option<i64>, column| at.map(|at| time(at, column)).transpose();
    Ok(ClockRecord {
        clock: row.try_get(1)?,
        articles: articles(row.try_get(2)?),
        source: SourceMark::from_name(row.try_get(3)?).ok_or_else(|| inconsistent("source"))?,
        started: time(row.try_get(4)?, "started_us")?,
        due: time(row.try_get(5)?, "due_us")?,
        due_on: date(row.try_get(6)?)?,
        is_estimate: row.try_get::<i64>(7)? != 0,
        stopped: optional(row.try_get(8)?, "stopped_us")?,
        overdue_since: optional(row.try_get(9)?, "overdue_us")?,
    })
}

fn articles(text: &str) -> Vec<String> {
    text.split(BETWEEN_ARTICLES).filter(|article| !article.is_empty()).map(str::to_owned).collect()
}

fn date(text: Option<&str>) -> Result<Option<Date>, StoreError> {
    text.map(|text| text.parse().map_err(|_| inconsistent("due_on"))).transpose()
}

fn exchange_id(bytes: &[u8]) -> Result<ExchangeId, StoreError> {
    ExchangeId::from_slice(bytes).ok_or_else(|| inconsistent("exchange_id"))
}

fn inconsistent(column: &'static str) -> StoreError {
    StoreError::Inconsistent { table: "running_clocks", column }
}
