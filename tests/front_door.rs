//! Attacks on a gateway that runs, by peers with valid certificates and without, while another agency calls and must not
//! notice. Frames are made by hand. `cargo bench --bench front_door` measures the same attacks.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

#[path = "front_door/attacks.rs"]
mod attacks;
#[path = "front_door/neighbour.rs"]
mod neighbour;
#[path = "front_door/peer.rs"]
mod peer;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::domain::agency::CreditCode;
use legal_aid_gateway::grpc::json::from_json;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::identity::development::{DevelopmentAuthority, IssuedCertificate};
use legal_aid_gateway::setup::{codes, purposes};
use legal_aid_gateway::simulator::Serving;
use legal_aid_gateway::simulator::court::Script;
use prost::Message as _;
use rustls::AlertDescription;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use crate::attacks::{Attack, HEALTH, Scene, Seen, request};
use crate::neighbour::Neighbour;
use crate::peer::{ENHANCE_YOUR_CALM, H2, Identity, Manners, PATIENCE, call, message};
use crate::support::{Folder, Gateway, LOOKED_AT};

/// A gateway, a registry, an agency that asks it all the time, and one that attacks.
struct House {
    folder: Folder,
    gateway: Gateway,
    neighbour: Neighbour,
    registry: Serving,
    scene: Scene,
}

impl House {
    async fn open(settings: &[(&str, &str)]) -> Self {
        let folder = Folder::prepare(Script::TakeOnly);
        let registry = folder.registry().await;
        let gateway = Gateway::start_with(&folder, settings).await;
        let question = std::fs::read_to_string(folder.file("query.json")).unwrap();
        let neighbour = Neighbour::start(folder.path(), "centre", Duration::from_millis(20), move |centre| {
            let query: proto::LowIncomeQuery = from_json("LowIncomeQuery", &question).unwrap();
            neighbours_question(centre, query)
        })
        .await;
        let attacker = Identity::load(folder.path(), "court");
        let scene =
            Scene { folder: folder.path().to_owned(), attacker, connections: 40, calls: 100, frames: 40_000 };
        Self { folder, gateway, neighbour, registry, scene }
    }

    /// Makes an attack; whoever makes it must be gone by then, or refused.
    async fn withstand(&self, attack: Attack) -> Seen {
        let seen = attack.make(&self.scene).await;
        assert!(seen.all_gone(), "{}: {seen:?}; {}", attack.title(), self.gateway.said());
        seen
    }

    /// Ends it in order: the neighbour noticed nothing, and the gateway did not fail.
    async fn close(self) {
        let noticed = self.neighbour.stop().await;
        assert_eq!(
            noticed.errors,
            Vec::<String>::new(),
            "of {} calls; {}",
            noticed.micros.len(),
            self.gateway.said()
        );
        assert!(!self.gateway.said().contains("panicked"), "{}", self.gateway.said());
        self.gateway.stop().await;
        self.registry.stop().await;
    }

    fn authority(&self) -> DevelopmentAuthority {
        DevelopmentAuthority::load(&self.folder.file("tls")).unwrap()
    }

    /// A certificate of an enrolled agency that ends after so long from now.
    fn issue(&self, lifetime: Duration) -> IssuedCertificate {
        let court = CreditCode::parse(codes::COURT).unwrap();
        self.authority().issue(court, "court", &["localhost"], Clock::system().now(), lifetime).unwrap()
    }
}

fn neighbours_question(
    centre: &legal_aid_gateway::client::AgencyClient,
    query: proto::LowIncomeQuery,
) -> proto::VerifyLowIncomeRequest {
    let envelope = centre.complete(proto::Envelope {
        matter_id: "LQ-2026-0001".to_owned(),
        kind: proto::Kind::LowIncomeQuery.into(),
        legal_basis: vec![proto::LegalBasis { law: "法律援助法".to_owned(), article: "41".to_owned() }],
        purpose: purposes::AID_ELIGIBILITY.to_owned(),
        classification: Some(proto::Classification { sensitive: Some(true), minor_under_14: Some(false) }),
        ..Default::default()
    });
    proto::VerifyLowIncomeRequest { envelope: Some(envelope), query: Some(query), complete_later: false }
}

