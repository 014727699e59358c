//! Files that hold a secret key: only their owner may read them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// Writes a new key file with its final mode, 0600: a file that is restricted afterwards was readable for a
/// moment. Never overwrites.
///
/// # Errors
/// When the file is there already or cannot be written.
pub fn create(path: &Path, content: impl AsRef<[u8]>) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(content.as_ref())?;
    file.sync_all()
}

/// The permission bits, if others than the owner can read or write the file.
///
/// # Errors
/// When the file is not there.
#[cfg(unix)]
pub fn open_to_others(path: &Path) -> io::Result<Option<u32>> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    Ok((mode & 0o077 != 0).then_some(mode))
}

/// Elsewhere than on Unix, access is not a matter of mode bits.
///
/// # Errors
/// When the file is not there.
#[cfg(not(unix))]
pub fn open_to_others(path: &Path) -> io::Result<Option<u32>> {
    fs::metadata(path).map(|_| None)
}
