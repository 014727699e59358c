//! A caller's trace goes on to the registry, and a delivery begins one; both stand in the log.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod district;

use std::sync::{Arc, Mutex};

use district::{DEADLINE, Scene, Stand, stand};
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::grpc::proto::inbox_service_server::{InboxService, InboxServiceServer};
use legal_aid_gateway::grpc::proto::registry_service_server::{RegistryService, RegistryServiceServer};
use legal_aid_gateway::simulator::registry::RegistryConfig;
use tokio::sync::mpsc;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

#[tokio::test]
async fn the_registry_learns_the_callers_trace_and_the_gateways_own_span() {
    let mut scene = Scene::start().await;
    let listening = Listening::default();
    let _registry = listening.in_the_registrys_place(&mut scene).await;
    let ask = async |traceparent: &str| {
        let mut request = scene.centre.request(scene.question(), DEADLINE);
        request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
        request.metadata_mut().insert("tracestate", "vendor=331004198001010016".parse().unwrap());
        request.metadata_mut().insert("baggage", "who=331004198001010016".parse().unwrap());
        let answer = scene.centre.verification().verify_low_income(request).await.unwrap();
        let heard = listening.heard.lock().unwrap().pop().expect("the registry was asked");
        (answer.into_inner().audit.unwrap().log_index, heard)
    };
    for flags in ["01", "00"] {
        let (index, heard) = ask(&format!("00-{TRACE}-{SPAN}-{flags}")).await;
        let [version, trace, span, told] = parts(&heard);
        assert_eq!((version.as_str(), trace.as_str(), told.as_str()), ("00", TRACE, flags));
        assert_ne!(span, SPAN, "the gateway calls on behalf of its own span");
        assert_eq!(scene.entry(index).await.trace.as_deref(), Some(TRACE));
        assert!(heard.get("tracestate").is_none() && heard.get("baggage").is_none());
    }
    // Somebody's number in the place of an id goes no further.
    for bad in [format!("00-00000000000000331004198001010016-{SPAN}-01"), "nonsense".to_owned()] {
        let (index, heard) = ask(&bad).await;
        let [_, trace, ..] = parts(&heard);
        assert!(!trace.contains("331004198001010016"));
        assert_eq!(scene.entry(index).await.trace.as_deref(), Some(trace.as_str()));
    }
    let (_, heard) = ask(&format!("00-{TRACE}-0331004800101001-01")).await;
    assert_eq!(parts(&heard)[1], TRACE);
    scene.stop().await;
}

#[tokio::test]
async fn a_delivery_begins_a_trace_that_stands_in_its_entry() {
    let mut scene = Scene::start().await;
    scene.district.stop_court().await;
    let (tell, mut told) = mpsc::unbounded_channel();
    let routes = Routes::new(InboxServiceServer::new(Taking(tell)));
    let _court = stand(&scene.profile("court"), scene.court_address(), routes, scene.clock.clone()).await;
    let exchange = scene.submit(&scene.fee_waiver()).await.unwrap().exchange.unwrap();
    let heard = told.recv().await.unwrap();
    let [_, trace, ..] = parts(&heard);
    let filter = proto::EntryFilter { exchange_id: exchange.exchange_id, ..Default::default() };
    scene
        .await_entry(filter, |entry| entry.method == "Deliver" && entry.trace.as_ref() == Some(&trace))
        .await;
    scene.stop().await;
}

fn parts(metadata: &MetadataMap) -> [String; 4] {
    let text = metadata.get("traceparent").expect("a traceparent").to_str().unwrap();
    text.split('-').map(str::to_owned).collect::<Vec<_>>().try_into().unwrap()
}

/// A registry that keeps what came with a question, and does not know.
#[derive(Clone, Default)]
struct Listening {
    heard: Arc<Mutex<Vec<MetadataMap>>>,
}

impl Listening {
    async fn in_the_registrys_place(&self, scene: &mut Scene) -> Stand {
        scene.district.stop_registry().await;
        let text = std::fs::read_to_string(scene.folder.join("simulate-registry.toml")).unwrap();
        let config: RegistryConfig = toml::from_str(&text).unwrap();
        let routes = Routes::new(RegistryServiceServer::new(self.clone()));
        stand(&scene.profile("registry"), config.listen, routes, scene.clock.clone()).await
    }
}

#[tonic::async_trait]
impl RegistryService for Listening {
    async fn query_low_income(
        &self,
        request: Request<proto::QueryLowIncomeRequest>,
    ) -> Result<Response<proto::QueryLowIncomeResponse>, Status> {
        self.heard.lock().unwrap().push(request.metadata().clone());
        Err(Status::unavailable("it only listens"))
    }

    async fn query_poverty_household(
        &self,
        _: Request<proto::QueryPovertyHouseholdRequest>,
    ) -> Result<Response<proto::QueryPovertyHouseholdResponse>, Status> {
        Err(Status::unimplemented("another registry keeps that register"))
    }
}

struct Taking(mpsc::UnboundedSender<MetadataMap>);

#[tonic::async_trait]
impl InboxService for Taking {
    async fn deliver(
        &self,
        request: Request<proto::DeliverRequest>,
    ) -> Result<Response<proto::DeliverResponse>, Status> {
        let _ = self.0.send(request.metadata().clone());
        let message_sha256 = request.into_inner().delivery.unwrap().message_sha256;
        Ok(Response::new(proto::DeliverResponse { message_sha256, already_delivered: false }))
    }
}
