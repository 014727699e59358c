//! The kinds that go to a centre: counsel notice, direct-assignment report, cooperation request. The examples are those
//! of `docs/kinds`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod district;

use std::path::Path;
use std::time::Duration;

use district::{
    DEADLINE, Refused, Scene, basis, day_from_today, example, example_answer, example_json, referral, relief,
    respond, sensitive, submit, waiver, wire_date, wire_time,
};
use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::domain::agency::AgencyKind;
use legal_aid_gateway::domain::exchange::Kind;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::grpc::proto::content::Kind as ContentArm;
use legal_aid_gateway::grpc::proto::exchange_message::Body;
use legal_aid_gateway::grpc::proto::response::Kind as Arm;
use legal_aid_gateway::setup::{codes, purposes};
use legal_aid_gateway::simulator::clerk;
use legal_aid_gateway::simulator::script::{Script, ScriptFile};
use prost::Message as _;
use tokio::process::Command;
use tonic::Code;

const NOTICE: &str = "counsel-notice";
const REPORT: &str = "direct-assignment-report";
const COOPERATION: &str = "cooperation-request";

/// A synthetic person whose number begins with a region that never was.
const FROM_NOWHERE: &str = "990001199002020029";

// ---- round trips -------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_counsel_notice_is_answered_by_an_assignment_and_closed() {
    let scene = Scene::start().await;
    let sent = submit(&scene.court, &example(NOTICE, &scene.court)).await.unwrap().exchange.unwrap();
    let purpose = purposes::COUNSEL_ASSIGNMENT;

    let taken = take(&scene.centre, purpose).await;
    let Some(Body::Content(content)) = &taken.message.body else { panic!("not a content") };
    assert!(matches!(content.kind, Some(ContentArm::CounselNotice(_))));
    assert_eq!(taken.message.exchange_id, sent.exchange_id);

    assert_eq!(state_after(&scene.centre, &sent, taken.receipt()).await, "EXCHANGE_STATE_RECEIVED");
    assert_eq!(state_after(&scene.centre, &sent, example_answer(NOTICE)).await, "EXCHANGE_STATE_DECIDED");
    let closed_on = Some(wire_date(day_from_today(&scene.clock, 0)));
    let closure = Arm::Closure(proto::Closure { closed_on, final_allocation: String::new() });
    assert_eq!(state_after(&scene.court, &sent, closure).await, "EXCHANGE_STATE_CLOSED");

    let thread = thread(&scene.court, purpose, &sent.exchange_id).await;
    assert_eq!(thread.len(), 4);
    let Some(Body::Response(answer)) = &thread[2].body else { panic!("not a response") };
    let Some(Arm::CounselAssignment(assigned)) = &answer.kind else { panic!("not an assignment") };
    assert_eq!(assigned.firm, "模拟律师事务所");
    scene.stop().await;
}

#[tokio::test]
async fn a_centre_that_takes_push_gets_the_report_and_acknowledges_it() {
    let scene = Scene::start().await;
    let mut told = scene.open_centre_inbox().await;
    let sent = submit(&scene.court, &example(REPORT, &scene.court)).await.unwrap().exchange.unwrap();

    let pushed = told.recv().await.unwrap().delivery.message;
    let taken = Taken::of(&pushed);
    assert_eq!(taken.message.exchange_id, sent.exchange_id);
    assert_eq!(state_after(&scene.centre, &sent, taken.receipt()).await, "EXCHANGE_STATE_RECEIVED");
    assert_eq!(state_after(&scene.centre, &sent, example_answer(REPORT)).await, "EXCHANGE_STATE_DECIDED");

    let thread = thread(&scene.court, purposes::COUNSEL_ASSIGNMENT, &sent.exchange_id).await;
    let Some(Body::Response(answer)) = &thread[2].body else { panic!("not a response") };
    let Some(Arm::DirectAssignmentAcknowledgement(acknowledged)) = &answer.kind else { panic!("other arm") };
    assert_eq!(acknowledged.outcome().as_str_name(), "DIRECT_ASSIGNMENT_OUTCOME_REGISTERED");
    scene.stop().await;
}

