//! How long a decision takes among many agreements.
//!
//! `cargo bench --bench agreements` makes 1,000 agencies and 10,000 agreements, and asks for decisions one after the other: allowed
//! and denied ones, with agreements spread evenly over the callers, and with a caller that has a thousand of them for one method.
//! Each decision is timed by itself; the cost of reading the clock is measured and told beside it, not taken off.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on ends")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use jiff::civil::{Date, date};
use legal_aid_gateway::access::{
    Agency, AgencyStatus, Agreement, Directory, DirectoryFile, Method, Party, Question,
};
use legal_aid_gateway::domain::agency::{AgencyKind, CreditCode, PurposeCode};
use legal_aid_gateway::domain::exchange::Kind;
use legal_aid_gateway::domain::law::LegalBasis;
use legal_aid_gateway::domain::region::RegionCode;

const AGENCIES: usize = 1_000;
const AGREEMENTS: usize = 10_000;
const DECISIONS: usize = 200_000;

/// What the busiest caller has of them, for one method.
const OF_THE_BUSIEST: usize = 1_000;

fn main() {
    let codes: Vec<_> = (0..AGENCIES).map(code).collect();
    let directory = directory(&codes);
    println!("{AGENCIES} agencies, {AGREEMENTS} agreements, {DECISIONS} decisions of each kind\n");
    println!("| decision | p50 | p99 | p99.9 | most |\n|---|---|---|---|---|");
    tell("none: the clock alone", &measure(|_| ()));
    tell("allowed", &measure(|number| decide(&directory, &codes, number, "P_3", true)));
    tell("allowed by kind and region", &measure(|number| decide(&directory, &codes, number, "P_WIDE", true)));
    tell("denied: another purpose", &measure(|number| decide(&directory, &codes, number, "P_NONE", false)));
    tell(
        "denied: another counterpart",
        &measure(|number| {
            let question = Question { counterpart: Some(&codes[0]), ..question(&codes, number) };
            let purpose = PurposeCode::parse("P_3").unwrap();
            assert!(directory.decide(&Question { purpose: Some(&purpose), ..question }).is_err());
        }),
    );
    let busiest = CreditCode::parse("12331004MB0000002T").unwrap();
    let last = PurposeCode::parse("P_999").unwrap();
    tell(
        &format!("allowed by the last of {OF_THE_BUSIEST} of one caller and method"),
        &measure(|_| {
            let on = date(2026, 6, 1);
            let question = Question::new(&busiest, Method::GetExchange, Some(&last), on);
            assert!(black_box(directory.decide(&question)).is_ok());
        }),
    );
}

/// Decides a call of one of the agencies, and says whether as it should.
fn decide(directory: &Directory, codes: &[CreditCode], number: usize, purpose: &str, allowed: bool) {
    let purpose = PurposeCode::parse(purpose).unwrap();
    let question = Question { purpose: Some(&purpose), ..question(codes, number) };
    assert_eq!(black_box(directory.decide(&question)).is_ok(), allowed);
}

fn question(codes: &[CreditCode], number: usize) -> Question<'_> {
    static BASIS: std::sync::LazyLock<Vec<LegalBasis>> =
        std::sync::LazyLock::new(|| vec![LegalBasis::parse("法律援助法", "53").unwrap()]);
    // Centres come first, courts behind them.
    let caller = number * 7 % (AGENCIES / 2);
    Question {
        kind: Some(Kind::FeeWaiver),
        counterpart: Some(&codes[AGENCIES / 2 + caller]),
        legal_basis: Some(&BASIS),
        ..Question::new(&codes[caller], Method::SubmitExchange, None, date(2026, 6, 1))
    }
}

fn directory(codes: &[CreditCode]) -> Directory {
    let region =
        |place: usize| RegionCode::parse(&format!("33{:02}{:02}", 1 + place % 11, 1 + place % 17)).unwrap();
    let agency = |(place, code): (usize, &CreditCode)| Agency {
        code: *code,
        name: "机构".to_owned(),
        kind: if place < AGENCIES / 2 { AgencyKind::LegalAidCentre } else { AgencyKind::Court },
        region: region(place % (AGENCIES / 2)),
        status: AgencyStatus::Active,
        endpoint: None,
        certificates: Vec::new(),
    };
    let mut agencies: Vec<_> = codes.iter().enumerate().map(agency).collect();
    let busiest = CreditCode::parse("12331004MB0000002T").unwrap();
    agencies.push(Agency { code: busiest, ..agencies[0].clone() });
    let days = (date(2026, 1, 1), date(2026, 12, 31));
    let mut agreements = Vec::with_capacity(AGREEMENTS);
    let of_centres = AGREEMENTS - OF_THE_BUSIEST - 1;
    for number in 0..of_centres {
        let caller = number % (AGENCIES / 2);
        let purpose = format!("P_{}", number / (AGENCIES / 2));
        agreements.push(agreement(
            number,
            codes[caller].into(),
            &purpose,
            codes[AGENCIES / 2 + caller].into(),
            days,
        ));
    }
    for number in 0..OF_THE_BUSIEST {
        let mut own =
            agreement(of_centres + number, busiest.into(), &format!("P_{number}"), codes[1].into(), days);
        own.methods = vec![Method::GetExchange];
        agreements.push(own);
    }
    let province = RegionCode::parse("330000").unwrap();
    let (centres, courts) =
        (Party::of_kind(AgencyKind::LegalAidCentre, province), Party::of_kind(AgencyKind::Court, province));
    agreements.push(agreement(AGREEMENTS - 1, centres, "P_WIDE", courts, days));
    assert_eq!(agreements.len(), AGREEMENTS);
    Directory::build(DirectoryFile { agencies, agreements, ..Default::default() }).unwrap()
}

fn agreement(
    number: usize,
    caller: Party,
    purpose: &str,
    counterpart: Party,
    days: (Date, Date),
) -> Agreement {
    Agreement {
        methods: vec![Method::SubmitExchange, Method::GetExchange, Method::ListExchanges],
        kinds: vec![Kind::FeeWaiver, Kind::JudicialRelief],
        counterparts: vec![counterpart],
        purposes: vec![PurposeCode::parse(purpose).unwrap()],
        legal_basis: vec![LegalBasis::parse("法律援助法", "53").unwrap()],
        ..Agreement::new(format!("A-{number:05}"), 1, caller, days)
    }
}

/// A unified social credit code with its check character (GB 32100).
fn code(number: usize) -> CreditCode {
    let start = format!("1133100{:010}", number + 1_000);
    let checks = "0123456789ABCDEFGHJKLMNPQRTUWXY".chars();
    checks.filter_map(|check| CreditCode::parse(&format!("{start}{check}")).ok()).next().unwrap()
}

/// How long each takes, sorted.
fn measure(mut once: impl FnMut(usize)) -> Vec<Duration> {
    (0..DECISIONS / 20).for_each(&mut once);
    let mut took: Vec<_> = (0..DECISIONS)
        .map(|number| {
            let begun = Instant::now();
            once(number);
            begun.elapsed()
        })
        .collect();
    took.sort_unstable();
    took
}

fn tell(what: &str, took: &[Duration]) {
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    let micros = |took: Duration| format!("{:.2} µs", took.as_secs_f64() * 1e6);
    let figures = [at(0.5), at(0.99), at(0.999), at(1.0)].map(micros);
    println!("| {what} | {} |", figures.join(" | "));
}
