//! Agreements: put in, approved, ended and followed; what they allow, disclose and count.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod district;

use std::time::Duration;

use data_encoding::HEXLOWER;
use district::{DEADLINE, Refused, Scene, agreement, basis, day_from_today, purpose, wire_date};
use legal_aid_gateway::access::{Agreement, Method, OperatorTerms, Party, QuotaTerms, StaffMember, Unit};
use legal_aid_gateway::audit::entry::{Decision, Entry, Phase};
use legal_aid_gateway::client::{AgencyClient, Profile, ProfileOperator};
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::domain::agency::{AgencyKind, CreditCode};
use legal_aid_gateway::domain::region::RegionCode;
use legal_aid_gateway::domain::verification::AnswerField;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::setup::{codes, purposes};
use legal_aid_gateway::simulator::court::Script;
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

// ---- changes -----------------------------------------------------------------------------------------------------

#[tokio::test]
async fn what_an_operator_puts_in_allows_at_once_and_allows_nothing_once_it_is_ended() {
    let scene = Scene::start().await;
    let operator = scene.district.client("operator").unwrap();
    assert_eq!(refused(list(&scene.centre).await).reason, "PURPOSE_NOT_AGREED");

    let put = put(&operator, statistics(&scene, 1)).await.unwrap();
    let version = put.version.unwrap();
    assert!(version.state() == proto::AgreementState::Effective);
    list(&scene.centre).await.unwrap();

    let ended = end(&operator, "STATISTICS", 1).await.unwrap();
    assert!(ended.version.unwrap().state() == proto::AgreementState::Ended);
    assert_eq!(refused(list(&scene.centre).await).reason, "PURPOSE_NOT_AGREED");
    let again = refused(end(&operator, "STATISTICS", 1).await);
    assert_eq!((again.code, again.reason.as_str()), (Code::FailedPrecondition, "AGREEMENT_STANDS_OTHERWISE"));

    // Both changes are in the log, before and after: which version, its digest, and by whom.
    let entries = scene.entries(proto::EntryFilter::default()).await;
    let changes: Vec<&Entry> = entries
        .iter()
        .map(|(_, entry)| entry)
        .filter(|entry| entry.agreement_change.as_ref().is_some_and(|change| change.id == "STATISTICS"))
        .collect();
    let told: Vec<_> = changes
        .iter()
        .map(|entry| {
            let change = entry.agreement_change.as_ref().unwrap();
            assert_eq!((change.version.as_str(), &change.sha256), ("1", &HEXLOWER.encode(&version.sha256)));
            (entry.phase, change.act.as_ref(), change.state.as_ref())
        })
        .collect();
    assert_eq!(
        told,
        [
            (Phase::Request, "PUT", "EFFECTIVE"),
            (Phase::Response, "PUT", "EFFECTIVE"),
            (Phase::Request, "END", "ENDED"),
            (Phase::Response, "END", "ENDED")
        ]
    );
    assert_eq!(changes[0].operator.as_deref(), Some("operator-01"));
    assert_eq!(changes[0].agreement.as_ref().unwrap().id, "DEV-OPERATOR");

    let shown = get(&operator, "STATISTICS").await.unwrap().versions;
    let acts: Vec<_> = shown[0].acts.iter().map(|act| (act.kind(), act.log_index)).collect();
    let (put_index, end_index) = (put.audit.unwrap().log_index, ended.audit.unwrap().log_index);
    assert!(
        acts == [(proto::AgreementActKind::Put, put_index), (proto::AgreementActKind::End, end_index)],
        "each act names the entry that says so"
    );
    scene.stop().await;
}

#[tokio::test]
async fn a_version_is_put_in_once_and_only_above_all_others_and_a_retry_gets_its_first_answer() {
    let scene = Scene::start().await;
    let operator = scene.district.client("operator").unwrap();
    let request = proto::PutAgreementRequest {
        context: Some(operator.context(purposes::GATEWAY_OPERATION)),
        agreement: Some(statistics(&scene, 2)),
    };
    let call = async |request: &proto::PutAgreementRequest| {
        let request = operator.request(request.clone(), DEADLINE);
        operator.agreements().put_agreement(request).await.map(tonic::Response::into_inner)
    };
    let first = call(&request).await.unwrap();
    assert!(call(&request).await.unwrap() == first);
    for version in [1, 2] {
        let refused = refused(put(&operator, statistics(&scene, version)).await);
        assert_eq!(refused.rules(), [("agreement.version", "VERSION_ABOVE_ALL")]);
    }
    put(&operator, statistics(&scene, 3)).await.unwrap();
    let states: Vec<_> = get(&operator, "STATISTICS")
        .await
        .unwrap()
        .versions
        .iter()
        .map(proto::AgreementVersion::state)
        .collect();
    assert!(states == [proto::AgreementState::Effective, proto::AgreementState::Superseded]);
    scene.stop().await;
}

