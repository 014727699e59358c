//! `AttachmentService`: papers up and down. How an upload is received is in [`reception`].

mod download;
mod reception;

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};

use self::download::DownloadAttachment;
use self::reception::Reception;
use super::call::Call;
use super::intake::streams::{Incoming, Items, Receiving};
use super::intake::{Intake, store_refusal};
use super::operation::{Done, Effectful, Facts, Lookup, Operation, Reading};
use super::proto;
use super::proto::attachment_service_server::AttachmentService;
use super::status::Refusal;
use super::wire::{call_context, digest, text, timestamp};
use crate::access::Method;
use crate::domain::attachment::MediaType;
use crate::domain::exchange::ExchangeId;
use crate::domain::violation::Violations;
use crate::entropy;
use crate::store::{AttachmentRecord, Begun, Effect, NewAttachment, Room};

/// Bounds on attachments.
#[derive(Clone, Copy, Debug)]
pub struct AttachmentLimits {
    /// Most bytes of one.
    pub most_bytes: u64,
    /// Most that one agency may hold.
    pub room: Room,
}

/// Implements the service.
#[derive(Clone)]
pub struct Attachments(pub Arc<Intake>);

#[tonic::async_trait]
impl AttachmentService for Attachments {
    type DownloadAttachmentStream = Items<proto::DownloadAttachmentResponse>;

    async fn upload_attachment(
        &self,
        request: Request<Streaming<proto::UploadAttachmentRequest>>,
    ) -> Result<Response<proto::UploadAttachmentResponse>, Status> {
        self.0.carry_out_receiving::<UploadAttachment>(request).await
    }

    async fn get_upload(
        &self,
        request: Request<proto::GetUploadRequest>,
    ) -> Result<Response<proto::GetUploadResponse>, Status> {
        self.0.look_up::<GetUpload>(request).await
    }

    async fn download_attachment(
        &self,
        request: Request<proto::DownloadAttachmentRequest>,
    ) -> Result<Response<Self::DownloadAttachmentStream>, Status> {
        self.0.carry_out_sending::<DownloadAttachment>(request).await
    }
}

struct UploadAttachment;

/// An upload as its first message says.
struct Upload {
    sha256: [u8; 32],
    size: u64,
    media_type: MediaType,
    name: String,
    offset: u64,
    data: Vec<u8>,
    /// The messages after the first; taken when they are received.
    rest: Option<Incoming<proto::UploadAttachmentRequest>>,
    found: Option<AttachmentRecord>,
}

impl Operation for UploadAttachment {
    const METHOD: Method = Method::UploadAttachment;
    type Request = proto::UploadAttachmentRequest;
    type Response = proto::UploadAttachmentResponse;
    type Task = Upload;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<Upload> {
        let violations = &mut reading.violations;
        reading.facts.of_context(call_context(violations, request.context.as_ref()));
        let sha256 = digest(violations, "sha256", &request.sha256);
        let size = u64::try_from(request.size_bytes).ok().filter(|size| *size > 0);
        if size.is_none() {
            violations.add("size_bytes", "POSITIVE", "must be greater than zero", "须大于零");
        }
        let media_type = text(violations, "media_type", &request.media_type, 3, 127);
        let known = media_type.and_then(MediaType::from_name);
        if media_type.is_some() && known.is_none() {
            violations.add(
                "media_type",
                "MEDIA_TYPE_IS_TAKEN",
                "attachments of this media type are not taken",
                "不接收该媒体类型的附件",
            );
        }
        let name = text(violations, "name", &request.name, 1, 255).map(str::to_owned);
        let offset = u64::try_from(request.offset).ok();
        if offset.is_none() {
            violations.add("offset", "NOT_NEGATIVE", "must not be negative", "不得为负数");
        }
        Some(Upload {
            sha256: sha256?,
            size: size?,
            media_type: known?,
            name: name?,
            offset: offset?,
            data: request.data,
            rest: None,
            found: None,
        })
    }
}

impl Receiving for UploadAttachment {
    fn attach(task: &mut Upload, rest: Incoming<proto::UploadAttachmentRequest>) {
        task.rest = Some(rest);
    }
}

impl Effectful for UploadAttachment {
    async fn prepare(intake: &Intake, call: &Call, task: &mut Upload, _: &mut Facts) -> Result<(), Refusal> {
        let mut violations = Violations::new();
        let most = intake.attachments.most_bytes;
        if task.size > most {
            violations.add(
                "size_bytes",
                "ATTACHMENT_SIZE",
                format!("at most {most} bytes are taken"),
                format!("附件不得超过{most}字节"),
            );
        }
        let found = intake.store.own_attachment(&call.caller(), &keyed(intake, &task.sha256)).await;
        task.found = found.map_err(|error| store_refusal(&error))?;
        match &task.found {
            Some(found) if found.completed.is_some() || task.offset > 0 => {
                disagreements(&mut violations, found, task.size, task.media_type.as_str());
                if found.completed.is_none() && task.offset != found.received {
                    wrong_offset(&mut violations);
                }
            }
            None if task.offset > 0 => wrong_offset(&mut violations),
            Some(_) => {}
            None => {
                let room = intake.attachments.room;
                let has_room = intake.store.has_room(&call.caller(), task.size, room).await;
                if violations.is_empty() && !has_room.map_err(|error| store_refusal(&error))? {
                    return Err(Refusal::TooManyAttachments);
                }
            }
        }
        if violations.is_empty() { Ok(()) } else { Err(Refusal::Invalid(violations.into_vec())) }
    }

