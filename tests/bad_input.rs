//! Bad input of every kind: all that is wrong is said in one answer, nothing is stored, nothing is dispatched, and the
//! refusal is in the audit log.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod district;

use std::collections::BTreeSet;

use bytes::{BufMut as _, Bytes, BytesMut};
use district::samples::{REQUEST_ID, Sample, input_of, samples};
use district::{Raw, Refused, Scene, basis, day_from_today, frame, path_of, waiver, wire_date, wire_time};
use legal_aid_gateway::access::Method;
use legal_aid_gateway::audit::entry::Phase;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::setup::{codes, purposes};
use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _, Value};
use tonic::{Code, Status};

// ---- everything at once ------------------------------------------------------------------------------------------

#[tokio::test]
async fn everything_wrong_with_a_submission_comes_in_one_answer_and_nothing_is_stored() {
    let mut scene = Scene::start().await;
    let registry = scene.count_queries().await;
    let before = scene.stored_rows().await;
    let (mut request, tomorrow) = (scene.fee_waiver(), wire_date(day_from_today(&scene.clock, 1)));
    let later = wire_time(scene.clock.now().as_second() + 3600);
    let envelope = request.envelope.as_mut().unwrap();
    envelope.sender = codes::REGISTRY.to_owned();
    envelope.recipient = "11331004MB00000032".to_owned();
    envelope.purpose.clear();
    envelope.classification.as_mut().unwrap().minor_under_14 = None;
    envelope.legal_basis = vec![basis("法律援助法", "fifty-three")];
    let request_id = envelope.request_id.clone();
    let asked = waiver(&mut request);
    asked.applicant_kind = proto::ApplicantKind::LegalPerson.into();
    asked.relief = proto::Relief::Exempt.into();
    asked.claim_kind = 99;
    asked.reduction_permille = Some(200);
    asked.filed_at = Some(later);
    let applicant = asked.applicant.as_mut().unwrap();
    applicant.id_number = "331004198001010017".to_owned();
    applicant.birth_date = Some(tomorrow);
    let decision = asked.aid_decision.as_mut().unwrap();
    decision.decided_on = Some(tomorrow);
    decision.document_sha256 = vec![1; 31];

    let refused = Refused::of(&scene.submit(&request).await.err().unwrap());

    let expected = [
        ("envelope.sender", "SENDER_IS_THE_CALLER", ""),
        ("envelope.recipient", "CREDIT_CODE_CHECK", "GB 32100"),
        ("envelope.purpose", "REQUIRED", ""),
        ("envelope.classification.minor_under_14", "REQUIRED", ""),
        ("envelope.legal_basis[0].article", "LEGAL_BASIS_ARTICLE", "网络数据安全管理条例 art 12"),
        ("content.fee_waiver.applicant.id_number", "RESIDENT_ID_CHECK", "GB 11643"),
        ("content.fee_waiver.applicant.birth_date", "NOT_IN_THE_FUTURE", ""),
        ("content.fee_waiver.claim_kind", "UNKNOWN_VALUE", ""),
        ("content.fee_waiver.relief", "EXEMPTION_IS_FOR_NATURAL_PERSONS", "诉讼费用交纳办法 art 44"),
        ("content.fee_waiver.ground", "GROUND_FITS_RELIEF", "诉讼费用交纳办法 art 45"),
        ("content.fee_waiver.reduction_permille", "ONLY_FOR_REDUCTION", "诉讼费用交纳办法 art 46"),
        ("content.fee_waiver.aid_decision.decided_on", "NOT_IN_THE_FUTURE", ""),
        ("content.fee_waiver.aid_decision.document_sha256", "SHA256_HAS_32_BYTES", ""),
        ("content.fee_waiver.filed_at", "NOT_IN_THE_FUTURE", ""),
    ];
    assert_violations(&refused, &expected);
    assert_eq!((refused.code, refused.reason.as_str()), (Code::InvalidArgument, "INVALID_REQUEST"));
    assert_logged(&scene, &refused, Some(&request_id)).await;
    assert_eq!(scene.stored_rows().await, before);
    assert!(scene.exchanges().await.is_empty());
    assert_eq!(registry.times_asked(), 0);
    scene.stop().await;
}

