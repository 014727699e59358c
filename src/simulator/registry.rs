//! A registry: of civil affairs, or of the rural-revitalisation organ.

mod script;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use tonic::{Request, Response, Status};

pub use self::script::{Behaviour, Scene, Script};
use super::{Serving, SimulatorError, people, start};
use crate::audit::entry::keyed_digest;
use crate::client::Profile;
use crate::clock::Clock;
use crate::config::load_table;
use crate::grpc::generated::google::r#type as google_type;
use crate::grpc::proto;
use crate::grpc::proto::registry_service_server::{RegistryService, RegistryServiceServer};
use crate::grpc::wire::{date, shanghai_day, timestamp};

/// Configuration: a TOML file that `init` makes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Profile of the registry: its certificate, and its gateway.
    pub profile: std::path::PathBuf,
    /// Its name for itself.
    pub name: String,
    /// Which register it keeps.
    #[serde(default)]
    pub register: Register,
    /// How it behaves where its script says nothing.
    #[serde(default)]
    pub behaviour: Behaviour,
    /// How long it takes to answer, in milliseconds.
    #[serde(default)]
    pub answer_after_ms: u64,
    /// How it behaves, question by question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<Script>,
    /// Households that are made up beside those of the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_up: Option<MadeUp>,
    /// Households on the register; synthetic.
    #[serde(default, rename = "household")]
    pub households: Vec<Household>,
}

/// Which register a registry keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Register {
    /// Low income, by civil affairs.
    #[default]
    LowIncome,
    /// Poverty households, by the rural-revitalisation organ.
    PovertyHousehold,
}

/// Households made up by [`people::person`]: the persons at places 0 to `households` - 1.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MadeUp {
    /// The seed.
    pub seed: u32,
    /// How many.
    pub households: u32,
    /// Where they are registered (GB/T 2260).
    pub region: String,
}

/// A household on the register.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Household {
    /// The person's name.
    pub name: String,
    /// The person's resident ID number.
    pub id_number: String,
    /// Number of members.
    pub size: u32,
    /// Number of the certificate.
    pub certificate_number: String,
    /// Draws the minimum living allowance until this day.
    pub valid_to: Date,
    /// How it stands on the register of poverty households, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poverty: Option<Poverty>,
}

/// How a household stands on the register of poverty households.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Poverty {
    /// Its village, twelve digits.
    pub village_code: String,
    /// As what it is registered: the name in the contract, without its prefix, such as `EDGE`.
    pub kind: String,
    /// When it was identified.
    pub identified_on: Date,
    /// When its risk was removed; otherwise the risk stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_on: Option<Date>,
}

impl std::fmt::Debug for Household {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Household(…)")
    }
}

/// Starts a registry by its configuration file.
///
/// # Errors
/// When the configuration, certificate or address cannot be used.
pub async fn serve_file(path: &Path, clock: Clock) -> Result<Serving, SimulatorError> {
    serve_script(path, None, clock).await
}

/// Starts a registry by its configuration file; a script file replaces the configuration's script.
///
/// # Errors
/// When configuration, script, certificate or address cannot be used.
pub async fn serve_script(
    path: &Path,
    script: Option<&Path>,
    clock: Clock,
) -> Result<Serving, SimulatorError> {
    let mut config: RegistryConfig = load_table(path, [])?;
    config.profile = path.parent().unwrap_or(Path::new(".")).join(&config.profile);
    if let Some(script) = script {
        config.script = Some(load_table(script, [])?);
    }
    serve_config(config, clock).await
}

/// Starts a registry.
///
/// # Errors
/// When the certificate or address cannot be used.
pub async fn serve_config(config: RegistryConfig, clock: Clock) -> Result<Serving, SimulatorError> {
    let profile = Profile::load(&config.profile)?;
    let listen = config.listen;
    let made_up = config.made_up.as_ref().map(households_of).unwrap_or_default();
    let households = made_up.into_iter().chain(config.households.iter().cloned());
    let households = households.map(|house| (house.id_number.clone(), house)).collect();
    let asked = Arc::new(AtomicU64::new(0));
    let registry =
        Registry { config: Arc::new(config), households: Arc::new(households), asked, clock: clock.clone() };
    start(&profile, listen, tonic::service::Routes::new(RegistryServiceServer::new(registry)), clock).await
}

