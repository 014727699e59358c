//! What a configuration may say, and what is refused.

use super::*;

const FILE: &str = r#"
    [gateway]
    agency = "91110000600037341L"
    listen = "127.0.0.1:8443"
    directory = "directory.toml"
    [tls]
    certificate = "tls/gateway.pem"
    private_key = "tls/gateway.key"
    authorities = "tls/ca.pem"
    [store]
    database = "gateway.db"
    [keys]
    log = "keys/log.key"
    body = "keys/body.key"
    pseudonym = "keys/pseudonym.key"
"#;

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.toml");
    std::fs::write(&path, text).unwrap();
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(&path, environment).map_err(|error| error.to_string())
}

#[test]
fn paths_are_relative_to_the_file_and_the_environment_overlays() {
    let config = load(
        FILE,
        &[
            ("LEGAL_AID_GATEWAY__GATEWAY__LISTEN", "127.0.0.1:9"),
            ("LEGAL_AID_GATEWAY__LIMITS__CALLS", "7"),
            ("LEGAL_AID_GATEWAY__LIMITS__DRAIN", "3s"),
            ("OTHER", "x"),
        ],
    )
    .unwrap();
    assert!(config.store.database.file().unwrap().is_absolute());
    assert_eq!(config.gateway.listen.port(), 9);
    assert_eq!(config.limits.calls, 7);
    assert_eq!(config.limits.drain, Duration::from_secs(3));
}

#[test]
fn a_value_of_the_environment_is_read_as_toml_with_what_stands_around_it() {
    for calls in ["7", "7 ", " 7", "7\n", "7 # as agreed", "\t7\n# as agreed\n"] {
        let config = load(FILE, &[("LEGAL_AID_GATEWAY__LIMITS__CALLS", calls)]);
        assert_eq!(config.unwrap().limits.calls, 7, "{calls:?}");
    }
    for (node, read) in [
        ("\"east\" # of two", "east"),
        ("east # of two", "east # of two"),
        (" east", " east"),
        ("", ""),
        ("\"east\"\ndevelopment = true", "\"east\"\ndevelopment = true"),
        ("\"east\"\n[limits]", "\"east\"\n[limits]"),
    ] {
        let config = load(FILE, &[("LEGAL_AID_GATEWAY__GATEWAY__NODE", node)]).unwrap();
        assert_eq!(config.gateway.node, read, "{node:?}");
    }
    let quoted = ("LEGAL_AID_GATEWAY__STORE__DATABASE", "\"other.db\" # it was gateway.db");
    assert!(load(FILE, &[quoted]).unwrap().store.database.file().unwrap().ends_with("other.db"));
}

#[test]
fn an_error_names_place_and_key_and_shows_no_password() {
    let url = "postgres://gw:hush/Hush@hush@db/aid?password=hush";
    let line = "database = \"gateway.db\"";
    for (old, new, said) in [
        (line, format!("databse = \"{url}\""), ["line 11, column 5", "`databse`"]),
        (line, format!("database = \"{url}"), ["line 11, column", "string"]),
        (line, format!("database = {url}"), ["line 11, column 60", "expected newline"]),
        (
            line,
            format!("database = \"gateway.db\"\nstall = \"{url}\""),
            ["line 12, column 9", "`store.stall`"],
        ),
        (
            "listen = \"127.0.0.1:8443\"",
            format!("listen = \"{url}\""),
            ["line 4, column 14", "`gateway.listen`"],
        ),
        ("[keys]", format!("[keys]\ndatabase = \"{url}\""), ["line 13, column 1", "`database`"]),
        ("[keys]", format!("[limits]\ncalls = \"{url}\"\n[keys]"), ["line 13, column 9", "`limits.calls`"]),
    ] {
        let error = load(&FILE.replace(old, &new), &[]).unwrap_err();
        assert!(said.iter().all(|part| error.contains(part)), "{said:?} in {error}");
        assert!(error.contains("gateway.toml: ") && !error.to_lowercase().contains("hush"), "{error}");
    }
    for (name, key) in [
        ("STORE", "`store`"),
        ("STORE__DATABSE", "`databse`"),
        ("STROE__DATABASE", "`stroe`"),
        ("LIMITS__CALLS", "`limits.calls`"),
    ] {
        let name = format!("{ENVIRONMENT_PREFIX}{name}");
        let error = load(FILE, &[(name.as_str(), url)]).unwrap_err();
        assert!(error.contains(&format!("gateway.toml: {name}: ")) && error.contains(key), "{error}");
        assert!(!error.to_lowercase().contains("hush"), "{error}");
    }
}

