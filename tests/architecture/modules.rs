//! A crate's module tree and the paths that each module names, parsed with `syn`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, Macro, UseTree};

/// The repository's root.
pub(crate) fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A module's path below the crate, without `crate`; the crate's root is empty.
pub(crate) type ModulePath = Vec<String>;

/// The modules of a crate without its `#[cfg(test)]` ones, each with the modules that it names.
#[derive(Default)]
pub(crate) struct Modules {
    /// Each module and the absolute paths that it names.
    paths: BTreeMap<ModulePath, BTreeSet<Vec<String>>>,
}

impl Modules {
    /// Reads the crate whose root is `root`. `read` returns the source of a file, or `None`.
    ///
    /// # Panics
    /// If a file does not parse or a declared module has no file: a test must not pass over it.
    pub(crate) fn parse(root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Self {
        let mut modules = Self::default();
        let source = read(root).unwrap_or_else(|| panic!("{} is missing", root.display()));
        let file = syn::parse_file(&source).unwrap();
        modules.add(Vec::new(), &file.items, root.parent().unwrap(), read);
        modules
    }

    /// The modules of the library in `directory` of this repository.
    pub(crate) fn of_crate(directory: &str) -> Self {
        let root = repository().join(directory).join("src/lib.rs");
        Self::parse(&root, &|file| std::fs::read_to_string(file).ok())
    }

    /// Every module, in order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &ModulePath> {
        self.paths.keys()
    }

    /// The modules that `module` names: of each path, the longest prefix that is a module.
    pub(crate) fn named_by(&self, module: &[String]) -> BTreeSet<ModulePath> {
        let is_module = |path: &&[String]| self.paths.contains_key(*path);
        let prefixes = |path: &Vec<String>| {
            (1..=path.len())
                .rev()
                .map(|len| path[..len].to_vec())
                .find(|prefix| is_module(&&prefix[..]))
        };
        self.paths[module].iter().filter_map(prefixes).collect()
    }

    fn add(
        &mut self,
        path: ModulePath,
        items: &[Item],
        directory: &Path,
        read: &dyn Fn(&Path) -> Option<String>,
    ) {
        let mut names = Names { module: path.clone(), depth: 0, found: BTreeSet::new() };
        for item in items.iter().filter(|item| !is_test(attributes(item))) {
            match item {
                Item::Mod(module) => self.add_child(&path, module, directory, read),
                item => names.visit_item(item),
            }
        }
        self.paths.insert(path, names.found);
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
            return self.add(path, items, &own, read);
        }
        let files = [directory.join(format!("{name}.rs")), own.join("mod.rs")];
        let source = files.iter().find_map(|file| read(file));
        let source = source.unwrap_or_else(|| panic!("no file for module {}", path.join("::")));
        self.add(path, &syn::parse_file(&source).unwrap().items, &own, read);
    }
}

/// Collects the paths below the crate that a module's items name.
struct Names {
    module: ModulePath,
    /// How many inline modules deep the visitor is.
    depth: usize,
    found: BTreeSet<Vec<String>>,
}

impl Names {
    fn note(&mut self, segments: &[String]) {
        let mut base = self.module.clone();
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
        self.found.insert(base);
    }

    fn note_use(&mut self, tree: &UseTree, before: &mut Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.note_use(&path.tree, before);
                before.pop();
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.note_use(tree, before))
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
                    colons += 1
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

impl<'ast> Visit<'ast> for Names {
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
            visit::visit_item_fn(self, item);
        }
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
