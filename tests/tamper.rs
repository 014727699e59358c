//! What somebody with the database in hand can do to the log, and who notices: the start of the gateway, `audit
//! verify` with the key and an earlier checkpoint, `audit fsck`; each with the index or the reason.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::sync::Arc;

use aws_lc_rs::signature::Ed25519KeyPair;
use data_encoding::BASE64;
use legal_aid_gateway::audit::checkpoint::Checkpoint;
use legal_aid_gateway::audit::entry::{Entry, Phase, Salt};
use legal_aid_gateway::audit::log as audit_log;
use legal_aid_gateway::audit::merkle::{Hash, leaf_hash};
use legal_aid_gateway::audit::note::SigningKey;
use legal_aid_gateway::audit::tile::TileWriter;
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::entropy;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::setup::purposes;
use legal_aid_gateway::simulator::court::Script;
use legal_aid_gateway::store::{Sealer, Store};
use serde_json::Value;
use sqlx::{Connection as _, Row as _, SqliteConnection};
use support::{BEGINNING, DEADLINE, Folder, Gateway, log};

/// Entries of the log that is tampered with: two full tiles and a partial one.
const SIZE: u64 = 700;

/// Entries of the backup that is put back.
const OLD_SIZE: u64 = 500;

/// What is done, and what each of the three says; `None` where it cannot know.
struct Case {
    name: &'static str,
    fsck: &'static [&'static str],
    verify: &'static [&'static str],
    start: Option<&'static str>,
}

const fn case(
    name: &'static str,
    fsck: &'static [&'static str],
    verify: &'static [&'static str],
    start: Option<&'static str>,
) -> Case {
    Case { name, fsck, verify, start }
}

const CASES: &[Case] = &[
    case("one bit", &["entry 300: its bytes were changed"], &["entry 300 was changed"], None),
    case(
        "one bit near the end",
        &["entry 690: its bytes were changed"],
        &["entry 690 was changed"],
        Some("entry 690 is not the one that was signed"),
    ),
    case("a row deleted", &["entry 300: it is missing"], &["entry 300 is missing"], None),
    case(
        "two rows swapped",
        &["entry 300: it stands in the place of entry 450"],
        &["entry 300 was changed", "entry 450 was changed"],
        None,
    ),
    case(
        "a row inserted",
        &["entry 300: it was inserted", "entry 700: 1 entries from here on are beyond the head"],
        &["entry 300 was changed", "from 700 on, are beyond the checkpoint"],
        Some("is not the one that was signed"),
    ),
    case(
        "a row deleted and the rest renumbered",
        &["entry 300: it was taken out", "entry 699: the log is cut off"],
        &["entry 300 was changed", "entries from 699 on are gone"],
        Some("is not the one that was signed"),
    ),
    case(
        "the tail cut",
        &["entry 650: the log is cut off here, and 700 entries were signed"],
        &["entries from 650 on are gone"],
        Some("entry 650 is missing"),
    ),
    case(
        "a hash in a tile of leaf hashes",
        &["tile 1 of level 0: hash 5 was changed"],
        &["entry 261 was changed, or its recorded hash was", "the log is not what was signed"],
        None,
    ),
    case(
        "a hash in a higher tile",
        &["tile 0 of level 1: hash 1 was changed"],
        &[],
        Some("give another root"),
    ),
    case(
        "an entry and all tiles rewritten, unsigned",
        &["entries and tiles were rewritten together"],
        &["the 700 entries are not those that the checkpoint signs"],
        Some("give another root"),
    ),
    case("the head's root", &["head: its root is"], &[], None),
    case(
        "a checkpoint of another log",
        &["checkpoint: the note is not signed by the expected key"],
        &["the note is not signed by the expected key"],
        Some("does not verify under the log key"),
    ),
    case(
        "a checkpoint with the wrong origin",
        &["checkpoint: the checkpoint is of another log than the key"],
        &["the checkpoint is of another log than the key"],
        Some("does not verify under the log key"),
    ),
    case(
        "an old backup restored",
        &["kept checkpoint of 700 entries: the log has only 500", "put the newer one back"],
        &["an earlier checkpoint signs 700 entries and this one only 500"],
        Some("covers 700 entries, the database has 500"),
    ),
];

