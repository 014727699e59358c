//! `cert`: what it makes is what others can use, and what it says of files is true.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::setup::codes;
use legal_aid_gateway::simulator::court::Script;
use rcgen::{CertificateSigningRequestParams, Issuer, KeyPair};
use serde_json::Value;
use support::{DEADLINE, Folder, Gateway};

#[tokio::test]
async fn a_request_is_signed_by_a_real_authority_and_its_certificate_lets_the_agency_in() {
    let folder = Folder::prepare(Script::TakeOnly);
    let arguments =
        ["cert", "csr", "asked", "--name", "centre", "--agency", codes::CENTRE, "--host", "centre.example"];
    ok(&folder, &arguments).await;
    let mode = fs::metadata(folder.file("asked/centre.key.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let shown = show(&folder, &["asked/centre.csr.pem", "--private-key", "asked/centre.key.pem"]).await;
    assert_eq!(shown[0]["is"], "certificate_request");
    assert_eq!(shown[0]["key_fits"], true);
    let names = shown[0]["names"].to_string();
    assert!(names.contains(&format!("urn:legal-aid:agency:{}", codes::CENTRE)), "{names}");
    assert!(names.contains("DNS centre.example"), "{names}");

    // Whoever signs sees the request only.
    let request = fs::read_to_string(folder.file("asked/centre.csr.pem")).unwrap();
    let read = |name: &str| fs::read_to_string(folder.file(&format!("tls/{name}"))).unwrap();
    let issuer = Issuer::from_ca_cert_pem(
        &read("authority.crt.pem"),
        KeyPair::from_pem(&read("authority.key.pem")).unwrap(),
    );
    let signed =
        CertificateSigningRequestParams::from_pem(&request).unwrap().signed_by(&issuer.unwrap()).unwrap();
    fs::write(folder.file("tls/centre.crt.pem"), signed.pem()).unwrap();
    fs::copy(folder.file("asked/centre.key.pem"), folder.file("tls/centre.key.pem")).unwrap();
    let gateway = Gateway::start(&folder).await;
    let centre = folder.client("centre");
    let request = centre.request(folder.fee_waiver(&centre), DEADLINE);
    centre.exchanges().submit_exchange(request).await.unwrap();
    gateway.stop().await;

    // Again with the same key, and never over what is there.
    let refused = folder.run(&arguments).await;
    assert!(!refused.status.success());
    let again = [&arguments[..], &["--private-key", "asked/centre.key.pem"]].concat();
    assert!(text(&folder.run(&again).await.stderr).contains("not overwritten"));
    let again = ["cert", "csr", "again", "--agency", codes::CENTRE, "--private-key", "asked/centre.key.pem"];
    ok(&folder, &again).await;
    assert!(!folder.file("again/gateway.key.pem").exists());
    let shown = show(&folder, &["again/gateway.csr.pem", "--private-key", "asked/centre.key.pem"]).await;
    assert_eq!(shown[0]["key_fits"], true);
    let host = ["cert", "csr", "bad", "--agency", codes::CENTRE, "--host", "not a host"];
    assert!(text(&folder.run(&host).await.stderr).contains("neither a DNS name nor an IP address"));
    assert!(!folder.file("bad").exists(), "nothing is left of what was refused");
}

#[tokio::test]
async fn a_development_pki_is_made_grows_and_revokes() {
    let folder = Folder::empty();
    let centre = format!("centre={}", codes::CENTRE);
    let court = format!("court={}", codes::COURT);
    ok(&folder, &["cert", "dev", "pki", &centre, "--dns", "centre.example", "--days", "7"]).await;
    ok(&folder, &["cert", "dev", "pki", &court]).await;
    assert!(!folder.run(&["cert", "dev", "pki", &court]).await.status.success(), "nothing is overwritten");
    ok(&folder, &["cert", "dev", "pki", "--revoke", "pki/court.crt.pem"]).await;

    let shown = show(
        &folder,
        &["pki/centre.crt.pem", "pki/authority.crt.pem", "pki/revoked.crl.pem", "pki/court.crt.pem"],
    )
    .await;
    assert_eq!(shown[0]["agency"], codes::CENTRE);
    assert_eq!((&shown[0]["development"], &shown[0]["authority"]), (&true.into(), &false.into()));
    assert_eq!((&shown[0]["valid_now"], &shown[1]["authority"]), (&true.into(), &true.into()));
    assert!(shown[0]["names"].to_string().contains("DNS centre.example"));
    let days = (shown[0]["not_after"].as_i64().unwrap() - Clock::system().now().as_second()) / 86_400;
    assert!((6..=7).contains(&days), "{days}");
    assert_eq!(shown[2]["revoked"][0], shown[3]["serial"]);
    if has_openssl() {
        let verified =
            openssl(&folder, &["verify", "-CAfile", "pki/authority.crt.pem", "pki/centre.crt.pem"]);
        assert!(verified.contains("OK"), "{verified}");
    }
}

#[tokio::test]
async fn show_says_what_a_file_is_in_words_and_shows_no_key() {
    let folder = Folder::prepare(Script::TakeOnly);
    let words = |output: std::process::Output| text(&output.stdout);
    let shown = words(
        folder.run(&["cert", "show", "tls/centre.crt.pem", "--private-key", "tls/centre.key.pem"]).await,
    );
    for expected in [
        "agency 12331004MB0000002T",
        "issued by CN=DEVELOPMENT ONLY legal-aid exchange",
        "days left",
        "ECDSA, 256 bits",
        "FOR DEVELOPMENT ONLY",
        "it is this key's",
        "serverAuth, clientAuth",
    ] {
        assert!(shown.contains(expected), "{expected} is not in {shown}");
    }
    let shown = words(
        folder.run(&["cert", "show", "tls/centre.crt.pem", "--private-key", "tls/court.key.pem"]).await,
    );
    assert!(shown.contains("NOT this key's"), "{shown}");

    let key = fs::read_to_string(folder.file("tls/centre.key.pem")).unwrap();
    fs::set_permissions(folder.file("tls/centre.key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    let shown = words(folder.run(&["cert", "show", "tls/centre.key.pem"]).await);
    assert!(shown.contains("PRIVATE KEY") && shown.contains("chmod 600"), "{shown}");
    let body: String = key.lines().filter(|line| !line.starts_with("-----")).collect();
    assert!(body.len() > 100 && !shown.replace(['\n', ' '], "").contains(&body[40..80]), "{shown}");

    let refused = folder.run(&["cert", "show", "gateway.toml"]).await;
    assert!(!refused.status.success() && text(&refused.stderr).contains("neither PEM nor DER"));
}

#[tokio::test]
async fn the_hash_of_a_key_is_the_one_that_openssl_computes_of_pem_and_der() {
    let folder = Folder::prepare(Script::TakeOnly);
    if !has_openssl() {
        return;
    }
    // The hash is the one that openssl computes.
    let spki = openssl(&folder, &["x509", "-in", "tls/centre.crt.pem", "-noout", "-pubkey"]);
    fs::write(folder.file("key.pem"), spki).unwrap();
    openssl(&folder, &["pkey", "-pubin", "-in", "key.pem", "-outform", "DER", "-out", "key.der"]);
    let digest = openssl(&folder, &["dgst", "-sha256", "-r", "key.der"]);
    let shown = show(&folder, &["tls/centre.crt.pem"]).await;
    assert!(digest.starts_with(shown[0]["key"]["spki_sha256"].as_str().unwrap()), "{digest}");

    // The same in DER.
    openssl(&folder, &["x509", "-in", "tls/centre.crt.pem", "-outform", "DER", "-out", "centre.der"]);
    assert_eq!(show(&folder, &["centre.der"]).await[0]["agency"], codes::CENTRE);
}

#[tokio::test]
async fn a_pkcs12_file_opens_with_its_password_alone_in_openssl_and_java() {
    let folder = Folder::prepare(Script::TakeOnly);
    fs::write(folder.file("password"), "Kennwort für Java\n").unwrap();
    let pack = [
        "cert",
        "pkcs12",
        "centre.p12",
        "--certificate",
        "tls/centre.crt.pem",
        "--private-key",
        "tls/centre.key.pem",
        "--authorities",
        "tls/authority.crt.pem",
        "--password-file",
        "password",
        "--alias",
        "centre",
    ];
    fs::set_permissions(folder.file("password"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(text(&folder.run(&pack).await.stderr).contains("chmod 600"));
    fs::set_permissions(folder.file("password"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(text(&folder.run(&pack).await.stderr).contains("ASCII"));
    fs::write(folder.file("password"), "not-a-good-one\n").unwrap();
    ok(&folder, &pack).await;
    let mode = fs::metadata(folder.file("centre.p12")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(text(&folder.run(&pack).await.stderr).contains("not overwritten"));

    if has_openssl() {
        let open = ["pkcs12", "-in", "centre.p12", "-passin", "file:password", "-nodes"];
        let opened = openssl(&folder, &open);
        assert!(opened.contains("friendlyName: centre"), "{opened}");
        let body = |pem: &str| pem.split("-----").nth(2).unwrap().replace('\n', "");
        let key = fs::read_to_string(folder.file("tls/centre.key.pem")).unwrap();
        assert!(opened.replace('\n', "").contains(&body(&key)), "the key is in it");
        for name in ["centre", "authority"] {
            let certificate = fs::read_to_string(folder.file(&format!("tls/{name}.crt.pem"))).unwrap();
            assert!(opened.replace('\n', "").contains(&body(&certificate)), "{name} is in it");
        }
        fs::write(folder.file("other"), "not-the-good-one\n").unwrap();
        let wrong = Command::new("openssl")
            .args(["pkcs12", "-in", "centre.p12", "-passin", "file:other", "-nodes"])
            .current_dir(folder.path())
            .output();
        assert!(!wrong.unwrap().status.success());
    }

    let listed = Command::new("keytool")
        .args([
            "-list",
            "-keystore",
            "centre.p12",
            "-storepass:file",
            "password",
            "-v",
            "-J-Duser.language=en",
        ])
        .current_dir(folder.path())
        .output();
    match listed {
        Ok(listed) => {
            let listed = text(&listed.stdout);
            assert!(listed.contains("PrivateKeyEntry") && listed.contains("trustedCertEntry"), "{listed}");
        }
        Err(_) => println!("SKIPPED for want of keytool: that Java opens the file"),
    }
}

#[tokio::test]
async fn development_certificates_are_refused_by_a_gateway_that_is_not_in_development_mode() {
    let folder = Folder::prepare(Script::TakeOnly);
    folder.reconfigure("development = true", "# development = true");
    let refused = Gateway::try_start(&folder, &[]).await.err().expect("it does not start");
    assert!(refused.said.contains("for development only"), "{refused:?}");
    let doctor = text(&folder.run(&["doctor", "--config", "gateway.toml"]).await.stdout);
    assert!(doctor.contains("for development only"), "{doctor}");

    // One such authority among real ones is enough.
    let real = real_authority(&folder);
    let development = fs::read_to_string(folder.file("tls/authority.crt.pem")).unwrap();
    fs::write(folder.file("tls/authority.crt.pem"), format!("{real}{development}")).unwrap();
    let refused = Gateway::try_start(&folder, &[]).await.err().expect("it does not start");
    assert!(refused.said.contains("for development only"), "{refused:?}");
    fs::write(folder.file("tls/authority.crt.pem"), &real).unwrap();
    Gateway::start(&folder).await.stop().await;

    // Nor does it take one while it runs.
    let running = Gateway::start(&folder).await;
    fs::write(folder.file("tls/authority.crt.pem"), format!("{real}{development}")).unwrap();
    let told = async {
        while !running.said().contains("for development only") {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(support::PATIENCE, told).await.expect("it says so");
    running.stop().await;
}

#[tokio::test]
async fn a_gateway_in_development_mode_says_so_at_start_and_in_doctor() {
    let folder = Folder::prepare(Script::TakeOnly);
    let gateway = Gateway::start(&folder).await;
    assert!(gateway.said().contains("development mode"), "{}", gateway.said());
    gateway.stop().await;
    let doctor = text(&folder.run(&["doctor", "--config", "gateway.toml"]).await.stdout);
    assert!(doctor.contains("development: no real data here"), "{doctor}");
    let empty = Folder::empty();
    let arguments = ["init", "gw", "--real-certificates", "--agency", codes::GATEWAY];
    ok(&empty, &arguments).await;
    let configured = fs::read_to_string(empty.file("gw/gateway.toml")).unwrap();
    assert!(configured.contains("\n# development = true"), "{configured}");
}

/// Puts the gateway's certificate of an authority that is not called one for development in place; gives the authority.
fn real_authority(folder: &Folder) -> String {
    let key = KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "an authority");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let name = format!("urn:legal-aid:agency:{}", codes::GATEWAY);
    params.subject_alt_names.push(rcgen::SanType::URI(name.try_into().unwrap()));
    let certificate = params.signed_by(&own, &issuer).unwrap();
    fs::write(folder.file("tls/gateway.crt.pem"), certificate.pem()).unwrap();
    fs::write(folder.file("tls/gateway.key.pem"), own.serialize_pem()).unwrap();
    authority
}

async fn ok(folder: &Folder, arguments: &[&str]) {
    let output = folder.run(arguments).await;
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
}

async fn show(folder: &Folder, arguments: &[&str]) -> Value {
    let output = folder.run(&[&["cert", "show", "--json"], arguments].concat()).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Whether there is another implementation to compare with; says so when there is none.
fn has_openssl() -> bool {
    let has = Command::new("openssl").arg("version").output().is_ok();
    if !has {
        println!("SKIPPED for want of openssl: the comparison with it");
    }
    has
}

fn openssl(folder: &Folder, arguments: &[&str]) -> String {
    let output =
        Command::new("openssl").args(arguments).current_dir(folder.path()).output().expect("openssl");
    assert!(output.status.success(), "openssl {arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
