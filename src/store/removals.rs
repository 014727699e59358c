//! Removals: what an erasure or a pruning takes away, step by step, each step with its entry.

mod taken;

use jiff::Timestamp;
use uuid::Uuid;

pub(super) use self::taken::{begin, end, step};

use super::database::{Acquired, Pool, Row, sql};
use super::postgres::{self, EntryPartition};
use super::{Store, StoreError, signed, unsigned};
use crate::audit::removal::{IndexRanges, RemovalKind};
use crate::audit::secret::KeptSalt;
use crate::domain::agency::CreditCode;
use crate::domain::exchange::{ExchangeId, ExchangeState};
use crate::domain::verification::VerificationState;
use crate::domain::vocabulary::vocabulary;

vocabulary! {
    /// How far a removal is.
    pub enum RemovalState {
        /// What it concerns is being counted.
        Counting => "COUNTING",
        /// It is under way.
        Removing => "REMOVING",
        /// A dry run has ended: nothing was removed.
        Counted => "COUNTED",
        /// All is removed.
        Done => "DONE",
        /// Nothing was removed, since exchanges that it concerns still run.
        Refused => "REFUSED",
    }
}

/// A removal to begin.
#[derive(Debug)]
pub struct NewRemoval {
    /// Its id.
    pub removal_id: Uuid,
    /// Who asked for it.
    pub caller: CreditCode,
    /// What is removed.
    pub kind: RemovalKind,
    /// Whether it only counts.
    pub dry_run: bool,
    /// Of a period: all before.
    pub before: Option<Timestamp>,
    /// Of a person: the pseudonyms.
    pub pseudonyms: Vec<String>,
    /// The entry that the entry of each step is made after, in canonical bytes.
    pub event: Vec<u8>,
    /// When.
    pub at: Timestamp,
}

/// A removal, under way or ended.
#[derive(Clone, Debug)]
pub struct RemovalRecord {
    /// Its id.
    pub removal_id: Uuid,
    /// Who asked for it.
    pub caller: CreditCode,
    /// What is removed.
    pub kind: RemovalKind,
    /// How far it is.
    pub state: RemovalState,
    /// Whether it only counts.
    pub dry_run: bool,
    /// Of a period: all before.
    pub before: Option<Timestamp>,
    /// Of a person: the pseudonyms.
    pub pseudonyms: Vec<String>,
    /// The entry that the entry of each step is made after.
    pub event: Vec<u8>,
    /// Entries looked through in this pass.
    pub looked_through: u64,
    /// Entries concerned: counted, or removed so far.
    pub entries: u64,
    /// Exchanges and verifications concerned likewise.
    pub exchanges: u64,
    /// Exchanges, or verifications, that still run.
    pub obstacles: Vec<String>,
}

/// One step of a removal, which becomes durable with its entry.
#[derive(Debug)]
pub struct RemovalStep {
    /// The removal.
    pub removal_id: Uuid,
    /// What is removed.
    pub kind: RemovalKind,
    /// Entries that lose their salts, or their bytes.
    pub entries: IndexRanges,
    /// Exchanges, and threads of verifications, that lose their messages.
    pub threads: Vec<ExchangeId>,
    /// The partition with which the entries go, where all of it goes but little. Otherwise each is emptied in its row.
    pub detaches: Option<Detaching>,
    /// Who asked for it.
    pub by: CreditCode,
    /// When.
    pub at: Timestamp,
}

/// A partition of the log's entries to detach.
#[derive(Clone, Debug)]
pub struct Detaching {
    /// The partition.
    pub partition: EntryPartition,
    /// Indexes of all entries in it that keep their bytes.
    pub kept: Vec<u64>,
}

/// How a removal ended.
#[derive(Debug)]
pub struct RemovalEnd {
    /// The removal.
    pub removal_id: Uuid,
    /// `Counted`, `Done` or `Refused`.
    pub state: RemovalState,
    /// What a count came to; `None` leaves what the steps have added up.
    pub counts: Option<(u64, u64)>,
    /// What stood in the way.
    pub obstacles: Vec<String>,
    /// When.
    pub at: Timestamp,
}

