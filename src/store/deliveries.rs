//! Reading the outbox.

use jiff::Timestamp;

use super::database::{Row, per_database, sql};
use super::{MessageRecord, Store, StoreError, unsigned};
use crate::domain::agency::CreditCode;
use crate::domain::exchange::{DeliveryId, ExchangeId};
use crate::entropy;

/// A delivery in the outbox.
#[derive(Clone, Debug)]
pub struct DeliveryRecord {
    /// Its id.
    pub delivery_id: DeliveryId,
    /// The exchange.
    pub exchange_id: ExchangeId,
    /// The message's place in the thread.
    pub sequence: u32,
    /// To whom.
    pub recipient: CreditCode,
    /// Whether it was settled as delivered.
    pub delivered: bool,
    /// Attempts made.
    pub attempts: u32,
    /// Of them, those before an operator last had it delivered again.
    pub attempts_before: u32,
    /// When it was put in the outbox, or an operator had it delivered again.
    pub since: Timestamp,
}

/// A delivery that was due when it was looked for: others may have taken it since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Its id.
    pub delivery_id: DeliveryId,
    /// Since when it is due.
    pub since: Timestamp,
    /// Bytes of its message, sealed.
    pub bytes: u64,
    /// Whether it is the oldest of its sender, but for what somebody has in hand.
    pub is_oldest: bool,
}

/// A delivery with what it delivers.
#[derive(Debug)]
pub struct Parcel {
    /// The delivery.
    pub record: DeliveryRecord,
    /// Its message, or why that cannot be read.
    pub message: Result<MessageRecord, StoreError>,
}

macro_rules! columns {
    () => {
        "SELECT d.delivery_id, d.exchange_id, d.sequence, d.recipient, d.state, d.attempts, d.attempts_before, \
         COALESCE(d.redelivered_us, d.created_us)"
    };
}

/// What is due to recipient `$1` at `$2` and first in line: no earlier message of its exchange is open. A question for each row and
/// not a join: a planner that thinks of joins first reads all that waits. And said so that no index of what is open fits: PostgreSQL,
/// whose figures may be of a time when little waited, would otherwise go through all that waits for each that waits.
macro_rules! is_due {
    ($is_open:literal) => {
        concat!(
            "d.recipient = $1 AND d.due_us <= $2 AND ",
            $is_open,
            " AND (SELECT 1 FROM deliveries e WHERE e.exchange_id = d.exchange_id AND e.sequence < d.sequence \
             AND e.recipient = d.recipient AND CASE e.state WHEN 'PENDING' THEN 1 WHEN 'LEASED' THEN 1 END = 1 LIMIT 1) IS NULL"
        )
    };
}

const SELECT: &str = concat!(columns!(), " FROM deliveries d");

