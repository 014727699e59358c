//! Exports of the log's entries for other systems, by the command line, each line checked against its specification.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod district;

use std::path::{Path, PathBuf};
use std::time::Duration;

use district::{DEADLINE, Scene, submit, verify};
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::setup::purposes;
use serde_json::Value;
use tokio::process::Command;

/// A district whose log holds entries of most kinds.
async fn scene() -> Scene {
    let scene = Scene::start().await;
    submit(&scene.centre, &scene.fee_waiver()).await.unwrap();
    verify(&scene.centre, &scene.question()).await.unwrap();
    let mut wrong = scene.question();
    wrong.envelope.as_mut().unwrap().matter_id.clear();
    verify(&scene.centre, &wrong).await.err().unwrap();
    let request = proto::GetExchangeRequest {
        context: Some(scene.court.context("STATISTICS")),
        exchange_id: "0193e4a0-0000-7000-8000-000000000000".to_owned(),
    };
    scene.court.exchanges().get_exchange(scene.court.request(request, DEADLINE)).await.err().unwrap();
    scene
}

fn command(scene: &Scene, format: &str, out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_legal-aid-gateway"));
    command.args(["audit", "export", "--format", format]).arg("--out").arg(out);
    command.arg("--as").arg(scene.folder.join("auditor.toml")).kill_on_drop(true);
    command
}

async fn export(scene: &Scene, format: &str, out: &Path, more: &[&str]) -> Result<String, String> {
    let output = command(scene, format, out).args(more).output().await.unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    if output.status.success() { Ok(said) } else { Err(said) }
}

/// Where the Python checks of `.ci/run` find what was exported.
fn kept(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("exports");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    let _ = std::fs::remove_file(&path);
    path
}

async fn lines(scene: &Scene, format: &str) -> Vec<Value> {
    let out = kept(&format!("entries.{format}.jsonl"));
    export(scene, format, &out, &[]).await.unwrap();
    let text = std::fs::read_to_string(&out).unwrap();
    assert!(text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text<'v>(value: &'v Value, path: &str) -> &'v str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("no text at {path} in {value}"))
}

fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no number at {path} in {value}"))
}

fn one_of(value: &Value, path: &str, allowed: &[&str]) {
    assert!(allowed.contains(&text(value, path)), "{path} in {value}");
}

#[tokio::test]
async fn plain_lines_hold_the_entries_as_they_are() {
    let scene = scene().await;
    let lines = lines(&scene, "jsonl").await;
    assert!(lines.len() >= 6);
    for (index, line) in (0u64..).zip(&lines) {
        assert_eq!(number(line, "/index"), index);
        let entry = scene.entry(index).await;
        assert_eq!(line["entry"], serde_json::to_value(&entry).unwrap());
    }
    scene.stop().await;
}

#[tokio::test]
async fn each_ocsf_line_has_what_api_activity_requires() {
    let scene = scene().await;
    let events = lines(&scene, "ocsf").await;
    let mut seen = std::collections::BTreeSet::new();
    for (index, event) in (0u64..).zip(&events) {
        let entry = scene.entry(index).await;
        // Required by the base event, the category and the class of OCSF 1.6.0.
        let activity = number(event, "/activity_id");
        assert!([0, 1, 2, 3, 4, 99].contains(&activity));
        assert_eq!(number(event, "/category_uid"), 6);
        assert_eq!(number(event, "/class_uid"), 6003);
        assert_eq!(number(event, "/type_uid"), 600_300 + activity);
        assert!((0..=6).contains(&number(event, "/severity_id")));
        assert!([0, 1, 2, 99].contains(&number(event, "/status_id")));
        assert_eq!(event["time"].as_i64(), Some(entry.occurred.as_millisecond()));
        assert_eq!(text(event, "/metadata/version"), "1.6.0");
        assert!(!text(event, "/metadata/product/name").is_empty());
        assert!(!text(event, "/metadata/product/vendor_name").is_empty());
        assert_eq!(text(event, "/api/operation"), entry.method);
        // At least one of.
        let any = |path: &str, names: &[&str]| {
            let object = event.pointer(path).and_then(Value::as_object).expect(path);
            assert!(names.iter().any(|name| object.contains_key(*name)), "{path} in {event}");
        };
        any("/actor", &["process", "user", "invoked_by", "session", "app_name", "app_uid"]);
        any("/src_endpoint", &["ip", "uid", "name", "hostname", "svc_name", "instance_uid", "interface_uid"]);
        for resource in event["resources"].as_array().into_iter().flatten() {
            assert!(resource.get("uid").is_some() || resource.get("name").is_some());
        }
        // By which it is found and proven.
        assert_eq!(
            (number(event, "/metadata/sequence"), text(event, "/metadata/uid")),
            (index, entry.id.to_string().as_str())
        );
        assert_eq!(text(event, "/unmapped/leaf_hash").len(), 64);
        assert_eq!(text(event, "/unmapped/phase"), entry.phase.as_str());
        seen.insert((activity, number(event, "/status_id")));
    }
    for wanted in [(1, 1), (2, 1), (2, 2), (1, 0)] {
        assert!(seen.contains(&wanted), "{wanted:?} in {seen:?}");
    }
    scene.stop().await;
}

