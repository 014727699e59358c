//! Each kind of damage is done to a sound bundle and packed again with right digests and checksums, as somebody would
//! who wants it to pass.

use std::borrow::Cow;

use data_encoding::BASE64;

use super::*;
use crate::audit::checkpoint::Checkpoint;
use crate::audit::cosignature::CosigningKey;
use crate::audit::entry::{AgreementReference, Decision, Phase, keyed_digest};
use crate::audit::merkle::leaf_hash;
use crate::audit::note::SigningKey;
use crate::audit::tile::{TileSet, TileWriter};

const ORIGIN: &str = "legal-aid.example/audit";
const SALT: [u8; 16] = [5; 16];
const VALUE: &[u8] = b"what was asked";

fn exchange() -> Uuid {
    Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0001)
}

fn key() -> SigningKey {
    SigningKey::from_seed(ORIGIN, &[3; 32]).unwrap()
}

fn witness() -> CosigningKey {
    CosigningKey::from_seed("witness.example/1", &[4; 32]).unwrap()
}

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

fn entry(n: u64, phase: Phase, of: Option<Uuid>) -> Entry {
    let service = "legalaid.exchange.v1.ExchangeService";
    let id = Uuid::from_u128(n.into());
    let mut entry = Entry::new(id, phase, time(n as i64), service, "SubmitExchange", "node-1");
    entry.caller = Some("12331004MB0000002T".to_owned());
    entry.exchange = of;
    entry
}

/// Seven entries of a log: 2 and 4 open the exchange, 5 is refused in it; the others are of other matters.
fn log() -> Vec<Entry> {
    let other = Some(Uuid::from_u128(9));
    let mut log: Vec<Entry> = (0..7).map(|n| entry(n, Phase::Read, other)).collect();
    log[2] = Entry {
        counterpart: Some("11331004MB00000031".to_owned()),
        unit: Some("main".to_owned()),
        operator: Some("centre-01".to_owned()),
        purpose: Some("FEE_WAIVER".to_owned()),
        legal_basis: vec!["诉讼费用交纳办法 47".to_owned()],
        agreement: Some(AgreementReference { id: "A-1".to_owned(), version: "1".to_owned() }),
        decision: Some(Decision::Allow),
        request_commitment: Some(Commitment(HEXLOWER.encode(&keyed_digest(&SALT, VALUE)))),
        ..entry(2, Phase::Request, None)
    };
    log[4] = Entry {
        request_index: Some(2),
        code: Some(Cow::Borrowed("OK")),
        ..entry(4, Phase::Response, Some(exchange()))
    };
    log[5] =
        Entry { code: Some(Cow::Borrowed("INVALID_ARGUMENT")), ..entry(5, Phase::Refused, Some(exchange())) };
    log
}

/// The evidence of some entries of a log that `key` signed.
fn evidence_by(key: &SigningKey, indexes: &[u64]) -> Evidence {
    let log: Vec<Vec<u8>> = log().iter().map(|entry| entry.to_canonical_json().unwrap()).collect();
    let mut writer = TileWriter::new();
    log.iter().for_each(|entry| writer.append(leaf_hash(entry)));
    let mut tiles = TileSet::new();
    writer.take_dirty().into_iter().for_each(|(tile, hashes)| tiles.insert(tile, hashes));
    let size = log.len() as u64;
    let checkpoint =
        Checkpoint { origin: key.name().to_owned(), size, root: writer.root(), extensions: Vec::new() };
    let note = checkpoint.sign(key).unwrap();
    let line = witness().cosign(&note, time(100)).unwrap();
    let proven = |index: &u64| ProvenEntry {
        index: *index,
        entry: String::from_utf8(log[*index as usize].clone()).unwrap(),
        hashes: tiles.inclusion_proof(*index, size).unwrap(),
    };
    Evidence {
        exchange: exchange(),
        checkpoint: note + &line,
        made_at: time(200),
        asked_by: "11331000MB0000005D".to_owned(),
        withheld: 0,
        agencies: [("12331004MB0000002T".to_owned(), "模拟法律援助中心".to_owned())].into(),
        entries: indexes.iter().map(proven).collect(),
        disclosures: vec![Disclosure {
            fields: vec![opened("request", Some(&SALT), Some(VALUE))],
            index: "2".to_owned(),
            removed: None,
        }],
    }
}

fn opened(field: &str, salt: Option<&[u8]>, value: Option<&[u8]>) -> OpenedField {
    OpenedField {
        absent: None,
        field: field.to_owned(),
        salt: salt.map(|salt| HEXLOWER.encode(salt)),
        value: value.map(|value| BASE64.encode(value)),
    }
}

fn evidence() -> Evidence {
    evidence_by(&key(), &[2, 4, 5])
}

