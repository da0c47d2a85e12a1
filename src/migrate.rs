//! Owns migrations: bringing the state of a store from one schema version to another.

mod scope_set;

pub use scope_set::ScopeSet;