#[test]
fn an_error_names_the_variable_that_it_comes_from_and_the_line_that_it_comes_from() {
    let right = ("LEGAL_AID_GATEWAY__LIMITS__CALLS", "7");
    let other = ("LEGAL_AID_GATEWAY__GATEWAY__NODE", "east");
    for (name, value, said) in [
        ("LEGAL_AID_GATEWAY__DELIVERY__LEASE", "a while", "`delivery.lease`"),
        ("LEGAL_AID_GATEWAY__TLS__REVOCATIONS", "[\"a.crl\", 7]", "`tls.revocations`"),
        ("LEGAL_AID_GATEWAY__RETENTION__KINDS", "{ FEE_WAIVER = \"x\" }", "FEE_WAIVER"),
        ("LEGAL_AID_GATEWAY__STORE__DATABASE__URL", "x", "`database` has no keys"),
        ("LEGAL_AID_GATEWAY__TLS__REVOCATIONS__0", "x", "`revocations` has no keys"),
        ("LEGAL_AID_GATEWAY__", "x", "unknown field ``"),
    ] {
        let text = FILE.replace("[store]", "revocations = []\n[store]");
        let error = load(&text, &[right, (name, value), other]).unwrap_err();
        assert!(error.contains(&format!("gateway.toml: {name}: ")) && error.contains(said), "{error}");
    }
    let error = load(&format!("{FILE}\n[limits]\ncals = 7\n"), &[right, other]).unwrap_err();
    assert!(error.contains("line 18, column 1: unknown field `cals`"), "{error}");
}

#[test]
fn files_that_a_url_names_are_beside_the_configuration_and_both_servers_know_of_the_network() {
    let url = "postgres://u@db/x?sslmode=verify-full&sslkey=credential:database.key&sslrootcert=tls/db.crt";
    let standby = "LEGAL_AID_GATEWAY__STORE__STANDBY";
    let folder = ("CREDENTIALS_DIRECTORY", "/run/credentials/gateway");
    let database = ("LEGAL_AID_GATEWAY__STORE__DATABASE", url);
    let trusted = ("LEGAL_AID_GATEWAY__STORE__TRUSTED_NETWORK", "true");
    let config = load(FILE, &[database, (standby, url), folder, trusted]).unwrap();
    let Database::Postgres(primary) = &config.store.database else { unreachable!() };
    for server in [primary, config.store.standby().unwrap()] {
        assert!(server.trusts_network());
        let files: Vec<_> = server.files().collect();
        assert_eq!(files[0], ("sslkey", "/run/credentials/gateway/database.key".into()));
        assert!(files[1].1.is_absolute() && files[1].1.ends_with("tls/db.crt"), "{files:?}");
    }
    let refused = load(FILE, &[database]).unwrap_err();
    assert!(refused.contains("database.key"), "{refused}");
}

#[test]
fn an_unknown_key_is_refused_by_name_and_line() {
    let error = load(&format!("{FILE}\n[limits]\ncals = 7\n"), &[]).unwrap_err();
    assert!(error.contains("cals") && error.contains("line"), "{error}");
}

#[test]
fn contradictions_are_refused() {
    let error = load(&format!("{FILE}\n[delivery]\nlease = \"5s\"\n"), &[]).unwrap_err();
    assert!(error.contains("longer than delivery.attempt"), "{error}");
    let error = load(&format!("{FILE}\n[limits]\nkeep_outcomes = \"1h\"\n"), &[]).unwrap_err();
    assert!(error.contains("7 days"), "{error}");
    assert!(load(FILE, &[]).is_ok(), "the defaults do not contradict each other");
}