#[tokio::test]
async fn what_contradicts_itself_or_names_nobody_is_refused_whole() {
    let scene = Scene::start().await;
    let operator = scene.district.client("operator").unwrap();
    let agreement = proto::Agreement {
        methods: vec!["PutAgreement".to_owned()],
        counterparts: vec![party(codes::STRANGER)],
        in_force_until: Some(wire_date(day_from_today(&scene.clock, -30))),
        rate: Some(proto::AgreementRate { per_second: 200_000, burst: 1 }),
        ..statistics(&scene, 1)
    };
    let refused = refused(put(&operator, agreement).await);
    assert_eq!(
        refused.rules(),
        [
            ("agreement.counterparts", "AGENCY_ENROLLED"),
            ("agreement.until", "ENDS_AFTER_IT_BEGINS"),
            ("agreement.methods", "OPERATORS_ONLY"),
            ("agreement.rate", "RATE_BOUNDS")
        ]
    );
    scene.stop().await;
}

#[tokio::test]
async fn where_two_persons_are_asked_for_a_version_waits_for_another_operator_who_has_read_it() {
    let scene = Scene::start_configured(|text| {
        format!("{text}\n[agreements]\ntwo_person = true\n").replacen(
            "[agreements]                        # docs/agreements.md\n",
            "",
            1,
        )
    })
    .await;
    let operator = scene.district.client("operator").unwrap();
    let version = put(&operator, statistics(&scene, 1)).await.unwrap().version.unwrap();
    assert!(version.state() == proto::AgreementState::Pending);
    assert_eq!(refused(list(&scene.centre).await).reason, "PURPOSE_NOT_AGREED");

    // A person stays the same in another unit.
    let own = refused(approve(&operator, &version.sha256).await);
    assert_eq!((own.code, own.reason.as_str()), (Code::FailedPrecondition, "APPROVAL_BY_ANOTHER"));
    let moved = refused(approve(&acting(&scene, "operator", "night", "operator-01"), &version.sha256).await);
    assert_eq!(moved.reason, "APPROVAL_BY_ANOTHER");
    let second = acting(&scene, "operator", "main", "operator-02");
    assert_eq!(refused(approve(&second, &[7; 32]).await).rules(), [("sha256", "TERMS_AS_READ")]);
    assert_eq!(refused(list(&scene.centre).await).reason, "PURPOSE_NOT_AGREED");

    let approved = approve(&second, &version.sha256).await.unwrap();
    assert!(approved.version.unwrap().state() == proto::AgreementState::Effective);
    list(&scene.centre).await.unwrap();
    let entry = scene.entry(approved.audit.unwrap().log_index).await;
    let change = entry.agreement_change.unwrap();
    assert_eq!((change.act.as_ref(), change.state.as_ref()), ("APPROVE", "EFFECTIVE"));
    assert_eq!(change.put_by.unwrap(), format!("{} main/operator-01", codes::OPERATOR));

    // While a new version waits, the old one holds; ending takes one person.
    let purposes = vec![purposes::FEE_WAIVER.to_owned()];
    put(&operator, proto::Agreement { purposes, ..statistics(&scene, 2) }).await.unwrap();
    list(&scene.centre).await.unwrap();
    end(&operator, "STATISTICS", 1).await.unwrap();
    assert_eq!(refused(list(&scene.centre).await).reason, "PURPOSE_NOT_AGREED");
    scene.stop().await;
}

