//! What clients were told, and whether the log says so.

use legal_aid_gateway::audit::entry::{Entry, Field, Phase, Salt};
use legal_aid_gateway::grpc::proto;
use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::support::log;

/// An answer that a client got.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    method: &'static str,
    phase: Phase,
    request_id: String,
    pub(crate) index: u64,
    /// The answer without its own evidence: what the log commits to.
    bytes: Vec<u8>,
}

impl Answer {
    pub(crate) fn note<R: Evidence>(request_id: &str, mut answer: R) -> Self {
        let index = answer.take_receipt().expect("an answer says where its evidence stands").log_index;
        let bytes = answer.encode_to_vec();
        Self { method: R::METHOD, phase: R::PHASE, request_id: request_id.to_owned(), index, bytes }
    }

    pub(crate) fn check_entry(&self, entry: &Entry) {
        assert_eq!(entry.method, self.method, "{entry:?}");
        assert_eq!(entry.phase, self.phase, "{entry:?}");
        assert_eq!(entry.code.as_deref(), Some("OK"), "{entry:?}");
        assert_eq!(entry.request.map(|id| id.to_string()).as_ref(), Some(&self.request_id), "{entry:?}");
    }

    pub(crate) fn check(&self, entries: &[Entry], salts: &[Salt]) {
        let at = usize::try_from(self.index).unwrap();
        let entry = entries.get(at).unwrap_or_else(|| panic!("no entry of {self:?}"));
        self.check_entry(entry);
        let opens = log::opens(entry.response_commitment.as_ref(), &salts[at], Field::Response, &self.bytes);
        assert!(opens, "entry {at} commits to another answer: {entry:?}");
    }
}

/// An answer that says where its evidence stands.
pub(crate) trait Evidence: Message + Default + Clone + PartialEq {
    const METHOD: &'static str;
    const PHASE: Phase;
    fn take_receipt(&mut self) -> Option<proto::AuditReceipt>;
}

macro_rules! evidence {
    ($($response:ident: $method:literal $phase:ident),+ $(,)?) => {
        $(impl Evidence for proto::$response {
            const METHOD: &'static str = $method;
            const PHASE: Phase = Phase::$phase;
            fn take_receipt(&mut self) -> Option<proto::AuditReceipt> {
                self.audit.take()
            }
        })+
    };
}

evidence!(
    VerifyLowIncomeResponse: "VerifyLowIncome" Response,
    SubmitExchangeResponse: "SubmitExchange" Response,
    RespondToExchangeResponse: "RespondToExchange" Response,
    PullDeliveriesResponse: "PullDeliveries" Response,
    AcknowledgeDeliveryResponse: "AcknowledgeDelivery" Response,
    GetExchangeResponse: "GetExchange" Read,
    ListExchangesResponse: "ListExchanges" Read,
    GetCheckpointResponse: "GetCheckpoint" Read,
    ListDeliveriesResponse: "ListDeliveries" Read,
);

/// A refusal that says where its evidence stands.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    method: &'static str,
    request_id: String,
    pub(crate) index: u64,
    reason: String,
}

impl Refused {
    /// `None` where it says nothing: without the log, refusals have no entry.
    pub(crate) fn note(method: &'static str, request_id: &str, status: &Status) -> Option<Self> {
        let index = status.metadata().get("audit-log-index")?.to_str().unwrap().parse().unwrap();
        let reason = status.get_error_details().error_info()?.reason.clone();
        Some(Self { method, request_id: request_id.to_owned(), index, reason })
    }

    pub(crate) fn check(&self, entries: &[Entry]) {
        let entry = entries.get(usize::try_from(self.index).unwrap());
        let entry = entry.unwrap_or_else(|| panic!("no entry of {self:?}"));
        assert_eq!(entry.method, self.method, "{self:?}: {entry:?}");
        assert_eq!(entry.reason.as_deref(), Some(self.reason.as_str()), "{self:?}: {entry:?}");
        assert_eq!(entry.request.map(|id| id.to_string()).as_ref(), Some(&self.request_id), "{entry:?}");
    }
}

/// Whether asking again may help: the gateway is away, or said so itself.
pub(crate) fn may_pass(status: &Status) -> bool {
    let passing = [
        "REQUEST_STILL_RUNNING",
        "CHANGED_MEANWHILE",
        "AUDIT_LOG_UNAVAILABLE",
        "STORE_UNAVAILABLE",
        "DEADLINE_EXCEEDED",
    ];
    match status.get_error_details().error_info() {
        Some(info) => passing.contains(&info.reason.as_str()),
        // Without a reason it does not come from the gateway, but from a connection that broke or a time that passed.
        None => matches!(
            status.code(),
            Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::DeadlineExceeded
        ),
    }
}

/// Whether a client was told that the log cannot be written.
pub(crate) fn says_unwritten(status: &Status) -> bool {
    status.get_error_details().error_info().is_some_and(|info| info.reason == "AUDIT_LOG_UNAVAILABLE")
}
