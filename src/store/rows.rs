//! The rows of a batch, written in one round trip.
//!
//! Each statement that sqlx sends to SQLite crosses to the connection's own thread and back. With both cores busy, a
//! dozen crossings a batch cost more than the writing. So all rows of a table travel as one JSON array and one run of
//! bytes, and the statements of a batch, from BEGIN to COMMIT, travel as one text that is prepared once.

pub(super) mod postgres;

use sqlx::SqliteConnection;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments};

use super::effect::Effect;
use super::signed;
use crate::audit::log::Batch;

/// Writes the rows. Numbers in an array's element have fixed places: a credit code has 18 characters, a number 20
/// digits; the bytes that belong to an element are found by its place or by offset and length.
macro_rules! rows {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            "INSERT OR FAIL INTO claims (caller, request_id, digest, request_index) \
             SELECT substr(value, 1, 18), substr($2, key * 16 + 1, 16), substr($3, key * 32 + 1, 32), \
             CAST(substr(value, 19, 20) AS INTEGER) FROM json_each($1); \
             INSERT OR FAIL INTO outcomes (caller, request_id, request_index, response_index, created_us, response) \
             SELECT substr(value, 1, 18), substr($5, key * 16 + 1, 16), CAST(substr(value, 19, 20) AS INTEGER), \
             CAST(substr(value, 39, 20) AS INTEGER), CAST(substr(value, 59, 20) AS INTEGER), \
             substr($6, CAST(substr(value, 79, 20) AS INTEGER) + 1, CAST(substr(value, 99, 20) AS INTEGER)) \
             FROM json_each($4); \
             INSERT OR FAIL INTO audit_entries (idx, entry, salt) \
             SELECT $7 + key, substr($16, CAST(substr(value, 1, 20) AS INTEGER) + 1, \
             CAST(substr(value, 21, 20) AS INTEGER)), substr($9, key * 64 + 1, 64) FROM json_each($8); \
             INSERT INTO audit_tiles (level, idx, hashes) \
             SELECT CAST(substr(value, 1, 20) AS INTEGER), CAST(substr(value, 21, 20) AS INTEGER), \
             substr($11, CAST(substr(value, 41, 20) AS INTEGER) + 1, CAST(substr(value, 61, 20) AS INTEGER)) \
             FROM json_each($10) WHERE true \
             ON CONFLICT (level, idx) DO UPDATE SET hashes = excluded.hashes; \
             INSERT INTO audit_head (id, size, root, open_from, checkpoint) VALUES (1, $12, $13, $14, $15) \
             ON CONFLICT (id) DO UPDATE SET size = excluded.size, root = excluded.root, \
             open_from = excluded.open_from, checkpoint = excluded.checkpoint",
            $after
        )
    };
}

const WRITE: &str = rows!("", "");
const WRITE_AND_COMMIT: &str = rows!("BEGIN IMMEDIATE; ", "; COMMIT");

/// A JSON array of strings that hold nothing to escape: letters, digits and signs.
#[derive(Default)]
pub(super) struct Array(String);

impl Array {
    /// Adds an element: `text`, then each number in 20 digits. (A batch writes a thousand of them; the formatting
    /// machinery takes several times as long, most of it for the zeros.)
    pub(super) fn push(&mut self, text: &str, numbers: &[u64]) {
        self.0.push_str(if self.0.is_empty() { "[\"" } else { ",\"" });
        self.0.push_str(text);
        for number in numbers {
            let (mut digits, mut rest) = ([b'0'; 20], *number);
            for digit in digits.iter_mut().rev() {
                if rest == 0 {
                    break;
                }
                *digit += (rest % 10) as u8;
                rest /= 10;
            }
            digits.iter().for_each(|digit| self.0.push(char::from(*digit)));
        }
        self.0.push('"');
    }

    pub(super) fn close(self) -> String {
        if self.0.is_empty() { "[]".to_owned() } else { self.0 + "]" }
    }
}

