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
    Application, Expectation, RegisterAnswer as _, application, assessment, check_minor, date, envelope,
    programme_on_wire, shanghai_day, standing_of_poverty, standings,
};
use crate::access::Method;
use crate::delivery::registry::{self, LowIncome, PovertyHousehold, Register};
use crate::domain::eligibility::{Programme, Registers, Standing, assess, programmes_to_ask};
use crate::domain::exchange::Kind;
use crate::domain::verification::{AnswerField, HouseholdQuery, Subject};

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

impl Assess {
    /// The applicant, as the subject of a question.
    fn subject(&self) -> proto::Subject {
        let applicant = &self.application.applicant;
        proto::Subject {
            name: applicant.name.reveal().to_owned(),
            id_kind: self.id_kind,
            id_number: applicant.id.reveal().to_owned(),
            household_region: applicant.household_region.to_string(),
        }
    }
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
        // Without an authority no register is asked.
        let to_ask = task.authority.as_ref().map(|_| programmes_to_ask(case, &in_force)).unwrap_or_default();
        let (poverty, low_income): (Vec<_>, Vec<_>) =
            to_ask.into_iter().partition(|programme| *programme == Programme::PovertyHousehold);
        // Each within what the caller's deadline leaves.
        let (low_income, poverty) = tokio::join!(
            ask_low_income(intake, call, task, &low_income),
            ask_poverty(intake, call, task, &poverty)
        );
        let (mut registers, mut asked) = (Registers::default(), Vec::new());
        for (standings, register) in [low_income?, poverty?].into_iter().flatten() {
            registers.0.extend(standings);
            asked.push(register);
        }
        let response = assessment(&assess(case, &in_force, &registers, &intake.clocks), asked);
        Ok(Done { response, effects: Vec::new(), reason: None, exchange: None })
    }
}

/// What a register said of programmes, and how it was asked; nothing where there was nothing to ask.
type Said = Option<(Vec<(Programme, Standing)>, proto::RegisterAsked)>;

async fn ask_low_income(
    intake: &Intake,
    call: &Call,
    task: &Assess,
    programmes: &[Programme],
) -> Result<Said, Refusal> {
    if programmes.is_empty() {
        return Ok(None);
    }
    let programmes_on_wire: Vec<i32> =
        programmes.iter().filter_map(|programme| programme_on_wire(*programme)).map(Into::into).collect();
    let query = proto::LowIncomeQuery {
        subject: Some(task.subject()),
        household_scope: proto::HouseholdScope::Household.into(),
        programmes: programmes_on_wire.clone(),
        as_of: Some(date(task.application.case.applied_on)),
        authority: task.authority.clone(),
    };
    let (told, register) =
        ask::<LowIncome>(intake, call, task, Method::VerifyLowIncome, proto::Kind::LowIncomeQuery, query)
            .await?;
    let register = proto::RegisterAsked { programmes: programmes_on_wire, ..register };
    let standings = told.map(|told| {
        match told.answer.programmes.is_empty() && told.is_withheld(AnswerField::Programmes) {
            // That a programme is not told of does not mean that the household has none. Where only what nobody asked about was
            // left out, what was asked is told of.
            true => programmes.iter().map(|programme| (*programme, Standing::Unknown)).collect(),
            false => standings(programmes, &told.answer),
        }
    });
    Ok(Some((standings.unwrap_or_default(), register)))
}

async fn ask_poverty(
    intake: &Intake,
    call: &Call,
    task: &Assess,
    programmes: &[Programme],
) -> Result<Said, Refusal> {
    if programmes.is_empty() {
        return Ok(None);
    }
    let query = proto::PovertyHouseholdQuery {
        subject: Some(task.subject()),
        household_scope: proto::HouseholdScope::Household.into(),
        village_code: String::new(),
        as_of: Some(date(task.application.case.applied_on)),
        authority: task.authority.clone(),
    };
    let (method, kind) = (Method::VerifyPovertyHousehold, proto::Kind::PovertyHouseholdQuery);
    let (told, register) = ask::<PovertyHousehold>(intake, call, task, method, kind, query).await?;
    let standing = told.map(|told| match told.is_withheld(AnswerField::Risk) {
        true => Standing::Unknown,
        false => standing_of_poverty(&told.answer),
    });
    Ok(Some((
        standing.map(|standing| (Programme::PovertyHousehold, standing)).into_iter().collect(),
        register,
    )))
}

