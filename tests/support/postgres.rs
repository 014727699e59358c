//! A PostgreSQL server of a test process's own, with one database a test.
//!
//! It is started from what is installed, without TCP unless a test asks for it, under another user where the tests run as root (the server refuses
//! that), and ends with the test process however that ends. `TEST_POSTGRES_URL` names a server to take instead;
//! `REQUIRE_POSTGRES=1` makes its absence a failure where it is otherwise told and skipped.

#![allow(dead_code, reason = "each test takes the part of this room that it needs")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
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

/// Starts the server at each line that comes, and ends it, and removes what it wrote, when the pipe that the test process holds
/// closes.
const KEEPER: &str = r#"while read -r _; do
    wait
    "$1/postgres" -D "$2/data" -k "$2" -c listen_addresses="$3" -c max_connections=400 >>"$2/log" 2>&1 &
    server=$!
done
kill -INT $server 2>/dev/null
wait
rm -rf "$2/data" "$2/log" "$2"/.s.*
rmdir "$2" 2>/dev/null"#;

/// The URL of a new, empty database; `None` where there is no PostgreSQL.
pub(crate) fn database() -> Option<String> {
    let Some(server) = server() else { return told_that_there_is_none() };
    Some(server.new_database())
}

/// A server of the caller's own, which it may kill and start again. `None` where none is installed.
pub(crate) fn own_server() -> Option<Server> {
    own_server_in(|_| ())
}

/// The same; `prepare` gets the folder first that the server will write to.
pub(crate) fn own_server_in(prepare: impl FnOnce(&Path)) -> Option<Server> {
    let bin = binaries_or_told()?;
    let initdb = initdb(&bin);
    Some(start_on(bin, initdb, "", prepare))
}

/// The same, which takes TCP connections as well, on port 5432 of a loopback address.
pub(crate) fn own_server_at(address: &str) -> Option<Server> {
    let bin = binaries_or_told()?;
    let initdb = initdb(&bin);
    Some(start_on(bin, initdb, address, |_| ()))
}

fn binaries_or_told() -> Option<PathBuf> {
    let is_required = env::var("REQUIRE_POSTGRES").is_ok_and(|value| value == "1");
    let bin = binaries();
    assert!(bin.is_some() || !is_required, "REQUIRE_POSTGRES=1, and no PostgreSQL server is installed");
    if bin.is_none() {
        told_that_there_is_none::<()>();
    }
    bin
}

