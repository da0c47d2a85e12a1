//! Owns activation policies: whether a routine is activated, and with what, as a
//! decision over its slots, the time, and when it was activated last. A decision changes
//! nothing; whoever asks takes what it says and asks again, since there may be more.
//! Imports `event`, `failure`, `slot`.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::runtime::event::Event;
use crate::runtime::failure::Failure;
use crate::runtime::options::Pressure;
use crate::runtime::slot::{Form, SlotQueue};

/// When a routine is activated, and with what of its slots.
///
/// ```
/// use evenkeel::ActivationPolicy;
/// use std::time::Duration;
/// let policy = ActivationPolicy::batch_size(3).max_wait(Duration::from_secs(5));
/// assert_eq!(policy.to_string(), "batch of 3, after 5s of what there is");
/// ```
#[derive(Clone)]
pub struct ActivationPolicy {
    pub(crate) rule: Rule,
    pub(crate) breakpoint: bool,
}

/// What a policy goes by.
#[derive(Clone)]
pub(crate) enum Rule {
    Immediate,
    AllSlotsReady,
    BatchSize {
        size: usize,
        max_wait: Option<Duration>,
    },
    TimeInterval(Duration),
    Custom {
        name: Option<String>,
        check: Arc<Check>,
    },
}

type Check = dyn Fn(&SlotsView<'_>) -> Result<Decision, Failure> + Send + Sync;

impl ActivationPolicy {
    fn of(rule: Rule) -> Self {
        Self {
            rule,
            breakpoint: false,
        }
    }

    /// As soon as any slot has a message: takes all that wait, of all slots. The default.
    #[must_use]
    pub fn immediate() -> Self {
        Self::of(Rule::Immediate)
    }

    /// As soon as every slot has a message: takes one of each.
    #[must_use]
    pub fn all_slots_ready() -> Self {
        Self::of(Rule::AllSlotsReady)
    }

    /// As soon as every slot has `size` messages: takes exactly so many of each, and goes
    /// on while there are as many again.
    #[must_use]
    pub fn batch_size(size: usize) -> Self {
        Self::of(Rule::BatchSize {
            size,
            max_wait: None,
        })
    }

    /// Makes a batch not wait longer than this after a message of it came: then it takes
    /// what there is, up to its size. Other policies do not wait, and it changes nothing.
    #[must_use]
    pub fn max_wait(mut self, wait: Duration) -> Self {
        if let Rule::BatchSize { max_wait, .. } = &mut self.rule {
            *max_wait = Some(wait);
        }
        self
    }

    /// At most once in `interval`, counted for each routine of each worker: takes all
    /// that wait, of all slots. What comes in between is taken at its end.
    #[must_use]
    pub fn time_interval(interval: Duration) -> Self {
        Self::of(Rule::TimeInterval(interval))
    }

    /// Whenever `check` says so. It answers a [`Decision`], or `bool`: `true` takes all
    /// that wait, of all slots; or a `Result` of either. It is asked whenever a message
    /// comes and whenever an activation ends, must be quick, and sees no store.
    ///
    /// Where it fails or panics nothing is activated, nothing is lost, and it is
    /// reported; it is asked again with the next message. An activation without any
    /// message is not made, whatever it says.
    ///
    /// ```
    /// use evenkeel::{ActivationPolicy, Decision};
    /// let pairs = ActivationPolicy::custom(|slots| {
    ///     match slots.waiting("left").min(slots.waiting("right")) {
    ///         0 => Decision::hold(),
    ///         n => Decision::take("left", n).and("right", n),
    ///     }
    /// });
    /// let many = ActivationPolicy::custom(|slots| slots.waiting("in") > 5);
    /// # let _ = (pairs, many);
    /// ```
    #[must_use]
    pub fn custom<D: IntoDecision>(
        check: impl Fn(&SlotsView<'_>) -> D + Send + Sync + 'static,
    ) -> Self {
        Self::of(Rule::Custom {
            name: None,
            check: Arc::new(move |slots| check(slots).decision()),
        })
    }

    /// Holds all messages, and drops none, until the routine is released; then
    /// it is [`immediate`](Self::immediate).
    #[must_use]
    pub fn breakpoint() -> Self {
        Self::immediate().with_breakpoint()
    }

    /// The same policy with a breakpoint before it: it holds all messages, and drops none,
    /// until the routine is released.
    #[must_use]
    pub fn with_breakpoint(mut self) -> Self {
        self.breakpoint = true;
        self
    }

    /// The same policy under the name that its check is registered by.
    pub(crate) fn named(mut self, known_as: &str) -> Self {
        if let Rule::Custom { name, .. } = &mut self.rule {
            *name = Some(known_as.to_owned());
        }
        self
    }

    /// Whether a slot without a message can hold it up.
    pub(crate) fn waits_for_all(&self) -> bool {
        matches!(self.rule, Rule::AllSlotsReady | Rule::BatchSize { .. })
    }

    /// What is wrong with it, for a routine whose slots have these capacities.
    pub(crate) fn fault<'s>(
        &self,
        slots: impl IntoIterator<Item = (&'s str, usize)>,
    ) -> Option<String> {
        match self.rule {
            Rule::BatchSize { size: 0, .. } => {
                Some("a batch of 0 messages; at least 1 makes a batch".into())
            }
            Rule::BatchSize { size, .. } => {
                let mut slots = slots.into_iter();
                let (name, capacity) = slots.find(|(_, capacity)| *capacity < size)?;
                Some(format!(
                    "a batch of {size} never fits into slot {name:?}, which has a capacity of {capacity}; raise the capacity, or make batches smaller"
                ))
            }
            Rule::TimeInterval(Duration::ZERO) => {
                Some("an interval of no time; `immediate` is that".into())
            }
            _ => None,
        }
    }

    /// Whether the routine is activated now, and with what.
    ///
    /// # Errors
    /// What a custom check answers, or its panic. Nothing is to be activated then.
    pub(crate) fn decide(&self, slots: &SlotsView<'_>, when: When) -> Result<Decision, Failure> {
        let anything = slots.slots.iter().any(|slot| slot.queue.waiting() > 0);
        if !anything || (self.breakpoint && !when.released) {
            return Ok(Decision::hold());
        }
        match &self.rule {
            Rule::Immediate => Ok(Decision::take_all()),
            Rule::AllSlotsReady => Ok(slots.batch(1)),
            Rule::BatchSize { size, max_wait } => Ok(match slots.batch(*size) {
                Decision(Inner::Hold { .. }) => slots.rest(*size, *max_wait, when.now_micros),
                batch => batch,
            }),
            Rule::TimeInterval(interval) => {
                let due = when.last_micros.map(|last| later(last, *interval));
                Ok(match due {
                    Some(due) if when.now_micros < due => Decision::hold_until(due),
                    _ => Decision::take_all(),
                })
            }
            Rule::Custom { check, .. } => {
                let decision = catch_unwind(AssertUnwindSafe(|| check(slots))).unwrap_or_else(
                    |panic: Box<dyn Any + Send>| {
                        Err(Failure::panicked(
                            "the check of an activation policy",
                            &*panic,
                        ))
                    },
                )?;
                slots.checked(decision)
            }
        }
    }
}

impl Default for ActivationPolicy {
    fn default() -> Self {
        Self::immediate()
    }
}

impl fmt::Display for ActivationPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Rule::Immediate => f.write_str("immediate")?,
            Rule::AllSlotsReady => f.write_str("all slots ready")?,
            Rule::BatchSize { size, max_wait } => {
                write!(f, "batch of {size}")?;
                if let Some(wait) = max_wait {
                    write!(f, ", after {wait:?} of what there is")?;
                }
            }
            Rule::TimeInterval(interval) => write!(f, "at most once in {interval:?}")?,
            Rule::Custom { name: None, .. } => f.write_str("custom")?,
            Rule::Custom {
                name: Some(name), ..
            } => write!(f, "custom {name:?}")?,
        }
        match self.breakpoint {
            true => f.write_str(", behind a breakpoint"),
            false => Ok(()),
        }
    }
}

