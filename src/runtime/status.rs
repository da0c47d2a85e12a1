//! Owns the statuses of workers, jobs and routines, and which may follow which: one
//! match over status and step for each. What runs and what is read back after a crash
//! goes through the same ones. Imports nothing.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What cannot follow what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {what} that is {from} cannot {step}")]
pub(crate) struct IllegalStep {
    what: &'static str,
    from: &'static str,
    step: &'static str,
}

/// Defines an enum of statuses with its names.
macro_rules! statuses {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[non_exhaustive]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// Its name, as it is stored and printed.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$variant),*];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

/// Defines what happens to a status, with the verbs for messages.
macro_rules! steps {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            fn verb(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$variant),*];
        }
    };
}

statuses! {
    /// How a worker is.
    ///
    /// ```
    /// use evenkeel::WorkerStatus;
    /// assert_eq!(WorkerStatus::Idle.to_string(), "idle");
    /// assert!(WorkerStatus::Completed.is_final() && !WorkerStatus::Paused.is_final());
    /// ```
    WorkerStatus {
        /// It was made and has not run yet.
        Starting = "starting",
        /// It has work.
        Running = "running",
        /// It has no work, and takes new work at any time.
        Idle = "idle",
        /// It runs nothing until it is resumed.
        Paused = "paused",
        /// It was stopped. Final.
        Stopped = "stopped",
        /// It was ended with all its work done. Final.
        Completed = "completed",
        /// A critical routine failed. Final.
        Failed = "failed",
        /// It was cancelled with its work. Final.
        Cancelled = "cancelled",
    }
}

steps! {
    /// What happens to a worker.
    WorkerStep {
        /// A message or a timer of it is there to be run.
        Work = "take work",
        /// Nothing is left to run.
        Drain = "drain",
        /// Somebody pauses it.
        Pause = "be paused",
        /// Somebody resumes it.
        Resume = "be resumed",
        /// Somebody stops it.
        Stop = "be stopped",
        /// Somebody ends it, and its work is done.
        Complete = "be completed",
        /// A critical routine of it failed.
        Fail = "fail",
        /// Somebody cancels it.
        Cancel = "be cancelled",
    }
}

impl WorkerStatus {
    /// True where it never runs again.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Stopped | Self::Completed | Self::Failed | Self::Cancelled
        )
    }

    /// The status after a step. A worker that is paused stays so, whatever comes and
    /// goes, until it is resumed; what it is then depends on the work that is there, which
    /// is the next step.
    ///
    /// # Errors
    /// Nothing follows what is final.
    pub(crate) fn after(self, step: WorkerStep) -> Result<Self, IllegalStep> {
        use WorkerStep as S;
        match (self, step) {
            (Self::Stopped | Self::Completed | Self::Failed | Self::Cancelled, _) => {
                Err(IllegalStep {
                    what: "worker",
                    from: self.as_str(),
                    step: step.verb(),
                })
            }
            (_, S::Stop) => Ok(Self::Stopped),
            (_, S::Complete) => Ok(Self::Completed),
            (_, S::Fail) => Ok(Self::Failed),
            (_, S::Cancel) => Ok(Self::Cancelled),
            (_, S::Pause) => Ok(Self::Paused),
            (Self::Paused, S::Work | S::Drain) => Ok(Self::Paused),
            (Self::Paused, S::Resume) => Ok(Self::Idle),
            (Self::Starting | Self::Running | Self::Idle, S::Resume) => Ok(self),
            (Self::Starting | Self::Running | Self::Idle, S::Work) => Ok(Self::Running),
            (Self::Starting | Self::Running | Self::Idle, S::Drain) => Ok(Self::Idle),
        }
    }
}

statuses! {
    /// How a job is.
    ///
    /// ```
    /// use evenkeel::JobStatus;
    /// assert!(JobStatus::Failed.is_final() && !JobStatus::Running.is_final());
    /// ```
    JobStatus {
        /// Nothing of it has run yet.
        Pending = "pending",
        /// Something of it has run, and something is left.
        Running = "running",
        /// Nothing of it is left. Final.
        Completed = "completed",
        /// An activation of it failed for good. Final.
        Failed = "failed",
        /// It was cancelled. Final.
        Cancelled = "cancelled",
    }
}

