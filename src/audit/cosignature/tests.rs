//! Cosignatures against what witnesses of the public network signed, and against every way to spoil one.

use data_encoding::BASE64;
use proptest::prelude::*;

use super::*;
use crate::audit::checkpoint::Checkpoint;
use crate::audit::merkle::empty_root;
use crate::audit::note::{SigningKey, VerifyingKey};

/// A checkpoint of a public staging log with the cosignatures of four public witnesses, and their published keys.
const PUBLIC_CHECKPOINT: &str = "arche2025h1.staging.ct.transparency.dev\n\
    1432088532\n\
    U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=\n\
    \n\
    \u{2014} arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=\n\
    \u{2014} arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=\n\
    \u{2014} transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==\n\
    \u{2014} witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==\n\
    \u{2014} remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==\n\
    \u{2014} witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJmIY/2TUFucgKi7lI7cUiOvKFYe/TmN9DAg==\n";
const PUBLIC_LOG: &str =
    "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f";
const PUBLIC_WITNESSES: [&str; 4] = [
    "transparency.dev/DEV:witness-little-garden+d8042a87+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM",
    "witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO",
    "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
    "witness.stagemole.eu+67f7aea0+BEqSG3yu9YrmcM3BHvQYTxwFj3uSWakQepafafpUqklv",
];

#[test]
fn a_checkpoint_cosigned_by_public_witnesses_verifies_under_each_of_their_keys() {
    let log: VerifyingKey = PUBLIC_LOG.parse().unwrap();
    assert_eq!(Checkpoint::open(PUBLIC_CHECKPOINT, &log).unwrap().size, 1_432_088_532);
    for encoded in PUBLIC_WITNESSES {
        let key: CosignerKey = encoded.parse().unwrap();
        assert_eq!(key.to_string(), encoded);
        let found = key.find(PUBLIC_CHECKPOINT).unwrap();
        assert_eq!(found.time.as_second(), 0x6a12_2120, "{encoded}");
        assert!(PUBLIC_CHECKPOINT.contains(&found.line), "{encoded}");
    }
}

#[test]
fn a_public_cosignature_with_any_byte_of_its_line_or_text_changed_does_not_verify() {
    let key: CosignerKey = PUBLIC_WITNESSES[2].parse().unwrap();
    let line = PUBLIC_CHECKPOINT.find("\u{2014} remora").unwrap();
    let text = PUBLIC_CHECKPOINT.find("\n\n").unwrap();
    let end = line + PUBLIC_CHECKPOINT[line..].find('\n').unwrap();
    for position in (0..text).chain(line..end) {
        let mut bytes = PUBLIC_CHECKPOINT.as_bytes().to_vec();
        bytes[position] ^= 1;
        if let Ok(changed) = String::from_utf8(bytes) {
            assert!(key.find(&changed).is_err(), "byte {position}");
        }
    }
}

fn witness() -> CosigningKey {
    CosigningKey::from_seed("witness.example/w1", &[9; 32]).unwrap()
}

