//! Whom an agreement names: one agency, or all of a kind within a region.

use serde::{Deserialize, Serialize};

use crate::access::{Agency, Directory};
use crate::domain::agency::{AgencyKind, CreditCode};
use crate::domain::region::RegionCode;

/// A side of an agreement. Written as a credit code, or as `{ kind = "court", region = "331000" }`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged, expecting = "a party is a unified social credit code, or { kind = \"…\", region = \"…\" }")]
pub enum Party {
    /// One agency.
    Agency(CreditCode),
    /// Every agency of a kind whose region is this one or lies below it.
    Kind(Kindred),
}

/// All agencies of a kind within a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kindred {
    /// Their kind.
    pub kind: AgencyKind,
    /// Their region, or one above it.
    pub region: RegionCode,
}

impl Party {
    /// All agencies of a kind within a region.
    pub const fn of_kind(kind: AgencyKind, region: RegionCode) -> Self {
        Self::Kind(Kindred { kind, region })
    }

    /// Whether it is exactly this agency.
    pub fn is(&self, code: &CreditCode) -> bool {
        matches!(self, Self::Agency(own) if own == code)
    }

    /// Whether it takes in an enrolled agency.
    pub fn takes_in(&self, agency: &Agency) -> bool {
        match self {
            Self::Agency(code) => *code == agency.code,
            Self::Kind(of) => of.kind == agency.kind && agency.region.is_within(of.region),
        }
    }

    /// Whether it takes in an agency; one that is not enrolled only by its code.
    pub(super) fn takes_in_code(&self, code: &CreditCode, directory: &Directory) -> bool {
        match self {
            Self::Agency(own) => own == code,
            Self::Kind(_) => directory.agency(code).is_some_and(|agency| self.takes_in(agency)),
        }
    }
}

impl From<CreditCode> for Party {
    fn from(code: CreditCode) -> Self {
        Self::Agency(code)
    }
}
