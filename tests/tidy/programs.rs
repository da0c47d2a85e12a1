//! The rules of the programs: no layer of the library, but users of its public interface
//! as others are.

use super::source::{Source, files};
use super::{PANICS, PROGRAMS, code, found, none, root};

fn programs() -> Vec<Source> {
    let sources = files(root(), PROGRAMS, ".rs");
    assert!(
        !sources.is_empty(),
        "the programs are not where they should be"
    );
    sources
}

#[test]
fn programs_do_not_panic() {
    // `println!` does where nobody reads on.
    let prints = ["println!", "eprintln!", "print!", "eprint!"];
    let needles = [PANICS, &prints].concat();
    let broken = found(&programs(), |source| &source.library, &needles);
    none("a program ends with a message and an exit code", broken);
}

#[test]
fn programs_use_the_public_interface() {
    // What they include from elsewhere would be a second copy of the library.
    let needles = ["#[path", "include!", "evenkeel::testing"];
    let broken = found(&programs(), code, &needles);
    none("what a program needs is public", broken);
}