/// At most `$3` deliveries that are due to recipient `$1` at `$2`, without those `$4`: first the oldest of each sender, then the second
/// of each, and so on. So a flood of one sender keeps nobody else's messages waiting. Where there are more senders than places, the
/// number `$5` says with whom it begins. Costs some looks into an index for each sender, and of each of many senders only so many are
/// read that all are four times what is wanted: the rest of a page is for those who have more. Each question has the order of an
/// index, and ends with what it wants: whatever a planner thinks of how much waits, it does not gather all of it first. (That PostgreSQL
/// takes the index by sender, and goes through no flood, stands in a migration: `many_senders`.)
macro_rules! dealt_out {
    ($database:ident $beside:literal) => {
        concat!(
            "WITH RECURSIVE waiting(sender) AS (\
             SELECT (SELECT d.sender FROM deliveries d WHERE d.recipient = $1 AND d.state IN ('PENDING', 'LEASED') \
             ORDER BY d.sender LIMIT 1) \
             UNION ALL SELECT (SELECT d.sender FROM deliveries d WHERE d.recipient = $1 AND d.sender > w.sender \
             AND d.state IN ('PENDING', 'LEASED') ORDER BY d.sender LIMIT 1) FROM waiting w WHERE w.sender IS NOT NULL), \
             senders(sender, seat) AS (SELECT w.sender, ROW_NUMBER() OVER (ORDER BY w.sender) FROM waiting w WHERE w.sender IS NOT NULL AND \
             (SELECT d.due_us FROM deliveries d WHERE d.recipient = $1 AND d.sender = w.sender \
             AND d.state IN ('PENDING', 'LEASED') ORDER BY d.due_us LIMIT 1) <= $2), \
             part(most) AS (SELECT CASE WHEN COUNT(*) <= 4 THEN $3 ELSE (4 * $3 + COUNT(*) - 1) / COUNT(*) END FROM senders), \
             dealt AS (SELECT d.*, ROW_NUMBER() OVER (PARTITION BY d.sender ORDER BY d.due_us, d.delivery_id) AS place, \
             (s.seat + $5) % (SELECT COUNT(*) FROM senders) AS turn FROM ",
            dealt_out!($database concat!("SELECT d.* FROM deliveries d WHERE d.sender = s.sender AND ",
                is_due!("d.state IN ('PENDING', 'LEASED')"), $beside,
                " ORDER BY d.due_us LIMIT (SELECT most FROM part)")),
            ") SELECT d.delivery_id, d.due_us, COALESCE((SELECT length(m.message) FROM messages m \
             WHERE m.exchange_id = d.exchange_id AND m.sequence = d.sequence), 0), \
             d.place, CASE WHEN d.place >= (SELECT most FROM part) THEN 1 ELSE 0 END \
             FROM (SELECT * FROM dealt ORDER BY place, turn LIMIT $3) d ORDER BY d.place, d.due_us, d.delivery_id"
        )
    };
    (sqlite $of_sender:expr) => {
        concat!("senders s CROSS JOIN deliveries d ON d.delivery_id IN (SELECT delivery_id FROM (", $of_sender, "))")
    };
    (postgres $of_sender:expr) => {
        concat!("senders s CROSS JOIN LATERAL (", $of_sender, ") d")
    };
}

