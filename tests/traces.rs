//! Spans reach a collector, hang together, and name nobody. Needs `--features otlp`.

#![cfg(feature = "otlp")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod district;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use district::{DEADLINE, Scene};
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use legal_aid_gateway::grpc::proto::ExchangeState;
use legal_aid_gateway::setup::codes;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

#[tokio::test(flavor = "multi_thread")]
async fn the_spans_of_a_call_hang_together_and_hold_no_personal_value() {
    let (collector, mut sent) = collect().await;
    let scene = Scene::start_configured(|text| {
        let commented = "# [traces]                          # spans to a collector; only in a build with `--features otlp`\n# endpoint = \"http://127.0.0.1:4317\"";
        assert!(text.contains(commented));
        text.replace(commented, &format!("[traces]\nendpoint = \"http://{collector}\""))
    })
    .await;
    let mut request = scene.centre.request(scene.question(), DEADLINE);
    request.metadata_mut().insert("traceparent", format!("00-{TRACE}-{SPAN}-01").parse().unwrap());
    scene.centre.verification().verify_low_income(request).await.unwrap();
    // Not to be recorded, says its caller.
    let mut request = scene.centre.request(scene.question(), DEADLINE);
    let quiet = TRACE.replace('0', "1");
    request.metadata_mut().insert("traceparent", format!("00-{quiet}-{SPAN}-00").parse().unwrap());
    scene.centre.verification().verify_low_income(request).await.unwrap();
    let exchange = scene.submit(&scene.fee_waiver()).await.unwrap().exchange.unwrap();
    scene.await_state(&exchange.exchange_id, ExchangeState::Delivered).await;
    let mut bad = scene.fee_waiver();
    bad.envelope.as_mut().unwrap().purpose = "331004198001010016".to_owned();
    scene.submit(&bad).await.err().unwrap();
    scene.stop().await;

    let (mut spans, mut bytes) = (BTreeMap::new(), Vec::new());
    while let Ok(export) = sent.try_recv() {
        bytes.extend_from_slice(&export);
        for of_resource in Export::decode(export.as_slice()).unwrap().resource_spans {
            for span in of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans) {
                spans.insert(span.span_id.clone(), span);
            }
        }
    }
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let of_method = |name: &str| spans.values().filter(|span| span.name == name).collect::<Vec<_>>();
    let [answered] = of_method("VerifyLowIncome")[..] else { panic!("{spans:?}") };
    assert_eq!((hex(&answered.trace_id).as_str(), hex(&answered.parent_span_id).as_str()), (TRACE, SPAN));
    let [asked] = of_method("QueryLowIncome")[..] else { panic!("{spans:?}") };
    assert_eq!((&asked.trace_id, &asked.parent_span_id), (&answered.trace_id, &answered.span_id));
    assert!(asked.end_time <= answered.end_time && asked.start_time >= answered.start_time);
    let submitted: Vec<_> = of_method("SubmitExchange").iter().map(|span| span.status.is_some()).collect();
    assert_eq!(submitted.len(), 2, "{spans:?}");
    assert!(!of_method("Deliver").is_empty(), "{spans:?}");

    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("legal-aid-centre") && text.contains("rpc.grpc.status_code"));
    for secret in [
        "测试",
        "331004198001010016",
        "19800101",
        codes::CENTRE,
        codes::COURT,
        &exchange.exchange_id,
        "LQ-2026",
    ] {
        assert!(!text.contains(secret), "{secret} is in what was sent");
    }
}

/// A collector that keeps the messages it is sent.
async fn collect() -> (SocketAddr, mpsc::UnboundedReceiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tell = tell.clone();
            let service = hyper::service::service_fn(move |request| take(request, tell.clone()));
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    (address, told)
}

async fn take(
    request: Request<Incoming>,
    tell: mpsc::UnboundedSender<Vec<u8>>,
) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, Infallible> {
    assert_eq!(request.uri().path(), "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body[0], 0, "not compressed");
    let _ = tell.send(body[5..].to_vec());
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let empty = BytesMut::zeroed(5).freeze();
    let body = Full::new(empty).with_trailers(async move { Some(Ok(trailers)) });
    let response = Response::builder().header("content-type", "application/grpc").body(body.boxed_unsync());
    Ok(response.unwrap())
}

/// What the test reads of `opentelemetry/proto/collector/trace/v1/trace_service.proto`.
#[derive(Clone, PartialEq, Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<OfResource>,
}

#[derive(Clone, PartialEq, Message)]
struct OfResource {
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<OfScope>,
}

#[derive(Clone, PartialEq, Message)]
struct OfScope {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<ExportedSpan>,
}

#[derive(Clone, PartialEq, Message)]
struct ExportedSpan {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(fixed64, tag = "7")]
    start_time: u64,
    #[prost(fixed64, tag = "8")]
    end_time: u64,
    #[prost(message, optional, tag = "15")]
    status: Option<Code>,
}

#[derive(Clone, PartialEq, Message)]
struct Code {
    #[prost(int32, tag = "3")]
    code: i32,
}