impl fmt::Debug for ActivationPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActivationPolicy({self})")
    }
}

/// The time of a decision, and what the routine remembers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct When {
    /// Store time.
    pub(crate) now_micros: u64,
    /// When the routine was activated last, by store time.
    pub(crate) last_micros: Option<u64>,
    /// Whether somebody released it at its breakpoint.
    pub(crate) released: bool,
}

/// What a policy decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision(pub(crate) Inner);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Inner {
    /// Not now; ask again when something changes, and at this time.
    Hold { until_micros: Option<u64> },
    /// With all that wait, of all slots.
    TakeAll,
    /// With so much of these slots.
    Take(Vec<(String, Form)>),
}

impl Decision {
    /// Nothing is activated until something changes.
    #[must_use]
    pub fn hold() -> Self {
        Self(Inner::Hold { until_micros: None })
    }

    /// Nothing is activated until something changes, or until this time, in microseconds
    /// since 1970 by the store's time.
    #[must_use]
    pub fn hold_until(micros: u64) -> Self {
        Self(Inner::Hold {
            until_micros: Some(micros),
        })
    }

    /// An activation with all that wait, of all slots.
    #[must_use]
    pub fn take_all() -> Self {
        Self(Inner::TakeAll)
    }

    /// An activation with up to `count` of the oldest messages of one slot. A slot that the
    /// routine does not have is an error of the check.
    #[must_use]
    pub fn take(slot: impl Into<String>, count: usize) -> Self {
        Self(Inner::Take(vec![(slot.into(), Form::New(count))]))
    }

