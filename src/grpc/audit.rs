//! `AuditService`: the log as auditors read and prove it.

use std::sync::Arc;

use tonic::{Code, Request, Response, Status};

use super::call::Call;
use super::code_name;
use super::intake::{Intake, store_refusal};
use super::operation::{Facts, Lookup, Operation, Reading};
use super::page::{PageToken, page_size};
use super::proto;
use super::proto::audit_service_server::AuditService;
use super::status::Refusal;
use super::wire::call_context;
use crate::access::Method;
use crate::audit::entry::{Entry, Phase};
use crate::audit::log::Storage;
use crate::audit::merkle::Hash;
use crate::audit::tile::{tiles_for_inclusion, tiles_for_root};
use crate::audit::verifier::StoredEntry;
use crate::domain::agency::{CreditCode, MatterId};
use crate::domain::exchange::ExchangeId;
use crate::domain::violation::Violations;

/// Entries looked through for one page. A page may hold fewer than asked although more follow, so that a rare
/// filter costs the gateway a bounded time.
const LOOKED_THROUGH: u64 = 20_000;

/// Entries read from the database at once.
const CHUNK: u32 = 512;

/// Bytes of entries in one page.
const PAGE_BYTES: usize = 3 * 1024 * 1024;

/// Implements the service.
#[derive(Clone)]
pub struct Audit(pub Arc<Intake>);

#[tonic::async_trait]
impl AuditService for Audit {
    async fn list_entries(
        &self,
        request: Request<proto::ListEntriesRequest>,
    ) -> Result<Response<proto::ListEntriesResponse>, Status> {
        self.0.look_up::<ListEntries>(request).await
    }

    async fn get_entry(
        &self,
        request: Request<proto::GetEntryRequest>,
    ) -> Result<Response<proto::GetEntryResponse>, Status> {
        self.0.look_up::<GetEntry>(request).await
    }

    async fn get_checkpoint(
        &self,
        request: Request<proto::GetCheckpointRequest>,
    ) -> Result<Response<proto::GetCheckpointResponse>, Status> {
        self.0.look_up::<GetCheckpoint>(request).await
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<proto::GetInclusionProofRequest>,
    ) -> Result<Response<proto::GetInclusionProofResponse>, Status> {
        self.0.look_up::<GetInclusionProof>(request).await
    }
}

fn context(reading: &mut Reading, context: Option<&proto::CallContext>) {
    reading.facts.of_context(call_context(&mut reading.violations, context));
}

fn entry_on_wire(stored: StoredEntry) -> proto::AuditEntry {
    // As recorded, or nothing: a hash computed here would hide from the auditor that the record is gone.
    let leaf_hash = stored.leaf_hash.map(|hash| hash.as_bytes().to_vec()).unwrap_or_default();
    proto::AuditEntry { index: stored.index, entry: stored.entry, leaf_hash }
}

struct ListEntries;

struct List {
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

struct GetEntry;

impl Operation for GetEntry {
    const METHOD: Method = Method::GetEntry;
    type Request = proto::GetEntryRequest;
    type Response = proto::GetEntryResponse;
    type Task = u64;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<u64> {
        context(reading, request.context.as_ref());
        Some(request.index)
    }
}

impl Lookup for GetEntry {
    async fn look_up(
        intake: &Intake,
        _: &Call,
        index: u64,
        _: &mut Facts,
    ) -> Result<Self::Response, Refusal> {
        let found = intake.store.entry(index).await.map_err(|error| store_refusal(&error))?;
        let entry = entry_on_wire(found.ok_or(Refusal::NotFound)?);
        Ok(proto::GetEntryResponse { entry: Some(entry), audit: None })
    }
}

struct GetCheckpoint;

impl Operation for GetCheckpoint {
    const METHOD: Method = Method::GetCheckpoint;
    type Request = proto::GetCheckpointRequest;
    type Response = proto::GetCheckpointResponse;
    type Task = ();

    fn read(request: Self::Request, reading: &mut Reading) -> Option<()> {
        context(reading, request.context.as_ref());
        Some(())
    }
}

impl Lookup for GetCheckpoint {
    async fn look_up(intake: &Intake, _: &Call, (): (), _: &mut Facts) -> Result<Self::Response, Refusal> {
        Ok(proto::GetCheckpointResponse { checkpoint: intake.log.head().checkpoint.to_string(), audit: None })
    }
}

struct GetInclusionProof;

impl Operation for GetInclusionProof {
    const METHOD: Method = Method::GetInclusionProof;
    type Request = proto::GetInclusionProofRequest;
    type Response = proto::GetInclusionProofResponse;
    type Task = (u64, u64);

    fn read(request: Self::Request, reading: &mut Reading) -> Option<(u64, u64)> {
        context(reading, request.context.as_ref());
        Some((request.index, request.tree_size))
    }
}

impl Lookup for GetInclusionProof {
    async fn look_up(
        intake: &Intake,
        _: &Call,
        (index, asked_size): (u64, u64),
        _: &mut Facts,
    ) -> Result<Self::Response, Refusal> {
        let head = intake.log.head();
        let size = if asked_size == 0 { head.size } else { asked_size };
        if size > head.size || index >= size {
            let mut violations = Violations::new();
            violations.add(
                if index >= size { "index" } else { "tree_size" },
                "WITHIN_THE_LOG",
                format!("must lie within the log of {} entries", head.size),
                format!("须在日志范围内（共{}条）", head.size),
            );
            return Err(Refusal::Invalid(violations.into_vec()));
        }
        let mut ids = tiles_for_inclusion(index, size);
        ids.extend(tiles_for_root(size));
        let tiles = intake.store.tiles(&ids).await.map_err(|error| store_refusal(&error))?;
        let inconsistent = |error| {
            tracing::error!(%error, "tiles do not give a proof");
            Refusal::Internal
        };
        let hashes = tiles.inclusion_proof(index, size).map_err(inconsistent)?;
        let root = tiles.root(size).map_err(inconsistent)?;
        let stored = intake.store.entry(index).await.map_err(|error| store_refusal(&error))?;
        let leaf = stored.and_then(|stored| stored.leaf_hash).ok_or(Refusal::Internal)?;
        let bytes = |hash: &Hash| hash.as_bytes().to_vec();
        Ok(proto::GetInclusionProofResponse {
            index,
            tree_size: size,
            leaf_hash: bytes(&leaf),
            hashes: hashes.iter().map(bytes).collect(),
            root_hash: bytes(&root),
            checkpoint: head.checkpoint.to_string(),
            audit: None,
        })
    }
}
