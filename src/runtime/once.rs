//! Owns effects outside of the store: a durable intent before each, its result after it,
//! and what is to be done where a crash came in between. Imports `core`, `fail`, `run`.
//!
//! What must stay true:
//! - Before an effect its intent is synced, and with the first one which messages the
//!   activation consumes. So a run after a crash is of the same activation, has the same
//!   messages, and finds the intent.
//! - A result, or that there was none, is synced before the logic goes on. So only a crash,
//!   a panic or a lost disk between both leaves an intent, and only that is uncertain.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result, WorkError};
use crate::runtime::activation::Activation;
use crate::runtime::commit::is_gone;
use crate::runtime::core::Core;
use crate::runtime::current;
use crate::runtime::fail::claim_of;
use crate::runtime::failure::Failure;
use crate::runtime::ops::Ops;
use crate::runtime::record::{self, OnceRecord, WorkerKey};
use crate::runtime::run::Run;
use crate::value::Value;

/// An effect of which nobody knows whether it was done: the program ended, or the effect
/// panicked, after it may have begun and before its result was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UncertainEffect {
    flow: String,
    worker: String,
    routine: String,
    name: String,
    key: Option<String>,
    idempotency_key: String,
}

impl UncertainEffect {
    /// The name of the flow.
    #[must_use]
    pub fn flow(&self) -> &str {
        &self.flow
    }

    /// The id of the worker.
    #[must_use]
    pub fn worker_id(&self) -> &str {
        &self.worker
    }

    /// The id of the routine.
    #[must_use]
    pub fn routine(&self) -> &str {
        &self.routine
    }

    /// The name that the effect was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key that it was given beside its name.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The idempotency key that the effect had in hand, if it asked for one: by it the other
    /// side may know whether it was done.
    #[must_use]
    pub fn idempotency_key(&self) -> &str {
        &self.idempotency_key
    }
}

/// What is done about an effect that is [uncertain](UncertainEffect).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Resolution {
    /// It runs again, with the same idempotency key in hand. The default.
    RunAgain,
    /// It was done, and this is its result.
    Done(Value),
    /// The activation fails, for good, with this reason; the intent stays.
    Fail(String),
}

/// Who decides about effects that are uncertain.
pub(crate) type OnUncertain = Arc<dyn Fn(&UncertainEffect) -> Resolution + Send + Sync>;

/// How an effect begins.
pub(crate) enum Begun {
    /// It was done before.
    Done(Value),
    /// It is to be run now.
    Run,
}

/// What tells an effect from the others of its activation: its name behind its length, then
/// its key, if it has one.
fn effect_name(name: &str, key: Option<&str>) -> String {
    match key {
        None => format!("{}:{name}", name.len()),
        Some(key) => format!("{}:{name}:{key}", name.len()),
    }
}

impl Run {
    /// What an effect of this activation is known by outside: the same in each run of it.
    pub(crate) fn idempotency_key(&self, name: &str, key: Option<&str>) -> String {
        format!("{}/{}", self.id, effect_name(name, key))
    }

    /// Begins an effect: it is found done, or its intent is durable.
    ///
    /// # Errors
    /// [`WorkError::Exists`] where this run had an effect of this name and key,
    /// [`WorkError::ActivationOver`]; what the handler of uncertain ones says; as a commit.
    pub(crate) fn begin_effect(
        &self,
        core: &Core,
        name: &str,
        key: Option<&str>,
    ) -> Result<Begun, Failure> {
        let effect = effect_name(name, key);
        if !self.change(|done| done.effects.insert(effect.clone()))? {
            let error = Error::from(WorkError::Exists {
                what: "effect",
                name: name.to_owned(),
                hint: "give each call of `once` in an activation its own name or key".into(),
            });
            return Err(Failure::from(error).permanent());
        }
        let known = {
            let inner = self.worker.inner.lock();
            let effects = inner.effects.get(&self.id);
            effects.and_then(|effects| effects.get(&effect)).cloned()
        };
        match known {
            Some(OnceRecord {
                result: Some(result),
                ..
            }) => return Ok(Begun::Done(result)),
            // The intent is there, and durable.
            Some(OnceRecord { result: None, .. }) => return self.resolve(core, name, key, effect),
            None => {}
        }
        let record = OnceRecord {
            session: core.session,
            result: None,
        };
        self.keep_effect(core, &effect, Some(record))?;
        Ok(Begun::Run)
    }

    fn resolve(
        &self,
        core: &Core,
        name: &str,
        key: Option<&str>,
        effect: String,
    ) -> Result<Begun, Failure> {
        let Some(handler) = &core.settings.on_uncertain else {
            return Ok(Begun::Run);
        };
        let uncertain = UncertainEffect {
            flow: self.plan.flow.to_string(),
            worker: self.worker.id.to_string(),
            routine: self.routine().id.to_string(),
            name: name.to_owned(),
            key: key.map(str::to_owned),
            idempotency_key: self.idempotency_key(name, key),
        };
        let inside = current::enter_user_code();
        let resolution = handler(&uncertain);
        drop(inside);
        match resolution {
            Resolution::RunAgain => Ok(Begun::Run),
            Resolution::Fail(reason) => Err(Failure::new(reason).kind("uncertain").permanent()),
            Resolution::Done(result) => {
                let record = OnceRecord {
                    session: core.session,
                    result: Some(result.clone()),
                };
                self.keep_effect(core, &effect, Some(record))?;
                Ok(Begun::Done(result))
            }
        }
    }

