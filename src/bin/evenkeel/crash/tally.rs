//! Owns what a run has seen, and the summary of it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// What a run has seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) seed: u64,
    pub(super) rounds: u64,
    /// Writers that were killed.
    pub(super) kills: u64,
    /// Of these, those that had not opened the store yet.
    pub(super) kills_opening: u64,
    /// Checks that were killed.
    pub(super) kills_checking: u64,
    /// Acknowledgements.
    pub(super) acknowledged: u64,
    /// Records that a check found whole, over all checks.
    pub(super) verified: u64,
    /// Records that are there at the end.
    pub(super) records: u64,
    /// Of the figures of writers and checks, by name.
    pub(super) cuts: u64,
    pub(super) healed: u64,
    pub(super) replayed: u64,
    pub(super) checkpoints: u64,
    pub(super) snapshots: u64,
    pub(super) rebuilds: u64,
    pub(super) conflicts: u64,
    pub(super) time: Duration,
    pub(super) outcome: Outcome,
}

/// How a run ended.
#[derive(Clone, Debug, Default)]
pub(super) enum Outcome {
    #[default]
    Passed,
    Interrupted,
    Failed {
        kept: PathBuf,
    },
}

impl Tally {
    /// Adds the figures of a child.
    pub(super) fn figures(&mut self, figures: &[(String, u64)]) {
        for (name, number) in figures {
            self.figure(name, *number);
        }
    }

    fn figure(&mut self, name: &str, number: u64) {
        let figure = match name {
            "cuts" => &mut self.cuts,
            "healed" => &mut self.healed,
            "replayed" => &mut self.replayed,
            "checkpoints" => &mut self.checkpoints,
            "snapshots" => &mut self.snapshots,
            "rebuilds" => &mut self.rebuilds,
            "conflicts" => &mut self.conflicts,
            _ => return,
        };
        *figure += number;
    }

    /// For progress.
    pub(super) fn state(&self) -> String {
        format!(
            "{} acknowledged, {} records, {} kills, {} while opening",
            self.acknowledged, self.records, self.kills, self.kills_opening
        )
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match &self.outcome {
            Outcome::Passed => "passed: nothing was lost, nothing contradicts itself".into(),
            Outcome::Interrupted => "interrupted; passed so far".into(),
            Outcome::Failed { kept } => format!("FAILED; the store is kept in {}", kept.display()),
        };
        let rows = [
            ("rounds", format!("{}", self.rounds)),
            (
                "kills",
                format!(
                    "{} of writers, {} of these while opening; {} of checks",
                    self.kills, self.kills_opening, self.kills_checking
                ),
            ),
            ("acknowledged", self.acknowledged.to_string()),
            (
                "verified",
                format!("{}, {} records at the end", self.verified, self.records),
            ),
            (
                "seen",
                format!(
                    "{} checkpoints, {} snapshots, {} rebuilds, {} lost races",
                    self.checkpoints, self.snapshots, self.rebuilds, self.conflicts
                ),
            ),
            (
                "recovered",
                format!(
                    "{} commits replayed, {} torn tails cut, {} healed",
                    self.replayed, self.cuts, self.healed
                ),
            ),
            ("seed", self.seed.to_string()),
            ("time", format!("{:.1} s", self.time.as_secs_f64())),
            ("outcome", outcome),
        ];
        let lines = rows.map(|(name, text)| format!("{:14}{text}", format!("{name}:")));
        f.write_str(&lines.join("\n"))
    }
}
