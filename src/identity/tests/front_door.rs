//! Who comes in through the front door, and for how long.

use std::time::Duration;

use http::Request;
use rustls::AlertDescription;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tonic::body::Body;
use tower::ServiceExt;

use super::*;

#[tokio::test]
async fn an_enrolled_agency_is_served_and_the_service_sees_who_it_is() {
    let house = House::open(Setup::default()).await;
    let channel = house.dialler(&house.certificate(centre())).channel(&house.endpoint()).expect("channel");
    let response = channel.oneshot(request()).await.expect("answered");
    assert_eq!(response.headers()["x-agency"], centre().as_str());
    assert!(response.headers()["x-address"].to_str().expect("ascii").starts_with("127.0.0.1:"));
    assert_eq!(house.count(|counters| &counters.admitted), 1);
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_by_tls() {
    let house = House::open(Setup::default()).await;
    let mut stream = house.connect(None, &[HTTP2]).await;
    assert_eq!(alert_on(&mut stream).await, Some(AlertDescription::CertificateRequired));
    house.until(|counters| &counters.tls_failed, 1).await;
    assert!(house.refusals().is_empty());
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_by_tls_and_not_audited() {
    let house = House::open(Setup::default()).await;
    let stranger = DevelopmentAuthority::create("house", start()).expect("authority");
    let stranger = stranger.issue(centre(), "stranger", &[], start(), HOUR).expect("issued");
    let mut stream = house.connect(Some(&stranger), &[HTTP2]).await;
    assert!(alert_on(&mut stream).await.is_some());
    house.until(|counters| &counters.tls_failed, 1).await;
    assert!(house.refusals().is_empty());
}

#[tokio::test]
async fn an_expired_certificate_is_refused_by_the_gateways_clock() {
    let house = House::open(Setup::default()).await;
    let certificate = house.certificate(centre());
    house.clock.advance(2 * HOUR);
    let mut stream = house.connect(Some(&certificate), &[HTTP2]).await;
    assert_eq!(alert_on(&mut stream).await, Some(AlertDescription::CertificateExpired));
}

#[tokio::test]
async fn a_client_that_offers_no_alpn_is_refused() {
    let house = House::open(Setup::default()).await;
    let certificate = house.certificate(centre());
    let error = house.try_connect(Some(&certificate), &[]).await.expect_err("refused");
    let alert = error.get_ref().and_then(|error| error.downcast_ref());
    assert_eq!(alert, Some(&rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)));
    house.until(|counters| &counters.not_http2, 1).await;
}

#[tokio::test]
async fn a_client_that_speaks_http_1_after_agreeing_on_h2_is_refused() {
    let house = House::open(Setup::default()).await;
    let mut stream = house.connect(Some(&house.certificate(centre())), &[HTTP2]).await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("written");
    assert_closed(&mut stream).await;
    house.until(|counters| &counters.not_http2, 1).await;
}

#[tokio::test]
async fn an_agency_that_is_not_admitted_gets_access_denied_and_the_refusal_is_recorded() {
    let house = House::open(Setup::default()).await;
    let certificate = house.certificate(suspended());
    let error = house.dialler(&certificate).probe(&house.endpoint()).await.expect_err("refused");
    assert!(matches!(error, DialError::Refused(AlertDescription::AccessDenied)), "{error:?}");
    let refusals = house.refusals();
    assert_eq!(refusals.len(), 1);
    assert_eq!(refusals[0].0.reason, "AGENCY_SUSPENDED");
    assert_eq!(refusals[0].0.agency, Some(suspended()));
    assert!(refusals[0].1.ip().is_loopback());
    house.until(|counters| &counters.refused, 1).await;
}

#[tokio::test]
async fn the_alert_waits_until_the_refusal_is_recorded() {
    let (house, release) = House::open_with_held_records().await;
    let certificate = house.certificate(suspended());
    let mut stream = house.connect(Some(&certificate), &[HTTP2]).await;
    house.policy.recording.notified().await;
    let early = timeout(Duration::from_millis(100), stream.read_u8()).await;
    assert!(early.is_err(), "nothing leaves before the entry: {early:?}");
    release.send(()).expect("held");
    assert_eq!(alert_on(&mut stream).await, Some(AlertDescription::AccessDenied));
}

#[tokio::test]
async fn a_certificate_of_ours_that_names_no_agency_is_a_recorded_refusal() {
    let house = House::open(Setup::default()).await;
    let certificate = house.authority.sign(&Default::default()).expect("signed");
    let mut stream = house.connect(Some(&certificate), &[HTTP2]).await;
    assert_eq!(alert_on(&mut stream).await, Some(AlertDescription::AccessDenied));
    let refusals = house.refusals();
    assert_eq!((refusals[0].0.reason, refusals[0].0.agency), ("NO_AGENCY_NAME", None));
    assert!(refusals[0].0.spki.is_some());
}

#[tokio::test]
async fn a_chain_of_five_is_refused_before_it_is_looked_at() {
    let house = House::open(Setup::default()).await;
    let mut certificate = house.certificate(centre());
    certificate.certificate_pem = certificate.certificate_pem.repeat(5);
    let mut stream = house.connect(Some(&certificate), &[HTTP2]).await;
    assert_eq!(alert_on(&mut stream).await, Some(AlertDescription::AccessDenied));
    assert_eq!(house.refusals()[0].0.reason, "CHAIN_TOO_LONG");
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_and_so_is_everyone_once_the_list_has_expired() {
    let house = House::open(Setup::default()).await;
    let (good, revoked) = (house.certificate(centre()), house.certificate(centre()));
    let list = house.authority.revocation_list(&[&revoked], start(), HOUR / 2).expect("list");
    let credentials = house.credentials(&house.certificate(gateway()));
    house.acceptor.replace_credentials(&credentials.with_revocation_list(list.as_bytes()).expect("parsed"));

    let mut stream = house.connect(Some(&revoked), &[HTTP2]).await;
    assert_eq!(alert_on(&mut stream).await, Some(AlertDescription::CertificateRevoked));
    house.dialler(&good).probe(&house.endpoint()).await.expect("not revoked");

    house.clock.advance(HOUR * 3 / 4);
    let mut stream = house.connect(Some(&good), &[HTTP2]).await;
    assert!(alert_on(&mut stream).await.is_some());
}

#[tokio::test]
async fn a_client_that_is_silent_after_tls_is_dropped() {
    let house = House::open(Setup::short()).await;
    let mut stream = house.connect(Some(&house.certificate(centre())), &[HTTP2]).await;
    assert_closed(&mut stream).await;
    house.until(|counters| &counters.silent, 1).await;
}

#[tokio::test]
async fn a_client_that_sends_half_the_preface_is_dropped() {
    let house = House::open(Setup::short()).await;
    let mut stream = house.connect(Some(&house.certificate(centre())), &[HTTP2]).await;
    stream.write_all(&HTTP2_PREFACE[..12]).await.expect("written");
    assert_closed(&mut stream).await;
    house.until(|counters| &counters.silent, 1).await;
}

#[tokio::test]
async fn a_client_that_does_not_finish_the_handshake_is_dropped() {
    let house = House::open(Setup::short()).await;
    let mut stream = TcpStream::connect(house.address).await.expect("connected");
    assert_closed(&mut stream).await;
    house.until(|counters| &counters.handshake_timed_out, 1).await;
}

#[tokio::test]
async fn a_connection_ends_when_its_certificate_does() {
    let house = House::open(Setup::default()).await;
    let certificate = house.certificate(centre());
    house.clock.advance(HOUR - Duration::from_millis(500));
    let mut stream = house.connect(Some(&certificate), &[HTTP2]).await;
    begin_http2(&mut stream).await;
    house.clock.advance(Duration::from_millis(500));
    assert_closed(&mut stream).await;
    house.until(|counters| &counters.certificate_expired, 1).await;
    assert_eq!(house.count(|counters| &counters.admitted), 1);
}

#[tokio::test]
async fn open_connections_are_judged_again_and_only_those_end_whose_certificate_is_revoked() {
    let house = House::open(Setup::default()).await;
    let (good, revoked) = (house.certificate(court()), house.certificate(centre()));
    let own = house.certificate(gateway());
    let mut stays = house.connect(Some(&good), &[HTTP2]).await;
    let mut goes = house.connect(Some(&revoked), &[HTTP2]).await;
    begin_http2(&mut stays).await;
    begin_http2(&mut goes).await;
    let empty = house.authority.revocation_list(&[], start(), HOUR).expect("list");
    let list = house.authority.revocation_list(&[&revoked], start(), HOUR).expect("list");
    let with = |list: &str| house.credentials(&own).with_revocation_list(list.as_bytes()).expect("parsed");
    house.acceptor.replace_credentials(&with(&empty));
    house.acceptor.replace_credentials(&with(&list));
    assert_closed(&mut goes).await;
    house.until(|counters| &counters.no_longer_admitted, 1).await;
    // It is served as before: a PING is answered.
    stays.write_all(&[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]).await.expect("written");
    let ponged = async {
        loop {
            let mut header = [0; 9];
            stays.read_exact(&mut header).await.expect("a frame");
            let mut body = vec![0; usize::from(header[2])];
            stays.read_exact(&mut body).await.expect("the frame's body");
            if header[3] == 6 {
                return body;
            }
        }
    };
    assert_eq!(timeout(PATIENCE, ponged).await.expect("in time"), [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[tokio::test]
async fn an_agency_that_the_policy_has_turned_against_is_told_for_a_moment_and_then_shown_out() {
    let house = House::open(Setup::default()).await;
    let mut stream = house.connect(Some(&house.certificate(centre())), &[HTTP2]).await;
    begin_http2(&mut stream).await;
    house.acceptor.judge_again();
    let channel = house.dialler(&house.certificate(court())).channel(&house.endpoint()).expect("channel");
    assert_eq!(channel.oneshot(request()).await.expect("answered").status(), 200);
    assert_eq!(house.count(|counters| &counters.no_longer_admitted), 0, "nothing has changed");

    *house.policy.turned_against.lock().expect("lock") = Some(centre());
    house.acceptor.judge_again();
    assert_closed(&mut stream).await;
    house.until(|counters| &counters.no_longer_admitted, 1).await;
}

#[tokio::test]
async fn an_old_connection_is_asked_to_go() {
    let http = HttpLimits { max_connection_age: Duration::from_millis(200), ..HttpLimits::default() };
    let house = House::open(Setup { http, ..Setup::default() }).await;
    let mut stream = house.connect(Some(&house.certificate(centre())), &[HTTP2]).await;
    begin_http2(&mut stream).await;
    assert_goaway(&mut stream).await;
}

#[tokio::test]
async fn pending_handshakes_of_one_address_are_bounded_and_places_come_back() {
    let tls = AcceptorLimits { pending_per_address: 2, ..AcceptorLimits::default() };
    let house = House::open(Setup { tls, ..Setup::default() }).await;
    let certificate = house.certificate(centre());
    // A TCP connection counts once it is accepted; connections are accepted in the order they were made.
    let first = TcpStream::connect(house.address).await.expect("connected");
    let _second = TcpStream::connect(house.address).await.expect("connected");
    let mut third = TcpStream::connect(house.address).await.expect("connected");
    assert_closed(&mut third).await;
    assert_eq!(house.count(|counters| &counters.over_limit), 1);

    drop(first);
    house.until(|counters| &counters.tls_failed, 1).await;
    house.dialler(&certificate).probe(&house.endpoint()).await.expect("there is a place again");
}

#[tokio::test]
async fn open_connections_of_one_agency_are_bounded() {
    let http = HttpLimits { max_connections_per_agency: 1, ..HttpLimits::default() };
    let house = House::open(Setup { http, ..Setup::default() }).await;
    let certificate = house.certificate(centre());
    let mut first = house.connect(Some(&certificate), &[HTTP2]).await;
    begin_http2(&mut first).await;
    let mut second = house.connect(Some(&certificate), &[HTTP2]).await;
    second.write_all(HTTP2_PREFACE).await.expect("written");
    assert_closed(&mut second).await;
    house
        .dialler(&house.certificate(court()))
        .probe(&house.endpoint())
        .await
        .expect("another agency comes in");
}

#[tokio::test]
async fn shutdown_says_goaway_and_lets_a_call_in_flight_finish() {
    let mut house = House::open(Setup::default()).await;
    let channel = house.dialler(&house.certificate(centre())).channel(&house.endpoint()).expect("channel");
    let call = tokio::spawn(channel.oneshot(request_to("/slow")));
    house.slow_call_began.recv().await.expect("began");
    house.stop.take().expect("running").send(()).expect("running");
    // The listener is closed before the draining starts.
    until_refused(house.address).await;
    house.let_slow_calls_end.notify_one();
    assert_eq!(call.await.expect("task").expect("answered").status(), 200);
    assert_eq!(house.served().await.aborted, 0);
}

#[tokio::test]
async fn shutdown_has_a_hard_end() {
    let http = HttpLimits { drain_timeout: Duration::from_millis(200), ..HttpLimits::default() };
    let mut house = House::open(Setup { http, ..Setup::default() }).await;
    let channel = house.dialler(&house.certificate(centre())).channel(&house.endpoint()).expect("channel");
    let call = tokio::spawn(channel.oneshot(request_to("/slow")));
    house.slow_call_began.recv().await.expect("began");
    house.stop.take().expect("running").send(()).expect("running");
    assert_eq!(house.served().await, Drained { finished: 0, aborted: 1 });
    assert!(call.await.expect("task").is_err());
}

#[tokio::test]
async fn tonic_routes_and_layers_around_them_can_be_served() {
    let house = House::open(Setup::default()).await;
    let (_reporter, health) = tonic_health::server::health_reporter();
    let routes = tonic::service::Routes::new(health).prepare();
    let layers = tower::ServiceBuilder::new().map_request(|request: Request<Body>| {
        assert!(request.extensions().get::<Peer>().is_some(), "layers see the peer");
        request
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("address").to_string();
    let service = layers.service(routes);
    tokio::spawn(serve(
        listener,
        house.acceptor.clone(),
        service,
        HttpLimits::default(),
        std::future::pending(),
    ));

    let endpoint = Endpoint { address, ..house.endpoint() };
    let channel = house.dialler(&house.certificate(centre())).channel(&endpoint).expect("channel");
    let mut client = tonic_health::pb::health_client::HealthClient::new(channel);
    let request = tonic_health::pb::HealthCheckRequest { service: String::new() };
    let answer = client.check(request).await.expect("answered").into_inner();
    assert_eq!(answer.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);
}
