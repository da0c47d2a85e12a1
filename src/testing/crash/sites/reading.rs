//! Owns reading the sources: which files belong to the library, and which calls in
//! them look like those of a disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, Item, Meta, Token};

use super::{CHANGES, MACHINE_CONSTRUCTORS, MACHINE_FUNCTIONS, MACHINE_METHODS, Site, Source};

/// The files of a library by their paths below `src`.
pub(super) type Files = BTreeMap<PathBuf, syn::File>;

/// Reads `lib.rs` and every module that it has, but for those in `not_read`.
pub(super) fn files(source: &Source<'_>, not_read: &[&str]) -> Result<Files, String> {
    let mut files = Files::new();
    let mut wanted = vec![(PathBuf::from("lib.rs"), PathBuf::new())];
    while let Some((file, folder)) = wanted.pop() {
        let text = source(&file)?;
        let parsed = syn::parse_file(&text).map_err(|e| {
            let line = e.span().start().line;
            format!("the source {}:{line} cannot be read: {e}", file.display())
        })?;
        modules(&parsed.items, &folder, source, &mut wanted)?;
        files.insert(file, parsed);
        wanted.retain(|(file, _)| !not_read.iter().any(|path| file == Path::new(path)));
    }
    Ok(files)
}

/// The files of the modules that are declared here, each with the folder of its own
/// modules.
fn modules(
    items: &[Item],
    folder: &Path,
    source: &Source<'_>,
    wanted: &mut Vec<(PathBuf, PathBuf)>,
) -> Result<(), String> {
    for item in items {
        let Item::Mod(module) = item else { continue };
        if !is_compiled(&module.attrs) {
            continue;
        }
        let below = folder.join(module.ident.to_string());
        match &module.content {
            Some((_, items)) => modules(items, &below, source, wanted)?,
            None if module.attrs.iter().any(|attr| attr.path().is_ident("path")) => {
                let name = below.display();
                return Err(format!(
                    "the module {name} has a path attribute: not followed"
                ));
            }
            None => {
                let (flat, deep) = (below.with_extension("rs"), below.join("mod.rs"));
                let file = if source(&flat).is_ok() { flat } else { deep };
                wanted.push((file, below));
            }
        }
    }
    Ok(())
}

/// False for what is there only in tests or with the feature `testing`.
fn is_compiled(attributes: &[Attribute]) -> bool {
    let conditions = attributes.iter().filter(|attr| attr.path().is_ident("cfg"));
    let mut met = conditions.map(|attr| attr.parse_args::<Meta>().ok().and_then(|c| holds(&c)));
    !met.any(|met| met == Some(false))
}

/// Whether a condition holds in a library that is not tested; `None` if that depends.
fn holds(condition: &Meta) -> Option<bool> {
    match condition {
        Meta::Path(path) => path.is_ident("test").then_some(false),
        Meta::NameValue(pair) => {
            let Expr::Lit(value) = &pair.value else {
                return None;
            };
            let syn::Lit::Str(value) = &value.lit else {
                return None;
            };
            (pair.path.is_ident("feature") && value.value() == "testing").then_some(false)
        }
        Meta::List(list) => {
            let parts = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
            let parts: Vec<_> = parts.ok()?.iter().map(holds).collect();
            let all = |known| parts.iter().all(|part| *part == Some(known));
            let any = |known| parts.contains(&Some(known));
            match list.path.get_ident()?.to_string().as_str() {
                "not" => parts.first().copied().flatten().map(|holds| !holds),
                "any" if any(true) => Some(true),
                "any" if all(false) => Some(false),
                "all" if any(false) => Some(false),
                "all" if all(true) => Some(true),
                _ => None,
            }
        }
    }
}

/// The functions of a file that make calls of a disk.
pub(super) fn functions_with_calls(files: &Files, file: &str) -> BTreeSet<String> {
    let parsed = files.get(Path::new(file));
    let calls = parsed.map(|parsed| calls(Path::new(file), parsed, &BTreeSet::new()));
    let calls = calls.unwrap_or_default();
    calls.into_iter().map(|site| site.function).collect()
}

/// The calls in one file, in the order of the text.
pub(super) fn calls(file: &Path, parsed: &syn::File, helpers: &BTreeSet<String>) -> Vec<Site> {
    let mut reader = Reader {
        file: Path::new("src").join(file),
        helpers,
        holder: Vec::new(),
        functions: Vec::new(),
        found: Vec::new(),
    };
    reader.visit_file(parsed);
    reader
        .found
        .sort_by_key(|site| (site.line, site.first_line));
    reader.found
}

struct Reader<'a> {
    file: PathBuf,
    helpers: &'a BTreeSet<String>,
    /// The types or traits whose functions are being read.
    holder: Vec<String>,
    functions: Vec<String>,
    found: Vec<Site>,
}

