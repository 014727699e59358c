//! What others wrote is read without a panic, and proves nothing that was not signed: arbitrary bytes, and sound texts
//! with pieces changed, taken out, doubled and exchanged.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use legal_aid_gateway::access::Directory;
use legal_aid_gateway::audit::bundle::{Wanted, container, verify};
use legal_aid_gateway::audit::checkpoint::Checkpoint;
use legal_aid_gateway::audit::cosignature::{CosignerKey, CosigningKey};
use legal_aid_gateway::audit::entry::{Entry, Phase};
use legal_aid_gateway::audit::findings::FindingId;
use legal_aid_gateway::audit::fork;
use legal_aid_gateway::audit::merkle::{Hash, leaf_hash};
use legal_aid_gateway::audit::note::{SigningKey, VerifyingKey};
use legal_aid_gateway::audit::proof::{old_root_of, verify_consistency, verify_inclusion};
use legal_aid_gateway::audit::published::{Resource, decode_bundle, decode_tile, encode_bundle, encode_tile};
use legal_aid_gateway::audit::receipt::{Receipt, TlogProof};
use legal_aid_gateway::audit::removal::IndexRanges;
use legal_aid_gateway::audit::search::Bits;
use legal_aid_gateway::audit::tile::{TileSet, TileWriter};
use legal_aid_gateway::audit::verifier::verify_published;
use legal_aid_gateway::audit::witness::{AddCheckpoint, Judgement, judge};
use legal_aid_gateway::config::Config;
use legal_aid_gateway::domain::calendar::Calendar;
use legal_aid_gateway::domain::clocks::Clocks;
use legal_aid_gateway::domain::eligibility::RuleSets;
use legal_aid_gateway::identity::certificate::{AGENCY_URI_PREFIX, PeerCertificate};
use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, SanType};
use uuid::Uuid;

/// Entries of the log.
const SIZE: u64 = 300;

fn key() -> SigningKey {
    SigningKey::from_seed("log.example/audit", &[3; 32]).unwrap()
}

fn cosigner() -> CosigningKey {
    CosigningKey::from_seed("witness.example", &[4; 32]).unwrap()
}

fn entry(index: u64) -> Vec<u8> {
    format!("{{\"n\":\"{index}\"}}").into_bytes()
}

/// A log with its tiles, and its cosigned checkpoint.
fn log(size: u64) -> (TileSet, Vec<(Resource, Vec<u8>)>, String) {
    let (mut writer, mut tiles, mut files) = (TileWriter::new(), TileSet::new(), Vec::new());
    let entries: Vec<Vec<u8>> = (0..size).map(entry).collect();
    entries.iter().for_each(|entry| writer.append(leaf_hash(entry)));
    for (index, bundle) in (0..).zip(entries.chunks(256)) {
        let bytes = encode_bundle(bundle.iter().map(Vec::as_slice)).unwrap();
        files.push((Resource::Entries { index, width: bundle.len() }, bytes));
    }
    let root = writer.root();
    for (tile, hashes) in writer.take_dirty() {
        files.push((Resource::Tile { tile, width: hashes.len() }, encode_tile(&hashes)));
        tiles.insert(tile, hashes);
    }
    let origin = key().name().to_owned();
    let note = Checkpoint { origin, size, root, extensions: Vec::new() }.sign(&key()).unwrap();
    let line = cosigner().cosign(&note, jiff::Timestamp::UNIX_EPOCH).unwrap();
    (tiles, files, note + &line)
}

/// What is done to a sound text.
#[derive(Clone, Debug)]
enum Change {
    Put(usize, Vec<u8>),
    Take(usize, usize),
    Flip(usize, u8),
    Double(usize, usize),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..12),
        Just(b"\n".to_vec()),
        Just(b"\n\n".to_vec()),
        Just("\u{2014} ".as_bytes().to_vec()),
        Just(b"18446744073709551615".to_vec()),
        Just(b"-1".to_vec()),
    ];
    let change = prop_oneof![
        (any::<usize>(), piece).prop_map(|(at, piece)| Change::Put(at, piece)),
        (any::<usize>(), 1usize..80).prop_map(|(at, length)| Change::Take(at, length)),
        (any::<usize>(), 1u8..).prop_map(|(at, bits)| Change::Flip(at, bits)),
        (any::<usize>(), 1usize..80).prop_map(|(at, length)| Change::Double(at, length)),
    ];
    prop::collection::vec(change, 1..4)
}

