//! Owns how paths become keys.
//!
//! A key is a `str`, a path is bytes. What must stay true: two different paths
//! have two different keys, and a key has no line break in it, so that a report
//! of one path a line is what it seems.
//!
//! ```text
//! key := the path, in which
//!        "%", control characters, and bytes that are not UTF-8
//!        are written as %XX each byte, in capitals
//! ```
//!
//! `String::from_utf8_lossy` would give two files one record. A key can be read back: it
//! is all that is kept of a path.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The most bytes that a key has here. The system opens no path of more than 4,096
/// bytes, of which each may take three; an index puts 65 more in front.
pub(crate) const KEY_BYTES_MAX: usize = 16 * 1024;

/// The key of a path.
pub(crate) fn key_of(path: &Path) -> Cow<'_, str> {
    escape(path.as_os_str().as_encoded_bytes())
}

/// The path of a key; `None` where no path has this key.
pub(crate) fn path_of(key: &str) -> Option<PathBuf> {
    let mut bytes = Vec::with_capacity(key.len());
    let mut parts = key.split('%');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        let (escaped, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(escaped, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    Some(os_string(bytes)?.into())
}

#[cfg(unix)]
fn os_string(bytes: Vec<u8>) -> Option<OsString> {
    Some(std::os::unix::ffi::OsStringExt::from_vec(bytes))
}

/// Elsewhere a name that is not Unicode cannot be made from bytes.
#[cfg(not(unix))]
fn os_string(bytes: Vec<u8>) -> Option<OsString> {
    String::from_utf8(bytes).ok().map(OsString::from)
}

/// The key of a path's extension, and "" where it has none. The dot keeps `a.`,
/// whose extension is empty, apart from `a`. Case counts: `.C` is not `.c`.
pub(crate) fn extension_of(path: &Path) -> String {
    let extension = path.extension();
    extension.map_or_else(String::new, |e| {
        format!(".{}", escape(e.as_encoded_bytes()))
    })
}

fn escape(bytes: &[u8]) -> Cow<'_, str> {
    // Most names; all are looked at again and again to be sorted.
    let plain = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'%';
    if let Some(text) = str::from_utf8(bytes)
        .ok()
        .filter(|_| bytes.iter().all(plain))
    {
        return text.into();
    }
    let mut key = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c == '%' || c.is_control() {
                true => put_escaped(&mut key, c.encode_utf8(&mut [0; 4]).as_bytes()),
                false => key.push(c),
            }
        }
        put_escaped(&mut key, chunk.invalid());
    }
    key.into()
}

fn put_escaped(key: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(key, "%{byte:02X}");
    }
}
