//! Going on: after a stop, an error, a panic; with the same source, another, and none.

use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::ops::ControlFlow::{Break, Continue};

use evenkeel::{Error, ImportOutcome, ImportPhase, Scope, Store};

use crate::parts::{entry, file, lines, state, state_of};

const COUNT: u64 = 300;
/// A few entries a batch.
const BATCH: usize = 200;

fn entries() -> impl Iterator<Item = (Scope, String, evenkeel::Value)> {
    (0..COUNT).map(entry)
}

#[test]
fn stopped_after_each_batch_it_comes_to_the_same() {
    let (_folder, path) = file(lines(COUNT));
    for by_lines in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let (mut runs, mut imported) = (0, 0);
        loop {
            let store = Store::open(folder.path().join("store")).unwrap();
            let told = Cell::new(0);
            let import = store.import("a").batch_bytes(BATCH).progress(|p| {
                told.set(p.entries);
                match p.phase {
                    ImportPhase::Importing => Break(()),
                    _ => Continue(()),
                }
            });
            let report = match by_lines {
                true => import.json_lines(&path).unwrap(),
                false => import.entries(entries()).unwrap(),
            };
            assert!(report.imported > 0, "run {runs}");
            imported += report.imported;
            runs += 1;
            // What is told is what is there, and no entry comes twice.
            assert_eq!((told.get(), report.total.imported), (imported, imported));
            assert_eq!(state(&store), state_of(imported));
            let status = store.import("a").status().unwrap().unwrap();
            assert_eq!(status, report.total);
            assert_eq!(status.finished, report.outcome == ImportOutcome::Finished);
            store.close().unwrap();
            if status.finished {
                break;
            }
            assert_eq!(report.outcome, ImportOutcome::Stopped);
        }
        assert_eq!(imported, COUNT);
        assert!(runs > 50, "{runs} runs");
    }
}

#[test]
fn a_finished_import_is_done_and_changes_nothing() {
    let (_folder, path) = file(lines(COUNT));
    let store = Store::in_memory();
    assert_eq!(store.import("a").json_lines(&path).unwrap().imported, COUNT);
    store.import("b").entries(entries()).unwrap();
    let (scope, key, _) = entry(7);
    store.scope(scope.clone()).set(&key, "mine").unwrap();
    let lsn = store.transact(|tx| Ok(tx.lsn())).unwrap();
    for report in [
        store.import("a").json_lines(&path).unwrap(),
        store.import("b").entries(entries()).unwrap(),
    ] {
        assert_eq!(report.outcome, ImportOutcome::AlreadyDone);
        assert_eq!((report.imported, report.total.imported), (0, COUNT));
        assert!(report.total.finished);
    }
    assert_eq!(store.transact(|tx| Ok(tx.lsn())).unwrap(), lsn);
    // Told to begin again, it does.
    let report = store.import("a").restart().json_lines(&path).unwrap();
    assert_eq!(
        (report.outcome, report.imported),
        (ImportOutcome::Finished, COUNT)
    );
    assert_eq!(report.total.imported, COUNT);
    assert_eq!(state(&store), state_of(COUNT));
    store.scope(scope.clone()).set(&key, "mine").unwrap();
    assert!(store.import("b").forget().unwrap() && !store.import("b").forget().unwrap());
    assert_eq!(
        store.import("b").entries(entries()).unwrap().imported,
        COUNT
    );
    assert_eq!(state(&store), state_of(COUNT));
}

/// Stops an import behind its first batches.
fn begun(store: &Store, path: &std::path::Path) -> u64 {
    let import = store.import("a").batch_bytes(BATCH);
    let stopped = import.progress(|p| {
        if p.entries > 40 {
            Break(())
        } else {
            Continue(())
        }
    });
    let report = stopped.json_lines(path).unwrap();
    assert_eq!(report.outcome, ImportOutcome::Stopped);
    report.imported
}

#[test]
fn a_source_that_has_changed_is_refused() {
    let text = lines(COUNT);
    let mut other = text.clone().into_bytes();
    let at = text.find("\"n\":9").unwrap();
    other[at + 4] = b'8';
    let changes: [(&str, Vec<u8>); 4] = [
        ("an entry that was imported", other),
        ("longer", (text.clone() + "\n").into_bytes()),
        ("shorter", text.as_bytes()[..1000].to_vec()),
        ("empty", Vec::new()),
    ];
    for (how, change) in changes {
        let (_folder, path) = file(&text);
        let store = Store::in_memory();
        let imported = begun(&store, &path);
        let before = state(&store);
        fs::write(&path, &change).unwrap();
        let refused = store.import("a").json_lines(&path).unwrap_err();
        assert!(
            matches!(&refused, Error::SourceChanged { name, .. } if name == "a"),
            "{how}: {refused}"
        );
        assert_eq!(state(&store), before, "{how}");
        // As it was, it goes on.
        fs::write(&path, &text).unwrap();
        let rest = store.import("a").json_lines(&path).unwrap();
        assert_eq!(imported + rest.imported, COUNT, "{how}");
        // Finished, the same holds.
        fs::write(&path, &change).unwrap();
        let refused = store.import("a").json_lines(&path).unwrap_err();
        assert!(
            matches!(refused, Error::SourceChanged { .. }),
            "{how}: {refused}"
        );
        let begun_again = store.import("a").restart().json_lines(&path);
        assert_eq!(begun_again.is_ok(), how != "shorter", "{how}");
        let kind = store.import("a").entries(entries()).unwrap_err();
        assert!(matches!(kind, Error::SourceChanged { .. }), "{how}: {kind}");
    }
}