#[tokio::test]
async fn whatever_is_done_to_the_log_is_noticed_with_its_index_or_reason() {
    let scene = Scene::prepare().await;
    scene.expect_sound().await;
    for case in CASES {
        scene.restore("sound.db");
        scene.tamper(case.name).await;
        let said = scene.run(&["audit", "fsck", "--config", "gateway.toml"], 1).await;
        expect(case, "fsck", &said, case.fsck);
        if case.verify.is_empty() {
            scene.verify(0).await;
        } else {
            expect(case, "verify", &scene.verify(1).await, case.verify);
        }
        match (Gateway::try_start(&scene.folder, &[]).await, case.start) {
            (Err(refused), Some(wanted)) => {
                assert!(refused.said.contains(wanted), "{}: start said {}", case.name, refused.said);
                assert_eq!(refused.exit_code, Some(1), "{}", case.name);
            }
            (Ok(gateway), None) => gateway.kill().await,
            (Err(refused), None) => panic!("{}: not expected to be noticed at start: {refused:?}", case.name),
            (Ok(_), Some(wanted)) => panic!("{}: the gateway started, wanted {wanted}", case.name),
        }
    }
}

#[tokio::test]
async fn fsck_names_the_first_bad_index_and_what_to_do_also_for_programs() {
    let scene = Scene::prepare().await;
    scene.restore("sound.db");
    for name in ["one bit near the end", "one bit"] {
        scene.tamper(name).await;
    }
    let output = scene.folder.run(&["audit", "fsck", "gateway.db", "--json"]).await;
    assert_eq!(output.status.code(), Some(1));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&said["sound"], &said["signature_checked"]),
        (&Value::Bool(false), &Value::Bool(false)),
        "{said}"
    );
    assert_eq!(said["findings"][0]["index"], "300", "{said}");
    assert_eq!(said["findings"][1]["index"], "690", "{said}");
    assert!(said["findings"][0]["remedy"].as_str().unwrap().contains("evidence"), "{said}");
}

#[tokio::test]
async fn without_a_key_fsck_says_that_nothing_is_proven_about_the_head() {
    let scene = Scene::prepare().await;
    scene.restore("sound.db");
    // Somebody else's signature over the same tree: all parts agree, and only a key tells.
    scene.tamper("a checkpoint of another log").await;
    let said = scene.run(&["audit", "fsck", "gateway.db"], 0).await;
    assert!(said.contains("nothing is proven about the head") && said.contains("--key"), "{said}");
    assert!(!said.contains("sound"), "{said}");
    let said = scene.run(&["audit", "fsck", "gateway.db", "--key", &scene.key], 1).await;
    assert!(said.contains("WRONG: checkpoint"), "{said}");
}

#[tokio::test]
async fn fsck_checks_a_snapshot_while_the_gateway_writes() {
    let folder = Folder::prepare(Script::TakeOnly);
    let gateway = Gateway::start(&folder).await;
    let auditor = folder.client("auditor");
    let context = Some(auditor.context(purposes::AUDIT_INSPECTION));
    let first = auditor.request(proto::GetCheckpointRequest { context }, DEADLINE);
    auditor.audit().get_checkpoint(first).await.unwrap();
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let load = tokio::spawn(async move {
        let mut calls = 0u64;
        while stopped.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
            let context = Some(auditor.context(purposes::AUDIT_INSPECTION));
            let request = auditor.request(proto::GetCheckpointRequest { context }, DEADLINE);
            auditor.audit().get_checkpoint(request).await.unwrap();
            calls += 1;
        }
        calls
    });
    let mut sizes = Vec::new();
    for _ in 0..5 {
        let output = folder.run(&["audit", "fsck", "--config", "gateway.toml", "--json"]).await;
        assert!(output.status.success(), "{output:?}");
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (&said["sound"], &said["signature_checked"]),
            (&Value::Bool(true), &Value::Bool(true)),
            "{said}"
        );
        sizes.push(said["size"].as_str().unwrap().parse::<u64>().unwrap());
    }
    stop.send(()).unwrap();
    assert!(BEGINNING + load.await.unwrap() + 1 >= *sizes.last().unwrap());
    assert!(sizes.is_sorted() && sizes.first() < sizes.last(), "it wrote meanwhile: {sizes:?}");
    gateway.stop().await;
}

/// A gateway's folder with a log of its own, and the copies of the database that the cases begin from.
struct Scene {
    folder: Folder,
    key: String,
}

impl Scene {
    async fn prepare() -> Self {
        let folder = Folder::prepare(Script::TakeOnly);
        let key = read_key(&folder).verifying_key().to_string();
        let scene = Self { folder, key };
        scene.append_until(OLD_SIZE).await;
        fs::copy(scene.folder.database(), scene.folder.file("old.db")).unwrap();
        scene.append_until(SIZE).await;
        fs::copy(scene.folder.database(), scene.folder.file("sound.db")).unwrap();
        let head = scene.checkpoint().await;
        // What the gateway would have kept, and what an auditor would have.
        fs::write(scene.folder.file("checkpoint"), &head).unwrap();
        fs::write(scene.folder.file("earlier"), head).unwrap();
        scene
    }

