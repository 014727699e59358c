//! Encryption of bodies at rest.

use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use thiserror::Error;

use crate::audit::key_ring::KeyRing;

/// First byte of a sealed body: how it was sealed.
const FORMAT: u8 = 1;

/// Seals bodies with AES-256-GCM under a key from a file. Each seal is bound to its place, so that a body cannot
/// be moved to another row unnoticed.
///
/// Holds a ring: the newest key seals, the earlier ones still open what they sealed. Cheap to clone; clones hold the same
/// ring, also when its keys are replaced.
#[derive(Clone)]
pub struct Sealer(Arc<ArcSwap<Vec<LessSafeKey>>>);

/// A sealed body that does not open.
#[derive(Debug, Error)]
pub enum UnsealError {
    /// The bytes are not of this format.
    #[error("sealed body has an unknown format")]
    Format,
    /// Wrong keys, wrong place, or changed bytes.
    #[error(
        "sealed body does not open; the key it was sealed with is not among the body keys, or the row was changed"
    )]
    Forged,
}

impl Sealer {
    /// A sealer with one 256-bit key.
    pub fn new(key: &[u8; 32]) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(vec![cipher(key)])))
    }

    /// A sealer with these keys.
    pub fn of(keys: &KeyRing) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(keys.all().map(cipher).collect())))
    }

    /// Uses these keys from now on.
    pub fn replace_keys(&self, keys: &KeyRing) {
        self.0.store(Arc::new(keys.all().map(cipher).collect()));
    }

    /// Seals `clear` for `place`, such as `message/<exchange>/<sequence>`. The nonce is random; under one key
    /// about 2^32 bodies may be sealed (NIST SP 800-38D, section 8.3).
    #[allow(clippy::expect_used, reason = "the system's random generator failing is not survivable")]
    pub fn seal(&self, place: &str, clear: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).expect("system randomness");
        // One buffer of the final size: a chunk of an attachment is not copied about.
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + clear.len() + AES_256_GCM.tag_len());
        sealed.push(FORMAT);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(clear);
        let keys = self.0.load();
        let tag = keys[0]
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place.as_bytes()),
                &mut sealed[1 + NONCE_LEN..],
            )
            .expect("a body below the cipher's limit of 64 GiB");
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// Seals anew what an earlier key sealed for `place`; `None` for what the newest one did.
    ///
    /// # Errors
    /// When no key opens it.
    pub fn reseal(&self, place: &str, sealed: &[u8]) -> Result<Option<Vec<u8>>, UnsealError> {
        let (nonce, body) = parts(sealed)?;
        let keys = self.0.load();
        if open_with(&keys[0], place, nonce, body).is_some() {
            return Ok(None);
        }
        let mut earlier = keys[1..].iter();
        let clear = earlier.find_map(|key| open_with(key, place, nonce, body)).ok_or(UnsealError::Forged)?;
        Ok(Some(self.seal(place, &clear)))
    }

    /// Opens what was sealed for `place`.
    ///
    /// # Errors
    /// When key, place or bytes are not those of the seal.
    pub fn open(&self, place: &str, sealed: &[u8]) -> Result<Vec<u8>, UnsealError> {
        let (nonce, body) = parts(sealed)?;
        let keys = self.0.load();
        keys.iter().find_map(|key| open_with(key, place, nonce, body)).ok_or(UnsealError::Forged)
    }
}

fn parts(sealed: &[u8]) -> Result<([u8; NONCE_LEN], &[u8]), UnsealError> {
    let (&FORMAT, rest) = sealed.split_first().ok_or(UnsealError::Format)? else {
        return Err(UnsealError::Format);
    };
    let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(UnsealError::Format)?;
    Ok((*nonce, body))
}

fn cipher(key: &[u8; 32]) -> LessSafeKey {
    // Only the length can be wrong, and the type fixes it.
    #[allow(clippy::expect_used)]
    let key = UnboundKey::new(&AES_256_GCM, key).expect("a key of 32 bytes");
    LessSafeKey::new(key)
}

fn open_with(key: &LessSafeKey, place: &str, nonce: [u8; NONCE_LEN], body: &[u8]) -> Option<Vec<u8>> {
    let mut body = body.to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce);
    let length = key.open_in_place(nonce, Aad::from(place.as_bytes()), &mut body).ok()?.len();
    body.truncate(length);
    Some(body)
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn after_a_rotation_bodies_are_sealed_with_the_newest_key_and_earlier_ones_still_open() {
        let sealer = Sealer::new(&[1; 32]);
        let clone = sealer.clone();
        let before = sealer.seal("message/1", b"before");
        let ring = KeyRing::new(Zeroizing::new([1; 32])).rotate(Zeroizing::new([2; 32]));
        sealer.replace_keys(&ring);
        let after = clone.seal("message/1", b"after");
        assert_eq!(sealer.open("message/1", &before).unwrap(), b"before");
        assert_eq!(sealer.open("message/1", &after).unwrap(), b"after");
        assert_eq!(Sealer::new(&[2; 32]).open("message/1", &after).unwrap(), b"after");
        assert!(Sealer::new(&[2; 32]).open("message/1", &before).is_err());
        assert!(Sealer::new(&[1; 32]).open("message/1", &after).is_err());
    }

    #[test]
    fn a_body_opens_only_in_its_place_under_its_key() {
        let sealer = Sealer::new(&[7; 32]);
        let sealed = sealer.seal("message/1", b"private");
        assert_eq!(sealer.open("message/1", &sealed).unwrap(), b"private");
        assert!(sealer.open("message/2", &sealed).is_err());
        assert!(Sealer::new(&[8; 32]).open("message/1", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(sealer.open("message/1", &changed).is_err(), "byte {at}");
        }
        assert!(sealer.open("message/1", &[]).is_err());
    }
}