#[tokio::test]
async fn each_fhir_line_is_an_audit_event_of_r4() {
    let scene = scene().await;
    let events = lines(&scene, "fhir").await;
    for (index, event) in (0u64..).zip(&events) {
        let entry = scene.entry(index).await;
        assert_eq!(text(event, "/resourceType"), "AuditEvent");
        assert_eq!(text(event, "/id"), entry.id.to_string());
        // Value sets audit-event-type, -action, -outcome, -source-type and audit-entity-type.
        assert_eq!(text(event, "/type/system"), "http://dicom.nema.org/resources/ontology/DCM");
        one_of(event, "/type/code", &["110100", "110101", "110106", "110107", "110112", "110114"]);
        one_of(event, "/action", &["C", "R", "U", "D", "E"]);
        if event.get("outcome").is_some() {
            one_of(event, "/outcome", &["0", "4", "8", "12"]);
        }
        assert_eq!(text(event, "/recorded"), entry.recorded.to_string());
        let agents = event["agent"].as_array().unwrap();
        let requestors = agents.iter().filter(|agent| agent["requestor"] == true).count();
        assert_eq!(requestors, 1, "{event}");
        assert!(agents.iter().all(|agent| agent["requestor"].is_boolean()));
        assert!(event.pointer("/source/observer/identifier/value").is_some());
        one_of(event, "/source/type/0/code", &["1", "2", "3", "4", "5", "6", "7", "8", "9"]);
        for entity in event["entity"].as_array().unwrap() {
            one_of(entity, "/type/code", &["1", "2", "3", "4"]);
            for detail in entity["detail"].as_array().into_iter().flatten() {
                assert!(!text(detail, "/type").is_empty() && detail["valueString"].is_string());
            }
        }
        assert_eq!(text(event, "/entity/0/what/identifier/value"), index.to_string());
    }
    scene.stop().await;
}

#[tokio::test]
async fn csv_has_one_row_for_each_entry_and_the_mark_that_excel_needs() {
    let scene = scene().await;
    let out = kept("entries.csv");
    export(&scene, "csv", &out, &[]).await.unwrap();
    let bytes = std::fs::read(&out).unwrap();
    let rest = bytes.strip_prefix(&[0xef, 0xbb, 0xbf]).expect("a byte order mark");
    assert_eq!(
        rest.iter().filter(|byte| **byte == b'\n').count(),
        rest.windows(2).filter(|two| two == b"\r\n").count()
    );
    let mut reader = csv::Reader::from_reader(rest);
    let heads = reader.headers().unwrap().clone();
    let column = |name: &str| heads.iter().position(|head| head == name).unwrap();
    let (index, id, code) = (column("index"), column("entry_id"), column("code"));
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    for (place, row) in (0u64..).zip(&rows) {
        let entry = scene.entry(place).await;
        assert_eq!((&row[index], &row[id]), (place.to_string().as_str(), entry.id.to_string().as_str()));
        assert_eq!(row[code], *entry.code.as_deref().unwrap_or_default());
    }
    scene.stop().await;
}

