//! A message of each method in which every field that can be wrong is filled in, rightly.

use legal_aid_gateway::access::Method;
use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::grpc::json::descriptors;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::grpc::proto::response::Kind as Arm;
use legal_aid_gateway::setup::{self, codes, purposes};
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use sha2::{Digest as _, Sha256};

use super::{
    Scene, answer, basis, day_from_today, example, example_answer, relief, waiver, wire_date, wire_time,
};

/// An id of nothing.
pub(crate) const REQUEST_ID: &str = "0191d1a0-0000-7000-8000-000000000001";

/// A message of a method in which every field that can be wrong is filled in, rightly.
pub(crate) struct Sample {
    pub(crate) method: Method,
    pub(crate) message: DynamicMessage,
    pub(crate) by_court: bool,
}

impl Sample {
    fn of<M: Message>(method: Method, message: &M) -> Self {
        let message = DynamicMessage::decode(input_of(method), message.encode_to_vec().as_slice()).unwrap();
        Self { method, message, by_court: false }
    }

    fn by_court<M: Message>(method: Method, message: &M) -> Self {
        Self { by_court: true, ..Self::of(method, message) }
    }
}

/// Together they hold every message that the gateway takes.
pub(crate) fn samples(scene: &Scene) -> Vec<Sample> {
    let (centre, auditor) = (&scene.centre, &scene.auditor);
    let context = |client: &AgencyClient, purpose: &str| {
        let mut context = client.context(purpose);
        context.operator.as_mut().unwrap().name = "王经办".to_owned();
        Some(context)
    };
    let (own, inspecting) = (purposes::FEE_WAIVER, purposes::AUDIT_INSPECTION);
    let (operator, operating) = (scene.district.client("operator").unwrap(), purposes::GATEWAY_OPERATION);
    let exchange_id = || REQUEST_ID.to_owned();
    let mut samples = vec![
        Sample::of(Method::VerifyLowIncome, &full_question(scene)),
        Sample::of(Method::AssessEligibility, &full_case(scene)),
        Sample::of(Method::VerifyPovertyHousehold, &full_poverty_question(scene)),
        Sample::of(
            Method::BatchVerify,
            &proto::BatchVerifyRequest {
                context: context(centre, purposes::AID_ELIGIBILITY),
                question: None,
            },
        ),
        Sample::of(
            Method::GetVerification,
            &proto::GetVerificationRequest {
                context: context(centre, purposes::AID_ELIGIBILITY),
                verification_id: exchange_id(),
            },
        ),
        Sample::of(Method::SubmitExchange, &full_fee_waiver(scene)),
        Sample::of(Method::SubmitExchange, &fee_waiver_without_aid(scene)),
        Sample::of(Method::SubmitExchange, &example("judicial-relief", centre)),
        Sample::of(Method::SubmitExchange, &relief_on_petition(scene)),
        Sample::of(Method::SubmitExchange, &example("appeal-referral", centre)),
        Sample::by_court(Method::SubmitExchange, &example("counsel-notice", &scene.court)),
        Sample::by_court(Method::SubmitExchange, &example("direct-assignment-report", &scene.court)),
        Sample::of(Method::SubmitExchange, &example("cooperation-request", centre)),
        Sample::of(
            Method::GetExchange,
            &proto::GetExchangeRequest { context: context(centre, own), exchange_id: exchange_id() },
        ),
        Sample::of(
            Method::ListExchanges,
            &proto::ListExchangesRequest {
                context: context(centre, own),
                state: proto::ExchangeState::Decided.into(),
                ..Default::default()
            },
        ),
        Sample::of(
            Method::PullDeliveries,
            &proto::PullDeliveriesRequest { context: context(centre, own), max_deliveries: 1 },
        ),
        Sample::of(
            Method::AcknowledgeDelivery,
            &proto::AcknowledgeDeliveryRequest {
                context: context(centre, own),
                delivery_id: exchange_id(),
                message_sha256: vec![1; 32],
            },
        ),
        Sample::of(
            Method::WatchExchanges,
            &proto::WatchExchangesRequest { context: context(centre, own), cursor: String::new() },
        ),
        Sample::of(
            Method::UploadAttachment,
            &proto::UploadAttachmentRequest {
                context: context(centre, own),
                sha256: Sha256::digest(b"%PDF-1.7").to_vec(),
                size_bytes: 8,
                media_type: "application/pdf".to_owned(),
                name: "裁定书.pdf".to_owned(),
                offset: 0,
                data: b"%PDF-1.7".to_vec(),
            },
        ),
        Sample::of(
            Method::GetUpload,
            &proto::GetUploadRequest { context: context(centre, own), sha256: vec![1; 32] },
        ),
        Sample::of(
            Method::DownloadAttachment,
            &proto::DownloadAttachmentRequest {
                context: context(centre, own),
                sha256: vec![1; 32],
                offset: 0,
            },
        ),
        Sample::of(
            Method::ListEntries,
            &proto::ListEntriesRequest {
                context: context(auditor, inspecting),
                filter: Some(proto::EntryFilter {
                    person: Some(proto::PersonFilter {
                        id_kind: proto::IdKind::ResidentId.into(),
                        id_number: "11010519491231002X".to_owned(),
                    }),
                    ..Default::default()
                }),
                ..Default::default()
            },
        ),
        Sample::of(
            Method::OpenEntry,
            &proto::OpenEntryRequest {
                context: context(auditor, inspecting),
                index: u64::MAX,
                fields: vec![proto::CommittedField::Subject.into()],
            },
        ),
        Sample::of(
            Method::EraseRecords,
            &proto::EraseRecordsRequest {
                context: context(auditor, purposes::RECORDS_MANAGEMENT),
                target: Some(proto::erase_records_request::Target::Subject(proto::ErasedSubject {
                    id_kind: proto::IdKind::ResidentId.into(),
                    id_number: setup::NOT_ON_THE_REGISTER.1.to_owned(),
                })),
                legal_basis: vec![basis("个人信息保护法", "47")],
                ground: proto::ErasureGround::ConsentWithdrawn.into(),
                approval: String::new(),
                dry_run: true,
            },
        ),
        Sample::of(
            Method::PruneLog,
            &proto::PruneLogRequest {
                context: context(auditor, purposes::RECORDS_MANAGEMENT),
                dry_run: true,
            },
        ),
        Sample::of(
            Method::GetRemoval,
            &proto::GetRemovalRequest {
                context: context(auditor, purposes::RECORDS_MANAGEMENT),
                removal_id: uuid::Uuid::from_u128(7).to_string(),
            },
        ),
        Sample::of(
            Method::GetEntry,
            &proto::GetEntryRequest { context: context(auditor, inspecting), index: 0 },
        ),
        Sample::of(
            Method::GetCheckpoint,
            &proto::GetCheckpointRequest { context: context(auditor, inspecting) },
        ),
        Sample::of(
            Method::RedeliverExchange,
            &proto::RedeliverExchangeRequest {
                context: context(&operator, operating),
                exchange_id: exchange_id(),
                reason: proto::RedeliveryReason::RecipientBack.into(),
            },
        ),
        Sample::of(
            Method::ListDeliveries,
            &proto::ListDeliveriesRequest {
                context: context(&operator, operating),
                state: proto::DeliveryState::Dead.into(),
                recipient: codes::COURT.to_owned(),
                created_before: Some(wire_time(scene.clock.now().as_second())),
                ..Default::default()
            },
        ),
        Sample::of(
            Method::GetDelivery,
            &proto::GetDeliveryRequest { context: context(&operator, operating), delivery_id: exchange_id() },
        ),
        Sample::of(
            Method::RetryDelivery,
            &proto::RetryDeliveryRequest {
                context: context(&operator, operating),
                delivery_id: exchange_id(),
            },
        ),
        Sample::of(
            Method::PutAgreement,
            &proto::PutAgreementRequest {
                context: context(&operator, operating),
                agreement: Some(full_agreement(scene)),
            },
        ),
        Sample::of(
            Method::ApproveAgreement,
            &proto::ApproveAgreementRequest {
                context: context(&operator, operating),
                agreement_id: "NOWHERE".to_owned(),
                version: 1,
                sha256: vec![1; 32],
            },
        ),
        Sample::of(
            Method::EndAgreement,
            &proto::EndAgreementRequest {
                context: context(&operator, operating),
                agreement_id: "NOWHERE".to_owned(),
                version: 1,
            },
        ),
        Sample::of(
            Method::GetAgreement,
            &proto::GetAgreementRequest {
                context: context(&operator, operating),
                agreement_id: "NOWHERE".to_owned(),
            },
        ),
        Sample::of(
            Method::ListAgreements,
            &proto::ListAgreementsRequest {
                context: context(&operator, operating),
                state: proto::AgreementState::Ended.into(),
                ..Default::default()
            },
        ),
        Sample::of(
            Method::ExplainAgreement,
            &proto::ExplainAgreementRequest {
                context: context(&operator, operating),
                caller: codes::CENTRE.to_owned(),
                method: "VerifyLowIncome".to_owned(),
                operator: Some(operator.operator()),
                kind: proto::Kind::LowIncomeQuery.into(),
                counterpart: codes::REGISTRY.to_owned(),
                purpose: purposes::AID_ELIGIBILITY.to_owned(),
                legal_basis: vec![basis("法律援助法", "41")],
                programmes: vec![proto::Programme::MinimumAllowance.into()],
                as_of: None,
            },
        ),
        Sample::of(
            Method::GetInclusionProof,
            &proto::GetInclusionProofRequest {
                context: context(auditor, inspecting),
                index: 0,
                tree_size: 0,
            },
        ),
        Sample::of(
            Method::ExportEvidence,
            &proto::ExportEvidenceRequest {
                context: context(auditor, inspecting),
                exchange_id: exchange_id(),
            },
        ),
        Sample::of(
            Method::GetConsistencyProof,
            &proto::GetConsistencyProofRequest {
                context: context(auditor, inspecting),
                old_size: 0,
                new_size: 0,
            },
        ),
        Sample::of(
            Method::GetEntries,
            &proto::GetEntriesRequest { context: context(auditor, inspecting), first: 0, count: 1 },
        ),
        Sample::of(
            Method::GetTile,
            &proto::GetTileRequest { context: context(auditor, inspecting), level: 0, index: 0, width: 1 },
        ),
        Sample::of(
            Method::GetReceipt,
            &proto::GetReceiptRequest { context: context(auditor, inspecting), index: 0 },
        ),
        Sample::of(
            Method::ListFindings,
            &proto::ListFindingsRequest { context: context(auditor, inspecting), ..Default::default() },
        ),
        Sample::of(
            Method::MarkFinding,
            &proto::MarkFindingRequest {
                context: context(auditor, inspecting),
                finding_id: "00000000-0000-8000-8000-000000000000".to_owned(),
                mark: proto::FindingMarkKind::Normal.into(),
                comment: "一次批量复核".to_owned(),
            },
        ),
    ];
    for arm in arms(scene) {
        let exchange = proto::Exchange {
            exchange_id: exchange_id(),
            kind: proto::Kind::FeeWaiver.into(),
            sender: codes::CENTRE.to_owned(),
            recipient: codes::COURT.to_owned(),
            matter_id: "LQ-2026-0001".to_owned(),
            ..Default::default()
        };
        samples.push(Sample::of(Method::RespondToExchange, &answer(centre, &exchange, arm)));
    }
    samples
}

