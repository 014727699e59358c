//! Calls of the agencies and the operator: what is sent, and what was said.

use jiff::Timestamp;
use jiff::civil::Date;
use legal_aid_gateway::domain::agency::CreditCode;
use legal_aid_gateway::domain::exchange::ResponseKind;
use legal_aid_gateway::grpc::generated::google::r#type::Date as WireDate;
use legal_aid_gateway::grpc::json::from_json;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::grpc::proto::response::Kind as Arm;
use legal_aid_gateway::setup::{codes, purposes};
use tonic::Status;
use tonic_types::StatusExt as _;
use uuid::Uuid;

use super::gateway::Gateway;
use super::parties::Party;

/// A call as its caller keeps it, to make it again.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) caller: CreditCode,
    pub(crate) request_id: Uuid,
    /// Differs when the content does.
    pub(crate) version: u8,
    pub(crate) act: Act,
    message: Message,
}

/// What a call is about, in the model's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Submit { to: Party, matter: String },
    Respond { thread: usize, by: Party, answer: ResponseKind },
    Pull { who: Party },
    Acknowledge { who: Party, parcel: usize, wrong: bool },
    Redeliver { thread: usize },
    Retry { parcel: usize },
}

#[derive(Clone)]
enum Message {
    Submit(Box<proto::SubmitExchangeRequest>),
    Respond(Box<proto::RespondToExchangeRequest>),
    Pull(proto::PullDeliveriesRequest),
    Acknowledge(proto::AcknowledgeDeliveryRequest),
    Redeliver(proto::RedeliverExchangeRequest),
    Retry(proto::RetryDeliveryRequest),
}

/// What came back.
#[derive(Clone)]
pub(crate) enum Said {
    Done(Reply),
    Refused {
        reason: String,
        /// Index of its entry, if it says.
        entry: Option<u64>,
    },
}

/// An answer.
#[derive(Clone)]
pub(crate) struct Reply {
    /// Index of its entry.
    pub(crate) entry: u64,
    /// Of an exchange: id, state, messages.
    pub(crate) exchange: Option<(String, proto::ExchangeState)>,
    pub(crate) already: Option<bool>,
    pub(crate) pulled: Vec<proto::Delivery>,
    /// Deliveries that are due again.
    pub(crate) again: usize,
}

impl Reply {
    /// Whether it is the same answer.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let said = |reply: &Self| (reply.exchange.clone(), reply.already, reply.again, reply.ids());
        self.entry == other.entry && said(self) == said(other)
    }

    /// The deliveries that were pulled.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.pulled.iter().map(|delivery| delivery.delivery_id.clone()).collect()
    }

    pub(crate) fn outline(&self) -> String {
        let state = self.exchange.as_ref().map(|(_, state)| state.as_str_name());
        format!("{state:?}, {:?}, {} pulled, {} due again", self.already, self.pulled.len(), self.again)
    }
}

/// Where and when a response is made.
pub(crate) struct Answering<'a> {
    pub(crate) exchange_id: &'a str,
    pub(crate) matter: &'a str,
    pub(crate) by: Party,
    pub(crate) to: Party,
    /// Of the opening message, for a receipt.
    pub(crate) opening: Vec<u8>,
    pub(crate) now: Timestamp,
}

impl Call {
    pub(crate) fn submit(request_id: Uuid, to: Party, matter: String, now: Timestamp) -> Self {
        let mut message: proto::SubmitExchangeRequest =
            from_json("SubmitExchangeRequest", &fee_waiver(to, today(now), now)).unwrap();
        let envelope = message.envelope.take().unwrap();
        message.envelope = Some(of(request_id, Party::Centre, to, &matter, envelope));
        let act = Act::Submit { to, matter };
        Self {
            caller: Party::Centre.code(),
            request_id,
            version: 0,
            act,
            message: Message::Submit(Box::new(message)),
        }
    }

    pub(crate) fn respond(request_id: Uuid, thread: usize, answer: ResponseKind, at: &Answering<'_>) -> Self {
        let envelope = proto::Envelope {
            legal_basis: vec![proto::LegalBasis {
                law: "诉讼费用交纳办法".to_owned(),
                article: "48".to_owned(),
            }],
            in_reply_to: at.exchange_id.to_owned(),
            ..Default::default()
        };
        let message = proto::RespondToExchangeRequest {
            envelope: Some(of(request_id, at.by, at.to, at.matter, envelope)),
            response: Some(proto::Response { kind: Some(arm(answer, at)) }),
        };
        let act = Act::Respond { thread, by: at.by, answer };
        Self {
            caller: at.by.code(),
            request_id,
            version: 0,
            act,
            message: Message::Respond(Box::new(message)),
        }
    }

    pub(crate) fn pull(request_id: Uuid, who: Party) -> Self {
        let context = Some(context(request_id, purposes::FEE_WAIVER));
        let message = Message::Pull(proto::PullDeliveriesRequest { context, max_deliveries: 100 });
        Self { caller: who.code(), request_id, version: 0, act: Act::Pull { who }, message }
    }

