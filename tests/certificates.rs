//! Certificates live and die while the gateway serves: renewed under load, revoked, suspended, damaged on the disk.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use legal_aid_gateway::access::{AgencyStatus, DirectoryFile};
use legal_aid_gateway::audit::entry::{Entry, Phase};
use legal_aid_gateway::client::AgencyClient;
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::domain::agency::CreditCode;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::identity::development::{DevelopmentAuthority, IssuedCertificate};
use legal_aid_gateway::identity::dialler::{DialError, Dialler, Endpoint};
use legal_aid_gateway::setup::{codes, purposes};
use legal_aid_gateway::simulator::court::Script;
use legal_aid_gateway::simulator::district::free_address;
use support::{DEADLINE, Folder, Gateway, PATIENCE};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tonic::{Code, Status, Streaming};

const HOUR: Duration = Duration::from_secs(3600);

/// How soon whoever may not come any more is out.
const OUT_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn certificates_of_gateway_and_centre_rotate_under_load_with_no_failed_call() {
    let folder = Folder::prepare(Script::TakeOnly);
    let (registry, court) = (folder.registry().await, folder.court().await);
    let (tiles, listen) = (free_address().unwrap(), free_address().unwrap());
    let settings = [
        ("LEGAL_AID_GATEWAY__AUDIT__TILES__LISTEN", tiles.to_string()),
        ("LEGAL_AID_GATEWAY__METRICS__LISTEN", listen.to_string()),
    ];
    let gateway = start(&folder, &settings).await;
    let load = Load::begin(&folder);
    let mut calls = load.calls();
    for renewal in 1..=3 {
        let (own, centre) = (issue(&folder, codes::GATEWAY, HOUR), issue(&folder, codes::CENTRE, HOUR));
        let key = spki(&own);
        renew(&folder, "gateway", &own);
        renew(&folder, "centre", &centre);
        load.renew();
        // Inwards on both listeners: with a certificate of the authority alone, whoever it names.
        let gateway_at: SocketAddr = folder.client("centre").profile().gateway.address.parse().unwrap();
        for address in [gateway_at, tiles] {
            until(|| async { probe(&folder, "auditor", address).await.is_ok_and(|shown| shown == key) })
                .await;
        }
        // Outwards: what the registry is asked, and what the court is brought.
        let asked = registry.watch_calls().borrow().to_owned();
        until(|| async { *registry.watch_calls().borrow() > asked }).await;
        let centre = folder.client("centre");
        let request = centre.request(folder.fee_waiver(&centre), DEADLINE);
        let submitted = centre.exchanges().submit_exchange(request).await.unwrap().into_inner();
        let exchange = submitted.exchange.unwrap().exchange_id;
        until(|| async { went_out_with(&folder, &exchange, &key).await }).await;
        calls = load.await_more_than(calls + 20).await;
        println!("renewal {renewal}: {calls} calls answered");
    }
    let failed = load.end().await;
    assert!(failed.is_empty(), "{failed:?}; {}", gateway.said());
    assert!(calls > 60);
    gateway.stop().await;
    registry.stop().await;
    court.stop().await;
}

#[tokio::test]
async fn a_revoked_agency_is_out_within_five_seconds_and_the_others_notice_nothing() {
    let folder = Folder::prepare(Script::TakeOnly);
    write_list(&folder, &[]);
    folder.reconfigure("# revocations =", "revocations =");
    let registry = folder.registry().await;
    let gateway = Gateway::start(&folder).await;
    let load = Load::begin(&folder);
    let court = folder.client("court");
    let mut watching = watch(&court).await.unwrap();
    let (addressee, own) = (folder.file("tls/court.crt.pem"), folder.file("tls/court.key.pem"));
    let before = load.await_more_than(5).await;

    write_list(&folder, &[&read_issued(&addressee, &own)]);
    let began = Instant::now();
    let ended = ended(&mut watching).await;
    let took = began.elapsed();
    println!("a revoked agency's connection ended after {took:?}");
    assert!(took < OUT_WITHIN, "{took:?}");
    assert_ne!(ended.code(), Code::PermissionDenied, "whose certificate is not believed is told nothing");
    let refused = probe(&folder, "court", folder_address(&folder)).await.err();
    assert!(
        matches!(refused, Some(DialError::Refused(rustls::AlertDescription::CertificateRevoked))),
        "{refused:?}"
    );
    assert!(watch(&court).await.is_err());
    let court_key = spki(&read_issued(&addressee, &own));
    assert_shown_out(&folder, codes::COURT, &court_key, "CERTIFICATE_REVOKED").await;

    load.await_more_than(before + 20).await;
    let failed = load.end().await;
    assert!(failed.is_empty(), "{failed:?}; {}", gateway.said());
    gateway.stop().await;
    registry.stop().await;
}

