//! Owns the versions of one key in one table, and which of them are kept for views.

use std::mem;
use std::sync::Arc;

use crate::ids::Lsn;

/// What an entry costs beyond its key and cell, roughly: nodes, allocations.
const ENTRY_OVERHEAD_BYTES: u64 = 100;
const VERSION_OVERHEAD_BYTES: u64 = 48;

/// The bytes of a value as stored; `None` where the key is deleted.
pub(crate) type Stored = Option<Arc<[u8]>>;

/// The versions of a key in one table, newest first; there is always one. Few keys have
/// more, and pay for them.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) lsn: Lsn,
    pub(super) cell: Stored,
    rest: Option<Box<Rest>>,
}

#[derive(Debug, Default)]
struct Rest {
    older: Vec<(Lsn, Stored)>,
    /// Among `Table::kept`.
    noted: bool,
}

/// Which versions somebody may still read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pins {
    /// The lowest and highest LSN of an open view; `None` where there is none.
    pub(crate) views: Option<(Lsn, Lsn)>,
    /// Nothing is below the newest tables, neither an older one nor an image: a key that
    /// is not there is not anywhere.
    pub(crate) bottom: bool,
}

impl Chain {
    pub(super) fn new(lsn: Lsn, cell: Stored) -> Self {
        Self {
            lsn,
            cell,
            rest: None,
        }
    }

    /// What it takes in memory, with its key.
    pub(super) fn bytes(&self, key: &[u8]) -> u64 {
        let older = self.older().iter().map(|(_, cell)| version_bytes(cell));
        ENTRY_OVERHEAD_BYTES + key.len() as u64 + version_bytes(&self.cell) + older.sum::<u64>()
    }

    #[inline]
    pub(super) fn older(&self) -> &[(Lsn, Stored)] {
        self.rest.as_ref().map_or(&[], |rest| &rest.older)
    }

    #[inline]
    pub(super) fn at(&self, at: Lsn) -> Option<(Lsn, &Stored)> {
        if self.lsn <= at {
            return Some((self.lsn, &self.cell));
        }
        let seen = self.older().iter().find(|(lsn, _)| *lsn <= at);
        seen.map(|(lsn, cell)| (*lsn, cell))
    }

    /// Adds a version, and drops those that no view can see; returns the change in bytes
    /// held, and the version before where no view can see it.
    #[inline]
    pub(super) fn replace(&mut self, lsn: Lsn, cell: Stored, pins: Pins) -> (i64, Stored) {
        let mut change = version_bytes(&cell) as i64;
        let mut gone = None;
        let old = mem::replace(&mut self.cell, cell);
        let old_lsn = mem::replace(&mut self.lsn, lsn);
        match pins.views {
            Some((_, highest)) if old_lsn <= highest => {
                let rest = self.rest.get_or_insert_default();
                rest.older.insert(0, (old_lsn, old));
            }
            _ => {
                change -= version_bytes(&old) as i64;
                gone = old;
            }
        }
        if self.rest.is_some() {
            change -= match pins.views {
                None => self.cut(0),
                Some((lowest, _)) => self.keep_from(lowest),
            } as i64;
        }
        (change, gone)
    }

    /// Drops what views from `lowest` on cannot see; returns its bytes. They see all up to
    /// the newest that the lowest one sees.
    pub(super) fn keep_from(&mut self, lowest: Lsn) -> u64 {
        let older = self.older();
        let oldest = older.iter().position(|&(lsn, _)| lsn <= lowest);
        let keep = oldest.map_or(older.len(), |oldest| oldest + 1);
        self.cut(keep)
    }

    /// Drops the older versions behind the first so many; returns their bytes.
    pub(super) fn cut(&mut self, keep: usize) -> u64 {
        let Some(rest) = &mut self.rest else {
            return 0;
        };
        let gone = rest.older.drain(keep..);
        let freed = gone.map(|(_, cell)| version_bytes(&cell)).sum();
        self.shrink();
        freed
    }

    /// True where, with nothing below, something of it goes with the views.
    pub(super) fn is_kept(&self) -> bool {
        self.cell.is_none() || !self.older().is_empty()
    }

    /// Says whether it is among `Table::kept`; tells whether it was.
    pub(super) fn note(&mut self, noted: bool) -> bool {
        if !noted && self.rest.is_none() {
            return false;
        }
        let rest = self.rest.get_or_insert_default();
        let before = mem::replace(&mut rest.noted, noted);
        self.shrink();
        before
    }

    fn shrink(&mut self) {
        let empty = |rest: &Rest| rest.older.is_empty() && !rest.noted;
        if self.rest.as_deref().is_some_and(empty) {
            self.rest = None;
        }
    }
}

fn version_bytes(cell: &Stored) -> u64 {
    VERSION_OVERHEAD_BYTES + cell.as_ref().map_or(0, |cell| cell.len() as u64)
}