fn showing(identity: &Identity, certificate: &IssuedCertificate) -> Identity {
    identity.showing(certificate.certificate_pem.as_bytes(), certificate.key_pem.as_bytes())
}

const SHORT: [(&str, &str); 5] = [
    ("LEGAL_AID_GATEWAY__LIMITS__HANDSHAKE", "2s"),
    ("LEGAL_AID_GATEWAY__LIMITS__FIRST_BYTE", "2s"),
    ("LEGAL_AID_GATEWAY__FRONT_DOOR__HEADER_BLOCK", "2s"),
    ("LEGAL_AID_GATEWAY__FRONT_DOOR__REQUEST_BODY", "2s"),
    ("LEGAL_AID_GATEWAY__FRONT_DOOR__ANSWER_READ", "2s"),
];

#[tokio::test]
async fn who_does_not_go_on_is_shown_out_at_each_step_before_a_call() {
    // No ping ends a connection here: its own deadline must.
    let house =
        House::open(&[&SHORT[..], &[("LEGAL_AID_GATEWAY__FRONT_DOOR__KEEP_ALIVE", "5m")]].concat()).await;
    for attack in [
        Attack::SilentTcp,
        Attack::DrippedHello,
        Attack::SilentAfterTls,
        Attack::DrippedPreface,
        Attack::DrippedHeaders,
    ] {
        house.withstand(attack).await;
    }
    house.close().await;
}

#[tokio::test]
async fn who_answers_no_ping_is_gone_even_if_nothing_can_be_written_to_it() {
    let settings = [
        ("LEGAL_AID_GATEWAY__FRONT_DOOR__KEEP_ALIVE", "3s"),
        ("LEGAL_AID_GATEWAY__FRONT_DOOR__KEEP_ALIVE_ANSWER", "3s"),
    ];
    let house = House::open(&settings).await;
    house.withstand(Attack::NoPings).await;
    house.neighbour.until_calls(150).await;
    // The answers to this one fill the socket, and then the gateway.
    house.withstand(Attack::UnreadSocket).await;
    house.close().await;
}

#[tokio::test]
async fn floods_of_frames_that_ask_for_nothing_end_their_connection() {
    let house = House::open(&[]).await;
    for attack in [
        Attack::RapidReset,
        Attack::PingFlood,
        Attack::SettingsFlood,
        Attack::EmptyDataFlood,
        Attack::WindowUpdateFlood,
        Attack::PriorityFlood,
    ] {
        let seen = house.withstand(attack).await;
        let calm = format!("GOAWAY {}", h2::Reason::from(ENHANCE_YOUR_CALM).description());
        // A reset of the socket may overtake the frame that says why.
        assert!(seen.how.keys().all(|how| *how == calm || how == "closed"), "{}: {seen:?}", attack.title());
    }
    for attack in [Attack::EndlessContinuation, Attack::ProvokedResets, Attack::WindowUpdateOfZero] {
        house.withstand(attack).await;
    }
    house.close().await;
}

#[tokio::test]
async fn headers_that_grow_when_they_are_read_are_refused_and_take_no_memory() {
    let house = House::open(&[]).await;
    for attack in [Attack::HpackBomb, Attack::HugeHeaders] {
        let before = resident_kib(house.gateway.pid());
        house.withstand(attack).await;
        let after = resident_kib(house.gateway.pid());
        // 50 blocks of 46 MB each, were they kept.
        assert!(after < before + 64 * 1024, "{}: {before} KiB, {after} KiB", attack.title());
    }
    house.close().await;
}

