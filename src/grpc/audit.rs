//! `AuditService`: the log as auditors read and prove it.

mod evidence;
mod listing;
mod proofs;

use std::sync::Arc;

use tonic::{Request, Response, Status};

use self::evidence::ExportEvidence;
use self::listing::ListEntries;
use self::proofs::{GetCheckpoint, GetEntry, GetInclusionProof};
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
}

fn context(reading: &mut Reading, context: Option<&proto::CallContext>) {
    reading.facts.of_context(call_context(&mut reading.violations, context));
}

fn entry_on_wire(stored: StoredEntry) -> proto::AuditEntry {
    // As recorded, or nothing: a hash computed here would hide from the auditor that the record is gone.
    let leaf_hash = stored.leaf_hash.map(|hash| hash.as_bytes().to_vec()).unwrap_or_default();
    proto::AuditEntry { index: stored.index, entry: stored.entry, leaf_hash }
}
