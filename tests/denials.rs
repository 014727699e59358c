//! Every method, for every kind of agency, under every condition that denies: refused, logged, and the refusal is the same
//! whether the thing asked for exists or not. The methods come from the contract's descriptors, so that none is forgotten.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod district;

use std::collections::BTreeMap;

use district::samples::{REQUEST_ID, Sample, samples};
use district::{Raw, Scene, day_from_today, path_of, purpose};
use legal_aid_gateway::access::{
    Agency, AgencyEndpoint, AgencyStatus, Agreement, DirectoryFile, Method, PACKAGE, Party, QuotaTerms,
};
use legal_aid_gateway::audit::entry::{Decision, Entry, Phase};
use legal_aid_gateway::domain::agency::{AgencyKind, CreditCode};
use legal_aid_gateway::domain::region::RegionCode;
use legal_aid_gateway::grpc::json::descriptors;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::setup::{codes, purposes};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage as _, Value};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// What the calls are for.
const PURPOSE: &str = "TRYING_EVERYTHING";

/// Services that agencies implement and the gateway calls.
const SERVICES_OF_AGENCIES: [&str; 2] = ["RegistryService", "InboxService"];

/// What a call concerns on the other side is said in its envelope, or found by its id.
const WITH_COUNTERPART: [Method; 7] = [
    Method::VerifyLowIncome,
    Method::VerifyPovertyHousehold,
    Method::SubmitExchange,
    Method::RespondToExchange,
    Method::GetExchange,
    Method::GetVerification,
    Method::ExportEvidence,
];

/// By these, whoever is no party of a thing finds nothing.
const OF_PARTIES: [Method; 8] = [
    Method::RespondToExchange,
    Method::GetExchange,
    Method::GetVerification,
    Method::AcknowledgeDelivery,
    Method::DownloadAttachment,
    Method::ExportEvidence,
    Method::GetReceipt,
    Method::OpenEntry,
];

/// These name a thing, but never another agency's: an upload is the caller's own, and the whole log is open to who has an
/// agreement for it.
const OF_NOBODY_ELSE: [Method; 5] = [
    Method::UploadAttachment,
    Method::GetUpload,
    Method::GetEntry,
    Method::GetInclusionProof,
    Method::GetTile,
];

/// Fields that name a thing that exists or does not.
const THINGS: [&str; 6] =
    ["exchange_id", "delivery_id", "verification_id", "sha256", "index", "agreement_id"];

/// Why a call is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    NoAgreement,
    Ended,
    NotYet,
    WrongPurpose,
    WrongRegion,
    WrongRegionOfCounterpart,
    QuotaSpent,
    Suspended,
    Foreign,
}

impl Condition {
    const ALL: [Self; 9] = [
        Self::NoAgreement,
        Self::Ended,
        Self::NotYet,
        Self::WrongPurpose,
        Self::WrongRegion,
        Self::WrongRegionOfCounterpart,
        Self::QuotaSpent,
        Self::Suspended,
        Self::Foreign,
    ];

    /// Who calls: a party of all that exists, but for what is foreign.
    fn caller(self) -> (&'static str, &'static str) {
        match self {
            Self::Foreign => ("stranger", codes::STRANGER),
            _ => ("centre", codes::CENTRE),
        }
    }

    /// Whether it denies a method at all.
    fn concerns(self, method: Method, kind: AgencyKind) -> bool {
        match self {
            // An auditor opens what any entry commits to.
            Self::Foreign if kind == AgencyKind::Auditor && method == Method::OpenEntry => false,
            Self::WrongRegionOfCounterpart => WITH_COUNTERPART.contains(&method),
            Self::Foreign => OF_PARTIES.contains(&method),
            _ => true,
        }
    }

    /// What the caller is told, and what the log says of what exists.
    fn expected(self, method: Method, kind: AgencyKind) -> (Code, &'static str, &'static str) {
        let denied = |reason| (Code::PermissionDenied, reason, reason);
        if self == Self::Suspended {
            return denied("AGENCY_NOT_ACTIVE");
        }
        if method.is_the_operators() && kind != AgencyKind::Operator {
            return denied("NO_AGREEMENT");
        }
        let is_found = matches!(
            method,
            Method::RespondToExchange
                | Method::GetExchange
                | Method::GetVerification
                | Method::ExportEvidence
        );
        match self {
            Self::NoAgreement | Self::WrongRegion => denied("NO_AGREEMENT"),
            Self::Ended | Self::NotYet => denied("AGREEMENT_NOT_IN_FORCE"),
            Self::WrongPurpose => denied("PURPOSE_NOT_AGREED"),
            Self::WrongRegionOfCounterpart if is_found => {
                (Code::NotFound, "NOT_FOUND", "COUNTERPART_NOT_AGREED")
            }
            Self::WrongRegionOfCounterpart => denied("COUNTERPART_NOT_AGREED"),
            Self::QuotaSpent => (Code::ResourceExhausted, "QUOTA_SPENT", "QUOTA_SPENT"),
            Self::Foreign => (Code::NotFound, "NOT_FOUND", "NOT_FOUND"),
            Self::Suspended => unreachable!(),
        }
    }

