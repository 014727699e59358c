//! Papers up and down, a chunk at a time, going on where an earlier try ended. Digests are checked at this end too.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tonic::Status;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;

use super::AgencyClient;
use crate::grpc::proto;

/// Bytes of one message.
const PART: usize = 64 * 1024;

/// How long a question about an upload may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why a paper did not come over.
#[derive(Debug, Error)]
pub enum TransferError {
    /// The file here.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The gateway refused, or the way to it broke. The same again goes on where this try ended.
    #[error("{0}")]
    Refused(Box<Status>),
    /// What arrived is not what was asked for; the partial file was removed.
    #[error("what arrived does not have the digest that was asked for; the partial file was removed")]
    Digest,
}

impl From<Status> for TransferError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// A file that is to go up, with its digest.
#[derive(Clone, Debug)]
pub struct Paper {
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// Its size in bytes.
    pub size: u64,
}

impl Paper {
    /// Reads the file once for its digest.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn read(path: &Path) -> Result<Self, TransferError> {
        let path = path.to_owned();
        blocking(move || {
            let failed = |source| TransferError::File { path: path.clone(), source };
            let mut file = File::open(&path).map_err(failed)?;
            let (sha256, size) = digest_of(&mut file).map_err(failed)?;
            Ok(Self { path, sha256, size })
        })
        .await
    }
}

impl AgencyClient {
    /// Uploads a paper, behind what the gateway has of it. `progress` is told how many bytes were handed over in all.
    ///
    /// # Errors
    /// When the file cannot be read, the gateway refuses, or the way to it breaks.
    pub async fn upload(
        &self,
        paper: &Paper,
        media_type: &str,
        name: &str,
        purpose: &str,
        progress: impl Fn(u64) + Send + 'static,
    ) -> Result<proto::UploadAttachmentResponse, TransferError> {
        let asked =
            proto::GetUploadRequest { context: Some(self.context(purpose)), sha256: paper.sha256.to_vec() };
        let known = self.attachments().get_upload(self.request(asked, DEADLINE)).await?.into_inner();
        let durable = u64::try_from(known.durable_bytes).unwrap_or(0);
        let offset = if known.complete { 0 } else { durable };
        let first = proto::UploadAttachmentRequest {
            context: Some(self.context(purpose)),
            sha256: paper.sha256.to_vec(),
            size_bytes: i64::try_from(paper.size).unwrap_or(i64::MAX),
            media_type: media_type.to_owned(),
            name: name.to_owned(),
            offset: i64::try_from(offset).unwrap_or(i64::MAX),
            data: Vec::new(),
        };
        let (parts, taken) = mpsc::channel(2);
        let path = paper.path.clone();
        let reading = spawn_blocking(move || {
            // Who takes no more has answered already.
            let _ = parts.blocking_send(first);
            read_parts(&path, offset, &parts, &progress)
                .map_err(|source| TransferError::File { path: path.clone(), source })
        });
        let answer = self.attachments().upload_attachment(ReceiverStream::new(taken)).await;
        if let Ok(Err(error)) = reading.await {
            return Err(error);
        }
        Ok(answer?.into_inner())
    }

    /// Downloads a paper into a file, behind what an earlier try left in `FILE.part`. `progress` is told how many bytes
    /// there are of how many.
    ///
    /// # Errors
    /// When the gateway refuses, the way to it breaks, the file cannot be written, or the digest is wrong.
    pub async fn download(
        &self,
        sha256: &[u8; 32],
        to: &Path,
        purpose: &str,
        progress: impl Fn(u64, u64),
    ) -> Result<u64, TransferError> {
        let part = part_of(to);
        let failed = |source| TransferError::File { path: part.clone(), source };
        let at = part.clone();
        let (mut file, mut hash, offset) = blocking(move || {
            let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&at);
            let opened = file.as_mut().map_err(|error| io::Error::from(error.kind())).and_then(|file| {
                let mut hash = Sha256::new();
                let offset = hash_to_end(file, &mut hash)?;
                Ok((hash, offset))
            });
            let (hash, offset) = opened.map_err(|source| TransferError::File { path: at.clone(), source })?;
            let file = file.map_err(|source| TransferError::File { path: at, source })?;
            Ok((file, hash, offset))
        })
        .await?;
        let request = proto::DownloadAttachmentRequest {
            context: Some(self.context(purpose)),
            sha256: sha256.to_vec(),
            offset: i64::try_from(offset).unwrap_or(i64::MAX),
        };
        let mut items = self.attachments().download_attachment(request).await?.into_inner();
        let (mut size, mut here) = (0, offset);
        while let Some(item) = items.message().await? {
            if item.data.is_empty() {
                size = u64::try_from(item.size_bytes).unwrap_or(0);
            }
            // At most 64 KiB into the system's cache: not worth a task of its own.
            file.write_all(&item.data).map_err(failed)?;
            hash.update(&item.data);
            here += item.data.len() as u64;
            progress(here, size);
        }
        if <[u8; 32]>::from(hash.finalize()) != *sha256 {
            std::fs::remove_file(&part).map_err(failed)?;
            return Err(TransferError::Digest);
        }
        file.sync_all().map_err(failed)?;
        std::fs::rename(&part, to).map_err(failed)?;
        Ok(here)
    }
}

fn part_of(to: &Path) -> PathBuf {
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    part.into()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TransferError> + Send + 'static,
) -> Result<T, TransferError> {
    match spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(TransferError::File { path: PathBuf::new(), source: io::Error::other(error) }),
    }
}

fn digest_of(file: &mut File) -> io::Result<([u8; 32], u64)> {
    let mut hash = Sha256::new();
    let size = hash_to_end(file, &mut hash)?;
    Ok((hash.finalize().into(), size))
}

fn hash_to_end(file: &mut File, hash: &mut Sha256) -> io::Result<u64> {
    let mut buffer = vec![0; PART];
    let mut size = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(size);
        }
        hash.update(&buffer[..read]);
        size += read as u64;
    }
}

fn read_parts(
    path: &Path,
    mut offset: u64,
    parts: &mpsc::Sender<proto::UploadAttachmentRequest>,
    progress: &impl Fn(u64),
) -> io::Result<()> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    loop {
        let mut data = Vec::with_capacity(PART);
        let read = Read::by_ref(&mut file).take(PART as u64).read_to_end(&mut data)? as u64;
        let offset_on_wire = i64::try_from(offset).unwrap_or(i64::MAX);
        let part = proto::UploadAttachmentRequest { offset: offset_on_wire, data, ..Default::default() };
        if read == 0 || parts.blocking_send(part).is_err() {
            return Ok(());
        }
        offset += read;
        progress(offset);
    }
}
