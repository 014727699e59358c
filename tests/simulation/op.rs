//! What can happen, drawn from a seed. An operation names things by a number that is taken modulo what there is when it
//! comes to it, so that a run from which some were left out still means something.

use std::time::Duration;

use super::chance::Chance;
use super::parties::Party;

/// Operations in one run.
const OPERATIONS: usize = 64;

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// An agency or the operator calls, and waits for its answer.
    Call(Deed),
    /// The second call comes while the first's entry of this number is on its way to the disk. The first caller may
    /// have gone by then.
    Overlap { first: Deed, second: Second, entry: u8, gone: bool },
    /// An earlier call is made again under its request id, with other content or the same.
    Again { call: u8, changed: bool },
    /// A courier takes one of the deliveries that are due and hands it over; the network keeps it.
    Attempt { courier: u8, to: Party, which: u8 },
    /// What comes of a delivery that the network keeps.
    Resolve { which: u8, fate: Fate },
    /// A delayed copy of a delivery arrives after all.
    Land { which: u8 },
    /// The timer looks.
    Look,
    /// Time passes.
    Wait(Span),
    /// An agency that takes push pulls from now on, or the other way round.
    Switch(Party),
    /// The process ends, and another begins on what is on the disk; the clock may be another then. What the network kept
    /// is lost, taken or delayed, by these bits.
    Crash { skew: i8, kept: u8 },
    /// Something happens to the disk, or to the process, at the next batch but so many.
    Disk { fault: Fault, after: u8 },
}

/// What a caller asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Submit {
        to: Party,
    },
    Respond {
        exchange: u8,
        by_sender: bool,
        answer: u8,
    },
    /// The answer may be lost on its way.
    Pull {
        who: Party,
        lost: bool,
    },
    Acknowledge {
        who: Party,
        which: u8,
        wrong: bool,
    },
    Redeliver {
        exchange: u8,
    },
    Retry {
        delivery: u8,
    },
}

/// The second of two calls that overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Second {
    /// The very same.
    Same,
    Other(Deed),
}

/// What comes of a delivery on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Arrives,
    ArrivesTwice,
    RequestLost(Told),
    ReplyLost(Told),
    /// A copy goes on and arrives later, or never.
    Delayed(Told),
    /// The recipient has it, and answers with the digest of something else.
    WrongDigest,
    /// The recipient takes nothing now.
    Refused,
    /// It asks for a wait.
    Busy {
        seconds: u32,
    },
    NoWay,
}

/// What the courier hears of a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Unavailable,
    TimedOut,
}

/// How much time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    Moment,
    Seconds(u8),
    PastTheLease,
    Hours(u8),
    Days(u8),
}

/// What happens to a batch of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing was written.
    FailsBefore,
    /// All was written, and nobody knows.
    FailsAfter,
    CrashesBefore,
    CrashesAfter,
}

impl Span {
    pub(crate) fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::Moment => return Duration::from_millis(1),
            Self::Seconds(seconds) => seconds.into(),
            Self::PastTheLease => 31,
            Self::Hours(hours) => u64::from(hours) * 3_600,
            Self::Days(days) => u64::from(days) * 86_400,
        })
    }
}

/// The operations of a seed.
pub(crate) fn drawn(seed: u64) -> Vec<Op> {
    let mut chance = Chance::of_seed(seed);
    // Some runs are all about one or two exchanges, others have many at once; some see faults of the disk.
    let submits = chance.of(&[1, 2, 6]);
    let disk = if chance.one_in(3) { 3 } else { 0 };
    let crashes = chance.of(&[0, 2, 5]);
    let mut operations = vec![Op::Call(Deed::Submit { to: Party::Court })];
    while operations.len() < OPERATIONS {
        let op = operation(&mut chance, submits, disk, crashes);
        operations.push(op);
        // The timer sees most of what comes to its end at once.
        if matches!(op, Op::Wait(Span::Days(_))) && !chance.one_in(3) {
            operations.push(Op::Look);
        }
    }
    operations
}

fn operation(chance: &mut Chance, submits: u64, disk: u64, crashes: u64) -> Op {
    let weights: [u64; 11] = [26, 7, 8, 30, 26, 3, 4, 14, 2, crashes, disk];
    let mut at = chance.below(weights.iter().sum());
    let drawn = weights.iter().position(|weight| {
        let here = at < *weight;
        at = at.wrapping_sub(if here { 0 } else { *weight });
        here
    });
    match drawn.unwrap() {
        0 => Op::Call(deed(chance, submits)),
        1 => {
            let first = deed(chance, submits);
            let second = if chance.one_in(2) { Second::Same } else { Second::Other(deed(chance, submits)) };
            Op::Overlap { first, second, entry: chance.of(&[1, 2]), gone: chance.one_in(4) }
        }
        2 => Op::Again { call: chance.byte(), changed: chance.one_in(4) },
        3 => Op::Attempt { courier: chance.of(&[0, 1]), to: party(chance), which: chance.byte() },
        4 => Op::Resolve { which: chance.byte(), fate: fate(chance) },
        5 => Op::Land { which: chance.byte() },
        6 => Op::Look,
        7 => Op::Wait(span(chance)),
        8 => Op::Switch(party(chance)),
        9 => Op::Crash { skew: chance.of(&[0, 0, 3, -3]), kept: chance.byte() },
        _ => {
            use Fault::{CrashesAfter, CrashesBefore, FailsAfter, FailsBefore};
            let fault = chance.of(&[FailsBefore, FailsAfter, CrashesBefore, CrashesAfter, CrashesAfter]);
            Op::Disk { fault, after: chance.of(&[0, 1]) }
        }
    }
}

fn deed(chance: &mut Chance, submits: u64) -> Deed {
    match chance.below(41 + submits) {
        0..20 => Deed::Respond {
            exchange: chance.byte(),
            by_sender: chance.one_in(3),
            // Of eight answers, the first are those that lead on.
            answer: chance.byte(),
        },
        20..26 => Deed::Pull { who: party(chance), lost: chance.one_in(3) },
        26..33 => Deed::Acknowledge { who: party(chance), which: chance.byte(), wrong: chance.one_in(8) },
        33..39 => Deed::Redeliver { exchange: chance.byte() },
        39..41 => Deed::Retry { delivery: chance.byte() },
        _ => Deed::Submit { to: chance.of(&[Party::Court, Party::Court, Party::SecondCourt]) },
    }
}

fn party(chance: &mut Chance) -> Party {
    chance.of(&[Party::Court, Party::Court, Party::SecondCourt, Party::Centre])
}

fn fate(chance: &mut Chance) -> Fate {
    let told = chance.of(&[Told::Unavailable, Told::TimedOut]);
    match chance.below(20) {
        0..6 => Fate::Arrives,
        6 => Fate::ArrivesTwice,
        7..10 => Fate::RequestLost(told),
        10..13 => Fate::ReplyLost(told),
        13 | 14 => Fate::Delayed(told),
        15 => Fate::WrongDigest,
        16 => Fate::Refused,
        17 | 18 => Fate::Busy { seconds: chance.of(&[0, 60, 100_000]) },
        _ => Fate::NoWay,
    }
}

fn span(chance: &mut Chance) -> Span {
    match chance.below(12) {
        0 => Span::Moment,
        1..5 => Span::Seconds(chance.of(&[2, 5, 12, 25])),
        5..8 => Span::PastTheLease,
        8 => Span::Hours(chance.of(&[1, 8])),
        _ => Span::Days(chance.of(&[1, 2, 3, 9, 14])),
    }
}
