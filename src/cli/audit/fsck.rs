//! The full check of a database.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::read_key;
use crate::audit::checkpoint::Checkpoint;
use crate::audit::fsck::{self, Leaf, Packed, Report};
use crate::audit::log::Storage as _;
use crate::audit::note::{SigningKey, VerifyingKey};
use crate::audit::tile::{TILE_WIDTH, TileId, TileSet, tiles_for_root};
use crate::cli::output::{say, say_json};
use crate::config::{Config, Database};
use crate::store::Store;

/// Runs of entries that are read and hashed, or wait in memory, before they are looked at.
const RUNS_AHEAD: usize = 4;

/// Arguments of `audit fsck`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Fsck {
    /// The database: the file or a copy of it, or a postgres:// URL.
    #[arg(required_unless_present = "config", value_parser = parse_database)]
    database: Option<Database>,
    /// The network to a PostgreSQL server is protected by other means than TLS.
    #[arg(long)]
    trusted_network: bool,
    /// The gateway's configuration: names database, key and kept checkpoint.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The log's public key, or a file with it. Without one the check shows that the parts of the file agree, and proves
    /// nothing about its head.
    #[arg(long)]
    key: Option<String>,
    /// An earlier checkpoint that you kept: the log must still contain it. May be given several times.
    #[arg(long = "checkpoint", value_name = "FILE")]
    checkpoints: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn parse_database(text: &str) -> Result<Database, std::convert::Infallible> {
    Ok(Database::parse(text))
}

/// What is checked against what.
struct Subject {
    database: Database,
    key: Option<VerifyingKey>,
    kept: Vec<PathBuf>,
}

impl Fsck {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let json = self.json;
        let subject = self.subject()?;
        let kept = subject.kept.iter().map(|path| subject.read_kept(path)).collect::<Result<_, _>>()?;
        let bar = progress_bar();
        let started = Instant::now();
        let (report, bytes) = check(&subject.database, subject.key.as_ref(), kept, &bar).await?;
        bar.finish_and_clear();
        let seconds = started.elapsed().as_secs_f64();
        if json {
            say_json(&as_json(&report, bytes, seconds, subject.key.is_some()));
        } else {
            tell(&report, bytes, seconds, subject.key.as_ref());
        }
        if report.is_sound() {
            return Ok(());
        }
        let count = report.findings.len() as u64 + report.findings_left_out;
        Err(anyhow!("the stored log is not what was signed: {count} finding(s)"))
    }

    fn subject(self) -> anyhow::Result<Subject> {
        let mut key = self.key.as_deref().map(read_key).transpose()?;
        let mut kept = self.checkpoints;
        let given = self.database.map(|database| database.over_trusted_network(self.trusted_network));
        let Some(path) = self.config else {
            let database = given.context("a database is needed")?;
            return Ok(Subject { database, key, kept });
        };
        let config = Config::load(&path, std::env::vars())?;
        if key.is_none() {
            let path = &config.keys.log;
            let text =
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let own = SigningKey::parse(text.trim())
                .with_context(|| format!("{} is not a log key", path.display()))?;
            key = Some(own.verifying_key().clone());
        }
        kept.extend(config.audit.checkpoint.filter(|path| path.exists()));
        Ok(Subject { database: given.unwrap_or(config.store.database), key, kept })
    }
}

impl Subject {
    fn read_kept(&self, path: &Path) -> anyhow::Result<Checkpoint> {
        let note =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let opened = match &self.key {
            Some(key) => Checkpoint::open(&note, key),
            None => Checkpoint::read_unverified(&note),
        };
        opened.with_context(|| format!("{} cannot be used", path.display()))
    }
}