#[tokio::test]
async fn the_file_is_taken_in_when_new_or_of_a_higher_version_and_revives_nothing_that_ended() {
    let scene = Scene::start().await;
    let operator = scene.district.client("operator").unwrap();
    let taken_in = scene.entries(proto::EntryFilter::default()).await;
    let of_file =
        |entry: &Entry| entry.reason.as_deref() == Some("FROM_DIRECTORY_FILE") && entry.phase == Phase::Event;
    assert_eq!(taken_in.iter().filter(|(_, entry)| of_file(entry)).count(), 13);
    scene.verify(&scene.question()).await.unwrap();
    end(&operator, "DEV-VERIFY", 1).await.unwrap();
    assert_eq!(refused(scene.verify(&scene.question()).await).reason, "NO_AGREEMENT");

    // Neither a start nor a look at the same file brings it back.
    let scene = scene.restart().await;
    scene.district.gateway.reload().await.unwrap();
    assert_eq!(refused(scene.verify(&scene.question()).await).reason, "NO_AGREEMENT");
    scene.edit_directory(|file| agreement(file, "DEV-VERIFY").purposes.push(purpose("STATISTICS"))).await;
    scene.verify(&scene.question()).await.unwrap();
    let all = scene.entries(proto::EntryFilter::default()).await;
    assert_eq!(all.iter().filter(|(_, entry)| of_file(entry)).count(), 14, "one entry for what was new");

    // One version has one text: what differs is refused, and nothing of the file is used.
    let path = scene.folder.join("directory.toml");
    let kept = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, kept.replace("\"STATISTICS\"", "\"RESEARCH\"")).unwrap();
    let error = scene.district.gateway.reload().await.unwrap_err().to_string();
    assert!(error.contains("DEV-VERIFY") && error.contains("raise its version"), "{error}");
    scene.verify(&scene.question()).await.unwrap();
    scene.stop().await;
}

// ---- what is allowed ---------------------------------------------------------------------------------------------