fn checkpoint(size: u64) -> String {
    let log = SigningKey::from_seed("legal-aid.example/audit", &[3; 32]).unwrap();
    let origin = log.name().to_owned();
    Checkpoint { origin, size, root: empty_root(), extensions: Vec::new() }.sign(&log).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[test]
fn a_log_key_is_no_witness_key_and_a_witness_key_no_log_key() {
    let log = SigningKey::from_seed("log.example", &[1; 32]).unwrap();
    assert_eq!(log.verifying_key().to_string().parse::<CosignerKey>(), Err(KeyError::NotEd25519));
    assert!(matches!(CosigningKey::parse(&log.encode()), Err(KeyError::NotEd25519)));
    let ours = witness();
    assert_eq!(ours.cosigner_key().to_string().parse::<VerifyingKey>(), Err(KeyError::NotEd25519));
    assert!(matches!(SigningKey::parse(&ours.encode()), Err(KeyError::NotEd25519)));
}

#[test]
fn a_witness_key_survives_encoding_and_shows_no_secret() {
    let key = witness();
    let again = CosigningKey::parse(&key.encode()).unwrap();
    assert_eq!(again.cosigner_key(), key.cosigner_key());
    assert_eq!(key.cosigner_key().to_string().parse(), Ok(key.cosigner_key().clone()));
    assert!(!format!("{key:?}").contains(&BASE64.encode(&[9; 32])), "{key:?}");
    assert!(key.encode().replace('4', "5").parse::<CosignerKey>().is_err());
}

#[test]
fn a_plain_signature_by_the_same_key_is_no_cosignature() {
    let key = witness();
    let plain = SigningKey::from_seed("witness.example/w1", &[9; 32]).unwrap();
    let text = checkpoint(7).split_once("\n\n").unwrap().0.to_owned() + "\n";
    assert_eq!(key.cosigner_key().find(&plain.sign(&text).unwrap()), Err(NoteError::NotSigned));
}

#[test]
fn the_newest_of_several_cosignatures_counts_and_a_false_one_spoils_the_note() {
    let key = witness();
    let note = checkpoint(7);
    let lines = key.cosign(&note, at(200)).unwrap() + &key.cosign(&note, at(100)).unwrap();
    assert_eq!(key.cosigner_key().find(&format!("{note}{lines}")).unwrap().time, at(200));
    let of_another = key.cosign(&checkpoint(8), at(300)).unwrap();
    let spoilt = format!("{note}{lines}{of_another}");
    assert_eq!(key.cosigner_key().find(&spoilt), Err(NoteError::BadSignature));
    assert_eq!(key.cosigner_key().find(&note), Err(NoteError::NotSigned));
}

#[test]
fn a_stamp_of_another_length_or_a_time_beyond_all_calendars_is_refused() {
    let key = witness();
    let note = checkpoint(7);
    for stamp in [vec![0; 64], vec![0; STAMP_BYTES - 1], vec![0; STAMP_BYTES + 1], vec![255; STAMP_BYTES]] {
        let line = signature_line(&key.public.name, key.public.key_hash, &stamp);
        assert_eq!(key.cosigner_key().find(&format!("{note}{line}")), Err(NoteError::BadSignature));
    }
    let signature = key.pair.try_sign(message(u64::MAX, "").as_bytes()).unwrap();
    let stamp = [&u64::MAX.to_be_bytes(), signature.as_ref()].concat();
    assert_eq!(key.public.verify("", &stamp), None);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_cosignature_holds_for_its_checkpoint_time_and_key_only(
        seed: [u8; 32],
        size: u64,
        time in 0_i64..100_000_000_000,
        bit in 0_usize..STAMP_BYTES * 8,
    ) {
        let key = CosigningKey::from_seed("witness.example/w1", &seed).unwrap();
        let note = checkpoint(size);
        let line = key.cosign(&note, at(time)).unwrap();
        let cosigned = format!("{note}{line}");
        let found = key.cosigner_key().find(&cosigned).unwrap();
        prop_assert_eq!((found.time, found.line), (at(time), line.clone()));
        let other_note = format!("{}{line}", checkpoint(size ^ 1));
        prop_assert_eq!(key.cosigner_key().find(&other_note), Err(NoteError::BadSignature));
        let stamp = take_apart(&cosigned).unwrap().signatures.pop().unwrap().signature;
        let mut spoilt = stamp.clone();
        spoilt[bit / 8] ^= 1 << (bit % 8);
        let spoilt = format!("{note}{}", signature_line(&key.public.name, key.public.key_hash, &spoilt));
        prop_assert_eq!(key.cosigner_key().find(&spoilt), Err(NoteError::BadSignature));
        let mut other = seed;
        other[0] ^= 1;
        let other = CosigningKey::from_seed("witness.example/w1", &other).unwrap();
        prop_assert_eq!(other.cosigner_key().find(&cosigned), Err(NoteError::NotSigned));
    }
}
