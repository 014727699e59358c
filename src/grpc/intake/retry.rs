//! A call that was made before under the same request id: it gets its first outcome.

use prost::Message;
use tokio::time::timeout;
use tonic::{Response, Status};

use super::{Intake, answer_with_index, store_refusal};
use crate::access::Method;
use crate::audit::entry::{Decision, Field, Phase, Salt};
use crate::domain::exchange::RequestId;
use crate::entropy;
use crate::grpc::call::Call;
use crate::grpc::operation::{Facts, Operation, Witnessed};
use crate::grpc::proto;
use crate::grpc::status::Refusal;

impl Intake {
    /// Refuses a call, unless it is the retry of one that was carried out. What stands in its way may then be its
    /// own effect (a receipt finds the exchange received, a redelivery nothing that is given up), or the time that has
    /// passed: it gets its first outcome.
    pub(super) async fn refuse_unless_answered<O: Operation>(
        &self,
        call: &Call,
        mut facts: Facts,
        digest: [u8; 32],
        refusal: Refusal,
    ) -> Result<Response<O::Response>, Status> {
        if let Some(request_id) = self.its_own(call, O::METHOD, &mut facts, digest, &refusal).await
            && let Some(replayed) = self.replay::<O>(call, &facts, request_id, digest).await
        {
            return replayed;
        }
        Err(self.refuse(call, &facts, refusal).await)
    }

    /// The id of the call's request, when what stands in its way may be the effect of its first time.
    async fn its_own(
        &self,
        call: &Call,
        method: Method,
        facts: &mut Facts,
        digest: [u8; 32],
        refusal: &Refusal,
    ) -> Option<RequestId> {
        let may_be_its_own = matches!(
            refusal,
            Refusal::Invalid(_)
                | Refusal::IllegalTransition(_)
                | Refusal::NotWaiting(_)
                | Refusal::NothingGivenUp
                | Refusal::WitnessLag
                | Refusal::AgreementStands(_)
                | Refusal::QuotaSpent(_)
                | Refusal::NoRegistry
        );
        let request_id = facts.request_id.filter(|_| may_be_its_own)?;
        let claim = self.store.claim(&call.caller(), &request_id).await.ok().flatten();
        let same = claim.is_some_and(|claim| claim.digest == digest);
        // It was counted the first time.
        facts.spent.clear();
        (same && self.allow(call, method, facts).is_ok()).then_some(request_id)
    }

    /// Gives the first outcome of a request id again; `None` when nothing claims the id any more.
    pub(super) async fn replay<O: Operation>(
        &self,
        call: &Call,
        facts: &Facts,
        request_id: RequestId,
        digest: [u8; 32],
    ) -> Option<Result<Response<O::Response>, Status>> {
        let (response_index, response) = match self.first_outcome(call, facts, request_id, digest).await? {
            Ok(outcome) => outcome,
            Err(status) => return Some(Err(status)),
        };
        let Ok(mut response) = O::Response::decode(response.as_slice()) else {
            return Some(Err(self.refuse(call, facts, Refusal::Internal).await));
        };
        if let Err(status) = self.witness_replay(call, facts, &response.encode_to_vec()).await {
            return Some(Err(status));
        }
        response.witness(proto::AuditReceipt { log_index: response_index });
        Some(Ok(answer_with_index(response, response_index)))
    }

    /// The first outcome of a request id, waited for: the index of its RESPONSE, and the answer.
    async fn first_outcome(
        &self,
        call: &Call,
        facts: &Facts,
        request_id: RequestId,
        digest: [u8; 32],
    ) -> Option<Result<(u64, Vec<u8>), Status>> {
        let mut head = self.log.watch_head();
        loop {
            head.mark_unchanged();
            let claim = match self.store.claim(&call.caller(), &request_id).await {
                Ok(claim) => claim,
                Err(error) => return Some(Err(self.refuse(call, facts, store_refusal(&error)).await)),
            };
            let claim = claim?;
            if claim.digest != digest {
                return Some(Err(self.refuse(call, facts, Refusal::RequestIdReused).await));
            }
            if let Some(outcome) = claim.outcome {
                return Some(Ok(outcome));
            }
            // The first call still runs: every answer moves the log's head.
            call.pass_turn_on();
            if !matches!(timeout(call.time_left(), head.changed()).await, Ok(Ok(()))) {
                return Some(Err(self.refuse(call, facts, Refusal::StillRunning).await));
            }
        }
    }

    /// Witnesses that an answer is given again.
    async fn witness_replay(&self, call: &Call, facts: &Facts, answer: &[u8]) -> Result<(), Status> {
        let salt = Salt(entropy::bytes());
        let mut entry = self.entry(call, Phase::Read, facts, &salt);
        entry.decision = Some(Decision::Allow);
        entry.code = Some("OK".into());
        entry.reason = Some("REPLAYED".into());
        entry.response_commitment = Some(salt.commit(Field::Response, answer));
        match self.log.append(entry, salt, Vec::new()).await {
            Ok(_) => {
                call.mark_witnessed();
                Ok(())
            }
            Err(error) => Err(self.unwitnessed(call, &error)),
        }
    }
}
