//! Holds what is built to `deny.toml` without cargo-deny: bans, single versions, licences, one registry.
//!
//! Bans and licences are held against the tree that cargo resolves for this machine (`Cargo.lock` also lists options
//! that nobody takes); versions and sources against all of `Cargo.lock`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::{env, fs};

use toml::{Table, Value};

#[test]
fn nothing_banned_is_built() {
    let banned = names(&rules()["bans"]["deny"], "crate");
    assert!(
        banned.contains("openssl") && banned.contains("native-tls"),
        "deny.toml bans too little: {banned:?}"
    );
    let built: BTreeSet<String> = tree().into_iter().map(|built| built.name).collect();
    assert!(built.contains("rustls") && built.contains("tonic"), "the tree was not read: {built:?}");
    let found: Vec<_> = built.intersection(&banned).collect();
    assert!(
        found.is_empty(),
        "banned by deny.toml, and built: {found:?}; see who asks: cargo tree -i <crate>"
    );
}

/// Two of one kind would be two trust stores, two sets of types that do not fit, or two cryptographies.
#[test]
fn there_is_one_of_each_that_must_be_single() {
    let single = names(&rules()["bans"]["deny"], "deny-multiple-versions");
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, version, _) in locked() {
        versions.entry(name).or_default().insert(version);
    }
    assert!(single.contains("rustls") && single.contains("tonic") && single.contains("prost"), "{single:?}");
    for name in single {
        let found = versions.get(&name).cloned().unwrap_or_default();
        assert_eq!(found.len(), 1, "exactly one version of {name} is wanted; found {found:?}");
    }
}

#[test]
fn every_licence_is_one_that_deny_toml_allows() {
    let rules = rules();
    let allowed: BTreeSet<&str> =
        rules["licenses"]["allow"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let refused: Vec<String> = tree()
        .into_iter()
        .filter(|built| !is_allowed(&built.licence, &allowed))
        .map(|built| format!("{} {}", built.name, built.licence))
        .collect();
    assert!(refused.is_empty(), "not allowed by deny.toml:\n{}", refused.join("\n"));
}

#[test]
fn everything_comes_from_the_one_registry() {
    let mut sources = BTreeSet::new();
    let authorities = locked().into_iter().find(|(name, ..)| name == "webpki-roots");
    assert!(
        authorities.is_some_and(|(_, _, source)| source.is_none()),
        "the browsers' authorities would vouch for the database server: see [patch.crates-io] in Cargo.toml"
    );
    for (name, version, source) in locked() {
        match source {
            // Only what is written here has no source: this crate, and the empty list of authorities (vendor/webpki-roots).
            None => assert!(
                [env!("CARGO_PKG_NAME"), "webpki-roots"].contains(&name.as_str()),
                "{name} {version} is taken from a folder"
            ),
            Some(source) => {
                assert!(source.starts_with("registry+"), "{name} {version} comes from {source}");
                sources.insert(source);
            }
        }
    }
    assert!(sources.len() <= 1, "more than one registry: {sources:?}");
}

#[test]
fn a_licence_expression_is_read_as_spdx_means_it() {
    let allowed = BTreeSet::from(["MIT", "Apache-2.0", "Unicode-3.0"]);
    for fits in [
        "MIT",
        "MIT OR Apache-2.0",
        "MIT/Apache-2.0",
        "Apache-2.0 / GPL-3.0",
        "LGPL-2.1-or-later OR MIT",
        "(MIT OR GPL-3.0) AND Unicode-3.0",
        "MIT OR GPL-3.0 AND ISC",
        "Apache-2.0 WITH LLVM-exception OR MIT",
    ] {
        assert!(is_allowed(fits, &allowed), "{fits}");
    }
    for misfit in
        ["GPL-3.0", "", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", "Apache-2.0 WITH LLVM-exception"]
    {
        assert!(!is_allowed(misfit, &allowed), "{misfit}");
    }
}

/// A crate that cargo resolves for this machine, tests and build scripts included.
struct Built {
    name: String,
    licence: String,
}

fn tree() -> Vec<Built> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--offline", "--locked", "--edges", "normal,build,dev", "--prefix", "none"])
        .args(["--format", "{p}|{l}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: BTreeSet<&str> = text.lines().filter(|line| line.contains('|')).collect();
    let built = lines.into_iter().map(|line| {
        let (package, licence) = line.split_once('|').unwrap();
        let name = package.split(' ').next().unwrap().to_owned();
        Built { name, licence: licence.trim_end_matches(" (*)").trim().to_owned() }
    });
    built.collect()
}

/// Name, version and source of everything in `Cargo.lock`.
fn locked() -> Vec<(String, String, Option<String>)> {
    let lock = table("Cargo.lock");
    let packages = lock["package"].as_array().unwrap().iter().map(|package| {
        let text = |key: &str| package.get(key).and_then(Value::as_str).map(str::to_owned);
        (text("name").unwrap(), text("version").unwrap(), text("source"))
    });
    packages.collect()
}

/// Names of the crates in a list of `deny.toml` whose entries say so much: `crate` alone for a plain ban.
fn names(list: &Value, kind: &str) -> BTreeSet<String> {
    let of_kind = |entry: &&Value| {
        let single = entry.get("deny-multiple-versions").is_some();
        (kind == "crate") != single
    };
    let name = |entry: &Value| entry["crate"].as_str().unwrap().to_owned();
    list.as_array().unwrap().iter().filter(of_kind).map(name).collect()
}

fn rules() -> Table {
    table("deny.toml")
}

fn table(name: &str) -> Table {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/").to_owned() + name;
    fs::read_to_string(&path).unwrap().parse().unwrap()
}

/// Whether an SPDX expression can be satisfied with `allowed` alone. `/` is an old way to write `OR`; AND binds
/// tighter.
fn is_allowed(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any_of(&mut rest, allowed) && rest.is_empty()
}

fn any_of(rest: &mut &[&str], allowed: &BTreeSet<&str>) -> bool {
    let mut fits = all_of(rest, allowed);
    while take(rest, "OR") {
        fits |= all_of(rest, allowed);
    }
    fits
}

fn all_of(rest: &mut &[&str], allowed: &BTreeSet<&str>) -> bool {
    let mut fits = one(rest, allowed);
    while take(rest, "AND") {
        fits &= one(rest, allowed);
    }
    fits
}

fn one(rest: &mut &[&str], allowed: &BTreeSet<&str>) -> bool {
    if take(rest, "(") {
        let fits = any_of(rest, allowed);
        return take(rest, ")") && fits;
    }
    let Some((licence, after)) = rest.split_first() else { return false };
    *rest = after;
    // With an exception it is another licence, to be allowed as such.
    if take(rest, "WITH") {
        let Some((exception, after)) = rest.split_first() else { return false };
        *rest = after;
        return allowed.contains(format!("{licence} WITH {exception}").as_str());
    }
    allowed.contains(licence)
}

fn take(rest: &mut &[&str], word: &str) -> bool {
    let taken = rest.first() == Some(&word);
    if taken {
        *rest = &rest[1..];
    }
    taken
}
