//! Findings in a running gateway: each kind is brought about by real calls under a moved clock, found, and marked.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod district;

use std::sync::Arc;
use std::time::Duration;

use district::{DEADLINE, Refused, Scene, get, respond, submit, verify};
use jiff::Timestamp;
use legal_aid_gateway::audit::entry::{Entry, Phase, Salt};
use legal_aid_gateway::audit::log;
use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::config::Config;
use legal_aid_gateway::gateway::Secrets;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::grpc::proto::response::Kind as Arm;
use legal_aid_gateway::setup::{codes, purposes};
use legal_aid_gateway::simulator::court::Script;
use legal_aid_gateway::store::{Sealer, Store};
use tonic::Code;

const HOUR: Duration = Duration::from_secs(3_600);

/// Monday, 2026-11-02, ten o'clock in Shanghai.
fn monday() -> Clock {
    Clock::moved_by_hand("2026-11-02T02:00:00Z".parse::<Timestamp>().unwrap())
}

/// A district whose rules speak early. Thirteen entries are there from the beginning, one for each agreement.
async fn strict(clock: &Clock) -> Scene {
    let rules = "[findings]\nbulk_look_ups = { threshold = 3 }\nout_of_hours = { threshold = 1 }\n\
                 no_matter = { threshold = 2 }\nsubject_asked_by_many = { threshold = 2 }\n\
                 denial_burst = { threshold = 3 }\ntraffic = 17\n";
    Scene::start_configured_at(clock.clone(), |text| text.replacen("[findings]", rules, 1)).await
}

struct Found {
    findings: Vec<proto::Finding>,
    notices: Vec<proto::FindingNotice>,
    progress: proto::FindingProgress,
}

impl Found {
    fn only(&self, rule: &str) -> &proto::Finding {
        let of_rule: Vec<_> = self.findings.iter().filter(|finding| finding.rule == rule).collect();
        let known: Vec<_> = self.findings.iter().map(|finding| finding.rule.as_str()).collect();
        assert_eq!(of_rule.len(), 1, "{rule} among {known:?}");
        of_rule[0]
    }
}

async fn findings(scene: &Scene, rules: &[&str]) -> Found {
    let request = proto::ListFindingsRequest {
        context: Some(scene.auditor.context(purposes::AUDIT_INSPECTION)),
        recorded_before: Some(district::wire_time(scene.clock.now().as_second() + 7200)),
        rules: rules.iter().map(|rule| (*rule).to_owned()).collect(),
        ..Default::default()
    };
    let parts = scene.auditor.audit().list_findings(scene.auditor.request(request, DEADLINE)).await;
    let mut parts = parts.unwrap().into_inner();
    let mut found = Found { findings: Vec::new(), notices: Vec::new(), progress: Default::default() };
    while let Some(part) = parts.message().await.unwrap() {
        found.findings.extend(part.findings);
        found.notices.extend(part.notices);
        found.progress = part.progress.unwrap();
    }
    assert!(found.progress.is_complete);
    found
}

async fn mark(
    scene: &Scene,
    finding_id: &str,
    kind: proto::FindingMarkKind,
    comment: &str,
) -> Result<proto::MarkFindingResponse, tonic::Status> {
    let request = proto::MarkFindingRequest {
        context: Some(scene.auditor.context(purposes::AUDIT_INSPECTION)),
        finding_id: finding_id.to_owned(),
        mark: kind.into(),
        comment: comment.to_owned(),
    };
    let marked = scene.auditor.audit().mark_finding(scene.auditor.request(request, DEADLINE)).await;
    marked.map(tonic::Response::into_inner)
}

/// A question of another unit of the centre.
fn question_of(scene: &Scene, client: &AgencyClient, unit: &str) -> proto::VerifyLowIncomeRequest {
    let mut question = district::question(&scene.folder, client);
    question.envelope.as_mut().unwrap().operator.as_mut().unwrap().unit = unit.to_owned();
    question
}

