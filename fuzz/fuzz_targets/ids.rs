//! Every id and code that has one spelling is printed as it was read.
#![no_main]

use jiff::civil::date;
use legal_aid_gateway::audit::findings::FindingId;
use legal_aid_gateway::domain::agency::{CreditCode, MatterId, PurposeCode, StaffNumber, UnitCode};
use legal_aid_gateway::domain::exchange::{DeliveryId, ExchangeId, RequestId};
use legal_aid_gateway::domain::law::LegalBasis;
use legal_aid_gateway::domain::lawyer::LicenceNumber;
use legal_aid_gateway::domain::person::{
    IdDocument, IdKind, PersonName, Phone, ResidentId, may_hold_resident_id,
};
use legal_aid_gateway::domain::region::{RegionCode, VillageCode};
use legal_aid_gateway_fuzz::seeds;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seeds("ids", || EXAMPLES.map(|(name, text)| (name, text.as_bytes().to_vec())).into()), |text: &str| {
    let today = date(2026, 11, 18);
    if let Ok(id) = ResidentId::parse(text, today) {
        assert_eq!(id.reveal(), text.replace('x', "X"));
        assert!(id.birth_date() <= today && id.age_on(today) < 2027);
        assert!(!format!("{id:?}").contains(&text[..16]), "Debug shows a number");
        let _ = (id.region(), id.sex());
    }
    for kind in IdKind::ALL {
        let Ok(document) = IdDocument::parse(*kind, text, today) else { continue };
        let again = IdDocument::parse(*kind, document.reveal(), today).expect("a document is read again as printed");
        assert!(again == document && document.kind() == *kind);
        assert!(!format!("{document:?}").contains(document.reveal()), "Debug shows a number");
    }
    if let Ok(code) = CreditCode::parse(text) {
        assert_eq!(code.to_string(), text);
    }
    if let Ok(code) = RegionCode::parse(text) {
        assert_eq!(code.to_string(), text);
        assert!(code.is_within(code.province()) && code.city().is_none_or(|city| code.is_within(city)));
    }
    if let Ok(code) = VillageCode::parse(text) {
        assert_eq!(code.region().to_string(), text[..6]);
    }
    uuids(text);
    codes(text);
    if let Ok(name) = PersonName::parse(text) {
        assert!(PersonName::parse(name.reveal()).is_ok_and(|again| again == name));
    }
    if let Ok(phone) = Phone::parse(text) {
        assert!(Phone::parse(phone.reveal()).is_ok());
    }
    let _ = (LicenceNumber::parse(text), may_hold_resident_id(text));
    if let Some((law, article)) = text.split_once(' ') {
        let _ = LegalBasis::parse(law, article);
    }
});

fn uuids(text: &str) {
    let printed = [
        RequestId::parse(text).map(|id| id.to_string()),
        ExchangeId::parse(text).map(|id| id.to_string()),
        DeliveryId::parse(text).map(|id| id.to_string()),
    ];
    for printed in printed.into_iter().flatten() {
        assert_eq!(printed, text.to_ascii_lowercase());
    }
    let _ = FindingId::parse(text);
}

/// These go into the audit log as they are, so none may be a person's number.
fn codes(text: &str) {
    let read = [
        UnitCode::parse(text).map(|code| code.to_string()),
        StaffNumber::parse(text).map(|code| code.to_string()),
        MatterId::parse(text).map(|code| code.to_string()),
        PurposeCode::parse(text).map(|code| code.to_string()),
    ];
    for code in read.into_iter().flatten() {
        assert_eq!(code, text);
        assert!(!may_hold_resident_id(&code), "a code may be a person's number");
    }
}

const EXAMPLES: [(&str, &str); 12] = [
    ("resident-id", "331004198001010016"),
    ("resident-id-x", "11010519491231002x"),
    ("residence-permit", "830000199201300022"),
    ("passport", "E12345678"),
    ("officer", "南字第12345678号"),
    ("credit-code", "12331004MB0000002T"),
    ("region", "331004"),
    ("village", "331004101201"),
    ("uuid", "0198c0de-0000-7000-8000-000000000001"),
    ("matter", "LQ-2026-0001"),
    ("name", "测试·甲"),
    ("article", "法律援助法 53"),
];
