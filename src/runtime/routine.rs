//! Owns what a routine is: its logic, and the settings it runs under. Imports
//! `activation`, `failure`, `handler`, `options`, `policy`, and `value`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::runtime::activation::Activation;
#[cfg(feature = "tokio")]
use crate::runtime::async_activation::AsyncLogic;
use crate::runtime::failure::Failure;
use crate::runtime::handler::ErrorHandler;
use crate::runtime::options::SlotOptions;
use crate::runtime::policy::ActivationPolicy;
use crate::value::Value;

/// The slot of a routine that declares none.
pub(crate) const SLOT: &str = "in";
/// The event of a routine that declares none.
pub(crate) const EVENT: &str = "out";

/// The logic of one node of a flow.
///
/// It keeps nothing of its own between activations: one value runs for all workers of a
/// flow, on several threads at once, and is made anew when the program starts. What is to
/// be remembered belongs to the worker or the job, through the [`Activation`].
///
/// ```
/// use evenkeel::{Activation, ActivationPolicy, Failure, Flow, Routine, RoutineSettings};
///
/// struct Total;
///
/// impl Routine for Total {
///     fn declare(&self, settings: &mut RoutineSettings) {
///         settings
///             .slot("sizes")
///             .event("total")
///             .policy(ActivationPolicy::batch_size(10));
///     }
///
///     fn run(&self, cx: &mut Activation) -> Result<(), Failure> {
/// #       let _ = cx;
///         Ok(())
///     }
/// }
///
/// let mut flow = Flow::new("orders");
/// flow.add_routine("total", Total)?;
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub trait Routine: Send + Sync + 'static {
    /// Declares slots, events and settings. Called once, when the routine is added to a
    /// flow; who adds it may set others afterwards. By default nothing is declared: see
    /// [`RoutineSettings`].
    fn declare(&self, settings: &mut RoutineSettings) {
        let _ = settings;
    }

    /// Runs once for each activation. It may run again with the same input, after a crash,
    /// a lost race or a failure; all that it did through `cx` is then undone first.
    ///
    /// # Errors
    /// Whatever error handler the routine has decides what follows. A panic is a failure
    /// of the kind `panic`.
    fn run(&self, cx: &mut Activation) -> Result<(), Failure>;
}

impl<R: Routine + ?Sized> Routine for Arc<R> {
    fn declare(&self, settings: &mut RoutineSettings) {
        (**self).declare(settings);
    }

    fn run(&self, cx: &mut Activation) -> Result<(), Failure> {
        (**self).run(cx)
    }
}

impl<R: Routine + ?Sized> Routine for Box<R> {
    fn declare(&self, settings: &mut RoutineSettings) {
        (**self).declare(settings);
    }

    fn run(&self, cx: &mut Activation) -> Result<(), Failure> {
        (**self).run(cx)
    }
}

/// A routine that is a closure.
pub(crate) struct FnRoutine<F>(pub(crate) F);

impl<F> Routine for FnRoutine<F>
where
    F: Fn(&mut Activation) -> Result<(), Failure> + Send + Sync + 'static,
{
    fn run(&self, cx: &mut Activation) -> Result<(), Failure> {
        (self.0)(cx)
    }
}

/// The slots and events of a routine, and what it runs under.
///
/// A routine that declares slots has those, and a connection or a post that names another
/// one is an error; the same holds for events. One that declares no slot has the slot `in`
/// and those that connections name (without `in` where its policy waits for all slots, and
/// a connection names any). One that declares no event may emit any.
///
/// ```
/// use evenkeel::{ActivationPolicy, ErrorHandler, Flow, SlotOptions};
/// use std::time::Duration;
/// let mut flow = Flow::new("orders");
/// flow.add_fn("join", |_cx| Ok(()))?
///     .slot("left")
///     .slot_with("right", SlotOptions::new().capacity(10))
///     .event("pair")
///     .policy(ActivationPolicy::all_slots_ready())
///     .on_error(ErrorHandler::retry(3))
///     .config("currency", "EUR")
///     .timeout(Duration::from_secs(30));
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RoutineSettings {
    pub(crate) slots: Vec<(String, SlotOptions)>,
    /// Slots that connections named while none was declared.
    pub(crate) implied: Vec<String>,
    /// Events with the names of what they carry.
    pub(crate) events: Vec<(String, Vec<String>)>,
    pub(crate) policy: ActivationPolicy,
    pub(crate) handler: Option<ErrorHandler>,
    pub(crate) config: BTreeMap<String, Value>,
    pub(crate) concurrency: usize,
    pub(crate) priority: i32,
    pub(crate) timeout: Option<Duration>,
    pub(crate) starts_durable: bool,
}

