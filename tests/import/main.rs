//! Imports, loading in bulk, and the export: what is read, what is refused, and what is
//! there after it was stopped, killed or crashed.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "it is a test, helpers and all"
)]

mod bad_lines;
mod bulk;
mod crashes;
mod forms;
mod killed;
mod parts;
mod resume;
mod trees;
