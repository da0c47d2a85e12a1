//! Owns running cases one after the other, with somebody watching: a case that
//! panics is a failure with its name, and so is one that never ends.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Longer than any deadline that a case may legitimately meet.
const HANG: Duration = Duration::from_secs(120);

/// What became of a case.
pub(crate) enum Outcome {
    /// It held; the word is counted.
    Held(&'static str),
    /// It did not, and this is why.
    Broken(String),
}

/// Runs all cases and fails with the list of those that did not hold. Prints what
/// the others came to.
pub(crate) fn run<C: Send + 'static>(
    title: &str,
    cases: Vec<C>,
    name: impl Fn(&C) -> String + Send + 'static,
    check: impl Fn(&C) -> Outcome + Send + 'static,
) {
    let count = cases.len();
    let (sender, receiver) = mpsc::channel();
    let worker = thread::spawn(move || {
        for case in cases {
            let outcome = catch_unwind(AssertUnwindSafe(|| check(&case)));
            let outcome = outcome.unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&s| s.to_owned()));
                Outcome::Broken(format!("panicked: {}", text.unwrap_or_default()))
            });
            if sender.send((name(&case), outcome)).is_err() {
                return;
            }
        }
    });
    let mut held = std::collections::BTreeMap::new();
    let mut broken = Vec::new();
    for done in 0..count {
        match receiver.recv_timeout(HANG) {
            Ok((_, Outcome::Held(word))) => *held.entry(word).or_insert(0_u32) += 1,
            Ok((name, Outcome::Broken(why))) => broken.push(format!("{name}: {why}")),
            Err(_) => panic!("{title}: the case behind {done} others hangs, or ended the thread"),
        }
    }
    worker.join().unwrap();
    let mut report = format!("{title}: {count} cases, {held:?}, {} broken", broken.len());
    for line in broken.iter().take(40) {
        let _ = write!(report, "\n  {line}");
    }
    assert!(broken.is_empty(), "{report}");
    // Shown by `cargo test -- --nocapture`.
    #[expect(clippy::print_stdout, reason = "the figures are what the test shows")]
    {
        println!("{report}");
    }
}
