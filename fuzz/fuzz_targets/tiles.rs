//! Tiles, entry bundles, paths of the published log, lists of a search, ranges of indexes: what is read is written as the
//! same bytes.
#![no_main]

use legal_aid_gateway::audit::published::{Resource, decode_bundle, decode_tile, encode_bundle, encode_tile};
use legal_aid_gateway::audit::removal::IndexRanges;
use legal_aid_gateway::audit::search::{Bits, encode_list};
use legal_aid_gateway::audit::tile::TileId;
use legal_aid_gateway_fuzz::{entry, log, seeds};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seeds("tiles", examples), |bytes: &[u8]| {
    if let Ok(hashes) = decode_tile(bytes) {
        assert_eq!(encode_tile(&hashes), bytes);
    }
    if let Ok(entries) = decode_bundle(bytes) {
        assert_eq!(encode_bundle(entries).unwrap(), bytes);
    }
    if let Ok(bits) = Bits::decode(bytes) {
        let ascending: Vec<u32> = bits.ascending().collect();
        assert!(ascending.is_sorted());
        assert!(ascending.iter().rev().copied().eq(bits.descending()));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(resource) = Resource::parse(text) {
        assert_eq!(resource.path(), text);
        let _ = (resource.is_within(0), resource.is_within(300), resource.is_within(u64::MAX));
    }
    if let Ok(ranges) = text.parse::<IndexRanges>() {
        assert_eq!(ranges.to_string().parse::<IndexRanges>().as_ref(), Ok(&ranges));
        assert!(ranges.without(&ranges).is_empty() && ranges.without(&IndexRanges::default()) == ranges);
        let _ = (ranges.count(), ranges.contains(5));
    }
});

fn examples() -> Vec<(&'static str, Vec<u8>)> {
    let entries: Vec<Vec<u8>> = (0..3).map(|index| entry(index).to_canonical_json().unwrap()).collect();
    let (tiles, _) = log(7);
    let hashes = tiles.inclusion_proof(5, 7).unwrap();
    let tile = TileId { level: 1, index: 1_234_067 };
    vec![
        ("tile", encode_tile(&hashes)),
        ("bundle", encode_bundle(entries.iter().map(Vec::as_slice)).unwrap()),
        ("list", encode_list(&[1, 5, 900, 40_000])),
        ("path", Resource::Tile { tile, width: 7 }.path().into_bytes()),
        ("path-entries", Resource::Entries { index: 1, width: 256 }.path().into_bytes()),
        ("ranges", b"0-8,12,15-90".to_vec()),
    ]
}
