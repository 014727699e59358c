//! Registries that fail or stall: they are left alone for a while, and what one caller meets there is not another's.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod district;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use district::{CountingRegistry, DEADLINE, Scene, question, stand, verify};
use legal_aid_gateway::access::Agreement;
use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::domain::agency::CreditCode;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::grpc::proto::VerificationResult;
use legal_aid_gateway::grpc::proto::registry_service_server::{RegistryService, RegistryServiceServer};
use legal_aid_gateway::setup::codes;
use legal_aid_gateway::simulator::registry::RegistryConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

/// The configuration with this in its `[upstream]`.
fn upstream(text: &str, lines: &str) -> String {
    let (before, after) = text.split_once("[upstream]").unwrap();
    let (heading, rest) = after.split_once('\n').unwrap();
    format!("{before}[upstream]{heading}\n{lines}{rest}")
}

#[tokio::test]
async fn a_registry_that_is_down_is_left_alone_until_a_probe_finds_it_back() {
    let clock = Clock::moved_by_hand(Clock::system().now());
    let mut scene = Scene::start_configured_at(clock, |text| {
        let text = text.replace("# listen = \"127.0.0.1:9464\"", "listen = \"127.0.0.1:0\"");
        upstream(&text, "failures = 2\npause = \"60s\"\nlongest_pause = \"120s\"\n")
    })
    .await;
    let metrics = scene.district.gateway.metrics_address().unwrap();
    scene.district.stop_registry().await;
    assert_eq!(outcome(&scene, &scene.centre).await.1, "REGISTRY_UNREACHABLE");
    assert_eq!(outcome(&scene, &scene.centre).await.1, "REGISTRY_UNREACHABLE");
    scene.district.start_registry().await.unwrap();

    let refused = scene.verify(&scene.question()).await.unwrap();
    let answer = refused.answer.unwrap();
    assert!(answer.result() == VerificationResult::Unavailable);
    assert_eq!(answer.reason, "REGISTRY_CIRCUIT_OPEN", "the pause is not over");
    assert!(answer.next_steps.iter().any(|step| step.code == "AID_FIRST_PAPERS_LATER"));
    let entry = scene.entry(refused.audit.unwrap().log_index).await;
    assert_eq!(entry.reason.as_deref(), Some("REGISTRY_CIRCUIT_OPEN"));
    let another = another_centre(&scene).await;
    assert_eq!(outcome(&scene, &another).await.1, "REGISTRY_CIRCUIT_OPEN", "nobody finds it where it is not");
    let kind = "agency_kind=\"civil-affairs-registry\"";
    let open = format!("legal_aid_upstream_circuits{{{kind},of=\"all\",state=\"open\"}}");
    assert!(figures(metrics).await.contains(&format!("{open} 1\n")));

    scene.clock.advance(Duration::from_secs(80));
    assert!(outcome(&scene, &scene.centre).await.0 == VerificationResult::Match, "the probe");
    assert!(outcome(&scene, &another).await.0 == VerificationResult::Match);
    let figures = figures(metrics).await;
    assert!(figures.contains(&format!("{open} 0\n")), "{figures}");
    let refused = "legal_aid_upstream_refused_total";
    assert!(
        figures.contains(&format!("{refused}{{{kind},reason=\"REGISTRY_CIRCUIT_OPEN\"}} 2\n")),
        "{figures}"
    );
    scene.stop().await;
}

