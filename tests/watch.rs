//! Following exchanges: no change is lost and none repeated, whoever goes away when; nobody sees what is another's; each
//! watch is witnessed from its beginning to its end.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod district;

use std::time::Duration;

use district::{Refused, Scene, day_from_today, records, submit};
use legal_aid_gateway::access::Method;
use legal_aid_gateway::audit::entry::Phase;
use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::setup::{codes, purposes};
use legal_aid_gateway::simulator::court::Script;
use tokio::time::timeout;
use tonic::{Status, Streaming};

/// Submissions of a run; each is opened and delivered.
const SUBMISSIONS: usize = 30;

/// How long a run may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a watch said of a change, in the order of the table's columns.
type Seen = (String, String, String, i64);

#[tokio::test(flavor = "multi_thread")]
async fn reconnecting_at_random_points_under_load_shows_exactly_the_sequence() {
    let scene = Scene::start().await;
    let submitting = async {
        for _ in 0..SUBMISSIONS {
            submit(&scene.centre, &scene.fee_waiver()).await.unwrap();
        }
    };
    let watching = |client: &AgencyClient, seed: u64| {
        let client = client.clone();
        async move { timeout(PATIENCE, collect(&client, seed)).await.expect("a change did not come") }
    };
    let (court, centre) = (scene.court.clone(), scene.centre.clone());
    let watches = async { tokio::join!(watching(&court, 1), watching(&centre, 2), watching(&centre, 3)) };
    let ((), (of_court, of_centre, again)) = tokio::join!(submitting, watches);
    let written = written(&scene).await;
    assert_eq!(written.len(), SUBMISSIONS * 2);
    for seen in [of_court, of_centre, again] {
        assert_eq!(seen, written);
    }
    scene.stop().await;
}

#[tokio::test]
async fn a_third_agency_sees_nothing_and_cannot_use_anothers_cursor() {
    let scene = Scene::start().await;
    let other = scene.enrol_another_centre().await;
    submit(&scene.centre, &scene.fee_waiver()).await.unwrap();
    let mut own = watch(&scene.centre, "").await.unwrap();
    let first = own.message().await.unwrap().unwrap();
    assert_eq!(first.event.as_ref().unwrap().change, proto::ExchangeChange::Opened as i32);
    let mut others = watch(&other, "").await.unwrap();
    assert!(others.message().await.unwrap().unwrap().event.is_none());
    let refused = Refused::of(&watch(&other, &first.cursor).await.err().unwrap());
    assert_eq!(refused.rules(), [("cursor", "CURSOR")]);
    scene.stop().await;
}

#[tokio::test]
async fn a_watch_is_witnessed_when_it_begins_and_when_its_watcher_vanishes() {
    let scene = Scene::start().await;
    submit(&scene.centre, &scene.fee_waiver()).await.unwrap();
    let mut items = watch(&scene.centre, "").await.unwrap();
    let first = items.message().await.unwrap().unwrap();
    let begun = first.audit.unwrap().log_index;
    let entry = scene.entry(begun).await;
    assert_eq!((entry.phase, entry.method.as_ref()), (Phase::Request, "WatchExchanges"));
    drop(items);
    let filter =
        || proto::EntryFilter { method: Method::WatchExchanges.name().to_owned(), ..Default::default() };
    let (_, ended) = scene.await_entry(filter(), |entry| entry.phase == Phase::Response).await;
    assert_eq!(ended.request_index, Some(begun));
    assert_eq!((ended.code.as_deref(), ended.reason.as_deref()), (Some("CANCELLED"), Some("PEER_GONE")));
    assert!(ended.items.is_some_and(|items| items >= 1));
    scene.stop().await;
}

