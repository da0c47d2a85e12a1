//! Owns the tasks and threads that wait for an LSN: who is woken, once for each that waits, however
//! often it asks and with whatever waker.
//!
//! What stays true: a waker is dropped outside of the lock that guards this. It may be
//! all that is left of a task, and what goes with that may ask the log again.

use std::collections::BTreeMap;
use std::mem;
use std::task::Waker;

use crate::ids::Lsn;

/// The tasks that wait.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    seats: u64,
    waiting: BTreeMap<(Lsn, u64), Waker>,
}

/// What tells one that waits from others. It is given when it first has to wait; a clone
/// waits for itself.
#[derive(Debug, Default)]
pub(crate) struct Seat(Option<(Lsn, u64)>);

impl Clone for Seat {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Seat {
    /// True where it never had to wait.
    pub(crate) fn is_free(&self) -> bool {
        self.0.is_none()
    }
}

impl Wakers {
    /// Wakes this task once `lsn` is reached. Gives what the same seat left before.
    #[must_use = "it is to be dropped outside of the lock"]
    pub(crate) fn wait(&mut self, seat: &mut Seat, lsn: Lsn, waker: &Waker) -> Option<Waker> {
        if let Some(place) = seat.0
            && place.0 == lsn
            && let Some(known) = self.waiting.get_mut(&place)
        {
            let other = !known.will_wake(waker);
            return other.then(|| mem::replace(known, waker.clone()));
        }
        let before = self.leave(seat);
        self.seats += 1;
        seat.0 = Some((lsn, self.seats));
        self.waiting.insert((lsn, self.seats), waker.clone());
        before
    }

    /// Wakes it no more. Gives what the seat left.
    #[must_use = "it is to be dropped outside of the lock"]
    pub(crate) fn leave(&mut self, seat: &mut Seat) -> Option<Waker> {
        let place = seat.0.take()?;
        self.waiting.remove(&place)
    }

    /// Those who waited for something up to this LSN, to be woken.
    pub(crate) fn reached(&mut self, lsn: Lsn) -> impl Iterator<Item = Waker> + use<> {
        let later = self.waiting.split_off(&(lsn.next(), 0));
        mem::replace(&mut self.waiting, later).into_values()
    }

    /// The one who waits for the least.
    pub(crate) fn first(&self) -> Option<Waker> {
        self.waiting.values().next().cloned()
    }

    /// All, to be woken.
    pub(crate) fn all(&mut self) -> impl Iterator<Item = Waker> + use<> {
        mem::take(&mut self.waiting).into_values()
    }
}
