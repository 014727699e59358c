//! The rules of exchange, over real mutual TLS.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod district;

use std::collections::BTreeSet;
use std::time::Duration;

use district::{
    DEADLINE, Raw, Refused, Scene, acknowledge, agreement, answer, day_from_today, fee_waiver, get, path_of,
    pull, purpose, question, respond, submit, verify, waiver, wire_date, wire_time,
};
use legal_aid_gateway::access::{AgencyStatus, Agreement, Method};
use legal_aid_gateway::audit::checkpoint::Checkpoint;
use legal_aid_gateway::audit::entry::{Decision, Phase};
use legal_aid_gateway::audit::merkle::{Hash, leaf_hash};
use legal_aid_gateway::audit::proof::verify_inclusion;
use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::grpc::proto::response::Kind as Arm;
use legal_aid_gateway::grpc::proto::{ExchangeState, VerificationResult};
use legal_aid_gateway::identity::dialler::{DialError, Dialler};
use legal_aid_gateway::setup::{codes, purposes};
use legal_aid_gateway::simulator::court::Script;
use legal_aid_gateway::simulator::registry::{self, Behaviour, RegistryConfig};
use prost::Message as _;
use tonic::{Code, Response};
use tonic_types::StatusExt as _;

// ---- the same request id -----------------------------------------------------------------------------------------

#[tokio::test]
async fn the_same_request_again_gets_the_same_bytes_and_makes_no_second_exchange() {
    let scene = Scene::start().await;
    let raw = Raw::connect(&scene.profile("centre")).await;
    let path = path_of(Method::SubmitExchange);
    let request = scene.fee_waiver();
    let first = raw.call(&path, &request.encode_to_vec(), &[]).await;
    assert_eq!(first.status.code(), Code::Ok);
    let again = raw.call(&path, &request.encode_to_vec(), &[]).await;
    assert_eq!(again.status.code(), Code::Ok);
    assert_eq!(again.body, first.body);
    assert_eq!(again.headers["audit-log-index"], first.headers["audit-log-index"]);
    assert_eq!(scene.exchanges().await.len(), 1);

    // The second answer is in the log too, as what it is.
    let (_, replay) = scene
        .await_entry(of_method("SubmitExchange"), |entry| entry.reason.as_deref() == Some("REPLAYED"))
        .await;
    assert_eq!(replay.request.unwrap().to_string(), request.envelope.unwrap().request_id);
    scene.stop().await;
}

#[tokio::test]
async fn the_same_request_id_with_other_content_is_refused() {
    let scene = Scene::start().await;
    let mut request = scene.fee_waiver();
    scene.submit(&request).await.unwrap();
    waiver(&mut request).reason.push('。');
    let refused = Refused::of(&scene.submit(&request).await.err().unwrap());
    assert_eq!((refused.code, refused.reason.as_str()), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
    assert_eq!(scene.exchanges().await.len(), 1);

    // For another method too: the id names the call, not the message.
    let mut question = scene.question();
    question.envelope.as_mut().unwrap().request_id = request.envelope.unwrap().request_id;
    let refused = Refused::of(&scene.verify(&question).await.err().unwrap());
    assert_eq!(refused.reason, "REQUEST_ID_REUSED");
    scene.stop().await;
}

#[tokio::test]
async fn request_ids_of_two_agencies_do_not_meet() {
    let scene = Scene::start().await;
    let other = scene.enrol_another_centre().await;
    let request = scene.fee_waiver();
    scene.submit(&request).await.unwrap();
    let mut same_id = request.clone();
    same_id.envelope.as_mut().unwrap().sender = codes::STRANGER.to_owned();
    submit(&other, &same_id).await.unwrap();
    scene.stop().await;
}

#[tokio::test]
async fn sixteen_duplicates_at_once_make_one_exchange_and_get_equal_answers() {
    let scene = Scene::start().await;
    let request = scene.fee_waiver();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..16 {
        // Each on a connection of its own.
        let (client, request) = (scene.district.client("centre").unwrap(), request.clone());
        calls.spawn(async move { submit(&client, &request).await.map(|answer| answer.encode_to_vec()) });
    }
    let answers: BTreeSet<_> = calls.join_all().await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.len(), 1);
    assert_eq!(scene.exchanges().await.len(), 1);
    let rows = scene.stored_rows().await;
    assert_eq!((rows["exchanges"], rows["messages"], rows["deliveries"]), (1, 1, 1));
    scene.stop().await;
}

#[tokio::test]
async fn a_verification_is_replayed_without_asking_the_registry_again() {
    let mut scene = Scene::start().await;
    let registry = scene.count_queries().await;
    let request = scene.question();
    let first = scene.verify(&request).await.unwrap();
    let again = scene.verify(&request).await.unwrap();
    assert_eq!(again.encode_to_vec(), first.encode_to_vec());
    assert_eq!(registry.times_asked(), 1);
    scene.verify(&scene.question()).await.unwrap();
    assert_eq!(registry.times_asked(), 2);
    scene.stop().await;
}

#[tokio::test]
async fn a_verification_that_was_answered_is_replayed_when_its_registry_is_suspended() {
    let scene = Scene::start().await;
    let mut named = scene.question();
    named.envelope.as_mut().unwrap().recipient = codes::REGISTRY.to_owned();
    let by_region = scene.question();
    let first = [scene.verify(&named).await.unwrap(), scene.verify(&by_region).await.unwrap()];
    scene
        .edit_directory(|file| {
            let registry = file.agencies.iter_mut().find(|agency| agency.code.as_str() == codes::REGISTRY);
            registry.unwrap().status = AgencyStatus::Suspended;
        })
        .await;
    for (request, first) in [&named, &by_region].into_iter().zip(first) {
        let again = scene.verify(request).await.unwrap();
        assert_eq!(again.encode_to_vec(), first.encode_to_vec());
    }
    let refused = scene.verify(&scene.question()).await.err().unwrap();
    assert_eq!(Refused::of(&refused).reason, "NO_REGISTRY_FOR_REGION");
    scene.stop().await;
}

// ---- who may ---------------------------------------------------------------------------------------------------

