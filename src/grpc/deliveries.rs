//! The operator's work on deliveries: what waits, what was given up, and having it tried again. No content, and no
//! person.

use jiff::Timestamp;

use super::call::Call;
use super::intake::{Intake, store_refusal};
use super::operation::{Done, Effectful, Facts, Lookup, Operation, Reading};
use super::page::{PageToken, page_size};
use super::proto;
use super::status::Refusal;
use super::wire::{
    call_context, delivery_id, delivery_state_of, exchange_id, outbox_delivery_of, redelivery_reason,
};
use crate::access::Method;
use crate::domain::agency::CreditCode;
use crate::domain::exchange::{DeliveryId, DeliveryState, ExchangeId};
use crate::store::{Effect, OutboxChange, OutboxFilter, OutboxRecord};

/// `ExchangeService.ListDeliveries`.
pub(super) struct ListDeliveries;

/// A list as asked for.
pub(super) struct List {
    state: Option<DeliveryState>,
    recipient: Option<CreditCode>,
    created_before: Option<Timestamp>,
    page_size: u32,
    token: String,
}

impl List {
    /// What a page token is bound to.
    fn filter_key(&self) -> String {
        let state = self.state.map_or("", DeliveryState::as_str);
        let recipient = self.recipient.as_ref().map_or("", CreditCode::as_str);
        let before = self.created_before.map(Timestamp::as_microsecond).unwrap_or_default();
        format!("deliveries\0{state}\0{recipient}\0{before}")
    }
}

impl Operation for ListDeliveries {
    const METHOD: Method = Method::ListDeliveries;
    type Request = proto::ListDeliveriesRequest;
    type Response = proto::ListDeliveriesResponse;
    type Task = List;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<List> {
        let violations = &mut reading.violations;
        reading.facts.of_context(call_context(violations, request.context.as_ref()));
        let state = delivery_state_of(request.state);
        if request.state != 0 && state.is_none() {
            violations.add("state", "UNKNOWN_VALUE", "not a value that this version knows", "无法识别的取值");
        }
        let recipient = match request.recipient.as_str() {
            "" => None,
            code => violations.check("recipient", CreditCode::parse(code)),
        };
        let created_before =
            request.created_before.map(|at| Timestamp::new(at.seconds, at.nanos).map_err(|_| ()));
        if created_before == Some(Err(())) {
            violations.add("created_before", "TIME", "is not a time", "时间无效");
        }
        let page_size = page_size(violations, request.page_size, 50, 500)?;
        let created_before = created_before.and_then(Result::ok);
        Some(List { state, recipient, created_before, page_size, token: request.page_token })
    }
}

impl Lookup for ListDeliveries {
    async fn look_up(
        intake: &Intake,
        _: &Call,
        list: List,
        _: &mut Facts,
    ) -> Result<Self::Response, Refusal> {
        let token = PageToken::new(&intake.pseudonyms, list.filter_key());
        let after = match token.open(&list.token)? {
            None => None,
            Some(bytes) => Some(place(&bytes).ok_or(Refusal::Internal)?),
        };
        let List { state, recipient, created_before, page_size, .. } = list;
        let created_before = created_before.unwrap_or(Timestamp::MAX);
        let filter = OutboxFilter { state, recipient, created_before, after };
        let found = intake.store.outbox(&filter, page_size + 1).await;
        let mut found = found.map_err(|error| store_refusal(&error))?;
        let more = found.len() > page_size as usize;
        found.truncate(page_size as usize);
        let last = found.last().filter(|_| more);
        let next_page_token = last.map(|last| token.seal(&place_of(last))).unwrap_or_default();
        let deliveries = found.iter().map(outbox_delivery_of).collect();
        Ok(proto::ListDeliveriesResponse { deliveries, next_page_token, audit: None })
    }
}

/// A delivery's place in the list, as a page token carries it.
fn place_of(record: &OutboxRecord) -> Vec<u8> {
    [&record.created.as_microsecond().to_be_bytes()[..], record.delivery_id.as_bytes()].concat()
}

fn place(bytes: &[u8]) -> Option<(Timestamp, DeliveryId)> {
    let (micros, id) = bytes.split_at_checked(8)?;
    let created = Timestamp::from_microsecond(i64::from_be_bytes(micros.try_into().ok()?)).ok()?;
    Some((created, DeliveryId::from_slice(id)?))
}

/// `ExchangeService.GetDelivery`.
pub(super) struct GetDelivery;

impl Operation for GetDelivery {
    const METHOD: Method = Method::GetDelivery;
    type Request = proto::GetDeliveryRequest;
    type Response = proto::GetDeliveryResponse;
    type Task = DeliveryId;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<DeliveryId> {
        reading.facts.of_context(call_context(&mut reading.violations, request.context.as_ref()));
        let id = delivery_id(&mut reading.violations, "delivery_id", &request.delivery_id);
        reading.facts.delivery = id;
        id
    }
}