#[tokio::test]
async fn everything_wrong_with_a_question_comes_in_one_answer_and_the_registry_is_not_asked() {
    let mut scene = Scene::start().await;
    let registry = scene.count_queries().await;
    let before = scene.stored_rows().await;
    let mut request = scene.question();
    let request_id = request.envelope.as_ref().unwrap().request_id.clone();
    let envelope = request.envelope.as_mut().unwrap();
    envelope.purpose.clear();
    envelope.schema_version = 2;
    envelope.operator.as_mut().unwrap().staff_number = "two words".to_owned();
    let query = request.query.as_mut().unwrap();
    query.as_of = Some(wire_date(day_from_today(&scene.clock, 1)));
    query.household_scope = 9;
    query.programmes = vec![1, 99];
    query.authority = None;
    let subject = query.subject.as_mut().unwrap();
    subject.id_number = "11010519491231002x1".to_owned();
    subject.household_region = "990000".to_owned();

    let refused = Refused::of(&scene.verify(&request).await.err().unwrap());

    let expected = [
        ("envelope.schema_version", "SCHEMA_VERSION", ""),
        ("envelope.operator.staff_number", "CODE_CHARACTER", ""),
        ("envelope.purpose", "REQUIRED", ""),
        ("query.subject.id_number", "RESIDENT_ID_LENGTH", "GB 11643"),
        ("query.subject.household_region", "", "GB/T 2260"),
        ("query.household_scope", "UNKNOWN_VALUE", ""),
        ("query.programmes[1]", "UNKNOWN_VALUE", ""),
        ("query.as_of", "NOT_IN_THE_FUTURE", ""),
        ("query.authority", "REQUIRED", "法律援助法 art 41"),
    ];
    assert_violations(&refused, &expected);
    assert_logged(&scene, &refused, Some(&request_id)).await;
    assert_eq!(scene.stored_rows().await, before);
    assert_eq!(registry.times_asked(), 0);

    // The count can rise: what is right is asked.
    scene.verify(&scene.question()).await.unwrap();
    assert_eq!(registry.times_asked(), 1);
    scene.stop().await;
}

