use jiff::SignedDuration;
use jiff::civil::date;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::*;
use crate::audit::entry::Salt;
use crate::audit::log::{Head, Leaf};
use crate::audit::merkle::Hash;
use crate::domain::agency::CreditCode;
use crate::domain::exchange::{DeliveryId, Kind, ResponseKind};
use crate::domain::region::RegionCode;
use crate::store::database::{Acquired, Pool, sql};
use crate::store::databases_in_tests::{Place, on_each_database};
use crate::store::effect::{NewDelivery, Rejection, apply as apply_batch};
use crate::store::quotas::{QuotaPeriod, QuotaUse, QuotaWindow};
use crate::store::{OutboxChange, Store};

/// Monday, 2026-11-02, ten o'clock in Shanghai.
const MONDAY: Timestamp = Timestamp::constant(1_793_584_800, 0);

/// Exchanges that a plan is about.
const EXCHANGES: u8 = 5;

fn centre() -> CreditCode {
    CreditCode::parse("12331004MB0000002T").unwrap()
}

fn court() -> CreditCode {
    CreditCode::parse("11331004MB00000031").unwrap()
}

fn exchange(number: u8) -> ExchangeId {
    ExchangeId::new(Uuid::from_u128(1000 + u128::from(number)))
}

/// The delivery of its opening message.
fn delivery(number: u8) -> DeliveryId {
    DeliveryId::new(Uuid::from_u128(2000 + u128::from(number)))
}

/// What a leaf is to do, before it is known how things stand.
#[derive(Clone, Debug)]
enum Op {
    Open,
    Add { exchange: u8, answer: u8, is_late: bool },
    Lease { exchange: u8, is_late: bool },
    Settle { exchange: u8, is_pulled: bool, outcome: u8 },
    Name { exchange: u8, paper: u8 },
    Count { operator: u8, limit: u32 },
    RetryNow { exchange: u8 },
    Redeliver { exchange: u8 },
}

fn op() -> impl Strategy<Value = Op> {
    let exchange = || 0..EXCHANGES;
    let rarely = || proptest::bool::weighted(0.1);
    prop_oneof![
        3 => Just(Op::Open),
        4 => (exchange(), 0..6u8, rarely()).prop_map(|(exchange, answer, is_late)| Op::Add { exchange, answer, is_late }),
        3 => (exchange(), rarely()).prop_map(|(exchange, is_late)| Op::Lease { exchange, is_late }),
        4 => (exchange(), any::<bool>(), 0..3u8)
            .prop_map(|(exchange, is_pulled, outcome)| Op::Settle { exchange, is_pulled, outcome }),
        1 => (exchange(), 0..3u8).prop_map(|(exchange, paper)| Op::Name { exchange, paper }),
        3 => (0..2u8, 4..30u32).prop_map(|(operator, limit)| Op::Count { operator, limit }),
        1 => exchange().prop_map(|exchange| Op::RetryNow { exchange }),
        1 => exchange().prop_map(|exchange| Op::Redeliver { exchange }),
    ]
}

/// The ops of each leaf of each batch.
fn plan() -> impl Strategy<Value = Vec<Vec<Vec<Op>>>> {
    let leaf = proptest::collection::vec(op(), 1..3);
    proptest::collection::vec(proptest::collection::vec(leaf, 1..7), 10)
}

/// How things stand before a batch.
struct Facts {
    /// State and number of messages.
    exchanges: HashMap<ExchangeId, (ExchangeState, u32)>,
    attempts: HashMap<DeliveryId, u32>,
}

/// A store, whose batches are made in the one way or in the other.
struct Twin {
    store: Store,
    clocks: Clocks,
    in_sets: bool,
}

impl Twin {
    async fn open(place: &Place, in_sets: bool) -> Self {
        Self { store: place.open().await, clocks: Clocks::built_in().unwrap(), in_sets }
    }

