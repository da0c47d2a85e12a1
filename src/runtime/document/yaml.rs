//! Owns documents in YAML 1.2: text to trees by the core schema, and trees to text. Tags,
//! directives, several documents in a text, keys that are no scalars and the same key
//! twice are refused; aliases stand for copies, which count as nodes. Imports `tree`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use granit_parser::{Event, Parser, ScalarStyle, Span};

use super::tree::{Budget, Content, Entry, Tree, Unreadable, Weight, check_depth, check_size};
use crate::value::Value;

/// How long a key may be, with its quotes and escapes. YAML says 1,024, of which ids may
/// need more.
const KEY_CHARS_MAX: usize = 64 * 1024;

/// Reads a document.
///
/// # Errors
/// The first thing that is not YAML, or that is refused, with its line.
pub(crate) fn read(text: &str) -> Result<Tree, Unreadable> {
    check_size(text)?;
    let mut options = granit_parser::options! {
        disallow_directives: true,
        flow_nesting_limit: super::tree::DEPTH_MAX + 1,
        block_nesting_limit: super::tree::DEPTH_MAX + 1,
        simple_key_max_lookahead: KEY_CHARS_MAX,
    };
    options.set_emit_comments(false);
    let mut loader = Loader::new();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|e| Unreadable::new(line_of(*e.marker()), e.info()))?;
        loader.take(event, &span)?;
    }
    let root = loader.root;
    root.ok_or_else(|| Unreadable::new(None, "the document is empty"))
}

fn line_of(marker: granit_parser::Marker) -> u64 {
    marker.line() as u64
}

/// A list or map that is being read.
struct Open {
    line: Option<u64>,
    anchor: usize,
    items: Items,
}

enum Items {
    List(Vec<Tree>),
    Map {
        entries: Vec<Entry>,
        keys: BTreeSet<String>,
        /// The key whose value comes next.
        key: Option<(String, Option<u64>)>,
    },
}

struct Loader {
    open: Vec<Open>,
    root: Option<Tree>,
    anchors: BTreeMap<usize, Tree>,
    budget: Budget,
}

