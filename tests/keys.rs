//! Secret keys: where they come from, who can see them, and how that of bodies is rotated while the gateway serves.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;

use legal_aid_gateway::audit::entry::Entry;
use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::setup::purposes;
use legal_aid_gateway::simulator::court::Script;
use serde_json::Value;
use support::{DEADLINE, Folder, Gateway, PATIENCE, serve_command};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tonic_types::StatusExt as _;

/// The key files of a folder, as `init` makes it.
const KEYS: [&str; 4] = ["keys/log.key", "keys/body.key", "keys/pseudonym.key", "tls/gateway.key.pem"];

#[tokio::test]
async fn bodies_are_sealed_with_the_newest_key_and_earlier_ones_open_without_a_restart() {
    let folder = Folder::prepare(Script::TakeOnly);
    let gateway = Gateway::start_with(&folder, &[("RUST_LOG", "info")]).await;
    let centre = folder.client("centre");
    let before = submit(&folder, &centre).await;
    let rotated = json(&folder, &["keys", "rotate", "--config", "gateway.toml", "--json"]).await;
    assert_eq!(rotated["body"].as_array().unwrap().len(), 2);
    assert_eq!(fs::metadata(folder.file("keys/body.key")).unwrap().permissions().mode() & 0o777, 0o600);
    read_again(&gateway, 1).await;
    let after = submit(&folder, &centre).await;
    for exchange in [&before, &after] {
        read(&centre, exchange).await.unwrap();
    }
    gateway.stop().await;

    // Which key sealed which is seen when one of them is gone.
    let ring = fs::read_to_string(folder.file("keys/body.key")).unwrap();
    let (newest, earlier) = ring.split_once('\n').unwrap();
    for (key, opens, stays_shut) in [(newest, &after, &before), (earlier, &before, &after)] {
        fs::write(folder.file("keys/body.key"), key).unwrap();
        let gateway = Gateway::start(&folder).await;
        read(&centre, opens).await.unwrap();
        assert_eq!(read(&centre, stays_shut).await.err().unwrap().code(), tonic::Code::Internal);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn what_earlier_keys_sealed_is_sealed_anew_while_the_gateway_serves_and_then_they_can_go() {
    let folder = Folder::prepare(Script::TakeOnly);
    let gateway = Gateway::start_with(&folder, &[("RUST_LOG", "info")]).await;
    let centre = folder.client("centre");
    let exchange = submit(&folder, &centre).await;
    let reseal = ["keys", "reseal", "--retire", "--config", "gateway.toml", "--json"];
    let first = json(&folder, &reseal).await;
    assert_eq!((&first["resealed"], &first["retired"]), (&0.into(), &false.into()), "there is one key only");
    json(&folder, &["keys", "rotate", "--config", "gateway.toml", "--json"]).await;
    read_again(&gateway, 1).await;
    let found = json(&folder, &reseal).await;
    // The message, and the kept answer to its request.
    assert_eq!((&found["seen"], &found["resealed"], &found["retired"]), (&2.into(), &2.into(), &true.into()));
    read_again(&gateway, 2).await;
    assert_eq!(fs::read_to_string(folder.file("keys/body.key")).unwrap().lines().count(), 1);
    read(&centre, &exchange).await.unwrap();
    gateway.stop().await;

    // Without the key that sealed them, it says so, and changes nothing.
    fs::write(folder.file("keys/body.key"), "ab".repeat(32)).unwrap();
    let output = folder.run(&reseal).await;
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("2 bodies open with none of the keys"));
}

#[tokio::test]
async fn a_prepared_key_opens_on_every_gateway_before_the_first_seals_with_it() {
    let folder = Folder::prepare(Script::TakeOnly);
    let gateway = Gateway::start_with(&folder, &[("RUST_LOG", "info")]).await;
    let centre = folder.client("centre");
    let first = json(&folder, &["keys", "show", "--config", "gateway.toml", "--json"]).await;
    let prepared =
        json(&folder, &["keys", "rotate", "--prepare", "--config", "gateway.toml", "--json"]).await;
    assert_eq!((&prepared["body_prepared"], &prepared["body"][0]), (&true.into(), &first["body"][0]));
    read_again(&gateway, 1).await;
    let ring = fs::read_to_string(folder.file("keys/body.key")).unwrap();
    let exchange = submit(&folder, &centre).await;
    let rotated = json(&folder, &["keys", "rotate", "--config", "gateway.toml", "--json"]).await;
    assert_eq!(rotated["body"][0], prepared["body"][1], "the prepared one, and no third");
    read_again(&gateway, 2).await;
    let sealed_with_new = submit(&folder, &centre).await;
    gateway.stop().await;
    // As on another gateway, which has only the file as it was prepared.
    fs::write(folder.file("keys/body.key"), ring).unwrap();
    let gateway = Gateway::start(&folder).await;
    for exchange in [&exchange, &sealed_with_new] {
        read(&centre, exchange).await.unwrap();
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_key_file_without_the_key_that_seals_now_is_refused_and_the_keys_before_stay_in_force() {
    let folder = Folder::prepare(Script::TakeOnly);
    let gateway = Gateway::start(&folder).await;
    let centre = folder.client("centre");
    let exchange = submit(&folder, &centre).await;
    let good = fs::read_to_string(folder.file("keys/body.key")).unwrap();
    for bad in ["ab".repeat(32), "no key".to_owned()] {
        let said = gateway.said().matches("what was read before stays in force").count();
        fs::write(folder.file("keys/body.key"), bad).unwrap();
        until(|| gateway.said().matches("what was read before stays in force").count() > said).await;
        read(&centre, &exchange).await.unwrap();
    }
    assert!(gateway.said().contains("they would not open again; put it back"), "{}", gateway.said());
    fs::write(folder.file("keys/body.key"), good).unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn persons_are_named_by_a_new_key_without_a_restart_and_found_under_every_key_that_is_kept() {
    let folder = Folder::prepare(Script::TakeOnly);
    let gateway = Gateway::start_with(&folder, &[("RUST_LOG", "info")]).await;
    let centre = folder.client("centre");
    let question = folder.question(&centre);
    let person = question.query.as_ref().unwrap().subject.clone().unwrap();
    ask(&centre, folder.question(&centre)).await;
    let rotated =
        json(&folder, &["keys", "rotate", "--pseudonyms", "--config", "gateway.toml", "--json"]).await;
    until(|| gateway.said().contains("\"files\":\"pseudonym_keys\"")).await;
    ask(&centre, folder.question(&centre)).await;
    let of = |method: &str| proto::EntryFilter { method: method.to_owned(), ..Default::default() };
    let rotations = entries(&folder, of("RotatePseudonymKey")).await;
    let of = |method: &str| proto::EntryFilter { phase: "REQUEST".to_owned(), ..of(method) };
    let newest = rotated["pseudonym"][0].as_str().unwrap().to_uppercase();
    let [(rotation, told)] = &rotations[..] else { panic!("{rotations:?}") };
    assert_eq!(told.reason.as_deref(), Some(format!("KEY_{newest}").as_str()));
    let asked = entries(&folder, of("VerifyLowIncome")).await;
    let names = |later: bool| {
        let of_time = asked.iter().filter(|(index, _)| (index > rotation) == later);
        of_time.map(|(_, entry)| entry.subject.clone().unwrap()).collect::<BTreeSet<_>>()
    };
    let (before, after) = (names(false), names(true));
    assert!(before.len() == 1 && after.len() == 1 && before.is_disjoint(&after), "{before:?} {after:?}");
    let by_person = proto::EntryFilter {
        person: Some(proto::PersonFilter { id_kind: person.id_kind, id_number: person.id_number }),
        ..of("VerifyLowIncome")
    };
    assert_eq!(entries(&folder, by_person).await.len(), asked.len(), "found under both keys");
    gateway.stop().await;
}

#[tokio::test]
async fn a_gateway_without_the_key_that_another_names_by_goes_on_but_searches_for_no_person() {
    let folder = Folder::prepare(Script::TakeOnly);
    let gateway = Gateway::start_with(&folder, &[("RUST_LOG", "info")]).await;
    let centre = folder.client("centre");
    let person = folder.question(&centre).query.unwrap().subject.unwrap();
    let by_person = proto::EntryFilter {
        person: Some(proto::PersonFilter { id_kind: person.id_kind, id_number: person.id_number }),
        ..Default::default()
    };
    ask(&centre, folder.question(&centre)).await;
    assert!(!entries(&folder, by_person.clone()).await.is_empty());
    // As another gateway on the database leaves it, whose file has a key that this one's has not.
    let mut database = support::log::connect(&folder.database()).await;
    let adopt =
        "INSERT INTO pseudonym_keys SELECT 'ffffffffffffffff', MAX(adopted_us) + 1 FROM pseudonym_keys";
    sqlx::raw_sql(adopt).execute(&mut database).await.unwrap();
    ask(&centre, folder.question(&centre)).await;
    let refused = list(&folder, by_person.clone()).await.err().unwrap();
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    assert_eq!(refused.get_error_details().error_info().unwrap().reason, "PSEUDONYM_KEY_MISSING");
    let by_method = proto::EntryFilter { method: "VerifyLowIncome".into(), ..Default::default() };
    assert!(entries(&folder, by_method).await.len() >= 2, "what is not by person is found");
    // Nor is a changed file taken that lacks it.
    let rotate = ["keys", "rotate", "--pseudonyms", "--prepare", "--config", "gateway.toml", "--json"];
    json(&folder, &rotate).await;
    until(|| gateway.said().contains("by which persons are named now (ffffffffffffffff)")).await;
    ask(&centre, folder.question(&centre)).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_change_of_body_keys_is_an_entry_also_where_the_gateway_was_down_meanwhile() {
    let folder = Folder::prepare(Script::TakeOnly);
    let gateway = Gateway::start_with(&folder, &[("RUST_LOG", "info")]).await;
    let rotate = ["keys", "rotate", "--config", "gateway.toml", "--json"];
    let told = async |method: &str| {
        let of = proto::EntryFilter { method: method.to_owned(), ..Default::default() };
        let found = entries(&folder, of).await;
        found.into_iter().map(|(_, entry)| entry.reason.unwrap().into_owned()).collect::<Vec<_>>()
    };
    let name = |rotated: &Value, place: usize| {
        format!("KEY_{}", rotated["body"][place].as_str().unwrap().to_uppercase())
    };
    let first = json(&folder, &rotate).await;
    read_again(&gateway, 1).await;
    assert_eq!(told("RotateBodyKey").await, [name(&first, 0)]);
    json(&folder, &["keys", "reseal", "--retire", "--config", "gateway.toml", "--json"]).await;
    read_again(&gateway, 2).await;
    assert_eq!(told("RetireBodyKey").await, [name(&first, 1)]);
    gateway.stop().await;
    let second = json(&folder, &rotate).await;
    for _ in 0..2 {
        let gateway = Gateway::start(&folder).await;
        assert_eq!(told("RotateBodyKey").await, [name(&first, 0), name(&second, 0)], "once");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn keys_can_come_from_systemd_credentials() {
    let folder = Folder::prepare(Script::TakeOnly);
    let credentials = tempfile::tempdir().unwrap();
    for key in KEYS {
        let name = key.rsplit('/').next().unwrap();
        let handed_over = credentials.path().join(name);
        fs::rename(folder.file(key), &handed_over).unwrap();
        // As systemd leaves them: for the owner to read, and an access list whose mask shows as the group's.
        fs::set_permissions(&handed_over, fs::Permissions::from_mode(0o440)).unwrap();
        folder.reconfigure(&format!("\"{key}\""), &format!("\"credential:{name}\""));
    }
    let refused = Gateway::try_start(&folder, &[]).await.err().expect("nobody hands any over");
    assert!(refused.said.contains("LoadCredential=gateway.key.pem:FILE"), "{refused:?}");
    let there = [("CREDENTIALS_DIRECTORY", credentials.path().to_str().unwrap())];
    let gateway = Gateway::start_with(&folder, &there).await;
    let centre = folder.client("centre");
    read(&centre, &submit(&folder, &centre).await).await.unwrap();
    gateway.stop().await;

    fs::set_permissions(credentials.path().join("body.key"), fs::Permissions::from_mode(0o444)).unwrap();
    let refused = Gateway::try_start(&folder, &there).await.err().expect("everybody can read it");
    assert!(refused.said.contains("mode 444"), "{refused:?}");
    folder.reconfigure("credential:body.key", "credential:../body.key");
    let refused = Gateway::try_start(&folder, &there).await.err().expect("that is no name");
    assert!(refused.said.contains("no credential"), "{refused:?}");
}

#[tokio::test]
async fn a_crash_leaves_no_core_dump_unless_it_is_allowed_to() {
    let limits = |pid: u32| {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap().to_owned();
        line.split_whitespace().skip(4).take(2).collect::<Vec<_>>().join(" ")
    };
    let folder = Folder::prepare(Script::TakeOnly);
    let own = limits(std::process::id());
    let allowed = Gateway::start_with(&folder, &[("LEGAL_AID_GATEWAY__SECURITY__CORE_DUMPS", "true")]).await;
    assert_eq!(limits(allowed.pid()), own, "nothing is changed");
    allowed.stop().await;

    let mut child = serve_command(&folder, &[]).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    output.next_line().await.unwrap().expect("it listens");
    let pid = child.id().unwrap();
    assert_eq!(limits(pid), "0 0");
    let killed = tokio::process::Command::new("kill").args(["-ABRT", &pid.to_string()]).status().await;
    assert!(killed.unwrap().success());
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
    assert!(status.signal().is_some() && !status.core_dumped(), "{status:?}");
}

#[tokio::test]
async fn no_command_and_no_log_line_shows_a_key() {
    let folder = Folder::prepare(Script::TakeOnly);
    let gateway = Gateway::start_with(&folder, &[("RUST_LOG", "trace")]).await;
    let centre = folder.client("centre");
    submit(&folder, &centre).await;
    json(&folder, &["keys", "rotate", "--config", "gateway.toml", "--json"]).await;
    read_again(&gateway, 1).await;
    let mut said = gateway.said();
    gateway.stop().await;
    for arguments in [
        ["keys", "show", "--config", "gateway.toml"],
        ["config", "print", "--config", "gateway.toml"],
        ["doctor", "--config", "gateway.toml", "--json"],
    ] {
        let output = folder.run(&arguments).await;
        said.push_str(&String::from_utf8(output.stdout).unwrap());
        said.push_str(&String::from_utf8(output.stderr).unwrap());
    }
    for key in KEYS {
        let text = fs::read_to_string(folder.file(key)).unwrap();
        let secrets: Vec<_> =
            text.lines().filter(|line| !line.starts_with("-----") && line.len() >= 40).collect();
        assert!(!secrets.is_empty(), "{key} has no key");
        for secret in secrets {
            // Its end: the log's key begins with its name.
            assert!(!said.contains(&secret[secret.len() - 24..secret.len() - 4]), "{key} is shown");
        }
    }
    assert!(said.contains("seals") && said.contains("read again"), "{said}");
}

async fn submit(folder: &Folder, centre: &AgencyClient) -> String {
    let request = centre.request(folder.fee_waiver(centre), DEADLINE);
    centre.exchanges().submit_exchange(request).await.unwrap().into_inner().exchange.unwrap().exchange_id
}

/// Reads an exchange with its thread, whose bodies are sealed.
async fn read(centre: &AgencyClient, exchange: &str) -> Result<proto::GetExchangeResponse, tonic::Status> {
    let request = proto::GetExchangeRequest {
        context: Some(centre.context(purposes::FEE_WAIVER)),
        exchange_id: exchange.to_owned(),
    };
    centre.exchanges().get_exchange(centre.request(request, DEADLINE)).await.map(tonic::Response::into_inner)
}

async fn ask(centre: &AgencyClient, question: proto::VerifyLowIncomeRequest) {
    centre.verification().verify_low_income(centre.request(question, DEADLINE)).await.unwrap();
}

/// The entries that fit, with their places in the log.
async fn entries(folder: &Folder, filter: proto::EntryFilter) -> Vec<(u64, Entry)> {
    let found = list(folder, filter).await.unwrap().entries;
    found.iter().map(|found| (found.index, Entry::from_json(&found.entry).unwrap())).collect()
}

async fn list(
    folder: &Folder,
    filter: proto::EntryFilter,
) -> Result<proto::ListEntriesResponse, tonic::Status> {
    let auditor = folder.client("auditor");
    let request = proto::ListEntriesRequest {
        context: Some(auditor.context(purposes::AUDIT_INSPECTION)),
        filter: Some(filter),
        ..Default::default()
    };
    auditor.audit().list_entries(auditor.request(request, DEADLINE)).await.map(tonic::Response::into_inner)
}

async fn json(folder: &Folder, arguments: &[&str]) -> Value {
    let output = folder.run(arguments).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Waits until the gateway has read its body keys so many times since it started.
async fn read_again(gateway: &Gateway, times: usize) {
    until(|| gateway.said().matches("\"files\":\"keys\"").count() >= times).await;
}

async fn until(holds: impl Fn() -> bool) {
    let polling = async {
        while !holds() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, polling).await.expect("it comes to be");
}
