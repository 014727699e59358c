//! What the courier reads ahead.

use std::collections::{BTreeSet, HashSet};

use super::*;
use crate::store::database::per_database;

on_each_database! {
    async fn what_was_read_ahead_comes_with_its_message_only_while_it_is_due_and_first_in_line(place: Place) {
        let scene = Scene::open(&place).await;
        let store = &scene.store;
        for number in 1..=4 {
            scene.open_exchange(number).await;
        }
        let answer = NewMessage {
            exchange_id: exchange_id(1),
            sequence: 2,
            from: ExchangeState::Submitted,
            to: ExchangeState::Withdrawn,
            response: ResponseKind::Withdrawal,
            due_on: None,
            at: at(5),
            message: store.seal_message(&exchange_id(1), 2, b"withdrawn"),
            delivery: NewDelivery { delivery_id: delivery_id(50), sender: centre(), recipient: court() },
        };
        scene.event(Effect::AddMessage(Box::new(answer))).await.unwrap();
        let ids = |due: Vec<Due>| due.into_iter().map(|due| due.delivery_id).collect::<Vec<_>>();
        let (ahead, more) = store.due_ahead(&court(), at(9), &[delivery_id(2)], 2).await.unwrap();
        assert!(more);
        assert_eq!((ahead[0].since, ahead[1].since), (at(1), at(3)));
        assert!(ahead.iter().all(|due| due.bytes > 18), "sealed, a message is longer");
        assert_eq!(ids(ahead), [delivery_id(1), delivery_id(3)]);
        assert_eq!(store.due_ahead(&court(), at(0), &[], 9).await.unwrap(), (Vec::new(), false));
        assert_eq!(store.due_ahead(&centre(), at(9), &[], 9).await.unwrap(), (Vec::new(), false));

        // In the order that is asked for; the second message of the first exchange is not its first that is open.
        let wanted = [50, 4, 3, 2, 1].map(delivery_id);
        let parcels = store.parcels(&court(), at(9), &wanted).await.unwrap();
        let got: Vec<_> = parcels.iter().map(|parcel| parcel.record.delivery_id).collect();
        assert_eq!(got, [4, 3, 2, 1].map(delivery_id));
        assert_eq!(parcels[3].message.as_ref().unwrap().message, b"the household's papers");

        // Taken, settled, of another: it does not come.
        let lease = Effect::Lease {
            delivery_id: delivery_id(2),
            attempts: 0,
            lease: Uuid::from_u128(9),
            node: None,
            until: at(60),
        };
        scene.event(lease).await.unwrap();
        scene.settle(1, None, DeliveryOutcome::Delivered, at(9)).await;
        let parcels = store.parcels(&court(), at(9), &wanted).await.unwrap();
        let got: Vec<_> = parcels.iter().map(|parcel| parcel.record.delivery_id).collect();
        assert_eq!(got, [50, 4, 3].map(delivery_id));
        assert!(store.parcels(&centre(), at(9), &wanted).await.unwrap().is_empty());

        // A message that is not there, or does not open, says so and keeps nobody back.
        store.write(sql("DELETE FROM messages WHERE sequence = 2")).await.unwrap();
        let parcels = store.parcels(&court(), at(9), &wanted).await.unwrap();
        let readable: Vec<_> = parcels.iter().map(|parcel| parcel.message.is_ok()).collect();
        assert_eq!(readable, [false, true, true]);
        scene.close().await;
    }

    async fn of_what_waits_for_one_recipient_each_sender_has_its_part(place: Place) {
        let scene = Scene::open(&place).await;
        let store = &scene.store;
        let stranger = CreditCode::parse("91110000600037341L").unwrap();
        for number in 1..=20 {
            scene.open_exchange(number).await;
        }
        scene.open_exchange_of(stranger, 21).await;
        scene.open_exchange_of(stranger, 22).await;
        let ahead = async |limit, beside: &[DeliveryId]| {
            let (due, more) = store.due_ahead(&court(), at(90), beside, limit).await.unwrap();
            let numbers = due.iter().map(|due| due.delivery_id.uuid().as_u128() - delivery_id(0).uuid().as_u128());
            (numbers.collect::<Vec<_>>(), more)
        };
        // By age alone the second sender would wait for all of the first.
        assert_eq!(ahead(4, &[]).await, (vec![1, 21, 2, 22], true));
        let (all, more) = ahead(40, &[]).await;
        assert_eq!((&all[..6], all.len(), more), (&[1, 21, 2, 22, 3, 4][..], 22, false));
        assert_eq!(ahead(4, &[delivery_id(1), delivery_id(21)]).await, (vec![2, 22, 3, 4], true));
        // Taken one by one, too, neither is always first.
        let mut first = BTreeSet::new();
        for _ in 0..100 {
            let (one, more) = ahead(1, &[]).await;
            assert!(one.len() == 1 && more);
            first.extend(one);
        }
        assert_eq!(first, BTreeSet::from([1, 21]));
        // One of whom nothing is due has no part.
        let (due, more) = store.due_ahead(&court(), at(20), &[], 3).await.unwrap();
        let due: Vec<_> = due.iter().map(|due| due.delivery_id).collect();
        assert_eq!((due, more), ([1, 2, 3].map(delivery_id).to_vec(), true));
        scene.close().await;
    }

    async fn of_more_senders_than_there_are_places_each_is_first_in_its_turn(place: Place) {
        let scene = Scene::open(&place).await;
        let senders = [
            "91110000600037341L", "91350100M000100Y43", "11320000MB151840XJ", "1133100200264501BP", "1133100200264502CU",
            "1133100200264503D0", "1133100200264504E4",
        ];
        // Seven of each, and of the first seventy, all of them older.
        let mut number = 0;
        for (place, sender) in senders.iter().enumerate() {
            for _ in 0..if place == 0 { 70 } else { 7 } {
                number += 1;
                scene.open_exchange_of(CreditCode::parse(sender).unwrap(), number).await;
            }
        }
        let ahead = async |limit, beside: &[DeliveryId]| {
            let (due, more) = scene.store.due_ahead(&court(), at(900), beside, limit).await.unwrap();
            (due.iter().map(|due| due.delivery_id).collect::<Vec<_>>(), more)
        };
        let of = |id: &DeliveryId| ((id.uuid().as_u128() - delivery_id(0).uuid().as_u128()) as usize).saturating_sub(64) / 7;
        let (page, more) = ahead(7, &[]).await;
        assert!(more && page.iter().map(of).collect::<BTreeSet<_>>().len() == 7, "one of each: {page:?}");
        let mut seen = BTreeSet::new();
        for _ in 0..100 {
            let (page, more) = ahead(2, &[]).await;
            assert!(more && page.len() == 2);
            seen.extend(page.iter().map(of));
        }
        assert_eq!(seen.len(), 7, "neither the oldest nor the first by name is always first");
        // Page by page all come, each once, those of the six others before the rest of the first.
        let mut taken: Vec<DeliveryId> = Vec::new();
        loop {
            let (page, more) = ahead(14, &taken).await;
            taken.extend(&page);
            if !more {
                break;
            }
        }
        assert_eq!((taken.len(), taken.iter().collect::<HashSet<_>>().len()), (112, 112));
        assert!(taken[49..].iter().all(|id| of(id) == 0), "{taken:?}");
        scene.close().await;
    }

    async fn an_answer_stands_when_the_opening_message_arrived_after_it_was_weighed_and_falls_when_that_was_given_up(place: Place) {
        let scene = Scene::open(&place).await;
        let receipt = |number: u128| {
            Effect::AddMessage(Box::new(NewMessage {
                exchange_id: exchange_id(number),
                sequence: 2,
                from: ExchangeState::Submitted,
                to: ExchangeState::Received,
                response: ResponseKind::Receipt,
                due_on: None,
                at: at(8),
                message: b"sealed".to_vec(),
                delivery: NewDelivery { delivery_id: delivery_id(50 + number), sender: court(), recipient: centre() },
            }))
        };
        let stands = async |number| scene.store.exchange(&exchange_id(number), &court()).await.unwrap().unwrap().state;
        for (number, outcome) in [(1, DeliveryOutcome::Delivered), (2, DeliveryOutcome::Dead { reason: "TOO_OLD" })] {
            scene.open_exchange(number).await;
            scene.settle(number, None, outcome, at(7)).await;
        }
        assert_eq!(stands(1).await, ExchangeState::Delivered);
        scene.event(receipt(1)).await.unwrap();
        assert_eq!(stands(1).await, ExchangeState::Received);
        let twice = scene.event(receipt(1)).await.unwrap_err();
        assert!(matches!(twice, AppendError::Rejected(Rejection::Conflict)), "{twice:?}");
        let given_up = scene.event(receipt(2)).await.unwrap_err();
        assert!(matches!(given_up, AppendError::Rejected(Rejection::Conflict)), "{given_up:?}");
        assert_eq!(stands(2).await, ExchangeState::Undeliverable);
        scene.close().await;
    }

    /// PostgreSQL plans as if little waited: nobody has counted what is there. Where it then goes through all that waits for each that
    /// waits, this takes some twenty seconds (measured on the statements of before) and not some milliseconds.
    async fn what_is_due_is_found_at_once_however_much_waits_of_which_the_planner_does_not_know(place: Place) {
        let scene = Scene::open(&place).await;
        let store = &scene.store;
        let columns = "INSERT INTO deliveries \
             (delivery_id, exchange_id, sequence, recipient, sender, state, attempts, due_us, created_us) ";
        let numbers = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 10000) ";
        let rows = |id: &str| {
            format!("{numbers}{columns}SELECT {id}, {id}, 1, $1, $2, 'PENDING', 0, n, n FROM numbers")
        };
        let fill = sql(per_database! {
            sqlite: rows("unhex(printf('%032x', n))"),
            postgres: rows("decode(lpad(to_hex(n), 32, '0'), 'hex')"),
        });
        store.write(fill.bind(court().as_str()).bind(centre().as_str())).await.unwrap();
        let begun = std::time::Instant::now();
        let (due, more) = store.due_ahead(&court(), at(0), &[], 32).await.unwrap();
        assert!(more);
        let ids: Vec<_> = due.iter().map(|due| due.delivery_id).collect();
        assert_eq!(store.parcels(&court(), at(0), &ids).await.unwrap().len(), 32);
        assert!(begun.elapsed() < std::time::Duration::from_secs(2), "it took {:?}", begun.elapsed());
        scene.close().await;
    }
}