/// Checks the database; also gives the bytes of the entries.
async fn check(
    database: &Database,
    key: Option<&VerifyingKey>,
    kept: Vec<Checkpoint>,
    bar: &ProgressBar,
) -> anyhow::Result<(Report, u64)> {
    if database.file().is_some_and(|path| !path.is_file()) {
        bail!("{database} is not a file; fsck takes the gateway's database");
    }
    let store = Store::open_audit_log(database).await?;
    let head = store.head().await.with_context(|| {
        format!(
            "{database} has no audit log that can be read: it is no gateway database, or not the whole of one"
        )
    })?;
    let head = head.ok_or_else(|| anyhow!("the database has no audit log yet"))?;
    let edge = store.tiles(&tiles_for_root(head.size)).await?;
    let mut check = fsck::Fsck::begin(head, &edge, key, kept);
    bar.set_length(check.size());
    let (mut bytes, started) = (0, Instant::now());
    let (sender, mut runs) = mpsc::channel(RUNS_AHEAD);
    // While one run is looked at, the next are read and hashed.
    let reader = tokio::spawn(read_ahead(store.clone(), check.size(), sender));
    while let Some(run) = runs.recv().await {
        let mut run = run.await??;
        bytes += run.entries.as_ref().map_or(0, |entries| entries.bytes);
        let has_all_salts = run.entries.as_ref().is_some_and(|entries| entries.without_salts == 0);
        let Entries { leaves, telling, .. } = match run.entries.take() {
            Some(entries) if run.fits(&entries.leaves) => entries,
            _ => run.one_by_one(&store).await?,
        };
        telling.iter().for_each(|(place, entry)| check.tell(run.first + place, entry));
        if !has_all_salts {
            for index in store.entries_without_salts(run.first, run.end).await? {
                check.note_missing_salt(index);
            }
        }
        for (tile, hashes) in check.take(&leaves, &run.tiles) {
            let stored = store.tiles(&[tile]).await?;
            check.compare(tile, &hashes, stored.get(tile));
        }
        bar.set_position(run.end);
        bar.set_message(format!("{:.0}", megabytes_a_second(bytes, started.elapsed())));
    }
    reader.await?;
    for (tile, hashes) in check.edge() {
        let stored = store.tiles(&[tile]).await?;
        check.compare(tile, &hashes, stored.get(tile));
    }
    let extent = store.extent_beyond(check.size()).await?;
    store.close().await;
    Ok((check.finish(extent.beyond, &extent.tiles), bytes))
}

/// What is stored of a run.
struct Run {
    first: u64,
    end: u64,
    /// `None` where one is missing.
    entries: Option<Entries>,
    /// Tiles over them of level 0, and of level 1 where something is wrong.
    tiles: TileSet,
}

/// What the entries of a run came to.
struct Entries {
    leaves: Vec<Leaf>,
    /// Those that may tell of a removal, by their place in the run.
    telling: Vec<(u64, Vec<u8>)>,
    bytes: u64,
    without_salts: u64,
}

impl Entries {
    fn of(packed: &Packed<'_>) -> Self {
        Self {
            leaves: packed.leaves(),
            telling: packed.telling(),
            bytes: packed.bytes.len() as u64,
            without_salts: packed.without_salts,
        }
    }
}

impl Run {
    async fn read(store: &Store, first: u64, end: u64) -> anyhow::Result<Self> {
        let width = TILE_WIDTH as u64;
        // First, or it would wait behind the entries of the runs that follow.
        let tiles = store.tiles_between(0, first / width, end.div_ceil(width)).await?;
        // Hashed in the task that read them: while it does, the database reads for the next.
        let entries = store.packed_entries(first, end, |packed| Entries::of(&packed)).await?;
        Ok(Self { first, end, entries, tiles })
    }

    /// Whether these have the hashes that the log has recorded.
    fn fits(&self, leaves: &[Leaf]) -> bool {
        let indexes = self.first / TILE_WIDTH as u64..;
        indexes.zip(leaves.chunks(TILE_WIDTH)).all(|(index, leaves)| {
            self.tiles.get(TileId { level: 0, index }).is_some_and(|stored| {
                stored.len() == leaves.len() && leaves.iter().zip(stored).all(|(leaf, hash)| leaf.fits(hash))
            })
        })
    }

