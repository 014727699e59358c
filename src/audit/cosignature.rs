//! Cosignatures (C2SP `tlog-cosignature`, the Ed25519 form): a witness's statement that, at a time, a checkpoint was
//! the largest it had seen of a log, and continued all that it had seen before.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::note::{
    KeyError, NoteError, PRIVATE_PREFIX, Parts, Signature, encode_public, encode_seed, is_key_name, key_hash,
    signature_line, split_key, take_apart,
};

/// The type byte of Ed25519 cosigners' keys.
const COSIGNER_TYPE: u8 = 0x04;

/// Bytes of a time and an Ed25519 signature.
const STAMP_BYTES: usize = 8 + 64;

/// A witness's secret key. `Debug` shows the name and the key hash; the seed is wiped when the key is dropped.
pub struct CosigningKey {
    public: CosignerKey,
    seed: Zeroizing<[u8; 32]>,
    pair: Ed25519KeyPair,
}

/// A witness's public key. `Display` and [`FromStr`] use `<name>+<key hash, 8 hexadecimal digits>+<base64 of 0x04 and
/// the key>`, the verifier key of `signed-note`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CosignerKey {
    name: String,
    key_hash: [u8; 4],
    public_key: [u8; 32],
}

/// A cosignature that verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosignature {
    /// When the witness signed, by its own clock, to the second.
    pub time: Timestamp,
    /// The signature line with its line feed, to stand under a checkpoint.
    pub line: String,
}

impl CosigningKey {
    /// The key with this name, a URL without a scheme, and this secret seed (RFC 8032, section 5.1.5).
    ///
    /// # Errors
    /// [`KeyError::BadName`], or [`KeyError::NotEd25519`] if the cryptographic library refuses the seed.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyError::NotEd25519)?;
        let public_key = pair.public_key().as_ref().try_into().map_err(|_| KeyError::NotEd25519)?;
        let public = CosignerKey::from_public_key(name, public_key)?;
        Ok(Self { public, seed: Zeroizing::new(*seed), pair })
    }

    /// Reads the form that [`CosigningKey::encode`] writes. A log's key is refused: the two must not be one.
    ///
    /// # Errors
    /// [`KeyError`] for any other text.
    pub fn parse(encoded: &str) -> Result<Self, KeyError> {
        let fields = encoded.strip_prefix(PRIVATE_PREFIX).ok_or(KeyError::Malformed)?;
        let (name, key_hash, seed) = split_key(fields, COSIGNER_TYPE)?;
        let key = Self::from_seed(name, &seed)?;
        if key.public.key_hash == key_hash { Ok(key) } else { Err(KeyError::HashDiffers) }
    }

    /// `PRIVATE+KEY+<name>+<key hash>+<base64 of 0x04 and the seed>`: a secret, wiped when dropped.
    pub fn encode(&self) -> Zeroizing<String> {
        encode_seed(&self.public.name, self.public.key_hash, COSIGNER_TYPE, &self.seed)
    }

    /// The key that verifies what this one signs.
    pub fn cosigner_key(&self) -> &CosignerKey {
        &self.public
    }

    /// The cosignature line over the text of a signed checkpoint. Whether the checkpoint is to be signed is for the
    /// caller to know; see [`judge`](super::witness::judge).
    ///
    /// # Errors
    /// [`NoteError::Malformed`] if it is not a signed note, [`NoteError::SigningFailed`].
    pub fn cosign(&self, checkpoint: &str, now: Timestamp) -> Result<String, NoteError> {
        let Parts { text, .. } = take_apart(checkpoint)?;
        let time = u64::try_from(now.as_second()).map_err(|_| NoteError::SigningFailed)?;
        let signature =
            self.pair.try_sign(message(time, text).as_bytes()).map_err(|_| NoteError::SigningFailed)?;
        let stamp = [&time.to_be_bytes(), signature.as_ref()].concat();
        Ok(signature_line(&self.public.name, self.public.key_hash, &stamp))
    }
}

impl fmt::Debug for CosigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CosigningKey")
            .field("name", &self.public.name)
            .field("key_hash", &HEXLOWER.encode(&self.public.key_hash))
            .finish_non_exhaustive()
    }
}

impl CosignerKey {
    /// The key with this name and these 32 bytes.
    ///
    /// # Errors
    /// [`KeyError::BadName`].
    pub fn from_public_key(name: &str, public_key: [u8; 32]) -> Result<Self, KeyError> {
        if !is_key_name(name) {
            return Err(KeyError::BadName);
        }
        let key_hash = key_hash(name, COSIGNER_TYPE, &public_key);
        Ok(Self { name: name.to_owned(), key_hash, public_key })
    }

    /// The witness's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The 32 bytes of the public key. What is signed does not hold the name, so that one key under two names is one
    /// witness and must not be counted as two.
    pub fn public_key(&self) -> &[u8; 32] {
        &self.public_key
    }

    /// This witness's cosignature on a checkpoint, the newest if there are several. Lines by others are not looked
    /// into; the log's own signature is for [`Checkpoint::open`](super::checkpoint::Checkpoint::open).
    ///
    /// # Errors
    /// [`NoteError`] if the note is malformed, not every line said to be by this key verifies, or none is.
    pub fn find(&self, note: &str) -> Result<Cosignature, NoteError> {
        let Parts { text, signatures } = take_apart(note)?;
        let mut newest: Option<Cosignature> = None;
        for Signature { line, name, key_hash, signature } in signatures {
            if name != self.name || key_hash != self.key_hash {
                continue;
            }
            let time = self.verify(text, &signature).ok_or(NoteError::BadSignature)?;
            if newest.as_ref().is_none_or(|newest| newest.time < time) {
                newest = Some(Cosignature { time, line: format!("{line}\n") });
            }
        }
        newest.ok_or(NoteError::NotSigned)
    }

    fn verify(&self, text: &str, stamp: &[u8]) -> Option<Timestamp> {
        let (time, signature) = stamp.split_first_chunk::<8>()?;
        if stamp.len() != STAMP_BYTES {
            return None;
        }
        let time = u64::from_be_bytes(*time);
        UnparsedPublicKey::new(&ED25519, &self.public_key)
            .verify(message(time, text).as_bytes(), signature)
            .ok()?;
        Timestamp::from_second(i64::try_from(time).ok()?).ok()
    }
}

impl fmt::Display for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode_public(&self.name, self.key_hash, COSIGNER_TYPE, &self.public_key))
    }
}

impl FromStr for CosignerKey {
    type Err = KeyError;

    fn from_str(encoded: &str) -> Result<Self, KeyError> {
        let (name, key_hash, public_key) = split_key(encoded, COSIGNER_TYPE)?;
        let key = Self::from_public_key(name, *public_key)?;
        if key.key_hash == key_hash { Ok(key) } else { Err(KeyError::HashDiffers) }
    }
}

/// What a cosigner signs: a header, the time in seconds since 1970, and the whole text of the checkpoint.
fn message(time: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

#[cfg(test)]
mod tests;
