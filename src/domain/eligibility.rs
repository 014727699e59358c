//! Whether an applicant may be aided: a recommendation with its reasons. A person decides, and only a person refuses.
//!
//! [`assess`] tries the rules in the law's order: the matter (法律援助法 31, 32, 33), urgency (44), groups that are not
//! checked (42 and regional additions), registers (41, 42), the declared income against the region's line (34), the
//! undertaking (41). The law's own lists are types here; what regions add, and every figure, is a dated rule in
//! [`RuleSets`].

mod assess;
mod assessment;
mod rules;

use jiff::civil::Date;

use super::law::Article;
use super::money::Fen;
use super::person::Group;
use super::region::RegionCode;
use super::vocabulary::vocabulary;

pub use self::assess::{Assessment, Registers, Standing, assess, programmes_to_ask};
pub use self::assessment::{Due, Input, Outcome, Text, Tried, Verdict};
pub use self::rules::{
    Area, Base, BaseAmount, GroupRule, LineInForce, LineRule, Mark, ProgrammeRule, Provenance, RuleSetError,
    RuleSets, RulesInForce,
};

vocabulary! {
    /// What the applicant needs aid for (法律援助法 arts 31 and 32).
    pub enum Matter {
        /// State compensation.
        StateCompensation => "state-compensation",
        /// Social insurance or social relief.
        SocialInsurance => "social-insurance",
        /// Pension for the bereaved.
        BereavementPension => "bereavement-pension",
        /// Support of parents, children or spouses.
        Support => "support",
        /// Whether there is a labour relation.
        LabourRelation => "labour-relation",
        /// Pay for labour.
        LabourPay => "labour-pay",
        /// Declaring somebody incapable, or of limited capacity.
        Incapacity => "incapacity",
        /// Injury at work.
        WorkInjury => "work-injury",
        /// Injury in traffic.
        TrafficInjury => "traffic-injury",
        /// Injury by food or drugs.
        FoodOrDrugInjury => "food-or-drug-injury",
        /// Injury in medical care.
        MedicalInjury => "medical-injury",
        /// Pollution or ecological harm.
        EcologicalHarm => "ecological-harm",
        /// Personality rights of heroes and martyrs, by their near relatives.
        HeroesAndMartyrs => "heroes-and-martyrs",
        /// Civil rights after an act of bravery.
        Bravery => "bravery",
        /// State compensation after acquittal in a retrial.
        AcquittalCompensation => "acquittal-compensation",
        /// Victims of abuse, abandonment or domestic violence.
        DomesticViolence => "domestic-violence",
        /// Anything else: whether another law covers it is for a person to say.
        Other => "other",
    }
}

impl Matter {
    /// The item of the law that names the matter.
    pub const fn article(self) -> Article {
        Article::legal_aid_law(match self {
            Self::StateCompensation => "31(1)",
            Self::SocialInsurance => "31(2)",
            Self::BereavementPension => "31(3)",
            Self::Support => "31(4)",
            Self::LabourRelation | Self::LabourPay => "31(5)",
            Self::Incapacity => "31(6)",
            Self::WorkInjury | Self::TrafficInjury | Self::FoodOrDrugInjury | Self::MedicalInjury => "31(7)",
            Self::EcologicalHarm => "31(8)",
            Self::HeroesAndMartyrs => "32(1)",
            Self::Bravery => "32(2)",
            Self::AcquittalCompensation => "32(3)",
            Self::DomesticViolence => "32(4)",
            Self::Other => "31(9)",
        })
    }

    /// Whether hardship plays no part (art 32).
    pub const fn is_free_of_limit(self) -> bool {
        matches!(
            self,
            Self::HeroesAndMartyrs | Self::Bravery | Self::AcquittalCompensation | Self::DomesticViolence
        )
    }
}

vocabulary! {
    /// What became of the complaint against an effective judgment (法律援助法 art 33).
    pub enum Review {
        /// The court ordered a retrial.
        RetrialOrdered => "retrial-ordered",
        /// The procuratorate protested.
        Protested => "protested",
        /// Neither, so far.
        Neither => "neither",
    }
}

vocabulary! {
    /// Why aid cannot wait for the papers (法律援助法 art 44).
    pub enum UrgentGround {
        /// A limitation or other legal period ends in less than seven days.
        Deadline => "deadline",
        /// Preservation of property or evidence, or advance enforcement, is needed at once.
        Preservation => "preservation",
        /// Another case that a law, regulation or rule names.
        Other => "other",
    }
}

vocabulary! {
    /// A relief programme of a register.
    pub enum Programme {
        /// 低保, minimum living allowance.
        MinimumAllowance => "minimum-allowance",
        /// 特困, destitute support.
        Destitute => "destitute",
        /// 低保边缘, allowance edge.
        AllowanceEdge => "allowance-edge",
        /// 刚性支出困难, hardship by rigid expense.
        RigidExpense => "rigid-expense",
    }
}

/// An application, as far as eligibility depends on it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Where the matter is handled: its rules count.
    pub region: RegionCode,
    /// Day of the application (Asia/Shanghai): the rules in force on it count.
    pub applied_on: Date,
    /// What aid is needed for.
    pub matter: Matter,
    /// Set where the matter is against an effective judgment.
    pub review: Option<Review>,
    /// Why aid cannot wait, if it cannot.
    pub urgency: Option<Urgency>,
    /// Groups that the applicant claims to belong to.
    pub groups: Vec<GroupClaim>,
    /// Programmes that the household claims to draw.
    pub programmes: Vec<Programme>,
    /// What the household declares to earn.
    pub income: Option<DeclaredIncome>,
}

/// Why aid cannot wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Urgency {
    /// The ground.
    pub ground: UrgentGround,
    /// For [`UrgentGround::Deadline`]: the last day of the period.
    pub ends_on: Option<Date>,
}

/// A group that the applicant claims to belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupClaim {
    /// The group.
    pub group: Group,
    /// Whether a document proves it.
    pub is_proven: bool,
    /// Whether the applicant has no fixed livelihood, by the same document.
    pub has_no_fixed_livelihood: bool,
}

/// What a household declares to earn. `Debug` shows nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DeclaredIncome {
    /// Income of the whole household in a month.
    pub monthly: Fen,
    /// Members of the household, at least one.
    pub members: std::num::NonZeroU32,
}

impl DeclaredIncome {
    /// Whether the income per head is at or below `line`. Exact: nothing is divided.
    pub fn is_within(self, line: Fen) -> bool {
        i128::from(self.monthly.get()) <= i128::from(line.get()) * i128::from(self.members.get())
    }
}

impl std::fmt::Debug for DeclaredIncome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeclaredIncome(…)")
    }
}

impl Case {
    /// Programmes that the claims name, also by group.
    fn claimed_programmes(&self) -> Vec<Programme> {
        let by_group = self.groups.iter().filter_map(|claim| match claim.group {
            Group::MinimumAllowance => Some(Programme::MinimumAllowance),
            Group::Destitute => Some(Programme::Destitute),
            _ => None,
        });
        let mut claimed = Vec::new();
        for programme in self.programmes.iter().copied().chain(by_group) {
            if !claimed.contains(&programme) {
                claimed.push(programme);
            }
        }
        claimed
    }
}
