//! The kinds of exchange: each runs to its end over mutual TLS, and each rule is refused by its name, place and article.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod district;

use std::time::Duration;

use district::{Refused, Scene, answer, example, referral, relief, submit, wire_date};
use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::grpc::proto::response::Kind as Arm;
use legal_aid_gateway::grpc::proto::{AppealResult, ExchangeState, ReferralDirection, ReferralTrack};
use legal_aid_gateway::setup::{codes, purposes};
use legal_aid_gateway::simulator::clerk::{self, Working};
use legal_aid_gateway::simulator::script::ScriptFile;
use prost::Message as _;
use tonic::{Code, Status};

const DEADLINE: Duration = Duration::from_secs(10);

const OPINIONS: &str = "关于加强和规范人民法院国家司法救助工作的意见";

// ---- to the end --------------------------------------------------------------------------------------------------

#[tokio::test]
async fn judicial_relief_runs_from_the_centre_to_the_courts_grant() {
    let scene = Scene::start().await;
    let request = example("judicial-relief", &scene.centre);
    let submitted = scene.submit(&request).await.unwrap();
    assert!(submitted.warnings.is_empty());
    let exchange = submitted.exchange.unwrap();
    respond(&scene.court, &exchange, receipt(&scene.centre, &exchange).await).await.unwrap();

    assert_eq!(clocks(&get(&scene.centre, &exchange).await), [("RELIEF_OPINION", true)]);
    let granted = respond(&scene.court, &exchange, grant(5_000_000)).await.unwrap();
    assert!(granted.exchange.unwrap().state() == ExchangeState::Decided);
    let thread = get(&scene.centre, &exchange).await.thread;
    let Some(Arm::JudicialReliefDecision(decision)) = arm_of(&thread[2]) else { panic!("no decision") };
    assert_eq!(decision.granted_fen, Some(5_000_000));
    scene.stop().await;
}

#[tokio::test]
async fn an_appeal_runs_from_the_centre_over_acceptance_to_the_procuratorates_protest() {
    let scene = Scene::start().await;
    let procuratorate = procuratorate(&scene);
    let submitted = scene.submit(&example("appeal-referral", &scene.centre)).await.unwrap();
    let exchange = submitted.exchange.unwrap();
    let by = |arm| respond(&procuratorate, &exchange, arm);
    by(receipt(&scene.centre, &exchange).await).await.unwrap();

    let unaccepted = refusal(by(outcome(AppealResult::Protest)).await);
    assert_found(&unaccepted, "response.appeal_outcome.result", "ACCEPTANCE_FIRST", "民事诉讼法 art 220");
    let accepted = by(outcome(AppealResult::Accepted)).await.unwrap().exchange.unwrap();
    assert!(accepted.state() == ExchangeState::Received, "a step leaves the state alone");
    let run = [("CIVIL_SUPERVISION_REVIEW", true), ("PROCURATORATE_ACCEPTANCE", false)];
    assert_eq!(clocks(&get(&scene.centre, &exchange).await), run);
    let again = refusal(by(outcome(AppealResult::Accepted)).await);
    assert_found(&again, "response.appeal_outcome.result", "ACCEPTED_ONCE", "民事诉讼法 art 220");
    let aided = refusal(by(outcome(AppealResult::AidGranted)).await);
    assert_found(&aided, "response.appeal_outcome.result", "OUTCOME_FITS_DIRECTION", "法律援助法 art 43");

    let protest = by(outcome(AppealResult::Protest)).await.unwrap().exchange.unwrap();
    assert!(protest.state() == ExchangeState::Decided);
    assert_eq!(get(&procuratorate, &exchange).await.thread.len(), 4);
    scene.stop().await;
}

#[tokio::test]
async fn a_petitioner_goes_from_the_procuratorate_to_the_centre_and_gets_aid() {
    let scene = Scene::start().await;
    let procuratorate = procuratorate(&scene);
    let request = to_the_centre(&procuratorate);
    let exchange = submit(&procuratorate, &request).await.unwrap().exchange.unwrap();
    let by = |arm| respond(&scene.centre, &exchange, arm);
    by(receipt(&procuratorate, &exchange).await).await.unwrap();
    by(outcome(AppealResult::Accepted)).await.unwrap();

    let protest = refusal(by(outcome(AppealResult::Protest)).await);
    assert_found(&protest, "response.appeal_outcome.result", "OUTCOME_FITS_DIRECTION", "民事诉讼法 art 220");
    let unsupported = refusal(by(outcome(AppealResult::NotAccepted)).await);
    assert_found(
        &unsupported,
        "response.appeal_outcome.reasons",
        "REFUSAL_NEEDS_REASONS",
        "民事诉讼法 art 220",
    );
    assert_eq!(clocks(&get(&procuratorate, &exchange).await), [], "the procuratorate asks, and is not asked");
    let aided = by(outcome(AppealResult::AidGranted)).await.unwrap().exchange.unwrap();
    assert!(aided.state() == ExchangeState::Decided);
    scene.stop().await;
}

