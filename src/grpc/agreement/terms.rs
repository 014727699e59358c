//! Agreements on the wire.

use crate::access::{Agreement, BatchTerms, Kindred, Method, OperatorTerms, Party, QuotaTerms, RateTerms};
use crate::domain::agency::{AgencyKind, CreditCode, PurposeCode, UnitCode};
use crate::domain::eligibility::Programme;
use crate::domain::exchange::Kind;
use crate::domain::region::RegionCode;
use crate::domain::verification::AnswerField;
use crate::domain::violation::Violations;
use crate::grpc::proto;
use crate::grpc::wire::{civil_date, date, kind_of, one_basis, programme_on_wire, word};

/// Most values of a list in an agreement.
const MOST_VALUES: usize = 1000;

/// Reads an agreement's terms; `field` paths start at `agreement`.
pub(crate) fn read(violations: &mut Violations, value: Option<&proto::Agreement>) -> Option<Agreement> {
    let value = violations.require("agreement", value)?;
    violations.within("agreement", |v| {
        let caller = v.require("caller", value.caller.as_ref()).and_then(|of| party(v, "caller", of));
        let from = day(v, "in_force_from", value.in_force_from.as_ref());
        let until = day(v, "in_force_until", value.in_force_until.as_ref());
        let id = (!value.agreement_id.is_empty()).then(|| value.agreement_id.clone());
        let id = v.require("agreement_id", id);
        let at_least_one = |v: &mut Violations, field: &str, is_empty: bool| {
            if is_empty {
                let _: Option<()> = v.require(field, None);
            }
        };
        at_least_one(v, "methods", value.methods.is_empty());
        at_least_one(v, "purposes", value.purposes.is_empty());
        let version = v.require("version", number(value.version));
        let batch = value.batch.as_ref().and_then(|batch| self::batch(v, batch));
        let rate = value.rate.as_ref().and_then(|rate| self::rate(v, rate));
        let mut agreement = Agreement::new(id?, version?, caller?, (from?, until?));
        agreement.unit = match value.unit.as_str() {
            "" => None,
            unit => v.check("unit", UnitCode::parse(unit)),
        };
        agreement.methods = each(v, "methods", &value.methods, |name, v, field| method(v, field, name));
        agreement.kinds = each(v, "kinds", &value.kinds, |kind, v, field| kind_read(v, field, *kind));
        agreement.counterparts =
            each(v, "counterparts", &value.counterparts, |of, v, field| party(v, field, of));
        agreement.purposes = each(v, "purposes", &value.purposes, |purpose, v, field| {
            v.check(field, PurposeCode::parse(purpose))
        });
        agreement.legal_basis = each(v, "legal_basis", &value.legal_basis, |basis, v, field| {
            v.within(field, |v| one_basis(v, basis))
        });
        agreement.programmes = value.programmes.as_ref().map(|agreed| programmes(v, agreed));
        agreement.fields = value.fields.as_ref().map(|fields| {
            each(v, "fields.paths", &fields.paths, |path, v, field| answer_field(v, field, path))
        });
        agreement.operators =
            if value.listed_operators_only { OperatorTerms::Listed } else { OperatorTerms::Any };
        agreement.quota = value.quota.as_ref().map(quota);
        agreement.batch = batch;
        agreement.rate = rate;
        Some(agreement)
    })
}

/// A number that is there.
fn number(value: u32) -> Option<u32> {
    (value > 0).then_some(value)
}

fn batch(violations: &mut Violations, value: &proto::AgreementBatch) -> Option<BatchTerms> {
    violations.within("batch", |v| {
        let at_once = v.require("at_once", number(value.at_once));
        let per_second = v.require("per_second", number(value.per_second));
        Some(BatchTerms { at_once: usize::try_from(at_once?).unwrap_or(usize::MAX), per_second: per_second? })
    })
}

fn rate(violations: &mut Violations, value: &proto::AgreementRate) -> Option<RateTerms> {
    violations.within("rate", |v| {
        let per_second = v.require("per_second", number(value.per_second));
        let burst = v.require("burst", number(value.burst));
        Some(RateTerms { per_second: per_second?, burst: burst? })
    })
}

/// Reads each value of a list.
fn each<M, T>(
    violations: &mut Violations,
    field: &str,
    values: &[M],
    read: impl Fn(&M, &mut Violations, &str) -> Option<T>,
) -> Vec<T> {
    if values.len() > MOST_VALUES {
        violations.add(
            field,
            "AT_MOST_1000",
            format!("at most {MOST_VALUES} values"),
            format!("不得超过{MOST_VALUES}项"),
        );
    }
    let values = values.iter().take(MOST_VALUES).enumerate();
    values.filter_map(|(place, value)| read(value, violations, &format!("{field}[{place}]"))).collect()
}

/// Reads the name of a method.
pub(super) fn method(violations: &mut Violations, field: &str, name: &str) -> Option<Method> {
    let found = Method::ALL.iter().copied().find(|method| method.name() == name);
    known(violations, field, found)
}

