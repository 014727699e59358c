//! Verifications: of poverty households, by registries that misbehave, and such as are completed later.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod district;

use std::time::Duration;

use district::{DEADLINE, Refused, Scene, records, verify_poverty};
use legal_aid_gateway::audit::entry::Phase;
use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::grpc::proto::batch_verify_request::Question;
use legal_aid_gateway::grpc::proto::batch_verify_response::Result as Outcome;
use legal_aid_gateway::grpc::proto::exchange_message::Body;
use legal_aid_gateway::grpc::proto::verification_outcome::Answer;
use legal_aid_gateway::grpc::proto::{VerificationResult, VerificationState};
use legal_aid_gateway::setup::{NOT_ON_THE_REGISTER, codes, purposes};
use legal_aid_gateway::simulator::people::person;
use prost::Message as _;
use tokio::process::Command;
use tonic::codegen::tokio_stream;
use tonic::{Code, Response, Status, Streaming};

// ---- poverty households ------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_poverty_household_is_verified_by_the_register_of_its_own_organ() {
    let scene = Scene::start().await;
    let found = verify_poverty(&scene.centre, &scene.poverty_question()).await.unwrap();
    assert_eq!(found.registry, codes::POVERTY_REGISTRY);
    let answer = found.answer.unwrap();
    assert!(answer.result() == VerificationResult::Match);
    assert!(answer.kind() == proto::PovertyHouseholdKind::Edge);
    assert!(answer.risk() == proto::PovertyRisk::Open);
    assert!(answer.identified_on.is_some() && answer.removed_on.is_none() && answer.next_steps.is_empty());

    let mut unknown = scene.poverty_question();
    let subject = unknown.query.as_mut().unwrap().subject.as_mut().unwrap();
    NOT_ON_THE_REGISTER.0.clone_into(&mut subject.name);
    NOT_ON_THE_REGISTER.1.clone_into(&mut subject.id_number);
    let answer = verify_poverty(&scene.centre, &unknown).await.unwrap().answer.unwrap();
    assert!(answer.result() == VerificationResult::NoMatch);
    assert!(answer.next_steps.iter().any(|step| step.code == "ACCEPT_PERSONAL_UNDERTAKING"));
    scene.stop().await;
}

#[tokio::test]
async fn each_rule_of_a_question_about_a_poverty_household_is_kept() {
    type Fault = (fn(&mut proto::VerifyPovertyHouseholdRequest), &'static str, &'static str);
    let faults: [Fault; 6] = [
        (
            |request| request.envelope.as_mut().unwrap().kind = proto::Kind::LowIncomeQuery.into(),
            "envelope.kind",
            "KIND_FITS_CONTENT",
        ),
        (
            |request| request.envelope.as_mut().unwrap().recipient = codes::REGISTRY.to_owned(),
            "envelope.recipient",
            "RECIPIENT_IS_A_REGISTRY",
        ),
        (
            |request| request.query.as_mut().unwrap().village_code = "33100410120".to_owned(),
            "query.village_code",
            "VILLAGE_CODE_SHAPE",
        ),
        (
            |request| request.query.as_mut().unwrap().village_code = "990004101201".to_owned(),
            "query.village_code",
            "REGION_CODE_PROVINCE",
        ),
        (
            |request| request.query.as_mut().unwrap().village_code = "331002101201".to_owned(),
            "query.village_code",
            "VILLAGE_IN_HOUSEHOLD_REGION",
        ),
        (|request| request.query.as_mut().unwrap().authority = None, "query.authority", "REQUIRED"),
    ];
    let scene = Scene::start().await;
    for (spoil, field, rule) in faults {
        let mut request = scene.poverty_question();
        spoil(&mut request);
        let refused = Refused::of(&verify_poverty(&scene.centre, &request).await.err().expect(rule));
        assert_eq!(refused.rules(), [(field, rule)]);
    }
    scene.stop().await;
}

// ---- registries that misbehave -----------------------------------------------------------------------------------

