//! The index compared with a look at every entry, and what it does when it is damaged.

use std::path::Path;

use jiff::Timestamp;
use proptest::prelude::*;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::*;
use crate::audit::entry::Phase;
use crate::audit::merkle::{empty_root, leaf_hash};
use crate::audit::search::Field;
use crate::store::database::sql;
use crate::store::databases_in_tests::{Place, on_each_database};
use crate::store::signed;

/// Chunks of the log under test: enough for a merge and for runs of two sizes.
const CHUNKS: u64 = 10;

/// A log with gaps, as pruning leaves them: few entries in many chunks.
struct Scene {
    place: Place,
    store: Store,
    entries: Vec<(u64, Entry)>,
    head: watch::Sender<SignedHead>,
}

impl Scene {
    async fn new(entries: Vec<(u64, Entry)>, size: u64) -> Self {
        Self::on(Place::sqlite(), entries, size).await
    }

    async fn on(place: Place, entries: Vec<(u64, Entry)>, size: u64) -> Self {
        let store = place.open().await;
        let head = watch::Sender::new(SignedHead { size: 0, root: empty_root(), checkpoint: "".into() });
        let mut scene = Self { place, store, entries: Vec::new(), head };
        scene.append(entries, size).await;
        scene
    }

    async fn append(&mut self, entries: Vec<(u64, Entry)>, size: u64) {
        let mut connection = self.store.writer.acquire().await.unwrap();
        let mut transaction = connection.begin().await.unwrap();
        for (index, entry) in &entries {
            sql("INSERT INTO audit_entries (idx, entry) VALUES ($1, $2)")
                .bind(signed(*index))
                .bind(entry.to_canonical_json().unwrap())
                .execute(&mut transaction)
                .await
                .unwrap();
        }
        for chunk in self.head.borrow().size / CHUNK..size / CHUNK {
            // The last leaf of a chunk names the log.
            let last = leaf_hash(format!("{:?}", entries.first().map(|(_, entry)| entry.id)).as_bytes());
            sql("INSERT INTO audit_tiles (level, idx, hashes) VALUES (0, $1, $2)")
                .bind(signed((chunk + 1) * CHUNK / 256 - 1))
                .bind(last.as_bytes().repeat(256))
                .execute(&mut transaction)
                .await
                .unwrap();
        }
        transaction.commit().await.unwrap();
        self.entries.extend(entries);
        self.head.send_replace(SignedHead { size, root: empty_root(), checkpoint: "".into() });
    }

    fn path(&self) -> std::path::PathBuf {
        self.place.folder.path().join("gateway.db.index")
    }

    fn start(&self) -> Running {
        let index = SearchIndex::at(self.place.folder.path().join("gateway.db.index"), self.store.clone());
        let (keeper, head) = (index.clone(), self.head.subscribe());
        Running { index, keeper: tokio::spawn(async move { keeper.keep(head).await }) }
    }

    fn size(&self) -> u64 {
        self.head.borrow().size
    }

    /// What a look at every entry finds.
    fn naive(&self, query: &Query, newest_first: bool) -> Vec<u64> {
        let mut found: Vec<u64> =
            self.entries.iter().filter(|(_, entry)| query.matches(entry)).map(|(index, _)| *index).collect();
        if newest_first {
            found.reverse();
        }
        found
    }

    async fn assert_found(&self, index: &SearchIndex, query: &Query, newest_first: bool, page: usize) {
        let (mut found, mut within) = (Vec::new(), 0..self.size());
        loop {
            let of = PageOf { within, newest_first, entries: page, bytes: usize::MAX };
            let page_of = page_in_time(index, query, of).await;
            assert!(page_of.entries.len() <= page);
            found.extend(page_of.entries.iter().map(|stored| stored.index));
            match page_of.rest {
                Some(rest) => within = rest,
                None => break,
            }
        }
        assert_eq!(found, self.naive(query, newest_first), "{query:?}, newest first: {newest_first}");
    }
}

