//! Why no agreement allows a call.

use std::fmt;

use jiff::civil::Date;

use crate::audit::entry::AgreementReference;
use crate::domain::vocabulary::vocabulary;

/// Most agreements that a denial names: its audit entry has room for them.
const MOST_CONSIDERED: usize = 16;

vocabulary! {
    /// A condition of an agreement that a call does not meet, in the order in which they are looked at.
    pub enum Condition {
        /// None names this caller and method.
        Method => "NO_AGREEMENT",
        /// It is for another unit of the caller.
        Unit => "UNIT_NOT_AGREED",
        /// It is not in force today.
        InForce => "AGREEMENT_NOT_IN_FORCE",
        /// It is for other kinds of exchange or question.
        Kind => "KIND_NOT_AGREED",
        /// It does not list the purpose.
        Purpose => "PURPOSE_NOT_AGREED",
        /// It asks for another legal basis.
        LegalBasis => "LEGAL_BASIS_NOT_AGREED",
        /// It does not list a programme that is asked about.
        Programme => "PROGRAMME_NOT_AGREED",
        /// The directory does not list the operator, as it demands.
        OperatorListed => "OPERATOR_NOT_LISTED",
        /// The operator, or the unit, is listed for other days.
        OperatorValid => "OPERATOR_NOT_VALID",
        /// It does not list the counterpart.
        Counterpart => "COUNTERPART_NOT_AGREED",
    }
}

impl Condition {
    /// What is not met, in English.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Method => "no agreement allows this agency to call this method",
            Self::Unit => "the agreement is for another unit of this agency",
            Self::InForce => "the agreement is not in force today",
            Self::Kind => "the agreement does not allow this kind",
            Self::Purpose => "the agreement does not allow this purpose",
            Self::LegalBasis => "the agreement requires another legal basis",
            Self::Programme => "the agreement does not allow asking about one of the programmes",
            Self::OperatorListed => "the agreement requires an operator whom the directory lists",
            Self::OperatorValid => "the operator, or the unit, is listed for other days",
            Self::Counterpart => "the agreement does not allow this counterpart",
        }
    }

    /// The same in Chinese, for the person at the desk.
    pub const fn description_zh(self) -> &'static str {
        match self {
            Self::Method => "没有协议允许本机构调用此方法",
            Self::Unit => "协议仅适用于本机构的其他部门",
            Self::InForce => "协议今日不在有效期内",
            Self::Kind => "协议不允许此类事项",
            Self::Purpose => "协议不允许此用途",
            Self::LegalBasis => "协议要求其他法律依据",
            Self::Programme => "协议不允许查询其中某项救助项目",
            Self::OperatorListed => "协议要求经办人员已登记在册",
            Self::OperatorValid => "经办人员或者部门不在登记的有效期内",
            Self::Counterpart => "协议不允许此对方机构",
        }
    }
}

/// An agreement that names the caller and the method, and the first condition of it that the call does not meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    /// The agreement.
    pub agreement: AgreementReference,
    /// What is not met.
    pub failed: Condition,
    /// First and last day in force.
    pub in_force: (Date, Date),
    /// What it allows instead, as far as that is a list of words: kinds, purposes, articles or programmes.
    pub allows: Vec<String>,
}

/// No agreement allows a call. What it says follows from the question and the caller's own agreements alone, never from what
/// exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// At most 16, that which came nearest to allowing the call first.
    considered: Vec<Considered>,
}

impl Denial {
    /// None names the caller and the method.
    pub(super) const fn none() -> Self {
        Self { considered: Vec::new() }
    }

    /// Of these, none allows it.
    pub(super) fn of(mut considered: Vec<Considered>) -> Self {
        // Stable: of equals, the first of the directory.
        considered.sort_by_key(|considered| std::cmp::Reverse(considered.failed));
        considered.truncate(MOST_CONSIDERED);
        Self { considered }
    }

    /// The condition that failed: of the agreement that came nearest, the denial that says most.
    pub fn condition(&self) -> Condition {
        self.nearest().map_or(Condition::Method, |nearest| nearest.failed)
    }

    /// The reason in UPPER_SNAKE.
    pub fn reason(&self) -> &'static str {
        self.condition().as_str()
    }

    /// The agreement that would have allowed the call, but for the condition.
    pub fn nearest(&self) -> Option<&Considered> {
        self.considered.first()
    }

    /// All that were looked at, as the audit log names them: id, version, and the condition that failed.
    pub fn considered(&self) -> impl Iterator<Item = String> {
        self.considered.iter().map(|considered| {
            let AgreementReference { id, version } = &considered.agreement;
            format!("{id}/{version} {}", considered.failed)
        })
    }

    /// The reason in Chinese, with the agreement that would have allowed the call and what it allows.
    pub fn description_zh(&self) -> String {
        let base = self.condition().description_zh();
        let Some(nearest) = self.nearest() else { return base.to_owned() };
        let AgreementReference { id, version } = &nearest.agreement;
        let (from, until) = nearest.in_force;
        match nearest.failed {
            Condition::InForce => format!("{base}：{id}（第{version}版）有效期为{from}至{until}"),
            _ if nearest.allows.is_empty() => format!("{base}：{id}（第{version}版）"),
            _ => format!("{base}：{id}（第{version}版）允许{}", nearest.allows.join("、")),
        }
    }
}

/// The reason in English, with the agreement that would have allowed the call and what it allows.
impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.condition().description())?;
        let Some(nearest) = self.nearest() else { return Ok(()) };
        let AgreementReference { id, version } = &nearest.agreement;
        write!(f, ": {id}, version {version}")?;
        match nearest.failed {
            Condition::InForce => {
                write!(f, ", is in force from {} to {}", nearest.in_force.0, nearest.in_force.1)
            }
            _ if nearest.allows.is_empty() => Ok(()),
            _ => write!(f, ", allows {}", nearest.allows.join(", ")),
        }
    }
}

impl std::error::Error for Denial {}
