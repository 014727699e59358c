//! The secrets behind an entry: the salts of its commitments, and the keys of its pseudonyms.

use std::sync::Arc;

use arc_swap::ArcSwap;
use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use super::entry::{Commitment, keyed_digest};
use super::key_ring::{self, Key, KeyRing};
use crate::domain::vocabulary::vocabulary;

/// Bytes of one field's salt: 128 bits, so that no value can be guessed without it.
const FIELD_SALT: usize = 16;

vocabulary! {
    /// What an entry commits to without saying it.
    pub enum Field {
        /// The name of who acted at the caller.
        OperatorName => "operator_name",
        /// The document of the person concerned.
        Subject => "subject",
        /// The request's bytes.
        Request => "request",
        /// The answer's bytes.
        Response => "response",
    }
}

/// The salts of an entry, one of 16 bytes for each [`Field`] in the order of their declaration. They are drawn
/// together and opened, or erased, one by one. The operator's comes first: erasing a person leaves who acted.
#[derive(Clone)]
pub struct Salt(pub [u8; FIELD_SALT * Field::ALL.len()]);

impl Salt {
    /// Commits to `value` as `field` of the entry: HMAC-SHA256 under the field's salt.
    pub fn commit(&self, field: Field, value: &[u8]) -> Commitment {
        commitment(&self.0[place(field)..][..FIELD_SALT], value)
    }
}

/// The commitment to a value under its salt: what anybody computes who was given both.
pub fn commitment(salt: &[u8], value: &[u8]) -> Commitment {
    Commitment(HEXLOWER.encode(&keyed_digest(salt, value)))
}

/// The bytes of a person's document that an entry's `subject_commitment` commits to: kind, colon, number.
pub fn subject_bytes(id_kind: &str, id_number: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(format!("{id_kind}:{id_number}").into_bytes())
}

/// What the log still has of an entry's salts.
pub struct KeptSalt(Zeroizing<Vec<u8>>);

impl KeptSalt {
    /// From the bytes as they are stored; none is none.
    pub fn new(stored: Option<Vec<u8>>) -> Self {
        Self(Zeroizing::new(stored.unwrap_or_default()))
    }

    /// The salt of a field, unless it was erased.
    pub fn of(&self, field: Field) -> Option<Vec<u8>> {
        // An entry of before there were salts for each field: one secret, from which each field's key was derived.
        if self.0.len() == 32 {
            return Some(keyed_digest(&self.0, field.as_str().as_bytes()).to_vec());
        }
        let salt = self.0.get(place(field)..)?.get(..FIELD_SALT)?;
        Some(salt.to_vec())
    }
}

fn place(field: Field) -> usize {
    field as usize * FIELD_SALT
}

/// Turns a person's document number into the pseudonym that stands for the person in the log. Whoever lacks the
/// keys can neither compute nor reverse it. One key of a ring makes pseudonyms, all of them find what they made.
///
/// Cheap to clone; clones hold the same ring, also when it is replaced.
#[derive(Clone)]
pub struct PseudonymKey(Arc<ArcSwap<Naming>>);

/// The keys, and the one that makes pseudonyms.
struct Naming {
    current: Key,
    ring: KeyRing,
}

impl PseudonymKey {
    /// A key of 32 secret bytes, the only one of its ring.
    pub fn new(key: [u8; 32]) -> Self {
        Self::of(KeyRing::new(Zeroizing::new(key)))
    }

    /// A ring, whose newest key makes the pseudonyms.
    pub fn of(ring: KeyRing) -> Self {
        let current = Zeroizing::new(*ring.newest());
        Self(Arc::new(ArcSwap::from_pointee(Naming { current, ring })))
    }

    /// Uses this ring from now on, and makes pseudonyms with the key of this fingerprint. Returns whether the ring has it;
    /// otherwise nothing changes.
    #[must_use]
    pub fn replace(&self, ring: KeyRing, fingerprint: &str) -> bool {
        let Some(current) = ring.of_fingerprint(fingerprint) else { return false };
        let current = Zeroizing::new(*current);
        self.0.store(Arc::new(Naming { current, ring }));
        true
    }

    /// The pseudonym of the holder of a document under the current key, 32 hex digits.
    pub fn pseudonym(&self, id_kind: &str, id_number: &str) -> String {
        pseudonym(&self.0.load().current, id_kind, id_number)
    }

    /// The pseudonyms of the holder of a document under every key, the current one's first.
    pub fn every_pseudonym(&self, id_kind: &str, id_number: &str) -> Vec<String> {
        self.0.load().keys().map(|key| pseudonym(key, id_kind, id_number)).collect()
    }

