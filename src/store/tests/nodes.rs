//! Several gateways on one PostgreSQL, and what is asked of its server.

use super::*;
use crate::audit::log::Standing;
use crate::audit::tile::tiles_for_root;

#[tokio::test(flavor = "multi_thread")]
async fn gateways_whose_clocks_differ_write_one_log_in_the_order_of_its_times_and_see_each_others_heads() {
    let Some(place) = Place::postgres() else { return };
    let fast = Scene::at(place.open_as("fast").await, at(3600)).await;
    let slow = Scene::at(place.open_as("slow").await, at(0)).await;
    for _ in 0..20 {
        let (left, right) =
            tokio::join!(fast.append(Phase::Read, Vec::new()), slow.append(Phase::Read, Vec::new()));
        assert_ne!(left.unwrap(), right.unwrap());
    }
    // The head comes to who does not write, too.
    let last = fast.append(Phase::Read, Vec::new()).await.unwrap();
    let mut head = slow.log.watch_head();
    tokio::time::timeout(PATIENCE, head.wait_for(|head| head.size == last + 1)).await.unwrap().unwrap();
    let entries = slow.store.entries(0, 100).await.unwrap();
    let entries: Vec<_> = entries.iter().map(|stored| Entry::from_json(&stored.entry).unwrap()).collect();
    assert_eq!(entries.len(), 41);
    assert!(entries.is_sorted_by_key(|entry| entry.recorded));
    assert!(entries.iter().any(|entry| entry.occurred < entry.recorded && entry.node == "slow"));
    fast.close().await;
    slow.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_live_have_a_share_each_and_one_that_ends_leaves_it_to_the_others() {
    let Some(place) = Place::postgres() else { return };
    let mut stores = Vec::new();
    for name in ["north", "east", "south"] {
        stores.push(place.open_as(name).await);
    }
    let share = async |store: &Store| {
        let Share { place, of } = store.share().await.unwrap();
        (place, of)
    };
    // Its own lock it need not ask for.
    assert_eq!(share(&stores[0]).await, (0, 1));
    let (north, east) = (place.lock("north").await.unwrap(), place.lock("east").await.unwrap());
    let south = place.lock("south").await.unwrap();
    assert_eq!(share(&stores[0]).await, (1, 3));
    assert_eq!(share(&stores[1]).await, (0, 3));
    assert_eq!(share(&stores[2]).await, (2, 3));
    drop(north);
    tokio::time::timeout(PATIENCE, async {
        while share(&stores[2]).await != (1, 2) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    drop((east, south));
    for store in stores {
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_place_was_taken_writes_nothing_more_and_its_requests_are_closed_once() {
    let Some(place) = Place::postgres() else { return };
    let gone = Scene::of(place.open_as("gone").await).await;
    let heir = Scene::of(place.open_as("heir").await).await;
    let open = [gone.claim(1).await.unwrap(), gone.claim(2).await.unwrap()];
    assert_eq!(heir.store.open_from().await.unwrap(), open[0]);
    // No gateway holds its lock here: it is as if it were gone.
    let [left] = heir.store.orphanages().await.unwrap().try_into().unwrap();
    let taken = heir.store.take_over(&left).await.unwrap().unwrap();
    assert!(heir.store.take_over(&left).await.unwrap().is_none(), "it is taken once");
    assert!(matches!(gone.claim(3).await, Err(AppendError::Unavailable)), "it wrote after all");

    let orphans = log::orphans(&heir.store, taken.open.clone(), |entry| entry.node == "gone").await.unwrap();
    assert_eq!(orphans.iter().map(|orphan| orphan.index).collect::<Vec<_>>(), open);
    let close = async |orphan: usize, epoch| {
        let open_from = orphans.get(orphan + 1).map_or(taken.open.end, |next| next.index);
        let mut effects = heir.store.release(&orphans[orphan]);
        effects.push(Effect::Adopt { node: taken.node.clone(), epoch, open_from });
        heir.log.interrupt(&orphans[orphan], at(9), effects).await
    };
    assert!(matches!(close(0, left.epoch).await, Err(AppendError::Rejected(Rejection::Conflict))));
    close(0, taken.epoch).await.unwrap();
    close(1, taken.epoch).await.unwrap();
    assert!(heir.store.orphanages().await.unwrap().is_empty());
    let back = Scene::of(place.open_as("gone").await).await;
    assert_eq!(back.interrupted, 0, "they were closed");
    back.close().await;
    gone.close().await;
    heir.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_gateway_at_a_time_does_a_duty() {
    let Some(place) = Place::postgres() else { return };
    let (one, other) = (place.open_as("one").await, place.open_as("other").await);
    let held = one.take_duty("removals").await.unwrap().unwrap();
    assert!(other.take_duty("removals").await.unwrap().is_none());
    let _another = other.take_duty("something else").await.unwrap().unwrap();
    drop(held);
    let begun = std::time::Instant::now();
    while other.take_duty("removals").await.unwrap().is_none() {
        assert!(begun.elapsed() < PATIENCE, "the duty is not given back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_may_lose_what_it_confirms_is_refused() {
    let Some(place) = Place::postgres() else { return };
    let store = place.open().await;
    for (value, is_safe) in [("off", false), ("local", false), ("remote_apply", true)] {
        let text = format!(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = {value}', current_database()); END $$"
        );
        sql(text).execute(&store.writer).await.unwrap();
        let opened = place.try_open().await;
        match opened {
            Ok(opened) => {
                assert!(is_safe, "{value}");
                opened.close().await;
            }
            Err(StoreError::UnsafeServer { setting, .. }) => {
                assert!(!is_safe && setting == "synchronous_commit", "{value}");
            }
            Err(other) => panic!("{other}"),
        }
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_there_before_the_log_comes_to_them() {
    let Some(place) = Place::postgres() else { return };
    let store = place.open().await;
    let is_there = async |name: &str| {
        let row = sql("SELECT EXISTS (SELECT 1 FROM pg_class WHERE relname = $1)").bind(name);
        let row = row.fetch_one(&store.readers).await;
        row.unwrap().try_get::<bool>(0).unwrap()
    };
    assert!(is_there("audit_entries_1").await && !is_there("audit_entries_2").await);
    let last = sql("INSERT INTO audit_entries (idx, entry) VALUES ($1, '')").bind(2 * (1_i64 << 22) - 1);
    last.execute(&store.writer).await.unwrap();
    // Two at once, as two gateways would.
    let (one, other) = tokio::join!(store.make_room_ahead(), store.make_room_ahead());
    one.and(other).unwrap();
    assert!(is_there("audit_entries_2").await && !is_there("outcomes_2").await);
    store.close().await;
}

/// Sizes of the log are set here, not reached: a trillion entries are too many.
#[tokio::test(flavor = "multi_thread")]
async fn with_its_turn_a_gateway_gets_the_right_edge_of_a_log_that_others_wrote_and_else_nothing() {
    let Some(place) = Place::postgres() else { return };
    let store = place.open_as("it's \\ \"north\"").await;
    let scene = Scene::of(store.clone()).await;
    scene.append(Phase::Read, Vec::new()).await.unwrap();
    for size in [
        1,
        2,
        255,
        256,
        257,
        511,
        65_535,
        65_536,
        65_537,
        (1 << 24) + 256,
        (1 << 32) + 65_793,
        (1 << 40) - 1,
        1 << 40,
    ] {
        let needed = tiles_for_root(size);
        for id in &needed {
            sql("INSERT INTO audit_tiles (level, idx, hashes) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
                .bind(i64::from(id.level))
                .bind(signed(id.index))
                .bind([1; 32].as_slice())
                .execute(&store.writer)
                .await
                .unwrap();
        }
        sql("UPDATE audit_head SET size = $1").bind(signed(size)).execute(&store.writer).await.unwrap();
        for known in [Some(size - 1), Some(size), None] {
            let (_turn, standing) = store.turn(known).await.unwrap();
            let Standing::Newest(Some((head, edge))) = standing else { panic!("{standing:?}") };
            assert_eq!(head.size, size);
            for id in &needed {
                // The highest level of a trillion entries is read by itself.
                let is_wanted = known == Some(size - 1) && id.level < 5;
                assert_eq!(edge.get(*id).is_some(), is_wanted, "{id:?} of {size}, {known:?}");
            }
        }
    }
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_set_for_the_database_gateways_take_turns() {
    let Some(place) = Place::postgres() else { return };
    let first = place.open_as("first").await;
    for setting in [
        "bytea_output = escape",
        "standard_conforming_strings = off",
        "default_transaction_isolation = 'repeatable read'",
    ] {
        let set = format!(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {}', current_database()); END $$",
            setting.replace('\'', "''")
        );
        sql(set).execute(&first.writer).await.unwrap();
    }
    first.close().await;
    // Three at once, so that they wait for each other: under repeatable read a turn would begin with a head older than its lock.
    let scenes = [
        Scene::of(place.open_as("it's \\ one").await).await,
        Scene::of(place.open_as("two").await).await,
        Scene::of(place.open_as("three").await).await,
    ];
    for _ in 0..20 {
        let [one, two, three] = &scenes;
        let appended = tokio::join!(
            one.append(Phase::Read, Vec::new()),
            two.append(Phase::Read, Vec::new()),
            three.append(Phase::Read, Vec::new()),
        );
        assert!(matches!(appended, (Ok(_), Ok(_), Ok(_))), "{appended:?}");
    }
    for scene in scenes {
        scene.close().await;
    }
}
