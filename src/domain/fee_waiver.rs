//! Fee waiver: the request's own rules, those that hold between its fields (Order 481, 诉讼费用交纳办法).

use jiff::civil::Date;

use super::agency::CreditCode;
use super::court_fee::{ClaimKind, Halving, expected_fee};
use super::law::Article;
use super::money::Fen;
use super::violation::{Remark, Violations};
use super::vocabulary::vocabulary;

/// Least reduction, in permille (art 46).
pub const LEAST_REDUCTION_PERMILLE: u32 = 300;

vocabulary! {
    /// What an applicant is.
    pub enum ApplicantKind {
        /// A natural person.
        NaturalPerson => "NATURAL_PERSON",
        /// A legal person or other organisation.
        LegalPerson => "LEGAL_PERSON",
        /// A welfare or rescue body.
        WelfareBody => "WELFARE_BODY",
    }
}

vocabulary! {
    /// What is asked.
    pub enum Relief {
        /// Pay later (art 47).
        Defer => "DEFER",
        /// Pay less (art 46).
        Reduce => "REDUCE",
        /// Pay nothing (art 45).
        Exempt => "EXEMPT",
    }
}

vocabulary! {
    /// Ground of relief, by article and item.
    pub enum Ground {
        /// Disabled without fixed livelihood.
        Disabled => "45(1)",
        /// Claims for support or bereavement pension.
        Support => "45(2)",
        /// Minimum allowance, destitute, five-guarantee or unemployment insurance.
        Allowance => "45(3)",
        /// Harmed in an act of bravery or for the public interest.
        Bravery => "45(4)",
        /// Other, for exemption.
        OtherExemption => "45(5)",
        /// Disaster, on relief or livelihood broken.
        Disaster => "46(1)",
        /// Special care or resettlement.
        SpecialCare => "46(2)",
        /// Welfare and rescue bodies.
        WelfareBody => "46(3)",
        /// Other, for reduction.
        OtherReduction => "46(4)",
        /// Social insurance money or economic compensation.
        SocialInsurance => "47(1)",
        /// Victim of an injury.
        InjuryVictim => "47(2)",
        /// Receiving legal aid.
        LegalAid => "47(3)",
        /// Other, for deferral.
        OtherDeferral => "47(4)",
    }
}

impl Ground {
    /// The relief that the ground's article gives.
    pub fn relief(self) -> Relief {
        match self {
            Self::Disabled | Self::Support | Self::Allowance | Self::Bravery | Self::OtherExemption => {
                Relief::Exempt
            }
            Self::Disaster | Self::SpecialCare | Self::WelfareBody | Self::OtherReduction => Relief::Reduce,
            Self::SocialInsurance | Self::InjuryVictim | Self::LegalAid | Self::OtherDeferral => {
                Relief::Defer
            }
        }
    }
}

/// The terms of a fee-waiver request, as far as each could be read: what is unreadable is `None` and has its own
/// violation already, and the rules between the others still hold.
#[derive(Clone, Debug, Default)]
pub struct FeeWaiverTerms {
    /// What the applicant is.
    pub applicant_kind: Option<ApplicantKind>,
    /// The court that has the case.
    pub court: Option<CreditCode>,
    /// Whether a case number is given.
    pub has_case_number: bool,
    /// Whether the case is in second instance.
    pub second_instance: bool,
    /// Whether a docketing date is given.
    pub has_docketing: bool,
    /// When the case was docketed.
    pub docketed_on: Option<Date>,
    /// Whether an appeal date is given.
    pub has_appeal: bool,
    /// When the appeal was filed.
    pub appealed_on: Option<Date>,
    /// What is claimed.
    pub claim_kind: Option<ClaimKind>,
    /// Whether a claimed sum is given.
    pub has_claimed_sum: bool,
    /// Sum claimed.
    pub claimed_sum: Option<Fen>,
    /// Fee that the court asks.
    pub fee: Option<Fen>,
    /// Why only half of it is asked.
    pub halving: Option<Halving>,
    /// What is asked.
    pub relief: Option<Relief>,
    /// Part to be remitted, permille.
    pub reduction_permille: Option<u32>,
    /// Ground.
    pub ground: Option<Ground>,
    /// Whether a legal-aid decision is given.
    pub has_aid_decision: bool,
    /// Whether a proof of hardship is given.
    pub has_hardship_proof: bool,
    /// The day, in Asia/Shanghai, on which the request was made.
    pub filed_on: Option<Date>,
}

