//! A district for tests: gateway, registry and court on loopback from a temporary folder, and ways to ask them.

#![allow(dead_code, reason = "each test binary uses its part")]

#[path = "../support/postgres.rs"]
#[allow(clippy::duplicate_mod, reason = "a test may take this room and the one that it stands in")]
pub(crate) mod postgres;
#[path = "../support/records.rs"]
#[allow(clippy::duplicate_mod, reason = "a test may take this room and the one that it stands in")]
pub(crate) mod records;
pub(crate) mod samples;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use legal_aid_gateway::access::{Agency, AgencyEndpoint, AgencyStatus, Agreement, DirectoryFile, Method};
use legal_aid_gateway::audit::entry::{Entry, keyed_digest};
use legal_aid_gateway::client::{AgencyClient, Profile};
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::config::Database;
use legal_aid_gateway::domain::agency::{AgencyKind, CreditCode, PurposeCode};
use legal_aid_gateway::domain::region::RegionCode;
use legal_aid_gateway::grpc::json::{from_json, to_json};
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::grpc::proto::inbox_service_server::{InboxService, InboxServiceServer};
use legal_aid_gateway::grpc::proto::registry_service_server::{RegistryService, RegistryServiceServer};
use legal_aid_gateway::identity::acceptor::{Acceptor, AcceptorLimits};
use legal_aid_gateway::identity::admission::{AdmissionPolicy, BoxFuture, Refusal};
use legal_aid_gateway::identity::certificate::PeerCertificate;
use legal_aid_gateway::identity::server::{HttpLimits, serve};
use legal_aid_gateway::setup::{codes, purposes};
use legal_aid_gateway::simulator::court::{CourtConfig, Script};
use legal_aid_gateway::simulator::district::{District, free_address};
use legal_aid_gateway::simulator::registry::RegistryConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;
use tonic::service::Routes;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

/// How long a call may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// How long something may take that has no event to wait for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running district with its clients.
pub(crate) struct Scene {
    pub(crate) district: District,
    pub(crate) centre: AgencyClient,
    pub(crate) court: AgencyClient,
    pub(crate) auditor: AgencyClient,
    pub(crate) folder: PathBuf,
    pub(crate) clock: Clock,
    _temporary: TempDir,
}

impl Scene {
    /// Starts everything; the court takes deliveries and says nothing.
    pub(crate) async fn start() -> Self {
        Self::start_with(Script::TakeOnly, Clock::system()).await
    }

    pub(crate) async fn start_with(script: Script, clock: Clock) -> Self {
        let temporary = TempDir::new().unwrap();
        let folder = temporary.path().join("district");
        District::prepare(&folder, script, &clock).unwrap();
        postgres::choose(&folder.join("gateway.toml"));
        let district = District::open(&folder, clock.clone()).await.unwrap();
        let client = |name| district.client(name).unwrap();
        let (centre, court, auditor) = (client("centre"), client("court"), client("auditor"));
        Self { centre, court, auditor, folder, clock, district, _temporary: temporary }
    }

    /// Starts everything after `edit` has changed the gateway's configuration.
    pub(crate) async fn start_configured(edit: impl FnOnce(String) -> String) -> Self {
        Self::start_configured_at(Clock::system(), edit).await
    }

    /// The same, at a time of the test's own.
    pub(crate) async fn start_configured_at(clock: Clock, edit: impl FnOnce(String) -> String) -> Self {
        let temporary = TempDir::new().unwrap();
        let folder = temporary.path().join("district");
        District::prepare(&folder, Script::TakeOnly, &clock).unwrap();
        let path = folder.join("gateway.toml");
        std::fs::write(&path, edit(std::fs::read_to_string(&path).unwrap())).unwrap();
        postgres::choose(&path);
        let district = District::open(&folder, clock.clone()).await.unwrap();
        let client = |name| district.client(name).unwrap();
        let (centre, court, auditor) = (client("centre"), client("court"), client("auditor"));
        Self { centre, court, auditor, folder, clock, district, _temporary: temporary }
    }

    /// Ends everything in order and starts it again.
    pub(crate) async fn restart(self) -> Self {
        self.restart_after(async |_| ()).await
    }