#[tokio::test]
async fn half_a_message_is_refused_for_want_of_room_or_of_time() {
    let house = House::open(&SHORT).await;
    house.withstand(Attack::DrippedBody).await;
    house.withstand(Attack::HalfSentMessages).await;
    let entries = house.reasons().await;
    for reason in ["REQUEST_LATE", "NO_ROOM"] {
        assert!(entries.iter().any(|found| found == reason), "{reason} is not in the audit log: {entries:?}");
    }
    house.close().await;
}

#[tokio::test]
async fn answers_that_are_not_read_are_taken_back_and_their_places_come_free() {
    let mut settings = SHORT.to_vec();
    settings.push(("LEGAL_AID_GATEWAY__LIMITS__CALLS_PER_AGENCY", "100"));
    let house = House::open(&settings).await;
    house.neighbour.until_calls(50).await;
    for attack in [Attack::ClosedWindow, Attack::DrippedWindow] {
        let seen = house.withstand(attack).await;
        assert!(seen.how.contains_key("each answer taken back, or call refused"), "{seen:?}");
    }
    // The attacker's own next call finds a place, and room.
    assert!(house.reasons().await.len() > 10);
    house.close().await;
}

#[tokio::test]
async fn a_connection_without_a_call_is_asked_to_go_and_one_with_calls_is_not() {
    let settings = [
        ("LEGAL_AID_GATEWAY__LIMITS__HANDSHAKE", "2s"),
        ("LEGAL_AID_GATEWAY__LIMITS__FIRST_BYTE", "2s"),
        ("LEGAL_AID_GATEWAY__FRONT_DOOR__HEADER_BLOCK", "2s"),
        ("LEGAL_AID_GATEWAY__FRONT_DOOR__CONNECTION_IDLE", "3s"),
    ];
    let house = House::open(&settings).await;
    let mut idle = house.scene.attacker.peer(Manners::Polite, &[]).await.unwrap();
    let tally = idle.until_gone().await;
    assert_eq!((tally.goaway, tally.ended.is_some()), (Some(0), true), "{tally:?}");
    house.close().await;
}

#[tokio::test]
async fn a_connection_ends_when_its_certificate_does() {
    let house = House::open(&[]).await;
    let attacker = showing(&house.scene.attacker, &house.issue(Duration::from_secs(4)));
    let mut peer = attacker.peer(Manners::Polite, &[]).await.unwrap();
    peer.send(&call(1, HEALTH, &message(0, &[]), true)).await.unwrap();
    assert!(peer.until(|tally| tally.header_blocks > 0).await.header_blocks > 0, "served while it is valid");
    assert!(peer.until_gone().await.ended.is_some());
    // In its last second it may still be shown, and ends at once.
    let again = async {
        while let Err(Refused::Closed) = shown(&attacker).await {}
        shown(&attacker).await
    };
    let again = tokio::time::timeout(PATIENCE, again).await.unwrap();
    assert_eq!(again, Err(Refused::Alert(AlertDescription::CertificateExpired)));
    house.close().await;
}