    async fn act(intake: &Intake, call: &Call, task: &mut Upload) -> Result<Done<Self::Response>, Refusal> {
        let now = intake.clock.now();
        if let Some(found) = &task.found
            && let Some(completed) = found.completed
        {
            let response = complete(found.size, completed);
            return Ok(Done {
                response,
                effects: Vec::new(),
                reason: Some("STORED_ALREADY"),
                exchange: None,
            });
        }
        // Gone meanwhile where this is a second attempt: what was received is received once.
        let rest = task.rest.take().ok_or(Refusal::Conflict)?;
        let going_on = task.found.as_ref().filter(|_| task.offset > 0);
        let attachment_id = going_on.map_or_else(|| entropy::uuid_v7(now), |found| found.attachment_id);
        if going_on.is_none() {
            let new = NewAttachment {
                attachment_id,
                owner: call.caller(),
                digest: keyed(intake, &task.sha256),
                size: task.size,
                media_type: task.media_type,
                name: task.name.clone(),
                at: now,
            };
            let (store, room) = (intake.store.clone(), intake.attachments.room);
            // In a task of its own: a deadline does not cut a transaction in two.
            let begun = tokio::spawn(async move { store.begin_upload(&new, room).await }).await;
            match begun.map_err(|_| Refusal::Internal)?.map_err(|error| store_refusal(&error))? {
                Begun::Yes => {}
                Begun::WholeAlready => return Err(Refusal::Conflict),
                Begun::NoRoom => return Err(Refusal::TooManyAttachments),
            }
        }
        let mut reception =
            Reception::begin(intake, attachment_id, task.size, task.media_type, task.offset).await?;
        reception.receive(std::mem::take(&mut task.data), rest, &task.sha256).await?;
        let at = intake.clock.now();
        let effects = vec![Effect::CompleteAttachment { attachment_id, at }];
        Ok(Done { response: complete(task.size, at), effects, reason: None, exchange: None })
    }
}

fn complete(size: u64, at: jiff::Timestamp) -> proto::UploadAttachmentResponse {
    let size_bytes = i64::try_from(size).unwrap_or(i64::MAX);
    proto::UploadAttachmentResponse { size_bytes, complete_time: Some(timestamp(at)), audit: None }
}

fn wrong_offset(violations: &mut Violations) {
    violations.add(
        "offset",
        "GOES_ON_WHERE_IT_ENDED",
        "must be 0, or what GetUpload says is durable",
        "须为零或已持久保存的字节数",
    );
}

struct GetUpload;

impl Operation for GetUpload {
    const METHOD: Method = Method::GetUpload;
    type Request = proto::GetUploadRequest;
    type Response = proto::GetUploadResponse;
    type Task = [u8; 32];

    fn read(request: Self::Request, reading: &mut Reading) -> Option<[u8; 32]> {
        reading.facts.of_context(call_context(&mut reading.violations, request.context.as_ref()));
        digest(&mut reading.violations, "sha256", &request.sha256)
    }
}

impl Lookup for GetUpload {
    async fn look_up(
        intake: &Intake,
        call: &Call,
        sha256: [u8; 32],
        _: &mut Facts,
    ) -> Result<Self::Response, Refusal> {
        let found = intake.store.own_attachment(&call.caller(), &keyed(intake, &sha256)).await;
        let found = found.map_err(|error| store_refusal(&error))?;
        let durable = found.as_ref().map_or(0, |found| found.received);
        Ok(proto::GetUploadResponse {
            durable_bytes: i64::try_from(durable).unwrap_or(i64::MAX),
            complete: found.is_some_and(|found| found.completed.is_some()),
            audit: None,
        })
    }
}

/// What stands in the database for a digest: unkeyed, it would confirm a guess at the paper.
fn keyed(intake: &Intake, sha256: &[u8]) -> [u8; 32] {
    intake.pseudonyms.tag("attachment", sha256)
}

/// A message may name papers that travel otherwise. Of those that its sender has uploaded, it says the same as the upload.
pub(super) async fn check_named(
    intake: &Intake,
    call: &Call,
    envelope: &proto::Envelope,
) -> Result<(), Refusal> {
    let mut violations = Violations::new();
    for (place, named) in envelope.attachments.iter().enumerate() {
        let own = intake.store.own_attachment(&call.caller(), &keyed(intake, &named.sha256)).await;
        let Some(own) = own.map_err(|error| store_refusal(&error))? else { continue };
        let size = u64::try_from(named.size_bytes).unwrap_or(0);
        violations.within(&format!("envelope.attachments[{place}]"), |violations| {
            disagreements(violations, &own, size, &named.media_type);
        });
    }
    if violations.is_empty() { Ok(()) } else { Err(Refusal::Invalid(violations.into_vec())) }
}

fn disagreements(violations: &mut Violations, upload: &AttachmentRecord, size: u64, media_type: &str) {
    for (field, agrees) in
        [("size_bytes", upload.size == size), ("media_type", upload.media_type.as_str() == media_type)]
    {
        if !agrees {
            violations.add(
                field,
                "AGREES_WITH_UPLOAD",
                "must agree with the upload of the same digest",
                "须与同一摘要的已上传附件一致",
            );
        }
    }
}

/// What makes a message's attachments readable to the other party.
pub(super) fn named_digests(
    intake: &Intake,
    exchange_id: ExchangeId,
    call: &Call,
    envelope: &proto::Envelope,
) -> Option<Effect> {
    let digests: Vec<_> = envelope.attachments.iter().map(|named| keyed(intake, &named.sha256)).collect();
    let named_by = call.caller();
    (!digests.is_empty()).then_some(Effect::NameAttachments { exchange_id, named_by, digests })
}

/// How the requests of these methods are read.
#[cfg(any(test, fuzzing))]
pub(super) const READERS: &[super::fuzzing::Reader] = &[
    super::fuzzing::reader::<UploadAttachment>(),
    super::fuzzing::reader::<GetUpload>(),
    super::fuzzing::reader::<DownloadAttachment>(),
];
