//! A crate's module tree, parsed with `syn`: the paths that each module names, its tokens, functions and types.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, Macro, UseTree};

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
        let mut content = Content {
            path: path.clone(),
            depth: 0,
            owner: String::new(),
            module: Module::default(),
        };
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

/// Collects what a module's items name and are.
struct Content {
    path: ModulePath,
    /// How many inline modules deep the visitor is.
    depth: usize,
    /// The type whose implementation the visitor is in.
    owner: String,
    module: Module,
}

impl Content {
    fn note(&mut self, segments: &[String]) {
        let mut base = self.path.clone();
        let rest = match segments.first().map(String::as_str) {
            Some("crate") => {
                base.clear();
                &segments[1..]
            }
            Some("self") => &segments[1..],
            Some("super") => {
                let ups = segments.iter().take_while(|segment| *segment == "super").count();
                let Some(left) = (base.len() + self.depth).checked_sub(ups) else { return };
                base.truncate(left);
                &segments[ups..]
            }
            // A child module by its own name, or something of another crate: only the former resolves.
            Some(_) => segments,
            None => return,
        };
        base.extend(rest.iter().cloned());
        self.module.paths.insert(base);
    }

    fn note_function(&mut self, signature: &syn::Signature, body: Option<&syn::Block>) {
        let first = signature.fn_token.span.start().line;
        let last = body.map_or(first, |body| body.brace_token.span.close().end().line);
        let is_parameter = |input: &&syn::FnArg| matches!(input, syn::FnArg::Typed(_));
        self.module.functions.push(Function {
            name: format!("{}{}", self.owner, signature.ident),
            lines: last - first + 1,
            parameters: signature.inputs.iter().filter(is_parameter).count(),
        });
    }

    fn note_type(&mut self, visibility: &syn::Visibility, name: &syn::Ident) {
        if !matches!(visibility, syn::Visibility::Inherited) {
            self.module.types.push(name.to_string());
        }
    }

    fn note_use(&mut self, tree: &UseTree, before: &mut Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.note_use(&path.tree, before);
                before.pop();
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.note_use(tree, before));
            }
            UseTree::Name(name) => self.note_leaf(before, Some(name.ident.to_string())),
            UseTree::Rename(rename) => self.note_leaf(before, Some(rename.ident.to_string())),
            UseTree::Glob(_) => self.note_leaf(before, None),
        }
    }

    fn note_leaf(&mut self, before: &[String], leaf: Option<String>) {
        let leaf = leaf.filter(|leaf| leaf != "self");
        let segments: Vec<String> = before.iter().cloned().chain(leaf).collect();
        self.note(&segments);
    }

    /// A macro's arguments are tokens: `crate::a::b` is looked for in them.
    fn note_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if path.is_empty() || colons == 2 => {
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => {
                    colons += 1;
                }
                other => {
                    self.end_of_tokens(&mut path);
                    colons = 0;
                    match other {
                        TokenTree::Group(group) => self.note_tokens(group.stream()),
                        TokenTree::Ident(ident) => path.push(ident.to_string()),
                        _ => {}
                    }
                }
            }
        }
        self.end_of_tokens(&mut path);
    }

    fn end_of_tokens(&mut self, path: &mut Vec<String>) {
        if path.len() > 1 {
            self.note(path);
        }
        path.clear();
    }
}

impl<'ast> Visit<'ast> for Content {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.note_use(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> =
            path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.note(&segments);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.note_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if !is_test(&module.attrs) {
            self.depth += 1;
            visit::visit_item_mod(self, module);
            self.depth -= 1;
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            self.note_function(&item.sig, Some(&item.block));
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            self.note_function(&item.sig, Some(&item.block));
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.note_function(&item.sig, item.default.as_ref());
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let syn::Type::Path(of) = &*item.self_ty
            && let Some(last) = of.path.segments.last()
        {
            self.owner = format!("{}::", last.ident);
        }
        visit::visit_item_impl(self, item);
        self.owner.clear();
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.note_type(&item.vis, &item.ident);
        self.owner = format!("{}::", item.ident);
        visit::visit_item_trait(self, item);
        self.owner.clear();
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.note_type(&item.vis, &item.ident);
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.note_type(&item.vis, &item.ident);
        visit::visit_item_enum(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.note_type(&item.vis, &item.ident);
        visit::visit_item_type(self, item);
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
