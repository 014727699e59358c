//! `VerificationService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::call::Call;
use super::intake::{Intake, RESERVE};
use super::operation::{Done, Effectful, Facts, Operation, Reading};
use super::proto;
use super::proto::verification_service_server::VerificationService;
use super::status::Refusal;
use super::wire::{
    Expectation, check_minor, envelope, low_income_query, next_steps, no_answer, shanghai_day,
};
use crate::access::{Agency, Method};
use crate::delivery::registry;
use crate::domain::agency::{AgencyKind, CreditCode};
use crate::domain::envelope::Envelope;
use crate::domain::exchange::Kind;
use crate::domain::verification::LowIncomeQuery;
use crate::domain::violation::Violations;

/// Implements the service.
#[derive(Clone)]
pub struct Verification(pub Arc<Intake>);

#[tonic::async_trait]
impl VerificationService for Verification {
    async fn verify_low_income(
        &self,
        request: Request<proto::VerifyLowIncomeRequest>,
    ) -> Result<Response<proto::VerifyLowIncomeResponse>, Status> {
        self.0.carry_out::<VerifyLowIncome>(request).await
    }
}

struct VerifyLowIncome;

/// A verification as read.
struct Verify {
    /// The question for the registry, until it is asked.
    question: Option<proto::QueryLowIncomeRequest>,
    asked: LowIncomeQuery,
    recipient: Option<CreditCode>,
    registry: Option<Agency>,
}

impl Operation for VerifyLowIncome {
    const METHOD: Method = Method::VerifyLowIncome;
    type Request = proto::VerifyLowIncomeRequest;
    type Response = proto::VerifyLowIncomeResponse;
    type Task = Verify;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<Verify> {
        let Reading { caller, now, violations, facts } = reading;
        let expect = Expectation { caller: *caller, recipient_optional: true, is_response: false };
        let envelope = envelope(violations, request.envelope.as_ref(), expect);
        facts.of_envelope(&envelope);
        if envelope.kind.is_some_and(|kind| kind != Kind::LowIncomeQuery) {
            violations.add(
                "envelope.kind",
                "KIND_FITS_CONTENT",
                "must be KIND_LOW_INCOME_QUERY",
                "类型须为低收入查询",
            );
        }
        let asked = low_income_query(violations, request.query.as_ref(), *now);
        facts.subject = asked.as_ref().map(|asked| asked.subject.id.clone());
        check_minor(violations, request.envelope.as_ref(), facts.subject.as_ref(), shanghai_day(*now));
        let Envelope { recipient, .. } = envelope.whole()?;
        let asked = asked?;
        let question = registry::question(request.envelope?, request.query?, &asked);
        Some(Verify { question: Some(question), asked, recipient, registry: None })
    }
}

impl Effectful for VerifyLowIncome {
    /// Routes by the household's region, unless the caller names the registry.
    async fn prepare(intake: &Intake, _: &Call, task: &mut Verify, facts: &mut Facts) -> Result<(), Refusal> {
        let directory = intake.directory.load();
        let is_registry = |agency: &&Agency| agency.kind == AgencyKind::CivilAffairsRegistry;
        let registry = match &task.recipient {
            Some(code) if directory.is_active(code) => directory.agency(code).filter(is_registry),
            Some(_) => None,
            None => {
                directory.responsible(AgencyKind::CivilAffairsRegistry, task.asked.subject.household_region)
            }
        };
        let Some(registry) = registry else {
            if task.recipient.is_none() {
                return Err(Refusal::NoRegistry);
            }
            let mut violations = Violations::new();
            violations.add(
                "envelope.recipient",
                "RECIPIENT_IS_A_REGISTRY",
                "must be an enrolled civil-affairs registry, or empty to be routed by the household's region",
                "须为已登记的民政系统；留空则按户籍地区自动选择",
            );
            return Err(Refusal::Invalid(violations.into_vec()));
        };
        facts.counterpart = Some(registry.code);
        task.registry = Some(registry.clone());
        Ok(())
    }

    async fn act(intake: &Intake, call: &Call, task: &mut Verify) -> Result<Done<Self::Response>, Refusal> {
        let Verify { question, asked, registry, .. } = task;
        let (Some(registry), Some(question)) = (registry, question.take()) else {
            return Err(Refusal::Internal);
        };
        let time_left = call.time_left().saturating_sub(RESERVE);
        let asking = registry::Asking { caller: call.caller(), asked, today: shanghai_day(call.arrived()) };
        let answer = registry::query_low_income(&intake.peers, registry, question, asking, time_left).await;
        let (mut answer, reason) = match answer {
            Ok(answer) => (answer, None),
            Err(why) => (no_answer(why), Some(why.as_str())),
        };
        answer.next_steps = next_steps(answer.result);
        Ok(Done {
            response: proto::VerifyLowIncomeResponse {
                answer: Some(answer),
                registry: registry.code.to_string(),
                audit: None,
            },
            effects: Vec::new(),
            reason,
            exchange: None,
        })
    }
}
