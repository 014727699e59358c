//! Where the gateway keeps what it keeps.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
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
    trusts_network: bool,
}

/// Parameters of a URL that name a file, as libpq and sqlx spell them.
const FILES: [&str; 3] = ["sslrootcert", "sslcert", "sslkey"];

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

    /// The same, where the network to its server is protected by other means than TLS.
    #[must_use]
    pub fn over_trusted_network(self, trusts_network: bool) -> Self {
        match self {
            Self::Postgres(server) => Self::Postgres(server.over_trusted_network(trusts_network)),
            file @ Self::File(_) => file,
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
        Self { url: url.to_owned(), stall: STALL, trusts_network: false }
    }

    /// The whole URL, with what is secret in it.
    pub fn expose(&self) -> &str {
        &self.url
    }

    /// How long a gateway may stall with the log in hand; then another takes its turn, and its batch is void.
    pub fn stall(&self) -> Duration {
        self.stall
    }

    /// Whether the network to the server is said to be protected by other means than TLS.
    pub fn trusts_network(&self) -> bool {
        self.trusts_network
    }

    /// The files that the URL names for TLS, each with its parameter.
    pub fn files(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        let (_, parameters) = self.url.split_once('?').unwrap_or_default();
        parameters.split('&').filter_map(|parameter| {
            let (name, file) = file_of(parameter)?;
            Some((name, PathBuf::from(file.as_ref())))
        })
    }

    /// The same server, with a network to it that is trusted where `trusts_network` says so.
    #[must_use]
    pub fn over_trusted_network(mut self, trusts_network: bool) -> Self {
        self.trusts_network |= trusts_network;
        self
    }

    pub(super) fn set_stall(&mut self, stall: Duration) {
        self.stall = stall;
    }

    /// Has `find` say where the files are that the URL names.
    pub(super) fn find_files<E>(&mut self, find: impl Fn(&Path) -> Result<PathBuf, E>) -> Result<(), E> {
        let Some((place, parameters)) = self.url.split_once('?') else { return Ok(()) };
        let mut found = Vec::new();
        for parameter in parameters.split('&') {
            found.push(match file_of(parameter) {
                Some((name, file)) => {
                    let file = find(Path::new(file.as_ref()))?;
                    let file = file.to_string_lossy();
                    Cow::Owned(format!("{name}={}", utf8_percent_encode(&file, NON_ALPHANUMERIC)))
                }
                None => Cow::Borrowed(parameter),
            });
        }
        self.url = format!("{place}?{}", found.join("&"));
        Ok(())
    }
}

/// The file that a parameter of a URL names, if it does.
fn file_of(parameter: &str) -> Option<(&str, Cow<'_, str>)> {
    let (name, file) = parameter.split_once('=')?;
    let file = percent_decode_str(file).decode_utf8().ok()?;
    FILES.contains(&name).then_some((name, file))
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

    #[test]
    fn files_of_a_url_are_where_the_configuration_is() {
        let mut server = Postgres::new(
            "postgres://gateway@db/aid?sslmode=verify-full&sslrootcert=tls%2Fdb%20ca.crt&sslkey=/k",
        );
        let find = |file: &Path| Ok::<_, ()>(Path::new("/etc/aid").join(file));
        server.find_files(find).unwrap();
        let files: Vec<_> = server.files().collect();
        let expected = [("sslrootcert", "/etc/aid/tls/db ca.crt"), ("sslkey", "/k")];
        assert_eq!(files, expected.map(|(name, file)| (name, PathBuf::from(file))));
        assert!(server.expose().starts_with("postgres://gateway@db/aid?sslmode=verify-full&sslrootcert="));
        let mut plain = Postgres::new("postgres://db/aid");
        plain.find_files(find).unwrap();
        assert_eq!(plain.expose(), "postgres://db/aid");
        assert!(!plain.trusts_network() && plain.over_trusted_network(true).trusts_network());
    }
}