    pub(crate) fn acknowledge(
        request_id: Uuid,
        (who, parcel): (Party, usize),
        delivery_id: &str,
        digest: Option<&[u8]>,
    ) -> Self {
        let message = proto::AcknowledgeDeliveryRequest {
            context: Some(context(request_id, purposes::FEE_WAIVER)),
            delivery_id: delivery_id.to_owned(),
            message_sha256: digest.map_or(vec![1; 32], <[u8]>::to_vec),
        };
        let act = Act::Acknowledge { who, parcel, wrong: digest.is_none() };
        Self { caller: who.code(), request_id, version: 0, act, message: Message::Acknowledge(message) }
    }

    pub(crate) fn redeliver(request_id: Uuid, thread: usize, exchange_id: &str) -> Self {
        let message = proto::RedeliverExchangeRequest {
            context: Some(context(request_id, purposes::GATEWAY_OPERATION)),
            exchange_id: exchange_id.to_owned(),
            reason: proto::RedeliveryReason::RecipientBack.into(),
        };
        let (caller, message) = (operator(), Message::Redeliver(message));
        Self { caller, request_id, version: 0, act: Act::Redeliver { thread }, message }
    }

    pub(crate) fn retry(request_id: Uuid, parcel: usize, delivery_id: &str) -> Self {
        let message = proto::RetryDeliveryRequest {
            context: Some(context(request_id, purposes::GATEWAY_OPERATION)),
            delivery_id: delivery_id.to_owned(),
        };
        let (caller, message) = (operator(), Message::Retry(message));
        Self { caller, request_id, version: 0, act: Act::Retry { parcel }, message }
    }

    /// The same request id with other content: somebody else acts.
    pub(crate) fn changed(&self) -> Self {
        let mut call = self.clone();
        call.version += 1;
        let somebody = |operator: &mut Option<proto::Operator>| {
            operator.as_mut().unwrap().staff_number = format!("other-{}", call.version);
        };
        match &mut call.message {
            Message::Submit(message) => somebody(&mut message.envelope.as_mut().unwrap().operator),
            Message::Respond(message) => somebody(&mut message.envelope.as_mut().unwrap().operator),
            Message::Pull(message) => somebody(&mut message.context.as_mut().unwrap().operator),
            Message::Acknowledge(message) => somebody(&mut message.context.as_mut().unwrap().operator),
            Message::Redeliver(message) => somebody(&mut message.context.as_mut().unwrap().operator),
            Message::Retry(message) => somebody(&mut message.context.as_mut().unwrap().operator),
        }
        call
    }

    /// Makes the call.
    pub(crate) fn make(&self, gateway: &Gateway) -> impl Future<Output = Said> + Send + 'static {
        let mut client = gateway.client(self.caller);
        let message = self.message.clone();
        async move {
            let said = match message {
                Message::Submit(message) => client.submit_exchange(*message).await.map(|answer| {
                    let answer = answer.into_inner();
                    Reply { exchange: answer.exchange.as_ref().map(outline), ..reply(answer.audit) }
                }),
                Message::Respond(message) => client.respond_to_exchange(*message).await.map(|answer| {
                    let answer = answer.into_inner();
                    Reply { exchange: answer.exchange.as_ref().map(outline), ..reply(answer.audit) }
                }),
                Message::Pull(message) => client.pull_deliveries(message).await.map(|answer| {
                    let answer = answer.into_inner();
                    Reply { pulled: answer.deliveries, ..reply(answer.audit) }
                }),
                Message::Acknowledge(message) => client.acknowledge_delivery(message).await.map(|answer| {
                    let answer = answer.into_inner();
                    Reply { already: Some(answer.already_acknowledged), ..reply(answer.audit) }
                }),
                Message::Redeliver(message) => client.redeliver_exchange(message).await.map(|answer| {
                    let answer = answer.into_inner();
                    Reply { again: answer.deliveries.len(), ..reply(answer.audit) }
                }),
                Message::Retry(message) => {
                    client.retry_delivery(message).await.map(|answer| reply(answer.into_inner().audit))
                }
            };
            said.map_or_else(|status| refused(&status), Said::Done)
        }
    }
}

/// Reads something, so that the log writes.
pub(crate) fn look(gateway: &Gateway, request_id: Uuid) -> impl Future<Output = Result<(), Status>> + use<> {
    let mut client = gateway.client(Party::Centre.code());
    let context = Some(context(request_id, purposes::FEE_WAIVER));
    async move {
        client.list_exchanges(proto::ListExchangesRequest { context, ..Default::default() }).await.map(drop)
    }
}

fn outline(exchange: &proto::Exchange) -> (String, proto::ExchangeState) {
    (exchange.exchange_id.clone(), exchange.state())
}

fn reply(audit: Option<proto::AuditReceipt>) -> Reply {
    let entry = audit.map_or(u64::MAX, |audit| audit.log_index);
    Reply { entry, exchange: None, already: None, pulled: Vec::new(), again: 0 }
}