#[tokio::test]
async fn a_registry_by_script_leads_to_a_result_each_time_and_never_to_a_refusal() {
    use VerificationResult as R;
    let script = r#"
[[script.scene]]
from = 1
until = 1
behaviour = "wrong-person"
[[script.scene]]
every = 2
behaviour = "down"
[[script.scene]]
from = 3
until = 3
behaviour = "refuse"
[[script.scene]]
from = 5
until = 5
behaviour = "ambiguous"
[[script.scene]]
from = 7
until = 7
behaviour = "malformed"
[[script.scene]]
slow_ms = 2
"#;
    let mut scene = Scene::start().await;
    change_registry(&mut scene, script).await;
    let expected = [
        (R::Ambiguous, "SUBJECT_MISMATCH"),
        (R::Unavailable, "REGISTRY_UNREACHABLE"),
        (R::Refused, "DECLINED"),
        (R::Unavailable, "REGISTRY_UNREACHABLE"),
        (R::Ambiguous, "SEVERAL_PERSONS"),
        (R::Unavailable, "REGISTRY_UNREACHABLE"),
        (R::Unavailable, "REGISTRY_ANSWER_MALFORMED"),
        (R::Unavailable, "REGISTRY_UNREACHABLE"),
        (R::Match, ""),
    ];
    for (result, reason) in expected {
        let response = scene.verify(&scene.question()).await.unwrap();
        let answer = response.answer.unwrap();
        assert_eq!((answer.result, answer.reason.as_str()), (result as i32, reason));
        assert_eq!(answer.next_steps.is_empty(), result == R::Match);
        // What the gateway itself found wrong with the answer stands in the log.
        let entry = scene.entry(response.audit.unwrap().log_index).await;
        let found_here = !["DECLINED", "SEVERAL_PERSONS", ""].contains(&reason);
        assert_eq!(entry.reason.as_deref(), found_here.then_some(reason));
    }
    scene.stop().await;
}

// ---- completed later ---------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_registry_that_comes_back_is_asked_again_and_its_answer_is_delivered() {
    let mut scene = Scene::start_configured(|text| patience(&text, "1h")).await;
    scene.district.stop_registry().await;
    let mut request = scene.question();
    request.complete_later = true;
    let first = scene.verify(&request).await.unwrap();
    let answer = first.answer.unwrap();
    // Provisional acceptance is not held up: the first answer says at once what the centre may do.
    assert!(answer.result() == VerificationResult::Unavailable);
    assert!(answer.next_steps.iter().any(|step| step.code == "AID_FIRST_PAPERS_LATER"));
    let id = first.verification_id;
    let pending = verification(&scene.centre, &id).await.unwrap();
    assert!(pending.state() == VerificationState::Pending);
    assert!(pending.outcome.is_none());
    // The same request again names the same verification.
    assert_eq!(scene.verify(&request).await.unwrap().verification_id, id);
    // Another's verification is not there.
    let another = scene.enrol_another_centre().await;
    allow_verification(&scene, codes::STRANGER).await;
    assert_eq!(verification(&another, &id).await.err().unwrap().code(), Code::NotFound);

    scene.district.start_registry().await.unwrap();
    let (delivery, message) = await_delivery(&scene).await;
    assert_eq!(message.exchange_id, id);
    assert!(message.envelope == request.envelope);
    let Some(Body::Verification(outcome)) = message.body else { panic!("another message") };
    assert_eq!((&outcome.verification_id, outcome.registry.as_str()), (&id, codes::REGISTRY));
    assert_eq!(outcome.request_id, request.envelope.as_ref().unwrap().request_id);
    let Some(Answer::LowIncome(answer)) = &outcome.answer else { panic!("another register") };
    assert!(answer.result() == VerificationResult::Match);
    let answered = verification(&scene.centre, &id).await.unwrap();
    assert!(answered.state() == VerificationState::Answered);
    assert!(answered.outcome.as_ref() == Some(&outcome));
    assert!(answered.attempts >= 1);
    acknowledge(&scene.centre, &delivery).await;

    // Every attempt has its two entries, on the centre's behalf, under the verification's id.
    let filter = proto::EntryFilter { exchange_id: id.clone(), ..Default::default() };
    let entries = scene.entries(filter).await;
    let again: Vec<_> =
        entries.iter().filter(|(_, entry)| entry.reason.as_deref() == Some("ASKED_AGAIN")).collect();
    assert_eq!(again.len(), answered.attempts as usize);
    for (index, entry) in again {
        assert_eq!(entry.phase, Phase::Request);
        assert_eq!(entry.caller.as_deref(), Some(codes::CENTRE));
        assert_eq!(entry.counterpart.as_deref(), Some(codes::REGISTRY));
        assert!(entry.subject.is_some() && entry.agreement.is_some() && entry.request_commitment.is_some());
        assert!(entries.iter().any(|(_, other)| other.request_index == Some(*index)));
    }
    // The question is not kept any longer than it is needed.
    assert_eq!(kept_questions(&scene).await, 0);
    scene.stop().await;
}

