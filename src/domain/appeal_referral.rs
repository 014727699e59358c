//! Appeal referral between a centre and a procuratorate: the rules of a referral and of what becomes of it.
//!
//! Limits in time that were not read in their primary text are data, in `data/appeal_referral.toml`, and only remark.

use std::sync::LazyLock;

use jiff::ToSpan as _;
use jiff::civil::Date;
use serde::Deserialize;

use super::agency::AgencyKind;
use super::exchange::{Kind, Route};
use super::law::Article;
use super::violation::{Remark, Violations};
use super::vocabulary::vocabulary;

vocabulary! {
    /// Which way a referral goes.
    pub enum Direction {
        /// To the procuratorate, for supervision.
        CentreToProcuratorate => "CENTRE_TO_PROCURATORATE",
        /// To the centre, for legal aid.
        ProcuratorateToCentre => "PROCURATORATE_TO_CENTRE",
    }
}

impl Direction {
    /// The way that the parties must have.
    pub fn route(self) -> Option<&'static Route> {
        let (sender, recipient) = match self {
            Self::CentreToProcuratorate => (AgencyKind::LegalAidCentre, AgencyKind::Procuratorate),
            Self::ProcuratorateToCentre => (AgencyKind::Procuratorate, AgencyKind::LegalAidCentre),
        };
        Kind::AppealReferral.route(sender, recipient).ok()
    }
}

vocabulary! {
    /// What is complained of.
    pub enum Track {
        /// An effective civil judgment, ruling or mediation.
        CivilJudgment => "CIVIL_JUDGMENT",
        /// Illegality in a civil trial.
        TrialIllegality => "TRIAL_ILLEGALITY",
        /// Illegality in enforcement.
        Enforcement => "ENFORCEMENT",
        /// A criminal complaint.
        CriminalComplaint => "CRIMINAL_COMPLAINT",
        /// An administrative case.
        Administrative => "ADMINISTRATIVE",
        /// Support of a prosecution.
        SupportOfProsecution => "SUPPORT_OF_PROSECUTION",
    }
}

impl Track {
    /// Whether what is complained of has a court's case number.
    pub fn has_case_number(self) -> bool {
        !matches!(self, Self::CriminalComplaint | Self::SupportOfProsecution)
    }
}

vocabulary! {
    /// What became of an application for retrial.
    pub enum RetrialResult {
        /// Refused.
        Refused => "REFUSED",
        /// Not decided in time.
        NotDecidedInTime => "NOT_DECIDED_IN_TIME",
        /// Retried, with a clearly wrong result.
        ClearlyWrong => "CLEARLY_WRONG",
        /// Still before the court.
        Pending => "PENDING",
    }
}

/// The terms of a referral, as far as each could be read.
#[derive(Clone, Debug, Default)]
pub struct ReferralTerms {
    /// Which way.
    pub direction: Option<Direction>,
    /// What is complained of.
    pub track: Option<Track>,
    /// How many documents in effect are given.
    pub documents: usize,
    /// The newest day on which one of them took effect.
    pub newest_effect: Option<Date>,
    /// How many pieces of evidence are given.
    pub evidence: usize,
    /// The application for retrial, where one is given.
    pub retrial: Option<RetrialTerms>,
    /// Whether a procuratorate was applied to before.
    pub applied_before: Option<bool>,
}

/// The terms of an application for retrial.
#[derive(Clone, Copy, Debug, Default)]
pub struct RetrialTerms {
    /// Whether it was made.
    pub filed: Option<bool>,
    /// Whether its day is given.
    pub has_day: bool,
    /// When.
    pub filed_on: Option<Date>,
    /// Whether the result is given.
    pub has_result: bool,
    /// What became of it.
    pub result: Option<RetrialResult>,
    /// Whether the day of the ruling is given.
    pub has_ruling: bool,
    /// When the court ruled.
    pub ruled_on: Option<Date>,
}

