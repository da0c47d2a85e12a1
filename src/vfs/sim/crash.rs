//! Owns what becomes of unsynced changes in a power cut: the policy, and the dice
//! that decide on each change by itself.
//!
//! What must stay true: the same seed decides in the same way. And all-lost,
//! all-kept and every mixture must each come up often: a bug that shows only when
//! the one file is kept and the other is lost is not found with even odds for each
//! of forty writes.

use std::ops::Range;

use super::Random;
use super::arrivals::{Arrival, Arrivals, NameId};

/// What is lost of that which was not synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A power cut at its worst: only what was synced survives.
    Everything,
    /// A killed process: all survives, and what was not synced still is not.
    Nothing,
    /// A power cut: each change by itself, drawn from this seed.
    Random(u64),
    /// A power cut: only these changes survive, and those without which they cannot
    /// have been made.
    Only(Arrivals),
}

/// Out of this many draws, a chance lets so many through.
const WHOLE: u64 = 8;

/// What decides on each change, and what it has let through.
#[derive(Debug)]
pub(super) struct Dice {
    source: Source,
    arrived: Arrivals,
}

#[derive(Debug)]
enum Source {
    Drawn(Draws),
    Listed(Arrivals),
}

/// The chances of one disk image, or of one file in it, and where they come from.
#[derive(Debug)]
struct Draws {
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
        Self {
            source: Source::Drawn(Draws::new(seed)),
            arrived: Arrivals::default(),
        }
    }

    pub(super) fn listed(arrivals: Arrivals) -> Self {
        Self {
            source: Source::Listed(arrivals),
            arrived: Arrivals::default(),
        }
    }

    /// What was let through.
    pub(super) fn into_arrived(self) -> Arrivals {
        self.arrived
    }

    /// To be called before the changes of another file.
    pub(super) fn next_file(&mut self) {
        if let Source::Drawn(draws) = &mut self.source {
            draws.next_file();
        }
    }

    pub(super) fn keeps_name(&mut self, id: NameId) -> bool {
        self.keeps(Arrival::name(id), Draws::keeps_name)
    }

    /// The removal of the old name, of a file whose new name has arrived.
    pub(super) fn keeps_rest_of_move(&mut self, id: NameId) -> bool {
        self.keeps(Arrival::rest_of_move(id), Draws::keeps_name)
    }

    pub(super) fn keeps_length(&mut self, operation: u64) -> bool {
        self.keeps(Arrival::length(operation), Draws::keeps_length)
    }

    /// Which of the sectors of one write arrive, in runs.
    pub(super) fn kept_sectors(&mut self, operation: u64, sectors: Range<u64>) -> Vec<Range<u64>> {
        let kept = match &mut self.source {
            Source::Drawn(draws) => draws.kept_sectors(sectors),
            Source::Listed(list) => list.sectors_of(operation),
        };
        for run in &kept {
            self.arrived.add(Arrival::sectors(operation, run));
        }
        kept
    }

    fn keeps(&mut self, arrival: Arrival, draw: impl FnOnce(&mut Draws) -> bool) -> bool {
        let keeps = match &mut self.source {
            Source::Drawn(draws) => draw(draws),
            Source::Listed(list) => list.contains(arrival),
        };
        if keeps {
            self.arrived.add(arrival);
        }
        keeps
    }
}

impl Draws {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let spread = match random.below(3) {
            0 => Spread::Image,
            1 => Spread::Kind,
            _ => Spread::File,
        };
        let chance = drawn_chance(&mut random);
        let mut draws = Self {
            random,
            spread,
            names: chance,
            lengths: chance,
            data: chance,
            tears: 0,
        };
        draws.draw_chances();
        draws
    }

    fn next_file(&mut self) {
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

    fn keeps_name(&mut self) -> bool {
        self.random.chance(self.names, WHOLE)
    }

    fn keeps_length(&mut self) -> bool {
        self.random.chance(self.lengths, WHOLE)
    }

    fn kept_sectors(&mut self, sectors: Range<u64>) -> Vec<Range<u64>> {
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
