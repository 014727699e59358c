//! Keeps the rooms of `src/` apart (design §3): who may import whom, and what is made in one place only.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

#[path = "architecture/dependencies.rs"]
mod dependencies;
#[path = "architecture/security.rs"]
mod security;
#[path = "architecture/source.rs"]
mod source;

use std::collections::BTreeSet;

use self::source::{File, files};

/// The rooms from the ground up, and which each may import; only such as stand above it in this table.
///
/// `contract` is what was generated from `proto/`, and the names of gRPC's codes; `wire` is between it and the domain.
/// `district` is a gateway with agencies around it in one process, for the demonstration and for tests.
const ROOMS: &[(&str, &str)] = &[
    ("domain", ""),
    ("fault", ""),
    ("clock", "fault"),
    ("entropy", ""),
    ("telemetry", "entropy"),
    ("contract", ""),
    ("config", "domain"),
    ("audit", "domain clock entropy fault"),
    ("access", "audit domain"),
    ("store", "audit config domain clock entropy fault telemetry"),
    ("wire", "store domain contract"),
    ("identity", "access store audit domain clock entropy"),
    ("witness", "identity config audit domain clock entropy"),
    ("delivery", "identity wire access store audit domain contract clock entropy fault telemetry"),
    ("grpc", "delivery identity wire access store audit domain contract clock entropy fault telemetry"),
    ("console", "grpc identity access store audit domain clock entropy telemetry"),
    ("client", "grpc identity config domain contract clock entropy"),
    ("simulator", "client grpc identity wire audit config domain contract clock entropy"),
    (
        "gateway",
        "console grpc delivery witness identity access store audit config domain contract clock entropy fault telemetry",
    ),
    ("setup", "gateway simulator client identity wire access config domain clock entropy"),
    ("district", "setup gateway simulator client config domain clock"),
    (
        "cli",
        "district setup gateway simulator client grpc delivery witness identity wire access store audit config domain \
         contract clock entropy telemetry",
    ),
    ("main", "cli"),
];

/// Parts of a room that are a room of their own.
const ROOMS_WITHIN: &[(&str, &str)] = &[
    ("grpc::generated", "contract"),
    ("grpc::proto", "contract"),
    ("grpc::code", "contract"),
    ("grpc::code_name", "contract"),
    ("grpc::wire", "wire"),
    ("simulator::district", "district"),
];

/// Longest file that a reader should meet.
const MOST_LINES: usize = 600;

#[test]
fn the_rooms_stand_on_one_another_without_a_circle() {
    let mut below = BTreeSet::new();
    for (room, imports) in ROOMS {
        for import in imports.split_whitespace() {
            assert!(
                below.contains(import),
                "{room} imports {import}, which does not stand above it in the table"
            );
        }
        assert!(below.insert(*room), "{room} stands twice in the table");
    }
}

#[test]
fn imports_point_one_way() {
    let mut faults = Vec::new();
    // The root itself only says which rooms there are.
    for file in files().iter().filter(|file| !file.module.is_empty()) {
        let room = room_of(&file.module);
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            faults.push(format!("{}: no room of that name; give it a place in ROOMS", file.name));
            continue;
        };
        for path in file.paths_within_the_crate() {
            let to = room_of(&path.segments);
            if to != room && !allowed.split_whitespace().any(|allowed| allowed == to) && !to.is_empty() {
                let (name, line, path) = (&file.name, path.line, path.segments.join("::"));
                faults.push(format!("{name}:{line}: {room} must not import {to} (crate::{path})"));
            }
        }
    }
    none(&faults);
}

#[test]
fn the_gateway_takes_of_the_generated_types_only_the_servers() {
    let mut faults = Vec::new();
    for file in files().iter().filter(|file| room_of(&file.module) == "gateway") {
        for path in file.paths_within_the_crate() {
            let is_a_server = path.segments.iter().any(|segment| segment.ends_with("_server"));
            if room_of(&path.segments) == "contract" && !is_a_server {
                faults.push(format!("{}:{}: {}", file.name, path.line, path.segments.join("::")));
            }
        }
    }
    none(&faults);
}

#[test]
fn sql_stays_in_the_store() {
    only_in("sqlx", &["src/store.rs", "src/store/"], |segments| segments[0] == "sqlx");
}

#[test]
fn a_refusal_becomes_a_status_in_one_place() {
    // Simulated agencies are servers of their own.
    let places = ["src/grpc/status.rs", "src/simulator/"];
    only_in("tonic::Status", &places, |segments| {
        segments.iter().rev().nth(1).is_some_and(|segment| segment == "Status")
    });
}

