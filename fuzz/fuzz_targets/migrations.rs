//! The target `migrations`: its body is `evenkeel::testing::fuzz::migrations`.
#![no_main]
evenkeel_fuzz::target!(evenkeel::testing::fuzz::migrations);
