//! A key with its certificates as one PKCS #12 file (RFC 7292), as Java and Windows keep them.
//!
//! Written with what Java 8u301, OpenSSL 1.1.1 and newer read: PBES2 with PBKDF2-HMAC-SHA-256 and AES-256-CBC (RFC 8018),
//! and a MAC of HMAC-SHA-256. There is no crate for this in the tree, and those that there are bring a second
//! implementation of each cipher; writing the format is this file.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{AES_256, DecryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::digest::{self, SHA256};
use aws_lc_rs::{hmac, pbkdf2};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use yasna::models::ObjectIdentifier;
use yasna::{DERWriter, DERWriterSeq, Tag, construct_der};
use zeroize::Zeroizing;

use crate::entropy;

/// As OpenSSL and Java choose for such files, and more.
const ITERATIONS: u32 = 100_000;

const DATA: &[u64] = &[1, 2, 840, 113549, 1, 7, 1];
const ENCRYPTED_DATA: &[u64] = &[1, 2, 840, 113549, 1, 7, 6];
const SHROUDED_KEY_BAG: &[u64] = &[1, 2, 840, 113549, 1, 12, 10, 1, 2];
const CERTIFICATE_BAG: &[u64] = &[1, 2, 840, 113549, 1, 12, 10, 1, 3];
const X509_CERTIFICATE: &[u64] = &[1, 2, 840, 113549, 1, 9, 22, 1];
const FRIENDLY_NAME: &[u64] = &[1, 2, 840, 113549, 1, 9, 20];
const LOCAL_KEY_ID: &[u64] = &[1, 2, 840, 113549, 1, 9, 21];
/// Oracle's: Java takes a certificate for trusted only if it says for what.
const TRUSTED_KEY_USAGE: &[u64] = &[2, 16, 840, 1, 113894, 746875, 1, 1];
const ANY_EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37, 0];
const PBES2: &[u64] = &[1, 2, 840, 113549, 1, 5, 13];
const PBKDF2: &[u64] = &[1, 2, 840, 113549, 1, 5, 12];
const HMAC_SHA256: &[u64] = &[1, 2, 840, 113549, 2, 9];
const AES_256_CBC: &[u64] = &[2, 16, 840, 1, 101, 3, 4, 1, 42];
const SHA_256: &[u64] = &[2, 16, 840, 1, 101, 3, 4, 2, 1];

/// What goes into the file.
pub struct KeyStore {
    /// Names the key.
    pub alias: String,
    key: Zeroizing<Vec<u8>>,
    chain: Vec<CertificateDer<'static>>,
    trusted: Vec<CertificateDer<'static>>,
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum KeyStoreError {
    /// A PEM text does not hold what it should.
    #[error("there is no {0} in the PEM text")]
    Holds(&'static str),
    /// The key is not PKCS #8.
    #[error(
        "the private key must be in PKCS #8 (BEGIN PRIVATE KEY): convert it with `openssl pkcs8 -topk8 -nocrypt`"
    )]
    NotPkcs8,
    /// The password protects nothing, or cannot be typed everywhere.
    #[error("the password must have 8 characters at least, all of them of ASCII and printable")]
    Password,
    /// The cipher failed.
    #[error("the key cannot be encrypted")]
    Cipher,
}