#[tokio::test]
async fn each_way_of_not_being_allowed_is_denied_by_its_name_before_anything_is_asked() {
    let mut scene = Scene::start().await;
    let registry = scene.count_queries().await;
    let before = scene.stored_rows().await;

    let as_court = question(&scene.folder, &scene.court);
    let status = verify(&scene.court, &as_court).await.err().unwrap();
    assert_denied(&scene, &status, "NO_AGREEMENT", codes::COURT).await;

    // Who may not call learns nothing about what would be right.
    let status = verify(&scene.court, &proto::VerifyLowIncomeRequest::default()).await.err().unwrap();
    assert_denied(&scene, &status, "NO_AGREEMENT", codes::COURT).await;

    let mut request = scene.question();
    request.envelope.as_mut().unwrap().purpose = "MARKETING".to_owned();
    let status = scene.verify(&request).await.err().unwrap();
    assert_denied(&scene, &status, "PURPOSE_NOT_AGREED", codes::CENTRE).await;

    let mut request = scene.fee_waiver();
    request.envelope.as_mut().unwrap().recipient = codes::AUDITOR.to_owned();
    waiver(&mut request).court_case.as_mut().unwrap().court = codes::AUDITOR.to_owned();
    let status = scene.submit(&request).await.err().unwrap();
    assert_denied(&scene, &status, "COUNTERPART_NOT_AGREED", codes::CENTRE).await;

    let today = day_from_today(&scene.clock, 0);
    for (from, until) in [(-30, -1), (1, 30)] {
        scene
            .edit_directory(|file| {
                let verify = agreement(file, "DEV-VERIFY");
                verify.from = today.saturating_add(jiff::Span::new().days(from));
                verify.until = today.saturating_add(jiff::Span::new().days(until));
            })
            .await;
        let status = scene.verify(&scene.question()).await.err().unwrap();
        assert_denied(&scene, &status, "AGREEMENT_NOT_IN_FORCE", codes::CENTRE).await;
    }
    assert_eq!(registry.times_asked(), 0);
    assert_eq!(scene.stored_rows().await, before);

    // The first and the last day count.
    for (from, until) in [(-30, 0), (0, 30)] {
        scene
            .edit_directory(|file| {
                let verify = agreement(file, "DEV-VERIFY");
                verify.from = today.saturating_add(jiff::Span::new().days(from));
                verify.until = today.saturating_add(jiff::Span::new().days(until));
            })
            .await;
        scene.verify(&scene.question()).await.unwrap();
    }
    assert_eq!(registry.times_asked(), 2);
    scene.stop().await;
}

#[tokio::test]
async fn a_reading_is_denied_for_another_purpose_and_allowed_again_once_agreed() {
    let scene = Scene::start().await;
    let list = |purpose: &str| proto::ListExchangesRequest {
        context: Some(scene.centre.context(purpose)),
        ..Default::default()
    };
    let status = scene.centre.exchanges().list_exchanges(list("STATISTICS")).await.err().unwrap();
    assert_denied(&scene, &status, "PURPOSE_NOT_AGREED", codes::CENTRE).await;
    scene
        .edit_directory(|file| {
            agreement(file, "DEV-CENTRE-COURT").purposes.push(purpose("STATISTICS"));
        })
        .await;
    scene.centre.exchanges().list_exchanges(list("STATISTICS")).await.unwrap();
    scene.stop().await;
}

#[tokio::test]
async fn a_suspended_agency_is_refused_at_the_handshake_and_on_its_open_connection() {
    let scene = Scene::start().await;
    scene.verify(&scene.question()).await.unwrap();
    let set = async |status: AgencyStatus| {
        scene
            .edit_directory(|file| {
                let centre = file.agencies.iter_mut().find(|agency| agency.code.as_str() == codes::CENTRE);
                centre.unwrap().status = status;
            })
            .await;
    };
    set(AgencyStatus::Suspended).await;

    let status = scene.verify(&scene.question()).await.err().unwrap();
    assert_denied(&scene, &status, "AGENCY_NOT_ACTIVE", codes::CENTRE).await;

    assert_turned_away(&scene, "centre").await;
    let (_, entry) = scene
        .await_entry(proto::EntryFilter::default(), |entry| entry.phase == Phase::HandshakeRefused)
        .await;
    assert_eq!(entry.reason.as_deref(), Some("AGENCY_SUSPENDED"));
    assert_eq!(entry.caller.as_deref(), Some(codes::CENTRE));

    set(AgencyStatus::Active).await;
    scene.verify(&scene.question()).await.unwrap();
    scene.stop().await;
}

#[tokio::test]
async fn an_agency_that_is_not_enrolled_is_turned_away_and_logged() {
    let scene = Scene::start().await;
    assert_turned_away(&scene, "stranger").await;
    let stranger = scene.district.client("stranger").unwrap();
    assert!(verify(&stranger, &question(&scene.folder, &stranger)).await.is_err());

    let filter = proto::EntryFilter { caller: codes::STRANGER.to_owned(), ..Default::default() };
    let (_, entry) = scene.await_entry(filter, |entry| entry.phase == Phase::HandshakeRefused).await;
    assert_eq!(entry.reason.as_deref(), Some("AGENCY_NOT_ENROLLED"));
    assert_eq!(entry.decision, Some(Decision::Deny));
    assert_eq!(entry.code.as_deref(), Some("PERMISSION_DENIED"));
    assert_eq!(entry.certificate.unwrap().len(), 64);
    scene.stop().await;
}