impl Store {
    /// Which of `among` have a delivery that is due. Costs one look into the index for each of them, however much
    /// waits for those who pull.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn recipients_due(
        &self,
        among: &[CreditCode],
        now: Timestamp,
    ) -> Result<Vec<CreditCode>, StoreError> {
        let among: Vec<_> = among.iter().map(CreditCode::as_str).collect();
        let rows = sql(per_database! {
            sqlite: "SELECT value FROM json_each($1) WHERE (SELECT due_us FROM deliveries \
                     WHERE recipient = value AND state IN ('PENDING', 'LEASED') ORDER BY due_us LIMIT 1) <= $2",
            postgres: "SELECT value FROM json_array_elements_text($1::json) value WHERE \
                       (SELECT due_us FROM deliveries \
                        WHERE recipient = value AND state IN ('PENDING', 'LEASED') ORDER BY due_us LIMIT 1) <= $2",
        })
        .bind(serde_json::to_string(&among).unwrap_or_default())
        .bind(now.as_microsecond())
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| CreditCode::parse(row.try_get(0)?).map_err(|_| inconsistent("recipient")))
            .collect()
    }

    /// At most `limit` deliveries of a recipient that are due, the oldest of each sender before the second of any, without those
    /// `beside`, which somebody has in hand: only what it takes to choose among them. Of one exchange only the first that is open, so
    /// that its messages arrive in order. Returns them, and whether more may be due.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn due_ahead(
        &self,
        recipient: &CreditCode,
        now: Timestamp,
        beside: &[DeliveryId],
        limit: u32,
    ) -> Result<(Vec<Due>, bool), StoreError> {
        let rows = sql(per_database! {
            sqlite: dealt_out!(sqlite " AND d.delivery_id NOT IN (SELECT unhex(value) FROM json_each($4))"),
            postgres: dealt_out!(postgres
                " AND d.delivery_id <> ALL (ARRAY(SELECT decode(value, 'hex') FROM json_array_elements_text($4::json) value))"),
        })
        .bind(recipient.as_str())
        .bind(now.as_microsecond())
        .bind(i64::from(limit))
        .bind(in_hex(beside))
        .bind(i64::from(u16::from_be_bytes(entropy::bytes())))
        .fetch_all(&self.readers)
        .await?;
        let mut more = rows.len() >= limit as usize;
        let due = rows.iter().map(|row| {
            more |= row.try_get::<i64>(4)? == 1;
            Ok(Due {
                delivery_id: id(row)?,
                since: Timestamp::from_microsecond(row.try_get(1)?).map_err(|_| inconsistent("due_us"))?,
                bytes: unsigned(row.try_get(2)?, "messages", "message")?,
                is_oldest: row.try_get::<i64>(3)? == 1,
            })
        });
        let due = due.collect::<Result<_, StoreError>>()?;
        Ok((due, more))
    }

    /// Those among `wanted` that are due to the recipient still, in this order, with their messages.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn parcels(
        &self,
        recipient: &CreditCode,
        now: Timestamp,
        wanted: &[DeliveryId],
    ) -> Result<Vec<Parcel>, StoreError> {
        macro_rules! among {
            ($wanted:literal, $id:literal, $and:literal) => {
                concat!(
                    columns!(),
                    ", m.message FROM ",
                    $wanted,
                    " JOIN deliveries d ON d.delivery_id = ",
                    $id,
                    " LEFT JOIN messages m ON m.exchange_id = d.exchange_id AND m.sequence = d.sequence WHERE ",
                    is_due!("CASE d.state WHEN 'PENDING' THEN 1 WHEN 'LEASED' THEN 1 END = 1"),
                    $and,
                    " ORDER BY wanted.key"
                )
            };
        }
        let rows = sql(per_database! {
            sqlite: among!("json_each($3) wanted CROSS", "unhex(wanted.value)", ""),
            // The condition, which always holds, has the planner expect few, and find them by their ids.
            postgres: among!("json_array_elements_text($3::json) WITH ORDINALITY wanted(value, key)",
                             "decode(wanted.value, 'hex')", " AND wanted.key BETWEEN 1 AND 1000000"),
        })
        .bind(recipient.as_str())
        .bind(now.as_microsecond())
        .bind(in_hex(wanted))
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                let record = delivery(row)?;
                let message = match row.try_get::<Option<&[u8]>>(8)? {
                    Some(sealed) => self.unseal_message(&record.exchange_id, record.sequence, sealed),
                    None => Err(StoreError::Inconsistent { table: "messages", column: "exchange_id" }),
                };
                Ok(Parcel { record, message })
            })
            .collect()
    }

    /// A delivery to `recipient`, open or settled. Whether another's exists is not told apart.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn delivery(
        &self,
        delivery_id: &DeliveryId,
        recipient: &CreditCode,
    ) -> Result<Option<DeliveryRecord>, StoreError> {
        let text = format!("{SELECT} WHERE d.delivery_id = $1 AND d.recipient = $2");
        let row = sql(text)
            .bind(delivery_id.as_bytes().as_slice())
            .bind(recipient.as_str())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(delivery).transpose()
    }
}

fn inconsistent(column: &'static str) -> StoreError {
    StoreError::Inconsistent { table: "deliveries", column }
}

/// A JSON array of ids.
fn in_hex(ids: &[DeliveryId]) -> String {
    let ids: Vec<_> = ids.iter().map(|id| format!("\"{}\"", id.uuid().simple())).collect();
    format!("[{}]", ids.join(","))
}

fn id(row: &Row) -> Result<DeliveryId, StoreError> {
    DeliveryId::from_slice(row.try_get(0)?).ok_or_else(|| inconsistent("delivery_id"))
}

fn delivery(row: &Row) -> Result<DeliveryRecord, StoreError> {
    Ok(DeliveryRecord {
        delivery_id: id(row)?,
        exchange_id: ExchangeId::from_slice(row.try_get(1)?).ok_or_else(|| inconsistent("exchange_id"))?,
        sequence: u32::try_from(row.try_get::<i64>(2)?).map_err(|_| inconsistent("sequence"))?,
        recipient: CreditCode::parse(row.try_get(3)?).map_err(|_| inconsistent("recipient"))?,
        delivered: row.try_get::<&str>(4)? == "DELIVERED",
        attempts: u32::try_from(row.try_get::<i64>(5)?).map_err(|_| inconsistent("attempts"))?,
        attempts_before: u32::try_from(row.try_get::<i64>(6)?)
            .map_err(|_| inconsistent("attempts_before"))?,
        since: Timestamp::from_microsecond(row.try_get(7)?).map_err(|_| inconsistent("created_us"))?,
    })
}
