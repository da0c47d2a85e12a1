//! Owns the pseudo-random numbers of the simulation (splitmix64). The same seed
//! gives the same numbers on every machine and in every release: a failure is
//! reported as a seed, and the seed must find it again.

/// A generator of reproducible numbers. Not for secrets.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator with this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, any of the 2^64.
    #[must_use = "the sequence has moved on"]
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if `bound` is 0.
    #[must_use = "the sequence has moved on"]
    pub const fn below(&mut self, bound: u64) -> u64 {
        let number = self.next_u64();
        // The bias of the remainder is of no matter at the bounds of a simulation.
        if bound == 0 { 0 } else { number % bound }
    }

    /// True `parts` times out of `whole`.
    #[must_use = "the sequence has moved on"]
    pub const fn chance(&mut self, parts: u64, whole: u64) -> bool {
        self.below(whole) < parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_that_of_splitmix64() {
        let mut random = Random::new(1_234_567);
        assert_eq!(random.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(random.next_u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn bounds_and_chances_hold() {
        let mut random = Random::new(1);
        assert!((0..1000).all(|_| random.below(7) < 7));
        assert_eq!(random.below(0), 0);
        assert!((0..1000).all(|_| random.chance(8, 8) && !random.chance(0, 8)));
    }
}