    /// The same; while the gateway stands still, `meanwhile` works on its folder.
    pub(crate) async fn restart_after(self, meanwhile: impl AsyncFnOnce(&Path)) -> Self {
        self.district.stop().await;
        meanwhile(&self.folder).await;
        let district = District::open(&self.folder, self.clock.clone()).await.unwrap();
        Self { district, ..self }
    }

    pub(crate) async fn stop(self) {
        self.district.stop().await;
    }

    pub(crate) fn profile(&self, name: &str) -> Profile {
        Profile::load(&self.folder.join(format!("{name}.toml"))).unwrap()
    }

    /// Changes the directory file and has the gateway read it. What changes of an agreement is a new version of it.
    pub(crate) async fn edit_directory(&self, edit: impl FnOnce(&mut DirectoryFile)) {
        let path = self.folder.join("directory.toml");
        let before: DirectoryFile = toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let mut file = before.clone();
        edit(&mut file);
        for agreement in &mut file.agreements {
            if before.agreements.iter().any(|old| old.id == agreement.id && old != agreement) {
                agreement.version += 1;
            }
        }
        std::fs::write(&path, toml::to_string(&file).unwrap()).unwrap();
        self.district.gateway.reload().await.unwrap();
    }

    /// Enrols the stranger as another legal-aid centre, with an agreement to do with the court all that the first
    /// may.
    pub(crate) async fn enrol_another_centre(&self) -> AgencyClient {
        self.edit_directory(|file| {
            let code = CreditCode::parse(codes::STRANGER).unwrap();
            file.agencies.push(Agency {
                code,
                name: "另一法律援助中心".to_owned(),
                kind: AgencyKind::LegalAidCentre,
                region: RegionCode::parse("331002").unwrap(),
                status: AgencyStatus::Active,
                endpoint: None,
                certificates: Vec::new(),
            });
            let like = agreement(file, "DEV-CENTRE-COURT").clone();
            file.agreements.push(Agreement { id: "DEV-OTHER-COURT".to_owned(), caller: code.into(), ..like });
        })
        .await;
        self.district.client("stranger").unwrap()
    }

    /// Puts a registry in the place of the simulated one that counts what it is asked.
    pub(crate) async fn count_queries(&mut self) -> CountingRegistry {
        self.district.stop_registry().await;
        let text = std::fs::read_to_string(self.folder.join("simulate-registry.toml")).unwrap();
        let config: RegistryConfig = toml::from_str(&text).unwrap();
        let registry = CountingRegistry::default();
        let routes = Routes::new(RegistryServiceServer::new(registry.clone()));
        let stand = stand(&self.profile("registry"), config.listen, routes, self.clock.clone()).await;
        *registry.stand.lock().unwrap() = Some(stand);
        registry
    }

    /// Where the court's inbox is expected.
    pub(crate) fn court_address(&self) -> SocketAddr {
        let text = std::fs::read_to_string(self.folder.join("simulate-court.toml")).unwrap();
        toml::from_str::<CourtConfig>(&text).unwrap().listen.unwrap()
    }

    /// Puts an inbox in the court's place that tells what it is given. Of each delivery it takes over, it lets the
    /// first `lost_answers` answers get lost.
    pub(crate) async fn open_inbox(&self, lost_answers: usize) -> mpsc::UnboundedReceiver<Taken> {
        let (tell, told) = mpsc::unbounded_channel();
        let inbox = Inbox { seen: Arc::default(), tell, lost_answers };
        let routes = Routes::new(InboxServiceServer::new(inbox));
        let stand = stand(&self.profile("court"), self.court_address(), routes, self.clock.clone()).await;
        // It stands as long as the test runs.
        std::mem::forget(stand);
        told
    }

