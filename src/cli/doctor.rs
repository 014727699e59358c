//! `doctor`: checks what a gateway or an agency needs, each with a remedy.

mod certificates;
mod witnesses;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use arc_swap::ArcSwap;
use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::output::{say, say_json, table};
use crate::access::Directory;
use crate::client::Profile;
use crate::clock::Clock;
use crate::config::{Config, Database};
use crate::delivery::peers::dial;
use crate::gateway::{Secrets, read_clocks};
use crate::identity::credentials::Credentials;
use crate::identity::dialler::{Dialler, DiallerLimits};
use crate::store::{Sealer, Store};

/// How long a peer may take to answer.
const PROBE: DiallerLimits =
    DiallerLimits { connect_timeout: Duration::from_secs(3), handshake_timeout: Duration::from_secs(5) };

/// From how many days before its end an agency's certificate is warned of.
const WARN_BEFORE_DAYS: u16 = 30;

/// Arguments of `doctor`.
#[derive(Debug, Args)]
#[command(override_usage = "legal-aid-gateway doctor [--json] (--config <FILE> | --profile <FILE>)")]
pub(super) struct Doctor {
    /// The gateway's configuration.
    #[arg(long, value_name = "FILE", required_unless_present = "profile")]
    config: Option<PathBuf>,
    /// An agency's profile instead: its certificate, and whether its gateway lets it in.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    profile: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// One check.
struct Finding {
    check: String,
    ok: bool,
    found: String,
    remedy: String,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn fine(&mut self, check: impl Into<String>, found: impl Into<String>) {
        self.0.push(Finding { check: check.into(), ok: true, found: found.into(), remedy: String::new() });
    }

    fn bad(&mut self, check: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Finding { check: check.into(), ok: false, found: found.into(), remedy: remedy.into() });
    }
}

impl Doctor {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let clock = Clock::system();
        let mut findings = Findings::default();
        match (&self.config, &self.profile) {
            (Some(path), _) => gateway(&mut findings, Config::load(path, std::env::vars())?, &clock).await,
            (None, Some(path)) => agency(&mut findings, &Profile::load(path)?, &clock).await,
            (None, None) => {}
        }
        let Findings(findings) = findings;
        let bad = findings.iter().filter(|finding| !finding.ok).count();
        if self.json {
            let checks: Vec<_> = findings
                .iter()
                .map(|f| json!({"check": f.check, "ok": f.ok, "found": f.found, "remedy": f.remedy}))
                .collect();
            say_json(&json!({"ok": bad == 0, "checks": checks}));
        } else {
            let mut rows = table(&["", "check", "found", "remedy"]);
            for finding in findings {
                let mark = if finding.ok { "ok" } else { "BAD" };
                rows.add_row([mark.to_owned(), finding.check, finding.found, finding.remedy]);
            }
            say(rows);
        }
        if bad == 0 { Ok(()) } else { Err(anyhow!("{bad} check(s) failed")) }
    }
}

