//! `serve`: runs the gateway.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::core_dumps;
use super::output::{say, say_json};
use crate::clock::Clock;
use crate::config::Config;
use crate::gateway::Gateway;

/// Signal number of SIGXFSZ, the same on every Linux and BSD.
const FILE_SIZE_EXCEEDED: i32 = 25;

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// The configuration, as `init` makes it.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print JSON when ready.
    #[arg(long)]
    json: bool,
}

impl Serve {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = Config::load(&self.config, std::env::vars())?;
        if !config.security.core_dumps {
            core_dumps::forbid()?;
        }
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        // By default a file-size limit kills the process. Handled, it is a write error like a full disk: work is
        // refused until there is room, and nothing is lost.
        let _file_size = signal(SignalKind::from_raw(FILE_SIZE_EXCEEDED))?;
        let mut gateway =
            Gateway::start(config, Clock::system()).await.context("the gateway does not start")?;
        if self.json {
            say_json(&json!({
                "listening": gateway.address().to_string(),
                "log_key": gateway.log_key().to_string(),
                "tiles": gateway.tiles_address().map(|address| address.to_string()),
            }));
        } else {
            say(format_args!("listening on {}, log key {}", gateway.address(), gateway.log_key()));
            if let Some(address) = gateway.tiles_address() {
                say(format_args!("the published log for auditors is at https://{address}/checkpoint"));
            }
        }
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => match gateway.reload().await {
                    Ok(()) => tracing::info!("all files read again"),
                    Err(error) => tracing::error!(%error, "what cannot be used leaves what was before in force"),
                },
                part = gateway.failed() => bail!("{part} ended unexpectedly; start the gateway again"),
            }
        }
        tracing::info!("stopping");
        let drained = gateway.stop().await;
        tracing::info!(finished = drained.finished, aborted = drained.aborted, "stopped");
        Ok(())
    }
}