/// Each entry that a finding names is one of its window, and of whom it is about.
async fn entries_fit(scene: &Scene, finding: &proto::Finding) {
    let (from, before) = (finding.window_from.unwrap().seconds, finding.window_before.unwrap().seconds);
    assert!(finding.entry_count >= finding.entries.len() as u64);
    for index in &finding.entries {
        let entry = scene.entry(*index).await;
        assert!((from..before).contains(&entry.recorded.as_second()), "{}: {entry:?}", finding.rule);
        if !finding.caller.is_empty() {
            assert_eq!(entry.caller.as_deref(), Some(finding.caller.as_str()));
        }
        if !finding.operator.is_empty() {
            assert_eq!(entry.operator.as_deref(), Some(finding.operator.as_str()));
        }
    }
}

#[tokio::test]
async fn each_kind_of_finding_comes_of_real_calls_and_names_their_entries() {
    let clock = monday();
    let scene = strict(&clock).await;
    assert!(findings(&scene, &[]).await.findings.is_empty());

    // Bulk, and one subject asked about by two units: three questions of one operator, one of another unit.
    for unit in ["main", "main", "main", "station-2"] {
        verify(&scene.centre, &question_of(&scene, &scene.centre, unit)).await.unwrap();
    }
    // Without a matter, refused.
    for _ in 0..2 {
        let mut question = scene.question();
        question.envelope.as_mut().unwrap().matter_id.clear();
        assert_eq!(verify(&scene.centre, &question).await.err().unwrap().code(), Code::InvalidArgument);
    }
    // Denied: the purpose is not agreed.
    for _ in 0..3 {
        let request = proto::GetExchangeRequest {
            context: Some(scene.court.context("STATISTICS")),
            exchange_id: "0193e4a0-0000-7000-8000-000000000000".to_owned(),
        };
        let denied = scene.court.exchanges().get_exchange(scene.court.request(request, DEADLINE)).await;
        assert_eq!(denied.err().unwrap().code(), Code::PermissionDenied);
    }
    // A matter whose only exchange is withdrawn, and then looked up.
    let submitted = submit(&scene.centre, &scene.fee_waiver()).await.unwrap().exchange.unwrap();
    let known = get(&scene.centre, &submitted.exchange_id).await.unwrap().exchange.unwrap();
    let withdrawal = Arm::Withdrawal(proto::Withdrawal { reason: "当事人撤回".to_owned() });
    respond(&scene.centre, &district::answer(&scene.centre, &known, withdrawal)).await.unwrap();
    clock.advance(HOUR);
    verify(&scene.centre, &scene.question()).await.unwrap();
    // Silence for three hours, and a call in the evening.
    clock.advance(9 * HOUR);
    verify(&scene.centre, &scene.question()).await.unwrap();

    let found = findings(&scene, &[]).await;
    let bulk = found.only("BULK_LOOK_UPS");
    assert!(bulk.observed >= 3 && bulk.threshold == 3 && bulk.caller == codes::CENTRE);
    assert_eq!((bulk.unit.as_str(), bulk.operator.as_str()), ("main", "centre-01"));
    let subject = found.only("SUBJECT_ASKED_BY_MANY");
    assert_eq!((subject.observed, subject.subject.len(), subject.caller.as_str()), (2, 32, ""));
    assert_eq!(found.only("NO_MATTER").observed, 2);
    let denials = found.only("DENIAL_BURST");
    assert_eq!((denials.observed, denials.caller.as_str()), (3, codes::COURT));
    let closed = found.only("MATTER_CLOSED");
    assert_eq!((closed.matter_id.as_str(), closed.observed), ("LQ-2026-0001", 2));
    let night = found.only("OUT_OF_HOURS");
    assert_eq!((night.observed, night.entries.len(), night.is_estimate), (1, 1, false));
    assert!(found.only("SILENCE").observed >= 120);
    for finding in &found.findings {
        entries_fit(&scene, finding).await;
        assert!(!finding.why.is_empty() && !finding.why_zh.is_empty() && finding.mark.is_none());
    }
    // Only what is asked for, and the same by the same id.
    let one = findings(&scene, &["DENIAL_BURST"]).await;
    let (one, again) = (one.only("DENIAL_BURST"), denials);
    assert_eq!((&one.finding_id, &one.entries), (&again.finding_id, &again.entries));
    // The look itself is in the log.
    let listed = proto::EntryFilter { method: "ListFindings".to_owned(), ..Default::default() };
    let entries = scene.entries(listed).await;
    let requests = entries.iter().filter(|(_, entry)| entry.phase == Phase::Request).count();
    assert_eq!(requests, 3);
    scene.stop().await;
}

