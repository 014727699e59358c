//! Who may ask whom, what, for which purpose. The default is deny: a call needs an agreement in force.

mod agreement;
mod day;
mod enrolment;
mod method;
mod staff;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::agreement::{
    Agreement, AgreementFault, Agreements, BatchTerms, Condition, Considered, Denial, Kindred, OperatorTerms,
    Party, Question, QuotaTerms, RateTerms,
};
pub use self::enrolment::{Inadmissible, PinnedKey, SpkiSha256};
pub use self::method::{Method, PACKAGE, Shape};
use self::staff::Staff;
pub use self::staff::{StaffMember, Unit};
use crate::domain::agency::{AgencyKind, CreditCode};
use crate::domain::region::RegionCode;

/// An enrolled agency.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agency {
    /// Unified social credit code (GB 32100).
    pub code: CreditCode,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: AgencyKind,
    /// Region it is responsible for; all below it too.
    pub region: RegionCode,
    /// Whether it may call now.
    #[serde(default)]
    pub status: AgencyStatus,
    /// Where the gateway reaches it; needed for registries and for agencies that take push.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<AgencyEndpoint>,
    /// Its keys, where its authority cannot write its name into its certificates: then no other key is its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<PinnedKey>,
}

/// Whether an enrolled agency may call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgencyStatus {
    /// It may.
    #[default]
    Active,
    /// It may not, until it is active again.
    Suspended,
}

/// Where an agency's own server is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgencyEndpoint {
    /// `host:port`.
    pub address: String,
    /// Name in its server certificate (DNS name or IP address).
    pub server_name: String,
}

impl Agency {
    /// Whether it runs the gateway.
    pub fn is_operator(&self) -> bool {
        self.kind == AgencyKind::Operator
    }
}

/// Why a directory file cannot be used.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// Not TOML of this shape.
    #[error("{0}")]
    Malformed(#[from] toml::de::Error),
    /// Two entries with one code or id.
    #[error("{0} appears twice")]
    Repeated(String),
    /// A unit or operator of an agency that is not enrolled.
    #[error("a unit or operator belongs to agency {0}, which is not enrolled; add an [[agency]] for it")]
    UnknownAgency(CreditCode),
    /// A registry cannot be asked without an endpoint.
    #[error(
        "registry {0} has no endpoint; add `endpoint = {{ address = \"host:port\", server_name = \"…\" }}`"
    )]
    RegistryWithoutEndpoint(CreditCode),
    /// An agreement that cannot be one.
    #[error("agreement {agreement}: {fault}")]
    Agreement {
        /// The agreement.
        agreement: String,
        /// What is wrong with it.
        fault: AgreementFault,
    },
    /// A key cannot be that of two agencies.
    #[error("agencies {one} and {other} have the same key in `certificates`; each key is one agency's")]
    KeyOfTwo {
        /// The first.
        one: CreditCode,
        /// The second.
        other: CreditCode,
    },
    /// A key's last day comes before its first.
    #[error("agency {0}: a key in `certificates` ends before it begins")]
    KeyEndsBeforeItBegins(CreditCode),
}

/// Agencies with their units and operators, and the agreements between them.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    agencies: HashMap<CreditCode, Agency>,
    /// Whose the pinned keys are.
    pins: HashMap<SpkiSha256, CreditCode>,
    staff: Staff,
    agreements: Agreements,
}

/// The form of a directory file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryFile {
    /// Enrolled agencies.
    #[serde(default, rename = "agency")]
    pub agencies: Vec<Agency>,
    /// Units below them.
    #[serde(default, rename = "unit", skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<Unit>,
    /// Who acts for them.
    #[serde(default, rename = "operator", skip_serializing_if = "Vec::is_empty")]
    pub operators: Vec<StaffMember>,
    /// Agreements.
    #[serde(default, rename = "agreement")]
    pub agreements: Vec<Agreement>,
}

impl Directory {
    /// Reads a directory file.
    ///
    /// # Errors
    /// When it is malformed or contradicts itself.
    pub fn parse(text: &str) -> Result<Self, DirectoryError> {
        Self::build(toml::from_str(text)?)
    }

    /// Builds a directory of its entries.
    ///
    /// # Errors
    /// When they contradict each other.
    pub fn build(file: DirectoryFile) -> Result<Self, DirectoryError> {
        let mut directory = Self::default();
        for agency in file.agencies {
            let is_registry =
                matches!(agency.kind, AgencyKind::CivilAffairsRegistry | AgencyKind::PovertyRegistry);
            if is_registry && agency.endpoint.is_none() {
                return Err(DirectoryError::RegistryWithoutEndpoint(agency.code));
            }
            directory.pin(&agency)?;
            if let Some(earlier) = directory.agencies.insert(agency.code, agency) {
                return Err(DirectoryError::Repeated(format!("agency {}", earlier.code)));
            }
        }
        directory.staff = Staff::build(file.units, file.operators).map_err(DirectoryError::Repeated)?;
        if let Some(unknown) = directory.staff.agencies().find(|code| !directory.agencies.contains_key(code))
        {
            return Err(DirectoryError::UnknownAgency(*unknown));
        }
        let mut ids = std::collections::HashSet::new();
        for agreement in &file.agreements {
            if !ids.insert(agreement.id.as_str()) {
                return Err(DirectoryError::Repeated(format!("agreement {}", agreement.id)));
            }
            if let Some(fault) = agreement.faults(&directory).into_iter().next() {
                return Err(DirectoryError::Agreement { agreement: agreement.id.clone(), fault });
            }
        }
        directory.agreements = Agreements::new(file.agreements);
        Ok(directory)
    }

