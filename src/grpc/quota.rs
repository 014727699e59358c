//! What a call counts against, and how a caller is told that nothing is left.

use std::time::Duration;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};

use super::status::Refusal;
use super::wire::shanghai_day;
use crate::access::{Agreement, QuotaTerms};
use crate::domain::agency::CreditCode;
use crate::domain::calendar::SHANGHAI;
use crate::domain::envelope::Operator;
use crate::store::{QuotaPeriod, QuotaUse, QuotaWindow};

/// Nothing is left of an agreement's quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QuotaSpent {
    /// The agreement.
    pub(crate) agreement_id: String,
    /// Whether it is one operator's.
    pub(crate) of_operator: bool,
    /// Over which time calls are counted.
    pub(crate) period: QuotaPeriod,
    /// How many it allows.
    pub(crate) limit: u32,
    /// When there is room again.
    pub(crate) retry_after: Duration,
}

impl QuotaSpent {
    /// In English.
    pub(crate) fn description(&self) -> String {
        let Self { agreement_id, limit, .. } = self;
        let whose = if self.of_operator { "this operator" } else { "this agency" };
        let period = match self.period {
            QuotaPeriod::Hour => "an hour",
            QuotaPeriod::Day => "a day",
        };
        format!(
            "agreement {agreement_id} allows {whose} {limit} calls {period}, and they are made; try again after the time given"
        )
    }

    /// In Chinese.
    pub(crate) fn description_zh(&self) -> String {
        let Self { agreement_id, limit, .. } = self;
        let whose = if self.of_operator { "该经办人员" } else { "本机构" };
        let period = match self.period {
            QuotaPeriod::Hour => "每小时",
            QuotaPeriod::Day => "每日",
        };
        format!("协议{agreement_id}允许{whose}{period}{limit}次调用，现已用完，请按提示时间稍后重试")
    }
}

/// What a call counts against; `None` where the agreement counts nothing.
pub(crate) fn quota_use(
    agreement: &Agreement,
    caller: CreditCode,
    operator: Option<&Operator>,
    now: Timestamp,
) -> Option<QuotaUse> {
    let QuotaTerms { per_hour, per_day, operator_per_hour, operator_per_day } = agreement.quota?;
    let operator = operator.map(|operator| format!("{}/{}", operator.unit, operator.staff_number));
    let mut windows = Vec::new();
    let mut count = |operator: &str, period, limit: Option<u32>| {
        if let Some(limit) = limit {
            let (begins, ends) = bounds(period, now);
            windows.push(QuotaWindow { operator: operator.to_owned(), period, begins, ends, limit });
        }
    };
    count("", QuotaPeriod::Hour, per_hour);
    count("", QuotaPeriod::Day, per_day);
    if let Some(operator) = operator {
        count(&operator, QuotaPeriod::Hour, operator_per_hour);
        count(&operator, QuotaPeriod::Day, operator_per_day);
    }
    let agreement_id = agreement.id.clone();
    (!windows.is_empty()).then_some(QuotaUse { agreement_id, caller, windows })
}

/// When the clock hour, or the day in Asia/Shanghai, begins and ends.
fn bounds(period: QuotaPeriod, now: Timestamp) -> (Timestamp, Timestamp) {
    match period {
        QuotaPeriod::Hour => {
            let begins = now.as_second().div_euclid(3600) * 3600;
            let begins = Timestamp::from_second(begins).unwrap_or(now);
            (begins, begins.checked_add(SignedDuration::from_hours(1)).unwrap_or(Timestamp::MAX))
        }
        QuotaPeriod::Day => {
            let today = shanghai_day(now);
            let midnight = |day: Date| SHANGHAI.to_timestamp(day.at(0, 0, 0, 0));
            (
                midnight(today).unwrap_or(now),
                midnight(today.saturating_add(jiff::Span::new().days(1))).unwrap_or(Timestamp::MAX),
            )
        }
    }
}

/// The refusal of a call for which a window has no room.
pub(crate) fn refusal_of(agreement: &Agreement, window: &QuotaWindow, now: Timestamp) -> Refusal {
    let wait = window.ends.duration_since(now).max(SignedDuration::from_secs(1));
    Refusal::QuotaSpent(Box::new(QuotaSpent {
        agreement_id: agreement.id.clone(),
        of_operator: !window.operator.is_empty(),
        period: window.period,
        limit: window.limit,
        retry_after: Duration::try_from(wait).unwrap_or(Duration::from_secs(1)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_the_clocks_and_a_day_is_that_of_shanghai() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        // Half past midnight in Shanghai.
        let now = at("2026-05-31T16:30:00Z");
        assert_eq!(bounds(QuotaPeriod::Hour, now), (at("2026-05-31T16:00:00Z"), at("2026-05-31T17:00:00Z")));
        assert_eq!(bounds(QuotaPeriod::Day, now), (at("2026-05-31T16:00:00Z"), at("2026-06-01T16:00:00Z")));
        let before = at("2026-05-31T15:59:59Z");
        assert_eq!(bounds(QuotaPeriod::Day, before).1, at("2026-05-31T16:00:00Z"));
    }
}
