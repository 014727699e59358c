//! Persons and their documents.

use jiff::civil::Date;

use super::envelope::mandatory;
use super::time::optional_date;
use super::{text, word};
use crate::domain::law::Article;
use crate::domain::person::{
    Group, IdDocument, IdKind, Person, PersonName, Phone, RepresentationBasis, Representative,
    RepresentativeRelation, Sex,
};
use crate::domain::region::RegionCode;
use crate::domain::violation::{Remark, Violations};
use crate::grpc::proto;

/// Most groups that one person belongs to.
const MOST_GROUPS: usize = 15;

/// Reads a person.
pub(super) fn person(violations: &mut Violations, value: &proto::Person, today: Date) -> Option<Person> {
    let name = mandatory(violations, "name", &value.name, PersonName::parse);
    let id = document(violations, value.id_kind, &value.id_number, today);
    let sex = match value.sex {
        0 => Some(None),
        stated => word(violations, "sex", stated, sex).map(Some),
    };
    let birth_date = optional_date(violations, "birth_date", value.birth_date.as_ref());
    if birth_date.is_some_and(|born| born > today) {
        violations.add(
            "birth_date",
            "NOT_IN_THE_FUTURE",
            "must not be in the future",
            "出生日期不得晚于今日",
        );
    }
    if let (Some(stated), Some(printed)) = (birth_date, id.as_ref().and_then(IdDocument::birth_date))
        && stated != printed
    {
        violations.add_by_article(
            "birth_date",
            "AGREES_WITH_ID_NUMBER",
            "must agree with the document's number",
            "须与证件号码所载出生日期一致",
            Article::gb_11643(),
        );
    }
    if let (Some(Some(stated)), Some(printed)) = (sex, id.as_ref().and_then(IdDocument::sex))
        && stated != printed
    {
        violations.add_by_article(
            "sex",
            "AGREES_WITH_ID_NUMBER",
            "must agree with the document's number",
            "须与证件号码所载性别一致",
            Article::gb_11643(),
        );
    }
    let household_region =
        mandatory(violations, "household_region", &value.household_region, RegionCode::parse);
    let phone = mandatory(violations, "phone", &value.phone, Phone::parse);
    if value.groups.len() > MOST_GROUPS {
        violations.add("groups", "AT_MOST_15", "too many groups", "人群类别过多");
    }
    let groups = value.groups.iter().take(MOST_GROUPS).enumerate();
    let groups =
        groups.filter_map(|(place, stated)| word(violations, &format!("groups[{place}]"), *stated, group));
    let groups = groups.collect();
    let representative = match &value.representative {
        None => Some(None),
        Some(value) => violations.within("representative", |v| representative(v, value, today)).map(Some),
    };
    Some(Person {
        name: name?,
        id: id?,
        sex: sex?,
        birth_date,
        household_region: household_region?,
        phone: phone?,
        groups,
        representative: representative?,
    })
}

/// Reads a document of identity: fields `id_kind` and `id_number`.
pub(crate) fn document(
    violations: &mut Violations,
    id_kind_value: i32,
    number: &str,
    today: Date,
) -> Option<IdDocument> {
    let kind = word(violations, "id_kind", id_kind_value, id_kind);
    text(violations, "id_number", number, 1, 64)?;
    violations.check("id_number", IdDocument::parse(kind?, number, today))
}

/// A remark where the number of a resident identity card begins with a region that is not known: people keep the
/// numbers of regions that are gone.
pub(super) fn region_remark(field: &str, id: Option<&IdDocument>) -> Option<Remark> {
    let number = id?.resident_id()?;
    number.region().is_none().then(|| Remark {
        field: field.to_owned(),
        rule: "RESIDENT_ID_REGION_UNKNOWN",
        description: "the number begins with a region that is not known".to_owned(),
        description_zh: "公民身份号码前六位不是已知的行政区划代码".to_owned(),
        article: Article::gbt_2260(),
    })
}

fn representative(
    violations: &mut Violations,
    value: &proto::Representative,
    today: Date,
) -> Option<Representative> {
    let name = mandatory(violations, "name", &value.name, PersonName::parse);
    let id = document(violations, value.id_kind, &value.id_number, today);
    let relation = word(violations, "relation", value.relation, relation);
    let basis = word(violations, "basis", value.basis, basis);
    Some(Representative { name: name?, id: id?, relation: relation?, basis: basis? })
}

fn id_kind(value: proto::IdKind) -> Option<IdKind> {
    match value {
        proto::IdKind::Unspecified => None,
        proto::IdKind::ResidentId => Some(IdKind::ResidentId),
        proto::IdKind::Military => Some(IdKind::MilitaryOfficer),
        proto::IdKind::Passport => Some(IdKind::Passport),
        proto::IdKind::ResidencePermit => Some(IdKind::ResidencePermit),
        proto::IdKind::HongKongMacauPermit => Some(IdKind::HongKongMacauPermit),
        proto::IdKind::TaiwanPermit => Some(IdKind::TaiwanPermit),
        proto::IdKind::ForeignPermanentResident => Some(IdKind::ForeignerPermanentResident),
    }
}

fn sex(value: proto::Sex) -> Option<Sex> {
    match value {
        proto::Sex::Unspecified => None,
        proto::Sex::Male => Some(Sex::Male),
        proto::Sex::Female => Some(Sex::Female),
    }
}

pub(super) fn group(value: proto::Group) -> Option<Group> {
    match value {
        proto::Group::Unspecified => None,
        proto::Group::Disabled => Some(Group::Disabled),
        proto::Group::Elderly => Some(Group::Elderly),
        proto::Group::Minor => Some(Group::Minor),
        proto::Group::Woman => Some(Group::Woman),
        proto::Group::MigrantWorker => Some(Group::MigrantWorker),
        proto::Group::ServiceMember => Some(Group::ServiceMember),
        proto::Group::MinimumAllowance => Some(Group::MinimumAllowance),
        proto::Group::Destitute => Some(Group::Destitute),
        proto::Group::ZeroEmployment => Some(Group::ZeroEmploymentHousehold),
        proto::Group::RuralFamilyPlanning => Some(Group::FamilyPlanningRuralHousehold),
        proto::Group::LaidOff => Some(Group::LaidOffWorker),
        proto::Group::RegisteredPoor => Some(Group::RegisteredPoor),
        proto::Group::Other => Some(Group::Other),
        proto::Group::JudicialRelief => Some(Group::JudicialRelief),
        proto::Group::SpecialCare => Some(Group::SpecialCare),
    }
}

/// A representative is never the person in person (法律援助法 art 40).
fn relation(value: proto::Relation) -> Option<RepresentativeRelation> {
    match value {
        proto::Relation::Unspecified | proto::Relation::Self_ => None,
        proto::Relation::Guardian => Some(RepresentativeRelation::Guardian),
        proto::Relation::NearRelative => Some(RepresentativeRelation::NearRelative),
        proto::Relation::HouseholdMember | proto::Relation::Other => {
            Some(RepresentativeRelation::OtherStatutory)
        }
    }
}

fn basis(value: proto::RepresentationBasis) -> Option<RepresentationBasis> {
    match value {
        proto::RepresentationBasis::Unspecified => None,
        proto::RepresentationBasis::Statutory => Some(RepresentationBasis::LegalGuardian),
        proto::RepresentationBasis::Entrusted => Some(RepresentationBasis::Entrusted),
    }
}
