//! Encryption of bodies at rest.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use std::sync::Arc;
use thiserror::Error;

/// First byte of a sealed body: how it was sealed.
const FORMAT: u8 = 1;

/// Seals bodies with AES-256-GCM under a key from a file. Each seal is bound to its place, so that a body cannot
/// be moved to another row unnoticed.
#[derive(Clone)]
pub struct Sealer(Arc<LessSafeKey>);

/// A sealed body that does not open.
#[derive(Debug, Error)]
pub enum UnsealError {
    /// The bytes are not of this format.
    #[error("sealed body has an unknown format")]
    Format,
    /// Wrong key, wrong place, or changed bytes.
    #[error(
        "sealed body does not open; the body key is not the one it was sealed with, or the row was changed"
    )]
    Forged,
}

impl Sealer {
    /// A sealer with a 256-bit key.
    pub fn new(key: &[u8; 32]) -> Self {
        // Only the length can be wrong, and the type fixes it.
        #[allow(clippy::expect_used)]
        let key = UnboundKey::new(&AES_256_GCM, key).expect("a key of 32 bytes");
        Self(Arc::new(LessSafeKey::new(key)))
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
        let tag = self
            .0
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place.as_bytes()),
                &mut sealed[1 + NONCE_LEN..],
            )
            .expect("a body below the cipher's limit of 64 GiB");
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// Opens what was sealed for `place`.
    ///
    /// # Errors
    /// When key, place or bytes are not those of the seal.
    pub fn open(&self, place: &str, sealed: &[u8]) -> Result<Vec<u8>, UnsealError> {
        let (&FORMAT, rest) = sealed.split_first().ok_or(UnsealError::Format)? else {
            return Err(UnsealError::Format);
        };
        let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or(UnsealError::Format)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| UnsealError::Format)?;
        let mut body = body.to_vec();
        let clear = self
            .0
            .open_in_place(nonce, Aad::from(place.as_bytes()), &mut body)
            .map_err(|_| UnsealError::Forged)?;
        let length = clear.len();
        body.truncate(length);
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