steps! {
    /// What happens to a job.
    JobStep {
        /// An activation with a message of it begins.
        Start = "start",
        /// Its last message and its last timer are gone.
        Drain = "complete",
        /// An activation of it failed for good.
        Fail = "fail",
        /// Somebody cancels it.
        Cancel = "be cancelled",
    }
}

impl JobStatus {
    /// True where nothing of it runs any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// The status after a step.
    ///
    /// # Errors
    /// Nothing follows what is final.
    pub(crate) fn after(self, step: JobStep) -> Result<Self, IllegalStep> {
        match (self, step) {
            (Self::Completed | Self::Failed | Self::Cancelled, _) => Err(IllegalStep {
                what: "job",
                from: self.as_str(),
                step: step.verb(),
            }),
            (Self::Pending | Self::Running, JobStep::Start) => Ok(Self::Running),
            // What was dropped from a full slot has never run.
            (Self::Pending | Self::Running, JobStep::Drain) => Ok(Self::Completed),
            (Self::Pending | Self::Running, JobStep::Fail) => Ok(Self::Failed),
            (Self::Pending | Self::Running, JobStep::Cancel) => Ok(Self::Cancelled),
        }
    }
}

statuses! {
    /// How a routine of a worker is.
    ///
    /// ```
    /// use evenkeel::RoutineStatus;
    /// assert_eq!(RoutineStatus::ErrorContinued.as_str(), "error-continued");
    /// ```
    RoutineStatus {
        /// It has not run yet.
        Pending = "pending",
        /// An activation of it runs.
        Running = "running",
        /// It has run, and waits for what comes.
        Idle = "idle",
        /// Its worker is completed, and its last activation succeeded.
        Completed = "completed",
        /// Its last activation failed for good.
        Failed = "failed",
        /// Its last activation failed and was skipped.
        Skipped = "skipped",
        /// Its last activation failed, and the flow went on.
        ErrorContinued = "error-continued",
    }
}

steps! {
    /// What happens to a routine.
    RoutineStep {
        /// An activation begins.
        Start = "start",
        /// An activation is committed, and no other one runs.
        Succeed = "succeed",
        /// An activation failed for good.
        Fail = "fail",
        /// An activation failed, and its error handler says skip.
        Skip = "be skipped",
        /// An activation failed, and its error handler says continue.
        Continue = "continue",
        /// An activation failed and will be tried again, or a crash or a shutdown ended
        /// it.
        GiveBack = "be given back",
        /// Its worker is completed.
        Complete = "be completed",
    }
}

