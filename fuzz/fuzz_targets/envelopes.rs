//! Requests, answers and threads of messages: no bytes break their reading, and nothing that is wrong with them repeats
//! a resident number. The first byte chooses which.
#![no_main]

use legal_aid_gateway::access::Method;
use legal_aid_gateway::grpc::fuzzing::{read_registry_answer, read_request, read_thread};
use legal_aid_gateway::grpc::json::from_json;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway_fuzz::{now, seeds};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(init: seeds("envelopes", examples), |bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    match choice {
        b'a' => drop(read_registry_answer(bytes, now())),
        b't' => drop(read_thread(bytes, now())),
        _ => drop(read_request(bytes, now())),
    }
});

const KINDS: [&str; 6] = [
    "appeal-referral",
    "cooperation-request",
    "counsel-notice",
    "direct-assignment-report",
    "fee-waiver",
    "judicial-relief",
];

/// Every kind's example from its page with an answer to it, an example of each verification, and a short request for
/// every other method.
fn examples() -> Vec<(&'static str, Vec<u8>)> {
    let mut found = Vec::new();
    for method in Method::ALL {
        let context = proto::GetEntryRequest { context: Some(context()), ..Default::default() };
        found.push((method.name(), request(*method, &context)));
    }
    for kind in KINDS {
        let page = format!("{}/../docs/kinds/{kind}.md", env!("CARGO_MANIFEST_DIR"));
        let page = std::fs::read_to_string(page).unwrap();
        let mut pieces = page.split("```json\n").skip(1).map(|piece| piece.split_once("```").unwrap().0);
        let mut opening: proto::SubmitExchangeRequest =
            from_json("SubmitExchangeRequest", pieces.next().unwrap()).unwrap();
        opening.envelope = Some(complete(opening.envelope.take().unwrap()));
        found.push((kind, request(Method::SubmitExchange, &opening)));
        let answer: proto::Response = from_json("Response", pieces.next().unwrap()).unwrap();
        let content = opening.content.unwrap().encode_to_vec();
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        let thread =
            [b"t", length.as_slice(), content.as_slice(), answer.encode_to_vec().as_slice()].concat();
        found.push((format!("{kind}-answered").leak(), thread));
    }
    found.push(("low-income", request(Method::VerifyLowIncome, &low_income())));
    found
}

fn request(method: Method, message: &impl Message) -> Vec<u8> {
    [b"r", method.name().as_bytes(), b"\n", message.encode_to_vec().as_slice()].concat()
}

fn operator() -> proto::Operator {
    proto::Operator { staff_number: "centre-01".to_owned(), unit: "main".to_owned(), ..Default::default() }
}

fn context() -> proto::CallContext {
    let request_id = "0198c0de-0000-7000-8000-000000000001".to_owned();
    proto::CallContext { request_id, operator: Some(operator()), purpose: "FEE_WAIVER".to_owned() }
}

fn complete(envelope: proto::Envelope) -> proto::Envelope {
    proto::Envelope {
        request_id: context().request_id,
        sender: "12331004MB0000002T".to_owned(),
        region: "331004".to_owned(),
        operator: Some(operator()),
        schema_version: 1,
        ..envelope
    }
}

fn low_income() -> proto::VerifyLowIncomeRequest {
    const QUERY: &str = r#"{
        "subject": {"name": "测试甲", "idKind": "ID_KIND_RESIDENT_ID", "idNumber": "331004198001010016", "householdRegion": "331004"},
        "householdScope": "HOUSEHOLD_SCOPE_HOUSEHOLD", "programmes": ["PROGRAMME_MINIMUM_ALLOWANCE"],
        "asOf": {"year": 2026, "month": 11, "day": 1}, "authority": {"kind": "AUTHORITY_KIND_STATUTE"}
    }"#;
    const ENVELOPE: &str = r#"{
        "matterId": "LQ-2026-0001", "kind": "KIND_LOW_INCOME_QUERY", "purpose": "VERIFICATION",
        "legalBasis": [{"law": "法律援助法", "article": "41"}], "classification": {"sensitive": true, "minorUnder14": false}
    }"#;
    proto::VerifyLowIncomeRequest {
        envelope: Some(complete(from_json("Envelope", ENVELOPE).unwrap())),
        query: Some(from_json("LowIncomeQuery", QUERY).unwrap()),
        ..Default::default()
    }
}