#[tokio::test]
async fn a_request_that_was_cut_off_is_found_after_the_restart() {
    let clock = monday();
    let scene = strict(&clock).await;
    // What a gateway leaves that dies between the two entries of a call.
    let mut entry = Entry::new(
        uuid::Uuid::now_v7(),
        Phase::Request,
        clock.now(),
        "legalaid.exchange.v1.ExchangeService",
        "SubmitExchange",
        "gateway-1",
    );
    entry.caller = Some(codes::CENTRE.to_owned());
    let scene = scene
        .restart_after(async |folder| {
            let config = Config::load(&folder.join("gateway.toml"), []).unwrap();
            let secrets = Secrets::load(&config.keys).unwrap();
            let store = Store::open(&config.store.database, Sealer::of(&secrets.body)).await.unwrap();
            let store = store.join(&config.gateway.node).await.unwrap();
            let opened =
                log::open(Arc::new(store.clone()), secrets.log, clock.clone(), 16, None).await.unwrap();
            opened.log.append(entry, Salt([7; 64]), Vec::new()).await.unwrap();
            drop(opened.log);
            opened.writer.await.unwrap();
            store.close().await;
        })
        .await;
    let found = findings(&scene, &["INTERRUPTED"]).await;
    let finding = found.only("INTERRUPTED");
    assert_eq!((finding.observed, finding.threshold), (1, 1));
    entries_fit(&scene, finding).await;
    scene.stop().await;
}

#[tokio::test]
async fn a_mark_is_an_entry_and_stays_while_its_comment_is_nowhere_in_the_clear() {
    let clock = monday();
    let scene = strict(&clock).await;
    for _ in 0..3 {
        verify(&scene.centre, &scene.question()).await.unwrap();
    }
    let found = findings(&scene, &["BULK_LOOK_UPS"]).await;
    let id = found.only("BULK_LOOK_UPS").finding_id.clone();
    let comment = "与张三丰核实过属批量复核";
    let marked = mark(&scene, &id, proto::FindingMarkKind::Incident, "待查").await.unwrap();
    assert!(marked.mark() == proto::FindingMarkKind::Incident && marked.finding_id == id);
    clock.advance(HOUR);
    let marked = mark(&scene, &id, proto::FindingMarkKind::Normal, comment).await.unwrap();
    let response = scene.entry(marked.audit.unwrap().log_index).await;
    assert_eq!((response.phase, response.reason.as_deref()), (Phase::Response, Some("MARKED_NORMAL")));
    assert_eq!(response.finding.unwrap().to_string(), id);
    let request = scene.entry(response.request_index.unwrap()).await;
    assert_eq!(request.finding.unwrap().to_string(), id);

    // Neither a finding that is not there nor a wrong id is marked.
    let other = id.replacen(&id[..8], "00000001", 1);
    let refused =
        Refused::of(&mark(&scene, &other, proto::FindingMarkKind::Normal, "x").await.err().unwrap());
    assert_eq!(refused.code, Code::NotFound);
    let refused = mark(&scene, "no-id", proto::FindingMarkKind::Unspecified, " ").await.err().unwrap();
    let rules = [("finding_id", "FINDING_ID"), ("mark", "REQUIRED"), ("comment", "REQUIRED")];
    assert_eq!(Refused::of(&refused).rules(), rules);

    let scene = scene.restart().await;
    let found = findings(&scene, &["BULK_LOOK_UPS"]).await;
    let mark = found.only("BULK_LOOK_UPS").mark.clone().expect("the mark is kept");
    assert!(mark.mark() == proto::FindingMarkKind::Normal && mark.comment == comment);
    assert_eq!((mark.marked_by.as_str(), mark.operator.as_str()), (codes::AUDITOR, "auditor-01"));
    assert_eq!(mark.mark_time.unwrap().seconds, clock.now().as_second());
    assert_eq!(Some(mark.log_index), response.request_index);
    let folder = scene.folder.clone();
    scene.district.stop().await;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let name = "张三丰".as_bytes();
            assert!(!bytes.windows(name.len()).any(|window| window == name), "{}", path.display());
        }
    }
}