impl Lookup for GetDelivery {
    async fn look_up(
        intake: &Intake,
        _: &Call,
        id: DeliveryId,
        facts: &mut Facts,
    ) -> Result<Self::Response, Refusal> {
        let record = find(intake, &id).await?;
        facts.exchange = Some(record.exchange_id);
        Ok(proto::GetDeliveryResponse { delivery: Some(outbox_delivery_of(&record)), audit: None })
    }
}

async fn find(intake: &Intake, id: &DeliveryId) -> Result<OutboxRecord, Refusal> {
    let found = intake.store.outbox_delivery(id).await;
    found.map_err(|error| store_refusal(&error))?.ok_or(Refusal::NotFound)
}

/// `ExchangeService.RetryDelivery`.
pub(super) struct RetryDelivery;

/// A delivery to try now.
pub(super) struct Retry {
    delivery_id: DeliveryId,
    found: Option<OutboxRecord>,
}

impl Operation for RetryDelivery {
    const METHOD: Method = Method::RetryDelivery;
    type Request = proto::RetryDeliveryRequest;
    type Response = proto::RetryDeliveryResponse;
    type Task = Retry;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<Retry> {
        reading.facts.of_context(call_context(&mut reading.violations, request.context.as_ref()));
        let delivery_id = delivery_id(&mut reading.violations, "delivery_id", &request.delivery_id);
        reading.facts.delivery = delivery_id;
        Some(Retry { delivery_id: delivery_id?, found: None })
    }
}

impl Effectful for RetryDelivery {
    async fn prepare(intake: &Intake, _: &Call, task: &mut Retry, facts: &mut Facts) -> Result<(), Refusal> {
        let record = find(intake, &task.delivery_id).await?;
        facts.exchange = Some(record.exchange_id);
        if record.state != DeliveryState::Pending {
            return Err(Refusal::NotWaiting(record.state));
        }
        task.found = Some(record);
        Ok(())
    }

    async fn act(intake: &Intake, _: &Call, task: &mut Retry) -> Result<Done<Self::Response>, Refusal> {
        let Some(record) = task.found.clone() else { return Err(Refusal::Internal) };
        let at = intake.clock.now();
        let delivery = outbox_delivery_of(&OutboxRecord { due: at, ..record });
        Ok(Done {
            response: proto::RetryDeliveryResponse { delivery: Some(delivery), audit: None },
            effects: vec![Effect::Operate(OutboxChange::RetryNow { delivery_id: task.delivery_id, at })],
            reason: None,
            exchange: task.found.as_ref().map(|record| record.exchange_id),
        })
    }
}

/// `ExchangeService.RedeliverExchange`.
pub(super) struct RedeliverExchange;

/// An exchange to deliver again.
pub(super) struct Redeliver {
    exchange_id: ExchangeId,
    reason: &'static str,
    given_up: Vec<OutboxRecord>,
}

impl Operation for RedeliverExchange {
    const METHOD: Method = Method::RedeliverExchange;
    type Request = proto::RedeliverExchangeRequest;
    type Response = proto::RedeliverExchangeResponse;
    type Task = Redeliver;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<Redeliver> {
        reading.facts.of_context(call_context(&mut reading.violations, request.context.as_ref()));
        let exchange_id = exchange_id(&mut reading.violations, "exchange_id", &request.exchange_id);
        reading.facts.exchange = exchange_id;
        let reason = redelivery_reason(&mut reading.violations, "reason", request.reason);
        Some(Redeliver { exchange_id: exchange_id?, reason: reason?, given_up: Vec::new() })
    }
}

impl Effectful for RedeliverExchange {
    async fn prepare(intake: &Intake, _: &Call, task: &mut Redeliver, _: &mut Facts) -> Result<(), Refusal> {
        let found = intake.store.deliveries_of(&task.exchange_id).await;
        let mut found = found.map_err(|error| store_refusal(&error))?;
        if found.is_empty() {
            return Err(Refusal::NotFound);
        }
        found.retain(|record| record.state == DeliveryState::Dead);
        if found.is_empty() {
            return Err(Refusal::NothingGivenUp);
        }
        if intake.store.is_erased(&task.exchange_id).await.map_err(|error| store_refusal(&error))? {
            return Err(Refusal::Erased);
        }
        task.given_up = found;
        Ok(())
    }

    async fn act(intake: &Intake, _: &Call, task: &mut Redeliver) -> Result<Done<Self::Response>, Refusal> {
        let (at, exchange_id) = (intake.clock.now(), task.exchange_id);
        let again = |record: &OutboxRecord| {
            let state = DeliveryState::Pending;
            outbox_delivery_of(&OutboxRecord { state, due: at, settled: None, ..record.clone() })
        };
        let deliveries = task.given_up.iter().map(again).collect();
        Ok(Done {
            response: proto::RedeliverExchangeResponse { deliveries, audit: None },
            effects: vec![Effect::Operate(OutboxChange::Redeliver { exchange_id, at })],
            reason: Some(task.reason),
            exchange: Some(exchange_id),
        })
    }
}
