//! What an operator sees: metrics, readiness, and the files in `deploy/` that are built on them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod district;

use std::any::Any;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use district::{DEADLINE, Raw, Refused, Scene, agreement};
use legal_aid_gateway::access::RateTerms;
use legal_aid_gateway::audit::entry::Phase;
use legal_aid_gateway::config::Database;
use legal_aid_gateway::grpc::proto::ExchangeState;
use legal_aid_gateway::setup::codes;
use sqlx::Connection as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use tonic_types::StatusExt as _;

#[tokio::test]
async fn calls_deliveries_and_the_log_are_counted_without_an_agency_or_a_person_in_a_label() {
    let scene = measured().await;
    let exchange = scene.submit(&scene.fee_waiver()).await.unwrap().exchange.unwrap();
    scene.await_state(&exchange.exchange_id, ExchangeState::Delivered).await;
    let mut bad = scene.fee_waiver();
    bad.envelope.as_mut().unwrap().purpose.clear();
    scene.submit(&bad).await.err().unwrap();

    let text = get(scene.district.gateway.metrics_address().unwrap(), "/metrics").await;
    let submitted = |code: &str| {
        format!(
            "legal_aid_calls_total{{method=\"SubmitExchange\",agency_kind=\"legal-aid-centre\",code=\"{code}\"}} 1\n"
        )
    };
    for expected in [
        submitted("OK").as_str(),
        submitted("INVALID_ARGUMENT").as_str(),
        "legal_aid_call_seconds_count{method=\"SubmitExchange\"} 2\n",
        "legal_aid_delivery_attempts_total{outcome=\"delivered\"} 1\n",
        "legal_aid_deliveries_open 0\n",
        "legal_aid_deliveries_dead 0\n",
        "legal_aid_calls_in_progress 0\n",
        "legal_aid_log_queue_entries 0\n",
        "legal_aid_ready 1\n",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    let size = value(&text, "legal_aid_log_entries");
    assert!(size >= 6.0 && value(&text, "legal_aid_log_batch_entries_sum") == size, "{text}");
    assert!(value(&text, "legal_aid_checkpoint_age_seconds") < 60.0);
    let ends = value(&text, "legal_aid_certificate_expiry_timestamp_seconds") as i64;
    let days = (ends - scene.clock.now().as_second()) / 86_400;
    assert!((363..=365).contains(&days), "{days} days");
    for secret in [codes::CENTRE, codes::COURT, "测试", "331004198001010016", &exchange.exchange_id] {
        assert!(!text.contains(secret), "{secret}");
    }
    scene.stop().await;
}

#[tokio::test]
async fn every_metric_of_the_dashboard_and_the_alerts_is_there_and_explained() {
    let scene = measured().await;
    let text = get(scene.district.gateway.metrics_address().unwrap(), "/metrics").await;
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut known = BTreeSet::new();
    for line in types {
        let (name, kind) = line.split_once(' ').unwrap();
        known.insert(name.to_owned());
        if kind == "histogram" {
            known.extend(["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")));
        }
    }
    for file in ["deploy/grafana-dashboard.json", "deploy/alerts.yml"] {
        let used = names(&read(file));
        assert!(used.len() > 8, "{file} uses {used:?}");
        let missing: Vec<_> = used.difference(&known).collect();
        assert!(missing.is_empty(), "{file} uses what the gateway does not measure: {missing:?}");
    }
    let page = names(&read("docs/operations.md"));
    let untold: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .filter(|name| !page.contains(*name))
        .collect();
    assert!(untold.is_empty(), "docs/operations.md does not explain {untold:?}");
    serde_json::from_str::<serde_json::Value>(&read("deploy/grafana-dashboard.json")).unwrap();
    scene.stop().await;
}

