//! A gateway as its own process, and the parties around it, for tests that kill, starve and misconfigure it.

#![allow(dead_code, reason = "each test takes the part of this room that it needs")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub(crate) mod log;
pub(crate) mod postgres;
pub(crate) mod province;
pub(crate) mod proxy;
pub(crate) mod records;
pub(crate) mod small_disk;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::config::Database;
use legal_aid_gateway::grpc::json::from_json;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::setup::purposes;
use legal_aid_gateway::simulator::court::{self, Script};
use legal_aid_gateway::simulator::district::District;
use legal_aid_gateway::simulator::{Serving, registry};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// How long a process may take to start, to stop, or to come to what is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Deadline of a call.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Entries with which a gateway begins a new log: one for each agreement that `init` writes.
pub(crate) const BEGINNING: u64 = 13;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_legal-aid-gateway");

/// Lets a test look at the process's open files, also one that is not run by root.
pub(crate) const LOOKED_AT: (&str, &str) = ("LEGAL_AID_GATEWAY__SECURITY__CORE_DUMPS", "true");

/// Deliveries that are tried again within a test's patience.
const QUICK_DELIVERY: [(&str, &str); 4] = [
    ("LEGAL_AID_GATEWAY__DELIVERY__ATTEMPT", "1s"),
    ("LEGAL_AID_GATEWAY__DELIVERY__LEASE", "2s"),
    ("LEGAL_AID_GATEWAY__DELIVERY__FIRST_RETRY", "100ms"),
    ("LEGAL_AID_GATEWAY__DELIVERY__LONGEST_RETRY", "1s"),
];

/// A folder as `init` makes it; it goes with its value.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn prepare(script: Script) -> Self {
        let folder = tempfile::tempdir().unwrap();
        District::prepare(folder.path(), script, &Clock::system()).unwrap();
        Self(folder)
    }

    /// An empty one.
    pub(crate) fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// The same, on PostgreSQL where `TEST_DATABASE` says so: for tests that work on either.
    pub(crate) fn on_chosen_database(self) -> Self {
        postgres::choose(&self.file("gateway.toml"));
        self
    }

    /// The database as its configuration names it, which a command run in the folder understands.
    pub(crate) fn database_name(&self) -> String {
        let text = std::fs::read_to_string(self.file("gateway.toml")).unwrap();
        let line = text.lines().find(|line| line.starts_with("database = ")).expect("a database");
        line.split('"').nth(1).unwrap().to_owned()
    }

    /// The database, whichever was chosen.
    pub(crate) fn store(&self) -> Database {
        records::database_of(self.path())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.file("gateway.db")
    }

    /// Changes the configuration by replacing a text that must be there.
    pub(crate) fn reconfigure(&self, old: &str, new: &str) {
        self.edit("gateway.toml", old, new);
    }

    /// Changes a file by replacing a text that must be there.
    pub(crate) fn edit(&self, file: &str, old: &str, new: &str) {
        let path = self.file(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "{old} is not in {text}");
        std::fs::write(path, text.replacen(old, new, 1)).unwrap();
    }

    /// The address on which a configuration has its owner listen.
    pub(crate) fn address_in(&self, file: &str) -> SocketAddr {
        let text = std::fs::read_to_string(self.file(file)).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("listen = ")).expect("an address");
        line.split('"').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn client(&self, name: &str) -> AgencyClient {
        AgencyClient::load(&self.file(&format!("{name}.toml")), Clock::system()).unwrap()
    }

    pub(crate) async fn registry(&self) -> Serving {
        registry::serve_file(&self.file("simulate-registry.toml"), Clock::system()).await.unwrap()
    }

    pub(crate) async fn court(&self) -> Serving {
        court::serve_file(&self.file("simulate-court.toml"), Clock::system()).await.unwrap()
    }

    /// A question about the household on the register.
    pub(crate) fn question(&self, centre: &AgencyClient) -> proto::VerifyLowIncomeRequest {
        let text = std::fs::read_to_string(self.file("query.json")).unwrap();
        let query: proto::LowIncomeQuery = from_json("LowIncomeQuery", &text).unwrap();
        let envelope = centre.complete(proto::Envelope {
            matter_id: "LQ-2026-0001".to_owned(),
            kind: proto::Kind::LowIncomeQuery.into(),
            legal_basis: vec![proto::LegalBasis {
                law: "法律援助法".to_owned(), article: "41".to_owned()
            }],
            purpose: purposes::AID_ELIGIBILITY.to_owned(),
            classification: Some(proto::Classification {
                sensitive: Some(true),
                minor_under_14: Some(false),
            }),
            ..Default::default()
        });
        proto::VerifyLowIncomeRequest { envelope: Some(envelope), query: Some(query), complete_later: false }
    }

    /// A fee-waiver request under a new request id.
    pub(crate) fn fee_waiver(&self, centre: &AgencyClient) -> proto::SubmitExchangeRequest {
        let text = std::fs::read_to_string(self.file("fee-waiver.json")).unwrap();
        let mut request: proto::SubmitExchangeRequest = from_json("SubmitExchangeRequest", &text).unwrap();
        request.envelope = Some(centre.complete(request.envelope.unwrap_or_default()));
        request
    }

    /// Runs a command of the binary to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.args(arguments).current_dir(self.path()).kill_on_drop(true);
        tokio::time::timeout(PATIENCE, command.output()).await.expect("the command ends").unwrap()
    }
}