#[tokio::test]
async fn an_agreement_that_only_a_newer_gateway_can_read_allows_nothing_and_the_others_are_followed() {
    let scene = Scene::start().await;
    scene.verify(&scene.question()).await.unwrap();
    scene.submit(&scene.fee_waiver()).await.unwrap();
    let options = SqliteConnectOptions::new()
        .filename(scene.folder.join("gateway.db"))
        .busy_timeout(Duration::from_secs(5));
    let mut database = SqliteConnection::connect_with(&options).await.unwrap();
    let change = "BEGIN IMMEDIATE; UPDATE agreements SET terms = '{\"of\":\"a newer gateway\"}' WHERE agreement_id = 'DEV-VERIFY'; \
                  UPDATE agreements SET state = 'ENDED' WHERE agreement_id = 'DEV-CENTRE-COURT'; \
                  UPDATE agreement_changes SET changes = changes + 1 WHERE id = 1; COMMIT";
    sqlx::raw_sql(change).execute(&mut database).await.unwrap();
    let followed = async {
        while scene.submit(&scene.fee_waiver()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, followed).await.expect("the other one is followed");
    assert_eq!(refused(scene.verify(&scene.question()).await).reason, "NO_AGREEMENT");
    scene.stop().await;
}

#[tokio::test]
async fn an_agreement_takes_in_callers_and_counterparts_by_kind_and_region() {
    let scene = Scene::start().await;
    let region = |code: &str| RegionCode::parse(code).unwrap();
    let change = async |caller: &str, counterpart: &str| {
        let (caller, counterpart) = (region(caller), region(counterpart));
        scene
            .edit_directory(|file| {
                let verify = agreement(file, "DEV-VERIFY");
                verify.caller = Party::of_kind(AgencyKind::LegalAidCentre, caller);
                verify.counterparts = vec![Party::of_kind(AgencyKind::CivilAffairsRegistry, counterpart)];
            })
            .await;
        scene.verify(&scene.question()).await.map(drop)
    };
    // The centre is of 331004, the registry of 331000.
    for (caller, counterpart) in [("331004", "331000"), ("331000", "330000"), ("330000", "331000")] {
        change(caller, counterpart).await.unwrap();
    }
    assert_eq!(refused(change("331002", "331000").await).reason, "NO_AGREEMENT");
    assert_eq!(refused(change("331004", "331004").await).reason, "COUNTERPART_NOT_AGREED");
    scene.stop().await;
}

#[tokio::test]
async fn a_denial_names_the_condition_and_the_agreement_to_the_caller_and_all_of_them_to_the_log() {
    let scene = Scene::start().await;
    scene
        .edit_directory(|file| {
            let verify = agreement(file, "DEV-VERIFY");
            verify.legal_basis = vec!["法律援助法 42"]
                .into_iter()
                .map(|text| text.rsplit_once(' ').unwrap())
                .map(|(law, article)| {
                    legal_aid_gateway::domain::law::LegalBasis::parse(law, article).unwrap()
                })
                .collect();
            let mut other = verify.clone();
            other.id = "OTHER-UNIT".to_owned();
            other.unit = Some("station-3".parse().unwrap());
            file.agreements.push(other);
        })
        .await;
    let status = scene.verify(&scene.question()).await.err().unwrap();
    let told = Refused::of(&status);
    assert_eq!((told.code, told.reason.as_str()), (Code::PermissionDenied, "LEGAL_BASIS_NOT_AGREED"));
    let details = status.get_error_details();
    let metadata = &details.error_info().unwrap().metadata;
    assert_eq!((metadata["agreement"].as_str(), metadata["agreement_version"].as_str()), ("DEV-VERIFY", "2"));
    assert_eq!(metadata["condition"], "LEGAL_BASIS_NOT_AGREED");
    assert!(status.message().contains("DEV-VERIFY, version 2, allows 法律援助法 42"), "{}", status.message());
    let chinese = details.localized_message().unwrap();
    assert!(!chinese.message.is_empty());
    let entry = scene.entry(told.log_index).await;
    assert_eq!(entry.decision, Some(Decision::Deny));
    assert_eq!(entry.considered, ["DEV-VERIFY/2 LEGAL_BASIS_NOT_AGREED", "OTHER-UNIT/1 UNIT_NOT_AGREED"]);

    let mut question = scene.question();
    question.envelope.as_mut().unwrap().legal_basis = vec![basis("《法律援助法》", "42")];
    scene.verify(&question).await.unwrap();
    scene.stop().await;
}

#[tokio::test]
async fn what_exists_but_is_not_agreed_looks_like_what_does_not_and_the_log_knows_better() {
    let scene = Scene::start().await;
    let exchange = scene.submit(&scene.fee_waiver()).await.unwrap().exchange.unwrap();
    scene.edit_directory(|file| agreement(file, "DEV-CENTRE-COURT").counterparts.clear()).await;
    let read = async |id: &str| {
        let request = proto::GetExchangeRequest {
            context: Some(scene.centre.context(purposes::FEE_WAIVER)),
            exchange_id: id.to_owned(),
        };
        refused(scene.centre.exchanges().get_exchange(scene.centre.request(request, DEADLINE)).await)
    };
    let (there, nowhere) =
        (read(&exchange.exchange_id).await, read("0191d1a0-0000-7000-8000-000000000001").await);
    assert_eq!((there.code, &there.reason), (nowhere.code, &nowhere.reason));
    assert_eq!(there.code, Code::NotFound);
    let entry = scene.entry(there.log_index).await;
    assert_eq!((entry.code.as_deref(), entry.decision), (Some("NOT_FOUND"), Some(Decision::Deny)));
    assert_eq!(entry.reason.as_deref(), Some("COUNTERPART_NOT_AGREED"));
    assert_eq!(entry.considered.first().unwrap(), "DEV-CENTRE-COURT/2 COUNTERPART_NOT_AGREED");
    scene.stop().await;
}

#[tokio::test]
async fn where_operators_are_listed_only_they_may_act_and_only_within_their_days() {
    let scene = Scene::start().await;
    let day = |days| Some(day_from_today(&scene.clock, days));
    let centre: CreditCode = codes::CENTRE.parse().unwrap();
    let member = |unit: &str, staff_number: &str, from, until| StaffMember {
        agency: centre,
        unit: unit.parse().unwrap(),
        staff_number: staff_number.parse().unwrap(),
        from,
        until,
    };
    scene
        .edit_directory(|file| {
            agreement(file, "DEV-VERIFY").operators = OperatorTerms::Listed;
            let unit = |code: &str, until| Unit {
                agency: centre,
                code: code.parse().unwrap(),
                name: Some("派驻法院工作站".to_owned()),
                from: None,
                until,
            };
            file.units = vec![unit("main", None), unit("closed", day(-1))];
            file.operators = vec![
                member("main", "c-01", None, None),
                member("main", "c-02", None, day(-1)),
                member("main", "c-03", day(1), None),
                member("main", "c-04", day(0), day(0)),
                member("closed", "c-05", None, None),
            ];
        })
        .await;
    let ask = async |unit: &str, staff_number: &str| {
        let client = acting(&scene, "centre", unit, staff_number);
        let question = district::question(&scene.folder, &client);
        client.verification().verify_low_income(client.request(question, DEADLINE)).await
    };
    for staff_number in ["c-01", "c-04"] {
        ask("main", staff_number).await.unwrap();
    }
    for (unit, staff_number, reason) in [
        ("main", "c-99", "OPERATOR_NOT_LISTED"),
        ("night", "c-01", "OPERATOR_NOT_LISTED"),
        ("main", "c-02", "OPERATOR_NOT_VALID"),
        ("main", "c-03", "OPERATOR_NOT_VALID"),
        ("closed", "c-05", "OPERATOR_NOT_VALID"),
    ] {
        assert_eq!(refused(ask(unit, staff_number).await).reason, reason, "{unit}/{staff_number}");
    }
    scene.stop().await;
}

// ---- quotas ------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_exact_under_calls_at_once_outlives_a_restart_and_ends_with_its_day() {
    let clock = Clock::moved_by_hand(noon());
    let scene = Scene::start_with(Script::TakeOnly, clock.clone()).await;
    let quota = QuotaTerms { per_day: Some(5), ..Default::default() };
    scene.edit_directory(|file| agreement(file, "DEV-VERIFY").quota = Some(quota)).await;
    let mut asking = JoinSet::new();
    for _ in 0..16 {
        let (centre, question) = (scene.centre.clone(), scene.question());
        asking.spawn(async move {
            let request = centre.request(question.clone(), DEADLINE);
            (question, centre.verification().verify_low_income(request).await)
        });
    }
    let (answered, turned_away): (Vec<_>, Vec<_>) =
        asking.join_all().await.into_iter().partition(|(_, answer)| answer.is_ok());
    assert_eq!((answered.len(), turned_away.len()), (5, 11));
    for (_, refusal) in turned_away {
        let status = refusal.err().unwrap();
        let told = Refused::of(&status);
        assert_eq!((told.code, told.reason.as_str()), (Code::ResourceExhausted, "QUOTA_SPENT"));
        let details = status.get_error_details();
        assert_eq!(details.quota_failure().unwrap().violations[0].subject, "agreement:DEV-VERIFY");
        // Noon in Shanghai: the day has twelve hours left.
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(12 * 3600)));
        let entry = scene.entry(told.log_index).await;
        assert_eq!((entry.phase, entry.decision), (Phase::Refused, Some(Decision::Deny)));
    }

    let scene = scene.restart().await;
    assert_eq!(refused(scene.verify(&scene.question()).await).reason, "QUOTA_SPENT");
    // A retry of what was counted gets its first answer.
    scene.verify(&answered[0].0).await.unwrap();
    // Neither what exists nor what does not is told of.
    let read = proto::GetVerificationRequest {
        context: Some(scene.centre.context(purposes::AID_ELIGIBILITY)),
        verification_id: "0191d1a0-0000-7000-8000-000000000001".to_owned(),
    };
    let read = scene.centre.verification().get_verification(scene.centre.request(read, DEADLINE)).await;
    assert_eq!(refused(read).reason, "QUOTA_SPENT");

    clock.advance(Duration::from_secs(12 * 3600));
    for _ in 0..5 {
        scene.verify(&scene.question()).await.unwrap();
    }
    assert_eq!(refused(scene.verify(&scene.question()).await).reason, "QUOTA_SPENT");
    scene.stop().await;
}