/// A page, however long the index is behind.
async fn page_in_time(index: &SearchIndex, query: &Query, of: PageOf) -> Page {
    let answered = async {
        loop {
            match index.page(query, of.clone()).await {
                Err(SearchError::Behind { .. }) => sleep(Duration::from_millis(5)).await,
                answer => return answer.unwrap(),
            }
        }
    };
    timeout(Duration::from_secs(60), answered).await.expect("the index stays behind")
}

/// An index that is kept, until it is dropped or killed.
struct Running {
    index: SearchIndex,
    keeper: JoinHandle<()>,
}

impl Running {
    /// Ends it wherever it is, as a crash does.
    async fn kill(self) {
        self.keeper.abort();
        let _ = self.keeper.await;
        self.index.close().await;
    }

    /// Waits until everything is in the file that belongs there, and nothing is left to merge.
    async fn settle(&self, chunks: u64) {
        let settled = async {
            while self.index.followed() / CHUNK < chunks || !self.index.is_settled().await.unwrap() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(60), settled).await.expect("the index did not settle");
    }
}

fn pick(words: &'static [&'static str]) -> impl Strategy<Value = Option<String>> {
    proptest::option::of(proptest::sample::select(words).prop_map(str::to_owned))
}

fn entry() -> impl Strategy<Value = Entry> {
    let agencies = &["a", "b", "c"];
    let words = (pick(agencies), pick(agencies), pick(&["u1", "u2"]), pick(&["p1", "p2", "p3", "p4"]));
    let rest = (pick(&["NO_AGREEMENT", "INVALID"]), pick(&["OK", "ABORTED"]), 0usize..7, 0u128..6);
    (words, rest, any::<u128>(), pick(&["FEE_WAIVER"])).prop_map(
        |((caller, counterpart, unit, subject), (reason, code, phase, exchange), id, kind)| {
            let phase = Phase::ALL[phase];
            let mut entry =
                Entry::new(Uuid::from_u128(id), phase, Timestamp::UNIX_EPOCH, "s", "SubmitExchange", "n");
            entry.caller = caller;
            entry.counterpart = counterpart;
            entry.unit = unit;
            entry.subject = subject;
            entry.reason = reason.map(Into::into);
            entry.code = code.map(Into::into);
            entry.kind = kind.map(Into::into);
            entry.exchange = (exchange != 0).then(|| Uuid::from_u128(exchange));
            entry
        },
    )
}

/// Entries at places anywhere in the log, many of them side by side; the clock goes on, and once back.
fn entries() -> impl Strategy<Value = Vec<(u64, Entry)>> {
    let place = prop_oneof![0..CHUNKS * CHUNK + CHUNK / 2, 70_000u64..70_300];
    (proptest::collection::btree_map(place, entry(), 200..400), 0i64..400).prop_map(|(entries, set_back)| {
        let mut now = 1_000_000;
        let timed = entries.into_iter().enumerate().map(|(place, (index, mut entry))| {
            now += if place as i64 == set_back { -50_000 } else { 1_000 };
            entry.recorded = Timestamp::from_microsecond(now).unwrap();
            (index, entry)
        });
        timed.collect()
    })
}