#[tokio::test]
async fn a_restart_forgets_no_verification_that_is_to_be_completed() {
    let mut scene = Scene::start_configured(|text| patience(&text, "1h")).await;
    change_registry(&mut scene, "[[script.scene]]\nuntil = 2\nbehaviour = \"down\"\n").await;
    let mut request = scene.question();
    request.complete_later = true;
    let id = scene.verify(&request).await.unwrap().verification_id;
    let scene = scene.restart().await;
    let (_, message) = await_delivery(&scene).await;
    assert_eq!(message.exchange_id, id);
    assert!(verification(&scene.centre, &id).await.unwrap().state() == VerificationState::Answered);
    scene.stop().await;
}

#[tokio::test]
async fn a_registry_that_stays_away_is_given_up_and_the_centre_is_told_what_to_do() {
    let mut scene = Scene::start_configured(|text| patience(&text, "1s")).await;
    scene.district.stop_registry().await;
    let mut request = scene.question();
    request.complete_later = true;
    let id = scene.verify(&request).await.unwrap().verification_id;
    let (_, message) = await_delivery(&scene).await;
    let Some(Body::Verification(outcome)) = message.body else { panic!("another message") };
    let Some(Answer::LowIncome(answer)) = &outcome.answer else { panic!("another register") };
    assert!(answer.result() == VerificationResult::Unavailable);
    assert!(!answer.next_steps.is_empty());
    assert!(verification(&scene.centre, &id).await.unwrap().state() == VerificationState::GivenUp);
    scene.stop().await;
}

#[tokio::test]
async fn many_questions_to_a_silent_registry_do_not_hold_up_another_registrys() {
    let mut scene = Scene::start_configured(|text| {
        patience(&text, "1h").replace("[verification]\n", "[verification]\nattempt = \"1s\"\nat_once = 2\n")
    })
    .await;
    let path = scene.folder.join("simulate-poverty-registry.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("behaviour = \"honest\"\n", "");
    let down_once = "[[script.scene]]\nuntil = 1\nbehaviour = \"down\"\n\n[[household]]";
    std::fs::write(&path, text.replacen("[[household]]", down_once, 1)).unwrap();
    scene = scene.restart().await;
    let silent =
        "[[script.scene]]\nuntil = 20\nbehaviour = \"down\"\n[[script.scene]]\nbehaviour = \"silent\"\n";
    change_registry(&mut scene, silent).await;
    for place in 0..20 {
        let mut request = about(&scene, place);
        request.complete_later = true;
        assert!(!scene.verify(&request).await.unwrap().verification_id.is_empty());
    }
    let mut request = scene.poverty_question();
    request.complete_later = true;
    let id = verify_poverty(&scene.centre, &request).await.unwrap().verification_id;
    let waiting = tokio::time::timeout(Duration::from_secs(6), await_delivery(&scene)).await;
    assert_eq!(waiting.expect("it waits for the silent registry").1.exchange_id, id);
    scene.stop().await;
}

#[tokio::test]
async fn a_question_that_cannot_be_read_any_more_is_given_up_too() {
    let mut scene = Scene::start_configured(|text| patience(&text, "2s")).await;
    scene.district.stop_registry().await;
    let mut request = scene.question();
    request.complete_later = true;
    let id = scene.verify(&request).await.unwrap().verification_id;
    let spoilt = "UPDATE verifications SET question = substr(question, 1, 1)";
    records::execute(&scene.database(), spoilt).await;
    let (_, message) = await_delivery(&scene).await;
    assert_eq!(message.exchange_id, id);
    assert!(verification(&scene.centre, &id).await.unwrap().state() == VerificationState::GivenUp);
    scene.stop().await;
}

