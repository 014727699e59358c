//! `ExchangeService`: submitting and answering. Reading is in [`super::exchange_views`], taking deliveries in
//! [`super::pull`].

use std::sync::Arc;

use prost::Message;
use tonic::{Request, Response, Status};

use super::attachment::{check_named, named_digests};
use super::call::Call;
use super::deliveries::{GetDelivery, ListDeliveries, RedeliverExchange, RetryDelivery};
use super::exchange_views::{GetExchange, ListExchanges, thread_of};
use super::intake::streams::Items;
use super::intake::{Intake, store_refusal};
use super::operation::{Done, Effectful, Facts, Operation, Reading};
use super::proto;
use super::proto::exchange_service_server::ExchangeService;
use super::pull::{AcknowledgeDelivery, PullDeliveries};
use super::status::Refusal;
use super::watch::WatchExchanges;
use super::wire::{
    Answer, Expectation, Opening, Surroundings, answer_fits, check_minor, content, envelope, exchange_of,
    response, shanghai_day, timestamp,
};
use crate::access::Method;
use crate::domain::agency::CreditCode;
use crate::domain::envelope::Envelope;
use crate::domain::exchange::{
    DeliveryId, ExchangeId, ExchangeState, MOST_MESSAGES, Party, ResponseKind, next_state,
};
use crate::domain::violation::Violations;
use crate::entropy;
use crate::store::{Effect, ExchangeRecord, NewDelivery, NewExchange, NewMessage};

/// Implements the service.
#[derive(Clone)]
pub struct Exchanges(pub Arc<Intake>);

#[tonic::async_trait]
impl ExchangeService for Exchanges {
    async fn submit_exchange(
        &self,
        request: Request<proto::SubmitExchangeRequest>,
    ) -> Result<Response<proto::SubmitExchangeResponse>, Status> {
        let answer = self.0.carry_out::<SubmitExchange>(request).await?;
        self.0.outbox.notify_one();
        Ok(answer)
    }

    async fn respond_to_exchange(
        &self,
        request: Request<proto::RespondToExchangeRequest>,
    ) -> Result<Response<proto::RespondToExchangeResponse>, Status> {
        let answer = self.0.carry_out::<RespondToExchange>(request).await?;
        self.0.outbox.notify_one();
        Ok(answer)
    }

    async fn get_exchange(
        &self,
        request: Request<proto::GetExchangeRequest>,
    ) -> Result<Response<proto::GetExchangeResponse>, Status> {
        self.0.look_up::<GetExchange>(request).await
    }

    async fn list_exchanges(
        &self,
        request: Request<proto::ListExchangesRequest>,
    ) -> Result<Response<proto::ListExchangesResponse>, Status> {
        self.0.look_up::<ListExchanges>(request).await
    }

    async fn pull_deliveries(
        &self,
        request: Request<proto::PullDeliveriesRequest>,
    ) -> Result<Response<proto::PullDeliveriesResponse>, Status> {
        self.0.carry_out::<PullDeliveries>(request).await
    }

    async fn acknowledge_delivery(
        &self,
        request: Request<proto::AcknowledgeDeliveryRequest>,
    ) -> Result<Response<proto::AcknowledgeDeliveryResponse>, Status> {
        let answer = self.0.carry_out::<AcknowledgeDelivery>(request).await?;
        self.0.outbox.notify_one();
        Ok(answer)
    }

    type WatchExchangesStream = Items<proto::WatchExchangesResponse>;

    async fn watch_exchanges(
        &self,
        request: Request<proto::WatchExchangesRequest>,
    ) -> Result<Response<Self::WatchExchangesStream>, Status> {
        self.0.carry_out_sending::<WatchExchanges>(request).await
    }

    async fn redeliver_exchange(
        &self,
        request: Request<proto::RedeliverExchangeRequest>,
    ) -> Result<Response<proto::RedeliverExchangeResponse>, Status> {
        let answer = self.0.carry_out::<RedeliverExchange>(request).await?;
        self.0.outbox.notify_one();
        Ok(answer)
    }

