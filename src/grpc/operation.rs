//! What a method is to the intake: how its request is read, what it does, and what the audit log says of it.

use std::future::Future;
use std::sync::Arc;

use jiff::Timestamp;
use prost::Message;

use super::call::Call;
use super::intake::Intake;
use super::proto;
use super::status::Refusal;
use super::wire::{ContextFields, EnvelopeFields};
use crate::access::{Agreement, Method};
use crate::audit::entry::{AgreementChange, AgreementReference};
use crate::audit::findings::FindingId;
use crate::audit::removal::Removal;
use crate::domain::agency::{CreditCode, MatterId, PurposeCode};
use crate::domain::eligibility::Programme;
use crate::domain::envelope::{Operator, auditable};
use crate::domain::exchange::{DeliveryId, ExchangeId, Kind, RequestId};
use crate::domain::law::LegalBasis;
use crate::domain::person::IdDocument;
use crate::domain::verification::AnswerField;
use crate::domain::violation::Violations;
use crate::store::Effect;

/// A method: what it takes, gives, and reads out of a request.
pub(crate) trait Operation: Send + Sync + 'static {
    /// The method.
    const METHOD: Method;
    /// Its request.
    type Request: Message + Default + Send + Sync + 'static;
    /// Its answer.
    type Response: Witnessed;
    /// The request as read.
    type Task: Send + Sync + 'static;

    /// Reads the request; what is wrong with it goes to `reading`. `None` only with a violation.
    fn read(request: Self::Request, reading: &mut Reading) -> Option<Self::Task>;
}

/// A method with effect, or whose request leaves the gateway: two entries.
pub(crate) trait Effectful: Operation {
    /// Looks up what access and the rules depend on; nothing is dispatched yet.
    fn prepare(
        intake: &Intake,
        call: &Call,
        task: &mut Self::Task,
        facts: &mut Facts,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Carries it out; what it changes is returned, to become durable with the RESPONSE. What leaves the gateway here may be
    /// taken out of the task: only effects that can be rejected bring it back for another attempt.
    fn act(
        intake: &Intake,
        call: &Call,
        task: &mut Self::Task,
    ) -> impl Future<Output = Result<Done<Self::Response>, Refusal>> + Send;

    /// Tells the task which agreement allows it, before it is carried out.
    fn allowed(_task: &mut Self::Task, _by: &Arc<Agreement>) {}

    /// What of the answer the agreement does not disclose, and was left out.
    fn withheld(_task: &Self::Task) -> Vec<AnswerField> {
        Vec::new()
    }
}

/// A method that only reads locally: one entry.
pub(crate) trait Lookup: Operation {
    /// Looks it up.
    fn look_up(
        intake: &Intake,
        call: &Call,
        task: Self::Task,
        facts: &mut Facts,
    ) -> impl Future<Output = Result<Self::Response, Refusal>> + Send;
}

/// What an effectful method did.
pub(crate) struct Done<R> {
    /// The answer.
    pub(crate) response: R,
    /// What becomes durable with it.
    pub(crate) effects: Vec<Effect>,
    /// What the log should say of it beyond its code, in UPPER_SNAKE.
    pub(crate) reason: Option<&'static str>,
    /// The exchange that it made.
    pub(crate) exchange: Option<ExchangeId>,
}

impl<R: Witnessed> Done<R> {
    /// The answer, and the same with its bytes.
    pub(crate) fn encoded(self) -> (R, Done<Vec<u8>>) {
        let Self { response, effects, reason, exchange } = self;
        let bytes = response.encode_to_vec();
        (response, Done { response: bytes, effects, reason, exchange })
    }
}

/// An answer with a place for its evidence.
pub(crate) trait Witnessed: Message + Default + Send + 'static {
    /// Says where the answer's entry stands.
    fn witness(&mut self, receipt: proto::AuditReceipt);
}

macro_rules! witnessed {
    ($($response:ident),+ $(,)?) => {
        $(impl Witnessed for proto::$response {
            fn witness(&mut self, receipt: proto::AuditReceipt) {
                self.audit = Some(receipt);
            }
        })+
    };
}