    /// Ends an effect: its result is kept, or that it was not done. Durable when it returns.
    ///
    /// # Errors
    /// As a commit; the effect is uncertain then.
    pub(crate) fn end_effect(
        &self,
        core: &Core,
        name: &str,
        key: Option<&str>,
        result: Option<Value>,
    ) -> Result<()> {
        let effect = effect_name(name, key);
        if result.is_none() {
            // It may be tried again in this run.
            self.done.lock().effects.remove(&effect);
        }
        let record = result.map(|result| OnceRecord {
            session: core.session,
            result: Some(result),
        });
        self.keep_effect(core, &effect, record)
    }

    /// Keeps what is known of an effect, and with the first which messages this activation
    /// consumes.
    fn keep_effect(&self, core: &Core, effect: &str, record: Option<OnceRecord>) -> Result<()> {
        let mut ops = Ops::default();
        let limits = core.limits();
        let key = WorkerKey::Once(self.id, effect.to_owned()).encode();
        match &record {
            Some(record) => ops.put(&self.worker.slot, key, record::encode(record, &limits)?),
            None => ops.delete(&self.worker.slot, key),
        }
        let mut inner = self.worker.inner.lock();
        if is_gone(self, &inner) {
            // Its messages are gone, and so is all that was kept for it.
            return Err(WorkError::ActivationOver {
                routine: self.routine().id.to_string(),
                reason: "was cancelled",
            }
            .into());
        }
        if !self.is_claimed() {
            let claim = claim_of(self, self.attempt.saturating_sub(1), 0);
            let key = WorkerKey::Claim(self.id).encode();
            ops.put(&self.worker.slot, key, record::encode(&claim, &limits)?);
        }
        let lsn = core.engine().commit(&ops.into_batch())?;
        self.set_claimed();
        let effects = inner.effects.entry(self.id).or_default();
        match record {
            Some(record) => effects.insert(effect.to_owned(), record),
            None => effects.remove(effect),
        };
        drop(inner);
        core.engine().sync(lsn)
    }
}

impl Activation {
    /// Runs an effect outside of the store, and remembers its result: whatever happens to
    /// this activation, an effect that was done is not done again. It is found by its name,
    /// which no other call of this activation may have.
    ///
    /// `Ok` is remembered, and every later run of this activation is given it; `Err` means
    /// that nothing was done. The intent is synced before the effect, its end after it,
    /// whatever the durability of the store; the first one also fixes which messages the
    /// activation consumes. After a crash in between nobody knows whether it was done:
    /// then the handler of [`on_uncertain`](crate::RuntimeBuilder::on_uncertain) decides.
    ///
    /// # Errors
    /// What the effect failed with; [`WorkError::Exists`] for a name that was used;
    /// [`WorkError::ActivationOver`]; what cannot be serialised; as a commit.
    ///
    /// ```
    /// use evenkeel::{Activation, Failure};
    /// fn charge(cx: &mut Activation) -> Result<(), Failure> {
    ///     let key = cx.idempotency_key("charge-card");
    ///     let receipt: String = cx.once("charge-card", || card::charge(1_200, &key))?;
    ///     cx.emit("out", receipt)?;
    ///     Ok(())
    /// }
    /// # mod card { pub fn charge(_: u32, _: &str) -> Result<String, std::io::Error> { Ok("r".into()) } }
    /// ```
    pub fn once<T, E>(
        &self,
        name: &str,
        effect: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, Failure>
    where
        T: Serialize + DeserializeOwned,
        E: Into<Failure>,
    {
        self.effect(name, None, effect)
    }

    /// The same for one of several effects of this name, told apart by a key: the id of
    /// what it is done for.
    ///
    /// # Errors
    /// As [`once`](Self::once).
    pub fn once_keyed<T, E>(
        &self,
        name: &str,
        key: &str,
        effect: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, Failure>
    where
        T: Serialize + DeserializeOwned,
        E: Into<Failure>,
    {
        self.effect(name, Some(key), effect)
    }

    /// What an effect of this name may be known by on the other side: the same in each run
    /// of this activation that follows a `once`.
    #[must_use]
    pub fn idempotency_key(&self, name: &str) -> String {
        self.run.idempotency_key(name, None)
    }

    /// The same for [`once_keyed`](Self::once_keyed).
    #[must_use]
    pub fn idempotency_key_for(&self, name: &str, key: &str) -> String {
        self.run.idempotency_key(name, Some(key))
    }

    fn effect<T, E>(
        &self,
        name: &str,
        key: Option<&str>,
        effect: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, Failure>
    where
        T: Serialize + DeserializeOwned,
        E: Into<Failure>,
    {
        let core = self.run.core()?;
        if let Begun::Done(result) = self.run.begin_effect(&core, name, key)? {
            return Ok(result.deserialize()?);
        }
        match effect() {
            Ok(done) => {
                let result = Value::from_serialize(&done)?;
                self.run.end_effect(&core, name, key, Some(result))?;
                Ok(done)
            }
            Err(e) => {
                let failure = e.into();
                self.run.end_effect(&core, name, key, None)?;
                Err(failure)
            }
        }
    }
}

impl fmt::Display for UncertainEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "effect {:?} of routine {:?} of worker {:?}",
            self.name, self.routine, self.worker
        )
    }
}
