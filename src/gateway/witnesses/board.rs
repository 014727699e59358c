//! Who has signed what.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::audit::checkpoint::Checkpoint;
use crate::audit::cosignature::{Cosignature, CosignerKey};
use crate::audit::note::VerifyingKey;
use crate::audit::witnessed::{Cosigned, Standing, WitnessStanding};
use crate::store::CosignatureRecord;

/// Checkpoints without a quorum whose cosignatures are kept. With a witness down for months, those of the others would
/// pile up without end.
const MOST_WAITING: usize = 16;

/// Cosignatures on the newest checkpoint that has a quorum, and on the newest after it.
pub(super) struct Board {
    keys: Vec<CosignerKey>,
    quorum: usize,
    witnesses: Vec<WitnessStanding>,
    /// By size: the log's note, and the witnesses' lines by their places.
    signed: BTreeMap<u64, (Arc<str>, BTreeMap<usize, String>)>,
    cosigned: Option<Cosigned>,
}

impl Board {
    pub(super) fn new(keys: Vec<CosignerKey>, quorum: usize) -> Self {
        let nothing = |key: &CosignerKey| WitnessStanding {
            name: key.name().to_owned(),
            size: 0,
            time: None,
            disagrees: false,
        };
        let witnesses = keys.iter().map(nothing).collect();
        Self { keys, quorum, witnesses, signed: BTreeMap::new(), cosigned: None }
    }

    /// Takes up what the database kept, as far as it verifies and its witness is still one.
    pub(super) fn recall(&mut self, kept: &CosignatureRecord, log_key: &VerifyingKey) {
        let Some(place) = self.keys.iter().position(|key| key.to_string() == kept.witness) else { return };
        let is_of_the_log =
            Checkpoint::open(&kept.checkpoint, log_key).is_ok_and(|checkpoint| checkpoint.size == kept.size);
        let found = self.keys[place].find(&format!("{}{}", kept.checkpoint, kept.line));
        match found {
            Ok(cosignature) if is_of_the_log => {
                self.signed(place, kept.size, &kept.checkpoint.as_str().into(), &cosignature);
            }
            _ => {
                tracing::warn!(
                    size = kept.size,
                    witness = kept.witness,
                    "a kept cosignature does not verify"
                );
            }
        }
    }

    /// Takes down that a witness has signed.
    pub(super) fn signed(&mut self, place: usize, size: u64, note: &Arc<str>, cosignature: &Cosignature) {
        let witness = &mut self.witnesses[place];
        witness.disagrees = false;
        if size >= witness.size {
            (witness.size, witness.time) = (size, Some(cosignature.time));
        }
        let cosigned = self.cosigned_size();
        if size < cosigned {
            return;
        }
        let (note, lines) = self.signed.entry(size).or_insert_with(|| (Arc::clone(note), BTreeMap::new()));
        lines.insert(place, cosignature.line.clone());
        if lines.len() >= self.quorum {
            let whole: String = std::iter::once(&**note).chain(lines.values().map(String::as_str)).collect();
            self.cosigned = Some(Cosigned { size, note: whole.into() });
        }
        let (cosigned, oldest) = (self.cosigned_size(), self.oldest_waiting());
        self.signed.retain(|signed, _| *signed == cosigned || *signed >= oldest);
    }

    /// Takes down that a witness holds another log.
    pub(super) fn disagrees(&mut self, place: usize) {
        self.witnesses[place].disagrees = true;
    }

    /// Entries of the newest checkpoint that a witness has signed.
    pub(super) fn size_of(&self, place: usize) -> u64 {
        self.witnesses[place].size
    }

    /// Entries of the newest checkpoint that has a quorum.
    pub(super) fn cosigned_size(&self) -> u64 {
        self.cosigned.as_ref().map_or(0, |cosigned| cosigned.size)
    }

    /// Size of the oldest checkpoint behind the cosigned one whose cosignatures are kept.
    pub(super) fn oldest_waiting(&self) -> u64 {
        let first = self.cosigned_size() + 1;
        self.signed.range(first..).rev().take(MOST_WAITING).last().map_or(first, |(size, _)| *size)
    }

    pub(super) fn newest_cosigned(&self) -> Option<String> {
        self.cosigned.as_ref().map(|cosigned| cosigned.note.to_string())
    }

