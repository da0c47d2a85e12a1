//! Owns where a call to a simulated disk came from: the stack of calls at the moment
//! when a stop or a fault hit, as lines of source.
//!
//! Only addresses are taken then, and they are looked up when somebody asks, each
//! address once in a process: a crash test stops many thousand times. The lines come
//! from debug information (`debug = "line-tables-only"` is enough). Without it nothing
//! is known, and it is said that nothing is.

use std::collections::HashMap;
use std::ffi::c_void;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

/// This file, below the folder that holds the sources of the crate.
const THIS_FILE: &str = "vfs/sim/stack.rs";

/// Whose code a place is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The store's own.
    Evenkeel,
    /// The standard library, the system's, or a crate from a registry.
    Library,
    /// All other: that of who runs the test.
    User,
}

/// A call on its way: the line that it stands in, and what it calls.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Place {
    /// Whose code it is.
    pub origin: Origin,
    /// The file; the store's own as `src/…`, others as the compiler names them.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u32,
    /// The function that the line is in, with its path.
    pub function: String,
    /// The name of the function that is called there, without its path.
    pub calls: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", shown(&self.file).display(), self.line)?;
        write!(f, " calls {} in {}", self.calls, self.function)
    }
}

/// A path below the working folder without that folder: shorter, and the same on
/// another machine.
pub(crate) fn shown(file: &Path) -> PathBuf {
    let folder = std::env::current_dir().unwrap_or_default();
    file.strip_prefix(&folder).unwrap_or(file).to_path_buf()
}

/// The stack of calls that led to a call of a simulated disk.
#[derive(Clone, PartialEq, Eq)]
pub struct Stack {
    /// Innermost first.
    addresses: Arc<[usize]>,
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stack of {} calls", self.addresses.len())
    }
}

/// One line each, but for what the standard library does between.
impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = self.places();
        let told = places
            .iter()
            .filter(|place| place.origin != Origin::Library);
        for (number, place) in told.enumerate() {
            let line = if number > 0 { "\n" } else { "" };
            write!(f, "{line}{place}")?;
        }
        Ok(())
    }
}

/// What is known of one function at an address: the innermost of those that were
/// merged into one comes first.
#[derive(Clone, Debug)]
struct Frame {
    file: PathBuf,
    line: u32,
    function: String,
}

impl Stack {
    /// The stack of whoever calls this.
    pub(super) fn here() -> Self {
        let mut addresses = Vec::with_capacity(64);
        backtrace::trace(|frame| {
            addresses.push(frame.ip() as usize);
            true
        });
        Self {
            addresses: addresses.into(),
        }
    }

    fn frames(&self) -> Vec<Frame> {
        static KNOWN: Mutex<Option<HashMap<usize, Arc<[Frame]>>>> = Mutex::new(None);
        let mut known = KNOWN.lock();
        let known = known.get_or_insert_default();
        let mut frames = Vec::new();
        for &address in &*self.addresses {
            let found = known.entry(address).or_insert_with(|| looked_up(address));
            frames.extend(found.iter().cloned());
        }
        frames
    }

    /// The calls on their way, innermost first, from the call of the simulated disk
    /// on. Empty where debug information is missing.
    #[must_use]
    pub fn places(&self) -> Vec<Place> {
        let Some(root) = sources() else {
            return Vec::new();
        };
        let frames = self.frames();
        let disk = |frame: &Frame| frame.file.strip_prefix(root).is_ok_and(is_disk);
        // What the disk does by itself, and what captures the stack, is innermost.
        let first = frames.iter().rposition(disk).map_or(0, |last| last + 1);
        let calls = frames.iter().skip(first.saturating_sub(1));
        let callers = frames.iter().skip(first);
        let place = |(called, caller): (&Frame, &Frame)| Place {
            origin: origin(&caller.file, root),
            file: match caller.file.strip_prefix(root) {
                Ok(below) => Path::new("src").join(below),
                Err(_) => caller.file.clone(),
            },
            line: caller.line,
            function: caller.function.clone(),
            calls: last_name(&called.function).to_owned(),
        };
        calls.zip(callers).map(place).collect()
    }

    /// The innermost line of the user's own code, if the call came from there.
    #[must_use]
    pub fn users_line(&self) -> Option<Place> {
        let mut places = self.places().into_iter();
        let place = places.find(|place| place.origin == Origin::User)?;
        Some(Place {
            file: shown(&place.file),
            ..place
        })
    }
}

/// True for a file of the simulated disk itself.
fn is_disk(file: &Path) -> bool {
    let tests = file.starts_with("vfs/sim/tests") || file == Path::new("vfs/sim/tests.rs");
    (file.starts_with("vfs/sim") || file == Path::new("vfs/sim.rs")) && !tests
}

/// The folder of the crate's sources as the debug information names it; `None` if
/// the crate was built without.
pub(crate) fn sources() -> Option<&'static Path> {
    static ROOT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let root = ROOT.get_or_init(|| {
        let frames = Stack::here().frames();
        let this = frames
            .iter()
            .find(|frame| frame.file.ends_with(THIS_FILE))?;
        let depth = Path::new(THIS_FILE).components().count();
        this.file.ancestors().nth(depth).map(Path::to_path_buf)
    });
    root.as_deref()
}

fn looked_up(address: usize) -> Arc<[Frame]> {
    let mut frames = Vec::new();
    backtrace::resolve(address as *mut c_void, |symbol| {
        let name = symbol.name().map(|name| format!("{name:#}"));
        frames.push(Frame {
            file: symbol.filename().map(Path::to_path_buf).unwrap_or_default(),
            line: symbol.lineno().unwrap_or_default(),
            function: name.unwrap_or_default(),
        });
    });
    frames.into()
}

fn origin(file: &Path, root: &Path) -> Origin {
    let text = file.to_string_lossy();
    let library = ["/registry/src/", "/git/checkouts/", "/rustlib/src/rust/"];
    if file.starts_with(root) {
        Origin::Evenkeel
    } else if !text.ends_with(".rs")
        || text.starts_with("/rustc/")
        || library.iter().any(|folder| text.contains(folder))
    {
        Origin::Library
    } else {
        Origin::User
    }
}

/// The last name of a path: `<a::B as c::D<e::F>>::g::<H>` gives `g`.
fn last_name(path: &str) -> &str {
    let (mut depth, mut end, mut start) = (0, path.len(), 0);
    for (at, c) in path.char_indices().rev() {
        match c {
            // The arrow of a function's type is no bracket.
            '>' if path[..at].ends_with('-') => {}
            '>' | '}' | ')' => depth += 1,
            '<' | '{' | '(' => {
                depth -= 1;
                // The generics at the end are not part of the name.
                if depth == 0 && c == '<' && path[at..end].ends_with('>') {
                    end = at;
                }
            }
            ':' if depth == 0 && at + 1 < end => {
                start = at + 1;
                break;
            }
            ':' if depth == 0 => end = at,
            _ => {}
        }
    }
    &path[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_name_of_a_path_is_found() {
        for (path, name) in [
            ("main", "main"),
            ("a::b::c", "c"),
            ("<a::B as c::D<e::F>>::g", "g"),
            ("<a::B as c::D>::g::<e::H<i::J>>", "g"),
            ("a::g<fn(b::C) -> d::E>", "g"),
            ("a::b::{{closure}}", "{{closure}}"),
            ("a::b::{closure#0}", "{closure#0}"),
            ("", ""),
        ] {
            assert_eq!(last_name(path), name, "{path}");
        }
    }
}
