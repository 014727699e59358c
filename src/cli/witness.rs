//! `witness`: cosigns other parties' audit logs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use zeroize::Zeroizing;

use super::core_dumps;
use super::output::{say, say_json};
use crate::audit::cosignature::CosigningKey;
use crate::clock::Clock;
use crate::config::{TlsSection, WitnessConfig};
use crate::entropy;
use crate::identity::credentials::{Credentials, CredentialsError, Ends};
use crate::identity::key_file;
use crate::identity::watched_files::WatchedFiles;
use crate::witness::Witness as Running;

/// How often the TLS files are looked at. A change is read once it has stood for one look.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Arguments of `witness`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
A witness remembers the newest checkpoint of each log that it follows, and signs a newer one only if that continues it \
(C2SP tlog-witness over mutual TLS: POST /add-checkpoint). So a log that forgets, or tells two parties two things, does \
not get its signature. Run it at another organ than the log's; docs/witnesses.md says how."
)]
pub(super) struct Witness {
    #[command(subcommand)]
    command: Option<Command>,
    /// The witness's configuration, as `witness init` makes it.
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    /// Print JSON when ready.
    #[arg(long)]
    json: bool,
}

/// What else than to run.
#[derive(Debug, Subcommand)]
enum Command {
    /// Make a folder with a configuration and a key.
    Init(Init),
}

/// Arguments of `witness init`.
#[derive(Debug, Args)]
struct Init {
    /// The folder; it must be empty or not be there yet.
    dir: PathBuf,
    /// The witness's name: a URL without a scheme, such as witness.example.gov.cn/audit; it stands in every signature.
    #[arg(long)]
    name: String,
    /// Where it listens.
    #[arg(long, default_value = "0.0.0.0:8444")]
    listen: SocketAddr,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Witness {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        if let Some(Command::Init(init)) = self.command {
            return init.run();
        }
        let path = self.config.context("--config is missing")?;
        let config = WitnessConfig::load(&path, std::env::vars())?;
        core_dumps::forbid()?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut files = WatchedFiles::new(config.tls.files());
        let credentials = read_credentials(&config.tls)?;
        let mut witness = Running::start(&config.witness, &credentials, Clock::system())
            .await
            .context("the witness does not start")?;
        if self.json {
            say_json(&json!({
                "listening": witness.address().to_string(),
                "key": witness.key().to_string(),
                "logs": config.witness.logs.len(),
            }));
        } else {
            say(format_args!("listening on {}, witness key {}", witness.address(), witness.key()));
        }
        if config.witness.logs.is_empty() {
            tracing::warn!("no log is followed: add [[witness.log]] to the configuration");
        }
        let mut beat = interval(LOOK_EVERY);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                () = witness.failed() => bail!("the witness ended unexpectedly; start it again"),
                _ = hangup.recv() => read_again(&config.tls, &witness),
                _ = beat.tick() => if files.have_changed() {
                    read_again(&config.tls, &witness);
                }
            }
        }
        witness.stop().await;
        Ok(())
    }
}

fn read_credentials(tls: &TlsSection) -> Result<Credentials, CredentialsError> {
    Credentials::load(&tls.certificate, &tls.private_key, &tls.authorities)?
        .with_revocation_lists(&tls.revocations)
}

/// Takes renewed certificates and lists; whose certificate is not believed any more is shown out. What cannot be used
/// leaves what was read before in force.
fn read_again(tls: &TlsSection, witness: &Running) {
    let read = match read_credentials(tls) {
        Ok(read) => read,
        Err(error) => {
            tracing::error!(%error, "cannot be used: what was read before stays in force");
            return;
        }
    };
    let now = Clock::system().now();
    if let Some(end) = read.ends().iter().find(|end| end.of == Ends::Own && end.at < now) {
        tracing::error!(name = %end.name, ended = %end.at, "the certificate has ended: the one before stays in force");
        return;
    }
    witness.acceptor().replace_credentials(&read);
    tracing::info!(files = "credentials", "read again");
}

impl Init {
    fn run(self) -> anyhow::Result<()> {
        let dir = &self.dir;
        if std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
            bail!("{} is not empty; choose a new folder, nothing is overwritten", dir.display());
        }
        let seed = Zeroizing::new(entropy::bytes::<32>());
        let key = CosigningKey::from_seed(&self.name, &seed).context("--name cannot be used")?;
        let cannot_write = |path: &Path| format!("cannot write {}", path.display());
        for sub in ["keys", "tls", "state"] {
            let path = dir.join(sub);
            std::fs::create_dir_all(&path).with_context(|| cannot_write(&path))?;
        }
        let path = dir.join("keys/witness.key");
        let secret = Zeroizing::new(format!("{}\n", key.encode().as_str()));
        key_file::create(&path, &secret).with_context(|| cannot_write(&path))?;
        let public = key.cosigner_key();
        for (name, text) in
            [("witness.toml", configuration(self.listen)), ("witness.pub", format!("{public}\n"))]
        {
            let path = dir.join(name);
            std::fs::write(&path, text).with_context(|| cannot_write(&path))?;
        }
        if self.json {
            say_json(&json!({
                "folder": dir,
                "config": dir.join("witness.toml"),
                "key": public.to_string(),
            }));
            return Ok(());
        }
        let dir = dir.display();
        say(format_args!(
            "made {dir}: witness.toml, witness.pub, keys/witness.key (mode 0600), tls/, state/\n\
             witness key {public}\n\n\
             next:\n\
             \x20 1. put certificates into {dir}/tls; witness.toml says which\n\
             \x20 2. add the logs to {dir}/witness.toml: each log's key is what `audit key` prints there\n\
             \x20 3. legal-aid-gateway witness --config {dir}/witness.toml\n\
             \x20 4. give the witness key, the address and your organ's code to the log's operator\n\
             never restore {dir}/state from a backup: a witness that forgets signs what it must not"
        ));
        Ok(())
    }
}

fn configuration(listen: SocketAddr) -> String {
    format!(
        r#"# A witness of other parties' audit logs. Paths are relative to this file.

[witness]
listen = "{listen}"
key = "keys/witness.key"
state = "state"                 # newest checkpoint of each log, and evidence; never to be restored from a backup

# [[witness.log]]               # one for each log; with two keys of one origin while a log changes its key
# key = "origin+hash+base64"    # as `audit key` prints it at the log
# agency = "…"                  # unified social credit code of the organ that runs the log

[tls]
certificate = "tls/witness.crt.pem"     # names this organ by urn:legal-aid:agency:<code>, and this host
private_key = "tls/witness.key.pem"     # mode 0600
authorities = "tls/authorities.pem"
# revocations = ["tls/revoked.crl.pem"]
"#
    )
}
