//! Owns the keys of the runtime's scopes. Imports nothing.
//!
//! What must stay true: names in keys stand behind their length, so no name reaches the
//! keys of another one; and a key that decodes is the only one that does so.

use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::engine::small_key::SmallKey;

/// A key that is being made.
type Bytes = SmallVec<[u8; 64]>;

/// An activation, over all its attempts and re-runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActivationId {
    /// The session that began it: the number of the start of a runtime.
    pub(crate) session: u64,
    /// Its number in that session.
    pub(crate) number: u64,
}

impl ActivationId {
    fn bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.session.to_be_bytes());
        bytes[8..].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }

    fn read(bytes: [u8; 16]) -> Self {
        let number = u128::from_be_bytes(bytes);
        Self {
            session: (number >> 64) as u64,
            number: number as u64,
        }
    }
}

impl fmt::Display for ActivationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.session, self.number)
    }
}

/// A key of the scope of a worker.
///
/// ```text
/// 01 routine slot seq           a message          -> MessageRecord
/// 02 activation                 a claim            -> ClaimRecord
/// 03 activation effect          an effect of once  -> OnceRecord
/// 04 number                     a timer            -> TimerRecord
/// 05 place                      of the history     -> HistoryRecord
/// routine, slot, effect = length, 2 bytes big-endian, then UTF-8
/// seq, number = 8 bytes big-endian; place = 2 bytes big-endian
/// activation = session and number, 8 bytes big-endian each
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WorkerKey {
    Message {
        routine: Arc<str>,
        slot: Arc<str>,
        seq: u64,
    },
    Claim(ActivationId),
    Once(ActivationId, String),
    Timer(u64),
    History(u16),
}

impl WorkerKey {
    pub(crate) fn encode(&self) -> SmallKey {
        let mut key = Bytes::new();
        match self {
            Self::Message { routine, slot, seq } => return message_key(routine, slot, *seq),
            Self::Claim(activation) => {
                key.push(2);
                key.extend_from_slice(&activation.bytes());
            }
            Self::Once(activation, effect) => {
                key.push(3);
                key.extend_from_slice(&activation.bytes());
                put_name(&mut key, effect);
            }
            Self::Timer(number) => {
                key.push(4);
                key.extend_from_slice(&number.to_be_bytes());
            }
            Self::History(place) => {
                key.push(5);
                key.extend_from_slice(&place.to_be_bytes());
            }
        }
        SmallKey::from(&*key)
    }

    /// `None` where it is no key of a worker.
    pub(crate) fn decode(key: &[u8]) -> Option<Self> {
        let (&tag, mut rest) = key.split_first()?;
        let key = match tag {
            1 => Self::Message {
                routine: take_name(&mut rest)?.into(),
                slot: take_name(&mut rest)?.into(),
                seq: u64::from_be_bytes(take(&mut rest)?),
            },
            2 => Self::Claim(ActivationId::read(take(&mut rest)?)),
            3 => Self::Once(
                ActivationId::read(take(&mut rest)?),
                take_name(&mut rest)?.to_owned(),
            ),
            4 => Self::Timer(u64::from_be_bytes(take(&mut rest)?)),
            5 => Self::History(u16::from_be_bytes(take(&mut rest)?)),
            _ => return None,
        };
        rest.is_empty().then_some(key)
    }
}

/// The key of a message, without making names of it first.
pub(crate) fn message_key(routine: &str, slot: &str, seq: u64) -> SmallKey {
    let mut key = Bytes::new();
    key.push(1);
    put_name(&mut key, routine);
    put_name(&mut key, slot);
    key.extend_from_slice(&seq.to_be_bytes());
    SmallKey::from(&*key)
}