/// An entry as a removal looks at it.
#[derive(Debug)]
pub struct RemovableEntry {
    /// Its index.
    pub index: u64,
    /// Its bytes.
    pub entry: Vec<u8>,
    /// Whether a salt of a person, a request or an answer is still there.
    pub has_salts: bool,
}

/// How a thread, of an exchange or of a verification, stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is none.
    Gone,
    /// Its messages were erased; that it was there is kept until its retention ends.
    Erased,
    /// It runs: it is not decided, or a message in it has not been taken over.
    Running,
    /// It has ended.
    Ended,
}

const COLUMNS: &str = "removal_id, caller, kind, state, dry_run, before_us, pseudonyms, event, looked_through, \
                       entries, exchanges, obstacles";

impl Store {
    /// A removal that `caller` asked for.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn removal(
        &self,
        removal_id: &Uuid,
        caller: &CreditCode,
    ) -> Result<Option<RemovalRecord>, StoreError> {
        let text = format!("SELECT {COLUMNS} FROM removals WHERE removal_id = $1 AND caller = $2");
        let row = sql(text)
            .bind(removal_id.as_bytes().as_slice())
            .bind(caller.as_str())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(removal).transpose()
    }

    /// The oldest removal that is not at its end.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open_removal(&self) -> Result<Option<RemovalRecord>, StoreError> {
        let text = format!(
            "SELECT {COLUMNS} FROM removals WHERE state IN ('COUNTING', 'REMOVING') ORDER BY created_us LIMIT 1"
        );
        let row = sql(text).fetch_optional(&self.readers).await?;
        row.as_ref().map(removal).transpose()
    }

    /// Notes how far a removal is, for who watches it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn note_removal(
        &self,
        removal_id: &Uuid,
        state: RemovalState,
        looked_through: u64,
    ) -> Result<(), StoreError> {
        let mut connection = self.writer.acquire().await?;
        let noted = sql("UPDATE removals SET state = $1, looked_through = $2 WHERE removal_id = $3")
            .bind(state.as_str())
            .bind(signed(looked_through))
            .bind(removal_id.as_bytes().as_slice())
            .execute(&mut connection)
            .await;
        let outcome = noted.map(|_| ()).map_err(StoreError::from);
        Self::discard_after_error(&mut connection, &outcome);
        outcome
    }

    /// At most `limit` entries from index `from` whose bytes are there.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn removable_entries(&self, from: u64, limit: u32) -> Result<Vec<RemovableEntry>, StoreError> {
        let rows =
            sql("SELECT idx, entry, length(salt) FROM audit_entries WHERE idx >= $1 AND length(entry) > 0 \
             ORDER BY idx LIMIT $2")
            .bind(signed(from))
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await?;
        let entry = |row: &Row| {
            Ok(RemovableEntry {
                index: unsigned(row.try_get(0)?, "audit_entries", "idx")?,
                entry: row.try_get(1)?,
                has_salts: row.try_get::<Option<i64>>(2)?.is_some_and(|length| length > 16),
            })
        };
        rows.iter().map(entry).collect()
    }

    /// Which of the entries from `from` to before `to` are there without all their salts.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn entries_without_salts(&self, from: u64, to: u64) -> Result<Vec<u64>, StoreError> {
        let found = sql("SELECT idx FROM audit_entries WHERE idx >= $1 AND idx < $2 AND length(entry) > 0 \
             AND (salt IS NULL OR length(salt) < 32) ORDER BY idx")
        .bind(signed(from))
        .bind(signed(to))
        .fetch_all(&self.readers)
        .await?;
        found.iter().map(|row| unsigned(row.try_get(0)?, "audit_entries", "idx")).collect()
    }

    /// The partitions of the log's entries in order, where the database has partitions.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn entry_partitions(&self) -> Result<Vec<EntryPartition>, StoreError> {
        match &self.readers {
            Pool::Sqlite(_) => Ok(Vec::new()),
            Pool::Postgres(readers) => postgres::entry_partitions(readers).await,
        }
    }

    /// Whether a partition can be detached, with something to gain. Entries that lose their bytes with it are one such thing.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn is_detachable(
        &self,
        partition: &EntryPartition,
        takes_bytes: bool,
    ) -> Result<bool, StoreError> {
        match &self.readers {
            Pool::Sqlite(_) => Ok(false),
            Pool::Postgres(readers) => postgres::is_detachable(readers, partition, takes_bytes).await,
        }
    }

    /// Drops the partitions that were detached.
    ///
    /// # Errors
    /// When the database does not answer; those that are left go the next time.
    pub async fn drop_detached(&self, at: Timestamp) -> Result<(), StoreError> {
        let mut connection = self.writer.acquire().await?;
        let outcome = match &mut connection {
            Acquired::Sqlite(_) => Ok(()),
            Acquired::Postgres(server) => postgres::drop_detached(server, at).await,
        };
        Self::discard_after_error(&mut connection, &outcome);
        outcome
    }

    /// What is left of the salts of an entry.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn kept_salt(&self, index: u64) -> Result<KeptSalt, StoreError> {
        let row = sql("SELECT salt FROM audit_entries WHERE idx = $1")
            .bind(signed(index))
            .fetch_optional(&self.readers)
            .await?;
        let salt = row.map(|row| row.try_get::<Option<Vec<u8>>>(0)).transpose()?;
        Ok(KeptSalt::new(salt.flatten()))
    }

    /// How a thread stands.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn standing(&self, thread: &ExchangeId) -> Result<Standing, StoreError> {
        let row = sql("SELECT (SELECT state FROM exchanges WHERE exchange_id = $1), \
             (SELECT erased_us FROM exchanges WHERE exchange_id = $1), \
             (SELECT state FROM verifications WHERE verification_id = $1), \
             EXISTS (SELECT 1 FROM deliveries WHERE exchange_id = $1 AND state IN ('PENDING', 'LEASED'))")
        .bind(thread.as_bytes().as_slice())
        .fetch_one(&self.readers)
        .await?;
        let exchange: Option<&str> = row.try_get(0)?;
        let (erased, verification): (Option<i64>, Option<&str>) = (row.try_get(1)?, row.try_get(2)?);
        let waits: bool = row.try_get(3)?;
        Ok(match (exchange, verification) {
            (None, None) => Standing::Gone,
            _ if waits => Standing::Running,
            (Some(_), _) if erased.is_some() => Standing::Erased,
            (Some(state), _) if !has_ended(state) => Standing::Running,
            (None, Some(state)) if state == VerificationState::Pending.as_str() => Standing::Running,
            _ => Standing::Ended,
        })
    }

    /// Exchanges with kind and last change, and settled verifications with theirs, that last changed before `before`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn threads_before(
        &self,
        before: Timestamp,
    ) -> Result<Vec<(ExchangeId, String, Timestamp)>, StoreError> {
        let rows = sql("SELECT exchange_id, kind, updated_us FROM exchanges WHERE updated_us < $1 \
             UNION ALL SELECT verification_id, kind, updated_us FROM verifications WHERE updated_us < $1")
        .bind(before.as_microsecond())
        .fetch_all(&self.readers)
        .await?;
        let inconsistent = |column| StoreError::Inconsistent { table: "exchanges", column };
        let thread = |row: &Row| {
            let id = ExchangeId::from_slice(row.try_get(0)?).ok_or_else(|| inconsistent("exchange_id"))?;
            let updated = Timestamp::from_microsecond(row.try_get(2)?);
            Ok((id, row.try_get(1)?, updated.map_err(|_| inconsistent("updated_us"))?))
        };
        rows.iter().map(thread).collect()
    }

    /// Whether an exchange, erased or not, or a verification is kept.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn keeps_exchange(&self, exchange_id: &ExchangeId) -> Result<bool, StoreError> {
        let row = sql("SELECT EXISTS (SELECT 1 FROM exchanges WHERE exchange_id = $1) \
             OR EXISTS (SELECT 1 FROM verifications WHERE verification_id = $1)");
        let row = row.bind(exchange_id.as_bytes().as_slice()).fetch_one(&self.readers).await?;
        Ok(row.try_get(0)?)
    }

    /// Whether the messages of an exchange were erased.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn is_erased(&self, exchange_id: &ExchangeId) -> Result<bool, StoreError> {
        let row =
            sql("SELECT EXISTS (SELECT 1 FROM exchanges WHERE exchange_id = $1 AND erased_us IS NOT NULL)");
        let row = row.bind(exchange_id.as_bytes().as_slice()).fetch_one(&self.readers).await?;
        Ok(row.try_get(0)?)
    }

    /// Empties the write-ahead log: what was erased is in it as it was before. Returns whether all of it went; a
    /// reader of an older state may be in the way for a moment.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn empty_write_ahead_log(&self) -> Result<bool, StoreError> {
        let mut connection = self.writer.acquire().await?;
        let outcome = match &connection {
            Acquired::Sqlite(_) => sql("PRAGMA wal_checkpoint(TRUNCATE)")
                .fetch_one(&mut connection)
                .await
                .and_then(|row| row.try_get::<i64>(0))
                .map_err(StoreError::from),
            Acquired::Postgres(_) => Ok(0),
        };
        Self::discard_after_error(&mut connection, &outcome);
        outcome.map(|busy| busy == 0)
    }

    /// Index of the entry that is said to tell what removed an entry's salts or bytes; of the latest, where there are
    /// several. Whoever asks believes that entry alone.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn removal_of(&self, index: u64) -> Result<Option<u64>, StoreError> {
        let row = sql("SELECT told_idx FROM removed_entries WHERE first_idx <= $1 AND last_idx >= $1 \
             AND told_idx IS NOT NULL ORDER BY removed_us DESC LIMIT 1")
        .bind(signed(index))
        .fetch_optional(&self.readers)
        .await?;
        row.map(|row| unsigned(row.try_get(0)?, "removed_entries", "told_idx")).transpose()
    }
}

