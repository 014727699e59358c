//! Random resident numbers and credit codes, right and broken, with the gateway's verdicts, in a file that
//! `tests/interop/python/check_digits.py` compares with an independent implementation.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::Path;

use jiff::Span;
use jiff::civil::{Date, date};
use legal_aid_gateway::domain::agency::CreditCode;
use legal_aid_gateway::domain::person::ResidentId;
use legal_aid_gateway::entropy;

/// So many right ones and so many broken ones of each.
const EACH: usize = 10_000;

/// The day on which the numbers are read.
const TODAY: Date = date(2026, 6, 1);

const RESIDENT_CHECKS: &str = "0123456789X";
const CREDIT_ALPHABET: &str = "0123456789ABCDEFGHJKLMNPQRTUWXY";

#[test]
fn verdicts_on_random_numbers_are_written_for_an_independent_check() {
    let mut file = format!("today\t{TODAY}\n");
    for right in [true, false] {
        for _ in 0..EACH {
            let number = if right { resident_number(some_birth_date()) } else { broken_resident_number() };
            let verdict = ResidentId::parse(&number, TODAY).is_ok();
            assert_eq!(verdict, right, "{number}");
            writeln!(file, "resident\t{number}\t{verdict}").unwrap();
            let code = if right { credit_code() } else { broken_credit_code() };
            let verdict = CreditCode::parse(&code).is_ok();
            assert_eq!(verdict, right, "{code}");
            writeln!(file, "credit\t{code}\t{verdict}").unwrap();
        }
    }
    std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("check-digits.tsv"), file).unwrap();
}

/// A synthetic number: of all check characters, the one that the gateway takes.
fn resident_number(born: Date) -> String {
    const REGIONS: [&str; 6] = ["110105", "310101", "331004", "360426", "440106", "510104"];
    // Every other region is made up, and so often one that never was.
    let region = if below(2) == 0 { REGIONS[below(REGIONS.len())].to_owned() } else { digits(6) };
    let front = format!("{region}{}{}", born.strftime("%Y%m%d"), digits(3));
    the_one(&front, RESIDENT_CHECKS, |number| ResidentId::parse(number, TODAY).is_ok())
}

fn some_birth_date() -> Date {
    date(1900, 1, 1).checked_add(Span::new().days(i64::try_from(below(46_000)).unwrap())).unwrap()
}

fn broken_resident_number() -> String {
    match below(6) {
        // No such day, with the check character of the day that stood there.
        0 => {
            let sound = resident_number(some_birth_date());
            let wrong = [(10, "00"), (10, "13"), (12, "00"), (12, "32")][below(4)];
            replaced(&sound, wrong.0, wrong.1)
        }
        // Not yet born; read on a later day the number would be right.
        1 => {
            let born =
                TODAY.checked_add(Span::new().days(i64::try_from(1 + below(20_000)).unwrap())).unwrap();
            let front = format!("331004{}{}", born.strftime("%Y%m%d"), digits(3));
            the_one(&front, RESIDENT_CHECKS, |number| ResidentId::parse(number, date(2199, 1, 1)).is_ok())
        }
        _ => broken(&resident_number(some_birth_date()), RESIDENT_CHECKS),
    }
}

/// A code whose type and region are digits, as the independent implementation wants them.
fn credit_code() -> String {
    let organ: String = (0..9).map(|_| one_of(CREDIT_ALPHABET)).collect();
    the_one(&format!("{}{organ}", digits(8)), CREDIT_ALPHABET, |code| CreditCode::parse(code).is_ok())
}

fn broken_credit_code() -> String {
    let sound = credit_code();
    if below(6) == 0 {
        // Letters that look like others are not in the alphabet.
        return replaced(&sound, 8 + below(10), &one_of("IOSVZ").to_string());
    }
    broken(&sound, CREDIT_ALPHABET)
}

/// One character changed, two neighbours swapped, one lost or one too many.
fn broken(sound: &str, alphabet: &str) -> String {
    loop {
        let place = below(18);
        let text = match below(4) {
            0 => replaced(sound, place, &one_of(alphabet).to_string()),
            1 => {
                let at = place.min(16);
                let swapped: String = sound[at..at + 2].chars().rev().collect();
                replaced(sound, at, &swapped)
            }
            2 => format!("{}{}", &sound[..place], &sound[place + 1..]),
            _ => format!("{}{}{}", &sound[..place], one_of(alphabet), &sound[place..]),
        };
        if text != sound {
            return text;
        }
    }
}

/// The only text of `front` and one more character that is accepted.
fn the_one(front: &str, checks: &str, accepted: impl Fn(&str) -> bool) -> String {
    let texts = checks.chars().map(|check| format!("{front}{check}"));
    let found: Vec<_> = texts.filter(|text| accepted(text)).collect();
    assert_eq!(found.len(), 1, "{front}: {found:?}");
    found.into_iter().next().unwrap()
}

fn replaced(text: &str, at: usize, with: &str) -> String {
    format!("{}{with}{}", &text[..at], &text[at + with.len()..])
}

fn digits(count: usize) -> String {
    (0..count).map(|_| one_of("0123456789")).collect()
}

fn one_of(alphabet: &str) -> char {
    char::from(alphabet.as_bytes()[below(alphabet.len())])
}

fn below(bound: usize) -> usize {
    usize::try_from(u64::from_le_bytes(entropy::bytes()) % u64::try_from(bound).unwrap()).unwrap()
}
