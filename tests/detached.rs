//! Pruning on PostgreSQL: partitions of the log whose entries are past their retention are taken away whole, and whoever reads
//! the log is answered as where entries were emptied one by one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod district;
mod support;

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use district::answer;
use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::config::Database;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::grpc::proto::response::Kind as Arm;
use legal_aid_gateway::setup::purposes;
use legal_aid_gateway::simulator::court::Script;
use legal_aid_gateway::simulator::district::District;
use legal_aid_gateway::store::{Sealer, Store};
use support::postgres::psql;

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Entries in a partition of these tests; a real one has four million.
const WIDTH: u64 = 256;

const PRUNE: [&str; 4] = ["audit", "prune", "--as", "operator.toml"];

/// A log that was written four years ago, in a folder of today.
struct LongAgo {
    temporary: tempfile::TempDir,
    url: String,
}

impl LongAgo {
    /// `partitions` narrow ones come first; `fill` has the log written.
    async fn write(partitions: u64, fill: impl AsyncFnOnce(&Path, &District)) -> Option<Self> {
        let url = support::postgres::database()?;
        let temporary = tempfile::tempdir().unwrap();
        Store::open(Database::parse(&url), Sealer::new(&[1; 32])).await.unwrap().close().await;
        psql(&url, "DROP TABLE audit_entries_0");
        for number in 0..partitions {
            let (from, to) = (number * WIDTH, (number + 1) * WIDTH);
            let narrow = format!(
                "CREATE TABLE narrow_{number} PARTITION OF audit_entries FOR VALUES FROM ({from}) TO ({to})"
            );
            psql(&url, &narrow);
        }
        let rest = format!(
            "CREATE TABLE audit_entries_0 PARTITION OF audit_entries FOR VALUES FROM ({}) TO (4194304)",
            partitions * WIDTH
        );
        psql(&url, &rest);
        let ago = Self { temporary, url };
        let old = ago.temporary.path().join("old");
        let four_years_ago = Clock::system().now().as_second() - 4 * 366 * 86_400;
        let then = Clock::moved_by_hand(jiff::Timestamp::from_second(four_years_ago).unwrap());
        District::prepare(&old, Script::TakeOnly, &then).unwrap();
        ago.work_on_it(&old);
        let district = District::open(&old, then).await.unwrap();
        fill(&old, &district).await;
        while psql(&ago.url, "SELECT count(*) FROM deliveries WHERE state <> 'DELIVERED'").trim() != "0" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        district.stop().await;
        // Certificates end in a year.
        let new = ago.folder();
        District::prepare(&new, Script::TakeOnly, &Clock::system()).unwrap();
        ago.work_on_it(&new);
        for name in ["checkpoint", "keys/log.key", "keys/body.key", "keys/pseudonym.key"] {
            std::fs::copy(old.join(name), new.join(name)).unwrap();
        }
        std::fs::copy(old.join("checkpoint"), new.join("earlier")).unwrap();
        edit(&new.join("directory.toml"), "version = 1", "version = 2");
        Some(ago)
    }

    fn folder(&self) -> PathBuf {
        self.temporary.path().join("new")
    }

    fn work_on_it(&self, folder: &Path) {
        let database = format!("database = \"{}\"", self.url);
        edit(&folder.join("gateway.toml"), "database = \"gateway.db\"", &database);
    }

    async fn open(&self) -> District {
        District::open(&self.folder(), Clock::system()).await.unwrap()
    }

    async fn run(&self, arguments: &[&str]) -> String {
        let ran = self.try_run(arguments).await;
        assert!(ran.status.success(), "{arguments:?}: {}", said(&ran));
        said(&ran)
    }

    async fn try_run(&self, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::new(support::BINARY);
        command.args(arguments).current_dir(self.folder()).kill_on_drop(true);
        tokio::time::timeout(PATIENCE, command.output()).await.expect("the command ends").unwrap()
    }