impl Loader {
    fn new() -> Self {
        Self {
            open: Vec::new(),
            root: None,
            anchors: BTreeMap::new(),
            budget: Budget::new(),
        }
    }

    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Unreadable> {
        let line = Some(line_of(span.start));
        let tagged = event.tag().is_some();
        if tagged {
            return Err(Unreadable::new(
                line,
                "tags are not taken; write the value as it is",
            ));
        }
        match event {
            Event::Scalar(text, style, anchor, _) => {
                if let Some(Open {
                    items:
                        Items::Map {
                            keys,
                            key: key @ None,
                            ..
                        },
                    ..
                }) = self.open.last_mut()
                {
                    if !keys.insert(text.to_string()) {
                        let reason = format!("the key {text:?} is there twice");
                        return Err(Unreadable::new(line, reason));
                    }
                    self.budget.take(Weight::of(&text), line)?;
                    if anchor != 0 {
                        self.anchors.insert(anchor, Tree::scalar(&*text));
                    }
                    *key = Some((text.into_owned(), line));
                    return Ok(());
                }
                let value = match style {
                    ScalarStyle::Plain => plain(&text, line)?,
                    _ => Value::String(text.into_owned()),
                };
                let content = Content::Scalar(value);
                self.add(Tree { line, content }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(line, anchor, Items::List(Vec::new())),
            Event::MappingStart(_, anchor, _) => {
                let items = Items::Map {
                    entries: Vec::new(),
                    keys: BTreeSet::new(),
                    key: None,
                };
                self.begin(line, anchor, items)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open {
                    line,
                    anchor,
                    items,
                }) = self.open.pop()
                else {
                    return Ok(());
                };
                let content = match items {
                    Items::List(items) => Content::List(items),
                    Items::Map { entries, .. } => Content::Map(entries),
                };
                self.add(Tree { line, content }, anchor)
            }
            Event::Alias(anchor) => {
                let found = self.anchors.get(&anchor);
                let found = found.ok_or_else(|| {
                    Unreadable::new(line, "an alias stands inside of what it names")
                })?;
                self.budget.take(found.weight(), line)?;
                check_depth(self.open.len() + found.depth(), line)?;
                let copy = found.clone();
                match (self.open.last_mut(), copy.content) {
                    (
                        Some(Open {
                            items: Items::Map { key: None, .. },
                            ..
                        }),
                        _,
                    ) => Err(Unreadable::new(line, "an alias as a key is not taken")),
                    (_, content) => self.add(Tree { line, content }, 0),
                }
            }
            Event::DocumentStart(..) if self.root.is_some() => Err(Unreadable::new(
                line,
                "there is a second document; only one is taken",
            )),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, line: Option<u64>, anchor: usize, items: Items) -> Result<(), Unreadable> {
        if let Some(Open {
            items: Items::Map { key: None, .. },
            ..
        }) = self.open.last()
        {
            return Err(Unreadable::new(
                line,
                "a key is a list or a map; only text is taken",
            ));
        }
        self.open.push(Open {
            line,
            anchor,
            items,
        });
        check_depth(self.open.len(), line)
    }

    /// A node is complete.
    fn add(&mut self, tree: Tree, anchor: usize) -> Result<(), Unreadable> {
        if let Content::Scalar(Value::String(text)) = &tree.content {
            self.budget.take(Weight::of(text), tree.line)?;
        } else {
            self.budget.take(Weight::of(""), tree.line)?;
        }
        if anchor != 0 {
            self.budget.take(tree.weight(), tree.line)?;
            self.anchors.insert(anchor, tree.clone());
        }
        match self.open.last_mut().map(|open| &mut open.items) {
            None => self.root = Some(tree),
            Some(Items::List(items)) => items.push(tree),
            Some(Items::Map { entries, key, .. }) => {
                if let Some((key, line)) = key.take() {
                    entries.push(Entry {
                        key,
                        line,
                        value: tree,
                    });
                }
            }
        }
        Ok(())
    }
}

/// What a plain scalar is, by the core schema of YAML 1.2: so `yes` and `on` are text.
fn plain(text: &str, line: Option<u64>) -> Result<Value, Unreadable> {
    let value = match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Value::Float(f64::NEG_INFINITY),
        _ => match number(text) {
            Some(Ok(value)) => value,
            Some(Err(())) => {
                let reason = format!("{text} is beyond 64 bits; in quotes it is text");
                return Err(Unreadable::new(line, reason));
            }
            None => Value::from(text),
        },
    };
    Ok(value)
}

/// The number that a text is, if it is one; an integer that is too large is an error.
fn number(text: &str) -> Option<Result<Value, ()>> {
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            let all = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
            let value = u64::from_str_radix(digits, radix).map(Value::from);
            return all.then_some(value.map_err(drop));
        }
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if unsigned.is_empty() {
        return None;
    }
    if is_digits(unsigned) {
        let small = text.parse::<i64>().map(Value::from);
        let large = || text.trim_start_matches('+').parse::<u64>().map(Value::from);
        return Some(small.or_else(|_| large()).map_err(drop));
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let exponent = exponent.map(|text| text.strip_prefix(['-', '+']).unwrap_or(text));
    let whole = exponent.is_none_or(|text| !text.is_empty() && is_digits(text));
    let (before, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = !(before.is_empty() && behind.is_empty());
    let is_float = digits && whole && is_digits(before) && is_digits(behind);
    let float = is_float.then(|| text.parse::<f64>().ok()).flatten();
    float.map(|float| Ok(Value::Float(float)))
}

/// Writes a document: blocks of two spaces, and each scalar so that it is read as what it
/// was.
pub(crate) fn write(tree: &Tree) -> String {
    let mut out = String::new();
    match &tree.content {
        Content::Map(entries) if !entries.is_empty() => write_map(&mut out, entries, 0),
        Content::List(items) if !items.is_empty() => write_list(&mut out, items, 0),
        _ => write_inline(&mut out, tree),
    }
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

fn write_map(out: &mut String, entries: &[Entry], indent: usize) {
    for entry in entries {
        out.extend(std::iter::repeat_n(' ', indent));
        write_text(out, &entry.key);
        out.push(':');
        write_nested(out, &entry.value, indent);
    }
}

fn write_list(out: &mut String, items: &[Tree], indent: usize) {
    for item in items {
        out.extend(std::iter::repeat_n(' ', indent));
        out.push('-');
        write_nested(out, item, indent);
    }
}

/// What stands behind a key or a dash.
fn write_nested(out: &mut String, tree: &Tree, indent: usize) {
    match &tree.content {
        Content::Map(entries) if !entries.is_empty() => {
            out.push('\n');
            write_map(out, entries, indent + 2);
        }
        Content::List(items) if !items.is_empty() => {
            out.push('\n');
            write_list(out, items, indent + 2);
        }
        _ => {
            out.push(' ');
            write_inline(out, tree);
            out.push('\n');
        }
    }
}

fn write_inline(out: &mut String, tree: &Tree) {
    match &tree.content {
        Content::List(_) => out.push_str("[]"),
        Content::Map(_) => out.push_str("{}"),
        Content::Scalar(Value::String(text)) => write_text(out, text),
        Content::Scalar(Value::Float(float)) if float.is_nan() => out.push_str(".nan"),
        Content::Scalar(Value::Float(float)) if float.is_infinite() => {
            out.push_str(if *float > 0.0 { ".inf" } else { "-.inf" });
        }
        // With a dot or an exponent, so that it stays a float.
        Content::Scalar(Value::Float(float)) => {
            // Writing to a string cannot fail.
            let _ = write!(out, "{float:?}");
        }
        Content::Scalar(value) => {
            let _ = write!(out, "{value}");
        }
    }
}

/// Text: plain where it cannot be anything else, in quotes otherwise.
fn write_text(out: &mut String, text: &str) {
    let mut chars = text.chars();
    let first = chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    let rest = chars.all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
    // Words that other readers of YAML take for something else.
    let words = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let is_word = words.iter().any(|word| word.eq_ignore_ascii_case(text));
    if first && rest && !is_word && text.len() <= 128 {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            ' '..='~' | '\u{a1}'..='\u{ac}' | '\u{ae}'..='\u{2ff}' => out.push(c),
            c if c.is_alphanumeric() => out.push(c),
            c => {
                let _ = write!(out, "\\U{:08X}", u32::from(c));
            }
        }
    }
    out.push('"');
}