/// What a register said, as far as the agreement discloses it.
struct Told<A> {
    answer: A,
    withheld: Vec<AnswerField>,
}

impl<A> Told<A> {
    fn is_withheld(&self, field: AnswerField) -> bool {
        self.withheld.contains(&field)
    }
}

/// The kind of a question that is asked within an assessment.
fn kind_of_question(method: Method) -> Option<Kind> {
    match method {
        Method::VerifyPovertyHousehold => Some(Kind::PovertyHouseholdQuery),
        _ => Some(Kind::LowIncomeQuery),
    }
}

/// Asks the register of the household's region. That there is none, or that no agreement allows the question, is an
/// unknown like a register that is down.
async fn ask<R: Register>(
    intake: &Intake,
    call: &Call,
    task: &Assess,
    method: Method,
    kind: proto::Kind,
    query: R::Query,
) -> Result<(Option<Told<R::Answer>>, proto::RegisterAsked), Refusal> {
    let Application { applicant, case } = &task.application;
    let directory = intake.directory.load_full();
    let not_asked = |registry: String, reason: &str| proto::RegisterAsked {
        registry,
        kind: kind.into(),
        programmes: Vec::new(),
        result: proto::VerificationResult::Unavailable.into(),
        reason: reason.to_owned(),
        log_index: None,
    };
    let Some(registry) = directory.responsible(R::KEEPER, applicant.household_region) else {
        return Ok((None, not_asked(String::new(), Refusal::NoRegistry.reason())));
    };
    if task.facts.purpose.is_none() {
        return Err(Refusal::Internal);
    }
    let facts = Facts {
        counterpart: Some(registry.code),
        programmes: R::programmes(&query),
        kind: kind_of_question(method),
        ..task.facts.clone()
    };
    let caller = call.caller();
    let asked = HouseholdQuery {
        subject: Subject {
            name: applicant.name.clone(),
            id: applicant.id.clone(),
            household_region: applicant.household_region,
        },
        as_of: case.applied_on,
    };
    let envelope = proto::Envelope { kind: kind.into(), ..task.envelope.clone() };
    // Of several agreements, one of which something is left: asked before, because a call that finds nothing left in its
    // batch makes the whole batch be written again.
    let mut spent = Vec::new();
    let answered = loop {
        let decided = {
            let question = facts.question(&caller, method, shanghai_day(call.arrived()));
            directory.decide_but_for(&question, &spent).map(Arc::clone)
        };
        let agreement = match decided {
            Ok(agreement) => agreement,
            Err(denial) => {
                let reason = if spent.is_empty() { denial.reason() } else { "QUOTA_SPENT" };
                return Ok((None, not_asked(registry.code.to_string(), reason)));
            }
        };
        if intake.is_spent(call, &facts, &agreement).await? {
            spent.push(agreement.id.clone());
            continue;
        }
        let allowed = Facts {
            agreement: Some(agreement.reference()),
            allowed_by: Some(Arc::clone(&agreement)),
            ..facts.clone()
        };
        let question = registry::question::<R>(envelope.clone(), query.clone(), &asked);
        match intake.ask::<R>(call, method, allowed, registry.clone(), question, asked.clone()).await {
            Err(Refusal::QuotaSpent(_)) => spent.push(agreement.id.clone()),
            answered => break answered?,
        }
    };
    let withheld = answered.withheld;
    let answer = answered.answer.unwrap_or_else(R::Answer::none);
    let outline = answer.outline();
    let register = proto::RegisterAsked {
        result: outline.result.into(),
        log_index: Some(answered.log_index),
        ..not_asked(registry.code.to_string(), outline.reason)
    };
    Ok((Some(Told { answer, withheld }), register))
}

/// How the requests of these methods are read.
#[cfg(any(test, fuzzing))]
pub(super) const READERS: &[super::fuzzing::Reader] = &[super::fuzzing::reader::<AssessEligibility>()];