    fn number(&self, text: &str) -> u64 {
        psql(&self.url, text).trim().parse().unwrap()
    }

    /// Partitions of the log, with the rows in each.
    fn partitions(&self) -> Vec<(String, u64)> {
        let names = psql(
            &self.url,
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
             WHERE i.inhparent = 'audit_entries'::regclass ORDER BY 1",
        );
        let rows = |name: &str| self.number(&format!("SELECT count(*) FROM {name}"));
        names.lines().map(|name| (name.to_owned(), rows(name))).collect()
    }

    fn detached_tables(&self) -> String {
        psql(
            &self.url,
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE '%\\_detached\\_%' OR relname LIKE '%\\_anew' ORDER BY 1",
        )
    }
}

fn edit(path: &Path, old: &str, new: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(old), "{old} is not in {text}");
    std::fs::write(path, text.replace(old, new)).unwrap();
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Writes so many entries.
async fn look_often(auditor: &AgencyClient, times: u64) {
    for _ in 0..times {
        let request =
            proto::GetCheckpointRequest { context: Some(auditor.context(purposes::AUDIT_INSPECTION)) };
        auditor.audit().get_checkpoint(auditor.request(request, district::DEADLINE)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_past_their_retention_are_gone_and_the_log_is_proven_and_read_as_before() {
    let fill = async |folder: &Path, district: &District| {
        let (centre, auditor) = (district.client("centre").unwrap(), district.client("auditor").unwrap());
        let fee_waiver = district::fee_waiver(folder, &centre);
        let ended = district::submit(&centre, &fee_waiver).await.unwrap().exchange.unwrap();
        let withdrawal = Arm::Withdrawal(proto::Withdrawal { reason: "和解".to_owned() });
        district::respond(&centre, &answer(&centre, &ended, withdrawal)).await.unwrap();
        look_often(&auditor, 600).await;
        // It still runs: its entries are kept, amid the third partition.
        district::submit(&centre, &district::fee_waiver(folder, &centre)).await.unwrap();
        look_often(&auditor, 550).await;
    };
    let Some(ago) = LongAgo::write(4, fill).await else { return };
    let district = ago.open().await;
    let key = district.gateway.log_key().to_string();
    let running = "SELECT count(*) FROM audit_entries e, exchanges x WHERE x.state <> 'WITHDRAWN' \
                   AND position(encode(x.exchange_id, 'hex')::uuid::text IN convert_from(e.entry, 'UTF8')) > 0";
    let of_running = ago.number(running);
    assert!((2..10).contains(&of_running), "{of_running}");

    let counted = ago.run(&[&PRUNE[..], &["--dry-run"]].concat()).await;
    assert_eq!(ago.partitions().len(), 6, "a count takes nothing away: {counted}");
    ago.run(&PRUNE).await;
    let partitions = ago.partitions();
    let rows = |name: &str| partitions.iter().find(|(known, _)| known == name).map(|(_, rows)| *rows);
    assert_eq!((rows("narrow_0"), rows("narrow_1"), rows("narrow_3")), (None, None, None), "{partitions:?}");
    let kept = rows("narrow_2").expect("a small one stands in its place");
    assert!((2..=of_running).contains(&kept), "{partitions:?}");
    let others = running.replace("audit_entries e", "narrow_2 e").replace("> 0", "= 0");
    assert_eq!(ago.number(&others), 0, "only what names the exchange that runs is kept");
    assert_eq!(ago.detached_tables(), "", "dropped");
    let steps =
        "SELECT count(*) FROM audit_entries WHERE position('\"Pruned\"' IN convert_from(entry, 'UTF8')) > 0";
    assert!((5..=8).contains(&ago.number(steps)), "a step for each partition, and what is left");
    let gone = 4 * WIDTH - kept;

    let verify = ["audit", "verify", &ago.url, "--key", &key, "--checkpoint", "earlier"];
    let verified = ago.run(&verify).await;
    assert!(
        verified.contains("past retention") && verified.contains("1 earlier checkpoint(s)"),
        "{verified}"
    );
    let fsck = ["audit", "fsck", "--config", "gateway.toml"];
    let checked = ago.run(&fsck).await;
    assert!(checked.contains("past retention") && checked.contains("the stored log is sound"), "{checked}");
    for index in ["3", "300", "1000"] {
        let shown = ago.run(&["audit", "show", index, "--as", "auditor.toml", "--key", &key]).await;
        assert!(shown.contains("pruned on") && shown.contains("tells of its removal"), "{shown}");
        let receipt =
            ago.try_run(&["audit", "receipt", index, "--as", "auditor.toml", "--out", "receipt"]).await;
        assert!(said(&receipt).contains("pruned past retention"), "{receipt:?}");
    }
    let export = ["audit", "export", "--as", "auditor.toml"];
    ago.run(&[&export[..], &["--out", "log.jsonl"]].concat()).await;
    let verified = ago.run(&["audit", "verify", "log.jsonl", "--key", &key]).await;
    assert!(verified.contains("past retention"), "{verified}");
    ago.run(&[&export[..], &["--tiles", "published"]].concat()).await;
    let verified = ago.run(&["audit", "verify", "published", "--key", &key]).await;
    assert!(verified.contains("past retention"), "{verified}");
    let exported = ago.run(&[&export[..], &["--format", "csv", "--out", "csv"]].concat()).await;
    let (before, _) = exported.split_once(" more were pruned").expect("it says how many were left out");
    let left_out: u64 = before.rsplit(|digit: char| !digit.is_ascii_digit()).next().unwrap().parse().unwrap();
    assert!(left_out >= gone, "{exported}");
    ago.run(&["audit", "findings", "--as", "auditor.toml"]).await;

    let auditor = district.client("auditor").unwrap();
    let entries = get_entries(&auditor, 500, 200).await;
    assert_eq!(entries.iter().map(|stored| stored.index).collect::<Vec<_>>(), (500..700).collect::<Vec<_>>());
    assert!(entries.iter().all(|stored| stored.leaf_hash.len() == 32));
    assert!(entries.iter().any(|stored| !stored.entry.is_empty()), "those of the exchange that runs");
    for newest_first in [false, true] {
        let all = list(&auditor, proto::EntryFilter::default(), newest_first).await;
        let size = all.len() as u64;
        let expected: Vec<u64> = if newest_first { (0..size).rev().collect() } else { (0..size).collect() };
        assert_eq!(all, expected, "every entry once");
        assert!(size > 4 * WIDTH);
    }
    let submitted = proto::EntryFilter { method: "SubmitExchange".into(), ..Default::default() };
    let found = list(&auditor, submitted.clone(), false).await;
    assert!(
        !found.is_empty() && found.iter().all(|index| (2 * WIDTH..3 * WIDTH).contains(index)),
        "{found:?}"
    );
    let looked = proto::EntryFilter { method: "GetCheckpoint".into(), ..Default::default() };
    assert!(list(&auditor, looked, false).await.iter().all(|index| *index >= 4 * WIDTH));

    // An index of another gateway, built from what is left.
    district.stop().await;
    std::fs::remove_file(ago.folder().join("search.index")).unwrap();
    let district = ago.open().await;
    assert_eq!(list(&district.client("auditor").unwrap(), submitted, false).await, found);
    let again = ago.run(&PRUNE).await;
    assert!(again.contains("0 entries and 0 exchanges"), "{again}");
    assert_eq!(ago.partitions(), with_rows_now(&ago, &partitions), "nothing more was detached");
    district.stop().await;

    // What is missing elsewhere is missing, and a row that says that it was detached explains nothing.
    let victim = ago.number("SELECT max(idx) - 20 FROM audit_entries");
    psql(&ago.url, &format!("DELETE FROM audit_entries WHERE idx = {victim}"));
    for command in [&verify[..], &fsck] {
        let checked = ago.try_run(command).await;
        assert!(!checked.status.success() && said(&checked).contains("missing"), "{checked:?}");
    }
    let lie = format!("INSERT INTO detached_partitions VALUES ('x', {victim}, 9000000000000000000, 0, 0, 0)");
    psql(&ago.url, &lie);
    for command in [&verify[..], &fsck] {
        let checked = ago.try_run(command).await;
        let is_told = said(&checked).contains("and no entry of the log says");
        assert!(!checked.status.success() && is_told, "{checked:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_reader_is_not_disturbed_and_what_could_not_be_detached_is_the_next_time() {
    let fill = async |_: &Path, district: &District| {
        look_often(&district.client("auditor").unwrap(), 600).await;
    };
    let Some(ago) = LongAgo::write(1, fill).await else { return };
    edit(&ago.folder().join("gateway.toml"), "# detached = \"drop\"", "detached = \"keep\" # \"drop\"");
    let district = ago.open().await;
    let auditor = district.client("auditor").unwrap();
    // As `audit verify` reads it.
    let reader = Store::open_audit_log(Database::parse(&ago.url)).await.unwrap();
    let calls = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..100 {
            let begun = Instant::now();
            look_often(&auditor, 1).await;
            slowest = slowest.max(begun.elapsed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        slowest
    };
    let (_, slowest) = tokio::join!(ago.run(&PRUNE), calls);
    assert!(slowest < Duration::from_secs(5), "the log does not wait for a reader: {slowest:?}");
    let narrow = |ago: &LongAgo| ago.partitions().into_iter().find(|(name, _)| name == "narrow_0");
    assert_eq!(narrow(&ago), Some(("narrow_0".to_owned(), WIDTH)), "emptied in their rows");
    assert_eq!(ago.number("SELECT count(*) FROM narrow_0 WHERE length(entry) > 0"), 0);
    reader.close().await;

    ago.run(&PRUNE).await;
    assert_eq!(narrow(&ago), None);
    assert!(ago.detached_tables().starts_with("narrow_0_detached_"), "kept for the operator");
    let key = district.gateway.log_key().to_string();
    ago.run(&["audit", "verify", &ago.url, "--key", &key, "--checkpoint", "earlier"]).await;
    ago.run(&["audit", "fsck", "--config", "gateway.toml"]).await;
    district.stop().await;
}

/// The partitions that there were, with the rows that they have by now.
fn with_rows_now(ago: &LongAgo, before: &[(String, u64)]) -> Vec<(String, u64)> {
    let rows = |name: &str| ago.number(&format!("SELECT count(*) FROM {name}"));
    before.iter().map(|(name, _)| (name.clone(), rows(name))).collect()
}

async fn get_entries(auditor: &AgencyClient, first: u64, count: u32) -> Vec<proto::AuditEntry> {
    let context = Some(auditor.context(purposes::AUDIT_INSPECTION));
    let request = proto::GetEntriesRequest { context, first, count };
    let answer = auditor.audit().get_entries(auditor.request(request, district::DEADLINE)).await.unwrap();
    answer.into_inner().entries
}

/// Indexes of all entries that a filter lets through, page by page.
async fn list(auditor: &AgencyClient, filter: proto::EntryFilter, newest_first: bool) -> Vec<u64> {
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = proto::ListEntriesRequest {
            context: Some(auditor.context(purposes::AUDIT_INSPECTION)),
            filter: Some(filter.clone()),
            page_size: 100,
            page_token,
            newest_first,
        };
        let answer =
            auditor.audit().list_entries(auditor.request(request, district::DEADLINE)).await.unwrap();
        let answer = answer.into_inner();
        found.extend(answer.entries.iter().map(|stored| stored.index));
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}
