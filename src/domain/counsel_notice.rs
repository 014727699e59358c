//! Counsel notice: who must have a lawyer, and whom the centre assigns (法律援助法 arts 25 to 28 and 36).

use jiff::Span;
use jiff::civil::Date;

use super::agency::AgencyKind;
use super::law::Article;
use super::violation::{Remark, Violations};
use super::vocabulary::vocabulary;

/// Days in which an organ gives notice, and a centre assigns (art 36). A region may count working days; a notice is
/// taken either way.
pub const DAYS_TO_NOTIFY: i64 = 3;

/// Least years of relevant practice where life imprisonment or death may follow (art 26).
pub const LEAST_PRACTICE_YEARS: u32 = 3;

/// Age from which a person is no minor (民法典 art 17).
const FULL_AGE: u16 = 18;

vocabulary! {
    /// Why counsel must be assigned, by article and item.
    pub enum Ground {
        /// A minor.
        Minor => "25(1)(1)",
        /// Disabled in sight, hearing or speech.
        SensoryDisability => "25(1)(2)",
        /// An adult who cannot fully recognise the nature of the acts.
        LimitedCapacity => "25(1)(3)",
        /// May be sentenced to life imprisonment or death.
        GravestSentence => "25(1)(4)",
        /// Defendant in a death-penalty review who applies for aid.
        DeathPenaltyReview => "25(1)(5)",
        /// Defendant in a trial in absence.
        TrialInAbsence => "25(1)(6)",
        /// Others by law or regulation.
        OtherByLaw => "25(1)(7)",
        /// Who is to be treated by compulsion.
        CompulsoryTreatment => "28",
    }
}

impl Ground {
    /// The article and item.
    pub const fn article(self) -> Article {
        Article::legal_aid_law(self.as_str())
    }

    /// Whether only a lawyer of some years' practice may be assigned (art 26).
    pub const fn needs_experience(self) -> bool {
        matches!(self, Self::GravestSentence | Self::DeathPenaltyReview)
    }

    /// Whether the ground can arise in a stage.
    pub fn fits(self, stage: Stage) -> bool {
        match self {
            Self::CompulsoryTreatment => stage == Stage::CompulsoryTreatment,
            _ if stage == Stage::CompulsoryTreatment => false,
            Self::DeathPenaltyReview => stage == Stage::DeathPenaltyReview,
            Self::TrialInAbsence => {
                matches!(stage, Stage::FirstInstance | Stage::SecondInstance | Stage::Retrial)
            }
            _ => true,
        }
    }
}

vocabulary! {
    /// Stage of criminal proceedings.
    pub enum Stage {
        /// Investigation.
        Investigation => "INVESTIGATION",
        /// Review for prosecution.
        ProsecutionReview => "PROSECUTION_REVIEW",
        /// Trial in first instance.
        FirstInstance => "FIRST_INSTANCE",
        /// Trial in second instance.
        SecondInstance => "SECOND_INSTANCE",
        /// Retrial.
        Retrial => "RETRIAL",
        /// Review of a death sentence.
        DeathPenaltyReview => "DEATH_PENALTY_REVIEW",
        /// Hearing on compulsory treatment.
        CompulsoryTreatment => "COMPULSORY_TREATMENT",
    }
}

impl Stage {
    /// The organs that have a case in this stage, and so give the notice.
    pub const fn organs(self) -> &'static [AgencyKind] {
        match self {
            Self::Investigation => &[AgencyKind::PublicSecurityOrgan, AgencyKind::Procuratorate],
            Self::ProsecutionReview => &[AgencyKind::Procuratorate],
            _ => &[AgencyKind::Court],
        }
    }

    fn is_before_a_court(self) -> bool {
        matches!(self.organs(), [AgencyKind::Court])
    }
}

/// The terms of a notice, as far as each could be read: what is unreadable is `None` and has its own violation
/// already, and the rules between the others still hold.
#[derive(Clone, Debug, Default)]
pub struct NoticeTerms {
    /// Why counsel must be assigned.
    pub ground: Option<Ground>,
    /// Stage of the proceedings.
    pub stage: Option<Stage>,
    /// Whether the person has retained counsel.
    pub has_counsel: Option<bool>,
    /// Whether the person is held.
    pub in_custody: Option<bool>,
    /// Whether a place of custody is given.
    pub has_custody_place: bool,
    /// Day of the next hearing.
    pub next_hearing_on: Option<Date>,
    /// Day, in Asia/Shanghai, on which the organ found the ground.
    pub found_on: Option<Date>,
    /// The person's age on that day, where the document tells.
    pub age: Option<u16>,
}