    async fn list_deliveries(
        &self,
        request: Request<proto::ListDeliveriesRequest>,
    ) -> Result<Response<proto::ListDeliveriesResponse>, Status> {
        self.0.look_up::<ListDeliveries>(request).await
    }

    async fn get_delivery(
        &self,
        request: Request<proto::GetDeliveryRequest>,
    ) -> Result<Response<proto::GetDeliveryResponse>, Status> {
        self.0.look_up::<GetDelivery>(request).await
    }

    async fn retry_delivery(
        &self,
        request: Request<proto::RetryDeliveryRequest>,
    ) -> Result<Response<proto::RetryDeliveryResponse>, Status> {
        let answer = self.0.carry_out::<RetryDelivery>(request).await?;
        self.0.outbox.notify_one();
        Ok(answer)
    }
}

struct SubmitExchange;

/// A submission as read.
struct Submit {
    wire: proto::Envelope,
    content: proto::Content,
    envelope: Envelope,
    recipient: CreditCode,
    opening: Opening,
}

impl Operation for SubmitExchange {
    const METHOD: Method = Method::SubmitExchange;
    type Request = proto::SubmitExchangeRequest;
    type Response = proto::SubmitExchangeResponse;
    type Task = Submit;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<Submit> {
        let Reading { caller, now, violations, facts } = reading;
        let expect = Expectation { caller: *caller, recipient_optional: false, is_response: false };
        let envelope = envelope(violations, request.envelope.as_ref(), expect);
        facts.of_envelope(&envelope);
        let recipient = envelope.recipient.flatten();
        let has_attachments = request.envelope.as_ref().is_some_and(|wire| !wire.attachments.is_empty());
        let (sender, region) = (*caller, envelope.region);
        let around = Surroundings { sender, recipient, region, has_attachments, now: *now };
        let opening = content(violations, request.content.as_ref(), around)?;
        facts.subject.clone_from(&opening.subject);
        check_minor(violations, request.envelope.as_ref(), facts.subject.as_ref(), shanghai_day(*now));
        if envelope.kind.is_some_and(|stated| stated != opening.kind) {
            violations.add(
                "envelope.kind",
                "KIND_FITS_CONTENT",
                "must be the kind of the content",
                "类型须与内容一致",
            );
        }
        Some(Submit {
            wire: request.envelope?,
            content: request.content?,
            envelope: envelope.whole()?,
            recipient: recipient?,
            opening,
        })
    }
}

impl Effectful for SubmitExchange {
    /// A kind goes its own ways only. Whether the caller may write to the recipient at all is asked first.
    async fn prepare(
        intake: &Intake,
        call: &Call,
        task: &mut Submit,
        facts: &mut Facts,
    ) -> Result<(), Refusal> {
        intake.allow(call, Self::METHOD, facts)?;
        let directory = intake.directory.load();
        let parties = directory.agency(&call.caller()).zip(directory.agency(&task.recipient));
        let (sender, recipient) = parties.ok_or(Refusal::Internal)?;
        let mut violations = Violations::new();
        match task.opening.kind.route(sender.kind, recipient.kind) {
            Err(error) => drop(violations.check::<(), _>("envelope.recipient", Err(error))),
            Ok(route) => {
                if let Some(stated) = task.opening.stated_route.filter(|stated| stated.route != route) {
                    violations.add_by_article(
                        stated.field,
                        "DIRECTION_FITS_PARTIES",
                        format!("the parties make it {route}"),
                        "移送方向须与发送机构、接收机构一致",
                        stated.route.article,
                    );
                }
                if let Some(stated) = task.opening.stated_senders {
                    stated.check(sender.kind, &mut violations);
                }
            }
        }
        if !violations.is_empty() {
            return Err(Refusal::Invalid(violations.into_vec()));
        }
        check_named(intake, call, &task.wire).await
    }

