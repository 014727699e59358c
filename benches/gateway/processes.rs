//! The processes of the benchmark: started, watched, and ended with it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::load::{Load, Outcome, Work};
use crate::parties::{Certificates, Party};

/// How long a process may say nothing, or take to stop.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server that runs in a process of its own until it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    /// Whose certificate it shows.
    pub(crate) party: Party,
    /// What it says after its address.
    output: Lines<BufReader<ChildStdout>>,
}

impl Server {
    /// A child that already listens.
    pub(crate) fn listening(
        child: Child,
        address: SocketAddr,
        party: Party,
        output: BufReader<ChildStdout>,
    ) -> Self {
        Self { child, address, party, output: output.lines() }
    }

    /// Starts this program again in a server's role.
    pub(crate) async fn start(role: &[&str], certificates: &Certificates, party: Party) -> Result<Self> {
        let mut child = this_program(role, certificates)?.spawn()?;
        let stdout = child.stdout.take().context("the server's output is not piped")?;
        let mut output = BufReader::new(stdout);
        let mut line = String::new();
        output.read_line(&mut line).await?;
        let address = line.trim().parse().with_context(|| format!("{role:?} did not start"))?;
        Ok(Self::listening(child, address, party, output))
    }

    /// The next line that it says.
    pub(crate) async fn line(&mut self) -> Result<String> {
        let next = tokio::time::timeout(PATIENCE, self.output.next_line()).await;
        next.context("it says nothing any more")??.context("it has ended")
    }

    /// Has it stop in order, and waits until it has.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let process = self.child.id().context("it has ended")?;
        let told = Command::new("kill").args(["-TERM", &process.to_string()]).status().await?;
        ensure!(told.success(), "it cannot be told to stop");
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ensure!(ended.context("it does not stop")??.success(), "it did not stop in order");
        Ok(())
    }

    /// The most memory that it has ever held, in KiB. Linux only.
    pub(crate) fn peak_rss_kib(&self) -> Option<u64> {
        self.of_status("VmHWM:")
    }

    /// The memory that it holds now, in KiB. Linux only.
    pub(crate) fn rss_kib(&self) -> Option<u64> {
        self.of_status("VmRSS:")
    }

    fn of_status(&self, name: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// The processor time that it has used so far, in microseconds. Linux only.
    pub(crate) fn cpu_us(&self) -> Option<u64> {
        cpu_us_of(&self.child.id()?.to_string())
    }
}

/// The same of this process.
pub(crate) fn own_cpu_us() -> Option<u64> {
    cpu_us_of("self")
}

fn cpu_us_of(process: &str) -> Option<u64> {
    // The kernel's USER_HZ, fixed at 100 on everything that Rust and this project run on.
    const MICROS_A_TICK: u64 = 10_000;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The command, in brackets, may hold spaces; user and system time are fields 14 and 15 of proc_pid_stat(5).
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) * MICROS_A_TICK)
}

/// Runs the load generator against a server, in a process of its own.
pub(crate) async fn load(
    server: &Server,
    certificates: &Certificates,
    work: Work,
    load: Load,
) -> Result<Outcome> {
    let role = [
        "load",
        "--work",
        work.name(),
        "--target",
        &server.address.to_string(),
        "--party",
        server.party.name(),
        "--connections",
        &load.connections.to_string(),
        "--calls",
        &load.calls.to_string(),
        "--seconds",
        &load.seconds.to_string(),
        "--warm-up",
        &load.warm_up.to_string(),
    ];
    ended(this_program(&role, certificates)?).await
}

/// Runs this program in a role that ends, and reads what it has found.
pub(crate) async fn run<T: DeserializeOwned>(role: &[&str], certificates: &Certificates) -> Result<T> {
    ended(this_program(role, certificates)?).await
}

async fn ended<T: DeserializeOwned>(mut program: Command) -> Result<T> {
    let mut child = program.spawn()?;
    // Not `wait_with_output`: it closes the child's input, which ends the child.
    let mut output = Vec::new();
    child.stdout.take().context("the output is not piped")?.read_to_end(&mut output).await?;
    ensure!(child.wait().await?.success(), "the load generator failed");
    Ok(serde_json::from_slice(&output)?)
}

/// Tells the parent where this process listens.
pub(crate) fn announce(address: SocketAddr) {
    println!("{address}");
    _ = std::io::stdout().flush();
}

/// Ends this process when its parent is gone, even one that was killed: then nobody holds the other end of our input.
pub(crate) fn end_with_the_parent() {
    std::thread::spawn(|| {
        _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
}

/// Waits for SIGINT or SIGTERM, so that children and files are cleared away also then.
pub(crate) async fn told_to_stop() -> Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted?,
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await?;
    bail!("interrupted")
}

/// The core that all roles but the gateway are held to, once set.
static OTHERS_CORE: OnceLock<usize> = OnceLock::new();

/// Holds every role that is started from now on to one core, so that a load that grows takes nothing from the gateway,
/// which is held to another. Returns the gateway's core; `None` where there is no second core, or no `taskset`.
pub(crate) fn part_cores() -> Option<usize> {
    let cores = std::thread::available_parallelism().ok()?.get();
    let can = std::process::Command::new("taskset").args(["-c", "0", "true"]).status().ok()?.success();
    if cores < 2 || !can {
        return None;
    }
    OTHERS_CORE.get_or_init(|| 1);
    Some(0)
}

/// A program, held to a core if one is given.
pub(crate) fn on_core(program: impl AsRef<OsStr>, core: Option<usize>) -> Command {
    match core {
        None => Command::new(program),
        Some(core) => {
            let mut command = Command::new("taskset");
            command.args(["-c", &core.to_string()]).arg(program);
            command
        }
    }
}

/// The last lines of a child's log, for an error message.
pub(crate) fn tail(log: &Path) -> String {
    let mut text = String::new();
    if File::open(log).and_then(|mut file| file.read_to_string(&mut text)).is_err() {
        return String::new();
    }
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

fn this_program(role: &[&str], certificates: &Certificates) -> Result<Command> {
    let mut command = on_core(std::env::current_exe()?, OTHERS_CORE.get().copied());
    command
        .args(["role", "--certificates"])
        .arg(certificates.folder())
        .args(role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    Ok(command)
}
