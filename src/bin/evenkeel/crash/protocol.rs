//! Owns the lines that `write` and `check` print and `run` reads.
//!
//! ```text
//! stdout   acked N              record N must survive (write)
//!          have N               record N is there and whole (check)
//! stderr   opened: …            the store is open, what was found
//!          cut: …               a torn tail was cut off
//!          healed: …            damage was put right
//!          figures NAME=N …     asked for by --figures
//!          anything else        words
//! ```

use evenkeel::{Healed, Recovery};

use crate::console::tell;

const ACKED: &str = "acked";
const HAVE: &str = "have";
const OPENED: &str = "opened: ";
const FIGURES: &str = "figures";

pub(super) fn acked(number: u64) -> String {
    format!("{ACKED} {number}")
}

pub(super) fn have(number: u64) -> String {
    format!("{HAVE} {number}")
}

/// The number of an `acked` line.
pub(super) fn read_acked(line: &str) -> Option<u64> {
    read(line, ACKED)
}

/// The number of a `have` line.
pub(super) fn read_have(line: &str) -> Option<u64> {
    read(line, HAVE)
}

fn read(line: &str, word: &str) -> Option<u64> {
    line.strip_prefix(word)?.strip_prefix(' ')?.parse().ok()
}

/// Tells on stderr what opening a store found.
pub(super) fn tell_recovery(recovery: &Recovery) {
    let how = match (recovery.closed_cleanly, recovery.last_lsn.get()) {
        (_, 0) => "new",
        (true, _) => "it had been closed",
        (false, _) => "it had been killed",
    };
    tell(format_args!(
        "{OPENED}run {}, {how}, {} commits replayed behind image {} and snapshot {}",
        recovery.epoch, recovery.replayed_commits, recovery.image_lsn, recovery.snapshot_lsn
    ));
    if let Some(cut) = &recovery.cut {
        tell(format_args!(
            "cut: {} bytes of a torn tail at {}, offset {}, from LSN {} on: {}",
            cut.bytes,
            cut.path.display(),
            cut.offset,
            cut.lsn,
            cut.what
        ));
    }
    tell_healed(&recovery.healed);
}

/// Tells on stderr what was put right.
pub(super) fn tell_healed(healed: &[Healed]) {
    for healed in healed {
        let path = healed.path.display();
        tell(format_args!(
            "healed: {path}: {}; {}",
            healed.what, healed.action
        ));
    }
}

/// Whether a line says that the store is open.
pub(super) fn is_opened(line: &str) -> bool {
    line.starts_with(OPENED)
}

/// Tells figures on stderr.
pub(super) fn tell_figures(figures: &[(&str, u64)]) {
    let figures = figures
        .iter()
        .map(|(name, number)| format!(" {name}={number}"));
    tell(format_args!("{FIGURES}{}", figures.collect::<String>()));
}

/// The figures of such a line.
pub(super) fn read_figures(line: &str) -> Option<Vec<(&str, u64)>> {
    let figures = line.strip_prefix(FIGURES)?.split_whitespace();
    let figure = |figure: &'_ str| -> Option<(usize, u64)> {
        let at = figure.find('=')?;
        Some((at, figure.get(at + 1..)?.parse().ok()?))
    };
    figures
        .map(|text| figure(text).and_then(|(at, number)| Some((text.get(..at)?, number))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_are_written() {
        assert_eq!(acked(7), "acked 7");
        assert_eq!(have(u64::MAX), "have 18446744073709551615");
        assert_eq!(read_acked(&acked(u64::MAX)), Some(u64::MAX));
        assert_eq!(read_have("have 0"), Some(0));
        for other in [
            "acked",
            "acked ",
            "acked x",
            "acked 1 2",
            "acked1",
            "have 1",
        ] {
            assert_eq!(read_acked(other), None, "{other}");
        }
        assert_eq!(
            read_figures("figures a=1 b=22"),
            Some(vec![("a", 1), ("b", 22)])
        );
        assert_eq!(read_figures("figures a"), None);
    }
}
