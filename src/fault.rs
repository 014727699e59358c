//! Points at which a test lets the gateway fail, by a variable of the environment. A release build has none.
//!
//! `LEGAL_AID_GATEWAY_FAULT=commit.done=kill@3` ends the process when it passes `commit.done` for the third time,
//! `…=error@3` makes that pass an I/O error. The points of a batch of the audit log, in order: `batch.prepared`,
//! `batch.signed`, `commit.begin`, `commit.effects`, `commit.rows`, `commit.done`, `batch.committed`,
//! `batch.published`. A batch whose effects are rows of its own is one statement: it passes neither `commit.effects`
//! nor `commit.rows`.

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

#[cfg(debug_assertions)]
mod chosen {
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
