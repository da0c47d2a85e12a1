//! Owns flows: routines, what connects them, and what may be wrong with that. A flow is a
//! description; it becomes work when it is registered with a runtime.
//! Imports `endpoint`, `event`, `handler`, `routine`, and `error`.
//!
//! What must stay true: a connection names a routine, an event and a slot that are there.
//! So nothing that is connected can be taken out of a flow again.

mod connect;
pub(crate) mod cycles;
pub(crate) mod problem;
#[cfg(test)]
mod tests;
pub(crate) mod validate;

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::runtime::activation::Activation;
#[cfg(feature = "tokio")]
use crate::runtime::async_activation::AsyncActivation;
use crate::runtime::endpoint::Endpoint;
use crate::runtime::event::{Condition, Event, JobView, Verdict};
use crate::runtime::failure::Failure;
use crate::runtime::flow::connect::End;
use crate::runtime::flow::cycles::Cycles;
use crate::runtime::flow::problem::FlowProblem;
use crate::runtime::flow::validate::bad_name;
use crate::runtime::handler::ErrorHandler;
use crate::runtime::routine::{FnRoutine, Logic, Node, Routine, RoutineSettings};

/// Routines and what connects them.
///
/// What a routine emits goes to each slot that the event is connected to, and where it is
/// connected to none, nowhere. Cycles are allowed.
///
/// ```
/// use evenkeel::Flow;
/// let mut flow = Flow::new("orders").version(1);
/// flow.add_fn("hash", |_cx| Ok(()))?;
/// flow.add_fn("total", |_cx| Ok(()))?;
/// flow.add_fn("fetch", |_cx| Ok(()))?;
/// flow.connect("hash.out", "total.in")?;
/// flow.connect_when("total.out", "fetch.in", |event, job| job.metadata("tier") == Some("gold"))?;
/// assert!(flow.validate().is_empty());
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone)]
pub struct Flow {
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) nodes: Vec<Node>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) handler: ErrorHandler,
    pub(crate) timeout: Option<Duration>,
}

/// A connection from an event to a slot.
///
/// ```
/// use evenkeel::Flow;
/// let mut flow = Flow::new("orders");
/// flow.add_fn("a", |_cx| Ok(()))?;
/// flow.add_fn("b", |_cx| Ok(()))?;
/// flow.connect("a.out", "b.in")?;
/// let connection = flow.connections_for_event("a.out")[0];
/// assert_eq!((connection.target(), connection.slot()), ("b", "in"));
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Connection {
    pub(crate) source: Arc<str>,
    pub(crate) event: Arc<str>,
    pub(crate) target: Arc<str>,
    pub(crate) slot: Arc<str>,
    pub(crate) condition: Option<Condition>,
}

impl Connection {
    /// The id of the routine that emits.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The name of the event.
    #[must_use]
    pub fn event(&self) -> &str {
        &self.event
    }

    /// The id of the routine that receives.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The name of the slot.
    #[must_use]
    pub fn slot(&self) -> &str {
        &self.slot
    }

    /// Whether only some events pass.
    #[must_use]
    pub fn is_conditional(&self) -> bool {
        self.condition.is_some()
    }

    /// Whether an event passes, as far as one job goes.
    ///
    /// # Errors
    /// What the condition fails with.
    pub(crate) fn passes(&self, event: &Event, job: &JobView<'_>) -> Result<bool, Failure> {
        self.condition
            .as_ref()
            .map_or(Ok(true), |condition| condition.holds(event, job))
    }
}

