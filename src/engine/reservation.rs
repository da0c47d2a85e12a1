//! Owns the queue of transactions that lost too often: each reserves the keys it
//! read, in the order they came, and nobody else writes those until it is done.
//!
//! What stays true: a ticket joins all its queues at once, so tickets never wait
//! for each other in a circle; who touches other keys waits for nobody.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Condvar, Mutex};

/// A key of a slot, or the whole slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) slot: u64,
    pub(crate) key: Option<Box<[u8]>>,
}

impl Claim {
    fn touches(&self, other: &Self) -> bool {
        self.slot == other.slot
            && (self.key.is_none() || other.key.is_none() || self.key == other.key)
    }
}

#[derive(Debug)]
struct Entry {
    ticket: u64,
    claims: Vec<Claim>,
    /// Since when it holds what it claims.
    granted: Option<Instant>,
}

/// The tickets, in the order they came.
#[derive(Debug, Default)]
pub(crate) struct Reservations {
    waiting: AtomicUsize,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    entries: Vec<Entry>,
}

/// How long a holder keeps others out: a closure that waits for somebody who
/// waits for the same key must not stop both for ever.
const LAPSE: Duration = Duration::from_secs(5);

/// A reservation; dropping it lets the others go on. It may be dropped on another thread
/// than it was made on.
#[derive(Debug)]
pub(crate) struct Ticket {
    owner: Arc<Reservations>,
    number: u64,
}

impl Reservations {
    /// Waits in line for these keys, then holds them.
    pub(crate) fn reserve(self: &Arc<Self>, claims: Vec<Claim>) -> Ticket {
        let mut queue = self.queue.lock();
        let number = queue.next;
        queue.next += 1;
        queue.entries.push(Entry {
            ticket: number,
            claims,
            granted: None,
        });
        self.waiting.store(queue.entries.len(), Ordering::SeqCst);
        let ticket = Ticket {
            owner: Arc::clone(self),
            number,
        };
        loop {
            let at = queue
                .entries
                .iter()
                .position(|entry| entry.ticket == number);
            let Some(at) = at else { return ticket };
            let blocked = queue.blocks(Some(number), &queue.entries[at].claims);
            if !blocked {
                queue.entries[at].granted = Some(clock::monotonic());
                return ticket;
            }
            self.changed.wait_for(&mut queue, LAPSE);
        }
    }

    /// True where there is any reservation at all: only then is it worth asking.
    pub(crate) fn any(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// True where an earlier reservation than `mine` covers one of these keys.
    pub(crate) fn blocks(&self, mine: Option<u64>, keys: &[Claim]) -> bool {
        self.queue.lock().blocks(mine, keys)
    }

    /// Waits until no earlier reservation than `mine` covers one of these keys.
    pub(crate) fn wait_for(&self, mine: Option<u64>, keys: &[Claim]) {
        let mut queue = self.queue.lock();
        while queue.blocks(mine, keys) {
            self.changed.wait_for(&mut queue, LAPSE);
        }
    }
}

impl Queue {
    fn blocks(&self, mine: Option<u64>, keys: &[Claim]) -> bool {
        let earlier = self
            .entries
            .iter()
            .filter(|entry| !entry.lapsed() && mine.is_none_or(|mine| entry.ticket < mine));
        let touches = |entry: &Entry| {
            entry
                .claims
                .iter()
                .any(|claim| keys.iter().any(|key| claim.touches(key)))
        };
        earlier.into_iter().any(touches)
    }
}

impl Entry {
    fn lapsed(&self) -> bool {
        self.granted
            .is_some_and(|since| clock::monotonic().duration_since(since) > LAPSE)
    }
}

impl Ticket {
    /// What tells this reservation from others.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut queue = self.owner.queue.lock();
        queue.entries.retain(|entry| entry.ticket != self.number);
        self.owner
            .waiting
            .store(queue.entries.len(), Ordering::SeqCst);
        drop(queue);
        self.owner.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(slot: u64, key: Option<&[u8]>) -> Claim {
        Claim {
            slot,
            key: key.map(Into::into),
        }
    }

    #[test]
    fn a_reservation_covers_its_keys_and_no_others() {
        let reservations = Arc::new(Reservations::default());
        let ticket = reservations.reserve(vec![claim(1, Some(b"a")), claim(2, None)]);
        let blocks = |slot, key: &[u8]| reservations.blocks(None, &[claim(slot, Some(key))]);
        assert!(blocks(1, b"a"));
        assert!(!blocks(1, b"b"));
        assert!(blocks(2, b"anything"));
        assert!(!blocks(3, b"a"));
        assert!(!reservations.blocks(Some(ticket.number()), &[claim(1, Some(b"a"))]));
        drop(ticket);
        assert!(!reservations.any());
    }

    #[test]
    fn tickets_for_one_key_come_in_order() {
        let reservations = Arc::new(Reservations::default());
        let order = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let first = reservations.reserve(vec![claim(1, None)]);
            let handle = scope.spawn(|| {
                let _second = reservations.reserve(vec![claim(1, Some(b"a"))]);
                order.lock().push(2);
            });
            while reservations.queue.lock().entries.len() < 2 {
                std::thread::yield_now();
            }
            order.lock().push(1);
            drop(first);
            handle.join().unwrap();
        });
        assert_eq!(*order.lock(), [1, 2]);
    }
}