/// The command line of `serve`, not yet started.
pub(crate) fn serve_command(folder: &Folder, environment: &[(&str, &str)]) -> Command {
    with_service(Command::new(BINARY), folder, environment)
}

/// A command that ends in the binary's name, with the arguments of `serve`.
fn with_service(mut command: Command, folder: &Folder, environment: &[(&str, &str)]) -> Command {
    command
        .args(["serve", "--config", "gateway.toml"])
        .current_dir(folder.path())
        .envs(QUICK_DELIVERY)
        .env("RUST_LOG", "warn")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// A gateway that runs as its own process; it is killed when its value goes.
pub(crate) struct Gateway {
    child: Child,
    /// The log's public key, as the process printed it.
    pub(crate) log_key: String,
    said: Arc<Mutex<Vec<String>>>,
}

/// What a gateway that did not start left behind.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) exit_code: Option<i32>,
    pub(crate) said: String,
}

impl Gateway {
    /// Starts it and waits until it listens.
    pub(crate) async fn start(folder: &Folder) -> Self {
        Self::start_with(folder, &[]).await
    }

    /// The same, with settings of its own.
    pub(crate) async fn start_with(folder: &Folder, environment: &[(&str, &str)]) -> Self {
        let started = Self::try_start(folder, environment).await;
        started.unwrap_or_else(|refused| panic!("no start: {refused:?}"))
    }

    /// Starts it with so many file handles, and waits until it listens.
    pub(crate) async fn start_limited(folder: &Folder, handles: u32) -> Self {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={handles}")).arg(BINARY);
        let started = Self::try_spawn(with_service(command, folder, &[LOOKED_AT])).await;
        started.unwrap_or_else(|refused| panic!("no start: {refused:?}"))
    }

    /// Starts it and waits until it listens or ends.
    pub(crate) async fn try_start(folder: &Folder, environment: &[(&str, &str)]) -> Result<Self, Refused> {
        Self::try_spawn(serve_command(folder, environment)).await
    }

    async fn try_spawn(mut command: Command) -> Result<Self, Refused> {
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
        let said = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&said);
        let listener = tokio::spawn(async move {
            while let Ok(Some(line)) = errors.next_line().await {
                keep.lock().unwrap().push(line);
            }
        });
        let line = tokio::time::timeout(PATIENCE, output.next_line()).await.expect("it starts or ends");
        let line = line.unwrap();
        match line.as_ref().and_then(|line| line.strip_prefix("listening on ")) {
            Some(listening) => {
                let (_, log_key) = listening.split_once("log key ").expect("it names the log's key");
                Ok(Self { child, log_key: log_key.to_owned(), said })
            }
            None => {
                let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
                listener.await.unwrap();
                let mut text: Vec<String> = line.into_iter().collect();
                text.append(&mut said.lock().unwrap());
                Err(Refused { exit_code: status.code(), said: text.join("\n") })
            }
        }
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// What it has said on standard error.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }

    /// Sends it a signal, such as `-STOP`.
    pub(crate) async fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
    }

    /// Whether it ends by itself within a time.
    pub(crate) async fn ends_within(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.child.wait()).await.is_ok()
    }

    /// Ends it at once, as `kill -9` or a power cut of the process does.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Lets it end in order, and waits for that.
    pub(crate) async fn stop(mut self) {
        self.signal("-TERM").await;
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it stops").unwrap();
        assert!(status.success(), "stopped with {status}: {}", self.said());
    }
}
