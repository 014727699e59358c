//! Makes logs of any size through the log's own writer, and keeps them for the next run.

use std::collections::VecDeque;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::{Context as Polling, Poll, Waker};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use jiff::Timestamp;
use legal_aid_gateway::audit::checkpoint::Checkpoint;
use legal_aid_gateway::audit::entry::{Entry, Phase, Salt};
use legal_aid_gateway::audit::log::{self, Opened, Storage as _};
use legal_aid_gateway::audit::tile::tiles_for_root;
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::config::KeysSection;
use legal_aid_gateway::gateway::Secrets;
use legal_aid_gateway::store::{AuditLog, Effect, Rejection, Sealer, Store};

use sqlx::Connection as _;

use crate::append::connect;
use crate::world::{Call, World};

/// What an entry takes on the disk, with its share of the tiles and of free pages.
const BYTES_AN_ENTRY: u64 = 1_300;

/// Entries composed and appended together; two such runs are on their way at any time.
const RUN: usize = 1_024;

/// Entries that may wait for the writer.
pub(crate) const QUEUE: usize = 8_192;

/// REQUESTs that are open at the same time, at most.
const OPEN_AT_ONCE: usize = 64;

/// A log that was made, and is kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// Folder with the database and the keys that belong to it.
    pub(crate) folder: PathBuf,
    /// How many entries it has.
    pub(crate) entries: u64,
}

impl Kept {
    pub(crate) fn database(&self) -> PathBuf {
        self.folder.join("gateway.db")
    }

    /// Where its keys are.
    pub(crate) fn keys(&self) -> KeysSection {
        keys(&self.folder)
    }

    /// Takes out again what was appended, and signs what it was before.
    pub(crate) async fn cut_back(&self) -> Result<()> {
        let key = Secrets::load(&self.keys())?.log;
        let store = Store::open_audit_log(&self.database()).await?;
        let edge = tiles_for_root(self.entries);
        let root = store.tiles(&edge).await?.root(self.entries)?;
        store.close().await;
        let origin = key.name().to_owned();
        let checkpoint =
            Checkpoint { origin, size: self.entries, root, extensions: Vec::new() }.sign(&key)?;
        let size = i64::try_from(self.entries)?;
        let mut database = connect(&self.database()).await?;
        sqlx::query("DELETE FROM audit_entries WHERE idx >= $1").bind(size).execute(&mut database).await?;
        for level in 0..8u8 {
            let tiles = (self.entries >> (8 * level)).div_ceil(256);
            sqlx::query("DELETE FROM audit_tiles WHERE level = $1 AND idx >= $2")
                .bind(i64::from(level))
                .bind(i64::try_from(tiles)?)
                .execute(&mut database)
                .await?;
        }
        for tile in edge {
            let bytes = tile.width_at(self.entries) * 32;
            sqlx::query(
                "UPDATE audit_tiles SET hashes = substr(hashes, 1, $1) WHERE level = $2 AND idx = $3",
            )
            .bind(i64::try_from(bytes)?)
            .bind(i64::from(tile.level))
            .bind(i64::try_from(tile.index)?)
            .execute(&mut database)
            .await?;
        }
        sqlx::query("UPDATE audit_head SET size = $1, root = $2, open_from = $1, checkpoint = $3")
            .bind(size)
            .bind(root.as_bytes().as_slice())
            .bind(checkpoint)
            .execute(&mut database)
            .await?;
        database.close().await?;
        Ok(())
    }

    /// Opens it as a gateway does.
    pub(crate) async fn open(&self, clock: Clock) -> Result<(Store, Opened<Effect, Rejection>)> {
        open(&self.folder, clock).await
    }
}

/// Where logs are kept between runs.
pub(crate) fn kept_in() -> Result<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("a target folder")?;
    Ok(target.join("bench/logs"))
}

/// The log of so many entries of this seed: the one in `path` if it was made before, otherwise made now. Ten million
/// entries take some minutes and about 10 GB.
///
/// # Errors
/// When the disk has no room, or the log cannot be written.
pub(crate) async fn generate(path: &Path, entries: u64, seed: u64) -> Result<Kept> {
    let kept = Kept { folder: path.join(format!("{entries}-{seed}")), entries };
    if kept.database().is_file() {
        return Ok(kept);
    }
    std::fs::create_dir_all(path)?;
    let (needed, free) = (entries * BYTES_AN_ENTRY, free_bytes(path)?);
    ensure!(
        free > needed + needed / 10,
        "{entries} entries need about {} MB in {}, and {} MB are free; --entries takes a smaller number",
        needed / 1_000_000,
        path.display(),
        free / 1_000_000
    );
    // Under another name until it is complete.
    let making = path.join(format!("{entries}-{seed}.making"));
    if making.exists() {
        std::fs::remove_dir_all(&making)?;
    }
    std::fs::create_dir_all(&making)?;
    Secrets::create(&keys(&making), "benchmark.invalid/audit")?;
    let started = Instant::now();
    fill(&making, entries, seed).await?;
    std::fs::rename(&making, &kept.folder)?;
    let seconds = started.elapsed().as_secs_f64();
    let bytes = std::fs::metadata(kept.database())?.len();
    eprintln!(
        "made a log of {entries} entries in {seconds:.1} s ({:.0} entries/s), {:.1} MB in {}",
        entries as f64 / seconds,
        bytes as f64 / 1e6,
        kept.folder.display()
    );
    Ok(kept)
}

