//! Owns reading Rust source as text: which bytes are code and which are comments
//! or strings, which code is only for tests, and what paths are written in it.
//!
//! Offsets never change: what does not count is replaced by spaces, so a place in
//! the result is the same place in the file.

use std::fs;
use std::path::Path;

/// A file of the repository.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its path below the root, with `/`.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
    /// Without comments and the contents of strings.
    pub(crate) code: String,
    /// The code without what is compiled for tests only.
    pub(crate) library: String,
}

impl Source {
    /// The file at `path`, with these contents.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = code_of(text);
        let for_tests = path
            .split('/')
            .any(|part| part == "tests" || part == "tests.rs");
        let library = match for_tests {
            true => blank(&code, 0, code.len()),
            false => without_tests(&code),
        };
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
            library,
        }
    }

    /// `path:line`, for a message.
    pub(crate) fn at(&self, offset: usize) -> String {
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        format!("{}:{line}", self.path)
    }

    /// The path of the module that the file is: `["wal", "log"]`.
    pub(crate) fn module(&self) -> Vec<&str> {
        let inside = self.path.strip_prefix("src/").unwrap_or_default();
        match inside.strip_suffix(".rs") {
            Some("lib") | None => Vec::new(),
            Some(path) => path.split('/').collect(),
        }
    }
}