    /// The standing without the lag, which is a matter of time.
    pub(super) fn standing(&self) -> Standing {
        Standing { cosigned: self.cosigned.clone(), witnesses: self.witnesses.clone(), ..Standing::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::cosignature::CosigningKey;
    use crate::audit::merkle::empty_root;
    use crate::audit::note::SigningKey;

    fn log() -> SigningKey {
        SigningKey::from_seed("log.example", &[1; 32]).unwrap()
    }

    fn witness(place: usize) -> CosigningKey {
        CosigningKey::from_seed(&format!("w{place}.example"), &[10 + u8::try_from(place).unwrap(); 32])
            .unwrap()
    }

    fn board(quorum: usize) -> Board {
        Board::new((0..3).map(|place| witness(place).cosigner_key().clone()).collect(), quorum)
    }

    fn note(size: u64) -> Arc<str> {
        let (origin, root) = ("log.example".to_owned(), empty_root());
        Checkpoint { origin, size, root, extensions: Vec::new() }.sign(&log()).unwrap().into()
    }

    fn sign(board: &mut Board, place: usize, size: u64) {
        let key = witness(place);
        let line = key.cosign(&note(size), jiff::Timestamp::from_second(1_000).unwrap()).unwrap();
        let cosignature = key.cosigner_key().find(&format!("{}{line}", note(size))).unwrap();
        board.signed(place, size, &note(size), &cosignature);
    }

    #[test]
    fn a_quorum_is_of_one_checkpoint_and_later_signatures_join_it() {
        let mut board = board(2);
        sign(&mut board, 0, 5);
        sign(&mut board, 1, 6);
        assert_eq!(board.cosigned_size(), 0, "two checkpoints with one each have no quorum");
        sign(&mut board, 2, 6);
        assert_eq!(board.cosigned_size(), 6);
        sign(&mut board, 0, 6);
        let note = board.newest_cosigned().unwrap();
        for place in 0..3 {
            assert!(witness(place).cosigner_key().find(&note).is_ok(), "{place} in {note}");
        }
        assert!(Checkpoint::open(&note, log().verifying_key()).is_ok());
    }

    #[test]
    fn one_witness_twice_is_no_quorum_and_an_older_checkpoint_takes_nothing_back() {
        let mut board = board(2);
        sign(&mut board, 0, 5);
        sign(&mut board, 0, 5);
        assert_eq!(board.cosigned_size(), 0);
        sign(&mut board, 1, 7);
        sign(&mut board, 2, 7);
        sign(&mut board, 1, 5);
        assert_eq!((board.cosigned_size(), board.size_of(1)), (7, 7));
    }

    #[test]
    fn without_a_quorum_the_oldest_cosignatures_give_way_and_the_newest_may_still_have_it() {
        let mut board = board(2);
        sign(&mut board, 0, 1);
        sign(&mut board, 1, 1);
        for size in 2..100 {
            sign(&mut board, 0, size);
        }
        assert_eq!((board.signed.len(), board.oldest_waiting()), (1 + MOST_WAITING, 84));
        sign(&mut board, 2, 1);
        assert!(witness(2).cosigner_key().find(&board.newest_cosigned().unwrap()).is_ok());
        sign(&mut board, 1, 84);
        assert_eq!(board.cosigned_size(), 84);
    }

    #[test]
    fn what_the_database_kept_counts_only_if_it_verifies() {
        let kept = |place: usize| CosignatureRecord {
            size: 5,
            witness: witness(place).cosigner_key().to_string(),
            checkpoint: note(5).to_string(),
            line: witness(place).cosign(&note(5), jiff::Timestamp::from_second(1_000).unwrap()).unwrap(),
        };
        let log_key = log().verifying_key().clone();
        let mut sound = board(1);
        sound.recall(&kept(1), &log_key);
        assert_eq!((sound.cosigned_size(), sound.size_of(1)), (5, 5));
        for spoilt in [
            CosignatureRecord { line: kept(0).line, ..kept(1) },
            CosignatureRecord { size: 6, ..kept(1) },
            CosignatureRecord { checkpoint: note(6).to_string(), ..kept(1) },
            CosignatureRecord { witness: "w9.example+00000000+AAAA".to_owned(), ..kept(1) },
        ] {
            let mut board = board(1);
            board.recall(&spoilt, &log_key);
            assert_eq!((board.cosigned_size(), board.size_of(1)), (0, 0), "{spoilt:?}");
        }
    }
}