/// One rule that a fee waiver can break: how, where, which, and by which article.
type Fault = (fn(&mut proto::SubmitExchangeRequest), &'static str, &'static str, &'static str);

#[tokio::test]
async fn each_rule_between_the_fields_of_a_fee_waiver_is_kept() {
    use proto::{ApplicantKind, Instance, Relief, ReliefGround};
    let scene = Scene::start().await;
    let before = scene.stored_rows().await;
    let faults: &[Fault] = &[
        (
            |request| {
                let asked = waiver(request);
                asked.relief = Relief::Reduce.into();
                asked.ground = ReliefGround::ReliefGround461.into();
                asked.reduction_permille = Some(200);
            },
            "content.fee_waiver.reduction_permille",
            "REDUCTION_AT_LEAST_30_PERCENT",
            "诉讼费用交纳办法 art 46",
        ),
        (
            |request| {
                let asked = waiver(request);
                asked.relief = Relief::Reduce.into();
                asked.ground = ReliefGround::ReliefGround461.into();
            },
            "content.fee_waiver.reduction_permille",
            "REQUIRED",
            "诉讼费用交纳办法 art 46",
        ),
        (
            |request| {
                let asked = waiver(request);
                asked.applicant_kind = ApplicantKind::WelfareBody.into();
                asked.relief = Relief::Exempt.into();
                asked.ground = ReliefGround::ReliefGround455.into();
            },
            "content.fee_waiver.relief",
            "EXEMPTION_IS_FOR_NATURAL_PERSONS",
            "诉讼费用交纳办法 art 44",
        ),
        (
            |request| {
                let asked = waiver(request);
                asked.relief = Relief::Reduce.into();
                asked.ground = ReliefGround::ReliefGround463.into();
                asked.reduction_permille = Some(500);
            },
            "content.fee_waiver.ground",
            "GROUND_IS_FOR_WELFARE_BODIES",
            "诉讼费用交纳办法 art 46(3)",
        ),
        (
            |request| waiver(request).aid_decision = None,
            "content.fee_waiver.aid_decision",
            "REQUIRED",
            "诉讼费用交纳办法 art 47(3)",
        ),
        (
            |request| {
                let asked = waiver(request);
                asked.aid_decision = None;
                asked.ground = ReliefGround::ReliefGround471.into();
            },
            "content.fee_waiver.hardship_proof",
            "REQUIRED",
            "诉讼费用交纳办法 art 48",
        ),
        (
            |request| {
                waiver(request).hardship_proof = Some(proto::HardshipProof {
                    issuer: "某某街道办事处".to_owned(),
                    issued_on: Some(wire_date(jiff::civil::date(2026, 1, 5))),
                    document_sha256: vec![7; 32],
                });
            },
            "content.fee_waiver.hardship_proof",
            "NOT_BESIDE_AN_AID_DECISION",
            "法律援助法 art 53",
        ),
        (
            |request| waiver(request).claimed_sum_fen = None,
            "content.fee_waiver.claimed_sum_fen",
            "REQUIRED",
            "诉讼费用交纳办法 art 13(1)",
        ),
        (|request| waiver(request).fee_fen = Some(-1), "content.fee_waiver.fee_fen", "NOT_NEGATIVE", ""),
        (
            |request| waiver(request).court_case.as_mut().unwrap().court = codes::REGISTRY.to_owned(),
            "content.fee_waiver.court_case.court",
            "COURT_IS_THE_RECIPIENT",
            "",
        ),
        (
            |request| {
                waiver(request).court_case.as_mut().unwrap().case_number =
                    "（2026）浙1004民初123号".to_owned();
            },
            "content.fee_waiver.court_case.case_number",
            "CASE_NUMBER_WITH_DOCKETING",
            "诉讼费用交纳办法 art 48",
        ),
        (
            |request| waiver(request).court_case.as_mut().unwrap().instance = Instance::Second.into(),
            "content.fee_waiver.court_case.appealed_on",
            "REQUIRED",
            "诉讼费用交纳办法 art 48",
        ),
        (
            |request| {
                let case = waiver(request).court_case.as_mut().unwrap();
                case.case_number = "（2024）浙1004民初123号".to_owned();
                case.docketed_on = Some(wire_date(jiff::civil::date(2024, 3, 1)));
            },
            "content.fee_waiver.filed_at",
            "AT_FILING_OR_APPEAL",
            "诉讼费用交纳办法 art 48",
        ),
        (
            |request| request.envelope.as_mut().unwrap().kind = proto::Kind::LowIncomeQuery.into(),
            "envelope.kind",
            "KIND_FITS_CONTENT",
            "",
        ),
        (
            |request| request.envelope.as_mut().unwrap().recipient = codes::CENTRE.to_owned(),
            "envelope.recipient",
            "NOT_TO_ONESELF",
            "",
        ),
        (
            |request| request.envelope.as_mut().unwrap().in_reply_to = REQUEST_ID.to_owned(),
            "envelope.in_reply_to",
            "ONLY_IN_RESPONSES",
            "",
        ),
    ];
    for (spoil, field, rule, article) in faults {
        let mut request = scene.fee_waiver();
        spoil(&mut request);
        let refused = Refused::of(&scene.submit(&request).await.err().expect(rule));
        let found = refused.violations.iter().find(|found| found.field == *field && found.reason == *rule);
        let found = found.unwrap_or_else(|| panic!("{rule} is not among {:?}", refused.rules()));
        assert!(found.description.contains(article), "{rule}: {}", found.description);
        let said = scene.refused_on_the_command_line("centre", &request).await;
        assert!(said.contains(field) && said.contains(rule), "{field} {rule}: {said}");
        assert_logged(&scene, &refused, Some(&request.envelope.unwrap().request_id)).await;
    }
    assert_eq!(scene.stored_rows().await, before);
    scene.stop().await;
}

#[tokio::test]
async fn a_fault_in_the_envelope_hides_no_fault_that_depends_on_it() {
    let scene = Scene::start().await;
    let mut request = scene.fee_waiver();
    request.envelope.as_mut().unwrap().region.clear();
    request.envelope.as_mut().unwrap().kind = proto::Kind::LowIncomeQuery.into();
    waiver(&mut request).court_case.as_mut().unwrap().court = codes::REGISTRY.to_owned();
    let refused = Refused::of(&scene.submit(&request).await.err().unwrap());
    let mut rules = refused.rules();
    rules.sort_unstable();
    let expected = [
        ("content.fee_waiver.court_case.court", "COURT_IS_THE_RECIPIENT"),
        ("envelope.kind", "KIND_FITS_CONTENT"),
        ("envelope.region", "REQUIRED"),
    ];
    assert_eq!(rules, expected);
    scene.stop().await;
}

// ---- what the contract says of its own fields --------------------------------------------------------------------

#[tokio::test]
async fn every_field_that_the_contract_calls_mandatory_is_missed_at_its_path() {
    let scene = Scene::start().await;
    let samples = samples(&scene);
    let mut visited = BTreeSet::new();
    let mut callers = Callers::connect(&scene).await;
    for sample in &samples {
        callers.accepts(sample).await;
        for place in places(&sample.message).iter().filter(|place| place.element.is_none()) {
            if !is_mandatory(&place.field) {
                continue;
            }
            visited.insert(place.field.full_name().to_owned());
            // The one exception, by its own comment: a question is routed where no recipient is named. That the
            // sample names none, and is accepted, shows it.
            let is_routed = matches!(
                sample.method,
                Method::VerifyLowIncome | Method::VerifyPovertyHousehold | Method::AssessEligibility
            );
            if is_routed && place.path == "envelope.recipient" {
                continue;
            }
            let mut message = sample.message.clone();
            place.in_message(&mut message).clear_field(&place.field);
            let status = callers.call(sample, &message).await;
            let refused = Refused::of(&status.err().unwrap_or_else(|| panic!("{place:?} is not missed")));
            let is_at_path = refused.violations.iter().any(|found| found.field == place.path);
            assert!(is_at_path, "{place:?}: {:?}", refused.rules());
        }
    }
    let reachable = reachable_messages();
    let mandatory: BTreeSet<_> = reachable
        .iter()
        .flat_map(MessageDescriptor::fields)
        .filter(is_mandatory)
        .map(|field| field.full_name().to_owned())
        .collect();
    assert!(mandatory.len() > 60, "the comments are not found: {}", mandatory.len());
    let unvisited: Vec<_> = mandatory.difference(&visited).collect();
    assert!(unvisited.is_empty(), "no sample has {unvisited:?}; add it to `samples`");
    scene.stop().await;
}

#[tokio::test]
async fn a_number_that_no_enum_knows_is_refused_at_its_path() {
    let scene = Scene::start().await;
    let mut visited = BTreeSet::new();
    let mut callers = Callers::connect(&scene).await;
    for sample in &samples(&scene) {
        for place in &places(&sample.message) {
            let Kind::Enum(words) = place.field.kind() else { continue };
            if place.field.is_list() && place.element.is_none() {
                continue;
            }
            visited.insert(words.full_name().to_owned());
            let mut message = sample.message.clone();
            place.set(&mut message, Value::EnumNumber(99));
            let status = callers.call(sample, &message).await;
            let refused = Refused::of(&status.err().unwrap_or_else(|| panic!("{place:?} is not refused")));
            let is_at_path = |rule: &str| rule == "UNKNOWN_VALUE";
            let found = refused.violations.iter().any(|v| v.field == place.path && is_at_path(&v.reason));
            assert!(found, "{place:?}: {:?}", refused.rules());
        }
    }
    for message in reachable_messages() {
        for field in message.fields() {
            if let Kind::Enum(words) = field.kind() {
                assert!(visited.contains(words.full_name()), "no sample has {}", field.full_name());
            }
        }
    }
    scene.stop().await;
}

// ---- below the message -------------------------------------------------------------------------------------------

#[tokio::test]
async fn what_is_no_call_of_the_contract_is_refused_and_logged() {
    let scene = Scene::start().await;
    let before = scene.stored_rows().await;
    let raw = Raw::connect(&scene.profile("centre")).await;
    let submit = path_of(Method::SubmitExchange);
    let good = scene.fee_waiver().encode_to_vec();
    let grpc = ("content-type", "application/grpc");
    let post = http::Method::POST;
    let twice = [frame(&good), frame(&good)].concat();
    let mut too_large = scene.fee_waiver();
    waiver(&mut too_large).reason = "长".repeat(5 * 1024 * 1024 / 3);
    let mut cut_off = frame(&good).to_vec();
    cut_off.truncate(40);
    let mut compressed = BytesMut::from(frame(&good).as_ref());
    compressed[0] = 1;
    let mut lies = BytesMut::new();
    lies.put_u8(0);
    lies.put_u32(u32::MAX);

    let mut cases = vec![
        (
            "GET",
            raw.send(http::Method::GET, &submit, &[grpc], Bytes::new()).await,
            Code::InvalidArgument,
            "NOT_GRPC",
        ),
        (
            "JSON",
            raw.send(post.clone(), &submit, &[("content-type", "application/json")], frame(&good)).await,
            Code::InvalidArgument,
            "NOT_GRPC",
        ),
        (
            "no content type",
            raw.send(post.clone(), &submit, &[], frame(&good)).await,
            Code::InvalidArgument,
            "NOT_GRPC",
        ),
        (
            "5 MB",
            raw.call(&submit, &too_large.encode_to_vec(), &[]).await,
            Code::OutOfRange,
            "MESSAGE_TOO_LARGE",
        ),
        (
            "a length of 4 GiB",
            raw.send(post.clone(), &submit, &[grpc], lies.freeze()).await,
            Code::OutOfRange,
            "MESSAGE_TOO_LARGE",
        ),
        ("garbage", raw.call(&submit, &[0xff; 64], &[]).await, Code::InvalidArgument, "UNREADABLE_REQUEST"),
        (
            "text that is not UTF-8",
            raw.call(&submit, &[0x0a, 3, 0x0a, 1, 0xff], &[]).await,
            Code::InvalidArgument,
            "UNREADABLE_REQUEST",
        ),
        (
            "no message",
            raw.send(post.clone(), &submit, &[grpc], Bytes::new()).await,
            Code::InvalidArgument,
            "UNREADABLE_REQUEST",
        ),
        (
            "a message cut off",
            raw.send(post.clone(), &submit, &[grpc], cut_off.into()).await,
            Code::InvalidArgument,
            "UNREADABLE_REQUEST",
        ),
        (
            "two messages",
            raw.send(post.clone(), &submit, &[grpc], twice.into()).await,
            Code::InvalidArgument,
            "UNREADABLE_REQUEST",
        ),
        (
            "unknown method",
            raw.call("/legalaid.exchange.v1.ExchangeService/Forget", &good, &[]).await,
            Code::Unimplemented,
            "NO_SUCH_METHOD",
        ),
        ("unknown path", raw.call("/", &good, &[]).await, Code::Unimplemented, "NO_SUCH_METHOD"),
        (
            "compressed",
            raw.send(post, &submit, &[grpc, ("grpc-encoding", "gzip")], compressed.freeze()).await,
            Code::Unimplemented,
            "COMPRESSION_NOT_SUPPORTED",
        ),
        (
            "a deadline of zero",
            raw.call(&submit, &good, &[("grpc-timeout", "0n")]).await,
            Code::DeadlineExceeded,
            "DEADLINE_EXCEEDED",
        ),
    ];
    for timeout in ["", "S", "10", "10s", "-1S", "123456789S", "1 S", "1.5S", "十S"] {
        let answered = raw.call(&submit, &good, &[("grpc-timeout", timeout)]).await;
        cases.push(("a malformed deadline", answered, Code::InvalidArgument, "BAD_TIMEOUT"));
    }
    for (case, answered, code, reason) in &cases {
        assert_eq!(answered.http, http::StatusCode::OK, "{case}");
        assert_eq!(answered.headers["content-type"], "application/grpc", "{case}");
        let refused = Refused::of(&answered.status);
        assert_eq!((refused.code, refused.reason.as_str()), (*code, *reason), "{case}");
        assert_logged(&scene, &refused, None).await;
    }
    assert_eq!(scene.stored_rows().await, before);
    // The same message, sent as it should be, is taken.
    let answered = raw.call(&submit, &good, &[("grpc-timeout", "10S")]).await;
    assert_eq!(answered.status.code(), Code::Ok, "{}", answered.status.message());
    scene.stop().await;
}

#[tokio::test]
async fn absurd_pages_filters_and_indices_are_refused_or_find_nothing() {
    let scene = Scene::start().await;
    let auditor = &scene.auditor;
    let context = || Some(auditor.context(purposes::AUDIT_INSPECTION));
    for page_size in [-1, 501, i32::MIN, i32::MAX] {
        let request = proto::ListEntriesRequest { context: context(), page_size, ..Default::default() };
        let refused = auditor.audit().list_entries(request).await.err().unwrap();
        assert_eq!(Refused::of(&refused).rules(), [("page_size", "PAGE_SIZE")]);
    }
    for page_token in ["x", "AAAA", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "张三"] {
        let page_token = page_token.to_owned();
        let request = proto::ListEntriesRequest { context: context(), page_token, ..Default::default() };
        let refused = auditor.audit().list_entries(request).await.err().unwrap();
        assert_eq!(Refused::of(&refused).rules(), [("page_token", "PAGE_TOKEN")]);
    }
    for seconds in [i64::MAX, i64::MIN] {
        let at = prost_types::Timestamp { seconds, nanos: i32::MIN };
        let filter =
            proto::EntryFilter { recorded_from: Some(at), recorded_before: Some(at), ..Default::default() };
        let request =
            proto::ListEntriesRequest { context: context(), filter: Some(filter), ..Default::default() };
        let found = auditor.audit().list_entries(request).await.unwrap().into_inner();
        assert!(found.entries.is_empty());
    }
    let request = proto::GetEntryRequest { context: context(), index: u64::MAX };
    assert_eq!(Refused::of(&auditor.audit().get_entry(request).await.err().unwrap()).code, Code::NotFound);
    for (index, tree_size) in [(u64::MAX, 0), (0, u64::MAX), (u64::MAX, u64::MAX), (5, 5)] {
        let request = proto::GetInclusionProofRequest { context: context(), index, tree_size };
        let refused = auditor.audit().get_inclusion_proof(request).await.err().unwrap();
        assert_eq!(Refused::of(&refused).violations[0].reason, "WITHIN_THE_LOG");
    }
    for (old_size, new_size, field) in [
        (u64::MAX, 0, "old_size"),
        (0, u64::MAX, "new_size"),
        (u64::MAX, u64::MAX, "new_size"),
        (3, 2, "old_size"),
    ] {
        let request = proto::GetConsistencyProofRequest { context: context(), old_size, new_size };
        let refused = auditor.audit().get_consistency_proof(request).await.err().unwrap();
        assert_eq!(Refused::of(&refused).rules(), [(field, "WITHIN_THE_LOG")]);
    }
    for (first, count, wanted) in [(u64::MAX, 0, ("first", "WITHIN_THE_LOG")), (0, 1025, ("count", "RANGE"))]
    {
        let request = proto::GetEntriesRequest { context: context(), first, count };
        let refused = auditor.audit().get_entries(request).await.err().unwrap();
        assert_eq!(Refused::of(&refused).rules(), [wanted]);
    }
    for (level, index, width, wanted) in [
        (64, 0, 0, ("level", "RANGE")),
        (u32::MAX, 0, 0, ("level", "RANGE")),
        (0, 0, 257, ("width", "RANGE")),
        (0, 0, 256, ("width", "WITHIN_THE_LOG")),
        (0, u64::MAX, 0, ("index", "WITHIN_THE_LOG")),
        (63, 0, 1, ("index", "WITHIN_THE_LOG")),
    ] {
        let request = proto::GetTileRequest { context: context(), level, index, width };
        let refused = auditor.audit().get_tile(request).await.err().unwrap();
        assert_eq!(Refused::of(&refused).rules(), [wanted]);
    }
    let request = proto::GetReceiptRequest { context: context(), index: u64::MAX };
    assert_eq!(Refused::of(&auditor.audit().get_receipt(request).await.err().unwrap()).code, Code::NotFound);
    let centre = &scene.centre;
    for cursor in ["x", "AAAA", "张三"] {
        let context = Some(centre.context(purposes::FEE_WAIVER));
        let request = proto::WatchExchangesRequest { context, cursor: cursor.to_owned() };
        let refused = centre.exchanges().watch_exchanges(request).await.err().unwrap();
        assert_eq!(Refused::of(&refused).rules(), [("cursor", "CURSOR")]);
    }
    for max_deliveries in [-1, 101, i32::MAX] {
        let request = proto::PullDeliveriesRequest {
            context: Some(centre.context(purposes::FEE_WAIVER)),
            max_deliveries,
        };
        let refused = centre.exchanges().pull_deliveries(request).await.err().unwrap();
        assert_eq!(Refused::of(&refused).rules(), [("max_deliveries", "RANGE")]);
    }
    scene.stop().await;
}

// ---- helpers -----------------------------------------------------------------------------------------------------

/// Exactly these violations, each with its article and in Chinese.
fn assert_violations(refused: &Refused, expected: &[(&str, &str, &str)]) {
    let wanted: BTreeSet<_> = expected.iter().map(|(field, ..)| *field).collect();
    let found: BTreeSet<_> = refused.violations.iter().map(|found| found.field.as_str()).collect();
    assert_eq!(found, wanted);
    assert_eq!(refused.violations.len(), expected.len(), "{:?}", refused.rules());
    for (field, rule, article) in expected {
        let found = refused.violations.iter().find(|found| found.field == *field).unwrap();
        assert!(rule.is_empty() || found.reason == *rule, "{field}: {}", found.reason);
        let chinese = found.localized_message.as_ref().expect("a Chinese text");
        assert_eq!(chinese.locale, "zh-CN");
        assert!(chinese.message.chars().any(|c| ('\u{4e00}'..'\u{9fff}').contains(&c)), "{field}");
        let (told, told_zh) = (&found.description, &chinese.message);
        assert!(told.contains(article), "{field}: {told} does not name {article}");
        assert!(told_zh.contains(&in_chinese(article)), "{field}: {told_zh} does not name {article}");
        assert!(!article.is_empty() || !told.contains(" art "), "{field}: {told}");
        assert!(!told_zh.contains(" art "), "{field}: {told_zh}");
    }
}

/// An article as Chinese texts cite it.
fn in_chinese(article: &str) -> String {
    match article.split_once(" art ") {
        None => article.to_owned(),
        Some((law, number)) => {
            let (number, below) = number.split_at(number.find('(').unwrap_or(number.len()));
            format!("《{law}》第{number}条{}", below.replace('(', "（").replace(')', "）"))
        }
    }
}

/// The refusal's entry is where the answer says, and says the same.
async fn assert_logged(scene: &Scene, refused: &Refused, request_id: Option<&str>) {
    let entry = scene.entry(refused.log_index).await;
    assert_eq!(entry.phase, Phase::Refused);
    assert_eq!(entry.reason.as_deref(), Some(refused.reason.as_str()));
    let code = match refused.code {
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        other => panic!("no test expects {other:?}"),
    };
    assert_eq!(entry.code.as_deref(), Some(code));
    assert_eq!(entry.caller.as_deref(), Some(codes::CENTRE));
    if let Some(request_id) = request_id {
        assert_eq!(entry.request.map(|id| id.to_string()).as_deref(), Some(request_id));
    }
}

/// Calls methods with messages of any shape, each as an agency that may.
struct Callers {
    centre: Raw,
    court: Raw,
    auditor: Raw,
    operator: Raw,
}

impl Callers {
    async fn connect(scene: &Scene) -> Self {
        Self {
            centre: Raw::connect(&scene.profile("centre")).await,
            court: Raw::connect(&scene.profile("court")).await,
            auditor: Raw::connect(&scene.profile("auditor")).await,
            operator: Raw::connect(&scene.profile("operator")).await,
        }
    }

    /// Sends a message in a sample's place.
    async fn call(&mut self, sample: &Sample, message: &DynamicMessage) -> Result<(), Status> {
        let raw = match sample.method {
            method if method.is_the_operators() => &self.operator,
            method if method.service().ends_with("AuditService") => &self.auditor,
            _ if sample.by_court => &self.court,
            _ => &self.centre,
        };
        // A watch that is right goes on until its deadline.
        let watches = sample.method == Method::WatchExchanges;
        let until: &[(&str, &str)] = if watches { &[("grpc-timeout", "300m")] } else { &[] };
        let answered = raw.call(&path_of(sample.method), &message.encode_to_vec(), until).await;
        match answered.status.code() {
            Code::Ok => Ok(()),
            Code::DeadlineExceeded if watches => Ok(()),
            _ => Err(answered.status),
        }
    }

    /// Nothing is wrong with a sample, except that there is no such exchange or delivery.
    async fn accepts(&mut self, sample: &Sample) {
        if let Err(status) = self.call(sample, &sample.message).await {
            let refused = Refused::of(&status);
            assert_eq!(refused.code, Code::NotFound, "{:?}: {:?}", sample.method, refused.rules());
        }
    }
}

/// A field in a message: the way to the message that holds it, and for a repeated field maybe an element.
struct Place {
    way: Vec<(FieldDescriptor, Option<usize>)>,
    field: FieldDescriptor,
    element: Option<usize>,
    path: String,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.path)
    }
}