#[tokio::test]
async fn a_cooperation_request_goes_from_clerk_to_clerk_on_the_command_line() {
    let clock = Clock::moved_by_hand(Clock::system().now());
    let scene = Scene::start_with(Script::TakeOnly, clock.clone()).await;
    let purpose = purposes::COOPERATION;
    let (request, result) = (example_json(COOPERATION, 0), example_json(COOPERATION, 1));
    let answer = run(&scene.folder, "centre", purpose, &["submit", "--file", "-"], &request).await;
    let id = answer["exchange"]["exchange_id"].as_str().unwrap().to_owned();

    // A pull that broke off before it acknowledged is done again; the receipt is sent once.
    let pull = ["pull", "--receipt"];
    let first = run(&scene.folder, "neighbour", purpose, &pull, "").await;
    clock.advance(Duration::from_secs(61));
    let again = run(&scene.folder, "neighbour", purpose, &[&pull[..], &["--acknowledge"]].concat(), "").await;
    for pulled in [first, again] {
        let message = &pulled["deliveries"][0]["message"];
        assert_eq!(message["exchange_id"], id);
        assert_eq!(message["content"]["cooperation_request"]["task"], "COOPERATION_TASK_SERVE");
    }

    let respond = ["respond", id.as_str(), "--file", "-"];
    let answer = run(&scene.folder, "neighbour", purpose, &respond, &result).await;
    assert_eq!(answer["exchange"]["state"], "EXCHANGE_STATE_DECIDED");

    // Without a --basis, an answer goes by the article of its kind.
    let shown = run(&scene.folder, "centre", purpose, &["show", id.as_str()], "").await;
    let basis = &shown["thread"][2]["envelope"]["legal_basis"][0];
    assert_eq!((basis["law"].as_str(), basis["article"].as_str()), (Some("法律援助法"), Some("51")));
    assert_eq!(shown["thread"][2]["response"]["cooperation_result"]["outcome"], "COOPERATION_OUTCOME_DONE");
    scene.stop().await;
}