#[tokio::test]
async fn an_agency_without_an_agreement_any_more_is_shown_no_more() {
    let scene = Scene::start().await;
    let mut items = watch(&scene.centre, "").await.unwrap();
    assert!(items.message().await.unwrap().unwrap().event.is_none());
    let request = scene.fee_waiver();
    submit(&scene.centre, &request).await.unwrap();
    assert!(items.message().await.unwrap().unwrap().event.is_some());
    scene
        .edit_directory(|file| {
            for agreement in &mut file.agreements {
                agreement.methods.retain(|method| *method != Method::WatchExchanges);
            }
        })
        .await;
    submit(&scene.centre, &scene.fee_waiver()).await.unwrap();
    let status = loop {
        match items.message().await {
            // The first submission's delivery, at the same time as the change of the directory.
            Ok(Some(item)) => assert!(item.event.is_none_or(|event| event.message_sequence == 1)),
            Ok(None) => panic!("the watch ended without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(Refused::of(&status).reason, "NO_AGREEMENT");
    scene.stop().await;
}

#[tokio::test]
async fn a_watch_does_not_outlive_the_last_day_of_its_agreement() {
    let clock = Clock::moved_by_hand(Clock::system().now());
    let scene = Scene::start_with(Script::TakeOnly, clock.clone()).await;
    let today = day_from_today(&clock, 0);
    scene
        .edit_directory(|file| {
            for agreement in
                file.agreements.iter_mut().filter(|own| own.caller.is(&codes::CENTRE.parse().unwrap()))
            {
                agreement.until = today;
            }
        })
        .await;
    let exchange = submit(&scene.centre, &scene.fee_waiver()).await.unwrap().exchange.unwrap();
    scene.await_state(&exchange.exchange_id, proto::ExchangeState::Delivered).await;
    let mut items = watch(&scene.centre, "").await.unwrap();
    for _ in 0..2 {
        assert!(items.message().await.unwrap().unwrap().event.is_some());
    }
    // A month later the court's decision is overdue: a change, but no longer for this watcher.
    clock.advance(Duration::from_secs(30 * 86_400));
    let status = loop {
        match items.message().await {
            Ok(Some(item)) => assert!(item.event.is_none(), "a change after the agreement's end"),
            Ok(None) => panic!("the watch ended without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(Refused::of(&status).reason, "AGREEMENT_NOT_IN_FORCE");
    scene.stop().await;
}

#[tokio::test]
async fn a_watch_ends_at_once_when_the_gateway_stops() {
    let scene = Scene::start().await;
    let mut items = watch(&scene.centre, "").await.unwrap();
    assert!(items.message().await.unwrap().unwrap().event.is_none());
    let (ended, ()) = timeout(Duration::from_secs(8), async { tokio::join!(items.message(), scene.stop()) })
        .await
        .expect("the gateway waited for a stream that has no end");
    assert_eq!(Refused::of(&ended.err().unwrap()).reason, "GATEWAY_STOPPING");
}

async fn watch(
    client: &AgencyClient,
    cursor: &str,
) -> Result<Streaming<proto::WatchExchangesResponse>, Status> {
    let request = proto::WatchExchangesRequest {
        context: Some(client.context(purposes::FEE_WAIVER)),
        cursor: cursor.to_owned(),
    };
    client.exchanges().watch_exchanges(request).await.map(tonic::Response::into_inner)
}

/// Watches until all changes of the run were seen, going away after any number of items, and once more to see that there
/// is nothing else.
async fn collect(client: &AgencyClient, seed: u64) -> Vec<Seen> {
    let (mut seen, mut cursor, mut random) = (Vec::new(), String::new(), seed);
    while seen.len() < SUBMISSIONS * 2 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut items = watch(client, &cursor).await.unwrap();
        for _ in 0..(random >> 61) {
            let item = items.message().await.unwrap().expect("a watch does not end by itself");
            cursor = item.cursor;
            seen.extend(item.event.map(of));
            if seen.len() == SUBMISSIONS * 2 {
                break;
            }
        }
    }
    let mut items = watch(client, &cursor).await.unwrap();
    let item = items.message().await.unwrap().unwrap();
    assert!(item.event.is_none());
    assert_eq!(item.cursor, cursor);
    seen
}

fn of(event: proto::ExchangeEvent) -> Seen {
    let change = proto::ExchangeChange::try_from(event.change).unwrap().as_str_name();
    let state = proto::ExchangeState::try_from(event.state).unwrap().as_str_name();
    (
        event.exchange_id,
        change.trim_start_matches("EXCHANGE_CHANGE_").to_owned(),
        state.trim_start_matches("EXCHANGE_STATE_").to_owned(),
        event.message_sequence.into(),
    )
}

/// The sequence as it stands in the database.
async fn written(scene: &Scene) -> Vec<Seen> {
    let database = scene.database();
    let query = format!(
        "SELECT {}, change, state, CAST(message AS TEXT) FROM exchange_events ORDER BY seq",
        records::hex(&database, "exchange_id")
    );
    let written = records::rows(&database, &query).await;
    let seen = written.into_iter().map(|row| {
        let [exchange, change, state, message] = row.try_into().unwrap();
        let exchange = exchange.parse::<uuid::Uuid>().unwrap().to_string();
        (exchange, change, state, message.parse().unwrap())
    });
    seen.collect()
}
