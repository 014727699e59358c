//! What witnesses have signed of the audit log. It is no part of the log: it can be asked for anew.

use super::database::{per_database, sql};
use super::{Store, StoreError, signed, unsigned};

/// A cosignature as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CosignatureRecord {
    /// Number of entries that the checkpoint covers.
    pub size: u64,
    /// The witness's public key, as text.
    pub witness: String,
    /// The checkpoint as the log signed it.
    pub checkpoint: String,
    /// The witness's signature line, with its line feed.
    pub line: String,
}

impl Store {
    /// Keeps a cosignature, and forgets those on checkpoints smaller than `oldest_waiting`, but for the one of the size
    /// `cosigned`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn keep_cosignature(
        &self,
        kept: &CosignatureRecord,
        cosigned: u64,
        oldest_waiting: u64,
    ) -> Result<(), StoreError> {
        let mut connection = self.writer.acquire().await?;
        let outcome = async {
            let mut transaction = connection.begin().await?;
            sql("DELETE FROM audit_cosignatures \
                 WHERE (size < $1 AND size <> $2) OR (size = $3 AND witness = $4)")
            .bind(signed(oldest_waiting))
            .bind(signed(cosigned))
            .bind(signed(kept.size))
            .bind(&kept.witness)
            .execute(&mut transaction)
            .await?;
            sql("INSERT INTO audit_cosignatures (size, witness, checkpoint, line) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (size, witness) DO UPDATE SET checkpoint = excluded.checkpoint, line = excluded.line")
                .bind(signed(kept.size))
                .bind(&kept.witness)
                .bind(&kept.checkpoint)
                .bind(&kept.line)
                .execute(&mut transaction)
                .await?;
            transaction.commit().await?;
            Ok(())
        }
        .await;
        Self::discard_after_error(&mut connection, &outcome);
        outcome
    }

    /// Forgets all cosignatures: those of a log that is lost say nothing of the one that takes its place.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_cosignatures(&self) -> Result<(), StoreError> {
        sql("DELETE FROM audit_cosignatures").execute(&self.writer).await?;
        Ok(())
    }

    /// The kept cosignatures, the smallest checkpoint first. None in a database from before there were witnesses.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn cosignatures(&self) -> Result<Vec<CosignatureRecord>, StoreError> {
        let is_there = sql(per_database! {
            sqlite: "SELECT 1 FROM sqlite_master WHERE name = 'audit_cosignatures'",
            postgres: "SELECT 1 WHERE to_regclass('audit_cosignatures') IS NOT NULL",
        });
        let is_there = is_there.fetch_optional(&self.readers).await?;
        if is_there.is_none() {
            return Ok(Vec::new());
        }
        let rows =
            sql("SELECT size, witness, checkpoint, line FROM audit_cosignatures ORDER BY size, witness")
                .fetch_all(&self.readers)
                .await?;
        rows.into_iter()
            .map(|row| {
                Ok(CosignatureRecord {
                    size: unsigned(row.try_get(0)?, "audit_cosignatures", "size")?,
                    witness: row.try_get(1)?,
                    checkpoint: row.try_get(2)?,
                    line: row.try_get(3)?,
                })
            })
            .collect()
    }
}
