//! Questions to the registers, and the answers that the gateway itself gives.

use jiff::Timestamp;
use prost::Message;

use super::envelope::mandatory;
use super::person::document;
use super::time::{past_date, past_instant, shanghai_day};
use super::{digest, word};
use crate::domain::law::Article;
use crate::domain::person::PersonName;
use crate::domain::region::{RegionCode, VillageCode};
use crate::domain::verification::{
    HouseholdQuery, NextStep, NoAnswer, STEPS_WHEN_AMBIGUOUS, STEPS_WHEN_NOT_FOUND, STEPS_WHEN_UNAVAILABLE,
    Subject, VerificationState,
};
use crate::domain::violation::Violations;
use crate::grpc::generated::google::r#type as google_type;
use crate::grpc::proto;

/// Reads a question to the low-income register; `field` paths start at `query`.
pub(crate) fn low_income_query(
    violations: &mut Violations,
    value: Option<&proto::LowIncomeQuery>,
    now: Timestamp,
) -> Option<HouseholdQuery> {
    let value = violations.require("query", value)?;
    violations.within("query", |v| {
        let subject = subject(v, value.subject.as_ref(), now);
        scope(v, value.household_scope);
        programmes(v, &value.programmes);
        let as_of = past_date(v, "as_of", value.as_of.as_ref(), shanghai_day(now));
        authority(v, value.authority.as_ref(), now);
        Some(HouseholdQuery { subject: subject?, as_of: as_of? })
    })
}

/// Reads a question to the register of poverty households; `field` paths start at `query`.
pub(crate) fn poverty_household_query(
    violations: &mut Violations,
    value: Option<&proto::PovertyHouseholdQuery>,
    now: Timestamp,
) -> Option<HouseholdQuery> {
    let value = violations.require("query", value)?;
    violations.within("query", |v| {
        let subject = subject(v, value.subject.as_ref(), now);
        scope(v, value.household_scope);
        village(v, &value.village_code, subject.as_ref());
        let as_of = past_date(v, "as_of", value.as_of.as_ref(), shanghai_day(now));
        authority(v, value.authority.as_ref(), now);
        Some(HouseholdQuery { subject: subject?, as_of: as_of? })
    })
}

fn subject(violations: &mut Violations, value: Option<&proto::Subject>, now: Timestamp) -> Option<Subject> {
    let subject = violations.require("subject", value)?;
    violations.within("subject", |v| {
        let name = mandatory(v, "name", &subject.name, PersonName::parse);
        let id = document(v, subject.id_kind, &subject.id_number, shanghai_day(now));
        let household_region = mandatory(v, "household_region", &subject.household_region, RegionCode::parse);
        Some(Subject { name: name?, id: id?, household_region: household_region? })
    })
}

fn scope(violations: &mut Violations, value: i32) {
    let _: Option<()> = word(violations, "household_scope", value, |scope: proto::HouseholdScope| {
        (scope != proto::HouseholdScope::Unspecified).then_some(())
    });
}

/// A village lies where the household is registered.
fn village(violations: &mut Violations, code: &str, subject: Option<&Subject>) {
    if code.is_empty() {
        return;
    }
    let Some(village) = violations.check("village_code", VillageCode::parse(code)) else { return };
    if subject.is_some_and(|subject| !village.region().is_within(subject.household_region)) {
        violations.add_by_article(
            "village_code",
            "VILLAGE_IN_HOUSEHOLD_REGION",
            "the village must lie in the household's region",
            "村级区划须位于户籍所在地区",
            Article::gbt_2260(),
        );
    }
}

fn programmes(violations: &mut Violations, values: &[i32]) {
    if values.is_empty() || values.len() > 8 {
        violations.add_by_article(
            "programmes",
            "ONE_TO_EIGHT",
            "one to eight programmes must be asked",
            "须查询一至八个救助项目",
            Article::legal_aid_law("41"),
        );
    }
    for (place, value) in values.iter().take(8).enumerate() {
        let _: Option<()> =
            word(violations, &format!("programmes[{place}]"), *value, |found: proto::Programme| {
                (found != proto::Programme::Unspecified).then_some(())
            });
    }
}

