//! Owns the target `operations`: steps and a crash, drawn from the input, driven through
//! a store and compared with the model of `testing::crash`.

use super::input::Input;
use crate::scope::Scope;
use crate::testing::crash::{Case, Step, Trouble, Workload, Write, replay, text};
use crate::testing::{Failure, Fault, Loss, When, files_on};
use crate::value::Value;

/// How many steps a workload has.
const STEPS_MAX: usize = 48;

/// How many bytes all values of a workload have together, roughly.
const VALUE_BYTES_MAX: usize = 200_000;

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.u8();
    let case = case(&mut input);
    let mut workload = Workload::new("fuzz");
    if matches!(mode & 7, 1 | 4) {
        workload = workload.without_snapshots();
    }
    if matches!(mode & 7, 3..=5) {
        workload = workload.image(files_on);
    }
    // A store that began in memory is persisted once, after so many steps.
    let persist = matches!(mode & 7, 2 | 5).then(|| usize::from(mode >> 3));
    let mut budget = VALUE_BYTES_MAX;
    for number in 0..STEPS_MAX {
        if persist == Some(number) {
            workload = workload.step(Step::Persist);
        }
        if input.is_empty() {
            break;
        }
        let step = match persist {
            // Only what a store without a folder has.
            Some(at) if number < at => Step::Commit(write(&mut input, &mut budget)),
            _ => step(&mut input, &mut budget),
        };
        workload = workload.step(step);
    }
    if let Err(violation) = replay(&workload, &case) {
        panic!("{violation}\n{workload:?}");
    }
}

/// What happens to the disk: once, or to the recovery too.
fn case(input: &mut Input<'_>) -> Case {
    let kind = input.u8();
    let trouble = trouble(input, kind);
    let loss = loss(input);
    // A recovery is short; a fault in the workload and one in its recovery are two
    // promises at once, which nobody makes.
    let nested = match (trouble, kind & 0x80) {
        (Trouble::Stop(..), 0x80) => {
            let kind = input.u8();
            Some((self::trouble(input, kind), self::loss(input)))
        }
        _ => None,
    };
    Case {
        trouble,
        loss,
        nested,
        dice: u64::from(input.u16()),
    }
}

pub(super) fn trouble(input: &mut Input<'_>, kind: u8) -> Trouble {
    let at = 1 + u64::from(input.u16() % 1024);
    let lasting = kind & 0x40 != 0;
    let failure = [Failure::Io, Failure::NoSpace][usize::from(kind & 0x20 != 0)];
    match kind % 8 {
        0..=1 => Trouble::Stop(at, When::Before),
        2 => Trouble::Stop(at, When::Midway),
        3 => Trouble::Stop(at, When::After),
        4 => Trouble::Fault(Fault::Operation {
            at,
            failure,
            lasting,
        }),
        5 => Trouble::Fault(Fault::ShortWrite {
            at,
            failure: Failure::Io,
        }),
        6 => Trouble::Fault(Fault::LostSync { at }),
        _ => Trouble::Fault(Fault::Read { at, lasting }),
    }
}

pub(super) fn loss(input: &mut Input<'_>) -> Loss {
    match input.u8() {
        0..=63 => Loss::Everything,
        64..=127 => Loss::Nothing,
        seed => Loss::Random(u64::from(seed)),
    }
}

fn step(input: &mut Input<'_>, budget: &mut usize) -> Step {
    match input.u8() % 32 {
        0..=11 => Step::Commit(write(input, budget)),
        12..=14 => Step::Written(write(input, budget)),
        15..=18 => Step::Transact(writes(input, budget)),
        19..=21 => Step::Submit(writes(input, budget)),
        22 => Step::Wait,
        23 => Step::Barrier,
        24..=25 => Step::Checkpoint,
        26..=27 => Step::Snapshot,
        28 => Step::Verify,
        29 => Step::Reopen,
        _ => Step::DropAndOpen,
    }
}

fn writes(input: &mut Input<'_>, budget: &mut usize) -> Vec<Write> {
    (0..=input.below(6)).map(|_| write(input, budget)).collect()
}

fn write(input: &mut Input<'_>, budget: &mut usize) -> Write {
    let kind = input.u8();
    let scope = match kind >> 4 & 7 {
        0 | 1 => Scope::Global,
        2 => Scope::workflow("w"),
        3 => Scope::step("w", "s"),
        4 => Scope::step("w\0", ""),
        5 => Scope::custom("c"),
        6 => Scope::routine("w", "r"),
        _ => Scope::custom(input.text()),
    };
    let key = match input.u8() {
        255 => input.text(),
        few => format!("k{:02}", few % 24),
    };
    match kind & 15 {
        0..=7 => Write::Set(scope, key, value(input, budget)),
        8..=9 => Write::Delete(scope, key),
        10 => Write::Clear(scope),
        11..=12 => Write::Increment(scope, key, i64::from(input.u8().cast_signed())),
        13 => Write::Merge(scope, key, super::tree::comparable(input, 4)),
        _ => Write::Replace(scope, key, value(input, budget)),
    }
}

/// Text of some length, a number, or any value; short ones once there were many long.
fn value(input: &mut Input<'_>, budget: &mut usize) -> Value {
    match input.u8() {
        0..=99 => Value::from(i64::from(input.u8())),
        tag @ 100..=199 => {
            let len = match tag {
                196..=199 => 8 * usize::from(input.u16() % 4096),
                160..=195 => usize::from(input.u16() % 2048),
                _ => usize::from(input.u8()),
            };
            let len = len.min(*budget);
            *budget -= len;
            text(tag, len)
        }
        _ => super::tree::comparable(input, 4),
    }
}
