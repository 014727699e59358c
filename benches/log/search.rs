//! What a search costs in a large log beside a small one, by each key, by pairs of keys, and deep in.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use legal_aid_gateway::audit::entry::Entry;
use legal_aid_gateway::audit::log::{SignedHead, Storage as _};
use legal_aid_gateway::audit::search::{Field, Query, Span};
use legal_aid_gateway::store::{Page, PageOf, SearchIndex, Store};
use tokio::sync::watch;

use crate::generator::{Kept, generate};
use crate::world::Dice;

/// Entries of the log that the large one is compared with.
const SMALL: u64 = 100_000;

/// Searches of each sort.
const SEARCHES: usize = 300;

/// Entries looked at for values to search for, at most.
const LOOKED_AT: usize = 20_000;

/// Entries of a page, as `ListEntries` gives when nothing is said.
const PAGE: usize = 100;

/// A search by one key costs at most so much, or three times what it costs in the small log.
const BOUND: Duration = Duration::from_millis(2);

/// Pages before a deep one, and entries of each of them.
const DEEP: usize = 999;
const DEEP_PAGE: usize = 10;

/// What some searches cost.
struct Cost {
    what: String,
    p50: Duration,
    p95: Duration,
}

/// Prints what searches cost in `large` beside a log of a hundred thousand entries, which is made in `path`. Both are
/// only read; their indices are kept beside them.
pub(crate) async fn bench(path: &Path, large: &Kept, seed: u64) -> Result<()> {
    let small = generate(path, SMALL.min(large.entries), seed).await?;
    let (few, many) = (measure(&small, seed).await?, measure(large, seed).await?);
    println!("search, page of {PAGE}, p50 / p95 in microseconds");
    println!("{:<34} {:>15} {:>15} {:>7}", "by", small.entries, large.entries, "p95 x");
    for many in &many {
        let Some(few) = few.iter().find(|few| few.what == many.what) else { continue };
        let ratio = many.p95.as_secs_f64() / few.p95.as_secs_f64();
        let is_over = many.p95 > BOUND.max(few.p95 * 3);
        let cost = |cost: &Cost| format!("{} / {}", cost.p50.as_micros(), cost.p95.as_micros());
        let note = if is_over { "  over its bound" } else { "" };
        println!("{:<34} {:>15} {:>15} {ratio:>7.2}{note}", few.what, cost(few), cost(many));
    }
    Ok(())
}