async fn gateway(findings: &mut Findings, config: Config, clock: &Clock) {
    let tls = &config.tls;
    let credentials = Credentials::load(&tls.certificate, &tls.private_key, &tls.authorities)
        .and_then(|credentials| credentials.with_revocation_lists(&tls.revocations));
    match &credentials {
        Ok(credentials) => {
            certificates::mode(findings, credentials, config.gateway.development);
            certificates::names(findings, credentials, config.gateway.agency);
            certificates::ends(findings, credentials, tls.warn_before_days, clock);
        }
        Err(error) => {
            findings.bad("certificate and key", error.to_string(), "see tls/README.md, or run `init` anew");
        }
    }
    this_clock(findings, clock);
    let secrets = Secrets::load(&config.keys);
    match &secrets {
        Ok(secrets) => findings.fine("key files", format!("log key {}", secrets.log.verifying_key())),
        Err(error) => {
            findings.bad("key files", error.to_string(), "restore them from backup, or run `init` anew");
        }
    }
    let sealer = secrets.map_or_else(|_| Sealer::new(&[0; 32]), |secrets| Sealer::of(&secrets.body));
    match Store::open(&config.store.database, sealer).await {
        Ok(store) => match store.check_writable().await {
            Ok(()) => findings.fine("database", "opens and can be written"),
            Err(error) => {
                findings.bad("database", error.to_string(), "free the disk, or end whatever holds it locked");
            }
        },
        Err(error) => {
            let remedy = match &config.store.database {
                Database::File(_) => "check path, owner and free space",
                Database::Postgres(_) => "see PostgreSQL in docs/operations.md",
            };
            findings.bad("database", error.to_string(), remedy);
        }
    }
    standby(findings, &config).await;
    match read_clocks(&config) {
        Ok(_) => findings.fine("clocks of the law", "time limits and holidays can be used"),
        Err(error) => findings.bad("clocks of the law", error.to_string(), "correct the files of [clocks]"),
    }
    let directory = std::fs::read_to_string(&config.gateway.directory)
        .map_err(|error| error.to_string())
        .and_then(|text| Directory::parse(&text).map_err(|error| error.to_string()));
    match (directory, credentials) {
        (Err(error), _) => findings.bad("directory", error, "correct directory.toml"),
        (Ok(directory), Ok(credentials)) => {
            let agencies = directory.agencies().count();
            if agencies == 0 {
                findings.bad(
                    "directory",
                    "no agency is enrolled",
                    "add [[agency]] and [[agreement]] to directory.toml",
                );
            } else {
                findings.fine("directory", format!("{agencies} agencies"));
            }
            peers(findings, &directory, &credentials, clock).await;
            witnesses::check(findings, &config, &credentials, clock).await;
        }
        (Ok(_), Err(_)) => {}
    }
}

/// Whether searches can read from the standby: a gateway goes on without one, and does not say so before a search.
async fn standby(findings: &mut Findings, config: &Config) {
    let Some(server) = config.store.standby() else { return };
    match Store::open_audit_log(Database::Postgres(server.clone())).await {
        Ok(store) => {
            findings.fine("standby", format!("{server} can be read"));
            store.close().await;
        }
        Err(error) => {
            let remedy =
                "searches read from the primary until it is back; see PostgreSQL in docs/operations.md";
            findings.bad("standby", error.to_string(), remedy);
        }
    }
}

async fn peers(findings: &mut Findings, directory: &Directory, credentials: &Credentials, clock: &Clock) {
    let enrolled = Arc::new(ArcSwap::from_pointee(directory.clone()));
    let dialler = Dialler::new(credentials, clock.clone()).with_limits(PROBE).enrolled_in(enrolled);
    let mut agencies: Vec<_> = directory.agencies().collect();
    agencies.sort_by_key(|agency| agency.code);
    for agency in agencies {
        let Some(endpoint) = &agency.endpoint else { continue };
        let check = format!("peer {}", agency.code);
        match dialler.probe(&dial(agency.code, endpoint)).await {
            Ok(_) => findings.fine(check, format!("answers at {}", endpoint.address)),
            Err(error) => findings.bad(
                check,
                error.to_string(),
                "start it, correct its endpoint, or have it trust this gateway's certificate",
            ),
        }
    }
}

async fn agency(findings: &mut Findings, profile: &Profile, clock: &Clock) {
    this_clock(findings, clock);
    match profile.credentials() {
        Err(error) => findings.bad(
            "certificate and key",
            error.to_string(),
            "ask for a certificate of this gateway's authority",
        ),
        Ok(credentials) => {
            certificates::ends(findings, &credentials, WARN_BEFORE_DAYS, clock);
            match Dialler::new(&credentials, clock.clone()).probe(&profile.endpoint()).await {
                Ok(_) => findings.fine("gateway", "lets this agency in"),
                Err(error) => findings.bad(
                    "gateway",
                    error.to_string(),
                    "start it, correct the address, or have its operator enrol this agency in directory.toml",
                ),
            }
        }
    }
}

/// A clock that is far off makes every certificate and legal date wrong; only the grossest error shows from
/// inside.
fn this_clock(findings: &mut Findings, clock: &Clock) {
    let now = clock.now();
    let built_after = Timestamp::constant(1_767_225_600, 0);
    if now < built_after {
        findings.bad("clock", now.to_string(), "set the clock; run an NTP client");
    } else {
        findings.fine("clock", format!("{now:.0}; compare it with a time source"));
    }
}
