//! `EligibilityService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::call::Call;
use super::intake::Intake;
use super::operation::{Done, Effectful, Facts, Operation, Reading};
use super::proto;
use super::proto::eligibility_service_server::EligibilityService;
use super::status::Refusal;
use super::wire::{
    Application, Expectation, application, assessment, check_minor, envelope, no_answer, programme_on_wire,
    question_about, shanghai_day, standings,
};
use crate::access::Method;
use crate::delivery::registry;
use crate::domain::agency::AgencyKind;
use crate::domain::eligibility::{Programme, Registers, Standing, assess, programmes_to_ask};
use crate::domain::exchange::Kind;
use crate::domain::verification::{LowIncomeQuery, Subject};

/// Implements the service.
#[derive(Clone)]
pub struct Eligibility(pub Arc<Intake>);

#[tonic::async_trait]
impl EligibilityService for Eligibility {
    async fn assess_eligibility(
        &self,
        request: Request<proto::AssessEligibilityRequest>,
    ) -> Result<Response<proto::AssessEligibilityResponse>, Status> {
        self.0.carry_out::<AssessEligibility>(request).await
    }
}

struct AssessEligibility;

/// An assessment as read.
struct Assess {
    application: Application,
    /// What the questions to registers are made of: the caller's envelope, the document's kind, what allows them.
    envelope: proto::Envelope,
    id_kind: i32,
    authority: Option<proto::Authority>,
    /// What the log says of the call, and so of each question.
    facts: Facts,
}

impl Operation for AssessEligibility {
    const METHOD: Method = Method::AssessEligibility;
    type Request = proto::AssessEligibilityRequest;
    type Response = proto::AssessEligibilityResponse;
    type Task = Assess;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<Assess> {
        let Reading { caller, now, violations, facts } = reading;
        let expect = Expectation { caller: *caller, recipient_optional: true, is_response: false };
        let envelope = envelope(violations, request.envelope.as_ref(), expect);
        facts.of_envelope(&envelope);
        // Registers are found by the household's region; the assessment itself has no counterpart.
        facts.counterpart = None;
        if envelope.recipient.flatten().is_some() {
            violations.add(
                "envelope.recipient",
                "ROUTED_BY_REGION",
                "must be empty: registers are found by the applicant's household region",
                "接收机构须留空：按申请人户籍地区自动选择登记系统",
            );
        }
        if envelope.kind.is_some_and(|kind| kind != Kind::LowIncomeQuery) {
            violations.add(
                "envelope.kind",
                "KIND_FITS_CONTENT",
                "must be KIND_LOW_INCOME_QUERY",
                "类型须为低收入查询",
            );
        }
        let application = application(violations, request.eligibility_case.as_ref(), envelope.region, *now);
        facts.subject = application.as_ref().map(|application| application.applicant.id.clone());
        check_minor(violations, request.envelope.as_ref(), facts.subject.as_ref(), shanghai_day(*now));
        envelope.whole()?;
        let (case, envelope) = (request.eligibility_case?, request.envelope?);
        Some(Assess {
            application: application?,
            envelope,
            id_kind: case.applicant.map(|applicant| applicant.id_kind).unwrap_or_default(),
            authority: case.authority,
            facts: Facts::default(),
        })
    }
}

impl Effectful for AssessEligibility {
    async fn prepare(_: &Intake, _: &Call, task: &mut Assess, facts: &mut Facts) -> Result<(), Refusal> {
        task.facts = facts.clone();
        Ok(())
    }

    async fn act(intake: &Intake, call: &Call, task: &mut Assess) -> Result<Done<Self::Response>, Refusal> {
        let rules = intake.rules.load_full();
        let case = &task.application.case;
        let in_force = rules.in_force(case.region, case.applied_on);
        let to_ask = programmes_to_ask(case, &in_force);
        let (mut registers, mut asked) = (Registers::default(), Vec::new());
        if let Some(authority) = task.authority.as_ref().filter(|_| !to_ask.is_empty()) {
            let (said, register) = ask_low_income(intake, call, task, authority, &to_ask).await?;
            registers.0.extend(said);
            asked.push(register);
        }
        let response = assessment(&assess(case, &in_force, &registers), asked);
        Ok(Done { response, effects: Vec::new(), reason: None, exchange: None })
    }
}

/// Asks the low-income register of the household's region. That there is none, or that no agreement allows the question,
/// is an unknown like a register that is down.
async fn ask_low_income(
    intake: &Intake,
    call: &Call,
    task: &Assess,
    authority: &proto::Authority,
    programmes: &[Programme],
) -> Result<(Vec<(Programme, Standing)>, proto::RegisterAsked), Refusal> {
    let Application { applicant, case } = &task.application;
    let directory = intake.directory.load_full();
    let on_wire = programmes.iter().map(|programme| programme_on_wire(*programme).into()).collect();
    let not_asked = |registry: String, reason: &str| proto::RegisterAsked {
        registry,
        programmes: on_wire,
        result: proto::VerificationResult::Unavailable.into(),
        reason: reason.to_owned(),
        log_index: None,
    };
    let responsible = directory.responsible(AgencyKind::CivilAffairsRegistry, applicant.household_region);
    let Some(registry) = responsible else {
        return Ok((Vec::new(), not_asked(String::new(), Refusal::NoRegistry.reason())));
    };
    let Some(purpose) = &task.facts.purpose else { return Err(Refusal::Internal) };
    let today = shanghai_day(call.arrived());
    let allowed =
        directory.decide(&call.caller(), Method::VerifyLowIncome, Some(&registry.code), purpose, today);
    let agreement = match allowed {
        Ok(agreement) => agreement,
        Err(denial) => return Ok((Vec::new(), not_asked(registry.code.to_string(), denial.reason()))),
    };
    let facts = Facts { counterpart: Some(registry.code), agreement: Some(agreement), ..task.facts.clone() };
    let asked = LowIncomeQuery {
        subject: Subject {
            name: applicant.name.clone(),
            id: applicant.id.clone(),
            household_region: applicant.household_region,
        },
        as_of: case.applied_on,
    };
    let query = question_about(applicant, case.applied_on, programmes, authority.clone(), task.id_kind);
    let question = registry::question(task.envelope.clone(), query, &asked);
    let answered = intake.ask_low_income(call, registry.clone(), facts, question, asked).await?;
    let answer = answered.answer.unwrap_or_else(no_answer);
    let register = proto::RegisterAsked {
        result: answer.result,
        log_index: Some(answered.log_index),
        ..not_asked(registry.code.to_string(), &answer.reason)
    };
    Ok((standings(programmes, &answer), register))
}
