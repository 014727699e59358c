//! Who may ask whom, what, for which purpose. The default is deny: a call needs an agreement in force.

mod day;
mod enrolment;
mod method;

use std::collections::HashMap;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use self::day::day;
pub use self::enrolment::{Inadmissible, PinnedKey, SpkiSha256};
pub use self::method::{Method, PACKAGE, Shape};
use crate::audit::entry::AgreementReference;
use crate::domain::agency::{AgencyKind, CreditCode, PurposeCode};
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

/// The machine-readable agreement: the concrete subjects, contents and procedure of cooperation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: u32,
    /// Who may call.
    pub caller: CreditCode,
    /// Which methods.
    pub methods: Vec<Method>,
    /// Whom it may ask or write to; for methods that concern no counterpart it may be empty.
    #[serde(default)]
    pub counterparts: Vec<CreditCode>,
    /// For which purposes.
    pub purposes: Vec<PurposeCode>,
    /// First day in force (Asia/Shanghai).
    #[serde(deserialize_with = "day")]
    pub from: Date,
    /// Last day in force.
    #[serde(deserialize_with = "day")]
    pub until: Date,
    /// How fast batches may go; without it, as [`BatchTerms::default`] says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchTerms>,
    /// How fast calls may come under it; without it, as fast as the gateway's own limits let them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateTerms>,
}

/// How fast calls may come under one agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateTerms {
    /// Calls in a second, over any length of time; 1 to 100,000.
    pub per_second: u32,
    /// Calls that may come at once after a pause; 1 to 100,000.
    pub burst: u32,
}

impl RateTerms {
    fn is_sound(self) -> bool {
        (1..=100_000).contains(&self.per_second) && (1..=100_000).contains(&self.burst)
    }
}

/// How fast the questions of batches may go to a registry, over all streams under one agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchTerms {
    /// Questions at once; 1 to 256.
    pub at_once: usize,
    /// Questions in a second; 1 to 10,000.
    pub per_second: u32,
}

impl Default for BatchTerms {
    fn default() -> Self {
        Self { at_once: 8, per_second: 100 }
    }
}

impl BatchTerms {
    fn is_sound(self) -> bool {
        (1..=256).contains(&self.at_once) && (1..=10_000).contains(&self.per_second)
    }
}

impl Agreement {
    fn reference(&self) -> AgreementReference {
        AgreementReference { id: self.id.clone(), version: self.version.to_string() }
    }
}

/// Why no agreement allows a call. Says which condition failed, never what exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Denial {
    /// None names this caller and method.
    #[error("no agreement allows this agency to call this method")]
    NoAgreement,
    /// Those that do are not in force today.
    #[error("the agreement is not in force today")]
    NotInForce,
    /// Those in force do not list the purpose.
    #[error("the agreement does not allow this purpose")]
    Purpose,
    /// Those in force for the purpose do not list the counterpart.
    #[error("the agreement does not allow this counterpart")]
    Counterpart,
}

impl Denial {
    /// The reason in UPPER_SNAKE.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoAgreement => "NO_AGREEMENT",
            Self::NotInForce => "AGREEMENT_NOT_IN_FORCE",
            Self::Purpose => "PURPOSE_NOT_AGREED",
            Self::Counterpart => "COUNTERPART_NOT_AGREED",
        }
    }

    /// The same in Chinese, for the person at the desk.
    pub fn description_zh(self) -> &'static str {
        match self {
            Self::NoAgreement => "没有协议允许本机构调用此方法",
            Self::NotInForce => "协议今日不在有效期内",
            Self::Purpose => "协议不允许此用途",
            Self::Counterpart => "协议不允许此对方机构",
        }
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
    /// An agreement names an agency that is not enrolled.
    #[error("agreement {agreement} names agency {agency}, which is not enrolled; add an [[agency]] for it")]
    UnknownAgency {
        /// The agreement.
        agreement: String,
        /// The agency.
        agency: CreditCode,
    },
    /// A registry cannot be asked without an endpoint.
    #[error(
        "registry {0} has no endpoint; add `endpoint = {{ address = \"host:port\", server_name = \"…\" }}`"
    )]
    RegistryWithoutEndpoint(CreditCode),
    /// Its batches would not move, or without bounds.
    #[error("agreement {0}: batch takes at_once of 1 to 256 and per_second of 1 to 10000")]
    BatchOutOfBounds(String),
    /// Its calls would not pass, or without bounds.
    #[error("agreement {0}: rate takes per_second and burst of 1 to 100000")]
    RateOutOfBounds(String),
    /// It lets a party see or move the deliveries of others.
    #[error("agreement {agreement} allows {method:?} to an agency whose kind is not operator")]
    OperatorsOnly {
        /// The agreement.
        agreement: String,
        /// The method.
        method: Method,
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
    /// It ends before it begins.
    #[error("agreement {0} ends before it begins")]
    EndsBeforeItBegins(String),
}

