//! Owns what all fuzz targets share: the allocator that refuses more memory than an input
//! may take, which ends the process and is reported by libFuzzer as a crash.

use std::alloc::System;

use cap::Cap;

/// Bounds what Rust code allocates. libFuzzer's own memory is not in it.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, evenkeel::testing::fuzz::MEMORY_BYTES_MAX);

pub use libfuzzer_sys::fuzz_target;

/// The entry point of a target.
#[macro_export]
macro_rules! target {
    ($body:path) => {
        $crate::fuzz_target!(|data: &[u8]| $body(data));
    };
}
