//! Reading the outbox.

use jiff::Timestamp;

use super::database::{Row, per_database, sql};
use super::{Store, StoreError};
use crate::domain::agency::CreditCode;
use crate::domain::exchange::{DeliveryId, ExchangeId};

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

const SELECT: &str = "SELECT d.delivery_id, d.exchange_id, d.sequence, d.recipient, d.state, d.attempts, d.attempts_before, \
                      COALESCE(d.redelivered_us, d.created_us) FROM deliveries d";

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
            sqlite: "SELECT value FROM json_each($1) WHERE (SELECT MIN(due_us) FROM deliveries \
                     WHERE recipient = value AND state IN ('PENDING', 'LEASED')) <= $2",
            postgres: "SELECT value FROM json_array_elements_text($1::json) value WHERE \
                       (SELECT MIN(due_us) FROM deliveries \
                        WHERE recipient = value AND state IN ('PENDING', 'LEASED')) <= $2",
        })
        .bind(serde_json::to_string(&among).unwrap_or_default())
        .bind(now.as_microsecond())
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| CreditCode::parse(row.try_get(0)?).map_err(|_| inconsistent("recipient")))
            .collect()
    }

    /// At most `limit` deliveries of a recipient that are due, oldest first; of one exchange only the first
    /// that is open, so that its messages arrive in order.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn due_deliveries(
        &self,
        recipient: &CreditCode,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<DeliveryRecord>, StoreError> {
        let text = format!(
            "{SELECT} WHERE d.recipient = $1 AND d.due_us <= $2 AND d.state IN ('PENDING', 'LEASED') AND NOT EXISTS \
             (SELECT 1 FROM deliveries e WHERE e.exchange_id = d.exchange_id AND e.sequence < d.sequence \
              AND e.recipient = d.recipient AND e.state IN ('PENDING', 'LEASED')) \
             ORDER BY d.due_us, d.delivery_id LIMIT $3"
        );
        let rows = sql(text)
            .bind(recipient.as_str())
            .bind(now.as_microsecond())
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(delivery).collect()
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

fn delivery(row: &Row) -> Result<DeliveryRecord, StoreError> {
    Ok(DeliveryRecord {
        delivery_id: DeliveryId::from_slice(row.try_get(0)?).ok_or_else(|| inconsistent("delivery_id"))?,
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