    /// The same agencies, units and operators with other agreements.
    #[must_use]
    pub fn with_agreements(&self, agreements: Agreements) -> Self {
        Self { agreements, ..self.clone() }
    }

    /// The same agreements with the agencies, units and operators of another directory.
    #[must_use]
    pub fn with_agencies_of(&self, other: &Self) -> Self {
        other.with_agreements(self.agreements.clone())
    }

    /// The agreements.
    pub fn agreements(&self) -> &Agreements {
        &self.agreements
    }

    fn staff(&self) -> &Staff {
        &self.staff
    }

    /// An enrolled agency.
    pub fn agency(&self, code: &CreditCode) -> Option<&Agency> {
        self.agencies.get(code)
    }

    /// All enrolled agencies.
    pub fn agencies(&self) -> impl Iterator<Item = &Agency> {
        self.agencies.values()
    }

    /// Whether the agency is enrolled and active.
    pub fn is_active(&self, code: &CreditCode) -> bool {
        self.agency(code).is_some_and(|agency| agency.status == AgencyStatus::Active)
    }

    /// The active agency of a kind that is responsible for a region: the one whose own region is nearest.
    pub fn responsible(&self, kind: AgencyKind, region: RegionCode) -> Option<&Agency> {
        self.agencies
            .values()
            .filter(|agency| agency.kind == kind && agency.status == AgencyStatus::Active)
            .filter(|agency| region.is_within(agency.region))
            .max_by_key(|agency| (specificity(agency.region), agency.code))
    }
}

