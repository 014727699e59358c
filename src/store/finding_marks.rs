//! What auditors made of findings.

use jiff::Timestamp;

use super::database::{Connection, sql};
use super::{Store, StoreError, signed, unsigned};
use crate::audit::findings::FindingId;
use crate::domain::agency::CreditCode;
use crate::domain::vocabulary::vocabulary;

vocabulary! {
    /// What an auditor found a finding to be.
    pub enum Mark {
        /// It has an ordinary explanation.
        Normal => "NORMAL",
        /// It is an incident.
        Incident => "INCIDENT",
    }
}

/// A mark to keep.
#[derive(Debug)]
pub struct NewMark {
    /// Index of the REQUEST entry.
    pub request_index: u64,
    /// The finding.
    pub finding: FindingId,
    /// What it is.
    pub mark: Mark,
    /// The sealed comment, of [`Store::seal_comment`].
    pub comment: Vec<u8>,
    /// Whose auditor.
    pub marked_by: CreditCode,
    /// Unit of the operator.
    pub unit: String,
    /// Staff number of the operator.
    pub operator: String,
    /// When.
    pub at: Timestamp,
}

/// A mark that is kept.
pub struct MarkRecord {
    /// Index of the REQUEST entry.
    pub request_index: u64,
    /// What the finding is.
    pub mark: Mark,
    /// Why. It may name people.
    pub comment: String,
    /// Whose auditor.
    pub marked_by: String,
    /// Unit of the operator.
    pub unit: String,
    /// Staff number of the operator.
    pub operator: String,
    /// When.
    pub at: Timestamp,
}

impl Store {
    /// Seals the comment of a mark.
    pub fn seal_comment(&self, request_index: u64, comment: &str) -> Vec<u8> {
        self.sealer.seal(&comment_place(request_index), comment.as_bytes())
    }

    /// The newest mark of a finding.
    ///
    /// # Errors
    /// When the database does not answer or the comment does not open.
    pub async fn mark_of(&self, finding: FindingId) -> Result<Option<MarkRecord>, StoreError> {
        let row = sql(
            "SELECT request_index, mark, comment, marked_by, unit, operator, marked_us FROM finding_marks \
             WHERE finding_id = $1 ORDER BY request_index DESC LIMIT 1",
        )
        .bind(finding.uuid().as_bytes().as_slice())
        .fetch_optional(&self.readers)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let inconsistent = |column| StoreError::Inconsistent { table: "finding_marks", column };
        let request_index = unsigned(row.try_get(0)?, "finding_marks", "request_index")?;
        let word: &str = row.try_get(1)?;
        let comment = self.sealer.open(&comment_place(request_index), row.try_get(2)?)?;
        Ok(Some(MarkRecord {
            request_index,
            mark: *Mark::ALL.iter().find(|mark| mark.as_str() == word).ok_or_else(|| inconsistent("mark"))?,
            comment: String::from_utf8(comment).map_err(|_| inconsistent("comment"))?,
            marked_by: row.try_get(3)?,
            unit: row.try_get(4)?,
            operator: row.try_get(5)?,
            at: Timestamp::from_microsecond(row.try_get(6)?).map_err(|_| inconsistent("marked_us"))?,
        }))
    }
}

/// Keeps a mark, in the transaction of its entry.
pub(super) async fn mark(connection: &mut Connection<'_>, new: &NewMark) -> Result<(), StoreError> {
    sql(
        "INSERT INTO finding_marks (request_index, finding_id, mark, comment, marked_by, unit, operator, marked_us) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(signed(new.request_index))
    .bind(new.finding.uuid().as_bytes().as_slice())
    .bind(new.mark.as_str())
    .bind(&new.comment)
    .bind(new.marked_by.as_str())
    .bind(&new.unit)
    .bind(&new.operator)
    .bind(new.at.as_microsecond())
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) fn comment_place(request_index: u64) -> String {
    format!("finding-mark/{}", signed(request_index))
}