fn refused(status: &Status) -> Said {
    let details = status.get_error_details();
    let info = details.error_info();
    let reason = info.map_or_else(|| format!("{status:?}"), |info| info.reason.clone());
    let entry = info.and_then(|info| info.metadata.get("log_index")?.parse().ok());
    Said::Refused { reason, entry }
}

fn operator() -> CreditCode {
    CreditCode::parse(codes::OPERATOR).unwrap()
}

fn somebody() -> proto::Operator {
    proto::Operator { staff_number: "s-01".to_owned(), name: String::new(), unit: "main".to_owned() }
}

fn context(request_id: Uuid, purpose: &str) -> proto::CallContext {
    let (request_id, purpose) = (request_id.to_string(), purpose.to_owned());
    proto::CallContext { request_id, operator: Some(somebody()), purpose }
}

fn of(request_id: Uuid, by: Party, to: Party, matter: &str, envelope: proto::Envelope) -> proto::Envelope {
    proto::Envelope {
        request_id: request_id.to_string(),
        matter_id: matter.to_owned(),
        kind: proto::Kind::FeeWaiver.into(),
        sender: by.code().to_string(),
        recipient: to.code().to_string(),
        region: "331004".to_owned(),
        operator: Some(somebody()),
        purpose: purposes::FEE_WAIVER.to_owned(),
        classification: Some(proto::Classification { sensitive: Some(true), minor_under_14: Some(false) }),
        schema_version: 1,
        ..envelope
    }
}

fn arm(answer: ResponseKind, at: &Answering<'_>) -> Arm {
    let day = |days| Some(wire(today(at.now).checked_add(jiff::Span::new().days(days)).unwrap()));
    match answer {
        ResponseKind::Receipt => Arm::Receipt(proto::Receipt {
            message_sha256: at.opening.clone(),
            received_at: Some(prost_types::Timestamp { seconds: at.now.as_second(), nanos: 0 }),
            receipt_number: String::new(),
        }),
        ResponseKind::SupplementRequest => Arm::SupplementRequest(proto::SupplementRequest {
            missing: vec![proto::MissingPaper {
                description: "收入证明".to_owned(), ..Default::default()
            }],
            due_on: day(PAPERS_WITHIN),
        }),
        ResponseKind::Supplement => Arm::Supplement(proto::Supplement { note: "补交".to_owned() }),
        ResponseKind::Withdrawal => Arm::Withdrawal(proto::Withdrawal { reason: "和解".to_owned() }),
        ResponseKind::Closure => {
            Arm::Closure(proto::Closure { closed_on: day(0), final_allocation: String::new() })
        }
        // Of these kinds, only a decision is an answer to a fee waiver.
        ResponseKind::Decision | ResponseKind::Progress => Arm::FeeWaiverDecision(proto::FeeWaiverDecision {
            outcome: proto::FeeWaiverOutcome::Deferred.into(),
            deferred_until: day(60),
            notice_number: "N-1".to_owned(),
            hardship_rereviewed: Some(false),
            decided_on: day(0),
            ..Default::default()
        }),
    }
}

/// Days until the papers that a court asks for are due.
pub(crate) const PAPERS_WITHIN: i64 = 5;

fn fee_waiver(court: Party, today: Date, now: Timestamp) -> String {
    let (centre, court) = (Party::Centre.code(), court.code());
    let (year, month, day) = (today.year(), today.month(), today.day());
    let digest = data_encoding::BASE64.encode(&[0x5a; 32]);
    format!(
        r#"{{
  "envelope": {{ "legalBasis": [{{"law": "法律援助法", "article": "53"}}] }},
  "content": {{ "feeWaiver": {{
    "applicant": {{
      "name": "测试甲", "idKind": "ID_KIND_RESIDENT_ID", "idNumber": "331004198001010016",
      "householdRegion": "331004", "phone": "13800000000", "groups": ["GROUP_MINIMUM_ALLOWANCE"]
    }},
    "applicantKind": "APPLICANT_KIND_NATURAL_PERSON",
    "courtCase": {{
      "court": "{court}", "causeOfAction": "机动车交通事故责任纠纷",
      "instance": "INSTANCE_FIRST", "role": "PARTY_ROLE_PLAINTIFF"
    }},
    "claimKind": "CLAIM_KIND_PROPERTY", "claimedSumFen": "10000000", "feeFen": "230000",
    "relief": "RELIEF_DEFER", "ground": "RELIEF_GROUND_47_3",
    "aidDecision": {{
      "centre": "{centre}", "number": "2026-0001",
      "decidedOn": {{"year": {year}, "month": {month}, "day": {day}}}, "documentSha256": "{digest}"
    }},
    "reason": "正在接受法律援助，无力预交案件受理费",
    "filedAt": "{now}"
  }} }}
}}"#
    )
}

/// The day in Asia/Shanghai.
fn today(now: Timestamp) -> Date {
    jiff::tz::Offset::constant(8).to_datetime(now).date()
}

fn wire(day: Date) -> WireDate {
    WireDate { year: day.year().into(), month: day.month().into(), day: day.day().into() }
}
