//! How many connections the process has file handles for. Without any left it could take no call on, nor reach a
//! registry, nor open its own files: so connections stay below that.

use std::fs;

/// Handles that connections are not given, or a quarter of all where that is more: database, index, listeners, and
/// connections to other parties.
const KEPT: usize = 64;

/// Connections that there are handles for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handles {
    /// Connections of known agencies.
    pub(super) open: usize,
    /// Connections of peers not known yet.
    pub(super) pending: usize,
}

impl Handles {
    /// Of this process; without a bound where the system does not say.
    pub(super) fn of_this_process() -> Self {
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        soft_limit(&limits).map_or(Self { open: usize::MAX, pending: usize::MAX }, Self::of_limit)
    }

    fn of_limit(limit: usize) -> Self {
        let left = limit.saturating_sub(KEPT.max(limit / 4)).max(4);
        let pending = left / 4;
        Self { open: left - pending, pending }
    }
}

/// The soft limit of open files in proc_pid_limits(5); `None` for unlimited.
fn soft_limit(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_handles_for_the_gateway_itself() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            256                  524288               files     \n";
        assert_eq!(soft_limit(limits), Some(256));
        assert_eq!(
            soft_limit("Max open files            unlimited            unlimited            files"),
            None
        );
        assert_eq!(Handles::of_limit(256), Handles { open: 144, pending: 48 });
        assert_eq!(Handles::of_limit(10), Handles { open: 3, pending: 1 });
    }
}