impl Place {
    fn in_message<'m>(&self, message: &'m mut DynamicMessage) -> &'m mut DynamicMessage {
        self.way.iter().fold(message, |message, (field, element)| {
            let value = message.get_field_mut(field);
            match element {
                Some(at) => value.as_list_mut().unwrap()[*at].as_message_mut().unwrap(),
                None => value.as_message_mut().unwrap(),
            }
        })
    }

    fn set(&self, message: &mut DynamicMessage, value: Value) {
        let message = self.in_message(message);
        match self.element {
            Some(at) => message.get_field_mut(&self.field).as_list_mut().unwrap()[at] = value,
            None => message.set_field(&self.field, value),
        }
    }
}

/// Every field of the contract's own messages in a message, filled in or not.
fn places(message: &DynamicMessage) -> Vec<Place> {
    let mut found = Vec::new();
    walk(message, &mut Vec::new(), "", &mut found);
    found
}

fn walk(
    message: &DynamicMessage,
    way: &mut Vec<(FieldDescriptor, Option<usize>)>,
    prefix: &str,
    found: &mut Vec<Place>,
) {
    for field in message.descriptor().fields() {
        let path = format!("{prefix}{}", field.name());
        let here = way.clone();
        let place = |element, path| Place { way: here.clone(), field: field.clone(), element, path };
        found.push(place(None, path.clone()));
        let value = message.get_field(&field).into_owned();
        let elements: Vec<(Option<usize>, Value, String)> = match value {
            Value::List(list) => list
                .into_iter()
                .enumerate()
                .map(|(at, value)| (Some(at), value, format!("{path}[{at}]")))
                .collect(),
            value if message.has_field(&field) => vec![(None, value, path)],
            _ => Vec::new(),
        };
        for (element, value, path) in elements {
            if element.is_some() {
                found.push(place(element, path.clone()));
            }
            if let Value::Message(inner) = value
                && is_of_contract(&inner.descriptor())
            {
                way.push((field.clone(), element));
                walk(&inner, way, &format!("{path}."), found);
                way.pop();
            }
        }
    }
}

fn is_of_contract(message: &MessageDescriptor) -> bool {
    message.package_name() == "legalaid.exchange.v1"
}

/// Every message of the contract that a caller can send.
fn reachable_messages() -> Vec<MessageDescriptor> {
    let mut reached: Vec<MessageDescriptor> = Vec::new();
    let mut waiting: Vec<_> = Method::ALL.iter().map(|method| input_of(*method)).collect();
    while let Some(message) = waiting.pop() {
        if !is_of_contract(&message) || reached.contains(&message) {
            continue;
        }
        waiting.extend(message.fields().filter_map(|field| field.kind().as_message().cloned()));
        reached.push(message);
    }
    reached
}

/// Whether the field's comment begins with "Mandatory".
fn is_mandatory(field: &FieldDescriptor) -> bool {
    let file = field.parent_file().file_descriptor_proto().source_code_info.clone();
    let locations = file.expect("the descriptors carry their comments").location;
    let own = locations.iter().find(|location| location.path == field.path());
    own.is_some_and(|location| location.leading_comments().trim_start().starts_with("Mandatory"))
}