fn has_ended(state: &str) -> bool {
    use ExchangeState as S;
    [S::Decided, S::Closed, S::Withdrawn, S::Undeliverable, S::DeemedWithdrawn]
        .iter()
        .any(|ended| ended.as_str() == state)
}

fn kind_of(word: &str) -> Option<RemovalKind> {
    RemovalKind::ALL.iter().copied().find(|known| known.as_str() == word)
}

fn removal(row: &Row) -> Result<RemovalRecord, StoreError> {
    let inconsistent = |column| StoreError::Inconsistent { table: "removals", column };
    let count = |at: usize, column| unsigned(row.try_get(at)?, "removals", column);
    let (kind, state): (&str, &str) = (row.try_get(2)?, row.try_get(3)?);
    let list =
        |at: usize, column| serde_json::from_str(row.try_get::<&str>(at)?).map_err(|_| inconsistent(column));
    let before: Option<i64> = row.try_get(5)?;
    Ok(RemovalRecord {
        removal_id: Uuid::from_slice(row.try_get(0)?).map_err(|_| inconsistent("removal_id"))?,
        caller: CreditCode::parse(row.try_get(1)?).map_err(|_| inconsistent("caller"))?,
        kind: kind_of(kind).ok_or_else(|| inconsistent("kind"))?,
        state: RemovalState::ALL
            .iter()
            .copied()
            .find(|known| known.as_str() == state)
            .ok_or_else(|| inconsistent("state"))?,
        dry_run: row.try_get(4)?,
        before: before.map(Timestamp::from_microsecond).transpose().map_err(|_| inconsistent("before_us"))?,
        pseudonyms: list(6, "pseudonyms")?,
        event: row.try_get(7)?,
        looked_through: count(8, "looked_through")?,
        entries: count(9, "entries")?,
        exchanges: count(10, "exchanges")?,
        obstacles: list(11, "obstacles")?,
    })
}
