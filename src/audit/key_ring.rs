//! A ring of keys in one file, so that it is rotated in one place and at once: the keys of bodies, and those of pseudonyms.

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use zeroize::Zeroizing;

use super::entry::keyed_digest;

/// A 256-bit key, wiped when it goes.
pub type Key = Zeroizing<[u8; 32]>;

/// Before a key that is prepared.
const NEXT: &str = "next ";

/// The newest key seals (or names), it and the earlier ones open (or find) what they sealed. One that is prepared opens, too,
/// and seals nothing yet: gateways that share a database all have to have it before the first of them seals with it.
#[derive(Clone)]
pub struct KeyRing {
    newest: Key,
    /// Newest first.
    earlier: Vec<Key>,
    prepared: Option<Key>,
}

impl KeyRing {
    /// A ring of one key.
    pub fn new(key: Key) -> Self {
        Self { newest: key, earlier: Vec::new(), prepared: None }
    }

    /// Reads a key file: a key a line in 64 hex digits, the newest first; `next ` before one that is prepared. `None` when
    /// it is anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (mut keys, mut prepared) = (Vec::new(), None);
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match line.strip_prefix(NEXT) {
                Some(next) if prepared.is_none() => prepared = Some(key(next)?),
                Some(_) => return None,
                None => keys.push(key(line)?),
            }
        }
        let mut keys = keys.into_iter();
        Some(Self { newest: keys.next()?, earlier: keys.collect(), prepared })
    }

    /// As [`KeyRing::parse`] reads it.
    pub fn encode(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(80 * (2 + self.earlier.len())));
        for key in std::iter::once(&self.newest).chain(&self.earlier) {
            HEXLOWER.encode_append(key.as_ref(), &mut text);
            text.push('\n');
        }
        if let Some(prepared) = &self.prepared {
            text.push_str(NEXT);
            HEXLOWER.encode_append(prepared.as_ref(), &mut text);
            text.push('\n');
        }
        text
    }

    /// Prepares a key, unless one is prepared.
    #[must_use]
    pub fn prepare(self, key: Key) -> Self {
        Self { prepared: self.prepared.or(Some(key)), ..self }
    }

    /// Seals with the prepared key from now on, or with `otherwise` where none is.
    #[must_use]
    pub fn rotate(self, otherwise: Key) -> Self {
        let mut earlier = vec![self.newest];
        earlier.extend(self.earlier);
        Self { newest: self.prepared.unwrap_or(otherwise), earlier, prepared: None }
    }

    /// The same with more keys that are older than its own, newest first.
    #[must_use]
    pub fn with_earlier(mut self, earlier: Vec<Key>) -> Self {
        self.earlier.extend(earlier);
        self
    }

    /// The key that is longest in the ring.
    pub fn oldest(&self) -> &[u8; 32] {
        self.earlier.last().unwrap_or(&self.newest)
    }

    /// The key of a fingerprint.
    pub fn of_fingerprint(&self, fingerprint: &str) -> Option<&[u8; 32]> {
        self.all().find(|key| self::fingerprint(key) == fingerprint)
    }

    /// Whether there are earlier keys.
    pub fn has_earlier(&self) -> bool {
        !self.earlier.is_empty()
    }

    /// The same without the earlier keys: what they sealed does not open any more.
    #[must_use]
    pub fn retire_earlier(self) -> Self {
        Self { earlier: Vec::new(), ..self }
    }

    /// Whether what this ring sealed opens with `other`.
    pub fn is_opened_by(&self, other: &Self) -> bool {
        other.all().any(|key| *key == *self.newest)
    }

    /// The key that seals.
    pub fn newest(&self) -> &[u8; 32] {
        &self.newest
    }

    /// Every key that opens, the one that seals first.
    pub fn all(&self) -> impl Iterator<Item = &[u8; 32]> {
        std::iter::once(&self.newest).chain(&self.earlier).chain(&self.prepared).map(|key| &**key)
    }

    /// Names each key without betraying it, the one that seals first and one that is prepared last: 16 hex digits.
    pub fn fingerprints(&self) -> Vec<String> {
        self.all().map(fingerprint).collect()
    }

    /// Whether the last key is prepared.
    pub fn has_prepared(&self) -> bool {
        self.prepared.is_some()
    }
}

/// Names a key without betraying it: 16 hex digits.
pub(super) fn fingerprint(key: &[u8; 32]) -> String {
    HEXLOWER.encode(&keyed_digest(key, b"fingerprint")[..8])
}

fn key(text: &str) -> Option<Key> {
    let bytes = Zeroizing::new(HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).ok()?);
    <[u8; 32]>::try_from(bytes.as_slice()).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| HEXLOWER.encode(&[*byte; 32]) + "\n").collect()
    }

    #[test]
    fn a_file_of_before_there_were_rings_is_a_ring_of_one() {
        let keys = KeyRing::parse(&ring(&[1])).unwrap();
        assert_eq!(keys.newest(), &[1; 32]);
        assert_eq!(*keys.encode(), ring(&[1]));
        assert_eq!(keys.all().count(), 1);
    }

    #[test]
    fn a_rotation_puts_the_prepared_key_first_and_keeps_the_others_in_order() {
        let keys = KeyRing::parse(&ring(&[2, 1])).unwrap().prepare(Zeroizing::new([3; 32]));
        let again = KeyRing::parse(&keys.encode()).unwrap();
        assert!(again.has_prepared());
        assert_eq!(again.newest(), &[2; 32], "it seals nothing yet");
        assert!(again.all().any(|key| *key == [3; 32]), "it opens");
        // A second one is not prepared over the first, which others may have by now.
        let rotated = again.clone().prepare(Zeroizing::new([4; 32])).rotate(Zeroizing::new([5; 32]));
        assert_eq!(*rotated.encode(), ring(&[3, 2, 1]));
        assert_eq!(*rotated.clone().rotate(Zeroizing::new([5; 32])).encode(), ring(&[5, 3, 2, 1]));
        assert_eq!(*rotated.clone().retire_earlier().encode(), ring(&[3]));
        assert!(again.is_opened_by(&rotated) && rotated.is_opened_by(&again));
        assert!(!KeyRing::parse(&ring(&[9])).unwrap().is_opened_by(&rotated));
    }

    #[test]
    fn what_is_no_ring_is_refused() {
        let next = |byte: u8| format!("next {}", ring(&[byte]));
        for text in ["", "\n", "abcd", &ring(&[1])[1..], &next(1), &(ring(&[1]) + &next(2) + &next(3))] {
            assert!(KeyRing::parse(text).is_none(), "{text:?}");
        }
        assert!(KeyRing::parse(&(ring(&[1]) + "\n" + &next(2))).is_some());
    }
}
