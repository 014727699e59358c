//! The log as it is published: entries in a row, tiles, and any resource by its path.

use super::proofs::outside;
use super::{context, entry_on_wire};
use crate::access::Method;
use crate::audit::log::Storage;
use crate::audit::merkle::Hash;
use crate::audit::published::{PathError, Resource, encode_bundle, encode_tile};
use crate::audit::tile::{TILE_WIDTH, TileId};
use crate::audit::verifier::StoredEntry;
use crate::domain::agency::PurposeCode;
use crate::grpc::call::Call;
use crate::grpc::intake::{Intake, store_refusal};
use crate::grpc::operation::{Facts, Lookup, Operation, Reading, Witnessed};
use crate::grpc::proto;
use crate::grpc::status::Refusal;

/// Entries in one answer.
const MOST_ENTRIES: u32 = 1024;

/// Entries read from the database at once.
const CHUNK: u32 = 256;

/// Bytes of entries in one answer: most clients take 4 MiB.
const ENTRY_BYTES: usize = 3 * 1024 * 1024;

pub(super) struct GetEntries;

impl Operation for GetEntries {
    const METHOD: Method = Method::GetEntries;
    type Request = proto::GetEntriesRequest;
    type Response = proto::GetEntriesResponse;
    type Task = (u64, u32);

    fn read(request: Self::Request, reading: &mut Reading) -> Option<(u64, u32)> {
        context(reading, request.context.as_ref());
        let count = if request.count == 0 { 256 } else { request.count };
        if count > MOST_ENTRIES {
            reading.violations.add("count", "RANGE", "must be 0 to 1024", "须为0至1024");
        }
        Some((request.first, count))
    }
}

impl Lookup for GetEntries {
    async fn look_up(
        intake: &Intake,
        _: &Call,
        (first, count): (u64, u32),
        _: &mut Facts,
    ) -> Result<Self::Response, Refusal> {
        let size = intake.log.head().size;
        if first >= size {
            return Err(outside("first", size));
        }
        let stop = size.min(first.saturating_add(count.into()));
        let mut entries = Vec::new();
        let (mut next, mut bytes) = (first, 0);
        'chunks: while next < stop {
            let limit = u32::try_from(stop - next).unwrap_or(CHUNK).min(CHUNK);
            let chunk = intake.store.entries_with_hashes(next, limit).await;
            let chunk = chunk.map_err(|error| store_refusal(&error))?;
            if chunk.is_empty() {
                break;
            }
            for stored in chunk {
                bytes += stored.entry.len();
                let fits = bytes <= ENTRY_BYTES || entries.is_empty();
                if stored.index != next || !fits {
                    break 'chunks;
                }
                next += 1;
                entries.push(entry_on_wire(stored));
            }
        }
        if entries.is_empty() {
            return Err(Refusal::NotFound);
        }
        Ok(proto::GetEntriesResponse { entries, audit: None })
    }
}

pub(super) struct GetTile;

impl Operation for GetTile {
    const METHOD: Method = Method::GetTile;
    type Request = proto::GetTileRequest;
    type Response = proto::GetTileResponse;
    type Task = (TileId, Option<usize>);

    fn read(request: Self::Request, reading: &mut Reading) -> Option<Self::Task> {
        context(reading, request.context.as_ref());
        let level = u8::try_from(request.level).ok().filter(|level| *level < 64);
        if level.is_none() {
            reading.violations.add("level", "RANGE", "must be 0 to 63", "须为0至63");
        }
        let width = usize::try_from(request.width).ok().filter(|width| *width <= TILE_WIDTH);
        if width.is_none() {
            reading.violations.add("width", "RANGE", "must be 0 to 256", "须为0至256");
        }
        let tile = TileId { level: level?, index: request.index };
        Some((tile, width.filter(|width| *width > 0)))
    }
}