fn changed(sound: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = sound.to_vec();
    for change in changes {
        let place = |at: usize, length: usize| {
            let first = at % (bytes.len() + 1);
            first..bytes.len().min(first + length)
        };
        match change {
            Change::Put(at, piece) => {
                let at = place(*at, 0);
                bytes.splice(at, piece.iter().copied());
            }
            Change::Take(at, length) => drop(bytes.drain(place(*at, *length))),
            Change::Flip(at, bits) => {
                let at = place(*at, 1);
                bytes[at].iter_mut().for_each(|byte| *byte ^= bits);
            }
            Change::Double(at, length) => {
                let range = place(*at, *length);
                let again = bytes[range.clone()].to_vec();
                bytes.splice(range.start..range.start, again);
            }
        }
    }
    bytes
}

/// Reads bytes as everything that comes from outside.
fn read_as_everything(bytes: &[u8]) {
    let _ = (decode_bundle(bytes), decode_tile(bytes), Bits::decode(bytes), Entry::from_json(bytes));
    let text = String::from_utf8_lossy(bytes);
    let verifying = key().verifying_key().clone();
    let _ = text.parse::<VerifyingKey>();
    let _ = text.parse::<CosignerKey>();
    let _ = (SigningKey::parse(&text).is_ok(), CosigningKey::parse(&text).is_ok());
    let _ = (Checkpoint::origin_of(&text), Checkpoint::read_unverified(&text), FindingId::parse(&text));
    if let Ok(ranges) = text.parse::<IndexRanges>() {
        let _ = (ranges.count(), ranges.contains(5), ranges.without(&ranges));
    }
    if let Ok(resource) = Resource::parse(&text) {
        assert_eq!(resource.path(), text);
        let _ = (resource.is_within(u64::MAX), resource.is_within(SIZE));
    }
    let _ = (
        PeerCertificate::parse(bytes).is_ok(),
        Directory::parse(&text).is_ok(),
        Calendar::parse(&text).is_ok(),
    );
    if let Ok(files) = container::read(bytes) {
        assert_eq!(container::write(&files).unwrap(), bytes);
    }
    assert!(!verify(bytes, &verifying, &Wanted::default()).is_sound());
    let origin = Checkpoint::open(&text, &verifying);
    assert!(origin.is_err() || text.contains(key().name()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read_as_everything(&bytes);
    }

    #[test]
    fn paths_of_any_level_and_index_are_read_without_a_panic(path in "tile/(entries|[0-9]{1,3})(/x?[0-9]{3}){1,8}(\\.p/[0-9]{1,3})?") {
        read_as_everything(path.as_bytes());
    }

    #[test]
    fn a_changed_receipt_proves_its_entry_or_nothing(changes in changes(), index in 0..SIZE) {
        let (tiles, _, note) = log(SIZE);
        let hashes = tiles.inclusion_proof(index, SIZE).unwrap();
        let proof = TlogProof { index, hashes, checkpoint: note };
        let sound = Receipt::new(entry(index), proof).unwrap();
        let bytes = changed(sound.to_text().as_bytes(), &changes);
        read_as_everything(&bytes);
        if let Ok(receipt) = Receipt::parse(&String::from_utf8_lossy(&bytes))
            && receipt.verify(key().verifying_key()).is_ok()
        {
            prop_assert_eq!((receipt.entry, receipt.proof.index), (sound.entry, index));
        }
    }

    #[test]
    fn a_changed_request_to_a_witness_gets_no_signature_over_what_the_log_did_not_sign(
        changes in changes(), old in 0..SIZE,
    ) {
        let (tiles, _, note) = log(SIZE);
        let (_, _, newest) = log(old);
        let newest = Checkpoint::open(&newest, key().verifying_key()).unwrap();
        let signed = Checkpoint::open(&note, key().verifying_key()).unwrap();
        let proof = tiles.consistency_proof(old, SIZE).unwrap();
        let request = AddCheckpoint { old_size: old, proof, checkpoint: note };
        let bytes = changed(request.to_text().as_bytes(), &changes);
        read_as_everything(&bytes);
        if let Ok(request) = AddCheckpoint::parse(&String::from_utf8_lossy(&bytes)) {
            match judge(&request, &[key().verifying_key().clone()], Some(&newest)) {
                Judgement::Cosign(checkpoint) => prop_assert_eq!(checkpoint, signed),
                // There is one history only: nothing may make it look like two.
                judgement => prop_assert!(!matches!(judgement, Judgement::Forked { .. }), "{:?}", judgement),
            }
        }
    }

    #[test]
    fn a_changed_cosigned_checkpoint_is_the_signed_one_or_none(changes in changes()) {
        let (_, _, note) = log(SIZE);
        let signed = Checkpoint::open(&note, key().verifying_key()).unwrap();
        let bytes = changed(note.as_bytes(), &changes);
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(checkpoint) = Checkpoint::open(&text, key().verifying_key()) {
            prop_assert_eq!(checkpoint, signed.clone());
        }
        if cosigner().cosigner_key().find(&text).is_ok() {
            prop_assert_eq!(Checkpoint::read_unverified(&text).unwrap(), signed);
        }
    }

    #[test]
    fn proofs_of_any_sizes_are_checked_without_a_panic(
        (old, new) in (any::<u64>(), any::<u64>()), hashes in prop::collection::vec(any::<[u8; 32]>(), 0..70),
    ) {
        let root = leaf_hash(b"root");
        let hashes: Vec<Hash> = hashes.into_iter().map(Hash::from_bytes).collect();
        for (old, new) in [(old, new), (old, old), (old, u64::MAX), (old % 70, new % 70)] {
            prop_assert!(verify_inclusion(&leaf_hash(b"leaf"), old, new, &hashes, &root).is_err());
            let other = leaf_hash(b"other");
            prop_assert!(old == 0 || verify_consistency(old, &root, new, &other, &hashes).is_err());
            let _ = old_root_of(old, new, &root, &hashes);
            let checkpoint = |size| Checkpoint { origin: "a".into(), size, root, extensions: Vec::new() };
            let _ = fork::prove(&checkpoint(old), &checkpoint(new), &hashes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_configuration_is_printed_as_it_was_read_or_refused(changes in changes()) {
        let seeds = seeds("toml");
        let (_, sound) = std::str::from_utf8(&seeds["configuration"]).unwrap().split_once('\n').unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let load = |text: &[u8]| {
            std::fs::write(file.path(), text).unwrap();
            Config::load(file.path(), [])
        };
        prop_assert!(load(sound.as_bytes()).is_ok());
        if let Ok(config) = load(&changed(sound.as_bytes(), &changes)) {
            let again = load(config.to_toml().unwrap().as_bytes()).unwrap();
            prop_assert_eq!(format!("{:?}", again), format!("{:?}", config));
        }
    }

    #[test]
    fn a_changed_container_gives_files_that_pack_to_the_same_bytes_or_none(changes in changes()) {
        let named = [("README.txt", "read me"), ("entries/7.json", "{}"), ("proofs/7.tlog-proof", "")];
        let files = named.map(|(name, content)| (name.to_owned(), content.as_bytes().to_vec())).into();
        let sound = container::write(&files).unwrap();
        read_as_everything(&changed(&sound, &changes));
        prop_assert_eq!(container::read(&sound).unwrap(), files);
    }

    #[test]
    fn a_changed_entry_is_written_as_it_is_read_or_refused(changes in changes(), phase in 0..Phase::ALL.len()) {
        let service = "legalaid.exchange.v1.ExchangeService";
        let at = jiff::Timestamp::UNIX_EPOCH;
        let sound = Entry::new(Uuid::from_u128(1), Phase::ALL[phase], at, service, "SubmitExchange", "node-1");
        let sound = sound.to_canonical_json().unwrap();
        let bytes = changed(&sound, &changes);
        read_as_everything(&bytes);
        if let Ok(entry) = Entry::from_json(&bytes) && let Ok(written) = entry.to_canonical_json() {
            prop_assert_eq!(Entry::from_json(&written).unwrap(), entry);
        }
    }

    #[test]
    fn a_changed_certificate_names_an_agency_that_stands_in_it_or_none(changes in changes()) {
        let bytes = changed(certificate(), &changes);
        read_as_everything(&bytes);
        if let Ok(read) = PeerCertificate::parse(&bytes) {
            let name = format!("{AGENCY_URI_PREFIX}{}", read.agency);
            prop_assert!(bytes.windows(name.len()).any(|window| window == name.as_bytes()));
        }
    }

    #[test]
    fn changed_rules_clocks_and_holidays_are_read_or_refused(changes in changes(), which in 0..DATA.len()) {
        let text = changed(DATA[which].as_bytes(), &changes);
        let text = String::from_utf8_lossy(&text);
        let _ = RuleSets::load([("own.toml".to_owned(), text.clone().into_owned())]).is_ok();
        let _ = (Clocks::load(Some(&text), None).is_ok(), Clocks::load(None, Some(&text)).is_ok());
        let _ = (Calendar::parse(&text).is_ok(), Directory::parse(&text).is_ok());
    }

    #[test]
    fn a_folder_with_changed_files_is_never_found_sound(changes in changes(), which in any::<prop::sample::Index>()) {
        let (_, files, note) = log(SIZE);
        let (_, sound) = &files[which.index(files.len())];
        let spoilt = changed(sound, &changes);
        prop_assume!(spoilt != *sound);
        let mut folder: BTreeMap<String, Vec<u8>> =
            files.iter().map(|(resource, bytes)| (resource.path(), bytes.clone())).collect();
        folder.insert(files[which.index(files.len())].0.path(), spoilt);
        let read = |resource: Resource| Ok(folder.get(&resource.path()).cloned());
        let report = verify_published(&note, key().verifying_key(), &[], read).unwrap();
        prop_assert!(!report.is_sound());
    }
}

/// Dated data of which a copy can be given in a file.
const DATA: [&str; 4] = [
    include_str!("../data/clocks.toml"),
    include_str!("../data/holidays.toml"),
    include_str!("../data/eligibility/example-plus-200.toml"),
    include_str!("../data/eligibility/national.toml"),
];

fn certificate() -> &'static [u8] {
    static DER: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut params = CertificateParams::default();
        let name = format!("{AGENCY_URI_PREFIX}12331004MB0000002T");
        params.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    });
    &DER
}

/// The seeds under `fuzz/corpus` are valid examples; where a format has grown, `WRITE_SEEDS=1` makes them anew (CONTRIBUTING.md).
#[test]
fn the_seeds_of_the_fuzz_targets_are_still_what_their_targets_read() {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    for (_, seed) in seeds("entries") {
        assert_eq!(Entry::from_json(&seed).unwrap().to_canonical_json().unwrap(), seed);
    }
    let checkpoints = seeds("checkpoints");
    assert!(Checkpoint::open(&text(&checkpoints["note"]), key().verifying_key()).is_ok());
    assert!(Receipt::parse(&text(&checkpoints["receipt"])).unwrap().verify(key().verifying_key()).is_ok());
    assert!(AddCheckpoint::parse(&text(&checkpoints["add"])).is_ok());
    let report = verify(&seeds("evidence")["bundle"], key().verifying_key(), &Wanted::default());
    assert!(report.is_sound(), "{:?}", report.wrong);
    let tiles = seeds("tiles");
    assert!(decode_tile(&tiles["tile"]).is_ok() && decode_bundle(&tiles["bundle"]).is_ok());
    assert!(Resource::parse(&text(&tiles["path"])).is_ok());
    let directory = text(&seeds("toml")["directory"]);
    Directory::parse(directory.split_once('\n').unwrap().1).unwrap();
}

fn seeds(target: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let read = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let named = |path: std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    read.map(|path| (named(path.clone()), std::fs::read(path).unwrap())).collect()
}
