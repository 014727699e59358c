//! `init`: makes a folder from which a gateway can run.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::output::{say, say_json};
use crate::clock::Clock;
use crate::domain::agency::CreditCode;
use crate::setup::{Setup, codes};
use crate::simulator::court::Script;

/// Arguments of `init`.
#[derive(Debug, Args)]
pub(super) struct Init {
    /// The folder; it must be empty or not be there yet.
    dir: PathBuf,
    /// Leave places for real certificates instead of making a development PKI.
    #[arg(long, requires = "agency")]
    real_certificates: bool,
    /// Unified social credit code of the organ that runs the gateway.
    #[arg(long, value_name = "CODE")]
    agency: Option<String>,
    /// Port of the gateway; the simulated registry and court take the two after it.
    #[arg(long, default_value_t = 8443)]
    port: u16,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Init {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let organ = self.agency.as_deref().unwrap_or(codes::GATEWAY);
        let organ =
            CreditCode::parse(organ).context("--agency must be a unified social credit code (GB 32100)")?;
        let local =
            |after: u16| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.port.saturating_add(after));
        let setup = Setup {
            gateway: local(0),
            registry: local(1),
            court: local(2),
            development: !self.real_certificates,
            organ,
            script: Script::default(),
        };
        setup.create(&self.dir, &Clock::system())?;
        let dir = self.dir.display();
        if self.json {
            say_json(&json!({
                "folder": self.dir,
                "config": self.dir.join("gateway.toml"),
                "development": setup.development,
                "listen": setup.gateway.to_string(),
            }));
            return Ok(());
        }
        say(format_args!("made {dir}: gateway.toml, directory.toml, keys/ (mode 0600), tls/"));
        if setup.development {
            say(format_args!(
                "\nnext, each in its own terminal:\n\
                 \x20 legal-aid-gateway simulate registry --config {dir}/simulate-registry.toml\n\
                 \x20 legal-aid-gateway simulate court --config {dir}/simulate-court.toml\n\
                 \x20 legal-aid-gateway simulate procuratorate --config {dir}/simulate-procuratorate.toml\n\
                 \x20 legal-aid-gateway serve --config {dir}/gateway.toml\n\
                 then, as the centre:\n\
                 \x20 legal-aid-gateway verify low-income --as {dir}/centre.toml --file {dir}/query.json --matter LQ-2026-0001\n\
                 \x20 legal-aid-gateway exchange submit --as {dir}/centre.toml --file {dir}/fee-waiver.json\n\
                 the certificates are for development: replace them before real data comes near"
            ));
        } else {
            say(format_args!(
                "\nnext:\n\
                 \x20 1. put certificates into {dir}/tls (its README.md says which)\n\
                 \x20 2. enrol agencies and agreements in {dir}/directory.toml\n\
                 \x20 3. legal-aid-gateway doctor --config {dir}/gateway.toml\n\
                 \x20 4. legal-aid-gateway serve --config {dir}/gateway.toml"
            ));
        }
        say(format_args!("keep {dir}/keys and {dir}/checkpoint in your backup, apart from the database"));
        Ok(())
    }
}
