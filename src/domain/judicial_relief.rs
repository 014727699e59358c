//! Judicial relief in money (国家司法救助): the rules of a request and of a decision.
//!
//! The rules are those of the Supreme Court's opinions of 2016 (法发〔2016〕16号). Where only the opinions as a whole
//! are cited, the number of the article was not read in the text. The usual cap is data, in
//! `data/judicial_relief.toml`, and only remarks.

use std::sync::LazyLock;

use jiff::civil::Date;
use serde::Deserialize;

use super::agency::CreditCode;
use super::law::{Article, Law};
use super::money::Fen;
use super::region::RegionCode;
use super::violation::{Remark, Violations};
use super::vocabulary::vocabulary;

/// Most members of a household.
pub const MOST_MEMBERS: u32 = 50;

vocabulary! {
    /// Stage of the case in which relief is asked.
    pub enum Stage {
        /// Trial.
        Trial => "TRIAL",
        /// Enforcement.
        Enforcement => "ENFORCEMENT",
        /// Petition about a concluded case.
        Petition => "PETITION",
    }
}

/// The terms of a request, as far as each could be read: what is unreadable is `None` and has its own violation
/// already.
#[derive(Clone, Debug, Default)]
pub struct ReliefTerms {
    /// The court that has the case.
    pub court: Option<CreditCode>,
    /// Stage.
    pub stage: Option<Stage>,
    /// Real loss.
    pub real_loss: Option<Fen>,
    /// Compensation so far.
    pub compensation: Option<Fen>,
    /// Sum asked.
    pub asked: Option<Fen>,
    /// Members of the household.
    pub members: Option<u32>,
    /// Members who can work.
    pub workers: Option<u32>,
    /// What was declared of earlier relief.
    pub prior: PriorTerms,
    /// Whether the ruling that ended the enforcement is given.
    pub has_termination: bool,
    /// Whether the undertaking is given.
    pub has_undertaking: bool,
}

/// What a declaration says of earlier relief.
#[derive(Clone, Copy, Debug, Default)]
pub struct PriorTerms {
    /// Whether there was any.
    pub received: Option<bool>,
    /// Whether it was for this case.
    pub same_case: Option<bool>,
    /// Whether the organ is given.
    pub has_organ: bool,
    /// Whether the day is given.
    pub has_day: bool,
    /// Whether the sum is given.
    pub has_sum: bool,
}

/// An article of the opinions.
const fn opinions(number: &'static str) -> Article {
    Article::of(Law::JudicialReliefOpinions, number)
}

/// The opinions as a whole.
const OPINIONS: Article = Article::whole(Law::JudicialReliefOpinions);

impl ReliefTerms {
    /// Checks the rules between fields against the exchange's `recipient`.
    pub fn check(&self, recipient: Option<&CreditCode>, violations: &mut Violations) {
        if let (Some(recipient), Some(court)) = (recipient, &self.court)
            && recipient != court
        {
            violations.add_by_article(
                "original_case.court",
                "COURT_IS_THE_RECIPIENT",
                "relief is given by the court that has the case: it must be the envelope's recipient",
                "由案件管辖法院负责救助，案件法院须与接收机构一致",
                opinions("2"),
            );
        }
        self.check_sums(violations);
        if let (Some(members), Some(workers)) = (self.members, self.workers)
            && workers > members
        {
            violations.add(
                "household.workers",
                "WORKERS_ARE_MEMBERS",
                "a household has no more workers than members",
                "有劳动能力的人数不得多于家庭人口数",
            );
        }
        self.prior.check(violations);
        self.check_stage(violations);
    }

    fn check_sums(&self, violations: &mut Violations) {
        if self.asked == Some(Fen::ZERO) {
            violations.add("sum_asked_fen", "SUM_ABOVE_ZERO", "must be above zero", "申请金额须大于零");
        }
        if let (Some(loss), Some(compensation), Some(asked)) = (self.real_loss, self.compensation, self.asked)
        {
            let open = loss.checked_sub(compensation).unwrap_or(Fen::ZERO);
            if asked > open {
                violations.add_by_article(
                    "sum_asked_fen",
                    "SUM_WITHIN_OPEN_LOSS",
                    "the sum asked is at most the real loss less the compensation received",
                    "申请金额不得超过实际损失减去已获赔偿后的余额",
                    OPINIONS,
                );
            }
        }
    }

