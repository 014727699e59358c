//! The demonstration, as somebody sees it who has just built the gateway.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

/// A debug build on a machine with other work.
const LONGEST: Duration = Duration::from_secs(60);

fn demo(arguments: &[&str]) -> String {
    let started = Instant::now();
    let output =
        Command::new(env!("CARGO_BIN_EXE_legal-aid-gateway")).arg("demo").args(arguments).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(started.elapsed() < LONGEST, "it took {:?}", started.elapsed());
    said
}

#[test]
fn every_step_holds_and_each_is_one_that_the_released_demo_is_checked_for() {
    let told: Value = serde_json::from_str(&demo(&["--json"])).unwrap();
    let checked = include_str!("../.ci/check_demo.py");
    let steps = told["steps"].as_array().unwrap();
    for step in steps {
        assert_eq!(step["ok"], true, "{step}");
        assert!(step["elapsed_ms"].is_u64());
        let name = step["name"].as_str().unwrap();
        assert!(checked.contains(&format!("\"{name}\"")), "{name} is not in .ci/check_demo.py");
        // Who has no certificate is turned away before there is a call.
        assert_eq!(step["log_index"].is_u64(), name != "no_certificate", "{step}");
    }
    assert_eq!(steps.len(), 24);
    let audit = &told["audit"];
    assert!(audit["verified"] == true && audit["tamper_detected"] == true);
    assert!(audit["size"].as_u64().unwrap() > 0 && audit["root"].is_string());
}

#[test]
fn the_table_can_be_read_in_both_languages() {
    for language in ["zh", "en"] {
        let said = demo(&["--lang", language]);
        let rows = said.lines().filter(|line| line.starts_with('│'));
        // Lines of each step; the first is the head.
        let mut steps: Vec<usize> = Vec::new();
        for row in rows {
            let cells: Vec<_> = row.trim_matches('│').split('┆').map(str::trim).collect();
            assert_eq!(cells.len(), 6, "{row}");
            assert!(!cells[3].is_empty(), "only what came of a step is broken into lines: {row}");
            match steps.last_mut() {
                Some(lines) if cells[0].is_empty() => *lines += 1,
                _ => steps.push(1),
            }
        }
        assert_eq!(steps.len(), 1 + 24);
        assert!(steps.iter().all(|lines| *lines <= 3), "{said}");
    }
}
