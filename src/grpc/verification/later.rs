//! Reading a verification that the gateway completes later.

use prost::Message;

use crate::access::Method;
use crate::domain::exchange::VerificationId;
use crate::domain::verification::VerificationState;
use crate::grpc::call::Call;
use crate::grpc::intake::{Intake, store_refusal};
use crate::grpc::operation::{Facts, Lookup, Operation, Reading};
use crate::grpc::proto;
use crate::grpc::proto::exchange_message::Body;
use crate::grpc::status::Refusal;
use crate::grpc::wire::{call_context, kind_of, timestamp, verification_id, verification_state};

/// `VerificationService.GetVerification`.
pub(super) struct GetVerification;

impl Operation for GetVerification {
    const METHOD: Method = Method::GetVerification;
    type Request = proto::GetVerificationRequest;
    type Response = proto::GetVerificationResponse;
    type Task = VerificationId;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<VerificationId> {
        reading.facts.of_context(call_context(&mut reading.violations, request.context.as_ref()));
        let id = verification_id(&mut reading.violations, "verification_id", &request.verification_id)?;
        reading.facts.exchange = Some(id.thread());
        Some(id)
    }
}

impl Lookup for GetVerification {
    async fn look_up(
        intake: &Intake,
        call: &Call,
        id: VerificationId,
        facts: &mut Facts,
    ) -> Result<Self::Response, Refusal> {
        let found = intake.store.verification(&id, &call.caller()).await;
        let record = found.map_err(|error| store_refusal(&error))?.ok_or(Refusal::NotFound)?;
        facts.kind = Some(record.kind);
        facts.of_found(record.registry);
        let outcome = match record.state {
            VerificationState::Pending => None,
            VerificationState::Answered | VerificationState::GivenUp => {
                let message = intake.store.message(&id.thread(), 1).await;
                let message = message.map_err(|error| store_refusal(&error))?;
                let message = proto::ExchangeMessage::decode(message.message.as_slice());
                match message.map_err(|_| Refusal::Internal)?.body {
                    Some(Body::Verification(outcome)) => Some(outcome),
                    _ => return Err(Refusal::Internal),
                }
            }
        };
        let verification = proto::Verification {
            verification_id: id.to_string(),
            kind: kind_of(record.kind).into(),
            state: verification_state(record.state).into(),
            registry: record.registry.to_string(),
            matter_id: record.matter_id,
            attempts: record.attempts,
            create_time: Some(timestamp(record.created)),
            update_time: Some(timestamp(record.updated)),
            outcome,
        };
        Ok(proto::GetVerificationResponse { verification: Some(verification), audit: None })
    }
}
