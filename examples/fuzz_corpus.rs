//! Writes the inputs that each fuzz target begins with into `fuzz/corpus/NAME/seed-*`, and
//! removes those that are no longer made: `cargo run --example fuzz_corpus`.
//!
//! An example of the library and not of `fuzz/`, so that it needs no libFuzzer.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use evenkeel::testing::fuzz::TARGETS;

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for target in TARGETS {
        let folder = corpus.join(target.name);
        fs::create_dir_all(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("seed-") {
                fs::remove_file(entry.path())?;
            }
        }
        let seeds = (target.seeds)();
        let bytes: usize = seeds.iter().map(|(_, bytes)| bytes.len()).sum();
        for (name, bytes) in &seeds {
            fs::write(folder.join(name), bytes)?;
        }
        let (name, count) = (target.name, seeds.len());
        writeln!(io::stdout(), "{name}: {count} seeds, {bytes} bytes")?;
    }
    Ok(())
}