fn full_question(scene: &Scene) -> proto::VerifyLowIncomeRequest {
    let mut request = scene.question();
    let envelope = request.envelope.as_mut().unwrap();
    envelope.operator.as_mut().unwrap().name = "王经办".to_owned();
    request.query.as_mut().unwrap().authority = Some(mandate(scene));
    request
}

fn full_poverty_question(scene: &Scene) -> proto::VerifyPovertyHouseholdRequest {
    let mut request = scene.poverty_question();
    let envelope = request.envelope.as_mut().unwrap();
    envelope.operator.as_mut().unwrap().name = "王经办".to_owned();
    request.query.as_mut().unwrap().authority = Some(mandate(scene));
    request
}

fn mandate(scene: &Scene) -> proto::Authority {
    proto::Authority {
        kind: proto::AuthorityKind::WrittenMandate.into(),
        document_sha256: vec![3; 32],
        signed_at: Some(wire_time(scene.clock.now().as_second() - 60)),
        signer_relation: proto::Relation::Self_.into(),
    }
}

fn full_case(scene: &Scene) -> proto::AssessEligibilityRequest {
    let question = full_question(scene);
    let applicant = waiver(&mut full_fee_waiver(scene)).applicant.clone();
    let today = wire_date(day_from_today(&scene.clock, 0));
    let eligibility_case = proto::EligibilityCase {
        applicant,
        applied_on: Some(today),
        matter: proto::AidMatter::LabourPay.into(),
        review: proto::JudgmentReview::Protested.into(),
        urgency: Some(proto::Urgency {
            ground: proto::UrgentGround::Deadline.into(),
            ends_on: Some(wire_date(day_from_today(&scene.clock, 3))),
        }),
        group_claims: vec![proto::GroupClaim {
            group: proto::Group::MigrantWorker.into(),
            proof_sha256: vec![8; 32],
            no_fixed_livelihood: true,
        }],
        programmes: vec![proto::Programme::MinimumAllowance.into()],
        income: Some(proto::DeclaredIncome {
            household_monthly_income_fen: Some(300_000),
            household_members: 2,
        }),
        authority: question.query.unwrap().authority,
        claims_poverty_household: true,
    };
    proto::AssessEligibilityRequest { envelope: question.envelope, eligibility_case: Some(eligibility_case) }
}