#[tokio::test]
async fn what_cannot_be_looked_for_is_refused_with_its_field() {
    let scene = Scene::start_with(Script::TakeOnly, monday()).await;
    let request = proto::ListFindingsRequest {
        context: Some(scene.auditor.context(purposes::AUDIT_INSPECTION)),
        recorded_from: Some(district::wire_time(2_000_000_000)),
        recorded_before: Some(district::wire_time(1_900_000_000)),
        rules: vec!["BULK_LOOK_UPS".to_owned(), "BULK".to_owned()],
    };
    let refused = scene.auditor.audit().list_findings(scene.auditor.request(request, DEADLINE)).await;
    let refused = Refused::of(&refused.err().unwrap());
    assert_eq!(refused.rules(), [("recorded_from", "FROM_BEFORE_BEFORE"), ("rules[1]", "UNKNOWN_VALUE")]);
    // Only an auditor may.
    let request = proto::ListFindingsRequest {
        context: Some(scene.centre.context(purposes::AUDIT_INSPECTION)),
        ..Default::default()
    };
    let denied = scene.centre.audit().list_findings(scene.centre.request(request, DEADLINE)).await;
    assert_eq!(denied.err().unwrap().code(), Code::PermissionDenied);
    scene.stop().await;
}

#[tokio::test]
async fn the_commands_show_and_mark_what_is_found() {
    let scene = Scene::start_configured_at(Clock::system(), |text| {
        text.replacen("[findings]", "[findings]\nbulk_look_ups = { threshold = 1, window = \"24h\" }\n", 1)
    })
    .await;
    verify(&scene.centre, &scene.question()).await.unwrap();
    let profile = scene.folder.join("auditor.toml");
    let run = async |arguments: &[&str]| {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_legal-aid-gateway"))
            .arg("audit")
            .args(arguments)
            .arg("--as")
            .arg(&profile)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success(), "{said}");
        said
    };
    let asked = ["findings", "--rule", "bulk-look-ups"];
    let said = run(&asked).await;
    assert!(said.contains("BULK_LOOK_UPS") && said.contains("1 (from 1)") && said.contains("批量"), "{said}");
    let json: serde_json::Value =
        serde_json::from_str(&run(&["findings", "--json", "--rule", "BULK_LOOK_UPS"]).await).unwrap();
    let id = json["findings"][0]["finding"].as_str().unwrap();
    let said = run(&["mark", id, "--normal", "--comment", "测试"]).await;
    assert!(said.contains("is marked normal"), "{said}");
    let said = run(&asked).await;
    assert!(said.contains("normal") && said.contains("测试") && said.contains("auditor-01"), "{said}");
    let said = run(&["findings", "--rule", "BULK_LOOK_UPS", "--unmarked"]).await;
    assert!(said.starts_with("0 finding(s)"), "{said}");
    scene.stop().await;
}
