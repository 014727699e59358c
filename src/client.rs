//! An agency's own side: calling the gateway with the agency's certificate.

mod attachments;

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tonic::transport::Channel;

pub use self::attachments::{Paper, TransferError};
use crate::clock::Clock;
use crate::config::{ConfigError, load_table};
use crate::domain::agency::CreditCode;
use crate::entropy;
use crate::grpc::proto;
use crate::grpc::proto::agreement_service_client::AgreementServiceClient;
use crate::grpc::proto::attachment_service_client::AttachmentServiceClient;
use crate::grpc::proto::audit_service_client::AuditServiceClient;
use crate::grpc::proto::eligibility_service_client::EligibilityServiceClient;
use crate::grpc::proto::exchange_service_client::ExchangeServiceClient;
use crate::grpc::proto::verification_service_client::VerificationServiceClient;
use crate::identity::credentials::{Credentials, CredentialsError};
use crate::identity::dialler::{DialError, Dialler, Endpoint};

/// Largest answer that a client takes: a page of the audit log.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// How an agency reaches its gateway: a TOML file that `init` makes one of for each agency.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The agency's own credit code.
    pub agency: CreditCode,
    /// Region of its matters.
    pub region: String,
    /// Who acts.
    pub operator: ProfileOperator,
    /// The gateway's organ and address.
    pub gateway: ProfileGateway,
    /// Certificate, key and trusted authorities.
    pub tls: ProfileTls,
}

/// Who acts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileOperator {
    /// Staff number.
    pub staff_number: String,
    /// Unit or station.
    pub unit: String,
}

/// The gateway.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileGateway {
    /// Credit code that its certificate must name.
    pub agency: CreditCode,
    /// `host:port`.
    pub address: String,
    /// Name in its certificate.
    pub server_name: String,
}

/// PEM files, relative to the profile's folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileTls {
    /// Certificate chain.
    pub certificate: PathBuf,
    /// Private key.
    pub private_key: PathBuf,
    /// Trusted authorities.
    pub authorities: PathBuf,
}

/// Why a client cannot be made.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The profile.
    #[error(transparent)]
    Profile(#[from] ConfigError),
    /// Certificate or key.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The gateway's address.
    #[error(transparent)]
    Dial(#[from] DialError),
}

/// An agency that calls the gateway. Cheap to clone.
#[derive(Clone)]
pub struct AgencyClient {
    profile: Profile,
    channel: Channel,
    clock: Clock,
}

impl Profile {
    /// Reads a profile; its paths become absolute to its folder.
    ///
    /// # Errors
    /// When the file is missing or malformed.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let mut profile: Self = load_table(path, [])?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let tls = &mut profile.tls;
        for file in [&mut tls.certificate, &mut tls.private_key, &mut tls.authorities] {
            *file = folder.join(&*file);
        }
        Ok(profile)
    }

    /// Loads certificate and key.
    ///
    /// # Errors
    /// When one cannot be used.
    pub fn credentials(&self) -> Result<Credentials, CredentialsError> {
        Credentials::load(&self.tls.certificate, &self.tls.private_key, &self.tls.authorities)
    }

    /// Where and whom to dial.
    pub fn endpoint(&self) -> Endpoint {
        let ProfileGateway { agency, address, server_name } = self.gateway.clone();
        Endpoint { address, server_name, agency }
    }
}

impl AgencyClient {
    /// A client by its profile file; it connects with its first call.
    ///
    /// # Errors
    /// When profile or certificate cannot be used.
    pub fn load(profile: &Path, clock: Clock) -> Result<Self, ClientError> {
        Self::new(Profile::load(profile)?, clock)
    }

    /// A client by its profile; it connects with its first call.
    ///
    /// # Errors
    /// When the certificate cannot be used.
    pub fn new(profile: Profile, clock: Clock) -> Result<Self, ClientError> {
        let dialler = Dialler::new(&profile.credentials()?, clock.clone());
        let channel = dialler.channel(&profile.endpoint())?;
        Ok(Self { profile, channel, clock })
    }

    /// The profile.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// What time it is to this client.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Asks registers.
    pub fn verification(&self) -> VerificationServiceClient<Channel> {
        VerificationServiceClient::new(self.channel.clone())
    }

    /// Assesses applications.
    pub fn eligibility(&self) -> EligibilityServiceClient<Channel> {
        EligibilityServiceClient::new(self.channel.clone())
    }

    /// Exchanges with other agencies.
    pub fn exchanges(&self) -> ExchangeServiceClient<Channel> {
        ExchangeServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// Papers, up and down.
    pub fn attachments(&self) -> AttachmentServiceClient<Channel> {
        AttachmentServiceClient::new(self.channel.clone())
    }

    /// Keeps agreements.
    pub fn agreements(&self) -> AgreementServiceClient<Channel> {
        AgreementServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// Reads the audit log.
    pub fn audit(&self) -> AuditServiceClient<Channel> {
        AuditServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// A request with a deadline.
    pub fn request<M>(&self, message: M, deadline: Duration) -> tonic::Request<M> {
        let mut request = tonic::Request::new(message);
        request.set_timeout(deadline);
        request
    }

    /// A new request id.
    pub fn request_id(&self) -> String {
        entropy::uuid_v7(self.clock.now()).to_string()
    }

    /// The operator of the profile.
    pub fn operator(&self) -> proto::Operator {
        proto::Operator {
            staff_number: self.profile.operator.staff_number.clone(),
            name: String::new(),
            unit: self.profile.operator.unit.clone(),
        }
    }

    /// Context of a call without a message.
    pub fn context(&self, purpose: &str) -> proto::CallContext {
        proto::CallContext {
            request_id: self.request_id(),
            operator: Some(self.operator()),
            purpose: purpose.to_owned(),
        }
    }

    /// Fills in of an envelope what the profile knows and the caller left open.
    pub fn complete(&self, envelope: proto::Envelope) -> proto::Envelope {
        let or = |given: String, known: &dyn Fn() -> String| if given.is_empty() { known() } else { given };
        proto::Envelope {
            request_id: or(envelope.request_id, &|| self.request_id()),
            sender: or(envelope.sender, &|| self.profile.agency.to_string()),
            region: or(envelope.region, &|| self.profile.region.clone()),
            operator: envelope.operator.or_else(|| Some(self.operator())),
            schema_version: if envelope.schema_version == 0 { 1 } else { envelope.schema_version },
            ..envelope
        }
    }
}
