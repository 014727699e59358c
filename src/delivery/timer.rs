//! The timer: raises OVERDUE for clocks of the law that have come to their end, and ends exchanges for which no
//! supplement came in time.
//!
//! A clock stops in the transaction of the message that stops it, and is marked there where the message came late but
//! before the timer's look. What came to its end while the gateway stood still is found at the first look after its start.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prost::Message;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::audit::entry::{Entry, Phase, Salt};
use crate::clock::Clock;
use crate::domain::agency::CreditCode;
use crate::domain::clocks::Clocks;
use crate::domain::exchange::{DeliveryId, Step};
use crate::entropy;
use crate::grpc::proto;
use crate::grpc::wire::{date, kind_of, timestamp};
use crate::store::{
    AuditLog, DeemedWithdrawal, DueClock, Effect, ExchangeRecord, NewDelivery, Store, StoreError,
};

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Clocks raised between two looks; more wait for the next look, which follows at once.
const AT_ONCE: u32 = 128;

/// What the timer's entries name as the service.
const TIMER: &str = "timer";

/// What the timer works with.
#[derive(Clone)]
pub struct Timer {
    /// The database.
    pub store: Store,
    /// The audit log.
    pub log: AuditLog,
    /// The clocks of the law.
    pub clocks: Arc<Clocks>,
    /// What time it is.
    pub clock: Clock,
    /// This node's name.
    pub node: String,
    /// The gateway's own agency.
    pub own: CreditCode,
    /// Woken when a notice waits in the outbox.
    pub outbox: Arc<Notify>,
}

impl Timer {
    /// Looks until `stop` ends.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        loop {
            let more = match self.look().await {
                Ok(more) => more,
                Err(error) => {
                    tracing::warn!(%error, "due clocks cannot be read");
                    false
                }
            };
            let wait = if more { Duration::ZERO } else { LOOK_EVERY };
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Raises what is due now, at most [`AT_ONCE`]. Returns whether there may be more that can be raised.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn look(&self) -> Result<bool, StoreError> {
        let due = self.store.due_clocks(self.clock.now(), AT_ONCE).await?;
        let is_full = due.len() >= AT_ONCE as usize;
        let mut raised = JoinSet::new();
        for clock in due {
            let timer = self.clone();
            raised.spawn(async move { timer.raise(clock).await });
        }
        let mut any = false;
        while let Some(ended) = raised.join_next().await {
            match ended {
                Ok(Ok(moved)) => any |= moved,
                Ok(Err(error)) => tracing::warn!(%error, "a due clock cannot be raised"),
                Err(_) => tracing::error!("raising a clock panicked"),
            }
        }
        // While the log takes no entries, looking again at once would only keep the machine busy.
        Ok(is_full && any)
    }

    /// Raises one clock, with its entry. Returns whether it was: not when it stopped meanwhile, and not while the
    /// log takes no entries.
    async fn raise(&self, due: DueClock) -> Result<bool, StoreError> {
        let Some(exchange) = self.store.exchange_for_the_gateway(&due.exchange_id).await? else {
            return Err(StoreError::Inconsistent { table: "running_clocks", column: "exchange_id" });
        };
        let now = self.clock.now();
        let lapses = self.clocks.lapses(&due.clock, exchange.kind) && exchange.state == Step::Lapse.moves().0;
        let (method, effect) = if lapses {
            ("DeemWithdrawn", Effect::DeemWithdrawn(Box::new(self.withdrawal(&due, &exchange, now))))
        } else {
            let DueClock { exchange_id, clock, round, .. } = due.clone();
            ("RaiseOverdue", Effect::RaiseOverdue { exchange_id, clock, round, at: now })
        };
        let id = entropy::uuid_v7(now);
        let mut entry = Entry::new(id, Phase::Event, now, TIMER, method, &self.node);
        entry.caller = Some(self.own.to_string());
        // The counterpart is the party that was to act: for papers the sender, else the recipient.
        let late =
            if self.clocks.waits_for_sender(&due.clock) { exchange.sender } else { exchange.recipient };
        entry.counterpart = Some(late.to_string());
        entry.exchange = Some(exchange.exchange_id.uuid());
        entry.kind = Some(exchange.kind.as_str().into());
        entry.matter = Some(exchange.matter_id);
        entry.reason = Some(due.clock.into());
        entry.legal_basis = due.articles;
        let appended = self.log.append(entry, Salt(entropy::bytes()), vec![effect]).await;
        if appended.is_ok() && lapses {
            self.outbox.notify_one();
        }
        Ok(appended.is_ok())
    }

    /// The notice that ends the exchange, and its way to both parties.
    fn withdrawal(&self, due: &DueClock, exchange: &ExchangeRecord, now: Timestamp) -> DeemedWithdrawal {
        let sequence = exchange.messages + 1;
        let notice = proto::DeemedWithdrawal {
            due_on: due.due_on.map(date),
            clock_id: due.clock.clone(),
            articles: due.articles.clone(),
        };
        let message = proto::ExchangeMessage {
            exchange_id: exchange.exchange_id.to_string(),
            sequence,
            envelope: Some(proto::Envelope {
                matter_id: exchange.matter_id.clone(),
                kind: kind_of(exchange.kind).into(),
                sender: self.own.to_string(),
                region: exchange.region.clone(),
                in_reply_to: exchange.exchange_id.to_string(),
                ..Default::default()
            }),
            body: Some(proto::exchange_message::Body::Notice(proto::Notice {
                kind: Some(proto::notice::Kind::DeemedWithdrawal(notice)),
            })),
            accept_time: Some(timestamp(now)),
        };
        let sealed = self.store.seal_message(&exchange.exchange_id, sequence, &message.encode_to_vec());
        let deliveries = [exchange.sender, exchange.recipient].map(|recipient| NewDelivery {
            delivery_id: DeliveryId::new(entropy::uuid_v7(now)),
            sender: self.own,
            recipient,
        });
        DeemedWithdrawal {
            exchange_id: exchange.exchange_id,
            clock: due.clock.clone(),
            round: due.round,
            sequence,
            at: now,
            message: sealed,
            deliveries,
        }
    }
}