/// Reads what allows a question about a household.
pub(super) fn authority(violations: &mut Violations, value: Option<&proto::Authority>, now: Timestamp) {
    let Some(value) = value else {
        violations.add_by_article(
            "authority",
            "REQUIRED",
            "a household may be asked about by statute, its written mandate or the applicant's undertaking only",
            "查询家庭信息须有法律依据、书面授权或者个人承诺",
            Article::legal_aid_law("41"),
        );
        return;
    };
    violations.within("authority", |v| {
        let kind = word(v, "kind", value.kind, |kind: proto::AuthorityKind| {
            (kind != proto::AuthorityKind::Unspecified).then_some(kind)
        });
        if matches!(kind, Some(proto::AuthorityKind::WrittenMandate | proto::AuthorityKind::Undertaking)) {
            digest(v, "document_sha256", &value.document_sha256);
            past_instant(v, "signed_at", value.signed_at.as_ref(), now);
            let _: Option<()> =
                word(v, "signer_relation", value.signer_relation, |relation: proto::Relation| {
                    (relation != proto::Relation::Unspecified).then_some(())
                });
        }
    });
}

/// What the answers of all registers have in common.
pub(crate) trait RegisterAnswer: Message + Default {
    /// The answer where the register gave no usable one: a result, not an error.
    fn none(why: NoAnswer) -> Self;

    /// The fields that every answer has.
    fn outline(&self) -> Outline<'_>;

    /// Puts in what the centre may do next. It is the gateway's to say, whatever a register sends.
    fn advise(&mut self);
}

/// The fields that every answer has.
pub(crate) struct Outline<'a> {
    pub(crate) result: proto::VerificationResult,
    pub(crate) data_as_of: Option<&'a prost_types::Timestamp>,
    pub(crate) valid_from: Option<&'a google_type::Date>,
    pub(crate) valid_until: Option<&'a google_type::Date>,
    pub(crate) source: &'a str,
    pub(crate) reason: &'a str,
}

macro_rules! answers {
    ($($answer:ident),+ $(,)?) => {
        $(impl RegisterAnswer for proto::$answer {
            fn none(why: NoAnswer) -> Self {
                Self {
                    result: result_without_answer(why).into(),
                    source: "GATEWAY".to_owned(),
                    reason: why.as_str().to_owned(),
                    ..Default::default()
                }
            }

            fn outline(&self) -> Outline<'_> {
                Outline {
                    result: proto::VerificationResult::try_from(self.result).unwrap_or_default(),
                    data_as_of: self.data_as_of.as_ref(),
                    valid_from: self.valid_from.as_ref(),
                    valid_until: self.valid_until.as_ref(),
                    source: &self.source,
                    reason: &self.reason,
                }
            }

            fn advise(&mut self) {
                self.next_steps = next_steps(self.result);
            }
        })+
    };
}

answers!(LowIncomeAnswer, PovertyHouseholdAnswer);

fn result_without_answer(why: NoAnswer) -> proto::VerificationResult {
    match why {
        NoAnswer::SubjectMismatch => proto::VerificationResult::Ambiguous,
        NoAnswer::RegistryUnreachable
        | NoAnswer::CircuitOpen
        | NoAnswer::TooManyQuestions
        | NoAnswer::RegistryError
        | NoAnswer::RegistryAnswerMalformed => proto::VerificationResult::Unavailable,
    }
}

/// The state of a verification on the wire.
pub(crate) fn verification_state(state: VerificationState) -> proto::VerificationState {
    match state {
        VerificationState::Pending => proto::VerificationState::Pending,
        VerificationState::Answered => proto::VerificationState::Answered,
        VerificationState::GivenUp => proto::VerificationState::GivenUp,
    }
}

/// What the centre may do next, for every result but a match.
fn next_steps(result: i32) -> Vec<proto::NextStep> {
    use proto::VerificationResult as R;
    let steps = match R::try_from(result).unwrap_or(R::Unspecified) {
        R::Match => &[],
        R::Unspecified | R::Unavailable => STEPS_WHEN_UNAVAILABLE,
        R::Ambiguous => STEPS_WHEN_AMBIGUOUS,
        R::NoMatch | R::Refused => STEPS_WHEN_NOT_FOUND,
    };
    let on_wire = |step: &NextStep| proto::NextStep {
        code: step.code.to_owned(),
        text: step.text.to_owned(),
        text_zh: step.text_zh.to_owned(),
        article: step.article.to_string(),
    };
    steps.iter().map(on_wire).collect()
}