#[tokio::test]
async fn nothing_is_asked_again_under_an_agreement_that_ended() {
    let mut scene = Scene::start_configured(|text| patience(&text, "1h")).await;
    change_registry(&mut scene, "behaviour = \"down\"\n").await;
    let mut request = scene.question();
    request.complete_later = true;
    let id = scene.verify(&request).await.unwrap().verification_id;
    scene
        .edit_directory(|file| {
            use legal_aid_gateway::access::Method;
            let agreement = district::agreement(file, "DEV-VERIFY");
            agreement.methods.retain(|method| *method != Method::VerifyLowIncome);
        })
        .await;
    let filter = proto::EntryFilter { exchange_id: id.clone(), ..Default::default() };
    scene.await_entry(filter, |entry| entry.reason.as_deref() == Some("NO_AGREEMENT")).await;
    let given_up = verification(&scene.centre, &id).await.unwrap();
    assert!(given_up.state() == VerificationState::GivenUp);
    scene.stop().await;
}

#[tokio::test]
async fn an_answer_leaves_nothing_to_complete() {
    let scene = Scene::start().await;
    let mut request = scene.poverty_question();
    request.complete_later = true;
    let found = verify_poverty(&scene.centre, &request).await.unwrap();
    assert!(found.verification_id.is_empty());
    assert_eq!(kept_questions(&scene).await, 0);
    scene.stop().await;
}

// ---- many at once ------------------------------------------------------------------------------------------------

#[tokio::test]
async fn each_question_of_a_batch_has_its_own_result_evidence_and_outcome() {
    let mut scene = Scene::start().await;
    let made_up = "[made_up]\nseed = 7\nhouseholds = 200\nregion = \"331004\"\n";
    let script =
        "[[script.scene]]\nevery = 50\nbehaviour = \"wrong-person\"\n[[script.scene]]\nslow_ms = 5\n";
    change_registry(&mut scene, &format!("{script}{made_up}")).await;
    let mut questions: Vec<_> = (0..200).map(|place| low_income(about(&scene, place))).collect();
    let mut wrong = about(&scene, 0);
    wrong.query.as_mut().unwrap().programmes.clear();
    wrong.query.as_mut().unwrap().authority = None;
    questions.insert(20, low_income(wrong));
    questions.insert(40, Some(Question::PovertyHousehold(scene.poverty_question())));
    questions.insert(60, None);

    let results = batch(&scene.centre, questions.clone()).await.unwrap();

    assert_eq!(results.len(), 203);
    let mut indices = std::collections::BTreeSet::new();
    let (mut matched, mut ambiguous) = (0, 0);
    for result in &results {
        let index = match result.result.as_ref().unwrap() {
            Outcome::LowIncome(answered) => {
                match answered.answer.as_ref().unwrap().result() {
                    VerificationResult::Match => matched += 1,
                    VerificationResult::Ambiguous => ambiguous += 1,
                    other => panic!("{}", other.as_str_name()),
                }
                answered.audit
            }
            Outcome::PovertyHousehold(answered) => {
                assert_eq!(result.number, 41);
                assert!(answered.answer.as_ref().unwrap().result() == VerificationResult::Match);
                answered.audit
            }
            Outcome::Refusal(refusal) => {
                assert_eq!((refusal.code, refusal.reason.as_str()), (3, "INVALID_REQUEST"));
                let rules: Vec<_> = refusal.violations.iter().map(|found| found.field.as_str()).collect();
                match result.number {
                    21 => assert_eq!(rules, ["query.programmes", "query.authority"]),
                    61 => assert_eq!(rules, ["question"]),
                    other => panic!("{other} is right"),
                }
                assert!(!refusal.may_retry);
                refusal.audit
            }
        };
        let index = index.unwrap().log_index;
        assert!(indices.insert(index));
        let phase = scene.entry(index).await.phase;
        assert!(matches!(phase, Phase::Response | Phase::Refused));
    }
    assert_eq!((matched, ambiguous), (196, 4));

    // The same ids again get their first outcomes, with their first evidence.
    let again = batch(&scene.centre, questions).await.unwrap();
    let first = |all: &[proto::BatchVerifyResponse]| {
        let low = all.iter().filter(|one| matches!(one.result, Some(Outcome::LowIncome(_))));
        let mut low: Vec<_> = low.cloned().map(|one| (one.number, one.result)).collect();
        low.sort_by_key(|(number, _)| *number);
        low
    };
    assert!(first(&again) == first(&results));
    scene.stop().await;
}