/// A key of the scope of all jobs.
///
/// ```text
/// 01 id   what a job began with   -> JobRecord
/// 02 id   how it ended            -> JobEndRecord
/// id = UTF-8, to the end
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum JobKey<'k> {
    Begin(&'k str),
    End(&'k str),
}

/// What all ends of jobs begin with, and no beginning.
pub(crate) const JOB_ENDS: [u8; 1] = [2];

impl<'k> JobKey<'k> {
    pub(crate) fn encode(self) -> SmallKey {
        match self {
            Self::Begin(id) => SmallKey::joined(&[1], id.as_bytes()),
            Self::End(id) => SmallKey::joined(&JOB_ENDS, id.as_bytes()),
        }
    }

    /// `None` where it is no key of a job.
    pub(crate) fn decode(key: &'k [u8]) -> Option<Self> {
        let (&tag, id) = key.split_first()?;
        let id = std::str::from_utf8(id).ok()?;
        match tag {
            1 => Some(Self::Begin(id)),
            2 => Some(Self::End(id)),
            _ => None,
        }
    }
}

/// See [`JobKey`].
pub(crate) fn job_begin_key(id: &str) -> SmallKey {
    JobKey::Begin(id).encode()
}

/// See [`JobKey`].
pub(crate) fn job_end_key(id: &str) -> SmallKey {
    JobKey::End(id).encode()
}

/// A key of the scope of dead letters.
///
/// ```text
/// 00          the number that the next one gets   -> integer
/// 01 number   a dead letter                       -> DeadRecord
/// 02 number   the data that it came with, where somebody edited it
/// number = 8 bytes big-endian
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DeadKey {
    Next,
    Letter(u64),
    Original(u64),
}

impl DeadKey {
    pub(crate) fn encode(self) -> Box<[u8]> {
        match self {
            Self::Next => [0].into(),
            Self::Letter(number) => [&[1][..], &number.to_be_bytes()].concat().into(),
            Self::Original(number) => [&[2][..], &number.to_be_bytes()].concat().into(),
        }
    }

    /// `None` where it is no key of a dead letter.
    pub(crate) fn decode(key: &[u8]) -> Option<Self> {
        let (&tag, mut rest) = key.split_first()?;
        let key = match tag {
            0 => Self::Next,
            1 => Self::Letter(u64::from_be_bytes(take(&mut rest)?)),
            2 => Self::Original(u64::from_be_bytes(take(&mut rest)?)),
            _ => return None,
        };
        rest.is_empty().then_some(key)
    }
}

/// A key of the scope of one job.
///
/// ```text
/// 01 time activation index   an entry of its trace  -> TraceRecord
/// 02 time activation index   a piece of its output  -> text
/// time = 8 bytes big-endian; index = 4 bytes big-endian
/// activation = session and number, 8 bytes big-endian each
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum JobPart {
    Trace = 1,
    Output = 2,
}

impl JobPart {
    pub(crate) fn key(self, at_micros: u64, activation: ActivationId, index: u32) -> Box<[u8]> {
        let mut key = vec![self as u8];
        key.extend_from_slice(&at_micros.to_be_bytes());
        key.extend_from_slice(&activation.bytes());
        key.extend_from_slice(&index.to_be_bytes());
        key.into()
    }

    /// What stands under a key; `None` where it is no key of a job's scope.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn decode(key: &[u8]) -> Option<(Self, u64, ActivationId, u32)> {
        let (&tag, mut rest) = key.split_first()?;
        let part = match tag {
            1 => Self::Trace,
            2 => Self::Output,
            _ => return None,
        };
        let at_micros = u64::from_be_bytes(take(&mut rest)?);
        let activation = ActivationId::read(take(&mut rest)?);
        let index = u32::from_be_bytes(take(&mut rest)?);
        rest.is_empty()
            .then_some((part, at_micros, activation, index))
    }
}

/// The name of a datum that a routine keeps for a job: the routine's id behind its
/// length in bytes, a colon each, then the name.
pub(crate) fn routine_datum(routine: &str, name: &str) -> String {
    format!("{}:{routine}:{name}", routine.len())
}

fn put_name(key: &mut Bytes, name: &str) {
    // Names have at most 512 bytes; see `bad_name`. What is longer cannot be told from
    // its beginning, so its length is of all.
    let len = u16::try_from(name.len()).unwrap_or(u16::MAX);
    key.extend_from_slice(&len.to_be_bytes());
    key.extend_from_slice(name.as_bytes());
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

fn take_name<'k>(rest: &mut &'k [u8]) -> Option<&'k str> {
    let len = usize::from(u16::from_be_bytes(take(rest)?));
    let (name, left) = rest.split_at_checked(len)?;
    *rest = left;
    std::str::from_utf8(name).ok()
}