const RETRIAL_FIRST: Article = Article::civil_procedure_law("220");

impl ReferralTerms {
    /// Checks the rules between fields.
    pub fn check(&self, violations: &mut Violations) {
        self.check_documents(violations);
        let supervises = self.direction == Some(Direction::CentreToProcuratorate);
        let first_to_court = supervises && self.track == Some(Track::CivilJudgment);
        if first_to_court && self.retrial.is_none() {
            violations.add_by_article(
                "retrial_application",
                "REQUIRED",
                "on the civil-judgment track the application to the court for retrial must be stated",
                "对民事生效裁判申请监督的，须填写再审申请情况",
                RETRIAL_FIRST,
            );
        }
        if let Some(retrial) = &self.retrial {
            violations.within("retrial_application", |v| retrial.check(first_to_court, v));
        }
        if first_to_court && self.applied_before == Some(true) {
            violations.add_by_article(
                "applied_before",
                "ONE_APPLICATION_ONLY",
                "on the civil-judgment track a procuratorate is applied to once",
                "当事人不得再次向人民检察院申请检察建议或者抗诉",
                RETRIAL_FIRST,
            );
        }
    }

    fn check_documents(&self, violations: &mut Violations) {
        let Some(track) = self.track else { return };
        if track != Track::SupportOfProsecution && self.documents == 0 {
            violations.add_by_article(
                "documents",
                "REQUIRED",
                "all documents in effect that are complained of are needed",
                "须提交全部已生效的法律文书",
                Article::legal_aid_law("33"),
            );
        }
        if track == Track::SupportOfProsecution && self.documents == 0 && self.evidence == 0 {
            violations.add_by_article(
                "evidence",
                "REQUIRED",
                "where there is no document in effect, evidence is needed",
                "没有生效法律文书的，须提交证据",
                Article::civil_procedure_law("15"),
            );
        }
    }

    /// What is worth saying on that day although it stops nothing.
    pub fn remarks(&self, on: Date) -> Vec<Remark> {
        if self.direction != Some(Direction::CentreToProcuratorate) {
            return Vec::new();
        }
        let mut remarks = Vec::new();
        if let Some((track, since)) = self.track.zip(self.newest_effect) {
            let limits = LIMITS.application.iter().filter(|limit| limit.tracks.contains(&track));
            remarks.extend(in_force(limits, on).filter(|limit| limit.is_over(since, on)).map(|limit| {
                Remark {
                    field: "documents".to_owned(),
                    rule: "APPLICATION_IS_LATE",
                    description: format!("more than {}", limit.say("months since the newest document")),
                    description_zh: format!("距最近文书生效已超过{}", limit.say("个月")),
                    article: RETRIAL_FIRST,
                }
            }));
        }
        let retrial = self.retrial.filter(|it| it.result == Some(RetrialResult::NotDecidedInTime));
        if let Some(filed) = retrial.and_then(|retrial| retrial.filed_on) {
            let limit = in_force(LIMITS.retrial_review.iter(), on);
            remarks.extend(limit.filter(|limit| !limit.is_over(filed, on)).map(|limit| Remark {
                field: "retrial_application.result".to_owned(),
                rule: "RETRIAL_REVIEW_NOT_OVER",
                description: format!("the court has {}", limit.say("months to review it")),
                description_zh: format!("再审申请审查期限为{}，尚未届满", limit.say("个月")),
                article: RETRIAL_FIRST,
            }));
        }
        remarks
    }
}