#[tokio::test]
async fn a_batch_that_is_broken_off_and_begun_again_asks_each_question_once() {
    let mut scene = Scene::start().await;
    let registry = scene.count_queries().await;
    let questions: Vec<_> = (0..60).map(|place| low_income(about(&scene, place))).collect();
    let mut stream = begin(&scene.centre, questions.clone()).await.unwrap();
    for _ in 0..10 {
        stream.message().await.unwrap().unwrap();
    }
    drop(stream);
    let results = batch(&scene.centre, questions).await.unwrap();
    assert_eq!(results.len(), 60);
    assert!(results.iter().all(|result| matches!(result.result, Some(Outcome::LowIncome(_)))));
    assert_eq!(registry.times_asked(), 60);
    scene.stop().await;
}

#[tokio::test]
async fn a_batch_goes_as_fast_as_the_agreement_says() {
    let scene = Scene::start().await;
    scene
        .edit_directory(|file| {
            let terms = legal_aid_gateway::access::BatchTerms { at_once: 4, per_second: 50 };
            district::agreement(file, "DEV-VERIFY").batch = Some(terms);
        })
        .await;
    let questions = (0..30).map(|place| low_income(about(&scene, place))).collect();
    let started = std::time::Instant::now();
    assert_eq!(batch(&scene.centre, questions).await.unwrap().len(), 30);
    assert!(started.elapsed() >= Duration::from_millis(400), "{:?}", started.elapsed());
    scene.stop().await;
}

#[tokio::test]
async fn a_question_of_a_batch_goes_as_fast_as_its_own_agreement_says() {
    let scene = Scene::start().await;
    scene
        .edit_directory(|file| {
            let terms = legal_aid_gateway::access::BatchTerms { at_once: 4, per_second: 50 };
            let slow = district::agreement(file, "DEV-VERIFY");
            slow.batch = Some(terms);
            slow.purposes = vec![purposes::AID_ELIGIBILITY.parse().unwrap()];
            // A stream may be begun under another agreement, which lets batches go faster.
            let fast = legal_aid_gateway::access::Agreement {
                id: "DEV-FAST".to_owned(),
                methods: vec![legal_aid_gateway::access::Method::BatchVerify],
                purposes: vec![purposes::FEE_WAIVER.parse().unwrap()],
                batch: Some(legal_aid_gateway::access::BatchTerms { at_once: 64, per_second: 5_000 }),
                ..slow.clone()
            };
            file.agreements.push(fast);
        })
        .await;
    let questions = (0..30).map(|place| low_income(about(&scene, place))).collect();
    let started = std::time::Instant::now();
    let mut stream = begin_for(&scene.centre, purposes::FEE_WAIVER, questions).await.unwrap();
    let mut answered = 0;
    while let Some(result) = stream.message().await.unwrap() {
        assert!(matches!(result.result, Some(Outcome::LowIncome(_))));
        answered += 1;
    }
    assert_eq!(answered, 30);
    assert!(started.elapsed() >= Duration::from_millis(400), "{:?}", started.elapsed());
    scene.stop().await;
}

#[tokio::test]
async fn a_batch_needs_an_agreement_of_its_own() {
    let scene = Scene::start().await;
    let refused = batch(&scene.court, vec![low_income(scene.question())]).await.err().unwrap();
    assert_eq!(Refused::of(&refused).reason, "NO_AGREEMENT");
    scene.stop().await;
}