#[tokio::test]
async fn a_filter_narrows_and_files_are_never_overwritten() {
    let scene = scene().await;
    let folder = scene.folder.clone();
    let out = folder.join("refused.jsonl");
    export(&scene, "jsonl", &out, &["--phase", "REFUSED"]).await.unwrap();
    let written = std::fs::read_to_string(&out).unwrap();
    assert_eq!(written.lines().count(), 2);
    assert!(written.lines().all(|line| line.contains("\"phase\":\"REFUSED\"")));
    let said = export(&scene, "jsonl", &out, &["--resume"]).await.unwrap_err();
    assert!(said.contains("nothing is overwritten"), "{said}");
    let said = export(&scene, "log", &folder.join("whole"), &["--phase", "REFUSED"]).await.unwrap_err();
    assert!(said.contains("--format jsonl"), "{said}");
    assert!(!folder.join("whole").exists());
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_export_goes_on_where_it_stopped_and_ends_the_same() {
    let scene = scene().await;
    for _ in 0..1_300 {
        let request =
            proto::GetCheckpointRequest { context: Some(scene.auditor.context(purposes::AUDIT_INSPECTION)) };
        scene.auditor.audit().get_checkpoint(scene.auditor.request(request, DEADLINE)).await.unwrap();
    }
    // What comes later, such as the exports' own pages, is not in them.
    let until = scene.clock.now().to_string();
    let filter = ["--before", until.as_str()];
    let whole = scene.folder.join("whole.csv");
    export(&scene, "csv", &whole, &filter).await.unwrap();
    let expected = std::fs::read(&whole).unwrap();

    let out = scene.folder.join("cut.csv");
    let part = scene.folder.join("cut.csv.part");
    let mut interrupted = 0;
    for milliseconds in (20..).step_by(15) {
        let mut child = command(&scene, "csv", &out).args(filter).arg("--resume").spawn().unwrap();
        let ended = tokio::time::timeout(Duration::from_millis(milliseconds), child.wait()).await;
        if ended.is_ok_and(|status| status.unwrap().success()) {
            break;
        }
        let _ = child.kill().await;
        // It may be killed when all is written.
        if out.exists() {
            break;
        }
        interrupted += u32::from(part.exists());
    }
    assert_eq!(std::fs::read(&out).unwrap(), expected, "after {interrupted} interruptions");
    assert!(!part.exists());

    // Cut off after its first page, whatever the machine's speed: the plan as the command keeps it.
    let out = scene.folder.join("again.csv");
    let (part, plan) = (scene.folder.join("again.csv.part"), scene.folder.join("again.csv.plan"));
    let first_page = loop {
        let mut child = command(&scene, "csv", &out).args(filter).spawn().unwrap();
        while child.try_wait().unwrap().is_none() {
            let kept = std::fs::read(&plan).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
            if kept.is_some_and(|kept| kept["entries"] != 0) {
                child.kill().await.unwrap();
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if part.exists() {
            break serde_json::from_slice::<Value>(&std::fs::read(&plan).unwrap()).unwrap();
        }
        // It had come to its end: once more.
        let _ = (std::fs::remove_file(&out), std::fs::remove_file(&plan));
    };
    assert!(number(&first_page, "/entries") >= 500);
    let said = export(&scene, "csv", &out, &filter).await.unwrap_err();
    assert!(said.contains("--resume"), "{said}");
    let said = export(&scene, "ocsf", &out, &["--resume", "--before", &until]).await.unwrap_err();
    assert!(said.contains("another format or filter"), "{said}");
    // A last line that is not the gateway's.
    let good = std::fs::read(&part).unwrap();
    let last = usize::try_from(number(&first_page, "/length")).unwrap() - 3;
    let mut spoilt = good.clone();
    spoilt[last] ^= 1;
    std::fs::write(&part, &spoilt).unwrap();
    let said = export(&scene, "csv", &out, &["--resume", "--before", &until]).await.unwrap_err();
    assert!(said.contains("is not what the gateway has"), "{said}");
    // Half a line behind the last page.
    std::fs::write(&part, [good.as_slice(), b"777,half"].concat()).unwrap();
    export(&scene, "csv", &out, &["--resume", "--before", &until]).await.unwrap();
    assert_eq!(std::fs::read(&out).unwrap(), expected);
    scene.stop().await;
}