#[test]
fn contradictions_of_the_front_door_are_refused_all_at_once_each_with_its_key() {
    for (settings, keys) in [
        (
            "[limits]\nfirst_byte = \"11m\"",
            vec!["limits.first_byte must not be longer than front_door.connection_idle"],
        ),
        ("[front_door]\nheader_block = \"0s\"", vec!["front_door.header_block must be longer than nothing"]),
        ("[front_door]\nkeep_alive_answer = \"21s\"", vec!["front_door.keep_alive_answer"]),
        ("[front_door]\nrequest_body = \"61s\"", vec!["front_door.request_body"]),
        ("[front_door]\nconnection_idle = \"7h\"", vec!["front_door.connection_idle"]),
        (
            "[front_door]\nconnection_window = 100",
            vec!["front_door.connection_window", "front_door.stream_window"],
        ),
        (
            "[limits]\nmessage_bytes = 20000000\n[front_door]\nbuffered_bytes = 1000\nheader_bytes = 1\nconnections = 1",
            vec![
                "limits.message_bytes",
                "front_door.buffered_bytes_per_agency",
                "front_door.header_bytes",
                "front_door.connections_per_agency",
            ],
        ),
    ] {
        let error = load(&format!("{FILE}\n{settings}\n"), &[]).unwrap_err();
        for key in &keys {
            assert!(error.contains(key), "{key} in {error}");
        }
        assert_eq!(error.lines().count(), keys.len(), "{error}");
    }
}

#[test]
fn contradictions_of_what_registries_may_hold_up_are_refused_all_at_once_each_with_its_key() {
    for (settings, keys) in [
        ("failures = 0", vec!["upstream.failures"]),
        ("pause = \"0s\"\nstalled_after = \"0s\"", vec!["upstream.pause", "upstream.stalled_after"]),
        ("pause = \"31s\"", vec!["upstream.longest_pause"]),
        ("stalled_after = \"61s\"", vec!["upstream.stalled_after"]),
        ("questions_per_caller = 0", vec!["upstream.questions_per_caller"]),
        ("questions = 128", vec!["upstream.questions_per_caller"]),
    ] {
        let error = load(&format!("{FILE}\n[upstream]\n{settings}\n"), &[]).unwrap_err();
        for key in &keys {
            assert!(error.contains(key), "{key} in {error}");
        }
        assert_eq!(error.lines().count(), keys.len(), "{error}");
    }
    let printed = load(FILE, &[]).unwrap().to_toml().unwrap();
    let (_, upstream) = printed.split_once("[upstream]").unwrap();
    for line in ["failures = 5", "pause = \"1s\"", "stalled_after = \"5s\"", "questions_per_caller = 128"] {
        assert!(upstream.contains(line), "{line} in {printed}");
    }
}

#[test]
fn what_is_printed_is_what_is_in_force_and_reads_the_same() {
    let settings = "[limits]\ndrain = \"1500ms\"\n[front_door]\nresets = 7\n[findings]\nsilence = { on = false }\n\
                    [retention]\nkinds = { FEE_WAIVER = 120 }\n[audit.witnesses]\nstop_after = \"2h\"";
    let config = load(&format!("{FILE}\n{settings}\n"), &[]).unwrap();
    let printed = config.to_toml().unwrap();
    for line in [
        "drain = \"1s 500ms\"",
        "resets = 7",
        "FEE_WAIVER = 120",
        "stop_after = \"2h\"",
        "handshake = \"10s\"",
    ] {
        assert!(printed.contains(line), "{line} in {printed}");
    }
    let again = load(&printed, &[]).unwrap();
    assert_eq!(again.to_toml().unwrap(), printed);
    assert_eq!(format!("{again:?}"), format!("{config:?}"));
}

#[test]
fn traces_name_their_collector_and_nothing_is_sent_unless_they_do() {
    assert!(load(FILE, &[]).unwrap().traces.is_none());
    let config = load(&format!("{FILE}\n[traces]\nendpoint = \"http://127.0.0.1:4317\"\n"), &[]).unwrap();
    assert_eq!(config.traces.unwrap().endpoint, "http://127.0.0.1:4317");
    assert!(load(&format!("{FILE}\n[traces]\n"), &[]).unwrap_err().contains("endpoint"));
}
