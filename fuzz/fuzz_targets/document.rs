//! The target `document`: its body is `evenkeel::testing::fuzz::document`.
#![no_main]
evenkeel_fuzz::target!(evenkeel::testing::fuzz::document);
