//! Owns migrations: bringing the state of a store from one schema version to another.
