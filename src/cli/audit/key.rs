//! `audit key`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use crate::audit::note::SigningKey;
use crate::cli::output::{say, say_json};
use crate::config::Config;

/// Arguments of `audit key`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Key {
    /// The gateway's configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Key {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let config = Config::load(&self.config, std::env::vars())?;
        let path = &config.keys.log;
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let key =
            SigningKey::parse(text.trim()).with_context(|| format!("{} is not a log key", path.display()))?;
        if self.json {
            say_json(&json!({"key": key.verifying_key().to_string()}));
        } else {
            say(key.verifying_key());
        }
        Ok(())
    }
}