#[tokio::test]
async fn an_exchange_of_others_looks_to_a_third_agency_like_one_that_does_not_exist() {
    let mut scene = Scene::start().await;
    scene.district.stop_court().await;
    scene.district.stop_registry().await;
    // Deliveries to the court wait to be pulled: with no endpoint, no courier goes there.
    scene
        .edit_directory(|file| {
            let court = file.agencies.iter_mut().find(|agency| agency.code.as_str() == codes::COURT);
            court.unwrap().endpoint = None;
        })
        .await;
    let third = scene.enrol_another_centre().await;
    scene
        .edit_directory(|file| {
            let like = agreement(file, "DEV-VERIFY").clone();
            let caller =
                codes::STRANGER.parse::<legal_aid_gateway::domain::agency::CreditCode>().unwrap().into();
            let id = "DEV-OTHER-VERIFY".to_owned();
            file.agreements.push(Agreement { id, caller, ..like });
        })
        .await;
    let foreign = Foreign::make(&scene).await;
    let nowhere = "0191d1a0-0000-7000-8000-000000000001".to_owned();
    let nothing = b"%PDF-of nobody".as_slice();
    let mut tried = Vec::new();

    // Every id, wherever an id is taken: an id of one thing is none of another either.
    let list = |asked: proto::ListExchangesRequest| {
        let request =
            proto::ListExchangesRequest { context: Some(third.context(purposes::FEE_WAIVER)), ..asked };
        let third = &third;
        async move { third.exchanges().list_exchanges(request).await.map(Response::into_inner) }
    };
    let delivery = &foreign.delivery;
    let digest = &delivery.message_sha256;
    for id in [&foreign.exchange.exchange_id, &foreign.verification_id, &delivery.delivery_id] {
        let (one, none) = (get(&third, id).await, get(&third, &nowhere).await);
        assert_indistinguishable(&one.err().unwrap(), &none.err().unwrap());
        let (one, none) = (get_verification(&third, id).await, get_verification(&third, &nowhere).await);
        assert_indistinguishable(&one.err().unwrap(), &none.err().unwrap());
        let one = acknowledge(&third, id, digest).await.err().unwrap();
        assert_indistinguishable(&one, &acknowledge(&third, &nowhere, digest).await.err().unwrap());
        for arm in one_answer_of_each_kind(&scene.clock, digest.clone()) {
            // As if it were the third's own, of either party.
            for sender in [true, false] {
                let own = codes::STRANGER.to_owned();
                let mut pretended = proto::Exchange { exchange_id: id.clone(), ..foreign.exchange.clone() };
                *(if sender { &mut pretended.sender } else { &mut pretended.recipient }) = own;
                let one = respond(&third, &answer(&third, &pretended, arm.clone())).await.err().unwrap();
                pretended.exchange_id.clone_from(&nowhere);
                let none = respond(&third, &answer(&third, &pretended, arm.clone())).await.err().unwrap();
                assert_indistinguishable(&one, &none);
            }
        }
    }
    // Nor is a delivery the sender's to acknowledge.
    let status = acknowledge(&scene.centre, &delivery.delivery_id, digest).await.err().unwrap();
    assert_eq!(status.code(), Code::NotFound);
    tried.extend([Method::GetExchange, Method::GetVerification, Method::AcknowledgeDelivery]);
    tried.push(Method::RespondToExchange);

    // What lists and follows shows nothing of it, whatever is asked for.
    assert!(pull(&third).await.unwrap().deliveries.is_empty());
    let matter_id = foreign.exchange.matter_id.clone();
    for asked in [
        proto::ListExchangesRequest::default(),
        proto::ListExchangesRequest { matter_id, ..Default::default() },
        proto::ListExchangesRequest { state: foreign.exchange.state, ..Default::default() },
    ] {
        let shown = list(asked).await.unwrap();
        assert!(shown.exchanges.is_empty() && shown.next_page_token.is_empty());
    }
    let with_token = |token: &str| {
        list(proto::ListExchangesRequest { page_token: token.to_owned(), ..Default::default() })
    };
    let (one, none) = (with_token(&foreign.page_token).await, with_token("AAAA").await);
    assert_same_refusal(&one.err().unwrap(), &none.err().unwrap());
    let (one, none) = (watch(&third, &foreign.cursor).await, watch(&third, "AAAA").await);
    assert_same_refusal(&one.err().unwrap(), &none.err().unwrap());
    let first = watch(&third, "").await.unwrap().message().await.unwrap().unwrap();
    assert!(first.event.is_none(), "a sign of life, and no change");
    tried.extend([Method::PullDeliveries, Method::ListExchanges, Method::WatchExchanges]);

    // A paper: not to be read, not to be carried on, not to be confirmed by naming or sending its digest.
    let papers = [PAPER, nothing].map(digest_of);
    let [one, none] = papers.each_ref().map(|sha256| download(&third, sha256));
    assert_indistinguishable(&one.await.err().unwrap(), &none.await.err().unwrap());
    let [one, none] = papers.each_ref().map(|sha256| {
        let context = Some(third.context(purposes::FEE_WAIVER));
        let request = proto::GetUploadRequest { context, sha256: sha256.clone() };
        let third = &third;
        async move { third.attachments().get_upload(request).await.unwrap().into_inner() }
    });
    let (one, none) = (one.await, none.await);
    assert_eq!((one.durable_bytes, one.complete), (none.durable_bytes, none.complete));
    for (offset, size, media_type) in
        [(5, PAPER.len(), "application/pdf"), (0, 7, "image/png"), (0, 7, "text/plain")]
    {
        let [one, none] = papers.each_ref().map(|sha256| upload(&third, sha256, offset, size, media_type));
        assert_same_refusal(&one.await.err().unwrap(), &none.await.err().unwrap());
    }
    for sha256 in papers {
        let mut naming = fee_waiver(&scene.folder, &third);
        naming.envelope.as_mut().unwrap().attachments.push(proto::Attachment {
            sha256,
            name: "a.png".to_owned(),
            media_type: "image/png".to_owned(),
            size_bytes: 7,
            form_number: String::new(),
        });
        submit(&third, &naming).await.unwrap();
    }
    let [one, none] = [PAPER, nothing].map(digest_of);
    assert_indistinguishable(
        &download(&third, &one).await.err().unwrap(),
        &download(&third, &none).await.err().unwrap(),
    );
    tried.extend([
        Method::DownloadAttachment,
        Method::GetUpload,
        Method::UploadAttachment,
        Method::SubmitExchange,
    ]);

    // The log is not the third's to ask about at all.
    let entry = |index| {
        let context = Some(third.context(purposes::AUDIT_INSPECTION));
        let request = proto::GetEntryRequest { context, index };
        let third = &third;
        async move { third.audit().get_entry(request).await.err().unwrap() }
    };
    assert_same_refusal(&entry(0).await, &entry(1_000_000).await);
    let receipt = |index| {
        // Of this one it may have receipts, for its own calls.
        let request = proto::GetReceiptRequest { context: Some(third.context(purposes::FEE_WAIVER)), index };
        let third = &third;
        async move { third.audit().get_receipt(request).await.err().unwrap() }
    };
    assert_same_refusal(&receipt(0).await, &receipt(1_000_000).await);
    let mark = |finding_id: &str| {
        let request = proto::MarkFindingRequest {
            context: Some(third.context(purposes::AUDIT_INSPECTION)),
            finding_id: finding_id.to_owned(),
            mark: proto::FindingMarkKind::Normal.into(),
            comment: "x".to_owned(),
        };
        let third = &third;
        async move { third.audit().mark_finding(request).await.err().unwrap() }
    };
    let no_finding = "00000000-0000-8000-8000-000000000000";
    assert_same_refusal(&mark(no_finding).await, &mark("no id").await);
    let evidence = |exchange_id: &str| {
        let context = Some(third.context(purposes::FEE_WAIVER));
        let request = proto::ExportEvidenceRequest { context, exchange_id: exchange_id.to_owned() };
        let third = &third;
        async move { third.audit().export_evidence(request).await.err().unwrap() }
    };
    let no_exchange = "01890000-0000-7000-8000-000000000000";
    assert_same_refusal(&evidence(&foreign.exchange.exchange_id).await, &evidence(no_exchange).await);
    let open = |index| {
        let context = Some(third.context(purposes::FEE_WAIVER));
        let fields = vec![proto::CommittedField::Request.into()];
        let request = proto::OpenEntryRequest { context, index, fields };
        let third = &third;
        async move { third.audit().open_entry(request).await.err().unwrap() }
    };
    assert_same_refusal(&open(0).await, &open(1_000_000).await);
    tried.extend([Method::GetEntry, Method::GetReceipt, Method::MarkFinding]);
    tried.extend([Method::ExportEvidence, Method::OpenEntry]);

    // These take no id of anything that exists.
    use Method::{AssessEligibility, BatchVerify, VerifyLowIncome, VerifyPovertyHousehold};
    use Method::{GetCheckpoint, GetConsistencyProof, GetEntries, GetInclusionProof, GetTile, ListEntries};
    tried.extend([AssessEligibility, BatchVerify, VerifyLowIncome, VerifyPovertyHousehold]);
    tried.extend([ListEntries, GetCheckpoint, GetInclusionProof, Method::ListFindings]);
    tried.extend([GetConsistencyProof, GetEntries, GetTile]);
    // An agreement cannot give the operator's methods to a party.
    for method in Method::ALL.iter().filter(|method| !method.is_the_operators()) {
        assert!(tried.contains(method), "{method:?} is not tried with foreign ids");
    }

    // Whose it is finds everything as it was.
    let unchanged = get(&scene.centre, &foreign.exchange.exchange_id).await.unwrap().exchange.unwrap();
    assert_eq!((unchanged.state, unchanged.thread.len()), (foreign.exchange.state, 1));
    download(&scene.centre, &digest_of(PAPER)).await.unwrap();
    download(&scene.court, &digest_of(PAPER)).await.unwrap();
    scene.stop().await;
}

