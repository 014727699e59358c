//! What becomes durable together with an audit entry.

mod one_by_one;
mod sets;

use jiff::Timestamp;
use jiff::civil::Date;
use uuid::Uuid;

pub(super) use self::one_by_one::{exactly_one, insert_delivery, insert_message};
use super::StoreError;
use super::agreements::AgreementChange;
use super::database::{Connection, sql};
use super::finding_marks::NewMark;
use super::keys::KeyAdoption;
use super::outbox::OutboxChange;
use super::quotas::QuotaUse;
use super::removals::{NewRemoval, RemovalEnd, RemovalStep};
use super::verifications::{NewVerification, VerificationStep};
use crate::audit::log::Batch;
use crate::domain::agency::CreditCode;
use crate::domain::clocks::Clocks;
use crate::domain::exchange::{
    DeliveryId, ExchangeId, ExchangeState, Kind, RequestId, ResponseKind, VerificationId,
};
use crate::domain::region::RegionCode;

/// A change of the store that is made in the transaction of the entry that witnesses it.
#[derive(Debug)]
pub enum Effect {
    /// Takes a request id for a call that is about to have effect.
    Claim {
        /// Who calls.
        caller: CreditCode,
        /// The caller's id.
        request_id: RequestId,
        /// Keyed digest of method and request: unkeyed, it would confirm a guess at the request.
        digest: [u8; 32],
    },
    /// Keeps the answer, to give it again to the same request id.
    Outcome {
        /// Who called.
        caller: CreditCode,
        /// The caller's id.
        request_id: RequestId,
        /// Index of the REQUEST entry.
        request_index: u64,
        /// The sealed answer.
        response: Vec<u8>,
        /// When it was given.
        at: Timestamp,
    },
    /// Gives a request id back: the call had no effect and may be tried again.
    Release {
        /// Who called.
        caller: CreditCode,
        /// The caller's id.
        request_id: RequestId,
        /// Index of the REQUEST entry that took the id; a later taking of it stays.
        request_index: u64,
    },
    /// Opens an exchange.
    OpenExchange(Box<NewExchange>),
    /// Adds a message to an exchange.
    AddMessage(Box<NewMessage>),
    /// Notes which attachments a message names: its sender's own are then readable by the exchange's parties.
    NameAttachments {
        /// The exchange.
        exchange_id: ExchangeId,
        /// Whose message it is.
        named_by: CreditCode,
        /// Keyed digests.
        digests: Vec<[u8; 32]>,
    },
    /// Ends an upload: all of it is stored and was checked.
    CompleteAttachment {
        /// The attachment.
        attachment_id: Uuid,
        /// When.
        at: Timestamp,
    },
    /// Takes a delivery for an attempt.
    Lease {
        /// The delivery.
        delivery_id: DeliveryId,
        /// Attempts made before; guards against two takers.
        attempts: u32,
        /// Names the taker.
        lease: Uuid,
        /// The gateway that delivers; `None` when the recipient pulls.
        node: Option<String>,
        /// Until when; then it may be taken again.
        until: Timestamp,
    },
    /// Ends an attempt.
    Settle {
        /// The delivery.
        delivery_id: DeliveryId,
        /// The exchange whose message it delivers.
        exchange_id: ExchangeId,
        /// The taker's lease; `None` when the recipient itself acknowledges a pulled delivery.
        lease: Option<Uuid>,
        /// How it ended.
        outcome: DeliveryOutcome,
        /// When.
        at: Timestamp,
    },
    /// Begins a removal; the gateway carries it out step by step.
    BeginRemoval(Box<NewRemoval>),
    /// One step of a removal.
    Remove(Box<RemovalStep>),
    /// Ends a removal.
    EndRemoval(RemovalEnd),
    /// Takes a key into use.
    AdoptKey(Box<KeyAdoption>),
    /// Keeps a question that is asked again later.
    PutOff(Box<NewVerification>),
    /// Takes a verification for an attempt.
    AskAgain {
        /// The verification.
        verification_id: VerificationId,
        /// Attempts made before; guards against two takers.
        attempts: u32,
        /// Until when; then it may be taken again.
        until: Timestamp,
    },
    /// Ends an attempt, or the verification.
    Step {
        /// The verification.
        verification_id: VerificationId,
        /// Attempts made, this one too.
        attempts: u32,
        /// How it ended.
        step: VerificationStep,
        /// When.
        at: Timestamp,
    },
    /// Raises OVERDUE for a clock that has come to its end.
    RaiseOverdue {
        /// The exchange.
        exchange_id: ExchangeId,
        /// Names the clock.
        clock: String,
        /// Which of its rounds.
        round: u32,
        /// When.
        at: Timestamp,
    },
    /// Deems an exchange withdrawn, because no supplement came in time.
    DeemWithdrawn(Box<DeemedWithdrawal>),
    /// Keeps an auditor's mark of a finding.
    MarkFinding(Box<NewMark>),
    /// Does what an operator asks of the outbox.
    Operate(OutboxChange),
    /// Puts in, approves or ends a version of an agreement.
    ChangeAgreement(Box<AgreementChange>),
    /// Counts a call against the quota of its agreement.
    CountUse(Box<QuotaUse>),
    /// Says that no REQUEST below an index waits any more, of a node whose place another has taken.
    Adopt {
        /// The node.
        node: String,
        /// As who has taken its place knows it; guards against its return.
        epoch: i64,
        /// The index.
        open_from: u64,
    },
}

