//! Reading exchanges.

use jiff::Timestamp;

use super::database::{Row, sql};
use super::{Store, StoreError};
use crate::domain::agency::CreditCode;
use crate::domain::exchange::{ExchangeId, ExchangeState, Kind};

/// An exchange without its messages.
#[derive(Clone, Debug)]
pub struct ExchangeRecord {
    /// Its id.
    pub exchange_id: ExchangeId,
    /// Its kind.
    pub kind: Kind,
    /// Where it stands.
    pub state: ExchangeState,
    /// Who opened it.
    pub sender: CreditCode,
    /// To whom it goes.
    pub recipient: CreditCode,
    /// The sender's matter.
    pub matter_id: String,
    /// Region code.
    pub region: String,
    /// Messages in the thread.
    pub messages: u32,
    /// When it was accepted.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
    /// When its messages were erased, and at whose request, if they were.
    pub erased: Option<(Timestamp, String)>,
}

/// One stored message.
#[derive(Clone, Debug)]
pub struct MessageRecord {
    /// Place in the thread.
    pub sequence: u32,
    /// The clear bytes.
    pub message: Vec<u8>,
    /// SHA-256 of the clear bytes.
    pub sha256: [u8; 32],
}

/// Which exchanges of a party are wanted.
#[derive(Clone, Debug, Default)]
pub struct ExchangeFilter {
    /// Only in this state.
    pub state: Option<ExchangeState>,
    /// Only of this matter.
    pub matter_id: Option<String>,
    /// Only what is overdue.
    pub overdue: bool,
    /// Only older than this one.
    pub before: Option<ExchangeId>,
}

const COLUMNS: &str = "exchange_id, kind, state, sender, recipient, matter_id, region, messages, created_us, updated_us, erased_us, \
     erased_by";

