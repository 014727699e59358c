//! A PostgreSQL server of a test process's own, with one database a test.
//!
//! It is started from what is installed, without TCP, under another user where the tests run as root (the server refuses
//! that), and ends with the test process however that ends. `TEST_POSTGRES_URL` names a server to take instead;
//! `REQUIRE_POSTGRES=1` makes its absence a failure where it is otherwise told and skipped.

#![allow(dead_code, reason = "each test takes the part of this room that it needs")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ends the server, and removes what it wrote, when the pipe that the test process holds closes.
const KEEPER: &str = r#""$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c max_connections=400 >"$2/log" 2>&1 &
server=$!
read -r _
kill -INT $server 2>/dev/null
wait $server
rm -rf "$2""#;

/// The URL of a new, empty database; `None` where there is no PostgreSQL.
pub(crate) fn database() -> Option<String> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let Some(server) = server() else {
        // Past the test harness, which keeps the words of tests that pass to itself.
        let _ = fs::write("/dev/stderr", "SKIPPED: no PostgreSQL (initdb and postgres) is installed\n");
        return None;
    };
    let name = format!("test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let created = Command::new(server.bin.join("psql"))
        .args(["-X", "-q", "-d", &server.url("postgres"), "-c", &format!("CREATE DATABASE {name}")])
        .output()
        .expect("psql is installed with the server");
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
    Some(server.url(&name))
}

/// Has the gateway of a configuration work on a new PostgreSQL database where `TEST_DATABASE=postgres` says so: many of the tests
/// of what a gateway does run on either.
pub(crate) fn choose(config: &Path) {
    if env::var("TEST_DATABASE").is_ok_and(|database| database == "postgres") {
        let url = database().expect("TEST_DATABASE=postgres, and there is none");
        let text = fs::read_to_string(config).unwrap();
        let own = "database = \"gateway.db\"";
        assert!(text.contains(own), "{own} is not in {text}");
        fs::write(config, text.replace(own, &format!("database = \"{url}\""))).unwrap();
    }
}

/// Runs statements on a database.
pub(crate) fn psql(url: &str, text: &str) -> String {
    let server = server().expect("a server");
    let ran =
        Command::new(server.bin.join("psql")).args(["-X", "-q", "-A", "-t", "-d", url, "-c", text]).output();
    let ran = ran.expect("psql is installed with the server");
    assert!(ran.status.success(), "{text}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

/// A server.
pub(crate) struct Server {
    bin: PathBuf,
    /// With `{}` for the name of the database.
    url: String,
    /// The process that ends with this one.
    _keeper: Option<Mutex<Child>>,
}

impl Server {
    fn url(&self, database: &str) -> String {
        self.url.replace("{}", database)
    }
}

fn server() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER.get_or_init(find_or_start).as_ref()
}

fn find_or_start() -> Option<Server> {
    let is_required = env::var("REQUIRE_POSTGRES").is_ok_and(|value| value == "1");
    let bin = binaries();
    if let Ok(url) = env::var("TEST_POSTGRES_URL") {
        let (before, after) = url
            .split_once('?')
            .map_or((url.as_str(), String::new()), |(before, after)| (before, format!("?{after}")));
        let server = before.rsplit_once('/').expect("postgres://server/database").0;
        let bin = bin.unwrap_or_default();
        return Some(Server { bin, url: format!("{server}/{{}}{after}"), _keeper: None });
    }
    assert!(bin.is_some() || !is_required, "REQUIRE_POSTGRES=1, and no PostgreSQL server is installed");
    Some(start(bin?))
}

/// The folder of the newest installed server.
fn binaries() -> Option<PathBuf> {
    let of_debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut of_debian: Vec<PathBuf> = of_debian.map(|version| version.path().join("bin")).collect();
    of_debian.sort_by_key(|bin| {
        let version =
            bin.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().parse::<u32>());
        version.and_then(Result::ok).unwrap_or(0)
    });
    let in_path = env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>());
    let mut folders = of_debian.into_iter().rev().chain(in_path.unwrap_or_default());
    folders
        .find(|bin| ["initdb", "postgres", "psql", "pg_isready"].iter().all(|name| bin.join(name).exists()))
}

fn start(bin: PathBuf) -> Server {
    // Removed by who ends the server. Short: the path of a socket has little room.
    let folder = tempfile::Builder::new().prefix("lagw-pg-").tempdir().unwrap().keep();
    let owner = fs::metadata(&folder).unwrap().uid();
    let user = (owner == 0).then(unprivileged);
    if let Some((uid, gid)) = user {
        chown(&folder, Some(uid), Some(gid)).unwrap();
    }
    let as_user = |mut command: Command| {
        if let Some((uid, gid)) = user {
            command.uid(uid).gid(gid);
        }
        command.current_dir(&folder);
        command
    };
    let mut initdb = Command::new(bin.join("initdb"));
    initdb.args(["-A", "trust", "-U", "gateway", "-E", "UTF8", "--no-locale", "--no-sync", "-D"]);
    initdb.arg(folder.join("data"));
    let made = as_user(initdb).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    let mut keeper = Command::new("/bin/sh");
    keeper.args(["-c", KEEPER, "keeper"]).arg(&bin).arg(&folder);
    keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let keeper = as_user(keeper).spawn().unwrap();
    let begun = Instant::now();
    loop {
        let ready = Command::new(bin.join("pg_isready")).arg("-q").arg("-h").arg(&folder).status().unwrap();
        if ready.success() {
            break;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "PostgreSQL does not start: {}",
            fs::read_to_string(folder.join("log")).unwrap_or_default()
        );
        sleep(Duration::from_millis(20));
    }
    let mut host = String::new();
    for byte in folder.to_str().unwrap().bytes() {
        write!(host, "%{byte:02X}").unwrap();
    }
    Server { bin, url: format!("postgres://gateway@{host}/{{}}"), _keeper: Some(Mutex::new(keeper)) }
}

/// A user that the server runs as.
fn unprivileged() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let of = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2).map(|field| field.parse::<u32>().ok());
        Some((fields.next()??, fields.next()??))
    };
    of("postgres").or_else(|| of("nobody")).expect("a user who is not root")
}
