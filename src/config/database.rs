//! Where the gateway keeps what it keeps.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A database: an SQLite file, or a PostgreSQL server that several gateways may share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// An SQLite file.
    File(PathBuf),
    /// A PostgreSQL server.
    Postgres(Postgres),
}

/// A PostgreSQL database. Its URL may hold a password: `Debug` and `Display` show neither that nor the user.
#[derive(Clone, PartialEq, Eq)]
pub struct Postgres {
    url: String,
    stall: Duration,
}

/// How long a gateway may stall with the log in hand, unless the configuration says otherwise.
const STALL: Duration = Duration::from_secs(2);

impl Database {
    /// Reads what a person writes: a `postgres://` URL, or else the path of a file.
    pub fn parse(text: &str) -> Self {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            Self::Postgres(Postgres::new(text))
        } else {
            Self::File(PathBuf::from(text))
        }
    }

    /// The file, of an SQLite database.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

impl From<PathBuf> for Database {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&Path> for Database {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl From<&PathBuf> for Database {
    fn from(path: &PathBuf) -> Self {
        Self::File(path.clone())
    }
}

impl From<&Database> for Database {
    fn from(database: &Database) -> Self {
        database.clone()
    }
}

impl<'de> Deserialize<'de> for Database {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::parse(&String::deserialize(deserializer)?))
    }
}

/// As [`Display`](fmt::Display) shows it.
impl Serialize for Database {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Postgres {
    fn new(url: &str) -> Self {
        Self { url: url.to_owned(), stall: STALL }
    }

    /// The whole URL, with what is secret in it.
    pub fn expose(&self) -> &str {
        &self.url
    }

    /// How long a gateway may stall with the log in hand; then another takes its turn, and its batch is void.
    pub fn stall(&self) -> Duration {
        self.stall
    }

    pub(super) fn set_stall(&mut self, stall: Duration) {
        self.stall = stall;
    }
}

impl fmt::Display for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Options behind the place may be secret too.
        let place = self.url.split_once("://").map_or("", |(_, rest)| rest);
        let place = place.split(['?', '#']).next().unwrap_or_default();
        let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
        write!(f, "postgres://{place}")
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Postgres({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_shows_the_server_and_nothing_secret() {
        for url in [
            "postgres://gateway:s3cret@db.example:5433/aid?sslmode=verify-full&password=s3cret",
            "postgresql://gateway:s3c@ret@db.example:5433/aid#s3cret",
            "postgres://db.example:5433/aid",
        ] {
            let database = Database::parse(url);
            assert!(database.file().is_none());
            assert_eq!(database.to_string(), "postgres://db.example:5433/aid");
            let shown = format!("{database:?}");
            assert!(!shown.contains("s3c") && shown.contains("db.example"), "{shown}");
        }
        assert_eq!(Database::parse("data/gateway.db").file(), Some(Path::new("data/gateway.db")));
    }
}
