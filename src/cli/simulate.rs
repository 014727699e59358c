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
    /// A civil-affairs registry with the households of its configuration.
    Registry(Simulated),
    /// A court that confirms, asks for a paper, and decides, as its configuration says.
    Court(Simulated),
}

/// Arguments of both.
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
            Self::Registry(Simulated { config, json }) => {
                ("registry", json, registry::serve_file(&config, clock).await?)
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
