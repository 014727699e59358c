//! `config`: what a gateway is told.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::output::say;
use crate::config::Config as Settings;

#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Print the configuration in force, as TOML: the file, the environment over it, and the defaults of all that
    /// neither names. Secret keys are named by their files.
    Print(Print),
}

/// Arguments of `config print`.
#[derive(Debug, Args)]
pub(super) struct Print {
    /// The configuration, as `init` makes it.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl Config {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Self::Print(Print { config }) = self;
        let settings = Settings::load(&config, std::env::vars())?;
        say(settings.to_toml().context("the configuration cannot be shown")?.trim_end());
        Ok(())
    }
}
