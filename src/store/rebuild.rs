//! Tables whose rows move, written anew after an erasure.
//!
//! `secure_delete` overwrites a row that goes, and a page that goes. It does not overwrite what a row leaves behind when
//! SQLite moves it to another page to make room for its neighbour. The rows of the log never move: they are appended, and
//! only become shorter. Answers come out of the order of their keys, and verifications have random ones.

use sqlx::{Connection as _, SqliteConnection};

use super::database::Acquired;
use super::{Store, StoreError, postgres};

/// Each table: made anew, filled in the order of its keys, and put in the place of the old one, whose pages go whole.
const REBUILD: [&str; 9] = [
    "CREATE TABLE outcomes_anew (request_index INTEGER PRIMARY KEY, response_index INTEGER NOT NULL, \
     caller TEXT NOT NULL, request_id BLOB NOT NULL, response BLOB NOT NULL, created_us INTEGER NOT NULL) STRICT",
    "INSERT INTO outcomes_anew (request_index, response_index, caller, request_id, response, created_us) \
     SELECT request_index, response_index, caller, request_id, response, created_us FROM outcomes \
     ORDER BY request_index",
    "DROP TABLE outcomes",
    "ALTER TABLE outcomes_anew RENAME TO outcomes",
    "CREATE TABLE verifications_anew (verification_id BLOB PRIMARY KEY, kind TEXT NOT NULL, state TEXT NOT NULL, \
     caller TEXT NOT NULL, registry TEXT NOT NULL, matter_id TEXT NOT NULL, attempts INTEGER NOT NULL, \
     due_us INTEGER NOT NULL, created_us INTEGER NOT NULL, updated_us INTEGER NOT NULL, question BLOB) \
     STRICT, WITHOUT ROWID",
    "INSERT INTO verifications_anew (verification_id, kind, state, caller, registry, matter_id, attempts, due_us, \
     created_us, updated_us, question) SELECT verification_id, kind, state, caller, registry, matter_id, attempts, \
     due_us, created_us, updated_us, question FROM verifications ORDER BY verification_id",
    "DROP TABLE verifications",
    "ALTER TABLE verifications_anew RENAME TO verifications",
    "CREATE INDEX verifications_open ON verifications (due_us) WHERE state = 'PENDING'",
];

impl Store {
    /// Writes kept answers and verifications anew, so that nothing is left of those that are gone. The log waits
    /// meanwhile, for as long as it takes to copy them. On PostgreSQL what is gone is cleared away, and nobody waits.
    ///
    /// # Errors
    /// When the database does not answer; then all is as before.
    pub async fn rebuild_moving_tables(&self) -> Result<(), StoreError> {
        let mut connection = self.writer.acquire().await?;
        let outcome = match &mut connection {
            Acquired::Sqlite(connection) => rebuild_on(connection).await,
            Acquired::Postgres(server) => {
                let outcome = postgres::vacuum(server).await;
                // Its statements have no end any more.
                connection.close_on_drop();
                outcome
            }
        };
        Self::discard_after_error(&mut connection, &outcome);
        outcome
    }
}

async fn rebuild_on(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    for text in REBUILD {
        sqlx::query(text).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Sealer;
    use super::super::database::Pool;
    use super::*;

    /// What the migrations make, and in which order of columns, is what stands there afterwards.
    #[tokio::test]
    async fn rebuilt_tables_have_the_columns_and_indexes_that_they_had_and_nothing_of_the_rows_that_went() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let store = Store::open(&path, Sealer::new(&[1; 32])).await.unwrap();
        let answer = |index: u32| {
            let part = 1_000_003_u32.wrapping_mul(index + 1).to_be_bytes();
            [part.as_slice(), b"answer", &part, &[7; 300]].concat()
        };
        // Out of order, as calls of different length are answered.
        let (Pool::Sqlite(writer), Pool::Sqlite(readers)) = (&store.writer, &store.readers) else {
            unreachable!()
        };
        let mut written = writer.begin().await.unwrap();
        for index in (0..2048_u32).map(|place| place ^ 37) {
            sqlx::query("INSERT INTO outcomes VALUES ($1, $1, 'c', x'00', $2, 0)")
                .bind(i64::from(index))
                .bind(answer(index))
                .execute(&mut *written)
                .await
                .unwrap();
        }
        written.commit().await.unwrap();
        let schema = "SELECT m.type || m.name || COALESCE(group_concat(c.name || c.type || c.\"notnull\" || c.pk), '') \
                      FROM sqlite_schema m LEFT JOIN pragma_table_info(m.name) c GROUP BY m.name ORDER BY m.name";
        let before: Vec<String> = sqlx::query_scalar(schema).fetch_all(writer).await.unwrap();
        sqlx::query("DELETE FROM outcomes WHERE request_index % 3 = 0").execute(writer).await.unwrap();
        store.rebuild_moving_tables().await.unwrap();
        assert!(store.empty_write_ahead_log().await.unwrap());
        let after: Vec<String> = sqlx::query_scalar(schema).fetch_all(writer).await.unwrap();
        assert_eq!(before, after);
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM outcomes").fetch_one(readers).await.unwrap();
        assert_eq!(left, 1365);
        store.close().await;
        let file = std::fs::read(path).unwrap();
        let found: std::collections::HashSet<&[u8]> =
            file.windows(14).filter(|part| &part[4..10] == b"answer").collect();
        let is_there = |index: u32| found.contains(&answer(index)[..14]);
        assert!((0..2048).all(|index| is_there(index) == (index % 3 != 0)));
    }
}
