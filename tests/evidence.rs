//! Evidence of an exchange: who gets which entries, that each bundle proves itself offline, and that damage shows.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod district;

use std::path::Path;
use std::process::Output;

use district::{DEADLINE, Refused, Scene, answer, respond, submit, wire_time};
use legal_aid_gateway::access::Method;
use legal_aid_gateway::audit::bundle::container;
use legal_aid_gateway::audit::entry::{Entry, Phase};
use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::grpc::proto::export_evidence_response::Piece;
use legal_aid_gateway::grpc::proto::response::Kind as Arm;
use legal_aid_gateway::setup::{codes, purposes};
use prost::Message as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};

/// An exchange that the court has received, and that both sides have read.
async fn received(scene: &Scene) -> proto::Exchange {
    let exchange = submit(&scene.centre, &scene.fee_waiver()).await.unwrap().exchange.unwrap();
    scene.await_state(&exchange.exchange_id, proto::ExchangeState::Delivered).await;
    let read = district::get(&scene.court, &exchange.exchange_id).await.unwrap().exchange.unwrap();
    let digest = Sha256::digest(read.thread[0].encode_to_vec());
    let receipt = Arm::Receipt(proto::Receipt {
        message_sha256: digest.to_vec(),
        received_at: Some(wire_time(scene.clock.now().as_second())),
        receipt_number: String::new(),
    });
    respond(&scene.court, &answer(&scene.court, &exchange, receipt)).await.unwrap();
    for client in [&scene.centre, &scene.court] {
        district::get(client, &exchange.exchange_id).await.unwrap();
    }
    exchange
}

