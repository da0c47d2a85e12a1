//! Reads: of random keys, of scopes, and beside commits.

use std::hint::black_box;
use std::sync::Arc;

use super::{PRELOADED, filled, writes_at};
use crate::data::{Key, SCOPE_KEYS, Values, mixed, owned, scopes, stamp};
use crate::engines::{self, Engine};
use crate::measure::{self, Timed};
use crate::task::{Figure, Left, Outcome, Promise, Result, Task};

/// Reads a key and looks whether it is that one's value.
fn read(session: &mut dyn engines::Session, number: u64) -> Result<()> {
    let mut told = None;
    session.get(&Key::new(number), &mut |value| told = Some(stamp(value)))?;
    match told == Some(number) {
        true => Ok(()),
        false => Err(format!("key {number} holds what belongs to {told:?}").into()),
    }
}

/// Random reads of a filled engine, and scans of its scopes.
pub(super) fn run(task: &Task) -> Result<Outcome> {
    let keys = task.scale.keys;
    let engine = filled(task, Promise::Process, keys, &Values::new())?;
    let engine: &dyn Engine = Box::leak(engine);
    // All of it once, so that what fits into a cache is there.
    let mut session = engine.session()?;
    (0..keys).try_for_each(|number| read(&mut *session, number))?;
    let mut figures = Vec::new();
    for threads in [1, 2] {
        let counted = measure::run(threads, task.scale.seconds, Timed::Together, |thread| {
            let mut session = engine.session()?;
            Ok(move |step: u64| read(&mut *session, mixed((thread << 48) ^ step) % keys))
        })?;
        let plural = if threads == 1 { "" } else { "s" };
        let name = format!("random reads/s in cache, {threads} thread{plural}");
        figures.push(Figure::new(name, "/s", counted.rate));
    }
    if !engines::scans(&task.engine) {
        return Ok(Outcome {
            figures,
            ..Outcome::default()
        });
    }
    let counted = measure::run(1, task.scale.seconds, Timed::Together, |_| {
        let mut session = engine.session()?;
        Ok(move |step: u64| {
            let scope = mixed(step) % scopes(keys) as u64;
            let mut found = 0;
            session.scan(usize::try_from(scope)?, &mut |value| {
                found += u64::from(black_box(stamp(value)) / SCOPE_KEYS == scope);
            })?;
            match found == SCOPE_KEYS {
                true => Ok(()),
                false => Err(format!("scope {scope} has {found} keys").into()),
            }
        })
    })?;
    figures.push(Figure::new(
        "scans/s of a scope of 1,000 keys",
        "/s",
        counted.rate,
    ));
    Ok(Outcome {
        figures,
        ..Outcome::default()
    })
}

/// Threads of which each operation is a read, but for one of ten.
pub(super) fn mix(task: &Task) -> Result<Outcome> {
    const THREADS: u64 = 16;
    const ONE_OF: u64 = 10;
    let keys = task.scale.keys / 10;
    let values = Arc::new(Values::new());
    let engine = filled(task, Promise::Sync, keys, &values)?;
    let engine: &dyn Engine = Box::leak(engine);
    let mut counted = measure::run(THREADS, task.scale.seconds, Timed::Each, |thread| {
        let mut session = engine.session()?;
        let values = Arc::clone(&values);
        Ok(move |step: u64| match writes_at(ONE_OF, step) {
            true => {
                let number = owned(thread, THREADS, keys, step);
                session.put(&Key::new(number), &values.value(number, step))
            }
            false => read(
                &mut *session,
                mixed((thread << 48) ^ step ^ PRELOADED) % keys,
            ),
        })
    })?;
    let name = format!("90 % reads, 10 % durable writes, {THREADS} threads, ops/s");
    Ok(Outcome {
        figures: vec![Figure::new(name, "/s", counted.rate).with(counted.latency())],
        left: Some(Left::Steps {
            keys,
            one_of: ONE_OF,
            acknowledged: counted.steps,
        }),
        ..Outcome::default()
    })
}
