//! Owns what is decided under the one short lock: LSNs, store time, generations
//! of the memtable, quotas of kinds, and which views are open.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::quota::KindQuotas;
use super::table::{Pins, Slot};
use crate::ids::Lsn;
use crate::sync::atomic::AtomicBool;

/// The state under the sequencer's lock.
#[derive(Debug, Default)]
pub(crate) struct Sequencer {
    pub(crate) last: Lsn,
    pub(crate) time_micros: u64,
    /// The generation that is written to.
    pub(crate) generation: u64,
    /// The generations that are not retired.
    pub(crate) generations: BTreeMap<u64, Generation>,
    /// Tables with LSNs up to this one may be gone from memory.
    pub(crate) retired: Lsn,
    pub(crate) kinds: KindQuotas,
    pub(crate) views: Views,
    /// In a store without a folder: the slots that keep something for views, by since
    /// when and number.
    pub(crate) keeping: BTreeMap<(Lsn, u64), Arc<Slot>>,
}

impl Sequencer {
    /// Takes a slot out that keeps what no view needs any more, and from which LSN on
    /// there may be views.
    pub(crate) fn keeps_needlessly(&mut self) -> Option<(Arc<Slot>, Lsn)> {
        let lowest = self.views.lowest().unwrap_or(self.last);
        let first = self.keeping.first_entry()?;
        (first.key().0 <= lowest).then(|| (first.remove(), lowest))
    }
}

/// A generation of the memtable.
#[derive(Debug, Default)]
pub(crate) struct Generation {
    /// The slots that have a table of it.
    pub(crate) slots: Vec<Arc<Slot>>,
    /// The last LSN in it, once it is sealed.
    pub(crate) end: Lsn,
    /// The schema version at that LSN.
    pub(crate) schema: u32,
    /// What it takes in memory, once it is sealed.
    pub(crate) bytes: u64,
}

/// The open views, by number: older ones first.
#[derive(Debug, Default)]
pub(crate) struct Views {
    next: u64,
    open: BTreeMap<u64, OpenView>,
}

/// What an open view keeps in memory.
#[derive(Debug)]
pub(crate) struct OpenView {
    pub(crate) lsn: Lsn,
    /// It needs the tables of later generations than this one.
    pub(crate) generation: u64,
    pub(crate) expired: Arc<AtomicBool>,
}

impl Views {
    pub(crate) fn open(&mut self, view: OpenView) -> u64 {
        let number = self.next;
        self.next += 1;
        self.open.insert(number, view);
        number
    }

    pub(crate) fn close(&mut self, number: u64) -> Option<OpenView> {
        self.open.remove(&number)
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// The oldest view.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.open.keys().next().copied()
    }

    /// The lowest generation that views do not need. Views are opened in the order
    /// of their LSNs and generations, so the first has the lowest.
    pub(crate) fn generation(&self) -> Option<u64> {
        self.open.values().next().map(|view| view.generation)
    }

    /// The lowest LSN of an open view.
    pub(crate) fn lowest(&self) -> Option<Lsn> {
        self.open.values().next().map(|view| view.lsn)
    }

    /// What all views need but the one that `ends`. `bottom`: nothing is below the newest
    /// tables.
    pub(crate) fn pins(&self, ends: Option<u64>, bottom: bool) -> Pins {
        let mut rest = self
            .open
            .iter()
            .filter(|(number, _)| Some(**number) != ends);
        let first = rest.next().map(|(_, view)| view);
        let last = rest.next_back().map(|(_, view)| view).or(first);
        Pins {
            views: first.zip(last).map(|(first, last)| (first.lsn, last.lsn)),
            bottom,
        }
    }
}
