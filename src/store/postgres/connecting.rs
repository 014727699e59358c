//! How a server is connected to: with TLS that proves who it is, wherever the way there leaves this machine.

use std::error::Error as _;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr as _;

use rustls::{AlertDescription, CertificateError, Error as TlsError};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::config::Postgres;
use crate::store::StoreError;

/// Options of every connection to a server.
///
/// # Errors
/// When its URL cannot be read, when a file that it names cannot, or when the connection would neither be proven nor stay on
/// this machine.
pub(super) fn options(server: &Postgres) -> Result<PgConnectOptions, StoreError> {
    let options =
        PgConnectOptions::from_str(server.expose()).map_err(|source| unreachable(server, source))?;
    // Compiling a statement takes the server a tenth of a second, and each of ours a thousandth to run.
    let options = options.application_name("legal-aid-gateway").options([("jit", "off")]);
    for (parameter, path) in server.files() {
        check_file(server, parameter, &path)?;
    }
    let is_here = stays_here(&options);
    let mode = options.get_ssl_mode();
    match mode {
        PgSslMode::VerifyFull => Ok(options),
        // What sqlx does by itself: where the server can, encrypt with whoever answers. On this machine that proves nothing.
        PgSslMode::Prefer | PgSslMode::Allow if is_here => Ok(options.ssl_mode(PgSslMode::Disable)),
        _ if is_here || server.trusts_network() => Ok(options),
        _ => Err(StoreError::Unproven { server: server.to_string(), mode: word(mode) }),
    }
}

/// Why a server does not take a connection, and what to do.
pub(super) fn unreachable(server: &Postgres, source: sqlx::Error) -> StoreError {
    let server = server.to_string();
    match remedy(&source) {
        Some(remedy) => StoreError::ConnectTls { server, source, remedy },
        None => StoreError::Connect { server, source },
    }
}

/// Whether the bytes never leave this machine: a socket's file, or the loopback.
fn stays_here(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    options.get_socket().is_some()
        || host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn word(mode: PgSslMode) -> &'static str {
    match mode {
        PgSslMode::Disable => "disable",
        PgSslMode::Allow => "allow",
        PgSslMode::Prefer => "prefer",
        PgSslMode::Require => "require",
        PgSslMode::VerifyCa => "verify-ca",
        PgSslMode::VerifyFull => "verify-full",
    }
}

/// A file that cannot be read is named here; sqlx says only that something was not found. A key is nobody's but the gateway's.
fn check_file(server: &Postgres, parameter: &str, path: &Path) -> Result<(), StoreError> {
    let unusable = |source| StoreError::ServerFile {
        server: server.to_string(),
        parameter: parameter.to_owned(),
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(unusable)?;
    if parameter == "sslkey" && is_open_to_others(&file).map_err(unusable)? {
        return Err(unusable(std::io::Error::other("others can read it: chmod 600")));
    }
    Ok(())
}

/// (To a group a credential of systemd's may be open.)
#[cfg(unix)]
fn is_open_to_others(file: &std::fs::File) -> std::io::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(file.metadata()?.permissions().mode() & 0o027 != 0)
}

#[cfg(not(unix))]
fn is_open_to_others(_: &std::fs::File) -> std::io::Result<bool> {
    Ok(false)
}

/// What to do about a failure of TLS; `None` where it is none.
fn remedy(source: &sqlx::Error) -> Option<&'static str> {
    let certificate = |error: &CertificateError| match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate was issued by no authority in sslrootcert: name the file of the authority that issued it, \
             and ask who answers there if it should have been another"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate names another host: connect by a name in the certificate, or have one issued for this name"
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid now: renew it, or set the clock"
        }
        _ => {
            "its certificate cannot be used: have the server given one for this name, of an authority in sslrootcert"
        }
    };
    match tls_error(source) {
        Some(TlsError::InvalidCertificate(error)) => Some(certificate(error)),
        Some(TlsError::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRequired
            | AlertDescription::DecryptError,
        )) => Some(
            "it refuses this gateway's certificate: see sslcert and sslkey, and ssl_ca_file of the server",
        ),
        Some(_) => {
            Some("the server and this gateway cannot agree: see its log, and sslrootcert, sslcert and sslkey")
        }
        None if matches!(source, sqlx::Error::Tls(_)) => Some(
            "has the server ssl = on, and do sslrootcert, sslcert and sslkey hold what they are to, in PEM?",
        ),
        None => None,
    }
}

/// What TLS itself said, wherever sqlx has put it.
fn tls_error(source: &sqlx::Error) -> Option<&TlsError> {
    match source {
        sqlx::Error::Io(error) => error.get_ref()?.downcast_ref(),
        error => error.source()?.downcast_ref(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Database;

    fn server(url: &str) -> Postgres {
        let Database::Postgres(server) = Database::parse(url) else { unreachable!() };
        server
    }

    #[test]
    fn what_leaves_this_machine_is_proven_unless_the_network_is_trusted() {
        for here in [
            "postgres://u@localhost/db",
            "postgres://u@127.0.0.1/db",
            "postgres://u@127.8.0.1:6000/db?sslmode=disable",
            "postgres://u@[::1]/db",
            "postgres://u@%2Fvar%2Frun%2Fpostgresql/db",
            "postgres://u@db.example/db?host=/run/postgresql",
        ] {
            let mode = options(&server(here)).unwrap().get_ssl_mode();
            assert!(matches!(mode, PgSslMode::Disable), "{here}: {mode:?}");
        }
        for (away, mode) in [
            ("postgres://u:s3cret@db.example/db", "prefer"),
            ("postgres://u:s3cret@db.example/db?sslmode=disable", "disable"),
            ("postgres://u:s3cret@10.0.0.7/db?sslmode=require", "require"),
            ("postgres://u:s3cret@[2001:db8::1]/db?sslmode=verify-ca", "verify-ca"),
            ("postgres://u:s3cret@localhost/db?host=db.example", "prefer"),
            ("postgres://u:s3cret@localhost/db?hostaddr=10.0.0.7", "prefer"),
            ("postgres://u:s3cret@localhost.example/db", "prefer"),
        ] {
            let refused = options(&server(away)).unwrap_err().to_string();
            assert!(refused.contains(&format!("sslmode={mode}")), "{away}: {refused}");
            assert!(refused.contains("verify-full") && refused.contains("trusted_network"), "{refused}");
            assert!(!refused.contains("s3cret"), "{refused}");
            options(&server(away).over_trusted_network(true)).unwrap();
        }
        options(&server("postgres://u@db.example/db?sslmode=verify-full")).unwrap();
    }

    #[test]
    fn a_file_that_is_missing_or_open_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        let url = |file: &str| format!("postgres://u@db/x?sslmode=verify-full&{file}={}", key.display());
        let refused = options(&server(&url("sslrootcert"))).unwrap_err().to_string();
        assert!(refused.contains("sslrootcert") && refused.contains(key.to_str().unwrap()), "{refused}");
        std::fs::write(&key, "").unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        options(&server(&url("sslrootcert"))).unwrap();
        let refused = options(&server(&url("sslkey"))).unwrap_err().to_string();
        assert!(refused.contains("chmod 600"), "{refused}");
    }
}
