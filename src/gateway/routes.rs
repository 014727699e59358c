//! The services, and the paths that lead to them.

use std::sync::Arc;

use tonic_health::server::HealthReporter;

use crate::config::Config;
use crate::grpc::proto::agreement_service_server::AgreementServiceServer;
use crate::grpc::proto::attachment_service_server::AttachmentServiceServer;
use crate::grpc::proto::audit_service_server::AuditServiceServer;
use crate::grpc::proto::eligibility_service_server::EligibilityServiceServer;
use crate::grpc::proto::exchange_service_server::ExchangeServiceServer;
use crate::grpc::proto::verification_service_server::VerificationServiceServer;
use crate::grpc::{Agreements, Attachments, Audit, Eligibility, Exchanges, Intake, Verification};

/// Every service of the contract, and standard health checking with who tells it what to say.
pub(super) fn routes(intake: &Arc<Intake>, config: &Config) -> (tonic::service::Routes, HealthReporter) {
    let most = config.limits.message_bytes;
    let verification =
        VerificationServiceServer::new(Verification(Arc::clone(intake))).max_decoding_message_size(most);
    let eligibility =
        EligibilityServiceServer::new(Eligibility(Arc::clone(intake))).max_decoding_message_size(most);
    let exchange = ExchangeServiceServer::new(Exchanges(Arc::clone(intake))).max_decoding_message_size(most);
    let attachments =
        AttachmentServiceServer::new(Attachments(Arc::clone(intake))).max_decoding_message_size(most);
    let audit = AuditServiceServer::new(Audit(Arc::clone(intake))).max_decoding_message_size(most);
    let agreements =
        AgreementServiceServer::new(Agreements(Arc::clone(intake))).max_decoding_message_size(most);
    let (health, health_service) = tonic_health::server::health_reporter();
    let routes = tonic::service::Routes::new(verification)
        .add_service(eligibility)
        .add_service(exchange)
        .add_service(attachments)
        .add_service(audit)
        .add_service(agreements)
        .add_service(health_service);
    (routes, health)
}
