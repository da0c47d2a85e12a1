//! Owns the durable state of a store: what turns commits into log, image and
//! snapshots, and those back into state.

pub(crate) mod snapshot;
