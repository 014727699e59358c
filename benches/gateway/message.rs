//! The question and its answer: what a centre really sends, about 600 bytes, and what a register really says.

use anyhow::{Result, ensure};
use aws_lc_rs::{digest, hmac};
use jiff::civil::Date as Day;
use jiff::{Timestamp, ToSpan};
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::domain::agency::AgencyKind;
use legal_aid_gateway::grpc::generated::google::r#type::Date;
use legal_aid_gateway::grpc::proto::content::Kind as ContentArm;
use legal_aid_gateway::grpc::proto::{
    AidDecision, ApplicantKind, Attachment, AuditReceipt, Authority, AuthorityKind, CallContext, ClaimKind,
    Classification, Content, CourtCase, Envelope, Exchange, ExchangeState, FeeWaiverRequest, HouseholdScope,
    IdKind, IncomeBand, Instance, Kind, LegalBasis, LowIncomeAnswer, LowIncomeQuery, Operator, PartyRole,
    Person, Programme, ProgrammeStatus, QueryLowIncomeRequest, QueryLowIncomeResponse, RegisterStatus,
    Relation, Relief, ReliefGround, Subject, SubmitExchangeRequest, SubmitExchangeResponse,
    VerificationResult, VerifyLowIncomeRequest, VerifyLowIncomeResponse,
};
use prost::Message;
use uuid::Uuid;

use crate::parties::Party;

/// What the agreement between the centre and the registry allows.
pub(crate) const PURPOSE: &str = "AID_ELIGIBILITY";
/// What the agreement between the centre and the court allows.
pub(crate) const SUBMISSION_PURPOSE: &str = "FEE_WAIVER";
/// A court that pulls: nothing is delivered while it is measured.
pub(crate) const COURT: &str = legal_aid_gateway::setup::codes::COURT;
/// Where the household is registered.
pub(crate) const REGION: &str = "331004";

/// The sizes that the figures belong to.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Sizes {
    pub(crate) request_bytes: usize,
    pub(crate) answer_bytes: usize,
    pub(crate) submission_bytes: usize,
}

impl Sizes {
    /// Measures today's messages.
    ///
    /// # Errors
    /// When the request is no longer about 600 bytes, so that figures could not be compared with earlier ones.
    pub(crate) fn measure() -> Result<Self> {
        let question = Question::compose()?;
        let request_bytes = question.ask().encoded_len();
        ensure!((550..=650).contains(&request_bytes), "the request has {request_bytes} bytes, not about 600");
        Ok(Self {
            request_bytes,
            answer_bytes: answer_to_centre()?.encoded_len(),
            submission_bytes: Submission::compose(&question)?.ask().encoded_len(),
        })
    }
}

/// A question that is asked again and again, each time under a new request id.
#[derive(Clone)]
pub(crate) struct Question(VerifyLowIncomeRequest);

impl Question {
    pub(crate) fn compose() -> Result<Self> {
        let now = Clock::system().now();
        let yesterday = now.checked_sub(24.hours())?;
        let envelope = Envelope {
            request_id: Uuid::nil().to_string(),
            matter_id: "TZ/2026-LA-004217".to_owned(),
            kind: Kind::LowIncomeQuery.into(),
            schema_version: 1,
            sender: Party::Centre.code().to_owned(),
            recipient: Party::Registry.code().to_owned(),
            region: REGION.to_owned(),
            operator: Some(Operator {
                staff_number: "LQ-0417".to_owned(),
                name: "周晓岚".to_owned(),
                unit: "LUQIAO-STATION".to_owned(),
            }),
            legal_basis: vec![
                basis("法律援助法", "41"),
                basis("个人信息保护法", "13"),
                basis("网络数据安全管理条例", "12"),
            ],
            purpose: PURPOSE.to_owned(),
            attachments: vec![
                paper("申请人查询授权书.pdf", 214_386, "法援文书-5"),
                paper("户口簿及居民身份证复印件.pdf", 1_318_204, ""),
            ],
            classification: Some(Classification { sensitive: Some(true), minor_under_14: Some(false) }),
            in_reply_to: String::new(),
        };
        let query = LowIncomeQuery {
            subject: Some(Subject {
                name: "王建国".to_owned(),
                id_kind: IdKind::ResidentId.into(),
                // The example of GB 11643 itself: nobody's number.
                id_number: "11010519491231002X".to_owned(),
                household_region: REGION.to_owned(),
            }),
            household_scope: HouseholdScope::Household.into(),
            programmes: vec![
                Programme::MinimumAllowance.into(),
                Programme::Destitute.into(),
                Programme::AllowanceEdge.into(),
            ],
            as_of: Some(date(day_of(yesterday))),
            authority: Some(Authority {
                kind: AuthorityKind::WrittenMandate.into(),
                document_sha256: sha256("申请人查询授权书.pdf"),
                signed_at: Some(timestamp(yesterday)),
                signer_relation: Relation::Self_.into(),
            }),
        };
        Ok(Self(VerifyLowIncomeRequest {
            envelope: Some(envelope),
            query: Some(query),
            complete_later: false,
        }))
    }