#[test]
fn the_wall_clock_is_read_in_one_place() {
    only_in("the wall clock", &["src/clock.rs"], |segments| {
        let [.., of, "now"] = segments.iter().map(String::as_str).collect::<Vec<_>>()[..] else {
            return false;
        };
        ["Timestamp", "Zoned", "SystemTime", "OffsetDateTime"].contains(&of)
    });
}

/// The domain reads no file, no clock, no socket and no database, and knows neither gRPC nor TLS.
#[test]
fn the_domain_is_pure() {
    const OUTSIDE: &[&str] = &[
        "tokio",
        "tonic",
        "tonic_types",
        "prost",
        "prost_types",
        "hyper",
        "sqlx",
        "rustls",
        "tracing",
        "aws_lc_rs",
    ];
    const STD_OUTSIDE: &[&str] = &["env", "fs", "io", "net", "process", "thread", "time"];
    let mut faults = Vec::new();
    for file in files().iter().filter(|file| room_of(&file.module) == "domain") {
        for path in file.paths() {
            let first = path.segments[0].as_str();
            let of_std = first == "std"
                && path.segments.get(1).is_some_and(|part| STD_OUTSIDE.contains(&part.as_str()));
            if OUTSIDE.contains(&first) || of_std {
                faults.push(format!("{}:{}: {}", file.name, path.line, path.segments.join("::")));
            }
        }
    }
    none(&faults);
}

#[test]
fn no_file_is_too_long_to_be_about_one_thing() {
    let long = files().into_iter().filter(|file| file.lines > MOST_LINES);
    none(
        &long
            .map(|file| format!("{} has {} lines; look for the second thing inside", file.name, file.lines))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn no_room_is_named_for_nothing() {
    const NAMES: [&str; 8] = ["util", "utils", "helper", "helpers", "common", "manager", "misc", "shared"];
    let nameless = files().into_iter().filter(|file| {
        file.module.iter().chain(&file.inline_modules).any(|segment| NAMES.contains(&segment.as_str()))
    });
    none(&nameless.map(|file| format!("{}: name it for what it is about", file.name)).collect::<Vec<_>>());
}

/// The room that a path from the crate's root leads into; empty for the root itself.
fn room_of(path: &[String]) -> String {
    let starts_with = |prefix: &str| prefix.split("::").eq(path.iter().take(prefix.split("::").count()));
    match ROOMS_WITHIN.iter().find(|(prefix, _)| starts_with(prefix)) {
        Some((_, room)) => (*room).to_owned(),
        None => path.first().cloned().unwrap_or_default(),
    }
}

/// Asserts that paths of which `what` is true stand only in `places`.
#[track_caller]
fn only_in(name: &str, places: &[&str], what: impl Fn(&[String]) -> bool) {
    let mut faults = Vec::new();
    let mut seen_at_home = false;
    for file in files() {
        let at_home = places.iter().any(|place| file.name.starts_with(place));
        for path in file.paths().iter().filter(|path| what(&path.segments)) {
            seen_at_home |= at_home;
            if !at_home {
                faults.push(format!(
                    "{}:{}: {name} belongs to {}",
                    file.name,
                    path.line,
                    places.join(" or ")
                ));
            }
        }
    }
    none(&faults);
    assert!(seen_at_home, "{name} is used nowhere, not even in {places:?}: this rule checks nothing");
}

#[track_caller]
fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n\n{}\n", faults.join("\n"));
}

#[test]
fn a_path_is_found_wherever_it_stands() {
    let text = r#"
        //! crate::cli is only spoken of here.
        use crate::{store::{self, Store}, audit::log as writing};
        use super::neighbour::Thing;
        const TEXT: &str = "crate::cli in a text";
        fn act<'a>(letter: char) -> crate::domain::money::Fen { if letter == '"' { crate::entropy::bytes(); } }
        mod within { use super::own; use super::super::above; }
        #[cfg(test)]
        mod tests { use crate::simulator::court; }
        /* crate::cli */ macro_rules! m { () => { $crate::clock::Clock::system() } }
    "#;
    let file = File::parse("src/grpc/wire.rs", text);
    let found: BTreeSet<String> =
        file.paths_within_the_crate().iter().map(|path| path.segments.join("::")).collect();
    let wanted = [
        "store",
        "store::Store",
        "audit::log",
        "grpc::neighbour::Thing",
        "domain::money::Fen",
        "entropy::bytes",
        "grpc::wire::own",
        "grpc::above",
        "clock::Clock::system",
    ];
    assert_eq!(found, wanted.map(str::to_owned).into());
    assert_eq!(room_of(&["grpc".to_owned(), "proto".to_owned(), "Kind".to_owned()]), "contract");
    assert_eq!(room_of(&["grpc".to_owned(), "protocol".to_owned()]), "grpc");
}
