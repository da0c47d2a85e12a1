//! What it costs to be seen: `set` and `get` of a store with nobody looking, with a
//! recorder of `metrics`, with subscribers of `tracing`, and with watches.
//! `cargo bench --bench observe`.
//!
//! Each case has a store of its own; rounds go through all cases in turn, so that what
//! else the machine does falls on all. Told are the median time of a call, and the median
//! of the ratios to the first case of the same round.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails ends")]

use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use evenkeel::{Durability, Scope, ScopeHandle, Store, Watch, WatchFilter, WatchValues};
use metrics_util::debugging::DebuggingRecorder;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber, dispatcher};

const ROUNDS: usize = 101;
const CALLS: usize = 1_000;
const KEYS: usize = 1_000;

/// Takes everything up to a level and does nothing with it.
struct UpTo(LevelFilter, AtomicU64);

impl Subscriber for UpTo {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.0
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(self.1.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn up_to(level: LevelFilter) -> Dispatch {
    Dispatch::new(UpTo(level, AtomicU64::new(0)))
}

/// Who looks.
#[derive(Clone, Copy)]
enum Who {
    Nobody,
    Recorder,
    Subscriber(LevelFilter),
    /// A watch that is read between the rounds, of what is written or of something else.
    Watch(Wants),
    /// One that is never read.
    SlowWatch,
    /// One that a thread reads meanwhile.
    Thread,
}

#[derive(Clone, Copy)]
enum Wants {
    Nothing,
    Values(WatchValues),
}

struct Case {
    name: &'static str,
    who: Who,
    scope: ScopeHandle,
    store: Store,
    watch: Option<Watch>,
    set: Vec<f64>,
    get: Vec<f64>,
}

const CASES: [(&str, Who); 11] = [
    ("nobody", Who::Nobody),
    ("nobody, once more", Who::Nobody),
    ("`metrics`: a recorder", Who::Recorder),
    (
        "`tracing`: a subscriber, off",
        Who::Subscriber(LevelFilter::OFF),
    ),
    ("`tracing`: level info", Who::Subscriber(LevelFilter::INFO)),
    (
        "`tracing`: level trace",
        Who::Subscriber(LevelFilter::TRACE),
    ),
    ("a watch of something else", Who::Watch(Wants::Nothing)),
    (
        "a watch of keys",
        Who::Watch(Wants::Values(WatchValues::Keys)),
    ),
    (
        "a watch of old and new values",
        Who::Watch(Wants::Values(WatchValues::OldAndNew)),
    ),
    ("the same, that nobody reads", Who::SlowWatch),
    ("a watch of keys, read by a thread", Who::Thread),
];

fn watch(store: &Store, who: Who) -> Option<Watch> {
    let filter = match who {
        Who::Nobody | Who::Recorder | Who::Subscriber(_) => return None,
        Who::Watch(Wants::Nothing) => WatchFilter::scope(Scope::job("other")),
        Who::Watch(Wants::Values(values)) => WatchFilter::all().with_values(values),
        Who::SlowWatch => WatchFilter::all().with_values(WatchValues::OldAndNew),
        Who::Thread => WatchFilter::all(),
    };
    Some(store.watch(filter).unwrap())
}

impl Case {
    fn new(name: &'static str, who: Who, folder: Option<&Path>) -> Self {
        let open = || match folder {
            Some(folder) => Store::open(folder).unwrap(),
            None => Store::in_memory(),
        };
        let store = match who {
            Who::Recorder => metrics::with_local_recorder(&DebuggingRecorder::new(), open),
            _ => open(),
        };
        let mut watch = watch(&store, who);
        if let Who::Thread = who {
            let mut watch = watch.take().unwrap();
            // It ends with the store.
            std::thread::spawn(move || while let Some(Ok(_)) = watch.next() {});
        }
        let scope = store.scope(Scope::workflow("order-42"));
        let scope = scope.with_durability(Durability::Memory);
        Self {
            name,
            who,
            scope,
            store,
            watch,
            set: Vec::new(),
            get: Vec::new(),
        }
    }

    fn round(&mut self, keys: &[String]) {
        let value = "v".repeat(100);
        let set = |key: &String| self.scope.set(key, &value).unwrap();
        let get = |key: &String| drop(black_box(self.scope.get::<String>(key).unwrap()));
        let (set, get) = match self.who {
            Who::Subscriber(level) => dispatcher::with_default(&up_to(level), || {
                (nanos_each(keys, set), nanos_each(keys, get))
            }),
            // One that is gone may still be asked; a new one has all asked anew.
            _ => {
                drop(up_to(LevelFilter::OFF));
                (nanos_each(keys, set), nanos_each(keys, get))
            }
        };
        self.set.push(set);
        self.get.push(get);
        // Nobody pays for what the last one left.
        self.store.barrier().unwrap();
        let done = || self.store.stats().unwrap().watch_behind_lsns == 0;
        match (&mut self.watch, self.who) {
            (_, Who::SlowWatch) => {}
            (Some(watch), _) => while watch.try_next().unwrap().is_some() {},
            (None, _) => {
                while !done() {
                    std::thread::yield_now();
                }
            }
        }
    }
}

fn nanos_each(keys: &[String], call: impl Fn(&String)) -> f64 {
    let begun = Instant::now();
    for call_of in 0..CALLS {
        call(&keys[call_of * 7 % KEYS]);
    }
    begun.elapsed().as_nanos() as f64 / CALLS as f64
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() {
    let temporary = tempfile::tempdir().unwrap();
    for (title, folder) in [
        ("a store with a folder", Some(temporary.path())),
        ("a store in memory", None),
    ] {
        let cases = CASES.iter().enumerate().map(|(number, &(name, who))| {
            let folder = folder.map(|folder| folder.join(number.to_string()));
            Case::new(name, who, folder.as_deref())
        });
        let mut cases: Vec<Case> = cases.collect();
        let keys: Vec<String> = (0..KEYS).map(|key| format!("key-{key:05}")).collect();
        for round in 0..=ROUNDS {
            for turn in 0..cases.len() {
                // None is always the one behind the same other one.
                let turn = (turn * (round % 10 + 1) + round) % cases.len();
                let case = &mut cases[turn];
                case.round(&keys);
                if round == 0 {
                    // Keys are new, and nothing is warm.
                    case.set.clear();
                    case.get.clear();
                }
            }
        }
        report(title, &cases);
    }
}

fn report(title: &str, cases: &[Case]) {
    println!("| {title} | `set`, ns | ratio | `get`, ns | ratio |");
    println!("|---|---|---|---|---|");
    for case in cases {
        let cells = [(&case.set, &cases[0].set), (&case.get, &cases[0].get)].map(|(of, to)| {
            let ratios = of.iter().zip(to).map(|(of, to)| of / to);
            let nanos = median(of.iter().copied());
            format!("{nanos:.0} | {:.2}", median(ratios))
        });
        println!("| {} | {} |", case.name, cells.join(" | "));
    }
    println!();
}