impl Flow {
    /// A flow without routines, of version 1.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            version: 1,
            nodes: Vec::new(),
            connections: Vec::new(),
            handler: ErrorHandler::default(),
            timeout: None,
        }
    }

    /// The same flow with another version. A runtime refuses a flow that it has seen with
    /// the same version and another [description](Self::description_hash).
    #[must_use]
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// The same flow with a handler for the failures of routines that have none.
    #[must_use]
    pub fn on_error(mut self, handler: ErrorHandler) -> Self {
        self.handler = handler;
        self
    }

    /// The same flow with a limit on how long an activation of a routine may take that
    /// has none of its own. Default: no limit.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version that it was given.
    #[must_use]
    pub fn declared_version(&self) -> u32 {
        self.version
    }

    /// Adds a routine. What it declares of itself can be changed by what this returns.
    ///
    /// # Errors
    /// [`Error::InvalidFlow`] where there is one with this id, where the id is empty or
    /// too long, and where the routine panics when it is asked what it declares. Nothing
    /// was added then.
    pub fn add_routine(
        &mut self,
        id: impl Into<String>,
        routine: impl Routine,
    ) -> Result<&mut RoutineSettings> {
        let added = self.add(id.into(), None, Logic::Plain(Arc::new(routine)));
        added.map_err(|problem| invalid(&self.name, problem))?;
        self.last()
    }

    /// Adds a routine that is a closure. It declares nothing: see [`RoutineSettings`].
    ///
    /// # Errors
    /// As [`add_routine`](Self::add_routine).
    ///
    /// ```
    /// use evenkeel::{ActivationPolicy, Flow};
    /// let mut flow = Flow::new("orders");
    /// flow.add_fn("total", |_cx| Ok(()))?.policy(ActivationPolicy::batch_size(3));
    /// assert!(flow.add_fn("total", |_cx| Ok(())).is_err());
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn add_fn<F>(&mut self, id: impl Into<String>, logic: F) -> Result<&mut RoutineSettings>
    where
        F: Fn(&mut Activation) -> Result<(), Failure> + Send + Sync + 'static,
    {
        self.add_routine(id, FnRoutine(logic))
    }

    /// Adds a routine that is an async closure or function. It declares nothing, as one of
    /// [`add_fn`](Self::add_fn), and everything holds for it that holds for others: see
    /// [`AsyncActivation`]. While it awaits it holds no thread; all async logic of a
    /// runtime is polled by one thread, so what computes for long belongs into a routine
    /// that is not async, or on a thread of its own. Its futures need not be `Send`.
    ///
    /// # Errors
    /// As [`add_routine`](Self::add_routine).
    ///
    /// ```
    /// use evenkeel::{AsyncActivation, Flow, Runtime, Store};
    /// use std::time::Duration;
    /// async fn fetch() -> Result<u32, std::io::Error> {
    ///     Ok(12)
    /// }
    /// let runtime = Runtime::builder(Store::in_memory()).start()?;
    /// let mut flow = Flow::new("orders");
    /// flow.add_async("fetch", async |cx: AsyncActivation| {
    ///     let price = cx.once("get", fetch).await?;
    ///     cx.result(price)?;
    ///     Ok(())
    /// })?;
    /// runtime.register(flow)?;
    /// runtime.exec("orders")?;
    /// let job = runtime.post("orders", "fetch", "in", ())?;
    /// runtime.wait_until_all_jobs_finished(Duration::from_secs(5))?;
    /// assert_eq!(job.results(), [12.into()]);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    #[cfg(feature = "tokio")]
    pub fn add_async<F>(&mut self, id: impl Into<String>, logic: F) -> Result<&mut RoutineSettings>
    where
        F: AsyncFn(AsyncActivation) -> Result<(), Failure> + Send + Sync + 'static,
    {
        let added = self.add(id.into(), None, Logic::Async(Arc::new(logic)));
        added.map_err(|problem| invalid(&self.name, problem))?;
        self.last()
    }

    /// The settings of a routine.
    #[must_use]
    pub fn routine(&self, id: &str) -> Option<&RoutineSettings> {
        self.node(id).map(|index| &self.nodes[index].settings)
    }

    /// The settings of a routine, to be changed.
    #[must_use]
    pub fn routine_mut(&mut self, id: &str) -> Option<&mut RoutineSettings> {
        let index = self.node(id)?;
        self.nodes.get_mut(index).map(|node| &mut node.settings)
    }

    /// The ids of its routines, in the order in which they were added.
    pub fn routine_ids(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(|node| node.id.as_str())
    }

    /// Connects an event to a slot.
    ///
    /// # Errors
    /// [`Error::InvalidFlow`] where one of them is not there, where an endpoint can be
    /// read in several ways, and where they are connected already. Nothing was connected
    /// then.
    ///
    /// ```
    /// use evenkeel::Flow;
    /// let mut flow = Flow::new("orders");
    /// flow.add_fn("v1.hash", |_cx| Ok(()))?;
    /// flow.add_fn("v1", |_cx| Ok(()))?;
    /// flow.add_fn("total", |_cx| Ok(()))?;
    /// // It could be the event `hash.out` of `v1` as well.
    /// assert!(flow.connect("v1.hash.out", "total.in").is_err());
    /// flow.connect(("v1.hash", "out"), "total.in")?;
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn connect(
        &mut self,
        event: impl Into<Endpoint>,
        slot: impl Into<Endpoint>,
    ) -> Result<&mut Self> {
        self.connected(&event.into(), &slot.into(), None)
    }

    /// Connects an event to a slot for what a condition lets pass. The condition sees what
    /// the activation that emits has written, must be quick, and may be asked several
    /// times. Of an event that belongs to several jobs it is asked for each.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_when<V: Verdict>(
        &mut self,
        event: impl Into<Endpoint>,
        slot: impl Into<Endpoint>,
        condition: impl Fn(&Event, &JobView<'_>) -> V + Send + Sync + 'static,
    ) -> Result<&mut Self> {
        let condition = Condition::closure(condition);
        self.connected(&event.into(), &slot.into(), Some(condition))
    }

    /// Connects routines in a row: the event of each to the slot of the next one. A
    /// routine that declares several of them cannot stand in a pipe where it would have
    /// to choose; one that declares none emits `out` and takes `in`.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), and where a routine declares several. Nothing was
    /// connected then.
    ///
    /// ```
    /// use evenkeel::Flow;
    /// let mut flow = Flow::new("orders");
    /// for id in ["walk", "hash", "total"] {
    ///     flow.add_fn(id, |_cx| Ok(()))?;
    /// }
    /// flow.pipe(["walk", "hash", "total"])?;
    /// assert_eq!(flow.connections().len(), 2);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn pipe(
        &mut self,
        routines: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<&mut Self> {
        let mut piped = self.clone();
        let mut before: Option<String> = None;
        for routine in routines {
            let routine = routine.as_ref();
            if let Some(before) = before {
                let event = piped.single(&before, End::Event);
                let slot = piped.single(routine, End::Slot);
                let (event, slot) = event
                    .and_then(|event| Ok((event, slot?)))
                    .map_err(|problem| invalid(&self.name, problem))?;
                piped.connect((before, event), (routine, slot))?;
            } else if piped.node(routine).is_none() {
                let problem = piped.unknown(routine, "the pipe");
                return Err(invalid(&self.name, problem));
            }
            before = Some(routine.to_owned());
        }
        *self = piped;
        Ok(self)
    }

    /// All connections, in the order in which they were made.
    #[must_use]
    pub fn connections(&self) -> &[Connection] {
        &self.connections
    }

    /// The connections of an event, in the order in which they were made. None, where
    /// there is no such routine or event, or where it can be read in several ways.
    #[must_use]
    pub fn connections_for_event(&self, event: impl Into<Endpoint>) -> Vec<&Connection> {
        let Ok((routine, event)) = self.resolve(&event.into(), End::Event) else {
            return Vec::new();
        };
        let id = &self.nodes[routine].id;
        let of =
            |connection: &&Connection| connection.source() == id && connection.event() == event;
        self.connections.iter().filter(of).collect()
    }

    /// The routines of each cycle, in the order in which they were added.
    #[must_use]
    pub fn cycles(&self) -> Vec<Vec<&str>> {
        let cycles = self.find_cycles().list().into_iter();
        let ids = |cycle: Vec<usize>| cycle.iter().map(|&at| self.nodes[at].id.as_str()).collect();
        cycles.map(ids).collect()
    }

    /// Which routines lie in a cycle with each other, by their numbers.
    pub(crate) fn find_cycles(&self) -> Cycles {
        let edges = self.connections.iter().filter_map(|connection| {
            let source = self.node(&connection.source)?;
            Some((source, self.node(&connection.target)?))
        });
        Cycles::of(self.nodes.len(), edges)
    }

    /// The number of a routine.
    pub(crate) fn node(&self, id: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == id)
    }

    pub(crate) fn add(
        &mut self,
        id: String,
        kind: Option<String>,
        logic: Logic,
    ) -> Result<(), FlowProblem> {
        if let Some(problem) = bad_name("routine", &id) {
            return Err(problem);
        }
        if self.node(&id).is_some() {
            return Err(FlowProblem::DuplicateRoutine { routine: id });
        }
        let mut settings = RoutineSettings::new();
        let declared = catch_unwind(AssertUnwindSafe(|| logic.declare(&mut settings)));
        declared.map_err(|panic: Box<dyn Any + Send>| FlowProblem::BadRoutine {
            routine: id.clone(),
            reason: Failure::panicked("what it declares", &*panic).to_string(),
        })?;
        self.nodes.push(Node {
            id,
            kind,
            logic,
            settings,
        });
        Ok(())
    }

    fn last(&mut self) -> Result<&mut RoutineSettings> {
        let name = &self.name;
        let last = self.nodes.last_mut().map(|node| &mut node.settings);
        last.ok_or_else(|| invalid(name, FlowProblem::NoRoutines))
    }
}

fn invalid(flow: &str, problem: FlowProblem) -> Error {
    Error::InvalidFlow {
        flow: flow.to_owned(),
        source: Box::new(problem),
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow")
            .field("name", &self.name)
            .field("version", &self.version)
            .field("routines", &self.nodes)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}
