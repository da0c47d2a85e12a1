//! Flows that run: what is posted is run, in the order and as often as it should be.

mod basics;
