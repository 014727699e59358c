//! What a witness is asked and what it answers (C2SP `tlog-witness`, `add-checkpoint`): the request's text, and the
//! judgement on it.

use super::checkpoint::Checkpoint;
use super::fork::{self, Fork};
use super::merkle::{Hash, empty_root};
use super::note::VerifyingKey;
use super::proof::verify_consistency;

/// Most hashes in a consistency proof.
const MAX_PROOF: usize = 63;

/// The body of `POST /add-checkpoint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size of the newest checkpoint that the witness is thought to have signed.
    pub old_size: u64,
    /// Consistency proof from that size (RFC 6962, section 2.1.2); empty from zero.
    pub proof: Vec<Hash>,
    /// The checkpoint as a signed note.
    pub checkpoint: String,
}

impl AddCheckpoint {
    /// Reads a request's body.
    ///
    /// # Errors
    /// What is wrong with it, for whoever sent it.
    pub fn parse(body: &str) -> Result<Self, &'static str> {
        let (head, checkpoint) =
            body.split_once("\n\n").ok_or("there is no empty line before the checkpoint")?;
        let mut lines = head.split('\n');
        let size = lines.next().and_then(|line| line.strip_prefix("old "));
        let size = size.ok_or("the first line is not \"old\", a space and a size")?;
        let old_size: u64 = size.parse().map_err(|_| "the old size is not a number")?;
        if old_size.to_string() != size {
            return Err("the old size has a sign or leading zeros");
        }
        let proof = lines.take(MAX_PROOF + 1).map(Hash::from_base64).collect::<Result<Vec<_>, _>>();
        let proof = proof.map_err(|_| "a line of the proof is not a hash in base64")?;
        if proof.len() > MAX_PROOF {
            return Err("the proof has more than 63 hashes");
        }
        Ok(Self { old_size, proof, checkpoint: checkpoint.to_owned() })
    }

    /// The body of a request.
    pub fn to_text(&self) -> String {
        let mut text = format!("old {}\n", self.old_size);
        for hash in &self.proof {
            text.push_str(&hash.to_base64());
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.checkpoint);
        text
    }
}

/// What is to become of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// To be kept as the newest, durably, and then cosigned: 200.
    Cosign(Checkpoint),
    /// Nothing can be made of it: 400, with what is wrong.
    Malformed(&'static str),
    /// None of the trusted keys signed it: 403.
    NotSigned,
    /// The old size is not that of the newest checkpoint: 409, with that size. A log that is asked for a proof from
    /// there goes on; one whose own log is shorter has lost entries.
    OtherSize(u64),
    /// The checkpoint and the newest one cannot both be of one log, which is proven: 409 at the same size, else 422.
    Forked {
        /// Size of the newest checkpoint.
        size: u64,
        /// What proves it.
        fork: Fork,
    },
    /// The proof does not lead from the newest checkpoint to this one: 422. A fault of whoever sent it, or a fork.
    NotConsistent,
}

