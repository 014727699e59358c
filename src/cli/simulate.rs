//! `simulate`: runs a simulated agency.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::output::say;
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
}

impl Simulate {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let clock = Clock::system();
        let (what, serving) = match self {
            Self::Registry(simulated) => ("registry", registry::serve_file(&simulated.config, clock).await?),
            Self::Court(simulated) => ("court", court::serve_file(&simulated.config, clock).await?),
        };
        say(format_args!("simulated {what} listening on {}", serving.address()));
        tokio::signal::ctrl_c().await?;
        serving.stop().await;
        Ok(())
    }
}
