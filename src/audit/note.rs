//! Signed notes (C2SP `signed-note`) with Ed25519 keys: a text, an empty line, and signature lines under it.
//!
//! Keys are written as `golang.org/x/mod/sumdb/note` writes them, so that its tools read them.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use data_encoding::{BASE64, HEXLOWER};
use zeroize::{Zeroize, Zeroizing};

use super::merkle::decode_base64;

/// The type byte of Ed25519 keys in `signed-note`.
const ED25519_TYPE: u8 = 0x01;
pub(super) const PRIVATE_PREFIX: &str = "PRIVATE+KEY+";
const SIGNATURE_PREFIX: &str = "\u{2014} ";
/// What `golang.org/x/mod/sumdb/note` accepts; a checkpoint has a few hundred bytes and a handful of
/// witnesses.
const MAX_NOTE_BYTES: usize = 1_000_000;
const MAX_SIGNATURES: usize = 100;

/// Why a key was not parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is not of the form `name+hash+base64`.
    #[error("a key is written name+hash+base64")]
    Malformed,
    /// The name is empty, or has a space, a plus sign or a control character.
    #[error("a key name is not empty and has no spaces, plus signs or control characters")]
    BadName,
    /// The key is not an Ed25519 key of 32 bytes, or of another type: a log's key where a witness's is wanted, or
    /// the other way round.
    #[error(
        "not an ed25519 key of 32 bytes of the wanted type (a log's key begins with A, a witness's with B)"
    )]
    NotEd25519,
    /// The key hash is not the hash of this name and key.
    #[error("the key hash does not belong to this name and key")]
    HashDiffers,
}

/// Why a signed note, or the checkpoint in it, was not accepted or not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The note is not of the form that `signed-note` defines.
    #[error("not a signed note")]
    Malformed,
    /// No signature on the note is by the key.
    #[error("the note is not signed by the expected key")]
    NotSigned,
    /// A signature says that it is by the key, and is not.
    #[error("a signature on the note does not verify")]
    BadSignature,
    /// The text is not a checkpoint as `tlog-checkpoint` defines it.
    #[error("the note is not a checkpoint: its {0} is not valid")]
    NotACheckpoint(&'static str),
    /// The checkpoint's origin is not the name of the key.
    #[error("the checkpoint is of another log than the key")]
    OriginDiffers,
    /// The cryptographic library could not sign.
    #[error("the note could not be signed")]
    SigningFailed,
}

/// An Ed25519 key that signs notes under a name. `Debug` shows the name and the key hash; the seed is wiped
/// when the key is dropped.
pub struct SigningKey {
    public: VerifyingKey,
    seed: Zeroizing<[u8; 32]>,
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// The key with this name, which is the log's origin, and this secret seed (RFC 8032, section 5.1.5).
    ///
    /// # Errors
    /// [`KeyError::BadName`], or [`KeyError::NotEd25519`] if the cryptographic library refuses the seed.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyError::NotEd25519)?;
        let public_key = pair.public_key().as_ref().try_into().map_err(|_| KeyError::NotEd25519)?;
        let public = VerifyingKey::from_public_key(name, public_key)?;
        Ok(Self { public, seed: Zeroizing::new(*seed), pair })
    }

    /// Reads the form that [`SigningKey::encode`] writes.
    ///
    /// # Errors
    /// [`KeyError`] for any other text.
    pub fn parse(encoded: &str) -> Result<Self, KeyError> {
        let fields = encoded.strip_prefix(PRIVATE_PREFIX).ok_or(KeyError::Malformed)?;
        let (name, key_hash, seed) = split_key(fields, ED25519_TYPE)?;
        let key = Self::from_seed(name, &seed)?;
        if key.public.key_hash == key_hash { Ok(key) } else { Err(KeyError::HashDiffers) }
    }

    /// `PRIVATE+KEY+<name>+<key hash>+<base64 of 0x01 and the seed>`: a secret, wiped when dropped.
    pub fn encode(&self) -> Zeroizing<String> {
        encode_seed(self.name(), self.public.key_hash, ED25519_TYPE, &self.seed)
    }

    /// The name it signs under.
    pub fn name(&self) -> &str {
        &self.public.name
    }

    /// The key that verifies what this one signs.
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.public
    }

    /// The signed note over `text`.
    ///
    /// # Errors
    /// [`NoteError::Malformed`] if the text is empty, does not end with a line feed or has other control
    /// characters.
    pub(super) fn sign(&self, text: &str) -> Result<String, NoteError> {
        check_text(text)?;
        let signature = self.pair.try_sign(text.as_bytes()).map_err(|_| NoteError::SigningFailed)?;
        let line = signature_line(self.name(), self.public.key_hash, signature.as_ref());
        Ok(format!("{text}\n{line}"))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("name", &self.public.name)
            .field("key_hash", &HEXLOWER.encode(&self.public.key_hash))
            .finish_non_exhaustive()
    }
}

