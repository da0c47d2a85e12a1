//! Owns what is changed beside the records, so that more than additions is seen: two
//! bounded lists of each worker, and notes that nobody waits for.
//!
//! ```text
//! job "recent-D", key NUMBER           a list that is cleared when it is full
//! routine "queue" of "worker-D", same  a list that loses its first entry when it is full
//! worker "worker-D", `recent`, `queue` how many entries they have
//! custom "notes", key KK               set, deleted, cleared; each in a commit of its own,
//!                                      behind a record and at a lower durability
//! ```
//! An entry names the record that it came with, and that record's run.

use std::time::Duration;

use evenkeel::{Durability, Result, Scope, Store, Transaction, Value};

use super::content::note;
use super::record::{Head, key, worker, worker_of};

/// What becomes of a list that is full.
#[derive(Clone, Copy, Debug)]
enum Overflow {
    Clear,
    DropFirst,
}

/// A bounded list of each worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    /// The key in the worker's scope that counts its entries.
    pub(super) name: &'static str,
    scope: fn(u64) -> Scope,
    entries_max: i64,
    overflow: Overflow,
    part: u8,
}

/// The lists.
pub(super) const LISTS: [List; 2] = [
    List {
        name: "recent",
        scope: |worker| Scope::job(format!("recent-{worker}")),
        entries_max: 12,
        overflow: Overflow::Clear,
        part: 4,
    },
    List {
        name: "queue",
        scope: |worker| Scope::routine(format!("worker-{worker}"), "queue"),
        entries_max: 16,
        overflow: Overflow::DropFirst,
        part: 5,
    },
];

/// The keys of notes; more than are there at once.
const NOTES: u64 = 24;
const NOTE_PART: u8 = 6;

/// An entry of a list, or a note.
fn entry(number: u64, run: u64, part: u8) -> Value {
    let fields = [
        ("record", number.into()),
        ("run", run.into()),
        ("note", note(number, part)),
    ];
    fields.into_iter().collect()
}

impl List {
    /// Its scope, for a worker.
    pub(super) fn scope(&self, worker: u64) -> Scope {
        (self.scope)(worker)
    }

    /// What stands in it for a record.
    pub(super) fn entry(&self, number: u64, run: u64) -> Value {
        entry(number, run, self.part)
    }

    /// Puts a record into the list of its worker.
    pub(super) fn push(&self, tx: &Transaction, head: &Head) -> Result<()> {
        let at = worker_of(head.number);
        let list = tx.scope(self.scope(at));
        let counter = tx.scope(worker(at));
        let mut count: i64 = counter.get(self.name)?.unwrap_or(0);
        if !list.contains(key(head.number))? {
            if count >= self.entries_max {
                match self.overflow {
                    Overflow::Clear => {
                        list.clear()?;
                        count = 0;
                    }
                    Overflow::DropFirst => {
                        if let Some(first) = list.scan("")?.next() {
                            list.delete(first?.key())?;
                            count -= 1;
                        }
                    }
                }
            }
            count += 1;
        }
        list.set(key(head.number), self.entry(head.number, head.run))?;
        counter.set(self.name, count)
    }
}

/// The scope of the notes.
pub(super) fn notes() -> Scope {
    Scope::custom("notes")
}

/// The key of the note that may come with a record.
pub(super) fn note_key(number: u64) -> String {
    format!("{:02}", (number / 2) % NOTES)
}

/// What stands there.
pub(super) fn note_of(number: u64, run: u64) -> Value {
    entry(number, run, NOTE_PART)
}

/// Changes a note behind every other record, at a durability that nobody waits for.
pub(super) fn jot(store: &Store, head: &Head) -> Result<()> {
    if !head.number.is_multiple_of(2) {
        return Ok(());
    }
    let turn = head.number / 2;
    let durability = match turn % 3 {
        0 => Durability::Memory,
        _ => Durability::Interval(Duration::from_millis(2)),
    };
    let notes = store.scope(notes()).with_durability(durability);
    match turn % 64 {
        63 => notes.clear(),
        step if step % 5 == 4 => notes.delete(note_key(head.number.wrapping_mul(3))),
        _ => notes.set(note_key(head.number), note_of(head.number, head.run)),
    }
}