/// Judges a request against the keys trusted for its origin and the newest checkpoint cosigned for it, if there is
/// one. The checks have the order of the specification, but for one: another root at the size of the newest
/// checkpoint is a fork whatever the old size says.
pub fn judge(request: &AddCheckpoint, keys: &[VerifyingKey], newest: Option<&Checkpoint>) -> Judgement {
    let Some(offered) = keys.iter().find_map(|key| Checkpoint::open(&request.checkpoint, key).ok()) else {
        return Judgement::NotSigned;
    };
    if request.old_size > offered.size {
        return Judgement::Malformed("the old size is greater than the checkpoint's");
    }
    let (size, root) = newest.map_or((0, empty_root()), |newest| (newest.size, newest.root));
    if offered.size == size && offered.root != root {
        return Judgement::Forked { size, fork: Fork::SameSize { size, roots: [root, offered.root] } };
    }
    if request.old_size != size {
        return Judgement::OtherSize(size);
    }
    if verify_consistency(size, &root, offered.size, &offered.root, &request.proof).is_ok() {
        return Judgement::Cosign(offered);
    }
    let fork = newest.and_then(|newest| fork::prove(newest, &offered, &request.proof));
    fork.map_or(Judgement::NotConsistent, |fork| Judgement::Forked { size, fork })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::merkle::tests::{distinct_leaves, root_by_definition};
    use crate::audit::note::SigningKey;
    use crate::audit::tile::tests::tiles_of;

    fn log() -> SigningKey {
        SigningKey::from_seed("log.example", &[3; 32]).unwrap()
    }

    fn at(size: u64) -> Checkpoint {
        let root = root_by_definition(&distinct_leaves(size));
        Checkpoint { origin: "log.example".to_owned(), size, root, extensions: Vec::new() }
    }

    fn request(old: u64, new: &Checkpoint) -> AddCheckpoint {
        let proof = tiles_of(&distinct_leaves(new.size)).consistency_proof(old, new.size).unwrap();
        AddCheckpoint { old_size: old, proof, checkpoint: new.sign(&log()).unwrap() }
    }

    fn keys() -> Vec<VerifyingKey> {
        vec![log().verifying_key().clone()]
    }

    #[test]
    fn a_request_comes_back_from_its_text_and_reads_as_the_specification_shows_it() {
        let request = request(3, &at(7));
        let text = request.to_text();
        assert_eq!(AddCheckpoint::parse(&text), Ok(request));
        assert!(text.starts_with("old 3\n") && text.contains("\n\nlog.example\n7\n"), "{text}");
    }

    #[test]
    fn what_is_no_request_is_refused_with_its_reason() {
        let note = at(7).sign(&log()).unwrap();
        for body in [
            String::new(),
            note.clone(),
            format!("old 3\n{note}"),
            format!("old 03\n\n{note}"),
            format!("old +3\n\n{note}"),
            format!("old -1\n\n{note}"),
            format!("old  3\n\n{note}"),
            format!("OLD 3\n\n{note}"),
            format!("old 3\r\n\n{note}"),
            format!("old 18446744073709551616\n\n{note}"),
            format!("old 3\nAAAA\n\n{note}"),
            format!("old 3\n{}\n{note}", format!("{}\n", empty_root().to_base64()).repeat(64)),
        ] {
            assert!(AddCheckpoint::parse(&body).is_err(), "{body:?}");
        }
        let most = format!("old 3\n{}\n{note}", format!("{}\n", empty_root().to_base64()).repeat(63));
        assert_eq!(AddCheckpoint::parse(&most).unwrap().proof.len(), 63);
    }

    #[test]
    fn every_honest_step_of_a_log_is_cosigned() {
        for (old, new) in [(0, 0), (0, 5), (5, 5), (5, 6), (4, 300), (256, 257), (1, 600)] {
            let newest = (old > 0).then(|| at(old));
            let judgement = judge(&request(old, &at(new)), &keys(), newest.as_ref());
            assert_eq!(judgement, Judgement::Cosign(at(new)), "{old} to {new}");
        }
    }

    #[test]
    fn an_old_size_that_is_not_the_newest_gets_the_newest_and_nothing_is_signed() {
        let newest = at(5);
        assert_eq!(judge(&request(0, &at(7)), &keys(), Some(&newest)), Judgement::OtherSize(5));
        assert_eq!(judge(&request(6, &at(7)), &keys(), Some(&newest)), Judgement::OtherSize(5));
        // A rollback: the log is shorter than what was signed.
        assert_eq!(judge(&request(0, &at(3)), &keys(), Some(&newest)), Judgement::OtherSize(5));
        assert_eq!(judge(&request(3, &at(7)), &keys(), None), Judgement::OtherSize(0));
        let greater = AddCheckpoint { old_size: 8, ..request(5, &at(7)) };
        assert!(matches!(judge(&greater, &keys(), Some(&newest)), Judgement::Malformed(_)));
    }

    #[test]
    fn who_is_not_trusted_is_refused_whatever_the_checkpoint_says() {
        let stranger = SigningKey::from_seed("log.example", &[4; 32]).unwrap();
        let forged = AddCheckpoint { checkpoint: at(7).sign(&stranger).unwrap(), ..request(0, &at(7)) };
        assert_eq!(judge(&forged, &keys(), None), Judgement::NotSigned);
        assert_eq!(judge(&request(0, &at(7)), &[], None), Judgement::NotSigned);
        let garbled = AddCheckpoint { checkpoint: "log.example\n7\n".to_owned(), ..request(0, &at(7)) };
        assert_eq!(judge(&garbled, &keys(), None), Judgement::NotSigned);
        // Beside a key that is trusted, others do not matter.
        let both = [vec![stranger.verifying_key().clone()], keys()].concat();
        assert!(matches!(judge(&request(0, &at(7)), &both, None), Judgement::Cosign(_)));
    }

    #[test]
    fn another_root_at_the_newest_size_is_a_fork_whatever_the_old_size_says() {
        let newest = Checkpoint { root: empty_root(), ..at(5) };
        for old in [0, 3, 5] {
            let judgement = judge(&request(old, &at(5)), &keys(), Some(&newest));
            assert!(matches!(judgement, Judgement::Forked { size: 5, .. }), "{judgement:?}");
        }
    }

    #[test]
    fn a_false_proof_is_not_signed_and_an_honest_one_of_another_history_is_a_proven_fork() {
        let newest = at(5);
        let short = AddCheckpoint { proof: Vec::new(), ..request(5, &at(7)) };
        assert_eq!(judge(&short, &keys(), Some(&newest)), Judgement::NotConsistent);
        let other = Checkpoint { root: empty_root(), ..at(5) };
        let judgement = judge(&request(5, &at(7)), &keys(), Some(&other));
        assert!(matches!(judgement, Judgement::Forked { fork: Fork::Prefix { .. }, .. }), "{judgement:?}");
    }
}
