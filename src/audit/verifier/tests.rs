use std::convert::Infallible;

use super::*;
use crate::audit::entry::{Entry, Phase};
use crate::audit::merkle::tests::root_by_definition;
use crate::audit::note::SigningKey;
use crate::audit::removal::{Removal, RemovalKind};
use proptest::prelude::*;

fn key() -> SigningKey {
    SigningKey::from_seed("log.example/audit", &[5; 32]).unwrap()
}

fn log(size: u64) -> Vec<StoredEntry> {
    (0..size).map(|index| stored(index, format!(r#"{{"number":"{index}","schema":1}}"#).as_bytes())).collect()
}

fn stored(index: u64, entry: &[u8]) -> StoredEntry {
    StoredEntry { index, entry: entry.to_vec(), leaf_hash: Some(leaf_hash(entry)) }
}

/// The checkpoint that signs these entries as they are.
fn checkpoint(entries: &[StoredEntry]) -> String {
    let leaves: Vec<Hash> = entries.iter().map(|stored| leaf_hash(&stored.entry)).collect();
    sign(entries.len() as u64, root_by_definition(&leaves))
}

fn sign(size: u64, root: Hash) -> String {
    let origin = "log.example/audit".to_owned();
    Checkpoint { origin, size, root, extensions: Vec::new() }.sign(&key()).unwrap()
}

fn verify(entries: &[StoredEntry], checkpoint: &str, earlier: &[String]) -> Report {
    let entries = entries.iter().cloned().map(Ok::<_, Infallible>);
    verify_log(entries, checkpoint, key().verifying_key(), earlier).unwrap()
}

fn root_of(note: &str) -> Hash {
    Checkpoint::open(note, key().verifying_key()).unwrap().root
}

#[test]
fn an_untouched_log_is_sound_at_every_earlier_checkpoint() {
    let entries = log(300);
    let earlier: Vec<String> =
        [0, 1, 255, 256, 257, 299, 300, 300].map(|size| checkpoint(&entries[..size])).into();
    let report = verify(&entries, &checkpoint(&entries), &earlier);
    assert!(report.is_sound(), "{:?}", report.findings);
    assert_eq!((report.size, report.verified_entries, report.earlier_checked), (300, 300, 8));
    assert!(verify(&[], &checkpoint(&[]), &[]).is_sound());
}

#[test]
fn a_missing_entry_is_named_and_later_checkpoints_are_not_comparable() {
    let entries = log(20);
    let earlier = [checkpoint(&entries[..5]), checkpoint(&entries[..10])];
    let without = |gone: std::ops::Range<usize>| [&entries[..gone.start], &entries[gone.end..]].concat();
    let report = verify(&without(7..8), &checkpoint(&entries), &earlier);
    let not_comparable = Finding::EarlierNotComparable { earlier_size: 10 };
    assert_eq!(report.findings, [Finding::Missing { first: 7, last: 7 }, not_comparable]);
    assert_eq!((report.verified_entries, report.earlier_checked), (19, 1));
    let report = verify(&without(0..3), &checkpoint(&entries), &[]);
    assert_eq!(report.findings, [Finding::Missing { first: 0, last: 2 }]);
}

#[test]
fn a_missing_entry_with_the_rest_renumbered_shows_in_the_root() {
    let entries = log(20);
    let mut shifted = entries.clone();
    shifted.remove(7);
    (0..).zip(&mut shifted).for_each(|(index, stored)| stored.index = index);
    shifted.push(stored(19, b"{}"));
    let report = verify(&shifted, &checkpoint(&entries), &[]);
    assert!(matches!(report.findings[..], [Finding::RootDiffers { recorded_agree: false, .. }]));
}

#[test]
fn entries_out_of_order_or_repeated_are_named() {
    let entries = log(10);
    let mut swapped = entries.clone();
    swapped.swap(3, 4);
    let report = verify(&swapped, &checkpoint(&entries), &[]);
    assert_eq!(report.findings, [Finding::OutOfOrder { index: 3, after: 4 }]);

    let mut moved = entries.clone();
    let entry = moved.remove(2);
    moved.push(entry);
    let report = verify(&moved, &checkpoint(&entries), &[]);
    assert_eq!(report.findings, [Finding::OutOfOrder { index: 2, after: 9 }]);

    let mut repeated = entries.clone();
    repeated.insert(6, entries[5].clone());
    let report = verify(&repeated, &checkpoint(&entries), &[]);
    assert_eq!(report.findings, [Finding::Repeated { index: 5 }]);
}

#[test]
fn a_cut_tail_is_found_whichever_checkpoint_shows_it() {
    let entries = log(10);
    let report = verify(&entries[..6], &checkpoint(&entries), &[checkpoint(&entries[..8])]);
    let not_comparable = Finding::EarlierNotComparable { earlier_size: 8 };
    assert_eq!(report.findings, [Finding::CutTail { next: 6, size: 10 }, not_comparable]);

    let report = verify(&entries[..6], &checkpoint(&entries[..6]), &[checkpoint(&entries)]);
    assert_eq!(report.findings, [Finding::EarlierIsLonger { earlier_size: 10, size: 6 }]);
}

#[test]
fn entries_beyond_the_checkpoint_are_counted() {
    let entries = log(10);
    let report = verify(&entries, &checkpoint(&entries[..6]), &[]);
    assert_eq!(report.findings, [Finding::BeyondCheckpoint { first: 6, count: 4 }]);
    assert_eq!(report.verified_entries, 6);
}

#[test]
fn a_log_rewritten_and_signed_anew_is_given_away_by_an_earlier_checkpoint() {
    let entries = log(10);
    let mut rewritten = entries.clone();
    rewritten[4] = stored(4, br#"{"number":"4","schema":2}"#);
    let earlier = [checkpoint(&entries[..4]), checkpoint(&entries[..5]), checkpoint(&entries[..9])];
    let report = verify(&rewritten, &checkpoint(&rewritten), &earlier);
    let sizes: Vec<u64> = report
        .findings
        .iter()
        .map(|finding| match finding {
            Finding::EarlierRootDiffers { earlier_size, .. } => *earlier_size,
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!((sizes, report.earlier_checked), (vec![5, 9], 1));
}

#[test]
fn an_entry_that_is_not_a_canonical_object_is_named() {
    let cases: [(&[u8], Finding); 9] = [
        (b"", Finding::PrunedUntold { first: 1, last: 1 }),
        (b"[]", Finding::NotAnObject { index: 1 }),
        (b"{\"a\":\"\xff\"}", Finding::NotAnObject { index: 1 }),
        (b"{}{}", Finding::NotAnObject { index: 1 }),
        (b"{} ", Finding::NotCanonical { index: 1 }),
        (br#"{"b":1,"a":2}"#, Finding::NotCanonical { index: 1 }),
        (br#"{"a":1,"a":1}"#, Finding::NotCanonical { index: 1 }),
        (br#"{"a":1.0}"#, Finding::NotCanonical { index: 1 }),
        (br#"{"a":"\u0041"}"#, Finding::NotCanonical { index: 1 }),
    ];
    for (entry, finding) in cases {
        let mut entries = log(3);
        entries[1] = stored(1, entry);
        let report = verify(&entries, &checkpoint(&entries), &[]);
        assert_eq!(report.findings, [finding]);
        assert_eq!(report.verified_entries, 2);
    }
}

#[test]
fn a_changed_hash_is_told_from_a_changed_entry() {
    let entries = log(10);
    let note = checkpoint(&entries);
    let mut changed = entries.clone();
    changed[4].leaf_hash = changed[5].leaf_hash;
    let report = verify(&changed, &note, &[]);
    assert!(
        matches!(report.findings[..], [Finding::LeafHashDiffers { index: 4, .. }]),
        "the root still agrees"
    );

    let mut changed = entries.clone();
    changed[4].entry = changed[5].entry.clone();
    let report = verify(&changed, &note, &[]);
    assert!(matches!(
        report.findings[..],
        [Finding::LeafHashDiffers { index: 4, .. }, Finding::RootDiffers { recorded_agree: true, .. }]
    ));
    changed.iter_mut().for_each(|stored| stored.leaf_hash = None);
    let report = verify(&changed, &note, &[]);
    assert!(matches!(report.findings[..], [Finding::RootDiffers { recorded_agree: false, .. }]));
}

#[test]
fn a_log_with_everything_changed_does_not_fill_the_report() {
    let mut entries = log(3_000);
    let note = checkpoint(&entries);
    entries.iter_mut().for_each(|stored| stored.entry[2] ^= 1);
    let report = verify(&entries, &note, &[]);
    assert_eq!((report.findings.len(), report.findings_left_out), (1_000, 2_001));
    assert!(!report.is_sound());
    let every_other: Vec<StoredEntry> = log(6_000).into_iter().skip(1).step_by(2).collect();
    let report = verify(&every_other, &sign(6_000, root_of(&note)), &[]);
    assert_eq!((report.findings.len(), report.findings_left_out), (1_000, 2_000));
}

#[test]
fn a_checkpoint_by_another_key_and_an_unreadable_log_are_errors() {
    let entries = log(3);
    let other = SigningKey::from_seed("log.example/audit", &[6; 32]).unwrap();
    let note = checkpoint(&entries);
    let whole = || entries.iter().cloned().map(Ok::<_, Infallible>);
    let refused = verify_log(whole(), &note, other.verifying_key(), &[]).unwrap_err();
    assert!(matches!(refused, VerifyError::Checkpoint(NoteError::NotSigned)));
    let earlier = [note.clone(), note.replace("log.example/audit\n3", "log.example/audit\n2")];
    let refused = verify_log(whole(), &note, key().verifying_key(), &earlier).unwrap_err();
    assert!(matches!(refused, VerifyError::EarlierCheckpoint { number: 2, reason: NoteError::BadSignature }));
    let broken = [Ok(entries[0].clone()), Err("the disk is gone")].into_iter();
    let refused = verify_log(broken, &note, key().verifying_key(), &[]).unwrap_err();
    assert_eq!(refused.to_string(), "the log could not be read beyond entry 1: the disk is gone");
}

#[test]
fn findings_name_the_index_in_plain_words() {
    assert_eq!(Finding::Missing { first: 7, last: 7 }.to_string(), "entry 7 is missing");
    assert_eq!(Finding::Missing { first: 7, last: 9 }.to_string(), "entries 7 to 9 are missing");
    let hash = leaf_hash(b"");
    let changed = Finding::LeafHashDiffers { index: 41, recorded: hash, recomputed: hash };
    assert!(changed.to_string().starts_with("entry 41 was changed"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_changed_byte_is_found_at_its_index(
        (size, index) in (1_u64..400).prop_flat_map(|size| (Just(size), 0..size)),
        position: usize,
        change in 1_u8..=255,
    ) {
        let mut entries = log(size);
        let note = checkpoint(&entries);
        let entry = &mut entries[usize::try_from(index).unwrap()].entry;
        let position = position % entry.len();
        entry[position] ^= change;
        let report = verify(&entries, &note, &[]);
        let is_named = matches!(report.findings[0], Finding::LeafHashDiffers { index: at, .. } if at == index);
        prop_assert!(is_named, "{:?}", report.findings);
        let last = report.findings.last().unwrap();
        let root_differs = matches!(last, Finding::RootDiffers { recorded_agree: true, .. });
        prop_assert!(root_differs, "{:?}", report.findings);
    }
}

// ---- erased and pruned -------------------------------------------------------------------------------------------

/// An EVENT that tells of a removal of these entries.
fn told(index: u64, kind: RemovalKind, entries: &[u64]) -> StoredEntry {
    let mut entry = Entry::new(
        uuid::Uuid::from_u128(u128::from(index)),
        Phase::Event,
        jiff::Timestamp::UNIX_EPOCH,
        "remover",
        "Pruned",
        "node-1",
    );
    entry.caller = Some("11331000MB00000112".to_owned());
    let ranges = Some(entries.iter().copied().collect());
    entry.removal = Some(Box::new(Removal { ranges, ..Removal::new(kind) }));
    stored(index, &entry.to_canonical_json().unwrap())
}

fn prune(entries: &mut [StoredEntry], pruned: &[u64]) {
    for stored in entries.iter_mut().filter(|stored| pruned.contains(&stored.index)) {
        stored.entry.clear();
    }
}

#[test]
fn a_pruned_entry_is_proven_by_its_hash_and_the_report_says_when_it_went() {
    let mut entries = log(20);
    entries.push(told(20, RemovalKind::Retention, &[3, 4, 7]));
    entries.push(told(21, RemovalKind::Retention, &[8, 9]));
    let (note, earlier) = (checkpoint(&entries), [checkpoint(&entries[..10])]);
    prune(&mut entries, &[3, 4, 7, 8, 9]);
    let report = verify(&entries, &note, &earlier);
    assert!(report.is_sound(), "{:?}", report.findings);
    assert_eq!((report.verified_entries, report.earlier_checked), (17, 1));
    let said: Vec<String> = report.removed.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "5 entries pruned on 1970-01-01T00:00:00Z by 11331000MB00000112, past retention (entry 20): 3-4,7-9"
        ]
    );
}

#[test]
fn what_is_gone_without_a_word_is_found_and_so_is_a_hash_that_was_changed_with_it() {
    let mut entries = log(20);
    entries.push(told(20, RemovalKind::Subject, &[2, 3]));
    entries.push(told(21, RemovalKind::Retention, &[3, 25]));
    let note = checkpoint(&entries);
    prune(&mut entries, &[3, 4]);
    // An erasure explains no missing bytes, and nothing tells of what comes after it.
    let untold = Finding::PrunedUntold { first: 3, last: 4 };
    assert_eq!(verify(&entries, &note, &[]).findings, std::slice::from_ref(&untold));
    entries[4].leaf_hash = Some(leaf_hash(b"{}"));
    let findings = verify(&entries, &note, &[]).findings;
    assert!(
        matches!(&findings[..], [first, Finding::RootDiffers { .. }] if *first == untold),
        "{findings:?}"
    );
    entries[4].leaf_hash = None;
    assert!(verify(&entries, &note, &[]).findings.contains(&Finding::HashMissing { index: 4 }));
    entries.remove(4);
    assert!(verify(&entries, &note, &[]).findings.contains(&Finding::Missing { first: 4, last: 4 }));
}

#[test]
fn a_missing_salt_is_explained_by_an_erasure_alone() {
    let mut entries = log(10);
    entries.push(told(10, RemovalKind::Subject, &[2, 3]));
    entries.push(told(11, RemovalKind::Period, &[5]));
    let mut verifier = Verifier::start(&checkpoint(&entries), key().verifying_key(), &[]).unwrap();
    entries.iter().for_each(|stored| verifier.feed(stored));
    [2, 3, 5, 6, 99].into_iter().for_each(|index| verifier.note_missing_salt(index));
    let report = verifier.finish();
    assert_eq!(report.findings, [Finding::ErasedUntold { first: 6, last: 6 }]);
    assert_eq!(report.removed.len(), 2);
}

proptest! {
    #[test]
    fn a_log_is_sound_just_when_all_that_is_gone_was_told(
        gone in prop::collection::btree_set(0u64..40, 0..20),
        named in prop::collection::btree_set(0u64..40, 0..20),
    ) {
        let mut entries = log(40);
        let named: Vec<u64> = named.into_iter().collect();
        entries.push(told(40, RemovalKind::Retention, &named));
        let note = checkpoint(&entries);
        prune(&mut entries, &gone.iter().copied().collect::<Vec<_>>());
        let report = verify(&entries, &note, &[]);
        prop_assert_eq!(report.is_sound(), gone.iter().all(|index| named.contains(index)));
        prop_assert_eq!(report.verified_entries, 41 - gone.len() as u64);
    }
}