fn full_fee_waiver(scene: &Scene) -> proto::SubmitExchangeRequest {
    let mut request = scene.fee_waiver();
    let envelope = request.envelope.as_mut().unwrap();
    envelope.operator.as_mut().unwrap().name = "王经办".to_owned();
    envelope.attachments = vec![proto::Attachment {
        sha256: vec![4; 32],
        name: "委托书.pdf".to_owned(),
        media_type: "application/pdf".to_owned(),
        size_bytes: 1000,
        form_number: "7".to_owned(),
    }];
    waiver(&mut request).fee_halved = proto::FeeHalving::SummaryProcedure.into();
    let applicant = waiver(&mut request).applicant.as_mut().unwrap();
    applicant.sex = proto::Sex::Male.into();
    applicant.birth_date = Some(wire_date(jiff::civil::date(1980, 1, 1)));
    applicant.representative = Some(proto::Representative {
        name: "测试丙".to_owned(),
        id_kind: proto::IdKind::ResidentId.into(),
        id_number: "11010519491231002X".to_owned(),
        relation: proto::Relation::NearRelative.into(),
        basis: proto::RepresentationBasis::Entrusted.into(),
    });
    request
}

fn fee_waiver_without_aid(scene: &Scene) -> proto::SubmitExchangeRequest {
    let mut request = scene.fee_waiver();
    let asked = waiver(&mut request);
    asked.aid_decision = None;
    asked.ground = proto::ReliefGround::ReliefGround471.into();
    asked.hardship_proof = Some(proto::HardshipProof {
        issuer: "某某街道办事处".to_owned(),
        issued_on: Some(wire_date(jiff::civil::date(2026, 1, 5))),
        document_sha256: vec![7; 32],
    });
    request
}