/// The households that are made up.
fn households_of(made_up: &MadeUp) -> Vec<Household> {
    let household = |place| {
        let people::SyntheticPerson { name, id_number } =
            people::person(made_up.seed, &made_up.region, place);
        Household {
            name,
            id_number,
            size: 1 + place % 6,
            certificate_number: format!("DB-{place:06}"),
            valid_to: Date::constant(2099, 12, 31),
            poverty: Some(Poverty {
                village_code: format!("{}101201", made_up.region),
                kind: "UNSTABLE".to_owned(),
                identified_on: Date::constant(2021, 6, 1),
                removed_on: None,
            }),
        }
    };
    (0..made_up.households).map(household).collect()
}

#[derive(Clone)]
struct Registry {
    config: Arc<RegistryConfig>,
    /// By resident ID number.
    households: Arc<HashMap<String, Household>>,
    asked: Arc<AtomicU64>,
    clock: Clock,
}

/// What the registry makes of a question.
struct Finding<'r> {
    /// Whom its answer is about.
    name: String,
    id_number: String,
    household: Option<&'r Household>,
    /// Another result than the household's, with its reason.
    instead: Option<(proto::VerificationResult, &'static str)>,
    /// Its name for itself; every answer must have it.
    source: String,
}

#[tonic::async_trait]
impl RegistryService for Registry {
    async fn query_low_income(
        &self,
        request: Request<proto::QueryLowIncomeRequest>,
    ) -> Result<Response<proto::QueryLowIncomeResponse>, Status> {
        let request = request.into_inner();
        let query = request.query.ok_or_else(|| Status::invalid_argument("no query"))?;
        let found = self.look_up(Register::LowIncome, query.subject).await?;
        let answer = self.low_income(&query.programmes, &found);
        Ok(Response::new(proto::QueryLowIncomeResponse {
            answer: Some(answer),
            name_echo: keyed_digest(&request.echo_key, found.name.as_bytes()).to_vec(),
            id_number_echo: keyed_digest(&request.echo_key, found.id_number.as_bytes()).to_vec(),
        }))
    }

    async fn query_poverty_household(
        &self,
        request: Request<proto::QueryPovertyHouseholdRequest>,
    ) -> Result<Response<proto::QueryPovertyHouseholdResponse>, Status> {
        let request = request.into_inner();
        let query = request.query.ok_or_else(|| Status::invalid_argument("no query"))?;
        let found = self.look_up(Register::PovertyHousehold, query.subject).await?;
        let answer = self.poverty_household(&found);
        Ok(Response::new(proto::QueryPovertyHouseholdResponse {
            answer: Some(answer),
            name_echo: keyed_digest(&request.echo_key, found.name.as_bytes()).to_vec(),
            id_number_echo: keyed_digest(&request.echo_key, found.id_number.as_bytes()).to_vec(),
        }))
    }
}

impl Registry {
    /// Behaves as the script says, and looks the person up.
    async fn look_up(
        &self,
        register: Register,
        subject: Option<proto::Subject>,
    ) -> Result<Finding<'_>, Status> {
        if register != self.config.register {
            return Err(Status::unimplemented("this registry does not keep that register"));
        }
        let subject = subject.ok_or_else(|| Status::invalid_argument("no subject"))?;
        let question = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let (scripted, slow) = self.config.script.as_ref().map_or((None, 0), |script| script.on(question));
        let wait = self.config.answer_after_ms + slow;
        if wait > 0 {
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
        let mut found = Finding {
            name: subject.name,
            id_number: subject.id_number,
            household: None,
            instead: None,
            source: self.config.name.clone(),
        };
        match scripted.unwrap_or(self.config.behaviour) {
            Behaviour::Honest => {}
            Behaviour::WrongPerson => {
                found.name = "另一人".to_owned();
                found.id_number = "331004197005050053".to_owned();
            }
            Behaviour::Silent => std::future::pending().await,
            Behaviour::Down => return Err(Status::unavailable("out of service")),
            Behaviour::Fails => {
                let text = format!("record of {} ({}) is locked", found.name, found.id_number);
                return Err(Status::internal(text));
            }
            Behaviour::Refuse => {
                found.instead = Some((proto::VerificationResult::Refused, "DECLINED"));
            }
            Behaviour::Ambiguous => {
                found.instead = Some((proto::VerificationResult::Ambiguous, "SEVERAL_PERSONS"));
            }
            Behaviour::Malformed => found.source.clear(),
        }
        if found.instead.is_none() {
            let household = self.households.get(&found.id_number);
            found.household = household.filter(|household| household.name == found.name);
        }
        Ok(found)
    }

