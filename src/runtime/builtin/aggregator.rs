//! Owns `Aggregator`, and the rounds that it keeps for each job.
//! Imports `activation`, `builtin`, `error`, `failure`, `routine`, `value`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::runtime::activation::Activation;
use crate::runtime::builtin::{Seconds, declare_config};
use crate::runtime::event::Event;
use crate::runtime::failure::Failure;
use crate::runtime::job_context::JobContext;
use crate::runtime::routine::{Routine, RoutineSettings};
use crate::value::Value;

/// The slot by which it is told that a round has waited for too long.
const TIMER: &str = "_timeout";
/// The name under which a job keeps its rounds.
const ROUNDS: &str = "rounds";

/// A routine that puts together what comes by several slots: one message of each, of one
/// job, make a round.
///
/// It emits `out`, a map from the names of slots to the data that came by them, as soon as
/// a round has as many as it wants; those that come later are dropped, up to the last slot
/// of the round. Messages of different jobs never meet, and a second message by the same
/// slot belongs to the job's next round. What waits is kept in the job.
///
/// ```
/// use evenkeel::{Aggregator, Flow};
/// use std::time::Duration;
/// let mut flow = Flow::new("offers");
/// let offers = Aggregator::n_of(2, ["post", "courier", "bike"])?;
/// flow.add_routine("offers", offers.timeout(Duration::from_secs(5)))?;
/// for id in ["post", "courier", "bike"] {
///     flow.add_fn(id, |_cx| Ok(()))?;
///     flow.connect((id, "out"), ("offers", id))?;
/// }
/// flow.add_fn("choose", |_cx| Ok(()))?;
/// flow.connect("offers.out", "choose.in")?;
/// # Ok::<(), evenkeel::Error>(())
/// ```
///
/// In a document it is the kind `aggregator`. Without `count` it wants all, and without
/// `timeout`, in seconds, it waits as long as it takes:
///
/// ```yaml
/// class: aggregator
/// config: { slots: [post, courier, bike], count: 2, timeout: 5 }
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Config")]
pub struct Aggregator {
    slots: Vec<String>,
    count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<Seconds>,
}

/// As a document has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    slots: Vec<String>,
    count: Option<usize>,
    timeout: Option<Seconds>,
}

impl TryFrom<Config> for Aggregator {
    type Error = Error;

    fn try_from(config: Config) -> Result<Self> {
        let count = config.count.unwrap_or(config.slots.len());
        let aggregator = Self::n_of(count, config.slots)?;
        Ok(Self {
            timeout: config.timeout,
            ..aggregator
        })
    }
}

impl Aggregator {
    /// A routine that waits for a message by each of these slots.
    ///
    /// # Errors
    /// [`Error::Invalid`] for no slots, and for one that is named twice.
    pub fn all(slots: impl IntoIterator<Item = impl Into<String>>) -> Result<Self> {
        let slots: Vec<String> = slots.into_iter().map(Into::into).collect();
        Self::n_of(slots.len(), slots)
    }

    /// A routine that takes the first message by any of these slots, and drops the others
    /// of its round.
    ///
    /// # Errors
    /// As [`all`](Self::all).
    pub fn any(slots: impl IntoIterator<Item = impl Into<String>>) -> Result<Self> {
        Self::n_of(1, slots)
    }

    /// A routine that waits for the first `count` messages by these slots, and drops the
    /// others of their round.
    ///
    /// # Errors
    /// As [`all`](Self::all), and for a count of 0 or above the number of slots.
    pub fn n_of(count: usize, slots: impl IntoIterator<Item = impl Into<String>>) -> Result<Self> {
        let slots: Vec<String> = slots.into_iter().map(Into::into).collect();
        let invalid = |reason| Error::Invalid {
            what: "aggregator",
            reason,
        };
        let twice = |at: usize| slots[..at].contains(&slots[at]);
        if let Some(at) = (0..slots.len()).find(|&at| twice(at)) {
            return Err(invalid(format!("slot {:?} is named twice", slots[at])));
        }
        if slots.iter().any(|slot| slot == TIMER) {
            let reason = format!("slot {TIMER:?} is its own; use another name");
            return Err(invalid(reason));
        }
        if count == 0 || count > slots.len() {
            let reason = format!("it wants {count} of {} slots; at least 1 of 1", slots.len());
            return Err(invalid(reason));
        }
        Ok(Self {
            slots,
            count,
            timeout: None,
        })
    }

