//! Putting in, approving and ending agreements. Each change is made in the transaction of the entry that witnesses it.

use data_encoding::HEXLOWER;

use super::reading::version_on_wire;
use super::terms;
use crate::access::{Agreement, Method};
use crate::audit::entry;
use crate::domain::envelope::Operator;
use crate::domain::violation::Violations;
use crate::grpc::call::Call;
use crate::grpc::exchange::sha256;
use crate::grpc::intake::{Intake, store_refusal};
use crate::grpc::operation::{Done, Effectful, Facts, Operation, Reading};
use crate::grpc::proto;
use crate::grpc::status::Refusal;
use crate::grpc::wire::{call_context, digest, text};
use crate::store::{
    ActedBy, AgreementAct, AgreementChange, AgreementRecord, AgreementState, Effect, NewAgreementState,
};

/// `AgreementService.PutAgreement`.
pub(super) struct PutAgreement;

/// An agreement to put in.
pub(super) struct Put {
    agreement: Agreement,
    terms: String,
    operator: Operator,
}

impl Operation for PutAgreement {
    const METHOD: Method = Method::PutAgreement;
    type Request = proto::PutAgreementRequest;
    type Response = proto::PutAgreementResponse;
    type Task = Put;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<Put> {
        reading.facts.of_context(call_context(&mut reading.violations, request.context.as_ref()));
        let agreement = terms::read(&mut reading.violations, request.agreement.as_ref())?;
        let terms = agreement.to_canonical_json().ok()?;
        Some(Put { agreement, terms, operator: reading.facts.operator.clone()? })
    }
}

impl Effectful for PutAgreement {
    async fn prepare(intake: &Intake, _: &Call, task: &mut Put, facts: &mut Facts) -> Result<(), Refusal> {
        let mut violations = Violations::new();
        let directory = intake.directory.load();
        violations.within("agreement", |v| task.agreement.check(&directory, v));
        let versions = versions(intake, &task.agreement.id).await?;
        if let Some(newest) = versions.first().filter(|newest| newest.version >= task.agreement.version) {
            violations.add(
                "agreement.version",
                "VERSION_ABOVE_ALL",
                format!("version {} was put in already; take a higher one", newest.version),
                format!("已有第{}版，请使用更高的版本号", newest.version),
            );
        }
        if !violations.is_empty() {
            return Err(Refusal::Invalid(violations.into_vec()));
        }
        let state = state_after_put(intake);
        facts.agreement_change = Some(Box::new(entry::AgreementChange {
            act: AgreementAct::Put.as_str().into(),
            id: task.agreement.id.clone(),
            put_by: None,
            sha256: HEXLOWER.encode(&sha256(task.terms.as_bytes())),
            state: state.as_str().into(),
            version: task.agreement.version.to_string(),
        }));
        Ok(())
    }

    async fn act(intake: &Intake, call: &Call, task: &mut Put) -> Result<Done<Self::Response>, Refusal> {
        let digest = sha256(task.terms.as_bytes());
        let state = state_after_put(intake);
        let pending = state == AgreementState::Pending;
        let change = NewAgreementState::Put { terms: task.terms.clone(), digest, pending };
        let record = AgreementRecord {
            agreement_id: task.agreement.id.clone(),
            version: task.agreement.version,
            state,
            terms: task.terms.clone(),
            digest,
            acts: Vec::new(),
        };
        done(intake, call, &record, change, &task.operator, |version| proto::PutAgreementResponse {
            version: Some(version),
            audit: None,
        })
    }
}

/// Where what is put in stands then.
fn state_after_put(intake: &Intake) -> AgreementState {
    if intake.agreements.two_person { AgreementState::Pending } else { AgreementState::Effective }
}

/// `AgreementService.ApproveAgreement`.
pub(super) struct ApproveAgreement;

/// A version to approve.
pub(super) struct Approve {
    agreement_id: String,
    version: u32,
    sha256: [u8; 32],
    operator: Operator,
    found: Option<AgreementRecord>,
}

impl Operation for ApproveAgreement {
    const METHOD: Method = Method::ApproveAgreement;
    type Request = proto::ApproveAgreementRequest;
    type Response = proto::ApproveAgreementResponse;
    type Task = Approve;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<Approve> {
        let violations = &mut reading.violations;
        reading.facts.of_context(call_context(violations, request.context.as_ref()));
        let agreement_id = text(violations, "agreement_id", &request.agreement_id, 1, 64);
        let version = violations.require("version", (request.version > 0).then_some(request.version));
        let sha256 = digest(violations, "sha256", &request.sha256);
        Some(Approve {
            agreement_id: agreement_id?.to_owned(),
            version: version?,
            sha256: sha256?,
            operator: reading.facts.operator.clone()?,
            found: None,
        })
    }
}

