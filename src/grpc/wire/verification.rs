//! Questions to the low-income register, and the answers that the gateway itself gives.

use jiff::Timestamp;

use super::envelope::mandatory;
use super::person::document;
use super::time::{past_date, past_instant, shanghai_day};
use super::{digest, word};
use crate::domain::law::Article;
use crate::domain::person::PersonName;
use crate::domain::region::RegionCode;
use crate::domain::verification::{
    LowIncomeQuery, NextStep, NoAnswer, STEPS_WHEN_AMBIGUOUS, STEPS_WHEN_NOT_FOUND, STEPS_WHEN_UNAVAILABLE,
    Subject,
};
use crate::domain::violation::Violations;
use crate::grpc::proto;

/// Reads a question; `field` paths start at `query`.
pub(crate) fn low_income_query(
    violations: &mut Violations,
    value: Option<&proto::LowIncomeQuery>,
    now: Timestamp,
) -> Option<LowIncomeQuery> {
    let value = violations.require("query", value)?;
    let today = shanghai_day(now);
    violations.within("query", |v| {
        let subject = match v.require("subject", value.subject.as_ref()) {
            None => None,
            Some(subject) => v.within("subject", |v| {
                let name = mandatory(v, "name", &subject.name, PersonName::parse);
                let id = document(v, subject.id_kind, &subject.id_number, today);
                let household_region =
                    mandatory(v, "household_region", &subject.household_region, RegionCode::parse);
                Some(Subject { name: name?, id: id?, household_region: household_region? })
            }),
        };
        let scope = word(v, "household_scope", value.household_scope, |scope: proto::HouseholdScope| {
            (scope != proto::HouseholdScope::Unspecified).then_some(scope)
        });
        programmes(v, &value.programmes);
        let as_of = past_date(v, "as_of", value.as_of.as_ref(), today);
        authority(v, value.authority.as_ref(), now);
        scope?;
        Some(LowIncomeQuery { subject: subject?, as_of: as_of? })
    })
}

fn programmes(violations: &mut Violations, values: &[i32]) {
    if values.is_empty() || values.len() > 8 {
        violations.add(
            "programmes",
            "ONE_TO_EIGHT",
            "one to eight programmes must be asked",
            "须查询一至八个救助项目",
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

/// The answer where the register gave no usable one: a result, not an error.
pub(crate) fn no_answer(why: NoAnswer) -> proto::LowIncomeAnswer {
    let result = match why {
        NoAnswer::SubjectMismatch => proto::VerificationResult::Ambiguous,
        NoAnswer::RegistryUnreachable | NoAnswer::RegistryError | NoAnswer::RegistryAnswerMalformed => {
            proto::VerificationResult::Unavailable
        }
    };
    proto::LowIncomeAnswer {
        result: result.into(),
        source: "GATEWAY".to_owned(),
        reason: why.as_str().to_owned(),
        ..Default::default()
    }
}

/// What the centre may do next, for every result but a match. It is the gateway's to say, whatever a register sends.
pub(crate) fn next_steps(result: i32) -> Vec<proto::NextStep> {
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
