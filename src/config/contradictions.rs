//! Everything in a configuration that cannot be meant, at once.

use std::fmt;

/// What was found, each with its key and what to do.
#[derive(Debug, Default)]
pub struct Contradictions(Vec<(&'static str, &'static str)>);

impl Contradictions {
    /// Notes `remedy` for `key`, unless the rule is kept.
    pub(super) fn unless(&mut self, is_kept: bool, key: &'static str, remedy: &'static str) {
        if !is_kept {
            self.0.push((key, remedy));
        }
    }

    /// Nothing was found, or all that was.
    pub(super) fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl fmt::Display for Contradictions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (key, remedy)) in self.0.iter().enumerate() {
            let separator = if place == 0 { "" } else { "\n  " };
            write!(formatter, "{separator}{key} {remedy}")?;
        }
        Ok(())
    }
}