async fn fill(folder: &Path, entries: u64, seed: u64) -> Result<()> {
    let runs = compose(entries, seed)?;
    let clock = Clock::moved_by_hand(Timestamp::UNIX_EPOCH);
    let (store, opened) = open(folder, clock.clone()).await?;
    let mut on_their_way: VecDeque<Run> = VecDeque::new();
    let (mut next, mut told) = (0, Instant::now());
    for run in runs {
        if let Some(last) = run.last() {
            move_to(&clock, last.0.occurred);
        }
        let queued = Run::queue(&opened.log, run, next)?;
        next += queued.appends.len() as u64;
        on_their_way.push_back(queued);
        if on_their_way.len() > 2
            && let Some(first) = on_their_way.pop_front()
        {
            first.finish().await?;
        }
        if told.elapsed() > Duration::from_secs(10) {
            eprintln!("  {next} of {entries} entries");
            told = Instant::now();
        }
    }
    for run in on_their_way {
        run.finish().await?;
    }
    ensure!(opened.log.head().size == entries, "the log has {} entries", opened.log.head().size);
    drop(opened.log);
    opened.writer.await?;
    store.close().await;
    Ok(())
}

/// Composes entries in a thread of its own, in runs.
fn compose(entries: u64, seed: u64) -> Result<mpsc::IntoIter<Vec<(Entry, Salt)>>> {
    let mut composer = Composer::new(entries, seed)?;
    let (sender, runs) = mpsc::sync_channel(4);
    std::thread::spawn(move || {
        loop {
            let run: Vec<_> = composer.by_ref().take(RUN).collect();
            if run.is_empty() || sender.send(run).is_err() {
                return;
            }
        }
    });
    Ok(runs.into_iter())
}

/// The entries of a log in their order: REQUESTs, and their ends some entries later.
struct Composer {
    world: World,
    entries: u64,
    next: u64,
    open: Vec<(u64, Entry)>,
}

impl Composer {
    fn new(entries: u64, seed: u64) -> Result<Self> {
        Ok(Self { world: World::new(entries, seed)?, entries, next: 0, open: Vec::new() })
    }

    fn compose(&mut self) -> Entry {
        let left = self.entries - self.next;
        let waiting = self.open.len() as u64;
        let is_time_to_end = self.open.len() >= OPEN_AT_ONCE || self.world.below(3) == 0;
        if waiting > 0 && (waiting >= left || is_time_to_end) {
            let place = self.world.below(waiting) as usize;
            let (request, mut end) = self.open.swap_remove(place);
            end.request_index = Some(request);
            return end;
        }
        let part = self.next as f64 / self.entries as f64;
        let Call { opening, end } =
            if left >= waiting + 2 { self.world.call(part) } else { self.world.read(part) };
        if let Some(end) = end {
            self.open.push((self.next, end));
        }
        opening
    }
}

impl Iterator for Composer {
    type Item = (Entry, Salt);

    fn next(&mut self) -> Option<(Entry, Salt)> {
        if self.next == self.entries {
            return None;
        }
        let entry = self.compose();
        self.next += 1;
        Some((entry, self.world.salt()))
    }
}

type Appending = Pin<Box<dyn Future<Output = Result<u64>> + Send>>;

/// Entries that wait in the writer's queue, in order.
struct Run {
    first: u64,
    appends: Vec<Appending>,
}

impl Run {
    fn queue(log: &AuditLog, entries: Vec<(Entry, Salt)>, first: u64) -> Result<Self> {
        let mut appends = Vec::with_capacity(entries.len());
        for (entry, salt) in entries {
            let log = log.clone();
            // Unconstrained: out of budget, tokio would put none into the queue at the first poll.
            let appending = tokio::task::unconstrained(async move { append(&log, entry, salt).await });
            let mut append: Appending = Box::pin(appending);
            // The first poll puts it into the queue, so that the order is this one.
            match append.as_mut().poll(&mut Polling::from_waker(Waker::noop())) {
                Poll::Pending => appends.push(append),
                // On a busy machine the writer may be done with it by then.
                Poll::Ready(appended) => appends.push(Box::pin(std::future::ready(Ok(appended?)))),
            }
        }
        Ok(Self { first, appends })
    }

    async fn finish(self) -> Result<()> {
        for (expected, append) in (self.first..).zip(self.appends) {
            let index = append.await?;
            ensure!(index == expected, "entry {expected} got index {index}");
        }
        Ok(())
    }
}

/// Appends one entry without effects.
pub(crate) async fn append(log: &AuditLog, entry: Entry, salt: Salt) -> Result<u64> {
    let ends_a_request = matches!(entry.phase, Phase::Response | Phase::Interrupted);
    let appended = if ends_a_request {
        log.conclude(entry, salt, Vec::new()).await
    } else {
        log.append(entry, salt, Vec::new()).await
    };
    appended.map_err(|error| anyhow!("{error:?}"))
}

async fn open(folder: &Path, clock: Clock) -> Result<(Store, Opened<Effect, Rejection>)> {
    let secrets = Secrets::load(&keys(folder))?;
    let store = Store::open(&folder.join("gateway.db"), Sealer::of(&secrets.body)).await?;
    let opened = log::open(Arc::new(store.clone()), secrets.log, clock, QUEUE, None).await?;
    Ok((store, opened))
}

fn keys(folder: &Path) -> KeysSection {
    let [log, body, pseudonym] = ["log.key", "body.key", "pseudonym.key"].map(|name| folder.join(name));
    KeysSection { log, body, pseudonym, pseudonym_earlier: Vec::new() }
}

fn move_to(clock: &Clock, at: Timestamp) {
    if let Ok(ahead) = Duration::try_from(at.duration_since(clock.now())) {
        clock.advance(ahead);
    }
}

fn free_bytes(path: &Path) -> Result<u64> {
    let output = Command::new("df").args(["--output=avail", "-B1"]).arg(path).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let free = text.lines().nth(1).and_then(|line| line.trim().parse().ok());
    free.with_context(|| format!("df says {text:?}"))
}
