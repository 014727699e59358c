//! What `init` makes: a folder from which a gateway, and with a development PKI the agencies around it, can run.

mod examples;
mod templates;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::civil::Date;
use thiserror::Error;

use self::templates::{EMPTY_DIRECTORY, REAL_CERTIFICATES};
use crate::access::{
    Agency, AgencyEndpoint, AgencyStatus, Agreement, BatchTerms, DirectoryFile, Method, Party,
};
use crate::client::{Profile, ProfileGateway, ProfileOperator, ProfileTls};
use crate::clock::Clock;
use crate::config::KeysSection;
use crate::domain::agency::{AgencyKind, CodeError, CreditCode, CreditCodeError, PurposeCode};
use crate::domain::region::{RegionCode, RegionCodeError};
use crate::gateway::Secrets;
use crate::identity::development::{DevelopmentAuthority, DevelopmentError};
use crate::simulator::clerk::{ClerkConfig, Papers};
use crate::simulator::registry::{Behaviour, Register, RegistryConfig};
use crate::simulator::script::{Script, Steps};

/// Credit codes of the development agencies; their check characters are right, the organs do not exist.
pub mod codes {
    /// The organ that runs the gateway.
    pub const GATEWAY: &str = "11331000MB00000011";
    /// The legal-aid centre.
    pub const CENTRE: &str = "12331004MB0000002T";
    /// The court.
    pub const COURT: &str = "11331004MB00000031";
    /// The civil-affairs registry.
    pub const REGISTRY: &str = "11331000MB0000004A";
    /// The procuratorate.
    pub const PROCURATORATE: &str = "11331004MB0000006A";
    /// The rural-revitalisation organ's registry of poverty households.
    pub const POVERTY_REGISTRY: &str = "11331000MB0000008N";
    /// Whoever operates the gateway, and looks after its records.
    pub const OPERATOR: &str = "11331000MB0000007K";
    /// The auditor.
    pub const AUDITOR: &str = "11331000MB0000005D";
    /// A legal-aid centre in the next district.
    pub const NEIGHBOUR: &str = "12331002MB0000010Q";
    /// Holds a certificate of the same authority, but is not enrolled.
    pub const STRANGER: &str = "12331004MB0000009G";
}

/// Purposes of the development agreements.
pub mod purposes {
    /// Checking an applicant's hardship.
    pub const AID_ELIGIBILITY: &str = "AID_ELIGIBILITY";
    /// Fee waiver.
    pub const FEE_WAIVER: &str = "FEE_WAIVER";
    /// Judicial relief.
    pub const JUDICIAL_RELIEF: &str = "JUDICIAL_RELIEF";
    /// Appeal referral.
    pub const APPEAL_REFERRAL: &str = "APPEAL_REFERRAL";
    /// Assigning counsel: notices, and reports of direct assignments.
    pub const COUNSEL_ASSIGNMENT: &str = "COUNSEL_ASSIGNMENT";
    /// Cooperation between centres.
    pub const COOPERATION: &str = "COOPERATION";
    /// Operating the gateway: its deliveries.
    pub const GATEWAY_OPERATION: &str = "GATEWAY_OPERATION";
    /// Inspecting the audit log.
    pub const AUDIT_INSPECTION: &str = "AUDIT_INSPECTION";
    /// Erasing and pruning.
    pub const RECORDS_MANAGEMENT: &str = "RECORDS_MANAGEMENT";
}

/// A synthetic person on the development register: name and resident ID number.
pub const ON_THE_REGISTER: (&str, &str) = ("测试甲", "331004198001010016");
/// A synthetic person who is not on it.
pub const NOT_ON_THE_REGISTER: (&str, &str) = ("测试乙", "331004199002020026");

/// How long development certificates are valid.
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(365 * 86_400);

