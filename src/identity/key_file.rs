//! Files that hold a secret key: only their owner may read them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// Writes a new key file with its final mode, 0600: a file that is restricted afterwards was readable for a
/// moment. Never overwrites.
///
/// # Errors
/// When the file is there already or cannot be written.
pub fn create(path: &Path, content: &(impl AsRef<[u8]> + ?Sized)) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(content.as_ref())?;
    file.sync_all()
}

/// Puts new content in the place of a key file, whole at once; its mode is 0600.
///
/// # Errors
/// When it cannot be written.
pub fn replace(path: &Path, content: &(impl AsRef<[u8]> + ?Sized)) -> io::Result<()> {
    let new = path.with_extension("new");
    create(&new, content)?;
    fs::rename(&new, path)?;
    // The name too must outlive a power cut.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// The permission bits, if others than the owner can read or write the file. A credential of systemd's may be open to a
/// group: access lists show so, by which the service alone is let at it, and its folder is closed.
///
/// # Errors
/// When the file is not there.
#[cfg(unix)]
pub fn open_to_others(path: &Path) -> io::Result<Option<u32>> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    let closed = if is_credential(path) { 0o027 } else { 0o077 };
    Ok((mode & closed != 0).then_some(mode))
}

fn is_credential(path: &Path) -> bool {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty());
    folder.is_some_and(|folder| path.starts_with(folder))
}

/// Elsewhere than on Unix, access is not a matter of mode bits.
///
/// # Errors
/// When the file is not there.
#[cfg(not(unix))]
pub fn open_to_others(path: &Path) -> io::Result<Option<u32>> {
    fs::metadata(path).map(|_| None)
}
