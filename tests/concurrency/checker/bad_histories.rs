//! The checker on histories made by hand: each that is bad is refused with its circle,
//! and each that is good is not.

use std::collections::BTreeSet;

use super::{Read, Recorded, Violation, check};

/// A transaction from `begin` to `end`.
fn at(name: &str, begin: u64, end: u64) -> Recorded {
    Recorded {
        name: name.to_owned(),
        begin,
        end,
        ..Recorded::default()
    }
}

impl Recorded {
    fn reads(mut self, key: &str, value: u64) -> Self {
        self.reads.push(Read::Value(key.to_owned(), value, None));
        self
    }

    fn reads_of(mut self, key: &str, value: u64, version: u64) -> Self {
        let read = Read::Value(key.to_owned(), value, Some(version));
        self.reads.push(read);
        self
    }

    fn misses(mut self, key: &str) -> Self {
        self.reads.push(Read::Absent(key.to_owned()));
        self
    }

    fn scans(mut self, prefix: &str, found: &[(&str, u64)]) -> Self {
        let but: BTreeSet<_> = found.iter().map(|(key, _)| (*key).to_owned()).collect();
        let prefix = prefix.to_owned();
        self.reads.push(Read::Range { prefix, but });
        let reads = found.iter();
        reads.fold(self, |one, (key, value)| one.reads(key, *value))
    }

    fn writes(mut self, key: &str, value: u64) -> Self {
        self.writes.push((key.to_owned(), Some(value)));
        self
    }

    fn deletes(mut self, key: &str) -> Self {
        self.writes.push((key.to_owned(), None));
        self
    }

    fn lsn(mut self, lsn: u64) -> Self {
        self.lsn = Some(lsn);
        self
    }

    fn view(mut self, view: u64) -> Self {
        self.view = Some(view);
        self
    }
}

/// The names in the circle, sorted.
fn circle(history: &[Recorded]) -> Vec<String> {
    match check(history) {
        Err(Violation::Circle(steps)) => {
            let names = steps
                .iter()
                .map(|(name, _)| name.split(':').next().unwrap().to_owned());
            let mut names: Vec<_> = names.collect();
            names.sort();
            names
        }
        other => panic!("{other:?}"),
    }
}

