//! Erasure and retention: what is asked for becomes a removal, which the gateway carries out step by step.

use uuid::Uuid;

use super::context;
use crate::access::Method;
use crate::audit::entry::{Entry, Phase};
use crate::audit::removal::{ErasureGround, Removal, RemovalKind};
use crate::domain::agency::MatterId;
use crate::domain::envelope::auditable;
use crate::domain::person::IdDocument;
use crate::domain::violation::Violations;
use crate::entropy;
use crate::grpc::call::Call;
use crate::grpc::intake::{Intake, store_refusal};
use crate::grpc::operation::{Done, Effectful, Facts, Lookup, Operation, Reading};
use crate::grpc::proto;
use crate::grpc::proto::erase_records_request::Target;
use crate::grpc::status::Refusal;
use crate::grpc::wire::{document, legal_basis, shanghai_day, uuid, word};
use crate::store::{Effect, NewRemoval, RemovalState};

pub(super) struct EraseRecords;

/// A removal as asked for.
pub(super) struct Wanted {
    what: Removal,
    /// The person, by document.
    subject: Option<IdDocument>,
    /// The person, by pseudonym.
    pseudonym: Option<String>,
    dry_run: bool,
    /// What the entries of its steps say of who asked for it.
    said: Facts,
}

impl Operation for EraseRecords {
    const METHOD: Method = Method::EraseRecords;
    type Request = proto::EraseRecordsRequest;
    type Response = proto::EraseRecordsResponse;
    type Task = Wanted;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<Wanted> {
        context(reading, request.context.as_ref());
        let (now, v) = (reading.now, &mut reading.violations);
        let bases = legal_basis(v, &request.legal_basis);
        let ground = word(v, "ground", request.ground, ground);
        let approval = match request.approval.as_str() {
            "" => Some(None),
            stated => v.check("approval", MatterId::parse(stated)).map(Some),
        };
        let (mut subject, mut pseudonym, mut before) = (None, None, None);
        let kind = match request.target {
            None => v.require("target", None),
            Some(Target::Subject(stated)) => {
                subject = v
                    .within("subject", |v| document(v, stated.id_kind, &stated.id_number, shanghai_day(now)));
                subject.is_some().then_some(RemovalKind::Subject)
            }
            Some(Target::Pseudonym(stated)) => {
                pseudonym = read_pseudonym(v, stated);
                pseudonym.is_some().then_some(RemovalKind::Subject)
            }
            Some(Target::RecordedBefore(stated)) => {
                before = read_before(v, &stated, now);
                before.is_some().then_some(RemovalKind::Period)
            }
        };
        reading.facts.legal_basis = bases.iter().map(auditable).collect();
        reading.facts.subject.clone_from(&subject);
        reading.facts.pseudonym.clone_from(&pseudonym);
        let approval = approval?.map(|reference| reference.as_str().to_owned());
        let what = Removal { approval, before, ground: Some(ground?), ..Removal::new(kind?) };
        reading.facts.removal = Some(what.clone());
        Some(Wanted { what, subject, pseudonym, dry_run: request.dry_run, said: reading.facts.clone() })
    }
}

impl Effectful for EraseRecords {
    async fn prepare(_: &Intake, _: &Call, _: &mut Wanted, _: &mut Facts) -> Result<(), Refusal> {
        Ok(())
    }

    async fn act(intake: &Intake, call: &Call, wanted: &mut Wanted) -> Result<Done<Self::Response>, Refusal> {
        let (removal_id, effect) = begin(intake, call, Self::METHOD, wanted).await?;
        Ok(done(proto::EraseRecordsResponse { removal_id, audit: None }, effect))
    }
}

pub(super) struct PruneLog;

impl Operation for PruneLog {
    const METHOD: Method = Method::PruneLog;
    type Request = proto::PruneLogRequest;
    type Response = proto::PruneLogResponse;
    type Task = Wanted;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<Wanted> {
        context(reading, request.context.as_ref());
        let what = Removal::new(RemovalKind::Retention);
        reading.facts.removal = Some(what.clone());
        let said = reading.facts.clone();
        Some(Wanted { what, subject: None, pseudonym: None, dry_run: request.dry_run, said })
    }
}

impl Effectful for PruneLog {
    async fn prepare(_: &Intake, _: &Call, _: &mut Wanted, _: &mut Facts) -> Result<(), Refusal> {
        Ok(())
    }

    async fn act(intake: &Intake, call: &Call, wanted: &mut Wanted) -> Result<Done<Self::Response>, Refusal> {
        let (removal_id, effect) = begin(intake, call, Self::METHOD, wanted).await?;
        Ok(done(proto::PruneLogResponse { removal_id, audit: None }, effect))
    }
}

