//! The target `runtime_records`: its body is `evenkeel::testing::fuzz::runtime_records`.
#![no_main]
evenkeel_fuzz::target!(evenkeel::testing::fuzz::runtime_records);
