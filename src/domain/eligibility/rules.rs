//! Dated rule sets: what regions add to the law, and every figure. They are data, so that a new figure needs no new
//! program.

mod file;

use std::fmt;

use jiff::civil::Date;

use super::{Matter, Programme};
use crate::domain::law::LegalBasis;
use crate::domain::money::Fen;
use crate::domain::person::Group;
use crate::domain::region::RegionCode;
use crate::domain::vocabulary::vocabulary;

pub use self::file::RuleSetError;

/// The rule sets that come with the program.
const BUILT_IN: [(&str, &str); 4] = [
    ("built-in national.toml", include_str!("../../../data/eligibility/national.toml")),
    ("built-in zhejiang.toml", include_str!("../../../data/eligibility/zhejiang.toml")),
    ("built-in luqiao.toml", include_str!("../../../data/eligibility/luqiao.toml")),
    ("built-in example-plus-200.toml", include_str!("../../../data/eligibility/example-plus-200.toml")),
];

vocabulary! {
    /// How well a rule's source was checked.
    pub enum Mark {
        /// Read in the primary text.
        Primary => "C",
        /// Seen in a secondary source.
        Secondary => "C2",
        /// From memory, or an example: check before use.
        Unverified => "M",
    }
}

vocabulary! {
    /// A published figure that a line is computed from.
    pub enum Base {
        /// 最低生活保障标准, a person and month.
        MinimumLivingAllowance => "minimum-living-allowance",
        /// 最低工资标准, a month.
        MinimumWage => "minimum-wage",
    }
}

/// Where a rule holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// In the whole nation.
    Nation,
    /// In a region and all below it.
    Region(RegionCode),
}

impl Area {
    /// Whether it holds in `region`.
    pub fn holds_in(self, region: RegionCode) -> bool {
        match self {
            Self::Nation => true,
            Self::Region(own) => region.is_within(own),
        }
    }

    /// Nation, province, city, county: the higher, the nearer.
    fn nearness(self) -> u8 {
        match self {
            Self::Nation => 0,
            Self::Region(own) if own == own.province() => 1,
            Self::Region(own) if own.city() == Some(own) => 2,
            Self::Region(_) => 3,
        }
    }
}

/// `CN` or a region's code.
impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nation => f.pad("CN"),
            Self::Region(code) => f.pad(&code.to_string()),
        }
    }
}

/// Where a rule comes from, and when it is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// Id of the rule set.
    pub set: String,
    /// Where it holds.
    pub area: Area,
    /// Law and article.
    pub basis: LegalBasis,
    /// First day in force (Asia/Shanghai).
    pub from: Date,
    /// Last day in force; nothing while no end is known.
    pub until: Option<Date>,
    /// Where the rule was found, in words.
    pub source: String,
    /// How well that was checked.
    pub mark: Mark,
    /// File and line, for error messages.
    pub place: String,
}

impl Provenance {
    fn is_in_force(&self, region: RegionCode, on: Date) -> bool {
        self.area.holds_in(region) && self.from <= on && self.until.is_none_or(|until| on <= until)
    }
}

/// The hardship line of a region: `times` x base + `plus`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineRule {
    /// What it is computed from.
    pub base: Base,
    /// How many thousandths of the base.
    pub times_permille: u32,
    /// What is added, a person and month.
    pub plus: Fen,
    /// Where it comes from.
    pub about: Provenance,
}

/// A published figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseAmount {
    /// Which figure.
    pub base: Base,
    /// How much, a month.
    pub amount: Fen,
    /// Where it comes from.
    pub about: Provenance,
}

/// Groups whose hardship is not checked (法律援助法 art 42 and regional additions).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRule {
    /// Its id; the nearest region's rule of an id counts.
    pub id: String,
    /// Which groups.
    pub groups: Vec<Group>,
    /// For which matters; empty for all.
    pub matters: Vec<Matter>,
    /// Whether they must have no fixed livelihood.
    pub no_fixed_livelihood: bool,
    /// Whether aid is given first and the proof may follow.
    pub papers_later: bool,
    /// Where it comes from.
    pub about: Provenance,
}

/// A programme whose recipients are not checked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgrammeRule {
    /// Which programme.
    pub programme: Programme,
    /// Where it comes from.
    pub about: Provenance,
}

/// All rule sets, free of contradictions.
#[derive(Clone, Debug)]
pub struct RuleSets {
    lines: Vec<LineRule>,
    bases: Vec<BaseAmount>,
    groups: Vec<GroupRule>,
    programmes: Vec<ProgrammeRule>,
}

impl RuleSets {
    /// The sets that come with the program, and those of `files` (name and text). A file replaces the built-in set
    /// of the same id.
    ///
    /// # Errors
    /// The first thing that is wrong, with file and line: malformed, an unknown region or word, no source, two rules for
    /// one thing on one day, two files with one id.
    pub fn load(files: impl IntoIterator<Item = (String, String)>) -> Result<Self, RuleSetError> {
        file::load(&BUILT_IN, files)
    }

    /// What is in force in a region on a day; of several rules for one thing the nearest region's.
    pub fn in_force(&self, region: RegionCode, on: Date) -> RulesInForce<'_> {
        let bases = nearest(&self.bases, |base| &base.about, |base| base.base, region, on);
        let line = nearest(&self.lines, |line| &line.about, |_| (), region, on).first().copied();
        RulesInForce {
            line: line.and_then(|rule| {
                let base = bases.iter().copied().find(|base| base.base == rule.base)?;
                let amount = base.amount.permille(rule.times_permille)?.checked_add(rule.plus)?;
                Some(LineInForce { rule, base, amount })
            }),
            groups: nearest(&self.groups, |rule| &rule.about, |rule| rule.id.as_str(), region, on),
            programmes: nearest(&self.programmes, |rule| &rule.about, |rule| rule.programme, region, on),
        }
    }
}

/// What is in force in a region on a day.
#[derive(Clone, Debug)]
pub struct RulesInForce<'r> {
    /// The line; nothing where the region has none, or its base has no figure on that day.
    pub line: Option<LineInForce<'r>>,
    /// Groups that are not checked.
    pub groups: Vec<&'r GroupRule>,
    /// Programmes whose recipients are not checked again.
    pub programmes: Vec<&'r ProgrammeRule>,
}

/// A line with its figure.
#[derive(Clone, Copy, Debug)]
pub struct LineInForce<'r> {
    /// The rule.
    pub rule: &'r LineRule,
    /// The figure it is computed from.
    pub base: &'r BaseAmount,
    /// The line: income a person and month at or below it is within.
    pub amount: Fen,
}

/// For each key the rule in force of the nearest region, in the order in which the keys first appear.
fn nearest<'r, R, K: PartialEq + 'r>(
    rules: &'r [R],
    about: impl Fn(&R) -> &Provenance,
    key: impl Fn(&'r R) -> K,
    region: RegionCode,
    on: Date,
) -> Vec<&'r R> {
    let mut found: Vec<&'r R> = Vec::new();
    for rule in rules.iter().filter(|rule| about(rule).is_in_force(region, on)) {
        match found.iter_mut().find(|other| key(other) == key(rule)) {
            Some(other) if about(other).area.nearness() < about(rule).area.nearness() => *other = rule,
            Some(_) => {}
            None => found.push(rule),
        }
    }
    found
}

#[cfg(test)]
mod tests;
