//! A civil-affairs registry.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use tonic::{Request, Response, Status};

use super::{Serving, SimulatorError, start};
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
    /// How it behaves.
    #[serde(default)]
    pub behaviour: Behaviour,
    /// How long it takes to answer, in milliseconds.
    #[serde(default)]
    pub answer_after_ms: u64,
    /// Households on the register; synthetic.
    #[serde(default, rename = "household")]
    pub households: Vec<Household>,
}

/// How a simulated registry behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Behaviour {
    /// It answers truthfully.
    #[default]
    Honest,
    /// It answers about another person.
    WrongPerson,
    /// It answers with an error whose text names the person: a peer's text must not get out of the gateway.
    Fails,
    /// It never answers.
    Silent,
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
    let mut config: RegistryConfig = load_table(path, [])?;
    config.profile = path.parent().unwrap_or(Path::new(".")).join(&config.profile);
    serve_config(config, clock).await
}

/// Starts a registry.
///
/// # Errors
/// When the certificate or address cannot be used.
pub async fn serve_config(config: RegistryConfig, clock: Clock) -> Result<Serving, SimulatorError> {
    let profile = Profile::load(&config.profile)?;
    let listen = config.listen;
    let registry = Registry { config: Arc::new(config), clock: clock.clone() };
    start(&profile, listen, tonic::service::Routes::new(RegistryServiceServer::new(registry)), clock).await
}

#[derive(Clone)]
struct Registry {
    config: Arc<RegistryConfig>,
    clock: Clock,
}

#[tonic::async_trait]
impl RegistryService for Registry {
    async fn query_low_income(
        &self,
        request: Request<proto::QueryLowIncomeRequest>,
    ) -> Result<Response<proto::QueryLowIncomeResponse>, Status> {
        let request = request.into_inner();
        let query = request.query.ok_or_else(|| Status::invalid_argument("no query"))?;
        let subject = query.subject.ok_or_else(|| Status::invalid_argument("no subject"))?;
        if self.config.answer_after_ms > 0 {
            tokio::time::sleep(Duration::from_millis(self.config.answer_after_ms)).await;
        }
        let (name, id_number) = match self.config.behaviour {
            Behaviour::Honest => (subject.name.as_str(), subject.id_number.as_str()),
            Behaviour::WrongPerson => ("另一人", "331004197005050053"),
            Behaviour::Silent => std::future::pending().await,
            Behaviour::Fails => {
                let text = format!("record of {} ({}) is locked", subject.name, subject.id_number);
                return Err(Status::internal(text));
            }
        };
        let household =
            self.config.households.iter().find(|house| house.id_number == id_number && house.name == name);
        let answer = self.answer(&query.programmes, household);
        Ok(Response::new(proto::QueryLowIncomeResponse {
            answer: Some(answer),
            name_echo: keyed_digest(&request.echo_key, name.as_bytes()).to_vec(),
            id_number_echo: keyed_digest(&request.echo_key, id_number.as_bytes()).to_vec(),
        }))
    }
}

impl Registry {
    fn answer(&self, programmes: &[i32], household: Option<&Household>) -> proto::LowIncomeAnswer {
        let now = self.clock.now();
        let today = shanghai_day(now);
        let valid_until = today.saturating_add(jiff::Span::new().days(90));
        let bare = proto::LowIncomeAnswer {
            result: proto::VerificationResult::NoMatch.into(),
            data_as_of: Some(timestamp(now)),
            valid_from: Some(date(today)),
            valid_until: Some(date(valid_until)),
            source: self.config.name.clone(),
            ..Default::default()
        };
        let Some(household) = household else { return bare };
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
}
