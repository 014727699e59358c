//! The id of a finding: what was noticed, when, about whom.

use std::fmt;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{About, Rule};

/// A UUID of version 8 (RFC 9562, section 5.8). Its first octet is the rule's place in [`Rule::ALL`], the next four are
/// the window's begin in minutes since 1970, big-endian, and the rest is of SHA-256 over rule, begin and what the
/// finding is about. So whoever has only the id knows where in the log to look for the finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FindingId(Uuid);

impl FindingId {
    pub(super) fn new(rule: Rule, from: Timestamp, about: &About) -> Self {
        let minutes = u32::try_from(from.as_second().div_euclid(60)).unwrap_or(0);
        let mut hash = Sha256::new();
        hash.update(rule.as_str().as_bytes());
        hash.update([0]);
        hash.update(minutes.to_be_bytes());
        for part in [&about.caller, &about.unit, &about.operator, &about.matter, &about.subject, &about.node]
        {
            let text = part.as_deref().unwrap_or_default();
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
        let digest = hash.finalize();
        let mut bytes = [0; 16];
        bytes[0] = rule_code(rule);
        bytes[1..5].copy_from_slice(&minutes.to_be_bytes());
        bytes[5..].copy_from_slice(&digest[..11]);
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(Uuid::from_bytes(bytes))
    }

    /// Reads an id; only one that names a rule can be of a finding.
    pub fn parse(text: &str) -> Option<Self> {
        let id = Self(Uuid::try_parse(text).ok()?);
        (id.0.get_version_num() == 8 && id.find_rule().is_some()).then_some(id)
    }

    /// The rule.
    pub fn rule(self) -> Rule {
        // `parse` and `new` let no other in.
        self.find_rule().unwrap_or(Rule::BulkLookUps)
    }

    fn find_rule(self) -> Option<Rule> {
        Rule::ALL.get(usize::from(self.0.as_bytes()[0])).copied()
    }

    /// Begin of the window.
    pub fn from(self) -> Timestamp {
        let bytes = self.0.as_bytes();
        let minutes = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
        Timestamp::from_second(i64::from(minutes) * 60).unwrap_or(Timestamp::MAX)
    }

    /// As it stands in an entry.
    pub fn uuid(self) -> Uuid {
        self.0
    }
}

fn rule_code(rule: Rule) -> u8 {
    Rule::ALL.iter().zip(0..).find(|(known, _)| **known == rule).map_or(0, |(_, code)| code)
}

impl fmt::Display for FindingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
