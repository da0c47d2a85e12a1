//! Owns how a key is held in memory: a short one in place, where comparing it costs no
//! look elsewhere, and a long one shared.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// So many bytes are held in place: what makes it no larger than three words.
const SHORT: usize = 22;

/// The bytes of a key; cheap to clone.
#[derive(Clone)]
pub(crate) enum SmallKey {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Arc<[u8]>),
}

impl SmallKey {
    /// A key that is short enough to be held in place.
    #[inline]
    pub(crate) fn short(key: &[u8]) -> Option<Self> {
        (key.len() <= SHORT).then(|| Self::from(key))
    }

    /// What stands in both, one after the other.
    #[inline]
    pub(crate) fn joined(start: &[u8], rest: &[u8]) -> Self {
        let len = start.len() + rest.len();
        let mut bytes = [0; SHORT];
        match bytes.get_mut(..len) {
            Some(room) => {
                let (first, last) = room.split_at_mut(start.len());
                first.copy_from_slice(start);
                last.copy_from_slice(rest);
                Self::Short {
                    len: len as u8,
                    bytes,
                }
            }
            None => Self::Long([start, rest].concat().into()),
        }
    }
}

impl From<&[u8]> for SmallKey {
    fn from(key: &[u8]) -> Self {
        Self::joined(key, &[])
    }
}

impl From<Vec<u8>> for SmallKey {
    fn from(key: Vec<u8>) -> Self {
        key.as_slice().into()
    }
}

impl From<Box<[u8]>> for SmallKey {
    fn from(key: Box<[u8]>) -> Self {
        (&*key).into()
    }
}

impl Deref for SmallKey {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }
}

impl Borrow<[u8]> for SmallKey {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl PartialEq for SmallKey {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for SmallKey {}

impl PartialOrd for SmallKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SmallKey {
    /// As the bytes. Of two short ones by words, which is most of what a search costs: behind
    /// its end each has zeros, so that only one that goes on with zeros is told by its length.
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (
                Self::Short { len, bytes },
                Self::Short {
                    len: other_len,
                    bytes: other,
                },
            ) => words(bytes).cmp(&words(other)).then(len.cmp(other_len)),
            _ => (**self).cmp(&**other),
        }
    }
}

/// The bytes as numbers that are ordered as they are. The last two overlap.
#[inline]
fn words(bytes: &[u8; SHORT]) -> [u64; 3] {
    [0, 8, SHORT - 8].map(|at| {
        let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
        word.map_or(0, |word| u64::from_be_bytes(*word))
    })
}

/// How long it is: the bytes are a user's.
impl fmt::Debug for SmallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SmallKey({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_its_bytes_are_whatever_their_length() {
        assert_eq!(size_of::<SmallKey>(), 24);
        let bytes: Vec<u8> = (0..=255).collect();
        for len in 0..60 {
            let key = SmallKey::from(&bytes[..len]);
            assert_eq!(&*key, &bytes[..len]);
            for cut in 0..=len {
                assert_eq!(SmallKey::joined(&bytes[..cut], &bytes[cut..len]), key);
            }
        }
    }

    #[test]
    fn keys_are_ordered_as_their_bytes() {
        let long = [7; 40];
        let keys = [
            &b""[..],
            b"\0",
            b"a",
            b"a\0",
            b"ab",
            b"b",
            &[7; 22],
            &long[..23],
            &long,
        ];
        for a in keys {
            for b in keys {
                let (left, right) = (SmallKey::from(a), SmallKey::from(b));
                assert_eq!(left.cmp(&right), a.cmp(b));
                assert_eq!(left == right, a == b);
            }
        }
    }
}
