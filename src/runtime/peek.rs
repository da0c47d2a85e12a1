//! Owns what logic sees of its own slots beyond what it was given. Imports `activation`,
//! `slot`.
//!
//! It is to be looked at and not to be taken: what an activation consumes is decided by the
//! policy, before it begins, so that every run of it has the same.

use std::sync::Arc;

use crate::runtime::activation::Activation;
use crate::runtime::event::Event;
use crate::runtime::job::Message;
use crate::runtime::options::Pressure;
use crate::runtime::slot::{Form, SlotQueue};

impl Activation {
    /// How many messages wait in one of its slots, beside what it was given: those that a
    /// later activation gets. 0 where the routine has no such slot. As it is at this moment:
    /// who emits or takes meanwhile does not make this activation lose a race.
    ///
    /// ```
    /// use evenkeel::{Activation, Failure};
    /// fn refresh(cx: &mut Activation) -> Result<(), Failure> {
    ///     if cx.waiting("in") > 100 {
    ///         return Ok(()); // a newer one comes at once
    ///     }
    ///     cx.emit("out", cx.latest("in").map(|event| event.data().clone()))?;
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn waiting(&self, slot: &str) -> usize {
        self.of_slot(slot, SlotQueue::waiting).unwrap_or(0)
    }

    /// How many messages one of its slots holds: those that wait, those that run, this
    /// activation's own included, and those that were consumed and are still there.
    #[must_use]
    pub fn total(&self, slot: &str) -> usize {
        self.of_slot(slot, SlotQueue::total).unwrap_or(0)
    }

    /// How full one of its slots is.
    #[must_use]
    pub fn pressure(&self, slot: &str) -> Pressure {
        self.of_slot(slot, SlotQueue::pressure)
            .unwrap_or(Pressure::Low)
    }

    /// All messages that wait in one of its slots, oldest first. They stay there.
    #[must_use]
    pub fn peek_all_new(&self, slot: &str) -> Vec<Arc<Event>> {
        self.peek(slot, Form::AllNew)
    }

    /// The oldest message that waits in one of its slots.
    #[must_use]
    pub fn peek_one_new(&self, slot: &str) -> Option<Arc<Event>> {
        self.peek(slot, Form::OneNew).pop()
    }

    /// All messages of one of its slots, oldest first: those that wait, and those that were
    /// consumed since it was trimmed or the store was opened. What runs is in neither.
    #[must_use]
    pub fn peek_all(&self, slot: &str) -> Vec<Arc<Event>> {
        self.peek(slot, Form::All)
    }

    /// The newest of those.
    #[must_use]
    pub fn peek_latest(&self, slot: &str) -> Option<Arc<Event>> {
        self.peek(slot, Form::Latest).pop()
    }

    fn peek(&self, slot: &str, form: Form) -> Vec<Arc<Event>> {
        let events = |queue: &SlotQueue<Message>| {
            let held = queue.peek(form).into_iter();
            held.map(|held| held.item.event).collect()
        };
        self.of_slot(slot, events).unwrap_or_default()
    }

    fn of_slot<T>(&self, slot: &str, look: impl FnOnce(&SlotQueue<Message>) -> T) -> Option<T> {
        let slot = self.run.routine().slot(slot)?;
        let inner = self.run.worker.inner.lock();
        // Of a worker that ended, or whose flow was replaced, there may be none any more.
        let queue = inner.routines.get(self.run.at)?.slots.get(slot)?;
        Some(look(queue))
    }
}
