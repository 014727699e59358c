//! Applications to be assessed, and assessments.

use std::num::NonZeroU32;

use jiff::Timestamp;

use super::person::{group, person};
use super::time::{date, mandatory_date, past_date, shanghai_day};
use super::verification::authority;
use super::{digest, word};
use crate::domain::eligibility::{
    Assessment, Case, DeclaredIncome, Due, GroupClaim, IN_FORCE_FROM, Matter, Outcome, Programme, Review,
    Standing, Tried, Urgency, UrgentGround, Verdict,
};
use crate::domain::law::{Article, Law};
use crate::domain::money::Fen;
use crate::domain::person::Person;
use crate::domain::region::RegionCode;
use crate::domain::violation::Violations;
use crate::grpc::proto;

/// Most groups of one application.
const MOST_CLAIMS: usize = 15;

/// Most programmes of one application.
const MOST_PROGRAMMES: usize = 8;

/// Most members of a household.
const MOST_MEMBERS: u32 = 100;

/// An application as read.
pub(crate) struct Application {
    pub(crate) applicant: Person,
    pub(crate) case: Case,
}

/// Reads an application; `field` paths start at `eligibility_case`. `region` is the envelope's.
pub(crate) fn application(
    violations: &mut Violations,
    value: Option<&proto::EligibilityCase>,
    region: Option<RegionCode>,
    now: Timestamp,
) -> Option<Application> {
    let value = violations.require("eligibility_case", value)?;
    let today = shanghai_day(now);
    violations.within("eligibility_case", |v| {
        let applicant = v.require("applicant", value.applicant.as_ref());
        let applicant =
            applicant.and_then(|applicant| v.within("applicant", |v| person(v, applicant, today)));
        let applied_on = past_date(v, "applied_on", value.applied_on.as_ref(), today);
        if applied_on.is_some_and(|day| day < IN_FORCE_FROM) {
            v.add_by_article(
                "applied_on",
                "NOT_BEFORE_THE_LAW",
                format!("the law is in force since {IN_FORCE_FROM}"),
                format!("法律援助法自{IN_FORCE_FROM}起施行"),
                Article::whole(Law::LegalAidLaw),
            );
        }
        let matter = word(v, "matter", value.matter, matter);
        let review = match value.review {
            0 => None,
            stated => word(v, "review", stated, review),
        };
        let urgency =
            value.urgency.as_ref().and_then(|urgency| v.within("urgency", |v| read_urgency(v, urgency)));
        let groups = group_claims(v, &value.group_claims);
        let mut programmes = programmes(v, &value.programmes);
        if value.claims_poverty_household {
            programmes.push(Programme::PovertyHousehold);
        }
        let income = value.income.as_ref().and_then(|income| v.within("income", |v| declared(v, income)));
        if value.authority.is_some() || !value.programmes.is_empty() || value.claims_poverty_household {
            authority(v, value.authority.as_ref(), now);
        }
        let case = Case {
            region: region?,
            applied_on: applied_on?,
            matter: matter?,
            review,
            urgency,
            groups,
            programmes,
            income,
        };
        Some(Application { applicant: applicant?, case })
    })
}

fn read_urgency(violations: &mut Violations, value: &proto::Urgency) -> Option<Urgency> {
    let ground = word(violations, "ground", value.ground, |ground| match ground {
        proto::UrgentGround::Unspecified => None,
        proto::UrgentGround::Deadline => Some(UrgentGround::Deadline),
        proto::UrgentGround::Preservation => Some(UrgentGround::Preservation),
        proto::UrgentGround::Other => Some(UrgentGround::Other),
    });
    let ends_on = match ground {
        Some(UrgentGround::Deadline) => mandatory_date(violations, "ends_on", value.ends_on.as_ref()),
        Some(_) if value.ends_on.is_some() => {
            violations.add_by_article(
                "ends_on",
                "ONLY_FOR_A_DEADLINE",
                "only a deadline has a last day",
                "仅期限届满的情形填写届满日期",
                Article::legal_aid_law("44(1)"),
            );
            None
        }
        _ => None,
    };
    Some(Urgency { ground: ground?, ends_on })
}

