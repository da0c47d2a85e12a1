//! Owns what documents may name: kinds of routines, conditions, and checks of activation
//! policies. Imports `event`, `failure`, `policy`, `routine`.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::runtime::event::{Condition, Event, JobView, Verdict};
use crate::runtime::failure::Failure;
use crate::runtime::policy::{ActivationPolicy, IntoDecision, SlotsView};
use crate::runtime::routine::Routine;
use crate::value::Value;

type Factory = dyn Fn(&Value) -> Result<Arc<dyn Routine>, Failure> + Send + Sync;

/// What flow documents may name: kinds of routines, as `class`, conditions, as `when`, and
/// checks of activation policies, as `custom`.
///
/// ```
/// use evenkeel::{Activation, Failure, Flow, Registry, Routine};
/// # struct Hash { rounds: u64 }
/// # impl Routine for Hash {
/// #     fn run(&self, _cx: &mut Activation) -> Result<(), Failure> { Ok(()) }
/// # }
/// let mut registry = Registry::new();
/// registry.routine("hash", |config| {
///     let rounds = config.get("rounds").and_then(|value| value.as_u64());
///     Ok(Hash { rounds: rounds.ok_or_else(|| Failure::new("`rounds` is needed"))? })
/// })?;
/// registry.condition("gold", |_event, job| job.metadata("tier") == Some("gold"))?;
/// let flow = Flow::from_yaml("
/// flow_id: orders
/// routines:
///   hash: { class: hash, config: { rounds: 3 } }
/// ", &registry)?;
/// assert_eq!(flow.name(), "orders");
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Registry {
    kinds: BTreeMap<String, Arc<Factory>>,
    conditions: BTreeMap<String, Condition>,
    checks: BTreeMap<String, ActivationPolicy>,
}

impl Registry {
    /// A registry of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a kind of routine by what makes one from its config, a map.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is one of this name.
    pub fn routine<R: Routine>(
        &mut self,
        kind: impl Into<String>,
        make: impl Fn(&Value) -> Result<R, Failure> + Send + Sync + 'static,
    ) -> Result<&mut Self> {
        once(
            &mut self.kinds,
            "kind of routine",
            kind.into(),
            factory(make),
        )?;
        Ok(self)
    }

    /// As [`routine`](Self::routine), in place of one of this name.
    pub(crate) fn kind<R: Routine>(
        &mut self,
        kind: &str,
        make: impl Fn(&Value) -> Result<R, Failure> + Send + Sync + 'static,
    ) {
        self.kinds.insert(kind.to_owned(), factory(make));
    }

    /// Registers a condition.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is one of this name.
    pub fn condition<V: Verdict>(
        &mut self,
        name: impl Into<String>,
        condition: impl Fn(&Event, &JobView<'_>) -> V + Send + Sync + 'static,
    ) -> Result<&mut Self> {
        let name = name.into();
        let condition = Condition::closure(condition).named(&name);
        once(&mut self.conditions, "condition", name, condition)?;
        Ok(self)
    }

    /// Registers a check, as [`ActivationPolicy::custom`] takes it.
    ///
    /// # Errors
    /// [`Error::Invalid`] where there is one of this name.
    pub fn check<D: IntoDecision>(
        &mut self,
        name: impl Into<String>,
        check: impl Fn(&SlotsView<'_>) -> D + Send + Sync + 'static,
    ) -> Result<&mut Self> {
        let name = name.into();
        let policy = ActivationPolicy::custom(check).named(&name);
        once(&mut self.checks, "check", name, policy)?;
        Ok(self)
    }

    /// A routine of a kind; `None` where there is no such kind.
    pub(crate) fn make(
        &self,
        kind: &str,
        config: &Value,
    ) -> Option<Result<Arc<dyn Routine>, Failure>> {
        let factory = self.kinds.get(kind)?;
        let made = catch_unwind(AssertUnwindSafe(|| factory(config)));
        Some(made.unwrap_or_else(|panic| {
            Err(Failure::panicked(
                &format!("the factory of {kind:?}"),
                &*panic,
            ))
        }))
    }

    pub(crate) fn condition_named(&self, name: &str) -> Option<&Condition> {
        self.conditions.get(name)
    }

    pub(crate) fn check_named(&self, name: &str) -> Option<&ActivationPolicy> {
        self.checks.get(name)
    }

    pub(crate) fn kinds(&self) -> Vec<String> {
        self.kinds.keys().cloned().collect()
    }

    pub(crate) fn conditions(&self) -> Vec<String> {
        self.conditions.keys().cloned().collect()
    }

    pub(crate) fn checks(&self) -> Vec<String> {
        self.checks.keys().cloned().collect()
    }
}

fn factory<R: Routine>(
    make: impl Fn(&Value) -> Result<R, Failure> + Send + Sync + 'static,
) -> Arc<Factory> {
    Arc::new(move |config: &Value| {
        let routine: Arc<dyn Routine> = Arc::new(make(config)?);
        Ok(routine)
    })
}

fn once<V>(
    known: &mut BTreeMap<String, V>,
    what: &'static str,
    name: String,
    value: V,
) -> Result<()> {
    if known.contains_key(&name) {
        return Err(Error::Invalid {
            what,
            reason: format!("{name:?} is registered already"),
        });
    }
    known.insert(name, value);
    Ok(())
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("kinds", &self.kinds())
            .field("conditions", &self.conditions())
            .field("checks", &self.checks())
            .finish()
    }
}
