//! `VerificationService`.

mod batch;
mod kinds;
mod later;

use std::marker::PhantomData;
use std::sync::Arc;

use jiff::Timestamp;
use prost::Message;
use tonic::{Request, Response, Status, Streaming};

use self::batch::BatchVerify;
pub use self::batch::Paces;
use self::kinds::Verifiable;
use self::later::GetVerification;
use super::call::Call;
use super::intake::streams::Items;
use super::intake::{Intake, RESERVE};
use super::operation::{Done, Effectful, Facts, Operation, Reading};
use super::proto;
use super::proto::verification_service_server::VerificationService;
use super::status::Refusal;
use super::wire::{Expectation, RegisterAnswer as _, check_minor, envelope, shanghai_day};
use crate::access::{Agency, Agreement, Method};
use crate::delivery::registry::{self, LowIncome, PovertyHousehold};
use crate::domain::agency::CreditCode;
use crate::domain::envelope::Envelope;
use crate::domain::exchange::VerificationId;
use crate::domain::verification::{AnswerField, HouseholdQuery};
use crate::domain::violation::Violations;
use crate::entropy;
use crate::store::{Effect, NewVerification};

/// Implements the service.
#[derive(Clone)]
pub struct Verification(pub Arc<Intake>);

#[tonic::async_trait]
impl VerificationService for Verification {
    async fn verify_low_income(
        &self,
        request: Request<proto::VerifyLowIncomeRequest>,
    ) -> Result<Response<proto::VerifyLowIncomeResponse>, Status> {
        self.0.carry_out::<Verify<LowIncome>>(request).await
    }

    async fn verify_poverty_household(
        &self,
        request: Request<proto::VerifyPovertyHouseholdRequest>,
    ) -> Result<Response<proto::VerifyPovertyHouseholdResponse>, Status> {
        self.0.carry_out::<Verify<PovertyHousehold>>(request).await
    }

    type BatchVerifyStream = Items<proto::BatchVerifyResponse>;

    async fn batch_verify(
        &self,
        request: Request<Streaming<proto::BatchVerifyRequest>>,
    ) -> Result<Response<Self::BatchVerifyStream>, Status> {
        self.0.carry_out_both_ways::<BatchVerify>(request).await
    }

    async fn get_verification(
        &self,
        request: Request<proto::GetVerificationRequest>,
    ) -> Result<Response<proto::GetVerificationResponse>, Status> {
        self.0.look_up::<GetVerification>(request).await
    }
}

/// Asks the register `V` about a household.
struct Verify<V>(PhantomData<V>);

/// A verification as read.
struct Asked<V: Verifiable> {
    /// The question for the registry, until it is asked.
    question: Option<V::Question>,
    asked: HouseholdQuery,
    envelope: Envelope,
    registry: Option<Agency>,
    complete_later: bool,
    /// By which it is asked, and what of the answer that does not disclose.
    allowed_by: Option<Arc<Agreement>>,
    withheld: Vec<AnswerField>,
}

impl<V: Verifiable> Operation for Verify<V> {
    const METHOD: Method = V::OF;
    type Request = V::Request;
    type Response = V::Response;
    type Task = Asked<V>;

    fn read(request: V::Request, reading: &mut Reading) -> Option<Asked<V>> {
        let Reading { caller, now, violations, facts } = reading;
        let (wire, query, complete_later) = V::of_request(request);
        let expect = Expectation { caller: *caller, recipient_optional: true, is_response: false };
        let envelope = envelope(violations, wire.as_ref(), expect);
        facts.of_envelope(&envelope);
        if envelope.kind.is_some_and(|kind| kind != V::KIND) {
            let (english, chinese) = V::MUST_BE;
            violations.add("envelope.kind", "KIND_FITS_CONTENT", english, chinese);
        }
        let asked = V::read(violations, query.as_ref(), *now);
        facts.programmes = query.as_ref().map(V::programmes).unwrap_or_default();
        facts.subject = asked.as_ref().map(|asked| asked.subject.id.clone());
        check_minor(violations, wire.as_ref(), facts.subject.as_ref(), shanghai_day(*now));
        let envelope = envelope.whole()?;
        let asked = asked?;
        let question = registry::question::<V>(wire?, query?, &asked);
        Some(Asked {
            question: Some(question),
            asked,
            envelope,
            registry: None,
            complete_later,
            allowed_by: None,
            withheld: Vec::new(),
        })
    }
}