/// A paper that the centre uploads.
const PAPER: &[u8] = b"%PDF-1.7 of the centre";

/// Things of the centre and the court.
struct Foreign {
    exchange: proto::Exchange,
    delivery: proto::Delivery,
    verification_id: String,
    page_token: String,
    cursor: String,
}

impl Foreign {
    async fn make(scene: &Scene) -> Self {
        let sha256 = digest_of(PAPER);
        upload(&scene.centre, &sha256, 0, PAPER.len(), "application/pdf").await.unwrap();
        let mut request = scene.fee_waiver();
        request.envelope.as_mut().unwrap().attachments.push(proto::Attachment {
            sha256,
            name: "a.pdf".to_owned(),
            media_type: "application/pdf".to_owned(),
            size_bytes: i64::try_from(PAPER.len()).unwrap(),
            form_number: String::new(),
        });
        let exchange = scene.submit(&request).await.unwrap().exchange.unwrap();
        let delivery = await_delivery(&scene.court).await;
        let mut later = scene.question();
        later.complete_later = true;
        let verification_id = scene.verify(&later).await.unwrap().verification_id;
        // A second one, so that there is a second page.
        scene.submit(&scene.fee_waiver()).await.unwrap();
        let context = Some(scene.centre.context(purposes::FEE_WAIVER));
        let page = proto::ListExchangesRequest { context, page_size: 1, ..Default::default() };
        let page = scene.centre.exchanges().list_exchanges(page).await.unwrap().into_inner();
        let cursor = watch(&scene.centre, "").await.unwrap().message().await.unwrap().unwrap().cursor;
        Self { exchange, delivery, verification_id, page_token: page.next_page_token, cursor }
    }
}

fn one_answer_of_each_kind(clock: &Clock, message_sha256: Vec<u8>) -> Vec<Arm> {
    let day = |days| Some(wire_date(day_from_today(clock, days)));
    let missing = vec![proto::MissingPaper { description: "收入证明".to_owned(), ..Default::default() }];
    vec![
        Arm::Receipt(proto::Receipt {
            message_sha256,
            received_at: Some(wire_time(clock.now().as_second())),
            receipt_number: String::new(),
        }),
        Arm::SupplementRequest(proto::SupplementRequest { missing, due_on: day(7) }),
        Arm::Supplement(proto::Supplement { note: "补交".to_owned() }),
        Arm::Withdrawal(proto::Withdrawal { reason: "试探".to_owned() }),
        Arm::FeeWaiverDecision(proto::FeeWaiverDecision {
            outcome: proto::FeeWaiverOutcome::Deferred.into(),
            deferred_until: day(60),
            notice_number: "N-1".to_owned(),
            hardship_rereviewed: Some(false),
            decided_on: day(0),
            ..Default::default()
        }),
        Arm::Closure(proto::Closure { closed_on: day(0), final_allocation: String::new() }),
    ]
}

async fn get_verification(client: &AgencyClient, id: &str) -> Result<(), tonic::Status> {
    let request = proto::GetVerificationRequest {
        context: Some(client.context(purposes::AID_ELIGIBILITY)),
        verification_id: id.to_owned(),
    };
    client.verification().get_verification(client.request(request, DEADLINE)).await.map(|_| ())
}

async fn watch(
    client: &AgencyClient,
    cursor: &str,
) -> Result<tonic::Streaming<proto::WatchExchangesResponse>, tonic::Status> {
    let context = Some(client.context(purposes::FEE_WAIVER));
    let request = proto::WatchExchangesRequest { context, cursor: cursor.to_owned() };
    client.exchanges().watch_exchanges(request).await.map(Response::into_inner)
}