/// Agencies and agreements, as a TOML file with `[[agency]]` and `[[agreement]]` holds them.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    agencies: HashMap<CreditCode, Agency>,
    /// Whose the pinned keys are.
    pins: HashMap<SpkiSha256, CreditCode>,
    agreements: HashMap<CreditCode, Vec<Agreement>>,
}

/// The file's form.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryFile {
    /// Enrolled agencies.
    #[serde(default, rename = "agency")]
    pub agencies: Vec<Agency>,
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
        let mut ids = std::collections::HashSet::new();
        for agreement in file.agreements {
            if !ids.insert(agreement.id.clone()) {
                return Err(DirectoryError::Repeated(format!("agreement {}", agreement.id)));
            }
            if agreement.until < agreement.from {
                return Err(DirectoryError::EndsBeforeItBegins(agreement.id));
            }
            if agreement.batch.is_some_and(|terms| !terms.is_sound()) {
                return Err(DirectoryError::BatchOutOfBounds(agreement.id));
            }
            if agreement.rate.is_some_and(|terms| !terms.is_sound()) {
                return Err(DirectoryError::RateOutOfBounds(agreement.id));
            }
            let named = std::iter::once(&agreement.caller).chain(&agreement.counterparts);
            if let Some(agency) = named.into_iter().find(|code| !directory.agencies.contains_key(code)) {
                return Err(DirectoryError::UnknownAgency {
                    agreement: agreement.id.clone(),
                    agency: *agency,
                });
            }
            let is_operator =
                directory.agency(&agreement.caller).map(|agency| agency.kind) == Some(AgencyKind::Operator);
            if let Some(method) =
                agreement.methods.iter().find(|method| method.is_the_operators() && !is_operator)
            {
                return Err(DirectoryError::OperatorsOnly {
                    agreement: agreement.id.clone(),
                    method: *method,
                });
            }
            directory.agreements.entry(agreement.caller).or_default().push(agreement);
        }
        Ok(directory)
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

    /// Whether any agreement names this caller and method. Asked before a request is even read, so that who
    /// may not call learns nothing about what would be right.
    ///
    /// # Errors
    /// [`Denial::NoAgreement`] when none does.
    pub fn may_call(&self, caller: &CreditCode, method: Method) -> Result<(), Denial> {
        self.naming(caller, method).next().map(|_| ()).ok_or(Denial::NoAgreement)
    }

    /// The agreement that allows a call on a day.
    ///
    /// # Errors
    /// The condition that failed last, in the order method, day, purpose, counterpart.
    pub fn decide(
        &self,
        caller: &CreditCode,
        method: Method,
        counterpart: Option<&CreditCode>,
        purpose: &PurposeCode,
        on: Date,
    ) -> Result<AgreementReference, Denial> {
        let mut denial = Denial::NoAgreement;
        for agreement in self.naming(caller, method) {
            if !(agreement.from..=agreement.until).contains(&on) {
                denial = later(denial, Denial::NotInForce);
            } else if !agreement.purposes.contains(purpose) {
                denial = later(denial, Denial::Purpose);
            } else if counterpart.is_some_and(|code| !agreement.counterparts.contains(code)) {
                denial = later(denial, Denial::Counterpart);
            } else {
                return Ok(agreement.reference());
            }
        }
        Err(denial)
    }

    /// The purpose that an agreement in force on a day allows a call for, for callers that can name none: the first
    /// one of the agreement.
    ///
    /// # Errors
    /// [`Denial::NoAgreement`] or [`Denial::NotInForce`].
    pub fn purpose_of(&self, caller: &CreditCode, method: Method, on: Date) -> Result<&PurposeCode, Denial> {
        self.may_call(caller, method)?;
        let mut in_force =
            self.naming(caller, method).filter(|agreed| (agreed.from..=agreed.until).contains(&on));
        in_force.find_map(|agreed| agreed.purposes.first()).ok_or(Denial::NotInForce)
    }

    /// How fast batches may go under an agreement of the caller's.
    pub fn batch_terms(&self, caller: &CreditCode, agreement: &str) -> BatchTerms {
        let of_caller = self.agreements.get(caller).map(Vec::as_slice).unwrap_or_default();
        let found = of_caller.iter().find(|found| found.id == agreement);
        found.and_then(|found| found.batch).unwrap_or_default()
    }

    /// The agreements in force on a day that name this caller and method, each with its rate.
    pub fn rate_terms(
        &self,
        caller: &CreditCode,
        method: Method,
        on: Date,
    ) -> impl Iterator<Item = (&str, Option<RateTerms>)> {
        let in_force = self.naming(caller, method).filter(move |of| (of.from..=of.until).contains(&on));
        in_force.map(|agreement| (agreement.id.as_str(), agreement.rate))
    }

    fn naming(&self, caller: &CreditCode, method: Method) -> impl Iterator<Item = &Agreement> {
        let of_caller = self.agreements.get(caller).map(Vec::as_slice).unwrap_or_default();
        of_caller.iter().filter(move |agreement| agreement.methods.contains(&method))
    }
}