#[tokio::test]
async fn a_suspended_agency_is_out_within_five_seconds_and_what_waits_for_it_is_held_until_it_is_active_again()
 {
    let folder = Folder::prepare(Script::TakeOnly);
    let (registry, court) = (folder.registry().await, folder.court().await);
    let gateway = Gateway::start(&folder).await;
    let load = Load::begin(&folder);
    let (of_court, centre, operator) =
        (folder.client("court"), folder.client("centre"), folder.client("operator"));
    let mut watching = watch(&of_court).await.unwrap();

    set_status(&folder, codes::COURT, AgencyStatus::Suspended);
    let began = Instant::now();
    ended(&mut watching).await;
    until(|| async { gateway.said().contains("would not be let in any more") }).await;
    // The connection itself ends: on it, nobody would be told that the agency is suspended but by its answer.
    until(|| async {
        let refused = watch(&of_court).await.err();
        refused.is_some_and(|status| status.code() != Code::PermissionDenied)
    })
    .await;
    let took = began.elapsed();
    println!("a suspended agency's connection ended after {took:?}");
    assert!(took < OUT_WITHIN, "{took:?}");

    let key = spki(&read_issued(&folder.file("tls/court.crt.pem"), &folder.file("tls/court.key.pem")));
    assert_shown_out(&folder, codes::COURT, &key, "AGENCY_SUSPENDED").await;

    let request = centre.request(folder.fee_waiver(&centre), DEADLINE);
    let exchange = centre.exchanges().submit_exchange(request).await.unwrap().into_inner().exchange.unwrap();
    let before = load.calls();
    load.await_more_than(before + 20).await;
    let held = delivery(&operator, &exchange.exchange_id).await;
    assert!(held.state() == proto::DeliveryState::Pending);
    assert_eq!(held.attempts, 0);
    assert_eq!(*court.watch_calls().borrow(), 0);

    set_status(&folder, codes::COURT, AgencyStatus::Active);
    until(|| async {
        delivery(&operator, &exchange.exchange_id).await.state() == proto::DeliveryState::Delivered
    })
    .await;
    assert_eq!(*court.watch_calls().borrow(), 1);
    watch(&of_court).await.unwrap();
    let failed = load.end().await;
    assert!(failed.is_empty(), "{failed:?}; {}", gateway.said());
    gateway.stop().await;
    registry.stop().await;
    court.stop().await;
}

