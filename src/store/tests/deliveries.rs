//! What the courier reads ahead.

use super::*;

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
            delivery: NewDelivery { delivery_id: delivery_id(50), recipient: court() },
        };
        scene.event(Effect::AddMessage(Box::new(answer))).await.unwrap();
        let ids = |due: Vec<Due>| due.into_iter().map(|due| due.delivery_id).collect::<Vec<_>>();
        let ahead = store.due_ahead(&court(), at(9), &[delivery_id(2)], 2).await.unwrap();
        assert_eq!((ahead[0].since, ahead[1].since), (at(1), at(3)));
        assert!(ahead.iter().all(|due| due.bytes > 18), "sealed, a message is longer");
        assert_eq!(ids(ahead), [delivery_id(1), delivery_id(3)]);
        assert!(store.due_ahead(&court(), at(0), &[], 9).await.unwrap().is_empty());
        assert!(store.due_ahead(&centre(), at(9), &[], 9).await.unwrap().is_empty());

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
}
