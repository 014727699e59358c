//! The examples that `init` writes beside the configuration; all people are synthetic.

use jiff::civil::Date;

use super::{ON_THE_REGISTER, codes};
use crate::simulator::registry::{Household, Poverty};

/// Households on the simulated registers.
pub(super) fn households() -> Vec<Household> {
    let (name, id_number) = ON_THE_REGISTER;
    vec![Household {
        name: name.to_owned(),
        id_number: id_number.to_owned(),
        size: 3,
        certificate_number: "DB-2026-0001".to_owned(),
        valid_to: Date::constant(2030, 12, 31),
        poverty: Some(Poverty {
            village_code: "331004101201".to_owned(),
            kind: "EDGE".to_owned(),
            identified_on: Date::constant(2021, 6, 1),
            removed_on: None,
        }),
    }]
}

/// A question as `verify low-income --file` takes it.
pub(super) fn query(today: Date) -> String {
    let (name, id_number) = ON_THE_REGISTER;
    let (year, month, day) = (today.year(), today.month(), today.day());
    format!(
        r#"{{
  "subject": {{"name": "{name}", "idKind": "ID_KIND_RESIDENT_ID", "idNumber": "{id_number}", "householdRegion": "331004"}},
  "householdScope": "HOUSEHOLD_SCOPE_HOUSEHOLD",
  "programmes": ["PROGRAMME_MINIMUM_ALLOWANCE"],
  "asOf": {{"year": {year}, "month": {month}, "day": {day}}},
  "authority": {{"kind": "AUTHORITY_KIND_STATUTE"}}
}}
"#
    )
}

/// A question as `verify poverty --file` takes it.
pub(super) fn poverty_query(today: Date) -> String {
    let (name, id_number) = ON_THE_REGISTER;
    let (year, month, day) = (today.year(), today.month(), today.day());
    format!(
        r#"{{
  "subject": {{"name": "{name}", "idKind": "ID_KIND_RESIDENT_ID", "idNumber": "{id_number}", "householdRegion": "331004"}},
  "householdScope": "HOUSEHOLD_SCOPE_HOUSEHOLD",
  "villageCode": "331004101201",
  "asOf": {{"year": {year}, "month": {month}, "day": {day}}},
  "authority": {{"kind": "AUTHORITY_KIND_STATUTE"}}
}}
"#
    )
}

/// A case as `eligibility assess --file` takes it.
pub(super) fn case(today: Date) -> String {
    let (name, id_number) = ON_THE_REGISTER;
    let (year, month, day) = (today.year(), today.month(), today.day());
    format!(
        r#"{{
  "applicant": {{
    "name": "{name}", "idKind": "ID_KIND_RESIDENT_ID", "idNumber": "{id_number}",
    "householdRegion": "331004", "phone": "13800000000"
  }},
  "appliedOn": {{"year": {year}, "month": {month}, "day": {day}}},
  "matter": "AID_MATTER_TRAFFIC_INJURY",
  "programmes": ["PROGRAMME_MINIMUM_ALLOWANCE"],
  "income": {{"householdMonthlyIncomeFen": "700000", "householdMembers": 3}},
  "authority": {{"kind": "AUTHORITY_KIND_STATUTE"}}
}}
"#
    )
}

/// A request as `exchange submit --file` takes it; what the profile knows may be left out of the envelope.
pub(super) fn fee_waiver(today: Date, now: jiff::Timestamp) -> String {
    let (name, id_number) = ON_THE_REGISTER;
    let (centre, court) = (codes::CENTRE, codes::COURT);
    let (year, month, day) = (today.year(), today.month(), today.day());
    let digest = data_encoding::BASE64.encode(&[0x5a; 32]);
    format!(
        r#"{{
  "envelope": {{
    "matterId": "LQ-2026-0001",
    "kind": "KIND_FEE_WAIVER",
    "recipient": "{court}",
    "legalBasis": [{{"law": "法律援助法", "article": "53"}}],
    "purpose": "FEE_WAIVER",
    "classification": {{"sensitive": true, "minorUnder14": false}}
  }},
  "content": {{
    "feeWaiver": {{
      "applicant": {{
        "name": "{name}", "idKind": "ID_KIND_RESIDENT_ID", "idNumber": "{id_number}",
        "householdRegion": "331004", "phone": "13800000000", "groups": ["GROUP_MINIMUM_ALLOWANCE"]
      }},
      "applicantKind": "APPLICANT_KIND_NATURAL_PERSON",
      "courtCase": {{
        "court": "{court}", "causeOfAction": "机动车交通事故责任纠纷",
        "instance": "INSTANCE_FIRST", "role": "PARTY_ROLE_PLAINTIFF"
      }},
      "claimKind": "CLAIM_KIND_PROPERTY",
      "claimedSumFen": "10000000",
      "feeFen": "230000",
      "relief": "RELIEF_DEFER",
      "ground": "RELIEF_GROUND_47_3",
      "aidDecision": {{
        "centre": "{centre}", "number": "2026-0001",
        "decidedOn": {{"year": {year}, "month": {month}, "day": {day}}}, "documentSha256": "{digest}"
      }},
      "reason": "正在接受法律援助，无力预交案件受理费",
      "filedAt": "{now}"
    }}
  }}
}}
"#
    )
}
