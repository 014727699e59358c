//! Notes, checkpoints, cosignatures, receipts and what a witness is asked: nothing is believed that the key did not sign.
#![no_main]

use std::sync::LazyLock;

use legal_aid_gateway::audit::checkpoint::Checkpoint;
use legal_aid_gateway::audit::cosignature::{CosignerKey, CosigningKey};
use legal_aid_gateway::audit::fork;
use legal_aid_gateway::audit::note::{SigningKey, VerifyingKey};
use legal_aid_gateway::audit::receipt::{Receipt, TlogProof};
use legal_aid_gateway::audit::witness::{AddCheckpoint, Judgement, judge};
use legal_aid_gateway_fuzz::{entry, key, log, seeds, witness};
use libfuzzer_sys::fuzz_target;

/// Sizes at which the log was signed.
const SIZES: [u64; 3] = [3, 7, 300];

/// What the log's key has signed; the fuzzer does not have that key.
static SIGNED: LazyLock<Vec<Checkpoint>> = LazyLock::new(|| {
    SIZES.map(|size| Checkpoint::open(&log(size).1, key().verifying_key()).unwrap()).to_vec()
});

static KEYS: LazyLock<(VerifyingKey, CosignerKey)> =
    LazyLock::new(|| (key().verifying_key().clone(), witness().cosigner_key().clone()));

fuzz_target!(init: seeds("checkpoints", examples), |text: &str| {
    let (log, witness) = &*KEYS;
    notes(text, log, witness);
    keys(text);
    if let Ok(receipt) = Receipt::parse(text) {
        // What a proof carries as extra data is left aside.
        let again = Receipt::parse(&receipt.to_text());
        assert!(again.is_ok_and(|again| again == receipt));
        if receipt.verify(log).is_ok() {
            let sound = entry(receipt.proof.index).to_canonical_json().unwrap();
            assert_eq!(receipt.entry.as_bytes(), sound, "an entry is proven that is not in the log");
        }
    }
    if let Ok(proof) = TlogProof::parse(text) {
        assert!(TlogProof::parse(&proof.to_text()).is_ok_and(|again| again == proof));
    }
    if let Ok(request) = AddCheckpoint::parse(text) {
        assert_eq!(request.to_text(), text);
        for newest in [None, SIGNED.first()] {
            match judge(&request, std::slice::from_ref(log), newest) {
                Judgement::Cosign(checkpoint) => assert!(SIGNED.contains(&checkpoint)),
                Judgement::Forked { .. } => panic!("there is one history only"),
                _ => {}
            }
        }
    }
});

fn notes(text: &str, log: &VerifyingKey, witness: &CosignerKey) {
    if let Ok(checkpoint) = Checkpoint::open(text, log) {
        assert!(SIGNED.contains(&checkpoint), "a checkpoint opens that was not signed");
        assert_eq!(Checkpoint::read_unverified(text).unwrap(), checkpoint);
    }
    if witness.find(text).is_ok() {
        assert!(SIGNED.contains(&Checkpoint::read_unverified(text).unwrap()), "cosigned, but not signed");
    }
    if let Ok(checkpoint) = Checkpoint::read_unverified(text) {
        assert_eq!(Checkpoint::origin_of(text), Some(checkpoint.origin.as_str()));
        for signed in SIGNED.iter() {
            assert!(fork::prove(&checkpoint, signed, &[]).is_none() || checkpoint.size == signed.size);
        }
    }
}

fn keys(text: &str) {
    if let Ok(key) = text.parse::<VerifyingKey>() {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(key) = text.parse::<CosignerKey>() {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(key) = SigningKey::parse(text) {
        assert_eq!(key.encode().as_str(), text);
    }
    if let Ok(key) = CosigningKey::parse(text) {
        assert_eq!(key.encode().as_str(), text);
    }
}

fn examples() -> Vec<(&'static str, Vec<u8>)> {
    let (tiles, note) = log(300);
    let receipt = |index| {
        let hashes = tiles.inclusion_proof(index, 300).unwrap();
        let proof = TlogProof { index, hashes, checkpoint: note.clone() };
        Receipt::new(entry(index).to_canonical_json().unwrap(), proof).unwrap().to_text()
    };
    let asked = |old_size, proof| AddCheckpoint { old_size, proof, checkpoint: note.clone() }.to_text();
    vec![
        ("note", log(7).1.into_bytes()),
        ("receipt", receipt(5).into_bytes()),
        ("proof", receipt(299).split_once("\n\n").unwrap().1.as_bytes().to_vec()),
        ("add", asked(3, tiles.consistency_proof(3, 300).unwrap()).into_bytes()),
        ("add-first", asked(0, Vec::new()).into_bytes()),
        ("log-key", key().verifying_key().to_string().into_bytes()),
        ("witness-key", witness().cosigner_key().to_string().into_bytes()),
    ]
}