impl FeeWaiverTerms {
    /// Checks the rules between fields against the exchange's `recipient`.
    pub fn check(&self, recipient: Option<&CreditCode>, violations: &mut Violations) {
        if self.relief == Some(Relief::Exempt)
            && self.applicant_kind.is_some_and(|kind| kind != ApplicantKind::NaturalPerson)
        {
            violations.add_by_article(
                "relief",
                "EXEMPTION_IS_FOR_NATURAL_PERSONS",
                "exemption is for natural persons only; a legal person or welfare body may ask for reduction or deferral",
                "免交诉讼费用只适用于自然人；法人或社会福利机构可以申请减交或者缓交",
                Article::court_fee_measures("44"),
            );
        }
        if let (Some(ground), Some(relief)) = (self.ground, self.relief)
            && ground.relief() != relief
        {
            violations.add_by_article(
                "ground",
                "GROUND_FITS_RELIEF",
                "the ground belongs to another relief: article 45 exempts, 46 reduces, 47 defers",
                "理由与请求不符：第四十五条为免交，第四十六条为减交，第四十七条为缓交",
                Article::court_fee_measures(match relief {
                    Relief::Exempt => "45",
                    Relief::Reduce => "46",
                    Relief::Defer => "47",
                }),
            );
        }
        if self.ground == Some(Ground::WelfareBody)
            && self.applicant_kind.is_some_and(|kind| kind != ApplicantKind::WelfareBody)
        {
            violations.add_by_article(
                "ground",
                "GROUND_IS_FOR_WELFARE_BODIES",
                "ground 46(3) is for welfare and rescue bodies",
                "第四十六条第三项仅适用于福利、救助等机构",
                Article::court_fee_measures("46(3)"),
            );
        }
        self.check_reduction(violations);
        self.check_proof(violations);
        self.check_case(recipient, violations);
        if self.claim_kind == Some(ClaimKind::Property) && !self.has_claimed_sum {
            violations.add_by_article(
                "claimed_sum_fen",
                "REQUIRED",
                "a property claim needs the sum claimed",
                "财产案件须填写诉讼请求金额",
                Article::court_fee_measures("13(1)"),
            );
        }
    }

    fn check_reduction(&self, violations: &mut Violations) {
        let article = Article::court_fee_measures("46");
        match (self.relief, self.reduction_permille) {
            (Some(Relief::Reduce), None) => violations.add_by_article(
                "reduction_permille",
                "REQUIRED",
                "a reduction needs the part of the fee to be remitted",
                "申请减交须填写减交比例",
                article,
            ),
            (Some(Relief::Reduce), Some(permille))
                if !(LEAST_REDUCTION_PERMILLE..1000).contains(&permille) =>
            {
                violations.add_by_article(
                    "reduction_permille",
                    "REDUCTION_AT_LEAST_30_PERCENT",
                    "a reduction is at least 300 permille, and below 1000",
                    "减交比例不得低于百分之三十，且低于百分之百",
                    article,
                );
            }
            (Some(Relief::Defer | Relief::Exempt), Some(_)) => violations.add_by_article(
                "reduction_permille",
                "ONLY_FOR_REDUCTION",
                "only a reduction has a part to be remitted",
                "只有申请减交时填写减交比例",
                article,
            ),
            _ => {}
        }
    }

    fn check_proof(&self, violations: &mut Violations) {
        if self.ground == Some(Ground::LegalAid) && !self.has_aid_decision {
            violations.add_by_article(
                "aid_decision",
                "REQUIRED",
                "ground 47(3), receiving legal aid, needs the centre's decision",
                "以正在接受法律援助为由的，须附法律援助决定",
                Article::court_fee_measures("47(3)"),
            );
        }
        match (self.has_aid_decision, self.has_hardship_proof) {
            (false, false) if self.ground.is_some_and(|ground| ground != Ground::LegalAid) => violations
                .add_by_article(
                    "hardship_proof",
                    "REQUIRED",
                    "without a legal-aid decision, proof of hardship is needed",
                    "没有法律援助决定的，须提交经济困难证明材料",
                    Article::court_fee_measures("48"),
                ),
            (true, true) => violations.add_by_article(
                "hardship_proof",
                "NOT_BESIDE_AN_AID_DECISION",
                "who holds a legal-aid decision proves hardship by it; no second proof is asked",
                "已有法律援助决定的，无需另行提交经济困难证明",
                Article::legal_aid_law("53"),
            ),
            _ => {}
        }
    }

