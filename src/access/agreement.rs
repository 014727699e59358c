//! The machine-readable agreement: the concrete subjects, contents and procedure of cooperation.

mod check;
mod denial;
mod evaluation;
mod index;
mod party;
mod terms;
#[cfg(test)]
mod tests;
mod written;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

pub use self::check::AgreementFault;
pub use self::denial::{Condition, Considered, Denial};
pub use self::evaluation::Question;
pub use self::index::Agreements;
pub use self::party::{Kindred, Party};
pub use self::terms::{BatchTerms, OperatorTerms, QuotaTerms, RateTerms};
use super::Method;
use super::day::day;
use crate::audit::entry::AgreementReference;
use crate::domain::agency::{PurposeCode, UnitCode};
use crate::domain::eligibility::Programme;
use crate::domain::exchange::Kind;
use crate::domain::law::LegalBasis;
use crate::domain::verification::AnswerField;

/// Who may ask whom, what, on which ground and how often. What is left out does not narrow it, but for methods,
/// counterparts and purposes: only what they list is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// Its id: 1 to 64 of A-Z a-z 0-9 . _ / -.
    pub id: String,
    /// Its version; a higher one takes the place of a lower one.
    pub version: u32,
    /// Who may call.
    pub caller: Party,
    /// The one unit of the caller that may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitCode>,
    /// Which methods.
    pub methods: Vec<Method>,
    /// Which kinds of exchange or question; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<Kind>,
    /// Whom it may ask or write to; for methods that concern no counterpart it may be empty.
    #[serde(default)]
    pub counterparts: Vec<Party>,
    /// For which purposes.
    pub purposes: Vec<PurposeCode>,
    /// A message must rely on one of these articles; on any, when empty. Written as `法律援助法 41`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "written::legal_basis")]
    pub legal_basis: Vec<LegalBasis>,
    /// The programmes that may be asked about and told of; without it, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub programmes: Option<Vec<Programme>>,
    /// What a register's answer tells beside its result; without it, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Vec<AnswerField>>,
    /// Which operators may act.
    #[serde(default, skip_serializing_if = "OperatorTerms::is_default")]
    pub operators: OperatorTerms,
    /// How many calls it allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<QuotaTerms>,
    /// First day in force (Asia/Shanghai).
    #[serde(deserialize_with = "day")]
    pub from: Date,
    /// Last day in force.
    #[serde(deserialize_with = "day")]
    pub until: Date,
    /// How fast batches may go; without it, as [`BatchTerms::default`] says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchTerms>,
    /// How fast calls of one agency may come under it; without it, as fast as the gateway's own limits let them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateTerms>,
}

impl Agreement {
    /// An agreement by which nothing is allowed yet: no method, counterpart or purpose.
    pub fn new(id: impl Into<String>, version: u32, caller: impl Into<Party>, days: (Date, Date)) -> Self {
        Self {
            id: id.into(),
            version,
            caller: caller.into(),
            unit: None,
            methods: Vec::new(),
            kinds: Vec::new(),
            counterparts: Vec::new(),
            purposes: Vec::new(),
            legal_basis: Vec::new(),
            programmes: None,
            fields: None,
            operators: OperatorTerms::Any,
            quota: None,
            from: days.0,
            until: days.1,
            batch: None,
            rate: None,
        }
    }

    /// As the audit log names it.
    pub fn reference(&self) -> AgreementReference {
        AgreementReference { id: self.id.clone(), version: self.version.to_string() }
    }

    /// The text that its digest is of, and that is kept: canonical JSON (RFC 8785), every version of it alike.
    ///
    /// # Errors
    /// Never, for an agreement that was checked.
    pub fn to_canonical_json(&self) -> Result<String, serde_json::Error> {
        serde_json_canonicalizer::to_string(self)
    }

    /// Whether it tells this field of a register's answer.
    pub fn tells(&self, field: AnswerField) -> bool {
        self.fields.as_ref().is_none_or(|fields| fields.contains(&field))
    }

    /// Whether this programme may be asked about and told of.
    pub fn covers(&self, programme: Programme) -> bool {
        self.programmes.as_ref().is_none_or(|programmes| programmes.contains(&programme))
    }
}