/// Reads a kind that must be set.
pub(super) fn kind_read(violations: &mut Violations, field: &str, value: i32) -> Option<Kind> {
    word(violations, field, value, |value| Kind::ALL.iter().copied().find(|kind| kind_of(*kind) == value))
}

fn answer_field(violations: &mut Violations, field: &str, path: &str) -> Option<AnswerField> {
    known(violations, field, AnswerField::ALL.iter().copied().find(|known| known.as_str() == path))
}

fn known<T>(violations: &mut Violations, field: &str, found: Option<T>) -> Option<T> {
    if found.is_none() {
        violations.add(field, "UNKNOWN_VALUE", "not a value that this version knows", "无法识别的取值");
    }
    found
}

fn party(violations: &mut Violations, field: &str, value: &proto::AgreementParty) -> Option<Party> {
    let is_known =
        |kind: proto::AgencyKind| AgencyKind::ALL.iter().copied().find(|known| agency_kind(*known) == kind);
    let is_kind = value.kind != 0 || !value.region.is_empty();
    let read = violations.within(field, |v| {
        let kind = if is_kind { word(v, "kind", value.kind, is_known) } else { None };
        if !is_kind && !value.agency.is_empty() {
            return v.check("agency", CreditCode::parse(&value.agency)).map(Party::Agency);
        }
        let region = (!value.region.is_empty()).then(|| v.check("region", RegionCode::parse(&value.region)));
        Some(Party::of_kind(kind?, region.flatten()?))
    });
    if is_kind != value.agency.is_empty() || (is_kind && value.region.is_empty()) {
        violations.add(
            field,
            "AGENCY_OR_KIND",
            "names an agency, or a kind and a region",
            "须填写机构代码，或者机构类型和地区",
        );
        return None;
    }
    read
}

/// Reads a mandatory day.
fn day(
    violations: &mut Violations,
    field: &str,
    value: Option<&crate::grpc::generated::google::r#type::Date>,
) -> Option<jiff::civil::Date> {
    let value = violations.require(field, value)?;
    let day = civil_date(value);
    if day.is_none() {
        violations.add(field, "DATE", "is not a date", "日期无效");
    }
    day
}

fn programmes(violations: &mut Violations, agreed: &proto::AgreedProgrammes) -> Vec<Programme> {
    let mut read = each(violations, "programmes.programmes", &agreed.programmes, |value, v, field| {
        programme(v, field, *value)
    });
    read.extend(agreed.poverty_household.then_some(Programme::PovertyHousehold));
    read
}

/// Reads a programme that must be set.
pub(super) fn programme(violations: &mut Violations, field: &str, value: i32) -> Option<Programme> {
    word(violations, field, value, |value| {
        Programme::ALL.iter().copied().find(|known| programme_on_wire(*known) == Some(value))
    })
}

fn quota(value: &proto::AgreementQuota) -> QuotaTerms {
    QuotaTerms {
        per_hour: number(value.per_hour),
        per_day: number(value.per_day),
        operator_per_hour: number(value.operator_per_hour),
        operator_per_day: number(value.operator_per_day),
    }
}

fn agency_kind(kind: AgencyKind) -> proto::AgencyKind {
    match kind {
        AgencyKind::LegalAidCentre => proto::AgencyKind::LegalAidCentre,
        AgencyKind::Court => proto::AgencyKind::Court,
        AgencyKind::Procuratorate => proto::AgencyKind::Procuratorate,
        AgencyKind::CivilAffairsRegistry => proto::AgencyKind::CivilAffairsRegistry,
        AgencyKind::PovertyRegistry => proto::AgencyKind::PovertyRegistry,
        AgencyKind::PublicSecurityOrgan => proto::AgencyKind::PublicSecurityOrgan,
        AgencyKind::Auditor => proto::AgencyKind::Auditor,
        AgencyKind::Operator => proto::AgencyKind::Operator,
        AgencyKind::Gateway => proto::AgencyKind::Gateway,
    }
}

fn party_on_wire(party: &Party) -> proto::AgreementParty {
    match party {
        Party::Agency(code) => {
            proto::AgreementParty { agency: code.to_string(), kind: 0, region: String::new() }
        }
        Party::Kind(Kindred { kind, region }) => proto::AgreementParty {
            agency: String::new(),
            kind: agency_kind(*kind).into(),
            region: region.to_string(),
        },
    }
}