    /// Appends by the log's own writer, without a gateway around it.
    async fn append_until(&self, size: u64) {
        let store = Store::open(&self.folder.database(), Sealer::new(&[7; 32])).await.unwrap();
        let opened =
            audit_log::open(Arc::new(store.clone()), read_key(&self.folder), Clock::system(), 1024, None)
                .await
                .unwrap();
        for _ in opened.log.head().size..size {
            let now = Clock::system().now();
            let id = entropy::uuid_v7(now);
            let entry =
                Entry::new(id, Phase::Read, now, "legalaid.exchange.v1.AuditService", "GetEntry", "test");
            opened.log.append(entry, Salt(entropy::bytes()), Vec::new()).await.unwrap();
        }
        drop(opened.log);
        opened.writer.await.unwrap();
        store.close().await;
    }

    async fn checkpoint(&self) -> String {
        let mut connection = log::connect(&self.folder.database()).await;
        let note = sqlx::query_scalar("SELECT checkpoint FROM audit_head").fetch_one(&mut connection).await;
        connection.close().await.unwrap();
        note.unwrap()
    }

    fn restore(&self, copy: &str) {
        for name in ["gateway.db-wal", "gateway.db-shm"] {
            let _ = fs::remove_file(self.folder.file(name));
        }
        fs::copy(self.folder.file(copy), self.folder.database()).unwrap();
        // A gateway that started has kept its own.
        fs::copy(self.folder.file("earlier"), self.folder.file("checkpoint")).unwrap();
    }

    async fn tamper(&self, name: &str) {
        if name == "an old backup restored" {
            return self.restore("old.db");
        }
        let mut connection = log::connect(&self.folder.database()).await;
        let database = &mut connection;
        match name {
            "one bit" => flip_a_bit(database, 300).await,
            "one bit near the end" => flip_a_bit(database, 690).await,
            "a row deleted" => execute(database, "DELETE FROM audit_entries WHERE idx = 300").await,
            "two rows swapped" => {
                execute(database, "UPDATE audit_entries SET idx = -1 WHERE idx = 300").await;
                execute(database, "UPDATE audit_entries SET idx = 300 WHERE idx = 450").await;
                execute(database, "UPDATE audit_entries SET idx = 450 WHERE idx = -1").await;
            }
            "a row inserted" => {
                execute(database, "UPDATE audit_entries SET idx = -idx - 1 WHERE idx >= 300").await;
                execute(database, "UPDATE audit_entries SET idx = -idx WHERE idx < 0").await;
                let copy =
                    "INSERT INTO audit_entries SELECT 300, entry, salt FROM audit_entries WHERE idx = 7";
                execute(database, copy).await;
            }
            "a row deleted and the rest renumbered" => {
                execute(database, "DELETE FROM audit_entries WHERE idx = 300").await;
                execute(database, "UPDATE audit_entries SET idx = -idx + 1 WHERE idx > 300").await;
                execute(database, "UPDATE audit_entries SET idx = -idx WHERE idx < 0").await;
            }
            "the tail cut" => execute(database, "DELETE FROM audit_entries WHERE idx >= 650").await,
            "a hash in a tile of leaf hashes" => change_hash(database, (0, 1), 5).await,
            "a hash in a higher tile" => change_hash(database, (1, 0), 1).await,
            "an entry and all tiles rewritten, unsigned" => {
                flip_a_bit(database, 300).await;
                rewrite_tiles(database).await;
            }
            "the head's root" => execute(database, "UPDATE audit_head SET root = zeroblob(32)").await,
            "a checkpoint of another log" => {
                let stranger = SigningKey::from_seed("other.example/audit", &[9; 32]).unwrap();
                let root = root(database).await;
                let origin = stranger.name().to_owned();
                let checkpoint = Checkpoint { origin, size: SIZE, root, extensions: Vec::new() };
                put_checkpoint(database, checkpoint.sign(&stranger).unwrap()).await;
            }
            "a checkpoint with the wrong origin" => {
                let text = format!("other.example/audit\n{SIZE}\n{}\n", root(database).await.to_base64());
                put_checkpoint(database, sign(&read_key(&self.folder), &text)).await;
            }
            _ => panic!("nobody knows how to do {name}"),
        }
        connection.close().await.unwrap();
    }

