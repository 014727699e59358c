//! The bundle's container: a ZIP file of the plainest kind (PKWARE APPNOTE 6.3.10).
//!
//! General ZIP readers differ on duplicate names, on bytes between the members, and on which of a member's two headers
//! they believe: two people may open one file and see different things. Evidence must read the same for everybody. So
//! there is exactly one container for a set of files, with stored members in the order of their names and fixed times,
//! and whatever is not byte for byte that container is refused. Every unpacking program opens it.

use std::collections::BTreeMap;

/// Files by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Most files in a bundle: what a ZIP file can count.
pub const MOST_FILES: usize = 65_535;

/// Most bytes of a bundle.
pub const MOST_BYTES: usize = 512 * 1024 * 1024;

const MEMBER: [u8; 4] = *b"PK\x03\x04";
const DIRECTORY: [u8; 4] = *b"PK\x01\x02";
const END: [u8; 4] = *b"PK\x05\x06";

/// Bytes of a member's header before its name.
const MEMBER_HEADER: usize = 30;

/// Made by version 2.0 on a system with Unix permissions.
const MADE_BY: u16 = 3 << 8 | 20;

/// A plain file that all may read, as Unix says it.
const PERMISSIONS: u32 = 0o100_644 << 16;

/// The first day that the format can name, 1980-01-01, at midnight: when a file was packed proves nothing.
const DAY: u16 = 0x0021;

/// Why a container was not made or not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContainerError {
    /// It has too many files or bytes.
    #[error("more than {MOST_FILES} files or {MOST_BYTES} bytes")]
    TooLarge,
    /// It does not begin like a ZIP file, or ends too soon.
    #[error("not a zip file, or cut off")]
    NotZip,
    /// A name leads outside, or is not plain.
    #[error("the name of a file in it is not plain")]
    BadName,
    /// A name stands in it twice.
    #[error("{0} is in it twice")]
    Twice(String),
    /// A file is compressed or encrypted.
    #[error("{0} is compressed or encrypted; the bundle was packed again by another program")]
    Packed(String),
    /// The bytes of a file are not those that were packed.
    #[error("the bytes of {0} are damaged")]
    Damaged(String),
    /// Something else differs from the one container that these files have.
    #[error("the zip file was packed again, or holds something beside its files")]
    NotAsWritten,
}

/// Whether bytes begin like a container.
pub fn is_container(begin: &[u8]) -> bool {
    begin.starts_with(&MEMBER)
}

/// The container of these files.
///
/// # Errors
/// [`ContainerError::BadName`] or [`ContainerError::TooLarge`].
pub fn write(files: &Files) -> Result<Vec<u8>, ContainerError> {
    let bytes: usize = files.iter().map(|(name, content)| content.len() + 2 * name.len() + 100).sum();
    let count = u16::try_from(files.len()).ok().filter(|_| bytes < MOST_BYTES);
    let count = count.ok_or(ContainerError::TooLarge)?;
    let (mut members, mut directory) = (Vec::with_capacity(bytes), Vec::new());
    for (name, content) in files {
        if !is_plain(name) {
            return Err(ContainerError::BadName);
        }
        let offset = small(members.len())?;
        let header = Header { sum: crc32(content), size: small(content.len())?, name };
        members.extend_from_slice(&MEMBER);
        header.write(&mut members)?;
        members.extend_from_slice(name.as_bytes());
        members.extend_from_slice(content);
        directory.extend_from_slice(&DIRECTORY);
        directory.extend_from_slice(&MADE_BY.to_le_bytes());
        header.write(&mut directory)?;
        // No comment, the first disk, no internal attributes.
        directory.extend_from_slice(&[0; 6]);
        directory.extend_from_slice(&PERMISSIONS.to_le_bytes());
        directory.extend_from_slice(&offset.to_le_bytes());
        directory.extend_from_slice(name.as_bytes());
    }
    let (offset, length) = (small(members.len())?, small(directory.len())?);
    members.append(&mut directory);
    members.extend_from_slice(&END);
    members.extend_from_slice(&[0; 4]);
    members.extend_from_slice(&count.to_le_bytes());
    members.extend_from_slice(&count.to_le_bytes());
    members.extend_from_slice(&length.to_le_bytes());
    members.extend_from_slice(&offset.to_le_bytes());
    members.extend_from_slice(&[0; 2]);
    Ok(members)
}

