//! Owns `Activation`, which the logic of a routine is given. Declared ahead of the core,
//! which gives it its fields and methods.

use std::fmt;

/// One activation of a routine: what it was given, and all that it does.
///
/// Nobody can make one yet: the core that runs flows does. Its methods, as they are
/// proposed to the core (`Result` is the crate's, its error comes into a `Failure` by `?`;
/// what changes anything takes effect with the activation's commit, or not at all):
///
/// | Input | |
/// |---|---|
/// | `data(&self, slot: &str) -> &[Arc<Event>]` | what it was given of a slot, oldest first; empty where nothing |
/// | `one(&self, slot: &str) -> Option<&Event>` | the first of those |
/// | `latest(&self, slot: &str) -> Option<&Event>` | the last of those |
/// | `input(&self) -> impl Iterator<Item = (&str, &Event)>` | all of it |
/// | `slot(&mut self, name: &str) -> Result<SlotAccess<'_>>` | more of its own slots: `consume_all_new`, `consume_one_new`, `consume_all`, `consume_latest`, `peek_*`, `waiting`, `unconsumed`, `total`, `pressure` |
///
/// | Who and where | |
/// |---|---|
/// | `flow(&self) -> &str`, `routine(&self) -> &str`, `worker_id(&self) -> &str` | |
/// | `id(&self) -> ActivationId`, `attempt(&self) -> u32` | the same over all re-runs; 1 at first |
/// | `config(&self, key: &str) -> Option<&Value>`, `config_as<T>(&self, key) -> Result<Option<T>>` | cannot be written |
/// | `now_micros(&self) -> u64` | store time, the same in a re-run for the same reads |
///
/// | Jobs | |
/// |---|---|
/// | `jobs(&self) -> &[JobContext]` | whose data it consumes, in the order of the input |
/// | `current_job(&self) -> Option<&JobContext>` | the only one; `None` where it has several |
/// | `job_of(&self, event: &Event) -> …` | whose data a message is |
///
/// | State | |
/// |---|---|
/// | `worker_state(&self) -> &WorkerState` | `get_routine_state`, `update_routine_state`, atomic forms |
/// | `state(&self) -> …`, `state_accessor(&self) -> StateAccessor` | its own |
/// | `transaction(&self) -> &Transaction` | any scope of the store, in the same commit |
///
/// | Output | |
/// |---|---|
/// | `emit(&mut self, event: &str, data: impl Serialize) -> Result<()>` | for all its jobs; an event that it declared, or any if it declared none |
/// | `emit_for(&mut self, job: &JobContext, event: &str, data: impl Serialize) -> Result<()>` | for this one |
/// | `post(&mut self, flow, routine, slot, data) -> Result<JobId>` | a job of its own, part of the commit |
/// | `result(&mut self, value: impl Serialize) -> Result<()>` | a result of its jobs |
/// | `print(&mut self, text: impl Display)` | into the jobs' output |
///
/// | Effects and time | |
/// |---|---|
/// | `once<T>(&mut self, name: &str, effect: impl FnOnce() -> Result<T, E>) -> Result<T, Failure>`, `once_keyed(name, key, effect)` | remembered; the effect is given its idempotency key in a second form |
/// | `set_timer(&mut self, name, Duration)`, `set_deadline(name, micros)`, `set_interval(name, Duration)`, `cancel_timer(name)` | durable |
/// | `is_cancelled(&self) -> bool`, `deadline(&self) -> Option<u64>` | of itself |
pub struct Activation {
    _made_by_the_core: (),
}

impl fmt::Debug for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Activation").finish_non_exhaustive()
    }
}
