//! The target `merge`: its body is `evenkeel::testing::fuzz::merge`.
#![no_main]
evenkeel_fuzz::target!(evenkeel::testing::fuzz::merge);