/// However much waits of one sender, of which the planner has counted little: what another's message costs is not that.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_behind_a_flood_is_found_by_its_sender() {
    let Some(place) = Place::postgres() else { return };
    let scene = Scene::open(&place).await;
    let store = &scene.store;
    let stranger = CreditCode::parse("91110000600037341L").unwrap();
    for number in 1..=20 {
        scene.open_exchange(number).await;
    }
    store.write(sql("ANALYZE deliveries")).await.unwrap();
    let flood = "INSERT INTO deliveries (delivery_id, exchange_id, sequence, recipient, sender, state, attempts, due_us, created_us) \
                 SELECT id, id, 1, $1, $2, 'PENDING', 0, n, n FROM generate_series(1, 20000) n, \
                 LATERAL (SELECT decode(lpad(to_hex(n + 100000), 32, '0'), 'hex') AS id) ids";
    store.write(sql(flood).bind(court().as_str()).bind(centre().as_str())).await.unwrap();
    scene.open_exchange_of(stranger, 21).await;
    let read = async |index: &str| {
        let read = sql("SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = $1").bind(index);
        read.fetch_one(&store.readers).await.unwrap().try_get::<i64>(0).unwrap()
    };
    // The server counts what a session reads once a second.
    let begun = std::time::Instant::now();
    while read("deliveries_by_sender").await == 0 {
        assert!(begun.elapsed() < std::time::Duration::from_secs(30), "it counts nothing");
        let (due, _) = store.due_ahead(&court(), at(90), &[], 2).await.unwrap();
        assert_eq!(due.len(), 2);
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let through_all = read("deliveries_open").await;
    assert!(through_all < 1_000, "{through_all} rows were gone through");
    scene.close().await;
}
