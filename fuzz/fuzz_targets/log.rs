//! The target `log`: its body is `evenkeel::testing::fuzz::log`.
#![no_main]
evenkeel_fuzz::target!(evenkeel::testing::fuzz::log);