#[tokio::test]
async fn every_bad_certificate_is_refused_with_the_alert_that_says_why() {
    let folder = Folder::prepare(Script::TakeOnly);
    let authority = DevelopmentAuthority::load(&folder.file("tls")).unwrap();
    let now = Clock::system().now();
    let hour = Duration::from_secs(3600);
    let court = CreditCode::parse(codes::COURT).unwrap();
    let issue =
        |from: jiff::Timestamp, lifetime| authority.issue(court, "court", &[], from, lifetime).unwrap();
    let (good, revoked) = (issue(now, hour), issue(now, hour));
    let list = authority.revocation_list(&[&revoked], now, hour).unwrap();
    std::fs::write(folder.file("tls/revoked.crl.pem"), list).unwrap();
    let gateway =
        Gateway::start_with(&folder, &[("LEGAL_AID_GATEWAY__TLS__REVOCATIONS", "[\"tls/revoked.crl.pem\"]")])
            .await;
    let known = Identity::load(folder.path(), "court");
    let stranger =
        DevelopmentAuthority::create("stranger", now).unwrap().issue(court, "court", &[], now, hour).unwrap();
    let nobody = CreditCode::parse("91350100M000100Y43").unwrap();
    let nobody = authority.issue(nobody, "nobody", &[], now, hour).unwrap();
    let mut long = good.clone();
    long.certificate_pem = good.certificate_pem.repeat(100);
    let mut stolen = good.clone();
    stolen.key_pem.clone_from(&revoked.key_pem);
    let mut garbled = good.clone();
    garbled.certificate_pem = garble(&good.certificate_pem);

    for (case, identity, expected) in [
        ("none", known.showing_nothing(), AlertDescription::CertificateRequired),
        ("of another authority", showing(&known, &stranger), AlertDescription::UnknownCA),
        ("expired", showing(&known, &issue(now - 3 * hour, hour)), AlertDescription::CertificateExpired),
        (
            "not valid yet",
            showing(&known, &issue(now + 3 * hour, hour)),
            AlertDescription::CertificateExpired,
        ),
        ("revoked", showing(&known, &revoked), AlertDescription::CertificateRevoked),
        ("without its key", showing(&known, &stolen), AlertDescription::DecryptError),
        ("no certificate at all", showing(&known, &garbled), AlertDescription::BadCertificate),
        ("of an agency not enrolled", showing(&known, &nobody), AlertDescription::AccessDenied),
        ("a hundred of them", showing(&known, &long), AlertDescription::AccessDenied),
    ] {
        assert_eq!(shown(&identity).await, Err(Refused::Alert(expected)), "{case}");
    }
    assert_eq!(shown(&showing(&known, &good)).await, Ok(()), "a good one is let in");
    gateway.stop().await;
}