    /// Who asks, for the first message of a stream.
    pub(crate) fn context(&self) -> CallContext {
        let envelope = self.0.envelope.clone().unwrap_or_default();
        CallContext {
            request_id: Uuid::now_v7().to_string(),
            operator: envelope.operator,
            purpose: envelope.purpose,
        }
    }

    /// The request, under a new id: the same id again would be answered from the record of outcomes.
    pub(crate) fn ask(&self) -> VerifyLowIncomeRequest {
        let mut request = self.0.clone();
        if let Some(envelope) = &mut request.envelope {
            envelope.request_id = Uuid::now_v7().to_string();
        }
        request
    }
}

/// A fee waiver that is submitted again and again, each time under a new request id.
#[derive(Clone)]
pub(crate) struct Submission(SubmitExchangeRequest);

impl Submission {
    /// A submission by who asks `question`, for the same person.
    pub(crate) fn compose(question: &Question) -> Result<Self> {
        Self::to(COURT, question)
    }

    /// The same, to another court.
    pub(crate) fn to(court: &str, question: &Question) -> Result<Self> {
        let now = Clock::system().now();
        let yesterday = now.checked_sub(24.hours())?;
        let asked = question.ask();
        let envelope = Envelope {
            kind: Kind::FeeWaiver.into(),
            recipient: court.to_owned(),
            legal_basis: vec![basis("法律援助法", "53"), basis("诉讼费用交纳办法", "47")],
            purpose: SUBMISSION_PURPOSE.to_owned(),
            ..asked.envelope.unwrap_or_default()
        };
        let person = asked.query.and_then(|query| query.subject).unwrap_or_default();
        let fee_waiver = FeeWaiverRequest {
            applicant: Some(Person {
                name: person.name,
                id_kind: person.id_kind,
                id_number: person.id_number,
                household_region: REGION.to_owned(),
                phone: "13800000000".to_owned(),
                ..Person::default()
            }),
            applicant_kind: ApplicantKind::NaturalPerson.into(),
            court_case: Some(CourtCase {
                court: court.to_owned(),
                cause_of_action: "机动车交通事故责任纠纷".to_owned(),
                instance: Instance::First.into(),
                role: PartyRole::Plaintiff.into(),
                ..CourtCase::default()
            }),
            claim_kind: ClaimKind::Property.into(),
            claimed_sum_fen: Some(10_000_000),
            fee_fen: Some(230_000),
            relief: Relief::Defer.into(),
            ground: ReliefGround::ReliefGround473.into(),
            aid_decision: Some(AidDecision {
                centre: Party::Centre.code().to_owned(),
                number: "2026-0417".to_owned(),
                decided_on: Some(date(day_of(yesterday))),
                document_sha256: sha256("法律援助决定书.pdf"),
            }),
            reason: "正在接受法律援助，无力预交案件受理费".to_owned(),
            filed_at: Some(timestamp(yesterday)),
            ..FeeWaiverRequest::default()
        };
        let content = Content { kind: Some(ContentArm::FeeWaiver(fee_waiver)) };
        Ok(Self(SubmitExchangeRequest { envelope: Some(envelope), content: Some(content) }))
    }

    /// The request, under a new id.
    pub(crate) fn ask(&self) -> SubmitExchangeRequest {
        let mut request = self.0.clone();
        if let Some(envelope) = &mut request.envelope {
            envelope.request_id = Uuid::now_v7().to_string();
        }
        request
    }
}