    /// Makes a batch as the log's storage does. Where something is rejected, nothing stays.
    async fn apply(&self, batch: &Batch<Effect>) -> Vec<(usize, Rejection)> {
        let mut acquired = self.store.writer.acquire().await.unwrap();
        for text in [begin(&self.store), "SAVEPOINT untouched"] {
            sql(text).execute(&mut acquired).await.unwrap();
        }
        let connection = &mut acquired.connection();
        let rejections = if self.in_sets {
            apply_batch(connection, &self.clocks, batch).await.unwrap()
        } else {
            one_by_one::apply(connection, &self.clocks, batch).await.unwrap()
        };
        end(&mut acquired, rejections.is_empty()).await;
        rejections
    }

    async fn facts(&self) -> Facts {
        let readers = &self.store.readers;
        let exchanges =
            sql("SELECT exchange_id, state, messages FROM exchanges").fetch_all(readers).await.unwrap();
        let deliveries =
            sql("SELECT delivery_id, attempts FROM deliveries").fetch_all(readers).await.unwrap();
        let exchanges = exchanges.iter().map(|row| {
            let id = ExchangeId::from_slice(row.try_get(0).unwrap()).unwrap();
            let state = ExchangeState::from_name(row.try_get(1).unwrap()).unwrap();
            (id, (state, row.try_get::<i64>(2).unwrap() as u32))
        });
        let attempts = deliveries.iter().map(|row| {
            let id = DeliveryId::from_slice(row.try_get(0).unwrap()).unwrap();
            (id, row.try_get::<i64>(1).unwrap() as u32)
        });
        Facts { exchanges: exchanges.collect(), attempts: attempts.collect() }
    }

    /// Every row of the tables that effects of sets touch, as text.
    async fn rows(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (table, order) in [
            ("exchanges", "exchange_id"),
            ("messages", "exchange_id, sequence"),
            ("deliveries", "delivery_id"),
            ("running_clocks", "exchange_id, clock, round"),
            // The numbers themselves have gaps where something was rejected.
            ("exchange_events", "seq"),
            ("exchange_attachments", "exchange_id, named_by, digest"),
            ("quota_use", "agreement_id, caller, operator, period, begins_us"),
        ] {
            let columns = match &self.store.readers {
                Pool::Postgres(_) => format!("(to_jsonb({table}) - 'seq')::text"),
                Pool::Sqlite(_) => {
                    let columns = format!(
                        "SELECT group_concat('quote(' || name || ')', ' || '','' || ') \
                         FROM pragma_table_info('{table}') WHERE name <> 'seq'"
                    );
                    sql(columns).fetch_one(&self.store.readers).await.unwrap().try_get(0).unwrap()
                }
            };
            let text = format!("SELECT '{table}: ' || {columns} FROM {table} ORDER BY {order}");
            let rows = sql(text).fetch_all(&self.store.readers).await.unwrap();
            all.extend(rows.iter().map(|row| row.try_get::<String>(0).unwrap()));
        }
        all
    }
}

fn begin(store: &Store) -> &'static str {
    if store.is_alone() { "BEGIN IMMEDIATE" } else { "BEGIN" }
}

async fn end(acquired: &mut Acquired, well: bool) {
    sql(if well { "COMMIT" } else { "ROLLBACK" }).execute(acquired).await.unwrap();
}

fn batch(leaves: Vec<Vec<Effect>>) -> Batch<Effect> {
    let leaves = leaves.into_iter().map(|effects| Leaf { entry: Vec::new(), salt: Salt([0; 64]), effects });
    let head = Head {
        size: 0,
        root: Hash::from_bytes([0; 32]),
        open_from: 0,
        written_to: 0,
        recorded: None,
        checkpoint: String::new(),
    };
    Batch { first_index: 0, leaves: leaves.collect(), tiles: Vec::new(), head }
}

