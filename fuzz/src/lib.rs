//! What the targets have in common: seeds, and a small log.

use std::path::Path;

use jiff::Timestamp;
use legal_aid_gateway::audit::checkpoint::Checkpoint;
use legal_aid_gateway::audit::cosignature::CosigningKey;
use legal_aid_gateway::audit::entry::{Entry, Phase};
use legal_aid_gateway::audit::merkle::leaf_hash;
use legal_aid_gateway::audit::note::SigningKey;
use legal_aid_gateway::audit::tile::{TileSet, TileWriter};
use uuid::Uuid;

/// With `WRITE_SEEDS` set, writes a target's seeds into its corpus: synthetic, valid examples to begin from.
pub fn seeds<'s>(target: &str, seeds: impl FnOnce() -> Vec<(&'s str, Vec<u8>)>) {
    if std::env::var_os("WRITE_SEEDS").is_none() {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    std::fs::create_dir_all(&folder).unwrap();
    for (name, bytes) in seeds() {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

/// When everything here happens.
pub fn now() -> Timestamp {
    Timestamp::from_second(1_795_000_000).unwrap()
}

/// Signs the log.
pub fn key() -> SigningKey {
    SigningKey::from_seed("log.example/audit", &[3; 32]).unwrap()
}

/// Cosigns it.
pub fn witness() -> CosigningKey {
    CosigningKey::from_seed("witness.example", &[4; 32]).unwrap()
}

/// An entry of the log.
pub fn entry(index: u64) -> Entry {
    let phase = Phase::ALL[index as usize % Phase::ALL.len()];
    let service = "legalaid.exchange.v1.ExchangeService";
    let mut entry =
        Entry::new(Uuid::from_u128(index.into()), phase, now(), service, "SubmitExchange", "node-1");
    entry.caller = Some("12331004MB0000002T".to_owned());
    entry.exchange = Some(exchange());
    entry.legal_basis = vec!["法律援助法 53".to_owned()];
    entry.duration_us = Some(1200 + index);
    entry
}

/// The exchange that its entries are about.
pub fn exchange() -> Uuid {
    Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0001)
}

/// The tiles and the cosigned checkpoint of the log with so many entries.
pub fn log(size: u64) -> (TileSet, String) {
    let (mut writer, mut tiles) = (TileWriter::new(), TileSet::new());
    (0..size).for_each(|index| writer.append(leaf_hash(&entry(index).to_canonical_json().unwrap())));
    let root = writer.root();
    writer.take_dirty().into_iter().for_each(|(tile, hashes)| tiles.insert(tile, hashes));
    let note = Checkpoint { origin: key().name().to_owned(), size, root, extensions: Vec::new() };
    let note = note.sign(&key()).unwrap();
    let line = witness().cosign(&note, now()).unwrap();
    (tiles, note + &line)
}