fn specificity(region: RegionCode) -> usize {
    region.to_string().trim_end_matches("00").len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::agency::PurposeCode;

    const CENTRE: &str = "11320000MB151840XJ";
    const REGISTRY: &str = "91350100M000100Y43";
    const OTHER: &str = "91110000600037341L";

    fn directory() -> Directory {
        Directory::parse(&format!(
            r#"
            [[agency]]
            code = "{CENTRE}"
            name = "centre"
            kind = "legal-aid-centre"
            region = "331004"
            [[agency]]
            code = "{REGISTRY}"
            name = "registry"
            kind = "civil-affairs-registry"
            region = "330000"
            endpoint = {{ address = "127.0.0.1:1", server_name = "localhost" }}
            [[agency]]
            code = "{OTHER}"
            name = "registry of the district"
            kind = "civil-affairs-registry"
            region = "331004"
            endpoint = {{ address = "127.0.0.1:2", server_name = "localhost" }}
            [[agreement]]
            id = "A-1"
            version = 3
            caller = "{CENTRE}"
            methods = ["VerifyLowIncome"]
            counterparts = ["{REGISTRY}"]
            purposes = ["AID_ELIGIBILITY"]
            from = "2026-01-01"
            until = 2026-12-31
            "#
        ))
        .unwrap()
    }

    fn decide(
        caller: &str,
        method: Method,
        counterpart: &str,
        purpose: &str,
        on: &str,
    ) -> Result<String, Condition> {
        let code = |text| CreditCode::parse(text).unwrap();
        let (caller, counterpart) = (code(caller), code(counterpart));
        let purpose = PurposeCode::parse(purpose).unwrap();
        let question = Question::new(&caller, method, Some(&purpose), on.parse().unwrap());
        directory()
            .decide(&Question { counterpart: Some(&counterpart), ..question })
            .map(|agreement| format!("{}/{}", agreement.id, agreement.version))
            .map_err(|denial| denial.condition())
    }

    #[test]
    fn who_can_name_no_purpose_has_the_first_of_an_agreement_in_force() {
        let (directory, centre) = (directory(), CreditCode::parse(CENTRE).unwrap());
        let of = |method, on: &str| {
            directory
                .purpose_of(&centre, method, on.parse().unwrap())
                .map(|purpose| purpose.as_str().to_owned())
                .map_err(|denial| denial.condition())
        };
        assert_eq!(of(Method::VerifyLowIncome, "2026-06-01"), Ok("AID_ELIGIBILITY".to_owned()));
        assert_eq!(of(Method::VerifyLowIncome, "2027-01-01"), Err(Condition::InForce));
        assert_eq!(of(Method::GetTile, "2026-06-01"), Err(Condition::Method));
    }

    #[test]
    fn who_can_name_no_unit_has_the_purpose_of_an_agreement_that_asks_for_none() {
        let agreement = |id: &str, purpose: &str, more: &str| {
            format!(
                "[[agreement]]\nid = \"{id}\"\nversion = 1\ncaller = \"{CENTRE}\"\nmethods = [\"GetTile\"]\n\
                 purposes = [\"{purpose}\"]\nfrom = \"2026-01-01\"\nuntil = \"2026-12-31\"\n{more}"
            )
        };
        let agency = format!(
            "[[agency]]\ncode = \"{CENTRE}\"\nname = \"centre\"\nkind = \"legal-aid-centre\"\nregion = \"331004\"\n"
        );
        let text = agency
            + &agreement("A", "OF_A_UNIT", "unit = \"LA-01\"\n")
            + &agreement("B", "LISTED", "operators = \"listed\"\n")
            + &agreement("C", "AUDIT", "");
        let directory = Directory::parse(&text).unwrap();
        let purpose = directory.purpose_of(
            &CreditCode::parse(CENTRE).unwrap(),
            Method::GetTile,
            "2026-06-01".parse().unwrap(),
        );
        assert_eq!(purpose.unwrap().as_str(), "AUDIT");
    }

    #[test]
    fn the_operators_methods_are_for_operators_only() {
        let mut file = DirectoryFile {
            agencies: directory().agencies.into_values().collect(),
            agreements: directory()
                .agreements()
                .iter()
                .map(|agreement| Agreement::clone(agreement))
                .collect(),
            ..Default::default()
        };
        file.agreements[0].methods.push(Method::ListDeliveries);
        let error = Directory::build(file.clone()).unwrap_err();
        assert!(error.to_string().contains("A-1: it allows ListDeliveries"), "{error}");
        for agency in &mut file.agencies {
            if agency.code.as_str() == CENTRE {
                agency.kind = AgencyKind::Operator;
            }
        }
        Directory::build(file).unwrap();
    }

    #[test]
    fn only_what_is_agreed_is_allowed() {
        use Method::{SubmitExchange, VerifyLowIncome};
        let (purpose, day) = ("AID_ELIGIBILITY", "2026-06-01");
        assert_eq!(decide(CENTRE, VerifyLowIncome, REGISTRY, purpose, day), Ok("A-1/3".to_owned()));
        assert_eq!(decide(OTHER, VerifyLowIncome, REGISTRY, purpose, day), Err(Condition::Method));
        assert_eq!(decide(CENTRE, SubmitExchange, REGISTRY, purpose, day), Err(Condition::Method));
        assert_eq!(decide(CENTRE, VerifyLowIncome, REGISTRY, purpose, "2027-01-01"), Err(Condition::InForce));
        assert_eq!(decide(CENTRE, VerifyLowIncome, REGISTRY, purpose, "2025-12-31"), Err(Condition::InForce));
        assert_eq!(decide(CENTRE, VerifyLowIncome, REGISTRY, "MARKETING", day), Err(Condition::Purpose));
        assert_eq!(decide(CENTRE, VerifyLowIncome, OTHER, purpose, day), Err(Condition::Counterpart));
    }

    #[test]
    fn the_nearest_registry_is_responsible() {
        let directory = directory();
        let responsible = |region: &str| {
            let found =
                directory.responsible(AgencyKind::CivilAffairsRegistry, RegionCode::parse(region).unwrap());
            found.map(|agency| agency.code.to_string())
        };
        assert_eq!(responsible("331004").as_deref(), Some(OTHER));
        assert_eq!(responsible("331002").as_deref(), Some(REGISTRY));
        assert_eq!(responsible("320100"), None);
    }

    #[test]
    fn a_directory_that_contradicts_itself_is_refused() {
        let agreement = |extra: &str| {
            format!(
                "[[agreement]]\nid = \"A\"\nversion = 1\ncaller = \"{CENTRE}\"\nmethods = []\npurposes = []\n\
                 from = \"2026-01-01\"\nuntil = \"2026-12-31\"\n{extra}"
            )
        };
        assert!(matches!(
            Directory::parse(&agreement("")),
            Err(DirectoryError::Agreement { fault: AgreementFault::UnknownAgency(_), .. })
        ));
        assert!(matches!(Directory::parse(&agreement("surprise = 1")), Err(DirectoryError::Malformed(_))));
    }

    #[test]
    fn a_path_names_its_method() {
        assert_eq!(Method::at_path("/legalaid.exchange.v1.AuditService/GetEntry"), Some(Method::GetEntry));
        assert_eq!(Method::at_path("/legalaid.exchange.v1.ExchangeService/GetEntry"), None);
        assert_eq!(Method::at_path("GetEntry"), None);
        assert_eq!(Method::GetEntry.shape(), Shape::Unary);
        assert_eq!(Method::WatchExchanges.shape(), Shape::ServerStream);
    }
}
