//! `GetReceipt`: the proof of one entry to keep.

use super::context;
use super::proofs::prove;
use crate::access::{Method, Question};
use crate::audit::entry::{Entry, Phase};
use crate::audit::receipt::TlogProof;
use crate::domain::agency::CreditCode;
use crate::grpc::call::Call;
use crate::grpc::intake::{Intake, store_refusal};
use crate::grpc::operation::{Facts, Lookup, Operation, Reading};
use crate::grpc::proto;
use crate::grpc::status::Refusal;
use crate::grpc::wire::shanghai_day;

pub(super) struct GetReceipt;

impl Operation for GetReceipt {
    const METHOD: Method = Method::GetReceipt;
    type Request = proto::GetReceiptRequest;
    type Response = proto::GetReceiptResponse;
    type Task = u64;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<u64> {
        context(reading, request.context.as_ref());
        Some(request.index)
    }
}

impl Lookup for GetReceipt {
    async fn look_up(
        intake: &Intake,
        call: &Call,
        index: u64,
        facts: &mut Facts,
    ) -> Result<Self::Response, Refusal> {
        let head = intake.log.head();
        // Only what is under a signed checkpoint can be proven.
        if index >= head.size {
            return Err(Refusal::NotFound);
        }
        let found = intake.store.entry(index).await.map_err(|error| store_refusal(&error))?;
        let found = found.ok_or(Refusal::NotFound)?;
        let concerns_caller =
            || Entry::from_json(&found.entry).is_ok_and(|entry| concerns(&call.caller(), &entry));
        if !reads_any_entry(intake, call, facts) && !concerns_caller() {
            return Err(Refusal::NotFound);
        }
        // A receipt shows what was proven, and of this entry nobody has it any more.
        if found.is_pruned() {
            return Err(Refusal::Pruned);
        }
        let entry = found.entry;
        let hashes = prove(intake, index, head.size).await?;
        let proof = TlogProof { index, hashes, checkpoint: head.checkpoint.to_string() }.to_text();
        Ok(proto::GetReceiptResponse { index, entry, proof, audit: None })
    }
}

/// Whether an agreement lets the caller read any entry for this purpose, as auditors may.
pub(super) fn reads_any_entry(intake: &Intake, call: &Call, facts: &Facts) -> bool {
    facts.purpose.as_ref().is_some_and(|purpose| {
        let today = shanghai_day(call.arrived());
        let (caller, directory) = (call.caller(), intake.directory.load());
        let question = Question {
            counterpart: None,
            purpose: Some(purpose),
            ..facts.question(&caller, Method::GetEntry, today)
        };
        directory.decide(&question).is_ok()
    })
}

/// Whether an entry is this agency's too: of its own call, or of one by which another asked it or wrote to it. What
/// another tried in vain, or only read, never came to it.
pub(super) fn concerns(agency: &CreditCode, entry: &Entry) -> bool {
    let is_agency = |named: &Option<String>| named.as_deref() == Some(agency.as_str());
    let came_to_counterpart = !matches!(entry.phase, Phase::Refused | Phase::Read)
        && entry.method != Method::DownloadAttachment.name();
    is_agency(&entry.caller) || (is_agency(&entry.counterpart) && came_to_counterpart)
}
