//! Log entries: what is read and written is canonical JSON (RFC 8785), and is read as the same.
#![no_main]

use legal_aid_gateway::audit::entry::Entry;
use legal_aid_gateway::audit::search::{Field, Query};
use legal_aid_gateway_fuzz::{entry, seeds};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seeds("entries", examples), |bytes: &[u8]| {
    let keys = legal_aid_gateway::audit::search::keys_of(bytes);
    let Ok(entry) = Entry::from_json(bytes) else { return };
    let Ok(written) = entry.to_canonical_json() else { return };
    assert_eq!(Entry::from_json(&written).unwrap(), entry, "an entry is read differently when written");
    assert_eq!(serde_json_canonicalizer::to_vec(&entry).unwrap(), written, "not canonical");
    if bytes == written {
        assert!(keys.is_some(), "the search cannot read what the log would write");
    }
    let mut query = Query::default();
    query.narrow(Field::Caller, "12331004MB0000002T");
    let _ = query.matches(&entry);
});

fn examples() -> Vec<(&'static str, Vec<u8>)> {
    const NAMES: [&str; 7] = ["request", "response", "read", "refused", "handshake", "interrupted", "event"];
    (0..).zip(NAMES).map(|(index, name)| (name, entry(index).to_canonical_json().unwrap())).collect()
}
