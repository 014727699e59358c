//! What a set changes: rows that are there, each of which must be as its effect expects it.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::super::{DeliveryOutcome, NewMessage};
use super::given::{column, given, hex, json, on_given};
use crate::domain::clocks::Running;
use crate::domain::exchange::{DeliveryId, ExchangeId, ExchangeState, Kind, Step};
use crate::domain::region::RegionCode;
use crate::store::StoreError;
use crate::store::database::{Connection, Row, Text, sql};
use crate::store::quotas::{QuotaUse, QuotaWindow};

/// Runs a statement that is to change one row for each that it is given. Returns whether it did.
async fn changes_each<T: Serialize>(
    connection: &mut Connection<'_>,
    text: Text,
    rows: &[T],
) -> Result<bool, StoreError> {
    Ok(rows.is_empty() || sql(text).bind(json(rows)?).execute(connection).await? == rows.len() as u64)
}

/// Calls that are counted against one window of a quota.
#[derive(Serialize)]
pub(super) struct UseRow<'b> {
    agreement: &'b str,
    agency: &'b str,
    staff: &'b str,
    length: &'b str,
    begins: i64,
    calls: i64,
    #[serde(skip)]
    most: i64,
}

/// Names a window: agreement, caller, operator, period, beginning.
type UseKey = (String, String, String, String, i64);

impl<'b> UseRow<'b> {
    /// One call.
    pub(super) fn new(call: &'b QuotaUse, window: &'b QuotaWindow) -> Self {
        Self {
            agreement: &call.agreement_id,
            agency: call.caller.as_str(),
            staff: &window.operator,
            length: window.period.as_str(),
            begins: window.begins.as_microsecond(),
            calls: 1,
            most: i64::from(window.limit),
        }
    }

    pub(super) fn key(&self) -> UseKey {
        let [agreement, agency, staff, length] =
            [self.agreement, self.agency, self.staff, self.length].map(str::to_owned);
        (agreement, agency, staff, length, self.begins)
    }

    /// Takes the calls of another row of its window. Where their limits differ, the smaller one holds for both: what that
    /// refuses too many is made one by one.
    pub(super) fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.most = self.most.min(other.most);
    }
}