#[tokio::test]
async fn an_operators_quota_is_each_operators_own_and_an_agreement_without_one_is_not_used_up() {
    let clock = Clock::moved_by_hand(noon());
    let scene = Scene::start_with(Script::TakeOnly, clock.clone()).await;
    let quota = QuotaTerms { operator_per_hour: Some(2), ..Default::default() };
    scene.edit_directory(|file| agreement(file, "DEV-VERIFY").quota = Some(quota)).await;
    let ask = async |staff_number: &str| {
        let client = acting(&scene, "centre", "main", staff_number);
        let question = district::question(&scene.folder, &client);
        client.verification().verify_low_income(client.request(question, DEADLINE)).await
    };
    for staff_number in ["c-01", "c-02"] {
        for _ in 0..2 {
            ask(staff_number).await.unwrap();
        }
        let refused = refused(ask(staff_number).await);
        assert_eq!((refused.code, refused.reason.as_str()), (Code::ResourceExhausted, "QUOTA_SPENT"));
    }
    // What another agreement allows, it allows.
    scene
        .edit_directory(|file| {
            let mut other = agreement(file, "DEV-VERIFY").clone();
            other.id = "A-SECOND".to_owned();
            other.quota = Some(QuotaTerms { per_day: Some(1), ..Default::default() });
            file.agreements.push(other);
        })
        .await;
    ask("c-01").await.unwrap();
    assert_eq!(refused(ask("c-01").await).reason, "QUOTA_SPENT");
    clock.advance(Duration::from_secs(3600));
    ask("c-01").await.unwrap();
    scene.stop().await;
}