/// The files of a container.
///
/// # Errors
/// [`ContainerError`] for everything that [`write()`] would not have written.
pub fn read(bytes: &[u8]) -> Result<Files, ContainerError> {
    if bytes.len() > MOST_BYTES {
        return Err(ContainerError::TooLarge);
    }
    let mut files = Files::new();
    let mut rest = bytes;
    while rest.starts_with(&MEMBER) {
        let (header, behind) = rest.split_at_checked(MEMBER_HEADER).ok_or(ContainerError::NotZip)?;
        let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let name = behind.split_at_checked(half(26).into());
        let (name, behind) = name.ok_or(ContainerError::NotZip)?;
        let name = std::str::from_utf8(name).map_err(|_| ContainerError::BadName)?;
        if !is_plain(name) {
            return Err(ContainerError::BadName);
        }
        let (flags, method, extra) = (half(6), half(8), half(28));
        if flags != 0 || method != 0 || extra != 0 || word(18) != word(22) {
            return Err(ContainerError::Packed(name.to_owned()));
        }
        let size = usize::try_from(word(22)).map_err(|_| ContainerError::NotZip)?;
        let (content, behind) = behind.split_at_checked(size).ok_or(ContainerError::NotZip)?;
        if crc32(content) != word(14) {
            return Err(ContainerError::Damaged(name.to_owned()));
        }
        if files.len() == MOST_FILES {
            return Err(ContainerError::TooLarge);
        }
        if files.insert(name.to_owned(), content.to_vec()).is_some() {
            return Err(ContainerError::Twice(name.to_owned()));
        }
        rest = behind;
    }
    if files.is_empty() {
        return Err(ContainerError::NotZip);
    }
    if write(&files)? == bytes { Ok(files) } else { Err(ContainerError::NotAsWritten) }
}

/// What a member's two headers have in common.
struct Header<'a> {
    sum: u32,
    size: u32,
    name: &'a str,
}

impl Header<'_> {
    fn write(&self, to: &mut Vec<u8>) -> Result<(), ContainerError> {
        let name = u16::try_from(self.name.len()).map_err(|_| ContainerError::BadName)?;
        // Needs version 1.0; no flags; stored; midnight.
        for half in [10, 0, 0, 0, DAY] {
            to.extend_from_slice(&u16::to_le_bytes(half));
        }
        for word in [self.sum, self.size, self.size] {
            to.extend_from_slice(&word.to_le_bytes());
        }
        to.extend_from_slice(&name.to_le_bytes());
        to.extend_from_slice(&[0; 2]);
        Ok(())
    }
}

/// A name that means the same everywhere: at most two parts of letters, digits, dots and hyphens, none of which begins
/// with a dot.
fn is_plain(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
    };
    name.len() <= 100 && name.split('/').count() <= 2 && name.split('/').all(is_part)
}

fn small(number: usize) -> Result<u32, ContainerError> {
    u32::try_from(number).map_err(|_| ContainerError::TooLarge)
}

/// The checksum of ZIP files (APPNOTE 4.4.7): the polynomial 0x04C11DB7, bits reversed.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut at = 0;
        while at < 256 {
            let (mut rest, mut bit) = (at as u32, 0);
            while bit < 8 {
                rest = (rest >> 1) ^ (0xEDB8_8320 * (rest & 1));
                bit += 1;
            }
            table[at] = rest;
            at += 1;
        }
        table
    };
    !bytes.iter().fold(u32::MAX, |sum, byte| TABLE[usize::from(sum as u8 ^ byte)] ^ (sum >> 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Files {
        let named = [("README.txt", "read me"), ("entries/7.json", "{}"), ("proofs/7.tlog-proof", "")];
        named.map(|(name, content)| (name.to_owned(), content.as_bytes().to_vec())).into()
    }

    #[test]
    fn a_container_gives_its_files_back_and_is_the_same_every_time() {
        let bytes = write(&files()).unwrap();
        assert_eq!(read(&bytes).unwrap(), files());
        assert_eq!(write(&files()).unwrap(), bytes);
        assert!(is_container(&bytes));
    }

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn a_container_with_any_byte_changed_cut_off_or_added_is_refused() {
        let bytes = write(&files()).unwrap();
        for position in 0..bytes.len() {
            for change in [0x01, 0x20, 0x80] {
                let mut changed = bytes.clone();
                changed[position] ^= change;
                assert!(read(&changed).is_err(), "byte {position}");
            }
            assert!(read(&bytes[..position]).is_err(), "{position} bytes");
        }
        let more = [bytes.as_slice(), b"\0"].concat();
        assert_eq!(read(&more), Err(ContainerError::NotAsWritten));
        let before = [b"\0", bytes.as_slice()].concat();
        assert_eq!(read(&before), Err(ContainerError::NotZip));
    }

    #[test]
    fn a_name_twice_and_a_name_outside_are_refused() {
        let member = |name: &str, content: &[u8]| {
            let mut bytes = MEMBER.to_vec();
            let header = Header { sum: crc32(content), size: content.len() as u32, name };
            header.write(&mut bytes).unwrap();
            [bytes.as_slice(), name.as_bytes(), content].concat()
        };
        let twice = [member("a", b"1"), member("a", b"2")].concat();
        assert_eq!(read(&twice), Err(ContainerError::Twice("a".to_owned())));
        for name in ["../a", "/a", "a//b", "a/b/c", "a\\b", ".a", "a/..", "", "a\n", "甲"] {
            assert_eq!(read(&member(name, b"")), Err(ContainerError::BadName), "{name:?}");
            assert!(write(&Files::from([(name.to_owned(), Vec::new())])).is_err());
        }
    }

    #[test]
    fn a_compressed_member_is_not_unpacked() {
        let mut bytes = write(&files()).unwrap();
        bytes[8] = 8;
        assert_eq!(read(&bytes), Err(ContainerError::Packed("README.txt".to_owned())));
        // Nor one that says that it is larger unpacked.
        let mut bytes = write(&files()).unwrap();
        bytes[22..26].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(read(&bytes), Err(ContainerError::Packed("README.txt".to_owned())));
    }
}
