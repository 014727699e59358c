//! Points at which a test lets the gateway fail, and a clock that a test sets, by variables of the environment. A release
//! build has none.
//!
//! `LEGAL_AID_GATEWAY_FAULT=commit.done=kill@3` ends the process when it passes `commit.done` for the third time,
//! `…=error@3` makes that pass an I/O error where one can be given. The points, in the order in which they are passed:
//!
//! | of | points |
//! |---|---|
//! | a start | `start.joined` (the place is taken, the log not read), `start.loaded` (the log is checked, what was open is not closed yet), `start.checked` (it is), `start.released` (leases are; nobody is let in yet) |
//! | a call with effect | `request.durable` (its first entry is; nothing was dispatched), `answer.durable` (its last entry is; the answer was not sent) |
//! | an attempt to deliver | `lease.taken` (nothing was sent), `delivery.sent` (it was answered; nothing is settled) |
//! | a batch of the audit log | `batch.prepared`, `batch.signed`, `commit.begin`, `commit.effects`, `commit.rows`, `commit.done`, `batch.committed`, `batch.published`; one whose effects are rows of its own is one statement and passes neither `commit.effects` nor `commit.rows` |
//! | the checkpoint outside the database | `checkpoint.begin` (it is older than the log), `checkpoint.written` (beside the old one) |
//! | draining | `drain.begun`, `drain.finished` (calls have ended, the log is still open), `drain.closed` (the database is closed) |
//!
//! `LEGAL_AID_GATEWAY_CLOCK=FILE` adds to the system's clock the microseconds that the file holds, read each time.

use std::io;

/// A point that a test may choose to fail at.
///
/// # Errors
/// When it did.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_: &str) -> io::Result<()> {
    Ok(())
}

/// How far a test has set the clock ahead, in microseconds.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn clock_offset() -> i64 {
    0
}

/// A point where no error can be given: it is passed, or the process ends there.
#[inline(always)]
pub fn end_point(name: &str) {
    let _ = point(name);
}

/// A point that a test may choose to fail at.
///
/// # Errors
/// When it did.
#[cfg(debug_assertions)]
pub fn point(name: &str) -> io::Result<()> {
    use std::sync::atomic::Ordering;

    let Some(fault) = chosen::fault() else { return Ok(()) };
    if fault.point != name || fault.passes_left.fetch_sub(1, Ordering::SeqCst) != 1 {
        return Ok(());
    }
    if fault.kills {
        // As sudden as `kill -9`: nothing is unwound, flushed or closed.
        std::process::abort();
    }
    Err(io::Error::other(format!("a fault was asked for at {name}")))
}

/// How far a test has set the clock ahead, in microseconds.
#[cfg(debug_assertions)]
pub fn clock_offset() -> i64 {
    let Some(file) = chosen::clock() else { return 0 };
    std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[cfg(debug_assertions)]
mod chosen {
    use std::path::{Path, PathBuf};
    use std::sync::OnceLock;
    use std::sync::atomic::AtomicI64;

    pub(super) struct Fault {
        pub(super) point: String,
        pub(super) kills: bool,
        /// Passes until it fails; below one it has.
        pub(super) passes_left: AtomicI64,
    }

    /// The fault that the environment asks for, read once.
    pub(super) fn fault() -> Option<&'static Fault> {
        static FAULT: OnceLock<Option<Fault>> = OnceLock::new();
        FAULT.get_or_init(|| parse(&std::env::var("LEGAL_AID_GATEWAY_FAULT").ok()?)).as_ref()
    }

    /// The file that sets the clock.
    pub(super) fn clock() -> Option<&'static Path> {
        static CLOCK: OnceLock<Option<PathBuf>> = OnceLock::new();
        CLOCK.get_or_init(|| std::env::var_os("LEGAL_AID_GATEWAY_CLOCK").map(Into::into)).as_deref()
    }

    fn parse(text: &str) -> Option<Fault> {
        let (point, how) = text.split_once('=')?;
        let (action, passes) = how.split_once('@')?;
        let kills = match action {
            "kill" => true,
            "error" => false,
            _ => return None,
        };
        Some(Fault { point: point.to_owned(), kills, passes_left: passes.parse::<i64>().ok()?.into() })
    }
}
