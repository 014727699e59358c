//! The gateway's secret keys: made once by `init`, read at start.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER_PERMISSIVE;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::audit::key_ring::KeyRing;
use crate::audit::note::{KeyError, SigningKey};
use crate::config::KeysSection;
use crate::entropy;
use crate::identity::key_file;

/// The keys of one gateway.
pub struct Secrets {
    /// Signs checkpoints.
    pub log: SigningKey,
    /// Encrypt bodies.
    pub body: KeyRing,
    /// Make pseudonyms.
    pub pseudonym: KeyRing,
}

/// Why a key file cannot be used.
#[derive(Debug, Error)]
pub enum SecretError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}; `init` makes the key files, and a restored gateway needs its own")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read it.
    #[error("{path} can be read by others (mode {mode:03o}): run chmod 600 {path}", path = .path.display())]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Not 64 hex digits; of a ring, not a line of them for each key.
    #[error("{path} must hold 64 hex digits; keys.body and keys.pseudonym may have more such lines", path = .path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// Not a signing key.
    #[error("{path}: {source}", path = .path.display())]
    NotASigningKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: KeyError,
    },
}

impl Secrets {
    /// Reads the key files.
    ///
    /// # Errors
    /// When one is missing, readable by others, or not a key.
    pub fn load(files: &KeysSection) -> Result<Self, SecretError> {
        let log = read(&files.log)?;
        Ok(Self {
            log: SigningKey::parse(log.trim())
                .map_err(|source| SecretError::NotASigningKey { path: files.log.clone(), source })?,
            body: read_ring(&files.body)?,
            pseudonym: read_pseudonym_keys(files)?,
        })
    }

    /// Makes new key files; `origin` names the log. Never overwrites.
    ///
    /// # Errors
    /// When a file is there already, cannot be written, or the origin is not a name.
    pub fn create(files: &KeysSection, origin: &str) -> io::Result<()> {
        let seed = Zeroizing::new(entropy::bytes::<32>());
        let log = SigningKey::from_seed(origin, &seed).map_err(io::Error::other)?;
        key_file::create(&files.log, &Zeroizing::new(format!("{}\n", log.encode().as_str())))?;
        for path in [&files.body, &files.pseudonym] {
            let key = Zeroizing::new(entropy::bytes::<32>());
            let text = Zeroizing::new(data_encoding::HEXLOWER.encode(key.as_ref()) + "\n");
            key_file::create(path, &text)?;
        }
        Ok(())
    }
}

/// Reads the keys of pseudonyms: those of their file, and behind them the earlier ones that have files of their own.
///
/// # Errors
/// When a file is missing, readable by others, or holds something else.
pub fn read_pseudonym_keys(files: &KeysSection) -> Result<KeyRing, SecretError> {
    let earlier = files.pseudonym_earlier.iter().map(|path| read_key(path)).collect::<Result<_, _>>()?;
    Ok(read_ring(&files.pseudonym)?.with_earlier(earlier))
}

/// Reads a file with a ring of keys.
///
/// # Errors
/// When it is missing, readable by others, or holds something else.
pub fn read_ring(path: &Path) -> Result<KeyRing, SecretError> {
    KeyRing::parse(&read(path)?).ok_or_else(|| SecretError::NotAKey { path: path.to_owned() })
}

fn read_key(path: &Path) -> Result<Zeroizing<[u8; 32]>, SecretError> {
    let text = read(path)?;
    let bytes = HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).map(Zeroizing::new).ok();
    let key = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
    key.map(Zeroizing::new).ok_or_else(|| SecretError::NotAKey { path: path.to_owned() })
}

fn read(path: &Path) -> Result<Zeroizing<String>, SecretError> {
    let unreadable = |source| SecretError::Unreadable { path: path.to_owned(), source };
    if let Some(mode) = key_file::open_to_others(path).map_err(unreadable)? {
        return Err(SecretError::OpenToOthers { path: path.to_owned(), mode });
    }
    fs::read_to_string(path).map(Zeroizing::new).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use data_encoding::{BASE64, HEXLOWER, HEXUPPER};
    use proptest::prelude::*;

    use super::*;
    use crate::audit::cosignature::CosigningKey;
    use crate::audit::entry::PseudonymKey;
    use crate::identity::pkcs12::KeyStore;
    use crate::identity::request::SignedRequest;
    use crate::store::Sealer;

    /// Does not compile for a type that has `Debug`: two implementations fit then, and none is chosen.
    macro_rules! has_no_debug {
        ($($type:ty),*) => { $(const _: fn() = || {
            trait Chosen<By> { fn choose() {} }
            impl<T> Chosen<()> for T {}
            #[allow(dead_code)]
            struct WithDebug;
            impl<T: Debug> Chosen<WithDebug> for T {}
            let _ = <$type as Chosen<_>>::choose;
        };)* };
    }
    has_no_debug!(Secrets, PseudonymKey, KeyRing, Sealer, KeyStore, SignedRequest);

    proptest! {
        #[test]
        fn what_can_be_shown_of_a_key_is_not_the_key(seed: [u8; 32]) {
            let signing = SigningKey::from_seed("log.example", &seed).unwrap();
            let cosigning = CosigningKey::from_seed("witness.example", &seed).unwrap();
            let shown = format!("{signing:?} {signing:#?} {cosigning:?} {cosigning:#?}");
            let [hex, upper, base64] = [&HEXLOWER, &HEXUPPER, &BASE64].map(|encoding| encoding.encode(&seed));
            let numbers = seed.map(|byte| byte.to_string());
            for secret in [&hex[8..24], &upper[8..24], &base64[8..24], &numbers[4..8].join(", ")] {
                prop_assert!(!shown.contains(secret), "{secret} in {shown}");
            }
        }
    }
}