    fn check_stage(&self, violations: &mut Violations) {
        let Some(stage) = self.stage else { return };
        match (stage == Stage::Enforcement, self.has_termination) {
            (true, false) => violations.add_by_article(
                "enforcement_termination",
                "REQUIRED",
                "in the enforcement stage the ruling that ended the enforcement is needed",
                "执行阶段申请救助的，须附终结本次执行程序裁定",
                OPINIONS,
            ),
            (false, true) => violations.add_by_article(
                "enforcement_termination",
                "ONLY_IN_ENFORCEMENT",
                "only in the enforcement stage is there a ruling that ended the enforcement",
                "仅执行阶段填写终结执行裁定",
                OPINIONS,
            ),
            _ => {}
        }
        match (stage == Stage::Petition, self.has_undertaking) {
            (true, false) => violations.add_by_article(
                "undertaking",
                "REQUIRED",
                "in the petition stage an undertaking to end suit and petition is needed",
                "涉诉信访申请救助的，须附息诉息访承诺",
                OPINIONS,
            ),
            (false, true) => violations.add_by_article(
                "undertaking",
                "ONLY_IN_PETITION",
                "only in the petition stage is an undertaking to end suit and petition asked",
                "仅信访阶段提交息诉息访承诺",
                OPINIONS,
            ),
            _ => {}
        }
    }

    /// What is worth saying although it stops nothing: relief declared for the same case, which is given once, and a sum
    /// above the usual cap of the province on that day.
    pub fn remarks(&self, province: Option<RegionCode>, on: Date) -> Vec<Remark> {
        let again = self.prior.received == Some(true) && self.prior.same_case == Some(true);
        let again = again.then(|| Remark {
            field: "prior_relief.same_case".to_owned(),
            rule: "ONCE_PER_CASE_AND_APPLICANT",
            description: "for one case an applicant gets judicial relief once; the court decides".to_owned(),
            description_zh: "对同一案件的同一救助申请人只进行一次性国家司法救助，由法院审查决定".to_owned(),
            article: opinions("2"),
        });
        let cap = self.asked.zip(province).and_then(|(asked, province)| {
            let (cap, basis) = cap_on(province, on).filter(|(cap, _)| asked > *cap)?;
            Some(Remark {
                field: "sum_asked_fen".to_owned(),
                rule: "ABOVE_THE_USUAL_CAP",
                description: format!("usually at most {cap}, by {basis}"),
                description_zh: format!("一般不超过{}（{basis}）", cap.in_chinese()),
                article: OPINIONS,
            })
        });
        again.into_iter().chain(cap).collect()
    }
}

impl PriorTerms {
    fn check(&self, violations: &mut Violations) {
        let Some(received) = self.received else { return };
        let given = [
            ("prior_relief.same_case", self.same_case.is_some()),
            ("prior_relief.organ", self.has_organ),
            ("prior_relief.granted_on", self.has_day),
            ("prior_relief.sum_fen", self.has_sum),
        ];
        for (field, _) in given.into_iter().filter(|(_, given)| *given != received) {
            violations.add_by_article(
                field,
                "DECLARED_WITH_PRIOR_RELIEF",
                "given where there was relief before, and only there",
                "曾获救助的须填写，未曾获救助的不填写",
                opinions("2"),
            );
        }
    }
}

vocabulary! {
    /// Outcome of a request for judicial relief.
    pub enum Outcome {
        /// Granted.
        Granted => "GRANTED",
        /// Refused.
        Refused => "REFUSED",
        /// Withdrawn.
        Withdrawn => "WITHDRAWN",
    }
}

/// The terms of a decision, as far as each could be read.
#[derive(Clone, Debug, Default)]
pub struct DecisionTerms {
    /// What was decided.
    pub outcome: Option<Outcome>,
    /// Whether a sum is given.
    pub has_granted: bool,
    /// Sum granted.
    pub granted: Option<Fen>,
    /// Year of the average wage.
    pub basis_year: Option<u32>,
    /// Whether reasons are given.
    pub has_reasons: bool,
    /// Day of the decision.
    pub decided_on: Option<Date>,
    /// Whether a day of payment is given.
    pub has_payment: bool,
    /// Day of payment.
    pub paid_on: Option<Date>,
}

