//! Stalls: what durable commits take at most while the engine maintains itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::filled;
use crate::data::{Key, Values, owned};
use crate::engines::{Engine, OURS};
use crate::measure::{self, Counted, Timed};
use crate::task::{Figure, Left, Outcome, Promise, Result, Task};

const THREADS: u64 = 4;

pub(super) fn run(task: &Task) -> Result<Outcome> {
    let keys = task.scale.keys / 5;
    let values = Arc::new(Values::new());
    let engine = filled(task, Promise::Sync, keys, &values)?;
    let engine: &dyn Engine = Box::leak(engine);
    let commits = |from: &[u64]| -> Result<Counted> {
        measure::run(THREADS, task.scale.seconds, Timed::Each, |thread| {
            let mut session = engine.session()?;
            let values = Arc::clone(&values);
            let from = usize::try_from(thread).ok().and_then(|at| from.get(at));
            let from = from.copied().unwrap_or(0);
            Ok(move |step: u64| {
                let step = from + step;
                let number = owned(thread, THREADS, keys, step);
                session.put(&Key::new(number), &values.value(number, step))
            })
        })
    };
    let mut quiet = commits(&[])?;
    let mut steps = quiet.steps.clone();
    let alone = quiet.latency();
    let named = |what: &str| format!("{what}, p99.9 of a durable commit in µs, {THREADS} threads");
    let mut figures = vec![Figure::new(named("undisturbed"), "µs", alone.p999).with(alone)];
    if engine.maintain()? {
        let (mut busy, rounds) = beside(engine, || commits(&steps))?;
        for (all, more) in steps.iter_mut().zip(&busy.steps) {
            *all += more;
        }
        let beside = busy.latency();
        figures.push(Figure::new(named("beside checkpoints"), "µs", beside.p999).with(beside));
        let times = beside.p999 / alone.p999;
        figures.push(Figure::new(
            "p99.9 beside checkpoints, times undisturbed",
            "",
            times,
        ));
        if task.engine == OURS {
            figures.push(Figure::new(
                "checkpoints and snapshots meanwhile",
                "",
                rounds,
            ));
        }
    }
    Ok(Outcome {
        figures,
        left: Some(Left::Steps {
            keys,
            one_of: 1,
            acknowledged: steps,
        }),
        ..Outcome::default()
    })
}

/// Runs commits while another thread maintains the engine without a pause.
fn beside(
    engine: &dyn Engine,
    commits: impl FnOnce() -> Result<Counted>,
) -> Result<(Counted, f64)> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let maintaining = scope.spawn(|| -> Result<f64> {
            let mut rounds = 0.0;
            while !over.load(Ordering::SeqCst) {
                engine.maintain()?;
                rounds += 1.0;
            }
            Ok(rounds)
        });
        let counted = commits();
        over.store(true, Ordering::SeqCst);
        let rounds = maintaining
            .join()
            .map_err(|_| "the maintenance panicked")??;
        Ok((counted?, rounds))
    })
}