/// The entries that an export gives, and how many it withholds.
async fn exported(client: &AgencyClient, purpose: &str, id: &str) -> Result<(Vec<Entry>, u64), Status> {
    let request =
        proto::ExportEvidenceRequest { context: Some(client.context(purpose)), exchange_id: id.to_owned() };
    let mut pieces = client.audit().export_evidence(client.request(request, DEADLINE)).await?.into_inner();
    let (mut entries, mut withheld) = (Vec::new(), 0);
    while let Some(message) = pieces.message().await? {
        match message.piece.unwrap() {
            Piece::Head(head) => withheld = head.withheld,
            Piece::Entry(given) => entries.push(Entry::from_json(&given.entry).unwrap()),
        }
    }
    Ok((entries, withheld))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auditor_gets_all_entries_of_an_exchange_and_a_party_those_that_are_its_own() {
    let scene = Scene::start().await;
    let exchange = received(&scene).await;
    submit(&scene.centre, &scene.fee_waiver()).await.unwrap();
    let id = exchange.exchange_id.as_str();

    let (all, withheld) = exported(&scene.auditor, purposes::AUDIT_INSPECTION, id).await.unwrap();
    assert_eq!(withheld, 0);
    let listed = scene.entries(proto::EntryFilter { exchange_id: id.to_owned(), ..Default::default() }).await;
    let told: Vec<&Entry> = listed.iter().map(|(_, entry)| entry).collect();
    let of_export = |entry: &Entry| entry.method == Method::ExportEvidence.name();
    // All that the log lists but the export itself, and the call that opened it, which could not name it.
    assert!(told.iter().filter(|entry| !of_export(entry)).all(|entry| all.contains(entry)));
    let opening = all.iter().find(|entry| entry.method == "SubmitExchange" && entry.phase == Phase::Request);
    assert_eq!(opening.unwrap().exchange, None);
    assert!(!all.iter().any(of_export), "an export is not in itself");

    for (client, code) in [(&scene.centre, codes::CENTRE), (&scene.court, codes::COURT)] {
        let (own, withheld) = exported(client, purposes::FEE_WAIVER, id).await.unwrap();
        assert!(own.iter().any(|entry| entry.caller.as_deref() == Some(code)), "its own calls");
        let calls_of_others = |entry: &&Entry| {
            entry.caller.as_deref() != Some(code) && entry.caller.as_deref() != Some(codes::GATEWAY)
        };
        assert_eq!(own.iter().find(calls_of_others), None);
        assert!(own.iter().all(|entry| {
            entry.caller.as_deref() == Some(code) || entry.counterpart.as_deref() == Some(code)
        }));
        assert!(withheld > 0);
        // Nothing is lost between the two counts: what the auditor and the centre exported meanwhile is there too.
        assert!(own.len() as u64 + withheld >= all.len() as u64);
    }
    let delivered = |entry: &Entry| entry.method == "Deliver";
    let (of_court, _) = exported(&scene.court, purposes::FEE_WAIVER, id).await.unwrap();
    assert!(of_court.iter().any(delivered), "deliveries to it");
    let (of_centre, _) = exported(&scene.centre, purposes::FEE_WAIVER, id).await.unwrap();
    assert!(
        of_centre
            .iter()
            .filter(|entry| delivered(entry))
            .all(|entry| { entry.counterpart.as_deref() == Some(codes::CENTRE) })
    );
    scene.stop().await;
}

#[tokio::test]
async fn others_cannot_tell_a_foreign_exchange_from_none_and_each_export_is_an_entry() {
    let scene = Scene::start().await;
    let other = scene.enrol_another_centre().await;
    let exchange = received(&scene).await;
    let none = "0198e2b4-7c00-7000-8000-000000000001";
    for id in [exchange.exchange_id.as_str(), none] {
        let refused = exported(&other, purposes::FEE_WAIVER, id).await.err().unwrap();
        assert_eq!((refused.code(), Refused::of(&refused).reason.as_str()), (Code::NotFound, "NOT_FOUND"));
    }
    let refused = exported(&scene.auditor, purposes::AUDIT_INSPECTION, none).await.err().unwrap();
    assert_eq!(refused.code(), Code::NotFound);
    let refused = exported(&scene.auditor, purposes::AUDIT_INSPECTION, "张三").await.err().unwrap();
    assert_eq!(Refused::of(&refused).rules(), [("exchange_id", "UUID")]);
    // Under a purpose that is not agreed nobody exports.
    let refused =
        exported(&scene.centre, purposes::AUDIT_INSPECTION, &exchange.exchange_id).await.err().unwrap();
    assert_eq!(refused.code(), Code::PermissionDenied);

    exported(&scene.centre, purposes::FEE_WAIVER, &exchange.exchange_id).await.unwrap();
    let filter = proto::EntryFilter {
        method: Method::ExportEvidence.name().to_owned(),
        phase: "RESPONSE".to_owned(),
        ..Default::default()
    };
    let (_, ended) = scene.await_entry(filter, |entry| entry.phase == Phase::Response).await;
    assert_eq!(ended.caller.as_deref(), Some(codes::CENTRE));
    assert_eq!(ended.exchange.unwrap().to_string(), exchange.exchange_id);
    assert!(ended.items.is_some_and(|items| items > 1));
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_proves_itself_with_nothing_but_the_key_and_no_damage_passes() {
    let scene = Scene::start().await;
    let exchange = received(&scene).await;
    let id = exchange.exchange_id.as_str();
    let key = key(&scene).await;
    let kept = tempfile::tempdir().unwrap();
    let folder = kept.path();
    let mut bundles = Vec::new();
    for (who, purpose) in [
        ("auditor", purposes::AUDIT_INSPECTION),
        ("centre", purposes::FEE_WAIVER),
        ("court", purposes::FEE_WAIVER),
    ] {
        let out = folder.join(format!("{who}.zip"));
        let output = export(&scene, who, purpose, id, &out).await;
        assert!(output.status.success(), "{}", said(&output));
        assert!(said(&output).contains("audit verify"), "{}", said(&output));
        bundles.push(out);
    }
    let disclosed = folder.join("disclosed.zip");
    let profile = scene.folder.join("auditor.toml");
    let output = command(&scene.folder)
        .args(["audit", "export", "--disclose", "request,response", "--exchange", id, "--as"])
        .args([profile.as_path(), Path::new("--out"), &disclosed])
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let again = export(&scene, "auditor", purposes::AUDIT_INSPECTION, id, &bundles[0]).await;
    assert!(!again.status.success() && said(&again).contains("nothing is overwritten"), "{}", said(&again));
    // From here on there is nobody to ask.
    scene.stop().await;
    for bundle in &bundles {
        let output = verify(folder, bundle, &key, &["--json"]).await;
        assert!(output.status.success(), "{}", said(&output));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&report["sound"], report["exchange"].as_str()), (&Value::Bool(true), Some(id)));
        assert!(report["entries"].as_array().unwrap().len() > 3);
    }
    let output = verify(folder, &disclosed, &key, &["--json"]).await;
    assert!(output.status.success(), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["opened"].as_u64().unwrap() > 0, "{report}");
    let chinese = said(&verify(folder, &bundles[0], &key, &["--lang", "zh"]).await);
    assert!(chinese.contains("已证明") && chinese.contains("未证明"), "{chinese}");
    let english = said(&verify(folder, &bundles[0], &key, &["--lang", "en"]).await);
    assert!(english.contains("not proven") && english.contains("all of it holds"), "{english}");

    let sound = std::fs::read(&bundles[0]).unwrap();
    let damaged = folder.join("damaged.zip");
    for position in (0..sound.len()).step_by(sound.len() / 40) {
        let mut bytes = sound.clone();
        bytes[position] ^= 1;
        std::fs::write(&damaged, bytes).unwrap();
        let output = verify(folder, &damaged, &key, &["--lang", "en"]).await;
        assert!(!output.status.success(), "a bit at {position} passes: {}", said(&output));
    }
    // One entry fewer, packed as if it had never been there.
    let mut files = container::read(&sound).unwrap();
    let entry = files.keys().find(|name| name.starts_with("entries/")).unwrap().clone();
    files.remove(&entry);
    std::fs::write(&damaged, container::write(&files).unwrap()).unwrap();
    let output = verify(folder, &damaged, &key, &["--lang", "en"]).await;
    assert!(!output.status.success());
    assert!(said(&output).contains(&format!("{entry} has been removed")), "{}", said(&output));
}

async fn export(scene: &Scene, who: &str, purpose: &str, id: &str, out: &Path) -> Output {
    let profile = scene.folder.join(format!("{who}.toml"));
    command(&scene.folder)
        .args(["audit", "export", "--purpose", purpose, "--exchange", id, "--as"])
        .arg(profile)
        .arg("--out")
        .arg(out)
        .output()
        .await
        .unwrap()
}

async fn verify(folder: &Path, bundle: &Path, key: &str, more: &[&str]) -> Output {
    command(folder).args(["audit", "verify", "--key", key]).args(more).arg(bundle).output().await.unwrap()
}

async fn key(scene: &Scene) -> String {
    let output =
        command(&scene.folder).args(["audit", "key", "--config", "gateway.toml"]).output().await.unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn command(folder: &Path) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_legal-aid-gateway"));
    command.current_dir(folder).env_clear();
    command
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}