#[tokio::test]
async fn a_referral_not_accepted_is_decided() {
    let scene = Scene::start().await;
    let procuratorate = procuratorate(&scene);
    let submitted = scene.submit(&example("appeal-referral", &scene.centre)).await.unwrap();
    let exchange = submitted.exchange.unwrap();
    let by = |arm| respond(&procuratorate, &exchange, arm);
    by(receipt(&scene.centre, &exchange).await).await.unwrap();
    let refused = proto::AppealOutcome {
        reasons: "不属于本院管辖".to_owned(),
        ..said(AppealResult::NotAccepted)
    };
    let decided = by(Arm::AppealOutcome(refused)).await.unwrap().exchange.unwrap();
    assert!(decided.state() == ExchangeState::Decided);
    scene.stop().await;
}

// ---- simulated agencies ------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_simulated_court_asks_for_papers_then_decides_each_kind_by_its_script() {
    let mut scene = Scene::start().await;
    let script = r#"
        [steps]
        JUDICIAL_RELIEF = [
            { do = "receipt" }, { do = "ask-supplement", papers = ["收入证明", "残疾证"], days = 7 },
            { do = "wait", ms = 20 }, { do = "refuse", reasons = "已获足额赔偿" },
        ]
        FEE_WAIVER = [{ do = "rereview" }, { do = "receipt" }, { do = "decide", outcome = "EXEMPTED" }]
    "#;
    let court = simulate(&mut scene, "court", script).await;

    let submitted = scene.submit(&example("judicial-relief", &scene.centre)).await.unwrap();
    let exchange = submitted.exchange.unwrap();
    let asked = await_state(&scene.centre, &exchange, ExchangeState::SupplementRequested).await;
    let Some(Arm::SupplementRequest(request)) = arm_of(&asked.thread[2]) else { panic!("no request") };
    assert_eq!(request.missing.len(), 2, "all that is missing is named at once");
    let supplement = Arm::Supplement(proto::Supplement { note: "补交收入证明、残疾证".to_owned() });
    respond(&scene.centre, &exchange, supplement).await.unwrap();
    let decided = await_state(&scene.centre, &exchange, ExchangeState::Decided).await;
    let Some(Arm::JudicialReliefDecision(refused)) = arm_of(&decided.thread[4]) else {
        panic!("no decision")
    };
    assert!(refused.outcome() == proto::JudicialReliefOutcome::Refused);
    assert_eq!(refused.reasons, "已获足额赔偿");

    let submitted = scene.submit(&example("fee-waiver", &scene.centre)).await.unwrap();
    let decided = await_state(&scene.centre, &submitted.exchange.unwrap(), ExchangeState::Decided).await;
    let Some(Arm::FeeWaiverDecision(exempted)) = arm_of(&decided.thread[2]) else { panic!("no decision") };
    assert!(exempted.outcome() == proto::FeeWaiverOutcome::Exempted);
    assert_eq!(exempted.hardship_rereviewed, Some(true));
    court.stop().await;
    scene.stop().await;
}

#[tokio::test]
async fn a_simulated_procuratorate_pulls_accepts_and_protests_and_a_simulated_centre_gives_aid() {
    let mut scene = Scene::start().await;
    let usual = "script = \"defer\"";
    let supervising = simulate(&mut scene, "procuratorate", usual).await;
    let submitted = scene.submit(&example("appeal-referral", &scene.centre)).await.unwrap();
    let exchange = submitted.exchange.unwrap();
    let decided = await_state(&scene.centre, &exchange, ExchangeState::Decided).await;
    let results: Vec<_> = decided.thread.iter().filter_map(result_of).collect();
    assert!(results == [AppealResult::Accepted, AppealResult::Protest]);
    supervising.stop().await;

    let aiding = simulate(&mut scene, "centre", usual).await;
    let procuratorate = procuratorate(&scene);
    let referred = submit(&procuratorate, &to_the_centre(&procuratorate)).await.unwrap();
    let decided = await_state(&procuratorate, &referred.exchange.unwrap(), ExchangeState::Decided).await;
    let results: Vec<_> = decided.thread.iter().filter_map(result_of).collect();
    assert!(results == [AppealResult::Accepted, AppealResult::AidGranted]);
    aiding.stop().await;
    scene.stop().await;
}

