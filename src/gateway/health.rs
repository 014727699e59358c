//! What standard health checking says of each service.

use tokio::sync::watch;
use tonic_health::server::HealthReporter;

use crate::audit::witnessed::Standing;
use crate::grpc::proto::attachment_service_server::AttachmentServiceServer;
use crate::grpc::proto::eligibility_service_server::EligibilityServiceServer;
use crate::grpc::proto::exchange_service_server::ExchangeServiceServer;
use crate::grpc::proto::verification_service_server::VerificationServiceServer;
use crate::grpc::{Attachments, Eligibility, Exchanges, Verification};

/// Says of the services that take work whether they do.
pub(super) async fn show(health: &HealthReporter, stopped: bool) {
    if stopped {
        health.set_not_serving::<VerificationServiceServer<Verification>>().await;
        health.set_not_serving::<EligibilityServiceServer<Eligibility>>().await;
        health.set_not_serving::<ExchangeServiceServer<Exchanges>>().await;
        health.set_not_serving::<AttachmentServiceServer<Attachments>>().await;
    } else {
        health.set_serving::<VerificationServiceServer<Verification>>().await;
        health.set_serving::<EligibilityServiceServer<Eligibility>>().await;
        health.set_serving::<ExchangeServiceServer<Exchanges>>().await;
        health.set_serving::<AttachmentServiceServer<Attachments>>().await;
    }
}

/// Services that take work are not serving while the witnesses lag too far behind. The audit log can be read on.
pub(super) async fn follow(health: HealthReporter, mut witnesses: watch::Receiver<Standing>) {
    loop {
        let stopped = witnesses.borrow_and_update().stopped;
        show(&health, stopped).await;
        if witnesses.wait_for(|standing| standing.stopped != stopped).await.is_err() {
            return;
        }
    }
}