    async fn act(intake: &Intake, call: &Call, task: &mut Submit) -> Result<Done<Self::Response>, Refusal> {
        let now = intake.clock.now();
        let exchange_id = ExchangeId::new(entropy::uuid_v7(now));
        let body = proto::exchange_message::Body::Content(task.content.clone());
        let message = message_bytes(exchange_id, 1, task.wire.clone(), body, now);
        let record = ExchangeRecord {
            exchange_id,
            kind: task.envelope.kind,
            state: ExchangeState::Submitted,
            sender: call.caller(),
            recipient: task.recipient,
            matter_id: task.envelope.matter_id.as_str().to_owned(),
            region: task.envelope.region.to_string(),
            messages: 1,
            created: now,
            updated: now,
            erased: None,
        };
        let response = proto::SubmitExchangeResponse {
            exchange: Some(exchange_of(&record)),
            warnings: task.opening.warnings.clone(),
            audit: None,
        };
        let open = NewExchange {
            exchange_id,
            kind: record.kind,
            sender: record.sender,
            recipient: record.recipient,
            matter_id: record.matter_id,
            region: task.envelope.region,
            track: task.opening.track,
            at: now,
            message: intake.store.seal_message(&exchange_id, 1, &message),
            delivery: new_delivery(intake, call, task.recipient),
        };
        let mut effects = vec![Effect::OpenExchange(Box::new(open))];
        effects.extend(named_digests(intake, exchange_id, call, &task.wire));
        Ok(Done { response, effects, reason: None, exchange: Some(exchange_id) })
    }
}

struct RespondToExchange;

/// A response as read.
struct Respond {
    wire: proto::Envelope,
    response: proto::Response,
    envelope: Envelope,
    answer: Answer,
    exchange_id: ExchangeId,
    found: Option<(ExchangeRecord, ExchangeState)>,
}

impl Operation for RespondToExchange {
    const METHOD: Method = Method::RespondToExchange;
    type Request = proto::RespondToExchangeRequest;
    type Response = proto::RespondToExchangeResponse;
    type Task = Respond;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<Respond> {
        let Reading { caller, now, violations, facts } = reading;
        let expect = Expectation { caller: *caller, recipient_optional: false, is_response: true };
        let envelope = envelope(violations, request.envelope.as_ref(), expect);
        facts.of_envelope(&envelope);
        let answer = response(violations, request.response.as_ref(), *now);
        let envelope = envelope.whole()?;
        let exchange_id = envelope.in_reply_to?;
        Some(Respond {
            wire: request.envelope?,
            response: request.response?,
            envelope,
            answer: answer?,
            exchange_id,
            found: None,
        })
    }
}