/// How an attempt to deliver ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The recipient has it.
    Delivered,
    /// To be tried again.
    Retry {
        /// Not before.
        due: Timestamp,
        /// Why it failed, in UPPER_SNAKE.
        reason: &'static str,
    },
    /// Given up; an operator can redeliver.
    Dead {
        /// Why, in UPPER_SNAKE.
        reason: &'static str,
    },
}

/// An exchange to open, with its first message.
#[derive(Debug)]
pub struct NewExchange {
    /// Its id.
    pub exchange_id: ExchangeId,
    /// Its kind.
    pub kind: Kind,
    /// Who opens it.
    pub sender: CreditCode,
    /// To whom it goes.
    pub recipient: CreditCode,
    /// The sender's matter.
    pub matter_id: String,
    /// Region code.
    pub region: RegionCode,
    /// Which course within its kind it takes, where clocks depend on that: a word of A to Z and `_`.
    pub track: Option<&'static str>,
    /// When it was accepted.
    pub at: Timestamp,
    /// The sealed opening message.
    pub message: Vec<u8>,
    /// The delivery to the recipient.
    pub delivery: NewDelivery,
}

/// A message to add to an exchange.
#[derive(Debug)]
pub struct NewMessage {
    /// The exchange.
    pub exchange_id: ExchangeId,
    /// Its place in the thread; guards against two at once.
    pub sequence: u32,
    /// State of the exchange before; guards likewise, see [`ExchangeState::or_arrived`].
    pub from: ExchangeState,
    /// State after.
    pub to: ExchangeState,
    /// What the message is.
    pub response: ResponseKind,
    /// The last day that the message sets for the other party.
    pub due_on: Option<Date>,
    /// When it was accepted.
    pub at: Timestamp,
    /// The sealed message.
    pub message: Vec<u8>,
    /// The delivery to the other party.
    pub delivery: NewDelivery,
}

/// The gateway's own message that ends an exchange, to both parties.
#[derive(Debug)]
pub struct DeemedWithdrawal {
    /// The exchange.
    pub exchange_id: ExchangeId,
    /// Names the clock that ended.
    pub clock: String,
    /// Which of its rounds; guards against papers that came, and new ones that were asked for, meanwhile.
    pub round: u32,
    /// The message's place in the thread; guards against a supplement at the same time.
    pub sequence: u32,
    /// When.
    pub at: Timestamp,
    /// The sealed message.
    pub message: Vec<u8>,
    /// One delivery to each party.
    pub deliveries: [NewDelivery; 2],
}

/// A delivery to put in the outbox.
#[derive(Debug)]
pub struct NewDelivery {
    /// Its id.
    pub delivery_id: DeliveryId,
    /// Whose message it is: of what waits for the recipient, each sender has its share.
    pub sender: CreditCode,
    /// To whom.
    pub recipient: CreditCode,
}

/// Why an effect cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The request id is taken.
    Claimed,
    /// The exchange, delivery or agreement changed meanwhile.
    Conflict,
    /// Nothing is left of the agreement's quota.
    QuotaSpent,
}

/// Whether an effect is a row of a batch (see [`super::rows`]), written with its entries.
fn is_row(effect: &Effect) -> bool {
    matches!(effect, Effect::Claim { .. } | Effect::Outcome { .. })
}

/// Whether all effects of a batch are rows of it.
pub(super) fn is_rows_only(batch: &Batch<Effect>) -> bool {
    batch.leaves.iter().flat_map(|leaf| &leaf.effects).all(is_row)
}

/// Makes the effects of a batch that are not rows of it, in a transaction that begins with `SAVEPOINT untouched`. Returns those
/// that cannot be made, by place of their leaf.
pub(super) async fn apply(
    connection: &mut Connection<'_>,
    clocks: &Clocks,
    batch: &Batch<Effect>,
) -> Result<Vec<(usize, Rejection)>, StoreError> {
    if sets::apply(connection, clocks, batch).await? {
        return Ok(Vec::new());
    }
    sql("ROLLBACK TO SAVEPOINT untouched").execute(&mut *connection).await?;
    one_by_one::apply(connection, clocks, batch).await
}

#[cfg(test)]
mod tests;
