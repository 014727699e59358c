//! The gateway's configuration: one TOML file, overlaid by the environment, parsed straight into final types.
//!
//! A variable `LEGAL_AID_GATEWAY__SECTION__KEY` replaces `key` of `[section]`. Unknown keys are refused. Paths are
//! relative to the file's folder.

mod audit;
mod contradictions;
mod credential;
mod database;
mod duration;
mod findings;
mod front_door;
mod print;
mod reading;
mod retention;
mod rule_sets;
mod security;
#[cfg(test)]
mod tests;
mod upstream;
mod verification;
mod witness;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::audit::{AuditSection, TilesSection, WitnessEntry, WitnessesSection};
pub use self::contradictions::Contradictions;
use self::credential::Folders;
pub use self::database::{Database, Postgres};
pub use self::findings::FindingsSection;
pub use self::front_door::FrontDoorSection;
pub use self::reading::{ENVIRONMENT_PREFIX, load_table};
pub use self::retention::{Detached, RetentionSection};
pub use self::rule_sets::{RulesError, read_rule_sets};
pub use self::security::SecuritySection;
pub use self::upstream::UpstreamSection;
pub use self::verification::VerificationSection;
pub use self::witness::{WitnessConfig, WitnessSection, WitnessedLog};
use crate::domain::agency::CreditCode;

/// All settings of `serve`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The gateway itself.
    pub gateway: GatewaySection,
    /// Its certificate and whom it trusts.
    pub tls: TlsSection,
    /// The database.
    pub store: StoreSection,
    /// Secret keys.
    pub keys: KeysSection,
    /// The audit log.
    #[serde(default)]
    pub audit: AuditSection,
    /// What is looked for in it.
    #[serde(default)]
    pub findings: FindingsSection,
    /// Limits.
    #[serde(default)]
    pub limits: LimitsSection,
    /// Connections, and what they may hold.
    #[serde(default)]
    pub front_door: FrontDoorSection,
    /// Delivery.
    #[serde(default)]
    pub delivery: DeliverySection,
    /// Attachments.
    #[serde(default)]
    pub attachments: AttachmentsSection,
    /// Eligibility.
    #[serde(default)]
    pub eligibility: EligibilitySection,
    /// Verifications that are completed later.
    #[serde(default)]
    pub verification: VerificationSection,
    /// What agencies that are asked may hold up.
    #[serde(default)]
    pub upstream: UpstreamSection,
    /// Clocks of the law.
    #[serde(default)]
    pub clocks: ClocksSection,
    /// Changes of agreements.
    #[serde(default)]
    pub agreements: AgreementsSection,
    /// Metrics.
    #[serde(default)]
    pub metrics: MetricsSection,
    /// Traces.
    pub traces: Option<TracesSection>,
    /// What of the process others may see.
    #[serde(default)]
    pub security: SecuritySection,
    /// How long is kept what.
    #[serde(default)]
    pub retention: RetentionSection,
    /// Being a witness of other parties' logs.
    pub witness: Option<WitnessSection>,
}

/// `[gateway]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GatewaySection {
    /// Unified social credit code of the organ that runs the gateway; its certificate names it.
    pub agency: CreditCode,
    /// Name of this node in the audit log.
    #[serde(default = "default_node")]
    pub node: String,
    /// Where it listens.
    pub listen: SocketAddr,
    /// The file with agencies and agreements.
    pub directory: PathBuf,
    /// Development mode: certificates of development authorities are believed. Never with real data.
    #[serde(default)]
    pub development: bool,
}

/// `[tls]`: PEM files.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSection {
    /// The certificate chain, own certificate first.
    pub certificate: PathBuf,
    /// The private key.
    pub private_key: PathBuf,
    /// Certificate authorities that are trusted, for both sides.
    pub authorities: PathBuf,
    /// Certificate revocation lists.
    #[serde(default)]
    pub revocations: Vec<PathBuf>,
    /// From how many days before their end certificates and revocation lists are warned of.
    #[serde(default = "default_warning")]
    pub warn_before_days: u16,
}

impl TlsSection {
    /// All of its files.
    pub fn files(&self) -> Vec<PathBuf> {
        let files = [&self.certificate, &self.private_key, &self.authorities].into_iter();
        files.chain(&self.revocations).cloned().collect()
    }
}