#[tokio::test]
async fn every_outcome_that_a_script_can_name_is_one_that_the_gateway_takes() {
    let mut scene = Scene::start().await;
    for (page, kind, outcomes) in [
        ("fee-waiver", "FEE_WAIVER", &["DEFERRED", "REDUCED", "EXEMPTED", "REFUSED", "WITHDRAWN"][..]),
        ("judicial-relief", "JUDICIAL_RELIEF", &["GRANTED", "REFUSED", "WITHDRAWN"][..]),
    ] {
        for outcome in outcomes {
            let steps = format!(
                "steps.{kind} = [{{ do = \"receipt\" }}, {{ do = \"decide\", outcome = \"{outcome}\" }}]"
            );
            let court = simulate(&mut scene, "court", &steps).await;
            let exchange = scene.submit(&example(page, &scene.centre)).await.unwrap().exchange.unwrap();
            await_state(&scene.centre, &exchange, ExchangeState::Decided).await;
            court.stop().await;
        }
    }
    let accept = "{ do = \"receipt\" }, { do = \"accept\" }";
    for steps in [
        format!("{accept}, {{ do = \"decide\", outcome = \"ENDED\" }}"),
        format!("{accept}, {{ do = \"refuse\", reasons = \"不支持监督申请\" }}"),
        "{ do = \"receipt\" }, { do = \"decide\", outcome = \"TRANSFERRED\" }".to_owned(),
        "{ do = \"receipt\" }, { do = \"refuse\", reasons = \"不予受理\" }".to_owned(),
    ] {
        let script = format!("steps.APPEAL_REFERRAL = [{steps}]");
        let supervising = simulate(&mut scene, "procuratorate", &script).await;
        let exchange =
            scene.submit(&example("appeal-referral", &scene.centre)).await.unwrap().exchange.unwrap();
        await_state(&scene.centre, &exchange, ExchangeState::Decided).await;
        supervising.stop().await;
    }
    scene.stop().await;
}

// ---- each rule ---------------------------------------------------------------------------------------------------

