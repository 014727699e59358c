//! Taking deliveries: for agencies that have no server of their own.

use jiff::Timestamp;

use super::call::Call;
use super::intake::{Intake, store_refusal};
use super::operation::{Done, Effectful, Facts, Operation, Reading};
use super::proto;
use super::status::Refusal;
use super::wire::{call_context, delivery_id, digest, timestamp};
use crate::access::Method;
use crate::domain::agency::CreditCode;
use crate::domain::exchange::DeliveryId;
use crate::domain::violation::Violations;
use crate::entropy;
use crate::store::{DeliveryOutcome, DeliveryRecord, Due, Effect, MessageRecord, Parcel, Store, StoreError};

/// Bytes of messages in one answer: most clients take 4 MiB.
const PULLED_BYTES: u64 = 3 * 1024 * 1024;

/// Messages that cannot be read, of which so many are passed over for one answer.
const UNREADABLE: usize = 1_000;

/// `ExchangeService.PullDeliveries`.
pub(super) struct PullDeliveries;

impl Operation for PullDeliveries {
    const METHOD: Method = Method::PullDeliveries;
    type Request = proto::PullDeliveriesRequest;
    type Response = proto::PullDeliveriesResponse;
    type Task = u32;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<u32> {
        reading.facts.of_context(call_context(&mut reading.violations, request.context.as_ref()));
        match u32::try_from(request.max_deliveries) {
            Ok(0) => Some(10),
            Ok(most) if most <= 100 => Some(most),
            _ => {
                let violations = &mut reading.violations;
                violations.add("max_deliveries", "RANGE", "must be 0 to 100", "须为0至100");
                None
            }
        }
    }
}

impl Effectful for PullDeliveries {
    async fn prepare(_: &Intake, _: &Call, _: &mut u32, _: &mut Facts) -> Result<(), Refusal> {
        Ok(())
    }

    async fn act(intake: &Intake, call: &Call, most: &mut u32) -> Result<Done<Self::Response>, Refusal> {
        let now = intake.clock.now();
        let until = now.checked_add(intake.lease).unwrap_or(Timestamp::MAX);
        let (mut deliveries, mut effects) = (Vec::new(), Vec::new());
        let due = due(&intake.store, &call.caller(), now, *most).await;
        for (record, message) in due.map_err(|error| store_refusal(&error))? {
            deliveries.push(proto::Delivery {
                delivery_id: record.delivery_id.to_string(),
                message: message.message,
                message_sha256: message.sha256.to_vec(),
                attempt: record.attempts + 1,
            });
            effects.push(Effect::Lease {
                delivery_id: record.delivery_id,
                attempts: record.attempts,
                lease: entropy::uuid_v7(now),
                node: None,
                until,
            });
        }
        let response = proto::PullDeliveriesResponse {
            deliveries,
            lease_expire_time: Some(timestamp(until)),
            audit: None,
        };
        Ok(Done { response, effects, reason: None, exchange: None })
    }
}

/// At most so many deliveries that are due to an agency, and about so many bytes as an answer may have. What cannot be read is told
/// to the operator, and keeps no other back.
async fn due(
    store: &Store,
    to: &CreditCode,
    now: Timestamp,
    most: u32,
) -> Result<Vec<(DeliveryRecord, MessageRecord)>, StoreError> {
    let (mut found, mut unreadable) = (Vec::<(DeliveryRecord, MessageRecord)>::new(), Vec::new());
    loop {
        let passed_over = unreadable.len();
        let in_hand = found.iter().map(|(record, _)| record.delivery_id);
        let beside: Vec<_> = in_hand.chain(unreadable.iter().copied()).collect();
        let (due, _) = store.due_ahead(to, now, &beside, most - found.len() as u32).await?;
        let mut bytes: u64 = found.iter().map(|(_, message)| message.message.len() as u64).sum();
        let fits = |due: &&Due| {
            bytes += due.bytes;
            bytes <= PULLED_BYTES || bytes == due.bytes
        };
        let ids: Vec<_> = due.iter().take_while(fits).map(|due| due.delivery_id).collect();
        for Parcel { record, message } in store.parcels(to, now, &ids).await? {
            match message {
                Ok(message) => found.push((record, message)),
                Err(error) => {
                    tracing::error!(%error, delivery = %record.delivery_id, "message cannot be read");
                    unreadable.push(record.delivery_id);
                }
            }
        }
        if unreadable.len() == passed_over || unreadable.len() >= UNREADABLE || found.len() >= most as usize {
            return Ok(found);
        }
    }
}

/// `ExchangeService.AcknowledgeDelivery`.
pub(super) struct AcknowledgeDelivery;

/// An acknowledgement as read.
pub(super) struct Acknowledge {
    delivery_id: DeliveryId,
    sha256: [u8; 32],
    found: Option<DeliveryRecord>,
}

impl Operation for AcknowledgeDelivery {
    const METHOD: Method = Method::AcknowledgeDelivery;
    type Request = proto::AcknowledgeDeliveryRequest;
    type Response = proto::AcknowledgeDeliveryResponse;
    type Task = Acknowledge;

    fn read(request: Self::Request, reading: &mut Reading) -> Option<Acknowledge> {
        reading.facts.of_context(call_context(&mut reading.violations, request.context.as_ref()));
        let delivery_id = delivery_id(&mut reading.violations, "delivery_id", &request.delivery_id);
        reading.facts.delivery = delivery_id;
        let sha256 = digest(&mut reading.violations, "message_sha256", &request.message_sha256);
        Some(Acknowledge { delivery_id: delivery_id?, sha256: sha256?, found: None })
    }
}

impl Effectful for AcknowledgeDelivery {
    async fn prepare(
        intake: &Intake,
        call: &Call,
        task: &mut Acknowledge,
        facts: &mut Facts,
    ) -> Result<(), Refusal> {
        let found = intake.store.delivery(&task.delivery_id, &call.caller()).await;
        let record = found.map_err(|error| store_refusal(&error))?.ok_or(Refusal::NotFound)?;
        facts.exchange = Some(record.exchange_id);
        let message = intake.store.message(&record.exchange_id, record.sequence).await;
        if message.map_err(|error| store_refusal(&error))?.sha256 != task.sha256 {
            let mut violations = Violations::new();
            violations.add(
                "message_sha256",
                "ACKNOWLEDGES_THE_MESSAGE",
                "must be the digest of the delivered message",
                "须为所送达消息的摘要",
            );
            return Err(Refusal::Invalid(violations.into_vec()));
        }
        task.found = Some(record);
        Ok(())
    }

    async fn act(intake: &Intake, _: &Call, task: &mut Acknowledge) -> Result<Done<Self::Response>, Refusal> {
        let already = task.found.as_ref().is_some_and(|record| record.delivered);
        let open = task.found.as_ref().filter(|record| !record.delivered);
        let settle = open.map(|record| Effect::Settle {
            delivery_id: record.delivery_id,
            exchange_id: record.exchange_id,
            lease: None,
            outcome: DeliveryOutcome::Delivered,
            at: intake.clock.now(),
        });
        let response = proto::AcknowledgeDeliveryResponse { already_acknowledged: already, audit: None };
        Ok(Done {
            response,
            effects: settle.into_iter().collect(),
            reason: None,
            exchange: task.found.as_ref().map(|record| record.exchange_id),
        })
    }
}