/// An Ed25519 public key that verifies notes signed under a name. It is public: `Display` and [`FromStr`] use
/// `<name>+<key hash, 8 hexadecimal digits>+<base64 of 0x01 and the key>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyingKey {
    name: String,
    key_hash: [u8; 4],
    public_key: [u8; 32],
}

impl VerifyingKey {
    /// The key with this name and these 32 bytes (RFC 8032, section 5.1.5).
    ///
    /// # Errors
    /// [`KeyError::BadName`].
    pub fn from_public_key(name: &str, public_key: [u8; 32]) -> Result<Self, KeyError> {
        if !is_key_name(name) {
            return Err(KeyError::BadName);
        }
        let key_hash = key_hash(name, ED25519_TYPE, &public_key);
        Ok(Self { name: name.to_owned(), key_hash, public_key })
    }

    /// The name that signatures by this key carry; for a log's key, the log's origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first four bytes, big-endian, of `SHA-256(name || 0x0A || 0x01 || public key)`: a hint which key
    /// signed.
    pub fn key_hash(&self) -> u32 {
        u32::from_be_bytes(self.key_hash)
    }

    /// The 32 bytes of the public key.
    pub fn public_key(&self) -> &[u8; 32] {
        &self.public_key
    }

    /// The text of a note that this key has signed. Signatures by others are not looked into, as
    /// `signed-note` asks.
    ///
    /// # Errors
    /// [`NoteError`] if the note is malformed, or not every signature said to be by this key verifies, or
    /// none is.
    pub(super) fn open<'note>(&self, note: &'note str) -> Result<&'note str, NoteError> {
        let Parts { text, signatures } = take_apart(note)?;
        let mut signed = false;
        for Signature { name, key_hash, signature, .. } in signatures {
            if name == self.name && key_hash == self.key_hash {
                UnparsedPublicKey::new(&ED25519, &self.public_key)
                    .verify(text.as_bytes(), &signature)
                    .map_err(|_| NoteError::BadSignature)?;
                signed = true;
            }
        }
        if signed { Ok(text) } else { Err(NoteError::NotSigned) }
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode_public(&self.name, self.key_hash, ED25519_TYPE, &self.public_key))
    }
}

impl FromStr for VerifyingKey {
    type Err = KeyError;

    fn from_str(encoded: &str) -> Result<Self, KeyError> {
        let (name, key_hash, public_key) = split_key(encoded, ED25519_TYPE)?;
        let key = Self::from_public_key(name, *public_key)?;
        if key.key_hash == key_hash { Ok(key) } else { Err(KeyError::HashDiffers) }
    }
}

/// A name that `signed-note` allows: not empty, no spaces, no plus signs. Control characters could break the
/// note's lines, so they are out too.
pub(super) fn is_key_name(name: &str) -> bool {
    let forbidden = |character: char| character == '+' || character.is_whitespace() || character.is_control();
    !name.is_empty() && !name.contains(forbidden)
}

/// The first four bytes of `SHA-256(name || 0x0A || type || public key)`: a hint which key signed.
pub(super) fn key_hash(name: &str, key_type: u8, public_key: &[u8; 32]) -> [u8; 4] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [name.as_bytes(), b"\n", &[key_type], public_key] {
        context.update(part);
    }
    let mut first = [0; 4];
    first.copy_from_slice(&context.finish().as_ref()[..4]);
    first
}

/// The fields of an encoded key: its name, the key hash, and the 32 bytes behind the type byte.
pub(super) type KeyFields<'text> = (&'text str, [u8; 4], Zeroizing<[u8; 32]>);

/// Takes an encoded key of this type apart; whether the hash is right is for the caller to check. Base64 has plus signs of
/// its own, so only the first two separate.
pub(super) fn split_key(fields: &str, key_type: u8) -> Result<KeyFields<'_>, KeyError> {
    let (name, rest) = fields.split_once('+').ok_or(KeyError::Malformed)?;
    let (hash, typed) = rest.split_once('+').ok_or(KeyError::Malformed)?;
    let hash = HEXLOWER.decode(hash.as_bytes()).map_err(|_| KeyError::Malformed)?;
    let hash = hash.try_into().map_err(|_| KeyError::Malformed)?;
    let mut typed = decode_base64(typed).ok_or(KeyError::Malformed)?;
    let mut key = Zeroizing::new([0; 32]);
    let is_ed25519 = typed.len() == 33 && typed[0] == key_type;
    if is_ed25519 {
        key.copy_from_slice(&typed[1..]);
    }
    typed.zeroize();
    if is_ed25519 { Ok((name, hash, key)) } else { Err(KeyError::NotEd25519) }
}

