//! Erasure and retention: what is erased is in no file any more, what is pruned is still proven, and the log verifies
//! after each and says what happened.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod district;
mod support;

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use data_encoding::HEXLOWER;
use district::records::{self, Contents};
use district::{Scene, answer, get};
use legal_aid_gateway::audit::cosignature::CosigningKey;
use legal_aid_gateway::audit::entry::Entry;
use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::config::Database;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::grpc::proto::erase_records_request::Target;
use legal_aid_gateway::grpc::proto::response::Kind as Arm;
use legal_aid_gateway::setup::{NOT_ON_THE_REGISTER, ON_THE_REGISTER, codes, purposes};
use legal_aid_gateway::simulator::court::Script;
use legal_aid_gateway::simulator::district::District;
use support::{Folder, Gateway, log};

/// How long a removal may take.
const PATIENCE: Duration = Duration::from_secs(60);

const SUBJECT: [&str; 6] =
    ["--basis", "个人信息保护法 47", "--ground", "CONSENT_WITHDRAWN", "--approval", "GZ-2026/17"];

#[tokio::test]
async fn after_erasing_a_person_no_file_holds_a_salt_or_a_body_and_the_log_verifies() {
    let scene = Scene::start().await;
    let key = scene.district.gateway.log_key().to_string();
    scene.verify(&scene.question()).await.unwrap();
    let mut other = scene.question();
    let asked = other.query.as_mut().unwrap().subject.as_mut().unwrap();
    (asked.name, asked.id_number) = (NOT_ON_THE_REGISTER.0.to_owned(), NOT_ON_THE_REGISTER.1.to_owned());
    let of_other = scene.verify(&other).await.unwrap().audit.unwrap().log_index;
    let exchange = scene.submit(&scene.fee_waiver()).await.unwrap().exchange.unwrap();
    let submitted =
        scene.entries(proto::EntryFilter { method: "SubmitExchange".into(), ..Default::default() }).await;
    let submission = submitted[0].0.to_string();

    // A party opens its own request, and neither another field nor another's entry.
    let own = ["audit", "open", &submission, "--as", "centre.toml", "--purpose", "FEE_WAIVER", "--field"];
    let opened = run(&scene, &[&own[..], &["request"]].concat()).await;
    assert!(said(&opened).contains("request: proven"), "{opened:?}");
    let opened = run(&scene, &[&own[..], &["subject"]].concat()).await;
    assert!(said(&opened).contains("NOT_FOUND"), "{opened:?}");
    let foreign =
        ["audit", "open", "0", "--as", "court.toml", "--purpose", "FEE_WAIVER", "--field", "request"];
    let opened = run(&scene, &foreign).await;
    assert!(said(&opened).contains("NOT_FOUND"), "{opened:?}");
    let opening =
        ["audit", "open", &submission, "--as", "auditor.toml", "--field", "request", "--field", "subject"];
    let opened = run(&scene, &[&opening[..], &["--save", "opened.json"]].concat()).await;
    assert!(said(&opened).contains("request: proven"), "{opened:?}");
    assert!(said(&opened).contains("subject: not opened: the gateway does not keep the value"), "{opened:?}");
    std::fs::write(scene.folder.join("document"), format!("resident-id:{}", ON_THE_REGISTER.1)).unwrap();
    let offline = run(&scene, &["audit", "open", "--check", "opened.json", "--value", "document"]).await;
    assert!(
        said(&offline).contains("subject: proven") && said(&offline).contains("request: proven"),
        "{offline:?}"
    );

    // While the exchange runs, it is named and nothing happens.
    std::fs::write(
        scene.folder.join("person.json"),
        format!(r#"{{"idKind": "ID_KIND_RESIDENT_ID", "idNumber": "{}"}}"#, ON_THE_REGISTER.1),
    )
    .unwrap();
    let erase =
        [&["audit", "erase", "--as", "operator.toml", "--subject", "person.json"], &SUBJECT[..]].concat();
    let refused = run(&scene, &erase).await;
    assert!(!refused.status.success() && said(&refused).contains(&exchange.exchange_id), "{refused:?}");
    let withdrawal = Arm::Withdrawal(proto::Withdrawal { reason: "和解".to_owned() });
    district::respond(&scene.centre, &answer(&scene.centre, &exchange, withdrawal)).await.unwrap();

    let secrets = secrets(&scene.database(), of_other).await;
    assert!(secrets.erased.len() >= 8, "{} secrets", secrets.erased.len());
    let before = found(&scene, &secrets.erased);
    assert_eq!(before.len(), secrets.erased.len(), "what is looked for is there before");

    let counted = until_taken_over(&scene, &[&erase[..], &["--dry-run"]].concat()).await;
    assert!(said(&counted).contains("would be erased"), "{counted:?}");
    assert_eq!(found(&scene, &secrets.erased).len(), before.len(), "a dry run leaves all");
    let erased = run(&scene, &erase).await;
    assert!(erased.status.success() && said(&erased).contains("1 exchanges"), "{erased:?}");

    assert_eq!(found(&scene, &secrets.erased), Vec::<usize>::new(), "still in a file");
    assert_eq!(found(&scene, &secrets.kept).len(), secrets.kept.len(), "another person's salts stay");
    let clear: Vec<Vec<u8>> =
        [ON_THE_REGISTER.0, ON_THE_REGISTER.1].map(|text| text.as_bytes().to_vec()).into();
    assert_eq!(found(&scene, &clear), Vec::<usize>::new(), "in the clear");

    let shown = get(&scene.centre, &exchange.exchange_id).await.unwrap().exchange.unwrap();
    assert!(shown.thread.is_empty() && shown.erase_time.is_some() && !shown.erased_by.is_empty());
    let opened = run(&scene, &opening).await;
    assert!(said(&opened).contains("its salt is gone: erased on"), "{opened:?}");
    let late = Arm::Withdrawal(proto::Withdrawal { reason: "再次".to_owned() });
    let late = district::respond(&scene.centre, &answer(&scene.centre, &exchange, late)).await.err().unwrap();
    assert!(late.message().contains("erased"), "{late:?}");

    let scene = scene.restart().await;
    let database = records::name(&scene.database());
    let verified = run(&scene, &["audit", "verify", &database, "--key", &key]).await;
    assert!(verified.status.success() && said(&verified).contains("erased on"), "{verified:?}");
    let checked = run(&scene, &["audit", "fsck", &database, "--key", &key]).await;
    assert!(checked.status.success() && said(&checked).contains("erased on"), "{checked:?}");
    let again = run(&scene, &erase).await;
    // Only what the earlier calls themselves left, such as their commitment to the person.
    assert!(again.status.success() && said(&again).contains(" 0 exchanges"), "{again:?}");
    let removed = format!("UPDATE audit_entries SET salt = NULL WHERE idx = {of_other}");
    records::execute(&scene.database(), &removed).await;
    let verified = run(&scene, &["audit", "verify", &database, "--key", &key]).await;
    let untold = format!("salts of entries {of_other} to {of_other} are gone, and no entry of the log says");
    assert!(!verified.status.success() && said(&verified).contains(&untold), "{verified:?}");
    let checked = run(&scene, &["audit", "fsck", &database, "--key", &key]).await;
    let untold = format!("entry {of_other}: salts of it and those up to {of_other} are gone");
    assert!(!checked.status.success() && said(&checked).contains(&untold), "{checked:?}");
    scene.stop().await;
}

#[tokio::test]
async fn an_erasure_that_a_kill_cut_short_is_done_after_the_next_start() {
    let folder = Folder::prepare(Script::TakeOnly);
    let _registry = folder.registry().await;
    let mut gateway = Gateway::start(&folder).await;
    let key = gateway.log_key.clone();
    let (centre, operator) = (folder.client("centre"), folder.client("operator"));
    for _ in 0..40 {
        let question = folder.question(&centre);
        centre.verification().verify_low_income(centre.request(question, support::DEADLINE)).await.unwrap();
    }
    for pause in [0, 20, 60, 1100, 1300] {
        let request = proto::EraseRecordsRequest {
            context: Some(operator.context(purposes::RECORDS_MANAGEMENT)),
            target: Some(Target::Subject(proto::ErasedSubject {
                id_kind: proto::IdKind::ResidentId.into(),
                id_number: ON_THE_REGISTER.1.to_owned(),
            })),
            legal_basis: vec![district::basis("个人信息保护法", "47")],
            ground: proto::ErasureGround::PurposeAchieved.into(),
            ..Default::default()
        };
        operator.audit().erase_records(operator.request(request, support::DEADLINE)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(pause)).await;
        gateway.kill().await;
        gateway = Gateway::start(&folder).await;
        let open = "SELECT COUNT(*) FROM removals WHERE state <> 'DONE'";
        let done = async {
            while count(&folder.database(), open).await > 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(PATIENCE, done).await.expect("the removal ends after the start");
        let left = "SELECT COUNT(*) FROM audit_entries WHERE length(salt) > 16 \
                    AND instr(CAST(entry AS TEXT), '\"method\":\"VerifyLowIncome\"') > 0";
        assert_eq!(count(&folder.database(), left).await, 0);
        assert_eq!(
            count(
                &folder.database(),
                "SELECT COUNT(*) FROM outcomes o JOIN audit_entries e \
             ON e.idx = o.request_index AND instr(CAST(e.entry AS TEXT), 'VerifyLowIncome') > 0"
            )
            .await,
            0
        );
    }
    gateway.stop().await;
    let verified = folder.run(&["audit", "verify", "gateway.db", "--key", &key]).await;
    assert!(verified.status.success() && said(&verified).contains("erased on"), "{verified:?}");
}

#[tokio::test]
async fn what_is_past_its_retention_is_pruned_and_the_log_is_proven_as_before() {
    let temporary = tempfile::tempdir().unwrap();
    let (old, new) = (temporary.path().join("old"), temporary.path().join("new"));
    let four_years_ago = jiff::Timestamp::from_second(Clock::system().now().as_second() - 4 * 366 * 86_400);
    let then = Clock::moved_by_hand(four_years_ago.unwrap());
    let district = District::start(&old, Script::TakeOnly, then).await.unwrap();
    let (centre, auditor) = (district.client("centre").unwrap(), district.client("auditor").unwrap());
    let mut with_paper = district::fee_waiver(&old, &centre);
    with_paper.envelope.as_mut().unwrap().attachments.push(upload_paper(&centre).await);
    let exchange = district::submit(&centre, &with_paper).await.unwrap().exchange.unwrap();
    let running =
        district::submit(&centre, &district::fee_waiver(&old, &centre)).await.unwrap().exchange.unwrap();
    let withdrawal = Arm::Withdrawal(proto::Withdrawal { reason: "和解".to_owned() });
    district::respond(&centre, &answer(&centre, &exchange, withdrawal)).await.unwrap();
    for _ in 0..300 {
        let request =
            proto::GetCheckpointRequest { context: Some(auditor.context(purposes::AUDIT_INSPECTION)) };
        auditor.audit().get_checkpoint(auditor.request(request, district::DEADLINE)).await.unwrap();
    }
    let delivered = async {
        while count(&old.join("gateway.db"), "SELECT COUNT(*) FROM deliveries WHERE state <> 'DELIVERED'")
            .await
            > 0
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, delivered).await.expect("the court takes its messages");
    assert_eq!(count(&old.join("gateway.db"), "SELECT COUNT(*) FROM attachments").await, 1);
    district.stop().await;
    let earlier = std::fs::read_to_string(old.join("checkpoint")).unwrap();

    District::prepare(&new, Script::TakeOnly, &Clock::system()).unwrap();
    bring_forward(&old, &new);
    std::fs::write(new.join("earlier"), earlier).unwrap();
    let prune = ["audit", "prune", "--as", "operator.toml"];
    // While a witness is needed that has cosigned nothing yet, no entry goes.
    let settings = std::fs::read_to_string(new.join("gateway.toml")).unwrap();
    let witness = CosigningKey::from_seed("witness.example", &[3; 32]).unwrap();
    let policy = format!(
        "{settings}\n[audit.witnesses]\nquorum = 1\n[[audit.witnesses.witness]]\nkey = \"{}\"\nagency = \"{}\"\n\
         address = \"127.0.0.1:1\"\nserver_name = \"localhost\"\n",
        witness.cosigner_key(),
        codes::COURT
    );
    std::fs::write(new.join("gateway.toml"), policy).unwrap();
    let district = District::open(&new, Clock::system()).await.unwrap();
    let counted = run_in(&new, &[&prune[..], &["--dry-run"]].concat()).await;
    assert!(said(&counted).contains("0 entries and 1 exchanges"), "{counted:?}");
    district.stop().await;
    std::fs::write(new.join("gateway.toml"), settings).unwrap();
    let district = District::open(&new, Clock::system()).await.unwrap();
    let key = district.gateway.log_key().to_string();
    let counted = run_in(&new, &[&prune[..], &["--dry-run"]].concat()).await;
    assert!(said(&counted).contains("1 exchanges or verifications would be pruned"), "{counted:?}");
    let pruned = run_in(&new, &prune).await;
    assert!(pruned.status.success(), "{pruned:?}");
    let database = new.join("gateway.db");
    let bytes = "SELECT COUNT(*) FROM audit_entries WHERE length(entry) = 0 AND salt IS NULL";
    let gone = count(&database, bytes).await;
    assert!(
        (200..=256).contains(&gone),
        "{gone} pruned: whole tiles only, and not what the running exchange named"
    );
    assert_eq!(count(&database, "SELECT COUNT(*) FROM exchanges").await, 1);
    assert_eq!(count(&database, "SELECT COUNT(*) FROM messages").await, 1);
    for papers in ["SELECT COUNT(*) FROM attachments", "SELECT COUNT(*) FROM attachment_chunks"] {
        assert_eq!(count(&database, papers).await, 0, "papers go with their exchange");
    }
    let centre = district.client("centre").unwrap();
    assert!(get(&centre, &running.exchange_id).await.unwrap().exchange.unwrap().thread.len() == 1);
    assert_eq!(get(&centre, &exchange.exchange_id).await.err().unwrap().code(), tonic::Code::NotFound);

    district.stop().await;
    let district = District::open(&new, Clock::system()).await.unwrap();
    let verify = ["audit", "verify", "gateway.db", "--key", &key, "--checkpoint", "earlier"];
    let verified = run_in(&new, &verify).await;
    assert!(verified.status.success() && said(&verified).contains("past retention"), "{verified:?}");
    assert!(said(&verified).contains("1 earlier checkpoint(s) are contained"), "{verified:?}");
    let index =
        sole(&database, "SELECT MIN(idx) FROM audit_entries WHERE length(entry) = 0").await.to_string();
    let show = ["audit", "show", &index, "--as", "auditor.toml", "--key", &key];
    let shown = run_in(&new, &show).await;
    assert!(said(&shown).contains("pruned on") && said(&shown).contains("tells of its removal"), "{shown:?}");
    // The table beside the log is not signed. Whoever changes it can hide which entry tells of the removal, and not
    // make the gateway say another thing than that entry.
    let removed =
        |shown: &Output| said(shown).lines().find(|line| line.contains("\"removed\"")).map(str::to_owned);
    let mut owner = log::connect(&database).await;
    for (lie, expected) in [
        (
            "UPDATE removed_entries SET removed_by = 'nobody', removed_us = 0, kind = 'SUBJECT'",
            removed(&shown),
        ),
        ("UPDATE removed_entries SET told_idx = 0", None),
    ] {
        sqlx::query(lie).execute(&mut owner).await.unwrap();
        let shown = run_in(&new, &show).await;
        assert!(shown.status.success() && removed(&shown) == expected, "{shown:?}");
    }
    sqlx::Connection::close(owner).await.unwrap();
    let exported = run_in(&new, &["audit", "export", "--as", "auditor.toml", "--out", "log.jsonl"]).await;
    assert!(exported.status.success(), "{exported:?}");
    let verified = run_in(&new, &["audit", "verify", "log.jsonl", "--key", &key]).await;
    assert!(verified.status.success() && said(&verified).contains("past retention"), "{verified:?}");
    let again = run_in(&new, &prune).await;
    assert!(said(&again).contains("0 entries and 0 exchanges"), "{again:?}");

    // What C2SP calls a bundle cannot be made of a pruned tile: what was kept of it stands beside.
    let export = ["audit", "export", "--as", "auditor.toml"];
    let exported = run_in(&new, &[&export[..], &["--tiles", "published"]].concat()).await;
    assert!(said(&exported).contains(&format!("{gone} pruned")), "{exported:?}");
    assert!(
        new.join("published/tile/kept/000").is_file() && !new.join("published/tile/entries/000").exists()
    );
    let verified = run_in(&new, &["audit", "verify", "published", "--key", &key]).await;
    assert!(verified.status.success() && said(&verified).contains("past retention"), "{verified:?}");
    let (auditor, purpose) = (district.client("auditor").unwrap(), purposes::AUDIT_INSPECTION);
    let request = proto::GetEntriesRequest { context: Some(auditor.context(purpose)), first: 0, count: 300 };
    let entries = auditor.audit().get_entries(auditor.request(request, district::DEADLINE)).await.unwrap();
    let entries = entries.into_inner().entries;
    let without_bytes =
        entries.iter().filter(|stored| stored.entry.is_empty() && stored.leaf_hash.len() == 32);
    assert_eq!(without_bytes.count(), usize::try_from(gone).unwrap());
    let receipt = ["audit", "receipt", &index, "--as", "auditor.toml", "--out", "receipt"];
    let receipt = run_in(&new, &receipt).await;
    assert!(!receipt.status.success() && said(&receipt).contains("pruned past retention"), "{receipt:?}");
    for format in ["ocsf", "fhir", "csv", "jsonl"] {
        let exported = run_in(&new, &[&export[..], &["--format", format, "--out", format]].concat()).await;
        let skipped = said(&exported).contains(&format!("{gone} more were pruned"));
        assert!(exported.status.success() && skipped == (format != "jsonl"), "{exported:?}");
    }
    let found = run_in(&new, &["audit", "findings", "--as", "auditor.toml"]).await;
    assert!(found.status.success(), "{found:?}");
    district.stop().await;
    let fsck = ["audit", "fsck", "--config", "gateway.toml"];
    let checked = run_in(&new, &fsck).await;
    assert!(checked.status.success() && said(&checked).contains("past retention"), "{checked:?}");

    let mut connection = log::connect(&database).await;
    sqlx::query("UPDATE audit_entries SET entry = x'', salt = NULL WHERE idx = 290")
        .execute(&mut connection)
        .await
        .unwrap();
    let verified = run_in(&new, &verify).await;
    let untold = "the bytes of entries 290 to 290 are gone, and no entry of the log says";
    assert!(!verified.status.success() && said(&verified).contains(untold), "{verified:?}");
    let checked = run_in(&new, &fsck).await;
    let untold = "entry 290: the bytes of it and those up to 290 are gone, and no entry of the log says";
    assert!(!checked.status.success() && said(&checked).contains(untold), "{checked:?}");
}

#[tokio::test]
async fn a_pruning_that_a_kill_cut_short_is_done_after_the_next_start() {
    let old = tempfile::tempdir().unwrap();
    let old = old.path().join("old");
    let four_years_ago = jiff::Timestamp::from_second(Clock::system().now().as_second() - 4 * 366 * 86_400);
    let then = Clock::moved_by_hand(four_years_ago.unwrap());
    let district = District::start(&old, Script::TakeOnly, then).await.unwrap();
    let auditor = district.client("auditor").unwrap();
    // More than one step of a removal takes.
    for _ in 0..2_100 {
        let request =
            proto::GetCheckpointRequest { context: Some(auditor.context(purposes::AUDIT_INSPECTION)) };
        auditor.audit().get_checkpoint(auditor.request(request, district::DEADLINE)).await.unwrap();
    }
    district.stop().await;

    for pause in [0, 15, 40, 1050] {
        let folder = Folder::prepare(Script::TakeOnly);
        bring_forward(&old, folder.path());
        let gateway = Gateway::start(&folder).await;
        let key = gateway.log_key.clone();
        let operator = folder.client("operator");
        let request = proto::PruneLogRequest {
            context: Some(operator.context(purposes::RECORDS_MANAGEMENT)),
            dry_run: false,
        };
        operator.audit().prune_log(operator.request(request, support::DEADLINE)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(pause)).await;
        gateway.kill().await;
        let gateway = Gateway::start(&folder).await;
        let done = async {
            while count(&folder.database(), "SELECT COUNT(*) FROM removals WHERE state <> 'DONE'").await > 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(PATIENCE, done).await.expect("the removal ends after the start");
        gateway.stop().await;
        let gone = "SELECT COUNT(*) FROM audit_entries WHERE length(entry) = 0";
        assert!(count(&folder.database(), gone).await >= 2_048, "whole tiles of it");
        for check in [
            &["audit", "verify", "gateway.db", "--key", &key][..],
            &["audit", "fsck", "--config", "gateway.toml"],
        ] {
            let checked = folder.run(check).await;
            assert!(checked.status.success() && said(&checked).contains("past retention"), "{checked:?}");
        }
    }
}

#[tokio::test]
async fn a_rotated_pseudonym_key_is_an_entry_and_finds_who_was_named_before() {
    let scene = Scene::start().await;
    scene.verify(&scene.question()).await.unwrap();
    let keys = scene.folder.join("keys");
    std::fs::rename(keys.join("pseudonym.key"), keys.join("earlier.key")).unwrap();
    write_key(&keys.join("pseudonym.key"), "7e");
    let path = scene.folder.join("gateway.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace(
        "# pseudonym_earlier = [\"keys/pseudonym-2026.key\"]",
        "pseudonym_earlier = [\"keys/earlier.key\"]",
    );
    std::fs::write(&path, text).unwrap();
    let scene = scene.restart().await;
    let rotations = proto::EntryFilter { method: "RotatePseudonymKey".into(), ..Default::default() };
    assert_eq!(scene.entries(rotations).await.len(), 1);
    scene.verify(&scene.question()).await.unwrap();
    let asked = proto::EntryFilter {
        method: "VerifyLowIncome".into(),
        phase: "REQUEST".into(),
        ..Default::default()
    };
    let subjects: Vec<_> = scene.entries(asked).await.into_iter().map(|(_, entry)| entry.subject).collect();
    assert!(subjects.len() == 2 && subjects[0] != subjects[1], "{subjects:?}");
    std::fs::write(
        scene.folder.join("person.json"),
        format!(r#"{{"idKind": "ID_KIND_RESIDENT_ID", "idNumber": "{}"}}"#, ON_THE_REGISTER.1),
    )
    .unwrap();
    let erase =
        [&["audit", "erase", "--as", "operator.toml", "--subject", "person.json"], &SUBJECT[..]].concat();
    let erased = run(&scene, &erase).await;
    // Both questions with their ends, and the erasure's own two entries.
    assert!(said(&erased).contains("6 entries"), "{erased:?}");
    // Another new key, and the one of before is not named: persons would be lost.
    write_key(&keys.join("pseudonym.key"), "8f");
    scene.district.stop().await;
    let error = match District::open(&scene.folder, scene.clock.clone()).await {
        Ok(_) => panic!("it starts without the key of before"),
        Err(error) => error.to_string(),
    };
    assert!(error.contains("pseudonym_earlier"), "{error}");
}

// ---- what the tests share ----------------------------------------------------------------------------------------

struct Secrets {
    erased: Vec<Vec<u8>>,
    kept: Vec<Vec<u8>>,
}

/// Puts a log of long ago, with its keys, into a folder of today: certificates end in a year.
fn bring_forward(old: &Path, new: &Path) {
    for name in ["gateway.db", "checkpoint", "keys/log.key", "keys/body.key", "keys/pseudonym.key"] {
        std::fs::copy(old.join(name), new.join(name)).unwrap();
    }
    // The new folder's agreements are of other days than those that the database knows.
    let directory = std::fs::read_to_string(new.join("directory.toml")).unwrap();
    std::fs::write(new.join("directory.toml"), directory.replace("version = 1", "version = 2")).unwrap();
}

async fn upload_paper(centre: &AgencyClient) -> proto::Attachment {
    let paper = b"%PDF-1.7\n";
    let sha256 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, paper).as_ref().to_vec();
    let (size_bytes, media_type, name) = (paper.len() as i64, "application/pdf", "a.pdf");
    let upload = proto::UploadAttachmentRequest {
        context: Some(centre.context(purposes::FEE_WAIVER)),
        sha256: sha256.clone(),
        size_bytes,
        media_type: media_type.to_owned(),
        name: name.to_owned(),
        offset: 0,
        data: paper.to_vec(),
    };
    centre.attachments().upload_attachment(tonic::codegen::tokio_stream::iter([upload])).await.unwrap();
    proto::Attachment {
        sha256,
        name: name.to_owned(),
        media_type: media_type.to_owned(),
        size_bytes,
        form_number: String::new(),
    }
}

/// The salts and sealed bodies of all calls, those that end in the entry `of_other` apart.
async fn secrets(database: &Database, of_other: u64) -> Secrets {
    let bytes = |text: &String| HEXLOWER.decode(text.as_bytes()).unwrap();
    let hex = |column| records::hex(database, column);
    let query = format!(
        "SELECT CAST(idx AS TEXT), {}, {} FROM audit_entries ORDER BY idx",
        hex("entry"),
        hex("salt")
    );
    let mut secrets = Secrets { erased: Vec::new(), kept: Vec::new() };
    for row in records::rows(database, &query).await {
        let entry = Entry::from_json(&bytes(&row[1])).unwrap();
        let is_persons =
            ["VerifyLowIncome", "SubmitExchange", "RespondToExchange", "Deliver"].contains(&&*entry.method);
        let salt = bytes(&row[2]);
        let fields = salt[16..].chunks(16).map(<[u8]>::to_vec);
        if [of_other, of_other - 1].contains(&row[0].parse().unwrap()) {
            secrets.kept.extend(fields);
        } else if is_persons && entry.code.as_deref() != Some("FAILED_PRECONDITION") {
            secrets.erased.extend(fields);
        }
    }
    let query = format!(
        "SELECT {} FROM messages UNION ALL SELECT {} FROM outcomes o JOIN audit_entries e \
         ON e.idx = o.request_index WHERE {} LIKE '%{}%'",
        hex("message"),
        hex("response"),
        hex("e.entry"),
        HEXLOWER.encode(b"SubmitExchange")
    );
    // A part that lies on one page: a long body is spread over several.
    let bodies = records::rows(database, &query).await;
    secrets.erased.extend(bodies.iter().map(|row| bytes(&row[0])[..48].to_vec()));
    secrets
}

/// Which of these the gateway's database or its checkpoint file holds.
fn found(scene: &Scene, wanted: &[Vec<u8>]) -> Vec<usize> {
    let contents = Contents::of(&scene.database());
    let checkpoint = std::fs::read(scene.folder.join("checkpoint")).unwrap_or_default();
    let is_there = |bytes: &Vec<u8>| contents.hold(bytes) || records::is_in(&checkpoint, bytes);
    wanted.iter().enumerate().filter(|(_, bytes)| is_there(bytes)).map(|(place, _)| place).collect()
}

/// Runs an erasure again while the other side has not taken over the last message.
async fn until_taken_over(scene: &Scene, arguments: &[&str]) -> Output {
    let trying = async {
        loop {
            let output = run(scene, arguments).await;
            if output.status.success() {
                return output;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(PATIENCE, trying).await.expect("the court takes the withdrawal")
}

async fn run(scene: &Scene, arguments: &[&str]) -> Output {
    run_in(&scene.folder, arguments).await
}

async fn run_in(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(support::BINARY);
    command.args(arguments).current_dir(folder).kill_on_drop(true);
    tokio::time::timeout(PATIENCE, command.output()).await.expect("the command ends").unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

async fn count(database: &Path, text: &'static str) -> i64 {
    sole(database, text).await
}

async fn sole(database: &Path, text: &'static str) -> i64 {
    let mut connection = log::connect(database).await;
    sqlx::query_scalar(text).fetch_one(&mut connection).await.unwrap()
}

fn write_key(path: &Path, byte: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, byte.repeat(32)).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