    /// An activation with the newest message of one slot; all older ones are consumed with
    /// it.
    #[must_use]
    pub fn take_latest(slot: impl Into<String>) -> Self {
        Self(Inner::Take(vec![(slot.into(), Form::Latest)]))
    }

    /// An activation with all messages of one slot: those that wait, which it consumes, and
    /// those that were consumed before and are [still there](SlotsView::peek_all).
    #[must_use]
    pub fn take_with_consumed(slot: impl Into<String>) -> Self {
        Self(Inner::Take(vec![(slot.into(), Form::All)]))
    }

    /// As well as this decision says, with up to `count` of another slot. To hold, and to
    /// take all, stay what they are.
    #[must_use]
    pub fn and(self, slot: impl Into<String>, count: usize) -> Self {
        self.with(slot.into(), Form::New(count))
    }

    /// As well as this decision says, with the newest of another slot. To hold, and to
    /// take all, stay what they are.
    #[must_use]
    pub fn and_latest(self, slot: impl Into<String>) -> Self {
        self.with(slot.into(), Form::Latest)
    }

    /// As well as this decision says, with all messages of another slot, consumed ones
    /// included. To hold, and to take all, stay what they are.
    #[must_use]
    pub fn and_with_consumed(self, slot: impl Into<String>) -> Self {
        self.with(slot.into(), Form::All)
    }

    fn with(mut self, slot: String, form: Form) -> Self {
        if let Inner::Take(forms) = &mut self.0 {
            forms.push((slot, form));
        }
        self
    }
}

/// What a custom check may answer: a [`Decision`]; `bool`, where `true` takes all that
/// wait; or a `Result` of either, whose error is reported.
pub trait IntoDecision: sealed::Sealed {
    #[doc(hidden)]
    fn decision(self) -> Result<Decision, Failure>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for bool {}
    impl Sealed for super::Decision {}
    impl<T: Sealed, E> Sealed for Result<T, E> {}
}

impl IntoDecision for Decision {
    fn decision(self) -> Result<Decision, Failure> {
        Ok(self)
    }
}

impl IntoDecision for bool {
    fn decision(self) -> Result<Decision, Failure> {
        Ok(match self {
            true => Decision::take_all(),
            false => Decision::hold(),
        })
    }
}

impl<D: IntoDecision, E: Into<Failure>> IntoDecision for Result<D, E> {
    fn decision(self) -> Result<Decision, Failure> {
        self.map_err(Into::into)?.decision()
    }
}

/// One slot as a policy sees it.
#[derive(Clone, Copy)]
pub(crate) struct SlotView<'q> {
    pub(crate) name: &'q str,
    pub(crate) queue: &'q dyn Waiting,
}

/// What carries an event.
pub(crate) trait Carries: Clone {
    fn event(&self) -> &Arc<Event>;
}

impl Carries for Arc<Event> {
    fn event(&self) -> &Arc<Event> {
        self
    }
}

/// The queue of a slot as far as policies look at it.
pub(crate) trait Waiting {
    fn waiting(&self) -> usize;
    fn total(&self) -> usize;
    fn oldest_micros(&self) -> Option<u64>;
    fn pressure(&self) -> Pressure;
    fn events(&self, form: Form) -> Vec<Arc<Event>>;
}

impl<T: Carries> Waiting for SlotQueue<T> {
    fn waiting(&self) -> usize {
        Self::waiting(self)
    }

    fn total(&self) -> usize {
        Self::total(self)
    }

    fn oldest_micros(&self) -> Option<u64> {
        let oldest = self.oldest()?;
        Some(oldest.event().emitted_at_micros())
    }

    fn pressure(&self) -> Pressure {
        Self::pressure(self)
    }

    fn events(&self, form: Form) -> Vec<Arc<Event>> {
        let held = self.peek(form).into_iter();
        held.map(|held| Arc::clone(held.item.event())).collect()
    }
}

/// The slots of a routine as a custom check sees them: to be looked at, not to be
/// changed. A slot that the routine does not have is empty, and who asks for one has made
/// a typing error: its check has failed, whatever it answers.
pub struct SlotsView<'q> {
    slots: &'q [SlotView<'q>],
    /// The first slot that was asked for and is not there.
    missing: RefCell<Option<String>>,
}