fn query() -> impl Strategy<Value = Query> {
    let value = |field: Field| match field {
        Field::Caller | Field::Counterpart => pick(&["a", "b", "c", "nobody"]).boxed(),
        Field::Unit => pick(&["u1", "u2"]).boxed(),
        Field::Reason => pick(&["NO_AGREEMENT", "INVALID"]).boxed(),
        Field::Code => pick(&["OK", "ABORTED"]).boxed(),
        Field::Kind => pick(&["FEE_WAIVER"]).boxed(),
        Field::Phase => pick(&["REQUEST", "EVENT"]).boxed(),
        Field::Method => pick(&["SubmitExchange"]).boxed(),
        Field::Exchange => {
            proptest::option::of((0u128..7).prop_map(|id| Uuid::from_u128(id).to_string())).boxed()
        }
        _ => Just(None).boxed(),
    };
    let narrowed: Vec<_> = Field::ALL
        .iter()
        .map(|field| {
            (any::<bool>(), value(*field)).prop_map(|(is_wanted, value)| value.filter(|_| is_wanted))
        })
        .collect();
    let time = || proptest::option::weighted(0.3, 900_000i64..1_500_000);
    let subjects = proptest::sample::subsequence(vec!["p1", "p2", "p3"], 0..=3);
    (narrowed, time(), time(), subjects, any::<bool>()).prop_map(
        |(values, from, before, subjects, by_subject)| {
            let mut query = Query::default();
            for (field, value) in Field::ALL.iter().zip(values) {
                if let Some(value) = value {
                    query.narrow(*field, value);
                }
            }
            if by_subject && !subjects.is_empty() {
                query.narrow_to_any(Field::Subject, subjects.into_iter().map(str::to_owned).collect());
            }
            query.recorded = Span { from, before };
            query
        },
    )
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn by(field: Field, value: &str) -> Query {
    let mut query = Query::default();
    query.narrow(field, value);
    query
}

/// A plain log: every place of some chunks has the same few callers.
fn plain(first: u64, end: u64, id: u128) -> Vec<(u64, Entry)> {
    (first..end)
        .step_by(997)
        .map(|index| {
            let id = Uuid::from_u128(id + u128::from(index));
            let mut entry = Entry::new(id, Phase::Read, Timestamp::UNIX_EPOCH, "s", "GetEntry", "n");
            entry.caller = Some(["a", "b"][usize::from(index % 2 == 0)].to_owned());
            entry.recorded = Timestamp::from_microsecond(index as i64).unwrap();
            (index, entry)
        })
        .collect()
}

async fn assert_right(scene: &Scene, index: &SearchIndex) {
    for newest_first in [false, true] {
        scene.assert_found(index, &by(Field::Caller, "a"), newest_first, 100).await;
        scene.assert_found(index, &by(Field::Caller, "nobody"), newest_first, 100).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 20, ..ProptestConfig::default() })]

    #[test]
    fn the_index_finds_what_a_look_at_every_entry_finds(
        entries in entries(),
        queries in proptest::collection::vec((query(), any::<bool>(), 1usize..60), 60),
        added in entry(),
    ) {
        run(async {
            let size = CHUNKS * CHUNK + CHUNK / 2;
            for place in std::iter::once(Place::sqlite()).chain(Place::postgres()) {
                let mut scene = Scene::on(place, entries.clone(), size).await;
                let running = scene.start();
                let (early, late) = queries.split_at(20);
                // While the file is being written and merged, with chunks in memory and in runs of both sizes.
                for (query, newest_first, page) in early {
                    scene.assert_found(&running.index, query, *newest_first, *page).await;
                }
                running.settle(CHUNKS).await;
                let mut added = added.clone();
                added.recorded = Timestamp::from_microsecond(1_400_000).unwrap();
                scene.append(vec![(size, added)], size + 1).await;
                for (query, newest_first, page) in late {
                    scene.assert_found(&running.index, query, *newest_first, *page).await;
                }
                running.kill().await;
                scene.store.close().await;
            }
        });
    }
}