impl NoticeTerms {
    /// Checks the rules between fields on a day.
    pub fn check(&self, today: Date, violations: &mut Violations) {
        if let (Some(ground), Some(stage)) = (self.ground, self.stage)
            && !ground.fits(stage)
        {
            // In a hearing on compulsory treatment no ground fits but that of article 28.
            let at_fault =
                if stage == Stage::CompulsoryTreatment { Ground::CompulsoryTreatment } else { ground };
            violations.add_by_article(
                "ground",
                "GROUND_FITS_STAGE",
                "25(1)(5) is for a death-penalty review, 25(1)(6) for a trial, 28 and nothing else for compulsory treatment",
                "通知理由与诉讼阶段不符：第二十五条第一款第五项限死刑复核，第六项限审判阶段，第二十八条限强制医疗",
                at_fault.article(),
            );
        }
        if self.has_counsel == Some(true) {
            violations.add_by_article(
                "has_counsel",
                "ONLY_WITHOUT_COUNSEL",
                "a notice is for a person who has retained no counsel",
                "仅没有委托辩护人或者诉讼代理人的，通知指派律师",
                match self.ground {
                    Some(Ground::CompulsoryTreatment) => Article::legal_aid_law("28"),
                    _ => Article::legal_aid_law("25(1)"),
                },
            );
        }
        if self.in_custody.is_some_and(|held| held != self.has_custody_place) {
            violations.add(
                "custody_place",
                "PLACE_WITH_CUSTODY",
                "a person who is held, and no other, has a place of custody",
                "被羁押的（且仅被羁押的）须填写羁押场所",
            );
        }
        if let Some(hearing) = self.next_hearing_on {
            if hearing < today {
                violations.add(
                    "next_hearing_on",
                    "NOT_IN_THE_PAST",
                    "must not be in the past",
                    "开庭日期不得早于今日",
                );
            }
            if self.stage.is_some_and(|stage| !stage.is_before_a_court()) {
                violations.add(
                    "next_hearing_on",
                    "HEARING_IS_IN_COURT",
                    "there is a hearing only where a court has the case",
                    "仅审判阶段填写开庭日期",
                );
            }
        }
    }

    /// What is worth saying although it stops nothing.
    pub fn remarks(&self, today: Date) -> Vec<Remark> {
        let mut remarks = Vec::new();
        let mut remark = |field: &str, rule, description: &str, description_zh: &str, article| {
            let (description, description_zh) = (description.to_owned(), description_zh.to_owned());
            remarks.push(Remark { field: field.to_owned(), rule, description, description_zh, article });
        };
        let in_days = |from: Date| from.saturating_add(Span::new().days(DAYS_TO_NOTIFY));
        if self.found_on.is_some_and(|found| today > in_days(found)) {
            remark(
                "found_at",
                "NOTICE_WITHIN_3_DAYS",
                "the notice is given more than 3 days after the ground was found; a holiday may explain it",
                "发现之日起已逾三日（遇节假日顺延的除外）",
                Article::legal_aid_law("36"),
            );
        }
        if self.next_hearing_on.is_some_and(|hearing| hearing >= today && hearing <= in_days(today)) {
            remark(
                "next_hearing_on",
                "HEARING_BEFORE_ASSIGNMENT_IS_DUE",
                "the hearing may come before the centre must have assigned a lawyer",
                "开庭日期早于或者等于法定指派期限届满之日",
                Article::legal_aid_law("36"),
            );
        }
        let Some(minor) = self.age.map(|age| age < FULL_AGE) else { return remarks };
        if self.ground == Some(Ground::Minor) && !minor {
            remark(
                "ground",
                "OF_AGE_BY_DOCUMENT",
                "by the document the person is of full age",
                "按证件号码，该人已满十八周岁",
                Article::legal_aid_law("25(1)(1)"),
            );
        }
        if minor && self.ground.is_some_and(|ground| ground != Ground::Minor) {
            remark(
                "ground",
                "MINOR_BY_DOCUMENT",
                "by the document the person is a minor, which is a ground of its own",
                "按证件号码，该人未满十八周岁，亦符合第二十五条第一款第一项",
                Article::legal_aid_law("25(1)(1)"),
            );
        }
        remarks
    }
}