impl<'q> SlotsView<'q> {
    pub(crate) fn new(slots: &'q [SlotView<'q>]) -> Self {
        Self {
            slots,
            missing: RefCell::new(None),
        }
    }

    fn queue(&self, slot: &str) -> Option<&'q dyn Waiting> {
        let mut slots = self.slots.iter();
        let found = slots.find(|view| view.name == slot);
        if found.is_none() {
            self.missing
                .borrow_mut()
                .get_or_insert_with(|| slot.to_owned());
        }
        found.map(|view| view.queue)
    }

    /// The names of the slots, in the order in which they were declared.
    pub fn names(&self) -> impl Iterator<Item = &'q str> {
        self.slots.iter().map(|view| view.name)
    }

    /// How many messages wait in a slot.
    #[must_use]
    pub fn waiting(&self, slot: &str) -> usize {
        self.queue(slot).map_or(0, Waiting::waiting)
    }

    /// How many messages a slot holds: those that wait, those that run, and those that were
    /// consumed and are still there.
    #[must_use]
    pub fn total(&self, slot: &str) -> usize {
        self.queue(slot).map_or(0, Waiting::total)
    }

    /// When the oldest message came that waits in a slot, in microseconds since 1970 by
    /// the store's time.
    #[must_use]
    pub fn oldest_micros(&self, slot: &str) -> Option<u64> {
        self.queue(slot)?.oldest_micros()
    }

    /// How full a slot is.
    #[must_use]
    pub fn pressure(&self, slot: &str) -> Pressure {
        self.queue(slot).map_or(Pressure::Low, Waiting::pressure)
    }

    /// All messages that wait in a slot, oldest first.
    #[must_use]
    pub fn peek_all_new(&self, slot: &str) -> Vec<Arc<Event>> {
        self.peek(slot, Form::AllNew)
    }

    /// The oldest message that waits in a slot.
    #[must_use]
    pub fn peek_one_new(&self, slot: &str) -> Option<Arc<Event>> {
        self.peek(slot, Form::OneNew).pop()
    }

    /// All messages of a slot: those that wait, and those that were consumed since it was
    /// trimmed or the store was opened.
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
        let queue = self.queue(slot);
        queue.map(|queue| queue.events(form)).unwrap_or_default()
    }

    /// So many of each slot, where every slot has as many.
    fn batch(&self, size: usize) -> Decision {
        match self.slots.iter().all(|slot| slot.queue.waiting() >= size) {
            true => self.up_to(size),
            false => Decision::hold(),
        }
    }

    /// What there is of a batch that is not full, where a message of it has waited for
    /// long enough.
    fn rest(&self, size: usize, max_wait: Option<Duration>, now_micros: u64) -> Decision {
        let oldest = self
            .slots
            .iter()
            .filter_map(|slot| slot.queue.oldest_micros());
        match oldest.min().zip(max_wait) {
            None => Decision::hold(),
            Some((oldest, wait)) => match later(oldest, wait) {
                due if due <= now_micros => self.up_to(size),
                due => Decision::hold_until(due),
            },
        }
    }

    fn up_to(&self, size: usize) -> Decision {
        let of = |slot: &SlotView<'_>| (slot.name.to_owned(), Form::New(size));
        Decision(Inner::Take(self.slots.iter().map(of).collect()))
    }

    /// A decision of a check that can be followed: its slots are there, and it takes
    /// something.
    fn checked(&self, decision: Decision) -> Result<Decision, Failure> {
        let mut anything = true;
        if let Inner::Take(forms) = &decision.0 {
            let takes = |(name, form): &(String, Form)| {
                let waiting = self.queue(name).map_or(0, Waiting::waiting);
                *form != Form::New(0) && waiting > 0
            };
            // Of each, so that none is missed that is not there.
            anything = forms.iter().filter(|form| takes(form)).count() > 0;
        }
        match (self.missing.take(), anything) {
            (Some(slot), _) => Err(Failure::new(format!(
                "the check of an activation policy asks for slot {slot:?}, which the routine does not have"
            ))),
            (None, true) => Ok(decision),
            (None, false) => Ok(Decision::hold()),
        }
    }
}

impl fmt::Debug for SlotsView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self
            .slots
            .iter()
            .map(|slot| (slot.name, slot.queue.waiting()));
        f.debug_map().entries(waiting).finish()
    }
}

/// The time so much later; at the end of all time it stays.
fn later(micros: u64, by: Duration) -> u64 {
    micros.saturating_add(clock::micros(by))
}

#[cfg(test)]
mod tests;