#[tokio::test]
async fn every_answer_is_sent_from_a_file() {
    let scene = Scene::start().await;
    let day = day_from_today(&scene.clock, 0);
    let date = format!(r#"{{"year": {}, "month": {}, "day": {}}}"#, day.year(), day.month(), day.day());
    let ask = format!(
        r#"{{"supplementRequest": {{"missing": [{{"description": "送达地址确认书"}}], "dueOn": {date}}}}}"#
    );
    let supplement = r#"{"supplement": {"note": "已补充"}}"#.to_owned();
    let closure = format!(r#"{{"closure": {{"closedOn": {date}}}}}"#);
    let withdrawal = r#"{"withdrawal": {"reason": "当事人已到场"}}"#.to_owned();
    let (court, centre, neighbour) = ("court", "centre", "neighbour");
    let threads = [
        (
            (COOPERATION, purposes::COOPERATION, centre, neighbour),
            vec![
                (neighbour, ask, "SUPPLEMENT_REQUESTED"),
                (centre, supplement, "SUPPLEMENTED"),
                (neighbour, example_json(COOPERATION, 1), "DECIDED"),
                (centre, closure.clone(), "CLOSED"),
            ],
        ),
        ((COOPERATION, purposes::COOPERATION, centre, neighbour), vec![(centre, withdrawal, "WITHDRAWN")]),
        (
            (NOTICE, purposes::COUNSEL_ASSIGNMENT, court, centre),
            vec![(centre, example_json(NOTICE, 1), "DECIDED"), (court, closure, "CLOSED")],
        ),
        (
            (REPORT, purposes::COUNSEL_ASSIGNMENT, court, centre),
            vec![(centre, example_json(REPORT, 1), "DECIDED")],
        ),
    ];
    for ((page, purpose, from, to), answers) in threads {
        let opened =
            run(&scene.folder, from, purpose, &["submit", "--file", "-"], &example_json(page, 0)).await;
        let id = opened["exchange"]["exchange_id"].as_str().unwrap();
        run(&scene.folder, to, purpose, &["pull", "--receipt", "--acknowledge"], "").await;
        for (name, answer, state) in answers {
            let answered = run(&scene.folder, name, purpose, &["respond", id, "--file", "-"], &answer).await;
            assert_eq!(answered["exchange"]["state"], format!("EXCHANGE_STATE_{state}"), "{page}");
        }
    }
    scene.stop().await;
}

#[tokio::test]
async fn the_police_give_notice_in_the_investigation_and_not_at_the_trial() {
    let scene = Scene::start().await;
    scene
        .edit_directory(|file| {
            let court = file.agencies.iter_mut().find(|agency| agency.code.as_str() == codes::COURT);
            court.unwrap().kind = AgencyKind::PublicSecurityOrgan;
        })
        .await;
    let refused = Refused::of(&submit(&scene.court, &example(NOTICE, &scene.court)).await.err().unwrap());
    assert_refused(&refused, "content.counsel_notice.stage", "SENDER_FITS_CONTENT", "法律援助法 art 36");
    let mut request = example(NOTICE, &scene.court);
    notice(&mut request).stage = proto::ProceedingStage::Investigation.into();
    notice(&mut request).next_hearing_on = None;
    submit(&scene.court, &request).await.unwrap();
    scene.stop().await;
}

#[tokio::test]
async fn a_procuratorate_gives_notice_in_its_review_for_prosecution_and_gets_the_assignment() {
    let scene = Scene::start().await;
    let procuratorate = scene.district.client("procuratorate").unwrap();
    let mut request = example(NOTICE, &procuratorate);
    let refused = Refused::of(&submit(&procuratorate, &request).await.err().unwrap());
    assert_refused(&refused, "content.counsel_notice.stage", "SENDER_FITS_CONTENT", "法律援助法 art 36");

    request.envelope.as_mut().unwrap().request_id = procuratorate.request_id();
    notice(&mut request).stage = proto::ProceedingStage::ProsecutionReview.into();
    notice(&mut request).next_hearing_on = None;
    let sent = submit(&procuratorate, &request).await.unwrap().exchange.unwrap();
    let taken = take(&scene.centre, purposes::COUNSEL_ASSIGNMENT).await;
    state_after(&scene.centre, &sent, taken.receipt()).await;
    state_after(&scene.centre, &sent, example_answer(NOTICE)).await;
    let thread = thread(&procuratorate, purposes::COUNSEL_ASSIGNMENT, &sent.exchange_id).await;
    assert_eq!(thread.len(), 3);
    scene.stop().await;
}

#[tokio::test]
async fn every_answer_arm_of_these_kinds_fits_its_own_kind_only() {
    let scene = Scene::start().await;
    let sent = submit(&scene.court, &example(NOTICE, &scene.court)).await.unwrap().exchange.unwrap();
    for page in [REPORT, COOPERATION] {
        let answer = answer_to(&scene.centre, &sent, example_answer(page));
        let refused = Refused::of(&respond(&scene.centre, &answer).await.err().unwrap());
        assert_eq!(refused.rules(), [("response", "RESPONSE_FITS_EXCHANGE")], "{page}");
    }
    scene.stop().await;
}

// ---- simulated centres -------------------------------------------------------------------------------------------

#[tokio::test]
async fn simulated_centres_answer_each_kind_by_their_scripts() {
    let scene = Scene::start().await;
    let (court, centre) = (&scene.court, &scene.centre);
    let cases = [
        (REPORT, "centre", court, "DIRECT_ASSIGNMENT_REPORT", "decide"),
        (NOTICE, "centre", court, "COUNSEL_NOTICE", "decide"),
        (REPORT, "centre", court, "DIRECT_ASSIGNMENT_REPORT", r#"decide", outcome = "ALREADY_REGISTERED"#),
        (REPORT, "centre", court, "DIRECT_ASSIGNMENT_REPORT", r#"refuse", reasons = "不属于法律援助案件"#),
        (COOPERATION, "neighbour", centre, "COOPERATION_REQUEST", "decide"),
        (COOPERATION, "neighbour", centre, "COOPERATION_REQUEST", r#"decide", outcome = "PARTLY_DONE"#),
        (COOPERATION, "neighbour", centre, "COOPERATION_REQUEST", r#"refuse", reasons = "查无此人"#),
    ];
    for (page, simulated, sender, kind, step) in cases {
        let script = format!(r#"steps.{kind} = [{{ do = "receipt" }}, {{ do = "{step}" }}]"#);
        let mut config = clerk::load(&scene.folder.join(format!("simulate-{simulated}.toml"))).unwrap();
        config.steps = toml::from_str::<ScriptFile>(&script).unwrap().steps;
        if let Some(listen) = config.listen {
            drop(district::bind(listen).await);
        }
        let working = clerk::work(config, scene.clock.clone()).await.unwrap();
        let sent = submit(sender, &example(page, sender)).await.unwrap().exchange.unwrap();
        let purpose = purpose_of(&sent);
        let answered = async {
            loop {
                let thread = thread(sender, purpose, &sent.exchange_id).await;
                if thread.len() == 3 {
                    return thread;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let thread = tokio::time::timeout(DEADLINE, answered).await.expect(step);
        let Some(Body::Response(answer)) = &thread[2].body else { panic!("not a response") };
        let refuses = match answer.kind.as_ref().unwrap() {
            Arm::CounselAssignment(_) => false,
            Arm::DirectAssignmentAcknowledgement(answer) => !answer.reasons.is_empty(),
            Arm::CooperationResult(result) => result.outcome() == proto::CooperationOutcome::NotDone,
            _ => panic!("{page}: another arm"),
        };
        assert_eq!(refuses, step.starts_with("refuse"), "{page} {step}");
        working.stop().await;
    }
    scene.stop().await;
}

// ---- refusals ----------------------------------------------------------------------------------------------------

/// One rule that an opening can break: how, where, which, and by which article.
type Fault = (fn(&mut proto::SubmitExchangeRequest), &'static str, &'static str, &'static str);

#[tokio::test]
async fn each_rule_of_a_counsel_notice_is_kept() {
    use proto::{CounselGround, ProceedingStage};
    let faults: &[Fault] = &[
        (
            |request| notice(request).suspect.as_mut().unwrap().id_number = "331004199002020027".to_owned(),
            "suspect.id_number",
            "RESIDENT_ID_CHECK",
            "GB 11643",
        ),
        (
            |request| notice(request).ground = CounselGround::CounselGround2515.into(),
            "ground",
            "GROUND_FITS_STAGE",
            "法律援助法 art 25(1)(5)",
        ),
        (
            |request| {
                notice(request).ground = CounselGround::CounselGround2516.into();
                notice(request).stage = ProceedingStage::DeathPenaltyReview.into();
            },
            "ground",
            "GROUND_FITS_STAGE",
            "法律援助法 art 25(1)(6)",
        ),
        (
            |request| notice(request).stage = ProceedingStage::CompulsoryTreatment.into(),
            "ground",
            "GROUND_FITS_STAGE",
            "法律援助法 art 28",
        ),
        (
            |request| {
                notice(request).stage = ProceedingStage::ProsecutionReview.into();
                notice(request).next_hearing_on = None;
            },
            "stage",
            "SENDER_FITS_CONTENT",
            "法律援助法 art 36",
        ),
        (
            |request| {
                notice(request).stage = ProceedingStage::Investigation.into();
                notice(request).next_hearing_on = None;
            },
            "stage",
            "SENDER_FITS_CONTENT",
            "法律援助法 art 36",
        ),
        (
            |request| notice(request).has_counsel = Some(true),
            "has_counsel",
            "ONLY_WITHOUT_COUNSEL",
            "法律援助法 art 25(1)",
        ),
        (|request| notice(request).custody_place.clear(), "custody_place", "PLACE_WITH_CUSTODY", ""),
        (|request| notice(request).in_custody = Some(false), "custody_place", "PLACE_WITH_CUSTODY", ""),
        (
            |request| {
                notice(request).next_hearing_on = Some(wire_date(jiff::civil::date(2026, 1, 5)));
            },
            "next_hearing_on",
            "NOT_IN_THE_PAST",
            "",
        ),
        (
            |request| notice(request).stage = ProceedingStage::Investigation.into(),
            "next_hearing_on",
            "HEARING_IS_IN_COURT",
            "",
        ),
        (
            |request| notice(request).found_at = Some(wire_time(4_000_000_000)),
            "found_at",
            "NOT_IN_THE_FUTURE",
            "",
        ),
        (|request| notice(request).charge = "罪".to_owned(), "charge", "LENGTH", ""),
        (|request| notice(request).organ_case_number = "1".repeat(65), "organ_case_number", "LENGTH", ""),
    ];
    let scene = Scene::start().await;
    let court = &scene.court;
    assert_each_is_refused(&scene, court, NOTICE, "content.counsel_notice", faults).await;
    scene.stop().await;
}

#[tokio::test]
async fn each_rule_of_a_direct_assignment_report_is_kept() {
    let faults: &[Fault] = &[
        (
            |request| report(request).case_number = "2026-15".to_owned(),
            "case_number",
            "CASE_NUMBER_BRACKETS",
            "",
        ),
        (|request| report(request).case_number.clear(), "case_number", "REQUIRED", ""),
        (|request| report(request).cause_of_action = "盗".to_owned(), "cause_of_action", "LENGTH", ""),
        (|request| report(request).firm.clear(), "firm", "REQUIRED", ""),
        (|request| report(request).lawyer_name = "12345".to_owned(), "lawyer_name", "NAME_DIGITS_ONLY", ""),
        (
            |request| report(request).licence_number = "12345".to_owned(),
            "licence_number",
            "LICENCE_NUMBER",
            "",
        ),
        (
            |request| report(request).assigned_on = Some(wire_date(jiff::civil::date(2099, 1, 1))),
            "assigned_on",
            "NOT_IN_THE_FUTURE",
            "",
        ),
        (|request| report(request).reason.clear(), "reason", "REQUIRED", ""),
        (|request| report(request).reason = "急".repeat(2001), "reason", "LENGTH", ""),
        (
            |request| {
                report(request).assisted_person.as_mut().unwrap().id_number = "331004199002020027".to_owned();
            },
            "assisted_person.id_number",
            "RESIDENT_ID_CHECK",
            "GB 11643",
        ),
    ];
    let scene = Scene::start().await;
    let court = &scene.court;
    assert_each_is_refused(&scene, court, REPORT, "content.direct_assignment_report", faults).await;
    scene.stop().await;
}

#[tokio::test]
async fn each_rule_of_a_cooperation_request_is_kept() {
    use proto::CooperationTask;
    let faults: &[Fault] = &[
        (|request| cooperation(request).person = None, "person", "REQUIRED", "法律援助法 art 51"),
        (|request| cooperation(request).place.clear(), "place", "REQUIRED", "法律援助法 art 51"),
        (|request| cooperation(request).place = "某".to_owned(), "place", "LENGTH", ""),
        (
            |request| request.envelope.as_mut().unwrap().attachments.clear(),
            "content",
            "SERVICE_NEEDS_PAPERS",
            "法律援助法 art 51",
        ),
        (|request| cooperation(request).content = "请".repeat(4001), "content", "LENGTH", ""),
        (
            |request| cooperation(request).due_on = Some(wire_date(jiff::civil::date(2026, 1, 5))),
            "due_on",
            "NOT_IN_THE_PAST",
            "",
        ),
        (
            |request| cooperation(request).task = CooperationTask::TakeApplication.into(),
            "aid_decision",
            "NO_DECISION_BEFORE_THE_APPLICATION",
            "法律援助法 art 43",
        ),
        (
            |request| {
                cooperation(request).aid_decision.as_mut().unwrap().centre = codes::NEIGHBOUR.to_owned();
            },
            "aid_decision.centre",
            "DECISION_IS_THE_SENDERS",
            "",
        ),
    ];
    let scene = Scene::start().await;
    let centre = &scene.centre;
    assert_each_is_refused(&scene, centre, COOPERATION, "content.cooperation_request", faults).await;
    scene.stop().await;
}

#[tokio::test]
async fn each_rule_of_the_answers_is_kept() {
    /// How an answer breaks a rule, and where, which, by which article.
    type AnswerFault = (&'static str, fn(&mut Arm), &'static str, &'static str, &'static str);
    let faults: &[AnswerFault] = &[
        (NOTICE, |arm| assignment(arm).firm.clear(), "firm", "REQUIRED", ""),
        (
            NOTICE,
            |arm| assignment(arm).licence_number = "执业".to_owned(),
            "licence_number",
            "LICENCE_NUMBER",
            "",
        ),
        (NOTICE, |arm| assignment(arm).lawyer_phone = "1".to_owned(), "lawyer_phone", "PHONE_NUMBER", ""),
        (
            NOTICE,
            |arm| assignment(arm).assigned_on = Some(wire_date(jiff::civil::date(2099, 1, 1))),
            "assigned_on",
            "NOT_IN_THE_FUTURE",
            "",
        ),
        (
            NOTICE,
            |arm| assignment(arm).relevant_practice_years = Some(2),
            "relevant_practice_years",
            "THREE_YEARS_OF_PRACTICE",
            "法律援助法 art 26",
        ),
        (
            NOTICE,
            |arm| assignment(arm).relevant_practice_years = None,
            "relevant_practice_years",
            "THREE_YEARS_OF_PRACTICE",
            "法律援助法 art 26",
        ),
        (
            NOTICE,
            |arm| assignment(arm).relevant_practice_years = Some(81),
            "relevant_practice_years",
            "RANGE",
            "",
        ),
        (
            REPORT,
            |arm| acknowledgement(arm).registration_number.clear(),
            "registration_number",
            "NUMBER_WITH_REGISTRATION",
            "法律援助法 art 12",
        ),
        (
            REPORT,
            |arm| {
                let acknowledged = acknowledgement(arm);
                acknowledged.outcome = proto::DirectAssignmentOutcome::NotRegistered.into();
                acknowledged.registration_number.clear();
            },
            "reasons",
            "REASONS_WITHOUT_REGISTRATION",
            "法律援助法 art 12",
        ),
        (
            COOPERATION,
            |arm| result(arm).outcome = proto::CooperationOutcome::PartlyDone.into(),
            "reasons",
            "REASONS_UNLESS_DONE",
            "法律援助法 art 51",
        ),
        (COOPERATION, |arm| result(arm).account.clear(), "account", "REQUIRED", ""),
    ];
    let scene = Scene::start().await;
    let neighbour = scene.district.client("neighbour").unwrap();
    for page in [NOTICE, REPORT, COOPERATION] {
        let (from, to) =
            if page == COOPERATION { (&scene.centre, &neighbour) } else { (&scene.court, &scene.centre) };
        let exchange = submit(from, &example(page, from)).await.unwrap().exchange.unwrap();
        for (_, spoil, field, rule, article) in faults.iter().filter(|(of, ..)| *of == page) {
            let mut arm = example_answer(page);
            spoil(&mut arm);
            let request = answer_to(to, &exchange, arm);
            let refused = respond(to, &request).await.err().expect(rule);
            let field = format!("response.{}.{field}", page_arm(page));
            assert_refused(&Refused::of(&refused), &field, rule, article);
            let who = if page == COOPERATION { "neighbour" } else { "centre" };
            let said = scene.answer_refused_on_the_command_line(who, &request).await;
            assert!(said.contains(&field) && said.contains(rule), "{field} {rule}: {said}");
        }
    }
    scene.stop().await;
}

#[tokio::test]
async fn a_kind_goes_to_a_centre_only_from_who_may_send_it() {
    let scene = Scene::start().await;
    // A centre sends no counsel notice, not even to another centre, and no report.
    for page in [NOTICE, REPORT] {
        let mut request = example(page, &scene.centre);
        let envelope = request.envelope.as_mut().unwrap();
        envelope.recipient = codes::NEIGHBOUR.to_owned();
        envelope.purpose = purposes::COOPERATION.to_owned();
        let refused = Refused::of(&submit(&scene.centre, &request).await.err().unwrap());
        assert_refused(&refused, "envelope.recipient", "KIND_GOES_ITS_WAY", "法律援助法 art 36");
    }
    // A court asks no centre to cooperate.
    let mut request = example(COOPERATION, &scene.court);
    let envelope = request.envelope.as_mut().unwrap();
    envelope.recipient = codes::CENTRE.to_owned();
    envelope.purpose = purposes::COUNSEL_ASSIGNMENT.to_owned();
    cooperation(&mut request).aid_decision = None;
    let refused = Refused::of(&submit(&scene.court, &request).await.err().unwrap());
    assert_refused(&refused, "envelope.recipient", "KIND_GOES_ITS_WAY", "法律援助法 art 51");
    scene.stop().await;

    // Police and procuratorate give notice as the court does.
    for organ in [AgencyKind::PublicSecurityOrgan, AgencyKind::Procuratorate, AgencyKind::Court] {
        assert!(Kind::CounselNotice.route(organ, AgencyKind::LegalAidCentre).is_ok(), "{organ}");
    }
}

// ---- warnings ----------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_region_that_is_not_known_is_a_warning_in_every_kind() {
    let scene = Scene::start().await;
    let from_nowhere = || FROM_NOWHERE.to_owned();

    // A register is asked as ever.
    let mut question = scene.question();
    question.query.as_mut().unwrap().subject.as_mut().unwrap().id_number = from_nowhere();
    scene.verify(&question).await.unwrap();

    let mut request = scene.fee_waiver();
    waiver(&mut request).applicant.as_mut().unwrap().id_number = from_nowhere();
    assert_region_is_remarked(&scene.centre, &request, "content.fee_waiver.applicant.id_number").await;

    let mut request = example("judicial-relief", &scene.centre);
    relief(&mut request).applicant.as_mut().unwrap().id_number = from_nowhere();
    assert_region_is_remarked(&scene.centre, &request, "content.judicial_relief.applicant.id_number").await;

    let mut request = example("appeal-referral", &scene.centre);
    referral(&mut request).applicant.as_mut().unwrap().id_number = from_nowhere();
    assert_region_is_remarked(&scene.centre, &request, "content.appeal_referral.applicant.id_number").await;

    let mut request = example(NOTICE, &scene.court);
    notice(&mut request).suspect.as_mut().unwrap().id_number = from_nowhere();
    assert_region_is_remarked(&scene.court, &request, "content.counsel_notice.suspect.id_number").await;

    let mut request = example(REPORT, &scene.court);
    report(&mut request).assisted_person.as_mut().unwrap().id_number = from_nowhere();
    let field = "content.direct_assignment_report.assisted_person.id_number";
    assert_region_is_remarked(&scene.court, &request, field).await;

    let mut request = example(COOPERATION, &scene.centre);
    cooperation(&mut request).person.as_mut().unwrap().id_number = from_nowhere();
    assert_region_is_remarked(&scene.centre, &request, "content.cooperation_request.person.id_number").await;
    scene.stop().await;
}

#[tokio::test]
async fn a_late_notice_is_taken_with_a_warning_and_one_in_time_without() {
    let scene = Scene::start().await;
    let found = async |days: i64| {
        let mut request = example(NOTICE, &scene.court);
        notice(&mut request).found_at = Some(wire_time(scene.clock.now().as_second() - days * 86_400));
        warnings(&scene.court, &request).await
    };
    assert!(found(3).await.is_empty());
    let late = found(4).await;
    assert_eq!(
        (late[0].field.as_str(), late[0].rule.as_str()),
        ("content.counsel_notice.found_at", "NOTICE_WITHIN_3_DAYS")
    );
    assert_eq!(late[0].article, "法律援助法 art 36");
    assert!(!late[0].description_zh.is_empty());

    // By the document the suspect is of full age.
    let mut request = example(NOTICE, &scene.court);
    notice(&mut request).ground = proto::CounselGround::CounselGround2511.into();
    let rules: Vec<_> = warnings(&scene.court, &request).await.into_iter().map(|found| found.rule).collect();
    assert!(rules.contains(&"OF_AGE_BY_DOCUMENT".to_owned()), "{rules:?}");

    let mut request = example(REPORT, &scene.court);
    report(&mut request).assigned_on = Some(wire_date(jiff::civil::date(2025, 12, 31)));
    let found = warnings(&scene.court, &request).await;
    assert_eq!(found[0].rule, "ASSIGNED_BEFORE_THE_CASE");
    scene.stop().await;
}

// ---- helpers -----------------------------------------------------------------------------------------------------

fn page_arm(page: &str) -> &'static str {
    match page {
        NOTICE => "counsel_assignment",
        REPORT => "direct_assignment_acknowledgement",
        _ => "cooperation_result",
    }
}

fn arm(request: &mut proto::SubmitExchangeRequest) -> &mut ContentArm {
    request.content.as_mut().unwrap().kind.as_mut().unwrap()
}

fn notice(request: &mut proto::SubmitExchangeRequest) -> &mut proto::CounselNotice {
    let ContentArm::CounselNotice(notice) = arm(request) else { panic!("not a notice") };
    notice
}

fn report(request: &mut proto::SubmitExchangeRequest) -> &mut proto::DirectAssignmentReport {
    let ContentArm::DirectAssignmentReport(report) = arm(request) else { panic!("not a report") };
    report
}

fn cooperation(request: &mut proto::SubmitExchangeRequest) -> &mut proto::CooperationRequest {
    let ContentArm::CooperationRequest(asked) = arm(request) else { panic!("not a cooperation request") };
    asked
}

fn assignment(arm: &mut Arm) -> &mut proto::CounselAssignment {
    let Arm::CounselAssignment(assigned) = arm else { panic!("not an assignment") };
    assigned
}

fn acknowledgement(arm: &mut Arm) -> &mut proto::DirectAssignmentAcknowledgement {
    let Arm::DirectAssignmentAcknowledgement(acknowledged) = arm else { panic!("not an acknowledgement") };
    acknowledged
}

fn result(arm: &mut Arm) -> &mut proto::CooperationResult {
    let Arm::CooperationResult(result) = arm else { panic!("not a result") };
    result
}

/// What a centre took, and its digest.
struct Taken {
    message: proto::ExchangeMessage,
    sha256: Vec<u8>,
    at: i64,
}

impl Taken {
    fn of(bytes: &[u8]) -> Self {
        let message = proto::ExchangeMessage::decode(bytes).unwrap();
        let at = message.accept_time.as_ref().unwrap().seconds;
        let sha256 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec();
        Self { message, sha256, at }
    }

    fn receipt(&self) -> Arm {
        Arm::Receipt(proto::Receipt {
            message_sha256: self.sha256.clone(),
            received_at: Some(wire_time(self.at)),
            receipt_number: "R-1".to_owned(),
        })
    }
}

/// Pulls the one delivery that waits, and acknowledges it.
async fn take(client: &AgencyClient, purpose: &str) -> Taken {
    let pull = proto::PullDeliveriesRequest { context: Some(client.context(purpose)), max_deliveries: 10 };
    let pulled =
        client.exchanges().pull_deliveries(client.request(pull, DEADLINE)).await.unwrap().into_inner();
    assert_eq!(pulled.deliveries.len(), 1);
    let delivery = &pulled.deliveries[0];
    let acknowledge = proto::AcknowledgeDeliveryRequest {
        context: Some(client.context(purpose)),
        delivery_id: delivery.delivery_id.clone(),
        message_sha256: delivery.message_sha256.clone(),
    };
    client.exchanges().acknowledge_delivery(client.request(acknowledge, DEADLINE)).await.unwrap();
    Taken::of(&delivery.message)
}

fn answer_to(client: &AgencyClient, exchange: &proto::Exchange, arm: Arm) -> proto::RespondToExchangeRequest {
    let own = client.profile().agency.to_string();
    let other = if exchange.sender == own { &exchange.recipient } else { &exchange.sender };
    let envelope = proto::Envelope {
        matter_id: exchange.matter_id.clone(),
        kind: exchange.kind,
        recipient: other.clone(),
        legal_basis: vec![basis("法律援助法", "36")],
        purpose: purpose_of(exchange).to_owned(),
        classification: Some(sensitive()),
        in_reply_to: exchange.exchange_id.clone(),
        ..Default::default()
    };
    proto::RespondToExchangeRequest {
        envelope: Some(client.complete(envelope)),
        response: Some(proto::Response { kind: Some(arm) }),
    }
}

fn purpose_of(exchange: &proto::Exchange) -> &'static str {
    match exchange.kind() {
        proto::Kind::CooperationRequest => purposes::COOPERATION,
        _ => purposes::COUNSEL_ASSIGNMENT,
    }
}

async fn state_after(client: &AgencyClient, exchange: &proto::Exchange, arm: Arm) -> &'static str {
    let answered = respond(client, &answer_to(client, exchange, arm)).await.unwrap();
    answered.exchange.unwrap().state().as_str_name()
}

async fn thread(client: &AgencyClient, purpose: &str, id: &str) -> Vec<proto::ExchangeMessage> {
    let request =
        proto::GetExchangeRequest { context: Some(client.context(purpose)), exchange_id: id.to_owned() };
    let found = client.exchanges().get_exchange(client.request(request, DEADLINE)).await.unwrap();
    found.into_inner().exchange.unwrap().thread
}

async fn warnings(client: &AgencyClient, request: &proto::SubmitExchangeRequest) -> Vec<proto::Warning> {
    submit(client, request).await.unwrap().warnings
}

async fn assert_region_is_remarked(
    client: &AgencyClient,
    request: &proto::SubmitExchangeRequest,
    field: &str,
) {
    let warnings = warnings(client, request).await;
    let found = warnings.iter().find(|found| found.rule == "RESIDENT_ID_REGION_UNKNOWN");
    let found = found.unwrap_or_else(|| panic!("{field} is not remarked"));
    assert_eq!((found.field.as_str(), found.article.as_str()), (field, "GB/T 2260"));
    assert!(!found.description.contains("990001"));
}

/// The example is taken, and with each fault refused; nothing refused is stored.
async fn assert_each_is_refused(
    scene: &Scene,
    client: &AgencyClient,
    page: &str,
    prefix: &str,
    faults: &[Fault],
) {
    submit(client, &example(page, client)).await.unwrap();
    let before = scene.stored_rows().await;
    for (spoil, field, rule, article) in faults {
        let mut request = example(page, client);
        spoil(&mut request);
        let refused = Refused::of(&submit(client, &request).await.err().expect(rule));
        let field = format!("{prefix}.{field}");
        assert_refused(&refused, &field, rule, article);
        let who = if client.profile().agency.as_str() == codes::CENTRE { "centre" } else { "court" };
        let said = scene.refused_on_the_command_line(who, &request).await;
        assert!(said.contains(&field) && said.contains(rule), "{field} {rule}: {said}");
        let entry = scene.entry(refused.log_index).await;
        assert_eq!(entry.reason.as_deref(), Some("INVALID_REQUEST"));
    }
    assert_eq!(scene.stored_rows().await, before);
}

fn assert_refused(refused: &Refused, field: &str, rule: &str, article: &str) {
    assert_eq!(refused.code, Code::InvalidArgument, "{rule}");
    let found = refused.violations.iter().find(|found| found.field == field && found.reason == rule);
    let found = found.unwrap_or_else(|| panic!("{field} {rule} is not among {:?}", refused.rules()));
    assert!(found.description.contains(article), "{rule}: {}", found.description);
    assert!(!article.is_empty() || !found.description.contains(" art "), "{rule}: {}", found.description);
    assert!(found.localized_message.is_some(), "{rule}");
}

/// Runs an `exchange` command of the real program; what it prints is JSON.
async fn run(folder: &Path, name: &str, purpose: &str, arguments: &[&str], input: &str) -> serde_json::Value {
    use tokio::io::AsyncWriteExt as _;
    let mut command = Command::new(env!("CARGO_BIN_EXE_legal-aid-gateway"));
    command.arg("exchange").args(arguments).arg("--as").arg(folder.join(format!("{name}.toml")));
    command.args(["--purpose", purpose, "--json"]);
    let pipe = std::process::Stdio::piped;
    let mut child = command.stdin(pipe()).stdout(pipe()).stderr(pipe()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