#[tokio::test]
async fn what_exists_and_what_does_not_are_refused_alike_also_where_one_of_two_agreements_is_spent() {
    let scene = Scene::start().await;
    let exchange = scene.submit(&scene.fee_waiver()).await.unwrap().exchange.unwrap();
    scene
        .edit_directory(|file| {
            let spent = agreement(file, "DEV-CENTRE-COURT");
            spent.quota = Some(QuotaTerms { per_day: Some(1), ..Default::default() });
            let mut other = spent.clone();
            other.id = "A-SECOND".to_owned();
            other.quota = None;
            let region = RegionCode::parse("331000").unwrap();
            other.counterparts = vec![Party::of_kind(AgencyKind::Procuratorate, region)];
            file.agreements.push(other);
        })
        .await;
    let read = async |id: &str| {
        let request = proto::GetExchangeRequest {
            context: Some(scene.centre.context(purposes::FEE_WAIVER)),
            exchange_id: id.to_owned(),
        };
        scene.centre.exchanges().get_exchange(scene.centre.request(request, DEADLINE)).await
    };
    read(&exchange.exchange_id).await.unwrap();
    let there = refused(read(&exchange.exchange_id).await);
    let nowhere = refused(read("0191d1a0-0000-7000-8000-000000000001").await);
    assert_eq!((there.code, &there.reason), (nowhere.code, &nowhere.reason));
    assert_eq!(there.code, Code::NotFound);
    scene.stop().await;
}

#[tokio::test]
async fn an_assessment_asks_by_another_agreement_when_nothing_is_left_of_the_first() {
    let scene = Scene::start().await;
    scene
        .edit_directory(|file| {
            let all = agreement(file, "DEV-VERIFY");
            let of_one_question = |id: &str| Agreement {
                id: id.to_owned(),
                methods: vec![Method::VerifyLowIncome],
                quota: Some(QuotaTerms { per_day: Some(1), ..Default::default() }),
                ..all.clone()
            };
            let two = ["Y-FIRST", "Z-SECOND"].map(of_one_question);
            all.methods.retain(|method| *method != Method::VerifyLowIncome);
            file.agreements.extend(two);
        })
        .await;
    let case = std::fs::read_to_string(scene.folder.join("case.json")).unwrap();
    let case: proto::EligibilityCase =
        legal_aid_gateway::grpc::json::from_json("EligibilityCase", &case).unwrap();
    let assess = async || {
        let envelope = scene.question().envelope;
        let envelope = envelope.map(|of| proto::Envelope { recipient: String::new(), ..of });
        let request = proto::AssessEligibilityRequest { envelope, eligibility_case: Some(case.clone()) };
        let request = scene.centre.request(request, DEADLINE);
        scene.centre.eligibility().assess_eligibility(request).await.unwrap();
        let asked = proto::EntryFilter {
            method: "VerifyLowIncome".into(),
            phase: "REQUEST".into(),
            ..Default::default()
        };
        let asked = scene.entries(asked).await.into_iter();
        asked.map(|(_, entry)| entry.agreement.unwrap().id).collect::<Vec<_>>()
    };
    assert_eq!(assess().await, ["Y-FIRST"]);
    assert_eq!(assess().await, ["Y-FIRST", "Z-SECOND"]);
    assert_eq!(assess().await, ["Y-FIRST", "Z-SECOND"], "nothing is left, and nothing is asked");
    scene.stop().await;
}

// ---- disclosure --------------------------------------------------------------------------------------------------

#[tokio::test]
async fn an_answer_tells_what_the_agreement_discloses_and_the_log_names_what_was_withheld() {
    let scene = Scene::start().await;
    let whole = scene.verify(&scene.question()).await.unwrap().answer.unwrap();
    assert!(!whole.programmes.is_empty() && whole.household_size.is_some());
    let disclose = async |fields: &[AnswerField]| {
        scene.edit_directory(|file| agreement(file, "DEV-VERIFY").fields = Some(fields.to_vec())).await;
        let answer = scene.verify(&scene.question()).await.unwrap();
        (answer.answer.unwrap(), scene.entry(answer.audit.unwrap().log_index).await.withheld)
    };

    let (answer, withheld) = disclose(&[AnswerField::Programmes, AnswerField::Organ]).await;
    assert_eq!(answer.programmes.len(), whole.programmes.len());
    assert!(answer.programmes.iter().all(|of| of.certificate_number.is_empty() && of.valid_to.is_none()));
    assert_eq!((answer.household_size, answer.income_band), (None, 0));
    assert!(withheld.contains(&"programmes.certificate_number".into()), "{withheld:?}");
    assert!(withheld.contains(&"household_size".into()), "{withheld:?}");

    // Whether there is a match, and for how long that holds, is what every question is for.
    let (answer, withheld) = disclose(&[]).await;
    assert!(answer.result() == proto::VerificationResult::Match);
    assert_eq!((answer.programmes.len(), answer.household_size, answer.line_fen), (0, None, None));
    assert!(answer.valid_until.is_some() && !answer.source.is_empty());
    assert!(withheld.contains(&"programmes".into()), "{withheld:?}");

    let poverty = async || {
        let request = scene.centre.request(scene.poverty_question(), DEADLINE);
        scene.centre.verification().verify_poverty_household(request).await.unwrap().into_inner()
    };
    let answer = poverty().await;
    let told = answer.answer.unwrap();
    assert!(told.result() == proto::VerificationResult::Match);
    assert_eq!((told.kind, told.risk, told.village_code.as_str()), (0, 0, ""));
    let withheld = scene.entry(answer.audit.unwrap().log_index).await.withheld;
    assert!(
        ["kind", "risk", "identified_on", "village_code"].iter().all(|of| withheld.iter().any(|w| w == of))
    );
    scene.stop().await;
}

