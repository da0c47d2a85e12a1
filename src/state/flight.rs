//! Owns that something is made by one thread while the others that want it wait. What is
//! made is a resource or the value of a cache; both are here, because the making of one
//! may wait for another one.
//!
//! No lock is held while something is made. Whoever would wait for himself, through
//! whomever, is told so.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::scope::Scope;
use crate::sync::thread::{self, ThreadId};
use crate::sync::{Condvar, Mutex};

/// What is made.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// A resource: of a type, and of a scope where each has its own.
    Resource(TypeId, Option<Scope>),
    /// The value of a key, in the cache of this number.
    Cached(u64, Arc<str>),
}

/// What was made, before its type is known again.
pub(super) type Made = Arc<dyn Any + Send + Sync>;

/// Something that is being made.
struct Making {
    maker: ThreadId,
    /// What came of it, once it has ended; nothing where it failed.
    outcome: Mutex<Option<Option<Made>>>,
    ended: Condvar,
}

impl Making {
    fn goes_on(&self) -> bool {
        self.outcome.lock().is_none()
    }
}

#[derive(Default)]
struct State {
    making: BTreeMap<Place, Arc<Making>>,
    /// Who waits for what.
    waiting: Vec<(ThreadId, Arc<Making>)>,
    closed: bool,
}

impl State {
    /// Whether `maker` waits, through whomever, for `thread`.
    fn waits_for(&self, mut maker: ThreadId, thread: ThreadId) -> bool {
        while maker != thread {
            let awaited = self.waiting.iter().find(|(waits, _)| *waits == maker);
            match awaited {
                Some((_, making)) if making.goes_on() => maker = making.maker,
                _ => return false,
            }
        }
        true
    }
}

/// What is being made in a store.
#[derive(Default)]
pub(super) struct Flights {
    state: Mutex<State>,
}

impl fmt::Debug for Flights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flights")
    }
}

/// What becomes of somebody who wants something.
pub(super) enum Turn<'f> {
    /// He makes it. First he looks again: it may have been made just now.
    Mine(Flight<'f>),
    /// Another one has ended, after a wait, and has made this, or failed.
    Ended(Option<Made>),
    /// He would wait for himself.
    Circle,
}

impl Flights {
    /// Begins to make something, or waits for whoever does.
    ///
    /// # Errors
    /// [`Error::Closed`] where the store ends before he does.
    pub(super) fn begin(&self, place: Place) -> Result<Turn<'_>> {
        let myself = thread::current().id();
        let mut state = self.state.lock();
        let Some(making) = state.making.get(&place).map(Arc::clone) else {
            let making = Making {
                maker: myself,
                outcome: Mutex::new(None),
                ended: Condvar::new(),
            };
            state.making.insert(place.clone(), Arc::new(making));
            return Ok(Turn::Mine(Flight {
                flights: self,
                place,
                made: None,
            }));
        };
        if state.waits_for(making.maker, myself) {
            return Ok(Turn::Circle);
        }
        state.waiting.push((myself, Arc::clone(&making)));
        while !state.closed && making.goes_on() {
            making.ended.wait(&mut state);
        }
        state.waiting.retain(|(waits, _)| *waits != myself);
        drop(state);
        let outcome = making.outcome.lock().clone();
        outcome.map(Turn::Ended).ok_or(Error::Closed)
    }

    /// Ends every wait, now and later.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        for making in state.making.values() {
            making.ended.notify_all();
        }
    }
}

/// The right to make something. Dropped, it has failed, and one of those who wait makes
/// it instead.
pub(super) struct Flight<'f> {
    flights: &'f Flights,
    place: Place,
    made: Option<Made>,
}

impl Flight<'_> {
    /// It is made, and kept where others find it: those who wait get this.
    pub(super) fn land(mut self, made: Made) {
        self.made = Some(made);
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut state = self.flights.state.lock();
        if let Some(making) = state.making.remove(&self.place) {
            *making.outcome.lock() = Some(self.made.take());
            making.ended.notify_all();
        }
    }
}