async fn download(client: &AgencyClient, sha256: &[u8]) -> Result<(), tonic::Status> {
    let context = Some(client.context(purposes::FEE_WAIVER));
    let request = proto::DownloadAttachmentRequest { context, sha256: sha256.to_vec(), offset: 0 };
    client.attachments().download_attachment(request).await.map(|_| ())
}

/// Sends [`PAPER`] under a digest.
async fn upload(
    client: &AgencyClient,
    sha256: &[u8],
    offset: i64,
    size: usize,
    media_type: &str,
) -> Result<(), tonic::Status> {
    let first = proto::UploadAttachmentRequest {
        context: Some(client.context(purposes::FEE_WAIVER)),
        sha256: sha256.to_vec(),
        size_bytes: i64::try_from(size).unwrap(),
        media_type: media_type.to_owned(),
        name: "a.pdf".to_owned(),
        offset,
        data: PAPER[..size.min(PAPER.len())].to_vec(),
    };
    client.attachments().upload_attachment(tonic::codegen::tokio_stream::iter([first])).await.map(|_| ())
}

// ---- the state machine -------------------------------------------------------------------------------------------

#[tokio::test]
async fn an_answer_out_of_turn_is_refused_with_what_is_allowed() {
    let mut scene = Scene::start().await;
    let mut told = replace_court(&mut scene, 0).await;
    let exchange = scene.submit(&scene.fee_waiver()).await.unwrap().exchange.unwrap();
    let taken = told.recv().await.unwrap();
    let exchange = scene.await_state(&exchange.exchange_id, ExchangeState::Delivered).await;
    let supplement = || Arm::Supplement(proto::Supplement { note: "补交".to_owned() });
    let decision = || {
        Arm::FeeWaiverDecision(proto::FeeWaiverDecision {
            outcome: proto::FeeWaiverOutcome::Deferred.into(),
            deferred_until: Some(wire_date(day_from_today(&scene.clock, 60))),
            notice_number: "N-1".to_owned(),
            hardship_rereviewed: Some(false),
            decided_on: Some(wire_date(day_from_today(&scene.clock, 0))),
            ..Default::default()
        })
    };
    let receipt = |digest: Vec<u8>| {
        Arm::Receipt(proto::Receipt {
            message_sha256: digest,
            received_at: Some(wire_time(scene.clock.now().as_second())),
            receipt_number: String::new(),
        })
    };
    let says = async |client: &AgencyClient, arm: Arm| {
        let status = respond(client, &answer(client, &exchange, arm)).await.err().unwrap();
        let refused = Refused::of(&status);
        assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "ILLEGAL_TRANSITION"));
        let entry = scene.entry(refused.log_index).await;
        assert_eq!(entry.reason.as_deref(), Some("ILLEGAL_TRANSITION"));
        assert_eq!(entry.exchange.unwrap().to_string(), exchange.exchange_id);
        status.message().to_owned()
    };

    let said = says(&scene.centre, supplement()).await;
    assert!(said.contains("DELIVERED") && said.ends_with("allowed: WITHDRAWAL"), "{said}");
    let said = says(&scene.court, decision()).await;
    assert!(said.ends_with("allowed: RECEIPT"), "{said}");
    let said = says(&scene.centre, decision()).await;
    assert!(said.contains("SENDER"), "{said}");

    // A receipt binds to the bytes that were delivered.
    let wrong = respond(&scene.court, &answer(&scene.court, &exchange, receipt(vec![9; 32]))).await;
    let refused = Refused::of(&wrong.err().unwrap());
    assert_eq!(refused.rules(), [("response.receipt.message_sha256", "RECEIPT_BINDS_TO_MESSAGE")]);
    let right = receipt(digest_of(&taken.delivery.message));
    let received = respond(&scene.court, &answer(&scene.court, &exchange, right.clone())).await.unwrap();
    assert_eq!(received.exchange.unwrap().state, ExchangeState::Received as i32);

    // Twice is out of turn, under a new request id.
    let said = says(&scene.court, right).await;
    assert!(said.contains("allowed: SUPPLEMENT_REQUEST, PROGRESS, DECISION"), "{said}");
    let decided = respond(&scene.court, &answer(&scene.court, &exchange, decision())).await.unwrap();
    assert_eq!(decided.exchange.unwrap().state, ExchangeState::Decided as i32);
    let said = says(&scene.centre, Arm::Withdrawal(proto::Withdrawal { reason: "晚了".to_owned() })).await;
    assert!(said.ends_with("allowed: CLOSURE"), "{said}");
    scene.stop().await;
}

#[tokio::test]
async fn of_two_answers_at_once_one_counts() {
    let mut scene = Scene::start().await;
    let mut told = replace_court(&mut scene, 0).await;
    let exchange = scene.submit(&scene.fee_waiver()).await.unwrap().exchange.unwrap();
    told.recv().await.unwrap();
    let exchange = scene.await_state(&exchange.exchange_id, ExchangeState::Delivered).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let centre = scene.centre.clone();
        let reason = "和解".to_owned();
        let request = answer(&centre, &exchange, Arm::Withdrawal(proto::Withdrawal { reason }));
        calls.spawn(async move { respond(&centre, &request).await });
    }
    let outcomes = calls.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for status in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        let refused = Refused::of(status);
        assert!(
            ["ILLEGAL_TRANSITION", "CHANGED_MEANWHILE"].contains(&refused.reason.as_str()),
            "{refused:?}"
        );
    }
    let exchange = get(&scene.centre, &exchange.exchange_id).await.unwrap().exchange.unwrap();
    assert_eq!(exchange.state, ExchangeState::Withdrawn as i32);
    assert_eq!(exchange.thread.len(), 2);
    scene.stop().await;
}

