//! The target `value`: its body is `evenkeel::testing::fuzz::value`.
#![no_main]
evenkeel_fuzz::target!(evenkeel::testing::fuzz::value);