/// A secret key as text, wiped when dropped.
pub(super) fn encode_seed(name: &str, key_hash: [u8; 4], key_type: u8, seed: &[u8; 32]) -> Zeroizing<String> {
    let mut typed = Zeroizing::new([key_type; 33]);
    typed[1..].copy_from_slice(seed);
    let encoded_seed = Zeroizing::new(BASE64.encode(typed.as_slice()));
    let fields = [PRIVATE_PREFIX, name, "+", &HEXLOWER.encode(&key_hash), "+"];
    // With its final size from the start, it leaves no copy of the seed behind when it grows.
    let length = fields.iter().map(|field| field.len()).sum::<usize>() + encoded_seed.len();
    let mut encoded = Zeroizing::new(String::with_capacity(length));
    for field in fields {
        encoded.push_str(field);
    }
    encoded.push_str(&encoded_seed);
    encoded
}

/// A public key as text.
pub(super) fn encode_public(name: &str, key_hash: [u8; 4], key_type: u8, public_key: &[u8; 32]) -> String {
    let typed = [&[key_type], public_key.as_slice()].concat();
    format!("{name}+{}+{}", HEXLOWER.encode(&key_hash), BASE64.encode(&typed))
}

/// A signature line with its line feed.
pub(super) fn signature_line(name: &str, key_hash: [u8; 4], signature: &[u8]) -> String {
    let stamp = [&key_hash, signature].concat();
    format!("{SIGNATURE_PREFIX}{name} {}\n", BASE64.encode(&stamp))
}

/// A note taken apart; nothing in it is verified yet.
pub(super) struct Parts<'note> {
    /// What is signed, with its last line feed.
    pub(super) text: &'note str,
    pub(super) signatures: Vec<Signature<'note>>,
}

/// One signature line.
pub(super) struct Signature<'note> {
    /// The line itself, without its line feed.
    pub(super) line: &'note str,
    pub(super) name: &'note str,
    pub(super) key_hash: [u8; 4],
    /// What stands behind the key hash.
    pub(super) signature: Vec<u8>,
}

/// Takes a note apart.
///
/// # Errors
/// [`NoteError::Malformed`].
pub(super) fn take_apart(note: &str) -> Result<Parts<'_>, NoteError> {
    if note.len() > MAX_NOTE_BYTES {
        return Err(NoteError::Malformed);
    }
    let (before, signatures) = note.rsplit_once("\n\n").ok_or(NoteError::Malformed)?;
    let text = &note[..=before.len()];
    check_text(text)?;
    let lines: Vec<&str> = signatures
        .strip_suffix('\n')
        .ok_or(NoteError::Malformed)?
        .split('\n')
        .take(MAX_SIGNATURES + 1)
        .collect();
    if lines.len() > MAX_SIGNATURES {
        return Err(NoteError::Malformed);
    }
    let signatures = lines.into_iter().map(split_signature).collect::<Result<_, _>>()?;
    Ok(Parts { text, signatures })
}

/// A note's text: not empty, whole lines, no control characters in them.
fn check_text(text: &str) -> Result<(), NoteError> {
    let is_text = text.ends_with('\n') && !text.contains(|byte: char| byte < ' ' && byte != '\n');
    if is_text { Ok(()) } else { Err(NoteError::Malformed) }
}