impl RoutineSettings {
    /// Nothing declared, and all defaults.
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            implied: Vec::new(),
            events: Vec::new(),
            policy: ActivationPolicy::immediate(),
            handler: None,
            config: BTreeMap::new(),
            concurrency: 1,
            priority: 0,
            timeout: None,
            starts_durable: false,
        }
    }

    /// Declares a slot with the default options.
    pub fn slot(&mut self, name: impl Into<String>) -> &mut Self {
        self.slot_with(name, SlotOptions::new())
    }

    /// Declares a slot. Declared again, it has the later options.
    pub fn slot_with(&mut self, name: impl Into<String>, options: SlotOptions) -> &mut Self {
        put(&mut self.slots, name.into(), options);
        self
    }

    /// Declares an event.
    pub fn event(&mut self, name: impl Into<String>) -> &mut Self {
        self.event_with(name, [""; 0])
    }

    /// Declares an event and the names of what it carries. They describe it to whoever
    /// reads the flow; what is emitted is not held against them.
    pub fn event_with(
        &mut self,
        name: impl Into<String>,
        carries: impl IntoIterator<Item = impl Into<String>>,
    ) -> &mut Self {
        let carries = carries.into_iter().map(Into::into).collect();
        put(&mut self.events, name.into(), carries);
        self
    }

    /// Sets when it is activated. Default [`ActivationPolicy::immediate`].
    pub fn policy(&mut self, policy: ActivationPolicy) -> &mut Self {
        self.policy = policy;
        self
    }

    /// Sets what is done when it fails. Default: what the flow's handler says.
    pub fn on_error(&mut self, handler: ErrorHandler) -> &mut Self {
        self.handler = Some(handler);
        self
    }

    /// Sets one entry of its config, which its logic can read and not write.
    pub fn config(&mut self, key: impl Into<String>, value: impl Into<Value>) -> &mut Self {
        self.config.insert(key.into(), value.into());
        self
    }

    /// Sets how many activations of it may run at once in one worker. Default 1: they run
    /// one after the other, in the order in which messages came. At least 1.
    pub fn concurrency(&mut self, activations: usize) -> &mut Self {
        self.concurrency = activations;
        self
    }

    /// Sets its priority: of the routines of a worker that are ready, those with the
    /// highest go first. Default 0.
    pub fn priority(&mut self, priority: i32) -> &mut Self {
        self.priority = priority;
        self
    }

    /// Sets how long an activation may take; after that it cannot commit any more.
    /// Default: what the flow says.
    pub fn timeout(&mut self, timeout: Duration) -> &mut Self {
        self.timeout = Some(timeout);
        self
    }

    /// Starts an activation only when what caused it is durable, so that what it does
    /// outside of the store, without `once`, has no cause that a crash undoes. It costs
    /// a sync for each hop.
    pub fn starts_durable(&mut self) -> &mut Self {
        self.starts_durable = true;
        self
    }

    /// The names of its slots, in the order in which they were declared or connected.
    #[must_use]
    pub fn slot_names(&self) -> Vec<&str> {
        self.slots().into_iter().map(|(name, _)| name).collect()
    }

    /// The names of the events that it declared.
    #[must_use]
    pub fn event_names(&self) -> Vec<&str> {
        self.events.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Its slots with their options.
    pub(crate) fn slots(&self) -> Vec<(&str, SlotOptions)> {
        let declared = self
            .slots
            .iter()
            .map(|(name, options)| (name.as_str(), *options));
        let implied = self
            .implied
            .iter()
            .map(|name| (name.as_str(), SlotOptions::new()));
        let mut slots: Vec<_> = declared.chain(implied).collect();
        // A slot that nobody writes to would hold up who waits for all.
        let unasked = self.slots.is_empty() && !self.implied.iter().any(|name| name == SLOT);
        if unasked && (slots.is_empty() || !self.policy.waits_for_all()) {
            slots.insert(0, (SLOT, SlotOptions::new()));
        }
        slots
    }

    /// Whether it declared nothing of this kind, so that a connection may name any.
    pub(crate) fn accepts_slot(&self, name: &str) -> bool {
        self.slots.is_empty() || self.slots.iter().any(|(known, _)| known == name)
    }

    pub(crate) fn accepts_event(&self, name: &str) -> bool {
        self.events.is_empty() || self.events.iter().any(|(known, _)| known == name)
    }

    /// A connection names this slot, which it [accepts](Self::accepts_slot).
    pub(crate) fn imply_slot(&mut self, name: &str) {
        let known = self
            .slots
            .iter()
            .map(|(known, _)| known)
            .chain(&self.implied);
        if !known.into_iter().any(|known| known == name) {
            self.implied.push(name.to_owned());
        }
    }
}

/// Sets the entry of this name, where it stands or at the end.
fn put<V>(entries: &mut Vec<(String, V)>, name: String, value: V) {
    match entries.iter_mut().find(|(known, _)| *known == name) {
        Some((_, old)) => *old = value,
        None => entries.push((name, value)),
    }
}

/// The logic of a routine of a flow.
#[derive(Clone)]
pub(crate) enum Logic {
    /// A thread runs it from beginning to end.
    Plain(Arc<dyn Routine>),
    /// It is polled.
    #[cfg(feature = "tokio")]
    Async(Arc<dyn AsyncLogic>),
}

impl Logic {
    /// What it declares of itself.
    pub(crate) fn declare(&self, settings: &mut RoutineSettings) {
        match self {
            Self::Plain(routine) => routine.declare(settings),
            #[cfg(feature = "tokio")]
            Self::Async(_) => {}
        }
    }
}

/// A routine of a flow.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) id: String,
    /// The kind in the registry that made it; `None` where the program did.
    pub(crate) kind: Option<String>,
    pub(crate) logic: Logic,
    pub(crate) settings: RoutineSettings,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