#[test]
fn an_iterator_that_has_changed_is_refused() {
    let store = Store::in_memory();
    let stop = |p: &evenkeel::ImportProgress| {
        if p.entries > 40 {
            Break(())
        } else {
            Continue(())
        }
    };
    let import = store.import("a").batch_bytes(BATCH).progress(stop);
    let imported = import.entries(entries()).unwrap().imported;
    let refused = |error: Error| matches!(error, Error::SourceChanged { .. });
    assert!(refused(
        store.import("a").entries(entries().take(10)).unwrap_err()
    ));
    assert!(refused(
        store.import("a").entries(entries().skip(1)).unwrap_err()
    ));
    let swapped = entries().map(|(scope, key, value)| (scope, value.to_string(), key));
    assert!(refused(store.import("a").entries(swapped).unwrap_err()));
    let rest = store.import("a").entries(entries()).unwrap();
    assert_eq!(imported + rest.imported, COUNT);
    assert!(refused(
        store.import("a").entries(entries().take(299)).unwrap_err()
    ));
    let more = entries().chain([entry(COUNT)]);
    assert!(refused(store.import("a").entries(more).unwrap_err()));
}

#[test]
fn an_item_that_fails_ends_the_import_behind_those_before_it() {
    let store = Store::in_memory();
    let failing = || {
        entries().enumerate().map(|(n, entry)| match n {
            123 => Err(std::io::Error::other("no more")),
            _ => Ok(entry),
        })
    };
    let error = store.import("a").batch_bytes(BATCH).entries(failing());
    let error = error.unwrap_err();
    assert!(matches!(
        error,
        Error::Malformed {
            line: 124,
            imported: 123,
            ..
        }
    ));
    assert_eq!(
        error.to_string(),
        "cannot import entry 124: no more; 123 entries were imported before it"
    );
    assert_eq!(state(&store), state_of(123));
    let rest = store.import("a").entries(entries()).unwrap();
    assert_eq!((rest.imported, rest.total.imported), (COUNT - 123, COUNT));
    assert_eq!(state(&store), state_of(COUNT));

    let report = store
        .import("b")
        .skip_malformed()
        .entries(failing())
        .unwrap();
    assert_eq!((report.imported, report.total.malformed), (COUNT - 1, 1));
    assert_eq!(report.malformed[0].at, "entry 124");
    let again = store
        .import("b")
        .skip_malformed()
        .entries(failing())
        .unwrap();
    assert_eq!(again.outcome, ImportOutcome::AlreadyDone);

    let too_long = [(Scope::Global, "k".repeat(5000), 1)];
    let error = store.import("c").entries(too_long).unwrap_err().to_string();
    assert!(
        error.contains("key_bytes") && error.ends_with("nothing was imported"),
        "{error}"
    );
    assert_eq!(store.import("c").status().unwrap(), None);
}

#[test]
fn panics_of_iterator_and_progress_are_errors() {
    let store = Store::in_memory();
    let panicking = entries().inspect(|(_, _, value)| {
        assert_ne!(value.get("n"), Some(&evenkeel::Value::from(200)), "boom");
    });
    let error = store.import("a").entries(panicking).unwrap_err();
    assert!(
        matches!(&error, Error::Panicked { message } if message.contains("boom") && message.contains("entry 200")),
        "{error}"
    );
    assert_eq!(state(&store), state_of(200));
    let import = store.import("a").batch_bytes(BATCH);
    let error = import.progress(|p| assert!(p.entries < 250, "bang"));
    let error = error.entries(entries()).unwrap_err();
    assert!(matches!(&error, Error::Panicked { message } if message.contains("bang")));
    let there = store.import("a").status().unwrap().unwrap().imported;
    assert_eq!(state(&store), state_of(there));
    store.import("a").entries(entries()).unwrap();
    assert_eq!(state(&store), state_of(COUNT));
}

