//! `[retention]`: how long is kept what.

use std::collections::BTreeMap;

use jiff::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use super::contradictions::Contradictions;
use crate::domain::exchange::Kind;

/// Shortest retention: the record of each provision is kept for three years (网络数据安全管理条例 art 12).
const LEAST_MONTHS: u16 = 36;

/// `[retention]`: in months. What is past it goes when the log is pruned, and not before.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionSection {
    /// Where nothing else is said.
    pub months: u16,
    /// Exchanges and verifications by kind, such as `FEE_WAIVER`; with them go their messages and papers. An entry
    /// is kept as long as the exchange that it names.
    pub kinds: BTreeMap<Kind, u16>,
    /// Entries by method, such as `SubmitExchange`.
    pub methods: BTreeMap<String, u16>,
    /// On PostgreSQL: what becomes of partitions of the log that pruning has detached.
    pub detached: Detached,
}

/// What becomes of a detached partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Detached {
    /// It is dropped before the pruning is called done.
    #[default]
    Drop,
    /// It stays as a table of its own, for the operator to put away; what it holds is not gone before that.
    Keep,
}

impl Default for RetentionSection {
    fn default() -> Self {
        Self {
            months: LEAST_MONTHS,
            kinds: BTreeMap::new(),
            methods: BTreeMap::new(),
            detached: Detached::Drop,
        }
    }
}

impl RetentionSection {
    /// What is wrong with it.
    pub(super) fn check(&self, found: &mut Contradictions) {
        let mut all = std::iter::once(&self.months).chain(self.kinds.values()).chain(self.methods.values());
        found.unless(
            all.all(|months| *months >= LEAST_MONTHS),
            "retention",
            "must be at least 36 months everywhere: the law has such records kept for three years",
        );
    }

    /// Before when exchanges of a kind are past their retention.
    pub fn end_of_kind(&self, kind: &str, now: Timestamp) -> Timestamp {
        let of_kind = self.kinds.iter().find(|(known, _)| known.as_str() == kind);
        before(now, of_kind.map_or(self.months, |(_, months)| *months))
    }

    /// Before when entries of a method are past their retention.
    pub fn end_of_method(&self, method: &str, now: Timestamp) -> Timestamp {
        before(now, self.methods.get(method).copied().unwrap_or(self.months))
    }

    /// Before when anything at all may be past its retention.
    pub fn earliest_end(&self, now: Timestamp) -> Timestamp {
        let all = std::iter::once(&self.months).chain(self.kinds.values()).chain(self.methods.values());
        before(now, all.copied().min().unwrap_or(LEAST_MONTHS))
    }
}

/// So many calendar months before `now`, in UTC.
fn before(now: Timestamp, months: u16) -> Timestamp {
    let zoned = now.to_zoned(jiff::tz::TimeZone::UTC);
    zoned.checked_sub(Span::new().months(i64::from(months))).map_or(Timestamp::MIN, |then| then.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_than_three_years_is_refused_and_each_kind_and_method_has_its_own() {
        let section = |text: &str| toml::from_str::<RetentionSection>(text).unwrap();
        let is_refused = |section: &RetentionSection| {
            let mut found = Contradictions::default();
            section.check(&mut found);
            found.into_result().is_err()
        };
        assert!(!is_refused(&section("")));
        for short in ["months = 35", "kinds = { FEE_WAIVER = 35 }", "methods = { GetEntry = 1 }"] {
            assert!(is_refused(&section(short)), "{short}");
        }
        let section = section("months = 40\nkinds = { FEE_WAIVER = 120 }\nmethods = { GetEntry = 36 }");
        let now: Timestamp = "2036-05-31T00:00:00Z".parse().unwrap();
        let day = |at: Timestamp| at.to_string()[..10].to_owned();
        assert_eq!(day(section.end_of_kind("FEE_WAIVER", now)), "2026-05-31");
        assert_eq!(day(section.end_of_kind("JUDICIAL_RELIEF", now)), "2033-01-31");
        assert_eq!(day(section.end_of_method("GetEntry", now)), "2033-05-31");
        assert_eq!(day(section.end_of_method("SubmitExchange", now)), "2033-01-31");
        assert_eq!(section.earliest_end(now), section.end_of_method("GetEntry", now));
    }
}
