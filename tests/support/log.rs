//! Reading a gateway's log from its database, as an auditor with a copy would.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use data_encoding::HEXLOWER;
use legal_aid_gateway::audit::entry::{Commitment, Entry, Field, Phase, Salt};
use legal_aid_gateway::audit::log::Storage as _;
use legal_aid_gateway::audit::verifier::{Report, Verifier};
use legal_aid_gateway::config::Database;
use legal_aid_gateway::store::Store;
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use super::postgres;

/// Entries read at once.
const CHUNK: u32 = 1024;

/// All entries and the report on them.
pub(crate) struct Log {
    pub(crate) entries: Vec<Entry>,
    pub(crate) report: Report,
}

/// Reads and verifies the log, and that it holds every earlier checkpoint.
pub(crate) async fn read(database: impl Into<Database>, key: &str, earlier: &[String]) -> Log {
    let store = Store::open_audit_log(database).await.unwrap();
    let head = store.head().await.unwrap().expect("a log");
    let mut verifier = Verifier::start(&head.checkpoint, &key.parse().unwrap(), earlier).unwrap();
    let mut entries = Vec::new();
    while (entries.len() as u64) < head.size {
        let chunk = store.entries_with_hashes(entries.len() as u64, CHUNK).await.unwrap();
        assert!(!chunk.is_empty(), "entry {} is missing", entries.len());
        for stored in chunk.iter().take_while(|stored| stored.index < head.size) {
            verifier.feed(stored);
            entries.push(Entry::from_json(&stored.entry).unwrap());
        }
    }
    store.close().await;
    Log { entries, report: verifier.finish() }
}

impl Log {
    /// How each REQUEST ended: index of the REQUEST, indexes of its ends.
    pub(crate) fn ends(&self) -> BTreeMap<u64, Vec<u64>> {
        let mut ends: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (index, entry) in (0..).zip(&self.entries) {
            match (entry.phase, entry.request_index) {
                (Phase::Request, _) => drop(ends.entry(index).or_default()),
                (Phase::Response | Phase::Interrupted, Some(request)) => {
                    ends.entry(request).or_default().push(index);
                }
                (Phase::Response | Phase::Interrupted, None) => panic!("{index} ends nothing: {entry:?}"),
                _ => {}
            }
        }
        ends
    }

    /// REQUESTs that wait for their end.
    pub(crate) fn open(&self) -> Vec<u64> {
        self.ends().into_iter().filter(|(_, ends)| ends.is_empty()).map(|(request, _)| request).collect()
    }

    /// Who wrote it.
    pub(crate) fn nodes(&self) -> BTreeSet<String> {
        self.entries.iter().map(|entry| entry.node.clone()).collect()
    }

    pub(crate) fn count(&self, phase: Phase) -> usize {
        self.entries.iter().filter(|entry| entry.phase == phase).count()
    }
}

/// The salts, which open the commitments.
pub(crate) async fn salts(database: &Database) -> Vec<Salt> {
    let path = match database {
        Database::File(path) => path,
        Database::Postgres(server) => {
            let salts =
                postgres::psql(server.expose(), "SELECT encode(salt, 'hex') FROM audit_entries ORDER BY idx");
            let salt = |line: &str| HEXLOWER.decode(line.as_bytes()).unwrap().try_into().unwrap();
            return salts.lines().map(|line| Salt(salt(line))).collect();
        }
    };
    let mut connection = connect(path).await;
    let salts: Vec<Vec<u8>> = sqlx::query_scalar("SELECT salt FROM audit_entries ORDER BY idx")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    salts.into_iter().map(|salt| Salt(salt.try_into().unwrap())).collect()
}

/// Whether a commitment opens to these bytes.
pub(crate) fn opens(commitment: Option<&Commitment>, salt: &Salt, field: Field, bytes: &[u8]) -> bool {
    commitment == Some(&salt.commit(field, bytes))
}

/// A connection of one's own to the database, such as whoever tampers with it would take.
pub(crate) async fn connect(database: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(database).busy_timeout(Duration::from_secs(5));
    SqliteConnection::connect_with(&options).await.unwrap()
}
