//! `simulate`: runs a simulated agency.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::output::{say, say_json};
use crate::clock::Clock;
use crate::simulator::{court, registry};

/// Which agency.
#[derive(Debug, Subcommand)]
pub(super) enum Simulate {
    /// A registry with the households of its configuration, made up or listed.
    Registry(Registry),
    /// A court that confirms, asks for a paper, and decides, as its configuration says.
    Court(Simulated),
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

impl Simulate {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let clock = Clock::system();
        let (what, json, serving) = match self {
            Self::Registry(Registry { simulated: Simulated { config, json }, script }) => {
                ("registry", json, registry::serve_script(&config, script.as_deref(), clock).await?)
            }
            Self::Court(Simulated { config, json }) => {
                ("court", json, court::serve_file(&config, clock).await?)
            }
        };
        if json {
            say_json(&json!({"simulated": what, "listening": serving.address().to_string()}));
        } else {
            say(format_args!("simulated {what} listening on {}", serving.address()));
        }
        tokio::signal::ctrl_c().await?;
        serving.stop().await;
        Ok(())
    }
}
