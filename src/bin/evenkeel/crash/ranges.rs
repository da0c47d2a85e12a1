//! Owns sets of numbers that mostly lie side by side.

use std::collections::BTreeMap;

/// A set of numbers, kept as ranges: a long run has millions of records and few gaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    /// First number to last number; they neither touch nor overlap.
    ranges: BTreeMap<u64, u64>,
    len: u64,
}

impl Ranges {
    /// Adds a number; false where it is there already.
    pub(super) fn insert(&mut self, number: u64) -> bool {
        if self.contains(number) {
            return false;
        }
        let mut range = (number, number);
        if let Some(below) = number.checked_sub(1)
            && let Some((first, last)) = self.range_of(below)
        {
            self.ranges.remove(&first);
            debug_assert_eq!(last, below);
            range.0 = first;
        }
        if let Some(above) = number.checked_add(1)
            && let Some(last) = self.ranges.remove(&above)
        {
            range.1 = last;
        }
        self.ranges.insert(range.0, range.1);
        self.len += 1;
        true
    }

    fn range_of(&self, number: u64) -> Option<(u64, u64)> {
        let (&first, &last) = self.ranges.range(..=number).next_back()?;
        (number <= last).then_some((first, last))
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.range_of(number).is_some()
    }

    /// The lowest number from `first` up to `end`, which is left out, that is missing.
    pub(super) fn missing(&self, first: u64, end: u64) -> Option<u64> {
        let missing = match self.range_of(first) {
            Some((_, u64::MAX)) => return None,
            Some((_, last)) => last + 1,
            None => first,
        };
        (missing < end).then_some(missing)
    }

    /// The lowest number of this set that another one lacks.
    pub(super) fn missing_from(&self, other: &Self) -> Option<u64> {
        self.ranges.iter().find_map(|(&first, &last)| {
            let missing = other.missing(first, last);
            missing.or_else(|| (!other.contains(last)).then_some(last))
        })
    }

    /// Adds all of another set.
    pub(super) fn extend(&mut self, other: &Self) {
        for (&first, &last) in &other.ranges {
            let mut next = Some(first);
            while let Some(number) = next.filter(|&number| number <= last) {
                next = match self.range_of(number) {
                    Some((_, end)) => end.checked_add(1),
                    None => {
                        self.insert(number);
                        number.checked_add(1)
                    }
                };
            }
        }
    }

    /// How many numbers there are.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The highest number.
    pub(super) fn last(&self) -> Option<u64> {
        self.ranges.values().next_back().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::content::Random;
    use super::*;
    use std::collections::BTreeSet;

    fn ranges(numbers: impl IntoIterator<Item = u64>) -> Ranges {
        let mut ranges = Ranges::default();
        for number in numbers {
            ranges.insert(number);
        }
        ranges
    }

    #[test]
    fn it_is_a_set() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut draw =
                |count: u64| -> BTreeSet<u64> { (0..count).map(|_| random.below(40)).collect() };
            let (one, two) = (draw(30), draw(50));
            let (mut all, other) = (ranges(one.clone()), ranges(two.clone()));
            assert_eq!(all.len(), one.len() as u64, "seed {seed}");
            assert_eq!(all.last(), one.last().copied(), "seed {seed}");
            let lacking = one.difference(&two).next().copied();
            assert_eq!(all.missing_from(&other), lacking, "seed {seed}");
            for first in 0..40 {
                let gap = (first..35).find(|number| !one.contains(number));
                assert_eq!(all.missing(first, 35), gap, "seed {seed}, from {first}");
            }
            all.extend(&other);
            assert_eq!(all, ranges(one.union(&two).copied()), "seed {seed}");
        }
    }

    #[test]
    fn numbers_that_touch_are_one_range_up_to_the_last() {
        let mut set = ranges([5, 7, 6, u64::MAX, u64::MAX - 1, 0]);
        assert_eq!(set.ranges.len(), 3);
        assert!(!set.insert(6));
        assert_eq!(set.missing(u64::MAX - 1, u64::MAX), None);
        assert_eq!(set.missing(0, u64::MAX), Some(1));
        set.extend(&ranges([u64::MAX, 1]));
        assert_eq!(set.last(), Some(u64::MAX));
        assert_eq!(set.len(), 7);
    }
}
