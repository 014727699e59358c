//! Verifications that are completed later.

use jiff::Timestamp;

use super::database::{Connection, Row, sql};
use super::effect::{exactly_one, insert_delivery, insert_message};
use super::{NewDelivery, Rejection, Store, StoreError};
use crate::domain::agency::CreditCode;
use crate::domain::exchange::{Kind, VerificationId};
use crate::domain::verification::VerificationState;

/// A question to ask again later.
#[derive(Debug)]
pub struct NewVerification {
    /// Its id.
    pub verification_id: VerificationId,
    /// What is asked.
    pub kind: Kind,
    /// Who asks.
    pub caller: CreditCode,
    /// Who is asked.
    pub registry: CreditCode,
    /// The caller's matter.
    pub matter_id: String,
    /// When it was put off.
    pub at: Timestamp,
    /// When to ask again.
    pub due: Timestamp,
    /// The sealed question, see [`Store::seal_question`].
    pub question: Vec<u8>,
}

/// How an attempt to complete a verification ended.
#[derive(Debug)]
pub enum VerificationStep {
    /// To be asked again.
    Retry {
        /// Not before.
        due: Timestamp,
    },
    /// It has ended, and the caller is told.
    Ended {
        /// `Answered` or `GivenUp`.
        state: VerificationState,
        /// The sealed message to the caller.
        message: Vec<u8>,
        /// Its delivery.
        delivery: NewDelivery,
    },
}

/// A verification that is, or was, completed later.
#[derive(Clone, Debug)]
pub struct VerificationRecord {
    /// Its id.
    pub verification_id: VerificationId,
    /// What was asked.
    pub kind: Kind,
    /// Where it stands.
    pub state: VerificationState,
    /// Who asked.
    pub caller: CreditCode,
    /// Who is asked.
    pub registry: CreditCode,
    /// The caller's matter.
    pub matter_id: String,
    /// Attempts made after the first question.
    pub attempts: u32,
    /// When it was put off.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
}

const COLUMNS: &str =
    "verification_id, kind, state, caller, registry, matter_id, attempts, created_us, updated_us";

impl Store {
    /// A verification of `caller`. Whether another's exists is not told apart.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn verification(
        &self,
        verification_id: &VerificationId,
        caller: &CreditCode,
    ) -> Result<Option<VerificationRecord>, StoreError> {
        let text = format!("SELECT {COLUMNS} FROM verifications WHERE verification_id = $1 AND caller = $2");
        let row = sql(text)
            .bind(verification_id.as_bytes().as_slice())
            .bind(caller.as_str())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(verification).transpose()
    }

    /// At most `limit` verifications that are due, of each registry in turn the longest due first: many questions to
    /// one that is silent keep nobody else's waiting.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn due_verifications(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<VerificationRecord>, StoreError> {
        let text = format!(
            "SELECT {COLUMNS} FROM verifications WHERE state = 'PENDING' AND due_us <= $1 \
             ORDER BY ROW_NUMBER() OVER (PARTITION BY registry ORDER BY due_us), due_us LIMIT $2"
        );
        let rows =
            sql(text).bind(now.as_microsecond()).bind(i64::from(limit)).fetch_all(&self.readers).await?;
        rows.iter().map(verification).collect()
    }

    /// The question of a verification, opened.
    ///
    /// # Errors
    /// When the database does not answer, or the question is gone or does not open.
    pub async fn question(&self, verification_id: &VerificationId) -> Result<Vec<u8>, StoreError> {
        let row = sql("SELECT question FROM verifications WHERE verification_id = $1")
            .bind(verification_id.as_bytes().as_slice())
            .fetch_one(&self.readers)
            .await?;
        let sealed: Option<&[u8]> = row.try_get(0)?;
        let sealed = sealed.ok_or_else(|| inconsistent("question"))?;
        Ok(self.sealer.open(&question_place(verification_id), sealed)?)
    }

    /// Seals a question for keeping.
    pub fn seal_question(&self, verification_id: &VerificationId, question: &[u8]) -> Vec<u8> {
        self.sealer.seal(&question_place(verification_id), question)
    }
}

