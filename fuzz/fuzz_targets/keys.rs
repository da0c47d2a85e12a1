//! The target `keys`: its body is `evenkeel::testing::fuzz::keys`.
#![no_main]
evenkeel_fuzz::target!(evenkeel::testing::fuzz::keys);
