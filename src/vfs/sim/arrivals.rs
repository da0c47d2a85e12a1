//! Owns the list of what reached a disk before the power went, of all that was not
//! synced: what a seed draws, written out, so that a failure can be reduced to the
//! few changes that it needs, and read by a person.
//!
//! ```text
//! arrivals := [ arrival *( "+" arrival ) ]
//! arrival  := operation ( "n" part | "r" part | "l" | "s" first "-" end )
//! ```
//! `n` is a name that was given or taken away, `r` the removal of the old name of a
//! file that was moved to another folder, `l` a length, `s` the sectors from `first`
//! up to, and without, `end`. A part counts the names that one operation changed,
//! from 0.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// The change of a name: which operation made it, and as which of its changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NameId {
    pub(super) operation: u64,
    pub(super) part: u32,
}

/// One change that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Arrival {
    operation: u64,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Name(u32),
    RestOfMove(u32),
    Length,
    Sectors(u64, u64),
}

impl Arrival {
    pub(super) const fn name(id: NameId) -> Self {
        Self {
            operation: id.operation,
            what: What::Name(id.part),
        }
    }

    pub(super) const fn rest_of_move(id: NameId) -> Self {
        Self {
            operation: id.operation,
            what: What::RestOfMove(id.part),
        }
    }

    pub(super) const fn length(operation: u64) -> Self {
        Self {
            operation,
            what: What::Length,
        }
    }

    pub(super) const fn sectors(operation: u64, run: &Range<u64>) -> Self {
        Self {
            operation,
            what: What::Sectors(run.start, run.end),
        }
    }
}

/// Which unsynced changes reached the disk, each by the operation that made it. All
/// others are lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrivals(BTreeSet<Arrival>);

impl Arrivals {
    /// How many changes arrived.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if everything is lost.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The operations of which something arrived, each once, in order.
    #[must_use]
    pub fn operations(&self) -> Vec<u64> {
        let mut operations: Vec<_> = self.0.iter().map(|arrival| arrival.operation).collect();
        operations.dedup();
        operations
    }

    /// The same without the changes from number `from` up to, and without, `end`.
    #[must_use]
    pub fn without(&self, changes: Range<usize>) -> Self {
        let kept = self.0.iter().enumerate();
        Self(
            kept.filter(|(at, _)| !changes.contains(at))
                .map(|(_, arrival)| *arrival)
                .collect(),
        )
    }

    pub(super) fn contains(&self, arrival: Arrival) -> bool {
        self.0.contains(&arrival)
    }

    pub(super) fn add(&mut self, arrival: Arrival) {
        self.0.insert(arrival);
    }

    /// The sectors of an operation that arrived, in runs.
    pub(super) fn sectors_of(&self, operation: u64) -> Vec<Range<u64>> {
        let runs = self.0.iter().filter_map(|arrival| match arrival.what {
            What::Sectors(first, end) if arrival.operation == operation => Some(first..end),
            _ => None,
        });
        runs.collect()
    }
}

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.operation)?;
        match self.what {
            What::Name(part) => write!(f, "n{part}"),
            What::RestOfMove(part) => write!(f, "r{part}"),
            What::Length => f.write_str("l"),
            What::Sectors(first, end) => write!(f, "s{first}-{end}"),
        }
    }
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, arrival) in self.0.iter().enumerate() {
            let plus = if at == 0 { "" } else { "+" };
            write!(f, "{plus}{arrival}")?;
        }
        Ok(())
    }
}

/// A text that names no arrival.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no change of a disk, such as `17n0`, `17r0`, `18l` or `18s3-5`")]
pub struct NoArrival(String);

impl FromStr for Arrival {
    type Err = NoArrival;

    fn from_str(text: &str) -> Result<Self, NoArrival> {
        let none = || NoArrival(text.to_owned());
        let letter = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(none)?;
        let (operation, rest) = text.split_at(letter);
        let operation = operation.parse().map_err(|_| none())?;
        let (kind, rest) = rest.split_at_checked(1).ok_or_else(none)?;
        let number = |text: &str| text.parse::<u64>().map_err(|_| none());
        let part = |text: &str| text.parse::<u32>().map_err(|_| none());
        let what = match kind {
            "n" => What::Name(part(rest)?),
            "r" => What::RestOfMove(part(rest)?),
            "l" if rest.is_empty() => What::Length,
            "s" => {
                let (first, end) = rest.split_once('-').ok_or_else(none)?;
                What::Sectors(number(first)?, number(end)?)
            }
            _ => return Err(none()),
        };
        Ok(Self { operation, what })
    }
}

impl FromStr for Arrivals {
    type Err = NoArrival;

    fn from_str(text: &str) -> Result<Self, NoArrival> {
        let arrivals = text.split('+').filter(|text| !text.is_empty());
        arrivals.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}
