//! The ways into what reads a peer's bytes behind the services, for the targets under `fuzz/` and the properties here.
//! It is compiled for these only.

use std::time::Duration;

use http::{HeaderValue, Request};
use jiff::Timestamp;
use prost::Message as _;
use tonic::body::Body;

use super::front::{requested_timeout, trace_of};
use super::messages;
use super::operation::{Facts, Operation, Reading};
use super::page::PageToken;
use super::proto;
use super::wire::{Surroundings, answer_fits, content, response, shanghai_day};
use super::{
    agreement, attachment, audit, deliveries, eligibility, exchange, exchange_views, pull, verification,
    watch,
};
use crate::access::Method;
use crate::audit::entry::PseudonymKey;
use crate::delivery::registry::{self, Asking, LowIncome, PovertyHousehold, Register as _};
use crate::domain::agency::CreditCode;
use crate::domain::person::{IdDocument, IdKind, PersonName, may_hold_resident_id};
use crate::domain::region::RegionCode;
use crate::domain::verification::{HouseholdQuery, Subject};
use crate::domain::violation::{Violation, Violations};
use crate::telemetry::Traces;

/// A method, and what reads a request as its own and says what is wrong with it; `None` where it is no message at all.
pub(super) type Reader = (Method, fn(&[u8], CreditCode, Timestamp) -> Option<Vec<Violation>>);

/// How the requests of an operation are read.
pub(super) const fn reader<O: Operation>() -> Reader {
    (O::METHOD, read_as::<O>)
}

/// The readers of every method that takes a message.
fn readers() -> Vec<Reader> {
    let of_exchanges: &[Reader] = &[
        reader::<exchange_views::GetExchange>(),
        reader::<exchange_views::ListExchanges>(),
        reader::<pull::PullDeliveries>(),
        reader::<pull::AcknowledgeDelivery>(),
        reader::<watch::WatchExchanges>(),
        reader::<deliveries::ListDeliveries>(),
        reader::<deliveries::GetDelivery>(),
        reader::<deliveries::RetryDelivery>(),
        reader::<deliveries::RedeliverExchange>(),
    ];
    [
        exchange::READERS,
        verification::READERS,
        eligibility::READERS,
        of_exchanges,
        attachment::READERS,
        audit::READERS,
        agreement::READERS,
    ]
    .concat()
}

fn read_as<O: Operation>(bytes: &[u8], caller: CreditCode, now: Timestamp) -> Option<Vec<Violation>> {
    let request = O::Request::decode(bytes).ok()?;
    let again = request.encode_to_vec();
    let (found, is_read) = read_request_as::<O>(request, caller, now);
    assert!(is_read || !found.is_empty(), "{:?} was not read, and nothing is wrong with it", O::METHOD);
    let again =
        O::Request::decode(again.as_slice()).ok().map(|request| read_request_as::<O>(request, caller, now));
    assert!(again == Some((found.clone(), is_read)), "{:?} is read differently when sent on", O::METHOD);
    Some(found)
}

fn read_request_as<O: Operation>(
    request: O::Request,
    caller: CreditCode,
    now: Timestamp,
) -> (Vec<Violation>, bool) {
    let mut reading = Reading { caller, now, violations: Violations::new(), facts: Facts::default() };
    let is_read = O::read(request, &mut reading).is_some();
    (reading.violations.into_vec(), is_read)
}

/// Reads bytes as the request of the method that their first line names, as the simulated centre's at `now`.
pub fn read_request(bytes: &[u8], now: Timestamp) -> Option<Vec<Violation>> {
    let line = bytes.iter().position(|byte| *byte == b'\n')?;
    let (name, request) = (bytes.get(..line)?, bytes.get(line + 1..)?);
    let (_, read) = readers().into_iter().find(|(method, _)| method.name().as_bytes() == name)?;
    let found = read(request, caller()?, now)?;
    found.iter().for_each(names_nobody);
    Some(found)
}

/// The simulated centre.
fn caller() -> Option<CreditCode> {
    CreditCode::parse("12331004MB0000002T").ok()
}

/// A violation repeats nothing of the input: no resident number stands in it.
fn names_nobody(violation: &Violation) {
    for text in [&violation.field, &violation.description, &violation.description_zh] {
        assert!(!may_hold_resident_id(text), "{} repeats a resident number", violation.rule);
    }
}

/// Reads bytes as two messages, a content and a response to it, the length of the first in front in two bytes.
pub fn read_thread(bytes: &[u8], now: Timestamp) -> Option<Vec<Violation>> {
    let (length, bytes) = bytes.split_first_chunk()?;
    let (opened, answer) = bytes.split_at_checked(u16::from_be_bytes(*length).into())?;
    let (opened, answer) = (proto::Content::decode(opened).ok()?, proto::Response::decode(answer).ok()?);
    let around =
        Surroundings { sender: caller()?, recipient: None, region: None, has_attachments: true, now };
    let mut violations = Violations::new();
    content(&mut violations, Some(&opened), around);
    response(&mut violations, Some(&answer), now);
    let message = proto::ExchangeMessage {
        body: Some(proto::exchange_message::Body::Content(opened)),
        ..proto::ExchangeMessage::default()
    };
    answer_fits(&mut violations, &answer, &[message]);
    let found = violations.into_vec();
    found.iter().for_each(names_nobody);
    Some(found)
}