impl<V: Verifiable> Effectful for Verify<V> {
    /// Routes by the household's region, unless the caller names the registry.
    async fn prepare(
        intake: &Intake,
        _: &Call,
        task: &mut Asked<V>,
        facts: &mut Facts,
    ) -> Result<(), Refusal> {
        let directory = intake.directory.load();
        let is_registry = |agency: &&Agency| agency.kind == V::KEEPER;
        let registry = match &task.envelope.recipient {
            Some(code) if directory.is_active(code) => directory.agency(code).filter(is_registry),
            Some(_) => None,
            None => directory.responsible(V::KEEPER, task.asked.subject.household_region),
        };
        let Some(registry) = registry else {
            if task.envelope.recipient.is_none() {
                return Err(Refusal::NoRegistry);
            }
            let mut violations = Violations::new();
            let (english, chinese) = V::RECIPIENT;
            violations.add("envelope.recipient", "RECIPIENT_IS_A_REGISTRY", english, chinese);
            return Err(Refusal::Invalid(violations.into_vec()));
        };
        facts.counterpart = Some(registry.code);
        task.registry = Some(registry.clone());
        Ok(())
    }

    async fn act(intake: &Intake, call: &Call, task: &mut Asked<V>) -> Result<Done<Self::Response>, Refusal> {
        let Asked { question, asked, envelope, registry, complete_later, allowed_by, withheld } = task;
        let (Some(registry), Some(question), Some(agreement)) = (registry, question.take(), allowed_by)
        else {
            return Err(Refusal::Internal);
        };
        let kept = complete_later.then(|| question.encode_to_vec());
        let time_left = call.time_left().saturating_sub(RESERVE);
        let asking = registry::Asking { caller: call.caller(), asked, today: shanghai_day(call.arrived()) };
        let within = registry::Within { trace: call.trace(), at: intake.clock.now() };
        let answer = registry::ask::<V>(&intake.peers, registry, question, asking, time_left, within).await;
        let (mut answer, reason) = match answer {
            Ok(answer) => (answer, None),
            Err(why) => (V::Answer::none(why), Some(why.as_str())),
        };
        *withheld = registry::withhold::<V>(&mut answer, agreement);
        answer.advise();
        let unavailable = answer.outline().result == proto::VerificationResult::Unavailable;
        let put_off = kept
            .filter(|_| unavailable)
            .map(|question| put_off(intake, call.caller(), registry.code, V::KIND, envelope, &question));
        let verification_id = put_off.as_ref().map(|new| new.verification_id);
        let named = verification_id.map(|id| id.to_string()).unwrap_or_default();
        Ok(Done {
            response: V::response(answer, registry.code.to_string(), named),
            effects: put_off.map(|new| Effect::PutOff(Box::new(new))).into_iter().collect(),
            reason,
            exchange: verification_id.map(VerificationId::thread),
        })
    }

    fn allowed(task: &mut Asked<V>, by: &Arc<Agreement>) {
        task.allowed_by = Some(Arc::clone(by));
    }

    fn withheld(task: &Asked<V>) -> Vec<AnswerField> {
        task.withheld.clone()
    }
}

/// What is kept of a question that is asked again later.
fn put_off(
    intake: &Intake,
    caller: CreditCode,
    registry: CreditCode,
    kind: crate::domain::exchange::Kind,
    envelope: &Envelope,
    question: &[u8],
) -> NewVerification {
    let now = intake.clock.now();
    let verification_id = VerificationId::new(entropy::uuid_v7(now));
    NewVerification {
        verification_id,
        kind,
        caller,
        registry,
        matter_id: envelope.matter_id.as_str().to_owned(),
        at: now,
        due: now.checked_add(intake.ask_again_after).unwrap_or(Timestamp::MAX),
        question: intake.store.seal_question(&verification_id, question),
    }
}

/// How the requests of these methods are read.
#[cfg(any(test, fuzzing))]
pub(super) const READERS: &[super::fuzzing::Reader] = &[
    super::fuzzing::reader::<Verify<LowIncome>>(),
    super::fuzzing::reader::<Verify<PovertyHousehold>>(),
    super::fuzzing::reader::<BatchVerify>(),
    super::fuzzing::reader::<GetVerification>(),
];