/// An agreement's terms on the wire.
pub(crate) fn on_wire(agreement: &Agreement) -> proto::Agreement {
    let of = |quota: Option<u32>| quota.unwrap_or_default();
    proto::Agreement {
        agreement_id: agreement.id.clone(),
        version: agreement.version,
        caller: Some(party_on_wire(&agreement.caller)),
        unit: agreement.unit.as_ref().map(ToString::to_string).unwrap_or_default(),
        methods: agreement.methods.iter().map(|method| method.name().to_owned()).collect(),
        kinds: agreement.kinds.iter().map(|kind| kind_of(*kind).into()).collect(),
        counterparts: agreement.counterparts.iter().map(party_on_wire).collect(),
        purposes: agreement.purposes.iter().map(ToString::to_string).collect(),
        legal_basis: agreement
            .legal_basis
            .iter()
            .map(|basis| proto::LegalBasis {
                law: basis.law().to_owned(),
                article: basis.article().to_owned(),
            })
            .collect(),
        programmes: agreement.programmes.as_ref().map(|agreed| proto::AgreedProgrammes {
            programmes: agreed.iter().filter_map(|of| programme_on_wire(*of)).map(Into::into).collect(),
            poverty_household: agreed.contains(&Programme::PovertyHousehold),
        }),
        fields: agreement.fields.as_ref().map(|fields| proto::AgreedFields {
            paths: fields.iter().map(|field| field.as_str().to_owned()).collect(),
        }),
        listed_operators_only: agreement.operators == OperatorTerms::Listed,
        quota: agreement.quota.map(|quota| proto::AgreementQuota {
            per_hour: of(quota.per_hour),
            per_day: of(quota.per_day),
            operator_per_hour: of(quota.operator_per_hour),
            operator_per_day: of(quota.operator_per_day),
        }),
        in_force_from: Some(date(agreement.from)),
        in_force_until: Some(date(agreement.until)),
        batch: agreement.batch.map(|batch| proto::AgreementBatch {
            at_once: u32::try_from(batch.at_once).unwrap_or(u32::MAX),
            per_second: batch.per_second,
        }),
        rate: agreement
            .rate
            .map(|rate| proto::AgreementRate { per_second: rate.per_second, burst: rate.burst }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"
        id = "LQ/VERIFY-1"
        version = 3
        caller = { kind = "legal-aid-centre", region = "331000" }
        unit = "station-3"
        methods = ["VerifyLowIncome", "VerifyPovertyHousehold"]
        kinds = ["LOW_INCOME_QUERY"]
        counterparts = ["91350100M000100Y43", { kind = "poverty-registry", region = "330000" }]
        purposes = ["AID_ELIGIBILITY"]
        legal_basis = ["法律援助法 41"]
        programmes = ["minimum-allowance", "poverty-household"]
        fields = ["programmes", "income_band"]
        operators = "listed"
        quota = { per_hour = 10, per_day = 100, operator_per_hour = 2, operator_per_day = 20 }
        from = 2026-01-01
        until = "2026-12-31"
        batch = { at_once = 4, per_second = 50 }
        rate = { per_second = 5, burst = 10 }
    "#;

    #[test]
    fn an_agreement_is_the_same_in_toml_in_json_and_on_the_wire() {
        let agreement: Agreement = toml::from_str(FULL).unwrap();
        let written = toml::to_string(&agreement).unwrap();
        assert_eq!(toml::from_str::<Agreement>(&written).unwrap(), agreement, "{written}");
        let json = agreement.to_canonical_json().unwrap();
        assert_eq!(serde_json::from_str::<Agreement>(&json).unwrap(), agreement, "{json}");
        let mut violations = Violations::new();
        assert_eq!(read(&mut violations, Some(&on_wire(&agreement))).as_ref(), Some(&agreement));
        assert!(violations.is_empty());

        let days = (agreement.from, agreement.until);
        let mut least = Agreement::new("A", 1, CreditCode::parse("91350100M000100Y43").unwrap(), days);
        least.methods = vec![Method::GetEntry];
        least.purposes = agreement.purposes;
        let written = toml::to_string(&least).unwrap();
        assert_eq!(toml::from_str::<Agreement>(&written).unwrap(), least, "{written}");
        assert_eq!(read(&mut violations, Some(&on_wire(&least))), Some(least));
    }

    #[test]
    fn everything_that_is_wrong_with_an_agreement_is_said_at_once() {
        let mut violations = Violations::new();
        let party = |agency: &str, region: &str| proto::AgreementParty {
            agency: agency.to_owned(),
            kind: proto::AgencyKind::Court.into(),
            region: region.to_owned(),
        };
        let agreement = proto::Agreement {
            agreement_id: "A".to_owned(),
            version: 1,
            caller: Some(party("", "331004")),
            methods: vec!["VerifyLowIncome".to_owned(), "Verify".to_owned()],
            counterparts: vec![party("91350100M000100Y43", "331004"), party("", "99")],
            purposes: vec!["fee waiver".to_owned()],
            fields: Some(proto::AgreedFields { paths: vec!["income".to_owned()] }),
            in_force_from: Some(date(jiff::civil::date(2026, 1, 1))),
            in_force_until: Some(date(jiff::civil::date(2026, 1, 1))),
            ..Default::default()
        };
        read(&mut violations, Some(&agreement));
        let fields: Vec<_> = violations.into_vec().into_iter().map(|violation| violation.field).collect();
        assert_eq!(
            fields,
            [
                "agreement.methods[1]",
                "agreement.counterparts[0]",
                "agreement.counterparts[1].region",
                "agreement.purposes[0]",
                "agreement.fields.paths[0]"
            ]
        );
    }
}
