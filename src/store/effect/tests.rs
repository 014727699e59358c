use jiff::SignedDuration;
use jiff::civil::date;

use super::one_by_one::apply_one;
use super::*;
use crate::audit::removal::RemovalKind;
use crate::store::databases_in_tests::{Place, on_each_database};
use crate::store::removals::Standing;
use crate::store::{DueClock, OutboxChange, Store};

/// Monday, 2026-11-02, ten o'clock in Shanghai.
const MONDAY: Timestamp = Timestamp::constant(1_793_584_800, 0);

fn days(days: i64) -> Timestamp {
    MONDAY + SignedDuration::from_hours(24 * days)
}

fn delivery(number: u128) -> NewDelivery {
    let recipient = CreditCode::parse("11331004MB00000031").unwrap();
    NewDelivery { delivery_id: DeliveryId::new(Uuid::from_u128(number)), sender: recipient, recipient }
}

/// An exchange that was opened, and a delivery of its opening message.
struct Matter {
    store: Store,
    clocks: Clocks,
    exchange_id: ExchangeId,
    messages: u32,
    state: ExchangeState,
}

impl Matter {
    async fn open(place: &Place) -> Self {
        let store = place.open().await;
        let exchange_id = ExchangeId::new(Uuid::from_u128(1));
        let new = NewExchange {
            exchange_id,
            kind: Kind::FeeWaiver,
            sender: CreditCode::parse("12331004MB0000002T").unwrap(),
            recipient: delivery(1).recipient,
            matter_id: "M-1".to_owned(),
            region: RegionCode::parse("331004").unwrap(),
            track: None,
            at: MONDAY,
            message: vec![1],
            delivery: delivery(1),
        };
        let clocks = Clocks::built_in().unwrap();
        let state = ExchangeState::Submitted;
        let matter = Self { store, clocks, exchange_id, messages: 1, state };
        matter.apply(Effect::OpenExchange(Box::new(new))).await.unwrap();
        matter
    }

    async fn apply(&self, effect: Effect) -> Result<(), Rejection> {
        let mut connection = self.store.writer.acquire().await.unwrap();
        apply_one(&mut connection.connection(), &self.clocks, &effect, 0).await.unwrap()
    }

    async fn settle(&self, lease: Option<Uuid>, outcome: DeliveryOutcome, at: Timestamp) {
        let delivery_id = delivery(1).delivery_id;
        self.apply(Effect::Settle { delivery_id, exchange_id: self.exchange_id, lease, outcome, at })
            .await
            .unwrap();
    }

    async fn say(&mut self, response: ResponseKind, to: ExchangeState, at: Timestamp, due_on: Option<Date>) {
        self.messages += 1;
        let message = NewMessage {
            exchange_id: self.exchange_id,
            sequence: self.messages,
            from: std::mem::replace(&mut self.state, to),
            to,
            response,
            due_on,
            at,
            message: vec![1],
            delivery: delivery(100 + u128::from(self.messages)),
        };
        self.apply(Effect::AddMessage(Box::new(message))).await.unwrap();
    }

    fn withdrawal(&self, due: &DueClock, at: Timestamp) -> Effect {
        Effect::DeemWithdrawn(Box::new(DeemedWithdrawal {
            exchange_id: due.exchange_id,
            clock: due.clock.clone(),
            round: due.round,
            sequence: self.messages + 1,
            at,
            message: vec![1],
            deliveries: [delivery(201), delivery(202)],
        }))
    }

    async fn state_now(&self) -> ExchangeState {
        self.store.exchange_for_the_gateway(&self.exchange_id).await.unwrap().unwrap().state
    }
}

