//! Owns the queue of one slot of one worker: which messages wait, which an activation
//! has taken, and which it consumed and are still remembered. It is plain memory; the
//! core keeps what waits and what is taken in the store, in the commits that move them.
//!
//! What must stay true:
//!
//! - A message is in one place, and moves by [`after`] only: waiting, taken, consumed,
//!   gone. What waits or is taken is never forgotten by trimming.
//! - Numbers are given once and ascend; what waits is taken in their order. So what was
//!   given back stands where it stood.
//! - The capacity counts what waits. What is taken is out of the queue, as in any queue;
//!   given back, it may be there beyond the capacity.
//!
//! Imports `options`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::runtime::options::{AtCapacity, Pressure, SlotOptions};

/// Room for so many messages is always kept.
const ROOM_MIN: usize = 64;

/// The number of a message in its slot. They ascend in the order in which messages came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Seq(pub(crate) u64);

impl Seq {
    /// The number after this one. At the end of all numbers it stays, and the queue
    /// refuses: no store lives to see that.
    fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the queue.
    Waiting,
    /// With an activation that is not committed yet.
    Taken,
    /// Consumed by an activation that was committed, and remembered until it is trimmed.
    Consumed,
}

/// What happens to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// An activation takes it.
    Take,
    /// Its activation is committed.
    Consume,
    /// Its activation failed, and will be tried again or was given up.
    GiveBack,
    /// It goes: dropped at capacity, cancelled with its job, parked, or put among the dead
    /// letters.
    Remove,
    /// What was consumed makes room.
    Trim,
}

/// Where a message is after a move: `Some(None)` where it is gone, `None` where the move
/// cannot be.
pub(crate) fn after(place: Place, step: Move) -> Option<Option<Place>> {
    match (place, step) {
        (Place::Waiting, Move::Take) => Some(Some(Place::Taken)),
        (Place::Taken, Move::Consume) => Some(Some(Place::Consumed)),
        (Place::Taken, Move::GiveBack) => Some(Some(Place::Waiting)),
        (Place::Waiting | Place::Taken, Move::Remove) => Some(None),
        (Place::Consumed, Move::Trim) => Some(None),
        (Place::Waiting, Move::Consume | Move::GiveBack | Move::Trim)
        | (Place::Taken, Move::Take | Move::Trim)
        | (Place::Consumed, Move::Take | Move::Consume | Move::GiveBack | Move::Remove) => None,
    }
}

/// How much room a message may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// What is posted: up to the capacity.
    Capacity,
    /// What an activation emits that was started: up to the hard limit.
    Hard,
}

/// The slot has no room. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} messages wait in the slot, and {max} may")]
pub(crate) struct Full {
    pub(crate) waiting: usize,
    pub(crate) max: usize,
    /// Whoever posts is to wait for room.
    pub(crate) wait: bool,
}

/// What an activation takes of a slot, or looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// All that wait.
    AllNew,
    /// The oldest that waits.
    OneNew,
    /// The oldest ones that wait, up to so many.
    New(usize),
    /// All that wait, and all that were consumed and are remembered.
    All,
    /// The newest of all those. Taken, it takes all older ones with it.
    Latest,
}

/// A message with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held<T> {
    pub(crate) seq: Seq,
    pub(crate) item: T,
}

/// What an activation was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taking<T> {
    /// What it sees, oldest first.
    pub(crate) given: Vec<Held<T>>,
    /// What its commit consumes.
    pub(crate) taken: Vec<Seq>,
}

/// The queue of one slot of one worker.
#[derive(Clone, Debug)]
pub(crate) struct SlotQueue<T> {
    options: SlotOptions,
    next: Seq,
    /// In the order of their numbers. There may be a million of them, which come at the end
    /// and leave at the beginning, so they take no room but their own.
    waiting: VecDeque<Held<T>>,
    taken: BTreeMap<Seq, T>,
    consumed: BTreeMap<Seq, T>,
    dropped: u64,
}

impl<T: Clone> SlotQueue<T> {
    /// An empty queue, with options that are without [fault](SlotOptions::fault).
    pub(crate) fn new(options: SlotOptions) -> Self {
        Self {
            options,
            next: Seq(0),
            waiting: VecDeque::new(),
            taken: BTreeMap::new(),
            consumed: BTreeMap::new(),
            dropped: 0,
        }
    }

    /// A queue as the store has it: `waiting` is all that was not consumed, in the order of
    /// the numbers, also where an activation had taken it when it ended, and also beyond the
    /// capacity. No number below `next` is given again.
    pub(crate) fn restore(options: SlotOptions, next: Seq, waiting: Vec<Held<T>>) -> Self {
        let mut queue = Self::new(options);
        let last = waiting.last();
        let above = last.and_then(|held| held.seq.next()).unwrap_or_default();
        queue.next = next.max(above);
        queue.waiting = waiting.into();
        queue.waiting.shrink_to_fit();
        queue
    }

