//! Owns backups: copies of a store that stand for themselves, and stores made from them.

mod fold;
