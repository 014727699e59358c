//! `ListEntries`: the log looked through by an auditor's filter.

use tonic::Code;

use super::{context, entry_on_wire};
use crate::access::Method;
use crate::audit::entry::{Entry, Phase};
use crate::domain::agency::{CreditCode, MatterId};
use crate::domain::exchange::ExchangeId;
use crate::domain::violation::Violations;
use crate::grpc::call::Call;
use crate::grpc::code_name;
use crate::grpc::intake::{Intake, store_refusal};
use crate::grpc::operation::{Facts, Lookup, Operation, Reading};
use crate::grpc::page::{PageToken, page_size};
use crate::grpc::proto;
use crate::grpc::status::Refusal;

/// Entries looked through for one page. A page may hold fewer than asked although more follow, so that a rare
/// filter costs the gateway a bounded time.
const LOOKED_THROUGH: u64 = 20_000;

/// Entries read from the database at once.
const CHUNK: u32 = 512;

/// Bytes of entries in one page.
const PAGE_BYTES: usize = 3 * 1024 * 1024;

pub(super) struct ListEntries;

pub(super) struct List {
    filter: proto::EntryFilter,
    page_size: u32,
    token: String,
}

impl Operation for ListEntries {
    const METHOD: Method = Method::ListEntries;
    type Request = proto::ListEntriesRequest;
    type Response = proto::ListEntriesResponse;
    type Task = List;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<List> {
        context(reading, request.context.as_ref());
        let filter = request.filter.unwrap_or_default();
        reading.violations.within("filter", |v| check_filter(v, &filter));
        let page_size = page_size(&mut reading.violations, request.page_size, 100, 500)?;
        Some(List { filter, page_size, token: request.page_token })
    }
}

impl Lookup for ListEntries {
    async fn look_up(
        intake: &Intake,
        _: &Call,
        list: List,
        _: &mut Facts,
    ) -> Result<Self::Response, Refusal> {
        let filter_bytes = prost::Message::encode_to_vec(&list.filter);
        let token = PageToken::new(
            &intake.pseudonyms,
            format!("entries\0{}", data_encoding::HEXLOWER.encode(&filter_bytes)),
        );
        let from = match token.open(&list.token)? {
            None => 0,
            Some(bytes) => u64::from_be_bytes(bytes.try_into().map_err(|_| Refusal::Internal)?),
        };
        // Only what is under a signed checkpoint is shown.
        let end = intake.log.head().size;
        let stop = end.min(from.saturating_add(LOOKED_THROUGH));
        let (mut next, mut bytes, mut entries) = (from, 0, Vec::new());
        'pages: while next < stop {
            let chunk =
                intake.store.entries_with_hashes(next, CHUNK).await.map_err(|error| store_refusal(&error))?;
            if chunk.is_empty() {
                break;
            }
            for stored in chunk {
                if stored.index >= stop || entries.len() >= list.page_size as usize || bytes > PAGE_BYTES {
                    break 'pages;
                }
                next = stored.index + 1;
                if matches(&list.filter, &stored.entry) {
                    bytes += stored.entry.len();
                    entries.push(entry_on_wire(stored));
                }
            }
        }
        let next_page_token = if next < end { token.seal(&next.to_be_bytes()) } else { String::new() };
        Ok(proto::ListEntriesResponse { entries, next_page_token, audit: None })
    }
}

/// A filter that can match nothing is a mistake, and an auditor must not take it for an empty log.
fn check_filter(violations: &mut Violations, filter: &proto::EntryFilter) {
    let mut known = |field: &str, value: &str, is_known: bool| {
        if !value.is_empty() && !is_known {
            violations.add(field, "UNKNOWN_VALUE", "not a value that the log can hold", "日志中不存在的取值");
        }
    };
    known("phase", &filter.phase, Phase::ALL.iter().any(|phase| phase.as_str() == filter.phase));
    known("code", &filter.code, (0..17).any(|code| code_name(Code::from_i32(code)) == filter.code));
    known("caller", &filter.caller, CreditCode::parse(&filter.caller).is_ok());
    known("counterpart", &filter.counterpart, CreditCode::parse(&filter.counterpart).is_ok());
    known("exchange_id", &filter.exchange_id, ExchangeId::parse(&filter.exchange_id).is_some());
    known("matter_id", &filter.matter_id, MatterId::parse(&filter.matter_id).is_ok());
}

fn matches(filter: &proto::EntryFilter, bytes: &[u8]) -> bool {
    if *filter == proto::EntryFilter::default() {
        return true;
    }
    let Ok(entry) = Entry::from_json(bytes) else { return false };
    let is = |wanted: &str, value: Option<&str>| wanted.is_empty() || value == Some(wanted);
    let micros = |at: &prost_types::Timestamp| {
        at.seconds.saturating_mul(1_000_000).saturating_add(i64::from(at.nanos) / 1000)
    };
    let recorded = entry.recorded.as_microsecond();
    let full_method = format!("{}/{}", entry.service, entry.method);
    filter.recorded_from.as_ref().is_none_or(|from| recorded >= micros(from))
        && filter.recorded_before.as_ref().is_none_or(|before| recorded < micros(before))
        && is(&filter.caller, entry.caller.as_deref())
        && is(&filter.counterpart, entry.counterpart.as_deref())
        && (is(&filter.method, Some(&entry.method)) || is(&filter.method, Some(&full_method)))
        && is(&filter.exchange_id, entry.exchange.map(|id| id.to_string()).as_deref())
        && is(&filter.matter_id, entry.matter.as_deref())
        && is(&filter.phase, Some(entry.phase.as_str()))
        && is(&filter.code, entry.code.as_deref())
}
