//! The commands, one file each.

mod agreement;
mod attachment;
mod audit;
mod cert;
mod config;
mod core_dumps;
mod deliveries;
mod demo;
mod doctor;
mod eligibility;
mod exchange;
mod init;
mod keys;
mod output;
mod serve;
mod simulate;
mod verify;
mod witness;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

/// Legal-aid exchange gateway: verifies hardship, carries fee waivers and appeals between legal-aid centres, courts
/// and procuratorates over mutual TLS, and keeps an audit log that anyone can verify.
#[derive(Debug, Parser)]
#[command(version, about, after_help = FIRST_STEPS)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const FIRST_STEPS: &str = "\
First steps:
  legal-aid-gateway demo                      watch everything once, in a temporary folder
  legal-aid-gateway init ./gw                 make a folder with configuration, keys and a development PKI
  legal-aid-gateway serve --config ./gw/gateway.toml
  legal-aid-gateway verify low-income --as ./gw/centre.toml --file ./gw/query.json --matter LQ-2026-0001

Exit code 0 means success, 1 that the command did not do what was asked, 2 that the arguments were wrong.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole job once with simulated agencies, and verify the audit log.
    Demo(demo::Demo),
    /// Make a folder with configuration, keys and, unless told otherwise, a development PKI with agencies.
    Init(init::Init),
    /// Run the gateway until it is told to stop (SIGTERM or Ctrl-C); changed certificates and directory are read while
    /// it runs, at once on SIGHUP.
    Serve(serve::Serve),
    /// Run a witness of other parties' audit logs, or make the folder of one.
    Witness(witness::Witness),
    /// Check certificates, clock, database, keys and peers, each with a remedy.
    Doctor(doctor::Doctor),
    /// Make, ask for, pack and look at certificates.
    #[command(subcommand)]
    Cert(cert::Cert),
    /// Name the secret keys, and rotate that of bodies.
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Show what a gateway is told.
    #[command(subcommand)]
    Config(config::Config),
    /// Run a simulated agency.
    #[command(subcommand)]
    Simulate(simulate::Simulate),
    /// Ask a register about a household, as a legal-aid centre.
    #[command(subcommand)]
    Verify(verify::Verify),
    /// Assess an application, and show the rules of eligibility in force.
    #[command(subcommand)]
    Eligibility(eligibility::Eligibility),
    /// Submit, answer, read and take exchanges, as either party.
    #[command(subcommand)]
    Exchange(exchange::Exchange),
    /// Upload and download papers that belong to exchanges.
    #[command(subcommand)]
    Attachment(attachment::Attachment),
    /// See what waits for delivery or was given up, and have it tried now, as the operator.
    #[command(subcommand)]
    Deliveries(deliveries::Deliveries),
    /// Put in, approve, list, show, explain and end agreements, as the operator.
    #[command(subcommand)]
    Agreement(agreement::Agreements),
    /// Read, export and verify the audit log.
    #[command(subcommand)]
    Audit(audit::Audit),
}

impl Arguments {
    /// Runs the command.
    ///
    /// # Errors
    /// When it did not do what was asked; the text says what to do.
    pub fn run(self) -> anyhow::Result<()> {
        let default =
            if matches!(self.command, Command::Serve(_) | Command::Simulate(_) | Command::Witness(_)) {
                "info"
            } else {
                "error"
            };
        crate::telemetry::start(default);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start the asynchronous runtime")?;
        runtime.block_on(async move {
            match self.command {
                Command::Demo(command) => command.run().await,
                Command::Init(command) => command.run(),
                Command::Serve(command) => command.run().await,
                Command::Witness(command) => command.run().await,
                Command::Cert(command) => command.run(),
                Command::Keys(command) => command.run().await,
                Command::Config(command) => command.run(),
                Command::Doctor(command) => command.run().await,
                Command::Simulate(command) => command.run().await,
                Command::Verify(command) => command.run().await,
                Command::Eligibility(command) => command.run().await,
                Command::Exchange(command) => command.run().await,
                Command::Attachment(command) => command.run().await,
                Command::Deliveries(command) => command.run().await,
                Command::Agreement(command) => command.run().await,
                Command::Audit(command) => command.run().await,
            }
        })
    }
}

/// Reads a file of people as `verify low-income --csv` does.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn read_people(
    text: &[u8],
    today: jiff::civil::Date,
) -> anyhow::Result<Vec<(u64, crate::grpc::proto::Subject)>> {
    verify::read_people(text, today)
}
