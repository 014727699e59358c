//! Reading a filter: what it narrows to, and what the log may say of it.

use jiff::civil::Date;
use tonic::Code;

use crate::audit::entry::Phase;
use crate::audit::search::{Field, Query};
use crate::domain::agency::{CreditCode, MatterId, PurposeCode, StaffNumber, UnitCode};
use crate::domain::exchange::{DeliveryId, ExchangeId, Kind, RequestId};
use crate::domain::person::IdDocument;
use crate::domain::violation::Violations;
use crate::grpc::code_name;
use crate::grpc::proto;
use crate::grpc::wire::document;

/// Reads a filter. One that can match nothing is a mistake, and an auditor must not take it for an empty log.
pub(super) fn read(
    violations: &mut Violations,
    filter: &proto::EntryFilter,
    today: Date,
) -> (Query, Option<IdDocument>) {
    let mut query = Query::default();
    let mut narrow = |name: &str, field: Field, value: &str, is_known: bool| {
        if value.is_empty() {
            return;
        }
        if is_known {
            query.narrow(field, value);
        } else {
            violations.add(name, "UNKNOWN_VALUE", "not a value that the log can hold", "日志中不存在的取值");
        }
    };
    let is_code = |value: &str| CreditCode::parse(value).is_ok();
    narrow("caller", Field::Caller, &filter.caller, is_code(&filter.caller));
    narrow("counterpart", Field::Counterpart, &filter.counterpart, is_code(&filter.counterpart));
    let (service, method) = filter.method.rsplit_once('/').unwrap_or(("", &filter.method));
    narrow("method", Field::Service, service, true);
    narrow("method", Field::Method, method, true);
    let is_exchange = ExchangeId::parse(&filter.exchange_id).is_some();
    narrow("exchange_id", Field::Exchange, &filter.exchange_id.to_lowercase(), is_exchange);
    narrow("matter_id", Field::Matter, &filter.matter_id, MatterId::parse(&filter.matter_id).is_ok());
    let is_phase = Phase::ALL.iter().any(|phase| phase.as_str() == filter.phase);
    narrow("phase", Field::Phase, &filter.phase, is_phase);
    let is_grpc_code = (0..17).any(|code| code_name(Code::from_i32(code)) == filter.code);
    narrow("code", Field::Code, &filter.code, is_grpc_code);
    narrow("unit", Field::Unit, &filter.unit, UnitCode::parse(&filter.unit).is_ok());
    narrow("operator", Field::Operator, &filter.operator, StaffNumber::parse(&filter.operator).is_ok());
    narrow("reason", Field::Reason, &filter.reason, is_upper_snake(&filter.reason));
    narrow("purpose", Field::Purpose, &filter.purpose, PurposeCode::parse(&filter.purpose).is_ok());
    let is_kind = Kind::ALL.iter().any(|kind| kind.as_str() == filter.kind);
    narrow("kind", Field::Kind, &filter.kind, is_kind);
    narrow("subject", Field::Subject, &filter.subject, is_pseudonym(&filter.subject));
    let is_delivery = DeliveryId::parse(&filter.delivery_id).is_some();
    narrow("delivery_id", Field::Delivery, &filter.delivery_id.to_lowercase(), is_delivery);
    let is_request = RequestId::parse(&filter.request_id).is_some();
    narrow("request_id", Field::Request, &filter.request_id.to_lowercase(), is_request);
    let micros = |at: &prost_types::Timestamp| {
        at.seconds.saturating_mul(1_000_000).saturating_add(i64::from(at.nanos) / 1000)
    };
    query.recorded.from = filter.recorded_from.as_ref().map(micros);
    query.recorded.before = filter.recorded_before.as_ref().map(micros);
    if let (Some(from), Some(before)) = (query.recorded.from, query.recorded.before)
        && from > before
    {
        violations.add(
            "recorded_from",
            "FROM_BEFORE_BEFORE",
            "must not be later than recorded_before",
            "起始时间不得晚于截止时间",
        );
    }
    let person = filter.person.as_ref().and_then(|person| {
        if !filter.subject.is_empty() {
            violations.add(
                "person",
                "PERSON_OR_SUBJECT",
                "give the person or the pseudonym, not both",
                "人员与其代号只能填写一项",
            );
        }
        violations.within("person", |v| document(v, person.id_kind, &person.id_number, today))
    });
    (query, person)
}

/// What the log says a search was by.
pub(super) fn summary(query: &Query, by_person: bool, newest_first: bool) -> String {
    let mut summary = query.summary();
    if by_person {
        summary = if query.is_everything() { "person".to_owned() } else { format!("{summary},person") };
    }
    if newest_first {
        summary.push_str(",newest_first");
    }
    summary
}

/// The pseudonym that a filter names.
pub(super) fn pseudonym(filter: &proto::EntryFilter) -> Option<String> {
    is_pseudonym(&filter.subject).then(|| filter.subject.clone())
}

fn is_pseudonym(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn is_upper_snake(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    text.len() <= 64 && text.bytes().all(is_word)
}
