//! The target `folder`: its body is `evenkeel::testing::fuzz::folder`.
#![no_main]
evenkeel_fuzz::target!(evenkeel::testing::fuzz::folder);
