//! Credentials and the development authority on disk.

use std::time::Duration;

use super::*;
use crate::identity::credentials::CredentialsError;

#[test]
fn credentials_saved_to_files_load_again_and_the_authority_can_issue_more() {
    let directory = tempfile::tempdir().expect("directory");
    let authority = DevelopmentAuthority::create("files", start()).expect("authority");
    authority.save(directory.path()).expect("saved");
    assert!(authority.save(directory.path()).is_err(), "existing files are left alone");

    let loaded = DevelopmentAuthority::load(directory.path()).expect("loaded");
    let issued =
        loaded.issue(centre(), "centre", &["centre.example"], start(), 1000 * 1000 * HOUR).expect("issued");
    issued.write_to(directory.path(), "centre").expect("written");
    let file = |name: &str| directory.path().join(name);
    let (certificate, key) = (file("centre.crt.pem"), file("centre.key.pem"));
    let credentials = Credentials::load(&certificate, &key, &file("authority.crt.pem")).expect("loaded");
    assert_eq!(credentials.own().named, Ok(centre()));
    let ten_years = start() + Duration::from_secs(10 * 365 * 24 * 3600);
    assert_eq!(credentials.own().not_after, ten_years, "not longer than its authority");

    let error = Credentials::load(&certificate, &key, &file("nowhere.pem")).expect_err("missing");
    assert!(error.to_string().contains("nowhere.pem"), "{error}");
    let error = Credentials::load(&key, &key, &certificate).expect_err("mixed up");
    assert!(matches!(error, CredentialsError::Holds { what: "certificate", .. }), "{error}");
    let error =
        Credentials::load(&certificate, &file("authority.key.pem"), &certificate).expect_err("other key");
    assert!(matches!(error, CredentialsError::Key { .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn a_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().expect("directory");
    let authority = DevelopmentAuthority::create("files", start()).expect("authority");
    authority.save(directory.path()).expect("saved");
    let issued = authority.issue(centre(), "centre", &[], start(), HOUR).expect("issued");
    issued.write_to(directory.path(), "centre").expect("written");
    let key = directory.path().join("centre.key.pem");
    assert_eq!(std::fs::metadata(&key).expect("file").permissions().mode() & 0o777, 0o600);

    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).expect("changed");
    let certificate = directory.path().join("centre.crt.pem");
    let error = Credentials::load(&certificate, &key, &certificate).expect_err("open");
    assert!(error.to_string().contains("(mode 640): run chmod 600 "), "{error}");
}

#[test]
fn the_key_is_in_no_debug_output() {
    let authority = DevelopmentAuthority::create("debug", start()).expect("authority");
    let issued = authority.issue(centre(), "centre", &[], start(), HOUR).expect("issued");
    let credentials = Credentials::from_pem(
        issued.certificate_pem.as_bytes(),
        issued.key_pem.as_bytes(),
        authority.certificate_pem().as_bytes(),
    );
    let shown = format!("{authority:?} {issued:?} {credentials:?}").to_lowercase();
    assert!(!shown.contains("private") && !shown.contains("key"), "{shown}");
}