impl Effectful for ApproveAgreement {
    async fn prepare(
        intake: &Intake,
        call: &Call,
        task: &mut Approve,
        facts: &mut Facts,
    ) -> Result<(), Refusal> {
        let found = version(intake, &task.agreement_id, task.version).await?;
        if found.state != AgreementState::Pending {
            return Err(Refusal::AgreementStands(found.state));
        }
        if found.digest != task.sha256 {
            let mut violations = Violations::new();
            violations.add(
                "sha256",
                "TERMS_AS_READ",
                "is not the digest of the terms that wait; read them again",
                "与待批准文本的摘要不符，请重新查阅",
            );
            return Err(Refusal::Invalid(violations.into_vec()));
        }
        let put_by = found.acts.iter().find(|act| act.act == AgreementAct::Put).map(|act| &act.by);
        // A staff number is the person's within the agency; the unit that a person acts for may change.
        let is_same = |by: &ActedBy| {
            let staff_number = by.operator.as_ref().map(|(_, staff_number)| staff_number.as_str());
            by.agency == call.caller() && staff_number == Some(task.operator.staff_number.as_str())
        };
        if put_by.is_some_and(is_same) {
            return Err(Refusal::ApprovalBySamePerson);
        }
        let change = entry_of(&found, AgreementAct::Approve, AgreementState::Effective);
        let put_by = put_by.map(told);
        facts.agreement_change = Some(Box::new(entry::AgreementChange { put_by, ..change }));
        task.found = Some(found);
        Ok(())
    }

    async fn act(intake: &Intake, call: &Call, task: &mut Approve) -> Result<Done<Self::Response>, Refusal> {
        let found = task.found.clone().ok_or(Refusal::Internal)?;
        let record = AgreementRecord { state: AgreementState::Effective, ..found };
        done(intake, call, &record, NewAgreementState::Approve, &task.operator, |version| {
            proto::ApproveAgreementResponse { version: Some(version), audit: None }
        })
    }
}

/// `AgreementService.EndAgreement`.
pub(super) struct EndAgreement;

/// An agreement to end.
pub(super) struct End {
    agreement_id: String,
    version: u32,
    operator: Operator,
    found: Option<AgreementRecord>,
}

impl Operation for EndAgreement {
    const METHOD: Method = Method::EndAgreement;
    type Request = proto::EndAgreementRequest;
    type Response = proto::EndAgreementResponse;
    type Task = End;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<End> {
        let violations = &mut reading.violations;
        reading.facts.of_context(call_context(violations, request.context.as_ref()));
        let agreement_id = text(violations, "agreement_id", &request.agreement_id, 1, 64);
        let version = violations.require("version", (request.version > 0).then_some(request.version));
        let operator = reading.facts.operator.clone();
        Some(End {
            agreement_id: agreement_id?.to_owned(),
            version: version?,
            operator: operator?,
            found: None,
        })
    }
}

impl Effectful for EndAgreement {
    async fn prepare(intake: &Intake, _: &Call, task: &mut End, facts: &mut Facts) -> Result<(), Refusal> {
        let found = version(intake, &task.agreement_id, task.version).await?;
        if !matches!(found.state, AgreementState::Pending | AgreementState::Effective) {
            return Err(Refusal::AgreementStands(found.state));
        }
        facts.agreement_change = Some(Box::new(entry_of(&found, AgreementAct::End, AgreementState::Ended)));
        task.found = Some(found);
        Ok(())
    }

    async fn act(intake: &Intake, call: &Call, task: &mut End) -> Result<Done<Self::Response>, Refusal> {
        let found = task.found.clone().ok_or(Refusal::Internal)?;
        let record = AgreementRecord { state: AgreementState::Ended, ..found };
        done(intake, call, &record, NewAgreementState::End, &task.operator, |version| {
            proto::EndAgreementResponse { version: Some(version), audit: None }
        })
    }
}

/// Every version of an agreement, newest first.
async fn versions(intake: &Intake, id: &str) -> Result<Vec<AgreementRecord>, Refusal> {
    intake.store.agreement_versions(id).await.map_err(|error| store_refusal(&error))
}

async fn version(intake: &Intake, id: &str, version: u32) -> Result<AgreementRecord, Refusal> {
    let found = versions(intake, id).await?.into_iter().find(|record| record.version == version);
    found.ok_or(Refusal::NotFound)
}

/// What the log says of a change.
fn entry_of(record: &AgreementRecord, act: AgreementAct, state: AgreementState) -> entry::AgreementChange {
    entry::AgreementChange {
        act: act.as_str().into(),
        id: record.agreement_id.clone(),
        put_by: None,
        sha256: HEXLOWER.encode(&record.digest),
        state: state.as_str().into(),
        version: record.version.to_string(),
    }
}

fn told(by: &ActedBy) -> String {
    match &by.operator {
        Some((unit, staff_number)) => format!("{} {unit}/{staff_number}", by.agency),
        None => "directory file".to_owned(),
    }
}

/// The change, and its answer: the version as it stands then.
fn done<R>(
    intake: &Intake,
    call: &Call,
    record: &AgreementRecord,
    change: NewAgreementState,
    operator: &Operator,
    response: impl FnOnce(proto::AgreementVersion) -> R,
) -> Result<Done<R>, Refusal> {
    let (unit, staff_number) = (operator.unit.to_string(), operator.staff_number.to_string());
    let change = AgreementChange {
        agreement_id: record.agreement_id.clone(),
        version: record.version,
        change,
        by: ActedBy { agency: call.caller(), operator: Some((unit, staff_number)) },
        at: intake.clock.now(),
    };
    Ok(Done {
        response: response(version_on_wire(record)),
        effects: vec![Effect::ChangeAgreement(Box::new(change))],
        reason: None,
        exchange: None,
    })
}