#[tokio::test]
async fn files_that_cannot_be_used_leave_those_before_in_force_and_it_is_said() {
    let folder = Folder::prepare(Script::TakeOnly);
    write_list(&folder, &[]);
    folder.reconfigure("# revocations =", "revocations =");
    let registry = folder.registry().await;
    let metrics = free_address().unwrap();
    let settings = [("LEGAL_AID_GATEWAY__METRICS__LISTEN", metrics.to_string())];
    let gateway = start(&folder, &settings).await;
    let load = Load::begin(&folder);
    let auditor = folder.client("auditor").profile().credentials().unwrap();
    let (auditor, at) = (Dialler::new(&auditor, Clock::system()), folder_address(&folder));
    let stranger = DevelopmentAuthority::create("stranger", Clock::system().now()).unwrap();
    let other = issue(&folder, codes::GATEWAY, HOUR);
    let expired = issue_at(&folder, codes::GATEWAY, Clock::system().now() - 2 * HOUR, HOUR);
    for (name, bad, files) in [
        ("tls/authority.crt.pem", "no certificate".to_owned(), "credentials"),
        ("tls/gateway.crt.pem", other.certificate_pem.clone(), "credentials"),
        ("tls/gateway.key.pem", String::new(), "credentials"),
        ("tls/revoked.crl.pem", stranger.certificate_pem().to_owned(), "credentials"),
        ("tls/revoked.crl.pem", list(&folder, &[], Clock::system().now() - 2 * HOUR), "credentials"),
        ("directory.toml", "[[agency]]\ncode = 1".to_owned(), "directory"),
    ] {
        let good = std::fs::read_to_string(folder.file(name)).unwrap();
        replace(&folder.file(name), &bad);
        await_metric(metrics, &format!("legal_aid_files_refused{{files=\"{files}\"}} 1\n")).await;
        // New connections too.
        auditor.probe(&endpoint(at)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        replace(&folder.file(name), &good);
        await_metric(metrics, &format!("legal_aid_files_refused{{files=\"{files}\"}} 0\n")).await;
    }
    // A certificate that has ended is not put in the place of one that has not.
    let good = read_issued(&folder.file("tls/gateway.crt.pem"), &folder.file("tls/gateway.key.pem"));
    renew(&folder, "gateway", &expired);
    await_metric(metrics, "legal_aid_files_refused{files=\"credentials\"} 1\n").await;
    assert_eq!(auditor.probe(&endpoint(at)).await.unwrap().spki_sha256, spki(&good));
    let doctor = folder.run(&["doctor", "--config", "gateway.toml"]).await;
    let found = String::from_utf8(doctor.stdout).unwrap();
    assert!(!doctor.status.success() && found.contains("it has expired"), "{found}");
    renew(&folder, "gateway", &good);
    await_metric(metrics, "legal_aid_files_refused{files=\"credentials\"} 0\n").await;

    let said = gateway.said();
    assert!(
        said.contains("what was read before stays in force") && said.contains("directory.toml"),
        "{said}"
    );
    let failed = load.end().await;
    assert!(failed.is_empty(), "{failed:?}; {said}");
    gateway.stop().await;
    registry.stop().await;
}

#[tokio::test]
async fn a_new_authority_is_believed_once_its_file_has_it_and_an_old_one_no_more_once_it_is_gone() {
    let folder = Folder::prepare(Script::TakeOnly);
    let gateway = Gateway::start(&folder).await;
    let court = folder.client("court");
    let mut watching = watch(&court).await.unwrap();
    let now = Clock::system().now();
    let new = DevelopmentAuthority::create("the next one", now).unwrap();
    let centre = CreditCode::parse(codes::CENTRE).unwrap();
    let of_new = new.issue(centre, "centre", &[], now, HOUR).unwrap();
    let old = std::fs::read_to_string(folder.file("tls/authority.crt.pem")).unwrap();
    let at = folder_address(&folder);
    std::fs::create_dir(folder.file("new")).unwrap();
    of_new.write_to(&folder.file("new"), "centre").unwrap();
    std::fs::write(folder.file("new/trusted.pem"), &old).unwrap();
    let credentials = legal_aid_gateway::identity::credentials::Credentials::load(
        &folder.file("new/centre.crt.pem"),
        &folder.file("new/centre.key.pem"),
        &folder.file("new/trusted.pem"),
    );
    let dialler = Dialler::new(&credentials.unwrap(), Clock::system());
    assert!(dialler.probe(&endpoint(at)).await.is_err());

    // The gateway trusts both, and nobody notices.
    std::fs::write(folder.file("both.pem"), format!("{old}{}", new.certificate_pem())).unwrap();
    std::fs::rename(folder.file("both.pem"), folder.file("tls/authority.crt.pem")).unwrap();
    until(|| async { dialler.probe(&endpoint(at)).await.is_ok() }).await;
    probe_trusting(&folder, "auditor", &folder.file("new/trusted.pem"), at).await.unwrap();

    // Then only the new one: whoever came with the old is out.
    replace(&folder.file("tls/authority.crt.pem"), new.certificate_pem());
    ended(&mut watching).await;
    dialler.probe(&endpoint(at)).await.unwrap();
    assert!(probe_trusting(&folder, "auditor", &folder.file("new/trusted.pem"), at).await.is_err());
    gateway.stop().await;
}

#[tokio::test]
async fn what_ends_soon_is_said_by_log_and_figures() {
    let folder = Folder::prepare(Script::TakeOnly);
    let registry = folder.registry().await;
    renew(&folder, "gateway", &issue(&folder, codes::GATEWAY, 20 * 24 * HOUR));
    renew(&folder, "centre", &issue(&folder, codes::CENTRE, 5 * 24 * HOUR));
    let metrics = free_address().unwrap();
    let settings = [
        ("LEGAL_AID_GATEWAY__METRICS__LISTEN", metrics.to_string()),
        ("LEGAL_AID_GATEWAY__TLS__WARN_BEFORE_DAYS", "10".to_owned()),
    ];
    let gateway = start(&folder, &settings).await;
    await_metric(metrics, "legal_aid_agencies_with_expiring_certificates 0\n").await;
    probe(&folder, "centre", folder_address(&folder)).await.unwrap();
    await_metric(metrics, "legal_aid_agencies_with_expiring_certificates 1\n").await;
    assert!(!gateway.said().contains("ends soon"), "20 days are more than 10: {}", gateway.said());
    gateway.stop().await;

    let gateway = start(&folder, &[("LEGAL_AID_GATEWAY__TLS__WARN_BEFORE_DAYS", "21".to_owned())]).await;
    until(|| async { gateway.said().contains("own certificate") && gateway.said().contains("ends soon") })
        .await;
    gateway.stop().await;
    let doctor = folder.run(&["doctor", "--config", "gateway.toml"]).await;
    let found = String::from_utf8(doctor.stdout).unwrap();
    assert!(found.contains("get a new one now"), "{found}");
    registry.stop().await;
}

// ---- who calls meanwhile ----------------------------------------------------------------------------------------

/// A centre that asks the registry all the time, on several connections.
struct Load {
    running: Arc<AtomicBool>,
    renewals: Arc<AtomicU64>,
    answered: Arc<AtomicU64>,
    callers: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn begin(folder: &Folder) -> Self {
        let running = Arc::new(AtomicBool::new(true));
        let (renewals, answered) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let callers = (0..4)
            .map(|_| {
                let (running, renewals) = (Arc::clone(&running), Arc::clone(&renewals));
                let answered = Arc::clone(&answered);
                let profile = folder.file("centre.toml");
                let mut centre = folder.client("centre");
                let question = folder.question(&centre);
                tokio::spawn(async move {
                    let (mut failed, mut renewed) = (Vec::new(), 0);
                    while running.load(Ordering::Relaxed) {
                        // As a centre does that renews its certificate: what comes after goes out with the new one.
                        if renewals.load(Ordering::Acquire) != renewed {
                            renewed = renewals.load(Ordering::Acquire);
                            centre = AgencyClient::load(&profile, Clock::system()).unwrap();
                        }
                        let mut question = question.clone();
                        let asked = question.envelope.take().unwrap_or_default();
                        question.envelope =
                            Some(proto::Envelope { request_id: centre.request_id(), ..asked });
                        let request = centre.request(question, DEADLINE);
                        match centre.verification().verify_low_income(request).await {
                            Ok(answer) => {
                                let answer = answer.into_inner().answer.unwrap_or_default();
                                if answer.result() == proto::VerificationResult::Unavailable {
                                    failed.push("unavailable".to_owned());
                                }
                                answered.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(status) => failed.push(format!("{status:?}")),
                        }
                    }
                    failed
                })
            })
            .collect();
        Self { running, renewals, answered, callers }
    }

    fn calls(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    fn renew(&self) {
        self.renewals.fetch_add(1, Ordering::Release);
    }

    async fn await_more_than(&self, calls: u64) -> u64 {
        until(|| async { self.calls() > calls }).await;
        self.calls()
    }

    /// What failed.
    async fn end(self) -> Vec<String> {
        self.running.store(false, Ordering::Relaxed);
        let mut failed = Vec::new();
        for caller in self.callers {
            failed.extend(caller.await.unwrap());
        }
        failed
    }
}

async fn start(folder: &Folder, settings: &[(&str, String)]) -> Gateway {
    let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    Gateway::start_with(folder, &settings).await
}

async fn watch(client: &AgencyClient) -> Result<Streaming<proto::WatchExchangesResponse>, Status> {
    let request = proto::WatchExchangesRequest {
        context: Some(client.context(purposes::FEE_WAIVER)),
        cursor: String::new(),
    };
    let mut items = client.exchanges().watch_exchanges(request).await?.into_inner();
    // It has begun once there is a first item.
    items.message().await?;
    Ok(items)
}

/// How a watch ends that does not end by itself.
async fn ended(items: &mut Streaming<proto::WatchExchangesResponse>) -> Status {
    let ending = async {
        loop {
            match items.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended as if all were well"),
                Err(status) => return status,
            }
        }
    };
    tokio::time::timeout(PATIENCE, ending).await.expect("the watch ends")
}

/// Waits for the entry that tells whose connections were ended, by which certificate, why, and how many: nothing else.
async fn assert_shown_out(folder: &Folder, agency: &str, key: &[u8; 32], reason: &str) {
    let auditor = folder.client("auditor");
    let told = || async {
        let request = proto::ListEntriesRequest {
            context: Some(auditor.context(purposes::AUDIT_INSPECTION)),
            filter: Some(proto::EntryFilter { method: "CloseConnections".into(), ..Default::default() }),
            ..Default::default()
        };
        let found = auditor.audit().list_entries(auditor.request(request, DEADLINE)).await.unwrap();
        let found = found.into_inner().entries;
        found.iter().map(|found| Entry::from_json(&found.entry).unwrap()).collect::<Vec<_>>()
    };
    until(|| async { !told().await.is_empty() }).await;
    let told = told().await;
    assert!(told.iter().all(|entry| entry.phase == Phase::Event && entry.caller.as_deref() == Some(agency)));
    assert!(told.iter().all(|entry| entry.certificate == Some(HEXLOWER.encode(key))), "{told:?}");
    assert!(told.iter().all(|entry| entry.reason.as_deref() == Some(reason)), "{told:?}");
    assert!(told.iter().all(|entry| entry.items >= Some(1)), "{told:?}");
}

async fn delivery(operator: &AgencyClient, exchange: &str) -> proto::OutboxDelivery {
    let mut found = Vec::new();
    for state in [proto::DeliveryState::Unspecified, proto::DeliveryState::Delivered] {
        let request = proto::ListDeliveriesRequest {
            context: Some(operator.context(purposes::GATEWAY_OPERATION)),
            state: state.into(),
            ..Default::default()
        };
        let page = operator.exchanges().list_deliveries(operator.request(request, DEADLINE)).await.unwrap();
        found.extend(page.into_inner().deliveries);
    }
    found.into_iter().find(|delivery| delivery.exchange_id == exchange).expect("the exchange's delivery")
}

/// Whether a delivery of the exchange was brought to the court with this key.
async fn went_out_with(folder: &Folder, exchange: &str, key: &[u8; 32]) -> bool {
    let auditor = folder.client("auditor");
    let request = proto::ListEntriesRequest {
        context: Some(auditor.context(purposes::AUDIT_INSPECTION)),
        filter: Some(proto::EntryFilter { exchange_id: exchange.to_owned(), ..Default::default() }),
        page_size: 100,
        ..Default::default()
    };
    let page = auditor.audit().list_entries(auditor.request(request, DEADLINE)).await.unwrap().into_inner();
    let entries = page.entries.iter().map(|stored| Entry::from_json(&stored.entry).unwrap());
    let mut attempts = entries.filter(|entry| entry.method == "Deliver" && entry.phase == Phase::Request);
    attempts.any(|entry| entry.certificate == Some(HEXLOWER.encode(key)))
}

// ---- certificates and files -------------------------------------------------------------------------------------

fn authority(folder: &Folder) -> DevelopmentAuthority {
    DevelopmentAuthority::load(&folder.file("tls")).unwrap()
}

fn issue(folder: &Folder, code: &str, lifetime: Duration) -> IssuedCertificate {
    issue_at(folder, code, Clock::system().now(), lifetime)
}

fn issue_at(folder: &Folder, code: &str, at: jiff::Timestamp, lifetime: Duration) -> IssuedCertificate {
    let code = CreditCode::parse(code).unwrap();
    authority(folder).issue(code, "renewed", &["localhost"], at, lifetime).unwrap()
}

/// Puts a certificate in the place of one, the key first.
fn renew(folder: &Folder, name: &str, issued: &IssuedCertificate) {
    replace(&folder.file(&format!("tls/{name}.key.pem")), &issued.key_pem);
    replace(&folder.file(&format!("tls/{name}.crt.pem")), &issued.certificate_pem);
}

/// As it should be done: whole at once.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::rename(new, path).unwrap();
}

fn list(folder: &Folder, revoked: &[&IssuedCertificate], at: jiff::Timestamp) -> String {
    authority(folder).revocation_list(revoked, at, HOUR).unwrap()
}

fn write_list(folder: &Folder, revoked: &[&IssuedCertificate]) {
    replace(&folder.file("tls/revoked.crl.pem"), &list(folder, revoked, Clock::system().now()));
}

fn read_issued(certificate: &Path, key: &Path) -> IssuedCertificate {
    IssuedCertificate {
        certificate_pem: std::fs::read_to_string(certificate).unwrap(),
        key_pem: std::fs::read_to_string(key).unwrap().into(),
    }
}

fn spki(issued: &IssuedCertificate) -> [u8; 32] {
    use rustls::pki_types::pem::PemObject as _;
    let der = rustls::pki_types::CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap();
    legal_aid_gateway::identity::certificate::Presented::parse(&der).unwrap().spki_sha256
}

fn set_status(folder: &Folder, code: &str, status: AgencyStatus) {
    let path = folder.file("directory.toml");
    let mut file: DirectoryFile = toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let agency = file.agencies.iter_mut().find(|agency| agency.code.as_str() == code);
    agency.unwrap().status = status;
    replace(&path, &toml::to_string(&file).unwrap());
}

// ---- who answers ------------------------------------------------------------------------------------------------

fn folder_address(folder: &Folder) -> SocketAddr {
    folder.client("auditor").profile().gateway.address.parse().unwrap()
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint {
        address: address.to_string(),
        server_name: "localhost".to_owned(),
        agency: CreditCode::parse(codes::GATEWAY).unwrap(),
    }
}

/// The key with which an address answers that lets this agency in.
async fn probe(folder: &Folder, name: &str, address: SocketAddr) -> Result<[u8; 32], DialError> {
    let credentials = folder.client(name).profile().credentials().unwrap();
    let probed = Dialler::new(&credentials, Clock::system()).probe(&endpoint(address)).await;
    probed.map(|shown| shown.spki_sha256)
}

async fn probe_trusting(
    folder: &Folder,
    name: &str,
    authorities: &Path,
    address: SocketAddr,
) -> Result<[u8; 32], DialError> {
    let mut profile = folder.client(name).profile().clone();
    profile.tls.authorities = authorities.to_owned();
    let probed =
        Dialler::new(&profile.credentials().unwrap(), Clock::system()).probe(&endpoint(address)).await;
    probed.map(|shown| shown.spki_sha256)
}

/// Waits for what gives no event.
async fn until<F: Future<Output = bool>>(holds: impl Fn() -> F) {
    let polling = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, polling).await.expect("it comes to be");
}

async fn await_metric(metrics: SocketAddr, line: &str) {
    until(|| async { get_metrics(metrics).await.is_ok_and(|text| text.contains(line)) }).await;
}

async fn get_metrics(metrics: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(metrics).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}
