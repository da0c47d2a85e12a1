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
//! `String::from_utf8_lossy` would give two files one record.

use std::fmt::Write as _;
use std::path::Path;

/// The most bytes that a key has here. The system opens no path of more than 4,096
/// bytes, of which each may take three; an index puts 65 more in front.
pub(crate) const KEY_BYTES_MAX: usize = 16 * 1024;

/// The key of a path.
pub(crate) fn key_of(path: &Path) -> String {
    escape(path.as_os_str().as_encoded_bytes())
}

/// The key of a path's extension, and "" where it has none. The dot keeps `a.`,
/// whose extension is empty, apart from `a`. Case counts: `.C` is not `.c`.
pub(crate) fn extension_of(path: &Path) -> String {
    let extension = path.extension();
    extension.map_or_else(String::new, |e| {
        format!(".{}", escape(e.as_encoded_bytes()))
    })
}

fn escape(bytes: &[u8]) -> String {
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
    key
}

fn put_escaped(key: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(key, "%{byte:02X}");
    }
}
