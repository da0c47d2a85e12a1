//! Owns the reading of fixed-width integers from bytes that may be anything. A
//! length is compared with what is there before it is used, so that nothing here
//! panics or allocates.

/// What is wrong with bytes, and where in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} (at byte {at})")]
pub(crate) struct Malformed {
    /// What was found.
    pub(crate) what: &'static str,
    /// The offset of it in the bytes.
    pub(crate) at: usize,
}

/// A place in bytes that moves forward.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The offset of the next byte.
    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    pub(crate) const fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// The error that says `what` of the place where the cursor stands.
    pub(crate) const fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { what, at: self.at }
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(len);
        match end.and_then(|end| self.bytes.get(self.at..end)) {
            Some(taken) => {
                self.at += len;
                Ok(taken)
            }
            None => Err(self.malformed("the bytes end too early")),
        }
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let taken = self.take(N)?;
        let mut array = [0; N];
        array.copy_from_slice(taken);
        Ok(array)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// A length or a count of 32 bits.
    pub(crate) fn size(&mut self) -> Result<usize, Malformed> {
        let size = self.u32()?;
        usize::try_from(size).map_err(|_| self.malformed("a length is out of range"))
    }

    /// A count of items of at least `item_bytes_min` bytes each that follow; an
    /// error if that many cannot be there, so that room may be reserved for them.
    pub(crate) fn check_count(&self, count: usize, item_bytes_min: usize) -> Result<(), Malformed> {
        match count.checked_mul(item_bytes_min) {
            Some(needed) if needed <= self.remaining() => Ok(()),
            _ => Err(self.malformed("a count is higher than the bytes allow")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_beyond_the_end() {
        let mut cursor = Cursor::new(&[1, 0, 0, 0, 9, 9]);
        assert_eq!(cursor.u32(), Ok(1));
        assert_eq!(cursor.u32().unwrap_err().at, 4);
        assert_eq!(cursor.take(usize::MAX).unwrap_err().at, 4);
        assert_eq!(cursor.take(2), Ok(&[9, 9][..]));
        assert_eq!(cursor.remaining(), 0);
    }

    #[test]
    fn a_count_is_bounded_by_what_is_left() {
        let cursor = Cursor::new(&[0; 10]);
        assert!(cursor.check_count(5, 2).is_ok());
        assert!(cursor.check_count(6, 2).is_err());
        assert!(cursor.check_count(usize::MAX, 2).is_err());
    }
}