    fn low_income(&self, programmes: &[i32], found: &Finding<'_>) -> proto::LowIncomeAnswer {
        let now = self.clock.now();
        let today = shanghai_day(now);
        let (result, reason) = found.instead.unwrap_or((proto::VerificationResult::NoMatch, ""));
        let bare = proto::LowIncomeAnswer {
            result: result.into(),
            reason: reason.to_owned(),
            data_as_of: Some(timestamp(now)),
            valid_from: Some(date(today)),
            valid_until: Some(date(valid_until(today))),
            source: found.source.clone(),
            ..Default::default()
        };
        let Some(household) = found.household else { return bare };
        let status = |programme: &i32| {
            let allowance = *programme == proto::Programme::MinimumAllowance as i32;
            let active = allowance && household.valid_to >= today;
            proto::ProgrammeStatus {
                programme: *programme,
                status: match (allowance, active) {
                    (true, true) => proto::RegisterStatus::Active,
                    (true, false) => proto::RegisterStatus::Stopped,
                    (false, _) => proto::RegisterStatus::Never,
                }
                .into(),
                certificate_number: if allowance {
                    household.certificate_number.clone()
                } else {
                    String::new()
                },
                valid_from: None,
                valid_to: allowance.then(|| date(household.valid_to)),
                organ: if allowance { self.config.name.clone() } else { String::new() },
            }
        };
        proto::LowIncomeAnswer {
            result: proto::VerificationResult::Match.into(),
            programmes: programmes.iter().map(status).collect(),
            household_size: Some(household.size),
            income_band: proto::IncomeBand::WithinLine.into(),
            line_fen: Some(120_000),
            line_in_force_from: Some(google_type::Date { year: 2025, month: 7, day: 1 }),
            ..bare
        }
    }

    fn poverty_household(&self, found: &Finding<'_>) -> proto::PovertyHouseholdAnswer {
        let now = self.clock.now();
        let today = shanghai_day(now);
        let (result, reason) = found.instead.unwrap_or((proto::VerificationResult::NoMatch, ""));
        let bare = proto::PovertyHouseholdAnswer {
            result: result.into(),
            reason: reason.to_owned(),
            data_as_of: Some(timestamp(now)),
            valid_from: Some(date(today)),
            valid_until: Some(date(valid_until(today))),
            source: found.source.clone(),
            ..Default::default()
        };
        let Some((household, poverty)) =
            found.household.and_then(|household| Some((household, household.poverty.as_ref()?)))
        else {
            return bare;
        };
        let kind = format!("POVERTY_HOUSEHOLD_KIND_{}", poverty.kind);
        let risk = match poverty.removed_on {
            Some(_) => proto::PovertyRisk::Removed,
            None => proto::PovertyRisk::Open,
        };
        proto::PovertyHouseholdAnswer {
            result: proto::VerificationResult::Match.into(),
            kind: proto::PovertyHouseholdKind::from_str_name(&kind).unwrap_or_default().into(),
            risk: risk.into(),
            identified_on: Some(date(poverty.identified_on)),
            removed_on: poverty.removed_on.map(date),
            village_code: poverty.village_code.clone(),
            household_size: Some(household.size),
            ..bare
        }
    }
}

fn valid_until(today: Date) -> Date {
    today.saturating_add(jiff::Span::new().days(90))
}
