//! What a kill has left: opens the folder, says how long that took to the first read, and
//! compares all that was acknowledged with what is there.

use std::collections::HashMap;

use super::{runtime, writes_at};
use crate::data::{ENTRY_BYTES, Key, Values, owned};
use crate::engines::{self, Session};
use crate::measure::{now, on_disk};
use crate::task::{Figure, Left, Outcome, Promise, Result, Task};

pub(super) fn check(task: &Task, left: &Left) -> Result<Outcome> {
    let keys = match left {
        Left::Steps { keys, .. } | Left::Round { keys, .. } => *keys,
        Left::Counter { .. } => 1,
        Left::Jobs { waiting } => return runtime::resume(task, *waiting),
    };
    let mut figures = Vec::new();
    let live = (keys * ENTRY_BYTES) as f64;
    let is_load = matches!(left, Left::Round { .. });
    if is_load {
        let bytes = on_disk(&task.folder) as f64 / live;
        figures.push(Figure::new(
            "loaded, after SIGKILL: bytes on disk a live byte",
            "",
            bytes,
        ));
    }
    let begun = now();
    let mut engine = engines::open(&task.engine, &task.folder, Promise::Sync, keys)?;
    let mut session = engine.session()?;
    if is_load {
        let first = session.get(&Key::new(7), &mut |_| ())?;
        if !first {
            return Err("key 7 is not there".into());
        }
        let seconds = begun.elapsed().as_secs_f64();
        figures.push(Figure::new(
            "loaded, after SIGKILL: s to the first read",
            "s",
            seconds,
        ));
    }
    compare(&mut *session, left)?;
    drop(session);
    if is_load {
        engine.settle()?;
        engine.close()?;
        let bytes = on_disk(&task.folder) as f64 / live;
        figures.push(Figure::new(
            "loaded, tidied up: bytes on disk a live byte",
            "",
            bytes,
        ));
    }
    Ok(Outcome {
        figures,
        ..Outcome::default()
    })
}

/// Fails where something that was acknowledged is not there.
fn compare(session: &mut dyn Session, left: &Left) -> Result<()> {
    match left {
        Left::Jobs { .. } => Ok(()),
        Left::Counter { sum } => {
            let found = session.counter()?;
            match found == *sum {
                true => Ok(()),
                false => {
                    Err(format!("{sum} increments were acknowledged, and it is {found}").into())
                }
            }
        }
        Left::Round { keys, round } => {
            let values = Values::new();
            (0..*keys).try_for_each(|number| holds(session, &values, number, *round))
        }
        Left::Steps {
            keys,
            one_of,
            acknowledged,
        } => {
            let threads = acknowledged.len() as u64;
            let mut last = HashMap::new();
            for (thread, &steps) in (0..).zip(acknowledged) {
                let steps = (0..steps).filter(|&step| writes_at(*one_of, step));
                last.extend(steps.map(|step| (owned(thread, threads, *keys, step), step)));
            }
            let values = Values::new();
            last.into_iter()
                .try_for_each(|(number, step)| holds(session, &values, number, step))
        }
    }
}

fn holds(session: &mut dyn Session, values: &Values, number: u64, step: u64) -> Result<()> {
    let mut outcome = Ok(());
    let found = session.get(&Key::new(number), &mut |value| {
        outcome = values.check(number, step, value);
    })?;
    match found {
        true => outcome,
        false => Err(format!("key {number} of step {step} is not there").into()),
    }
}