#[tokio::test]
async fn a_fee_off_the_ladder_is_a_warning_with_the_computed_figure_and_stops_nothing() {
    let scene = Scene::start().await;
    let mut request = scene.fee_waiver();
    // 500,000 yuan: 8,800 by article 13.
    waiver(&mut request).claimed_sum_fen = Some(50_000_000);
    waiver(&mut request).fee_fen = Some(999);
    let answer = scene.submit(&request).await.unwrap();
    assert_eq!(answer.exchange.unwrap().state, ExchangeState::Submitted as i32);
    let [warning] = answer.warnings.as_slice() else { panic!("{} warnings", answer.warnings.len()) };
    assert_eq!(warning.field, "content.fee_waiver.fee_fen");
    assert_eq!(warning.rule, "FEE_DISAGREES_WITH_LADDER");
    assert!(warning.description.contains("8,800.00 yuan"), "{}", warning.description);
    assert!(warning.description_zh.contains("8,800.00元"), "{}", warning.description_zh);
    assert_eq!(warning.article, "诉讼费用交纳办法 art 13");

    let mut request = scene.fee_waiver();
    waiver(&mut request).claimed_sum_fen = Some(50_000_000);
    waiver(&mut request).fee_fen = Some(880_000);
    assert!(scene.submit(&request).await.unwrap().warnings.is_empty());

    // In summary procedure it is half of that (art 16).
    let halved = |fee_fen| {
        let mut request = scene.fee_waiver();
        let asked = waiver(&mut request);
        asked.claimed_sum_fen = Some(50_000_000);
        asked.fee_fen = Some(fee_fen);
        asked.fee_halved = proto::FeeHalving::SummaryProcedure.into();
        request
    };
    assert!(scene.submit(&halved(440_000)).await.unwrap().warnings.is_empty());
    let answer = scene.submit(&halved(880_000)).await.unwrap();
    assert!(answer.warnings[0].description.contains("4,400.00 yuan"), "{}", answer.warnings[0].description);
    assert_eq!(answer.warnings[0].article, "诉讼费用交纳办法 art 16");
    scene.stop().await;
}

// ---- delivery ----------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_delivery_waits_for_a_court_that_is_down_and_has_effect_once_when_it_is_back() {
    let mut scene = Scene::start().await;
    scene.district.stop_court().await;
    let exchange = scene.submit(&scene.fee_waiver()).await.unwrap().exchange.unwrap();
    let (_, failed) = scene
        .await_entry(of_method("Deliver"), |entry| entry.reason.as_deref() == Some("INBOX_UNREACHABLE"))
        .await;
    assert_eq!(failed.phase, Phase::Response);
    let waiting = get(&scene.centre, &exchange.exchange_id).await.unwrap().exchange.unwrap();
    assert_eq!(waiting.state, ExchangeState::Submitted as i32);

    // It is back, but its first answer gets lost: the same delivery comes once more.
    let mut told = scene.open_inbox(1).await;
    let first = told.recv().await.unwrap();
    let second = told.recv().await.unwrap();
    scene.await_state(&exchange.exchange_id, ExchangeState::Delivered).await;
    assert!(!first.already_delivered && first.delivery.attempt > 1, "{first:?}");
    assert!(second.already_delivered && second.delivery.attempt > first.delivery.attempt, "{second:?}");
    assert_eq!(second.delivery.delivery_id, first.delivery.delivery_id);
    assert_eq!(second.delivery.message, first.delivery.message);
    assert!(told.try_recv().is_err(), "a delivery that is settled comes no more");

    // Every attempt is in the log with its two entries, all of the one delivery.
    let entries = scene.entries(of_method("Deliver")).await;
    let requests = entries.iter().filter(|(_, entry)| entry.phase == Phase::Request).count();
    let responses = entries.iter().filter(|(_, entry)| entry.phase == Phase::Response).count();
    assert_eq!(requests, usize::try_from(second.delivery.attempt).unwrap());
    assert_eq!(responses, requests);
    let ids: BTreeSet<_> = entries.iter().map(|(_, entry)| entry.delivery.unwrap().to_string()).collect();
    assert_eq!(ids, BTreeSet::from([first.delivery.delivery_id]));
    assert_eq!(entries.last().unwrap().1.code.as_deref(), Some("OK"));
    scene.stop().await;
}

#[tokio::test]
async fn a_pulled_delivery_is_leased_then_given_out_again_then_acknowledged_once() {
    let clock = Clock::moved_by_hand(Clock::system().now());
    let mut scene = Scene::start_with(Script::TakeOnly, clock.clone()).await;
    scene.district.stop_court().await;
    scene
        .edit_directory(|file| {
            let court = file.agencies.iter_mut().find(|agency| agency.code.as_str() == codes::COURT);
            court.unwrap().endpoint = None;
        })
        .await;
    let exchange = scene.submit(&scene.fee_waiver()).await.unwrap().exchange.unwrap();

    let pulled = pull(&scene.court).await.unwrap();
    let [delivery] = pulled.deliveries.as_slice() else { panic!("{} deliveries", pulled.deliveries.len()) };
    assert_eq!(delivery.attempt, 1);
    let expires = pulled.lease_expire_time.unwrap();
    assert_eq!(expires.seconds - clock.now().as_second(), 60);
    let message = proto::ExchangeMessage::decode(delivery.message.as_slice()).unwrap();
    assert_eq!(message.exchange_id, exchange.exchange_id);
    assert_eq!(digest_of(&delivery.message), delivery.message_sha256);

    // On lease it is nobody else's.
    assert!(pull(&scene.court).await.unwrap().deliveries.is_empty());
    clock.advance(Duration::from_secs(61));
    let again = pull(&scene.court).await.unwrap().deliveries;
    assert_eq!(again.len(), 1);
    assert_eq!((again[0].attempt, &again[0].delivery_id), (2, &delivery.delivery_id));
    assert_eq!(again[0].message, delivery.message);

    let wrong = acknowledge(&scene.court, &delivery.delivery_id, &[9; 32]).await.err().unwrap();
    assert_eq!(Refused::of(&wrong).rules(), [("message_sha256", "ACKNOWLEDGES_THE_MESSAGE")]);
    let digest = &delivery.message_sha256;
    let first = acknowledge(&scene.court, &delivery.delivery_id, digest).await.unwrap();
    assert!(!first.already_acknowledged);
    let second = acknowledge(&scene.court, &delivery.delivery_id, digest).await.unwrap();
    assert!(second.already_acknowledged);
    let exchange = get(&scene.court, &exchange.exchange_id).await.unwrap().exchange.unwrap();
    assert_eq!(exchange.state, ExchangeState::Delivered as i32);
    clock.advance(Duration::from_secs(3600));
    assert!(pull(&scene.court).await.unwrap().deliveries.is_empty());
    scene.stop().await;
}

