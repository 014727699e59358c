//! `simulate`: runs a simulated agency.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::output::{say, say_json};
use crate::clock::Clock;
use crate::simulator::script::ScriptFile;
use crate::simulator::{clerk, registry};

/// Which agency.
#[derive(Debug, Subcommand)]
pub(super) enum Simulate {
    /// A registry with the households of its configuration, made up or listed.
    Registry(Registry),
    /// A court that confirms, asks for a paper, and decides, as its configuration or script says.
    Court(Inbox),
    /// A procuratorate that pulls its deliveries and answers appeal referrals, as its configuration or script says.
    Procuratorate(Inbox),
    /// A centre that pulls its deliveries and answers what is asked of it: referrals, counsel notices, reports and
    /// requests of other centres. It takes them away from a clerk who pulls as the same centre.
    Centre(Inbox),
}

/// Arguments of a registry.
#[derive(Debug, Args)]
pub(super) struct Registry {
    #[command(flatten)]
    simulated: Simulated,
    /// How it behaves, question by question: TOML with [[scene]] tables of from, until, every (numbers of
    /// questions, the first is 1), behaviour (honest, wrong-person, fails, silent, down, refuse, ambiguous,
    /// malformed) and slow_ms.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
}

/// Arguments of all.
#[derive(Debug, Args)]
pub(super) struct Simulated {
    /// The configuration, as `init` makes it.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print JSON when ready.
    #[arg(long)]
    json: bool,
}

/// Arguments of an agency with an inbox.
#[derive(Debug, Args)]
pub(super) struct Inbox {
    #[command(flatten)]
    simulated: Simulated,
    /// What to do with each kind: TOML such as steps.FEE_WAIVER = [{ do = "receipt" }, { do = "decide" }]. It goes
    /// before the configuration.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
}

impl Simulate {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Registry(Registry { simulated: Simulated { config, json }, script }) => {
                let serving = registry::serve_script(&config, script.as_deref(), Clock::system()).await?;
                say_ready("registry", Some(serving.address()), json);
                tokio::signal::ctrl_c().await?;
                serving.stop().await;
                Ok(())
            }
            Self::Court(inbox) => inbox.run("court").await,
            Self::Procuratorate(inbox) => inbox.run("procuratorate").await,
            Self::Centre(inbox) => inbox.run("centre").await,
        }
    }
}

impl Inbox {
    async fn run(self, what: &str) -> anyhow::Result<()> {
        let mut config = clerk::load(&self.simulated.config)?;
        if let Some(script) = &self.script {
            config.steps.extend(ScriptFile::load(script)?.steps);
        }
        let working = clerk::work(config, Clock::system()).await?;
        say_ready(what, working.address(), self.simulated.json);
        tokio::signal::ctrl_c().await?;
        working.stop().await;
        Ok(())
    }
}

fn say_ready(what: &str, address: Option<SocketAddr>, json: bool) {
    let address = address.map(|address| address.to_string());
    if json {
        say_json(&json!({"simulated": what, "listening": address}));
    } else {
        match address {
            Some(address) => say(format_args!("simulated {what} listening on {address}")),
            None => say(format_args!("simulated {what} pulling its deliveries")),
        }
    }
}
