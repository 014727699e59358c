//! How a gateway stops: what is in progress gets its time and no more, a commit is not cut in two, and who asks is told.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use legal_aid_gateway::audit::entry::Phase;
use legal_aid_gateway::simulator::court::Script;
use legal_aid_gateway::simulator::district::free_address;
use sqlx::Connection as _;
use support::{DEADLINE, Folder, Gateway, PATIENCE, log};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_call_that_does_not_end_is_cut_off_at_the_limit_and_closed_at_the_next_start() {
    let folder = Folder::prepare(Script::TakeOnly);
    let registry = folder.file("simulate-registry.toml");
    let text = std::fs::read_to_string(&registry).unwrap();
    assert!(text.contains("behaviour = \"honest\""), "{text}");
    std::fs::write(&registry, text.replace("behaviour = \"honest\"", "behaviour = \"silent\"")).unwrap();
    let registry = folder.registry().await;
    let metrics = free_address().unwrap();
    let listen = metrics.to_string();
    let environment =
        [("LEGAL_AID_GATEWAY__METRICS__LISTEN", listen.as_str()), ("LEGAL_AID_GATEWAY__LIMITS__DRAIN", "2s")];
    let gateway = Gateway::start_with(&folder, &environment).await;
    let centre = folder.client("centre");
    let mut asked = registry.watch_calls();
    let (client, request) = (centre.clone(), folder.question(&centre));
    let answer = tokio::spawn(async move {
        // Longer than the gateway may take to stop.
        let request = client.request(request, Duration::from_secs(50));
        client.verification().verify_low_income(request).await
    });
    asked.wait_for(|calls| *calls == 1).await.unwrap();
    let began = Instant::now();
    let stopping = tokio::spawn(gateway.stop());
    await_told(metrics, "draining").await;
    stopping.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(20), "it waited for the call");
    assert!(answer.await.unwrap().is_err());

    let gateway = Gateway::start(&folder).await;
    let log_key = gateway.log_key.clone();
    gateway.stop().await;
    let found = log::read(&folder.database(), &log_key, &[]).await;
    assert!(found.report.is_sound(), "{:?}", found.report.findings);
    let asked = found.entries.iter().filter(|entry| entry.method == "VerifyLowIncome");
    assert_eq!(asked.map(|entry| entry.phase).collect::<Vec<_>>(), [Phase::Request, Phase::Interrupted]);
}

#[tokio::test]
async fn a_commit_that_is_under_way_when_the_gateway_is_told_to_stop_is_made_and_answered() {
    let folder = Folder::prepare(Script::TakeOnly);
    let metrics = free_address().unwrap();
    let listen = metrics.to_string();
    let gateway = Gateway::start_with(&folder, &[("LEGAL_AID_GATEWAY__METRICS__LISTEN", &listen)]).await;
    let log_key = gateway.log_key.clone();
    // The commit waits for whoever holds the database's write lock.
    let url = format!("sqlite://{}?mode=rw", folder.database().display());
    let mut other = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let centre = folder.client("centre");
    let request = centre.request(folder.fee_waiver(&centre), DEADLINE);
    let submitting = {
        let centre = centre.clone();
        tokio::spawn(async move { centre.exchanges().submit_exchange(request).await })
    };
    await_metric(metrics, "legal_aid_calls_in_progress 1\n").await;
    let stopping = tokio::spawn(gateway.stop());
    await_told(metrics, "draining").await;
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    let answer = submitting.await.unwrap().expect("it was in progress").into_inner();
    stopping.await.unwrap();

    let found = log::read(&folder.database(), &log_key, &[]).await;
    assert!(found.report.is_sound(), "{:?}", found.report.findings);
    let index = usize::try_from(answer.audit.unwrap().log_index).unwrap();
    assert_eq!(found.entries[index].phase, Phase::Response);
    assert_eq!(found.entries[index].exchange.unwrap().to_string(), answer.exchange.unwrap().exchange_id);
}

/// Polls until `GET /ready` says so.
async fn await_told(metrics: SocketAddr, what: &str) {
    await_answer(metrics, "/ready", what).await;
}

async fn await_metric(metrics: SocketAddr, what: &str) {
    await_answer(metrics, "/metrics", what).await;
}

async fn await_answer(metrics: SocketAddr, path: &str, what: &str) {
    let polling = async {
        loop {
            if let Ok(text) = get(metrics, path).await
                && text.contains(what)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, polling).await.unwrap_or_else(|_| panic!("{path} never said {what}"));
}

async fn get(metrics: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(metrics).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}
