//! Keeps the process's memory, which holds keys and persons, out of core dumps and from debuggers.

use anyhow::Context as _;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Forbids both, for good: neither comes back without a new start.
///
/// The limit alone would not do: a kernel that pipes dumps to a program does not look at it.
pub(super) fn forbid() -> anyhow::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .context("core dumps cannot be turned off")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("the process cannot be made undumpable")
}