/// What to make.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where the gateway listens.
    pub gateway: SocketAddr,
    /// Where the simulated registry listens.
    pub registry: SocketAddr,
    /// Where the simulated registry of poverty households listens.
    pub poverty_registry: SocketAddr,
    /// Where the simulated court listens.
    pub court: SocketAddr,
    /// Whether to make a development PKI and the agencies of it; otherwise places for real certificates.
    pub development: bool,
    /// The organ that runs the gateway.
    pub organ: CreditCode,
    /// What the simulated court does.
    pub script: Script,
}

/// Why a folder cannot be made.
#[derive(Debug, Error)]
pub enum SetupError {
    /// There is something already.
    #[error("{0} is not empty; choose a new folder, nothing is overwritten")]
    NotEmpty(PathBuf),
    /// A file cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The development PKI.
    #[error(transparent)]
    Development(#[from] DevelopmentError),
    /// A value cannot be written as TOML.
    #[error(transparent)]
    Toml(#[from] toml::ser::Error),
    /// A code of this file is wrong.
    #[error(transparent)]
    Code(#[from] CreditCodeError),
    /// A purpose of this file is wrong.
    #[error(transparent)]
    Purpose(#[from] CodeError),
    /// A region of this file is wrong.
    #[error(transparent)]
    Region(#[from] RegionCodeError),
}

impl Setup {
    /// Makes the folder.
    ///
    /// # Errors
    /// When it is not empty or cannot be written.
    pub fn create(&self, folder: &Path, clock: &Clock) -> Result<(), SetupError> {
        if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(SetupError::NotEmpty(folder.to_owned()));
        }
        for sub in ["keys", "tls"] {
            let path = folder.join(sub);
            fs::create_dir_all(&path).map_err(|source| SetupError::Write { path, source })?;
        }
        restrict(folder).map_err(|source| SetupError::Write { path: folder.to_owned(), source })?;
        let keys = KeysSection {
            log: folder.join("keys/log.key"),
            body: folder.join("keys/body.key"),
            pseudonym: folder.join("keys/pseudonym.key"),
            pseudonym_earlier: Vec::new(),
        };
        let origin = format!("{}.legal-aid-exchange", self.organ);
        Secrets::create(&keys, &origin)
            .map_err(|source| SetupError::Write { path: folder.join("keys"), source })?;
        write(folder, "gateway.toml", &self.gateway_toml())?;
        if self.development {
            self.development_agencies(folder, clock)?;
        } else {
            write(folder, "tls/README.md", REAL_CERTIFICATES)?;
            write(folder, "directory.toml", EMPTY_DIRECTORY)?;
        }
        Ok(())
    }

    fn gateway_toml(&self) -> String {
        let Self { organ, gateway, .. } = self;
        let (certificate, key, authorities) = if self.development {
            ("tls/gateway.crt.pem", "tls/gateway.key.pem", "tls/authority.crt.pem")
        } else {
            ("tls/gateway.crt.pem", "tls/gateway.key.pem", "tls/authorities.pem")
        };
        let development = if self.development {
            "development = true                  # certificates of a development authority are believed: no real data here"
        } else {
            "# development = true                # believes certificates of development authorities: never with real data"
        };
        format!(
            r#"# The gateway's configuration. Paths are relative to this file. A variable
# LEGAL_AID_GATEWAY__SECTION__KEY replaces a key. What is commented out shows its default, or an example.

[gateway]
agency = "{organ}"         # unified social credit code; the certificate must name it
listen = "{gateway}"
directory = "directory.toml"        # agencies and agreements; read again when it changes
# node = "gateway-1"
{development}

[tls]
certificate = "{certificate}"
private_key = "{key}"
authorities = "{authorities}"
# revocations = ["tls/revoked.crl.pem"]   # all of [tls] is read again when a file changes
# warn_before_days = 30             # before a certificate or a revocation list ends

[store]
database = "gateway.db"             # or "postgres://user@host/database?sslmode=verify-full&sslrootcert=tls/database-ca.crt",
                                    # which several gateways may share; sslcert= and sslkey= name the gateway's own
# standby = "postgres://…"            # a hot standby of that, from which searches of the audit log read
# trusted_network = false             # true: the network to these servers is protected by other means than TLS

[keys]
log = "keys/log.key"                # or "credential:NAME", as systemd's LoadCredential= hands it over; [tls] too
body = "keys/body.key"              # `keys rotate` adds a key
pseudonym = "keys/pseudonym.key"    # `keys rotate --pseudonyms` adds a key
# pseudonym_earlier = ["keys/pseudonym-2026.key"]   # after a rotation: the keys of before, newest first

[audit]
checkpoint = "checkpoint"           # newest checkpoint outside the database: a restored backup is noticed
# queue = 4096

[audit.tiles]                       # the log as C2SP tiles over HTTPS for auditors; off unless it listens
# listen = "0.0.0.0:8451"
# requests = 64
# requests_per_agency = 16

[findings]                          # what `audit findings` speaks of: docs/findings.md
# office_from = "08:00"
# office_until = "18:00"
# look_back_days = 90
# traffic = 100
# bulk_look_ups = {{ threshold = 200, window = "1h" }}
# out_of_hours = {{ on = true, threshold = 3 }}

[limits]
# calls = 2048
# calls_per_agency = 512
# message_bytes = 1048576
# default_deadline = "10s"
# longest_deadline = "60s"
# longest_stream = "1h"
# stream_idle = "30s"
# heartbeat = "15s"
# handshake = "10s"
# first_byte = "10s"
# pending_handshakes = 256
# pending_handshakes_per_address = 64
# connection_age = "6h"
# drain = "10s"
# keep_outcomes = "168h"

[front_door]                        # connections and what they may hold: docs/front-door.md; `config print` shows all
# connections = 4096
# connections_per_agency = 128
# request_body = "20s"
# answer_read = "30s"
# connection_idle = "10m"
# buffered_bytes = 134217728
# buffered_bytes_per_agency = 16777216

[delivery]
# attempt = "10s"
# lease = "60s"
# first_retry = "1s"
# longest_retry = "15m"
# give_up_after = "168h"
# per_recipient = 32

[attachments]
# most_bytes = 268435456
# most_per_agency = 10000
# most_bytes_per_agency = 68719476736
# keep_unfinished = "24h"

[verification]                      # how a registry that was down is asked again
# attempt = "10s"
# first_retry = "30s"
# longest_retry = "1h"
# give_up_after = "72h"
# at_once = 4

[upstream]                          # registries that fail, and each caller's share of them: docs/operations.md
# failures = 5
# pause = "1s"
# longest_pause = "30s"
# stalled_after = "5s"
# questions = 256
# questions_per_caller = 128

[agreements]                        # docs/agreements.md
# two_person = true                 # what one operator puts in waits for the approval of another; off unless set

[eligibility]
# rules = "eligibility"            # a folder of rule sets beside the built-in ones; SIGHUP reads it again

[clocks]
# rules = "clocks.toml"             # read at start: time limits beside, or in the place of, the built-in ones
# holidays = "holidays.toml"        # in the place of the built-in ones

[security]
# core_dumps = true                 # lets a crash leave the memory, keys and persons in it, on the disk

[retention]                         # in months, at least 36; goes with `audit prune`
# months = 36
# kinds = {{ FEE_WAIVER = 120 }}
# methods = {{ SubmitExchange = 60 }}
# detached = "drop"                 # or "keep": with PostgreSQL, partitions of the log that a pruning has taken out of it

[metrics]
# listen = "127.0.0.1:9464"         # GET /metrics for Prometheus, GET /ready for balancers; off unless set

# [traces]                          # spans to a collector; only in a build with `--features otlp`
# endpoint = "http://127.0.0.1:4317"

# [audit.witnesses]                 # who cosigns the log; see docs/witnesses.md
# quorum = 1
# warn_after = "10m"
# stop_after = "4h"                 # off unless set: past it no new work is taken
# submit_every = "1s"
# attempt = "10s"
# longest_retry = "60s"
# [[audit.witnesses.witness]]
# key = "name+hash+base64"          # as `witness init` printed it there
# agency = "…"                      # the organ that runs it
# address = "host:port"
# server_name = "host"

# [witness]                         # cosigning other parties' logs, on a listener of its own
# listen = "0.0.0.0:8452"
# key = "keys/witness.key"          # `witness init` makes one
# state = "witness"
# [[witness.log]]
# key = "origin+hash+base64"        # as `audit key` prints it at the log
# agency = "…"                      # the organ that runs the log
"#
        )
    }

    fn development_agencies(&self, folder: &Path, clock: &Clock) -> Result<(), SetupError> {
        let now = clock.now();
        let authority = DevelopmentAuthority::create("legal-aid exchange", now)?;
        let tls = folder.join("tls");
        authority.save(&tls)?;
        let parties = [
            ("gateway", self.organ),
            ("centre", CreditCode::parse(codes::CENTRE)?),
            ("court", CreditCode::parse(codes::COURT)?),
            ("procuratorate", CreditCode::parse(codes::PROCURATORATE)?),
            ("registry", CreditCode::parse(codes::REGISTRY)?),
            ("poverty-registry", CreditCode::parse(codes::POVERTY_REGISTRY)?),
            ("auditor", CreditCode::parse(codes::AUDITOR)?),
            ("operator", CreditCode::parse(codes::OPERATOR)?),
            ("neighbour", CreditCode::parse(codes::NEIGHBOUR)?),
            ("stranger", CreditCode::parse(codes::STRANGER)?),
        ];
        for (name, code) in parties {
            let issued = authority.issue(code, name, &["localhost"], now, CERTIFICATE_LIFETIME)?;
            issued.write_to(&tls, name)?;
            if name != "gateway" {
                write(folder, &format!("{name}.toml"), &toml::to_string(&self.profile(name, code))?)?;
            }
        }
        let today = crate::grpc::wire::shanghai_day(now);
        write(folder, "directory.toml", &toml::to_string(&self.directory(today)?)?)?;
        let registry = RegistryConfig {
            listen: self.registry,
            profile: "registry.toml".into(),
            name: "模拟民政系统".to_owned(),
            register: Register::LowIncome,
            behaviour: Behaviour::Honest,
            answer_after_ms: 0,
            script: None,
            made_up: None,
            households: examples::households(),
        };
        write(folder, "simulate-registry.toml", &toml::to_string(&registry)?)?;
        let poverty_registry = RegistryConfig {
            listen: self.poverty_registry,
            profile: "poverty-registry.toml".into(),
            name: "模拟乡村振兴系统".to_owned(),
            register: Register::PovertyHousehold,
            ..registry
        };
        write(folder, "simulate-poverty-registry.toml", &toml::to_string(&poverty_registry)?)?;
        let clerk = |profile: &str, listen, purpose: Option<&str>| ClerkConfig {
            listen,
            profile: profile.into(),
            purpose: purpose.map(str::to_owned),
            script: self.script,
            steps: Steps::new(),
            papers: Papers::new(),
        };
        let appeals = Some(purposes::APPEAL_REFERRAL);
        for (file, config) in [
            ("simulate-court.toml", clerk("court.toml", Some(self.court), None)),
            ("simulate-procuratorate.toml", clerk("procuratorate.toml", None, appeals)),
            ("simulate-centre.toml", clerk("centre.toml", None, appeals)),
            ("simulate-neighbour.toml", clerk("neighbour.toml", None, Some(purposes::COOPERATION))),
        ] {
            write(folder, file, &toml::to_string(&config)?)?;
        }
        write(folder, "query.json", &examples::query(today))?;
        write(folder, "poverty-query.json", &examples::poverty_query(today))?;
        write(folder, "case.json", &examples::case(today))?;
        write(folder, "fee-waiver.json", &examples::fee_waiver(today, now))?;
        Ok(())
    }

    fn profile(&self, name: &str, code: CreditCode) -> Profile {
        let region = if name == "neighbour" { "331002" } else { "331004" };
        Profile {
            agency: code,
            region: region.to_owned(),
            operator: ProfileOperator { staff_number: format!("{name}-01"), unit: "main".to_owned() },
            gateway: ProfileGateway {
                agency: self.organ,
                address: self.gateway.to_string(),
                server_name: "localhost".to_owned(),
            },
            tls: ProfileTls {
                certificate: format!("tls/{name}.crt.pem").into(),
                private_key: format!("tls/{name}.key.pem").into(),
                authorities: "tls/authority.crt.pem".into(),
            },
        }
    }

    fn directory(&self, today: Date) -> Result<DirectoryFile, SetupError> {
        let agency = |code: CreditCode, name: &str, kind, region: &str, at: Option<SocketAddr>| {
            Ok::<_, SetupError>(Agency {
                code,
                name: name.to_owned(),
                kind,
                region: RegionCode::parse(region)?,
                status: AgencyStatus::Active,
                endpoint: at.map(|address| AgencyEndpoint {
                    address: address.to_string(),
                    server_name: "localhost".to_owned(),
                }),
                certificates: Vec::new(),
            })
        };
        let [centre, court, registry, auditor] =
            [codes::CENTRE, codes::COURT, codes::REGISTRY, codes::AUDITOR].map(CreditCode::parse);
        let (centre, court, registry, auditor) = (centre?, court?, registry?, auditor?);
        let procuratorate = CreditCode::parse(codes::PROCURATORATE)?;
        let operator = CreditCode::parse(codes::OPERATOR)?;
        let neighbour = CreditCode::parse(codes::NEIGHBOUR)?;
        let poverty_registry = CreditCode::parse(codes::POVERTY_REGISTRY)?;
        let agreement = |id: &str,
                         caller: CreditCode,
                         methods: &[Method],
                         counterparts: &[CreditCode],
                         agreed: &[&str]| {
            let until = today.saturating_add(jiff::Span::new().years(1));
            Ok::<_, SetupError>(Agreement {
                methods: methods.to_vec(),
                counterparts: counterparts.iter().copied().map(Party::Agency).collect(),
                purposes: agreed.iter().map(|code| PurposeCode::parse(code)).collect::<Result<_, _>>()?,
                batch: methods
                    .contains(&Method::BatchVerify)
                    .then_some(BatchTerms { at_once: 16, per_second: 500 }),
                ..Agreement::new(id, 1, caller, (today, until))
            })
        };
        use Method as M;
        let reading = [
            M::GetExchange,
            M::ListExchanges,
            M::PullDeliveries,
            M::AcknowledgeDelivery,
            M::RespondToExchange,
            M::WatchExchanges,
            M::UploadAttachment,
            M::GetUpload,
            M::DownloadAttachment,
            M::ExportEvidence,
            M::GetReceipt,
            M::OpenEntry,
        ];
        let before_court = &[purposes::FEE_WAIVER, purposes::JUDICIAL_RELIEF];
        let appealing = &[purposes::APPEAL_REFERRAL];
        let assigning = &[purposes::COUNSEL_ASSIGNMENT];
        let cooperating = &[purposes::COOPERATION];
        let submitting = [&reading[..], &[M::SubmitExchange]].concat();
        let verifying = [
            M::VerifyLowIncome,
            M::VerifyPovertyHousehold,
            M::BatchVerify,
            M::GetVerification,
            M::AssessEligibility,
            M::PullDeliveries,
            M::AcknowledgeDelivery,
            M::GetReceipt,
            M::OpenEntry,
        ];
        let auditing = [
            M::ListEntries,
            M::GetEntry,
            M::GetCheckpoint,
            M::GetInclusionProof,
            M::GetConsistencyProof,
            M::GetEntries,
            M::GetTile,
            M::ExportEvidence,
            M::GetReceipt,
            M::OpenEntry,
            M::ListFindings,
            M::MarkFinding,
        ];
        let managing = [M::EraseRecords, M::PruneLog, M::GetRemoval];
        let operating = [
            M::RedeliverExchange,
            M::ListDeliveries,
            M::GetDelivery,
            M::RetryDelivery,
            M::PutAgreement,
            M::ApproveAgreement,
            M::EndAgreement,
            M::GetAgreement,
            M::ListAgreements,
            M::ExplainAgreement,
        ];
        Ok(DirectoryFile {
            units: Vec::new(),
            operators: Vec::new(),
            agencies: vec![
                agency(centre, "模拟法律援助中心", AgencyKind::LegalAidCentre, "331004", None)?,
                agency(court, "模拟人民法院", AgencyKind::Court, "331004", Some(self.court))?,
                agency(procuratorate, "模拟人民检察院", AgencyKind::Procuratorate, "331004", None)?,
                agency(
                    registry,
                    "模拟民政系统",
                    AgencyKind::CivilAffairsRegistry,
                    "331000",
                    Some(self.registry),
                )?,
                agency(
                    poverty_registry,
                    "模拟乡村振兴系统",
                    AgencyKind::PovertyRegistry,
                    "331000",
                    Some(self.poverty_registry),
                )?,
                agency(auditor, "模拟审计机关", AgencyKind::Auditor, "331000", None)?,
                agency(operator, "模拟运维单位", AgencyKind::Operator, "331000", None)?,
                agency(neighbour, "模拟邻区法律援助中心", AgencyKind::LegalAidCentre, "331002", None)?,
            ],
            agreements: vec![
                agreement(
                    "DEV-VERIFY",
                    centre,
                    &verifying,
                    &[registry, poverty_registry],
                    &[purposes::AID_ELIGIBILITY],
                )?,
                agreement("DEV-CENTRE-COURT", centre, &submitting, &[court], before_court)?,
                agreement("DEV-COURT-CENTRE", court, &reading, &[centre], before_court)?,
                agreement("DEV-CENTRE-PROCURATORATE", centre, &submitting, &[procuratorate], appealing)?,
                agreement("DEV-PROCURATORATE-CENTRE", procuratorate, &submitting, &[centre], appealing)?,
                agreement("DEV-COURT-COUNSEL", court, &submitting, &[centre], assigning)?,
                agreement("DEV-PROCURATORATE-COUNSEL", procuratorate, &submitting, &[centre], assigning)?,
                agreement("DEV-CENTRE-COUNSEL", centre, &reading, &[court, procuratorate], assigning)?,
                agreement("DEV-CENTRE-COOPERATION", centre, &submitting, &[neighbour], cooperating)?,
                agreement("DEV-NEIGHBOUR-COOPERATION", neighbour, &submitting, &[centre], cooperating)?,
                agreement("DEV-OPERATOR", operator, &operating, &[], &[purposes::GATEWAY_OPERATION])?,
                agreement("DEV-AUDIT", auditor, &auditing, &[], &[purposes::AUDIT_INSPECTION])?,
                agreement("DEV-RECORDS", operator, &managing, &[], &[purposes::RECORDS_MANAGEMENT])?,
            ],
        })
    }
}

fn write<T: AsRef<[u8]> + ?Sized>(folder: &Path, name: &str, content: &T) -> Result<(), SetupError> {
    let path = folder.join(name);
    fs::write(&path, content).map_err(|source| SetupError::Write { path, source })
}

/// The folder holds keys and example persons: its owner's alone.
#[cfg(unix)]
fn restrict(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn restrict(_: &Path) -> io::Result<()> {
    Ok(())
}