/// Counts calls. Returns whether there was room for all of them.
pub(super) async fn count(connection: &mut Connection<'_>, uses: &[UseRow<'_>]) -> Result<bool, StoreError> {
    if uses.is_empty() {
        return Ok(true);
    }
    let text = on_given!(
        "INSERT INTO quota_use (agreement_id, caller, operator, period, begins_us, used) \
         SELECT agreement, agency, staff, length, begins, calls FROM",
        [agreement text, agency text, staff text, length text, begins number, calls number],
        "WHERE true ON CONFLICT (agreement_id, caller, operator, period, begins_us) \
         DO UPDATE SET used = quota_use.used + excluded.used \
         RETURNING agreement_id, caller, operator, period, begins_us, used"
    );
    let most: HashMap<UseKey, i64> = uses.iter().map(|row| (row.key(), row.most)).collect();
    for row in sql(text).bind(json(uses)?).fetch_all(connection).await? {
        let key = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
        if most.get(&key).is_none_or(|most| row.try_get::<i64>(5).is_ok_and(|used| used > *most)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A delivery that is taken for an attempt.
#[derive(Serialize)]
pub(super) struct LeaseRow<'b> {
    id: String,
    made: i64,
    taker: String,
    node: Option<&'b str>,
    ends: i64,
}

impl<'b> LeaseRow<'b> {
    pub(super) fn new(
        id: &DeliveryId,
        made: u32,
        taker: &Uuid,
        node: Option<&'b str>,
        ends: Timestamp,
    ) -> Self {
        let (id, taker) = (hex(id.as_bytes()), hex(taker.as_bytes()));
        Self { id, made: i64::from(made), taker, node, ends: ends.as_microsecond() }
    }
}

/// Takes deliveries for an attempt each. Returns whether all could be taken.
pub(super) async fn lease(
    connection: &mut Connection<'_>,
    leases: &[LeaseRow<'_>],
) -> Result<bool, StoreError> {
    // Said so that no index of what is open fits: found by its key, a delivery costs the same in any outbox.
    let text = on_given!(
        "UPDATE deliveries SET state = 'LEASED', attempts = attempts + 1, lease = taker, due_us = ends, \
         lease_node = node FROM",
        [id bytes, made number, taker bytes, node text, ends number],
        "WHERE delivery_id = id AND attempts = made AND CASE state WHEN 'PENDING' THEN 1 WHEN 'LEASED' THEN 1 END = 1"
    );
    changes_each(connection, text, leases).await
}

/// An exchange that a message moves on.
#[derive(Serialize)]
pub(super) struct MessageMoveRow {
    id: String,
    number: i64,
    stood: &'static str,
    arrived: &'static str,
    enters: &'static str,
    at: i64,
}

impl MessageMoveRow {
    pub(super) fn new(new: &NewMessage) -> Self {
        Self {
            id: hex(new.exchange_id.as_bytes()),
            number: i64::from(new.sequence),
            stood: new.from.as_str(),
            arrived: new.from.or_arrived(new.response, new.to).as_str(),
            enters: new.to.as_str(),
            at: new.at.as_microsecond(),
        }
    }
}

/// Moves exchanges on where nothing else has moved them. Returns whether all could be moved.
pub(super) async fn move_with_messages(
    connection: &mut Connection<'_>,
    moves: &[MessageMoveRow],
) -> Result<bool, StoreError> {
    let text = on_given!(
        "UPDATE exchanges SET state = enters, messages = number, updated_us = at FROM",
        [id bytes, number number, stood text, arrived text, enters text, at number],
        "WHERE exchange_id = id AND messages = number - 1 AND state IN (stood, arrived) AND erased_us IS NULL"
    );
    changes_each(connection, text, moves).await
}

/// An attempt that ends.
#[derive(Serialize)]
pub(super) struct SettleRow {
    id: String,
    holder: Option<String>,
    becomes: &'static str,
    again: i64,
    why: Option<&'static str>,
    ended: Option<i64>,
}

impl SettleRow {
    pub(super) fn new(
        id: &DeliveryId,
        holder: Option<&Uuid>,
        outcome: &DeliveryOutcome,
        at: Timestamp,
    ) -> Self {
        let (becomes, again, why, ended) = match outcome {
            DeliveryOutcome::Delivered => ("DELIVERED", at, None, Some(at)),
            DeliveryOutcome::Retry { due, reason } => ("PENDING", *due, Some(*reason), None),
            DeliveryOutcome::Dead { reason } => ("DEAD", at, Some(*reason), Some(at)),
        };
        Self {
            id: hex(id.as_bytes()),
            holder: holder.map(|lease| hex(lease.as_bytes())),
            becomes,
            again: again.as_microsecond(),
            why,
            ended: ended.map(Timestamp::as_microsecond),
        }
    }
}

/// A delivery whose attempt has ended, and the message that it carries.
pub(super) struct Settled {
    pub(super) delivery_id: DeliveryId,
    pub(super) exchange_id: ExchangeId,
    pub(super) sequence: u32,
}

/// Ends attempts, as far as their takers still hold them.
pub(super) async fn settle(
    connection: &mut Connection<'_>,
    ends: &[SettleRow],
) -> Result<Vec<Settled>, StoreError> {
    if ends.is_empty() {
        return Ok(Vec::new());
    }
    let text = on_given!(
        "UPDATE deliveries SET state = becomes, due_us = again, reason = why, settled_us = ended, lease = NULL FROM",
        [id bytes, holder bytes, becomes text, again number, why text, ended number],
        "WHERE delivery_id = id AND ((holder IS NULL AND state <> 'DELIVERED') OR (state = 'LEASED' AND lease = holder)) \
         RETURNING delivery_id, exchange_id, sequence"
    );
    let settled = |row: &Row| {
        let sequence = row.try_get::<i64>(2)?;
        Ok(Settled {
            delivery_id: DeliveryId::from_slice(row.try_get(0)?)
                .ok_or_else(|| inconsistent("deliveries", "delivery_id"))?,
            exchange_id: exchange_id(row.try_get(1)?)?,
            sequence: u32::try_from(sequence).map_err(|_| inconsistent("deliveries", "sequence"))?,
        })
    };
    sql(text).bind(json(ends)?).fetch_all(connection).await?.iter().map(settled).collect()
}

/// A step that an exchange takes by itself, where it stands before it.
#[derive(Serialize)]
pub(super) struct MoveRow {
    id: String,
    stood: &'static str,
    enters: &'static str,
    at: i64,
}

impl MoveRow {
    pub(super) fn new(id: &ExchangeId, step: Step, at: Timestamp) -> Self {
        let (from, to) = step.moves();
        let (stood, enters) = (from.as_str(), to.as_str());
        Self { id: hex(id.as_bytes()), stood, enters, at: at.as_microsecond() }
    }
}

/// Moves exchanges that stand before one of their steps. Returns where each of these stands now.
pub(super) async fn arrive(
    connection: &mut Connection<'_>,
    steps: &[MoveRow],
) -> Result<HashMap<ExchangeId, ExchangeState>, StoreError> {
    if steps.is_empty() {
        return Ok(HashMap::new());
    }
    let text = on_given!(
        "UPDATE exchanges SET state = enters, updated_us = at FROM",
        [id bytes, stood text, enters text, at number],
        "WHERE exchange_id = id AND state = stood RETURNING exchange_id, state"
    );
    let rows = sql(text).bind(json(steps)?).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((exchange_id(row.try_get(0)?)?, state(row.try_get(1)?)?))).collect()
}

/// An exchange as it stands after the set.
pub(super) struct Moved {
    kind: String,
    track: Option<String>,
    region: String,
    pub(super) sender: String,
    pub(super) recipient: String,
    pub(super) state: ExchangeState,
    /// Its clocks that run.
    pub(super) running: Vec<String>,
}

impl Moved {
    /// What decides which clocks it starts.
    pub(super) fn to_run(&self) -> Result<Running<'_>, StoreError> {
        Ok(Running {
            kind: Kind::from_name(&self.kind).ok_or_else(|| inconsistent("exchanges", "kind"))?,
            track: self.track.as_deref(),
            region: RegionCode::parse(&self.region).map_err(|_| inconsistent("exchanges", "region"))?,
        })
    }
}

/// Reads exchanges that were moved, as far as they are exchanges.
pub(super) async fn moved(
    connection: &mut Connection<'_>,
    exchanges: impl Iterator<Item = ExchangeId>,
) -> Result<HashMap<ExchangeId, Moved>, StoreError> {
    #[derive(Serialize)]
    struct IdRow {
        id: String,
    }
    let ids: Vec<_> = exchanges.map(|id| IdRow { id: hex(id.as_bytes()) }).collect();
    let mut found = HashMap::new();
    if ids.is_empty() {
        return Ok(found);
    }
    let text = on_given!(
        "SELECT e.exchange_id, e.kind, e.track, e.region, e.sender, e.recipient, e.state, c.clock FROM",
        [id bytes],
        "JOIN exchanges e ON e.exchange_id = given.id \
         LEFT JOIN running_clocks c ON c.exchange_id = e.exchange_id AND c.stopped_us IS NULL"
    );
    for row in sql(text).bind(json(&ids)?).fetch_all(connection).await? {
        let exchange = Moved {
            kind: row.try_get(1)?,
            track: row.try_get(2)?,
            region: row.try_get(3)?,
            sender: row.try_get(4)?,
            recipient: row.try_get(5)?,
            state: state(row.try_get(6)?)?,
            running: Vec::new(),
        };
        let exchange = found.entry(exchange_id(row.try_get(0)?)?).or_insert(exchange);
        exchange.running.extend(row.try_get::<Option<String>>(7)?);
    }
    Ok(found)
}

fn exchange_id(bytes: &[u8]) -> Result<ExchangeId, StoreError> {
    ExchangeId::from_slice(bytes).ok_or_else(|| inconsistent("exchanges", "exchange_id"))
}

fn state(name: &str) -> Result<ExchangeState, StoreError> {
    ExchangeState::from_name(name).ok_or_else(|| inconsistent("exchanges", "state"))
}

fn inconsistent(table: &'static str, column: &'static str) -> StoreError {
    StoreError::Inconsistent { table, column }
}