    /// Lets the centre take push, in an inbox that tells what it is given.
    pub(crate) async fn open_centre_inbox(&self) -> mpsc::UnboundedReceiver<Taken> {
        let (tell, told) = mpsc::unbounded_channel();
        let inbox = Inbox { seen: Arc::default(), tell, lost_answers: 0 };
        let routes = Routes::new(InboxServiceServer::new(inbox));
        let listen = free_address().unwrap();
        let stand = stand(&self.profile("centre"), listen, routes, self.clock.clone()).await;
        std::mem::forget(stand);
        self.edit_directory(|file| {
            let centre = file.agencies.iter_mut().find(|agency| agency.code.as_str() == codes::CENTRE);
            centre.unwrap().endpoint =
                Some(AgencyEndpoint { address: listen.to_string(), server_name: "localhost".to_owned() });
        })
        .await;
        told
    }

    /// The entries of the log, in order, as the auditor lists them.
    pub(crate) async fn entries(&self, filter: proto::EntryFilter) -> Vec<(u64, Entry)> {
        let mut found = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = proto::ListEntriesRequest {
                context: Some(self.auditor.context(purposes::AUDIT_INSPECTION)),
                filter: Some(filter.clone()),
                page_size: 500,
                page_token,
                newest_first: false,
            };
            let page = self.auditor.audit().list_entries(self.auditor.request(request, DEADLINE)).await;
            let page = page.unwrap().into_inner();
            let read = |stored: proto::AuditEntry| (stored.index, Entry::from_json(&stored.entry).unwrap());
            found.extend(page.entries.into_iter().map(read));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return found;
            }
        }
    }

    /// One entry, by its index.
    pub(crate) async fn entry(&self, index: u64) -> Entry {
        let request =
            proto::GetEntryRequest { context: Some(self.auditor.context(purposes::AUDIT_INSPECTION)), index };
        let stored = self.auditor.audit().get_entry(self.auditor.request(request, DEADLINE)).await;
        Entry::from_json(&stored.unwrap().into_inner().entry.unwrap().entry).unwrap()
    }

    /// Polls the log until an entry that `wanted` accepts is in it: what the gateway does by itself gives no event.
    pub(crate) async fn await_entry(
        &self,
        filter: proto::EntryFilter,
        wanted: impl Fn(&Entry) -> bool,
    ) -> (u64, Entry) {
        let polling = async {
            loop {
                let entries = self.entries(filter.clone()).await;
                if let Some(found) = entries.into_iter().find(|(_, entry)| wanted(entry)) {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, polling).await.expect("the entry did not come")
    }

    /// Rows of the tables in which something accepted would leave a trace.
    pub(crate) async fn stored_rows(&self) -> BTreeMap<&'static str, i64> {
        let (database, mut rows) = (self.database(), BTreeMap::new());
        for table in ["exchanges", "messages", "deliveries", "claims", "outcomes"] {
            rows.insert(table, records::count(&database, &format!("SELECT COUNT(*) FROM {table}")).await);
        }
        rows
    }

    /// The gateway's database.
    pub(crate) fn database(&self) -> Database {
        records::database_of(&self.folder)
    }

    pub(crate) fn fee_waiver(&self) -> proto::SubmitExchangeRequest {
        fee_waiver(&self.folder, &self.centre)
    }

    pub(crate) fn poverty_question(&self) -> proto::VerifyPovertyHouseholdRequest {
        poverty_question(&self.folder, &self.centre)
    }

    pub(crate) fn question(&self) -> proto::VerifyLowIncomeRequest {
        question(&self.folder, &self.centre)
    }

    /// Submits as the centre.
    pub(crate) async fn submit(
        &self,
        request: &proto::SubmitExchangeRequest,
    ) -> Result<proto::SubmitExchangeResponse, Status> {
        submit(&self.centre, request).await
    }

    /// Submits from the command line what must be refused; what the command says.
    pub(crate) async fn refused_on_the_command_line(
        &self,
        who: &str,
        request: &proto::SubmitExchangeRequest,
    ) -> String {
        let text = to_json("SubmitExchangeRequest", request).unwrap();
        self.refused_command(who, &["submit"], &text.to_string()).await
    }

    /// Answers from the command line what must be refused; what the command says.
    pub(crate) async fn answer_refused_on_the_command_line(
        &self,
        who: &str,
        request: &proto::RespondToExchangeRequest,
    ) -> String {
        let envelope = request.envelope.as_ref().unwrap();
        let text = to_json("Response", request.response.as_ref().unwrap()).unwrap();
        let arguments = ["respond", &envelope.in_reply_to, "--purpose", &envelope.purpose];
        self.refused_command(who, &arguments, &text.to_string()).await
    }

    async fn refused_command(&self, who: &str, arguments: &[&str], text: &str) -> String {
        let file = self.folder.join("refused.json");
        std::fs::write(&file, text).unwrap();
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_legal-aid-gateway"))
            .arg("exchange")
            .args(arguments)
            .arg("--as")
            .arg(self.folder.join(format!("{who}.toml")))
            .arg("--file")
            .arg(file)
            .output()
            .await
            .unwrap();
        assert!(!output.status.success(), "it was taken");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Verifies as the centre.
    pub(crate) async fn verify(
        &self,
        request: &proto::VerifyLowIncomeRequest,
    ) -> Result<proto::VerifyLowIncomeResponse, Status> {
        verify(&self.centre, request).await
    }

    /// The exchanges that the centre sees.
    pub(crate) async fn exchanges(&self) -> Vec<proto::Exchange> {
        let request = proto::ListExchangesRequest {
            context: Some(self.centre.context(purposes::FEE_WAIVER)),
            page_size: 200,
            ..Default::default()
        };
        let list = self.centre.exchanges().list_exchanges(self.centre.request(request, DEADLINE)).await;
        list.unwrap().into_inner().exchanges
    }

    /// Polls an exchange until it is in a state.
    pub(crate) async fn await_state(
        &self,
        exchange_id: &str,
        state: proto::ExchangeState,
    ) -> proto::Exchange {
        let polling = async {
            loop {
                let exchange = get(&self.centre, exchange_id).await.unwrap().exchange.unwrap();
                if exchange.state == state as i32 {
                    return exchange;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, polling).await.expect("the exchange did not get there")
    }
}

pub(crate) async fn submit(
    client: &AgencyClient,
    request: &proto::SubmitExchangeRequest,
) -> Result<proto::SubmitExchangeResponse, Status> {
    let call = client.request(request.clone(), DEADLINE);
    client.exchanges().submit_exchange(call).await.map(Response::into_inner)
}

pub(crate) async fn verify_poverty(
    client: &AgencyClient,
    request: &proto::VerifyPovertyHouseholdRequest,
) -> Result<proto::VerifyPovertyHouseholdResponse, Status> {
    let call = client.request(request.clone(), DEADLINE);
    client.verification().verify_poverty_household(call).await.map(Response::into_inner)
}

pub(crate) async fn verify(
    client: &AgencyClient,
    request: &proto::VerifyLowIncomeRequest,
) -> Result<proto::VerifyLowIncomeResponse, Status> {
    let call = client.request(request.clone(), DEADLINE);
    client.verification().verify_low_income(call).await.map(Response::into_inner)
}

pub(crate) async fn respond(
    client: &AgencyClient,
    request: &proto::RespondToExchangeRequest,
) -> Result<proto::RespondToExchangeResponse, Status> {
    let call = client.request(request.clone(), DEADLINE);
    client.exchanges().respond_to_exchange(call).await.map(Response::into_inner)
}

pub(crate) async fn get(
    client: &AgencyClient,
    exchange_id: &str,
) -> Result<proto::GetExchangeResponse, Status> {
    let request = proto::GetExchangeRequest {
        context: Some(client.context(purposes::FEE_WAIVER)),
        exchange_id: exchange_id.to_owned(),
    };
    client.exchanges().get_exchange(client.request(request, DEADLINE)).await.map(Response::into_inner)
}

pub(crate) async fn pull(client: &AgencyClient) -> Result<proto::PullDeliveriesResponse, Status> {
    let request = proto::PullDeliveriesRequest {
        context: Some(client.context(purposes::FEE_WAIVER)),
        max_deliveries: 10,
    };
    client.exchanges().pull_deliveries(client.request(request, DEADLINE)).await.map(Response::into_inner)
}

pub(crate) async fn acknowledge(
    client: &AgencyClient,
    delivery_id: &str,
    message_sha256: &[u8],
) -> Result<proto::AcknowledgeDeliveryResponse, Status> {
    let request = proto::AcknowledgeDeliveryRequest {
        context: Some(client.context(purposes::FEE_WAIVER)),
        delivery_id: delivery_id.to_owned(),
        message_sha256: message_sha256.to_vec(),
    };
    client.exchanges().acknowledge_delivery(client.request(request, DEADLINE)).await.map(Response::into_inner)
}

/// The fee waiver that `init` gives as an example, from this client.
pub(crate) fn fee_waiver(folder: &Path, client: &AgencyClient) -> proto::SubmitExchangeRequest {
    let text = std::fs::read_to_string(folder.join("fee-waiver.json")).unwrap();
    let mut request: proto::SubmitExchangeRequest = from_json("SubmitExchangeRequest", &text).unwrap();
    request.envelope = Some(client.complete(request.envelope.unwrap()));
    request
}

/// The example on the kind's page in `docs/kinds`, from this client.
pub(crate) fn example(page: &str, client: &AgencyClient) -> proto::SubmitExchangeRequest {
    let mut request: proto::SubmitExchangeRequest =
        from_json("SubmitExchangeRequest", &example_json(page, 0)).unwrap();
    request.envelope = Some(client.complete(request.envelope.unwrap()));
    request
}

/// The answer on the kind's page.
pub(crate) fn example_answer(page: &str) -> proto::response::Kind {
    from_json::<proto::Response>("Response", &example_json(page, 1)).unwrap().kind.unwrap()
}

/// The n-th piece of JSON on the kind's page.
pub(crate) fn example_json(page: &str, n: usize) -> String {
    let path = format!("{}/docs/kinds/{page}.md", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let piece = text.split("```json\n").nth(n + 1).unwrap_or_else(|| panic!("{page} has no JSON {n}"));
    piece.split_once("```").expect("its end").0.to_owned()
}

/// The content of a submission.
pub(crate) fn relief(request: &mut proto::SubmitExchangeRequest) -> &mut proto::JudicialReliefRequest {
    let content = request.content.as_mut().unwrap().kind.as_mut().unwrap();
    let proto::content::Kind::JudicialRelief(relief) = content else { panic!("not judicial relief") };
    relief
}

/// The content of a submission.
pub(crate) fn referral(request: &mut proto::SubmitExchangeRequest) -> &mut proto::AppealReferral {
    let content = request.content.as_mut().unwrap().kind.as_mut().unwrap();
    let proto::content::Kind::AppealReferral(referral) = content else { panic!("not a referral") };
    referral
}

/// The question that `init` gives as an example, from this client.
pub(crate) fn question(folder: &Path, client: &AgencyClient) -> proto::VerifyLowIncomeRequest {
    let text = std::fs::read_to_string(folder.join("query.json")).unwrap();
    let envelope = proto::Envelope {
        matter_id: "LQ-2026-0001".to_owned(),
        kind: proto::Kind::LowIncomeQuery.into(),
        legal_basis: vec![basis("法律援助法", "41")],
        purpose: purposes::AID_ELIGIBILITY.to_owned(),
        classification: Some(sensitive()),
        ..Default::default()
    };
    proto::VerifyLowIncomeRequest {
        envelope: Some(client.complete(envelope)),
        query: Some(from_json("LowIncomeQuery", &text).unwrap()),
        complete_later: false,
    }
}

/// The question about a poverty household that `init` gives as an example, from this client.
pub(crate) fn poverty_question(folder: &Path, client: &AgencyClient) -> proto::VerifyPovertyHouseholdRequest {
    let text = std::fs::read_to_string(folder.join("poverty-query.json")).unwrap();
    let mut envelope = question(folder, client).envelope.unwrap();
    envelope.kind = proto::Kind::PovertyHouseholdQuery.into();
    proto::VerifyPovertyHouseholdRequest {
        envelope: Some(envelope),
        query: Some(from_json("PovertyHouseholdQuery", &text).unwrap()),
        complete_later: false,
    }
}

/// A response in an exchange of the centre and the court, from either.
pub(crate) fn answer(
    client: &AgencyClient,
    exchange: &proto::Exchange,
    arm: proto::response::Kind,
) -> proto::RespondToExchangeRequest {
    let own = client.profile().agency.to_string();
    let other = if exchange.sender == own { &exchange.recipient } else { &exchange.sender };
    let envelope = proto::Envelope {
        matter_id: exchange.matter_id.clone(),
        kind: exchange.kind,
        recipient: other.clone(),
        legal_basis: vec![basis("诉讼费用交纳办法", "48")],
        purpose: purposes::FEE_WAIVER.to_owned(),
        classification: Some(sensitive()),
        in_reply_to: exchange.exchange_id.clone(),
        ..Default::default()
    };
    proto::RespondToExchangeRequest {
        envelope: Some(client.complete(envelope)),
        response: Some(proto::Response { kind: Some(arm) }),
    }
}

pub(crate) fn basis(law: &str, article: &str) -> proto::LegalBasis {
    proto::LegalBasis { law: law.to_owned(), article: article.to_owned() }
}

pub(crate) fn sensitive() -> proto::Classification {
    proto::Classification { sensitive: Some(true), minor_under_14: Some(false) }
}

/// The content of a submission.
pub(crate) fn waiver(request: &mut proto::SubmitExchangeRequest) -> &mut proto::FeeWaiverRequest {
    let content = request.content.as_mut().unwrap().kind.as_mut().unwrap();
    let proto::content::Kind::FeeWaiver(waiver) = content else { panic!("not a fee waiver") };
    waiver
}

pub(crate) fn agreement<'f>(file: &'f mut DirectoryFile, id: &str) -> &'f mut Agreement {
    file.agreements.iter_mut().find(|agreement| agreement.id == id).unwrap()
}

pub(crate) fn purpose(text: &str) -> PurposeCode {
    PurposeCode::parse(text).unwrap()
}

/// A day so many days from today, in Asia/Shanghai.
pub(crate) fn day_from_today(clock: &Clock, days: i64) -> jiff::civil::Date {
    let offset = jiff::tz::Offset::constant(8);
    offset.to_datetime(clock.now()).date().checked_add(jiff::Span::new().days(days)).unwrap()
}

pub(crate) fn wire_date(day: jiff::civil::Date) -> legal_aid_gateway::grpc::generated::google::r#type::Date {
    legal_aid_gateway::grpc::generated::google::r#type::Date {
        year: day.year().into(),
        month: day.month().into(),
        day: day.day().into(),
    }
}