fn check(bundle: &[u8]) -> Report {
    let wanted = Wanted { keys: vec![witness().cosigner_key().clone()], quorum: 1 };
    verify(bundle, key().verifying_key(), &wanted)
}

fn english(sentences: &[Sentence]) -> String {
    sentences.iter().map(|sentence| sentence.en.as_str()).collect::<Vec<_>>().join("\n")
}

/// What is wrong with the sound bundle after a change to its files; the manifest then names the files as they are.
fn wrong_after(change: impl FnOnce(&mut Files)) -> String {
    let mut files = evidence().files().unwrap();
    change(&mut files);
    let mut manifest: Manifest = serde_json::from_slice(&files[MANIFEST]).unwrap();
    manifest.files = files
        .iter()
        .filter(|(name, _)| *name != MANIFEST)
        .map(|(name, content)| FileDigest { name: name.clone(), sha256: digest(content) })
        .collect();
    files.insert(MANIFEST.to_owned(), json(&manifest).unwrap());
    let report = check(&container::write(&files).unwrap());
    assert!(report.proven.is_empty(), "something is said to be proven");
    english(&report.wrong)
}

#[test]
fn a_sound_bundle_is_proven_and_says_what_it_does_not_prove() {
    let bundle = evidence().to_zip().unwrap();
    assert_eq!(bundle, evidence().to_zip().unwrap(), "it is the same every time");
    let report = check(&bundle);
    assert_eq!(english(&report.wrong), "");
    assert_eq!(report.entries, [2, 4, 5]);
    assert_eq!(report.witnesses, [Witnessing { witness: "witness.example/1".to_owned(), at: time(100) }]);
    assert_eq!(report.opened, 1);
    assert_eq!(report.remarks, []);
    assert_eq!(report.proven.len(), 5);
    assert_eq!(report.not_proven.len(), 6);
    // Without a witness one thing more is not proven, and none is required.
    let alone = verify(&bundle, key().verifying_key(), &Wanted::default());
    assert!(alone.is_sound());
    assert_eq!(alone.not_proven.len(), 7);
}

#[test]
fn the_texts_of_this_format_do_not_change() {
    // A later program must make the same of the same entries, or it would call an old bundle's summary false. When a text
    // has to change, so does FORMAT, and the verifier keeps the texts of both.
    let files = evidence().files().unwrap();
    let texts = [README, SUMMARY_EN, SUMMARY_ZH].map(|name| files[name].as_slice()).concat();
    assert_eq!(
        (FORMAT, digest(&texts).as_str()),
        ("legal-aid-evidence/1", "d495d06ad50cd914dda8f61a1e96fd6b49b916bd2b4d2f64a15fc578e80d595e")
    );
}

#[test]
fn the_summary_says_who_did_what_on_which_ground() {
    let files = evidence().files().unwrap();
    let text = |name: &str| String::from_utf8(files[name].clone()).unwrap();
    for part in
        ["模拟法律援助中心 (12331004MB0000002T)", "operator centre-01", "purpose FEE_WAIVER", "A-1 version 1"]
    {
        assert!(text(SUMMARY_EN).contains(part), "{part}: {}", text(SUMMARY_EN));
    }
    for part in ["[4]", "终结[2]", "办理结束", "已拒绝", "INVALID_ARGUMENT", "依据诉讼费用交纳办法 47"]
    {
        assert!(text(SUMMARY_ZH).contains(part), "{part}: {}", text(SUMMARY_ZH));
    }
}

#[test]
fn a_bit_in_any_file_is_noticed_and_the_file_is_named() {
    let files = evidence().files().unwrap();
    for (name, content) in &files {
        for position in (0..content.len()).step_by(7) {
            let mut changed = files.clone();
            changed.get_mut(name).unwrap()[position] ^= 1;
            let report = check(&container::write(&changed).unwrap());
            let wrong = english(&report.wrong);
            // The manifest has no name of its own in what it makes wrong.
            assert!(
                !wrong.is_empty() && (name == MANIFEST || wrong.contains(name.as_str())),
                "{name} at {position}: {wrong}"
            );
            assert!(report.proven.is_empty());
        }
    }
}

#[test]
fn a_summary_that_says_something_else_is_noticed_although_its_digest_is_right() {
    for name in [SUMMARY_EN, SUMMARY_ZH, README] {
        let wrong = wrong_after(|files| files.get_mut(name).unwrap().extend_from_slice(b"all was well\n"));
        assert_eq!(wrong, format!("{name} does not say what the entries say"));
    }
}

#[test]
fn a_file_that_is_missing_added_or_of_nothing_is_noticed() {
    let files = evidence().files().unwrap();
    for name in files.keys() {
        let mut without = files.clone();
        without.remove(name);
        let report = check(&container::write(&without).unwrap());
        assert!(english(&report.wrong).contains(name.as_str()), "{name}: {}", english(&report.wrong));
    }
    for name in ["evil.exe", "entries/9.txt", "proofs/3.tlog-proof", "entries/04.json", "disclosures/6.json"]
    {
        let wrong = wrong_after(|files| drop(files.insert(name.to_owned(), b"{}".to_vec())));
        assert!(wrong.contains(&format!("{name} does not belong in this bundle")), "{wrong}");
    }
}

