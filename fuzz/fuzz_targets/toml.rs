//! TOML that people write: directory with agreements, configuration, rules, clocks. The first line says which. What was
//! read and printed is read as the same.
#![no_main]

use std::cell::RefCell;

use legal_aid_gateway::access::{Directory, DirectoryFile};
use legal_aid_gateway::config::Config;
use legal_aid_gateway::domain::calendar::Calendar;
use legal_aid_gateway::domain::clocks::Clocks;
use legal_aid_gateway::domain::eligibility::RuleSets;
use legal_aid_gateway::simulator::script::ScriptFile;
use legal_aid_gateway_fuzz::seeds;
use libfuzzer_sys::fuzz_target;
use tempfile::NamedTempFile;

thread_local! {
    static FILE: RefCell<NamedTempFile> = RefCell::new(NamedTempFile::new().unwrap());
}

fuzz_target!(init: seeds("toml", examples), |text: &str| {
    let Some((kind, text)) = text.split_once('\n') else { return };
    match kind {
        "directory" => directory(text),
        "configuration" => configuration(text),
        "rules" => drop(RuleSets::load([("own.toml".to_owned(), text.to_owned())])),
        "clocks" => drop(Clocks::load(Some(text), None)),
        "holidays" => drop(Calendar::parse(text)),
        "script" => drop(toml::from_str::<ScriptFile>(text)),
        _ => {}
    }
});

fn directory(text: &str) {
    let Ok(file) = toml::from_str::<DirectoryFile>(text) else {
        assert!(Directory::parse(text).is_err());
        return;
    };
    let printed = toml::to_string(&file).expect("a directory that was read can be written");
    let again: DirectoryFile = toml::from_str(&printed).expect("and read again");
    assert_eq!(format!("{again:?}"), format!("{file:?}"));
    assert_eq!(Directory::parse(text).is_ok(), Directory::build(file).is_ok());
}

fn configuration(text: &str) {
    FILE.with_borrow(|file| {
        std::fs::write(file.path(), text).unwrap();
        let Ok(config) = Config::load(file.path(), []) else { return };
        let printed = config.to_toml().expect("a configuration that was read can be printed");
        std::fs::write(file.path(), printed).unwrap();
        let again = Config::load(file.path(), []).expect("and read again");
        assert_eq!(format!("{again:?}"), format!("{config:?}"));
    });
}

fn examples() -> Vec<(&'static str, Vec<u8>)> {
    let of = |kind: &str, text: &str| format!("{kind}\n{text}").into_bytes();
    let data = |path: &str| {
        std::fs::read_to_string(format!("{}/../data/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    };
    vec![
        ("directory", of("directory", DIRECTORY)),
        ("configuration", of("configuration", CONFIGURATION)),
        ("rules", of("rules", &data("eligibility/example-plus-200.toml"))),
        ("clocks", of("clocks", &data("clocks.toml"))),
        ("holidays", of("holidays", &data("holidays.toml"))),
    ]
}

const DIRECTORY: &str = r#"
[[agency]]
code = "12331004MB0000002T"
kind = "legal-aid-centre"
name = "模拟法律援助中心"
region = "331004"

[[agency]]
code = "11331004MB00000031"
kind = "court"
name = "模拟人民法院"
region = "331004"
endpoint = { address = "127.0.0.1:8443", server_name = "court.example" }

[[agreement]]
id = "A-1"
version = 1
caller = "12331004MB0000002T"
counterparts = ["11331004MB00000031"]
methods = ["SubmitExchange"]
purposes = ["FEE_WAIVER"]
from = 2026-01-01
until = 2027-01-01
rate = { per_second = 50, burst = 100 }
"#;

const CONFIGURATION: &str = r#"
[gateway]
agency = "11331000MB00000011"
listen = "127.0.0.1:8443"
directory = "directory.toml"

[tls]
certificate = "tls/gateway.crt.pem"
private_key = "tls/gateway.key.pem"
authorities = "tls/authority.crt.pem"

[store]
database = "gateway.db"

[keys]
log = "keys/log.key"
body = "keys/body.key"
pseudonym = "keys/pseudonym.key"

[limits]
calls = 64
default_deadline = "10s"
"#;