    /// The entries of a run in which something is wrong, in the order of the indexes. The tile above is read as well: it
    /// tells which of an entry and its hash was changed.
    async fn one_by_one(&mut self, store: &Store) -> anyhow::Result<Entries> {
        const PAGE: u32 = 1024;
        let width = TILE_WIDTH as u64;
        let above = TileId { level: 1, index: self.first / width / width };
        if let Some(hashes) = store.tiles(&[above]).await?.get(above) {
            self.tiles.insert(above, hashes.to_vec());
        }
        let leaves = vec![Leaf::Missing; usize::try_from(self.end - self.first)?];
        let mut entries = Entries { leaves, telling: Vec::new(), bytes: 0, without_salts: 0 };
        let mut next = self.first;
        while next < self.end {
            let page = store.entries(next, PAGE).await?;
            let Some(last) = page.last() else { break };
            next = last.index + 1;
            for stored in page.iter().filter(|stored| stored.index < self.end) {
                let place = stored.index - self.first;
                let packed =
                    Packed { lengths: vec![stored.entry.len()], bytes: &stored.entry, without_salts: 0 };
                entries.leaves[usize::try_from(place)?] = Leaf::of(&stored.entry);
                entries.telling.extend(packed.telling().into_iter().map(|(_, entry)| (place, entry)));
            }
        }
        Ok(entries)
    }
}

/// Begins to read all runs in order, as they are taken: each in a task of its own, so that the database goes on with the
/// next while one is hashed.
async fn read_ahead(store: Store, size: u64, runs: mpsc::Sender<JoinHandle<anyhow::Result<Run>>>) {
    for (first, end) in fsck::runs(size) {
        let store = store.clone();
        let run = tokio::spawn(async move { Run::read(&store, first, end).await });
        if runs.send(run).await.is_err() {
            return;
        }
    }
}

fn progress_bar() -> ProgressBar {
    let style = "{bar:30} {human_pos} of {human_len} entries, {msg} MB/s, {eta} left";
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn megabytes_a_second(bytes: u64, elapsed: Duration) -> f64 {
    bytes as f64 / 1e6 / elapsed.as_secs_f64().max(1e-6)
}

fn tell(report: &Report, bytes: u64, seconds: f64, key: Option<&VerifyingKey>) {
    let rate = megabytes_a_second(bytes, Duration::from_secs_f64(seconds));
    say(format_args!("size {}, root {}", report.size, report.root.to_base64()));
    say(format_args!(
        "{} entries ({:.1} MB) and {} tiles of all levels recomputed in {seconds:.1} s, {rate:.0} MB/s",
        report.size,
        bytes as f64 / 1e6,
        report.tiles
    ));
    match key {
        Some(key) => say(format_args!("checkpoint read under the key of {}", key.name())),
        None => say(
            "NOT CHECKED: who signed the checkpoint; nothing is proven about the head: whoever can write this file can have \
             written head, tiles and entries anew; --key takes what `audit key` prints",
        ),
    }
    if report.kept_checked > 0 {
        say(format_args!("{} kept checkpoint(s) are contained", report.kept_checked));
    }
    report.removed.iter().for_each(say);
    for finding in &report.findings {
        say(format_args!("WRONG: {finding}"));
    }
    if report.findings_left_out > 0 {
        say(format_args!("and {} more", report.findings_left_out));
    }
    match (report.findings.first(), key) {
        (Some(first), _) => say(format_args!("first, {}", first.remedy())),
        (None, Some(_)) => say("the stored log is sound"),
        (None, None) => {
            say("the parts of the stored log agree; that it is the log that was signed is not proven");
        }
    }
}

fn as_json(report: &Report, bytes: u64, seconds: f64, signature_checked: bool) -> Value {
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|finding| {
            let index = finding.index().map(|index| index.to_string());
            json!({"index": index, "finding": finding.to_string(), "remedy": finding.remedy()})
        })
        .collect();
    json!({
        "sound": report.is_sound(),
        "size": report.size.to_string(),
        "root": report.root.to_base64(),
        "tiles": report.tiles.to_string(),
        "bytes": bytes.to_string(),
        "seconds": seconds,
        "signature_checked": signature_checked,
        "kept_checkpoints": report.kept_checked,
        "removed": report.removed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "findings": findings,
        "findings_left_out": report.findings_left_out,
    })
}