#[tokio::test]
async fn a_caller_that_floods_a_stalling_registry_keeps_no_other_from_it_and_each_call_asks_once() {
    let mut scene = Scene::start_configured(|text| {
        let pauses = "failures = 2\npause = \"1h\"\nlongest_pause = \"1h\"\nstalled_after = \"500ms\"\n";
        upstream(&text, &format!("{pauses}questions = 4\nquestions_per_caller = 2\n"))
    })
    .await;
    let another = another_centre(&scene).await;
    let registry = stalling_registry(&mut scene, codes::CENTRE).await;
    let centre = Arc::new(scene.district.client("centre").unwrap());

    let mut flood = JoinSet::new();
    for _ in 0..6 {
        let (centre, request) = (Arc::clone(&centre), scene.question());
        flood.spawn(async move {
            let call = centre.request(request, Duration::from_secs(6));
            centre.verification().verify_low_income(call).await.unwrap().into_inner().answer.unwrap().reason
        });
    }
    let mut reasons = Vec::new();
    while reasons.len() < 4 {
        reasons.push(flood.join_next().await.unwrap().unwrap());
    }
    // All of the flood that is not turned away is held; the other caller has its places.
    assert!(outcome(&scene, &another).await.0 == VerificationResult::NoMatch);
    while let Some(reason) = flood.join_next().await {
        reasons.push(reason.unwrap());
    }
    reasons.sort();
    let turned_away = ["REGISTRY_QUESTIONS_EXCEEDED"; 4];
    assert_eq!(reasons, [&turned_away[..], &["REGISTRY_UNREACHABLE"; 2]].concat());
    // A question discloses whom it is about: it went out once, whatever became of it.
    assert_eq!(registry.stalled.load(Ordering::SeqCst), 2);

    // Two stalls open the circuit of who met them, and of nobody else.
    assert_eq!(outcome(&scene, &scene.centre).await.1, "REGISTRY_CIRCUIT_OPEN");
    assert!(outcome(&scene, &another).await.0 == VerificationResult::NoMatch);
    assert_eq!(registry.stalled.load(Ordering::SeqCst), 2);
    assert_eq!(registry.honest.times_asked(), 2);
    scene.stop().await;
}

/// Asks, and tells the result with its reason.
async fn outcome(scene: &Scene, client: &AgencyClient) -> (VerificationResult, String) {
    let response = verify(client, &question(&scene.folder, client)).await.unwrap();
    let answer = response.answer.unwrap();
    (answer.result(), answer.reason)
}

/// Another centre that may ask the registry as the first one may.
async fn another_centre(scene: &Scene) -> AgencyClient {
    let client = scene.enrol_another_centre().await;
    scene
        .edit_directory(|file| {
            let like = district::agreement(file, "DEV-VERIFY").clone();
            let caller = CreditCode::parse(codes::STRANGER).unwrap().into();
            file.agreements.push(Agreement { id: "DEV-OTHER-VERIFY".to_owned(), caller, ..like });
        })
        .await;
    client
}

/// Puts a registry in the place of the simulated one that never answers one caller's questions.
async fn stalling_registry(scene: &mut Scene, stalls: &'static str) -> StallingRegistry {
    scene.district.stop_registry().await;
    let text = std::fs::read_to_string(scene.folder.join("simulate-registry.toml")).unwrap();
    let config: RegistryConfig = toml::from_str(&text).unwrap();
    let (honest, stalled) = (CountingRegistry::default(), Arc::default());
    let registry = StallingRegistry { stalls, stalled, honest };
    let routes = Routes::new(RegistryServiceServer::new(registry.clone()));
    let stand = stand(&scene.profile("registry"), config.listen, routes, scene.clock.clone()).await;
    *registry.honest.stand.lock().unwrap() = Some(stand);
    registry
}

#[derive(Clone)]
struct StallingRegistry {
    stalls: &'static str,
    /// Questions that have no answer.
    stalled: Arc<AtomicUsize>,
    honest: CountingRegistry,
}

#[tonic::async_trait]
impl RegistryService for StallingRegistry {
    async fn query_low_income(
        &self,
        request: Request<proto::QueryLowIncomeRequest>,
    ) -> Result<Response<proto::QueryLowIncomeResponse>, Status> {
        if request.get_ref().envelope.as_ref().unwrap().sender == self.stalls {
            self.stalled.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        self.honest.query_low_income(request).await
    }

    async fn query_poverty_household(
        &self,
        request: Request<proto::QueryPovertyHouseholdRequest>,
    ) -> Result<Response<proto::QueryPovertyHouseholdResponse>, Status> {
        self.honest.query_poverty_household(request).await
    }
}

/// What the gateway measures.
async fn figures(address: std::net::SocketAddr) -> String {
    let asking = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    };
    tokio::time::timeout(DEADLINE, asking).await.unwrap()
}