witnessed!(
    VerifyLowIncomeResponse,
    AssessEligibilityResponse,
    VerifyPovertyHouseholdResponse,
    BatchVerifyResponse,
    GetVerificationResponse,
    SubmitExchangeResponse,
    RespondToExchangeResponse,
    GetExchangeResponse,
    ListExchangesResponse,
    PullDeliveriesResponse,
    AcknowledgeDeliveryResponse,
    WatchExchangesResponse,
    RedeliverExchangeResponse,
    ListDeliveriesResponse,
    GetDeliveryResponse,
    RetryDeliveryResponse,
    UploadAttachmentResponse,
    GetUploadResponse,
    DownloadAttachmentResponse,
    ListEntriesResponse,
    GetEntryResponse,
    GetCheckpointResponse,
    GetInclusionProofResponse,
    ExportEvidenceResponse,
    GetConsistencyProofResponse,
    GetEntriesResponse,
    GetTileResponse,
    GetReceiptResponse,
    OpenEntryResponse,
    EraseRecordsResponse,
    PruneLogResponse,
    GetRemovalResponse,
    ListFindingsResponse,
    MarkFindingResponse,
    PutAgreementResponse,
    ApproveAgreementResponse,
    EndAgreementResponse,
    GetAgreementResponse,
    ListAgreementsResponse,
    ExplainAgreementResponse,
);

/// Reading one request.
pub(crate) struct Reading {
    /// The calling agency, from its certificate.
    pub(crate) caller: CreditCode,
    /// When the call arrived.
    pub(crate) now: Timestamp,
    /// What is wrong so far.
    pub(crate) violations: Violations,
    /// What the log will say of the call.
    pub(crate) facts: Facts,
}

/// What of a request the audit log says. Only values that were read into their types get here, so that a
/// malformed request cannot smuggle anything into the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) request_id: Option<RequestId>,
    pub(crate) operator: Option<Operator>,
    pub(crate) purpose: Option<PurposeCode>,
    pub(crate) legal_basis: Vec<String>,
    pub(crate) matter: Option<MatterId>,
    pub(crate) counterpart: Option<CreditCode>,
    pub(crate) exchange: Option<ExchangeId>,
    pub(crate) delivery: Option<DeliveryId>,
    pub(crate) finding: Option<FindingId>,
    /// The person concerned; leaves as a pseudonym only.
    pub(crate) subject: Option<IdDocument>,
    /// The person concerned, where only the pseudonym is known.
    pub(crate) pseudonym: Option<String>,
    /// What is to be removed.
    pub(crate) removal: Option<Removal>,
    /// Kind of the exchange or question.
    pub(crate) kind: Option<Kind>,
    /// What a search was by: names of keys.
    pub(crate) search: Option<String>,
    pub(crate) agreement: Option<AgreementReference>,
    /// The same agreement, with its terms.
    pub(crate) allowed_by: Option<Arc<Agreement>>,
    /// Agreements of whose quota nothing is left.
    pub(crate) spent: Vec<String>,
    /// The articles of a message's envelope; `None` where the call carries none.
    pub(crate) relied_on: Option<Vec<LegalBasis>>,
    /// The programmes asked about.
    pub(crate) programmes: Vec<Programme>,
    /// Whether the counterpart is the other party of something that was looked up, and not named by the caller.
    pub(crate) found_counterpart: bool,
    /// What becomes of an agreement.
    pub(crate) agreement_change: Option<Box<AgreementChange>>,
    /// What of the answer is not disclosed.
    pub(crate) withheld: Vec<AnswerField>,
}

impl Facts {
    /// The things that every entry of a call names.
    pub(crate) fn named(&self) -> Self {
        Self {
            request_id: self.request_id,
            counterpart: self.counterpart,
            exchange: self.exchange,
            delivery: self.delivery,
            kind: self.kind,
            finding: self.finding,
            agreement_change: self.agreement_change.clone(),
            ..Self::default()
        }
    }

    /// Takes the other party of something that was looked up.
    pub(crate) fn of_found(&mut self, counterpart: CreditCode) {
        self.counterpart = Some(counterpart);
        self.found_counterpart = true;
    }

    /// Takes what could be read of an envelope.
    pub(crate) fn of_envelope(&mut self, envelope: &EnvelopeFields) {
        self.request_id = envelope.request_id;
        self.operator.clone_from(&envelope.operator);
        self.purpose.clone_from(&envelope.purpose);
        self.legal_basis = envelope.legal_basis.iter().map(auditable).collect();
        self.relied_on = Some(envelope.legal_basis.clone());
        self.matter.clone_from(&envelope.matter_id);
        self.counterpart = envelope.recipient.flatten();
        self.exchange = envelope.in_reply_to.flatten();
        self.kind = envelope.kind;
    }

    /// Takes what could be read of a call context.
    pub(crate) fn of_context(&mut self, context: ContextFields) {
        self.request_id = context.request_id;
        self.operator = context.operator;
        self.purpose = context.purpose;
    }
}
