//! Eligibility over mutual TLS and from the command line, with a registry that is up, down, slow, or answers about
//! somebody else: an outcome always comes, and none of them refuses.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod district;

use std::process::Output;
use std::time::Duration;

use district::{DEADLINE, Refused, Scene, basis, day_from_today, sensitive, wire_date};
use legal_aid_gateway::access::Method;
use legal_aid_gateway::audit::entry::{Entry, Phase};
use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::config::Config;
use legal_aid_gateway::gateway::Gateway;
use legal_aid_gateway::grpc::json::from_json;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::setup::{NOT_ON_THE_REGISTER, ON_THE_REGISTER, codes, purposes};
use legal_aid_gateway::simulator::court::Script;
use legal_aid_gateway::simulator::district::District;
use legal_aid_gateway::simulator::registry::{Behaviour, RegistryConfig};
use tonic::{Code, Response, Status};

/// The example that `init` gives: claims the minimum allowance, and declares 7,000 yuan for three, which is within.
fn example(scene: &Scene) -> proto::AssessEligibilityRequest {
    request(&scene.centre, &std::fs::read_to_string(scene.folder.join("case.json")).unwrap())
}

fn request(client: &AgencyClient, case: &str) -> proto::AssessEligibilityRequest {
    let envelope = client.complete(proto::Envelope {
        matter_id: "LQ-2026-0001".to_owned(),
        kind: proto::Kind::LowIncomeQuery.into(),
        legal_basis: vec![basis("法律援助法", "41")],
        purpose: purposes::AID_ELIGIBILITY.to_owned(),
        classification: Some(sensitive()),
        ..Default::default()
    });
    let case = from_json("EligibilityCase", case).unwrap();
    proto::AssessEligibilityRequest { envelope: Some(envelope), eligibility_case: Some(case) }
}

async fn assess_within(
    client: &AgencyClient,
    request: &proto::AssessEligibilityRequest,
    deadline: Duration,
) -> Result<proto::AssessEligibilityResponse, Status> {
    let call = client.request(request.clone(), deadline);
    client.eligibility().assess_eligibility(call).await.map(Response::into_inner)
}

async fn assess(
    scene: &Scene,
    request: &proto::AssessEligibilityRequest,
) -> proto::AssessEligibilityResponse {
    assess_within(&scene.centre, request, DEADLINE).await.unwrap()
}

fn case(request: &mut proto::AssessEligibilityRequest) -> &mut proto::EligibilityCase {
    request.eligibility_case.as_mut().unwrap()
}

fn rule<'r>(response: &'r proto::AssessEligibilityResponse, id: &str) -> &'r proto::RuleTried {
    response.rules.iter().find(|rule| rule.rule == id).unwrap_or_else(|| panic!("{id} was not tried"))
}

/// The words of the contract, without what its lists begin with.
fn outcome(response: &proto::AssessEligibilityResponse) -> &'static str {
    response.outcome().as_str_name().trim_start_matches("ELIGIBILITY_OUTCOME_")
}

fn verdict(rule: &proto::RuleTried) -> &'static str {
    rule.verdict().as_str_name().trim_start_matches("RULE_VERDICT_")
}

fn result(register: &proto::RegisterAsked) -> &'static str {
    register.result().as_str_name().trim_start_matches("VERIFICATION_RESULT_")
}

async fn restart_registry(scene: &mut Scene, behaviour: Behaviour) {
    scene.district.stop_registry().await;
    let path = scene.folder.join("simulate-registry.toml");
    let mut config: RegistryConfig = toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    config.behaviour = behaviour;
    std::fs::write(&path, toml::to_string(&config).unwrap()).unwrap();
    scene.district.start_registry().await.unwrap();
}

