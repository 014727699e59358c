//! The agreements, and how much of their quotas is used.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::database::{Connection, Row, sql};
use super::effect::{Rejection, exactly_one};
use super::{Store, StoreError, signed, unsigned};
use crate::domain::agency::CreditCode;
use crate::domain::vocabulary::vocabulary;

vocabulary! {
    /// Where a version of an agreement stands.
    pub enum AgreementState {
        /// It waits for the approval of a second operator.
        Pending => "PENDING",
        /// Calls are decided by it.
        Effective => "EFFECTIVE",
        /// A later version took its place.
        Superseded => "SUPERSEDED",
        /// It was ended.
        Ended => "ENDED",
    }
}

vocabulary! {
    /// What was done with a version of an agreement.
    pub enum AgreementAct {
        /// It was put in.
        Put => "PUT",
        /// A second operator approved it.
        Approve => "APPROVE",
        /// It was ended.
        End => "END",
    }
}

/// A change of the agreements.
#[derive(Clone, Debug)]
pub struct AgreementChange {
    /// The agreement.
    pub agreement_id: String,
    /// The version.
    pub version: u32,
    /// What is done with it, and what that takes.
    pub change: NewAgreementState,
    /// Who does it.
    pub by: ActedBy,
    /// When.
    pub at: Timestamp,
}

/// What is done with a version of an agreement.
#[derive(Clone, Debug)]
pub enum NewAgreementState {
    /// Puts it in, above all versions that are there.
    Put {
        /// Canonical JSON.
        terms: String,
        /// Its SHA-256.
        digest: [u8; 32],
        /// Whether it waits for approval.
        pending: bool,
    },
    /// Makes effective what waits.
    Approve,
    /// Ends it, and with it what waits to take its place.
    End,
}

/// Who acted on an agreement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActedBy {
    /// The agency; the gateway's own where the directory file says so.
    pub agency: CreditCode,
    /// Unit and staff number; none for the directory file.
    pub operator: Option<(String, String)>,
}

/// A version of an agreement.
#[derive(Clone, Debug)]
pub struct AgreementRecord {
    /// The agreement.
    pub agreement_id: String,
    /// The version.
    pub version: u32,
    /// Where it stands.
    pub state: AgreementState,
    /// Canonical JSON.
    pub terms: String,
    /// Its SHA-256.
    pub digest: [u8; 32],
    /// What was done with it, in the order in which it was done.
    pub acts: Vec<AgreementActRecord>,
}

/// Something that was done with a version of an agreement.
#[derive(Clone, Debug)]
pub struct AgreementActRecord {
    /// What.
    pub act: AgreementAct,
    /// By whom.
    pub by: ActedBy,
    /// Index of the entry that says so.
    pub entry: u64,
    /// When.
    pub at: Timestamp,
}

/// Makes a change, in the transaction of the entry `index`.
pub(super) async fn change(
    connection: &mut Connection<'_>,
    change: &AgreementChange,
    index: u64,
) -> Result<Result<(), Rejection>, StoreError> {
    let (id, version) = (change.agreement_id.as_str(), i64::from(change.version));
    let (made, act) = match &change.change {
        NewAgreementState::Put { terms, digest, pending } => {
            (put(connection, id, version, terms, digest, *pending).await?, AgreementAct::Put)
        }
        NewAgreementState::Approve => (approve(connection, id, version).await?, AgreementAct::Approve),
        NewAgreementState::End => (end(connection, id, version).await?, AgreementAct::End),
    };
    if made.is_err() {
        return Ok(made);
    }
    let (unit, operator) = change.by.operator.clone().unzip();
    sql("INSERT INTO agreement_acts (agreement_id, version, act, agency, unit, operator, entry_idx, acted_us) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)")
    .bind(id)
    .bind(version)
    .bind(act.as_str())
    .bind(change.by.agency.as_str())
    .bind(unit.as_deref())
    .bind(operator.as_deref())
    .bind(signed(index))
    .bind(change.at.as_microsecond())
    .execute(&mut *connection)
    .await?;
    sql("UPDATE agreement_changes SET changes = changes + 1 WHERE id = 1").execute(connection).await?;
    Ok(Ok(()))
}

