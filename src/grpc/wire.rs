//! Between protobuf and domain: reads everything that is wrong with a message at once.

mod appeal_referral;
mod content;
mod cooperation;
mod counsel_notice;
mod direct_assignment;
mod eligibility;
mod envelope;
mod fee_waiver;
mod judicial_relief;
mod person;
mod response;
mod time;
mod verification;
mod view;

pub(crate) use self::content::{Opening, Surroundings, content};
pub(crate) use self::eligibility::{
    Application, application, assessment, programme_on_wire, standing_of_poverty, standings,
};
pub(crate) use self::envelope::{
    ContextFields, EnvelopeFields, Expectation, call_context, check_minor, delivery_id, envelope,
    exchange_id, legal_basis, one_basis, uuid, verification_id,
};
pub(crate) use self::person::document;
pub(crate) use self::response::{Answer, answer_fits, response};
pub(crate) use self::time::{civil_date, date, shanghai_day, timestamp};
pub(crate) use self::verification::{
    RegisterAnswer, low_income_query, poverty_household_query, verification_state,
};
pub(crate) use self::view::{
    clock_of, delivery_state_of, event_of, exchange_of, kind_of, outbox_delivery_of, redelivery_reason,
    state_of,
};

use crate::domain::money::Fen;
use crate::domain::violation::Violations;

/// Reads a mandatory enum value: not unspecified, and known to this version.
pub(crate) fn word<P: TryFrom<i32>, D>(
    violations: &mut Violations,
    field: &str,
    value: i32,
    known: impl FnOnce(P) -> Option<D>,
) -> Option<D> {
    if value == 0 {
        return violations.require(field, None);
    }
    let found = P::try_from(value).ok().and_then(known);
    if found.is_none() {
        violations.add(field, "UNKNOWN_VALUE", "not a value that this version knows", "无法识别的取值");
    }
    found
}

/// Reads a mandatory text of `least` to `most` characters.
pub(crate) fn text<'t>(
    violations: &mut Violations,
    field: &str,
    value: &'t str,
    least: usize,
    most: usize,
) -> Option<&'t str> {
    if value.trim().is_empty() {
        return violations.require(field, None);
    }
    length(violations, field, value, least, most).then_some(value)
}

fn length(violations: &mut Violations, field: &str, value: &str, least: usize, most: usize) -> bool {
    let fits = (least..=most).contains(&value.chars().count());
    if !fits {
        violations.add(
            field,
            "LENGTH",
            format!("must have {least} to {most} characters"),
            format!("长度须为{least}至{most}个字符"),
        );
    }
    fits
}

/// Reads a sum of money in fen.
fn fen(violations: &mut Violations, field: &str, value: i64) -> Option<Fen> {
    let sum = Fen::new(value);
    if sum.is_none() {
        violations.add(field, "NOT_NEGATIVE", "a sum in fen must not be negative", "金额（分）不得为负数");
    }
    sum
}

/// Reads a mandatory SHA-256 digest.
pub(crate) fn digest(violations: &mut Violations, field: &str, value: &[u8]) -> Option<[u8; 32]> {
    if value.is_empty() {
        return violations.require(field, None);
    }
    let digest = value.try_into().ok();
    if digest.is_none() {
        violations.add(
            field,
            "SHA256_HAS_32_BYTES",
            "a SHA-256 digest has 32 bytes",
            "SHA-256摘要须为32字节",
        );
    }
    digest
}