async fn measure(kept: &Kept, seed: u64) -> Result<Vec<Cost>> {
    let store = Store::open_audit_log(&kept.database()).await?;
    let signed = store.head().await?.context("a log")?;
    let checkpoint = signed.checkpoint.into();
    let (writer, head) = watch::channel(SignedHead { size: signed.size, root: signed.root, checkpoint });
    // Kept like the log. Once merged it is as it was made, but for how long that took.
    let file = kept.folder.join("search.index");
    let index = SearchIndex::at(file.clone(), store.clone());
    let was_there = file.exists();
    let keeper = index.clone();
    let started = Instant::now();
    let keeper = tokio::spawn(async move { keeper.keep(head).await });
    let mut told = started;
    while index.followed() < kept.entries {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if told.elapsed() > Duration::from_secs(10) {
            eprintln!("  {} of {} entries are indexed", index.followed(), kept.entries);
            told = Instant::now();
        }
    }
    let followed = started.elapsed();
    while !index.is_settled().await? {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let settled = started.elapsed();
    let megabytes = std::fs::metadata(&file)?.len() as f64 / 1e6;
    if was_there {
        println!(
            "the index of {} entries was there, {megabytes:.1} MB; remove {file:?} to time it",
            kept.entries
        );
    } else {
        let entries = kept.entries as f64;
        println!(
            "indexed {} entries in {:.2} s ({:.0} entries/s), merged after {:.2} s ({:.0} entries/s), {megabytes:.1} MB",
            kept.entries,
            followed.as_secs_f64(),
            entries / followed.as_secs_f64(),
            settled.as_secs_f64(),
            entries / settled.as_secs_f64(),
        );
    }
    let costs = Searcher { store, index, size: kept.entries, dice: Dice::new(seed) }.all().await;
    drop(writer);
    keeper.await?;
    costs
}

/// Searches a log for what its entries hold.
struct Searcher {
    store: Store,
    index: SearchIndex,
    size: u64,
    dice: Dice,
}

impl Searcher {
    async fn all(mut self) -> Result<Vec<Cost>> {
        let mut costs = Vec::new();
        let warm: Vec<Query> = self
            .values(Field::Method)
            .await?
            .into_iter()
            .map(|value| by(&[(Field::Method, value)]))
            .collect();
        self.cost("warming up", &warm).await?;
        for field in Field::ALL {
            let values = self.values(*field).await?;
            let queries: Vec<Query> = values.into_iter().map(|value| by(&[(*field, value)])).collect();
            if !queries.is_empty() {
                costs.push(self.cost(field.as_str(), &queries).await?);
            }
        }
        let pairs = [
            (Field::Caller, Field::Counterpart),
            (Field::Caller, Field::Code),
            (Field::Counterpart, Field::Method),
            (Field::Purpose, Field::Phase),
            (Field::Operator, Field::Reason),
            (Field::Subject, Field::Caller),
        ];
        for (one, other) in pairs {
            let values = self.values(one).await?.into_iter().zip(self.values(other).await?);
            let queries: Vec<Query> = values.map(|(a, b)| by(&[(one, a), (other, b)])).collect();
            costs.push(self.cost(&format!("{one} and {other}, at random"), &queries).await?);
        }
        let never = by(&[(Field::Phase, "READ".to_owned()), (Field::Method, "SubmitExchange".to_owned())]);
        costs.push(self.cost("two dense keys, nothing", &vec![never; SEARCHES / 3]).await?);
        let mut hours = Vec::with_capacity(SEARCHES);
        for _ in 0..SEARCHES {
            let from = self.entry().await?.recorded.as_microsecond();
            let mut query = Query::default();
            query.recorded = Span { from: Some(from), before: Some(from + 3_600_000_000) };
            hours.push(query);
        }
        costs.push(self.cost("an hour", &hours).await?);
        for query in &mut hours {
            query.narrow(Field::Code, "OK");
        }
        costs.push(self.cost("an hour and code", &hours).await?);
        let dense = by(&[(Field::Code, "OK".to_owned())]);
        for (what, pages) in
            [("code OK, page 1 of 10 entries", 0), ("code OK, page 1000 of 10 entries", DEEP)]
        {
            costs.push(self.deep(what, &dense, pages).await?);
        }
        Ok(costs)
    }

    async fn cost(&self, what: &str, queries: &[Query]) -> Result<Cost> {
        let mut took = Vec::with_capacity(queries.len());
        for (place, query) in queries.iter().enumerate() {
            let started = Instant::now();
            self.page(query, 0..self.size, place % 2 == 1, PAGE).await?;
            took.push(started.elapsed());
        }
        Ok(cost(what, took))
    }

    async fn deep(&self, what: &str, query: &Query, pages: usize) -> Result<Cost> {
        let mut within = 0..self.size;
        for _ in 0..pages {
            let page = self.page(query, within.clone(), false, DEEP_PAGE).await?;
            let Some(rest) = page.rest else { break };
            within = rest;
        }
        let mut took = Vec::with_capacity(SEARCHES);
        for _ in 0..SEARCHES {
            let started = Instant::now();
            self.page(query, within.clone(), false, DEEP_PAGE).await?;
            took.push(started.elapsed());
        }
        Ok(cost(what, took))
    }

    async fn page(
        &self,
        query: &Query,
        within: Range<u64>,
        newest_first: bool,
        entries: usize,
    ) -> Result<Page> {
        let of = PageOf { within, newest_first, entries, bytes: usize::MAX };
        Ok(self.index.page(query, of).await?)
    }

    /// What entries taken at random hold there, so that frequent values come often. None where the generator has no
    /// such thing.
    async fn values(&mut self, field: Field) -> Result<Vec<String>> {
        let mut values = Vec::with_capacity(SEARCHES);
        for _ in 0..LOOKED_AT {
            if values.len() == SEARCHES {
                break;
            }
            values.extend(field.of(&self.entry().await?).map(Cow::into_owned));
        }
        Ok(values)
    }

    async fn entry(&mut self) -> Result<Entry> {
        let found = self.store.entries(self.dice.below(self.size), 1).await?;
        let stored = found.first().ok_or_else(|| anyhow!("the log has a gap"))?;
        Ok(Entry::from_json(&stored.entry)?)
    }
}

fn by(values: &[(Field, String)]) -> Query {
    let mut query = Query::default();
    values.iter().for_each(|(field, value)| query.narrow(*field, value.clone()));
    query
}

fn cost(what: &str, mut took: Vec<Duration>) -> Cost {
    took.sort_unstable();
    let at = |part: usize| took[(took.len() * part / 100).min(took.len() - 1)];
    Cost { what: what.to_owned(), p50: at(50), p95: at(95) }
}
