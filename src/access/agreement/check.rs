//! What must hold of an agreement before it can be one.

use thiserror::Error;

use super::{Agreement, Party};
use crate::access::{Agency, Directory, Method};
use crate::domain::agency::{AgencyKind, CreditCode, MatterId};
use crate::domain::violation::{BrokenRule, Violations};

/// Why an agreement cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AgreementFault {
    /// Its id is not one.
    #[error("the id takes 1 to 64 of A-Z a-z 0-9 . _ / -, and no number that may be a person's")]
    Id,
    /// Versions are counted from 1.
    #[error("the version is 1 or more")]
    Version,
    /// It names an agency that is not enrolled.
    #[error("agency {0} is not enrolled; add an [[agency]] for it")]
    UnknownAgency(CreditCode),
    /// It ends before it begins.
    #[error("it ends before it begins")]
    EndsBeforeItBegins,
    /// It lets a party see or move what is the operator's.
    #[error("it allows {} to an agency whose kind is not operator", .0.name())]
    OperatorsOnly(Method),
    /// Its batches would not move, or without bounds.
    #[error("batch takes at_once of 1 to 256 and per_second of 1 to 10000")]
    Batch,
    /// Its calls would not pass, or without bounds.
    #[error("rate takes per_second and burst of 1 to 100000")]
    Rate,
    /// A quota that counts nothing, or lets nothing pass.
    #[error(
        "quota takes one or more of per_hour, per_day, operator_per_hour and operator_per_day, of 1 to 1000000000"
    )]
    Quota,
}

impl AgreementFault {
    /// The field of the agreement that is wrong.
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Version => "version",
            Self::UnknownAgency(_) => "counterparts",
            Self::EndsBeforeItBegins => "until",
            Self::OperatorsOnly(_) => "methods",
            Self::Batch => "batch",
            Self::Rate => "rate",
            Self::Quota => "quota",
        }
    }
}

impl BrokenRule for AgreementFault {
    fn rule(&self) -> &'static str {
        match self {
            Self::Id => "AGREEMENT_ID",
            Self::Version => "VERSION_FROM_ONE",
            Self::UnknownAgency(_) => "AGENCY_ENROLLED",
            Self::EndsBeforeItBegins => "ENDS_AFTER_IT_BEGINS",
            Self::OperatorsOnly(_) => "OPERATORS_ONLY",
            Self::Batch => "BATCH_BOUNDS",
            Self::Rate => "RATE_BOUNDS",
            Self::Quota => "QUOTA_BOUNDS",
        }
    }

    fn description_zh(&self) -> &'static str {
        match self {
            Self::Id => "协议编号格式不正确",
            Self::Version => "版本号须大于零",
            Self::UnknownAgency(_) => "协议所列机构未登记",
            Self::EndsBeforeItBegins => "失效日期早于生效日期",
            Self::OperatorsOnly(_) => "该方法仅限运维单位",
            Self::Batch => "批量查询速率超出允许范围",
            Self::Rate => "调用频率超出允许范围",
            Self::Quota => "额度超出允许范围",
        }
    }
}

impl Agreement {
    /// All that is wrong with it, in a directory.
    pub fn faults(&self, directory: &Directory) -> Vec<AgreementFault> {
        let mut faults = Vec::new();
        let mut unless = |holds: bool, fault| {
            if !holds {
                faults.push(fault);
            }
        };
        unless(MatterId::parse(&self.id).is_ok(), AgreementFault::Id);
        unless(self.version > 0, AgreementFault::Version);
        for party in std::iter::once(&self.caller).chain(&self.counterparts) {
            if let Party::Agency(code) = party {
                unless(directory.agency(code).is_some(), AgreementFault::UnknownAgency(*code));
            }
        }
        unless(self.from <= self.until, AgreementFault::EndsBeforeItBegins);
        let is_operators = match &self.caller {
            // One that is not enrolled is a fault already.
            Party::Agency(code) => directory.agency(code).is_none_or(Agency::is_operator),
            Party::Kind(of) => of.kind == AgencyKind::Operator,
        };
        for method in self.methods.iter().filter(|method| method.is_the_operators()) {
            unless(is_operators, AgreementFault::OperatorsOnly(*method));
        }
        unless(self.batch.is_none_or(super::BatchTerms::is_sound), AgreementFault::Batch);
        unless(self.rate.is_none_or(super::RateTerms::is_sound), AgreementFault::Rate);
        unless(self.quota.is_none_or(super::QuotaTerms::is_sound), AgreementFault::Quota);
        faults
    }

    /// The same, as violations of a request's fields.
    pub fn check(&self, directory: &Directory, violations: &mut Violations) {
        for fault in self.faults(directory) {
            let field = match &fault {
                AgreementFault::UnknownAgency(code) if self.caller.is(code) => "caller",
                other => other.field(),
            };
            let _: Option<()> = violations.check(field, Err(fault));
        }
    }
}
