//! Secret keys: where they come from, who can see them, and how that of bodies is rotated while the gateway serves.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;

use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::setup::purposes;
use legal_aid_gateway::simulator::court::Script;
use serde_json::Value;
use support::{DEADLINE, Folder, Gateway, PATIENCE, serve_command};
use tokio::io::{AsyncBufReadExt as _, BufReader};

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
