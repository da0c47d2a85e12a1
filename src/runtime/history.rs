//! Owns what is told of the activations of a worker that are over. Imports `record`.

use crate::runtime::record::HistoryRecord;

/// How an activation ended.
///
/// ```
/// use evenkeel::ExecutionOutcome;
/// assert_eq!(ExecutionOutcome::TimedOut.to_string(), "timed-out");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExecutionOutcome {
    /// It was committed.
    Completed,
    /// It failed for good.
    Failed,
    /// It failed, and its error handler let the flow go on.
    ErrorContinued,
    /// It failed, and its error handler skipped its messages.
    Skipped,
    /// It failed, and is tried again.
    Retried,
    /// Its job or its worker was cancelled.
    Cancelled,
    /// It took longer than its timeout.
    TimedOut,
    /// In a way that this version does not know: a later one noted it.
    Other,
}

impl ExecutionOutcome {
    /// All, where their numbers on disk are their places.
    const ALL: [Self; 7] = [
        Self::Completed,
        Self::Failed,
        Self::ErrorContinued,
        Self::Skipped,
        Self::Retried,
        Self::Cancelled,
        Self::TimedOut,
    ];

    /// As it is stored.
    pub(crate) fn number(self) -> u8 {
        let place = Self::ALL.iter().position(|known| *known == self);
        place
            .and_then(|place| u8::try_from(place).ok())
            .unwrap_or(u8::MAX)
    }

    pub(crate) fn of(number: u8) -> Self {
        let known = Self::ALL.get(usize::from(number));
        known.copied().unwrap_or(Self::Other)
    }

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::ErrorContinued => "error-continued",
            Self::Retried => "retried",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed-out",
            Self::Other => "other",
        }
    }
}

impl std::fmt::Display for ExecutionOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// An activation that is over. Made by
/// [`WorkerState::execution_history`](crate::WorkerState::execution_history).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecutionEntry {
    /// Its number among all activations of the worker, from 1.
    pub number: u64,
    /// The id of its routine.
    pub routine_id: String,
    /// When it ended, in microseconds since 1970 by the store's time.
    pub at_micros: u64,
    /// How it ended.
    pub outcome: ExecutionOutcome,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// The ids of the jobs whose messages it had.
    pub job_ids: Vec<String>,
}

impl ExecutionEntry {
    pub(crate) fn of(record: &HistoryRecord) -> Self {
        Self {
            number: record.number,
            routine_id: record.routine.to_string(),
            at_micros: record.at,
            outcome: ExecutionOutcome::of(record.outcome),
            attempt: record.attempt,
            job_ids: record.jobs.iter().map(|id| id.to_string()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_outcomes_are_those_on_disk() {
        let names = ExecutionOutcome::ALL.map(ExecutionOutcome::as_str);
        let on_disk = [
            "completed",
            "failed",
            "error-continued",
            "skipped",
            "retried",
            "cancelled",
            "timed-out",
        ];
        assert_eq!(names, on_disk);
    }

    #[test]
    fn an_outcome_reads_back_and_an_unknown_one_is_other() {
        for outcome in ExecutionOutcome::ALL {
            assert_eq!(ExecutionOutcome::of(outcome.number()), outcome);
        }
        assert_eq!(ExecutionOutcome::of(7), ExecutionOutcome::Other);
        let other = ExecutionOutcome::Other.number();
        assert_eq!(ExecutionOutcome::of(other), ExecutionOutcome::Other);
    }
}