/// The files below a folder whose names end so; none where there is no folder.
pub(crate) fn files(root: &Path, folder: &str, suffix: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(root.join(folder)) else {
        return found;
    };
    for entry in entries {
        let entry = entry.expect("listing the sources");
        let name = entry.file_name().into_string().expect("a name in UTF-8");
        let path = format!("{folder}/{name}");
        if entry.file_type().expect("the type of a source").is_dir() {
            found.extend(files(root, &path, suffix));
        } else if name.ends_with(suffix) {
            let text = fs::read_to_string(entry.path()).expect("reading a source");
            found.push(Source::new(&path, &text));
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn blank(text: &str, from: usize, to: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for byte in &mut bytes[from..to] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
    String::from_utf8(bytes).expect("whole characters were replaced")
}

/// The text with comments and the contents of strings and characters blanked.
pub(crate) fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = match rest {
            [b'/', b'/', ..] => at + position(rest, b"\n").unwrap_or(rest.len()),
            [b'/', b'*', ..] => at + block_comment(rest),
            [b'"', ..] => at + quoted(rest, b'"'),
            [b'\'', ..] => at + character(rest),
            [b'r', b'"' | b'#', ..] if !after_word(bytes, at) => at + raw_string(rest),
            _ => at,
        };
        if end == at {
            at += 1;
            continue;
        }
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(out).expect("whole characters were replaced")
}

/// Whether what is at `at` belongs to a longer word. The `b` of `br""` does not count.
fn after_word(bytes: &[u8], at: usize) -> bool {
    match bytes.get(at.wrapping_sub(1)) {
        Some(b'b' | b'c') => at > 1 && is_word(bytes[at - 2]),
        Some(&byte) => is_word(byte),
        None => false,
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

fn position(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|part| part == needle)
}

fn block_comment(bytes: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(bytes: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < bytes.len() && bytes[at] != quote {
        at += 1 + usize::from(bytes[at] == b'\\');
    }
    (at + 1).min(bytes.len())
}

/// The length of a character literal; 0 for a lifetime.
fn character(bytes: &[u8]) -> usize {
    match bytes {
        [_, b'\\', ..] => quoted(bytes, b'\''),
        [_, first, ..] => {
            let len = match first {
                0xF0.. => 4,
                0xE0.. => 3,
                0xC0.. => 2,
                _ => 1,
            };
            let closed = bytes.get(1 + len) == Some(&b'\'');
            if closed { len + 2 } else { 0 }
        }
        _ => 0,
    }
}

/// The length of a raw string; 0 for a raw identifier.
fn raw_string(bytes: &[u8]) -> usize {
    let hashes = bytes[1..].iter().take_while(|&&byte| byte == b'#').count();
    if bytes.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let start = hashes + 2;
    let end = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    position(&bytes[start..], &end).map_or(bytes.len(), |found| start + found + end.len())
}

/// The code without the items that are compiled for tests only.
pub(crate) fn without_tests(code: &str) -> String {
    let mut code = code.to_owned();
    while let Some(from) = code.find("#[cfg(test)]") {
        let attribute = from + "#[cfg(test)]".len();
        let to = item_end(code.as_bytes(), attribute);
        code = blank(&code, from, to);
    }
    code
}

/// Where an item ends: behind its block, or at its semicolon.
fn item_end(bytes: &[u8], from: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in bytes.iter().enumerate().skip(from) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    bytes.len()
}

/// Where `needle` stands as whole words: `fs` is not in `offs`, `a::b` not in `a::bc`.
pub(crate) fn words(code: &str, needle: &str) -> Vec<usize> {
    let bytes = code.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_none_or(|&byte| !is_word(byte));
    let starts_with_word = needle.bytes().next().is_some_and(is_word);
    let ends_with_word = needle.bytes().last().is_some_and(is_word);
    let whole = |at: usize| {
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        (!starts_with_word || edge(before))
            && (!ends_with_word || edge(bytes.get(at + needle.len())))
    };
    let places = code.match_indices(needle).map(|(at, _)| at);
    places.filter(|&at| whole(at)).collect()
}

/// The names that stand behind `prefix` (a path that ends with `::`), one or those
/// of a group: `std::` gives `fs` for `std::fs::File` and for `use std::{fs, io}`.
pub(crate) fn names_behind<'c>(code: &'c str, prefix: &str) -> Vec<(usize, &'c str)> {
    let mut names = Vec::new();
    for at in words(code, prefix) {
        names.extend(names_at(code, at + prefix.len()));
    }
    names
}

fn names_at(code: &str, at: usize) -> Vec<(usize, &str)> {
    let rest = &code[at..];
    if !rest.starts_with('{') {
        return vec![(at, first_name(rest))];
    }
    let mut names = Vec::new();
    let (mut depth, mut expected) = (0_usize, false);
    for (offset, byte) in rest.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        match byte {
            b'{' | b',' if depth == 1 => expected = true,
            _ if expected && !byte.is_ascii_whitespace() && byte != b'}' => {
                names.push((at + offset, first_name(&rest[offset..])));
                expected = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

fn first_name(text: &str) -> &str {
    let end = text.bytes().position(|byte| !is_word(byte));
    match &text[..end.unwrap_or(text.len())] {
        "" => &text[..text.len().min(1)],
        name => name,
    }
}

/// The top-level modules that a file names, by `crate::` or by enough `super::`.
pub(crate) fn modules_named(source: &Source) -> Vec<(usize, &str)> {
    let code = &source.code;
    let mut named = names_behind(code, "crate::");
    // What a macro calls for its user is a name of the facade, and imports nothing.
    named.retain(|(at, _)| !code[..*at].ends_with("$crate::"));
    for at in words(code, "super::") {
        // Only the first of a chain.
        if code[..at].ends_with("super::") {
            continue;
        }
        let supers = code.as_bytes()[at..]
            .chunks(7)
            .take_while(|part| *part == b"super::");
        let supers = supers.count();
        if supers >= source.module().len() + inline_depth(code, at) {
            named.extend(names_at(code, at + supers * 7));
        }
    }
    named
}

/// How many inline modules a place is in.
fn inline_depth(code: &str, at: usize) -> usize {
    let opens_module = |brace: usize| {
        let mut before = code[..brace].split_whitespace().rev();
        before.next().is_some() && before.next() == Some("mod")
    };
    let mut open = Vec::new();
    for (offset, byte) in code.bytes().enumerate().take(at) {
        match byte {
            b'{' => open.push(opens_module(offset)),
            b'}' => drop(open.pop()),
            _ => {}
        }
    }
    open.into_iter().filter(|&is_module| is_module).count()
}

/// A way from a module back to itself, if there is one.
pub(crate) fn circle<'m>(edges: &[(&'m str, &'m str)]) -> Option<Vec<&'m str>> {
    let mut nodes: Vec<_> = edges.iter().flat_map(|&(from, to)| [from, to]).collect();
    nodes.sort_unstable();
    nodes.dedup();
    // What nobody imports is in no circle; nor is what only such a module imports.
    while let Some(free) = nodes.iter().position(|node| {
        let imported = |&&(from, to): &&(&str, &str)| to == *node && nodes.contains(&from);
        edges.iter().find(imported).is_none()
    }) {
        nodes.remove(free);
    }
    let mut way = vec![*nodes.first()?];
    loop {
        // Each node that is left is imported by another one that is left.
        let here = *way.last()?;
        let above = |&&(from, to): &&(&str, &str)| to == here && nodes.contains(&from);
        let &(from, _) = edges.iter().find(above)?;
        if let Some(start) = way.iter().position(|&seen| seen == from) {
            way.drain(..start);
            way.reverse();
            return Some(way);
        }
        way.push(from);
    }
}