    async fn expect_sound(&self) {
        let said = self.run(&["audit", "fsck", "--config", "gateway.toml"], 0).await;
        assert!(said.contains("the stored log is sound") && said.contains("700 entries"), "{said}");
        assert!(said.contains("1 kept checkpoint(s) are contained"), "{said}");
        assert!(self.verify(0).await.contains("the log is sound"));
    }

    async fn verify(&self, code: i32) -> String {
        let arguments = ["audit", "verify", "gateway.db", "--key", &self.key, "--checkpoint", "earlier"];
        self.run(&arguments, code).await
    }

    async fn run(&self, arguments: &[&str], code: i32) -> String {
        let output = self.folder.run(arguments).await;
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert_eq!(output.status.code(), Some(code), "{arguments:?} said {said}");
        said
    }
}

#[track_caller]
fn expect(case: &Case, who: &str, said: &str, wanted: &[&str]) {
    for wanted in wanted {
        assert!(said.contains(wanted), "{}: {who} does not say {wanted:?}, but: {said}", case.name);
    }
}

fn read_key(folder: &Folder) -> SigningKey {
    SigningKey::parse(fs::read_to_string(folder.file("keys/log.key")).unwrap().trim()).unwrap()
}

/// A signed note of any text: the log's own code would not sign one of another origin.
fn sign(key: &SigningKey, text: &str) -> String {
    let encoded = key.encode();
    let secret = BASE64.decode(encoded.splitn(5, '+').nth(4).unwrap().as_bytes()).unwrap();
    let pair = Ed25519KeyPair::from_seed_unchecked(&secret[1..]).unwrap();
    let hash = key.verifying_key().key_hash().to_be_bytes();
    let signature = BASE64.encode(&[&hash, pair.sign(text.as_bytes()).as_ref()].concat());
    format!("{text}\n— {} {signature}\n", key.name())
}

async fn execute(database: &mut SqliteConnection, statement: &'static str) {
    let changed = sqlx::query(statement).execute(database).await.unwrap();
    assert!(changed.rows_affected() > 0, "{statement}");
}

async fn flip_a_bit(database: &mut SqliteConnection, index: i64) {
    let mut entry: Vec<u8> = sqlx::query_scalar("SELECT entry FROM audit_entries WHERE idx = $1")
        .bind(index)
        .fetch_one(&mut *database)
        .await
        .unwrap();
    // In the method's name, so that it stays canonical JSON.
    let place = entry.windows(8).position(|bytes| bytes == b"GetEntry").unwrap();
    entry[place] ^= 1;
    let change = sqlx::query("UPDATE audit_entries SET entry = $1 WHERE idx = $2").bind(entry).bind(index);
    change.execute(database).await.unwrap();
}

async fn change_hash(database: &mut SqliteConnection, (level, index): (i64, i64), place: usize) {
    let mut hashes: Vec<u8> =
        sqlx::query_scalar("SELECT hashes FROM audit_tiles WHERE level = $1 AND idx = $2")
            .bind(level)
            .bind(index)
            .fetch_one(&mut *database)
            .await
            .unwrap();
    hashes[place * 32] ^= 1;
    put_tile(database, level, index, hashes).await;
}

async fn put_tile(database: &mut SqliteConnection, level: i64, index: i64, hashes: Vec<u8>) {
    let change = sqlx::query("UPDATE audit_tiles SET hashes = $1 WHERE level = $2 AND idx = $3");
    change.bind(hashes).bind(level).bind(index).execute(database).await.unwrap();
}

async fn put_checkpoint(database: &mut SqliteConnection, note: String) {
    sqlx::query("UPDATE audit_head SET checkpoint = $1").bind(note).execute(database).await.unwrap();
}

async fn root(database: &mut SqliteConnection) -> Hash {
    let root: Vec<u8> = sqlx::query_scalar("SELECT root FROM audit_head").fetch_one(database).await.unwrap();
    Hash::from_slice(&root).unwrap()
}

/// Makes tiles and head fit the entries, as somebody would who has everything but the key.
async fn rewrite_tiles(database: &mut SqliteConnection) {
    let entries = sqlx::query("SELECT entry FROM audit_entries ORDER BY idx").fetch_all(&mut *database).await;
    let mut tree = TileWriter::new();
    for row in entries.unwrap() {
        tree.append(leaf_hash(row.get(0)));
    }
    for (tile, hashes) in tree.take_dirty() {
        let bytes = hashes.iter().flat_map(|hash| *hash.as_bytes()).collect();
        put_tile(database, tile.level.into(), i64::try_from(tile.index).unwrap(), bytes).await;
    }
    let change = sqlx::query("UPDATE audit_head SET root = $1").bind(tree.root().as_bytes().to_vec());
    change.execute(database).await.unwrap();
}
