//! `keys`: the secret keys of a gateway, and rotating those of bodies and of pseudonyms.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use zeroize::Zeroizing;

use super::output::{say, say_json};
use crate::config::Config;
use crate::entropy;
use crate::gateway::{Secrets, read_ring};
use crate::identity::key_file;
use crate::store::{Sealer, Store};

#[derive(Debug, Subcommand)]
pub(super) enum Keys {
    /// Name the keys in force, without showing them.
    Show(Show),
    /// Seal bodies, or name persons, with a new key from now on; the earlier ones still open, or find, what they sealed or
    /// named. A running gateway takes it over by itself.
    Rotate(Rotate),
    /// Seal anew, with the newest key, what earlier keys of bodies sealed. A gateway may serve meanwhile.
    Reseal(Reseal),
}

/// Arguments of `keys show`.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// The configuration, as `init` makes it.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `keys rotate`.
#[derive(Debug, Args)]
pub(super) struct Rotate {
    /// The configuration, as `init` makes it.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Rotate the key that makes pseudonyms, in place of that of bodies.
    #[arg(long)]
    pseudonyms: bool,
    /// Only add the new key, to open or find with. Where several gateways share a database, give the file to all of them
    /// before one of them seals or names with it.
    #[arg(long)]
    prepare: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `keys reseal`.
#[derive(Debug, Args)]
pub(super) struct Reseal {
    /// The configuration, as `init` makes it.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Then take the earlier keys out of the key file, once nothing is left that they sealed. Backups made before need
    /// them still.
    #[arg(long)]
    retire: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Keys {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Show(command) => command.run(),
            Self::Rotate(command) => command.run(),
            Self::Reseal(command) => command.run().await,
        }
    }
}

impl Show {
    fn run(self) -> anyhow::Result<()> {
        let config = Config::load(&self.config, std::env::vars())?;
        let secrets = Secrets::load(&config.keys)?;
        let (bodies, pseudonyms) = (secrets.body.fingerprints(), secrets.pseudonym.fingerprints());
        if self.json {
            say_json(&json!({
                "log": secrets.log.verifying_key().to_string(),
                "body": bodies,
                "body_prepared": secrets.body.has_prepared(),
                "pseudonym": pseudonyms,
                "pseudonym_prepared": secrets.pseudonym.has_prepared(),
            }));
            return Ok(());
        }
        say(format_args!("log {}", secrets.log.verifying_key()));
        for (place, fingerprint) in bodies.iter().enumerate() {
            let is_prepared = secrets.body.has_prepared() && place + 1 == bodies.len();
            let role = match place {
                0 => "seals",
                _ if is_prepared => "prepared: opens, seals after the next rotation",
                _ => "earlier: opens",
            };
            say(format_args!("body {fingerprint} ({role})"));
        }
        for (place, fingerprint) in pseudonyms.iter().enumerate() {
            let is_prepared = secrets.pseudonym.has_prepared() && place + 1 == pseudonyms.len();
            let role = match place {
                0 => "names",
                _ if is_prepared => "prepared: finds, names after the next rotation",
                _ => "earlier: finds",
            };
            say(format_args!("pseudonym {fingerprint} ({role})"));
        }
        Ok(())
    }
}

impl Rotate {
    fn run(self) -> anyhow::Result<()> {
        let config = Config::load(&self.config, std::env::vars())?;
        let (path, what) = match self.pseudonyms {
            true => (&config.keys.pseudonym, "pseudonym"),
            false => (&config.keys.body, "body"),
        };
        let key = Zeroizing::new(entropy::bytes::<32>());
        let keys = read_ring(path)?;
        let keys = if self.prepare { keys.prepare(key) } else { keys.rotate(key) };
        key_file::replace(path, &*keys.encode())
            .with_context(|| format!("cannot write {}", path.display()))?;
        let fingerprints = keys.fingerprints();
        if self.json {
            let prepared = format!("{what}_prepared");
            say_json(&json!({ "file": path, what: fingerprints, prepared: keys.has_prepared() }));
            return Ok(());
        }
        if self.prepare {
            say(format_args!(
                "prepared in {0}: give this file to every gateway on the database, wait until each has read it (a second), \
                 then run this without --prepare on one, and give them that file too",
                path.display()
            ));
        } else {
            let newest = fingerprints.first().map(String::as_str).unwrap_or_default();
            let done = if self.pseudonyms { "persons are named by" } else { "bodies are sealed with" };
            say(format_args!("{}: {done} {newest} from now on", path.display()));
        }
        say(match self.pseudonyms {
            true => "keep the file in your backup: whom earlier keys named is found by no other",
            false => "keep the file in your backup: what earlier keys sealed opens with no other",
        });
        Ok(())
    }
}

impl Reseal {
    async fn run(self) -> anyhow::Result<()> {
        let config = Config::load(&self.config, std::env::vars())?;
        let keys = read_ring(&config.keys.body)?;
        let store = Store::open(&config.store.database, Sealer::of(&keys)).await?;
        let (seen, resealed) = reseal_all(&store).await?;
        store.close().await;
        let retired = self.retire && keys.has_earlier();
        if retired {
            // Another may have been put in while bodies were sealed anew; it is in no other place than the file.
            if read_ring(&config.keys.body)?.fingerprints() != keys.fingerprints() {
                bail!(
                    "{} has changed meanwhile: no key was taken out; run this again",
                    config.keys.body.display()
                );
            }
            let kept = keys.retire_earlier();
            key_file::replace(&config.keys.body, &*kept.encode())
                .with_context(|| format!("cannot write {}", config.keys.body.display()))?;
        }
        if self.json {
            say_json(&json!({ "seen": seen, "resealed": resealed, "retired": retired }));
            return Ok(());
        }
        say(format_args!("{resealed} bodies sealed anew; all {seen} are sealed with the newest key"));
        if retired {
            say("the earlier keys are out of the key file; backups made before need them still");
        }
        Ok(())
    }
}

/// Passes through the database until one finds nothing to do: a gateway that had not read the newest key yet may have
/// sealed with an earlier one behind the first.
async fn reseal_all(store: &Store) -> anyhow::Result<(u64, u64)> {
    const MOST_PASSES: u32 = 10;
    let mut resealed = 0;
    for _ in 0..MOST_PASSES {
        let found = store.reseal().await?;
        resealed += found.resealed;
        if found.unopened > 0 {
            bail!(
                "{} bodies open with none of the keys: put the key that sealed them into the key file; {resealed} were \
                 sealed anew",
                found.unopened
            );
        }
        if found.resealed == 0 {
            return Ok((found.seen, resealed));
        }
    }
    bail!("bodies are still being sealed with an earlier key: have every gateway read the key file first")
}
