//! The command line of evenkeel.
//!
//! Owns the way from arguments to an exit code: 0 where all is well, 1 where it is not,
//! 2 for arguments that make no sense. What a command has to say to a program goes to
//! stdout, everything else to stderr. Only the public interface of the library is used.

mod arguments;
mod console;
mod crash;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command};

fn main() -> ExitCode {
    let Command::Crash { command } = Arguments::parse().command;
    match crash::execute(&command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            console::tell(format_args!("evenkeel: {failure}"));
            ExitCode::FAILURE
        }
    }
}
