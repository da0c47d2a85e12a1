//! Owns the folder that is indexed, what is known to be in it, and running the
//! program over it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use evenkeel::{Limits, Scope, Store, Value};
use tempfile::TempDir;

pub(crate) const SEED: u64 = 0x0069_6E64_6578;
pub(crate) const FILES: u64 = 1_000;

/// Splitmix64: a few lines, and the same for ever.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    pub(crate) fn content(&mut self) -> Vec<u8> {
        let length = match self.below(10) {
            0 => 0,
            1..3 => self.below(200_000),
            _ => self.below(4_000),
        };
        // Few letters, so that there are many line breaks.
        (0..length)
            .map(|_| b"ab \n"[self.below(4) as usize])
            .collect()
    }
}

/// What a run that was to be killed had said.
#[derive(Debug)]
pub(crate) struct Killed {
    /// How much was to do, and how much of it was done; `None` where that was not said.
    pub(crate) to_do: Option<u64>,
    pub(crate) done: u64,
    /// Whether it went on with what the run before it had left.
    pub(crate) went_on: bool,
    /// Whether the kill came in time.
    pub(crate) killed: bool,
}

/// A folder to index, and what is in it.
pub(crate) struct Tree {
    folder: TempDir,
    pub(crate) files: BTreeMap<PathBuf, Vec<u8>>,
    random: Random,
    program: PathBuf,
    /// As whom it runs, where that is not who we are.
    user: Option<u32>,
}