// ---- reading -----------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_page_token_holds_for_its_own_question_and_agency_only() {
    let scene = Scene::start().await;
    let other = scene.enrol_another_centre().await;
    let mut made = BTreeSet::new();
    for matter in ["LQ-2026-0001", "LQ-2026-0001", "LQ-2026-0001", "LQ-2026-0002"] {
        let mut request = scene.fee_waiver();
        request.envelope.as_mut().unwrap().matter_id = matter.to_owned();
        made.insert(scene.submit(&request).await.unwrap().exchange.unwrap().exchange_id);
    }
    let page = async |client: &AgencyClient, matter_id: &str, page_token: &str| {
        let request = proto::ListExchangesRequest {
            context: Some(client.context(purposes::FEE_WAIVER)),
            matter_id: matter_id.to_owned(),
            page_size: 1,
            page_token: page_token.to_owned(),
            ..Default::default()
        };
        client.exchanges().list_exchanges(client.request(request, DEADLINE)).await.map(Response::into_inner)
    };
    let (mut seen, mut token) = (BTreeSet::new(), String::new());
    let first_token = loop {
        let found = page(&scene.centre, "", &token).await.unwrap();
        seen.extend(found.exchanges.into_iter().map(|exchange| exchange.exchange_id));
        if found.next_page_token.is_empty() {
            break token;
        }
        token = found.next_page_token;
    };
    assert_eq!(seen, made);

    assert!(page(&scene.centre, "", &first_token).await.is_ok());
    for (client, matter) in [(&scene.centre, "LQ-2026-0001"), (&other, "")] {
        let refused = Refused::of(&page(client, matter, &first_token).await.err().unwrap());
        assert_eq!(refused.rules(), [("page_token", "PAGE_TOKEN")]);
    }
    let narrowed = page(&scene.centre, "LQ-2026-0002", "").await.unwrap();
    assert_eq!((narrowed.exchanges.len(), narrowed.next_page_token.as_str()), (1, ""));

    let entries = async |phase: &str, page_token: String| {
        let request = proto::ListEntriesRequest {
            context: Some(scene.auditor.context(purposes::AUDIT_INSPECTION)),
            filter: Some(proto::EntryFilter { phase: phase.to_owned(), ..Default::default() }),
            page_size: 1,
            page_token,
            newest_first: false,
        };
        scene.auditor.audit().list_entries(request).await.map(Response::into_inner)
    };
    let token = entries("REQUEST", String::new()).await.unwrap().next_page_token;
    assert!(entries("REQUEST", token.clone()).await.is_ok());
    let refused = Refused::of(&entries("RESPONSE", token).await.err().unwrap());
    assert_eq!(refused.rules(), [("page_token", "PAGE_TOKEN")]);
    scene.stop().await;
}

// ---- an odd registry ---------------------------------------------------------------------------------------------

#[tokio::test]
async fn an_answer_about_another_person_is_ambiguous_and_a_failing_registry_is_a_result() {
    let mut scene = Scene::start().await;
    for (behaviour, result, reason) in [
        (Behaviour::WrongPerson, VerificationResult::Ambiguous, "SUBJECT_MISMATCH"),
        (Behaviour::Fails, VerificationResult::Unavailable, "REGISTRY_ERROR"),
    ] {
        scene.district.stop_registry().await;
        let text = std::fs::read_to_string(scene.folder.join("simulate-registry.toml")).unwrap();
        let mut config: RegistryConfig = toml::from_str(&text).unwrap();
        config.behaviour = behaviour;
        config.profile = scene.folder.join("registry.toml");
        let odd = registry::serve_config(config, scene.clock.clone()).await.unwrap();
        let answered = scene.verify(&scene.question()).await.unwrap();
        let said = answered.answer.unwrap();
        assert_eq!((said.result, said.reason.as_str()), (result as i32, reason));
        assert!(!said.next_steps.is_empty() && said.programmes.is_empty());
        let entry = scene.entry(answered.audit.unwrap().log_index).await;
        assert_eq!((entry.phase, entry.code.as_deref()), (Phase::Response, Some("OK")));
        assert_eq!(entry.reason.as_deref(), Some(reason));
        odd.stop().await;
    }
    scene.stop().await;
}

// ---- evidence ----------------------------------------------------------------------------------------------------

#[tokio::test]
async fn every_answer_names_an_entry_of_its_own_request() {
    let scene = Scene::start().await;
    let mut evidence: Vec<(String, u64)> = Vec::new();
    let id = |envelope: &Option<proto::Envelope>| envelope.as_ref().unwrap().request_id.clone();
    let index = |receipt: Option<proto::AuditReceipt>| receipt.unwrap().log_index;

    let question = scene.question();
    evidence.push((id(&question.envelope), index(scene.verify(&question).await.unwrap().audit)));
    // Again: the first answer's evidence is the evidence.
    evidence.push((id(&question.envelope), index(scene.verify(&question).await.unwrap().audit)));
    let request = scene.fee_waiver();
    let submitted = scene.submit(&request).await.unwrap();
    let exchange = submitted.exchange.unwrap();
    evidence.push((id(&request.envelope), index(submitted.audit)));
    let withdrawal = Arm::Withdrawal(proto::Withdrawal { reason: "和解".to_owned() });
    let request = answer(&scene.centre, &exchange, withdrawal);
    let responded = respond(&scene.centre, &request).await.unwrap();
    evidence.push((id(&request.envelope), index(responded.audit)));

    // Refusals, each for another reason.
    let mut invalid = scene.fee_waiver();
    waiver(&mut invalid).reason.clear();
    let mut denied = scene.question();
    denied.envelope.as_mut().unwrap().purpose = "MARKETING".to_owned();
    let late =
        answer(&scene.centre, &exchange, Arm::Supplement(proto::Supplement { note: "补交".to_owned() }));
    let refusals = [
        (id(&invalid.envelope), scene.submit(&invalid).await.err()),
        (id(&denied.envelope), scene.verify(&denied).await.err()),
        (id(&late.envelope), respond(&scene.centre, &late).await.err()),
    ];
    evidence.extend(refusals.map(|(id, status)| (id, Refused::of(&status.unwrap()).log_index)));

    // Readings.
    let context = || Some(scene.auditor.context(purposes::AUDIT_INSPECTION));
    let request_id = |context: &Option<proto::CallContext>| context.as_ref().unwrap().request_id.clone();
    let request = proto::GetCheckpointRequest { context: context() };
    let found = scene.auditor.audit().get_checkpoint(request.clone()).await.unwrap().into_inner();
    evidence.push((request_id(&request.context), index(found.audit)));
    let request = proto::ListEntriesRequest { context: context(), ..Default::default() };
    let found = scene.auditor.audit().list_entries(request.clone()).await.unwrap().into_inner();
    evidence.push((request_id(&request.context), index(found.audit)));
    let request = proto::GetEntryRequest { context: context(), index: u64::MAX };
    let refused = scene.auditor.audit().get_entry(request.clone()).await.err().unwrap();
    evidence.push((request_id(&request.context), Refused::of(&refused).log_index));
    let request = proto::PullDeliveriesRequest {
        context: Some(scene.court.context(purposes::FEE_WAIVER)),
        max_deliveries: 1,
    };
    let found = scene.court.exchanges().pull_deliveries(request.clone()).await.unwrap().into_inner();
    evidence.push((request_id(&request.context), index(found.audit)));

    for (request_id, index) in evidence {
        let entry = scene.entry(index).await;
        assert_eq!(entry.request.map(|id| id.to_string()), Some(request_id), "entry {index}");
    }
    scene.stop().await;
}