#[tokio::test]
async fn a_household_on_the_register_is_passported_and_the_question_has_entries_of_its_own() {
    let scene = Scene::start().await;
    let response = assess(&scene, &example(&scene)).await;
    assert_eq!(outcome(&response), "PASSPORTED");
    let programme = rule(&response, "programme/minimum-allowance");
    assert_eq!((verdict(programme), programme.mark.as_str()), ("MET", "C"));
    let [register] = response.registers.as_slice() else { panic!("one register") };
    assert_eq!((register.registry.as_str(), register.reason.as_str()), (codes::REGISTRY, ""));
    assert_eq!(result(register), "MATCH");

    let last = response.audit.unwrap().log_index;
    let entries = [last - 3, last - 2, last - 1, last];
    let mut found = Vec::new();
    for index in entries {
        found.push(scene.entry(index).await);
    }
    let said: Vec<_> = found.iter().map(|entry| (entry.method.as_ref(), entry.phase)).collect();
    let expected = [
        ("AssessEligibility", Phase::Request),
        ("VerifyLowIncome", Phase::Request),
        ("VerifyLowIncome", Phase::Response),
        ("AssessEligibility", Phase::Response),
    ];
    assert_eq!(said, expected);
    let [call, question, answer, end] = <[Entry; 4]>::try_from(found).unwrap();
    assert_eq!((answer.request_index, end.request_index), (Some(last - 2), Some(last - 3)));
    assert_eq!(register.log_index, Some(last - 1));
    assert_eq!(call.counterpart, None);
    assert_eq!(question.counterpart.as_deref(), Some(codes::REGISTRY));
    assert_eq!(question.agreement.as_ref().unwrap().id, "DEV-VERIFY");
    assert_eq!((question.request, question.subject), (call.request, call.subject));
    assert!(question.request_commitment.is_some() && answer.response_commitment.is_some());
    assert_eq!(end.reason, None, "what is recommended is between the centre and the applicant");
    scene.stop().await;
}

#[tokio::test]
async fn each_register_is_asked_about_its_own_and_one_that_says_yes_is_enough() {
    let mut scene = Scene::start().await;
    let mut request = example(&scene);
    case(&mut request).claims_poverty_household = true;
    let response = assess(&scene, &request).await;
    assert_eq!(outcome(&response), "PASSPORTED");
    assert_eq!(verdict(rule(&response, "programme/poverty-household")), "MET");
    let asked: Vec<_> =
        response.registers.iter().map(|register| (register.registry.as_str(), result(register))).collect();
    assert_eq!(asked, [(codes::REGISTRY, "MATCH"), (codes::POVERTY_REGISTRY, "MATCH")]);
    assert!(response.registers[1].kind() == proto::Kind::PovertyHouseholdQuery);
    for (register, method) in response.registers.iter().zip(["VerifyLowIncome", "VerifyPovertyHousehold"]) {
        let entry = scene.entry(register.log_index.unwrap()).await;
        assert_eq!((entry.method.as_ref(), entry.phase), (method, Phase::Response));
        let question = scene.entry(entry.request_index.unwrap()).await;
        assert_eq!(question.counterpart.as_deref(), Some(register.registry.as_str()));
    }
    // One of them down changes nothing of what the other says.
    scene.district.stop_registry().await;
    let mut again = example(&scene);
    case(&mut again).claims_poverty_household = true;
    let response = assess(&scene, &again).await;
    assert_eq!(outcome(&response), "PASSPORTED");
    assert_eq!(response.registers[0].reason, "REGISTRY_UNREACHABLE");
    assert_eq!(verdict(rule(&response, "programme/minimum-allowance")), "UNKNOWN");
    scene.stop().await;
}

#[tokio::test]
async fn a_register_that_is_down_leads_on_and_refuses_nobody() {
    let mut scene = Scene::start().await;
    scene.district.stop_registry().await;
    let response = assess(&scene, &example(&scene)).await;
    assert_eq!(outcome(&response), "WITHIN_LINE", "the declared income still counts");
    assert_eq!(verdict(rule(&response, "programme/minimum-allowance")), "UNKNOWN");
    assert_eq!(response.registers[0].reason, "REGISTRY_UNREACHABLE");
    let entry = scene.entry(response.registers[0].log_index.unwrap()).await;
    assert_eq!(entry.reason.as_deref(), Some("REGISTRY_UNREACHABLE"));

    let mut undeclared = example(&scene);
    case(&mut undeclared).income = None;
    let response = assess(&scene, &undeclared).await;
    assert_eq!(outcome(&response), "UNDERTAKING_NEEDED");
    let codes: Vec<_> = response.due.iter().map(|due| due.code.as_str()).collect();
    assert_eq!(codes, ["UNDERTAKING", "DECISION"]);
    scene.stop().await;
}