/// What comes back to who has submitted, in size and form.
pub(crate) fn submitted() -> SubmitExchangeResponse {
    let now = timestamp(Clock::system().now());
    SubmitExchangeResponse {
        exchange: Some(Exchange {
            exchange_id: Uuid::now_v7().to_string(),
            kind: Kind::FeeWaiver.into(),
            state: ExchangeState::Submitted.into(),
            sender: Party::Centre.code().to_owned(),
            recipient: COURT.to_owned(),
            matter_id: "TZ/2026-LA-004217".to_owned(),
            region: REGION.to_owned(),
            create_time: Some(now),
            update_time: Some(now),
            ..Exchange::default()
        }),
        warnings: Vec::new(),
        audit: Some(AuditReceipt { log_index: 1_234_567 }),
    }
}

/// What comes back to the centre, in size and form.
pub(crate) fn answer_to_centre() -> Result<VerifyLowIncomeResponse> {
    Ok(VerifyLowIncomeResponse {
        answer: Some(answer()?),
        registry: Party::Registry.code().to_owned(),
        verification_id: String::new(),
        audit: Some(AuditReceipt { log_index: 1_234_567 }),
    })
}

/// Whether the register said that the household is on it. Anything else was not the whole way, so it must not count.
pub(crate) fn is_match(answer: &VerifyLowIncomeResponse) -> bool {
    let result = answer.answer.as_ref().map(LowIncomeAnswer::result);
    result == Some(VerificationResult::Match) && answer.audit.is_some()
}

/// A register's answer about the person asked about.
pub(crate) fn answer_to_gateway(
    answer: &LowIncomeAnswer,
    request: &QueryLowIncomeRequest,
) -> Option<QueryLowIncomeResponse> {
    let subject = request.query.as_ref()?.subject.as_ref()?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &request.echo_key);
    let echo = |value: &str| hmac::sign(&key, value.as_bytes()).as_ref().to_vec();
    Some(QueryLowIncomeResponse {
        answer: Some(answer.clone()),
        name_echo: echo(&subject.name),
        id_number_echo: echo(&subject.id_number.to_uppercase()),
    })
}

/// A household that draws the minimum living allowance.
pub(crate) fn answer() -> Result<LowIncomeAnswer> {
    let now = Clock::system().now();
    let today = day_of(now);
    let status = |programme: Programme, status: RegisterStatus| ProgrammeStatus {
        programme: programme.into(),
        status: status.into(),
        ..ProgrammeStatus::default()
    };
    let drawing = ProgrammeStatus {
        certificate_number: "DB-331004-2026-00917".to_owned(),
        valid_from: Some(date(today.checked_sub(90.days())?)),
        valid_to: Some(date(today.checked_add(270.days())?)),
        organ: "台州市路桥区民政局".to_owned(),
        ..status(Programme::MinimumAllowance, RegisterStatus::Active)
    };
    Ok(LowIncomeAnswer {
        result: VerificationResult::Match.into(),
        programmes: vec![
            drawing,
            status(Programme::Destitute, RegisterStatus::Never),
            status(Programme::AllowanceEdge, RegisterStatus::Stopped),
        ],
        household_size: Some(3),
        income_band: IncomeBand::WithinLine.into(),
        line_fen: Some(115_000),
        line_in_force_from: Some(date(today.checked_sub(200.days())?)),
        data_as_of: Some(timestamp(now.checked_sub(2.hours())?)),
        valid_from: Some(date(today)),
        valid_until: Some(date(today.checked_add(30.days())?)),
        source: format!("{} 331004", AgencyKind::CivilAffairsRegistry),
        reason: String::new(),
        next_steps: Vec::new(),
    })
}

fn basis(law: &str, article: &str) -> LegalBasis {
    LegalBasis { law: law.to_owned(), article: article.to_owned() }
}

fn paper(name: &str, size_bytes: i64, form_number: &str) -> Attachment {
    Attachment {
        sha256: sha256(name),
        name: name.to_owned(),
        media_type: "application/pdf".to_owned(),
        size_bytes,
        form_number: form_number.to_owned(),
    }
}

/// Stands in for the digest of a document.
fn sha256(name: &str) -> Vec<u8> {
    digest::digest(&digest::SHA256, name.as_bytes()).as_ref().to_vec()
}

/// Legal dates are days in Asia/Shanghai, which has no daylight saving time.
fn day_of(time: Timestamp) -> Day {
    jiff::tz::offset(8).to_datetime(time).date()
}

fn date(day: Day) -> Date {
    Date { year: day.year().into(), month: day.month().into(), day: day.day().into() }
}

fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_second(), nanos: 0 }
}