fn open(number: u128, exchange_id: ExchangeId, delivery_id: DeliveryId) -> Effect {
    Effect::OpenExchange(Box::new(NewExchange {
        exchange_id,
        kind: Kind::FeeWaiver,
        sender: centre(),
        recipient: court(),
        matter_id: format!("M-\"{number}\"-\\-号"),
        region: RegionCode::parse("331004").unwrap(),
        track: None,
        at: MONDAY,
        message: format!("message {number}").into_bytes(),
        delivery: NewDelivery { delivery_id, sender: centre(), recipient: court() },
    }))
}

fn effect(op: &Op, number: u128, facts: &Facts, at: Timestamp) -> Effect {
    let fresh = |kind: u128| Uuid::from_u128(kind * 1_000_000 + number);
    match op {
        Op::Open => open(number, ExchangeId::new(fresh(3)), DeliveryId::new(fresh(4))),
        Op::Add { exchange: of, answer, is_late } => {
            use {ExchangeState as S, ResponseKind as R};
            let (from, messages) = facts.exchanges[&exchange(*of)];
            let (response, to, due_on) = match answer {
                0 => (R::Receipt, S::Received, None),
                1 => (R::SupplementRequest, S::SupplementRequested, Some(date(2026, 11, 20))),
                2 => (R::Supplement, S::Supplemented, None),
                3 => (R::Decision, S::Decided, None),
                4 => (R::Withdrawal, S::Withdrawn, None),
                _ => (R::Progress, from, None),
            };
            Effect::AddMessage(Box::new(NewMessage {
                exchange_id: exchange(*of),
                sequence: messages + 1 + u32::from(*is_late),
                from,
                to,
                response,
                due_on,
                at,
                message: vec![*answer; 40],
                delivery: NewDelivery {
                    delivery_id: DeliveryId::new(fresh(5)),
                    sender: court(),
                    recipient: centre(),
                },
            }))
        }
        Op::Lease { exchange, is_late } => Effect::Lease {
            delivery_id: delivery(*exchange),
            attempts: facts.attempts[&delivery(*exchange)] + u32::from(*is_late),
            lease: Uuid::from_u128(7),
            node: number.is_multiple_of(2).then(|| "node-1".to_owned()),
            until: at + SignedDuration::from_mins(1),
        },
        Op::Settle { exchange: of, is_pulled, outcome } => Effect::Settle {
            delivery_id: delivery(*of),
            exchange_id: exchange(*of),
            lease: (!is_pulled).then(|| Uuid::from_u128(7)),
            outcome: match outcome {
                0 => DeliveryOutcome::Delivered,
                1 => DeliveryOutcome::Retry { due: at + SignedDuration::from_mins(2), reason: "LATER" },
                _ => DeliveryOutcome::Dead { reason: "TOO_OLD" },
            },
            at,
        },
        Op::Name { exchange: of, paper } => Effect::NameAttachments {
            exchange_id: exchange(*of),
            named_by: centre(),
            digests: vec![[*paper; 32], [9; 32]],
        },
        Op::Count { operator, limit } => {
            let window = |operator: String, limit| QuotaWindow {
                operator,
                period: QuotaPeriod::Hour,
                begins: MONDAY,
                ends: MONDAY + SignedDuration::from_hours(1),
                limit,
            };
            Effect::CountUse(Box::new(QuotaUse {
                agreement_id: "LQ".to_owned(),
                caller: centre(),
                windows: vec![window(String::new(), 25), window(format!("main/{operator}"), *limit)],
            }))
        }
        Op::RetryNow { exchange } => {
            Effect::Operate(OutboxChange::RetryNow { delivery_id: delivery(*exchange), at })
        }
        Op::Redeliver { exchange: of } => {
            Effect::Operate(OutboxChange::Redeliver { exchange_id: exchange(*of), at })
        }
    }
}

/// The five exchanges that plans are about.
fn opening() -> Batch<Effect> {
    batch(
        (0..EXCHANGES).map(|number| vec![open(number.into(), exchange(number), delivery(number))]).collect(),
    )
}