/// A new removal; the remover finds it once it is durable.
async fn begin(
    intake: &Intake,
    call: &Call,
    method: Method,
    wanted: &Wanted,
) -> Result<(String, Effect), Refusal> {
    let now = intake.clock.now();
    let removal_id = entropy::uuid_v7(now);
    let Wanted { what, subject, pseudonym, dry_run, said } = wanted;
    let pseudonyms = match (subject, pseudonym) {
        (Some(id), _) => intake.every_pseudonym(id).await?,
        (None, pseudonym) => pseudonym.iter().cloned().collect(),
    };
    let mut event = Entry::new(removal_id, Phase::Event, now, method.service(), method.name(), &intake.node);
    event.caller = Some(call.caller().to_string());
    event.operator = said.operator.as_ref().map(|operator| operator.staff_number.as_str().to_owned());
    event.unit = said.operator.as_ref().map(|operator| operator.unit.as_str().to_owned());
    event.purpose = said.purpose.as_ref().map(|purpose| purpose.as_str().to_owned());
    event.legal_basis.clone_from(&said.legal_basis);
    event.request = said.request_id.map(|id| id.uuid());
    event.subject = pseudonyms.first().cloned();
    event.removal = Some(Box::new(what.clone()));
    let new = NewRemoval {
        removal_id,
        caller: call.caller(),
        kind: what.kind,
        dry_run: *dry_run,
        before: what.before,
        pseudonyms,
        event: event.to_canonical_json().map_err(|_| Refusal::Internal)?,
        at: now,
    };
    Ok((removal_id.to_string(), Effect::BeginRemoval(Box::new(new))))
}

fn done<R>(response: R, effect: Effect) -> Done<R> {
    Done { response, effects: vec![effect], reason: None, exchange: None }
}

fn ground(value: proto::ErasureGround) -> Option<ErasureGround> {
    match value {
        proto::ErasureGround::Unspecified => None,
        proto::ErasureGround::PurposeAchieved => Some(ErasureGround::PurposeAchieved),
        proto::ErasureGround::RetentionEnded => Some(ErasureGround::RetentionEnded),
        proto::ErasureGround::ConsentWithdrawn => Some(ErasureGround::ConsentWithdrawn),
        proto::ErasureGround::UnlawfulProcessing => Some(ErasureGround::UnlawfulProcessing),
        proto::ErasureGround::OtherLaw => Some(ErasureGround::OtherLaw),
    }
}

fn read_pseudonym(violations: &mut Violations, stated: String) -> Option<String> {
    let is_one = stated.len() == 32 && stated.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_one {
        violations.add("pseudonym", "PSEUDONYM", "a pseudonym has 32 hex digits", "假名须为32位十六进制数字");
    }
    is_one.then_some(stated)
}

fn read_before(
    violations: &mut Violations,
    stated: &prost_types::Timestamp,
    now: jiff::Timestamp,
) -> Option<jiff::Timestamp> {
    let before = jiff::Timestamp::new(stated.seconds, stated.nanos).ok().filter(|before| *before <= now);
    if before.is_none() {
        violations.add(
            "recorded_before",
            "NOT_IN_THE_FUTURE",
            "must not be in the future",
            "时间不得晚于当前时间",
        );
    }
    before
}

pub(super) struct GetRemoval;

impl Operation for GetRemoval {
    const METHOD: Method = Method::GetRemoval;
    type Request = proto::GetRemovalRequest;
    type Response = proto::GetRemovalResponse;
    type Task = Uuid;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<Uuid> {
        context(reading, request.context.as_ref());
        uuid(&mut reading.violations, "removal_id", &request.removal_id, |text| Uuid::try_parse(text).ok())
    }
}

impl Lookup for GetRemoval {
    async fn look_up(
        intake: &Intake,
        call: &Call,
        removal_id: Uuid,
        _: &mut Facts,
    ) -> Result<Self::Response, Refusal> {
        let found = intake.store.removal(&removal_id, &call.caller()).await;
        let record = found.map_err(|error| store_refusal(&error))?.ok_or(Refusal::NotFound)?;
        let state = match record.state {
            RemovalState::Counting => proto::RemovalState::Counting,
            RemovalState::Removing => proto::RemovalState::Removing,
            RemovalState::Counted => proto::RemovalState::Counted,
            RemovalState::Done => proto::RemovalState::Done,
            RemovalState::Refused => proto::RemovalState::Refused,
        };
        Ok(proto::GetRemovalResponse {
            kind: kind_on_wire(record.kind).into(),
            state: state.into(),
            dry_run: record.dry_run,
            looked_through: record.looked_through,
            log_size: intake.log.head().size,
            entries: record.entries,
            exchanges: record.exchanges,
            running: record.obstacles,
            audit: None,
        })
    }
}

pub(super) fn kind_on_wire(kind: RemovalKind) -> proto::RemovalKind {
    match kind {
        RemovalKind::Subject => proto::RemovalKind::Subject,
        RemovalKind::Period => proto::RemovalKind::Period,
        RemovalKind::Retention => proto::RemovalKind::Retention,
    }
}
