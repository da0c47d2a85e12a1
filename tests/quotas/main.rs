//! Quotas: which one counts, what they refuse and what never, scopes that hold too much,
//! what `usage()` tells; all of it at random against a model, by threads, and under
//! crashes.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is how a test fails"
)]

mod crashes;
mod deletes;
mod model;
mod parts;
mod quarantine;
mod rules;
mod threads;