impl Reader<'_> {
    fn note(&mut self, begin: Span, name: &proc_macro2::Ident) {
        let line = |place: proc_macro2::LineColumn| u32::try_from(place.line).unwrap_or(u32::MAX);
        self.found.push(Site {
            file: self.file.clone(),
            first_line: line(begin.start()),
            line: line(name.span().end()),
            function: self.functions.last().cloned().unwrap_or_default(),
            call: name.to_string(),
            exemption: None,
        });
    }

    fn inside(&mut self, name: &syn::Ident, read: impl FnOnce(&mut Self)) {
        let name = match self.holder.last() {
            Some(holder) if !holder.is_empty() => format!("{holder}::{name}"),
            _ => name.to_string(),
        };
        self.functions.push(name);
        // A function in a method belongs to nobody.
        self.holder.push(String::new());
        read(self);
        self.holder.pop();
        self.functions.pop();
    }

    /// True for a path that stands for a function that changes a disk, called with so
    /// many arguments, or not called at all. Many types have an `open`, so that one
    /// counts only where it is said to be the trait's.
    fn is_change(&self, path: &syn::ExprPath, arguments: Option<usize>) -> bool {
        let (path, of_self) = (&path.path, path.qself.is_some());
        let names: Vec<_> = path.segments.iter().rev().take(2).collect();
        let Some(last) = names.first().map(|segment| segment.ident.to_string()) else {
            return false;
        };
        let before = names.get(1).map(|segment| segment.ident.to_string());
        let before = before.as_deref();
        let of_trait = of_self || matches!(before, Some("Vfs" | "VfsFile"));
        let takes_self = |&(name, count): &(&str, usize)| {
            let owned = of_trait || name != "open" && before.is_some();
            name == last && owned && arguments.is_none_or(|given| given == count + 1)
        };
        let is = |&(holder, name): &(&str, &str)| before == Some(holder) && name == last;
        self.helpers.contains(&last)
            || CHANGES.iter().any(takes_self) && (arguments.is_some() || of_trait)
            || before == Some("fs") && MACHINE_FUNCTIONS.contains(&last.as_str())
            || MACHINE_CONSTRUCTORS.iter().any(is)
            || MACHINE_METHODS.contains(&last.as_str()) && before.is_some()
    }

    /// Macros are not parsed: every name behind a dot, or in front of arguments, counts.
    fn read_tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        for (at, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Group(group) => self.read_tokens(group.stream()),
                TokenTree::Ident(name) => {
                    let text = name.to_string();
                    let called = matches!(
                        tokens.get(at + 1),
                        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis
                    );
                    let dotted = at > 0
                        && matches!(&tokens[at - 1], TokenTree::Punct(dot) if dot.as_char() == '.');
                    let arguments = match tokens.get(at + 1) {
                        Some(TokenTree::Group(group)) => count(group.stream()),
                        _ => 0,
                    };
                    let change = CHANGES
                        .iter()
                        .any(|&(name, count)| name == text && count == arguments);
                    let method = change || MACHINE_METHODS.contains(&text.as_str());
                    if called && (dotted && method || self.helpers.contains(&text)) {
                        self.note(name.span(), name);
                    }
                }
                _ => {}
            }
        }
    }
}

/// How many arguments there are between parentheses.
fn count(arguments: TokenStream) -> usize {
    let (mut count, mut open) = (0, false);
    for token in arguments {
        match token {
            TokenTree::Punct(comma) if comma.as_char() == ',' => open = false,
            _ if !open => (count, open) = (count + 1, true),
            _ => {}
        }
    }
    count
}

/// True for `OpenMode::Read` and `OpenMode::Write`: what is there is opened.
fn opens_what_is_there(mode: Option<&Expr>) -> bool {
    let Some(Expr::Path(mode)) = mode else {
        return false;
    };
    let mut names = mode.path.segments.iter().rev().map(|s| s.ident.to_string());
    let last = names.next().unwrap_or_default();
    names.next().as_deref() == Some("OpenMode") && (last == "Read" || last == "Write")
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes: &[Attribute] = match item {
            Item::Const(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Macro(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Static(item) => &item.attrs,
            Item::Trait(item) => &item.attrs,
            _ => &[],
        };
        if is_compiled(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.inside(&item.sig.ident, |reader| visit::visit_item_fn(reader, item));
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let name = match &*item.self_ty {
            syn::Type::Path(path) => path.path.segments.last(),
            _ => None,
        };
        let name = name.map(|segment| segment.ident.to_string());
        self.holder.push(name.unwrap_or_default());
        visit::visit_item_impl(self, item);
        self.holder.pop();
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.holder.push(item.ident.to_string());
        visit::visit_item_trait(self, item);
        self.holder.pop();
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if is_compiled(&item.attrs) {
            self.inside(&item.sig.ident, |reader| {
                visit::visit_impl_item_fn(reader, item);
            });
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.inside(&item.sig.ident, |reader| {
            visit::visit_trait_item_fn(reader, item);
        });
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let name = call.method.to_string();
        let takes = |&(method, count): &(&str, usize)| method == name && count == call.args.len();
        let change =
            CHANGES.iter().any(takes) && !(name == "open" && opens_what_is_there(call.args.get(1)));
        if change || MACHINE_METHODS.contains(&name.as_str()) {
            self.note(call.span(), &call.method);
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        let Expr::Path(function) = &*call.func else {
            return visit::visit_expr_call(self, call);
        };
        let opens = function
            .path
            .segments
            .last()
            .is_some_and(|s| s.ident == "open");
        let there = opens && opens_what_is_there(call.args.get(2));
        if self.is_change(function, Some(call.args.len()))
            && !there
            && let Some(last) = function.path.segments.last()
        {
            self.note(call.span(), &last.ident);
        }
        for argument in &call.args {
            self.visit_expr(argument);
        }
    }

    fn visit_expr_path(&mut self, path: &'ast syn::ExprPath) {
        if self.is_change(path, None)
            && let Some(last) = path.path.segments.last()
        {
            self.note(path.span(), &last.ident);
        }
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.read_tokens(call.tokens.clone());
    }
}