on_each_database! {
async fn papers_that_came_meanwhile_stop_the_withdrawal_although_more_are_asked_for(place: Place) {
    use ExchangeState as S;
    use ResponseKind as R;
    let mut matter = Matter::open(&place).await;
    matter.settle(None, DeliveryOutcome::Delivered, MONDAY).await;
    matter.state = S::Delivered;
    matter.say(R::Receipt, S::Received, MONDAY, None).await;
    matter.say(R::SupplementRequest, S::SupplementRequested, MONDAY, Some(date(2026, 11, 3))).await;
    let [first] = matter.store.due_clocks(days(2), 10).await.unwrap().try_into().unwrap();
    // The timer has read that the first clock is due; before its turn comes, both parties speak.
    matter.say(R::Supplement, S::Supplemented, days(2), None).await;
    matter.say(R::SupplementRequest, S::SupplementRequested, days(2), Some(date(2026, 11, 6))).await;
    assert_eq!(matter.apply(matter.withdrawal(&first, days(2))).await, Err(Rejection::Conflict));
    assert_eq!(matter.state_now().await, S::SupplementRequested);

    let [second] = matter.store.due_clocks(days(5), 10).await.unwrap().try_into().unwrap();
    assert_eq!(second.round, 2);
    let too_early = matter.withdrawal(&second, days(3));
    assert_eq!(matter.apply(too_early).await, Err(Rejection::Conflict));
    matter.apply(matter.withdrawal(&second, days(5))).await.unwrap();
    assert_eq!(matter.state_now().await, S::DeemedWithdrawn);
    matter.store.close().await;
}

async fn an_answer_that_comes_late_but_before_the_timers_look_is_late_all_the_same(place: Place) {
    use ExchangeState as S;
    use ResponseKind as R;
    for (decided, is_late) in [(days(7), false), (days(8), true)] {
        let mut matter = Matter::open(&place.another()).await;
        matter.settle(None, DeliveryOutcome::Delivered, MONDAY).await;
        matter.state = S::Delivered;
        matter.say(R::Receipt, S::Received, MONDAY, None).await;
        matter.say(R::Decision, S::Decided, decided, None).await;
        let clocks = matter.store.clocks_of(&[matter.exchange_id]).await.unwrap();
        let [clock] = clocks[&matter.exchange_id].as_slice() else { panic!("one clock runs") };
        assert_eq!(clock.stopped, Some(decided));
        assert_eq!(clock.overdue_since, is_late.then_some(clock.due));
        matter.store.close().await;
    }
}

async fn what_was_given_up_and_then_acknowledged_has_arrived_and_its_clock_runs(place: Place) {
    let matter = Matter::open(&place).await;
    let delivery_id = delivery(1).delivery_id;
    let lease = Uuid::from_u128(7);
    matter.apply(Effect::Lease { delivery_id, attempts: 0, lease, node: None, until: days(1) }).await.unwrap();
    matter.settle(Some(lease), DeliveryOutcome::Dead { reason: "TOO_OLD" }, days(1)).await;
    assert_eq!(matter.state_now().await, ExchangeState::Undeliverable);
    matter.settle(None, DeliveryOutcome::Delivered, days(2)).await;
    assert_eq!(matter.state_now().await, ExchangeState::Delivered);
    let clocks = matter.store.clocks_of(&[matter.exchange_id]).await.unwrap();
    assert_eq!(clocks[&matter.exchange_id][0].started, days(2));
    matter.store.close().await;
}

async fn what_is_redelivered_waits_again_counts_its_age_anew_and_starts_its_clocks_when_it_arrives(place: Place) {
    let matter = Matter::open(&place).await;
    let (exchange_id, delivery_id) = (matter.exchange_id, delivery(1).delivery_id);
    let redeliver = |at| Effect::Operate(OutboxChange::Redeliver { exchange_id, at });
    assert_eq!(matter.apply(redeliver(days(1))).await, Err(Rejection::Conflict), "nothing was given up");
    let lease = Uuid::from_u128(7);
    matter.apply(Effect::Lease { delivery_id, attempts: 0, lease, node: None, until: days(1) }).await.unwrap();
    matter.settle(Some(lease), DeliveryOutcome::Dead { reason: "TOO_OLD" }, days(7)).await;
    matter.apply(redeliver(days(8))).await.unwrap();
    assert_eq!(matter.state_now().await, ExchangeState::Submitted);
    let recipient = delivery(1).recipient;
    let [due] = matter.store.parcels(&recipient, days(8), &[delivery_id]).await.unwrap().try_into().unwrap();
    assert_eq!((due.record.attempts, due.record.attempts_before, due.record.since), (1, 1, days(8)));

    // Who held a lease before it was given up can no longer settle it.
    let late =
        Effect::Settle { delivery_id, exchange_id: matter.exchange_id, lease: Some(lease), outcome: DeliveryOutcome::Delivered, at: days(8) };
    assert_eq!(matter.apply(late).await, Err(Rejection::Conflict));
    let lease = Uuid::from_u128(8);
    matter.apply(Effect::Lease { delivery_id, attempts: 1, lease, node: None, until: days(9) }).await.unwrap();
    matter.settle(Some(lease), DeliveryOutcome::Delivered, days(9)).await;
    assert_eq!(matter.state_now().await, ExchangeState::Delivered);
    let clocks = matter.store.clocks_of(&[exchange_id]).await.unwrap();
    assert_eq!(clocks[&exchange_id].last().unwrap().started, days(9));
    matter.store.close().await;
}

async fn a_lease_of_a_gateway_that_ended_is_released_and_one_of_an_agency_that_pulls_is_not(place: Place) {
    let matter = Matter::open(&place).await;
    let (delivery_id, recipient) = (delivery(1).delivery_id, delivery(1).recipient);
    let (store, lease) = (&matter.store, Uuid::from_u128(7));
    let taken = |attempts, node: Option<&str>| {
        let node = node.map(str::to_owned);
        Effect::Lease { delivery_id, attempts, lease, node, until: days(1) }
    };
    // Pulled: on SQLite by an agency that is no inbox, on PostgreSQL by no gateway.
    matter.apply(taken(0, None)).await.unwrap();
    assert_eq!(store.release_leases(&[], "node-1", MONDAY).await.unwrap(), 0);
    assert!(store.due_ahead(&recipient, MONDAY, &[], 10).await.unwrap().0.is_empty());
    matter.settle(Some(lease), DeliveryOutcome::Retry { due: MONDAY, reason: "LATER" }, MONDAY).await;
    // Another gateway, where there can be one, keeps what it is delivering.
    matter.apply(taken(1, Some("node-1"))).await.unwrap();
    if !store.is_alone() {
        assert_eq!(store.release_leases(&[recipient], "node-2", MONDAY).await.unwrap(), 0);
    }
    assert_eq!(store.release_leases(&[recipient], "node-1", MONDAY).await.unwrap(), 1);
    assert_eq!(store.due_ahead(&recipient, MONDAY, &[], 10).await.unwrap().0.len(), 1);

    // The old holder has lost it.
    let late =
        Effect::Settle { delivery_id, exchange_id: matter.exchange_id, lease: Some(lease), outcome: DeliveryOutcome::Delivered, at: MONDAY };
    assert_eq!(matter.apply(late).await, Err(Rejection::Conflict));
    let figures = store.outbox_figures().await.unwrap();
    assert_eq!((figures.open, figures.leased, figures.dead), (1, 0, 0));
    assert_eq!(figures.oldest, Some(MONDAY));
    store.close().await;
}

async fn what_was_erased_is_not_delivered_again_and_goes_when_its_retention_ends(place: Place) {
    let matter = Matter::open(&place).await;
    let removed = |kind| {
        Effect::Remove(Box::new(RemovalStep {
            removal_id: Uuid::from_u128(9),
            kind,
            entries: crate::audit::removal::IndexRanges::default(),
            threads: vec![matter.exchange_id],
            detaches: None,
            by: delivery(1).recipient,
            at: days(9),
        }))
    };
    matter.settle(None, DeliveryOutcome::Dead { reason: "TOO_OLD" }, days(7)).await;
    matter.apply(removed(RemovalKind::Period)).await.unwrap();
    let standing = async || matter.store.standing(&matter.exchange_id).await.unwrap();
    assert_eq!(standing().await, Standing::Erased);
    let exchange_id = matter.exchange_id;
    let again = Effect::Operate(OutboxChange::Redeliver { exchange_id, at: days(10) });
    assert_eq!(matter.apply(again).await, Err(Rejection::Conflict));
    assert!(matter.store.due_ahead(&delivery(1).recipient, days(99), &[], 9).await.unwrap().0.is_empty());
    matter.apply(removed(RemovalKind::Retention)).await.unwrap();
    assert_eq!(standing().await, Standing::Gone);
}

async fn an_exchange_with_a_message_on_its_way_loses_nothing_to_a_removal(place: Place) {
    let matter = Matter::open(&place).await;
    let step = RemovalStep {
        removal_id: Uuid::from_u128(9),
        kind: RemovalKind::Period,
        entries: crate::audit::removal::IndexRanges::default(),
        threads: vec![matter.exchange_id],
        detaches: None,
        by: delivery(1).recipient,
        at: MONDAY,
    };
    assert_eq!(matter.apply(Effect::Remove(Box::new(step))).await, Err(Rejection::Conflict));
    assert!(!matter.store.is_erased(&matter.exchange_id).await.unwrap());
}
}