impl DecisionTerms {
    /// Checks the rules between fields.
    pub fn check(&self, violations: &mut Violations) {
        let Some(outcome) = self.outcome else { return };
        let granted = outcome == Outcome::Granted;
        if granted != self.has_granted || self.granted == Some(Fen::ZERO) {
            violations.add_by_article(
                "granted_fen",
                "SUM_WITH_GRANT",
                "a grant, and only a grant, states a sum above zero",
                "准予救助的（且仅准予救助的）须写明大于零的救助金额",
                OPINIONS,
            );
        }
        if granted != self.basis_year.is_some() {
            violations.add_by_article(
                "wage_basis_year",
                "BASIS_YEAR_WITH_GRANT",
                "a grant, and only a grant, states the year of the average wage that it was measured by",
                "准予救助的（且仅准予救助的）须写明平均工资的年度",
                OPINIONS,
            );
        }
        if let (Some(year), Some(decided)) = (self.basis_year, self.decided_on)
            && i64::from(year) >= i64::from(decided.year())
        {
            violations.add_by_article(
                "wage_basis_year",
                "BASIS_YEAR_BEFORE_THE_DECISION",
                "the average wage is that of a year before the decision's",
                "平均工资年度须早于决定年度",
                OPINIONS,
            );
        }
        if outcome == Outcome::Refused && !self.has_reasons {
            violations.add_by_article(
                "reasons",
                "REFUSAL_NEEDS_REASONS",
                "a refusal must give reasons",
                "不予救助的，应当说明理由",
                OPINIONS,
            );
        }
        if self.has_payment && !granted {
            violations.add(
                "paid_on",
                "PAID_ONLY_WHEN_GRANTED",
                "only what was granted is paid",
                "仅准予救助的填写发放日期",
            );
        }
        if let (Some(paid), Some(decided)) = (self.paid_on, self.decided_on)
            && paid < decided
        {
            violations.add(
                "paid_on",
                "NOT_BEFORE_THE_DECISION",
                "must not be before the decision",
                "发放日期不得早于决定日期",
            );
        }
    }
}

/// Checks the sum granted against the sum asked.
pub fn check_granted(granted: Fen, asked: Fen, violations: &mut Violations) {
    if granted > asked {
        violations.add_by_article(
            "granted_fen",
            "GRANTED_AT_MOST_ASKED",
            "the sum granted is at most the sum asked",
            "救助金额不得超过申请金额",
            OPINIONS,
        );
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Figures {
    cap: Vec<Cap>,
    wage: Vec<Wage>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cap {
    months: i64,
    from: Date,
    source: String,
    mark: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wage {
    province: RegionCode,
    year: u32,
    yearly_fen: i64,
    from: Date,
    source: String,
    mark: String,
}

/// The figures of the file. A test holds the file to its shape, so the fallback is never taken.
static FIGURES: LazyLock<Figures> =
    LazyLock::new(|| toml::from_str(include_str!("../../data/judicial_relief.toml")).unwrap_or_default());

/// The usual cap of a province on a day, and what it is measured by. `None` where no figure is known.
fn cap_on(region: RegionCode, on: Date) -> Option<(Fen, String)> {
    let province = region.province();
    let cap = FIGURES.cap.iter().filter(|cap| cap.from <= on).max_by_key(|cap| cap.from)?;
    let wages = FIGURES.wage.iter().filter(|wage| wage.province == province && wage.from <= on);
    let wage = wages.max_by_key(|wage| wage.from)?;
    let sum = Fen::new(wage.yearly_fen.checked_mul(cap.months)? / 12)?;
    let (months, year) = (cap.months, wage.year);
    let basis = format!("{months} × {year}: {} [{}]; {} [{}]", cap.source, cap.mark, wage.source, wage.mark);
    Some((sum, basis))
}

#[cfg(test)]
mod tests;