#[tokio::test]
async fn what_is_withheld_is_no_ground_for_an_assessment_either() {
    let scene = Scene::start().await;
    let case = std::fs::read_to_string(scene.folder.join("case.json")).unwrap();
    let case: proto::EligibilityCase =
        legal_aid_gateway::grpc::json::from_json("EligibilityCase", &case).unwrap();
    let assess = async || {
        let envelope = scene.question().envelope;
        let envelope = envelope.map(|of| proto::Envelope { recipient: String::new(), ..of });
        let request = proto::AssessEligibilityRequest { envelope, eligibility_case: Some(case.clone()) };
        let request = scene.centre.request(request, DEADLINE);
        scene.centre.eligibility().assess_eligibility(request).await.unwrap().into_inner()
    };
    let passported = assess().await.outcome();
    assert!(passported == proto::EligibilityOutcome::Passported);
    scene.edit_directory(|file| agreement(file, "DEV-VERIFY").fields = Some(Vec::new())).await;
    assert!(assess().await.outcome() != proto::EligibilityOutcome::Passported);
    scene.stop().await;
}

#[tokio::test]
async fn a_programme_that_is_not_agreed_is_not_asked_about() {
    let mut scene = Scene::start().await;
    let registry = scene.count_queries().await;
    use legal_aid_gateway::domain::eligibility::Programme;
    scene
        .edit_directory(|file| agreement(file, "DEV-VERIFY").programmes = Some(vec![Programme::Destitute]))
        .await;
    let status = scene.verify(&scene.question()).await.err().unwrap();
    assert_eq!(Refused::of(&status).reason, "PROGRAMME_NOT_AGREED");
    assert!(status.message().contains("allows destitute"), "{}", status.message());
    assert_eq!(registry.times_asked(), 0);
    let mut question = scene.question();
    question.query.as_mut().unwrap().programmes = vec![proto::Programme::Destitute.into()];
    scene.verify(&question).await.unwrap();
    assert_eq!(registry.times_asked(), 1);
    scene.stop().await;
}

// ---- command line ------------------------------------------------------------------------------------------------

#[tokio::test]
async fn an_operator_does_it_all_from_the_command_line_in_toml() {
    let scene = Scene::start().await;
    let run = async |arguments: &[&str]| {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_legal-aid-gateway"))
            .arg("agreement")
            .args(arguments)
            .args(["--as", "operator.toml"])
            .current_dir(&scene.folder)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.success(), said)
    };
    let (fine, shown) = run(&["show", "DEV-VERIFY"]).await;
    assert!(fine && shown.contains("EFFECTIVE") && shown.contains("the directory file of"), "{shown}");
    let next = shown.replace("version = 1", "version = 2").replace("AID_ELIGIBILITY", "STATISTICS");
    std::fs::write(scene.folder.join("next.toml"), next).unwrap();
    let (fine, said) = run(&["put", "--file", "next.toml"]).await;
    assert!(fine && said.contains("DEV-VERIFY version 2 is EFFECTIVE"), "{said}");
    assert_eq!(refused(scene.verify(&scene.question()).await).reason, "PURPOSE_NOT_AGREED");

    let (fine, said) = run(&["put", "--file", "next.toml"]).await;
    assert!(!fine && said.contains("VERSION_ABOVE_ALL"), "{said}");
    let (fine, said) = run(&["list", "--state", "superseded"]).await;
    assert!(fine && said.contains("DEV-VERIFY") && !said.contains("DEV-AUDIT"), "{said}");
    let explain = [
        "explain",
        "--caller",
        codes::CENTRE,
        "--method",
        "VerifyLowIncome",
        "--counterpart",
        codes::REGISTRY,
    ];
    let (fine, said) = run(&[&explain[..], &["--for", "AID_ELIGIBILITY"]].concat()).await;
    assert!(fine && said.contains("not allowed") && said.contains("PURPOSE_NOT_AGREED"), "{said}");
    let (fine, said) = run(&[&explain[..], &["--for", "STATISTICS"]].concat()).await;
    assert!(fine && said.contains("allowed by DEV-VERIFY version 2"), "{said}");
    let (fine, said) = run(&["end", "DEV-VERIFY", "--version", "2"]).await;
    assert!(fine && said.contains("is ENDED"), "{said}");
    assert_eq!(refused(scene.verify(&scene.question()).await).reason, "NO_AGREEMENT");
    scene.stop().await;
}