impl KeyStore {
    /// A key with its certificate chain, and the authorities to be trusted; all PEM.
    ///
    /// # Errors
    /// When a text does not hold what it should.
    pub fn from_pem(alias: &str, chain: &[u8], key: &[u8], trusted: &[u8]) -> Result<Self, KeyStoreError> {
        let certificates = |pem: &[u8]| {
            let read = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().ok();
            read.filter(|read| !read.is_empty()).ok_or(KeyStoreError::Holds("certificate"))
        };
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| KeyStoreError::Holds("private key"))?;
        let PrivateKeyDer::Pkcs8(key) = key else { return Err(KeyStoreError::NotPkcs8) };
        Ok(Self {
            alias: alias.to_owned(),
            key: Zeroizing::new(key.secret_pkcs8_der().to_vec()),
            chain: certificates(chain)?,
            trusted: if trusted.is_empty() { Vec::new() } else { certificates(trusted)? },
        })
    }

    /// The file's bytes (DER).
    ///
    /// # Errors
    /// When the password is too weak to protect anything.
    pub fn seal(&self, password: &str) -> Result<Vec<u8>, KeyStoreError> {
        if password.len() < 8 || !password.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(KeyStoreError::Password);
        }
        let key_bags = self.key_bags(password)?;
        let certificate_bags = Encrypted::new(password, &self.certificate_bags())?;
        let safe = construct_der(|writer| {
            writer.write_sequence(|writer| {
                write_data(writer.next(), &key_bags);
                certificate_bags.write(writer.next());
            });
        });
        let salt = entropy::bytes::<16>();
        let mac_key = mac_key(password, &salt, ITERATIONS);
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, mac_key.as_ref()), &safe);
        Ok(construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_u8(3);
                write_data(writer.next(), &safe);
                writer.next().write_sequence(|writer| {
                    writer.next().write_sequence(|writer| {
                        write_algorithm(writer.next(), SHA_256, |writer| writer.next().write_null());
                        writer.next().write_bytes(mac.as_ref());
                    });
                    writer.next().write_bytes(&salt);
                    writer.next().write_u32(ITERATIONS);
                });
            });
        }))
    }

    fn key_bags(&self, password: &str) -> Result<Vec<u8>, KeyStoreError> {
        let key = Encrypted::new(password, &self.key)?;
        Ok(construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_sequence(|writer| {
                    writer.next().write_oid(&oid(SHROUDED_KEY_BAG));
                    writer.next().write_tagged(Tag::context(0), |writer| {
                        writer.write_sequence(|writer| {
                            key.write_algorithm(writer.next());
                            writer.next().write_bytes(&key.bytes);
                        });
                    });
                    self.write_attributes(writer.next());
                });
            });
        }))
    }

    fn certificate_bags(&self) -> Vec<u8> {
        construct_der(|writer| {
            writer.write_sequence(|writer| {
                for (place, certificate) in self.chain.iter().enumerate() {
                    write_certificate_bag(writer, certificate, |writer| {
                        if place == 0 {
                            self.write_attributes(writer.next());
                        }
                    });
                }
                for (place, certificate) in self.trusted.iter().enumerate() {
                    write_certificate_bag(writer, certificate, |writer| {
                        writer.next().write_set(|writer| {
                            write_attribute(writer.next(), FRIENDLY_NAME, |writer| {
                                writer.write_bmp_string(&trusted_name(certificate, place));
                            });
                            write_attribute(writer.next(), TRUSTED_KEY_USAGE, |writer| {
                                writer.write_oid(&oid(ANY_EXTENDED_KEY_USAGE));
                            });
                        });
                    });
                }
            });
        })
    }

    /// Those that say which certificate is the key's, and what both are called.
    fn write_attributes(&self, writer: DERWriter<'_>) {
        let id = digest::digest(&SHA256, &self.chain[0]);
        writer.write_set(|writer| {
            write_attribute(writer.next(), FRIENDLY_NAME, |writer| writer.write_bmp_string(&self.alias));
            write_attribute(writer.next(), LOCAL_KEY_ID, |writer| writer.write_bytes(id.as_ref()));
        });
    }
}

/// Encrypted by a password (PBES2).
struct Encrypted {
    salt: [u8; 16],
    initial: Vec<u8>,
    bytes: Vec<u8>,
}

impl Encrypted {
    fn new(password: &str, clear: &[u8]) -> Result<Self, KeyStoreError> {
        let salt = entropy::bytes::<16>();
        let mut key = Zeroizing::new([0; 32]);
        let iterations = NonZeroU32::new(ITERATIONS).ok_or(KeyStoreError::Cipher)?;
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password.as_bytes(), key.as_mut());
        let failed = |_| KeyStoreError::Cipher;
        let key = UnboundCipherKey::new(&AES_256, key.as_ref()).map_err(failed)?;
        let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).map_err(failed)?;
        let mut bytes = clear.to_vec();
        let DecryptionContext::Iv128(initial) = key.encrypt(&mut bytes).map_err(failed)? else {
            return Err(KeyStoreError::Cipher);
        };
        let initial: &[u8] = initial.as_ref();
        Ok(Self { salt, initial: initial.to_vec(), bytes })
    }

    /// As an `EncryptedData` content of a safe (RFC 7292 section 4, RFC 5652 section 8).
    fn write(&self, writer: DERWriter<'_>) {
        writer.write_sequence(|writer| {
            writer.next().write_oid(&oid(ENCRYPTED_DATA));
            writer.next().write_tagged(Tag::context(0), |writer| {
                writer.write_sequence(|writer| {
                    writer.next().write_u8(0);
                    writer.next().write_sequence(|writer| {
                        writer.next().write_oid(&oid(DATA));
                        self.write_algorithm(writer.next());
                        let content = writer.next();
                        content
                            .write_tagged_implicit(Tag::context(0), |writer| writer.write_bytes(&self.bytes));
                    });
                });
            });
        });
    }

    fn write_algorithm(&self, writer: DERWriter<'_>) {
        write_algorithm(writer, PBES2, |writer| {
            writer.next().write_sequence(|writer| {
                write_algorithm(writer.next(), PBKDF2, |writer| {
                    writer.next().write_sequence(|writer| {
                        writer.next().write_bytes(&self.salt);
                        writer.next().write_u32(ITERATIONS);
                        write_algorithm(writer.next(), HMAC_SHA256, |writer| writer.next().write_null());
                    });
                });
                write_algorithm(writer.next(), AES_256_CBC, |writer| {
                    writer.next().write_bytes(&self.initial);
                });
            });
        });
    }
}