    /// Names each key without betraying it, the current one first: 16 hex digits.
    pub fn fingerprints(&self) -> Vec<String> {
        self.0.load().keys().map(key_ring::fingerprint).collect()
    }

    /// A tag over something the gateway handed out, or keeps, and wants to recognise, such as a page token. Made with
    /// the oldest key: what was tagged before a rotation is recognised after it.
    pub fn tag(&self, purpose: &str, message: &[u8]) -> [u8; 32] {
        let purpose_key = keyed_digest(self.0.load().ring.oldest(), purpose.as_bytes());
        keyed_digest(&purpose_key, message)
    }
}

impl Naming {
    fn keys(&self) -> impl Iterator<Item = &[u8; 32]> {
        let others = self.ring.all().filter(|key| **key != *self.current);
        std::iter::once(&*self.current).chain(others)
    }
}

fn pseudonym(key: &[u8; 32], id_kind: &str, id_number: &str) -> String {
    let message = Zeroizing::new(format!("subject\0{id_kind}\0{id_number}"));
    HEXLOWER.encode(&keyed_digest(key, message.as_bytes())[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commitments_differ_by_field_salt_and_value() {
        let salt = Salt(std::array::from_fn(|at| u8::try_from(at).unwrap()));
        let first = salt.commit(Field::Request, b"a");
        assert_eq!(first, salt.commit(Field::Request, b"a"));
        assert_ne!(first, salt.commit(Field::Response, b"a"));
        assert_ne!(first, salt.commit(Field::Request, b"b"));
        assert_ne!(first, Salt([2; 64]).commit(Field::Request, b"a"));
    }

    #[test]
    fn each_field_opens_by_its_own_salt_and_is_erased_without_the_operators_name() {
        let salt = Salt(std::array::from_fn(|at| u8::try_from(at).unwrap()));
        let kept = KeptSalt::new(Some(salt.0.to_vec()));
        for field in Field::ALL {
            let opened = kept.of(*field).unwrap();
            assert_eq!(commitment(&opened, b"value"), salt.commit(*field, b"value"));
        }
        let without_the_person = KeptSalt::new(Some(salt.0[..16].to_vec()));
        assert!(without_the_person.of(Field::OperatorName).is_some());
        for field in [Field::Subject, Field::Request, Field::Response] {
            assert!(without_the_person.of(field).is_none());
        }
        assert!(KeptSalt::new(None).of(Field::OperatorName).is_none());
    }

    #[test]
    fn a_secret_of_before_opens_each_field_as_it_did() {
        let secret = [7; 32];
        let by_then = keyed_digest(&keyed_digest(&secret, b"request"), b"value");
        let opened = KeptSalt::new(Some(secret.to_vec())).of(Field::Request).unwrap();
        assert_eq!(commitment(&opened, b"value").0, HEXLOWER.encode(&by_then));
    }

    #[test]
    fn a_rotation_finds_what_earlier_keys_named_and_recognises_what_they_tagged() {
        let before = PseudonymKey::new([1; 32]);
        let ring = KeyRing::new(Zeroizing::new([2; 32])).with_earlier(vec![Zeroizing::new([1; 32])]);
        let after = PseudonymKey::of(ring);
        let named = before.pseudonym("PASSPORT", "E00000000");
        assert_ne!(after.pseudonym("PASSPORT", "E00000000"), named);
        let every = after.every_pseudonym("PASSPORT", "E00000000");
        assert_eq!(every, [after.pseudonym("PASSPORT", "E00000000"), named]);
        assert_eq!(after.tag("claim", b"x"), before.tag("claim", b"x"));
        assert_eq!(after.fingerprints()[1..], before.fingerprints());
    }

    #[test]
    fn a_prepared_key_finds_and_names_only_once_it_is_told_to() {
        let (first, second) = (PseudonymKey::new([1; 32]), PseudonymKey::new([2; 32]));
        let name = |keys: &PseudonymKey| keys.pseudonym("PASSPORT", "E00000000");
        let ring = KeyRing::new(Zeroizing::new([1; 32])).prepare(Zeroizing::new([2; 32]));
        let keys = PseudonymKey::of(ring.clone());
        let clone = keys.clone();
        assert_eq!(name(&keys), name(&first));
        assert_eq!(keys.every_pseudonym("PASSPORT", "E00000000"), [name(&first), name(&second)]);
        assert!(keys.replace(ring.clone(), &second.fingerprints()[0]));
        assert_eq!((name(&keys), name(&clone)), (name(&second), name(&second)));
        assert_eq!(keys.tag("claim", b"x"), first.tag("claim", b"x"), "the oldest, not the last");
        assert!(!keys.replace(ring, "0000000000000000"));
        assert_eq!(name(&keys), name(&second), "a key that is not there names nobody");
    }
}