    /// Ends a round that is not complete so long after its first message: what it has is
    /// emitted as `timeout` in place of `out`, a map of the same form. What comes later
    /// belongs to the next round. The timer is durable; a job lasts at least until then,
    /// or until the round is complete.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(Seconds(timeout));
        self
    }

    /// Takes what came for one job.
    fn take(&self, cx: &Activation, job: &JobContext) -> Result<()> {
        let mut rounds: Rounds = job
            .get_routine_data(cx.routine(), ROUNDS)?
            .unwrap_or_default();
        // Input comes slot by slot; which was first matters where not all are waited for.
        let input = cx.input().filter(|(_, event)| is_of(cx, event, job));
        let mut input: Vec<_> = input.collect();
        input.sort_by_key(|(_, event)| event.emitted_at_micros());
        for (slot, event) in input {
            if slot == TIMER {
                let ended = event.data().as_u64().and_then(|number| rounds.end(number));
                if let Some(data) = ended {
                    cx.emit_for(job, "timeout", data)?;
                }
                continue;
            }
            let timer = |number| format!("{number} {}", job.job_id());
            let added = rounds.add(slot, event.data(), self.count, self.slots.len());
            if let Some(Seconds(after)) = self.timeout.filter(|_| added.began) {
                let name = timer(added.number);
                cx.set_timer_for(std::slice::from_ref(job), &name, TIMER, after, added.number)?;
            }
            if let Some(data) = added.complete {
                cx.cancel_timer(&timer(added.number))?;
                cx.emit_for(job, "out", data)?;
            }
        }
        job.set_routine_data(cx.routine(), ROUNDS, &rounds)
    }
}

fn is_of(cx: &Activation, event: &Event, job: &JobContext) -> bool {
    let jobs = cx.jobs_of(event);
    jobs.iter().any(|one| one.job_id() == job.job_id())
}

impl Routine for Aggregator {
    fn declare(&self, settings: &mut RoutineSettings) {
        declare_config(settings, self);
        for slot in &self.slots {
            settings.slot(slot);
        }
        settings.event_with("out", &self.slots);
        if self.timeout.is_some() {
            settings.slot(TIMER).event_with("timeout", &self.slots);
        }
    }

    fn run(&self, cx: &mut Activation) -> Result<(), Failure> {
        if cx.input().any(|(_, event)| cx.jobs_of(event).is_empty()) {
            let failure = Failure::new(
                "an aggregator puts together what is of one job, and this is of none; let an interval timer emit to another routine",
            );
            return Err(failure.kind("data").permanent());
        }
        for job in cx.jobs() {
            self.take(cx, &job)?;
        }
        Ok(())
    }
}

/// The rounds of a job that are not over, the oldest first.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Rounds {
    /// The number of the next one; no number comes twice.
    next: u64,
    open: Vec<Round>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Round {
    number: u64,
    /// By slot, what came; nothing more than the names once it was emitted.
    came: BTreeMap<String, Value>,
    emitted: bool,
}

/// What a message did.
struct Added {
    number: u64,
    /// Whether it is the first of its round.
    began: bool,
    /// The data of the round, if it is complete with it.
    complete: Option<BTreeMap<String, Value>>,
}