#[tokio::test]
async fn an_answer_about_another_person_is_ambiguous_and_passports_nobody() {
    let mut scene = Scene::start().await;
    restart_registry(&mut scene, Behaviour::WrongPerson).await;
    let mut request = example(&scene);
    case(&mut request).income = None;
    let response = assess(&scene, &request).await;
    assert_eq!(outcome(&response), "UNDERTAKING_NEEDED");
    assert_eq!(result(&response.registers[0]), "AMBIGUOUS");
    let entry = scene.entry(response.registers[0].log_index.unwrap()).await;
    assert_eq!(entry.reason.as_deref(), Some("SUBJECT_MISMATCH"));
    scene.stop().await;
}

#[tokio::test]
async fn a_silent_register_does_not_keep_the_caller_past_its_deadline() {
    let mut scene = Scene::start().await;
    restart_registry(&mut scene, Behaviour::Silent).await;
    let response = assess_within(&scene.centre, &example(&scene), Duration::from_millis(1500)).await.unwrap();
    assert_eq!(outcome(&response), "WITHIN_LINE");
    assert_eq!(response.registers[0].reason, "REGISTRY_UNREACHABLE");
    scene.stop().await;
}

#[tokio::test]
async fn a_register_is_asked_only_where_it_can_matter_and_once_for_one_request_id() {
    let mut scene = Scene::start().await;
    let registry = scene.count_queries().await;
    let mut free = example(&scene);
    case(&mut free).matter = proto::AidMatter::DomesticViolence.into();
    assert_eq!(outcome(&assess(&scene, &free).await), "NO_MEANS_TEST");
    let mut urgent = example(&scene);
    case(&mut urgent).urgency = Some(proto::Urgency {
        ground: proto::UrgentGround::Deadline.into(),
        ends_on: Some(wire_date(day_from_today(&scene.clock, 6))),
    });
    let response = assess(&scene, &urgent).await;
    assert_eq!(outcome(&response), "PROVISIONAL");
    assert_eq!(response.due[0].code, "PAPERS");
    assert!(response.due[0].due_on.is_none(), "promptly, says the law");
    let mut unclaimed = example(&scene);
    case(&mut unclaimed).programmes.clear();
    assert_eq!(outcome(&assess(&scene, &unclaimed).await), "WITHIN_LINE");
    assert_eq!(registry.times_asked(), 0);

    let request = example(&scene);
    let first = assess(&scene, &request).await;
    assert!(assess(&scene, &request).await == first, "a retry gets the first answer");
    assert_eq!(registry.times_asked(), 1);
    scene.stop().await;
}

#[tokio::test]
async fn without_an_agreement_for_the_question_it_is_not_asked_and_the_case_goes_on() {
    let mut scene = Scene::start().await;
    let registry = scene.count_queries().await;
    scene
        .edit_directory(|file| {
            let agreement = district::agreement(file, "DEV-VERIFY");
            agreement.methods.retain(|method| *method != Method::VerifyLowIncome);
        })
        .await;
    let response = assess(&scene, &example(&scene)).await;
    assert_eq!(outcome(&response), "WITHIN_LINE");
    let register = &response.registers[0];
    assert_eq!((register.reason.as_str(), register.log_index), ("NO_AGREEMENT", None));
    assert_eq!(registry.times_asked(), 0);
    scene.stop().await;
}

#[tokio::test]
async fn income_just_at_the_line_is_within_and_a_fen_above_goes_to_a_person() {
    let scene = Scene::start().await;
    for (fen, expected) in [(720_000, "WITHIN_LINE"), (720_001, "REFER_TO_PERSON")] {
        let mut request = example(&scene);
        case(&mut request).programmes.clear();
        case(&mut request).income.as_mut().unwrap().household_monthly_income_fen = Some(fen);
        let response = assess(&scene, &request).await;
        assert_eq!(outcome(&response), expected, "{fen}");
        let line = rule(&response, "income-line");
        assert_eq!((line.mark.as_str(), line.article.as_str()), ("C2", "法律援助法 art 34"));
        assert!(line.inputs.iter().any(|input| input.name == "line_fen" && input.value == "240000"));
    }
    scene.stop().await;
}