on_each_database! {
async fn a_batch_in_sets_equals_the_same_one_by_one(place: Place) {
    let mut runner = TestRunner::deterministic();
    for _ in 0..12 {
        let plan = plan().new_tree(&mut runner).unwrap().current();
        let places = [place.another(), place.another()];
        let twins = [Twin::open(&places[0], true).await, Twin::open(&places[1], false).await];
        for twin in &twins {
            assert_eq!(twin.apply(&opening()).await, []);
        }
        for (round, leaves) in plan.iter().enumerate() {
            let (facts, at) = (twins[0].facts().await, MONDAY + SignedDuration::from_hours(30 * round as i64));
            let mut left: Vec<usize> = (0..leaves.len()).collect();
            // As the log does: without those that are rejected, until none is.
            while !left.is_empty() {
                let of_leaf = |place: &usize| {
                    let number = |op: usize| (round as u128 * 100 + *place as u128) * 10 + op as u128;
                    leaves[*place].iter().enumerate().map(|(op, what)| effect(what, number(op), &facts, at)).collect()
                };
                let made = |left: &[usize]| batch(left.iter().map(of_leaf).collect());
                let in_sets = twins[0].apply(&made(&left)).await;
                let one_by_one = twins[1].apply(&made(&left)).await;
                assert_eq!(in_sets, one_by_one, "round {round} of {plan:?}");
                let rejected: Vec<usize> = one_by_one.iter().map(|(place, _)| left[*place]).collect();
                if rejected.is_empty() {
                    break;
                }
                left.retain(|place| !rejected.contains(place));
            }
            assert_eq!(twins[0].rows().await, twins[1].rows().await, "round {round} of {plan:?}");
        }
        for twin in twins {
            twin.store.close().await;
        }
    }
}

/// Else the sets could fail throughout, and nobody would see it.
async fn what_touches_different_rows_is_one_set_and_what_touches_the_same_is_two(place: Place) {
    let twin = Twin::open(&place, true).await;
    assert_eq!(twin.apply(&opening()).await, []);
    let number = std::cell::Cell::new(1);
    let in_sets = async |leaves: &[Op]| {
        let facts = twin.facts().await;
        let effects = leaves.iter().map(|op| {
            number.set(number.get() + 1);
            vec![effect(op, number.get(), &facts, MONDAY)]
        });
        let batch = batch(effects.collect());
        let mut acquired = twin.store.writer.acquire().await.unwrap();
        sql(begin(&twin.store)).execute(&mut acquired).await.unwrap();
        let made = apply(&mut acquired.connection(), &twin.clocks, &batch).await.unwrap();
        end(&mut acquired, made).await;
        made
    };
    let lease = |exchange| Op::Lease { exchange, is_late: false };
    let settle = |exchange, outcome| Op::Settle { exchange, is_pulled: false, outcome };
    let count = Op::Count { operator: 0, limit: 12 };
    assert!(in_sets(&(0..5).map(lease).chain((0..6).map(|_| count.clone())).collect::<Vec<_>>()).await);
    assert!(!in_sets(&[lease(0), lease(0)]).await, "a delivery is taken once");
    assert!(!in_sets(&vec![count.clone(); 7]).await, "six calls are left");
    assert!(in_sets(&vec![count.clone(); 6]).await);
    assert!(in_sets(&[settle(0, 0), settle(1, 1), settle(2, 2), Op::Open, settle(3, 0)]).await);
    assert!(!in_sets(&[settle(0, 0)]).await, "its lease has ended");
    let add = |exchange, answer| Op::Add { exchange, answer, is_late: false };
    assert!(in_sets(&[add(0, 0), add(3, 3), Op::Name { exchange: 0, paper: 1 }, lease(1)]).await);
    assert!(!in_sets(&[add(0, 1), add(0, 1)]).await, "one message has its place in the thread");
    assert!(in_sets(&[add(4, 5), settle(4, 0)]).await, "what touches one exchange is made in two sets");
    let states = twin.facts().await.exchanges;
    assert_eq!(states[&exchange(0)], (ExchangeState::Received, 2));
    assert_eq!(states[&exchange(2)], (ExchangeState::Undeliverable, 1));
    twin.store.close().await;
}
}
