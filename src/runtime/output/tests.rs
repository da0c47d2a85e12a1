//! The tail of what is printed, the pieces that it is stored in, and stdout.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;

use super::*;
use crate::engine::{Batch, Op, SlotBatch};
use crate::runtime::capture::tests::Shown;
use crate::runtime::record::ActivationId;
use crate::sync::thread;

fn key(at: u64, number: u64) -> Box<[u8]> {
    let activation = ActivationId { session: 1, number };
    JobPart::Output.key(at, activation, 0)
}

fn commit(store: &Store, job: &str, change: &OutputChange) {
    let engine = &store.shared().engine;
    let op = |cell: &Stored| cell.clone().map_or(Op::Delete, Op::Put);
    let ops = change.writes.iter();
    let batch = Batch::of([SlotBatch::of(
        engine.slot(&record::job(job).encode()),
        ops.map(|(key, cell)| (key.clone(), op(cell))),
    )]);
    engine.commit(&batch).unwrap();
}

#[test]
fn a_tail_is_cut_between_characters() {
    let text = "aä€𝄞";
    let tails = ["", "𝄞", "€𝄞", "ä€𝄞", "aä€𝄞", "aä€𝄞"];
    for (chars, wanted) in tails.into_iter().enumerate() {
        assert_eq!(tail(text, chars), wanted);
    }
    let by_bytes = [
        "",
        "",
        "",
        "",
        "𝄞",
        "𝄞",
        "𝄞",
        "€𝄞",
        "€𝄞",
        "ä€𝄞",
        "aä€𝄞",
        "aä€𝄞",
    ];
    for (bytes, wanted) in by_bytes.into_iter().enumerate() {
        assert_eq!(tail_of_bytes(text, bytes), wanted);
    }
}

#[test]
fn a_run_holds_back_no_more_than_it_may() {
    let mut printed = Printed::default();
    let line = "€".repeat(1000);
    let mut written = String::new();
    for _ in 0..1000 {
        written.push_str(&printed.print(&line).unwrap_or_default());
        assert!(printed.shown.len() <= SHOWN_BYTES_MAX);
        assert!(printed.collected.len() <= COLLECTED_BYTES_MAX);
    }
    written.push_str(&printed.take_shown());
    assert_eq!(written, "€".repeat(1_000_000));
    let huge = "x".repeat(10 * OUTPUT_CHARS_MAX);
    assert_eq!(printed.print(&huge), Some(huge));
    assert!(printed.collected.len() <= COLLECTED_BYTES_MAX);
    assert!(printed.collected().ends_with('x'));
}

/// Whatever is printed in whatever portions, what is read is its end.
#[test]
fn what_is_read_is_the_last_200_000_characters() {
    const CHARS: [char; 4] = ['a', 'ä', '€', '𝄞'];
    let store = Store::in_memory();
    for seed in 1..=5_u64 {
        let job = format!("job {seed}");
        let (mut random, mut pieces, mut all) = (seed, Pieces::default(), String::new());
        let mut next = |below: usize| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) as usize % below
        };
        for number in 0..300 {
            let most = [3, 900, 2_000, 30_000, 250_000][next(5)].min(300 * (number as usize + 1));
            let text: String = (0..1 + next(most))
                .map(|at| CHARS[(at + seed as usize) % 4])
                .collect();
            all.push_str(&text);
            // The clock stands still now and then, and activations overtake each other.
            let change = pieces.add(&key(number / 7, 300 - number), &text).unwrap();
            commit(&store, &job, &change);
            pieces = change.after;
            let stored: usize = pieces.pieces.iter().map(|piece| piece.chars).sum();
            assert_eq!(stored, pieces.chars, "seed {seed}");
            assert!(
                stored < 2 * OUTPUT_CHARS_MAX + PIECE_CHARS,
                "seed {seed}: {stored}"
            );
            assert!(
                pieces.pieces.len() < 1000,
                "seed {seed}: {}",
                pieces.pieces.len()
            );
            if number % 50 == 49 {
                let read = read_output(&store, &job).unwrap();
                assert!(
                    read == tail(&all, OUTPUT_CHARS_MAX),
                    "seed {seed}, {number}"
                );
                let found = Pieces::load(&store, &job).unwrap();
                assert_eq!(format!("{found:?}"), format!("{pieces:?}"), "seed {seed}");
                pieces = found;
            }
        }
    }
}

#[test]
fn a_word_at_a_time_makes_few_pieces() {
    let (store, mut pieces) = (Store::in_memory(), Pieces::default());
    for number in 0..5000 {
        let change = pieces.add(&key(number, number), "word ").unwrap();
        assert_eq!(change.writes.len(), 1);
        commit(&store, "a", &change);
        pieces = change.after;
    }
    assert_eq!(pieces.pieces.len(), 25);
    assert_eq!(read_output(&store, "a").unwrap(), "word ".repeat(5000));
}

#[test]
fn pieces_that_expired_are_not_read() {
    let clock = Arc::new(crate::clock::ManualClock::new(1));
    let store = Store::builder()
        .clock(Arc::clone(&clock) as _)
        .in_memory()
        .unwrap();
    let mut change = Pieces::default().add(&key(1, 1), "text").unwrap();
    change.until(&store, "a", 100).unwrap();
    commit(&store, "a", &change);
    assert_eq!(read_output(&store, "a").unwrap(), "text");
    clock.set_micros(100);
    assert_eq!(read_output(&store, "a").unwrap(), "");
    assert!(Pieces::load(&store, "a").unwrap().is_empty());
}

/// A pipe that takes nothing until it is told to.
struct Slow {
    shown: Shown,
    asked: mpsc::Sender<()>,
    go_on: mpsc::Receiver<()>,
}

impl io::Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.asked.send(()).map_err(io::Error::other)?;
        self.go_on.recv().map_err(io::Error::other)?;
        self.shown.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn stdout_has_the_order_of_commits_and_all_of_them_when_flush_returns() {
    let (asked, was_asked) = mpsc::channel();
    let (let_go, go_on) = mpsc::channel();
    let shown = Shown::default();
    let printer = Printer::new(Slow {
        shown: shown.clone(),
        asked,
        go_on,
    });
    thread::scope(|scope| {
        printer.push("1".into());
        let first = scope.spawn(|| printer.flush());
        was_asked.recv().unwrap();
        // Giving does not wait for a slow stdout.
        printer.push("2".into());
        printer.push("3".into());
        let second = scope.spawn(|| {
            printer.flush();
            shown.text()
        });
        for _ in 0..3 {
            let_go.send(()).unwrap();
        }
        first.join().unwrap();
        assert_eq!(second.join().unwrap(), "123");
    });
}

#[test]
fn a_closed_stdout_is_no_matter_of_whoever_prints() {
    struct Closed;
    impl io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }
    let printer = Printer::new(Closed);
    printer.push("text".into());
    printer.flush();
    assert!(format!("{printer:?}").contains("waiting: 0"));
}