pub(crate) fn wire_time(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

/// What a refusal says, taken apart.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) code: Code,
    pub(crate) reason: String,
    pub(crate) log_index: u64,
    pub(crate) violations: Vec<tonic_types::FieldViolation>,
}

impl Refused {
    pub(crate) fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().unwrap_or_else(|| panic!("no reason in {status:?}"));
        assert_eq!(info.domain, "exchange.legalaid");
        let log_index = info.metadata.get("log_index").expect("a refusal names its entry");
        let in_header = status.metadata().get("audit-log-index").unwrap().to_str().unwrap();
        assert_eq!(log_index, in_header);
        let violations = details.bad_request().map(|bad| bad.field_violations.clone());
        Self {
            code: status.code(),
            reason: info.reason.clone(),
            log_index: log_index.parse().unwrap(),
            violations: violations.unwrap_or_default(),
        }
    }

    /// Field path and rule of each violation.
    pub(crate) fn rules(&self) -> Vec<(&str, &str)> {
        self.violations.iter().map(|v| (v.field.as_str(), v.reason.as_str())).collect()
    }
}

/// A connection on which anything at all can be said.
pub(crate) struct Raw {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
}

/// What came back on it.
pub(crate) struct Answered {
    pub(crate) http: http::StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) status: Status,
}