async fn put(
    connection: &mut Connection<'_>,
    id: &str,
    version: i64,
    terms: &str,
    digest: &[u8; 32],
    pending: bool,
) -> Result<Result<(), Rejection>, StoreError> {
    let later = sql("SELECT 1 FROM agreements WHERE agreement_id = $1 AND version >= $2")
        .bind(id)
        .bind(version)
        .fetch_optional(&mut *connection)
        .await?;
    if later.is_some() {
        return Ok(Err(Rejection::Conflict));
    }
    // What waits is not in effect: until it is approved, the version of before stays so.
    let (gives_way, state) = if pending {
        (
            "UPDATE agreements SET state = 'SUPERSEDED' WHERE agreement_id = $1 AND state = 'PENDING'",
            "PENDING",
        )
    } else {
        (
            "UPDATE agreements SET state = 'SUPERSEDED' WHERE agreement_id = $1 AND state IN ('PENDING', 'EFFECTIVE')",
            "EFFECTIVE",
        )
    };
    sql(gives_way).bind(id).execute(&mut *connection).await?;
    sql("INSERT INTO agreements (agreement_id, version, state, terms, digest) VALUES ($1, $2, $3, $4, $5)")
        .bind(id)
        .bind(version)
        .bind(state)
        .bind(terms)
        .bind(digest.as_slice())
        .execute(connection)
        .await?;
    Ok(Ok(()))
}

async fn approve(
    connection: &mut Connection<'_>,
    id: &str,
    version: i64,
) -> Result<Result<(), Rejection>, StoreError> {
    let pending =
        sql("SELECT 1 FROM agreements WHERE agreement_id = $1 AND version = $2 AND state = 'PENDING'")
            .bind(id)
            .bind(version)
            .fetch_optional(&mut *connection)
            .await?;
    if pending.is_none() {
        return Ok(Err(Rejection::Conflict));
    }
    sql("UPDATE agreements SET state = 'SUPERSEDED' WHERE agreement_id = $1 AND state = 'EFFECTIVE'")
        .bind(id)
        .execute(&mut *connection)
        .await?;
    let approved = sql("UPDATE agreements SET state = 'EFFECTIVE' WHERE agreement_id = $1 AND version = $2")
        .bind(id)
        .bind(version)
        .execute(connection)
        .await?;
    Ok(exactly_one(approved))
}

/// The version named is the one that whoever ends it has seen: a later one is not ended unseen.
async fn end(
    connection: &mut Connection<'_>,
    id: &str,
    version: i64,
) -> Result<Result<(), Rejection>, StoreError> {
    let ended = sql(
        "UPDATE agreements SET state = 'ENDED' WHERE agreement_id = $1 AND version = $2 AND state IN ('PENDING', 'EFFECTIVE')",
    )
    .bind(id)
    .bind(version)
    .execute(&mut *connection)
    .await?;
    if let Err(rejection) = exactly_one(ended) {
        return Ok(Err(rejection));
    }
    sql("UPDATE agreements SET state = 'SUPERSEDED' WHERE agreement_id = $1 AND state = 'PENDING'")
        .bind(id)
        .execute(connection)
        .await?;
    Ok(Ok(()))
}