/// Time enough to ask an authority for the next one.
fn default_warning() -> u16 {
    30
}

/// `[store]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSection {
    /// The SQLite file, or the `postgres://` URL of the database that several gateways share.
    pub database: Database,
    /// The file that searches of the audit log look into: derived data, each gateway's own.
    #[serde(default)]
    search_index: Option<PathBuf>,
    /// The `postgres://` URL of a hot standby of the database, from which searches read what they have found.
    #[serde(default)]
    standby: Option<Database>,
    /// The network to the database's servers is protected by other means than TLS, so that less than `sslmode=verify-full` is
    /// taken.
    #[serde(default)]
    trusted_network: bool,
    /// How long a gateway may stall with the log in hand, where several write it; then another takes its turn, and its batch is
    /// void.
    #[serde(default, with = "duration::optional")]
    stall: Option<Duration>,
}

impl StoreSection {
    /// The standby that searches read from.
    pub fn standby(&self) -> Option<&Postgres> {
        match &self.standby {
            Some(Database::Postgres(server)) => Some(server),
            _ => None,
        }
    }

    /// Tells the servers what stands beside their URLs, and has `find` say where the files are that those name.
    fn complete(&mut self, find: impl Fn(&Path) -> Result<PathBuf, String>) -> Result<(), String> {
        for database in std::iter::once(&mut self.database).chain(&mut self.standby) {
            let Database::Postgres(server) = database else { continue };
            *server = server.clone().over_trusted_network(self.trusted_network);
            server.set_stall(self.stall.unwrap_or_else(|| server.stall()));
            server.find_files(&find)?;
        }
        Ok(())
    }

    /// Where the search index lies: where the configuration says; otherwise beside the SQLite file, under its name with
    /// `.index` added; with PostgreSQL beside the configuration.
    pub fn search_index(&self) -> PathBuf {
        match (&self.search_index, &self.database) {
            (Some(path), _) => path.clone(),
            (None, Database::File(path)) => {
                let mut path = path.clone().into_os_string();
                path.push(".index");
                path.into()
            }
            (None, Database::Postgres(_)) => PathBuf::from("search.index"),
        }
    }
}

/// `[keys]`: files of mode 0600 that `init` makes, or `credential:NAME` for those that systemd hands over.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeysSection {
    /// Signs the log's checkpoints (C2SP signed-note private key).
    pub log: PathBuf,
    /// Encrypts bodies at rest: 64 hex digits a line, the newest key first; the others still open what they sealed.
    pub body: PathBuf,
    /// Makes pseudonyms (64 hex digits).
    pub pseudonym: PathBuf,
    /// Keys that made pseudonyms before, newest first: they still find what they named.
    #[serde(default)]
    pub pseudonym_earlier: Vec<PathBuf>,
}

/// `[limits]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSection {
    /// Calls at once.
    pub calls: usize,
    /// Calls at once of one agency.
    pub calls_per_agency: usize,
    /// Largest message, in bytes.
    pub message_bytes: usize,
    /// Deadline of a call that brings none.
    #[serde(with = "duration")]
    pub default_deadline: Duration,
    /// Longest deadline; a longer one is cut to it.
    #[serde(with = "duration")]
    pub longest_deadline: Duration,
    /// How long a stream lives, such as an upload or a watch; it is then begun again where it ended.
    #[serde(with = "duration")]
    pub longest_stream: Duration,
    /// How long a stream waits for the peer's next message, or for the peer to take one.
    #[serde(with = "duration")]
    pub stream_idle: Duration,
    /// How often a watch on which nothing happens gives a sign of life.
    #[serde(with = "duration")]
    pub heartbeat: Duration,
    /// Time for a TLS handshake.
    #[serde(with = "duration")]
    pub handshake: Duration,
    /// Time for the first byte after the handshake.
    #[serde(with = "duration")]
    pub first_byte: Duration,
    /// Handshakes at once.
    pub pending_handshakes: usize,
    /// Handshakes at once from one address.
    pub pending_handshakes_per_address: usize,
    /// Age at which a connection is closed in an orderly way.
    #[serde(with = "duration")]
    pub connection_age: Duration,
    /// Time for calls in progress when the gateway stops.
    #[serde(with = "duration")]
    pub drain: Duration,
    /// How long outcomes are kept for their request ids; at least 7 days.
    #[serde(with = "duration")]
    pub keep_outcomes: Duration,
}