#[test]
fn two_runs_at_a_time_are_told_and_lose_nothing() {
    let store = Store::in_memory();
    let inner = Cell::new(0);
    let outer = store.import("a").batch_bytes(BATCH).progress(|p| {
        if p.entries > 100 && inner.get() == 0 {
            let report = store.import("a").entries(entries()).unwrap();
            inner.set(report.imported);
        }
    });
    let error = outer.entries(entries()).unwrap_err();
    assert!(
        matches!(&error, Error::Busy { reason } if reason.contains("\"a\"")),
        "{error}"
    );
    assert!(inner.get() > 0 && inner.get() < COUNT);
    assert_eq!(state(&store), state_of(COUNT));
    assert!(store.import("a").status().unwrap().unwrap().finished);
}

#[test]
fn a_store_that_is_closed_meanwhile_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = Store::open(&path).unwrap();
    let import = store.import("a").batch_bytes(BATCH);
    let closing = import.progress(|p| {
        if p.entries > 100 {
            store.close().unwrap()
        }
    });
    assert!(matches!(closing.entries(entries()), Err(Error::Closed)));
    assert!(matches!(
        store.import("a").entries(entries()),
        Err(Error::Closed)
    ));
    assert!(matches!(store.import("a").status(), Err(Error::Closed)));
    let mut loader = store.bulk();
    assert!(matches!(
        loader.set(&Scope::Global, "a", 1),
        Err(Error::Closed)
    ));
    let store = Store::open(&path).unwrap();
    let there = store.import("a").status().unwrap().unwrap().imported;
    assert_eq!(state(&store), state_of(there));
    store.import("a").entries(entries()).unwrap();
    assert_eq!(state(&store), state_of(COUNT));
}

#[test]
fn progress_counts_up_to_the_end() {
    let text = lines(20_000);
    let (_folder, path) = file(&text);
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("store")).unwrap();
    let told = std::cell::RefCell::new(Vec::new());
    let import = store.import("a").batch_bytes(50_000);
    let import = import.progress(|p| told.borrow_mut().push(*p));
    import.json_lines(&path).unwrap();
    let told = told.into_inner();
    assert!(told.len() > 10);
    for pair in told.windows(2) {
        assert!(pair[0].entries <= pair[1].entries && pair[0].durable <= pair[1].durable);
        assert!(pair[0].bytes < pair[1].bytes || pair[0].phase != pair[1].phase);
    }
    for p in &told {
        assert!(p.durable <= p.entries && p.bytes_total == Some(text.len() as u64));
    }
    let last = told.last().unwrap();
    assert_eq!(
        (last.entries, last.durable, last.items),
        (20_000, 20_000, 20_000)
    );
    assert_eq!(last.bytes, text.len() as u64);
    let last_check = told.iter().rfind(|p| p.phase == ImportPhase::Checking);
    assert!(last_check.is_none_or(|p| p.entries == 0));
}

#[test]
fn a_file_that_grows_a_bad_line_between_check_and_import_keeps_what_was_good() {
    let (_folder, path) = file(lines(COUNT));
    let store = Store::in_memory();
    let mut done = false;
    let import = store.import("a").batch_bytes(BATCH).progress(|p| {
        if p.phase == ImportPhase::Importing && !done {
            done = true;
            let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(b"bad\n").unwrap();
        }
    });
    let error = import.json_lines(&path).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Malformed {
                line: 301,
                imported: COUNT,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(state(&store), state_of(COUNT));
}

#[test]
fn what_is_counted_is_the_same_however_often_it_stops() {
    // Of each seven lines one is bad, one is empty, and of two nothing is made.
    let text: String = (0..3000_u64)
        .map(|n| match n % 7 {
            0 => "{bad\n".into(),
            1 => "\n".into(),
            _ => format!("{n}\n"),
        })
        .collect();
    let (_folder, path) = file(&text);
    let load = |store: &Store, stop: bool| {
        let import = store.import("a").skip_malformed().batch_bytes(BATCH);
        let import = import.progress(|p| match stop && p.phase == ImportPhase::Importing {
            true => Break(()),
            false => Continue(()),
        });
        let report = import.json_lines_with(&path, |line| {
            let n = line.as_u64().ok_or("no number")?;
            Ok((n % 7 > 3).then(|| (Scope::Global, format!("{n}"), n)))
        });
        report.unwrap()
    };
    let whole = Store::in_memory();
    let report = load(&whole, false);
    let total = report.total;
    assert_eq!((total.items, total.malformed), (3000, 429));
    assert_eq!((total.skipped, total.imported), (858, 1284));
    let store = Store::in_memory();
    let mut listed = Vec::new();
    let last = loop {
        let report = load(&store, true);
        listed.extend(report.malformed);
        if report.outcome == ImportOutcome::Finished {
            break report.total;
        }
    };
    assert_eq!(last, total);
    assert_eq!(listed.len(), 429);
    assert!(listed.is_sorted_by(|a, b| a.line < b.line));
    assert_eq!(state(&store), state(&whole));
}
