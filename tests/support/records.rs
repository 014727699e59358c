//! A gateway's database under the hand of whoever owns it, whichever it is.

#![allow(dead_code, reason = "each test takes the part of this room that it needs")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use data_encoding::HEXLOWER;
use legal_aid_gateway::config::Database;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, Row as _, SqliteConnection};

use super::postgres;

/// The database that the configuration in a folder names.
pub(crate) fn database_of(folder: &Path) -> Database {
    let text = fs::read_to_string(folder.join("gateway.toml")).unwrap();
    let line = text.lines().find(|line| line.starts_with("database = ")).expect("a database");
    match Database::parse(line.split('"').nth(1).unwrap()) {
        Database::File(path) => folder.join(path).into(),
        server => server,
    }
}

/// A database as commands take it.
pub(crate) fn name(database: &Database) -> String {
    match database {
        Database::File(path) => path.display().to_string(),
        Database::Postgres(server) => server.expose().to_owned(),
    }
}

/// The rows that a query gives, whose columns are texts.
pub(crate) async fn rows(database: &Database, query: &str) -> Vec<Vec<String>> {
    let path = match database {
        Database::File(path) => path,
        Database::Postgres(server) => {
            let told = postgres::psql(server.expose(), query);
            return told.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect();
        }
    };
    let mut connection = connect(path).await;
    let rows = sqlx::query(sqlx::AssertSqlSafe(query.to_owned())).fetch_all(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    rows.iter().map(|row| (0..row.len()).map(|place| row.get(place)).collect()).collect()
}

/// The number that a query gives.
pub(crate) async fn count(database: &Database, query: &str) -> i64 {
    let number = rows(database, &format!("SELECT CAST(({query}) AS TEXT)")).await;
    number[0][0].parse().unwrap()
}

/// Changes rows.
pub(crate) async fn execute(database: &Database, statement: &str) {
    match database {
        Database::File(path) => {
            let mut connection = connect(path).await;
            let statement = sqlx::AssertSqlSafe(statement.to_owned());
            sqlx::query(statement).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
        Database::Postgres(server) => drop(postgres::psql(server.expose(), statement)),
    }
}

/// The bytes in a column, as a text for [`rows`]: in hex, small letters.
pub(crate) fn hex(database: &Database, column: &str) -> String {
    match database {
        Database::File(_) => format!("lower(hex({column}))"),
        Database::Postgres(_) => format!("encode({column}, 'hex')"),
    }
}

/// All that a database holds: its files, or on PostgreSQL its rows (what was deleted may lie in its files for a while).
pub(crate) struct Contents(Vec<Vec<u8>>);

impl Contents {
    pub(crate) fn of(database: &Database) -> Self {
        match database {
            Database::File(path) => {
                let file = |end| fs::read(format!("{}{end}", path.display())).ok();
                Self(["", "-wal", "-shm"].into_iter().filter_map(file).collect())
            }
            Database::Postgres(server) => Self(vec![postgres::dump(server.expose())]),
        }
    }

    /// Whether these bytes are there, as they are or in hex.
    pub(crate) fn hold(&self, bytes: &[u8]) -> bool {
        let hex = HEXLOWER.encode(bytes);
        self.0.iter().any(|file| is_in(file, bytes) || is_in(file, hex.as_bytes()))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }
}

/// Whether a file holds these bytes.
pub(crate) fn is_in(file: &[u8], bytes: &[u8]) -> bool {
    memchr::memmem::find(file, bytes).is_some()
}

async fn connect(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).busy_timeout(Duration::from_secs(5));
    SqliteConnection::connect_with(&options).await.unwrap()
}