#[tokio::test]
async fn everything_wrong_with_a_case_comes_in_one_answer() {
    let scene = Scene::start().await;
    let mut request = example(&scene);
    request.envelope.as_mut().unwrap().recipient = codes::REGISTRY.to_owned();
    request.envelope.as_mut().unwrap().kind = proto::Kind::FeeWaiver.into();
    let wrong = case(&mut request);
    wrong.applied_on = Some(wire_date(day_from_today(&scene.clock, 1)));
    wrong.authority = None;
    wrong.urgency =
        Some(proto::Urgency { ground: proto::UrgentGround::Deadline.into(), ..Default::default() });
    let claim = |group: proto::Group, proof: usize| proto::GroupClaim {
        group: group.into(),
        proof_sha256: vec![1; proof],
        no_fixed_livelihood: false,
    };
    wrong.group_claims = vec![claim(proto::Group::Disabled, 31), claim(proto::Group::Unspecified, 0)];
    wrong.income =
        Some(proto::DeclaredIncome { household_monthly_income_fen: Some(-1), household_members: 101 });
    let refused = Refused::of(&assess_within(&scene.centre, &request, DEADLINE).await.err().unwrap());
    assert_eq!(refused.code, Code::InvalidArgument);
    let mut rules = refused.rules();
    rules.sort_unstable();
    let expected = [
        ("eligibility_case.applied_on", "NOT_IN_THE_FUTURE"),
        ("eligibility_case.authority", "REQUIRED"),
        ("eligibility_case.group_claims[0].proof_sha256", "SHA256_HAS_32_BYTES"),
        ("eligibility_case.group_claims[1].group", "REQUIRED"),
        ("eligibility_case.income.household_members", "RANGE"),
        ("eligibility_case.income.household_monthly_income_fen", "AMOUNT_NEGATIVE"),
        ("eligibility_case.urgency.ends_on", "REQUIRED"),
        ("envelope.kind", "KIND_FITS_CONTENT"),
        ("envelope.recipient", "ROUTED_BY_REGION"),
    ];
    assert_eq!(rules, expected);
    scene.stop().await;
}

#[tokio::test]
async fn nothing_of_the_applicant_reaches_the_log() {
    let mut scene = Scene::start().await;
    restart_registry(&mut scene, Behaviour::Fails).await;
    let mut request = example(&scene);
    case(&mut request).income.as_mut().unwrap().household_monthly_income_fen = Some(712_345);
    assess(&scene, &request).await;
    let (name, id_number) = ON_THE_REGISTER;
    for (_, entry) in scene.entries(proto::EntryFilter::default()).await {
        let text = serde_json::to_string(&entry).unwrap();
        for personal in [name, id_number, "13800000000", "712345", "WITHIN_LINE"] {
            assert!(!text.contains(personal), "{personal} in {text}");
        }
    }
    scene.stop().await;
}

const OWN_RULES: &str = r#"
[set]
id = "luqiao"
region = "331004"
name = "replaced"

[[base]]
base = "minimum-living-allowance"
amount_fen = 50000
law = "法律援助法"
article = "34"
from = 2025-01-01
source = "a notice"
mark = "C2"
"#;