/// Checks an assignment against the ground of the notice that it answers (art 26).
pub fn check_experience(ground: Ground, years: Option<u32>, violations: &mut Violations) {
    if ground.needs_experience() && years.is_none_or(|years| years < LEAST_PRACTICE_YEARS) {
        violations.add_by_article(
            "relevant_practice_years",
            "THREE_YEARS_OF_PRACTICE",
            "where life imprisonment or death may follow, the lawyer has at least 3 years of relevant practice",
            "对可能被判处无期徒刑、死刑的人以及死刑复核案件的被告人，应当指派具有三年以上相关执业经历的律师",
            Article::legal_aid_law("26"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: Date = Date::constant(2026, 3, 5);

    /// A minor is held and investigated; found today: nothing is wrong with it.
    fn sound() -> NoticeTerms {
        NoticeTerms {
            ground: Some(Ground::Minor),
            stage: Some(Stage::Investigation),
            has_counsel: Some(false),
            in_custody: Some(true),
            has_custody_place: true,
            found_on: Some(TODAY),
            age: Some(16),
            ..NoticeTerms::default()
        }
    }

    fn broken(terms: &NoticeTerms) -> Vec<(&'static str, Option<Article>)> {
        let mut violations = Violations::new();
        terms.check(TODAY, &mut violations);
        violations.into_vec().iter().map(|violation| (violation.rule, violation.article)).collect()
    }

    fn rules(terms: &NoticeTerms) -> Vec<&'static str> {
        broken(terms).into_iter().map(|(rule, _)| rule).collect()
    }

    fn remarked(terms: &NoticeTerms) -> Vec<&'static str> {
        terms.remarks(TODAY).iter().map(|remark| remark.rule).collect()
    }

    #[test]
    fn a_sound_notice_breaks_no_rule_and_earns_no_remark() {
        assert!(rules(&sound()).is_empty());
        assert!(remarked(&sound()).is_empty());
    }

    #[test]
    fn a_ground_fits_its_stages() {
        let fitting = |ground: Ground| {
            let stages = Stage::ALL.iter().copied();
            stages.filter(move |stage| ground.fits(*stage)).collect::<Vec<_>>()
        };
        let trials = [Stage::FirstInstance, Stage::SecondInstance, Stage::Retrial];
        for ground in Ground::ALL {
            let expected = match ground {
                Ground::CompulsoryTreatment => vec![Stage::CompulsoryTreatment],
                Ground::DeathPenaltyReview => vec![Stage::DeathPenaltyReview],
                Ground::TrialInAbsence => trials.to_vec(),
                _ => Stage::ALL[..6].to_vec(),
            };
            assert_eq!(fitting(*ground), expected, "{ground}");
        }
    }

    #[test]
    fn a_ground_in_the_wrong_stage_is_named_with_its_article() {
        let review = NoticeTerms { ground: Some(Ground::DeathPenaltyReview), ..sound() };
        assert_eq!(broken(&review), [("GROUND_FITS_STAGE", Some(Article::legal_aid_law("25(1)(5)")))]);
        let treatment = NoticeTerms { stage: Some(Stage::CompulsoryTreatment), ..sound() };
        assert_eq!(broken(&treatment), [("GROUND_FITS_STAGE", Some(Article::legal_aid_law("28")))]);
    }

    #[test]
    fn each_stage_has_its_organs() {
        use AgencyKind::{Court, Procuratorate, PublicSecurityOrgan};
        assert_eq!(Stage::Investigation.organs(), [PublicSecurityOrgan, Procuratorate]);
        assert_eq!(Stage::ProsecutionReview.organs(), [Procuratorate]);
        for stage in &Stage::ALL[2..] {
            assert_eq!(stage.organs(), [Court], "{stage}");
        }
    }

    #[test]
    fn a_notice_is_for_who_has_no_counsel() {
        let retained = NoticeTerms { has_counsel: Some(true), ..sound() };
        assert_eq!(broken(&retained), [("ONLY_WITHOUT_COUNSEL", Some(Article::legal_aid_law("25(1)")))]);
        let treatment = NoticeTerms {
            ground: Some(Ground::CompulsoryTreatment),
            stage: Some(Stage::CompulsoryTreatment),
            ..retained
        };
        assert_eq!(broken(&treatment), [("ONLY_WITHOUT_COUNSEL", Some(Article::legal_aid_law("28")))]);
    }

    #[test]
    fn a_place_of_custody_goes_with_custody() {
        assert_eq!(rules(&NoticeTerms { has_custody_place: false, ..sound() }), ["PLACE_WITH_CUSTODY"]);
        assert_eq!(rules(&NoticeTerms { in_custody: Some(false), ..sound() }), ["PLACE_WITH_CUSTODY"]);
        assert!(
            rules(&NoticeTerms { in_custody: Some(false), has_custody_place: false, ..sound() }).is_empty()
        );
    }

    #[test]
    fn a_hearing_is_before_a_court_and_not_in_the_past() {
        let hearing = |day| NoticeTerms {
            stage: Some(Stage::FirstInstance),
            next_hearing_on: Some(Date::constant(2026, 3, day)),
            ..sound()
        };
        assert_eq!(rules(&hearing(4)), ["NOT_IN_THE_PAST"]);
        assert!(rules(&hearing(5)).is_empty());
        let investigated = NoticeTerms { stage: Some(Stage::Investigation), ..hearing(20) };
        assert_eq!(rules(&investigated), ["HEARING_IS_IN_COURT"]);
    }

    #[test]
    fn a_hearing_within_3_days_is_remarked_and_after_them_not() {
        let hearing = |day| NoticeTerms {
            stage: Some(Stage::FirstInstance),
            next_hearing_on: Some(Date::constant(2026, 3, day)),
            ..sound()
        };
        assert_eq!(remarked(&hearing(8)), ["HEARING_BEFORE_ASSIGNMENT_IS_DUE"]);
        assert!(remarked(&hearing(9)).is_empty());
    }

    #[test]
    fn a_notice_on_the_third_day_is_in_time_and_on_the_fourth_remarked() {
        let found = |day| NoticeTerms { found_on: Some(Date::constant(2026, 3, day)), ..sound() };
        assert!(remarked(&found(2)).is_empty());
        assert_eq!(remarked(&found(1)), ["NOTICE_WITHIN_3_DAYS"]);
    }

    #[test]
    fn age_and_ground_that_disagree_are_remarked_never_refused() {
        let aged = |age, ground| NoticeTerms { age: Some(age), ground: Some(ground), ..sound() };
        assert!(remarked(&aged(17, Ground::Minor)).is_empty());
        assert_eq!(remarked(&aged(18, Ground::Minor)), ["OF_AGE_BY_DOCUMENT"]);
        assert_eq!(remarked(&aged(17, Ground::GravestSentence)), ["MINOR_BY_DOCUMENT"]);
        assert!(remarked(&aged(18, Ground::GravestSentence)).is_empty());
        assert!(rules(&aged(18, Ground::Minor)).is_empty());
        assert!(remarked(&NoticeTerms { age: None, ..sound() }).is_empty());
    }

    #[test]
    fn the_gravest_cases_need_three_years_of_practice() {
        let refused = |ground, years| {
            let mut violations = Violations::new();
            check_experience(ground, years, &mut violations);
            !violations.is_empty()
        };
        for ground in Ground::ALL {
            let gravest = matches!(ground, Ground::GravestSentence | Ground::DeathPenaltyReview);
            assert_eq!(refused(*ground, Some(2)), gravest, "{ground}");
            assert_eq!(refused(*ground, None), gravest, "{ground}");
            assert!(!refused(*ground, Some(3)));
        }
    }

    #[test]
    fn what_is_unreadable_hides_no_other_violation() {
        let terms =
            NoticeTerms { ground: None, stage: None, has_counsel: Some(true), in_custody: None, ..sound() };
        assert_eq!(rules(&terms), ["ONLY_WITHOUT_COUNSEL"]);
    }
}