/// The denial that came nearest to being allowed says most.
fn later(one: Denial, other: Denial) -> Denial {
    let rank = |denial| match denial {
        Denial::NoAgreement => 0,
        Denial::NotInForce => 1,
        Denial::Purpose => 2,
        Denial::Counterpart => 3,
    };
    if rank(one) >= rank(other) { one } else { other }
}

fn specificity(region: RegionCode) -> usize {
    region.to_string().trim_end_matches("00").len()
}

#[cfg(test)]
mod tests {
    use super::*;

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
    ) -> Result<String, Denial> {
        let code = |text| CreditCode::parse(text).unwrap();
        directory()
            .decide(
                &code(caller),
                method,
                Some(&code(counterpart)),
                &PurposeCode::parse(purpose).unwrap(),
                on.parse().unwrap(),
            )
            .map(|agreement| format!("{}/{}", agreement.id, agreement.version))
    }

    #[test]
    fn who_can_name_no_purpose_has_the_first_of_an_agreement_in_force() {
        let (directory, centre) = (directory(), CreditCode::parse(CENTRE).unwrap());
        let of = |method, on: &str| {
            directory
                .purpose_of(&centre, method, on.parse().unwrap())
                .map(|purpose| purpose.as_str().to_owned())
        };
        assert_eq!(of(Method::VerifyLowIncome, "2026-06-01"), Ok("AID_ELIGIBILITY".to_owned()));
        assert_eq!(of(Method::VerifyLowIncome, "2027-01-01"), Err(Denial::NotInForce));
        assert_eq!(of(Method::GetTile, "2026-06-01"), Err(Denial::NoAgreement));
    }

    #[test]
    fn the_operators_methods_are_for_operators_only() {
        let mut file = DirectoryFile {
            agencies: directory().agencies.into_values().collect(),
            agreements: directory().agreements.into_values().flatten().collect(),
        };
        file.agreements[0].methods.push(Method::ListDeliveries);
        let error = Directory::build(file.clone()).unwrap_err();
        assert!(error.to_string().contains("A-1 allows ListDeliveries"), "{error}");
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
        assert_eq!(decide(OTHER, VerifyLowIncome, REGISTRY, purpose, day), Err(Denial::NoAgreement));
        assert_eq!(decide(CENTRE, SubmitExchange, REGISTRY, purpose, day), Err(Denial::NoAgreement));
        assert_eq!(decide(CENTRE, VerifyLowIncome, REGISTRY, purpose, "2027-01-01"), Err(Denial::NotInForce));
        assert_eq!(decide(CENTRE, VerifyLowIncome, REGISTRY, purpose, "2025-12-31"), Err(Denial::NotInForce));
        assert_eq!(decide(CENTRE, VerifyLowIncome, REGISTRY, "MARKETING", day), Err(Denial::Purpose));
        assert_eq!(decide(CENTRE, VerifyLowIncome, OTHER, purpose, day), Err(Denial::Counterpart));
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
        assert!(matches!(Directory::parse(&agreement("")), Err(DirectoryError::UnknownAgency { .. })));
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