/// `[delivery]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeliverySection {
    /// Time for one attempt.
    #[serde(with = "duration")]
    pub attempt: Duration,
    /// How long a delivery is leased to one attempt or one pull; longer than an attempt.
    #[serde(with = "duration")]
    pub lease: Duration,
    /// Wait after the first failed attempt; doubled after each further one.
    #[serde(with = "duration")]
    pub first_retry: Duration,
    /// Longest wait.
    #[serde(with = "duration")]
    pub longest_retry: Duration,
    /// Age at which a delivery is given up and the exchange becomes UNDELIVERABLE.
    #[serde(with = "duration")]
    pub give_up_after: Duration,
    /// Deliveries at once to one recipient.
    pub per_recipient: usize,
}

/// `[attachments]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttachmentsSection {
    /// Most bytes of one attachment.
    pub most_bytes: u64,
    /// Most attachments and uploads of one agency.
    pub most_per_agency: u64,
    /// Most bytes of all of one agency.
    pub most_bytes_per_agency: u64,
    /// How long an unfinished upload is kept after it last grew.
    #[serde(with = "duration")]
    pub keep_unfinished: Duration,
}

impl Default for AttachmentsSection {
    fn default() -> Self {
        Self {
            most_bytes: 256 * 1024 * 1024,
            most_per_agency: 10_000,
            most_bytes_per_agency: 64 * 1024 * 1024 * 1024,
            keep_unfinished: Duration::from_secs(86_400),
        }
    }
}

/// `[eligibility]`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct EligibilitySection {
    /// A folder of rule sets (`*.toml`) beside the built-in ones; a file replaces the built-in set of its id.
    pub rules: Option<PathBuf>,
}

/// `[clocks]`: the operator's own data, in the shape of the files in `data/`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClocksSection {
    /// Time limits beside, or in the place of, the built-in ones.
    pub rules: Option<PathBuf>,
    /// Holidays in the place of the built-in ones.
    pub holidays: Option<PathBuf>,
}

/// `[agreements]`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgreementsSection {
    /// Whether an agreement that one operator puts in waits for the approval of another.
    pub two_person: bool,
}

/// `[metrics]`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsSection {
    /// Where `GET /metrics` is answered, over plain HTTP and to anybody who gets there; nowhere unless set.
    pub listen: Option<SocketAddr>,
}

/// `[traces]`: only in a build with the feature `otlp`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TracesSection {
    /// The collector, such as `http://127.0.0.1:4317`: OTLP over gRPC, without TLS.
    pub endpoint: String,
}

impl Default for LimitsSection {
    fn default() -> Self {
        Self {
            calls: 2048,
            calls_per_agency: 512,
            message_bytes: 1024 * 1024,
            default_deadline: Duration::from_secs(10),
            longest_deadline: Duration::from_secs(60),
            longest_stream: Duration::from_secs(3600),
            stream_idle: Duration::from_secs(30),
            heartbeat: Duration::from_secs(15),
            handshake: Duration::from_secs(10),
            first_byte: Duration::from_secs(10),
            pending_handshakes: 256,
            pending_handshakes_per_address: 64,
            connection_age: Duration::from_secs(6 * 3600),
            drain: Duration::from_secs(10),
            keep_outcomes: Duration::from_secs(7 * 86_400),
        }
    }
}

impl Default for DeliverySection {
    fn default() -> Self {
        Self {
            attempt: Duration::from_secs(10),
            lease: Duration::from_secs(60),
            first_retry: Duration::from_secs(1),
            longest_retry: Duration::from_secs(900),
            give_up_after: Duration::from_secs(7 * 86_400),
            per_recipient: 32,
        }
    }
}

fn default_node() -> String {
    "gateway-1".to_owned()
}

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}; `legal-aid-gateway init DIR` makes one")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML of this shape.
    #[error("{path}: {place}: {said}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line and column, or the variable that lies over it.
        place: String,
        /// What is wrong. No address of a database is in it.
        said: String,
    },
    /// A file is said to be a credential, and there is none of that name.
    #[error(
        "{path}: there is no credential {name:?}: run it as a service of systemd with LoadCredential={name}:FILE, or name \
         the file itself"
    )]
    NoCredential {
        /// The file that says so.
        path: PathBuf,
        /// The credential.
        name: String,
    },
    /// Settings contradict each other.
    #[error("{path}: {found}")]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// All that do, each with what to do.
        found: Contradictions,
    },
}