#[tokio::test]
async fn an_agency_that_calls_faster_than_agreed_is_told_when_to_come_again_and_others_do_not_notice() {
    let scene = Scene::start().await;
    scene
        .edit_directory(|file| {
            for id in ["DEV-CENTRE-COURT", "DEV-CENTRE-PROCURATORATE", "DEV-CENTRE-COOPERATION"] {
                agreement(file, id).rate = Some(RateTerms { per_second: 1, burst: 1 });
            }
        })
        .await;
    // One under each, and what else the time of the calls lets pass.
    let mut refused = None;
    for _ in 0..20 {
        if let Err(status) = scene.submit(&scene.fee_waiver()).await {
            refused = Some(status);
            break;
        }
    }
    let status = refused.expect("twenty calls do not take twenty seconds");
    let said = Refused::of(&status);
    assert_eq!((said.code, said.reason.as_str()), (Code::ResourceExhausted, "RATE_EXCEEDED"));
    let wait = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!(wait <= Duration::from_secs(1), "{wait:?}");
    assert_eq!(scene.entry(said.log_index).await.phase, Phase::Refused);

    // Another agreement, and another agency.
    scene.verify(&scene.question()).await.unwrap();
    district::pull(&scene.court).await.unwrap();
    tokio::time::sleep(wait).await;
    scene.submit(&scene.fee_waiver()).await.unwrap();
    scene.stop().await;
}

#[tokio::test]
async fn a_gateway_that_cannot_write_its_log_says_so_and_serves_again_by_itself() {
    let scene = measured().await;
    let metrics = scene.district.gateway.metrics_address().unwrap();
    await_ready(metrics, "HTTP/1.1 200", "ready\n").await;
    let raw = Raw::connect(&scene.profile("centre")).await;
    let health = async || raw.call("/grpc.health.v1.Health/Check", &[], &[]).await.body.last().copied();
    assert_eq!(health().await, Some(SERVING));

    let held = hold_the_head(&scene.database()).await;
    let status = scene.submit(&scene.fee_waiver()).await.err().unwrap();
    assert_eq!(status.code(), Code::Unavailable);
    await_ready(metrics, "HTTP/1.1 503", "the audit log cannot be written").await;
    assert_eq!(health().await, Some(NOT_SERVING));
    assert_eq!(value(&get(metrics, "/metrics").await, "legal_aid_ready"), 0.0);

    drop(held);
    await_ready(metrics, "HTTP/1.1 200", "ready\n").await;
    assert_eq!(health().await, Some(SERVING));
    scene.submit(&scene.fee_waiver()).await.unwrap();
    scene.stop().await;
}

/// Keeps everybody else from writing the log, as somebody does who works on the database, until it is dropped.
async fn hold_the_head(database: &Database) -> Box<dyn Any> {
    match database {
        Database::File(path) => {
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
            let mut other = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
            sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
            Box::new(other)
        }
        Database::Postgres(server) => {
            let mut other = sqlx::PgConnection::connect(server.expose()).await.unwrap();
            sqlx::query("BEGIN").execute(&mut other).await.unwrap();
            sqlx::query("LOCK TABLE audit_head IN EXCLUSIVE MODE").execute(&mut other).await.unwrap();
            Box::new(other)
        }
    }
}

/// Values of `grpc.health.v1.HealthCheckResponse.ServingStatus`, its only field.
const SERVING: u8 = 1;
const NOT_SERVING: u8 = 2;

/// Polls `GET /ready` until it answers so.
async fn await_ready(metrics: SocketAddr, status: &str, told: &str) {
    let polling = async {
        loop {
            let answer = get(metrics, "/ready").await;
            if answer.starts_with(status) && answer.contains(told) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, polling).await.unwrap();
}

async fn measured() -> Scene {
    Scene::start_configured(|text| {
        let commented = "# listen = \"127.0.0.1:9464\"";
        assert!(text.contains(commented));
        text.replace(commented, "listen = \"127.0.0.1:0\"")
    })
    .await
}

fn read(file: &str) -> String {
    std::fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Every name of a metric in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
    words.filter(|word| word.starts_with("legal_aid_")).map(str::to_owned).collect()
}

/// The value of a sample without labels.
fn value(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in\n{text}")).parse().unwrap()
}

async fn get(address: SocketAddr, path: &str) -> String {
    let asking = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    };
    tokio::time::timeout(DEADLINE, asking).await.unwrap()
}
