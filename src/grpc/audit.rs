//! `AuditService`: the log as auditors read and prove it.

mod evidence;
mod findings;
mod listing;
mod marking;
mod opening;
mod proofs;
mod published;
mod receipt;
mod removal;

use std::sync::Arc;

use tonic::{Request, Response, Status};

use self::evidence::ExportEvidence;
pub use self::findings::FindingRules;
use self::findings::ListFindings;
use self::listing::ListEntries;
use self::marking::MarkFinding;
use self::opening::OpenEntry;
use self::proofs::{GetCheckpoint, GetConsistencyProof, GetEntry, GetInclusionProof};
pub(super) use self::published::{Fetch, FetchResource};
use self::published::{GetEntries, GetTile};
use self::receipt::GetReceipt;
use self::removal::{EraseRecords, GetRemoval, PruneLog};
use super::intake::Intake;
use super::intake::streams::Items;
use super::operation::Reading;
use super::proto;
use super::proto::audit_service_server::AuditService;
use super::wire::call_context;
use crate::audit::verifier::StoredEntry;

/// Implements the service.
#[derive(Clone)]
pub struct Audit(pub Arc<Intake>);

#[tonic::async_trait]
impl AuditService for Audit {
    type ExportEvidenceStream = Items<proto::ExportEvidenceResponse>;

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

    async fn export_evidence(
        &self,
        request: Request<proto::ExportEvidenceRequest>,
    ) -> Result<Response<Self::ExportEvidenceStream>, Status> {
        self.0.carry_out_sending::<ExportEvidence>(request).await
    }

    async fn get_consistency_proof(
        &self,
        request: Request<proto::GetConsistencyProofRequest>,
    ) -> Result<Response<proto::GetConsistencyProofResponse>, Status> {
        self.0.look_up::<GetConsistencyProof>(request).await
    }

    async fn get_entries(
        &self,
        request: Request<proto::GetEntriesRequest>,
    ) -> Result<Response<proto::GetEntriesResponse>, Status> {
        self.0.look_up::<GetEntries>(request).await
    }

    async fn get_tile(
        &self,
        request: Request<proto::GetTileRequest>,
    ) -> Result<Response<proto::GetTileResponse>, Status> {
        self.0.look_up::<GetTile>(request).await
    }

    async fn get_receipt(
        &self,
        request: Request<proto::GetReceiptRequest>,
    ) -> Result<Response<proto::GetReceiptResponse>, Status> {
        self.0.look_up::<GetReceipt>(request).await
    }

    async fn open_entry(
        &self,
        request: Request<proto::OpenEntryRequest>,
    ) -> Result<Response<proto::OpenEntryResponse>, Status> {
        self.0.look_up::<OpenEntry>(request).await
    }

    async fn erase_records(
        &self,
        request: Request<proto::EraseRecordsRequest>,
    ) -> Result<Response<proto::EraseRecordsResponse>, Status> {
        self.0.carry_out::<EraseRecords>(request).await
    }

    async fn prune_log(
        &self,
        request: Request<proto::PruneLogRequest>,
    ) -> Result<Response<proto::PruneLogResponse>, Status> {
        self.0.carry_out::<PruneLog>(request).await
    }

    async fn get_removal(
        &self,
        request: Request<proto::GetRemovalRequest>,
    ) -> Result<Response<proto::GetRemovalResponse>, Status> {
        self.0.look_up::<GetRemoval>(request).await
    }

    type ListFindingsStream = Items<proto::ListFindingsResponse>;

    async fn list_findings(
        &self,
        request: Request<proto::ListFindingsRequest>,
    ) -> Result<Response<Self::ListFindingsStream>, Status> {
        self.0.carry_out_sending::<ListFindings>(request).await
    }

    async fn mark_finding(
        &self,
        request: Request<proto::MarkFindingRequest>,
    ) -> Result<Response<proto::MarkFindingResponse>, Status> {
        self.0.carry_out::<MarkFinding>(request).await
    }
}

fn context(reading: &mut Reading, context: Option<&proto::CallContext>) {
    reading.facts.of_context(call_context(&mut reading.violations, context));
}

fn entry_on_wire(stored: StoredEntry) -> proto::AuditEntry {
    // As recorded, or nothing: a hash computed here would hide from the auditor that the record is gone.
    let leaf_hash = stored.leaf_hash.map(|hash| hash.as_bytes().to_vec()).unwrap_or_default();
    proto::AuditEntry { index: stored.index, entry: stored.entry, leaf_hash, removed: None }
}

/// How the requests of these methods are read.
#[cfg(any(test, fuzzing))]
pub(super) const READERS: &[super::fuzzing::Reader] = &[
    super::fuzzing::reader::<ExportEvidence>(),
    super::fuzzing::reader::<ListFindings>(),
    super::fuzzing::reader::<ListEntries>(),
    super::fuzzing::reader::<MarkFinding>(),
    super::fuzzing::reader::<OpenEntry>(),
    super::fuzzing::reader::<GetCheckpoint>(),
    super::fuzzing::reader::<GetConsistencyProof>(),
    super::fuzzing::reader::<GetEntry>(),
    super::fuzzing::reader::<GetInclusionProof>(),
    super::fuzzing::reader::<GetEntries>(),
    super::fuzzing::reader::<GetTile>(),
    super::fuzzing::reader::<GetReceipt>(),
    super::fuzzing::reader::<EraseRecords>(),
    super::fuzzing::reader::<GetRemoval>(),
    super::fuzzing::reader::<PruneLog>(),
];