impl Rounds {
    /// Adds a message to the first round that has none by this slot.
    fn add(&mut self, slot: &str, data: &Value, count: usize, slots: usize) -> Added {
        let waiting = |round: &Round| !round.came.contains_key(slot);
        let found = self.open.iter().position(waiting);
        let mut round = match found {
            Some(at) => self.open.remove(at),
            None => {
                self.next += 1;
                Round {
                    number: self.next,
                    came: BTreeMap::new(),
                    emitted: false,
                }
            }
        };
        let data = match round.emitted {
            true => Value::Null,
            false => data.clone(),
        };
        round.came.insert(slot.to_owned(), data);
        let mut added = Added {
            number: round.number,
            began: found.is_none(),
            complete: None,
        };
        if !round.emitted && round.came.len() == count {
            round.emitted = true;
            let names = round.came.keys().map(|name| (name.clone(), Value::Null));
            let names = names.collect();
            added.complete = Some(std::mem::replace(&mut round.came, names));
        }
        if round.came.len() < slots {
            self.open.insert(found.unwrap_or(self.open.len()), round);
        }
        added
    }

    /// Ends a round that has waited for too long; `None` where it was complete before.
    fn end(&mut self, number: u64) -> Option<BTreeMap<String, Value>> {
        let waiting = |round: &Round| round.number == number && !round.emitted;
        let at = self.open.iter().position(waiting)?;
        Some(self.open.remove(at).came)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(rounds: &mut Rounds, slot: &str, data: i64, count: usize) -> Option<String> {
        let added = rounds.add(slot, &data.into(), count, 3);
        let complete: Option<Value> = added.complete.map(Value::Map);
        complete.map(|data| data.to_string())
    }

    #[test]
    fn one_of_each_slot_makes_a_round() {
        let mut rounds = Rounds::default();
        assert_eq!(add(&mut rounds, "a", 1, 3), None);
        assert_eq!(add(&mut rounds, "a", 4, 3), None);
        assert_eq!(add(&mut rounds, "b", 2, 3), None);
        let first = add(&mut rounds, "c", 3, 3);
        assert_eq!(first.as_deref(), Some(r#"{"a":1,"b":2,"c":3}"#));
        assert_eq!(add(&mut rounds, "c", 6, 3), None);
        let second = add(&mut rounds, "b", 5, 3);
        assert_eq!(second.as_deref(), Some(r#"{"a":4,"b":5,"c":6}"#));
        assert!(rounds.open.is_empty());
    }

    #[test]
    fn what_comes_after_a_round_was_complete_is_dropped_with_it() {
        let mut rounds = Rounds::default();
        assert!(add(&mut rounds, "a", 1, 1).is_some());
        assert_eq!(add(&mut rounds, "b", 2, 1), None);
        assert!(add(&mut rounds, "a", 3, 1).is_some(), "the next round");
        assert_eq!(add(&mut rounds, "c", 4, 1), None);
        assert_eq!(rounds.open.len(), 1, "the first round has all");
        assert_eq!(rounds.open[0].number, 2);
    }

    #[test]
    fn a_round_that_ends_has_what_came() {
        let mut rounds = Rounds::default();
        assert_eq!(add(&mut rounds, "a", 1, 2), None);
        let ended = rounds.end(1).map(Value::Map);
        assert_eq!(
            ended.map(|data| data.to_string()).as_deref(),
            Some(r#"{"a":1}"#)
        );
        assert_eq!(rounds.end(1), None, "once");
        assert_eq!(add(&mut rounds, "b", 2, 2), None, "a new round");
        assert!(add(&mut rounds, "c", 3, 2).is_some());
        assert_eq!(rounds.end(2), None, "it was complete");
    }

    #[test]
    fn what_cannot_be_complete_is_refused() {
        let none: [&str; 0] = [];
        assert!(Aggregator::all(none).is_err());
        assert!(Aggregator::any(none).is_err());
        assert!(Aggregator::n_of(0, ["a"]).is_err());
        assert!(Aggregator::n_of(2, ["a"]).is_err());
        assert!(Aggregator::all(["a", "a"]).is_err());
        assert!(Aggregator::all([TIMER]).is_err());
        assert!(Aggregator::n_of(2, ["a", "b", "c"]).is_ok());
    }
}