    fn check_case(&self, recipient: Option<&CreditCode>, violations: &mut Violations) {
        if let (Some(recipient), Some(court)) = (recipient, &self.court)
            && recipient != court
        {
            violations.add_by_article(
                "court_case.court",
                "COURT_IS_THE_RECIPIENT",
                "the case's court must be the envelope's recipient",
                "案件受理法院须与接收机构一致",
                Article::court_fee_measures("48"),
            );
        }
        if self.has_docketing != self.has_case_number {
            violations.add_by_article(
                "court_case.case_number",
                "CASE_NUMBER_WITH_DOCKETING",
                "a docketed case has both a case number and a docketing date, any other has neither",
                "已立案的须同时填写案号和立案日期，未立案的均不填写",
                Article::court_fee_measures("48"),
            );
        }
        if self.second_instance && !self.has_appeal {
            violations.add_by_article(
                "court_case.appealed_on",
                "REQUIRED",
                "second instance needs the date of the appeal",
                "二审案件须填写上诉日期",
                Article::court_fee_measures("48"),
            );
        }
        let latest = if self.second_instance { self.appealed_on } else { self.docketed_on };
        if let (Some(filed), Some(latest)) = (self.filed_on, latest)
            && filed > latest
        {
            violations.add_by_article(
                "filed_at",
                "AT_FILING_OR_APPEAL",
                "relief is asked at or before docketing, in second instance at or before the appeal",
                "应当在起诉或者上诉时提出申请",
                Article::court_fee_measures("48"),
            );
        }
    }

    /// What is worth saying although it stops nothing: a fee that disagrees with art 13, halved by art 15, 16 or 18.
    pub fn remarks(&self) -> Vec<Remark> {
        let expected = self.claim_kind.and_then(|kind| expected_fee(kind, self.claimed_sum, self.halving));
        let (Some(expected), Some(fee)) = (expected, self.fee) else { return Vec::new() };
        if expected == fee {
            return Vec::new();
        }
        vec![Remark {
            field: "fee_fen".to_owned(),
            rule: "FEE_DISAGREES_WITH_LADDER",
            description: match self.halving.and_then(|halving| halving.article().number()) {
                None => format!("by article 13 the fee is {expected}"),
                Some(article) => format!("by article 13, halved by article {article}, the fee is {expected}"),
            },
            description_zh: match self.halving.and_then(|halving| halving.article().number()) {
                None => format!("按第13条计算，案件受理费为{}", expected.in_chinese()),
                Some(article) => {
                    format!("按第13条计算、依第{article}条减半后，案件受理费为{}", expected.in_chinese())
                }
            },
            article: self.halving.map_or(Article::court_fee_measures("13"), Halving::article),
        }]
    }
}

vocabulary! {
    /// Outcome of a fee-waiver request.
    pub enum Outcome {
        /// Payment deferred.
        Deferred => "DEFERRED",
        /// Fee reduced.
        Reduced => "REDUCED",
        /// Fee exempted.
        Exempted => "EXEMPTED",
        /// Refused.
        Refused => "REFUSED",
        /// Withdrawn.
        Withdrawn => "WITHDRAWN",
    }
}

/// The terms of a court's decision, as far as each could be read.
#[derive(Clone, Debug, Default)]
pub struct DecisionTerms {
    /// What was decided.
    pub outcome: Option<Outcome>,
    /// Whether the sum still to be paid is given.
    pub has_payable: bool,
    /// Whether it is given until when payment is deferred.
    pub has_deferral: bool,
    /// Until when payment is deferred.
    pub deferred_until: Option<Date>,
    /// Whether written reasons are given.
    pub has_reasons: bool,
    /// Day of the decision.
    pub decided_on: Option<Date>,
}

impl DecisionTerms {
    /// Checks the rules between fields.
    pub fn check(&self, violations: &mut Violations) {
        let Some(outcome) = self.outcome else { return };
        if outcome == Outcome::Refused && !self.has_reasons {
            violations.add_by_article(
                "reasons",
                "REFUSAL_NEEDS_REASONS",
                "a refusal must give written reasons",
                "不予批准的，应当书面说明理由",
                Article::court_fee_measures("48"),
            );
        }
        if (outcome == Outcome::Reduced) != self.has_payable {
            violations.add_by_article(
                "payable_fen",
                "SUM_WITH_REDUCTION",
                "a reduction, and only a reduction, states the sum still to be paid",
                "减交决定（且仅减交决定）须写明应交金额",
                Article::court_fee_measures("46"),
            );
        }
        if (outcome == Outcome::Deferred) != self.has_deferral {
            violations.add_by_article(
                "deferred_until",
                "DATE_WITH_DEFERRAL",
                "a deferral, and only a deferral, states until when payment is deferred",
                "缓交决定（且仅缓交决定）须写明缓交期限",
                Article::court_fee_measures("47"),
            );
        }
        if let (Some(until), Some(decided)) = (self.deferred_until, self.decided_on)
            && until < decided
        {
            violations.add(
                "deferred_until",
                "NOT_BEFORE_THE_DECISION",
                "payment cannot be deferred to a day before the decision",
                "缓交期限不得早于决定日期",
            );
        }
    }
}

