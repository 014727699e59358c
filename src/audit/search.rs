//! What of an entry can be searched for, and the lists by which it is found.
//!
//! The index is derived from the log and proves nothing. It may name an entry too many, never one too few: whoever
//! answers from it reads the entry itself and asks [`Query::matches`].

mod bits;
mod chunk;
mod outline;

use std::borrow::Cow;

use sha2::{Digest, Sha256};

pub use self::bits::{Bits, MalformedList, encode_list};
pub use self::chunk::{CHUNK, Chunk, Times};
pub use self::outline::keys_of;
use super::entry::Entry;
use crate::domain::vocabulary::vocabulary;

vocabulary! {
    /// What an entry can be found by, from what usually names the fewest entries to what names the most: a search by
    /// several looks for the first and keeps what the others have too.
    pub enum Field {
        /// The caller's request id.
        Request => "request",
        /// The delivery.
        Delivery => "delivery",
        /// The exchange.
        Exchange => "exchange",
        /// The person, by pseudonym.
        Subject => "subject",
        /// The centre's matter.
        Matter => "matter",
        /// Reason of a refusal.
        Reason => "reason",
        /// The operator's staff number.
        Operator => "operator",
        /// The operator's unit.
        Unit => "unit",
        /// The agency that is asked or written to.
        Counterpart => "counterpart",
        /// The calling agency.
        Caller => "caller",
        /// Kind of the exchange.
        Kind => "kind",
        /// Purpose code.
        Purpose => "purpose",
        /// gRPC code.
        Code => "code",
        /// Method.
        Method => "method",
        /// Phase.
        Phase => "phase",
        /// Service.
        Service => "service",
    }
}

impl Field {
    /// What an entry has here.
    pub fn of(self, entry: &Entry) -> Option<Cow<'_, str>> {
        let id = |id: Option<uuid::Uuid>| id.map(|id| Cow::Owned(id.to_string()));
        match self {
            Self::Request => id(entry.request),
            Self::Delivery => id(entry.delivery),
            Self::Exchange => id(entry.exchange),
            Self::Subject => entry.subject.as_deref().map(Cow::Borrowed),
            Self::Matter => entry.matter.as_deref().map(Cow::Borrowed),
            Self::Reason => entry.reason.as_deref().map(Cow::Borrowed),
            Self::Operator => entry.operator.as_deref().map(Cow::Borrowed),
            Self::Unit => entry.unit.as_deref().map(Cow::Borrowed),
            Self::Counterpart => entry.counterpart.as_deref().map(Cow::Borrowed),
            Self::Caller => entry.caller.as_deref().map(Cow::Borrowed),
            Self::Kind => entry.kind.as_deref().map(Cow::Borrowed),
            Self::Purpose => entry.purpose.as_deref().map(Cow::Borrowed),
            Self::Code => entry.code.as_deref().map(Cow::Borrowed),
            Self::Method => Some(Cow::Borrowed(&entry.method)),
            Self::Phase => Some(Cow::Borrowed(entry.phase.as_str())),
            Self::Service => Some(Cow::Borrowed(&entry.service)),
        }
    }
}

/// A field with a value, as the index knows it: 64 bits of SHA-256. Two values may share a key, which costs a look at
/// an entry too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub i64);

impl Key {
    /// The key of a value.
    pub fn of(field: Field, value: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(field.as_str().as_bytes());
        hash.update([0]);
        hash.update(value.as_bytes());
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hash.finalize());
        Self(i64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

/// A stretch of time at which entries were recorded, in microseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// At or after.
    pub from: Option<i64>,
    /// Before.
    pub before: Option<i64>,
}

impl Span {
    /// Whether it has no bounds.
    pub fn is_everything(self) -> bool {
        self == Self::default()
    }

    /// Whether it holds a moment.
    pub fn holds(self, at: i64) -> bool {
        self.touches(Times { earliest: at, latest: at })
    }

    /// Whether any moment of `times` may lie in it.
    pub fn touches(self, times: Times) -> bool {
        self.from.is_none_or(|from| times.latest >= from)
            && self.before.is_none_or(|before| times.earliest < before)
    }

    /// Whether all of `times` lies in it.
    pub fn covers(self, times: Times) -> bool {
        self.holds(times.earliest) && self.holds(times.latest)
    }
}

/// What is searched for: every field named must have one of its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    fields: Vec<(Field, Vec<String>)>,
    /// When the entries were recorded.
    pub recorded: Span,
}

impl Query {
    /// Narrows it to entries that have `value` here.
    pub fn narrow(&mut self, field: Field, value: impl Into<String>) {
        self.narrow_to_any(field, vec![value.into()]);
    }

    /// Narrows it to entries that have one of `values` here.
    pub fn narrow_to_any(&mut self, field: Field, values: Vec<String>) {
        self.fields.push((field, values));
        self.fields.sort_by_key(|(field, _)| *field);
    }

    /// Whether it is for every entry.
    pub fn is_everything(&self) -> bool {
        self.fields.is_empty() && self.recorded.is_everything()
    }

    /// The names of what it is by, such as `caller,code,recorded`; `everything` if nothing narrows it.
    pub fn summary(&self) -> String {
        let mut names: Vec<&str> = self.fields.iter().map(|(field, _)| field.as_str()).collect();
        if !self.recorded.is_everything() {
            names.push("recorded");
        }
        if names.is_empty() { "everything".to_owned() } else { names.join(",") }
    }

    /// The keys to look for: each alternative is a list of keys that an entry must all have, the rarest first.
    pub fn alternatives(&self) -> Vec<Vec<Key>> {
        let mut alternatives = vec![Vec::new()];
        for (field, values) in &self.fields {
            alternatives = alternatives
                .iter()
                .flat_map(|keys: &Vec<Key>| {
                    values.iter().map(|value| {
                        let mut keys = keys.clone();
                        keys.push(Key::of(*field, value));
                        keys
                    })
                })
                .collect();
        }
        alternatives
    }

    /// Whether an entry is one of those.
    pub fn matches(&self, entry: &Entry) -> bool {
        let has = |(field, values): &(Field, Vec<String>)| {
            field.of(entry).is_some_and(|value| values.iter().any(|wanted| *wanted == value))
        };
        self.recorded.holds(entry.recorded.as_microsecond()) && self.fields.iter().all(has)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::audit::entry::Phase;

    #[test]
    fn a_query_by_several_fields_wants_them_all_and_any_value_of_each() {
        let mut entry = Entry::new(Uuid::nil(), Phase::Read, Timestamp::UNIX_EPOCH, "s", "GetEntry", "n");
        entry.caller = Some("a".to_owned());
        let mut query = Query::default();
        assert!(query.is_everything() && query.matches(&entry));
        assert_eq!(query.summary(), "everything");
        query.narrow(Field::Method, "GetEntry");
        query.narrow_to_any(Field::Caller, vec!["b".to_owned(), "a".to_owned()]);
        assert!(query.matches(&entry));
        assert_eq!(query.summary(), "caller,method");
        let key = |field, value| Key::of(field, value);
        let method = key(Field::Method, "GetEntry");
        assert_eq!(
            query.alternatives(),
            [[key(Field::Caller, "b"), method], [key(Field::Caller, "a"), method]]
        );
        query.recorded.before = Some(0);
        assert!(!query.matches(&entry));
        assert_eq!(query.summary(), "caller,method,recorded");
    }

    #[test]
    fn one_value_in_two_fields_has_two_keys() {
        assert_ne!(Key::of(Field::Caller, "a"), Key::of(Field::Counterpart, "a"));
    }
}
