//! `[security]`: what of the process others on the machine may see.

use serde::{Deserialize, Serialize};

/// `[security]`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecuritySection {
    /// Whether a crash may leave a core dump, and a debugger may look at the process: its memory holds keys and persons.
    pub core_dumps: bool,
}