// ---- from the command line ---------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_people_is_asked_once_each_also_when_the_command_is_broken_off() {
    let mut scene = Scene::start().await;
    let made_up = "[made_up]\nseed = 7\nhouseholds = 250\nregion = \"331004\"\n";
    let script = "[[script.scene]]\nslow_ms = 20\n";
    change_registry(&mut scene, &format!("{script}{made_up}")).await;
    let folder = scene.folder.clone();
    let mut text = "name,id_number,household_region\n".to_owned();
    for place in 0..300 {
        let person = person(7, "331004", place);
        text.push_str(&format!("{},{},331004\n", person.name, person.id_number));
    }
    std::fs::write(folder.join("people.csv"), &text).unwrap();
    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_legal-aid-gateway"));
        command.current_dir(&folder).kill_on_drop(true).args(["verify", "low-income", "--as", "centre.toml"]);
        command.args(["--file", "query.json", "--matter", "LQ-2026-0009", "--json"]);
        command.args(["--csv", "people.csv", "--out", "results.csv"]);
        command
    };
    let results = || std::fs::read_to_string(folder.join("results.csv")).unwrap_or_default();

    let mut broken_off = command().spawn().unwrap();
    let some = async {
        while results().lines().count() < 50 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, some).await.expect("nothing is answered");
    broken_off.kill().await.unwrap();
    // As if it had been cut off within a line.
    let left = results();
    assert!(left.lines().count() < 250, "it was too fast to be broken off");
    std::fs::write(folder.join("results.csv"), &left[..left.len() - 4]).unwrap();

    let done = command().output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let told: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(told["results"]["MATCH"], 250);
    assert_eq!(told["results"]["NO_MATCH"], 50);
    assert!(told["there_before"].as_u64().unwrap() >= 40);
    let lines: std::collections::BTreeSet<u64> =
        results().lines().skip(1).map(|row| row.split(',').next().unwrap().parse().unwrap()).collect();
    assert_eq!(lines, (2..=301).collect());
    assert!(!results().contains(&person(7, "331004", 0).id_number), "the results name somebody");
    // Each person was asked about once, whatever was on its way.
    let filter = proto::EntryFilter { matter_id: "LQ-2026-0009".to_owned(), ..Default::default() };
    let entries = scene.entries(filter).await;
    let asked = entries.iter().filter(|(_, entry)| entry.phase == Phase::Request);
    assert_eq!(asked.count(), 300);

    // Nothing is left to ask; another question does not go into the same results.
    let done = command().output().await.unwrap();
    let told: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(told["asked"], 0);
    let other = command().args(["--purpose", "FEE_WAIVER"]).output().await.unwrap();
    assert!(!other.status.success());
    assert!(String::from_utf8_lossy(&other.stderr).contains("another question"));
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poverty_household_is_verified_from_the_command_line() {
    let scene = Scene::start().await;
    let done = Command::new(env!("CARGO_BIN_EXE_legal-aid-gateway"))
        .current_dir(&scene.folder)
        .args([
            "verify",
            "poverty",
            "--as",
            "centre.toml",
            "--file",
            "poverty-query.json",
            "--matter",
            "LQ-1",
        ])
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    for word in ["MATCH", "EDGE", "OPEN", "2021-06-01", codes::POVERTY_REGISTRY] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
    scene.stop().await;
}

// ---- helpers -----------------------------------------------------------------------------------------------------

/// A question about the person made up at a place.
fn about(scene: &Scene, place: u32) -> proto::VerifyLowIncomeRequest {
    let mut request = scene.question();
    let subject = request.query.as_mut().unwrap().subject.as_mut().unwrap();
    let person = person(7, "331004", place);
    (subject.name, subject.id_number) = (person.name, person.id_number);
    request
}

fn low_income(request: proto::VerifyLowIncomeRequest) -> Option<Question> {
    Some(Question::LowIncome(request))
}

async fn begin(
    client: &AgencyClient,
    questions: Vec<Option<Question>>,
) -> Result<Streaming<proto::BatchVerifyResponse>, Status> {
    begin_for(client, purposes::AID_ELIGIBILITY, questions).await
}