fn relief_on_petition(scene: &Scene) -> proto::SubmitExchangeRequest {
    let mut request = example("judicial-relief", &scene.centre);
    let asked = relief(&mut request);
    asked.stage = proto::ReliefStage::Petition.into();
    asked.enforcement_termination = None;
    asked.undertaking = Some(proto::ReliefUndertaking {
        signed_on: Some(wire_date(jiff::civil::date(2026, 1, 5))),
        document_sha256: vec![7; 32],
    });
    request
}

fn arms(scene: &Scene) -> Vec<Arm> {
    let today = wire_date(day_from_today(&scene.clock, 0));
    vec![
        Arm::Receipt(proto::Receipt {
            message_sha256: vec![5; 32],
            received_at: Some(wire_time(scene.clock.now().as_second() - 60)),
            receipt_number: "R-1".to_owned(),
        }),
        Arm::SupplementRequest(proto::SupplementRequest {
            missing: vec![proto::MissingPaper {
                description: "委托代理手续".to_owned(),
                form_number: "7".to_owned(),
                required_by: Some(basis("诉讼费用交纳办法", "48")),
            }],
            due_on: Some(wire_date(day_from_today(&scene.clock, 7))),
        }),
        Arm::Supplement(proto::Supplement { note: "补交".to_owned() }),
        Arm::Withdrawal(proto::Withdrawal { reason: "和解".to_owned() }),
        Arm::Closure(proto::Closure { closed_on: Some(today), final_allocation: String::new() }),
        Arm::FeeWaiverDecision(proto::FeeWaiverDecision {
            outcome: proto::FeeWaiverOutcome::Exempted.into(),
            notice_number: "N-1".to_owned(),
            hardship_rereviewed: Some(false),
            decided_on: Some(today),
            ..Default::default()
        }),
        Arm::JudicialReliefDecision(proto::JudicialReliefDecision {
            outcome: proto::JudicialReliefOutcome::Withdrawn.into(),
            document_number: "J-1".to_owned(),
            decided_on: Some(today),
            ..Default::default()
        }),
        Arm::AppealOutcome(proto::AppealOutcome {
            result: proto::AppealResult::Accepted.into(),
            document_number: "S-1".to_owned(),
            decided_on: Some(today),
            ..Default::default()
        }),
        example_answer("counsel-notice"),
        example_answer("direct-assignment-report"),
        example_answer("cooperation-request"),
    ]
}