fn split_signature(line: &str) -> Result<Signature<'_>, NoteError> {
    let fields = line.strip_prefix(SIGNATURE_PREFIX).ok_or(NoteError::Malformed)?;
    let (name, encoded) = fields.split_once(' ').ok_or(NoteError::Malformed)?;
    let stamp = decode_base64(encoded).ok_or(NoteError::Malformed)?;
    match stamp.split_first_chunk::<4>() {
        Some((key_hash, signature)) if is_key_name(name) && !signature.is_empty() => {
            Ok(Signature { line, name, key_hash: *key_hash, signature: signature.to_vec() })
        }
        _ => Err(NoteError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const KNOWN_TEXT: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n";
    const KNOWN_SIGNATURE: &str = "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    fn known_note() -> String {
        format!("{KNOWN_TEXT}\n{KNOWN_SIGNATURE}")
    }

    #[test]
    fn the_note_published_with_the_go_package_opens() {
        let key: VerifyingKey = KNOWN_KEY.parse().unwrap();
        assert_eq!(key.open(&known_note()), Ok(KNOWN_TEXT));
        assert_eq!(key.to_string(), KNOWN_KEY);
        assert_eq!(key.key_hash(), 0xc74f_20a3);
    }

    #[test]
    fn a_note_with_any_byte_changed_does_not_open() {
        let key: VerifyingKey = KNOWN_KEY.parse().unwrap();
        let note = known_note();
        for position in 0..note.len() {
            let mut bytes = note.clone().into_bytes();
            bytes[position] ^= 1;
            if let Ok(changed) = String::from_utf8(bytes) {
                assert!(key.open(&changed).is_err(), "byte {position}");
            }
        }
    }

    #[test]
    fn signatures_by_others_are_ignored_and_a_false_one_by_us_is_not() {
        let key: VerifyingKey = KNOWN_KEY.parse().unwrap();
        let other = SigningKey::from_seed("witness.example", &[7; 32]).unwrap();
        let theirs = other.sign(KNOWN_TEXT).unwrap();
        assert_eq!(key.open(&theirs), Err(NoteError::NotSigned));
        assert_eq!(key.open(&format!("{theirs}{KNOWN_SIGNATURE}")), Ok(KNOWN_TEXT));
        assert_eq!(key.open(&format!("{}\u{2014} odd AAAAAAA=\n", known_note())), Ok(KNOWN_TEXT));
        let namesake = SigningKey::from_seed("PeterNeumann", &[7; 32]).unwrap().sign(KNOWN_TEXT).unwrap();
        assert_eq!(key.open(&namesake), Err(NoteError::NotSigned));
        let stamp = [[0xc7, 0x4f, 0x20, 0xa3].as_slice(), &[0; 64]].concat();
        let false_line = format!("\u{2014} PeterNeumann {}\n", BASE64.encode(&stamp));
        assert_eq!(key.open(&format!("{}{false_line}", known_note())), Err(NoteError::BadSignature));
    }

    #[test]
    fn what_is_not_a_note_is_refused() {
        let key: VerifyingKey = KNOWN_KEY.parse().unwrap();
        let note = known_note();
        for malformed in [
            "".to_owned(),
            "\n\n".to_owned(),
            KNOWN_TEXT.to_owned(),
            format!("{KNOWN_TEXT}\n"),
            note.trim_end().to_owned(),
            format!("{note}\n"),
            format!("{note}trailing\n"),
            format!("{note}\u{2014} no-signature\n"),
            format!("{note}\u{2014} short AAAAAA==\n"),
            format!("{note}\u{2014} twice AAAAAAA=AAAA\n"),
            format!("{note}- PeterNeumann AAAAAAA=\n"),
            note.replace('\n', "\r\n"),
            format!("{note}{}", "\u{2014} odd AAAAAAA=\n".repeat(100)),
        ] {
            assert_eq!(key.open(&malformed), Err(NoteError::Malformed), "{malformed:?}");
        }
    }

    #[test]
    fn a_signing_key_survives_encoding_and_shows_no_secret() {
        let key = SigningKey::from_seed("log.example/audit", &[0xab; 32]).unwrap();
        let encoded = key.encode();
        assert!(encoded.starts_with("PRIVATE+KEY+log.example/audit+"));
        let again = SigningKey::parse(&encoded).unwrap();
        assert_eq!(again.verifying_key(), key.verifying_key());
        assert_eq!(again.encode(), encoded);
        let shown = format!("{key:?}");
        assert!(shown.contains("log.example/audit"));
        assert!(!shown.contains(encoded.rsplit_once('+').unwrap().1));
        assert!(!shown.contains("171"));
    }

    #[test]
    fn keys_that_are_not_what_they_say_are_refused() {
        let parse = |text: &str| text.parse::<VerifyingKey>().unwrap_err();
        assert_eq!(parse("PeterNeumann"), KeyError::Malformed);
        assert_eq!(parse(&KNOWN_KEY.replace("c74f20a3", "C74F20A3")), KeyError::Malformed);
        assert_eq!(parse(&KNOWN_KEY.replace("c74f20a3", "c74f20a4")), KeyError::HashDiffers);
        assert_eq!(parse(&KNOWN_KEY.replace("Neumann", "Norvig")), KeyError::HashDiffers);
        assert_eq!(parse(&KNOWN_KEY.replace("+AR", "+AxR")), KeyError::Malformed);
        assert_eq!(parse(&KNOWN_KEY.replace("+AR", "+BR")), KeyError::NotEd25519);
        for name in ["", "two words", "tab\tbed", "wide\u{3000}space", "a+b", "line\nfeed", "nul\0"] {
            assert_eq!(SigningKey::from_seed(name, &[1; 32]).unwrap_err(), KeyError::BadName, "{name:?}");
        }
        let encoded = SigningKey::from_seed("log", &[1; 32]).unwrap().encode();
        assert_eq!(SigningKey::parse(&encoded[8..]).unwrap_err(), KeyError::Malformed);
        assert_eq!(SigningKey::parse(&encoded.replace("+log+", "+lot+")).unwrap_err(), KeyError::HashDiffers);
    }
}