#[tokio::test]
async fn every_entry_is_proven_in_trees_of_many_sizes() {
    let scene = Scene::start().await;
    for _ in 0..5 {
        scene.verify(&scene.question()).await.unwrap();
    }
    scene.submit(&scene.fee_waiver()).await.unwrap();
    let (origin, key) = (scene.district.gateway.log_key().name(), scene.district.gateway.log_key());
    let audit = || scene.auditor.audit();
    let context = || Some(scene.auditor.context(purposes::AUDIT_INSPECTION));
    let hash = |bytes: &[u8]| Hash::from_slice(bytes).unwrap();
    let size = Checkpoint::open(&scene.district.gateway.checkpoint(), key).unwrap().size;
    assert!(size >= 12, "{size}");
    let mut roots = std::collections::BTreeMap::new();
    for index in [0, 1, 4, 7, size - 1] {
        let request = proto::GetEntryRequest { context: context(), index };
        let stored = audit().get_entry(request).await.unwrap().into_inner().entry.unwrap();
        let leaf = leaf_hash(&stored.entry);
        assert_eq!(stored.leaf_hash, leaf.as_bytes());
        for tree_size in [index + 1, index + 2, 8, size, 0] {
            if tree_size != 0 && (tree_size <= index || tree_size > size) {
                continue;
            }
            let request = proto::GetInclusionProofRequest { context: context(), index, tree_size };
            let proof = audit().get_inclusion_proof(request).await.unwrap().into_inner();
            let hashes: Vec<_> = proof.hashes.iter().map(|bytes| hash(bytes)).collect();
            let root = hash(&proof.root_hash);
            verify_inclusion(&leaf, index, proof.tree_size, &hashes, &root).unwrap();
            // All proofs in a tree of one size lead to one root.
            let known = roots.entry(proof.tree_size).or_insert(root);
            assert_eq!(*known, root);
            let checkpoint = Checkpoint::open(&proof.checkpoint, key).unwrap();
            assert_eq!(checkpoint.origin, origin);
            if tree_size == 0 {
                assert_eq!((checkpoint.size, checkpoint.root), (proof.tree_size, root));
            }
            // Another leaf is not proven by it.
            let other = leaf_hash(b"another entry");
            assert!(verify_inclusion(&other, index, proof.tree_size, &hashes, &root).is_err());
        }
    }
    scene.stop().await;
}

// ---- helpers -----------------------------------------------------------------------------------------------------

fn of_method(method: &str) -> proto::EntryFilter {
    proto::EntryFilter { method: method.to_owned(), ..Default::default() }
}

/// Takes the simulated court away and opens an inbox in its place.
async fn replace_court(
    scene: &mut Scene,
    lost_answers: usize,
) -> tokio::sync::mpsc::UnboundedReceiver<district::Taken> {
    scene.district.stop_court().await;
    scene.open_inbox(lost_answers).await
}

async fn await_delivery(client: &AgencyClient) -> proto::Delivery {
    pull(client).await.unwrap().deliveries.pop().expect("a delivery waits as soon as it was submitted")
}

fn digest_of(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec()
}

async fn assert_denied(scene: &Scene, status: &tonic::Status, reason: &str, caller: &str) {
    let refused = Refused::of(status);
    assert_eq!((refused.code, refused.reason.as_str()), (Code::PermissionDenied, reason));
    assert!(refused.violations.is_empty());
    let entry = scene.entry(refused.log_index).await;
    assert_eq!((entry.phase, entry.decision), (Phase::Refused, Some(Decision::Deny)));
    assert_eq!(entry.reason.as_deref(), Some(reason));
    assert_eq!(entry.code.as_deref(), Some("PERMISSION_DENIED"));
    assert_eq!(entry.caller.as_deref(), Some(caller));
}

/// A new connection of this agency is closed with the alert `access_denied`.
async fn assert_turned_away(scene: &Scene, name: &str) {
    let profile = scene.profile(name);
    let dialler = Dialler::new(&profile.credentials().unwrap(), scene.clock.clone());
    let error = dialler.probe(&profile.endpoint()).await.err().unwrap();
    assert!(
        matches!(error, DialError::Refused(rustls::AlertDescription::AccessDenied)),
        "turned away by {error:?}"
    );
}

/// Two refusals of what is not there, that differ in nothing but the index of their entries.
fn assert_indistinguishable(one: &tonic::Status, other: &tonic::Status) {
    assert_eq!(one.code(), Code::NotFound);
    assert_same_refusal(one, other);
}

/// Two refusals that differ in nothing but the index of their entries.
fn assert_same_refusal(one: &tonic::Status, other: &tonic::Status) {
    assert_eq!((one.code(), one.message()), (other.code(), other.message()));
    let without_index = |status: &tonic::Status| {
        let mut details = status.get_error_details();
        let mut info = details.error_info().unwrap().clone();
        info.metadata.remove("log_index").expect("a refusal names its entry");
        let rest: std::collections::BTreeMap<_, _> = info.metadata.drain().collect();
        details.set_error_info(info.reason, info.domain, std::collections::HashMap::new());
        let headers: Vec<_> = status.metadata().as_ref().keys().map(ToString::to_string).collect();
        (format!("{details:?} {rest:?}"), headers.len())
    };
    assert_eq!(without_index(one), without_index(other));
}
