//! A crate's module tree, parsed with `syn`: the paths that each module names, its tokens, functions and types.

mod content;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::visit::Visit;
use syn::{Attribute, Item, ItemMod};

use content::Content;

/// The repository's root.
pub(crate) fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The crates of this repository, by their directories.
pub(crate) const CRATES: [&str; 4] = ["common", "daemon", "driver", "proto"];

/// A module's path below the crate, without `crate`; the crate's root is empty.
pub(crate) type ModulePath = Vec<String>;

/// The modules of a crate without its `#[cfg(test)]` ones.
#[derive(Default)]
pub(crate) struct Modules {
    modules: BTreeMap<ModulePath, Module>,
}

/// One module, without what exists in tests only.
#[derive(Default)]
pub(crate) struct Module {
    /// The absolute paths that it names.
    paths: BTreeSet<Vec<String>>,
    /// Its tokens, flattened, without doc comments. An inline module's belong to its file's module.
    pub(crate) tokens: Vec<String>,
    pub(crate) functions: Vec<Function>,
    /// The types that are visible outside of it.
    pub(crate) types: Vec<String>,
    /// The number of lines of its file, tests included; zero for an inline module.
    pub(crate) lines: usize,
}

/// A function or method.
pub(crate) struct Function {
    pub(crate) name: String,
    /// From the signature to the closing brace.
    pub(crate) lines: usize,
    /// Its parameters but for `self`.
    pub(crate) parameters: usize,
}

impl Modules {
    /// The modules of the library in `directory`, one of [`CRATES`]; parsed once for all tests.
    pub(crate) fn of_crate(directory: &str) -> &'static Self {
        static PARSED: [OnceLock<Modules>; CRATES.len()] =
            [const { OnceLock::new() }; CRATES.len()];
        let index = CRATES.iter().position(|known| *known == directory).unwrap();
        PARSED[index].get_or_init(|| {
            let root = repository().join(directory).join("src/lib.rs");
            Self::parse(&root, &|file| std::fs::read_to_string(file).ok())
        })
    }

    /// Reads the crate whose root is `root`. `read` returns the source of a file, or `None`.
    ///
    /// # Panics
    /// If a file does not parse or a declared module has no file: a test must not pass over it.
    pub(crate) fn parse(root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Self {
        let mut modules = Self::default();
        let source = read(root).unwrap_or_else(|| panic!("{} is missing", root.display()));
        modules.add_file(&Vec::new(), &source, root.parent().unwrap(), read);
        modules
    }

    /// Every module, in order.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&ModulePath, &Module)> {
        self.modules.iter()
    }

    /// The modules that `module` names: of each path, the longest prefix that is a module.
    pub(crate) fn named_by(&self, module: &Module) -> BTreeSet<ModulePath> {
        let prefixes = |path: &Vec<String>| {
            (1..=path.len())
                .rev()
                .map(|len| path[..len].to_vec())
                .find(|prefix| self.modules.contains_key(prefix))
        };
        module.paths.iter().filter_map(prefixes).collect()
    }

    fn add_file(
        &mut self,
        path: &ModulePath,
        source: &str,
        directory: &Path,
        read: &dyn Fn(&Path) -> Option<String>,
    ) {
        let parsed =
            syn::parse_file(source).unwrap_or_else(|error| panic!("{}: {error}", path.join("::")));
        self.add_items(path.clone(), &parsed.items, directory, read);
        let module = self.modules.get_mut(path).unwrap();
        flatten(source.parse().unwrap(), &mut module.tokens);
        module.lines = source.lines().count();
    }

    fn add_items(
        &mut self,
        path: ModulePath,
        items: &[Item],
        directory: &Path,
        read: &dyn Fn(&Path) -> Option<String>,
    ) {
        let mut content = Content::new(path.clone());
        for item in items.iter().filter(|item| !is_test(attributes(item))) {
            match item {
                Item::Mod(module) => self.add_child(&path, module, directory, read),
                item => content.visit_item(item),
            }
        }
        self.modules.insert(path, content.module);
    }

    fn add_child(
        &mut self,
        parent: &ModulePath,
        module: &ItemMod,
        directory: &Path,
        read: &dyn Fn(&Path) -> Option<String>,
    ) {
        let name = module.ident.to_string();
        let path: ModulePath = parent.iter().cloned().chain([name.clone()]).collect();
        let own = directory.join(&name);
        if let Some((_, items)) = &module.content {
            return self.add_items(path, items, &own, read);
        }
        let files = [directory.join(format!("{name}.rs")), own.join("mod.rs")];
        let source = files.iter().find_map(|file| read(file));
        let source = source.unwrap_or_else(|| panic!("no file for module {}", path.join("::")));
        self.add_file(&path, &source, &own, read);
    }
}

/// Appends `tokens` without doc comments and without what is `#[cfg(test)]`.
fn flatten(tokens: TokenStream, into: &mut Vec<String>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        if let (TokenTree::Punct(hash), Some(TokenTree::Group(attribute))) = (&token, tokens.peek())
            && hash.as_char() == '#'
            && attribute.delimiter() == Delimiter::Bracket
        {
            let text = attribute.stream().to_string().replace(' ', "");
            if text == "cfg(test)" {
                // The item ends with its braces or its semicolon.
                tokens.find(|token| match token {
                    TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                    TokenTree::Punct(punct) => punct.as_char() == ';',
                    _ => false,
                });
                continue;
            }
            if text.starts_with("doc=") {
                tokens.next();
                continue;
            }
        }
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                into.push(open.into());
                flatten(group.stream(), into);
                into.push(close.into());
            }
            // An inner doc comment: `#![doc = "…"]`.
            TokenTree::Punct(punct) if punct.as_char() == '#' && is_inner_doc(&mut tokens) => {
                tokens.nth(1);
            }
            token => into.push(token.to_string()),
        }
    }
}

fn is_inner_doc(tokens: &mut (impl Iterator<Item = TokenTree> + Clone)) -> bool {
    let mut ahead = tokens.clone();
    let bang = ahead.next().is_some_and(|token| token.to_string() == "!");
    bang && ahead
        .next()
        .is_some_and(|token| token.to_string().replace(' ', "").starts_with("[doc="))
}

impl Module {
    /// Whether its tokens contain those of `code`, in order and next to each other.
    pub(crate) fn has(&self, code: &str) -> bool {
        let mut sought = Vec::new();
        flatten(code.parse().unwrap(), &mut sought);
        self.tokens.windows(sought.len()).any(|window| window == sought)
    }

    /// Whether one of its string literals contains `text`.
    pub(crate) fn has_text(&self, text: &str) -> bool {
        self.tokens.iter().any(|token| token.contains('"') && token.contains(text))
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Mod(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Const(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether an item exists in tests only.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string() == "test")
    })
}