impl Tree {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("tree")).unwrap();
        let mut tree = Self {
            folder,
            files: BTreeMap::new(),
            random: Random(SEED),
            program: program(),
            user: None,
        };
        for n in 0..FILES {
            tree.add(n);
        }
        let strange: [&[u8]; 9] = [
            // Between a folder and what is in it, in the order of bytes.
            b"d1.rs",
            b"d1-",
            b"d1 \xFF",
            b".hidden",
            b"not\xFFutf8.r\xFEs",
            b"not%FFutf8",
            b"a\nb",
            b"ends.",
            b".git/ignored",
        ];
        for name in strange {
            let content = tree.random.content();
            tree.write(Path::new(OsStr::from_bytes(name)), content);
        }
        tree.write(Path::new("empty"), Vec::new());
        tree.write(Path::new("one-line"), b"no line break".to_vec());
        // Long for a key, whose default limit is 4 KiB: each byte takes three.
        let long = PathBuf::from_iter(vec!["\u{1}".repeat(240); 8]);
        tree.write(&long.join("deep"), b"deep\n".to_vec());
        symlink("one-line", tree.path("link-to-file")).unwrap();
        symlink("d1", tree.path("link-to-folder")).unwrap();
        symlink("nowhere", tree.path("link-to-nothing")).unwrap();
        tree
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root().join(name)
    }

    /// In the tree, where it must not be indexed.
    pub(crate) fn store(&self) -> PathBuf {
        self.path("d1/the.store")
    }

    pub(crate) fn add(&mut self, n: u64) {
        let extension = ["rs", "txt", "tar.gz", "RS"][self.random.below(4) as usize];
        let name = match n % 5 {
            0 => format!("d{}/plain{n}", n % 3),
            1 => format!("d{}/.hidden{n}", n % 3),
            2 => format!("file{n}.{extension}"),
            _ => format!("d{}/e{}/file{n}.{extension}", n % 3, n % 7),
        };
        let copied = n.is_multiple_of(4).then(|| self.pick()).flatten();
        let content = match copied.and_then(|path| self.files.get(&path).cloned()) {
            Some(content) => content,
            None => self.random.content(),
        };
        self.write(Path::new(&name), content);
    }

    pub(crate) fn write(&mut self, name: &Path, content: Vec<u8>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &content).unwrap();
        self.files.insert(name.to_owned(), content);
    }

    pub(crate) fn pick(&mut self) -> Option<PathBuf> {
        let count = self.files.len() as u64;
        let n = (count > 0).then(|| self.random.below(count))?;
        self.files.keys().nth(n as usize).cloned()
    }

    /// Changes, deletes and adds so many files each.
    pub(crate) fn mutate(&mut self, each: u64, round: u64) {
        for n in 0..each {
            let changed = self.pick().unwrap();
            let mut content = self.random.content();
            // Another size, as the clock of some file systems is coarse.
            while content.len() == self.files[&changed].len() {
                content.push(b'x');
            }
            self.write(&changed, content);
            let deleted = self.pick().unwrap();
            fs::remove_file(self.path(&deleted)).unwrap();
            self.files.remove(&deleted);
            self.add(FILES * (round + 1) + n);
        }
    }

    /// Has it run as somebody whom the system refuses something: not as root.
    pub(crate) fn run_as_nobody(&mut self) {
        let folder = self.folder.path().to_owned();
        self.program = folder.join("program");
        fs::copy(program(), &self.program).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let chown = Command::new("chown")
            .args(["-R", "65534"])
            .arg(&folder)
            .status()
            .unwrap();
        assert!(chown.success());
        self.user = Some(65534);
    }

    pub(crate) fn totals(&self) -> [u64; 3] {
        let contents = || self.files.values();
        [
            contents().count() as u64,
            contents().map(|content| content.len() as u64).sum(),
            contents().map(|content| lines(content)).sum(),
        ]
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg(self.root())
            .arg("--store")
            .arg(self.store())
            .stdin(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user);
        }
        command
    }

    pub(crate) fn run(&self) -> Output {
        let output = self.command().output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        output
    }

    pub(crate) fn verify(&self) -> Output {
        self.command().arg("--verify").output().unwrap()
    }

    /// Runs it to its end and checks all that it says.
    pub(crate) fn complete(&self) -> String {
        let printed = text(&self.run().stdout);
        let [files, bytes, lines] = self.totals();
        assert_eq!(line(&printed, "files: "), Some(files), "{printed}");
        assert_eq!(line(&printed, "bytes: "), Some(bytes), "{printed}");
        assert_eq!(line(&printed, "lines: "), Some(lines), "{printed}");
        let mut sizes: Vec<_> = self.files.values().map(Vec::len).collect();
        sizes.sort_unstable();
        let largest = sizes.iter().rev().take(10).map(ToString::to_string);
        assert_eq!(
            largest.collect::<Vec<_>>(),
            printed_largest(&printed),
            "{printed}"
        );
        let mut copies: BTreeMap<&[u8], u64> = BTreeMap::new();
        for content in self.files.values() {
            *copies.entry(content).or_default() += 1;
        }
        copies.retain(|_, count| *count > 1);
        assert_eq!(
            line(&printed, "duplicate contents: "),
            Some(copies.len() as u64)
        );
        let wasted = |(content, count): (&&[u8], &u64)| content.len() as u64 * (count - 1);
        let waste = copies.iter().map(wasted).sum();
        assert_eq!(line(&printed, "duplicate bytes: "), Some(waste));
        let verified = self.verify();
        assert_eq!(verified.status.code(), Some(0), "{verified:?}");
        printed
    }

    /// Runs it and kills it behind the line of this number on stderr.
    pub(crate) fn kill_at(&self, number: u64) -> Killed {
        let stdout = File::create(self.folder.path().join("stdout")).unwrap();
        let mut child = self
            .command()
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let read: Vec<String> = lines
            .by_ref()
            .take(number as usize)
            .map(Result::unwrap)
            .collect();
        child.kill().unwrap();
        // What it had said already counts too.
        let read: Vec<String> = read.into_iter().chain(lines.map(Result::unwrap)).collect();
        let status = child.wait().unwrap();
        let killed = status.signal() == Some(9);
        assert!(killed || status.success(), "{status:?}: {read:?}");
        let last = |prefix| {
            read.iter()
                .rev()
                .find_map(|text| number_after(text, prefix))
        };
        Killed {
            to_do: last("to do: "),
            done: last("progress: ").unwrap_or(0),
            went_on: last("going on: ").is_some(),
            killed,
        }
    }

    /// Opens the store as it was left, and adds up the records.
    pub(crate) fn assert_consistent(&self) {
        let mut limits = Limits::default();
        limits.key_bytes = 16 * 1024;
        let store = Store::builder().limits(limits).open(self.store()).unwrap();
        let root = fs::canonicalize(self.root()).unwrap();
        let part = |name: &str| {
            let scope = store.scope(Scope::custom(format!("{name}:{}", root.display())));
            let entries = scope.scan("").unwrap().map(|entry| {
                let entry = entry.unwrap();
                (entry.key().to_owned(), entry.value::<Value>().unwrap())
            });
            entries.collect::<BTreeMap<String, Value>>()
        };
        let int = |value: &Value, key: &str| value.get(key).and_then(Value::as_i64).unwrap();
        let records = part("files");
        let mut sums = BTreeMap::from([("files", 0), ("bytes", 0), ("lines", 0)]);
        let mut copies: BTreeMap<String, i64> = BTreeMap::new();
        for record in records.values() {
            *sums.get_mut("files").unwrap() += 1;
            *sums.get_mut("bytes").unwrap() += int(record.get("stamp").unwrap(), "size");
            *sums.get_mut("lines").unwrap() += int(record, "lines");
            let sha256 = record.get("sha256").and_then(Value::as_str).unwrap();
            *copies.entry(sha256.to_owned()).or_default() += 1;
        }
        let totals = part("totals");
        for (key, sum) in &sums {
            assert_eq!(
                totals.get(*key).and_then(Value::as_i64).unwrap_or(0),
                *sum,
                "{key}"
            );
        }
        let extensions = part("by-extension");
        for (key, sum) in &sums {
            assert_eq!(
                extensions
                    .values()
                    .map(|value| int(value, key))
                    .sum::<i64>(),
                *sum
            );
        }
        let kept: BTreeMap<_, _> = part("copies").into_iter().collect();
        assert_eq!(kept.len(), copies.len());
        assert!(copies.iter().all(|(key, n)| kept[key].as_i64() == Some(*n)));
        assert_eq!(
            part("duplicates").len(),
            copies.values().filter(|n| **n > 1).count()
        );
        assert_eq!(part("by-size").len(), records.len());
        assert_eq!(part("by-hash").len(), records.len());
        store.close().unwrap();
    }
}

/// Examples are built by `cargo test` beside the tests.
pub(crate) fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().join("../examples/index_tree");
    assert!(program.exists(), "first: cargo build --example index_tree");
    program
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Lines as an editor counts them, written otherwise than the program does.
fn lines(content: &[u8]) -> u64 {
    content.split_inclusive(|byte| *byte == b'\n').count() as u64
}

fn number_after(text: &str, prefix: &str) -> Option<u64> {
    text.strip_prefix(prefix)?.split(' ').next()?.parse().ok()
}

pub(crate) fn line(printed: &str, prefix: &str) -> Option<u64> {
    printed.lines().find_map(|text| number_after(text, prefix))
}

fn printed_largest(printed: &str) -> Vec<String> {
    let listed = printed
        .lines()
        .skip_while(|text| *text != "largest:")
        .skip(1);
    let listed = listed.take_while(|text| !text.is_empty());
    listed
        .map(|text| text.split_whitespace().next().unwrap().to_owned())
        .collect()
}

pub(crate) fn nothing_to_do(printed: &str) -> bool {
    printed.lines().any(|text| text == "nothing to do")
}
