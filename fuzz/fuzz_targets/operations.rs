//! The target `operations`: its body is `evenkeel::testing::fuzz::operations`.
#![no_main]
evenkeel_fuzz::target!(evenkeel::testing::fuzz::operations);