impl Effectful for RespondToExchange {
    async fn prepare(
        intake: &Intake,
        call: &Call,
        task: &mut Respond,
        facts: &mut Facts,
    ) -> Result<(), Refusal> {
        let found = intake.store.exchange(&task.exchange_id, &call.caller()).await;
        let record = found.map_err(|error| store_refusal(&error))?.ok_or(Refusal::NotFound)?;
        let (party, other) = if record.sender == call.caller() {
            (Party::Sender, record.recipient)
        } else {
            (Party::Recipient, record.sender)
        };
        facts.of_found(other);
        if record.erased.is_some() {
            return Err(Refusal::Erased);
        }
        let mut violations = Violations::new();
        if task.envelope.recipient != Some(other) {
            violations.add(
                "envelope.recipient",
                "RECIPIENT_IS_THE_OTHER_PARTY",
                "must be the other party of the exchange",
                "接收机构须为本事项的对方机构",
            );
        }
        if task.envelope.kind != record.kind {
            violations.add(
                "envelope.kind",
                "KIND_FITS_EXCHANGE",
                "must be the kind of the exchange",
                "类型须与本事项一致",
            );
        }
        if task.answer.only_for.is_some_and(|kind| kind != record.kind) {
            violations.add(
                "response",
                "RESPONSE_FITS_EXCHANGE",
                "does not fit this kind of exchange",
                "答复与本事项类型不符",
            );
        }
        let goes_on = matches!(task.answer.kind, ResponseKind::Progress | ResponseKind::SupplementRequest);
        if goes_on && record.messages >= MOST_MESSAGES {
            violations.add(
                "response",
                "THREAD_COMES_TO_AN_END",
                format!("after {MOST_MESSAGES} messages only what ends the exchange is taken"),
                format!("本事项往来已达{MOST_MESSAGES}条，仅接收办结类答复"),
            );
        }
        if let (ResponseKind::Receipt, Some(confirmed)) = (task.answer.kind, task.answer.confirms) {
            let opening = intake.store.message(&task.exchange_id, 1).await;
            if opening.map_err(|error| store_refusal(&error))?.sha256 != confirmed {
                violations.add(
                    "response.receipt.message_sha256",
                    "RECEIPT_BINDS_TO_MESSAGE",
                    "must be the digest of the delivered message",
                    "须为所送达消息的摘要",
                );
            }
        }
        if task.answer.only_for.is_some() {
            let thread = thread_of(intake, &task.exchange_id).await?;
            answer_fits(&mut violations, &task.response, &thread);
        }
        if !violations.is_empty() {
            return Err(Refusal::Invalid(violations.into_vec()));
        }
        check_named(intake, call, &task.wire).await?;
        let to = next_state(record.state, party, task.answer.kind).map_err(Refusal::IllegalTransition)?;
        task.found = Some((record, to));
        Ok(())
    }

    async fn act(intake: &Intake, call: &Call, task: &mut Respond) -> Result<Done<Self::Response>, Refusal> {
        let Some((record, to)) = task.found.clone() else { return Err(Refusal::Internal) };
        let Some(recipient) = task.envelope.recipient else { return Err(Refusal::Internal) };
        let (now, sequence) = (intake.clock.now(), record.messages + 1);
        let body = proto::exchange_message::Body::Response(task.response.clone());
        let message = message_bytes(record.exchange_id, sequence, task.wire.clone(), body, now);
        let add = NewMessage {
            exchange_id: record.exchange_id,
            sequence,
            from: record.state,
            to,
            response: task.answer.kind,
            due_on: task.answer.due_on,
            at: now,
            message: intake.store.seal_message(&record.exchange_id, sequence, &message),
            delivery: new_delivery(intake, call, recipient),
        };
        let after = ExchangeRecord { state: to, messages: sequence, updated: now, ..record };
        let response = proto::RespondToExchangeResponse { exchange: Some(exchange_of(&after)), audit: None };
        let mut effects = vec![Effect::AddMessage(Box::new(add))];
        effects.extend(named_digests(intake, after.exchange_id, call, &task.wire));
        // An auditor sees from the log alone that the exchange has ended.
        let reason = to.is_final().then_some(to.as_str());
        Ok(Done { response, effects, reason, exchange: Some(after.exchange_id) })
    }
}

/// The message as it is kept and delivered.
fn message_bytes(
    exchange_id: ExchangeId,
    sequence: u32,
    envelope: proto::Envelope,
    body: proto::exchange_message::Body,
    accepted: jiff::Timestamp,
) -> Vec<u8> {
    proto::ExchangeMessage {
        exchange_id: exchange_id.to_string(),
        sequence,
        envelope: Some(envelope),
        body: Some(body),
        accept_time: Some(timestamp(accepted)),
    }
    .encode_to_vec()
}

fn new_delivery(intake: &Intake, call: &Call, recipient: CreditCode) -> NewDelivery {
    let delivery_id = DeliveryId::new(entropy::uuid_v7(intake.clock.now()));
    NewDelivery { delivery_id, sender: call.caller(), recipient }
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    digest
}

/// How the requests of these methods are read.
#[cfg(any(test, fuzzing))]
pub(super) const READERS: &[super::fuzzing::Reader] =
    &[super::fuzzing::reader::<SubmitExchange>(), super::fuzzing::reader::<RespondToExchange>()];