#[test]
fn an_entry_that_was_changed_or_exchanged_is_noticed() {
    let wrong = wrong_after(|files| {
        let text = String::from_utf8(files["entries/5.json"].clone()).unwrap();
        files.insert(entry_file(5), text.replace("INVALID_ARGUMENT", "OK").into_bytes());
    });
    assert!(wrong.contains("entries/5.json is not what the log holds at 5"), "{wrong}");
    let wrong = wrong_after(|files| {
        let (four, five) = (files["entries/4.json"].clone(), files["entries/5.json"].clone());
        files.insert(entry_file(4), five);
        files.insert(entry_file(5), four);
    });
    assert!(wrong.contains("entries/4.json is not") && wrong.contains("entries/5.json is not"), "{wrong}");
}

#[test]
fn exchanged_proofs_are_noticed() {
    let wrong = wrong_after(|files| {
        let (four, five) = (files["proofs/4.tlog-proof"].clone(), files["proofs/5.tlog-proof"].clone());
        files.insert(proof_file(4), five);
        files.insert(proof_file(5), four);
    });
    assert!(wrong.contains("proofs/4.tlog-proof is of another entry"), "{wrong}");
}

#[test]
fn an_entry_of_another_exchange_is_noticed_although_it_is_proven() {
    let bundle = evidence_by(&key(), &[2, 3, 4, 5]).to_zip().unwrap();
    let report = check(&bundle);
    assert_eq!(english(&report.wrong), format!("entries/3.json is not of exchange {}", exchange()));
}

#[test]
fn another_logs_checkpoint_and_another_key_are_refused() {
    let other = SigningKey::from_seed("other.example/audit", &[8; 32]).unwrap();
    let report = check(&evidence_by(&other, &[2, 4, 5]).to_zip().unwrap());
    assert!(
        english(&report.wrong)
            .contains("checkpoint.txt is not a checkpoint that legal-aid.example/audit signed")
    );
    // One of the same name with another key is no better.
    let forged = SigningKey::from_seed(ORIGIN, &[8; 32]).unwrap();
    assert!(!check(&evidence_by(&forged, &[2, 4, 5]).to_zip().unwrap()).is_sound());
}

#[test]
fn a_witness_that_did_not_sign_is_named() {
    let stranger = CosigningKey::from_seed("witness.example/2", &[6; 32]).unwrap();
    let keys = [&witness(), &stranger].map(|key| key.cosigner_key().clone()).to_vec();
    let check = |quorum| {
        let wanted = Wanted { keys: keys.clone(), quorum };
        verify(&evidence().to_zip().unwrap(), key().verifying_key(), &wanted)
    };
    assert_eq!(english(&check(2).wrong), "1 of the witnesses have signed checkpoint.txt, 2 are needed");
    let enough = check(1);
    assert!(enough.is_sound());
    assert_eq!(english(&enough.remarks), "the witness witness.example/2 has not signed checkpoint.txt");
}

#[test]
fn a_disclosure_of_something_else_is_noticed() {
    for (field, salt, value) in [
        ("request", [6; 16], VALUE),
        ("request", SALT, b"what was not asked".as_slice()),
        ("response", SALT, VALUE),
        ("surprise", SALT, VALUE),
    ] {
        let mut evidence = evidence();
        evidence.disclosures[0].fields = vec![opened(field, Some(&salt), Some(value))];
        let report = check(&evidence.to_zip().unwrap());
        let wanted = format!("entry 2: what is said to be its {field} is not what it commits to");
        assert_eq!(english(&report.wrong), wanted);
    }
}

#[test]
fn what_was_erased_or_has_no_end_here_is_said_and_is_no_fault() {
    let mut evidence = evidence_by(&key(), &[4, 5]);
    evidence.disclosures.clear();
    let report = check(&evidence.to_zip().unwrap());
    assert!(report.is_sound());
    assert_eq!(english(&report.remarks), "entry 4 ends entry 2, which is not in this bundle");

    let mut evidence = self::evidence();
    evidence.disclosures[0].fields =
        vec![OpenedField { absent: Some("ERASED".to_owned()), ..opened("request", None, None) }];
    evidence.disclosures[0].removed = Some(Removed { at: time(150), by: "11331000MB0000005D".to_owned() });
    let report = check(&evidence.to_zip().unwrap());
    assert!(report.is_sound(), "{}", english(&report.wrong));
    assert!(english(&report.remarks).contains("erased on"), "{}", english(&report.remarks));
}