/// How a rule is broken, where it is found, which it is, and its article; empty where it has none.
type Fault<T> = (fn(&mut T), &'static str, &'static str, &'static str);

#[tokio::test]
async fn each_rule_of_judicial_relief_is_refused_through_the_wire() {
    let scene = Scene::start().await;
    let faults: &[Fault<proto::JudicialReliefRequest>] = &[
        (
            |asked| asked.original_case.as_mut().unwrap().court = codes::REGISTRY.to_owned(),
            "original_case.court",
            "COURT_IS_THE_RECIPIENT",
            "意见 art 2",
        ),
        (|asked| asked.sum_asked_fen = Some(0), "sum_asked_fen", "SUM_ABOVE_ZERO", ""),
        (|asked| asked.sum_asked_fen = Some(-1), "sum_asked_fen", "NOT_NEGATIVE", ""),
        (|asked| asked.sum_asked_fen = Some(10_000_001), "sum_asked_fen", "SUM_WITHIN_OPEN_LOSS", OPINIONS),
        (
            |asked| asked.household.as_mut().unwrap().workers = Some(4),
            "household.workers",
            "WORKERS_ARE_MEMBERS",
            "",
        ),
        (|asked| asked.household.as_mut().unwrap().members = 51, "household.members", "AT_MOST_50", ""),
        (
            |asked| asked.prior_relief.as_mut().unwrap().received = Some(true),
            "prior_relief.organ",
            "DECLARED_WITH_PRIOR_RELIEF",
            "意见 art 2",
        ),
        (|asked| asked.enforcement_termination = None, "enforcement_termination", "REQUIRED", OPINIONS),
        (
            |asked| asked.stage = proto::ReliefStage::Trial.into(),
            "enforcement_termination",
            "ONLY_IN_ENFORCEMENT",
            OPINIONS,
        ),
        (|asked| asked.stage = proto::ReliefStage::Petition.into(), "undertaking", "REQUIRED", OPINIONS),
        (
            |asked| {
                asked.undertaking = Some(proto::ReliefUndertaking {
                    signed_on: Some(wire_date(jiff::civil::date(2026, 1, 5))),
                    document_sha256: vec![7; 32],
                });
            },
            "undertaking",
            "ONLY_IN_PETITION",
            OPINIONS,
        ),
    ];
    for (spoil, field, rule, article) in faults {
        let mut request = example("judicial-relief", &scene.centre);
        spoil(relief(&mut request));
        let refused = refusal(scene.submit(&request).await);
        let field = format!("content.judicial_relief.{field}");
        assert_found(&refused, &field, rule, article);
        let said = scene.refused_on_the_command_line("centre", &request).await;
        assert!(said.contains(&field) && said.contains(rule), "{field} {rule}: {said}");
    }
    // What is allowed stands beside what is not: relief before, and the whole open loss. Whether it was for the same case
    // is the court's to find.
    for same_case in [false, true] {
        let mut request = example("judicial-relief", &scene.centre);
        *relief(&mut request).prior_relief.as_mut().unwrap() = prior_relief(same_case);
        relief(&mut request).sum_asked_fen = Some(10_000_000);
        let warnings = scene.submit(&request).await.unwrap().warnings;
        let is_remarked = warnings.iter().any(|warning| warning.rule == "ONCE_PER_CASE_AND_APPLICANT");
        assert_eq!(is_remarked, same_case);
    }
    scene.stop().await;
}

#[tokio::test]
async fn a_sum_above_the_usual_cap_is_a_warning_with_the_figure() {
    let scene = Scene::start().await;
    let mut request = example("judicial-relief", &scene.centre);
    relief(&mut request).real_loss_fen = Some(100_000_000);
    relief(&mut request).sum_asked_fen = Some(90_000_000);
    let warnings = scene.submit(&request).await.unwrap().warnings;
    assert_eq!(warnings[0].field, "content.judicial_relief.sum_asked_fen");
    assert_eq!(warnings[0].rule, "ABOVE_THE_USUAL_CAP");
    assert!(warnings[0].description.contains("399,135.00 yuan"), "{}", warnings[0].description);
    scene.stop().await;
}

#[tokio::test]
async fn each_rule_of_a_decision_on_judicial_relief_is_refused_through_the_wire() {
    let scene = Scene::start().await;
    let submitted = scene.submit(&example("judicial-relief", &scene.centre)).await.unwrap();
    let exchange = submitted.exchange.unwrap();
    respond(&scene.court, &exchange, receipt(&scene.centre, &exchange).await).await.unwrap();
    let faults: &[Fault<proto::JudicialReliefDecision>] = &[
        (|decided| decided.granted_fen = Some(5_000_001), "granted_fen", "GRANTED_AT_MOST_ASKED", OPINIONS),
        (|decided| decided.granted_fen = None, "granted_fen", "SUM_WITH_GRANT", OPINIONS),
        (|decided| decided.wage_basis_year = None, "wage_basis_year", "BASIS_YEAR_WITH_GRANT", OPINIONS),
        (
            |decided| decided.wage_basis_year = Some(2026),
            "wage_basis_year",
            "BASIS_YEAR_BEFORE_THE_DECISION",
            OPINIONS,
        ),
        (
            |decided| {
                decided.outcome = proto::JudicialReliefOutcome::Refused.into();
                (decided.granted_fen, decided.wage_basis_year) = (None, None);
            },
            "reasons",
            "REFUSAL_NEEDS_REASONS",
            OPINIONS,
        ),
        (
            |decided| {
                decided.outcome = proto::JudicialReliefOutcome::Withdrawn.into();
                decided.paid_on = decided.decided_on;
            },
            "paid_on",
            "PAID_ONLY_WHEN_GRANTED",
            "",
        ),
        (
            |decided| decided.paid_on = Some(wire_date(jiff::civil::date(2026, 1, 6))),
            "paid_on",
            "NOT_BEFORE_THE_DECISION",
            "",
        ),
        (|decided| decided.document_number.clear(), "document_number", "REQUIRED", ""),
    ];
    for (spoil, field, rule, article) in faults {
        let Arm::JudicialReliefDecision(mut decided) = grant(5_000_000) else { unreachable!() };
        spoil(&mut decided);
        let request = answer_to(&scene.court, &exchange, Arm::JudicialReliefDecision(decided));
        let refused = refusal(send(&scene.court, &request).await);
        let field = format!("response.judicial_relief_decision.{field}");
        assert_found(&refused, &field, rule, article);
        let said = scene.answer_refused_on_the_command_line("court", &request).await;
        assert!(said.contains(&field) && said.contains(rule), "{field} {rule}: {said}");
    }
    scene.stop().await;
}

#[tokio::test]
async fn each_rule_of_a_decision_on_a_fee_waiver_is_refused_through_the_wire() {
    let scene = Scene::start().await;
    let exchange = scene.submit(&scene.fee_waiver()).await.unwrap().exchange.unwrap();
    respond(&scene.court, &exchange, receipt(&scene.centre, &exchange).await).await.unwrap();
    let decided_on = wire_date(jiff::civil::date(2026, 1, 7));
    let reduced = |payable| proto::FeeWaiverDecision {
        outcome: proto::FeeWaiverOutcome::Reduced.into(),
        payable_fen: Some(payable),
        notice_number: "N-1".to_owned(),
        hardship_rereviewed: Some(false),
        decided_on: Some(decided_on),
        ..Default::default()
    };
    let measures = |article: &str| format!("诉讼费用交纳办法 art {article}");
    let faults: &[Fault<proto::FeeWaiverDecision>] = &[
        (|decided| decided.payable_fen = Some(161_001), "payable_fen", "REDUCTION_AT_LEAST_30_PERCENT", "46"),
        (|decided| decided.payable_fen = None, "payable_fen", "SUM_WITH_REDUCTION", "46"),
        (
            |decided| decided.outcome = proto::FeeWaiverOutcome::Exempted.into(),
            "payable_fen",
            "SUM_WITH_REDUCTION",
            "46",
        ),
        (
            |decided| {
                decided.outcome = proto::FeeWaiverOutcome::Deferred.into();
                decided.payable_fen = None;
            },
            "deferred_until",
            "DATE_WITH_DEFERRAL",
            "47",
        ),
        (
            |decided| {
                decided.outcome = proto::FeeWaiverOutcome::Deferred.into();
                decided.payable_fen = None;
                decided.deferred_until = Some(wire_date(jiff::civil::date(2026, 1, 6)));
            },
            "deferred_until",
            "NOT_BEFORE_THE_DECISION",
            "",
        ),
        (
            |decided| {
                decided.outcome = proto::FeeWaiverOutcome::Refused.into();
                decided.payable_fen = None;
            },
            "reasons",
            "REFUSAL_NEEDS_REASONS",
            "48",
        ),
        (|decided| decided.notice_number.clear(), "notice_number", "REQUIRED", ""),
        (|decided| decided.hardship_rereviewed = None, "hardship_rereviewed", "REQUIRED", ""),
    ];
    for (spoil, field, rule, article) in faults {
        let mut decided = reduced(161_000);
        spoil(&mut decided);
        let request = answer_to(&scene.court, &exchange, Arm::FeeWaiverDecision(decided));
        let refused = refusal(send(&scene.court, &request).await);
        let field = format!("response.fee_waiver_decision.{field}");
        let article = if article.is_empty() { String::new() } else { measures(article) };
        assert_found(&refused, &field, rule, &article);
        let said = scene.answer_refused_on_the_command_line("court", &request).await;
        assert!(said.contains(&field) && said.contains(rule), "{field} {rule}: {said}");
    }
    respond(&scene.court, &exchange, Arm::FeeWaiverDecision(reduced(161_000))).await.unwrap();
    scene.stop().await;
}

#[tokio::test]
async fn each_rule_of_an_appeals_outcome_is_refused_through_the_wire() {
    let scene = Scene::start().await;
    let procuratorate = procuratorate(&scene);
    let submitted = scene.submit(&example("appeal-referral", &scene.centre)).await.unwrap();
    let exchange = submitted.exchange.unwrap();
    respond(&procuratorate, &exchange, receipt(&scene.centre, &exchange).await).await.unwrap();
    let sound = |result| {
        let Arm::AppealOutcome(mut outcome) = outcome(result) else { unreachable!() };
        "不符合监督条件".clone_into(&mut outcome.reasons);
        outcome
    };
    let supervision = "民事诉讼法 art 220";
    let refused = async |outcome: proto::AppealOutcome, field: &str, rule: &str, article: &str| {
        let request = answer_to(&procuratorate, &exchange, Arm::AppealOutcome(outcome));
        let refused = refusal(send(&procuratorate, &request).await);
        let field = format!("response.appeal_outcome.{field}");
        assert_found(&refused, &field, rule, article);
        let said = scene.answer_refused_on_the_command_line("procuratorate", &request).await;
        assert!(said.contains(&field) && said.contains(rule), "{field} {rule}: {said}");
    };
    refused(sound(AppealResult::Protest), "result", "ACCEPTANCE_FIRST", supervision).await;
    refused(sound(AppealResult::Transferred), "transferred_to", "ORGAN_WITH_TRANSFER", "").await;
    let without_reasons = proto::AppealOutcome { reasons: String::new(), ..sound(AppealResult::NotAccepted) };
    refused(without_reasons, "reasons", "REFUSAL_NEEDS_REASONS", supervision).await;
    respond(&procuratorate, &exchange, outcome(AppealResult::Accepted)).await.unwrap();
    for (result, rule, article) in [
        (AppealResult::Accepted, "ACCEPTED_ONCE", supervision),
        (AppealResult::NotAccepted, "NOT_AFTER_ACCEPTANCE", supervision),
        (AppealResult::AidGranted, "OUTCOME_FITS_DIRECTION", "法律援助法 art 43"),
        (AppealResult::ProsecutionSupported, "OUTCOME_FITS_TRACK", "民事诉讼法 art 15"),
    ] {
        refused(sound(result), "result", rule, article).await;
    }
    scene.stop().await;
}

#[tokio::test]
async fn each_rule_of_an_appeal_referral_is_refused_through_the_wire() {
    let scene = Scene::start().await;
    let court_first = "民事诉讼法 art 220";
    let faults: &[Fault<proto::AppealReferral>] = &[
        (|asked| asked.retrial_application = None, "retrial_application", "REQUIRED", court_first),
        (
            |asked| *retrial(asked) = proto::RetrialApplication { filed: Some(false), ..Default::default() },
            "retrial_application.filed",
            "RETRIAL_FIRST",
            court_first,
        ),
        (
            |asked| {
                retrial(asked).result = proto::RetrialResult::Pending.into();
                retrial(asked).ruled_on = None;
            },
            "retrial_application.result",
            "RETRIAL_FIRST",
            court_first,
        ),
        (
            |asked| retrial(asked).filed_on = None,
            "retrial_application.filed_on",
            "STATED_WITH_APPLICATION",
            court_first,
        ),
        (
            |asked| retrial(asked).ruled_on = None,
            "retrial_application.ruled_on",
            "RULING_WITH_ITS_DAY",
            court_first,
        ),
        (
            |asked| retrial(asked).ruled_on = Some(wire_date(jiff::civil::date(2025, 10, 7))),
            "retrial_application.ruled_on",
            "NOT_BEFORE_THE_APPLICATION",
            "",
        ),
        (|asked| asked.applied_before = Some(true), "applied_before", "ONE_APPLICATION_ONLY", court_first),
        (|asked| asked.documents.clear(), "documents", "REQUIRED", "法律援助法 art 33"),
        (
            |asked| {
                asked.track = ReferralTrack::SupportOfProsecution.into();
                asked.documents.clear();
                asked.evidence.clear();
            },
            "evidence",
            "REQUIRED",
            "民事诉讼法 art 15",
        ),
        (|asked| asked.other_parties.clear(), "other_parties", "REQUIRED", ""),
        (|asked| asked.documents = vec![asked.documents[0].clone(); 51], "documents", "AT_MOST_50", ""),
        (
            |asked| asked.documents[0].number = "9".to_owned(),
            "documents[0].number",
            "CASE_NUMBER_BRACKETS",
            "",
        ),
        (
            |asked| asked.direction = ReferralDirection::ProcuratorateToCentre.into(),
            "direction",
            "DIRECTION_FITS_PARTIES",
            "法律援助法 art 33",
        ),
    ];
    for (spoil, field, rule, article) in faults {
        let mut request = example("appeal-referral", &scene.centre);
        spoil(referral(&mut request));
        let refused = refusal(scene.submit(&request).await);
        let field = format!("content.appeal_referral.{field}");
        assert_found(&refused, &field, rule, article);
        let said = scene.refused_on_the_command_line("centre", &request).await;
        assert!(said.contains(&field) && said.contains(rule), "{field} {rule}: {said}");
    }
    scene.stop().await;
}

#[tokio::test]
async fn all_six_tracks_are_taken() {
    let scene = Scene::start().await;
    for track in 1..=6 {
        let mut request = example("appeal-referral", &scene.centre);
        referral(&mut request).track = track;
        scene.submit(&request).await.unwrap();
    }
    scene.stop().await;
}

/// A kind goes its ways only, whatever an agreement allows.
#[tokio::test]
async fn a_kind_that_goes_elsewhere_is_refused_by_the_article_of_its_way() {
    let scene = Scene::start().await;
    let ways = [
        ("fee-waiver", codes::PROCURATORATE, purposes::APPEAL_REFERRAL, "诉讼费用交纳办法 art 48"),
        ("judicial-relief", codes::PROCURATORATE, purposes::APPEAL_REFERRAL, "意见 art 1"),
        ("appeal-referral", codes::COURT, purposes::FEE_WAIVER, "法律援助法 art 51"),
    ];
    for (page, recipient, purpose, article) in ways {
        let mut request = example(page, &scene.centre);
        let envelope = request.envelope.as_mut().unwrap();
        (envelope.recipient, envelope.purpose) = (recipient.to_owned(), purpose.to_owned());
        if page == "judicial-relief" {
            relief(&mut request).original_case.as_mut().unwrap().court = recipient.to_owned();
        } else if page == "fee-waiver" {
            district::waiver(&mut request).court_case.as_mut().unwrap().court = recipient.to_owned();
        }
        let refused = refusal(scene.submit(&request).await);
        let found = assert_found(&refused, "envelope.recipient", "KIND_GOES_ITS_WAY", article);
        assert!(found.contains("allowed: legal-aid-centre to "), "{found}");
    }
    scene.stop().await;
}

/// The examples of the pages are taken as they are.
#[tokio::test]
async fn the_example_of_each_page_is_taken() {
    let scene = Scene::start().await;
    for page in ["fee-waiver", "judicial-relief", "appeal-referral"] {
        let taken = scene.submit(&example(page, &scene.centre)).await;
        let answer = taken.unwrap_or_else(|status| panic!("{page}: {:?}", Refused::of(&status).rules()));
        assert!(answer.warnings.is_empty(), "{page}");
    }
    scene.stop().await;
}

// ---- helpers -----------------------------------------------------------------------------------------------------

/// Puts a clerk with another script in the agency's place.
async fn simulate(scene: &mut Scene, agency: &str, script: &str) -> Working {
    scene.district.stop_court().await;
    let mut config = clerk::load(&scene.folder.join(format!("simulate-{agency}.toml"))).unwrap();
    let given: toml::Table = toml::from_str(script).unwrap();
    match given.get("script") {
        Some(named) => config.script = named.clone().try_into().unwrap(),
        None => config.steps = toml::from_str::<ScriptFile>(script).unwrap().steps,
    }
    if let Some(listen) = config.listen {
        drop(district::bind(listen).await);
    }
    clerk::work(config, scene.clock.clone()).await.unwrap()
}

async fn await_state(
    client: &AgencyClient,
    exchange: &proto::Exchange,
    state: ExchangeState,
) -> proto::Exchange {
    let polling = async {
        loop {
            let found = get(client, exchange).await;
            if found.state() == state {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, polling).await.unwrap_or_else(|_| panic!("not {}", state.as_str_name()))
}

fn result_of(message: &proto::ExchangeMessage) -> Option<AppealResult> {
    match arm_of(message)? {
        Arm::AppealOutcome(outcome) => Some(outcome.result()),
        _ => None,
    }
}

fn procuratorate(scene: &Scene) -> AgencyClient {
    AgencyClient::load(&scene.folder.join("procuratorate.toml"), scene.clock.clone()).unwrap()
}

/// The example the other way round.
fn to_the_centre(procuratorate: &AgencyClient) -> proto::SubmitExchangeRequest {
    let mut request = example("appeal-referral", procuratorate);
    request.envelope.as_mut().unwrap().recipient = codes::CENTRE.to_owned();
    referral(&mut request).direction = ReferralDirection::ProcuratorateToCentre.into();
    request
}

fn retrial(referral: &mut proto::AppealReferral) -> &mut proto::RetrialApplication {
    referral.retrial_application.as_mut().unwrap()
}

fn prior_relief(same_case: bool) -> proto::PriorRelief {
    proto::PriorRelief {
        received: Some(true),
        same_case: Some(same_case),
        organ: "某某县公安局".to_owned(),
        granted_on: Some(wire_date(jiff::civil::date(2023, 5, 4))),
        sum_fen: Some(1_000_000),
    }
}

fn grant(fen: i64) -> Arm {
    Arm::JudicialReliefDecision(proto::JudicialReliefDecision {
        outcome: proto::JudicialReliefOutcome::Granted.into(),
        granted_fen: Some(fen),
        wage_basis_year: Some(2025),
        document_number: "（2026）浙1004司救执1号".to_owned(),
        decided_on: Some(wire_date(jiff::civil::date(2026, 1, 7))),
        ..Default::default()
    })
}

fn said(result: AppealResult) -> proto::AppealOutcome {
    proto::AppealOutcome {
        result: result.into(),
        document_number: "检民监〔2026〕1号".to_owned(),
        decided_on: Some(wire_date(jiff::civil::date(2026, 1, 7))),
        ..Default::default()
    }
}

fn outcome(result: AppealResult) -> Arm {
    Arm::AppealOutcome(said(result))
}

fn purpose_of(exchange: &proto::Exchange) -> &'static str {
    match exchange.kind() {
        proto::Kind::JudicialRelief => purposes::JUDICIAL_RELIEF,
        proto::Kind::AppealReferral => purposes::APPEAL_REFERRAL,
        _ => purposes::FEE_WAIVER,
    }
}

async fn get(client: &AgencyClient, exchange: &proto::Exchange) -> proto::Exchange {
    let request = proto::GetExchangeRequest {
        context: Some(client.context(purpose_of(exchange))),
        exchange_id: exchange.exchange_id.clone(),
    };
    let answer = client.exchanges().get_exchange(client.request(request, DEADLINE)).await;
    answer.unwrap().into_inner().exchange.unwrap()
}

/// The receipt of the opening message, which is the same bytes for both parties.
async fn receipt(reader: &AgencyClient, exchange: &proto::Exchange) -> Arm {
    let opening = get(reader, exchange).await.thread[0].encode_to_vec();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &opening);
    let now = reader.now();
    Arm::Receipt(proto::Receipt {
        message_sha256: digest.as_ref().to_vec(),
        received_at: Some(prost_types::Timestamp { seconds: now.as_second(), nanos: 0 }),
        receipt_number: "R-1".to_owned(),
    })
}

async fn respond(
    client: &AgencyClient,
    exchange: &proto::Exchange,
    arm: Arm,
) -> Result<proto::RespondToExchangeResponse, Status> {
    send(client, &answer_to(client, exchange, arm)).await
}

fn answer_to(client: &AgencyClient, exchange: &proto::Exchange, arm: Arm) -> proto::RespondToExchangeRequest {
    let mut request = answer(client, exchange, arm);
    request.envelope.as_mut().unwrap().purpose = purpose_of(exchange).to_owned();
    request
}

async fn send(
    client: &AgencyClient,
    request: &proto::RespondToExchangeRequest,
) -> Result<proto::RespondToExchangeResponse, Status> {
    let answered = client.exchanges().respond_to_exchange(client.request(request.clone(), DEADLINE)).await;
    answered.map(tonic::Response::into_inner)
}

/// The clocks of an exchange by name, and whether they run; those that started together by name.
fn clocks(exchange: &proto::Exchange) -> Vec<(&str, bool)> {
    exchange.clocks.iter().map(|clock| (clock.clock_id.as_str(), clock.stop_time.is_none())).collect()
}

fn arm_of(message: &proto::ExchangeMessage) -> Option<&Arm> {
    match message.body.as_ref()? {
        proto::exchange_message::Body::Response(response) => response.kind.as_ref(),
        _ => None,
    }
}

fn refusal<T>(answer: Result<T, Status>) -> Refused {
    let refused = Refused::of(&answer.err().expect("a refusal"));
    assert_eq!(refused.code, Code::InvalidArgument, "{:?}", refused.rules());
    refused
}

/// The rule is among what was refused, at its place, and both texts name its article.
fn assert_found(refused: &Refused, field: &str, rule: &str, article: &str) -> String {
    let found = refused.violations.iter().find(|found| found.field == field && found.reason == rule);
    let found = found.unwrap_or_else(|| panic!("{rule} at {field} is not among {:?}", refused.violations));
    assert!(found.description.contains(article), "{rule}: {}", found.description);
    found.description.clone()
}