async fn begin_for(
    client: &AgencyClient,
    purpose: &str,
    questions: Vec<Option<Question>>,
) -> Result<Streaming<proto::BatchVerifyResponse>, Status> {
    let context = Some(client.context(purpose));
    let first = proto::BatchVerifyRequest { context, question: None };
    let rest = questions.into_iter().map(|question| proto::BatchVerifyRequest { context: None, question });
    let stream = tokio_stream::iter(std::iter::once(first).chain(rest).collect::<Vec<_>>());
    client.verification().batch_verify(stream).await.map(Response::into_inner)
}

async fn batch(
    client: &AgencyClient,
    questions: Vec<Option<Question>>,
) -> Result<Vec<proto::BatchVerifyResponse>, Status> {
    let mut stream = begin(client, questions).await?;
    let mut results = Vec::new();
    while let Some(result) = stream.message().await? {
        results.push(result);
    }
    Ok(results)
}

/// Asks again soon, and gives up at an age.
fn patience(text: &str, give_up_after: &str) -> String {
    let given = format!("[verification]\nfirst_retry = \"100ms\"\ngive_up_after = \"{give_up_after}\"\n");
    let at = text.find("[verification]").unwrap();
    let rest = text[at..].split_once('\n').unwrap().1;
    format!("{}{given}{rest}", &text[..at])
}

/// Starts the registry again with more in its configuration.
async fn change_registry(scene: &mut Scene, more: &str) {
    scene.district.stop_registry().await;
    let path = scene.folder.join("simulate-registry.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (plain, tables) = text.split_once("[[household]]").unwrap();
    let plain = plain.replace("behaviour = \"honest\"\n", "");
    std::fs::write(&path, format!("{plain}{more}\n[[household]]{tables}")).unwrap();
    scene.district.start_registry().await.unwrap();
}

async fn allow_verification(scene: &Scene, code: &str) {
    scene
        .edit_directory(|file| {
            let like = district::agreement(file, "DEV-VERIFY").clone();
            let caller = code.parse::<legal_aid_gateway::domain::agency::CreditCode>().unwrap().into();
            let id = "DEV-OTHER-VERIFY".to_owned();
            file.agreements.push(legal_aid_gateway::access::Agreement { id, caller, ..like });
        })
        .await;
}

async fn verification(client: &AgencyClient, id: &str) -> Result<proto::Verification, Status> {
    let request = proto::GetVerificationRequest {
        context: Some(client.context(purposes::AID_ELIGIBILITY)),
        verification_id: id.to_owned(),
    };
    let call = client.request(request, DEADLINE);
    let answer = client.verification().get_verification(call).await.map(Response::into_inner)?;
    Ok(answer.verification.unwrap())
}

/// Pulls until something is delivered: what the gateway does by itself gives no event.
async fn await_delivery(scene: &Scene) -> (proto::Delivery, proto::ExchangeMessage) {
    let polling = async {
        loop {
            let request = proto::PullDeliveriesRequest {
                context: Some(scene.centre.context(purposes::AID_ELIGIBILITY)),
                max_deliveries: 10,
            };
            let call = scene.centre.request(request, DEADLINE);
            let pulled = scene.centre.exchanges().pull_deliveries(call).await.unwrap().into_inner();
            if let Some(delivery) = pulled.deliveries.into_iter().next() {
                let message = proto::ExchangeMessage::decode(delivery.message.as_slice()).unwrap();
                return (delivery, message);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(DEADLINE, polling).await.expect("nothing was delivered")
}

async fn acknowledge(client: &AgencyClient, delivery: &proto::Delivery) {
    let request = proto::AcknowledgeDeliveryRequest {
        context: Some(client.context(purposes::AID_ELIGIBILITY)),
        delivery_id: delivery.delivery_id.clone(),
        message_sha256: delivery.message_sha256.clone(),
    };
    client.exchanges().acknowledge_delivery(client.request(request, DEADLINE)).await.unwrap();
}

async fn kept_questions(scene: &Scene) -> i64 {
    let kept = "SELECT COUNT(*) FROM verifications WHERE question IS NOT NULL";
    records::count(&scene.database(), kept).await
}
