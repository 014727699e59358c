//! One entry, the checkpoint, and proofs between the two.

use super::opening::with_removal;
use super::{context, entry_on_wire};
use crate::access::Method;
use crate::audit::log::Storage;
use crate::audit::merkle::Hash;
use crate::audit::tile::{
    TileError, TileId, TileSet, tiles_for_consistency, tiles_for_inclusion, tiles_for_root,
};
use crate::domain::violation::Violations;
use crate::grpc::call::Call;
use crate::grpc::intake::{Intake, store_refusal};
use crate::grpc::operation::{Facts, Lookup, Operation, Reading};
use crate::grpc::proto;
use crate::grpc::status::Refusal;

pub(super) struct GetEntry;

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
        let entry = with_removal(intake, entry_on_wire(found.ok_or(Refusal::NotFound)?)).await?;
        Ok(proto::GetEntryResponse { entry: Some(entry), audit: None })
    }
}

pub(super) struct GetCheckpoint;

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
        // First the cosigned one: the newest is then never older.
        let cosigned = intake.witnesses.borrow().cosigned.as_ref().map(|cosigned| cosigned.note.to_string());
        Ok(proto::GetCheckpointResponse {
            checkpoint: intake.log.head().checkpoint.to_string(),
            cosigned_checkpoint: cosigned.unwrap_or_default(),
            audit: None,
        })
    }
}

pub(super) struct GetInclusionProof;

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
            return Err(outside(if index >= size { "index" } else { "tree_size" }, head.size));
        }
        let tiles = read_tiles(intake, [tiles_for_inclusion(index, size), tiles_for_root(size)]).await?;
        let hashes = tiles.inclusion_proof(index, size).map_err(inconsistent)?;
        let root = tiles.root(size).map_err(inconsistent)?;
        let stored = intake.store.entry(index).await.map_err(|error| store_refusal(&error))?;
        let leaf = stored.and_then(|stored| stored.leaf_hash).ok_or(Refusal::Internal)?;
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

pub(super) struct GetConsistencyProof;

impl Operation for GetConsistencyProof {
    const METHOD: Method = Method::GetConsistencyProof;
    type Request = proto::GetConsistencyProofRequest;
    type Response = proto::GetConsistencyProofResponse;
    type Task = (u64, u64);

    fn read(request: Self::Request, reading: &mut Reading) -> Option<(u64, u64)> {
        context(reading, request.context.as_ref());
        Some((request.old_size, request.new_size))
    }
}

impl Lookup for GetConsistencyProof {
    async fn look_up(
        intake: &Intake,
        _: &Call,
        (old_size, asked_size): (u64, u64),
        _: &mut Facts,
    ) -> Result<Self::Response, Refusal> {
        let head = intake.log.head();
        let new_size = if asked_size == 0 { head.size } else { asked_size };
        if new_size > head.size || old_size > new_size {
            return Err(outside(
                if new_size > head.size { "new_size" } else { "old_size" },
                new_size.min(head.size),
            ));
        }
        let named = [tiles_for_consistency(old_size, new_size), tiles_for_root(new_size)];
        let tiles = read_tiles(intake, named).await?;
        let hashes = tiles.consistency_proof(old_size, new_size).map_err(inconsistent)?;
        let root = tiles.root(new_size).map_err(inconsistent)?;
        Ok(proto::GetConsistencyProofResponse {
            old_size,
            new_size,
            hashes: hashes.iter().map(bytes).collect(),
            root_hash: bytes(&root),
            checkpoint: head.checkpoint.to_string(),
            audit: None,
        })
    }
}

/// The proof of an entry in the tree of `size` leaves, which it must be in.
pub(super) async fn prove(intake: &Intake, index: u64, size: u64) -> Result<Vec<Hash>, Refusal> {
    let tiles = read_tiles(intake, [tiles_for_inclusion(index, size), Vec::new()]).await?;
    tiles.inclusion_proof(index, size).map_err(inconsistent)
}

/// A field names what is beyond the log, or beyond a part of it.
pub(super) fn outside(field: &str, size: u64) -> Refusal {
    let mut violations = Violations::new();
    violations.add(
        field,
        "WITHIN_THE_LOG",
        format!("must lie within the log of {size} entries"),
        format!("须在日志范围内（共{size}条）"),
    );
    Refusal::Invalid(violations.into_vec())
}

async fn read_tiles(intake: &Intake, named: [Vec<TileId>; 2]) -> Result<TileSet, Refusal> {
    let mut ids = named.concat();
    ids.sort_unstable();
    ids.dedup();
    intake.store.tiles(&ids).await.map_err(|error| store_refusal(&error))
}

#[allow(clippy::needless_pass_by_value, reason = "as map_err gives it")]
fn inconsistent(error: TileError) -> Refusal {
    tracing::error!(%error, "tiles do not give a proof");
    Refusal::Internal
}

fn bytes(hash: &Hash) -> Vec<u8> {
    hash.as_bytes().to_vec()
}
