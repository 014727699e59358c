//! Direct-assignment report: a court assigned a lawyer past the centre, whose task that is (法律援助法 art 12).

use jiff::civil::Date;

use super::case_number::CaseNumber;
use super::law::Article;
use super::violation::{Remark, Violations};
use super::vocabulary::vocabulary;

/// The terms of a report, as far as each could be read.
#[derive(Clone, Debug, Default)]
pub struct ReportTerms {
    /// The court's case number.
    pub case_number: Option<CaseNumber>,
    /// Day of the assignment.
    pub assigned_on: Option<Date>,
}

impl ReportTerms {
    /// What is worth saying although it stops nothing: an assignment in a year before that of the case.
    pub fn remarks(&self) -> Vec<Remark> {
        let (Some(number), Some(assigned)) = (&self.case_number, self.assigned_on) else { return Vec::new() };
        if assigned.year() >= number.year().cast_signed() {
            return Vec::new();
        }
        vec![Remark {
            field: "assigned_on".to_owned(),
            rule: "ASSIGNED_BEFORE_THE_CASE",
            description: "the assignment is dated before the year of the case number".to_owned(),
            description_zh: "指派日期早于案号所载年份".to_owned(),
            article: Article::legal_aid_law("12"),
        }]
    }
}

vocabulary! {
    /// What a centre did with a report.
    pub enum Outcome {
        /// Registered and counted.
        Registered => "REGISTERED",
        /// The centre had it already.
        AlreadyRegistered => "ALREADY_REGISTERED",
        /// Not registered.
        NotRegistered => "NOT_REGISTERED",
    }
}

/// The terms of an acknowledgement, as far as each could be read.
#[derive(Clone, Debug, Default)]
pub struct AcknowledgementTerms {
    /// What the centre did.
    pub outcome: Option<Outcome>,
    /// Whether the centre's number is given.
    pub has_registration_number: bool,
    /// Whether reasons are given.
    pub has_reasons: bool,
}

impl AcknowledgementTerms {
    /// Checks the rules between fields.
    pub fn check(&self, violations: &mut Violations) {
        let Some(outcome) = self.outcome else { return };
        let registered = outcome != Outcome::NotRegistered;
        if registered != self.has_registration_number {
            violations.add_by_article(
                "registration_number",
                "NUMBER_WITH_REGISTRATION",
                "a registered case, and no other, has the centre's number",
                "已登记的（且仅已登记的）须填写登记编号",
                Article::legal_aid_law("12"),
            );
        }
        if !registered && !self.has_reasons {
            violations.add_by_article(
                "reasons",
                "REASONS_WITHOUT_REGISTRATION",
                "a case that is not registered needs reasons",
                "不予登记的须说明理由",
                Article::legal_aid_law("12"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_before_the_year_of_the_case_is_remarked() {
        let remarked = |year, month, day| {
            let terms = ReportTerms {
                case_number: CaseNumber::parse("（2026）浙1004刑初12号").ok(),
                assigned_on: Some(Date::constant(year, month, day)),
            };
            terms.remarks().iter().map(|remark| remark.rule).collect::<Vec<_>>()
        };
        assert_eq!(remarked(2025, 12, 31), ["ASSIGNED_BEFORE_THE_CASE"]);
        assert!(remarked(2026, 1, 1).is_empty());
        assert!(ReportTerms::default().remarks().is_empty());
    }

    #[test]
    fn a_registered_case_has_a_number_and_any_other_has_reasons() {
        let rules = |outcome, has_registration_number, has_reasons| {
            let mut violations = Violations::new();
            let terms = AcknowledgementTerms { outcome: Some(outcome), has_registration_number, has_reasons };
            terms.check(&mut violations);
            violations.into_vec().iter().map(|violation| violation.rule).collect::<Vec<_>>()
        };
        for outcome in [Outcome::Registered, Outcome::AlreadyRegistered] {
            assert!(rules(outcome, true, false).is_empty());
            assert_eq!(rules(outcome, false, false), ["NUMBER_WITH_REGISTRATION"]);
        }
        assert!(rules(Outcome::NotRegistered, false, true).is_empty());
        assert_eq!(rules(Outcome::NotRegistered, false, false), ["REASONS_WITHOUT_REGISTRATION"]);
        assert_eq!(rules(Outcome::NotRegistered, true, true), ["NUMBER_WITH_REGISTRATION"]);
    }
}