fn group_claims(violations: &mut Violations, values: &[proto::GroupClaim]) -> Vec<GroupClaim> {
    if values.len() > MOST_CLAIMS {
        violations.add("group_claims", "AT_MOST_15", "at most 15 groups", "人群类别不得超过15项");
    }
    let read = |(place, value): (usize, &proto::GroupClaim)| {
        violations.within(&format!("group_claims[{place}]"), |v| {
            let group = word(v, "group", value.group, group);
            if !value.proof_sha256.is_empty() {
                digest(v, "proof_sha256", &value.proof_sha256);
            }
            Some(GroupClaim {
                group: group?,
                is_proven: !value.proof_sha256.is_empty(),
                has_no_fixed_livelihood: value.no_fixed_livelihood,
            })
        })
    };
    values.iter().take(MOST_CLAIMS).enumerate().filter_map(read).collect()
}

fn programmes(violations: &mut Violations, values: &[i32]) -> Vec<Programme> {
    if values.len() > MOST_PROGRAMMES {
        violations.add("programmes", "AT_MOST_8", "at most 8 programmes", "救助项目不得超过8项");
    }
    let read =
        |(place, value): (usize, &i32)| word(violations, &format!("programmes[{place}]"), *value, programme);
    values.iter().take(MOST_PROGRAMMES).enumerate().filter_map(read).collect()
}

fn declared(violations: &mut Violations, value: &proto::DeclaredIncome) -> Option<DeclaredIncome> {
    let monthly = violations.require("household_monthly_income_fen", value.household_monthly_income_fen);
    let monthly =
        monthly.and_then(|fen| violations.check("household_monthly_income_fen", Fen::try_from(fen)));
    let members = match value.household_members {
        0 => violations.require("household_members", None),
        members if members > MOST_MEMBERS => {
            violations.add(
                "household_members",
                "RANGE",
                format!("a household has 1 to {MOST_MEMBERS} members"),
                format!("家庭人口须为1至{MOST_MEMBERS}人"),
            );
            None
        }
        members => NonZeroU32::new(members),
    };
    Some(DeclaredIncome { monthly: monthly?, members: members? })
}

fn matter(value: proto::AidMatter) -> Option<Matter> {
    use proto::AidMatter as M;
    match value {
        M::Unspecified => None,
        M::StateCompensation => Some(Matter::StateCompensation),
        M::SocialInsurance => Some(Matter::SocialInsurance),
        M::BereavementPension => Some(Matter::BereavementPension),
        M::Support => Some(Matter::Support),
        M::LabourRelation => Some(Matter::LabourRelation),
        M::LabourPay => Some(Matter::LabourPay),
        M::Incapacity => Some(Matter::Incapacity),
        M::WorkInjury => Some(Matter::WorkInjury),
        M::TrafficInjury => Some(Matter::TrafficInjury),
        M::FoodOrDrugInjury => Some(Matter::FoodOrDrugInjury),
        M::MedicalInjury => Some(Matter::MedicalInjury),
        M::EcologicalHarm => Some(Matter::EcologicalHarm),
        M::HeroesAndMartyrs => Some(Matter::HeroesAndMartyrs),
        M::Bravery => Some(Matter::Bravery),
        M::AcquittalCompensation => Some(Matter::AcquittalCompensation),
        M::DomesticViolence => Some(Matter::DomesticViolence),
        M::Other => Some(Matter::Other),
    }
}

fn review(value: proto::JudgmentReview) -> Option<Review> {
    match value {
        proto::JudgmentReview::Unspecified => None,
        proto::JudgmentReview::RetrialOrdered => Some(Review::RetrialOrdered),
        proto::JudgmentReview::Protested => Some(Review::Protested),
        proto::JudgmentReview::Neither => Some(Review::Neither),
    }
}

fn programme(value: proto::Programme) -> Option<Programme> {
    match value {
        proto::Programme::Unspecified => None,
        proto::Programme::MinimumAllowance => Some(Programme::MinimumAllowance),
        proto::Programme::Destitute => Some(Programme::Destitute),
        proto::Programme::AllowanceEdge => Some(Programme::AllowanceEdge),
        proto::Programme::RigidExpense => Some(Programme::RigidExpense),
    }
}

