//! Owns the primitives of every encoding in the crate: numbers and byte strings in
//! the standard configuration of bincode 2.
//!
//! ```text
//! varint = 00..FA                     the number itself
//!        | FB u16 | FC u32 | FD u64   little-endian
//! int    = varint of (n << 1) ^ (n >> 63)     so that small negatives are short
//! bytes  = varint length , byte*
//! ```
//!
//! What must stay true: reading never looks beyond its slice, and says `None` where
//! bytes are missing or have no meaning.

use bincode::config;

/// The largest number that is its own encoding.
const ONE_BYTE_MAX: u64 = 250;

/// Appends a number.
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, value: u64) {
    if value <= ONE_BYTE_MAX {
        out.push(value as u8);
    } else {
        let (bytes, len) = varint(value);
        out.extend_from_slice(bytes.get(..len).unwrap_or_default());
    }
}

/// A number as bytes, of which the first `len` count.
pub(crate) fn varint(value: u64) -> ([u8; 9], usize) {
    let mut bytes = [0; 9];
    // Cannot fail: nine bytes hold every `u64`.
    let len = bincode::encode_into_slice(value, &mut bytes, config::standard());
    (bytes, len.unwrap_or_default())
}

/// How many bytes a number takes.
#[inline]
pub(crate) fn varint_len(value: u64) -> usize {
    match value {
        0..=ONE_BYTE_MAX => 1,
        251..=0xFFFF => 3,
        0x1_0000..=0xFFFF_FFFF => 5,
        _ => 9,
    }
}

/// Where a signed number stands among the unsigned ones: 0, -1, 1, -2, 2, …
#[inline]
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

#[inline]
fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Appends a byte string, after its length.
#[inline]
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads primitives off a slice. After a `None` the position is where it was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// A reader that has read `position` bytes already, or all there are.
    #[inline]
    pub(crate) fn at(bytes: &'a [u8], position: usize) -> Self {
        let position = position.min(bytes.len());
        Self { bytes, position }
    }

    /// How many bytes were read.
    #[inline]
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// How many bytes are left.
    #[inline]
    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// The next `count` bytes.
    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.position.checked_add(count)?;
        let taken = self.bytes.get(self.position..end)?;
        self.position = end;
        Some(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let array = *self.bytes.get(self.position..)?.first_chunk()?;
        self.position += N;
        Some(array)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.position)?;
        self.position += 1;
        Some(byte)
    }

    #[inline]
    pub(crate) fn u64_le(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number as `put_varint` writes it.
    #[inline]
    pub(crate) fn varint(&mut self) -> Option<u64> {
        let first = *self.bytes.get(self.position)?;
        if u64::from(first) <= ONE_BYTE_MAX {
            self.position += 1;
            return Some(u64::from(first));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Option<u64> {
        let rest = self.bytes.get(self.position..)?;
        let (value, used) = bincode::decode_from_slice(rest, config::standard()).ok()?;
        self.position += used;
        Some(value)
    }

    /// A signed number: the varint of its zigzag.
    #[inline]
    pub(crate) fn int(&mut self) -> Option<i64> {
        self.varint().map(unzigzag)
    }

    /// A byte string as `put_bytes` writes it.
    #[inline]
    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let mut ahead = *self;
        let len = usize::try_from(ahead.varint()?).ok()?;
        let bytes = ahead.take(len)?;
        *self = ahead;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers() -> impl Strategy<Value = u64> {
        let edge = prop_oneof![Just(250u64), Just(251), Just(0xFFFF), Just(1 << 16)];
        let far = prop_oneof![Just(u64::from(u32::MAX)), Just(1 << 32), Just(u64::MAX)];
        prop_oneof![edge, far, any::<u64>(), 0..600u64]
    }

    proptest! {
        #[test]
        fn numbers_are_those_of_bincode(value in numbers()) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            prop_assert_eq!(&out, &bincode::encode_to_vec(value, config::standard()).unwrap());
            prop_assert_eq!(out.len(), varint_len(value));
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varint(), Some(value));
            prop_assert_eq!(reader.remaining(), 0);
            prop_assert_eq!(Reader::new(&out[..out.len() - 1]).varint(), None);

            let signed = value.cast_signed();
            out.clear();
            put_varint(&mut out, zigzag(signed));
            prop_assert_eq!(&out, &bincode::encode_to_vec(signed, config::standard()).unwrap());
            prop_assert_eq!(Reader::new(&out).int(), Some(signed));
        }

        #[test]
        fn anything_can_be_read(input in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut reader = Reader::new(&input);
            while reader.remaining() > 0 {
                let before = reader.position();
                let read = [
                    reader.bytes().is_some(),
                    reader.varint().is_some(),
                    reader.u64_le().is_some(),
                    reader.u8().is_some(),
                ];
                prop_assert_eq!(reader.position() > before, read.contains(&true));
            }
        }
    }

    #[test]
    fn lengths_are_bounded_by_what_remains() {
        let mut out = Vec::new();
        put_bytes(&mut out, b"abc");
        assert_eq!(Reader::new(&out).bytes(), Some(&b"abc"[..]));
        let mut short = Reader::new(&out[..3]);
        assert_eq!(short.bytes(), None);
        assert_eq!(short.position(), 0);
        assert_eq!(Reader::new(&[0xFD; 9]).bytes(), None);
        assert_eq!(Reader::new(&[0xFE; 20]).varint(), None);
        assert_eq!(Reader::new(&[0xFF; 20]).varint(), None);
    }
}