impl Config {
    /// Reads the file and overlays `environment` (name and value pairs).
    ///
    /// # Errors
    /// When the file is missing, malformed or contradicts itself.
    pub fn load(
        path: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let environment: Vec<_> = environment.into_iter().collect();
        let folders = Folders::of(path, &environment);
        let mut config: Self = load_table(path, environment)?;
        config.store.search_index = Some(config.store.search_index());
        let no_credential = |name| ConfigError::NoCredential { path: path.to_owned(), name };
        config.store.complete(|file| folders.find(file)).map_err(no_credential)?;
        let tls = &mut config.tls;
        let keys = &mut config.keys;
        for file in [
            &mut config.gateway.directory,
            &mut tls.certificate,
            &mut tls.private_key,
            &mut tls.authorities,
            &mut keys.log,
            &mut keys.body,
            &mut keys.pseudonym,
        ]
        .into_iter()
        .chain(&mut tls.revocations)
        .chain(&mut keys.pseudonym_earlier)
        .chain(&mut config.audit.checkpoint)
        .chain(&mut config.store.search_index)
        .chain(match &mut config.store.database {
            Database::File(path) => Some(path),
            Database::Postgres(_) => None,
        })
        .chain(config.witness.iter_mut().flat_map(WitnessSection::files))
        .chain(&mut config.eligibility.rules)
        .chain(&mut config.clocks.rules)
        .chain(&mut config.clocks.holidays)
        {
            *file = folders.find(file).map_err(no_credential)?;
        }
        config.check().map_err(|found| ConfigError::Contradiction { path: path.to_owned(), found })?;
        Ok(config)
    }

    fn check(&self) -> Result<(), Contradictions> {
        let (limits, delivery) = (&self.limits, &self.delivery);
        let mut found = Contradictions::default();
        self.retention.check(&mut found);
        self.audit.witnesses.check(&mut found);
        self.front_door.check(limits, &mut found);
        self.upstream.check(limits, &mut found);
        found.unless(
            self.store.stall.is_none_or(|stall| stall >= Duration::from_millis(100)),
            "store.stall",
            "must be at least 100ms, or a slow moment voids batches",
        );
        found.unless(
            matches!(
                (&self.store.standby, &self.store.database),
                (None, _) | (Some(Database::Postgres(_)), Database::Postgres(_))
            ),
            "store.standby",
            "is the postgres:// URL of a standby of a store.database that is PostgreSQL; an SQLite file has none",
        );
        found.unless(
            delivery.lease > delivery.attempt,
            "delivery.lease",
            "must be longer than delivery.attempt, or one delivery is made twice at once",
        );
        found.unless(
            limits.default_deadline <= limits.longest_deadline,
            "limits.default_deadline",
            "must not exceed limits.longest_deadline",
        );
        for (key, duration) in
            [("limits.heartbeat", limits.heartbeat), ("limits.stream_idle", limits.stream_idle)]
        {
            found.unless(!duration.is_zero(), key, "must be longer than nothing");
        }
        found.unless(
            self.attachments.keep_unfinished > limits.longest_stream,
            "attachments.keep_unfinished",
            "must be longer than limits.longest_stream",
        );
        found.unless(
            self.attachments.most_bytes_per_agency >= self.attachments.most_bytes,
            "attachments.most_bytes_per_agency",
            "must not be less than attachments.most_bytes",
        );
        found.unless(
            limits.keep_outcomes >= Duration::from_secs(7 * 86_400),
            "limits.keep_outcomes",
            "must be at least 7 days (\"168h\")",
        );
        for (key, number) in [
            ("limits.calls", limits.calls),
            ("limits.calls_per_agency", limits.calls_per_agency),
            ("audit.queue", self.audit.queue),
            ("delivery.per_recipient", delivery.per_recipient),
            ("verification.at_once", self.verification.at_once),
        ] {
            found.unless(number > 0, key, "must be at least 1");
        }
        found.into_result()
    }
}
