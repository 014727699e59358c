//! By which certificates an agency is known: by the name in them, or by keys that the directory pins to it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod district;

use std::path::Path;
use std::time::Duration;

use district::{Refused, Scene};
use legal_aid_gateway::access::{DirectoryFile, PinnedKey};
use legal_aid_gateway::audit::entry::Phase;
use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::domain::agency::CreditCode;
use legal_aid_gateway::grpc::proto;
use legal_aid_gateway::grpc::proto::VerificationResult;
use legal_aid_gateway::identity::certificate::Presented;
use legal_aid_gateway::setup::codes;
use legal_aid_gateway::simulator::court::Script;
use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tonic::Code;

#[tokio::test]
async fn an_agency_whose_certificate_cannot_name_it_comes_in_with_the_key_that_is_pinned_to_it() {
    let scene = Scene::start().await;
    let key = issue_unnamed(&scene.folder, "centre");
    let unpinned = scene.district.client("centre").unwrap();
    district::verify(&unpinned, &scene.question()).await.err().unwrap();
    turned_away(&scene, "NO_AGENCY_NAME", None).await;

    pin(&scene, codes::CENTRE, vec![key]).await;
    let centre = scene.district.client("centre").unwrap();
    district::verify(&centre, &district::question(&scene.folder, &centre)).await.unwrap();
    let asked = proto::EntryFilter { caller: codes::CENTRE.to_owned(), ..Default::default() };
    let key = Some(data_encoding::HEXLOWER.encode(&key));
    scene.await_entry(asked, |entry| entry.phase == Phase::Request && entry.certificate == key).await;
    scene.stop().await;
}

#[tokio::test]
async fn a_pinned_agency_comes_with_two_keys_at_once_and_with_no_other_even_if_it_is_named() {
    let scene = Scene::start().await;
    let first = key_of(&scene.folder, "centre");
    let old = scene.district.client("centre").unwrap();
    let second = issue_unnamed(&scene.folder, "centre");
    let new = scene.district.client("centre").unwrap();
    pin(&scene, codes::CENTRE, vec![first, second]).await;
    for centre in [&old, &new] {
        district::verify(centre, &district::question(&scene.folder, centre)).await.unwrap();
    }
    // The old one goes: its open connection is told so, and a new one is turned away although the certificate names it.
    pin(&scene, codes::CENTRE, vec![second]).await;
    let status = district::verify(&old, &district::question(&scene.folder, &old)).await.err().unwrap();
    let refused = Refused::of(&status);
    assert_eq!((refused.code, refused.reason.as_str()), (Code::PermissionDenied, "KEY_NOT_ENROLLED"));
    scene
        .await_entry(proto::EntryFilter::default(), |entry| {
            entry.phase == Phase::Refused && entry.reason.as_deref() == Some("KEY_NOT_ENROLLED")
        })
        .await;
    district::verify(&new, &district::question(&scene.folder, &new)).await.unwrap();
    scene.stop().await;
}

#[tokio::test]
async fn the_key_of_one_agency_does_not_let_in_another_that_its_certificate_names() {
    let scene = Scene::start().await;
    pin(&scene, codes::COURT, vec![key_of(&scene.folder, "centre")]).await;
    let centre = scene.district.client("centre").unwrap();
    district::verify(&centre, &district::question(&scene.folder, &centre)).await.err().unwrap();
    turned_away(&scene, "NAMES_ANOTHER_AGENCY", None).await;
    scene.stop().await;
}

#[tokio::test]
async fn a_registry_is_asked_only_where_the_key_that_is_pinned_to_it_answers() {
    let mut scene = Scene::start().await;
    let result =
        async |scene: &Scene| scene.verify(&scene.question()).await.unwrap().answer.unwrap().result();
    assert!(result(&scene).await == VerificationResult::Match);
    let key = issue_unnamed(&scene.folder, "registry");
    scene.district.stop_registry().await;
    scene.district.start_registry().await.unwrap();
    assert!(result(&scene).await == VerificationResult::Unavailable, "it names nobody");
    pin(&scene, codes::REGISTRY, vec![key]).await;
    assert!(result(&scene).await == VerificationResult::Match);
    pin(&scene, codes::REGISTRY, vec![[7; 32]]).await;
    assert!(result(&scene).await == VerificationResult::Unavailable, "its key is another");
    scene.stop().await;
}