/// Checks what is still to be paid after a reduction of `fee`.
pub fn check_payable(payable: Fen, fee: Fen, violations: &mut Violations) {
    let most = fee.permille(1000 - LEAST_REDUCTION_PERMILLE);
    if most.is_some_and(|most| payable > most) {
        violations.add_by_article(
            "payable_fen",
            "REDUCTION_AT_LEAST_30_PERCENT",
            "a reduction remits at least 30% of the fee",
            "减交比例不得低于百分之三十",
            Article::court_fee_measures("46"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Receives legal aid and asks to pay later, before docketing: nothing is wrong with it.
    fn sound() -> FeeWaiverTerms {
        FeeWaiverTerms {
            applicant_kind: Some(ApplicantKind::NaturalPerson),
            court: CreditCode::parse("91110000600037341L").ok(),
            claim_kind: Some(ClaimKind::Property),
            has_claimed_sum: true,
            claimed_sum: Some(Fen::yuan(100_000)),
            fee: Some(Fen::yuan(2_300)),
            relief: Some(Relief::Defer),
            ground: Some(Ground::LegalAid),
            has_aid_decision: true,
            filed_on: Some(Date::constant(2026, 3, 2)),
            ..FeeWaiverTerms::default()
        }
    }

    fn rules(terms: &FeeWaiverTerms) -> Vec<&'static str> {
        let mut violations = Violations::new();
        terms.check(terms.court.as_ref(), &mut violations);
        violations.into_vec().iter().map(|violation| violation.rule).collect()
    }

    #[test]
    fn a_sound_request_breaks_no_rule_and_earns_no_remark() {
        assert!(rules(&sound()).is_empty());
        assert!(sound().remarks().is_empty());
    }

    #[test]
    fn exemption_is_for_natural_persons_only() {
        let terms = FeeWaiverTerms {
            applicant_kind: Some(ApplicantKind::LegalPerson),
            relief: Some(Relief::Exempt),
            ground: Some(Ground::Disabled),
            ..sound()
        };
        assert_eq!(rules(&terms), ["EXEMPTION_IS_FOR_NATURAL_PERSONS"]);
    }

    #[test]
    fn a_reduction_below_30_percent_is_refused_and_at_30_percent_accepted() {
        let reduce = |permille| FeeWaiverTerms {
            relief: Some(Relief::Reduce),
            ground: Some(Ground::Disaster),
            reduction_permille: permille,
            ..sound()
        };
        assert_eq!(rules(&reduce(Some(299))), ["REDUCTION_AT_LEAST_30_PERCENT"]);
        assert!(rules(&reduce(Some(300))).is_empty());
        assert!(rules(&reduce(Some(999))).is_empty());
        assert_eq!(rules(&reduce(Some(1000))), ["REDUCTION_AT_LEAST_30_PERCENT"]);
        assert_eq!(rules(&reduce(None)), ["REQUIRED"]);
    }

    #[test]
    fn the_ground_must_fit_the_relief() {
        for ground in Ground::ALL {
            for relief in Relief::ALL {
                let terms = FeeWaiverTerms {
                    applicant_kind: Some(ApplicantKind::NaturalPerson),
                    ground: Some(*ground),
                    relief: Some(*relief),
                    ..sound()
                };
                let fits = !rules(&terms).contains(&"GROUND_FITS_RELIEF");
                assert_eq!(fits, ground.relief() == *relief, "{ground} {relief}");
            }
        }
    }

    #[test]
    fn hardship_is_proven_once_by_decision_or_by_proof() {
        let without = FeeWaiverTerms { has_aid_decision: false, ..sound() };
        assert_eq!(rules(&without), ["REQUIRED"]);
        let twice = FeeWaiverTerms { has_hardship_proof: true, ..sound() };
        assert_eq!(rules(&twice), ["NOT_BESIDE_AN_AID_DECISION"]);
        let other_ground =
            FeeWaiverTerms { has_aid_decision: false, ground: Some(Ground::InjuryVictim), ..sound() };
        assert_eq!(rules(&other_ground), ["REQUIRED"]);
        let proven = FeeWaiverTerms { has_hardship_proof: true, ..other_ground };
        assert!(rules(&proven).is_empty());
    }

    #[test]
    fn relief_is_asked_at_or_before_docketing_or_appeal() {
        let docketed = |day| FeeWaiverTerms {
            has_case_number: true,
            has_docketing: true,
            docketed_on: Some(Date::constant(2026, 3, day)),
            ..sound()
        };
        assert!(rules(&docketed(2)).is_empty());
        assert_eq!(rules(&docketed(1)), ["AT_FILING_OR_APPEAL"]);
        let appealed = FeeWaiverTerms {
            second_instance: true,
            has_appeal: true,
            appealed_on: Some(Date::constant(2026, 3, 2)),
            ..docketed(1)
        };
        assert!(rules(&appealed).is_empty(), "in second instance the appeal counts");
        assert_eq!(rules(&FeeWaiverTerms { has_appeal: false, appealed_on: None, ..appealed }), ["REQUIRED"]);
    }

    #[test]
    fn a_reduction_remits_at_least_three_tenths() {
        for (payable, fits) in [(161_000, true), (161_001, false)] {
            let mut violations = Violations::new();
            check_payable(Fen::new(payable).unwrap(), Fen::yuan(2_300), &mut violations);
            assert_eq!(violations.is_empty(), fits, "{payable}");
        }
    }

    #[test]
    fn a_fee_off_the_ladder_is_a_remark_with_the_computed_figure() {
        let remarks = FeeWaiverTerms { fee: Some(Fen::yuan(9_999)), ..sound() }.remarks();
        assert_eq!(remarks.len(), 1);
        assert!(remarks[0].description.contains("2,300.00 yuan"), "{:?}", remarks[0]);
        assert!(remarks[0].description_zh.contains("2,300.00元"), "{:?}", remarks[0]);
    }

    #[test]
    fn a_halved_fee_is_held_to_half_the_ladder() {
        let halved =
            |yuan, halving| FeeWaiverTerms { fee: Some(Fen::yuan(yuan)), halving, ..sound() }.remarks();
        for halving in Halving::ALL {
            assert!(halved(1_150, Some(*halving)).is_empty(), "{halving}");
        }
        let full = halved(2_300, Some(Halving::SummaryProcedure));
        assert!(full[0].description.contains("article 16") && full[0].description.contains("1,150.00 yuan"));
        assert_eq!(full[0].article, Article::court_fee_measures("16"));
        assert_eq!(halved(1_150, None).len(), 1, "half is too little without a reason");
    }

    #[test]
    fn what_is_unreadable_hides_no_other_violation() {
        let terms = FeeWaiverTerms {
            applicant_kind: Some(ApplicantKind::LegalPerson),
            relief: Some(Relief::Exempt),
            ground: None,
            court: None,
            filed_on: None,
            reduction_permille: Some(200),
            ..sound()
        };
        assert_eq!(rules(&terms), ["EXEMPTION_IS_FOR_NATURAL_PERSONS", "ONLY_FOR_REDUCTION"]);
    }

    #[test]
    fn a_refusal_needs_reasons_and_other_outcomes_their_terms() {
        let broken = |terms: DecisionTerms| {
            let mut violations = Violations::new();
            terms.check(&mut violations);
            violations.into_vec().iter().map(|violation| violation.rule).collect::<Vec<_>>()
        };
        let decided = |outcome| DecisionTerms {
            outcome: Some(outcome),
            decided_on: Some(Date::constant(2026, 3, 2)),
            ..DecisionTerms::default()
        };
        assert_eq!(broken(decided(Outcome::Refused)), ["REFUSAL_NEEDS_REASONS"]);
        assert!(broken(DecisionTerms { has_reasons: true, ..decided(Outcome::Refused) }).is_empty());
        assert_eq!(broken(decided(Outcome::Reduced)), ["SUM_WITH_REDUCTION"]);
        assert_eq!(broken(decided(Outcome::Deferred)), ["DATE_WITH_DEFERRAL"]);
        let early = DecisionTerms {
            has_deferral: true,
            deferred_until: Some(Date::constant(2026, 3, 1)),
            ..decided(Outcome::Deferred)
        };
        assert_eq!(broken(early), ["NOT_BEFORE_THE_DECISION"]);
        assert!(broken(decided(Outcome::Exempted)).is_empty());
    }
}
