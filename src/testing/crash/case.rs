//! Owns the name of one crash: what happens, when, and what is lost, as a text that
//! finds it again.
//!
//! ```text
//! case    := trouble "/" loss [ "/" trouble "/" loss ] "/" dice
//! trouble := "stop:" n ":" ("before" | "midway" | "after")
//!          | ("io" | "full" | "read") ":" n ":" ("once" | "lasting")
//!          | ("short" | "lost-sync") ":" n
//! loss    := "everything" | "nothing" | "random:" seed | "only:" arrivals
//! ```
//! The second pair befalls the recovery from the first. The dice, a number, decide
//! what else is tried: which commits follow, whether the image is taken away. The
//! arrivals name what reached the disk, by operation (see `Arrivals`).

use std::fmt;
use std::str::FromStr;

use crate::testing::{Failure, Fault, Loss, SimDisk, When};

/// What happens to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trouble {
    /// The power goes, or the process is killed, at an operation.
    Stop(u64, When),
    /// A call fails.
    Fault(Fault),
}

/// One crash, or one crash and another in the recovery from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What happens to the workload.
    pub trouble: Trouble,
    /// What the disk loses then.
    pub loss: Loss,
    /// What happens to the recovery, and what the disk loses then.
    pub nested: Option<(Trouble, Loss)>,
    /// Decides what else is tried.
    pub dice: u64,
}

impl Trouble {
    /// Plans it.
    pub(in crate::testing) fn befall(self, disk: &SimDisk) {
        match self {
            Self::Stop(at, when) => disk.stop_at(at, when),
            Self::Fault(fault) => disk.fail(fault),
        }
    }

    /// The number of the operation, or of the read.
    pub(super) fn at(self) -> u64 {
        match self {
            Self::Stop(at, _)
            | Self::Fault(
                Fault::Operation { at, .. }
                | Fault::Read { at, .. }
                | Fault::ShortWrite { at, .. }
                | Fault::LostSync { at },
            ) => at,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lasts = |lasting| if lasting { "lasting" } else { "once" };
        match *self {
            Self::Stop(at, When::Before) => write!(f, "stop:{at}:before"),
            Self::Stop(at, When::Midway) => write!(f, "stop:{at}:midway"),
            Self::Stop(at, When::After) => write!(f, "stop:{at}:after"),
            Self::Fault(Fault::Operation {
                at,
                failure,
                lasting,
            }) => {
                let kind = if failure == Failure::Io { "io" } else { "full" };
                write!(f, "{kind}:{at}:{}", lasts(lasting))
            }
            Self::Fault(Fault::ShortWrite { at, .. }) => write!(f, "short:{at}"),
            Self::Fault(Fault::LostSync { at }) => write!(f, "lost-sync:{at}"),
            Self::Fault(Fault::Read { at, lasting }) => write!(f, "read:{at}:{}", lasts(lasting)),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.trouble, ShownLoss(&self.loss))?;
        if let Some((trouble, loss)) = &self.nested {
            write!(f, "/{trouble}/{}", ShownLoss(loss))?;
        }
        write!(f, "/{}", self.dice)
    }
}

/// A loss as a part of a case.
pub(super) struct ShownLoss<'a>(pub(super) &'a Loss);

impl fmt::Display for ShownLoss<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Loss::Everything => f.write_str("everything"),
            Loss::Nothing => f.write_str("nothing"),
            Loss::Random(seed) => write!(f, "random:{seed}"),
            Loss::Only(arrivals) => write!(f, "only:{arrivals}"),
        }
    }
}

/// A text that names no case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no part of a crash case")]
pub struct NoCase(String);

impl FromStr for Trouble {
    type Err = NoCase;

    fn from_str(text: &str) -> Result<Self, NoCase> {
        let none = || NoCase(text.to_owned());
        let parts: Vec<_> = text.split(':').collect();
        let (&kind, rest) = parts.split_first().ok_or_else(none)?;
        let (at, rest) = rest.split_first().ok_or_else(none)?;
        let at = at.parse().map_err(|_| none())?;
        let operation = |failure, lasting| {
            Self::Fault(Fault::Operation {
                at,
                failure,
                lasting,
            })
        };
        let failure = Failure::Io;
        Ok(match (kind, rest) {
            ("stop", ["before"]) => Self::Stop(at, When::Before),
            ("stop", ["midway"]) => Self::Stop(at, When::Midway),
            ("stop", ["after"]) => Self::Stop(at, When::After),
            ("io", ["once"]) => operation(Failure::Io, false),
            ("io", ["lasting"]) => operation(Failure::Io, true),
            ("full", ["once"]) => operation(Failure::NoSpace, false),
            ("full", ["lasting"]) => operation(Failure::NoSpace, true),
            ("short", []) => Self::Fault(Fault::ShortWrite { at, failure }),
            ("lost-sync", []) => Self::Fault(Fault::LostSync { at }),
            ("read", ["once"]) => Self::Fault(Fault::Read { at, lasting: false }),
            ("read", ["lasting"]) => Self::Fault(Fault::Read { at, lasting: true }),
            _ => return Err(none()),
        })
    }
}

fn loss_of(text: &str) -> Result<Loss, NoCase> {
    let none = || NoCase(text.to_owned());
    match text {
        "everything" => Ok(Loss::Everything),
        "nothing" => Ok(Loss::Nothing),
        _ => match text.split_once(':') {
            Some(("random", seed)) => seed.parse().map(Loss::Random).map_err(|_| none()),
            Some(("only", list)) => list.parse().map(Loss::Only).map_err(|_| none()),
            _ => Err(none()),
        },
    }
}

impl FromStr for Case {
    type Err = NoCase;

    fn from_str(text: &str) -> Result<Self, NoCase> {
        let none = || NoCase(text.to_owned());
        let parts: Vec<_> = text.split('/').collect();
        let (trouble, loss, nested, dice) = match parts[..] {
            [trouble, loss, dice] => (trouble, loss, None, dice),
            [trouble, loss, nested, nested_loss, dice] => (
                trouble,
                loss,
                Some((nested.parse()?, loss_of(nested_loss)?)),
                dice,
            ),
            _ => return Err(none()),
        };
        Ok(Self {
            trouble: trouble.parse()?,
            loss: loss_of(loss)?,
            nested,
            dice: dice.parse().map_err(|_| none())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_found_again_by_its_text() {
        for text in [
            "stop:17:midway/random:5/9",
            "stop:1:before/everything/stop:3:after/nothing/0",
            "io:4:once/nothing/read:8:lasting/random:1/2",
            "full:4:lasting/everything/7",
            "short:3/nothing/1",
            "lost-sync:3/nothing/1",
            "stop:9:after/only:/1",
            "stop:9:after/only:3n0+3n1+4r0+7l+7s0-8+7s9-10/1",
        ] {
            assert_eq!(text.parse::<Case>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "stop:1:before",
            "stop:x:before/nothing/1",
            "stop:1:later/nothing/1",
            "stop:1:after/only:5/1",
            "stop:1:after/only:5x/1",
            "stop:1:after/only:5s3/1",
            "stop:1:after/only:n0/1",
        ] {
            assert!(text.parse::<Case>().is_err(), "{text}");
        }
    }
}