/// An agreement whose version is a new one each time: what is put in once is not put in again.
fn full_agreement(scene: &Scene) -> proto::Agreement {
    let party =
        |agency: &str| proto::AgreementParty { agency: agency.to_owned(), kind: 0, region: String::new() };
    let courts = proto::AgreementParty {
        agency: String::new(),
        kind: proto::AgencyKind::Court.into(),
        region: "331000".to_owned(),
    };
    proto::Agreement {
        agreement_id: "SAMPLE".to_owned(),
        version: 1,
        caller: Some(party(codes::CENTRE)),
        unit: "main".to_owned(),
        methods: vec!["SubmitExchange".to_owned()],
        kinds: vec![proto::Kind::FeeWaiver.into()],
        counterparts: vec![courts],
        purposes: vec![purposes::FEE_WAIVER.to_owned()],
        legal_basis: vec![basis("法律援助法", "53")],
        programmes: Some(proto::AgreedProgrammes {
            programmes: vec![proto::Programme::Destitute.into()],
            poverty_household: true,
        }),
        fields: Some(proto::AgreedFields { paths: vec!["income_band".to_owned()] }),
        listed_operators_only: true,
        quota: Some(proto::AgreementQuota { per_day: 10, ..Default::default() }),
        in_force_from: Some(wire_date(day_from_today(&scene.clock, 0))),
        in_force_until: Some(wire_date(day_from_today(&scene.clock, 30))),
        batch: Some(proto::AgreementBatch { at_once: 1, per_second: 1 }),
        rate: Some(proto::AgreementRate { per_second: 1, burst: 1 }),
    }
}

pub(crate) fn input_of(method: Method) -> MessageDescriptor {
    let service = descriptors().unwrap().get_service_by_name(method.service()).unwrap();
    let found = service.methods().find(|found| found.name() == method.name());
    found.unwrap().input()
}