#[tokio::test]
async fn who_does_not_speak_tls_1_3_and_http_2_is_told_so() {
    let folder = Folder::prepare(Script::TakeOnly);
    let gateway = Gateway::start(&folder).await;
    let known = Identity::load(folder.path(), "court");
    for alpn in [&[][..], &[b"http/1.1".as_slice()]] {
        let error = known.tls_from(1, alpn).await.expect_err("refused");
        assert_eq!(alert_in(&error), Some(AlertDescription::NoApplicationProtocol), "{alpn:?}");
    }
    const PROTOCOL_VERSION: u8 = 70;
    let mut old = known.tcp_from(1).await.unwrap();
    old.write_all(&hello_of_tls_1_2()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, old.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, PROTOCOL_VERSION]);
    // Not TLS at all.
    let mut plain = known.tcp_from(1).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ended = tokio::time::timeout(PATIENCE, plain.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.len() <= 7, "an alert at most: {answer:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn only_grpc_is_served_with_one_message_and_a_deadline_that_can_be_read() {
    const INVALID_ARGUMENT: &str = "3";
    const DEADLINE_EXCEEDED: &str = "4";
    let house = House::open(&[]).await;
    let centre = Identity::load(house.folder.path(), "centre");
    let sound = house.folder.fee_waiver(&house.folder.client("centre")).encode_to_vec();
    let sound = Bytes::from(message(sound.len(), &sound));
    let submit = "https://localhost/legalaid.exchange.v1.ExchangeService/SubmitExchange";
    let one = Bytes::from(message(0, &[]));
    let two = Bytes::from([message(0, &[]), message(0, &[])].concat());
    let built = |method: Method, headers: &[(&'static str, &str)]| {
        let mut request = Request::builder().method(method).uri(submit);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    };
    let grpc = ("content-type", "application/grpc");
    for (case, sent, body, code) in [
        ("GET", built(Method::GET, &[grpc]), &one, INVALID_ARGUMENT),
        ("PUT", built(Method::PUT, &[grpc]), &one, INVALID_ARGUMENT),
        ("JSON", built(Method::POST, &[("content-type", "application/json")]), &one, INVALID_ARGUMENT),
        ("no content type", built(Method::POST, &[]), &one, INVALID_ARGUMENT),
        ("two messages", built(Method::POST, &[grpc]), &two, INVALID_ARGUMENT),
        ("no message", built(Method::POST, &[grpc]), &Bytes::new(), INVALID_ARGUMENT),
        ("no unit", built(Method::POST, &[grpc, ("grpc-timeout", "10")]), &one, INVALID_ARGUMENT),
        ("nine digits", built(Method::POST, &[grpc, ("grpc-timeout", "123456789S")]), &one, INVALID_ARGUMENT),
        ("no time", built(Method::POST, &[grpc, ("grpc-timeout", "0n")]), &sound, DEADLINE_EXCEEDED),
    ] {
        let (status, found) = request(&centre, sent, body.clone()).await.unwrap();
        assert_eq!((status, found.as_deref()), (200, Some(code)), "{case}");
    }
    house.close().await;
}

#[tokio::test]
async fn without_file_handles_agencies_go_on_and_new_ones_come_in_when_there_are_some() {
    let house = House::open(&[LOOKED_AT]).await;
    house.neighbour.until_calls(20).await;
    let open = std::fs::read_dir(format!("/proc/{}/fd", house.gateway.pid())).unwrap().count();
    limit_handles(house.gateway.pid(), open).await;
    // In the queue of the kernel, and no further: nobody can take them.
    let waiting: Vec<_> = open_connections(house.scene.attacker.clone(), 20).await;
    let newcomer = tokio::spawn({
        let attacker = house.scene.attacker.clone();
        async move { attacker.peer_from(200, Manners::Polite, &[]).await.map(|peer| peer.tally()) }
    });
    house.neighbour.until_calls(50).await;
    assert!(house.gateway.said().contains("cannot accept a connection"), "{}", house.gateway.said());
    assert!(!newcomer.is_finished(), "there was no handle for it");
    drop(waiting);
    limit_handles(house.gateway.pid(), open + 200).await;
    tokio::time::timeout(PATIENCE, newcomer).await.expect("let in by itself").unwrap().unwrap();
    house.close().await;
}

#[tokio::test]
async fn connections_leave_file_handles_for_the_gateways_own_work() {
    let folder = Folder::prepare(Script::TakeOnly);
    let registry = folder.registry().await;
    let gateway = Gateway::start_limited(&folder, 200).await;
    let attacker = Identity::load(folder.path(), "court");
    let mut peers = Vec::new();
    // Each stays open for as long as it is let in; those beyond the bound are closed at once.
    for place in 0..200_u8 {
        if let Ok(peer) = attacker.peer_from(2 + place / 32, Manners::Polite, &[]).await {
            peers.push(peer);
        }
    }
    assert!((10..200).contains(&peers.len()), "{} connections were let in", peers.len());
    let open = std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().count();
    assert!(open < 190, "{open} handles are open");
    assert!(!gateway.said().contains("cannot accept"), "{}", gateway.said());
    drop(peers);
    let centre = folder.client("centre");
    let question = folder.question(&centre);
    let mut answered = Err(tonic::Status::unknown("not asked"));
    // The connections that were dropped are noticed one by one.
    for _ in 0..100 {
        let request = centre.request(question.clone(), support::DEADLINE);
        answered = centre.verification().verify_low_income(request).await;
        if answered.is_ok() {
            break;
        }
    }
    answered.unwrap();
    gateway.stop().await;
    registry.stop().await;
}

#[tokio::test]
async fn the_configuration_in_force_is_printed_and_one_that_contradicts_itself_is_refused_whole() {
    let folder = Folder::prepare(Script::TakeOnly);
    let printed = folder.run(&["config", "print", "--config", "gateway.toml"]).await;
    assert!(printed.status.success());
    let text = String::from_utf8(printed.stdout).unwrap();
    let table: toml::Table = toml::from_str(&text).unwrap();
    assert_eq!(table["front_door"]["answer_read"].as_str(), Some("30s"));
    assert_eq!(table["limits"]["handshake"].as_str(), Some("10s"));
    for key in ["log.key", "body.key", "pseudonym.key"] {
        let secret = std::fs::read_to_string(folder.file(&format!("keys/{key}"))).unwrap();
        assert!(text.contains(key) && !text.contains(secret.trim()), "{key} is named, and not shown");
    }
    folder.reconfigure(
        "[front_door]",
        "[front_door]\nconnection_idle = \"5s\"\nkeep_alive_answer = \"1h\"\nstream_window = 0\n",
    );
    for command in [&["config", "print"][..], &["serve"]] {
        let refused = folder.run(&[command, &["--config", "gateway.toml"]].concat()).await;
        assert_eq!(refused.status.code(), Some(1));
        let said = String::from_utf8(refused.stderr).unwrap();
        for key in [
            "limits.first_byte must not be longer than front_door.connection_idle",
            "front_door.header_block",
            "front_door.keep_alive_answer",
            "front_door.stream_window",
        ] {
            assert!(said.contains(key), "{key} in {said}");
        }
    }
}

impl House {
    /// The reasons in the newest entries of the audit log, as an auditor reads them.
    async fn reasons(&self) -> Vec<String> {
        let auditor = self.folder.client("auditor");
        let request = proto::ListEntriesRequest {
            context: Some(auditor.context(purposes::AUDIT_INSPECTION)),
            page_size: 500,
            newest_first: true,
            ..Default::default()
        };
        let found = auditor.audit().list_entries(request).await.unwrap().into_inner();
        found.entries.into_iter().map(|entry| reason_in(&entry)).collect()
    }
}

fn reason_in(entry: &proto::AuditEntry) -> String {
    let json: serde_json::Value = serde_json::from_slice(&entry.entry).unwrap();
    json["reason"].as_str().unwrap_or_default().to_owned()
}

/// How a handshake is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Alert(AlertDescription),
    /// Without a word.
    Closed,
}

