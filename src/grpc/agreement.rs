//! `AgreementService`: the operators' work on agreements.

mod book;
mod changes;
mod explaining;
mod reading;
pub(crate) mod terms;

use std::sync::Arc;

use tonic::{Request, Response, Status};

pub use self::book::AgreementBook;
use self::changes::{ApproveAgreement, EndAgreement, PutAgreement};
use self::explaining::ExplainAgreement;
use self::reading::{GetAgreement, ListAgreements};
use super::intake::Intake;
use super::proto;
use super::proto::agreement_service_server::AgreementService;

/// Implements the service.
#[derive(Clone)]
pub struct Agreements(pub Arc<Intake>);

#[tonic::async_trait]
impl AgreementService for Agreements {
    async fn put_agreement(
        &self,
        request: Request<proto::PutAgreementRequest>,
    ) -> Result<Response<proto::PutAgreementResponse>, Status> {
        let answer = self.0.carry_out::<PutAgreement>(request).await;
        self.0.agreements.follow().await;
        answer
    }

    async fn approve_agreement(
        &self,
        request: Request<proto::ApproveAgreementRequest>,
    ) -> Result<Response<proto::ApproveAgreementResponse>, Status> {
        let answer = self.0.carry_out::<ApproveAgreement>(request).await;
        self.0.agreements.follow().await;
        answer
    }

    async fn end_agreement(
        &self,
        request: Request<proto::EndAgreementRequest>,
    ) -> Result<Response<proto::EndAgreementResponse>, Status> {
        let answer = self.0.carry_out::<EndAgreement>(request).await;
        self.0.agreements.follow().await;
        answer
    }

    async fn get_agreement(
        &self,
        request: Request<proto::GetAgreementRequest>,
    ) -> Result<Response<proto::GetAgreementResponse>, Status> {
        self.0.look_up::<GetAgreement>(request).await
    }

    async fn list_agreements(
        &self,
        request: Request<proto::ListAgreementsRequest>,
    ) -> Result<Response<proto::ListAgreementsResponse>, Status> {
        self.0.look_up::<ListAgreements>(request).await
    }

    async fn explain_agreement(
        &self,
        request: Request<proto::ExplainAgreementRequest>,
    ) -> Result<Response<proto::ExplainAgreementResponse>, Status> {
        self.0.look_up::<ExplainAgreement>(request).await
    }
}

/// How the requests of these methods are read.
#[cfg(any(test, fuzzing))]
pub(super) const READERS: &[super::fuzzing::Reader] = &[
    super::fuzzing::reader::<PutAgreement>(),
    super::fuzzing::reader::<ApproveAgreement>(),
    super::fuzzing::reader::<EndAgreement>(),
    super::fuzzing::reader::<GetAgreement>(),
    super::fuzzing::reader::<ListAgreements>(),
    super::fuzzing::reader::<ExplainAgreement>(),
];
