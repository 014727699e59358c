//! What the gateway refuses to start with and what it says then, and that it stops when it is told to.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::setup::purposes;
use legal_aid_gateway::simulator::court::Script;
use sqlx::Connection as _;
use support::{BEGINNING, DEADLINE, Folder, Gateway, Refused, log};

/// Files of an SQLite database in write-ahead mode.
const DATABASE_FILES: [&str; 3] = ["gateway.db", "gateway.db-wal", "gateway.db-shm"];

#[tokio::test]
async fn a_database_older_than_the_checkpoint_kept_beside_it_is_refused_as_a_restored_backup() {
    let folder = folder_with_a_log(3).await;
    fs::create_dir(folder.file("backup")).unwrap();
    fs::copy(folder.database(), folder.file("backup/gateway.db")).unwrap();
    write_entries(&folder, 2).await;
    for name in DATABASE_FILES {
        let _ = fs::remove_file(folder.file(name));
    }
    fs::copy(folder.file("backup/gateway.db"), folder.database()).unwrap();
    let refused = refused(&folder).await;
    assert!(refused.said.contains("restored backup"), "{refused:?}");
    assert!(
        refused.said.contains(&format!(
            "covers {} entries, the database has {}",
            BEGINNING + 5,
            BEGINNING + 3
        )),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_lost_database_is_refused_as_a_restored_backup_and_not_begun_anew() {
    let folder = folder_with_a_log(3).await;
    for name in DATABASE_FILES {
        let _ = fs::remove_file(folder.file(name));
    }
    let refused = refused(&folder).await;
    assert!(
        refused.said.contains(&format!("covers {} entries, the database has 0", BEGINNING + 3)),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_changed_byte_in_an_entry_near_the_end_is_refused_with_its_index() {
    let folder = folder_with_a_log(5).await;
    tamper(
        &folder,
        "UPDATE audit_entries SET entry = CAST(replace(CAST(entry AS TEXT), '\"OK\"', '\"Ok\"') AS BLOB) \
         WHERE idx = 16",
    )
    .await;
    let refused = refused(&folder).await;
    assert!(refused.said.contains("entry 16 is not the one that was signed"), "{refused:?}");
}

#[tokio::test]
async fn a_log_without_its_last_entry_is_refused() {
    let folder = folder_with_a_log(5).await;
    tamper(&folder, "DELETE FROM audit_entries WHERE idx = 17").await;
    let refused = refused(&folder).await;
    assert!(refused.said.contains("entry 17 is missing"), "{refused:?}");
}

#[tokio::test]
async fn a_log_with_an_entry_too_many_is_refused() {
    let folder = folder_with_a_log(5).await;
    tamper(&folder, "INSERT INTO audit_entries SELECT 18, entry, salt FROM audit_entries WHERE idx = 17")
        .await;
    let refused = refused(&folder).await;
    assert!(refused.said.contains("entry 18 lies beyond the signed size 18"), "{refused:?}");
}

#[tokio::test]
async fn another_log_key_than_the_one_that_signed_is_refused() {
    let folder = folder_with_a_log(2).await;
    let other = Folder::prepare(Script::TakeOnly);
    fs::copy(other.file("keys/log.key"), folder.file("keys/log.key")).unwrap();
    let refused = refused(&folder).await;
    assert!(refused.said.contains("does not verify under the log key"), "{refused:?}");
    assert!(refused.said.contains("keys and database belong together"), "{refused:?}");
}

#[tokio::test]
async fn a_key_file_that_others_can_read_is_refused_with_its_remedy() {
    for key in ["keys/log.key", "keys/body.key", "keys/pseudonym.key", "tls/gateway.key.pem"] {
        let folder = Folder::prepare(Script::TakeOnly);
        fs::set_permissions(folder.file(key), fs::Permissions::from_mode(0o644)).unwrap();
        let refused = refused(&folder).await;
        assert!(refused.said.contains("chmod 600") && refused.said.contains(key), "{refused:?}");
        assert!(!folder.database().exists(), "the database was made nevertheless");
    }
}

#[tokio::test]
async fn a_missing_key_file_is_refused_by_name() {
    let folder = Folder::prepare(Script::TakeOnly);
    fs::remove_file(folder.file("keys/body.key")).unwrap();
    let refused = refused(&folder).await;
    assert!(refused.said.contains("keys/body.key") && refused.said.contains("init"), "{refused:?}");
}

#[tokio::test]
async fn a_taken_port_is_refused_with_its_address() {
    let folder = Folder::prepare(Script::TakeOnly);
    let address = folder.client("centre").profile().gateway.address.clone();
    let _taken = std::net::TcpListener::bind(&address).unwrap();
    let refused = refused(&folder).await;
    assert!(refused.said.contains(&format!("cannot listen on {address}")), "{refused:?}");
    assert!(refused.said.contains("another gateway"), "{refused:?}");
    assert_eq!(refused.said.matches("in use").count(), 1, "a cause is told once: {refused:?}");
}

#[tokio::test]
async fn an_unknown_key_in_the_configuration_is_refused_by_name_and_line() {
    let folder = Folder::prepare(Script::TakeOnly);
    folder.reconfigure("# calls = 2048", "cals = 2048");
    let refused = refused(&folder).await;
    assert!(refused.said.contains("cals") && refused.said.contains("line"), "{refused:?}");
}

#[cfg(not(feature = "otlp"))]
#[tokio::test]
async fn traces_are_refused_by_a_build_that_cannot_send_them_with_the_one_that_can() {
    let folder = Folder::prepare(Script::TakeOnly);
    let endpoint = [("LEGAL_AID_GATEWAY__TRACES__ENDPOINT", "http://127.0.0.1:4317")];
    let refused = Gateway::try_start(&folder, &endpoint).await.err().expect("it does not start");
    assert!(refused.said.contains("--features otlp") && refused.said.contains("[traces]"), "{refused:?}");
    assert!(!folder.database().exists(), "the database was made nevertheless");
}

#[tokio::test]
async fn a_missing_configuration_is_refused_with_what_makes_one() {
    let folder = Folder::prepare(Script::TakeOnly);
    fs::remove_file(folder.file("gateway.toml")).unwrap();
    let refused = refused(&folder).await;
    assert!(refused.said.contains("gateway.toml") && refused.said.contains("init"), "{refused:?}");
}

/// Its REQUESTs would be closed as interrupted while it carries them out, and two writers would sign one log.
#[tokio::test]
async fn a_second_gateway_on_the_same_database_is_refused_and_leaves_the_log_of_the_first_alone() {
    let folder = Folder::prepare(Script::TakeOnly);
    // A registry that never answers keeps a REQUEST open.
    let registry = folder.file("simulate-registry.toml");
    let text = fs::read_to_string(&registry).unwrap();
    assert!(text.contains("behaviour = \"honest\""), "{text}");
    fs::write(&registry, text.replace("behaviour = \"honest\"", "behaviour = \"silent\"")).unwrap();
    let registry = folder.registry().await;
    let first = Gateway::start(&folder).await;
    let centre = folder.client("centre");
    let mut asked = registry.watch_calls();
    let (client, request) = (centre.clone(), folder.question(&centre));
    let answer = tokio::spawn(async move {
        let request = client.request(request, std::time::Duration::from_secs(4));
        client.verification().verify_low_income(request).await
    });
    asked.wait_for(|calls| *calls == 1).await.unwrap();

    // On the same port, and on another one, as a second configuration would have it.
    let elsewhere = [("LEGAL_AID_GATEWAY__GATEWAY__LISTEN", "127.0.0.1:0")];
    for environment in [&[][..], &elsewhere[..]] {
        let refused = Gateway::try_start(&folder, environment).await.err().expect("a second one is refused");
        assert_eq!(refused.exit_code, Some(1), "{refused:?}");
        assert!(refused.said.contains("another gateway"), "{refused:?}");
    }

    let answer = answer.await.unwrap().unwrap().into_inner();
    let result = answer.answer.unwrap().result();
    assert!(result == proto::VerificationResult::Unavailable, "{}", result.as_str_name());
    let log_key = first.log_key.clone();
    first.stop().await;
    let found = log::read(&folder.database(), &log_key, &[]).await;
    assert!(found.report.is_sound(), "{:?}", found.report.findings);
    assert_eq!(found.ends().into_values().collect::<Vec<_>>(), [[answer.audit.unwrap().log_index]]);
}

#[tokio::test]
async fn a_gateway_with_nothing_in_progress_stops_well_within_the_drain_limit() {
    let folder = folder_with_a_log(1).await;
    let gateway = Gateway::start(&folder).await;
    let auditor = folder.client("auditor");
    let request = proto::GetCheckpointRequest { context: Some(auditor.context(purposes::AUDIT_INSPECTION)) };
    auditor.audit().get_checkpoint(auditor.request(request, DEADLINE)).await.unwrap();
    // The client stays connected: an idle connection is nothing in progress. The limit is ten seconds.
    let stopped = tokio::time::timeout(std::time::Duration::from_secs(5), gateway.stop()).await;
    assert!(stopped.is_ok(), "it waited for something");
}

/// A folder whose gateway ran, wrote so many entries, and stopped in order.
async fn folder_with_a_log(entries: u64) -> Folder {
    let folder = Folder::prepare(Script::TakeOnly);
    write_entries(&folder, entries).await;
    folder
}

async fn write_entries(folder: &Folder, entries: u64) {
    let gateway = Gateway::start(folder).await;
    let auditor = folder.client("auditor");
    for _ in 0..entries {
        let request =
            proto::GetCheckpointRequest { context: Some(auditor.context(purposes::AUDIT_INSPECTION)) };
        auditor.audit().get_checkpoint(auditor.request(request, DEADLINE)).await.unwrap();
    }
    gateway.stop().await;
}

async fn refused(folder: &Folder) -> Refused {
    let refused = Gateway::try_start(folder, &[]).await.err().expect("it does not start");
    assert_eq!(refused.exit_code, Some(1), "{refused:?}");
    assert!(refused.said.contains("error: "), "{refused:?}");
    refused
}

async fn tamper(folder: &Folder, statement: &'static str) {
    let mut connection = log::connect(&folder.database()).await;
    let changed = sqlx::query(statement).execute(&mut connection).await.unwrap();
    assert_eq!(changed.rows_affected(), 1);
    connection.close().await.unwrap();
}
