//! What is told of a store to whoever watches it: figures by `stats()` and by the facade
//! `metrics`, events by `tracing`; and what is not told.

#![expect(clippy::unwrap_used, reason = "this is how a test fails")]

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evenkeel::testing::{Fault, FolderBackend, SimDisk};
use evenkeel::{
    Builder, Durability, Error, Lsn, RealVfs, Scope, Stats, Store, Traced, Version, WatchFilter,
};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// All that was told: a line for each span that began and each event.
#[derive(Clone, Debug, Default)]
struct Told(Arc<(Mutex<Vec<String>>, AtomicU64)>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Told {
    fn line(&self, kind: &str, metadata: &Metadata<'_>, record: impl FnOnce(&mut Line)) {
        let mut line = Line(format!("{kind} {} {}", metadata.level(), metadata.target()));
        record(&mut line);
        self.0.0.lock().unwrap().push(line.0);
    }

    fn during<T>(&self, run: impl FnOnce() -> T) -> T {
        tracing::subscriber::with_default(self.clone(), run)
    }

    fn lines(&self) -> Vec<String> {
        self.0.0.lock().unwrap().clone()
    }

    fn all(&self) -> String {
        self.lines().join("\n")
    }

    /// The one event with this message.
    fn event(&self, message: &str) -> String {
        let lines = self.lines();
        let message = format!("message={message}");
        let found: Vec<_> = lines
            .iter()
            .filter(|line| line.contains(&message))
            .collect();
        assert_eq!(found.len(), 1, "{message} in {lines:#?}");
        found[0].clone()
    }
}

impl Subscriber for Told {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "evenkeel"
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let metadata = attributes.metadata();
        self.line("span", metadata, |line| {
            write!(line.0, " {}", metadata.name()).unwrap();
            attributes.record(line);
        });
        Id::from_u64(self.0.1.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn event(&self, event: &Event<'_>) {
        self.line("event", event.metadata(), |line| event.record(line));
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut line = Line("record".into());
        values.record(&mut line);
        self.0.0.lock().unwrap().push(line.0);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// A store whose image is files that a test can damage, and that does everything on the
/// thread of the call.
fn builder() -> Builder {
    Store::builder()
        .background(false)
        .image(Arc::new(FolderBackend::new(Arc::new(RealVfs))))
}

/// The files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut found = Vec::new();
    for entry in entries {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

/// Flips a byte in the middle of each file of the image.
fn damage_image(store: &Path) {
    for file in files(&store.join("image")) {
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 0x40;
        }
        std::fs::write(&file, bytes).unwrap();
    }
}

#[test]
fn stats_have_groups_and_times() {
    let folder = tempfile::tempdir().unwrap();
    let store = builder().open(folder.path()).unwrap();
    let before = store.stats().unwrap();
    let later = store.with_durability(Durability::Interval(Duration::from_secs(3600)));
    for number in 0..100 {
        later.global().set("n", number).unwrap();
    }
    store.barrier().unwrap();
    let after = store.stats().unwrap();
    assert_eq!(after.log_syncs, before.log_syncs + 1);
    assert!(after.synced_commits >= before.synced_commits + 100);
    assert!((100..=101).contains(&after.largest_group), "{after:?}");
    // Those waited for no disk.
    assert_eq!(after.commit_time.count, 0);

    store.global().set("n", 1).unwrap();
    store
        .global()
        .update("n", |n: Option<i64>| n.unwrap_or(0) + 1)
        .unwrap();
    store.transact(|tx| tx.global().set("n", 2)).unwrap();
    store.snapshot().unwrap();
    let stats = store.stats().unwrap();
    assert_eq!(stats.commit_time.count, 3);
    assert_eq!(stats.sync_time.count, stats.log_syncs);
    assert_eq!(stats.checkpoint_time.count, stats.checkpoints);
    assert_eq!(stats.snapshot_time.count, 1);
    for timing in [
        stats.commit_time,
        stats.sync_time,
        stats.checkpoint_time,
        stats.snapshot_time,
    ] {
        assert!(timing.total >= timing.longest && timing.longest >= timing.mean());
        assert!(
            timing.p50 <= timing.p99 && timing.p99 <= timing.p999,
            "{timing:?}"
        );
        assert!(timing.p999 <= timing.longest && !timing.p50.is_zero());
        assert!(!timing.longest.is_zero(), "{stats:?}");
    }
    let memory = Store::in_memory();
    memory.global().set("a", 1).unwrap();
    assert_eq!(memory.stats().unwrap().commit_time.mean(), Duration::ZERO);
}

/// What a recorder was told: counts and levels, and what histograms got.
#[derive(Debug, Default)]
struct Figures {
    single: BTreeMap<String, f64>,
    spread: BTreeMap<String, Vec<f64>>,
}

/// What was told since it was last asked for, by store.
fn told_by(snapshotter: &Snapshotter) -> BTreeMap<String, Figures> {
    let mut told = BTreeMap::<String, Figures>::new();
    for (key, unit, what, value) in snapshotter.snapshot().into_vec() {
        let key = key.key();
        let unit = unit.unwrap().as_canonical_label().to_owned();
        let named = ["bytes", "seconds"].map(|unit| key.name().contains(unit));
        let expected = ["B", "s"].map(|label| unit == label);
        assert_eq!(named, expected, "{} is in {unit:?}", key.name());
        assert!(!what.unwrap().is_empty());
        let of = key.labels().find(|label| label.key() == "store");
        let of = of.expect("whose it is").value().to_owned();
        let figures = told.entry(of).or_default();
        let name = key.name().to_owned();
        match value {
            DebugValue::Counter(count) => drop(figures.single.insert(name, count as f64)),
            DebugValue::Gauge(level) => drop(figures.single.insert(name, level.0)),
            DebugValue::Histogram(values) => {
                let values = values.into_iter().map(|value| value.0).collect();
                figures.spread.insert(name, values);
            }
        }
    }
    told
}

#[test]
fn metrics_are_told_what_stats_has() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    // Threads of the store tell the recorder that was there when it was opened.
    let store = metrics::with_local_recorder(&recorder, || Store::open(folder.path()).unwrap());
    let mut watch = store.watch(WatchFilter::all()).unwrap();
    let mut slow = store.watch(WatchFilter::all().from(Lsn::ZERO)).unwrap();
    let scope = store.scope(Scope::workflow("w"));
    for number in 0..20 {
        scope.set(format!("k{number}"), "x".repeat(1000)).unwrap();
    }
    let mut raced = false;
    store
        .transact(|tx| {
            let n: i64 = tx.global().get("n")?.unwrap_or(0);
            if !std::mem::replace(&mut raced, true) {
                let other = store.clone();
                std::thread::spawn(move || other.global().set("n", 5))
                    .join()
                    .unwrap()?;
            }
            tx.global().set("n", n + 1)
        })
        .unwrap();
    let none = Version::ZERO;
    assert!(scope.compare_and_set("k1", none, 1).is_err());
    let inside = store.transact(|tx| {
        let scope = tx.scope(Scope::workflow("w"));
        scope.compare_and_set("k1", none, 1)
    });
    assert!(matches!(inside, Err(Error::Conflict { .. })));
    store.snapshot().unwrap();
    store.barrier().unwrap();
    // The last segment stays, and with it some of what the slow one wants.
    assert!(watch.try_next().unwrap().is_some());
    while let Ok(Some(_)) = slow.try_next() {}
    for _ in 0..2 {
        assert_eq!(scope.get::<String>("k1").unwrap().unwrap().len(), 1000);
    }
    let stats: Stats = store.stats().unwrap();
    assert!(stats.cache_hits > 0 && stats.cache_misses > 0 && stats.watch_change_sets > 0);
    assert_eq!((stats.watches, stats.log_segments), (2, 1));
    assert!(stats.watch_behind_lsns > 0);
    let all = told_by(&snapshotter);
    let told = &all[&folder.path().display().to_string()];
    let single = [
        ("evenkeel_commits_total", stats.commits),
        ("evenkeel_conflicts_total", stats.conflicts),
        ("evenkeel_log_syncs_total", stats.log_syncs),
        ("evenkeel_image_rebuilds_total", stats.image_rebuilds),
        ("evenkeel_expired_keys_total", stats.expired_keys),
        ("evenkeel_memtable_bytes", stats.memtable_bytes),
        ("evenkeel_scopes_in_memory", stats.scopes_in_memory),
        ("evenkeel_open_views", stats.open_views),
        ("evenkeel_cache_bytes", stats.cache_bytes),
        ("evenkeel_cache_hits_total", stats.cache_hits),
        ("evenkeel_cache_misses_total", stats.cache_misses),
        ("evenkeel_image_bytes", stats.image_bytes_on_disk),
        ("evenkeel_image_entries", stats.image_entries),
        ("evenkeel_log_bytes", stats.log_bytes_on_disk),
        ("evenkeel_log_segments", stats.log_segments),
        ("evenkeel_log_writes_total", stats.log_writes),
        ("evenkeel_log_written_bytes_total", stats.log_bytes),
        ("evenkeel_watches", stats.watches),
        ("evenkeel_watch_behind_lsns", stats.watch_behind_lsns),
        ("evenkeel_watch_bytes", stats.watch_bytes),
        ("evenkeel_watch_change_sets_total", stats.watch_change_sets),
        ("evenkeel_watch_lagged_total", stats.watch_lagged),
    ];
    assert_eq!(told.single.len(), single.len(), "{told:?}");
    for (name, figure) in single {
        assert_eq!(told.single.get(name), Some(&(figure as f64)), "{name}");
    }
    assert_eq!(stats.conflicts, 3);
    assert_eq!(stats.commits, 22);
    let times = [
        ("evenkeel_commit_seconds", stats.commit_time),
        ("evenkeel_sync_seconds", stats.sync_time),
        ("evenkeel_checkpoint_seconds", stats.checkpoint_time),
        ("evenkeel_snapshot_seconds", stats.snapshot_time),
    ];
    for (name, timing) in times {
        let values = &told.spread[name];
        assert_eq!(values.len() as u64, timing.count, "{name}");
        let total: f64 = values.iter().sum();
        let seconds = timing.total.as_secs_f64();
        assert!(
            (total - seconds).abs() <= seconds * 1e-6,
            "{name}: {total} {seconds}"
        );
    }
    let groups = &told.spread["evenkeel_group_commits"];
    assert_eq!(groups.iter().sum::<f64>(), stats.synced_commits as f64);
    assert_eq!(told.spread.len(), times.len() + 1, "{told:?}");
}

#[test]
fn two_stores_have_figures_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = DebuggingRecorder::new();
    let open = |name: &str| Store::open(folder.path().join(name)).unwrap();
    let (a, b) = metrics::with_local_recorder(&recorder, || (open("a"), open("b")));
    a.global().set("k", 1).unwrap();
    for number in 0..3 {
        b.global().set("k", number).unwrap();
    }
    let snapshotter = recorder.snapshotter();
    let told = told_by(&snapshotter);
    for (name, commits) in [("a", 1.0), ("b", 3.0)] {
        let of = folder.path().join(name).display().to_string();
        assert_eq!(
            told[&of].single["evenkeel_commits_total"], commits,
            "{name}"
        );
    }
}

#[test]
fn work_is_told_with_its_lsns() {
    let folder = tempfile::tempdir().unwrap();
    let (backups, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let told = Told::default();
    let lsn = told.during(|| {
        let store = builder().open(folder.path()).unwrap();
        store.global().set("a", 1).unwrap();
        let lsn = store.snapshot().unwrap();
        store.backup(backups.path()).unwrap();
        Store::restore(backups.path(), copy.path()).unwrap();
        store.close().unwrap();
        lsn
    });
    let lines = told.lines();
    let at = |begins: &str| lines.iter().position(|line| line.starts_with(begins));
    // A commit: its span begins, it is visible, its span has its LSN, it is synced.
    let commit = at("span TRACE evenkeel commit store=").unwrap();
    let line = |after: usize| lines[commit + after].as_str();
    assert!(line(1).starts_with("event TRACE evenkeel") && line(1).contains("committed"));
    assert_eq!(line(2), format!("record lsn={lsn}"));
    assert!(line(3).starts_with("span TRACE evenkeel sync store="));
    assert_eq!(line(4), format!("record lsn={lsn}"));
    for span in [
        "open",
        "checkpoint",
        "snapshot",
        "backup",
        "restore",
        "close",
    ] {
        let begins = format!("span INFO evenkeel {span} store=");
        assert!(
            told.lines().iter().any(|line| line.starts_with(&begins)),
            "{span}: {}",
            told.all()
        );
    }
    let with_lsn = format!("lsn={lsn}");
    assert!(told.event("checkpoint written").contains(&with_lsn));
    assert!(told.event("snapshot written").contains(&with_lsn));
    assert!(told.event("committed").contains("scopes=1 keys=1"));
    assert!(told.event("opened").contains("replayed_commits=0"));

    damage_image(folder.path());
    let told = Told::default();
    told.during(|| {
        let store = builder().open(folder.path()).unwrap();
        assert_eq!(store.global().get("a").unwrap(), Some(1));
        assert_eq!(store.recovery().healed.len(), 1);
    });
    assert!(told.event("healed").starts_with("event WARN"));
    assert!(told.event("healed").contains("rebuilt from snapshot"));
    assert!(
        told.event("rebuilding the image")
            .contains("keys=0 keys_total=")
    );
    assert!(told.event("image rebuilt").contains(&with_lsn));
    assert!(told.event("opened").contains("healed=1"));
}

#[test]
fn a_torn_tail_is_told() {
    use evenkeel::testing::Loss;
    let disk = SimDisk::new(1);
    let open = |disk: &SimDisk| disk.store_builder().open("s");
    let store = open(&disk).unwrap();
    store.global().set("a", 1).unwrap();
    let unsynced = store.with_durability(Durability::Interval(Duration::from_secs(3600)));
    for number in 0..50 {
        unsynced
            .global()
            .set(format!("k{number}"), "x".repeat(5000))
            .unwrap();
    }
    let cut = (0..200).find_map(|seed| {
        let image = disk.crash(Loss::Random(seed));
        let told = Told::default();
        let recovery = told.during(|| open(&image).unwrap().recovery());
        recovery.cut.map(|cut| (told, cut))
    });
    let (told, cut) = cut.expect("one of them is torn");
    let event = told.event("cut off a torn tail");
    assert!(event.contains(&format!("bytes={}", cut.bytes)), "{event}");
}

#[test]
fn a_store_that_stops_tells_why_once() {
    let disk = SimDisk::new(7);
    let store = disk.store_builder().open("s").unwrap();
    store.global().set("a", 1).unwrap();
    let told = Told::default();
    let durable = store.stats().unwrap().durable_lsn;
    told.during(|| {
        disk.fail(Fault::LostSync {
            at: disk.operations() + 1,
        });
        assert!(store.global().set("b", 2).is_err());
        assert!(matches!(
            store.global().set("c", 3),
            Err(Error::Poisoned { .. })
        ));
        assert!(store.barrier().is_err());
    });
    let event = told.event("stopped after a failed write; reopen the folder");
    assert!(event.starts_with("event ERROR"), "{event}");
    assert!(event.contains(&format!("durable_lsn={durable}")), "{event}");
}

/// All that a store can do, damage and its healing included, on keys, values and scopes
/// that have "secret" in them.
fn told_of_secrets(traced: Traced) -> String {
    let folder = tempfile::tempdir().unwrap();
    let told = Told::default();
    told.during(|| {
        let open = || builder().traced(traced).open(folder.path()).unwrap();
        let store = open();
        let scope = store.scope(Scope::workflow("secret-scope"));
        for number in 0..100 {
            scope
                .set(format!("secret-key-{number}"), "secret-value")
                .unwrap();
        }
        scope.increment("secret-count", 1).unwrap();
        scope
            .merge("secret-map", serde_json::json!({"secret-field": 1}))
            .unwrap();
        scope.delete("secret-key-1").unwrap();
        assert!(scope.get::<u32>("secret-key-2").is_err());
        scope.step("secret-step").clear().unwrap();
        let transaction = store.transact(|tx| {
            let scope = tx.scope(Scope::worker("secret-worker"));
            scope.set("secret-key", "secret-value")?;
            Ok(())
        });
        transaction.unwrap();
        store.snapshot().unwrap();
        // Noticed at a read and while the store is verified.
        damage_image(folder.path());
        store.verify().unwrap();
        assert_eq!(store.recovery().healed.len(), 1);
        store.close().unwrap();
        drop((store, scope));
        // And at opening.
        damage_image(folder.path());
        let store = open();
        assert_eq!(store.recovery().healed.len(), 1, "{:?}", store.recovery());
        let what = &store.recovery().healed[0].what;
        assert!(what.contains("secret-"), "a finding names a key: {what}");
        store.close().unwrap();
    });
    assert!(told.all().contains("healed"), "{}", told.all());
    told.all()
}

#[test]
fn no_key_and_no_value_is_told() {
    let told = told_of_secrets(Traced::Nothing);
    assert!(told.contains("event TRACE") && told.contains("event WARN"));
    assert!(!told.contains("secret"), "{told}");
}

#[test]
fn keys_and_values_are_told_to_who_asks() {
    let told = told_of_secrets(Traced::Keys);
    assert!(told.contains("secret-key-7") && told.contains("secret-scope"));
    assert!(
        told.contains("keys from") && !told.contains("secret-value"),
        "{told}"
    );
    let told = told_of_secrets(Traced::Values);
    assert!(told.contains("secret-value") && told.contains(Level::TRACE.as_str()));
}
