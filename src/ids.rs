//! Owns the counters that name things: log sequence numbers, versions, epochs,
//! segments and blocks. They import nobody, have `next()` and no free arithmetic.

use std::fmt;

/// No counter ever gets this far: a number on disk that is not below it was never given,
/// whatever its checksum says, and there would soon be none after it.
pub(crate) const OUT_OF_REACH: u64 = 1 << 62;

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// The value before the first.
            pub const ZERO: Self = Self(0);

            /// The counter with this raw value.
            #[must_use]
            pub const fn new(raw: u64) -> Self {
                Self(raw)
            }

            /// The raw value.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The value after this one. Saturates: 2^64 is out of reach.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

counter! {
    /// Log sequence number: the place of a commit in the one order of all commits.
    ///
    /// Never given twice, and higher for a later commit; numbers may be left out
    /// where a store was reopened.
    Lsn
}

counter! {
    /// The version of a key: the [`Lsn`] of the commit that wrote it.
    ///
    /// [`Version::ZERO`] stands for "there is no such key".
    Version
}

counter! {
    /// The number of an opening of a store. Each opening has a higher one than all before.
    Epoch
}

counter! {
    /// The number of a segment of the log. Never given twice.
    SegmentId
}

counter! {
    /// The number of a block of the image. Never given twice.
    BlockId
}

macro_rules! in_files {
    ($($name:ident)*) => {$(
        impl $name {
            /// True if counting can get there.
            #[must_use]
            pub(crate) const fn is_in_reach(self) -> bool {
                self.0 < OUT_OF_REACH
            }
        }
    )*};
}

in_files!(Lsn Epoch SegmentId BlockId);

impl From<Lsn> for Version {
    fn from(lsn: Lsn) -> Self {
        Self(lsn.0)
    }
}

impl From<Version> for Lsn {
    fn from(version: Version) -> Self {
        Self(version.0)
    }
}

impl Lsn {
    /// The number `count` places further on.
    #[must_use]
    pub(crate) const fn advanced(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

impl BlockId {
    /// The number `count` places further on.
    #[must_use]
    pub(crate) const fn advanced(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

/// The identity of a store: 128 random bits, drawn when its folder is created.
///
/// Every file of a store carries it, so that a file of another store is noticed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreId([u8; 16]);

impl StoreId {
    /// The id with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes of the id.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreId({self})")
    }
}
