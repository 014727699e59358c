//! What the gateway costs, beside what it is made of: a bare tonic mTLS echo, a bare tonic mTLS proxy to that echo, and
//! the gateway's `VerifyLowIncome` (authenticated, authorised, validated, proxied to a registry, two durable audit
//! leaves), `SubmitExchange` beside a bare echo of it, and `BatchVerify` on one stream beside one question after the other. Same message, certificates, connections and load generator; on one machine, in alternation.
//!
//! `cargo bench --bench gateway` prints a table and writes `target/bench/gateway.json`, with `-- --database postgres`
//! `target/bench/gateway-postgres.json`; with `-- --scene NAME,...` it plays
//! scenes instead (see [`scenes::Scene`]), and writes `target/bench/NAME.json`. Each subject, each server behind
//! it and the load generator is a process of its own; all but the gateway are this program again, in another role.

mod bare;
mod database;
mod gateway;
mod hold;
mod inbox;
mod lean;
mod load;
mod message;
mod open_loop;
mod outbox;
mod parties;
#[path = "../../tests/support/postgres.rs"]
mod postgres;
mod processes;
mod raw_queue;
mod report;
mod scenes;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::json;
use tempfile::TempDir;

use crate::database::{Database, OnPostgres};
use crate::gateway::start_gateway;
use crate::hold::Hold;
use crate::inbox::InboxRole;
use crate::load::{Load, Work};
use crate::message::Sizes;
use crate::open_loop::OpenLoop;
use crate::parties::{Certificates, Party};
use crate::processes::Server;
use crate::raw_queue::RawQueue;
use crate::report::{Figures, LoadShape, Machine, Report, Round};
use crate::scenes::{Extent, Scene};

/// Measures the gateway beside a bare echo and a bare proxy.
#[derive(Parser)]
#[command(name = "cargo bench --bench gateway --")]
struct Arguments {
    /// Rounds; each measures every subject once, in another order.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    #[command(flatten)]
    load: Load,
    /// Measure only these; then nothing is written.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Subject>,
    /// What the gateway works on.
    #[arg(long, value_enum, default_value = "sqlite")]
    database: Database,
    /// Play these scenes instead.
    #[arg(long, value_enum, value_delimiter = ',')]
    scene: Vec<Scene>,
    #[command(flatten)]
    extent: Extent,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    fn measures(&self, subject: Subject) -> bool {
        self.only.is_empty() || self.only.contains(&subject)
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Subject {
    /// A bare tonic mTLS server.
    Echo,
    /// A bare tonic mTLS server that asks the echo.
    Proxy,
    /// The gateway.
    Gateway,
    /// The bare proxy, with four times the calls in flight.
    ProxyBusy,
    /// The gateway, with four times the calls in flight.
    GatewayBusy,
    /// The bare echo, of a submission.
    EchoSubmit,
    /// The gateway, of a submission: stored, encrypted, in the outbox, audited.
    Submit,
    /// The gateway, one question after the other.
    OneByOne,
    /// The gateway, the same questions on one stream.
    Batch,
}

impl Subject {
    pub(crate) const ALL: [Self; 9] = [
        Self::Echo,
        Self::Proxy,
        Self::Gateway,
        Self::ProxyBusy,
        Self::GatewayBusy,
        Self::EchoSubmit,
        Self::Submit,
        Self::OneByOne,
        Self::Batch,
    ];

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Echo => "bare echo",
            Self::Proxy => "bare proxy",
            Self::Gateway => "gateway VerifyLowIncome",
            Self::ProxyBusy => "bare proxy, four times the calls",
            Self::GatewayBusy => "gateway VerifyLowIncome, four times the calls",
            Self::EchoSubmit => "bare echo of a submission",
            Self::Submit => "gateway SubmitExchange",
            Self::OneByOne => "gateway VerifyLowIncome, one by one",
            Self::Batch => "gateway BatchVerify, one stream",
        }
    }

    const fn work(self) -> Work {
        match self {
            Self::Echo
            | Self::Proxy
            | Self::Gateway
            | Self::ProxyBusy
            | Self::GatewayBusy
            | Self::OneByOne => Work::Verify,
            Self::EchoSubmit | Self::Submit => Work::Submit,
            Self::Batch => Work::Batch,
        }
    }

    /// The load that it is under when the others are under `load`.
    const fn load(self, load: Load) -> Load {
        match self {
            Self::ProxyBusy | Self::GatewayBusy => Load { calls: load.calls * 4, ..load },
            Self::OneByOne | Self::Batch => Load { connections: 1, calls: 1, ..load },
            _ => load,
        }
    }

    const fn is_the_gateways(self) -> bool {
        matches!(self, Self::Gateway | Self::GatewayBusy | Self::Submit | Self::OneByOne | Self::Batch)
    }
}