/// Reads bytes as the answers of both registries about one person; whether either counts.
pub fn read_registry_answer(bytes: &[u8], now: Timestamp) -> bool {
    let (Some(asked), Some(caller)) = (household(now), caller()) else { return false };
    let asking = Asking { caller, asked: &asked, today: shanghai_day(now) };
    let low_income = proto::QueryLowIncomeResponse::decode(bytes).ok().map(LowIncome::open);
    let low_income = low_income.and_then(|answer| {
        registry::check::<LowIncome>(
            answer,
            &vec![proto::Programme::MinimumAllowance.into()],
            asking,
            &[7; 32],
        )
        .ok()
    });
    let poverty = proto::QueryPovertyHouseholdResponse::decode(bytes).ok().map(PovertyHousehold::open);
    let poverty =
        poverty.and_then(|answer| registry::check::<PovertyHousehold>(answer, &(), asking, &[7; 32]).ok());
    for reason in
        [low_income.as_ref().map(|a| &a.reason), poverty.as_ref().map(|a| &a.reason)].into_iter().flatten()
    {
        assert!(
            reason.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
        );
    }
    low_income.is_some() || poverty.is_some()
}

fn household(now: Timestamp) -> Option<HouseholdQuery> {
    let today = shanghai_day(now);
    Some(HouseholdQuery {
        subject: Subject {
            name: PersonName::parse("测试甲").ok()?,
            id: IdDocument::parse(IdKind::ResidentId, "331004198001010016", today).ok()?,
            household_region: RegionCode::parse("331004").ok()?,
        },
        as_of: today,
    })
}

/// The page token of a position in a list that `filter` chose.
pub fn page_token(filter: &str, position: &[u8]) -> String {
    PageToken::new(&PseudonymKey::new([1; 32]), filter.to_owned()).seal(position)
}

/// Opens a page token; what opens must be the one spelling of what was sealed under that filter.
pub fn open_page_token(filter: &str, token: &str) -> Option<Vec<u8>> {
    let position = PageToken::new(&PseudonymKey::new([1; 32]), filter.to_owned()).open(token).ok()??;
    assert_eq!(page_token(filter, &position), token, "a second spelling of a token opens");
    Some(position)
}

/// Reads a body's message lengths whole and in pieces; both must come to the same.
pub fn read_message_lengths(body: &[u8], piece: usize) -> usize {
    let (mut whole, mut cut) = (messages::Reader::default(), messages::Reader::default());
    let (mut expected, mut told) = (Vec::new(), Vec::new());
    whole.read(body, |next| expected.push(next));
    body.chunks(piece.max(1)).for_each(|piece| cut.read(piece, |next| told.push(next)));
    assert_eq!(told, expected);
    assert_eq!(cut.is_past_first(), whole.is_past_first());
    told.len()
}

/// Reads the headers of a call that hold a text of the peer: `grpc-timeout` and `traceparent`.
pub fn read_headers(value: &[u8]) -> Option<Duration> {
    let value = HeaderValue::from_bytes(value).ok()?;
    let request = Request::builder().header("grpc-timeout", &value).header("traceparent", &value);
    let request = request.body(Body::empty()).ok()?;
    let said = trace_of(&request, &Traces::default()).traceparent();
    let id = said.get(3..35).unwrap_or_default();
    let is_the_peers = value.to_str().is_ok_and(|value| value.contains(id));
    assert!(
        said.len() == 55 && !(is_the_peers && may_hold_resident_id(id)),
        "a peer's trace carries a number"
    );
    requested_timeout(&request).ok().flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_795_000_000).unwrap()
    }

    fn sent_to(method: Method, request: &[u8]) -> Vec<u8> {
        [method.name().as_bytes(), b"\n", request].concat()
    }

    #[test]
    fn every_method_that_takes_a_message_has_a_reader() {
        let read: Vec<Method> = readers().iter().map(|(method, _)| *method).collect();
        let missing: Vec<_> = Method::ALL.iter().filter(|method| !read.contains(method)).collect();
        assert!(missing.is_empty(), "no reader of {missing:?}: name it beside its operation");
    }

    #[test]
    fn the_seeds_of_the_fuzz_target_are_read_and_nothing_is_wrong_with_them() {
        let seed = |name: &str| {
            let path = format!("{}/fuzz/corpus/envelopes/{name}", env!("CARGO_MANIFEST_DIR"));
            std::fs::read(path).unwrap().split_off(1)
        };
        for name in ["low-income", "fee-waiver", "judicial-relief", "cooperation-request"] {
            assert_eq!(read_request(&seed(name), now()), Some(Vec::new()), "{name}");
            if name != "low-income" {
                let answered = read_thread(&seed(&format!("{name}-answered")), now());
                assert_eq!(answered, Some(Vec::new()), "{name}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_as_any_request_or_found_wrong(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for method in Method::ALL {
                read_request(&sent_to(*method, &bytes), now());
            }
            read_thread(&bytes, now());
            prop_assert!(!read_registry_answer(&bytes, now()));
        }

        #[test]
        fn an_id_number_of_any_shape_is_never_repeated_in_what_is_wrong(
            name in "\\PC{0,40}", number in "\\PC{0,24}|[0-9]{17}[0-9X]", region in "[0-9]{0,7}", kind in -1..9_i32,
        ) {
            let subject = proto::Subject { name, id_kind: kind, id_number: number, household_region: region };
            let query = proto::LowIncomeQuery { subject: Some(subject), ..Default::default() };
            let request = proto::VerifyLowIncomeRequest { query: Some(query), ..Default::default() };
            let found = read_request(&sent_to(Method::VerifyLowIncome, &request.encode_to_vec()), now());
            prop_assert!(found.is_some_and(|found| !found.is_empty()));
        }

        #[test]
        fn message_lengths_are_the_same_however_a_body_is_cut(
            body in prop::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..100), piece in 1..9_usize,
        ) {
            read_message_lengths(&body, piece);
        }

        #[test]
        fn headers_of_any_text_are_read_or_refused(value in "\\PC{0,60}|[0-9]{1,9}[HMSmun]") {
            read_headers(value.as_bytes());
        }
    }
}