    /// Makes it so for an agency of a kind: what it had of agreements, it has no more.
    fn arrange(self, file: &mut DirectoryFile, kind: AgencyKind, scene: &Scene) {
        let code: CreditCode = self.caller().1.parse().unwrap();
        for agreement in file.agreements.iter_mut().filter(|agreement| agreement.id != "MATRIX") {
            if agreement.caller.is(&code) {
                agreement.methods.clear();
            }
        }
        file.agencies.retain(|agency| agency.code != code);
        file.agencies.push(Agency {
            code,
            name: "被测机构".to_owned(),
            kind,
            region: RegionCode::parse("331004").unwrap(),
            status: if self == Self::Suspended { AgencyStatus::Suspended } else { AgencyStatus::Active },
            endpoint: Some(AgencyEndpoint {
                address: "127.0.0.1:1".to_owned(),
                server_name: "localhost".to_owned(),
            }),
            certificates: Vec::new(),
        });
        let version = match file.agreements.iter().position(|agreement| agreement.id == "MATRIX") {
            Some(place) => file.agreements.remove(place).version + 1,
            None => 1,
        };
        file.agreements.push(self.agreement(version, code, kind, scene));
    }

    /// The one agreement that may allow something.
    fn agreement(self, version: u32, code: CreditCode, kind: AgencyKind, scene: &Scene) -> Agreement {
        let day = |days| day_from_today(&scene.clock, days);
        let days = match self {
            Self::Ended => (day(-30), day(-1)),
            Self::NotYet => (day(1), day(30)),
            _ => (day(0), day(0)),
        };
        let elsewhere = RegionCode::parse("440000").unwrap();
        let caller = match self {
            Self::WrongRegion => Party::of_kind(kind, elsewhere),
            _ => code.into(),
        };
        let others =
            [codes::COURT, codes::REGISTRY, codes::POVERTY_REGISTRY].map(|code| code.parse().unwrap());
        // Whoever may read any entry is a party of everything.
        let is_allowed = |method: &Method| {
            let is_the_callers = !method.is_the_operators() || kind == AgencyKind::Operator;
            is_the_callers
                && !(self == Self::Foreign && *method == Method::GetEntry)
                && !(self == Self::WrongRegionOfCounterpart && *method == Method::GetEntry)
        };
        Agreement {
            methods: match self {
                Self::NoAgreement => Vec::new(),
                _ => Method::ALL.iter().copied().filter(is_allowed).collect(),
            },
            counterparts: match self {
                Self::WrongRegionOfCounterpart => {
                    AgencyKind::ALL.iter().map(|kind| Party::of_kind(*kind, elsewhere)).collect()
                }
                _ => others.map(|code: CreditCode| Party::Agency(code)).to_vec(),
            },
            purposes: vec![match self {
                Self::WrongPurpose => purpose("ANOTHER_PURPOSE"),
                _ => purpose(PURPOSE),
            }],
            quota: (self == Self::QuotaSpent)
                .then_some(QuotaTerms { per_day: Some(1), ..Default::default() }),
            ..Agreement::new("MATRIX", version, caller, days)
        }
    }
}