#[tokio::test]
async fn nothing_is_served_on_a_connection_whose_certificate_has_ended() {
    let clock = Clock::moved_by_hand(Clock::system().now());
    let scene = Scene::start_with(Script::TakeOnly, clock.clone()).await;
    scene.verify(&scene.question()).await.unwrap();
    // The connection itself looks at the clock once a minute.
    clock.advance(Duration::from_secs(366 * 86_400));
    let refused = Refused::of(&scene.verify(&scene.question()).await.err().unwrap());
    assert_eq!((refused.code, refused.reason.as_str()), (Code::PermissionDenied, "CERTIFICATE_EXPIRED"));
    scene.stop().await;
}

#[tokio::test]
async fn a_directory_that_pins_one_key_to_two_agencies_leaves_the_one_before_in_force() {
    let scene = Scene::start().await;
    let path = scene.folder.join("directory.toml");
    let mut file: DirectoryFile = toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    for code in [codes::CENTRE, codes::COURT] {
        agency(&mut file, code).certificates = vec![pinned([7; 32])];
    }
    std::fs::write(&path, toml::to_string(&file).unwrap()).unwrap();
    let error = scene.district.gateway.reload().await.unwrap_err().to_string();
    assert!(error.contains(codes::CENTRE) && error.contains(codes::COURT), "{error}");
    scene.verify(&scene.question()).await.unwrap();
    scene.stop().await;
}

/// Waits until a connection is in the log that was turned away so.
async fn turned_away(scene: &Scene, reason: &str, caller: Option<&str>) {
    let is_it = |entry: &legal_aid_gateway::audit::entry::Entry| {
        entry.phase == Phase::HandshakeRefused && entry.reason.as_deref() == Some(reason)
    };
    let (_, entry) = scene.await_entry(proto::EntryFilter::default(), is_it).await;
    assert_eq!(entry.caller.as_deref(), caller);
}

async fn pin(scene: &Scene, code: &str, keys: Vec<[u8; 32]>) {
    scene
        .edit_directory(|file| {
            agency(file, code).certificates = keys.into_iter().map(pinned).collect();
        })
        .await;
}

fn pinned(spki_sha256: [u8; 32]) -> PinnedKey {
    PinnedKey { spki_sha256, from: None, until: None }
}

fn agency<'f>(file: &'f mut DirectoryFile, code: &str) -> &'f mut legal_aid_gateway::access::Agency {
    let code = CreditCode::parse(code).unwrap();
    file.agencies.iter_mut().find(|agency| agency.code == code).unwrap()
}

/// Puts a certificate of the folder's authority in the place of an agency's that names no agency; gives its key.
fn issue_unnamed(folder: &Path, name: &str) -> [u8; 32] {
    let read = |file: &str| std::fs::read_to_string(folder.join("tls").join(file)).unwrap();
    let authority = KeyPair::from_pem(&read("authority.key.pem")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&read("authority.crt.pem"), authority).unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![
        SanType::DnsName("localhost".try_into().unwrap()),
        SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()),
    ];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.join(format!("tls/{name}.crt.pem")), certificate.pem()).unwrap();
    std::fs::write(folder.join(format!("tls/{name}.key.pem")), key.serialize_pem()).unwrap();
    Presented::parse(certificate.der()).unwrap().spki_sha256
}

fn key_of(folder: &Path, name: &str) -> [u8; 32] {
    let pem = std::fs::read(folder.join(format!("tls/{name}.crt.pem"))).unwrap();
    Presented::parse(&CertificateDer::from_pem_slice(&pem).unwrap()).unwrap().spki_sha256
}