fn unexplained(history: &[Recorded]) -> String {
    match check(history) {
        Err(Violation::Unexplained(what)) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_in_order_is_not_refused() {
    let history = [
        at("a", 0, 5).writes("x", 1).writes("y", 1).lsn(1),
        // Beside each other; the second is earlier in the only order there is.
        at("b", 6, 20).reads("x", 1).writes("x", 2).lsn(3),
        at("c", 7, 21).reads("x", 1).reads("y", 1).misses("z"),
        at("d", 22, 23)
            .reads_of("x", 2, 3)
            .deletes("y")
            .lsn(4)
            .view(3),
        at("e", 24, 25).misses("y").scans("", &[("x", 2)]).view(4),
        at("f", 26, 27).writes("y", 2),
        at("g", 26, 30).misses("y").view(4),
    ];
    assert_eq!(check(&history), Ok(()));
    assert_eq!(check(&[]), Ok(()));
}

#[test]
fn what_is_not_known_is_no_circle() {
    // Nobody gave or read the LSN of these writes, so their order is open.
    let history = [
        at("a", 0, 10).writes("x", 1),
        at("b", 0, 10).writes("x", 2),
        at("c", 0, 10).reads("x", 1),
        at("d", 0, 10).reads("x", 2).misses("y"),
        at("e", 0, 10).deletes("y").lsn(9),
    ];
    assert_eq!(check(&history), Ok(()));
}

#[test]
fn a_lost_update() {
    let history = [
        at("first", 0, 1).writes("x", 1).lsn(1),
        at("one", 2, 10).reads("x", 1).writes("x", 2).lsn(2),
        at("two", 2, 10).reads("x", 1).writes("x", 3).lsn(3),
    ];
    assert_eq!(circle(&history), ["one", "two"]);
    // Also of a key that nobody had written, by commits whose LSN nobody knows.
    let history = [
        at("one", 2, 10).misses("x").writes("x", 2),
        at("two", 2, 10).misses("x").writes("x", 3),
    ];
    assert_eq!(circle(&history), ["one", "two"]);
}

#[test]
fn write_skew() {
    let history = [
        at("first", 0, 1).writes("x", 1).writes("y", 1).lsn(1),
        at("one", 2, 10)
            .reads("x", 1)
            .reads("y", 1)
            .writes("x", 2)
            .lsn(2),
        at("two", 2, 10)
            .reads("x", 1)
            .reads("y", 1)
            .writes("y", 2)
            .lsn(3),
    ];
    assert_eq!(circle(&history), ["one", "two"]);
}

#[test]
fn phantoms() {
    let history = [
        at("one", 2, 10)
            .scans("seat", &[])
            .writes("seat1", 1)
            .lsn(1),
        at("two", 2, 10)
            .scans("seat", &[])
            .writes("seat2", 2)
            .lsn(2),
    ];
    assert_eq!(circle(&history), ["one", "two"]);
    // What was deleted and is not seen as deleted by both.
    let history = [
        at("first", 0, 1)
            .writes("seat1", 1)
            .writes("seat2", 2)
            .lsn(1),
        at("one", 2, 10)
            .scans("seat", &[("seat1", 1), ("seat2", 2)])
            .deletes("seat1")
            .lsn(2),
        at("two", 2, 10)
            .scans("seat", &[("seat1", 1), ("seat2", 2)])
            .deletes("seat2")
            .lsn(3),
    ];
    assert_eq!(circle(&history), ["one", "two"]);
}

#[test]
fn a_dirty_read() {
    // Nobody who committed wrote it: rolled back, overwritten inside, or made up.
    let history = [
        at("first", 0, 1).writes("x", 1).lsn(1),
        at("reader", 2, 10).reads("x", 7),
    ];
    assert!(unexplained(&history).contains("reader read x = 7"));
}

#[test]
fn a_read_that_does_not_repeat() {
    let history = [
        at("first", 0, 1).writes("x", 1).lsn(1),
        at("writer", 2, 10).writes("x", 2).lsn(2),
        at("reader", 2, 10).reads("x", 1).reads("x", 2),
    ];
    assert_eq!(circle(&history), ["reader", "writer"]);
    let history = [
        at("writer", 2, 10).writes("x", 2).lsn(2),
        at("reader", 2, 10).misses("x").reads("x", 2),
    ];
    assert_eq!(circle(&history), ["reader", "writer"]);
}

#[test]
fn half_of_a_commit() {
    let history = [
        at("first", 0, 1).writes("x", 1).writes("y", 1).lsn(1),
        at("writer", 2, 10).writes("x", 2).writes("y", 2).lsn(2),
        at("reader", 2, 10).reads("x", 2).reads("y", 1),
    ];
    assert_eq!(circle(&history), ["reader", "writer"]);
}

#[test]
fn readers_that_see_two_writes_in_two_orders() {
    let history = [
        at("one", 0, 10).writes("x", 1).lsn(1),
        at("two", 0, 10).writes("y", 2).lsn(2),
        at("reader one", 0, 10).reads("x", 1).misses("y"),
        at("reader two", 0, 10).reads("y", 2).misses("x"),
    ];
    assert_eq!(circle(&history), ["one", "reader one", "reader two", "two"]);
}

#[test]
fn a_read_of_what_was_over() {
    let history = [
        at("first", 0, 1).writes("x", 1).lsn(1),
        at("second", 2, 3).reads("x", 1).writes("x", 2).lsn(2),
        at("other", 4, 5).writes("y", 1).lsn(3),
        at("late", 6, 7).reads("x", 1),
    ];
    assert_eq!(circle(&history), ["late", "second"]);
    // And of what is to come.
    let history = [
        at("early", 0, 1).reads("x", 1),
        at("first", 2, 3).writes("x", 1).lsn(1),
    ];
    assert_eq!(circle(&history), ["early", "first"]);
}

#[test]
fn an_order_of_the_log_that_is_not_that_of_time() {
    let history = [
        at("first", 0, 1).writes("x", 1).lsn(2),
        at("second", 2, 3).writes("x", 2).lsn(1),
    ];
    assert_eq!(circle(&history), ["first", "second"]);
}

#[test]
fn versions_and_absences_that_cannot_be() {
    let history = [
        at("first", 0, 1).writes("x", 1).lsn(1),
        at("reader", 2, 3).reads_of("x", 1, 5),
    ];
    assert!(unexplained(&history).contains("of LSN 5, but it is of 1"));
    let history = [
        at("first", 0, 1).writes("x", 1).lsn(1),
        at("second", 0, 1).deletes("x").lsn(8),
        at("reader", 2, 3).misses("x").view(4),
    ];
    assert!(unexplained(&history).contains("found no x at LSN 4"));
    let history = [
        at("first", 0, 1).writes("x", 1).lsn(1),
        at("second", 0, 1).writes("x", 2).lsn(1),
    ];
    assert!(unexplained(&history).contains("has LSN 1"));
}