    /// The number that the next message gets.
    pub(crate) fn next_seq(&self) -> Seq {
        self.next
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many were not consumed: those that wait, and those that are taken.
    pub(crate) fn unconsumed(&self) -> usize {
        self.waiting.len() + self.taken.len()
    }

    /// How many are held, those included that were consumed and are remembered.
    pub(crate) fn total(&self) -> usize {
        self.unconsumed() + self.consumed.len()
    }

    /// How many were dropped at capacity since the queue was made.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The oldest of those that wait. Store time never goes back, so it is the one that came
    /// first.
    pub(crate) fn oldest(&self) -> Option<&T> {
        self.waiting.front().map(|held| &held.item)
    }

    pub(crate) fn options(&self) -> &SlotOptions {
        &self.options
    }

    /// True where as much waits as may, or more.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= self.options.capacity
    }

    /// True where no activation starts that may emit to it, unless they lie in a cycle: it
    /// is full, and does not make room by itself.
    pub(crate) fn holds_back(&self) -> bool {
        self.is_full() && self.options.at_capacity != AtCapacity::DropOldest
    }

    pub(crate) fn pressure(&self) -> Pressure {
        Pressure::of(self.waiting.len(), &self.options)
    }

    /// Whether `more` messages have room, before anything is written.
    ///
    /// # Errors
    /// [`Full`]; never where the slot drops its oldest.
    pub(crate) fn room_for(&self, more: usize, room: Room) -> Result<(), Full> {
        let waiting = self.waiting.len();
        let (max, wait) = match (self.options.at_capacity, room) {
            (AtCapacity::DropOldest, _) => return Ok(()),
            (_, Room::Hard) => (self.options.hard_limit(), false),
            (AtCapacity::Refuse, Room::Capacity) => (self.options.capacity, false),
            (AtCapacity::Wait, Room::Capacity) => (self.options.capacity, true),
        };
        // What is more than ever fits is not waited for.
        let wait = wait && more <= max;
        match waiting.saturating_add(more) > max {
            true => Err(Full { waiting, max, wait }),
            false => Ok(()),
        }
    }

    /// Puts a message at the end. What was dropped for it comes back, to be counted.
    ///
    /// # Errors
    /// [`Full`], and then nothing was changed.
    pub(crate) fn enqueue(&mut self, item: T, room: Room) -> Result<(Seq, Vec<Held<T>>), Full> {
        self.room_for(1, room)?;
        let seq = self.next;
        let full = || Full {
            waiting: self.waiting.len(),
            max: self.options.capacity,
            wait: false,
        };
        let next = seq.next().ok_or_else(full)?;
        let mut dropped = Vec::new();
        if self.options.at_capacity == AtCapacity::DropOldest {
            while self.is_full() {
                let Some(oldest) = self.waiting.front() else {
                    break;
                };
                dropped.extend(self.step(oldest.seq, Place::Waiting, Move::Remove));
                self.dropped += 1;
            }
        }
        self.next = next;
        self.trim();
        self.waiting.push_back(Held { seq, item });
        Ok((seq, dropped))
    }