on_each_database! {
async fn what_is_signed_is_found_at_once(place: Place) {
    let mut scene = Scene::on(place, plain(0, 10, 0), 10).await;
    let running = scene.start();
    for size in 11..30 {
        scene.append(plain(size - 1, size, 0), size).await;
        assert_right(&scene, &running.index).await;
    }
    running.kill().await;
}
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_was_killed_anywhere_is_taken_up_again() {
    let size = CHUNKS * CHUNK + 5;
    let scene = Scene::new(plain(0, size, 0), size).await;
    // From before the first chunk is written to after the merge.
    for milliseconds in [0, 5, 10, 20, 40, 80, 160, 320, 640] {
        let running = scene.start();
        sleep(Duration::from_millis(milliseconds)).await;
        running.kill().await;
    }
    let running = scene.start();
    assert_right(&scene, &running.index).await;
    running.settle(CHUNKS).await;
    assert_right(&scene, &running.index).await;
    running.kill().await;
}

/// Builds an index, ends it, spoils its file, and expects right answers.
async fn after_spoiling(spoil: impl FnOnce(&Path)) {
    let size = CHUNKS * CHUNK + 5;
    let scene = Scene::new(plain(0, size, 0), size).await;
    let running = scene.start();
    running.settle(CHUNKS).await;
    running.kill().await;
    spoil(&scene.path());
    let running = scene.start();
    assert_right(&scene, &running.index).await;
    running.settle(CHUNKS).await;
    assert_right(&scene, &running.index).await;
    running.kill().await;
}

fn cut(path: &Path, keep: impl Fn(u64) -> u64) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(keep(length)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_index_is_made_anew() {
    after_spoiling(|path| IndexFile::remove(path).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_index_is_made_anew() {
    after_spoiling(|path| cut(path, |length| length / 2)).await;
    after_spoiling(|path| cut(path, |length| length - 4096)).await;
    after_spoiling(|path| cut(path, |_| 100)).await;
    after_spoiling(|path| cut(path, |_| 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_database_is_made_anew() {
    after_spoiling(|path| std::fs::write(path, "not a database".repeat(1000)).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_another_log_is_made_anew() {
    let size = 2 * CHUNK + 5;
    let other = Scene::new(plain(0, size, 1 << 100), size).await;
    let running = other.start();
    running.settle(2).await;
    running.kill().await;
    let scene = Scene::new(plain(1, size, 0), size).await;
    std::fs::copy(other.path(), scene.path()).unwrap();
    let running = scene.start();
    assert_right(&scene, &running.index).await;
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_ahead_of_a_restored_log_is_made_anew() {
    let longer = Scene::new(plain(0, 2 * CHUNK + 5, 0), 2 * CHUNK + 5).await;
    let running = longer.start();
    running.settle(2).await;
    running.kill().await;
    let scene = Scene::new(plain(0, CHUNK + 5, 0), CHUNK + 5).await;
    std::fs::copy(longer.path(), scene.path()).unwrap();
    let running = scene.start();
    assert_right(&scene, &running.index).await;
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_a_search_meets_is_mended() {
    let size = 2 * CHUNK + 5;
    let scene = Scene::new(plain(0, size, 0), size).await;
    let running = scene.start();
    running.settle(2).await;
    running.kill().await;
    let damage = sqlx::SqlitePool::connect(&format!("sqlite://{}", scene.path().display())).await.unwrap();
    sqlx::query("UPDATE postings SET list = x'010203'").execute(&damage).await.unwrap();
    damage.close().await;
    let running = scene.start();
    let of = PageOf { within: 0..size, newest_first: false, entries: 10, bytes: usize::MAX };
    let refused = running.index.page(&by(Field::Caller, "a"), of).await;
    assert!(matches!(refused, Err(SearchError::Behind { .. })), "{refused:?}");
    running.settle(2).await;
    assert_right(&scene, &running.index).await;
    running.kill().await;
}

#[tokio::test]
async fn a_search_looks_for_no_more_than_a_few_rows_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let file = IndexFile::open(&path).await.unwrap();
    file.close().await;
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    for (keys, newest_first) in [(1, false), (1, true), (2, false), (3, true)] {
        let statement = format!("EXPLAIN QUERY PLAN {}", super::file::lists_statement(keys, newest_first));
        let plan = sqlx::query_as::<_, (i64, i64, i64, String)>(sqlx::AssertSqlSafe(statement));
        for (.., step) in plan.fetch_all(&pool).await.unwrap() {
            assert!(!step.contains("TEMP B-TREE") && !step.contains("SCAN postings"), "{step}");
        }
    }
}