fn told_that_there_is_none<T>() -> Option<T> {
    // Past the test harness, which keeps the words of tests that pass to itself.
    let _ = fs::write("/dev/stderr", "SKIPPED: no PostgreSQL (initdb and postgres) is installed\n");
    None
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
    run_psql(url, text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The same, on a server that may be away just now.
pub(crate) fn try_psql(url: &str, text: &str) -> Option<String> {
    run_psql(url, text).ok()
}

/// All rows of a database, as statements that would write them.
pub(crate) fn dump(url: &str) -> Vec<u8> {
    let dump = binaries().unwrap_or_default().join("pg_dump");
    let ran = Command::new(dump).args(["--data-only", "-d", url]).output();
    let ran = ran.expect("pg_dump is installed with the server");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    ran.stdout
}

fn run_psql(url: &str, text: &str) -> Result<String, String> {
    let psql = binaries().unwrap_or_default().join("psql");
    let ran = Command::new(psql).args(["-X", "-q", "-A", "-t", "-d", url, "-c", text]).output();
    let ran = ran.expect("psql is installed with the server");
    if ran.status.success() {
        Ok(String::from_utf8(ran.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&ran.stderr).into_owned())
    }
}

/// A server.
pub(crate) struct Server {
    bin: PathBuf,
    /// With `{}` for the name of the database.
    url: String,
    /// What it writes to, and the process that ends with this one; none of a server that was given.
    kept: Option<Kept>,
}

struct Kept {
    folder: PathBuf,
    keeper: Mutex<Child>,
}

impl Server {
    fn url(&self, database: &str) -> String {
        self.url.replace("{}", database)
    }

    /// The URL of a new, empty database.
    pub(crate) fn new_database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let created = Command::new(self.bin.join("psql"))
            .args(["-X", "-q", "-d", &self.url("postgres"), "-c", &format!("CREATE DATABASE {name}")])
            .output()
            .expect("psql is installed with the server");
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
        self.url(&name)
    }

    /// A hot standby of it.
    pub(crate) fn standby(&self) -> Server {
        let mut base_backup = Command::new(self.bin.join("pg_basebackup"));
        base_backup.args([
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "--no-sync",
            "-d",
            &self.url("postgres"),
            "-D",
        ]);
        start_on(self.bin.clone(), base_backup, "", |_| ())
    }

    /// The URL of the same database at another server.
    pub(crate) fn url_like(&self, other: &str) -> String {
        self.url(other.rsplit_once('/').expect("postgres://server/database").1)
    }

    /// Has it serve TLS with this certificate and key from now on, ask for certificates of `clients`, and let in by TCP whom a line
    /// of `pg_hba.conf` says.
    pub(crate) fn serve_tls(&self, certificate: &str, key: &str, clients: &str, let_in: &str) {
        let data = self.kept.as_ref().expect("a server of this process's own").folder.join("data");
        let owner = fs::metadata(&data).unwrap();
        for (name, content) in [
            ("server.crt", certificate),
            ("server.key", key),
            ("clients.crt", clients),
            ("pg_hba.conf", let_in),
        ] {
            let path = data.join(name);
            let content = if name == "pg_hba.conf" {
                format!("local all all trust\n{content}\n")
            } else {
                content.into()
            };
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        let url = self.url("postgres");
        psql(&url, "ALTER SYSTEM SET ssl_ca_file = 'clients.crt'");
        self.set_tls(true);
    }

    /// Turns TLS on or off, for connections from now on.
    pub(crate) fn set_tls(&self, is_on: bool) {
        let url = self.url("postgres");
        let begun = Instant::now();
        psql(&url, &format!("ALTER SYSTEM SET ssl = {is_on}"));
        let reloaded = "SELECT pg_conf_load_time()";
        let before = psql(&url, reloaded);
        psql(&url, "SELECT pg_reload_conf()");
        while psql(&url, reloaded) == before {
            assert!(begun.elapsed() < PATIENCE, "PostgreSQL does not read its settings");
        }
    }

    /// Ends the server at once with all its processes, as a power cut does.
    pub(crate) fn kill(&self) {
        let postmaster = self.postmaster();
        let mut processes = children_of(postmaster);
        // First the one that would start the others again.
        processes.insert(0, postmaster);
        processes.iter().copied().for_each(end_at_once);
        let begun = Instant::now();
        while processes.iter().any(|pid| lives(*pid)) {
            assert!(begun.elapsed() < PATIENCE, "PostgreSQL does not end");
            sleep(Duration::from_millis(2));
        }
    }

    /// Ends one of the processes that work for a gateway at once; the server then ends the others, and recovers by itself.
    /// Returns whether there was one.
    pub(crate) fn kill_one_at_work(&self, chosen: usize) -> bool {
        let at_work = children_of(self.postmaster()).into_iter().filter(|pid| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&command).starts_with("postgres: gateway ")
        });
        let at_work: Vec<_> = at_work.collect();
        if !at_work.is_empty() {
            end_at_once(at_work[chosen % at_work.len()]);
        }
        !at_work.is_empty()
    }

    /// Waits until it takes connections again; starts it where it has ended altogether.
    pub(crate) fn come_back(&self) {
        let begun = Instant::now();
        while !self.takes_connections() {
            assert!(begun.elapsed() < PATIENCE, "PostgreSQL does not come back");
            if !lives(self.postmaster()) {
                return self.start();
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// Starts it, or starts it again, and waits until it takes connections.
    pub(crate) fn start(&self) {
        let Kept { folder, keeper } = self.kept.as_ref().expect("a server of this process's own");
        keeper.lock().unwrap().stdin.as_mut().unwrap().write_all(b"start\n").unwrap();
        let begun = Instant::now();
        while !self.takes_connections() {
            let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "PostgreSQL does not start: {}", log());
            sleep(Duration::from_millis(20));
        }
    }

    fn takes_connections(&self) -> bool {
        let folder = &self.kept.as_ref().expect("a server of this process's own").folder;
        Command::new(self.bin.join("pg_isready")).arg("-q").arg("-h").arg(folder).status().unwrap().success()
    }

    /// The first process; of a server that ended in order, 0.
    fn postmaster(&self) -> u32 {
        let folder = &self.kept.as_ref().expect("a server of this process's own").folder;
        let noted = fs::read_to_string(folder.join("data/postmaster.pid")).unwrap_or_default();
        noted.lines().next().and_then(|pid| pid.parse().ok()).unwrap_or(0)
    }
}

fn end_at_once(pid: u32) {
    // It may have ended by itself.
    let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
}

/// Whether a process does anything still; one that has ended may wait to be told of.
fn lives(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

fn children_of(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|process| process.file_name().to_string_lossy().parse::<u32>().ok());
    let is_child = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let of = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        of.is_some_and(|of| of.trim().parse() == Ok(parent))
    };
    pids.filter(is_child).collect()
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
        return Some(Server { bin, url: format!("{server}/{{}}{after}"), kept: None });
    }
    assert!(bin.is_some() || !is_required, "REQUIRE_POSTGRES=1, and no PostgreSQL server is installed");
    let initdb = initdb(bin.as_deref()?);
    Some(start_on(bin?, initdb, "", |_| ()))
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

fn initdb(bin: &Path) -> Command {
    let mut initdb = Command::new(bin.join("initdb"));
    initdb.args(["-A", "trust", "-U", "gateway", "-E", "UTF8", "--no-locale", "--no-sync", "-D"]);
    initdb
}

/// Starts a server on the data that `make` makes in the folder that it gets for its last argument; with TCP where there is an
/// address to listen on.
fn start_on(bin: PathBuf, mut make: Command, listen: &str, prepare: impl FnOnce(&Path)) -> Server {
    // Removed by who ends the server. Short: the path of a socket has little room.
    let folder = tempfile::Builder::new().prefix("lagw-pg-").tempdir().unwrap().keep();
    let owner = fs::metadata(&folder).unwrap().uid();
    let user = (owner == 0).then(unprivileged);
    let give = || user.map_or(Ok(()), |(uid, gid)| chown(&folder, Some(uid), Some(gid))).unwrap();
    give();
    prepare(&folder);
    // And what may have been mounted on it.
    give();
    let as_user = |mut command: Command| {
        if let Some((uid, gid)) = user {
            command.uid(uid).gid(gid);
        }
        command.current_dir(&folder);
        command
    };
    make.arg(folder.join("data"));
    let made = as_user(make).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    let mut keeper = Command::new("/bin/sh");
    keeper.args(["-c", KEEPER, "keeper"]).arg(&bin).arg(&folder).arg(listen);
    keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let keeper = as_user(keeper).spawn().unwrap();
    let mut host = String::new();
    for byte in folder.to_str().unwrap().bytes() {
        write!(host, "%{byte:02X}").unwrap();
    }
    let kept = Some(Kept { folder, keeper: Mutex::new(keeper) });
    let server = Server { bin, url: format!("postgres://gateway@{host}/{{}}"), kept };
    server.start();
    server
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
