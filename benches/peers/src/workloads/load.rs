//! Loads and updates of all keys, and what they write to the disk for each byte of state.

use super::{PRELOADED, filled, write_all};
use crate::data::{ENTRY_BYTES, SCOPE_KEYS, Values, mixed, scopes, shuffled};
use crate::engines::{self, Engine};
use crate::measure::{now, peak_memory, written};
use crate::task::{Figure, Left, Outcome, Promise, Result, Task};

/// How often each key is written: loaded, and overwritten three times.
const ROUNDS: u64 = 4;

pub(super) fn run(task: &Task) -> Result<Outcome> {
    let keys = task.scale.keys;
    let engine = engines::open(&task.engine, &task.folder, Promise::Sync, keys)?;
    let engine: &dyn Engine = Box::leak(engine);
    let values = Values::new();
    let mut session = engine.session()?;
    let before = written();
    let (mut first, mut seconds) = (0.0, 0.0);
    for round in 0..ROUNDS {
        let order = shuffled(keys, round);
        let begun = now();
        let writes = order.into_iter().map(|number| (u64::from(number), round));
        write_all(&mut *session, &values, writes)?;
        seconds += begun.elapsed().as_secs_f64();
        if round == 0 {
            first = seconds;
        }
    }
    let all = (keys * ROUNDS) as f64;
    let bytes = (written() - before) as f64 / (all * ENTRY_BYTES as f64);
    Ok(Outcome {
        figures: vec![
            Figure::new(
                "load: durable batches of 1,000, keys/s",
                "/s",
                keys as f64 / first,
            ),
            Figure::new("load and three overwrites, keys/s", "/s", all / seconds),
            Figure::new(
                "load and three overwrites, peak memory, MiB",
                "MiB",
                (peak_memory() >> 20) as f64,
            ),
            Figure::new("load and three overwrites, bytes written a byte", "", bytes),
        ],
        left: Some(Left::Round {
            keys,
            round: ROUNDS - 1,
        }),
        ..Outcome::default()
    })
}

/// Updates of neighbours, of keys anywhere, and of one scope again and again.
pub(super) fn updates(task: &Task) -> Result<Outcome> {
    let keys = task.scale.keys;
    let values = Values::new();
    let engine = filled(task, Promise::Sync, keys, &values)?;
    let engine: &dyn Engine = Box::leak(engine);
    engine.checkpoint()?;
    let mut session = engine.session()?;
    let count = keys / 2;
    let mut figures = Vec::new();
    for (pattern, what) in (0..).zip(["dense", "sparse", "hot"]) {
        let numbers: Vec<u64> = match what {
            // A scope at a time.
            "dense" => (0..count).collect(),
            "sparse" => {
                let all = shuffled(keys, PRELOADED / 2).into_iter();
                all.map(u64::from).take(usize::try_from(count)?).collect()
            }
            _ => {
                let scope = mixed(keys) % scopes(keys) as u64;
                (0..count)
                    .map(|place| scope * SCOPE_KEYS + place % SCOPE_KEYS)
                    .collect()
            }
        };
        // Each write changes what is there: some look whether it does.
        let writes = numbers.into_iter().zip(pattern * count..);
        let before = written();
        let begun = now();
        write_all(&mut *session, &values, writes)?;
        engine.checkpoint()?;
        let seconds = begun.elapsed().as_secs_f64();
        let bytes = (written() - before) as f64 / (count * ENTRY_BYTES) as f64;
        let rate = count as f64 / seconds;
        figures.push(Figure::new(
            format!("{what} updates and a checkpoint, keys/s"),
            "/s",
            rate,
        ));
        figures.push(Figure::new(
            format!("{what} updates, bytes written a byte"),
            "",
            bytes,
        ));
    }
    Ok(Outcome {
        figures,
        ..Outcome::default()
    })
}