/// The rows of one batch, in the form that the statements take.
#[derive(Default)]
pub(super) struct Rows {
    claims: Array,
    claimed_ids: Vec<u8>,
    digests: Vec<u8>,
    outcomes: Array,
    answered_ids: Vec<u8>,
    responses: Vec<u8>,
    first_index: i64,
    entries: Array,
    entry_bytes: Vec<u8>,
    salts: Vec<u8>,
    tiles: Array,
    hashes: Vec<u8>,
    size: i64,
    root: Vec<u8>,
    open_from: i64,
    checkpoint: String,
}

impl Rows {
    /// The rows of a batch.
    pub(super) fn of(batch: &Batch<Effect>) -> Self {
        let head = &batch.head;
        let mut rows = Self {
            first_index: signed(batch.first_index),
            size: signed(head.size),
            root: head.root.as_bytes().to_vec(),
            open_from: signed(head.open_from),
            checkpoint: head.checkpoint.clone(),
            ..Self::default()
        };
        let leaves = batch.leaves.len();
        rows.salts.reserve(leaves * 64);
        rows.digests.reserve(leaves * 32);
        rows.responses.reserve(leaves * 512);
        rows.entry_bytes.reserve(batch.leaves.iter().map(|leaf| leaf.entry.len()).sum());
        for (index, leaf) in (batch.first_index..).zip(&batch.leaves) {
            let (offset, length) = (rows.entry_bytes.len(), leaf.entry.len());
            rows.entries.push("", &[offset as u64, length as u64]);
            rows.entry_bytes.extend_from_slice(&leaf.entry);
            rows.salts.extend_from_slice(&leaf.salt.0);
            leaf.effects.iter().for_each(|effect| rows.add(effect, index));
        }
        for (id, hashes) in &batch.tiles {
            let (offset, length) = (rows.hashes.len(), hashes.len() * 32);
            hashes.iter().for_each(|hash| rows.hashes.extend_from_slice(hash.as_bytes()));
            rows.tiles.push("", &[u64::from(id.level), id.index, offset as u64, length as u64]);
        }
        rows
    }

    fn add(&mut self, effect: &Effect, index: u64) {
        match effect {
            Effect::Claim { caller, request_id, digest } => {
                self.claims.push(caller.as_str(), &[index]);
                self.claimed_ids.extend_from_slice(request_id.as_bytes());
                self.digests.extend_from_slice(digest);
            }
            Effect::Outcome { caller, request_id, request_index, response, at } => {
                let at = u64::try_from(at.as_microsecond()).unwrap_or(0);
                let (offset, length) = (self.responses.len() as u64, response.len() as u64);
                self.outcomes.push(caller.as_str(), &[*request_index, index, at, offset, length]);
                self.answered_ids.extend_from_slice(request_id.as_bytes());
                self.responses.extend_from_slice(response);
            }
            _ => {}
        }
    }

    /// Writes them in a transaction of their own.
    pub(super) async fn write_and_commit(self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let written = self.bind(sqlx::query(WRITE_AND_COMMIT)).execute(&mut *connection).await;
        if let Err(sqlx::Error::Database(error)) = &written
            && error.is_unique_violation()
        {
            // Other errors end the connection, and its transaction with it.
            sqlx::query("ROLLBACK").execute(connection).await?;
        }
        written.map(|_| ())
    }

    /// Writes them in the transaction that is open.
    pub(super) async fn write(self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        self.bind(sqlx::query(WRITE)).execute(connection).await.map(|_| ())
    }

    fn bind(self, query: Query<'static, Sqlite, SqliteArguments>) -> Query<'static, Sqlite, SqliteArguments> {
        query
            .bind(self.claims.close())
            .bind(self.claimed_ids)
            .bind(self.digests)
            .bind(self.outcomes.close())
            .bind(self.answered_ids)
            .bind(self.responses)
            .bind(self.first_index)
            .bind(self.entries.close())
            .bind(self.salts)
            .bind(self.tiles.close())
            .bind(self.hashes)
            .bind(self.size)
            .bind(self.root)
            .bind(self.open_from)
            .bind(self.checkpoint)
            .bind(self.entry_bytes)
    }
}
