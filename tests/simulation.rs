//! Deterministic simulation of deliveries and exchanges: the gateway's real parts under a moved clock, a network that
//! loses, doubles and delays, faults of the disk and sudden ends of the process, drawn from a seed and compared with a
//! model after every step. docs/simulation.md says what it does and what it found.
//!
//! `SIMULATION_SEEDS=10000` says how many seeds are run (by default as many as take some twenty seconds),
//! `SIMULATION_FROM` from which on, `SIMULATION_SEED=7` runs that one and says what happened in it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

#[path = "simulation/calls.rs"]
mod calls;
#[path = "simulation/campaign.rs"]
mod campaign;
#[path = "simulation/chance.rs"]
mod chance;
#[path = "simulation/deeds.rs"]
mod deeds;
#[path = "simulation/disk.rs"]
mod disk;
#[path = "simulation/flaw.rs"]
mod flaw;
#[path = "simulation/gateway.rs"]
mod gateway;
#[path = "simulation/healing.rs"]
mod healing;
#[path = "support/log.rs"]
#[allow(dead_code, reason = "this test takes its part")]
mod log;
#[path = "simulation/model.rs"]
mod model;
#[path = "simulation/network.rs"]
mod network;
#[path = "simulation/op.rs"]
mod op;
#[path = "simulation/parties.rs"]
mod parties;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "simulation/steps.rs"]
mod steps;
#[path = "simulation/world.rs"]
mod world;

use campaign::{Failure, run, run_many, shrunk};
use flaw::Flaw;
use op::drawn;

/// Seeds of the short form.
const SEEDS: u64 = 96;

/// What the short form has to meet, by its word in the log: else it would hold for want of trying.
const MET: [&str; 21] = [
    "SubmitExchange",
    "RespondToExchange",
    "PullDeliveries",
    "AcknowledgeDelivery",
    "RetryDelivery",
    // The reason of a redelivery.
    "RECIPIENT_BACK",
    "Deliver",
    "LEASE_LOST",
    "INBOX_UNREACHABLE",
    "INBOX_TIMED_OUT",
    "INBOX_DIGEST_DIFFERS",
    "INBOX_REFUSED",
    "INBOX_OVERLOADED",
    "INTERRUPTED",
    "REPLAYED",
    "REQUEST_ID_REUSED",
    "ILLEGAL_TRANSITION",
    "NOTHING_GIVEN_UP",
    "DELIVERY_DOES_NOT_WAIT",
    // Clocks that came to their end: overdue, and deemed withdrawn.
    "FEE_WAIVER_DECISION",
    "SUPPLEMENT",
];

/// Seeds within which each flaw of the world must be found.
const FOUND_WITHIN: u64 = 60;

#[test]
fn whatever_the_network_the_disk_and_the_clock_do_every_promise_holds() {
    if let Some(seed) = number("SIMULATION_SEED") {
        return replay(seed);
    }
    let (from, seeds) = (number("SIMULATION_FROM").unwrap_or(0), number("SIMULATION_SEEDS").unwrap_or(SEEDS));
    // One that nobody has run before, too.
    let fresh = u64::from_be_bytes(legal_aid_gateway::entropy::bytes()) >> 1;
    eprintln!("a fresh seed: {fresh}");
    let summary = run_many((from..from + seeds).chain([fresh]));
    eprintln!("{summary}");
    if let Some(failure) = summary.first_failure {
        report(&failure);
    }
    if seeds >= SEEDS {
        let missed: Vec<_> = MET.iter().filter(|what| !summary.seen.contains_key(**what)).collect();
        assert!(missed.is_empty(), "never met: {missed:?}");
    }
}

#[test]
fn one_seed_gives_one_run() {
    for seed in 0..8 {
        let (first, second) =
            (run(&drawn(seed), seed, Flaw::Nothing), run(&drawn(seed), seed, Flaw::Nothing));
        assert_eq!(first.trace, second.trace, "seed {seed}");
    }
}

#[test]
fn a_recipient_that_forgets_what_it_has_taken_is_found() {
    found(Flaw::RecipientForgets, "twice with effect");
}

#[test]
fn a_loss_that_is_called_success_is_found() {
    found(Flaw::LossIsCalledSuccess, "Delivered, ");
}

#[test]
fn a_disk_that_lies_is_found() {
    found(Flaw::DiskLies, "");
}

/// Runs until a flaw of the simulated world is found.
fn found(flaw: Flaw, as_what: &str) {
    let failed = (0..FOUND_WITHIN).find_map(|seed| Some((seed, run(&drawn(seed), seed, flaw).broken?)));
    let (seed, broken) = failed.unwrap_or_else(|| panic!("{flaw:?} was not found in {FOUND_WITHIN} seeds"));
    eprintln!("{flaw:?} found by seed {seed}: {broken}");
    assert!(broken.contains(as_what), "found as something else: {broken}");
}

/// Runs one seed and says what happens in it.
fn replay(seed: u64) {
    let run = run(&drawn(seed), seed, Flaw::Nothing);
    for line in &run.trace {
        eprintln!("{line}");
    }
    match run.broken {
        None => eprintln!("seed {seed} holds"),
        Some(broken) => report(&Failure { seed, broken }),
    }
}

/// Says how to see a failure again, with as few operations as still show it.
fn report(failure: &Failure) {
    let Failure { seed, broken } = failure;
    let (operations, shortest) = shrunk(*seed);
    for op in &operations {
        eprintln!("{op:?}");
    }
    panic!(
        "seed {seed}: {broken}\n\n{} operations are enough, above: {shortest}\n\nSIMULATION_SEED={seed} cargo test \
         --test simulation whatever -- --nocapture\n",
        operations.len()
    );
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}
