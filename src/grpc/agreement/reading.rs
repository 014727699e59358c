//! Reading agreements.

use super::{book, terms};
use crate::access::Method;
use crate::grpc::call::Call;
use crate::grpc::intake::{Intake, store_refusal};
use crate::grpc::operation::{Facts, Lookup, Operation, Reading};
use crate::grpc::page::{PageToken, page_size};
use crate::grpc::proto;
use crate::grpc::status::Refusal;
use crate::grpc::wire::{call_context, text, timestamp};
use crate::store::{AgreementAct, AgreementActRecord, AgreementRecord, AgreementState};

/// `AgreementService.GetAgreement`.
pub(super) struct GetAgreement;

impl Operation for GetAgreement {
    const METHOD: Method = Method::GetAgreement;
    type Request = proto::GetAgreementRequest;
    type Response = proto::GetAgreementResponse;
    type Task = String;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<String> {
        reading.facts.of_context(call_context(&mut reading.violations, request.context.as_ref()));
        text(&mut reading.violations, "agreement_id", &request.agreement_id, 1, 64).map(str::to_owned)
    }
}

impl Lookup for GetAgreement {
    async fn look_up(
        intake: &Intake,
        _: &Call,
        id: String,
        _: &mut Facts,
    ) -> Result<Self::Response, Refusal> {
        let found = intake.store.agreement_versions(&id).await.map_err(|error| store_refusal(&error))?;
        if found.is_empty() {
            return Err(Refusal::NotFound);
        }
        let versions = found.iter().map(version_on_wire).collect();
        Ok(proto::GetAgreementResponse { versions, audit: None })
    }
}

/// `AgreementService.ListAgreements`.
pub(super) struct ListAgreements;

/// A list as asked for.
pub(super) struct List {
    state: Option<AgreementState>,
    page_size: u32,
    token: String,
}

impl Operation for ListAgreements {
    const METHOD: Method = Method::ListAgreements;
    type Request = proto::ListAgreementsRequest;
    type Response = proto::ListAgreementsResponse;
    type Task = List;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<List> {
        let violations = &mut reading.violations;
        reading.facts.of_context(call_context(violations, request.context.as_ref()));
        let state =
            AgreementState::ALL.iter().copied().find(|state| state_on_wire(*state) as i32 == request.state);
        if request.state != 0 && state.is_none() {
            violations.add("state", "UNKNOWN_VALUE", "not a value that this version knows", "无法识别的取值");
        }
        let page_size = page_size(violations, request.page_size, 50, 200)?;
        Some(List { state, page_size, token: request.page_token })
    }
}

impl Lookup for ListAgreements {
    async fn look_up(
        intake: &Intake,
        _: &Call,
        list: List,
        _: &mut Facts,
    ) -> Result<Self::Response, Refusal> {
        let List { state, page_size, token } = list;
        let filter = format!("agreements\0{}", state.map_or("", AgreementState::as_str));
        let tokens = PageToken::new(&intake.pseudonyms, filter);
        let after = match tokens.open(&token)? {
            None => (String::new(), 0),
            Some(bytes) => place(&bytes).ok_or(Refusal::Internal)?,
        };
        let found = intake.store.agreements(state, (&after.0, after.1), page_size + 1).await;
        let mut found = found.map_err(|error| store_refusal(&error))?;
        let more = found.len() > page_size as usize;
        found.truncate(page_size as usize);
        let last = found.last().filter(|_| more);
        let next_page_token = last.map(|last| tokens.seal(&place_of(last))).unwrap_or_default();
        let versions = found.iter().map(version_on_wire).collect();
        Ok(proto::ListAgreementsResponse { versions, next_page_token, audit: None })
    }
}

/// A version's place in the list, as a page token carries it.
fn place_of(record: &AgreementRecord) -> Vec<u8> {
    [&record.version.to_be_bytes()[..], record.agreement_id.as_bytes()].concat()
}

fn place(bytes: &[u8]) -> Option<(String, u32)> {
    let (version, id) = bytes.split_at_checked(4)?;
    Some((String::from_utf8(id.to_vec()).ok()?, u32::from_be_bytes(version.try_into().ok()?)))
}

/// A version on the wire, with its terms; of one that this version of the gateway cannot read, its name alone.
pub(super) fn version_on_wire(record: &AgreementRecord) -> proto::AgreementVersion {
    let named = || proto::Agreement {
        agreement_id: record.agreement_id.clone(),
        version: record.version,
        ..proto::Agreement::default()
    };
    let agreement = book::stored(&record.terms);
    proto::AgreementVersion {
        agreement: Some(agreement.as_ref().map_or_else(named, terms::on_wire)),
        state: state_on_wire(record.state).into(),
        sha256: record.digest.to_vec(),
        acts: record.acts.iter().map(act_on_wire).collect(),
    }
}

fn state_on_wire(state: AgreementState) -> proto::AgreementState {
    match state {
        AgreementState::Pending => proto::AgreementState::Pending,
        AgreementState::Effective => proto::AgreementState::Effective,
        AgreementState::Superseded => proto::AgreementState::Superseded,
        AgreementState::Ended => proto::AgreementState::Ended,
    }
}

fn act_on_wire(act: &AgreementActRecord) -> proto::AgreementAct {
    let kind = match act.act {
        AgreementAct::Put => proto::AgreementActKind::Put,
        AgreementAct::Approve => proto::AgreementActKind::Approve,
        AgreementAct::End => proto::AgreementActKind::End,
    };
    proto::AgreementAct {
        kind: kind.into(),
        agency: act.by.agency.to_string(),
        operator: act.by.operator.as_ref().map(|(unit, staff_number)| proto::Operator {
            staff_number: staff_number.clone(),
            name: String::new(),
            unit: unit.clone(),
        }),
        act_time: Some(timestamp(act.at)),
        log_index: act.entry,
    }
}