impl RetrialTerms {
    /// Checks the application; `first_to_court` where the procuratorate may only follow the court.
    fn check(&self, first_to_court: bool, violations: &mut Violations) {
        let too_early = self.filed == Some(false) || self.result == Some(RetrialResult::Pending);
        if first_to_court && too_early {
            violations.add_by_article(
                if self.filed == Some(false) { "filed" } else { "result" },
                "RETRIAL_FIRST",
                "the procuratorate is applied to after the court refused retrial, did not decide in time, or retried \
                 with a clearly wrong result",
                "人民法院驳回再审申请、逾期未作出裁定或者再审判决、裁定有明显错误的，方可向人民检察院申请",
                RETRIAL_FIRST,
            );
        }
        let Some(filed) = self.filed else { return };
        for (field, given) in [("filed_on", self.has_day), ("result", self.has_result)] {
            if given != filed {
                violations.add_by_article(
                    field,
                    "STATED_WITH_APPLICATION",
                    "given where retrial was applied for, and only there",
                    "已申请再审的须填写，未申请的不填写",
                    RETRIAL_FIRST,
                );
            }
        }
        let ruled = matches!(self.result, Some(RetrialResult::Refused | RetrialResult::ClearlyWrong));
        if (self.result.is_some() || !filed) && ruled != self.has_ruling {
            violations.add_by_article(
                "ruled_on",
                "RULING_WITH_ITS_DAY",
                "given where the court ruled or judged, and only there",
                "法院已作出裁判的须填写裁判日期，否则不填写",
                RETRIAL_FIRST,
            );
        }
        if let (Some(filed), Some(ruled)) = (self.filed_on, self.ruled_on)
            && ruled < filed
        {
            violations.add(
                "ruled_on",
                "NOT_BEFORE_THE_APPLICATION",
                "must not be before the application",
                "裁判日期不得早于申请日期",
            );
        }
    }
}

vocabulary! {
    /// What was done with a referral.
    pub enum Outcome {
        /// Accepted for review: a step.
        Accepted => "ACCEPTED",
        /// Not accepted.
        NotAccepted => "NOT_ACCEPTED",
        /// Transferred to the competent organ.
        Transferred => "TRANSFERRED",
        /// Protest.
        Protest => "PROTEST",
        /// Request to the procuratorate above to protest.
        ProtestRequested => "PROTEST_REQUESTED",
        /// Suggestion of a retrial.
        RetrialSuggested => "RETRIAL_SUGGESTED",
        /// Another suggestion.
        Suggestion => "SUGGESTION",
        /// Not supported.
        NotSupported => "NOT_SUPPORTED",
        /// Ended.
        Ended => "ENDED",
        /// Settled.
        Settled => "SETTLED",
        /// Prosecution supported.
        ProsecutionSupported => "PROSECUTION_SUPPORTED",
        /// Legal aid given.
        AidGranted => "AID_GRANTED",
        /// No legal aid given.
        AidRefused => "AID_REFUSED",
    }
}

impl Outcome {
    /// Whether it is a step that leaves the exchange where it is.
    pub fn is_step(self) -> bool {
        self == Self::Accepted
    }

    /// Whether it comes in place of acceptance.
    fn instead_of_acceptance(self) -> bool {
        matches!(self, Self::NotAccepted | Self::Transferred)
    }

    /// The only direction in which it can be, where there is one.
    fn direction(self) -> Option<Direction> {
        match self {
            Self::Accepted | Self::NotAccepted | Self::Transferred | Self::Ended | Self::Settled => None,
            Self::AidGranted | Self::AidRefused => Some(Direction::ProcuratorateToCentre),
            Self::Protest
            | Self::ProtestRequested
            | Self::RetrialSuggested
            | Self::Suggestion
            | Self::NotSupported
            | Self::ProsecutionSupported => Some(Direction::CentreToProcuratorate),
        }
    }

    fn needs_reasons(self) -> bool {
        matches!(self, Self::NotAccepted | Self::NotSupported | Self::Ended | Self::AidRefused)
    }
}

/// The terms of an outcome, as far as each could be read.
#[derive(Clone, Copy, Debug, Default)]
pub struct OutcomeTerms {
    /// What was done.
    pub outcome: Option<Outcome>,
    /// Whether reasons are given.
    pub has_reasons: bool,
    /// Whether another organ is named.
    pub has_transfer: bool,
}