impl Store {
    /// The exchange, if `party` is party to it. Whether it exists at all is not told apart.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn exchange(
        &self,
        exchange_id: &ExchangeId,
        party: &CreditCode,
    ) -> Result<Option<ExchangeRecord>, StoreError> {
        let text = with_columns(
            "SELECT {} FROM exchanges WHERE exchange_id = $1 AND (sender = $2 OR recipient = $2)",
        );
        let row = sql(text)
            .bind(exchange_id.as_bytes().as_slice())
            .bind(party.as_str())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(exchange).transpose()
    }

    /// The exchange, whoever asks: for what the gateway does by itself.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn exchange_for_the_gateway(
        &self,
        exchange_id: &ExchangeId,
    ) -> Result<Option<ExchangeRecord>, StoreError> {
        let row = sql(with_columns("SELECT {} FROM exchanges WHERE exchange_id = $1"))
            .bind(exchange_id.as_bytes().as_slice())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(exchange).transpose()
    }

    /// At most `limit` exchanges that `party` is party to, newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn exchanges(
        &self,
        party: &CreditCode,
        filter: &ExchangeFilter,
        limit: u32,
    ) -> Result<Vec<ExchangeRecord>, StoreError> {
        // Ids are UUIDs of version 7: their order is the order of time. Two indexed branches, each in that
        // order, so that the page costs what it returns; and of what is overdue, only as much as is.
        let overdue = if filter.overdue {
            "AND exchange_id IN (SELECT exchange_id FROM running_clocks \
             WHERE stopped_us IS NULL AND overdue_us IS NOT NULL)"
        } else {
            ""
        };
        let text = with_columns(&format!(
            "SELECT {{}} FROM (SELECT * FROM exchanges WHERE sender = $1 \
             UNION ALL SELECT * FROM exchanges WHERE recipient = $1 AND sender <> $1) own \
             WHERE ($2 IS NULL OR state = $2) AND ($3 IS NULL OR matter_id = $3) \
             AND ($4 IS NULL OR exchange_id < $4) {overdue} ORDER BY exchange_id DESC LIMIT $5"
        ));
        let rows = sql(text)
            .bind(party.as_str())
            .bind(filter.state.map(ExchangeState::as_str))
            .bind(filter.matter_id.as_deref())
            .bind(filter.before.map(|id| id.as_bytes().to_vec()))
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(exchange).collect()
    }

    /// The messages of an exchange in order, opened.
    ///
    /// # Errors
    /// When the database does not answer or a body does not open.
    pub async fn messages(&self, exchange_id: &ExchangeId) -> Result<Vec<MessageRecord>, StoreError> {
        let rows = sql("SELECT sequence, message FROM messages WHERE exchange_id = $1 ORDER BY sequence")
            .bind(exchange_id.as_bytes().as_slice())
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| self.open_message(exchange_id, row)).collect()
    }

    /// One message of an exchange, opened.
    ///
    /// # Errors
    /// When the database does not answer, the message is not there or does not open.
    pub async fn message(
        &self,
        exchange_id: &ExchangeId,
        sequence: u32,
    ) -> Result<MessageRecord, StoreError> {
        let row = sql("SELECT sequence, message FROM messages WHERE exchange_id = $1 AND sequence = $2")
            .bind(exchange_id.as_bytes().as_slice())
            .bind(i64::from(sequence))
            .fetch_one(&self.readers)
            .await?;
        self.open_message(exchange_id, &row)
    }

    /// Seals a message for its place in a thread.
    pub fn seal_message(&self, exchange_id: &ExchangeId, sequence: u32, message: &[u8]) -> Vec<u8> {
        self.sealer.seal(&message_place(exchange_id, sequence), message)
    }

    fn open_message(&self, exchange_id: &ExchangeId, row: &Row) -> Result<MessageRecord, StoreError> {
        let inconsistent = |column| StoreError::Inconsistent { table: "messages", column };
        let sequence = u32::try_from(row.try_get::<i64>(0)?).map_err(|_| inconsistent("sequence"))?;
        self.unseal_message(exchange_id, sequence, row.try_get(1)?)
    }

    pub(super) fn unseal_message(
        &self,
        exchange_id: &ExchangeId,
        sequence: u32,
        sealed: &[u8],
    ) -> Result<MessageRecord, StoreError> {
        let message = self.sealer.open(&message_place(exchange_id, sequence), sealed)?;
        Ok(MessageRecord { sequence, sha256: sha256(&message), message })
    }
}

fn with_columns(text: &str) -> String {
    text.replace("{}", COLUMNS)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    digest
}

pub(super) fn message_place(exchange_id: &ExchangeId, sequence: u32) -> String {
    format!("message/{exchange_id}/{sequence}")
}

fn exchange(row: &Row) -> Result<ExchangeRecord, StoreError> {
    let inconsistent = |column| StoreError::Inconsistent { table: "exchanges", column };
    let time = |value: i64, column| Timestamp::from_microsecond(value).map_err(|_| inconsistent(column));
    Ok(ExchangeRecord {
        exchange_id: ExchangeId::from_slice(row.try_get(0)?).ok_or_else(|| inconsistent("exchange_id"))?,
        kind: Kind::from_name(row.try_get(1)?).ok_or_else(|| inconsistent("kind"))?,
        state: ExchangeState::from_name(row.try_get(2)?).ok_or_else(|| inconsistent("state"))?,
        sender: CreditCode::parse(row.try_get(3)?).map_err(|_| inconsistent("sender"))?,
        recipient: CreditCode::parse(row.try_get(4)?).map_err(|_| inconsistent("recipient"))?,
        matter_id: row.try_get(5)?,
        region: row.try_get(6)?,
        messages: u32::try_from(row.try_get::<i64>(7)?).map_err(|_| inconsistent("messages"))?,
        created: time(row.try_get(8)?, "created_us")?,
        updated: time(row.try_get(9)?, "updated_us")?,
        erased: match row.try_get::<Option<i64>>(10)? {
            Some(at) => {
                Some((time(at, "erased_us")?, row.try_get::<Option<String>>(11)?.unwrap_or_default()))
            }
            None => None,
        },
    })
}