#[tokio::test]
async fn an_operator_adds_rule_sets_by_configuration_and_changes_them_while_it_runs() {
    let temporary = tempfile::tempdir().unwrap();
    let (folder, clock) = (temporary.path().join("district"), Clock::system());
    District::prepare(&folder, Script::TakeOnly, &clock).unwrap();
    let (configuration, own) = (folder.join("gateway.toml"), folder.join("rules/own.toml"));
    let text = std::fs::read_to_string(&configuration).unwrap();
    let text = text.replace("# rules = \"eligibility\"", "rules = \"rules\"");
    std::fs::write(&configuration, text).unwrap();
    let config = Config::load(&configuration, []).unwrap();
    let start = |config| Gateway::start(config, clock.clone());
    let error = start(config.clone()).await.err().unwrap().to_string();
    assert!(error.contains("eligibility.rules names a folder"), "{error}");
    std::fs::create_dir(folder.join("rules")).unwrap();
    std::fs::write(&own, OWN_RULES.replace("source = \"a notice\"\n", "")).unwrap();
    let error = start(config.clone()).await.err().unwrap().to_string();
    assert!(error.contains("own.toml:7: missing field `source`"), "{error}");

    std::fs::write(&own, OWN_RULES).unwrap();
    let gateway = start(config).await.unwrap();
    let centre = AgencyClient::load(&folder.join("centre.toml"), clock.clone()).unwrap();
    let mut asked = request(&centre, &std::fs::read_to_string(folder.join("case.json")).unwrap());
    case(&mut asked).programmes.clear();
    let line = async |asked: &mut proto::AssessEligibilityRequest| {
        asked.envelope.as_mut().unwrap().request_id = centre.request_id();
        let response = assess_within(&centre, asked, DEADLINE).await.unwrap();
        let line = rule(&response, "income-line").inputs.iter().find(|input| input.name == "line_fen");
        (outcome(&response), line.unwrap().value.clone())
    };
    assert_eq!(line(&mut asked).await, ("REFER_TO_PERSON", "100000".to_owned()));
    std::fs::write(&own, OWN_RULES.replace("50000", "200000")).unwrap();
    gateway.reload().await.unwrap();
    assert_eq!(line(&mut asked).await, ("WITHIN_LINE", "400000".to_owned()));
    std::fs::write(&own, OWN_RULES.replace("331004", "3310")).unwrap();
    assert!(gateway.reload().await.unwrap_err().to_string().contains("own.toml:4: unknown region"));
    assert_eq!(line(&mut asked).await.1, "400000", "the old rules stay in force");
    gateway.stop().await;
}

async fn run(scene: &Scene, arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_legal-aid-gateway"));
    command.args(arguments).current_dir(&scene.folder).kill_on_drop(true);
    tokio::time::timeout(Duration::from_secs(60), command.output()).await.expect("the command ends").unwrap()
}

#[tokio::test]
async fn a_case_is_assessed_and_the_rules_are_explained_from_the_command_line() {
    let mut scene = Scene::start().await;
    let text = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();
    let assess = ["eligibility", "assess", "--as", "centre.toml", "--file", "case.json", "--matter", "LQ-1"];
    let shown = run(&scene, &assess).await;
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    for said in ["PASSPORTED", "programme/minimum-allowance", "DECISION", "作出决定", "MATCH"] {
        assert!(text(&shown).contains(said), "{said} is not in {}", text(&shown));
    }
    scene.district.stop_registry().await;
    let json = run(&scene, &[&assess[..], &["--json"]].concat()).await;
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["outcome"], "ELIGIBILITY_OUTCOME_WITHIN_LINE");
    assert_eq!(json["registers"][0]["reason"], "REGISTRY_UNREACHABLE");

    let path = scene.folder.join("case.json");
    let case = std::fs::read_to_string(&path).unwrap();
    let other = case.replace(ON_THE_REGISTER.0, NOT_ON_THE_REGISTER.0);
    std::fs::write(&path, other.replace("331004198001010016", "331004198001010017")).unwrap();
    let refused = run(&scene, &assess).await;
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && error.contains("RESIDENT_ID_CHECK"), "{error}");

    let explain = |on| ["eligibility", "explain", "--region", "331004", "--on", on];
    for (on, line) in [("2025-06-30", "2,200.00 yuan"), ("2025-07-01", "2,400.00 yuan")] {
        let shown = text(&run(&scene, &explain(on)).await);
        for said in ["exempt-group/42-3", "法律援助法", "[C2]", "green-channel", line] {
            assert!(shown.contains(said), "{said} is not in {shown}");
        }
    }
    let json = run(&scene, &[&explain("2024-06-30")[..], &["--json"]].concat()).await;
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let rules: Vec<_> = json["rules"].as_array().unwrap().iter().map(|rule| &rule["rule"]).collect();
    assert!(rules.iter().all(|rule| *rule != "income-line"), "no figure on that day: {rules:?}");
    let wrong = run(&scene, &["eligibility", "explain", "--region", "3310", "--on", "2025-06-01"]).await;
    assert_eq!(wrong.status.code(), Some(2));
    scene.stop().await;
}
