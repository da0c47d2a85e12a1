//! Owns what records are filled with: bytes and sizes that follow from a number alone,
//! so that a check can make them again. They are the same in every version of this
//! program, or a store of an earlier one would not pass; so no crate draws them.

use evenkeel::Value;

/// A number as good as random that no other number gives (the finaliser of SplitMix64,
/// which is a bijection).
pub(super) const fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// SplitMix64.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        let drawn = mix(self.0);
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        drawn
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

/// The payload of one part of a record: mostly short, at times a few KiB, and once in
/// 512 around 100 KiB, which is more than the store's segments and blocks.
pub(super) fn payload(number: u64, part: u8) -> Value {
    let mut random = Random::new(mix(number) ^ mix(u64::from(part)));
    let bytes = match random.below(512) {
        0 => 80_000 + random.below(40_000),
        1..20 => 1_000 + random.below(4_000),
        _ => random.below(250),
    };
    Value::Bytes(fill(&mut random, bytes))
}

/// A payload that is always short.
pub(super) fn note(number: u64, part: u8) -> Value {
    let mut random = Random::new(mix(number) ^ mix(u64::from(part)));
    let bytes = random.below(60);
    Value::Bytes(fill(&mut random, bytes))
}

fn fill(random: &mut Random, bytes: u64) -> Vec<u8> {
    let bytes = usize::try_from(bytes).unwrap_or(0);
    let mut filled = Vec::with_capacity(bytes + 8);
    while filled.len() < bytes {
        filled.extend_from_slice(&random.next().to_le_bytes());
    }
    filled.truncate(bytes);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn len(value: &Value) -> usize {
        value.as_bytes().unwrap().len()
    }

    #[test]
    fn contents_never_change() {
        // Of a store that an earlier version wrote, every byte is made again.
        assert_eq!(mix(0), 0xE220_A839_7B1D_CDAF);
        assert_eq!(mix(u64::MAX), 0xE4D9_7177_1B65_2C20);
        let drawn: Vec<_> = (0..4).map(|number| len(&payload(number, 0))).collect();
        assert_eq!(drawn, [200, 163, 159, 171]);
        let Value::Bytes(bytes) = payload(1, 2) else {
            panic!("a payload is bytes");
        };
        let digest = bytes
            .iter()
            .fold(0, |digest, byte| mix(digest ^ u64::from(*byte)));
        assert_eq!(digest, 10_903_329_557_237_670_594);
    }

    #[test]
    fn sizes_are_mixed() {
        let lens: Vec<_> = (0..4_000).map(|number| len(&payload(number, 1))).collect();
        let big = lens.iter().filter(|&&len| len >= 80_000).count();
        let middle = lens
            .iter()
            .filter(|&&len| (1_000..80_000).contains(&len))
            .count();
        assert!((2..20).contains(&big), "{big}");
        assert!((80..300).contains(&middle), "{middle}");
        assert!(lens.contains(&0));
    }

    #[test]
    fn parts_of_a_record_differ() {
        assert_ne!(payload(7, 1), payload(7, 2));
        assert_ne!(payload(7, 1), payload(8, 1));
    }
}
