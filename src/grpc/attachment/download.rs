//! `AttachmentService.DownloadAttachment`.

use std::sync::Arc;

use super::keyed;
use crate::access::Method;
use crate::domain::violation::Violations;
use crate::grpc::call::Call;
use crate::grpc::intake::streams::{Outgoing, Sending};
use crate::grpc::intake::{Intake, store_refusal};
use crate::grpc::operation::{Facts, Operation, Reading};
use crate::grpc::proto;
use crate::grpc::status::Refusal;
use crate::grpc::wire::{call_context, digest};
use crate::store::{AttachmentRecord, CHUNK_BYTES};

/// The method.
pub(super) struct DownloadAttachment;

/// A download as asked for.
pub(super) struct Download {
    sha256: [u8; 32],
    offset: u64,
    found: Option<AttachmentRecord>,
}

impl Operation for DownloadAttachment {
    const METHOD: Method = Method::DownloadAttachment;
    type Request = proto::DownloadAttachmentRequest;
    type Response = proto::DownloadAttachmentResponse;
    type Task = Download;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<Download> {
        let violations = &mut reading.violations;
        reading.facts.of_context(call_context(violations, request.context.as_ref()));
        let sha256 = digest(violations, "sha256", &request.sha256);
        let offset = u64::try_from(request.offset).ok();
        if offset.is_none() {
            violations.add("offset", "NOT_NEGATIVE", "must not be negative", "不得为负数");
        }
        Some(Download { sha256: sha256?, offset: offset?, found: None })
    }
}

impl Sending for DownloadAttachment {
    async fn prepare(
        intake: &Intake,
        call: &Call,
        task: &mut Download,
        facts: &mut Facts,
    ) -> Result<(), Refusal> {
        let found = intake.store.readable_attachment(&call.caller(), &keyed(intake, &task.sha256)).await;
        let found = found.map_err(|error| store_refusal(&error))?.ok_or(Refusal::NotFound)?;
        if found.owner != call.caller() {
            facts.of_found(found.owner);
        }
        if task.offset > found.size {
            let mut violations = Violations::new();
            violations.add("offset", "WITHIN_THE_SIZE", "must not lie beyond the end", "不得超出附件末尾");
            return Err(Refusal::Invalid(violations.into_vec()));
        }
        task.found = Some(found);
        Ok(())
    }

    async fn send(
        intake: &Arc<Intake>,
        call: &Call,
        task: Download,
        facts: &Facts,
        out: &mut Outgoing<Self::Response>,
    ) -> Result<(), Refusal> {
        let found = task.found.ok_or(Refusal::Internal)?;
        out.send(proto::DownloadAttachmentResponse {
            size_bytes: i64::try_from(found.size).unwrap_or(i64::MAX),
            media_type: found.media_type.to_string(),
            name: found.name,
            ..Default::default()
        })
        .await?;
        let chunk_bytes = CHUNK_BYTES as u64;
        let mut offset = task.offset;
        while offset < found.size {
            intake.may_go_on(call, Self::METHOD, facts)?;
            let chunk = intake.store.chunk(&found.attachment_id, offset / chunk_bytes).await;
            let mut chunk = chunk.map_err(|error| store_refusal(&error))?;
            let begun = usize::try_from(offset % chunk_bytes).map_err(|_| Refusal::Internal)?;
            let data = chunk.split_off(begun.min(chunk.len()));
            if data.is_empty() {
                return Err(Refusal::Internal);
            }
            let next = offset + data.len() as u64;
            let offset_on_wire = i64::try_from(offset).unwrap_or(i64::MAX);
            out.send(proto::DownloadAttachmentResponse {
                offset: offset_on_wire,
                data,
                ..Default::default()
            })
            .await?;
            offset = next;
        }
        Ok(())
    }
}
