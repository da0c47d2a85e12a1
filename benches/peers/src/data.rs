//! What is written: keys of 16 bytes in scopes of 1,000, values of 128 bytes that do not
//! compress. Key and value follow from a few numbers, so that whoever reopens a folder
//! knows what must be in it without having been told.

use crate::task::Result;

/// The bytes of a value.
pub(crate) const VALUE_BYTES: usize = 128;
/// The bytes of a key and its value: what a byte of state is counted from.
pub(crate) const ENTRY_BYTES: u64 = 16 + VALUE_BYTES as u64;
/// The keys of a scope.
pub(crate) const SCOPE_KEYS: u64 = 1_000;

/// A value, as engines are given it.
pub(crate) type Value = [u8; VALUE_BYTES];

/// A key: eight digits of its scope, eight of its place there. Engines without scopes
/// find a scope by this prefix; evenkeel is given all of it as the key within the scope.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// The number of its scope.
    pub(crate) scope: usize,
    bytes: [u8; 16],
}

impl Key {
    pub(crate) fn new(number: u64) -> Self {
        let scope = number / SCOPE_KEYS;
        let mut bytes = [0; 16];
        digits(&mut bytes[..8], scope);
        digits(&mut bytes[8..], number % SCOPE_KEYS);
        Self {
            scope: usize::try_from(scope).unwrap_or(usize::MAX),
            bytes,
        }
    }

    pub(crate) fn bytes(&self) -> &[u8; 16] {
        &self.bytes
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap_or_default()
    }
}

/// What the keys of a scope begin with.
pub(crate) fn prefix(scope: usize) -> [u8; 8] {
    let mut bytes = [0; 8];
    digits(&mut bytes, scope as u64);
    bytes
}

/// How many scopes so many keys are in.
pub(crate) fn scopes(keys: u64) -> usize {
    usize::try_from(keys.div_ceil(SCOPE_KEYS)).unwrap_or(usize::MAX)
}

fn digits(bytes: &mut [u8], mut number: u64) {
    for byte in bytes.iter_mut().rev() {
        *byte = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// A number that looks random, the same for the same input (splitmix64).
pub(crate) fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The numbers below `count` in an order that looks random.
pub(crate) fn shuffled(count: u64, seed: u64) -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..u32::try_from(count).unwrap_or(u32::MAX)).collect();
    for last in (1..numbers.len()).rev() {
        let other = mixed(seed.wrapping_mul(count) ^ last as u64) % (last as u64 + 1);
        numbers.swap(last, usize::try_from(other).unwrap_or_default());
    }
    numbers
}

/// Which key a thread writes in its step: threads share no key, so the last step of its
/// thread says what a key holds.
pub(crate) fn owned(thread: u64, threads: u64, keys: u64, step: u64) -> u64 {
    let place = mixed((thread << 48) ^ step) % (keys / threads);
    place * threads + thread
}

/// Makes values, and knows them again.
pub(crate) struct Values {
    pool: Vec<u8>,
}

const POOL_BYTES: usize = 1 << 20;

impl Values {
    pub(crate) fn new() -> Self {
        let words = (0..POOL_BYTES as u64 / 8 + 16).map(mixed);
        Self {
            pool: words.flat_map(u64::to_le_bytes).collect(),
        }
    }

    /// The value that a key has after a step.
    pub(crate) fn value(&self, number: u64, step: u64) -> Value {
        let at = (mixed(number.rotate_left(32) ^ step) % POOL_BYTES as u64) as usize;
        let mut value = [0; VALUE_BYTES];
        value.copy_from_slice(&self.pool[at..at + VALUE_BYTES]);
        value[..8].copy_from_slice(&number.to_le_bytes());
        value[8..16].copy_from_slice(&step.to_le_bytes());
        value
    }

    /// Fails unless the bytes are the value of this key after this step.
    pub(crate) fn check(&self, number: u64, step: u64, found: &[u8]) -> Result<()> {
        if found == self.value(number, step) {
            return Ok(());
        }
        let said = |at: usize| found.get(at..at + 8).map(stamp);
        Err(format!(
            "key {number} should be as step {step} left it, and holds that of key {:?} in step {:?}",
            said(0),
            said(8)
        )
        .into())
    }
}

/// The number in the first eight bytes.
pub(crate) fn stamp(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    if let Some(first) = bytes.get(..8) {
        word.copy_from_slice(first);
    }
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::{Key, Values, owned, shuffled};

    #[test]
    fn threads_share_no_key() {
        for thread in 0..4 {
            assert!((0..1_000).all(|step| owned(thread, 4, 100, step) % 4 == thread));
            assert!((0..1_000).all(|step| owned(thread, 4, 100, step) < 100));
        }
    }

    #[test]
    fn a_shuffle_has_each_number_once() {
        let mut numbers = shuffled(1_000, 7);
        assert_ne!(numbers, shuffled(1_000, 8));
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..1_000));
    }

    #[test]
    fn a_value_is_known_again() {
        let values = Values::new();
        let mut value = values.value(3, 9);
        assert!(values.check(3, 9, &value).is_ok());
        assert!(values.check(3, 8, &value).is_err());
        assert!(values.check(4, 9, &value).is_err());
        assert!(values.check(3, 9, &value[1..]).is_err());
        value[100] ^= 1;
        assert!(values.check(3, 9, &value).is_err());
    }

    #[test]
    fn keys_sort_by_scope_and_place() {
        assert_eq!(Key::new(1_234_567).text(), "0000123400000567");
        assert_eq!(Key::new(1_234_567).scope, 1_234);
    }
}