impl RoutineStatus {
    /// The status after a step. Nothing is final: what failed runs again with what comes.
    ///
    /// # Errors
    /// Only an activation that runs can end.
    pub(crate) fn after(self, step: RoutineStep) -> Result<Self, IllegalStep> {
        use RoutineStep as S;
        match (self, step) {
            (_, S::Start) => Ok(Self::Running),
            (Self::Running, S::Succeed | S::GiveBack) => Ok(Self::Idle),
            (Self::Running, S::Fail) => Ok(Self::Failed),
            (Self::Running, S::Skip) => Ok(Self::Skipped),
            (Self::Running, S::Continue) => Ok(Self::ErrorContinued),
            (Self::Pending | Self::Idle | Self::Completed, S::Complete) => Ok(Self::Completed),
            (Self::Failed | Self::Skipped | Self::ErrorContinued, S::Complete) => Ok(self),
            (Self::Running, S::Complete)
            | (
                Self::Pending
                | Self::Idle
                | Self::Completed
                | Self::Failed
                | Self::Skipped
                | Self::ErrorContinued,
                S::Succeed | S::GiveBack | S::Fail | S::Skip | S::Continue,
            ) => Err(IllegalStep {
                what: "routine",
                from: self.as_str(),
                step: step.verb(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_comes_by_itself_and_an_idle_worker_takes_new_work() {
        let idle = WorkerStatus::Running.after(WorkerStep::Drain).unwrap();
        assert_eq!(idle, WorkerStatus::Idle);
        assert_eq!(idle.after(WorkerStep::Work).unwrap(), WorkerStatus::Running);
    }

    #[test]
    fn completed_is_final() {
        for &status in WorkerStatus::ALL {
            for &step in WorkerStep::ALL {
                assert_eq!(
                    status.after(step).is_err(),
                    status.is_final(),
                    "{status} {step:?}"
                );
            }
        }
        for &status in JobStatus::ALL {
            for &step in JobStep::ALL {
                assert_eq!(
                    status.after(step).is_err(),
                    status.is_final(),
                    "{status} {step:?}"
                );
            }
        }
    }

    #[test]
    fn a_paused_worker_stays_paused_until_it_is_resumed() {
        for step in [WorkerStep::Work, WorkerStep::Drain, WorkerStep::Pause] {
            let after = WorkerStatus::Paused.after(step);
            assert_eq!(after, Ok(WorkerStatus::Paused), "{step:?}");
        }
        let resumed = WorkerStatus::Paused.after(WorkerStep::Resume).unwrap();
        assert_eq!(resumed.after(WorkerStep::Work), Ok(WorkerStatus::Running));
    }

    #[test]
    fn a_job_goes_from_pending_to_its_end() {
        let running = JobStatus::Pending.after(JobStep::Start).unwrap();
        assert_eq!(running, JobStatus::Running);
        assert_eq!(running.after(JobStep::Start), Ok(JobStatus::Running));
        assert_eq!(running.after(JobStep::Drain), Ok(JobStatus::Completed));
        assert_eq!(running.after(JobStep::Fail), Ok(JobStatus::Failed));
        assert_eq!(running.after(JobStep::Cancel), Ok(JobStatus::Cancelled));
    }

    #[test]
    fn only_a_routine_that_runs_can_end_an_activation() {
        let ends = [
            (RoutineStep::Succeed, RoutineStatus::Idle),
            (RoutineStep::Fail, RoutineStatus::Failed),
            (RoutineStep::Skip, RoutineStatus::Skipped),
            (RoutineStep::Continue, RoutineStatus::ErrorContinued),
            (RoutineStep::GiveBack, RoutineStatus::Idle),
        ];
        for &status in RoutineStatus::ALL {
            assert_eq!(status.after(RoutineStep::Start), Ok(RoutineStatus::Running));
            let legal = |step: &&RoutineStep| status.after(**step).is_ok();
            let count = RoutineStep::ALL.iter().filter(legal).count();
            assert_eq!(
                count,
                if status == RoutineStatus::Running {
                    6
                } else {
                    2
                },
                "{status}"
            );
            for (step, end) in ends {
                let running = status == RoutineStatus::Running;
                assert_eq!(
                    status.after(step).ok(),
                    running.then_some(end),
                    "{status} {step:?}"
                );
            }
        }
    }

    #[test]
    fn a_routine_that_failed_says_so_after_its_worker_completed() {
        let failed = RoutineStatus::Failed.after(RoutineStep::Complete);
        assert_eq!(failed, Ok(RoutineStatus::Failed));
        let idle = RoutineStatus::Idle.after(RoutineStep::Complete);
        assert_eq!(idle, Ok(RoutineStatus::Completed));
    }

    #[test]
    fn an_illegal_step_says_what_and_from_where() {
        let error = JobStatus::Completed.after(JobStep::Cancel).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a job that is completed cannot be cancelled"
        );
    }

    #[test]
    fn statuses_are_stored_by_their_names() {
        for &status in RoutineStatus::ALL {
            let stored = serde_json::to_string(&status).unwrap();
            assert_eq!(stored, format!("\"{status}\""));
            let read: RoutineStatus = serde_json::from_str(&stored).unwrap();
            assert_eq!(read, status);
        }
        for &status in WorkerStatus::ALL {
            assert_eq!(
                serde_json::to_string(&status).unwrap(),
                format!("\"{status}\"")
            );
        }
        for &status in JobStatus::ALL {
            assert_eq!(
                serde_json::to_string(&status).unwrap(),
                format!("\"{status}\"")
            );
        }
    }
}