const INCONSISTENT: fn(&'static str) -> StoreError =
    |column| StoreError::Inconsistent { table: "agreements", column };

impl Store {
    /// How often the agreements have changed.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn agreement_changes(&self) -> Result<u64, StoreError> {
        let row =
            sql("SELECT changes FROM agreement_changes WHERE id = 1").fetch_optional(&self.readers).await?;
        let row = row.ok_or(StoreError::Inconsistent { table: "agreement_changes", column: "id" })?;
        unsigned(row.try_get(0)?, "agreement_changes", "changes")
    }

    /// The terms of every agreement that is in effect.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn effective_agreements(&self) -> Result<Vec<(String, String)>, StoreError> {
        let rows =
            sql("SELECT agreement_id, terms FROM agreements WHERE state = 'EFFECTIVE' ORDER BY agreement_id")
                .fetch_all(&self.readers)
                .await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// The agreements that are in effect as a directory file put them in.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn effective_agreements_of_files(&self) -> Result<Vec<String>, StoreError> {
        let rows = sql(
            "SELECT a.agreement_id FROM agreements a JOIN agreement_acts c ON c.agreement_id = a.agreement_id \
             AND c.version = a.version WHERE a.state = 'EFFECTIVE' AND c.act = 'PUT' AND c.operator IS NULL \
             ORDER BY a.agreement_id",
        )
        .fetch_all(&self.readers)
        .await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, sqlx::Error>>()?)
    }

    /// The newest version of each agreement, and its terms.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn newest_agreement_versions(&self) -> Result<BTreeMap<String, (u32, String)>, StoreError> {
        let rows = sql("SELECT agreement_id, version, terms FROM agreements ORDER BY agreement_id, version")
            .fetch_all(&self.readers)
            .await?;
        // Of several versions of one the last is kept.
        rows.iter().map(|row| Ok((row.try_get(0)?, (version(row, 1)?, row.try_get(2)?)))).collect()
    }

    /// Every version of an agreement, newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn agreement_versions(&self, id: &str) -> Result<Vec<AgreementRecord>, StoreError> {
        let rows = sql(
            "SELECT agreement_id, version, state, terms, digest FROM agreements WHERE agreement_id = $1 \
             ORDER BY version DESC",
        )
        .bind(id)
        .fetch_all(&self.readers)
        .await?;
        self.with_acts(rows.iter().map(record).collect::<Result<_, _>>()?).await
    }

    /// At most `limit` versions of agreements behind a place in the order of id and version; of one state, or of all.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn agreements(
        &self,
        state: Option<AgreementState>,
        after: (&str, u32),
        limit: u32,
    ) -> Result<Vec<AgreementRecord>, StoreError> {
        let rows = sql("SELECT agreement_id, version, state, terms, digest FROM agreements \
             WHERE (agreement_id > $1 OR (agreement_id = $1 AND version > $2)) AND ($3 = '' OR state = $3) \
             ORDER BY agreement_id, version LIMIT $4")
        .bind(after.0)
        .bind(i64::from(after.1))
        .bind(state.map_or("", AgreementState::as_str))
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await?;
        self.with_acts(rows.iter().map(record).collect::<Result<_, _>>()?).await
    }

    async fn with_acts(&self, mut records: Vec<AgreementRecord>) -> Result<Vec<AgreementRecord>, StoreError> {
        for record in &mut records {
            let rows = sql("SELECT act, agency, unit, operator, entry_idx, acted_us FROM agreement_acts \
                 WHERE agreement_id = $1 AND version = $2 ORDER BY entry_idx")
            .bind(&record.agreement_id)
            .bind(i64::from(record.version))
            .fetch_all(&self.readers)
            .await?;
            record.acts = rows.iter().map(act).collect::<Result<_, _>>()?;
        }
        Ok(records)
    }
}

fn record(row: &Row) -> Result<AgreementRecord, StoreError> {
    let state: &str = row.try_get(2)?;
    let state = AgreementState::ALL.iter().copied().find(|known| known.as_str() == state);
    let digest: &[u8] = row.try_get(4)?;
    Ok(AgreementRecord {
        agreement_id: row.try_get(0)?,
        version: version(row, 1)?,
        state: state.ok_or_else(|| INCONSISTENT("state"))?,
        terms: row.try_get(3)?,
        digest: digest.try_into().map_err(|_| INCONSISTENT("digest"))?,
        acts: Vec::new(),
    })
}

fn version(row: &Row, column: usize) -> Result<u32, StoreError> {
    u32::try_from(row.try_get::<i64>(column)?).map_err(|_| INCONSISTENT("version"))
}

fn act(row: &Row) -> Result<AgreementActRecord, StoreError> {
    let inconsistent = |column| StoreError::Inconsistent { table: "agreement_acts", column };
    let act: &str = row.try_get(0)?;
    let act = AgreementAct::ALL.iter().copied().find(|known| known.as_str() == act);
    let agency = CreditCode::parse(row.try_get(1)?).map_err(|_| inconsistent("agency"))?;
    let (unit, operator): (Option<String>, Option<String>) = (row.try_get(2)?, row.try_get(3)?);
    Ok(AgreementActRecord {
        act: act.ok_or_else(|| inconsistent("act"))?,
        by: ActedBy { agency, operator: unit.zip(operator) },
        entry: unsigned(row.try_get(4)?, "agreement_acts", "entry_idx")?,
        at: Timestamp::from_microsecond(row.try_get(5)?).map_err(|_| inconsistent("acted_us"))?,
    })
}