/// Shows the certificate, and waits for the first byte of the gateway's own.
async fn shown(identity: &Identity) -> Result<(), Refused> {
    let refused = |error: &std::io::Error| alert_in(error).map_or(Refused::Closed, Refused::Alert);
    let mut stream = identity.tls_from(1, &[H2]).await.map_err(|error| refused(&error))?;
    // In TLS 1.3 the client is done before the server has looked at its certificate.
    stream.write_all(peer::PREFACE).await.map_err(|error| refused(&error))?;
    let first = tokio::time::timeout(PATIENCE, stream.read_u8()).await.unwrap();
    first.map(drop).map_err(|error| refused(&error))
}

fn alert_in(error: &std::io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

/// A greeting of TLS 1.2 (RFC 5246 section 7.4.1.2) with one cipher suite.
fn hello_of_tls_1_2() -> Vec<u8> {
    // Signature algorithms (RFC 5246 section 7.4.1.4.1): ECDSA with SHA-256. ALPN (RFC 7301 section 3.1): h2.
    let extensions = [0, 13, 0, 4, 0, 2, 4, 3, 0, 16, 0, 5, 0, 3, 2, b'h', b'2'];
    let suites = [0, 2, 0xc0, 0x2b];
    let body = [&[3, 3][..], &[7; 32], &[0], &suites, &[1, 0], &[0, 17], &extensions].concat();
    let length = u8::try_from(body.len()).unwrap();
    [&[0x16, 3, 1, 0, length + 4, 1, 0, 0, length], body.as_slice()].concat()
}

/// The same PEM with bytes that are no certificate.
fn garble(pem: &str) -> String {
    let line = pem.lines().nth(1).unwrap();
    pem.replacen(line, &"A".repeat(line.len()), 1)
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

async fn limit_handles(pid: u32, handles: usize) {
    let done =
        Command::new("prlimit").args(["--pid", &pid.to_string(), &format!("--nofile={handles}:")]).status();
    assert!(done.await.unwrap().success());
}

async fn open_connections(attacker: Identity, count: u8) -> Vec<tokio::net::TcpStream> {
    let mut open = Vec::new();
    for last in 0..count {
        open.push(attacker.tcp_from(2 + last).await.unwrap());
    }
    open
}
