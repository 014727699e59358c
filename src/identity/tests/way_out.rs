//! The dialler reaches the agency that is meant, and no other.

use tokio::net::TcpListener;
use tower::ServiceExt;

use super::*;

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
