//! Owns the call sites that change a disk, found by reading the sources of this crate
//! and not by what was reached: a line that nobody crashed is known by its place.
//!
//! A site is a call of a method of `Vfs` or `VfsFile` that changes something, of a
//! function of `src/vfs.rs` that makes such calls, or of the file system of the machine.
//! Calls are told by name and number of arguments, which takes in too much rather than
//! too little: `.sync()` on a mark or an image is a site too. What is no call of a disk
//! at all is listed in [`NO_SITES`], what no simulated disk sees in [`EXEMPT`], each
//! with a reason; an entry that fits nothing fails a test.
//!
//! Code behind `#[cfg(test)]` or the feature `testing` is not read.

mod reading;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::testing::Place;
use crate::vfs::{RealVfs, read_file};

/// Methods that change a disk, and how many arguments they take. `open` is one of
/// them unless it says that it opens what is there.
const CHANGES: &[(&str, usize)] = &[
    ("open", 2),
    ("create_dir", 1),
    ("rename", 2),
    ("remove_file", 1),
    ("remove_dir_all", 1),
    ("sync_dir", 1),
    ("lock", 1),
    ("write_at", 2),
    ("sync", 0),
    ("set_len", 1),
];

/// Methods that change nothing.
#[cfg(test)]
const READS: &[&str] = &[
    "read_dir",
    "metadata",
    "read_at",
    "write_out",
    "len",
    "is_empty",
];

/// What changes files past the trait: functions of `std::fs`, constructors, methods.
const MACHINE_FUNCTIONS: &[&str] = &[
    "copy",
    "create_dir",
    "create_dir_all",
    "hard_link",
    "remove_dir",
    "remove_dir_all",
    "remove_file",
    "rename",
    "set_permissions",
    "write",
];
const MACHINE_CONSTRUCTORS: &[(&str, &str)] = &[
    ("DirBuilder", "new"),
    ("File", "create"),
    ("File", "create_new"),
    ("File", "options"),
    ("OpenOptions", "new"),
];
const MACHINE_METHODS: &[&str] = &["sync_all", "sync_data"];

/// The file of the functions that wrap calls; whoever calls those is a site.
const HELPERS: &str = "vfs.rs";

/// Files that are the disk, and make no calls of one.
const NOT_READ: &[&str] = &["vfs/real.rs"];

/// A place in the sources: file, function and name of what is called.
type Spot = (&'static str, &'static str, &'static str);

/// Calls that look like a disk's and are none.
const NO_SITES: &[(Spot, &str)] = &[(
    ("src/codec/de.rs", "Decoder::read_tagged", "open"),
    "opens a list or map in the bytes of a value",
)];

/// Calls that a simulated disk never sees.
const EXEMPT: &[(Spot, Exemption)] = &[
    (
        (
            "src/image/sled/files.rs",
            "remove_half_written",
            "remove_file",
        ),
        Exemption {
            why: "removes a file of sled's, which opens its files itself",
            test: "src/image/sled/files.rs::only_half_written_snapshots_go",
        },
    ),
    (
        ("src/image/sled/files.rs", "copy_database", "create_dir"),
        Exemption {
            why: "makes a part of a temporary copy, which nobody looks for after a crash",
            test: "tests/import/trees.rs::a_large_tree_comes_in_parts_and_stops_anywhere",
        },
    ),
    (
        ("src/image/sled/files.rs", "copy_file", "copy"),
        Exemption {
            why: "makes a part of a temporary copy, which nobody looks for after a crash",
            test: "tests/import/killed.rs::an_import_of_trees_survives_kills",
        },
    ),
    (
        ("src/image/sled/files.rs", "sync_one", "sync_all"),
        Exemption {
            why: "syncs a file or folder of sled's, which opens its files itself; what \
                  they lose is noticed and rebuilt",
            test: "tests/damage/main.rs::promise_3_faults_28_on_the_real_disk_with_sled",
        },
    ),
];

/// Why a site need not be crashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exemption {
    /// The reason.
    pub why: &'static str,
    /// The test that covers it instead, as `path::name`.
    pub test: &'static str,
}

/// A call in the sources that changes a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Site {
    /// The file, as `src/…`.
    pub file: PathBuf,
    /// The line on which the expression begins.
    pub first_line: u32,
    /// The line that has the name of what is called.
    pub line: u32,
    /// The function that it is in, with the type that has it.
    pub function: String,
    /// The name of what is called.
    pub call: String,
    /// Why it need not be crashed, where that is so.
    pub exemption: Option<Exemption>,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, line) = (self.file.display(), self.line);
        write!(f, "{file}:{line} {} in {}", self.call, self.function)
    }
}

impl Site {
    /// True if a stack with this place in it went through this call.
    pub(super) fn is(&self, place: &Place) -> bool {
        (self.first_line..=self.line).contains(&place.line)
            && self.call == place.calls
            && self.file == place.file
    }
}

/// What reading the sources gave.
#[derive(Clone, Debug, Default)]
pub(super) struct Sites {
    pub(super) sites: Vec<Site>,
    /// The files that were read, as `src/…`.
    pub(super) files: Vec<PathBuf>,
    /// The entries of both lists that fit nothing.
    #[cfg(test)]
    stale: Vec<Spot>,
}

/// The sites of this crate, read once.
///
/// # Errors
/// Why they are not known.
pub(super) fn sites() -> Result<Arc<Sites>, String> {
    static READ: OnceLock<Result<Arc<Sites>, String>> = OnceLock::new();
    let read = READ.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        Sites::read(&|file| {
            let path = root.join(file);
            let bytes = read_file(&RealVfs, &path, 1 << 24);
            let text = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            text.map_err(|e| format!("the source {} cannot be read: {e}", path.display()))
        })
        .map(Arc::new)
    });
    read.clone()
}

/// Gives the text of a file below `src`.
type Source<'a> = dyn Fn(&Path) -> Result<String, String> + 'a;

impl Sites {
    fn read(source: &Source<'_>) -> Result<Self, String> {
        let files = reading::files(source, NOT_READ)?;
        let helpers = reading::functions_with_calls(&files, HELPERS);
        let mut sites = Self::default();
        #[cfg(test)]
        {
            let spots = NO_SITES.iter().map(|&(spot, _)| spot);
            sites.stale = spots.chain(EXEMPT.iter().map(|&(spot, _)| spot)).collect();
        }
        for (file, parsed) in &files {
            for mut site in reading::calls(file, parsed, &helpers) {
                #[cfg(test)]
                sites.stale.retain(|spot| !site.stands_at(spot));
                if NO_SITES.iter().any(|(spot, _)| site.stands_at(spot)) {
                    continue;
                }
                let exempt = EXEMPT.iter().find(|(spot, _)| site.stands_at(spot));
                site.exemption = exempt.map(|&(_, exemption)| exemption);
                sites.sites.push(site);
            }
            sites.files.push(Path::new("src").join(file));
        }
        Ok(sites)
    }
}

impl Site {
    fn stands_at(&self, &(file, function, call): &Spot) -> bool {
        self.file == Path::new(file) && self.function == function && self.call == call
    }
}

#[cfg(test)]
mod tests;
