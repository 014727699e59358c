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
    /// A civil-affairs registry with the households of its configuration.
    Registry(Simulated),
    /// A court that confirms, asks for a paper, and decides, as its configuration or script says.
    Court(Inbox),
    /// A procuratorate, by its script.
    Procuratorate(Inbox),
    /// A centre's inbox, for what a procuratorate refers to it, by its script.
    Centre(Inbox),
}

/// Arguments of a registry.
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
            Self::Registry(Simulated { config, json }) => {
                let serving = registry::serve_file(&config, Clock::system()).await?;
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
