//! Owns what becomes of unsynced changes in a power cut: the policy, and the dice
//! that decide on each change by itself.
//!
//! What must stay true: the same seed decides in the same way. And all-lost,
//! all-kept and every mixture must each come up often: a bug that shows only when
//! the one file is kept and the other is lost is not found with even odds for each
//! of forty writes.

use std::ops::Range;

use super::Random;

/// What is lost of that which was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A power cut at its worst: only what was synced survives.
    Everything,
    /// A killed process: all survives, and what was not synced still is not.
    Nothing,
    /// A power cut: each change by itself, drawn from this seed.
    Random(u64),
}

/// Out of this many draws, a chance lets so many through.
const WHOLE: u64 = 8;

/// The chances of one disk image, or of one file in it, and where they come from.
#[derive(Debug)]
pub(super) struct Dice {
    random: Random,
    spread: Spread,
    /// That a change of names arrives.
    names: u64,
    /// That a change of a length arrives.
    lengths: u64,
    /// That data arrive at all.
    data: u64,
    /// That data which arrive do so in part.
    tears: u64,
}

/// What has a chance in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spread {
    /// All changes.
    Image,
    /// All changes of a kind.
    Kind,
    /// All changes of a kind to one file.
    File,
}

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let spread = match random.below(3) {
            0 => Spread::Image,
            1 => Spread::Kind,
            _ => Spread::File,
        };
        let chance = drawn_chance(&mut random);
        let mut dice = Self {
            random,
            spread,
            names: chance,
            lengths: chance,
            data: chance,
            tears: 0,
        };
        dice.draw_chances();
        dice
    }

    /// To be called before the changes of another file.
    pub(super) fn next_file(&mut self) {
        if self.spread == Spread::File {
            self.draw_chances();
        }
    }

    fn draw_chances(&mut self) {
        if self.spread != Spread::Image {
            self.lengths = drawn_chance(&mut self.random);
            self.data = drawn_chance(&mut self.random);
        }
        self.tears = drawn_chance(&mut self.random);
    }

    pub(super) const fn keeps_name(&mut self) -> bool {
        self.random.chance(self.names, WHOLE)
    }

    pub(super) const fn keeps_length(&mut self) -> bool {
        self.random.chance(self.lengths, WHOLE)
    }

    /// Which of the sectors of one write arrive, in runs.
    pub(super) fn kept_sectors(&mut self, sectors: Range<u64>) -> Vec<Range<u64>> {
        if !self.random.chance(self.data, WHOLE) {
            return Vec::new();
        }
        if !self.random.chance(self.tears, WHOLE) {
            return vec![sectors];
        }
        let cut = sectors.start + self.random.below(sectors.end - sectors.start + 1);
        let run = match self.random.below(3) {
            0 => sectors.start..cut,
            1 => cut..sectors.end,
            _ => {
                let singles = sectors.filter(|_| self.random.chance(1, 2));
                return singles.map(|sector| sector..sector + 1).collect();
            }
        };
        vec![run]
    }
}

fn drawn_chance(random: &mut Random) -> u64 {
    const CHANCES: [u64; 5] = [0, 1, WHOLE / 2, WHOLE - 1, WHOLE];
    CHANCES[random.below(CHANCES.len() as u64) as usize]
}