pub(super) fn question_place(verification_id: &VerificationId) -> String {
    format!("question/{verification_id}")
}

pub(super) async fn put_off(
    connection: &mut Connection<'_>,
    new: &NewVerification,
) -> Result<(), StoreError> {
    sql(
        "INSERT INTO verifications (verification_id, kind, state, caller, registry, matter_id, attempts, due_us, \
         created_us, updated_us, question) VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8, $8, $9)",
    )
    .bind(new.verification_id.as_bytes().as_slice())
    .bind(new.kind.as_str())
    .bind(VerificationState::Pending.as_str())
    .bind(new.caller.as_str())
    .bind(new.registry.as_str())
    .bind(&new.matter_id)
    .bind(new.due.as_microsecond())
    .bind(new.at.as_microsecond())
    .bind(&new.question)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn begin_attempt(
    connection: &mut Connection<'_>,
    verification_id: &VerificationId,
    attempts: u32,
    until: Timestamp,
) -> Result<Result<(), Rejection>, StoreError> {
    let taken = sql("UPDATE verifications SET attempts = attempts + 1, due_us = $1 \
         WHERE verification_id = $2 AND attempts = $3 AND state = 'PENDING'")
    .bind(until.as_microsecond())
    .bind(verification_id.as_bytes().as_slice())
    .bind(i64::from(attempts))
    .execute(connection)
    .await?;
    Ok(exactly_one(taken))
}

pub(super) async fn step(
    connection: &mut Connection<'_>,
    verification_id: &VerificationId,
    attempts: u32,
    step: &VerificationStep,
    at: Timestamp,
) -> Result<Result<(), Rejection>, StoreError> {
    let (state, due) = match step {
        VerificationStep::Retry { due } => (VerificationState::Pending, *due),
        VerificationStep::Ended { state, .. } => (*state, at),
    };
    // Whoever lost the attempt to another must not end what that one does.
    let changed = sql("UPDATE verifications SET state = $1, due_us = $2, updated_us = $3, \
         question = CASE WHEN $1 = 'PENDING' THEN question END \
         WHERE verification_id = $4 AND attempts = $5 AND state = 'PENDING'")
    .bind(state.as_str())
    .bind(due.as_microsecond())
    .bind(at.as_microsecond())
    .bind(verification_id.as_bytes().as_slice())
    .bind(i64::from(attempts))
    .execute(&mut *connection)
    .await?;
    if let Err(rejection) = exactly_one(changed) {
        return Ok(Err(rejection));
    }
    if let VerificationStep::Ended { message, delivery, .. } = step {
        let thread = verification_id.thread();
        insert_message(connection, &thread, 1, message).await?;
        insert_delivery(connection, &thread, 1, delivery, at).await?;
    }
    Ok(Ok(()))
}

fn inconsistent(column: &'static str) -> StoreError {
    StoreError::Inconsistent { table: "verifications", column }
}

fn verification(row: &Row) -> Result<VerificationRecord, StoreError> {
    let time = |value: i64, column| Timestamp::from_microsecond(value).map_err(|_| inconsistent(column));
    let state: &str = row.try_get(2)?;
    Ok(VerificationRecord {
        verification_id: VerificationId::from_slice(row.try_get(0)?)
            .ok_or_else(|| inconsistent("verification_id"))?,
        kind: Kind::from_name(row.try_get(1)?).ok_or_else(|| inconsistent("kind"))?,
        state: VerificationState::ALL
            .iter()
            .copied()
            .find(|known| known.as_str() == state)
            .ok_or_else(|| inconsistent("state"))?,
        caller: CreditCode::parse(row.try_get(3)?).map_err(|_| inconsistent("caller"))?,
        registry: CreditCode::parse(row.try_get(4)?).map_err(|_| inconsistent("registry"))?,
        matter_id: row.try_get(5)?,
        attempts: u32::try_from(row.try_get::<i64>(6)?).map_err(|_| inconsistent("attempts"))?,
        created: time(row.try_get(7)?, "created_us")?,
        updated: time(row.try_get(8)?, "updated_us")?,
    })
}
