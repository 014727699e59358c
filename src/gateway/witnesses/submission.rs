//! One checkpoint shown to one witness.

use thiserror::Error;

use super::Party;
use crate::audit::cosignature::Cosignature;
use crate::audit::log::{SignedHead, Storage as _};
use crate::audit::merkle::Hash;
use crate::audit::note::NoteError;
use crate::audit::tile::{TileError, tiles_for_consistency};
use crate::audit::witness::AddCheckpoint;
use crate::store::{Store, StoreError};
use crate::witness::client::{Answer, AskError};

/// How often a witness is asked with another old size.
const MOST_SIZES: u32 = 3;

/// What a witness says to a checkpoint.
pub(super) enum Outcome {
    /// It has signed.
    Cosigned(Cosignature),
    /// It has signed a longer log already, of so many entries.
    Behind(u64),
    /// It holds another history.
    Forked,
}

/// Why a checkpoint could not be shown, or the answer is of no use.
#[derive(Debug, Error)]
pub(super) enum SubmitError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("it refuses with {status}: {text}; does it follow this log, under its present key?")]
    Refused { status: http::StatusCode, text: String },
    #[error("its cosignature cannot be used: {0}; is the configured key the right one?")]
    Cosignature(#[from] NoteError),
    #[error("it names another size each time")]
    Restless,
    #[error("no proof for it can be made: {0}")]
    Store(#[from] StoreError),
    #[error("no proof for it can be made: {0}")]
    Tiles(#[from] TileError),
}

/// Submits a checkpoint to a witness that is thought to stand at `known` entries.
pub(super) async fn submit(
    party: &Party,
    store: &Store,
    known: u64,
    head: &SignedHead,
) -> Result<Outcome, SubmitError> {
    let mut old_size = known.min(head.size);
    for _ in 0..MOST_SIZES {
        let proof = consistency(store, old_size, head.size).await?;
        let request = AddCheckpoint { old_size, proof, checkpoint: head.checkpoint.to_string() };
        match party.client.add_checkpoint(&request).await? {
            Answer::Cosigned(lines) => {
                let found = party.key.find(&format!("{}{lines}", head.checkpoint))?;
                return Ok(Outcome::Cosigned(found));
            }
            Answer::Conflict(Some(size)) if size > head.size => return Ok(Outcome::Behind(size)),
            Answer::Conflict(Some(size)) if size != old_size => old_size = size,
            Answer::Conflict(_) | Answer::NotConsistent => return Ok(Outcome::Forked),
            Answer::Refused(status, text) => return Err(SubmitError::Refused { status, text }),
        }
    }
    Err(SubmitError::Restless)
}

async fn consistency(store: &Store, old: u64, new: u64) -> Result<Vec<Hash>, SubmitError> {
    let tiles = store.tiles(&tiles_for_consistency(old, new)).await?;
    Ok(tiles.consistency_proof(old, new)?)
}
