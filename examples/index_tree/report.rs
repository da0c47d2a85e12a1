//! Owns the report on stdout: read from the totals as they are kept, never counted
//! anew.

use std::io::Write;

use evenkeel::Result;

use crate::flow::Sums;
use crate::index::{Index, Part, Totals};

/// How many of the largest files are reported.
pub(crate) const LARGEST: usize = 10;

/// Writes what a run did and what the index has.
pub(crate) fn print(out: &mut impl Write, index: &Index, outcome: Sums) -> Result<()> {
    let mut text = |line: String| writeln!(out, "{line}").map_err(evenkeel::Error::abort);
    if (outcome.indexed, outcome.taken_back) == (0, 0) {
        text("nothing to do".into())?;
    }
    text(format!("indexed: {}", outcome.indexed))?;
    text(format!("taken back: {}", outcome.taken_back))?;
    text(format!("unreadable: {}", outcome.unreadable))?;
    let totals = index.totals()?;
    text(format!("files: {}", totals.files))?;
    text(format!("bytes: {}", totals.bytes))?;
    text(format!("lines: {}", totals.lines))?;

    text("\nby extension:".into())?;
    for entry in index.part(Part::ByExtension).scan("")? {
        let entry = entry?;
        let Totals {
            files,
            bytes,
            lines,
        } = entry.value()?;
        let name = match entry.key() {
            "" => "(none)",
            extension => extension,
        };
        text(format!(
            "  {name}: {files} files, {bytes} bytes, {lines} lines"
        ))?;
    }

    text("\nlargest:".into())?;
    for (size, path) in index.largest(LARGEST)? {
        text(format!("  {size:>12} {path}"))?;
    }

    let (mut groups, mut waste) = (0_u64, 0_u64);
    text("\nduplicates:".into())?;
    for group in index.duplicates()? {
        let group = group?;
        groups += 1;
        waste = waste.saturating_add(group.waste);
        let (copies, sha256) = (group.copies, &group.sha256);
        text(format!(
            "  {copies} copies, {} bytes more than one: {sha256}",
            group.waste
        ))?;
        for path in index.paths_of(sha256)? {
            text(format!("    {path}"))?;
        }
    }
    text(format!("duplicate contents: {groups}"))?;
    text(format!("duplicate bytes: {waste}"))
}
