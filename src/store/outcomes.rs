//! Request ids and the outcomes they got.

use jiff::Timestamp;

use super::database::{Connection, Row, sql};
use super::{Store, StoreError, signed, unsigned};
use crate::domain::agency::CreditCode;
use crate::domain::exchange::RequestId;

/// A taken request id.
#[derive(Debug)]
pub struct Claim {
    /// Keyed digest of method and request.
    pub digest: [u8; 32],
    /// Index of the REQUEST entry.
    pub request_index: u64,
    /// The answer that was given, with the index of its RESPONSE entry; `None` while the call runs.
    pub outcome: Option<(u64, Vec<u8>)>,
}

impl Store {
    /// What a request id was used for, if it was.
    ///
    /// # Errors
    /// When the database does not answer or the kept answer does not open.
    pub async fn claim(
        &self,
        caller: &CreditCode,
        request_id: &RequestId,
    ) -> Result<Option<Claim>, StoreError> {
        let row = sql(
            "SELECT c.digest, c.request_index, o.response_index, o.response FROM claims c \
             LEFT JOIN outcomes o ON o.request_index = c.request_index WHERE c.caller = $1 AND c.request_id = $2",
        )
        .bind(caller.as_str())
        .bind(request_id.as_bytes().as_slice())
        .fetch_optional(&self.readers)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let inconsistent = |column| StoreError::Inconsistent { table: "claims", column };
        let request_index = unsigned(row.try_get(1)?, "claims", "request_index")?;
        let outcome = match (row.try_get::<Option<i64>>(2)?, row.try_get::<Option<&[u8]>>(3)?) {
            (Some(index), Some(sealed)) => Some((
                unsigned(index, "outcomes", "response_index")?,
                self.sealer.open(&outcome_place(request_index), sealed)?,
            )),
            _ => None,
        };
        Ok(Some(Claim {
            digest: row.try_get::<&[u8]>(0)?.try_into().map_err(|_| inconsistent("digest"))?,
            request_index,
            outcome,
        }))
    }

    /// The answer that is kept under its REQUEST's index, if it is.
    ///
    /// # Errors
    /// When the database does not answer or the kept answer does not open.
    pub async fn outcome(&self, request_index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let row = sql("SELECT response FROM outcomes WHERE request_index = $1")
            .bind(signed(request_index))
            .fetch_optional(&self.readers)
            .await?;
        let open = |row: &Row| Ok(self.sealer.open(&outcome_place(request_index), row.try_get(0)?)?);
        row.as_ref().map(open).transpose()
    }

    /// Seals an answer for keeping under its REQUEST's index.
    pub fn seal_outcome(&self, request_index: u64, response: &[u8]) -> Vec<u8> {
        self.sealer.seal(&outcome_place(request_index), response)
    }

    /// Forgets at most `most` outcomes given before `before`, oldest first, and their request ids. Returns how
    /// many: as many as `most` means that there may be more.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_outcomes(&self, before: Timestamp, most: u32) -> Result<u64, StoreError> {
        // Outcomes are kept in log order, which is time order: the oldest come first, and nothing is searched.
        let oldest = sql("SELECT request_index, caller, request_id FROM \
             (SELECT * FROM outcomes ORDER BY request_index LIMIT $2) oldest WHERE created_us < $1")
        .bind(before.as_microsecond())
        .bind(i64::from(most))
        .fetch_all(&self.readers)
        .await?;
        if oldest.is_empty() {
            return Ok(0);
        }
        let keys = oldest
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))
            .collect::<Result<Vec<(i64, String, Vec<u8>)>, sqlx::Error>>()?;
        let mut connection = self.writer.acquire().await?;
        let outcome = forget_on(&mut connection.connection(), &keys).await;
        Self::discard_after_error(&mut connection, &outcome);
        outcome.map(|()| keys.len() as u64)
    }
}

async fn forget_on(
    connection: &mut Connection<'_>,
    keys: &[(i64, String, Vec<u8>)],
) -> Result<(), StoreError> {
    let mut transaction = connection.begin().await?;
    for (request_index, caller, request_id) in keys {
        sql("DELETE FROM claims WHERE caller = $1 AND request_id = $2 AND request_index = $3")
            .bind(caller)
            .bind(request_id)
            .bind(*request_index)
            .execute(&mut transaction)
            .await?;
        sql("DELETE FROM outcomes WHERE request_index = $1")
            .bind(*request_index)
            .execute(&mut transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}

pub(super) fn outcome_place(request_index: u64) -> String {
    format!("outcome/{}", signed(request_index))
}
