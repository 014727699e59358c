//! The index's file: a SQLite database of its own, so that what is written here waits for no lock and no fsync of the
//! log, and holds up none.
//!
//! Every 65,536 entries give a run: for each key its list of places, in one clustered table in the order (run, key,
//! chunk). Eight runs of one size are merged into one of eight times the size, so that a search looks into a few runs
//! whatever the log's length. A run that is being written or removed is named in `unfinished` and is not looked into.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Row, SqlitePool};

use super::{Pace, SearchError};
use crate::audit::merkle::Hash;
use crate::audit::search::{Bits, CHUNK, Chunk, Key, Span, Times, encode_list};
use crate::store::rows::Array;
use crate::store::signed;

/// Changes with what is stored here; an index of another format is made anew.
const FORMAT: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE postings (
        run   INTEGER NOT NULL,
        key   INTEGER NOT NULL,
        chunk INTEGER NOT NULL,
        list  BLOB NOT NULL,
        PRIMARY KEY (run, key, chunk)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE runs (
        first_chunk INTEGER PRIMARY KEY,
        last_chunk  INTEGER NOT NULL,
        run         INTEGER NOT NULL,
        rows        INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE unfinished (
        run  INTEGER PRIMARY KEY,
        rows INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE chunks (
        chunk       INTEGER PRIMARY KEY,
        earliest_us INTEGER NOT NULL,
        latest_us   INTEGER NOT NULL,
        last_leaf   BLOB NOT NULL,
        blocks      BLOB NOT NULL
    ) STRICT;
    PRAGMA user_version = 1";

/// Runs of one size that are merged into one.
const MERGED_AT_ONCE: i64 = 8;

/// Rows written by one statement, in a transaction of its own.
const ROWS_AT_ONCE: usize = 4096;

/// Writes them. In an element a key has 20 characters, as the offset and the length of its list have. (With two parameters
/// a row SQLite looked through all their names for each.)
const POSTINGS: &str = "INSERT INTO postings (run, chunk, key, list) \
    SELECT $1, $2, CAST(substr(value, 1, 20) AS INTEGER), \
    substr($4, CAST(substr(value, 21, 20) AS INTEGER) + 1, CAST(substr(value, 41, 20) AS INTEGER)) FROM json_each($3)";

/// Rows copied or removed in one step of a merge, about: keys are spread evenly.
const ROWS_IN_A_STEP: u64 = 8_192;

/// Lists read at first: a page of a frequent key is full after one, and a rare key has no more.
const FIRST_LISTS: usize = 2;

/// Lists read at once afterwards, and about how many bytes of them, at most.
const MOST_LISTS: usize = 256;
const MOST_BYTES: usize = 512 * 1024;

const READERS: u32 = 2;

const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// The file, opened.
pub(super) struct IndexFile {
    writer: SqlitePool,
    readers: SqlitePool,
    /// When the entries of each chunk were recorded.
    chunks: RwLock<Vec<Times>>,
}

/// A run that a search looks into.
#[derive(Clone, Copy)]
pub(super) struct Run {
    id: i64,
    first_chunk: i64,
    last_chunk: i64,
    rows: i64,
}

/// What a search has of a chunk.
enum List {
    /// Every place.
    Whole(i64),
    /// A row: the chunk, and a list for each key. It stays as it is until its turn comes; unpacked it takes 8 KB.
    Stored(SqliteRow),
}

impl List {
    fn chunk(&self) -> Result<i64, SearchError> {
        match self {
            Self::Whole(chunk) => Ok(*chunk),
            Self::Stored(row) => Ok(row.try_get(0)?),
        }
    }

    /// The places that have every key.
    fn places(&self, read: &mut Read) -> Result<Bits, SearchError> {
        let Self::Stored(row) = self else { return Ok(Bits::first(CHUNK as u32)) };
        let first: &[u8] = row.try_get(1)?;
        let (mut places, mut bytes) = (Bits::decode(first)?, first.len());
        for column in 2..row.len() {
            let list: &[u8] = row.try_get(column)?;
            places.and(&Bits::decode(list)?);
            bytes += list.len();
        }
        read.add(bytes);
        Ok(places)
    }
}

/// The lists that a search has read so far.
#[derive(Default)]
struct Read {
    lists: usize,
    bytes: usize,
}

impl Read {
    fn add(&mut self, bytes: usize) {
        self.lists += 1;
        self.bytes += bytes;
    }

    /// How many to read next: half as many again as should fill the page, going by what they gave so far. Each statement
    /// looks into every run anew, so that reading on by a few would cost more than a few too many.
    fn next(&self, found: usize, wanted: usize) -> usize {
        let needed = (wanted - found) * self.lists * 3 / 2 / found.max(1) + 1;
        let affordable = MOST_BYTES * self.lists / self.bytes.max(1);
        needed.min(affordable).clamp(FIRST_LISTS, MOST_LISTS)
    }
}

/// Work that is left to do, in pieces with pauses between them.
pub(super) enum Step {
    /// Runs that follow one another become one.
    Merge(Vec<Run>),
    /// What is left of a run that is not needed any more.
    Remove { run: i64, rows: i64 },
}

impl IndexFile {
    /// Opens the index of a log, or makes an empty one where there is none of this format.
    pub(super) async fn open(path: &Path) -> Result<Self, SearchError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // Derived data: after a power failure the newest chunk may be missing, never half there.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(false);
        let pool = |most: u32| SqlitePoolOptions::new().max_connections(most).test_before_acquire(false);
        let writer = pool(1).idle_timeout(None).max_lifetime(None).connect_with(options.clone()).await?;
        let readers = pool(READERS).connect_lazy_with(options.read_only(true));
        let file = Self { writer, readers, chunks: RwLock::default() };
        let loaded = file.load().await;
        if loaded.is_err() {
            // A connection that closes later would take the file's successor for its own.
            file.close().await;
        }
        loaded.map(|()| file)
    }

    /// Makes the tables in a new file, or reads what an old one holds.
    async fn load(&self) -> Result<(), SearchError> {
        let format: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&self.writer).await?;
        let tables: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM sqlite_schema").fetch_one(&self.writer).await?;
        match (format, tables) {
            (FORMAT, _) => {}
            (0, 0) => {
                let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
                sqlx::raw_sql(SCHEMA).execute(&mut *transaction).await?;
                transaction.commit().await?;
            }
            _ => return Err(SearchError::Unsound("it is of another format")),
        }
        let rows = sqlx::query("SELECT chunk, earliest_us, latest_us FROM chunks ORDER BY chunk")
            .fetch_all(&self.writer)
            .await?;
        let mut chunks = Vec::with_capacity(rows.len());
        for row in rows {
            if row.try_get::<i64, _>(0)? != chunks.len() as i64 {
                return Err(SearchError::Unsound("chunks are missing"));
            }
            chunks.push(Times { earliest: row.try_get(1)?, latest: row.try_get(2)? });
        }
        let mut next = 0;
        for run in self.runs().await? {
            if run.first_chunk != next {
                return Err(SearchError::Unsound("runs are missing"));
            }
            next = run.last_chunk + 1;
        }
        if next != chunks.len() as i64 {
            return Err(SearchError::Unsound("runs are missing"));
        }
        *self.chunks.write().unwrap_or_else(PoisonError::into_inner) = chunks;
        Ok(())
    }

    /// Removes the file.
    pub(super) fn remove(path: &Path) -> std::io::Result<()> {
        for suffix in ["", "-wal", "-shm"] {
            let mut file = path.as_os_str().to_owned();
            file.push(suffix);
            match std::fs::remove_file(PathBuf::from(file)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Chunks that it holds.
    pub(super) fn len(&self) -> u64 {
        self.chunks.read().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    /// The leaf hash of the last entry that it holds: no other log has that entry there.
    pub(super) async fn last_leaf(&self) -> Result<Option<Vec<u8>>, SearchError> {
        let row = sqlx::query_scalar("SELECT last_leaf FROM chunks ORDER BY chunk DESC LIMIT 1");
        Ok(row.fetch_optional(&self.readers).await?)
    }

    /// Writes a chunk as a run of its own. It pauses between two transactions.
    pub(super) async fn write(
        &self,
        chunk: &Chunk,
        last_leaf: &Hash,
        pace: &Pace,
    ) -> Result<(), SearchError> {
        let lists = chunk.sorted_lists();
        let rows = lists.len() as i64;
        let run = self.begin_run(rows).await?;
        let number = signed(chunk.number());
        for lists in lists.chunks(ROWS_AT_ONCE) {
            let began = std::time::Instant::now();
            let (mut rows, mut bytes) = (Array::default(), Vec::new());
            for (key, places) in lists {
                let list = encode_list(places);
                rows.push(&format!("{:020}", key.0), &[bytes.len() as u64, list.len() as u64]);
                bytes.extend_from_slice(&list);
            }
            let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
            let written = sqlx::query(POSTINGS).bind(run).bind(number).bind(rows.close()).bind(bytes);
            written.execute(&mut *transaction).await?;
            transaction.commit().await?;
            pace.pause(began.elapsed()).await;
        }
        let times = chunk.times();
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("INSERT INTO runs (first_chunk, last_chunk, run, rows) VALUES ($1, $1, $2, $3)")
            .bind(number)
            .bind(run)
            .bind(rows)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "INSERT INTO chunks (chunk, earliest_us, latest_us, last_leaf, blocks) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(number)
        .bind(times.earliest)
        .bind(times.latest)
        .bind(last_leaf.as_bytes().as_slice())
        .bind(chunk.encode_blocks())
        .execute(&mut *transaction)
        .await?;
        sqlx::query("DELETE FROM unfinished WHERE run = $1").bind(run).execute(&mut *transaction).await?;
        transaction.commit().await?;
        self.chunks.write().unwrap_or_else(PoisonError::into_inner).push(times);
        Ok(())
    }

    /// What is left to do, if anything.
    pub(super) async fn next_step(&self) -> Result<Option<Step>, SearchError> {
        let row =
            sqlx::query("SELECT run, rows FROM unfinished LIMIT 1").fetch_optional(&self.writer).await?;
        if let Some(row) = row {
            return Ok(Some(Step::Remove { run: row.try_get(0)?, rows: row.try_get(1)? }));
        }
        Ok(due(&self.runs().await?).map(|runs| Step::Merge(runs.to_vec())))
    }

    /// Takes a step to its end; It pauses between two transactions.
    pub(super) async fn take(&self, step: &Step, pace: &Pace) -> Result<(), SearchError> {
        match step {
            Step::Merge(runs) => self.merge(runs, pace).await,
            Step::Remove { run, rows } => {
                for (first, last) in key_ranges(*rows) {
                    let began = std::time::Instant::now();
                    sqlx::query("DELETE FROM postings WHERE run = $1 AND key BETWEEN $2 AND $3")
                        .bind(run)
                        .bind(first)
                        .bind(last)
                        .execute(&self.writer)
                        .await?;
                    pace.pause(began.elapsed()).await;
                }
                sqlx::query("DELETE FROM unfinished WHERE run = $1").bind(run).execute(&self.writer).await?;
                Ok(())
            }
        }
    }

    async fn merge(&self, runs: &[Run], pace: &Pace) -> Result<(), SearchError> {
        let rows = runs.iter().map(|run| run.rows).sum();
        let merged = self.begin_run(rows).await?;
        let sources: Vec<String> = runs.iter().map(|run| run.id.to_string()).collect();
        let copy = format!(
            "INSERT INTO postings (run, key, chunk, list) SELECT $1, key, chunk, list FROM postings \
             WHERE run IN ({}) AND key BETWEEN $2 AND $3 ORDER BY key, chunk",
            sources.join(", ")
        );
        for (first, last) in key_ranges(rows) {
            let began = std::time::Instant::now();
            sqlx::query(AssertSqlSafe(copy.as_str()))
                .bind(merged)
                .bind(first)
                .bind(last)
                .execute(&self.writer)
                .await?;
            pace.pause(began.elapsed()).await;
        }
        let (Some(first), Some(last)) = (runs.first(), runs.last()) else { return Ok(()) };
        // From one moment to the next a search looks into the one run and not into the others.
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        for run in runs {
            sqlx::query("DELETE FROM runs WHERE run = $1").bind(run.id).execute(&mut *transaction).await?;
            sqlx::query("INSERT INTO unfinished (run, rows) VALUES ($1, $2)")
                .bind(run.id)
                .bind(run.rows)
                .execute(&mut *transaction)
                .await?;
        }
        sqlx::query("INSERT INTO runs (first_chunk, last_chunk, run, rows) VALUES ($1, $2, $3, $4)")
            .bind(first.first_chunk)
            .bind(last.last_chunk)
            .bind(merged)
            .bind(rows)
            .execute(&mut *transaction)
            .await?;
        sqlx::query("DELETE FROM unfinished WHERE run = $1").bind(merged).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// At most `limit` indices within the chunks `chunks`, in the order asked for, of entries that have every key.
    pub(super) async fn search(
        &self,
        keys: &[Key],
        span: Span,
        within: std::ops::Range<u64>,
        newest_first: bool,
        limit: usize,
    ) -> Result<Vec<u64>, SearchError> {
        let mut found = Vec::new();
        let Some((mut first, mut last)) = self.chunks_touched(span, &within) else { return Ok(found) };
        let statement = (!keys.is_empty()).then(|| lists_statement(keys.len(), newest_first));
        let (mut most, mut read) = (FIRST_LISTS, Read::default());
        while found.len() < limit && first <= last {
            let lists = match &statement {
                Some(statement) => self.lists(statement, keys, first, last, most).await?,
                // Every entry of the next chunk.
                None => vec![List::Whole(if newest_first { last } else { first })],
            };
            let is_last = statement.is_some() && lists.len() < most;
            for list in lists {
                let chunk = list.chunk()?;
                if newest_first {
                    last = chunk - 1;
                } else {
                    first = chunk + 1;
                }
                let mut places = list.places(&mut read)?;
                self.keep_span(&mut places, chunk, span).await?;
                let left = limit - found.len();
                found.extend(Chunk::indices(chunk as u64, places, &within, newest_first, left));
                if found.len() == limit {
                    break;
                }
            }
            if is_last {
                break;
            }
            most = read.next(found.len(), limit);
        }
        Ok(found)
    }

    /// The first and the last chunk that has entries both in `span` and in `within`.
    fn chunks_touched(&self, span: Span, within: &std::ops::Range<u64>) -> Option<(i64, i64)> {
        let chunks = self.chunks.read().unwrap_or_else(PoisonError::into_inner);
        let first = usize::try_from(within.start / CHUNK).unwrap_or(usize::MAX);
        let end = usize::try_from(within.end.div_ceil(CHUNK)).unwrap_or(usize::MAX).min(chunks.len());
        let mut touched = (first..end).filter(|number| span.touches(chunks[*number]));
        let first = touched.next()?;
        let last = touched.next_back().unwrap_or(first);
        Some((first as i64, last as i64))
    }

    async fn keep_span(&self, bits: &mut Bits, number: i64, span: Span) -> Result<(), SearchError> {
        let times = {
            let chunks = self.chunks.read().unwrap_or_else(PoisonError::into_inner);
            usize::try_from(number).ok().and_then(|number| chunks.get(number).copied())
        };
        let times = times.ok_or(SearchError::Unsound("a list names a chunk that is not there"))?;
        if !span.covers(times) {
            let blocks: Vec<u8> = sqlx::query_scalar("SELECT blocks FROM chunks WHERE chunk = $1")
                .bind(number)
                .fetch_one(&self.readers)
                .await?;
            Chunk::keep_span(bits, &blocks, span);
        }
        Ok(())
    }

    async fn lists(
        &self,
        statement: &str,
        keys: &[Key],
        first: i64,
        last: i64,
        most: usize,
    ) -> Result<Vec<List>, SearchError> {
        let mut query = sqlx::query(AssertSqlSafe(statement)).bind(first).bind(last).bind(most as i64);
        for key in keys {
            query = query.bind(key.0);
        }
        Ok(query.fetch_all(&self.readers).await?.into_iter().map(List::Stored).collect())
    }

    async fn runs(&self) -> Result<Vec<Run>, SearchError> {
        let rows = sqlx::query("SELECT run, first_chunk, last_chunk, rows FROM runs ORDER BY first_chunk")
            .fetch_all(&self.writer)
            .await?;
        rows.into_iter()
            .map(|row| {
                Ok(Run {
                    id: row.try_get(0)?,
                    first_chunk: row.try_get(1)?,
                    last_chunk: row.try_get(2)?,
                    rows: row.try_get(3)?,
                })
            })
            .collect()
    }

    /// Notes that a run is being written, and gives it its number.
    async fn begin_run(&self, rows: i64) -> Result<i64, SearchError> {
        let run: i64 = sqlx::query_scalar(
            "INSERT INTO unfinished (run, rows) SELECT 1 + max((SELECT coalesce(max(run), 0) FROM runs), \
             (SELECT coalesce(max(run), 0) FROM unfinished)), $1 RETURNING run",
        )
        .bind(rows)
        .fetch_one(&self.writer)
        .await?;
        Ok(run)
    }
}

/// Runs that are to become one: they lie side by side, each shorter than a power of eight chunks, and together they are no
/// shorter. The shortest come first, and wherever they lie: while an index is made anew, chunks come faster than they
/// are merged, and what was passed over once would be searched run by run for ever.
fn due(runs: &[Run]) -> Option<&[Run]> {
    let chunks = |run: &Run| run.last_chunk - run.first_chunk + 1;
    let all: i64 = runs.iter().map(chunks).sum();
    let mut long = MERGED_AT_ONCE;
    while long <= all {
        let (mut first, mut together) = (0, 0);
        for (place, run) in runs.iter().enumerate() {
            if chunks(run) >= long {
                (first, together) = (place + 1, 0);
                continue;
            }
            together += chunks(run);
            if together >= long {
                return Some(&runs[first..=place]);
            }
        }
        long *= MERGED_AT_ONCE;
    }
    None
}

/// The statement that reads the lists of chunks in which every key occurs, in the order of the log. The joins stand in
/// the order of the keys, rarest first: what the first does not have is not looked for under the others.
pub(super) fn lists_statement(keys: usize, newest_first: bool) -> String {
    let (mut columns, mut tables, mut conditions) = (String::new(), String::new(), String::new());
    for place in 0..keys {
        let chunk = if place == 0 { "BETWEEN $1 AND $2".to_owned() } else { "= p0.chunk".to_owned() };
        // Writing to a string does not fail.
        let _ = write!(columns, ", p{place}.list");
        let _ = write!(tables, " CROSS JOIN postings p{place}");
        let _ = write!(
            conditions,
            " AND p{place}.run = runs.run AND p{place}.key = ${} AND p{place}.chunk {chunk}",
            place + 4
        );
    }
    let order = if newest_first { "DESC" } else { "ASC" };
    format!(
        "SELECT p0.chunk{columns} FROM runs{tables} WHERE runs.last_chunk >= $1 AND runs.first_chunk <= $2{conditions} \
         ORDER BY runs.first_chunk {order}, p0.chunk {order} LIMIT $3"
    )
}

/// The keys cut into ranges with about as many rows as one step takes: keys are digests, spread evenly.
fn key_ranges(rows: i64) -> impl Iterator<Item = (i64, i64)> {
    let steps = (rows.unsigned_abs() / ROWS_IN_A_STEP + 1) as i128;
    let at = move |step: i128| i128::from(i64::MIN) + (1i128 << 64) * step / steps;
    (0..steps).map(move |step| (at(step) as i64, (at(step + 1) - 1) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs of so many chunks each, side by side.
    fn side_by_side(lengths: &[i64]) -> Vec<Run> {
        let mut next = 0;
        let run = |length: &i64| {
            let run = Run { id: next, first_chunk: next, last_chunk: next + length - 1, rows: 0 };
            next += length;
            run
        };
        lengths.iter().map(run).collect()
    }

    /// The lengths that are left once everything is merged.
    fn merged(mut lengths: Vec<i64>) -> Vec<i64> {
        loop {
            let runs = side_by_side(&lengths);
            let Some(due) = due(&runs) else { return lengths };
            let first = runs.iter().position(|run| run.first_chunk == due[0].first_chunk).unwrap();
            let sum = due.iter().map(|run| run.last_chunk - run.first_chunk + 1).sum();
            lengths.splice(first..first + due.len(), [sum]);
        }
    }

    #[test]
    fn few_runs_are_left_however_fast_chunks_come() {
        assert_eq!(merged(vec![1; 152]), [64, 64, 8, 8, 8]);
        let one_by_one = (0..152).fold(Vec::new(), |mut lengths, _| {
            lengths.push(1);
            merged(lengths)
        });
        assert_eq!(one_by_one, [64, 64, 8, 8, 8]);
        assert_eq!(merged(vec![1; 7]), [1; 7]);
        // Short runs between longer ones, as they are left where chunks came faster than they were merged.
        let passed_over: Vec<i64> = [1, 1, 8, 1, 8, 8, 1].repeat(8);
        assert!(merged(passed_over.clone()).len() <= 14, "{:?}", merged(passed_over));
    }

    #[test]
    fn the_second_reading_fills_the_page_and_none_takes_much_memory() {
        let read = |lists, bytes| Read { lists, bytes };
        // An entry in each chunk: all that is left in one statement.
        assert!((99..200).contains(&read(2, 4).next(2, 101)));
        // Two frequent keys that never meet.
        let of_dense = read(2, 2 * 16_384).next(0, 101);
        assert!((2..=MOST_BYTES / 16_384).contains(&of_dense), "{of_dense}");
        assert_eq!(read(2, 2 * 8_192).next(100, 101), FIRST_LISTS);
        assert!(read(40, 80).next(0, 4_096) <= MOST_LISTS);
    }

    #[test]
    fn the_ranges_of_keys_leave_none_out() {
        for rows in [0, 1, 8_191, 8_192, 1_000_000] {
            let ranges: Vec<_> = key_ranges(rows).collect();
            assert_eq!((ranges[0].0, ranges[ranges.len() - 1].1), (i64::MIN, i64::MAX));
            assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0));
        }
    }
}