/// What there is.
struct Existing {
    exchange_id: String,
    delivery_id: String,
    verification_id: String,
    sha256: Vec<u8>,
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_denied_is_logged_and_looks_the_same_whether_it_exists_or_not() {
    let mut scene = Scene::start().await;
    let existing = exist(&mut scene).await;
    let samples = samples_of_the_contract(&scene);
    // Reason and method of each refusal, by the index that it named.
    let mut refusals: BTreeMap<u64, (Method, &str, bool)> = BTreeMap::new();
    for kind in AgencyKind::ALL {
        for condition in Condition::ALL {
            let (name, code) = condition.caller();
            let caller = connect(&scene, condition, *kind, name).await;
            for sample in samples.iter().filter(|sample| condition.concerns(sample.method, *kind)) {
                let method = sample.method;
                let (status, reason, logged) = condition.expected(method, *kind);
                let of_what = format!("{method:?} by {} under {condition:?}", kind.as_str());
                let mut answers = Vec::new();
                for thing in [Some(&existing), None] {
                    let message = message(sample, code, thing);
                    let Some(answered) = caller.try_call(&path_of(method), &message.encode_to_vec()).await
                    else {
                        // Its connection may be closed as well; then nothing is told at all.
                        assert_eq!(condition, Condition::Suspended, "{of_what}: the connection broke");
                        continue;
                    };
                    assert_eq!(answered.status.code(), status, "{of_what}: {}", answered.status.message());
                    let told = told(&answered.status);
                    assert_eq!(told.reason, reason, "{of_what}");
                    let logged = if thing.is_some() { logged } else { reason };
                    let is_denial = status != Code::NotFound || logged != reason;
                    refusals.insert(told.log_index, (method, logged, is_denial));
                    answers.push(told.words);
                }
                answers.dedup();
                assert!(answers.len() <= 1, "{of_what} tells what exists: {answers:#?}");
            }
        }
    }
    assert!(refusals.len() > 5_000, "{} calls were refused", refusals.len());
    let entries: BTreeMap<u64, Entry> =
        scene.entries(proto::EntryFilter::default()).await.into_iter().collect();
    for (index, (method, reason, is_denial)) in refusals {
        let entry = entries.get(&index).unwrap_or_else(|| panic!("{method:?}: no entry {index}"));
        assert_eq!((entry.phase, entry.method.as_ref()), (Phase::Refused, method.name()));
        assert_eq!(entry.reason.as_deref(), Some(reason), "{method:?}, entry {index}");
        assert_eq!(entry.decision, is_denial.then_some(Decision::Deny), "{method:?}, entry {index}");
        assert!([Some(codes::CENTRE), Some(codes::STRANGER)].contains(&entry.caller.as_deref()));
    }
    scene.stop().await;
}

/// A connection of the caller, under the condition.
async fn connect(scene: &Scene, condition: Condition, kind: AgencyKind, name: &str) -> Raw {
    // Who is suspended had a connection before.
    let before = match condition {
        Condition::Suspended => {
            scene.edit_directory(|file| Condition::NoAgreement.arrange(file, kind, scene)).await;
            let connected = Raw::connect(&scene.profile(name)).await;
            connected.call(&path_of(Method::GetCheckpoint), &[], &[]).await;
            Some(connected)
        }
        _ => None,
    };
    scene.edit_directory(|file| condition.arrange(file, kind, scene)).await;
    let caller = match before {
        Some(before) => before,
        None => Raw::connect(&scene.profile(name)).await,
    };
    if condition == Condition::QuotaSpent {
        let context = scene.centre.context(PURPOSE);
        let list = proto::ListExchangesRequest { context: Some(context), ..Default::default() };
        // The first takes what there is; in the rounds of the other kinds it is gone already.
        caller.call(&path_of(Method::ListExchanges), &list.encode_to_vec(), &[]).await;
    }
    caller
}

/// A sample of every method that the contract has.
fn samples_of_the_contract(scene: &Scene) -> Vec<Sample> {
    let mut samples: Vec<_> = samples(scene).into_iter().filter(|sample| !sample.by_court).collect();
    let mut found = Vec::new();
    for service in descriptors().unwrap().services() {
        if service.package_name() != PACKAGE || SERVICES_OF_AGENCIES.contains(&service.name()) {
            continue;
        }
        for method in service.methods() {
            let name = method.full_name().to_owned();
            let known = Method::at_path(&format!("/{}/{}", service.full_name(), method.name()));
            let known =
                known.unwrap_or_else(|| panic!("{name} needs no agreement; add it to access/method.rs"));
            let place = samples.iter().position(|sample| sample.method == known);
            let place = place.unwrap_or_else(|| panic!("no sample of {name}; add it to district/samples.rs"));
            found.push(samples.swap_remove(place));
            assert_placed(known, &method.input());
        }
    }
    assert_eq!(found.len(), Method::ALL.len());
    found
}

/// A method that names a thing, or somebody on the other side, is tried for it.
fn assert_placed(method: Method, input: &MessageDescriptor) {
    let has = |name: &str| input.get_field_by_name(name).is_some();
    if method.is_the_operators() {
        return;
    }
    let names_a_thing = THINGS.iter().any(|name| has(name)) || method == Method::RespondToExchange;
    let is_placed = OF_PARTIES.contains(&method) || OF_NOBODY_ELSE.contains(&method);
    assert!(!names_a_thing || is_placed, "{method:?} names a thing: whose may it be?");
    // An assessment finds its registers by itself.
    let names_another = (has("envelope") && method != Method::AssessEligibility) || has("verification_id");
    assert!(!names_another || WITH_COUNTERPART.contains(&method), "{method:?} has a counterpart");
}

/// The message of a call of this agency about a thing, or about nothing.
fn message(sample: &Sample, caller: &str, existing: Option<&Existing>) -> DynamicMessage {
    let mut message = sample.message.clone();
    let request_id = uuid::Uuid::new_v4().to_string();
    for part in ["context", "envelope"] {
        if message.descriptor().get_field_by_name(part).is_none() || !message.has_field_by_name(part) {
            continue;
        }
        let part = message.get_field_by_name_mut(part).unwrap().as_message_mut().unwrap();
        part.set_field_by_name("request_id", Value::String(request_id.clone()));
        part.set_field_by_name("purpose", Value::String(PURPOSE.to_owned()));
        if part.descriptor().name() == "Envelope" {
            part.set_field_by_name("sender", Value::String(caller.to_owned()));
            if sample.method == Method::RespondToExchange {
                let answered = existing.map_or(REQUEST_ID, |existing| &existing.exchange_id);
                part.set_field_by_name("in_reply_to", Value::String(answered.to_owned()));
            }
        }
    }
    for name in THINGS {
        if message.descriptor().get_field_by_name(name).is_none() {
            continue;
        }
        let id = |id: fn(&Existing) -> &String| {
            Value::String(existing.map_or_else(|| REQUEST_ID.to_owned(), |existing| id(existing).clone()))
        };
        let value = match name {
            "exchange_id" => id(|existing| &existing.exchange_id),
            "delivery_id" => id(|existing| &existing.delivery_id),
            "verification_id" => id(|existing| &existing.verification_id),
            "agreement_id" => {
                Value::String(if existing.is_some() { "DEV-AUDIT" } else { "NOWHERE" }.to_owned())
            }
            "index" => Value::U64(if existing.is_some() { 0 } else { 1_000_000 }),
            _ if sample.method.service().ends_with("AttachmentService") => {
                let nothing = || Sha256::digest(b"of nobody").to_vec();
                Value::Bytes(existing.map_or_else(nothing, |existing| existing.sha256.clone()).into())
            }
            _ => continue,
        };
        message.set_field_by_name(name, value);
    }
    message
}

/// Makes one of each thing, of the centre and the court.
async fn exist(scene: &mut Scene) -> Existing {
    scene.district.stop_court().await;
    scene.district.stop_registry().await;
    scene
        .edit_directory(|file| {
            let court = file.agencies.iter_mut().find(|agency| agency.code.as_str() == codes::COURT);
            court.unwrap().endpoint = None;
        })
        .await;
    let paper = b"%PDF-1.7 of the centre".as_slice();
    let sha256 = Sha256::digest(paper).to_vec();
    let upload = proto::UploadAttachmentRequest {
        context: Some(scene.centre.context(purposes::FEE_WAIVER)),
        sha256: sha256.clone(),
        size_bytes: i64::try_from(paper.len()).unwrap(),
        media_type: "application/pdf".to_owned(),
        name: "a.pdf".to_owned(),
        offset: 0,
        data: paper.to_vec(),
    };
    let raw = Raw::connect(&scene.profile("centre")).await;
    let uploaded = raw.call(&path_of(Method::UploadAttachment), &upload.encode_to_vec(), &[]).await;
    assert_eq!(uploaded.status.code(), Code::Ok, "{}", uploaded.status.message());
    let exchange = scene.submit(&scene.fee_waiver()).await.unwrap().exchange.unwrap();
    let pull = proto::PullDeliveriesRequest {
        context: Some(scene.court.context(purposes::FEE_WAIVER)),
        max_deliveries: 1,
    };
    let pulled = scene.court.exchanges().pull_deliveries(pull).await.unwrap().into_inner();
    let mut question = scene.question();
    question.complete_later = true;
    let verification_id = scene.verify(&question).await.unwrap().verification_id;
    assert!(!verification_id.is_empty());
    let delivery_id = pulled.deliveries[0].delivery_id.clone();
    Existing { exchange_id: exchange.exchange_id, delivery_id, verification_id, sha256 }
}

/// What a refusal says.
struct Told {
    reason: String,
    log_index: u64,
    /// All of it, but for the index of its entry and the time that is left of an hour or a day.
    words: String,
}

fn told(status: &Status) -> Told {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no reason in {status:?}"));
    let mut metadata: BTreeMap<_, _> = info.metadata.clone().into_iter().collect();
    let log_index = metadata.remove("log_index").expect("it names its entry").parse().unwrap();
    let words = format!(
        "{:?} {} {} {metadata:?} {:?} {:?}",
        status.code(),
        status.message(),
        info.reason,
        details.localized_message(),
        details.bad_request(),
    );
    Told { reason: info.reason.clone(), log_index, words }
}
