//! The dialler reaches the agency that is meant, and no other.

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tower::ServiceExt;

use super::*;
use crate::access::Directory;

#[tokio::test]
async fn the_probe_says_who_answers() {
    let house = House::open(Setup::default()).await;
    let peer = house.dialler(&house.certificate(centre())).probe(&house.endpoint()).await.expect("accepted");
    assert_eq!(peer.agency, gateway());
}

#[tokio::test]
async fn the_dialler_refuses_a_server_of_another_agency() {
    let house = House::open(Setup::default()).await;
    let dialler = house.dialler(&house.certificate(centre()));
    let endpoint = Endpoint { agency: court(), ..house.endpoint() };
    let error = dialler.probe(&endpoint).await.expect_err("refused");
    assert!(
        matches!(error, DialError::WrongAgency { expected, presented } if expected == court() && presented == gateway()),
        "{error:?}"
    );

    let error = dialler.channel(&endpoint).expect("channel").oneshot(request()).await.expect_err("refused");
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    let found = std::iter::from_fn(|| {
        let this = source?;
        source = this.source();
        Some(this)
    })
    .any(|error| matches!(error.downcast_ref(), Some(DialError::WrongAgency { .. })));
    assert!(found, "the reason is among the sources: {error:?}");
}

#[tokio::test]
async fn the_dialler_refuses_a_server_under_another_name() {
    let house = House::open(Setup::default()).await;
    let endpoint = Endpoint { server_name: "court.invalid".to_owned(), ..house.endpoint() };
    let error = house.dialler(&house.certificate(centre())).probe(&endpoint).await.expect_err("refused");
    assert!(matches!(error, DialError::Tls(rustls::Error::InvalidCertificate(_))), "{error:?}");
}

#[tokio::test]
async fn the_dialler_says_when_nothing_listens_or_the_endpoint_makes_no_sense() {
    let house = House::open(Setup::default()).await;
    let dialler = house.dialler(&house.certificate(centre()));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("address").to_string();
    drop(listener);
    let error = dialler.probe(&Endpoint { address, ..house.endpoint() }).await.expect_err("nobody");
    assert!(matches!(error, DialError::Connect { .. }), "{error:?}");
    let nonsense = Endpoint { address: "no port".to_owned(), ..house.endpoint() };
    assert!(matches!(dialler.channel(&nonsense), Err(DialError::BadEndpoint(_))));
}

#[tokio::test]
async fn a_call_under_way_ends_when_its_server_is_not_believed_any_more() {
    let mut house = House::open(Setup::default()).await;
    let dialler = house.dialler(&house.certificate(centre()));
    let channel = dialler.channel(&house.endpoint()).expect("channel");
    let call = tokio::spawn(channel.oneshot(request_to("/slow")));
    house.slow_call_began.recv().await.expect("began");
    // Renewed, and nothing else: it goes on.
    dialler.replace_credentials(&house.credentials(&house.certificate(centre())));
    assert!(!call.is_finished());
    let stranger = DevelopmentAuthority::create("stranger", start()).expect("authority");
    let other = stranger.issue(centre(), "centre", &[], start(), HOUR).expect("issued");
    dialler.replace_credentials(&credentials(&stranger, &other));
    timeout(PATIENCE, call).await.expect("in time").expect("task").expect_err("severed");
}

#[tokio::test]
async fn a_call_under_way_ends_when_its_agency_is_suspended_or_another_key_is_pinned_to_it() {
    for change in ["status = \"suspended\"", "certificates = [{ spki_sha256 = \"PIN\" }]"] {
        let mut house = House::open(Setup::default()).await;
        let directory = |more: &str| {
            let text = format!(
                "[[agency]]\ncode = \"{}\"\nname = \"house\"\nkind = \"court\"\nregion = \"331004\"\n{}\n",
                gateway(),
                more.replace("PIN", &"ab".repeat(32)),
            );
            Arc::new(Directory::parse(&text).expect("parsed"))
        };
        let shared = Arc::new(ArcSwap::new(directory("")));
        let dialler = house.dialler(&house.certificate(centre())).enrolled_in(Arc::clone(&shared));
        let channel = dialler.channel(&house.endpoint()).expect("channel");
        let call = tokio::spawn(channel.oneshot(request_to("/slow")));
        house.slow_call_began.recv().await.expect("began");
        dialler.judge_again();
        assert!(!call.is_finished());
        shared.store(directory(change));
        dialler.judge_again();
        timeout(PATIENCE, call).await.expect("in time").expect("task").expect_err("severed");
    }
}