    /// All that wait, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Held<T>> {
        self.waiting.iter()
    }

    /// What a form gives, without taking it. Those that are taken are not in it: they are
    /// somebody else's.
    pub(crate) fn peek(&self, form: Form) -> Vec<Held<T>> {
        match form {
            Form::AllNew => self.first(usize::MAX),
            Form::OneNew => self.first(1),
            Form::New(count) => self.first(count),
            Form::All => {
                let waiting = self.waiting.iter().cloned();
                let mut all: Vec<_> = self.consumed.iter().map(held).chain(waiting).collect();
                all.sort_unstable_by_key(|held| held.seq);
                all
            }
            Form::Latest => {
                let consumed = self.consumed.last_key_value().map(held);
                let waiting = self.waiting.back().cloned();
                let latest = waiting.into_iter().chain(consumed);
                latest.max_by_key(|held| held.seq).into_iter().collect()
            }
        }
    }

    /// Gives what a form gives, and takes what waited of it; of the latest, all that
    /// waited.
    pub(crate) fn take(&mut self, form: Form) -> Taking<T> {
        let given = self.peek(form);
        let taken: Vec<_> = match form {
            Form::Latest => self.waiting.iter().map(|held| held.seq).collect(),
            _ => given.iter().map(|held| held.seq).collect(),
        };
        let is_new = |seq: &Seq| self.waiting_at(*seq).is_ok();
        let taken: Vec<_> = taken.into_iter().filter(is_new).collect();
        for &seq in &taken {
            self.step(seq, Place::Waiting, Move::Take);
        }
        Taking { given, taken }
    }

    /// Takes exactly these again, as after a crash the activation does that had claimed
    /// them. What is no longer there is left out.
    pub(crate) fn take_again(&mut self, seqs: &[Seq]) -> Taking<T> {
        let (mut given, mut taken) = (Vec::new(), Vec::new());
        for &seq in seqs {
            if let Some(held) = self
                .waiting_at(seq)
                .ok()
                .and_then(|at| self.waiting.get(at))
            {
                given.push(held.clone());
                taken.push(seq);
                self.step(seq, Place::Waiting, Move::Take);
            }
        }
        Taking { given, taken }
    }

    /// The activation that took these is committed.
    pub(crate) fn consume(&mut self, taken: &[Seq]) {
        for &seq in taken {
            self.step(seq, Place::Taken, Move::Consume);
        }
        self.trim();
    }

    /// The activation that took these is not committed: they wait again, where they stood.
    pub(crate) fn give_back(&mut self, taken: &[Seq]) {
        for &seq in taken {
            self.step(seq, Place::Taken, Move::GiveBack);
        }
    }

    /// Takes these out that were not consumed, wherever they are.
    pub(crate) fn remove(&mut self, seqs: &BTreeSet<Seq>) {
        for &seq in seqs {
            self.step(seq, Place::Taken, Move::Remove);
        }
        // Those that wait all at once: each by itself would move those behind it.
        self.waiting.retain(|held| !seqs.contains(&held.seq));
        self.give_room_back();
    }

    /// What many had waited in is given back once few do.
    fn give_room_back(&mut self) {
        let (len, room) = (self.waiting.len(), self.waiting.capacity());
        if room > ROOM_MIN && len < room / 8 {
            self.waiting.shrink_to((len * 2).max(ROOM_MIN));
        }
    }

    /// All that wait and all that are taken, oldest first, with where they are.
    #[cfg(test)]
    pub(crate) fn list(&self) -> Vec<(Held<T>, Place)> {
        let waiting = self.waiting.iter().cloned();
        let waiting = waiting.map(|held| (held, Place::Waiting));
        let taken = self.taken.iter().map(|of| (held(of), Place::Taken));
        let mut all: Vec<_> = waiting.chain(taken).collect();
        all.sort_unstable_by_key(|(held, _)| held.seq);
        all
    }

    /// Forgets what was consumed, once as much is held as the watermark says. So the
    /// memory of a slot is bounded by its capacity, whatever passes through it.
    fn trim(&mut self) {
        let watermark = self.options.watermark * self.options.capacity as f64;
        if self.total() as f64 >= watermark {
            let consumed: Vec<_> = self.consumed.keys().copied().collect();
            for seq in consumed {
                self.step(seq, Place::Consumed, Move::Trim);
            }
        }
    }

    fn first(&self, count: usize) -> Vec<Held<T>> {
        self.waiting.iter().take(count).cloned().collect()
    }

    /// Where a message stands among those that wait, or would stand.
    fn waiting_at(&self, seq: Seq) -> Result<usize, usize> {
        // Most that are looked for are the first.
        match self.waiting.front() {
            Some(first) if first.seq == seq => Ok(0),
            _ => self.waiting.binary_search_by_key(&seq, |held| held.seq),
        }
    }

    /// Moves a message, if it is at that place and may go there. One that is gone comes back.
    fn step(&mut self, seq: Seq, from: Place, step: Move) -> Option<Held<T>> {
        let to = after(from, step)?;
        let item = match from {
            Place::Waiting => {
                let held = self.waiting.remove(self.waiting_at(seq).ok()?)?;
                self.give_room_back();
                held.item
            }
            Place::Taken => self.taken.remove(&seq)?,
            Place::Consumed => self.consumed.remove(&seq)?,
        };
        match to {
            None => return Some(Held { seq, item }),
            Some(Place::Waiting) => {
                let (Ok(at) | Err(at)) = self.waiting_at(seq);
                self.waiting.insert(at, Held { seq, item });
            }
            Some(Place::Taken) => drop(self.taken.insert(seq, item)),
            Some(Place::Consumed) => drop(self.consumed.insert(seq, item)),
        }
        None
    }
}

fn held<T: Clone>((&seq, item): (&Seq, &T)) -> Held<T> {
    let item = item.clone();
    Held { seq, item }
}

#[cfg(test)]
mod tests;
