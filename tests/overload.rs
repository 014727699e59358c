//! Refusals for want of a place, and the end of a gateway that is told to stop: none without its entry, none cut in two.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod district;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use district::{DEADLINE, Refused, Scene};
use legal_aid_gateway::audit::entry::Phase;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::setup::purposes;
use sqlx::Connection as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::Code;
use tonic_types::StatusExt as _;

/// Calls that find no place.
const CALLS: usize = 40;

#[tokio::test]
async fn refusals_share_an_entry_that_counts_them_and_names_the_trace_of_each() {
    let scene = Scene::start_configured(|text| {
        let text = with(&text, "# calls_per_agency = 512", "calls_per_agency = 1");
        with(&text, "# listen = \"127.0.0.1:9464\"", "listen = \"127.0.0.1:0\"")
    })
    .await;
    let metrics = scene.district.gateway.metrics_address().unwrap();
    // A watch holds the centre's only place.
    let watch = proto::WatchExchangesRequest {
        context: Some(scene.centre.context(purposes::FEE_WAIVER)),
        ..Default::default()
    };
    let _watching =
        scene.centre.exchanges().watch_exchanges(scene.centre.request(watch, DEADLINE)).await.unwrap();
    // While somebody holds the database's write lock, no entry becomes durable.
    let url = format!("sqlite://{}?mode=rw", scene.folder.join("gateway.db").display());
    let mut other = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let mut calls = JoinSet::new();
    for number in 0..CALLS {
        let centre = scene.centre.clone();
        let mut request = centre.request(scene.question(), DEADLINE);
        let traceparent = format!("00-{}-b7ad6b7169203331-01", trace(number));
        request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
        calls.spawn(async move { centre.verification().verify_low_income(request).await });
    }
    await_in_progress(metrics, CALLS).await;
    assert!(calls.try_join_next().is_none(), "a call was answered before its entry was durable");
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();

    let mut answers: BTreeMap<u64, u64> = BTreeMap::new();
    while let Some(answer) = calls.join_next().await {
        let status = answer.unwrap().err().expect("there is no place");
        let said = Refused::of(&status);
        assert_eq!((said.code, said.reason.as_str()), (Code::ResourceExhausted, "AGENCY_OVERLOADED"));
        assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
        *answers.entry(said.log_index).or_default() += 1;
    }
    // What came first was on its way to the disk; all that came behind it shares the next entry.
    assert!(answers.len() <= 2, "{answers:?}");
    let mut named = BTreeSet::new();
    for (index, refused) in answers {
        let entry = scene.entry(index).await;
        assert_eq!((entry.phase, entry.reason.as_deref()), (Phase::Refused, Some("AGENCY_OVERLOADED")));
        assert_eq!(entry.items.unwrap_or(1), refused);
        named.extend(entry.trace.into_iter().chain(entry.traces));
    }
    assert_eq!(named, (0..CALLS).map(trace).collect());

    // Others do not notice.
    district::pull(&scene.court).await.unwrap();
    scene.stop().await;
}

#[tokio::test]
async fn more_calls_at_once_than_the_gateway_takes_are_refused_whosever_they_are() {
    let scene = Scene::start_configured(|text| with(&text, "# calls = 2048", "calls = 1")).await;
    let watch = proto::WatchExchangesRequest {
        context: Some(scene.centre.context(purposes::FEE_WAIVER)),
        ..Default::default()
    };
    let watching =
        scene.centre.exchanges().watch_exchanges(scene.centre.request(watch, DEADLINE)).await.unwrap();
    let status = district::pull(&scene.court).await.err().unwrap();
    let said = Refused::of(&status);
    assert_eq!((said.code, said.reason.as_str()), (Code::ResourceExhausted, "OVERLOADED"));
    drop(watching);
    // The place is free again once the gateway has seen the caller go.
    let pulling = async {
        while district::pull(&scene.court).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, pulling).await.unwrap();
    scene.stop().await;
}

fn trace(number: usize) -> String {
    format!("{:032x}", 0xabcd_0000_usize + number)
}

fn with(text: &str, old: &str, new: &str) -> String {
    assert!(text.contains(old), "{old}");
    text.replacen(old, new, 1)
}

/// Polls the metrics until so many calls wait for their answer.
async fn await_in_progress(metrics: SocketAddr, calls: usize) {
    let wanted = format!("legal_aid_calls_in_progress {calls}\n");
    let began = Instant::now();
    loop {
        let mut stream = TcpStream::connect(metrics).await.unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        if text.contains(&wanted) {
            return;
        }
        assert!(began.elapsed() < DEADLINE, "{text}");
    }
}