// ---- helpers -----------------------------------------------------------------------------------------------------

/// Noon in Shanghai, on a day of which `init`'s agreements are in force.
fn noon() -> jiff::Timestamp {
    let now = Clock::system().now().as_second();
    jiff::Timestamp::from_second(now.div_euclid(86_400) * 86_400 + 4 * 3600).unwrap()
}

fn party(agency: &str) -> proto::AgreementParty {
    proto::AgreementParty { agency: agency.to_owned(), kind: 0, region: String::new() }
}

/// The centre may list its exchanges for statistics.
fn statistics(scene: &Scene, version: u32) -> proto::Agreement {
    proto::Agreement {
        agreement_id: "STATISTICS".to_owned(),
        version,
        caller: Some(party(codes::CENTRE)),
        methods: vec!["ListExchanges".to_owned()],
        purposes: vec!["STATISTICS".to_owned()],
        in_force_from: Some(wire_date(day_from_today(&scene.clock, 0))),
        in_force_until: Some(wire_date(day_from_today(&scene.clock, 30))),
        ..Default::default()
    }
}

async fn list(client: &AgencyClient) -> Result<proto::ListExchangesResponse, Status> {
    let request =
        proto::ListExchangesRequest { context: Some(client.context("STATISTICS")), ..Default::default() };
    client
        .exchanges()
        .list_exchanges(client.request(request, DEADLINE))
        .await
        .map(tonic::Response::into_inner)
}

async fn put(
    operator: &AgencyClient,
    agreement: proto::Agreement,
) -> Result<proto::PutAgreementResponse, Status> {
    let request = proto::PutAgreementRequest {
        context: Some(operator.context(purposes::GATEWAY_OPERATION)),
        agreement: Some(agreement),
    };
    operator
        .agreements()
        .put_agreement(operator.request(request, DEADLINE))
        .await
        .map(tonic::Response::into_inner)
}

async fn approve(operator: &AgencyClient, sha256: &[u8]) -> Result<proto::ApproveAgreementResponse, Status> {
    let request = proto::ApproveAgreementRequest {
        context: Some(operator.context(purposes::GATEWAY_OPERATION)),
        agreement_id: "STATISTICS".to_owned(),
        version: 1,
        sha256: sha256.to_vec(),
    };
    let answer = operator.agreements().approve_agreement(operator.request(request, DEADLINE)).await;
    answer.map(tonic::Response::into_inner)
}

async fn end(operator: &AgencyClient, id: &str, version: u32) -> Result<proto::EndAgreementResponse, Status> {
    let request = proto::EndAgreementRequest {
        context: Some(operator.context(purposes::GATEWAY_OPERATION)),
        agreement_id: id.to_owned(),
        version,
    };
    operator
        .agreements()
        .end_agreement(operator.request(request, DEADLINE))
        .await
        .map(tonic::Response::into_inner)
}

async fn get(operator: &AgencyClient, id: &str) -> Result<proto::GetAgreementResponse, Status> {
    let request = proto::GetAgreementRequest {
        context: Some(operator.context(purposes::GATEWAY_OPERATION)),
        agreement_id: id.to_owned(),
    };
    operator
        .agreements()
        .get_agreement(operator.request(request, DEADLINE))
        .await
        .map(tonic::Response::into_inner)
}

fn refused<T>(answer: Result<T, Status>) -> Refused {
    Refused::of(&answer.err().expect("it is refused"))
}

/// An agency's client with another person at it.
fn acting(scene: &Scene, name: &str, unit: &str, staff_number: &str) -> AgencyClient {
    let operator = ProfileOperator { staff_number: staff_number.to_owned(), unit: unit.to_owned() };
    AgencyClient::new(Profile { operator, ..scene.profile(name) }, scene.clock.clone()).unwrap()
}