/// What this program does when it has started itself.
#[derive(Parser)]
struct RoleArguments {
    #[command(subcommand)]
    role: Role,
    #[arg(long)]
    certificates: PathBuf,
}

#[derive(Subcommand)]
enum Role {
    Echo,
    Proxy { upstream: SocketAddr },
    Registry,
    Load(LoadRole),
    OpenLoop(OpenLoop),
    Inbox(InboxRole),
    Hold(Hold),
    RawQueue(RawQueue),
}

#[derive(Args)]
struct LoadRole {
    #[arg(long)]
    target: SocketAddr,
    #[arg(long, value_enum)]
    party: Party,
    #[arg(long, value_enum)]
    work: Work,
    #[command(flatten)]
    load: Load,
}

fn main() -> ExitCode {
    match run(&std::env::args().collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    // Servers and load get the runtime that the gateway has, the measuring process one that stays out of their way.
    if arguments.get(1).is_some_and(|argument| argument == "role") {
        let role = RoleArguments::parse_from(arguments.iter().skip(1));
        let mut runtime = match role.role {
            // On one core, one thread is enough, and hands nothing from one to the other.
            Role::OpenLoop(_) => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        return runtime.enable_all().build()?.block_on(play(role));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if has("--bench") || has("--help") {
        let arguments = Arguments::parse_from(arguments);
        return runtime.block_on(until_told_to_stop(bench(&arguments)));
    }
    // A test runner that lists tests finds none here.
    if has("--list") {
        return Ok(());
    }
    eprintln!("not run by `cargo bench`: one short round, whose figures mean nothing");
    let load = Load { connections: 2, calls: 4, seconds: 0.3, warm_up: 0.1 };
    let extent = Extent::SMALL;
    let smoke = Arguments {
        rounds: 1,
        load,
        only: Vec::new(),
        database: Database::Sqlite,
        scene: Vec::new(),
        extent,
        bench: false,
    };
    runtime.block_on(until_told_to_stop(bench(&smoke)))
}

async fn until_told_to_stop(bench: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::select! {
        ended = bench => ended,
        stopped = processes::told_to_stop() => stopped,
    }
}

async fn play(RoleArguments { role, certificates }: RoleArguments) -> Result<()> {
    processes::end_with_the_parent();
    let certificates = Certificates::at(certificates);
    match role {
        Role::Echo => bare::echo(&certificates).await,
        Role::Proxy { upstream } => bare::proxy(&certificates, upstream).await,
        Role::Registry => bare::registry(&certificates).await,
        Role::Load(LoadRole { target, party, work, load }) => {
            let outcome = load::run(&certificates, target, party, work, load).await?;
            println!("{}", serde_json::to_string(&outcome)?);
            Ok(())
        }
        Role::OpenLoop(role) => {
            let outcome = open_loop::run(&certificates, role).await?;
            println!("{}", serde_json::to_string(&outcome)?);
            Ok(())
        }
        Role::Inbox(role) => inbox::serve(&certificates, role).await,
        Role::Hold(role) => hold::run(&certificates, role).await,
        Role::RawQueue(role) => {
            let drained = raw_queue::run(&role).await?;
            println!("{}", serde_json::to_string(&drained)?);
            Ok(())
        }
    }
}

async fn bench(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.rounds > 0, "at least one round is needed");
    // Below `target`, because /tmp may be in memory, where making the log durable would cost nothing.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(target)?;
    let folder = tempfile::Builder::new().prefix("gateway-bench-").tempdir_in(target)?;
    let machine = Machine::inspect(folder.path())?;
    if !arguments.scene.is_empty() {
        return play_scenes(arguments, &folder, target, machine).await;
    }
    let message = Sizes::measure()?;
    eprintln!(
        "request {} bytes, answer {} bytes, submission {} bytes; {} cores, {:.0} µs to make 4 KiB durable",
        message.request_bytes, message.answer_bytes, message.submission_bytes, machine.cores, machine.sync_us
    );

    let with_gateway =
        Subject::ALL.into_iter().any(|subject| subject.is_the_gateways() && arguments.measures(subject));
    let mut house = House::open(folder.path(), with_gateway, arguments.database).await?;
    let mut rounds = Vec::with_capacity(arguments.rounds);
    for number in 0..arguments.rounds {
        let mut order = Subject::ALL;
        order.rotate_left(number % Subject::ALL.len());
        let mut round = Round::new();
        for subject in order {
            if !arguments.measures(subject) {
                continue;
            }
            let figures = house.measure(subject, arguments.load).await?;
            eprintln!(
                "round {}/{} {:45} {:8.0} requests/s  p50 {:6} µs  p99 {:6} µs",
                number + 1,
                arguments.rounds,
                subject.title(),
                figures.requests_per_second,
                figures.p50_us,
                figures.p99_us,
            );
            round.insert(subject, figures);
        }
        rounds.push(round);
    }

    let Load { connections, calls, seconds, .. } = arguments.load;
    let load = LoadShape { connections, calls_per_connection: calls, seconds };
    let report = Report::new(rounds, load, message, machine);
    println!("{}", report.table());
    // A smoke test must not take the place of a measurement.
    if arguments.bench && arguments.only.is_empty() {
        let name = match arguments.database {
            Database::Sqlite => "bench/gateway.json",
            Database::Postgres => "bench/gateway-postgres.json",
        };
        let path = target.parent().context("a target folder")?.join(name);
        report.write(&path)?;
        eprintln!("written to {}", path.display());
    }
    Ok(())
}

async fn play_scenes(arguments: &Arguments, folder: &TempDir, target: &Path, machine: Machine) -> Result<()> {
    eprintln!("{} cores, {:.0} µs to make 4 KiB durable", machine.cores, machine.sync_us);
    let found = scenes::play(&arguments.scene, arguments.rounds, arguments.extent, folder.path()).await?;
    let kept = target.parent().context("a target folder")?.join("bench");
    std::fs::create_dir_all(&kept)?;
    for (name, figures) in found {
        let text = serde_json::to_string_pretty(&json!({ "figures": figures, "machine": &machine }))?;
        std::fs::write(kept.join(format!("{name}.json")), text + "\n")?;
    }
    eprintln!("written to {}", kept.display());
    Ok(())
}

/// All servers, on loopback.
struct House {
    certificates: Certificates,
    echo: Server,
    proxy: Server,
    gateway: Option<Server>,
    database: Option<OnPostgres>,
    _registry: Server,
    /// Answers that the gateway has given so far.
    answered_by_gateway: u64,
}

impl House {
    async fn open(folder: &Path, with_gateway: bool, database: Database) -> Result<Self> {
        let certificates = Certificates::issue(&folder.join("certificates"))?;
        let echo = Server::start(&["echo"], &certificates, Party::Registry).await?;
        let upstream = echo.address.to_string();
        let proxy = Server::start(&["proxy", &upstream], &certificates, Party::Gateway).await?;
        let registry = Server::start(&["registry"], &certificates, Party::Registry).await?;
        let database = match database {
            Database::Postgres if with_gateway => Some(OnPostgres::create()?),
            _ => None,
        };
        let gateway = if with_gateway {
            let url = database.as_ref().map(|database| database.url.clone());
            Some(start_gateway(&certificates, folder, registry.address, url).await?)
        } else {
            None
        };
        Ok(Self { certificates, echo, proxy, gateway, database, _registry: registry, answered_by_gateway: 0 })
    }

    async fn measure(&mut self, subject: Subject, load: Load) -> Result<Figures> {
        let server = match subject {
            Subject::Echo | Subject::EchoSubmit => &self.echo,
            Subject::Proxy | Subject::ProxyBusy => &self.proxy,
            _ => self.gateway.as_ref().context("the gateway was not started")?,
        };
        let cpu_before = server.cpu_us();
        // Its own processes; SQLite is part of the gateway's.
        let database = self.database.as_ref().filter(|_| subject.is_the_gateways());
        let database_cpu = || database.and_then(OnPostgres::cpu_us);
        let database_cpu_before = database_cpu();
        let outcome = processes::load(server, &self.certificates, subject.work(), subject.load(load))
            .await
            .with_context(|| format!("measuring the {}", subject.title()))?;
        let first_error = outcome.first_error.as_deref().unwrap_or_default();
        ensure!(outcome.errors == 0, "{}: {} errors, first: {first_error}", subject.title(), outcome.errors);
        if subject.is_the_gateways() {
            self.answered_by_gateway += outcome.answered;
            let entries = outcome.highest_log_index + 1;
            ensure!(
                entries >= 2 * self.answered_by_gateway,
                "{} answers of the gateway left only {entries} entries in its audit log, not two each",
                self.answered_by_gateway
            );
        }
        let used = |(before, after): (u64, u64)| (after - before) as f64 / outcome.answered as f64;
        Ok(Figures {
            requests_per_second: outcome.requests_per_second,
            p50_us: outcome.p50_us,
            p99_us: outcome.p99_us,
            errors: outcome.errors,
            cpu_us_per_request: cpu_before.zip(server.cpu_us()).map(used),
            database_cpu_us_per_request: database_cpu_before.zip(database_cpu()).map(used),
            peak_rss_kib: server.peak_rss_kib(),
        })
    }
}