impl Lookup for GetTile {
    async fn look_up(
        intake: &Intake,
        _: &Call,
        (tile, asked): (TileId, Option<usize>),
        _: &mut Facts,
    ) -> Result<Self::Response, Refusal> {
        let size = intake.log.head().size;
        let there = tile.width_at(size);
        let width = asked.unwrap_or(there);
        if there == 0 || width > there {
            return Err(outside(if there == 0 { "index" } else { "width" }, size));
        }
        let hashes = read_tile(intake, tile, width).await?.ok_or(Refusal::Internal)?;
        Ok(proto::GetTileResponse { tile: encode_tile(&hashes), audit: None })
    }
}

/// Fetching a published resource by its path, as auditors' tools do over plain HTTPS. To agreements and to the log it is
/// [`Method::GetTile`].
pub(in crate::grpc) struct FetchResource;

/// What is fetched. The request brings no purpose of its own; the one it is made for is taken from the agreement.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::grpc) struct Fetch {
    /// The path, without a slash in front.
    #[prost(string, tag = "1")]
    pub(in crate::grpc) path: String,
    /// The purpose.
    #[prost(string, tag = "2")]
    pub(in crate::grpc) purpose: String,
}

/// The bytes as they are served; the index of their entry goes beside them, in a header.
impl Witnessed for Vec<u8> {
    fn witness(&mut self, _: proto::AuditReceipt) {}
}

impl Operation for FetchResource {
    const METHOD: Method = Method::GetTile;
    type Request = Fetch;
    type Response = Vec<u8>;
    /// `None` for a path where nothing is published.
    type Task = Option<Resource>;

    fn read(request: Fetch, reading: &mut Reading) -> Option<Self::Task> {
        reading.facts.purpose = PurposeCode::parse(&request.purpose).ok();
        match Resource::parse(&request.path) {
            Ok(resource) => Some(Some(resource)),
            Err(PathError::Unknown) => Some(None),
            Err(error @ PathError::Malformed) => {
                let chinese = "路径不是已公布的日志资源";
                reading.violations.add("path", "PUBLISHED_PATH", error.to_string(), chinese);
                None
            }
        }
    }
}

impl Lookup for FetchResource {
    async fn look_up(
        intake: &Intake,
        _: &Call,
        resource: Option<Resource>,
        _: &mut Facts,
    ) -> Result<Vec<u8>, Refusal> {
        let head = intake.log.head();
        // Only what is under a signed checkpoint is shown.
        let resource = resource.filter(|resource| resource.is_within(head.size)).ok_or(Refusal::NotFound)?;
        match resource {
            Resource::Checkpoint => Ok(head.checkpoint.as_bytes().to_vec()),
            Resource::Tile { tile, width } => {
                let hashes = read_tile(intake, tile, width).await?.ok_or(Refusal::NotFound)?;
                Ok(encode_tile(&hashes))
            }
            Resource::Entries { index, width } | Resource::Kept { index, width } => {
                let first = index * TILE_WIDTH as u64;
                let entries = intake.store.entries(first, u32::try_from(width).unwrap_or(u32::MAX)).await;
                let entries = entries.map_err(|error| store_refusal(&error))?;
                let in_order = (first..).zip(&entries).all(|(index, stored)| stored.index == index);
                if entries.len() != width || !in_order {
                    return Err(Refusal::NotFound);
                }
                let is_pruned = entries.iter().any(StoredEntry::is_pruned);
                match resource {
                    // Each entry of a bundle hashes to its leaf (C2SP); what was pruned cannot.
                    Resource::Entries { .. } if is_pruned => return Err(Refusal::Pruned),
                    Resource::Kept { .. } if !is_pruned => return Err(Refusal::NotFound),
                    _ => {}
                }
                encode_bundle(entries.iter().map(|stored| stored.entry.as_slice()))
                    .map_err(|_| Refusal::Internal)
            }
        }
    }
}

/// The first `width` hashes of a tile, if so many are stored.
async fn read_tile(intake: &Intake, tile: TileId, width: usize) -> Result<Option<Vec<Hash>>, Refusal> {
    let tiles = intake.store.tiles(&[tile]).await.map_err(|error| store_refusal(&error))?;
    Ok(tiles.get(tile).and_then(|hashes| hashes.get(..width)).map(<[Hash]>::to_vec))
}
