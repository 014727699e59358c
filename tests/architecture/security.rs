//! Holds `docs/security.md` to the tests that there are.

use std::fs;
use std::path::{Path, PathBuf};

/// Fewest tests that the page names.
const FEWEST: usize = 40;

#[test]
fn every_test_that_the_threat_model_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/security.md")).unwrap();
    let named: Vec<&str> = page.split('`').skip(1).step_by(2).filter(|piece| is_test(piece)).collect();
    assert!(named.len() >= FEWEST, "only {} tests are named", named.len());
    let missing: Vec<&str> = named.into_iter().filter(|path| !is_there(root, path)).collect();
    assert!(missing.is_empty(), "docs/security.md names tests that are not there:\n{}", missing.join("\n"));
}

#[test]
fn a_test_that_is_not_there_is_missed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert!(is_there(root, "architecture::imports_point_one_way"));
    assert!(!is_there(root, "architecture::room_of"), "a function that is no test");
    assert!(!is_there(root, "nowhere::imports_point_one_way"));
}

/// Whether a piece of code is a path of words such as `front_door::a_connection_ends`.
fn is_test(piece: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    piece.contains("::") && piece.split("::").all(is_word)
}

/// Whether a file that the path may lead to has a test of that name.
fn is_there(root: &Path, path: &str) -> bool {
    let Some((room, name)) = path.rsplit_once("::") else { return false };
    files_of(root, room).iter().any(|file| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let place = text.find(&format!("fn {name}("));
        // Between the attribute and the name stands nothing but other attributes.
        place.is_some_and(|place| {
            let before = &text[..place];
            let item = before.rfind(['}', ';', '{']).map_or(before, |end| &before[end..]);
            item.contains("#[test]") || item.contains("#[tokio::test")
        })
    })
}

/// `tests/ROOM.rs`; or `src/ROOM.rs`, where `tests` in the end may be a module of the file itself.
fn files_of(root: &Path, room: &str) -> [PathBuf; 3] {
    let folders = room.replace("::", "/");
    let itself = folders.strip_suffix("/tests").unwrap_or(&folders);
    [
        root.join(format!("tests/{folders}.rs")),
        root.join(format!("src/{folders}.rs")),
        root.join(format!("src/{itself}.rs")),
    ]
}