impl Raw {
    /// Connects with the profile's certificate.
    pub(crate) async fn connect(profile: &Profile) -> Self {
        let stream = connect(profile).await;
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender, authority: profile.gateway.address.clone() }
    }

    /// Sends a request; `path` begins with a slash.
    pub(crate) async fn send(
        &self,
        method: http::Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Answered {
        let mut request = Request::builder().method(method).uri(format!("https://{}{path}", self.authority));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut sender = self.sender.clone();
        sender.ready().await.unwrap();
        let response = sender.send_request(request.body(Full::new(body)).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        let status = Status::from_header_map(&trailers)
            .or_else(|| Status::from_header_map(&parts.headers))
            .expect("a gRPC status");
        Answered { http: parts.status, headers: parts.headers, body: body.to_bytes(), status }
    }

    /// Calls a method as gRPC does; nothing comes back where the connection was closed.
    pub(crate) async fn try_call(&self, path: &str, message: &[u8]) -> Option<Answered> {
        let request = Request::builder()
            .method(http::Method::POST)
            .uri(format!("https://{}{path}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(frame(message)))
            .unwrap();
        let mut sender = self.sender.clone();
        sender.ready().await.ok()?;
        let response = sender.send_request(request).await.ok()?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.ok()?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let status =
            Status::from_header_map(&trailers).or_else(|| Status::from_header_map(&parts.headers))?;
        Some(Answered { http: parts.status, headers: parts.headers, body: body.to_bytes(), status })
    }

    /// Calls a method as gRPC does.
    pub(crate) async fn call(&self, path: &str, message: &[u8], more: &[(&str, &str)]) -> Answered {
        let mut headers = vec![("content-type", "application/grpc"), ("te", "trailers")];
        headers.extend_from_slice(more);
        self.send(http::Method::POST, path, &headers, frame(message)).await
    }
}

async fn connect(profile: &Profile) -> TlsStream<TcpStream> {
    connect_speaking(profile, &profile.gateway.address, &[b"h2"]).await.unwrap()
}

/// Connects to an address of the gateway, and offers these protocols by ALPN.
pub(crate) async fn connect_speaking(
    profile: &Profile,
    address: &str,
    protocols: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let tls = &profile.tls;
    let mut roots = rustls::RootCertStore::empty();
    for authority in CertificateDer::pem_file_iter(&tls.authorities).unwrap() {
        roots.add(authority.unwrap()).unwrap();
    }
    let chain = CertificateDer::pem_file_iter(&tls.certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&tls.private_key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let tcp = TcpStream::connect(address).await.unwrap();
    // A small frame must not wait for the answer to the one before it.
    tcp.set_nodelay(true).unwrap();
    let name = ServerName::try_from(profile.gateway.server_name.clone()).unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

/// Sends a request whose path is no path of a URI, frame by frame, since no library would. Returns once the gateway has
/// reset it.
pub(crate) async fn send_malformed_path(profile: &Profile, path: &str) {
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const END_STREAM_AND_HEADERS: u8 = 5;
    const EMPTY_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let literal =
        |index: u8, text: &str| [&[index, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    // RFC 7541, appendix A: POST, https; the authority and the path as literals.
    let block = [vec![0x83, 0x87], literal(1, "localhost"), literal(4, path)].concat();
    let head = [0, 0, u8::try_from(block.len()).unwrap(), HEADERS, END_STREAM_AND_HEADERS, 0, 0, 0, 1];
    let mut stream = connect(profile).await;
    let bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &EMPTY_SETTINGS, &head, &block].concat();
    stream.write_all(&bytes).await.unwrap();
    stream.flush().await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.expect("the gateway resets the stream");
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        stream.read_exact(&mut vec![0; length]).await.unwrap();
        if head[3] == RST_STREAM {
            return;
        }
    }
}

/// A message with gRPC's prefix.
pub(crate) fn frame(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(message.len() + 5);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).unwrap());
    bytes.put_slice(message);
    bytes.freeze()
}

/// The path of a method.
pub(crate) fn path_of(method: Method) -> String {
    format!("/{}/{}", method.service(), method.name())
}

/// A server that stands until it is dropped.
pub(crate) struct Stand {
    _stop: watch::Sender<()>,
    _server: JoinHandle<()>,
}

/// Takes an address that was free when it was chosen; somebody's call out may have it for a moment since.
pub(crate) async fn bind(address: SocketAddr) -> TcpListener {
    let begun = std::time::Instant::now();
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(10), "{address}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) async fn stand(profile: &Profile, listen: SocketAddr, routes: Routes, clock: Clock) -> Stand {
    let acceptor =
        Acceptor::new(&profile.credentials().unwrap(), Arc::new(LetsAllIn), AcceptorLimits::default(), clock);
    let listener = bind(listen).await;
    let (stop, mut stopped) = watch::channel(());
    let until = async move {
        let _ = stopped.changed().await;
    };
    let limits = HttpLimits { drain_timeout: Duration::from_millis(100), ..HttpLimits::default() };
    let server = tokio::spawn(async move {
        serve(listener, acceptor, routes, limits, until).await;
    });
    Stand { _stop: stop, _server: server }
}

struct LetsAllIn;

impl AdmissionPolicy for LetsAllIn {
    fn admit(&self, _: &PeerCertificate) -> Result<(), Refusal> {
        Ok(())
    }

    fn refused(&self, _: Refusal, _: SocketAddr) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// A registry that says NO_MATCH about the right person, and counts.
#[derive(Clone, Default)]
pub(crate) struct CountingRegistry {
    asked: Arc<AtomicUsize>,
    pub(crate) stand: Arc<Mutex<Option<Stand>>>,
}

impl CountingRegistry {
    pub(crate) fn times_asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[tonic::async_trait]
impl RegistryService for CountingRegistry {
    async fn query_low_income(
        &self,
        request: tonic::Request<proto::QueryLowIncomeRequest>,
    ) -> Result<Response<proto::QueryLowIncomeResponse>, Status> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let request = request.into_inner();
        let subject = request.query.unwrap().subject.unwrap();
        let echo = |text: &str| keyed_digest(&request.echo_key, text.as_bytes()).to_vec();
        Ok(Response::new(proto::QueryLowIncomeResponse {
            answer: Some(proto::LowIncomeAnswer {
                result: proto::VerificationResult::NoMatch.into(),
                data_as_of: Some(wire_time(1_780_000_000)),
                valid_until: Some(wire_date(jiff::civil::date(2099, 1, 1))),
                source: "计数的民政系统".to_owned(),
                ..Default::default()
            }),
            name_echo: echo(&subject.name),
            id_number_echo: echo(&subject.id_number),
        }))
    }

    async fn query_poverty_household(
        &self,
        _: tonic::Request<proto::QueryPovertyHouseholdRequest>,
    ) -> Result<Response<proto::QueryPovertyHouseholdResponse>, Status> {
        Err(Status::unimplemented("another registry keeps that register"))
    }
}

/// What an inbox was given, and how it saw it.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) delivery: proto_delivery::Delivery,
    pub(crate) already_delivered: bool,
}

/// The parts of a delivery that tests look at; the generated type has no `Debug`.
pub(crate) mod proto_delivery {
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Delivery {
        pub(crate) delivery_id: String,
        pub(crate) message: Vec<u8>,
        pub(crate) attempt: u32,
    }
}

struct Inbox {
    seen: Arc<Mutex<BTreeMap<String, usize>>>,
    tell: mpsc::UnboundedSender<Taken>,
    lost_answers: usize,
}

#[tonic::async_trait]
impl InboxService for Inbox {
    async fn deliver(
        &self,
        request: tonic::Request<proto::DeliverRequest>,
    ) -> Result<Response<proto::DeliverResponse>, Status> {
        let delivery = request.into_inner().delivery.unwrap();
        let times = {
            let mut seen = self.seen.lock().unwrap();
            let times = seen.entry(delivery.delivery_id.clone()).or_default();
            *times += 1;
            *times
        };
        let already_delivered = times > 1;
        let message_sha256 = delivery.message_sha256;
        let delivery = proto_delivery::Delivery {
            delivery_id: delivery.delivery_id,
            message: delivery.message,
            attempt: delivery.attempt,
        };
        let _ = self.tell.send(Taken { delivery, already_delivered });
        if times <= self.lost_answers {
            return Err(Status::unavailable("the answer is lost"));
        }
        Ok(Response::new(proto::DeliverResponse { message_sha256, already_delivered }))
    }
}