impl OutcomeTerms {
    /// Checks the rules between fields.
    pub fn check(&self, violations: &mut Violations) {
        let Some(outcome) = self.outcome else { return };
        if outcome.needs_reasons() && !self.has_reasons {
            violations.add_by_article(
                "reasons",
                "REFUSAL_NEEDS_REASONS",
                "what is not accepted, not supported, ended or refused needs reasons",
                "不予受理、不支持、终结审查或者不予援助的，应当说明理由",
                outcome_article(outcome),
            );
        }
        if (outcome == Outcome::Transferred) != self.has_transfer {
            violations.add(
                "transferred_to",
                "ORGAN_WITH_TRANSFER",
                "a transfer, and only a transfer, names the organ that has the matter now",
                "移送的（且仅移送的）须写明受移送机关",
            );
        }
    }
}

/// Where an outcome comes from.
fn outcome_article(outcome: Outcome) -> Article {
    match outcome {
        Outcome::AidGranted | Outcome::AidRefused => Article::legal_aid_law("43"),
        Outcome::ProsecutionSupported => Article::civil_procedure_law("15"),
        _ => Article::civil_procedure_law("220"),
    }
}

/// Checks an outcome against the referral and whether it was `accepted` before.
pub fn check_outcome(
    outcome: Outcome,
    direction: Option<Direction>,
    track: Option<Track>,
    accepted: bool,
    violations: &mut Violations,
) {
    let (rule, description, description_zh) = if outcome.is_step() && accepted {
        ("ACCEPTED_ONCE", "the referral was accepted before", "本事项已经受理")
    } else if outcome.instead_of_acceptance() && accepted {
        (
            "NOT_AFTER_ACCEPTANCE",
            "what was accepted is neither refused acceptance nor transferred",
            "已经受理的，不得再作不予受理或者移送处理",
        )
    } else if !outcome.is_step() && !outcome.instead_of_acceptance() && !accepted {
        ("ACCEPTANCE_FIRST", "an outcome follows acceptance", "作出处理结果前应当先行受理")
    } else if direction.zip(outcome.direction()).is_some_and(|(is, only)| is != only) {
        (
            "OUTCOME_FITS_DIRECTION",
            "only a procuratorate supervises, and only a centre gives legal aid",
            "检察监督结果只能由检察院作出，法律援助决定只能由法律援助机构作出",
        )
    } else if outcome == Outcome::ProsecutionSupported && track != Some(Track::SupportOfProsecution) {
        (
            "OUTCOME_FITS_TRACK",
            "only what was referred for support of prosecution is supported so",
            "仅支持起诉类事项可作支持起诉处理",
        )
    } else {
        return;
    };
    violations.add_by_article("result", rule, description, description_zh, outcome_article(outcome));
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    application: Vec<Limit>,
    retrial_review: Vec<Limit>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    #[serde(default)]
    tracks: Vec<Track>,
    months: i64,
    from: Date,
    source: String,
    mark: String,
}

impl Limit {
    fn is_over(&self, since: Date, on: Date) -> bool {
        since.checked_add(self.months.months()).is_ok_and(|last| on > last)
    }

    fn say(&self, unit: &str) -> String {
        format!("{} {unit} ({} [{}])", self.months, self.source, self.mark)
    }
}

/// The limits of the file. A test holds the file to its shape, so the fallback is never taken.
static LIMITS: LazyLock<Limits> =
    LazyLock::new(|| toml::from_str(include_str!("../../data/appeal_referral.toml")).unwrap_or_default());

/// The newest of the limits that are in force on a day.
fn in_force<'l>(limits: impl Iterator<Item = &'l Limit>, on: Date) -> impl Iterator<Item = &'l Limit> {
    limits.filter(|limit| limit.from <= on).max_by_key(|limit| limit.from).into_iter()
}

#[cfg(test)]
mod tests;