/// A programme of the low-income register on the wire.
pub(crate) fn programme_on_wire(programme: Programme) -> Option<proto::Programme> {
    match programme {
        Programme::MinimumAllowance => Some(proto::Programme::MinimumAllowance),
        Programme::Destitute => Some(proto::Programme::Destitute),
        Programme::AllowanceEdge => Some(proto::Programme::AllowanceEdge),
        Programme::RigidExpense => Some(proto::Programme::RigidExpense),
        Programme::PovertyHousehold => None,
    }
}

/// An assessment on the wire.
pub(crate) fn assessment(
    assessment: &Assessment,
    registers: Vec<proto::RegisterAsked>,
) -> proto::AssessEligibilityResponse {
    use proto::EligibilityOutcome as O;
    let outcome = match assessment.outcome {
        Outcome::NoMeansTest => O::NoMeansTest,
        Outcome::Passported => O::Passported,
        Outcome::WithinLine => O::WithinLine,
        Outcome::Provisional => O::Provisional,
        Outcome::UndertakingNeeded => O::UndertakingNeeded,
        Outcome::ReferToPerson => O::ReferToPerson,
    };
    proto::AssessEligibilityResponse {
        outcome: outcome.into(),
        rules: assessment.tried.iter().map(tried).collect(),
        due: assessment.due.iter().map(due).collect(),
        registers,
        audit: None,
    }
}

fn tried(tried: &Tried) -> proto::RuleTried {
    let verdict = match tried.verdict {
        Verdict::Met => proto::RuleVerdict::Met,
        Verdict::NotMet => proto::RuleVerdict::NotMet,
        Verdict::Unknown => proto::RuleVerdict::Unknown,
    };
    let inputs = tried.inputs.iter();
    let inputs =
        inputs.map(|input| proto::RuleInput { name: input.name.to_owned(), value: input.value.clone() });
    proto::RuleTried {
        rule: tried.rule.clone(),
        article: tried.article.clone(),
        verdict: verdict.into(),
        inputs: inputs.collect(),
        would_change: tried.would_change.map(|text| text.en.to_owned()).unwrap_or_default(),
        would_change_zh: tried.would_change.map(|text| text.zh.to_owned()).unwrap_or_default(),
        source: tried.source.clone().unwrap_or_default(),
        mark: tried.mark.map(|mark| mark.as_str().to_owned()).unwrap_or_default(),
    }
}

fn due(due: &Due) -> proto::EligibilityDue {
    proto::EligibilityDue {
        code: due.code.to_owned(),
        text: due.text.en.to_owned(),
        text_zh: due.text.zh.to_owned(),
        article: due.article.to_string(),
        due_on: due.by.map(date),
    }
}

/// How the household stands in each programme that was asked about.
pub(crate) fn standings(asked: &[Programme], answer: &proto::LowIncomeAnswer) -> Vec<(Programme, Standing)> {
    let is_active = |programme| {
        let word = programme_on_wire(programme).map(i32::from);
        answer.programmes.iter().any(|status| {
            Some(status.programme) == word && status.status == proto::RegisterStatus::Active as i32
        })
    };
    let standing = |programme| match (is_clear(answer.result), is_active(programme)) {
        (false, _) => Standing::Unknown,
        (true, true) => Standing::Active,
        (true, false) => Standing::NotActive,
    };
    asked.iter().map(|programme| (*programme, standing(*programme))).collect()
}

/// How the household stands on the register of poverty households: a risk that was removed is past.
pub(crate) fn standing_of_poverty(answer: &proto::PovertyHouseholdAnswer) -> Standing {
    let is_match = answer.result == proto::VerificationResult::Match as i32;
    let is_past = answer.risk == proto::PovertyRisk::Removed as i32;
    match (is_clear(answer.result), is_match && !is_past) {
        (false, _) => Standing::Unknown,
        (true, true) => Standing::Active,
        (true, false) => Standing::NotActive,
    }
}

/// Whether a result is the register's own word.
fn is_clear(result: i32) -> bool {
    [proto::VerificationResult::Match, proto::VerificationResult::NoMatch].map(i32::from).contains(&result)
}