fn write_algorithm(writer: DERWriter<'_>, algorithm: &[u64], parameters: impl FnOnce(&mut DERWriterSeq<'_>)) {
    writer.write_sequence(|writer| {
        writer.next().write_oid(&oid(algorithm));
        parameters(writer);
    });
}

fn write_data(writer: DERWriter<'_>, bytes: &[u8]) {
    writer.write_sequence(|writer| {
        writer.next().write_oid(&oid(DATA));
        writer.next().write_tagged(Tag::context(0), |writer| writer.write_bytes(bytes));
    });
}

fn write_certificate_bag(
    writer: &mut DERWriterSeq<'_>,
    certificate: &[u8],
    attributes: impl FnOnce(&mut DERWriterSeq<'_>),
) {
    writer.next().write_sequence(|writer| {
        writer.next().write_oid(&oid(CERTIFICATE_BAG));
        writer.next().write_tagged(Tag::context(0), |writer| {
            writer.write_sequence(|writer| {
                writer.next().write_oid(&oid(X509_CERTIFICATE));
                writer.next().write_tagged(Tag::context(0), |writer| writer.write_bytes(certificate));
            });
        });
        attributes(writer);
    });
}

fn write_attribute(writer: DERWriter<'_>, name: &[u64], value: impl FnOnce(DERWriter<'_>)) {
    writer.write_sequence(|writer| {
        writer.next().write_oid(&oid(name));
        writer.next().write_set(|writer| value(writer.next()));
    });
}

fn trusted_name(certificate: &[u8], place: usize) -> String {
    let parsed = X509Certificate::from_der(certificate).ok();
    let name = parsed.and_then(|(_, parsed)| {
        let mut names = parsed.subject().iter_common_name();
        names.next().and_then(|name| name.as_str().ok().map(str::to_owned))
    });
    name.unwrap_or_else(|| format!("authority {}", place + 1))
}

fn oid(components: &[u64]) -> ObjectIdentifier {
    ObjectIdentifier::from_slice(components)
}

/// The key of the MAC: RFC 7292 appendix B.2 with SHA-256 (blocks of 64 bytes), purpose 3, for the 32 bytes that one round
/// gives.
fn mac_key(password: &str, salt: &[u8], iterations: u32) -> Zeroizing<[u8; 32]> {
    const BLOCK: usize = 64;
    const PURPOSE: u8 = 3;
    // As UTF-16, big end first, with its closing zero (B.1).
    let units = password.encode_utf16().chain([0]).flat_map(u16::to_be_bytes);
    let password = Zeroizing::new(units.collect::<Vec<u8>>());
    let filled = |text: &[u8]| -> Vec<u8> {
        text.iter().copied().cycle().take(text.len().div_ceil(BLOCK) * BLOCK).collect()
    };
    let mut input = Zeroizing::new(vec![PURPOSE; BLOCK]);
    input.extend(filled(salt));
    input.extend(Zeroizing::new(filled(&password)).iter());
    let mut hash = Zeroizing::new([0; 32]);
    hash.copy_from_slice(digest::digest(&SHA256, &input).as_ref());
    for _ in 1..iterations {
        let next = digest::digest(&SHA256, hash.as_ref());
        hash.copy_from_slice(next.as_ref());
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with Python's `hashlib` by the steps of RFC 7292 appendix B.2.
    #[test]
    fn the_macs_key_is_that_of_the_rfc() {
        let key = mac_key("smeg-and-more", &[0x0a, 0x58, 0xcf, 0x64, 0x53, 0x0d, 0x82, 0x3f], 3);
        assert_eq!(
            data_encoding::HEXLOWER.encode(key.as_ref()),
            "007347cf93ac28cf59eaa4a6d67538180fdcac50d289d26b86ee78e2f0f2b5e0"
        );
    }
}
