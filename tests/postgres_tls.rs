//! TLS to a PostgreSQL server: a gateway connects to no other server than the one that is meant, and says what to do when it
//! does not.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use legal_aid_gateway::audit::note::SigningKey;
use legal_aid_gateway::config::Database;
use legal_aid_gateway::simulator::court::Script;
use legal_aid_gateway::store::{Sealer, Store, StoreError};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use support::postgres::{own_server_at, psql};
use support::{Folder, Gateway};

/// Lets in whoever comes with TLS.
const ANYBODY: &str = "hostssl all all 127.0.0.0/8 trust";

/// Lets in who has a certificate of the authority that the server trusts.
const CERTIFIED: &str = "hostssl all all 127.0.0.0/8 trust clientcert=verify-ca";

struct Authority(Issuer<'static, KeyPair>, String);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self(Issuer::new(params, key), certificate)
    }

    /// A certificate for an address or a name, and its key.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// An address of this machine that no other process of this test has.
fn address() -> String {
    let [.., high, low] = std::process::id().to_be_bytes();
    format!("127.77.{high}.{}", low.clamp(1, 254))
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

async fn opened(url: &str) -> Result<(), String> {
    let store = Store::open(Database::parse(url), Sealer::new(&[1; 32])).await;
    match store {
        Ok(store) => {
            store.close().await;
            Ok(())
        }
        Err(error) => {
            assert!(!matches!(error, StoreError::Database(_)), "no remedy: {error}");
            Err(error.to_string())
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_connects_to_the_server_that_is_meant_and_says_what_is_wrong_with_another() {
    let address = address();
    let Some(server) = own_server_at(&address) else { return };
    let (own, other) = (Authority::new("own"), Authority::new("other"));
    let folder = Folder::prepare(Script::TakeOnly);
    let path = folder.path();
    write(path, "own.crt", &own.1);
    write(path, "other.crt", &other.1);
    for (authority, name) in [(&own, "client"), (&other, "stranger")] {
        let (certificate, key) = authority.issue("gateway");
        write(path, &format!("{name}.crt"), &certificate);
        write(path, &format!("{name}.key"), &key);
    }
    let by_socket = server.new_database();
    let database = by_socket.rsplit_once('/').unwrap().1;
    let url = |rest: &str| {
        let rest = rest.replace('@', &format!("{}/", path.display()));
        format!("postgres://gateway@{address}/{database}?{rest}")
    };
    let verified = url("sslmode=verify-full&sslrootcert=@own.crt");

    let refused = opened(&verified).await.unwrap_err();
    assert!(refused.contains("has the server ssl = on"), "{refused}");
    let (certificate, key) = own.issue(&address);
    server.serve_tls(&certificate, &key, &own.1, ANYBODY);
    opened(&verified).await.unwrap();

    for (rest, remedy) in [
        ("sslmode=verify-full&sslrootcert=@other.crt", "issued by no authority in sslrootcert"),
        // Nobody is trusted whom nobody named.
        ("sslmode=verify-full", "issued by no authority in sslrootcert"),
        ("sslmode=verify-full&sslrootcert=@nothing.crt", "sslrootcert of"),
        ("sslmode=verify-full&sslrootcert=@own.crt&hostaddr=127.0.0.1&port=1", "is the server up"),
    ] {
        let refused = opened(&url(rest)).await.unwrap_err();
        assert!(refused.contains(remedy), "{rest}: {refused}");
    }
    let (elsewhere, its_key) = own.issue("db.example");
    server.serve_tls(&elsewhere, &its_key, &own.1, ANYBODY);
    let refused = opened(&verified).await.unwrap_err();
    assert!(refused.contains("names another host"), "{refused}");

    server.serve_tls(&certificate, &key, &own.1, CERTIFIED);
    let refused = opened(&verified).await.unwrap_err();
    assert!(refused.contains("certificate"), "{refused}");
    let stranger = url("sslmode=verify-full&sslrootcert=@own.crt&sslcert=@stranger.crt&sslkey=@stranger.key");
    let refused = opened(&stranger).await.unwrap_err();
    assert!(refused.contains("refuses this gateway's certificate"), "{refused}");

    // The gateway itself, with files beside its configuration and a certificate of its own.
    let settings = format!(
        "database = \"postgres://gateway@{address}/{database}?sslmode=verify-full&sslrootcert=own.crt&sslcert=client.crt\
         &sslkey=client.key\""
    );
    folder.reconfigure("database = \"gateway.db\"", &settings);
    let gateway = Gateway::start(&folder).await;
    let encrypted = "SELECT count(*) > 1, bool_and(ssl), bool_and(client_dn IS NOT NULL) FROM pg_stat_ssl \
                     JOIN pg_stat_activity USING (pid) WHERE application_name = 'legal-aid-gateway'";
    assert_eq!(psql(&by_socket, encrypted).trim(), "t|t|t");
    gateway.stop().await;
    let shown = folder.run(&["config", "print", "--config", "gateway.toml"]).await;
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(
        shown.status.success() && text.contains(&address) && text.contains("trusted_network = false"),
        "{text}"
    );
}

#[tokio::test]
async fn nothing_is_said_in_clear_to_a_server_on_another_machine() {
    // (192.0.2.0/24 is for examples: nothing answers there, and nothing was asked.)
    let folder = Folder::prepare(Script::TakeOnly);
    let away = "postgres://gateway:s3cret@192.0.2.1/aid";
    folder.reconfigure("database = \"gateway.db\"", &format!("database = \"{away}\""));
    let key = std::fs::read_to_string(folder.file("keys/log.key")).unwrap();
    let key = SigningKey::parse(key.trim()).unwrap().verifying_key().to_string();
    for command in [
        &["serve", "--config", "gateway.toml"][..],
        &["doctor", "--config", "gateway.toml"],
        &["audit", "fsck", "--config", "gateway.toml"],
        &["audit", "fsck", away],
        &["audit", "verify", away, "--key", &key],
    ] {
        let refused = folder.run(command).await;
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&refused.stdout),
            String::from_utf8_lossy(&refused.stderr)
        );
        // (A table's cells break their lines.)
        let words = said.replace(['\n', '\u{2502}', '\u{2506}', '|'], " ");
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(!refused.status.success() && !said.contains("s3cret"), "{command:?}: {said}");
        assert!(words.contains("sslmode=prefer"), "{command:?}: {said}");
    }
    // Whoever says so is believed, and only then does the gateway try.
    let tried = folder.run(&["audit", "fsck", away, "--trusted-network"]).await;
    let said = String::from_utf8_lossy(&tried.stderr);
    assert!(!tried.status.success() && said.contains("cannot connect to postgres://192.0.2.1/aid"), "{said}");
}
