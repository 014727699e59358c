//! Receiving an upload: in order, checked as it comes, durable a run of chunks at a time.

use aws_lc_rs::digest::{Context, SHA256};
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::attachment::MediaType;
use crate::domain::violation::Violations;
use crate::grpc::intake::streams::Incoming;
use crate::grpc::intake::{Intake, store_refusal};
use crate::grpc::proto;
use crate::grpc::status::Refusal;
use crate::store::{CHUNK_BYTES, Store};

/// Chunks that become durable together: 256 KiB, so that little is in memory and the log's writer gets its turns.
const RUN: usize = 4;

/// An upload on its way.
pub(super) struct Reception {
    store: Store,
    clock: Clock,
    attachment_id: Uuid,
    size: u64,
    media_type: MediaType,
    hash: Context,
    /// Bytes received, durable or not.
    next: u64,
    /// Bytes that are durable; a multiple of a chunk, until the last.
    durable: u64,
    /// Full chunks that are not durable yet.
    run: Vec<Vec<u8>>,
    /// The chunk that is being filled.
    chunk: Vec<u8>,
}

impl Reception {
    /// Begins behind what is durable, which is read again for its part of the digest.
    pub(super) async fn begin(
        intake: &Intake,
        attachment_id: Uuid,
        size: u64,
        media_type: MediaType,
        durable: u64,
    ) -> Result<Self, Refusal> {
        let store = intake.store.clone();
        let mut hash = Context::new(&SHA256);
        for index in 0..durable.div_ceil(CHUNK_BYTES as u64) {
            let chunk = store.chunk(&attachment_id, index).await;
            hash.update(&chunk.map_err(|error| store_refusal(&error))?);
        }
        let clock = intake.clock.clone();
        let (run, chunk) = (Vec::with_capacity(RUN), Vec::with_capacity(CHUNK_BYTES));
        Ok(Self { store, clock, attachment_id, size, media_type, hash, next: durable, durable, run, chunk })
    }

    /// Takes the first message's data and the rest to the end. What came before a break stays, in whole chunks.
    pub(super) async fn receive(
        &mut self,
        first: Vec<u8>,
        mut rest: Incoming<proto::UploadAttachmentRequest>,
        sha256: &[u8; 32],
    ) -> Result<(), Refusal> {
        let outcome = async {
            self.take(&first).await?;
            while let Some(part) = rest.next().await? {
                self.check_place(&part)?;
                self.take(&part.data).await?;
            }
            if self.next < self.size {
                return Err(refusal(
                    "size_bytes",
                    "UPLOAD_IS_WHOLE",
                    "fewer bytes came than were announced",
                    "收到的字节数少于声明",
                ));
            }
            Ok(())
        }
        .await;
        if let Err(refusal) = outcome {
            self.store_run().await?;
            return Err(refusal);
        }
        // The last chunk has fewer bytes; nothing is stored behind it.
        if !self.chunk.is_empty() {
            self.close_chunk().await?;
        }
        let is_genuine = self.hash.clone().finish().as_ref() == sha256;
        if !is_genuine {
            self.abandon().await;
            return Err(refusal(
                "sha256",
                "DIGEST_OF_THE_CONTENT",
                "is not the digest of what was sent",
                "与所传内容的摘要不符",
            ));
        }
        self.store_run().await
    }

    /// Every part goes on where the one before ended.
    fn check_place(&self, part: &proto::UploadAttachmentRequest) -> Result<(), Refusal> {
        let mut violations = Violations::new();
        if u64::try_from(part.offset) != Ok(self.next) {
            violations.add(
                "offset",
                "GOES_ON_WHERE_IT_ENDED",
                "must be where the part before ended",
                "须与前一部分相接",
            );
        }
        if part.data.is_empty() {
            violations.require::<()>("data", None);
        }
        for (field, is_set) in [
            ("context", part.context.is_some()),
            ("sha256", !part.sha256.is_empty()),
            ("size_bytes", part.size_bytes != 0),
            ("media_type", !part.media_type.is_empty()),
            ("name", !part.name.is_empty()),
        ] {
            if is_set {
                violations.add(
                    field,
                    "ONLY_IN_THE_FIRST",
                    "only the first message says it",
                    "仅首条消息填写此项",
                );
            }
        }
        if violations.is_empty() { Ok(()) } else { Err(Refusal::Invalid(violations.into_vec())) }
    }

    async fn take(&mut self, data: &[u8]) -> Result<(), Refusal> {
        if data.len() > CHUNK_BYTES {
            return Err(refusal(
                "data",
                "AT_MOST_64_KIB",
                "at most 65536 bytes a message",
                "每条消息不得超过65536字节",
            ));
        }
        if self.next + data.len() as u64 > self.size {
            return Err(refusal(
                "data",
                "WITHIN_THE_SIZE",
                "more bytes came than were announced",
                "收到的字节数多于声明",
            ));
        }
        self.next += data.len() as u64;
        let (now, later) = data.split_at(data.len().min(CHUNK_BYTES - self.chunk.len()));
        self.chunk.extend_from_slice(now);
        if self.chunk.len() == CHUNK_BYTES {
            self.close_chunk().await?;
            self.chunk.extend_from_slice(later);
        }
        Ok(())
    }

    /// Checks a full chunk, or the last one.
    async fn close_chunk(&mut self) -> Result<(), Refusal> {
        let is_first = self.durable == 0 && self.run.is_empty();
        let fits =
            if is_first { self.media_type.begins(&self.chunk) } else { self.media_type.goes_on(&self.chunk) };
        if !fits {
            self.run.clear();
            self.abandon().await;
            return Err(refusal(
                "media_type",
                "MEDIA_TYPE_FITS_CONTENT",
                "the content is not of this media type",
                "内容与声明的媒体类型不符",
            ));
        }
        self.hash.update(&self.chunk);
        self.run.push(std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_BYTES)));
        if self.run.len() == RUN { self.store_run().await } else { Ok(()) }
    }

    /// Makes the full chunks durable, in a task of its own: a deadline does not cut a transaction in two.
    async fn store_run(&mut self) -> Result<(), Refusal> {
        let run = std::mem::take(&mut self.run);
        if run.is_empty() {
            return Ok(());
        }
        let bytes: usize = run.iter().map(Vec::len).sum();
        let (store, id, durable, now) =
            (self.store.clone(), self.attachment_id, self.durable, self.clock.now());
        let stored = tokio::spawn(async move { store.add_chunks(&id, durable, &run, now).await }).await;
        let stored = stored.map_err(|_| Refusal::Internal)?.map_err(|error| store_refusal(&error))?;
        self.durable += bytes as u64;
        if stored { Ok(()) } else { Err(Refusal::Conflict) }
    }

    /// Removes what cannot become right any more.
    async fn abandon(&mut self) {
        let (store, id) = (self.store.clone(), self.attachment_id);
        // What stays after an error is removed with the unfinished uploads.
        if let Ok(Err(error)) = tokio::spawn(async move { store.remove_upload(&id).await }).await {
            tracing::warn!(%error, "a refused upload cannot be removed yet");
        }
    }
}

fn refusal(field: &str, rule: &'static str, english: &str, chinese: &str) -> Refusal {
    let mut violations = Violations::new();
    violations.add(field, rule, english, chinese);
    Refusal::Invalid(violations.into_vec())
}
