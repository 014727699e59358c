//! Evidence bundles: there is one container for a set of files, and what verifies is an exchange of the log.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use legal_aid_gateway::audit::bundle::container::{Files, read, write};
use legal_aid_gateway::audit::bundle::{Evidence, ProvenEntry, Wanted, verify};
use legal_aid_gateway::audit::cosignature::CosignerKey;
use legal_aid_gateway::audit::note::VerifyingKey;
use legal_aid_gateway_fuzz::{entry, exchange, key, log, now, seeds, witness};
use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256};

static KEYS: LazyLock<(VerifyingKey, CosignerKey)> =
    LazyLock::new(|| (key().verifying_key().clone(), witness().cosigner_key().clone()));

// A bundle as it is; or behind a byte that is not a letter, a file of the sound bundle that is packed again with right digests and checksums.
fuzz_target!(init: seeds("evidence", examples), |bytes: &[u8]| {
    let Some(packed) = packed(bytes) else { return };
    if let Ok(files) = read(&packed) {
        assert_eq!(write(&files).as_deref(), Ok(packed.as_slice()), "two containers of the same files");
    }
    let wanted = Wanted { keys: vec![KEYS.1.clone()], quorum: 1 };
    let report = verify(&packed, &KEYS.0, &wanted);
    if report.is_sound() {
        assert_eq!(report.exchange, Some(exchange()), "an exchange is proven that is not in the log");
        assert!(report.checkpoint.is_some_and(|checkpoint| checkpoint.size == SIZE));
    }
});

const SIZE: u64 = 7;

static SOUND: LazyLock<Files> = LazyLock::new(|| read(&bundle()).unwrap());

/// The bytes themselves, or the sound bundle with the file that the second byte chooses replaced by the rest.
fn packed(bytes: &[u8]) -> Option<Vec<u8>> {
    let [first, which, content @ ..] = bytes else { return None };
    if first.is_ascii_alphabetic() {
        return Some(bytes.to_vec());
    }
    let mut files = SOUND.clone();
    let name = files.keys().nth(usize::from(*which) % files.len())?.clone();
    let digest =
        |content: &[u8]| Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let replaced = files.insert(name, content.to_vec())?;
    if let Some(manifest) = files.get_mut("manifest.json") {
        *manifest =
            String::from_utf8_lossy(manifest).replace(&digest(&replaced), &digest(content)).into_bytes();
    }
    write(&files).ok()
}

fn bundle() -> Vec<u8> {
    let (tiles, checkpoint) = log(SIZE);
    let proven = |index: u64| ProvenEntry {
        index,
        entry: String::from_utf8(entry(index).to_canonical_json().unwrap()).unwrap(),
        hashes: tiles.inclusion_proof(index, SIZE).unwrap(),
    };
    Evidence {
        exchange: exchange(),
        checkpoint,
        made_at: now(),
        asked_by: "11331000MB0000005D".to_owned(),
        withheld: 0,
        agencies: BTreeMap::from([("12331004MB0000002T".to_owned(), "模拟法律援助中心".to_owned())]),
        entries: [0, 1, 4].map(proven).into(),
        disclosures: Vec::new(),
    }
    .to_zip()
    .unwrap()
}

fn examples() -> Vec<(&'static str, Vec<u8>)> {
    let mut found = vec![("bundle", bundle())];
    for (place, name) in ["readme", "checkpoint", "entry-0", "entry-1", "entry-4", "manifest", "proof-0"]
        .into_iter()
        .enumerate()
    {
        let content = SOUND.values().nth(place).unwrap();
        found.push((name, [&[0, place as u8], content.as_slice()].concat()));
    }
    found
}
